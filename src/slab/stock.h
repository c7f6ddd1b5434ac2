/* SPDX-License-Identifier: MIT */
/*
 * stock.h - between depot.c and stock.c: what the depot's lock guards.
 */
#ifndef WEIRI_STOCK_H
#define WEIRI_STOCK_H

#include "slab/depot.h"

/* For trips: one that finds the lock taken is counted. */
WEIRI_INLINE void
weiri_stock_lock(struct weiri_depot *depot)
{
	if (WEIR_LIKELY(weiri_mutex_try(&depot->lock)))
		return;
	weiri_mutex_lock(&depot->lock);
	WEIRI_BUMP(&depot->window_waits, 1);
}

/* A magazine smaller than this is loaded only if a limit leaves no more. */
#define WEIRI_ROUNDS_LIMITED_MIN 8

enum weiri_stock_find {
	WEIRI_STOCK_NOTHING,
	WEIRI_STOCK_MAGAZINE, /* full, unless stolen from a thread that waits */
	WEIRI_STOCK_SLOTS,
};

/*
 * Finds slots for a get, and their number in *taken: a whole magazine in *full,
 * or up to @count slots in @into.  Grows, then steals, before it gives up.
 */
enum weiri_stock_find weiri_stock_supply(struct weiri_depot *depot,
    uintptr_t *into, size_t count, size_t *taken, struct weiri_magazine **full);

/* As above, into the empty magazine @hand, which is left to the stock when a
 * full one is found.  Whatever is found counts as a miss. */
enum weiri_stock_find weiri_stock_exchange(struct weiri_depot *depot,
    struct weiri_magazine *hand, size_t *taken, struct weiri_magazine **full);

/* Does the limit leave room for another slot? */
bool weiri_stock_may_grow(struct weiri_depot *depot);
/* A new slab, unless there is no memory: then false.  True if it is worth
 * looking again.  Runs hooks; no lock. */
bool weiri_stock_grow(struct weiri_depot *depot);

/* Runs slot_init; no lock. */
void weiri_stock_init_slots(
    struct weiri_depot *depot, const uintptr_t *words, size_t count);

/* Locked: lets a slot rest; false if it does already or is none of ours. */
bool weiri_stock_rest(struct weiri_depot *depot, void *slot);

/* What stands for an object under guard that was freed like a slot, and ends so;
 * NULL for all else.  With or without the lock. */
WEIRI_COLD void *weiri_stock_unguard(struct weiri_depot *depot, void *address);

/* Locked: rests slots first .. last; returns one that could not, or NULL. */
void *weiri_stock_rest_all(
    struct weiri_depot *depot, const uintptr_t *first, const uintptr_t *last);

/*
 * A full magazine comes in.  A depot that verifies looks at each slot: one that
 * is none of its own, or lies in the stock already, was freed wrongly, and is
 * reported; then the magazine is dropped, its other slots being lost, since
 * nobody knows which of them are true.  Returns an empty one, or NULL if there
 * is none: who gives a full one away wants that next.
 */
struct weiri_magazine *weiri_stock_put_magazine(
    struct weiri_depot *depot, struct weiri_magazine *full);

/* Of a magazine that went out, before anything uses it: its slots are no longer
 * with the depot.  Returns one that was not, having come in twice, or one whose
 * memory was written to meanwhile, or NULL.
 * The second fetches them into the processor's cache as well. */
void *weiri_stock_unmark_for_use(
    const struct weiri_depot *depot, struct weiri_magazine *full);
void *weiri_stock_unmark(
    const struct weiri_depot *depot, struct weiri_magazine *full);

/* Of a full magazine in a depot with a secret: a slot that was written to since it
 * was freed, or NULL. */
void *weiri_stock_find_written(
    const struct weiri_depot *depot, struct weiri_magazine *full);

/* Locked: onto the list. */
WEIRI_INLINE void
weiri_stock_list_full(struct weiri_depot *depot, struct weiri_magazine *full)
{
	WEIRI_BUMP(&depot->full_slots, weiri_magazine_rounds(full));
	depot->full_count++;
	weiri_magazine_push(&depot->full_list, full);
}

/* Locked: an empty magazine comes in, or leaves; NULL if there is none. */
WEIRI_INLINE void
weiri_stock_push_empty(struct weiri_depot *depot, struct weiri_magazine *empty)
{
	weiri_magazine_push(&depot->empty_list, empty);
	depot->empty_count++;
}

WEIRI_INLINE struct weiri_magazine *
weiri_stock_pop_empty(struct weiri_depot *depot)
{
	struct weiri_magazine *empty = weiri_magazine_pop(&depot->empty_list);

	depot->empty_count -= empty != NULL;
	weiri_decay_note(&depot->empty_decay, depot->empty_count);
	return empty;
}

/* Locked: a new slab enters, with what rests in it. */
void weiri_stock_list_slab(struct weiri_depot *depot, struct weiri_slab *slab);

/* Locked: a slab with every slot at rest leaves, or NULL if there is none. */
struct weiri_slab *weiri_stock_unlist_slab(struct weiri_depot *depot);

/* Locked: takes a magazine off the list of full ones; NULL if there is none. */
struct weiri_magazine *weiri_stock_pop_full(struct weiri_depot *depot);

/* Locked: a full magazine that left the list empties into the slabs; returns a
 * slot that could not rest, or NULL. */
void *weiri_stock_unpack(
    struct weiri_depot *depot, struct weiri_magazine *full);

/* Threads' spares move into the stock: all, or those that were there when this
 * was called last.  Returns a slot that could not rest, or NULL. */
void *weiri_stock_gather_spares(struct weiri_depot *depot, bool all);

/* Locked: recomputes `outside` after any of its terms changed. */
void weiri_stock_update(struct weiri_depot *depot);

/*
 * A lower bound of the gets, from what moves anyway.  A magazine loaded by a get
 * with n slots that is next found empty proves n gets.  Where it leaves its
 * thread with slots still in it, those prove nothing and are taken back; n lies
 * in the magazine's word 0.
 */
WEIRI_INLINE void
weiri_stock_note_given(
    struct weiri_depot *depot, struct weiri_magazine *magazine, size_t slots)
{
	weiri_magazine_set_given(magazine, slots);
	__atomic_fetch_add(&depot->given, slots, __ATOMIC_RELAXED);
}

WEIRI_INLINE void
weiri_stock_take_back(struct weiri_depot *depot,
    const struct weiri_magazine *magazine, size_t slots)
{
	size_t given = weiri_magazine_given(magazine);

	__atomic_fetch_sub(
	    &depot->given, given < slots ? given : slots, __ATOMIC_RELAXED);
}

/* In the child of a fork: counts afresh what may have been torn. */
void weiri_stock_recount_spares(struct weiri_depot *depot);

/* After so many misses the rounds of magazines are thought over; rounds.c. */
#define WEIRI_WINDOW_TRIPS 16

/* Locked: a get that came to the lock. */
WEIRI_INLINE void
weiri_stock_count_miss(struct weiri_depot *depot)
{
	depot->misses++;
	WEIRI_BUMP(&depot->window_trips, 1);
}

/* After a magazine went to a get. */
void weiri_stock_note_peak(struct weiri_depot *depot);

/* For depots that count: a request; @local is NULL for a thread without cells.
 * For all: a get that came to the lock, and how it ended. */
void weiri_depot_note_request(
    struct weiri_depot *depot, struct weir_local *local);
void weiri_depot_note_miss(struct weiri_depot *depot, bool refused);

/* A visit to the stock that got @count slots at once, and one that is counted
 * already but got none; @local is NULL for a thread without cells. */
void weiri_depot_note_bulk(
    struct weiri_depot *depot, struct weir_local *local, size_t count);
void weiri_depot_note_refusal(
    struct weiri_depot *depot, struct weir_local *local);

/* A slot that could not rest or be stocked: no lock, does not return. */
WEIRI_COLD WEIRI_NORETURN void weiri_stock_report(
    const struct weiri_depot *depot, const void *slot);

/* Ends slabs that are in no list of a depot; their bytes. */
size_t weiri_stock_close_slabs(struct weiri_list *slabs);

void weiri_stock_free_magazines(struct weiri_magazine *list);

WEIRI_INLINE void
weiri_stock_free_magazine(struct weiri_magazine *magazine)
{
	weiri_meta_free(magazine, WEIRI_MAGAZINE_BYTES);
}

/* Spares came to be, with that many slots, or went. */
WEIRI_INLINE void
weiri_stock_spares(struct weiri_depot *depot, int64_t change)
{
	/* Pockets change at every call; a shared count would undo them. */
	if (depot->wait.config.policy != WEIRI_WAIT_TURN)
		__atomic_fetch_add(
		    &depot->spare_slots, change, __ATOMIC_RELAXED);
}

/* A magazine of that many rounds is no longer loaded. */
WEIRI_INLINE void
weiri_stock_loose(struct weiri_depot *depot, unsigned rounds)
{
	__atomic_fetch_sub(&depot->withheld, rounds, __ATOMIC_RELAXED);
}

#endif /* WEIRI_STOCK_H */
