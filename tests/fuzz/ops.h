/* SPDX-License-Identifier: MIT */
/*
 * ops.h - bytes as operations on pools, and the shadow that knows better.
 *
 * An input is a string of bytes; each operation takes from its front what it
 * needs, and a string that ended reads as zero.  So every string is a sequence
 * of correct calls, and cutting bytes off one leaves another.
 *
 *   ops.c         reads the bytes; the shadow; one input from start to end
 *   ops_cache.c   caches and a heap
 *   ops_region.c  regions: savepoints, regions below, sizes that change
 *   ops_buffer.c  buffers: references, slices, a chain
 *   fuzz_ops.c    for libFuzzer
 *   test_ops.c    the seeds and random inputs, in every configuration
 *
 * The shadow has each object that is out, by address: a new one must be aligned
 * and lie beside all others, and what was written to it is there when it ends.
 */
#ifndef FUZZ_OPS_H
#define FUZZ_OPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Runs one input; a difference between pool and shadow ends the program. */
void ops_run(const uint8_t *data, size_t bytes);

/* ---- the input -------------------------------------------------------------- */

bool ops_more(void);
uint8_t ops_byte(void);
uint16_t ops_word(void);
/* 0 .. bound - 1. */
unsigned ops_below(unsigned bound);
/* Mostly small, sometimes beyond what a slab or a block has. */
size_t ops_size(void);

/* ---- the shadow --------------------------------------------------------------- */

#define SHADOW_OBJECTS 1024

struct shadow_object {
	unsigned char *address;
	size_t bytes;
	const void *owner;
	uint64_t order; /* of being taken; rises */
	uint8_t seed;   /* of what it holds */
};

_Noreturn void ops_fail(const char *file, int line, const char *text);
#define OPS_CHECK(condition)                                      \
	do {                                                      \
		if (!(condition))                                 \
			ops_fail(__FILE__, __LINE__, #condition); \
	} while (0)

bool shadow_full(void);
uint64_t shadow_now(void);
/* A new object; its bytes are written.  One of no bytes is looked at and not
 * kept. */
void shadow_add(const void *owner, void *address, size_t bytes, size_t align);
/* It is what it was; then it is no object any more. */
void shadow_remove(struct shadow_object *object);
void shadow_verify(const struct shadow_object *object);
/* It lies elsewhere, or has another size: its first bytes have come along. */
void shadow_move(
    struct shadow_object *object, void *address, size_t bytes, size_t align);
/* It is handed out zeroed. */
void shadow_expect_zero(const void *address, size_t bytes);
/* One of @owner's by number, or NULL if it has none. */
struct shadow_object *shadow_pick(const void *owner, unsigned number);
size_t shadow_count(const void *owner);
/* Those of @owner taken at @since or later end with what they are in. */
void shadow_end(const void *owner, uint64_t since);
/* They are another's from now on, as if taken now. */
void shadow_give(const void *owner, const void *to);
void shadow_verify_all(void);

/* ---- pools -------------------------------------------------------------------- */

struct ops_pool {
	void (*begin)(void);
	void (*step)(void);
	void (*check)(void); /* figures and walkers */
	void (*end)(void);   /* all back, all ended */
};

extern const struct ops_pool ops_cache, ops_heap, ops_region, ops_buffer;

#endif /* FUZZ_OPS_H */
