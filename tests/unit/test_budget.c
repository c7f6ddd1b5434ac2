/* SPDX-License-Identifier: MIT */
/*
 * test_budget.c - the process budget: never above its limit, also with threads,
 * and the hooks at its edges.
 */
#include "test.h"

#include "config/config.h"
#include "pages/budget.h"
#include "pages/pages.h"

#include <weir/runtime.h>
#include <weir/stats.h>

#include <errno.h>
#include <string.h>

#define KIB ((size_t)1024)
#define MIB (KIB * KIB)

static struct weir_stats
read_stats(void)
{
	struct weir_stats stats = {.size = sizeof(stats)};

	weiri_pages_stats(&stats);
	return stats;
}

static void
check_conserved(void)
{
	struct weir_stats s = read_stats();

	CHECK_EQ(s.bytes_charged,
	    s.bytes_in_spans + s.bytes_retained + s.bytes_metadata);
	CHECK(weiri_pages_check());
}

TEST(budget_charges_up_to_the_last_byte_and_not_one_more)
{
	struct weiri_budget_figures b;

	weiri_budget_read(&b);
	CHECK_EQ(b.charged_bytes, 0);
	CHECK_EQ(weiri_budget_set(1000, UINT64_MAX), 0);
	CHECK(weiri_budget_charge(999));
	CHECK(!weiri_budget_charge(2));
	CHECK(weiri_budget_charge(1));
	CHECK(!weiri_budget_charge(1));
	CHECK(weiri_budget_charge(0));
	CHECK(!weiri_budget_charge(SIZE_MAX));
	CHECK_EQ(weiri_budget_headroom(), 0);
	weiri_budget_uncharge(400);
	CHECK_EQ(weiri_budget_headroom(), 400);
	weiri_budget_read(&b);
	CHECK_EQ(b.charged_bytes, 600);
	CHECK_EQ(b.peak_bytes, 1000);
	weiri_budget_uncharge(600);
}

TEST(budget_lowered_below_the_charge_refuses_until_it_is_paid)
{
	CHECK_EQ(weiri_budget_set(1000, UINT64_MAX), 0);
	CHECK(weiri_budget_charge(800));
	CHECK_EQ(weiri_budget_set(500, UINT64_MAX), 0);
	CHECK_EQ(weiri_budget_headroom(), 0);
	CHECK(!weiri_budget_charge(1));
	weiri_budget_uncharge(400);
	CHECK(weiri_budget_charge(100));
	CHECK(!weiri_budget_charge(1));
	weiri_budget_uncharge(500);
}

TEST(budget_refuses_a_soft_limit_above_the_hard_one)
{
	struct weiri_budget_figures b;

	CHECK_EQ(weiri_budget_set(1000, 500), 0);
	CHECK_EQ(weiri_budget_set(1000, 1001), -EINVAL);
	weiri_budget_read(&b);
	CHECK_EQ(b.limit_bytes, 1000);
	CHECK_EQ(b.soft_bytes, 500);
	CHECK_EQ(weiri_budget_set(1000, 1000), 0);
	CHECK_EQ(weiri_budget_set(1000, UINT64_MAX), 0);
}

#define STRICT_LIMIT (64 * KIB)

struct strict {
	uint64_t granted; /* what the threads hold by their own count */
	bool stop;
	size_t rounds;
};

static void
strict_run(unsigned index, void *context)
{
	struct strict *strict = context;
	struct test_rng rng;

	test_rng_init(&rng, test_seed() + index);
	for (size_t i = 0; i < strict->rounds; i++) {
		size_t bytes = 1 + test_rand_below(&rng, STRICT_LIMIT / 3);

		if (!weiri_budget_charge(bytes))
			continue;

		/* Counted after the charge and uncounted before it is taken
		 * back, so the sum seen here is never more than charged. */
		uint64_t sum = __atomic_add_fetch(
		    &strict->granted, bytes, __ATOMIC_RELAXED);

		CHECK_LE(sum, STRICT_LIMIT);
		__atomic_fetch_sub(&strict->granted, bytes, __ATOMIC_RELAXED);
		weiri_budget_uncharge(bytes);
	}
}

TEST(budget_is_strict_with_threads_at_its_edge)
{
	struct strict strict = {.rounds = test_count(100000)};
	struct weiri_budget_figures b;

	(void)test_seed();
	CHECK_EQ(weiri_budget_set(STRICT_LIMIT, STRICT_LIMIT / 2), 0);
	test_threads(4, strict_run, &strict);
	weiri_budget_read(&b);
	CHECK_EQ(b.charged_bytes, 0);
	CHECK_LE(b.peak_bytes, STRICT_LIMIT);
	CHECK_GT(b.peak_bytes, 0);
}

/* ---- hooks ------------------------------------------------------------- */

static unsigned soft_calls;
static uint64_t soft_charged, soft_limit;

static void
soft_hook(uint64_t charged, uint64_t soft, void *context)
{
	CHECK_PTR(context, &soft_calls);
	soft_calls++;
	soft_charged = charged;
	soft_limit = soft;

	/* No lock is held: the supply may be used from here. */
	struct weiri_span span = {.kind = WEIRI_SPAN_OTHER};

	CHECK_EQ(weiri_span_alloc(&span, WEIRI_PAGE, WEIRI_PAGE), 0);
	weiri_span_free(&span);
}

TEST(soft_hook_is_called_once_for_each_crossing)
{
	struct weir_config config = {
	    .limit_bytes = 64 * MIB,
	    .soft_bytes = 4 * MIB,
	    .flags = WEIR_IGNORE_ENVIRONMENT,
	    .soft = soft_hook,
	    .soft_context = &soft_calls,
	};
	struct weiri_span low = {.kind = WEIRI_SPAN_OTHER};
	struct weiri_span high = {.kind = WEIRI_SPAN_OTHER};
	struct weiri_span more = {.kind = WEIRI_SPAN_OTHER};

	CHECK_EQ(weiri_config_set(&config), 0);
	CHECK_EQ(weiri_span_alloc(&low, 3 * MIB, WEIRI_PAGE), 0);
	CHECK_EQ(soft_calls, 0);
	CHECK_EQ(weiri_span_alloc(&high, 2 * MIB, WEIRI_PAGE), 0);
	CHECK_EQ(soft_calls, 1);
	CHECK_GT(soft_charged, 5 * MIB);
	CHECK_EQ(soft_limit, 4 * MIB);

	/* Above it, more is not another crossing. */
	CHECK_EQ(weiri_span_alloc(&more, 4 * MIB, WEIRI_PAGE), 0);
	CHECK_EQ(soft_calls, 1);

	weiri_span_free(&more);
	weiri_span_free(&high);
	(void)weiri_pages_trim();
	CHECK_LT(read_stats().bytes_charged, 4 * MIB);
	CHECK_EQ(soft_calls, 1);
	CHECK_EQ(weiri_span_alloc(&high, 2 * MIB, WEIRI_PAGE), 0);
	CHECK_EQ(soft_calls, 2);
	weiri_span_free(&high);
	weiri_span_free(&low);
	check_conserved();
}

static struct weiri_span hoard[8];
static unsigned oom_calls;
static size_t oom_bytes;

static bool
oom_hook(size_t bytes, void *context)
{
	(void)context;
	oom_bytes = bytes;
	if (oom_calls >= WEIRI_COUNT_OF(hoard))
		return false;
	weiri_span_free(&hoard[oom_calls++]);
	return true;
}

TEST(oom_hook_is_asked_until_the_request_fits)
{
	struct weir_config config = {
	    .limit_bytes = 10 * MIB,
	    .flags = WEIR_IGNORE_ENVIRONMENT,
	    .oom = oom_hook,
	};
	struct weiri_span span = {.kind = WEIRI_SPAN_OTHER};
	struct weiri_span large = {.kind = WEIRI_SPAN_OTHER};

	CHECK_EQ(weiri_config_set(&config), 0);
	for (size_t i = 0; i < WEIRI_COUNT_OF(hoard); i++) {
		hoard[i].kind = WEIRI_SPAN_OTHER;
		CHECK_EQ(weiri_span_alloc(&hoard[i], MIB, WEIRI_PAGE), 0);
	}
	CHECK_EQ(oom_calls, 0);
	CHECK_EQ(weiri_span_alloc(&span, 5 * MIB, WEIRI_PAGE), 0);
	CHECK_EQ(oom_bytes, 5 * MIB);
	CHECK_GE(oom_calls, 3);
	CHECK_LE(oom_calls, 4);
	CHECK_EQ(read_stats().failures, 0);

	/* When it has nothing left the request fails, and is counted. */
	CHECK_EQ(weiri_span_alloc(&large, 11 * MIB, WEIRI_PAGE), -ENOMEM);
	CHECK_EQ(oom_calls, WEIRI_COUNT_OF(hoard));
	CHECK_EQ(read_stats().failures, 1);
	weiri_span_free(&span);
	check_conserved();
}

/* ---- the supply under a limit ------------------------------------------ */

TEST(spans_at_the_limit_use_retained_pages_before_they_fail)
{
	struct weiri_span a = {.kind = WEIRI_SPAN_OTHER};
	struct weiri_span b = {.kind = WEIRI_SPAN_OTHER};
	struct weiri_span c = {.kind = WEIRI_SPAN_OTHER};

	CHECK_EQ(weiri_budget_set(6 * MIB, UINT64_MAX), 0);
	CHECK_EQ(weiri_span_alloc(&a, 4 * MIB, WEIRI_PAGE), 0);
	CHECK_EQ(weiri_span_alloc(&b, WEIRI_PAGE, WEIRI_PAGE), 0);
	weiri_span_free(&a);
	/* 4 MiB are retained; 5 MiB elsewhere fit only once those are given
	 * back. */
	CHECK_EQ(weiri_span_alloc(&c, 5 * MIB, WEIRI_PAGE), 0);
	CHECK_LE(read_stats().bytes_peak, 6 * MIB);
	check_conserved();
	CHECK_EQ(weiri_span_alloc(&a, 4 * MIB, WEIRI_PAGE), -ENOMEM);
	weiri_span_free(&b);
	weiri_span_free(&c);
	check_conserved();
}

static void
limit_run(unsigned index, void *context)
{
	struct weiri_span held[8];
	bool used[8] = {false};
	struct test_rng rng;
	size_t rounds = *(size_t *)context;

	memset(held, 0, sizeof(held));
	test_rng_init(&rng, test_seed() + index);
	for (size_t i = 0; i < rounds; i++) {
		size_t slot = test_rand_below(&rng, 8);

		if (used[slot]) {
			weiri_span_free(&held[slot]);
			used[slot] = false;
			continue;
		}
		held[slot].kind = WEIRI_SPAN_OTHER;
		used[slot] =
		    weiri_span_alloc(&held[slot],
			1 + test_rand_below(&rng, 512 * KIB), WEIRI_PAGE) == 0;
		if (used[slot])
			memset(held[slot].base, 1, held[slot].bytes);
		CHECK_LE(read_stats().bytes_charged, 8 * MIB);
	}
	for (size_t slot = 0; slot < 8; slot++)
		if (used[slot])
			weiri_span_free(&held[slot]);
}

TEST(spans_of_many_threads_never_pass_the_limit)
{
	size_t rounds = test_count(2000);

	(void)test_seed();
	CHECK_EQ(weiri_budget_set(8 * MIB, UINT64_MAX), 0);
	test_threads(4, limit_run, &rounds);
	CHECK_LE(read_stats().bytes_peak, 8 * MIB);
	CHECK_EQ(read_stats().bytes_in_spans, 0);
	check_conserved();
}

TEST(a_limit_of_one_byte_refuses_everything_and_harms_nothing)
{
	struct weiri_span span = {.kind = WEIRI_SPAN_OTHER};

	CHECK_EQ(weiri_budget_set(1, UINT64_MAX), 0);
	CHECK_EQ(weiri_span_alloc(&span, 1, WEIRI_PAGE), -ENOMEM);
	CHECK_NULL(weiri_meta_alloc(64));
	CHECK_NULL(weiri_meta_alloc(MIB));
	CHECK_EQ(read_stats().bytes_charged, 0);
	check_conserved();
	CHECK_EQ(weiri_budget_set(UINT64_MAX, UINT64_MAX), 0);
	CHECK_EQ(weiri_span_alloc(&span, 1, WEIRI_PAGE), 0);
	weiri_span_free(&span);
	check_conserved();
}
