/* SPDX-License-Identifier: MIT */
/*
 * test_region_kind.c - kinds: what they count and learn.
 */
#include "region_common.h"

TEST(kind_counts_regions_bytes_and_peak)
{
	NOT_UNDER_GUARD("a region has no room and no blocks");

	struct weir_region *region[10];
	struct weir_pool_stats stats;

	stats = kind_stats(&test_kind);
	CHECK_EQ(stats.total, 0);
	CHECK_EQ(stats.kind, WEIR_POOL_REGION);
	for (int i = 0; i < 10; i++)
		region[i] = create(NULL);
	CHECK_NOT_NULL(weir_region_alloc(region[0], 5000));
	stats = kind_stats(&test_kind);
	CHECK_STR(stats.name, "test");
	CHECK_EQ(stats.kind, WEIR_POOL_REGION);
	CHECK_EQ(stats.in_use, 10);
	CHECK_EQ(stats.total, stats.in_use + stats.available);
	CHECK_EQ(stats.bytes_in_use, 10 * 4096 + 8192);
	CHECK_EQ(stats.hits, 10);
	CHECK_EQ(stats.misses, 1);
	CHECK_EQ(stats.requests, 11);
	for (int i = 0; i < 10; i++)
		weir_region_destroy(region[i]);
	stats = kind_stats(&test_kind);
	CHECK_EQ(stats.in_use, 0);
	CHECK_EQ(stats.in_use_peak, 10);
	CHECK_EQ(stats.bytes_mapped, 0);
	CHECK_EQ(stats.failures, 0);
}

TEST(kind_appears_once_in_the_process_statistics)
{
	struct weir_region *region = create(NULL), *plain;
	struct weir_pool_stats pools[16];
	size_t count, test_seen = 0, plain_seen = 0;

	CHECK_EQ(weir_region_create(NULL, NULL, &plain), 0);
	pools[0].size = sizeof(pools[0]);
	count = weir_stats_pools(pools, 16);
	CHECK_LE(count, 16);
	for (size_t i = 0; i < count; i++) {
		test_seen += strcmp(pools[i].name, "test") == 0;
		plain_seen += strcmp(pools[i].name, "region") == 0;
	}
	CHECK_EQ(test_seen, 1);
	CHECK_EQ(plain_seen, 1);
	weir_region_destroy(plain);
	weir_region_destroy(region);
}

TEST(statistics_of_another_version_are_refused)
{
	struct weir_region *region = create(NULL);
	struct weir_region_figures one = {.size = 8};
	struct weir_pool_stats all = {.size = 8};

	CHECK_EQ(weir_region_stats(region, &one), -EINVAL);
	CHECK_EQ(weir_region_kind_stats(&test_kind, &all), -EINVAL);
	weir_region_destroy(region);
}

/* ---- learning ------------------------------------------------------------ */

static void
fill(struct weir_region *region, size_t bytes)
{
	for (size_t done = 0; done < bytes; done += 512)
		memset(weir_region_alloc(region, 512), 1, 512);
}

static uint64_t
first_block_after(struct weir_region_kind *kind, int regions, size_t bytes)
{
	struct weir_region *region;
	uint64_t first = 0;

	for (int i = 0; i <= regions; i++) {
		CHECK_EQ(weir_region_create(kind, NULL, &region), 0);
		first = figures(region).bytes_charged;
		if (i < regions)
			fill(region, bytes);
		CHECK(weir_region_check(region));
		weir_region_destroy(region);
	}
	return first;
}

TEST(first_block_becomes_what_regions_of_the_kind_need)
{
	NOT_UNDER_GUARD("a region has no room and no blocks");

	static struct weir_region_kind small = WEIR_REGION_KIND("small");
	static struct weir_region_kind large = WEIR_REGION_KIND("large");
	struct weir_region *region;
	uint64_t first;

	CHECK_EQ(first_block_after(&small, 1, 500), 4096);
	CHECK_EQ(first_block_after(&small, 128, 500), 768);
	CHECK_EQ(first_block_after(&large, 128, 40000), 48 << 10);
	/* What learned does not need a second block. */
	CHECK_EQ(weir_region_create(&large, NULL, &region), 0);
	fill(region, 40000);
	CHECK_EQ(figures(region).misses, 0);
	weir_region_destroy(region);
	/* And what changes is understood within 64, in both directions. */
	CHECK_EQ(first_block_after(&large, 96, 500), 768);
	first = first_block_after(&large, 64, 9000);
	CHECK_LE(9728, first);
	CHECK_LE(first, 12 << 10);
	/* To what the last of several blocks had left, it takes as long again. */
	CHECK_EQ(first_block_after(&large, 64, 9000), 9728);
	/* A first block is never larger than the largest. */
	CHECK_EQ(first_block_after(&large, 64, 1 << 20), 64 << 10);
}

/* Also where first blocks are smaller than the least limit, and the next region
 * begins in line. */
TEST(least_limit_is_the_same_whatever_a_kind_learned)
{
	static struct weir_region_kind kind = WEIR_REGION_KIND("limited");
	static const uint64_t limits[] = {1, 511, 512, 700, 1023, 1024};

	for (int learned = 0; learned < 2; learned++) {
		for (size_t i = 0; i < 6; i++) {
			struct weir_region_config config = {
			    .limit_bytes = limits[i]};
			struct weir_region *region;
			int status =
			    weir_region_create(&kind, &config, &region);

			CHECK_EQ(status, limits[i] < 512 ? -EINVAL : 0);
			if (status != 0)
				continue;
			while (weir_region_alloc(region, 16) != NULL)
				CHECK_LE(
				    figures(region).bytes_charged, limits[i]);
			CHECK(weir_region_check(region));
			weir_region_destroy(region);
		}
		(void)first_block_after(&kind, 128, 0);
	}
}

TEST(one_large_region_among_many_teaches_nothing)
{
	NOT_UNDER_GUARD("a region has no room and no blocks");

	static struct weir_region_kind kind = WEIR_REGION_KIND("outlier");

	CHECK_EQ(first_block_after(&kind, 128, 2500), 2816);
	for (int i = 0; i < 20; i++) {
		(void)first_block_after(&kind, 1, 1 << 20);
		CHECK_EQ(first_block_after(&kind, 31, 2500), 2816);
	}
}

TEST(percent_of_a_kind_says_how_many_must_fit)
{
	NOT_UNDER_GUARD("a region has no room and no blocks");

	static struct weir_region_kind most = WEIR_REGION_KIND("most");
	static struct weir_region_kind half = {
	    .name = "half", .first_percent = 50};

	/* One region in four is large. */
	for (int i = 0; i < 64; i++) {
		(void)first_block_after(&most, 1, 20000);
		(void)first_block_after(&most, 2, 500);
		(void)first_block_after(&half, 1, 20000);
		(void)first_block_after(&half, 2, 500);
	}
	CHECK_EQ(first_block_after(&half, 0, 0), 768);
	CHECK_EQ(first_block_after(&most, 0, 0), 24 << 10);
}

/* So many ends as a thread tells its kind about at a time, @large of them of 1100
 * bytes, the others of half; the first block of the last. */
static uint64_t
first_block_in_epoch(struct weir_region_kind *kind, int large)
{
	struct weir_region *region;
	uint64_t first = 0;

	for (int i = 0; i < 32; i++) {
		CHECK_EQ(weir_region_create(kind, NULL, &region), 0);
		first = figures(region).bytes_charged;
		CHECK_NOT_NULL(
		    weir_region_alloc(region, i < large ? 1100 : 550));
		weir_region_destroy(region);
	}
	return first;
}

TEST(kind_between_two_sizes_stays_with_one)
{
	NOT_UNDER_GUARD("a region has no room and no blocks");

	static struct weir_region_kind kind = WEIR_REGION_KIND("between");
	uint64_t small = 0;

	for (int i = 0; i < 5; i++)
		small = first_block_in_epoch(&kind, 0);
	CHECK_EQ(small, 832);
	/* Now and then a sixth is larger, where a tenth is to be. */
	for (int i = 0; i < 10; i++) {
		CHECK_EQ(first_block_in_epoch(&kind, 6), small);
		CHECK_EQ(first_block_in_epoch(&kind, 0), small);
	}
	/* Then always. */
	for (int i = 0; i < 5; i++)
		(void)first_block_in_epoch(&kind, 6);
	CHECK_LT(small, first_block_in_epoch(&kind, 6));
	/* And much more is believed at once. */
	for (int i = 0; i < 10; i++)
		(void)first_block_in_epoch(&kind, 0);
	CHECK_EQ(first_block_in_epoch(&kind, 16), small);
	CHECK_LT(small, first_block_in_epoch(&kind, 16));
	CHECK_EQ(kind_stats(&kind).in_use, 0);
}

/* Most regions that do not fit lack little. */
TEST(second_block_of_a_kind_that_learned_is_small)
{
	NOT_UNDER_GUARD("a region has no room and no blocks");

	static struct weir_region_kind kind = WEIR_REGION_KIND("brims");
	struct weir_region *region;

	CHECK_EQ(first_block_after(&kind, 128, 8000), 8704);
	CHECK_EQ(weir_region_create(&kind, NULL, &region), 0);
	fill(region, 8000);
	CHECK_EQ(figures(region).misses, 0);
	CHECK_NOT_NULL(weir_region_alloc(region, 700));
	CHECK_EQ(figures(region).bytes_charged, 8704 + 1024);
	CHECK_NOT_NULL(weir_region_alloc(region, 1000));
	CHECK_EQ(figures(region).bytes_charged, 8704 + 1024 + 2048);
	CHECK(weir_region_check(region));
	weir_region_destroy(region);
	/* An object that needs more than that has it. */
	CHECK_EQ(weir_region_create(&kind, NULL, &region), 0);
	CHECK_NOT_NULL(weir_region_alloc(region, 12000));
	CHECK_EQ(figures(region).bytes_charged, 8704 + 16384);
	weir_region_destroy(region);
	/* What the program says how to grow is not learned. */
	CHECK_EQ(
	    weir_region_create(&kind,
		&(struct weir_region_config){.first_bytes = 8704}, &region),
	    0);
	CHECK_NOT_NULL(weir_region_alloc(region, 9000));
	CHECK_EQ(figures(region).bytes_charged, 8704 + 16384);
	weir_region_destroy(region);
}

TEST(percent_above_a_hundred_is_a_hundred)
{
	NOT_UNDER_GUARD("a region has no room and no blocks");

	static struct weir_region_kind all = {
	    .name = "all", .first_percent = 100, .keep_percent = 100};
	static struct weir_region_kind beyond = {
	    .name = "beyond", .first_percent = 255, .keep_percent = 255};

	/* Of both the one in 32 that is large decides; at 90 it would not. */
	for (int i = 0; i < 4; i++) {
		(void)first_block_after(&all, 1, 20000);
		(void)first_block_after(&all, 30, 500);
		(void)first_block_after(&beyond, 1, 20000);
		(void)first_block_after(&beyond, 30, 500);
	}
	CHECK_EQ(first_block_after(&all, 0, 0), 24 << 10);
	CHECK_EQ(first_block_after(&beyond, 0, 0), 24 << 10);
}

static uint64_t
charge_after_resets(struct weir_region *region, int resets, size_t bytes)
{
	for (int i = 0; i < resets; i++) {
		fill(region, bytes);
		weir_region_reset(region);
		CHECK(weir_region_check(region));
	}
	return figures(region).bytes_charged;
}

TEST(reset_keeps_what_the_kind_needs_and_no_more)
{
	NOT_UNDER_GUARD("a region has no room and no blocks");

	static struct weir_region_kind kind = WEIR_REGION_KIND("reset");
	struct weir_region *region;
	uint64_t misses;

	CHECK_EQ(weir_region_create(&kind, NULL, &region), 0);
	CHECK_EQ(charge_after_resets(region, 1, 20000), 4096);
	/* The first block stays; beside it is one that holds it all. */
	CHECK_EQ(charge_after_resets(region, 128, 20000), 4096 + (32 << 10));
	misses = figures(region).misses;
	CHECK_EQ(charge_after_resets(region, 100, 20000), 4096 + (32 << 10));
	CHECK_EQ(figures(region).misses, misses);
	/* A spike of a hundred times that is gone with the reset. */
	CHECK_EQ(charge_after_resets(region, 1, 2000000), 4096 + (32 << 10));
	/* What was much is little after 64 resets. */
	CHECK_EQ(charge_after_resets(region, 96, 1000), 4096);
	weir_region_destroy(region);
	CHECK_EQ(kind_stats(&kind).bytes_mapped, 0);
}

TEST(many_resets_count_as_no_region)
{
	static struct weir_region_kind kind = WEIR_REGION_KIND("counted");
	struct weir_region *region;

	for (int i = 1; i <= 10; i++) {
		CHECK_EQ(weir_region_create(&kind, NULL, &region), 0);
		(void)charge_after_resets(region, 25, (size_t)i * 700);
		CHECK_EQ(kind_stats(&kind).hits, i);
		CHECK_EQ(kind_stats(&kind).in_use, 1);
		weir_region_destroy(region);
		CHECK_EQ(kind_stats(&kind).hits, i);
	}
}
