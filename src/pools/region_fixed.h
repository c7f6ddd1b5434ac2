/* SPDX-License-Identifier: MIT */
/*
 * region_fixed.h - the inside of a region that never grows.  Compiles without a
 * C library and for 32 bits, so it includes public headers only.
 */
#ifndef WEIRI_REGION_FIXED_H
#define WEIRI_REGION_FIXED_H

#include <weir/region_fixed.h>

struct weiri_fixed_cleanup {
	struct weiri_fixed_cleanup *older;
	weir_region_cleanup_fn run;
	void *context;
};

/* At the start of the buffer. */
struct weiri_region_fixed {
	struct weir_region bump;              /* first: the public pointer */
	struct weiri_fixed_cleanup *cleanups; /* newest first */
	uint64_t magic; /* where other regions have theirs */
	char *start;    /* of objects */
	uint64_t failures;
};

/* Mixed with the address, as that of other regions. */
#define WEIRI_REGION_FIXED UINT64_C(0x6465786966722b32)

static inline bool
weiri_region_is_fixed(const struct weir_region *region)
{
	const struct weiri_region_fixed *fixed =
	    (const struct weiri_region_fixed *)(const void *)region;

	return fixed->magic == (WEIRI_REGION_FIXED ^ (uintptr_t)region);
}

/* Counts a request that does not fit; NULL. */
static inline void *
weiri_region_fixed_refuse(struct weir_region *region)
{
	((struct weiri_region_fixed *)(void *)region)->failures++;
	return NULL;
}

#endif /* WEIRI_REGION_FIXED_H */
