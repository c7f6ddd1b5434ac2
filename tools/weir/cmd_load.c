/* SPDX-License-Identifier: MIT */
/*
 * cmd_load.c - `weir load`: drive one server and say what was measured.
 *
 *     weir serve --port 7700 &
 *     weir load --port 7700 --connections 10000 --size 1k --seconds 5
 *     weir load --port 7700 --rate 21000          open loop
 *     weir load --port 7 --protocol raw           any echo server
 *     weir load --port 7700 --mode slow-reader --connections 1000
 */
#include "cmd.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "address.h"
#include "cli.h"
#include "load.h"
#include "load_engine.h"
#include "load_output.h"

#define LOAD_CONNECTIONS_MAX 1000000u
#define LOAD_RATE_MAX 100000000u

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

/* What makes no sense in a mode. */
static int
load_check_mode(
    const struct cli_command *command, const struct load_settings *set)
{
	const char *mode = load_modes[set->mode];

	if (set->mode == LOAD_MODE_ECHO)
		return CLI_GO_ON;
	if (set->rate != 0 || set->packets != 0)
		return cli_usage(command,
		    "--rate and --packets are for --mode echo, not %s", mode);
	if (set->mode == LOAD_MODE_BURST)
		return CLI_GO_ON;
	if (set->active_given)
		return cli_usage(command,
		    "--active is for --mode echo and burst; in --mode %s all "
		    "connections are alike",
		    mode);
	if (set->mode == LOAD_MODE_BROADCAST &&
	    (set->connections < 2 || set->size < 8))
		return cli_usage(command,
		    "--mode broadcast needs a speaker and a listener, and 8 "
		    "bytes to tell packets apart");
	if (set->protocol == LOAD_RAW && (set->mode == LOAD_MODE_HALF_OPEN ||
					     set->mode == LOAD_MODE_GARBAGE))
		return cli_usage(command,
		    "--mode %s is about packets; the raw protocol has none",
		    mode);
	return CLI_GO_ON;
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
	return load_check_mode(command, set);
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
load_pause(uint64_t ns)
{
	uint64_t end = load_now() + ns;
	uint64_t now;

	while (load_stop == 0 && (now = load_now()) < end) {
		uint64_t left = end - now;
		struct timespec slice = {
		    .tv_nsec = left < 50000000 ? (long)left : 50000000};

		nanosleep(&slice, NULL);
	}
}

/* One burst after the other; the report is of the time they took, the pauses
 * left out. */
static void
load_drive_bursts(const struct load_settings *set, struct load *load,
    struct load_report *report, struct load_bursts *bursts)
{
	const struct load_run run = {.burst = true};
	struct load_report *one = malloc(sizeof(*one));
	uint64_t end = load_now() + set->duration_ns;

	while (one != NULL && load_stop == 0 && load_errors(report) == 0 &&
	       (set->duration_ns == 0 || load_now() < end)) {
		load_run(load, &run, one);
		bursts->count++;
		hist_record(&bursts->times, one->elapsed_ns);
		hist_add(&report->latency, &one->latency);
		report->packets += one->packets;
		report->all_packets += one->all_packets;
		report->elapsed_ns += one->elapsed_ns;
		report->cpu_ns += one->cpu_ns;
		report->connected = one->connected;
		report->stopped |= one->stopped;
		load_merge(report, one);
		load_pause(set->pause_ns);
	}
	free(one);
}

static void
load_drive(const struct load_settings *set, struct load *load,
    struct load_report *connect, struct load_report *report,
    struct load_bursts *bursts)
{
	const struct load_run run = {
	    .warmup_ns = set->warmup_ns,
	    .duration_ns = set->duration_ns,
	    .packets = set->packets,
	    .rate = set->rate,
	};

	load_connect(load, connect);
	if (connect->connected == 0 || connect->errors[LOAD_UNANSWERED] != 0)
		;
	else if (set->mode == LOAD_MODE_BURST)
		load_drive_bursts(set, load, report, bursts);
	else
		load_run(load, &run, report);
	load_merge(report, connect);
}

/* Two reports of 30 KiB each are kept off the stack. */
static int
load_execute(
    FILE *json, const struct load_settings *set, struct load_config *config)
{
	struct load_report *reports = calloc(2, sizeof(*reports));
	struct load_bursts *bursts = calloc(1, sizeof(*bursts));
	struct load *load = NULL;
	int status = CLI_FAILED;
	int error = reports == NULL || bursts == NULL
			? -ENOMEM
			: load_create(&load, config);

	if (error != 0) {
		fprintf(
		    stderr, "weir load: cannot start: %s\n", strerror(-error));
		goto done;
	}
	load_catch_signals();
	load_drive(set, load, &reports[0], &reports[1], bursts);
	status =
	    load_output(json, set, config, &reports[0], &reports[1], bursts);
done:
	load_destroy(load);
	free(bursts);
	free(reports);
	return status;
}

static int
load_execute_rude(
    FILE *json, const struct load_settings *set, const struct load_config *echo)
{
	const struct rude_config config = {
	    .address = echo->address,
	    .address_bytes = echo->address_bytes,
	    .mode = (enum load_mode)set->mode,
	    .protocol = echo->protocol,
	    .connections = echo->connections,
	    .payload_bytes = echo->payload_bytes,
	    .pump_bytes = set->bytes,
	    .duration_ns = set->duration_ns,
	    .timeout_ns = set->timeout_ns,
	    .seed = set->seed,
	    .leave = !set->recover,
	    .stop = &load_stop,
	};

	load_catch_signals();
	return load_mode_run(json, set, &config);
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
	if (set->mode == LOAD_MODE_ECHO || set->mode == LOAD_MODE_BURST)
		status = load_execute(json, set, config);
	else
		status = load_execute_rude(json, set, config);
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
    .pause_ns = UINT64_C(500000000),
    .seed = 1,
    .verify = true,
    .recover = true,
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
    {.name = "mode",
	.kind = CLI_ENUM,
	.target = &load_set.mode,
	.choices = load_modes,
	.help = "what the connections do (see below)"},
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
    {.name = "pause",
	.kind = CLI_TIME,
	.target = &load_set.pause_ns,
	.help = "burst: silence between two of them"},
    {.name = "bytes",
	.letter = 'b',
	.kind = CLI_BYTES,
	.target = &load_set.bytes,
	.help = "slow-reader: send this much on each connection; 0: as much "
		"as the server takes"},
    {.name = "recover",
	.kind = CLI_FLAG,
	.target = &load_set.recover,
	.help = "idle, slow-reader, half-open, garbage: end without asking "
		"for what is due"},
    {.name = "seed",
	.kind = CLI_U64,
	.target = &load_set.seed,
	.help = "garbage: of its random bytes"},
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

static const char load_details[] =
    "Modes: echo keeps packets going and measures. burst has every active "
    "connection send --depth packets at once, and all be silent for --pause. "
    "broadcast is for servers that hand each packet to every connection: the "
    "last one speaks, all others must hear it. "
    "The others do harm: idle connections send nothing; a slow-reader sends "
    "what the server takes and reads nothing; half-open begins a packet and "
    "does not end it; garbage plays lengths that are none, random bytes, "
    "packets byte by byte and resets, on as many connections as there is time "
    "for. At the end those the server left open behave, and must get back all "
    "they are owed; and a new connection must be served.\n\n"
    "Exit status: 0 no error and no mismatch, 1 otherwise, 2 wrong usage; to "
    "close or throttle who does harm is no error, what is not answered at the "
    "end is one. Ctrl-C ends the run and prints what was measured until then, "
    "with the same exit status; 1 if that was nothing.";

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
	    .details = load_details,
	};
	int status = cli_parse(&command, argc, argv);

	if (status == CLI_GO_ON)
		status = load_check(&command, &load_set, &config);
	return status == CLI_GO_ON ? load_start(&load_set, &config) : status;
}
