/* SPDX-License-Identifier: MIT */
/*
 * test_guard.c - objects of caches under guard: that correct programs notice
 * nothing, and what incorrect ones are told.
 */
#include "support/test.h"

#include "guard/guard.h"
#include "os/guard.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <weir/handle.h>
#include <weir/weir.h>

#define KINDS 4

/* The places for the state of an object, and level `batch`. */
static const struct weir_cache_config kinds[KINDS] = {
    {.object_bytes = 200},
    {.object_bytes = 24},
    {.object_bytes = 40000},
    {.object_bytes = 72, .check = WEIR_CHECK_BATCH},
};

static void
guard(enum weir_guard_mode mode, uint32_t rate)
{
	struct weir_guard_config config = {.mode = mode, .sample_rate = rate};

	CHECK_EQ(weir_guard_set(&config), 0);
}

static struct weir_cache *
make(const struct weir_cache_config *config)
{
	struct weir_cache *cache;

	CHECK_EQ(weir_cache_create("conn", config, &cache), 0);
	return cache;
}

static struct weir_guard_stats
figures(void)
{
	struct weir_guard_stats stats = {.size = sizeof(stats)};

	CHECK_EQ(weir_guard_read(&stats), 0);
	return stats;
}

static void *
take(struct weir_cache *cache)
{
	void *object = weir_cache_alloc(cache);

	CHECK_NOT_NULL(object);
	return object;
}

/* Accesses that no compiler leaves out, or warns of. */
__attribute__((noinline)) static char
peek(const char *at)
{
	return *(const volatile char *)at;
}

__attribute__((noinline)) static void
poke(char *at)
{
	*(volatile char *)at = 1;
}

/* ---- mode full ------------------------------------------------------------ */

TEST(full_reads_and_writes_past_the_end_trap)
{
	guard(WEIR_GUARD_FULL, 0);
	for (int i = 0; i < KINDS; i++) {
		struct weir_cache *cache = make(&kinds[i]);
		size_t bytes = kinds[i].object_bytes;
		size_t whole = (bytes + 15) / 16 * 16;
		char *object = take(cache);

		memset(object, 1, bytes);
		EXPECT_ABORT("weir: FAULT overflow: cache \"conn\": read at 0x",
		    { (void)peek(object + whole); });
		EXPECT_ABORT(
		    "weir: FAULT overflow: cache \"conn\": write at 0x",
		    { poke(object + whole); });
		EXPECT_ABORT(whole == bytes ? ", 0 bytes behind the object"
					    : ", 8 bytes behind the object",
		    { poke(object + whole); });
		weir_cache_free(cache, object);
		weir_cache_destroy(cache);
	}
}

TEST(full_a_write_into_the_slack_is_told_at_the_end)
{
	struct weir_cache *cache;
	char *object;

	guard(WEIR_GUARD_FULL, 0);
	cache = make(&kinds[0]);
	object = take(cache);
	EXPECT_ABORT("FAULT overflow: cache \"conn\": 0x", {
		object[203] = 0;
		weir_cache_free(cache, object);
	});
	EXPECT_ABORT(", 3 bytes behind the object, was written while", {
		object[203] = 0;
		weir_cache_free(cache, object);
	});
	EXPECT_ABORT("FAULT underflow: cache \"conn\": 0x", {
		object[-1] = 0;
		weir_cache_free(cache, object);
	});
	weir_cache_free(cache, object);
	weir_cache_destroy(cache);
}

TEST(full_uses_after_free_trap_and_name_both_stacks)
{
	guard(WEIR_GUARD_FULL, 0);
	for (int i = 0; i < KINDS; i++) {
		struct weir_cache *cache = make(&kinds[i]);
		char *object = take(cache);
		static const char *const parts[] = {
		    "weir: FAULT use-after-free: cache \"conn\": read at 0x",
		    ", of an object that ended by free; ",
		    "; the address is 7 bytes inside it\n",
		    "\nweir:   the call, thread ",
		    "\nweir:   taken by thread ",
		    "\nweir:   ended by free, thread ",
		    "\nweir:   its first bytes: 68 65 6c 6c 6f ",
		    "\nweir:   mode full\n",
		    "\n{\"weir\":\"fault\",\"class\":\"use-after-free\"",
		    "\"distance\":7",
		    "\"how\":\"free\"",
		};

		memcpy(object, "hello", 5);
		weir_cache_free(cache, object);
		for (size_t p = 0; p < sizeof(parts) / sizeof(parts[0]); p++)
			EXPECT_ABORT(parts[p], { (void)peek(object + 7); });
		EXPECT_ABORT("FAULT use-after-free: cache \"conn\": write at",
		    { poke(object + 0); });
		weir_cache_destroy(cache);
		/* The name outlives the pool. */
		EXPECT_ABORT("FAULT use-after-free: cache \"conn\": read at",
		    { (void)peek(object + 0); });
	}
}

TEST(full_wrong_frees_are_told_at_the_call)
{
	guard(WEIR_GUARD_FULL, 0);
	for (int i = 0; i < KINDS; i++) {
		struct weir_cache *cache = make(&kinds[i]), *other;
		char *object = take(cache), *freed = take(cache);

		CHECK_EQ(weir_cache_create("timer", &kinds[i], &other), 0);
		weir_cache_free(cache, freed);
		EXPECT_ABORT("weir: FAULT double-free: cache \"conn\": object",
		    { weir_cache_free(cache, freed); });
		EXPECT_ABORT("is free already: it ended by free",
		    { weir_cache_free(cache, freed); });
		EXPECT_ABORT("FAULT interior-pointer: cache \"conn\":",
		    { weir_cache_free(cache, object + 8); });
		EXPECT_ABORT("FAULT misaligned-pointer: cache \"conn\":",
		    { weir_cache_free(cache, object + 3); });
		EXPECT_ABORT("FAULT wrong-pool: cache \"timer\":",
		    { weir_cache_free(other, object); });
		EXPECT_ABORT(
		    "belongs to \"conn\"", { weir_cache_free(other, object); });
		weir_cache_free(cache, object);
		weir_cache_destroy(cache);
		weir_cache_destroy(other);
	}
}

/* A freed address is not used again while others will do. */
TEST(full_a_freed_object_stays_known_for_long)
{
	enum { ROUNDS = 2000 };
	struct weir_cache *cache;
	char *first;

	guard(WEIR_GUARD_FULL, 0);
	cache = make(&kinds[1]);
	first = take(cache);
	weir_cache_free(cache, first);
	for (int i = 0; i < ROUNDS; i++) {
		void *object = take(cache);

		CHECK(object != first);
		weir_cache_free(cache, object);
	}
	EXPECT_ABORT("FAULT use-after-free", { (void)peek(first + 0); });
	EXPECT_ABORT("FAULT double-free", { weir_cache_free(cache, first); });
	weir_cache_destroy(cache);
}

/* ---- correct programs --------------------------------------------------------- */

static int hooks[4]; /* init, fini, ctor, dtor */

#define MARK 0x1122334455667788u

static void
count_init(void *object, void *context)
{
	hooks[0]++;
	*(uint64_t *)object = MARK;
	CHECK_PTR(context, hooks);
}

static void
count_fini(void *object, void *context)
{
	hooks[1]++;
	CHECK_EQ(*(uint64_t *)object, MARK);
	CHECK_PTR(context, hooks);
}

static void
count_ctor(void *object, void *context)
{
	hooks[2]++;
	CHECK_EQ(*(uint64_t *)object, MARK);
	CHECK_PTR(context, hooks);
}

static void
count_dtor(void *object, void *context)
{
	hooks[3]++;
	CHECK_EQ(*(uint64_t *)object, MARK);
	CHECK_PTR(context, hooks);
}

TEST(hooks_of_a_cache_see_the_object_that_the_program_gets)
{
	enum { COUNT = 100 };
	struct weir_cache_config config = {.object_bytes = 64,
	    .init = count_init,
	    .fini = count_fini,
	    .ctor = count_ctor,
	    .dtor = count_dtor,
	    .context = hooks};
	struct weir_cache *cache;
	void *objects[COUNT];

	guard(WEIR_GUARD_FULL, 0);
	cache = make(&config);
	for (int turn = 0; turn < 3; turn++) {
		for (int i = 0; i < COUNT; i++)
			objects[i] = take(cache);
		for (int i = 0; i < COUNT; i++)
			weir_cache_free(cache, objects[i]);
	}
	CHECK_EQ(hooks[2], 3 * COUNT);
	CHECK_EQ(hooks[3], 3 * COUNT);
	CHECK(weir_cache_check(cache));
	weir_cache_destroy(cache);
	/* As many ends as beginnings. */
	CHECK_EQ(hooks[0], hooks[1]);
}

static bool
visit_some(void *object, void *context)
{
	void **objects = context;

	for (int i = 0; i < 10; i++)
		if (objects[i] == object) {
			objects[i] = NULL;
			return true;
		}
	FAIL("a visitor is shown what nobody has");
}

TEST(all_that_a_cache_does_works_on_objects_under_guard)
{
	static const unsigned flags[] = {
	    0, WEIR_CACHE_ZERO, WEIR_CACHE_HANDLES, WEIR_CACHE_COUNT};

	guard(WEIR_GUARD_FULL, 0);
	for (int i = 0; i < KINDS * 4; i++) {
		struct weir_cache_config config = kinds[i % KINDS];
		struct weir_pool_stats stats = {.size = sizeof(stats)};
		void *objects[10], *copy[10];
		struct weir_cache *cache;

		config.flags = flags[i / KINDS];
		cache = make(&config);
		CHECK_EQ(weir_cache_alloc_bulk(cache, 4, objects), 4);
		for (int j = 4; j < 10; j++)
			objects[j] = take(cache);
		for (int j = 0; j < 10; j++) {
			char *bytes = objects[j];

			if (config.flags & WEIR_CACHE_ZERO)
				for (size_t b = 0; b < config.object_bytes; b++)
					CHECK_EQ(bytes[b], 0);
			memset(bytes, j, config.object_bytes);
		}
		CHECK_EQ(weir_cache_stats(cache, &stats), 0);
		CHECK_EQ(stats.in_use, 10);
		CHECK(weir_cache_check(cache));
		memcpy(copy, objects, sizeof(copy));
		CHECK_EQ(weir_cache_for_each(cache, visit_some, copy), 10);
		if (config.flags & WEIR_CACHE_HANDLES) {
			struct weir_handle handle =
			    weir_cache_handle(cache, objects[3]);

			CHECK_PTR(
			    weir_cache_resolve(cache, handle), objects[3]);
			weir_cache_free(cache, objects[3]);
			CHECK_NULL(weir_cache_resolve(cache, handle));
			objects[3] = take(cache);
			CHECK_NULL(weir_cache_resolve(cache, handle));
		}
		EXPECT_ABORT("10 objects are still in use",
		    { weir_cache_destroy(cache); });
		weir_cache_free_bulk(cache, 10, objects);
		CHECK_EQ(weir_cache_stats(cache, &stats), 0);
		CHECK_EQ(stats.in_use, 0);
		CHECK(weir_cache_check(cache));
		weir_cache_destroy(cache);
	}
	CHECK_EQ(figures().live, 0);
	CHECK_EQ(figures().reports, 0);
}

TEST(a_limit_counts_objects_under_guard)
{
	struct weir_cache_config config = {.object_bytes = 64, .limit = 20};
	struct weir_cache *cache;
	void *objects[21];

	guard(WEIR_GUARD_FULL, 0);
	cache = make(&config);
	for (int turn = 0; turn < 3; turn++) {
		for (int i = 0; i < 20; i++)
			objects[i] = take(cache);
		CHECK_NULL(weir_cache_alloc(cache));
		weir_cache_free_bulk(cache, 20, objects);
	}
	weir_cache_destroy(cache);
}

/* ---- switching ------------------------------------------------------------------ */

TEST(a_switched_mode_reaches_a_loop_of_pairs_and_lets_go_again)
{
	for (int i = 0; i < 2; i++) {
		struct weir_cache *cache = make(&kinds[i]);
		uint64_t before;

		for (int j = 0; j < 10000; j++)
			weir_cache_free(cache, take(cache));
		before = figures().guarded;
		guard(WEIR_GUARD_FULL, 0);
		/* No edge, no poll: the countdown alone leads to it. */
		for (int j = 0; j < 65536; j++)
			weir_cache_free(cache, take(cache));
		CHECK_GT(figures().guarded, before);
		before = figures().guarded;
		for (int j = 0; j < 100; j++)
			weir_cache_free(cache, take(cache));
		CHECK_EQ(figures().guarded, before + 100);
		guard(WEIR_GUARD_OFF, 0);
		before = figures().guarded;
		for (int j = 0; j < 100; j++)
			weir_cache_free(cache, take(cache));
		CHECK_EQ(figures().guarded, before);
		CHECK(weir_cache_check(cache));
		weir_cache_destroy(cache);
	}
}

TEST(a_switched_mode_reaches_a_thread_that_polls)
{
	struct weir_cache *cache = make(&kinds[3]); /* `batch` */
	void *object;

	weir_cache_free(cache, take(cache));
	guard(WEIR_GUARD_FULL, 0);
	weir_thread_poll();
	object = take(cache);
	CHECK_EQ(figures().live, 1);
	guard(WEIR_GUARD_OFF, 0);
	/* What is out stays what it is. */
	EXPECT_ABORT("FAULT overflow", { poke((char *)object + 80); });
	weir_cache_free(cache, object);
	CHECK_EQ(figures().live, 0);
	weir_cache_destroy(cache);
}

TEST(only_pools_that_are_named_are_under_guard)
{
	struct weir_guard_config config = {
	    .mode = WEIR_GUARD_FULL, .pools = "other,con*"};
	struct weir_cache *conn, *plain;

	CHECK_EQ(weir_cache_create("plain", &kinds[0], &plain), 0);
	CHECK_EQ(weir_guard_set(&config), 0);
	conn = make(&kinds[0]);
	weir_cache_free(plain, take(plain));
	CHECK_EQ(figures().guarded, 0);
	weir_cache_free(conn, take(conn));
	CHECK_EQ(figures().guarded, 1);
	weir_cache_destroy(conn);
	weir_cache_destroy(plain);
}

TEST(the_mode_is_among_the_options)
{
	struct weir_guard_config config = {
	    .mode = WEIR_GUARD_SAMPLE, .sample_rate = 50, .pools = "conn"};
	char text[2048];

	CHECK_EQ(weir_guard_set(&config), 0);
	CHECK_LT(weir_options_text(text, sizeof(text)), sizeof(text));
	CHECK_CONTAINS(text, "guard = sample:50:conn (weir_guard_set)\n");
	config.mode = (enum weir_guard_mode)(WEIR_GUARD_TOOL + 1);
	CHECK_EQ(weir_guard_set(&config), -EINVAL);
	config = (struct weir_guard_config){.reserved = {[5] = 1}};
	CHECK_EQ(weir_guard_set(&config), -EINVAL);
	CHECK_EQ(
	    weir_guard_set_policy(WEIR_FAULT_COUNT, (enum weir_guard_policy)3),
	    -EINVAL);
}

/* ---- mode sample ------------------------------------------------------------------ */

TEST(a_loop_of_pairs_is_sampled_at_the_rate)
{
	enum { PAIRS = 100000 };
	static const uint32_t rates[] = {1, 50, 1000, 10000};

	for (int i = 0; i < 2; i++)
		for (int r = 0; r < 4; r++) {
			struct weir_cache *cache;
			int pairs = rates[r] == 1 ? 2000 : PAIRS;
			uint64_t before = figures().guarded, got;
			double wanted = pairs / (double)rates[r];

			guard(WEIR_GUARD_SAMPLE, rates[r]);
			cache = make(&kinds[i]);
			for (int j = 0; j < pairs; j++)
				weir_cache_free(cache, take(cache));
			got = figures().guarded - before;
			CHECK((double)got >= wanted * 0.5 - 5);
			CHECK((double)got <= wanted * 1.5 + 5);
			if (rates[r] == 1)
				CHECK_EQ(got, pairs);
			CHECK(weir_cache_check(cache));
			weir_cache_destroy(cache);
		}
	CHECK_EQ(figures().reports, 0);
}

/* Frees of such go into magazines like any other. */
TEST(samples_at_level_batch_end_when_their_magazine_comes_home)
{
	enum { COUNT = 5000 };
	static void *objects[COUNT];
	struct weir_guard_config config = {
	    .mode = WEIR_GUARD_SAMPLE, .sample_rate = 20};
	struct weir_cache *cache;
	uint64_t guarded;

	CHECK_EQ(weir_guard_set(&config), 0);
	cache = make(&kinds[3]);
	for (int turn = 0; turn < 10; turn++) {
		for (int i = 0; i < COUNT; i++) {
			objects[i] = take(cache);
			memset(objects[i], i, 72);
		}
		CHECK(weir_cache_check(cache));
		for (int i = 0; i < COUNT; i++)
			weir_cache_free(cache, objects[i]);
		CHECK(weir_cache_check(cache));
	}
	guarded = figures().guarded;
	CHECK_GT(guarded, 100);
	(void)weir_cache_trim(cache);
	CHECK_EQ(figures().live, 0);
	CHECK_EQ(figures().reports, 0);
	weir_cache_destroy(cache);
}

TEST(a_double_free_of_a_sample_at_level_batch_is_found_at_the_depot)
{
	struct weir_cache *cache;
	void *object;

	guard(WEIR_GUARD_SAMPLE, 20);
	cache = make(&kinds[3]);
	do
		object = take(cache);
	while (figures().live == 0);
	EXPECT_ABORT("FAULT double-free: cache \"conn\": object 0x", {
		weir_cache_free(cache, object);
		(void)weir_cache_trim(cache);
		CHECK_EQ(
		    weir_guard_set_policy(WEIR_FAULT_COUNT, WEIR_GUARD_ABORT),
		    0);
		weir_cache_free(cache, object);
		(void)weir_cache_trim(cache);
	});
	_exit(0); /* with objects out */
}

/* Both frees are in the magazine that comes to the depot. */
TEST(a_double_free_of_a_sample_in_one_magazine_is_found_at_the_depot)
{
	struct weir_cache *cache;
	void *object;

	guard(WEIR_GUARD_SAMPLE, 20);
	cache = make(&kinds[3]);
	do
		object = take(cache);
	while (figures().live == 0);
	CHECK_EQ(weir_guard_set_policy(WEIR_FAULT_COUNT, WEIR_GUARD_ABORT), 0);
	EXPECT_ABORT("FAULT double-free: cache \"conn\": object 0x", {
		weir_cache_free(cache, object);
		weir_cache_free(cache, object);
		(void)weir_cache_trim(cache);
	});
	_exit(0); /* with objects out */
}

TEST(samples_are_bounded_by_time)
{
	struct weir_guard_config config = {
	    .mode = WEIR_GUARD_SAMPLE, .sample_per_s = 500};
	struct weir_cache *cache;
	uint64_t begin, took, before;
	double most, guarded;
	int spells = 0;

	CHECK_EQ(weir_guard_set(&config), 0);
	cache = make(&kinds[0]);
	/* A busy machine may take the processor away for all of a spell, not of
	 * each: no spell has too many, and some has enough. */
	do {
		before = figures().guarded;
		begin = test_now_ns();
		do {
			for (int i = 0; i < 1000; i++)
				weir_cache_free(cache, take(cache));
			took = test_now_ns() - begin;
		} while (took < 400000000);
		most = (double)took * 500 / 1e9;
		guarded = (double)(figures().guarded - before);
		CHECK(guarded <= most * 1.3 + 5);
	} while (guarded < most * 0.2 && ++spells < 20);
	CHECK(guarded >= most * 0.2);
	weir_cache_destroy(cache);
}

/* Written in a signal handler. */
static volatile int reported;
static volatile enum weir_fault_class last_class;
static uint64_t simulated_ns;

static uint64_t
simulated(void)
{
	return simulated_ns;
}

static volatile bool last_goes_on;

static void
count_report(const struct weir_fault *fault, void *context)
{
	(void)context;
	reported++;
	last_class = fault->fault_class;
	last_goes_on = fault->goes_on;
	CHECK_CONTAINS(fault->json, "\"mode\":\"sample\"");
}

TEST(a_sample_is_reported_and_the_program_goes_on)
{
	struct weir_cache *cache;
	char *object;

	weir_guard_set_hook(count_report, NULL);
	guard(WEIR_GUARD_SAMPLE, 1);
	cache = make(&kinds[0]);
	object = take(cache);
	poke(object + 208);
	CHECK_EQ(reported, 1);
	CHECK_EQ(last_class, WEIR_FAULT_OVERFLOW);
	CHECK(last_goes_on);
	CHECK_EQ(peek(object + 208), 1);
	weir_cache_free(cache, object);
	CHECK_EQ(reported, 1);
	weir_cache_free(cache, object);
	CHECK_EQ(reported, 2);
	CHECK_EQ(last_class, WEIR_FAULT_DOUBLE_FREE);
	CHECK_EQ(peek(object + 5), 0);
	CHECK_EQ(reported, 3);
	CHECK_EQ(last_class, WEIR_FAULT_USE_AFTER_FREE);
	CHECK(weir_cache_check(cache));
	weir_cache_destroy(cache);
	CHECK_EQ(figures().reports, 3);
}

/*
 * A million operations a second, one of a million of which uses what it freed:
 * is that reported within an hour?  The time is simulated, the picking is not.
 * Bugs are ten thousand times as frequent here, so that ten seconds will do.
 */
TEST(sampling_delivers)
{
	enum { OPS = 10000000, BUG = 100 };
	struct test_rng rng;
	struct weir_cache *cache;
	double share, missed = 1;
	int bugs = 0;

	if (TEST_TSAN)
		SKIP("many operations of one thread");
	test_rng_init(&rng, test_seed());
	weiri_guard_clock = simulated;
	CHECK_EQ(weir_guard_set(
		     &(struct weir_guard_config){.mode = WEIR_GUARD_SAMPLE}),
	    0);
	weir_guard_set_hook(count_report, NULL);
	CHECK_EQ(
	    dup2(open("/dev/null", O_WRONLY), STDERR_FILENO), STDERR_FILENO);
	cache = make(&kinds[0]);
	for (int i = 0; i < OPS; i++) {
		char *object = take(cache);
		bool bug = test_rand_below(&rng, BUG) == 0;

		simulated_ns += 1000;
		weir_cache_free(cache, object);
		if (bug) {
			(void)peek(object);
			bugs++;
		}
	}
	share = (double)figures().guarded / OPS;
	/* 3,600 such operations in an hour, each seen with that chance. */
	for (int i = 0; i < 3600; i++)
		missed *= 1 - share;
	CHECK(missed < 0.05);
	/* What was sampled was reported, and no more than that. */
	CHECK_GT(bugs, OPS / BUG / 2);
	CHECK((double)reported > (double)bugs * share * 0.2);
	CHECK((double)reported < (double)bugs * share * 5 + 5);
	weir_cache_destroy(cache);
}

TEST(a_policy_decides_for_its_class)
{
	struct weir_cache *cache;
	char *object;

	guard(WEIR_GUARD_SAMPLE, 1);
	CHECK_EQ(
	    weir_guard_set_policy(WEIR_FAULT_USE_AFTER_FREE, WEIR_GUARD_ABORT),
	    0);
	cache = make(&kinds[0]);
	object = take(cache);
	poke(object + 208);
	weir_cache_free(cache, object);
	EXPECT_ABORT("use-after-free", { poke(object + 0); });
	CHECK_EQ(
	    weir_guard_set_policy(WEIR_FAULT_USE_AFTER_FREE, WEIR_GUARD_GO_ON),
	    0);
	poke(object + 0);
	weir_cache_destroy(cache);
}

/* ---- faults of others ----------------------------------------------------------------- */

static int own_signals;
static char *volatile nowhere = (char *)8;

static void
own_handler(int number)
{
	static const char text[] = "own handler\n";

	(void)number;
	own_signals++;
	(void)!write(STDERR_FILENO, text, sizeof(text) - 1);
	_exit(77);
}

TEST(other_faults_go_to_the_handler_before)
{
	struct weir_cache *cache;

	signal(SIGSEGV, own_handler);
	guard(WEIR_GUARD_FULL, 0);
	cache = make(&kinds[0]);
	EXPECT_ABORT("own handler\n", {
		/* Not ours: _exit() of the handler would not be an abort. */
		pid_t pid = fork();
		int status;

		if (pid == 0) {
			poke(nowhere);
			_exit(0);
		}
		CHECK_EQ(waitpid(pid, &status, 0), pid);
		if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
			abort();
	});
	weir_cache_destroy(cache);
}

TEST(a_fault_that_is_nobodys_ends_the_process_as_ever)
{
	int status;
	pid_t pid;

	if (TEST_ASAN || TEST_TSAN)
		SKIP("the sanitizer has a handler of its own for that");
	guard(WEIR_GUARD_FULL, 0);
	weir_cache_destroy(make(&kinds[0]));
	pid = fork();
	CHECK_NE(pid, -1);
	if (pid == 0) {
		poke(nowhere);
		_exit(0);
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
}

__attribute__((noinline)) static int
recurse(int depth)
{
	volatile char frame[512];

	frame[0] = (char)depth;
	if (depth < 0)
		return frame[0];
	return recurse(depth + 1) + frame[0];
}

static void *
overflow_stack(void *context)
{
	struct weir_cache *cache = context;

	/* A thread is known from its first object on. */
	weir_cache_free(cache, take(cache));
	(void)recurse(1);
	return NULL;
}

TEST(a_thread_out_of_stack_is_told_as_such)
{
	struct weir_cache *cache;

	if (TEST_ASAN)
		SKIP("the sanitizer has a handler of its own for that");
	guard(WEIR_GUARD_FULL, 0);
	cache = make(&kinds[0]);
	EXPECT_ABORT("weir: FAULT stack-overflow: 0x", {
		pthread_t thread;

		CHECK_EQ(
		    pthread_create(&thread, NULL, overflow_stack, cache), 0);
		pthread_join(thread, NULL);
	});
	weir_cache_destroy(cache);
}

/* ---- room ---------------------------------------------------------------------------- */

TEST(without_markers_programs_work_all_the_same)
{
	enum { COUNT = 3000 };
	static void *objects[COUNT];
	struct weir_cache *cache;

	weiri_os_set_bars_merge(false);
	guard(WEIR_GUARD_FULL, 0);
	cache = make(&kinds[1]);
	for (int i = 0; i < COUNT; i++) {
		objects[i] = take(cache);
		memset(objects[i], 1, 24);
	}
	EXPECT_ABORT("use-after-free", {
		weir_cache_free(cache, objects[0]);
		poke(objects[0]);
	});
	weir_cache_free_bulk(cache, COUNT, objects);
	CHECK(weir_cache_check(cache));
	weir_cache_destroy(cache);
}

static size_t
mappings(void)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	size_t lines = 0;
	int c;

	CHECK_NOT_NULL(maps);
	while ((c = getc(maps)) != EOF)
		lines += c == '\n';
	fclose(maps);
	return lines;
}

/* What a server pays that leaves sampling on: of the time it is asked elsewhere. */
TEST(samples_take_two_mappings_and_less_than_two_mebibytes)
{
	enum { OPS = 4000000 };
	struct weir_cache *cache;
	size_t before;

	if (TEST_ASAN || TEST_TSAN || !weiri_os_bars_merge())
		SKIP("mappings are counted, of a kernel with guard markers");
	NOT_UNDER_GUARD("another mode was in force before");
	cache = make(&kinds[0]);
	weir_cache_free(cache, take(cache));
	weiri_guard_clock = simulated;
	before = mappings();
	CHECK_EQ(weir_guard_set(
		     &(struct weir_guard_config){.mode = WEIR_GUARD_SAMPLE}),
	    0);
	for (int i = 0; i < OPS; i++) {
		simulated_ns += 1000;
		weir_cache_free(cache, take(cache));
	}
	/* Four seconds of them, more than are remembered. */
	CHECK_GT(figures().guarded, 2000);
	CHECK_GE(figures().quarantined, 1000);
	CHECK_LE(figures().bytes, (size_t)2 << 20);
	CHECK_LE(mappings(), before + 2);
	weir_cache_destroy(cache);
}

/* 400,000 in a long run, which takes 2 GiB; the system allows 65,530 mappings. */
TEST(objects_under_guard_share_their_mappings)
{
	const size_t count = test_count(40000);
	void **objects = calloc(count, sizeof(*objects));
	struct weir_cache *cache;
	size_t before, refused;

	if (!weiri_os_bars_merge())
		SKIP("this kernel has no guard markers");
	CHECK_NOT_NULL(objects);
	cache = make(&kinds[1]);
	for (size_t i = 0; i < count; i++)
		objects[i] = take(cache);
	weir_cache_free_bulk(cache, count, objects);
	before = mappings();
	guard(WEIR_GUARD_FULL, 0);
	weir_thread_poll();
	refused = figures().refused;
	for (size_t i = 0; i < count; i++)
		objects[i] = take(cache);
	CHECK_GE(figures().live, count);
	CHECK_EQ(figures().refused, refused);
	/* Two of ours, and a sanitizer has some of its own. */
	CHECK_LE(mappings(), before + (TEST_ASAN || TEST_TSAN ? 64 : 8));
	weir_cache_free_bulk(cache, count, objects);
	weir_cache_destroy(cache);
	free(objects);
}

/* As for memory that is locked.  What was marked before must open again. */
TEST(markers_that_are_refused_from_some_moment_on_are_replaced_by_protection)
{
	struct weir_cache *cache;
	char *marked, *barred;

	if (!weiri_os_bars_merge())
		SKIP("the system has no markers");
	guard(WEIR_GUARD_SAMPLE, 2);
	weir_thread_poll();
	cache = make(&kinds[0]);
	/* All places of samples come to be marked. */
	for (int i = 0; i < 6000; i++)
		weir_cache_free(cache, take(cache));
	guard(WEIR_GUARD_FULL, 0);
	weir_thread_poll();
	marked = take(cache);
	barred = take(cache);
	weir_cache_free(cache, marked);
	weiri_os_refuse_bars(true);
	weir_cache_free(cache, barred);
	CHECK(!weiri_os_bars_merge());
	EXPECT_ABORT(
	    "of an object that ended by free", { (void)peek(marked); });
	EXPECT_ABORT(
	    "of an object that ended by free", { (void)peek(barred); });
	/* They are used again, marked or not, and by more objects than before. */
	guard(WEIR_GUARD_SAMPLE, 2);
	weir_thread_poll();
	for (int i = 0; i < 6000; i++) {
		char *objects[3];

		for (int n = 0; n < 3; n++)
			memset(objects[n] = take(cache), n, 200);
		for (int n = 0; n < 3; n++) {
			CHECK_EQ(objects[n][199], n);
			weir_cache_free(cache, objects[n]);
		}
	}
	CHECK_EQ(figures().refused, 0);
	CHECK(weir_cache_check(cache));
	weir_cache_destroy(cache);
}
