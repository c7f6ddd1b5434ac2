/* SPDX-License-Identifier: MIT */
/*
 * region_array.h - objects that change their size, and the arrays they leave.
 *
 * What region_realloc.c lends to writers and vectors.
 */
#ifndef WEIRI_REGION_ARRAY_H
#define WEIRI_REGION_ARRAY_H

#include "pools/region.h"

/* Smallest array worth keeping; those above the last class's are kept there. */
#define WEIRI_SPARE_MIN WEIR_REGION_ALIGN
#define WEIRI_SPARE_CLASSES 17

struct weiri_region_spare;

/*
 * Arrays that were given back while others lie behind them, by the power of
 * two below their size.  Lies in the region itself, in the first of them or
 * behind the newest object; first.pages, which no first block needs, leads
 * there, and attention has HAS_SPARES.
 */
struct weiri_region_spares {
	uint64_t id; /* unique in the process: marks of others are stale */
	struct weiri_region_spare *list[WEIRI_SPARE_CLASSES];
};

WEIRI_INLINE struct weiri_region_spares *
weiri_region_spares(const struct weiri_region *region)
{
	return (struct weiri_region_spares *)(void *)region->first.pages;
}

/* For those who end or move objects that may be among them. */
WEIRI_INLINE void
weiri_region_spares_drop(struct weiri_region *region)
{
	region->first.pages = NULL;
	region->attention &= ~(uint32_t)WEIRI_HAS_SPARES;
}

/*
 * Storage for @want bytes at least, of which the first @used are those of
 * @data, which has *@capacity; *@capacity is what it has then.  In place where
 * possible, else elsewhere, with @data given back.  NULL: all is as it was.
 */
char *weiri_region_array_grow(struct weiri_region *region, char *data,
    size_t used, size_t *capacity, size_t want);

/* True when nothing was taken since @object of @bytes; *has: what it has with
 * the rounding. */
WEIRI_INLINE bool
weiri_region_is_last(const struct weiri_region *region, const void *object,
    size_t bytes, size_t *has)
{
	/* Never true of a pointer that is not aligned, nor by a wrapped sum. */
	*has = (size_t)((uintptr_t)region->bump.next - (uintptr_t)object);
	return *has % WEIR_REGION_ALIGN == 0 && bytes <= *has &&
	       *has - bytes < WEIR_REGION_ALIGN;
}

/* A1 and A2: the first that is broken, or NULL. */
const char *weiri_region_spares_check(struct weiri_region *region);

#endif /* WEIRI_REGION_ARRAY_H */
