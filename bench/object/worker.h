/* SPDX-License-Identifier: MIT */
/*
 * worker.h - the program around an opponent: included last by each peer_*.c.
 *
 *     weir-bench-jemalloc SUITE MILLISECONDS [CASE|-] [OPERATIONS] [LIVE_BYTES]
 */
#ifndef BENCH_OBJECT_WORKER_H
#define BENCH_OBJECT_WORKER_H

#include <sys/mman.h>

#define BENCH_SIZES 1024u

struct bench_job bench_job;
cpu_set_t bench_cpus;

/* Drawn sizes of the cases "mixed". */
static size_t bench_sizes[BENCH_SIZES];

void *
bench_map(size_t bytes)
{
	void *map = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (map == MAP_FAILED)
		bench_fail("no memory: %s", strerror(errno));
	return map;
}

/*
 * 16 to 1024 bytes; each doubling half as likely as the one below it, as in
 * the histograms of servers.
 */
static void
bench_draw_sizes(void)
{
	uint64_t random = 3;

	for (unsigned i = 0; i < BENCH_SIZES; i++) {
		uint64_t drawn = bench_random(&random);
		unsigned power = (unsigned)__builtin_ctzll(
		    (drawn & 0x1f) | 0x20); /* 0: 1/2 ... 5: 1/32 */
		size_t low = (size_t)16 << power;

		bench_sizes[i] = low + (drawn >> 8) % low;
	}
}

#if !defined(PEER_HAS_FREE_ALL) && !defined(PEER_REGIONS_ONLY)
/* Never called: the suites look at PEER_FREES_ALL. */
static BENCH_INLINE void
peer_free_all(struct peer_pool *pool)
{
	(void)pool;
}
#endif

#ifndef PEER_REGIONS_ONLY
#include "suite_pair.h"
#include "suite_handoff.h"
#include "suite_threads.h"
#include "suite_buffers.h"
#include "suite_tail.h"
#include "suite_life.h"
#include "suite_table.h"
#include "suite_count.h"
#endif
#include "../region/suite_region.h"

struct bench_suite {
	const char *name;
	void (*run)(void);
};

static const struct bench_suite bench_suites[] = {
    {"region", suite_region},
    {"count-region", suite_count_region},
#ifndef PEER_REGIONS_ONLY
    {"pair", suite_pair},
    {"burst", suite_burst},
    {"random", suite_random},
    {"handoff", suite_handoff},
    {"oversub", suite_oversub},
    {"scaling", suite_scaling},
    {"buffers", suite_buffers},
    {"tail", suite_tail},
    {"fragmentation", suite_fragmentation},
    {"decay", suite_decay},
    {"table", suite_table},
    {"count", suite_count},
#endif
};

static uint64_t
bench_number(const char *text)
{
	char *end;
	unsigned long long value;

	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno != 0 || end == text || *end != '\0')
		bench_fail("'%s' is no number", text);
	return value;
}

/*
 * While a process has one thread, the C library leaves out its locks.  A server
 * has several: one that sleeps is enough to be measured like it.
 */
static void *
bench_idle(void *unused)
{
	pause();
	return unused;
}

static void
bench_start_idle(void)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, bench_idle, NULL) != 0)
		bench_fail("no thread: %s", strerror(errno));
}

int
main(int argc, char **argv)
{
	if (argc < 3)
		bench_fail("usage: %s SUITE MILLISECONDS [CASE|-] [OPERATIONS] "
			   "[LIVE_BYTES]; 'weir bench' runs this program",
		    argv[0]);
	bench_job.suite = argv[1];
	bench_job.case_ns = bench_number(argv[2]) * 1000000u;
	bench_job.only = argc > 3 && strcmp(argv[3], "-") != 0 ? argv[3] : NULL;
	bench_job.ops = argc > 4 ? bench_number(argv[4]) : 1000000;
	bench_job.live = argc > 5 ? bench_number(argv[5]) : 8u << 20;
	if (sched_getaffinity(0, sizeof(bench_cpus), &bench_cpus) != 0)
		bench_fail("no processors: %s", strerror(errno));
	bench_draw_sizes();
	peer_begin();
	bench_start_idle();
	printf("version " PEER_NAME " %s\n", peer_version());
	for (size_t i = 0; i < sizeof(bench_suites) / sizeof(*bench_suites);
	     i++)
		if (strcmp(bench_suites[i].name, argv[1]) == 0) {
			bench_suites[i].run();
			/* Some opponents' exit takes longer than the suite. */
			fflush(stdout);
			_exit(0);
		}
	bench_fail("unknown suite '%s'", argv[1]);
	return 1;
}

#endif /* BENCH_OBJECT_WORKER_H */
