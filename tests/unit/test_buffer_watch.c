/* SPDX-License-Identifier: MIT */
/*
 * test_buffer_watch.c - who holds which buffer, since when, taken where; and
 * whose it is while the kernel has it.
 */
#include "buffer_common.h"

#include "pools/buffer.h"

#include <weir/buffer_limit.h>
#include <weir/buffer_watch.h>

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static void
nap(uint64_t ns)
{
	struct timespec time = {.tv_nsec = (long)ns};

	nanosleep(&time, NULL);
}

/* The newest @count events. */
static uint64_t
newest(const struct weir_buffer *buffer, unsigned count)
{
	return buffer->history & ((UINT64_C(1) << 4 * count) - 1);
}

/* ---- history, age, place ------------------------------------------------- */

TEST(buffer_history_has_the_last_sixteen_events)
{
	/* Under guard the descriptor would rest before its next life. */
	CHECK_EQ(weir_guard_set(&(struct weir_guard_config){0}), 0);

	struct weir_buffer_pool *pool = pool_make(NULL);
	struct weir_buffer *b = weir_buffer_acquire(pool, 100);

	CHECK_EQ(newest(b, 2), 0x01);
	weir_buffer_retain(b);
	weir_buffer_release(b);
	CHECK_EQ(newest(b, 3), 0x123);
	for (int i = 0; i < 20; i++)
		weir_buffer_release(weir_buffer_retain(b));
	CHECK_EQ(b->history, 0x2323232323232323);
	weir_buffer_set_wipe(b);
	weir_buffer_release(b);
	/* The life before is there still. */
	CHECK_PTR(weir_buffer_acquire(pool, 100), b);
	CHECK_EQ(newest(b, 4), 0x3451);
	weir_buffer_release(b);
	pool_end(pool);
}

TEST(buffer_held_lists_what_is_held_for_long_enough)
{
	struct weir_buffer_pool *pool = pool_make(NULL);
	struct weir_buffer_query query = {.pool = pool};
	struct weir_buffer_holding held[8];
	struct weir_buffer *old = weir_buffer_acquire(pool, 100);
	struct weir_buffer *young;

	nap(120000000);
	weir_buffer_pool_tick(pool);
	young = weir_buffer_retain(weir_buffer_acquire(pool, 3000));
	CHECK_EQ(weir_buffer_held(&query, held, 8), 2);
	query.held_ns = 100000000;
	CHECK_EQ(weir_buffer_held(&query, held, 8), 1);
	CHECK_PTR(held[0].buffer, old);
	CHECK_GE(held[0].age_ns, 120000000);
	CHECK_LT(held[0].age_ns, UINT64_C(60000000000));
	CHECK_EQ(held[0].bytes, 512);
	CHECK_EQ(held[0].references, 1);
	CHECK_EQ(held[0].state, WEIR_BUFFER_APP);
	CHECK_STR(held[0].pool, "net/512");
	CHECK_NULL(held[0].account);
	weir_buffer_release(old);
	CHECK_EQ(weir_buffer_held(&query, NULL, 0), 0);
	query.held_ns = 0;
	CHECK_EQ(weir_buffer_held(&query, held, 8), 1);
	CHECK_PTR(held[0].buffer, young);
	CHECK_EQ(held[0].references, 2);
	weir_buffer_release_many(young, 2);
	pool_end(pool);
}

TEST(buffer_held_names_what_a_connection_still_holds)
{
	struct weir_buffer_pool *pool = pool_make(NULL);
	struct weir_account group, conn[2];
	struct weir_buffer *held[6];
	char text[4096], one;
	size_t bytes;

	CHECK_EQ(weir_account_init(&group, NULL), 0);
	for (size_t i = 0; i < 2; i++)
		CHECK_EQ(weir_account_init(&conn[i],
			     &(struct weir_account_config){.parent = &group,
				 .name = i == 0 ? "alice" : "bob",
				 .user = &held[i]}),
		    0);
	for (size_t i = 0; i < 6; i++)
		held[i] = weir_buffer_acquire_for(
		    pool, &(struct weir_buffer_want){.bytes = 500,
			      .account = i < 5 ? &conn[i % 2] : NULL});
	CHECK_EQ(weir_buffer_held(NULL, NULL, 0), 6);
	CHECK_EQ(weir_buffer_held(
		     &(struct weir_buffer_query){.account = &group}, NULL, 0),
	    5);

	struct weir_buffer_query query = {.account = &conn[1]};
	struct weir_buffer_holding out[6];

	CHECK_EQ(weir_buffer_held(&query, out, 6), 2);
	CHECK_PTR(out[0].account, &conn[1]);
	CHECK_PTR(out[0].user, &held[1]);
	CHECK_STR(out[0].account_name, "bob");
	bytes = weir_buffer_held_text(&query, text, sizeof(text));
	CHECK_EQ(bytes, strlen(text));
	CHECK_CONTAINS(text, "net/512 0x");
	CHECK_CONTAINS(text, ": 1 reference, state app, ");
	CHECK_CONTAINS(text, ", bob 0x");
	CHECK_CONTAINS(text, ", history a\n");
	CHECK_CONTAINS(text, "2 buffers held, 1.0 KiB, the oldest ");
	CHECK_EQ(weir_buffer_held_text(&query, &one, 1), bytes);
	CHECK_EQ(one, 0);
	CHECK_GT(weir_buffer_held_json(&query, text, sizeof(text)), 0);
	CHECK_CONTAINS(text, "{\"buffers\":2,\"bytes\":1024,");
	CHECK_CONTAINS(text, "\"state\":\"app\",\"account\":\"bob\"");
	CHECK_CONTAINS(text, "\"history\":\"a\"}");
	for (size_t i = 0; i < 6; i++)
		weir_buffer_release(held[i]);
	CHECK_GT(weir_buffer_held_text(&query, text, sizeof(text)), 0);
	CHECK_STR(text, "0 buffers held, 0 B\n");
	for (size_t i = 0; i < 2; i++)
		weir_account_finish(&conn[i]);
	weir_account_finish(&group);
	pool_end(pool);
}

/* Two places of this program, which the sampled ones are told apart by. */
static __attribute__((noinline)) struct weir_buffer *
place_one(struct weir_buffer_pool *pool)
{
	struct weir_buffer *b = weir_buffer_acquire(pool, 60);

	CHECK_NOT_NULL(b); /* no tail call */
	return b;
}

static __attribute__((noinline)) struct weir_buffer *
place_two(struct weir_buffer_pool *pool)
{
	struct weir_buffer *b = weir_buffer_acquire_for(
	    pool, &(struct weir_buffer_want){.bytes = 60});

	CHECK_NOT_NULL(b);
	return b;
}

TEST(buffer_place_of_one_in_128_is_known)
{
	enum { COUNT = 1280 };
	static struct weir_buffer *held[2 * COUNT];
	static struct weir_buffer_holding out[2 * COUNT];
	struct weir_buffer_pool *pool = pool_make(NULL);
	const void *site[2] = {NULL, NULL};
	size_t sampled = 0;

	for (size_t i = 0; i < COUNT; i++)
		held[i] = place_one(pool);
	for (size_t i = 0; i < COUNT; i++)
		held[COUNT + i] = place_two(pool);
	CHECK_EQ(weir_buffer_held(NULL, out, 2 * COUNT), 2 * COUNT);
	for (size_t i = 0; i < 2 * COUNT; i++) {
		if (out[i].site == NULL)
			continue;
		sampled++;
		if (site[0] == NULL || out[i].site == site[0])
			site[0] = out[i].site;
		else if (site[1] == NULL)
			site[1] = out[i].site;
		else
			CHECK_PTR(out[i].site, site[1]);
	}
	CHECK_NOT_NULL(site[1]);
	CHECK_EQ(sampled, 2 * COUNT / 128);

	/* What is taken next in the same place is not. */
	for (size_t i = 0; i < 2 * COUNT; i++)
		weir_buffer_release(held[i]);
	for (size_t i = 0; i < 100; i++)
		held[i] = place_one(pool);
	CHECK_EQ(weir_buffer_held(NULL, out, 100), 100);
	sampled = 0;
	for (size_t i = 0; i < 100; i++) {
		sampled += out[i].site != NULL;
		weir_buffer_release(held[i]);
	}
	CHECK_LE(sampled, 1);
	pool_end(pool);
}

/* The list is read while buffers come and go. */
struct busy {
	struct weir_buffer_pool *pool;
	bool over;
};

static void
busy_run(unsigned index, void *context)
{
	struct busy *busy = context;
	struct test_rng rng;

	test_rng_init(&rng, test_seed() + index);
	if (index == 0) {
		struct weir_buffer_holding out[64];

		for (size_t i = test_count(2000); i > 0; i--) {
			size_t found = weir_buffer_held(NULL, out, 64);

			CHECK_LE(found, 64);
			for (size_t j = 0; j < found; j++)
				CHECK_LT(out[j].age_ns, UINT64_C(100000000000));
			if (i % 32 == 0)
				weir_buffer_pool_trim(busy->pool);
		}
		__atomic_store_n(&busy->over, true, __ATOMIC_RELAXED);
		return;
	}
	while (!__atomic_load_n(&busy->over, __ATOMIC_RELAXED)) {
		struct weir_buffer *b[16];

		for (size_t i = 0; i < 16; i++)
			b[i] = weir_buffer_acquire(busy->pool,
			    (size_t)64 << test_rand_below(&rng, 11));
		for (size_t i = 0; i < 16; i++)
			weir_buffer_release(b[i]);
	}
}

TEST(buffer_held_is_read_while_others_work)
{
	struct busy busy = {.pool = pool_make(NULL)};

	test_threads(4, busy_run, &busy);
	pool_end(busy.pool);
}

/* ---- the kernel ---------------------------------------------------------- */

TEST(buffer_goes_to_the_kernel_and_comes_back)
{
	struct weir_buffer_pool *pool = pool_make(NULL);
	struct weir_buffer *b = weir_buffer_acquire(pool, 100);

	CHECK_EQ(weir_buffer_state(b), WEIR_BUFFER_APP);
	CHECK(weiri_buffer_to_kernel(b, WEIR_BUFFER_KERNEL_RX));
	CHECK_EQ(weir_buffer_state(b), WEIR_BUFFER_KERNEL_RX);
	weiri_buffer_from_kernel(b);
	CHECK_EQ(weir_buffer_state(b), WEIR_BUFFER_APP);

	/* Sent three times at once, once without a copy. */
	weir_buffer_retain_many(b, 3);
	for (int i = 0; i < 3; i++)
		CHECK(weiri_buffer_to_kernel(b, WEIR_BUFFER_KERNEL_TX));
	CHECK_EQ(weir_buffer_state(b), WEIR_BUFFER_KERNEL_TX);
	weiri_buffer_kernel_sent(b);
	CHECK_EQ(weir_buffer_state(b), WEIR_BUFFER_ZC_NOTIFY);
	weiri_buffer_kernel_done(b);
	weiri_buffer_kernel_done(b);
	weiri_buffer_kernel_done(b);
	CHECK_EQ(weir_buffer_state(b), WEIR_BUFFER_APP);
	CHECK_EQ(weir_buffer_references(b), 1);
	weir_buffer_release(b);
	CHECK_EQ(tier_stats(pool, 1).in_use, 0);
	pool_end(pool);
}

/* The program is done with it, the kernel is not: what is due with the end, the
 * wipe among it, waits. */
TEST(buffer_of_the_kernel_ends_when_the_kernel_is_done)
{
	struct weir_buffer_pool *pool = pool_make(NULL);
	struct weir_account account;
	struct weir_account_figures figures = {.size = sizeof(figures)};
	struct weir_buffer *b;

	CHECK_EQ(weir_account_init(&account, NULL), 0);
	b = weir_buffer_acquire_for(pool,
	    &(struct weir_buffer_want){.bytes = 100, .account = &account});
	memset(b->data, 0x5e, b->bytes);
	weir_buffer_set_wipe(b);
	weir_buffer_retain(b);
	CHECK(weiri_buffer_to_kernel(b, WEIR_BUFFER_KERNEL_TX));
	weir_buffer_release(b);
	CHECK(all_bytes(b->data, b->bytes, 0x5e));
	weiri_buffer_kernel_sent(b);
	CHECK_EQ(weir_account_stats(&account, &figures), 0);
	CHECK_EQ(figures.used_bytes, 512);
	CHECK_EQ(tier_stats(pool, 1).in_use, 1);
	weiri_buffer_kernel_done(b);
	CHECK(all_bytes(b->data, b->bytes, 0));
	CHECK_EQ(tier_stats(pool, 1).in_use, 0);
	weir_account_finish(&account);
	pool_end(pool);
}

TEST(buffer_over_foreign_memory_goes_to_the_kernel_too)
{
	static unsigned char memory[100];
	struct weir_buffer b;

	weir_buffer_init_external(&b, memory, sizeof(memory), NULL, NULL);
	CHECK(weiri_buffer_to_kernel(&b, WEIR_BUFFER_KERNEL_RX));
	CHECK_EQ(weir_buffer_state(&b), WEIR_BUFFER_KERNEL_RX);
	weiri_buffer_from_kernel(&b);
	CHECK_EQ(weir_buffer_state(&b), WEIR_BUFFER_APP);
	weir_buffer_retain(&b);
	CHECK(weiri_buffer_to_kernel(&b, WEIR_BUFFER_KERNEL_TX));
	weiri_buffer_kernel_done(&b);
	weir_buffer_release(&b);
	CHECK_EQ(weir_buffer_state(&b), WEIR_BUFFER_FREE);
}

TEST(buffer_operations_beyond_what_can_be_counted_are_refused)
{
	struct weir_buffer_pool *pool = pool_make(NULL);
	struct weir_buffer *b = weir_buffer_acquire(pool, 100);
	const uint32_t most = WEIRI_KERNEL_COUNT;

	weir_buffer_retain_many(b, most + 1);
	for (uint32_t i = 0; i < most; i++)
		CHECK(weiri_buffer_to_kernel(b, WEIR_BUFFER_KERNEL_TX));
	CHECK(!weiri_buffer_to_kernel(b, WEIR_BUFFER_KERNEL_TX));
	for (uint32_t i = 0; i < most; i++)
		weiri_buffer_kernel_done(b);
	CHECK_EQ(weir_buffer_state(b), WEIR_BUFFER_APP);
	weir_buffer_release_many(b, 2);
	CHECK_EQ(tier_stats(pool, 1).in_use, 0);
	pool_end(pool);
}

TEST(buffer_of_the_kernel_misused_is_a_fault)
{
	struct weir_buffer_pool *pool = pool_make(NULL);
	struct weir_buffer *b = weir_buffer_acquire(pool, 100);

	EXPECT_ABORT("bad-argument: buffer \"net/512\": 0x",
	    weiri_buffer_from_kernel(b));
	weir_buffer_retain(b);
	EXPECT_ABORT("received into, but 0x",
	    (void)weiri_buffer_to_kernel(b, WEIR_BUFFER_KERNEL_RX));
	CHECK(weiri_buffer_to_kernel(b, WEIR_BUFFER_KERNEL_TX));
	EXPECT_ABORT("released, but what is left of 0x", weir_buffer_release(b),
	    weir_buffer_release(b));
	EXPECT_ABORT(
	    "released, but what is left of 0x", weir_buffer_release_many(b, 2));
	weir_buffer_release(b);
	EXPECT_ABORT("which has the only reference of 0x",
	    (void)weiri_buffer_to_kernel(b, WEIR_BUFFER_KERNEL_TX));
	weiri_buffer_kernel_done(b);
	pool_end(pool);
}

TEST(buffer_the_kernel_writes_is_not_touched_in_debug_builds)
{
#if defined(WEIR_DEBUG) && WEIR_DEBUG >= 1
	struct weir_buffer_pool *pool = pool_make(NULL);
	struct weir_buffer *b = weir_buffer_acquire(pool, 100);
	struct weir_slice s = weir_slice_make(b, 0, 10);

	CHECK(weiri_buffer_to_kernel(b, WEIR_BUFFER_KERNEL_RX));
	EXPECT_ABORT("touched, but the kernel is writing buffer 0x",
	    weir_buffer_retain(b));
	EXPECT_ABORT("touched, but the kernel is writing buffer 0x",
	    (void)weir_slice_data(s));
	EXPECT_ABORT("touched, but the kernel is writing buffer 0x",
	    s = weir_slice_make(b, 0, 1));
	weiri_buffer_from_kernel(b);
	CHECK_PTR(weir_slice_data(s), b->data);
	weir_buffer_release(b);
	pool_end(pool);
#else
	SKIP("not a debug build");
#endif
}

/* One payload, lent again and again by several threads. */
static void
lend_run(unsigned index, void *context)
{
	struct weir_buffer *b = context;

	for (size_t i = test_count(20000); i > 0; i--) {
		weir_buffer_retain(b);
		CHECK(weiri_buffer_to_kernel(b, WEIR_BUFFER_KERNEL_TX));
		if ((i + index) % 3 == 0)
			weiri_buffer_kernel_sent(b);
		CHECK_GE(weir_buffer_state(b), WEIR_BUFFER_KERNEL_TX);
		weiri_buffer_kernel_done(b);
	}
	weir_buffer_release(b);
}

TEST(buffer_is_lent_by_many_threads)
{
	struct weir_buffer_pool *pool = pool_make(NULL);
	struct weir_buffer *b = weir_buffer_acquire(pool, 100);

	weir_buffer_retain_many(b, 3);
	test_threads(3, lend_run, b);
	CHECK_EQ(weir_buffer_state(b), WEIR_BUFFER_APP);
	CHECK_EQ(weir_buffer_references(b), 1);
	weir_buffer_release(b);
	CHECK_EQ(tier_stats(pool, 1).in_use, 0);
	pool_end(pool);
}
