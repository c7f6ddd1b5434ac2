/* SPDX-License-Identifier: MIT */
/*
 * malloc_like.h - for opponents whose calls are those of malloc: BENCH_ALLOC,
 * BENCH_FREE and BENCH_USABLE name them.
 */
#ifndef BENCH_OBJECT_MALLOC_LIKE_H
#define BENCH_OBJECT_MALLOC_LIKE_H

#define PEER_FLAGS (PEER_ANY_SIZE | PEER_GROWS | PEER_REMOTE)
#define PEER_VALUES 0

#define BENCH_STATELESS_POOL
#include "stateless.h"

static BENCH_INLINE void *
peer_alloc(struct peer_local local, struct peer_pool *pool, size_t bytes)
{
	(void)local;
	(void)pool;
	return BENCH_ALLOC(bytes);
}

static BENCH_INLINE void
peer_free(
    struct peer_local local, struct peer_pool *pool, void *object, size_t bytes)
{
	(void)local;
	(void)pool;
	(void)bytes;
	BENCH_FREE(object);
}

static size_t
peer_usable(struct peer_pool *pool, void *object, size_t bytes)
{
	(void)pool;
	(void)bytes;
	return BENCH_USABLE(object);
}

#include "../region/region_malloc.h"

#endif /* BENCH_OBJECT_MALLOC_LIKE_H */
