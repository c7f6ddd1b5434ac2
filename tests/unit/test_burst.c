/* SPDX-License-Identifier: MIT */
/*
 * test_burst.c - what a burst leaves behind goes back, although a few objects of
 * it stay in use, or a thread goes on taking and giving what lies all over it.
 */
#include "support/proc.h"
#include "support/test.h"

#include <weir/buffer.h>
#include <weir/cache.h>
#include <weir/runtime.h>
#include <weir/stats.h>

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BURST_BUFFERS 16384
#define BURST_BYTES 2048
#define BURST_KEPT 512 /* each of so many stays in use */
#define BURST_OBJECTS 65536
#define BURST_USED 50
#define BURST_DECAY_MS 200
#define BURST_LIMIT_NS UINT64_C(50000000000)
#define MIB ((uint64_t)1 << 20)

static void
pass(void)
{
	const struct timespec pause = {.tv_nsec = 2000000};

	(void)weir_maintain(UINT64_MAX);
	nanosleep(&pause, NULL);
}

static struct weir_buffer *burst[BURST_BUFFERS];

static void
acquire_all(struct weir_buffer_pool *pool)
{
	for (size_t i = 0; i < BURST_BUFFERS; i++) {
		if (burst[i] == NULL)
			burst[i] = weir_buffer_acquire(pool, BURST_BYTES);
		CHECK_NOT_NULL(burst[i]);
		memset(burst[i]->data, (int)(i & 0xff), BURST_BYTES);
	}
}

static void
check_payload(size_t i)
{
	for (size_t k = 0; k < BURST_BYTES; k++)
		CHECK_EQ(burst[i]->data[k], i & 0xff);
}

TEST(burst_of_buffers_goes_back_around_those_that_stay)
{
	const struct weir_buffer_pool_config config = {
	    .tier = {{.bytes = BURST_BYTES}}, .tier_count = 1};
	struct weir_buffer_pool *pool;
	uint64_t before, end;

	if (!test_owns_memory())
		SKIP("the tool has memory of its own");
	NOT_UNDER_GUARD("each buffer has pages of its own");
	weir_set_decay(BURST_DECAY_MS);
	CHECK_EQ(weir_buffer_pool_create("burst", &config, &pool), 0);
	before = test_resident_bytes();
	acquire_all(pool);
	CHECK_GT(test_resident_bytes(), before + 32 * MIB);
	for (size_t i = 0; i < BURST_BUFFERS; i++)
		if (i % BURST_KEPT != 0) {
			weir_buffer_release(burst[i]);
			burst[i] = NULL;
		}
	end = test_now_ns() + BURST_LIMIT_NS;
	while (test_resident_bytes() > before + 2 * MIB && test_now_ns() < end)
		pass();
	CHECK_LE(test_resident_bytes(), before + 2 * MIB);
	CHECK(weir_buffer_pool_check(pool));
	/* What stayed is as it was, and what went can be used again. */
	for (size_t i = 0; i < BURST_BUFFERS; i += BURST_KEPT)
		check_payload(i);
	acquire_all(pool);
	for (size_t i = 0; i < BURST_BUFFERS; i++) {
		check_payload(i);
		weir_buffer_release(burst[i]);
		burst[i] = NULL;
	}
	CHECK(weir_buffer_pool_check(pool));
	weir_buffer_pool_destroy(pool);
}

TEST(burst_of_objects_goes_back_while_some_of_them_are_in_use)
{
	const struct weir_cache_config config = {.object_bytes = 128};
	struct weir_pool_stats stats = {.size = sizeof(stats)};
	void **object = calloc(BURST_OBJECTS, sizeof(*object));
	struct weir_cache *cache;
	struct test_rng rng;
	uint64_t end;

	NOT_UNDER_GUARD("each object has pages of its own");
	CHECK_NOT_NULL(object);
	test_rng_init(&rng, test_seed());
	weir_set_decay(BURST_DECAY_MS);
	CHECK_EQ(weir_cache_create("burst", &config, &cache), 0);
	for (size_t i = 0; i < BURST_OBJECTS; i++) {
		object[i] = weir_cache_alloc(cache);
		CHECK_NOT_NULL(object[i]);
	}
	/* So that those freed last, which are used first, lie anywhere. */
	for (size_t i = BURST_OBJECTS; i-- > 1;) {
		size_t at = (size_t)test_rand_below(&rng, i + 1);
		void *other = object[at];
		object[at] = object[i];
		object[i] = other;
	}
	for (size_t i = 0; i < BURST_OBJECTS; i++)
		weir_cache_free(cache, object[i]);
	end = test_now_ns() + BURST_LIMIT_NS;
	do {
		for (size_t i = 0; i < BURST_USED; i++)
			object[i] = weir_cache_alloc(cache);
		for (size_t i = 0; i < BURST_USED; i++)
			weir_cache_free(cache, object[i]);
		pass();
		CHECK_EQ(weir_cache_stats(cache, &stats), 0);
	} while (stats.bytes_mapped > MIB && test_now_ns() < end);
	CHECK_LE(stats.bytes_mapped, MIB);
	weir_cache_destroy(cache);
	free(object);
}
