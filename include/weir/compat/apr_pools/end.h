/* SPDX-License-Identifier: MIT */
/*
 * end.h - pools end, each after those below it.
 *
 * Part of weir/compat/apr_pools.h, which includes it where its functions are
 * compiled.
 */
#ifndef WEIR_COMPAT_APR_POOLS_END_H
#define WEIR_COMPAT_APR_POOLS_END_H

/* A pool without children: everything but its memory ends. */
static void
weir_apr_end(apr_pool_t *pool)
{
	weir_apr_run(&pool->cleanups);
#ifdef APR_POOLS_H
	weir_apr_end_processes(pool->processes);
	pool->processes = NULL;
#endif
	pool->pre_cleanups = NULL;
	pool->spare_cleanups = NULL;
	pool->data = NULL;
}

static void
weir_apr_free(apr_pool_t *pool)
{
	weir_apr_unlink(pool);
	weir_region_destroy(pool->region);
#ifdef APR_POOLS_H
	if (pool->allocator->owner == pool)
		apr_allocator_destroy(pool->allocator);
#endif
	weir_free(pool);
}

/*
 * Ends the pools below, each after its children.  Pre-cleanups run on the way
 * down and may end or make pools below theirs; so may cleanups on the way up,
 * which is why a pool's children are looked at again after them.
 */
static void
weir_apr_end_below(apr_pool_t *top)
{
	apr_pool_t *pool = top;

	weir_apr_run(&pool->pre_cleanups);
	for (;;) {
		apr_pool_t *parent;

		while (pool->child != NULL) {
			pool = pool->child;
			weir_apr_run(&pool->pre_cleanups);
		}
		weir_apr_end(pool);
		if (pool->child != NULL)
			continue;
		if (pool == top)
			return;
		parent = pool->parent;
		weir_apr_free(pool);
		pool = parent;
	}
}

void
apr_pool_clear(apr_pool_t *pool)
{
	weir_apr_end_below(pool);
	weir_region_reset(pool->region);
}

void
apr_pool_destroy(apr_pool_t *pool)
{
	weir_apr_end_below(pool);
	weir_apr_free(pool);
}

apr_status_t
apr_pool_initialize(void)
{
	apr_allocator_t *allocator = NULL;
	apr_status_t status;

	if (weir_apr_started++ != 0)
		return APR_SUCCESS;
#ifdef APR_POOLS_H
	status = apr_allocator_create(&allocator);
	if (status == APR_SUCCESS) {
		status = weir_apr_create(
		    &weir_apr_global, NULL, NULL, allocator, WEIR_CALLER());
		if (status != APR_SUCCESS)
			apr_allocator_destroy(allocator);
	}
#else
	status = weir_apr_create(
	    &weir_apr_global, NULL, NULL, allocator, WEIR_CALLER());
#endif
	if (status != APR_SUCCESS) {
		weir_apr_started = 0;
		return status;
	}
	apr_pool_tag(weir_apr_global, "apr_global_pool");
#ifdef APR_POOLS_H
	/* Mutexes may be made of atomics, which are APR's to start. */
	status = apr_atomic_init(weir_apr_global);
#if APR_HAS_THREADS
	if (status == APR_SUCCESS)
		status = apr_thread_mutex_create(&allocator->mutex,
		    APR_THREAD_MUTEX_DEFAULT, weir_apr_global);
#endif
	apr_allocator_owner_set(allocator, weir_apr_global);
#endif
	return status;
}

void
apr_pool_terminate(void)
{
	apr_pool_t *global = weir_apr_global;

	if (weir_apr_started == 0 || --weir_apr_started != 0)
		return;
	/* Its mutex is one of its own cleanups; nobody may want it now. */
	weir_apr_end_below(global);
	weir_apr_free(global);
	weir_apr_global = NULL;
}

#endif /* WEIR_COMPAT_APR_POOLS_END_H */
