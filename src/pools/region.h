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
 *   region_name.c     names that they are given late
 *   region_dump.c     and showing them
 *   region_place.c    regions in memory of the caller's
 *   region_size.c     how large blocks are
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

#include "base/detector.h"
#include "guard/guard.h"
#include "pages/pages.h"
#include "pools/region_kind.h"
#include "pools/region_rules.h"
#include "pools/region_supply.h"

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
	WEIRI_IS_NAMED = 1 << 17,   /* name may not be NULL */
};

/* A reset leaves these as they are, and its short way passes them over. */
#define WEIRI_RESET_KEEPS                                          \
	(WEIRI_HAS_PARENT | WEIRI_HAS_RULES | WEIRI_HAS_KEPT |     \
	    WEIRI_HAS_LIMIT | WEIRI_IS_SHAPED | WEIRI_IS_FOREIGN | \
	    WEIRI_IS_COUNTED | WEIRI_IS_GUARDED | WEIRI_IS_NAMED)

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

	struct weiri_list sibling;  /* in parent->children */
	struct weiri_list cleanups; /* armed handles, newest first */
	struct weiri_list larges;   /* newest first */
	struct weir_region_cleanup
	    *cancelled;      /* to use again; the ring's last */
	uint64_t peak_bytes; /* highest charged_bytes */
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
	void *context;              /* while cancelled: the next in the ring */
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

/*
 * Cancelled handles are in a ring, used again newest first.  It is known by its
 * last one, so that two rings become one with two stores.
 */
WEIRI_INLINE void
weiri_region_cancelled_push(
    struct weir_region_cleanup **ring, struct weir_region_cleanup *cleanup)
{
	struct weir_region_cleanup *last = *ring;

	if (last == NULL)
		*ring = last = cleanup;
	else
		cleanup->context = last->context;
	last->context = cleanup;
}

/* The newest of a ring that is not empty. */
WEIRI_INLINE struct weir_region_cleanup *
weiri_region_cancelled_pop(struct weir_region_cleanup **ring)
{
	struct weir_region_cleanup *last = *ring, *first = last->context;

	if (first == last)
		*ring = NULL;
	else
		last->context = first->context;
	return first;
}

/* All of @more, which may be NULL, before those of @ring. */
WEIRI_INLINE void
weiri_region_cancelled_join(
    struct weir_region_cleanup **ring, struct weir_region_cleanup *more)
{
	if (*ring == NULL) {
		*ring = more;
	} else if (more != NULL) {
		void *first = more->context;

		more->context = (*ring)->context;
		(*ring)->context = first;
	}
}

/* ---- savepoints (region_mark.c) ------------------------------------------ */

/* Ends a savepoint, the newest on the list of cleanups until now. */
void weiri_region_mark_end(
    struct weiri_region *region, struct weir_region_cleanup *handle);

/* Runs the newest of @region, which has one; a savepoint ends. */
WEIRI_INLINE void
weiri_region_cleanup_run_newest(struct weiri_region *region)
{
	struct weiri_list *head = &region->cleanups;
	struct weir_region_cleanup *cleanup =
	    WEIRI_CONTAINER_OF(head->next, struct weir_region_cleanup, link);
	struct weiri_list *next = cleanup->link.next;
	weir_region_cleanup_fn run = cleanup->run;

	/* Its own links are of no more use. */
	head->next = next;
	next->prev = head;
	if (WEIR_UNLIKELY(run == WEIRI_CLEANUP_MARK)) {
		weiri_region_mark_end(region, cleanup);
		return;
	}
	cleanup->run = WEIRI_CLEANUP_SPENT;
	run(cleanup->context);
}

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

/* ---- rules and counters ------------------------------------------------- */

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

/* ---- formatted text (region_text.c) -------------------------------------- */

/* A first pass: where its text is, and what there would have been room for. */
struct weiri_region_format {
	char *text;
	size_t bytes;
	int length; /* of the whole text; below 0: the format failed */
	/* For most texts, and little beside what vsnprintf() itself has on the
	 * stack. */
	char aside[1024];
};

/* Writes to @bytes at @room, or aside; returns the length. */
WEIR_PRINTF(4, 0)
int weiri_region_format(struct weiri_region_format *at, char *room,
    size_t bytes, const char *format, va_list arguments);

/* Has the text at @into, which has room for it, and may be where it is. */
WEIR_PRINTF(3, 0)
void weiri_region_format_end(const struct weiri_region_format *at, char *into,
    const char *format, va_list again);

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

#endif /* WEIRI_REGION_H */
