/* SPDX-License-Identifier: MIT */
/*
 * test_load_pattern.c - the packets of `weir load`: any wrong byte shows.
 */
#include "test.h"

#include <stdlib.h>
#include <string.h>

#include "../../tools/weir/load_pattern.c"

#define WIRE_MAX (LOAD_PACKET_HEADER + LOAD_PAYLOAD_MAX)

static struct load_pattern pattern;
static unsigned char packet[WIRE_MAX];
static unsigned char copy[WIRE_MAX];

static const uint32_t sizes[] = {0, 1, 7, 8, 9, 64, 1024, LOAD_PAYLOAD_MAX};

TEST(load_pattern_header_is_the_big_endian_length)
{
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		uint32_t size = sizes[i];

		pattern_init(&pattern, LOAD_PACKET, size);
		CHECK_EQ(pattern.wire_bytes, size + 4);
		pattern_copy(&pattern, 3, 5, 0, size + 4, packet);
		CHECK_EQ((uint32_t)packet[0] << 24 | (uint32_t)packet[1] << 16 |
			     (uint32_t)packet[2] << 8 | packet[3],
		    size);
	}
}

TEST(load_pattern_parts_make_the_whole)
{
	struct test_rng rng;

	test_rng_init(&rng, test_seed());
	for (size_t round = 0; round < test_count(2000); round++) {
		size_t i = test_rand_below(&rng, 8);
		enum load_protocol protocol =
		    test_rand_below(&rng, 2) == 0 ? LOAD_RAW : LOAD_PACKET;
		uint32_t connection = (uint32_t)test_rand_below(&rng, 10000);
		uint64_t number = test_rand_below(&rng, 1000000);
		uint32_t at = 0;

		pattern_init(&pattern, protocol, sizes[i]);
		uint32_t wire = pattern.wire_bytes;
		pattern_copy(&pattern, connection, number, 0, wire, packet);
		while (at < wire) {
			uint32_t part =
			    1 + (uint32_t)test_rand_below(&rng, wire - at);

			if (test_rand_below(&rng, 2) == 0 && part > 16)
				part = 1 + part % 16;
			pattern_copy(
			    &pattern, connection, number, at, part, copy + at);
			CHECK(pattern_equal(&pattern, connection, number, at,
			    part, packet + at));
			at += part;
		}
		CHECK_MEM(copy, packet, wire);
	}
}

TEST(load_pattern_notices_each_single_flipped_bit)
{
	pattern_init(&pattern, LOAD_PACKET, 100);
	pattern_copy(&pattern, 7, 9, 0, 104, packet);
	for (uint32_t bit = 0; bit < 104 * 8; bit++) {
		packet[bit / 8] ^= (unsigned char)(1u << (bit % 8));
		CHECK(!pattern_equal(&pattern, 7, 9, 0, 104, packet));
		packet[bit / 8] ^= (unsigned char)(1u << (bit % 8));
	}
	CHECK(pattern_equal(&pattern, 7, 9, 0, 104, packet));
}

TEST(load_pattern_differs_between_packets_and_connections)
{
	pattern_init(&pattern, LOAD_PACKET, 64);
	for (uint32_t connection = 0; connection < 100; connection++)
		for (uint64_t number = 0; number < 100; number++) {
			pattern_copy(
			    &pattern, connection, number, 0, 68, packet);
			CHECK(!pattern_equal(
			    &pattern, connection + 1, number, 0, 68, packet));
			CHECK(!pattern_equal(
			    &pattern, connection, number + 1, 0, 68, packet));
		}
}
