/* SPDX-License-Identifier: MIT */
/*
 * main.c - runs the set of one-bug programs and judges what is said of them.
 *
 *     fault_set --list
 *     fault_set --mode A|S|D [NAME...]   exit status 77: the library has no such
 *                                        mode
 *     fault_set --knows A|S|D            is there such a mode? 0 or 77
 *     fault_set --table                  rows of docs/SECURITY-MODEL.md
 *     fault_set --tool asan|valgrind [--sample N | --some] [NAME...]
 *                                        in mode `tool` (tool.c)
 *     fault_set --rows                   bugs in each row, and programs in all
 *     fault_set --cost                   what mode full costs (cost.c)
 *     fault_set --run NAME bug|twin      one program, in this process
 *
 * A program runs in a process of its own, started anew so that it reads its own
 * environment.  Its standard error is all that is looked at, besides how it
 * ended: the first report, and between which marks it came.  What is expected
 * is exact: a bug that is found earlier, later, by another class or without the
 * name of its pool fails as one that is not found.
 */
#include "run.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct mode {
	const char *name;
	struct run_how how;
} modes[BUG_MODE_COUNT] = {
    {"A", {.environment = NULL}},
    {"S", {.environment = "WEIR_GUARD=sample:1"}},
    {"D", {.environment = "WEIR_GUARD=full"}},
};

static const char *const when_text[] = {"never", "in the call", "later",
    "at exit", "refused", "as a pattern", "killed without a report"};

/* In the table. */
static const char *const when_sign[] = {"–", "I", "L", "X", "R", "P", "†"};

struct bug_program *programs;

void
bug_register(struct bug_program *program)
{
	struct bug_program **at = &programs;

	while (*at != NULL && strcmp((*at)->name, program->name) < 0)
		at = &(*at)->next;
	program->next = *at;
	*at = program;
}

/* ---- one run --------------------------------------------------------------- */

struct outcome outcome;

#define RUN_ARGUMENTS 5

static void
run_child(const struct bug_program *program, const struct run_how *how,
    bool bug, const char *self, int output)
{
	char *const own[RUN_ARGUMENTS] = {(char *)(uintptr_t)self,
	    (char[]){"--run"}, (char *)(uintptr_t)program->name,
	    bug ? (char[]){"bug"} : (char[]){"twin"}, NULL};
	char *arguments[RUN_LAUNCHER_MAX + RUN_ARGUMENTS];
	size_t used = 0;

	for (; how->launcher != NULL && how->launcher[used] != NULL; used++)
		arguments[used] = (char *)(uintptr_t)how->launcher[used];
	memcpy(arguments + used, own, sizeof(own));

	if (SANITIZED)
		(void)setenv("ASAN_OPTIONS",
		    how->sanitizer != NULL ? how->sanitizer : "detect_leaks=0",
		    1);
	(void)unsetenv("WEIR_GUARD");
	(void)unsetenv("WEIR_LEAKS");
	if (how->environment != NULL)
		(void)putenv((char *)(uintptr_t)how->environment);
	if (program->environment != NULL)
		(void)putenv((char *)(uintptr_t)program->environment);
	(void)dup2(output, STDERR_FILENO);
	(void)setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
	(void)alarm(RUN_LIMIT_S);
	(void)execvp(arguments[0], arguments);
	_exit(127);
}

const char *
find_mark(const char *mark)
{
	char line[32];

	(void)snprintf(line, sizeof(line), "@%s\n", mark);
	return strstr(outcome.output, line);
}

static void
judge(void)
{
	const char *fault = strstr(outcome.output, "weir: FAULT ");
	const char *report =
	    fault != NULL ? fault : strstr(outcome.output, "weir: ");
	const char *past = find_mark("past"), *end = find_mark("end");

	outcome.reported = report != NULL;
	outcome.class_text[0] = '\0';
	if (fault != NULL)
		(void)sscanf(fault, "weir: FAULT %63[^:]", outcome.class_text);
	if (report == NULL)
		outcome.when = find_mark("refused") != NULL   ? BUG_REFUSED
			       : find_mark("pattern") != NULL ? BUG_PATTERN
			       : WIFSIGNALED(outcome.status)  ? BUG_DIES
							      : BUG_NEVER;
	else if (end != NULL && report > end)
		outcome.when = BUG_EXIT;
	else if (past != NULL && report > past)
		outcome.when = BUG_LATER;
	else
		outcome.when = BUG_NOW;
}

struct child
run_start(const struct bug_program *program, const struct run_how *how,
    bool bug, const char *self)
{
	struct child child;
	int ends[2];

	/* Else the next child would hold this one's end, too. */
	NEED(pipe(ends) == 0 && fcntl(ends[0], F_SETFD, FD_CLOEXEC) == 0 &&
	     fcntl(ends[1], F_SETFD, FD_CLOEXEC) == 0);
	(void)fflush(stdout);
	child.output = ends[0];
	child.pid = fork();
	NEED(child.pid >= 0);
	if (child.pid == 0)
		run_child(program, how, bug, self, ends[1]);
	(void)close(ends[1]);
	return child;
}

void
run_finish(struct child child)
{
	ssize_t got;

	outcome.bytes = 0;
	while (outcome.bytes < OUTPUT_BYTES &&
	       ((got = read(child.output, outcome.output + outcome.bytes,
		     OUTPUT_BYTES - outcome.bytes)) > 0 ||
		   (got < 0 && errno == EINTR)))
		if (got > 0)
			outcome.bytes += (size_t)got;
	outcome.output[outcome.bytes] = '\0';
	(void)close(child.output);
	while (waitpid(child.pid, &outcome.status, 0) < 0)
		NEED(errno == EINTR);
	judge();
}

/* ---- what is wrong with it ----------------------------------------------------- */

static char complaint[512];

static bool complain(const char *format, ...)
    __attribute__((format(printf, 1, 2)));

static bool
complain(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	(void)vsnprintf(complaint, sizeof(complaint), format, arguments);
	va_end(arguments);
	return false;
}

static bool
ended_well(void)
{
	if (WIFSIGNALED(outcome.status))
		return complain("signal %d", WTERMSIG(outcome.status));
	if (WEXITSTATUS(outcome.status) != 0)
		return complain("exit status %d", WEXITSTATUS(outcome.status));
	return true;
}

/* A program without a bug: not a word, and its normal end. */
static bool
check_silent(void)
{
	if (outcome.reported)
		return complain("a report of what is no bug");
	if (!ended_well())
		return false;
	if (find_mark("end") == NULL)
		return complain("it did not come to its end");
	return true;
}

/* Of a fault of an object under guard: where it lies, and the address seen from
 * there.  Of numbers, which lie nowhere, from which to which they are. */
static bool
check_place(void)
{
	const char *place = strstr(outcome.output, "\nweir:   object [");
	const char *json = strstr(outcome.output, "\"address\":\"0x");
	unsigned long start, end, bytes, address;
	const char *seen;
	char where[8];
	long distance;

	if (strstr(outcome.output, "\nweir:   units ") != NULL)
		return true;
	if (place == NULL || json == NULL ||
	    sscanf(place, "\nweir:   object [%lx, %lx), %lu bytes, of ", &start,
		&end, &bytes) != 3 ||
	    sscanf(json, "\"address\":\"%lx\"", &address) != 1)
		return complain("not said where the object is");
	seen = strstr(json, "\"where\":\"");
	if (seen == NULL ||
	    sscanf(seen, "\"where\":\"%7[a-z]\",\"distance\":%ld", where,
		&distance) != 2)
		return complain("no distance from the object");
	if (end - start != bytes)
		return complain("an object of other bytes than its size");
	if (strcmp(where, "behind") == 0
		? address < end || (unsigned long)distance != address - end
		: (long)(address - start) != distance ||
		      (distance < 0) != (strcmp(where, "before") == 0) ||
		      address >= end)
		return complain("0x%lx is not %ld bytes %s [0x%lx, 0x%lx)",
		    address, distance, where, start, end);
	if ((strcmp(outcome.class_text, "overflow") == 0 &&
		strcmp(where, "behind") != 0) ||
	    (strcmp(outcome.class_text, "underflow") == 0 &&
		strcmp(where, "before") != 0))
		return complain("%s, but it is %s", outcome.class_text, where);
	return true;
}

/* Of a fault: the same in JSON, and the stacks, each with a frame at least. */
static bool
check_stacks(const struct bug_program *program, enum bug_mode mode)
{
	const char *const wanted[] = {
	    "\nweir:   the call, thread ",
	    program->stacks & BUG_STACK_ALLOC ? "\nweir:   taken by thread "
					      : NULL,
	    program->stacks & BUG_STACK_FREE ? "\nweir:   ended by " : NULL,
	};
	size_t count = mode == BUG_MODE_A ? 1 : 3;
	char json[96];

	(void)snprintf(json, sizeof(json),
	    "\n{\"weir\":\"fault\",\"class\":\"%s\"", outcome.class_text);
	if (strstr(outcome.output, json) == NULL)
		return complain("no line of JSON of that class");
	for (size_t i = 0; i < count; i++) {
		const char *at =
		    wanted[i] != NULL ? strstr(outcome.output, wanted[i]) : "";

		if (at == NULL)
			return complain("no stack:%s", wanted[i]);
		at = *at != '\0' ? strchr(at + 1, '\n') : NULL;
		if (at != NULL && strncmp(at, "\nweir:     #0 0x", 16) != 0)
			return complain("no frame behind:%s", wanted[i]);
	}
	return true;
}

static bool
check_report(const struct bug_program *program, const struct bug_goal *goal)
{
	char quoted[64];

	if (goal->class_text != NULL &&
	    strcmp(goal->class_text, outcome.class_text) != 0)
		return complain("reported as '%s', not '%s'",
		    outcome.class_text, goal->class_text);
	for (size_t i = 0; i < 3 && program->names[i] != NULL; i++) {
		(void)snprintf(
		    quoted, sizeof(quoted), "\"%s\"", program->names[i]);
		if (strstr(outcome.output, quoted) == NULL)
			return complain("%s is not named", quoted);
	}
	if (program->text != NULL &&
	    strstr(outcome.output, program->text) == NULL)
		return complain("nothing of '%s'", program->text);
	return true;
}

static bool
check_bug(const struct bug_program *program, enum bug_mode mode)
{
	const struct bug_goal *goal = &program->goal[mode];

	if (outcome.when != goal->when)
		return complain("found %s, not %s", when_text[outcome.when],
		    when_text[goal->when]);
	if (!outcome.reported)
		return goal->when == BUG_DIES || ended_well();
	if (!check_report(program, goal))
		return false;
	if (goal->class_text == NULL)
		return ended_well();
	if (!check_stacks(program, mode))
		return false;
	if (mode != BUG_MODE_A && (program->stacks & BUG_STACK_ALLOC) != 0 &&
	    !check_place())
		return false;
	/* What is sampled is reported, and the program goes on. */
	if (mode != BUG_MODE_S && (!WIFSIGNALED(outcome.status) ||
				      WTERMSIG(outcome.status) != SIGABRT))
		return complain("reported, but it did not abort");
	return true;
}

/* ---- all of them ------------------------------------------------------------------ */

/* Does the library know the mode's environment? */
static bool
mode_is_known(enum bug_mode mode)
{
	char text[4096];

	if (modes[mode].how.environment == NULL)
		return true;
	(void)weir_options_text(text, sizeof(text));
	return strstr(text, "guard") != NULL;
}

static bool
is_left_out(const struct bug_program *program)
{
	return SANITIZED && program->no_sanitizer;
}

static void
tell_failure(const struct bug_program *program, const char *part)
{
	(void)printf("FAIL %s, %s: %s\n", program->name, part, complaint);
	(void)printf("     its standard error:\n%s\n", outcome.output);
}

bool
is_wanted(const struct bug_program *program, char **names)
{
	if (*names == NULL)
		return true;
	for (; *names != NULL; names++)
		if (strcmp(*names, program->name) == 0)
			return true;
	return false;
}

static int
run_mode(enum bug_mode mode, const char *self, char **names)
{
	size_t bugs = 0, silent = 0, failed = 0, left_out = 0;

	if (!mode_is_known(mode)) {
		(void)printf(
		    "skipped: mode %s: this library does not know %s\n",
		    modes[mode].name, modes[mode].how.environment);
		return 77;
	}
	for (const struct bug_program *p = programs; p != NULL; p = p->next) {
		if (!is_wanted(p, names))
			continue;
		if (is_left_out(p)) {
			left_out++;
			continue;
		}
		/* Both at once: what either writes fits into its pipe. */
		struct child faulty = {0, -1};
		const struct run_how *how = &modes[mode].how;
		struct child twin = run_start(p, how, false, self);

		if (!p->good)
			faulty = run_start(p, how, true, self);
		run_finish(twin);
		silent++;
		if (!check_silent()) {
			tell_failure(p, p->good ? "correct" : "mended twin");
			failed++;
		}
		if (p->good)
			continue;
		run_finish(faulty);
		bugs++;
		if (!check_bug(p, mode)) {
			tell_failure(p, "bug");
			failed++;
		}
	}
	(void)printf("mode %s: %zu bugs, %zu without one, %zu left out, "
		     "%zu FAILED\n",
	    modes[mode].name, bugs, silent, left_out, failed);
	return failed > 0 || bugs + silent == 0;
}

/* ---- the table -------------------------------------------------------------------- */

/* Bit w: some program of the cell was found at that time. */
static unsigned found[BUG_ROW_COUNT][BUG_POOL_COUNT][BUG_MODE_COUNT];

static void
print_cell(enum bug_row row, enum bug_pool pool, const bool *known)
{
	bool any = false;

	for (unsigned mode = 0; mode < BUG_MODE_COUNT; mode++)
		any |= found[row][pool][mode] != 0;
	(void)printf(any ? " " : " |");
	for (unsigned mode = 0; any && mode < BUG_MODE_COUNT; mode++) {
		const char *between = "";

		if (mode > 0)
			(void)printf("·");
		if (!known[mode])
			(void)printf("?");
		for (unsigned when = 0; when < 7; when++) {
			if ((found[row][pool][mode] >> when & 1) == 0)
				continue;
			(void)printf("%s%s", between, when_sign[when]);
			between = "/";
		}
	}
	if (any)
		(void)printf(" |");
}

static const char *const rows[] = {
#define X(symbol, text) text,
    BUG_ROWS(X)
#undef X
};

static int
print_rows(void)
{
	size_t bugs[BUG_ROW_COUNT] = {0}, all = 0, programs_all = 0;

	for (const struct bug_program *p = programs; p != NULL; p = p->next) {
		programs_all++;
		all += !p->good;
		bugs[p->row] += !p->good;
	}
	for (unsigned row = 0; row < BUG_ROW_COUNT; row++)
		if (bugs[row] > 0)
			(void)printf("%s|%zu\n", rows[row], bugs[row]);
	(void)printf("**all**|%zu\nprograms|%zu\n", all, programs_all);
	return 0;
}

static int
print_table(const char *self)
{
	static const char *const pools[] = {
#define X(symbol, text) text,
	    BUG_POOLS(X)
#undef X
	};
	bool known[BUG_MODE_COUNT];

	for (unsigned mode = 0; mode < BUG_MODE_COUNT; mode++) {
		known[mode] = mode_is_known((enum bug_mode)mode);
		for (const struct bug_program *p = programs;
		     known[mode] && p != NULL; p = p->next) {
			if (p->good)
				continue;
			run_finish(run_start(p, &modes[mode].how, true, self));
			found[p->row][p->pool][mode] |= 1u << outcome.when;
		}
	}
	(void)printf("| bug |");
	for (unsigned pool = 0; pool < BUG_POOL_COUNT; pool++)
		(void)printf(" %s |", pools[pool]);
	(void)printf("\n| --- |");
	for (unsigned pool = 0; pool < BUG_POOL_COUNT; pool++)
		(void)printf(" --- |");
	for (unsigned row = 0; row < BUG_ROW_COUNT; row++) {
		(void)printf("\n| %s |", rows[row]);
		for (unsigned pool = 0; pool < BUG_POOL_COUNT; pool++)
			print_cell(
			    (enum bug_row)row, (enum bug_pool)pool, known);
	}
	(void)printf("\n");
	return 0;
}

/* ---- the command line ---------------------------------------------------------------- */

static int
run_here(char **arguments)
{
	if (arguments[0] == NULL || arguments[1] == NULL)
		return 2;
	for (const struct bug_program *p = programs; p != NULL; p = p->next)
		if (strcmp(p->name, arguments[0]) == 0) {
			p->run(strcmp(arguments[1], "bug") == 0);
			bug_mark("end");
			return 0;
		}
	return 2;
}

static int
list(void)
{
	size_t bugs = 0, good = 0;

	for (const struct bug_program *p = programs; p != NULL; p = p->next) {
		(void)printf("%s%s\n", p->name, p->good ? " (correct)" : "");
		if (p->good)
			good++;
		else
			bugs++;
	}
	(void)printf("%zu bugs with their mended twins, %zu correct programs\n",
	    bugs, good);
	return 0;
}

int
main(int argc, char **argv)
{
	static char self[4096];
	ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (length < 0)
		(void)snprintf(self, sizeof(self), "%s", argv[0]);
	if (argc >= 2 && strcmp(argv[1], "--run") == 0)
		return run_here(argv + 2);
	if (argc == 2 && strcmp(argv[1], "--list") == 0)
		return list();
	if (argc == 2 && strcmp(argv[1], "--table") == 0)
		return print_table(self);
	if (argc == 2 && strcmp(argv[1], "--rows") == 0)
		return print_rows();
	if (argc == 2 && strcmp(argv[1], "--cost") == 0)
		return run_cost();
	if (argc >= 3 && strcmp(argv[1], "--tool") == 0)
		return run_tool(self, argv + 2);
	for (unsigned i = 0; argc >= 3 && i < BUG_MODE_COUNT; i++) {
		enum bug_mode mode = (enum bug_mode)i;

		if (strcmp(argv[2], modes[mode].name) != 0)
			continue;
		if (strcmp(argv[1], "--mode") == 0)
			return run_mode(mode, self, argv + 3);
		if (strcmp(argv[1], "--knows") == 0)
			return mode_is_known(mode) ? 0 : 77;
	}
	(void)fprintf(stderr,
	    "usage: fault_set --list | --table | --rows | --mode A|S|D "
	    "[NAME...] | --knows A|S|D | --tool asan|valgrind | "
	    "--cost | --run NAME bug|twin\n");
	return 2;
}
