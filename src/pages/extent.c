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
 * A page is charged when it is handed out, and until it is decommitted: dirty
 * bits tell.  Free dirty pages are "retained": warm, charged, reused without a
 * system call.  Fresh pages cost address space only.  Blocks that are resident
 * from the start are charged whole.
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
 *       charged pages that are in no span, bytes_reserved of blocks.
 *   E5  The spare is wholly free and may be given back.
 *
 * Lock: everything runs under weiri_supply.lock but weiri_extent_discard().
 */
#include "pages/extent.h"

#include "pages/budget.h"

#include <errno.h>

#define EXTENT_MAX ((size_t)64 << 20)
#define ALIGN_UNITS (WEIRI_EXTENT_ALIGN / WEIRI_PAGE)

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
	for (size_t order = 0; order < WEIRI_BUDDY_ORDERS; order++)
		weiri_list_init(&supply.bucket[order]);
	supply.ready = true;
}

void
weiri_supply_unlock(void)
{
	weiri_mutex_unlock(&supply.lock);
}

/* ---- dirty bits -------------------------------------------------------- */

/* The bits of word @word that lie in [first, end). */
static uint64_t
bits_mask(size_t word, size_t first, size_t end)
{
	uint64_t mask = UINT64_MAX;

	if (word == first / 64)
		mask &= UINT64_MAX << (first % 64);
	if (word == end / 64)
		mask &= (UINT64_C(1) << (end % 64)) - 1;
	return mask;
}

size_t
weiri_bits_count(const uint64_t *map, size_t first, size_t count)
{
	size_t end = first + count, sum = 0;

	for (size_t word = first / 64; word * 64 < end; word++)
		sum += (size_t)__builtin_popcountll(
		    map[word] & bits_mask(word, first, end));
	return sum;
}

static void
bits_set(uint64_t *map, size_t first, size_t count)
{
	size_t end = first + count;

	for (size_t word = first / 64; word * 64 < end; word++)
		map[word] |= bits_mask(word, first, end);
}

static void
bits_clear(uint64_t *map, size_t first, size_t count)
{
	size_t end = first + count;

	for (size_t word = first / 64; word * 64 < end; word++)
		map[word] &= ~bits_mask(word, first, end);
}

/* The first bit at or after @from that is @value, or @end. */
static size_t
bits_find(const uint64_t *map, size_t from, size_t end, bool value)
{
	while (from < end) {
		uint64_t word = value ? map[from / 64] : ~map[from / 64];

		word &= UINT64_MAX << (from % 64);
		if (word != 0) {
			size_t bit =
			    from / 64 * 64 + (size_t)__builtin_ctzll(word);

			return weiri_min(bit, end);
		}
		from = (from / 64 + 1) * 64;
	}
	return end;
}

/* ---- buckets ----------------------------------------------------------- */

static void
extent_rebucket(struct weiri_extent *extent)
{
	int order =
	    extent->frozen ? -1 : weiri_buddy_core_largest(&extent->buddy);

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
extent_list(struct weiri_extent *extent)
{
	struct weiri_list *at = supply.extents.prev;

	/* New mappings tend to lie below older ones or just above: either end
	 * is near. */
	while (at != &supply.extents &&
	       WEIRI_CONTAINER_OF(at, struct weiri_extent, all)->base >
		   extent->base)
		at = at->prev;
	weiri_list_insert_after(at, &extent->all);
}

/* ---- birth and end ----------------------------------------------------- */

/* Bytes to ask the source for, so that @need fits; 0 when the budget will not
 * let them be used. */
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
	if (weiri_source_resident() && want > room)
		return 0;
	return want;
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
	if (weiri_map_add(block->base, block->bytes) != 0)
		goto undo_charge;
	if (block->resident)
		supply.bytes_retained += block->bytes;
	supply.bytes_reserved += block->bytes;
	extent_list(extent);
	extent_rebucket(extent);
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

bool
weiri_extent_add(size_t count, size_t align)
{
	struct weiri_block block = supply.orphan;

	/* Larger system pages would be given back with live neighbours on
	 * them; until trim rounds inward, there is no supply there. */
	if (weiri_os_page_bytes() > WEIRI_PAGE)
		return false;
	supply.orphan.base = NULL;
	if (block.base == NULL) {
		size_t need =
		    weiri_round_up(extent_padded(count, align) * WEIRI_PAGE,
			WEIRI_EXTENT_ALIGN);
		size_t want = extent_wish(need);

		if (want == 0 || weiri_budget_headroom() < count * WEIRI_PAGE)
			return false;
		if (!weiri_source_take(&block, need, want))
			return false;
	}
	if (extent_open(&block))
		return true;
	/* What cannot be given back must not be lost: it is tried again. */
	if (block.may_give)
		weiri_source_give(&block);
	else
		supply.orphan = block;
	return false;
}

/* Takes a wholly free extent out of the supply; its charge stays until
 * weiri_extent_discard() has given the memory back. */
static void
extent_unlink(struct weiri_extent *extent)
{
	WEIR_ASSERT(extent->span_pages == 0);
	extent->frozen = true;
	extent_rebucket(extent);
	weiri_list_remove(&extent->all);
	if (supply.spare == extent)
		supply.spare = NULL;
	supply.bytes_reserved -= extent->block.bytes;
	supply.bytes_retained -=
	    (uint64_t)weiri_extent_charged_pages(extent) * WEIRI_PAGE;
	weiri_map_remove(extent->block.base, extent->block.bytes);
}

void
weiri_extent_discard(struct weiri_extent *extent)
{
	bool locked = weiri_source_give_locked();

	/* Unmapping is the dearest call here: without the lock if the source
	 * does not ask for it. */
	if (locked)
		weiri_supply_lock();
	weiri_source_give(&extent->block);
	if (locked)
		weiri_supply_unlock();
	weiri_budget_uncharge(
	    (size_t)weiri_extent_charged_pages(extent) * WEIRI_PAGE);
	weiri_meta_free(extent, extent->record_bytes);
}

/* ---- pages handed out and taken back ----------------------------------- */

/* Charges the pages that are not charged yet and moves all into spans. */
static bool
extent_charge(struct weiri_extent *extent, size_t first, size_t count)
{
	size_t clean = count - weiri_bits_count(extent->dirty, first, count);
	size_t fresh = extent->block.resident ? 0 : clean;

	if (fresh > 0 && !weiri_budget_charge(fresh * WEIRI_PAGE))
		return false;
	if (clean > 0)
		bits_set(extent->dirty, first, count);
	extent->dirty_pages += (uint32_t)clean;
	extent->span_pages += (uint32_t)count;
	supply.bytes_in_spans += count * WEIRI_PAGE;
	supply.bytes_retained -= (count - fresh) * WEIRI_PAGE;
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
	if (extent->frozen || extent->block.bytes > EXTENT_MAX) {
		extent_unlink(extent);
		return extent;
	}
	supply.spare = extent;
	if (old != NULL)
		extent_unlink(old);
	return old;
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

/* ---- trim -------------------------------------------------------------- */

/* Decommits the dirty pages of one free block; returns their number. */
static size_t
extent_trim_block(struct weiri_extent *extent, size_t first, size_t count)
{
	size_t end = first + count, pages = 0;

	while ((first = bits_find(extent->dirty, first, end, true)) < end) {
		size_t stop = bits_find(extent->dirty, first, end, false);

		if (weiri_source_decommit(&extent->block,
			extent->base + first * WEIRI_PAGE,
			(stop - first) * WEIRI_PAGE)) {
			bits_clear(extent->dirty, first, stop - first);
			pages += stop - first;
		}
		first = stop;
	}
	return pages;
}

static size_t
extent_trim_one(struct weiri_extent *extent)
{
	size_t pages = 0;
	bool is_free;

	for (uint32_t at = 0, count; at < extent->buddy.unit_count;
	     at += count) {
		count = weiri_buddy_core_extent(&extent->buddy, at, &is_free);
		if (is_free)
			pages += extent_trim_block(extent, at, count);
	}
	extent->dirty_pages -= (uint32_t)pages;
	supply.bytes_retained -= pages * WEIRI_PAGE;
	weiri_budget_uncharge(pages * WEIRI_PAGE);
	return pages * WEIRI_PAGE;
}

size_t
weiri_extent_trim(struct weiri_list *gone)
{
	size_t bytes = 0;

	WEIRI_LIST_FOR_SAFE(node, &supply.extents)
	{
		struct weiri_extent *extent =
		    WEIRI_CONTAINER_OF(node, struct weiri_extent, all);

		if (extent->span_pages == 0 && extent->block.may_give) {
			extent_unlink(extent);
			weiri_list_push(gone, &extent->all);
			bytes += (size_t)weiri_extent_charged_pages(extent) *
				 WEIRI_PAGE;
		} else if (extent->block.may_trim && !extent->frozen &&
			   extent->dirty_pages > extent->span_pages) {
			bytes += extent_trim_one(extent);
		}
	}
	return bytes;
}

/* ---- fork -------------------------------------------------------------- */

void
weiri_extent_freeze_shared(void)
{
	WEIRI_LIST_FOR(node, &supply.extents)
	{
		struct weiri_extent *extent =
		    WEIRI_CONTAINER_OF(node, struct weiri_extent, all);

		if (!extent->block.shared)
			continue;
		extent->frozen = true;
		extent_rebucket(extent);
		if (supply.spare == extent)
			supply.spare = NULL;
	}
}
