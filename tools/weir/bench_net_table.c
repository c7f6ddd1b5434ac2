/* SPDX-License-Identifier: MIT */
/*
 * bench_net_table.c - the engine's figures for people: a line each, made of
 * rows alone.
 */
#include "bench_net.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "term.h"

#define TABLE_VALUE_BYTES 48
#define TABLE_FIGURES 12 /* N1 to N12 */

static void
table_number(char *text, size_t bytes, double value, const char *unit)
{
	int digits = fabs(value) >= 100 ? 0 : fabs(value) >= 10 ? 1 : 2;

	snprintf(text, bytes, "%.*f%s%s", digits, value,
	    strcmp(unit, "x") == 0 ? "" : " ",
	    strcmp(unit, "x") == 0 ? "" : unit);
}

/* Value and interval, "-" without one. */
static void
table_measured(char *text, size_t bytes, const struct bench_row *row)
{
	size_t used;

	snprintf(text, bytes, "-");
	if (row == NULL)
		return;
	table_number(text, bytes, row->value, row->unit);
	used = strlen(text);
	if (row->rounds > 1 && used < bytes)
		snprintf(text + used, bytes - used, " +- %.2f", row->spread);
}

static void
table_target(char *text, size_t bytes, const struct bench_row *row)
{
	char sign[3];

	snprintf(text, bytes, "-");
	if (row == NULL)
		return;
	snprintf(sign, sizeof(sign), "%.2s", row->unit);
	snprintf(text, bytes, "%s ", sign);
	table_number(text + 3, bytes - 3, row->value,
	    strlen(row->unit) > 3 ? row->unit + 3 : "");
}

static bool
table_is_figure(const struct bench_row *row)
{
	return strcmp(row->suite, "net") == 0 &&
	       strcmp(row->metric, "what") == 0;
}

static const struct bench_row *
table_find(const struct bench_rows *rows, const struct bench_row *what,
    const char *metric)
{
	return bench_rows_find(rows, "net", what->name, what->peer, metric);
}

static bool
table_passed(const struct bench_rows *rows, const struct bench_row *what)
{
	const struct bench_row *verdict = table_find(rows, what, "verdict");

	return verdict != NULL && strcmp(verdict->unit, "pass") == 0;
}

static void
table_line(const struct bench_rows *rows, const struct bench_row *what,
    bool page, FILE *out)
{
	const struct bench_row *verdict = table_find(rows, what, "verdict");
	const struct bench_row *bare = table_find(rows, what, "bare");
	bool pass = table_passed(rows, what);
	char target[TABLE_VALUE_BYTES];
	char measured[TABLE_VALUE_BYTES];
	char other[TABLE_VALUE_BYTES] = "";

	table_target(target, sizeof(target), table_find(rows, what, "target"));
	table_measured(
	    measured, sizeof(measured), table_find(rows, what, "figure"));
	if (bare != NULL)
		table_number(other, sizeof(other), bare->value, bare->unit);
	if (page) {
		fprintf(out, "| %.*s | `%s` | %s | %s | %s | %s | %s |\n",
		    (int)strcspn(what->name, " "), what->name, what->peer,
		    what->unit, target, measured, other,
		    verdict != NULL ? verdict->unit : "short");
		return;
	}
	fprintf(out, "%-4.*s %-10s %-48.48s %-11s %-14s %-5s %s%s%s\n",
	    (int)strcspn(what->name, " "), what->name, what->peer, what->unit,
	    target, measured, other,
	    term_style(out, pass ? TERM_GOOD : TERM_BAD),
	    verdict != NULL ? verdict->unit : "short",
	    term_style(out, TERM_PLAIN));
}

/* What others took of the processors, at most, in a crowd. */
static double
table_others(const struct bench_rows *rows)
{
	double most = 0;

	for (size_t i = 0; i < rows->count; i++)
		if (strcmp(rows->rows[i].suite, "net") == 0 &&
		    strcmp(rows->rows[i].metric, "others_share") == 0)
			most = fmax(most, rows->rows[i].value);
	return most;
}

static void
table_crowd(
    const struct bench_rows *rows, const char *crowd, bool page, FILE *out)
{
	bool head = false;

	for (size_t i = 0; i < rows->count; i++) {
		const struct bench_row *row = &rows->rows[i];
		const struct bench_row *rate, *p50, *p99, *rss;

		if (strcmp(row->suite, "net") != 0 ||
		    strcmp(row->name, crowd) != 0)
			continue;
		if (strcmp(row->metric, "missing") == 0 ||
		    strcmp(row->metric, "failed") == 0)
			fprintf(out, "%-12s %s: %s\n", row->peer, row->metric,
			    row->unit);
		if (strcmp(row->metric, "cpu_us_packet") != 0)
			continue;
		if (!head && page)
			fprintf(out,
			    "\n| %s | CPU µs/packet | packets/s | p50 µs | "
			    "p99 µs | RSS MiB |\n|---|---|---|---|---|---|\n",
			    crowd);
		else if (!head)
			fprintf(out, "\n%s%-19s %14s %9s %9s %9s %8s%s\n",
			    term_style(out, TERM_BOLD), crowd, "CPU us/packet",
			    "packets/s", "p50 us", "p99 us", "RSS MiB",
			    term_style(out, TERM_PLAIN));
		head = true;
		rate = table_find(rows, row, "packets_s");
		p50 = table_find(rows, row, "p50_us");
		p99 = table_find(rows, row, "p99_us");
		rss = table_find(rows, row, "rss_mib");
		fprintf(out,
		    page ? "| `%s` | %.2f ± %.2f | %.0f | %.0f | %.0f | %.1f "
			   "|\n"
			 : "%-19s %6.2f +- %4.2f %9.0f %9.0f %9.0f %8.1f\n",
		    row->peer, row->value, row->spread,
		    rate != NULL ? rate->value : NAN,
		    p50 != NULL ? p50->value : NAN,
		    p99 != NULL ? p99->value : NAN,
		    rss != NULL ? rss->value : NAN);
	}
}

/* Every case in which processor time was measured, as they came. */
static void
table_crowds(const struct bench_rows *rows, bool page, FILE *out)
{
	const char *last = "";

	for (size_t i = 0; i < rows->count; i++) {
		const struct bench_row *row = &rows->rows[i];

		if (strcmp(row->suite, "net") != 0 ||
		    strcmp(row->metric, "cpu_us_packet") != 0 ||
		    strcmp(row->name, last) == 0)
			continue;
		last = row->name;
		table_crowd(rows, last, page, out);
	}
}

/* What a pool is said to bring, and what it does. */
static void
table_pooling(const struct bench_rows *rows, FILE *out)
{
	bool any = false;

	for (size_t i = 0; i < rows->count; i++) {
		const struct bench_row *rate = &rows->rows[i];
		const struct bench_row *time;

		if (strcmp(rate->suite, "net") != 0 ||
		    strcmp(rate->metric, "pooling_packets_s") != 0)
			continue;
		time = table_find(rows, rate, "pooling_latency");
		fprintf(out,
		    "%s%s: packets/s x%.2f +- %.2f, mean latency x%.2f +- %.2f",
		    any ? ";\n" : "\nPooling alone, in the same engine, at ",
		    rate->name, rate->value, rate->spread,
		    time != NULL ? time->value : NAN,
		    time != NULL ? time->spread : NAN);
		any = true;
	}
	if (any)
		fputs(
		    ".\nPublished for pooled buffers: x1.40 and x0.75.\n", out);
}

static void
table_head(bool page, FILE *out)
{
	if (page)
		fputs(
		    "\n## net\n\nThe engine under crowds and harm, each figure "
		    "with its target. A ratio is the median\nof pairs from "
		    "one round; *bare* is what a bare server reached in its "
		    "place.\n\n"
		    "| | server | figure | target | measured | bare | "
		    "verdict |\n|---|---|---|---|---|---|---|\n",
		    out);
	else
		fprintf(out, "%s%-4s %-10s %-48s %-11s %-14s %-5s %s%s\n",
		    term_style(out, TERM_BOLD), "", "server", "figure",
		    "target", "measured", "bare", "verdict",
		    term_style(out, TERM_PLAIN));
}

static void
table_foot(const struct bench_rows *rows, bool page, FILE *out)
{
	double others = table_others(rows);

	if (others >= 0.05)
		fprintf(out,
		    "%sOthers took %.0f %% of the processors in a crowd: "
		    "ratios "
		    "are nearer to 1 than on a\nquiet machine.\n",
		    page ? "\n" : "", others * 100);
	table_pooling(rows, out);
	table_crowds(rows, page, out);
	for (size_t i = 0; i < rows->count; i++)
		if (!page && strcmp(rows->rows[i].suite, "about") == 0 &&
		    strcmp(rows->rows[i].metric, "shortened") == 0)
			fprintf(out, "\nShortened: %s.\n", rows->rows[i].unit);
}

void
bench_net_print(const struct bench_rows *rows, bool page, FILE *out)
{
	unsigned figures = 0;
	unsigned passed = 0;

	for (unsigned long n = 1; n <= TABLE_FIGURES; n++)
		for (size_t i = 0; i < rows->count; i++) {
			const struct bench_row *row = &rows->rows[i];

			if (!table_is_figure(row) ||
			    strtoul(row->name + 1, NULL, 10) != n)
				continue;
			if (figures++ == 0)
				table_head(page, out);
			table_line(rows, row, page, out);
			passed += table_passed(rows, row);
		}
	if (figures == 0)
		return;
	fprintf(out, "%s%u of %u pass.%s\n", page ? "\n" : "", passed, figures,
	    page
		? ""
		: "  Medians of pairs and the reach of their interval; bare: a "
		  "bare\nserver in its place, in the same run.");
	table_foot(rows, page, out);
}
