/* SPDX-License-Identifier: MIT */
/*
 * test_region_name_meet.c - the last name there is room for, given by two threads
 * at once.
 */
#include "region_common.h"
#include "support/refuse.h"

#include <pthread.h>
#include <stdio.h>

#define NAMES_MAX 256

static struct weir_region *region;
static bool inside;

static void *
name_it_too(void *context)
{
	struct weir_region *other = create(NULL);

	CHECK(weir_region_rename(other, context));
	weir_region_destroy(other);
	return NULL;
}

/* While one thread makes a copy of the name another one gives it. */
static void
have_another_name_it(void *name)
{
	pthread_t thread;

	if (inside)
		return;
	inside = true;
	CHECK_EQ(pthread_create(&thread, NULL, name_it_too, name), 0);
	CHECK_EQ(pthread_join(thread, NULL), 0);
}

TEST(name_is_given_that_another_thread_is_about_to_put_in_the_last_place)
{
	char name[32];

	region = create(NULL);
	for (int i = 0; i < NAMES_MAX - 1; i++) {
		snprintf(name, sizeof(name), "name %d", i);
		CHECK(weir_region_rename(region, name));
	}
	snprintf(name, sizeof(name), "the last");
	test_step_in(TEST_CALL_RECORD, have_another_name_it, name);
	CHECK(weir_region_rename(region, name));
	test_step_in(TEST_CALL_RECORD, NULL, NULL);
	CHECK(inside);
	CHECK(!weir_region_rename(region, "one too many"));
	CHECK(weir_region_rename(region, "name 0"));
	CHECK(weir_region_rename(region, "the last"));
	weir_region_destroy(region);
}
