/* SPDX-License-Identifier: MIT */
/*
 * compact.c - what is free in a depot goes where others can use it, at once.
 *
 *     full magazines --> slabs --at rest---------> page supply
 *                              --pages at rest---> the system
 *
 * Slots in the stock's magazines are the fastest to hand out, and keep every
 * slab they come from alive.  An owner whose slots are of many sizes cannot wait
 * for decay: what one size left behind is what another needs now.  When it finds
 * that too much lies in magazines, it has them emptied, some at a time.
 *
 * A few objects that stay pin a slab, but no more than the pages they lie in:
 * the others are voided.  They remain the slab's, and charged, as memory that a
 * slot taken from them brings back.  A slab is looked through only when a
 * quarter of what was in use at the last look has gone since, and nothing came,
 * so that looking costs a bounded part of the frees that lead to it.
 *
 * Where decay is in no hurry, as in caches, a slab is looked through once an
 * epoch, and what goes are pages that no slot was taken from in it.  Slots are
 * taken lowest first, so one number a slab tells: all above it was not needed.
 *
 *     slab    | out | rests, was taken | rests ... | out | rests ...  |
 *                                      ^ warm        - given back -
 *
 * Invariants:
 *
 *   K1  A page whose bit is set in slab->voided has resting slots only, of
 *       theirs the front as well; weiri_slab_take() clears the bits of pages it
 *       takes slots from.
 *   K2  depot->voided is the number of such bits.
 *
 * Pages are voided under the depot's lock, a few at a time: between the look at
 * the free bits and the end of the call nobody may take a slot there.
 */
#include "slab/shard.h"
#include "slab/stock.h"

#include "base/bits.h"

#include <limits.h>

/* Slabs looked through and passed over at a time, under the lock. */
#define COMPACT_LOOKS 64
#define COMPACT_STEPS 1024

/* Full magazines that weiri_depot_gather() empties: more than a thread had. */
#define COMPACT_GATHER 4

/* Slabs that a step of weiri_depot_void_idle() looks through in vain. */
#define COMPACT_IDLE_LOOKS 16

/* As many pages as slab->voided has bits. */
#define COMPACT_SLAB_BYTES_MAX (32 * WEIRI_PAGE)

static size_t
compact_offset(const struct weiri_slab *slab, const void *address)
{
	return (size_t)((const char *)address - slab->span.base);
}

/* The pages that @bytes of a slot lie in, its front included. */
static uint32_t
compact_pages(const struct weiri_slab *slab, const void *slot, size_t bytes)
{
	size_t offset = compact_offset(slab, slot) - slab->depot->front_bytes;
	size_t first = offset / WEIRI_PAGE;
	size_t last = (offset + bytes - 1) / WEIRI_PAGE;

	return UINT32_MAX << first & UINT32_MAX >> (31 - last);
}

/* The first slot with a byte, or its front, at or behind @address; it may be one
 * more than there are. */
static size_t
compact_slot(const struct weiri_slab *slab, const char *address)
{
	return weiri_slab_slot(slab, address + slab->depot->front_bytes);
}

/* What the owner's slots in these pages were is made again: all rest, or are
 * being taken. */
static void
compact_remake(struct weiri_slab *slab, uint32_t pages)
{
	const struct weiri_depot *depot = slab->depot;

	if (depot->hooks == NULL || depot->hooks->slot_again == NULL)
		return;
	for (; pages != 0; pages &= pages - 1) {
		char *page =
		    slab->span.base + (size_t)__builtin_ctz(pages) * WEIRI_PAGE;
		size_t slot = compact_slot(slab, page);
		size_t end = compact_slot(slab, page + WEIRI_PAGE - 1) + 1;

		for (; slot < weiri_min(end, slab->carved); slot++)
			depot->hooks->slot_again(
			    slab, weiri_slab_address(slab, slot), depot->owner);
	}
}

void
weiri_slab_unvoid(struct weiri_slab *slab, const uintptr_t *words, size_t count)
{
	uint32_t before = slab->voided;

	for (size_t i = 0; i < count && slab->voided != 0; i++)
		slab->voided &= ~compact_pages(
		    slab, (void *)words[i], slab->depot->slot_bytes);
	compact_remake(slab, before & ~slab->voided);
	WEIRI_STORE(&slab->depot->voided,
	    slab->depot->voided -
		(uint64_t)__builtin_popcount(before & ~slab->voided));
}

/* Do all slots in [first, last] rest? */
static bool
compact_rests(const struct weiri_slab *slab, size_t first, size_t last)
{
	for (size_t w = first / 64; w <= last / 64; w++) {
		uint64_t mask = UINT64_MAX;

		if (w == first / 64)
			mask &= UINT64_MAX << first % 64;
		if (w == last / 64)
			mask &= UINT64_MAX >> (63 - last % 64);
		if ((slab->free_bits[w] & mask) != mask)
			return false;
	}
	return true;
}

/* Pages that slots came to be in and all rest in.  The one before the first
 * slot's may be the owner's. */
static uint32_t
compact_find(const struct weiri_slab *slab)
{
	size_t head = compact_offset(slab, slab->first);
	size_t page = weiri_round_up(head, WEIRI_PAGE);
	uint32_t found = 0;

	for (; page < slab->span.bytes; page += WEIRI_PAGE) {
		size_t first = compact_slot(slab, slab->span.base + page);
		size_t last =
		    compact_slot(slab, slab->span.base + page + WEIRI_PAGE - 1);

		if (first >= slab->carved)
			break;
		last = weiri_min(last, slab->carved - 1);
		if (compact_rests(slab, first, last))
			found |= UINT32_C(1) << page / WEIRI_PAGE;
	}
	return found;
}

bool
weiri_slab_is_voided(const struct weiri_slab *slab, const void *slot)
{
	return (slab->voided & compact_pages(slab, slot, 1)) != 0;
}

bool
weiri_slab_check_voided(const struct weiri_slab *slab)
{
	return slab->voided == 0 || (slab->voided & ~compact_find(slab)) == 0;
}

/* False: they cannot be given back. */
static bool
compact_void(struct weiri_slab *slab, uint32_t left)
{
	while (left != 0) {
		unsigned first = (unsigned)__builtin_ctz(left);
		uint64_t behind = ~((uint64_t)left >> first);
		unsigned pages = (unsigned)__builtin_ctzll(behind);
		uint32_t run =
		    (uint32_t)(((UINT64_C(1) << pages) - 1) << first);

		if (!weiri_span_void(
			&slab->span, first * WEIRI_PAGE, pages * WEIRI_PAGE))
			return false;
		slab->voided |= run;
		WEIRI_BUMP(&slab->depot->voided, pages);
		left &= ~run;
	}
	return true;
}

void
weiri_slab_void(struct weiri_slab *slab)
{
	uint32_t out = slab->carved - slab->free_count;

	slab->void_below = out - out / 4;
	(void)compact_void(slab, compact_find(slab) & ~slab->voided);
}

/* May pages go?  What came of an init hook would be gone. */
static bool
compact_may(const struct weiri_depot *depot)
{
	return depot->slab_bytes <= COMPACT_SLAB_BYTES_MAX &&
	       (depot->hooks == NULL || depot->hooks->slot_init == NULL ||
		   depot->hooks->slot_again != NULL);
}

/* ---- pages that an epoch did not need -------------------------------------- */

/* Locked: of these pages, the highest that may go without those of slots that
 * were made ready at creation. */
static uint32_t
compact_surplus(const struct weiri_depot *depot, uint32_t pages)
{
	uint64_t slots = WEIRI_PAGE / depot->slot_bytes + 2; /* in a page */
	uint64_t less = depot->voided * slots + depot->kept;
	uint64_t most =
	    depot->carved > less ? (depot->carved - less) / slots : 0;

	if (depot->kept == 0)
		return pages;
	while ((uint64_t)__builtin_popcount(pages) > most)
		pages &= pages - 1;
	return pages;
}

/* Locked: the look at a slab that an epoch has; true if pages went. */
static bool
compact_look_idle(struct weiri_depot *depot, struct weiri_slab *slab)
{
	const char *end = weiri_slab_address(slab, slab->warm);
	size_t from = compact_offset(slab, end);
	uint32_t pages;

	slab->looked = depot->void_turn;
	slab->warm = 0;
	from = weiri_round_up(from, WEIRI_PAGE) / WEIRI_PAGE;
	if (from >= slab->span.bytes / WEIRI_PAGE || slab->free_count == 0)
		return false;
	/* It goes as a whole, in its time. */
	if (slab->idle && depot->carved - slab->carved >= depot->kept)
		return false;
	pages = compact_find(slab) & ~slab->voided & UINT32_MAX << from;
	pages = compact_surplus(depot, pages);
	return pages != 0 && compact_void(slab, pages);
}

bool
weiri_depot_void_idle(struct weiri_depot *depot, unsigned *looks)
{
	unsigned vain = COMPACT_IDLE_LOOKS;
	bool more = false;

	if (depot->hooks == NULL || depot->hooks->slot_again == NULL ||
	    !compact_may(depot))
		return false;
	weiri_mutex_lock(&depot->lock);
	WEIRI_LIST_FOR(node, &depot->partial)
	{
		struct weiri_slab *slab =
		    WEIRI_CONTAINER_OF(node, struct weiri_slab, link);

		if (*looks == 0)
			break;
		--*looks;
		if (slab->looked == depot->void_turn)
			continue;
		more = compact_look_idle(depot, slab) || --vain == 0;
		if (more)
			break;
	}
	weiri_mutex_unlock(&depot->lock);
	return more;
}

/* ---- at once ---------------------------------------------------------------- */

/* Locked: slabs that a quarter of what was in use has left. */
static void
compact_look(struct weiri_depot *depot)
{
	unsigned looks = COMPACT_LOOKS, steps = COMPACT_STEPS;

	if (!compact_may(depot))
		return;
	WEIRI_LIST_FOR(node, &depot->partial)
	{
		struct weiri_slab *slab =
		    WEIRI_CONTAINER_OF(node, struct weiri_slab, link);

		if (slab->idle || looks == 0 || --steps == 0)
			return;
		if (slab->carved - slab->free_count >= slab->void_below)
			continue;
		weiri_slab_void(slab);
		looks--;
	}
}

/* Locked. */
static void
compact_collect_idle(struct weiri_depot *depot, struct weiri_list *idle)
{
	while (depot->idle_count > 0) {
		struct weiri_slab *slab = WEIRI_CONTAINER_OF(
		    depot->partial.prev, struct weiri_slab, link);

		if (depot->carved - slab->carved < depot->kept)
			return;
		weiri_list_push(idle, &weiri_stock_unlist_slab(depot)->link);
		weiri_decay_note(&depot->idle_decay, depot->idle_count);
	}
}

/* True if there was a magazine to empty. */
static bool
compact_step(struct weiri_depot *depot, struct weiri_list *idle)
{
	struct weiri_magazine *full;
	void *bad = NULL;

	weiri_mutex_lock(&depot->lock);
	full = weiri_stock_pop_full(depot);
	if (full != NULL) {
		weiri_decay_note(&depot->full_decay, depot->full_count);
		bad = weiri_stock_unpack(depot, full);
		compact_collect_idle(depot, idle);
		weiri_stock_update(depot);
	}
	weiri_mutex_unlock(&depot->lock);
	if (full != NULL)
		weiri_stock_free_magazine(full);
	if (bad != NULL)
		weiri_stock_report(depot, bad);
	return full != NULL;
}

size_t
weiri_depot_compact(struct weiri_depot *depot, unsigned magazines)
{
	struct weiri_list idle = WEIRI_LIST_INITIALIZER(idle);

	while (magazines > 0 && compact_step(depot, &idle))
		magazines--;
	return weiri_stock_close_slabs(&idle);
}

/* ---- depots that are too large --------------------------------------------- */

bool
weiri_depot_is_large(struct weiri_depot *depot)
{
	bool large;

	weiri_mutex_lock(&depot->lock);
	large = depot->large;
	weiri_mutex_unlock(&depot->lock);
	return large;
}

void
weiri_depot_gather(struct weiri_depot *depot)
{
	struct weir_local *local = weiri_local_tls;
	struct weiri_magazine *empties = NULL;
	void *bad = NULL, *other = NULL;
	unsigned count = 0;

	if (local != &weiri_local_none)
		bad = weiri_depot_adopt(depot, local);
	weiri_mutex_lock(&depot->lock);
	for (; count < COMPACT_GATHER && other == NULL; count++) {
		struct weiri_magazine *full = weiri_stock_pop_full(depot);

		if (full == NULL)
			break;
		other = weiri_stock_unpack(depot, full);
		weiri_magazine_push(&empties, full);
	}
	weiri_decay_note(&depot->full_decay, depot->full_count);
	weiri_stock_update(depot);
	weiri_mutex_unlock(&depot->lock);
	weiri_stock_free_magazines(empties);
	weiri_pages_owe(0, count * WEIRI_MAGAZINE_BYTES);
	if (bad != NULL || other != NULL)
		weiri_stock_report(depot, bad != NULL ? bad : other);
}

/* ---- depots out of use ---------------------------------------------------- */

/* The calling thread gives back what it holds, if it did not use it since this
 * was asked last; a slot that could not rest, or NULL. */
static void *
compact_unload(struct weiri_depot *depot)
{
	struct weir_local *local = weiri_local_tls;

	if (depot->cell == WEIRI_CELL_NONE || local == &weiri_local_none)
		return NULL;

	uintptr_t *cursor = local->cursor[depot->cell];

	if (cursor == WEIRI_CURSOR_DUMMY ||
	    !weiri_cursor_idle(cursor, local->requests[depot->cell]))
		return NULL;
	return weiri_depot_adopt(depot, local);
}

size_t
weiri_depot_retire(struct weiri_depot *depot)
{
	void *bad = compact_unload(depot);
	void *other = weiri_stock_gather_spares(depot, false);
	struct weiri_list idle = WEIRI_LIST_INITIALIZER(idle);
	bool quiet;
	size_t bytes;

	if (bad != NULL || other != NULL)
		weiri_stock_report(depot, bad != NULL ? bad : other);
	weiri_mutex_lock(&depot->lock);
	quiet = weiri_depot_misses(depot) == depot->retire_misses;
	depot->retire_misses = weiri_depot_misses(depot);
	weiri_mutex_unlock(&depot->lock);
	if (!quiet)
		return 0;
	bytes = weiri_depot_compact(depot, UINT_MAX);
	weiri_mutex_lock(&depot->lock);
	/* Those of the slots that rest without a magazine. */
	compact_collect_idle(depot, &idle);
	compact_look(depot);
	weiri_mutex_unlock(&depot->lock);
	return bytes + weiri_stock_close_slabs(&idle);
}
