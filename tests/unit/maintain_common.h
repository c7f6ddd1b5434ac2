/* SPDX-License-Identifier: MIT */
/*
 * maintain_common.h - a cache, the figures of it and of the process, and a loop
 * that maintains them.
 */
#ifndef WEIR_MAINTAIN_COMMON_H
#define WEIR_MAINTAIN_COMMON_H

#include "test.h"

#include <weir/weir.h>

#include <pthread.h>
#include <unistd.h>

#define MS UINT64_C(1000000)
#define KIB ((size_t)1024)
#define MIB ((size_t)1024 * KIB)

static inline struct weir_cache *
cache_make(size_t object_bytes, size_t prealloc)
{
	struct weir_cache *cache;

	CHECK_EQ(weir_cache_create("kept",
		     &(struct weir_cache_config){.object_bytes = object_bytes,
			 .prealloc = prealloc,
			 .check = WEIR_CHECK_BATCH},
		     &cache),
	    0);
	return cache;
}

static inline struct weir_pool_stats
cache_stats(struct weir_cache *cache)
{
	struct weir_pool_stats stats = {.size = sizeof(stats)};

	CHECK_EQ(weir_cache_stats(cache, &stats), 0);
	return stats;
}

static inline struct weir_stats
process_stats(void)
{
	struct weir_stats stats = {.size = sizeof(stats)};

	CHECK_EQ(weir_stats_read(&stats), 0);
	return stats;
}

/* Calls weir_maintain() for so long, as an event loop would. */
static inline void
maintain_for(uint64_t ms)
{
	uint64_t end = test_now_ns() + ms * MS;

	while (test_now_ns() < end) {
		(void)weir_maintain(MS / 5);
		usleep(500);
	}
}

#endif /* WEIR_MAINTAIN_COMMON_H */
