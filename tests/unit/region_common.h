/* SPDX-License-Identifier: MIT */
/*
 * region_common.h - what the tests of regions share.
 */
#ifndef TEST_REGION_COMMON_H
#define TEST_REGION_COMMON_H

#include <weir/region.h>

#include "test.h"

#include <errno.h>
#include <string.h>

static struct weir_region_kind test_kind = WEIR_REGION_KIND("test");

static inline struct weir_region *
create(const struct weir_region_config *config)
{
	struct weir_region *region = NULL;

	CHECK_EQ(weir_region_create(&test_kind, config, &region), 0);
	CHECK_NOT_NULL(region);
	CHECK(weir_region_check(region));
	return region;
}

static inline struct weir_region_figures
figures(const struct weir_region *region)
{
	struct weir_region_figures out = {.size = sizeof(out)};

	CHECK_EQ(weir_region_stats(region, &out), 0);
	return out;
}

static inline struct weir_pool_stats
kind_stats(const struct weir_region_kind *kind)
{
	struct weir_pool_stats out = {.size = sizeof(out)};

	CHECK_EQ(weir_region_kind_stats(kind, &out), 0);
	return out;
}

static inline bool
is_aligned(const void *address, size_t align)
{
	return ((uintptr_t)address & (align - 1)) == 0;
}

/* ---- cleanups that tell ------------------------------------------------- */

static char trace[64];

static inline void
note(void *context)
{
	strncat(trace, context, 1);
}

static inline void
add_note(struct weir_region *region, const char *letter)
{
	CHECK_NOT_NULL(
	    weir_region_cleanup_add(region, note, (void *)(uintptr_t)letter));
}

#endif /* TEST_REGION_COMMON_H */
