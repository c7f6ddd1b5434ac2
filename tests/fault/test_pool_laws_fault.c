/* SPDX-License-Identifier: MIT */
/*
 * test_pool_laws_fault.c - walkers of buffers, broadcasts, accounts and regions are
 * lied to, where a lie has to be made up: a block header in the middle of a slot, a
 * spare array that lies nowhere.
 *
 * test_laws_fault.c does the same with what these pools stand on.
 */
#include "walkers.h"

#include <weir/account.h>
#include <weir/broadcast.h>
#include <weir/weir.h>

#include "pages/supply.h"
#include "pools/broadcast.h"
#include "pools/buffer.h"
#include "pools/region_array.h"
#include "pools/region_vm.h"

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
