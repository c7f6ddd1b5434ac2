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
 * A count of requests shares its word with the rounds of the magazine the
 * cursor is in, for those who may not look into that magazine.  56 bits last
 * for two years of a request a nanosecond, and only statistics read either.
 */
#define WEIRI_REQUESTS_BITS 56

struct weir_local {
	/* Hot: written by the owner only, read by statistics. */
	uintptr_t *cursor[WEIRI_CELLS];
	/* Taken by exchange, by the owner or by a thief; see magazine.h. */
	uintptr_t spare[WEIRI_CELLS];
	/* Written by the owner; counted for depots that count. */
	uint64_t requests[WEIRI_CELLS];
	struct weiri_list link;
	uint32_t under_way; /* cell of the slow call the thread is in, or 0 */
	uint32_t padding0;
	uint64_t round; /* of maintain.c, when the thread saw to its cells */
	uint64_t padding[28];
};

static_assert(sizeof(struct weir_local) == 16384, "fills a metadata class");
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
	return (unsigned)(requests >> WEIRI_REQUESTS_BITS);
}

/*
 * Around what moves magazines: what a thread had in its hands at a fork is lost
 * to the child, which counts it.  A call within another, from a hook, is named
 * instead of it; the outer one then holds nothing but an empty magazine.
 */
WEIRI_INLINE uint32_t
weiri_local_begin(struct weir_local *local, uint32_t cell)
{
	uint32_t outer = local->under_way;

	WEIRI_STORE(&local->under_way, cell);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	return outer;
}

WEIRI_INLINE void
weiri_local_end(struct weir_local *local, uint32_t outer)
{
	/* Pairs with fork(): a child that sees this sees where all went. */
	__atomic_store_n(&local->under_way, outer, __ATOMIC_RELEASE);
}

/* Gives the calling thread's cell a cursor. */
WEIRI_INLINE void
weiri_local_load(struct weir_local *local, uint32_t cell, uintptr_t *cursor)
{
	uint64_t rounds = weiri_magazine_rounds(weiri_cursor_magazine(cursor));

	WEIRI_STORE(&local->requests[cell],
	    weiri_requests_count(local->requests[cell]) |
		rounds << WEIRI_REQUESTS_BITS);
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

/* Counts passes of maintain.c; atomic. */
extern uint64_t weiri_local_round;

/* The calling thread gives back its magazines of depots that it has not used
 * since its last call of this. */
void weiri_local_shed(void);

/* Enters a depot: sets its index (1 ..) and cell; false when all are taken. */
bool weiri_local_enter(struct weiri_depot *depot, bool wants_cell);
void weiri_local_leave(uint16_t index);

/* Around fork(): holds the list and every depot; the child takes over what the
 * threads that do not exist in it held. */
void weiri_local_fork_lock(void);
void weiri_local_fork_unlock(void);
void weiri_local_fork_child(void);

#endif /* WEIRI_LOCAL_H */
