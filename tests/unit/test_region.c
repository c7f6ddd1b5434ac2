/* SPDX-License-Identifier: MIT */
/*
 * test_region.c - what region.h promises of objects and ends.
 */
#include "region_common.h"

#include "os/os.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- objects ----------------------------------------------------------- */

TEST(objects_are_aligned_and_do_not_overlap)
{
	struct weir_region *region = create(NULL);
	unsigned char *object[200];

	for (size_t i = 0; i < 200; i++) {
		object[i] = weir_region_alloc(region, i + 1);
		CHECK_NOT_NULL(object[i]);
		CHECK(is_aligned(object[i], 16));
		memset(object[i], (int)i, i + 1);
	}
	for (size_t i = 0; i < 200; i++)
		for (size_t b = 0; b <= i; b++)
			CHECK_EQ(object[i][b], i);
	CHECK(weir_region_check(region));
	weir_region_destroy(region);
}

TEST(size_zero_gives_a_pointer_and_takes_nothing)
{
	struct weir_region *region = create(NULL);
	uint64_t room = figures(region).bytes_room;

	CHECK_NOT_NULL(weir_region_alloc(region, 0));
	CHECK_NOT_NULL(weir_region_alloc_zeroed(region, 0));
	CHECK_NOT_NULL(weir_region_memdup(region, NULL, 0));
	CHECK_EQ(figures(region).bytes_room, room);
	CHECK_NOT_NULL(weir_region_alloc(region, room));
	CHECK_EQ(figures(region).bytes_room, 0);
	CHECK_NOT_NULL(weir_region_alloc(region, 0));
	CHECK_EQ(figures(region).misses, 0);
	weir_region_destroy(region);
}

TEST(block_can_be_filled_to_its_last_byte)
{
	NOT_UNDER_GUARD("a region has no room and no blocks");

	struct weir_region *region = create(NULL);
	uint64_t room = figures(region).bytes_room;
	unsigned char *last;

	CHECK_EQ(room % 16, 0);
	CHECK_NOT_NULL(weir_region_alloc(region, room - 16));
	last = weir_region_alloc(region, 16);
	memset(last, 1, 16);
	CHECK_EQ(figures(region).blocks, 1);
	CHECK_NOT_NULL(weir_region_alloc(region, 1));
	CHECK_EQ(figures(region).blocks, 2);
	CHECK(weir_region_check(region));
	weir_region_destroy(region);
}

TEST(sizes_near_the_largest_are_refused)
{
	struct weir_region *region = create(NULL);
	char *before = region->next;

	errno = 77;
	for (size_t below = 0; below < 40; below++) {
		CHECK_NULL(weir_region_alloc(region, SIZE_MAX - below));
		CHECK_NULL(
		    weir_region_alloc_aligned(region, SIZE_MAX - below, 64));
		CHECK_NULL(weir_region_alloc_zeroed(region, SIZE_MAX - below));
	}
	CHECK_NULL(weir_region_alloc(region, SIZE_MAX / 2));
	CHECK_NULL(weir_region_alloc(region, (SIZE_MAX / 2) + 1));
	CHECK_EQ(errno, 77);
	CHECK_PTR(region->next, before);
	CHECK_EQ(figures(region).failures, 122);
	CHECK_EQ(kind_stats(&test_kind).failures, 122);
	CHECK(weir_region_check(region));
	weir_region_destroy(region);
}

TEST(any_power_of_two_up_to_the_largest_is_an_alignment)
{
	struct weir_region *region = create(NULL);

	for (size_t align = 1; align <= WEIR_REGION_ALIGN_MAX; align *= 2) {
		for (size_t bytes = 1; bytes < 100000; bytes = bytes * 7) {
			char *object =
			    weir_region_alloc_aligned(region, bytes, align);

			CHECK_NOT_NULL(object);
			CHECK(is_aligned(object, align));
			CHECK(is_aligned(object, 16));
			memset(object, 0x5a, bytes);
		}
		CHECK(weir_region_check(region));
	}
	weir_region_destroy(region);
}

TEST(alignment_that_is_no_power_of_two_is_refused_and_counted)
{
	static const size_t bad[] = {0, 3, 24, 48, 4095, SIZE_MAX,
	    WEIR_REGION_ALIGN_MAX + 1, WEIR_REGION_ALIGN_MAX * 2};
	struct weir_region *region = create(NULL);
	size_t count = sizeof(bad) / sizeof(bad[0]);

	for (size_t i = 0; i < count; i++) {
		CHECK_NULL(weir_region_alloc_aligned(region, 8, bad[i]));
		/* Also where the inline path has no room to look at. */
		CHECK_NULL(weir_region_alloc_aligned(region, 5000, bad[i]));
	}
	CHECK_EQ(figures(region).failures, 2 * count);
	CHECK_NOT_NULL(weir_region_alloc(region, 8));
	CHECK(weir_region_check(region));
	weir_region_destroy(region);
}

TEST(alignment_above_the_limit_is_refused_where_there_is_room_for_it)
{
	size_t bytes = 4 * WEIR_REGION_ALIGN_MAX;
	char *buffer = calloc(1, bytes);
	struct weir_region *region;

	CHECK_NOT_NULL(buffer);
	CHECK_EQ(weir_region_create_in(NULL, NULL, buffer, bytes, &region), 0);
	CHECK_NULL(
	    weir_region_alloc_aligned(region, 8, 2 * WEIR_REGION_ALIGN_MAX));
	CHECK_EQ(figures(region).failures, 1);
	CHECK_NOT_NULL(
	    weir_region_alloc_aligned(region, 8, WEIR_REGION_ALIGN_MAX));
	weir_region_destroy(region);
	free(buffer);
}

TEST(zeroed_objects_read_as_zero_on_used_memory_too)
{
	struct weir_region *region = create(NULL);
	static const size_t sizes[] = {1, 100, 3000, 20000, 40000, 200000};

	for (int round = 0; round < 3; round++) {
		for (size_t i = 0; i < 6; i++) {
			unsigned char *object =
			    weir_region_alloc_zeroed(region, sizes[i]);

			CHECK_NOT_NULL(object);
			for (size_t b = 0; b < sizes[i]; b++)
				CHECK_EQ(object[b], 0);
			memset(object, 0xff, sizes[i]);
		}
		weir_region_reset(region);
	}
	weir_region_destroy(region);
}

/* ---- end --------------------------------------------------------------- */

TEST(reset_keeps_the_first_block_and_gives_back_the_rest)
{
	NOT_UNDER_GUARD("an address is used again as late as can be");

	struct weir_region *region = create(NULL);
	char *first = weir_region_alloc(region, 1);

	for (int i = 0; i < 1000; i++)
		CHECK_NOT_NULL(weir_region_alloc(region, 1000));
	CHECK_NOT_NULL(weir_region_alloc(region, 1 << 20));
	CHECK_GT(kind_stats(&test_kind).bytes_mapped, 3 << 19);
	weir_region_reset(region);
	CHECK_EQ(figures(region).bytes_charged, 4096);
	CHECK_EQ(kind_stats(&test_kind).bytes_mapped, 4096);
	CHECK_GT(figures(region).bytes_peak, 3 << 19);
	CHECK_PTR(weir_region_alloc(region, 1), first);
	CHECK(weir_region_check(region));
	weir_region_destroy(region);
}

static uint64_t
bytes_in_spans(void)
{
	struct weir_stats stats = {.size = sizeof(stats)};

	CHECK_EQ(weir_stats_read(&stats), 0);
	return stats.bytes_in_spans;
}

TEST(large_objects_and_large_blocks_go_back_to_the_page_supply)
{
	const struct weir_region_config config = {.block_bytes_max = 128 << 10};
	struct weir_region *keep, *region;
	uint64_t before = 0;

	NOT_UNDER_GUARD("which regions are under it differs by the round");
	keep = create(&config);
	/* What the kind learns, it has learned after some rounds. */
	for (int round = 0; round < 40; round++) {
		region = create(&config);
		for (int i = 0; i < (test_under_valgrind() ? 8 : 50); i++) {
			CHECK_NOT_NULL(weir_region_alloc(keep, 10000));
			CHECK_NOT_NULL(weir_region_alloc(region, 10000));
			CHECK_NOT_NULL(weir_region_alloc(keep, 300000));
			CHECK_NOT_NULL(weir_region_alloc(region, 300000));
		}
		weir_region_reset(keep);
		weir_region_destroy(region);
		if (round == 20)
			before = bytes_in_spans();
		if (round > 20)
			CHECK_EQ(bytes_in_spans(), before);
	}
	weir_region_destroy(keep);
}

static void
leave_early(bool early)
{
	WEIR_REGION_SCOPE struct weir_region *region = NULL;
	WEIR_REGION_SCOPE struct weir_region *unused = NULL;

	CHECK_NULL(unused);
	CHECK_EQ(weir_region_create(&test_kind, NULL, &region), 0);
	add_note(region, "1");
	if (early)
		return;
	add_note(region, "2");
}

TEST(scope_guard_destroys_on_every_way_out)
{
	leave_early(true);
	CHECK_STR(trace, "1");
	leave_early(false);
	CHECK_STR(trace, "121");
	CHECK_EQ(kind_stats(&test_kind).in_use, 0);
}

TEST(destroy_of_null_does_nothing)
{
	weir_region_destroy(NULL);
}

/* ---- steady state ------------------------------------------------------ */

static void
request(struct test_rng *rng)
{
	struct weir_region *region;

	CHECK_EQ(weir_region_create(&test_kind, NULL, &region), 0);
	for (int i = 0; i < 60; i++) {
		size_t bytes = i == 30 ? 20 << 10
			       : i % 20 == 19
				   ? 2048 + test_rand_below(rng, 6000)
				   : 8 + test_rand_below(rng, 504);
		char *object = weir_region_alloc(region, bytes);

		CHECK_NOT_NULL(object);
		object[0] = object[bytes - 1] = 1;
	}
	add_note(region, "");
	weir_region_destroy(region);
}

TEST(requests_reach_neither_the_system_nor_the_page_supply)
{
	NOT_UNDER_GUARD("it makes system calls");

	size_t rounds = test_count(100000);
	struct test_rng rng;
	int64_t calls;
	struct weir_stats before = {.size = sizeof(before)}, after = before;

	test_rng_init(&rng, test_seed());
	weiri_os_fail_nth(0, false); /* counting starts */
	for (int i = 0; i < 1000; i++)
		request(&rng);
	CHECK_GT(weiri_os_calls(), 0);
	CHECK_EQ(weir_stats_read(&before), 0);
	calls = weiri_os_calls();
	for (size_t i = 0; i < rounds; i++)
		request(&rng);
	CHECK_EQ(weiri_os_calls(), calls);
	CHECK_EQ(weir_stats_read(&after), 0);
	CHECK_EQ(after.bytes_in_spans, before.bytes_in_spans);
	CHECK_EQ(after.bytes_charged, before.bytes_charged);
	CHECK_EQ(after.failures, before.failures);
}
