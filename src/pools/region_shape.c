/* SPDX-License-Identifier: MIT */
/*
 * region_shape.c - what a configuration makes of a region.
 */
#include "pools/region_shape.h"

#include "config/invalid.h"

/* Above what the library itself takes from a region. */
#define SHAPE_LARGE_MIN ((size_t)256)

/* Apart, so that a valid configuration costs its comparisons only. */
static WEIRI_COLD int
shape_refuse(
    const char *field, uint64_t value, const char *allowed, uint64_t bound)
{
	return weiri_invalid(&(struct weiri_invalid){
	    .call = "weir_region_create",
	    .field = field,
	    .value = value,
	    .allowed = allowed,
	    .bound = {bound},
	});
}

static WEIRI_COLD int
shape_refuse_reserved(const struct weir_region_config *config)
{
	size_t i = weiri_invalid_word(
	    config->reserved, WEIRI_COUNT_OF(config->reserved));

	return weiri_invalid(&(struct weiri_invalid){
	    .call = "weir_region_create",
	    .field = "reserved[]",
	    .index = i,
	    .value = config->reserved[i],
	    .allowed = "0",
	});
}

static WEIRI_COLD int
shape_refuse_block(size_t bytes)
{
	return weiri_invalid(&(struct weiri_invalid){
	    .call = "weir_region_create",
	    .field = "block_bytes_max",
	    .value = bytes,
	    .allowed = "0 for the default, or a power of two, %u .. %u",
	    .bound = {WEIR_REGION_BLOCK_MIN, WEIR_REGION_BLOCK_MAX},
	});
}

static bool
shape_is_block(size_t bytes)
{
	return bytes >= WEIR_REGION_BLOCK_MIN &&
	       bytes <= WEIR_REGION_BLOCK_MAX && (bytes & (bytes - 1)) == 0;
}

static int
shape_check(const struct weir_region_config *config)
{
	for (size_t i = 0; i < WEIRI_COUNT_OF(config->reserved); i++)
		if (config->reserved[i] != 0)
			return shape_refuse_reserved(config);
	if (config->flags != 0)
		return shape_refuse("flags", config->flags, "0", 0);
	if (config->first_bytes > WEIR_REGION_FIRST_MAX)
		return shape_refuse("first_bytes", config->first_bytes,
		    "0 .. %u", WEIR_REGION_FIRST_MAX);
	if (config->block_bytes_max != 0 &&
	    !shape_is_block(config->block_bytes_max))
		return shape_refuse_block(config->block_bytes_max);
	if (config->limit_bytes != 0 &&
	    config->limit_bytes < WEIR_REGION_FIRST_MIN)
		return shape_refuse("limit_bytes", config->limit_bytes,
		    "0 for none, or at least %u", WEIR_REGION_FIRST_MIN);
	if (config->soft_bytes != 0 && config->soft == NULL)
		return shape_refuse(
		    "soft_bytes", config->soft_bytes, "0 without soft", 0);
	/* What is never above the limit is never above this. */
	if (config->limit_bytes != 0 &&
	    config->soft_bytes >= config->limit_bytes)
		return shape_refuse("soft_bytes", config->soft_bytes,
		    "below limit_bytes, %u", config->limit_bytes);
	return 0;
}

/* The largest block: a default one yields to a larger first block. */
static unsigned
shape_max(const struct weir_region_config *config)
{
	if (config->block_bytes_max != 0)
		return weiri_region_class(config->block_bytes_max);
	return (unsigned)weiri_max(
	    weiri_region_class(config->first_bytes), WEIRI_REGION_MAX_DEFAULT);
}

/* The first block: as configured, as learned, or a guess; not above what the
 * largest block and the limit allow. */
static int
shape_first(struct weiri_region_shape *shape,
    const struct weir_region_config *config,
    const struct weiri_region_kind *kind)
{
	unsigned most = weiri_region_bin(weiri_min(
	    WEIRI_REGION_CLASS_BYTES(shape->max_class), WEIR_REGION_FIRST_MAX));

	if (config->first_bytes == 0) {
		shape->first_bin = WEIRI_LOAD(&kind->first_bin);
		if (config->block_bytes_max != 0)
			shape->first_bin =
			    (unsigned)weiri_min(shape->first_bin, most);
	} else {
		shape->first_bin = weiri_region_bin(config->first_bytes);
		if (shape->first_bin > most)
			return shape_refuse("first_bytes", config->first_bytes,
			    "at most block_bytes_max, %u",
			    WEIRI_REGION_CLASS_BYTES(shape->max_class));
	}
	/* A small limit shrinks the first block rather than refuse it. */
	while (config->limit_bytes != 0 && shape->first_bin > 0 &&
	       weiri_region_bin_bytes(shape->first_bin) > config->limit_bytes)
		shape->first_bin--;
	return 0;
}

int
weiri_region_shape_init(struct weiri_region_shape *shape,
    const struct weir_region_config *config,
    const struct weiri_region_kind *kind)
{
	int status = shape_check(config);

	if (WEIR_UNLIKELY(status != 0))
		return status;
	shape->config = config;
	shape->has_rules = config->soft_bytes != 0 || config->oom != NULL;
	shape->max_class = shape_max(config);
	status = shape_first(shape, config, kind);
	if (WEIR_UNLIKELY(status != 0))
		return status;
	shape->large_bytes = weiri_region_class_room(shape->max_class);
	if (config->large_bytes > shape->large_bytes)
		return shape_refuse("large_bytes", config->large_bytes,
		    "0 .. %u, what fits into the largest block",
		    shape->large_bytes);
	/* Below it the records of cleanups and savepoints would have pages. */
	if (config->large_bytes != 0)
		shape->large_bytes =
		    weiri_max(config->large_bytes, SHAPE_LARGE_MIN);
	return 0;
}

int
weiri_region_shape_refuse_buffer(size_t bytes)
{
	return weiri_invalid(&(struct weiri_invalid){
	    .call = "weir_region_create_in",
	    .field = "bytes",
	    .value = bytes,
	    .allowed = "at least %u",
	    .bound = {WEIR_REGION_BUFFER_MIN},
	});
}
