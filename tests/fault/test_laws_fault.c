/* SPDX-License-Identifier: MIT */
/*
 * test_laws_fault.c - walkers are lied to, where a lie has to be made up.
 *
 * What test_check_fault.c breaks with one number is broken there.  Here are the
 * laws that stand behind others: a block header in the middle of a slot, a page
 * of the system that is dirty in part, a spare array that lies nowhere, records
 * that are listed twice.  A walker that reads these on the way to a crash is to
 * name them instead.
 */
#include "test.h"

#include <weir/account.h>
#include <weir/broadcast.h>
#include <weir/buddy.h>
#include <weir/weir.h>

#include "config/config.h"
#include "pages/budget.h"
#include "pages/extent.h"
#include "pages/near.h"
#include "pools/broadcast.h"
#include "pools/buffer.h"
#include "pools/cache.h"
#include "pools/region_array.h"
#include "pools/region_vm.h"
#include "slab/shard.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* The walker says that @law does not hold once this was done. */
#define BREAKS(law, sound, ...)  \
	EXPECT_ABORT(law, {      \
		__VA_ARGS__;     \
		if (!(sound))    \
			abort(); \
	})

/* ---- depots ---------------------------------------------------------------- */

enum { TAKEN = 3000 };

static void *taken[TAKEN];

/* Slabs of all sorts, and full magazines in shards and in the stock. */
static struct weir_cache *
cache_make(const char *name)
{
	struct weir_cache *cache;

	CHECK_EQ(weir_cache_create(name,
		     &(struct weir_cache_config){.object_bytes = 200}, &cache),
	    0);
	for (size_t i = 0; i < TAKEN; i++)
		taken[i] = weir_cache_alloc(cache);
	weiri_shards_make(&cache->depot, 2);
	for (size_t i = 0; i < 1900; i++)
		weir_cache_free(cache, taken[i]);
	CHECK(weir_cache_check(cache));
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

static struct weiri_slab *
slab_of(struct weiri_list *node)
{
	return WEIRI_CONTAINER_OF(node, struct weiri_slab, link);
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

/* ---- buffers and broadcasts --------------------------------------------------------- */

TEST(buffer_walker_tells_payload_blocks_that_are_not_its_slabs)
{
	struct weir_buffer_pool *pool;
	struct weir_buffer *held;
	struct weiri_buffer_tier *tier;
	struct weiri_payload *payload;

	CHECK_EQ(weir_buffer_pool_create("broken", NULL, &pool), 0);
	held = weir_buffer_acquire(pool, 2000);
	CHECK_NOT_NULL(held);
	tier = weiri_buffer_tier(held);
	CHECK(weir_buffer_pool_check(pool));
	payload = WEIRI_CONTAINER_OF(
	    tier->payloads.next, struct weiri_payload, span.link);
#define BROKEN(law, ...) BREAKS(law, weir_buffer_pool_check(pool), __VA_ARGS__)
	BROKEN("B1: a descriptor was changed", payload->slab->companion = NULL);
	BROKEN("B1: a descriptor was changed", payload->tier = NULL);
	BROKEN("B4: payload blocks do not match", {
		tier->payload_bytes -= payload->span.bytes;
		weiri_list_remove(&payload->span.link);
		weir_buffer_release(held);
	});
#undef BROKEN
	weir_buffer_release(held);
	weir_buffer_pool_destroy(pool);
}

/* Ten bytes of what it is offered. */
static uint32_t
take_ten(void *user, struct weir_slice slice, void *context)
{
	(void)user;
	(void)context;
	return slice.bytes < 10 ? slice.bytes : 10;
}

/* Of a message that went on without its receiver the rest is kept for it. */
TEST(broadcast_walker_tells_rests_that_are_wrong)
{
	struct weir_buffer_pool *pool;
	struct weir_broadcast *b;
	struct weiri_message *rest;
	uint32_t number;

	CHECK_EQ(weir_buffer_pool_create("broken", NULL, &pool), 0);
	CHECK_EQ(weir_broadcast_create(
		     &(struct weir_broadcast_config){
			 .send = take_ten, .limit_messages = 2},
		     &b),
	    0);
	CHECK_EQ(weir_broadcast_join(b, NULL, &number), 0);
	for (unsigned i = 0; i < 5; i++)
		CHECK_EQ(weir_broadcast_publish(
			     b, weir_slice_make(
				    weir_buffer_acquire(pool, 100), 0, 100)),
		    0);
	CHECK_GT(b->rest_count, 0);
	CHECK(weir_broadcast_check(b));
	rest = weiri_message_of(b->rests.next);
#define BROKEN(law, ...) BREAKS(law, weir_broadcast_check(b), __VA_ARGS__)
	BROKEN("R2: a message has other receivers", rest->rest = false);
	BROKEN(
	    "R2: a message has other receivers", b->table[number].offset = 0);
	BROKEN("R2: nobody waits", {
		rest->first = WEIRI_RECEIVER_NONE;
		rest->count = 0;
	});
	BROKEN("R5: the number of rests is wrong", b->rest_count++);
#undef BROKEN
	weir_broadcast_destroy(b);
	weir_buffer_pool_destroy(pool);
}

TEST(account_walker_tells_one_below_that_ended)
{
	struct weir_account root, below;

	CHECK_EQ(weir_account_init(&root, NULL), 0);
	CHECK_EQ(weir_account_init(
		     &below, &(struct weir_account_config){.parent = &root}),
	    0);
	CHECK(weir_account_check(&root));
	BREAKS("A3: an account below has another parent",
	    weir_account_check(&root), below.state = 0);
	weir_account_finish(&below);
	weir_account_finish(&root);
}

/* ---- regions ------------------------------------------------------------------------ */

static void
nothing(void *context)
{
	(void)context;
}

static struct weiri_region *
region_make(const struct weir_region_config *config)
{
	static struct weir_region_kind kind = WEIR_REGION_KIND("broken");
	struct weir_region *region;

	CHECK_EQ(weir_region_create(&kind, config, &region), 0);
	return weiri_region_of(region);
}

#define REGION_BREAKS(law, ...) \
	BREAKS(law, weir_region_check(&region->bump), __VA_ARGS__)

/* A block that says of itself what a sound one of another class would. */
static void
block_pretend(struct weiri_region_block *block, unsigned class, size_t bytes)
{
	block->block_class = (uint8_t) class;
	block->bytes = (uint32_t)bytes;
}

TEST(region_walker_tells_headers_that_look_like_blocks)
{
	static struct weiri_region_block apart = {.kind = WEIRI_BLOCK_DEPOT};
	struct weiri_region *region = region_make(NULL);
	struct weiri_region_block *fake, *block;

	for (unsigned i = 0; i < 100; i++)
		CHECK_NOT_NULL(weir_region_alloc(&region->bump, 1000));
	fake = weir_region_alloc(&region->bump, sizeof(*fake) + 1024);
	CHECK_NOT_NULL(fake);
	block = region->newest;
	CHECK_EQ(block->kind, WEIRI_BLOCK_DEPOT);
	CHECK(weir_region_check(&region->bump));
	REGION_BREAKS(
	    "R2: a block is not inside one span", region->newest = &apart);
	REGION_BREAKS(
	    "R2: a block is not inside one span", block->bytes = UINT32_MAX);
	REGION_BREAKS("R2: a block is no slot of its depot", {
		*fake = *block;
		block_pretend(fake, 0, WEIRI_REGION_CLASS_BYTES(0));
		region->newest = fake;
	});
	/* Of the right depot, and not where a slot begins. */
	REGION_BREAKS("R2: a block is no slot of its depot", {
		const struct weiri_region_block copy = *block;

		region->newest = (void *)((char *)block + WEIR_REGION_ALIGN);
		*region->newest = copy;
	});
	REGION_BREAKS("R2: a first block is no slot of its depot",
	    region->first.block_class = 99);
	REGION_BREAKS("R2: a first block is no slot of its depot",
	    block_pretend(&region->first, 0, WEIRI_REGION_BIN_BYTES(0)));
	weir_region_destroy(&region->bump);
}

TEST(region_walker_tells_blocks_of_pages_that_are_others)
{
	struct weiri_region *region = region_make(&(struct weir_region_config){
	    .first_bytes = 1024, .block_bytes_max = 1 << 20});
	struct weiri_region_block *block;

	while (region->newest->kind != WEIRI_BLOCK_PAGES)
		CHECK_NOT_NULL(weir_region_alloc(&region->bump, 900));
	block = region->newest;
	CHECK(weir_region_check(&region->bump));
	REGION_BREAKS("R2: a block's pages are not its descriptor's",
	    block->bytes -= 4096);
	REGION_BREAKS("R2: a block's pages are not its descriptor's", {
		static struct weiri_region_pages other;

		block->pages = &other;
	});
	REGION_BREAKS("R2: a block is no slot of its depot", {
		block->kind = WEIRI_BLOCK_DEPOT;
		block_pretend(block, 0, WEIRI_REGION_CLASS_BYTES(0));
	});
	weir_region_destroy(&region->bump);
}

TEST(region_walker_tells_large_objects_that_are_others)
{
	struct weiri_region *region = region_make(NULL);
	struct weiri_region_pages *first, *second;
	struct weir_region_cleanup *handle;

	CHECK_NOT_NULL(weir_region_alloc(&region->bump, 1 << 20));
	CHECK_NOT_NULL(weir_region_alloc(&region->bump, 1 << 20));
	handle = weir_region_cleanup_reserve(&region->bump);
	CHECK_NOT_NULL(handle);
	weir_region_cleanup_arm(&region->bump, handle, nothing, NULL);
	first = WEIRI_CONTAINER_OF(
	    region->larges.next, struct weiri_region_pages, span.link);
	second = WEIRI_CONTAINER_OF(
	    region->larges.prev, struct weiri_region_pages, span.link);
	CHECK(weir_region_check(&region->bump));
	REGION_BREAKS("R4: the list of large objects",
	    second->span.link.prev = &region->larges);
	REGION_BREAKS("R4: the list of large objects",
	    first->span.link.prev = &second->span.link);
	if (!first->guarded)
		REGION_BREAKS("R4: pages do not map to their descriptor",
		    weiri_map_clear(first->span.base, WEIRI_PAGE));
	REGION_BREAKS("R3: the charge is not the sum of the parts",
	    region->peak_bytes = region->charged_bytes - 1);
	REGION_BREAKS("R5: the list of cleanups is broken",
	    handle->link.prev = &second->span.link);
	weir_region_destroy(&region->bump);
}

TEST(region_walker_tells_siblings_that_do_not_know_each_other)
{
	struct weiri_region *root = region_make(NULL);
	const struct weir_region_config below = {.parent = &root->bump};
	struct weiri_region *a = region_make(&below);
	struct weiri_region *region = region_make(&below);

	CHECK(weir_region_check(&region->bump));
	REGION_BREAKS("R8: the list of siblings is broken",
	    a->sibling.prev = &root->children);
	REGION_BREAKS("R8: the list of siblings is broken",
	    root->children.next = &a->sibling);
	weir_region_destroy(&root->bump);
}

/* Guarded objects stand in the list of large ones. */
TEST(region_walker_tells_an_object_under_guard_that_is_anothers)
{
	struct weiri_region *region;
	struct weiri_region_pages *pages;

	CHECK_EQ(weir_guard_set(
		     &(struct weir_guard_config){.mode = WEIR_GUARD_FULL}),
	    0);
	region = region_make(NULL);
	CHECK_NOT_NULL(weir_region_alloc(&region->bump, 100));
	CHECK_NOT_NULL(weir_region_alloc(&region->bump, 100));
	pages = WEIRI_CONTAINER_OF(
	    region->larges.next, struct weiri_region_pages, span.link);
	CHECK(pages->guarded);
	CHECK(weir_region_check(&region->bump));
	REGION_BREAKS("R4: an object under guard is another's",
	    pages->span.base = WEIRI_CONTAINER_OF(
		region->larges.prev, struct weiri_region_pages, span.link)
				   ->span.base);
	weir_region_destroy(&region->bump);
}

/* ---- spare arrays ---------------------------------------------------------------- */

/* As region_realloc.c writes them. */
struct spare {
	struct spare *next;
	uint64_t mark;
};

/* @spare's mark says that it has @bytes. */
static void
spare_say(const struct weiri_region_spares *spares, struct spare *spare,
    uint64_t bytes)
{
	spare->mark = (spares->id * UINT64_C(0x9e3779b97f4a7c15)) ^
		      (uintptr_t)spare ^ bytes;
}

TEST(region_walker_tells_spare_arrays_that_lie_nowhere)
{
	NOT_UNDER_GUARD("arrays are not used again");

	struct weiri_region *region = region_make(NULL);
	struct weiri_region_spares *spares;
	static WEIRI_ALIGNED(16) struct spare apart;
	struct spare **list = NULL, *spare;
	char *array = weir_region_alloc(&region->bump, 2048);
	uint64_t bytes;

	CHECK_NOT_NULL(array);
	CHECK_NOT_NULL(weir_region_alloc(&region->bump, 16));
	CHECK_NOT_NULL(weir_region_realloc(&region->bump, array, 2048, 3000));
	spares = weiri_region_spares(region);
	CHECK_NOT_NULL(spares);
	for (unsigned i = 0; i < WEIRI_SPARE_CLASSES; i++)
		if (spares->list[i] != NULL)
			list = (struct spare **)(void *)&spares->list[i];
	CHECK_NOT_NULL(list);
	spare = *list;
	bytes = spare->mark ^ (spares->id * UINT64_C(0x9e3779b97f4a7c15)) ^
		(uintptr_t)spare;
	CHECK_EQ(bytes % 16, 0);
	CHECK(weir_region_check(&region->bump));

#define SPARE_BREAKS(...) \
	REGION_BREAKS("A1, A2: no spare array of its class", __VA_ARGS__)
	SPARE_BREAKS({
		spare_say(spares, &apart, bytes);
		*list = &apart;
	});
	SPARE_BREAKS({
		*list = (struct spare *)(void *)&region->parent;
		spare_say(spares, *list, bytes);
	});
	SPARE_BREAKS(spare_say(spares, spare, 0));
	SPARE_BREAKS(spare_say(spares, spare, bytes + 8));
	SPARE_BREAKS(spare_say(spares, spare, bytes * 2));
	/* Behind what was handed out. */
	SPARE_BREAKS({
		*list = (struct spare *)(void *)region->bump.next;
		spare_say(spares, *list, bytes);
	});
	SPARE_BREAKS({
		*list = (struct spare *)(void *)(region->bump.next + 16);
		spare_say(spares, *list, bytes);
	});
#undef SPARE_BREAKS
	REGION_BREAKS("A1: spare arrays do not end", spare->next = spare);
	weir_region_destroy(&region->bump);
}

/* ---- regions of addresses ----------------------------------------------------------- */

TEST(vm_walker_tells_sums_that_are_wrong)
{
	NOT_UNDER_GUARD("what is committed is the guard's");

	struct weir_region_vm *bump;
	struct weiri_region_vm *vm;

	CHECK_EQ(weir_region_vm_create("broken",
		     &(struct weir_region_vm_config){.reserve_bytes = 1 << 20},
		     &bump),
	    0);
	CHECK_NOT_NULL(weir_region_vm_alloc(bump, 1000));
	vm = WEIRI_CONTAINER_OF(bump, struct weiri_region_vm, bump);
	CHECK(weir_region_vm_check(bump));
#define BROKEN(law, ...) BREAKS(law, weir_region_vm_check(bump), __VA_ARGS__)
	BROKEN("N1: next is not between base and end",
	    bump->next = vm->range.base - 16);
	BROKEN("N2: more is committed than allowed", vm->limit_bytes = 0);
	BROKEN(
	    "N2: more is committed than allowed", vm->limit_bytes = SIZE_MAX);
	BROKEN("N2: not whole pages", vm->limit_bytes--);
	BROKEN("N2: touched beyond what is committed",
	    vm->touched_bytes = vm->range.committed_bytes + 1);
#undef BROKEN
	weir_region_vm_destroy(bump);
}
