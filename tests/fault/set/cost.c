/* SPDX-License-Identifier: MIT */
/*
 * cost.c - what mode full costs, beside what the system asks for its part of it.
 *
 *     fault_set --cost
 *
 * An object under guard is a page that is let in, gets memory and is barred again.
 * The memory is that of the object before, where the system can move a page, else
 * it comes with the first write.  The same calls by themselves, on as many pages
 * as the guard goes through before it uses one again, and as many of them in one,
 * are the system's part; the difference is weir's.  Processor time, the least of
 * some rounds: on a machine that does something else, too, it is the figure that
 * repeats.
 */
#include "run.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define ROUNDS 7
#define PAIRS 20000

/* As many objects of a page as mode full keeps after their end. */
#define PLACES 65536

/* Younger than some headers. */
#define GUARD_INSTALL 102
#define GUARD_REMOVE 103

/* Let in by one call: the calling process, as of Linux 6.15. */
#define LIST ((size_t)16)
#define SELF (-10001)

/* Of <linux/userfaultfd.h>, as of Linux 6.8. */
struct file_api {
	uint64_t api, features, calls;
};

struct file_range {
	uint64_t start, bytes, mode, calls;
};

struct file_move {
	uint64_t to, from, bytes, mode;
	int64_t moved;
};

static size_t page;
static char *pages; /* each second one is a place */
static size_t turn;
static bool by_markers, by_lists;
static int mover = -1; /* moves pages; -1: there is no way */
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

static char *
place(size_t n)
{
	return pages + (2 * (n % PLACES) + 1) * page;
}

/* As src/os/os_move.c has it. */
static void
find_mover(void)
{
	struct file_api api = {.api = 0xaa, .features = UINT64_C(1) << 16};
	struct file_range range = {.start = (uintptr_t)pages,
	    .bytes = 2 * PLACES * page,
	    .mode = 1 << 1};

#ifdef SYS_userfaultfd
	mover = (int)syscall(SYS_userfaultfd, O_CLOEXEC | 1);
#endif
	if (mover < 0)
		return;
	if (!by_markers || ioctl(mover, _IOWR(0xaa, 0x3f, api), &api) != 0 ||
	    ioctl(mover, _IOWR(0xaa, 0, range), &range) != 0) {
		(void)close(mover);
		mover = -1;
	}
}

/* From the place before, which is barred then; false: not moved. */
static bool
move_in(char *at)
{
	char *before = place(turn - 1);
	struct file_move move = {
	    .to = (uintptr_t)at, .from = (uintptr_t)before, .bytes = page};

	if (mover < 0 || turn == 0 ||
	    ioctl(mover, _IOWR(0xaa, 5, move), &move) != 0)
		return false;
	NEED(bar(before, page) == 0);
	return true;
}

/* The place and those behind it, by one call; false: there is no way. */
static bool
let_in_list(void)
{
	struct iovec list[LIST];
	long advised = -1;

	if (turn % LIST != 0)
		return by_lists;
	for (size_t i = 0; i < LIST; i++)
		list[i] = (struct iovec){place(turn + i), page};
#ifdef SYS_process_madvise
	if (by_lists)
		advised = syscall(
		    SYS_process_madvise, SELF, list, LIST, GUARD_REMOVE, 0);
#endif
	NEED(turn == 0 || !by_lists || advised == (long)(LIST * page));
	by_lists = advised == (long)(LIST * page);
	return by_lists;
}

static void
pair_of_system(void)
{
	char *at = place(turn);

	if (!let_in_list())
		NEED(let_in(at, page) == 0);
	(void)move_in(at);
	bug_write(at, 1);
	if (mover < 0)
		NEED(bar(at, page) == 0);
	turn++;
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
	find_mover();
	by_lists = mover >= 0;
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
		     "  of it the system's  %8.3f  (%s)\n"
		     "  and weir's          %8.3f\n",
	    off, full, system,
	    mover >= 0   ? "MADV_GUARD_REMOVE and _INSTALL, UFFDIO_MOVE"
	    : by_markers ? "MADV_GUARD_REMOVE and _INSTALL, first write"
			 : "mprotect() twice, MADV_DONTNEED, first write",
	    full - system);
	return 0;
}
