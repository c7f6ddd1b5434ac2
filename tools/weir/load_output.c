/* SPDX-License-Identifier: MIT */
/*
 * load_output.c - a run of echo or burst for people and programs.
 */
#include "load_output.h"

#include <errno.h>
#include <string.h>

#include "address.h"
#include "cli.h"
#include "load_report.h"
#include "term.h"

const char *const load_modes[] = {"echo", "idle", "slow-reader", "burst",
    "broadcast", "half-open", "garbage", NULL};
const char *const load_protocols[] = {"packet", "raw", NULL};

static double
output_per_second(const struct load_report *report)
{
	if (report->elapsed_ns == 0)
		return 0.0;
	return (double)report->packets * 1e9 / (double)report->elapsed_ns;
}

static void
output_errors(FILE *out, const struct load_settings *set,
    const struct load_report *report)
{
	uint64_t errors = load_errors(report);
	char number[TERM_NUMBER_BYTES];

	fprintf(out, "  errors      %s%s%s\n",
	    term_style(out, errors == 0 ? TERM_GOOD : TERM_BAD),
	    term_count(errors, number), term_style(out, TERM_PLAIN));
	fprintf(out, "  mismatches  %s%s%s%s\n",
	    term_style(out, report->mismatches == 0 ? TERM_GOOD : TERM_BAD),
	    term_count(report->mismatches, number), term_style(out, TERM_PLAIN),
	    set->verify ? "" : " (not looked for: --no-verify)");
	load_report_causes(out, "    ", report);
	if (report->stopped)
		fputs("  (interrupted)\n", out);
}

/* A table of zeros would look like a measurement. */
static void
output_nothing(FILE *out, const struct load_config *config,
    const struct load_report *report)
{
	char where[ADDRESS_TEXT_BYTES];

	fprintf(out, "%s: %snothing was measured%s%s\n",
	    address_text(&config->address, where), term_style(out, TERM_BAD),
	    term_style(out, TERM_PLAIN),
	    report->stopped ? " (interrupted)" : "");
	load_report_causes(out, "    ", report);
}

static void
output_text(FILE *out, const struct load_settings *set,
    const struct load_config *config, const struct load_report *connect,
    const struct load_report *report, const struct load_bursts *bursts)
{
	char where[ADDRESS_TEXT_BYTES];
	char number[6][TERM_NUMBER_BYTES];
	const struct hist *latency = &report->latency;
	uint64_t wire =
	    set->size + (set->protocol == LOAD_PACKET ? LOAD_PACKET_HEADER : 0);

	fprintf(out, "%s: %s connections (%s active), %s, %s B, depth %s\n",
	    address_text(&config->address, where),
	    term_count(connect->connected, number[0]),
	    term_count(set->active, number[1]), load_protocols[set->protocol],
	    term_count(set->size, number[2]),
	    term_count(set->depth, number[3]));
	fprintf(out, "  connect     %s\n",
	    term_time(connect->elapsed_ns, number[0]));
	fprintf(out, "  packets     %s in %s = %s%s packets/s%s, %.1f MiB/s\n",
	    term_count(report->packets, number[0]),
	    term_time(report->elapsed_ns, number[1]),
	    term_style(out, TERM_BOLD),
	    term_count((uint64_t)output_per_second(report), number[2]),
	    term_style(out, TERM_PLAIN),
	    output_per_second(report) * (double)wire / 1048576.0);
	fprintf(out, "  latency     p50 %s  p90 %s  p99 %s  p99.9 %s  max %s\n",
	    term_time(hist_percentile(latency, 50), number[0]),
	    term_time(hist_percentile(latency, 90), number[1]),
	    term_time(hist_percentile(latency, 99), number[2]),
	    term_time(hist_percentile(latency, 99.9), number[3]),
	    term_time(latency->max, number[4]));
	if (set->mode == LOAD_MODE_BURST)
		fprintf(out,
		    "  bursts      %s; the last answer after p50 %s  "
		    "p99 %s  max %s\n",
		    term_count(bursts->count, number[0]),
		    term_time(hist_percentile(&bursts->times, 50), number[1]),
		    term_time(hist_percentile(&bursts->times, 99), number[2]),
		    term_time(bursts->times.max, number[3]));
	if (set->rate != 0)
		fprintf(out,
		    "  open loop   %s packets/s asked, %s due but never sent\n",
		    term_count(set->rate, number[0]),
		    term_count(report->backlog, number[1]));
	fprintf(out, "  client CPU  %.0f %%\n",
	    report->elapsed_ns == 0
		? 0.0
		: 100.0 * (double)report->cpu_ns / (double)report->elapsed_ns);
	output_errors(out, set, report);
}

static int
output_json(FILE *out, const struct load_settings *set,
    const struct load_config *config, const struct load_report *connect,
    const struct load_report *report, const struct load_bursts *bursts)
{
	char where[ADDRESS_TEXT_BYTES];
	struct json json;

	json_begin(&json, out);
	json_open(&json, NULL, '{');
	json_text(&json, "server", address_text(&config->address, where));
	json_text(&json, "mode", load_modes[set->mode]);
	json_text(&json, "protocol", load_protocols[set->protocol]);
	json_count(&json, "connections", set->connections);
	json_count(&json, "connected", connect->connected);
	json_count(&json, "active", set->active);
	json_count(&json, "size_bytes", set->size);
	json_count(&json, "depth", set->depth);
	json_count(&json, "rate_per_second", set->rate);
	json_bool(&json, "verified", set->verify);
	json_count(&json, "connect_ns", connect->elapsed_ns);
	json_count(&json, "elapsed_ns", report->elapsed_ns);
	json_count(&json, "packets", report->packets);
	json_count(&json, "packets_with_warmup", report->all_packets);
	json_real(&json, "packets_per_second", output_per_second(report));
	load_report_latency(&json, "latency_ns", &report->latency);
	if (set->mode == LOAD_MODE_BURST) {
		json_count(&json, "bursts", bursts->count);
		load_report_latency(&json, "burst_ns", &bursts->times);
	}
	json_count(&json, "backlog", report->backlog);
	json_count(&json, "client_cpu_ns", report->cpu_ns);
	load_report_errors(&json, "errors", report);
	json_count(&json, "mismatches", report->mismatches);
	json_bool(&json, "interrupted", report->stopped);
	json_close(&json, '}');
	return json_end(&json);
}

/* Did the server close on us whatever it was sent? */
static bool
output_was_closed(
    const struct load_report *connect, const struct load_report *report)
{
	uint64_t closed =
	    report->errors[LOAD_RESET] + report->errors[LOAD_CLOSED];

	return closed > 0 && closed == load_errors(report) &&
	       connect->all_packets + report->all_packets == 0;
}

static int
output_verdict(
    const struct load_report *connect, const struct load_report *report)
{
	if (connect->errors[LOAD_REFUSED] > 0 && connect->connected == 0)
		fputs("weir load: nobody listens there; start a server with "
		      "'weir serve'\n",
		    stderr);
	if (connect->errors[LOAD_UNANSWERED] > 0)
		fputs("weir load: the server accepts but does not answer; "
		      "does it speak this --protocol?\n",
		    stderr);
	else if (output_was_closed(connect, report))
		fputs("weir load: the server closes every connection that "
		      "sends; does it speak this --protocol?\n",
		    stderr);
	if (load_errors(report) != 0 || report->mismatches != 0)
		return CLI_FAILED;
	return report->packets > 0 ? CLI_OK : CLI_FAILED;
}

int
load_output(FILE *json, const struct load_settings *set,
    const struct load_config *config, const struct load_report *connect,
    const struct load_report *report, const struct load_bursts *bursts)
{
	bool measured = report->packets + report->latency.total != 0 ||
			report->mismatches != 0;

	if (json != stdout && !measured)
		output_nothing(stdout, config, report);
	else if (json != stdout)
		output_text(stdout, set, config, connect, report, bursts);
	if (json != NULL &&
	    output_json(json, set, config, connect, report, bursts) != 0) {
		fprintf(stderr, "weir load: cannot write %s: %s\n", set->json,
		    strerror(errno));
		return CLI_FAILED;
	}
	return output_verdict(connect, report);
}
