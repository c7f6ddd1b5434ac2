/* SPDX-License-Identifier: MIT */
/*
 * types.h - what a pool is made of.
 *
 * Part of weir/compat/apr_pools.h, which includes it where its functions are
 * compiled.
 */
#ifndef WEIR_COMPAT_APR_POOLS_TYPES_H
#define WEIR_COMPAT_APR_POOLS_TYPES_H

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

#endif /* WEIR_COMPAT_APR_POOLS_TYPES_H */
