/* SPDX-License-Identifier: MIT */
/*
 * region_realloc.c - objects that change their size, or end before their
 * region does.
 *
 * A region knows no sizes, so the caller tells that of the object.  What can be
 * done then depends on where it lies:
 *
 *   last      the newest object of the current block: it grows into the room
 *             behind it, shrinks and ends by moving `next`
 *   large     pages of its own: they grow and shrink where they lie
 *   between   others lie behind it: what it gives back is a spare array
 *
 *       block   | objects | spare | objects | spare | objects | room |
 *                             ^                 |
 *       spares  16 | 32 | 64 -+----<------------+
 *
 * A vector that doubles leaves 64, 128, 256 .. bytes behind, and the next one
 * wants the same again: spares are kept by the power of two below their size
 * and serve objects that move and the arrays of vectors and writers.  Taking an
 * object does not look there: it would cost everybody.  What is left of a spare
 * is a spare again; one of four times the size and more is not cut for a small
 * request, since nothing ever joins the pieces.
 *
 * A spare holds its size mixed with its address and the table's number, which
 * tells a second free, and a write after the first, without a look at others.
 * What ends objects (reset, rewind, merging into another region) drops the
 * whole table; since the number is never used again, marks that stay behind in
 * the memory mean nothing to the next.
 *
 *   A1  A spare is a multiple of 16, at least 16 bytes, and lies in one of the
 *       region's blocks below `next` or in an older block.
 *   A2  Its class is the power of two at or below its size, 2^20 at most.
 */
#include "pools/region_array.h"

#include "guard/fault.h"
#include "slab/depot.h"

#include <string.h>

struct weiri_region_spare {
	struct weiri_region_spare *next;
	uint64_t mark; /* spare_mark() ^ bytes */
};

static_assert(sizeof(struct weiri_region_spare) <= WEIRI_SPARE_MIN,
    "any spare holds its record");
static_assert((size_t)1 << (WEIRI_SPARE_CLASSES + 3) == WEIR_REGION_BLOCK_MAX,
    "a class for each power of two up to the largest block");

/* First growth of an array that has nothing yet. */
#define ARRAY_BYTES_MIN 64

/* Spares of a class looked at for one that fits well. */
#define SPARE_LOOKS 8

/* ---- faults ------------------------------------------------------------ */

static WEIRI_COLD WEIRI_NORETURN void
array_fault(const struct weiri_region *region, enum weir_fault_class class,
    const void *object, size_t bytes, const char *detail)
{
	weiri_fault(&(struct weiri_fault_site){
	    .fault_class = class,
	    .pool_kind = "region",
	    .pool_name = weiri_region_kind_name(region->kind),
	    .address = object,
	    .number = bytes,
	    .detail = detail,
	});
}

/* ---- which block --------------------------------------------------------- */

/* Of a slot in a depot of blocks, its header; NULL: no slot that exists. */
static struct weiri_region_block *
array_block_in(const struct weiri_slab *slab, const char *object)
{
	size_t slot;
	void *base;

	if (object < slab->first)
		return NULL;
	slot = weiri_slab_slot(slab, object);
	if (slot >= WEIRI_LOAD(&slab->carved))
		return NULL;
	base = weiri_slab_address(slab, slot);
	if (weiri_region_depot_is_first(slab->depot))
		return &((struct weiri_region *)base)->first;
	if (weiri_region_depot_is_later(slab->depot))
		return base;
	return NULL;
}

/* Of the region's blocks the one around @object, by looking at each. */
static struct weiri_region_block *
array_block_search(struct weiri_region *region, const char *object)
{
	struct weiri_region_block *block = region->newest;

	while (block != NULL && (object < weiri_region_block_base(block) ||
				    object >= weiri_region_block_end(block)))
		block = block->older;
	return block;
}

/* NULL: in none of this region.  Where the page map leads to the block, a
 * release build believes that the region is the right one. */
static struct weiri_region_block *
array_block_of(struct weiri_region *region, const char *object)
{
	const struct weiri_span *span = weiri_span_of(object);
	struct weiri_region_block *block;

	if (span == NULL || span->kind != WEIRI_SPAN_SLAB)
		return array_block_search(region, object);
	block = array_block_in((const struct weiri_slab *)span, object);
#if defined(WEIR_DEBUG) && WEIR_DEBUG >= 1
	if (block != NULL && block != array_block_search(region, object))
		array_fault(region, WEIR_FAULT_WRONG_POOL, object, 0,
		    "object %p is another region's");
#endif
	return block;
}

/* True when @from is a header in a block of @region's, by merging.  That of a
 * region which ended otherwise may lead anywhere. */
static bool
array_was_merged(
    const struct weiri_region *region, const struct weiri_region *from)
{
	while (from != region) {
		if (weiri_region_is_live(from))
			return false;
		from = from->parent;
		if (from != region && !weiri_region_in_block(from))
			return false;
	}
	return true;
}

/* Faults unless @object of @bytes may be an object in one of the blocks. */
static void
array_expect(struct weiri_region *region, const char *object, size_t bytes)
{
	struct weiri_region_block *block;
	const char *end;

	if ((uintptr_t)object % WEIR_REGION_ALIGN != 0 &&
	    WEIR_DETECTOR(array_misaligned))
		array_fault(region, WEIR_FAULT_MISALIGNED_POINTER, object,
		    bytes, "no object begins at %p");
	block = array_block_of(region, object);
	if ((block == NULL || object < weiri_region_block_objects(block)) &&
	    WEIR_DETECTOR(array_foreign))
		array_fault(region, WEIR_FAULT_FOREIGN_POINTER, object, bytes,
		    "%p is no object of this region");
	if (block->kind == WEIRI_BLOCK_FIRST && block != &region->first &&
	    !array_was_merged(region,
		WEIRI_CONTAINER_OF(block, struct weiri_region, first)) &&
	    WEIR_DETECTOR(array_other_region))
		array_fault(region, WEIR_FAULT_WRONG_POOL, object, bytes,
		    "object %p is another region's");
	end = weiri_region_block_end(block);
	if (end == region->bump.end)
		end = region->bump.next;
	if ((object > end || bytes > (size_t)(end - object)) &&
	    WEIR_DETECTOR(array_too_long))
		array_fault(region, WEIR_FAULT_BAD_ARGUMENT, object, bytes,
		    "object %p never had %u bytes");
}

/* The large object at @object, which has @bytes at least; NULL: it is none. */
static struct weiri_region_pages *
array_large_of(struct weiri_region *region, const void *object, size_t bytes)
{
	struct weiri_region_pages *pages =
	    weiri_region_large_of(region, object);

	if (pages != NULL &&
	    bytes > (pages->guarded ? weiri_guard_bytes(object)
				    : pages->span.bytes) &&
	    WEIR_DETECTOR(array_large_too_long))
		array_fault(region, WEIR_FAULT_BAD_ARGUMENT, object, bytes,
		    "object %p never had %u bytes");
	return pages;
}

/* ---- spare arrays -------------------------------------------------------- */

static uint64_t spare_tables; /* made so far; numbers them */

static unsigned
spare_class(size_t bytes)
{
	return (unsigned)weiri_min(
	    weiri_log2_floor(bytes) - 4, WEIRI_SPARE_CLASSES - 1);
}

static uint64_t
spare_mark(const struct weiri_region_spares *spares,
    const struct weiri_region_spare *at)
{
	return (spares->id * UINT64_C(0x9e3779b97f4a7c15)) ^ (uintptr_t)at;
}

/* At the start of @array if it is large enough, else behind the newest object,
 * else NULL: a block is not taken for it. */
static WEIRI_COLD struct weiri_region_spares *
spare_table(struct weiri_region *region, char **array, size_t *bytes)
{
	const size_t need = weiri_round_up(
	    sizeof(struct weiri_region_spares), WEIR_REGION_ALIGN);
	struct weiri_region_spares *spares;

	if (*bytes >= need + WEIRI_SPARE_MIN) {
		spares = (struct weiri_region_spares *)(void *)*array;
		*array += need;
		*bytes -= need;
	} else if (need <= (size_t)(region->bump.end - region->bump.next)) {
		spares =
		    (struct weiri_region_spares *)(void *)region->bump.next;
		region->bump.next += need;
	} else {
		return NULL;
	}
	memset(spares, 0, sizeof(*spares));
	spares->id = __atomic_add_fetch(&spare_tables, 1, __ATOMIC_RELAXED);
	region->first.pages = (struct weiri_region_pages *)(void *)spares;
	region->attention |= WEIRI_HAS_SPARES;
	return spares;
}

static void
spare_push(struct weiri_region_spares *spares, char *array, size_t bytes)
{
	struct weiri_region_spare *spare =
	    (struct weiri_region_spare *)(void *)array;
	unsigned class = spare_class(bytes);

	WEIR_ASSERT(bytes >= WEIRI_SPARE_MIN && bytes % WEIR_REGION_ALIGN == 0);
	spare->next = spares->list[class];
	spare->mark = spare_mark(spares, spare) ^ bytes;
	spares->list[class] = spare;
}

/* @array with @bytes, a multiple of 16, is nobody's any more. */
static void
spare_give(struct weiri_region *region, char *array, size_t bytes)
{
	struct weiri_region_spares *spares = weiri_region_spares(region);
	const struct weiri_region_spare *spare =
	    (const struct weiri_region_spare *)(const void *)array;

	if (bytes == 0)
		return;
	if (WEIR_UNLIKELY(spares == NULL)) {
		spares = spare_table(region, &array, &bytes);
		if (spares == NULL)
			return;
	} else if (WEIR_UNLIKELY(
		       (spare->mark ^ spare_mark(spares, spare)) == bytes) &&
		   WEIR_DETECTOR(array_double_free)) {
		array_fault(region, WEIR_FAULT_DOUBLE_FREE, array, bytes,
		    "object %p is free already");
	}
	spare_push(spares, array, bytes);
}

static size_t
spare_bytes(struct weiri_region *region,
    const struct weiri_region_spares *spares,
    const struct weiri_region_spare *spare, unsigned class)
{
	uint64_t bytes = spare->mark ^ spare_mark(spares, spare);

	if (WEIR_UNLIKELY(
		bytes < WEIRI_SPARE_MIN || bytes % WEIR_REGION_ALIGN != 0 ||
		bytes > WEIR_REGION_BLOCK_MAX || spare_class(bytes) != class) &&
	    WEIR_DETECTOR(array_spare_written))
		array_fault(region, WEIR_FAULT_CORRUPTION, spare, 0,
		    "object %p was written to after it was free");
	return bytes;
}

/* Of the first few of a class the smallest that has @bytes, out of the list. */
static struct weiri_region_spare *
spare_pick(struct weiri_region *region, struct weiri_region_spares *spares,
    unsigned class, size_t bytes, size_t *has)
{
	struct weiri_region_spare **at = &spares->list[class], **best = NULL;
	struct weiri_region_spare *spare;

	*has = SIZE_MAX;
	for (unsigned i = 0; i<SPARE_LOOKS && * at != NULL && * has> bytes;
	     i++) {
		size_t one = spare_bytes(region, spares, *at, class);

		if (one >= bytes && one < *has) {
			*has = one;
			best = at;
		}
		at = &(*at)->next;
	}
	if (best == NULL)
		return NULL;
	spare = *best;
	*best = spare->next;
	spare->mark = 0;
	return spare;
}

/* A spare of @bytes at least, or NULL; what it has beyond them is one again. */
static char *
spare_take(struct weiri_region *region, size_t bytes)
{
	struct weiri_region_spares *spares = weiri_region_spares(region);
	struct weiri_region_spare *spare;
	unsigned class;
	size_t has;

	if (spares == NULL || bytes > WEIR_REGION_BLOCK_MAX)
		return NULL;
	bytes = weiri_round_up(weiri_max(bytes, 1), WEIR_REGION_ALIGN);
	class = spare_class(bytes);
	spare = spare_pick(region, spares, class, bytes, &has);
	if (spare == NULL && class + 1 < WEIRI_SPARE_CLASSES)
		spare = spare_pick(region, spares, class + 1, bytes, &has);
	if (spare == NULL)
		return NULL;
	if (has > bytes)
		spare_push(spares, (char *)spare + bytes, has - bytes);
	return (char *)spare;
}

static char *
array_take(struct weiri_region *region, size_t bytes)
{
	char *array = spare_take(region, bytes);

	return array != NULL ? array : weir_region_alloc(&region->bump, bytes);
}

/* A spare's bytes, if it is one; else 0. */
static size_t
spare_check_one(struct weiri_region *region,
    const struct weiri_region_spares *spares, char *array, unsigned class)
{
	const struct weiri_region_spare *spare = (const void *)array;
	uint64_t bytes = spare->mark ^ spare_mark(spares, spare);
	struct weiri_region_block *block = array_block_search(region, array);
	const char *end;

	if (block == NULL || array < weiri_region_block_objects(block) ||
	    bytes < WEIRI_SPARE_MIN || bytes % WEIR_REGION_ALIGN != 0 ||
	    spare_class(bytes) != class)
		return 0;
	end = weiri_region_block_end(block);
	if (end == region->bump.end)
		end = region->bump.next;
	return array <= end && bytes <= (size_t)(end - array) ? bytes : 0;
}

const char *
weiri_region_spares_check(struct weiri_region *region)
{
	const struct weiri_region_spares *spares = weiri_region_spares(region);
	uint64_t sum = 0;

	if ((spares != NULL) != ((region->attention & WEIRI_HAS_SPARES) != 0))
		return "A1: spare arrays nobody would drop";
	for (unsigned i = 0; spares != NULL && i < WEIRI_SPARE_CLASSES; i++)
		for (struct weiri_region_spare *spare = spares->list[i];
		     spare != NULL; spare = spare->next) {
			size_t bytes =
			    spare_check_one(region, spares, (char *)spare, i);

			if (bytes == 0)
				return "A1, A2: no spare array of its class";
			/* A cycle would be more than the region ever had; the
			 * caller's memory is not charged. */
			sum += bytes;
			if (sum > region->peak_bytes + region->first.bytes)
				return "A1: spare arrays do not end";
		}
	return NULL;
}

/* ---- in place ------------------------------------------------------------ */

/* The last object, which *has so much, has @bytes then. */
WEIRI_INLINE bool
array_extend_last(struct weiri_region *region, size_t has, size_t bytes)
{
	size_t room = (size_t)(region->bump.end - region->bump.next);

	if (bytes <= has)
		return true;
	if (bytes - has > room)
		return false;
	region->bump.next += weiri_round_up(bytes - has, WEIR_REGION_ALIGN);
	return true;
}

WEIRI_INLINE struct weiri_region *
array_region(struct weir_region *bump, const char *detail)
{
	struct weiri_region *region = weiri_region_of(bump);

	weiri_region_expect_live(region, detail);
	weiri_region_here(region);
	return region;
}

static WEIRI_NOINLINE bool
array_extend_other(
    struct weiri_region *region, void *object, size_t bytes, size_t new_bytes)
{
	if (bytes == 0)
		return false;
	if (array_large_of(region, object, bytes) != NULL)
		return weir_region_resize_large(
		    &region->bump, object, new_bytes);
	array_expect(region, object, bytes);
	return new_bytes <= weiri_round_up(bytes, WEIR_REGION_ALIGN);
}

bool
weir_region_extend(
    struct weir_region *bump, void *object, size_t bytes, size_t new_bytes)
{
	struct weiri_region *region =
	    array_region(bump, "object grows in %p, which was destroyed");
	size_t has;

	if (new_bytes <= bytes)
		return true;
	if (object == NULL)
		return false;
	if (weiri_region_is_last(region, object, bytes, &has))
		return array_extend_last(region, has, new_bytes);
	return array_extend_other(region, object, bytes, new_bytes);
}

static WEIRI_NOINLINE void
array_shrink_other(
    struct weiri_region *region, char *object, size_t bytes, size_t keep)
{
	if (bytes == 0)
		return;
	if (array_large_of(region, object, bytes) != NULL) {
		/* Giving pages back always works. */
		bool shrunk =
		    weir_region_resize_large(&region->bump, object, keep);

		(void)shrunk;
		return;
	}
	array_expect(region, object, bytes);
	spare_give(region, object + keep,
	    weiri_round_up(bytes, WEIR_REGION_ALIGN) - keep);
}

/* The end of an object from @keep bytes on, of the @bytes it has. */
WEIRI_INLINE void
array_shrink(
    struct weiri_region *region, char *object, size_t bytes, size_t keep)
{
	size_t has;

	keep = weiri_round_up(keep, WEIR_REGION_ALIGN);
	if (weiri_region_is_last(region, object, bytes, &has))
		region->bump.next = object + keep;
	else
		array_shrink_other(region, object, bytes, keep);
}

void
weir_region_shrink(
    struct weir_region *bump, void *object, size_t bytes, size_t new_bytes)
{
	struct weiri_region *region =
	    array_region(bump, "object shrinks in %p, which was destroyed");

	if (object != NULL && new_bytes < bytes)
		array_shrink(region, object, bytes, new_bytes);
}

/* ---- free ---------------------------------------------------------------- */

static WEIRI_NOINLINE void
array_free_other(struct weiri_region *region, char *object, size_t bytes)
{
	struct weiri_region_pages *pages;

	if (bytes == 0)
		return;
	pages = array_large_of(region, object, bytes);
	if (pages != NULL) {
		weiri_region_large_give(region, pages);
		return;
	}
	array_expect(region, object, bytes);
	spare_give(region, object, weiri_round_up(bytes, WEIR_REGION_ALIGN));
}

WEIRI_INLINE void
array_free(struct weiri_region *region, char *object, size_t bytes)
{
	size_t has;

	if (weiri_region_is_last(region, object, bytes, &has))
		region->bump.next = object;
	else
		array_free_other(region, object, bytes);
}

void
weir_region_free(struct weir_region *bump, void *object, size_t bytes)
{
	struct weiri_region *region =
	    array_region(bump, "object given back to %p, which was destroyed");

	if (object != NULL)
		array_free(region, object, bytes);
}

/* ---- elsewhere ----------------------------------------------------------- */

/* Storage of @new_bytes in place of @object, of which the first @kept stay. */
static char *
array_move(struct weiri_region *region, char *object, size_t bytes, size_t kept,
    size_t new_bytes)
{
	char *moved = array_take(region, new_bytes);

	if (WEIR_UNLIKELY(moved == NULL) || object == NULL)
		return moved;
	memcpy(moved, object, kept);
	array_free(region, object, bytes);
	return moved;
}

void *
weir_region_realloc(
    struct weir_region *bump, void *object, size_t bytes, size_t new_bytes)
{
	struct weiri_region *region =
	    array_region(bump, "object resized in %p, which was destroyed");

	if (object == NULL)
		return array_take(region, new_bytes);
	if (new_bytes < bytes)
		array_shrink(region, object, bytes, new_bytes);
	else if (!weir_region_extend(bump, object, bytes, new_bytes))
		return array_move(region, object, bytes, bytes, new_bytes);
	return object;
}

/* ---- arrays that grow ------------------------------------------------------ */

/* In place: to @goal or as near as there is room, but not less than @want. */
static bool
array_grow_here(struct weiri_region *region, char *data, size_t *capacity,
    size_t want, size_t goal)
{
	size_t has;

	if (weiri_region_is_last(region, data, *capacity, &has)) {
		size_t most =
		    has + (size_t)(region->bump.end - region->bump.next);

		goal = weiri_min(goal, most);
		if (goal < want)
			return false;
		*capacity = weiri_round_up(goal, WEIR_REGION_ALIGN);
		return array_extend_last(region, has, *capacity);
	}
	if (array_large_of(region, data, *capacity) == NULL)
		return false;
	if (!weir_region_resize_large(&region->bump, data, goal)) {
		goal = want;
		if (!weir_region_resize_large(&region->bump, data, goal))
			return false;
	}
	*capacity = weiri_round_up(goal, WEIRI_PAGE);
	return true;
}

/* Twice as much, unless a limit has no room for that beside the old one. */
static size_t
array_goal(const struct weiri_region *region, size_t capacity, size_t want)
{
	size_t goal = weiri_max(want, ARRAY_BYTES_MIN);

	if (capacity <= SIZE_MAX / 2)
		goal = weiri_max(goal, capacity * 2);
	if ((region->attention & (WEIRI_HAS_LIMIT | WEIRI_HAS_RULES)) &&
	    weiri_region_rules_left(region) / 2 < goal)
		return want;
	return goal;
}

/* What no memory has is refused as it is. */
static size_t
array_whole(size_t bytes)
{
	return bytes <= PTRDIFF_MAX ? weiri_round_up(bytes, WEIR_REGION_ALIGN)
				    : bytes;
}

char *
weiri_region_array_grow(struct weiri_region *region, char *data, size_t used,
    size_t *capacity, size_t want)
{
	/* What the capacity will be is asked for. */
	size_t goal = array_whole(array_goal(region, *capacity, want));
	char *moved;

	if (data != NULL && array_grow_here(region, data, capacity, want, goal))
		return data;
	moved = array_move(region, data, *capacity, used, goal);
	want = array_whole(want);
	if (moved == NULL && want < goal) {
		goal = want;
		moved = array_move(region, data, *capacity, used, goal);
	}
	if (moved != NULL)
		*capacity = weiri_round_up(goal, WEIR_REGION_ALIGN);
	return moved;
}
