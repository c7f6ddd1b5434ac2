/* SPDX-License-Identifier: MIT */
/*
 * runs.h - runs of numbers under guard: who took them and who gave them back, and
 * numbers that rest before they are handed out again.
 *
 *     taking   due = weiri_runs_due()                     without a lock
 *              weiri_runs_follow()
 *              first = ..., or weiri_runs_wake() and again
 *              weiri_runs_take(first, due)
 *     ending   weiri_guard_thread()                       without a lock
 *              weiri_runs_follow()
 *              weiri_runs_state(first): a run that is LIVE goes to rest, which
 *              is all there is to do; of NONE nothing is known
 *
 * What the functions without a word about locks touch is under the pool's own.
 */
#ifndef WEIRI_GUARD_RUNS_H
#define WEIRI_GUARD_RUNS_H

#include "base/list.h"
#include "guard/guard.h"

struct weiri_arena;
struct weiri_fault_site;
struct weiri_guarded;

#define WEIRI_RUNS_NONE SIZE_MAX

struct weiri_runs_table; /* of records */

/* How many of a pool's numbers may rest: what its mode allows. */
enum weiri_runs_keeping {
	WEIRI_RUNS_KEEP_NONE,
	WEIRI_RUNS_KEEP_SOME,
	WEIRI_RUNS_KEEP_ALL,
};

/* Part of a pool of numbers below @count.  All zero it knows none. */
struct weiri_runs {
	struct weiri_list link; /* of all that have a table */
	struct weiri_guard_pool *pool;
	struct weiri_runs_table *table; /* NULL: no run was known yet; atomic */
	/* The one that follows, for all numbers; NULL: none; atomic. */
	struct weiri_runs_table *larger;
	struct weiri_runs_table *outgrown; /* somebody may still look */
	size_t count;
	uint32_t skip;  /* runs to let pass before the next visit; atomic */
	size_t resting; /* numbers that no run has and that are not free */
	uint32_t runs;  /* that rest; atomic */
	uint32_t live;  /* that are known and out; atomic */
	uint32_t first, last; /* slots of those that rest, by time; counted
				 from 1 */
	uint8_t keeping;      /* enum weiri_runs_keeping */
	/* Numbers that are memory which traps while they are free. */
	char *base; /* NULL: they are not */
	size_t unit_bytes;
	struct weiri_arena *arena; /* NULL: none of it traps; atomic */
	bool forbids;              /* a tool is told what is free; atomic */
};

/* What there is to know of a run that is to be taken; all zero: nothing. */
struct weiri_runs_due {
	uint8_t sites; /* see weiri_guard_sites() */
	uint8_t mode;
};

enum weiri_runs_state {
	WEIRI_RUNS_UNKNOWN,
	WEIRI_RUNS_LIVE,
	WEIRI_RUNS_RESTING,
};

/* @base: of units that may trap while they are free; NULL: they may not. */
void weiri_runs_init(struct weiri_runs *runs, struct weiri_guard_pool *pool,
    size_t count, void *base, size_t unit_bytes);
void weiri_runs_finish(struct weiri_runs *runs);

/* Is any run known, or was? */
WEIRI_INLINE bool
weiri_runs_begun(const struct weiri_runs *runs)
{
	return WEIRI_LOAD(&runs->table) != NULL;
}

/* Is its memory to be kept from who has no business there? */
WEIRI_INLINE bool
weiri_runs_trap(const struct weiri_runs *runs)
{
	return WEIRI_LOAD(&runs->arena) != NULL || WEIRI_LOAD(&runs->forbids);
}

/* What is to be known of the run that is taken next?  Under no lock. */
struct weiri_runs_due weiri_runs_due(struct weiri_runs *runs);

/* Of runs that have begun, before anything else under the lock: how much may rest
 * is as the mode has it by now, which weiri_runs_wake() brings about; where that
 * is off nothing traps. */
void weiri_runs_follow(struct weiri_runs *runs);

/* Numbers were taken by who is calling; @alone: no others are out. */
void weiri_runs_take(struct weiri_runs *runs, size_t first, size_t count,
    struct weiri_runs_due due, bool alone);

enum weiri_runs_state weiri_runs_state(
    const struct weiri_runs *runs, size_t first);

/* A run that is out had @before and has @count numbers. */
void weiri_runs_resize(
    struct weiri_runs *runs, size_t first, size_t before, size_t count);

/* A run that was not known ended, and is free. */
void weiri_runs_freed(struct weiri_runs *runs, size_t first, size_t count);

/* A live run ends, and rests. */
void weiri_runs_rest(struct weiri_runs *runs, size_t first);

/* The run that rested longest is free from now on: its first number, or NONE.
 * @over: only if more rest than the mode allows. */
size_t weiri_runs_wake(struct weiri_runs *runs, bool over);

/* What an access to @address, which is in the memory of the numbers and trapped, is
 * about.  @view says what is known of the memory.  Async-signal-safe, while they
 * have not ended. */
void weiri_runs_view(const struct weiri_runs *runs, const void *address,
    struct weiri_guarded *view);

/* Reports @site with what is known of the run at @first, which ended; false: of
 * none.  Under no lock; returns if the program goes on. */
bool weiri_runs_tell(
    const struct weiri_runs *runs, size_t first, struct weiri_fault_site site);

/* Under the guard's lock: calls @see with each run that is known and out. */
typedef void (*weiri_runs_fn)(const struct weiri_runs *runs,
    const struct weiri_guarded *run, void *context);
void weiri_runs_for_live(weiri_runs_fn see, void *context);

/* Under the guard's lock: adds what is in use, rests, and takes memory. */
void weiri_runs_add(struct weir_guard_stats *sum);

#endif /* WEIRI_GUARD_RUNS_H */
