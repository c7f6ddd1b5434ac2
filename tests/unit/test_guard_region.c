/* SPDX-License-Identifier: MIT */
/*
 * test_guard_region.c - regions under guard: each object by itself, and how it
 * ended.
 */
#include "support/test.h"

#include <stdint.h>
#include <string.h>
#include <weir/weir.h>

static struct weir_region_kind request = WEIR_REGION_KIND("request");
static struct weir_region_kind other = WEIR_REGION_KIND("other");

static void
guard(enum weir_guard_mode mode, uint32_t rate, const char *pools)
{
	struct weir_guard_config config = {
	    .mode = mode, .sample_rate = rate, .pools = pools};

	CHECK_EQ(weir_guard_set(&config), 0);
}

static struct weir_guard_stats
figures(void)
{
	struct weir_guard_stats stats = {.size = sizeof(stats)};

	CHECK_EQ(weir_guard_read(&stats), 0);
	return stats;
}

static struct weir_region *
make(struct weir_region_kind *kind, const struct weir_region_config *config)
{
	struct weir_region *region;

	CHECK_EQ(weir_region_create(kind, config, &region), 0);
	return region;
}

static char *
take(struct weir_region *region, size_t bytes)
{
	char *object = weir_region_alloc(region, bytes);

	CHECK_NOT_NULL(object);
	memset(object, 1, bytes);
	return object;
}

__attribute__((noinline)) static char
peek(const char *at)
{
	return *(const volatile char *)at;
}

__attribute__((noinline)) static void
poke(char *at)
{
	*(volatile char *)at = 1;
}

TEST(full_each_object_ends_to_the_byte)
{
	static const size_t sizes[] = {1, 24, 200, 4096, 5000, 100000};

	guard(WEIR_GUARD_FULL, 0, NULL);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct weir_region *region = make(&request, NULL);
		size_t whole = (sizes[i] + 15) / 16 * 16;
		char *object = take(region, sizes[i]);

		(void)take(region, sizes[i]);
		EXPECT_ABORT("weir: FAULT overflow: region \"request\": read",
		    { (void)peek(object + whole); });
		if (whole > sizes[i])
			EXPECT_ABORT("FAULT overflow: region \"request\": 0x", {
				poke(object + sizes[i]);
				weir_region_destroy(region);
			});
		CHECK(weir_region_check(region));
		weir_region_destroy(region);
	}
}

TEST(full_how_an_object_ended_is_told)
{
	struct weir_region_savepoint savepoint;
	struct weir_region *region, *child;
	char *before, *object;

	guard(WEIR_GUARD_FULL, 0, NULL);
	region = make(&request, NULL);
	object = take(region, 100);
	weir_region_reset(region);
	EXPECT_ABORT("read at 0x", { (void)peek(object); });
	EXPECT_ABORT(
	    "of an object that ended by reset; ", { (void)peek(object); });
	before = take(region, 50);
	CHECK_EQ(weir_region_mark(region, &savepoint), 0);
	object = take(region, 100);
	weir_region_rewind(region, &savepoint);
	EXPECT_ABORT(
	    "of an object that ended by rewind; ", { (void)peek(object); });
	CHECK_EQ(peek(before), 1);
	child = make(&request, &(struct weir_region_config){.parent = region});
	object = take(child, 100);
	weir_region_destroy(region);
	EXPECT_ABORT("of an object that ended by end of parent; ",
	    { (void)peek(object); });
	EXPECT_ABORT(
	    "of an object that ended by destroy; ", { (void)peek(before); });
	CHECK_EQ(figures().live, 0);
}

TEST(full_objects_grow_shrink_and_end)
{
	struct weir_region *region;
	char *object, *grown;

	guard(WEIR_GUARD_FULL, 0, NULL);
	region = make(&request, NULL);
	object = take(region, 100);
	grown = weir_region_realloc(region, object, 100, 300);
	CHECK_NOT_NULL(grown);
	for (int i = 0; i < 100; i++)
		CHECK_EQ(grown[i], 1);
	EXPECT_ABORT("FAULT use-after-free: region \"request\"",
	    { (void)peek(object); });
	weir_region_free(region, grown, 300);
	EXPECT_ABORT(
	    "FAULT use-after-free: region \"request\"", { (void)peek(grown); });
	EXPECT_ABORT("FAULT double-free: region \"request\"",
	    { weir_region_free(region, grown, 300); });
	CHECK(weir_region_check(region));
	weir_region_destroy(region);
}

static int cleaned;

static void
clean(void *context)
{
	cleaned += peek(context);
}

TEST(full_cleanups_find_their_objects)
{
	struct weir_region *region;
	char *object;

	guard(WEIR_GUARD_FULL, 0, NULL);
	region = make(&request, NULL);
	object = take(region, 10);
	CHECK_NOT_NULL(weir_region_cleanup_add(region, clean, object));
	CHECK(weir_region_check(region));
	weir_region_reset(region);
	CHECK_EQ(cleaned, 1);
	object = take(region, 10);
	CHECK_NOT_NULL(weir_region_cleanup_add(region, clean, object));
	weir_region_destroy(region);
	CHECK_EQ(cleaned, 2);
}

/* What fits by its size fits under guard, beside what blocks have unused. */
TEST(full_a_limit_counts_sizes)
{
	struct weir_region *region;

	guard(WEIR_GUARD_FULL, 0, NULL);
	region = make(
	    &request, &(struct weir_region_config){.limit_bytes = 64 << 10});
	for (int i = 0; i < 300; i++)
		(void)take(region, 100);
	CHECK_NULL(weir_region_alloc(region, 60 << 10));
	CHECK(weir_region_check(region));
	weir_region_destroy(region);
}

TEST(only_kinds_that_are_named_are_under_guard)
{
	struct weir_region *region;

	guard(WEIR_GUARD_FULL, 0, "request");
	region = make(&other, NULL);
	(void)take(region, 10);
	weir_region_destroy(region);
	CHECK_EQ(figures().guarded, 0);
	region = make(&request, NULL);
	(void)take(region, 10);
	weir_region_destroy(region);
	CHECK_EQ(figures().guarded, 1);
}

/* Begins in line and ends so, again and again. */
TEST(a_loop_of_regions_is_sampled_and_a_switched_mode_reaches_it)
{
	uint64_t before;

	guard(WEIR_GUARD_OFF, 0, NULL);
	for (int i = 0; i < 1000; i++) {
		struct weir_region *region = make(&request, NULL);

		(void)take(region, 100);
		weir_region_destroy(region);
	}
	CHECK_EQ(figures().guarded, 0);
	guard(WEIR_GUARD_SAMPLE, 2, NULL);
	for (int i = 0; i < 3200; i++) {
		struct weir_region *region = make(&request, NULL);

		(void)take(region, 100);
		weir_region_destroy(region);
	}
	/* One of 32 comes the long way, one of two is taken there. */
	CHECK_GT(figures().guarded, 20);
	CHECK_LT(figures().guarded, 200);
	guard(WEIR_GUARD_FULL, 0, NULL);
	before = figures().guarded;
	for (int i = 0; i < 200; i++) {
		struct weir_region *region = make(&request, NULL);

		(void)take(region, 100);
		weir_region_destroy(region);
	}
	CHECK_GE(figures().guarded, before + 168);
	guard(WEIR_GUARD_OFF, 0, NULL);
	before = figures().guarded;
	for (int i = 0; i < 100; i++) {
		struct weir_region *region = make(&request, NULL);

		(void)take(region, 100);
		weir_region_destroy(region);
	}
	CHECK_EQ(figures().guarded, before);
	CHECK_EQ(figures().reports, 0);
}
