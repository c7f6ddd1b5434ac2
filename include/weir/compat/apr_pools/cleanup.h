/* SPDX-License-Identifier: MIT */
/*
 * cleanup.h - cleanups: registered, taken back, run.
 *
 * Part of weir/compat/apr_pools.h, which includes it where its functions are
 * compiled.
 */
#ifndef WEIR_COMPAT_APR_POOLS_CLEANUP_H
#define WEIR_COMPAT_APR_POOLS_CLEANUP_H

apr_status_t
apr_pool_cleanup_null(void *data)
{
	(void)data;
	return APR_SUCCESS;
}

static struct weir_apr_cleanup *
weir_apr_cleanup_take(apr_pool_t *pool, const void *data,
    weir_apr_cleanup_fn plain, weir_apr_cleanup_fn child)
{
	struct weir_apr_cleanup *cleanup = pool->spare_cleanups;

	if (cleanup != NULL)
		pool->spare_cleanups = cleanup->next;
	else
		cleanup = (struct weir_apr_cleanup *)apr_palloc(
		    pool, sizeof(*cleanup));
	if (cleanup == NULL)
		return NULL;
	cleanup->data = data;
	cleanup->plain = plain;
	cleanup->child = child;
	return cleanup;
}

void
apr_pool_cleanup_register(apr_pool_t *pool, const void *data,
    weir_apr_cleanup_fn plain_cleanup, weir_apr_cleanup_fn child_cleanup)
{
	struct weir_apr_cleanup *cleanup;

	if (pool == NULL)
		return;
	cleanup =
	    weir_apr_cleanup_take(pool, data, plain_cleanup, child_cleanup);
	if (cleanup == NULL)
		return; /* the abort function was told */
	cleanup->next = pool->cleanups;
	pool->cleanups = cleanup;
}

void
apr_pool_pre_cleanup_register(
    apr_pool_t *pool, const void *data, weir_apr_cleanup_fn plain_cleanup)
{
	struct weir_apr_cleanup *cleanup;

	if (pool == NULL)
		return;
	cleanup = weir_apr_cleanup_take(
	    pool, data, plain_cleanup, apr_pool_cleanup_null);
	if (cleanup == NULL)
		return;
	cleanup->next = pool->pre_cleanups;
	pool->pre_cleanups = cleanup;
}

static struct weir_apr_cleanup **
weir_apr_find(
    struct weir_apr_cleanup **at, const void *data, weir_apr_cleanup_fn plain)
{
	while (*at != NULL && ((*at)->data != data || (*at)->plain != plain))
		at = &(*at)->next;
	return at;
}

static void
weir_apr_kill(apr_pool_t *pool, struct weir_apr_cleanup **at)
{
	struct weir_apr_cleanup *cleanup = *at;

	if (cleanup == NULL)
		return;
	*at = cleanup->next;
	cleanup->next = pool->spare_cleanups;
	pool->spare_cleanups = cleanup;
}

void
apr_pool_cleanup_kill(
    apr_pool_t *pool, const void *data, weir_apr_cleanup_fn cleanup)
{
	if (pool == NULL)
		return;
	weir_apr_kill(pool, weir_apr_find(&pool->cleanups, data, cleanup));
	/* One that is in both lists is taken out of both, as in APR. */
	weir_apr_kill(pool, weir_apr_find(&pool->pre_cleanups, data, cleanup));
}

void
apr_pool_child_cleanup_set(apr_pool_t *pool, const void *data,
    weir_apr_cleanup_fn plain_cleanup, weir_apr_cleanup_fn child_cleanup)
{
	struct weir_apr_cleanup **at;

	if (pool == NULL)
		return;
	at = weir_apr_find(&pool->cleanups, data, plain_cleanup);
	if (*at != NULL)
		(*at)->child = child_cleanup;
}

apr_status_t
apr_pool_cleanup_run(apr_pool_t *pool, void *data, weir_apr_cleanup_fn cleanup)
{
	apr_pool_cleanup_kill(pool, data, cleanup);
	return cleanup(data);
}

/* The data is the program's; APR promises to hand it out as it came. */
static void *
weir_apr_plain(const void *data)
{
	return (void *)(uintptr_t)data;
}

/* Those that are added meanwhile run as well, being the newest. */
static void
weir_apr_run(struct weir_apr_cleanup **list)
{
	while (*list != NULL) {
		struct weir_apr_cleanup *cleanup = *list;

		*list = cleanup->next;
		cleanup->plain(weir_apr_plain(cleanup->data));
	}
}

static void
weir_apr_run_child(apr_pool_t *pool)
{
	while (pool->cleanups != NULL) {
		struct weir_apr_cleanup *cleanup = pool->cleanups;

		pool->cleanups = cleanup->next;
		cleanup->child(weir_apr_plain(cleanup->data));
	}
}

/* In a forked child, before exec(): every pool's, parents first. */
void
apr_pool_cleanup_for_exec(void)
{
	apr_pool_t *pool = weir_apr_global;

	while (pool != NULL) {
		weir_apr_run_child(pool);
		if (pool->child != NULL) {
			pool = pool->child;
			continue;
		}
		while (pool != weir_apr_global && pool->sibling == NULL)
			pool = pool->parent;
		pool = pool == weir_apr_global ? NULL : pool->sibling;
	}
}

#endif /* WEIR_COMPAT_APR_POOLS_CLEANUP_H */
