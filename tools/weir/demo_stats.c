/* SPDX-License-Identifier: MIT */
/*
 * demo_stats.c - medians of paired rounds.
 *
 * On a shared machine a figure drifts by more than the effect that is looked
 * for.  Two figures of one round are neighbours in time, so their ratio drifts
 * far less, and the median of the ratios is not moved by the round in which a
 * backup started.  Its interval comes from order statistics, which assume
 * nothing about how the disturbances are distributed.
 */
#include "demo_stats.h"

#include <math.h>
#include <stdlib.h>

#define STATS_TAIL 0.025 /* on each side: 95 % between */

static int
stats_compare(const void *a, const void *b)
{
	const double *left = a;
	const double *right = b;

	return (*left > *right) - (*left < *right);
}

/*
 * The largest k with P(fewer than k of n values below the median) <= 2.5 %,
 * which is a binomial tail of a fair coin; 0 if there is none.
 */
static unsigned
stats_rank(unsigned count, double *tail)
{
	double term = ldexp(1.0, -(int)count); /* P(X = 0) */
	double sum = 0.0;
	unsigned k = 0;

	while (k < count / 2 && sum + term <= STATS_TAIL) {
		sum += term;
		k++;
		term = term * (count - k + 1) / k;
	}
	*tail = sum;
	return k;
}

struct demo_spread
demo_spread(double *values, unsigned count)
{
	struct demo_spread spread = {.count = count};
	double tail;
	unsigned rank;

	if (count == 0) {
		spread.median = spread.low = spread.high = NAN;
		return spread;
	}
	qsort(values, count, sizeof(*values), stats_compare);
	spread.median = (values[(count - 1) / 2] + values[count / 2]) / 2.0;
	rank = stats_rank(count, &tail);
	if (rank == 0) {
		rank = 1;
		tail = ldexp(1.0, -(int)count);
	}
	spread.low = values[rank - 1];
	spread.high = values[count - rank];
	spread.coverage = 1.0 - 2.0 * tail;
	return spread;
}

bool
demo_spread_is_sure(const struct demo_spread *spread)
{
	return spread->coverage >= 1.0 - 2.0 * STATS_TAIL;
}

bool
demo_spread_is_even(const struct demo_spread *ratio)
{
	return ratio->low <= 1.0 && ratio->high >= 1.0;
}

double
demo_metric(const struct demo_round *round, enum demo_metric metric)
{
	switch (metric) {
	case DEMO_PACKETS_PER_S:
		return round->packets_per_s;
	case DEMO_CPU:
		return round->cpu_us;
	case DEMO_CPU_ALONE:
		return round->cpu_alone_us;
	case DEMO_MEAN:
		return round->mean_ns;
	case DEMO_P50:
		return round->p50_ns;
	case DEMO_P99:
		return round->p99_ns;
	case DEMO_OTHERS:
		return round->others;
	case DEMO_METRIC_COUNT:
		break;
	}
	return NAN;
}

struct demo_spread
demo_row_spread(const struct demo_row *row, enum demo_metric metric)
{
	double values[DEMO_ROUNDS_MAX];

	for (unsigned i = 0; i < row->round_count; i++)
		values[i] = demo_metric(&row->rounds[i], metric);
	return demo_spread(values, row->round_count);
}

struct demo_spread
demo_ratio_spread(const struct demo_row *row, const struct demo_row *other,
    enum demo_metric metric)
{
	unsigned count = row->round_count < other->round_count
			     ? row->round_count
			     : other->round_count;
	double values[DEMO_ROUNDS_MAX];
	unsigned used = 0;

	for (unsigned i = 0; i < count; i++) {
		double below = demo_metric(&other->rounds[i], metric);
		double ratio = demo_metric(&row->rounds[i], metric) / below;

		if (isfinite(ratio))
			values[used++] = ratio;
	}
	return demo_spread(values, used);
}
