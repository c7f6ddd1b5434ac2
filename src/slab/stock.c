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
 * slot rests anywhere.  A new slab is opened outside the lock; two threads that
 * do so at once leave one slab more than needed, which the next ones use.
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

/*
 * A magazine held a slot that rests already or is none of this depot's: two
 * frees of one object at the same moment, which no check at the call can see.
 */
void
weiri_stock_report(const struct weiri_depot *depot, const void *slot)
{
	weiri_fault(
	    &(struct weiri_fault_site){.fault_class = WEIR_FAULT_DOUBLE_FREE,
		.pool_kind = depot->kind,
		.pool_name = depot->name,
		.address = slot,
		.detail = "object %p was freed more than once"});
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

static bool
stock_grow(struct weiri_depot *depot)
{
	struct weiri_slab *slab = weiri_slab_open(depot);

	if (slab == NULL)
		return false;
	weiri_mutex_lock(&depot->lock);
	weiri_list_append(&depot->partial, &slab->link);
	depot->slab_count++;
	weiri_mutex_unlock(&depot->lock);
	return true;
}

/* Another thread's full spare, or NULL; empty ones it meets are left. */
static struct weiri_magazine *
stock_steal(struct weiri_depot *depot)
{
	struct weiri_magazine *full = NULL;

	if (depot->cell == WEIRI_CELL_NONE)
		return NULL;
	weiri_local_lock();
	WEIRI_LOCAL_FOR(local)
	{
		uintptr_t *spare = &local->spare[depot->cell];
		uintptr_t seen = WEIRI_LOAD(spare);

		/* Pairs with the owner's exchanges in depot_swap_in() and
		 * depot_exchange_full(). */
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

enum weiri_stock_find
weiri_stock_supply(struct weiri_depot *depot, uintptr_t *into, size_t count,
    size_t *taken, struct weiri_magazine **full)
{
	size_t carved = 0;

	for (bool first = true;; first = false) {
		weiri_mutex_lock(&depot->lock);
		depot->misses += first;
		*full = weiri_magazine_pop(&depot->full_list);
		if (*full != NULL) {
			depot->full_count--;
			weiri_stock_update(depot);
		} else {
			*taken = stock_take(depot, into, count, &carved);
		}

		bool may_grow = depot->carved < depot->limit;

		weiri_mutex_unlock(&depot->lock);
		if (*full != NULL)
			break;
		if (*taken > 0) {
			weiri_stock_note_peak(depot);
			weiri_stock_init_slots(depot, into, carved);
			return WEIRI_STOCK_SLOTS;
		}
		if (may_grow && stock_grow(depot))
			continue;
		*full = stock_steal(depot);
		break;
	}
	if (*full == NULL) {
		weiri_mutex_lock(&depot->lock);
		depot->failures++;
		weiri_mutex_unlock(&depot->lock);
		return WEIRI_STOCK_NOTHING;
	}
	weiri_stock_note_peak(depot);
	return WEIRI_STOCK_MAGAZINE;
}

/* ---- giving back -------------------------------------------------------- */

void
weiri_depot_adopt(struct weiri_depot *depot, struct weir_local *local)
{
	if (depot->cell == WEIRI_CELL_NONE)
		return;

	uintptr_t *cursor = local->cursor[depot->cell];
	uintptr_t spare = __atomic_exchange_n(
	    &local->spare[depot->cell], 0, __ATOMIC_ACQ_REL);
	struct weiri_magazine *magazine =
	    (struct weiri_magazine *)(spare & ~WEIRI_SPARE_FULL);
	void *bad = NULL;

	local->cursor[depot->cell] = WEIRI_CURSOR_DUMMY;
	weiri_mutex_lock(&depot->lock);
	if ((spare & WEIRI_SPARE_FULL) != 0) {
		weiri_magazine_push(&depot->full_list, magazine);
		depot->full_count++;
		weiri_stock_spares(depot, -1);
	} else if (spare != 0) {
		weiri_magazine_push(&depot->empty_list, magazine);
		depot->empty_count++;
	}
	if (cursor != WEIRI_CURSOR_DUMMY) {
		magazine = weiri_cursor_magazine(cursor);
		bad = weiri_stock_rest_all(depot,
		    weiri_magazine_bottom(magazine, depot->rounds) + 1, cursor);
		weiri_magazine_push(&depot->empty_list, magazine);
		depot->empty_count++;
	}
	if (local->counts != NULL) {
		depot->requests_gone += local->counts[depot->cell].requests;
		depot->hits_gone += local->counts[depot->cell].hits;
		WEIRI_STORE(&local->counts[depot->cell].requests, 0);
		WEIRI_STORE(&local->counts[depot->cell].hits, 0);
	}
	weiri_stock_update(depot);
	weiri_mutex_unlock(&depot->lock);
	if (bad != NULL)
		weiri_stock_report(depot, bad);
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

size_t
weiri_depot_trim(struct weiri_depot *depot)
{
	struct weiri_list idle = WEIRI_LIST_INITIALIZER(idle);
	struct weiri_magazine *magazine, *empties;
	void *bad = NULL, *worst = NULL;

	/* This thread's loaded magazine is its own to empty; others' are not. */
	if (weiri_local_tls != &weiri_local_none)
		weiri_depot_adopt(depot, weiri_local_tls);
	while ((magazine = stock_steal(depot)) != NULL) {
		weiri_mutex_lock(&depot->lock);
		weiri_magazine_push(&depot->full_list, magazine);
		depot->full_count++;
		weiri_stock_update(depot);
		weiri_mutex_unlock(&depot->lock);
	}

	weiri_mutex_lock(&depot->lock);
	while ((magazine = weiri_magazine_pop(&depot->full_list)) != NULL) {
		bad = weiri_stock_rest_all(depot,
		    weiri_magazine_bottom(magazine, depot->rounds) + 1,
		    weiri_magazine_top(magazine));
		if (bad != NULL)
			worst = bad;
		weiri_magazine_push(&depot->empty_list, magazine);
	}
	depot->full_count = 0;
	stock_collect_idle(depot, &idle);
	empties = depot->empty_list;
	depot->empty_list = NULL;
	depot->empty_count = 0;
	weiri_mutex_unlock(&depot->lock);

	weiri_stock_free_magazines(empties);
	if (worst != NULL)
		weiri_stock_report(depot, worst);
	return weiri_stock_close_slabs(&idle);
}
