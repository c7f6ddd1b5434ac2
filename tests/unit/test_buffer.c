/* SPDX-License-Identifier: MIT */
/*
 * test_buffer.c - buffer pools: tiers, configuration, limits, look-up, figures.
 */
#include "buffer_common.h"

#include "pages/pages.h"

#include <weir/guard.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- tiers ------------------------------------------------------------- */

TEST(buffer_smallest_tier_that_fits_serves)
{
	struct weir_buffer_pool *pool = pool_make(NULL);

	CHECK_EQ(weir_buffer_pool_tier_count(pool), DEFAULT_TIERS);
	for (size_t i = 0; i < DEFAULT_TIERS; i++) {
		size_t least = i == 0 ? 0 : default_bytes[i - 1] + 1;
		size_t wish[] = {least, default_bytes[i]};

		for (size_t j = 0; j < 2; j++) {
			struct weir_buffer *b =
			    weir_buffer_acquire(pool, wish[j]);

			CHECK_NOT_NULL(b);
			CHECK_EQ(b->bytes, default_bytes[i]);
			CHECK_EQ(weir_buffer_usable(b), default_bytes[i]);
			CHECK_EQ(weir_buffer_references(b), 1);
			CHECK_NULL(b->user);
			CHECK_PTR(b->pool, pool);
			memset(b->data, 0xa5, b->bytes);
			weir_buffer_release(b);
		}
	}
	pool_end(pool);
}

TEST(buffer_several_tiers_within_one_power_of_two)
{
	struct weir_buffer_pool_config config = {
	    .tier = {{.bytes = 1}, {.bytes = 1100}, {.bytes = 1500},
		{.bytes = 2000}, {.bytes = 2 << 20}},
	    .tier_count = 5,
	};
	struct weir_buffer_pool *pool = pool_make(&config);
	static const size_t wish[][2] = {{0, 1}, {1, 1}, {2, 1100},
	    {1024, 1100}, {1025, 1100}, {1100, 1100}, {1101, 1500},
	    {1501, 2000}, {2000, 2000}, {2001, 2 << 20}, {2 << 20, 2 << 20}};

	for (size_t i = 0; i < sizeof(wish) / sizeof(wish[0]); i++) {
		struct weir_buffer *b = weir_buffer_acquire(pool, wish[i][0]);

		CHECK_NOT_NULL(b);
		CHECK_EQ(b->bytes, wish[i][1]);
		memset(b->data, 0xff, b->bytes);
		weir_buffer_release(b);
	}
	pool_end(pool);
}

TEST(buffer_payload_is_aligned_and_apart_from_descriptors)
{
	struct weir_buffer_pool_config config = {
	    .tier = {{.bytes = 1}, {.bytes = 6}, {.bytes = 64}, {.bytes = 100},
		{.bytes = 4095}, {.bytes = 4096}, {.bytes = 5000},
		{.bytes = 65536}},
	    .tier_count = 8,
	};
	static const size_t align[] = {1, 4, 64, 64, 64, 4096, 4096, 4096};
	struct weir_buffer_pool *pool = pool_make(&config);
	struct weir_buffer *held[8][40];

	/* Payload under guard is in no block. */
	CHECK_EQ(weir_guard_set(&(struct weir_guard_config){0}), 0);
	for (size_t i = 0; i < 8; i++)
		for (size_t j = 0; j < 40; j++) {
			struct weir_buffer *b =
			    weir_buffer_acquire(pool, config.tier[i].bytes);
			const struct weiri_span *at;

			CHECK_NOT_NULL(b);
			CHECK_EQ((uintptr_t)b->data % align[i], 0);
			CHECK_EQ((uintptr_t)b % 64, 0);
			at = weiri_span_of(b->data);
			CHECK_EQ(at->kind, WEIRI_SPAN_PAYLOAD);
			CHECK_LE(at->bytes, 2 << 20);
			/* Its last byte lies in the same block. */
			CHECK_PTR(weiri_span_of(b->data + b->bytes - 1), at);
			CHECK_EQ(weiri_span_of(b)->kind, WEIRI_SPAN_SLAB);
			memset(b->data, (int)(i * 40 + j) & 0xff, b->bytes);
			held[i][j] = b;
		}
	for (size_t i = 0; i < 8; i++)
		for (size_t j = 0; j < 40; j++) {
			CHECK(all_bytes(held[i][j]->data, held[i][j]->bytes,
			    (unsigned char)(i * 40 + j)));
			weir_buffer_release(held[i][j]);
		}
	pool_end(pool);
}

TEST(buffer_above_the_largest_tier_is_refused_and_counted)
{
	struct weir_buffer_pool *pool = pool_make(NULL);

	errno = ERANGE;
	CHECK_NULL(weir_buffer_acquire(pool, 65537));
	CHECK_NULL(weir_buffer_acquire(pool, SIZE_MAX));
	CHECK_EQ(errno, ERANGE);
	CHECK_EQ(tier_stats(pool, DEFAULT_TIERS - 1).failures, 2);
	CHECK_EQ(tier_stats(pool, 0).failures, 0);
	pool_end(pool);
}

static void
expect_invalid(const struct weir_buffer_pool_config *config)
{
	struct weir_buffer_pool *pool = (struct weir_buffer_pool *)&pool;

	CHECK_EQ(weir_buffer_pool_create("bad", config, &pool), -EINVAL);
	CHECK_NULL(pool);
}

TEST(buffer_bad_configuration_is_refused)
{
	struct weir_buffer_pool_config good = {
	    .tier = {{.bytes = 512, .limit = 4}, {.bytes = 2048}},
	    .tier_count = 2,
	};
	struct weir_buffer_pool_config c;

	pool_end(pool_make(&good));
	c = good, c.tier_count = WEIR_BUFFER_TIERS_MAX + 1, expect_invalid(&c);
	c = good, c.tier_count = 0, expect_invalid(&c);
	c = good, c.tier_count = 3, expect_invalid(&c); /* third has 0 bytes */
	c = good, c.tier[0].bytes = 0, expect_invalid(&c);
	c = good, c.tier[1].bytes = 512, expect_invalid(&c);
	c = good, c.tier[1].bytes = 100, expect_invalid(&c);
	c = good, c.tier[1].bytes = (2 << 20) + 1, expect_invalid(&c);
	c = good, c.flags = 8, expect_invalid(&c);
	c = good, c.tier[0].prealloc = 5, expect_invalid(&c);
	c = good, c.tier[0].limit = WEIR_LIMIT_NOTHING, c.tier[0].prealloc = 1,
	expect_invalid(&c);
	c = good, c.limit_bytes = 511, expect_invalid(&c);
	c = good, c.limit_bytes = 2048, c.tier[0].prealloc = 4,
	c.tier[1].prealloc = 1, expect_invalid(&c);
	c = good, c.flags = 2, expect_invalid(&c);
	c = good, c.reserved[3] = 1, expect_invalid(&c);
	/* Sums that would overflow. */
	c = good, c.limit_bytes = UINT64_MAX / 2,
	c.tier[1].prealloc = SIZE_MAX / 2, expect_invalid(&c);
}

/* ---- limits ------------------------------------------------------------ */

TEST(buffer_tier_limit_is_strict_and_does_not_spill)
{
	struct weir_buffer_pool_config config = {
	    .tier = {{.bytes = 512, .limit = 37}, {.bytes = 2048}},
	    .tier_count = 2,
	};
	struct weir_buffer_pool *pool = pool_make(&config);
	struct weir_buffer *held[37];

	for (int round = 0; round < 3; round++) {
		for (size_t i = 0; i < 37; i++) {
			held[i] = weir_buffer_acquire(pool, 300);
			CHECK_NOT_NULL(held[i]);
		}
		errno = ERANGE;
		CHECK_NULL(weir_buffer_acquire(pool, 300));
		CHECK_EQ(errno, ERANGE);
		CHECK_EQ(tier_stats(pool, 0).failures, round + 1);
		CHECK_EQ(tier_stats(pool, 0).in_use, 37);
		CHECK_EQ(tier_stats(pool, 0).limit, 37);
		CHECK_EQ(tier_stats(pool, 1).total, 0);
		for (size_t i = 0; i < 37; i++)
			weir_buffer_release(held[i]);
	}
	pool_end(pool);
}

TEST(buffer_limit_bytes_is_strict_over_all_tiers)
{
	struct weir_buffer_pool_config config = {.limit_bytes = 70000};
	struct weir_buffer_pool *pool = pool_make(&config);
	struct weir_buffer *large, *rest[3];

	large = weir_buffer_acquire(pool, 65536);
	CHECK_NOT_NULL(large);
	/* 4464 bytes are left: two of 2048, and 368 for small ones. */
	CHECK_NULL(weir_buffer_acquire(pool, 8192));
	rest[0] = weir_buffer_acquire(pool, 2048);
	rest[1] = weir_buffer_acquire(pool, 1000);
	CHECK_NOT_NULL(rest[0]);
	CHECK_NOT_NULL(rest[1]);
	CHECK_NULL(weir_buffer_acquire(pool, 512));
	rest[2] = weir_buffer_acquire(pool, 64);
	CHECK_NOT_NULL(rest[2]);
	CHECK(weir_buffer_pool_check(pool));
	CHECK_EQ(tier_stats(pool, 3).failures, 1);
	CHECK_EQ(tier_stats(pool, 1).failures, 1);
	/* References do not count twice. */
	weir_buffer_retain_many(rest[2], 1000);
	weir_buffer_release(large);
	CHECK_NULL(weir_buffer_acquire(pool, 65536 + 1));
	large = weir_buffer_acquire(pool, 65536);
	CHECK_NOT_NULL(large);
	weir_buffer_release_many(rest[2], 1001);
	weir_buffer_release(rest[1]);
	weir_buffer_release(rest[0]);
	weir_buffer_release(large);
	pool_end(pool);
}

TEST(buffer_limit_bytes_trims_other_tiers_before_a_tier_grows)
{
	enum { LIMIT = 4 << 20 };
	struct weir_buffer_pool_config config = {.limit_bytes = LIMIT};
	struct weir_buffer_pool *pool = pool_make(&config);
	static struct weir_buffer *held[LIMIT / 512];

	/* Each tier in turn takes all there is. */
	for (size_t t = 1; t < DEFAULT_TIERS; t++) {
		size_t count = LIMIT / default_bytes[t];
		uint64_t mapped = 0;

		for (size_t i = 0; i < count; i++) {
			held[i] = weir_buffer_acquire(pool, default_bytes[t]);
			CHECK_NOT_NULL(held[i]);
		}
		CHECK_NULL(weir_buffer_acquire(pool, 1));
		for (size_t i = 0; i < DEFAULT_TIERS; i++)
			mapped += tier_stats(pool, i).bytes_mapped;
		/* What stays beside the 4 MiB: descriptors (an eighth for the
		 * tier of 512) and one block with a loaded magazine a tier. */
		CHECK_LE(mapped, LIMIT + LIMIT / 8 + t * (2 << 20) + 65536);
		for (size_t i = 0; i < count; i++)
			weir_buffer_release(held[i]);
		CHECK(weir_buffer_pool_check(pool));
	}
	pool_end(pool);
}

TEST(buffer_limit_nothing_closes_a_tier_or_a_pool)
{
	struct weir_buffer_pool_config config = {
	    .tier = {{.bytes = 512, .limit = WEIR_LIMIT_NOTHING},
		{.bytes = 2048}},
	    .tier_count = 2,
	};
	struct weir_buffer_pool *pool = pool_make(&config);
	struct weir_buffer *b = weir_buffer_acquire(pool, 513);

	CHECK_NULL(weir_buffer_acquire(pool, 512));
	CHECK_NOT_NULL(b);
	CHECK_EQ(tier_stats(pool, 0).failures, 1);
	CHECK_EQ(tier_stats(pool, 0).limit, 0);
	weir_buffer_release(b);
	pool_end(pool);

	config.limit_bytes = WEIR_LIMIT_NOTHING;
	pool = pool_make(&config);
	CHECK_NULL(weir_buffer_acquire(pool, 513));
	CHECK_NULL(weir_buffer_acquire(pool, 0));
	pool_end(pool);
}

struct limit_race {
	struct weir_buffer_pool *pool;
	uint64_t held; /* bytes over all threads, as the callers count them */
	uint64_t limit;
};

static void
limit_race_run(unsigned index, void *context)
{
	struct limit_race *race = context;
	struct weir_buffer *held[64] = {NULL};
	struct test_rng rng;
	size_t steps = test_count(100000);

	test_rng_init(&rng, test_seed() + index);
	for (size_t i = 0; i < steps; i++) {
		size_t at = test_rand_below(&rng, 64);

		if (held[at] != NULL) {
			__atomic_fetch_sub(
			    &race->held, held[at]->bytes, __ATOMIC_SEQ_CST);
			weir_buffer_release(held[at]);
			held[at] = NULL;
			continue;
		}
		held[at] = weir_buffer_acquire(
		    race->pool, 1 + test_rand_below(&rng, 8192));
		if (held[at] != NULL)
			CHECK_LE(__atomic_add_fetch(&race->held,
				     held[at]->bytes, __ATOMIC_SEQ_CST),
			    race->limit);
	}
	for (size_t at = 0; at < 64; at++) {
		if (held[at] != NULL)
			__atomic_fetch_sub(
			    &race->held, held[at]->bytes, __ATOMIC_SEQ_CST);
		weir_buffer_release(held[at]);
	}
}

TEST(buffer_limit_bytes_is_never_passed_by_racing_threads)
{
	struct weir_buffer_pool_config config = {.limit_bytes = 200000};
	struct limit_race race = {.limit = 200000};

	race.pool = pool_make(&config);
	test_threads(4, limit_race_run, &race);
	CHECK_EQ(race.held, 0);
	CHECK_GT(tier_stats(race.pool, 3).failures, 0);
	pool_end(race.pool);
}

/* ---- look-up ----------------------------------------------------------- */

TEST(buffer_of_finds_the_buffer_around_any_address)
{
	struct weir_buffer_pool_config config = {
	    .tier = {{.bytes = 100}, {.bytes = 5000}},
	    .tier_count = 2,
	};
	struct weir_buffer_pool *pool = pool_make(&config);
	struct weir_buffer *held[2][50];
	unsigned char *stale;
	char foreign[64];

	for (size_t t = 0; t < 2; t++)
		for (size_t i = 0; i < 50; i++)
			held[t][i] =
			    weir_buffer_acquire(pool, config.tier[t].bytes);
	for (size_t t = 0; t < 2; t++)
		for (size_t i = 0; i < 50; i++) {
			struct weir_buffer *b = held[t][i];

			CHECK_PTR(weir_buffer_of(b->data), b);
			CHECK_PTR(weir_buffer_of(b->data + b->bytes - 1), b);
			/* 100 and 5000 leave gaps to the next part. */
			CHECK_NULL(weir_buffer_of(b->data + b->bytes));
			CHECK_NULL(weir_buffer_of(b));
		}
	stale = held[1][7]->data;
	weir_buffer_release(held[1][7]);
	CHECK_NULL(weir_buffer_of(stale));
	held[1][7] = NULL;
	CHECK_NULL(weir_buffer_of(NULL));
	CHECK_NULL(weir_buffer_of(foreign));
	CHECK_NULL(weir_buffer_of((void *)(uintptr_t)0xffff800000000000));
	for (size_t t = 0; t < 2; t++)
		for (size_t i = 0; i < 50; i++)
			weir_buffer_release(held[t][i]);
	pool_end(pool);
}

/* ---- figures and memory ------------------------------------------------ */

TEST(buffer_statistics_name_each_tier)
{
	struct weir_buffer_pool *pool;
	struct weir_pool_stats stats[16] = {{.size = sizeof(stats[0])}};
	struct weir_pool_stats one = {.size = sizeof(one)};
	size_t pools, found = 0;
	struct weir_buffer *b;

	CHECK_EQ(weir_buffer_pool_create(
		     "a-name-much-longer-than-any-table-has-room-for-it", NULL,
		     &pool),
	    0);
	b = weir_buffer_acquire(pool, 60000);
	CHECK_EQ(weir_buffer_pool_stats(pool, DEFAULT_TIERS, &one), -EINVAL);
	one.size = 8;
	CHECK_EQ(weir_buffer_pool_stats(pool, 0, &one), -EINVAL);

	pools = weir_stats_pools(stats, 16);
	for (size_t i = 0; i < pools && i < 16; i++) {
		const char *slash = strrchr(stats[i].name, '/');

		if (stats[i].kind != WEIR_POOL_BUFFER || slash == NULL)
			continue;
		CHECK_LT(found, DEFAULT_TIERS);
		CHECK_EQ(strtoul(slash + 1, NULL, 10), default_bytes[found]);
		CHECK_EQ(stats[i].object_bytes, default_bytes[found]);
		CHECK_EQ(stats[i].limit, UINT64_MAX);
		CHECK_EQ(stats[i].in_use, found == 5);
		found++;
	}
	CHECK_EQ(found, DEFAULT_TIERS);
	CHECK_EQ(tier_stats(pool, 5).bytes_in_use, 65536);
	CHECK_GE(tier_stats(pool, 5).bytes_mapped, 65536 + 64);
	weir_buffer_release(b);
	pool_end(pool);
	CHECK_EQ(weir_stats_pools(NULL, 0), pools - DEFAULT_TIERS);
}

TEST(buffer_limit_bytes_and_what_counts_against_it_are_in_each_tier)
{
	struct weir_buffer_pool_config config = {
	    .tier = {{.bytes = 512}, {.bytes = 2048}},
	    .tier_count = 2,
	    .limit_bytes = 3000,
	};
	struct weir_buffer_pool *pool = pool_make(&config);
	struct weir_buffer *a = weir_buffer_acquire(pool, 500);
	struct weir_buffer *b = weir_buffer_acquire(pool, 2000);

	CHECK_NULL(weir_buffer_acquire(pool, 500));
	CHECK_NULL(weir_buffer_acquire(pool, 2000));
	CHECK_NULL(weir_buffer_acquire(pool, 2049));
	for (size_t i = 0; i < 2; i++) {
		struct weir_pool_stats stats = tier_stats(pool, i);

		CHECK_EQ(stats.limit_bytes, 3000);
		CHECK_EQ(stats.limit_bytes_used, 512 + 2048);
		CHECK_EQ(stats.failures_by_bytes, 1);
		CHECK_EQ(stats.failures_by_size, i);
		CHECK_EQ(stats.failures, 1 + i);
	}
	weir_buffer_release(b);
	CHECK_EQ(tier_stats(pool, 1).limit_bytes_used, 512);
	weir_buffer_release(a);
	CHECK_EQ(tier_stats(pool, 0).limit_bytes_used, 0);
	pool_end(pool);
	/* Without one there is nothing to count. */
	pool = pool_make(NULL);
	a = weir_buffer_acquire(pool, 500);
	CHECK_EQ(tier_stats(pool, 1).limit_bytes, UINT64_MAX);
	CHECK_EQ(tier_stats(pool, 1).limit_bytes_used, 0);
	weir_buffer_release(a);
	pool_end(pool);
}

TEST(buffer_preallocated_tier_is_ready)
{
	struct weir_buffer_pool_config config = {
	    .tier = {{.bytes = 2048, .limit = 3000, .prealloc = 1500}},
	    .tier_count = 1,
	};
	struct weir_buffer_pool *pool = pool_make(&config);
	struct weir_pool_stats stats = tier_stats(pool, 0);

	CHECK_GE(stats.total, 1500);
	CHECK_LE(stats.total, 3000);
	CHECK_EQ(stats.in_use, 0);
	pool_end(pool);
}

TEST(buffer_trim_gives_idle_blocks_back_and_keeps_held_ones)
{
	enum { COUNT = 256 }; /* 16 MiB of 64 KiB */
	struct weir_buffer_pool *pool = pool_make(NULL);
	struct weir_buffer *held[COUNT];
	uint64_t before, after;
	size_t given;

	for (size_t i = 0; i < COUNT; i++) {
		held[i] = weir_buffer_acquire(pool, 65536);
		memset(held[i]->data, (int)i & 0xff, 65536);
	}
	for (size_t i = 1; i < COUNT; i++)
		weir_buffer_release(held[i]);
	before = tier_stats(pool, 5).bytes_mapped;
	given = weir_buffer_pool_trim(pool);
	after = tier_stats(pool, 5).bytes_mapped;
	CHECK_EQ(before - after, given);
	/* Kept: the block of held[0], and those a loaded magazine of 8
	 * buffers can reach. */
	CHECK_LE(after, 9 * ((2 << 20) + 4096));
	CHECK_GT(given, 0);
	CHECK(all_bytes(held[0]->data, 65536, 0));
	CHECK(weir_buffer_pool_check(pool));
	weir_buffer_release(held[0]);
	pool_end(pool);
}
