/* SPDX-License-Identifier: MIT */
/*
 * harness.h - what every worker of `weir bench` has in common.
 *
 * A worker is one small program per opponent: it runs one suite in a process of
 * its own and prints figures, one a line, for `weir bench` to read:
 *
 *     version jemalloc 5.3.0
 *     skip frees only whole pools            (the suite, and why not)
 *     64 ns_op 3.214 ns                      (case, metric, value, unit)
 *
 * The measuring loops are written once, in suite_*.h, and compiled into each
 * worker with the same options.  What differs is the opponent, which a file
 * peer_*.c describes before it includes worker.h:
 *
 *     PEER_NAME      as on the command line
 *     PEER_FLAGS     enum bench_peer_flag
 *     PEER_VALUES    values a program must settle before its first object
 *     struct peer_pool, struct peer_local     pools; a thread's own handle
 *     peer_version(), peer_begin()            start, and proof of identity
 *     peer_thread_begin(), peer_thread_end()         first and last call of a thread
 *     peer_pool_open(), peer_pool_close()     one pool of one object size
 *     peer_alloc(), peer_free(), peer_usable()
 *     peer_free_all()                         where PEER_FREES_ALL
 *
 * peer_alloc() and peer_free() are always inlined, so that a library is called
 * as a program calls it and a header-only pool is compiled into the loop.  The
 * loops pass each object through bench_use(): the compiler must assume that it
 * was read and written, and can join nothing across it.
 *
 * Times are those of chunks of operations; of these the lower quartile is
 * reported.  On a shared machine a chunk is only ever disturbed to be slower.
 */
#ifndef BENCH_OBJECT_HARNESS_H
#define BENCH_OBJECT_HARNESS_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define BENCH_INLINE inline __attribute__((always_inline))
#define BENCH_NOINLINE __attribute__((noinline))
#define BENCH_UNUSED __attribute__((unused))
#define BENCH_LIKELY(x) __builtin_expect(!!(x), 1)

#define BENCH_LINE 128 /* two cache lines: the prefetcher takes pairs */
#define BENCH_CHUNK_OPS 20000u
#define BENCH_CHUNKS_MAX 65536u
#define BENCH_THREADS_MAX 8u

/** What an opponent is able to do. */
enum bench_peer_flag {
	PEER_ANY_SIZE = 1 << 0,  /* one pool serves every size */
	PEER_GROWS = 1 << 1,     /* needs no number of objects beforehand */
	PEER_REMOTE = 1 << 2,    /* another thread may free */
	PEER_FREES_ALL = 1 << 3, /* frees whole pools, not single objects */
	PEER_ONE_SIZE = 1 << 4,  /* the size is part of the program text */
	PEER_ALONE = 1 << 5,     /* only one thread takes objects */
};

/** What the command line asks of a worker. */
struct bench_job {
	const char *suite;
	const char *only; /* the only case to run, or NULL */
	uint64_t case_ns; /* time for each case */
	uint64_t ops;     /* operations of the suite `decay` */
	uint64_t live;    /* bytes in use in the suites of long lives */
};

extern struct bench_job bench_job;

/* ---- output -------------------------------------------------------------- */

__attribute__((format(printf, 1, 2))) BENCH_UNUSED static void
bench_fail(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fputc('\n', stderr);
	exit(1);
}

BENCH_UNUSED static void
bench_emit(const char *name, const char *metric, double value, const char *unit)
{
	printf("%s %s %.6g %s\n", name, metric, value, unit);
	/* What was measured stays known if the time limit ends the rest. */
	fflush(stdout);
}

BENCH_UNUSED static void
bench_skip(const char *why)
{
	printf("skip %s\n", why);
}

BENCH_UNUSED static bool
bench_wanted(const char *name)
{
	return bench_job.only == NULL || strcmp(bench_job.only, name) == 0;
}

/* ---- clocks --------------------------------------------------------------- */

static BENCH_INLINE uint64_t
bench_clock(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * UINT64_C(1000000000) +
	       (uint64_t)now.tv_nsec;
}

static BENCH_INLINE uint64_t
bench_now(void)
{
	return bench_clock(CLOCK_MONOTONIC);
}

/* ---- what keeps the compiler honest, and random numbers ------------------- */

/* The object is used: written by its owner, and seen by the world. */
static BENCH_INLINE void
bench_use(void *object, uint64_t value)
{
	*(volatile uint64_t *)object = value;
	__asm__ volatile("" : : "r"(object) : "memory");
}

/* Knuth's multiplier; the top bits are the random ones. */
static BENCH_INLINE uint64_t
bench_random(uint64_t *state)
{
	*state = *state * UINT64_C(6364136223846793005) +
		 UINT64_C(1442695040888963407);
	return *state >> 33;
}

static BENCH_INLINE void *
bench_check(void *object)
{
	if (!BENCH_LIKELY(object != NULL))
		bench_fail("out of memory");
	return object;
}

/* ---- chunks ----------------------------------------------------------------- */

struct bench_chunks {
	uint64_t end_ns;
	uint64_t begun_ns; /* of the chunk under way */
	unsigned count;
	double ns[BENCH_CHUNKS_MAX];
};

BENCH_UNUSED static int
bench_compare(const void *a, const void *b)
{
	const double *left = (const double *)a;
	const double *right = (const double *)b;

	return (*left > *right) - (*left < *right);
}

/* The value below which a part of the values lies; sorts them. */
BENCH_UNUSED static double
bench_quantile(double *values, unsigned count, double part)
{
	if (count == 0)
		return 0;
	qsort(values, count, sizeof(*values), bench_compare);
	return values[(unsigned)(part * (double)(count - 1))];
}

BENCH_UNUSED static void
bench_chunks_begin(struct bench_chunks *chunks)
{
	chunks->count = 0;
	chunks->begun_ns = bench_now();
	chunks->end_ns = chunks->begun_ns + bench_job.case_ns;
}

/* Ends a chunk and begins the next; false when the time is over. */
BENCH_UNUSED static bool
bench_chunks_next(struct bench_chunks *chunks)
{
	uint64_t now = bench_now();

	chunks->ns[chunks->count++] = (double)(now - chunks->begun_ns);
	if (now >= chunks->end_ns || chunks->count == BENCH_CHUNKS_MAX)
		return false;
	chunks->begun_ns = bench_now();
	return true;
}

/*
 * Lower quartile, the first tenth left out as warm-up; of less than four
 * chunks this is the fastest.
 */
BENCH_UNUSED static double
bench_chunks_ns(struct bench_chunks *chunks)
{
	unsigned warm = chunks->count / 10;

	return bench_quantile(chunks->ns + warm, chunks->count - warm, 0.25);
}

/* ---- processors --------------------------------------------------------------- */

extern cpu_set_t bench_cpus; /* those the worker was started on */

/* Of the worker's processors, the one of this index, counted round. */
BENCH_UNUSED static int
bench_cpu(unsigned index)
{
	unsigned left = index % (unsigned)CPU_COUNT(&bench_cpus);

	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET((size_t)cpu, &bench_cpus) && left-- == 0)
			return cpu;
	return 0;
}

BENCH_UNUSED static void
bench_pin(unsigned index)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET((size_t)bench_cpu(index), &set);
	sched_setaffinity(0, sizeof(set), &set);
}

/* Threads started from now on share the first so many processors. */
BENCH_UNUSED static void
bench_share_cpus(unsigned count)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	for (unsigned i = 0; i < count; i++)
		CPU_SET((size_t)bench_cpu(i), &set);
	sched_setaffinity(0, sizeof(set), &set);
}

/* Waiting for another thread, which may want this very processor. */
static BENCH_INLINE void
bench_relax(unsigned *spins)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#endif
	if (++*spins % 1024 == 0)
		sched_yield();
}

/* ---- memory ----------------------------------------------------------------------- */

/*
 * A figure of the kernel's, to the page; /proc/self/statm is cheaper and lags
 * behind.  Read by hand, because stdio would ask the opponent for its buffer.
 */
BENCH_UNUSED static double
bench_smaps(const char *name)
{
	char text[1024];
	int file = open("/proc/self/smaps_rollup", O_RDONLY | O_CLOEXEC);
	ssize_t bytes = file < 0 ? -1 : read(file, text, sizeof(text) - 1);
	const char *found;

	if (file >= 0)
		close(file);
	text[bytes < 0 ? 0 : bytes] = '\0';
	found = strstr(text, name);
	if (found == NULL)
		bench_fail("this kernel has no /proc/self/smaps_rollup");
	return strtod(found + strlen(name), NULL) * 1024.0;
}

/* Resident bytes. */
BENCH_UNUSED static double
bench_resident(void)
{
	return bench_smaps("\nRss:");
}

/* Those that are nobody else's: what a child of a fork finds and brings in of
 * the program's files does not count. */
BENCH_UNUSED static double
bench_anonymous(void)
{
	return bench_smaps("\nAnonymous:");
}

/*
 * Opponents of one size a pool get a pool for each power of two where sizes
 * vary: what such a pool sets aside for an object of this size.
 */
#define BENCH_CLASS_BYTES(bytes)    \
	((bytes) <= 16 ? (size_t)16 \
		       : (size_t)2 << (63 - __builtin_clzll((bytes)-1)))

/* Storage of the harness itself, outside every malloc that is measured. */
void *bench_map(size_t bytes);

#endif /* BENCH_OBJECT_HARNESS_H */
