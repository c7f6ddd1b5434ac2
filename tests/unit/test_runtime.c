/* SPDX-License-Identifier: MIT */
/*
 * test_runtime.c - the library as a whole: start, budget, trim, end, fork.
 */
#include "test.h"

#include <weir/weir.h>

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)

static char received[8192];

static void
receive(enum weir_message_level level, const char *line, void *context)
{
	(void)level;
	(void)context;
	strcat(received, line);
	strcat(received, "\n");
}

static struct weir_cache *
cache_of(const char *name, size_t object_bytes)
{
	struct weir_cache_config config = {.object_bytes = object_bytes};
	struct weir_cache *cache;

	CHECK_EQ(weir_cache_create(name, &config, &cache), 0);
	return cache;
}

static struct weir_stats
process_stats(void)
{
	struct weir_stats stats = {.size = sizeof(stats)};

	CHECK_EQ(weir_stats_read(&stats), 0);
	return stats;
}

/* ---- start ------------------------------------------------------------------ */

TEST(pool_works_with_no_call_before_it)
{
	struct weir_cache *cache = cache_of("first", 64);
	void *object = weir_cache_alloc(cache);

	CHECK_NOT_NULL(object);
	memset(object, 1, 64);
	weir_cache_free(cache, object);
	weir_cache_destroy(cache);
	/* The library has started: too late for options. */
	CHECK_EQ(weir_init(NULL), -EALREADY);
}

TEST(options_are_shown_at_start_when_asked_for)
{
	EXPECT_ABORT("weir: limit_bytes = 33554432 (environment)\n", {
		setenv("WEIR_SHOW", "1", 1);
		setenv("WEIR_LIMIT", "32M", 1);
		CHECK_EQ(weir_init(NULL), 0);
		abort();
	});
}

/* ---- the budget ---------------------------------------------------------------- */

TEST(soft_limit_above_the_hard_one_is_refused)
{
	char text[1024];

	CHECK_EQ(weir_set_limit(100 * MIB, 101 * MIB), -EINVAL);
	weir_options_text(text, sizeof(text));
	CHECK(strstr(text, "weir_set_limit") == NULL);
	CHECK_EQ(weir_set_limit(100 * MIB, 90 * MIB), 0);
	CHECK_EQ(process_stats().bytes_limit, 100 * MIB);
	CHECK_EQ(process_stats().bytes_soft, 90 * MIB);
	weir_options_text(text, sizeof(text));
	CHECK_CONTAINS(text, "limit_bytes = 104857600 (weir_set_limit)\n");
	CHECK_EQ(weir_set_limit(UINT64_MAX, UINT64_MAX), 0);
	weir_options_text(text, sizeof(text));
	CHECK_CONTAINS(text, "limit_bytes = none (weir_set_limit)\n");
}

/* Takes objects until none comes; their number. */
static size_t
take_all(struct weir_cache *cache, void **objects, size_t most)
{
	size_t count = 0;

	while (
	    count < most && (objects[count] = weir_cache_alloc(cache)) != NULL)
		count++;
	return count;
}

TEST(hard_limit_stops_and_raising_it_goes_on)
{
	static void *objects[1024];
	size_t object_bytes = 32 << 10;
	struct weir_cache *cache = cache_of("bounded", object_bytes);
	size_t count, more;

	CHECK_EQ(weir_set_limit(8 * MIB, UINT64_MAX), 0);
	count = take_all(cache, objects, 1024);
	CHECK_LE(count, 8 * MIB / object_bytes);
	CHECK_GT(count, 0);
	CHECK_LE(process_stats().bytes_charged, 8 * MIB);
	CHECK_EQ(weir_set_limit(16 * MIB, UINT64_MAX), 0);
	more = take_all(cache, objects + count, 1024 - count);
	CHECK_GT(more, 0);
	CHECK_LE(process_stats().bytes_charged, 16 * MIB);
	/* Lowered below what is out: nothing is taken away. */
	CHECK_EQ(weir_set_limit(1, UINT64_MAX), 0);
	memset(objects[0], 1, object_bytes);
	for (size_t i = 0; i < count + more; i++)
		weir_cache_free(cache, objects[i]);
	weir_cache_destroy(cache);
}

static uint64_t soft_calls;

static void
count_soft(uint64_t charged, uint64_t soft, void *context)
{
	CHECK_PTR(context, &soft_calls);
	CHECK_GT(charged, soft);
	CHECK_EQ(soft, 4 * MIB);
	soft_calls++;
	/* No lock is held: the hook may give memory back. */
	(void)weir_trim();
}

TEST(soft_limit_calls_its_hook_when_the_charge_rises_over_it)
{
	static void *objects[32];
	struct weir_config config = {
	    .limit_bytes = 64 * MIB,
	    .soft_bytes = 4 * MIB,
	    .soft = count_soft,
	    .soft_context = &soft_calls,
	};
	struct weir_cache *cache;
	size_t count;

	CHECK_EQ(weir_init(&config), 0);
	cache = cache_of("soft", MIB / 2);
	CHECK_EQ(soft_calls, 0);
	count = take_all(cache, objects, 32);
	CHECK_EQ(count, 32);
	CHECK_GT(soft_calls, 0);
	while (count > 0)
		weir_cache_free(cache, objects[--count]);
	weir_cache_destroy(cache);
}

TEST(trim_gives_idle_memory_to_the_system)
{
	static unsigned char *objects[4096];
	size_t object_bytes = 4 << 10;
	struct weir_cache *cache = cache_of("idle", object_bytes);
	uint64_t before;
	size_t given;

	for (size_t i = 0; i < 4096; i++) {
		objects[i] = weir_cache_alloc(cache);
		CHECK_NOT_NULL(objects[i]);
		memset(objects[i], 1, object_bytes);
	}
	before = process_stats().bytes_charged;
	for (size_t i = 1; i < 4096; i++)
		weir_cache_free(cache, objects[i]);
	/* 16 MiB were out; a slab and a magazine may stay. */
	given = weir_trim();
	CHECK_GE(given, 14 * MIB);
	CHECK_EQ(process_stats().bytes_retained, 0);
	CHECK_LE(process_stats().bytes_charged, before - 14 * MIB);
	/* What is in use is untouched, and the cache goes on. */
	CHECK_EQ(objects[0][object_bytes - 1], 1);
	weir_cache_free(cache, objects[0]);
	objects[0] = weir_cache_alloc(cache);
	CHECK_NOT_NULL(objects[0]);
	weir_cache_free(cache, objects[0]);
	weir_cache_destroy(cache);
}

/* ---- the end ---------------------------------------------------------------------- */

TEST(shutdown_lists_what_is_out_and_late_frees_are_safe)
{
	struct weir_config config = {
	    .flags = WEIR_REPORT_LEAKS, .message = receive};
	struct weir_cache *busy, *idle;
	void *objects[3];

	CHECK_EQ(weir_init(&config), 0);
	busy = cache_of("busy", 100);
	idle = cache_of("idle", 100);
	for (int i = 0; i < 3; i++)
		objects[i] = weir_cache_alloc(busy);
	CHECK_EQ(weir_shutdown(), 3);
	CHECK_CONTAINS(received, "leak: cache \"busy\": 3 objects, ");
	CHECK_CONTAINS(received, "leak: cache \"idle\": not destroyed\n");

	weir_cache_free(busy, objects[0]);
	weir_cache_free(busy, objects[1]);
	received[0] = '\0';
	CHECK_EQ(weir_shutdown(), 1);
	CHECK_CONTAINS(received, "leak: cache \"busy\": 1 object, ");
	weir_cache_free(busy, objects[2]);
	weir_cache_destroy(busy);
	weir_cache_destroy(idle);
	received[0] = '\0';
	CHECK_EQ(weir_shutdown(), 0);
	CHECK_STR(received, "");
}

TEST(shutdown_only_counts_when_no_report_was_asked_for)
{
	struct weir_config config = {.message = receive};
	struct weir_cache *cache;
	void *object;

	CHECK_EQ(weir_init(&config), 0);
	cache = cache_of("busy", 100);
	object = weir_cache_alloc(cache);
	CHECK_EQ(weir_shutdown(), 1);
	CHECK_STR(received, "");
	weir_cache_free(cache, object);
}

TEST(shutdown_of_an_unused_library_finds_nothing)
{
	CHECK_EQ(weir_shutdown(), 0);
}

static char refusals[512];
static unsigned refusal_count;

static void
note_refusal(enum weir_message_level level, const char *line, void *context)
{
	(void)context;
	CHECK_EQ(level, WEIR_MESSAGE_WARNING);
	snprintf(refusals, sizeof(refusals), "%s", line);
	refusal_count++;
}

TEST(first_refusal_by_the_budget_is_told_once_with_its_cure)
{
	struct weir_cache *cache;

	CHECK_EQ(weir_init(&(struct weir_config){
		     .limit_bytes = 3 << 20, .message = note_refusal}),
	    0);
	CHECK_EQ(weir_cache_create("conn",
		     &(struct weir_cache_config){.object_bytes = 4000}, &cache),
	    0);
	for (int i = 0; i < 2000; i++)
		(void)!weir_cache_alloc(cache);
	CHECK_EQ(refusal_count, 1);
	CHECK_CONTAINS(refusals, " of the limit of 3145728 taken; raise "
				 "limit_bytes or WEIR_LIMIT");
}

/* The exit of a process that never says weir_shutdown(), seen through abort so
 * that its last words can be compared. */
TEST(leak_report_comes_at_exit_without_a_shutdown)
{
	EXPECT_ABORT("weir: warning: leak: buffer \"net\": not destroyed\n", {
		struct weir_cache *cache;
		struct weir_buffer_pool *buffers;

		atexit(abort); /* runs after the library's, set up later */
		setenv("WEIR_LEAKS", "1", 1);
		CHECK_EQ(
		    weir_cache_create("left",
			&(struct weir_cache_config){.object_bytes = 8}, &cache),
		    0);
		CHECK_EQ(weir_buffer_pool_create("net",
			     &(struct weir_buffer_pool_config){0}, &buffers),
		    0);
		exit(0);
	});
}

TEST(environment_turns_the_leak_report_on)
{
	EXPECT_ABORT("weir: warning: leak: cache \"left\": 1 object, ", {
		setenv("WEIR_LEAKS", "1", 1);

		struct weir_cache *left = cache_of("left", 32);

		CHECK_NOT_NULL(weir_cache_alloc(left));
		CHECK_EQ(weir_shutdown(), 1);
		abort();
	});
}

/* ---- fork --------------------------------------------------------------------------- */

static bool stop;

static void *
churn(void *context)
{
	struct weir_cache *cache = context;
	void *objects[200];

	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		size_t count = take_all(cache, objects, 200);

		while (count > 0)
			weir_cache_free(cache, objects[--count]);
		(void)weir_cache_trim(cache);
	}
	return NULL;
}

static void
use_everything(struct weir_cache *cache)
{
	static void *objects[500];
	struct weir_cache *own = cache_of("child", 300);
	struct weir_pool_stats pools[4] = {{.size = sizeof(pools[0])}};
	size_t count = take_all(cache, objects, 500);

	CHECK_EQ(count, 500);
	while (count > 0)
		weir_cache_free(cache, objects[--count]);
	CHECK_EQ(take_all(own, objects, 1), 1);
	weir_cache_free(own, objects[0]);
	weir_cache_destroy(own);
	CHECK_EQ(weir_stats_pools(pools, 4), 1);
	(void)weir_trim();
	(void)process_stats();
}

TEST(child_of_a_fork_among_busy_threads_uses_every_pool)
{
	struct weir_cache *cache = cache_of("shared", 256);
	pthread_t thread[3];
	size_t forks = test_count(60);

	/* The sanitizer's own locks are not made for this. */
	if (TEST_TSAN)
		SKIP("ThreadSanitizer does not follow threads over fork");
	for (int i = 0; i < 3; i++)
		CHECK_EQ(pthread_create(&thread[i], NULL, churn, cache), 0);
	for (size_t i = 0; i < forks; i++) {
		int status;
		pid_t pid = fork();

		CHECK_NE(pid, -1);
		if (pid == 0) {
			use_everything(cache);
			_exit(0);
		}
		CHECK_EQ(waitpid(pid, &status, 0), pid);
		CHECK(WIFEXITED(status));
		CHECK_EQ(WEXITSTATUS(status), 0);
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	for (int i = 0; i < 3; i++)
		CHECK_EQ(pthread_join(thread[i], NULL), 0);
	CHECK_EQ(weir_shutdown(), 0);
	weir_cache_destroy(cache);
}

/* ---- which library this is ----------------------------------------------- */

TEST(version_of_the_library_is_that_of_the_headers_it_was_built_with)
{
	char text[32];

	CHECK_STR(weir_version(), WEIR_VERSION_STRING);
	CHECK_EQ(weir_version_number(), WEIR_VERSION_NUMBER);
	/* The number orders as the text reads. */
	snprintf(text, sizeof(text), "%d.%d.%d", weir_version_number() / 10000,
	    weir_version_number() / 100 % 100, weir_version_number() % 100);
	CHECK_STR(weir_version(), text);
	/* Asking started nothing. */
	CHECK_EQ(weir_init(NULL), 0);
}
