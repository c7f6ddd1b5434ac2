/* SPDX-License-Identifier: MIT */
/*
 * cost.c - what mode full costs, beside what the system asks for its part of it.
 *
 *     fault_set --cost
 *
 * An object under guard is a page that is let in, written for the first time and
 * barred again.  The same calls by themselves, on as many pages as the guard goes
 * through before it uses one again, are what no library could do without; the
 * difference is weir's.  Processor time, the least of some rounds: on a machine
 * that does something else, too, it is the figure that repeats.
 */
#include "run.h"

#include <stdio.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define ROUNDS 7
#define PAIRS 20000

/* As many objects of a page as mode full keeps after their end. */
#define PLACES 65536

/* Younger than some headers. */
#define GUARD_INSTALL 102
#define GUARD_REMOVE 103

static size_t page;
static char *pages; /* each second one is a place */
static size_t turn;
static bool by_markers;
static struct weir_cache *cache;

static double
cpu_us(void)
{
	struct timespec now;

	NEED(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now) == 0);
	return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static int
bar(char *at, size_t bytes)
{
	if (by_markers)
		return madvise(at, bytes, GUARD_INSTALL);
	return mprotect(at, bytes, PROT_NONE) != 0
		   ? -1
		   : madvise(at, bytes, MADV_DONTNEED);
}

static int
let_in(char *at, size_t bytes)
{
	return by_markers ? madvise(at, bytes, GUARD_REMOVE)
			  : mprotect(at, bytes, PROT_READ | PROT_WRITE);
}

static void
pair_of_system(void)
{
	char *at = pages + (2 * (turn++ % PLACES) + 1) * page;

	NEED(let_in(at, page) == 0);
	bug_write(at, 1);
	NEED(bar(at, page) == 0);
}

static void
pair_of_weir(void)
{
	char *object = weir_cache_alloc(cache);

	NEED(object != NULL);
	bug_write(object, 1);
	weir_cache_free(cache, object);
}

/* Of one pair, in microseconds. */
static double
measure(void (*pair)(void))
{
	double least = 0;

	for (int round = 0; round < ROUNDS; round++) {
		double begin = cpu_us(), took;

		for (int i = 0; i < PAIRS; i++)
			pair();
		took = (cpu_us() - begin) / PAIRS;
		if (round == 0 || took < least)
			least = took;
	}
	return least;
}

static void
measure_start(void)
{
	page = (size_t)sysconf(_SC_PAGESIZE);
	pages = mmap(NULL, 2 * PLACES * page, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	NEED(pages != MAP_FAILED);
	by_markers = madvise(pages, page, GUARD_INSTALL) == 0;
	NEED(bar(pages, 2 * PLACES * page) == 0);
	cache = bug_cache("cost", 200);
	/* Both go through all of their pages once: tables of pages are made. */
	for (int i = 0; i < PLACES + 1; i++) {
		pair_of_system();
		pair_of_weir();
	}
}

int
run_cost(void)
{
	double off, system, full;

	NEED(weir_guard_set(
		 &(struct weir_guard_config){.mode = WEIR_GUARD_FULL}) == 0);
	measure_start();
	full = measure(pair_of_weir);
	system = measure(pair_of_system);
	weir_cache_destroy(cache);
	NEED(weir_guard_set(NULL) == 0);
	cache = bug_cache("cost", 200);
	off = measure(pair_of_weir);
	weir_cache_destroy(cache);
	(void)printf("an alloc and its free, us of processor time:\n"
		     "  mode off            %8.3f\n"
		     "  mode full           %8.3f\n"
		     "  of it the system's  %8.3f  (%s, first write)\n"
		     "  and weir's          %8.3f\n",
	    off, full, system,
	    by_markers ? "MADV_GUARD_REMOVE and _INSTALL"
		       : "mprotect() twice, MADV_DONTNEED",
	    full - system);
	return 0;
}
