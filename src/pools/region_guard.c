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
 * Small objects are charged as if they lay in blocks: the first block has room
 * for some, and each that finds none left is charged with as much as serves those
 * behind it.  The sums are noted in the first block's memory, which nobody uses.
 * To calls about large objects they are none, as without the guard; nor
 * do figures count them.
 *
 * Regions begin in line as long as the kind's cell says so: while all are to be under guard it
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
		    weiri_region_first_depot(weiri_region_supply_now(), bin)
			->fast_offset);
}

void
weiri_region_guard_begin(struct weiri_region *region)
{
	struct weiri_region_kind *kind = region->kind;

	guard_let_pass(kind);
	/* It may be the first since the mode changed. */
	if (weiri_guard_bare(&kind->guard))
		WEIRI_STORE(&kind->cell, WEIRI_CELL_NONE);
	if (weiri_guard_mode(&kind->guard) == WEIR_GUARD_OFF ||
	    !weiri_guard_due(&kind->guard, 1))
		return;
	region->attention |= WEIRI_IS_GUARDED;
	weiri_region_guard_restart(region);
}

/*
 * Of small objects: what they are charged with, with the room of the first block,
 * and what they take of it.  At least that is charged at any time.
 */
struct guard_tally {
	uint64_t charged, used;
};

static struct guard_tally *
guard_tally(const struct weiri_region *region)
{
	struct weiri_region_block *first =
	    (struct weiri_region_block *)(uintptr_t)&region->first;

	return (struct guard_tally *)(void *)weiri_region_block_objects(first);
}

/* Charged and not taken yet. */
static uint64_t
guard_room(const struct weiri_region *region)
{
	const struct guard_tally *tally = guard_tally(region);

	return tally->charged > tally->used ? tally->charged - tally->used : 0;
}

static size_t
guard_whole(size_t bytes)
{
	return weiri_round_up(weiri_max(bytes, 1), WEIR_REGION_ALIGN);
}

void
weiri_region_guard_restart(struct weiri_region *region)
{
	const char *objects = (const char *)guard_tally(region);

	WEIR_ASSERT(region->newest == &region->first);
	*guard_tally(region) = (struct guard_tally){
	    .charged = (uint64_t)(region->bump.end - objects)};
	region->bump.next = region->start = region->bump.end;
}

/* The tally that an object is in; NULL: none.  One that came with a region that
 * was merged is in that one's, which lasts as long as its block does. */
static struct guard_tally *
guard_tally_of(const struct weiri_region_pages *pages)
{
	return pages->small && pages->guarded ? guard_tally(pages->region)
					      : NULL;
}

void
weiri_region_guard_rewind(const struct weiri_region_pages *pages)
{
	struct guard_tally *tally = guard_tally_of(pages);

	if (tally == NULL)
		return;
	tally->used -= guard_whole(weiri_guard_bytes(pages->span.base));
	tally->charged -= pages->span.bytes;
}

/* The next object from @node on that is in the same tally, towards older ones or
 * newer ones. */
static struct weiri_region_pages *
guard_neighbour(const struct weiri_region *region,
    const struct weiri_region_pages *pages, bool older)
{
	struct weiri_list *node =
	    older ? pages->span.link.next : pages->span.link.prev;

	while (node != &region->larges) {
		struct weiri_region_pages *other = WEIRI_CONTAINER_OF(
		    node, struct weiri_region_pages, span.link);

		if (guard_tally_of(other) == guard_tally(pages->region))
			return other;
		node = older ? node->next : node->prev;
	}
	return NULL;
}

uint64_t
weiri_region_guard_leave(
    struct weiri_region *region, const struct weiri_region_pages *pages)
{
	struct guard_tally *tally = guard_tally_of(pages);
	uint64_t bytes = pages->span.bytes;
	struct weiri_region_pages *heir;

	if (tally == NULL)
		return bytes;
	tally->used -= guard_whole(weiri_guard_bytes(pages->span.base));
	if (tally->charged - bytes >= tally->used) {
		tally->charged -= bytes;
		return bytes;
	}
	/* An older one stays for longer: a rewind ends the newest. */
	heir = guard_neighbour(region, pages, true);
	if (heir == NULL)
		heir = guard_neighbour(region, pages, false);
	WEIR_ASSERT(heir != NULL); /* or nothing would be used */
	heir->span.bytes += bytes;
	return 0;
}

/* ---- objects ------------------------------------------------------------- */

/* Kinds count in units of this. */
#define GUARD_UNIT ((size_t)256)

/* What stands for a block. */
#define GUARD_BLOCK ((size_t)4096)

size_t
weiri_region_guard_charge(
    const struct weiri_region *region, size_t bytes, bool small, size_t *least)
{
	size_t whole = guard_whole(bytes);

	if (!small) {
		*least = weiri_round_up(whole, WEIRI_PAGE);
		return *least;
	}
	*least = 0;
	if (whole <= guard_room(region))
		return 0;
	*least = weiri_round_up(whole, GUARD_UNIT);
	return weiri_max(*least, GUARD_BLOCK);
}

struct weiri_region_pages *
weiri_region_guard_take(struct weiri_region *region, size_t bytes, size_t align,
    size_t charge, bool small)
{
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
	if (small) {
		guard_tally(region)->used += guard_whole(bytes);
		guard_tally(region)->charged += charge;
	}
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
