/* SPDX-License-Identifier: MIT */
/*
 * peer_glib.c - a "region" of GLib: objects of its slices, freed one by one.
 *
 * GLib has no region: its memory chunks are gone since 2.10, and GStringChunk
 * holds nothing but copies of strings, without alignment.  Slices are what a
 * program on GLib takes small objects from.  They want the size back, so it
 * stands before each object.
 */
#include "../object/harness.h"

#include <stdlib.h>

#include "region.h"

/* Of gslice.h, so that the library is enough and no package to build with. */
void *g_slice_alloc(size_t bytes);
void g_slice_free1(size_t bytes, void *memory);

#define PEER_NAME BENCH_PEER

#define PEER_HAS_REGIONS
#define PEER_REGIONS_ONLY

struct peer_region {
	struct region_node *cleanups;
};

/* Below Valgrind GLib gives plain malloc, unless its variable is there. */
static void
peer_begin(void)
{
	setenv("G_SLICE", "", 1);
}

static const char *
peer_version(void)
{
	return BENCH_VERSION;
}

static BENCH_INLINE struct peer_region *
peer_region_open(unsigned load)
{
	struct peer_region *region =
	    (struct peer_region *)g_slice_alloc(sizeof(*region));

	(void)load;
	region->cleanups = NULL;
	return region;
}

/* It ends the process where there is no memory. */
static BENCH_INLINE void *
peer_region_alloc(struct peer_region *region, size_t bytes)
{
	size_t *size = (size_t *)g_slice_alloc(sizeof(size_t) + bytes);

	(void)region;
	*size = sizeof(size_t) + bytes;
	return size + 1;
}

static BENCH_INLINE void
peer_region_cleanup(struct peer_region *region, void *object)
{
	region_list_push(&region->cleanups,
	    (struct region_node *)g_slice_alloc(sizeof(struct region_node)),
	    object);
}

static BENCH_INLINE void
peer_region_reset(struct peer_region *region, void *last)
{
	struct region_node *node = region->cleanups;

	region_list_run(node);
	while (node != NULL) {
		struct region_node *next = node->next;

		g_slice_free1(sizeof(*node), node);
		node = next;
	}
	region->cleanups = NULL;
	while (last != NULL) {
		void *older = *(void **)last;
		size_t *size = (size_t *)last - 1;

		g_slice_free1(*size, size);
		last = older;
	}
}

static BENCH_INLINE void
peer_region_close(struct peer_region *region, void *last)
{
	peer_region_reset(region, last);
	g_slice_free1(sizeof(*region), region);
}

#include "../object/worker.h"
