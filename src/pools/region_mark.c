/* SPDX-License-Identifier: MIT */
/*
 * region_mark.c - savepoints: marks in a region's life to go back to.
 *
 * A savepoint in force is a record among the region's objects, and its handle
 * is on the list of cleanups as if it were one:
 *
 *     cleanups -> c4 -> c3 -> [2] -> c2 -> [1] -> c1        newest first
 *                              |            |
 *                        next, end,    next, end,
 *                        newest        newest
 *
 * So its place in the order is known without a number on each cleanup, an end
 * of the region finds it where it is to be forgotten, and a region without one
 * pays nothing.  What else is made later is told by numbers: records count from
 * 1 upwards, first.marks has that of the newest, and children, large objects
 * and regions merged into this one keep what it was when they came.  They came
 * after record n exactly when theirs is n or above, since going back to it takes
 * all of those away.
 *
 * Blocks need no number: the chain is in the order of taking.
 *
 * What a caller holds names a record by its address and a stamp.  Neither is
 * followed: a record is found by walking from the newest cleanup, over what a
 * rewind would run anyway, so a savepoint that is gone is told from one in
 * force whatever its memory holds by now.
 *
 * Handles cancelled after a mark may lie behind it, and must not be used again
 * once their memory is; those from before are put aside in the record.  At a
 * rewind, of the former those are kept that are seen to lie before the mark in
 * its own block, which are the ones a loop would otherwise lose in each round.
 */
#include "pools/region.h"
#include "pools/region_array.h"

#include <errno.h>

#define REGION_MARK_DEAD "savepoint of %p, which was destroyed"

struct region_mark {
	struct weir_region_cleanup handle; /* context: the region */
	char *next, *end;                  /* of the bump */
	struct weiri_region_block *newest;
	struct weir_region_cleanup *cancelled; /* ring of before the mark */
	uint32_t number;
	uint32_t users; /* savepoints handed out */
	uint16_t stamp;
	uint8_t next_class;
	bool in_newest; /* `next` lies there, not in an older block */
	bool is_last;   /* the record took nothing but its own bytes, so
			     * that `next` may go back to it */
};

static_assert(sizeof(struct region_mark) == 80, "as region_life.h tells users");

static struct region_mark *
mark_of(struct weiri_list *link)
{
	return WEIRI_CONTAINER_OF(link, struct region_mark, handle.link);
}

/* A record of a region that was merged into this one is nobody's. */
static bool
mark_is_own(const struct weiri_region *region, const struct region_mark *mark)
{
	return mark->handle.run == WEIRI_CLEANUP_MARK &&
	       mark->handle.context == region;
}

/* The number that a large object's pages have in @region: those of a merged
 * region came with it. */
static uint32_t
mark_number_of(
    const struct weiri_region *region, const struct weiri_region_pages *pages)
{
	uint32_t number = pages->order;

	for (const struct weiri_region *from = pages->region; from != region;
	     from = from->parent)
		number = from->first.order;
	return number;
}

static struct weiri_region_pages *
mark_newest_large(const struct weiri_region *region)
{
	if (weiri_list_empty(&region->larges))
		return NULL;
	return WEIRI_CONTAINER_OF(
	    region->larges.next, struct weiri_region_pages, span.link);
}

static bool
mark_has_child(
    const struct weiri_region *region, const struct region_mark *mark)
{
	return !weiri_list_empty(&region->children) &&
	       weiri_region_newest_child(region)->first.order >= mark->number;
}

static bool
mark_has_large(
    const struct weiri_region *region, const struct region_mark *mark)
{
	const struct weiri_region_pages *newest = mark_newest_large(region);

	return newest != NULL && mark_number_of(region, newest) >= mark->number;
}

/* Under guard a record is an object like any other, and the newest if all behind
 * it are gone. */
static bool
mark_has_pages(
    const struct weiri_region *region, const struct region_mark *mark)
{
	const struct weiri_region_pages *newest = mark_newest_large(region);

	return newest != NULL && newest->guarded &&
	       newest->span.base == (const char *)mark;
}

/* ---- mark --------------------------------------------------------------- */

/* The newest record if nothing happened since, or NULL.  A loop that marks,
 * works and rewinds needs no more of them than one. */
static struct region_mark *
mark_current(struct weiri_region *region)
{
	struct region_mark *mark = mark_of(region->cleanups.next);

	if (weiri_list_empty(&region->cleanups) || !mark_is_own(region, mark) ||
	    mark->next != region->bump.next || mark->end != region->bump.end ||
	    mark->newest != region->newest || region->cancelled != NULL ||
	    mark_has_child(region, mark) || mark_has_large(region, mark))
		return NULL;
	return mark;
}

/* A record of what @region is now; @fits: in the room there was. */
static void
mark_fill(struct weiri_region *region, struct region_mark *mark, bool fits)
{
	mark->next = region->bump.next;
	mark->end = region->bump.end;
	mark->newest = region->newest;
	mark->cancelled = region->cancelled;
	mark->number = ++region->first.marks;
	mark->users = 0;
	mark->stamp = ++region->first.stamp;
	mark->next_class = region->next_class;
	mark->in_newest =
	    weiri_region_block_end(region->newest) == region->bump.end;
	mark->is_last = fits;
	mark->handle.run = WEIRI_CLEANUP_MARK;
	mark->handle.context = region;
	weiri_list_push(&region->cleanups, &mark->handle.link);
	region->cancelled = NULL;
	region->attention |= WEIRI_HAS_CLEANUPS;
}

int
weir_region_mark(struct weir_region *bump, struct weir_region_savepoint *out)
{
	struct weiri_region *region = weiri_region_of(bump);
	struct region_mark *mark;

	*out = (struct weir_region_savepoint){NULL, NULL, 0};
	weiri_region_expect_live(region, REGION_MARK_DEAD);
	weiri_region_here(region);
	mark = mark_current(region);
	if (mark == NULL) {
		bool fits = (size_t)(bump->end - bump->next) >= sizeof(*mark);

		mark = weir_region_alloc(bump, sizeof(*mark));
		if (WEIR_UNLIKELY(mark == NULL))
			return -ENOMEM;
		mark_fill(region, mark, fits);
	}
	/* At the end of its range it is kept for ever. */
	mark->users += mark->users < UINT32_MAX;
	*out = (struct weir_region_savepoint){bump, mark, mark->stamp};
	return 0;
}

/* ---- the end of a savepoint ---------------------------------------------- */

void
weiri_region_mark_end(
    struct weiri_region *region, struct weir_region_cleanup *handle)
{
	struct region_mark *mark = mark_of(&handle->link);

	if (!mark_is_own(region, mark))
		return;
	region->first.marks = mark->number - 1;
	weiri_region_cancelled_join(&region->cancelled, mark->cancelled);
}

/* ---- rewind -------------------------------------------------------------- */

/* The record that @savepoint names, or NULL. */
static struct region_mark *
mark_find(
    struct weiri_region *region, const struct weir_region_savepoint *savepoint)
{
	WEIRI_LIST_FOR(node, &region->cleanups)
	{
		struct region_mark *mark = mark_of(node);

		if (mark == savepoint->record && mark_is_own(region, mark) &&
		    mark->stamp == savepoint->stamp)
			return mark;
	}
	return NULL;
}

/* Ends children and runs cleanups until the record is the newest again. */
static void
mark_undo_life(struct weiri_region *region, struct region_mark *mark)
{
	region->attention |= WEIRI_IS_ENDING;
	for (;;) {
		if (mark_has_child(region, mark))
			weiri_region_end_child(
			    weiri_region_newest_child(region));
		else if (region->cleanups.next != &mark->handle.link)
			weiri_region_cleanup_run_newest(region);
		else
			break;
	}
	region->attention &= ~(uint32_t)WEIRI_IS_ENDING;
}

/* See the essay. */
static void
mark_undo_cancelled(struct weiri_region *region, struct region_mark *mark)
{
	const char *start = weiri_region_block_objects(mark->newest);

	while (region->cancelled != NULL) {
		struct weir_region_cleanup *cancelled =
		    weiri_region_cancelled_pop(&region->cancelled);

		if (mark->in_newest && (const char *)cancelled >= start &&
		    (const char *)cancelled < mark->next)
			weiri_region_cancelled_push(
			    &mark->cancelled, cancelled);
	}
}

static uint64_t
mark_undo_larges(struct weiri_region *region, const struct region_mark *mark)
{
	uint64_t bytes = 0;

	while (mark_has_large(region, mark)) {
		struct weiri_region_pages *pages = mark_newest_large(region);

		bytes += pages->span.bytes;
		if (WEIR_UNLIKELY(pages->small))
			weiri_region_guard_rewind(pages);
		weiri_list_remove(&pages->span.link);
		weiri_region_pages_give(pages, WEIRI_GUARD_REWIND);
	}
	return bytes;
}

static void
mark_undo_memory(struct weiri_region *region, struct region_mark *mark)
{
	uint64_t bytes;

	if (region->cancelled != NULL)
		mark_undo_cancelled(region, mark);
	if (region->attention & WEIRI_HAS_SPARES)
		weiri_region_spares_drop(region);
	/* What tells where a merged region's pages belong is in its block. */
	bytes = mark_undo_larges(region, mark);
	if (region->newest != mark->newest)
		bytes += weiri_region_blocks_give(region, mark->newest);
	weiri_region_uncharge(region, bytes);
	region->bump.next = mark->next;
	region->bump.end = mark->end;
	region->next_class = mark->next_class;
}

/* The record @region is back at. */
static struct region_mark *
mark_rewind(
    struct weir_region *bump, const struct weir_region_savepoint *savepoint)
{
	struct weiri_region *region = weiri_region_of(bump);
	struct region_mark *mark;

	weiri_region_expect_live(region, REGION_MARK_DEAD);
	if (WEIR_UNLIKELY(savepoint->region != bump) &&
	    WEIR_DETECTOR(rewind_other_region))
		weiri_region_bad(region, region,
		    "%p is rewound to a savepoint of another region");
	weiri_region_here(region);
	if (WEIR_UNLIKELY(region->attention & WEIRI_IS_ENDING) &&
	    WEIR_DETECTOR(rewind_in_cleanup))
		weiri_region_bad(
		    region, region, "%p is rewound by its own cleanup");
	mark = mark_find(region, savepoint);
	if (WEIR_UNLIKELY(mark == NULL) && WEIR_DETECTOR(rewind_stale))
		weiri_region_bad(region, region,
		    "%p is rewound to a savepoint that is gone, by "
		    "weir_region_unmark(), a reset, a merge or a rewind to "
		    "an older one");
	mark_undo_life(region, mark);
	mark_undo_memory(region, mark);
	return mark;
}

void
weir_region_rewind(
    struct weir_region *bump, const struct weir_region_savepoint *savepoint)
{
	if (savepoint->region != NULL)
		(void)mark_rewind(bump, savepoint);
}

void
weir_region_unmark(
    struct weir_region *bump, const struct weir_region_savepoint *savepoint)
{
	struct region_mark *mark;

	if (savepoint->region == NULL)
		return;
	mark = mark_rewind(bump, savepoint);
	/* Others may have been handed the same record. */
	mark->users -= mark->users < UINT32_MAX;
	if (mark->users > 0)
		return;
	weiri_list_remove(&mark->handle.link);
	weiri_region_mark_end(weiri_region_of(bump), &mark->handle);
	if (mark->is_last)
		bump->next = (char *)mark;
	else if (WEIR_UNLIKELY(mark_has_pages(weiri_region_of(bump), mark)))
		weiri_region_large_give(weiri_region_of(bump),
		    mark_newest_large(weiri_region_of(bump)));
}

/* ---- R9 -------------------------------------------------------------------- */

static bool
mark_is_in_chain(
    const struct weiri_region *region, const struct region_mark *mark)
{
	const struct weiri_region_block *block = region->newest;

	while (block != NULL && block != mark->newest)
		block = block->older;
	return block != NULL;
}

const char *
weiri_region_marks_check(struct weiri_region *region)
{
	uint32_t number = region->first.marks;

	WEIRI_LIST_FOR(node, &region->cleanups)
	{
		const struct region_mark *mark = mark_of(node);

		if (!mark_is_own(region, mark))
			continue;
		if (mark->number != number--)
			return "R9: savepoints are not numbered in order";
		if (!mark_is_in_chain(region, mark) || mark->next > mark->end)
			return "R9: a savepoint's block is not the region's";
	}
	return number == 0 ? NULL : "R9: savepoints in force are missing";
}
