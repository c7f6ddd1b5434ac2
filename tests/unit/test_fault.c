/* SPDX-License-Identifier: MIT */
/*
 * test_fault.c - the line a fault writes, byte for byte, and its hook.
 */
#include "test.h"

#include "guard/fault.h"

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* Leaves of a report the first line of each fault: what stands behind it is
 * another test's. */
static void
keep_first_lines(char *out)
{
	char *to = out;

	for (char *at = out; *at != '\0';) {
		size_t length = strcspn(at, "\n") + 1;
		bool first = strncmp(at, "weir:   ", 8) != 0 && *at != '{';

		if (first) {
			memmove(to, at, length);
			to += length;
		}
		at += length;
	}
	*to = '\0';
}

/* Runs @site in a child; the first lines of its standard error, and the signal
 * it died of. */
static int
fault_output(const struct weiri_fault_site *site, char *out, size_t bytes)
{
	int ends[2], status;
	size_t used = 0;
	ssize_t got;
	pid_t pid;

	CHECK_EQ(pipe(ends), 0);
	pid = fork();
	CHECK_NE(pid, -1);
	if (pid == 0) {
		dup2(ends[1], STDERR_FILENO);
		weiri_fault(site);
	}
	close(ends[1]);
	while ((got = read(ends[0], out + used, bytes - 1 - used)) > 0)
		used += (size_t)got;
	out[used] = '\0';
	close(ends[0]);
	keep_first_lines(out);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

/* As in the header: the test of the lines is not one of the advice. */
static const char *const advice_of[] = {
#define X(symbol, text, advice) "; " advice,
    WEIR_FAULT_CLASSES(X)
#undef X
};

/* @lines are complete but for the advice, which ends each fault's. */
static void
check_line(const struct weiri_fault_site *site, const char *lines)
{
	char out[8192], expected[1024] = "";

	for (const char *at = lines; *at != '\0';) {
		size_t length = strcspn(at, "\n");

		strncat(expected, at, length);
		if (strncmp(at, "weir: FAULT ", 12) == 0)
			strcat(expected, advice_of[site->fault_class]);
		strcat(expected, "\n");
		at += length + 1;
	}
	CHECK_EQ(fault_output(site, out, sizeof(out)), SIGABRT);
	CHECK_STR(out, expected);
}

TEST(line_ends_with_what_to_do)
{
	struct weiri_fault_site site = {
	    .fault_class = WEIR_FAULT_DOUBLE_FREE,
	    .pool_kind = "cache",
	    .pool_name = "conn",
	    .address = (const void *)(uintptr_t)0x7f32a0014080,
	    .detail = "object %p is free already",
	};
	char out[8192];

	CHECK_EQ(fault_output(&site, out, sizeof(out)), SIGABRT);
	CHECK_STR(out,
	    "weir: FAULT double-free: cache \"conn\": object 0x7f32a0014080 is "
	    "free already; find its two owners: each object is freed once\n");
}

TEST(counts_agree_with_their_nouns)
{
	struct weiri_fault_site site = {
	    .fault_class = WEIR_FAULT_LIVE_OBJECTS,
	    .pool_kind = "cache",
	    .number = 1,
	    .detail = "%u %{object is|objects are} still in use",
	};

	check_line(&site,
	    "weir: FAULT live-objects-at-destroy: cache: 1 object is still in "
	    "use\n");
	site.number = 2;
	check_line(&site,
	    "weir: FAULT live-objects-at-destroy: cache: 2 objects are still "
	    "in use\n");
	site.number = 0;
	site.detail = "%u byte%{|s}";
	check_line(
	    &site, "weir: FAULT live-objects-at-destroy: cache: 0 bytes\n");
	/* A clause without its end does not run on into what lies behind. */
	site.detail = "%u %{object|objects";
	check_line(
	    &site, "weir: FAULT live-objects-at-destroy: cache: 0 objects\n");
}

TEST(line_names_class_kind_name_and_detail)
{
	check_line(
	    &(struct weiri_fault_site){
		.fault_class = WEIR_FAULT_DOUBLE_FREE,
		.pool_kind = "cache",
		.pool_name = "conn",
		.address = (const void *)(uintptr_t)0x7f32a0014080,
		.detail = "object %p is free",
	    },
	    "weir: FAULT double-free: cache \"conn\": "
	    "object 0x7f32a0014080 is free\n");
	check_line(
	    &(struct weiri_fault_site){
		.fault_class = WEIR_FAULT_WRONG_POOL,
		.pool_kind = "buffer",
		.pool_name = "rx",
		.address = NULL,
		.number = 18446744073709551615u,
		.other = "tx",
		.detail = "%p of %s has %u%%, 100%",
	    },
	    "weir: FAULT wrong-pool: buffer \"rx\": "
	    "0x0 of tx has 18446744073709551615%%, 100%\n");
}

TEST(line_does_without_kind_and_name)
{
	struct weiri_fault_site site = {
	    .fault_class = WEIR_FAULT_BAD_ARGUMENT, .detail = "size 0 of %s"};

	check_line(&site, "weir: FAULT bad-argument: size 0 of ?\n");
	site.pool_kind = "region";
	check_line(&site, "weir: FAULT bad-argument: region: size 0 of ?\n");
	site.pool_kind = NULL;
	site.pool_name = "x";
	check_line(&site, "weir: FAULT bad-argument: \"x\": size 0 of ?\n");
}

TEST(name_with_control_bytes_stays_on_one_line)
{
	check_line(
	    &(struct weiri_fault_site){
		.fault_class = WEIR_FAULT_CORRUPTION,
		.pool_kind = "cache",
		.pool_name = "a\nweir: FAULT\x7f\033[31m",
		.other = "b\n",
		.detail = "%s",
	    },
	    "weir: FAULT corruption: cache \"a?weir: FAULT??[31m\": b?\n");
}

TEST(line_longer_than_the_buffer_is_cut_and_ends)
{
	char detail[2000], out[4096];

	memset(detail, 'd', sizeof(detail));
	detail[sizeof(detail) - 1] = '\0';
	CHECK_EQ(fault_output(
		     &(struct weiri_fault_site){
			 .fault_class = WEIR_FAULT_CORRUPTION,
			 .detail = detail,
		     },
		     out, sizeof(out)),
	    SIGABRT);
	CHECK_EQ(strlen(out), 511);
	CHECK_PTR(strchr(out, '\n'), out + 510);
}

TEST(every_class_has_its_word)
{
	static const char *const words[] = {
#define X(symbol, text, advice) text,
	    WEIR_FAULT_CLASSES(X)
#undef X
	};

	for (int i = 0; i < WEIR_FAULT_COUNT; i++) {
		struct weiri_fault_site site = {
		    .fault_class = (enum weir_fault_class)i,
		    .detail = "x",
		};
		char expected[512];

		strcpy(expected, "weir: FAULT ");
		strcat(expected, words[i]);
		strcat(expected, ": x\n");
		check_line(&site, expected);
		CHECK_GT(strlen(advice_of[i]), strlen("; "));
	}
}

TEST(longest_names_leave_room_for_the_advice)
{
	static const char name[] =
	    "01234567890123456789012345678901234567890123456";

	for (int i = 0; i < WEIR_FAULT_COUNT; i++) {
		char out[8192];
		struct weiri_fault_site site = {
		    .fault_class = (enum weir_fault_class)i,
		    .pool_kind = "region",
		    .pool_name = name,
		    .address = (const void *)UINTPTR_MAX,
		    .number = UINT64_MAX,
		    .other = name,
		    .detail = "the object %p of \"%s\" has %u references, "
			      "which are more than there can ever be",
		};

		CHECK_EQ(fault_output(&site, out, sizeof(out)), SIGABRT);
		CHECK_CONTAINS(out, advice_of[i]);
	}
}

/* ---- hooks --------------------------------------------------------------- */

static const struct weiri_fault_site plain = {
    .fault_class = WEIR_FAULT_FOREIGN_POINTER,
    .pool_kind = "cache",
    .pool_name = "conn",
    .address = &plain,
    .detail = "not of this pool",
};

struct seen {
	jmp_buf back;
	int calls;
	struct weir_fault fault;
	char line[512];
};

static void
leave_hook(const struct weir_fault *fault, void *context)
{
	struct seen *seen = context;

	seen->calls++;
	seen->fault = *fault;
	strcpy(seen->line, fault->line);
	longjmp(seen->back, 1);
}

TEST(hook_learns_everything_and_may_leave)
{
	static struct seen seen;

	weir_guard_set_hook(leave_hook, &seen);
	if (setjmp(seen.back) == 0)
		weiri_fault(&plain);
	CHECK_EQ(seen.calls, 1);
	CHECK_EQ(seen.fault.fault_class, WEIR_FAULT_FOREIGN_POINTER);
	CHECK_STR(seen.fault.class_text, "foreign-pointer");
	CHECK_STR(seen.fault.pool_kind, "cache");
	CHECK_STR(seen.fault.pool_name, "conn");
	CHECK_PTR(seen.fault.address, &plain);
	CHECK_CONTAINS(seen.line,
	    "weir: FAULT foreign-pointer: cache \"conn\": not of this pool; ");
	/* The line's last part is the advice, without the newline. */
	CHECK_STR(seen.fault.advice, advice_of[WEIR_FAULT_FOREIGN_POINTER] + 2);
	CHECK_STR(seen.line + strlen(seen.line) - strlen(seen.fault.advice),
	    seen.fault.advice);
}

/* Behind a pointer, or the compiler calls the recursion endless. */
static void (*volatile fault_call)(
    const struct weiri_fault_site *site) = weiri_fault;

/* Faults with @depth frames of different sizes between it and the caller. */
__attribute__((noinline)) static void
fault_at_depth(unsigned depth, unsigned salt)
{
	volatile unsigned char frame[48];

	for (size_t i = 0; i < sizeof(frame); i++)
		frame[i] = (unsigned char)(salt + i);
	if (depth == 0)
		fault_call(&plain);
	else
		fault_at_depth(depth - 1, salt + frame[7]);
}

__attribute__((noinline)) static void
fault_and_leave(struct seen *seen, unsigned depth, unsigned salt)
{
	if (setjmp(seen->back) == 0)
		fault_at_depth(depth, salt);
}

TEST(hook_is_called_for_each_fault_after_leaving_the_last_at_any_depth)
{
	static struct seen seen;
	struct test_rng rng;

	test_rng_init(&rng, test_seed());
	CHECK_EQ(
	    dup2(open("/dev/null", O_WRONLY), STDERR_FILENO), STDERR_FILENO);
	weir_guard_set_hook(leave_hook, &seen);
	for (int expected = 1; expected <= 300; expected++) {
		/* Deeper, shallower and at the same place. */
		fault_and_leave(&seen, (unsigned)test_rand_below(&rng, 40),
		    (unsigned)expected);
		CHECK_EQ(seen.calls, expected);
	}
}

static void
return_hook(const struct weir_fault *fault, void *context)
{
	(void)fault;
	(void)context;
	(void)!write(STDERR_FILENO, "hook\n", 5);
}

TEST(process_aborts_when_the_hook_returns)
{
	weir_guard_set_hook(return_hook, NULL);
	check_line(&plain,
	    "weir: FAULT foreign-pointer: cache \"conn\": not of this pool\n"
	    "hook\n");
	weir_guard_set_hook(NULL, NULL);
	check_line(&plain,
	    "weir: FAULT foreign-pointer: cache \"conn\": not of this pool\n");
}

static void
faulting_hook(const struct weir_fault *fault, void *context)
{
	(void)fault;
	(void)context;
	(void)!write(STDERR_FILENO, "hook\n", 5);
	fault_at_depth(3, 1);
}

TEST(fault_inside_the_hook_aborts_without_calling_it_again)
{
	weir_guard_set_hook(faulting_hook, NULL);
	check_line(&plain,
	    "weir: FAULT foreign-pointer: cache \"conn\": not of this pool\n"
	    "hook\n"
	    "weir: FAULT foreign-pointer: cache \"conn\": not of this pool\n");
}

static void *
fault_in_thread(void *context)
{
	struct seen *seen = context;

	if (setjmp(seen->back) == 0)
		weiri_fault(&plain);
	return NULL;
}

static void
thread_hook(const struct weir_fault *fault, void *context)
{
	struct seen *seen = context;
	pthread_t thread;

	if (seen->calls++ == 0) {
		/* Another thread's fault is not inside this hook. */
		CHECK_EQ(
		    pthread_create(&thread, NULL, fault_in_thread, seen), 0);
		CHECK_EQ(pthread_join(thread, NULL), 0);
		CHECK_EQ(seen->calls, 2);
		_exit(0);
	}
	seen->fault = *fault;
	longjmp(seen->back, 1);
}

TEST(fault_of_another_thread_during_a_hook_has_its_own)
{
	static struct seen seen;
	int status;
	pid_t pid = fork();

	CHECK_NE(pid, -1);
	if (pid == 0) {
		weir_guard_set_hook(thread_hook, &seen);
		weiri_fault(&plain);
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK(WIFEXITED(status));
	CHECK_EQ(WEXITSTATUS(status), 0);
}

static void
fault_on_signal(int number)
{
	(void)number;
	weiri_fault(&plain);
}

TEST(fault_in_a_signal_handler_is_reported)
{
	signal(SIGUSR1, fault_on_signal);
	EXPECT_ABORT(
	    "weir: FAULT foreign-pointer: cache \"conn\"", { raise(SIGUSR1); });
}
