/* SPDX-License-Identifier: MIT */
/*
 * main.c - explores scenarios, and proves by mutants that a schedule gone wrong
 * is found.
 *
 *     explore                       all schedules of all scenarios
 *     explore SCENARIO...           of these
 *     explore --mutants             each weakened order is found, or listed
 *     explore --mutant NAME [SCENARIO...]
 *     explore --compare             what is left out is the same as the rest
 *     explore --replay LIST SCENARIO  one schedule, step by step; with
 *                                   --mutant as it was found
 *     explore --bound 3,1           preemptions and older values
 *     explore --full                nothing is left out
 *     explore --sites               orders that scenarios come by
 *     explore --orders              all orders there are
 *     explore --list
 *
 * --long (or WEIR_TEST_LONG=1) has larger scenarios and bounds, and tries those
 * mutants that are said to be found by none.  Each scenario runs in a process of
 * its own.
 */
#define _GNU_SOURCE
#include "shim.h"

#include "engine.h"

#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAIN_NAMES 512
#define MAIN_SCENARIOS 128

struct main_options {
	bool is_long, mutants, sites, full, compare;
	const struct explore_bound *bound; /* of all scenarios; or NULL */
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
	const struct explore_scenario *const list[] = {explore_litmus_scenarios,
	    explore_depot_scenarios, explore_wait_scenarios,
	    explore_buffer_scenarios, explore_account_scenarios,
	    explore_bounded_scenarios};

	for (size_t i = 0; i < sizeof(list) / sizeof(list[0]); i++)
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
main_name(const struct explore_site *site)
{
	char name[sizeof(report->name[0])];

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

/* Orders in the library, of what others than one thread have to do with. */
static bool
main_is_explored(const struct explore_site *site)
{
	return strstr(site->file, "src/slab/") != NULL ||
	       strstr(site->file, "src/pools/") != NULL;
}

static void
main_see_site(const struct explore_site *site, void *context)
{
	(void)context;
	if (main_is_explored(site))
		main_name(site);
}

/* Only what a run came by. */
static void
main_see_reached(const struct explore_site *site, void *context)
{
	(void)context;
	if (main_is_explored(site) && site->decided != 0)
		main_name(site);
}

/* ---- one scenario --------------------------------------------------------------- */

static void
main_explore(const struct explore_scenario *scenario, const char *mutant)
{
	/* What finds a mutant finds it soon. */
	const struct explore_bound *bound = options.is_long && mutant == NULL
						? &scenario->bound_long
						: &scenario->bound;

	if (options.bound != NULL)
		bound = options.bound;

	pid_t pid;
	int status;

	report->ended = false;
	memset(&report->result, 0, sizeof(report->result));
	(void)fflush(stdout);
	pid = fork();
	if (pid == 0) {
		(void)alarm(options.is_long ? 3000 : 500);
		engine.full = options.full;
		explore_run(
		    scenario, bound, mutant, options.schedule, &report->result);
		if (mutant == NULL)
			explore_sites(main_see_reached, NULL);
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
	printf("%-24s %s %7lu ends of %7lu schedules, %7lu cut, %7lu states, "
	       "%3u points, %5.2f s\n",
	    scenario->name, result->failed ? "FAILED" : "ok    ",
	    (unsigned long)result->ends, (unsigned long)result->runs,
	    (unsigned long)result->cut, (unsigned long)result->states,
	    result->points, main_now() - begin);
	if (result->failed)
		main_tell_failure(scenario, options.mutant);
	return !result->failed;
}

/* All rules of engine.c leave out nothing: with and without them a walk ends in
 * the same states. */
static bool
main_same_ends(const struct explore_scenario *scenario)
{
	static const struct explore_bound bounds[] = {{1, 1}, {2, 1}};
	const struct explore_bound *bound = options.bound;
	struct explore_result reduced;
	const struct explore_result *full = &report->result;
	bool same;

	if (bound == NULL && scenario->outcomes == NULL)
		options.bound = &bounds[options.is_long];
	main_explore(scenario, options.mutant);
	reduced = report->result;
	options.full = true;
	main_explore(scenario, options.mutant);
	options.full = false;
	options.bound = bound;
	same = reduced.failed == full->failed &&
	       (full->failed || (reduced.ends == full->ends &&
				    reduced.ends_sum == full->ends_sum &&
				    reduced.outcomes == full->outcomes));
	printf("%-24s %s %7lu ends of %7lu schedules, and %7lu of %8lu\n",
	    scenario->name, same ? "same  " : "DIFFER",
	    (unsigned long)reduced.ends, (unsigned long)reduced.runs,
	    (unsigned long)full->ends, (unsigned long)full->runs);
	return same;
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
		if (scenario->is_long || scenario->outcomes != NULL)
			continue;
		main_explore(scenario, mutant->name);
		if (report->result.failed) {
			printf("  is found by %s, though\n", scenario->name);
			return false;
		}
	}
	return true;
}

/* All that nobody finds at once: none is the other's reason. */
static bool
main_survive_together(void)
{
	static char names[32768];
	const struct explore_scenario *scenario;
	size_t at = 0;

	for (size_t i = 0; i < explore_mutant_count; i++)
		if (explore_mutants[i].scenario == NULL &&
		    at + 256 < sizeof(names))
			at += (size_t)snprintf(names + at, sizeof(names) - at,
			    "%s%s", at > 0 ? "," : "", explore_mutants[i].name);
	for (size_t i = 0; (scenario = main_scenario_at(i)) != NULL; i++) {
		if (scenario->is_long || scenario->outcomes != NULL)
			continue;
		main_explore(scenario, names);
		if (report->result.failed) {
			printf(
			    "together they are found by %s:\n", scenario->name);
			main_tell_failure(scenario, names);
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

static bool
main_is_a_site(const char *name)
{
	for (unsigned i = 0; i < report->name_count; i++)
		if (strcmp(report->name[i], name) == 0)
			return true;
	return false;
}

/* Weakened orders that nobody thought of: of a new place, or in a changed one;
 * and those that there are no more. */
static bool
main_all_listed(void)
{
	bool sound = true;

	report->name_count = 0;
	explore_sites(main_see_site, NULL);
	for (unsigned i = 0; i < report->name_count; i++) {
		if (main_is_listed(report->name[i]))
			continue;
		printf("%-72s is in no list of mutants.c\n", report->name[i]);
		sound = false;
	}
	for (size_t i = 0; i < explore_mutant_count; i++) {
		if (main_is_a_site(explore_mutants[i].name))
			continue;
		printf("%-72s is no order of the sources\n",
		    explore_mutants[i].name);
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
	sound &= !options.is_long || main_survive_together();
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

/* All weaker ones. */
static void
main_orders(void)
{
	explore_sites(main_see_site, NULL);
	for (unsigned i = 0; i < report->name_count; i++)
		printf("%s\n", report->name[i]);
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

/* "3,1": preemptions and older values. */
static const struct explore_bound *
main_bound(const char *text)
{
	static struct explore_bound bound;
	char *end;

	bound.preemptions = (unsigned)strtoul(text, &end, 10);
	if (*end != ',') {
		fprintf(stderr, "explore: no bound: %s\n", text);
		exit(2);
	}
	bound.stale = (unsigned)strtoul(end + 1, NULL, 10);
	return &bound;
}

int
main(int argc, char **argv)
{
	const struct explore_scenario *chosen[MAIN_SCENARIOS];
	size_t count = 0;
	bool sound = true;

	report = mmap(NULL, sizeof(*report), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (report == MAP_FAILED) {
		perror("explore");
		return 1;
	}
	options.is_long = getenv("WEIR_TEST_LONG") != NULL;
	for (int i = 1; i < argc && count + 1 < MAIN_SCENARIOS; i++) {
		if (strcmp(argv[i], "--list") == 0)
			main_list();
		else if (strcmp(argv[i], "--long") == 0)
			options.is_long = true;
		else if (strcmp(argv[i], "--mutants") == 0)
			options.mutants = true;
		else if (strcmp(argv[i], "--sites") == 0)
			options.sites = true;
		else if (strcmp(argv[i], "--full") == 0)
			options.full = true;
		else if (strcmp(argv[i], "--orders") == 0)
			main_orders();
		else if (strcmp(argv[i], "--compare") == 0)
			options.compare = true;
		else if (strcmp(argv[i], "--bound") == 0)
			options.bound = main_bound(main_value(argv, &i));
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

	for (size_t i = 0; all && (chosen[count] = main_scenario_at(i)) != NULL;
	     i++)
		count += (options.is_long && !options.compare) ||
			 !chosen[count]->is_long;
	for (size_t i = 0; i < count; i++)
		sound &= options.compare ? main_same_ends(chosen[i])
					 : main_scenario(chosen[i]);
	for (unsigned i = 0; options.sites && i < report->name_count; i++)
		printf("%s\n", report->name[i]);
	return sound ? 0 : 1;
}
