/* SPDX-License-Identifier: MIT */
/*
 * peer_obstack.c - the C library's obstacks over malloc, with their macros
 * compiled in.
 */
#include "../object/harness.h"

#include <gnu/libc-version.h>
#include <obstack.h>

#include "region.h"

#define obstack_chunk_alloc malloc
#define obstack_chunk_free free

#define PEER_NAME BENCH_PEER

#define PEER_HAS_REGIONS
#define PEER_REGIONS_ONLY

struct peer_region {
	struct obstack stack;
	void *first; /* what all others were taken after */
	struct region_node *cleanups;
};

static void
peer_begin(void)
{
}

static const char *
peer_version(void)
{
	return gnu_get_libc_version();
}

static BENCH_INLINE struct peer_region *
peer_region_open(unsigned load)
{
	struct peer_region *region =
	    (struct peer_region *)malloc(sizeof(*region));

	(void)load;
	if (region == NULL)
		return NULL;
	obstack_init(&region->stack);
	region->first = obstack_alloc(&region->stack, 0);
	region->cleanups = NULL;
	return region;
}

static BENCH_INLINE void *
peer_region_alloc(struct peer_region *region, size_t bytes)
{
	return obstack_alloc(&region->stack, (int)bytes); /* as it wants */
}

static BENCH_INLINE void
peer_region_cleanup(struct peer_region *region, void *object)
{
	region_list_push(&region->cleanups,
	    (struct region_node *)peer_region_alloc(
		region, sizeof(struct region_node)),
	    object);
}

static BENCH_INLINE void
peer_region_reset(struct peer_region *region, void *last)
{
	(void)last;
	region_list_run(region->cleanups);
	region->cleanups = NULL;
	obstack_free(&region->stack, region->first);
	region->first = obstack_alloc(&region->stack, 0);
}

static BENCH_INLINE void
peer_region_close(struct peer_region *region, void *last)
{
	(void)last;
	region_list_run(region->cleanups);
	obstack_free(&region->stack, NULL);
	free(region);
}

#include "../object/worker.h"
