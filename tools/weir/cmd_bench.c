/* SPDX-License-Identifier: MIT */
/*
 * cmd_bench.c - `weir bench`: options and output.
 *
 *     weir bench --quick
 *     weir bench pair handoff --peers weir,weir-batch,jemalloc,rte --rounds 7
 *     weir bench --json run.json --svg docs/bench
 *     weir bench net --json net.json
 *     weir bench --report run.json --charts bench > docs/BENCHMARKS.md
 */
#include "cmd.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"
#include "bench_net.h"
#include "cli.h"
#include "demo.h"

#define BENCH_QUICK_LIMIT_NS UINT64_C(45000000000)
#define BENCH_FULL_LIMIT_NS UINT64_C(1150000000000)
#define BENCH_ARGUMENTS_MAX 64
#define BENCH_NET_ROUNDS 15

volatile sig_atomic_t bench_stop;

struct bench_options {
	uint64_t rounds;
	uint64_t case_ns;
	bool rounds_given;
	bool case_given;
	bool quick;
	bool instructions;
	bool net; /* the word net was there */
	bool connections_given;
	uint64_t connections;
	const char *peers;
	const char *only;
	const char *json;
	const char *svg;
	const char *report;
	const char *charts;
	const char *directory;
	bool directory_given;
};

static struct bench_options bench_set = {
    .rounds = 7,
    .case_ns = 100000000,
    .connections = BENCH_NET_CONNECTIONS,
};

static const char bench_details[] =
    "Suites, given as words, all unless some are named: pair burst random "
    "handoff oversub scaling buffers tail fragmentation decay table of "
    "objects; region of memory that is freed together. What each asks stands "
    "on top of bench/object/suite_*.h and bench/region/suite_region.h.\n\n"
    "Opponents: glibc mimalloc jemalloc tcmalloc tbb rte apr talloc boost "
    "boost-lockfree ck; text books' mutex lockfree firstfit bestfit; weir's "
    "own weir weir-batch weir-inline batch-inline weir-heap weir-bounded; "
    "harness, which allocates nothing; calls, the same behind two calls, the "
    "least a library can do; and, only when named, slow, which is glibc with a "
    "delay and has to lose. In the suite region: the mallocs, "
    "apr nginx nginx-4k obstack glib talloc talloc-pool; weir-region; "
    "weir-limited, which has a limit, too; weir-plain, which has neither limit "
    "nor name; weir-heap; and harness, a pointer that moves. nginx is compiled "
    "from its source where the build "
    "was told WEIR_NGINX_SOURCE.\n\n"
    "Each opponent plays each suite of each round in a process of its own. A "
    "figure is the lower quartile of its chunks and the median of its rounds; "
    "a ratio is the median of the ratios of rounds. A full run takes up to 20 "
    "minutes, --quick less than one.\n\n"
    "net, named alone: servers under crowds of connections and harm, each "
    "figure with its target; 15 rounds, about 10 minutes, and no use on a busy "
    "machine.\n\n"
    "Exit status: 0 all that were there played, 1 one of them failed, 2 wrong "
    "usage.";

static const struct cli_option bench_options[] = {
    {.name = "peers",
	.letter = 'p',
	.kind = CLI_STRING,
	.target = &bench_set.peers,
	.value_name = "LIST",
	.help = "who plays, separated by commas; all unless given"},
    {.name = "rounds",
	.letter = 'r',
	.kind = CLI_U64,
	.target = &bench_set.rounds,
	.min = 1,
	.max = BENCH_ROUNDS_MAX,
	.given = &bench_set.rounds_given,
	.help = "rounds, however long they take; 6 or more for intervals of "
		"95 %"},
    {.name = "time",
	.letter = 't',
	.kind = CLI_TIME,
	.target = &bench_set.case_ns,
	.min = 1000000,
	.max = UINT64_C(10000000000),
	.given = &bench_set.case_given,
	.help = "time for each case of a suite"},
    {.name = "case",
	.letter = 'c',
	.kind = CLI_STRING,
	.target = &bench_set.only,
	.value_name = "NAME",
	.help = "only this case of each suite, such as 64 or 256/batch32; of "
		"net a figure, N1 to N12"},
    {.name = "quick",
	.letter = 'q',
	.kind = CLI_FLAG,
	.target = &bench_set.quick,
	.help = "shorter cases, smaller sets, at most 2 rounds: a first look"},
    {.name = "connections",
	.kind = CLI_U64,
	.target = &bench_set.connections,
	.given = &bench_set.connections_given,
	.min = 100,
	.max = BENCH_NET_CONNECTIONS,
	.help = "net: of its large crowds"},
    {.name = "instructions",
	.letter = 'i',
	.kind = CLI_FLAG,
	.target = &bench_set.instructions,
	.help = "also count instructions of alloc and free, and of regions "
		"(needs valgrind)"},
    {.name = "json",
	.letter = 'j',
	.kind = CLI_STRING,
	.target = &bench_set.json,
	.value_name = "FILE",
	.help = "write rows as JSON, one a line; - is standard output"},
    {.name = "svg",
	.kind = CLI_STRING,
	.target = &bench_set.svg,
	.value_name = "DIR",
	.help = "draw a chart a suite (needs gnuplot)"},
    {.name = "report",
	.kind = CLI_STRING,
	.target = &bench_set.report,
	.value_name = "FILE",
	.help = "measure nothing: print the rows of this file as a page of "
		"Markdown, or draw them with --svg"},
    {.name = "charts",
	.kind = CLI_STRING,
	.target = &bench_set.charts,
	.value_name = "PATH",
	.help = "with --report: where the page finds its charts"},
    {.name = "directory",
	.kind = CLI_STRING,
	.target = &bench_set.directory,
	.given = &bench_set.directory_given,
	.value_name = "DIR",
	.no_default = true,
	.help = "the build directory; beside this program unless given"},
};

#define BENCH_OPTION_COUNT (sizeof(bench_options) / sizeof(bench_options[0]))

static const struct cli_command bench_command = {
    .name = "bench",
    .summary = "Measure pools and allocators side by side: weir bench "
	       "[SUITE...] [options].",
    .options = bench_options,
    .option_count = BENCH_OPTION_COUNT,
    .details = bench_details,
};

/* ---- words of the command line --------------------------------------------- */

static int
bench_unknown(const char *what, const char *word, const char *const *names)
{
	const char *near = cli_nearest(word, names);
	char list[512] = "";
	size_t used = 0;

	for (; near == NULL && *names != NULL && used < sizeof(list); names++)
		used += (size_t)snprintf(
		    list + used, sizeof(list) - used, " %s", *names);
	if (near == NULL)
		return cli_usage(&bench_command,
		    "unknown %s '%.60s'; there are%s", what, word, list);
	return cli_usage(&bench_command,
	    "unknown %s '%.60s'; did you mean '%s'?", what, word, near);
}

/* Is the value of this option the next argument? */
static bool
bench_takes_next(const char *argument)
{
	bool is_long = argument[0] == '-' && argument[1] == '-';

	for (size_t i = 0; i < BENCH_OPTION_COUNT; i++) {
		const struct cli_option *option = &bench_options[i];

		if (option->kind == CLI_FLAG)
			continue;
		if (is_long
			? strcmp(argument + 2, option->name) == 0
			: argument[1] == option->letter && argument[2] == '\0')
			return true;
	}
	return false;
}

/*
 * The options' parser takes no words, so suites are taken out first: whatever
 * begins with no dash and is no option's value.
 */
static int
bench_take_suites(int argc, char **argv, char **rest, uint64_t *suites)
{
	int count = 0;

	*suites = 0;
	for (int i = 0; i < argc; i++) {
		if (i == 0 || argv[i][0] == '-') {
			bool next = i > 0 && bench_takes_next(argv[i]);

			rest[count++] = argv[i];
			if (next && i + 1 < argc)
				rest[count++] = argv[++i];
			continue;
		}
		if (strcmp(argv[i], "net") == 0) {
			bench_set.net = true;
			continue;
		}
		int suite = bench_suite_find(argv[i]);
		if (suite < 0)
			return bench_unknown(
			    "suite", argv[i], bench_suite_names());
		*suites |= UINT64_C(1) << suite;
	}
	rest[count] = NULL;
	if (bench_set.net && *suites != 0)
		return cli_usage(&bench_command,
		    "net is measured alone: name no other suite");
	if (*suites == 0)
		*suites = bench_suites_default();
	return CLI_GO_ON;
}

static int
bench_take_peers(const char *list, uint64_t suites, uint64_t *peers)
{
	*peers = list == NULL ? bench_peers_default() : 0;
	while (list != NULL && *list != '\0') {
		char word[64];
		size_t length = strcspn(list, ",");

		snprintf(word, sizeof(word), "%.*s",
		    (int)(length < 63 ? length : 63), list);
		int peer = bench_peer_find(word);
		if (peer < 0)
			return bench_unknown("peer", word, bench_peer_names());
		if (!bench_plays_any((unsigned)peer, suites))
			return cli_usage(&bench_command,
			    "peer '%s' plays none of these suites", word);
		*peers |= UINT64_C(1) << peer;
		list += length;
		list += *list == ',';
	}
	return CLI_GO_ON;
}

/* ---- output ------------------------------------------------------------------ */

static int
bench_cannot(const char *what, const char *path, int error)
{
	fprintf(stderr, "weir bench: cannot %s %s: %s\n", what, path,
	    error == -EIO ? "writing or gnuplot failed" : strerror(-error));
	return CLI_FAILED;
}

static int
bench_draw(const struct bench_rows *rows)
{
	int error;

	if (bench_set.svg == NULL)
		return CLI_OK;
	error = bench_chart_write(rows, bench_set.svg);
	return error == 0 ? CLI_OK
			  : bench_cannot("draw in", bench_set.svg, error);
}

/* Opened before the minutes of work, not after them. */
static int
bench_open_json(FILE **file)
{
	*file = NULL;
	if (bench_set.json == NULL)
		return CLI_OK;
	if (strcmp(bench_set.json, "-") == 0)
		*file = stdout;
	else
		*file = fopen(bench_set.json, "we");
	return *file != NULL ? CLI_OK
			     : bench_cannot("write", bench_set.json, -errno);
}

static int
bench_write_json(const struct bench_rows *rows, FILE *file)
{
	int error;

	if (file == NULL)
		return CLI_OK;
	error = bench_rows_write(rows, file);
	if (file != stdout && fclose(file) != 0 && error == 0)
		error = -errno;
	return error == 0 ? CLI_OK
			  : bench_cannot("write", bench_set.json, error);
}

/* ---- the two things it does ---------------------------------------------------- */

static int
bench_report(void)
{
	struct bench_rows rows = {0};
	FILE *file = fopen(bench_set.report, "re");
	unsigned line = 0;
	int status = CLI_OK;
	int error;

	if (file == NULL)
		return bench_cannot("read", bench_set.report, -errno);
	error = bench_rows_read(&rows, file, &line);
	fclose(file);
	if (error == -EINVAL) {
		fprintf(stderr,
		    "weir bench: %s: line %u is no row of a benchmark\n",
		    bench_set.report, line);
		status = CLI_FAILED;
	} else if (error != 0) {
		status = bench_cannot("read", bench_set.report, error);
	} else if (bench_set.svg != NULL) {
		status = bench_draw(&rows);
	} else {
		bench_report_print(&rows, bench_set.charts, stdout);
	}
	bench_rows_free(&rows);
	return status;
}

static void
bench_on_signal(int signal_number)
{
	(void)signal_number;
	bench_stop = 1;
	demo_stop = 1;
}

/* Nobody who was to play is there: no measurement, and no success. */
static bool
bench_all_missing(const struct bench_rows *rows)
{
	bool missing = false;

	for (size_t i = 0; i < rows->count; i++) {
		if (strcmp(rows->rows[i].suite, "about") != 0)
			return false;
		missing |= strcmp(rows->rows[i].metric, "missing") == 0;
	}
	return missing;
}

static int
bench_run(const struct bench_settings *set)
{
	struct sigaction action = {.sa_handler = bench_on_signal};
	struct bench_rows rows = {0};
	FILE *json;
	int status = bench_open_json(&json);

	if (status != CLI_OK)
		return status;
	action.sa_flags = (int)SA_RESETHAND;
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	if (!(bench_set.net ? bench_net_play(set, bench_set.connections,
				  bench_set.quick, &rows)
			    : bench_play(set, &rows)))
		status = CLI_FAILED;
	if (rows.failed) {
		fputs("weir bench: out of memory\n", stderr);
		status = CLI_FAILED;
	}
	if (json != stdout && bench_set.net)
		bench_net_print(&rows, false, stdout);
	else if (json != stdout)
		bench_table_print(&rows, stdout);
	if (bench_all_missing(&rows)) {
		fputs("weir bench: nothing was measured, all opponents are "
		      "missing; script/bench in the source tree builds them\n",
		    stderr);
		status = CLI_FAILED;
	}
	if (bench_write_json(&rows, json) != CLI_OK ||
	    bench_draw(&rows) != CLI_OK)
		status = CLI_FAILED;
	bench_rows_free(&rows);
	return status;
}

/* What the table of options cannot say. */
static int
bench_check(void)
{
	if (bench_set.net &&
	    (bench_set.peers != NULL || bench_set.instructions))
		return cli_usage(&bench_command,
		    "net has its own servers: --peers and --instructions are "
		    "for the others");
	if (bench_set.net && bench_set.only != NULL &&
	    !bench_net_knows(bench_set.only))
		return cli_usage(&bench_command, "net has no figure '%s': %s",
		    bench_set.only, BENCH_NET_FIGURES);
	if (bench_set.connections_given && !bench_set.net)
		return cli_usage(
		    &bench_command, "--connections is for the suite net");
	if (bench_set.charts != NULL && bench_set.report == NULL)
		return cli_usage(&bench_command, "--charts needs --report");
	if (bench_set.svg != NULL && !demo_chart_ready()) {
		fputs("weir bench: --svg needs gnuplot, which is not in PATH; "
		      "install gnuplot-nox\n",
		    stderr);
		return CLI_FAILED;
	}
	if (bench_set.instructions && !bench_count_ready()) {
		fputs("weir bench: --instructions needs valgrind, which is not "
		      "in PATH\n",
		    stderr);
		return CLI_FAILED;
	}
	return CLI_GO_ON;
}

/* The folder of this program, below which the workers are built. */
static const char *
bench_own_directory(void)
{
	static char path[BENCH_PATH_BYTES];
	ssize_t length = readlink("/proc/self/exe", path, sizeof(path) - 1);

	if (length <= 0)
		return ".";
	path[length] = '\0';
	char *slash = strrchr(path, '/');
	if (slash != NULL)
		*slash = '\0';
	return path;
}

static void
bench_settle(struct bench_settings *set)
{
	bool quick = bench_set.quick;

	set->rounds = bench_set.rounds;
	set->case_ms = bench_set.case_ns / 1000000;
	if (quick && !bench_set.rounds_given)
		set->rounds = 2;
	if (quick && !bench_set.case_given)
		set->case_ms = 15;
	if (bench_set.net && !bench_set.rounds_given)
		set->rounds = quick ? 3 : BENCH_NET_ROUNDS;
	if (bench_set.net && !bench_set.case_given)
		set->case_ms = quick ? 80 : 300;
	set->decay_ops = quick ? 1440000 : 100000000;
	set->live_bytes = quick ? 4u << 20 : 32u << 20;
	/* Who names a number of rounds wants that number. */
	if (!bench_set.rounds_given)
		set->limit_ns =
		    quick ? BENCH_QUICK_LIMIT_NS : BENCH_FULL_LIMIT_NS;
	set->only = bench_set.only;
	set->instructions = bench_set.instructions;
	set->directory_given = bench_set.directory_given;
	set->directory = bench_set.directory_given ? bench_set.directory
						   : bench_own_directory();
}

int
weir_cmd_bench(int argc, char **argv)
{
	struct bench_settings set = {.argc = argc, .argv = argv};
	char *rest[BENCH_ARGUMENTS_MAX + 1] = {NULL};
	int status;

	if (argc > BENCH_ARGUMENTS_MAX)
		return cli_usage(&bench_command, "more than %d arguments",
		    BENCH_ARGUMENTS_MAX);
	status = bench_take_suites(argc, argv, rest, &set.suites);
	if (status != CLI_GO_ON)
		return status;
	int count = 0;
	while (rest[count] != NULL)
		count++;
	status = cli_parse(&bench_command, count, rest);
	if (status == CLI_GO_ON)
		status =
		    bench_take_peers(bench_set.peers, set.suites, &set.peers);
	if (status == CLI_GO_ON)
		status = bench_check();
	if (status != CLI_GO_ON)
		return status;
	if (bench_set.report != NULL)
		return bench_report();
	bench_settle(&set);
	return bench_run(&set);
}
