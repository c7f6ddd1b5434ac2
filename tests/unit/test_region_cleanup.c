/* SPDX-License-Identifier: MIT */
/*
 * test_region_cleanup.c - cleanups: order, handles, what they may do.
 */
#include "region_common.h"

TEST(cleanups_run_newest_first_and_once)
{
	struct weir_region *region = create(NULL);

	add_note(region, "a");
	add_note(region, "b");
	add_note(region, "c");
	CHECK_EQ(figures(region).cleanups, 3);
	weir_region_reset(region);
	CHECK_STR(trace, "cba");
	CHECK_EQ(figures(region).cleanups, 0);
	add_note(region, "d");
	weir_region_destroy(region);
	CHECK_STR(trace, "cbad");
}

TEST(reserved_cleanup_takes_its_place_when_armed)
{
	struct weir_region *region = create(NULL);
	struct weir_region_cleanup *reserved =
	    weir_region_cleanup_reserve(region);
	struct weir_region_cleanup *unused =
	    weir_region_cleanup_reserve(region);
	char letter[] = "r";

	CHECK_NOT_NULL(reserved);
	CHECK_NOT_NULL(unused);
	add_note(region, "a");
	weir_region_cleanup_arm(region, reserved, note, letter);
	add_note(region, "b");
	CHECK(weir_region_check(region));
	weir_region_destroy(region);
	CHECK_STR(trace, "bra");
}

TEST(cancelled_cleanup_does_not_run_and_its_handle_is_used_again)
{
	struct weir_region *region = create(NULL);
	struct weir_region_cleanup *middle, *reserved;
	char letter[] = "m";
	uint64_t room;

	add_note(region, "a");
	middle = weir_region_cleanup_add(region, note, letter);
	add_note(region, "b");
	reserved = weir_region_cleanup_reserve(region);
	weir_region_cleanup_cancel(region, middle);
	weir_region_cleanup_cancel(region, reserved);
	weir_region_cleanup_cancel(region, NULL);
	CHECK(weir_region_check(region));
	room = figures(region).bytes_room;
	for (int i = 0; i < 1000; i++)
		weir_region_cleanup_cancel(
		    region, weir_region_cleanup_add(region, note, letter));
	CHECK_EQ(figures(region).bytes_room, room);
	weir_region_destroy(region);
	CHECK_STR(trace, "ba");
}

struct busy {
	struct weir_region *region;
	struct weir_region_cleanup *victim;
	struct weir_region_cleanup *ran;
	char *kept;
};

static void
busy_cleanup(void *context)
{
	struct busy *busy = context;

	/* Objects are still there, and new ones may be had, large ones too. */
	CHECK_STR(busy->kept, "kept");
	for (int i = 0; i < 100; i++)
		memset(weir_region_alloc(busy->region, 500), 1, 500);
	memset(weir_region_alloc(busy->region, 200000), 2, 200000);
	CHECK_STR(weir_region_printf(busy->region, "%d", 42), "42");
	weir_region_cleanup_cancel(busy->region, busy->victim);
	/* It cannot know that this one has run. */
	weir_region_cleanup_cancel(busy->region, busy->ran);
	add_note(busy->region, "n");
	CHECK(weir_region_check(busy->region));
}

TEST(cleanups_may_allocate_add_and_cancel)
{
	for (int end = 0; end < 2; end++) {
		struct weir_region *region = create(NULL);
		struct busy busy = {.region = region};
		char victim[] = "v", ran[] = "r";

		trace[0] = '\0';
		busy.kept = weir_region_strdup(region, "kept");
		add_note(region, "a");
		busy.victim = weir_region_cleanup_add(region, note, victim);
		CHECK_NOT_NULL(
		    weir_region_cleanup_add(region, busy_cleanup, &busy));
		busy.ran = weir_region_cleanup_add(region, note, ran);
		if (end == 0) {
			weir_region_reset(region);
			CHECK_EQ(figures(region).bytes_charged, 4096);
			CHECK(weir_region_check(region));
		}
		weir_region_destroy(region);
		CHECK_STR(trace, "rna");
	}
	CHECK_EQ(kind_stats(&test_kind).bytes_mapped, 0);
}

static void
destroy_other(void *context)
{
	weir_region_destroy(context);
}

TEST(cleanup_may_destroy_another_region)
{
	struct weir_region *outer = create(NULL), *inner = create(NULL);

	add_note(inner, "i");
	CHECK_NOT_NULL(weir_region_cleanup_add(outer, destroy_other, inner));
	add_note(outer, "o");
	weir_region_destroy(outer);
	CHECK_STR(trace, "oi");
	CHECK_EQ(kind_stats(&test_kind).in_use, 0);
}
