/* SPDX-License-Identifier: MIT */
/*
 * test_records_refused.c - the n-th record of the library's own is refused, for
 * every n, where pages are there.
 *
 * Records are cut from chunks, so that few of them ask the system, and the sweeps
 * of test_oom.c meet few of those that may be refused.  Here weiri_meta_alloc()
 * itself says no.  What is begun must say -ENOMEM or work, and leave nothing.
 */
#include "oom/sweep.h"

#include "refuse.h"

#include "guard/guard.h"
#include "slab/shard.h"
#include "pools/cache.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <weir/broadcast.h>
#include <weir/buddy.h>

/* ---- what is begun ------------------------------------------------------------- */

static bool
begin_caches(void)
{
	static const struct weir_cache_config config[] = {
	    {.object_bytes = 100},
	    {.object_bytes = 100, .flags = WEIR_CACHE_HANDLES},
	    {.object_bytes = 100,
		.limit = 50,
		.policy = WEIR_LIMIT_WAIT,
		.timeout_ns = 1},
	};
	bool whole = true;

	for (size_t i = 0; i < 3; i++) {
		struct weir_cache *cache;
		void *object[40];
		int error = weir_cache_create("few", &config[i], &cache);

		if (error != 0) {
			CHECK_EQ(error, -ENOMEM);
			CHECK_NULL(cache);
			whole = false;
			continue;
		}
		for (size_t n = 0; n < 40; n++) {
			object[n] = weir_cache_alloc(cache);
			whole = whole && object[n] != NULL;
		}
		weiri_shards_make(&cache->depot, 4);
		CHECK(weir_cache_check(cache));
		for (size_t n = 0; n < 40; n++)
			weir_cache_free(cache, object[n]);
		CHECK(weir_cache_check(cache));
		weir_cache_destroy(cache);
	}
	return whole;
}

static bool
begin_quota(void)
{
	struct weir_quota *quota;

	if (weir_quota_create("few", 1 << 20, &quota) != 0)
		return false;
	weir_quota_destroy(quota);
	return true;
}

static bool
begin_buddy(void)
{
	struct weir_buddy *buddy;
	int error = weir_buddy_create(
	    "few", &(struct weir_buddy_config){.unit_count = 100}, &buddy);

	if (error != 0) {
		CHECK_EQ(error, -ENOMEM);
		CHECK_NULL(buddy);
		return false;
	}
	weir_buddy_destroy(buddy);
	return true;
}

static bool
begin_heap(void)
{
	struct weir_heap *heap;
	bool whole = true;
	int error = weir_heap_create("few", NULL, &heap);

	if (error != 0) {
		CHECK_EQ(error, -ENOMEM);
		return false;
	}
	for (size_t bytes = 16; bytes < 100000; bytes *= 3) {
		void *object = weir_heap_alloc(heap, bytes);

		whole = whole && object != NULL;
		weir_heap_free(heap, object);
	}
	CHECK(weir_heap_check(heap));
	weir_heap_destroy(heap);
	return whole;
}

static bool
begin_regions(void)
{
	static struct weir_region_kind kind = WEIR_REGION_KIND("few");
	struct weir_region *root, *below, *further;
	struct weir_region_config config = {.limit_bytes = 1 << 20};
	static char buffer[4096];
	bool whole = true;
	int error = weir_region_create(&kind, &config, &root);

	if (error != 0) {
		CHECK_EQ(error, -ENOMEM);
		CHECK_NULL(root);
		return false;
	}
	config = (struct weir_region_config){.parent = root};
	whole = weir_region_create(&kind, &config, &below) == 0;
	if (whole) {
		whole = weir_region_alloc(below, 300000) != NULL;
		config.parent = below;
		config.limit_bytes = 1 << 16;
		whole &= weir_region_create(&kind, &config, &further) == 0;
		CHECK(weir_region_check(below));
	}
	whole &= weir_region_alloc(root, 100000) != NULL;
	whole &= weir_region_alloc(root, 100) != NULL;
	CHECK(weir_region_check(root));
	weir_region_destroy(root);
	config = (struct weir_region_config){.limit_bytes = 1 << 20};
	error = weir_region_create_in(
	    &kind, &config, buffer, sizeof(buffer), &root);
	CHECK(error == 0 || error == -ENOMEM);
	if (error == 0) {
		whole &= weir_region_alloc(root, 100000) != NULL;
		weir_region_destroy(root);
	}
	return whole && error == 0;
}

/* As the first that there is. */
static bool
begin_region_in(void)
{
	static char buffer[4096];
	struct weir_region *region;
	int error =
	    weir_region_create_in(NULL, NULL, buffer, sizeof(buffer), &region);

	if (error != 0) {
		CHECK_EQ(error, -ENOMEM);
		CHECK_NULL(region);
		return false;
	}
	weir_region_destroy(region);
	return true;
}

static bool
begin_vm(void)
{
	struct weir_region_vm *vm;
	int error = weir_region_vm_create("few",
	    &(struct weir_region_vm_config){.reserve_bytes = 1 << 20}, &vm);

	if (error != 0) {
		CHECK_EQ(error, -ENOMEM);
		CHECK_NULL(vm);
		return false;
	}
	weir_region_vm_destroy(vm);
	return true;
}

static bool
begin_buffers(void)
{
	struct weir_buffer_pool *pool;
	bool whole = true;
	int error = weir_buffer_pool_create(
	    "few", &(struct weir_buffer_pool_config){0}, &pool);

	if (error != 0) {
		CHECK_EQ(error, -ENOMEM);
		CHECK_NULL(pool);
		return false;
	}
	for (size_t bytes = 100; bytes <= 60000; bytes *= 5) {
		struct weir_buffer *buffer = weir_buffer_acquire(pool, bytes);

		whole = whole && buffer != NULL;
		weir_buffer_release(buffer);
	}
	CHECK(weir_buffer_pool_check(pool));
	weir_buffer_pool_destroy(pool);
	return whole;
}

static uint32_t
take_none(void *user, struct weir_slice slice, void *context)
{
	(void)user;
	(void)slice;
	(void)context;
	return 0;
}

static bool
publish(struct weir_broadcast *broadcast, struct weir_buffer_pool *pool)
{
	struct weir_buffer *buffer = weir_buffer_acquire(pool, 100);
	struct weir_slice slice;
	bool whole = buffer != NULL;

	if (!whole)
		return false;
	slice = weir_slice_make(buffer, 0, 100);
	if (weir_broadcast_publish(broadcast, slice) != 0) {
		weir_slice_release(&slice);
		whole = false;
	}
	return whole;
}

/* Many receivers, so that their table has to grow, and messages that wait. */
static bool
begin_broadcast(void)
{
	struct weir_buffer_pool *pool;
	struct weir_broadcast *broadcast;
	bool whole = true;
	uint32_t number;
	int error;

	if (weir_buffer_pool_create("few", NULL, &pool) != 0)
		return false;
	error = weir_broadcast_create(
	    &(struct weir_broadcast_config){.send = take_none}, &broadcast);
	if (error != 0) {
		CHECK_EQ(error, -ENOMEM);
		weir_buffer_pool_destroy(pool);
		return false;
	}
	for (unsigned i = 0; i < 40; i++)
		whole &= weir_broadcast_join(broadcast, NULL, &number) == 0;
	for (unsigned i = 0; i < 3; i++)
		whole &= publish(broadcast, pool);
	CHECK(weir_broadcast_check(broadcast));
	weir_broadcast_destroy(broadcast);
	CHECK(weir_buffer_pool_check(pool));
	weir_buffer_pool_destroy(pool);
	return whole;
}

/* Of a thread that the library has not seen yet. */
static void *
begin_of_thread(void *argument)
{
	bool *whole = argument;

	*whole = begin_heap() && begin_regions();
	return NULL;
}

static bool
begin_thread(void)
{
	bool whole = false;
	pthread_t thread;

	CHECK_EQ(pthread_create(&thread, NULL, begin_of_thread, &whole), 0);
	CHECK_EQ(pthread_join(thread, NULL), 0);
	return whole;
}

/* ---- the sweep ------------------------------------------------------------------- */

/* In a process of its own: does it meet an n-th record, which is refused? */
static bool
meets(bool (*begin)(void), unsigned n, bool persistent)
{
	int status;
	pid_t child = fork();

	CHECK_NE(child, -1);
	if (child == 0) {
		bool whole;
		unsigned refused;

		test_refuse(
		    TEST_CALL_RECORD, n, persistent ? UINT32_MAX : 1, ENOMEM);
		whole = begin();
		refused = test_refused(TEST_CALL_RECORD);
		test_refuse(TEST_CALL_RECORD, 0, 0, 0);
		CHECK(whole || refused > 0);
		expect_nothing_kept();
		CHECK(begin());
		expect_nothing_kept();
		_exit(refused > 0 ? 3 : 0);
	}
	CHECK_EQ(waitpid(child, &status, 0), child);
	CHECK(WIFEXITED(status));
	CHECK(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 3);
	return WEXITSTATUS(status) == 3;
}

TEST(all_that_begins_lives_through_any_record_that_is_refused)
{
	static bool (*const begins[])(void) = {begin_caches, begin_quota,
	    begin_buddy, begin_heap, begin_regions, begin_region_in, begin_vm,
	    begin_buffers, begin_broadcast, begin_thread};

	for (size_t i = 0; i < sizeof(begins) / sizeof(begins[0]); i++)
		for (int persistent = 0; persistent < 2; persistent++) {
			unsigned n = 0;

			while (meets(begins[i], n, persistent != 0))
				n++;
			/* A sweep that met none would prove nothing. */
			CHECK_GT(n, 0);
			CHECK_LT(n, 300);
		}
}

/* An object whose handle would have no place to lead to is not guarded. */
TEST(object_without_a_record_for_its_handle_is_one_as_always)
{
	struct weir_cache *cache;
	struct weir_handle handle;
	void *first, *object;

	CHECK_EQ(weir_cache_create("few",
		     &(struct weir_cache_config){
			 .object_bytes = 100, .flags = WEIR_CACHE_HANDLES},
		     &cache),
	    0);
	first = weir_cache_alloc(cache);
	CHECK_NOT_NULL(first);
	CHECK_EQ(weir_guard_set(
		     &(struct weir_guard_config){.mode = WEIR_GUARD_FULL}),
	    0);
	weir_thread_poll();
	test_refuse(TEST_CALL_RECORD, 0, UINT32_MAX, ENOMEM);
	object = weir_cache_alloc(cache);
	CHECK_NOT_NULL(object);
	CHECK_GT(test_refused(TEST_CALL_RECORD), 0);
	CHECK(!weiri_guard_covers(object));
	handle = weir_cache_handle(cache, object);
	CHECK_PTR(weir_cache_resolve(cache, handle), object);
	weir_cache_free(cache, object);
	CHECK_NULL(weir_cache_resolve(cache, handle));
	test_refuse(TEST_CALL_RECORD, 0, 0, 0);
	object = weir_cache_alloc(cache);
	CHECK(weiri_guard_covers(object));
	handle = weir_cache_handle(cache, object);
	CHECK_PTR(weir_cache_resolve(cache, handle), object);
	weir_cache_free(cache, object);
	CHECK_NULL(weir_cache_resolve(cache, handle));
	weir_cache_free(cache, first);
	weir_cache_destroy(cache);
}
