/* SPDX-License-Identifier: MIT */
/*
 * good.c - correct programs, of the kinds that a checker may take for wrong:
 * memory that changes threads, ends at once, lives on after its thread, is used
 * to its last byte.  Each stays silent in every mode.
 */
#include "bug.h"

#include <pthread.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

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

/* ---- regions ----------------------------------------------------------------------- */

GOOD(good_region_of_a_request)
{
	for (int round = 0; round < 50; round++) {
		struct weir_region *region = bug_region(NULL);
		struct weir_region_writer out = WEIR_REGION_WRITER(region);
		struct weir_region_vec lines = WEIR_REGION_VEC(region, char *);
		size_t length;
		char *text;

		for (int i = 0; i < 40; i++) {
			char **line = weir_region_vec_push(&lines);

			*line = weir_region_printf(region, "line %d", i);
			NEED(weir_region_writer_printf(&out, "%s\n", *line));
		}
		text = weir_region_writer_finish(&out, &length);
		NEED(strlen(text) == length && text[length - 1] == '\n');
		weir_region_destroy(region);
	}
}

static void
count(void *context)
{
	(*(int *)context)++;
}

GOOD(good_region_tree_with_cleanups)
{
	int ran = 0;
	struct weir_region *root = bug_region(NULL), *child, *below;

	for (int i = 0; i < 20; i++) {
		child = bug_region(root);
		below = bug_region(child);
		memset(weir_region_alloc(below, 5000), 1, 5000);
		NEED(weir_region_cleanup_add(below, count, &ran) != NULL);
		NEED(weir_region_cleanup_add(child, count, &ran) != NULL);
		if (i % 3 == 0)
			weir_region_destroy(child);
		else if (i % 3 == 1)
			weir_region_merge(child, below);
	}
	weir_region_reset(root);
	weir_region_destroy(root);
	NEED(ran == 40);
}

GOOD(good_region_savepoints)
{
	struct weir_region *region = bug_region(NULL);
	struct weir_region_savepoint outer, inner;
	char *kept = weir_region_alloc(region, 100);

	memset(kept, 'a', 100);
	for (int i = 0; i < 100; i++) {
		NEED(weir_region_mark(region, &outer) == 0);
		memset(weir_region_alloc(region, 3000), 1, 3000);
		NEED(weir_region_mark(region, &inner) == 0);
		memset(weir_region_alloc(region, 100000), 2, 100000);
		weir_region_unmark(region, &inner);
		memset(weir_region_alloc(region, 200), 3, 200);
		weir_region_unmark(region, &outer);
	}
	NEED(kept[0] == 'a' && kept[99] == 'a');
	weir_region_destroy(region);
}

static void
worker(void *context)
{
	struct weir_region *region = context;

	weir_region_take_over(region);
	for (int i = 0; i < 50; i++)
		memset(weir_region_alloc(region, 999), i, 999);
	weir_region_hand_off(region);
}

GOOD(good_region_handed_to_a_worker_and_back)
{
	struct weir_region *whole = bug_region(NULL);

	for (int i = 0; i < 8; i++) {
		struct weir_region *part = bug_region(whole);

		weir_region_hand_off(part);
		bug_on_thread(worker, part);
		weir_region_take_over(part);
		weir_region_merge(whole, part);
	}
	weir_region_destroy(whole);
}

GOOD(good_region_objects_that_grow)
{
	struct weir_region *region = bug_region(NULL);
	char *object = weir_region_alloc(region, 10);
	size_t bytes = 10;

	for (; bytes < 200000; bytes *= 2) {
		object = weir_region_realloc(region, object, bytes, bytes * 2);
		NEED(object != NULL);
		memset(object, 1, bytes * 2);
	}
	weir_region_free(region, object, bytes);
	object = weir_region_alloc(region, 100);
	if (weir_region_extend(region, object, 100, 200))
		memset(object, 1, 200);
	weir_region_destroy(region);
}

GOOD(good_region_on_the_stack)
{
	char storage[4096];
	struct weir_region *region;

	for (int i = 0; i < 20; i++) {
		NEED(weir_region_create_in(
			 NULL, NULL, storage, sizeof(storage), &region) == 0);
		memset(weir_region_alloc(region, 3000), 1, 3000);
		memset(weir_region_alloc(region, 30000), 1, 30000);
		weir_region_destroy(region);
	}
}

GOOD(good_region_reset_many_times)
{
	struct weir_region *region = bug_region(NULL);

	for (int i = 0; i < 500; i++) {
		memset(weir_region_alloc(region, (size_t)i * 40), 1,
		    (size_t)i * 40);
		memset(weir_region_alloc_aligned(region, 64, 4096), 1, 64);
		weir_region_reset(region);
	}
	weir_region_destroy(region);
}

GOOD(good_region_vm_grows_and_rewinds)
{
	struct weir_region_vm *region = bug_region_vm("arena");

	for (int i = 0; i < 50; i++) {
		struct weir_region_vm_point before =
		    weir_region_vm_mark(region);

		memset(weir_region_vm_alloc(region, 100000), 1, 100000);
		if (i % 2 == 0)
			NEED(weir_region_vm_rewind(region, before));
		if (i % 10 == 0)
			weir_region_vm_reset(region);
	}
	weir_region_vm_destroy(region);
}

/* ---- buffers ------------------------------------------------------------------------ */

struct piece {
	struct weir_slice slice;
};

static void
drop(void *context)
{
	struct piece *piece = context;

	NEED(weir_slice_data(piece->slice)[0] == 'd');
	weir_slice_release(&piece->slice);
}

GOOD(good_buffer_slices_on_other_threads)
{
	struct weir_buffer_pool *pool = bug_buffers("io");

	for (int i = 0; i < 20; i++) {
		struct weir_buffer *buffer = weir_buffer_acquire(pool, 2000);
		struct piece piece;

		memset(buffer->data, 'd', buffer->bytes);
		piece.slice =
		    weir_slice_retain(weir_slice_make(buffer, 100, 500));
		weir_buffer_release(buffer);
		bug_on_thread(drop, &piece);
	}
	weir_buffer_pool_destroy(pool);
}

GOOD(good_buffer_used_to_its_last_byte)
{
	struct weir_buffer_pool *pool = bug_buffers("io");
	struct weir_buffer *held[40];

	for (size_t i = 0; i < 40; i++) {
		held[i] = weir_buffer_acquire(pool, i * 1500);
		memset(held[i]->data, 1, weir_buffer_usable(held[i]));
		NEED(weir_buffer_of(held[i]->data + held[i]->bytes - 1) ==
		     held[i]);
	}
	for (size_t i = 0; i < 40; i++)
		weir_buffer_release(held[i]);
	weir_buffer_pool_destroy(pool);
}

static void
count_release(struct weir_buffer *buffer, void *context)
{
	(void)buffer;
	(*(int *)context)++;
}

GOOD(good_buffer_over_foreign_memory)
{
	static char page[1000];
	struct weir_buffer buffer;
	int ended = 0;

	for (int i = 0; i < 10; i++) {
		weir_buffer_init_external(
		    &buffer, page, sizeof(page), count_release, &ended);
		weir_buffer_retain_many(&buffer, 5);
		weir_buffer_release_many(&buffer, 6);
	}
	NEED(ended == 10);
}

/* ---- numbers ------------------------------------------------------------------------- */

GOOD(good_buddy_runs)
{
	struct weir_buddy *buddy = bug_buddy("db", NULL, 0);
	size_t runs[8];

	for (int round = 0; round < 50; round++) {
		for (size_t i = 0; i < 8; i++)
			runs[i] = weir_buddy_alloc(buddy, i % 4 + 1);
		NEED(weir_buddy_resize(buddy, runs[3], 2) == 0);
		for (size_t i = 0; i < 8; i++)
			weir_buddy_free(buddy, runs[i * 3 % 8]);
	}
	weir_buddy_destroy(buddy);
}

static void
take_and_give(void *context)
{
	for (int i = 0; i < 1000; i++) {
		void *object = weir_bounded_alloc(context);

		if (object != NULL)
			memset(object, i, 64);
		weir_bounded_free(context, object);
	}
}

GOOD(good_bounded_on_threads)
{
	static _Alignas(WEIR_BOUNDED_ALIGN) char storage[8192];
	struct weir_bounded *pool;

	NEED(weir_bounded_init(storage, sizeof(storage), "isr",
		 &(struct weir_bounded_config){
		     .object_bytes = 64, .object_count = 16},
		 &pool) == 0);
	bug_on_thread(take_and_give, pool);
	take_and_give(pool);
	weir_bounded_finish(pool);
}

/* ---- processes and threads ------------------------------------------------------------ */

GOOD(good_fork_child_uses_pools)
{
	struct weir_cache *cache = bug_cache("conn", 200);
	char *object = weir_cache_alloc(cache);
	int status;
	pid_t pid;

	memset(object, 'p', 200);
	pid = fork();
	NEED(pid >= 0);
	if (pid == 0) {
		NEED(object[199] == 'p');
		memset(object, 'c', 200);
		weir_cache_free(cache, object);
		weir_free(weir_alloc(100));
		weir_cache_destroy(cache);
		_exit(0);
	}
	NEED(waitpid(pid, &status, 0) == pid && status == 0);
	NEED(object[0] == 'p');
	weir_cache_free(cache, object);
	weir_cache_destroy(cache);
}

struct outlive {
	struct weir_cache *cache;
	void *objects[100];
};

static void
take_100(void *context)
{
	struct outlive *outlive = context;

	for (size_t i = 0; i < 100; i++)
		memset(outlive->objects[i] = weir_cache_alloc(outlive->cache),
		    1, 200);
}

GOOD(good_objects_outlive_their_thread)
{
	struct outlive outlive = {.cache = bug_cache("conn", 200)};

	for (int round = 0; round < 5; round++) {
		bug_on_thread(take_100, &outlive);
		for (size_t i = 0; i < 100; i++)
			weir_cache_free(outlive.cache, outlive.objects[i]);
	}
	weir_cache_destroy(outlive.cache);
}

static pthread_key_t key;

static void
take_for_the_end(void *context)
{
	(void)context;
	NEED(pthread_setspecific(key, weir_alloc(300)) == 0);
}

GOOD(good_frees_when_a_thread_ends)
{
	NEED(pthread_key_create(&key, weir_free) == 0);
	for (int i = 0; i < 10; i++)
		bug_on_thread(take_for_the_end, NULL);
	NEED(pthread_key_delete(key) == 0);
}

static void *late;

static void
free_late(void)
{
	weir_free(late);
}

GOOD(good_frees_after_shutdown)
{
	late = weir_alloc(100);
	NEED(atexit(free_late) == 0);
	NEED(weir_shutdown() == 1);
}

GOOD(good_trims_and_maintains)
{
	struct weir_cache *cache = bug_cache("conn", 200);
	void *objects[500];

	for (int round = 0; round < 5; round++) {
		for (size_t i = 0; i < 500; i++)
			objects[i] = weir_cache_alloc(cache);
		for (size_t i = 0; i < 500; i++)
			weir_cache_free(cache, objects[i]);
		(void)weir_maintain(UINT64_MAX);
		weir_thread_poll();
		(void)weir_trim();
		NEED(weir_cache_check(cache));
	}
	weir_cache_destroy(cache);
	NEED(weir_shutdown() == 0);
}

GOOD(good_pools_made_and_ended_many_times)
{
	for (int i = 0; i < 200; i++) {
		struct weir_cache *cache = bug_cache("short", 64);
		struct weir_heap *heap = bug_heap("short");

		weir_cache_free(cache, weir_cache_alloc(cache));
		weir_heap_free(heap, weir_heap_alloc(heap, 64));
		weir_cache_destroy(cache);
		weir_heap_destroy(heap);
	}
}
