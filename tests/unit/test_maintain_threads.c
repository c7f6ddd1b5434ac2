/* SPDX-License-Identifier: MIT */
/*
 * test_maintain_threads.c - what a thread keeps of pools, and who takes it when the
 * thread does not use them.
 */
#include "maintain_common.h"

#include "pools/cache.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- what threads keep ----------------------------------------------------- */

TEST(threads_cache_at_most_64_kib_or_8_objects_of_a_pool)
{
	NOT_UNDER_GUARD("nothing stays with threads");

	static const size_t sizes[] = {8, 16, 64, 500, 4000, 10000, 100000};
	enum { COUNT = 2000 };
	static void *object[COUNT];

	for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
		struct weir_cache *cache = cache_make(sizes[s], 0);
		size_t most = 64 * KIB > 8 * sizes[s] ? 64 * KIB : 8 * sizes[s];
		size_t count = sizes[s] > 8 * KIB ? 100 : COUNT;

		/* Often enough for magazines to grow as they may. */
		for (int round = 0; round < 50; round++) {
			for (size_t i = 0; i < count; i++)
				object[i] = weir_cache_alloc(cache);
			for (size_t i = 0; i < count; i++)
				weir_cache_free(cache, object[i]);
		}
		CHECK_LE(cache_stats(cache).cached * sizes[s], most);
		weir_cache_destroy(cache);
	}
}

TEST(maintain_empties_this_thread_s_magazines_of_unused_pools)
{
	NOT_UNDER_GUARD("nothing stays with threads");

	struct weir_cache *idle = cache_make(100, 0);
	struct weir_cache *used = cache_make(100, 0);
	void *held = weir_cache_alloc(used);

	weir_set_decay(64); /* a pass is due each millisecond */
	weir_cache_free(idle, weir_cache_alloc(idle));
	CHECK_GT(cache_stats(idle).cached, 0);
	for (int i = 0; i < 20; i++) {
		void *other = weir_cache_alloc(used);

		weir_cache_free(used, held);
		held = other;
		/* One more each time: in use, whatever the hour. */
		(void)!weir_cache_alloc(used);
		usleep(1200);
		(void)weir_maintain(UINT64_MAX);
		CHECK_EQ(cache_stats(used).in_use, (uint64_t)i + 2);
	}
	CHECK_EQ(cache_stats(idle).cached, 0);
	CHECK_GT(cache_stats(used).cached, 0);
	CHECK(weir_cache_check(idle));
	CHECK(weir_cache_check(used));
}

struct idler {
	struct weir_cache *cache;
	pthread_barrier_t barrier;
	bool poll;
};

static void *
idler_run(void *argument)
{
	struct idler *idler = argument;
	static void *object[400];

	for (size_t i = 0; i < 400; i++)
		object[i] = weir_cache_alloc(idler->cache);
	for (size_t i = 0; i < 400; i++)
		weir_cache_free(idler->cache, object[i]);
	pthread_barrier_wait(&idler->barrier); /* full magazines */
	pthread_barrier_wait(&idler->barrier); /* the spare is gone */
	for (int i = 0; i < 2 && idler->poll; i++) {
		weir_thread_poll();
		pthread_barrier_wait(&idler->barrier);
		pthread_barrier_wait(&idler->barrier); /* a pass came by */
	}
	pthread_barrier_wait(&idler->barrier);
	return NULL;
}

static void
pass(void)
{
	uint64_t round = weiri_local_round;

	while (weiri_local_round == round) {
		(void)weir_maintain(UINT64_MAX);
		usleep(500);
	}
	while (weir_maintain(UINT64_MAX))
		;
}

TEST(idle_threads_give_up_the_spare_and_when_polled_the_rest)
{
	NOT_UNDER_GUARD("nothing stays with threads");

	struct idler idler = {.cache = cache_make(100, 0), .poll = true};
	pthread_t thread;
	uint64_t full;

	weir_set_decay(64);
	pthread_barrier_init(&idler.barrier, NULL, 2);
	CHECK_EQ(pthread_create(&thread, NULL, idler_run, &idler), 0);
	pthread_barrier_wait(&idler.barrier);
	full = cache_stats(idler.cache).cached;
	CHECK_GT(full, 0);
	pass();
	pass();
	pass();
	CHECK_LT(cache_stats(idler.cache).cached, full);
	CHECK_GT(cache_stats(idler.cache).cached, 0);
	pthread_barrier_wait(&idler.barrier);
	for (int i = 0; i < 2; i++) {
		pthread_barrier_wait(&idler.barrier);
		pass();
		pthread_barrier_wait(&idler.barrier);
	}
	CHECK_EQ(cache_stats(idler.cache).cached, 0);
	pthread_barrier_wait(&idler.barrier);
	pthread_join(thread, NULL);
	CHECK(weir_cache_check(idler.cache));
	weir_cache_destroy(idler.cache);
}

static pthread_barrier_t busy_barrier;

static void
busy_fini(void *object, void *context)
{
	bool *stopped = context;

	(void)object;
	if (*stopped)
		return;
	*stopped = true;
	pthread_barrier_wait(&busy_barrier);
	pthread_barrier_wait(&busy_barrier);
}

static void *
busy_run(void *argument)
{
	struct weir_cache *slow = argument;

	weir_cache_free(slow, weir_cache_alloc(slow));
	/* The magazine, then the slab. */
	for (int i = 0; i < 8; i++)
		(void)weir_maintain(UINT64_MAX);
	return NULL;
}

/* A pass that another thread is at does not keep this one's magazines here. */
TEST(maintain_empties_this_thread_s_magazines_beside_a_pass_of_another)
{
	NOT_UNDER_GUARD("nothing stays with threads");

	struct weir_cache *idle = cache_make(100, 0), *slow;
	bool stopped = false;
	pthread_t thread;

	CHECK_EQ(weir_cache_create("slow",
		     &(struct weir_cache_config){.object_bytes = 1000,
			 .fini = busy_fini,
			 .context = &stopped},
		     &slow),
	    0);
	pthread_barrier_init(&busy_barrier, NULL, 2);
	weir_set_decay(0);
	weir_cache_free(idle, weir_cache_alloc(idle));
	(void)weir_maintain(UINT64_MAX); /* notes where the magazine is */
	CHECK_GT(cache_stats(idle).cached, 0);
	CHECK_EQ(pthread_create(&thread, NULL, busy_run, slow), 0);
	pthread_barrier_wait(&busy_barrier);
	CHECK(!weir_maintain(UINT64_MAX));
	CHECK_EQ(cache_stats(idle).cached, 0);
	pthread_barrier_wait(&busy_barrier);
	pthread_join(thread, NULL);
	weir_cache_destroy(slow);
	weir_cache_destroy(idle);
	pthread_barrier_destroy(&busy_barrier);
}

/* Threads that used many pools once, and idle. */
enum { LEFT_POOLS = 100, LEFT_THREADS = 4, LEFT_ROUNDS = 4 };

struct left {
	struct weir_cache *cache[LEFT_POOLS];
	pthread_barrier_t barrier;
};

static void *
left_run(void *argument)
{
	struct left *left = argument;

	for (size_t i = 0; i < LEFT_POOLS; i++) {
		void *object[300];

		CHECK_EQ(
		    weir_cache_alloc_bulk(left->cache[i], 300, object), 300);
		for (size_t k = 0; k < 300; k++)
			weir_cache_free(left->cache[i], object[k]);
	}
	pthread_barrier_wait(&left->barrier);
	for (size_t i = 0; i < LEFT_ROUNDS; i++) {
		pthread_barrier_wait(&left->barrier);
		weir_thread_poll();
		pthread_barrier_wait(&left->barrier);
	}
	pthread_barrier_wait(&left->barrier);
	return NULL;
}

static void
left_pass(struct left *left)
{
	pass();
	pthread_barrier_wait(&left->barrier);
	pthread_barrier_wait(&left->barrier);
}

/* No magazine, here or in the depot, no slab: what is left are the words of the
 * thread's cell. */
static void
left_check(const struct weiri_depot *depot)
{
	CHECK_EQ(depot->slab_count, 0);
	CHECK_EQ(depot->full_count, 0);
	CHECK_EQ(depot->empty_count, 0);
	weiri_local_lock();
	WEIRI_LOCAL_FOR(local)
	{
		CHECK_PTR(local->cursor[depot->cell], WEIRI_CURSOR_DUMMY);
		CHECK_EQ(local->spare[depot->cell], 0);
	}
	weiri_local_unlock();
}

TEST(idle_threads_keep_no_more_than_64_bytes_a_pool_after_maintain)
{
	NOT_UNDER_GUARD("nothing stays with threads");

	const struct weir_local *local = NULL;
	pthread_t thread[LEFT_THREADS];
	struct left left;

	CHECK_LE(sizeof(local->cursor[0]) + sizeof(local->spare[0]) +
		     sizeof(local->requests[0]),
	    64);
	weir_set_decay(0);
	for (size_t i = 0; i < LEFT_POOLS; i++)
		left.cache[i] = cache_make(100, 0);
	pthread_barrier_init(&left.barrier, NULL, LEFT_THREADS + 1);
	for (size_t i = 0; i < LEFT_THREADS; i++)
		CHECK_EQ(pthread_create(&thread[i], NULL, left_run, &left), 0);
	pthread_barrier_wait(&left.barrier);
	for (size_t i = 0; i < LEFT_POOLS; i++)
		CHECK_GE(cache_stats(left.cache[i]).cached, 8);
	for (size_t i = 0; i < LEFT_ROUNDS; i++)
		left_pass(&left);
	pass();
	for (size_t i = 0; i < LEFT_POOLS; i++)
		left_check(&left.cache[i]->depot);
	pthread_barrier_wait(&left.barrier);
	for (size_t i = 0; i < LEFT_THREADS; i++)
		pthread_join(thread[i], NULL);
	for (size_t i = 0; i < LEFT_POOLS; i++)
		weir_cache_destroy(left.cache[i]);
	pthread_barrier_destroy(&left.barrier);
}
