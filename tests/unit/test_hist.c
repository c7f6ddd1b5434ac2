/* SPDX-License-Identifier: MIT */
/*
 * test_hist.c - the latency histogram of `weir load`, against exact sorting.
 */
#include "test.h"

#include <stdlib.h>
#include <string.h>

#include "../../tools/weir/hist.c"

/* What hist.h promises: never too low, at most 1/64 too high. */
#define ERROR_MAX (1.0 / 64.0)

static struct hist hist;
static struct hist other;

static int
compare(const void *a, const void *b)
{
	const uint64_t *left = a;
	const uint64_t *right = b;

	return (*left > *right) - (*left < *right);
}

/* The nearest-rank percentile of sorted values. */
static uint64_t
exact(const uint64_t *values, size_t count, double percent)
{
	double rank = percent / 100.0 * (double)count;
	size_t k = (size_t)rank;

	if ((double)k < rank || k == 0)
		k++;
	return values[k - 1];
}

static void
check_percentiles(uint64_t *values, size_t count)
{
	static const double percents[] = {
	    0, 0.1, 1, 25, 50, 75, 90, 99, 99.9, 99.99, 100};

	qsort(values, count, sizeof(*values), compare);
	for (size_t i = 0; i < sizeof(percents) / sizeof(percents[0]); i++) {
		uint64_t truth = exact(values, count, percents[i]);
		uint64_t got = hist_percentile(&hist, percents[i]);

		CHECK_GE(got, truth);
		CHECK((double)(got - truth) <= (double)truth * ERROR_MAX);
	}
	CHECK_EQ(hist_percentile(&hist, 100), values[count - 1]);
}

TEST(hist_error_is_bounded_for_all_distributions)
{
	size_t count = test_count(20000);
	uint64_t *values = malloc(count * sizeof(*values));
	struct test_rng rng;

	CHECK_NOT_NULL(values);
	test_rng_init(&rng, test_seed());
	for (unsigned shape = 0; shape < 64; shape += 3) {
		hist_reset(&hist);
		for (size_t i = 0; i < count; i++) {
			/* Uniform up to 2^k; then spread over all scales. */
			unsigned shift = shape;
			if (shape % 2 == 1)
				shift = (unsigned)test_rand_below(&rng, 64);
			values[i] = test_rand(&rng) >> shift;
			hist_record(&hist, values[i]);
		}
		check_percentiles(values, count);
	}
	free(values);
}

TEST(hist_is_exact_below_twice_its_resolution)
{
	hist_reset(&hist);
	for (uint64_t value = 0; value < 128; value++)
		hist_record(&hist, value);
	for (uint64_t value = 0; value < 128; value++) {
		double percent = 100.0 * (double)(value + 1) / 128.0;
		CHECK_EQ(hist_percentile(&hist, percent), value);
	}
	CHECK(hist_mean(&hist) == 63.5);
}

TEST(hist_index_grows_with_its_argument_and_stays_inside)
{
	uint32_t last = hist_index(0);

	CHECK_EQ(last, 0);
	for (uint64_t value = 1; value < 64; value++)
		CHECK_EQ(hist_index(value), ++last);
	for (unsigned bit = 6; bit < 64; bit++)
		for (uint64_t step = 0; step < 64; step++) {
			uint64_t low = UINT64_C(1) << bit;
			uint64_t value = low + (low / 64) * step;
			uint32_t index = hist_index(value);

			CHECK_GE(index, last);
			CHECK_LE(index, last + 1);
			last = index;
		}
	CHECK_EQ(hist_index(UINT64_MAX), HIST_BUCKETS - 1);
}

TEST(hist_upper_is_the_last_value_of_its_bucket)
{
	for (uint32_t i = 0; i < HIST_BUCKETS; i++) {
		CHECK_EQ(hist_index(hist_upper(i)), i);
		if (i + 1 < HIST_BUCKETS)
			CHECK_EQ(hist_index(hist_upper(i) + 1), i + 1);
	}
	CHECK_EQ(hist_upper(HIST_BUCKETS - 1), UINT64_MAX);
}

TEST(hist_add_equals_recording_into_one)
{
	struct hist *both = calloc(1, sizeof(*both));
	struct test_rng rng;

	CHECK_NOT_NULL(both);
	test_rng_init(&rng, test_seed());
	hist_reset(&hist);
	hist_reset(&other);
	for (size_t i = 0; i < 5000; i++) {
		/* 40 bits: the sums of doubles stay exact. */
		uint64_t value = test_rand(&rng) >> 24;

		hist_record(both, value);
		hist_record(i % 3 == 0 ? &hist : &other, value);
	}
	hist_add(&hist, &other);
	CHECK_MEM(&hist, both, sizeof(hist));
	free(both);
}

TEST(hist_empty_has_zero_percentiles)
{
	hist_reset(&hist);
	CHECK_EQ(hist_percentile(&hist, 50), 0);
	CHECK_EQ(hist_percentile(&hist, 100), 0);
	CHECK(hist_mean(&hist) == 0.0);
}
