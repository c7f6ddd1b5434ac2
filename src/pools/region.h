/* SPDX-License-Identifier: MIT */
/*
 * region.h - the inside of a region, for the files that implement it.
 *
 *   region.c          life: create, grow, reset, destroy
 *   region_cleanup.c  cleanup handlers
 *   region_text.c     copies and formatted strings
 *   region_supply.c   blocks and large objects, shared by all regions
 *   region_kind.c     kinds and their counters
 *   region_check.c    invariants R1-R6, per-region statistics
 *
 * A region lies at the start of its first block:
 *
 *     first block                          newest block
 *    +---------------+--------------+     +--------+---------+--------+
 *    | weiri_region  | objects      |<----| header | objects | room   |
 *    +---------------+--------------+     +--------+---------+--------+
 *      | newest ------------------------>            next ^     end ^
 *      | larges ---> descriptor ---> pages of one large object
 *      | cleanups -> handles, allocated among the objects
 */
#ifndef WEIRI_REGION_H
#define WEIRI_REGION_H

#include "base/bits.h"
#include "pages/pages.h"
#include "slab/depot.h"
#include "watch/registry.h"

#include <weir/region.h>

/* ---- blocks ----------------------------------------------------------- */

/*
 * A class is a block size: 1 KiB << class.  The first six come from depots,
 * through the thread's magazine; the others are spans.
 */
#define WEIRI_REGION_DEPOTS 6
#define WEIRI_REGION_CLASSES 11

#define WEIRI_REGION_CLASS_BYTES(block_class) \
	(WEIR_REGION_BLOCK_MIN << (block_class))

static_assert(
    WEIRI_REGION_CLASS_BYTES(WEIRI_REGION_DEPOTS - 1) == WEIR_REGION_FIRST_MAX,
    "a first block is a slot of a depot");
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

/* Pages of a large object or a block above the depots' sizes; allocated apart
 * from the region, so that the pages can outlive it in another. */
struct weiri_region_pages {
	struct weiri_span span; /* link: in region->larges */
};

/* Stands at the start of every block but the first. */
struct weiri_region_block {
	struct weiri_region_block *older;
	struct weiri_region_pages *pages; /* NULL: a slot of a depot */
	uint64_t block_class;
	uint64_t padding; /* objects are aligned to 16 */
};

static_assert(sizeof(struct weiri_region_block) % WEIR_REGION_ALIGN == 0,
    "objects follow the header");

/* ---- the region ------------------------------------------------------- */

/* Mixed with the address, so that a copied header is no region. */
#define WEIRI_REGION_LIVE UINT64_C(0x6e6f696765722b31)
#define WEIRI_REGION_DEAD UINT64_C(0x6e6f696765722d30)

struct weiri_region_kind;

struct weiri_region {
	struct weir_region bump; /* what the inline calls see; first */
	struct weiri_region_block *newest; /* the one `bump` is in */
	uint64_t magic;
	struct weiri_region_kind *kind;
	uint64_t charged_bytes; /* blocks and large objects */
	uint64_t limit_bytes;   /* UINT64_MAX: none */
	uint64_t peak_bytes;

	struct weiri_region_block first; /* for this block; older == NULL */
	struct weiri_list cleanups;      /* armed handles, newest first */
	struct weiri_list larges;
	struct weir_region_cleanup *cancelled; /* handles to use again */
	uint32_t large_bytes; /* objects above it get their own pages */
	uint8_t next_class;   /* of the next block, if it need not be larger */
	uint8_t max_class;
	bool ending; /* cleanups are running */
	uint8_t padding;
	uint64_t misses; /* blocks and large objects taken */
	uint64_t failures;
};

static_assert(offsetof(struct weiri_region, bump) == 0,
    "the public pointer is the region");
static_assert(offsetof(struct weiri_region, first) == WEIRI_CACHE_LINE,
    "growing reads one line");
static_assert(sizeof(struct weiri_region) % WEIR_REGION_ALIGN == 0,
    "objects follow the region");
static_assert(sizeof(struct weiri_region) <= 160, "as region.h tells users");

WEIRI_INLINE struct weiri_region *
weiri_region_of(struct weir_region *region)
{
	return (struct weiri_region *)(void *)region;
}

WEIRI_INLINE uint64_t
weiri_region_magic(const struct weiri_region *region, uint64_t state)
{
	return state ^ (uint64_t)(uintptr_t)region;
}

/* Block memory starts at the region for the first, at the header for others. */
WEIRI_INLINE char *
weiri_region_block_base(
    struct weiri_region *region, struct weiri_region_block *block)
{
	return block == &region->first ? (char *)region : (char *)block;
}

/* What a block of @block_class holds beside its header. */
WEIRI_INLINE size_t
weiri_region_class_room(unsigned block_class)
{
	return WEIRI_REGION_CLASS_BYTES(block_class) -
	       sizeof(struct weiri_region_block);
}

/* Where objects may start. */
WEIRI_INLINE char *
weiri_region_block_objects(
    struct weiri_region *region, struct weiri_region_block *block)
{
	return block == &region->first ? (char *)(region + 1)
				       : (char *)(block + 1);
}

/* Reports why @region is not live; @detail says what was done to it. */
WEIRI_COLD WEIRI_NORETURN void weiri_region_not_live(
    const struct weiri_region *region, const char *detail);

WEIRI_INLINE void
weiri_region_expect_live(const struct weiri_region *region, const char *detail)
{
	if (WEIR_UNLIKELY(
		region->magic != weiri_region_magic(region, WEIRI_REGION_LIVE)))
		weiri_region_not_live(region, detail);
}

/* As weir_region_alloc_slow(); *fresh: the object reads as zero already. */
void *weiri_region_alloc_slow(
    struct weiri_region *region, size_t bytes, size_t align, bool *fresh);

/* Counts a refused request; returns NULL. */
WEIRI_COLD void *weiri_region_refuse(struct weiri_region *region);

/* ---- cleanups --------------------------------------------------------- */

struct weir_region_cleanup {
	struct weiri_list link;
	weir_region_cleanup_fn run; /* or one of the marks below */
	void *context;              /* while cancelled: the next such handle */
};

/* Marks in `run` of a handle that is not armed.  Numbers and not functions of
 * our own, because a linker may fold equal functions into one. */
#define WEIRI_CLEANUP_RESERVED ((weir_region_cleanup_fn)(uintptr_t)1)
#define WEIRI_CLEANUP_CANCELLED ((weir_region_cleanup_fn)(uintptr_t)2)
#define WEIRI_CLEANUP_SPENT ((weir_region_cleanup_fn)(uintptr_t)3)

WEIRI_INLINE bool
weiri_region_cleanup_is_armed(const struct weir_region_cleanup *cleanup)
{
	return (uintptr_t)cleanup->run > 3;
}

/* Runs all, newest first, also those added meanwhile. */
void weiri_region_cleanups_run(struct weiri_region *region);

/* ---- supply ----------------------------------------------------------- */

/*
 * The depots behind all regions; made by the first region, kept for ever.
 */
struct weiri_region_supply {
	struct weiri_depot block[WEIRI_REGION_DEPOTS];
	struct weiri_depot pages; /* struct weiri_region_pages */
	struct weiri_pool pool;   /* internal: trim */
	char name[WEIRI_REGION_DEPOTS][24];
};

/* NULL until weiri_region_supply_start() returned 0 once. */
extern struct weiri_region_supply *weiri_region_supply;

/*
 * For a thread past weiri_region_supply_start(), whose acquire covers what the
 * pointer leads to, or that was handed a region made by such a thread.
 */
WEIRI_INLINE struct weiri_region_supply *
weiri_region_supply_now(void)
{
	return WEIRI_LOAD(&weiri_region_supply);
}

/* 0 or -ENOMEM.  Safe from any number of threads. */
int weiri_region_supply_start(void);

/* A first block, without a header; class below WEIRI_REGION_DEPOTS. */
void *weiri_region_first_take(unsigned block_class);
void weiri_region_first_give(void *block, unsigned block_class);

/* Another block with its header filled but for `older`; NULL without memory. */
struct weiri_region_block *weiri_region_block_take(unsigned block_class);
void weiri_region_block_give(struct weiri_region_block *block);

/* Pages of their own; NULL without memory. */
struct weiri_region_pages *weiri_region_pages_take(size_t bytes, size_t align);
void weiri_region_pages_give(struct weiri_region_pages *pages);

/* True when @region, any pointer, is in a block as its header says. */
bool weiri_region_in_block(const struct weiri_region *region);

/* ---- kinds ------------------------------------------------------------ */

/* The record behind @kind, made on first use; NULL without memory. */
struct weiri_region_kind *weiri_region_kind_of(struct weir_region_kind *kind);

const char *weiri_region_kind_name(const struct weiri_region_kind *kind);

/* One region more, one less; @bytes is its charge at that moment. */
void weiri_region_kind_enter(struct weiri_region_kind *kind, size_t bytes);
void weiri_region_kind_leave(struct weiri_region_kind *kind, uint64_t bytes);
/* A region took @bytes more because of one request. */
void weiri_region_kind_grow(struct weiri_region_kind *kind, size_t bytes);
/* A reset gave @bytes back. */
void weiri_region_kind_shrink(struct weiri_region_kind *kind, uint64_t bytes);
void weiri_region_kind_fail(struct weiri_region_kind *kind);

#endif /* WEIRI_REGION_H */
