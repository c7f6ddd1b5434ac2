/* SPDX-License-Identifier: MIT */
/*
 * Many objects a call: the same objects and the same figures as one by one.
 */
#include "support/test.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <weir/weir.h>

enum { MANY = 3000 };

static struct weir_pool_stats
bulk_stats(struct weir_cache *cache)
{
	struct weir_pool_stats stats = {.size = sizeof(stats)};

	CHECK_EQ(weir_cache_stats(cache, &stats), 0);
	return stats;
}

static int
bulk_order(const void *a, const void *b)
{
	uintptr_t x = (uintptr_t) * (void *const *)a;
	uintptr_t y = (uintptr_t) * (void *const *)b;

	return x < y ? -1 : x > y;
}

/* No object twice, none NULL; leaves them sorted. */
static void
bulk_check_distinct(void **objects, size_t count)
{
	qsort(objects, count, sizeof(*objects), bulk_order);
	for (size_t i = 0; i < count; i++)
		CHECK(objects[i] != NULL &&
		      (i == 0 || objects[i] != objects[i - 1]));
}

/* The states' places, hooks, zeroing, handles, both levels. */
static const struct weir_cache_config bulk_kinds[] = {
    {.object_bytes = 200},
    {.object_bytes = 16},
    {.object_bytes = 40000},
    {.object_bytes = 200, .check = WEIR_CHECK_BATCH},
    {.object_bytes = 200, .check = WEIR_CHECK_BATCH, .flags = WEIR_CACHE_COUNT},
    {.object_bytes = 64, .flags = WEIR_CACHE_ZERO},
    {.object_bytes = 64, .flags = WEIR_CACHE_HANDLES},
    {.object_bytes = 64,
	.check = WEIR_CHECK_BATCH,
	.flags = WEIR_CACHE_HANDLES},
    {.object_bytes = 64, .limit = 100},
};
#define KINDS (sizeof(bulk_kinds) / sizeof(bulk_kinds[0]))

TEST(cache_bulk_hands_out_distinct_objects_and_counts_them)
{
	static const size_t counts[] = {0, 1, 2, 7, 8, 32, 100, 126, 127, 500};
	static void *objects[MANY];

	for (size_t k = 0; k < KINDS; k++) {
		struct weir_cache *cache;
		size_t out = 0, asked = 0;
		bool exact;

		CHECK_EQ(weir_cache_create("bulk", &bulk_kinds[k], &cache), 0);
		exact = (bulk_stats(cache).exact & WEIR_EXACT_REQUESTS) != 0;
		for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]);
		     i++) {
			size_t got = weir_cache_alloc_bulk(
			    cache, counts[i], objects + out);

			asked += got + (got < counts[i]);
			CHECK(got == counts[i] ||
			      out + got == bulk_kinds[k].limit);
			for (size_t o = 0; o < got; o++)
				memset(objects[out + o], 0x5a,
				    bulk_kinds[k].object_bytes);
			out += got;
			CHECK_EQ(bulk_stats(cache).in_use, out);
			CHECK(weir_cache_check(cache));
		}
		bulk_check_distinct(objects, out);
		if (exact)
			CHECK_EQ(bulk_stats(cache).requests, asked);
		CHECK_EQ(bulk_stats(cache).hits + bulk_stats(cache).misses,
		    bulk_stats(cache).requests);
		while (out > 0) {
			size_t some = out < 77 ? out : 77;

			out -= some;
			weir_cache_free_bulk(cache, some, objects + out);
			CHECK_EQ(bulk_stats(cache).in_use, out);
		}
		CHECK(weir_cache_check(cache));
		weir_cache_destroy(cache);
	}
}

TEST(cache_bulk_and_single_calls_mix)
{
	static void *objects[MANY];
	struct weir_cache *cache;

	CHECK_EQ(weir_cache_create("mix",
		     &(struct weir_cache_config){.object_bytes = 48}, &cache),
	    0);
	CHECK_EQ(weir_cache_alloc_bulk(cache, 300, objects), 300);
	for (size_t i = 300; i < 400; i++)
		objects[i] = weir_cache_alloc(cache);
	bulk_check_distinct(objects, 400);
	for (size_t i = 0; i < 200; i++)
		weir_cache_free(cache, objects[i]);
	weir_cache_free_bulk(cache, 200, objects + 200);
	CHECK_EQ(bulk_stats(cache).in_use, 0);
	/* They are the objects to come. */
	CHECK_EQ(weir_cache_alloc_bulk(cache, 400, objects), 400);
	bulk_check_distinct(objects, 400);
	CHECK_LE(bulk_stats(cache).total, 400 + 126);
	weir_cache_free_bulk(cache, 400, objects);
	weir_cache_destroy(cache);
}

TEST(cache_bulk_at_the_limit_gives_what_there_is_and_tells)
{
	static const size_t limits[] = {1, 37, 600, 2000};
	static void *objects[MANY];

	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
		size_t limit = limits[i];
		struct weir_cache *cache;

		CHECK_EQ(weir_cache_create("limit",
			     &(struct weir_cache_config){
				 .object_bytes = 48, .limit = limit},
			     &cache),
		    0);
		objects[limit] = objects;
		errno = 77;
		CHECK_EQ(
		    weir_cache_alloc_bulk(cache, limit + 5, objects), limit);
		CHECK_EQ(errno, 77);
		CHECK_PTR(objects[limit], objects); /* not written */
		CHECK_EQ(weir_cache_alloc_bulk(cache, 3, objects + limit), 0);
		CHECK_EQ(bulk_stats(cache).failures, 2);
		CHECK_EQ(bulk_stats(cache).requests, limit + 2);
		CHECK_EQ(bulk_stats(cache).total, limit);
		weir_cache_free_bulk(cache, limit, objects);
		CHECK_EQ(weir_cache_alloc_bulk(cache, limit, objects), limit);
		weir_cache_free_bulk(cache, limit, objects);
		CHECK(weir_cache_check(cache));
		weir_cache_destroy(cache);
	}
}

TEST(cache_bulk_free_skips_null)
{
	void *objects[10];

	for (size_t k = 0; k < KINDS; k++) {
		struct weir_cache *cache;

		CHECK_EQ(weir_cache_create("null", &bulk_kinds[k], &cache), 0);
		CHECK_EQ(weir_cache_alloc_bulk(cache, 10, objects), 10);
		weir_cache_free(cache, objects[0]);
		weir_cache_free(cache, objects[5]);
		weir_cache_free(cache, objects[9]);
		objects[0] = objects[5] = objects[9] = NULL;
		weir_cache_free_bulk(cache, 10, objects);
		CHECK_EQ(bulk_stats(cache).in_use, 0);
		weir_cache_free_bulk(cache, 0, NULL);
		CHECK_EQ(weir_cache_alloc_bulk(cache, 0, NULL), 0);
		CHECK(weir_cache_check(cache));
		weir_cache_destroy(cache);
	}
}

TEST(cache_bulk_zeroes_and_constructs_each_object)
{
	static unsigned char *objects[400];
	struct weir_cache *cache;

	CHECK_EQ(weir_cache_create("zero",
		     &(struct weir_cache_config){
			 .object_bytes = 96, .flags = WEIR_CACHE_ZERO},
		     &cache),
	    0);
	for (int round = 0; round < 3; round++) {
		CHECK_EQ(
		    weir_cache_alloc_bulk(cache, 400, (void **)objects), 400);
		for (size_t i = 0; i < 400; i++) {
			for (size_t b = 0; b < 96; b++)
				CHECK_EQ(objects[i][b], 0);
			memset(objects[i], 0xff, 96);
		}
		weir_cache_free_bulk(cache, 400, (void *const *)objects);
	}
	weir_cache_destroy(cache);
}

/* Objects taken in bulk here and freed in bulk there come home. */
struct bulk_ring {
	struct weir_cache *cache;
	pthread_mutex_t lock;
	void *box[64];
	size_t full;
	size_t moved;
};

static void
bulk_move(unsigned index, void *context)
{
	struct bulk_ring *ring = context;
	size_t rounds = test_count(20000);
	void *hand[64];

	for (size_t i = 0; i < rounds; i++) {
		size_t count = 1 + (i * 7 + index * 3) % 64;
		size_t had = 0;

		CHECK_EQ(
		    weir_cache_alloc_bulk(ring->cache, count, hand), count);
		for (size_t o = 0; o < count; o++)
			*(size_t *)hand[o] = i ^ (size_t)hand[o];
		for (size_t o = 0; o < count; o++)
			CHECK_EQ(*(size_t *)hand[o], i ^ (size_t)hand[o]);
		pthread_mutex_lock(&ring->lock);
		for (size_t o = 0; o < count; o++) {
			void *other = ring->full < 64 ? NULL : ring->box[o];

			if (ring->full < 64)
				ring->box[ring->full++] = hand[o];
			else
				ring->box[o] = hand[o];
			hand[had] = other;
			had += other != NULL;
		}
		ring->moved += had;
		pthread_mutex_unlock(&ring->lock);
		weir_cache_free_bulk(ring->cache, had, hand);
	}
}

TEST(cache_bulk_objects_change_threads_and_none_is_lost)
{
	static const enum weir_check_level levels[] = {
	    WEIR_CHECK_EACH, WEIR_CHECK_BATCH};

	for (int l = 0; l < 2; l++) {
		struct bulk_ring ring = {.full = 0};

		CHECK_EQ(weir_cache_create("ring",
			     &(struct weir_cache_config){
				 .object_bytes = 64, .check = levels[l]},
			     &ring.cache),
		    0);
		pthread_mutex_init(&ring.lock, NULL);
		test_threads(3, bulk_move, &ring);
		CHECK_GT(ring.moved, 0);
		CHECK_EQ(bulk_stats(ring.cache).in_use, ring.full);
		weir_cache_free_bulk(ring.cache, ring.full, ring.box);
		CHECK(weir_cache_check(ring.cache));
		weir_cache_destroy(ring.cache);
		pthread_mutex_destroy(&ring.lock);
	}
}

/* Behind the library's own exit hook a thread has no magazines: it takes what it
 * wants out of one of the depot's, and the rest of that must not be lost. */
static pthread_key_t bulk_late_key;
static void *bulk_late_objects[5];

static void
bulk_late(void *cache)
{
	static __thread int calls;

	if (++calls < 3)
		pthread_setspecific(bulk_late_key, cache);
	else
		CHECK_EQ(weir_cache_alloc_bulk(cache, 5, bulk_late_objects), 5);
}

static void *
bulk_leave(void *cache)
{
	pthread_setspecific(bulk_late_key, cache);
	weir_cache_free(cache, weir_cache_alloc(cache));
	return NULL;
}

TEST(cache_bulk_after_the_threads_destructors_ran)
{
	static void *objects[MANY];
	struct weir_cache *cache;
	pthread_t thread;

	CHECK_EQ(weir_cache_create("late",
		     &(struct weir_cache_config){.object_bytes = 64}, &cache),
	    0);
	CHECK_EQ(pthread_key_create(&bulk_late_key, bulk_late), 0);
	CHECK_EQ(weir_cache_alloc_bulk(cache, MANY, objects), MANY);
	weir_cache_free_bulk(cache, MANY, objects);
	CHECK_EQ(pthread_create(&thread, NULL, bulk_leave, cache), 0);
	pthread_join(thread, NULL);
	bulk_check_distinct(bulk_late_objects, 5);
	CHECK_EQ(bulk_stats(cache).in_use, 5);
	CHECK_EQ(bulk_stats(cache).requests, MANY + 1 + 5);
	CHECK(weir_cache_check(cache));
	weir_cache_free_bulk(cache, 5, bulk_late_objects);
	CHECK_EQ(weir_cache_alloc_bulk(cache, MANY, objects), MANY);
	bulk_check_distinct(objects, MANY);
	weir_cache_free_bulk(cache, MANY, objects);
	CHECK_LE(bulk_stats(cache).total, MANY + 126);
	weir_cache_destroy(cache);
}
