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

/* M1, and the span's own view, for one run. */
static const char *
check_run(struct weiri_extent *extent, uint32_t first, uint32_t count)
{
	const char *base = extent->base + (size_t)first * WEIRI_PAGE;
	uint64_t entry = weiri_page_entry(base);
	const struct weiri_span *span = weiri_entry_span(entry);

	if (first < extent->hole)
		return entry == 0 ? NULL : "M1: a page of a hole has an entry";
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
	return NULL;
}

static const char *
check_free(const struct weiri_extent *extent, uint32_t first, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		if (weiri_page_entry(
			extent->base + (size_t)(first + i) * WEIRI_PAGE) != 0)
			return "M1: a free page has an entry";
	return NULL;
}

/* E3: what the extent says of itself. */
static const char *
check_extent(struct weiri_extent *extent)
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
	    (extent->frozen ? -1 : weiri_buddy_core_largest(&extent->buddy)))
		return "E2: an extent is in a wrong bucket";
	return NULL;
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

/* E1 and E4. */
static const char *
check_supply(void)
{
	uint64_t reserved = 0, in_spans = 0, retained = 0;
	const char *end = NULL, *why;

	WEIRI_LIST_FOR(node, &weiri_supply.extents)
	{
		struct weiri_extent *extent =
		    WEIRI_CONTAINER_OF(node, struct weiri_extent, all);

		if ((uintptr_t)extent->block.base < (uintptr_t)end)
			return "E1: two extents overlap or are out of order";
		end = extent->block.base + extent->block.bytes;
		why = check_extent(extent);
		if (why != NULL)
			return why;
		reserved += extent->block.bytes;
		in_spans += (uint64_t)extent->span_pages * WEIRI_PAGE;
		retained += (uint64_t)(weiri_extent_charged_pages(extent) -
				       extent->span_pages) *
			    WEIRI_PAGE;
	}
	if (reserved != weiri_supply.bytes_reserved)
		return "E4: bytes_reserved is not the sum of the blocks";
	if (in_spans != weiri_supply.bytes_in_spans)
		return "E4: bytes_in_spans is not the sum of the spans";
	if (retained != weiri_supply.bytes_retained)
		return "E4: bytes_retained is not the sum of the rest";
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
