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
/* As where APR is not made to look for errors. */
#define apr_pool_join(pool, below)
#define apr_pool_lock(pool, flag)

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
#include <weir/compat/apr_pools/types.h>
#include <weir/compat/apr_pools/allocator.h>
#include <weir/compat/apr_pools/create.h>
#include <weir/compat/apr_pools/cleanup.h>
#include <weir/compat/apr_pools/process.h>
#include <weir/compat/apr_pools/end.h>
#include <weir/compat/apr_pools/data.h>
#include <weir/compat/apr_pools/text.h>
#include <weir/compat/apr_pools/debug.h>
#endif

WEIR_END_DECLS

#endif /* WEIR_COMPAT_APR_POOLS_H */
