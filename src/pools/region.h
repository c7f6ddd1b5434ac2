/* SPDX-License-Identifier: MIT */
/*
 * region.h - the inside of a region, for the files that implement it.
 *
 *   region.c          create, and what a resting region keeps
 *   region_grow.c     blocks and large objects of one region
 *   region_end.c      reset, destroy
 *   region_tree.c     regions below regions, moving between them
 *   region_mark.c     savepoints
 *   region_rules.c    budgets and what happens without memory
 *   region_owner.c    threads: whose a region is, handing it over
 *   region_cleanup.c  cleanup handlers
 *   region_text.c     copies and formatted strings
 *   region_realloc.c  objects that change their size, spare arrays
 *   region_writer.c   text written piece by piece
 *   region_vec.c      vectors
 *   region_watch.c    live regions: finding and reading them
 *   region_dump.c     and showing them
 *   region_place.c    regions in memory of the caller's
 *   region_supply.c   blocks and large objects, shared by all regions
 *   region_idle.c     blocks that nobody wants go back
 *   region_kind.c     kinds: their counters and what they learn
 *   region_check.c    invariants R1-R9, per-region statistics
 *   region_guard.c    regions whose objects are under guard
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
 *      | children -> the `sibling` of regions below
 *
 * First blocks and others are slots of different depots, so a first block that
 * rests in a magazine holds the header of a region that ended, whole: the next
 * region of the same kind on the same thread needs a few stores to begin.
 */
#ifndef WEIRI_REGION_H
#define WEIRI_REGION_H

#include "base/bits.h"
#include "base/detector.h"
#include "guard/guard.h"
#include "pages/pages.h"
#include "slab/depot.h"
#include "watch/registry.h"

#include <weir/region.h>

/* ---- block sizes ------------------------------------------------------ */

/*
 * Sizes of first blocks are two to a doubling: 512, 768 B, 1, 1.5, 2 .. 64 KiB,
 * all from depots.  Those of other blocks are 1 KiB << class; the first seven
 * come from depots, the others are spans.
 *
 * Four to a doubling would save a tenth more, and are too fine for what 32 ends
 * tell of a quantile: kinds would go to and fro between neighbours.
 */
#define WEIRI_REGION_FIRSTS 15
#define WEIRI_REGION_DEPOTS 7
#define WEIRI_REGION_CLASSES 11

/* Bins of a kind's histogram go on as the sizes of first blocks begin. */
#define WEIRI_REGION_BINS 48u

#define WEIRI_REGION_CLASS_BYTES(block_class) \
	(WEIR_REGION_BLOCK_MIN << (block_class))

#define WEIRI_REGION_BIN_BYTES(bin) \
	((WEIR_REGION_FIRST_MIN / 2 * (2 + ((bin)&1))) << ((bin) / 2))

static_assert(
    WEIRI_REGION_BIN_BYTES(WEIRI_REGION_FIRSTS - 1) == WEIR_REGION_FIRST_MAX,
    "sizes of first blocks end at the largest");
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

/* The smallest bin of at least @bytes; not for more than the last has. */
WEIRI_INLINE unsigned
weiri_region_bin(size_t bytes)
{
	/* Of 2^n .. 2^(n+1) - 1, the bit below the highest tells the half; 511,
	 * the least, is in the second one before bin 0. */
	size_t last = weiri_max(bytes, WEIR_REGION_FIRST_MIN) - 1;
	unsigned log2 = weiri_log2_floor(last);

	return 2 * (log2 - 9) + (unsigned)((last >> (log2 - 1)) & 1) + 1;
}

/* The same for what one first block can hold, by bytes / 256. */
extern const uint8_t weiri_region_bins[(WEIR_REGION_FIRST_MAX >> 8) + 1]
    __attribute__((visibility("hidden")));

WEIRI_INLINE unsigned
weiri_region_first_bin(size_t bytes)
{
	WEIR_ASSERT(bytes <= WEIR_REGION_FIRST_MAX);
	return weiri_region_bins[(bytes + 255) >> 8];
}

/* ---- blocks ----------------------------------------------------------- */

struct weiri_region;

/* Pages of a large object or a block above the depots' sizes; allocated apart
 * from the region, so that the pages can outlive it in another. */
struct weiri_region_pages {
	struct weiri_span span;      /* link: in region->larges */
	struct weiri_region *region; /* of a large object; NULL: a block */
	uint32_t order;              /* as first.marks when it came */
	bool guarded; /* span.base is the guard's, span.bytes what is charged */
	bool small;   /* would lie in a block, were its region not guarded */
};

enum weiri_region_block_kind {
	WEIRI_BLOCK_FIRST = 0,  /* the header is region->first */
	WEIRI_BLOCK_PLACED = 3, /* likewise, in memory of the caller's */
	WEIRI_BLOCK_DEPOT = 1,  /* a slot of supply->block[class] */
	WEIRI_BLOCK_PAGES = 2,  /* block->pages */
};

/* Stands at the start of every block; in the first, inside the region. */
struct weiri_region_block {
	struct weiri_region_block *older;
	struct weiri_region_pages *pages; /* of PAGES */
	uint32_t bytes;                   /* from the base to the end */
	uint32_t marks;                   /* in a region: savepoints in force */
	uint8_t kind;                     /* enum weiri_region_block_kind */
	uint8_t block_class; /* of DEPOT; of FIRST the bin, if from a depot */
	uint16_t stamp;      /* in a region: of its last savepoint, ever */
	uint32_t order;      /* in a region below another or merged into it:
			      * marks there when it came */
};

static_assert(sizeof(struct weiri_region_block) == 32 &&
		  sizeof(struct weiri_region_block) % WEIR_REGION_ALIGN == 0,
    "objects follow the header");

/* ---- the region ------------------------------------------------------- */

/* Mixed with the address, so that a copied header is no region. */
#define WEIRI_REGION_LIVE UINT64_C(0x6e6f696765722b31)
#define WEIRI_REGION_DEAD UINT64_C(0x6e6f696765722d30)

/*
 * What the short ways of reset and destroy must not pass over.  Set with the
 * first thing of its sort, cleared when all are gone at a reset or the end.
 */
enum weiri_region_attention {
	WEIRI_HAS_BLOCKS = 1 << 0, /* beside those a reset keeps */
	WEIRI_HAS_LARGES = 1 << 1,
	WEIRI_HAS_CLEANUPS = 1 << 2, /* armed or cancelled */
	WEIRI_HAS_CHILDREN = 1 << 3,
	WEIRI_HAS_PARENT = 1 << 4,
	WEIRI_HAS_RULES = 1 << 5, /* its own or of a region above */
	WEIRI_HAS_KEPT = 1 << 6,  /* a block beside the first, see start */

	WEIRI_IS_ENDING = 1 << 8,      /* its cleanups are running */
	WEIRI_IS_SHAPED = 1 << 9,      /* not as the defaults are */
	WEIRI_IS_FOREIGN = 1 << 10,    /* in memory of the caller's */
	WEIRI_IS_SHARED = 1 << 11,     /* counts in a line of many threads */
	WEIRI_IS_COUNTED = 1 << 12,    /* misses, failures or peak moved */
	WEIRI_IS_HANDED_OFF = 1 << 13, /* owner is NULL, by intent */
	WEIRI_HAS_LIMIT = 1 << 14,
	WEIRI_HAS_SPARES = 1 << 15, /* first.pages is their table */
	WEIRI_IS_GUARDED = 1 << 16, /* region_guard.c */
};

/* A reset leaves these as they are, and its short way passes them over. */
#define WEIRI_RESET_KEEPS                                          \
	(WEIRI_HAS_PARENT | WEIRI_HAS_RULES | WEIRI_HAS_KEPT |     \
	    WEIRI_HAS_LIMIT | WEIRI_IS_SHAPED | WEIRI_IS_FOREIGN | \
	    WEIRI_IS_COUNTED | WEIRI_IS_GUARDED)

struct weiri_region_kind;
struct weiri_region_counts;
struct weiri_region_rules;

struct weiri_region {
	/* What create, destroy and growing look at. */
	struct weir_region bump; /* what the inline calls see; first */
	struct weiri_region_block *newest; /* taken last; `bump` may be in an
					    * older one, with more room */
	uint64_t magic;
	struct weiri_region_kind *kind;
	struct weir_local *owner; /* NULL: of no thread that can be known */
	struct weiri_region_counts *counts; /* the owner's line of the kind */
	char *start; /* where objects begin after a reset, in `newest` then */

	uint64_t charged_bytes; /* blocks and large objects */
	uint64_t limit_bytes;   /* with HAS_LIMIT; of this region alone */
	uint64_t live;          /* what it adds to counts->live at first */
	uint32_t attention;     /* enum weiri_region_attention */
	uint32_t birth;         /* weiri_region_tick then */
	const void *site;       /* return address of the creating call */
	const char *name;       /* NULL: the kind's */
	uint32_t misses;        /* blocks and large objects taken */
	uint32_t failures;
	uint32_t large_bytes; /* objects above it get their own pages */
	uint16_t cell;        /* of its depot, in struct weir_local */
	uint8_t next_class;   /* of the next block, if it need not be larger */
	uint8_t max_class;

	struct weiri_region_block first;  /* for this block; older == NULL */
	struct weiri_region_rules *rules; /* nearest upwards; NULL: none */
	struct weiri_region *parent;
	struct weiri_list children; /* newest first */

	struct weiri_list sibling;             /* in parent->children */
	struct weiri_list cleanups;            /* armed handles, newest first */
	struct weiri_list larges;              /* newest first */
	struct weir_region_cleanup *cancelled; /* handles to use again */
	uint64_t peak_bytes;                   /* highest charged_bytes */
};

static_assert(offsetof(struct weiri_region, bump) == 0,
    "the public pointer is the region");
static_assert(
    offsetof(struct weiri_region, charged_bytes) == WEIRI_CACHE_LINE &&
	offsetof(struct weiri_region, first) == (size_t)2 * WEIRI_CACHE_LINE,
    "a region that needs one block touches two lines");
static_assert(sizeof(struct weiri_region) == 256, "as region.h tells users");

/* Behind the header of a region in the caller's memory. */
struct weiri_region_placed {
	struct weiri_list link; /* see region_place.c */
};

static_assert(sizeof(struct weiri_region_placed) % WEIR_REGION_ALIGN == 0,
    "objects follow it");

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

WEIRI_INLINE bool
weiri_region_is_live(const struct weiri_region *region)
{
	return WEIRI_LOAD(&region->magic) ==
	       weiri_region_magic(region, WEIRI_REGION_LIVE);
}

/* Block memory starts at the region for a first block, else at the header. */
WEIRI_INLINE char *
weiri_region_block_base(struct weiri_region_block *block)
{
	if (block->kind != WEIRI_BLOCK_FIRST &&
	    block->kind != WEIRI_BLOCK_PLACED)
		return (char *)block;
	return (char *)WEIRI_CONTAINER_OF(block, struct weiri_region, first);
}

WEIRI_INLINE char *
weiri_region_block_end(struct weiri_region_block *block)
{
	return weiri_region_block_base(block) + block->bytes;
}

/* Where objects may start. */
WEIRI_INLINE char *
weiri_region_block_objects(struct weiri_region_block *block)
{
	size_t header = sizeof(struct weiri_region_block);

	if (block->kind == WEIRI_BLOCK_FIRST)
		header = sizeof(struct weiri_region);
	else if (block->kind == WEIRI_BLOCK_PLACED)
		header = sizeof(struct weiri_region) +
			 sizeof(struct weiri_region_placed);
	return weiri_region_block_base(block) + header;
}

/* What of a block counts as the region's memory. */
WEIRI_INLINE uint64_t
weiri_region_block_charge(const struct weiri_region_block *block)
{
	return block->kind == WEIRI_BLOCK_PLACED ? 0 : block->bytes;
}

/* What a block of @block_class holds beside its header. */
WEIRI_INLINE size_t
weiri_region_class_room(unsigned block_class)
{
	return WEIRI_REGION_CLASS_BYTES(block_class) -
	       sizeof(struct weiri_region_block);
}

/* Reports why @region is not live; @detail says what was done to it. */
WEIRI_COLD WEIRI_NORETURN void weiri_region_not_live(
    const struct weiri_region *region, const char *detail);

/* A fault of class BAD_ARGUMENT that names the region's kind. */
WEIRI_COLD WEIRI_NORETURN void weiri_region_bad(
    const struct weiri_region *region, const void *address, const char *detail);

WEIRI_INLINE void
weiri_region_expect_live(const struct weiri_region *region, const char *detail)
{
	if (WEIR_UNLIKELY(!weiri_region_is_live(region)) &&
	    WEIR_DETECTOR(region_gone))
		weiri_region_not_live(region, detail);
}

/* ---- growth (region_grow.c) ------------------------------------------- */

/* As weir_region_alloc_aligned(), without its short way; *fresh: the object
 * reads as zero already. */
void *weiri_region_alloc_slow(
    struct weiri_region *region, size_t bytes, size_t align, bool *fresh);

/* Counts a refused request; returns NULL. */
WEIRI_COLD void *weiri_region_refuse(struct weiri_region *region);

/* The large object at @object; NULL: it shares a block.  Faults for a pointer
 * into one and for one of another region. */
struct weiri_region_pages *weiri_region_large_of(
    struct weiri_region *region, const void *object);
void weiri_region_large_give(
    struct weiri_region *region, struct weiri_region_pages *pages);

/* The room of @block from @next on becomes the region's. */
WEIRI_INLINE void
weiri_region_open(
    struct weiri_region *region, struct weiri_region_block *block, char *next)
{
	region->bump.next = next;
	region->bump.end = weiri_region_block_end(block);
}

/* A block of @block_class, charged and in no chain yet; NULL: the limit, a
 * budget or a lack of memory. */
struct weiri_region_block *weiri_region_block_more(
    struct weiri_region *region, unsigned block_class);

/* Adds to, takes from what the region and its kind are charged with. */
void weiri_region_charge(struct weiri_region *region, size_t bytes);
void weiri_region_uncharge(struct weiri_region *region, uint64_t bytes);

/* ---- guard (region_guard.c) --------------------------------------------- */

/* The next region of the kind is not to begin in line. */
WEIRI_COLD void weiri_region_guard_divert(struct weiri_region_kind *kind);

/* A region that just began, not in line: is it to be under guard? */
void weiri_region_guard_begin(struct weiri_region *region);

/* One under guard has no room again. */
void weiri_region_guard_restart(struct weiri_region *region);

/* An object is about to go with all behind it. */
void weiri_region_guard_rewind(const struct weiri_region_pages *pages);

/* An object is about to go alone: what it was charged with for itself.  What
 * others count on is charged to a neighbour. */
uint64_t weiri_region_guard_leave(
    struct weiri_region *region, const struct weiri_region_pages *pages);

/* A descriptor and the object, neither charged nor listed; NULL: no room.  What
 * is charged for a small object beyond it is for those to come. */
struct weiri_region_pages *weiri_region_guard_take(struct weiri_region *region,
    size_t bytes, size_t align, size_t charge, bool small);

/* What to charge for an object, and the least if that is too much. */
size_t weiri_region_guard_charge(
    const struct weiri_region *region, size_t bytes, bool small, size_t *least);
void weiri_region_guard_give(
    struct weiri_region_pages *pages, enum weiri_guard_how how);

/* The descriptor of an object under guard, for a call on @region. */
struct weiri_region_pages *weiri_region_guard_pages(
    const struct weiri_region *region, const void *object);

/* How the objects of a region end that is being destroyed. */
enum weiri_guard_how weiri_region_guard_how(const struct weiri_region *region);

/* ---- end (region_end.c) ------------------------------------------------ */

/* Gives back blocks from the newest to @keep, which stays and is not opened;
 * their bytes, not uncharged yet. */
uint64_t weiri_region_blocks_give(
    struct weiri_region *region, struct weiri_region_block *keep);

/* Gives back all large objects; their bytes, not uncharged yet. */
uint64_t weiri_region_larges_give(
    struct weiri_region *region, enum weiri_guard_how how);

/* The kind has one region less, which @used that much, and its first block. */
void weiri_region_leave(struct weiri_region *region, size_t used);

/* The end of a live region without children and armed cleanups: off the tree,
 * all memory back.  For region_tree.c. */
void weiri_region_finish(struct weiri_region *region);

/* ---- cleanups (region_cleanup.c) --------------------------------------- */

struct weir_region_cleanup {
	struct weiri_list link;
	weir_region_cleanup_fn run; /* or one of the numbers below */
	void *context;              /* while cancelled: the next such handle */
};

/* What `run` is in a handle that is not armed.  Numbers and not functions of
 * our own, because a linker may fold equal functions into one. */
#define WEIRI_CLEANUP_RESERVED ((weir_region_cleanup_fn)(uintptr_t)1)
#define WEIRI_CLEANUP_CANCELLED ((weir_region_cleanup_fn)(uintptr_t)2)
#define WEIRI_CLEANUP_SPENT ((weir_region_cleanup_fn)(uintptr_t)3)
#define WEIRI_CLEANUP_MARK ((weir_region_cleanup_fn)(uintptr_t)4)

WEIRI_INLINE bool
weiri_region_cleanup_is_armed(const struct weir_region_cleanup *cleanup)
{
	return (uintptr_t)cleanup->run > 4;
}

/* Runs the newest of @region, which has one; a savepoint ends. */
void weiri_region_cleanup_run_newest(struct weiri_region *region);

/* ---- savepoints (region_mark.c) ------------------------------------------ */

/* Ends a savepoint, the newest on the list of cleanups until now. */
void weiri_region_mark_end(
    struct weiri_region *region, struct weir_region_cleanup *handle);

/* What is wrong with the region's savepoints, or NULL. */
const char *weiri_region_marks_check(struct weiri_region *region);

/* ---- tree (region_tree.c) ----------------------------------------------- */

/* Puts @child, which has no parent, below @parent; rules are the caller's. */
WEIRI_INLINE void
weiri_region_link(struct weiri_region *parent, struct weiri_region *child)
{
	WEIRI_STORE(&child->parent, parent);
	child->attention |= WEIRI_HAS_PARENT;
	parent->attention |= WEIRI_HAS_CHILDREN;
	child->first.order = parent->first.marks;
	weiri_list_push(&parent->children, &child->sibling);
}

WEIRI_INLINE void
weiri_region_unlink(struct weiri_region *child)
{
	weiri_list_remove(&child->sibling);
	WEIRI_STORE(&child->parent, NULL);
	child->attention &= ~(uint32_t)WEIRI_HAS_PARENT;
}

/* Ends all regions below @root, each before the one above it, and runs the
 * cleanups of @root; until there is neither. */
void weiri_region_end_below(struct weiri_region *root);

/* The newest of @region's children, which has some. */
WEIRI_INLINE struct weiri_region *
weiri_region_newest_child(const struct weiri_region *region)
{
	return WEIRI_CONTAINER_OF(
	    region->children.next, struct weiri_region, sibling);
}

/* Ends a child and all below it, while the region above is ending things. */
void weiri_region_end_child(struct weiri_region *child);

/* The next region after @region of a walk over @root and all below it, each
 * before those below it; NULL at the end. */
struct weiri_region *weiri_region_next(
    struct weiri_region *root, struct weiri_region *at);

/* ---- rules (region_rules.c) --------------------------------------------- */

/*
 * A budget and an answer to a lack of memory; of the region that was configured
 * with either, in force for all below it.  Metadata, since neither is there in
 * most regions: the limit of one that has none below lies in its header.
 * Regions below may be other threads': the sum is atomic.
 */
struct weiri_region_rules {
	struct weiri_region *region;
	struct weiri_region_rules *above;
	bool configured;     /* not made for the regions below only */
	uint64_t used_bytes; /* of the region and all below it */
	uint64_t peak_bytes;
	uint64_t limit_bytes; /* UINT64_MAX: none */
	uint64_t soft_bytes;  /* likewise */
	uint64_t failures; /* requests refused to the region and those below */
	weir_region_soft_fn soft;
	void *soft_context;
	weir_region_oom_fn oom;
	void *oom_context;
};

/* Rules of its own for @region, with its limit and what @config says; false
 * without memory.  Other regions' rules are above them. */
struct weir_region_config;
bool weiri_region_rules_make(
    struct weiri_region *region, const struct weir_region_config *config);
/* Ends the region's own; its limit is in the header again. */
void weiri_region_rules_end(struct weiri_region *region);

WEIRI_INLINE bool
weiri_region_rules_own(const struct weiri_region *region)
{
	return region->rules != NULL && region->rules->region == region;
}

/* A region that is to have others below: its limit has to count them. */
WEIRI_INLINE bool
weiri_region_rules_share(struct weiri_region *region)
{
	return !(region->attention & WEIRI_HAS_LIMIT) ||
	       weiri_region_rules_make(region, NULL);
}

/* What the limit and the rules leave: for a block that may be smaller than
 * wanted. */
uint64_t weiri_region_rules_left(const struct weiri_region *region);
/* A request of a region right below @rules, which may be NULL, was refused. */
WEIRI_COLD void weiri_region_rules_fail(struct weiri_region_rules *rules);
/* Charges @rules and all above, or none of them. */
bool weiri_region_rules_charge(
    struct weiri_region_rules *rules, uint64_t bytes);
void weiri_region_rules_uncharge(
    struct weiri_region_rules *rules, uint64_t bytes);
/* Calls the soft hooks of those that rose over it by the last @bytes. */
WEIRI_COLD void weiri_region_rules_soft(
    struct weiri_region_rules *rules, uint64_t bytes);
/* Asks the nearest handler; true: try again. */
WEIRI_COLD bool weiri_region_rules_oom(
    struct weiri_region *region, size_t bytes);
/* What a move charged, for the soft hooks once it is done: @rules up to, and
 * without, @end. */
struct weiri_region_rise {
	struct weiri_region_rules *rules;
	const struct weiri_region_rules *end;
	uint64_t bytes;
};

/* Charges those above @to instead of those above @from; false: a limit says
 * no, all is as it was. */
bool weiri_region_rules_pass(struct weiri_region_rules *from,
    struct weiri_region_rules *to, uint64_t bytes,
    struct weiri_region_rise *rise);
/* Calls the soft hooks of those that rose over it. */
void weiri_region_rules_rose(const struct weiri_region_rise *rise);
/* Moves @region and all below it from the rules it was under to those above
 * @parent, NULL for none, which always works; false: as above, or without
 * memory.  Nothing to do, in O(1), when both are the same or @region has its
 * own. */
bool weiri_region_rules_move(struct weiri_region *region,
    struct weiri_region *parent, struct weiri_region_rise *rise);

/* ---- owners (region_owner.c) -------------------------------------------- */

/* Makes the calling thread's counters the region's; in a debug build and in mode
 * full a fault when another thread owns it. */
WEIRI_COLD void weiri_region_come(struct weiri_region *region);

/* Likewise a fault when another thread owns it; for one whose list of those below
 * is to change. */
void weiri_region_expect_owned(const struct weiri_region *region);

WEIRI_INLINE void
weiri_region_here(struct weiri_region *region)
{
	if (WEIR_UNLIKELY(WEIRI_LOAD(&region->owner) != weiri_local()))
		weiri_region_come(region);
}

/* ---- supply (region_supply.c) ------------------------------------------- */

#define WEIRI_REGION_SUPPLIES (WEIRI_REGION_FIRSTS + WEIRI_REGION_DEPOTS + 1)

/*
 * The depots behind all regions; made by the first region, kept for ever.
 */
struct weiri_region_supply {
	struct weiri_depot first[WEIRI_REGION_FIRSTS];
	struct weiri_depot block[WEIRI_REGION_DEPOTS];
	struct weiri_depot pages; /* struct weiri_region_pages */
	struct weiri_pool pool;   /* internal: trim */
	char name[WEIRI_REGION_FIRSTS + WEIRI_REGION_DEPOTS][32];

	/* Of region_idle.c. */
	bool stirred;                         /* a depot has looks to come */
	bool looking;                         /* a lock of what follows looks */
	uint8_t looks[WEIRI_REGION_SUPPLIES]; /* to come; atomic */
	uint64_t misses[WEIRI_REGION_SUPPLIES]; /* at the last look */
	size_t given; /* bytes since the first look of these */
};

/* NULL until weiri_region_supply_start() returned 0 once. */
extern struct weiri_region_supply *weiri_region_supply
    __attribute__((visibility("hidden")));
/* weiri_near_base() from then on; before, far from any address. */
extern uintptr_t weiri_region_near_base __attribute__((visibility("hidden")));

/*
 * For a thread past weiri_region_supply_start(), whose acquire covers what the
 * pointer leads to, or that was handed a region made by such a thread.
 */
WEIRI_INLINE struct weiri_region_supply *
weiri_region_supply_now(void)
{
	return WEIRI_LOAD(&weiri_region_supply);
}

/* Are the slots of @depot regions, or blocks of them? */
WEIRI_INLINE bool
weiri_region_has_depot(const struct weiri_depot *depot)
{
	const struct weiri_region_supply *supply = weiri_region_supply_now();
	uintptr_t away = (uintptr_t)depot - (uintptr_t)supply;

	return supply != NULL &&
	       away < offsetof(struct weiri_region_supply, pages);
}

/* 0 or -ENOMEM.  Safe from any number of threads. */
int weiri_region_supply_start(void);

/* Of all depots, @index below WEIRI_REGION_SUPPLIES. */
struct weiri_depot *weiri_region_supply_depot(
    struct weiri_region_supply *supply, unsigned index);

/* A first block, whose header is that of a region that ended, or zero. */
struct weiri_region *weiri_region_first_take(unsigned bin);
void weiri_region_first_give(struct weiri_region *region);

/* Another block with its header filled but for `older`; NULL without memory. */
struct weiri_region_block *weiri_region_block_take(unsigned block_class);
void weiri_region_block_give(struct weiri_region_block *block);

/* Pages of their own; NULL without memory. */
struct weiri_region_pages *weiri_region_pages_take(size_t bytes, size_t align);
void weiri_region_pages_give(
    struct weiri_region_pages *pages, enum weiri_guard_how how);

/* True when @region, any pointer, is where a first block may start. */
bool weiri_region_in_block(const struct weiri_region *region);

/* ---- blocks out of use (region_idle.c) ----------------------------------- */

/* A kind takes no first blocks of @bin any more. */
void weiri_region_idle_moved(unsigned bin);

/* A region of @kind ended or was reset and gave back @bytes in blocks. */
void weiri_region_idle_gave(
    const struct weiri_region_kind *kind, uint64_t bytes);

/* Gives back a step of what is idle since.  Not within a call of a depot. */
void weiri_region_idle_look(void);

/* ---- the caller's memory (region_place.c) -------------------------------- */

void weiri_region_place_enter(struct weiri_region *region);
void weiri_region_place_leave(struct weiri_region *region);
/* True when @region, any pointer, is a live region in the caller's memory. */
bool weiri_region_is_placed(const struct weiri_region *region);
/* Calls @visit for each, under a lock that those calls take. */
void weiri_region_place_walk(
    void (*visit)(struct weiri_region *region, void *context), void *context);
void weiri_region_place_fork_lock(void);
void weiri_region_place_fork_unlock(void);

/* ---- kinds (region_kind.c) ---------------------------------------------- */

/* Ends of regions between two times that a thread tells the kind about them;
 * the time is looked at then, too. */
#define WEIRI_REGION_EPOCH 32

/* Ends and resets by their bin, eight to a word; none is above 127. */
struct weiri_region_ends {
	union {
		uint8_t bin[WEIRI_REGION_BINS];
		uint64_t word[WEIRI_REGION_BINS / 8];
	};
};

/* One thread's counters of one kind. */
struct weiri_region_counts {
	WEIRI_ALIGNED(WEIRI_CACHE_LINE) const struct weir_local *owner;
	uint64_t live;     /* drawn in region_kind.c */
	int64_t live_peak; /* the highest it was */
	uint64_t told;     /* ends and resets that the kind knows of */
	uint64_t resets;   /* of those and the ones since */
	uint64_t misses;   /* blocks and large objects taken */
	uint64_t failures;
	uint32_t due; /* ends and resets until the kind is told */
	uint32_t padding;
	struct weiri_region_ends ends; /* since, by bytes of blocks used */
	uint8_t more[16];
};

/* As many as make a kind's record 4 KiB with the shared line: a class of the
 * metadata, and more threads than most servers run. */
#define WEIRI_REGION_LINES 29

struct weiri_region_kind {
	uint32_t cell;     /* of the depot of first blocks; atomic, see learn */
	uint8_t first_bin; /* its index; atomic */
	uint8_t keep_bin;  /* what a reset keeps; atomic */
	bool learned;      /* either is more than a guess; atomic */
	bool learning;     /* a lock of what follows */
	uint8_t first_percent, keep_percent;
	uint16_t padding;
	uint32_t weight; /* sum of ends */
	struct weiri_region_ends ends;
	struct weiri_pool pool;
	struct weiri_guard_pool guard;
	struct weiri_region_counts line[WEIRI_REGION_LINES + 1]; /* + shared */
};

static_assert(
    sizeof(struct weiri_region_kind) <= 4096, "fills a metadata class");

/* Of counts->live. */
#define WEIRI_REGION_LIVE_SHIFT 36
#define WEIRI_REGION_LIVE_ONE (UINT64_C(1) << WEIRI_REGION_LIVE_SHIFT)

/* Bytes as they are counted there, in units of 256. */
WEIRI_INLINE uint64_t
weiri_region_live_bytes(uint64_t bytes)
{
	return bytes >> 8;
}

/* Time in 2^24 ns, as it was when somebody last looked. */
extern uint32_t weiri_region_tick __attribute__((visibility("hidden")));
void weiri_region_tick_now(void);

/* Of regions without a kind. */
extern struct weir_region_kind weiri_region_kind_default
    __attribute__((visibility("hidden")));

/* The record behind @kind, made on first use; NULL without memory.  After
 * weiri_region_supply_start(). */
struct weiri_region_kind *weiri_region_kind_of(struct weir_region_kind *kind);

const char *weiri_region_kind_name(const struct weiri_region_kind *kind);

/* The line the calling thread counts in; *shared: others do, too. */
struct weiri_region_counts *weiri_region_kind_line(
    struct weiri_region_kind *kind, bool *shared);

/* Adds to a counter of the region's line. */
WEIRI_INLINE uint64_t
weiri_region_count(
    const struct weiri_region *region, uint64_t *counter, uint64_t amount)
{
	if (WEIR_UNLIKELY(region->attention & WEIRI_IS_SHARED))
		return __atomic_add_fetch(counter, amount, __ATOMIC_RELAXED);

	uint64_t sum = WEIRI_LOAD(counter) + amount;

	WEIRI_STORE(counter, sum);
	return sum;
}

/* A region was not made. */
WEIRI_COLD void weiri_region_kind_fail(struct weiri_region_kind *kind);

/* The highest number of live regions rose to that in @live.  Returns 0. */
WEIRI_COLD int weiri_region_kind_peak(
    struct weiri_region_counts *counts, uint64_t live);

/* A thread's epoch is over: tells the kind, which may take other sizes. */
WEIRI_COLD void weiri_region_kind_learn(
    struct weiri_region_kind *kind, struct weiri_region_counts *counts);

/* A region of a line that many threads share ended. */
WEIRI_COLD void weiri_region_kind_end_shared(
    struct weiri_region_counts *counts);

/* A region ended, or was reset, that used a bin's bytes of blocks. */
WEIRI_INLINE void
weiri_region_kind_note(struct weiri_region_kind *kind,
    struct weiri_region_counts *counts, size_t bin)
{
	uint32_t due = WEIRI_LOAD(&counts->due) - 1;

	counts->ends.bin[bin]++;
	WEIRI_STORE(&counts->due, due);
	if (WEIR_UNLIKELY(due == 0))
		weiri_region_kind_learn(kind, counts);
}

#endif /* WEIRI_REGION_H */
