/* SPDX-License-Identifier: MIT */
/*
 * region_size.h - how large blocks are.
 *
 * Blocks after the first are 1 KiB << class.  The first seven classes come from
 * depots, the others are spans of pages.
 *
 * First blocks are as large as the regions of a kind need, all from depots, one
 * for each size ("bin"):
 *
 *     from      512    1 Ki   2 Ki   4 Ki .. 16 Ki    24, 32, 48, 64 Ki
 *     by steps   64     128    256      512            two to a doubling
 *     bins      0..8  ..16   ..24    ..48             ..52
 *
 * A block that is too large costs memory as long as its unused end shares pages
 * with its neighbour, so the steps are an eighth of the size, and an eighth of a
 * page from there on.  Larger blocks are whole pages: those that a region does
 * not touch cost nothing, and a coarser step means that more kinds share them.
 *
 * The histogram of a kind has the same bins and goes on by doublings.
 */
#ifndef WEIRI_REGION_SIZE_H
#define WEIRI_REGION_SIZE_H

#include "base/bits.h"
#include "pages/pages.h"

#include <weir/region.h>

#define WEIRI_REGION_FIRSTS 53
#define WEIRI_REGION_DEPOTS 7
#define WEIRI_REGION_CLASSES 11
#define WEIRI_REGION_BINS 64u

#define WEIRI_REGION_CLASS_BYTES(block_class) \
	(WEIR_REGION_BLOCK_MIN << (block_class))

/* The last bin of each of the three steps above. */
#define WEIRI_REGION_BIN_EIGHTHS 24
#define WEIRI_REGION_BIN_STEPS 48
#define WEIRI_REGION_BIN_HALVES (WEIRI_REGION_FIRSTS - 1)

/* For constants; else weiri_region_bin_bytes().  Shifts are kept in their range
 * where another branch is taken, too. */
/* clang-format off */
#define WEIRI_REGION_BIN_BYTES(bin)                                      \
	((bin) <= WEIRI_REGION_BIN_EIGHTHS                               \
		? (size_t)(8 + (bin) % 8) << (6 + (bin) / 8)             \
	: (bin) <= WEIRI_REGION_BIN_STEPS                                \
		? (size_t)(8 + (bin) - WEIRI_REGION_BIN_EIGHTHS) << 9    \
	: (bin) <= WEIRI_REGION_BIN_HALVES                               \
		? (size_t)(2 + (bin) % 2) << (((bin) / 2 - 11) & 63)      \
		: (size_t)1 << (((bin) - WEIRI_REGION_BIN_HALVES + 16) & 63))
/* clang-format on */

static_assert(WEIRI_REGION_BIN_BYTES(0) == WEIR_REGION_FIRST_MIN &&
		  WEIRI_REGION_BIN_BYTES(WEIRI_REGION_FIRSTS - 1) ==
		      WEIR_REGION_FIRST_MAX,
    "sizes of first blocks are all that may be asked for");
static_assert(WEIRI_REGION_BIN_BYTES(24) == 4 << 10 &&
		  WEIRI_REGION_BIN_BYTES(25) == (4 << 10) + 512 &&
		  WEIRI_REGION_BIN_BYTES(48) == 16 << 10 &&
		  WEIRI_REGION_BIN_BYTES(49) == 24 << 10 &&
		  WEIRI_REGION_BIN_BYTES(50) == 32 << 10 &&
		  WEIRI_REGION_BIN_BYTES(53) == 128 << 10,
    "one step goes on where another ends");
static_assert(
    WEIRI_REGION_CLASS_BYTES(WEIRI_REGION_CLASSES - 1) == WEIR_REGION_BLOCK_MAX,
    "classes end at the largest block");

/* The smallest class of at least @bytes, which is at most BLOCK_MAX. */
WEIRI_INLINE unsigned
weiri_region_class(size_t bytes)
{
	unsigned log2 = weiri_log2_ceil(bytes);

	return log2 <= 10 ? 0 : log2 - 10;
}

/* Each bin's size, and the bin for up to 64 times the index: region_size.c. */
extern const uint32_t weiri_region_sizes[WEIRI_REGION_BINS]
    __attribute__((visibility("hidden")));
extern const uint8_t weiri_region_bins[(WEIR_REGION_FIRST_MAX >> 6) + 1]
    __attribute__((visibility("hidden")));

WEIRI_INLINE size_t
weiri_region_bin_bytes(size_t bin)
{
	WEIR_ASSERT(bin < WEIRI_REGION_BINS);
	return weiri_region_sizes[bin];
}

/* The smallest bin of at least @bytes, which one first block can hold. */
WEIRI_INLINE unsigned
weiri_region_first_bin(size_t bytes)
{
	WEIR_ASSERT(bytes <= WEIR_REGION_FIRST_MAX);
	return weiri_region_bins[(bytes + 63) >> 6];
}

/* The same of up to what the last bin has. */
WEIRI_INLINE unsigned
weiri_region_bin(size_t bytes)
{
	if (bytes <= WEIR_REGION_FIRST_MAX)
		return weiri_region_first_bin(bytes);
	return weiri_log2_ceil(bytes) - 16 + WEIRI_REGION_BIN_HALVES;
}

#endif /* WEIRI_REGION_SIZE_H */
