/* SPDX-License-Identifier: MIT */
/*
 * load_pattern.h - what packet number n of connection c looks like.
 */
#ifndef WEIR_TOOL_LOAD_PATTERN_H
#define WEIR_TOOL_LOAD_PATTERN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "load.h"

#define PATTERN_WINDOWS 16384 /* different payload starts; a power of two */

struct load_pattern {
	uint32_t payload_bytes;
	uint32_t wire_bytes; /* payload and, for packets, the length */
	uint32_t head_bytes; /* length and mark, made for each packet */
	enum load_protocol protocol;
	unsigned char random[PATTERN_WINDOWS + LOAD_PAYLOAD_MAX];
};

void pattern_init(struct load_pattern *pattern, enum load_protocol protocol,
    uint32_t payload_bytes);

/** pattern_copy() - write the bytes [offset, end) of a packet to @to. */
void pattern_copy(const struct load_pattern *pattern, uint32_t connection,
    uint64_t packet, uint32_t offset, size_t bytes, unsigned char *to);

/** pattern_equal() - are @bytes at @data the packet's, from @offset on? */
bool pattern_equal(const struct load_pattern *pattern, uint32_t connection,
    uint64_t packet, uint32_t offset, size_t bytes, const unsigned char *data);

/** pattern_byte() - one byte of a packet, for a report. */
unsigned char pattern_byte(const struct load_pattern *pattern,
    uint32_t connection, uint64_t packet, uint32_t offset);

#endif /* WEIR_TOOL_LOAD_PATTERN_H */
