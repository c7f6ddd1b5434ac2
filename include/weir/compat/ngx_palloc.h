/* SPDX-License-Identifier: MIT */
/*
 * ngx_palloc.h - the calls of nginx's pools, over regions.
 *
 * For code written against nginx's src/core/ngx_palloc.h.  Two ways to use it:
 *
 *   - Outside nginx: include it wherever nginx's header was; one file of the
 *     program defines WEIR_COMPAT_IMPLEMENTATION before it does.
 *   - Inside nginx: replace src/core/ngx_palloc.c, and nothing else, by
 *
 *         #include <ngx_config.h>
 *         #include <ngx_core.h>
 *         #define WEIR_COMPAT_IMPLEMENTATION
 *         #include <weir/compat/ngx_palloc.h>
 *
 *     and link with weir.  The types are then nginx's own.
 *
 * Small objects come from a region, whose first block has the size of the pool;
 * what is above pool->max from the heap, so that ngx_pfree() gives it back.
 * docs/MIGRATION.md tells what differs from nginx.
 */
#ifndef WEIR_COMPAT_NGX_PALLOC_H
#define WEIR_COMPAT_NGX_PALLOC_H

#include <weir/heap.h>
#include <weir/region.h>

#include <stddef.h>
#include <stdint.h>

#ifdef WEIR_COMPAT_IMPLEMENTATION
#include <errno.h>
#include <string.h>
#include <unistd.h>
#endif

WEIR_BEGIN_DECLS

#ifndef _NGX_CORE_H_INCLUDED_

typedef intptr_t ngx_int_t;
typedef uintptr_t ngx_uint_t;
typedef int ngx_fd_t;
typedef unsigned char u_char; /* as <sys/types.h>, where a standard hides it */
typedef struct ngx_pool_s ngx_pool_t;
typedef struct ngx_log_s ngx_log_t;     /* never looked into */
typedef struct ngx_chain_s ngx_chain_t; /* likewise */

#ifndef NGX_OK
#define NGX_OK 0
#define NGX_ERROR -1
#define NGX_DECLINED -5
#endif

#define NGX_MAX_ALLOC_FROM_POOL ((size_t)4095)
#define NGX_DEFAULT_POOL_SIZE ((size_t)16 * 1024)
#define NGX_POOL_ALIGNMENT 16
/* As nginx computes it: a pool and two nodes of large objects. */
#define NGX_MIN_POOL_SIZE                                     \
	((sizeof(ngx_pool_t) + 2 * sizeof(ngx_pool_large_t) + \
	     NGX_POOL_ALIGNMENT - 1) /                        \
	    NGX_POOL_ALIGNMENT * NGX_POOL_ALIGNMENT)

typedef void (*ngx_pool_cleanup_pt)(void *data);

typedef struct ngx_pool_cleanup_s ngx_pool_cleanup_t;

struct ngx_pool_cleanup_s {
	ngx_pool_cleanup_pt handler;
	void *data;
	ngx_pool_cleanup_t *next;
};

typedef struct ngx_pool_large_s ngx_pool_large_t;

struct ngx_pool_large_s {
	ngx_pool_large_t *next;
	void *alloc;
};

typedef struct {
	unsigned char *last;
	unsigned char *end;
	ngx_pool_t *next;
	ngx_uint_t failed;
} ngx_pool_data_t;

struct ngx_pool_s {
	ngx_pool_data_t d; /* last and end are NULL: no room to look at */
	size_t max;
	ngx_pool_t *current;
	ngx_chain_t *chain;
	ngx_pool_large_t *large;
	ngx_pool_cleanup_t *cleanup;
	ngx_log_t *log;
};

typedef struct {
	ngx_fd_t fd;
	unsigned char *name;
	ngx_log_t *log;
} ngx_pool_cleanup_file_t;

ngx_pool_t *ngx_create_pool(size_t size, ngx_log_t *log);
void ngx_destroy_pool(ngx_pool_t *pool);
void ngx_reset_pool(ngx_pool_t *pool);

void *ngx_palloc(ngx_pool_t *pool, size_t size);
void *ngx_pnalloc(ngx_pool_t *pool, size_t size);
void *ngx_pcalloc(ngx_pool_t *pool, size_t size);
void *ngx_pmemalign(ngx_pool_t *pool, size_t size, size_t alignment);
ngx_int_t ngx_pfree(ngx_pool_t *pool, void *p);

ngx_pool_cleanup_t *ngx_pool_cleanup_add(ngx_pool_t *p, size_t size);
void ngx_pool_run_cleanup_file(ngx_pool_t *p, ngx_fd_t fd);
void ngx_pool_cleanup_file(void *data);
void ngx_pool_delete_file(void *data);

#endif /* !_NGX_CORE_H_INCLUDED_ */

#ifdef WEIR_COMPAT_IMPLEMENTATION

#ifdef _NGX_CORE_H_INCLUDED_
#define WEIR_NGX_LOG(level, log, error, ...) \
	ngx_log_error(level, log, error, __VA_ARGS__)
#else
/* The log is the program's: what fails here is told by the result alone. */
#define WEIR_NGX_LOG(level, log, error, ...) ((void)(log), (void)(error))
#endif

static struct weir_region_kind weir_ngx_kind = WEIR_REGION_KIND("ngx_pool");

/*
 * The program sees a pool, which keeps its address when its region is reset and
 * therefore does not lie in it.
 */
struct weir_ngx_pool {
	ngx_pool_t pool;
	struct weir_region *region;
};

static struct weir_region *
weir_ngx_region(ngx_pool_t *pool)
{
	return ((struct weir_ngx_pool *)(void *)pool)->region;
}

WEIR_NOINLINE ngx_pool_t *
ngx_create_pool(size_t size, ngx_log_t *log)
{
	struct weir_region_config config;
	struct weir_ngx_pool *made =
	    (struct weir_ngx_pool *)weir_calloc(1, sizeof(*made));
	int error;

	if (made == NULL)
		return NULL;
	memset(&config, 0, sizeof(config));
	config.first_bytes =
	    size < WEIR_REGION_FIRST_MAX ? size : WEIR_REGION_FIRST_MAX;
	if (config.first_bytes < WEIR_REGION_BLOCK_MIN)
		config.first_bytes = WEIR_REGION_BLOCK_MIN;
	config.site = WEIR_CALLER();
	error = weir_region_create(&weir_ngx_kind, &config, &made->region);
	if (error != 0) {
		WEIR_NGX_LOG(NGX_LOG_EMERG, log, -error,
		    "weir_region_create() of %uz bytes failed", size);
		weir_free(made);
		return NULL;
	}
	/* A size below that of a pool wraps in nginx. */
	made->pool.max = size > sizeof(ngx_pool_t) ? size - sizeof(ngx_pool_t)
						   : sizeof(ngx_pool_t);
	if (made->pool.max > NGX_MAX_ALLOC_FROM_POOL)
		made->pool.max = NGX_MAX_ALLOC_FROM_POOL;
	made->pool.current = &made->pool;
	made->pool.log = log;
	return &made->pool;
}

/* Newest first; one that is added meanwhile is not found, as in nginx. */
static void
weir_ngx_run(ngx_pool_t *pool)
{
	for (ngx_pool_cleanup_t *cleanup = pool->cleanup; cleanup != NULL;
	     cleanup = cleanup->next)
		if (cleanup->handler != NULL)
			cleanup->handler(cleanup->data);
	pool->cleanup = NULL;
}

static void
weir_ngx_free_large(ngx_pool_t *pool)
{
	for (ngx_pool_large_t *large = pool->large; large != NULL;
	     large = large->next)
		weir_free(large->alloc);
	pool->large = NULL;
}

void
ngx_destroy_pool(ngx_pool_t *pool)
{
	weir_ngx_run(pool);
	weir_ngx_free_large(pool);
	weir_region_destroy(weir_ngx_region(pool));
	weir_free(pool);
}

void
ngx_reset_pool(ngx_pool_t *pool)
{
	weir_ngx_run(pool);
	weir_ngx_free_large(pool);
	weir_region_reset(weir_ngx_region(pool));
	pool->current = pool;
	pool->chain = NULL;
}

/* Takes over what the heap gave, or gives it back. */
static void *
weir_ngx_keep(ngx_pool_t *pool, size_t size, void *object)
{
	ngx_pool_large_t *large = pool->large;
	int tried = 0;

	if (object == NULL) {
		WEIR_NGX_LOG(NGX_LOG_EMERG, pool->log, ENOMEM,
		    "no memory for %uz bytes", size);
		return NULL;
	}
	(void)size;
	/* Nodes of objects that were freed, as far as they are near. */
	for (; large != NULL && tried < 4; large = large->next, tried++)
		if (large->alloc == NULL) {
			large->alloc = object;
			return object;
		}
	large = (ngx_pool_large_t *)weir_region_alloc(
	    weir_ngx_region(pool), sizeof(*large));
	if (large == NULL) {
		weir_free(object);
		return NULL;
	}
	large->alloc = object;
	large->next = pool->large;
	pool->large = large;
	return object;
}

void *
ngx_palloc(ngx_pool_t *pool, size_t size)
{
	if (size <= pool->max)
		return weir_region_alloc(weir_ngx_region(pool), size);
	return weir_ngx_keep(pool, size, weir_alloc(size));
}

void *
ngx_pnalloc(ngx_pool_t *pool, size_t size)
{
	return ngx_palloc(pool, size);
}

void *
ngx_pcalloc(ngx_pool_t *pool, size_t size)
{
	void *object;

	if (size > pool->max)
		return weir_ngx_keep(pool, size, weir_calloc(1, size));
	object = weir_region_alloc(weir_ngx_region(pool), size);
	if (object != NULL)
		memset(object, 0, size);
	return object;
}

void *
ngx_pmemalign(ngx_pool_t *pool, size_t size, size_t alignment)
{
	return weir_ngx_keep(pool, size, weir_aligned(alignment, size));
}

ngx_int_t
ngx_pfree(ngx_pool_t *pool, void *p)
{
	/* A freed node has no object: NULL would find it. */
	if (p == NULL)
		return NGX_DECLINED;
	for (ngx_pool_large_t *large = pool->large; large != NULL;
	     large = large->next)
		if (large->alloc == p) {
			weir_free(p);
			large->alloc = NULL;
			return NGX_OK;
		}
	return NGX_DECLINED;
}

ngx_pool_cleanup_t *
ngx_pool_cleanup_add(ngx_pool_t *p, size_t size)
{
	ngx_pool_cleanup_t *cleanup =
	    (ngx_pool_cleanup_t *)ngx_palloc(p, sizeof(*cleanup));

	if (cleanup == NULL)
		return NULL;
	cleanup->handler = NULL;
	cleanup->data = NULL;
	if (size != 0) {
		cleanup->data = ngx_palloc(p, size);
		if (cleanup->data == NULL)
			return NULL;
	}
	cleanup->next = p->cleanup;
	p->cleanup = cleanup;
	return cleanup;
}

void
ngx_pool_run_cleanup_file(ngx_pool_t *p, ngx_fd_t fd)
{
	for (ngx_pool_cleanup_t *cleanup = p->cleanup; cleanup != NULL;
	     cleanup = cleanup->next) {
		if (cleanup->handler != ngx_pool_cleanup_file)
			continue;
		if (((ngx_pool_cleanup_file_t *)cleanup->data)->fd != fd)
			continue;
		cleanup->handler(cleanup->data);
		cleanup->handler = NULL;
		return;
	}
}

void
ngx_pool_cleanup_file(void *data)
{
	ngx_pool_cleanup_file_t *file = (ngx_pool_cleanup_file_t *)data;

	if (close(file->fd) != 0)
		WEIR_NGX_LOG(NGX_LOG_ALERT, file->log, errno,
		    "close() \"%s\" failed", file->name);
}

void
ngx_pool_delete_file(void *data)
{
	ngx_pool_cleanup_file_t *file = (ngx_pool_cleanup_file_t *)data;

	if (unlink((const char *)file->name) != 0 && errno != ENOENT)
		WEIR_NGX_LOG(NGX_LOG_CRIT, file->log, errno,
		    "unlink() \"%s\" failed", file->name);
	ngx_pool_cleanup_file(data);
}

#undef WEIR_NGX_LOG

#endif /* WEIR_COMPAT_IMPLEMENTATION */

WEIR_END_DECLS

#endif /* WEIR_COMPAT_NGX_PALLOC_H */
