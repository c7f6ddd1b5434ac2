/* SPDX-License-Identifier: MIT */
/*
 * demo_json.c - the result of a demo for programs: every figure of the table,
 * every round it came from, and what it was measured on.
 */
#include "demo.h"

#include <string.h>

#include <weir/version.h>

#include "demo_stats.h"
#include "load_report.h"

static const char *const json_metrics[DEMO_METRIC_COUNT] = {
    [DEMO_PACKETS_PER_S] = "packets_per_second",
    [DEMO_CPU] = "cpu_us_per_packet",
    [DEMO_CPU_ALONE] = "cpu_us_per_packet_without_ksoftirqd",
    [DEMO_MEAN] = "latency_mean_ns",
    [DEMO_P50] = "latency_p50_ns",
    [DEMO_P99] = "latency_p99_ns",
    [DEMO_OTHERS] = "others_share",
};

static const char *const json_statuses[] = {
    [DEMO_OFF] = "off",
    [DEMO_MISSING] = "not found",
    [DEMO_BROKEN] = "failed",
    [DEMO_READY] = "ok",
};

static void
json_settings(struct json *json, const struct demo *demo)
{
	const struct demo_settings *set = &demo->set;

	json_open(json, "settings", '{');
	json_count(json, "connections", set->connections);
	json_count(json, "connections_wanted", set->wanted_connections);
	json_count(json, "active", set->active);
	json_count(json, "size_bytes", set->size);
	json_count(json, "depth", set->depth);
	json_count(json, "rounds", set->rounds);
	json_count(json, "round_ns", set->duration_ns);
	json_count(json, "round_shortest_ns", demo->shortest_ns);
	json_count(json, "warmup_ns", set->warmup_ns);
	json_count(json, "slow_readers", set->slow);
	json_bool(json, "pinned", set->pinned);
	json_open(json, "command", '[');
	json_text(json, NULL, "weir");
	for (int i = 0; i < set->argc; i++)
		json_text(json, NULL, set->argv[i]);
	json_close(json, ']');
	json_close(json, '}');
}

static void
json_machine(struct json *json, const struct demo_machine *machine)
{
	json_open(json, "machine", '{');
	json_text(json, "cpu", machine->cpu);
	json_count(json, "processors", machine->processors);
	json_text(json, "kernel", machine->kernel);
	json_text(json, "compiler", machine->compiler);
	json_bool(json, "ksoftirqd_seen", machine->softirq_seen);
	json_close(json, '}');
}

static void
json_spread(
    struct json *json, const char *key, const struct demo_spread *spread)
{
	json_open(json, key, '{');
	json_real(json, "median", spread->median);
	json_real(json, "low", spread->low);
	json_real(json, "high", spread->high);
	json_real(json, "coverage", spread->coverage);
	json_count(json, "count", spread->count);
	json_close(json, '}');
}

static void
json_rounds(struct json *json, const struct demo_row *row)
{
	json_open(json, "rounds", '{');
	for (int m = 0; m < DEMO_METRIC_COUNT; m++) {
		json_open(json, json_metrics[m], '[');
		for (unsigned i = 0; i < row->round_count; i++)
			json_real(json, NULL,
			    demo_metric(&row->rounds[i], (enum demo_metric)m));
		json_close(json, ']');
	}
	json_close(json, '}');
}

static void
json_counts(struct json *json, const struct demo_row *row)
{
#define JSON_NAME(name, allocates, maps) #name,
	static const char *const names[] = {COUNT_KINDS(JSON_NAME)};
#undef JSON_NAME

	if (!row->counted) {
		json_null(json, "system_allocations_per_packet");
		json_null(json, "counted");
		if (row->count_note[0] != '\0')
			json_text(json, "count_note", row->count_note);
		return;
	}
	json_real(json, "system_allocations_per_packet",
	    demo_calls_per_packet(row, false) +
		demo_calls_per_packet(row, true));
	json_open(json, "counted", '{');
	json_count(json, "packets", row->counted_packets);
	json_real(
	    json, "allocations_per_packet", demo_calls_per_packet(row, false));
	json_real(
	    json, "memory_calls_per_packet", demo_calls_per_packet(row, true));
	for (int i = 0; i < COUNT_KIND_COUNT; i++)
		json_count(json, names[i], row->calls[i]);
	json_close(json, '}');
}

static void
json_harm(struct json *json, const struct demo_row *row)
{
	const struct demo_harm *harm = &row->harm;

	json_open(json, "slow_readers", '{');
	if (harm->note[0] != '\0')
		json_text(json, "note", harm->note);
	if (harm->ran) {
		json_real(json, "packets_per_second_alone", harm->alone_per_s);
		json_real(
		    json, "packets_per_second_beside", harm->beside_per_s);
		json_real(json, "kept", harm->beside_per_s / harm->alone_per_s);
		json_count(json, "memory_bytes_alone", harm->alone_bytes);
		json_count(json, "memory_bytes_beside", harm->beside_bytes);
		json_bool(json, "settled", harm->settled);
	}
	json_close(json, '}');
}

/* How the baseline compares with this contender. */
static void
json_ratios(
    struct json *json, const struct demo *demo, const struct demo_row *row)
{
	enum demo_id base = demo_baseline(demo);

	json_open(json, "ratio", '{');
	json_text(json, "of", demo_contenders[base].name);
	for (int m = 0; m < DEMO_OTHERS; m++) {
		struct demo_spread ratio = demo_ratio_spread(
		    &demo->rows[base], row, (enum demo_metric)m);

		json_spread(json, json_metrics[m], &ratio);
	}
	struct demo_spread cpu =
	    demo_ratio_spread(&demo->rows[base], row, DEMO_CPU);
	if (demo_spread_is_sure(&cpu))
		json_bool(json, "cpu_within_spread", demo_spread_is_even(&cpu));
	else
		json_null(json, "cpu_within_spread");
	json_close(json, '}');
}

static void
json_row(struct json *json, const struct demo *demo, enum demo_id id)
{
	const struct demo_row *row = &demo->rows[id];

	json_open(json, NULL, '{');
	json_text(json, "name", demo_contenders[id].name);
	json_text(json, "what", demo_contenders[id].text);
	json_text(json, "status", json_statuses[row->status]);
	if (row->note[0] != '\0')
		json_text(json, "note", row->note);
	if (row->status == DEMO_MISSING || row->round_count == 0) {
		load_report_errors(json, "errors", &row->totals);
		json_close(json, '}');
		return;
	}
	json_count(json, "connected", row->connected);
	for (int m = 0; m < DEMO_METRIC_COUNT; m++) {
		struct demo_spread spread =
		    demo_row_spread(row, (enum demo_metric)m);
		json_spread(json, json_metrics[m], &spread);
	}
	load_report_latency(json, "latency_ns", &row->latency);
	json_count(json, "peak_rss_bytes", row->peak_rss);
	json_counts(json, row);
	if (demo->set.slow > 0)
		json_harm(json, row);
	load_report_errors(json, "errors", &row->totals);
	json_count(json, "mismatches", row->totals.mismatches);
	if (id != demo_baseline(demo))
		json_ratios(json, demo, row);
	json_rounds(json, row);
	json_close(json, '}');
}

static void
json_published(struct json *json)
{
	json_open(json, "published", '{');
	json_count(
	    json, "plain_packets_per_second", DEMO_PUBLISHED_PLAIN_PER_S);
	json_count(json, "plain_latency_ms", DEMO_PUBLISHED_PLAIN_MS);
	json_count(json, "pool_packets_per_second", DEMO_PUBLISHED_POOL_PER_S);
	json_count(json, "pool_latency_ms", DEMO_PUBLISHED_POOL_MS);
	json_close(json, '}');
}

int
demo_json_write(const struct demo *demo, FILE *out)
{
	struct json json;

	json_begin(&json, out);
	json_open(&json, NULL, '{');
	json_text(&json, "weir", WEIR_VERSION_STRING);
	json_bool(&json, "succeeded", demo_succeeded(demo));
	json_bool(&json, "interrupted", demo->interrupted);
	json_count(&json, "elapsed_ns", demo->elapsed_ns);
	json_settings(&json, demo);
	json_machine(&json, &demo->machine);
	json_open(&json, "contenders", '[');
	for (int i = 0; i < DEMO_ID_COUNT; i++)
		if (demo->rows[i].status != DEMO_OFF)
			json_row(&json, demo, (enum demo_id)i);
	json_close(&json, ']');
	json_published(&json);
	json_close(&json, '}');
	return json_end(&json);
}
