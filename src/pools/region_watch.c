/* SPDX-License-Identifier: MIT */
/*
 * region_watch.c - finding the live regions, and reading them while they run.
 *
 * There is no list of them: making and ending one would pay for it.  What there
 * is are the depots of first blocks, whose slots hold a region's header from
 * their first use to the end of their slab, live or not.  So the regions are
 * the slots with a live magic:
 *
 *     depot -> slab  | rests | LIVE | rests | DEAD | not carved yet |
 *                              ^               ^ in a thread's magazine
 *
 * The depot's lock keeps its slabs; nothing keeps the regions, which begin and
 * end under the reader's eyes.  A header is read twice, until both readings
 * agree and both saw the magic; all words read are written by atomic stores.
 * What a record points to outlives any region: kinds are for ever, and names
 * are in static storage.
 *
 * Regions in a caller's memory are in a table (region_place.c), under whose
 * lock they stay.  Those in ranges of addresses are pools of their own, in the
 * list of all pools, and stay while they are read (region_vm_view.c).
 */
#include "pools/region_watch.h"

#include <string.h>

/* As often a header may change while it is read; a region so busy is shown as
 * it was read last. */
#define WATCH_TRIES 4

/* Pairs with the release of the magic in region_begin(): who sees it sees what
 * the name and the kind point to. */
#define WATCH_LOAD(pointer) __atomic_load_n((pointer), __ATOMIC_ACQUIRE)

static bool
watch_load(
    const struct weiri_region *region, struct weiri_region_record *record)
{
	const struct weiri_region *parent;

	if (WATCH_LOAD(&region->magic) !=
	    weiri_region_magic(region, WEIRI_REGION_LIVE))
		return false;
	parent = WATCH_LOAD(&region->parent);
	*record = (struct weiri_region_record){
	    .region = &region->bump,
	    .parent = parent != NULL ? &parent->bump : NULL,
	    .kind = weiri_region_kind_name(WATCH_LOAD(&region->kind)),
	    .name = WATCH_LOAD(&region->name),
	    .site = WATCH_LOAD(&region->site),
	    .owner = WATCH_LOAD(&region->owner),
	    .bytes = WATCH_LOAD(&region->charged_bytes),
	    .peak = WATCH_LOAD(&region->peak_bytes),
	    .birth = WATCH_LOAD(&region->birth),
	    .misses = WATCH_LOAD(&region->misses),
	    .failures = WATCH_LOAD(&region->failures),
	    .above = WEIRI_RECORD_NONE,
	    .child = WEIRI_RECORD_NONE,
	    .sibling = WEIRI_RECORD_NONE,
	};
	return WEIRI_LOAD(&region->magic) ==
	       weiri_region_magic(region, WEIRI_REGION_LIVE);
}

static bool
watch_same(
    const struct weiri_region_record *a, const struct weiri_region_record *b)
{
	return a->birth == b->birth && a->site == b->site &&
	       a->name == b->name && a->kind == b->kind &&
	       a->parent == b->parent && a->owner == b->owner &&
	       a->bytes == b->bytes && a->peak == b->peak &&
	       a->misses == b->misses && a->failures == b->failures;
}

bool
weiri_region_read(
    const struct weiri_region *region, struct weiri_region_record *out)
{
	struct weiri_region_record before;

	if (!watch_load(region, &before))
		return false;
	for (unsigned try = 0; try < WATCH_TRIES; try++) {
		if (!watch_load(region, out))
			return false;
		if (watch_same(&before, out))
			break;
		before = *out;
	}
	if (out->name == NULL)
		out->name = out->kind;
	/* A reading of two moments may have the larger from the earlier. */
	out->peak = weiri_max(out->peak, out->bytes);
	return true;
}

/* ---- all of them ---------------------------------------------------------- */

struct watch_walk {
	weiri_region_visit_fn visit;
	void *context;
};

static void
watch_visit(struct weiri_region *region, void *context)
{
	const struct watch_walk *walk = context;
	struct weiri_region_record record;

	if (weiri_region_read(region, &record))
		walk->visit(&record, walk->context);
}

/* Locked.  Slots at rest are passed over unseen: their page may be gone. */
static void
watch_slabs(struct weiri_list *slabs, struct watch_walk *walk)
{
	WEIRI_LIST_FOR(node, slabs)
	{
		struct weiri_slab *slab =
		    WEIRI_CONTAINER_OF(node, struct weiri_slab, link);

		if (slab->idle)
			continue;
		for (size_t i = 0; i < slab->carved; i++)
			if (!weiri_bit_test(slab->free_bits, i))
				watch_visit(weiri_slab_address(slab, i), walk);
	}
}

static void
watch_supply(struct weiri_region_supply *supply, struct watch_walk *walk)
{
	for (unsigned bin = 0; bin < WEIRI_REGION_FIRSTS; bin++) {
		struct weiri_depot *depot =
		    weiri_region_first_depot(supply, bin);

		if (depot == NULL)
			continue;
		weiri_mutex_lock(&depot->lock);
		watch_slabs(&depot->full, walk);
		watch_slabs(&depot->partial, walk);
		weiri_mutex_unlock(&depot->lock);
	}
	weiri_region_place_walk(watch_visit, walk);
}

void
weiri_region_walk(weiri_region_visit_fn visit, void *context)
{
	struct watch_walk walk = {visit, context};
	struct weiri_region_supply *supply =
	    __atomic_load_n(&weiri_region_supply, __ATOMIC_ACQUIRE);

	weiri_region_tick_now();
	if (supply != NULL)
		watch_supply(supply, &walk);
	weiri_region_vm_walk(visit, context);
}

uint64_t
weiri_region_age_ns(uint32_t birth)
{
	uint32_t now = WEIRI_LOAD(&weiri_region_tick);

	/* Another thread may have told an older time since. */
	return now - birth > UINT32_MAX / 2 ? 0 : (uint64_t)(now - birth) << 24;
}

/* ---- the first in some order ------------------------------------------------ */

struct watch_top {
	enum weir_region_order order;
	bool mine_only;
	struct weir_region_info *out;
	size_t count; /* of out */
	size_t used;
	size_t found;
};

static void
watch_inform(
    const struct weiri_region_record *record, struct weir_region_info *out)
{
	*out = (struct weir_region_info){
	    .region = record->region,
	    .parent = record->parent,
	    .name = record->name,
	    .kind = record->kind,
	    .site = record->site,
	    .thread = record->owner,
	    .age_ns = weiri_region_age_ns(record->birth),
	    .bytes = record->bytes,
	    .bytes_peak = record->peak,
	    .misses = record->misses,
	    .failures = record->failures,
	    .mine = record->owner == weiri_local(),
	    .vm = record->is_vm,
	};
}

static uint64_t
watch_key(const struct weir_region_info *info, enum weir_region_order order)
{
	switch (order) {
	case WEIR_REGION_BY_AGE:
		return info->age_ns;
	case WEIR_REGION_BY_PEAK:
		return info->bytes_peak;
	case WEIR_REGION_BY_BYTES:
	default:
		return info->bytes;
	}
}

static void
watch_place(const struct weiri_region_record *record, void *context)
{
	struct watch_top *top = context;
	struct weir_region_info info;
	size_t at;

	if (top->mine_only && record->owner != weiri_local())
		return;
	top->found++;
	if (top->count == 0)
		return;
	watch_inform(record, &info);
	at = top->used;
	while (at > 0 && watch_key(&info, top->order) >
			     watch_key(&top->out[at - 1], top->order))
		at--;
	if (at == top->count)
		return;
	if (top->used < top->count)
		top->used++;
	memmove(&top->out[at + 1], &top->out[at],
	    (top->used - at - 1) * sizeof(top->out[0]));
	top->out[at] = info;
}

size_t
weir_region_top(enum weir_region_order order, unsigned flags,
    struct weir_region_info *out, size_t count)
{
	struct watch_top top = {
	    .order = order,
	    .mine_only = (flags & WEIR_REGION_MINE) != 0,
	    .out = out,
	    .count = count,
	};

	if ((unsigned)order > WEIR_REGION_BY_PEAK ||
	    (flags & ~WEIR_REGION_MINE) != 0)
		return 0;
	weiri_region_walk(watch_place, &top);
	return top.found;
}
