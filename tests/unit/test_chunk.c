/* SPDX-License-Identifier: MIT */
/*
 * test_chunk.c - messages one behind the other, released by anybody.
 */
#include "buffer_common.h"

#include <weir/chain.h>
#include <weir/chunk.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct weir_chunk_figures
figures(struct weir_buffer_pool *pool)
{
	struct weir_chunk_figures out = {.size = sizeof(out)};

	CHECK_EQ(weir_chunk_stats(pool, &out), 0);
	return out;
}

static struct weir_slice
message(struct weir_chunk *chunk, uint32_t bytes, int value)
{
	unsigned char *text = weir_chunk_open(chunk, bytes);

	CHECK_NOT_NULL(text);
	memset(text, value, bytes);
	return weir_chunk_close(chunk, bytes);
}

TEST(chunk_holds_many_messages)
{
	struct weir_buffer_pool *pool = pool_make(NULL);
	struct weir_slice slice[100];
	struct weir_chunk chunk;

	CHECK_EQ(weir_chunk_init(&chunk, pool, NULL), 0);
	for (int i = 0; i < 100; i++) {
		slice[i] = message(&chunk, 100, i);
		CHECK_EQ((uintptr_t)weir_slice_data(slice[i]) % 8, 0);
		CHECK_PTR(slice[i].buffer, slice[0].buffer);
	}
	CHECK_EQ(tier_stats(pool, 5).in_use, 1);
	CHECK_EQ(figures(pool).chunks, 1);
	CHECK_EQ(figures(pool).bytes_pinned, 65536);
	CHECK_EQ(figures(pool).bytes_live, 10000);
	for (int i = 0; i < 100; i += 2)
		weir_slice_release(&slice[i]);
	CHECK_EQ(figures(pool).bytes_live, 5000);
	CHECK_EQ(tier_stats(pool, 5).chunk_bytes, 65536);
	CHECK_EQ(tier_stats(pool, 5).chunk_bytes_live, 5000);
	CHECK_EQ(tier_stats(pool, 4).chunk_bytes, 0);

	char text[16384];

	CHECK_LT(weir_stats_text(text, sizeof(text)), sizeof(text));
	CHECK_CONTAINS(text, "chunks pin 64.0 KiB, alive of it 4.8 KiB");
	CHECK_LT(weir_stats_json(text, sizeof(text)), sizeof(text));
	CHECK_CONTAINS(text, "\"chunk_bytes\":65536,\"chunk_bytes_live\":5000");
	for (int i = 1; i < 100; i += 2) {
		CHECK(all_bytes(
		    weir_slice_data(slice[i]), 100, (unsigned char)i));
		weir_slice_release(&slice[i]);
	}
	CHECK_EQ(figures(pool).bytes_live, 0);
	CHECK_EQ(figures(pool).chunks, 1);
	weir_chunk_finish(&chunk);
	weir_chunk_finish(NULL);
	CHECK_EQ(figures(pool).chunks, 0);
	CHECK_EQ(tier_stats(pool, 5).in_use, 0);
	pool_end(pool);
}

TEST(chunk_begins_again_when_nobody_has_a_message)
{
	struct weir_buffer_pool *pool = pool_make(NULL);
	struct weir_chunk chunk;
	unsigned char *first = NULL;

	CHECK_EQ(weir_chunk_init(&chunk, pool, NULL), 0);
	for (int i = 0; i < 1000; i++) {
		struct weir_slice a = message(&chunk, 3000, i);
		struct weir_slice b = message(&chunk, 50000, i);

		if (first == NULL)
			first = weir_slice_data(a);
		CHECK_PTR(weir_slice_data(a), first);
		weir_slice_release(&a);
		weir_slice_release(&b);
	}
	CHECK_EQ(tier_stats(pool, 5).in_use, 1);
	weir_chunk_finish(&chunk);
	pool_end(pool);
}

TEST(chunk_goes_on_to_another_while_one_message_is_held)
{
	struct weir_buffer_pool *pool = pool_make(NULL);
	struct weir_chunk chunk;
	struct weir_slice held, s;

	CHECK_EQ(weir_chunk_init(&chunk, pool, NULL), 0);
	held = message(&chunk, 40, 0x40);
	for (int i = 0; i < 50; i++) {
		s = message(&chunk, 20000, i);
		weir_slice_release(&s);
	}
	/* One message pins a whole chunk beside the writer's own. */
	CHECK_EQ(figures(pool).chunks, 2);
	CHECK_EQ(figures(pool).bytes_pinned, 2 * 65536);
	CHECK_LE(figures(pool).bytes_live, 20000);
	CHECK_EQ(weir_slice_compact(
		     &held, &(struct weir_compact_rule){.pool = pool}),
	    65536 - 64);
	CHECK(all_bytes(weir_slice_data(held), 40, 0x40));
	CHECK_EQ(figures(pool).chunks, 1);
	CHECK_EQ(figures(pool).compactions, 1);
	CHECK_EQ(figures(pool).bytes_compacted, 65536);
	weir_slice_release(&held);
	weir_chunk_finish(&chunk);
	CHECK_EQ(tier_stats(pool, 5).in_use, 0);
	pool_end(pool);
}

TEST(chunk_message_may_be_larger_or_nothing)
{
	struct weir_buffer_pool *pool = pool_make(NULL);
	struct weir_chunk chunk;
	struct weir_slice s;

	CHECK_EQ(weir_chunk_init(&chunk, pool,
		     &(struct weir_chunk_config){.bytes = 2048, .align = 1}),
	    0);
	CHECK_NOT_NULL(weir_chunk_open(&chunk, 2000));
	CHECK_NULL(weir_chunk_close(&chunk, 0).buffer);
	s = message(&chunk, 5000, 1);
	CHECK_EQ(s.buffer->bytes, 8192);
	weir_slice_release(&s);
	CHECK_EQ(tier_stats(pool, 3).in_use, 0);
	CHECK_NOT_NULL(weir_chunk_open(&chunk, 5000));
	CHECK_NULL(weir_chunk_close(&chunk, 0).buffer);
	CHECK_EQ(tier_stats(pool, 3).in_use, 0);
	CHECK_NULL(weir_chunk_open(&chunk, 65537));
	/* Less than was opened: what follows comes close behind. */
	struct weir_slice a, b;

	CHECK_NOT_NULL(weir_chunk_open(&chunk, 1000));
	a = weir_chunk_close(&chunk, 10);
	CHECK_NOT_NULL(weir_chunk_open(&chunk, 1000));
	b = weir_chunk_close(&chunk, 10);
	CHECK_PTR(weir_slice_data(b), weir_slice_data(a) + 10);
	weir_slice_release(&a);
	weir_slice_release(&b);
	CHECK_NOT_NULL(weir_chunk_open(&chunk, 10));
	EXPECT_ABORT("a message of 10 bytes is open already",
	    CHECK_NULL(weir_chunk_open(&chunk, 1)));
	EXPECT_ABORT("11 bytes were written to less than that",
	    a = weir_chunk_close(&chunk, 11));
	CHECK_NULL(weir_chunk_close(&chunk, 0).buffer);
	EXPECT_ABORT("no message is open", a = weir_chunk_close(&chunk, 0));
	weir_chunk_finish(&chunk);
	pool_end(pool);
}

TEST(chunk_is_paid_for_and_limited)
{
	struct weir_buffer_pool *pool = pool_make(NULL);
	struct weir_account account;
	struct weir_account_figures paid = {.size = sizeof(paid)};
	struct weir_chunk chunk;
	struct weir_slice a;

	CHECK_EQ(weir_account_init(&account,
		     &(struct weir_account_config){.limit_bytes = 65536}),
	    0);
	CHECK_EQ(weir_chunk_init(&chunk, pool,
		     &(struct weir_chunk_config){.account = &account}),
	    0);
	a = message(&chunk, 60000, 1);
	CHECK_EQ(weir_account_stats(&account, &paid), 0);
	CHECK_EQ(paid.used_bytes, 65536);
	CHECK_NULL(weir_chunk_open(&chunk, 6000));
	weir_slice_release(&a);
	a = message(&chunk, 6000, 1);
	weir_slice_release(&a);
	weir_chunk_finish(&chunk);
	weir_account_finish(&account);

	CHECK_EQ(weir_chunk_init(
		     &chunk, pool, &(struct weir_chunk_config){.bytes = 65537}),
	    -EINVAL);
	CHECK_EQ(weir_chunk_init(
		     &chunk, pool, &(struct weir_chunk_config){.align = 24}),
	    -EINVAL);
	pool_end(pool);
}

/* Each thread writes, and releases what its neighbour wrote. */
#define POST_THREADS 3
#define POST_SLOTS 64

struct post {
	struct weir_buffer_pool *pool;
	struct post_box {
		struct weir_slice *slot[POST_SLOTS]; /* atomic */
	} box[POST_THREADS];
};

static void
post_take(struct post_box *box, size_t at)
{
	struct weir_slice *s =
	    __atomic_exchange_n(&box->slot[at], NULL, __ATOMIC_ACQ_REL);

	if (s == NULL)
		return;
	CHECK(all_bytes(weir_slice_data(*s), s->bytes, weir_slice_data(*s)[0]));
	weir_slice_release(s);
	free(s);
}

static void
post_run(unsigned index, void *context)
{
	struct post *post = context;
	struct weir_chunk chunk;
	struct test_rng rng;

	test_rng_init(&rng, test_seed() * 7 + index);
	CHECK_EQ(weir_chunk_init(&chunk, post->pool,
		     &(struct weir_chunk_config){.bytes = 2048}),
	    0);
	for (size_t i = test_count(30000); i > 0; i--) {
		struct weir_slice *s = malloc(sizeof(*s)), *none = NULL;
		size_t at = test_rand_below(&rng, POST_SLOTS);

		*s = message(
		    &chunk, 1 + (uint32_t)test_rand_below(&rng, 300), (int)i);
		if (!__atomic_compare_exchange_n(
			&post->box[(index + 1) % POST_THREADS].slot[at], &none,
			s, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
			weir_slice_release(s);
			free(s);
		}
		post_take(&post->box[index], test_rand_below(&rng, POST_SLOTS));
		if (i % 4096 == 0) {
			struct weir_chunk_figures now = figures(post->pool);

			CHECK_LE(now.bytes_live, now.bytes_pinned);
		}
	}
	weir_chunk_finish(&chunk);
}

TEST(chunk_messages_are_released_by_other_threads)
{
	static struct post post;

	post.pool = pool_make(NULL);
	test_threads(POST_THREADS, post_run, &post);
	for (size_t i = 0; i < POST_THREADS; i++)
		for (size_t at = 0; at < POST_SLOTS; at++)
			post_take(&post.box[i], at);
	CHECK_EQ(tier_stats(post.pool, 2).in_use, 0);
	/* Few chunks went round. */
	CHECK_LE(tier_stats(post.pool, 2).in_use_peak, 600);
	pool_end(post.pool);
}
