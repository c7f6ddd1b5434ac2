/* SPDX-License-Identifier: MIT */
/*
 * hist.h - a histogram of times with a bounded relative error.
 *
 * Values below 64 have a bucket each; every power of two above is cut into 64
 * equal buckets, up to the whole range of uint64_t.  A percentile is given as
 * the highest value of its bucket, so it is never too low and at most 1/64
 * (1.57 %) too high; the largest value is exact.  Recording is a shift and an
 * increment, and histograms of several runs can be added.
 */
#ifndef WEIR_TOOL_HIST_H
#define WEIR_TOOL_HIST_H

#include <stdint.h>

#define HIST_SUB_BITS 6
#define HIST_SUB_BUCKETS (1u << HIST_SUB_BITS)
/* 64 exact values, then 64 buckets for each of the bits 6 to 63. */
#define HIST_BUCKETS (HIST_SUB_BUCKETS * (64 - HIST_SUB_BITS + 1))

struct hist {
	uint64_t total;
	uint64_t max;
	double sum;
	uint64_t bucket[HIST_BUCKETS];
};

/** hist_index() - the bucket of a value. */
static inline uint32_t
hist_index(uint64_t value)
{
	/* The setting of a bit that values below 64 lack keeps clz defined. */
	uint32_t top = 63 - (uint32_t)__builtin_clzll(value | HIST_SUB_BUCKETS);
	uint32_t shift = top - HIST_SUB_BITS;

	/*
	 * value >> shift is 64 to 127 above the linear part, so a shift of s
	 * fills the buckets from 64 * (s + 1) on.
	 */
	return shift * HIST_SUB_BUCKETS + (uint32_t)(value >> shift);
}

/** hist_record() - count one value. */
static inline void
hist_record(struct hist *hist, uint64_t value)
{
	hist->bucket[hist_index(value)]++;
	hist->total++;
	hist->sum += (double)value;
	if (value > hist->max)
		hist->max = value;
}

/** hist_reset() - forget all values. */
void hist_reset(struct hist *hist);

/** hist_add() - count all values of another histogram too. */
void hist_add(struct hist *hist, const struct hist *other);

/**
 * hist_percentile() - the value that @percent of the values do not exceed.
 *
 * Returns 0 for an empty histogram and the exact largest value for 100.
 */
uint64_t hist_percentile(const struct hist *hist, double percent);

/** hist_mean() - the exact mean, 0 for an empty histogram. */
double hist_mean(const struct hist *hist);

#endif /* WEIR_TOOL_HIST_H */
