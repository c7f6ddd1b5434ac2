/* SPDX-License-Identifier: MIT */
/*
 * room.c - room for what a thread puts into its full magazine.
 *
 * Narrow:  the full magazine becomes the spare, and an empty one is loaded.  The
 *          spare before it goes to the depot, if it had slots.
 *
 *              loaded  ssssssss       loaded  ........
 *              spare   ........  -->  spare   ssssssss
 *
 * Two magazines let a thread go up and down by one of them without a lock, but
 * not without an edge: who takes four and puts four, with magazines of four, has
 * an edge in every turn unless he began at one.  An edge costs some hundred
 * instructions, eight locked ones among them, which is nothing where a magazine
 * has 126 slots.  Where slots are large it has few, and a thread that comes to
 * edges so often (rounds.c) is given both magazines in one:
 *
 * Wide:    a loaded magazine of up to twice as many rounds, and no spare with
 *          slots.  It is filled by half, and when it is full half of it goes to
 *          the depot, the older one: it is as far to an edge as before, and one
 *          magazine of calls lies between two visits, whatever the pattern.
 *
 *              loaded  ssssssss  -->  loaded  ssss....
 *              spare   none           spare   none; ssss to the depot
 *
 * Either way a thread holds two narrow magazines' worth.  What others cannot
 * take is twice as much: limits count it as what it is (rounds.c).
 *
 * Invariant:
 *
 *   R1  A thread loads a wide magazine when its spare has no slots, and gives
 *       its spare slots when what it loads is narrow.
 *
 * A fork's child finds each slot in one place, or counts it as carried: slots are
 * copied to where nobody looks before one store of the cursor has them there, or
 * after it has them no longer.
 */
#include "slab/room.h"

#include "base/bits.h"
#include "slab/stock.h"

#include <string.h>

/* ---- empty magazines ---------------------------------------------------- */

static struct weiri_magazine *
room_magazine_new(const struct weiri_depot *depot)
{
	struct weiri_magazine *magazine =
	    weiri_meta_alloc(WEIRI_MAGAZINE_BYTES);

	if (magazine != NULL)
		weiri_magazine_resize(magazine, depot->rounds_max);
	return magazine;
}

struct weiri_magazine *
weiri_room_find(struct weiri_depot *depot, struct weir_local *local)
{
	uintptr_t *spare = &local->spare[depot->cell];
	uintptr_t seen = WEIRI_LOAD(spare);
	struct weiri_magazine *empty;

	/* Thieves take full spares only: an empty one is the owner's alone. */
	if (seen != 0 && weiri_spare_count(seen) == 0) {
		WEIRI_STORE(spare, 0);
		return weiri_spare_magazine(seen);
	}
	weiri_mutex_lock(&depot->lock);
	empty = weiri_stock_pop_empty(depot);
	weiri_mutex_unlock(&depot->lock);
	return empty != NULL ? empty : room_magazine_new(depot);
}

void
weiri_room_leave(struct weiri_depot *depot, struct weiri_magazine *empty)
{
	weiri_mutex_lock(&depot->lock);
	weiri_stock_push_empty(depot, empty);
	weiri_mutex_unlock(&depot->lock);
}

/* The thread's next; or NULL. */
static void
room_keep(struct weiri_depot *depot, struct weir_local *local,
    struct weiri_magazine *empty)
{
	uintptr_t *spare = &local->spare[depot->cell];

	if (empty == NULL)
		return;
	if (WEIRI_LOAD(spare) == 0)
		WEIRI_STORE(spare, weiri_spare_word(empty, 0));
	else
		weiri_room_leave(depot, empty);
}

/* ---- what is loaded ------------------------------------------------------ */

static bool
room_has_spare(const struct weiri_depot *depot, const struct weir_local *local)
{
	return weiri_spare_count(WEIRI_LOAD(&local->spare[depot->cell])) != 0;
}

unsigned
weiri_room_withhold(struct weiri_depot *depot, struct weir_local *local)
{
	unsigned rounds = weiri_rounds_withhold(depot);

	if (weiri_room_wide(depot, rounds) && room_has_spare(depot, local)) {
		weiri_stock_loose(depot, rounds - depot->rounds_max);
		rounds = depot->rounds_max;
	}
	return rounds;
}

/*
 * While the thread was in the page supply an OOM hook may have freed objects of
 * this very depot; the magazine they are in gives way.
 */
void
weiri_room_load(
    struct weiri_depot *depot, struct weir_local *local, uintptr_t *cursor)
{
	uintptr_t *other = local->cursor[depot->cell];
	void *bad = NULL;

	weiri_local_load(local, depot->cell, cursor);
	if (WEIR_LIKELY(other == WEIRI_CURSOR_DUMMY))
		return;

	struct weiri_magazine *magazine = weiri_cursor_magazine(other);

	weiri_stock_take_back(depot, magazine, weiri_cursor_count(other));
	weiri_stock_loose(depot, weiri_magazine_rounds(magazine));
	weiri_mutex_lock(&depot->lock);
	bad = weiri_stock_rest_all(
	    depot, weiri_magazine_bottom(magazine) + 1, other);
	weiri_stock_update(depot);
	weiri_mutex_unlock(&depot->lock);
	weiri_room_leave(depot, magazine);
	if (bad != NULL)
		weiri_stock_report(depot, bad);
}

void
weiri_room_widen(struct weiri_magazine *full, unsigned rounds, size_t count)
{
	const uintptr_t *first = weiri_magazine_bottom(full) + 1;

	weiri_magazine_resize(full, rounds);
	memmove(weiri_magazine_bottom(full) + 1, first, count * sizeof(*first));
}

/* ---- wide ---------------------------------------------------------------- */

/* The narrow magazine gives way to @empty, made wide, and is the spare. */
static void
room_widen_loaded(struct weiri_depot *depot, struct weir_local *local,
    unsigned rounds, struct weiri_magazine *empty)
{
	struct weiri_magazine *full =
	    weiri_cursor_magazine(local->cursor[depot->cell]);
	unsigned has = weiri_magazine_rounds(full);
	uintptr_t *bottom;

	weiri_magazine_resize(empty, rounds);
	weiri_magazine_set_given(empty, weiri_magazine_given(full));
	bottom = weiri_magazine_bottom(empty);
	memcpy(
	    bottom + 1, weiri_magazine_bottom(full) + 1, has * sizeof(*bottom));
	weiri_local_load(local, depot->cell, bottom + has);
	room_keep(depot, local, full);
}

/* The newer half of the wide magazine moves to @empty, which is loaded; what is
 * left goes to the depot. */
static void
room_split(struct weiri_depot *depot, struct weir_local *local,
    struct weiri_magazine *empty)
{
	struct weiri_magazine *full =
	    weiri_cursor_magazine(local->cursor[depot->cell]);
	unsigned rounds = weiri_magazine_rounds(full);
	unsigned goes = rounds / 2, stays = rounds - goes;
	const uintptr_t *first = weiri_magazine_bottom(full) + 1;
	uintptr_t *bottom;

	weiri_magazine_resize(empty, rounds);
	bottom = weiri_magazine_bottom(empty);
	memcpy(bottom + 1, first + goes, stays * sizeof(*bottom));
	weiri_stock_take_back(depot, full, rounds);
	weiri_local_load(local, depot->cell, bottom + stays);
	memcpy(
	    weiri_magazine_top(full) - goes + 1, first, goes * sizeof(*first));
	weiri_magazine_resize(full, goes);
	room_keep(depot, local, weiri_stock_put_magazine(depot, full));
	weiri_pages_note_idle();
}

/* All of the thread's slots rest; always false. */
static WEIRI_COLD bool
room_give_up(struct weiri_depot *depot, struct weir_local *local)
{
	void *bad = weiri_depot_adopt(depot, local);

	if (bad != NULL)
		weiri_stock_report(depot, bad);
	return false;
}

/* The full magazine is wide, or is to be; false: there is nothing wide about it,
 * nor is there any more. */
static bool
room_make_wide(struct weiri_depot *depot, struct weir_local *local)
{
	uintptr_t *cursor = local->cursor[depot->cell];
	unsigned has = weiri_magazine_rounds(weiri_cursor_magazine(cursor));
	bool is_wide = weiri_room_wide(depot, has);
	unsigned wants = is_wide ? has : WEIRI_LOAD(&depot->rounds);
	struct weiri_magazine *empty;

	if (!weiri_room_wide(depot, wants) ||
	    (!is_wide && room_has_spare(depot, local)))
		return false;
	empty = weiri_room_find(depot, local);
	/* An OOM hook may have used the depot, or trimmed it. */
	if (WEIR_UNLIKELY(local->cursor[depot->cell] != cursor)) {
		room_keep(depot, local, empty);
		return !weiri_cursor_full(local->cursor[depot->cell]) ||
		       room_give_up(depot, local);
	}
	/* Without room in memory, or in a limit that was lowered, a wide one is
	 * no spare. */
	if (empty == NULL || !weiri_rounds_change(depot, has, wants)) {
		room_keep(depot, local, empty);
		return is_wide && room_give_up(depot, local);
	}
	if (is_wide)
		room_split(depot, local, empty);
	else
		room_widen_loaded(depot, local, wants, empty);
	return true;
}

/* ---- narrow -------------------------------------------------------------- */

/*
 * The thread's full magazine becomes its spare.  Returns the spare before it if
 * that was empty; for a full one the depot gives an empty one, if it has any.
 */
static struct weiri_magazine *
room_retire_full(struct weiri_depot *depot, struct weir_local *local)
{
	uintptr_t **cell = &local->cursor[depot->cell];
	struct weiri_magazine *full = weiri_cursor_magazine(*cell);
	unsigned rounds = weiri_magazine_rounds(full);

	weiri_stock_take_back(depot, full, rounds);
	weiri_stock_loose(depot, rounds);
	weiri_local_load(local, depot->cell, WEIRI_CURSOR_DUMMY);

	uintptr_t before = __atomic_exchange_n(&local->spare[depot->cell],
	    weiri_spare_word(full, rounds), __ATOMIC_ACQ_REL);

	/* Once it is there: who counted before finds it, or counts again. */
	weiri_pages_note_idle();
	weiri_stock_spares(
	    depot, (int64_t)rounds - (int64_t)weiri_spare_count(before));
	if (weiri_spare_count(before) == 0)
		return weiri_spare_magazine(before);
	return weiri_stock_put_magazine(depot, weiri_spare_magazine(before));
}

bool
weiri_room_make(struct weiri_depot *depot, struct weir_local *local)
{
	uintptr_t **cell = &local->cursor[depot->cell];
	struct weiri_magazine *empty = NULL;

	if (*cell != WEIRI_CURSOR_DUMMY && room_make_wide(depot, local))
		return true;
	if (*cell != WEIRI_CURSOR_DUMMY)
		empty = room_retire_full(depot, local);
	if (empty == NULL)
		empty = weiri_room_find(depot, local);
	if (empty == NULL)
		return false;

	unsigned rounds = weiri_room_withhold(depot, local);

	if (rounds == 0) {
		weiri_room_leave(depot, empty);
		return false;
	}
	weiri_magazine_resize(empty, rounds);
	weiri_room_load(depot, local, weiri_magazine_bottom(empty));
	return true;
}
