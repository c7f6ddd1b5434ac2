/* SPDX-License-Identifier: MIT */
/*
 * good.c - correct programs, of the kinds that a checker may take for wrong:
 * memory that changes threads, ends at once, lives on after its thread, is used
 * to its last byte.  Each stays silent in every mode.
 */
#include "bug.h"

#include <pthread.h>
#include <sched.h>

/* ---- caches -------------------------------------------------------------------- */

GOOD(good_cache_objects_of_every_size)
{
	static const size_t sizes[] = {1, 8, 24, 100, 200, 1024, 5000, 70000};

	for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
		struct weir_cache *cache = bug_cache("any", sizes[s]);
		unsigned char *objects[40];

		for (size_t i = 0; i < 40; i++) {
			objects[i] = weir_cache_alloc(cache);
			memset(objects[i], (int)i, sizes[s]);
		}
		for (size_t i = 0; i < 40; i++)
			NEED(objects[i][0] == i &&
			     objects[i][sizes[s] - 1] == i);
		for (size_t i = 0; i < 40; i++)
			weir_cache_free(cache, objects[i * 7 % 40]);
		weir_cache_destroy(cache);
	}
}

struct ring {
	struct weir_cache *cache;
	void *slots[64];
	size_t written, read; /* atomic */
};

static void *
ring_consume(void *context)
{
	struct ring *ring = context;

	for (size_t i = 0; i < 5000; i++) {
		while (__atomic_load_n(&ring->written, __ATOMIC_ACQUIRE) == i)
			(void)sched_yield();
		NEED(*(size_t *)ring->slots[i % 64] == i);
		weir_cache_free(ring->cache, ring->slots[i % 64]);
		__atomic_store_n(&ring->read, i + 1, __ATOMIC_RELEASE);
	}
	return NULL;
}

static void
exchange(enum weir_check_level check)
{
	struct ring ring = {.written = 0};
	pthread_t consumer;

	NEED(
	    weir_cache_create("message",
		&(struct weir_cache_config){.object_bytes = 64, .check = check},
		&ring.cache) == 0);
	NEED(pthread_create(&consumer, NULL, ring_consume, &ring) == 0);
	for (size_t i = 0; i < 5000; i++) {
		size_t *message = weir_cache_alloc(ring.cache);

		*message = i;
		while (i - __atomic_load_n(&ring.read, __ATOMIC_ACQUIRE) >= 64)
			(void)sched_yield();
		ring.slots[i % 64] = message;
		__atomic_store_n(&ring.written, i + 1, __ATOMIC_RELEASE);
	}
	NEED(pthread_join(consumer, NULL) == 0);
	weir_cache_destroy(ring.cache);
}

GOOD(good_cache_producer_and_consumer)
{
	exchange(WEIR_CHECK_EACH);
}

GOOD(good_batch_producer_and_consumer)
{
	exchange(WEIR_CHECK_BATCH);
}

static void
set_up(void *object, void *context)
{
	(void)context;
	memset(object, 7, 100);
}

GOOD(good_cache_keeps_constructed_state)
{
	struct weir_cache *cache;
	char *object;

	NEED(weir_cache_create("lock",
		 &(struct weir_cache_config){
		     .object_bytes = 100, .init = set_up},
		 &cache) == 0);
	for (int i = 0; i < 1000; i++) {
		object = weir_cache_alloc(cache);
		NEED(object[0] == 7 && object[99] == 7);
		weir_cache_free(cache, object);
	}
	weir_cache_destroy(cache);
}

GOOD(good_cache_at_its_limit)
{
	struct weir_cache *cache;
	void *objects[10];

	NEED(weir_cache_create("slot",
		 &(struct weir_cache_config){.object_bytes = 100, .limit = 10},
		 &cache) == 0);
	for (int round = 0; round < 100; round++) {
		for (size_t i = 0; i < 10; i++)
			NEED((objects[i] = weir_cache_alloc(cache)) != NULL);
		NEED(weir_cache_alloc(cache) == NULL);
		for (size_t i = 0; i < 10; i++)
			weir_cache_free(cache, objects[i]);
	}
	weir_cache_destroy(cache);
}

GOOD(good_cache_in_bulk)
{
	struct weir_cache *cache = bug_cache("conn", 48);
	void *objects[300];

	for (int round = 0; round < 20; round++) {
		NEED(weir_cache_alloc_bulk(cache, 300, objects) == 300);
		for (size_t i = 0; i < 300; i++)
			memset(objects[i], round, 48);
		weir_cache_free_bulk(cache, 150, objects + 150);
		weir_cache_free_bulk(cache, 150, objects);
	}
	weir_cache_destroy(cache);
}

GOOD(good_handles_that_outlive_objects)
{
	struct weir_cache *cache;
	struct weir_handle handles[50];

	NEED(weir_cache_create("conn",
		 &(struct weir_cache_config){
		     .object_bytes = 200, .flags = WEIR_CACHE_HANDLES},
		 &cache) == 0);
	for (size_t i = 0; i < 50; i++) {
		void *object = weir_cache_alloc(cache);

		handles[i] = weir_cache_handle(cache, object);
		NEED(weir_cache_resolve(cache, handles[i]) == object);
		weir_cache_free(cache, object);
	}
	for (size_t i = 0; i < 50; i++)
		NEED(weir_cache_resolve(cache, handles[i]) == NULL);
	weir_cache_destroy(cache);
}

static bool
visit_and_free(void *object, void *cache)
{
	weir_cache_free(cache, object);
	return true;
}

GOOD(good_cache_freed_by_a_visit)
{
	struct weir_cache *cache = bug_cache("conn", 200);

	for (size_t i = 0; i < 100; i++)
		NEED(weir_cache_alloc(cache) != NULL);
	NEED(weir_cache_for_each(cache, visit_and_free, cache) == 100);
	weir_cache_destroy(cache);
}

/* As a connection has a buffer: its objects are of two pools. */
GOOD(good_cache_inline_calls)
{
	struct weir_local *local = weir_local();
	struct weir_cache *cache = bug_cache("conn", 200);
	struct weir_cache *small = bug_cache("timer", 16);

	for (size_t i = 0; i < 5000; i++) {
		char *conn = weir_cache_alloc_at(local, cache);
		char *timer = weir_cache_alloc_at(local, small);

		memset(conn, 1, 200);
		memset(timer, 2, 16);
		weir_cache_free_at(local, cache, conn);
		weir_cache_free_at(local, small, timer);
	}
	weir_cache_destroy(cache);
	weir_cache_destroy(small);
}

/* ---- heaps ----------------------------------------------------------------------- */

GOOD(good_heap_of_all_sizes)
{
	struct weir_heap *heap = bug_heap("jobs");
	uint64_t state = 1;
	char *objects[64] = {NULL};

	for (size_t i = 0; i < 4000; i++) {
		size_t at = i % 64, bytes;

		state = state * 6364136223846793005u + 1442695040888963407u;
		bytes = (size_t)(state >> 33) % (i % 50 == 0 ? 200000 : 3000);
		weir_heap_free(heap, objects[at]);
		objects[at] = weir_heap_alloc(heap, bytes);
		memset(objects[at], (int)at, bytes);
	}
	for (size_t i = 0; i < 64; i++)
		weir_heap_free(heap, objects[i]);
	weir_heap_destroy(heap);
}

/* All of it is the program's to use. */
GOOD(good_heap_usable_size_is_usable)
{
	for (size_t bytes = 0; bytes < 300000; bytes += bytes / 3 + 1) {
		char *object = (weir_alloc)(bytes);

		memset(object, 1, weir_usable_size(object));
		weir_free(object);
	}
}

GOOD(good_heap_realloc)
{
	struct weir_heap *heap = bug_heap("text");
	char *text = NULL;

	for (size_t bytes = 1; bytes < 1 << 20; bytes += bytes / 2 + 1) {
		text = weir_heap_realloc(heap, text, bytes);
		text[bytes - 1] = 'x';
	}
	text = weir_heap_realloc(heap, text, 10);
	weir_heap_free_sized(heap, text, 10);
	weir_heap_destroy(heap);
}

GOOD(good_heap_ends_with_objects_in_it)
{
	for (int round = 0; round < 10; round++) {
		struct weir_heap *heap = bug_heap("parse");

		for (size_t i = 0; i < 500; i++)
			memset(weir_heap_alloc(heap, i * 100), 1, i * 100);
		weir_heap_destroy(heap);
	}
}

static void
free_64(void *context)
{
	void **objects = context;

	for (size_t i = 0; i < 64; i++)
		weir_free(objects[i]);
}

GOOD(good_heap_freed_on_another_thread)
{
	void *objects[64];

	for (int round = 0; round < 10; round++) {
		for (size_t i = 0; i < 64; i++)
			memset(objects[i] = weir_alloc(500), 1, 500);
		bug_on_thread(free_64, objects);
	}
}

GOOD(good_heap_zeroed_and_aligned)
{
	for (size_t i = 1; i < 40; i++) {
		unsigned char *zeroed = weir_calloc(i, 100);
		char *aligned = weir_aligned((size_t)16 << i % 10, 100 * i);

		for (size_t at = 0; at < 100 * i; at++)
			NEED(zeroed[at] == 0);
		NEED((uintptr_t)aligned % ((size_t)16 << i % 10) == 0);
		memset(zeroed, 1, 100 * i);
		memset(aligned, 1, 100 * i);
		weir_free(zeroed);
		weir_free(aligned);
	}
}
