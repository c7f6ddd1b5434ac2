/* SPDX-License-Identifier: MIT */
/*
 * test_buddy.c - weir_buddy: runs of units, their limits, and every misuse.
 */
#include "test.h"

#include "base/bits.h"

#include <weir/buddy.h>
#include <weir/guard.h>
#include <weir/runtime.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static struct weir_buddy *
buddy_of_units(size_t unit_count)
{
	struct weir_buddy_config config = {.unit_count = unit_count};
	struct weir_buddy *buddy;

	CHECK_EQ(weir_buddy_create("units", &config, &buddy), 0);
	CHECK_NOT_NULL(buddy);
	return buddy;
}

static struct weir_pool_stats
stats_of(struct weir_buddy *buddy)
{
	struct weir_pool_stats stats = {.size = sizeof(stats)};

	CHECK_EQ(weir_buddy_stats(buddy, &stats), 0);
	return stats;
}

TEST(buddy_runs_are_disjoint_and_have_their_exact_length)
{
	enum { UNITS = 128 };
	struct weir_buddy *buddy = buddy_of_units(UNITS);
	bool taken[UNITS] = {false};

	for (size_t count = 1; count <= 10; count++) {
		size_t first = weir_buddy_alloc(buddy, count);

		CHECK_NE(first, WEIR_BUDDY_NONE);
		CHECK_LE(first + count, UNITS);
		for (size_t unit = first; unit < first + count; unit++) {
			CHECK(!taken[unit]);
			taken[unit] = true;
		}
		CHECK_EQ(weir_buddy_run(buddy, first), count);
		CHECK(weir_buddy_check(buddy));
	}
	CHECK_EQ(stats_of(buddy).in_use, 55);
	for (size_t unit = 0; unit < UNITS; unit++)
		if (weir_buddy_run(buddy, unit) > 0)
			weir_buddy_free(buddy, unit);
	CHECK_EQ(stats_of(buddy).in_use, 0);
	CHECK_EQ(weir_buddy_largest(buddy), UNITS);
	weir_buddy_destroy(buddy);
}

TEST(buddy_powers_of_two_are_aligned_to_themselves)
{
	struct weir_buddy *buddy = buddy_of_units(1024);

	for (size_t count = 1; count <= 256; count *= 2) {
		CHECK_EQ(weir_buddy_alloc(buddy, count) % count, 0);
		CHECK_EQ(weir_buddy_alloc(buddy, count) % count, 0);
	}
	for (size_t unit = 0; unit < 1024; unit++)
		if (weir_buddy_run(buddy, unit) > 0)
			weir_buddy_free(buddy, unit);
	weir_buddy_destroy(buddy);
}

TEST(buddy_alignment_is_kept_and_its_slack_stays_free)
{
	struct weir_buddy *buddy = buddy_of_units(64);
	size_t odd = weir_buddy_alloc(buddy, 1);
	size_t a = weir_buddy_alloc_aligned(buddy, 3, 16);

	CHECK_EQ(a % 16, 0);
	CHECK_EQ(stats_of(buddy).in_use, 4);
	CHECK_EQ(weir_buddy_alloc_aligned(buddy, 1, 3), WEIR_BUDDY_NONE);
	CHECK_EQ(weir_buddy_alloc_aligned(buddy, 1, 0), WEIR_BUDDY_NONE);
	CHECK_EQ(weir_buddy_alloc_aligned(buddy, 1, 128), WEIR_BUDDY_NONE);
	CHECK_EQ(weir_buddy_alloc_aligned(buddy, 1, (size_t)1 << 63),
	    WEIR_BUDDY_NONE);
	CHECK(weir_buddy_check(buddy));
	weir_buddy_free(buddy, a);
	weir_buddy_free(buddy, odd);
	weir_buddy_destroy(buddy);
}

TEST(buddy_of_any_number_of_units_can_be_used_up)
{
	const size_t counts[] = {1, 2, 3, 7, 63, 64, 65, 100, 1000, 4097};

	for (size_t i = 0; i < WEIRI_COUNT_OF(counts); i++) {
		struct weir_buddy *buddy = buddy_of_units(counts[i]);
		size_t all;

		/* Whole, although no power of two covers it. */
		CHECK_EQ(weir_buddy_largest(buddy), counts[i]);
		all = weir_buddy_alloc(buddy, counts[i]);
		CHECK_EQ(all, 0);
		CHECK_EQ(weir_buddy_largest(buddy), 0);
		CHECK_EQ(weir_buddy_alloc(buddy, 1), WEIR_BUDDY_NONE);
		weir_buddy_free(buddy, all);
		CHECK(weir_buddy_check(buddy));

		/* And one by one. */
		for (size_t unit = 0; unit < counts[i]; unit++)
			CHECK_NE(weir_buddy_alloc(buddy, 1), WEIR_BUDDY_NONE);
		CHECK_EQ(weir_buddy_alloc(buddy, 1), WEIR_BUDDY_NONE);
		CHECK(weir_buddy_check(buddy));
		for (size_t unit = 0; unit < counts[i]; unit++)
			weir_buddy_free(buddy, unit);
		CHECK_EQ(weir_buddy_largest(buddy), counts[i]);
		CHECK(weir_buddy_check(buddy));
		weir_buddy_destroy(buddy);
	}
}

TEST(buddy_resize_grows_and_shrinks_in_place)
{
	struct weir_buddy *buddy = buddy_of_units(32);
	size_t run = weir_buddy_alloc(buddy, 8);

	CHECK_EQ(run, 0);
	CHECK_EQ(weir_buddy_resize(buddy, run, 3), 0);
	CHECK_EQ(weir_buddy_run(buddy, run), 3);
	CHECK_EQ(stats_of(buddy).in_use, 3);
	CHECK(weir_buddy_check(buddy));
	CHECK_EQ(weir_buddy_resize(buddy, run, 21), 0);
	CHECK_EQ(weir_buddy_run(buddy, run), 21);
	CHECK(weir_buddy_check(buddy));
	CHECK_EQ(weir_buddy_resize(buddy, run, 32), 0);
	CHECK_EQ(weir_buddy_resize(buddy, run, 33), -ENOSPC);
	CHECK_EQ(weir_buddy_resize(buddy, run, SIZE_MAX), -ENOSPC);
	CHECK_EQ(weir_buddy_resize(buddy, run, 0), -EINVAL);
	CHECK_EQ(weir_buddy_resize(buddy, run, 4), 0);

	size_t next = weir_buddy_alloc(buddy, 4);

	CHECK_EQ(next, 4);
	CHECK_EQ(weir_buddy_resize(buddy, run, 5), -ENOSPC);
	CHECK_EQ(weir_buddy_run(buddy, run), 4);
	CHECK(weir_buddy_check(buddy));
	weir_buddy_free(buddy, run);
	weir_buddy_free(buddy, next);
	weir_buddy_destroy(buddy);
}

TEST(buddy_manages_what_is_no_memory)
{
	struct weir_buddy *buddy = buddy_of_units(48);
	size_t first = weir_buddy_alloc(buddy, 16);

	CHECK_EQ(weir_buddy_unit(buddy, &first), WEIR_BUDDY_NONE);
	CHECK_NULL(weir_buddy_address(buddy, 0));
	EXPECT_ABORT("weir: FAULT bad-argument: buddy \"units\": "
		     "it has no base address",
	    { CHECK_NULL(weir_buddy_alloc_address(buddy, 1)); });
	weir_buddy_free(buddy, first);
	weir_buddy_destroy(buddy);
}

TEST(buddy_translates_addresses)
{
	static char memory[24 + 100 * 24 + 24];
	char *range = memory + 24, *end = range + 100 * 24;
	struct weir_buddy_config config = {
	    .unit_count = 100,
	    .base = range,
	    .unit_bytes = 24,
	};
	struct weir_buddy *buddy;

	CHECK_EQ(weir_buddy_create("range", &config, &buddy), 0);

	char *a = weir_buddy_alloc_address(buddy, 3);
	char *b = weir_buddy_alloc_address(buddy, 4);

	CHECK_EQ((a - range) % 24, 0);
	CHECK(b >= a + 72 || b + 96 <= a);
	CHECK_EQ(weir_buddy_unit(buddy, a + 25), (size_t)(a - range) / 24 + 1);
	CHECK_EQ(weir_buddy_unit(buddy, range - 1), WEIR_BUDDY_NONE);
	CHECK_EQ(weir_buddy_unit(buddy, end - 1), 99);
	CHECK_EQ(weir_buddy_unit(buddy, end), WEIR_BUDDY_NONE);
	CHECK_EQ(weir_buddy_unit(buddy, NULL), WEIR_BUDDY_NONE);
	CHECK_NULL(weir_buddy_address(buddy, 100));
	CHECK_NULL(weir_buddy_address(buddy, WEIR_BUDDY_NONE));
	weir_buddy_free_address(buddy, NULL);
	weir_buddy_free_address(buddy, a);
	weir_buddy_free_address(buddy, b);
	weir_buddy_destroy(buddy);
}

TEST(buddy_in_the_callers_storage_allocates_nothing)
{
	size_t bytes = weir_buddy_storage_bytes(1000);
	char *storage = malloc(bytes + 64);
	struct weir_buddy_config config = {.unit_count = 1000};
	struct weir_stats before = {.size = sizeof(before)};
	struct weir_stats after = {.size = sizeof(after)};
	struct weir_buddy *buddy;

	CHECK_NOT_NULL(storage);
	memset(storage, 0xa5, bytes + 64);
	CHECK_EQ(weir_stats_read(&before), 0);
	CHECK_EQ(weir_buddy_init(NULL, bytes, "s", &config, &buddy), -EINVAL);
	CHECK_EQ(
	    weir_buddy_init(storage, bytes - 1, "s", &config, &buddy), -EINVAL);
	CHECK_EQ(
	    weir_buddy_init(storage + 1, bytes, "s", &config, &buddy), -EINVAL);
	CHECK_NULL(buddy);
	CHECK_EQ(weir_buddy_init(storage, bytes, "s", &config, &buddy), 0);
	CHECK_PTR(buddy, storage);

	size_t run = weir_buddy_alloc(buddy, 700);

	CHECK_EQ(run, 0);
	CHECK(weir_buddy_check(buddy));
	weir_buddy_free(buddy, run);
	CHECK_EQ(weir_stats_read(&after), 0);
	CHECK_EQ(after.bytes_charged, before.bytes_charged);
	EXPECT_ABORT("weir: FAULT bad-argument: buddy \"s\"",
	    { weir_buddy_destroy(buddy); });
	weir_buddy_finish(buddy);
	for (size_t i = bytes; i < bytes + 64; i++)
		CHECK_EQ((unsigned char)storage[i], 0xa5);
	EXPECT_ABORT("weir: FAULT double-destroy: buddy \"s\"",
	    { weir_buddy_finish(buddy); });
	weir_buddy_finish(NULL);
	free(storage);
}

TEST(buddy_config_out_of_range_is_refused)
{
	char unit;
	const struct weir_buddy_config bad[] = {
	    {.unit_count = 0},
	    {.unit_count = WEIR_BUDDY_UNITS_MAX + 1},
	    {.unit_count = 8, .base = &unit},
	    {.unit_count = 8, .unit_bytes = 8},
	    {.unit_count = 8, .base = &unit, .unit_bytes = SIZE_MAX / 4},
	    {.unit_count = 8, .flags = 1u << 31},
	    {.unit_count = 8, .reserved = {0, 0, 0, 1}},
	};

	for (size_t i = 0; i < WEIRI_COUNT_OF(bad); i++) {
		struct weir_buddy *buddy = (struct weir_buddy *)(void *)&unit;

		CHECK_EQ(weir_buddy_create("bad", &bad[i], &buddy), -EINVAL);
		CHECK_NULL(buddy);
	}
	CHECK_EQ(weir_buddy_storage_bytes(0), 0);
	CHECK_EQ(weir_buddy_storage_bytes(WEIR_BUDDY_UNITS_MAX + 1), 0);
	CHECK_EQ(weir_set_limit(64 * 1024, UINT64_MAX), 0);

	struct weir_buddy_config large = {.unit_count = 1 << 20};
	struct weir_buddy *buddy;

	CHECK_EQ(weir_buddy_create("large", &large, &buddy), -ENOMEM);
	CHECK_NULL(buddy);
}

TEST(buddy_misuse_is_a_fault_that_names_it)
{
	static char range[64 * 16];
	struct weir_buddy_config config = {
	    .unit_count = 64, .base = range, .unit_bytes = 16};
	struct weir_buddy *buddy;

	CHECK_EQ(weir_buddy_create("conn", &config, &buddy), 0);

	size_t run = weir_buddy_alloc(buddy, 4);
	size_t one = weir_buddy_alloc(buddy, 1);

	CHECK_EQ(run, 0);
	CHECK_EQ(one, 4);
	EXPECT_ABORT("weir: FAULT interior-pointer: buddy \"conn\": "
		     "unit 2 is inside a run",
	    { weir_buddy_free(buddy, 2); });
	EXPECT_ABORT("weir: FAULT double-free: buddy \"conn\": unit 9 is free",
	    { weir_buddy_free(buddy, 9); });
	EXPECT_ABORT("weir: FAULT foreign-pointer: buddy \"conn\": "
		     "unit 64 is not one of its units",
	    { weir_buddy_free(buddy, 64); });
	EXPECT_ABORT("weir: FAULT misaligned-pointer: buddy \"conn\"",
	    { weir_buddy_free_address(buddy, range + 1); });
	EXPECT_ABORT("weir: FAULT foreign-pointer: buddy \"conn\"",
	    { weir_buddy_free_address(buddy, range + sizeof(range)); });
	EXPECT_ABORT("weir: FAULT interior-pointer: buddy \"conn\"",
	    { (void)weir_buddy_resize(buddy, 1, 1); });
	EXPECT_ABORT("weir: FAULT live-objects-at-destroy: buddy \"conn\": "
		     "5 units are still in use",
	    { weir_buddy_destroy(buddy); });
	EXPECT_ABORT("weir: FAULT bad-argument: buddy \"conn\"", {
		weir_buddy_free(buddy, run);
		weir_buddy_free(buddy, one);
		weir_buddy_finish(buddy);
	});

	/* Merged with its neighbours it is still a double free.  In mode sample the
	 * program would go on. */
	CHECK_EQ(
	    weir_guard_set_policy(WEIR_FAULT_DOUBLE_FREE, WEIR_GUARD_ABORT), 0);
	weir_buddy_free(buddy, one);
	weir_buddy_free(buddy, run);
	EXPECT_ABORT("weir: FAULT double-free: buddy \"conn\": unit 4 is free",
	    { weir_buddy_free(buddy, one); });
	weir_buddy_free(buddy, WEIR_BUDDY_NONE);
	CHECK(weir_buddy_check(buddy));
	weir_buddy_destroy(buddy);
	EXPECT_ABORT("weir: FAULT double-destroy: buddy \"conn\"",
	    { weir_buddy_destroy(buddy); });
	weir_buddy_destroy(NULL);
#define GONE "FAULT use-after-destroy: buddy \"conn\": it is used, but"
	EXPECT_ABORT(GONE, { (void)!weir_buddy_alloc(buddy, 1); });
	EXPECT_ABORT(GONE, { weir_buddy_free(buddy, 1); });
	EXPECT_ABORT(GONE, { (void)weir_buddy_largest(buddy); });
}

TEST(buddy_stats_are_exact)
{
	struct weir_buddy *buddy = buddy_of_units(100);
	struct weir_pool_stats s = {.size = 1};

	CHECK_EQ(weir_buddy_stats(buddy, &s), -EINVAL);

	size_t a = weir_buddy_alloc(buddy, 30);
	size_t b = weir_buddy_alloc(buddy, 10);

	CHECK_EQ(weir_buddy_alloc(buddy, 90), WEIR_BUDDY_NONE);
	CHECK_EQ(weir_buddy_alloc(buddy, 0), WEIR_BUDDY_NONE);
	weir_buddy_free(buddy, a);
	s = stats_of(buddy);
	CHECK_EQ(s.kind, WEIR_POOL_BUDDY);
	CHECK_STR(s.name, "units");
	CHECK_EQ(s.total, 100);
	CHECK_EQ(s.in_use, 10);
	CHECK_EQ(s.available, 90);
	CHECK_EQ(s.in_use_peak, 40);
	CHECK_EQ(s.requests, 4);
	CHECK_EQ(s.failures, 2);
	CHECK_EQ(s.hits + s.misses, s.requests);

	struct weir_pool_stats listed[4] = {{.size = sizeof(listed[0])}};

	CHECK_EQ(weir_stats_pools(listed, 4), 1);
	CHECK_STR(listed[0].name, "units");
	CHECK_EQ(listed[0].in_use, 10);
	weir_buddy_free(buddy, b);
	weir_buddy_destroy(buddy);
	CHECK_EQ(weir_stats_pools(listed, 4), 0);
}

static struct weir_buddy_orders
orders_of(struct weir_buddy *buddy)
{
	struct weir_buddy_orders orders = {.size = sizeof(orders)};
	uint64_t sum = 0;

	CHECK_EQ(weir_buddy_orders_read(buddy, &orders), 0);
	CHECK_EQ(orders.size, sizeof(orders));
	for (unsigned order = 0; order < WEIR_BUDDY_ORDERS; order++)
		sum += orders.free_blocks[order] << order;
	CHECK_EQ(sum, orders.free_units);
	return orders;
}

TEST(buddy_orders_tell_how_the_free_units_lie)
{
	struct weir_buddy *buddy = buddy_of_units(96);
	struct weir_buddy_orders orders = orders_of(buddy);
	size_t run[6];

	/* All free: 64 and 32, and a run of 96 is sure to be had. */
	CHECK_EQ(orders.free_blocks[6], 1);
	CHECK_EQ(orders.free_blocks[5], 1);
	CHECK_EQ(orders.free_units, 96);
	CHECK_EQ(orders.largest_units, 96);
	CHECK_EQ(orders.fragmentation_permille, 0);

	for (size_t i = 0; i < 6; i++)
		run[i] = weir_buddy_alloc(buddy, 16);
	orders = orders_of(buddy);
	CHECK_EQ(orders.free_units, 0);
	CHECK_EQ(orders.largest_units, 0);
	CHECK_EQ(orders.fragmentation_permille, 0);

	/* Two apart: half of what is free is beside the longest run. */
	weir_buddy_free(buddy, run[0]);
	weir_buddy_free(buddy, run[2]);
	orders = orders_of(buddy);
	CHECK_EQ(orders.free_blocks[4], 2);
	CHECK_EQ(orders.free_units, 32);
	CHECK_EQ(orders.largest_units, 16);
	CHECK_EQ(orders.fragmentation_permille, 500);

	/* What lies between them comes back: they merge. */
	weir_buddy_free(buddy, run[1]);
	weir_buddy_free(buddy, run[3]);
	orders = orders_of(buddy);
	CHECK_EQ(orders.free_units, 64);
	CHECK_EQ(orders.largest_units, weir_buddy_largest(buddy));
	CHECK_EQ(weir_buddy_alloc(buddy, 3) != WEIR_BUDDY_NONE, true);
	CHECK(weir_buddy_check(buddy));

	orders.size--;
	CHECK_EQ(weir_buddy_orders_read(buddy, &orders), -EINVAL);
	CHECK_EQ(weir_pages_orders_read(&orders), -EINVAL);
}

struct shared {
	struct weir_buddy *buddy;
	uint8_t owner[256];
	size_t rounds;
};

static void
shared_run(unsigned index, void *context)
{
	struct shared *shared = context;
	size_t held[4] = {
	    WEIR_BUDDY_NONE, WEIR_BUDDY_NONE, WEIR_BUDDY_NONE, WEIR_BUDDY_NONE};
	size_t length[4] = {0};
	struct test_rng rng;

	test_rng_init(&rng, test_seed() + index);
	for (size_t i = 0; i < shared->rounds + 4; i++) {
		/* The last four rounds give back what is held. */
		bool last = i >= shared->rounds;
		size_t slot =
		    last ? i - shared->rounds : test_rand_below(&rng, 4);
		size_t first = held[slot];

		if (first != WEIR_BUDDY_NONE) {
			for (size_t u = 0; u < length[slot]; u++) {
				CHECK_EQ(shared->owner[first + u], index + 1);
				shared->owner[first + u] = 0;
			}
			weir_buddy_free(shared->buddy, first);
			held[slot] = WEIR_BUDDY_NONE;
		} else if (!last) {
			length[slot] = 1 + test_rand_below(&rng, 20);
			held[slot] =
			    weir_buddy_alloc(shared->buddy, length[slot]);
			if (held[slot] == WEIR_BUDDY_NONE)
				continue;
			for (size_t u = 0; u < length[slot]; u++) {
				CHECK_EQ(shared->owner[held[slot] + u], 0);
				shared->owner[held[slot] + u] =
				    (uint8_t)(index + 1);
			}
		}
	}
}

TEST(buddy_units_of_threads_do_not_overlap)
{
	struct shared shared = {
	    .buddy = buddy_of_units(256), .rounds = test_count(20000)};

	(void)test_seed();
	test_threads(4, shared_run, &shared);
	CHECK(weir_buddy_check(shared.buddy));
	CHECK_EQ(stats_of(shared.buddy).in_use, 0);
	CHECK_EQ(weir_buddy_largest(shared.buddy), 256);
	weir_buddy_destroy(shared.buddy);
}

TEST(buddy_unlocked_does_the_same)
{
	struct weir_buddy_config config = {
	    .unit_count = 16, .flags = WEIR_BUDDY_UNLOCKED};
	struct weir_buddy *buddy;

	CHECK_EQ(weir_buddy_create("mine", &config, &buddy), 0);

	size_t a = weir_buddy_alloc(buddy, 5);

	CHECK_EQ(weir_buddy_run(buddy, a), 5);
	weir_buddy_free(buddy, a);
	CHECK(weir_buddy_check(buddy));
	weir_buddy_destroy(buddy);
}
