/* SPDX-License-Identifier: MIT */
/*
 * test_maintain_steps.c - how much one call of weir_maintain() does at most.
 *
 * Steps are counted, not timed: a call whose budget is over before it begins
 * makes one.
 */
#include "pools/buffer.h"
#include "pools/cache.h"
#include "support/test.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <weir/weir.h>

#define STEPS_OBJECTS 20000
#define STEPS_BUFFERS 16384
#define STEPS_BUFFER_BYTES 2048
#define STEPS_BLOCKS 64
#define STEPS_LIMIT_NS UINT64_C(50000000000)

/* ---- caches ---------------------------------------------------------------- */

struct steps_stock {
	uint64_t full, slabs;
};

static struct steps_stock
steps_stock_of(struct weir_cache *cache)
{
	struct steps_stock stock;

	weiri_mutex_lock(&cache->depot.lock);
	stock.full = cache->depot.full_count;
	stock.slabs = cache->depot.slab_count;
	weiri_mutex_unlock(&cache->depot.lock);
	return stock;
}

/* Far too many slots, so that all magazines are emptied ahead of their time,
 * which was once done in one piece. */
TEST(maintain_takes_a_magazine_or_a_slab_a_step)
{
	NOT_UNDER_GUARD("objects rest one by one");

	static void *object[STEPS_OBJECTS];
	struct weir_cache *cache;
	struct steps_stock first, before, now;
	uint64_t magazines = 0, slabs = 0, calls = 0;

	CHECK_EQ(weir_cache_create("steps",
		     &(struct weir_cache_config){.object_bytes = 200}, &cache),
	    0);
	weir_set_decay(0);
	for (size_t i = 0; i < STEPS_OBJECTS; i++)
		object[i] = weir_cache_alloc(cache);
	for (size_t i = 0; i < STEPS_OBJECTS; i++)
		weir_cache_free(cache, object[i]);
	first = before = steps_stock_of(cache);
	CHECK_GT(first.full, 100);
	CHECK_GT(first.slabs, 20);
	for (bool more = true; more; calls++) {
		more = weir_maintain(0);
		now = steps_stock_of(cache);
		/* This thread's own magazine may come in at any call. */
		CHECK_GE(now.full + 1, before.full);
		CHECK_GE(now.slabs + 1, before.slabs);
		CHECK(now.full >= before.full || now.slabs == before.slabs);
		magazines += before.full > now.full;
		slabs += before.slabs > now.slabs;
		before = now;
	}
	printf("%llu magazines and %llu slabs in %llu calls\n",
	    (unsigned long long)magazines, (unsigned long long)slabs,
	    (unsigned long long)calls);
	CHECK_GE(magazines, first.full);
	CHECK_GE(slabs, first.slabs - 2);
	CHECK_GE(calls, magazines + slabs);
	weir_cache_destroy(cache);
}

/* What was made ready is no more than is needed, however little of it is used:
 * threads keep their magazines. */
TEST(maintain_leaves_magazines_of_what_was_preallocated)
{
	NOT_UNDER_GUARD("nothing stays with threads");

	enum { EPOCHS = 6, MS = 1000000, DECAY_MS = 64 };
	struct weir_cache *cache;
	struct weir_pool_stats stats = {.size = sizeof(stats)};
	uint64_t turn_ns, epochs = 0, end;

	CHECK_EQ(weir_cache_create("kept",
		     &(struct weir_cache_config){
			 .object_bytes = 200, .prealloc = STEPS_OBJECTS},
		     &cache),
	    0);
	weir_set_decay(DECAY_MS);
	turn_ns = cache->depot.clock.turn_ns;
	end = test_now_ns() + STEPS_LIMIT_NS;
	while (epochs < EPOCHS && test_now_ns() < end) {
		void *object[2];

		/* In use at each pass, so no idle thread's. */
		for (size_t i = 0; i < 2; i++)
			object[i] = weir_cache_alloc(cache);
		for (size_t i = 0; i < 2; i++)
			weir_cache_free(cache, object[i]);
		(void)!weir_cache_alloc(cache);
		while (weir_maintain(UINT64_MAX))
			;
		CHECK_EQ(weir_cache_stats(cache, &stats), 0);
		CHECK_GT(stats.cached, 0);
		epochs += cache->depot.clock.turn_ns != turn_ns;
		turn_ns = cache->depot.clock.turn_ns;
		usleep(1000);
	}
	CHECK_EQ(epochs, EPOCHS);
}

/* ---- buffers --------------------------------------------------------------- */

struct steps_blocks {
	const struct weiri_payload *block[STEPS_BLOCKS];
	uint32_t looked[STEPS_BLOCKS]; /* at so many that rested */
	size_t count;
};

static void
steps_visit(const struct weiri_payload *payload, void *context)
{
	struct steps_blocks *blocks = context;

	CHECK_LT(blocks->count, STEPS_BLOCKS);
	blocks->block[blocks->count] = payload;
	blocks->looked[blocks->count++] = payload->void_free;
}

/* Blocks that were looked through since @before, whose order may be another. */
static size_t
steps_looks(const struct steps_blocks *before, const struct steps_blocks *now)
{
	size_t count = 0;

	for (size_t i = 0; i < before->count; i++)
		for (size_t k = 0; k < now->count; k++)
			count += before->block[i] == now->block[k] &&
				 now->looked[k] != 0 &&
				 before->looked[i] != now->looked[k];
	return count;
}

TEST(maintain_looks_through_one_block_of_buffers_a_step)
{
	NOT_UNDER_GUARD("each buffer has pages of its own");

	static struct weir_buffer *buffer[STEPS_BUFFERS];
	const struct weir_buffer_pool_config config = {
	    .tier = {{.bytes = STEPS_BUFFER_BYTES}}, .tier_count = 1};
	struct steps_blocks before = {.count = 0}, now;
	struct weir_buffer_pool *pool;
	size_t kept = STEPS_BUFFERS / 32, looks = 0;

	weir_set_decay(0);
	CHECK_EQ(weir_buffer_pool_create("steps", &config, &pool), 0);
	for (size_t i = 0; i < STEPS_BUFFERS; i++) {
		buffer[i] = weir_buffer_acquire(pool, STEPS_BUFFER_BYTES);
		CHECK_NOT_NULL(buffer[i]);
	}
	for (size_t i = 0; i < STEPS_BUFFERS; i++)
		if (i % kept != 0)
			weir_buffer_release(buffer[i]);
	weiri_buffer_walk(&pool->tier[0], steps_visit, &before);
	CHECK_GT(before.count, 8);
	/* Some come back into magazines of this thread first. */
	for (int pass = 0; pass < 4; pass++)
		for (bool more = true; more;) {
			size_t count;

			more = weir_maintain(0);
			now.count = 0;
			weiri_buffer_walk(&pool->tier[0], steps_visit, &now);
			count = steps_looks(&before, &now);
			CHECK_LE(count, 1);
			looks += count;
			before = now;
		}
	printf("%zu looks at %zu blocks\n", looks, before.count);
	CHECK_GE(looks, before.count);
	for (size_t i = 0; i < STEPS_BUFFERS; i += kept)
		weir_buffer_release(buffer[i]);
	weir_buffer_pool_destroy(pool);
}
