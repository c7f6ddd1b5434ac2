/* SPDX-License-Identifier: MIT */
/*
 * bits.h - powers of two, rounding and bitmaps.
 */
#ifndef WEIRI_BITS_H
#define WEIRI_BITS_H

#include "base/compiler.h"

WEIRI_INLINE bool
weiri_is_pow2(size_t value)
{
	return value != 0 && (value & (value - 1)) == 0;
}

/* @align is a power of two; wraps to 0 only when @value is within @align of
 * SIZE_MAX, which callers exclude by their size limits. */
WEIRI_INLINE size_t
weiri_round_up(size_t value, size_t align)
{
	return (value + align - 1) & ~(align - 1);
}

WEIRI_INLINE unsigned
weiri_log2_floor(size_t value) /* value > 0 */
{
	return 63u - (unsigned)__builtin_clzll(value);
}

WEIRI_INLINE unsigned
weiri_log2_ceil(size_t value) /* value > 0 */
{
	return value <= 1 ? 0 : weiri_log2_floor(value - 1) + 1;
}

WEIRI_INLINE size_t
weiri_min(size_t a, size_t b)
{
	return a < b ? a : b;
}

WEIRI_INLINE size_t
weiri_max(size_t a, size_t b)
{
	return a > b ? a : b;
}

#define WEIRI_BITMAP_WORDS(bits) (((bits) + 63) / 64)

WEIRI_INLINE bool
weiri_bit_test(const uint64_t *map, size_t bit)
{
	return (map[bit / 64] >> (bit % 64)) & 1;
}

WEIRI_INLINE void
weiri_bit_set(uint64_t *map, size_t bit)
{
	map[bit / 64] |= UINT64_C(1) << (bit % 64);
}

WEIRI_INLINE void
weiri_bit_clear(uint64_t *map, size_t bit)
{
	map[bit / 64] &= ~(UINT64_C(1) << (bit % 64));
}

#endif /* WEIRI_BITS_H */
