/* SPDX-License-Identifier: MIT */
/*
 * test_region_blocks.c - blocks, large objects, configurations.
 */
#include "region_common.h"

/* ---- blocks and large objects ------------------------------------------ */

TEST(blocks_double_up_to_the_cap)
{
	NOT_UNDER_GUARD("a region has no room and no blocks");

	struct weir_region *region = create(&(struct weir_region_config){
	    .first_bytes = 1024, .block_bytes_max = 8192});
	uint64_t expected[] = {1024, 3072, 7168, 15360, 23552, 31744};
	size_t step = 0;

	CHECK_EQ(figures(region).bytes_charged, 1024);
	while (step < 5) {
		CHECK_NOT_NULL(weir_region_alloc(region, 64));
		if (figures(region).bytes_charged != expected[step])
			CHECK_EQ(
			    figures(region).bytes_charged, expected[++step]);
	}
	CHECK_EQ(figures(region).blocks, 6);
	CHECK_EQ(figures(region).misses, 5);
	CHECK(weir_region_check(region));
	weir_region_destroy(region);
}

TEST(blocks_above_the_depots_sizes_work)
{
	NOT_UNDER_GUARD("a region has no room and no blocks");

	struct weir_region *region = create(&(struct weir_region_config){
	    .first_bytes = 32 << 10, .block_bytes_max = 1 << 20});

	for (size_t bytes = 0; bytes < 4 << 20; bytes += 1000)
		CHECK_NOT_NULL(weir_region_alloc(region, 1000));
	CHECK_EQ(figures(region).larges, 0);
	CHECK_LE(figures(region).blocks, 10);
	CHECK(weir_region_check(region));
	weir_region_reset(region);
	CHECK_EQ(figures(region).bytes_charged, 32 << 10);
	weir_region_destroy(region);
}

TEST(object_above_the_next_block_opens_one_that_serves_on)
{
	NOT_UNDER_GUARD("a region has no room and no blocks");

	struct weir_region *region = create(NULL);
	char *big = weir_region_alloc(region, 20 << 10), *small;

	CHECK_NOT_NULL(big);
	CHECK_EQ(figures(region).larges, 0);
	CHECK_EQ(figures(region).bytes_charged, 36 << 10);
	small = weir_region_alloc(region, 8000);
	CHECK_PTR(small, big + (20 << 10));
	weir_region_destroy(region);
}

TEST(larger_room_is_kept_when_an_object_opens_a_block)
{
	NOT_UNDER_GUARD("an address is used again as late as can be");

	struct weir_region *region =
	    create(&(struct weir_region_config){.first_bytes = 32 << 10});
	char *next = weir_region_alloc(region, 16);

	/* The rest of the new block is smaller than the room of the first. */
	CHECK_NOT_NULL(weir_region_alloc(region, 32704));
	CHECK_EQ(figures(region).blocks, 2);
	CHECK_PTR(weir_region_alloc(region, 16), next + 16);
	CHECK(weir_region_check(region));
	weir_region_destroy(region);
}

TEST(large_objects_have_exactly_their_pages)
{
	NOT_UNDER_GUARD(
	    "large objects of a region begin anywhere in their page");

	struct weir_region *region = create(NULL);
	uint64_t before = figures(region).bytes_charged;
	char *large = weir_region_alloc(region, 100001);

	CHECK_NOT_NULL(large);
	CHECK(is_aligned(large, 4096));
	memset(large, 1, 100001);
	CHECK_EQ(figures(region).larges, 1);
	CHECK_EQ(figures(region).bytes_charged - before, 25 * 4096);
	/* It does not drag the doubling up. */
	CHECK_NOT_NULL(weir_region_alloc(region, 3900));
	CHECK_NOT_NULL(weir_region_alloc(region, 100));
	CHECK_EQ(figures(region).bytes_charged - before, 25 * 4096 + 8192);
	CHECK(weir_region_check(region));
	weir_region_destroy(region);
}

TEST(threshold_of_large_objects_can_be_set)
{
	NOT_UNDER_GUARD("a region has no room and no blocks");

	struct weir_region *region =
	    create(&(struct weir_region_config){.large_bytes = 1000});

	CHECK_NOT_NULL(weir_region_alloc(region, 4000));
	CHECK_EQ(figures(region).larges, 1);
	CHECK_NOT_NULL(weir_region_alloc(region, figures(region).bytes_room));
	CHECK_NOT_NULL(weir_region_alloc(region, 1000));
	CHECK_EQ(figures(region).larges, 1);
	CHECK_NOT_NULL(weir_region_alloc(region, 8000));
	CHECK_EQ(figures(region).larges, 2);
	CHECK(weir_region_check(region));
	weir_region_destroy(region);
}

TEST(large_objects_are_freed_one_by_one)
{
	NOT_UNDER_GUARD("a region has no room and no blocks");

	struct weir_region *region = create(NULL);
	char *small = weir_region_alloc(region, 100);
	char *large[10];
	uint64_t before = figures(region).bytes_charged;

	for (int i = 0; i < 10; i++) {
		large[i] = weir_region_alloc(region, 50000);
		CHECK_NOT_NULL(large[i]);
		memset(large[i], i, 50000);
	}
	for (int i = 1; i < 10; i += 2)
		CHECK(weir_region_free_large(region, large[i]));
	CHECK_EQ(figures(region).larges, 5);
	CHECK_EQ(figures(region).bytes_charged - before, 5 * 13 * 4096);
	CHECK(weir_region_check(region));
	for (int i = 0; i < 10; i += 2)
		for (int at = 0; at < 50000; at += 999)
			CHECK_EQ(large[i][at], i);
	/* What shares a block stays. */
	CHECK(!weir_region_free_large(region, small));
	CHECK(!weir_region_free_large(region, NULL));
	weir_region_destroy(region);
	CHECK_EQ(kind_stats(&test_kind).bytes_mapped, 0);
}

TEST(large_objects_grow_and_shrink_where_they_are)
{
	NOT_UNDER_GUARD("a region has no room and no blocks");

	struct weir_region *region =
	    create(&(struct weir_region_config){.limit_bytes = 4 << 20});
	char *small = weir_region_alloc(region, 100);
	char *large = weir_region_alloc(region, 100000);
	uint64_t before;

	CHECK_NOT_NULL(large);
	memset(large, 7, 100000);
	CHECK(weir_region_resize_large(region, large, 40000));
	before = figures(region).bytes_charged;
	CHECK(weir_region_resize_large(region, large, 90000));
	CHECK_EQ(figures(region).bytes_charged - before, (22 - 10) * 4096);
	for (int at = 0; at < 40000; at++)
		CHECK_EQ(large[at], 7);
	memset(large, 8, 90000);
	/* Not above the limit, and not at all what has no pages. */
	CHECK(!weir_region_resize_large(region, large, 5 << 20));
	CHECK(!weir_region_resize_large(region, large, SIZE_MAX));
	CHECK(!weir_region_resize_large(region, small, 200));
	CHECK(weir_region_check(region));
	weir_region_destroy(region);
}

/* ---- configuration and limits ------------------------------------------ */

TEST(configurations_out_of_range_are_refused)
{
	static const struct weir_region_config bad[] = {
	    {.first_bytes = WEIR_REGION_FIRST_MAX + 1},
	    {.first_bytes = SIZE_MAX},
	    {.block_bytes_max = WEIR_REGION_BLOCK_MAX + 1},
	    {.block_bytes_max = SIZE_MAX},
	    {.block_bytes_max = 1},
	    {.block_bytes_max = 512},
	    {.block_bytes_max = 5000},
	    {.first_bytes = 48 << 10, .block_bytes_max = 32 << 10},
	    {.first_bytes = 8192, .block_bytes_max = 4096},
	    {.large_bytes = 32 << 10},
	    {.large_bytes = SIZE_MAX},
	    {.limit_bytes = 1},
	    {.limit_bytes = 511},
	    {.flags = 1},
	    {.reserved = {0, 0, 1}},
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct weir_region *region = (void *)&region;

		CHECK_EQ(weir_region_create(NULL, &bad[i], &region), -EINVAL);
		CHECK_NULL(region);
	}
}

/* The size of first blocks after one of @bytes. */
static size_t
next_size(size_t bytes)
{
	size_t power = WEIR_REGION_FIRST_MIN;

	while (power * 2 <= bytes)
		power *= 2;
	if (bytes < 16384)
		return bytes + (power / 8 < 512 ? power / 8 : 512);
	return bytes == power ? power / 2 * 3 : power * 2;
}

TEST(sizes_are_rounded_up_and_default_first_yields_to_a_small_cap)
{
	struct weir_region *region =
	    create(&(struct weir_region_config){.first_bytes = 1500});

	CHECK_EQ(figures(region).bytes_charged, 1536);
	weir_region_destroy(region);
	region = create(&(struct weir_region_config){.first_bytes = 1537});
	CHECK_EQ(figures(region).bytes_charged, 1664);
	weir_region_destroy(region);
	region = create(&(struct weir_region_config){.block_bytes_max = 1024});
	CHECK_EQ(figures(region).bytes_charged, 1024);
	weir_region_destroy(region);
	/* Each size, and the next above the one before. */
	for (size_t last = 0; last < WEIR_REGION_FIRST_MAX;) {
		size_t bytes =
		    last == 0 ? WEIR_REGION_FIRST_MIN : next_size(last);

		for (size_t first = last + 1; first <= bytes;
		     first += bytes - last - 1) {
			region = create(
			    &(struct weir_region_config){.first_bytes = first});
			CHECK_EQ(figures(region).bytes_charged, bytes);
			CHECK(weir_region_check(region));
			weir_region_destroy(region);
		}
		last = bytes;
	}
}

TEST(default_cap_yields_to_a_larger_first_block)
{
	NOT_UNDER_GUARD("a region has no room and no blocks");

	struct weir_region *region =
	    create(&(struct weir_region_config){.first_bytes = 48 << 10});

	CHECK_EQ(figures(region).bytes_charged, 48 << 10);
	/* Another block, not pages: what it leaves serves the next. */
	CHECK_NOT_NULL(weir_region_alloc(region, 50000));
	CHECK_EQ(figures(region).bytes_charged, (48 + 64) << 10);
	CHECK_EQ(figures(region).blocks, 2);
	CHECK_EQ(figures(region).larges, 0);
	CHECK(weir_region_check(region));
	weir_region_destroy(region);
	/* One that says 32 KiB has them. */
	region = create(&(struct weir_region_config){.first_bytes = 32 << 10});
	CHECK_NOT_NULL(weir_region_alloc(region, 40000));
	CHECK_EQ(figures(region).larges, 1);
	weir_region_destroy(region);
}

TEST(reset_of_nothing_does_nothing)
{
	weir_region_reset(NULL);
}

TEST(site_of_a_configuration_is_shown_instead_of_the_caller)
{
	static char buffer[4096], here;
	struct weir_region_config config = {.site = &here};
	struct weir_region_info info[1];
	struct weir_region *region = create(&config); /* the short way */

	CHECK_EQ(weir_region_top(WEIR_REGION_BY_AGE, 0, info, 1), 1);
	CHECK_PTR(info[0].site, &here);
	weir_region_destroy(region);
	region = create(&config); /* one that rests */
	CHECK_EQ(weir_region_top(WEIR_REGION_BY_AGE, 0, info, 1), 1);
	CHECK_PTR(info[0].site, &here);
	weir_region_destroy(region);
	CHECK_EQ(weir_region_create_in(
		     &test_kind, &config, buffer, sizeof(buffer), &region),
	    0);
	CHECK_EQ(weir_region_top(WEIR_REGION_BY_AGE, 0, info, 1), 1);
	CHECK_PTR(info[0].site, &here);
	weir_region_destroy(region);
	region = create(&(struct weir_region_config){.name = "plain"});
	CHECK_EQ(weir_region_top(WEIR_REGION_BY_AGE, 0, info, 1), 1);
	CHECK_NOT_NULL(info[0].site);
	CHECK(info[0].site != &here);
	weir_region_destroy(region);
}

TEST(limit_binds_the_current_block_included)
{
	static const uint64_t limits[] = {
	    1024, 4096, 5000, 8191, 12288, 65536, 100000};

	for (size_t i = 0; i < 7; i++) {
		struct weir_region *region = create(
		    &(struct weir_region_config){.limit_bytes = limits[i]});
		size_t served = 0;

		while (weir_region_alloc(region, 100) != NULL) {
			served++;
			CHECK_LE(figures(region).bytes_charged, limits[i]);
		}
		CHECK_GT(served, 0);
		CHECK_EQ(figures(region).failures, 1);
		/* What is left is less than the smallest block. */
		CHECK_LT(limits[i] - figures(region).bytes_charged, 1024);
		CHECK_NULL(weir_region_alloc(region, 1 << 20));
		CHECK_NULL(weir_region_alloc(region, limits[i]));
		CHECK_EQ(figures(region).failures, 3);
		CHECK(weir_region_check(region));
		weir_region_reset(region);
		CHECK_NOT_NULL(weir_region_alloc(region, 100));
		CHECK_EQ(figures(region).bytes_limit, limits[i]);
		weir_region_destroy(region);
	}
}

TEST(aligned_object_of_no_bytes_keeps_to_the_limit)
{
	struct weir_region *region =
	    create(&(struct weir_region_config){.limit_bytes = 8192});
	size_t served = 0;

	for (int i = 0; i < 10; i++) {
		/* Off the alignment, so that each needs pages of its own. */
		CHECK_NOT_NULL(weir_region_alloc(region, 16));
		served += weir_region_alloc_aligned(region, 0, 1 << 20) != NULL;
	}
	CHECK_EQ(served, 1);
	CHECK(weir_region_check(region));
	weir_region_destroy(region);
}

/* ---- the caller's memory ---------------------------------------------------- */

TEST(buffer_of_the_caller_is_the_first_block)
{
	NOT_UNDER_GUARD("a region has no room and no blocks");

	char buffer[4096 + 16];

	for (size_t offset = 0; offset < 17; offset += 4) {
		struct weir_region *region;
		char *object;

		memset(buffer, 0x55, sizeof(buffer));
		CHECK_EQ(weir_region_create_in(
			     &test_kind, NULL, buffer + offset, 4000, &region),
		    0);
		CHECK_EQ(figures(region).bytes_charged, 0);
		CHECK_GT(figures(region).bytes_room, 4000 - 320);
		object = weir_region_alloc(region, figures(region).bytes_room);
		CHECK(is_aligned(object, 16));
		CHECK(object > buffer && object < buffer + 4000);
		memset(object, 1, 3600);
		CHECK_EQ(figures(region).misses, 0);
		CHECK(weir_region_check(region));
		/* Then it grows like any other. */
		memset(weir_region_alloc(region, 20000), 2, 20000);
		memset(weir_region_alloc(region, 100000), 3, 100000);
		add_note(region, "x");
		CHECK(weir_region_check(region));
		weir_region_reset(region);
		CHECK_EQ(figures(region).bytes_charged, 0);
		CHECK_PTR(weir_region_alloc(region, 1), object);
		CHECK(weir_region_check(region));
		weir_region_destroy(region);
		for (size_t i = 0; i < offset; i++)
			CHECK_EQ(buffer[i], 0x55);
		for (size_t i = offset + 4000; i < sizeof(buffer); i++)
			CHECK_EQ(buffer[i], 0x55);
	}
	CHECK_EQ(strlen(trace), 5);
	CHECK_EQ(kind_stats(&test_kind).in_use, 0);
	CHECK_EQ(kind_stats(&test_kind).bytes_mapped, 0);
}

/* More than any first block of the library's own. */
TEST(resets_of_a_large_buffer_teach_the_kind)
{
	NOT_UNDER_GUARD("a region has no room and no blocks");

	static struct weir_region_kind kind = WEIR_REGION_KIND("in place");
	static char buffer[(size_t)1 << 20];
	struct weir_region *region;

	CHECK_EQ(
	    weir_region_create_in(&kind, NULL, buffer, sizeof(buffer), &region),
	    0);
	for (size_t i = 0; i < 100; i++) {
		CHECK_NOT_NULL(weir_region_alloc(region, 100000 + i * 9000));
		weir_region_reset(region);
		CHECK(weir_region_check(region));
	}
	CHECK_EQ(kind_stats(&kind).hits, 1);
	CHECK_EQ(kind_stats(&kind).in_use, 1);
	CHECK_EQ(kind_stats(&kind).misses, 0);
	CHECK_EQ(kind_stats(&kind).failures, 0);
	weir_region_destroy(region);
	CHECK_EQ(weir_region_create(&kind, NULL, &region), 0);
	CHECK_EQ(figures(region).bytes_charged, WEIR_REGION_FIRST_MAX);
	weir_region_destroy(region);
}

TEST(limit_of_a_region_in_a_buffer_counts_what_is_taken)
{
	static char buffer[2048], small[600];
	const struct weir_region_config config = {.limit_bytes = 10000};
	struct weir_region *region, *below;
	struct weir_region_config under = {0};

	CHECK_EQ(weir_region_create_in(
		     &test_kind, &config, buffer, sizeof(buffer), &region),
	    0);
	under.parent = region;
	CHECK_EQ(weir_region_create_in(
		     &test_kind, &under, small, sizeof(small), &below),
	    0);
	while (weir_region_alloc(below, 100) != NULL)
		CHECK_LE(figures(region).bytes_below, 10000);
	CHECK_GT(figures(region).bytes_below, 10000 - 1024);
	CHECK(weir_region_check(region));
	weir_region_destroy(region);
	CHECK_EQ(kind_stats(&test_kind).in_use, 0);
}

TEST(buffer_that_is_too_small_is_refused)
{
	char buffer[WEIR_REGION_BUFFER_MIN];
	struct weir_region *region = (void *)buffer;

	CHECK_EQ(weir_region_create_in(
		     &test_kind, NULL, buffer, sizeof(buffer) - 1, &region),
	    -EINVAL);
	CHECK_NULL(region);
	CHECK_EQ(weir_region_create_in(
		     &test_kind, NULL, buffer, sizeof(buffer), &region),
	    0);
	CHECK_NOT_NULL(weir_region_alloc(region, 100));
	weir_region_destroy(region);
}
