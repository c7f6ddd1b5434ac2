/* SPDX-License-Identifier: MIT */
/*
 * region_check.c - the walk over a region's invariants, and its figures.
 *
 * The numbers are those of region.c.  Each function reports the first thing it
 * finds wrong as the text of the broken invariant, or NULL.
 */
#include "pools/region.h"
#include "pools/region_array.h"

#include "base/text.h"
#include "config/config.h"

#include <errno.h>
#include <string.h>

static const char *
region_check_bump(struct weiri_region *region)
{
	const char *next = region->bump.next, *end = region->bump.end;

	if (((uintptr_t)next | (uintptr_t)end) & (WEIR_REGION_ALIGN - 1))
		return "R1: next or end is not a multiple of 16";
	for (struct weiri_region_block *block = region->newest; block != NULL;
	     block = block->older)
		if (end == weiri_region_block_end(block))
			return next <= end &&
				       next >= weiri_region_block_objects(block)
				   ? NULL
				   : "R1: next is not in the block of end";
	return "R1: end is not the end of a block";
}

/* Of a slot: the depot is @depot, and there is one at @base. */
static bool
region_is_slot(
    const struct weiri_span *span, const struct weiri_depot *depot, char *base)
{
	const struct weiri_slab *slab = (const struct weiri_slab *)span;

	return span->kind == WEIRI_SPAN_SLAB && slab->depot == depot &&
	       weiri_slab_index(slab, base) != SIZE_MAX;
}

static const char *
region_check_block(struct weiri_region_block *block)
{
	const struct weiri_region_supply *supply = weiri_region_supply_now();
	char *base = weiri_region_block_base(block);
	const struct weiri_span *span = weiri_span_of(base);

	if (block->kind == WEIRI_BLOCK_PLACED)
		return weiri_region_is_placed(
			   (const struct weiri_region *)(const void *)base)
			   ? NULL
			   : "R2: a first block is not the caller's";
	if (span == NULL || base + block->bytes > span->base + span->bytes)
		return "R2: a block is not inside one span";
	switch (block->kind) {
	case WEIRI_BLOCK_FIRST:
		if (block->block_class < WEIRI_REGION_FIRSTS &&
		    block->bytes ==
			weiri_region_bin_bytes(block->block_class) &&
		    region_is_slot(span,
			weiri_region_first_depot(supply, block->block_class),
			base))
			return NULL;
		return "R2: a first block is no slot of its depot";
	case WEIRI_BLOCK_DEPOT:
		if (block->block_class < WEIRI_REGION_DEPOTS &&
		    block->bytes ==
			WEIRI_REGION_CLASS_BYTES(block->block_class) &&
		    region_is_slot(
			span, &supply->block[block->block_class], base))
			return NULL;
		return "R2: a block is no slot of its depot";
	case WEIRI_BLOCK_PAGES:
		if (span == &block->pages->span &&
		    span->bytes == block->bytes && base == span->base)
			return NULL;
		return "R2: a block's pages are not its descriptor's";
	default:
		return "R2: no such sort of block";
	}
}

static const char *
region_check_blocks(struct weiri_region *region, uint64_t *bytes)
{
	const struct weiri_region_block *last = NULL;

	for (struct weiri_region_block *block = region->newest; block != NULL;
	     block = block->older) {
		const char *broken = region_check_block(block);

		if (broken != NULL)
			return broken;
		*bytes += weiri_region_block_charge(block);
		last = block;
		/* A cycle would charge more than the region ever had. */
		if (*bytes > region->peak_bytes)
			return "R2: the chain of blocks does not end";
	}
	if (last != &region->first)
		return "R2: the chain does not end with the first block";
	return NULL;
}

/* As weiri_region_large_of(), but another's is no fault. */
static const struct weiri_region *
region_of_large(const struct weiri_region_pages *pages)
{
	const struct weiri_region *region = pages->region;

	while (region != NULL && !weiri_region_is_live(region))
		region = region->parent;
	return region;
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
		if (pages->guarded) {
			if (weiri_guard_shadow_of(span->base) != pages)
				return "R4: an object under guard is another's";
			*bytes += span->bytes;
			continue;
		}
		if (span->kind != WEIRI_SPAN_REGION ||
		    weiri_span_of(span->base) != span ||
		    weiri_span_of(span->base + span->bytes - 1) != span)
			return "R4: pages do not map to their descriptor";
		if (region_of_large(pages) != region)
			return "R4: a large object's region is another";
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
	     block = block->older)
		if (start >= weiri_region_block_objects(block) &&
		    start + sizeof(*cleanup) <= weiri_region_block_end(block))
			return true;
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
		    (!weiri_region_cleanup_is_armed(cleanup) &&
			cleanup->run != WEIRI_CLEANUP_MARK))
			return "R5: the list of cleanups is broken";
	}
	const struct weir_region_cleanup *cleanup = region->cancelled;

	while (cleanup != NULL) {
		if (!region_owns_handle(region, cleanup))
			return "R5: a cancelled cleanup is not in the region";
		if (cleanup->run != WEIRI_CLEANUP_CANCELLED)
			return "R5: a cleanup to use again is not cancelled";
		cleanup = cleanup->context;
		if (cleanup == region->cancelled)
			break;
	}
	return NULL;
}

/* What a region has but its attention does not say. */
static const char *
region_check_attention(const struct weiri_region *region)
{
	uint32_t has = 0;

	if (region->newest != &region->first &&
	    (region->newest->older != &region->first ||
		!(region->attention & WEIRI_HAS_KEPT)))
		has |= WEIRI_HAS_BLOCKS;
	if (!weiri_list_empty(&region->larges))
		has |= WEIRI_HAS_LARGES;
	if (!weiri_list_empty(&region->cleanups) || region->cancelled != NULL)
		has |= WEIRI_HAS_CLEANUPS;
	if (!weiri_list_empty(&region->children))
		has |= WEIRI_HAS_CHILDREN;
	if (region->parent != NULL)
		has |= WEIRI_HAS_PARENT;
	if (region->rules != NULL)
		has |= WEIRI_HAS_RULES;
	if (region->misses != 0 || region->failures != 0)
		has |= WEIRI_IS_COUNTED;
	/* Only the line of many threads has no owner. */
	if (WEIRI_LOAD(&region->counts->owner) == NULL)
		has |= WEIRI_IS_SHARED;
	return (has & ~region->attention) == 0
		   ? NULL
		   : "R7: the attention lacks a bit";
}

static const char *
region_check_tree(struct weiri_region *region)
{
	struct weiri_region *parent = region->parent;
	struct weiri_list *at = &region->sibling;
	const struct weiri_region_rules *rules = region->rules;

	if (at->next->prev != at || at->prev->next != at)
		return "R8: the list of siblings is broken";
	if ((parent == NULL) != weiri_list_empty(at))
		return "R8: a region is in a list and has no parent, or both";
	if (rules != NULL && rules->region == region)
		rules = rules->above;
	if (parent != NULL && (parent->attention & WEIRI_HAS_LIMIT))
		return "R8: a limit does not count the regions below";
	if (rules != (parent != NULL ? parent->rules : NULL))
		return "R8: the rules are not those of the region above";
	return NULL;
}

/* The sum of the regions under the region's own rules. */
static const char *
region_check_rules(struct weiri_region *region)
{
	const struct weiri_region_rules *rules = region->rules;
	uint64_t bytes = 0;

	if ((region->attention & WEIRI_HAS_LIMIT) &&
	    region->charged_bytes > region->limit_bytes)
		return "R3: the charge is above the limit";
	if (!weiri_region_rules_own(region))
		return NULL;
	if (rules->used_bytes > rules->limit_bytes ||
	    rules->used_bytes > rules->peak_bytes)
		return "R3: a budget is above its limit or its peak";
	for (struct weiri_region *below = region; below != NULL;
	     below = weiri_region_next(region, below))
		bytes += below->charged_bytes;
	return bytes == rules->used_bytes
		   ? NULL
		   : "R3: a budget's sum is not that of its regions";
}

static const char *
region_check_sizes(const struct weiri_region *region)
{
	if (region->max_class >= WEIRI_REGION_CLASSES ||
	    region->next_class > region->max_class ||
	    region->large_bytes > weiri_region_class_room(region->max_class))
		return "R6: the next block's size is out of range";
	return NULL;
}

static const char *
region_broken(struct weiri_region *region)
{
	uint64_t bytes = 0;
	const char *broken;

	if (!weiri_region_is_live(region))
		return "not a live region";
	broken = region_check_blocks(region, &bytes);
	if (broken == NULL)
		broken = region_check_bump(region);
	if (broken == NULL)
		broken = region_check_larges(region, &bytes);
	if (broken == NULL &&
	    (bytes != region->charged_bytes || bytes > region->peak_bytes))
		broken = "R3: the charge is not the sum of the parts";
	if (broken == NULL)
		broken = region_check_cleanups(region);
	if (broken == NULL)
		broken = weiri_region_marks_check(region);
	if (broken == NULL)
		broken = weiri_region_spares_check(region);
	if (broken == NULL)
		broken = region_check_sizes(region);
	if (broken == NULL)
		broken = region_check_attention(region);
	if (broken == NULL)
		broken = region_check_tree(region);
	if (broken == NULL)
		broken = region_check_rules(region);
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

/* Those that are large without a guard, too. */
static uint64_t
region_count_larges(const struct weiri_region *region)
{
	uint64_t count = 0;

	WEIRI_LIST_FOR(node, &region->larges)
	{
		count += !WEIRI_CONTAINER_OF(
		    node, struct weiri_region_pages, span.link)
			      ->small;
	}
	return count;
}

/* Savepoints are on the same list; a handle begins with its link. */
static uint64_t
region_count_armed(const struct weiri_region *region)
{
	uint64_t count = 0;

	static_assert(offsetof(struct weir_region_cleanup, link) == 0, "");
	for (const struct weiri_list *node = region->cleanups.next;
	     node != &region->cleanups; node = node->next)
		count += weiri_region_cleanup_is_armed(
		    (const struct weir_region_cleanup *)node);
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
	out->bytes_limit = UINT64_MAX;
	if (region->attention & WEIRI_HAS_LIMIT)
		out->bytes_limit = region->limit_bytes;
	if (weiri_region_rules_own(region)) {
		out->bytes_limit = region->rules->limit_bytes;
		out->bytes_below = WEIRI_LOAD(&region->rules->used_bytes);
		out->budget_peak = WEIRI_LOAD(&region->rules->peak_bytes);
		out->budget_failures = WEIRI_LOAD(&region->rules->failures);
	}
	out->bytes_room = (uint64_t)(bump->end - bump->next);
	for (const struct weiri_region_block *block = region->newest;
	     block != NULL; block = block->older)
		out->blocks++;
	out->children = region_count(&region->children);
	out->larges = region_count_larges(region);
	out->cleanups = region_count_armed(region);
	out->misses = region->misses;
	out->failures = region->failures;
	return 0;
}
