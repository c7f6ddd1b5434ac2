/* SPDX-License-Identifier: MIT */
/*
 * region_grow.c - blocks and large objects of one region.
 *
 * Every byte that a region takes is charged before it is used: to the rules
 * above it, which may say no, and to its kind.  What fails has changed nothing,
 * so a handler that is asked then finds the region as it was, and may leave by
 * longjmp().
 */
#include "guard/fault.h"
#include "pools/region.h"
#include "pools/region_fixed.h"

static_assert(offsetof(struct weiri_region_fixed, magic) ==
		  offsetof(struct weiri_region, magic),
    "whose region it is can be asked of any");

/* Sizes above it cannot be meant; rounding up stays clear of wrap-around. */
#define REGION_OBJECT_MAX ((size_t)1 << 46)

/* Of a first block that was learned, the next one's size. */
#define GROW_BRIM_PART 16

/* ---- charges ----------------------------------------------------------- */

void *
weiri_region_refuse(struct weiri_region *region)
{
	WEIRI_STORE(&region->failures, region->failures + 1);
	weiri_region_rules_fail(region->rules);
	region->attention |= WEIRI_IS_COUNTED;
	weiri_region_count(region, &region->counts->failures, 1);
	return NULL;
}

/* The rules said yes already. */
void
weiri_region_charge(struct weiri_region *region, size_t bytes)
{
	uint64_t charged = region->charged_bytes + bytes;

	WEIRI_STORE(&region->misses, region->misses + 1);
	region->attention |= WEIRI_IS_COUNTED;
	WEIRI_STORE(&region->charged_bytes, charged);
	if (charged > region->peak_bytes)
		WEIRI_STORE(&region->peak_bytes, charged);
	weiri_region_count(
	    region, &region->counts->live, weiri_region_live_bytes(bytes));
	weiri_region_count(region, &region->counts->misses, 1);
}

void
weiri_region_uncharge(struct weiri_region *region, uint64_t bytes)
{
	if (bytes == 0)
		return;
	WEIRI_STORE(&region->charged_bytes, region->charged_bytes - bytes);
	if (region->rules != NULL)
		weiri_region_rules_uncharge(region->rules, bytes);
	weiri_region_count(
	    region, &region->counts->live, 0 - weiri_region_live_bytes(bytes));
}

/* False: the limit or a budget says no. */
static bool
region_admit(struct weiri_region *region, uint64_t bytes)
{
	if ((region->attention & WEIRI_HAS_LIMIT) &&
	    bytes > region->limit_bytes - region->charged_bytes)
		return false;
	return WEIR_LIKELY(region->rules == NULL) ||
	       weiri_region_rules_charge(region->rules, bytes);
}

static void
region_dismiss(struct weiri_region *region, uint64_t bytes)
{
	if (region->rules != NULL)
		weiri_region_rules_uncharge(region->rules, bytes);
}

/* ---- blocks ------------------------------------------------------------ */

static struct weiri_region_block *
region_try_block(struct weiri_region *region, unsigned block_class)
{
	struct weiri_region_block *block;

	if (!region_admit(region, WEIRI_REGION_CLASS_BYTES(block_class)))
		return NULL;
	block = weiri_region_block_take(block_class);
	if (WEIR_UNLIKELY(block == NULL))
		region_dismiss(region, WEIRI_REGION_CLASS_BYTES(block_class));
	return block;
}

struct weiri_region_block *
weiri_region_block_more(struct weiri_region *region, unsigned block_class)
{
	struct weiri_region_block *block =
	    region_try_block(region, block_class);

	if (block != NULL)
		weiri_region_charge(region, block->bytes);
	return block;
}

/*
 * True of a region whose first block is what its kind learned: most of those that
 * need more than that need little more.
 */
static bool
region_is_brimming(const struct weiri_region *region)
{
	const struct weiri_region_kind *kind = region->kind;

	return region->newest == &region->first &&
	       region->first.kind == WEIRI_BLOCK_FIRST &&
	       !(region->attention & WEIRI_IS_SHAPED) &&
	       WEIRI_LOAD(&kind->learned) &&
	       region->first.block_class >= WEIRI_LOAD(&kind->first_bin);
}

/* The class whose turn it is.  Behind a small one, blocks double again. */
static unsigned
region_turn(const struct weiri_region *region)
{
	if (!region_is_brimming(region))
		return region->next_class;
	return (unsigned)weiri_min(region->next_class,
	    weiri_region_class(region->first.bytes / GROW_BRIM_PART));
}

/*
 * A block of at least @least: the size whose turn it is, or what the budgets or
 * the memory left allow.  NULL when not even @least is to be had.
 */
static struct weiri_region_block *
region_take_block(struct weiri_region *region, unsigned least)
{
	unsigned want = (unsigned)weiri_max(region_turn(region), least);

	if (WEIR_UNLIKELY(
		region->attention & (WEIRI_HAS_LIMIT | WEIRI_HAS_RULES))) {
		uint64_t left = weiri_region_rules_left(region);

		while (want > least && WEIRI_REGION_CLASS_BYTES(want) > left)
			want--;
	}

	struct weiri_region_block *block = region_try_block(region, want);

	if (WEIR_UNLIKELY(block == NULL) && want > least)
		block = region_try_block(region, least);
	return block;
}

/* @need covers the object, its rounding and its alignment. */
static void *
region_alloc_block(
    struct weiri_region *region, size_t bytes, size_t align, size_t need)
{
	struct weiri_region_block *block = region_take_block(
	    region, weiri_region_class(need + sizeof(*block)));

	if (WEIR_UNLIKELY(block == NULL))
		return NULL;

	unsigned block_class = block->block_class;
	char *start = (char *)(block + 1);
	char *object = start + ((0 - (uintptr_t)start) & (align - 1));
	char *next = object + weiri_round_up(bytes, WEIR_REGION_ALIGN);
	char *end = weiri_region_block_end(block);

	WEIR_ASSERT(next <= end);
	weiri_region_charge(region, block->bytes);

	region->attention |= WEIRI_HAS_BLOCKS;
	region->next_class =
	    (uint8_t)weiri_min(block_class + 1, region->max_class);
	block->older = region->newest;
	region->newest = block;
	if (end - next >= region->bump.end - region->bump.next)
		weiri_region_open(region, block, next);
	return object;
}

/* ---- large objects ------------------------------------------------------ */

/* Under guard; NULL: not admitted, or for want of room among guarded objects. */
static struct weiri_region_pages *
region_take_guarded(
    struct weiri_region *region, size_t bytes, size_t align, bool small)
{
	size_t least;
	size_t charge = weiri_region_guard_charge(region, bytes, small, &least);
	struct weiri_region_pages *pages;

	if (!region_admit(region, charge)) {
		charge = least;
		if (!region_admit(region, charge))
			return NULL;
	}
	pages = weiri_region_guard_take(region, bytes, align, charge, small);
	if (pages == NULL)
		region_dismiss(region, charge);
	return pages;
}

static struct weiri_region_pages *
region_take_pages(struct weiri_region *region, size_t bytes, size_t align)
{
	/* Size 0 comes here for an alignment no block has. */
	size_t page_bytes = weiri_round_up(weiri_max(bytes, 1), WEIRI_PAGE);
	struct weiri_region_pages *pages;

	if (!region_admit(region, page_bytes))
		return NULL;
	pages = weiri_region_pages_take(page_bytes, align);
	if (WEIR_UNLIKELY(pages == NULL))
		region_dismiss(region, page_bytes);
	return pages;
}

/* @small: only because the region is under guard. */
static void *
region_alloc_large(struct weiri_region *region, size_t bytes, size_t align,
    bool small, bool *fresh)
{
	struct weiri_region_pages *pages = NULL;

	if (WEIR_UNLIKELY(region->attention & WEIRI_IS_GUARDED))
		pages = region_take_guarded(region, bytes, align, small);
	if (pages == NULL)
		pages = region_take_pages(region, bytes, align);
	if (WEIR_UNLIKELY(pages == NULL))
		return NULL;
	weiri_region_charge(region, pages->span.bytes);
	pages->region = region;
	pages->small = small;
	pages->order = region->first.marks;
	weiri_list_push(&region->larges, &pages->span.link);
	region->attention |= WEIRI_HAS_LARGES;
	*fresh = pages->span.zeroed && !pages->guarded;
	return pages->span.base;
}

/* The region that an object's pages are charged to: those that were merged
 * since point on. */
static const struct weiri_region *
region_of_pages(const struct weiri_region_pages *pages)
{
	const struct weiri_region *region = pages->region;

	while (!weiri_region_is_live(region))
		region = region->parent;
	return region;
}

struct weiri_region_pages *
weiri_region_large_of(struct weiri_region *region, const void *object)
{
	struct weiri_span *span = weiri_span_of(object);
	struct weiri_region_pages *pages = NULL;

	if (WEIR_UNLIKELY(weiri_guard_covers(object)))
		pages = weiri_region_guard_pages(region, object);
	if (WEIR_UNLIKELY(pages != NULL))
		span = &pages->span;
	if (span == NULL || span->kind != WEIRI_SPAN_REGION)
		return NULL;
	pages = WEIRI_CONTAINER_OF(span, struct weiri_region_pages, span);
	if (pages->region == NULL)
		return NULL;
	if (WEIR_UNLIKELY(region_of_pages(pages) != region) &&
	    WEIR_DETECTOR(region_large_other))
		weiri_fault(&(struct weiri_fault_site){
		    .fault_class = WEIR_FAULT_WRONG_POOL,
		    .pool_kind = "region",
		    .pool_name = weiri_region_kind_name(region->kind),
		    .address = object,
		    .detail = "object %p is another region's",
		});
	if (WEIR_UNLIKELY(span->base != object) &&
	    WEIR_DETECTOR(region_large_interior))
		weiri_fault(&(struct weiri_fault_site){
		    .fault_class = WEIR_FAULT_INTERIOR_POINTER,
		    .pool_kind = "region",
		    .pool_name = weiri_region_kind_name(region->kind),
		    .address = object,
		    .detail = "%p is inside an object",
		});
	return pages;
}

void
weiri_region_large_give(
    struct weiri_region *region, struct weiri_region_pages *pages)
{
	uint64_t bytes = pages->span.bytes;

	if (WEIR_UNLIKELY(pages->small))
		bytes = weiri_region_guard_leave(region, pages);
	weiri_list_remove(&pages->span.link);
	weiri_region_pages_give(pages, WEIRI_GUARD_FREE);
	weiri_region_uncharge(region, bytes);
}

bool
weir_region_free_large(struct weir_region *bump, void *object)
{
	struct weiri_region *region = weiri_region_of(bump);
	struct weiri_region_pages *pages;

	if (object == NULL)
		return false;
	weiri_region_expect_live(
	    region, "object given back to %p, which was destroyed");
	weiri_region_here(region);
	pages = weiri_region_large_of(region, object);
	if (pages == NULL || WEIR_UNLIKELY(pages->small))
		return false;
	weiri_region_large_give(region, pages);
	return true;
}

bool
weir_region_resize_large(struct weir_region *bump, void *object, size_t bytes)
{
	struct weiri_region *region = weiri_region_of(bump);
	struct weiri_region_pages *pages;
	uint64_t before, after;

	weiri_region_expect_live(
	    region, "object resized in %p, which was destroyed");
	weiri_region_here(region);
	pages = weiri_region_large_of(region, object);
	if (pages == NULL || WEIR_UNLIKELY(pages->small) ||
	    bytes > REGION_OBJECT_MAX)
		return false;
	before = pages->span.bytes;
	/* A place of the guard has one size: what grows moves. */
	if (pages->guarded)
		return bytes <= weiri_guard_bytes(object);
	after = weiri_round_up(weiri_max(bytes, 1), WEIRI_PAGE);
	if (after <= before) {
		if (after < before) {
			(void)weiri_span_resize(&pages->span, after);
			weiri_region_uncharge(region, before - after);
		}
		return true;
	}
	if (!region_admit(region, after - before))
		return false;
	if (weiri_span_resize(&pages->span, after) != 0) {
		region_dismiss(region, after - before);
		return false;
	}
	weiri_region_charge(region, after - before);
	if (region->rules != NULL)
		weiri_region_rules_soft(region->rules, after - before);
	return true;
}

/* ---- the slow way of every object ---------------------------------------- */

static void *
region_alloc_once(
    struct weiri_region *region, size_t bytes, size_t align, bool *fresh)
{
	size_t need = weiri_round_up(bytes, WEIR_REGION_ALIGN);

	if (WEIR_UNLIKELY(region->attention & WEIRI_IS_GUARDED) &&
	    weiri_debug_refuses(&region->kind->guard, bytes))
		return NULL;
	if (align > WEIR_REGION_ALIGN)
		need += align - WEIR_REGION_ALIGN;
	if (bytes > region->large_bytes ||
	    need > weiri_region_class_room(region->max_class))
		return region_alloc_large(region, bytes, align, false, fresh);
	if (WEIR_UNLIKELY(region->attention & WEIRI_IS_GUARDED))
		return region_alloc_large(region, bytes, align, true, fresh);
	return region_alloc_block(region, bytes, align, need);
}

void *
weiri_region_alloc_slow(
    struct weiri_region *region, size_t bytes, size_t align, bool *fresh)
{
	uint64_t before;
	void *object;

	*fresh = false;
	if (WEIR_UNLIKELY(!weiri_region_is_live(region)) &&
	    weiri_region_is_fixed(&region->bump))
		return weiri_region_fixed_refuse(&region->bump);
	weiri_region_expect_live(region, "object from %p, which was destroyed");
	weiri_region_here(region);
	if (!weiri_is_pow2(align) || align > WEIR_REGION_ALIGN_MAX ||
	    bytes > REGION_OBJECT_MAX)
		return weiri_region_refuse(region);
	before = region->charged_bytes;
	object = region_alloc_once(region, bytes, align, fresh);
	if (WEIR_UNLIKELY(object == NULL)) {
		if (weiri_region_rules_oom(region, bytes)) {
			/* The handler may have made room in the block, too. */
			before = region->charged_bytes;
			object = region_alloc_once(region, bytes, align, fresh);
		}
		if (object == NULL)
			return weiri_region_refuse(region);
	}
	if (WEIR_UNLIKELY(region->rules != NULL))
		weiri_region_rules_soft(
		    region->rules, region->charged_bytes - before);
	return object;
}

void *
weir_abi_region_1(struct weir_region *region, size_t bytes, size_t align)
{
	bool fresh;

	return weiri_region_alloc_slow(
	    weiri_region_of(region), bytes, align, &fresh);
}
