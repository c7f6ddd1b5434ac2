/* SPDX-License-Identifier: MIT */
/*
 * test_guard_menu_fail.c - requests that the debug menu makes fail: as for want of
 * memory, the same ones for the same seed, and no others.
 */
#include "support/test.h"

#include "menu_common.h"

#include <errno.h>
#include <string.h>
#include <weir/weir.h>

static unsigned asked;

static bool
note_oom(size_t bytes, void *context)
{
	bool *again = context;

	CHECK_GT(bytes, 0);
	asked++;
	return *again;
}

TEST(fail_is_as_for_want_of_memory)
{
	bool again = false;
	struct weir_config config = {.oom = note_oom, .oom_context = &again};

	CHECK_EQ(weir_init(&config), 0);
	FOR_KINDS(kind)
	{
		struct weir_pool_stats before, after;

		kind->make(kind);
		/* What a thread has is given up when it is told. */
		kind->give(take(kind));
		weir_thread_poll();
		before = kind->figures();
		menu("fail:100%@conn*");
		weir_thread_poll();
		errno = 77;
		asked = 0;
		if (strcmp(kind->kind, "region") == 0) {
			struct weir_region *none;

			CHECK_EQ(weir_region_create(&region_kind, NULL, &none),
			    -ENOMEM);
			CHECK_NULL(none);
		} else {
			CHECK_NULL(kind->take(kind));
		}
		CHECK_EQ(asked, 1);
		CHECK_EQ(errno, 77);
		after = kind->figures();
		CHECK_EQ(after.failures, before.failures + 1);
		CHECK_EQ(after.in_use, before.in_use);
		menu(NULL);
		weir_thread_poll();
		kind->give(take(kind));
		kind->end();
	}
}

static bool
note_region_oom(struct weir_region *region, size_t bytes, void *context)
{
	CHECK_PTR(region, pool.region);
	CHECK_EQ(bytes, 16);
	asked++;
	return *(bool *)context;
}

TEST(fail_of_an_object_asks_the_regions_own_handler_too)
{
	bool again = false;
	struct weir_region_config config = {
	    .oom = note_region_oom, .oom_context = &again};
	struct weir_guard_stats stats = {.size = sizeof(stats)};

	/* The first is the region itself. */
	menu("fail-nth:2@conn");
	CHECK_EQ(weir_region_create(&region_kind, &config, &pool.region), 0);
	CHECK_NULL(weir_region_alloc(pool.region, 16));
	CHECK_EQ(asked, 1);
	CHECK_NOT_NULL(weir_region_alloc(pool.region, 16));
	region_end();
	/* What says that it made room has the request made once more. */
	again = true;
	menu("fail-nth:2@conn");
	CHECK_EQ(weir_region_create(&region_kind, &config, &pool.region), 0);
	CHECK_NOT_NULL(weir_region_alloc(pool.region, 16));
	CHECK_EQ(asked, 2);
	CHECK_EQ(weir_guard_read(&stats), 0);
	CHECK_EQ(stats.failed, 2);
	region_end();
	/* Large ones fail as small ones do. */
	menu("fail-nth:2+@conn");
	CHECK_EQ(weir_region_create(&region_kind, NULL, &pool.region), 0);
	CHECK_NULL(weir_region_alloc(pool.region, 100000));
	menu(NULL);
	/* Begun under it, and its requests do not fail any more. */
	CHECK_NOT_NULL(weir_region_alloc(pool.region, 100000));
	region_end();
}

TEST(fail_yields_where_the_oom_hook_made_room)
{
	bool again = true;
	struct weir_config config = {.oom = note_oom, .oom_context = &again};

	CHECK_EQ(weir_init(&config), 0);
	menu("fail-nth:1");
	FOR_KINDS(kind)
	{
		menu("fail-nth:1");
		asked = 0;
		kind->make(kind);
		kind->give(take(kind));
		CHECK_EQ(asked, 1);
		kind->end();
	}
}

/* Of the first requests, which ones fail. */
#define DRAWN 200

static unsigned
draw(const struct kind *kind, const char *text, bool failed[DRAWN])
{
	bool region = strcmp(kind->kind, "region") == 0;
	unsigned count = 0;

	menu(NULL);
	kind->make(kind);
	/* It is decided when one begins. */
	if (region)
		region_end();
	menu(text);
	weir_thread_poll();
	if (region) {
		while (
		    weir_region_create(&region_kind, NULL, &pool.region) != 0)
			;
	}
	for (unsigned i = 0; i < DRAWN; i++) {
		void *object = kind->take(kind);

		failed[i] = object == NULL;
		count += failed[i];
		if (object != NULL)
			kind->give(object);
	}
	menu(NULL);
	kind->end();
	return count;
}

TEST(fail_is_the_same_for_the_same_seed)
{
	FOR_KINDS(kind)
	{
		bool one[DRAWN], two[DRAWN];
		unsigned count = draw(kind, "fail:20%,seed:4711", one);

		CHECK_GT(count, DRAWN / 20);
		CHECK_LT(count, DRAWN / 2);
		CHECK_EQ(draw(kind, "fail:20%,seed:4711", two), count);
		CHECK_MEM(one, two, sizeof(one));
		(void)draw(kind, "fail:20%,seed:4712", two);
		CHECK(memcmp(one, two, sizeof(one)) != 0);
		CHECK_EQ(draw(kind, "fail:20%@other", two), 0);
	}
}

TEST(fail_nth_is_that_request_or_all_from_there)
{
	FOR_KINDS(kind)
	{
		bool failed[DRAWN];

		/* Its creation would be the first. */
		if (strcmp(kind->kind, "region") == 0)
			continue;

		CHECK_EQ(draw(kind, "fail-nth:150", failed), 1);
		CHECK(failed[149]);
		CHECK_EQ(draw(kind, "fail-nth:150+", failed), DRAWN - 149);
		CHECK(failed[149] && !failed[148]);
		CHECK_EQ(draw(kind, "fail-nth:150+@con*", failed), DRAWN - 149);
		CHECK_EQ(draw(kind, "fail-nth:150@co", failed), 0);
	}
}

/* Nobody would wake them: what is missing is no object. */
TEST(fail_in_a_pool_that_waits_does_not_wait)
{
	struct weir_cache_config config = {
	    .object_bytes = 100, .limit = 10, .policy = WEIR_LIMIT_WAIT};
	struct weir_buffer_pool_config buffers = {
	    .tier = {{.bytes = 100, .limit = 10}},
	    .tier_count = 1,
	    .policy = WEIR_LIMIT_WAIT};
	struct weir_pool_stats stats = empty_stats();

	menu("fail:100%");
	CHECK_EQ(weir_cache_create("conn", &config, &pool.cache), 0);
	CHECK_NULL(weir_cache_alloc(pool.cache));
	CHECK_EQ(cache_figures().failures, 1);
	CHECK_EQ(cache_figures().waits, 0);
	cache_end();
	CHECK_EQ(weir_buffer_pool_create("conn", &buffers, &pool.buffers), 0);
	CHECK_NULL(weir_buffer_acquire(pool.buffers, 100));
	CHECK_EQ(weir_buffer_pool_stats(pool.buffers, 0, &stats), 0);
	CHECK_EQ(stats.failures, 1);
	CHECK_EQ(stats.waits, 0);
	buffer_end();
}

TEST(fail_ends_a_bulk_request_where_it_strikes)
{
	struct weir_cache_config config = {.object_bytes = 100};
	void *objects[300];

	menu("fail-nth:201");
	CHECK_EQ(weir_cache_create("conn", &config, &pool.cache), 0);
	CHECK_EQ(weir_cache_alloc_bulk(pool.cache, 300, objects), 200);
	weir_cache_free_bulk(pool.cache, 200, objects);
	cache_end();
}
