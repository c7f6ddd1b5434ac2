/* SPDX-License-Identifier: MIT */
/*
 * bench_report.c - rows as a page of Markdown: docs/BENCHMARKS.md.
 *
 * The page is made from a stored run and from nothing else, so that it can be
 * made again and compared.  Under each table stand the rows that weir loses, so
 * that they cannot be overlooked.
 */
#include "bench_net.h"

#include <math.h>
#include <string.h>

#define REPORT_CASES_MAX 40u
#define REPORT_LOST_MAX 12u

struct report_case {
	const char *name;
	const char *metric;
	const char *unit;
};

static const char *
report_about(const struct bench_rows *rows, const char *what, const char *peer)
{
	const struct bench_row *row =
	    bench_rows_find(rows, "about", "-", peer, what);

	return row != NULL ? row->unit : "unknown";
}

static void
report_head(const struct bench_rows *rows, FILE *out)
{
	static const char *const facts[] = {"cpu", "processors", "kernel",
	    "compiler", "weir", "date", "rounds", "time for a case"};

	fputs("<!-- Made by `weir bench --report`; edits are lost. -->\n"
	      "# Benchmarks\n\n"
	      "Pools and allocators of one machine, measured in one run, "
	      "interleaved: in each\nround every opponent plays every suite in "
	      "a process of its own, one right after\nthe other. Times drift "
	      "with the machine, ratios between neighbours hardly do:\nread "
	      "the ratios.\n\n",
	    out);
	fprintf(out, "    %s\n\n| | |\n|---|---|\n",
	    report_about(rows, "command", "-"));
	for (size_t i = 0; i < sizeof(facts) / sizeof(facts[0]); i++)
		fprintf(out, "| %s | %s |\n", facts[i],
		    report_about(rows, facts[i], "-"));
	for (unsigned i = 0; i < bench_peer_count; i++) {
		const struct bench_row *row = bench_rows_find(
		    rows, "about", "-", bench_peers[i].name, "version");
		const struct bench_row *missing = bench_rows_find(
		    rows, "about", "-", bench_peers[i].name, "missing");

		if (row == NULL)
			row = missing;
		if (row != NULL)
			fprintf(out, "| `%s`: %s | %s%s |\n",
			    bench_peers[i].name, bench_peers[i].text,
			    row == missing ? "missing: " : "", row->unit);
	}
	fputs("\nA cell is the median of rounds; a round's figure is the lower "
	      "quartile of its\nchunks. `÷weir`, `÷batch`, `÷heap`, `÷region`: "
	      "the opponent's figure over that of\n`weir`, `weir-batch`, "
	      "`weir-heap`, `weir-region`, the median of the rounds' ratios: "
	      "2 means that weir takes\nhalf. `~`: the difference is within "
	      "the ratio's spread.\n",
	    out);
}

/* ---- a suite's table ------------------------------------------------------------ */

static bool
report_shows(const char *metrics, const char *metric)
{
	const char *found = strstr(metrics, metric);
	size_t length = strlen(metric);

	while (found != NULL) {
		bool begins = found == metrics || found[-1] == ' ';

		if (begins && (found[length] == ' ' || found[length] == '\0'))
			return true;
		found = strstr(found + 1, metric);
	}
	return false;
}

static unsigned
report_cases(const struct bench_rows *rows, const char *suite,
    const char *metrics, struct report_case *cases)
{
	unsigned count = 0;

	for (size_t i = 0; i < rows->count; i++) {
		const struct bench_row *row = &rows->rows[i];
		bool known = false;

		if (strcmp(row->suite, suite) != 0 ||
		    !report_shows(metrics, row->metric) ||
		    strncmp(row->name, "mixed/hour", 10) == 0)
			continue;
		for (unsigned j = 0; j < count; j++)
			known |= strcmp(cases[j].name, row->name) == 0 &&
				 strcmp(cases[j].metric, row->metric) == 0;
		if (!known && count < REPORT_CASES_MAX)
			cases[count++] = (struct report_case){
			    row->name, row->metric, row->unit};
	}
	return count;
}

static const struct bench_row *
report_ratio_row(const struct bench_rows *rows, const char *suite,
    const struct report_case *column, const char *peer, const char *own)
{
	char metric[BENCH_NAME_BYTES];

	snprintf(
	    metric, sizeof(metric), "%.20s_over_%.13s", column->metric, own);
	return bench_rows_find(rows, suite, column->name, peer, metric);
}

static void
report_ratio(const struct bench_row *row, const char *own, FILE *out)
{
	bool even;

	if (row == NULL)
		return;
	even = row->rounds > 1 && fabs(row->value - 1.0) <= row->spread;
	fprintf(out, " ÷%s %.2f%s", own, row->value, even ? "~" : "");
}

static void
report_cell(const struct bench_rows *rows, const char *suite,
    const struct report_case *column, const char *peer, FILE *out)
{
	const struct bench_row *row =
	    bench_rows_find(rows, suite, column->name, peer, column->metric);
	int decimals;

	if (row == NULL) {
		fputs(" |", out);
		return;
	}
	decimals = row->value == floor(row->value) || row->value >= 999.5 ? 0
		   : row->value >= 99.95                                  ? 1
									  : 2;
	fprintf(out, " **%.*f**", decimals, row->value);
	const struct bench_row *weir =
	    report_ratio_row(rows, suite, column, peer, "weir");
	const struct bench_row *heap =
	    report_ratio_row(rows, suite, column, peer, "weir-heap");
	report_ratio(weir, "weir", out);
	report_ratio(report_ratio_row(rows, suite, column, peer, "weir-batch"),
	    "batch", out);
	const struct bench_row *region =
	    report_ratio_row(rows, suite, column, peer, "weir-region");
	report_ratio(region, "region", out);
	if (weir == NULL && strcmp(suite, "region") != 0)
		report_ratio(heap, "heap", out);
	fputs(" |", out);
}

static void
report_notes(const struct bench_rows *rows, const char *suite, FILE *out)
{
	bool any = false;

	for (size_t i = 0; i < rows->count; i++) {
		const struct bench_row *row = &rows->rows[i];

		if (strcmp(row->suite, suite) != 0 ||
		    (strcmp(row->metric, "skipped") != 0 &&
			strcmp(row->metric, "failed") != 0))
			continue;
		fprintf(out, "%s`%s` %s: %s",
		    any ? "; " : "\nNot here: ", row->peer, row->metric,
		    row->unit);
		any = true;
	}
	if (any)
		fputs(".\n", out);
}

/* What stands for weir in the cases of a suite, the first that has them. */
static const char *const report_own[] = {"weir", "weir-region", "weir-heap"};

/*
 * Opponents ahead of the checked cache, of the region, or of the heap where
 * sizes are mixed, by more than the spread.
 */
static void
report_lost(const struct bench_rows *rows, const char *suite,
    const struct report_case *cases, unsigned count, FILE *out)
{
	unsigned lost = 0;

	for (unsigned i = 0; i < bench_peer_count; i++) {
		enum bench_kind kind = bench_peers[i].kind;

		for (unsigned j = 0; j < count; j++) {
			const struct bench_row *row = NULL;
			const char *own = NULL;

			if (kind == BENCH_WEIR || kind == BENCH_FLOOR)
				continue;
			for (unsigned k = 0; k < 3 && row == NULL; k++) {
				own = report_own[k];
				row = report_ratio_row(rows, suite, &cases[j],
				    bench_peers[i].name, own);
			}
			if (row == NULL || row->value + row->spread >= 1.0 ||
			    lost == REPORT_LOST_MAX)
				continue;
			fprintf(out, "%s`%s` %s %s %.2f of `%s`",
			    lost++ == 0 ? "\nLost: " : "; ",
			    bench_peers[i].name, cases[j].name, cases[j].metric,
			    row->value, own);
		}
	}
	fputs(lost > 0 ? ".\n" : "", out);
}

static void
report_suite(const struct bench_rows *rows, const char *suite,
    const char *question, const char *metrics, const char *charts, FILE *out)
{
	struct report_case cases[REPORT_CASES_MAX];
	unsigned count = report_cases(rows, suite, metrics, cases);

	if (count == 0)
		return;
	fprintf(out, "\n## %s\n\n%s.\n\n", suite, question);
	if (charts != NULL && strcmp(suite, "instructions") != 0)
		fprintf(out, "![%s](%s/%s.svg)\n\n", suite, charts, suite);
	fputs("| |", out);
	for (unsigned j = 0; j < count; j++)
		fprintf(out, " %s<br>%s, %s |", cases[j].name, cases[j].metric,
		    cases[j].unit);
	fputs("\n|---|", out);
	for (unsigned j = 0; j < count; j++)
		fputs("---|", out);
	fputc('\n', out);
	for (unsigned i = 0; i < bench_peer_count; i++) {
		bool any = false;

		for (unsigned j = 0; j < count; j++)
			any |=
			    bench_rows_find(rows, suite, cases[j].name,
				bench_peers[i].name, cases[j].metric) != NULL;
		if (!any)
			continue;
		fprintf(out, "| `%s` |", bench_peers[i].name);
		for (unsigned j = 0; j < count; j++)
			report_cell(
			    rows, suite, &cases[j], bench_peers[i].name, out);
		fputc('\n', out);
	}
	report_lost(rows, suite, cases, count, out);
	report_notes(rows, suite, out);
}

void
bench_report_print(const struct bench_rows *rows, const char *charts, FILE *out)
{
	report_head(rows, out);
	for (unsigned i = 0; i < bench_suite_count; i++)
		report_suite(rows, bench_suites[i].name,
		    bench_suites[i].question, bench_suites[i].metrics, charts,
		    out);
	report_suite(rows, "instructions",
	    "of one alloc and one free, and of a region with its loop (/net: "
	    "without), by callgrind",
	    "instructions", charts, out);
	bench_net_print(rows, true, out);
}
