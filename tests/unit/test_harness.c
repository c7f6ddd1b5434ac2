/* SPDX-License-Identifier: MIT */
/*
 * test_harness.c - the test runner fails what must fail.
 *
 * A runner that lets a failure through makes every other test worthless.  The
 * tests here with a name ending in _victim are meant to fail; they only run
 * when this program starts itself to see them do it.
 */
#include "test.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void
need_victim_run(void)
{
	if (getenv("WEIR_TEST_VICTIM") == NULL)
		SKIP("fails on purpose; other tests start it");
}

/* Runs one test of this program; its exit status, and its output in text. */
static int
victim(const char *name, char *text, size_t bytes)
{
	int ends[2], status;
	size_t used = 0;
	ssize_t got;
	pid_t pid;

	CHECK_EQ(pipe(ends), 0);
	pid = fork();
	CHECK_NE(pid, -1);
	if (pid == 0) {
		setenv("WEIR_TEST_VICTIM", "1", 1);
		dup2(ends[1], STDOUT_FILENO);
		dup2(ends[1], STDERR_FILENO);
		close(ends[0]);
		close(ends[1]);
		execl(test_program(), "test_harness", name, (char *)NULL);
		_exit(127);
	}
	close(ends[1]);
	while (used + 1 < bytes &&
	       ((got = read(ends[0], text + used, bytes - 1 - used)) > 0 ||
		   (got == -1 && errno == EINTR)))
		if (got > 0)
			used += (size_t)got;
	text[used] = '\0';
	close(ends[0]);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void
expect_failure(const char *name, const char *message)
{
	char text[8192];

	CHECK_EQ(victim(name, text, sizeof(text)), 1);
	CHECK_CONTAINS(text, "FAIL ");
	CHECK_CONTAINS(text, message);
}

TEST(numbers_are_compared_by_value_across_types)
{
	struct {
		unsigned bits : 3;
	} field = {5};

	CHECK_EQ(-1, -1L);
	CHECK_NE(-1, UINT64_MAX);
	CHECK_LT(-1, 0u);
	CHECK_LE(INT64_MIN, INT64_MAX);
	CHECK_GT(UINT64_MAX, INT64_MAX);
	CHECK_GE((char)3, 3ull);
	CHECK_EQ(field.bits, 5);
	CHECK_EQ(true, 1);
}

TEST(order_victim)
{
	need_victim_run();
	CHECK_EQ(1 + 1, 3u);
}

TEST(failed_comparison_fails_and_names_both_numbers)
{
	expect_failure(
	    "order_victim", "1 + 1 == 3u is false: 2 (0x2) and 3 (0x3)");
}

static void
fail_on_third(unsigned index, void *context)
{
	(void)context;
	CHECK(index != 2);
}

TEST(thread_victim)
{
	need_victim_run();
	test_threads(4, fail_on_third, NULL);
}

TEST(failed_check_in_a_thread_fails_the_test)
{
	expect_failure("thread_victim", "CHECK(index != 2) is false");
}

TEST(child_victim)
{
	need_victim_run();
	if (fork() == 0)
		CHECK_NULL("not null");
	wait(NULL);
}

TEST(failed_check_in_a_child_process_fails_the_test)
{
	expect_failure("child_victim", "\"not null\" == NULL is false");
}

TEST_LIMIT(hang_victim, 1)
{
	need_victim_run();
	for (;;)
		pause();
}

TEST(test_without_end_is_killed_at_its_limit)
{
	expect_failure("hang_victim", "no end after ");
}

TEST(exit_victim)
{
	need_victim_run();
	exit(3);
}

TEST(exit_status_of_a_test_counts)
{
	expect_failure("exit_victim", "exit status 3");
}

TEST(signal_victim)
{
	need_victim_run();
	raise(SIGKILL);
}

TEST(death_by_signal_fails_the_test)
{
	expect_failure("signal_victim", "killed by signal 9");
}

static void
die(const char *message)
{
	fprintf(stderr, "weir: FAULT %s\n", message);
	abort();
}

TEST(abort_with_the_expected_message_passes)
{
	EXPECT_ABORT(
	    "FAULT double-free: cache", { die("double-free: cache"); });
}

TEST(abort_message_victim)
{
	need_victim_run();
	EXPECT_ABORT("wrong-pool", { die("double-free"); });
}

TEST(abort_with_another_message_fails)
{
	expect_failure("abort_message_victim", "weir: FAULT double-free");
}

TEST(no_abort_victim)
{
	need_victim_run();
	EXPECT_ABORT("double-free", { (void)0; });
}

TEST(missing_abort_fails)
{
	expect_failure("no_abort_victim", "no abort; expected \"double-free\"");
}

TEST(other_signal_victim)
{
	need_victim_run();
	EXPECT_ABORT("", { raise(SIGKILL); });
}

TEST(death_by_another_signal_than_abort_fails)
{
	expect_failure("other_signal_victim", "died of signal 9");
}

TEST(child_skip_victim)
{
	need_victim_run();
	if (fork() == 0)
		SKIP("not a child's to say");
	wait(NULL);
}

TEST(skip_in_a_child_process_does_not_skip_the_test)
{
	expect_failure("child_skip_victim", "skipped in a child process only");
}

TEST(run_of_skipped_tests_only_ends_with_77)
{
	int ends[2];
	pid_t pid = fork();
	int status;

	CHECK_NE(pid, -1);
	if (pid == 0) {
		unsetenv("WEIR_TEST_VICTIM");
		CHECK_EQ(pipe(ends), 0);
		dup2(ends[1], STDOUT_FILENO);
		execl(test_program(), "test_harness", "order_victim",
		    (char *)NULL);
		_exit(127);
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK(WIFEXITED(status));
	CHECK_EQ(WEXITSTATUS(status), 77);
}

TEST(same_seed_gives_same_numbers)
{
	struct test_rng a, b;
	bool differ = false;

	test_rng_init(&a, 42);
	test_rng_init(&b, 42);
	for (int i = 0; i < 100; i++)
		CHECK_EQ(test_rand(&a), test_rand(&b));
	test_rng_init(&b, 43);
	for (int i = 0; i < 100; i++)
		differ |= test_rand(&a) != test_rand(&b);
	CHECK(differ);
}

TEST(bounded_random_numbers_reach_every_value_and_no_other)
{
	unsigned seen[7] = {0};
	struct test_rng rng;

	test_rng_init(&rng, test_seed());
	for (int i = 0; i < 7000; i++) {
		uint64_t value = test_rand_below(&rng, 7);

		CHECK_LT(value, 7);
		seen[value]++;
	}
	for (int i = 0; i < 7; i++)
		CHECK_GT(seen[i], 700);
}
