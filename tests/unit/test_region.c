/* SPDX-License-Identifier: MIT */
/*
 * test_region.c - what region.h promises, claim by claim.
 */
#include <weir/region.h>

#include "os/os.h"
#include "test.h"

#include <errno.h>
#include <locale.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <wchar.h>

static struct weir_region_kind test_kind = WEIR_REGION_KIND("test");

static struct weir_region *
create(const struct weir_region_config *config)
{
	struct weir_region *region = NULL;

	CHECK_EQ(weir_region_create(&test_kind, config, &region), 0);
	CHECK_NOT_NULL(region);
	CHECK(weir_region_check(region));
	return region;
}

static struct weir_region_figures
figures(const struct weir_region *region)
{
	struct weir_region_figures out = {.size = sizeof(out)};

	CHECK_EQ(weir_region_stats(region, &out), 0);
	return out;
}

static struct weir_pool_stats
kind_stats(const struct weir_region_kind *kind)
{
	struct weir_pool_stats out = {.size = sizeof(out)};

	CHECK_EQ(weir_region_kind_stats(kind, &out), 0);
	return out;
}

static bool
is_aligned(const void *address, size_t align)
{
	return ((uintptr_t)address & (align - 1)) == 0;
}

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

/* ---- blocks and large objects ------------------------------------------ */

TEST(blocks_double_up_to_the_cap)
{
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

/* ---- configuration and limits ------------------------------------------ */

TEST(configurations_out_of_range_are_refused)
{
	static const struct weir_region_config bad[] = {
	    {.first_bytes = WEIR_REGION_FIRST_MAX + 1},
	    {.first_bytes = SIZE_MAX},
	    {.block_bytes_max = WEIR_REGION_BLOCK_MAX + 1},
	    {.block_bytes_max = SIZE_MAX},
	    {.first_bytes = 8192, .block_bytes_max = 4096},
	    {.large_bytes = 32 << 10},
	    {.large_bytes = SIZE_MAX},
	    {.limit_bytes = 1},
	    {.limit_bytes = 1023},
	    {.flags = 1},
	    {.reserved = {0, 0, 0, 1}},
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct weir_region *region = (void *)&region;

		CHECK_EQ(weir_region_create(NULL, &bad[i], &region), -EINVAL);
		CHECK_NULL(region);
	}
}

TEST(sizes_are_rounded_up_and_default_first_yields_to_a_small_cap)
{
	struct weir_region *region =
	    create(&(struct weir_region_config){.first_bytes = 1500});

	CHECK_EQ(figures(region).bytes_charged, 2048);
	weir_region_destroy(region);
	region = create(&(struct weir_region_config){.block_bytes_max = 1});
	CHECK_EQ(figures(region).bytes_charged, 1024);
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

/* ---- strings ----------------------------------------------------------- */

TEST(strings_are_copied)
{
	struct weir_region *region = create(NULL);
	char text[] = "one two";

	CHECK_STR(weir_region_strdup(region, text), "one two");
	CHECK_STR(weir_region_strdup(region, ""), "");
	CHECK_STR(weir_region_strndup(region, text, 3), "one");
	CHECK_STR(weir_region_strndup(region, text, 0), "");
	CHECK_STR(weir_region_strndup(region, text, 7), "one two");
	CHECK_STR(weir_region_strndup(region, text, 99), "one two");
	CHECK_MEM(weir_region_memdup(region, text, 8), text, 8);
	CHECK(weir_region_strdup(region, text) != text);
	weir_region_destroy(region);
}

TEST(formatting_fits_every_remaining_room)
{
	char expected[64];

	for (int room = 0; room <= 48; room += 16) {
		for (int length = 0; length < 60; length++) {
			struct weir_region *region = create(NULL);
			char *text;

			CHECK_NOT_NULL(weir_region_alloc(region,
			    figures(region).bytes_room - (uint64_t)room));
			text = weir_region_printf(
			    region, "%0*d|%s", length, 7, "end");
			snprintf(expected, sizeof(expected), "%0*d|%s", length,
			    7, "end");
			CHECK_STR(text, expected);
			CHECK(is_aligned(text, 16));
			/* The text is claimed: what follows leaves it alone. */
			memset(weir_region_alloc(region, 64), 'x', 64);
			CHECK_STR(text, expected);
			CHECK(weir_region_check(region));
			weir_region_destroy(region);
		}
	}
}

TEST(long_text_is_formatted_on_pages_of_its_own)
{
	struct weir_region *region = create(NULL);
	char *text = weir_region_printf(region, "%0100000d", 5);

	CHECK_NOT_NULL(text);
	CHECK_EQ(strlen(text), 100000);
	CHECK_EQ(text[99999], '5');
	CHECK_EQ(figures(region).larges, 1);
	weir_region_destroy(region);
}

TEST(failing_format_gives_null_takes_nothing_and_leaves_errno)
{
	static const wchar_t unencodable[] = {0x7ffffff0, 0};
	struct weir_region *region = create(NULL);
	char *before = region->next;

	setlocale(LC_ALL, "C");
	errno = 77;
	CHECK_NULL(weir_region_printf(region, "%ls", unencodable));
	CHECK_EQ(errno, 77);
	CHECK_PTR(region->next, before);
	CHECK_EQ(figures(region).failures, 1);
	CHECK_EQ(kind_stats(&test_kind).failures, 1);
	weir_region_destroy(region);
}

TEST(formatting_at_the_limit_gives_null)
{
	struct weir_region *region =
	    create(&(struct weir_region_config){.limit_bytes = 1024});

	CHECK_NULL(weir_region_printf(region, "%02000d", 1));
	CHECK_STR(weir_region_printf(region, "%d", 12), "12");
	weir_region_destroy(region);
}

/* ---- cleanups ---------------------------------------------------------- */

static char trace[64];

static void
note(void *context)
{
	strncat(trace, context, 1);
}

static void
add_note(struct weir_region *region, const char *letter)
{
	CHECK_NOT_NULL(
	    weir_region_cleanup_add(region, note, (void *)(uintptr_t)letter));
}

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

/* ---- end --------------------------------------------------------------- */

TEST(reset_keeps_the_first_block_and_gives_back_the_rest)
{
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
	struct weir_region *keep = create(&config), *region;
	uint64_t before = 0;

	for (int round = 0; round < 10; round++) {
		region = create(&config);
		for (int i = 0; i < 50; i++) {
			CHECK_NOT_NULL(weir_region_alloc(keep, 10000));
			CHECK_NOT_NULL(weir_region_alloc(region, 10000));
			CHECK_NOT_NULL(weir_region_alloc(keep, 300000));
			CHECK_NOT_NULL(weir_region_alloc(region, 300000));
		}
		weir_region_reset(keep);
		weir_region_destroy(region);
		if (round == 0)
			before = bytes_in_spans();
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

/* ---- statistics -------------------------------------------------------- */

TEST(kind_counts_regions_bytes_and_peak)
{
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

/* ---- threads ----------------------------------------------------------- */

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
		over->region[index][i] = region;
	}
}

static void
thread_ends(unsigned index, void *context)
{
	struct hand_over *over = context;

	for (size_t i = 0; i < HANDED; i++) {
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
