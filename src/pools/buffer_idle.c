/* SPDX-License-Identifier: MIT */
/*
 * buffer_idle.c - pages of payload that no buffer in use lies in.
 *
 * A block of payload goes back to the system with its slab, when all of its
 * buffers rest.  What a server goes on using after a burst lies in some blocks, a
 * few buffers in each, and holds 2 MiB for their sake.  So of blocks that stay,
 * the pages all of whose buffers rest in the slab are given back one by one, in
 * passes of weir_maintain() and in trims.  They remain the block's, and charged;
 * whoever takes a buffer there again finds zeros.
 *
 *     slab       | out | rests | rests | rests | out |
 *     payload    |  *  |   -       -       -   |  *  |      -: given back
 *
 * A buffer rests in its slab, rather than in a magazine, because decay or a trim
 * put it there: nobody needed it for a while.  Hence no further proof is asked
 * for.  A slab is looked through when more of it rests than at the last look,
 * and once an epoch if buffers were taken from the depot meanwhile: some may
 * have been used and rest again.  Asking for what is gone already costs a call
 * and nothing else, so nothing remembers which pages those are.
 *
 * What was made ready at creation stays through weir_maintain(), as its slabs do,
 * so of a tier that has some no page is taken but in a trim.
 *
 * The same is done with pages of descriptors.  They are slots, and are made again
 * when one of their page is taken (slab/compact.c); until then they read as
 * zeros, which no held buffer does.
 *
 * Pages are given back under the depot's lock, one slab at a time: between the
 * look at the free bits and the end of the call nobody may take a buffer there.
 */
#include "pools/buffer.h"

#include "base/bits.h"
#include "pools/buffer_kernel.h"
#include "slab/shard.h"

/* Slabs passed over in search of one to look through, under the lock. */
#define IDLE_STEPS 1024

/* Slabs looked through in one pass, each a step of it; the next one goes on. */
#define IDLE_LOOKS 64

/* The first slot from @slot on that rests, or does not. */
static size_t
idle_next(const struct weiri_slab *slab, size_t slot, bool rests)
{
	while (slot < slab->carved) {
		uint64_t word = slab->free_bits[slot / 64];
		uint64_t left = (rests ? word : ~word) >> slot % 64;

		if (left != 0) {
			slot += (size_t)__builtin_ctzll(left);
			break;
		}
		slot = (slot / 64 + 1) * 64;
	}
	return weiri_min(slot, slab->carved);
}

/* Locked.  False: pages of this block cannot be given back. */
static bool
idle_void(const struct weiri_slab *slab)
{
	const struct weiri_payload *payload = slab->companion;
	size_t stride = payload->tier->stride;
	size_t end, first = 0;

	while ((first = idle_next(slab, first, true)) < slab->carved) {
		end = idle_next(slab, first, false);

		size_t from = weiri_round_up(first * stride, WEIRI_PAGE);
		/* What follows the last slot is nobody's. */
		size_t to = end == slab->slot_count
				? payload->span.bytes
				: end * stride / WEIRI_PAGE * WEIRI_PAGE;

		if (from < to &&
		    !weiri_span_void(&payload->span, from, to - from))
			return false;
		first = end;
	}
	return true;
}

/* Locked: has every slab looked through again. */
static void
idle_forget(const struct weiri_depot *depot)
{
	unsigned steps = IDLE_STEPS;

	WEIRI_LIST_FOR(node, &depot->partial)
	{
		const struct weiri_slab *slab =
		    WEIRI_CONTAINER_OF(node, struct weiri_slab, link);
		struct weiri_payload *payload = slab->companion;

		payload->void_free = 0;
		if (--steps == 0)
			return;
	}
}

/* Locked: looks through a slab of which more rests than at the last look; false
 * if there is none, or its pages have to stay. */
static bool
idle_step(const struct weiri_depot *depot, unsigned *steps)
{
	WEIRI_LIST_FOR(node, &depot->partial)
	{
		struct weiri_slab *slab =
		    WEIRI_CONTAINER_OF(node, struct weiri_slab, link);
		struct weiri_payload *payload = slab->companion;
		bool more = slab->free_count > payload->void_free;

		payload->void_free = slab->free_count;
		if (more) {
			weiri_slab_void(slab);
			return idle_void(slab);
		}
		if (--*steps == 0)
			return false;
	}
	return false;
}

/* A look at one slab; false: there is none to look through. */
static bool
idle_look(struct weiri_depot *depot, unsigned *steps)
{
	bool more;

	weiri_mutex_lock(&depot->lock);
	more = idle_step(depot, steps);
	weiri_mutex_unlock(&depot->lock);
	return more;
}

/* Locked: is a look at all slabs due? */
static bool
idle_is_due(struct weiri_buffer_tier *tier)
{
	const struct weiri_depot *depot = &tier->depot;
	uint64_t misses = weiri_depot_misses(depot);

	if (tier->idle_turn_ns == depot->clock.turn_ns ||
	    tier->idle_misses == misses)
		return false;
	tier->idle_turn_ns = depot->clock.turn_ns;
	tier->idle_misses = misses;
	return true;
}

/* False: its pages are kept. */
static bool
idle_begin(struct weiri_buffer_tier *tier)
{
	struct weiri_depot *depot = &tier->depot;
	bool kept;

	weiri_mutex_lock(&depot->lock);
	kept = depot->kept > 0;
	if (!kept && idle_is_due(tier))
		idle_forget(depot);
	weiri_mutex_unlock(&depot->lock);
	tier->idle_steps = IDLE_STEPS;
	return !kept;
}

bool
weiri_buffer_maintain(struct weiri_buffer_tier *tier, uint32_t step)
{
	if (step == 0)
		return idle_begin(tier);
	return idle_look(&tier->depot, &tier->idle_steps) && step < IDLE_LOOKS;
}

void
weiri_buffer_trim_pages(struct weiri_buffer_tier *tier)
{
	struct weiri_depot *depot = &tier->depot;
	unsigned steps = IDLE_STEPS;
	unsigned looks = IDLE_LOOKS;

	weiri_mutex_lock(&depot->lock);
	idle_forget(depot);
	weiri_mutex_unlock(&depot->lock);
	while (looks > 0 && idle_look(depot, &steps))
		looks--;
}

void
weiri_buffer_forget(const struct weir_buffer *buffer)
{
	const uint32_t foreign = WEIRI_BUFFER_EXTERNAL | WEIRI_BUFFER_GUARDED;
	const struct weiri_span *span;
	size_t from, to;

	if ((WEIRI_LOAD(&buffer->flags) & foreign) != 0)
		return;
	span = weiri_span_of(buffer->data);
	WEIR_ASSERT(span != NULL && span->kind == WEIRI_SPAN_PAYLOAD);
	from = (size_t)(buffer->data - (unsigned char *)span->base);
	to = (from + buffer->bytes) / WEIRI_PAGE * WEIRI_PAGE;
	from = weiri_round_up(from, WEIRI_PAGE);
	if (from < to)
		(void)weiri_span_void(span, from, to - from);
}

bool
weiri_buffer_is_stray(const struct weir_buffer *buffer)
{
	return (WEIRI_LOAD(&buffer->flags) & WEIRI_BUFFER_EXTERNAL) == 0 &&
	       weiri_depot_is_large(&weiri_buffer_tier(buffer)->depot);
}

void
weiri_buffer_gather(struct weir_buffer_pool *pool, uint32_t tier)
{
	weiri_depot_gather(&pool->tier[tier].depot);
}
