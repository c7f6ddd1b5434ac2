/* SPDX-License-Identifier: MIT */
/*
 * region_fixed.c - regions in one buffer that never grow.
 *
 *     buffer
 *    +--------------------+------------------------------+------+
 *    | weiri_region_fixed | objects and cleanups         | room |
 *    +--------------------+------------------------------+------+
 *                         ^ start                   next ^  end ^
 *
 * A cleanup lies among the objects, so that those added since a mark are those
 * above it, and a rewind needs no other record of them.
 */
#include "pools/region_fixed.h"

static struct weiri_region_fixed *
fixed_of(struct weir_region *region)
{
	return (struct weiri_region_fixed *)(void *)region;
}

struct weir_region *
weir_region_fixed_init(void *buffer, size_t bytes)
{
	const uintptr_t low = WEIR_REGION_ALIGN - 1;
	uintptr_t start = ((uintptr_t)buffer + low) & ~low;
	uintptr_t end = ((uintptr_t)buffer + bytes) & ~low;
	struct weiri_region_fixed *fixed = (struct weiri_region_fixed *)start;

	if (bytes < WEIR_REGION_FIXED_MIN || bytes > SIZE_MAX / 2)
		return NULL;
	fixed->start = (char *)((start + sizeof(*fixed) + low) & ~low);
	fixed->bump.next = fixed->start;
	fixed->bump.end = (char *)end;
	fixed->cleanups = NULL;
	fixed->failures = 0;
	fixed->magic = WEIRI_REGION_FIXED ^ start;
	return &fixed->bump;
}

bool
weir_region_fixed_cleanup(
    struct weir_region *region, weir_region_cleanup_fn run, void *context)
{
	struct weiri_region_fixed *fixed = fixed_of(region);
	struct weiri_fixed_cleanup *cleanup =
	    (struct weiri_fixed_cleanup *)weir_region_alloc(
		region, sizeof(*cleanup));

	if (WEIR_UNLIKELY(cleanup == NULL))
		return false;
	cleanup->older = fixed->cleanups;
	cleanup->run = run;
	cleanup->context = context;
	fixed->cleanups = cleanup;
	return true;
}

/* A cleanup may take objects and add cleanups, which run next. */
static void
fixed_rewind(struct weiri_region_fixed *fixed, char *next)
{
	while (fixed->cleanups != NULL && (char *)fixed->cleanups >= next) {
		const struct weiri_fixed_cleanup *cleanup = fixed->cleanups;

		fixed->cleanups = cleanup->older;
		cleanup->run(cleanup->context);
	}
	fixed->bump.next = next;
}

bool
weir_region_fixed_rewind(
    struct weir_region *region, struct weir_region_fixed_point mark)
{
	struct weiri_region_fixed *fixed = fixed_of(region);

	if (mark.region != region || mark.next < fixed->start ||
	    mark.next > region->next)
		return false;
	fixed_rewind(fixed, mark.next);
	return true;
}

void
weir_region_fixed_reset(struct weir_region *region)
{
	fixed_rewind(fixed_of(region), fixed_of(region)->start);
}

uint64_t
weir_region_fixed_failures(const struct weir_region *region)
{
	return ((const struct weiri_region_fixed *)(const void *)region)
	    ->failures;
}

void
weir_region_fixed_finish(struct weir_region *region)
{
	if (region == NULL)
		return;
	weir_region_fixed_reset(region);
	/* No room is left, and a request is no longer a region's. */
	region->next = region->end;
	fixed_of(region)->magic = 0;
}
