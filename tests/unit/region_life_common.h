/* SPDX-License-Identifier: MIT */
/*
 * region_life_common.h - what the tests of region_life.h share.
 */
#ifndef TEST_REGION_LIFE_COMMON_H
#define TEST_REGION_LIFE_COMMON_H

#include "region_common.h"

static inline struct weir_region *
create_below(struct weir_region *parent)
{
	return create(&(struct weir_region_config){.parent = parent});
}

static inline struct weir_region_savepoint
mark(struct weir_region *region)
{
	struct weir_region_savepoint savepoint;

	CHECK_EQ(weir_region_mark(region, &savepoint), 0);
	CHECK_PTR(savepoint.region, region);
	CHECK(weir_region_check(region));
	return savepoint;
}

static inline void
rewind_to(struct weir_region *region, struct weir_region_savepoint savepoint)
{
	weir_region_rewind(region, &savepoint);
	CHECK(weir_region_check(region));
}

static inline char *
filled(struct weir_region *region, size_t bytes, int value)
{
	char *object = weir_region_alloc(region, bytes);

	CHECK_NOT_NULL(object);
	memset(object, value, bytes);
	return object;
}

static inline bool
holds(const char *object, size_t bytes, int value)
{
	for (size_t i = 0; i < bytes; i++)
		if (object[i] != value)
			return false;
	return true;
}

#endif /* TEST_REGION_LIFE_COMMON_H */
