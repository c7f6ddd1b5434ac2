/* SPDX-License-Identifier: MIT */
/*
 * heap_shape.c - where slots start in the slabs of a class, as numbers that a free
 * multiplies an address with.
 */
#include "pools/heap.h"

/* As depots have them; but a slab and its remainder must be known before. */
#define HEAP_SLAB_BYTES ((uint32_t)64 << 10)
#define HEAP_SLAB_SLOTS 4

/* Of the smallest slab that wastes an eighth at most and holds a few slots, the
 * bytes.  All classes have one of 64 to 256 KiB. */
static uint32_t
heap_slab_bytes(uint32_t slot_bytes)
{
	uint32_t bytes = HEAP_SLAB_BYTES;

	while (bytes / slot_bytes < HEAP_SLAB_SLOTS ||
	       bytes % slot_bytes > bytes / 8)
		bytes *= 2;
	return bytes;
}

/*
 * With step = floor(2^w / slot) + 1, step * slot is 2^w + e, where e is at least 1
 * and at most the slot.  Offset i * slot + r times step is i * e + r * step modulo
 * 2^w: for r = 0, where slots start, at most (slots - 1) * e, and else at least
 * step, which is more: slots * e is a slab at most, and a slab times a slot less
 * than 2^w.  It does not wrap, as what is missing to 2^w is at least
 * step - (i + 1) * e.  The remainder behind the last slot is shorter than one and
 * starts with slots * e, which is too many.  (Lemire, Kaser and Kurz, Software:
 * Practice and Experience 49, 2019.)
 */
struct weiri_heap_shape
weiri_heap_shape_of(uint32_t slot_bytes)
{
	uint32_t slab_bytes = heap_slab_bytes(slot_bytes);
	uint64_t slots = slab_bytes / slot_bytes;
	/* A power of two does not divide 2^64 - 1 either; all else is the same. */
	uint64_t step = UINT64_MAX / slot_bytes + 1;
	uint64_t error = step * slot_bytes;

	if (error == 0) {
		step++;
		error = slot_bytes;
	}
	return (struct weiri_heap_shape){
	    .step = step,
	    .below = (slots - 1) * error + 1,
	    .slab_mask = slab_bytes - 1,
	};
}

struct weiri_heap_starts
weiri_heap_starts_of(uint32_t slot_bytes)
{
	uint32_t slab_bytes = heap_slab_bytes(slot_bytes);
	uint32_t step = (uint32_t)((UINT64_C(1) << 32) / slot_bytes) + 1;
	uint32_t error = step * slot_bytes;

	if (slab_bytes - 1 != WEIRI_HEAP_SHORT_MASK)
		return (struct weiri_heap_starts){0, 0};
	return (struct weiri_heap_starts){
	    .step = step,
	    .below = (slab_bytes / slot_bytes - 1) * error + 1,
	};
}

struct weiri_heap_starts
weiri_heap_starts_in(const struct weir_heap *heap, uint32_t slot_bytes)
{
	if (heap != &weiri_heap_default)
		return (struct weiri_heap_starts){0, 0};
	if (!heap->each)
		return (struct weiri_heap_starts){WEIRI_HEAP_STEP_ANY, 0};
	return weiri_heap_starts_of(slot_bytes);
}
