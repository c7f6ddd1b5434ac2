/* SPDX-License-Identifier: MIT */
/*
 * walkers.h - walkers that are asked once something was broken.
 *
 * A law is broken by hand, in a child, and the walker has to name it.
 */
#ifndef WEIR_TEST_WALKERS_H
#define WEIR_TEST_WALKERS_H

#include "test.h"

#include "pools/cache.h"

#include <stdlib.h>

/* The walker says that @law does not hold once this was done. */
#define BREAKS(law, sound, ...)  \
	EXPECT_ABORT(law, {      \
		__VA_ARGS__;     \
		if (!(sound))    \
			abort(); \
	})

/* ---- a cache in use ------------------------------------------------------ */

enum { TAKEN = 3000, RETURNED = 1900 };

static void *taken[TAKEN];

static inline struct weir_cache *
cache_take(const char *name, enum weir_check_level check)
{
	struct weir_cache *cache;

	CHECK_EQ(weir_cache_create(name,
		     &(struct weir_cache_config){
			 .object_bytes = 200, .check = check},
		     &cache),
	    0);
	for (size_t i = 0; i < TAKEN; i++)
		taken[i] = weir_cache_alloc(cache);
	return cache;
}

/* Some 1,000 are left out: slabs of all sorts, and full magazines. */
static inline void
cache_return(struct weir_cache *cache)
{
	for (size_t i = 0; i < RETURNED; i++)
		weir_cache_free(cache, taken[i]);
	CHECK(weir_cache_check(cache));
}

static inline struct weiri_slab *
slab_of(struct weiri_list *node)
{
	return WEIRI_CONTAINER_OF(node, struct weiri_slab, link);
}

#endif /* WEIR_TEST_WALKERS_H */
