/* SPDX-License-Identifier: MIT */
/*
 * test_demo_stats.c - the median's interval that `weir demo` reports.
 */
#include "test.h"

#include <math.h>

#include "../../tools/weir/demo_stats.c"

static struct demo_row row;
static struct demo_row other;

/* Ranks of the sign-test interval, as tables of it have them. */
TEST(demo_spread_uses_the_ranks_of_the_tables)
{
	static const struct {
		unsigned count;
		unsigned rank;
		double coverage;
	} rows[] = {{6, 1, 0.96875}, {9, 2, 0.9609375}, {12, 3, 0.96142578125},
	    {15, 4, 0.96484375}, {20, 6, 0.958610534668}, {30, 10, 0.9572262},
	    {50, 18, 0.9671609}, {100, 40, 0.9647998}};
	double values[100];

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		unsigned count = rows[i].count;
		struct demo_spread spread;

		for (unsigned v = 0; v < count; v++)
			values[v] = (double)((v * 37 + 11) % 101);
		spread = demo_spread(values, count);
		CHECK(spread.low == values[rows[i].rank - 1]);
		CHECK(spread.high == values[count - rows[i].rank]);
		CHECK(fabs(spread.coverage - rows[i].coverage) < 1e-6);
		CHECK_EQ(spread.count, count);
		CHECK(demo_spread_is_sure(&spread));
	}
}

TEST(demo_spread_of_few_values_is_their_range)
{
	double one[] = {3};
	double five[] = {5, 1, 4, 2, 3};
	double four[] = {4, 1, 3, 2};
	struct demo_spread spread = demo_spread(five, 5);

	CHECK(spread.low == 1 && spread.high == 5 && spread.median == 3);
	CHECK(spread.coverage == 0.9375);
	CHECK(!demo_spread_is_sure(&spread));
	spread = demo_spread(four, 4);
	CHECK(spread.median == 2.5);
	spread = demo_spread(one, 1);
	CHECK(spread.low == 3 && spread.high == 3 && spread.coverage == 0.0);
	CHECK(!demo_spread_is_sure(&spread));
	spread = demo_spread(one, 0);
	CHECK(isnan(spread.median) && !demo_spread_is_sure(&spread));
}

/* The claim behind "95 %": the true median is inside that often. */
TEST(demo_spread_covers_the_true_median)
{
	size_t runs = test_count(20000);
	size_t inside = 0;
	struct test_rng rng;

	test_rng_init(&rng, test_seed());
	for (size_t run = 0; run < runs; run++) {
		double values[15];
		struct demo_spread spread;

		/* Skewed, with a true median of 1/4. */
		for (int i = 0; i < 15; i++) {
			double x = (double)test_rand_below(&rng, 1u << 30) /
				   (double)(1u << 30);
			values[i] = x * x;
		}
		spread = demo_spread(values, 15);
		inside += spread.low <= 0.25 && spread.high >= 0.25;
	}
	/* 96.5 %, with five standard deviations of room. */
	double off = (double)inside / (double)runs - 0.96484375;
	double variance = 0.96484375 * (1 - 0.96484375) / (double)runs;
	CHECK(off * off < 25.0 * variance);
}

TEST(demo_ratio_pairs_rounds_and_leaves_out_broken_ones)
{
	struct demo_spread ratio;

	row.round_count = 4;
	other.round_count = 3;
	for (unsigned i = 0; i < 4; i++) {
		row.rounds[i].cpu_us = 2.0 * (i + 1);
		other.rounds[i].cpu_us = 4.0 * (i + 1);
	}
	row.rounds[1].cpu_us = INFINITY; /* a round without packets */
	ratio = demo_ratio_spread(&row, &other, DEMO_CPU);
	CHECK_EQ(ratio.count, 2);
	CHECK(ratio.median == 0.5);
	CHECK(!demo_spread_is_even(&ratio));
	ratio.high = 1.0;
	CHECK(demo_spread_is_even(&ratio));
}
