/* SPDX-License-Identifier: MIT */
/*
 * good_life.c - correct programs again: regions and buffers, and what is left of
 * pools when threads, processes and the library end.
 */
#include "bug.h"

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

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

/* The memory is the program's before and after, and what is out in between. */
GOOD(good_buddy_pages)
{
	char *pages = bug_pages(64), *runs[8];
	struct weir_buddy *buddy;

	memset(pages, 'b', 64 * 4096);
	NEED(weir_buddy_create("pages",
		 &(struct weir_buddy_config){.unit_count = 64,
		     .base = pages,
		     .unit_bytes = 4096,
		     .flags = WEIR_BUDDY_TRAP},
		 &buddy) == 0);
	for (int round = 0; round < 20; round++) {
		for (size_t i = 0; i < 8; i++) {
			runs[i] = weir_buddy_alloc_address(buddy, i % 4 + 1);
			memset(runs[i], (int)i, (i % 4 + 1) * 4096);
		}
		NEED(weir_buddy_resize(
			 buddy, weir_buddy_unit(buddy, runs[3]), 2) == 0);
		for (size_t i = 0; i < 8; i++)
			NEED(runs[i][0] == (char)i && runs[i][4095] == (char)i);
		for (size_t i = 0; i < 8; i++)
			weir_buddy_free_address(buddy, runs[i * 3 % 8]);
	}
	weir_buddy_destroy(buddy);
	memset(pages, 'e', 64 * 4096);
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
