/* SPDX-License-Identifier: MIT */
/*
 * peer_nginx.c - nginx's pools, compiled from its own src/core/ngx_palloc.c;
 * BENCH_POOL_BYTES is the size of a pool's blocks.  16 KiB is nginx's default
 * for cycles, 4 KiB that of requests.
 */
#include "../object/harness.h"

#include <ngx_config.h>
#include <ngx_core.h>

#include "region.h"

#define PEER_NAME BENCH_PEER
#define PEER_HAS_REGIONS
#define PEER_REGIONS_ONLY

#define peer_region ngx_pool_s

static ngx_log_t region_log;

/* What the pool's two files want of the rest of nginx. */
void
ngx_log_error_core(
    ngx_uint_t level, ngx_log_t *log, ngx_err_t error, const char *format, ...)
{
	(void)level;
	(void)log;
	bench_fail("nginx: %s (%s)", format, strerror(error));
}

static void
peer_begin(void)
{
	ngx_pagesize = (ngx_uint_t)getpagesize();
}

static const char *
peer_version(void)
{
	return NGINX_VERSION;
}

static BENCH_INLINE struct peer_region *
peer_region_open(unsigned load)
{
	(void)load;
	return ngx_create_pool(BENCH_POOL_BYTES, &region_log);
}

static BENCH_INLINE void *
peer_region_alloc(struct peer_region *region, size_t bytes)
{
	return ngx_palloc(region, bytes);
}

static BENCH_INLINE void
peer_region_cleanup(struct peer_region *region, void *object)
{
	ngx_pool_cleanup_t *cleanup =
	    (ngx_pool_cleanup_t *)bench_check(ngx_pool_cleanup_add(region, 0));

	cleanup->handler = region_cleanup;
	cleanup->data = object;
}

/* ngx_reset_pool() forgets the cleanups; whoever has some runs them first. */
static BENCH_INLINE void
peer_region_reset(struct peer_region *region, void *last)
{
	(void)last;
	for (ngx_pool_cleanup_t *cleanup = region->cleanup; cleanup != NULL;
	     cleanup = cleanup->next)
		cleanup->handler(cleanup->data);
	region->cleanup = NULL;
	ngx_reset_pool(region);
}

static BENCH_INLINE void
peer_region_close(struct peer_region *region, void *last)
{
	(void)last;
	ngx_destroy_pool(region);
}

#include "../object/worker.h"
