/* SPDX-License-Identifier: MIT */
/*
 * region_size.c - the sizes of first blocks, as tables: a region that ends finds
 * its bin by one load.
 */
#include "pools/region_size.h"

#define BYTES1(bin) (uint32_t) WEIRI_REGION_BIN_BYTES(bin)
#define BYTES4(bin) \
	BYTES1(bin), BYTES1((bin) + 1), BYTES1((bin) + 2), BYTES1((bin) + 3)
#define BYTES16(bin) \
	BYTES4(bin), BYTES4((bin) + 4), BYTES4((bin) + 8), BYTES4((bin) + 12)

const uint32_t weiri_region_sizes[WEIRI_REGION_BINS] = {
    BYTES16(0), BYTES16(16), BYTES16(32), BYTES16(48)};

/* @n entries of one bin. */
#define X1(bin) (bin)
#define X2(bin) X1(bin), X1(bin)
#define X4(bin) X2(bin), X2(bin)
#define X8(bin) X4(bin), X4(bin)
#define X16(bin) X8(bin), X8(bin)
#define X32(bin) X16(bin), X16(bin)
#define X64(bin) X32(bin), X32(bin)
#define X128(bin) X64(bin), X64(bin)
#define X256(bin) X128(bin), X128(bin)

/* Eight bins that are @n times 64 bytes apart. */
#define EIGHT(n, bin)                                                 \
	X##n(bin), X##n((bin) + 1), X##n((bin) + 2), X##n((bin) + 3), \
	    X##n((bin) + 4), X##n((bin) + 5), X##n((bin) + 6), X##n((bin) + 7)

const uint8_t weiri_region_bins[(WEIR_REGION_FIRST_MAX >> 6) + 1] = {X8(0),
    X1(0), EIGHT(1, 1), EIGHT(2, 9), EIGHT(4, 17), EIGHT(8, 25), EIGHT(8, 33),
    EIGHT(8, 41), X128(49), X128(50), X256(51), X256(52)};
