/* SPDX-License-Identifier: MIT */
/*
 * main.c - explores scenarios, and proves by mutants that a schedule gone wrong
 * is found.
 *
 *     explore                       all schedules of all scenarios
 *     explore SCENARIO...           of these
 *     explore --mutants             each weakened order is found, or listed
 *     explore --mutant NAME [SCENARIO...]
 *     explore --replay LIST SCENARIO  one schedule, step by step; with
 *                                   --mutant as it was found
 *     explore --sites               orders that scenarios come by
 *     explore --list
 *
 * --long (or WEIR_TEST_LONG=1) allows more preemptions, and tries those mutants
 * that are said to be found by none.  Each scenario runs in a process of its own.
 */
#define _GNU_SOURCE
#include "shim.h"

#include "engine.h"

#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAIN_NAMES 512

struct main_options {
	bool is_long, mutants, sites;
	const char *mutant, *schedule;
};

/* What a scenario's process tells: all weakened orders of what it came by. */
struct main_report {
	struct explore_result result;
	bool ended;
	unsigned name_count;
	char name[MAIN_NAMES][160];
};

static struct main_options options;
static struct main_report *report; /* shared with the process */

static double
main_now(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* ---- scenarios -------------------------------------------------------------- */

static const struct explore_scenario *
main_scenario_at(size_t index)
{
	const struct explore_scenario *const list[] = {
	    explore_depot_scenarios, explore_pool_scenarios};

	for (size_t i = 0; i < 2; i++)
		for (const struct explore_scenario *scenario = list[i];
		     scenario->name != NULL; scenario++)
			if (index-- == 0)
				return scenario;
	return NULL;
}

/* ---- weakened orders ---------------------------------------------------------- */

static bool
main_is_weaker(enum explore_op op, int from, int to)
{
	bool load = op == EXPLORE_LOAD, store = op == EXPLORE_STORE;

	if (op == EXPLORE_FENCE)
		return from != __ATOMIC_RELAXED && to == __ATOMIC_RELAXED;
	switch (to) {
	case __ATOMIC_RELAXED:
		return from != __ATOMIC_RELAXED;
	case __ATOMIC_ACQUIRE:
		return !store &&
		       (from == __ATOMIC_SEQ_CST ? load
						 : from == __ATOMIC_ACQ_REL);
	case __ATOMIC_RELEASE:
		return !load &&
		       (from == __ATOMIC_SEQ_CST ? store
						 : from == __ATOMIC_ACQ_REL);
	case __ATOMIC_ACQ_REL:
		return !load && !store && from == __ATOMIC_SEQ_CST;
	default:
		return false;
	}
}

static void
main_see_site(const struct explore_site *site, void *context)
{
	char name[sizeof(report->name[0])];

	(void)context;
	/* The others have their turn before the threads begin. */
	if (strstr(site->file, "/slab/") == NULL &&
	    strstr(site->file, "/pools/") == NULL)
		return;
	for (int to = __ATOMIC_RELAXED; to < __ATOMIC_SEQ_CST; to++) {
		unsigned i = 0;

		if (to == __ATOMIC_CONSUME ||
		    !main_is_weaker(site->op, site->order, to))
			continue;
		explore_site_name(site, to, name, sizeof(name));
		while (i < report->name_count &&
		       strcmp(report->name[i], name) != 0)
			i++;
		if (i < report->name_count || i == MAIN_NAMES)
			continue;
		(void)snprintf(report->name[i], sizeof(name), "%s", name);
		report->name_count++;
	}
}

/* ---- one scenario --------------------------------------------------------------- */

static void
main_explore(const struct explore_scenario *scenario, const char *mutant)
{
	/* What finds a mutant finds it soon. */
	const struct explore_bound *bound = options.is_long && mutant == NULL
						? &scenario->bound_long
						: &scenario->bound;
	pid_t pid;
	int status;

	report->ended = false;
	memset(&report->result, 0, sizeof(report->result));
	(void)fflush(stdout);
	pid = fork();
	if (pid == 0) {
		(void)alarm(options.is_long ? 3000 : 500);
		explore_run(
		    scenario, bound, mutant, options.schedule, &report->result);
		if (mutant == NULL)
			explore_sites(main_see_site, NULL);
		report->ended = true;
		(void)fflush(stdout);
		_exit(0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid) {
		perror("explore");
		exit(1);
	}
	if (!report->ended) {
		report->result.failed = true;
		(void)snprintf(report->result.why, sizeof(report->result.why),
		    "the process of the scenario ended with status %#x",
		    (unsigned)status);
	}
}

static void
main_tell_failure(const struct explore_scenario *scenario, const char *mutant)
{
	printf("  %s\n  to see it: explore%s%s %s --replay %s\n",
	    report->result.why, mutant != NULL ? " --mutant " : "",
	    mutant != NULL ? mutant : "", scenario->name,
	    report->result.schedule);
}

/* All schedules are sound. */
static bool
main_scenario(const struct explore_scenario *scenario)
{
	double begin = main_now();
	const struct explore_result *result = &report->result;

	main_explore(scenario, options.mutant);
	printf("%-28s %s  %7lu schedules, %7lu cut, %6lu stale, %3u points, "
	       "%5.2f s\n",
	    scenario->name, result->failed ? "FAILED" : "ok    ",
	    (unsigned long)result->runs, (unsigned long)result->cut,
	    (unsigned long)result->stale, result->points, main_now() - begin);
	if (result->failed)
		main_tell_failure(scenario, options.mutant);
	return !result->failed;
}

static const struct explore_scenario *
main_find(const char *name)
{
	const struct explore_scenario *scenario;

	for (size_t i = 0; (scenario = main_scenario_at(i)) != NULL; i++)
		if (strcmp(scenario->name, name) == 0)
			return scenario;
	fprintf(stderr, "explore: no scenario %s\n", name);
	exit(2);
}

/* ---- all mutants ----------------------------------------------------------------- */

static bool
main_kill(const struct explore_mutant *mutant)
{
	const struct explore_scenario *scenario = main_find(mutant->scenario);

	main_explore(scenario, mutant->name);
	printf("%-72s %s by %s (%lu)\n", mutant->name,
	    report->result.failed ? "found" : "NOT FOUND", scenario->name,
	    (unsigned long)report->result.runs);
	return report->result.failed;
}

/* One that is said to be found by none; a long run makes sure. */
static bool
main_survives(const struct explore_mutant *mutant)
{
	const struct explore_scenario *scenario;

	printf("%-72s -: %s\n", mutant->name, mutant->why);
	if (!options.is_long)
		return true;
	for (size_t i = 0; (scenario = main_scenario_at(i)) != NULL; i++) {
		main_explore(scenario, mutant->name);
		if (report->result.failed) {
			printf("  is found by %s, though\n", scenario->name);
			return false;
		}
	}
	return true;
}

static bool
main_is_listed(const char *name)
{
	for (size_t i = 0; i < explore_mutant_count; i++)
		if (strcmp(explore_mutants[i].name, name) == 0)
			return true;
	return false;
}

/* Weakened orders that nobody thought of: of a new place, or in a changed one. */
static bool
main_all_listed(void)
{
	static const struct explore_bound least = {1, 0};
	const struct explore_scenario *scenario;
	bool sound = true;

	for (size_t i = 0; (scenario = main_scenario_at(i)) != NULL; i++) {
		struct explore_scenario brief = *scenario;

		brief.bound = brief.bound_long = least;
		main_explore(&brief, NULL);
	}
	for (unsigned i = 0; i < report->name_count; i++) {
		if (main_is_listed(report->name[i]))
			continue;
		printf("%-72s is in no list of mutants.c\n", report->name[i]);
		sound = false;
	}
	return sound;
}

static bool
main_mutants(void)
{
	bool sound = main_all_listed();
	unsigned found = 0;

	for (size_t i = 0; i < explore_mutant_count; i++) {
		const struct explore_mutant *mutant = &explore_mutants[i];

		if (mutant->scenario == NULL) {
			sound &= main_survives(mutant);
		} else if (main_kill(mutant)) {
			found++;
		} else {
			sound = false;
		}
	}
	printf(
	    "%u of %zu weakened orders found\n", found, explore_mutant_count);
	return sound;
}

/* ---- arguments --------------------------------------------------------------------- */

static void
main_list(void)
{
	const struct explore_scenario *scenario;

	for (size_t i = 0; (scenario = main_scenario_at(i)) != NULL; i++)
		printf("%s\n", scenario->name);
	exit(0);
}

static const char *
main_value(char **argv, int *i)
{
	if (argv[*i + 1] == NULL) {
		fprintf(stderr, "explore: %s wants a value\n", argv[*i]);
		exit(2);
	}
	return argv[++*i];
}

int
main(int argc, char **argv)
{
	const struct explore_scenario *chosen[64];
	size_t count = 0;
	bool sound = true;

	report = mmap(NULL, sizeof(*report), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (report == MAP_FAILED) {
		perror("explore");
		return 1;
	}
	options.is_long = getenv("WEIR_TEST_LONG") != NULL;
	for (int i = 1; i < argc && count < 64; i++) {
		if (strcmp(argv[i], "--list") == 0)
			main_list();
		else if (strcmp(argv[i], "--long") == 0)
			options.is_long = true;
		else if (strcmp(argv[i], "--mutants") == 0)
			options.mutants = true;
		else if (strcmp(argv[i], "--sites") == 0)
			options.sites = true;
		else if (strcmp(argv[i], "--mutant") == 0)
			options.mutant = main_value(argv, &i);
		else if (strcmp(argv[i], "--replay") == 0)
			options.schedule = main_value(argv, &i);
		else
			chosen[count++] = main_find(argv[i]);
	}
	if (options.mutants)
		return main_mutants() ? 0 : 1;

	bool all = count == 0;

	while (all && (chosen[count] = main_scenario_at(count)) != NULL)
		count++;
	for (size_t i = 0; i < count; i++)
		sound &= main_scenario(chosen[i]);
	for (unsigned i = 0; options.sites && i < report->name_count; i++)
		printf("%s\n", report->name[i]);
	return sound ? 0 : 1;
}
