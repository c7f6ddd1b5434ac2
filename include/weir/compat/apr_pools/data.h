/* SPDX-License-Identifier: MIT */
/*
 * data.h - what is known of a pool, and what programs keep with one.
 *
 * Part of weir/compat/apr_pools.h, which includes it where its functions are
 * compiled.
 */
#ifndef WEIR_COMPAT_APR_POOLS_DATA_H
#define WEIR_COMPAT_APR_POOLS_DATA_H

#ifdef apr_pool_abort_set
#undef apr_pool_abort_set
#endif
void
apr_pool_abort_set(apr_abortfunc_t abort_fn, apr_pool_t *pool)
{
	pool->abort_fn = abort_fn;
}

apr_abortfunc_t
apr_pool_abort_get(apr_pool_t *pool)
{
	return pool->abort_fn;
}

apr_pool_t *
apr_pool_parent_get(apr_pool_t *pool)
{
	return pool->parent;
}

apr_allocator_t *
apr_pool_allocator_get(apr_pool_t *pool)
{
	return pool->allocator;
}

/* NULL stands for the global pool, the ancestor of all. */
int
apr_pool_is_ancestor(apr_pool_t *a, apr_pool_t *b)
{
	if (a == NULL)
		return 1;
	while (b != NULL && b != a)
		b = b->parent;
	return b != NULL;
}

void
apr_pool_tag(apr_pool_t *pool, const char *tag)
{
	pool->tag = tag;
	/* Of too many different ones the rest keep the kind's name. */
	(void)weir_region_rename(pool->region, tag);
}

/* ---- user data --------------------------------------------------------------------- */

static struct weir_apr_datum *
weir_apr_datum_find(apr_pool_t *pool, const char *key)
{
	struct weir_apr_datum *datum = pool->data;

	while (datum != NULL && strcmp(datum->key, key) != 0)
		datum = datum->next;
	return datum;
}

static apr_status_t
weir_apr_put(apr_pool_t *pool, const char *key, bool copy, const void *data,
    weir_apr_cleanup_fn cleanup)
{
	struct weir_apr_datum *datum = weir_apr_datum_find(pool, key);

	if (datum == NULL) {
		datum =
		    (struct weir_apr_datum *)apr_palloc(pool, sizeof(*datum));
		if (datum == NULL)
			return APR_ENOMEM;
		datum->key = copy ? weir_region_strdup(pool->region, key) : key;
		if (datum->key == NULL)
			return weir_apr_refused(pool->abort_fn);
		datum->next = pool->data;
		pool->data = datum;
	}
	datum->data = data;
	if (cleanup != NULL)
		apr_pool_cleanup_register(pool, data, cleanup, cleanup);
	return APR_SUCCESS;
}

apr_status_t
apr_pool_userdata_set(const void *data, const char *key,
    weir_apr_cleanup_fn cleanup, apr_pool_t *pool)
{
	return weir_apr_put(pool, key, true, data, cleanup);
}

apr_status_t
apr_pool_userdata_setn(const void *data, const char *key,
    weir_apr_cleanup_fn cleanup, apr_pool_t *pool)
{
	return weir_apr_put(pool, key, false, data, cleanup);
}

apr_status_t
apr_pool_userdata_get(void **data, const char *key, apr_pool_t *pool)
{
	struct weir_apr_datum *datum = weir_apr_datum_find(pool, key);

	*data = datum != NULL ? weir_apr_plain(datum->data) : NULL;
	return APR_SUCCESS;
}

#endif /* WEIR_COMPAT_APR_POOLS_DATA_H */
