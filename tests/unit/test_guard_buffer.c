/* SPDX-License-Identifier: MIT */
/*
 * test_guard_buffer.c - buffers whose payload is under guard: that limits, checks
 * and the ways to a buffer hold as without, and that what ended is known.
 */
#include "support/test.h"

#include "guard/guard.h"

#include <string.h>
#include <weir/weir.h>

#define TIERS 5
static const uint32_t tiers[TIERS] = {1, 64, 700, 4096, 9000};

static void
guard(enum weir_guard_mode mode, uint32_t rate)
{
	struct weir_guard_config config = {.mode = mode, .sample_rate = rate};

	CHECK_EQ(weir_guard_set(&config), 0);
}

static struct weir_buffer_pool *
make(struct weir_buffer_pool_config config)
{
	struct weir_buffer_pool *pool;

	if (config.tier_count == 0)
		for (; config.tier_count < TIERS; config.tier_count++)
			config.tier[config.tier_count].bytes =
			    tiers[config.tier_count];
	CHECK_EQ(weir_buffer_pool_create("io", &config, &pool), 0);
	return pool;
}

static void
end(struct weir_buffer_pool *pool)
{
	CHECK(weir_buffer_pool_check(pool));
	weir_buffer_pool_destroy(pool);
	guard(WEIR_GUARD_OFF, 0);
}

static struct weir_buffer *
take(struct weir_buffer_pool *pool, size_t bytes)
{
	struct weir_buffer *buffer = weir_buffer_acquire(pool, bytes);

	CHECK_NOT_NULL(buffer);
	return buffer;
}

static struct weir_pool_stats
figures(struct weir_buffer_pool *pool, size_t tier)
{
	struct weir_pool_stats stats = {.size = sizeof(stats)};

	CHECK_EQ(weir_buffer_pool_stats(pool, tier, &stats), 0);
	return stats;
}

__attribute__((noinline)) static void
poke(unsigned char *at)
{
	*(volatile unsigned char *)at = 1;
}

/* ---- correct programs ------------------------------------------------------ */

TEST(payload_is_guarded_aligned_and_leads_to_its_buffer)
{
	static const size_t align[TIERS] = {1, 64, 64, 4096, 4096};
	struct weir_buffer_pool *pool;

	guard(WEIR_GUARD_FULL, 0);
	pool = make((struct weir_buffer_pool_config){0});
	for (size_t i = 0; i < TIERS; i++) {
		struct weir_buffer *buffer = take(pool, tiers[i]);
		unsigned char *last = buffer->data + tiers[i] - 1;

		CHECK(weiri_guard_covers(buffer->data));
		CHECK_EQ(weir_buffer_usable(buffer), tiers[i]);
		CHECK_EQ((uintptr_t)buffer->data % align[i], 0);
		CHECK_PTR(weir_buffer_of(buffer->data), buffer);
		CHECK_PTR(weir_buffer_of(last), buffer);
		CHECK_NULL(weir_buffer_of(buffer->data - 1));
		memset(buffer->data, 1, tiers[i]);
		CHECK(weir_buffer_pool_check(pool));
		weir_buffer_release(buffer);
		CHECK_NULL(weir_buffer_of(last));
		CHECK(weir_buffer_pool_check(pool));
	}
	end(pool);
}

/* Free ones that rest withhold nothing. */
TEST(limits_hold_and_are_reached_under_guard)
{
	struct weir_buffer_pool *pool;
	struct weir_buffer *held[8];

	guard(WEIR_GUARD_FULL, 0);
	pool = make((struct weir_buffer_pool_config){
	    .tier = {{.bytes = 512, .limit = 8}},
	    .tier_count = 1,
	    .limit_bytes = 64 << 10,
	});
	for (int round = 0; round < 5; round++) {
		for (size_t i = 0; i < 8; i++)
			held[i] = take(pool, 512);
		CHECK_NULL(weir_buffer_acquire(pool, 512));
		CHECK_EQ(figures(pool, 0).in_use, 8);
		CHECK_EQ(figures(pool, 0).limit_bytes_used, 4096);
		for (size_t i = 0; i < 8; i++)
			weir_buffer_release(held[i]);
		CHECK_EQ(figures(pool, 0).in_use, 0);
		CHECK_EQ(figures(pool, 0).limit_bytes_used, 0);
		CHECK(weir_buffer_pool_check(pool));
	}
	CHECK_EQ(figures(pool, 0).failures, 5);
	/* Nothing that rests is in the way of a lower limit. */
	CHECK(weir_buffer_pool_trim(pool) > 0);
	CHECK_EQ(weir_buffer_pool_set_tier_limit(pool, 0, 1), 0);
	weir_buffer_release(take(pool, 512));
	end(pool);
}

TEST(reserve_serves_senders_under_guard)
{
	struct weir_buffer_pool *pool;
	struct weir_buffer *first, *second;
	struct weir_buffer_want send = {.bytes = 512, .use = WEIR_BUFFER_SEND};

	guard(WEIR_GUARD_FULL, 0);
	pool = make((struct weir_buffer_pool_config){
	    .tier = {{.bytes = 512, .limit = 2, .reserve = 1}},
	    .tier_count = 1,
	});
	for (int round = 0; round < 3; round++) {
		first = take(pool, 512);
		CHECK_NULL(weir_buffer_acquire(pool, 512));
		second = weir_buffer_acquire_for(pool, &send);
		CHECK_NOT_NULL(second);
		CHECK(weiri_guard_covers(first->data));
		weir_buffer_release(first);
		weir_buffer_release(second);
		CHECK(weir_buffer_pool_check(pool));
		CHECK_EQ(figures(pool, 0).in_use, 0);
	}
	end(pool);
}

TEST(samples_come_at_their_rate_and_the_others_are_plain)
{
	enum { COUNT = 20000, RATE = 20 };
	struct weir_buffer_pool *pool;
	int guarded = 0;

	guard(WEIR_GUARD_SAMPLE, RATE);
	pool = make((struct weir_buffer_pool_config){
	    .tier = {{.bytes = 512, .limit = 100}},
	    .tier_count = 1,
	});
	for (int i = 0; i < COUNT; i++) {
		struct weir_buffer *buffer = take(pool, 512);

		guarded += weiri_guard_covers(buffer->data);
		weir_buffer_release(buffer);
	}
	CHECK_LE(500, guarded);
	CHECK_LE(guarded, 2000);
	end(pool);
}

/* What was taken under guard ends so, whatever is in force by then. */
TEST(mode_may_change_while_buffers_are_held)
{
	guard(WEIR_GUARD_OFF, 0);

	struct weir_buffer_pool *pool = make((struct weir_buffer_pool_config){
	    .tier = {{.bytes = 64, .limit = 100}},
	    .tier_count = 1,
	    .flags = WEIR_BUFFER_WIPE,
	});
	struct weir_buffer *plain = take(pool, 64), *guarded, *last;

	CHECK(!weiri_guard_covers(plain->data));
	guard(WEIR_GUARD_FULL, 0);
	guarded = take(pool, 64);
	CHECK(weiri_guard_covers(guarded->data));
	memset(guarded->data, 1, 64);
	guard(WEIR_GUARD_OFF, 0);
	last = take(pool, 64);
	CHECK(!weiri_guard_covers(last->data));
	weir_buffer_release(plain);
	weir_buffer_release(guarded);
	weir_buffer_release(last);
	CHECK(!weiri_guard_covers(guarded->data));
	CHECK_EQ(figures(pool, 0).in_use, 0);
	end(pool);
}

/* ---- bugs ------------------------------------------------------------------ */

TEST(payload_traps_after_the_last_release_and_not_before)
{
	struct weir_buffer_pool *pool;
	unsigned char *data;

	guard(WEIR_GUARD_FULL, 0);
	pool = make((struct weir_buffer_pool_config){0});

	struct weir_buffer *buffer = take(pool, 700);

	data = buffer->data;
	CHECK_NOT_NULL(weir_buffer_retain(buffer));
	weir_buffer_release(buffer);
	poke(data);
	weir_buffer_release(buffer);
	EXPECT_ABORT("FAULT use-after-free: buffer \"io/700\"", poke(data));
	end(pool);
}

/* Who moves data ahead has the pool give up another's memory. */
TEST(moved_data_is_told_at_the_last_release)
{
	struct weir_buffer_pool *pool;
	struct weir_buffer *buffer;

	guard(WEIR_GUARD_FULL, 0);
	pool = make((struct weir_buffer_pool_config){0});
	buffer = take(pool, 64);
	EXPECT_ABORT("FAULT corruption: buffer \"io/64\"", {
		buffer->data += 8;
		weir_buffer_release(buffer);
	});
	weir_buffer_release(buffer);
	end(pool);
}

TEST(second_release_is_known_after_other_acquires)
{
	struct weir_buffer_pool *pool;
	struct weir_buffer *stale, *held[4];

	guard(WEIR_GUARD_FULL, 0);
	pool = make((struct weir_buffer_pool_config){0});
	stale = take(pool, 64);
	weir_buffer_release(stale);
	for (size_t i = 0; i < 4; i++)
		held[i] = take(pool, 64);
	EXPECT_ABORT(
	    "FAULT double-free: buffer \"io/64\"", weir_buffer_release(stale));
	for (size_t i = 0; i < 4; i++)
		weir_buffer_release(held[i]);
	end(pool);
}

TEST(write_to_a_free_descriptor_is_told_at_the_end_of_the_pool)
{
	struct weir_buffer_pool *pool;
	struct weir_buffer *stale;

	guard(WEIR_GUARD_FULL, 0);
	pool = make((struct weir_buffer_pool_config){0});
	stale = take(pool, 64);
	weir_buffer_release(stale);
	EXPECT_ABORT("FAULT corruption: buffer \"io/64\"", {
		memset(stale, 7, sizeof(*stale));
		weir_buffer_pool_destroy(pool);
	});
	end(pool);
}
