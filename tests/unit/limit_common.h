/* SPDX-License-Identifier: MIT */
/*
 * limit_common.h - caches at their limit, threads that wait there, and a function
 * that is told.
 */
#ifndef WEIR_LIMIT_COMMON_H
#define WEIR_LIMIT_COMMON_H

#include "test.h"

#include "pools/cache.h"

#include <weir/weir.h>

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

/* A limit that is served through the lock, and one with magazines. */
enum { SMALL = 16, LARGE = 1024, WAITERS = 8, FOUR_ROUNDS = 4 * WAITERS };

static inline struct weir_cache *
cache_make(const struct weir_cache_config *config)
{
	struct weir_cache *cache;

	CHECK_EQ(weir_cache_create("limited", config, &cache), 0);
	return cache;
}

static inline struct weir_cache *
cache_make_waiting(size_t limit, uint64_t timeout_ns)
{
	return cache_make(&(struct weir_cache_config){.object_bytes = 64,
	    .limit = limit,
	    .policy = WEIR_LIMIT_WAIT,
	    .timeout_ns = timeout_ns});
}

static inline struct weir_pool_stats
cache_stats(struct weir_cache *cache)
{
	struct weir_pool_stats stats = {.size = sizeof(stats)};

	CHECK_EQ(weir_cache_stats(cache, &stats), 0);
	return stats;
}

static inline void
cache_end(struct weir_cache *cache)
{
	CHECK_EQ(cache_stats(cache).in_use, 0);
	CHECK(weir_cache_check(cache));
	weir_cache_destroy(cache);
}

static inline void
take_all(struct weir_cache *cache, void **objects, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		objects[i] = weir_cache_alloc_wait(cache, 0);
		CHECK_NOT_NULL(objects[i]);
	}
}

static inline void
give_all(struct weir_cache *cache, void **objects, size_t count)
{
	for (size_t i = 0; i < count; i++)
		weir_cache_free(cache, objects[i]);
}

static inline void
await_waiting(struct weir_cache *cache, uint64_t count)
{
	while (cache_stats(cache).waiting != count)
		usleep(100);
}

/* ---- who waits ----------------------------------------------------------- */

struct waiter {
	struct weir_cache *cache;
	pthread_t thread;
	void *object;
	size_t *served;
	size_t turn; /* when it was served, by its own account */
	uint64_t timeout_ns;
};

static inline void *
waiter_run(void *argument)
{
	struct waiter *waiter = argument;

	waiter->object =
	    weir_cache_alloc_wait(waiter->cache, waiter->timeout_ns);
	waiter->turn = __atomic_fetch_add(waiter->served, 1, __ATOMIC_RELAXED);
	return NULL;
}

/* Each is in the queue before the next one comes. */
static inline void
waiters_start(struct waiter *waiters, struct weir_cache *cache, size_t *served)
{
	for (size_t i = 0; i < WAITERS; i++) {
		waiters[i] = (struct waiter){.cache = cache,
		    .served = served,
		    .timeout_ns = WEIR_WAIT_FOREVER};
		CHECK_EQ(pthread_create(
			     &waiters[i].thread, NULL, waiter_run, &waiters[i]),
		    0);
		await_waiting(cache, i + 1);
	}
}

/* ---- who is told --------------------------------------------------------- */

struct told {
	unsigned calls;
	void *taken[LARGE];
	size_t count, want;
};

/* Takes up to `want` objects, which may fail and is then due again. */
static inline void
tell(struct weir_cache *cache, void *context)
{
	struct told *told = context;

	told->calls++;
	for (size_t i = 0; i < told->want; i++) {
		void *object = weir_cache_alloc(cache);

		if (object != NULL)
			told->taken[told->count++] = object;
	}
}

#endif /* WEIR_LIMIT_COMMON_H */
