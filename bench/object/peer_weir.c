/* SPDX-License-Identifier: MIT */
/*
 * peer_weir.c - caches of weir: BENCH_CHECK is the checking level, BENCH_INLINED
 * the path that is compiled into the caller.  The library is the shared one.
 */
#include "harness.h"

#include <weir/cache.h>
#include <weir/version.h>

#define PEER_NAME BENCH_PEER
#define PEER_FLAGS (PEER_GROWS | PEER_REMOTE)
#define PEER_VALUES 1 /* the size of the objects */

#define peer_pool weir_cache

struct peer_local {
#if BENCH_INLINED
	struct weir_local *weir;
#else
	char unused;
#endif
};

static void
peer_begin(void)
{
}

static const char *
peer_version(void)
{
	return WEIR_VERSION_STRING;
}

static BENCH_INLINE struct peer_local
peer_thread_begin(void)
{
	struct peer_local local = {0};

#if BENCH_INLINED
	local.weir = weir_local();
#endif
	return local;
}

static void
peer_thread_end(struct peer_local local)
{
	(void)local;
}

static struct peer_pool *
peer_pool_open(size_t bytes, size_t objects)
{
	struct weir_cache_config config = {
	    .object_bytes = bytes,
	    .check = BENCH_CHECK,
	};
	struct weir_cache *cache;
	int error = weir_cache_create("bench", &config, &cache);

	(void)objects;
	if (error != 0)
		bench_fail("weir_cache_create: %s", strerror(-error));
	return cache;
}

static void
peer_pool_close(struct peer_pool *pool)
{
	weir_cache_destroy(pool);
}

static BENCH_INLINE void *
peer_alloc(struct peer_local local, struct peer_pool *pool, size_t bytes)
{
	(void)local;
	(void)bytes;
#if BENCH_INLINED
	return weir_cache_alloc_at(local.weir, pool);
#else
	return weir_cache_alloc(pool);
#endif
}

static BENCH_INLINE void
peer_free(
    struct peer_local local, struct peer_pool *pool, void *object, size_t bytes)
{
	(void)local;
	(void)bytes;
#if BENCH_INLINED
	weir_cache_free_at(local.weir, pool, object);
#else
	weir_cache_free(pool, object);
#endif
}

static size_t
peer_usable(struct peer_pool *pool, void *object, size_t bytes)
{
	(void)pool;
	(void)object;
	return BENCH_CLASS_BYTES(bytes);
}

#include "worker.h"
