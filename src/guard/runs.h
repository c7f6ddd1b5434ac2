/* SPDX-License-Identifier: MIT */
/*
 * runs.h - runs of numbers under guard: who took them and who gave them back, and
 * numbers that rest before they are handed out again.
 *
 *     taking   due = weiri_runs_due()                     without a lock
 *              first = ..., or weiri_runs_wake() and again
 *              if (due) weiri_runs_take(first)
 *     ending   weiri_runs_state(first): a run that is LIVE goes to rest, which
 *              is all there is to do; of NONE nothing is known
 *
 * What the functions without a word about locks touch is under the pool's own.
 */
#ifndef WEIRI_GUARD_RUNS_H
#define WEIRI_GUARD_RUNS_H

#include "guard/guard.h"

struct weiri_arena;
struct weiri_fault_site;
struct weiri_guarded;

#define WEIRI_RUNS_NONE SIZE_MAX

/* Part of a pool of numbers below @count.  All zero it knows none. */
struct weiri_runs {
	struct weiri_guarded *record; /* of the run that starts, or did last, at
					 a number; NULL: no run yet; atomic */
	size_t slots;                 /* of the table; below count: hashed */
	size_t count;
	uint32_t skip;  /* runs to let pass before the next visit; atomic */
	size_t resting; /* numbers that no run has and that are not free */
	uint32_t runs;  /* that rest */
	uint32_t first, last; /* slots of them, by time; counted from 1 */
	/* Numbers that are memory which traps while they are free. */
	char *base; /* NULL: they are not */
	size_t unit_bytes;
	struct weiri_arena *arena; /* NULL: none of it traps; atomic */
	bool forbids;              /* a tool is told what is free; atomic */
};

enum weiri_runs_state {
	WEIRI_RUNS_UNKNOWN,
	WEIRI_RUNS_LIVE,
	WEIRI_RUNS_RESTING,
};

/* @base: of units that may trap while they are free; NULL: they may not. */
void weiri_runs_init(
    struct weiri_runs *runs, size_t count, void *base, size_t unit_bytes);
void weiri_runs_finish(struct weiri_runs *runs);

/* Is its memory to be kept from who has no business there? */
WEIRI_INLINE bool
weiri_runs_trap(const struct weiri_runs *runs)
{
	return WEIRI_LOAD(&runs->arena) != NULL || WEIRI_LOAD(&runs->forbids);
}

/* Is the run that is to be taken next to be known?  Under no lock. */
bool weiri_runs_due(struct weiri_runs *runs, struct weiri_guard_pool *pool);

/* Numbers were taken by who is calling; @known: it was due, @alone: no others are
 * out. */
void weiri_runs_take(struct weiri_runs *runs,
    const struct weiri_guard_pool *pool, size_t first, size_t count, bool known,
    bool alone);

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
 * @over: only if more rest than the mode allows that they were taken in. */
size_t weiri_runs_wake(struct weiri_runs *runs, bool over);

/* What an access to @address, which is in the memory of the numbers and trapped, is
 * about.  @view says what is known of the memory.  Async-signal-safe. */
bool weiri_runs_view(const struct weiri_runs *runs, const void *address,
    struct weiri_guarded *view);

/* Reports @site with what is known of the run at @first, which ended; false: of
 * none.  Under no lock; returns if the program goes on. */
bool weiri_runs_tell(
    const struct weiri_runs *runs, size_t first, struct weiri_fault_site site);

#endif /* WEIRI_GUARD_RUNS_H */
