/* SPDX-License-Identifier: MIT */
/*
 * buddy_core.h - a buddy allocator over unit numbers 0 .. N-1.
 *
 * It knows numbers only: no addresses, no system, no lock, no allocation, no
 * abort.  The caller supplies the records' storage and serialises the calls.
 * The page supply runs one over the pages of each extent, weir_buddy one over
 * whatever its user hands out.
 */
#ifndef WEIRI_BUDDY_CORE_H
#define WEIRI_BUDDY_CORE_H

#include "base/bits.h"

/* Orders 0 .. 31, so that a set of orders is one 32-bit word. */
#define WEIRI_BUDDY_ORDERS 32
#define WEIRI_BUDDY_UNITS_MAX ((size_t)1 << (WEIRI_BUDDY_ORDERS - 1))
#define WEIRI_BUDDY_NONE UINT32_MAX

struct weiri_buddy_link {
	uint32_t next, prev; /* free head: list; run head: next is its length */
};

struct weiri_buddy_core {
	uint32_t unit_count;
	uint32_t free_count; /* units in free blocks */
	uint32_t run_count;
	uint32_t order_mask; /* bit o: free[o] is not empty */
	uint32_t free[WEIRI_BUDDY_ORDERS];
	uint32_t blocks[WEIRI_BUDDY_ORDERS]; /* length of each list */
	struct weiri_buddy_link *link;
	uint8_t *state;
};

/* What a unit number given back turned out to be. */
enum weiri_buddy_result {
	WEIRI_BUDDY_OK = 0,
	WEIRI_BUDDY_OUTSIDE,  /* not below unit_count */
	WEIRI_BUDDY_FREE,     /* in a free block: never out, or freed before */
	WEIRI_BUDDY_INTERIOR, /* inside a run, not its first unit */
	WEIRI_BUDDY_FULL,     /* no room (allocation and growth) */
};

/* Bytes of records for @unit_count units; their alignment is 4. */
size_t weiri_buddy_core_bytes(size_t unit_count);

/* All units free.  @unit_count is 1 .. WEIRI_BUDDY_UNITS_MAX; @records must
 * read as zero and stay until the last use. */
void weiri_buddy_core_init(
    struct weiri_buddy_core *core, size_t unit_count, void *records);

/* The order whose blocks hold @count units at @align; both > 0. */
WEIRI_INLINE unsigned
weiri_buddy_core_order(size_t count, size_t align)
{
	return weiri_log2_ceil(weiri_max(count, align));
}

/*
 * First unit of @count consecutive units, a multiple of @align (a power of
 * two), or WEIRI_BUDDY_NONE.  Needs a free block of the covering power of two,
 * whose tail stays free; when all is free, any count up to unit_count will do.
 */
uint32_t weiri_buddy_core_alloc(
    struct weiri_buddy_core *core, size_t count, size_t align);

/* Ends the run that starts at @index; *count receives its length. */
enum weiri_buddy_result weiri_buddy_core_free(
    struct weiri_buddy_core *core, size_t index, uint32_t *count);

/* Changes the length of a run where it lies, count > 0; growing takes the
 * units behind it if they are free (WEIRI_BUDDY_FULL). */
enum weiri_buddy_result weiri_buddy_core_resize(
    struct weiri_buddy_core *core, size_t index, size_t count);

/* Makes two runs of the one at @index: @count units and the rest. */
enum weiri_buddy_result weiri_buddy_core_split(
    struct weiri_buddy_core *core, size_t index, size_t count);

/* Tells what @index is: OK for the head of a run, with its length. */
enum weiri_buddy_result weiri_buddy_core_query(
    const struct weiri_buddy_core *core, size_t index, uint32_t *count);

/* Length of the free block or run that starts at @index, which must be the
 * start of one: 0, or where another one ends. */
uint32_t weiri_buddy_core_extent(
    const struct weiri_buddy_core *core, uint32_t index, bool *is_free);

/* The order of the largest free block, or -1. */
WEIRI_INLINE int
weiri_buddy_core_largest(const struct weiri_buddy_core *core)
{
	return core->order_mask == 0 ? -1
				     : (int)weiri_log2_floor(core->order_mask);
}

/* The free units of one buddy or of several. */
struct weiri_buddy_tally {
	uint64_t free_units;
	uint64_t largest_units; /* sum over the buddies of the largest run that
				 * is sure to be had */
	uint64_t blocks[WEIRI_BUDDY_ORDERS];
};

void weiri_buddy_core_tally(
    const struct weiri_buddy_core *core, struct weiri_buddy_tally *sum);

/* The share of free units beside the largest run, in thousandths: 0 when the
 * free units of each buddy are one run, towards 1000 when they are crumbs. */
uint32_t weiri_buddy_fragmentation(const struct weiri_buddy_tally *tally);

/* The longest run that is sure to be had. */
WEIRI_INLINE uint32_t
weiri_buddy_core_longest(const struct weiri_buddy_core *core)
{
	int order = weiri_buddy_core_largest(core);

	if (core->run_count == 0)
		return core->unit_count;
	return order < 0 ? 0 : UINT32_C(1) << (unsigned)order;
}

/* The records of the units behind the first of a free block, which say nothing:
 * as two ranges whose bytes may become zeros at any time between calls. */
struct weiri_buddy_blank {
	char *base;
	size_t bytes;
};

void weiri_buddy_core_blank(const struct weiri_buddy_core *core, uint32_t index,
    struct weiri_buddy_blank blank[2]);

/* Tests B1 .. B5 of buddy_core.c; NULL, or the one that is broken. */
const char *weiri_buddy_core_check(const struct weiri_buddy_core *core);

#endif /* WEIRI_BUDDY_CORE_H */
