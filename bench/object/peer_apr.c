/* SPDX-License-Identifier: MIT */
/*
 * peer_apr.c - pools of the Apache Portable Runtime.  apr_palloc() has no free:
 * only suites that give all objects back together can be played, by
 * apr_pool_clear(), as a server does at the end of a request.
 */
#include "harness.h"

#include <apr_general.h>
#include <apr_pools.h>
#include <apr_version.h>

#define PEER_NAME "apr"
#define PEER_FLAGS (PEER_ANY_SIZE | PEER_GROWS | PEER_FREES_ALL)
#define PEER_VALUES 0
#define PEER_HAS_FREE_ALL

struct peer_pool;

#define BENCH_OWN_BEGIN
#include "stateless.h"

static void
peer_begin(void)
{
	if (apr_initialize() != APR_SUCCESS)
		bench_fail("apr_initialize failed");
}

static const char *
peer_version(void)
{
	return apr_version_string();
}

static apr_pool_t *
apr_of(struct peer_pool *pool)
{
	return (apr_pool_t *)(void *)pool;
}

static struct peer_pool *
peer_pool_open(size_t bytes, size_t objects)
{
	apr_pool_t *pool;

	(void)bytes;
	(void)objects;
	if (apr_pool_create(&pool, NULL) != APR_SUCCESS)
		bench_fail("apr_pool_create failed");
	return (struct peer_pool *)(void *)pool;
}

static void
peer_pool_close(struct peer_pool *pool)
{
	apr_pool_destroy(apr_of(pool));
}

static BENCH_INLINE void *
peer_alloc(struct peer_local local, struct peer_pool *pool, size_t bytes)
{
	(void)local;
	return apr_palloc(apr_of(pool), bytes);
}

static BENCH_INLINE void
peer_free_all(struct peer_pool *pool)
{
	apr_pool_clear(apr_of(pool));
}

/* Its free is never called: the suites look at PEER_FREES_ALL. */
#include "no_free.h"

#include "../region/region_apr.h"
#include "worker.h"
