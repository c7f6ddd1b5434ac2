/* SPDX-License-Identifier: MIT */
/*
 * apr_pools.h - the calls of the Apache Portable Runtime's pools, over regions.
 *
 * For code written against apr_pools.h.  Two ways to use it:
 *
 *   - Without APR: include it wherever APR's header was; one file of the
 *     program defines WEIR_COMPAT_IMPLEMENTATION before it does.  What needs
 *     the rest of APR is left out: allocators are NULL, subprocesses and APR's
 *     own formats are not there.
 *   - Inside APR: replace memory/unix/apr_pools.c, and nothing else, by
 *
 *         #include "apr.h"
 *         #include "apr_atomic.h"
 *         #include "apr_general.h"
 *         #include "apr_lib.h"
 *         #include "apr_pools.h"
 *         #include "apr_portable.h"
 *         #include "apr_thread_mutex.h"
 *         #include "apr_thread_proc.h"
 *         #define WEIR_COMPAT_IMPLEMENTATION
 *         #include <weir/compat/apr_pools.h>
 *
 *     and link with weir.  The types are then APR's, and allocators, whose
 *     nodes apr_bucket_alloc() and others want, come from the heap.
 *
 * A pool is a region and its place in the tree.  The tree is walked, not
 * recursed into: no depth of pools needs more stack than another.
 * docs/MIGRATION.md tells what differs from APR.
 */
#ifndef WEIR_COMPAT_APR_POOLS_H
#define WEIR_COMPAT_APR_POOLS_H

#include <weir/heap.h>
#include <weir/region.h>

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#ifdef WEIR_COMPAT_IMPLEMENTATION
#include <pthread.h>
#ifdef APR_POOLS_H
#include <signal.h>
#endif
#endif

WEIR_BEGIN_DECLS

#ifndef APR_POOLS_H

typedef int apr_status_t;
typedef size_t apr_size_t;
typedef struct apr_pool_t apr_pool_t;
typedef struct apr_allocator_t apr_allocator_t; /* NULL is the only one */
typedef int (*apr_abortfunc_t)(int retcode);

#ifndef APR_SUCCESS
#define APR_SUCCESS 0
#define APR_ENOMEM ENOMEM
#define APR_EINVAL EINVAL
#endif

apr_status_t apr_pool_initialize(void);
void apr_pool_terminate(void);

apr_status_t apr_pool_create_ex(apr_pool_t **newpool, apr_pool_t *parent,
    apr_abortfunc_t abort_fn, apr_allocator_t *allocator);
apr_status_t apr_pool_create_unmanaged_ex(
    apr_pool_t **newpool, apr_abortfunc_t abort_fn, apr_allocator_t *allocator);
#define apr_pool_create(newpool, parent) \
	apr_pool_create_ex(newpool, parent, NULL, NULL)
#define apr_pool_create_unmanaged(newpool) \
	apr_pool_create_unmanaged_ex(newpool, NULL, NULL)
#define apr_pool_create_core(newpool) \
	apr_pool_create_unmanaged_ex(newpool, NULL, NULL)
#define apr_pool_create_core_ex(newpool, abort_fn, allocator) \
	apr_pool_create_unmanaged_ex(newpool, abort_fn, allocator)

void apr_pool_clear(apr_pool_t *pool);
void apr_pool_destroy(apr_pool_t *pool);

void *apr_palloc(apr_pool_t *pool, apr_size_t size);
void *apr_pcalloc(apr_pool_t *pool, apr_size_t size);

void apr_pool_abort_set(apr_abortfunc_t abort_fn, apr_pool_t *pool);
apr_abortfunc_t apr_pool_abort_get(apr_pool_t *pool);
apr_pool_t *apr_pool_parent_get(apr_pool_t *pool);
apr_allocator_t *apr_pool_allocator_get(apr_pool_t *pool);
int apr_pool_is_ancestor(apr_pool_t *a, apr_pool_t *b);
void apr_pool_tag(apr_pool_t *pool, const char *tag);

apr_status_t apr_pool_userdata_set(const void *data, const char *key,
    apr_status_t (*cleanup)(void *), apr_pool_t *pool);
apr_status_t apr_pool_userdata_setn(const void *data, const char *key,
    apr_status_t (*cleanup)(void *), apr_pool_t *pool);
apr_status_t apr_pool_userdata_get(
    void **data, const char *key, apr_pool_t *pool);

void apr_pool_cleanup_register(apr_pool_t *pool, const void *data,
    apr_status_t (*plain_cleanup)(void *),
    apr_status_t (*child_cleanup)(void *));
void apr_pool_pre_cleanup_register(
    apr_pool_t *pool, const void *data, apr_status_t (*plain_cleanup)(void *));
void apr_pool_cleanup_kill(
    apr_pool_t *pool, const void *data, apr_status_t (*cleanup)(void *));
void apr_pool_child_cleanup_set(apr_pool_t *pool, const void *data,
    apr_status_t (*plain_cleanup)(void *),
    apr_status_t (*child_cleanup)(void *));
apr_status_t apr_pool_cleanup_run(
    apr_pool_t *pool, void *data, apr_status_t (*cleanup)(void *));
apr_status_t apr_pool_cleanup_null(void *data);
void apr_pool_cleanup_for_exec(void);

/* Of apr_strings.h; inside APR its own are used. */
char *apr_pstrdup(apr_pool_t *pool, const char *string);
char *apr_pstrndup(apr_pool_t *pool, const char *string, apr_size_t bytes);
char *apr_pstrmemdup(apr_pool_t *pool, const char *string, apr_size_t bytes);
void *apr_pmemdup(apr_pool_t *pool, const void *data, apr_size_t bytes);
char *apr_pstrcat(apr_pool_t *pool, ...); /* strings, then NULL */
/* The formats are those of printf(). */
char *apr_psprintf(apr_pool_t *pool, const char *format, ...) WEIR_PRINTF(2, 3);
char *apr_pvsprintf(apr_pool_t *pool, const char *format, va_list arguments)
    WEIR_PRINTF(2, 0);

#endif /* !APR_POOLS_H */

#ifdef WEIR_COMPAT_IMPLEMENTATION

static struct weir_region_kind weir_apr_kind = WEIR_REGION_KIND("apr_pool");

typedef apr_status_t (*weir_apr_cleanup_fn)(void *data);

struct weir_apr_cleanup {
	struct weir_apr_cleanup *next;
	const void *data;
	weir_apr_cleanup_fn plain;
	weir_apr_cleanup_fn child;
};

struct weir_apr_datum {
	struct weir_apr_datum *next;
	const char *key;
	const void *data;
};

/*
 * It keeps its address when the pool is cleared and therefore does not lie in
 * its region, as all it points at does, down to the line.
 */
struct apr_pool_t {
	struct weir_region *region;
	apr_pool_t *parent;
	apr_pool_t *child;   /* the newest */
	apr_pool_t *sibling; /* the next older */
	apr_pool_t **ref;    /* what points here: child or a sibling */
	apr_abortfunc_t abort_fn;
	apr_allocator_t *allocator;
	const char *tag;
	/* ---- gone with a clear ---- */
	struct weir_apr_cleanup *cleanups; /* newest first */
	struct weir_apr_cleanup *pre_cleanups;
	struct weir_apr_cleanup *spare_cleanups;
	struct weir_apr_datum *data;
#ifdef APR_POOLS_H
	struct weir_apr_process *processes;
#endif
};

static apr_pool_t *weir_apr_global;
static unsigned weir_apr_started;

/* ---- allocators: APR's locks, and nodes for those who want them ----------- */

#ifdef APR_POOLS_H

struct apr_allocator_t {
	apr_pool_t *owner;
	apr_thread_mutex_t *mutex;
};

#define WEIR_APR_NODE_ALIGN ((apr_size_t)4096)

apr_status_t
apr_allocator_create(apr_allocator_t **allocator)
{
	*allocator = (apr_allocator_t *)weir_calloc(1, sizeof(**allocator));
	return *allocator != NULL ? APR_SUCCESS : APR_ENOMEM;
}

void
apr_allocator_destroy(apr_allocator_t *allocator)
{
	weir_free(allocator);
}

void
apr_allocator_mutex_set(apr_allocator_t *allocator, apr_thread_mutex_t *mutex)
{
	allocator->mutex = mutex;
}

apr_thread_mutex_t *
apr_allocator_mutex_get(apr_allocator_t *allocator)
{
	return allocator->mutex;
}

void
apr_allocator_owner_set(apr_allocator_t *allocator, apr_pool_t *pool)
{
	allocator->owner = pool;
}

apr_pool_t *
apr_allocator_owner_get(apr_allocator_t *allocator)
{
	return allocator->owner;
}

/* What is kept for later is the heap's to decide, for all pools together. */
void
apr_allocator_max_free_set(apr_allocator_t *allocator, apr_size_t size)
{
	(void)allocator;
	(void)size;
}

/* The whole node, as its users divide it: two pages or more, 0 is too large. */
apr_size_t
apr_allocator_align(apr_allocator_t *allocator, apr_size_t size)
{
	(void)allocator;
	if (size > SIZE_MAX - APR_MEMNODE_T_SIZE - WEIR_APR_NODE_ALIGN)
		return 0;
	size = APR_ALIGN(size + APR_MEMNODE_T_SIZE, WEIR_APR_NODE_ALIGN);
	return size < 2 * WEIR_APR_NODE_ALIGN ? 2 * WEIR_APR_NODE_ALIGN : size;
}

apr_memnode_t *
apr_allocator_alloc(apr_allocator_t *allocator, apr_size_t size)
{
	apr_size_t bytes = apr_allocator_align(allocator, size);
	apr_memnode_t *node =
	    bytes == 0 ? NULL : (apr_memnode_t *)weir_alloc(bytes);

	if (node == NULL)
		return NULL;
	node->next = NULL;
	node->ref = NULL;
	node->index = (apr_uint32_t)(bytes / WEIR_APR_NODE_ALIGN - 1);
	node->free_index = 0;
	node->first_avail = (char *)node + APR_MEMNODE_T_SIZE;
	node->endp = (char *)node + bytes;
	return node;
}

/* A list of them. */
void
apr_allocator_free(apr_allocator_t *allocator, apr_memnode_t *node)
{
	(void)allocator;
	while (node != NULL) {
		apr_memnode_t *next = node->next;

		weir_free(node);
		node = next;
	}
}

/* Of the children of a pool: as APR, where its allocator has one. */
static void
weir_apr_lock(apr_pool_t *parent)
{
	if (parent->allocator->mutex != NULL)
		apr_thread_mutex_lock(parent->allocator->mutex);
}

static void
weir_apr_unlock(apr_pool_t *parent)
{
	if (parent->allocator->mutex != NULL)
		apr_thread_mutex_unlock(parent->allocator->mutex);
}

#else /* !APR_POOLS_H */

static pthread_mutex_t weir_apr_mutex = PTHREAD_MUTEX_INITIALIZER;

/* Only the children of the global pool are made by several threads. */
static void
weir_apr_lock(apr_pool_t *parent)
{
	if (parent == weir_apr_global)
		pthread_mutex_lock(&weir_apr_mutex);
}

static void
weir_apr_unlock(apr_pool_t *parent)
{
	if (parent == weir_apr_global)
		pthread_mutex_unlock(&weir_apr_mutex);
}

#endif /* !APR_POOLS_H */

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

/* ---- cleanups ------------------------------------------------------------------ */

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

/* ---- subprocesses -------------------------------------------------------------- */

#ifdef APR_POOLS_H

#define WEIR_APR_PATIENCE_US (3 * 1000 * 1000) /* from SIGTERM to SIGKILL */
#define WEIR_APR_LOOK_US (WEIR_APR_PATIENCE_US / 64)

struct weir_apr_process {
	struct weir_apr_process *next;
	apr_proc_t *process;
	apr_kill_conditions_e how;
};

void
apr_pool_note_subprocess(
    apr_pool_t *pool, apr_proc_t *process, apr_kill_conditions_e how)
{
	struct weir_apr_process *noted =
	    (struct weir_apr_process *)apr_palloc(pool, sizeof(*noted));

	if (noted == NULL)
		return;
	noted->process = process;
	noted->how = how;
	noted->next = pool->processes;
	pool->processes = noted;
}

/* Those that ended need nothing more; true if one of the patient ones runs. */
static bool
weir_apr_reap(struct weir_apr_process *list, bool all)
{
	bool waits = false;

	for (; list != NULL; list = list->next) {
		if (!all && list->how != APR_KILL_AFTER_TIMEOUT)
			continue;
		if (apr_proc_wait(list->process, NULL, NULL, APR_NOWAIT) !=
		    APR_CHILD_NOTDONE)
			list->how = APR_KILL_NEVER;
		else
			waits = true;
	}
	return waits;
}

static bool
weir_apr_terminate(struct weir_apr_process *list)
{
	bool waits = false;

	for (; list != NULL; list = list->next) {
		if (list->how == APR_KILL_ALWAYS)
			apr_proc_kill(list->process, SIGKILL);
		else if (list->how == APR_KILL_AFTER_TIMEOUT ||
			 list->how == APR_KILL_ONLY_ONCE)
			waits |= apr_proc_kill(list->process, SIGTERM) ==
				 APR_SUCCESS;
	}
	return waits;
}

static void
weir_apr_end_processes(struct weir_apr_process *list)
{
	apr_interval_time_t pause = WEIR_APR_LOOK_US;
	bool waits;

	if (list == NULL)
		return;
	weir_apr_reap(list, true);
	waits = weir_apr_terminate(list);
	if (waits)
		apr_sleep(pause);
	while (waits && weir_apr_reap(list, false) &&
	       pause < WEIR_APR_PATIENCE_US) {
		apr_sleep(pause);
		pause *= 2;
	}
	for (struct weir_apr_process *each = list; each != NULL;
	     each = each->next)
		if (each->how == APR_KILL_AFTER_TIMEOUT)
			apr_proc_kill(each->process, SIGKILL);
	for (struct weir_apr_process *each = list; each != NULL;
	     each = each->next)
		if (each->how != APR_KILL_NEVER)
			(void)apr_proc_wait(
			    each->process, NULL, NULL, APR_WAIT);
}

#endif /* APR_POOLS_H */

/* ---- the end ---------------------------------------------------------------------- */

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

/* ---- what is known of a pool ------------------------------------------------------ */

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

/* ---- strings ------------------------------------------------------------------------- */

#ifdef APR_POOLS_H

#define WEIR_APR_TEXT_BYTES 512

/* Text of any length in the making: first in @start, then in the pool. */
struct weir_apr_text {
	apr_vformatter_buff_t buffer; /* curpos, endpos: room for a NUL after */
	apr_pool_t *pool;
	char *text;
	size_t room;
	char start[WEIR_APR_TEXT_BYTES];
};

static int
weir_apr_text_grow(apr_vformatter_buff_t *buffer)
{
	struct weir_apr_text *text = (struct weir_apr_text *)(void *)buffer;
	size_t used = (size_t)(buffer->curpos - text->text);
	char *more = (char *)apr_palloc(text->pool, 2 * text->room);

	if (more == NULL)
		return -1;
	memcpy(more, text->text, used);
	text->text = more;
	text->room *= 2;
	buffer->curpos = more + used;
	buffer->endpos = more + text->room - 1;
	return 0;
}

char *
apr_pvsprintf(apr_pool_t *pool, const char *format, va_list arguments)
{
	struct weir_apr_text text;

	text.pool = pool;
	text.text = text.start;
	text.room = sizeof(text.start);
	text.buffer.curpos = text.start;
	text.buffer.endpos = text.start + text.room - 1;
	if (apr_vformatter(
		weir_apr_text_grow, &text.buffer, format, arguments) == -1)
		return NULL;
	*text.buffer.curpos = '\0';
	if (text.text != text.start)
		return text.text;
	size_t bytes = (size_t)(text.buffer.curpos - text.start) + 1;
	char *copy = (char *)apr_palloc(pool, bytes);
	return copy == NULL ? NULL : (char *)memcpy(copy, text.start, bytes);
}

#else /* !APR_POOLS_H */

static void *
weir_apr_checked(apr_pool_t *pool, void *object)
{
	if (object == NULL)
		weir_apr_refused(pool->abort_fn);
	return object;
}

char *
apr_pstrdup(apr_pool_t *pool, const char *string)
{
	if (string == NULL)
		return NULL;
	return (char *)weir_apr_checked(
	    pool, weir_region_strdup(pool->region, string));
}

char *
apr_pstrndup(apr_pool_t *pool, const char *string, apr_size_t bytes)
{
	if (string == NULL)
		return NULL;
	return (char *)weir_apr_checked(
	    pool, weir_region_strndup(pool->region, string, bytes));
}

void *
apr_pmemdup(apr_pool_t *pool, const void *data, apr_size_t bytes)
{
	if (data == NULL)
		return NULL;
	return weir_apr_checked(
	    pool, weir_region_memdup(pool->region, data, bytes));
}

/* All the bytes, a NUL among them or not, and one NUL more. */
char *
apr_pstrmemdup(apr_pool_t *pool, const char *string, apr_size_t bytes)
{
	char *copy;

	if (string == NULL)
		return NULL;
	copy = bytes == SIZE_MAX ? NULL : (char *)apr_palloc(pool, bytes + 1);
	if (copy == NULL)
		return NULL;
	memcpy(copy, string, bytes);
	copy[bytes] = '\0';
	return copy;
}

char *
apr_pstrcat(apr_pool_t *pool, ...)
{
	va_list arguments;
	size_t bytes = 1;
	const char *part;
	char *text;

	va_start(arguments, pool);
	while ((part = va_arg(arguments, const char *)) != NULL)
		bytes += strlen(part);
	va_end(arguments);
	text = (char *)apr_palloc(pool, bytes);
	if (text == NULL)
		return NULL;
	char *at = text;
	va_start(arguments, pool);
	while ((part = va_arg(arguments, const char *)) != NULL) {
		size_t length = strlen(part);

		memcpy(at, part, length);
		at += length;
	}
	va_end(arguments);
	*at = '\0';
	return text;
}

char *
apr_pvsprintf(apr_pool_t *pool, const char *format, va_list arguments)
{
	return (char *)weir_apr_checked(
	    pool, weir_region_vprintf(pool->region, format, arguments));
}

#endif /* !APR_POOLS_H */

char *
apr_psprintf(apr_pool_t *pool, const char *format, ...)
{
	va_list arguments;
	char *text;

	va_start(arguments, format);
	text = apr_pvsprintf(pool, format, arguments);
	va_end(arguments);
	return text;
}

/* ---- what programs compiled for APR's debugging call ------------------------------- */

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

#endif /* WEIR_COMPAT_IMPLEMENTATION */

WEIR_END_DECLS

#endif /* WEIR_COMPAT_APR_POOLS_H */
