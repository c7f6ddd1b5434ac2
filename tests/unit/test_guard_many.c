/* SPDX-License-Identifier: MIT */
/*
 * test_guard_many.c - more than the guard keeps apart: places that objects were
 * taken at, pools with a name.
 */
#include "test.h"

#include <weir/weir.h>

#include "guard/guard.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void
guard_full(void)
{
	CHECK_EQ(weir_guard_set(
		     &(struct weir_guard_config){.mode = WEIR_GUARD_FULL}),
	    0);
}

/* ---- places ------------------------------------------------------------------- */

enum { DEPTH = 4, PLACES = 1 << 3 * DEPTH, TOLD = 32 };

static void *taken[PLACES];

static volatile unsigned took;

/* Eight calls, each of which returns elsewhere, to so many levels: each path is a
 * stack of its own. */
__attribute__((noinline)) static void
take(struct weir_cache *cache, unsigned path, unsigned depth)
{
	unsigned rest = path >> 3 * depth;

	if (depth == DEPTH) {
		taken[path] = weir_cache_alloc(cache);
		CHECK_NOT_NULL(taken[path]);
		took++; /* no tail call, here and below */
		return;
	}
#define TAKE(way)                             \
	case way:                             \
		take(cache, path, depth + 1); \
		took += (way);                \
		break
	switch (rest % 8) {
		TAKE(0);
		TAKE(1);
		TAKE(2);
		TAKE(3);
		TAKE(4);
		TAKE(5);
		TAKE(6);
		TAKE(7);
	}
#undef TAKE
}

struct seen {
	size_t count;
	uint64_t objects, bytes, others;
};

static bool
see(const struct weir_leak *leak, void *context)
{
	struct seen *seen = context;

	/* The most bytes first. */
	CHECK(seen->count == 0 || leak->bytes <= seen->bytes);
	seen->count++;
	seen->bytes = leak->bytes;
	seen->objects += leak->objects;
	if (strcmp(leak->pool_name, "all others") == 0) {
		seen->others = leak->objects;
		CHECK_EQ(leak->stack_count, 0);
	} else {
		CHECK_CONTAINS(leak->line, " s ago");
	}
	return true;
}

TEST(leaks_at_more_places_than_are_kept_apart_are_told_as_one)
{
	NOT_UNDER_GUARD("it is set here");

	struct weir_cache *cache;
	struct seen seen = {0};

	guard_full();
	CHECK_EQ(weir_cache_create("places",
		     &(struct weir_cache_config){.object_bytes = 100}, &cache),
	    0);
	for (unsigned i = 0; i < PLACES; i++)
		take(cache, i, 0);
	CHECK_EQ(weir_guard_leaks(WEIR_LEAKS_ALL, see, &seen), TOLD);
	CHECK_EQ(seen.count, TOLD);
	/* Frames are missing where the compiler keeps no pointers to them. */
	if (seen.others > 0)
		CHECK_GT(seen.others, PLACES - 1024 - TOLD);
	for (unsigned i = 0; i < PLACES; i++)
		weir_cache_free(cache, taken[i]);
	CHECK_EQ(weir_guard_leaks(WEIR_LEAKS_ALL, NULL, NULL), 0);
	weir_cache_destroy(cache);
}

static bool
see_small(const struct weir_leak *leak, void *context)
{
	unsigned *calls = context;

	++*calls;
	CHECK_EQ(leak->objects, 1);
	CHECK_EQ(leak->bytes, 1);
	CHECK_CONTAINS(leak->line, "1 object, 1 byte, taken ");
	return false;
}

TEST(one_byte_that_leaks_is_told_in_the_singular)
{
	NOT_UNDER_GUARD("it is set here");

	unsigned calls = 0;
	struct weir_heap *heap;
	void *object;

	guard_full();
	CHECK_EQ(weir_heap_create("small", NULL, &heap), 0);
	object = weir_heap_alloc(heap, 1);
	CHECK_NOT_NULL(object);
	CHECK_EQ(weir_guard_leaks(WEIR_LEAKS_ALL, see_small, &calls), 1);
	CHECK_EQ(calls, 1);
	weir_heap_free(heap, object);
	weir_heap_destroy(heap);
}

/* ---- names ---------------------------------------------------------------------- */

enum { POOLS = 4100 };

static struct weir_cache *caches[POOLS];
static void *objects[POOLS];

static void
make_all(void)
{
	for (size_t i = 0; i < POOLS; i++) {
		char name[32];

		snprintf(name, sizeof(name), "pool %zu", i);
		CHECK_EQ(weir_cache_create(name,
			     &(struct weir_cache_config){.object_bytes = 64},
			     &caches[i]),
		    0);
		objects[i] = weir_cache_alloc(caches[i]);
		CHECK_NOT_NULL(objects[i]);
		memset(objects[i], 1, 64);
	}
}

static void
end_all(void)
{
	for (size_t i = 0; i < POOLS; i++) {
		weir_cache_free(caches[i], objects[i]);
		CHECK(weir_cache_check(caches[i]));
		weir_cache_destroy(caches[i]);
	}
}

/* Those beyond are guarded without a name; names of pools that ended are used
 * again. */
TEST(pools_beyond_the_names_that_are_kept_are_guarded_too)
{
	NOT_UNDER_GUARD("it is set here");
	if (TEST_ASAN || TEST_TSAN || test_under_valgrind())
		SKIP("the tool takes a minute for so many pools");
	guard_full();
	make_all();
	CHECK(weiri_guard_covers(objects[0]));
	CHECK(weiri_guard_covers(objects[POOLS - 1]));
	EXPECT_ABORT("double-free: cache \"pool 4099\"", {
		weir_cache_free(caches[POOLS - 1], objects[POOLS - 1]);
		weir_cache_free(caches[POOLS - 1], objects[POOLS - 1]);
	});
	end_all();
	make_all();
	EXPECT_ABORT("wrong-pool: cache \"pool 3\"",
	    weir_cache_free(caches[3], objects[7]));
	end_all();
}
