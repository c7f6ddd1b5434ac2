/* SPDX-License-Identifier: MIT */
/*
 * region.c - regions: create, grow, reset, destroy.
 *
 * Taking an object is inline and costs everybody about the same.  What tells
 * one design from another is where blocks and large objects come from, so
 * this file spends its effort there:
 *
 *   - Blocks up to 32 KiB are slots of depots: a request's blocks are those
 *     the last request of this thread gave back, still warm, and neither the
 *     page lock nor the system is involved.
 *   - Blocks double up to 32 KiB by default and stop there.  The next size
 *     would be pages under a lock; one block per 32 KiB of objects is a cost
 *     that disappears beside writing those objects, and what a region leaves
 *     unused at its end stays small.
 *   - An object that the next block would not hold gets a larger block, not
 *     pages, as long as it fits the largest: a 20 KiB object opens a 32 KiB
 *     block whose rest serves the objects after it.  Pages would cost 1,500
 *     instructions more, half of the whole request.  Of the old room and the
 *     new rest the region continues in the larger, so what is lost is at most
 *     half of what was free.
 *   - Only what is above that has pages of its own, exactly as many as it
 *     needs: it neither drags the doubling up nor leaves a rest.
 *
 * Invariants (weir_region_check() tests them):
 *
 *   R1  next and end are multiples of 16, next <= end, and both lie in the
 *       newest block, whose end `end` is.
 *   R2  Following `older` from `newest` meets `first` once and ends; each
 *       block has the size of its class and is what the page map says.
 *   R3  charged_bytes is the sum of blocks and large objects, and is at most
 *       limit_bytes and peak_bytes.
 *   R4  Each large object's pages map to its descriptor.
 *   R5  Armed handles are doubly linked, cancelled ones singly, and all lie
 *       between a block's header and its end.
 *   R6  next_class <= max_class, and a block of max_class holds an object of
 *       large_bytes.
 *
 * There is one way for block memory to become usable and one for it to cease:
 * region_open() and region_close().  A build that poisons free memory hooks in
 * there and in the inline calls.
 */
#include "pools/region.h"

#include "config/invalid.h"
#include "guard/fault.h"

#include <errno.h>

/* Sizes above it cannot be meant; rounding up stays clear of wrap-around. */
#define REGION_OBJECT_MAX ((size_t)1 << 46)

/* ---- faults ----------------------------------------------------------- */

static WEIRI_COLD WEIRI_NORETURN void
region_fault(enum weir_fault_class fault_class,
    const struct weiri_region *region, const char *name, const char *detail)
{
	weiri_fault(&(struct weiri_fault_site){
	    .fault_class = fault_class,
	    .pool_kind = "region",
	    .pool_name = name,
	    .address = region,
	    .detail = detail,
	});
}

static bool
region_is_dead(const struct weiri_region *region)
{
	return region->magic == weiri_region_magic(region, WEIRI_REGION_DEAD);
}

/* A destroyed region keeps its header, and kinds are for ever. */
void
weiri_region_not_live(const struct weiri_region *region, const char *detail)
{
	if (region_is_dead(region))
		region_fault(WEIR_FAULT_BAD_ARGUMENT, region,
		    weiri_region_kind_name(region->kind), detail);
	region_fault(WEIR_FAULT_CORRUPTION, region, NULL,
	    "%p is no region, or its header was overwritten");
}

/* Looks before it reads: the pointer may be anything. */
static void
region_expect_destroyable(const struct weiri_region *region)
{
	if (WEIR_UNLIKELY(!weiri_region_in_block(region)))
		region_fault(WEIR_FAULT_FOREIGN_POINTER, region, NULL,
		    "%p is no region, or was destroyed long ago");
	if (WEIR_UNLIKELY(region_is_dead(region)))
		region_fault(WEIR_FAULT_DOUBLE_DESTROY, region,
		    weiri_region_kind_name(region->kind),
		    "%p was destroyed before");
	weiri_region_expect_live(region, "");
	if (WEIR_UNLIKELY(region->ending))
		region_fault(WEIR_FAULT_BAD_ARGUMENT, region,
		    weiri_region_kind_name(region->kind),
		    "%p is destroyed by its own cleanup");
}

/* ---- growth ----------------------------------------------------------- */

void *
weiri_region_refuse(struct weiri_region *region)
{
	region->failures++;
	weiri_region_kind_fail(region->kind);
	return NULL;
}

static void
region_charge(struct weiri_region *region, size_t bytes)
{
	region->misses++;
	region->charged_bytes += bytes;
	WEIR_ASSERT(region->charged_bytes <= region->limit_bytes);
	if (region->charged_bytes > region->peak_bytes)
		region->peak_bytes = region->charged_bytes;
	weiri_region_kind_grow(region->kind, bytes);
}

/* The room of a block becomes the region's. */
static void
region_open(struct weiri_region *region, struct weiri_region_block *block,
    char *next, char *end)
{
	region->newest = block;
	region->bump.next = next;
	region->bump.end = end;
}

/*
 * A block of at least @least: the size whose turn it is, or what the limit or
 * the memory left allows.  NULL when not even @least is to be had.
 */
static struct weiri_region_block *
region_take_block(struct weiri_region *region, unsigned least)
{
	uint64_t left = region->limit_bytes - region->charged_bytes;
	unsigned want = region->next_class;

	if (want < least)
		want = least;
	while (want > least && WEIRI_REGION_CLASS_BYTES(want) > left)
		want--;
	if (WEIRI_REGION_CLASS_BYTES(want) > left)
		return NULL;

	struct weiri_region_block *block = weiri_region_block_take(want);

	if (WEIR_UNLIKELY(block == NULL) && want > least)
		block = weiri_region_block_take(least);
	return block;
}

/* @need covers the object, its rounding and its alignment. */
static void *
region_alloc_block(
    struct weiri_region *region, size_t bytes, size_t align, size_t need)
{
	struct weiri_region_block *block = region_take_block(
	    region, weiri_region_class(need + sizeof(*block)));

	if (WEIR_UNLIKELY(block == NULL))
		return NULL;

	unsigned block_class = (unsigned)block->block_class;
	char *start = (char *)(block + 1);
	char *object = start + ((0 - (uintptr_t)start) & (align - 1));
	char *next = object + weiri_round_up(bytes, WEIR_REGION_ALIGN);
	char *end = (char *)block + WEIRI_REGION_CLASS_BYTES(block_class);

	WEIR_ASSERT(next <= end);
	region_charge(region, WEIRI_REGION_CLASS_BYTES(block_class));
	region->next_class =
	    (uint8_t)(block_class < region->max_class ? block_class + 1
						      : region->max_class);
	if (end - next >= region->bump.end - region->bump.next) {
		block->older = region->newest;
		region_open(region, block, next, end);
	} else {
		block->older = region->newest->older;
		region->newest->older = block;
	}
	return object;
}

static void *
region_alloc_large(
    struct weiri_region *region, size_t bytes, size_t align, bool *fresh)
{
	/* Size 0 comes here for an alignment no block has. */
	size_t page_bytes = weiri_round_up(weiri_max(bytes, 1), WEIRI_PAGE);
	struct weiri_region_pages *pages;

	if (page_bytes > region->limit_bytes - region->charged_bytes)
		return NULL;
	pages = weiri_region_pages_take(page_bytes, align);
	if (WEIR_UNLIKELY(pages == NULL))
		return NULL;
	weiri_list_push(&region->larges, &pages->span.link);
	region_charge(region, pages->span.bytes);
	*fresh = pages->span.zeroed;
	return pages->span.base;
}

void *
weiri_region_alloc_slow(
    struct weiri_region *region, size_t bytes, size_t align, bool *fresh)
{
	size_t need;
	void *object;

	weiri_region_expect_live(region, "object from %p, which was destroyed");
	*fresh = false;
	if (!weiri_is_pow2(align) || align > WEIR_REGION_ALIGN_MAX ||
	    bytes > REGION_OBJECT_MAX)
		return weiri_region_refuse(region);

	need = weiri_round_up(bytes, WEIR_REGION_ALIGN);
	if (align > WEIR_REGION_ALIGN)
		need += align - WEIR_REGION_ALIGN;
	if (bytes > region->large_bytes ||
	    need > weiri_region_class_room(region->max_class))
		object = region_alloc_large(region, bytes, align, fresh);
	else
		object = region_alloc_block(region, bytes, align, need);
	if (WEIR_UNLIKELY(object == NULL))
		return weiri_region_refuse(region);
	return object;
}

void *
weir_region_alloc_slow(struct weir_region *region, size_t bytes, size_t align)
{
	bool fresh;

	return weiri_region_alloc_slow(
	    weiri_region_of(region), bytes, align, &fresh);
}

/* ---- create ----------------------------------------------------------- */

struct region_shape {
	unsigned first_class, max_class;
	size_t large_bytes;
	uint64_t limit_bytes;
};

/*
 * The first block, 4 KiB, is small enough for many idle regions and large
 * enough for a request of a few dozen objects; for the cap see the essay.
 */
static const struct region_shape region_shape_default = {
    .first_class = 2,
    .max_class = WEIRI_REGION_DEPOTS - 1,
    .large_bytes = WEIRI_REGION_CLASS_BYTES(WEIRI_REGION_DEPOTS - 1) -
		   sizeof(struct weiri_region_block),
    .limit_bytes = UINT64_MAX,
};

static_assert(WEIRI_REGION_CLASS_BYTES(2) == 4096, "as region.h tells users");

/* Apart, so that a valid configuration costs its comparisons only. */
static WEIRI_COLD int
region_refuse(
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
region_refuse_reserved(const struct weir_region_config *config)
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

static int
region_config_check(const struct weir_region_config *config)
{
	for (size_t i = 0; i < WEIRI_COUNT_OF(config->reserved); i++)
		if (config->reserved[i] != 0)
			return region_refuse_reserved(config);
	if (config->flags != 0)
		return region_refuse("flags", config->flags, "0", 0);
	if (config->first_bytes > WEIR_REGION_FIRST_MAX)
		return region_refuse("first_bytes", config->first_bytes,
		    "0 .. %u", WEIR_REGION_FIRST_MAX);
	if (config->block_bytes_max > WEIR_REGION_BLOCK_MAX)
		return region_refuse("block_bytes_max", config->block_bytes_max,
		    "0 .. %u", WEIR_REGION_BLOCK_MAX);
	if (config->limit_bytes != 0 &&
	    config->limit_bytes < WEIR_REGION_BLOCK_MIN)
		return region_refuse("limit_bytes", config->limit_bytes,
		    "0 for none, or at least %u", WEIR_REGION_BLOCK_MIN);
	return 0;
}

/* -EINVAL for a configuration out of range; NULL is all defaults. */
static int
region_shape_init(
    struct region_shape *shape, const struct weir_region_config *config)
{
	*shape = region_shape_default;
	if (config == NULL)
		return 0;

	int error = region_config_check(config);

	if (WEIR_UNLIKELY(error != 0))
		return error;
	if (config->first_bytes != 0)
		shape->first_class = weiri_region_class(config->first_bytes);
	if (config->block_bytes_max != 0)
		shape->max_class = weiri_region_class(config->block_bytes_max);
	if (shape->first_class > shape->max_class) {
		if (config->first_bytes != 0)
			return region_refuse("first_bytes", config->first_bytes,
			    "at most block_bytes_max, %u",
			    WEIRI_REGION_CLASS_BYTES(shape->max_class));
		/* Only the default is too large: it yields. */
		shape->first_class = shape->max_class;
	}
	if (config->limit_bytes != 0)
		shape->limit_bytes = config->limit_bytes;
	/* A small limit shrinks the first block rather than refuse it. */
	while (
	    shape->first_class > 0 &&
	    WEIRI_REGION_CLASS_BYTES(shape->first_class) > shape->limit_bytes)
		shape->first_class--;

	shape->large_bytes = weiri_region_class_room(shape->max_class);
	if (config->large_bytes > shape->large_bytes)
		return region_refuse("large_bytes", config->large_bytes,
		    "0 .. %u, what fits into the largest block",
		    shape->large_bytes);
	if (config->large_bytes != 0)
		shape->large_bytes = config->large_bytes;
	return 0;
}

/* The region as it is with nothing in it; also what a reset returns to. */
static void
region_begin(struct weiri_region *region)
{
	unsigned first = (unsigned)region->first.block_class;

	region_open(region, &region->first, (char *)(region + 1),
	    (char *)region + WEIRI_REGION_CLASS_BYTES(first));
	region->next_class =
	    (uint8_t)(first < region->max_class ? first + 1 : first);
	region->charged_bytes = WEIRI_REGION_CLASS_BYTES(first);
	region->first.older = NULL;
	weiri_list_init(&region->cleanups);
	weiri_list_init(&region->larges);
	region->cancelled = NULL;
	region->ending = false;
}

int
weir_region_create(struct weir_region_kind *kind,
    const struct weir_region_config *config, struct weir_region **out)
{
	struct region_shape shape;
	struct weiri_region_kind *record;
	struct weiri_region *region;
	int status = region_shape_init(&shape, config);

	*out = NULL;
	if (status != 0)
		return status;
	if (WEIR_UNLIKELY(weiri_region_supply_start() != 0))
		return -ENOMEM;
	record = weiri_region_kind_of(kind);
	if (WEIR_UNLIKELY(record == NULL))
		return -ENOMEM;
	region = weiri_region_first_take(shape.first_class);
	if (WEIR_UNLIKELY(region == NULL)) {
		weiri_region_kind_fail(record);
		return -ENOMEM;
	}

	region->magic = weiri_region_magic(region, WEIRI_REGION_LIVE);
	region->kind = record;
	region->limit_bytes = shape.limit_bytes;
	region->large_bytes = (uint32_t)shape.large_bytes;
	region->max_class = (uint8_t)shape.max_class;
	region->first.pages = NULL;
	region->first.block_class = shape.first_class;
	region->misses = 0;
	region->failures = 0;
	region_begin(region);
	region->peak_bytes = region->charged_bytes;
	weiri_region_kind_enter(record, region->charged_bytes);
	*out = &region->bump;
	return 0;
}

/* ---- end -------------------------------------------------------------- */

/* All memory but the first block goes back; no room is left. */
static void
region_close(struct weiri_region *region)
{
	struct weiri_region_block *block = region->newest, *older;

	WEIRI_LIST_FOR_SAFE(node, &region->larges)
	{
		weiri_region_pages_give(WEIRI_CONTAINER_OF(
		    node, struct weiri_region_pages, span.link));
	}
	for (; block != NULL; block = older) {
		older = block->older;
		if (block != &region->first)
			weiri_region_block_give(block);
	}
	region->bump.next = region->bump.end = NULL;
}

void
weir_region_reset(struct weir_region *bump)
{
	struct weiri_region *region = weiri_region_of(bump);
	uint64_t before;

	weiri_region_expect_live(region, "reset of %p, which was destroyed");
	if (WEIR_UNLIKELY(region->ending))
		region_fault(WEIR_FAULT_BAD_ARGUMENT, region,
		    weiri_region_kind_name(region->kind),
		    "%p is reset by its own cleanup");
	weiri_region_cleanups_run(region);
	before = region->charged_bytes;
	region_close(region);
	region_begin(region);
	if (before != region->charged_bytes)
		weiri_region_kind_shrink(
		    region->kind, before - region->charged_bytes);
}

void
weir_region_destroy(struct weir_region *bump)
{
	struct weiri_region *region = weiri_region_of(bump);

	if (region == NULL)
		return;
	region_expect_destroyable(region);
	weiri_region_cleanups_run(region);
	region_close(region);
	weiri_region_kind_leave(region->kind, region->charged_bytes);
	/* With no room and this mark, later use of the region is seen. */
	region->magic = weiri_region_magic(region, WEIRI_REGION_DEAD);
	weiri_region_first_give(region, (unsigned)region->first.block_class);
}
