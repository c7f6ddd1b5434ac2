/* SPDX-License-Identifier: MIT */
/*
 * buddy.h - a buddy, for the files that make one up.
 *
 *   buddy.c        creation and end; runs taken, given back and resized
 *   buddy_mark.c   marks in free units
 *   buddy_view.c   what there is: runs, figures, the check
 */
#ifndef WEIRI_POOLS_BUDDY_H
#define WEIRI_POOLS_BUDDY_H

#include <weir/buddy.h>

#include "base/detector.h"
#include "guard/runs.h"
#include "os/os.h"
#include "pages/buddy_core.h"
#include "watch/registry.h"

/* Told apart from whatever lies where a destroyed buddy was. */
#define BUDDY_MAGIC UINT32_C(0x62756464)
#define BUDDY_DEAD UINT32_C(0x64656164)

struct weir_buddy {
	/* First what nobody reads in a freed record, whose first words its list
	 * overwrites. */
	char *base;
	size_t unit_bytes;
	void *records;
	uint32_t magic;
	bool locked;
	bool created; /* handle and records are weir's */
	struct weiri_mutex lock;
	struct weiri_buddy_core core;
	uint64_t in_use; /* units; this and the next: racing readers */
	uint64_t peak;
	uint64_t requests;
	uint64_t failures;
	size_t record_bytes;
	uint64_t *marks; /* a bit for each unit; NULL: they have none */
	uint64_t secret; /* of marks */
	struct weiri_pool pool;
	struct weiri_guard_pool guard;
	struct weiri_runs runs;
};

/* Says that @buddy is none. */
WEIRI_COLD WEIRI_NORETURN void weiri_buddy_not_live(
    const struct weir_buddy *buddy);

WEIRI_INLINE void
weiri_buddy_lock(struct weir_buddy *buddy)
{
	if (WEIR_UNLIKELY(buddy->magic != BUDDY_MAGIC) &&
	    WEIR_DETECTOR(buddy_gone))
		weiri_buddy_not_live(buddy);
	if (WEIR_LIKELY(buddy->locked))
		weiri_mutex_lock(&buddy->lock);
}

WEIRI_INLINE void
weiri_buddy_unlock(struct weir_buddy *buddy)
{
	if (WEIR_LIKELY(buddy->locked))
		weiri_mutex_unlock(&buddy->lock);
}

/* Under the lock: the units that rested longest are free; @over: only if too many
 * rest.  False: none are. */
WEIRI_COLD bool weiri_buddy_wake(struct weir_buddy *buddy, bool over);

/* ---- marks in free units (buddy_mark.c) --------------------------------------- */

/* Those of units that are handed out. */
struct weiri_buddy_marks {
	size_t first, end; /* the units */
	uint64_t head,
	    tail; /* bits of the first word, and of one that the units
			      * end in */
};

/* Bytes of bits for so many units. */
size_t weiri_buddy_mark_bytes(size_t unit_count);

/* Locked: of units that are free from now on, and do not trap. */
void weiri_buddy_mark_set(struct weir_buddy *buddy, size_t unit, size_t count);

/* Locked: of units that are in a run from now on, until @end; they are more than
 * none.  If true, then without the lock: reports it if any was written to. */
bool weiri_buddy_mark_take(struct weir_buddy *buddy, size_t first, size_t end,
    struct weiri_buddy_marks *marks);
void weiri_buddy_mark_look(
    struct weir_buddy *buddy, const struct weiri_buddy_marks *marks);

/* The same of all units, when all are free and nobody uses them any more. */
void weiri_buddy_mark_end(struct weir_buddy *buddy);

/* Locked: is no free unit known to be written to? */
bool weiri_buddy_mark_check(const struct weir_buddy *buddy);

#endif /* WEIRI_POOLS_BUDDY_H */
