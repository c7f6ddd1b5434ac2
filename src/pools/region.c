/* SPDX-License-Identifier: MIT */
/*
 * region.c - regions: how they begin.
 *
 * Taking an object is inline and costs everybody about the same.  What tells
 * one design from another is where blocks and large objects come from and what
 * a region costs that has hardly any, so the effort is spent there:
 *
 *   - Blocks are slots of depots: a request's blocks are those the last request
 *     of this thread gave back, still warm, and neither the page lock nor the
 *     system is involved.
 *   - The first block is as large as the kind's regions lately were, so most of
 *     them never need a second (region_kind.c); those that do need little, so
 *     the second is small.
 *   - A region that ends leaves its header in its first block as the next one
 *     wants it.  To begin is then to take a slot and write what tells this
 *     region from the last: seven words.
 *   - Blocks double up to 32 KiB by default and stop there.  One block per
 *     32 KiB of objects is a cost that disappears beside writing those objects,
 *     and what a region leaves unused at its end stays small.
 *   - An object that the next block would not hold gets a larger block, not
 *     pages, as long as it fits the largest: its rest serves the objects after
 *     it.  Of the old room and the new rest the region continues in the larger,
 *     so what is lost is at most half of what was free.
 *   - Only what is above that has pages of its own, exactly as many as it
 *     needs: it neither drags the doubling up nor leaves a rest.
 *
 * Invariants (weir_region_check() tests them):
 *
 *   R1  next and end are multiples of 16, next <= end, and both lie in one of
 *       the region's blocks, whose end `end` is.
 *   R2  Following `older` from `newest`, the order in which they were taken,
 *       ends with `first`; each block has the size of its class and is what
 *       the page map says.
 *   R3  charged_bytes is the sum of blocks and large objects, and is at most
 *       peak_bytes; a budget's sum is that of the regions under it, and at most
 *       its limit.
 *   R4  Each large object's pages map to its descriptor.
 *   R5  Armed handles are doubly linked, cancelled ones in a ring, and all lie
 *       between a block's header and its end.
 *   R6  next_class <= max_class, and a block of max_class holds an object of
 *       large_bytes, or it has no pages of its own to go to.
 *   R7  Whatever a region has, its attention has the bit of it.
 *   R8  A region below another is in its list, and its rules are its own or
 *       those of the region above.
 *   R9  Savepoints in force are on the list of cleanups, newest first, with
 *       numbers from first.marks down to 1, and their blocks are in the chain.
 *
 * A header at rest, of a region that ended, says what a region with nothing in
 * it says, but for the magic and `next`, which leaves no room; or its owner is
 * NULL, and all of it is written anew.  What owns the memory while it rests, a
 * magazine, tells nothing about the kind: the header does, and only a slot of a
 * depot of first blocks is believed.
 */
#include "pools/region.h"

#include "guard/fault.h"
#include "pools/region_shape.h"
#include "slab/cursor.h"

#include <errno.h>

/* ---- faults ----------------------------------------------------------- */

void
weiri_region_bad(
    const struct weiri_region *region, const void *address, const char *detail)
{
	weiri_fault(&(struct weiri_fault_site){
	    .fault_class = WEIR_FAULT_BAD_ARGUMENT,
	    .pool_kind = "region",
	    .pool_name = weiri_region_kind_name(region->kind),
	    .address = address,
	    .detail = detail,
	});
}

/* A destroyed region keeps its header, and kinds are for ever. */
void
weiri_region_not_live(const struct weiri_region *region, const char *detail)
{
	if (region->magic == weiri_region_magic(region, WEIRI_REGION_DEAD) &&
	    WEIR_DETECTOR(region_gone_known))
		weiri_fault(&(struct weiri_fault_site){
		    .fault_class = WEIR_FAULT_USE_AFTER_DESTROY,
		    .pool_kind = "region",
		    .pool_name = weiri_region_kind_name(region->kind),
		    .address = region,
		    .detail = detail,
		});
	weiri_fault(&(struct weiri_fault_site){
	    .fault_class = WEIR_FAULT_CORRUPTION,
	    .pool_kind = "region",
	    .address = region,
	    .detail = "%p is no region, or its header was overwritten",
	});
}

/* ---- headers ---------------------------------------------------------- */

/* All of a header, as it rests, for regions of @kind that the calling thread
 * makes; `first` tells of the block. */
static void
region_construct(struct weiri_region *region, struct weiri_region_kind *kind)
{
	bool shared;
	size_t bytes = region->first.bytes;
	uint64_t charge = weiri_region_block_charge(&region->first);

	region->newest = &region->first;
	region->bump.end = (char *)region + bytes;
	WEIRI_STORE(&region->kind, kind);
	WEIRI_STORE(&region->owner, weiri_local());
	region->counts = weiri_region_kind_line(kind, &shared);
	region->start = weiri_region_block_objects(&region->first);
	WEIRI_STORE(&region->charged_bytes, charge);
	WEIRI_STORE(&region->peak_bytes, charge);
	region->live = WEIRI_REGION_LIVE_ONE + weiri_region_live_bytes(charge);
	region->attention = shared ? WEIRI_IS_SHARED : 0;
	/* One in the caller's memory is no slot. */
	region->cell = WEIRI_CELL_NONE;
	if (region->first.kind == WEIRI_BLOCK_FIRST)
		region->cell = (uint16_t)weiri_region_first_depot(
		    weiri_region_supply_now(), region->first.block_class)
				   ->fast_offset;
	WEIRI_STORE(&region->name, NULL);
	WEIRI_STORE(&region->misses, 0);
	WEIRI_STORE(&region->failures, 0);
	region->max_class = WEIRI_REGION_MAX_DEFAULT;
	region->next_class =
	    weiri_region_class_after(bytes, WEIRI_REGION_MAX_DEFAULT);
	region->first.older = NULL;
	region->first.order = 0;
	region->rules = NULL;
	WEIRI_STORE(&region->parent, NULL);
	weiri_list_init(&region->children);
	weiri_list_init(&region->sibling);
	weiri_list_init(&region->cleanups);
	weiri_list_init(&region->larges);
	region->cancelled = NULL;
	region->large_bytes =
	    (uint32_t)weiri_region_class_room(WEIRI_REGION_MAX_DEFAULT);
}

/* What a header at rest lacks to be a region, made by the call at @site. */
WEIRI_INLINE void
region_begin(struct weiri_region *region, const char *name, const void *site)
{
	region->bump.next = (char *)(region + 1);
	WEIRI_STORE(&region->birth, WEIRI_LOAD(&weiri_region_tick));
	if (name != NULL) {
		WEIRI_STORE(&region->name, name);
		region->attention |= WEIRI_IS_NAMED;
	}
	WEIRI_STORE(&region->site, site);
	/* Pairs with the acquires of who lists regions (region_watch.c). */
	__atomic_store_n(&region->magic,
	    weiri_region_magic(region, WEIRI_REGION_LIVE), __ATOMIC_RELEASE);
}

/* One more of its kind; returns 0, the status of the call it ends. */
static int
region_enter(const struct weiri_region *region)
{
	struct weiri_region_counts *counts = region->counts;
	uint64_t live = weiri_region_count(region, &counts->live, region->live);

	if ((int64_t)live > WEIRI_LOAD(&counts->live_peak))
		return weiri_region_kind_peak(counts, live);
	return 0;
}

/* A header at rest that another thread left, of the same kind, is as this one
 * would have left it but for what tells the thread. */
static void
region_come_home(struct weiri_region *region)
{
	bool shared;

	WEIRI_STORE(&region->owner, weiri_local());
	region->counts = weiri_region_kind_line(region->kind, &shared);
	region->attention = shared ? WEIRI_IS_SHARED : 0;
}

/* Has the first block say what a region of @kind says that has not begun. */
static void
region_prepare(struct weiri_region *region, struct weiri_region_kind *kind)
{
	if (region->kind != kind || region->owner == NULL)
		region_construct(region, kind);
	else if (region->owner != weiri_local())
		region_come_home(region);
}

/* ---- create ----------------------------------------------------------- */

/* A first block of @bin, or without memory for it one of the smallest size
 * that @least says will do. */
static struct weiri_region *
region_take_first(struct weiri_region_kind *kind, unsigned bin, unsigned least)
{
	struct weiri_region *region = weiri_region_first_take(bin);

	if (WEIR_UNLIKELY(region == NULL) && bin > least)
		region = weiri_region_first_take(least);
	if (WEIR_LIKELY(region != NULL))
		region_prepare(region, kind);
	return region;
}

static void
region_apply(
    struct weiri_region *region, const struct weiri_region_shape *shape)
{
	region->attention |= WEIRI_IS_SHAPED;
	region->large_bytes = (uint32_t)shape->large_bytes;
	region->max_class = (uint8_t)shape->max_class;
	region->next_class =
	    weiri_region_class_after(region->first.bytes, shape->max_class);
}

/* Under its limit and rules; false: they, or a lack of memory, say no. */
static bool
region_place(
    struct weiri_region *region, const struct weiri_region_shape *shape)
{
	const struct weir_region_config *config = shape->config;
	uint64_t bytes = region->charged_bytes;

	if (config->limit_bytes != 0) {
		if (bytes > config->limit_bytes)
			return false;
		region->limit_bytes = config->limit_bytes;
		region->attention |= WEIRI_HAS_LIMIT;
	}
	if (config->parent != NULL) {
		region->rules = weiri_region_of(config->parent)->rules;
		if (region->rules != NULL) {
			region->attention |= WEIRI_HAS_RULES;
			if (!weiri_region_rules_charge(region->rules, bytes))
				return false;
		}
	}
	if (!shape->has_rules || weiri_region_rules_make(region, config))
		return true;
	if (region->rules != NULL)
		weiri_region_rules_uncharge(region->rules, bytes);
	return false;
}

/* A region as configured, not begun; its block fits the rules. */
static struct weiri_region *
region_make_shaped(
    struct weiri_region_kind *kind, const struct weiri_region_shape *shape)
{
	for (unsigned bin = shape->first_bin;; bin--) {
		struct weiri_region *region = region_take_first(kind, bin, 0);

		if (region == NULL)
			return NULL;
		region_apply(region, shape);
		if (region_place(region, shape))
			return region;
		/* What a budget has left may do for a smaller one. */
		bin = region->first.block_class;
		WEIRI_STORE(&region->owner, NULL);
		weiri_region_first_give(region);
		if (bin == 0)
			return NULL;
	}
}

/* Looks at the region above, which is to have one more below it. */
static bool
region_expect_parent(struct weir_region *bump)
{
	struct weiri_region *parent = weiri_region_of(bump);

	if (bump == NULL)
		return true;
	weiri_region_expect_live(
	    parent, "region below %p, which was destroyed");
	weiri_region_here(parent);
	return weiri_region_rules_share(parent);
}

/* What is left to do for a region that is under its rules. */
static void
region_begin_shaped(struct weiri_region *region,
    const struct weir_region_config *config, const void *site,
    struct weir_region **out)
{
	if (config->parent != NULL)
		weiri_region_link(weiri_region_of(config->parent), region);
	region_begin(region, config->name, site);
	region->bump.next = region->start;
	weiri_region_guard_begin(region);
	(void)region_enter(region);
	*out = &region->bump;
	if (region->rules != NULL)
		weiri_region_rules_soft(region->rules, region->charged_bytes);
}

/* Counts a region that could not be made; the status of the call. */
static WEIRI_COLD int
region_fail(struct weiri_region_kind *kind, struct weir_region *parent)
{
	weiri_region_kind_fail(kind);
	if (parent != NULL)
		weiri_region_rules_fail(weiri_region_of(parent)->rules);
	return -ENOMEM;
}

static int
region_create_shaped(struct weiri_region_kind *kind,
    const struct weiri_region_shape *shape, const void *site,
    struct weir_region **out)
{
	struct weir_region *parent = shape->config->parent;
	struct weiri_region *region = NULL;

	if (region_expect_parent(parent)) {
		region = region_make_shaped(kind, shape);
		if (WEIR_UNLIKELY(region == NULL) && parent != NULL &&
		    weiri_region_rules_oom(weiri_region_of(parent),
			weiri_region_bin_bytes(shape->first_bin)) &&
		    /* The handler may have reset it. */
		    weiri_region_rules_share(weiri_region_of(parent)))
			region = region_make_shaped(kind, shape);
	}
	if (WEIR_UNLIKELY(region == NULL))
		return region_fail(kind, parent);
	region_begin_shaped(region, shape->config, site, out);
	return 0;
}

static int
region_create_config(struct weiri_region_kind *kind,
    const struct weir_region_config *config, const void *site,
    struct weir_region **out)
{
	struct weiri_region_shape shape;
	int status = weiri_region_shape_init(&shape, config, kind);

	if (WEIR_UNLIKELY(status != 0))
		return status;
	return region_create_shaped(kind, &shape, site, out);
}

static WEIRI_COLD int
region_create_slow(struct weir_region_kind *kind,
    const struct weir_region_config *config, struct weir_region **out,
    const void *site)
{
	struct weiri_region_kind *record;
	struct weiri_region *region;
	bool light = config == NULL || weiri_region_shape_others(config) == 0;
	uint64_t limit = config != NULL ? config->limit_bytes : 0;
	unsigned bin;

	*out = NULL;
	if (WEIR_UNLIKELY(weiri_region_supply_start() != 0))
		return -ENOMEM;
	record = weiri_region_kind_of(kind);
	if (WEIR_UNLIKELY(record == NULL))
		return -ENOMEM;
	bin = WEIRI_LOAD(&record->first_bin);
	if (WEIR_UNLIKELY(weiri_guard_bare(&record->guard)) &&
	    weiri_debug_refuses(&record->guard, weiri_region_bin_bytes(bin)))
		return region_fail(
		    record, config != NULL ? config->parent : NULL);
	if (!light || (limit != 0 && limit < weiri_region_bin_bytes(bin)))
		return region_create_config(record, config, site, out);
	region = region_take_first(record, bin, 0);
	if (WEIR_UNLIKELY(region == NULL)) {
		weiri_region_kind_fail(record);
		return -ENOMEM;
	}
	if (limit != 0) {
		region->limit_bytes = limit;
		region->attention |= WEIRI_HAS_LIMIT;
	}
	region_begin(region, config != NULL ? config->name : NULL, site);
	weiri_region_guard_begin(region);
	*out = &region->bump;
	return region_enter(region);
}

/* Its name and limit, for a header of this thread's at rest; false, and nothing
 * is changed: the block is more than the limit. */
WEIRI_INLINE bool
region_label(
    struct weiri_region *region, const struct weir_region_config *config)
{
	uint64_t limit = config->limit_bytes;
	/* A name that is none is as quickly cleared at the end as told here. */
	uint32_t attention = WEIRI_IS_NAMED;

	if (limit != 0) {
		if (WEIR_UNLIKELY(limit < region->charged_bytes))
			return false;
		region->limit_bytes = limit;
		attention = WEIRI_IS_NAMED | WEIRI_HAS_LIMIT;
	}
	region->attention = attention;
	WEIRI_STORE(&region->name, config->name);
	return true;
}

/* Takes the region at @cursor, whose header is this thread's, off its magazine. */
WEIRI_INLINE int
region_begin_top(struct weiri_region *region, uintptr_t **cell,
    uintptr_t *cursor, struct weir_region **out, const void *site)
{
	WEIRI_STORE(cell, cursor - 1);
	region_begin(region, NULL, site);
	*out = &region->bump;

	/* As region_enter(), of a line that is the thread's own. */
	struct weiri_region_counts *counts = region->counts;
	uint64_t live = WEIRI_LOAD(&counts->live) + region->live;

	WEIRI_STORE(&counts->live, live);
	if (WEIR_UNLIKELY((int64_t)live > WEIRI_LOAD(&counts->live_peak)))
		return weiri_region_kind_peak(counts, live);
	return 0;
}

/* Of a region that ended on another thread: what one finds that makes regions for
 * others to end.  Of a kind that has a record. */
static WEIRI_NOINLINE int
region_create_home(struct weir_region_kind *kind,
    const struct weir_region_config *config, struct weir_region **out,
    const void *site)
{
	const struct weiri_region_kind *record =
	    __atomic_load_n(&kind->record, __ATOMIC_ACQUIRE);
	uintptr_t **cell =
	    weiri_local_cell(weiri_local(), WEIRI_LOAD(&record->cell));
	uintptr_t *cursor = WEIRI_LOAD(cell);
	struct weiri_region *region = (struct weiri_region *)*cursor;

	/* Another thread may have given the kind another magazine meanwhile. */
	if (WEIR_UNLIKELY((uintptr_t)region & WEIRI_MAGAZINE_TAG) ||
	    WEIR_UNLIKELY(region->kind != record) || region->owner == NULL)
		return region_create_slow(kind, config, out, site);
	region_come_home(region);
	/* One that counts in a line of many threads has more to do. */
	if (WEIR_UNLIKELY(region->attention != 0) ||
	    (config != NULL && !region_label(region, config)))
		return region_create_slow(kind, config, out, site);
	return region_begin_top(region, cell, cursor, out, site);
}

/* Of a region that ended on this thread, if there is one of the kind. */
WEIRI_INLINE int
region_create_fast(struct weir_region_kind *kind,
    const struct weir_region_config *config, struct weir_region **out,
    const void *site)
{
	const struct weiri_region_kind *record;
	struct weir_local *local = weiri_local();
	struct weiri_region *region;

	record = __atomic_load_n(&kind->record, __ATOMIC_ACQUIRE);
	if (WEIR_UNLIKELY(record == NULL))
		return region_create_slow(kind, config, out, site);

	uintptr_t **cell = weiri_local_cell(local, WEIRI_LOAD(&record->cell));
	uintptr_t *cursor = WEIRI_LOAD(cell);

	region = (struct weiri_region *)*cursor;
	if (WEIR_UNLIKELY((uintptr_t)region & WEIRI_MAGAZINE_TAG) ||
	    WEIR_UNLIKELY(region->kind != record))
		return region_create_slow(kind, config, out, site);
	if (WEIR_UNLIKELY(region->owner != local))
		return region_create_home(kind, config, out, site);
	if (config != NULL && !region_label(region, config))
		return region_create_slow(kind, config, out, site);
	return region_begin_top(region, cell, cursor, out, site);
}

/* For a wrapper, which tells who called it, or without a kind: what others do
 * not pay for. */
static WEIRI_NOINLINE __attribute__((nonnull(2))) int
region_create_light(struct weir_region_kind *kind,
    const struct weir_region_config *config, struct weir_region **out,
    const void *site)
{
	if (kind == NULL)
		kind = &weiri_region_kind_default;
	return region_create_fast(kind, config, out, site);
}

static WEIRI_NOINLINE int
region_create_default(const void *site, struct weir_region **out)
{
	return region_create_fast(&weiri_region_kind_default, NULL, out, site);
}

/* To know its caller is no reason for a frame in a function that calls others as
 * its last step only. */
#if defined(__GNUC__) && !defined(__clang__)
#define REGION_NO_FRAME __attribute__((optimize("omit-frame-pointer")))
#else
#define REGION_NO_FRAME
#endif

REGION_NO_FRAME int
weir_region_create(struct weir_region_kind *kind,
    const struct weir_region_config *config, struct weir_region **out)
{
	const void *site = __builtin_return_address(0);

	if (config == NULL && WEIR_UNLIKELY(kind == NULL))
		return region_create_default(site, out);
	if (config == NULL)
		return region_create_fast(kind, NULL, out, site);

	uint64_t others = weiri_region_shape_others(config);

	if (WEIR_LIKELY((others | (uintptr_t)config->site) == 0) &&
	    WEIR_LIKELY(kind != NULL))
		return region_create_fast(kind, config, out, site);
	if (config->site != NULL)
		site = config->site;
	if (others == 0)
		return region_create_light(kind, config, out, site);
	return region_create_slow(kind, config, out, site);
}

/* ---- in the caller's memory ---------------------------------------------- */

/* The header at the start of @buffer, as at rest; its block is the rest. */
static struct weiri_region *
region_lay_out(struct weiri_region_kind *kind, void *buffer, size_t bytes)
{
	uintptr_t start = weiri_round_up((uintptr_t)buffer, WEIR_REGION_ALIGN);
	uintptr_t end =
	    ((uintptr_t)buffer + bytes) & ~(uintptr_t)(WEIR_REGION_ALIGN - 1);
	struct weiri_region *region = (struct weiri_region *)start;

	region->first = (struct weiri_region_block){
	    .bytes = (uint32_t)weiri_min(
		end - start, UINT32_MAX & ~(WEIR_REGION_ALIGN - 1)),
	    .kind = WEIRI_BLOCK_PLACED,
	};
	region_construct(region, kind);
	region->attention |= WEIRI_IS_FOREIGN;
	return region;
}

int
weir_region_create_in(struct weir_region_kind *kind,
    const struct weir_region_config *config, void *buffer, size_t bytes,
    struct weir_region **out)
{
	static const struct weir_region_config defaults = {0};
	const void *site = __builtin_return_address(0);
	struct weiri_region_shape shape;
	struct weiri_region_kind *record;
	struct weiri_region *region;
	int status;

	*out = NULL;
	if (config == NULL)
		config = &defaults;
	if (config->site != NULL)
		site = config->site;
	if (bytes < WEIR_REGION_BUFFER_MIN || bytes > SIZE_MAX / 2)
		return weiri_region_shape_refuse_buffer(bytes);
	if (WEIR_UNLIKELY(weiri_region_supply_start() != 0))
		return -ENOMEM;
	record = weiri_region_kind_of(kind);
	if (WEIR_UNLIKELY(record == NULL))
		return -ENOMEM;
	status = weiri_region_shape_init(&shape, config, record);
	if (WEIR_UNLIKELY(status != 0))
		return status;
	if (WEIR_UNLIKELY(!region_expect_parent(config->parent)))
		return region_fail(record, config->parent);
	/* No block is taken, which would have made the thread's state. */
	if (weiri_local() == &weiri_local_none)
		(void)weiri_local_own();
	region = region_lay_out(record, buffer, bytes);
	region_apply(region, &shape);
	if (WEIR_UNLIKELY(!region_place(region, &shape)))
		return region_fail(record, config->parent);
	weiri_region_place_enter(region);
	region_begin_shaped(region, config, site, out);
	return 0;
}
