/* SPDX-License-Identifier: MIT */
/*
 * buffer_common.h - what the tests of buffers share.
 */
#ifndef BUFFER_COMMON_H
#define BUFFER_COMMON_H

#include "test.h"

#include <weir/buffer.h>

static const size_t default_bytes[] = {64, 512, 2048, 8192, 32768, 65536};
#define DEFAULT_TIERS (sizeof(default_bytes) / sizeof(default_bytes[0]))

static inline struct weir_buffer_pool *
pool_make(const struct weir_buffer_pool_config *config)
{
	struct weir_buffer_pool *pool;

	CHECK_EQ(weir_buffer_pool_create("net", config, &pool), 0);
	CHECK_NOT_NULL(pool);
	return pool;
}

static inline void
pool_end(struct weir_buffer_pool *pool)
{
	CHECK(weir_buffer_pool_check(pool));
	weir_buffer_pool_destroy(pool);
}

static inline struct weir_pool_stats
tier_stats(struct weir_buffer_pool *pool, size_t tier)
{
	struct weir_pool_stats stats = {.size = sizeof(stats)};

	CHECK_EQ(weir_buffer_pool_stats(pool, tier, &stats), 0);
	CHECK_EQ(stats.total, stats.in_use + stats.available);
	return stats;
}

static inline bool
all_bytes(const unsigned char *data, size_t bytes, unsigned char value)
{
	for (size_t i = 0; i < bytes; i++)
		if (data[i] != value)
			return false;
	return true;
}

#endif /* BUFFER_COMMON_H */
