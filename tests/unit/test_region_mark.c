/* SPDX-License-Identifier: MIT */
/*
 * test_region_mark.c - what region_life.h promises of savepoints.
 */
#include "region_life_common.h"

/* ---- savepoints ----------------------------------------------------------- */

TEST(rewind_ends_what_came_after_and_keeps_the_rest)
{
	NOT_UNDER_GUARD("a region has no room and no blocks");

	struct weir_region *region = create(NULL);
	char *kept = filled(region, 700, 1), *large = filled(region, 90000, 2);
	struct weir_region *child = create_below(region);
	struct weir_region_savepoint savepoint;
	struct weir_region_figures before;
	uint64_t full = 0;
	char *next;

	add_note(region, "k");
	add_note(child, "c");
	savepoint = mark(region);
	before = figures(region);
	next = region->next;
	for (int round = 0; round < 3; round++) {
		trace[0] = '\0';
		for (int i = 0; i < 60; i++)
			(void)filled(region, 1000, 9);
		add_note(region, "a");
		(void)filled(region, 200000, 9);
		add_note(create_below(region), "n");
		add_note(child, "d");
		add_note(region, "b");
		CHECK(weir_region_check(region));
		/* The blocks are those of the round before. */
		CHECK_EQ(figures(region).bytes_charged,
		    round == 0 ? figures(region).bytes_charged : full);
		full = figures(region).bytes_charged;
		rewind_to(region, savepoint);
		/* The child that stays has its cleanups still. */
		CHECK_STR(trace, "nba");
		CHECK_PTR(region->next, next);
		CHECK_EQ(figures(region).bytes_charged, before.bytes_charged);
		CHECK_EQ(figures(region).bytes_room, before.bytes_room);
		CHECK_EQ(figures(region).blocks, before.blocks);
		CHECK_EQ(figures(region).larges, 1);
		CHECK_EQ(figures(region).children, 1);
		CHECK_EQ(figures(region).cleanups, 1);
	}
	CHECK(holds(kept, 700, 1));
	CHECK(holds(large, 90000, 2));
	trace[0] = '\0';
	weir_region_destroy(region);
	CHECK_STR(trace, "dddck");
	CHECK_EQ(kind_stats(&test_kind).bytes_mapped, 0);
}

TEST(savepoints_nest)
{
	struct weir_region *region = create(NULL);
	struct weir_region_savepoint outer, inner;
	char *between;

	outer = mark(region);
	between = filled(region, 3000, 3);
	add_note(region, "o");
	inner = mark(region);
	for (int i = 0; i < 4; i++) {
		(void)filled(region, 40000, 4);
		add_note(region, "i");
		rewind_to(region, inner);
		CHECK(holds(between, 3000, 3));
	}
	CHECK_STR(trace, "iiii");
	rewind_to(region, outer);
	CHECK_STR(trace, "iiiio");
	/* The outer one stays in force. */
	add_note(region, "p");
	rewind_to(region, outer);
	CHECK_STR(trace, "iiiiop");
	weir_region_destroy(region);
	CHECK_STR(trace, "iiiiop");
}

static void
scratch_work(struct weir_region *region, int depth)
{
	WEIR_REGION_SCRATCH(scratch, region);
	char *object = filled(region, 3000, depth);

	CHECK_PTR(scratch.region, region);
	add_note(region, &"0123456789"[depth]);
	if (depth < 5)
		scratch_work(region, depth + 1);
	CHECK(holds(object, 3000, depth));
}

TEST(scratch_scopes_nest_and_leave_nothing)
{
	NOT_UNDER_GUARD("an address is used again as late as can be");

	struct weir_region *region = create(NULL);

	for (int i = 0; i < 3; i++) {
		char *next = region->next;
		uint64_t room = figures(region).bytes_room;

		trace[0] = '\0';
		scratch_work(region, 0);
		CHECK_STR(trace, "543210");
		CHECK_PTR(region->next, next);
		CHECK_EQ(figures(region).bytes_room, room);
		CHECK_EQ(figures(region).blocks, 1);
		CHECK(weir_region_check(region));
		/* What is kept lies where the scope began. */
		CHECK_PTR(filled(region, 16, 1), next);
	}
	weir_region_destroy(region);
}

static void
scratch_empty(struct weir_region *region)
{
	WEIR_REGION_SCRATCH(scratch, region);

	CHECK_PTR(scratch.region, region);
}

TEST(inner_scope_at_the_same_place_leaves_the_outer_savepoint)
{
	NOT_UNDER_GUARD("an address is used again as late as can be");

	struct weir_region *region = create(NULL);
	struct weir_region_savepoint outer = mark(region);
	char *next = region->next;

	scratch_empty(region);
	CHECK_PTR(region->next, next);
	add_note(region, "a");
	rewind_to(region, outer);
	CHECK_STR(trace, "a");
	weir_region_unmark(region, &outer);
	CHECK(weir_region_check(region));
	CHECK_PTR(region->next, (char *)(uintptr_t)outer.record);
	weir_region_destroy(region);
}

TEST(loops_of_savepoints_do_not_grow)
{
	NOT_UNDER_GUARD("what a cancelled handle leaves is not used again");

	struct weir_region *region = create(NULL);
	struct weir_region_savepoint savepoint = mark(region);
	struct weir_region_cleanup *cleanup;
	char letter[] = "x";
	uint64_t bytes;

	for (int i = 0; i < 1000; i++) {
		savepoint = mark(region);
		(void)filled(region, i % 2 != 0 ? 100000 : 100, 1);
		rewind_to(region, savepoint);
	}
	CHECK_EQ(figures(region).bytes_charged, 4096);
	/* Handles from before a savepoint that are cancelled after it. */
	bytes = figures(region).bytes_charged;
	for (int i = 0; i < 3000; i++) {
		cleanup = weir_region_cleanup_add(region, note, letter);
		CHECK_NOT_NULL(cleanup);
		savepoint = mark(region);
		weir_region_cleanup_cancel(region, cleanup);
		(void)filled(region, 2000, 1);
		weir_region_unmark(region, &savepoint);
	}
	CHECK(weir_region_check(region));
	CHECK_EQ(figures(region).bytes_charged, bytes);
	weir_region_destroy(region);
	CHECK_STR(trace, "");
}

TEST(record_of_a_savepoint_has_no_pages_of_its_own)
{
	NOT_UNDER_GUARD("a region has no room and no blocks");

	struct weir_region *region =
	    create(&(struct weir_region_config){.large_bytes = 1});

	/* No room: the record has to come the slow way. */
	while (figures(region).bytes_room >= 64)
		CHECK_NOT_NULL(weir_region_alloc(region, 64));
	for (int i = 0; i < 100; i++) {
		scratch_empty(region);
		CHECK_EQ(figures(region).larges, 0);
		CHECK_LE(figures(region).bytes_charged, 4096 + 8192);
	}
	CHECK(weir_region_check(region));
	weir_region_destroy(region);
}

TEST(handle_from_after_a_savepoint_is_not_used_again_after_a_rewind)
{
	struct weir_region *region = create(NULL);
	struct weir_region_savepoint savepoint;
	struct weir_region_cleanup *early, *late, *again;
	char letter[] = "x";
	char *object;

	early = weir_region_cleanup_add(region, note, letter);
	weir_region_cleanup_cancel(region, early);
	savepoint = mark(region);
	late = weir_region_cleanup_add(region, note, letter);
	CHECK(late > early);
	weir_region_cleanup_cancel(region, late);
	rewind_to(region, savepoint);
	object = filled(region, 200, 5);
	again = weir_region_cleanup_add(region, note, letter);
	CHECK(again != late);
	CHECK(holds(object, 200, 5));
	weir_region_unmark(region, &savepoint);
	/* What was cancelled before it is there again. */
	CHECK_STR(trace, "x");
	CHECK_PTR(weir_region_cleanup_add(region, note, letter), early);
	weir_region_destroy(region);
}

TEST(large_objects_are_told_apart_by_when_they_came)
{
	NOT_UNDER_GUARD("a region has no room and no blocks");

	struct weir_region *region = create(NULL), *other = create(NULL);
	char *first = filled(region, 50000, 1),
	     *moves = filled(other, 60000, 2);
	char *gone = filled(region, 50000, 3), *away;
	struct weir_region_savepoint savepoint = mark(region);

	/* The newest of before goes, so there is none to recognise. */
	CHECK(weir_region_free_large(region, gone));
	CHECK_EQ(weir_region_adopt_large(region, other, moves), 0);
	away = filled(region, 70000, 4);
	CHECK_EQ(weir_region_adopt_large(other, region, away), 0);
	(void)filled(region, 80000, 5);
	CHECK(weir_region_resize_large(region, first, 20000));
	CHECK(weir_region_check(region));
	rewind_to(region, savepoint);
	CHECK_EQ(figures(region).larges, 1);
	CHECK(holds(first, 20000, 1));
	CHECK(holds(away, 70000, 4));
	CHECK_EQ(figures(other).larges, 1);
	weir_region_destroy(region);
	CHECK(holds(away, 70000, 4));
	CHECK(weir_region_check(other));
	weir_region_destroy(other);
	CHECK_EQ(kind_stats(&test_kind).bytes_mapped, 0);
}

TEST(children_are_told_apart_by_when_they_came)
{
	struct weir_region *region = create(NULL), *other = create(NULL);
	struct weir_region *stays = create_below(region), *goes, *comes;
	struct weir_region_savepoint savepoint;

	goes = create_below(region);
	add_note(stays, "s");
	add_note(goes, "g");
	comes = create_below(other);
	add_note(comes, "c");
	savepoint = mark(region);
	CHECK_EQ(weir_region_adopt(other, goes), 0);
	CHECK_EQ(weir_region_adopt(region, comes), 0);
	rewind_to(region, savepoint);
	CHECK_STR(trace, "c");
	weir_region_destroy(region);
	CHECK_STR(trace, "cs");
	weir_region_destroy(other);
	CHECK_STR(trace, "csg");
}

TEST(rewind_before_a_merge_takes_all_of_it)
{
	NOT_UNDER_GUARD("a region has no room and no blocks");

	for (int after = 0; after < 2; after++) {
		struct weir_region *root = create(NULL), *middle, *below;
		struct weir_region_savepoint savepoint;
		char *large, *small;

		trace[0] = '\0';
		(void)filled(root, 50000, 8);
		middle = create_below(root);
		below = create_below(middle);
		large = filled(below, 300000, 1);
		small = filled(below, 3000, 2);
		add_note(below, "b");
		(void)filled(middle, 90000, 3);
		add_note(middle, "c");
		/* A savepoint of its own means nothing to the parent. */
		(void)mark(middle);
		add_note(create_below(below), "g");
		if (after == 0)
			savepoint = mark(root);
		weir_region_merge(middle, below);
		CHECK(weir_region_check(middle));
		weir_region_merge(root, middle);
		CHECK(weir_region_check(root));
		CHECK_EQ(figures(root).larges, 3);
		if (after == 1)
			savepoint = mark(root);
		(void)filled(root, 120000, 4);
		rewind_to(root, savepoint);
		CHECK_STR(trace, after ? "" : "gbc");
		CHECK_EQ(figures(root).larges, after ? 3 : 1);
		if (after) {
			CHECK(holds(large, 300000, 1));
			CHECK(holds(small, 3000, 2));
			/* It is found through both that are gone. */
			CHECK(weir_region_free_large(root, large));
			CHECK(weir_region_check(root));
		} else {
			CHECK_EQ(figures(root).blocks, 1);
		}
		weir_region_destroy(root);
		CHECK_STR(trace, "gbc");
	}
	CHECK_EQ(kind_stats(&test_kind).in_use, 0);
	CHECK_EQ(kind_stats(&test_kind).bytes_mapped, 0);
}

TEST(memory_given_back_after_a_savepoint_is_not_handed_out_twice)
{
	struct weir_region *region = create(NULL);
	struct weir_region_savepoint savepoint = mark(region);
	char *early, *late;

	early = filled(region, 256, 1);
	(void)filled(region, 16, 1);
	weir_region_free(region, early, 256);
	rewind_to(region, savepoint);
	early = filled(region, 800, 2);
	late = weir_region_realloc(region, NULL, 0, 200);
	CHECK_NOT_NULL(late);
	memset(late, 3, 200);
	CHECK(holds(early, 800, 2));
	weir_region_destroy(region);
}

static struct weir_region_savepoint busy_savepoint;

static void
busy(void *context)
{
	struct weir_region *region = context;

	/* Everything may be used, and ends with the rest. */
	(void)filled(region, 100000, 1);
	for (int i = 0; i < 50; i++)
		(void)filled(region, 900, 1);
	add_note(region, "n");
	add_note(create_below(region), "c");
	CHECK_EQ(weir_region_mark(region, &busy_savepoint), 0);
	CHECK(weir_region_check(region));
}

TEST(cleanups_run_by_a_rewind_may_use_the_region)
{
	struct weir_region *region = create(NULL);
	struct weir_region_savepoint savepoint = mark(region);
	struct weir_region_figures before = figures(region);

	add_note(region, "a");
	CHECK_NOT_NULL(weir_region_cleanup_add(region, busy, region));
	add_note(region, "b");
	rewind_to(region, savepoint);
	CHECK_STR(trace, "bcna");
	CHECK_EQ(figures(region).bytes_charged, before.bytes_charged);
	CHECK_EQ(figures(region).bytes_room, before.bytes_room);
	weir_region_destroy(region);
	CHECK_STR(trace, "bcna");
}

TEST(savepoint_without_memory_is_none)
{
	struct weir_region *region = create(&(struct weir_region_config){
	    .first_bytes = 1024, .block_bytes_max = 1024, .limit_bytes = 1024});
	struct weir_region_savepoint savepoint;

	while (weir_region_alloc(region, 16) != NULL)
		;
	CHECK_EQ(weir_region_mark(region, &savepoint), -ENOMEM);
	CHECK_NULL(savepoint.region);
	weir_region_rewind(region, &savepoint);
	weir_region_unmark(region, &savepoint);
	savepoint = weir_region_scratch_begin(region);
	weir_region_scratch_end(&savepoint);
	CHECK(weir_region_check(region));
	weir_region_destroy(region);
}
