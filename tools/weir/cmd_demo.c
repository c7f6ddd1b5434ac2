/* SPDX-License-Identifier: MIT */
/*
 * cmd_demo.c - `weir demo`: options and output.
 *
 *     weir demo
 *     weir demo --active 1850 --json result.json --svg result.svg
 *     weir demo --contenders weir,libuv --connections 100 --rounds 30
 */
#include "cmd.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "demo.h"

volatile sig_atomic_t demo_stop;

#define DEMO_NAME(id, name, usual, kind, text) name,
static const char *const demo_names[] = {DEMO_CONTENDERS(DEMO_NAME) NULL};
#undef DEMO_NAME

#define DEMO_USUAL(id, name, usual, kind, text) (uint64_t)(usual) << DEMO_##id |
enum { DEMO_USUAL_SET = DEMO_CONTENDERS(DEMO_USUAL) 0 };
#undef DEMO_USUAL

static void
demo_on_signal(int signal_number)
{
	(void)signal_number;
	demo_stop = 1;
}

/* Opened before the minute of work, not after it. */
static FILE *
demo_open(const char *path, bool *failed)
{
	FILE *file;

	if (path == NULL)
		return NULL;
	if (strcmp(path, "-") == 0)
		return stdout;
	file = fopen(path, "we");
	if (file == NULL) {
		fprintf(stderr, "weir demo: cannot write %s: %s\n", path,
		    strerror(errno));
		*failed = true;
	}
	return file;
}

static int
demo_close(FILE *file, const char *path, int error)
{
	if (file != NULL && file != stdout && fclose(file) != 0 && error == 0)
		error = -errno;
	if (error == 0)
		return CLI_OK;
	fprintf(stderr, "weir demo: cannot write %s: %s\n", path,
	    error == -EIO ? "writing or gnuplot failed" : strerror(-error));
	return CLI_FAILED;
}

static int
demo_output(struct demo *demo, FILE *json, FILE *svg)
{
	int status = demo_succeeded(demo) ? CLI_OK : CLI_FAILED;
	bool any = false;
	int error = 0;

	for (int i = 0; i < DEMO_ID_COUNT; i++)
		any |= demo->rows[i].round_count > 0;
	if (json != stdout && svg != stdout)
		demo_table_print(demo, stdout);
	if (json != NULL)
		error = demo_json_write(demo, json);
	if (demo_close(json, demo->set.json, error) != CLI_OK)
		status = CLI_FAILED;
	error = svg != NULL && any ? demo_chart_write(demo, svg) : 0;
	if (demo_close(svg, demo->set.svg, error) != CLI_OK)
		status = CLI_FAILED;
	return status;
}

static int
demo_fit_descriptors(struct demo_settings *set)
{
	uint64_t fit = load_raise_descriptors();

	set->wanted_connections = set->connections;
	if (fit < set->connections) {
		fprintf(stderr,
		    "weir demo: the limit of open files allows %" PRIu64
		    " of %" PRIu64 " connections; 'ulimit -Hn' shows it, root "
		    "can raise it\n",
		    fit, set->connections);
		set->connections = fit;
	}
	if (!set->active_given || set->active > set->connections)
		set->active = set->connections;
	return fit == 0 ? CLI_FAILED : CLI_GO_ON;
}

static int
demo_run(const struct demo_settings *set)
{
	struct sigaction action = {.sa_handler = demo_on_signal};
	struct demo *demo = calloc(1, sizeof(*demo));
	bool failed = false;
	FILE *json = demo_open(set->json, &failed);
	FILE *svg = demo_open(set->svg, &failed);
	int status = CLI_FAILED;

	if (demo == NULL)
		fputs("weir demo: out of memory\n", stderr);
	if (demo != NULL && !failed) {
		demo->set = *set;
		demo->set.pinned = demo_processors() >= 2;
		demo_machine_read(&demo->machine);
		action.sa_flags = (int)SA_RESETHAND;
		sigaction(SIGINT, &action, NULL);
		sigaction(SIGTERM, &action, NULL);
		demo_play(demo);
		status = demo_output(demo, json, svg);
	}
	free(demo);
	return status;
}

/* The folder of this program, where the other contenders are built. */
static bool
demo_find_directory(char *path)
{
	ssize_t length = readlink("/proc/self/exe", path, DEMO_PATH_BYTES - 1);

	if (length <= 0)
		return false;
	path[length] = '\0';
	char *slash = strrchr(path, '/');
	if (slash != NULL)
		*slash = '\0';
	return slash != NULL;
}

/* What the table of options cannot say. */
static int
demo_check(const struct cli_command *command, const struct demo_settings *set)
{
	if (set->active_given && set->active > set->connections)
		return cli_usage(command,
		    "--active %" PRIu64 " is more than --connections %" PRIu64,
		    set->active, set->connections);
	if (set->json != NULL && set->svg != NULL &&
	    strcmp(set->json, "-") == 0 && strcmp(set->svg, "-") == 0)
		return cli_usage(command,
		    "--json and --svg cannot both go to standard output");
	if (set->svg != NULL && !demo_chart_ready()) {
		fputs("weir demo: --svg needs gnuplot, which is not in PATH; "
		      "install gnuplot-nox\n",
		    stderr);
		return CLI_FAILED;
	}
	return CLI_GO_ON;
}

static const char demo_details[] =
    "Each contender is a server process of one thread: weir is 'weir serve' on "
    "pools, malloc the same engine with malloc and free for every buffer and "
    "context, libuv and asio are echo servers written the usual way. When "
    "named: weir-epoll and weir-uring, weir on a given system interface; epoll "
    "and uring, the least code there is for each of those. Every "
    "byte that returns is verified. The ratio of each to weir is the median of "
    "pairs from the same round, with its interval; a difference inside it is "
    "called so. A round of its own puts clients that never read beside up to "
    "100 connections, and tells what those keep of their packets and what the "
    "server's memory grows by. Ends in about a minute by default.\n\n"
    "The experiment that is repeated here was published as 15,000 packets/s "
    "at 120 ms without pools and 21,000 at 90 ms with them. By Little's law "
    "(packets in flight = rate x time) both are about 1,850 packets in flight, "
    "so with --active 1850 the load is the same: 1,850 of the connections keep "
    "one packet each under way, the others are silent.\n\n"
    "Exit status: 0 every contender ran with 0 errors and 0 mismatches, 1 "
    "otherwise, 2 wrong usage.";

/* Filled with the defaults, then by the command line. */
static struct demo_settings demo_set = {
    .connections = 10000,
    .size = 1024,
    .depth = 1,
    .rounds = 15,
    .duration_ns = UINT64_C(400000000),
    .warmup_ns = UINT64_C(100000000),
    .contenders = DEMO_USUAL_SET,
    .slow = 50,
    .count = true,
};

static const struct cli_option demo_options[] = {
    {.name = "connections",
	.letter = 'c',
	.kind = CLI_U64,
	.target = &demo_set.connections,
	.min = 1,
	.max = 1000000,
	.help = "connections to each server"},
    {.name = "active",
	.letter = 'm',
	.kind = CLI_U64,
	.target = &demo_set.active,
	.min = 1,
	.max = 1000000,
	.given = &demo_set.active_given,
	.no_default = true,
	.help = "connections that send, the others stay silent; all "
		"unless given; 1850 is the published load (see below)"},
    {.name = "size",
	.letter = 's',
	.kind = CLI_BYTES,
	.target = &demo_set.size,
	.max = LOAD_PAYLOAD_MAX,
	.help = "payload of a packet"},
    {.name = "depth",
	.letter = 'd',
	.kind = CLI_U64,
	.target = &demo_set.depth,
	.min = 1,
	.max = LOAD_DEPTH_MAX,
	.help = "packets in flight on each connection"},
    {.name = "seconds",
	.letter = 't',
	.kind = CLI_TIME,
	.target = &demo_set.duration_ns,
	.min = 1000000,
	.help = "measured time of each contender in each round"},
    {.name = "warmup",
	.letter = 'w',
	.kind = CLI_TIME,
	.target = &demo_set.warmup_ns,
	.help = "time before it"},
    {.name = "rounds",
	.letter = 'r',
	.kind = CLI_U64,
	.target = &demo_set.rounds,
	.min = 1,
	.max = DEMO_ROUNDS_MAX,
	.help = "rounds; 6 or more for a 95 % interval"},
    {.name = "contenders",
	.kind = CLI_SET,
	.target = &demo_set.contenders,
	.choices = demo_names,
	.no_default = true,
	.help = "who takes part, separated by commas; weir, malloc, "
		"libuv and asio unless given"},
    {.name = "slow",
	.kind = CLI_U64,
	.target = &demo_set.slow,
	.max = 10000,
	.help = "clients that never read, in a round of their own; 0: no such "
		"round"},
    {.name = "count",
	.kind = CLI_FLAG,
	.target = &demo_set.count,
	.help = "leave out the part that counts allocations"},
    {.name = "json",
	.letter = 'j',
	.kind = CLI_STRING,
	.target = &demo_set.json,
	.value_name = "FILE",
	.help = "write all figures as JSON; - is standard output"},
    {.name = "svg",
	.kind = CLI_STRING,
	.target = &demo_set.svg,
	.value_name = "FILE",
	.help = "draw a chart (needs gnuplot)"},
    {.name = "directory",
	.kind = CLI_STRING,
	.target = &demo_set.directory,
	.given = &demo_set.directory_given,
	.value_name = "DIR",
	.no_default = true,
	.help = "where the other servers are; beside this program "
		"unless given"},
};

int
weir_cmd_demo(int argc, char **argv)
{
	static char directory[DEMO_PATH_BYTES];
	const struct cli_command command = {
	    .name = "demo",
	    .summary = "Compare servers with and without pools on real TCP "
		       "connections, side by side.",
	    .options = demo_options,
	    .option_count = sizeof(demo_options) / sizeof(demo_options[0]),
	    .details = demo_details,
	};
	int status;

	demo_set.argc = argc;
	demo_set.argv = argv;
	demo_set.directory = demo_find_directory(directory) ? directory : ".";
	status = cli_parse(&command, argc, argv);
	if (status == CLI_GO_ON)
		status = demo_check(&command, &demo_set);
	if (status == CLI_GO_ON)
		status = demo_fit_descriptors(&demo_set);
	return status == CLI_GO_ON ? demo_run(&demo_set) : status;
}
