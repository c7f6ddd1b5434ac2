/* SPDX-License-Identifier: MIT */
/*
 * ops_region.c - regions: objects of all sizes, savepoints, regions below,
 * moves and merges.
 */
#include "ops.h"

#include <weir/region.h>
#include <weir/region_life.h>
#include <weir/region_text.h>

#include <string.h>

#define REGIONS 6
#define MARKS 4

struct region_mark {
	struct weir_region_savepoint savepoint;
	uint64_t order;
};

struct region_twin {
	struct weir_region *region; /* NULL: not there */
	struct region_twin *parent;
	uint64_t order; /* of being put below its parent */
	unsigned mark_count;
	struct region_mark mark[MARKS];
};

static struct weir_region_kind region_kind = WEIR_REGION_KIND("fuzzed");
static struct region_twin regions[REGIONS];

/* ---- the tree ----------------------------------------------------------------- */

static bool
region_is_below(const struct region_twin *twin, const struct region_twin *top)
{
	for (; twin != NULL; twin = twin->parent)
		if (twin == top)
			return true;
	return false;
}

/* It is gone, and those below it. */
static void
region_forget(struct region_twin *twin)
{
	for (size_t i = 0; i < REGIONS; i++)
		if (regions[i].region != NULL && regions[i].parent == twin)
			region_forget(&regions[i]);
	shadow_end(twin, 0);
	memset(twin, 0, sizeof(*twin));
}

/* What came since @order is gone. */
static void
region_forget_since(struct region_twin *twin, uint64_t order)
{
	for (size_t i = 0; i < REGIONS; i++)
		if (regions[i].region != NULL && regions[i].parent == twin &&
		    regions[i].order >= order)
			region_forget(&regions[i]);
	shadow_end(twin, order);
}

static void
region_create(struct region_twin *twin)
{
	unsigned how = ops_byte();
	struct region_twin *parent = &regions[how % REGIONS];
	struct weir_region_config config = {
	    .first_bytes = (size_t)512 << how / 8 % 4,
	};

	if (parent->region == NULL || (how & 128) != 0)
		parent = NULL;
	config.parent = parent != NULL ? parent->region : NULL;
	if ((how & 64) != 0)
		config.first_bytes = 0;
	memset(twin, 0, sizeof(*twin));
	OPS_CHECK(
	    weir_region_create(&region_kind, &config, &twin->region) == 0);
	twin->parent = parent;
	twin->order = shadow_now();
}

static void
region_destroy(struct region_twin *twin)
{
	struct weir_region *region = twin->region;

	region_forget(twin);
	weir_region_destroy(region);
}

static void
region_reset(struct region_twin *twin)
{
	region_forget_since(twin, 0);
	twin->mark_count = 0;
	weir_region_reset(twin->region);
}

static void
region_merge(struct region_twin *twin)
{
	struct region_twin *parent = twin->parent;
	struct weir_region *region = twin->region;

	if (parent == NULL)
		return;
	shadow_give(twin, parent);
	for (size_t i = 0; i < REGIONS; i++)
		if (regions[i].region != NULL && regions[i].parent == twin) {
			regions[i].parent = parent;
			regions[i].order = shadow_now();
		}
	memset(twin, 0, sizeof(*twin));
	weir_region_merge(parent->region, region);
}

static void
region_adopt(struct region_twin *twin)
{
	struct region_twin *parent = &regions[ops_below(REGIONS)];

	if (parent->region == NULL || region_is_below(parent, twin))
		return;
	OPS_CHECK(weir_region_adopt(parent->region, twin->region) == 0);
	if (twin->parent != parent) {
		twin->parent = parent;
		twin->order = shadow_now();
	}
}

static void
region_detach(struct region_twin *twin)
{
	weir_region_detach(twin->region);
	twin->parent = NULL;
}

/* ---- savepoints ------------------------------------------------------------------ */

static void
region_mark(struct region_twin *twin)
{
	struct region_mark *mark = &twin->mark[twin->mark_count];

	if (twin->mark_count == MARKS)
		return;
	OPS_CHECK(weir_region_mark(twin->region, &mark->savepoint) == 0);
	mark->order = shadow_now();
	twin->mark_count++;
}

static void
region_rewind(struct region_twin *twin, bool unmark)
{
	unsigned which;

	if (twin->mark_count == 0)
		return;
	which = ops_below(twin->mark_count);
	region_forget_since(twin, twin->mark[which].order);
	if (unmark)
		weir_region_unmark(twin->region, &twin->mark[which].savepoint);
	else
		weir_region_rewind(twin->region, &twin->mark[which].savepoint);
	twin->mark_count = which + !unmark;
}

/* ---- objects ------------------------------------------------------------------------ */

static void
region_alloc(struct region_twin *twin)
{
	size_t bytes = ops_size();

	shadow_add(twin, weir_region_alloc(twin->region, bytes), bytes,
	    bytes >= 16 ? 16 : 8);
}

static void
region_alloc_zeroed(struct region_twin *twin)
{
	size_t bytes = ops_size();
	void *object = weir_region_alloc_zeroed(twin->region, bytes);

	OPS_CHECK(object != NULL);
	shadow_expect_zero(object, bytes);
	shadow_add(twin, object, bytes, 8);
}

static void
region_alloc_aligned(struct region_twin *twin)
{
	size_t align = (size_t)1 << ops_below(13), bytes = ops_size();

	shadow_add(twin, weir_region_alloc_aligned(twin->region, bytes, align),
	    bytes, align);
}

static void
region_realloc(struct region_twin *twin)
{
	struct shadow_object *object = shadow_pick(twin, ops_word());
	size_t bytes = ops_size();
	void *moved;

	if (object == NULL)
		return;
	shadow_verify(object);
	moved = weir_region_realloc(
	    twin->region, object->address, object->bytes, bytes);
	OPS_CHECK(moved != NULL);
	OPS_CHECK(bytes > object->bytes || moved == object->address);
	shadow_move(object, moved, bytes, 1);
}

static void
region_resize(struct region_twin *twin)
{
	struct shadow_object *object = shadow_pick(twin, ops_word());
	size_t bytes = ops_size();

	if (object == NULL)
		return;
	shadow_verify(object);
	if (bytes < object->bytes)
		weir_region_shrink(
		    twin->region, object->address, object->bytes, bytes);
	else if (!weir_region_extend(
		     twin->region, object->address, object->bytes, bytes))
		return;
	shadow_move(object, object->address, bytes, 1);
}

static void
region_free(struct region_twin *twin)
{
	struct shadow_object *object = shadow_pick(twin, ops_word());
	struct shadow_object copy;

	if (object == NULL)
		return;
	copy = *object;
	shadow_remove(object);
	weir_region_free(twin->region, copy.address, copy.bytes);
}

/* ---- steps ------------------------------------------------------------------------------ */

static void
regions_begin(void)
{
	memset(regions, 0, sizeof(regions));
}

static void
region_check(const struct region_twin *twin)
{
	struct weir_region_figures figures = {.size = sizeof(figures)};
	size_t children = 0;

	for (size_t i = 0; i < REGIONS; i++)
		children +=
		    regions[i].region != NULL && regions[i].parent == twin;
	OPS_CHECK(weir_region_check(twin->region));
	OPS_CHECK(weir_region_stats(twin->region, &figures) == 0);
	OPS_CHECK(figures.children == children);
	OPS_CHECK(figures.failures == 0);
}

static void
region_step(struct region_twin *twin, unsigned what)
{
	switch (what) {
	case 0:
		region_destroy(twin);
		break;
	case 1:
		region_reset(twin);
		break;
	case 2:
		region_merge(twin);
		break;
	case 3:
		region_adopt(twin);
		break;
	case 4:
		region_detach(twin);
		break;
	case 5:
	case 6:
	case 7:
		region_mark(twin);
		break;
	case 8:
	case 9:
		region_rewind(twin, what == 8);
		break;
	case 10:
	case 11:
	case 12:
		region_free(twin);
		break;
	case 13:
	case 14:
	case 15:
		region_resize(twin);
		break;
	case 16:
		region_check(twin);
		break;
	default:
		break;
	}
	if (what <= 16 || shadow_full())
		return;
	if (what <= 22)
		region_realloc(twin);
	else if (what <= 25)
		region_alloc_aligned(twin);
	else if (what <= 27)
		region_alloc_zeroed(twin);
	else
		region_alloc(twin);
}

static void
regions_step(void)
{
	struct region_twin *twin = &regions[ops_below(REGIONS)];

	if (twin->region == NULL)
		region_create(twin);
	else
		region_step(twin, ops_below(36));
}

static void
regions_check(void)
{
	for (size_t i = 0; i < REGIONS; i++)
		if (regions[i].region != NULL)
			region_check(&regions[i]);
}

static void
regions_end(void)
{
	struct weir_pool_stats stats = {.size = sizeof(stats)};

	for (size_t i = 0; i < REGIONS; i++)
		if (regions[i].region != NULL)
			region_destroy(&regions[i]);
	OPS_CHECK(weir_region_kind_stats(&region_kind, &stats) == 0);
	OPS_CHECK(stats.in_use == 0);
}

const struct ops_pool ops_region = {
    regions_begin, regions_step, regions_check, regions_end};
