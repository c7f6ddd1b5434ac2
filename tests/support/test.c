/* SPDX-License-Identifier: MIT */
/*
 * test.c - runs the tests of one program, each in a process of its own.
 *
 *     runner --fork--> test --fork--> child of the test (EXPECT_ABORT, ...)
 *        ^               |               |
 *        +---- report ---+---------------+       one pipe per test
 *
 * A failing check writes one record to the report pipe, which all descendants
 * inherit, and leaves its process at once.  The runner fails a test that sent
 * a record, however the test itself ended, so a check that fails in a thread
 * or a grandchild cannot be lost.  Without a record the exit status decides:
 * 0 passes; anything else, a sanitizer's exit code among them, fails.
 *
 * Records are at most PIPE_BUF bytes, so that the kernel never mixes two.  A
 * test is the leader of a process group; what it leaves running is killed.
 *
 * A test that returns ends by exit(), not _exit(): leak checkers work there.
 */
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
	EXIT_FAILED = 1,
	EXIT_SKIPPED = 77, /* the convention of automake, ctest and meson */
	SURVIVED = 78,     /* EXPECT_ABORT's code ran to its end */
};

/* How a test ended, the first byte of a record. */
enum outcome { PASSED = 'P', FAILED = 'F', SKIPPED = 'S' };

/* How long a descendant may keep the pipe open after the test has ended. */
#define POLL_STEP_MS 20

static struct test_case *test_first;
static struct test_case **test_tail = &test_first;
static int report_fd = -1; /* -1: this process runs without a runner */
static uint64_t run_seed;
static const char *program_path;

void
test_register(struct test_case *test)
{
	*test_tail = test;
	test_tail = &test->next;
}

uint64_t
test_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* ---- from a test to its runner ----------------------------------------- */

_Noreturn static void
report(enum outcome outcome, const char *text)
{
	char record[PIPE_BUF];
	int length =
	    snprintf(record, sizeof(record), "%c%s", (int)outcome, text);
	size_t bytes = (size_t)length < sizeof(record) ? (size_t)length
						       : sizeof(record) - 1;

	if (report_fd == -1) {
		fprintf(stderr, "%s: %s\n", outcome == FAILED ? "FAIL" : "skip",
		    text);
		if (outcome == FAILED)
			abort(); /* a debugger stops here */
		exit(EXIT_SKIPPED);
	}
	while (write(report_fd, record, bytes) == -1 && errno == EINTR)
		;
	_exit(outcome == FAILED ? EXIT_FAILED : EXIT_SKIPPED);
}

_Noreturn void
test_fail(const char *file, int line, const char *format, ...)
{
	char text[PIPE_BUF - 1];
	va_list args;
	int used = snprintf(text, sizeof(text), "%s:%d: ", file, line);

	if (used > 0 && (size_t)used < sizeof(text)) {
		va_start(args, format);
		vsnprintf(
		    text + used, sizeof(text) - (size_t)used, format, args);
		va_end(args);
	}
	report(FAILED, text);
}

_Noreturn void
test_skip(const char *format, ...)
{
	char text[PIPE_BUF - 1];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	report(SKIPPED, text);
}

static void
number_text(char *text, size_t bytes, struct test_number number)
{
	if (number.negative)
		snprintf(text, bytes, "%" PRId64, (int64_t)number.bits);
	else
		snprintf(text, bytes, "%" PRIu64 " (0x%" PRIx64 ")",
		    number.bits, number.bits);
}

_Noreturn void
test_fail_order(const char *file, int line, const char *claim,
    struct test_number a, struct test_number b)
{
	char a_text[64], b_text[64];

	number_text(a_text, sizeof(a_text), a);
	number_text(b_text, sizeof(b_text), b);
	test_fail(file, line, "%s is false: %s and %s", claim, a_text, b_text);
}

void
test_check_pointer(const char *file, int line, const char *claim, const void *a,
    const void *b, bool equal)
{
	if ((a == b) != equal)
		test_fail(file, line, "%s is false: %p and %p", claim, a, b);
}

void
test_check_string(
    const char *file, int line, const char *claim, const char *a, const char *b)
{
	if (a == b || (a != NULL && b != NULL && strcmp(a, b) == 0))
		return;
	test_fail(file, line, "%s is false:\n  \"%s\"\n  \"%s\"", claim,
	    a != NULL ? a : "(null)", b != NULL ? b : "(null)");
}

void
test_check_contains(const char *file, int line, const char *claim,
    const char *text, const char *part)
{
	if (text == NULL || strstr(text, part) == NULL)
		test_fail(file, line, "%s lacks \"%s\":\n  \"%s\"", claim, part,
		    text != NULL ? text : "(null)");
}

void
test_check_memory(const char *file, int line, const char *claim, const void *a,
    const void *b, size_t bytes)
{
	const unsigned char *x = a, *y = b;

	for (size_t i = 0; i < bytes; i++)
		if (x[i] != y[i])
			test_fail(file, line,
			    "%s is false: byte %zu of %zu: 0x%02x and 0x%02x",
			    claim, i, bytes, x[i], y[i]);
}

/* ---- code that must die ------------------------------------------------ */

bool
test_death_begin(struct test_death *death)
{
	int ends[2];

	/* What is buffered now must not be written twice. */
	fflush(stdout);
	fflush(stderr);
	if (pipe(ends) != 0)
		FAIL("pipe: %s", strerror(errno));
	death->pid = fork();
	if (death->pid == -1)
		FAIL("fork: %s", strerror(errno));
	if (death->pid == 0) {
		struct rlimit none = {0, 0};

		setrlimit(RLIMIT_CORE, &none);
		signal(SIGABRT, SIG_DFL);
		dup2(ends[1], STDERR_FILENO);
		close(ends[0]);
		close(ends[1]);
		return true;
	}
	close(ends[1]);
	death->output = ends[0];
	return false;
}

_Noreturn void
test_death_survived(void)
{
	_exit(SURVIVED);
}

/* The first part of what the child said; the rest is read and dropped. */
static void
death_output(int fd, char *text, size_t bytes)
{
	size_t used = 0;
	char rest[512];

	for (;;) {
		bool full = used + 1 >= bytes;
		ssize_t got = full ? read(fd, rest, sizeof(rest))
				   : read(fd, text + used, bytes - 1 - used);

		if (got == -1 && errno == EINTR)
			continue;
		if (got <= 0)
			break;
		if (!full)
			used += (size_t)got;
	}
	text[used] = '\0';
}

void
test_death_end(
    struct test_death *death, const char *file, int line, const char *message)
{
	char text[16384];
	int status;

	death_output(death->output, text, sizeof(text));
	close(death->output);
	while (waitpid(death->pid, &status, 0) == -1)
		if (errno != EINTR)
			FAIL("waitpid: %s", strerror(errno));

	if (WIFEXITED(status) && WEXITSTATUS(status) == SURVIVED)
		test_fail(file, line, "no abort; expected \"%s\"", message);
	if (WIFEXITED(status))
		test_fail(file, line, "exit status %d in place of SIGABRT: %s",
		    WEXITSTATUS(status), text);
	if (WTERMSIG(status) != SIGABRT)
		test_fail(file, line, "died of signal %d (%s), not SIGABRT: %s",
		    WTERMSIG(status), strsignal(WTERMSIG(status)), text);
	if (strstr(text, message) == NULL)
		test_fail(file, line,
		    "aborted with\n  \"%s\"\nwithout\n  \"%s\"", text, message);
}

/* ---- the run ------------------------------------------------------------ */

uint64_t
test_seed(void)
{
	static atomic_flag said = ATOMIC_FLAG_INIT;

	if (!atomic_flag_test_and_set(&said)) {
		printf("seed %" PRIu64 "\n", run_seed);
		fflush(stdout);
	}
	return run_seed;
}

const char *
test_program(void)
{
	return program_path;
}

/* ---- the runner -------------------------------------------------------- */

/* A long run or a slow tool stretches the limit of a test. */
static uint64_t
limit_ns(const struct test_case *test)
{
	uint64_t seconds = test->limit_s;

	if (test_env_set("WEIR_TEST_LONG"))
		seconds *= 20;
	if (test_under_valgrind())
		seconds *= 5;
	else if (TEST_ASAN || TEST_TSAN)
		seconds *= 2;
	return seconds * 1000000000u;
}

_Noreturn static void
run_in_child(const struct test_case *test, int report_end)
{
	setpgid(0, 0);
	signal(SIGINT, SIG_DFL);
	signal(SIGTERM, SIG_DFL);
	signal(SIGHUP, SIG_DFL);
	report_fd = report_end;
	setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
	test->run();
	exit(0);
}

/*
 * Reads the report until every writer is gone, the test has ended, or the
 * time is up.  Returns false when it is up.
 */
static bool
await(
    pid_t pid, int fd, uint64_t deadline, char *text, size_t bytes, int *status)
{
	size_t used = 0;
	bool ended = false, open = true;

	text[0] = '\0';
	while (!ended || open) {
		struct pollfd event = {.fd = open ? fd : -1, .events = POLLIN};
		char dropped[PIPE_BUF];
		ssize_t got;

		/* A closed pipe means the end is a moment away. */
		int step_ms = ended ? 0 : open ? POLL_STEP_MS : 1;

		if (poll(&event, 1, step_ms) > 0) {
			/* Only the first record is told. */
			got = used == 0 ? read(fd, text, bytes - 1)
					: read(fd, dropped, sizeof(dropped));
			if (got > 0 && used == 0) {
				used = (size_t)got;
				text[used] = '\0';
			}
			if (got == 0)
				open = false;
			else
				continue;
		} else if (ended) {
			break; /* a stray descendant holds the pipe */
		}
		if (!ended && waitpid(pid, status, WNOHANG) == pid)
			ended = true;
		if (!ended && test_now_ns() >= deadline)
			return false;
	}
	return true;
}

static enum outcome
judge(char *text, size_t bytes, int status)
{
	if (text[0] == FAILED || text[0] == SKIPPED) {
		enum outcome outcome = (enum outcome)text[0];

		memmove(text, text + 1, strlen(text));
		/* Skipping is the test's to say, not a child's of it. */
		if (outcome == FAILED ||
		    (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SKIPPED))
			return outcome;
		snprintf(text, bytes, "skipped in a child process only");
		return FAILED;
	}
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return PASSED;
	if (WIFEXITED(status))
		snprintf(text, bytes, "exit status %d", WEXITSTATUS(status));
	else
		snprintf(text, bytes, "killed by signal %d (%s)",
		    WTERMSIG(status), strsignal(WTERMSIG(status)));
	return FAILED;
}

/* The group of the running test, which a runner told to stop takes along. */
static volatile sig_atomic_t running_group;

static void
on_stop(int number)
{
	if (running_group > 0)
		kill(-(pid_t)running_group, SIGKILL);
	signal(number, SIG_DFL);
	raise(number);
}

static void
stop_with_tests(void)
{
	static const int signals[] = {SIGINT, SIGTERM, SIGHUP};

	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		signal(signals[i], on_stop);
}

static enum outcome
run_forked(const struct test_case *test, char *text, size_t bytes)
{
	uint64_t deadline = test_now_ns() + limit_ns(test);
	int ends[2], status = 0;
	bool in_time;
	pid_t pid;

	fflush(stdout);
	fflush(stderr);
	if (pipe(ends) != 0 || (pid = fork()) == -1) {
		snprintf(text, bytes, "cannot start: %s", strerror(errno));
		return FAILED;
	}
	if (pid == 0) {
		close(ends[0]);
		/* A program the test starts must not keep the report open. */
		fcntl(ends[1], F_SETFD, FD_CLOEXEC);
		run_in_child(test, ends[1]);
	}
	setpgid(pid, pid); /* here too: it may be needed before the child ran */
	running_group = pid;
	close(ends[1]);
	in_time = await(pid, ends[0], deadline, text, bytes, &status);
	kill(-pid, SIGKILL);
	running_group = 0;
	close(ends[0]);
	if (in_time)
		return judge(text, bytes, status);
	while (waitpid(pid, &status, 0) == -1 && errno == EINTR)
		;
	if (text[0] == FAILED)
		return judge(text, bytes, status);
	snprintf(text, bytes, "no end after %" PRIu64 " s",
	    limit_ns(test) / 1000000000u);
	return FAILED;
}

static enum outcome
run_one(const struct test_case *test)
{
	static char text[2 * PIPE_BUF];
	uint64_t start = test_now_ns();
	enum outcome outcome = run_forked(test, text, sizeof(text));
	uint64_t ms = (test_now_ns() - start) / 1000000u;

	if (outcome == PASSED)
		printf("ok   %s (%" PRIu64 " ms)\n", test->name, ms);
	else
		printf("%s %s: %s\n", outcome == FAILED ? "FAIL" : "skip",
		    test->name, text);
	fflush(stdout);
	return outcome;
}

/* ---- the command line -------------------------------------------------- */

struct options {
	bool list;
	bool no_fork;
	char **patterns;
	int pattern_count;
};

static const char usage_text[] =
    "usage: %s [option...] [name or glob...]\n"
    "  --list     print the names of the tests and end\n"
    "  --no-fork  run in this process, for debuggers; no time limit\n"
    "  --seed N   repeat a random run (also WEIR_TEST_SEED)\n"
    "  --quick    a tenth of the work (also WEIR_TEST_QUICK=1)\n"
    "  --long     ten times the work (also WEIR_TEST_LONG=1)\n"
    "exit status: 0 all passed, 1 a failure, 2 bad usage, 77 all skipped\n";

_Noreturn static void
usage(const char *program, int status)
{
	fprintf(status == 0 ? stdout : stderr, usage_text, program);
	exit(status);
}

static void
seed_set(const char *program, const char *text)
{
	char *end;

	errno = 0;
	run_seed = strtoull(text, &end, 0);
	if (errno != 0 || end == text || *end != '\0') {
		fprintf(stderr, "%s: not a seed: '%s'\n", program, text);
		exit(2);
	}
}

static void
options_read(struct options *options, int argc, char **argv)
{
	int i = 1;

	for (; i < argc && argv[i][0] == '-'; i++) {
		if (strcmp(argv[i], "--list") == 0)
			options->list = true;
		else if (strcmp(argv[i], "--no-fork") == 0)
			options->no_fork = true;
		else if (strcmp(argv[i], "--quick") == 0)
			setenv("WEIR_TEST_QUICK", "1", 1);
		else if (strcmp(argv[i], "--long") == 0)
			setenv("WEIR_TEST_LONG", "1", 1);
		else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc)
			seed_set(argv[0], argv[++i]);
		else
			usage(argv[0], strcmp(argv[i], "--help") == 0 ? 0 : 2);
	}
	options->patterns = argv + i;
	options->pattern_count = argc - i;
}

static bool
chosen(const struct options *options, const char *name)
{
	for (int i = 0; i < options->pattern_count; i++)
		if (fnmatch(options->patterns[i], name, 0) == 0)
			return true;
	return options->pattern_count == 0;
}

static int
run_all(const struct options *options)
{
	unsigned passed = 0, failed = 0, skipped = 0;

	for (struct test_case *test = test_first; test; test = test->next) {
		if (!chosen(options, test->name))
			continue;
		if (options->list) {
			printf("%s\n", test->name);
			passed++;
			continue;
		}
		if (options->no_fork) {
			printf("run  %s\n", test->name);
			fflush(stdout);
			test->run();
			passed++;
			continue;
		}
		switch (run_one(test)) {
		case PASSED:
			passed++;
			break;
		case SKIPPED:
			skipped++;
			break;
		case FAILED:
			failed++;
			break;
		}
	}
	if (passed + failed + skipped == 0) {
		fprintf(stderr, "no test has such a name\n");
		return 2;
	}
	if (!options->list)
		printf("%u passed, %u failed, %u skipped\n", passed, failed,
		    skipped);
	if (failed > 0)
		return EXIT_FAILED;
	return passed > 0 ? 0 : EXIT_SKIPPED;
}

int
main(int argc, char **argv)
{
	struct options options = {0};
	const char *seed = getenv("WEIR_TEST_SEED");

	/* Not /proc/self/exe, which under valgrind is valgrind. */
	program_path = realpath(argv[0], NULL);
	if (seed != NULL)
		seed_set(argv[0], seed);
	else
		run_seed = (uint64_t)time(NULL) * 1000003u ^
			   (uint64_t)getpid() << 20 ^ test_now_ns();
	options_read(&options, argc, argv);
	if (!options.no_fork)
		stop_with_tests();
	return run_all(&options);
}
