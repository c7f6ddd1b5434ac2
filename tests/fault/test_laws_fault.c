/* SPDX-License-Identifier: MIT */
/*
 * test_laws_fault.c - walkers of slabs, pages and buddies are lied to, where a lie
 * has to be made up.
 *
 * What test_check_fault.c breaks with one number is broken there.  Here are the
 * laws that stand behind others: a page of the system that is dirty in part, a
 * slab at rest before others, records that are listed twice.  A walker that reads
 * these on the way to a crash is to name them instead.
 */
#include "walkers.h"

#include <weir/buddy.h>
#include <weir/weir.h>

#include "config/config.h"
#include "pages/budget.h"
#include "pages/extent.h"
#include "pages/near.h"
#include "slab/shard.h"

#include <string.h>
#include <sys/mman.h>

/* ---- depots ---------------------------------------------------------------- */

/* With magazines in shards as well as in the stock. */
static struct weir_cache *
cache_make(const char *name)
{
	struct weir_cache *cache = cache_take(name, WEIR_CHECK_EACH);

	weiri_shards_make(&cache->depot, 2);
	cache_return(cache);
	return cache;
}

/* The word of a full magazine in some shard. */
static uintptr_t *
shard_word(const struct weir_cache *cache)
{
	struct weiri_shards *shards = weiri_shards_of(&cache->depot);

	CHECK_NOT_NULL(shards);
	for (unsigned i = 0; i < shards->count; i++)
		for (unsigned w = 0; w < WEIRI_SHARD_WORDS; w++)
			if (shards->shard[i].full[w] != 0)
				return &shards->shard[i].full[w];
	FAIL("no shard has a full magazine");
}

TEST(cache_walker_tells_what_is_wrong_with_a_shard)
{
	NOT_UNDER_GUARD("objects under guard lie in no magazine");

	struct weir_cache *cache = cache_make("broken");
	struct weiri_shards *shards = weiri_shards_of(&cache->depot);
	uintptr_t *full = shard_word(cache);
	struct weiri_magazine *magazine = weiri_spare_magazine(*full);

	BREAKS("H1: an empty magazine with slots", weir_cache_check(cache),
	    shards->shard[1].empty[1] = *full);
	BREAKS("H1: a full magazine that is not", weir_cache_check(cache),
	    (*full)--);
	BREAKS("L2: magazine without its tag", weir_cache_check(cache),
	    *weiri_magazine_bottom(magazine) = 0);
	BREAKS(
	    "D6: spares", weir_cache_check(cache), cache->depot.spare_slots--);
}

TEST(cache_walker_tells_what_is_wrong_with_a_threads_magazines)
{
	NOT_UNDER_GUARD("objects under guard lie in no magazine");

	struct weir_cache *cache = cache_make("broken");
	struct weir_cache *other = cache_make("other");
	struct weir_local *local = weiri_local();
	uint32_t cell = cache->depot.cell;
	uintptr_t *cursor, *bottom;

	weir_cache_free(cache, weir_cache_alloc(cache));
	cursor = local->cursor[cell];
	bottom = weiri_magazine_bottom(weiri_cursor_magazine(cursor));
	CHECK_GT(cursor - bottom, 0);
	BREAKS("L2: magazine without its tag", weir_cache_check(cache),
	    *bottom = 0);
	BREAKS("D1: magazine holds a foreign slot", weir_cache_check(cache),
	    *cursor = (uintptr_t)taken[TAKEN - 1]);
	CHECK(weir_cache_check(other));
}

/* As if all its slots rested, and none ever was. */
static void
slab_lay_down(struct weiri_slab *slab)
{
	memset(slab->free_bits, 0,
	    WEIRI_BITMAP_WORDS(slab->slot_count) * sizeof(uint64_t));
	slab->free_count = slab->carved = 0;
	slab->idle = true;
}

TEST(cache_walker_tells_slabs_at_rest_before_others)
{
	NOT_UNDER_GUARD("slabs hold what the others do not");

	struct weir_cache *cache = cache_make("broken");
	struct weiri_depot *depot = &cache->depot;
	struct weiri_list *spent = depot->full.next;

	CHECK(!weiri_list_empty(&depot->partial));
	CHECK(spent != &depot->full);
	BREAKS("D8: slabs at rest are not the last", weir_cache_check(cache), {
		slab_lay_down(slab_of(depot->partial.next));
		weiri_list_remove(spent);
		slab_of(spent)->carved--;
		weiri_list_append(&depot->partial, spent);
	});
	/* In the list of the spent ones the order says nothing. */
	BREAKS("D1: not a slot", weir_cache_check(cache),
	    slab_lay_down(slab_of(depot->partial.next)));
}

/* ---- the page supply ----------------------------------------------------------- */

static void
span_make(struct weiri_span *span, size_t bytes)
{
	*span = (struct weiri_span){.kind = WEIRI_SPAN_OTHER, .tag = 3};
	CHECK_EQ(weiri_span_alloc(span, bytes, WEIRI_PAGE), 0);
}

static struct weiri_extent *
extent_of(struct weiri_list *node)
{
	return WEIRI_CONTAINER_OF(node, struct weiri_extent, all);
}

static uintptr_t
near_unit(const char *address)
{
	return ((uintptr_t)address - weiri_near_base()) >> WEIRI_NEAR_SHIFT;
}

#define PAGES_BREAK(law, ...) BREAKS(law, weiri_pages_check(), __VA_ARGS__)

TEST(page_walker_tells_each_way_a_span_is_not_where_its_pages_are)
{
	struct weiri_span span, *known;
	struct weiri_extent *extent;
	const char *last;

	span_make(&span, 4 * WEIRI_PAGE);
	extent = span.extent;
	last =
	    extent->base + (size_t)(extent->buddy.unit_count - 1) * WEIRI_PAGE;
	known = weiri_span_of(span.base);
	CHECK_PTR(known, &span);
	CHECK(weiri_pages_check());
	PAGES_BREAK("M1: an entry's span is not where", known->extent = NULL);
	PAGES_BREAK(
	    "M1: an entry's span is not where", known->base += WEIRI_PAGE);
	PAGES_BREAK(
	    "M1: an entry's span is not where", known->bytes += WEIRI_PAGE);
	if (near_unit(last) < WEIRI_NEAR_COUNT)
		PAGES_BREAK("N1: a unit of free pages has a tag",
		    weiri_near_tag[near_unit(last)] = 1);
	weiri_span_free(&span);
}

TEST(page_walker_tells_sums_that_agree_with_each_other_alone)
{
	struct weiri_span span;
	struct weiri_extent *extent;
	int order;

	span_make(&span, WEIRI_PAGE);
	extent = span.extent;
	order = extent->order;
	CHECK_GT(order, 0);
	PAGES_BREAK("E2: a bucket holds another's extent", {
		weiri_list_remove(&extent->bucket);
		weiri_list_push(
		    &weiri_supply.bucket[order - 1], &extent->bucket);
		weiri_supply.bucket_mask ^= 3u << (unsigned)(order - 1);
	});
	PAGES_BREAK("M2: the page map's charge", {
		struct weiri_extent *last =
		    extent_of(weiri_supply.extents.prev);

		last->block.bytes += weiri_map_reach();
		weiri_supply.bytes_reserved += weiri_map_reach();
	});
	PAGES_BREAK("charged is not spans + retained + metadata",
	    CHECK(weiri_budget_charge(WEIRI_PAGE)));
	weiri_span_free(&span);
}

TEST(page_walker_tells_extents_that_overlap)
{
	struct weiri_span spans[2];
	struct weiri_list *first;

	for (size_t i = 0; i < WEIRI_COUNT_OF(spans); i++)
		span_make(&spans[i], (size_t)70 << 20);
	first = weiri_supply.extents.next;
	CHECK(first->next != &weiri_supply.extents);
	PAGES_BREAK("E1: two extents overlap or are out of order",
	    extent_of(first->next)->block.base = extent_of(first)->block.base);
	for (size_t i = 0; i < WEIRI_COUNT_OF(spans); i++)
		weiri_span_free(&spans[i]);
}

/* What the system would not unmap is kept, and asked for again. */
TEST(page_walker_tells_a_kept_extent_that_is_none)
{
	struct weiri_span large, span;
	struct weiri_extent *spare;

	span_make(&large, (size_t)3 << 20);
	span_make(&span, WEIRI_PAGE);
	weiri_span_free(&large);
	weiri_span_free(&span);
	spare = weiri_supply.spare;
	CHECK_NOT_NULL(spare);
	CHECK(weiri_pages_check());
	PAGES_BREAK("E5: the spare is in use", spare->block.may_give = false);
	PAGES_BREAK("E2: an extent is in a wrong bucket", {
		weiri_list_remove(&spare->all);
		weiri_list_push(&weiri_supply.kept, &spare->all);
	});
	PAGES_BREAK("E5: a kept extent is in use", {
		spare->block.may_give = false;
		weiri_list_remove(&spare->all);
		weiri_list_push(&weiri_supply.kept, &spare->all);
	});
	span_make(&span, WEIRI_PAGE);
	PAGES_BREAK("E5: a kept extent is in use", {
		weiri_list_remove(&span.extent->all);
		weiri_list_push(&weiri_supply.kept, &span.extent->all);
	});
	weiri_span_free(&span);
}

/* On systems with pages of 64 KiB, sixteen of ours come and go together. */
TEST(page_walker_tells_a_page_of_the_system_that_is_dirty_in_part)
{
	if (weiri_os_page_bytes() > WEIRI_SYSTEM_PAGE_MAX)
		SKIP("pages of the system are larger than that");
	weiri_os_set_page_bytes(WEIRI_SYSTEM_PAGE_MAX);

	struct weiri_span span;
	struct weiri_extent *extent;
	uint32_t last;

	span_make(&span, WEIRI_PAGE);
	extent = span.extent;
	last = extent->buddy.unit_count - 1;
	CHECK_EQ(extent->grain, WEIRI_SYSTEM_PAGE_MAX / WEIRI_PAGE);
	CHECK(!weiri_bit_test(extent->dirty, last));
	CHECK(weiri_pages_check());
	PAGES_BREAK("E6: a page of the system is dirty in part", {
		weiri_bit_set(extent->dirty, last);
		extent->dirty_pages++;
	});
	weiri_span_free(&span);
}

/* A range that begins in the middle of an extent's alignment has a hole before
 * it, whose pages are nobody's. */
TEST(page_walker_tells_a_hole_that_has_an_entry)
{
	static WEIRI_ALIGNED(4096) char range[6 << 20];
	struct weir_config config = {
	    .flags = WEIR_IGNORE_ENVIRONMENT,
	    .source = {.kind = WEIR_SOURCE_RANGE,
		.base = range + 3 * WEIRI_PAGE,
		.bytes = sizeof(range) - 3 * WEIRI_PAGE},
	};
	struct weiri_span span;
	struct weiri_extent *extent;

	CHECK_EQ(weiri_config_set(&config), 0);
	span_make(&span, WEIRI_PAGE);
	extent = span.extent;
	CHECK_GT(extent->hole, 0);
	CHECK(weiri_pages_check());
	PAGES_BREAK("M1: a page of a hole has an entry",
	    weiri_map_set(extent->base, WEIRI_PAGE, &span));
	weiri_span_free(&span);
}

TEST(page_walker_tells_records_that_are_listed_wrong)
{
	enum { BYTES = 3000 };
	struct weiri_span span;
	void *record, **next;

	span_make(&span, WEIRI_PAGE);
	next = record = weiri_meta_alloc(BYTES);
	CHECK_NOT_NULL(record);
	weiri_meta_free(record, BYTES);
	CHECK(weiri_pages_check());
	PAGES_BREAK(
	    "T2: a free record out of line", *next = (char *)record + 8);
	PAGES_BREAK("T3: more free records than paid for", *next = record);
	PAGES_BREAK("T4: free lines of units and free records differ", {
		void *second = weiri_meta_alloc(BYTES);
		void *first = weiri_meta_alloc(BYTES);

		weiri_meta_free(second, BYTES);
		weiri_meta_free(first, BYTES);
		CHECK_PTR(*(void **)first, second);
		*(void **)first = NULL;
	});
	weiri_span_free(&span);
}

/* ---- buddies ---------------------------------------------------------------------- */

TEST(buddy_walker_tells_a_block_that_ends_outside_and_a_list_that_does)
{
	enum { UNITS = 10 };
	static uint64_t records[UNITS * 9 / 8 + 1];
	struct weiri_buddy_core core;
	uint32_t count;

	weiri_buddy_core_init(&core, UNITS, records);
	CHECK_NULL(weiri_buddy_core_check(&core));
	CHECK_EQ(core.free[1], 8);
	core.state[8]++;
	CHECK_STR(
	    weiri_buddy_core_check(&core), "B2: a free block out of line");
	core.state[8]--;
	CHECK_EQ(weiri_buddy_core_alloc(&core, 1, 1), 8);
	core.state[9]++;
	CHECK_STR(
	    weiri_buddy_core_check(&core), "B2: a free block out of line");
	core.state[9]--;
	CHECK_EQ(weiri_buddy_core_free(&core, 8, &count), WEIRI_BUDDY_OK);
	core.free[1] = UNITS;
	CHECK_STR(weiri_buddy_core_check(&core),
	    "B4: a list holds what is not its block");
	core.free[1] = 8;
	CHECK_NULL(weiri_buddy_core_check(&core));
}

TEST(buddy_core_splits_runs_and_nothing_else)
{
	enum { UNITS = 10 };
	static uint64_t records[UNITS * 9 / 8 + 1];
	struct weiri_buddy_core core;
	uint32_t count;

	weiri_buddy_core_init(&core, UNITS, records);
	CHECK_EQ(weiri_buddy_core_alloc(&core, 6, 1), 0);
	CHECK_EQ(weiri_buddy_core_split(&core, UNITS, 1), WEIRI_BUDDY_OUTSIDE);
	CHECK_EQ(weiri_buddy_core_split(&core, 3, 1), WEIRI_BUDDY_INTERIOR);
	CHECK_EQ(weiri_buddy_core_split(&core, 8, 1), WEIRI_BUDDY_FREE);
	CHECK_EQ(weiri_buddy_core_split(&core, 0, 6), WEIRI_BUDDY_FULL);
	CHECK_EQ(weiri_buddy_core_split(&core, 0, 4), WEIRI_BUDDY_OK);
	CHECK_NULL(weiri_buddy_core_check(&core));
	CHECK_EQ(weiri_buddy_core_free(&core, 4, &count), WEIRI_BUDDY_OK);
	CHECK_EQ(count, 2);
	CHECK_EQ(weiri_buddy_core_free(&core, 0, &count), WEIRI_BUDDY_OK);
	CHECK_EQ(count, 4);
	CHECK_EQ(core.free_count, UNITS);
	CHECK_NULL(weiri_buddy_core_check(&core));
}

/* Its records are 18 GiB of addresses, of which two pages are touched. */
TEST(buddy_of_the_most_units_is_one_block)
{
	size_t bytes = weiri_buddy_core_bytes(WEIRI_BUDDY_UNITS_MAX);
	void *records = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	struct weiri_buddy_core core;
	uint32_t count;

	if (records == MAP_FAILED)
		SKIP("the system has not so many addresses");
	weiri_buddy_core_init(&core, WEIRI_BUDDY_UNITS_MAX, records);
	CHECK_EQ(weiri_buddy_core_largest(&core), WEIRI_BUDDY_ORDERS - 1);
	CHECK_EQ(weiri_buddy_core_alloc(&core, 1, 1), 0);
	CHECK_EQ(core.free_count, WEIRI_BUDDY_UNITS_MAX - 1);
	CHECK_EQ(weiri_buddy_core_free(&core, 0, &count), WEIRI_BUDDY_OK);
	CHECK_EQ(core.order_mask, UINT32_C(1) << (WEIRI_BUDDY_ORDERS - 1));
	CHECK_EQ(munmap(records, bytes), 0);
}

TEST(buddy_pool_names_itself_when_its_records_were_overwritten)
{
	enum { UNITS = 100 };
	size_t bytes = weir_buddy_storage_bytes(UNITS);
	char *storage = malloc(bytes);
	struct weir_buddy *buddy;

	CHECK_NOT_NULL(storage);
	CHECK_EQ(weir_buddy_init(storage, bytes, "worn",
		     &(struct weir_buddy_config){.unit_count = UNITS}, &buddy),
	    0);
	CHECK_EQ(weir_buddy_alloc(buddy, UNITS), 0);
	CHECK(weir_buddy_check(buddy));
	/* The states of the units come last: this one is inside the run. */
	BREAKS("buddy \"worn\": B1: a head inside a block or run",
	    weir_buddy_check(buddy), storage[bytes - 10] = (char)0x80);
	weir_buddy_free(buddy, 0);
	weir_buddy_finish(buddy);
	free(storage);
}
