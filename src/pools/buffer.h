/* SPDX-License-Identifier: MIT */
/*
 * buffer.h - what a buffer pool is made of: tiers, their payload, descriptors.
 *
 * buffer_pool.c makes and ends pools and states the invariants, buffer_check.c
 * walks them, buffer.c counts references, buffer_slice.c cuts slices.
 */
#ifndef WEIRI_BUFFER_H
#define WEIRI_BUFFER_H

#include "slab/cursor.h"
#include "watch/registry.h"

#include <weir/buffer.h>

/*
 * The upper half of a descriptor's flags says that it is one; a pointer to
 * anything else is recognised on the line a release reads anyway.
 */
#define WEIRI_BUFFER_SEAL 0xb1fe0000u
#define WEIRI_BUFFER_SEAL_MASK 0xffff0000u
#define WEIRI_BUFFER_EXTERNAL 0x0100u /* over foreign memory, no pool */
#define WEIRI_BUFFER_CHARGED 0x0200u  /* counted in held_bytes of its pool */
#define WEIRI_BUFFER_PUBLIC_FLAGS ((uint32_t)WEIR_BUFFER_WIPE)

/* Words of weir_buffer.internal.  Word 0 stays free beside the count. */
#define WEIRI_BUFFER_RELEASE_WORD 1 /* external: its release function */
#define WEIRI_BUFFER_CONTEXT_WORD 2 /* external: the argument for it */

/* The whole struct is one slot of a depot and one cache line. */
static_assert(sizeof(struct weir_buffer) == WEIRI_CACHE_LINE,
    "a descriptor fills one line");
static_assert(sizeof(struct weir_slice) == 16, "two slices half a line");

#define WEIRI_BUFFER_NO_LIMIT UINT64_MAX

/* "weir liv": what a pool's state is between creation and end. */
#define WEIRI_BUFFER_POOL_LIVE UINT64_C(0x77656972206c6976)

/* Payload of one slab of descriptors; slab->companion points here. */
struct weiri_payload {
	struct weiri_span span; /* first: the page map answers with it */
	struct weiri_slab *slab;
	struct weiri_buffer_tier *tier;
};

struct weiri_buffer_tier {
	struct weiri_depot depot;
	struct weiri_pool entry; /* "<pool>/<bytes>" in the registry */
	struct weir_buffer_pool *pool;
	uint32_t bytes;  /* of payload, as configured */
	uint32_t stride; /* bytes rounded up to its alignment */
	uint32_t index;
	uint32_t slab_slots;
	uint64_t limit;            /* buffers; UINT64_MAX: none */
	uint64_t refused_by_bytes; /* limit_bytes said no, not the depot */
	uint64_t refused_by_size;  /* larger than any tier; in the last one */
	struct weiri_mutex lock;   /* guards the list; a leaf */
	struct weiri_list payloads;
	uint64_t payload_bytes; /* sum over the list; racing reads */
};

struct weir_buffer_pool {
	uint32_t flags;     /* of a buffer just acquired */
	uint32_t bytes_max; /* of the largest tier */
	/* fit[ceil(log2(bytes))]: the first tier that may fit */
	uint8_t fit[24];
	uint64_t limit_bytes; /* WEIRI_BUFFER_NO_LIMIT: held is not kept */
	uint32_t tier_count;
	bool prefault; /* slot_init touches the payload: while creating */
	char name[WEIRI_NAME_BYTES];
	/* Not at the front, which the free list of metadata uses once the
	 * record is given back: a second destroy still reads it. */
	uint64_t state; /* WEIRI_BUFFER_POOL_LIVE, or it is no pool any more */

	/* Payload in callers' hands; alone on its line. */
	WEIRI_ALIGNED(WEIRI_CACHE_LINE) uint64_t held_bytes;

	WEIRI_ALIGNED(WEIRI_CACHE_LINE) struct weiri_buffer_tier tier[];
};

/* Of every tier's depot, and of no other: tells a slab of descriptors. */
extern const struct weiri_depot_hooks weiri_buffer_hooks;

/* The descriptor's place in its pool; @buffer is a pool's. */
WEIRI_INLINE struct weiri_buffer_tier *
weiri_buffer_tier(const struct weir_buffer *buffer)
{
	return &buffer->pool->tier[buffer->tier];
}

#endif /* WEIRI_BUFFER_H */
