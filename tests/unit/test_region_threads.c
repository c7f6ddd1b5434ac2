/* SPDX-License-Identifier: MIT */
/*
 * test_region_threads.c - regions on threads and between them.
 */
#include "pools/region.h"

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

/* ---- made here, ended there ------------------------------------------------ */

/* Regions on their way from the thread that makes them to the one that ends
 * them. */
#define ON_THE_WAY 16
#define PASSED 20000

struct way {
	struct weir_region *region[ON_THE_WAY];
	unsigned sent, received;
};

static void
thread_makes(struct way *way, struct weir_region_kind *kind)
{
	/* Of four blocks each. */
	static const struct weir_region_config config = {.first_bytes = 1024};

	for (unsigned i = 0; i < PASSED; i++) {
		struct weir_region *region;

		CHECK_EQ(weir_region_create(kind, &config, &region), 0);
		for (int j = 0; j < 20; j++)
			CHECK_NOT_NULL(weir_region_alloc(region, 500));
		weir_region_hand_off(region);
		while (i - __atomic_load_n(&way->received, __ATOMIC_ACQUIRE) >=
		       ON_THE_WAY)
			sched_yield();
		way->region[i % ON_THE_WAY] = region;
		__atomic_store_n(&way->sent, i + 1, __ATOMIC_RELEASE);
	}
}

static void
thread_ends_them(struct way *way)
{
	for (unsigned i = 0; i < PASSED; i++) {
		struct weir_region *region;

		while (__atomic_load_n(&way->sent, __ATOMIC_ACQUIRE) == i)
			sched_yield();
		region = way->region[i % ON_THE_WAY];
		__atomic_store_n(&way->received, i + 1, __ATOMIC_RELEASE);
		weir_region_take_over(region);
		weir_region_destroy(region);
	}
}

static void
thread_at_either_end(unsigned index, void *context)
{
	static struct weir_region_kind kind = WEIR_REGION_KIND("passed");

	if (index == 0)
		thread_makes(context, &kind);
	else
		thread_ends_them(context);
}

/* What slots there are, in each depot. */
static void
count_slots(uint64_t slots[WEIRI_REGION_SUPPLIES])
{
	for (unsigned i = 0; i < WEIRI_REGION_SUPPLIES; i++) {
		struct weiri_depot *depot =
		    weiri_region_supply_depot(weiri_region_supply_now(), i);

		slots[i] = 0;
		if (depot == NULL)
			continue;
		weiri_mutex_lock(&depot->lock);
		slots[i] = depot->carved;
		weiri_mutex_unlock(&depot->lock);
	}
}

/* No more than are on the way and fit into the magazines of both threads: when
 * one is made anew, those of its maker are empty. */
static void
expect_few_new(const uint64_t before[WEIRI_REGION_SUPPLIES], size_t on_the_way)
{
	uint64_t after[WEIRI_REGION_SUPPLIES];

	count_slots(after);
	for (unsigned i = 0; i < WEIRI_REGION_SUPPLIES; i++)
		if (after[i] > before[i])
			CHECK_LE(after[i] - before[i],
			    on_the_way + 2 +
				(uint64_t)4 * weiri_region_supply_depot(
						  weiri_region_supply_now(), i)
						  ->rounds_max);
}

TEST(blocks_come_back_to_the_thread_that_makes_the_regions)
{
	NOT_UNDER_GUARD("a region has no room and no blocks");

	static struct way way;
	uint64_t before[WEIRI_REGION_SUPPLIES];

	CHECK_EQ(weiri_region_supply_start(), 0);
	count_slots(before);
	test_threads(2, thread_at_either_end, &way);
	expect_few_new(before, ON_THE_WAY);
	CHECK_EQ(kind_stats(NULL).failures, 0);
}

static void
thread_leaves_some(unsigned index, void *context)
{
	struct weir_region **region = context;

	(void)index;
	for (int i = 0; i < HANDED; i++) {
		region[i] = create(NULL);
		weir_region_hand_off(region[i]);
	}
}

/* The thread that made them is gone: they are whoever's that makes some. */
TEST(blocks_of_a_thread_that_ended_are_used_by_others)
{
	NOT_UNDER_GUARD("a region has no room and no blocks");

	static struct weir_region *region[HANDED];
	uint64_t before[WEIRI_REGION_SUPPLIES];

	test_threads(1, thread_leaves_some, region);
	count_slots(before);
	for (int round = 0; round < 50; round++) {
		for (int i = 0; i < HANDED; i++) {
			weir_region_take_over(region[i]);
			CHECK(weir_region_check(region[i]));
			weir_region_destroy(region[i]);
		}
		test_threads(1, thread_leaves_some, region);
	}
	expect_few_new(before, 0);
	for (int i = 0; i < HANDED; i++) {
		weir_region_take_over(region[i]);
		weir_region_destroy(region[i]);
	}
}

static void
thread_ends_some(unsigned index, void *context)
{
	struct weir_region **region = context;

	(void)index;
	for (int i = 0; i < HANDED; i++) {
		weir_region_take_over(region[i]);
		weir_region_destroy(region[i]);
	}
}

/* With a limit and a name, without, and with a limit that is less than the block
 * which came back. */
TEST(regions_that_ended_elsewhere_begin_as_any)
{
	NOT_UNDER_GUARD("a region has no room and no blocks");

	static struct weir_region_kind kind = WEIR_REGION_KIND("elsewhere");
	static const struct weir_region_config configs[] = {
	    {.limit_bytes = 100000, .name = "again"},
	    {.limit_bytes = 0},
	    {.limit_bytes = 600},
	};
	static struct weir_region *region[HANDED];
	struct weir_region_info info;

	for (int round = 0; round < 9; round++) {
		const struct weir_region_config *config = &configs[round % 3];
		uint64_t limit =
		    config->limit_bytes != 0 ? config->limit_bytes : UINT64_MAX;

		for (int i = 0; i < HANDED; i++) {
			CHECK_EQ(
			    weir_region_create(&kind, config, &region[i]), 0);
			CHECK_EQ(figures(region[i]).bytes_limit, limit);
			CHECK_EQ(figures(region[i]).misses, 0);
			CHECK(weir_region_check(region[i]));
		}
		/* Before a slow call would make them its thread's. */
		CHECK_EQ(weir_region_top(
			     WEIR_REGION_BY_AGE, WEIR_REGION_MINE, &info, 1),
		    HANDED);
		CHECK_STR(info.name, round % 3 == 0 ? "again" : "elsewhere");
		for (int i = 0; i < HANDED; i++) {
			while (figures(region[i]).bytes_charged < 30000 &&
			       weir_region_alloc(region[i], 100) != NULL)
				;
			CHECK_LE(figures(region[i]).bytes_charged, limit);
			CHECK(weir_region_check(region[i]));
		}
		CHECK_EQ(kind_stats(&kind).in_use, HANDED);
		for (int i = 0; i < HANDED; i++)
			weir_region_hand_off(region[i]);
		test_threads(1, thread_ends_some, region);
		CHECK_EQ(kind_stats(&kind).in_use, 0);
		CHECK_EQ(kind_stats(&kind).bytes_mapped, 0);
	}
}

/* ---- together --------------------------------------------------------------- */

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
