/* SPDX-License-Identifier: MIT */
/*
 * test_oom_guard.c - the n-th request to the system fails while everything is
 * under guard: the advice that bars a page and the one that opens it among them.
 *
 * An object that cannot be guarded is one as always, and a place that cannot be
 * barred is told from one that is; a program notices neither.
 */
#include "oom/sweep.h"

#include "guard/guard.h"
#include "os/guard.h"

#include <errno.h>
#include <string.h>

enum { ROUNDS = 2, COUNT = 12 };

static uint64_t
refused(void)
{
	struct weir_guard_stats stats = {.size = sizeof(stats)};

	CHECK_EQ(weir_guard_read(&stats), 0);
	return stats.refused;
}

static bool
use_cache(void)
{
	void *object[COUNT];
	struct weir_cache *cache;
	bool whole = true;

	if (weir_cache_create("oom",
		&(struct weir_cache_config){
		    .object_bytes = 300, .flags = WEIR_CACHE_ZERO},
		&cache) != 0)
		return false;
	for (unsigned round = 0; round < ROUNDS; round++) {
		for (size_t i = 0; i < COUNT; i++) {
			object[i] = weir_cache_alloc(cache);
			whole = whole && object[i] != NULL;
			if (object[i] == NULL)
				continue;
			for (size_t b = 0; b < 300; b++)
				CHECK_EQ(((char *)object[i])[b], 0);
			memset(object[i], 0x5a, 300);
		}
		for (size_t i = 0; i < COUNT; i++)
			weir_cache_free(cache, object[i]);
	}
	CHECK(weir_cache_check(cache));
	weir_cache_destroy(cache);
	return whole;
}

static bool
use_heap(void)
{
	static const size_t bytes[] = {100, 5000, 300000};
	struct weir_heap *heap;
	bool whole = true;

	if (weir_heap_create("oom", NULL, &heap) != 0)
		return false;
	for (size_t i = 0; i < (size_t)3 * ROUNDS; i++) {
		char *object = weir_heap_alloc(heap, bytes[i % 3]), *moved;

		whole = whole && object != NULL;
		if (object == NULL)
			continue;
		object[bytes[i % 3] - 1] = 7;
		moved = weir_heap_realloc(heap, object, bytes[i % 3] + 50);
		whole = whole && moved != NULL;
		if (moved != NULL)
			CHECK_EQ(moved[bytes[i % 3] - 1], 7);
		weir_heap_free(heap, moved != NULL ? moved : object);
	}
	CHECK(weir_heap_check(heap));
	weir_heap_destroy(heap);
	return whole;
}

static bool
use_regions(void)
{
	static struct weir_region_kind kind = WEIR_REGION_KIND("oom");
	struct weir_region *region;
	bool whole = true;

	if (weir_region_create(&kind, NULL, &region) != 0)
		return false;
	for (unsigned round = 0; round < ROUNDS; round++) {
		for (size_t i = 1; i <= 4; i++) {
			char *object = weir_region_alloc(region, 700 * i);

			whole = whole && object != NULL;
			if (object != NULL)
				memset(object, 1, 700 * i);
		}
		CHECK(weir_region_check(region));
		weir_region_reset(region);
	}
	weir_region_destroy(region);
	return whole;
}

static bool
use_buffers(void)
{
	struct weir_buffer_pool *pool;
	bool whole = true;

	if (weir_buffer_pool_create("oom", NULL, &pool) != 0)
		return false;
	for (unsigned i = 0; i < 4; i++) {
		struct weir_buffer *buffer = weir_buffer_acquire(pool, 3000);

		whole = whole && buffer != NULL;
		if (buffer != NULL)
			memset(buffer->data, 2, 3000);
		weir_buffer_release(buffer);
	}
	CHECK(weir_buffer_pool_check(pool));
	weir_buffer_pool_destroy(pool);
	return whole;
}

/* All pools, in the mode that was set with @error. */
static bool
use_pools(int error)
{
	bool whole = error == 0;

	if (error != 0)
		CHECK_EQ(error, -ENOMEM);
	/* No short cut: each is to meet the failure in its turn. */
	whole &= use_cache();
	whole &= use_heap();
	whole &= use_regions();
	whole &= use_buffers();
	return whole;
}

static bool
scenario_guard(enum weir_guard_mode mode)
{
	uint64_t before = refused();
	bool whole = use_pools(weir_guard_set(&(struct weir_guard_config){
	    .mode = mode, .sample_rate = mode == WEIR_GUARD_SAMPLE ? 3 : 0}));

	CHECK_EQ(weir_guard_set(NULL), 0);
	return whole && refused() == before;
}

static bool
scenario_full(void)
{
	return scenario_guard(WEIR_GUARD_FULL);
}

static bool
scenario_sample(void)
{
	return scenario_guard(WEIR_GUARD_SAMPLE);
}

static bool
scenario_tool(void)
{
	return scenario_guard(WEIR_GUARD_TOOL);
}

/* As scenario_guard(), with the debug menu. */
static bool
scenario_menu(const char *menu)
{
	uint64_t before = refused();
	bool whole = use_pools(weir_debug_set(menu));

	CHECK_EQ(weir_debug_set(NULL), 0);
	return whole && refused() == before;
}

static bool
scenario_menu_places(void)
{
	return scenario_menu("poison,tag,caller,cold-first");
}

static bool
scenario_menu_through(void)
{
	return scenario_menu("pass-through,integrity");
}

TEST(full_guard_lives_through_any_failing_system_call)
{
	sweep(scenario_full, false);
	sweep(scenario_full, true);
}

TEST(guard_for_tools_lives_through_any_failing_system_call)
{
	sweep(scenario_tool, false);
	sweep(scenario_tool, true);
}

TEST(debug_menu_lives_through_any_failing_system_call)
{
	sweep(scenario_menu_places, false);
	sweep(scenario_menu_places, true);
	sweep(scenario_menu_through, true);
}

/* As on systems whose pages are barred one by one. */
TEST(full_guard_without_markers_lives_through_any_failing_system_call)
{
	weiri_os_set_bars_merge(false);
	sweep(scenario_full, false);
	sweep(scenario_full, true);
}

TEST(sampling_guard_lives_through_any_failing_system_call)
{
	sweep(scenario_sample, false);
	sweep(scenario_sample, true);
}

/* Of samples of this size some 64 are kept before a place is used again. */
TEST(a_place_that_could_not_be_barred_is_clean_when_it_is_used_again)
{
	enum { BYTES = 40000, TURNS = 150 };
	struct weir_cache *cache;
	const char *places[TURNS];
	bool again = false;

	CHECK_EQ(weir_cache_create("open",
		     &(struct weir_cache_config){
			 .object_bytes = BYTES, .flags = WEIR_CACHE_ZERO},
		     &cache),
	    0);
	CHECK_EQ(weir_guard_set(&(struct weir_guard_config){
		     .mode = WEIR_GUARD_SAMPLE, .sample_rate = 2}),
	    0);
	for (size_t turn = 0; turn < TURNS;) {
		char *object = weir_cache_alloc(cache);

		CHECK_NOT_NULL(object);
		if (!weiri_guard_covers(object)) {
			weir_cache_free(cache, object);
			continue;
		}
		for (size_t i = 0; i < turn; i++)
			again = again || places[i] == object;
		for (size_t at = 0; at < BYTES; at++)
			CHECK_EQ(object[at], 0);
		memset(object, 0x5a, BYTES);
		places[turn++] = object;
		weiri_os_fail_nth(1, true);
		weir_cache_free(cache, object);
		weiri_os_fail_nth(0, false);
	}
	CHECK(again);
	weir_cache_destroy(cache);
}
