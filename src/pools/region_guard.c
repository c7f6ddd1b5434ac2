/* SPDX-License-Identifier: MIT */
/*
 * region_guard.c - regions whose objects are under guard.
 *
 * It is decided when a region begins.  One under guard has no room: its `next`
 * is at its end and a reset leaves it there, so each request takes the slow way
 * by itself.  There every object, whatever its size, becomes what a large one is
 * elsewhere, a descriptor in the region's list of its own; in place of pages of
 * the supply it has a place of the guard.  So all that ends objects - reset,
 * rewind, the end of the region or of one above, an object given back or moved
 * to another region - finds it where it looks anyway, and says how it ended.
 *
 * Objects are charged as if they lay in blocks: the first block has room for
 * some, and each that finds none left is charged with as much as serves those
 * behind it.  What is left is noted in the first block's memory, which nobody
 * uses.  Regions begin in
 * line as long as the kind's cell says so: while all are to be under guard it
 * does not, and for samples it does not now and then, when the kind has learned
 * from some ends (region_kind.c).
 */
#include "pools/region.h"

#include "guard/guard.h"
#include "slab/cursor.h"

/* ---- which regions ------------------------------------------------------- */

void
weiri_region_guard_divert(struct weiri_region_kind *kind)
{
	if (weiri_guard_mode(&kind->guard) != WEIR_GUARD_OFF)
		WEIRI_STORE(&kind->cell, WEIRI_CELL_NONE);
}

/* What weiri_region_guard_divert() did is undone unless all are to come. */
static void
guard_let_pass(struct weiri_region_kind *kind)
{
	unsigned bin = WEIRI_LOAD(&kind->first_bin);

	if (WEIRI_LOAD(&kind->cell) == WEIRI_CELL_NONE &&
	    !weiri_guard_bare(&kind->guard))
		WEIRI_STORE(&kind->cell,
		    weiri_region_supply_now()->first[bin].fast_offset);
}

void
weiri_region_guard_begin(struct weiri_region *region)
{
	struct weiri_region_kind *kind = region->kind;

	guard_let_pass(kind);
	if (weiri_guard_mode(&kind->guard) == WEIR_GUARD_OFF ||
	    !weiri_guard_due(&kind->guard, 1))
		return;
	region->attention |= WEIRI_IS_GUARDED;
	weiri_region_guard_restart(region);
}

/* Charged and not taken yet. */
static uint64_t *
guard_room(const struct weiri_region *region)
{
	struct weiri_region_block *first =
	    (struct weiri_region_block *)(uintptr_t)&region->first;

	return (uint64_t *)(void *)weiri_region_block_objects(first);
}

void
weiri_region_guard_restart(struct weiri_region *region)
{
	const char *objects = (const char *)guard_room(region);

	WEIR_ASSERT(region->newest == &region->first);
	*guard_room(region) = (uint64_t)(region->bump.end - objects);
	region->bump.next = region->start = region->bump.end;
}

/* ---- objects ------------------------------------------------------------- */

/* Kinds count in units of this. */
#define GUARD_UNIT ((size_t)256)

/* What stands for a block. */
#define GUARD_BLOCK ((size_t)4096)

size_t
weiri_region_guard_charge(
    const struct weiri_region *region, size_t bytes, size_t *least)
{
	size_t whole = weiri_round_up(weiri_max(bytes, 1), WEIR_REGION_ALIGN);

	*least = 0;
	if (whole <= *guard_room(region))
		return 0;
	*least = weiri_round_up(whole, GUARD_UNIT);
	return weiri_max(*least, GUARD_BLOCK);
}

struct weiri_region_pages *
weiri_region_guard_take(
    struct weiri_region *region, size_t bytes, size_t align, size_t charge)
{
	size_t whole = weiri_round_up(weiri_max(bytes, 1), WEIR_REGION_ALIGN);
	struct weiri_region_pages *pages;

	if (align > WEIRI_PAGE)
		return NULL;
	pages = weiri_depot_get(&weiri_region_supply_now()->pages);
	if (pages == NULL)
		return NULL;
	pages->span = (struct weiri_span){
	    .kind = WEIRI_SPAN_REGION,
	    .bytes = charge,
	};
	pages->span.base = weiri_guard_new(&region->kind->guard, bytes,
	    weiri_max(align, WEIR_REGION_ALIGN), false, pages);
	if (pages->span.base == NULL) {
		weiri_depot_put(&weiri_region_supply_now()->pages, pages);
		return NULL;
	}
	pages->guarded = true;
	/* In the room there was, or what the charge has beyond it. */
	if (charge == 0)
		*guard_room(region) -= whole;
	else if (charge - whole > *guard_room(region))
		*guard_room(region) = charge - whole;
	weiri_list_init(&pages->span.link);
	return pages;
}

void
weiri_region_guard_give(
    struct weiri_region_pages *pages, enum weiri_guard_how how)
{
	weiri_guard_finish(pages->span.base, how);
	pages->guarded = false;
	weiri_depot_put(&weiri_region_supply_now()->pages, pages);
}

struct weiri_region_pages *
weiri_region_guard_pages(const struct weiri_region *region, const void *object)
{
	weiri_guard_expect(&region->kind->guard, object);
	return weiri_guard_shadow_of(object);
}

enum weiri_guard_how
weiri_region_guard_how(const struct weiri_region *region)
{
	return region->parent != NULL &&
		       (region->parent->attention & WEIRI_IS_ENDING)
		   ? WEIRI_GUARD_PARENT
		   : WEIRI_GUARD_DESTROY;
}
