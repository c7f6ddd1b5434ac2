/* SPDX-License-Identifier: MIT */
/*
 * region_shape.h - what a configuration makes of a region.
 */
#ifndef WEIRI_REGION_SHAPE_H
#define WEIRI_REGION_SHAPE_H

#include "pools/region.h"

/* Blocks double up to 32 KiB; see the essay of region.c. */
#define WEIRI_REGION_MAX_DEFAULT 5

/* First blocks of kinds that learned nothing yet, 4 KiB: small enough for many
 * idle regions and large enough for a request of a few dozen objects. */
#define WEIRI_REGION_FIRST_BIN 24

static_assert(WEIRI_REGION_CLASS_BYTES(WEIRI_REGION_MAX_DEFAULT) == 32 << 10 &&
		  WEIRI_REGION_BIN_BYTES(WEIRI_REGION_FIRST_BIN) == 4 << 10,
    "as region.h tells users");
struct weiri_region_shape {
	const struct weir_region_config *config;
	unsigned first_bin, max_class;
	size_t large_bytes;
	bool has_rules; /* of its own, beside a limit */
};

/* 0: @config says no more than a name, a limit and a site; a hook without its
 * soft_bytes is none. */
WEIRI_INLINE uint64_t
weiri_region_shape_others(const struct weir_region_config *config)
{
	uint64_t others = config->first_bytes | config->block_bytes_max |
			  config->large_bytes | config->soft_bytes |
			  (uintptr_t)config->oom | (uintptr_t)config->parent |
			  config->flags;

	for (size_t i = 0; i < WEIRI_COUNT_OF(config->reserved); i++)
		others |= config->reserved[i];
	return others;
}

/* 0 or -EINVAL, and the message hook is told why. */
int weiri_region_shape_init(struct weiri_region_shape *shape,
    const struct weir_region_config *config,
    const struct weiri_region_kind *kind);

/* Tells the message hook what a buffer must have; -EINVAL. */
WEIRI_COLD int weiri_region_shape_refuse_buffer(size_t bytes);

/* Of the block after one of @bytes: twice as large, as far as that goes. */
WEIRI_INLINE uint8_t
weiri_region_class_after(size_t bytes, unsigned max_class)
{
	if (bytes >= WEIRI_REGION_CLASS_BYTES(max_class))
		return (uint8_t)max_class;
	return (uint8_t)weiri_min(weiri_log2_floor(bytes) + 1 - 10, max_class);
}

#endif /* WEIRI_REGION_SHAPE_H */
