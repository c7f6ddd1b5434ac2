/* SPDX-License-Identifier: MIT */
/*
 * test_region_fixed.c - regions in one buffer, in the library as a whole.
 */
#include <weir/region_fixed.h>

#include "test.h"

#include <string.h>

static char trace[16];
static struct weir_region *trace_region;

static void
note(void *context)
{
	trace[strlen(trace)] = (char)(uintptr_t)context;
}

static bool
add(struct weir_region *region, weir_region_cleanup_fn run, char letter)
{
	return weir_region_fixed_cleanup(
	    region, run, (void *)(uintptr_t)letter);
}

static void
note_and_add(void *context)
{
	note(context);
	CHECK(add(trace_region, note, 'n'));
}

TEST(buffer_is_filled_and_no_byte_beside_it)
{
	char buffer[1000];

	for (size_t offset = 0; offset < 33; offset++)
		for (size_t bytes = 128; bytes < 200; bytes++) {
			struct weir_region *region;
			size_t room;

			memset(buffer, 0x55, sizeof(buffer));
			region = weir_region_fixed_init(buffer + offset, bytes);
			CHECK_NOT_NULL(region);
			room = (size_t)(region->end - region->next);
			CHECK_GT(room, 32);
			memset(weir_region_alloc(region, room), 1, room);
			CHECK_NULL(weir_region_alloc(region, 1));
			CHECK_EQ(weir_region_fixed_failures(region), 1);
			for (size_t i = 0; i < offset; i++)
				CHECK_EQ(buffer[i], 0x55);
			for (size_t i = offset + bytes; i < 1000; i++)
				CHECK_EQ(buffer[i], 0x55);
			weir_region_fixed_finish(region);
		}
	weir_region_fixed_finish(NULL);
}

TEST(rewind_runs_what_was_added_since)
{
	static char buffer[1000], second[1000];
	struct weir_region *region = weir_region_fixed_init(buffer, 1000);
	struct weir_region *other = weir_region_fixed_init(second, 1000);
	struct weir_region_fixed_point early, late;
	char *object;

	trace_region = region;
	CHECK(add(region, note, 'a'));
	early = weir_region_fixed_mark(region);
	object = weir_region_alloc(region, 10);
	CHECK(add(region, note, 'b'));
	CHECK(add(region, note_and_add, 'c'));
	late = weir_region_fixed_mark(region);
	CHECK(!weir_region_fixed_rewind(other, early));
	CHECK_STR(trace, "");
	CHECK(weir_region_fixed_rewind(region, early));
	CHECK_STR(trace, "cnb");
	/* What was undone cannot be gone back to. */
	CHECK(!weir_region_fixed_rewind(region, late));
	CHECK_PTR(weir_region_alloc(region, 10), object);
	weir_region_fixed_finish(region);
	CHECK_STR(trace, "cnba");
}

TEST(cleanup_without_room_is_refused)
{
	char buffer[128];
	struct weir_region *region =
	    weir_region_fixed_init(buffer, sizeof(buffer));

	while (weir_region_alloc(region, 1) != NULL)
		continue;
	CHECK(!add(region, note, 'x'));
	CHECK_EQ(weir_region_fixed_failures(region), 2);
	weir_region_fixed_finish(region);
	CHECK_STR(trace, "");
}

TEST(alignment_above_the_limit_is_refused_where_there_is_room_for_it)
{
	static char buffer[4 * WEIR_REGION_ALIGN_MAX];
	struct weir_region *region =
	    weir_region_fixed_init(buffer, sizeof(buffer));
	char *object;

	CHECK_NULL(
	    weir_region_alloc_aligned(region, 8, 2 * WEIR_REGION_ALIGN_MAX));
	CHECK_NULL(weir_region_alloc_aligned(region, 8, 0));
	CHECK_NULL(weir_region_alloc_aligned(region, 8, 24));
	CHECK_EQ(weir_region_fixed_failures(region), 3);
	object = weir_region_alloc_aligned(region, 8, WEIR_REGION_ALIGN_MAX);
	CHECK_NOT_NULL(object);
	CHECK_EQ((uintptr_t)object % WEIR_REGION_ALIGN_MAX, 0);
	weir_region_fixed_finish(region);
}
