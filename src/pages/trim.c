/* SPDX-License-Identifier: MIT */
/*
 * trim.c - what goes back to the system, and what the system refuses.
 *
 *     listed extent  --unlink-->  in nobody's list  --discard-->  unmapped
 *           ^                                            |
 *           +------- growth -------  kept  <-- refused --+
 *                                     |
 *                                     +-- the next trim: discard again
 *
 * A wholly free extent leaves the supply under the lock and is unmapped without
 * it, since that is the dearest call of all.  Its page map goes first: once the
 * range is unmapped another thread may get the same addresses.
 *
 * The system may refuse to unmap (see weiri_os_release()).  Such an extent is
 * kept: still reserved, still charged for what is in memory, emptied if that can
 * be done, and used by the next growth that it is large enough for.  What
 * decommit refuses stays dirty, so it stays charged as well.
 *
 * The invariants are those of extent.c.  Lock: everything runs under
 * weiri_supply.lock but weiri_extent_discard().
 */
#include "pages/extent.h"

#include "pages/budget.h"

#define supply weiri_supply

/* From so many units on a free block has pages of records to itself. */
#define TRIM_RECORDS_UNITS (WEIRI_EXTENT_ALIGN / WEIRI_PAGE)

static uint64_t
trim_charged_bytes(const struct weiri_extent *extent)
{
	return (uint64_t)weiri_extent_charged_pages(extent) * WEIRI_PAGE;
}

/* The extent leaves the supply's sums, or enters them again; its charge stays
 * until weiri_extent_discard() has given the memory back. */
static void
trim_leave(struct weiri_extent *extent)
{
	weiri_list_remove(&extent->all);
	supply.bytes_reserved -= extent->block.bytes;
	supply.bytes_retained -= trim_charged_bytes(extent);
	weiri_decay_note(&supply.retained, supply.bytes_retained);
}

static void
trim_keep(struct weiri_extent *extent)
{
	weiri_list_push(&supply.kept, &extent->all);
	supply.bytes_reserved += extent->block.bytes;
	supply.bytes_retained += trim_charged_bytes(extent);
}

bool
weiri_extent_unlink(struct weiri_extent *extent)
{
	struct weiri_map_gap gap =
	    weiri_extent_gap(extent->all.prev, extent->all.next);

	WEIR_ASSERT(extent->span_pages == 0);
	if (!weiri_map_remove(extent->block.base, extent->block.bytes, &gap))
		return false;
	weiri_extent_set_order(extent, -1);
	if (supply.spare == extent)
		supply.spare = NULL;
	trim_leave(extent);
	return true;
}

/* Decommits dirty pages of one free block, @most of them; their number. */
static size_t
trim_block(struct weiri_extent *extent, size_t first, size_t count, size_t most)
{
	size_t end = first + count, pages = 0;

	while (pages < most && (first = weiri_bits_find(
				    extent->dirty, first, end, true)) < end) {
		size_t stop = weiri_bits_find(extent->dirty, first, end, false);

		/* @most may be SIZE_MAX, which must not be added to. */
		stop = first + weiri_min(stop - first, most - pages);
		if (weiri_source_decommit(&extent->block,
			extent->base + first * WEIRI_PAGE,
			(stop - first) * WEIRI_PAGE)) {
			weiri_bits_clear(extent->dirty, first, stop - first);
			pages += stop - first;
		}
		first = stop;
	}
	return pages;
}

/* Whole pages of what is known of the units of a free block go as well: it may be
 * most of an extent, in which a span or two stay.  They stay charged. */
static void
trim_records(struct weiri_extent *extent, uint32_t first, size_t count)
{
	struct weiri_buddy_blank blank[2];

	if (extent->grain != 1 || count < TRIM_RECORDS_UNITS)
		return;
	weiri_map_void(
	    extent->base + (size_t)first * WEIRI_PAGE, count * WEIRI_PAGE);
	weiri_buddy_core_blank(&extent->buddy, first, blank);
	for (size_t i = 0; i < WEIRI_COUNT_OF(blank); i++) {
		uintptr_t from =
		    weiri_round_up((uintptr_t)blank[i].base, WEIRI_PAGE);
		size_t skip = from - (uintptr_t)blank[i].base;

		if (skip + WEIRI_PAGE <= blank[i].bytes)
			(void)weiri_os_decommit(blank[i].base + skip,
			    (blank[i].bytes - skip) & ~(WEIRI_PAGE - 1));
	}
}

/* @most pages, a multiple of the extent's grain. */
static size_t
trim_extent(struct weiri_extent *extent, size_t most)
{
	size_t pages = 0;
	bool is_free;

	for (uint32_t at = 0, count;
	     at < extent->buddy.unit_count && pages < most; at += count) {
		count = weiri_buddy_core_extent(&extent->buddy, at, &is_free);
		/* From that size on blocks are whole pages of the system. */
		if (!is_free || count < extent->grain)
			continue;

		size_t given = trim_block(extent, at, count, most - pages);

		if (given > 0 && weiri_bits_find(extent->dirty, at, at + count,
				     true) == at + count)
			trim_records(extent, at, count);
		pages += given;
	}
	extent->dirty_pages -= (uint32_t)pages;
	supply.bytes_retained -= pages * WEIRI_PAGE;
	weiri_budget_uncharge(pages * WEIRI_PAGE);
	return pages * WEIRI_PAGE;
}

size_t
weiri_extent_discard(struct weiri_extent *extent)
{
	bool locked = weiri_source_give_locked();
	size_t bytes = (size_t)trim_charged_bytes(extent);

	/* Unmapping is the dearest call here: without the lock if the source
	 * does not ask for it. */
	if (locked)
		weiri_supply_lock();

	bool given = weiri_source_give(&extent->block);

	if (locked)
		weiri_supply_unlock();
	if (given) {
		weiri_budget_uncharge(bytes);
		weiri_meta_free(extent, extent->record_bytes);
		return bytes;
	}
	weiri_supply_lock();
	trim_keep(extent);
	/* To empty it needs no mapping more, so this may well succeed. */
	bytes = extent->block.may_trim && !extent->frozen
		    ? trim_extent(extent, SIZE_MAX)
		    : 0;
	weiri_supply_unlock();
	return bytes;
}

size_t
weiri_extent_trim(struct weiri_list *gone)
{
	size_t bytes = 0;

	WEIRI_LIST_FOR_SAFE(node, &supply.kept)
	{
		trim_leave(WEIRI_CONTAINER_OF(node, struct weiri_extent, all));
		weiri_list_push(gone, node);
	}
	WEIRI_LIST_FOR_SAFE(node, &supply.extents)
	{
		struct weiri_extent *extent =
		    WEIRI_CONTAINER_OF(node, struct weiri_extent, all);

		if (extent->span_pages == 0 && extent->block.may_give &&
		    weiri_extent_unlink(extent)) {
			weiri_list_push(gone, &extent->all);
		} else if (extent->block.may_trim && !extent->frozen &&
			   extent->dirty_pages > extent->span_pages) {
			bytes += trim_extent(extent, SIZE_MAX);
		}
	}
	return bytes;
}

/* ---- step by step -------------------------------------------------------- */

/* The first extent at or above @address that has something to give. */
static struct weiri_extent *
trim_next(const char *address)
{
	WEIRI_LIST_FOR(node, &supply.extents)
	{
		struct weiri_extent *extent =
		    WEIRI_CONTAINER_OF(node, struct weiri_extent, all);

		if ((uintptr_t)extent->base < (uintptr_t)address ||
		    extent->frozen)
			continue;
		if (extent->block.may_trim &&
		    extent->dirty_pages > extent->span_pages)
			return extent;
		if (extent->block.may_give && extent->span_pages == 0)
			return extent;
	}
	return NULL;
}

/*
 * A wholly free extent goes once it is empty, or where it can only go whole;
 * so what is unmapped here has little memory behind it.
 */
size_t
weiri_extent_purge(size_t bytes, const char **from, struct weiri_list *gone)
{
	struct weiri_extent *extent = trim_next(*from);
	size_t grain, given = 0;

	if (extent == NULL)
		return 0;
	grain = (size_t)extent->grain * WEIRI_PAGE;
	if (extent->block.may_trim && extent->dirty_pages > extent->span_pages)
		given = trim_extent(
		    extent, weiri_round_up(bytes, grain) / WEIRI_PAGE);
	/* Else there may be more of it: it is the next one again. */
	*from = given >= bytes ? extent->base : extent->base + 1;
	if (extent->span_pages == 0 && extent->block.may_give &&
	    trim_charged_bytes(extent) <= bytes - weiri_min(given, bytes) &&
	    weiri_extent_unlink(extent))
		weiri_list_push(gone, &extent->all);
	return given;
}

/* ---- fork -------------------------------------------------------------- */

static void
trim_freeze(struct weiri_list *extents)
{
	WEIRI_LIST_FOR(node, extents)
	{
		struct weiri_extent *extent =
		    WEIRI_CONTAINER_OF(node, struct weiri_extent, all);

		if (!extent->block.shared)
			continue;
		extent->frozen = true;
		weiri_extent_set_order(extent, -1);
		if (supply.spare == extent)
			supply.spare = NULL;
	}
}

void
weiri_extent_freeze_shared(void)
{
	trim_freeze(&supply.extents);
	trim_freeze(&supply.kept);
}
