/* SPDX-License-Identifier: MIT */
/*
 * hist.c - percentiles of a log-linear histogram; hist.h has the layout.
 *
 * Invariants:
 *
 *   H1  The buckets sum to total.
 *   H2  hist_index() grows with its argument, so walking the buckets walks the
 *       values in order.
 */
#include "hist.h"

#include <string.h>

/* The largest value that falls into a bucket. */
static uint64_t
hist_upper(uint32_t index)
{
	if (index < 2 * HIST_SUB_BUCKETS)
		return index;
	uint32_t shift = index / HIST_SUB_BUCKETS - 1;
	uint64_t sub = index % HIST_SUB_BUCKETS + HIST_SUB_BUCKETS;

	return ((sub + 1) << shift) - 1; /* the last bucket: UINT64_MAX */
}

void
hist_reset(struct hist *hist)
{
	memset(hist, 0, sizeof(*hist));
}

void
hist_add(struct hist *hist, const struct hist *other)
{
	hist->total += other->total;
	hist->sum += other->sum;
	if (other->max > hist->max)
		hist->max = other->max;
	for (uint32_t i = 0; i < HIST_BUCKETS; i++)
		hist->bucket[i] += other->bucket[i];
}

uint64_t
hist_percentile(const struct hist *hist, double percent)
{
	/* Rank by the nearest-rank rule: the smallest k with k/n >= p. */
	double rank = percent / 100.0 * (double)hist->total;
	uint64_t wanted = (uint64_t)rank;
	uint64_t seen = 0;

	if (hist->total == 0)
		return 0;
	if ((double)wanted < rank || wanted == 0)
		wanted++;
	if (wanted > hist->total)
		wanted = hist->total;
	for (uint32_t i = 0; i < HIST_BUCKETS; i++) {
		seen += hist->bucket[i];
		if (seen >= wanted) {
			uint64_t upper = hist_upper(i);
			return upper < hist->max ? upper : hist->max;
		}
	}
	return hist->max;
}

double
hist_mean(const struct hist *hist)
{
	return hist->total == 0 ? 0.0 : hist->sum / (double)hist->total;
}
