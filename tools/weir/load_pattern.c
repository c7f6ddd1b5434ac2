/* SPDX-License-Identifier: MIT */
/*
 * load_pattern.c - the content of packets, cheap to make and to check.
 *
 *     [ length, 4 ][ mark: connection and packet, 8 ][ window of a table ... ]
 *       packets      payloads of 8 bytes and more
 *       only
 *
 * The window starts at a place hashed from connection and packet number, so a
 * packet of another connection, an old packet, a shifted or a repeated part
 * all differ from what is expected; the mark makes that certain even for two
 * packets whose windows coincide.  Making a packet is one copy out of 16 KiB
 * plus the packet size, checking it one comparison, so the client spends its
 * time in the kernel.
 */
#include "load_pattern.h"

#include <string.h>

#define PATTERN_MARK 8
#define PATTERN_HEAD_MAX (LOAD_PACKET_HEADER + PATTERN_MARK)
#define PATTERN_SEED 0x77656972u /* any constant: runs are comparable */

/* splitmix64 (Steele, Lea, Flood 2014). */
static uint64_t
pattern_random(uint64_t *state)
{
	uint64_t x = *state += 0x9e3779b97f4a7c15u;

	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	return x ^ (x >> 31);
}

void
pattern_init(struct load_pattern *pattern, enum load_protocol protocol,
    uint32_t payload_bytes)
{
	uint64_t state = PATTERN_SEED;
	uint32_t length = protocol == LOAD_PACKET ? LOAD_PACKET_HEADER : 0;

	pattern->protocol = protocol;
	pattern->payload_bytes = payload_bytes;
	pattern->wire_bytes = length + payload_bytes;
	pattern->head_bytes =
	    length + (payload_bytes >= PATTERN_MARK ? PATTERN_MARK : 0);
	for (size_t i = 0; i < sizeof(pattern->random); i++)
		pattern->random[i] = (unsigned char)pattern_random(&state);
}

static void
pattern_head(const struct load_pattern *pattern, uint32_t connection,
    uint64_t packet, unsigned char head[PATTERN_HEAD_MAX])
{
	/* 40 bits of packet number last 30 days at 400,000 a second. */
	uint64_t mark = (uint64_t)connection << 40 | (packet & 0xffffffffffu);
	uint32_t length = pattern->payload_bytes;

	if (pattern->protocol == LOAD_PACKET) {
		head[0] = (unsigned char)(length >> 24);
		head[1] = (unsigned char)(length >> 16);
		head[2] = (unsigned char)(length >> 8);
		head[3] = (unsigned char)length;
		head += LOAD_PACKET_HEADER;
	}
	memcpy(head, &mark, sizeof(mark));
}

/* The table at the place where the part after the head begins. */
static const unsigned char *
pattern_window(
    const struct load_pattern *pattern, uint32_t connection, uint64_t packet)
{
	uint64_t hash = (connection + 1) * 0x9e3779b97f4a7c15u +
			packet * 0xbf58476d1ce4e5b9u;

	hash ^= hash >> 29;
	return pattern->random +
	       (hash * 0x94d049bb133111ebu >> 40) % PATTERN_WINDOWS;
}

void
pattern_copy(const struct load_pattern *pattern, uint32_t connection,
    uint64_t packet, uint32_t offset, size_t bytes, unsigned char *to)
{
	unsigned char head[PATTERN_HEAD_MAX];

	if (offset < pattern->head_bytes) {
		size_t part = pattern->head_bytes - offset;

		part = part < bytes ? part : bytes;
		pattern_head(pattern, connection, packet, head);
		memcpy(to, head + offset, part);
		to += part;
		bytes -= part;
		offset += (uint32_t)part;
	}
	if (bytes > 0)
		memcpy(to,
		    pattern_window(pattern, connection, packet) + offset -
			pattern->head_bytes,
		    bytes);
}

bool
pattern_equal(const struct load_pattern *pattern, uint32_t connection,
    uint64_t packet, uint32_t offset, size_t bytes, const unsigned char *data)
{
	unsigned char head[PATTERN_HEAD_MAX];

	if (offset < pattern->head_bytes) {
		size_t part = pattern->head_bytes - offset;

		part = part < bytes ? part : bytes;
		pattern_head(pattern, connection, packet, head);
		if (memcmp(data, head + offset, part) != 0)
			return false;
		data += part;
		bytes -= part;
		offset += (uint32_t)part;
	}
	return bytes == 0 || memcmp(data,
				 pattern_window(pattern, connection, packet) +
				     offset - pattern->head_bytes,
				 bytes) == 0;
}

unsigned char
pattern_byte(const struct load_pattern *pattern, uint32_t connection,
    uint64_t packet, uint32_t offset)
{
	unsigned char byte;

	pattern_copy(pattern, connection, packet, offset, 1, &byte);
	return byte;
}
