/* SPDX-License-Identifier: MIT */
/*
 * region_talloc.h - a talloc context; a cleanup is the destructor of a small
 * object.  With BENCH_TALLOC_POOL the context is a pool of 64 KiB, the manual's
 * advice where many objects share an end.
 */
#ifndef BENCH_REGION_REGION_TALLOC_H
#define BENCH_REGION_REGION_TALLOC_H

#define PEER_HAS_REGIONS

#include "../region/region.h"

struct peer_region;

struct region_talloc_node {
	void *object;
};

static int
region_talloc_cleanup(struct region_talloc_node *node)
{
	region_cleanup(node->object);
	return 0;
}

static BENCH_INLINE struct peer_region *
peer_region_open(unsigned load)
{
	(void)load;
#ifdef BENCH_TALLOC_POOL
	return (struct peer_region *)talloc_pool(NULL, 64 << 10);
#else
	return (struct peer_region *)talloc_new(NULL);
#endif
}

static BENCH_INLINE void *
peer_region_alloc(struct peer_region *region, size_t bytes)
{
	return talloc_size(region, bytes);
}

static BENCH_INLINE void
peer_region_cleanup(struct peer_region *region, void *object)
{
	struct region_talloc_node *node =
	    (struct region_talloc_node *)bench_check(
		talloc_size(region, sizeof(*node)));

	node->object = object;
	talloc_set_destructor(node, region_talloc_cleanup);
}

static BENCH_INLINE void
peer_region_reset(struct peer_region *region, void *last)
{
	(void)last;
	talloc_free_children(region);
}

static BENCH_INLINE void
peer_region_close(struct peer_region *region, void *last)
{
	(void)last;
	talloc_free(region);
}

#endif /* BENCH_REGION_REGION_TALLOC_H */
