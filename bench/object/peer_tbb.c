/* SPDX-License-Identifier: MIT */
/*
 * peer_tbb.c - the scalable allocator of oneTBB, called by its own names: its
 * replacement of malloc is a proxy that costs a second call.
 */
#include "harness.h"

#define PEER_NAME "tbb"
#define PEER_FLAGS (PEER_ANY_SIZE | PEER_GROWS | PEER_REMOTE)
#define PEER_VALUES 0

/* Of <oneapi/tbb/scalable_allocator.h>; the library alone is needed. */
extern void *scalable_malloc(size_t bytes);
extern void scalable_free(void *object);
extern size_t scalable_msize(void *object);

#define BENCH_STATELESS_POOL
#include "stateless.h"

static const char *
peer_version(void)
{
	return BENCH_VERSION;
}

static BENCH_INLINE void *
peer_alloc(struct peer_local local, struct peer_pool *pool, size_t bytes)
{
	(void)local;
	(void)pool;
	return scalable_malloc(bytes);
}

static BENCH_INLINE void
peer_free(
    struct peer_local local, struct peer_pool *pool, void *object, size_t bytes)
{
	(void)local;
	(void)pool;
	(void)bytes;
	scalable_free(object);
}

static size_t
peer_usable(struct peer_pool *pool, void *object, size_t bytes)
{
	(void)pool;
	(void)bytes;
	return scalable_msize(object);
}

#include "worker.h"
