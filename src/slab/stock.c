/* SPDX-License-Identifier: MIT */
/*
 * stock.c - what a depot holds for all threads: full and empty magazines, slots
 * resting in slabs, and the ways to more.
 *
 *   supply:  full magazine -> resting slots -> new slots of a slab
 *            -> a new slab -> (at the limit or without memory) another
 *            thread's spare
 *
 * Resting slots come before new ones, so that memory is touched only when no
 * slot rests anywhere.  A new slab is opened outside the lock, and closed again
 * if another thread's turned up meanwhile.
 *
 * Invariants, and the lock: see depot.c.  Functions marked "locked" want the
 * depot's lock held; the others take it.
 */
#include "slab/stock.h"

#include "base/bits.h"
#include "guard/fault.h"

/*
 * `outside` counts everything threads hold, so only the loaded magazines make
 * the figure too high: one a thread.
 */
void
weiri_stock_note_peak(struct weiri_depot *depot)
{
	int64_t out = (int64_t)WEIRI_LOAD(&depot->outside) -
		      WEIRI_LOAD(&depot->spare_full) * depot->rounds;
	uint64_t peak = WEIRI_LOAD(&depot->peak);

	while (out > (int64_t)peak &&
	       !__atomic_compare_exchange_n(&depot->peak, &peak, (uint64_t)out,
		   true, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
}

void
weiri_stock_update(struct weiri_depot *depot)
{
	uint64_t in_full = (uint64_t)depot->full_count * depot->rounds;

	WEIRI_STORE(&depot->outside, depot->carved - depot->resting - in_full);
}

/* ---- slots at rest ------------------------------------------------------ */

static void
stock_settle(struct weiri_depot *depot, struct weiri_slab *slab)
{
	weiri_list_remove(&slab->link);
	weiri_list_push(
	    weiri_slab_has_slots(slab) ? &depot->partial : &depot->full,
	    &slab->link);
}

bool
weiri_stock_rest(struct weiri_depot *depot, void *slot)
{
	struct weiri_slab *slab = (struct weiri_slab *)weiri_span_of(slot);
	size_t index;

	if (slab == NULL || slab->span.tag != depot->index)
		return false;
	index = weiri_slab_index(slab, slot);
	if (index == SIZE_MAX)
		return false;

	bool was_full = !weiri_slab_has_slots(slab);

	if (!weiri_slab_rest(slab, index))
		return false;
	depot->resting++;
	if (was_full)
		stock_settle(depot, slab);
	return true;
}

void *
weiri_stock_rest_all(
    struct weiri_depot *depot, const uintptr_t *first, const uintptr_t *last)
{
	void *bad = NULL;

	for (const uintptr_t *word = first; word <= last; word++)
		if (!weiri_stock_rest(depot, (void *)*word))
			bad = (void *)*word;
	return bad;
}

/* Up to @count slots, all resting before or all (*carved) awaiting slot_init. */
static size_t
stock_take(
    struct weiri_depot *depot, uintptr_t *into, size_t count, size_t *carved)
{
	size_t taken = 0;

	*carved = 0;
	WEIRI_LIST_FOR_SAFE(node, &depot->partial)
	{
		struct weiri_slab *slab =
		    WEIRI_CONTAINER_OF(node, struct weiri_slab, link);
		/* New memory only when no slot rests anywhere. */
		size_t carve_max = taken > 0 || depot->resting > 0
				       ? 0
				       : depot->limit - depot->carved;
		size_t got = weiri_slab_take(
		    slab, into + taken, count - taken, carve_max, carved);

		depot->carved += *carved;
		depot->resting -= got - *carved;
		taken += got;
		if (!weiri_slab_has_slots(slab))
			stock_settle(depot, slab);
		if (taken == count || *carved > 0)
			break;
	}
	weiri_stock_update(depot);
	return taken;
}

/* ---- growth and theft --------------------------------------------------- */

/*
 * True if it is worth looking again.  Whoever had the same need may have listed
 * a slab, or returned slots, meanwhile; then this one would only lie idle.
 */
static bool
stock_grow(struct weiri_depot *depot)
{
	struct weiri_slab *slab = weiri_slab_open(depot);
	bool needed;

	if (slab == NULL)
		return false;
	weiri_mutex_lock(&depot->lock);
	needed = depot->full_list == NULL && weiri_list_empty(&depot->partial);
	if (needed) {
		weiri_list_append(&depot->partial, &slab->link);
		depot->slab_count++;
	}
	weiri_mutex_unlock(&depot->lock);
	if (!needed)
		weiri_slab_close(slab);
	return true;
}

/* Another thread's full spare, or NULL; empty ones it meets are left. */
static struct weiri_magazine *
stock_steal(struct weiri_depot *depot)
{
	struct weiri_magazine *full = NULL;

	/* A depot that has none spares the others the walk. */
	if (depot->cell == WEIRI_CELL_NONE ||
	    WEIRI_LOAD(&depot->spare_full) <= 0)
		return NULL;
	weiri_local_lock();
	WEIRI_LOCAL_FOR(local)
	{
		uintptr_t *spare = &local->spare[depot->cell];
		uintptr_t seen = WEIRI_LOAD(spare);

		/* Pairs with the owner's exchanges in depot_swap_in() and
		 * depot_retire_full(). */
		if ((seen & WEIRI_SPARE_FULL) != 0 &&
		    __atomic_compare_exchange_n(spare, &seen, 0, false,
			__ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
			full =
			    (struct weiri_magazine *)(seen - WEIRI_SPARE_FULL);
			weiri_stock_spares(depot, -1);
			break;
		}
	}
	weiri_local_unlock();
	return full;
}

/* ---- supply ------------------------------------------------------------- */

static bool
stock_may_grow(struct weiri_depot *depot)
{
	bool may_grow;

	weiri_mutex_lock(&depot->lock);
	may_grow = depot->carved < depot->limit;
	weiri_mutex_unlock(&depot->lock);
	return may_grow;
}

void
weiri_stock_init_slots(
    struct weiri_depot *depot, const uintptr_t *words, size_t count)
{
	if (depot->hooks == NULL || depot->hooks->slot_init == NULL)
		return;
	for (size_t i = 0; i < count; i++) {
		void *slot = (void *)words[i];

		depot->hooks->slot_init(
		    (struct weiri_slab *)weiri_span_of(slot), slot,
		    depot->owner);
	}
}

/* One look into the stock, under the lock. */
static enum weiri_stock_find
stock_look(struct weiri_depot *depot, uintptr_t *into, size_t count,
    size_t *taken, struct weiri_magazine **full)
{
	size_t carved = 0;

	weiri_mutex_lock(&depot->lock);
	*full = weiri_magazine_pop(&depot->full_list);
	if (*full != NULL) {
		depot->full_count--;
		weiri_stock_update(depot);
	} else {
		*taken = stock_take(depot, into, count, &carved);
	}
	weiri_mutex_unlock(&depot->lock);
	if (*full != NULL) {
		weiri_stock_unmark(depot, *full);
		return WEIRI_STOCK_MAGAZINE;
	}
	if (*taken == 0)
		return WEIRI_STOCK_NOTHING;
	weiri_stock_init_slots(depot, into, carved);
	return WEIRI_STOCK_SLOTS;
}

enum weiri_stock_find
weiri_stock_supply(struct weiri_depot *depot, uintptr_t *into, size_t count,
    size_t *taken, struct weiri_magazine **full)
{
	enum weiri_stock_find found;

	for (;;) {
		found = stock_look(depot, into, count, taken, full);
		if (found != WEIRI_STOCK_NOTHING)
			break;
		if (stock_may_grow(depot) && stock_grow(depot))
			continue;
		*full = stock_steal(depot);
		if (*full != NULL) {
			found = WEIRI_STOCK_MAGAZINE;
			break;
		}
		/* An OOM hook, a trim or a thread's end may have put slots
		 * here since the look that found none. */
		found = stock_look(depot, into, count, taken, full);
		break;
	}
	if (found != WEIRI_STOCK_NOTHING)
		weiri_stock_note_peak(depot);
	return found;
}

/* ---- giving back -------------------------------------------------------- */

/* Locked: a thread's loaded magazine empties into the slabs. */
static void *
stock_unload(struct weiri_depot *depot, uintptr_t *cursor)
{
	struct weiri_magazine *magazine = weiri_cursor_magazine(cursor);
	void *bad;

	weiri_stock_take_back(
	    depot, magazine, weiri_cursor_count(cursor, depot->rounds));
	bad = weiri_stock_rest_all(
	    depot, weiri_magazine_bottom(magazine, depot->rounds) + 1, cursor);
	weiri_magazine_push(&depot->empty_list, magazine);
	depot->empty_count++;
	return bad;
}

/* Locked: a spare that was exchanged out of its word goes into its list; where
 * its slots are to be verified, they rest. */
static void *
stock_list_spare(struct weiri_depot *depot, uintptr_t spare)
{
	struct weiri_magazine *magazine =
	    (struct weiri_magazine *)(spare & ~WEIRI_SPARE_FULL);
	void *bad = NULL;

	if (spare == 0)
		return NULL;
	if ((spare & WEIRI_SPARE_FULL) != 0) {
		weiri_stock_spares(depot, -1);
		if (!depot->verify) {
			weiri_stock_list_full(depot, magazine);
			return NULL;
		}
		bad = weiri_stock_rest_all(depot,
		    weiri_magazine_bottom(magazine, depot->rounds) + 1,
		    weiri_magazine_top(magazine));
	}
	weiri_magazine_push(&depot->empty_list, magazine);
	depot->empty_count++;
	return bad;
}

void *
weiri_depot_adopt(struct weiri_depot *depot, struct weir_local *local)
{
	if (depot->cell == WEIRI_CELL_NONE)
		return NULL;

	uintptr_t **cell = &local->cursor[depot->cell];
	void *bad, *other = NULL;

	/* The lock first: a fork must not find a magazine in our hands. */
	weiri_mutex_lock(&depot->lock);
	bad = stock_list_spare(
	    depot, __atomic_exchange_n(
		       &local->spare[depot->cell], 0, __ATOMIC_ACQ_REL));
	if (*cell != WEIRI_CURSOR_DUMMY) {
		uintptr_t *cursor = *cell;

		WEIRI_STORE(cell, WEIRI_CURSOR_DUMMY);
		other = stock_unload(depot, cursor);
	}
	depot->requests_gone += local->requests[depot->cell];
	WEIRI_STORE(&local->requests[depot->cell], 0);
	weiri_stock_update(depot);
	weiri_mutex_unlock(&depot->lock);
	return bad != NULL ? bad : other;
}

void
weiri_stock_recount_spares(struct weiri_depot *depot)
{
	int64_t full = 0;

	if (depot->cell == WEIRI_CELL_NONE)
		return;
	WEIRI_LOCAL_FOR(local)
	{
		full += (local->spare[depot->cell] & WEIRI_SPARE_FULL) != 0;
	}
	WEIRI_STORE(&depot->spare_full, full);
}

/* All threads' full spares move into the list. */
static void *
stock_gather_spares(struct weiri_depot *depot)
{
	void *bad = NULL;

	if (depot->cell == WEIRI_CELL_NONE)
		return NULL;
	weiri_local_lock();
	weiri_mutex_lock(&depot->lock);
	WEIRI_LOCAL_FOR(local)
	{
		uintptr_t *spare = &local->spare[depot->cell];
		uintptr_t seen = WEIRI_LOAD(spare);

		if ((seen & WEIRI_SPARE_FULL) != 0 &&
		    __atomic_compare_exchange_n(spare, &seen, 0, false,
			__ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
			void *slot = stock_list_spare(depot, seen);

			bad = slot != NULL ? slot : bad;
		}
	}
	weiri_stock_update(depot);
	weiri_mutex_unlock(&depot->lock);
	weiri_local_unlock();
	return bad;
}

/* Under the lock: unlists the slabs with every slot at rest. */
static void
stock_collect_idle(struct weiri_depot *depot, struct weiri_list *idle)
{
	WEIRI_LIST_FOR_SAFE(node, &depot->partial)
	{
		struct weiri_slab *slab =
		    WEIRI_CONTAINER_OF(node, struct weiri_slab, link);

		if (slab->free_count != slab->carved)
			continue;
		weiri_list_remove(node);
		weiri_list_push(idle, node);
		depot->slab_count--;
		depot->carved -= slab->carved;
		depot->resting -= slab->free_count;
	}
	weiri_stock_update(depot);
}

size_t
weiri_stock_close_slabs(struct weiri_list *slabs)
{
	size_t bytes = 0;

	WEIRI_LIST_FOR_SAFE(node, slabs)
	{
		struct weiri_slab *slab =
		    WEIRI_CONTAINER_OF(node, struct weiri_slab, link);

		bytes += slab->span.bytes;
		weiri_list_remove(node);
		weiri_slab_close(slab);
	}
	return bytes;
}

void
weiri_stock_free_magazines(struct weiri_magazine *list)
{
	struct weiri_magazine *magazine;

	while ((magazine = weiri_magazine_pop(&list)) != NULL)
		weiri_stock_free_magazine(magazine);
}

/* Locked: every full magazine empties into the slabs. */
static void *
stock_empty_all(struct weiri_depot *depot)
{
	struct weiri_magazine *magazine;
	void *bad = NULL;

	while ((magazine = weiri_magazine_pop(&depot->full_list)) != NULL) {
		weiri_stock_unmark(depot, magazine);

		void *slot = weiri_stock_rest_all(depot,
		    weiri_magazine_bottom(magazine, depot->rounds) + 1,
		    weiri_magazine_top(magazine));

		if (slot != NULL)
			bad = slot;
		weiri_magazine_push(&depot->empty_list, magazine);
	}
	depot->full_count = 0;
	return bad;
}

size_t
weiri_depot_trim(struct weiri_depot *depot)
{
	struct weiri_list idle = WEIRI_LIST_INITIALIZER(idle);
	struct weiri_magazine *empties;
	void *bad = NULL, *other;

	/* This thread's loaded magazine is its own to empty; others' are not. */
	if (weiri_local_tls != &weiri_local_none)
		bad = weiri_depot_adopt(depot, weiri_local_tls);
	other = stock_gather_spares(depot);
	bad = bad != NULL ? bad : other;

	weiri_mutex_lock(&depot->lock);
	other = stock_empty_all(depot);
	stock_collect_idle(depot, &idle);
	empties = depot->empty_list;
	depot->empty_list = NULL;
	depot->empty_count = 0;
	weiri_mutex_unlock(&depot->lock);

	weiri_stock_free_magazines(empties);
	if (bad != NULL || other != NULL)
		weiri_stock_report(depot, bad != NULL ? bad : other);
	return weiri_stock_close_slabs(&idle);
}
