/* SPDX-License-Identifier: MIT */
/*
 * region_floor.h - the floor: a pointer that moves through a block that is
 * always there and always large enough.  A region closed is the next opened.
 */
#ifndef BENCH_REGION_REGION_FLOOR_H
#define BENCH_REGION_REGION_FLOOR_H

#define PEER_HAS_REGIONS
#define PEER_REGION_GROWS 0 /* no spike fits */

#include "../region/region.h"

#define FLOOR_BYTES ((size_t)96 << 10) /* the largest request and cleanups */

struct peer_region {
	char *next;
	char *end;
	struct region_node *cleanups;
	struct peer_region *older; /* of those that are closed */
};

static struct peer_region *floor_closed;

static BENCH_INLINE void
floor_clear(struct peer_region *region)
{
	region->next = (char *)(region + 1);
	region->cleanups = NULL;
}

static BENCH_NOINLINE struct peer_region *
floor_map(void)
{
	struct peer_region *region =
	    (struct peer_region *)bench_map(FLOOR_BYTES);

	region->end = (char *)region + FLOOR_BYTES;
	return region;
}

static BENCH_INLINE struct peer_region *
peer_region_open(unsigned load)
{
	struct peer_region *region = floor_closed;

	(void)load;
	if (BENCH_LIKELY(region != NULL))
		floor_closed = region->older;
	else
		region = floor_map();
	floor_clear(region);
	return region;
}

static BENCH_INLINE void *
peer_region_alloc(struct peer_region *region, size_t bytes)
{
	char *object = region->next;

	bytes = (bytes + 15) & ~(size_t)15;
	if (!BENCH_LIKELY(bytes <= (size_t)(region->end - object)))
		return NULL;
	region->next = object + bytes;
	return object;
}

static BENCH_INLINE void
peer_region_cleanup(struct peer_region *region, void *object)
{
	region_list_push(&region->cleanups,
	    (struct region_node *)bench_check(
		peer_region_alloc(region, sizeof(struct region_node))),
	    object);
}

static BENCH_INLINE void
peer_region_reset(struct peer_region *region, void *last)
{
	(void)last;
	region_list_run(region->cleanups);
	floor_clear(region);
}

static BENCH_INLINE void
peer_region_close(struct peer_region *region, void *last)
{
	(void)last;
	region_list_run(region->cleanups);
	region->older = floor_closed;
	floor_closed = region;
}

#endif /* BENCH_REGION_REGION_FLOOR_H */
