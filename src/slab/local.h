/* SPDX-License-Identifier: MIT */
/*
 * local.h - what one thread owns: a cursor and a spare magazine per depot.
 */
#ifndef WEIRI_LOCAL_H
#define WEIRI_LOCAL_H

#include "base/list.h"
#include "slab/magazine.h"

#include <weir/local.h>

struct weiri_depot;

/*
 * Depots with an index below this have a cell in every thread; the struct then
 * fills four pages, of which a thread touches what it uses.  Depots beyond it
 * work, through their lock.  Cell 0 belongs to no depot and keeps its cursor at
 * the dummy for ever.
 */
#define WEIRI_CELLS WEIR_ABI_CELLS
#define WEIRI_CELL_NONE 0

/*
 * A count of requests shares its word with a countdown, which the same addition
 * moves, and with the rounds of the magazine the cursor is in, for those who may
 * not look into that magazine.
 *
 *      63        48 47      41 40                    0
 *     +------------+----------+-----------------------+
 *     | countdown  |  rounds  |  requests             |
 *     +------------+----------+-----------------------+
 *
 * When the countdown wraps to 0 the addition carries, which sends the request to
 * the slow path, where it is wound up again and what it was for is done.  That is
 * each 65,535 requests at the latest, and then a count that comes near its end
 * moves into the depot's.
 */
#define WEIRI_REQUESTS_BITS WEIR_ABI_REQUESTS_BITS
#define WEIRI_COUNTDOWN_SHIFT WEIR_ABI_COUNTDOWN_SHIFT
#define WEIRI_REQUESTS_FULL ((uint64_t)1 << (WEIRI_REQUESTS_BITS - 1))

/* A slow call that a thread is in. */
struct weiri_local_call {
	uint32_t cell;
	uint32_t slots; /* in its hands at most; 0: a magazine of the depot */
};

/* Calls within calls, from hooks; deeper ones are not told. */
#define WEIRI_LOCAL_CALLS 8

struct weir_local {
	/* Hot: written by the owner only, read by statistics. */
	uintptr_t *cursor[WEIRI_CELLS];
	/* Taken by exchange, by the owner or by a thief; see magazine.h. */
	uintptr_t spare[WEIRI_CELLS];
	/* Written by the owner; counted for depots that count. */
	uint64_t requests[WEIRI_CELLS];
	/* The owner's only: what is most likely at the cursor; see heap_pop(). */
	uintptr_t newest[WEIRI_CELLS];
	struct weiri_list link;
	uint64_t round; /* of maintain.c, when the thread saw to its cells */
	struct weiri_local_call call[WEIRI_LOCAL_CALLS]; /* outermost first */
	uint32_t calls; /* how many of them are under way */
	/* A call without hooks, of the cell at that offset; see local_copy. */
	uint32_t copy_offset, copy_slots;
	uint32_t padding0;
	uint64_t padding[115];
};

static_assert(sizeof(struct weir_local) == 16384, "fills a metadata class");
/* By where words lie in a page processors tell loads from the stores before
 * them: those of one cell, and of cells near it, lie apart there. */
static_assert(WEIRI_CELLS * sizeof(uint64_t) % 4096 == 4096 - 256,
    "32 cells from one array to the next");
static_assert(
    offsetof(struct weir_local, cursor) == 0 &&
	offsetof(struct weir_local, requests) == WEIR_ABI_REQUESTS_OFFSET,
    "compiled into programs: a change takes a new WEIR_ABI");

/* The state of a thread that has none yet, or none any more. */
extern struct weir_local weiri_local_none;

extern __thread struct weir_local *weiri_local_tls
    __attribute__((tls_model("initial-exec"), visibility("hidden")));

WEIRI_INLINE uint64_t
weiri_requests_count(uint64_t requests)
{
	return requests & ((UINT64_C(1) << WEIRI_REQUESTS_BITS) - 1);
}

WEIRI_INLINE unsigned
weiri_requests_rounds(uint64_t requests)
{
	return (unsigned)(requests >> WEIRI_REQUESTS_BITS) &
	       ((1u << (WEIRI_COUNTDOWN_SHIFT - WEIRI_REQUESTS_BITS)) - 1);
}

/* The countdown at its end, which an addition of many went past. */
WEIRI_INLINE uint64_t
weiri_requests_end(uint64_t requests)
{
	return requests & ((UINT64_C(1) << WEIRI_COUNTDOWN_SHIFT) - 1);
}

/* The countdown as it is to be for @left more requests, 1 .. 65,535. */
WEIRI_INLINE uint64_t
weiri_requests_wind(uint64_t requests, uint64_t left)
{
	return weiri_requests_end(requests) | (0 - left)
						  << WEIRI_COUNTDOWN_SHIFT;
}

/*
 * Around what moves slots: what a thread had in its hands at a fork is lost to
 * the child, which counts it.  Hooks in between make calls of their own.
 */
WEIRI_INLINE uint32_t
weiri_local_begin(struct weir_local *local, uint32_t cell)
{
	uint32_t outer = local->calls;

	if (WEIR_LIKELY(outer < WEIRI_LOCAL_CALLS)) {
		WEIRI_STORE(&local->call[outer].cell, cell);
		WEIRI_STORE(&local->call[outer].slots, 0);
	}
	__atomic_store_n(&local->calls, outer + 1, __ATOMIC_RELEASE);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	return outer;
}

/* The innermost call has, or is about to have, @slots slots in its hands. */
WEIRI_INLINE void
weiri_local_carry(struct weir_local *local, size_t slots)
{
	uint32_t call = local->calls - 1;

	if (WEIR_LIKELY(call < WEIRI_LOCAL_CALLS))
		WEIRI_STORE(&local->call[call].slots,
		    slots < UINT32_MAX ? (uint32_t)slots : UINT32_MAX);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

/* Around copying @slots slots from or to the magazine of the cell at @offset:
 * cheap, and with nothing in between that calls anybody. */
WEIRI_INLINE void
weiri_local_copy(struct weir_local *local, uint32_t offset, size_t slots)
{
	WEIRI_STORE(&local->copy_offset, offset);
	WEIRI_STORE(&local->copy_slots, (uint32_t)slots);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

WEIRI_INLINE void
weiri_local_copied(struct weir_local *local)
{
	__atomic_store_n(&local->copy_slots, 0, __ATOMIC_RELEASE);
}

WEIRI_INLINE void
weiri_local_end(struct weir_local *local, uint32_t outer)
{
	/* Pairs with fork(): a child that sees this sees where all went. */
	__atomic_store_n(&local->calls, outer, __ATOMIC_RELEASE);
}

/* Gives the calling thread's cell a cursor. */
WEIRI_INLINE void
weiri_local_load(struct weir_local *local, uint32_t cell, uintptr_t *cursor)
{
	uint64_t rounds = weiri_magazine_rounds(weiri_cursor_magazine(cursor));

	uint64_t requests = local->requests[cell];

	requests -= (uint64_t)weiri_requests_rounds(requests)
		    << WEIRI_REQUESTS_BITS;
	WEIRI_STORE(
	    &local->requests[cell], requests + (rounds << WEIRI_REQUESTS_BITS));
	WEIRI_STORE(&local->cursor[cell], cursor);
}

/* Never NULL; &weiri_local_none has every cursor at the dummy. */
WEIRI_INLINE struct weir_local *
weiri_local(void)
{
	return weiri_local_tls;
}

/* The calling thread's own state, made on first use; NULL when the thread is
 * past its exit hook or there is no memory: use the depot's lock instead. */
struct weir_local *weiri_local_own(void);

/* ---- all threads ------------------------------------------------------ */

/* Guards the list of threads and the table of depots.  Rank: above every depot
 * lock. */
void weiri_local_lock(void);
void weiri_local_unlock(void);

#define WEIRI_LOCAL_FOR(local)                                              \
	for (struct weir_local *local = weiri_local_first(); local != NULL; \
	     local = weiri_local_next(local))

/* Under weiri_local_lock(). */
struct weir_local *weiri_local_first(void);
struct weir_local *weiri_local_next(const struct weir_local *local);

/* The first depot at or above *index, kept from ending until it is unpinned;
 * *index is its own then.  NULL: there is none. */
struct weiri_depot *weiri_local_pin(uint32_t *index);
void weiri_local_unpin(struct weiri_depot *depot);
/* Waits until nobody has the depot pinned, and keeps them off. */
void weiri_local_evict(struct weiri_depot *depot);

/* Counts passes of maintain.c, and recalls; atomic. */
extern uint64_t weiri_local_round;

/* The calling thread gives back its magazines of depots that it has not used
 * since its last call of this, or that were recalled since. */
void weiri_local_shed(void);

/* Every thread's magazines of a depot, or of all, are due at its next shed. */
void weiri_local_recall(struct weiri_depot *depot);
void weiri_local_recall_all(void);

/* Enters a depot: sets its index (1 ..) and cell; false when all are taken. */
bool weiri_local_enter(struct weiri_depot *depot, bool wants_cell);
void weiri_local_leave(uint16_t index);

/* Around fork(): holds the list and every depot; the child takes over what the
 * threads that do not exist in it held. */
void weiri_local_fork_lock(void);
void weiri_local_fork_unlock(void);
void weiri_local_fork_child(void);

/* In the child, under no lock: reports what was wrong with that, if anything. */
void weiri_local_fork_tell(void);

#endif /* WEIRI_LOCAL_H */
