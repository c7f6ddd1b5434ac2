/* SPDX-License-Identifier: MIT */
/*
 * test_region_name.c - names that regions are given late.
 */
#include "region_common.h"

#include <stdio.h>

#define NAMES_MAX 256

static const char *
name_of(const struct weir_region *region)
{
	struct weir_region_info info[8];
	size_t count = weir_region_top(WEIR_REGION_BY_BYTES, 0, info, 8);

	CHECK_LE(count, 8);
	for (size_t i = 0; i < count; i++)
		if (info[i].region == region)
			return info[i].name;
	return NULL;
}

TEST(region_is_listed_by_the_name_it_was_given_last)
{
	struct weir_region *region = create(
			       &(struct weir_region_config){.name = "early"}),
			   *other = create(NULL);
	char name[64] = "route /index";

	CHECK(weir_region_rename(region, name));
	CHECK(weir_region_rename(other, name));
	memset(name, 'x', sizeof(name) - 1);
	CHECK_STR(name_of(region), "route /index");
	CHECK_PTR(name_of(region), name_of(other));
	weir_region_reset(region);
	CHECK_STR(name_of(region), "route /index");
	/* As long as the name of a pool may be. */
	CHECK(weir_region_rename(region, name));
	name[47] = '\0';
	CHECK_STR(name_of(region), name);
	CHECK(weir_region_rename(region, NULL));
	CHECK_STR(name_of(region), "test");
	CHECK(weir_region_check(region));
	weir_region_destroy(region);
	weir_region_destroy(other);
	/* Their blocks serve regions that have no name. */
	region = create(NULL);
	other = create(NULL);
	CHECK_STR(name_of(region), "test");
	CHECK_STR(name_of(other), "test");
	weir_region_destroy(region);
	weir_region_destroy(other);
}

TEST(too_many_names_leave_a_region_the_one_it_had)
{
	struct weir_region *region = create(NULL);
	char name[32], last[32] = "";
	int given = 0;

	for (int i = 0; i < 1000; i++) {
		snprintf(name, sizeof(name), "name %d", i);
		if (weir_region_rename(region, name)) {
			given++;
			memcpy(last, name, sizeof(last));
		}
		CHECK_STR(name_of(region), last);
	}
	CHECK_GE(given, 200);
	CHECK_LE(given, NAMES_MAX);
	/* Those that are there stay. */
	CHECK(weir_region_rename(region, "name 0"));
	CHECK_STR(name_of(region), "name 0");
	weir_region_destroy(region);
}

/* ---- threads --------------------------------------------------------------- */

#define NAMED_EACH 100

static void
thread_names(unsigned index, void *context)
{
	struct weir_region *region = create(NULL);
	char name[32];

	(void)context;
	for (int i = 0; i < 20 * NAMED_EACH; i++) {
		/* Now the same names, now others. */
		snprintf(name, sizeof(name), "%d %d",
		    i < NAMED_EACH ? 0 : (int)index, i % NAMED_EACH);
		CHECK(weir_region_rename(region, name));
	}
	weir_region_destroy(region);
}

static void
thread_reads(void)
{
	struct weir_region_info info[4];
	size_t count = weir_region_top(WEIR_REGION_BY_BYTES, 0, info, 4);

	for (size_t i = 0; i < count && i < 4; i++) {
		unsigned index, number;

		if (strcmp(info[i].name, "test") == 0)
			continue;
		CHECK_EQ(sscanf(info[i].name, "%u %u", &index, &number), 2);
		CHECK_LE(index, 1);
		CHECK_LE(number, NAMED_EACH - 1);
	}
}

static void
thread_names_or_reads(unsigned index, void *context)
{
	if (index < 2)
		thread_names(index, context);
	else
		for (int i = 0; i < 200; i++)
			thread_reads();
}

TEST(names_are_given_and_read_by_any_thread)
{
	struct weir_region *region = create(NULL);
	char name[32];
	int more = 0;

	test_threads(3, thread_names_or_reads, NULL);
	/* No name is there twice: the table has room for the rest. */
	for (int i = 0; i < NAMES_MAX - 2 * NAMED_EACH; i++) {
		snprintf(name, sizeof(name), "more %d", i);
		more += weir_region_rename(region, name);
	}
	CHECK_EQ(more, NAMES_MAX - 2 * NAMED_EACH);
	CHECK(!weir_region_rename(region, "one too many"));
	CHECK_STR(name_of(region), name);
	weir_region_destroy(region);
}
