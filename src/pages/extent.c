/* SPDX-License-Identifier: MIT */
/*
 * extent.c - extents and what is charged for them.
 *
 *     record  | extent | links | states | dirty bits |      (meta.c)
 *     block   |  hole  | span | free | span |   free ...  | (source.c)
 *             ^ base, at 2 MiB                            ^
 *
 * Each extent has a buddy over its pages.  Extents with room lie in buckets by
 * the order of their largest free block, so the extent that fits a request
 * best is found by one count-trailing-zeros, and full ones are not seen at all.
 *
 * Extents grow with the supply: each new one is as large as all before it
 * together, between 2 and 64 MiB, which keeps their number logarithmic at
 * first and their cost small; a request beyond that gets one of its own size.
 *
 * Where a request fills an extent that is made for it, any access behind it
 * traps, if the source is the default: an object of 4 MiB in a program that has
 * less by then, one of 100 MiB in any.
 *
 * A page is charged when it is handed out, and until it is decommitted: dirty
 * bits tell.  Free dirty pages are "retained": warm, charged, reused without a
 * system call.  Fresh pages cost address space only.  Blocks that are resident
 * from the start are charged whole, before the source makes them so.
 *
 * Where the system's pages are larger, the first use of one unit brings in its
 * neighbours on the same page.  They are charged and dirty with it, and the page
 * is decommitted once all of them are free; so a free block smaller than such a
 * page stays as it is.
 *
 * What goes back to the system, and what becomes of that when the system does
 * not take it, is in trim.c.
 *
 * A range of the caller's that does not start at 2 MiB begins with a hole: a
 * run that is never freed, so that alignment of a unit's number and of its
 * address are the same thing.
 *
 * Invariants (weiri_pages_check() tests all of them):
 *
 *   E1  Extents are disjoint and listed by address.
 *   E2  An extent is in the bucket of its largest free order; a full or frozen
 *       one is in none.
 *   E3  span_pages is the sum of the buddy's runs but the hole; dirty_pages
 *       the number of dirty bits; pages of spans are dirty.
 *   E4  Supply's bytes_in_spans is the sum of span_pages, bytes_retained of
 *       charged pages that are in no span, bytes_reserved of blocks; over
 *       listed and kept extents.
 *   E5  The spare is wholly free and may be given back; so are kept extents.
 *   E6  The bits of one page of the system's are all dirty or all clean, where
 *       the extent can be trimmed.
 *
 * Lock: everything runs under weiri_supply.lock.
 */
#include "pages/extent.h"

#include "pages/budget.h"

#include <errno.h>

#define EXTENT_MAX ((size_t)64 << 20)
#define ALIGN_UNITS (WEIRI_EXTENT_ALIGN / WEIRI_PAGE)

/* Rounding of small records to powers of two and to pages. */
#define EXTENT_RECORD_SLACK ((uint64_t)16 << 10)

struct weiri_supply weiri_supply = {
    .lock = WEIRI_MUTEX_INITIALIZER,
};

#define supply weiri_supply

void
weiri_supply_lock(void)
{
	weiri_budget_start();
	weiri_supply_lock_only();
}

void
weiri_supply_lock_only(void)
{
	weiri_mutex_lock(&supply.lock);
	if (WEIR_LIKELY(supply.ready))
		return;
	weiri_list_init(&supply.extents);
	weiri_list_init(&supply.kept);
	for (size_t order = 0; order < WEIRI_BUDDY_ORDERS; order++)
		weiri_list_init(&supply.bucket[order]);
	supply.ready = true;
}

void
weiri_supply_unlock(void)
{
	weiri_mutex_unlock(&supply.lock);
}

/* ---- buckets ----------------------------------------------------------- */

void
weiri_extent_set_order(struct weiri_extent *extent, int order)
{
	if (order == extent->order)
		return;
	if (extent->order >= 0) {
		weiri_list_remove(&extent->bucket);
		if (weiri_list_empty(&supply.bucket[extent->order]))
			supply.bucket_mask &=
			    ~(UINT32_C(1) << (unsigned)extent->order);
	}
	if (order >= 0) {
		weiri_list_push(&supply.bucket[order], &extent->bucket);
		supply.bucket_mask |= UINT32_C(1) << (unsigned)order;
	}
	extent->order = order;
}

static void
extent_rebucket(struct weiri_extent *extent)
{
	weiri_extent_set_order(extent,
	    extent->frozen ? -1 : weiri_buddy_core_largest(&extent->buddy));
}

/* The node in the list that an extent over @base comes behind. */
static struct weiri_list *
extent_before(const char *base)
{
	struct weiri_list *at = supply.extents.prev;

	/* New mappings tend to lie below older ones or just above: either end
	 * is near. */
	while (
	    at != &supply.extents &&
	    WEIRI_CONTAINER_OF(at, struct weiri_extent, all)->block.base > base)
		at = at->prev;
	return at;
}

struct weiri_map_gap
weiri_extent_gap(struct weiri_list *before, struct weiri_list *after)
{
	struct weiri_map_gap gap = {0, UINTPTR_MAX};

	if (before != &supply.extents) {
		const struct weiri_block *block =
		    &WEIRI_CONTAINER_OF(before, struct weiri_extent, all)
			 ->block;

		gap.low = (uintptr_t)block->base + block->bytes;
	}
	if (after != &supply.extents)
		gap.high = (uintptr_t)WEIRI_CONTAINER_OF(
		    after, struct weiri_extent, all)
			       ->block.base;
	return gap;
}

bool
weiri_extent_list(struct weiri_extent *extent)
{
	const struct weiri_block *block = &extent->block;
	struct weiri_list *before = extent_before(block->base);
	struct weiri_map_gap gap = weiri_extent_gap(before, before->next);

	if (weiri_map_add(block->base, block->bytes, &gap) != 0)
		return false;
	weiri_list_insert_after(before, &extent->all);
	extent_rebucket(extent);
	return true;
}

/* ---- birth and end ----------------------------------------------------- */

/* Bytes to ask the source for, so that @need fits. */
static size_t
extent_wish(size_t need)
{
	uint64_t room = weiri_budget_headroom();
	size_t want = (size_t)supply.bytes_reserved;

	want = weiri_max(weiri_min(want, EXTENT_MAX), WEIRI_EXTENT_ALIGN);
	want = (size_t)1 << weiri_log2_floor(want);
	want = weiri_max(want, need);
	/* Address space that the budget never lets be touched is waste, and
	 * under a strict overcommit rule it is refused. */
	while (want > need && want > room)
		want = weiri_max(
		    need, weiri_round_up(want / 2, WEIRI_EXTENT_ALIGN));
	return want;
}

/* Bytes that a block may have, so that the budget grants it if it is charged
 * whole: beside it there must be room for its records, a hundredth of it. */
static size_t
extent_most(size_t need)
{
	if (!weiri_source_resident())
		return SIZE_MAX;

	uint64_t room = weiri_budget_headroom();
	uint64_t records = room / 64 + EXTENT_RECORD_SLACK;

	if (need > room)
		return (size_t)room;
	return weiri_max(need, room > records ? (size_t)(room - records) : 0);
}

/* The record of an extent over @block, with its buddy; NULL without memory. */
static struct weiri_extent *
extent_record(const struct weiri_block *block)
{
	size_t offset = (uintptr_t)block->base & (WEIRI_EXTENT_ALIGN - 1);
	size_t units = (offset + block->bytes) / WEIRI_PAGE;
	size_t words = WEIRI_BITMAP_WORDS(units);
	size_t bytes = sizeof(struct weiri_extent) + words * sizeof(uint64_t) +
		       weiri_buddy_core_bytes(units);
	struct weiri_extent *extent = weiri_meta_alloc_locked(bytes);

	if (extent == NULL)
		return NULL;
	extent->block = *block;
	extent->base = block->base - offset;
	extent->grain =
	    (uint32_t)weiri_max(weiri_os_page_bytes() / WEIRI_PAGE, 1);
	extent->order = -1;
	extent->record_bytes = bytes;
	extent->dirty = (uint64_t *)(extent + 1);
	weiri_list_init(&extent->bucket);
	weiri_list_init(&extent->all);
	weiri_buddy_core_init(&extent->buddy, units, extent->dirty + words);
	if (offset > 0) {
		extent->hole = (uint32_t)(offset / WEIRI_PAGE);
		(void)weiri_buddy_core_alloc(&extent->buddy, units, 1);
		(void)weiri_buddy_core_split(&extent->buddy, 0, extent->hole);

		uint32_t usable;

		(void)weiri_buddy_core_free(
		    &extent->buddy, extent->hole, &usable);
		WEIR_ASSERT(usable == units - extent->hole);
	}
	return extent;
}

static bool
extent_open(const struct weiri_block *block)
{
	struct weiri_extent *extent = extent_record(block);

	if (extent == NULL)
		return false;
	if (block->resident && !weiri_budget_charge(block->bytes))
		goto undo_record;
	if (!weiri_extent_list(extent))
		goto undo_charge;
	if (block->resident)
		supply.bytes_retained += block->bytes;
	supply.bytes_reserved += block->bytes;
	/* Last: nothing that is brought in here has to be undone. */
	weiri_source_prepare(block);
	return true;

undo_charge:
	if (block->resident)
		weiri_budget_uncharge(block->bytes);
undo_record:
	weiri_meta_free(extent, extent->record_bytes);
	return false;
}

/* Pages to look for so that an aligned run lies within: beyond 2 MiB the unit
 * number's alignment says nothing about the address. */
static size_t
extent_padded(size_t count, size_t align)
{
	return align <= ALIGN_UNITS ? count : count + align - ALIGN_UNITS;
}

/* Puts a kept extent of @need bytes to use again. */
static bool
extent_revive(size_t need)
{
	WEIRI_LIST_FOR_SAFE(node, &supply.kept)
	{
		struct weiri_extent *extent =
		    WEIRI_CONTAINER_OF(node, struct weiri_extent, all);

		if (extent->frozen || extent->block.bytes < need)
			continue;
		weiri_list_remove(&extent->all);
		if (weiri_extent_list(extent))
			return true;
		weiri_list_push(&supply.kept, &extent->all);
		return false;
	}
	return false;
}

/* A block of @need bytes or more for @count pages. */
static bool
extent_take(struct weiri_block *block, size_t need, size_t count)
{
	size_t want = extent_wish(need);

	return weiri_budget_headroom() >= count * WEIRI_PAGE &&
	       weiri_source_take(block, need, want, extent_most(need),
		   want == need && count * WEIRI_PAGE == need);
}

bool
weiri_extent_add(size_t count, size_t align)
{
	struct weiri_block block = supply.orphan;
	size_t need = weiri_round_up(
	    extent_padded(count, align) * WEIRI_PAGE, WEIRI_EXTENT_ALIGN);

	if (weiri_os_page_bytes() > WEIRI_SYSTEM_PAGE_MAX)
		return false;
	if (extent_revive(need))
		return true;
	supply.orphan.base = NULL;
	if (block.base == NULL && !extent_take(&block, need, count))
		return false;
	if (extent_open(&block))
		return true;
	/* What cannot be given back must not be lost: it is tried again. */
	if (!weiri_source_undo(&block))
		supply.orphan = block;
	return false;
}

/* ---- pages handed out and taken back ----------------------------------- */

/* Charges the pages of the system that are not charged yet and moves all units
 * into spans. */
static bool
extent_charge(struct weiri_extent *extent, size_t first, size_t count)
{
	size_t grain = extent->grain;
	size_t from = weiri_max(first & ~(grain - 1), extent->hole);
	size_t end = weiri_min(
	    weiri_round_up(first + count, grain), extent->buddy.unit_count);
	size_t clean =
	    end - from - weiri_bits_count(extent->dirty, from, end - from);
	size_t fresh = extent->block.resident ? 0 : clean;

	if (fresh > 0 && !weiri_budget_charge(fresh * WEIRI_PAGE))
		return false;
	if (clean > 0)
		weiri_bits_set(extent->dirty, from, end - from);
	extent->dirty_pages += (uint32_t)clean;
	extent->span_pages += (uint32_t)count;
	supply.bytes_in_spans += count * WEIRI_PAGE;
	supply.bytes_retained += fresh * WEIRI_PAGE;
	supply.bytes_retained -= count * WEIRI_PAGE;
	weiri_decay_note(&supply.retained, supply.bytes_retained);
	return true;
}

static void
extent_retain(struct weiri_extent *extent, size_t count)
{
	extent->span_pages -= (uint32_t)count;
	supply.bytes_in_spans -= count * WEIRI_PAGE;
	supply.bytes_retained += count * WEIRI_PAGE;
}

/* A run of exactly @count units at @align in this extent. */
static uint32_t
extent_place(struct weiri_extent *extent, size_t count, size_t align)
{
	struct weiri_buddy_core *buddy = &extent->buddy;

	if (align <= ALIGN_UNITS)
		return weiri_buddy_core_alloc(buddy, count, align);

	size_t padded = extent_padded(count, align);
	uint32_t first = weiri_buddy_core_alloc(buddy, padded, ALIGN_UNITS);
	uint32_t unused;

	if (first == WEIRI_BUDDY_NONE)
		return WEIRI_BUDDY_NONE;

	uintptr_t address = (uintptr_t)extent->base + first * WEIRI_PAGE;
	uintptr_t aligned = weiri_round_up(address, align * WEIRI_PAGE);
	uint32_t skip = (uint32_t)((aligned - address) / WEIRI_PAGE);

	if (skip > 0) {
		(void)weiri_buddy_core_split(buddy, first, skip);
		(void)weiri_buddy_core_free(buddy, first, &unused);
	}
	(void)weiri_buddy_core_resize(buddy, first + skip, count);
	return first + skip;
}

/* Finds room: the extent whose largest block is the smallest that does, else
 * one that is wholly free and of no power of two. */
static struct weiri_extent *
extent_find(size_t count, size_t align, uint32_t *first)
{
	size_t padded = extent_padded(count, align);
	unsigned order =
	    weiri_buddy_core_order(padded, weiri_min(align, ALIGN_UNITS));
	uint32_t fits = order >= WEIRI_BUDDY_ORDERS
			    ? 0
			    : supply.bucket_mask & (UINT32_MAX << order);

	if (WEIR_LIKELY(fits != 0)) {
		struct weiri_extent *extent =
		    WEIRI_CONTAINER_OF(supply.bucket[__builtin_ctz(fits)].next,
			struct weiri_extent, bucket);

		*first = extent_place(extent, count, align);
		WEIR_ASSERT(*first != WEIRI_BUDDY_NONE);
		return extent;
	}
	/* The next thing would be to grow, so a walk is cheap here. */
	WEIRI_LIST_FOR(node, &supply.extents)
	{
		struct weiri_extent *extent =
		    WEIRI_CONTAINER_OF(node, struct weiri_extent, all);

		if (extent->buddy.run_count > 0 || extent->frozen)
			continue;
		*first = extent_place(extent, count, align);
		if (*first != WEIRI_BUDDY_NONE)
			return extent;
	}
	return NULL;
}

int
weiri_extent_cut(struct weiri_span *span, size_t count, size_t align)
{
	uint32_t first;
	struct weiri_extent *extent = extent_find(count, align, &first);

	if (extent == NULL)
		return -EAGAIN;

	bool zeroed = extent->block.zeroed &&
		      weiri_bits_count(extent->dirty, first, count) == 0;

	if (!extent_charge(extent, first, count)) {
		uint32_t unused;

		(void)weiri_buddy_core_free(&extent->buddy, first, &unused);
		extent_rebucket(extent);
		return -ENOMEM;
	}
	extent_rebucket(extent);
	if (supply.spare == extent)
		supply.spare = NULL;
	span->extent = extent;
	span->base = extent->base + (size_t)first * WEIRI_PAGE;
	span->bytes = count * WEIRI_PAGE;
	span->first_page = first;
	span->zeroed = zeroed;
	return 0;
}

struct weiri_extent *
weiri_extent_join(struct weiri_span *span)
{
	struct weiri_extent *extent = span->extent;
	struct weiri_extent *old = supply.spare;
	uint32_t count = 0;
	enum weiri_buddy_result result =
	    weiri_buddy_core_free(&extent->buddy, span->first_page, &count);

	WEIR_ASSERT(result == WEIRI_BUDDY_OK);
	WEIR_ASSERT(count == span->bytes / WEIRI_PAGE);
	(void)result;
	extent_retain(extent, count);
	extent_rebucket(extent);
	if (extent->span_pages > 0 || !extent->block.may_give)
		return NULL;

	/* One wholly free extent is kept, the one freed last, so that a load
	 * that swings about its edge does not map and unmap at each turn. */
	if (extent->frozen || extent->block.bytes > EXTENT_MAX)
		return weiri_extent_unlink(extent) ? extent : NULL;
	supply.spare = extent;
	return old != NULL && weiri_extent_unlink(old) ? old : NULL;
}

int
weiri_extent_resize(struct weiri_span *span, size_t count)
{
	struct weiri_extent *extent = span->extent;
	struct weiri_buddy_core *buddy = &extent->buddy;
	size_t old = span->bytes / WEIRI_PAGE;
	size_t more = count > old ? count - old : 0;
	size_t end = span->first_page + old;
	int error = 0;

	/* A frozen extent has nothing to give. */
	if (more > 0 && extent->frozen)
		return -ENOMEM;
	if (weiri_buddy_core_resize(buddy, span->first_page, count) !=
	    WEIRI_BUDDY_OK)
		return -ENOMEM;
	if (more == 0) {
		extent_retain(extent, old - count);
	} else if (extent_charge(extent, end, more)) {
		span->zeroed = false;
	} else {
		(void)weiri_buddy_core_resize(buddy, span->first_page, old);
		count = old;
		error = -ENOMEM;
	}
	extent_rebucket(extent);
	span->bytes = count * WEIRI_PAGE;
	return error;
}
