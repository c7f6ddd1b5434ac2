/* SPDX-License-Identifier: MIT */
/*
 * load_modes.c - what came of a mode that does harm, for people and programs.
 */
#include "load_output.h"

#include <errno.h>
#include <string.h>

#include "address.h"
#include "cli.h"
#include "json.h"
#include "load_report.h"
#include "term.h"

/* ---- text ------------------------------------------------------------------ */

static void
modes_line(
    FILE *out, const char *label, uint64_t count, bool good, const char *text)
{
	char number[TERM_NUMBER_BYTES];

	fprintf(out, "  %-11s %s%s%s%s%s\n", label,
	    good ? "" : term_style(out, TERM_BAD), term_count(count, number),
	    good ? "" : term_style(out, TERM_PLAIN), text[0] != '\0' ? " " : "",
	    text);
}

static void
modes_failed(FILE *out, const struct rude_report *report)
{
	for (int i = 0; i < LOAD_CAUSE_COUNT; i++)
		if (report->failed[i] != 0)
			modes_line(out, "failed", report->failed[i], false,
			    load_cause_text((enum load_cause)i));
}

static void
modes_closed(FILE *out, const struct rude_report *report)
{
	char number[3][TERM_NUMBER_BYTES];
	uint64_t closed = report->closed + report->reset;

	fprintf(out, "  closed      %s by the server",
	    term_count(closed, number[0]));
	if (closed > 0)
		fprintf(
		    out, ", %s by reset", term_count(report->reset, number[1]));
	if (report->first_ns > 0)
		fprintf(out, ", the first after %s",
		    term_time(report->first_ns, number[2]));
	fputc('\n', out);
}

static void
modes_garbage(FILE *out, const struct rude_report *report)
{
	char number[4][TERM_NUMBER_BYTES];

	fprintf(out, "  %34s %9s %9s %9s %9s\n", "", "played", "answered",
	    "closed", "ignored");
	for (int i = 0; i < RUDE_GARBAGE_COUNT; i++) {
		const struct rude_kind *kind = &report->kinds[i];

		fprintf(out, "  %-34s %9s %9s %9s %s%9s%s\n",
		    rude_text((enum rude_garbage)i),
		    term_count(kind->played, number[0]),
		    term_count(kind->answered, number[1]),
		    term_count(kind->closed, number[2]),
		    kind->ignored == 0 ? "" : term_style(out, TERM_BAD),
		    term_count(kind->ignored, number[3]),
		    kind->ignored == 0 ? "" : term_style(out, TERM_PLAIN));
	}
}

/* What the connections that were left open were owed. */
static void
modes_due(FILE *out, const struct rude_report *report)
{
	modes_line(out, "open", report->open, true, "at the end");
	modes_line(out, "recovered", report->recovered, true,
	    "got back all they were owed");
	modes_line(
	    out, "unanswered", report->unanswered, report->unanswered == 0, "");
}

static void
modes_broadcast(FILE *out, const struct rude_report *report)
{
	char number[4][TERM_NUMBER_BYTES];
	uint64_t ns = report->elapsed_ns;

	fprintf(out,
	    "  packets     %s to all, %s deliveries = %s/s\n"
	    "  last heard  p50 %s  p99 %s\n",
	    term_count(report->packets, number[0]),
	    term_count(report->delivered, number[1]),
	    term_count(ns == 0 ? 0
			       : (uint64_t)((double)report->delivered * 1e9 /
					    (double)ns),
		number[2]),
	    term_time(hist_percentile(&report->last_heard, 50), number[3]),
	    term_time(hist_percentile(&report->last_heard, 99), number[0]));
	modes_line(
	    out, "not heard", report->unanswered, report->unanswered == 0, "");
}

static void
modes_text(FILE *out, const struct load_settings *set,
    const struct rude_config *config, const struct rude_report *report)
{
	char where[ADDRESS_TEXT_BYTES];
	char number[3][TERM_NUMBER_BYTES];
	bool garbage = config->mode == LOAD_MODE_GARBAGE;

	fprintf(out, "%s: %s, %s %s, %s, %s B\n",
	    address_text(&config->address, where), load_modes[set->mode],
	    term_count(config->connections, number[0]),
	    garbage ? "at a time" : "connections",
	    load_protocols[set->protocol],
	    term_count(config->payload_bytes, number[1]));
	modes_line(out, "connected", report->connected, report->connected > 0,
	    garbage ? "in all" : "");
	modes_failed(out, report);
	fprintf(out, "  sent        %s B in %s, at most %s by a connection\n",
	    term_count(report->sent_bytes, number[0]),
	    term_time(report->elapsed_ns, number[1]),
	    term_count(report->most_bytes, number[2]));
	if (config->mode == LOAD_MODE_SLOW_READER)
		modes_line(out, "throttled", report->throttled, true,
		    "not taken from any more");
	modes_closed(out, report);
	if (config->mode == LOAD_MODE_BROADCAST)
		modes_broadcast(out, report);
	else if (garbage)
		modes_garbage(out, report);
	else if (!config->leave)
		modes_due(out, report);
	modes_line(
	    out, "mismatches", report->mismatches, report->mismatches == 0, "");
	if (!config->leave && config->mode != LOAD_MODE_BROADCAST)
		fprintf(out, "  server      %s%s%s\n",
		    report->alive_ns > 0 ? "serves a newcomer in "
					 : term_style(out, TERM_BAD),
		    report->alive_ns > 0
			? term_time(report->alive_ns, number[0])
			: "serves no newcomer",
		    report->alive_ns > 0 ? "" : term_style(out, TERM_PLAIN));
	if (report->stopped)
		fputs("  (interrupted)\n", out);
}

/* ---- JSON ------------------------------------------------------------------ */

static void
modes_json_garbage(struct json *json, const struct rude_report *report)
{
	json_open(json, "kinds", '{');
	for (int i = 0; i < RUDE_GARBAGE_COUNT; i++) {
		const struct rude_kind *kind = &report->kinds[i];

		json_open(json, rude_key((enum rude_garbage)i), '{');
		json_count(json, "played", kind->played);
		json_count(json, "answered", kind->answered);
		json_count(json, "closed", kind->closed);
		json_count(json, "ignored", kind->ignored);
		json_close(json, '}');
	}
	json_close(json, '}');
}

static void
modes_json_failed(struct json *json, const struct rude_report *report)
{
	uint64_t total = 0;

	json_open(json, "failed", '{');
	for (int i = 0; i < LOAD_CAUSE_COUNT; i++) {
		total += report->failed[i];
		if (report->failed[i] != 0)
			json_count(json, load_cause_key((enum load_cause)i),
			    report->failed[i]);
	}
	json_count(json, "total", total);
	json_close(json, '}');
}

static int
modes_json(FILE *out, const struct load_settings *set,
    const struct rude_config *config, const struct rude_report *report)
{
	char where[ADDRESS_TEXT_BYTES];
	struct json json;

	json_begin(&json, out);
	json_open(&json, NULL, '{');
	json_text(&json, "server", address_text(&config->address, where));
	json_text(&json, "mode", load_modes[set->mode]);
	json_text(&json, "protocol", load_protocols[set->protocol]);
	json_count(&json, "connections", config->connections);
	json_count(&json, "size_bytes", config->payload_bytes);
	json_count(&json, "seed", config->seed);
	json_count(&json, "connected", report->connected);
	json_count(&json, "connect_ns", report->connect_ns);
	json_count(&json, "elapsed_ns", report->elapsed_ns);
	json_count(&json, "sent_bytes", report->sent_bytes);
	json_count(&json, "most_bytes_by_one", report->most_bytes);
	json_count(&json, "throttled", report->throttled);
	json_count(&json, "closed", report->closed);
	json_count(&json, "reset", report->reset);
	json_count(&json, "first_closed_ns", report->first_ns);
	json_count(&json, "open", report->open);
	json_count(&json, "recovered", report->recovered);
	json_count(&json, "unanswered", report->unanswered);
	json_count(&json, "mismatches", report->mismatches);
	modes_json_failed(&json, report);
	if (config->mode == LOAD_MODE_GARBAGE)
		modes_json_garbage(&json, report);
	if (config->mode == LOAD_MODE_BROADCAST) {
		json_count(&json, "packets", report->packets);
		json_count(&json, "delivered", report->delivered);
		load_report_latency(
		    &json, "last_heard_ns", &report->last_heard);
	}
	json_count(&json, "newcomer_ns", report->alive_ns);
	json_bool(&json, "interrupted", report->stopped);
	json_bool(&json, "good", rude_verdict(config, report));
	json_close(&json, '}');
	return json_end(&json);
}

/* ---- all of it ------------------------------------------------------------- */

int
load_mode_run(FILE *json, const struct load_settings *set,
    const struct rude_config *config)
{
	struct rude_report report;
	int error = rude_run(config, &report);

	if (error != 0) {
		fprintf(
		    stderr, "weir load: cannot start: %s\n", strerror(-error));
		return CLI_FAILED;
	}
	if (json != stdout)
		modes_text(stdout, set, config, &report);
	if (json != NULL && modes_json(json, set, config, &report) != 0) {
		fprintf(stderr, "weir load: cannot write %s: %s\n", set->json,
		    strerror(errno));
		return CLI_FAILED;
	}
	if (report.failed[LOAD_REFUSED] > 0 && report.connected == 0)
		fputs("weir load: nobody listens there; start a server with "
		      "'weir serve'\n",
		    stderr);
	return rude_verdict(config, &report) ? CLI_OK : CLI_FAILED;
}
