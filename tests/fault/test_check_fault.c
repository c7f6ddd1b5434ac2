/* SPDX-License-Identifier: MIT */
/*
 * test_check_fault.c - the walkers that say whether a pool is sound say what is
 * not.
 *
 * Each law that a walker tests is broken here, by hand and in a child, and the
 * walker has to name it.  One that never says no would pass every other test.
 */
#include "walkers.h"

#include <weir/broadcast.h>
#include <weir/weir.h>

#include "pages/extent.h"
#include "pages/near.h"
#include "pools/broadcast.h"
#include "pools/buffer.h"
#include "pools/heap.h"
#include "pools/region.h"
#include "slab/magazine.h"

#include <stdlib.h>
#include <string.h>

/* ---- depots ---------------------------------------------------------------- */

static struct weir_cache *
cache_make(enum weir_check_level check)
{
	struct weir_cache *cache = cache_take("broken", check);

	cache_return(cache);
	return cache;
}

/* The newest slab has slots that do not exist yet. */
static struct weiri_slab *
slab_growing(struct weiri_depot *depot)
{
	WEIRI_LIST_FOR(node, &depot->partial)
	{
		if (slab_of(node)->carved < slab_of(node)->slot_count)
			return slab_of(node);
	}
	FAIL("every slab is carved whole");
}

TEST(cache_walker_tells_each_sum_that_is_wrong)
{
	struct weir_cache *cache = cache_make(WEIR_CHECK_EACH);
	struct weiri_depot *depot = &cache->depot;

#define SUM(law, member) BREAKS(law, weir_cache_check(cache), depot->member++)
	SUM("D2: full_count", full_count);
	SUM("D2: empty_count", empty_count);
	SUM("D2: slabs", slab_count);
	SUM("D8: idle_count", idle_count);
	SUM("D2: carved", carved);
	SUM("D2: resting", resting);
	SUM("K2: voided", voided);
	SUM("D2: outside", outside);
	SUM("D6: spares", spare_slots);
	SUM("D7: withheld", withheld);
	SUM("W4: a waiter was passed", wait.passed);
#undef SUM
	BREAKS("D2: limit", weir_cache_check(cache), depot->limit = 5);
	/* Looked at first is whether the marks agree. */
	BREAKS("D2: full_slots", weir_cache_check(cache), {
		depot->full_slots++;
		depot->lost = UINT64_MAX;
	});
}

TEST(cache_walker_tells_what_is_wrong_with_a_slab)
{
	struct weir_cache *cache = cache_make(WEIR_CHECK_EACH);
	struct weiri_depot *depot = &cache->depot;
	struct weiri_slab *slab = slab_growing(depot);

	CHECK_EQ(slab->free_count, 0);
	BREAKS("S1: carved", weir_cache_check(cache), {
		weiri_bit_set(slab->free_bits, 0);
		slab->free_count = 1;
		slab->carved = slab->slot_count + 1;
	});
	BREAKS("S1: free_count", weir_cache_check(cache),
	    weiri_bit_set(slab->free_bits, slab->slot_count - 1));
	BREAKS("S1: free bit above carved", weir_cache_check(cache), {
		weiri_bit_set(slab->free_bits, slab->slot_count - 1);
		slab->free_count++;
	});
	BREAKS("S3: page map", weir_cache_check(cache),
	    slab->span.bytes += 512 * WEIRI_PAGE);
	BREAKS("D3: slab in the wrong list", weir_cache_check(cache), {
		weiri_list_remove(&slab->link);
		weiri_list_push(&depot->full, &slab->link);
	});
	BREAKS("D8: a slab at rest or not", weir_cache_check(cache),
	    slab->idle = !slab->idle);
	BREAKS(
	    "K1: voided", weir_cache_check(cache), slab->voided = UINT32_MAX);
}

TEST(cache_walker_tells_what_is_wrong_with_a_magazine)
{
	struct weir_cache *cache = cache_make(WEIR_CHECK_EACH);
	struct weiri_magazine *full = cache->depot.full_list;

	CHECK_NOT_NULL(full);

	uintptr_t *bottom = weiri_magazine_bottom(full);

	BREAKS("L2: magazine without its tag", weir_cache_check(cache),
	    *bottom = 0);
	BREAKS("D1: magazine holds a foreign slot", weir_cache_check(cache),
	    bottom[1] = (uintptr_t)&cache & ~(uintptr_t)15);
	BREAKS("D1: not a slot", weir_cache_check(cache), bottom[1] += 8);
	BREAKS("D1: slot in two places", weir_cache_check(cache),
	    bottom[1] = bottom[2]);
}

TEST(cache_walker_tells_marks_that_a_batch_has_too_many)
{
	struct weir_cache *cache = cache_make(WEIR_CHECK_BATCH);
	struct weiri_slab *slab =
	    (struct weiri_slab *)weiri_span_of(taken[TAKEN - 1]);

	BREAKS("D5: slots marked as stocked", weir_cache_check(cache),
	    slab->state[weiri_slab_slot(slab, taken[TAKEN - 1])] |=
	    WEIRI_STATE_STOCKED);
}

/* ---- the page supply ----------------------------------------------------------- */

TEST(page_walker_tells_each_sum_that_is_wrong)
{
	struct weir_cache *cache = cache_make(WEIR_CHECK_EACH);

	CHECK(weiri_pages_check());
	BREAKS("E4: bytes_reserved", weiri_pages_check(),
	    weiri_supply.bytes_reserved += WEIRI_PAGE);
	BREAKS("E4: bytes_in_spans", weiri_pages_check(),
	    weiri_supply.bytes_in_spans += WEIRI_PAGE);
	BREAKS("E4: bytes_retained", weiri_pages_check(),
	    weiri_supply.bytes_retained += WEIRI_PAGE);
	BREAKS("E2: the mask and a bucket differ", weiri_pages_check(),
	    weiri_supply.bucket_mask ^= 1u << 20);
	CHECK(weir_cache_check(cache));
}

TEST(page_walker_tells_what_is_wrong_with_an_extent)
{
	struct weir_cache *cache = cache_make(WEIR_CHECK_EACH);
	struct weiri_span *span = weiri_span_of(taken[0]);
	struct weiri_extent *extent = span->extent;
	uintptr_t unit =
	    ((uintptr_t)span->base - weiri_near_base()) >> WEIRI_NEAR_SHIFT;
	char *bare = NULL;

	CHECK(weiri_pages_check());
	CHECK(weir_cache_check(cache));
	BREAKS("E3: span_pages", weiri_pages_check(), extent->span_pages++);
	BREAKS("E3: dirty_pages", weiri_pages_check(), extent->dirty_pages++);
	BREAKS("E2: an extent is in a wrong bucket", weiri_pages_check(),
	    extent->order += extent->order > 0 ? -1 : 1);
	BREAKS("M1: a page of a span has no entry", weiri_pages_check(),
	    weiri_map_clear(span->base, span->bytes));
	BREAKS("M1: pages of one span have unlike entries", weiri_pages_check(),
	    weiri_map_clear(span->base + WEIRI_PAGE, WEIRI_PAGE));
	BREAKS("M1: an entry's tag is not its span's", weiri_pages_check(),
	    span->tag++);
	BREAKS("M1: an entry's span is not where its pages are",
	    weiri_pages_check(), span->first_page++);
	BREAKS("E3: a page of a span is not dirty", weiri_pages_check(),
	    weiri_bit_clear(extent->dirty, span->first_page));
	if (unit < WEIRI_NEAR_COUNT && span->bytes >= WEIRI_NEAR_UNIT)
		BREAKS("N1: a unit does not have its span's tag",
		    weiri_pages_check(), weiri_near_tag[unit]++);
	for (uint32_t at = extent->buddy.unit_count; at-- > 0 && bare == NULL;)
		if (weiri_page_entry(extent->base + at * WEIRI_PAGE) == 0)
			bare = extent->base + at * WEIRI_PAGE;
	CHECK_NOT_NULL(bare);
	BREAKS("M1: a free page has an entry", weiri_pages_check(),
	    weiri_map_set(bare, WEIRI_PAGE, span));
	BREAKS("E5: the spare is in use", weiri_pages_check(),
	    weiri_supply.spare = extent);
}

/* ---- heaps ----------------------------------------------------------------------- */

TEST(heap_walker_tells_what_is_wrong)
{
	struct weir_heap *heap;
	struct weiri_heap_run *run;
	struct weiri_heap_bin *bin;
	void *small, *large;

	CHECK_EQ(weir_heap_create("broken", NULL, &heap), 0);
	small = weir_heap_alloc(heap, 100);
	large = weir_heap_alloc(heap, 3 << 20);
	CHECK_NOT_NULL(small);
	CHECK_NOT_NULL(large);
	CHECK(weir_heap_check(heap));
	run = weiri_heap_run_of(weiri_span_of(large));
	bin = weiri_heap_bin_of(weiri_span_of(small));
	BREAKS("H2: mapped_bytes", weir_heap_check(heap),
	    heap->mapped_bytes += WEIRI_PAGE);
	BREAKS("H2: mapped_bytes", weir_heap_check(heap),
	    heap->limit_bytes = WEIRI_PAGE);
	BREAKS("H3: a run of another heap", weir_heap_check(heap),
	    run->heap = NULL);
	BREAKS("H3: page map", weir_heap_check(heap),
	    weiri_map_clear(run->span.base, WEIRI_PAGE));
	BREAKS(
	    "H3: counters of runs", weir_heap_check(heap), heap->run_count++);
	BREAKS(
	    "H3: counters of runs", weir_heap_check(heap), heap->run_asked++);
	BREAKS("H4: a size leads to another class", weir_heap_check(heap),
	    heap->quick[112 / WEIR_HEAP_ALIGN] = 0);
	BREAKS("H4: a tag leads to another class", weir_heap_check(heap),
	    heap->tag_offset[bin->depot.index] = 0);
	BREAKS("H4: a tag has the slots of another class",
	    weir_heap_check(heap), weiri_heap_shape[bin->depot.index].below++);
	BREAKS("H4: a tag has the slots of another class",
	    weir_heap_check(heap), weiri_heap_own[bin->depot.index].below++);
	BREAKS("D2: resting", weir_heap_check(heap), bin->depot.resting++);
	weir_heap_free(heap, small);
	weir_heap_free(heap, large);
	weir_heap_destroy(heap);
}

/* ---- buffers --------------------------------------------------------------------- */

TEST(buffer_walker_tells_what_is_wrong)
{
	struct weir_buffer_pool *pool;
	struct weir_buffer *held, *idle;
	struct weiri_buffer_tier *tier;

	CHECK_EQ(weir_buffer_pool_create("broken",
		     &(struct weir_buffer_pool_config){.limit_bytes = 64 << 20},
		     &pool),
	    0);
	held = weir_buffer_acquire(pool, 2000);
	idle = weir_buffer_acquire(pool, 2000);
	weir_buffer_release(idle);
	tier = weiri_buffer_tier(held);
	CHECK(weir_buffer_pool_check(pool));

#define BROKEN(law, ...) BREAKS(law, weir_buffer_pool_check(pool), __VA_ARGS__)
	BROKEN("is not a live pool", pool->state++);
	BROKEN("B1: a descriptor was changed", idle->bytes++);
	BROKEN("B1: a descriptor was changed", idle->tier++);
	BROKEN("B1: a descriptor was changed", idle->pool = NULL);
	BROKEN("B1: a descriptor was changed", idle->flags = 0);
	BROKEN("B1: a descriptor was changed", idle->data++);
	BROKEN("B1: a descriptor was changed", held->kernel = 2);
	BROKEN("B2: counts and depot disagree", idle->references = 1);
	BROKEN("B4: payload blocks", tier->payload_bytes++);
	BROKEN("B3: held_bytes is not what is held", pool->held_bytes++);
	BROKEN("B3: more is held than the limit", pool->limit_bytes = 1);
	BROKEN("D2: resting", tier->depot.resting++);
#undef BROKEN
	weir_buffer_release(held);
	weir_buffer_pool_destroy(pool);
}

/* ---- broadcasts ------------------------------------------------------------------- */

/* Takes @context bytes of what it is offered. */
static uint32_t
take_some(void *user, struct weir_slice slice, void *context)
{
	uint32_t most = *(uint32_t *)user;

	(void)context;
	return most < slice.bytes ? most : slice.bytes;
}

TEST(broadcast_walker_tells_what_is_wrong)
{
	static uint32_t all = UINT32_MAX, none, ten = 10;
	struct weir_buffer_pool *pool;
	struct weir_broadcast *b;
	uint32_t quick, slow, begun;
	struct weiri_message *first;

	CHECK_EQ(weir_buffer_pool_create("broken", NULL, &pool), 0);
	CHECK_EQ(weir_broadcast_create(
		     &(struct weir_broadcast_config){
			 .send = take_some, .limit_messages = 100},
		     &b),
	    0);
	CHECK_EQ(weir_broadcast_join(b, &all, &quick), 0);
	CHECK_EQ(weir_broadcast_join(b, &none, &slow), 0);
	CHECK_EQ(weir_broadcast_join(b, &ten, &begun), 0);
	for (unsigned i = 0; i < 3; i++)
		CHECK_EQ(weir_broadcast_publish(
			     b, weir_slice_make(
				    weir_buffer_acquire(pool, 100), 0, 100)),
		    0);
	CHECK(weir_broadcast_check(b));
	first = weiri_message_of(b->messages.next);

#define BROKEN(law, ...) BREAKS(law, weir_broadcast_check(b), __VA_ARGS__)
	BROKEN("R2: a message has other receivers", first->count++);
	BROKEN("R2: a message has other receivers", b->table[slow].flags = 0);
	BROKEN("R2: a message has other receivers", b->table[slow].at = NULL);
	BROKEN("R2: a message has other receivers", b->table[slow].previous++);
	BROKEN(
	    "R2: a message has other receivers", b->table[begun].offset = 100);
	BROKEN("R2: a message has other receivers", first->rest = true);
	BROKEN("R2: nobody waits", {
		first->first = WEIRI_RECEIVER_NONE;
		first->count = 0;
	});
	BROKEN("R3: a message is missing",
	    weiri_message_of(first->link.next)->serial++);
	BROKEN("R5: the number of rests", b->rest_count++);
	BROKEN("R5: the sums over the messages", b->message_count++);
	BROKEN("R5: the sums over the messages", b->pinned++);
	BROKEN("R1: a receiver is in no list", b->receivers++);
	BROKEN("R1: a receiver is in no list", b->table[quick].offset = 1);
	BROKEN("R5: more waits than the bounds", b->config.limit_messages = 1);
	BROKEN("R5: more waits than the bounds", b->config.limit_bytes = 1);
#undef BROKEN
	weir_broadcast_destroy(b);
	weir_buffer_pool_destroy(pool);
}

/* ---- regions ------------------------------------------------------------------------ */

static void
nothing(void *context)
{
	(void)context;
}

static struct weir_region *
region_make(struct weir_region *parent, size_t limit)
{
	static struct weir_region_kind kind = WEIR_REGION_KIND("broken");
	const struct weir_region_config config = {
	    .parent = parent, .limit_bytes = limit};
	struct weir_region *region;

	CHECK_EQ(weir_region_create(&kind, &config, &region), 0);
	return region;
}

TEST(region_walker_tells_what_is_wrong)
{
	struct weir_region *root = region_make(NULL, 0);
	struct weir_region *below = region_make(root, 0);
	struct weiri_region *region = weiri_region_of(root);
	struct weiri_region *child = weiri_region_of(below);
	struct weir_region_cleanup *armed = weir_region_cleanup_reserve(root);
	struct weiri_span *large;

	CHECK_NOT_NULL(armed);
	weir_region_cleanup_arm(root, armed, nothing, NULL);
	for (unsigned i = 0; i < 100; i++)
		CHECK_NOT_NULL(weir_region_alloc(root, 1000));
	CHECK_NOT_NULL(weir_region_alloc(root, 1 << 20));
	CHECK(weir_region_check(root));
	CHECK(weir_region_check(below));
	large =
	    WEIRI_CONTAINER_OF(region->larges.next, struct weiri_span, link);

#define BROKEN(law, ...) BREAKS(law, weir_region_check(root), __VA_ARGS__)
	BROKEN("not a live region", region->magic++);
	BROKEN("R2: a first block is no slot", region->first.block_class++);
	BROKEN("R2: a first block is no slot", region->first.bytes++);
	BROKEN("R2: a block is no slot", region->newest->bytes++);
	BROKEN("R2: a block is no slot", region->newest->block_class = 99);
	BROKEN("R2: no such sort of block", region->newest->kind = 99);
	BROKEN("R2: the chain of blocks does not end",
	    region->first.older = region->newest);
	BROKEN("R2: the chain does not end with the first",
	    region->newest->older = NULL);
	BROKEN("R3: the charge is not the sum", region->charged_bytes--);
	BROKEN("R3: the charge is above the limit", {
		region->attention |= WEIRI_HAS_LIMIT;
		region->limit_bytes = 1;
		weiri_list_init(&region->children);
	});
	BROKEN("R4: the list of large objects",
	    region->larges.next->prev = &armed->link);
	BROKEN("R4: pages do not map", large->kind = WEIRI_SPAN_SLAB);
	BROKEN("R4: pages do not map", large->bytes += 512 * WEIRI_PAGE);
	BROKEN("R5: the list of cleanups", armed->run = NULL);
	BROKEN(
	    "R5: the list of cleanups", armed->link.next->prev = &large->link);
	BROKEN("R6: the next block's size", region->max_class = 99);
	BROKEN("R6: the next block's size",
	    region->next_class = region->max_class + 1);
	BROKEN("R7: the attention lacks a bit", region->attention = 0);
	BROKEN("R8: the list of siblings", region->sibling.next = &armed->link);
#undef BROKEN
#define BROKEN(law, ...) BREAKS(law, weir_region_check(below), __VA_ARGS__)
	BROKEN("R7: the attention lacks a bit", child->attention = 0);
	BROKEN("R8: a region is in a list and has no parent", {
		weiri_list_remove(&child->sibling);
		weiri_list_init(&child->sibling);
	});
	BROKEN("R8: a limit does not count the regions below",
	    region->attention |= WEIRI_HAS_LIMIT);
#undef BROKEN
	weir_region_destroy(root);
}

TEST(region_walker_tells_a_budget_that_is_wrong)
{
	struct weir_region *root = region_make(NULL, 1 << 20);
	struct weir_region *below = region_make(root, 0);
	struct weiri_region *region = weiri_region_of(root);

	CHECK_NOT_NULL(weir_region_alloc(below, 5000));
	CHECK(weir_region_check(root));
	CHECK_NOT_NULL(region->rules);
	BREAKS("R3: a budget's sum", weir_region_check(root),
	    region->rules->used_bytes -= 16);
	BREAKS("R3: a budget is above its limit", weir_region_check(root),
	    region->rules->limit_bytes = 16);
	BREAKS("R3: a budget is above its limit", weir_region_check(root),
	    region->rules->peak_bytes = 16);
	BREAKS("R8: the rules are not those", weir_region_check(below),
	    weiri_region_of(below)->rules = NULL);
	weir_region_destroy(root);
}

TEST(region_walker_tells_room_cleanups_and_savepoints_that_are_wrong)
{
	struct weir_region *root = region_make(NULL, 0);
	struct weiri_region *region = weiri_region_of(root);
	static struct weir_region_cleanup elsewhere;
	struct weir_region_savepoint savepoint;
	struct weir_region_cleanup *cancelled;

	CHECK_EQ(weir_region_mark(root, &savepoint), 0);
	cancelled = weir_region_cleanup_reserve(root);
	CHECK_NOT_NULL(cancelled);
	weir_region_cleanup_arm(root, cancelled, nothing, NULL);
	weir_region_cleanup_cancel(root, cancelled);
	CHECK_PTR(region->cancelled, cancelled);
	CHECK_NOT_NULL(weir_region_alloc(root, 100));
	CHECK(weir_region_check(root));

#define BROKEN(law, ...) BREAKS(law, weir_region_check(root), __VA_ARGS__)
	BROKEN("R1: next or end is not a multiple", root->next++);
	BROKEN("R1: next is not in the block", root->next = root->end + 16);
	BROKEN("R1: next is not in the block", root->next -= 1 << 20);
	BROKEN("R1: end is not the end of a block", root->end -= 16);
	BROKEN("R5: a cancelled cleanup is not in the region",
	    region->cancelled = &elsewhere);
	BROKEN("R5: a cleanup to use again is not cancelled",
	    cancelled->run = nothing);
	BROKEN("R5: an armed cleanup is not in the region", {
		elsewhere.run = nothing;
		weiri_list_push(&region->cleanups, &elsewhere.link);
	});
	BROKEN("R9: savepoints in force are missing",
	    weiri_list_init(&region->cleanups));
	BROKEN(
	    "R9: savepoints are not numbered in order", region->first.marks++);
	BROKEN("A1: spare arrays nobody would drop",
	    region->attention |= WEIRI_HAS_SPARES);
#undef BROKEN
	weir_region_destroy(root);
}

TEST(vm_walker_tells_what_is_wrong)
{
	struct weir_region_vm *vm;

	CHECK_EQ(
	    weir_region_vm_create("broken",
		&(struct weir_region_vm_config){.reserve_bytes = 1 << 20}, &vm),
	    0);
	CHECK_NOT_NULL(weir_region_vm_alloc(vm, 1000));
	CHECK(weir_region_vm_check(vm));
	BREAKS("N1: next is not between", weir_region_vm_check(vm),
	    vm->next = vm->end + 16);
	BREAKS("N1: next is no multiple", weir_region_vm_check(vm), vm->next++);
	BREAKS(
	    "N1: end is not that", weir_region_vm_check(vm), vm->end += 4096);
	weir_region_vm_destroy(vm);
}

/* ---- accounts --------------------------------------------------------------------------- */

TEST(account_walker_tells_what_is_wrong)
{
	struct weir_account root, below;

	CHECK_EQ(weir_account_init(
		     &root, &(struct weir_account_config){.name = "root"}),
	    0);
	CHECK_EQ(weir_account_init(
		     &below, &(struct weir_account_config){.name = "below",
				 .parent = &root}),
	    0);
	CHECK(weir_account_charge(&below, 100));
	CHECK(weir_account_check(&root));
	BREAKS("A3: an account below has another parent",
	    weir_account_check(&root), below.parent = NULL);
	BREAKS("A3: the number of accounts below", weir_account_check(&root),
	    root.children++);
	BREAKS("A1: the accounts below have more", weir_account_check(&root),
	    below.used += 16);
	BREAKS("a caller is inside", weir_account_check(&root),
	    root.used |= UINT64_C(1) << 63);
	weir_account_uncharge(&below, 100);
	weir_account_finish(&below);
	weir_account_finish(&root);
}
