/* SPDX-License-Identifier: MIT */
/*
 * bench_count.c - instructions of one alloc and of one free, and of a region's
 * whole life, by callgrind.
 *
 * Times tell what a processor made of a path on one day; its instructions are
 * the same on every day.  callgrind collects inside one function of the worker,
 * a loop of 8 calls on warm structures (bench/object/suite_count.h), and the
 * same loop with nothing in it, the worker "harness", is subtracted.  Regions
 * are counted with their loop (bench/region/suite_region.h), and once more, as
 * CASE/net, with that of the harness without any region subtracted.
 */
#include "bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define COUNT_LOOP 8.0            /* COUNT_OBJECTS of the worker */
#define COUNT_REGIONS 64.0        /* REGION_PLANS of the worker */
#define COUNT_OBJECTS_FAST 1000.0 /* of its case fastpath */
#define COUNT_LIMIT_MS 30000

bool
bench_count_ready(void)
{
	const char *path = getenv("PATH");
	char candidate[BENCH_PATH_BYTES];

	while (path != NULL && *path != '\0') {
		int length = (int)strcspn(path, ":");

		snprintf(candidate, sizeof(candidate), "%.*s/valgrind", length,
		    path);
		if (access(candidate, X_OK) == 0)
			return true;
		path += length;
		path += *path == ':';
	}
	return false;
}

/* Instructions inside a function of a worker, NAN with the reason in @why. */
static double
count_run(const struct bench_settings *set, const char *peer,
    const char *suite_name, const char *function, const char *name, char *why,
    size_t why_bytes)
{
	static char out[4096];
	static char err[65536];
	static char path[BENCH_PATH_BYTES];
	char collect[80];
	char only[BENCH_NAME_BYTES];
	char valgrind[] = "valgrind";
	char tool[] = "--tool=callgrind";
	char file[] = "--callgrind-out-file=/dev/null";
	char suite[BENCH_NAME_BYTES];
	char time[] = "1";
	char *argv[] = {
	    valgrind, tool, file, collect, path, suite, time, only, NULL};

	bench_worker_path(set->directory, peer, path);
	snprintf(suite, sizeof(suite), "%s", suite_name);
	snprintf(only, sizeof(only), "%s", name);
	snprintf(collect, sizeof(collect), "--toggle-collect=%s", function);
	int status = bench_process_run(
	    argv, COUNT_LIMIT_MS, out, sizeof(out), err, sizeof(err));
	const char *found = strstr(err, "Collected :");
	double collected =
	    found != NULL ? strtod(found + strlen("Collected :"), NULL) : 0;
	/* Nothing: the function was not found under its name. */
	if (status == 0 && collected > 0)
		return collected;
	snprintf(why, why_bytes, "%s",
	    status == 0 ? "callgrind told no number"
			: "it does not run under valgrind");
	return NAN;
}

/* The empty loop's share, counted once. */
static double
count_loop(const struct bench_settings *set, const char *function,
    const char *bytes, int which, char *why, size_t why_bytes)
{
	static double known[2]; /* of the one size that is counted */

	if (known[which] <= 0)
		known[which] = count_run(
		    set, "harness", "count", function, bytes, why, why_bytes);
	return known[which];
}

static void
count_row(struct bench_rows *rows, const char *name, const char *peer,
    double instructions)
{
	struct bench_row *row =
	    bench_rows_add(rows, "instructions", name, peer, "instructions");

	if (row == NULL)
		return;
	snprintf(row->unit, sizeof(row->unit), "instructions");
	row->value = instructions;
	row->rounds = 1;
}

static void
count_case(const struct bench_settings *set, const char *peer,
    const char *bytes, struct bench_rows *rows)
{
	static const char *const functions[] = {
	    "weir_bench_count_alloc", "weir_bench_count_free"};
	static const char *const parts[] = {"alloc", "free"};
	char why[64];
	double sum = 0;

	for (int i = 0; i < 2; i++) {
		double loop =
		    count_loop(set, functions[i], bytes, i, why, sizeof(why));
		double all = count_run(
		    set, peer, "count", functions[i], bytes, why, sizeof(why));
		double each = (all - loop) / COUNT_LOOP;
		char name[BENCH_NAME_BYTES];

		if (!isfinite(each)) {
			bench_rows_note(
			    rows, "instructions", peer, "skipped", why);
			return;
		}
		snprintf(name, sizeof(name), "%s/%s", bytes, parts[i]);
		count_row(rows, name, peer, each);
		sum += each;
	}
	count_row(rows, bytes, peer, sum);
}

static const char *const count_region_cases[] = {"request", "request-reset",
    "small", "small-reset", "tiny", "tiny-reset", "fastpath"};

#define COUNT_REGION_CASES \
	(sizeof(count_region_cases) / sizeof(count_region_cases[0]))

/* The loop of a case without any region, counted once. */
static double
count_region_loop(const struct bench_settings *set, size_t which)
{
	static double known[COUNT_REGION_CASES];
	char why[64];

	if (known[which] == 0)
		known[which] = count_run(set, "harness", "count-region",
		    "weir_bench_count_region_loop", count_region_cases[which],
		    why, sizeof(why));
	return known[which];
}

/* A region from its creation or reset to its end, all 64 plans; of fastpath one
 * of its objects. */
static void
count_regions(
    const struct bench_settings *set, const char *peer, struct bench_rows *rows)
{
	char why[64];

	for (size_t i = 0; i < COUNT_REGION_CASES; i++) {
		const char *only = count_region_cases[i];
		double turns = COUNT_REGIONS;
		double all = count_run(set, peer, "count-region",
		    "weir_bench_count_region", only, why, sizeof(why));
		double loop = count_region_loop(set, i);
		char name[BENCH_NAME_BYTES];

		if (!isfinite(all)) {
			bench_rows_note(
			    rows, "instructions", peer, "skipped", why);
			return;
		}
		if (strcmp(only, "fastpath") == 0)
			turns *= COUNT_OBJECTS_FAST;
		snprintf(name, sizeof(name), "region/%s", only);
		count_row(rows, name, peer, all / turns);
		if (!isfinite(loop))
			continue;
		snprintf(name, sizeof(name), "region/%s/net", only);
		count_row(rows, name, peer, (all - loop) / turns);
	}
}

static void
count_objects(
    const struct bench_settings *set, unsigned peer, struct bench_rows *rows)
{
	if (bench_peers[peer].kind == BENCH_FLOOR)
		return;
	if (strcmp(bench_peers[peer].name, "apr") == 0) {
		bench_rows_note(rows, "instructions", "apr", "skipped",
		    "frees only all objects of a pool at once");
		return;
	}
	count_case(set, bench_peers[peer].name, "64", rows);
}

void
bench_count_play(
    const struct bench_settings *set, unsigned peer, struct bench_rows *rows)
{
	unsigned plays = 0;

	for (unsigned i = 0; i < bench_suite_count; i++)
		if ((set->suites >> i & 1) != 0)
			plays |=
			    bench_suites[i].plays & bench_peers[peer].plays;
	if ((plays & BENCH_OBJECTS) != 0)
		count_objects(set, peer, rows);
	if ((plays & BENCH_REGIONS) != 0)
		count_regions(set, bench_peers[peer].name, rows);
}
