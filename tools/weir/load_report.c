/* SPDX-License-Identifier: MIT */
/*
 * load_report.c - parts of a load report that several commands print.
 */
#include "load_report.h"

#include <inttypes.h>

#include "term.h"

void
load_report_latency(struct json *json, const char *key, const struct hist *hist)
{
	static const struct {
		const char *key;
		double percent;
	} rows[] = {{"p50", 50}, {"p90", 90}, {"p99", 99}, {"p99_9", 99.9},
	    {"max", 100}};

	json_open(json, key, '{');
	json_count(json, "count", hist->total);
	json_real(json, "mean", hist_mean(hist));
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		json_count(
		    json, rows[i].key, hist_percentile(hist, rows[i].percent));
	json_close(json, '}');
}

void
load_report_errors(
    struct json *json, const char *key, const struct load_report *report)
{
	json_open(json, key, '{');
	json_count(json, "total", load_errors(report));
	for (int i = 0; i < LOAD_CAUSE_COUNT; i++)
		json_count(json, load_cause_key((enum load_cause)i),
		    report->errors[i]);
	json_close(json, '}');
}

static void
report_first_mismatch(
    FILE *out, const char *indent, const struct load_mismatch *first)
{
	fprintf(out,
	    "%sfirst wrong byte: connection %" PRIu32 ", packet %" PRIu64
	    ", byte %" PRIu32 ": expected 0x%02x, got 0x%02x\n",
	    indent, first->connection, first->packet, first->offset,
	    first->expected, first->got);
}

void
load_report_causes(
    FILE *out, const char *indent, const struct load_report *report)
{
	char count[TERM_NUMBER_BYTES];

	for (int i = 0; i < LOAD_CAUSE_COUNT; i++)
		if (report->errors[i] != 0)
			fprintf(out, "%s%s %s\n", indent,
			    term_count(report->errors[i], count),
			    load_cause_text((enum load_cause)i));
	if (report->mismatches != 0)
		report_first_mismatch(out, indent, &report->first_mismatch);
}
