/* SPDX-License-Identifier: MIT */
/*
 * dirty.h - runs of bits in the bitmaps of extents.
 *
 * A run is [first, first + count); only words with a bit of it are read.
 */
#ifndef WEIRI_DIRTY_H
#define WEIRI_DIRTY_H

#include "base/bits.h"

/* The bits of word @word that lie in [first, end). */
WEIRI_INLINE uint64_t
weiri_bits_mask(size_t word, size_t first, size_t end)
{
	uint64_t mask = UINT64_MAX;

	if (word == first / 64)
		mask &= UINT64_MAX << (first % 64);
	if (word == end / 64)
		mask &= (UINT64_C(1) << (end % 64)) - 1;
	return mask;
}

WEIRI_INLINE size_t
weiri_bits_count(const uint64_t *map, size_t first, size_t count)
{
	size_t end = first + count, sum = 0;

	for (size_t word = first / 64; word * 64 < end; word++)
		sum += (size_t)__builtin_popcountll(
		    map[word] & weiri_bits_mask(word, first, end));
	return sum;
}

WEIRI_INLINE void
weiri_bits_set(uint64_t *map, size_t first, size_t count)
{
	size_t end = first + count;

	for (size_t word = first / 64; word * 64 < end; word++)
		map[word] |= weiri_bits_mask(word, first, end);
}

WEIRI_INLINE void
weiri_bits_clear(uint64_t *map, size_t first, size_t count)
{
	size_t end = first + count;

	for (size_t word = first / 64; word * 64 < end; word++)
		map[word] &= ~weiri_bits_mask(word, first, end);
}

/* The first bit at or after @from that is @value, or @end. */
static inline size_t
weiri_bits_find(const uint64_t *map, size_t from, size_t end, bool value)
{
	while (from < end) {
		uint64_t word = value ? map[from / 64] : ~map[from / 64];

		word &= UINT64_MAX << (from % 64);
		if (word != 0) {
			size_t bit =
			    from / 64 * 64 + (size_t)__builtin_ctzll(word);

			return weiri_min(bit, end);
		}
		from = (from / 64 + 1) * 64;
	}
	return end;
}

#endif /* WEIRI_DIRTY_H */
