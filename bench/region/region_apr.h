/* SPDX-License-Identifier: MIT */
/*
 * region_apr.h - pools of the Apache Portable Runtime, as httpd uses them: a
 * child of a pool whose allocator is this thread's own, so that no lock is
 * taken.
 */
#ifndef BENCH_REGION_REGION_APR_H
#define BENCH_REGION_REGION_APR_H

#define PEER_HAS_REGIONS

#include "../region/region.h"

struct peer_region;

static apr_pool_t *region_parent;

static BENCH_NOINLINE void
region_apr_start(void)
{
	apr_allocator_t *allocator;

	if (apr_allocator_create(&allocator) != APR_SUCCESS ||
	    apr_pool_create_ex(&region_parent, NULL, NULL, allocator) !=
		APR_SUCCESS)
		bench_fail("apr_pool_create_ex failed");
	apr_allocator_owner_set(allocator, region_parent);
}

static BENCH_INLINE apr_pool_t *
region_apr(struct peer_region *region)
{
	return (apr_pool_t *)(void *)region;
}

static apr_status_t
region_apr_cleanup(void *object)
{
	region_cleanup(object);
	return APR_SUCCESS;
}

static BENCH_INLINE struct peer_region *
peer_region_open(unsigned load)
{
	apr_pool_t *pool;

	(void)load;
	if (!BENCH_LIKELY(region_parent != NULL))
		region_apr_start();
	if (apr_pool_create(&pool, region_parent) != APR_SUCCESS)
		return NULL;
	return (struct peer_region *)(void *)pool;
}

static BENCH_INLINE void *
peer_region_alloc(struct peer_region *region, size_t bytes)
{
	return apr_palloc(region_apr(region), bytes);
}

static BENCH_INLINE void
peer_region_cleanup(struct peer_region *region, void *object)
{
	apr_pool_cleanup_register(region_apr(region), object,
	    region_apr_cleanup, apr_pool_cleanup_null);
}

static BENCH_INLINE void
peer_region_reset(struct peer_region *region, void *last)
{
	(void)last;
	apr_pool_clear(region_apr(region));
}

static BENCH_INLINE void
peer_region_close(struct peer_region *region, void *last)
{
	(void)last;
	apr_pool_destroy(region_apr(region));
}

#endif /* BENCH_REGION_REGION_APR_H */
