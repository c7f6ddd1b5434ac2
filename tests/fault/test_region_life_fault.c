/* SPDX-License-Identifier: MIT */
/*
 * test_region_life_fault.c - misuse of savepoints, of regions that move and of
 * what ends with them is reported, each by its own line.
 */
#include <weir/guard.h>
#include <weir/region.h>

#include "pools/region.h"
#include "test.h"

#include <stdint.h>
#include <string.h>

static struct weir_region_kind test_kind = WEIR_REGION_KIND("victim");

static struct weir_region *
create_below(struct weir_region *parent)
{
	const struct weir_region_config config = {.parent = parent};
	struct weir_region *region;

	CHECK_EQ(weir_region_create(&test_kind, &config, &region), 0);
	return region;
}

static struct weir_region *
create(void)
{
	return create_below(NULL);
}

static struct weir_region_savepoint
mark(struct weir_region *region)
{
	struct weir_region_savepoint savepoint;

	CHECK_EQ(weir_region_mark(region, &savepoint), 0);
	return savepoint;
}

static void
nothing(void *context)
{
	(void)context;
}

/* ---- savepoints ------------------------------------------------------------ */

TEST(rewind_to_a_savepoint_of_another_region_is_a_fault)
{
	struct weir_region *region = create(), *other = create();
	struct weir_region_savepoint savepoint = mark(other);

	EXPECT_ABORT("FAULT bad-argument: region \"victim\": 0x",
	    { weir_region_rewind(region, &savepoint); });
	EXPECT_ABORT("is rewound to a savepoint of another region",
	    { weir_region_rewind(region, &savepoint); });
	EXPECT_ABORT("is rewound to a savepoint of another region",
	    { weir_region_unmark(region, &savepoint); });
	weir_region_destroy(other);
	EXPECT_ABORT(
	    "savepoint of 0x", { weir_region_rewind(other, &savepoint); });
	EXPECT_ABORT(
	    "savepoint of 0x", { (void)!weir_region_mark(other, &savepoint); });
	weir_region_destroy(region);
}

TEST(rewind_to_a_later_time_is_a_fault)
{
	struct weir_region *region = create();
	struct weir_region_savepoint early = mark(region), late, again;

	CHECK_NOT_NULL(weir_region_alloc(region, 100));
	late = mark(region);
	weir_region_rewind(region, &late);
	weir_region_rewind(region, &early);
	EXPECT_ABORT("is rewound to a savepoint that is gone",
	    { weir_region_rewind(region, &late); });
	/* Another record at the same place does not bring it back. */
	CHECK_NOT_NULL(weir_region_alloc(region, 100));
	again = mark(region);
	CHECK_PTR(again.record, late.record);
	EXPECT_ABORT("is rewound to a savepoint that is gone",
	    { weir_region_rewind(region, &late); });
	weir_region_rewind(region, &again);
	weir_region_unmark(region, &early);
	EXPECT_ABORT("is rewound to a savepoint that is gone",
	    { weir_region_rewind(region, &early); });
	weir_region_destroy(region);
}

TEST(stale_savepoints_are_faults_whatever_became_of_their_memory)
{
	struct weir_region *region = create(), *child;
	struct weir_region_savepoint savepoint = mark(region), other;

	weir_region_reset(region);
	EXPECT_ABORT("is rewound to a savepoint that is gone",
	    { weir_region_rewind(region, &savepoint); });
	other = mark(region);
	CHECK_PTR(other.record, savepoint.record);
	EXPECT_ABORT("is rewound to a savepoint that is gone",
	    { weir_region_rewind(region, &savepoint); });
	weir_region_reset(region);
	memset(weir_region_alloc(region, 3000), 0x41, 3000);
	EXPECT_ABORT("is rewound to a savepoint that is gone",
	    { weir_region_rewind(region, &other); });
	child = create_below(region);
	savepoint = mark(child);
	weir_region_merge(region, child);
	EXPECT_ABORT(
	    "savepoint of 0x", { weir_region_rewind(child, &savepoint); });
	weir_region_destroy(region);
}

/* The next region in the same first block is another. */
TEST(savepoint_of_a_destroyed_region_means_nothing_to_its_successor)
{
	struct weir_region *region = create(), *next;
	struct weir_region_savepoint savepoint = mark(region), other;

	weir_region_destroy(region);
	next = create();
	CHECK_PTR(next, region);
	other = mark(next);
	CHECK_PTR(other.record, savepoint.record);
	EXPECT_ABORT("is rewound to a savepoint that is gone",
	    { weir_region_rewind(next, &savepoint); });
	weir_region_destroy(next);
}

struct pair {
	struct weir_region *region;
	struct weir_region_savepoint savepoint;
};

static void
rewinds(void *context)
{
	struct pair *pair = context;

	weir_region_rewind(pair->region, &pair->savepoint);
}

TEST(rewind_from_a_cleanup_of_its_own_is_a_fault)
{
	struct weir_region *region = create(), *child;
	struct pair pair = {region, mark(region)};

	CHECK_NOT_NULL(weir_region_cleanup_add(region, rewinds, &pair));
	EXPECT_ABORT("is rewound by its own cleanup",
	    { weir_region_rewind(region, &pair.savepoint); });
	EXPECT_ABORT(
	    "is rewound by its own cleanup", { weir_region_reset(region); });
	child = create_below(region);
	CHECK_NOT_NULL(weir_region_cleanup_add(child, rewinds, &pair));
	EXPECT_ABORT(
	    "is rewound by its own cleanup", { weir_region_destroy(region); });
	EXPECT_ABORT("is rewound by a cleanup below it",
	    { weir_region_destroy(child); });
}

/* ---- what ends what -------------------------------------------------------- */

static void
destroys(void *region)
{
	weir_region_destroy(region);
}

static void
resets(void *region)
{
	weir_region_reset(region);
}

TEST(cleanup_that_ends_the_region_above_is_a_fault)
{
	static const weir_region_cleanup_fn ends[] = {destroys, resets};

	for (size_t i = 0; i < 2; i++) {
		struct weir_region *root = create();
		struct weir_region *child = create_below(create_below(root));

		CHECK_NOT_NULL(weir_region_cleanup_add(child, ends[i], root));
		EXPECT_ABORT("is ended by a cleanup below it",
		    { weir_region_destroy(child); });
		EXPECT_ABORT(
		    "by its own cleanup", { weir_region_reset(root); });
	}
}

static void
detaches(void *region)
{
	weir_region_detach(region);
}

static void
merges(void *context)
{
	struct weir_region *child = context;

	weir_region_merge(
	    &((struct weiri_region *)(void *)child)->parent->bump, child);
}

TEST(region_that_moves_while_its_cleanups_run_is_a_fault)
{
	static const weir_region_cleanup_fn moves[] = {detaches, merges};

	for (size_t i = 0; i < 2; i++) {
		struct weir_region *root = create(),
				   *child = create_below(root);

		CHECK_NOT_NULL(weir_region_cleanup_add(child, moves[i], child));
		EXPECT_ABORT("is moved while its cleanups run",
		    { weir_region_destroy(child); });
		EXPECT_ABORT("is moved while its cleanups run",
		    { weir_region_destroy(root); });
	}
}

/* ---- moving ------------------------------------------------------------------ */

TEST(adopting_a_region_from_below_it_is_a_fault)
{
	struct weir_region *root = create(), *child = create_below(root);
	struct weir_region *below = create_below(child);

	EXPECT_ABORT("FAULT bad-argument: region \"victim\": 0x",
	    { (void)!weir_region_adopt(below, root); });
	EXPECT_ABORT("is adopted by itself or a region below it",
	    { (void)!weir_region_adopt(below, root); });
	EXPECT_ABORT("is adopted by itself or a region below it",
	    { (void)!weir_region_adopt(child, child); });
	EXPECT_ABORT("is adopted by itself or a region below it",
	    { (void)!weir_region_adopt(below, below); });
	CHECK_EQ(weir_region_adopt(root, below), 0);
	CHECK_EQ(weir_region_adopt(below, child), 0);
	CHECK(weir_region_check(root));
	weir_region_destroy(root);
}

TEST(merging_what_is_no_child_is_a_fault)
{
	struct weir_region *root = create(), *other = create();
	struct weir_region *middle = create_below(root);
	struct weir_region *below = create_below(middle);
	static char buffer[8192];
	const struct weir_region_config config = {.parent = root};
	struct weir_region *placed;

	EXPECT_ABORT("FAULT bad-argument: region \"victim\": 0x",
	    { weir_region_merge(root, other); });
	EXPECT_ABORT("is merged into a region that is not its parent",
	    { weir_region_merge(root, other); });
	EXPECT_ABORT("is merged into a region that is not its parent",
	    { weir_region_merge(root, below); });
	EXPECT_ABORT("is merged into a region that is not its parent",
	    { weir_region_merge(middle, root); });
	EXPECT_ABORT("is merged into a region that is not its parent",
	    { weir_region_merge(root, root); });
	CHECK_EQ(weir_region_create_in(
		     &test_kind, &config, buffer, sizeof(buffer), &placed),
	    0);
	EXPECT_ABORT("lies in the caller's memory and is merged",
	    { weir_region_merge(root, placed); });
	weir_region_destroy(root);
	weir_region_destroy(other);
}

TEST(moving_what_was_not_taken_over_is_a_fault_in_debug_builds)
{
	struct weir_region *root = create(), *child = create_below(root);
	struct weir_region_savepoint savepoint = mark(child);

	weir_region_hand_off(child);
#if WEIR_DEBUG >= 1
	EXPECT_ABORT("was handed off and not taken over",
	    { weir_region_merge(root, child); });
	EXPECT_ABORT("was handed off and not taken over",
	    { weir_region_detach(child); });
	EXPECT_ABORT("was handed off and not taken over",
	    { weir_region_rewind(child, &savepoint); });
	EXPECT_ABORT("was handed off and not taken over",
	    { (void)!weir_region_cleanup_reserve(child); });
	EXPECT_ABORT("was handed off and not taken over",
	    { weir_region_destroy(root); });
	weir_region_take_over(child);
#endif
	weir_region_rewind(child, &savepoint);
	weir_region_merge(root, child);
	CHECK(weir_region_check(root));
	weir_region_destroy(root);
}

TEST(adopting_a_large_object_of_another_region_is_a_fault)
{
	struct weir_region *region = create(), *from = create();
	char *own = weir_region_alloc(region, 100000);
	char *object = weir_region_alloc(from, 100000);

	EXPECT_ABORT("FAULT wrong-pool: region \"victim\": object 0x",
	    { (void)!weir_region_adopt_large(region, from, own); });
	EXPECT_ABORT("FAULT interior-pointer: region \"victim\": 0x",
	    { (void)!weir_region_adopt_large(region, from, object + 4096); });
	CHECK_EQ(weir_region_adopt_large(region, from, object), 0);
	EXPECT_ABORT("FAULT wrong-pool",
	    { (void)!weir_region_adopt_large(region, from, object); });
	weir_region_destroy(region);
	weir_region_destroy(from);
}

/* ---- after the end ------------------------------------------------------------ */

static void
expect_gone(struct weir_region *gone, struct weir_region *live)
{
	struct weir_region_cleanup *cleanup =
	    weir_region_cleanup_add(live, nothing, NULL);
	void *large = weir_region_alloc(live, 100000);

	EXPECT_ABORT("detached, was destroyed", { weir_region_detach(gone); });
	EXPECT_ABORT("adopted, was destroyed",
	    { (void)!weir_region_adopt(live, gone); });
	EXPECT_ABORT("adopting, was destroyed",
	    { (void)!weir_region_adopt(gone, live); });
	EXPECT_ABORT(
	    "merged, was destroyed", { weir_region_merge(live, gone); });
	EXPECT_ABORT(
	    "merging, was destroyed", { weir_region_merge(gone, live); });
	EXPECT_ABORT("adopting, was destroyed",
	    { (void)!weir_region_adopt_large(gone, live, large); });
	EXPECT_ABORT("which was destroyed",
	    { (void)!weir_region_adopt_large(live, gone, large); });
	EXPECT_ABORT("cleanup for 0x",
	    { (void)!weir_region_cleanup_transfer(live, cleanup, gone); });
	EXPECT_ABORT("cleanup for 0x",
	    { (void)!weir_region_cleanup_transfer(gone, cleanup, live); });
	EXPECT_ABORT("cleanup for 0x",
	    { (void)!weir_region_cleanup_add(gone, nothing, NULL); });
	EXPECT_ABORT(
	    "cleanup for 0x", { (void)!weir_region_cleanup_reserve(gone); });
	EXPECT_ABORT(
	    "cleanup for 0x", { weir_region_cleanup_cancel(gone, cleanup); });
	EXPECT_ABORT(
	    "name for 0x", { (void)weir_region_rename(gone, "late"); });
	EXPECT_ABORT("object from 0x", { (void)!weir_region_alloc(gone, 1); });
	EXPECT_ABORT("reset of 0x", { weir_region_reset(gone); });
	EXPECT_ABORT("FAULT double-destroy", { weir_region_destroy(gone); });
}

TEST(use_of_a_destroyed_region_is_a_fault)
{
	struct weir_region *gone = create(), *live = create();

	weir_region_destroy(gone);
	expect_gone(gone, live);
	weir_region_destroy(live);
}

TEST(use_of_a_merged_region_is_a_fault)
{
	struct weir_region *live = create(), *gone = create_below(live);

	weir_region_merge(live, gone);
	expect_gone(gone, live);
	CHECK(weir_region_check(live));
	weir_region_destroy(live);
}

TEST(moved_handles_that_are_not_in_force_are_faults)
{
	struct weir_region *region = create(), *to = create();
	struct weir_region_cleanup *cleanup =
	    weir_region_cleanup_reserve(region);
	struct weir_region_cleanup *moved;

	EXPECT_ABORT("is moved but is not in force",
	    { (void)!weir_region_cleanup_transfer(region, cleanup, to); });
	weir_region_cleanup_arm(region, cleanup, nothing, NULL);
	moved = weir_region_cleanup_transfer(region, cleanup, to);
	CHECK_NOT_NULL(moved);
	EXPECT_ABORT("is moved but is not in force",
	    { (void)!weir_region_cleanup_transfer(region, cleanup, to); });
	EXPECT_ABORT("is cancelled twice",
	    { weir_region_cleanup_cancel(region, cleanup); });
	weir_region_cleanup_cancel(to, moved);
	EXPECT_ABORT(
	    "is cancelled twice", { weir_region_cleanup_cancel(to, moved); });
	weir_region_destroy(region);
	weir_region_destroy(to);
}

/* ---- the walker sees what it is for -------------------------------------------- */

TEST(check_finds_savepoints_that_are_broken)
{
	struct weir_region *region = create();
	struct weiri_region *inside = (struct weiri_region *)(void *)region;
	struct weir_region_savepoint savepoint = mark(region);
	uint64_t *record = (uint64_t *)(uintptr_t)savepoint.record;

	CHECK_NOT_NULL(weir_region_alloc(region, 16));
	(void)mark(region);
	CHECK(weir_region_check(region));
	inside->first.marks++;
	CHECK(!weir_region_check(region));
	inside->first.marks--;
	/* Behind the handle: next, end, newest. */
	for (size_t i = 4; i < 7; i++) {
		uint64_t word = record[i];

		record[i] = i == 4 ? UINT64_MAX - 15 : 0;
		CHECK(!weir_region_check(region));
		record[i] = word;
	}
	CHECK(weir_region_check(region));
	weir_region_destroy(region);
}
