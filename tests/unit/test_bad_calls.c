/* SPDX-License-Identifier: MIT */
/*
 * test_bad_calls.c - what every kind of pool says to the same bad input: figures
 * of a size that nobody knows, fields that are to be zero, nothing to end.
 */
#include "support/test.h"

#include <weir/broadcast.h>
#include <weir/weir.h>

#include <errno.h>
#include <string.h>

static _Alignas(64) char storage[64 << 10];

struct all {
	struct weir_cache *cache;
	struct weir_heap *heap;
	struct weir_buffer_pool *buffers;
	struct weir_buddy *buddy;
	struct weir_bounded *bounded;
	struct weir_broadcast *broadcast;
	struct weir_region *region;
	struct weir_region_vm *vm;
	struct weir_quota *quota;
	struct weir_account account;
};

static const struct weir_bounded_config bounded_config = {.object_bytes = 64,
    .object_count = 64};
static const struct weir_buddy_config buddy_config = {.unit_count = 64};
static struct weir_region_kind kind = WEIR_REGION_KIND("bad");

static uint32_t
send_all(void *user, struct weir_slice slice, void *context)
{
	(void)user, (void)context;
	return slice.bytes;
}

static void
all_make(struct all *all)
{
	CHECK_EQ(
	    weir_cache_create("bad",
		&(struct weir_cache_config){.object_bytes = 64}, &all->cache),
	    0);
	CHECK_EQ(weir_heap_create("bad", NULL, &all->heap), 0);
	CHECK_EQ(weir_buffer_pool_create("bad", NULL, &all->buffers), 0);
	CHECK_EQ(weir_buddy_create("bad", &buddy_config, &all->buddy), 0);
	CHECK_EQ(weir_bounded_init(storage, sizeof(storage), "bad",
		     &bounded_config, &all->bounded),
	    0);
	CHECK_EQ(weir_broadcast_create(
		     &(struct weir_broadcast_config){.send = send_all},
		     &all->broadcast),
	    0);
	CHECK_EQ(weir_region_create(&kind, NULL, &all->region), 0);
	CHECK_EQ(weir_region_vm_create("bad",
		     &(struct weir_region_vm_config){.reserve_bytes = 1 << 20},
		     &all->vm),
	    0);
	CHECK_EQ(weir_quota_create("bad", 1 << 20, &all->quota), 0);
	CHECK_EQ(weir_account_init(&all->account,
		     &(struct weir_account_config){.name = "bad"}),
	    0);
}

static void
all_end(struct all *all)
{
	weir_cache_destroy(all->cache);
	weir_heap_destroy(all->heap);
	weir_buffer_pool_destroy(all->buffers);
	weir_buddy_destroy(all->buddy);
	weir_bounded_finish(all->bounded);
	weir_broadcast_destroy(all->broadcast);
	weir_region_destroy(all->region);
	weir_region_vm_destroy(all->vm);
	weir_quota_destroy(all->quota);
	weir_account_finish(&all->account);
}

/* Read with the size that is right, with one more and with none: what is not
 * known is refused, and nothing is written to it. */
#define READS(type, call)                                             \
	do {                                                          \
		type figures_ = {.size = sizeof(figures_)};           \
		type before_, *out = &figures_;                       \
		CHECK_EQ(call, 0);                                    \
		for (unsigned size = 0; size < 2; size++) {           \
			memset(out, 0xa5, sizeof(*out));              \
			out->size = size == 0 ? 0 : sizeof(*out) + 1; \
			memcpy(&before_, out, sizeof(*out));          \
			CHECK_EQ(call, -EINVAL);                      \
			CHECK_MEM(out, &before_, sizeof(*out));       \
		}                                                     \
	} while (0)

TEST(figures_of_a_size_nobody_knows_are_refused)
{
	struct all all;

	all_make(&all);
	READS(struct weir_pool_stats, weir_cache_stats(all.cache, out));
	READS(struct weir_pool_stats, weir_heap_stats(all.heap, out));
	READS(struct weir_pool_stats,
	    weir_buffer_pool_stats(all.buffers, 0, out));
	READS(struct weir_pool_stats, weir_buddy_stats(all.buddy, out));
	READS(struct weir_buddy_orders, weir_buddy_orders_read(all.buddy, out));
	READS(struct weir_buddy_orders, weir_pages_orders_read(out));
	READS(struct weir_pool_stats, weir_bounded_stats(all.bounded, out));
	READS(struct weir_broadcast_figures,
	    weir_broadcast_stats(all.broadcast, out));
	READS(struct weir_chunk_figures, weir_chunk_stats(all.buffers, out));
	READS(struct weir_region_figures, weir_region_stats(all.region, out));
	READS(struct weir_pool_stats, weir_region_kind_stats(&kind, out));
	READS(struct weir_region_vm_figures, weir_region_vm_stats(all.vm, out));
	READS(struct weir_quota_figures, weir_quota_stats(all.quota, out));
	READS(
	    struct weir_account_figures, weir_account_stats(&all.account, out));
	READS(struct weir_guard_stats, weir_guard_read(out));
	READS(struct weir_stats, weir_stats_read(out));
	all_end(&all);
}

TEST(there_is_nothing_to_end_where_there_is_nothing)
{
	struct weir_slice slice = {0};

	weir_cache_destroy(NULL);
	weir_heap_destroy(NULL);
	weir_buffer_pool_destroy(NULL);
	weir_buddy_destroy(NULL);
	weir_buddy_finish(NULL);
	weir_bounded_finish(NULL);
	weir_bounded_hide(NULL);
	weir_broadcast_destroy(NULL);
	weir_region_destroy(NULL);
	weir_region_vm_destroy(NULL);
	weir_quota_destroy(NULL);
	weir_account_finish(NULL);
	weir_buffer_release(NULL);
	weir_slice_release(&slice);
	weir_region_reset(NULL);
}

TEST(nothing_is_freed_where_there_is_nothing)
{
	struct all all;
	void *const none[3] = {NULL, NULL, NULL};

	all_make(&all);
	weir_cache_free(all.cache, NULL);
	weir_cache_free_bulk(all.cache, 3, none);
	weir_heap_free(all.heap, NULL);
	weir_heap_free_sized(all.heap, NULL, 100);
	CHECK_EQ(weir_usable_size(NULL), 0);
	weir_buddy_free(all.buddy, WEIR_BUDDY_NONE);
	weir_buddy_free_address(all.buddy, NULL);
	weir_bounded_free(all.bounded, NULL);
	weir_region_free(all.region, NULL, 0);
	CHECK(weir_cache_check(all.cache));
	CHECK(weir_heap_check(all.heap));
	CHECK(weir_buddy_check(all.buddy));
	CHECK(weir_bounded_check(all.bounded));
	CHECK(weir_region_check(all.region));
	all_end(&all);
}

/* Each call that makes something, with a word set that is to be zero: refused,
 * and nothing was made. */
#define REFUSES(type, call)               \
	do {                              \
		type *out = (type *)&out; \
		CHECK_EQ(call, -EINVAL);  \
		CHECK_NULL(out);          \
	} while (0)

TEST(what_must_be_zero_and_is_not_is_refused)
{
	struct weir_cache_config cache = {.object_bytes = 64};
	struct weir_heap_config heap = {0};
	struct weir_buffer_pool_config buffers = {0};
	struct weir_buddy_config buddy = buddy_config;
	struct weir_bounded_config bounded = bounded_config;
	struct weir_broadcast_config broadcast = {.send = send_all};
	struct weir_region_vm_config vm = {.reserve_bytes = 1 << 20};
	struct weir_account_config account = {.name = "bad"};
	struct weir_account made;

	cache.reserved[0] = 1;
	heap.reserved[1] = 1;
	buffers.reserved[0] = 1;
	buddy.reserved[3] = 1;
	bounded.reserved[2] = 1;
	broadcast.reserved[0] = 1;
	vm.reserved[0] = 1;
	account.reserved[0] = 1;
	REFUSES(struct weir_cache, weir_cache_create("bad", &cache, &out));
	REFUSES(struct weir_heap, weir_heap_create("bad", &heap, &out));
	REFUSES(struct weir_buffer_pool,
	    weir_buffer_pool_create("bad", &buffers, &out));
	REFUSES(struct weir_buddy, weir_buddy_create("bad", &buddy, &out));
	REFUSES(struct weir_bounded,
	    weir_bounded_init(storage, sizeof(storage), "bad", &bounded, &out));
	REFUSES(struct weir_broadcast, weir_broadcast_create(&broadcast, &out));
	REFUSES(struct weir_region_vm, weir_region_vm_create("bad", &vm, &out));
	CHECK_EQ(weir_account_init(&made, &account), -EINVAL);
}

/* The same configuration with one field that cannot be. */
#define REFUSES_WITH(type, config, field, value, call) \
	do {                                           \
		type bad_ = (config), *bad = &bad_;    \
		bad->field = (value);                  \
		CHECK_EQ(call, -EINVAL);               \
	} while (0)

TEST(fields_out_of_range_are_refused)
{
	static const struct weir_account_config account = {
	    .name = "bad", .limit_bytes = 1000};
	static const struct weir_chunk_config chunk = {0};
	static const struct weir_broadcast_config broadcast = {
	    .send = send_all};
	struct weir_buffer_pool *pool;
	struct weir_account made;
	struct weir_chunk writer;
	struct weir_broadcast *b;
	struct weir_buddy *buddy;

	CHECK_EQ(weir_buffer_pool_create("bad", NULL, &pool), 0);
#define ACCOUNT(field, value)                                           \
	REFUSES_WITH(struct weir_account_config, account, field, value, \
	    weir_account_init(&made, bad))
	ACCOUNT(pause_bytes, 1001);
	ACCOUNT(reserve_bytes, 1001);
	ACCOUNT(reserved0, 1);
	ACCOUNT(reserved[3], 1);
	CHECK_EQ(weir_account_init(
		     &made, &(struct weir_account_config){.reserve_bytes = 1}),
	    -EINVAL);
#undef ACCOUNT
#define CHUNK(field, value)                                         \
	REFUSES_WITH(struct weir_chunk_config, chunk, field, value, \
	    weir_chunk_init(&writer, pool, bad))
	CHUNK(bytes, UINT32_MAX);
	CHUNK(align, 3);
	CHUNK(align, 1u << 20);
	CHUNK(use, (enum weir_buffer_use)3);
	CHUNK(reserved0, 1);
#undef CHUNK
	REFUSES_WITH(struct weir_broadcast_config, broadcast, send, NULL,
	    weir_broadcast_create(bad, &b));
	REFUSES_WITH(struct weir_broadcast_config, broadcast, policy,
	    (enum weir_slow_policy)99, weir_broadcast_create(bad, &b));
	REFUSES_WITH(struct weir_buddy_config, buddy_config, unit_count, 0,
	    weir_buddy_create("bad", bad, &buddy));
	REFUSES_WITH(struct weir_buddy_config, buddy_config, unit_bytes, 64,
	    weir_buddy_init(NULL, sizeof(storage), "bad", bad, &buddy));
	CHECK_EQ(weir_buddy_init(storage + 1, sizeof(storage) - 1, "bad",
		     &buddy_config, &buddy),
	    -EINVAL);
	CHECK_EQ(weir_buddy_init(storage, 64, "bad", &buddy_config, &buddy),
	    -EINVAL);
	CHECK_EQ(weir_buddy_storage_bytes(0), 0);
	CHECK_EQ(weir_buddy_storage_bytes(SIZE_MAX), 0);
	weir_buffer_pool_destroy(pool);
}

/* What a driver may leave out, and messages that reach nobody. */
TEST(a_broadcast_without_listeners_or_words_keeps_nothing)
{
	struct weir_buffer_pool *pool;
	struct weir_broadcast *b;
	struct weir_broadcast_figures figures = {.size = sizeof(figures)};
	struct weir_slice slice;
	uint32_t number[40];

	CHECK_EQ(weir_buffer_pool_create("bad", NULL, &pool), 0);
	CHECK_EQ(weir_broadcast_create(
		     &(struct weir_broadcast_config){.send = send_all}, &b),
	    0);
	slice = weir_slice_make(weir_buffer_acquire(pool, 100), 0, 100);
	CHECK_EQ(weir_broadcast_publish(b, slice), 0);
	CHECK_EQ(weir_broadcast_stats(b, &figures), 0);
	CHECK_EQ(figures.messages, 0);
	for (size_t i = 0; i < 40; i++)
		CHECK_EQ(weir_broadcast_join(b, NULL, &number[i]), 0);
	slice = weir_slice_make(weir_buffer_acquire(pool, 100), 50, 0);
	CHECK_EQ(weir_broadcast_publish(b, slice), 0);
	for (size_t i = 0; i < 40; i++)
		weir_broadcast_leave(b, number[i]);
	CHECK(weir_broadcast_check(b));
	weir_broadcast_destroy(b);
	weir_buffer_pool_destroy(pool); /* nothing of them is held */
}

TEST(the_largest_account_is_found_without_asking_how_large)
{
	struct weir_account root, below;

	CHECK_EQ(weir_account_init(&root, &(struct weir_account_config){0}), 0);
	CHECK_EQ(weir_account_init(
		     &below, &(struct weir_account_config){.parent = &root}),
	    0);
	CHECK(weir_account_charge(&below, 10));
	CHECK_PTR(weir_account_largest(&root, NULL), &below);
	weir_account_uncharge(&below, 10);
	weir_account_finish(&below);
	weir_account_finish(&root);
}

TEST(guard_refuses_what_it_does_not_know)
{
	CHECK_EQ(
	    weir_guard_set_policy((enum weir_fault_class)(WEIR_FAULT_COUNT + 1),
		WEIR_GUARD_ABORT),
	    -EINVAL);
	CHECK_EQ(weir_guard_set_policy(
		     WEIR_FAULT_OVERFLOW, (enum weir_guard_policy)99),
	    -EINVAL);
	CHECK_EQ(
	    weir_guard_set_policy(WEIR_FAULT_COUNT, WEIR_GUARD_BY_MODE), 0);
	CHECK_EQ(weir_guard_set(NULL), 0);
}
