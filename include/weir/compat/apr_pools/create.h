/* SPDX-License-Identifier: MIT */
/*
 * create.h - pools begin, and what is allocated in them.
 *
 * Part of weir/compat/apr_pools.h, which includes it where its functions are
 * compiled.
 */
#ifndef WEIR_COMPAT_APR_POOLS_CREATE_H
#define WEIR_COMPAT_APR_POOLS_CREATE_H

/* ---- the tree --------------------------------------------------------------- */

static void
weir_apr_link(apr_pool_t *pool, apr_pool_t *parent)
{
	weir_apr_lock(parent);
	pool->parent = parent;
	pool->sibling = parent->child;
	if (pool->sibling != NULL)
		pool->sibling->ref = &pool->sibling;
	pool->ref = &parent->child;
	parent->child = pool;
	weir_apr_unlock(parent);
}

static void
weir_apr_unlink(apr_pool_t *pool)
{
	apr_pool_t *parent = pool->parent;

	if (parent == NULL)
		return;
	weir_apr_lock(parent);
	*pool->ref = pool->sibling;
	if (pool->sibling != NULL)
		pool->sibling->ref = pool->ref;
	weir_apr_unlock(parent);
}

static apr_status_t
weir_apr_refused(apr_abortfunc_t abort_fn)
{
	if (abort_fn != NULL)
		abort_fn(APR_ENOMEM);
	return APR_ENOMEM;
}

static apr_status_t
weir_apr_create(apr_pool_t **out, apr_pool_t *parent, apr_abortfunc_t abort_fn,
    apr_allocator_t *allocator, const void *site)
{
	struct weir_region_config config;
	apr_pool_t *pool = (apr_pool_t *)weir_calloc(1, sizeof(*pool));

	*out = NULL;
	if (pool == NULL)
		return weir_apr_refused(abort_fn);
	memset(&config, 0, sizeof(config));
	config.site = site;
	if (weir_region_create(&weir_apr_kind, &config, &pool->region) != 0) {
		weir_free(pool);
		return weir_apr_refused(abort_fn);
	}
	pool->abort_fn = abort_fn;
	pool->allocator = allocator;
	if (parent != NULL)
		weir_apr_link(pool, parent);
	*out = pool;
	return APR_SUCCESS;
}

static apr_status_t
weir_apr_create_below(apr_pool_t **newpool, apr_pool_t *parent,
    apr_abortfunc_t abort_fn, apr_allocator_t *allocator, const void *site)
{
	if (parent == NULL)
		parent = weir_apr_global;
	if (parent != NULL && abort_fn == NULL)
		abort_fn = parent->abort_fn;
	if (parent != NULL && allocator == NULL)
		allocator = parent->allocator;
	return weir_apr_create(newpool, parent, abort_fn, allocator, site);
}

WEIR_NOINLINE apr_status_t
apr_pool_create_ex(apr_pool_t **newpool, apr_pool_t *parent,
    apr_abortfunc_t abort_fn, apr_allocator_t *allocator)
{
	return weir_apr_create_below(
	    newpool, parent, abort_fn, allocator, WEIR_CALLER());
}

static apr_status_t
weir_apr_create_unmanaged(apr_pool_t **newpool, apr_abortfunc_t abort_fn,
    apr_allocator_t *allocator, const void *site)
{
	apr_status_t status;
	apr_allocator_t *own = NULL;

	*newpool = NULL;
#ifdef APR_POOLS_H
	if (allocator == NULL && apr_allocator_create(&own) != APR_SUCCESS)
		return weir_apr_refused(abort_fn);
	if (allocator == NULL)
		allocator = own;
#endif
	status = weir_apr_create(newpool, NULL, abort_fn, allocator, site);
#ifdef APR_POOLS_H
	if (own != NULL && status == APR_SUCCESS)
		apr_allocator_owner_set(own, *newpool);
	else if (own != NULL)
		apr_allocator_destroy(own);
#else
	(void)own;
#endif
	return status;
}

#ifdef apr_pool_create_core_ex
#undef apr_pool_create_core_ex
#endif
apr_status_t apr_pool_create_core_ex(
    apr_pool_t **newpool, apr_abortfunc_t abort_fn, apr_allocator_t *allocator);

WEIR_NOINLINE apr_status_t
apr_pool_create_core_ex(
    apr_pool_t **newpool, apr_abortfunc_t abort_fn, apr_allocator_t *allocator)
{
	return weir_apr_create_unmanaged(
	    newpool, abort_fn, allocator, WEIR_CALLER());
}

WEIR_NOINLINE apr_status_t
apr_pool_create_unmanaged_ex(
    apr_pool_t **newpool, apr_abortfunc_t abort_fn, apr_allocator_t *allocator)
{
	return weir_apr_create_unmanaged(
	    newpool, abort_fn, allocator, WEIR_CALLER());
}

/* ---- memory -------------------------------------------------------------------- */

void *
apr_palloc(apr_pool_t *pool, apr_size_t size)
{
	void *object = weir_region_alloc(pool->region, size);

	if (WEIR_UNLIKELY(object == NULL))
		weir_apr_refused(pool->abort_fn);
	return object;
}

#ifdef APR_POOLS_H
/* A macro there; programs may have been compiled to call a function. */
#undef apr_pcalloc
void *apr_pcalloc(apr_pool_t *pool, apr_size_t size);
#endif

void *
apr_pcalloc(apr_pool_t *pool, apr_size_t size)
{
	void *object = weir_region_alloc_zeroed(pool->region, size);

	if (WEIR_UNLIKELY(object == NULL))
		weir_apr_refused(pool->abort_fn);
	return object;
}

#endif /* WEIR_COMPAT_APR_POOLS_CREATE_H */
