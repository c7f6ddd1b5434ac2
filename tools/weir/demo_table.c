/* SPDX-License-Identifier: MIT */
/*
 * demo_table.c - the result of a demo for people.
 */
#include "demo.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "demo_stats.h"
#include "load_report.h"
#include "term.h"

#define TABLE_RATIO_BYTES 80
#define TABLE_OTHERS_MIN 0.05 /* less is not worth a word */

double
demo_calls_per_packet(const struct demo_row *row, bool memory_calls)
{
#define TABLE_ALLOCATES(name, allocates, maps) allocates,
#define TABLE_MAPS(name, allocates, maps) maps,
	static const bool is_allocation[] = {COUNT_KINDS(TABLE_ALLOCATES)};
	static const bool is_memory_call[] = {COUNT_KINDS(TABLE_MAPS)};
#undef TABLE_ALLOCATES
#undef TABLE_MAPS
	uint64_t calls = 0;

	for (int i = 0; i < COUNT_KIND_COUNT; i++)
		if (memory_calls ? is_memory_call[i] : is_allocation[i])
			calls += row->calls[i];
	if (row->counted_packets == 0)
		return NAN;
	return (double)calls / (double)row->counted_packets;
}

enum demo_id
demo_baseline(const struct demo *demo)
{
	for (int i = 0; i < DEMO_ID_COUNT; i++)
		if (demo->rows[i].round_count > 0)
			return (enum demo_id)i;
	return DEMO_weir;
}

uint64_t
demo_errors(const struct demo_row *row)
{
	return load_errors(&row->totals);
}

bool
demo_succeeded(const struct demo *demo)
{
	bool any = false;

	for (int i = 0; i < DEMO_ID_COUNT; i++) {
		const struct demo_row *row = &demo->rows[i];

		if (row->status == DEMO_BROKEN)
			return false;
		if (row->status != DEMO_READY)
			continue;
		any = true;
		if (demo_errors(row) != 0 || row->totals.mismatches != 0 ||
		    row->round_count < demo->set.rounds)
			return false;
	}
	return any && !demo->interrupted;
}

/* Of the first column: the names of all that were asked for. */
static int
table_width(const struct demo *demo)
{
	size_t width = strlen("server ");

	for (int i = 0; i < DEMO_ID_COUNT; i++)
		if (demo->rows[i].status != DEMO_OFF &&
		    strlen(demo_contenders[i].name) > width)
			width = strlen(demo_contenders[i].name);
	return (int)width;
}

static const char *
table_plural(uint64_t count)
{
	return count == 1 ? "" : "s";
}

static void
table_settings(const struct demo *demo, FILE *out)
{
	const struct demo_settings *set = &demo->set;
	char number[4][TERM_NUMBER_BYTES];
	bool shortened = demo->shortest_ns < set->duration_ns;

	fprintf(out,
	    "%s connection%s, %s active, %s B packets, depth %" PRIu64
	    "; %" PRIu64 " round%s of %s%s\n",
	    term_count(set->connections, number[0]),
	    table_plural(set->connections), term_count(set->active, number[1]),
	    term_count(set->size, number[2]), set->depth, set->rounds,
	    table_plural(set->rounds), term_time(demo->shortest_ns, number[3]),
	    shortened ? " and more" : "");
	fprintf(out, "%s, %s, %s\n", demo->machine.cpu, demo->machine.kernel,
	    demo->machine.compiler);
	fprintf(out, "%s%s\n\n",
	    set->pinned ? "server on processor 0, client on processor 1"
			: "one processor: server and client share it",
	    demo->machine.softirq_seen
		? ""
		: "; ksoftirqd's time cannot be seen here");
}

/* The six right columns are the same for a row that ran. */
static void
table_row(const struct demo_row *row, const char *name, int width, FILE *out)
{
	char number[6][TERM_NUMBER_BYTES];
	char calls[TERM_NUMBER_BYTES] = "-";
	double throughput = demo_row_spread(row, DEMO_PACKETS_PER_S).median;
	double cpu = demo_row_spread(row, DEMO_CPU).median;
	uint64_t wrong = demo_errors(row) + row->totals.mismatches;

	if (row->counted)
		snprintf(calls, sizeof(calls), "%.2f",
		    demo_calls_per_packet(row, false) +
			demo_calls_per_packet(row, true));
	fprintf(out, "%-*s %9s %8.2f %8s %8s %8s %6.1f MiB %7s %s%6s %6s%s\n",
	    width, name, term_count((uint64_t)throughput, number[0]), cpu,
	    term_time(hist_percentile(&row->latency, 50), number[1]),
	    term_time(hist_percentile(&row->latency, 99), number[2]),
	    term_time(hist_percentile(&row->latency, 99.9), number[3]),
	    (double)row->peak_rss / 1048576.0, calls,
	    term_style(out, wrong == 0 ? TERM_GOOD : TERM_BAD),
	    term_count(demo_errors(row), number[4]),
	    term_count(row->totals.mismatches, number[5]),
	    term_style(out, TERM_PLAIN));
}

static void
table_rows(const struct demo *demo, FILE *out)
{
	int width = table_width(demo);

	fprintf(out,
	    "%s%-*s %9s %8s %8s %8s %8s %10s %7s %6s %6s\n"
	    "%-*s %9s %8s %8s %8s %8s %10s %7s %6s %6s%s\n",
	    term_style(out, TERM_BOLD), width, "server", "packets", "CPU us",
	    "", "", "", "", "allocs", "", "mis-", width, "", "per s", "/packet",
	    "p50", "p99", "p99.9", "peak RSS", "/packet", "errors", "match",
	    term_style(out, TERM_PLAIN));
	for (int i = 0; i < DEMO_ID_COUNT; i++) {
		const struct demo_row *row = &demo->rows[i];
		const char *name = demo_contenders[i].name;

		if (row->round_count > 0)
			table_row(row, name, width, out);
		if (row->note[0] != '\0')
			fprintf(out, "%-*s %s\n", width, name, row->note);
		if (row->status == DEMO_READY)
			load_report_causes(out, "        ", &row->totals);
		if (row->status == DEMO_READY && row->count_note[0] != '\0')
			fprintf(out, "        %s\n", row->count_note);
	}
}

/* A range of too few values invites a verdict that it does not carry. */
static void
table_ratio(const struct demo_row *row, const struct demo_row *other,
    enum demo_metric metric, char text[TABLE_RATIO_BYTES])
{
	struct demo_spread ratio = demo_ratio_spread(row, other, metric);
	const char *verdict = "";

	if (!demo_spread_is_sure(&ratio))
		verdict = " too few rounds";
	else if (demo_spread_is_even(&ratio))
		verdict = " within spread";
	if (ratio.count == 0)
		snprintf(text, TABLE_RATIO_BYTES, "-%s", verdict);
	else if (ratio.count == 1)
		snprintf(
		    text, TABLE_RATIO_BYTES, "%.3f%s", ratio.median, verdict);
	else
		snprintf(text, TABLE_RATIO_BYTES, "%.3f (%.3f - %.3f)%s",
		    ratio.median, ratio.low, ratio.high, verdict);
}

/* What the numbers of the ratios are. */
static void
table_ratio_legend(const struct demo_row *row, FILE *out)
{
	struct demo_spread spread = demo_row_spread(row, DEMO_CPU);

	if (demo_spread_is_sure(&spread))
		fprintf(out,
		    "Medians of %u pairs, each from one round, and their "
		    "%.1f %% interval; 'within\nspread': no difference is "
		    "shown.  ",
		    spread.count, spread.coverage * 100.0);
	else
		fprintf(out,
		    "Of %u pair%s%s: too few rounds for a 95 %% interval, "
		    "which takes 6.\n",
		    spread.count, table_plural(spread.count),
		    spread.count == 1
			? " from one round"
			: ", each from one round, median and range");
	fputs("CPU is the server's with ksoftirqd's.\n", out);
}

static void
table_ratios(const struct demo *demo, FILE *out)
{
	enum demo_id base = demo_baseline(demo);
	const struct demo_row *row = &demo->rows[base];
	char cpu[TABLE_RATIO_BYTES];
	char rate[TABLE_RATIO_BYTES];

	int width = table_width(demo);

	fprintf(out, "\n%sratio %s / other%s\n%-*s  %-37s  %s\n",
	    term_style(out, TERM_BOLD), demo_contenders[base].name,
	    term_style(out, TERM_PLAIN), width, "", "CPU per packet",
	    "packets per s");
	for (int i = 0; i < DEMO_ID_COUNT; i++) {
		const struct demo_row *other = &demo->rows[i];

		if (i == (int)base || other->round_count == 0)
			continue;
		table_ratio(row, other, DEMO_CPU, cpu);
		table_ratio(row, other, DEMO_PACKETS_PER_S, rate);
		fprintf(out, "%-*s  %-37s  %s\n", width,
		    demo_contenders[i].name, cpu, rate);
	}
	table_ratio_legend(row, out);
}

/* Whoever else ran has made every packet dearer, the cheap ones most. */
static void
table_others(const struct demo *demo, FILE *out)
{
	double most = 0;

	for (int i = 0; i < DEMO_ID_COUNT; i++) {
		const struct demo_row *row = &demo->rows[i];
		double share = demo_row_spread(row, DEMO_OTHERS).median;

		if (row->round_count > 0)
			most = fmax(most, share);
	}
	if (most >= TABLE_OTHERS_MIN)
		fprintf(out,
		    "Other programs, or the host, took %.0f %% of the "
		    "processors meanwhile: ratios are\nnearer to 1 than they "
		    "are on a quiet machine.\n",
		    most * 100.0);
}

static void
table_harm_row(
    const struct demo_row *row, const char *name, int width, FILE *out)
{
	const struct demo_harm *harm = &row->harm;
	char number[2][TERM_NUMBER_BYTES];

	if (harm->ran)
		fprintf(out, "%-*s %9s %11s %7.2f %9.1f MiB %7.1f MiB%s\n",
		    width, name,
		    term_count((uint64_t)harm->alone_per_s, number[0]),
		    term_count((uint64_t)harm->beside_per_s, number[1]),
		    harm->beside_per_s / harm->alone_per_s,
		    (double)harm->alone_bytes / 1048576.0,
		    (double)harm->beside_bytes / 1048576.0,
		    harm->settled ? "" : "  still taking more");
	if (harm->note[0] != '\0')
		fprintf(out, "%-*s %s\n", width, name, harm->note);
}

/* What clients that never read cost the others, and the server. */
static void
table_harm(const struct demo *demo, FILE *out)
{
	int width = table_width(demo);
	char number[TERM_NUMBER_BYTES];

	if (demo->set.slow == 0)
		return;
	fprintf(out,
	    "\n%s%-*s %9s %11s %7s %13s %11s%s   %s clients never read\n",
	    term_style(out, TERM_BOLD), width, "", "packets/s", "beside them",
	    "kept", "memory", "with them", term_style(out, TERM_PLAIN),
	    term_count(demo->set.slow, number));
	for (int i = 0; i < DEMO_ID_COUNT; i++)
		if (demo->rows[i].round_count > 0)
			table_harm_row(&demo->rows[i], demo_contenders[i].name,
			    width, out);
}

static void
table_counts(const struct demo *demo, FILE *out)
{
	const struct demo_settings *set = &demo->set;
	char number[TERM_NUMBER_BYTES];

	for (int i = 0; i < DEMO_ID_COUNT; i++)
		if (demo->rows[i].counted) {
			fprintf(out,
			    "allocs: malloc family and mmap family calls in "
			    "steady state, counted in a\nseparate run with %s "
			    "connections.\n",
			    term_count(set->connections, number));
			return;
		}
}

static void
table_measured(
    const struct demo_row *row, const char *name, const char *after, FILE *out)
{
	char number[2][TERM_NUMBER_BYTES];

	fprintf(out, "%s %s/s at %s%s", name,
	    term_count(
		(uint64_t)demo_row_spread(row, DEMO_PACKETS_PER_S).median,
		number[0]),
	    term_time((uint64_t)hist_mean(&row->latency), number[1]), after);
}

static void
table_published(const struct demo *demo, FILE *out)
{
	const struct demo_row *plain = &demo->rows[DEMO_malloc];
	const struct demo_row *pool = &demo->rows[DEMO_weir];

	fprintf(out,
	    "\npublished, other hardware:  without pool %d,000/s at %d ms   "
	    "with pool %d,000/s at %d ms\n",
	    DEMO_PUBLISHED_PLAIN_PER_S / 1000, DEMO_PUBLISHED_PLAIN_MS,
	    DEMO_PUBLISHED_POOL_PER_S / 1000, DEMO_PUBLISHED_POOL_MS);
	if (plain->round_count > 0 && pool->round_count > 0) {
		fprintf(out, "measured here, mean time:   ");
		table_measured(plain, "malloc", "   ", out);
		table_measured(pool, "weir", "\n", out);
	}
	if (demo->set.active == demo->set.connections)
		fprintf(out,
		    "By Little's law the published lines are %d and %d packets "
		    "in flight:\n'--active 1850' repeats that load.\n",
		    DEMO_PUBLISHED_PLAIN_PER_S * DEMO_PUBLISHED_PLAIN_MS / 1000,
		    DEMO_PUBLISHED_POOL_PER_S * DEMO_PUBLISHED_POOL_MS / 1000);
}

void
demo_table_print(const struct demo *demo, FILE *out)
{
	unsigned ran = 0;

	for (int i = 0; i < DEMO_ID_COUNT; i++)
		ran += demo->rows[i].round_count > 0;
	table_settings(demo, out);
	table_rows(demo, out);
	if (ran > 1)
		table_ratios(demo, out);
	table_others(demo, out);
	table_counts(demo, out);
	if (ran > 0)
		table_harm(demo, out);
	if (ran > 0)
		table_published(demo, out);
	if (demo->interrupted)
		fputs("\ninterrupted: the figures are of the rounds until "
		      "then\n",
		    out);
}
