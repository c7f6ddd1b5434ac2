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

/* A spare is a whole magazine: full (this bit is set) or empty. */
#define WEIRI_SPARE_FULL ((uintptr_t)1)

struct weir_local {
	/* Hot: written by the owner only, read by statistics. */
	uintptr_t *cursor[WEIRI_CELLS];
	/* Taken by exchange, by the owner or by a thief. */
	uintptr_t spare[WEIRI_CELLS];
	/* Written by the owner, for depots that count. */
	uint64_t requests[WEIRI_CELLS];
	struct weiri_list link;
	uint64_t padding[30];
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

/* Enters a depot: sets its index (1 ..) and cell; false when all are taken. */
bool weiri_local_enter(struct weiri_depot *depot, bool wants_cell);
void weiri_local_leave(uint16_t index);

/* Around fork(): holds the list and every depot; the child takes over what the
 * threads that do not exist in it held. */
void weiri_local_fork_lock(void);
void weiri_local_fork_unlock(void);
void weiri_local_fork_child(void);

#endif /* WEIRI_LOCAL_H */
