/* SPDX-License-Identifier: MIT */
/*
 * region_tree.c - regions below regions, and what moves between them.
 *
 * A tree is walked without a stack: down by the newest child, up by the parent.
 * So a region with a million below it, side by side or one below the other,
 * ends in the stack space of one.
 *
 * A region's cleanups run when all below it have ended, and may make new ones
 * there, which end before the next cleanup runs.
 *
 * To survive its region, a child moves elsewhere, or into the region above it:
 *
 *     parent     newest -> block -> first                     before
 *     child      newest -> block -> first
 *
 *     parent     newest ----------.   .-> block -> first      merged
 *     (child)    newest -> block -> first
 *
 * Nothing is copied, so every object stays where it is.  The child's header
 * becomes part of a block and is marked as that of a region that ended; its
 * parent stays written there, because its large objects still name it as their
 * region and are not visited.  A walk up from there finds the one they are in
 * now.  Its cleanups are put before those of the parent, whole.
 */
#include "pools/region.h"
#include "pools/region_array.h"

#include <errno.h>

struct weiri_region *
weiri_region_next(struct weiri_region *root, struct weiri_region *at)
{
	if (!weiri_list_empty(&at->children))
		return weiri_region_newest_child(at);
	while (at != root) {
		struct weiri_region *parent = at->parent;

		if (at->sibling.next != &parent->children)
			return WEIRI_CONTAINER_OF(
			    at->sibling.next, struct weiri_region, sibling);
		at = parent;
	}
	return NULL;
}

/* ---- the end of a tree --------------------------------------------------- */

/* A walk over it is under way further up the C stack, and would go on in what
 * is gone. */
static void
tree_expect_not_ending(const struct weiri_region *region, const char *detail)
{
	if (WEIR_UNLIKELY(region->attention & WEIRI_IS_ENDING) &&
	    WEIR_DETECTOR(region_moved_while_ending))
		weiri_region_bad(region, region, detail);
}

/* Regions on the way down are marked as ending. */
static struct weiri_region *
tree_descend(struct weiri_region *region)
{
	while (!weiri_list_empty(&region->children)) {
		region = weiri_region_newest_child(region);
		weiri_region_here(region);
		tree_expect_not_ending(region,
		    "the region above %p is ended by a cleanup below it");
		region->attention |= WEIRI_IS_ENDING;
	}
	return region;
}

void
weiri_region_end_below(struct weiri_region *root)
{
	struct weiri_region *region = root;

	root->attention |= WEIRI_IS_ENDING;
	for (;;) {
		region = tree_descend(region);
		if (!weiri_list_empty(&region->cleanups)) {
			weiri_region_cleanup_run_newest(region);
			continue;
		}
		region->attention &= ~(uint32_t)WEIRI_IS_ENDING;
		if (region == root)
			return;

		struct weiri_region *parent = region->parent;

		weiri_region_finish(region);
		region = parent;
	}
}

void
weiri_region_end_child(struct weiri_region *child)
{
	weiri_region_here(child);
	tree_expect_not_ending(
	    child, "the region above %p is rewound by a cleanup below it");
	weiri_region_end_below(child);
	weiri_region_finish(child);
}

/* ---- regions that move ---------------------------------------------------- */

static void
tree_expect_movable(struct weiri_region *region, const char *detail)
{
	weiri_region_expect_live(region, detail);
	weiri_region_here(region);
	tree_expect_not_ending(region, "%p is moved while its cleanups run");
	if (region->parent != NULL)
		weiri_region_expect_owned(region->parent);
}

void
weir_region_detach(struct weir_region *bump)
{
	struct weiri_region *region = weiri_region_of(bump);
	struct weiri_region_rise rise;

	tree_expect_movable(region, "%p, detached, was destroyed");
	if (region->parent == NULL)
		return;
	/* Away from budgets is always allowed. */
	(void)weiri_region_rules_move(region, NULL, &rise);
	weiri_region_unlink(region);
}

/* True when @region is @below or above it; one with none below is above none. */
static bool
tree_is_above(
    const struct weiri_region *region, const struct weiri_region *below)
{
	if (weiri_list_empty(&region->children))
		return region == below;
	while (below != region && below->parent != NULL)
		below = below->parent;
	return below == region;
}

int
weir_region_adopt(struct weir_region *bump_parent, struct weir_region *bump)
{
	struct weiri_region *parent = weiri_region_of(bump_parent);
	struct weiri_region *region = weiri_region_of(bump);
	struct weiri_region_rise rise;

	weiri_region_expect_live(parent, "%p, adopting, was destroyed");
	weiri_region_here(parent);
	tree_expect_movable(region, "%p, adopted, was destroyed");
	if (region->parent == parent)
		return 0;
	if (WEIR_UNLIKELY(tree_is_above(region, parent)) &&
	    WEIR_DETECTOR(region_adopts_itself))
		weiri_region_bad(region, region,
		    "%p is adopted by itself or a region below it");
	if (WEIR_UNLIKELY(!weiri_region_rules_move(region, parent, &rise)))
		return -ENOMEM;
	if (region->parent != NULL)
		weiri_region_unlink(region);
	weiri_region_link(parent, region);
	weiri_region_rules_rose(&rise);
	return 0;
}

/* ---- memory that moves ------------------------------------------------------ */

/* The rules know already. */
static void
tree_gain(struct weiri_region *region, uint64_t bytes)
{
	uint64_t charged = region->charged_bytes + bytes;

	WEIRI_STORE(&region->charged_bytes, charged);
	if (charged > region->peak_bytes)
		WEIRI_STORE(&region->peak_bytes, charged);
	weiri_region_count(
	    region, &region->counts->live, weiri_region_live_bytes(bytes));
	region->attention |= WEIRI_IS_COUNTED;
}

static void
tree_lose(struct weiri_region *region, uint64_t bytes)
{
	WEIRI_STORE(&region->charged_bytes, region->charged_bytes - bytes);
	weiri_region_count(
	    region, &region->counts->live, 0 - weiri_region_live_bytes(bytes));
}

int
weir_region_adopt_large(
    struct weir_region *bump, struct weir_region *bump_from, void *object)
{
	struct weiri_region *region = weiri_region_of(bump);
	struct weiri_region *from = weiri_region_of(bump_from);
	struct weiri_region_pages *pages;
	struct weiri_region_rise rise;
	uint64_t bytes;

	weiri_region_expect_live(region, "%p, adopting, was destroyed");
	weiri_region_here(region);
	weiri_region_expect_live(from, "object of %p, which was destroyed");
	weiri_region_here(from);
	pages = weiri_region_large_of(from, object);
	if (pages == NULL || WEIR_UNLIKELY(pages->small))
		return -EINVAL;
	if (region == from)
		return 0;
	bytes = pages->span.bytes;
	if ((region->attention & WEIRI_HAS_LIMIT) &&
	    bytes > region->limit_bytes - region->charged_bytes)
		return -ENOMEM;
	if (!weiri_region_rules_pass(from->rules, region->rules, bytes, &rise))
		return -ENOMEM;
	weiri_list_remove(&pages->span.link);
	weiri_list_push(&region->larges, &pages->span.link);
	pages->region = region;
	pages->order = region->first.marks;
	region->attention |= WEIRI_HAS_LARGES;
	tree_lose(from, bytes);
	tree_gain(region, bytes);
	weiri_region_rules_rose(&rise);
	return 0;
}

/* ---- merging ------------------------------------------------------------------ */

/* All of @from before all of @into; @from is a head no more. */
static void
tree_splice(struct weiri_list *into, struct weiri_list *from)
{
	if (weiri_list_empty(from))
		return;
	from->prev->next = into->next;
	into->next->prev = from->prev;
	into->next = from->next;
	from->next->prev = into;
	weiri_list_init(from);
}

/* What was below the child is below its parent then. */
static void
tree_merge_children(struct weiri_region *parent, struct weiri_region *child)
{
	/* The oldest first, so that they stay in their order. */
	while (!weiri_list_empty(&child->children)) {
		struct weiri_region *below = WEIRI_CONTAINER_OF(
		    child->children.prev, struct weiri_region, sibling);
		struct weiri_region_rise rise;

		/* Away from a budget of the child's at most: the parent counts
		 * what is below it already. */
		(void)weiri_region_rules_move(below, parent, &rise);
		weiri_region_unlink(below);
		weiri_region_link(parent, below);
	}
}

static void
tree_merge_blocks(struct weiri_region *parent, struct weiri_region *child)
{
	child->first.older = parent->newest;
	parent->newest = child->newest;
	if (child->bump.end - child->bump.next >
	    parent->bump.end - parent->bump.next)
		parent->bump = child->bump;
	tree_splice(&parent->larges, &child->larges);
	tree_splice(&parent->cleanups, &child->cleanups);
	weiri_region_cancelled_join(&parent->cancelled, child->cancelled);
	parent->attention |=
	    WEIRI_HAS_BLOCKS |
	    (child->attention & (WEIRI_HAS_LARGES | WEIRI_HAS_CLEANUPS));
}

/* What its kind learns of a region that is merged.  Of a long chain the newest
 * blocks say enough: that they are more than any first block holds. */
static size_t
tree_used(const struct weiri_region *child)
{
	const struct weiri_region_block *block = child->newest;
	size_t room = (size_t)(child->bump.end - child->bump.next);
	size_t bytes = 0;

	for (unsigned i = 0; i < 16 && block != &child->first; i++) {
		bytes += block->bytes;
		block = block->older;
	}
	if (block == &child->first && !(child->attention & WEIRI_HAS_KEPT))
		bytes += child->first.bytes;
	/* The room may be in a block further down. */
	return bytes - weiri_min(room, bytes);
}

/* The child's figures are the parent's; its kind has a region less. */
static void
tree_merge_figures(struct weiri_region *parent, struct weiri_region *child)
{
	uint64_t charged = child->charged_bytes;
	size_t used = tree_used(child);

	/* What first.bytes adds is in `live`, which leaving takes back. */
	tree_lose(child, charged - child->first.bytes);
	weiri_region_leave(child, used);
	tree_gain(parent, charged);
	WEIRI_STORE(&parent->misses, parent->misses + child->misses);
	WEIRI_STORE(&parent->failures, parent->failures + child->failures);
}

/* A header that is the start of a block of @parent's, and no region. */
static void
tree_bury(struct weiri_region *parent, struct weiri_region *child)
{
	weiri_region_unlink(child);
	WEIRI_STORE(
	    &child->magic, weiri_region_magic(child, WEIRI_REGION_DEAD));
	child->bump.next = child->bump.end;
	child->cancelled = NULL;
	child->first.marks = 0;
	child->first.order = parent->first.marks;
	WEIRI_STORE(&child->owner, NULL);
	WEIRI_STORE(&child->parent, parent);
}

void
weir_region_merge(struct weir_region *bump_parent, struct weir_region *bump)
{
	struct weiri_region *parent = weiri_region_of(bump_parent);
	struct weiri_region *child = weiri_region_of(bump);

	weiri_region_expect_live(parent, "%p, merging, was destroyed");
	weiri_region_here(parent);
	tree_expect_movable(child, "%p, merged, was destroyed");
	if (WEIR_UNLIKELY(child->parent == NULL || child->parent != parent) &&
	    WEIR_DETECTOR(merge_not_parent))
		weiri_region_bad(child, child,
		    "%p is merged into a region that is not its parent");
	if (WEIR_UNLIKELY(child->attention & WEIRI_IS_FOREIGN) &&
	    WEIR_DETECTOR(merge_placed))
		weiri_region_bad(child, child,
		    "%p lies in the caller's memory and is merged");
	tree_merge_children(parent, child);
	if (weiri_region_rules_own(child))
		weiri_region_rules_end(child);
	if (child->attention & WEIRI_HAS_SPARES)
		weiri_region_spares_drop(child);
	tree_merge_figures(parent, child);
	tree_merge_blocks(parent, child);
	tree_bury(parent, child);
}
