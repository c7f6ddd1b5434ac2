/* SPDX-License-Identifier: MIT */
/*
 * region_check.c - the walk over a region's invariants, and its figures.
 *
 * The numbers are those of region.c.  Each function reports the first thing it
 * finds wrong as the text of the broken invariant, or NULL.
 */
#include "pools/region.h"

#include "base/text.h"
#include "config/config.h"

#include <errno.h>
#include <string.h>

static const char *
region_check_bump(struct weiri_region *region)
{
	const char *next = region->bump.next, *end = region->bump.end;
	const char *base = weiri_region_block_base(region, region->newest);

	if (((uintptr_t)next | (uintptr_t)end) & (WEIR_REGION_ALIGN - 1))
		return "R1: next or end is not a multiple of 16";
	if (next > end ||
	    next < weiri_region_block_objects(region, region->newest))
		return "R1: next is not in the newest block";
	if (end != base + WEIRI_REGION_CLASS_BYTES(region->newest->block_class))
		return "R1: end is not the end of the newest block";
	return NULL;
}

static const char *
region_check_block(
    struct weiri_region *region, struct weiri_region_block *block)
{
	const char *base = weiri_region_block_base(region, block);
	const struct weiri_span *span = weiri_span_of(base);
	size_t bytes;

	if (block->block_class >= WEIRI_REGION_CLASSES)
		return "R2: no such block class";
	bytes = WEIRI_REGION_CLASS_BYTES(block->block_class);
	if (span == NULL || base + bytes > span->base + span->bytes)
		return "R2: a block is not inside one span";
	if (block->pages != NULL)
		return span == &block->pages->span && span->bytes == bytes &&
			       base == span->base
			   ? NULL
			   : "R2: a block's pages are not its descriptor's";
	if (block->block_class >= WEIRI_REGION_DEPOTS ||
	    span->kind != WEIRI_SPAN_SLAB ||
	    ((const struct weiri_slab *)span)->depot !=
		&weiri_region_supply_now()->block[block->block_class] ||
	    ((uintptr_t)base & (weiri_min(bytes, WEIRI_PAGE) - 1)) != 0)
		return "R2: a block is no slot of its depot";
	return NULL;
}

static const char *
region_check_blocks(struct weiri_region *region, uint64_t *bytes)
{
	unsigned first_seen = 0;
	const char *broken = NULL;

	for (struct weiri_region_block *block = region->newest;
	     block != NULL && broken == NULL; block = block->older) {
		broken = region_check_block(region, block);
		if (broken == NULL)
			*bytes += WEIRI_REGION_CLASS_BYTES(block->block_class);
		first_seen += block == &region->first;
		/* A cycle would charge more than the region ever had. */
		if (broken == NULL && *bytes > region->peak_bytes)
			broken = "R2: the chain of blocks does not end";
	}
	if (broken == NULL && first_seen != 1)
		broken = "R2: the first block is not once in the chain";
	return broken;
}

static const char *
region_check_larges(struct weiri_region *region, uint64_t *bytes)
{
	WEIRI_LIST_FOR(node, &region->larges)
	{
		struct weiri_region_pages *pages = WEIRI_CONTAINER_OF(
		    node, struct weiri_region_pages, span.link);
		const struct weiri_span *span = &pages->span;

		if (node->next->prev != node || node->prev->next != node)
			return "R4: the list of large objects is broken";
		if (span->kind != WEIRI_SPAN_REGION ||
		    weiri_span_of(span->base) != span ||
		    weiri_span_of(span->base + span->bytes - 1) != span)
			return "R4: pages do not map to their descriptor";
		*bytes += span->bytes;
	}
	return NULL;
}

static bool
region_owns_handle(
    struct weiri_region *region, const struct weir_region_cleanup *cleanup)
{
	const char *start = (const char *)cleanup;

	for (struct weiri_region_block *block = region->newest; block != NULL;
	     block = block->older) {
		const char *objects = weiri_region_block_objects(region, block);
		const char *end = weiri_region_block_base(region, block) +
				  WEIRI_REGION_CLASS_BYTES(block->block_class);

		if (start >= objects && start + sizeof(*cleanup) <= end)
			return true;
	}
	/* An object limit below the size of a handle puts it on pages. */
	WEIRI_LIST_FOR(node, &region->larges)
	{
		if (WEIRI_CONTAINER_OF(node, struct weiri_span, link)->base ==
		    start)
			return true;
	}
	return false;
}

static const char *
region_check_cleanups(struct weiri_region *region)
{
	WEIRI_LIST_FOR(node, &region->cleanups)
	{
		const struct weir_region_cleanup *cleanup =
		    WEIRI_CONTAINER_OF(node, struct weir_region_cleanup, link);

		if (!region_owns_handle(region, cleanup))
			return "R5: an armed cleanup is not in the region";
		if (node->next->prev != node || node->prev->next != node ||
		    !weiri_region_cleanup_is_armed(cleanup))
			return "R5: the list of cleanups is broken";
	}
	for (const struct weir_region_cleanup *cleanup = region->cancelled;
	     cleanup != NULL; cleanup = cleanup->context) {
		if (!region_owns_handle(region, cleanup))
			return "R5: a cancelled cleanup is not in the region";
		if (cleanup->run != WEIRI_CLEANUP_CANCELLED)
			return "R5: a cleanup to use again is not cancelled";
	}
	return NULL;
}

static const char *
region_broken(struct weiri_region *region)
{
	uint64_t bytes = 0;
	const char *broken;

	if (region->magic != weiri_region_magic(region, WEIRI_REGION_LIVE))
		return "not a live region";
	broken = region_check_blocks(region, &bytes);
	if (broken == NULL)
		broken = region_check_bump(region);
	if (broken == NULL)
		broken = region_check_larges(region, &bytes);
	if (broken == NULL &&
	    (bytes != region->charged_bytes || bytes > region->limit_bytes ||
		bytes > region->peak_bytes))
		broken = "R3: the charge is not the sum of the parts";
	if (broken == NULL)
		broken = region_check_cleanups(region);
	if (broken == NULL && (region->next_class > region->max_class ||
				  region->large_bytes > weiri_region_class_room(
							    region->max_class)))
		broken = "R6: the next block's size is out of range";
	return broken;
}

bool
weir_region_check(const struct weir_region *bump)
{
	/* The walk changes nothing; its list macros are for both uses. */
	struct weiri_region *region = (struct weiri_region *)(uintptr_t)bump;
	const char *broken = region_broken(region);
	char line[160];
	struct weiri_text text = {.buffer = line, .bytes = sizeof(line)};

	if (WEIR_LIKELY(broken == NULL))
		return true;
	weiri_text_str(&text, "region ");
	weiri_text_hex(&text, (uint64_t)(uintptr_t)region);
	weiri_text_str(&text, ": ");
	weiri_text_str(&text, broken);
	weiri_message(WEIR_MESSAGE_ERROR, line);
	return false;
}

/* ---- figures of one region -------------------------------------------- */

static uint64_t
region_count(const struct weiri_list *head)
{
	uint64_t count = 0;

	for (const struct weiri_list *node = head->next; node != head;
	     node = node->next)
		count++;
	return count;
}

int
weir_region_stats(
    const struct weir_region *bump, struct weir_region_figures *out)
{
	const struct weiri_region *region =
	    (const struct weiri_region *)(const void *)bump;

	if (out->size != sizeof(*out))
		return -EINVAL;
	weiri_region_expect_live(region, "figures of %p, which was destroyed");
	memset(out, 0, sizeof(*out));
	out->size = sizeof(*out);
	out->version = WEIR_STATS_VERSION;
	out->bytes_charged = region->charged_bytes;
	out->bytes_peak = region->peak_bytes;
	out->bytes_limit = region->limit_bytes;
	out->bytes_room = (uint64_t)(bump->end - bump->next);
	for (const struct weiri_region_block *block = region->newest;
	     block != NULL; block = block->older)
		out->blocks++;
	out->larges = region_count(&region->larges);
	out->cleanups = region_count(&region->cleanups);
	out->misses = region->misses;
	out->failures = region->failures;
	return 0;
}
