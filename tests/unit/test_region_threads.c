/* SPDX-License-Identifier: MIT */
/*
 * test_region_threads.c - regions on threads and between them.
 */
#include "region_common.h"

#include <sched.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#define HANDED 64

struct hand_over {
	struct weir_region *region[2][HANDED];
};

static void
thread_fills(unsigned index, void *context)
{
	struct hand_over *over = context;

	for (size_t i = 0; i < HANDED; i++) {
		struct weir_region *region = create(NULL);
		char *text = weir_region_printf(region, "%u %zu", index, i);

		CHECK_NOT_NULL(text);
		for (int j = 0; j < 100; j++)
			memset(weir_region_alloc(region, 300), 1, 300);
		weir_region_hand_off(region);
		over->region[index][i] = region;
	}
}

static void
thread_ends(unsigned index, void *context)
{
	struct hand_over *over = context;

	for (size_t i = 0; i < HANDED; i++) {
		weir_region_take_over(over->region[!index][i]);
		CHECK(weir_region_check(over->region[!index][i]));
		weir_region_destroy(over->region[!index][i]);
	}
}

TEST(regions_end_on_other_threads_than_they_began_on)
{
	struct hand_over over;
	struct weir_pool_stats stats;

	for (int round = 0; round < 5; round++) {
		test_threads(2, thread_fills, &over);
		stats = kind_stats(&test_kind);
		CHECK_EQ(stats.in_use, 2 * HANDED);
		CHECK_GE(stats.bytes_in_use, 2 * HANDED * 30000);
		test_threads(2, thread_ends, &over);
		stats = kind_stats(&test_kind);
		CHECK_EQ(stats.in_use, 0);
		CHECK_EQ(stats.bytes_mapped, 0);
		CHECK_GE(stats.in_use_peak, 2 * HANDED);
		CHECK_LE(stats.in_use_peak, stats.hits);
	}
}

struct first {
	struct weir_region_kind *kind;
	int waiting; /* threads that are not there yet */
};

static void
thread_first(unsigned index, void *context)
{
	struct first *first = context;
	struct weir_region *region;
	struct weir_pool_stats stats;

	(void)index;
	__atomic_fetch_sub(&first->waiting, 1, __ATOMIC_RELAXED);
	while (__atomic_load_n(&first->waiting, __ATOMIC_RELAXED) > 0)
		;
	CHECK_EQ(weir_region_create(first->kind, NULL, &region), 0);
	/* Also while the thread that made the record is still to enter it. */
	stats = kind_stats(first->kind);
	CHECK_EQ(stats.kind, WEIR_POOL_REGION);
	CHECK_STR(stats.name, "raced");
	CHECK_GE(stats.in_use, 1);
	weir_region_destroy(region);
}

TEST(first_regions_of_a_kind_may_race)
{
	static struct weir_region_kind kinds[32];

	for (size_t i = 0; i < 32; i++) {
		struct first first = {.kind = &kinds[i], .waiting = 2};

		kinds[i].name = "raced";
		test_threads(2, thread_first, &first);
		CHECK_EQ(kind_stats(&kinds[i]).hits, 2);
		CHECK_EQ(kind_stats(&kinds[i]).in_use, 0);
	}
}

#define CROWD 40 /* more than a kind has counters for */

static void
thread_resets(unsigned index, void *context)
{
	struct first *crowd = context;

	(void)index;
	for (int i = 0; i < 100; i++) {
		struct weir_region *region;

		CHECK_EQ(weir_region_create(crowd->kind, NULL, &region), 0);
		if (i == 0)
			__atomic_fetch_sub(
			    &crowd->waiting, 1, __ATOMIC_RELAXED);
		while (__atomic_load_n(&crowd->waiting, __ATOMIC_RELAXED) > 0)
			sched_yield();
		memset(weir_region_alloc(region, 30000), 1, 30000);
		weir_region_reset(region);
		/* Also that it counts as one of many still. */
		CHECK(weir_region_check(region));
		memset(weir_region_alloc(region, 30000), 1, 30000);
		weir_region_destroy(region);
	}
}

TEST(regions_of_more_threads_than_counters_are_reset)
{
	static struct weir_region_kind kind = WEIR_REGION_KIND("crowd");
	struct first crowd = {.kind = &kind, .waiting = CROWD};

	test_threads(CROWD, thread_resets, &crowd);
	CHECK_EQ(kind_stats(&kind).in_use, 0);
	CHECK_EQ(kind_stats(&kind).bytes_mapped, 0);
}

/* The blocks behind all kinds are made once a process. */
TEST(first_regions_of_a_process_may_race)
{
	static struct weir_region_kind kind = WEIR_REGION_KIND("raced");

	for (int i = 0; i < 20; i++) {
		struct first first = {.kind = &kind, .waiting = 2};
		pid_t pid = fork();
		int status;

		CHECK_NE(pid, -1);
		if (pid == 0) {
			test_threads(2, thread_first, &first);
			_exit(0);
		}
		CHECK_EQ(waitpid(pid, &status, 0), pid);
		CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	}
}
