/* SPDX-License-Identifier: MIT */
/*
 * bench_figures.c - figures of all rounds become medians and ratios.
 *
 * A ratio is opponent over weir, so 2 means that weir takes half.  It is the
 * median of the ratios of rounds in which both have a figure: the two were
 * measured within seconds, while medians of minutes apart drift with the
 * machine.  The interval of that median, see demo_stats.h, lies within value
 * plus and minus spread.
 */
#include "bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "demo_stats.h"

static struct bench_figure *
figures_find(const struct bench_figures *figures, unsigned suite, unsigned peer,
    const char *name, const char *metric)
{
	for (size_t i = figures->count; i > 0; i--) {
		struct bench_figure *figure = &figures->figures[i - 1];

		if (figure->suite == suite && figure->peer == peer &&
		    strcmp(figure->name, name) == 0 &&
		    strcmp(figure->metric, metric) == 0)
			return figure;
	}
	return NULL;
}

static struct bench_figure *
figures_append(struct bench_figures *figures)
{
	if (figures->count == figures->room) {
		size_t room = figures->room == 0 ? 256 : figures->room * 2;
		void *more =
		    realloc(figures->figures, room * sizeof(*figures->figures));

		if (more == NULL) {
			figures->failed = true;
			return NULL;
		}
		figures->figures = more;
		figures->room = room;
	}
	return &figures->figures[figures->count++];
}

void
bench_figures_add(struct bench_figures *figures, unsigned suite, unsigned peer,
    unsigned round, const char *name, const char *metric, double value,
    const char *unit)
{
	struct bench_figure *figure =
	    figures_find(figures, suite, peer, name, metric);

	if (figure == NULL) {
		figure = figures_append(figures);
		if (figure == NULL)
			return;
		figure->suite = (uint8_t)suite;
		figure->peer = (uint8_t)peer;
		snprintf(figure->name, sizeof(figure->name), "%s", name);
		snprintf(figure->metric, sizeof(figure->metric), "%s", metric);
		snprintf(figure->unit, sizeof(figure->unit), "%s", unit);
		for (unsigned i = 0; i < BENCH_ROUNDS_MAX; i++)
			figure->values[i] = NAN;
	}
	if (round < BENCH_ROUNDS_MAX)
		figure->values[round] = value;
}

bool
bench_metric_compared(const char *metric)
{
	static const char *const compared[] = {"ns_op", "cpu_ns_op", "us_100k",
	    "p99_ns", "p99.9_ns", "rss_ratio", "waste_ratio", "p99.9_over_p50"};

	for (size_t i = 0; i < sizeof(compared) / sizeof(compared[0]); i++)
		if (strcmp(metric, compared[i]) == 0)
			return true;
	return false;
}

static void
figures_row(struct bench_rows *rows, const struct bench_figure *figure,
    const char *metric, const char *unit, double *values, unsigned count)
{
	struct demo_spread spread = demo_spread(values, count);
	struct bench_row *row;

	if (count == 0)
		return;
	row = bench_rows_add(rows, bench_suites[figure->suite].name,
	    figure->name, bench_peers[figure->peer].name, metric);
	if (row == NULL)
		return;
	snprintf(row->unit, sizeof(row->unit), "%s", unit);
	row->value = spread.median;
	row->spread =
	    fmax(spread.high - spread.median, spread.median - spread.low);
	row->rounds = count;
}

static void
figures_ratio(struct bench_rows *rows, const struct bench_figure *figure,
    const struct bench_figure *weir)
{
	double values[BENCH_ROUNDS_MAX];
	char metric[BENCH_NAME_BYTES];
	unsigned count = 0;

	for (unsigned i = 0; i < BENCH_ROUNDS_MAX; i++) {
		double ratio = figure->values[i] / weir->values[i];

		if (isfinite(ratio))
			values[count++] = ratio;
	}
	snprintf(metric, sizeof(metric), "%.20s_over_%.13s", figure->metric,
	    bench_peers[weir->peer].name);
	figures_row(rows, figure, metric, "x", values, count);
}

static void
figures_ratios(const struct bench_figures *figures,
    const struct bench_figure *figure, struct bench_rows *rows)
{
	if (!bench_metric_compared(figure->metric) ||
	    strncmp(figure->name, "mixed/hour", 10) == 0)
		return;
	for (unsigned i = 0; i < bench_peer_count; i++) {
		const struct bench_figure *weir;

		if (bench_peers[i].kind != BENCH_WEIR || i == figure->peer)
			continue;
		weir = figures_find(
		    figures, figure->suite, i, figure->name, figure->metric);
		if (weir != NULL)
			figures_ratio(rows, figure, weir);
	}
}

void
bench_figures_rows(const struct bench_figures *figures, struct bench_rows *rows)
{
	if (figures->failed)
		rows->failed = true;
	for (size_t i = 0; i < figures->count; i++) {
		const struct bench_figure *figure = &figures->figures[i];
		double values[BENCH_ROUNDS_MAX];
		unsigned count = 0;

		for (unsigned round = 0; round < BENCH_ROUNDS_MAX; round++)
			if (isfinite(figure->values[round]))
				values[count++] = figure->values[round];
		figures_row(
		    rows, figure, figure->metric, figure->unit, values, count);
		figures_ratios(figures, figure, rows);
	}
}

void
bench_figures_free(struct bench_figures *figures)
{
	free(figures->figures);
	*figures = (struct bench_figures){0};
}
