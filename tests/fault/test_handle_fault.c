/* SPDX-License-Identifier: MIT */
/*
 * Handles are made of objects in use; whatever else is a fault that says so.
 * Resolving never dies, whatever the bits.
 */
#include "support/test.h"

#include <stdlib.h>
#include <weir/weir.h>

static struct weir_cache *
cache_with(const char *name, enum weir_check_level check, unsigned flags)
{
	struct weir_cache *cache;

	CHECK_EQ(weir_cache_create(name,
		     &(struct weir_cache_config){
			 .object_bytes = 200, .check = check, .flags = flags},
		     &cache),
	    0);
	return cache;
}

TEST(handle_of_a_free_object_dies)
{
	struct weir_cache *cache =
	    cache_with("conn", WEIR_CHECK_EACH, WEIR_CACHE_HANDLES);
	void *object = weir_cache_alloc(cache);

	CHECK_NE(weir_cache_handle(cache, object).bits, 0);
	weir_cache_free(cache, object);
	EXPECT_ABORT("weir: FAULT double-free: cache \"conn\": object 0x",
	    { (void)weir_cache_handle(cache, object); });
	weir_cache_destroy(cache);
}

TEST(handle_of_what_is_no_object_dies_at_either_level)
{
	static const enum weir_check_level levels[] = {
	    WEIR_CHECK_EACH, WEIR_CHECK_BATCH};

	for (int l = 0; l < 2; l++) {
		struct weir_cache *cache =
		    cache_with("conn", levels[l], WEIR_CACHE_HANDLES);
		struct weir_cache *other =
		    cache_with("other", levels[l], WEIR_CACHE_HANDLES);
		char *object = weir_cache_alloc(cache);
		void *alien = weir_cache_alloc(other);
		void *heap = malloc(16);

		EXPECT_ABORT("FAULT foreign-pointer: cache \"conn\": 0x",
		    { (void)weir_cache_handle(cache, heap); });
		EXPECT_ABORT("FAULT foreign-pointer: cache \"conn\": 0x",
		    { (void)weir_cache_handle(cache, (void *)16); });
		EXPECT_ABORT("FAULT wrong-pool: cache \"conn\": 0x",
		    { (void)weir_cache_handle(cache, alien); });
		EXPECT_ABORT("FAULT interior-pointer: cache \"conn\": 0x",
		    { (void)weir_cache_handle(cache, object + 16); });
		EXPECT_ABORT("FAULT misaligned-pointer: cache \"conn\": 0x",
		    { (void)weir_cache_handle(cache, object + 1); });
		/* With handles a free looks at each pointer, too. */
		EXPECT_ABORT("FAULT foreign-pointer: cache \"conn\": 0x",
		    { weir_cache_free(cache, heap); });
		EXPECT_ABORT("FAULT wrong-pool: cache \"conn\": 0x",
		    { weir_cache_free(cache, alien); });
		free(heap);
		weir_cache_free(cache, object);
		weir_cache_free(other, alien);
		weir_cache_destroy(cache);
		weir_cache_destroy(other);
	}
}

TEST(handle_in_a_cache_without_handles_dies)
{
	struct weir_cache *cache = cache_with("plain", WEIR_CHECK_EACH, 0);
	void *object = weir_cache_alloc(cache);

	EXPECT_ABORT(
	    "weir: FAULT bad-argument: cache \"plain\": it was created "
	    "without WEIR_CACHE_HANDLES",
	    { (void)weir_cache_handle(cache, object); });
	weir_cache_free(cache, object);
	weir_cache_destroy(cache);
}

TEST(handle_double_free_dies_and_the_handle_stays_stale)
{
	struct weir_cache *cache =
	    cache_with("conn", WEIR_CHECK_EACH, WEIR_CACHE_HANDLES);
	void *object = weir_cache_alloc(cache);
	struct weir_handle handle = weir_cache_handle(cache, object);

	weir_cache_free(cache, object);
	EXPECT_ABORT("FAULT double-free: cache \"conn\": object 0x",
	    { weir_cache_free(cache, object); });
	CHECK_NULL(weir_cache_resolve(cache, handle));
	weir_cache_destroy(cache);
}
