/* SPDX-License-Identifier: MIT */
/*
 * cmd_load.c - `weir load`: drive one server and say what was measured.
 *
 *     weir serve --port 7700 &
 *     weir load --port 7700 --connections 10000 --size 1k --seconds 5
 *     weir load --port 7700 --rate 21000          open loop
 *     weir load --port 7 --protocol raw           any echo server
 */
#include "cmd.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "address.h"
#include "cli.h"
#include "load.h"
#include "load_report.h"
#include "term.h"

#define LOAD_CONNECTIONS_MAX 1000000u
#define LOAD_RATE_MAX 100000000u

static const char *const load_protocols[] = {"packet", "raw", NULL};

struct load_settings {
	const char *address;
	const char *json;
	uint64_t port;
	uint64_t connections;
	uint64_t active;
	uint64_t size;
	uint64_t duration_ns;
	uint64_t warmup_ns;
	uint64_t timeout_ns;
	uint64_t packets;
	uint64_t depth;
	uint64_t rate;
	uint64_t cpu;
	int protocol;
	bool verify;
	bool allow_remote;
	bool seconds_given;
	bool warmup_given;
	bool active_given;
	bool cpu_given;
};

static volatile sig_atomic_t load_stop;

static void
load_on_signal(int signal_number)
{
	(void)signal_number;
	load_stop = 1;
}

/* The first signal ends the run, a second one the program. */
static void
load_catch_signals(void)
{
	struct sigaction action = {.sa_handler = load_on_signal};

	action.sa_flags = (int)SA_RESETHAND;
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
}

/* What the table of options cannot say; CLI_GO_ON or an exit status. */
static int
load_check(const struct cli_command *command, struct load_settings *set,
    struct load_config *config)
{
	if (address_parse(set->address, (uint16_t)set->port, &config->address,
		&config->address_bytes) != 0)
		return cli_usage(command,
		    "'%s' is no address: expected a numeric IPv4 or IPv6 "
		    "address, or localhost",
		    set->address);
	if (!address_is_loopback(&config->address) && !set->allow_remote)
		return cli_usage(command,
		    "%s is another machine: load drives loopback only, unless "
		    "--allow-remote says that you may load that one",
		    set->address);
	if (!set->active_given)
		set->active = set->connections;
	if (set->active > set->connections)
		return cli_usage(command,
		    "--active %llu is more than --connections %llu",
		    (unsigned long long)set->active,
		    (unsigned long long)set->connections);
	if (set->protocol == LOAD_RAW && set->size == 0)
		return cli_usage(command,
		    "--size 0 sends nothing in the raw protocol; use 1 or "
		    "more");
	if (set->packets != 0 && set->warmup_given && set->warmup_ns != 0)
		return cli_usage(command,
		    "--packets counts from the first packet, so there is no "
		    "warm-up; leave --warmup out");
	if (set->packets != 0) {
		set->warmup_ns = 0;
		if (!set->seconds_given)
			set->duration_ns = 0;
	}
	return CLI_GO_ON;
}

/* Fewer connections where descriptors are short, and a word about it. */
static int
load_fit_descriptors(struct load_settings *set)
{
	uint64_t fit = load_raise_descriptors();

	if (fit >= set->connections)
		return CLI_GO_ON;
	fprintf(stderr,
	    "weir load: the limit of open files allows %llu of %llu "
	    "connections; 'ulimit -Hn' shows it, root can raise it\n",
	    (unsigned long long)fit, (unsigned long long)set->connections);
	if (fit == 0)
		return CLI_FAILED;
	set->connections = fit;
	if (set->active > fit)
		set->active = fit;
	return CLI_GO_ON;
}

static int
load_pin(uint64_t cpu)
{
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	if (cpu < CPU_SETSIZE)
		CPU_SET((size_t)cpu, &cpus);
	if (sched_setaffinity(0, sizeof(cpus), &cpus) == 0)
		return CLI_GO_ON;
	fprintf(stderr,
	    "weir load: cannot run on processor %llu: %s; 'nproc' tells how "
	    "many there are\n",
	    (unsigned long long)cpu, strerror(errno));
	return CLI_FAILED;
}

static double
load_per_second(const struct load_report *report)
{
	if (report->elapsed_ns == 0)
		return 0.0;
	return (double)report->packets * 1e9 / (double)report->elapsed_ns;
}

static void
load_print_errors(FILE *out, const struct load_settings *set,
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
load_print_nothing(FILE *out, const struct load_config *config,
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
load_print(FILE *out, const struct load_settings *set,
    const struct load_config *config, const struct load_report *connect,
    const struct load_report *report)
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
	    term_count((uint64_t)load_per_second(report), number[2]),
	    term_style(out, TERM_PLAIN),
	    load_per_second(report) * (double)wire / 1048576.0);
	fprintf(out, "  latency     p50 %s  p90 %s  p99 %s  p99.9 %s  max %s\n",
	    term_time(hist_percentile(latency, 50), number[0]),
	    term_time(hist_percentile(latency, 90), number[1]),
	    term_time(hist_percentile(latency, 99), number[2]),
	    term_time(hist_percentile(latency, 99.9), number[3]),
	    term_time(latency->max, number[4]));
	if (set->rate != 0)
		fprintf(out,
		    "  open loop   %s packets/s asked, %s due but never sent\n",
		    term_count(set->rate, number[0]),
		    term_count(report->backlog, number[1]));
	fprintf(out, "  client CPU  %.0f %%\n",
	    report->elapsed_ns == 0
		? 0.0
		: 100.0 * (double)report->cpu_ns / (double)report->elapsed_ns);
	load_print_errors(out, set, report);
}

static int
load_write_json(FILE *out, const struct load_settings *set,
    const struct load_config *config, const struct load_report *connect,
    const struct load_report *report)
{
	char where[ADDRESS_TEXT_BYTES];
	struct json json;

	json_begin(&json, out);
	json_open(&json, NULL, '{');
	json_text(&json, "server", address_text(&config->address, where));
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
	json_real(&json, "packets_per_second", load_per_second(report));
	load_report_latency(&json, "latency_ns", &report->latency);
	json_count(&json, "backlog", report->backlog);
	json_count(&json, "client_cpu_ns", report->cpu_ns);
	load_report_errors(&json, "errors", report);
	json_count(&json, "mismatches", report->mismatches);
	json_bool(&json, "interrupted", report->stopped);
	json_close(&json, '}');
	return json_end(&json);
}

/* Errors of both phases belong to the result. */
static void
load_merge(struct load_report *report, const struct load_report *connect)
{
	for (int i = 0; i < LOAD_CAUSE_COUNT; i++)
		report->errors[i] += connect->errors[i];
	if (connect->mismatches != 0)
		report->first_mismatch = connect->first_mismatch;
	report->mismatches += connect->mismatches;
	report->stopped |= connect->stopped;
}

static void
load_drive(const struct load_settings *set, struct load *load,
    struct load_report *connect, struct load_report *report)
{
	const struct load_run run = {
	    .warmup_ns = set->warmup_ns,
	    .duration_ns = set->duration_ns,
	    .packets = set->packets,
	    .rate = set->rate,
	};

	load_connect(load, connect);
	if (connect->connected > 0 && connect->errors[LOAD_UNANSWERED] == 0)
		load_run(load, &run, report);
	load_merge(report, connect);
}

/* Did the server close on us whatever it was sent? */
static bool
load_was_closed(
    const struct load_report *connect, const struct load_report *report)
{
	uint64_t closed =
	    report->errors[LOAD_RESET] + report->errors[LOAD_CLOSED];

	return closed > 0 && closed == load_errors(report) &&
	       connect->all_packets + report->all_packets == 0;
}

static int
load_verdict(
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
	else if (load_was_closed(connect, report))
		fputs("weir load: the server closes every connection that "
		      "sends; does it speak this --protocol?\n",
		    stderr);
	if (load_errors(report) != 0 || report->mismatches != 0)
		return CLI_FAILED;
	return report->packets > 0 ? CLI_OK : CLI_FAILED;
}

static int
load_report_all(FILE *json, const struct load_settings *set,
    const struct load_config *config, const struct load_report *connect,
    const struct load_report *report)
{
	bool measured = report->packets + report->latency.total != 0 ||
			report->mismatches != 0;

	if (json != stdout && !measured)
		load_print_nothing(stdout, config, report);
	else if (json != stdout)
		load_print(stdout, set, config, connect, report);
	if (json != NULL &&
	    load_write_json(json, set, config, connect, report) != 0) {
		fprintf(stderr, "weir load: cannot write %s: %s\n", set->json,
		    strerror(errno));
		return CLI_FAILED;
	}
	return load_verdict(connect, report);
}

/* Two reports of 30 KiB each are kept off the stack. */
static int
load_execute(
    FILE *json, const struct load_settings *set, struct load_config *config)
{
	struct load_report *reports = calloc(2, sizeof(*reports));
	struct load *load = NULL;
	int status = CLI_FAILED;
	int error = reports == NULL ? -ENOMEM : load_create(&load, config);

	if (error != 0) {
		fprintf(
		    stderr, "weir load: cannot start: %s\n", strerror(-error));
		goto done;
	}
	load_catch_signals();
	load_drive(set, load, &reports[0], &reports[1]);
	status = load_report_all(json, set, config, &reports[0], &reports[1]);
done:
	load_destroy(load);
	free(reports);
	return status;
}

static int
load_start(struct load_settings *set, struct load_config *config)
{
	FILE *json = NULL;
	int status;

	if (set->cpu_given && load_pin(set->cpu) != CLI_GO_ON)
		return CLI_FAILED;
	if (load_fit_descriptors(set) != CLI_GO_ON)
		return CLI_FAILED;
	if (set->json != NULL)
		json = strcmp(set->json, "-") == 0 ? stdout
						   : fopen(set->json, "we");
	if (set->json != NULL && json == NULL) {
		fprintf(stderr, "weir load: cannot write %s: %s\n", set->json,
		    strerror(errno));
		return CLI_FAILED;
	}
	config->connections = (uint32_t)set->connections;
	config->active = (uint32_t)set->active;
	config->payload_bytes = (uint32_t)set->size;
	config->depth = (uint32_t)set->depth;
	config->timeout_ns = set->timeout_ns;
	config->protocol = (enum load_protocol)set->protocol;
	config->verify = set->verify;
	config->stop = &load_stop;
	status = load_execute(json, set, config);
	if (json != NULL && json != stdout && fclose(json) != 0)
		status = CLI_FAILED;
	return status;
}

/* Filled with the defaults, then by the command line. */
static struct load_settings load_set = {
    .address = "127.0.0.1",
    .port = 7700,
    .connections = 100,
    .active = 100,
    .size = 1024,
    .duration_ns = UINT64_C(5000000000),
    .warmup_ns = UINT64_C(500000000),
    .timeout_ns = UINT64_C(5000000000),
    .depth = 1,
    .verify = true,
};

static const struct cli_option load_options[] = {
    {.name = "address",
	.letter = 'a',
	.kind = CLI_STRING,
	.target = &load_set.address,
	.value_name = "ADDR",
	.help = "address of the server, numeric"},
    {.name = "port",
	.letter = 'p',
	.kind = CLI_U64,
	.target = &load_set.port,
	.min = 1,
	.max = 65535,
	.value_name = "PORT",
	.help = "port of the server"},
    {.name = "connections",
	.letter = 'c',
	.kind = CLI_U64,
	.target = &load_set.connections,
	.min = 1,
	.max = LOAD_CONNECTIONS_MAX,
	.help = "connections to make"},
    {.name = "active",
	.letter = 'm',
	.kind = CLI_U64,
	.target = &load_set.active,
	.min = 1,
	.max = LOAD_CONNECTIONS_MAX,
	.given = &load_set.active_given,
	.no_default = true,
	.help = "connections that send, the others stay silent; all "
		"unless given"},
    {.name = "size",
	.letter = 's',
	.kind = CLI_BYTES,
	.target = &load_set.size,
	.max = LOAD_PAYLOAD_MAX,
	.help = "payload of a packet"},
    {.name = "depth",
	.letter = 'd',
	.kind = CLI_U64,
	.target = &load_set.depth,
	.min = 1,
	.max = LOAD_DEPTH_MAX,
	.help = "packets in flight on each connection"},
    {.name = "rate",
	.letter = 'r',
	.kind = CLI_U64,
	.target = &load_set.rate,
	.max = LOAD_RATE_MAX,
	.help = "packets/s to send whatever the server does (open "
		"loop); latency counts from the time a packet was due; "
		"0: send when an answer comes"},
    {.name = "seconds",
	.letter = 't',
	.kind = CLI_TIME,
	.target = &load_set.duration_ns,
	.given = &load_set.seconds_given,
	.help = "length of the measured window, 0: until Ctrl-C"},
    {.name = "packets",
	.letter = 'n',
	.kind = CLI_U64,
	.target = &load_set.packets,
	.help = "end after this many packets, 0: no such end"},
    {.name = "warmup",
	.letter = 'w',
	.kind = CLI_TIME,
	.target = &load_set.warmup_ns,
	.given = &load_set.warmup_given,
	.help = "time before the window"},
    {.name = "timeout",
	.kind = CLI_TIME,
	.target = &load_set.timeout_ns,
	.min = 1000000,
	.help = "wait this long for a connect or an answer"},
    {.name = "protocol",
	.kind = CLI_ENUM,
	.target = &load_set.protocol,
	.choices = load_protocols,
	.help = "length and payload, or bytes alone"},
    {.name = "verify",
	.kind = CLI_FLAG,
	.target = &load_set.verify,
	.help = "do not compare the bytes that return"},
    {.name = "pin",
	.kind = CLI_U64,
	.target = &load_set.cpu,
	.max = 1023,
	.value_name = "CPU",
	.given = &load_set.cpu_given,
	.no_default = true,
	.help = "run on this processor only; on any unless given"},
    {.name = "json",
	.letter = 'j',
	.kind = CLI_STRING,
	.target = &load_set.json,
	.value_name = "FILE",
	.help = "write all figures as JSON; - is standard output"},
    {.name = "allow-remote",
	.kind = CLI_FLAG,
	.target = &load_set.allow_remote,
	.help = "allow addresses that are not loopback"},
};

int
weir_cmd_load(int argc, char **argv)
{
	struct load_config config = {0};
	const struct cli_command command = {
	    .name = "load",
	    .summary = "Drive a server over TCP: verify every byte that "
		       "returns, measure throughput and latency.",
	    .options = load_options,
	    .option_count = sizeof(load_options) / sizeof(load_options[0]),
	    .details = "Exit status: 0 no error and no mismatch, 1 otherwise, "
		       "2 wrong usage. Ctrl-C ends the run and prints what was "
		       "measured until then, with the same exit status; 1 if "
		       "that was nothing.",
	};
	int status = cli_parse(&command, argc, argv);

	if (status == CLI_GO_ON)
		status = load_check(&command, &load_set, &config);
	return status == CLI_GO_ON ? load_start(&load_set, &config) : status;
}
