/* SPDX-License-Identifier: MIT */
/*
 * test_call_fault.c - calls against their contract that are rare, and what only
 * mode full looks at in a release build.
 */
#include "test.h"

#include <weir/broadcast.h>
#include <weir/weir.h>

#include "guard/guard.h"
#include "pools/buffer.h"

#include <pthread.h>

static struct weir_buffer_pool *
buffers(void)
{
	struct weir_buffer_pool *pool;

	CHECK_EQ(weir_buffer_pool_create("net", NULL, &pool), 0);
	return pool;
}

static struct weir_buffer *
released(struct weir_buffer_pool *pool)
{
	struct weir_buffer *buffer = weir_buffer_acquire(pool, 100);

	CHECK_NOT_NULL(buffer);
	weir_buffer_release(buffer);
	return buffer;
}

static void
full(void)
{
	CHECK_EQ(weir_guard_set(
		     &(struct weir_guard_config){.mode = WEIR_GUARD_FULL}),
	    0);
}

static struct weir_region *
region_make(struct weir_region *parent)
{
	static struct weir_region_kind kind = WEIR_REGION_KIND("victim");
	const struct weir_region_config config = {.parent = parent};
	struct weir_region *region;

	CHECK_EQ(weir_region_create(&kind, &config, &region), 0);
	return region;
}

/* ---- broadcasts ---------------------------------------------------------- */

struct driver {
	struct weir_broadcast *broadcast;
	uint32_t other;
	uint32_t more; /* says that it took so much more than there was */
};

static uint32_t
driver_send(void *user, struct weir_slice slice, void *context)
{
	struct driver *driver = user;

	(void)context;
	if (driver->more == 0)
		weir_broadcast_ready(driver->broadcast, driver->other);
	return slice.bytes + driver->more;
}

static void
driver_publish(uint32_t more)
{
	struct weir_buffer_pool *pool = buffers();
	struct weir_buffer *buffer = weir_buffer_acquire(pool, 100);
	struct weir_broadcast *b;
	struct driver driver = {.more = more};
	uint32_t first;

	CHECK_EQ(weir_broadcast_create(
		     &(struct weir_broadcast_config){.send = driver_send}, &b),
	    0);
	driver.broadcast = b;
	CHECK_EQ(weir_broadcast_join(b, &driver, &first), 0);
	CHECK_EQ(weir_broadcast_join(b, &driver, &driver.other), 0);
	(void)!weir_broadcast_publish(b, weir_slice_make(buffer, 0, 100));
}

TEST(a_receiver_made_ready_while_another_is_sent_to_is_a_fault)
{
	EXPECT_ABORT(
	    "is sending to another receiver than 1", { driver_publish(0); });
}

TEST(a_driver_that_takes_more_than_there_is_is_a_fault)
{
	EXPECT_ABORT("says it took 107 bytes, more than there were",
	    { driver_publish(7); });
}

/* ---- buffers ------------------------------------------------------------- */

TEST(a_buffer_for_no_known_use_is_a_fault)
{
	struct weir_buffer_pool *pool = buffers();
	const struct weir_buffer_want want = {
	    .bytes = 100, .use = (enum weir_buffer_use)7};

	EXPECT_ABORT("there is no use 7 of a buffer",
	    { (void)!weir_buffer_acquire_for(pool, &want); });
	weir_buffer_pool_destroy(pool);
}

TEST(what_a_released_buffer_is_asked_to_do_is_a_fault)
{
	struct weir_buffer_pool *pool = buffers();
	struct weir_buffer *buffer = released(pool);

	EXPECT_ABORT(
	    "charged, but", { (void)!weir_buffer_set_account(buffer, NULL); });
	EXPECT_ABORT("lent to the kernel, but",
	    { (void)!weiri_buffer_to_kernel(buffer, WEIR_BUFFER_KERNEL_TX); });
	weir_buffer_pool_destroy(pool);
}

/* ---- regions --------------------------------------------------------------- */

TEST(a_cleanup_armed_without_a_function_is_a_fault)
{
	struct weir_region *region = region_make(NULL);
	struct weir_region_cleanup *cleanup =
	    weir_region_cleanup_reserve(region);

	CHECK_NOT_NULL(cleanup);
	EXPECT_ABORT("a cleanup without a function",
	    { weir_region_cleanup_arm(region, cleanup, NULL, NULL); });
	weir_region_destroy(region);
}

TEST(mode_full_tells_a_region_that_nobody_took_over)
{
	const struct weir_region_vm_config config = {.reserve_bytes = 1 << 20};
	struct weir_region *region;
	struct weir_region_vm *vm;

	full();
	region = region_make(NULL);
	CHECK_EQ(weir_region_vm_create("range", &config, &vm), 0);
	weir_region_hand_off(region);
	EXPECT_ABORT("was handed off and not taken over",
	    { (void)!weir_region_alloc(region, 100000); });
	weir_region_vm_hand_off(vm);
	EXPECT_ABORT(
	    "was handed off and not taken over", { weir_region_vm_reset(vm); });
	weir_region_vm_take_over(vm);
	weir_region_take_over(region);
	weir_region_vm_destroy(vm);
	weir_region_destroy(region);
}

static void *
take_and_detach(void *region)
{
	weir_region_take_over(region);
	weir_region_detach(region);
	return NULL;
}

TEST(mode_full_tells_a_region_whose_parent_is_another_threads)
{
	struct weir_region *parent, *child;
	pthread_t thread;

	full();
	parent = region_make(NULL);
	child = region_make(parent);
	weir_region_hand_off(child);
	EXPECT_ABORT("is above and another thread's", {
		CHECK_EQ(
		    pthread_create(&thread, NULL, take_and_detach, child), 0);
		CHECK_EQ(pthread_join(thread, NULL), 0);
	});
	weir_region_take_over(child);
	weir_region_destroy(parent);
}

/* ---- objects under guard ----------------------------------------------------- */

/* Neither what was there nor zeroes, which often pass for a good value. */
TEST(mode_full_hands_out_a_pattern)
{
	struct weir_heap *heap;
	unsigned char *object;

	full();
	CHECK_EQ(weir_heap_create("jobs", NULL, &heap), 0);
	object = weir_heap_alloc(heap, 100);
	CHECK_NOT_NULL(object);
	CHECK_NE(object[0], 0);
	for (size_t i = 1; i < 100; i++)
		CHECK_EQ(object[i], object[0]);
	weir_heap_free(heap, object);
	weir_heap_destroy(heap);
}

/* At level `batch` nobody looks before the magazine comes to the depot. */
TEST(an_object_under_guard_freed_twice_at_level_batch_is_told_at_the_depot)
{
	struct weir_cache *cache;
	void *object;

	CHECK_EQ(weir_cache_create("conn",
		     &(struct weir_cache_config){
			 .object_bytes = 72, .check = WEIR_CHECK_BATCH},
		     &cache),
	    0);
	/* So many that the first comes from a magazine. */
	for (unsigned i = 0; i < 100; i++)
		weir_cache_free(cache, weir_cache_alloc(cache));
	CHECK_EQ(weir_guard_set(&(struct weir_guard_config){
		     .mode = WEIR_GUARD_SAMPLE, .sample_rate = 2}),
	    0);
	(void)weir_guard_set_policy(WEIR_FAULT_COUNT, WEIR_GUARD_ABORT);
	do
		object = weir_cache_alloc(cache);
	while (object != NULL && !weiri_guard_covers(object));
	CHECK_NOT_NULL(object);
	EXPECT_ABORT("FAULT double-free: cache \"conn\"", {
		weir_cache_free(cache, object);
		weir_cache_free(cache, object);
		(void)weir_cache_trim(cache);
	});
}
