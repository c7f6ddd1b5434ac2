/* SPDX-License-Identifier: MIT */
/*
 * depot.c - where threads exchange magazines, and slabs fill them.
 *
 *   get:  own magazine -> own spare -> the depot's stock (stock.c)
 *   put:  own magazine -> own empty spare -> the full spare goes to the depot
 *         (room.c, where slots are large in another way)
 *
 * A thread holds two magazines, loaded and spare.  With one, a caller that
 * alternates at its edge would take the lock on every other call; with two, a
 * magazine of calls lies between two visits, whatever the pattern (Bonwick and
 * Adams, 2001), unless the stock had less than a magazine to give.  The spare
 * lies in an atomic word, so that other threads can take it: exhaustion, trim
 * and thread exit work by taking spares.
 *
 * Invariants (weiri_depot_check() tests them on a quiet depot):
 *
 *   D1  A slot is in one place only: with a caller, in a magazine, or resting
 *       in its slab.
 *   D2  carved, resting, full_count, full_slots, empty_count and outside equal
 *       what a walk over slabs and lists counts; carved <= limit.
 *   D3  partial holds exactly the slabs with a slot to give.
 *   D4  Magazines in full_list hold as many slots as they have rounds, in
 *       empty_list none.
 *   D5  A depot that verifies: a slot's state byte says STOCKED exactly while
 *       the slot rests or lies in a magazine of full_list or of a shard.
 *   D6  outside - spare_slots, what may be in use, was never above `peak` when
 *       a magazine was handed to a get.
 *   D7  withheld is the sum of the rounds of all loaded magazines, and never
 *       became more than withheld_max by loading one.
 *   D8  Slabs with every slot at rest are the last of partial, idle_count of
 *       them; the first to be given back, found without a search.
 *
 * How large magazines are, and how much of a limited depot may be in them, is
 * rounds.c.
 *
 * The lock is a leaf: no hook, no page request, no other lock under it.
 * Memory order: a slot that changes threads does so through the depot's lock,
 * or through a spare, exchanged with acquire-release on both sides.
 */
#include "guard/guard.h"
#include "slab/cursor.h"
#include "slab/room.h"
#include "slab/shard.h"
#include "slab/stock.h"

/* ---- get ---------------------------------------------------------------- */

/* A get that came to the lock and was counted. */
static void
depot_end_miss(struct weiri_depot *depot)
{
	if (WEIR_UNLIKELY(
		WEIRI_LOAD(&depot->window_trips) >= WEIRI_WINDOW_TRIPS) &&
	    depot->cell != WEIRI_CELL_NONE)
		weiri_rounds_adapt(depot);
}

/* One that was not: how it ended. */
void
weiri_depot_note_miss(struct weiri_depot *depot, bool refused)
{
	weiri_mutex_lock(&depot->lock);
	weiri_stock_count_miss(depot);
	depot->failures += refused;
	weiri_mutex_unlock(&depot->lock);
	depot_end_miss(depot);
}

/* Takes one slot of a magazine that is nobody's and holds @count; the rest goes
 * to the slabs. */
static void *
depot_break_magazine(
    struct weiri_depot *depot, struct weiri_magazine *full, size_t count)
{
	uintptr_t *bottom = weiri_magazine_bottom(full);
	uintptr_t *top = bottom + count;
	void *slot = (void *)*top;
	void *bad;

	weiri_mutex_lock(&depot->lock);
	bad = weiri_stock_rest_all(depot, bottom + 1, top - 1);
	weiri_magazine_push(&depot->empty_list, full);
	depot->empty_count++;
	weiri_stock_update(depot);
	weiri_mutex_unlock(&depot->lock);
	if (bad != NULL)
		weiri_stock_report(depot, bad);
	return slot;
}

/* Without a state of its own: one slot under the lock. */
static void *
depot_get_locked(struct weiri_depot *depot)
{
	struct weiri_magazine *full;
	uintptr_t word = 0;
	size_t taken = 0;
	void *slot = NULL;

	switch (weiri_stock_supply(depot, &word, 1, &taken, &full)) {
	case WEIRI_STOCK_NOTHING:
		break;
	case WEIRI_STOCK_SLOTS:
		slot = (void *)word;
		break;
	case WEIRI_STOCK_MAGAZINE:
		slot = depot_break_magazine(depot, full, taken);
		break;
	}
	weiri_depot_note_miss(depot, slot == NULL);
	if (slot != NULL)
		__atomic_fetch_add(&depot->given, 1, __ATOMIC_RELAXED);
	return slot;
}

/* Loads the thread's own full spare; false if it has none. */
static bool
depot_swap_in(struct weiri_depot *depot, struct weir_local *local)
{
	uintptr_t *spare = &local->spare[depot->cell];
	uintptr_t **cell = &local->cursor[depot->cell];
	uintptr_t *old = WEIRI_LOAD(cell);
	unsigned old_rounds =
	    weiri_magazine_rounds(weiri_cursor_magazine(old)); /* dummy: 0 */
	unsigned rounds = weiri_spare_count(WEIRI_LOAD(spare));

	/* Above its share, it goes the way of a stolen one. */
	if (rounds == 0 || !weiri_rounds_change(depot, old_rounds, rounds))
		return false;

	/* Out of the cell before it is in the spare: never in both. */
	weiri_local_load(local, depot->cell, WEIRI_CURSOR_DUMMY);

	uintptr_t taken = __atomic_exchange_n(spare,
	    old == WEIRI_CURSOR_DUMMY ? 0
				      : (uintptr_t)weiri_cursor_magazine(old),
	    __ATOMIC_ACQ_REL);

	/* A thief was faster; the empty magazine stays the spare. */
	if (taken == 0) {
		weiri_stock_loose(depot, rounds);
		return false;
	}

	struct weiri_magazine *full = weiri_spare_magazine(taken);

	weiri_stock_spares(depot, -(int64_t)rounds);
	weiri_stock_note_given(depot, full, rounds);
	weiri_stock_note_peak(depot);
	weiri_local_load(local, depot->cell, weiri_magazine_top(full));
	weiri_rounds_count_swap(depot);
	return true;
}

/* An empty magazine for the thread to load, of a size that is accounted for, or
 * NULL.  The cell is left at the dummy. */
static struct weiri_magazine *
depot_take_empty(struct weiri_depot *depot, struct weir_local *local)
{
	uintptr_t *cursor = local->cursor[depot->cell];
	struct weiri_magazine *empty;

	if (cursor == WEIRI_CURSOR_DUMMY) {
		empty = weiri_room_find(depot, local);
	} else {
		empty = weiri_cursor_magazine(cursor);
		weiri_stock_loose(depot, weiri_magazine_rounds(empty));
		weiri_local_load(local, depot->cell, WEIRI_CURSOR_DUMMY);
	}
	if (empty == NULL)
		return NULL;

	unsigned rounds = weiri_room_withhold(depot, local);

	if (rounds == 0) {
		weiri_room_leave(depot, empty);
		return NULL;
	}
	weiri_magazine_resize(empty, rounds);
	return empty;
}

/* A magazine found with @count slots takes the place of the one of @rounds that
 * was accounted for; NULL, or a slot if it may not be loaded. */
static void *
depot_load_found(struct weiri_depot *depot, struct weir_local *local,
    unsigned rounds, struct weiri_magazine *found, size_t count)
{
	if (weiri_room_wide(depot, rounds) &&
	    rounds > weiri_magazine_rounds(found))
		weiri_room_widen(found, rounds, count);
	if (weiri_rounds_change(depot, rounds, weiri_magazine_rounds(found))) {
		weiri_stock_note_given(depot, found, count);
		weiri_room_load(
		    depot, local, weiri_magazine_bottom(found) + count);
		return NULL;
	}
	weiri_stock_loose(depot, rounds);
	__atomic_fetch_add(&depot->given, 1, __ATOMIC_RELAXED);
	return depot_break_magazine(depot, found, count);
}

/*
 * Fills a magazine for the thread and takes one slot from it.  The cell rests
 * at the dummy meanwhile: hooks that run in between find a sound state.
 */
static void *
depot_refill(struct weiri_depot *depot, struct weir_local *local)
{
	uintptr_t **cell = &local->cursor[depot->cell];
	struct weiri_magazine *hand = depot_take_empty(depot, local);
	struct weiri_magazine *full;
	size_t taken = 0;
	void *slot = NULL;

	if (hand == NULL)
		return depot_get_locked(depot);

	unsigned rounds = weiri_magazine_rounds(hand);
	uintptr_t *bottom = weiri_magazine_bottom(hand);

	switch (weiri_stock_exchange(depot, hand, &taken, &full)) {
	case WEIRI_STOCK_NOTHING:
		weiri_stock_loose(depot, rounds);
		weiri_room_leave(depot, hand);
		/* An OOM hook may have freed into the cell. */
		slot = weiri_cell_pop(cell);
		weiri_depot_note_miss(depot, slot == NULL);
		return slot;
	case WEIRI_STOCK_SLOTS:
		weiri_stock_note_given(depot, hand, taken);
		weiri_room_load(depot, local, bottom + taken);
		break;
	case WEIRI_STOCK_MAGAZINE:
		slot = depot_load_found(depot, local, rounds, full, taken);
		break;
	}

	depot_end_miss(depot);
	return slot != NULL ? slot : weiri_cell_pop(cell);
}

/* Without the countdown, so room is looked after here. */
static void
depot_count(struct weiri_depot *depot, uint64_t *requests, size_t count)
{
	WEIRI_BUMP(requests, count);
	if (WEIR_UNLIKELY(
		weiri_requests_count(*requests) >= WEIRI_REQUESTS_FULL))
		weiri_depot_move_requests(depot, requests);
}

/* A thread without cells counts in the depot. */
void
weiri_depot_note_request(struct weiri_depot *depot, struct weir_local *local)
{
	if (local != NULL) {
		depot_count(depot, &local->requests[depot->cell], 1);
		return;
	}
	weiri_mutex_lock(&depot->lock);
	depot->requests_gone++;
	weiri_mutex_unlock(&depot->lock);
}

void
weiri_depot_note_bulk(
    struct weiri_depot *depot, struct weir_local *local, size_t count)
{
	weiri_depot_note_miss(depot, false);
	if (!depot->counted)
		return;
	if (local != NULL) {
		depot_count(depot, &local->requests[depot->cell], count);
		return;
	}
	weiri_mutex_lock(&depot->lock);
	depot->requests_gone += count;
	weiri_mutex_unlock(&depot->lock);
}

void
weiri_depot_note_refusal(struct weiri_depot *depot, struct weir_local *local)
{
	weiri_mutex_lock(&depot->lock);
	depot->failures++;
	weiri_mutex_unlock(&depot->lock);
	if (depot->counted)
		weiri_depot_note_request(depot, local);
	if (depot->wait.config.policy == WEIRI_WAIT_NOTIFY)
		weiri_wait_failed(depot);
}

/* A word with the tag bit that does not end its magazine was put there by the
 * program: at level `batch` nobody looks at a pointer before. */
static void
depot_require_edge(const struct weiri_depot *depot, uintptr_t *cursor)
{
	if (WEIR_UNLIKELY(cursor != WEIRI_CURSOR_DUMMY &&
			  cursor != weiri_magazine_bottom(
					weiri_cursor_magazine(cursor))) &&
	    WEIR_DETECTOR(magazine_tagged_word))
		weiri_stock_report(depot, (void *)*cursor);
}

/* The own magazine, the own spare, the stock. */
static void *
depot_get_own(struct weiri_depot *depot, struct weir_local *local)
{
	void *slot = weiri_cell_pop(&local->cursor[depot->cell]);

	if (slot == NULL)
		depot_require_edge(depot, local->cursor[depot->cell]);
	if (slot == NULL && depot_swap_in(depot, local))
		slot = weiri_cell_pop(&local->cursor[depot->cell]);
	if (depot->counted)
		weiri_depot_note_request(depot, local);
	return slot != NULL ? slot : depot_refill(depot, local);
}

static WEIRI_COLD void *
depot_get_bare(struct weiri_depot *depot)
{
	weiri_depot_lay_bare(depot);
	if (depot->counted)
		weiri_depot_note_request(depot, NULL);
	if (!depot->guard->fails_above &&
	    weiri_debug_refuses(depot->guard, depot->slot_bytes)) {
		weiri_depot_note_miss(depot, true);
		return NULL;
	}
	return depot_get_locked(depot);
}

/* By a thread that may have no state. */
static void *
depot_get_any(struct weiri_depot *depot)
{
	if (WEIR_UNLIKELY(weiri_guard_bare(depot->guard)))
		return depot_get_bare(depot);

	struct weir_local *local =
	    depot->cell != WEIRI_CELL_NONE ? weiri_local_own() : NULL;

	if (local == NULL) {
		if (depot->counted)
			weiri_depot_note_request(depot, NULL);
		return depot_get_locked(depot);
	}

	uint32_t outer = weiri_local_begin(local, depot->cell);
	void *slot = depot_get_own(depot, local);

	weiri_local_end(local, outer);
	return slot;
}

void *
weiri_depot_get_within(struct weiri_depot *depot, uint64_t timeout_ns)
{
	/* Its cells stay at the dummy, so every get comes here. */
	if (depot->wait.config.policy == WEIRI_WAIT_TURN)
		return weiri_wait_get(depot, timeout_ns);

	void *slot = depot_get_any(depot);

	if (depot->wait.config.policy == WEIRI_WAIT_NOTIFY) {
		if (slot == NULL)
			weiri_wait_failed(depot);
		else /* what this call had in hand looked like use to a free */
			weiri_wait_freed(depot);
	}
	return slot;
}

void *
weiri_depot_get_slow(struct weiri_depot *depot)
{
	return weiri_depot_get_within(depot, depot->wait.config.timeout_ns);
}

/* ---- put ---------------------------------------------------------------- */

static void
depot_put_locked(struct weiri_depot *depot, void *slot)
{
	bool rested;

	weiri_mutex_lock(&depot->lock);
	rested = weiri_stock_rest(depot, slot);
	weiri_pages_note_idle();
	weiri_stock_update(depot);
	weiri_mutex_unlock(&depot->lock);
	if (!rested)
		weiri_stock_report(depot, slot);
}

void
weiri_depot_put_slow(struct weiri_depot *depot, void *slot)
{
	if (depot->wait.config.policy == WEIRI_WAIT_TURN) {
		weiri_wait_put(depot, slot);
		return;
	}

	if (WEIR_UNLIKELY(weiri_guard_bare(depot->guard))) {
		weiri_depot_lay_bare(depot);
		depot_put_locked(depot, slot);
		return;
	}

	struct weir_local *local =
	    depot->cell != WEIRI_CELL_NONE ? weiri_local_own() : NULL;

	if (local == NULL) {
		depot_put_locked(depot, slot);
		return;
	}

	uintptr_t **cell = &local->cursor[depot->cell];

	if (weiri_cell_push(cell, slot))
		return;

	uint32_t outer = weiri_local_begin(local, depot->cell);

	if (!weiri_room_make(depot, local) || !weiri_cell_push(cell, slot))
		depot_put_locked(depot, slot);
	weiri_local_end(local, outer);
}
