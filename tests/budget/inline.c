/* SPDX-License-Identifier: MIT */
/*
 * inline.c - the calls of weir/region.h that are compiled into programs, each in
 * a function of its own, for inline.sh.
 */
#include <weir/region.h>

#include <stdlib.h>

/* inline.sh divides by it. */
#define ROUNDS 1000
#define BYTES 32

#define ALONE __attribute__((noinline))

ALONE static void *
inline_alloc(struct weir_region *region, size_t bytes)
{
	return weir_region_alloc(region, bytes);
}

ALONE static void *
inline_constant(struct weir_region *region, size_t bytes)
{
	__asm__ volatile("" : : "r"(bytes));
	return weir_region_alloc(region, BYTES - 8);
}

/* The alignment is known, the size is not. */
ALONE static void *
inline_aligned_any(struct weir_region *region, size_t bytes)
{
	return weir_region_alloc_aligned(region, bytes, 32);
}

ALONE static void *
inline_aligned(struct weir_region *region, size_t bytes)
{
	__asm__ volatile("" : : "r"(bytes));
	return weir_region_alloc_aligned(region, BYTES, 32);
}

typedef void *inline_fn(struct weir_region *region, size_t bytes);

/* inline.sh has callgrind look at what is called from here.  The first block
 * holds all of it: nothing but the inline path is met. */
ALONE static void
counted(struct weir_region *region, inline_fn *run)
{
	for (int i = 0; i < ROUNDS; i++)
		if (run(region, BYTES) == NULL)
			abort();
	__asm__ volatile("");
}

int
main(void)
{
	static inline_fn *const runs[] = {
	    inline_alloc, inline_constant, inline_aligned, inline_aligned_any};
	const struct weir_region_config config = {
	    .first_bytes = WEIR_REGION_FIRST_MAX,
	};

	for (size_t i = 0; i < sizeof(runs) / sizeof(runs[0]); i++) {
		struct weir_region_figures figures = {.size = sizeof(figures)};
		struct weir_region *region;

		if (weir_region_create(NULL, &config, &region) != 0)
			abort();
		counted(region, runs[i]);
		if (weir_region_stats(region, &figures) != 0 ||
		    figures.misses != 0)
			abort();
		weir_region_destroy(region);
	}
	return 0;
}
