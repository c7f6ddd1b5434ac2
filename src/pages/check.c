/* SPDX-License-Identifier: MIT */
/*
 * check.c - weiri_pages_check(): the invariants of the page supply.
 *
 * Walks every extent, every run and every entry of the page map that belongs to
 * an extent: linear in the pages, so for tests and debug builds.  The numbers
 * in the messages are those of the files that state the invariants.
 */
#include "config/config.h"
#include "pages/budget.h"
#include "pages/extent.h"
#include "pages/range.h"
#include "pages/near.h"

/* N1, for the units that [base, base + bytes) touches; @tag: of a slab. */
static bool
check_near(const char *base, size_t bytes, uint16_t tag)
{
	uintptr_t first = (uintptr_t)base, end = first + bytes;
	uintptr_t at = first & ~(WEIRI_NEAR_UNIT - 1);

	for (; at < end; at += WEIRI_NEAR_UNIT) {
		uintptr_t unit = (at - weiri_near_base()) >> WEIRI_NEAR_SHIFT;
		bool whole = at >= first && at + WEIRI_NEAR_UNIT <= end;

		if (unit < WEIRI_NEAR_COUNT &&
		    WEIRI_LOAD(&weiri_near_tag[unit]) != (whole ? tag : 0))
			return false;
	}
	return true;
}

/* M1, and the span's own view, for one run. */
static const char *
check_run(struct weiri_extent *extent, uint32_t first, uint32_t count)
{
	const char *base = extent->base + (size_t)first * WEIRI_PAGE;
	uint64_t entry = weiri_page_entry(base);
	const struct weiri_span *span = weiri_entry_span(entry);

	/* A hole may be part of another extent: the part of a range before. */
	if (first < extent->hole)
		return span == NULL || span->extent != extent
			   ? NULL
			   : "M1: a page of a hole has an entry";
	if (span == NULL)
		return "M1: a page of a span has no entry";
	if (weiri_entry_tag(entry) != span->tag)
		return "M1: an entry's tag is not its span's";
	if (span->extent != extent || span->first_page != first ||
	    span->base != base || span->bytes != count * WEIRI_PAGE)
		return "M1: an entry's span is not where its pages are";
	for (uint32_t i = 1; i < count; i++)
		if (weiri_page_entry(base + i * WEIRI_PAGE) != entry)
			return "M1: pages of one span have unlike entries";
	if (weiri_bits_count(extent->dirty, first, count) != count)
		return "E3: a page of a span is not dirty";
	if (!check_near(base, span->bytes,
		span->kind == WEIRI_SPAN_SLAB ? span->tag : 0))
		return "N1: a unit does not have its span's tag";
	return NULL;
}

static const char *
check_free(const struct weiri_extent *extent, uint32_t first, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		if (weiri_page_entry(
			extent->base + (size_t)(first + i) * WEIRI_PAGE) != 0)
			return "M1: a free page has an entry";
	if (!check_near(extent->base + (size_t)first * WEIRI_PAGE,
		(size_t)count * WEIRI_PAGE, 0))
		return "N1: a unit of free pages has a tag";
	return NULL;
}

/* E6: a page of the system's is dirty as a whole. */
static const char *
check_grain(const struct weiri_extent *extent)
{
	uint32_t grain = extent->grain;

	if (!extent->block.may_trim)
		return NULL;
	for (uint32_t at = 0; at < extent->buddy.unit_count; at += grain) {
		size_t dirty = weiri_bits_count(extent->dirty, at, grain);

		if (dirty != 0 && dirty != grain)
			return "E6: a page of the system is dirty in part";
	}
	return NULL;
}

/* E3: what the extent says of itself; @kept: it is in no bucket. */
static const char *
check_extent(struct weiri_extent *extent, bool kept)
{
	const char *why = weiri_buddy_core_check(&extent->buddy);
	uint32_t units = extent->buddy.unit_count, span_pages = 0;

	for (uint32_t at = 0, count; why == NULL && at < units; at += count) {
		bool is_free;

		count = weiri_buddy_core_extent(&extent->buddy, at, &is_free);
		why = is_free ? check_free(extent, at, count)
			      : check_run(extent, at, count);
		if (!is_free && at >= extent->hole)
			span_pages += count;
	}
	if (why != NULL)
		return why;
	if (span_pages != extent->span_pages)
		return "E3: span_pages is not the sum of the runs";
	if (weiri_bits_count(extent->dirty, 0, units) != extent->dirty_pages)
		return "E3: dirty_pages is not the number of dirty bits";
	if (extent->order !=
	    (extent->frozen || kept ? -1
				    : weiri_buddy_core_largest(&extent->buddy)))
		return "E2: an extent is in a wrong bucket";
	return check_grain(extent);
}

static const char *
check_buckets(void)
{
	for (int order = 0; order < WEIRI_BUDDY_ORDERS; order++) {
		struct weiri_list *bucket = &weiri_supply.bucket[order];
		bool bit = (weiri_supply.bucket_mask >> (unsigned)order) & 1;

		if (bit == weiri_list_empty(bucket))
			return "E2: the mask and a bucket differ";
		WEIRI_LIST_FOR(node, bucket)
		if (WEIRI_CONTAINER_OF(node, struct weiri_extent, bucket)
			->order != order)
			return "E2: a bucket holds another's extent";
	}
	return NULL;
}

struct check_sums {
	uint64_t reserved, in_spans, retained;
	uint64_t map_pages; /* of the map that describe extents */
	uintptr_t map_end;  /* what the last of them describes ends here */
};

static void
check_add(struct check_sums *sums, const struct weiri_extent *extent)
{
	sums->reserved += extent->block.bytes;
	sums->in_spans += (uint64_t)extent->span_pages * WEIRI_PAGE;
	sums->retained += (uint64_t)(weiri_extent_charged_pages(extent) -
				     extent->span_pages) *
			  WEIRI_PAGE;
}

/* M2: extents come by address, so only the first page may be counted. */
static void
check_add_map(struct check_sums *sums, const struct weiri_block *block)
{
	size_t reach = weiri_map_reach();
	uintptr_t first = (uintptr_t)block->base & ~(reach - 1);
	uintptr_t end =
	    weiri_round_up((uintptr_t)block->base + block->bytes, reach);

	first = weiri_max(first, sums->map_end);
	sums->map_pages += (end - first) / reach;
	sums->map_end = end;
}

/* E1, and the extents themselves. */
static const char *
check_extents(struct check_sums *sums)
{
	const char *end = NULL, *why;

	WEIRI_LIST_FOR(node, &weiri_supply.extents)
	{
		struct weiri_extent *extent =
		    WEIRI_CONTAINER_OF(node, struct weiri_extent, all);

		if ((uintptr_t)extent->block.base < (uintptr_t)end)
			return "E1: two extents overlap or are out of order";
		end = extent->block.base + extent->block.bytes;
		why = check_extent(extent, false);
		if (why != NULL)
			return why;
		check_add(sums, extent);
		check_add_map(sums, &extent->block);
	}
	WEIRI_LIST_FOR(node, &weiri_supply.kept)
	{
		struct weiri_extent *extent =
		    WEIRI_CONTAINER_OF(node, struct weiri_extent, all);

		if (extent->span_pages > 0 || !extent->block.may_give)
			return "E5: a kept extent is in use";
		why = check_extent(extent, true);
		if (why != NULL)
			return why;
		check_add(sums, extent);
	}
	return NULL;
}

/* E4 and M2. */
static const char *
check_supply(void)
{
	struct check_sums sums = {0};
	const char *why = check_extents(&sums);

	if (why != NULL)
		return why;
	if (sums.reserved != weiri_supply.bytes_reserved)
		return "E4: bytes_reserved is not the sum of the blocks";
	if (sums.in_spans != weiri_supply.bytes_in_spans)
		return "E4: bytes_in_spans is not the sum of the spans";
	if (sums.retained != weiri_supply.bytes_retained)
		return "E4: bytes_retained is not the sum of the rest";
	if (sums.map_pages * (weiri_map_reach() / WEIRI_PAGE) *
		sizeof(uint64_t) !=
	    weiri_map_charged())
		return "M2: the page map's charge is not that of its extents";
	return NULL;
}

/* The law of conservation, over the whole supply. */
static const char *
check_budget(void)
{
	struct weiri_budget_figures budget;

	weiri_budget_read(&budget);
	if (budget.charged_bytes !=
	    weiri_supply.bytes_in_spans + weiri_supply.bytes_retained +
		weiri_range_charged() + weiri_range_kept() +
		weiri_meta_charged() + weiri_map_charged())
		return "charged is not spans + retained + metadata";
	if (budget.peak_bytes < budget.charged_bytes)
		return "the peak is below the charge";
	return NULL;
}

bool
weiri_pages_check(void)
{
	const char *why;

	weiri_supply_lock();

	const struct weiri_extent *spare = weiri_supply.spare;

	why = check_supply();
	if (why == NULL)
		why = check_buckets();
	if (why == NULL && spare != NULL &&
	    (spare->span_pages > 0 || !spare->block.may_give))
		why = "E5: the spare is in use";
	if (why == NULL)
		why = weiri_meta_check();
	if (why == NULL)
		why = check_budget();
	weiri_supply_unlock();
	if (why == NULL)
		return true;

	char line[128];
	struct weiri_text text = {line, sizeof(line), 0};

	weiri_text_str(&text, "page supply: ");
	weiri_text_str(&text, why);
	weiri_message(WEIR_MESSAGE_ERROR, line);
	return false;
}
