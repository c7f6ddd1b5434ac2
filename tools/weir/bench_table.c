/* SPDX-License-Identifier: MIT */
/*
 * bench_table.c - the result for people: a table a suite, a line a peer.
 *
 * A column is a case and a metric; where a smaller value is better it is
 * followed by the ratios to weir's own, opponent over weir.  Columns that do
 * not fit a line's width follow in a second table.
 */
#include "bench.h"

#include <math.h>
#include <string.h>

#include "term.h"

#define TABLE_WIDTH 100
#define TABLE_PEER_WIDTH 15
#define TABLE_COLUMNS_MAX 40u
#define TABLE_RATIOS_MAX 3u

struct table_column {
	const char *name;
	const char *metric;
	const char *unit;
	unsigned ratio_count;
	const char *ratios[TABLE_RATIOS_MAX]; /* peers compared with */
	int width;
};

/* Does a table of a suite show this metric? */
static bool
table_shows(const char *metrics, const char *metric)
{
	size_t length = strlen(metric);

	while (*metrics != '\0') {
		size_t word = strcspn(metrics, " ");

		if (word == length && strncmp(metrics, metric, word) == 0)
			return true;
		metrics += word;
		metrics += *metrics == ' ';
	}
	return false;
}

static void
table_ratio_metric(
    char *text, size_t bytes, const char *metric, const char *peer)
{
	snprintf(text, bytes, "%.20s_over_%.13s", metric, peer);
}

/*
 * With what a column is compared: caches first, the heap where it is alone; the
 * region wherever there is one.
 */
static void
table_choose_ratios(const struct bench_rows *rows, const char *suite,
    struct table_column *column)
{
	static const char *const wanted[] = {
	    "weir", "weir-batch", "weir-region", "weir-heap"};

	if (!bench_metric_compared(column->metric))
		return;
	for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
		if (column->ratio_count == 2 ||
		    (column->ratio_count == 1 &&
			strcmp(column->ratios[0], "weir-region") == 0))
			break;
		if (bench_rows_find(rows, suite, column->name, wanted[i],
			column->metric) != NULL)
			column->ratios[column->ratio_count++] = wanted[i];
	}
}

static unsigned
table_columns(const struct bench_rows *rows, const char *suite,
    const char *metrics, struct table_column *columns)
{
	unsigned count = 0;

	for (size_t i = 0; i < rows->count; i++) {
		const struct bench_row *row = &rows->rows[i];
		bool known = false;

		if (strcmp(row->suite, suite) != 0 ||
		    !table_shows(metrics, row->metric) ||
		    strncmp(row->name, "mixed/hour", 10) == 0)
			continue;
		for (unsigned j = 0; j < count; j++)
			known |= strcmp(columns[j].name, row->name) == 0 &&
				 strcmp(columns[j].metric, row->metric) == 0;
		if (known || count == TABLE_COLUMNS_MAX)
			continue;
		columns[count] = (struct table_column){
		    .name = row->name,
		    .metric = row->metric,
		    .unit = row->unit,
		};
		table_choose_ratios(rows, suite, &columns[count]);
		count++;
	}
	return count;
}

static void
table_value(double value, char *text, size_t bytes)
{
	int decimals = value >= 999.5 ? 0 : value >= 99.95 ? 1 : 2;

	if (value == floor(value) && value < 1e9)
		decimals = 0;
	snprintf(text, bytes, "%.*f", decimals, value);
}

/*
 * "2.13", with a mark when it differs from 1 by no more than its spread: then
 * its interval may hold 1, and no difference was shown.
 */
static void
table_ratio(const struct bench_row *row, char *text, size_t bytes)
{
	bool even = row->rounds > 1 && fabs(row->value - 1.0) <= row->spread;

	snprintf(text, bytes, "%.2f%s", row->value, even ? "~" : "");
}

static void
table_cells(const struct bench_rows *rows, const char *suite, const char *peer,
    const struct table_column *column, FILE *out)
{
	const struct bench_row *row =
	    bench_rows_find(rows, suite, column->name, peer, column->metric);
	char text[48] = "-";

	if (row != NULL)
		table_value(row->value, text, sizeof(text));
	fprintf(out, "  %*s", column->width - 2, text);
	for (unsigned i = 0; i < column->ratio_count; i++) {
		char metric[BENCH_NAME_BYTES];

		table_ratio_metric(
		    metric, sizeof(metric), column->metric, column->ratios[i]);
		row = bench_rows_find(rows, suite, column->name, peer, metric);
		snprintf(text, sizeof(text), "%s", "");
		if (row != NULL)
			table_ratio(row, text, sizeof(text));
		fprintf(out, " %7s", text);
	}
}

static const char *
table_short(const char *peer)
{
	if (strcmp(peer, "weir-batch") == 0)
		return "/batch";
	if (strcmp(peer, "weir-region") == 0)
		return "/region";
	return strcmp(peer, "weir-heap") == 0 ? "/heap" : "/weir";
}

static void
table_head(const struct table_column *columns, unsigned count, FILE *out)
{
	fprintf(out, "%-*s", TABLE_PEER_WIDTH, "");
	for (unsigned i = 0; i < count; i++)
		fprintf(out, "  %*s%*s", columns[i].width - 2, columns[i].name,
		    8 * (int)columns[i].ratio_count, "");
	fprintf(out, "\n%-*s", TABLE_PEER_WIDTH, "");
	for (unsigned i = 0; i < count; i++) {
		fprintf(out, "  %*s", columns[i].width - 2, columns[i].metric);
		for (unsigned j = 0; j < columns[i].ratio_count; j++)
			fprintf(out, " %7s", table_short(columns[i].ratios[j]));
	}
	fputc('\n', out);
}

static bool
table_has_peer(
    const struct bench_rows *rows, const char *suite, const char *peer)
{
	for (size_t i = 0; i < rows->count; i++)
		if (strcmp(rows->rows[i].suite, suite) == 0 &&
		    strcmp(rows->rows[i].peer, peer) == 0 &&
		    rows->rows[i].rounds > 0)
			return true;
	return false;
}

static void
table_print_part(const struct bench_rows *rows, const char *suite,
    const struct table_column *columns, unsigned count, FILE *out)
{
	table_head(columns, count, out);
	for (unsigned i = 0; i < bench_peer_count; i++) {
		const char *peer = bench_peers[i].name;
		bool own = bench_peers[i].kind == BENCH_WEIR;

		if (!table_has_peer(rows, suite, peer))
			continue;
		fprintf(out, "%s%-*s%s", own ? term_style(out, TERM_BOLD) : "",
		    TABLE_PEER_WIDTH, peer,
		    own ? term_style(out, TERM_PLAIN) : "");
		for (unsigned j = 0; j < count; j++)
			table_cells(rows, suite, peer, &columns[j], out);
		fputc('\n', out);
	}
}

static bool
table_is_note(const struct bench_row *row, const char *suite)
{
	return strcmp(row->suite, suite) == 0 &&
	       (strcmp(row->metric, "skipped") == 0 ||
		   strcmp(row->metric, "failed") == 0 ||
		   strcmp(row->metric, "missing") == 0);
}

static bool
table_has_notes(const struct bench_rows *rows, const char *suite)
{
	for (size_t i = 0; i < rows->count; i++)
		if (table_is_note(&rows->rows[i], suite))
			return true;
	return false;
}

/* Who has no line, and why. */
static void
table_notes(const struct bench_rows *rows, const char *suite, FILE *out)
{
	for (size_t i = 0; i < rows->count; i++) {
		const struct bench_row *row = &rows->rows[i];

		if (table_is_note(row, suite))
			fprintf(out, "%-*s  %s: %s\n", TABLE_PEER_WIDTH,
			    row->peer, row->metric, row->unit);
	}
}

static void
table_print_suite(const struct bench_rows *rows, const char *suite,
    const char *question, const char *metrics, FILE *out)
{
	struct table_column columns[TABLE_COLUMNS_MAX];
	unsigned count = table_columns(rows, suite, metrics, columns);
	unsigned from = 0;

	if (count == 0 && !table_has_notes(rows, suite))
		return;
	fprintf(out, "\n%s%s%s - %s\n", term_style(out, TERM_BOLD), suite,
	    term_style(out, TERM_PLAIN), question);
	while (from < count) {
		int width = TABLE_PEER_WIDTH;
		unsigned to = from;

		for (; to < count; to++) {
			int name = (int)strlen(columns[to].name);
			int metric = (int)strlen(columns[to].metric);

			columns[to].width = 2 + (name > metric ? name : metric);
			if (columns[to].width < 10)
				columns[to].width = 10;
			int more = columns[to].width +
				   8 * (int)columns[to].ratio_count;
			if (to > from && width + more > TABLE_WIDTH)
				break;
			width += more;
		}
		table_print_part(rows, suite, columns + from, to - from, out);
		from = to;
	}
	table_notes(rows, suite, out);
}

void
bench_table_print(const struct bench_rows *rows, FILE *out)
{
	for (unsigned i = 0; i < bench_suite_count; i++)
		table_print_suite(rows, bench_suites[i].name,
		    bench_suites[i].question, bench_suites[i].metrics, out);
	table_print_suite(rows, "instructions",
	    "of one alloc and one free, and of a region with its loop (/net: "
	    "without), by callgrind",
	    "instructions", out);
	fputc('\n', out);
	table_notes(rows, "about", out);
	fputs("\nMedians of rounds.  /weir, /batch, /heap and /region: the "
	      "opponent's over that of\nweir, weir-batch, weir-heap and "
	      "weir-region, round by round; 2 means that weir\ntakes half.  "
	      "~: the difference is within the ratio's spread.\n",
	    out);
	for (size_t i = 0; i < rows->count; i++)
		if (strcmp(rows->rows[i].suite, "about") == 0 &&
		    strcmp(rows->rows[i].metric, "shortened") == 0)
			fprintf(out, "Shortened: %s.\n", rows->rows[i].unit);
}
