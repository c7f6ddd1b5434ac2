/* SPDX-License-Identifier: MIT */
/*
 * debug.h - what programs compiled for APR's debugging call.
 *
 * Part of weir/compat/apr_pools.h, which includes it where its functions are
 * compiled.
 */
#ifndef WEIR_COMPAT_APR_POOLS_DEBUG_H
#define WEIR_COMPAT_APR_POOLS_DEBUG_H

#ifdef APR_POOLS_H

void *
apr_palloc_debug(apr_pool_t *pool, apr_size_t size, const char *where)
{
	(void)where;
	return apr_palloc(pool, size);
}

void *
apr_pcalloc_debug(apr_pool_t *pool, apr_size_t size, const char *where)
{
	(void)where;
	return apr_pcalloc(pool, size);
}

void
apr_pool_clear_debug(apr_pool_t *pool, const char *where)
{
	(void)where;
	apr_pool_clear(pool);
}

void
apr_pool_destroy_debug(apr_pool_t *pool, const char *where)
{
	(void)where;
	apr_pool_destroy(pool);
}

WEIR_NOINLINE apr_status_t
apr_pool_create_ex_debug(apr_pool_t **newpool, apr_pool_t *parent,
    apr_abortfunc_t abort_fn, apr_allocator_t *allocator, const char *where)
{
	(void)where;
	return weir_apr_create_below(
	    newpool, parent, abort_fn, allocator, WEIR_CALLER());
}

WEIR_NOINLINE apr_status_t
apr_pool_create_core_ex_debug(apr_pool_t **newpool, apr_abortfunc_t abort_fn,
    apr_allocator_t *allocator, const char *where)
{
	(void)where;
	return weir_apr_create_unmanaged(
	    newpool, abort_fn, allocator, WEIR_CALLER());
}

WEIR_NOINLINE apr_status_t
apr_pool_create_unmanaged_ex_debug(apr_pool_t **newpool,
    apr_abortfunc_t abort_fn, apr_allocator_t *allocator, const char *where)
{
	(void)where;
	return weir_apr_create_unmanaged(
	    newpool, abort_fn, allocator, WEIR_CALLER());
}

#endif /* APR_POOLS_H */

#endif /* WEIR_COMPAT_APR_POOLS_DEBUG_H */
