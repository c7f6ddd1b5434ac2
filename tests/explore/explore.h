/* SPDX-License-Identifier: MIT */
/*
 * explore.h - scenarios, and how to look at all their schedules.
 *
 * A scenario is a few threads with a few operations each.  Every run of it takes
 * one schedule to its end, and begins where setup() and prepare() left off.
 *
 *   engine.c     the scheduler: which runs there are, which thread's turn it is
 *   graph.c      which states are the same
 *   memory.c     what a step does to memory: order, races
 *   history.c      and which values a load may find
 *   sites.c      where orders are named, and which one is weaker
 *   system.c     locks, waiting, time and address space of the runs
 *   scenarios*.c what is looked at, by kind of pool
 *   one_depot.c    and the depot of those about depots
 *   litmus.c     what the memory is known by
 *   mutants.c    weakened orders, and the scenario that finds each
 */
#ifndef EXPLORE_H
#define EXPLORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EXPLORE_THREADS 3

/* What a schedule may have, beside switches where a thread cannot go on. */
struct explore_bound {
	unsigned preemptions; /* switches where it could */
	unsigned stale;       /* loads of what is no longer the newest value */
};

struct explore_scenario {
	const char *name;
	/* Once, in this order; then all threads at the same time. */
	void (*setup)(void);
	void (*prepare[EXPLORE_THREADS])(void); /* by the thread; or NULL */
	void (*body[EXPLORE_THREADS])(void);    /* NULL: no such thread */
	/* After each schedule, with nothing under way; or NULL. */
	void (*check)(void);
	struct explore_bound bound, bound_long;
	bool is_long;   /* large; a part of it is there on its own */
	unsigned exits; /* bit i: thread i ends after its body, as threads do */
	const char *outcomes; /* all there are, in order; or NULL */
};

/* A file of scenarios ends its list with an empty one. */
extern const struct explore_scenario explore_litmus_scenarios[];
extern const struct explore_scenario explore_depot_scenarios[];
extern const struct explore_scenario explore_wait_scenarios[];
extern const struct explore_scenario explore_buffer_scenarios[];
extern const struct explore_scenario explore_account_scenarios[];
extern const struct explore_scenario explore_bounded_scenarios[];

/* In bodies and prepare(): the calling thread's. */
unsigned explore_index(void);

/* In checks: three digits, each below 4, that this run ended with. */
void explore_outcome(unsigned a, unsigned b, unsigned c);

/* In bodies and checks: what must be so.  Ends the run. */
void explore_fail(const char *format, ...)
    __attribute__((format(printf, 1, 2), noreturn));
#define EXPLORE_CHECK(condition)                                               \
	do {                                                                   \
		if (!(condition))                                              \
			explore_fail("%s:%d: %s is false", __FILE__, __LINE__, \
			    #condition);                                       \
	} while (0)

/* ---- exploring ------------------------------------------------------------ */

#define EXPLORE_OUTCOMES 64

struct explore_result {
	bool failed;
	char why[512];
	char schedule[2048]; /* for --replay */
	uint64_t runs;       /* schedules to their end */
	uint64_t cut;        /* left early: the same as another */
	uint64_t stale;      /* loads that found an older value */
	uint64_t states;     /* that were told apart */
	uint64_t ends;       /*   at the end of a run, */
	uint64_t ends_sum;   /*   and a sum over them */
	uint64_t outcomes;   /* bit 16 a + 4 b + c */
	unsigned points; /* most steps of a run where a switch was possible */
};

/* @mutant: NULL or "file:function:op:order>order".  @schedule: NULL, or the
 * only one to run, told step by step.  @seconds: 0 or when to give up. */
void explore_run(const struct explore_scenario *scenario,
    const struct explore_bound *bound, const char *mutant, const char *schedule,
    struct explore_result *result);

/* Calls @see with each site that a run came by since the program began. */
struct explore_site;
void explore_sites(
    void (*see)(const struct explore_site *site, void *context), void *context);
void explore_site_name(
    const struct explore_site *site, int to, char *name, size_t bytes);

/* ---- mutants (mutants.c) ---------------------------------------------------- */

struct explore_mutant {
	const char *name;
	const char *scenario; /* that finds it; NULL: none does */
	const char *why;      /* none does */
};

extern const struct explore_mutant explore_mutants[];
extern const size_t explore_mutant_count;

#endif /* EXPLORE_H */
