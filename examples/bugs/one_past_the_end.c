/* SPDX-License-Identifier: MIT */
/*
 * one_past_the_end.c - an index runs from 1 to n where it runs from 0 to n - 1.
 *
 * What it looks like: `for (i = 0; i <= count; i++)`.  Nothing happens as long
 * as rounding leaves some bytes behind the array; then a structure grows, and
 * what comes behind it changes.
 *
 * What weir says: where the library's own word comes behind the object, at the
 * free of the neighbour it belongs to; with other sizes nothing:
 *
 *     $ build/release/examples/bugs/one_past_the_end
 *     26 bins
 *     weir: FAULT corruption: cache "histogram": the word before object 0x...
 *     was overwritten; find the write past an end or after a free: watch this
 *     address
 *
 * In full mode whatever the size: at the write, or if that fell into the bytes
 * that rounding left, at the free of this object, with its stacks:
 *
 *     $ WEIR_GUARD=full build/release/examples/bugs/one_past_the_end
 *     26 bins
 *     weir: FAULT overflow: cache "histogram"
 *
 *     $ build/release/examples/bugs/one_past_the_end mended
 *     25 bins
 *
 * Slices (weir_slice_make()) and vectors (weir/region_vec.h) know their length.
 */
#include <weir/cache.h>

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define BINS 25

struct histogram {
	uint64_t bin[BINS];
};

__attribute__((noinline)) static size_t
histogram_clear(uint64_t *bin, size_t last)
{
	size_t i;

	for (i = 0; i <= last; i++)
		bin[i] = UINT64_MAX;
	return i;
}

int
main(int argc, char **argv)
{
	bool mended = argc > 1 && strcmp(argv[1], "mended") == 0;
	struct weir_cache *cache;
	struct histogram *one, *other;

	if (weir_cache_create("histogram",
		&(struct weir_cache_config){
		    .object_bytes = sizeof(struct histogram)},
		&cache) != 0)
		return 1;
	one = weir_cache_alloc(cache);
	other = weir_cache_alloc(cache);
	if (one == NULL || other == NULL)
		return 1;
	printf(
	    "%zu bins\n", histogram_clear(one->bin, mended ? BINS - 1 : BINS));
	(void)histogram_clear(other->bin, mended ? BINS - 1 : BINS);
	weir_cache_free(cache, one);
	weir_cache_free(cache, other);
	weir_cache_destroy(cache);
	return 0;
}
