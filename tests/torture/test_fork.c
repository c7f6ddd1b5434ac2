/* SPDX-License-Identifier: MIT */
/*
 * fork() while other threads are inside the pools: the child finds no lock held
 * and no figure torn, and can use everything at once.
 */
#include "support/test.h"

#include <pthread.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <weir/weir.h>

enum { THREADS = 4 };

struct busy {
	struct weir_cache *cache;
	struct weir_buffer_pool *buffers;
	bool done;
};

static void *
churn(void *argument)
{
	struct busy *busy = argument;
	void *objects[300];

	while (!__atomic_load_n(&busy->done, __ATOMIC_ACQUIRE)) {
		struct weir_buffer *buffer =
		    weir_buffer_acquire(busy->buffers, 3000);
		struct weir_region *region;

		for (size_t i = 0; i < 300; i++)
			objects[i] = weir_cache_alloc(busy->cache);
		if (weir_region_create(NULL, NULL, &region) == 0) {
			(void)!weir_region_alloc(region, 5000);
			(void)!weir_region_alloc(region, 50000);
			weir_region_destroy(region);
		}
		for (size_t i = 0; i < 300; i++)
			weir_cache_free(busy->cache, objects[i]);
		if (buffer != NULL)
			weir_buffer_release(buffer);
	}
	return NULL;
}

/* In the child: everything again, in the one thread there is. */
static int
child_lives(struct busy *busy)
{
	struct weir_pool_stats stats = {.size = sizeof(stats)};

	CHECK_EQ(weir_cache_stats(busy->cache, &stats), 0);
	/* At most what the other threads had out and a magazine in flight. */
	CHECK_LE(stats.in_use, THREADS * (300 + 2 * 126));
	for (int round = 0; round < 3; round++) {
		struct weir_cache *cache;
		void *object;

		CHECK_EQ(weir_cache_create("child",
			     &(struct weir_cache_config){.object_bytes = 40},
			     &cache),
		    0);
		object = weir_cache_alloc(cache);
		CHECK_NOT_NULL(object);
		weir_cache_free(cache, object);
		CHECK(weir_cache_check(cache));
		weir_cache_destroy(cache);
		object = weir_cache_alloc(busy->cache);
		CHECK_NOT_NULL(object);
		weir_cache_free(busy->cache, object);
		(void)weir_trim();
	}
	return 0;
}

TEST_LIMIT(fork_in_the_middle_leaves_a_working_child, 120)
{
	struct busy busy = {.done = false};
	pthread_t threads[THREADS];
	size_t forks = test_count(60);

	CHECK_EQ(
	    weir_cache_create("busy",
		&(struct weir_cache_config){.object_bytes = 200}, &busy.cache),
	    0);
	CHECK_EQ(weir_buffer_pool_create("busy",
		     &(struct weir_buffer_pool_config){0}, &busy.buffers),
	    0);
	for (size_t i = 0; i < THREADS; i++)
		CHECK_EQ(pthread_create(&threads[i], NULL, churn, &busy), 0);
	for (size_t i = 0; i < forks; i++) {
		int status;
		pid_t child = fork();

		CHECK_NE(child, -1);
		if (child == 0)
			_exit(child_lives(&busy));
		CHECK_EQ(waitpid(child, &status, 0), child);
		CHECK_EQ(status, 0);
	}
	__atomic_store_n(&busy.done, true, __ATOMIC_RELEASE);
	for (size_t i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	CHECK(weir_cache_check(busy.cache));
	weir_cache_destroy(busy.cache);
	weir_buffer_pool_destroy(busy.buffers);
}
