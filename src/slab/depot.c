/* SPDX-License-Identifier: MIT */
/*
 * depot.c - where threads exchange magazines, and slabs fill them.
 *
 *   get:  own magazine -> own spare -> the depot's stock (stock.c)
 *   put:  own magazine -> own empty spare -> the full spare goes to the depot
 *
 * A thread holds two magazines, loaded and spare.  With one, a caller that
 * alternates at its edge would take the lock on every other call; with two, a
 * magazine of calls lies between two visits, whatever the pattern (Bonwick and
 * Adams, 2001), unless the stock had less than a magazine to give.  The spare lies in an atomic word, so that other
 * threads can take it: exhaustion, trim and thread exit work by taking spares.
 *
 * Invariants (weiri_depot_check() tests them on a quiet depot):
 *
 *   D1  A slot is in one place only: with a caller, in a magazine, or resting
 *       in its slab.
 *   D2  carved, resting, full_count, empty_count and outside equal what a walk
 *       over slabs and lists counts; carved <= limit.
 *   D3  partial holds exactly the slabs with a slot to give.
 *   D4  Magazines in full_list hold `rounds` slots, in empty_list none.
 *   D5  A depot that verifies: a slot's state byte says STOCKED exactly while
 *       the slot rests or lies in a magazine of full_list.
 *   D6  outside - spare_full * rounds, the slots that may be in use, was never
 *       above `peak` when a magazine was handed to a get.
 *
 * The lock is a leaf: no hook, no page request, no other lock under it.
 * Memory order: a slot that changes threads does so through the depot's lock,
 * or through a spare, exchanged with acquire-release on both sides.
 */
#include "base/bits.h"
#include "pages/budget.h"
#include "slab/cursor.h"
#include "slab/stock.h"

#include <errno.h>

/* Below this many bytes a magazine trip costs more than it carries; above, a
 * thread would hold too much in its two: 4 to 126 slots. */
#define DEPOT_MAGAZINE_BYTES ((size_t)32 << 10)
#define DEPOT_ROUNDS_MIN 4

/* A limited depot has magazines only where they are worth having. */
#define DEPOT_ROUNDS_LIMITED_MIN 8

/*
 * What an idle thread's loaded magazine withholds, nobody can take.  A limited
 * depot therefore gives each magazine this part of the limit at most, and where
 * that would be less than a magazine worth having, none: every call takes the
 * lock, and no slot is out of reach.
 */
#define DEPOT_LIMIT_SHARE 64

#define DEPOT_SLAB_BYTES_MIN ((size_t)64 << 10)
#define DEPOT_SLAB_SLOTS_MIN 4

/* ---- magazines ---------------------------------------------------------- */

static struct weiri_magazine *
depot_magazine_new(const struct weiri_depot *depot)
{
	struct weiri_magazine *magazine =
	    weiri_meta_alloc(WEIRI_MAGAZINE_BYTES);

	if (magazine != NULL)
		*weiri_magazine_bottom(magazine, depot->rounds) =
		    WEIRI_MAGAZINE_TAG;
	return magazine;
}

/* ---- get ---------------------------------------------------------------- */

/* A get that came to the lock: how it ended. */
static void
depot_count_miss(struct weiri_depot *depot, bool refused)
{
	weiri_mutex_lock(&depot->lock);
	depot->misses++;
	depot->failures += refused;
	weiri_mutex_unlock(&depot->lock);
}

/* Takes one slot of a magazine that is nobody's; the rest goes to the slabs. */
static void *
depot_break_magazine(struct weiri_depot *depot, struct weiri_magazine *full)
{
	uintptr_t *top = weiri_magazine_top(full);
	uintptr_t *bottom = weiri_magazine_bottom(full, depot->rounds);
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
		slot = depot_break_magazine(depot, full);
		break;
	}
	depot_count_miss(depot, slot == NULL);
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

	if ((WEIRI_LOAD(spare) & WEIRI_SPARE_FULL) == 0)
		return false;

	/* Out of the cell before it is in the spare: never in both. */
	WEIRI_STORE(cell, WEIRI_CURSOR_DUMMY);

	uintptr_t taken = __atomic_exchange_n(spare,
	    old == WEIRI_CURSOR_DUMMY ? 0
				      : (uintptr_t)weiri_cursor_magazine(old),
	    __ATOMIC_ACQ_REL);

	/* A thief was faster; the empty magazine stays the spare. */
	if (taken == 0)
		return false;

	struct weiri_magazine *full =
	    (struct weiri_magazine *)(taken - WEIRI_SPARE_FULL);

	weiri_stock_spares(depot, -1);
	weiri_stock_note_given(depot, full, depot->rounds);
	weiri_stock_note_peak(depot);
	WEIRI_STORE(cell, weiri_magazine_top(full));
	return true;
}

/* An empty magazine: the spare, the depot's, or a new one; NULL: no memory. */
static struct weiri_magazine *
depot_find_empty(struct weiri_depot *depot, struct weir_local *local)
{
	uintptr_t *spare = &local->spare[depot->cell];
	uintptr_t seen = WEIRI_LOAD(spare);
	struct weiri_magazine *empty;

	/* Thieves take full spares only: an empty one is the owner's alone. */
	if (seen != 0 && (seen & WEIRI_SPARE_FULL) == 0) {
		WEIRI_STORE(spare, 0);
		return (struct weiri_magazine *)seen;
	}
	weiri_mutex_lock(&depot->lock);
	empty = weiri_magazine_pop(&depot->empty_list);
	depot->empty_count -= empty != NULL;
	weiri_mutex_unlock(&depot->lock);
	return empty != NULL ? empty : depot_magazine_new(depot);
}

/* Lists an empty magazine nobody needs now. */
static void
depot_put_empty(struct weiri_depot *depot, struct weiri_magazine *empty)
{
	weiri_mutex_lock(&depot->lock);
	weiri_magazine_push(&depot->empty_list, empty);
	depot->empty_count++;
	weiri_mutex_unlock(&depot->lock);
}

/*
 * Makes @cursor the thread's.  While the thread was in the page supply an OOM
 * hook may have freed objects of this very depot; the magazine they are in
 * gives way.
 */
static void
depot_load(
    struct weiri_depot *depot, struct weir_local *local, uintptr_t *cursor)
{
	uintptr_t *other = local->cursor[depot->cell];
	void *bad = NULL;

	WEIRI_STORE(&local->cursor[depot->cell], cursor);
	if (WEIR_LIKELY(other == WEIRI_CURSOR_DUMMY))
		return;

	struct weiri_magazine *magazine = weiri_cursor_magazine(other);

	weiri_stock_take_back(
	    depot, magazine, weiri_cursor_count(other, depot->rounds));
	weiri_mutex_lock(&depot->lock);
	bad = weiri_stock_rest_all(
	    depot, weiri_magazine_bottom(magazine, depot->rounds) + 1, other);
	weiri_stock_update(depot);
	weiri_mutex_unlock(&depot->lock);
	depot_put_empty(depot, magazine);
	if (bad != NULL)
		weiri_stock_report(depot, bad);
}

/*
 * Fills a magazine for the thread and takes one slot from it.  The cell rests
 * at the dummy meanwhile: hooks that run in between find a sound state.
 */
static void *
depot_refill(struct weiri_depot *depot, struct weir_local *local)
{
	uintptr_t **cell = &local->cursor[depot->cell];
	struct weiri_magazine *hand, *full;
	size_t taken = 0;

	if (*cell == WEIRI_CURSOR_DUMMY) {
		hand = depot_find_empty(depot, local);
		if (hand == NULL)
			return depot_get_locked(depot);
	} else {
		hand = weiri_cursor_magazine(*cell);
		WEIRI_STORE(cell, WEIRI_CURSOR_DUMMY);
	}

	uintptr_t *bottom = weiri_magazine_bottom(hand, depot->rounds);

	switch (weiri_stock_supply(
	    depot, bottom + 1, depot->rounds, &taken, &full)) {
	case WEIRI_STOCK_NOTHING:
		depot_put_empty(depot, hand);
		break;
	case WEIRI_STOCK_SLOTS:
		weiri_stock_note_given(depot, hand, taken);
		depot_load(depot, local, bottom + taken);
		break;
	case WEIRI_STOCK_MAGAZINE:
		depot_put_empty(depot, hand);
		weiri_stock_note_given(depot, full, depot->rounds);
		depot_load(depot, local, weiri_magazine_top(full));
		break;
	}

	/* Even without supply: an OOM hook may have freed into the cell. */
	void *slot = weiri_cell_pop(cell);

	depot_count_miss(depot, slot == NULL);
	return slot;
}

/* For depots that count exactly; a thread without cells counts in the depot. */
static void
depot_count_request(struct weiri_depot *depot, struct weir_local *local)
{
	if (local != NULL) {
		WEIRI_BUMP(&local->requests[depot->cell], 1);
		return;
	}
	weiri_mutex_lock(&depot->lock);
	depot->requests_gone++;
	weiri_mutex_unlock(&depot->lock);
}

void *
weiri_depot_get_slow(struct weiri_depot *depot)
{
	struct weir_local *local =
	    depot->cell != WEIRI_CELL_NONE ? weiri_local_own() : NULL;
	void *slot = NULL;

	if (local != NULL) {
		slot = weiri_cell_pop(&local->cursor[depot->cell]);
		if (slot == NULL && depot_swap_in(depot, local))
			slot = weiri_cell_pop(&local->cursor[depot->cell]);
	}
	if (depot->counted)
		depot_count_request(depot, local);
	if (slot != NULL)
		return slot;
	return local != NULL ? depot_refill(depot, local)
			     : depot_get_locked(depot);
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

/*
 * The thread's full magazine becomes its spare.  Returns the spare before it if
 * that was empty; a full one goes to the depot.
 */
static struct weiri_magazine *
depot_retire_full(struct weiri_depot *depot, struct weir_local *local)
{
	uintptr_t **cell = &local->cursor[depot->cell];
	struct weiri_magazine *full = weiri_cursor_magazine(*cell);

	weiri_stock_take_back(depot, full, depot->rounds);
	weiri_pages_note_idle();
	WEIRI_STORE(cell, WEIRI_CURSOR_DUMMY);

	uintptr_t before = __atomic_exchange_n(&local->spare[depot->cell],
	    (uintptr_t)full | WEIRI_SPARE_FULL, __ATOMIC_ACQ_REL);

	if ((before & WEIRI_SPARE_FULL) == 0) {
		weiri_stock_spares(depot, 1);
		return (struct weiri_magazine *)before;
	}
	weiri_stock_put_magazine(
	    depot, (struct weiri_magazine *)(before - WEIRI_SPARE_FULL));
	return NULL;
}

/* Gives the thread an empty magazine to free into; false without memory. */
static bool
depot_make_room(struct weiri_depot *depot, struct weir_local *local)
{
	struct weiri_magazine *empty = NULL;

	if (local->cursor[depot->cell] != WEIRI_CURSOR_DUMMY)
		empty = depot_retire_full(depot, local);
	if (empty == NULL)
		empty = depot_find_empty(depot, local);
	if (empty == NULL)
		return false;
	empty->word[0] = 0;
	depot_load(depot, local, weiri_magazine_bottom(empty, depot->rounds));
	return true;
}

void
weiri_depot_put_slow(struct weiri_depot *depot, void *slot)
{
	struct weir_local *local =
	    depot->cell != WEIRI_CELL_NONE ? weiri_local_own() : NULL;

	if (local == NULL) {
		depot_put_locked(depot, slot);
		return;
	}

	uintptr_t **cell = &local->cursor[depot->cell];

	if (weiri_cell_push(cell, slot))
		return;
	if (!depot_make_room(depot, local) || !weiri_cell_push(cell, slot))
		depot_put_locked(depot, slot);
}

/* ---- creation and end --------------------------------------------------- */

/* The smallest slab that wastes an eighth at most and holds a few slots, else
 * the one that wastes least. */
static size_t
depot_choose_slab_bytes(size_t head_bytes, size_t slot_bytes)
{
	size_t best = WEIRI_SLAB_BYTES_MAX;
	size_t best_waste = SIZE_MAX;

	for (size_t bytes = DEPOT_SLAB_BYTES_MIN; bytes <= WEIRI_SLAB_BYTES_MAX;
	     bytes *= 2) {
		size_t slots = (bytes - head_bytes) / slot_bytes;

		if (slots == 0)
			continue;

		/* Waste as a share of 2^16, comparable over sizes. */
		size_t waste = ((bytes - slots * slot_bytes) << 16) / bytes;

		if (slots >= DEPOT_SLAB_SLOTS_MIN && waste <= (1 << 16) / 8)
			return bytes;
		if (waste < best_waste) {
			best = bytes;
			best_waste = waste;
		}
	}
	return best;
}

static uint16_t
depot_choose_rounds(const struct weiri_depot_config *config)
{
	size_t rounds = config->rounds;

	if (rounds == 0)
		rounds = weiri_max(DEPOT_MAGAZINE_BYTES / config->slot_bytes,
		    DEPOT_ROUNDS_MIN);
	rounds = weiri_min(rounds, config->limit / DEPOT_LIMIT_SHARE);
	rounds = weiri_min(rounds, WEIRI_ROUNDS_MAX);
	return (uint16_t)weiri_max(rounds, 1);
}

int
weiri_depot_init(
    struct weiri_depot *depot, const struct weiri_depot_config *config)
{
	if (config->slot_bytes == 0 ||
	    config->slot_bytes > WEIRI_SLOT_BYTES_MAX ||
	    !weiri_is_pow2(config->slot_align) ||
	    config->slot_bytes % config->slot_align != 0)
		return -EINVAL;

	*depot = (struct weiri_depot){
	    .rounds = depot_choose_rounds(config),
	    .counted = config->counted,
	    .state_bytes = config->state_bytes,
	    .verify = config->verify,
	    .slot_bytes = (uint32_t)config->slot_bytes,
	    .head_bytes = (uint32_t)config->head_bytes,
	    .slot_inverse = ((UINT64_C(1) << WEIRI_INVERSE_SHIFT) +
				config->slot_bytes - 1) /
			    config->slot_bytes,
	    .slab_bytes = config->slab_bytes != 0
			      ? config->slab_bytes
			      : depot_choose_slab_bytes(
				    config->head_bytes, config->slot_bytes),
	    .slot_align = config->slot_align,
	    .slab_slots = config->slab_slots != 0 ? (uint32_t)config->slab_slots
						  : UINT32_MAX,
	    .limit = config->limit,
	    .hooks = config->hooks,
	    .owner = config->owner,
	    .kind = config->kind,
	    .name = config->name,
	};
	weiri_mutex_init(&depot->lock);
	weiri_list_init(&depot->partial);
	weiri_list_init(&depot->full);
	if (!weiri_local_enter(depot, config->limit / DEPOT_LIMIT_SHARE >=
					  DEPOT_ROUNDS_LIMITED_MIN)) {
		weiri_mutex_destroy(&depot->lock);
		return -ENOMEM;
	}
	depot->fast_offset = depot->cell * (uint32_t)sizeof(uintptr_t *);
	return 0;
}

/* Threads that still have magazines of the depot have no use of it in flight
 * and see its successor at this index only through a later call. */
static void
depot_drop_cells(struct weiri_depot *depot)
{
	weiri_local_lock();
	WEIRI_LOCAL_FOR(local)
	{
		uintptr_t **cell = &local->cursor[depot->cell];
		uintptr_t spare = local->spare[depot->cell];

		if (*cell != WEIRI_CURSOR_DUMMY)
			weiri_stock_free_magazine(weiri_cursor_magazine(*cell));
		if (spare != 0)
			weiri_stock_free_magazine(
			    (struct weiri_magazine *)(spare &
						      ~WEIRI_SPARE_FULL));
		WEIRI_STORE(cell, WEIRI_CURSOR_DUMMY);
		WEIRI_STORE(&local->spare[depot->cell], 0);
		WEIRI_STORE(&local->requests[depot->cell], 0);
	}
	weiri_local_unlock();
}

void
weiri_depot_finish(struct weiri_depot *depot)
{
	if (depot->cell != WEIRI_CELL_NONE)
		depot_drop_cells(depot);
	weiri_stock_free_magazines(depot->full_list);
	weiri_stock_free_magazines(depot->empty_list);
	weiri_stock_close_slabs(&depot->partial);
	weiri_stock_close_slabs(&depot->full);
	weiri_local_leave(depot->index);
	weiri_mutex_destroy(&depot->lock);
}

int
weiri_depot_prepare(struct weiri_depot *depot, size_t count)
{
	struct weiri_budget_figures budget;
	size_t made = 0;

	/* Said now rather than after touching all there is. */
	weiri_budget_read(&budget);
	if (count > PTRDIFF_MAX / depot->slot_bytes ||
	    count * depot->slot_bytes > budget.limit_bytes)
		return -ENOMEM;
	while (made < count) {
		struct weiri_slab *slab = weiri_slab_open(depot);

		if (slab == NULL)
			return -ENOMEM;

		size_t fresh = weiri_min(count - made, slab->slot_count);

		/* Best effort: a system without it faults the pages later. */
		(void)weiri_os_prefault(
		    slab->span.base, (size_t)(slab->first - slab->span.base) +
					 fresh * depot->slot_bytes);
		slab->carved = (uint32_t)fresh;
		for (size_t i = 0; i < fresh; i++) {
			uintptr_t word = (uintptr_t)weiri_slab_address(slab, i);

			weiri_stock_init_slots(depot, &word, 1);
			weiri_slab_rest(slab, i);
		}
		weiri_mutex_lock(&depot->lock);
		weiri_list_append(&depot->partial, &slab->link);
		depot->slab_count++;
		depot->carved += fresh;
		depot->resting += fresh;
		weiri_stock_update(depot);
		weiri_mutex_unlock(&depot->lock);
		made += fresh;
	}
	return 0;
}
