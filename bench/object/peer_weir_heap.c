/* SPDX-License-Identifier: MIT */
/*
 * peer_weir_heap.c - the default heap of weir.  The library is the shared one.
 */
#include "harness.h"

#include <weir/heap.h>
#include <weir/version.h>

#define PEER_NAME "weir-heap"
#define PEER_FLAGS (PEER_ANY_SIZE | PEER_GROWS | PEER_REMOTE)
#define PEER_VALUES 0

#define BENCH_STATELESS_POOL
#include "stateless.h"

static const char *
peer_version(void)
{
	return WEIR_VERSION_STRING;
}

static BENCH_INLINE void *
peer_alloc(struct peer_local local, struct peer_pool *pool, size_t bytes)
{
	(void)local;
	(void)pool;
	return weir_alloc(bytes);
}

static BENCH_INLINE void
peer_free(
    struct peer_local local, struct peer_pool *pool, void *object, size_t bytes)
{
	(void)local;
	(void)pool;
	(void)bytes;
	weir_free(object);
}

static size_t
peer_usable(struct peer_pool *pool, void *object, size_t bytes)
{
	(void)pool;
	(void)bytes;
	return weir_usable_size(object);
}

#include "worker.h"
