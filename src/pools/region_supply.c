/* SPDX-License-Identifier: MIT */
/*
 * region_supply.c - the blocks behind all regions.
 *
 * A depot for each size up to 64 KiB: a block that a region gives back is on
 * top of the thread's magazine when the next region wants one, and an idle
 * thread's spare magazine can be taken by others and by trim.  Larger blocks
 * and large objects are spans, with descriptors from a depot too.
 *
 * First blocks have depots of their own, so that what lies in one, from its
 * first use on, is the header of a region: a region that begins finds most of
 * its own, and whoever lists the live regions walks over the slots.  A slot
 * that never was a region has a header of zeros.
 *
 * Slots of which many are in use should lie close: their slabs are as large as
 * it takes for the pages at both ends not to matter, and the slots end where the
 * slab ends.  They are not shifted by colours, which would touch another page;
 * most sizes are an odd multiple of a cache line or more, and shift themselves.
 *
 * A depot of first blocks is made when a region or a kind first wants blocks of
 * its size: programs use a few of them, and each takes a cell of every thread.
 *
 * The supply is made by the first region without a lock: a thread makes one in
 * private and publishes it by compare-and-exchange; whoever comes second takes
 * its own apart.  So there is no moment at which another thread would wait, at
 * which a fork could leave a lock behind in the child, or at which the program's
 * out-of-memory hook (it may use regions) would meet a lock of ours.
 */
#include "pools/region.h"

#include "base/text.h"
#include "pages/near.h"
#include "slab/cursor.h"

#include <errno.h>

struct weiri_region_supply *weiri_region_supply;
uintptr_t weiri_region_near_base = (uintptr_t)1 << 63;

struct weiri_depot *
weiri_region_supply_depot(struct weiri_region_supply *supply, unsigned index)
{
	if (index < WEIRI_REGION_FIRSTS)
		return weiri_region_first_depot(supply, index);
	index -= WEIRI_REGION_FIRSTS;
	return index < WEIRI_REGION_DEPOTS ? &supply->block[index]
					   : &supply->pages;
}

static void
region_slot_init(struct weiri_slab *slab, void *slot, void *owner)
{
	uint64_t *word = slot;

	(void)slab;
	(void)owner;
	/* Who lists regions may be looking (region_watch.c). */
	for (size_t i = 0; i < sizeof(struct weiri_region) / 8; i++)
		WEIRI_STORE(&word[i], 0);
}

const struct weiri_depot_hooks weiri_region_first_hooks = {
    .slot_init = region_slot_init,
};

/* ---- registry --------------------------------------------------------- */

static void
region_supply_stats(struct weiri_pool *pool, struct weir_pool_stats *out)
{
	struct weiri_region_supply *supply =
	    WEIRI_CONTAINER_OF(pool, struct weiri_region_supply, pool);

	out->limit = UINT64_MAX;
	for (unsigned i = 0; i < WEIRI_REGION_SUPPLIES; i++) {
		struct weiri_depot *depot =
		    weiri_region_supply_depot(supply, i);
		struct weiri_depot_stats stats;

		if (depot == NULL)
			continue;
		weiri_depot_stats(depot, &stats);
		out->total += stats.total;
		out->in_use += stats.in_use;
		out->available += stats.total - stats.in_use;
		out->cached += stats.cached;
		out->in_use_peak += stats.peak;
		out->requests += stats.requests;
		out->hits += stats.hits;
		out->misses += stats.misses;
		out->failures += stats.failures;
		weiri_depot_add_bytes(depot, &stats, depot->slot_bytes, out);
		if (depot != &supply->pages)
			continue;

		/* Descriptors of pages: regions are charged for the pages. */
		uint64_t held = stats.in_use * depot->slot_bytes;

		out->bytes_in_use -= held;
		out->bytes_overhead += held;
	}
	out->exact = WEIR_EXACT_COUNTS;
}

static size_t
region_supply_trim(struct weiri_pool *pool)
{
	struct weiri_region_supply *supply =
	    WEIRI_CONTAINER_OF(pool, struct weiri_region_supply, pool);
	size_t bytes = 0;

	for (unsigned i = 0; i < WEIRI_REGION_SUPPLIES; i++) {
		struct weiri_depot *depot =
		    weiri_region_supply_depot(supply, i);

		if (depot != NULL)
			bytes += weiri_depot_trim(depot);
	}
	return bytes;
}

static void
region_supply_fork_lock(struct weiri_pool *pool)
{
	(void)pool;
	weiri_region_place_fork_lock();
}

static void
region_supply_fork_unlock(struct weiri_pool *pool)
{
	(void)pool;
	weiri_region_place_fork_unlock();
}

/* Who looked at what is idle is not in the child. */
static void
region_supply_fork_child(struct weiri_pool *pool)
{
	struct weiri_region_supply *supply =
	    WEIRI_CONTAINER_OF(pool, struct weiri_region_supply, pool);

	if (!WEIRI_LOAD(&supply->looking))
		return;
	WEIRI_STORE(&supply->stirred, true);
	WEIRI_STORE(&supply->looking, false);
}

static const struct weiri_pool_ops region_supply_ops = {
    .stats = region_supply_stats,
    .trim = region_supply_trim,
    .fork_lock = region_supply_fork_lock,
    .fork_unlock = region_supply_fork_unlock,
    .fork_child = region_supply_fork_child,
};

/* ---- start ------------------------------------------------------------ */

#define REGION_SLAB_BYTES_MIN ((size_t)64 << 10)
#define REGION_SLAB_BYTES_MAX ((size_t)256 << 10)

/* Of the pages that slots touch, as much may lie beside them. */
#define REGION_SLAB_LOSS 64

static size_t
region_slab_bytes(size_t slot_bytes)
{
	size_t bytes = REGION_SLAB_BYTES_MIN;

	while (bytes < REGION_SLAB_BYTES_MAX) {
		size_t slots = bytes / slot_bytes * slot_bytes;
		size_t loss = weiri_round_up(slots, WEIRI_PAGE) - slots;

		if (loss * REGION_SLAB_LOSS <= slots)
			break;
		bytes *= 2;
	}
	return bytes;
}

static const char *
region_depot_name(
    char name[WEIRI_REGION_DEPOT_NAME], const char *what, size_t bytes)
{
	struct weiri_text text = {
	    .buffer = name,
	    .bytes = WEIRI_REGION_DEPOT_NAME,
	};

	weiri_text_str(&text, what);
	if (bytes < 1024) {
		weiri_text_u64(&text, bytes);
		weiri_text_str(&text, " B");
	} else {
		weiri_text_fixed(&text, bytes * 10 >> 10, 1);
		weiri_text_str(&text, " KiB");
	}
	return name;
}

/* What every slot of the size has, side by side. */
static size_t
region_slot_align(size_t slot_bytes)
{
	return weiri_min(slot_bytes & (0 - slot_bytes), WEIRI_PAGE);
}

static int
region_first_init(struct weiri_region_first *first, unsigned bin)
{
	size_t bytes = weiri_region_bin_bytes(bin);
	struct weiri_depot_config config = {
	    .kind = "region",
	    .name = region_depot_name(first->name, "regions of ", bytes),
	    .slot_bytes = bytes,
	    .slot_align = region_slot_align(bytes),
	    .limit = SIZE_MAX,
	    .hooks = &weiri_region_first_hooks,
	};

	if (bin <= WEIRI_REGION_BIN_STEPS) {
		config.slab_bytes = region_slab_bytes(bytes);
		config.head_bytes = config.slab_bytes % bytes;
	}
	return weiri_depot_init(&first->depot, &config);
}

/* Without a lock, as the supply itself. */
static WEIRI_COLD struct weiri_depot *
region_first_add(struct weiri_region_supply *supply, unsigned bin, bool urgent)
{
	struct weiri_region_first *first, *seen = NULL;

	first = urgent ? weiri_meta_need(sizeof(*first))
		       : weiri_meta_alloc(sizeof(*first));
	if (WEIR_UNLIKELY(first == NULL))
		return NULL;
	if (WEIR_UNLIKELY(region_first_init(first, bin) != 0)) {
		weiri_meta_free(first, sizeof(*first));
		return NULL;
	}
	/* Pairs with the acquire in weiri_region_first_depot(), and with that
	 * of the thread that loses here and goes on with the winner's. */
	if (__atomic_compare_exchange_n(&supply->first[bin], &seen, first,
		false, __ATOMIC_RELEASE, __ATOMIC_ACQUIRE))
		return &first->depot;
	weiri_depot_finish(&first->depot);
	weiri_meta_free(first, sizeof(*first));
	return &seen->depot;
}

struct weiri_depot *
weiri_region_first_make(unsigned bin, bool urgent)
{
	struct weiri_region_supply *supply = weiri_region_supply_now();
	struct weiri_depot *depot;

	WEIR_ASSERT(bin < WEIRI_REGION_FIRSTS);
	depot = weiri_region_first_depot(supply, bin);
	if (WEIR_UNLIKELY(depot == NULL))
		depot = region_first_add(supply, bin, urgent);
	return depot;
}

/* Of those that are not made late: blocks, and last the descriptors. */
static int
region_later_init(struct weiri_region_supply *supply, unsigned block_class)
{
	size_t bytes = WEIRI_REGION_CLASS_BYTES(block_class);
	struct weiri_depot_config config = {
	    .kind = "region",
	    .name = "descriptors",
	    .slot_bytes = weiri_round_up(
		sizeof(struct weiri_region_pages), WEIRI_CACHE_LINE),
	    .slot_align = WEIRI_CACHE_LINE,
	    .limit = SIZE_MAX,
	};

	if (block_class == WEIRI_REGION_DEPOTS)
		return weiri_depot_init(&supply->pages, &config);
	config.name =
	    region_depot_name(supply->name[block_class], "blocks of ", bytes);
	config.slot_bytes = bytes;
	config.slot_align = region_slot_align(bytes);
	return weiri_depot_init(&supply->block[block_class], &config);
}

static void
region_later_finish(struct weiri_region_supply *supply, unsigned count)
{
	if (count > WEIRI_REGION_DEPOTS)
		weiri_depot_finish(&supply->pages);
	while (count > 0)
		if (--count < WEIRI_REGION_DEPOTS)
			weiri_depot_finish(&supply->block[count]);
}

static WEIRI_COLD int
region_supply_make(void)
{
	struct weiri_region_supply *supply = weiri_meta_need(sizeof(*supply));
	struct weiri_region_supply *seen = NULL;
	unsigned made = 0;
	int status = -ENOMEM;

	if (supply == NULL)
		return -ENOMEM;
	WEIRI_STORE(&weiri_region_near_base, weiri_near_base());
	weiri_region_tick_now();
	while (made <= WEIRI_REGION_DEPOTS) {
		if (region_later_init(supply, made) != 0)
			goto undo;
		made++;
	}
	status = 0;
	/* Pairs with the acquire in weiri_region_supply_start(), and with that
	 * of the thread that loses here and goes on with the winner's. */
	if (!__atomic_compare_exchange_n(&weiri_region_supply, &seen, supply,
		false, __ATOMIC_RELEASE, __ATOMIC_ACQUIRE))
		goto undo;
	weiri_pool_register(&supply->pool, WEIR_POOL_REGION, "region blocks",
	    &region_supply_ops, true);
	return 0;

undo:
	region_later_finish(supply, made);
	weiri_meta_free(supply, sizeof(*supply));
	return status;
}

int
weiri_region_supply_start(void)
{
	if (WEIR_LIKELY(__atomic_load_n(
			    &weiri_region_supply, __ATOMIC_ACQUIRE) != NULL))
		return 0;
	return region_supply_make();
}

/* ---- blocks ----------------------------------------------------------- */

struct weiri_region *
weiri_region_first_take(unsigned bin)
{
	struct weiri_depot *depot = weiri_region_first_make(bin, true);
	struct weiri_region *region;

	if (WEIR_UNLIKELY(depot == NULL))
		return NULL;
	region = weiri_depot_get(depot);
	if (WEIR_LIKELY(region != NULL)) {
		region->first.bytes = weiri_region_sizes[bin];
		region->first.pages = NULL;
		region->first.kind = WEIRI_BLOCK_FIRST;
		region->first.block_class = (uint8_t)bin;
	}
	return region;
}

void
weiri_region_first_give(struct weiri_region *region)
{
	if (WEIR_UNLIKELY(region->first.kind == WEIRI_BLOCK_PLACED))
		weiri_region_place_leave(region);
	else
		weiri_depot_put(
		    weiri_region_first_depot(
			weiri_region_supply_now(), region->first.block_class),
		    region);
}

struct weiri_region_block *
weiri_region_block_take(unsigned block_class)
{
	struct weiri_region_pages *pages = NULL;
	struct weiri_region_block *block;

	if (WEIR_LIKELY(block_class < WEIRI_REGION_DEPOTS)) {
		block = weiri_depot_get(
		    &weiri_region_supply_now()->block[block_class]);
	} else {
		pages = weiri_region_pages_take(
		    WEIRI_REGION_CLASS_BYTES(block_class), WEIRI_PAGE);
		block = pages != NULL ? (void *)pages->span.base : NULL;
	}
	if (WEIR_LIKELY(block != NULL)) {
		block->pages = pages;
		block->bytes = (uint32_t)WEIRI_REGION_CLASS_BYTES(block_class);
		block->kind =
		    pages == NULL ? WEIRI_BLOCK_DEPOT : WEIRI_BLOCK_PAGES;
		block->block_class = (uint8_t)block_class;
	}
	return block;
}

void
weiri_region_block_give(struct weiri_region_block *block)
{
	if (WEIR_LIKELY(block->kind == WEIRI_BLOCK_DEPOT)) {
		weiri_depot_put(
		    &weiri_region_supply_now()->block[block->block_class],
		    block);
	} else if (block->kind == WEIRI_BLOCK_PAGES) {
		weiri_region_pages_give(block->pages, WEIRI_GUARD_FREE);
	} else {
		/* Of a region that was merged into another. */
		struct weiri_region *region =
		    WEIRI_CONTAINER_OF(block, struct weiri_region, first);

		WEIRI_STORE(&region->owner, NULL);
		weiri_region_first_give(region);
	}
}

/* ---- pages ------------------------------------------------------------ */

struct weiri_region_pages *
weiri_region_pages_take(size_t bytes, size_t align)
{
	struct weiri_region_pages *pages =
	    weiri_depot_get(&weiri_region_supply_now()->pages);

	if (WEIR_UNLIKELY(pages == NULL))
		return NULL;
	pages->span.kind = WEIRI_SPAN_REGION;
	pages->span.tag = 0;
	pages->region = NULL;
	pages->order = 0;
	pages->guarded = false;
	weiri_list_init(&pages->span.link);
	if (WEIR_UNLIKELY(weiri_span_alloc(&pages->span, bytes,
			      weiri_max(align, WEIRI_PAGE)) != 0)) {
		weiri_depot_put(&weiri_region_supply_now()->pages, pages);
		return NULL;
	}
	return pages;
}

void
weiri_region_pages_give(
    struct weiri_region_pages *pages, enum weiri_guard_how how)
{
	if (WEIR_UNLIKELY(pages->guarded)) {
		weiri_region_guard_give(pages, how);
		return;
	}
	weiri_span_free(&pages->span);
	weiri_depot_put(&weiri_region_supply_now()->pages, pages);
}

/* Reads nothing that is not known to be ours. */
bool
weiri_region_in_block(const struct weiri_region *region)
{
	const struct weiri_span *span = weiri_span_of(region);

	if (span == NULL || span->kind != WEIRI_SPAN_SLAB)
		return false;

	/* The span is the first member of the slab (depot.h). */
	const struct weiri_slab *slab = (const struct weiri_slab *)span;

	return weiri_region_depot_is_first(slab->depot) &&
	       weiri_slab_index(slab, region) != SIZE_MAX;
}
