/* SPDX-License-Identifier: MIT */
/*
 * tool.c - the set under a tool that watches memory.
 *
 *     fault_set --tool asan|valgrind [--sample N | --some] [NAME...]
 *
 * Each program runs in mode `tool`, where an object is a block of malloc(), under
 * the tool: in a build with AddressSanitizer as it is, in any other one below
 * valgrind.  A bug counts as found if the tool or the library reports it, or the
 * library refuses the call; and as told with its object's stacks if those that
 * the program states (STACKS) are in either report.  Twins and correct programs
 * must stay silent, leaks that the tool looks for included.
 *
 * A long run has all programs, whatever is sampled or named behind --some.
 *
 * What is expected is a share of all bugs, since tools differ by version in what
 * they see: less than the bound fails, with a list of what was missed.
 */
#include "run.h"

#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#define GUARD "WEIR_GUARD=tool"

#define VALGRIND "valgrind", "-q", "--error-exitcode=99", "--leak-check=no"
static const char *const valgrind[] = {VALGRIND, NULL};
/* Where an unset value came to be; all takes twice as long. */
static const char *const valgrind_origins[] = {
    VALGRIND, "--track-origins=yes", NULL};

static const struct tool {
	const char *name;
	struct run_how how, how_unset; /* for reads before a write */
	size_t percent;                /* of all bugs, at least */
	/* Each begins a report; the first three words of lines. */
	const char *report[3];
	const char *alloc[2], *free;
} tools[] = {
    {"asan", {GUARD, NULL, "detect_leaks=1"}, {GUARD, NULL, "detect_leaks=1"},
	80,
	{"ERROR: AddressSanitizer", "ERROR: LeakSanitizer", ": runtime error"},
	{"\npreviously allocated by thread ", "\nallocated by thread "},
	"\nfreed by thread "},
    {"valgrind", {GUARD, valgrind, NULL}, {GUARD, valgrind_origins, NULL}, 85,
	{"\n==", NULL, NULL},
	{"alloc'd", "value was created by a heap allocation"}, " free'd\n"},
};

static const char *const row_text[] = {
#define X(symbol, text) text,
    BUG_ROWS(X)
#undef X
};

struct count {
	size_t bugs, found;
};

static struct {
	struct count row[BUG_ROW_COUNT], all;
	size_t by_tool;              /* of those found, not by the library */
	size_t objects, with_stacks; /* of those found that are of an object */
	size_t silent, false_reports;
} counts;

/* ---- judging --------------------------------------------------------------- */

static bool
says_any(const char *const *texts, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (texts[i] != NULL &&
		    strstr(outcome.output, texts[i]) != NULL)
			return true;
	return false;
}

static bool
tool_reports(const struct tool *tool)
{
	return says_any(tool->report, 3) ||
	       /* The first line has no newline before it. */
	       (tool->how.launcher != NULL &&
		   strncmp(outcome.output, "==", 2) == 0);
}

static bool
has_stacks(const struct bug_program *program, const struct tool *tool)
{
	const char *const alloc[] = {
	    tool->alloc[0], tool->alloc[1], "\nweir:   taken by thread "};
	const char *const freed[] = {tool->free, "\nweir:   ended by "};

	return ((program->stacks & BUG_STACK_ALLOC) == 0 ||
		   says_any(alloc, 3)) &&
	       ((program->stacks & BUG_STACK_FREE) == 0 || says_any(freed, 2));
}

static void
note_bug(const struct bug_program *program, const struct tool *tool)
{
	bool told = tool_reports(tool);
	bool found = told || outcome.reported || outcome.when == BUG_REFUSED;

	counts.row[program->row].bugs++;
	counts.row[program->row].found += found;
	counts.all.bugs++;
	counts.all.found += found;
	if (!found) {
		(void)printf("missed: %s\n", program->name);
		return;
	}
	counts.by_tool += told;
	if (program->stacks == 0)
		return;
	counts.objects++;
	if (has_stacks(program, tool))
		counts.with_stacks++;
	else
		(void)printf("without its stacks: %s\n", program->name);
}

static void
note_silent(const struct bug_program *program, const struct tool *tool)
{
	const char *wrong = NULL;

	if (tool_reports(tool) || outcome.reported)
		wrong = "a report of what is no bug";
	else if (!WIFEXITED(outcome.status) || WEXITSTATUS(outcome.status) != 0)
		wrong = "it failed";
	else if (find_mark("end") == NULL)
		wrong = "it did not come to its end";
	counts.silent++;
	if (wrong == NULL)
		return;
	counts.false_reports++;
	(void)printf("FAIL %s, %s: %s\n     its standard error:\n%s\n",
	    program->name, program->good ? "correct" : "mended twin", wrong,
	    outcome.output);
}

/* ---- all of them ----------------------------------------------------------- */

static void
run_program(const struct bug_program *program, const struct tool *tool,
    const char *self)
{
	struct child faulty = {0, -1};
	const struct run_how *how =
	    program->row == BUG_ROW_UNSET ? &tool->how_unset : &tool->how;
	struct child twin = run_start(program, how, false, self);

	if (!program->good)
		faulty = run_start(program, how, true, self);
	run_finish(twin);
	note_silent(program, tool);
	if (program->good)
		return;
	run_finish(faulty);
	note_bug(program, tool);
}

static bool
is_there(const struct tool *tool)
{
	if (tool->how.launcher == NULL)
		return ADDRESS_SANITIZED;
	/* NOLINTNEXTLINE(cert-env33-c): of a constant */
	return !SANITIZED && system("valgrind --version >/dev/null 2>&1") == 0;
}

static int
tell(const struct tool *tool)
{
	bool enough =
	    counts.all.found * 100 >= counts.all.bugs * tool->percent &&
	    counts.with_stacks * 100 >= counts.objects * tool->percent;

	for (unsigned row = 0; row < BUG_ROW_COUNT; row++)
		if (counts.row[row].bugs > 0)
			(void)printf("| %s | %zu of %zu |\n", row_text[row],
			    counts.row[row].found, counts.row[row].bugs);
	(void)printf(
	    "%s: %zu of %zu bugs found, %zu by the tool itself; %zu of "
	    "%zu with their object's stacks; %zu of %zu without a "
	    "bug reported\n",
	    tool->name, counts.all.found, counts.all.bugs, counts.by_tool,
	    counts.with_stacks, counts.objects, counts.false_reports,
	    counts.silent);
	if (!enough)
		(void)printf(
		    "FAIL %s: less than %zu %%\n", tool->name, tool->percent);
	return !enough || counts.false_reports > 0 || counts.silent == 0;
}

int
run_tool(const char *self, char **arguments)
{
	const struct tool *tool = NULL;
	bool all = getenv("WEIR_TEST_LONG") != NULL;
	unsigned long sample = 1, index = 0;

	for (size_t i = 0; i < sizeof(tools) / sizeof(tools[0]); i++)
		if (strcmp(arguments[0], tools[i].name) == 0)
			tool = &tools[i];
	if (tool == NULL)
		return 2;
	if (!is_there(tool)) {
		(void)printf("skipped: no %s here\n", tool->name);
		return 77;
	}
	arguments++;
	if (arguments[0] != NULL && arguments[1] != NULL &&
	    strcmp(arguments[0], "--sample") == 0) {
		sample = strtoul(arguments[1], NULL, 10);
		arguments += 2;
		if (sample == 0 || all)
			sample = 1;
	} else if (arguments[0] != NULL &&
		   strcmp(arguments[0], "--some") == 0) {
		for (arguments++; all && *arguments != NULL;)
			arguments++;
	}
	for (const struct bug_program *p = programs; p != NULL; p = p->next)
		if (is_wanted(p, arguments) && index++ % sample == 0)
			run_program(p, tool, self);
	return tell(tool);
}
