/* SPDX-License-Identifier: MIT */
/*
 * demo_stats.h - a median and how sure it is.
 */
#ifndef WEIR_TOOL_DEMO_STATS_H
#define WEIR_TOOL_DEMO_STATS_H

#include <stdbool.h>

#include "demo.h"

struct demo_spread {
	double median;
	double low; /* interval of the median */
	double high;
	double coverage; /* probability that it holds the true median */
	unsigned count;
};

/**
 * demo_spread() - median of values and its interval by order statistics.
 *
 * The narrowest symmetric pair of order statistics that holds the median with
 * a probability of at least 95 %, whatever the distribution; with fewer than 6
 * values none does, and the interval is the whole range.  Sorts @values.
 */
struct demo_spread demo_spread(double *values, unsigned count);

/* Were there values enough for an interval of at least 95 %? */
bool demo_spread_is_sure(const struct demo_spread *spread);

/* Is "no difference" (a ratio of 1) inside the interval? */
bool demo_spread_is_even(const struct demo_spread *ratio);

enum demo_metric {
	DEMO_PACKETS_PER_S,
	DEMO_CPU,
	DEMO_CPU_ALONE,
	DEMO_MEAN,
	DEMO_P50,
	DEMO_P99,
	DEMO_OTHERS,
	DEMO_METRIC_COUNT
};

double demo_metric(const struct demo_round *round, enum demo_metric metric);

/* Of one contender. */
struct demo_spread demo_row_spread(
    const struct demo_row *row, enum demo_metric metric);

/* Of the ratios row / other, each from one round. */
struct demo_spread demo_ratio_spread(const struct demo_row *row,
    const struct demo_row *other, enum demo_metric metric);

#endif /* WEIR_TOOL_DEMO_STATS_H */
