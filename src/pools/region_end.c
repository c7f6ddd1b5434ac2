/* SPDX-License-Identifier: MIT */
/*
 * region_end.c - regions: reset and destroy.
 *
 * Most regions end with one block and nothing to clean up.  Whatever else one
 * has is noted in its attention, so that the short way of either call tests one
 * word, and a few more for "is this a region, and mine".
 *
 * A reset keeps as much memory as the kind's regions use (keep_percent), in two
 * blocks at most:
 *
 *     first block                        kept block, if the first is too small
 *    +---------------+-------------+    +--------+------------------------+
 *    | weiri_region  |             |<---| header | objects start here     |
 *    +---------------+-------------+    +--------+------------------------+
 *
 * What the region used when it was reset says what the kind learns, not what
 * this region keeps: one request of a hundred times the usual size gives all of
 * it back.
 */
#include "guard/fault.h"
#include "pages/near.h"
#include "pools/region.h"
#include "pools/region_shape.h"
#include "slab/cursor.h"

/* ---- faults ----------------------------------------------------------- */

static WEIRI_COLD WEIRI_NORETURN void
region_fault(enum weir_fault_class fault_class,
    const struct weiri_region *region, const char *name, const char *detail)
{
	weiri_fault(&(struct weiri_fault_site){
	    .fault_class = fault_class,
	    .pool_kind = "region",
	    .pool_name = name,
	    .address = region,
	    .detail = detail,
	});
}

/* Looks before it reads: the pointer may be anything. */
static WEIRI_COLD void
region_expect_destroyable(const struct weiri_region *region)
{
	if (!weiri_region_in_block(region) && !weiri_region_is_placed(region) &&
	    WEIR_DETECTOR(region_destroy_foreign))
		region_fault(WEIR_FAULT_FOREIGN_POINTER, region, NULL,
		    "%p is no region, or was destroyed long ago, alone or "
		    "with one above it");
	if (region->magic == weiri_region_magic(region, WEIRI_REGION_DEAD) &&
	    WEIR_DETECTOR(region_double_destroy))
		region_fault(WEIR_FAULT_DOUBLE_DESTROY, region,
		    weiri_region_kind_name(region->kind),
		    "%p was destroyed before, alone or with one above it");
	weiri_region_expect_live(region, "");
	if (region->attention & WEIRI_IS_ENDING &&
	    WEIR_DETECTOR(region_destroy_in_cleanup))
		weiri_region_bad(
		    region, region, "%p is destroyed by its own cleanup");
}

/* ---- what a region used ------------------------------------------------- */

/* Bytes of blocks but the room that is left; with a kept block, those of it and
 * of what came after it. */
static size_t
region_used(const struct weiri_region *region)
{
	const struct weiri_region_block *block = region->newest;
	size_t bytes = 0;

	for (; block != &region->first; block = block->older)
		bytes += block->bytes;
	if (!(region->attention & WEIRI_HAS_KEPT))
		bytes += region->first.bytes;
	bytes -= (size_t)(region->bump.end - region->bump.next);
	/* Beyond the last bin all are alike. */
	return weiri_min(bytes, WEIRI_REGION_BIN_BYTES(WEIRI_REGION_BINS - 1));
}

/* ---- memory goes back --------------------------------------------------- */

uint64_t
weiri_region_blocks_give(
    struct weiri_region *region, struct weiri_region_block *keep)
{
	struct weiri_region_block *block = region->newest, *older;
	uint64_t bytes = 0;

	for (; block != keep; block = older) {
		older = block->older;
		bytes += weiri_region_block_charge(block);
		weiri_region_block_give(block);
	}
	region->newest = keep;
	return bytes;
}

uint64_t
weiri_region_larges_give(struct weiri_region *region, enum weiri_guard_how how)
{
	uint64_t bytes = 0;

	WEIRI_LIST_FOR_SAFE(node, &region->larges)
	{
		struct weiri_region_pages *pages = WEIRI_CONTAINER_OF(
		    node, struct weiri_region_pages, span.link);

		bytes += pages->span.bytes;
		weiri_region_pages_give(pages, how);
	}
	weiri_list_init(&region->larges);
	return bytes;
}

/* Everything but the first block goes back; the header says so. */
static void
region_empty(struct weiri_region *region, enum weiri_guard_how how)
{
	uint64_t bytes = weiri_region_blocks_give(region, &region->first);

	weiri_region_idle_gave(region->kind, bytes);
	if (region->attention & WEIRI_HAS_LARGES)
		bytes += weiri_region_larges_give(region, how);
	weiri_region_uncharge(region, bytes);
	region->cancelled = NULL;
	region->first.pages = NULL; /* the table of spares, if any */
	weiri_list_init(&region->cleanups);
}

/* ---- reset -------------------------------------------------------------- */

/* The room is that of a region with nothing in it. */
WEIRI_INLINE void
region_restart(struct weiri_region *region)
{
	region->bump.next = region->start;
}

/* The class of block to keep beside the first; false: none. */
static bool
region_want_kept(const struct weiri_region *region, unsigned *block_class)
{
	const struct weiri_region_kind *kind = region->kind;
	size_t want = weiri_region_bin_bytes(WEIRI_LOAD(&kind->keep_bin));

	if (!WEIRI_LOAD(&kind->learned) || want <= region->first.bytes)
		return false;
	/* Beyond that it would be pages: they are taken anew when needed. */
	*block_class = weiri_region_class(
	    weiri_min(want, WEIRI_REGION_CLASS_BYTES(WEIRI_REGION_DEPOTS - 1)));
	return true;
}

/* Of the region's blocks the one of that class, out of the chain, or NULL. */
static struct weiri_region_block *
region_pick(struct weiri_region *region, unsigned block_class)
{
	struct weiri_region_block **at = &region->newest;

	while (*at != &region->first) {
		struct weiri_region_block *block = *at;

		if (block->kind != WEIRI_BLOCK_FIRST &&
		    block->bytes == WEIRI_REGION_CLASS_BYTES(block_class)) {
			*at = block->older;
			return block;
		}
		at = &block->older;
	}
	return NULL;
}

/* Ends all objects of a region whose cleanups ran and which has none below. */
static void
region_clear(struct weiri_region *region)
{
	struct weiri_region_block *kept = NULL;
	unsigned block_class = 0;
	bool guarded = (region->attention & WEIRI_IS_GUARDED) != 0;
	bool want = !guarded && region_want_kept(region, &block_class);
	bool taken = false;

	if (want)
		kept = region_pick(region, block_class);
	region_empty(region, WEIRI_GUARD_RESET);
	/* It may double to more, or to less, on its way. */
	if (want && kept == NULL) {
		kept = weiri_region_block_more(region, block_class);
		taken = kept != NULL;
	}
	weiri_region_open(
	    region, &region->first, weiri_region_block_objects(&region->first));
	if (weiri_region_rules_own(region) && !region->rules->configured)
		weiri_region_rules_end(region);
	/* Its counters are those of many threads as long as its owner stays. */
	region->attention &=
	    (WEIRI_RESET_KEEPS | WEIRI_IS_SHARED) & ~(uint32_t)WEIRI_HAS_KEPT;
	region->attention |= WEIRI_IS_COUNTED;
	region->next_class =
	    weiri_region_class_after(region->first.bytes, region->max_class);
	if (kept != NULL) {
		kept->older = &region->first;
		region->newest = kept;
		weiri_region_open(region, kept, (char *)(kept + 1));
		region->attention |= WEIRI_HAS_KEPT;
		region->next_class =
		    weiri_region_class_after(kept->bytes, region->max_class);
	}
	region->start = region->bump.next;
	if (WEIR_UNLIKELY(guarded))
		weiri_region_guard_restart(region);
	/* What the blocks were is gone, and with it what a hook was told. */
	if (WEIR_UNLIKELY(region->rules != NULL) && taken)
		weiri_region_rules_soft(region->rules, kept->bytes);
}

/* A kept block is given back when the kind's regions need less by now. */
static void
region_review_kept(struct weiri_region *region)
{
	unsigned block_class;

	if (!region_want_kept(region, &block_class) ||
	    region->newest->bytes != WEIRI_REGION_CLASS_BYTES(block_class))
		region_clear(region);
	else
		region_restart(region);
}

/* What is left of a reset when nothing is below and no cleanup to run. */
static void
region_reset_memory(struct weiri_region *region)
{
	if (!(region->attention & WEIRI_IS_SHARED)) {
		WEIRI_BUMP(&region->counts->resets, 1);
		weiri_region_kind_note(
		    region->counts, weiri_region_bin(region_used(region)));
	}
	if (region->attention & ~(uint32_t)WEIRI_RESET_KEEPS)
		region_clear(region);
	else if (region->attention & WEIRI_HAS_KEPT)
		region_review_kept(region);
	else
		region_restart(region);
}

static WEIRI_NOINLINE void
region_reset_slow(struct weiri_region *region)
{
	weiri_region_expect_live(region, "reset of %p, which was destroyed");
	weiri_region_here(region);
	if (WEIR_UNLIKELY(region->attention & WEIRI_IS_ENDING) &&
	    WEIR_DETECTOR(region_reset_in_cleanup))
		weiri_region_bad(
		    region, region, "%p is reset by its own cleanup");
	weiri_region_end_below(region);
	region_reset_memory(region);
}

/* Runs the cleanups of a region that has nothing below it; its attention then.
 * A region that a cleanup makes below it ends before the next runs, which is
 * for the slow ways, as is what else a cleanup may make of it. */
WEIRI_INLINE uint32_t
region_run_cleanups(struct weiri_region *region)
{
	const struct weiri_list *head = &region->cleanups;
	uint32_t attention;

	region->attention |= WEIRI_IS_ENDING;
	while (head->next != head && !(region->attention & WEIRI_HAS_CHILDREN))
		weiri_region_cleanup_run_newest(region);
	/* They may have made more of it than it was. */
	attention = region->attention & ~(uint32_t)WEIRI_IS_ENDING;
	if (WEIR_LIKELY(!(attention & WEIRI_HAS_CHILDREN))) {
		attention &= ~(uint32_t)WEIRI_HAS_CLEANUPS;
		region->cancelled = NULL;
	}
	region->attention = attention;
	return attention;
}

/* Of those a reset keeps, it must look at a kept block, and at the caller's
 * memory, which may be more than any first block. */
#define REGION_RESET_PLAIN \
	(uint32_t)(WEIRI_RESET_KEEPS & ~(WEIRI_HAS_KEPT | WEIRI_IS_FOREIGN))
#define REGION_RESET_MEMORY                                                  \
	(uint32_t)(WEIRI_RESET_KEEPS | WEIRI_HAS_BLOCKS | WEIRI_HAS_LARGES | \
		   WEIRI_HAS_SPARES)
#define REGION_RESET_LONE                                                    \
	(uint32_t)(WEIRI_RESET_KEEPS | WEIRI_HAS_BLOCKS | WEIRI_HAS_LARGES | \
		   WEIRI_HAS_CLEANUPS)

/* Of a region with one block and nothing else that a reset must look at. */
WEIRI_INLINE void
region_reset_plain(struct weiri_region *region)
{
	struct weiri_region_counts *counts = region->counts;
	unsigned bin = weiri_region_first_bin(
	    (size_t)(region->bump.next - (char *)region));

	region_restart(region);
	WEIRI_BUMP(&counts->resets, 1);
	weiri_region_kind_note(counts, bin);
}

static WEIRI_NOINLINE void
region_reset_lone(struct weiri_region *region)
{
	uint32_t attention = region_run_cleanups(region);

	if (WEIR_LIKELY(!(attention & ~REGION_RESET_PLAIN)))
		region_reset_plain(region);
	else if (!(attention & ~REGION_RESET_MEMORY))
		region_reset_memory(region);
	else
		region_reset_slow(region);
}

void
weir_region_reset(struct weir_region *bump)
{
	struct weiri_region *region = weiri_region_of(bump);

	if (WEIR_UNLIKELY(region == NULL))
		return;
	if (WEIR_LIKELY(weiri_region_is_live(region)) &&
	    WEIR_LIKELY(region->owner == weiri_local())) {
		if (!(region->attention & ~REGION_RESET_PLAIN)) {
			region_reset_plain(region);
			return;
		}
		if (!(region->attention & ~REGION_RESET_LONE)) {
			region_reset_lone(region);
			return;
		}
	}
	region_reset_slow(region);
}

/* ---- destroy ------------------------------------------------------------ */

/* With no room and this mark, later use of a region, which is live by its
 * @magic, is seen. */
WEIRI_INLINE void
region_rest(struct weiri_region *region, uint64_t magic)
{
	region->bump.next = region->bump.end;
	WEIRI_STORE(
	    &region->magic, magic ^ WEIRI_REGION_LIVE ^ WEIRI_REGION_DEAD);
}

void
weiri_region_leave(struct weiri_region *region, size_t used)
{
	weiri_region_count(region, &region->counts->live, 0 - region->live);
	if (WEIR_UNLIKELY(region->attention & WEIRI_IS_SHARED))
		weiri_region_kind_end_shared(region->counts);
	else
		weiri_region_kind_note(region->counts, weiri_region_bin(used));
}

/* What a region at rest is made plain of with a few stores; with anything else
 * the next one writes its header anew. */
#define REGION_PLAIN                                                          \
	(uint32_t)(WEIRI_HAS_BLOCKS | WEIRI_HAS_LARGES | WEIRI_HAS_CLEANUPS | \
		   WEIRI_HAS_CHILDREN | WEIRI_HAS_LIMIT | WEIRI_HAS_KEPT |    \
		   WEIRI_HAS_SPARES | WEIRI_IS_COUNTED | WEIRI_IS_NAMED)

static void
region_make_plain(struct weiri_region *region)
{
	region->attention = 0;
	WEIRI_STORE(&region->name, NULL);
	region->start = (char *)(region + 1);
	WEIRI_STORE(&region->peak_bytes, region->charged_bytes);
	WEIRI_STORE(&region->misses, 0);
	WEIRI_STORE(&region->failures, 0);
	region->next_class =
	    weiri_region_class_after(region->first.bytes, region->max_class);
	region->bump.end = weiri_region_block_end(&region->first);
}

void
weiri_region_finish(struct weiri_region *region)
{
	size_t used = region_used(region);
	enum weiri_guard_how how = weiri_region_guard_how(region);
	bool special;

	if (region->attention & WEIRI_HAS_PARENT) {
		weiri_region_expect_owned(region->parent);
		weiri_region_unlink(region);
	}
	region_empty(region, how);
	if (WEIR_UNLIKELY(region->rules != NULL)) {
		if (weiri_region_rules_own(region))
			weiri_region_rules_end(region);
		weiri_region_rules_uncharge(
		    region->rules, region->charged_bytes);
	}
	weiri_region_leave(region, used);
	special = (region->attention & ~REGION_PLAIN) != 0;
	region_make_plain(region);
	region_rest(region, WEIRI_LOAD(&region->magic));
	if (WEIR_UNLIKELY(special))
		WEIRI_STORE(&region->owner, NULL);
	weiri_region_first_give(region);
}

static WEIRI_NOINLINE void
region_destroy_slow(struct weiri_region *region)
{
	if (region == NULL)
		return;
	region_expect_destroyable(region);
	weiri_region_here(region);
	weiri_region_end_below(region);
	weiri_region_finish(region);
}

/* Near others of ours and a depot's, at least: it may be read. */
WEIRI_INLINE bool
region_may_be_read(const struct weiri_region *region)
{
	uintptr_t away =
	    (uintptr_t)region - WEIRI_LOAD(&weiri_region_near_base);

	/* Rotated, bits that should be 0 make the number too large. */
	away = away >> 6 | away << 58;
	away >>= WEIRI_NEAR_SHIFT - 6;
	return WEIR_LIKELY(away < WEIRI_NEAR_COUNT) &&
	       WEIRI_LOAD(&weiri_near_tag[away]) != 0;
}

/* The magazine is full: the end of region_destroy_plain(). */
static WEIRI_COLD void
region_destroy_full(struct weiri_region *region, size_t bin)
{
	struct weiri_region_counts *counts = region->counts;

	weiri_region_first_give(region);
	weiri_region_kind_note(counts, bin);
}

/* Of a region with one block and nothing else; attention is 0.  Calls only as
 * its last step: it needs no frame. */
WEIRI_INLINE void
region_destroy_plain(
    struct weiri_region *region, struct weir_local *local, uint64_t magic)
{
	struct weiri_region_counts *counts = region->counts;
	size_t bin = weiri_region_first_bin(
	    (size_t)(region->bump.next - (char *)region));

	region_rest(region, magic);
	WEIRI_STORE(&counts->live, WEIRI_LOAD(&counts->live) - region->live);
	if (WEIR_UNLIKELY(!weiri_cell_push(
		weiri_local_cell(local, region->cell), region)))
		region_destroy_full(region, bin);
	else
		weiri_region_kind_note(counts, bin);
}

/* What a region may have besides and still be as plain. */
#define REGION_LABELS (uint32_t)(WEIRI_HAS_LIMIT | WEIRI_IS_NAMED)

WEIRI_INLINE void
region_destroy_labelled(
    struct weiri_region *region, struct weir_local *local, uint64_t magic)
{
	region->attention = 0;
	WEIRI_STORE(&region->name, NULL);
	region_destroy_plain(region, local, magic);
}

/* With cleanups, blocks, large objects; nothing that concerns others. */
static WEIRI_NOINLINE void
region_destroy_lone(struct weiri_region *region, struct weir_local *local)
{
	uint32_t attention = region_run_cleanups(region);

	if (WEIR_LIKELY(!(attention & ~REGION_LABELS)))
		region_destroy_labelled(
		    region, local, WEIRI_LOAD(&region->magic));
	else if (!(attention & ~(REGION_PLAIN & ~(uint32_t)WEIRI_HAS_CHILDREN)))
		weiri_region_finish(region);
	else
		region_destroy_slow(region);
}

void
weir_region_destroy(struct weir_region *bump)
{
	struct weiri_region *region = weiri_region_of(bump);
	struct weir_local *local = weiri_local();

	/* NULL is far from anything, too. */
	uint64_t magic;

	if (WEIR_LIKELY(region_may_be_read(region)) &&
	    WEIR_LIKELY((magic = WEIRI_LOAD(&region->magic)) ==
			weiri_region_magic(region, WEIRI_REGION_LIVE)) &&
	    WEIR_LIKELY(region->owner == local)) {
		if (WEIR_LIKELY(region->attention == 0)) {
			region_destroy_plain(region, local, magic);
			return;
		}
		if (!(region->attention & ~REGION_LABELS)) {
			region_destroy_labelled(region, local, magic);
			return;
		}
		if (WEIR_LIKELY(!(region->attention & ~REGION_PLAIN))) {
			region_destroy_lone(region, local);
			return;
		}
	}
	region_destroy_slow(region);
}
