/* SPDX-License-Identifier: MIT */
/*
 * visit.c - a walk over the slots that are out.
 *
 * Nobody keeps a list of them; out is what was carved, does not rest in its
 * slab and lies in no magazine.  So each carved slot that does not rest is
 * marked in its state byte, the marks of those met in magazines are taken away,
 * and what is left is visited.  Nothing is allocated.
 *
 * The visitor may put back the slot it is given.  That moves slabs between the
 * depot's lists and may, when the last slot of one is back, end that slab.
 * Hence the slabs to visit are chained beforehand, and a slab is not touched
 * after its last marked slot was handed over: until then that slot keeps it.
 *
 *   V1  When the walk begins, the marked slots are those that are out.
 *   V2  A slab is in the chain exactly if a slot of it is marked.
 */
#include "slab/depot.h"

#include "base/bits.h"
#include "guard/guard.h"
#include "slab/shard.h"

/* Locked: every carved slot that does not rest.  A visitor that left by longjmp
 * may have left marks. */
static void
visit_mark(struct weiri_list *slabs)
{
	WEIRI_LIST_FOR(node, slabs)
	{
		struct weiri_slab *slab =
		    WEIRI_CONTAINER_OF(node, struct weiri_slab, link);

		for (size_t i = 0; i < slab->carved; i++) {
			slab->state[i] &= (uint8_t)~WEIRI_STATE_VISIT;
			if (!weiri_bit_test(slab->free_bits, i))
				slab->state[i] |= WEIRI_STATE_VISIT;
		}
	}
}

/* Locked: slots behind @bottom, up to @top, are not out.  What was freed
 * wrongly may be no slot at all: the depot finds that when it comes in. */
static void
visit_unmark(const struct weiri_depot *depot, const uintptr_t *bottom,
    const uintptr_t *top)
{
	for (const uintptr_t *word = bottom + 1; word <= top; word++) {
		void *address = (void *)*word;
		struct weiri_slab *slab;
		size_t slot;

		/* At level `batch` it may have been freed as it is. */
		if (weiri_guard_covers(address))
			address = weiri_guard_shadow_of(address);
		slab = (struct weiri_slab *)weiri_span_of(address);
		if (slab == NULL || slab->span.tag != depot->index)
			continue;
		slot = weiri_slab_index(slab, address);
		if (slot != SIZE_MAX)
			slab->state[slot] &= (uint8_t)~WEIRI_STATE_VISIT;
	}
}

static void
visit_unmark_shards(const struct weiri_depot *depot)
{
	struct weiri_shards *shards = weiri_shards_of(depot);
	unsigned words = shards != NULL ? shards->count * WEIRI_SHARD_WORDS : 0;

	for (unsigned i = 0; i < words; i++) {
		uintptr_t full = shards->shard[i / WEIRI_SHARD_WORDS]
				     .full[i % WEIRI_SHARD_WORDS];
		struct weiri_magazine *m = weiri_spare_magazine(full);

		if (full != 0)
			visit_unmark(depot, weiri_magazine_bottom(m),
			    weiri_magazine_top(m));
	}
}

/* Both locks held. */
static void
visit_unmark_magazines(const struct weiri_depot *depot)
{
	for (struct weiri_magazine *m = depot->full_list; m != NULL;
	     m = weiri_magazine_next(m))
		visit_unmark(
		    depot, weiri_magazine_bottom(m), weiri_magazine_top(m));
	visit_unmark_shards(depot);
	if (depot->cell == WEIRI_CELL_NONE)
		return;
	WEIRI_LOCAL_FOR(local)
	{
		uintptr_t *cursor = local->cursor[depot->cell];
		uintptr_t spare = local->spare[depot->cell];
		uintptr_t *bottom;

		visit_unmark(depot,
		    weiri_magazine_bottom(weiri_cursor_magazine(cursor)),
		    cursor);
		if (weiri_spare_count(spare) == 0)
			continue;
		bottom = weiri_magazine_bottom(weiri_spare_magazine(spare));
		visit_unmark(depot, bottom, bottom + weiri_spare_count(spare));
	}
}

static size_t
visit_count(const struct weiri_slab *slab)
{
	size_t marked = 0;

	for (size_t i = 0; i < slab->carved; i++)
		marked += (slab->state[i] & WEIRI_STATE_VISIT) != 0;
	return marked;
}

/* Locked: the slabs with a marked slot, in front of @chain. */
static struct weiri_slab *
visit_chain(struct weiri_list *slabs, struct weiri_slab *chain)
{
	WEIRI_LIST_FOR(node, slabs)
	{
		struct weiri_slab *slab =
		    WEIRI_CONTAINER_OF(node, struct weiri_slab, link);

		if (visit_count(slab) == 0)
			continue;
		slab->visit_next = chain;
		chain = slab;
	}
	return chain;
}

static struct weiri_slab *
visit_prepare(struct weiri_depot *depot)
{
	struct weiri_slab *chain;

	weiri_local_lock();
	weiri_mutex_lock(&depot->lock);
	visit_mark(&depot->partial);
	visit_mark(&depot->full);
	visit_unmark_magazines(depot);
	chain = visit_chain(&depot->partial, NULL);
	chain = visit_chain(&depot->full, chain);
	weiri_mutex_unlock(&depot->lock);
	weiri_local_unlock();
	return chain;
}

size_t
weiri_depot_visit(struct weiri_depot *depot,
    bool (*visit)(void *slot, void *context), void *context)
{
	struct weiri_slab *slab = visit_prepare(depot);
	bool goes_on = true;
	size_t visited = 0;

	while (slab != NULL) {
		struct weiri_slab *next = slab->visit_next;
		size_t left = visit_count(slab);

		for (size_t i = 0; left > 0; i++) {
			if ((slab->state[i] & WEIRI_STATE_VISIT) == 0)
				continue;
			slab->state[i] &= (uint8_t)~WEIRI_STATE_VISIT;
			left--;
			if (!goes_on)
				continue;
			visited++;
			goes_on = visit(weiri_slab_address(slab, i), context);
		}
		slab = next;
	}
	return visited;
}
