/* SPDX-License-Identifier: MIT */
/*
 * region_malloc.h - a "region" of a malloc: every object is freed by itself.
 */
#ifndef BENCH_REGION_REGION_MALLOC_H
#define BENCH_REGION_REGION_MALLOC_H

#define PEER_HAS_REGIONS

#include "../region/region.h"

struct peer_region {
	struct region_node *cleanups;
};

static BENCH_INLINE struct peer_region *
peer_region_open(unsigned load)
{
	struct peer_region *region =
	    (struct peer_region *)BENCH_ALLOC(sizeof(*region));

	(void)load;
	if (region != NULL)
		region->cleanups = NULL;
	return region;
}

static BENCH_INLINE void *
peer_region_alloc(struct peer_region *region, size_t bytes)
{
	(void)region;
	return BENCH_ALLOC(bytes);
}

static BENCH_INLINE void
peer_region_cleanup(struct peer_region *region, void *object)
{
	region_list_push(&region->cleanups,
	    (struct region_node *)bench_check(
		BENCH_ALLOC(sizeof(struct region_node))),
	    object);
}

static BENCH_INLINE void
peer_region_reset(struct peer_region *region, void *last)
{
	struct region_node *node = region->cleanups;

	region_list_run(node);
	while (node != NULL) {
		struct region_node *next = node->next;

		BENCH_FREE(node);
		node = next;
	}
	region->cleanups = NULL;
	while (last != NULL) {
		void *older = *(void **)last;

		BENCH_FREE(last);
		last = older;
	}
}

static BENCH_INLINE void
peer_region_close(struct peer_region *region, void *last)
{
	peer_region_reset(region, last);
	BENCH_FREE(region);
}

#endif /* BENCH_REGION_REGION_MALLOC_H */
