/* SPDX-License-Identifier: MIT */
/*
 * test_maintain.c - giving idle memory back: weir_maintain() and its helper thread.
 */
#include "maintain_common.h"
#include "proc.h"

#include "base/decay.h"
#include "os/os.h"
#include "pages/pages.h"
#include "pools/cache.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

/* ---- a spike ------------------------------------------------------------- */

enum { SIZES = 4 };

static const size_t spike_bytes[SIZES] = {64, 200, 1000, 8000};

struct spike {
	struct weir_cache *cache[SIZES];
	void **object[SIZES];
	size_t count[SIZES];
};

static void
spike_alloc(struct spike *spike)
{
	for (size_t s = 0; s < SIZES; s++)
		for (size_t i = 0; i < spike->count[s]; i++) {
			spike->object[s][i] = weir_cache_alloc(spike->cache[s]);
			CHECK_NOT_NULL(spike->object[s][i]);
			memset(spike->object[s][i], 1, spike_bytes[s]);
		}
}

static void *
spike_free(void *argument)
{
	struct spike *spike = argument;

	for (size_t s = 0; s < SIZES; s++)
		for (size_t i = 0; i < spike->count[s]; i++)
			weir_cache_free(spike->cache[s], spike->object[s][i]);
	return NULL;
}

/* Allocates @bytes in each size, and has another thread free them. */
static void
spike_run(struct spike *spike, size_t bytes)
{
	pthread_t thread;

	for (size_t s = 0; s < SIZES; s++)
		spike->count[s] = bytes / spike_bytes[s];
	spike_alloc(spike);
	CHECK_EQ(pthread_create(&thread, NULL, spike_free, spike), 0);
	pthread_join(thread, NULL);
}

TEST(maintain_gives_a_spike_back_within_the_decay)
{
	NOT_UNDER_GUARD("what ended is remembered, which takes memory");

	enum { DECAY_MS = 800 };
	const size_t base = 256 * KIB, peak = 100 * base;
	struct spike spike, live;
	uint64_t before, high, after;

	if (!test_owns_memory())
		SKIP("the tool keeps memory of its own");
	weir_set_decay(DECAY_MS);
	for (size_t s = 0; s < SIZES; s++) {
		spike.cache[s] = cache_make(spike_bytes[s], 0);
		live.cache[s] = spike.cache[s];
		live.count[s] = base / spike_bytes[s];
		live.object[s] = calloc(live.count[s], sizeof(void *));
		spike.object[s] = calloc(peak / spike_bytes[s], sizeof(void *));
		/* The test's own memory is no part of the question. */
		memset(
		    spike.object[s], 1, peak / spike_bytes[s] * sizeof(void *));
	}
	/* What lives on is as old as the process. */
	spike_alloc(&live);
	spike_run(&spike, base);
	maintain_for(100);
	before = test_resident_bytes();
	spike_run(&spike, peak);
	high = test_resident_bytes();
	CHECK_GT(high, before + SIZES * peak / 2);
	maintain_for(DECAY_MS);
	after = test_resident_bytes();
	/* A busy machine may not have let this thread run in that time. */
	for (int i = 0; i < 100 && after > before + before / 5; i++) {
		maintain_for(100);
		after = test_resident_bytes();
	}
	printf("RSS %zu KiB before, %zu at the peak, %zu after\n", before / KIB,
	    high / KIB, after / KIB);
	CHECK_LE(after, before + before / 5);
	CHECK(weiri_pages_check());
	spike_free(&live);
	for (size_t s = 0; s < SIZES; s++) {
		CHECK(weir_cache_check(spike.cache[s]));
		weir_cache_destroy(spike.cache[s]);
		free(live.object[s]);
		free(spike.object[s]);
	}
}

/* A slope and not a cliff: between the spike and its end lie many levels. */
TEST(maintain_gives_back_little_by_little)
{
	enum { DECAY_MS = 600, COUNT = 20000 };
	static void *object[COUNT];
	struct weir_cache *cache = cache_make(1000, 0);
	uint64_t first, last = UINT64_MAX, end;
	unsigned levels = 0;

	weir_set_decay(DECAY_MS);
	for (size_t i = 0; i < COUNT; i++)
		object[i] = weir_cache_alloc(cache);
	first = cache_stats(cache).bytes_mapped;
	for (size_t i = 0; i < COUNT; i++)
		weir_cache_free(cache, object[i]);
	end = test_now_ns() + 10 * MS * DECAY_MS;
	while (cache_stats(cache).bytes_mapped > 0 && test_now_ns() < end) {
		uint64_t now;

		(void)weir_maintain(UINT64_MAX);
		now = cache_stats(cache).bytes_mapped;
		CHECK_LE(now, last);
		levels += now < last;
		last = now;
		usleep(1000);
	}
	CHECK_EQ(last, 0);
	printf("%llu KiB in %u levels\n", (unsigned long long)(first / KIB),
	    levels);
	/* Sixteen passes an epoch; a busy machine may skip some. */
	CHECK_GE(levels, 5);
	weir_cache_destroy(cache);
}

/* What swings faster than an epoch is needed, and stays. */
TEST(maintain_leaves_what_a_swinging_load_needs)
{
	enum { DECAY_MS = 2000, COUNT = 5000 };
	static void *object[COUNT];
	struct weir_cache *cache = cache_make(1000, 0);
	uint64_t mapped, end;

	weir_set_decay(DECAY_MS);
	for (size_t i = 0; i < COUNT; i++)
		object[i] = weir_cache_alloc(cache);
	mapped = cache_stats(cache).bytes_mapped;
	end = test_now_ns() + 1200 * MS;
	while (test_now_ns() < end) {
		for (size_t i = 0; i < COUNT; i++)
			weir_cache_free(cache, object[i]);
		maintain_for(20);
		for (size_t i = 0; i < COUNT; i++)
			object[i] = weir_cache_alloc(cache);
		maintain_for(20);
	}
	CHECK_EQ(cache_stats(cache).bytes_mapped, mapped);
	for (size_t i = 0; i < COUNT; i++)
		weir_cache_free(cache, object[i]);
	weir_cache_destroy(cache);
}

TEST(maintain_goes_on_where_its_budget_ended)
{
	enum { COUNT = 20000 };
	static void *object[COUNT];
	struct weir_cache *cache = cache_make(1000, 0);
	unsigned calls = 1;
	uint64_t before;

	weir_set_decay(0);
	for (size_t i = 0; i < COUNT; i++)
		object[i] = weir_cache_alloc(cache);
	for (size_t i = 0; i < COUNT; i++)
		weir_cache_free(cache, object[i]);
	before = cache_stats(cache).bytes_mapped;
	while (weir_maintain(1)) {
		uint64_t now = cache_stats(cache).bytes_mapped;

		/* One step: a magazine, or a slab. */
		CHECK_LE(before - now, 1 * MIB);
		before = now;
		calls++;
	}
	CHECK_GT(calls, 100);
	/* The loaded magazine goes once its thread was seen not to use it. */
	while (weir_maintain(UINT64_MAX) || cache_stats(cache).cached > 0)
		;
	while (weir_maintain(UINT64_MAX) || cache_stats(cache).total > 0)
		;
	CHECK_EQ(cache_stats(cache).bytes_mapped, 0);
	CHECK_LE(process_stats().bytes_retained, 2 * MIB);
	CHECK(weiri_pages_check());
	weir_cache_destroy(cache);
}

TEST(maintain_with_nothing_due_only_looks_at_the_clock)
{
	enum { CALLS = 100000 };
	struct weir_cache *cache = cache_make(64, 0);
	uint64_t round, begin;

	weir_cache_free(cache, weir_cache_alloc(cache));
	while (weir_maintain(UINT64_MAX))
		;
	(void)weir_maintain(UINT64_MAX);
	round = weiri_local_round;
	weiri_os_fail_nth(0, false); /* count from here */
	begin = test_now_ns();
	/* The default decay: the next pass is 150 ms away. */
	for (int i = 0; i < CALLS && test_now_ns() - begin < 50 * MS; i++)
		CHECK(!weir_maintain(MS));
	CHECK_EQ(weiri_os_calls(), 0);
	CHECK_LE(weiri_local_round, round + 1);
	weir_cache_destroy(cache);
}

TEST(maintain_never_gives_back_what_was_preallocated)
{
	enum { COUNT = 3000 };
	struct weir_cache *cache = cache_make(500, COUNT);
	uint64_t mapped = cache_stats(cache).bytes_mapped;
	static void *object[(size_t)2 * COUNT];

	weir_set_decay(0);
	for (size_t i = 0; i < (size_t)2 * COUNT; i++)
		object[i] = weir_cache_alloc(cache);
	for (size_t i = 0; i < (size_t)2 * COUNT; i++)
		weir_cache_free(cache, object[i]);
	CHECK_GT(cache_stats(cache).bytes_mapped, mapped);
	for (int i = 0; i < 10; i++)
		while (weir_maintain(UINT64_MAX))
			;
	CHECK_GE(cache_stats(cache).total, COUNT);
	/* But not more either, up to the slab that both share. */
	CHECK_LE(cache_stats(cache).bytes_mapped, mapped + 64 * KIB);
	weir_cache_destroy(cache);
}

TEST(maintain_with_decay_never_keeps_all)
{
	enum { COUNT = 5000 };
	static void *object[COUNT];
	struct weir_cache *cache = cache_make(500, 0);
	uint64_t mapped;

	weir_set_decay(WEIR_DECAY_NEVER);
	for (size_t i = 0; i < COUNT; i++)
		object[i] = weir_cache_alloc(cache);
	for (size_t i = 0; i < COUNT; i++)
		weir_cache_free(cache, object[i]);
	mapped = cache_stats(cache).bytes_mapped;
	for (int i = 0; i < 100; i++)
		CHECK(!weir_maintain(UINT64_MAX));
	CHECK_EQ(cache_stats(cache).bytes_mapped, mapped);
	weir_cache_destroy(cache);
}

TEST(maintain_gives_back_the_library_s_own_records)
{
	NOT_UNDER_GUARD("it keeps records of its own");

	enum { COUNT = 400000 };
	void **object = calloc(COUNT, sizeof(void *));
	struct weir_cache *cache = cache_make(16, 0);
	uint64_t before, high;

	weir_set_decay(0);
	weir_cache_free(cache, weir_cache_alloc(cache));
	before = process_stats().bytes_metadata;
	for (size_t i = 0; i < COUNT; i++)
		object[i] = weir_cache_alloc(cache);
	for (size_t i = 0; i < COUNT; i++)
		weir_cache_free(cache, object[i]);
	high = process_stats().bytes_metadata;
	CHECK_GT(high, before + 2 * MIB);
	for (int i = 0; i < 10; i++)
		while (weir_maintain(UINT64_MAX))
			;
	CHECK_LE(process_stats().bytes_metadata, before + (high - before) / 8);
	CHECK(weiri_pages_check());
	/* And they come again. */
	for (size_t i = 0; i < COUNT; i++)
		object[i] = weir_cache_alloc(cache);
	CHECK(weiri_pages_check());
	CHECK(weir_cache_check(cache));
	for (size_t i = 0; i < COUNT; i++)
		weir_cache_free(cache, object[i]);
	weir_cache_destroy(cache);
	free(object);
}

/* As threads do that end, or pools. */
TEST(maintain_gives_back_records_that_ended_in_other_ways)
{
	enum { COUNT = 4000, BYTES = 1024 };
	void **record = calloc(COUNT, sizeof(void *));
	uint64_t before, high, end = test_now_ns() + 20000 * MS;

	weir_set_decay(40);
	maintain_for(1);
	before = process_stats().bytes_metadata;
	for (size_t i = 0; i < COUNT; i++)
		record[i] = weiri_meta_alloc(BYTES);
	for (size_t i = 0; i < COUNT; i++)
		weiri_meta_free(record[i], BYTES);
	high = process_stats().bytes_metadata;
	CHECK_GT(high, before + 3 * MIB);
	/* A page of each MiB stays, with the counts of it. */
	while (process_stats().bytes_metadata > before + (high - before) / 32 &&
	       test_now_ns() < end)
		maintain_for(1);
	CHECK_LE(process_stats().bytes_metadata, before + (high - before) / 32);
	CHECK(weiri_pages_check());
	free(record);
}

/* Slabs that are owed go beside those that are due; that many more went must
 * not make all the rest late. */
TEST(decay_that_gave_more_than_was_due_is_not_late)
{
	struct weiri_decay decay = {0};

	weiri_decay_turn(&decay, 50);
	weiri_decay_done(&decay, 3);
	weiri_decay_turn(&decay, 47);
	CHECK_EQ(decay.late, 0);
}

/* ---- the helper thread ------------------------------------------------------ */

static unsigned
thread_count(void)
{
	char line[128];
	unsigned count = 0;
	FILE *file = fopen("/proc/self/status", "r");

	CHECK_NOT_NULL(file);
	while (fgets(line, sizeof(line), file) != NULL)
		if (strncmp(line, "Threads:", 8) == 0)
			count = (unsigned)strtoul(line + 8, NULL, 10);
	fclose(file);
	return count;
}

static uint64_t helper_blocked; /* the low 64 signals the thread has blocked */

static void
look_at_signals(void *object, void *context)
{
	sigset_t set;
	uint64_t blocked = 0;

	(void)object;
	(void)context;
	CHECK_EQ(pthread_sigmask(SIG_BLOCK, NULL, &set), 0);
	for (int number = 1; number < 32; number++)
		if (sigismember(&set, number) == 1)
			blocked |= UINT64_C(1) << number;
	__atomic_store_n(&helper_blocked, blocked, __ATOMIC_RELEASE);
}

TEST(helper_gives_back_without_a_call_of_the_program)
{
	enum { COUNT = 5000 };
	static void *object[COUNT];
	struct weir_cache *cache;
	unsigned threads = thread_count();
	uint64_t end;

	weir_set_decay(100);
	CHECK_EQ(weir_maintain_start(0), -EINVAL);
	CHECK_EQ(weir_maintain_start(3600001), -EINVAL);
	CHECK_EQ(weir_maintain_start(5), 0);
	CHECK_EQ(weir_maintain_start(5), -EALREADY);
	/* A tool may start threads of its own at any time. */
	if (!TEST_TSAN)
		CHECK_EQ(thread_count(), threads + 1);
	CHECK_EQ(weir_cache_create("seen",
		     &(struct weir_cache_config){
			 .object_bytes = 500, .fini = look_at_signals},
		     &cache),
	    0);
	for (size_t i = 0; i < COUNT; i++)
		object[i] = weir_cache_alloc(cache);
	for (size_t i = 0; i < COUNT; i++)
		weir_cache_free(cache, object[i]);
	end = test_now_ns() + 20000 * MS;
	while (cache_stats(cache).total > 1000 && test_now_ns() < end)
		usleep(1000);
	/* What stays is in this thread's loaded magazine. */
	CHECK_LE(cache_stats(cache).total, 1000);
	/* All that can be: SIGKILL (9) and SIGSTOP (19) cannot. */
	CHECK_EQ(__atomic_load_n(&helper_blocked, __ATOMIC_ACQUIRE) | 1u << 9 |
		     1u << 19,
	    0xfffffffeu);
	weir_maintain_stop();
	weir_maintain_stop();
	weir_cache_destroy(cache);
	CHECK_EQ(weir_maintain_start(1000), 0);
	(void)weir_shutdown();
	CHECK_EQ(weir_maintain_start(1000), 0);
	weir_maintain_stop();
}

TEST(helper_is_not_in_a_forked_child_and_can_be_started_there)
{
	pid_t child;
	int status;

	CHECK_EQ(weir_maintain_start(1), 0);
	for (int i = 0; i < 20; i++) {
		usleep(500);
		child = fork();
		CHECK_NE(child, -1);
		if (child == 0) {
			struct weir_cache *cache = cache_make(100, 0);

			CHECK(TEST_TSAN || thread_count() == 1);
			weir_cache_free(cache, weir_cache_alloc(cache));
			(void)weir_maintain(UINT64_MAX);
			/* ThreadSanitizer takes the new thread for the one
			 * that was left in the parent. */
			if (!TEST_TSAN) {
				CHECK_EQ(weir_maintain_start(1), 0);
				usleep(2000);
				weir_maintain_stop();
			}
			weir_cache_destroy(cache);
			_exit(0);
		}
		CHECK_EQ(waitpid(child, &status, 0), child);
		CHECK_EQ(status, 0);
	}
	weir_maintain_stop();
}

/* Pools come and go while passes visit them. */
static void
come_and_go(unsigned index, void *context)
{
	size_t rounds = test_count(300);

	(void)context;
	for (size_t i = 0; i < rounds; i++) {
		struct weir_cache *cache = cache_make(64 + 16 * (i % 50), 0);
		void *object[100];

		for (size_t o = 0; o < 100; o++)
			object[o] = weir_cache_alloc(cache);
		for (size_t o = 0; o < 100; o++)
			weir_cache_free(cache, object[o]);
		if (index == 0)
			(void)weir_maintain(10000);
		weir_cache_destroy(cache);
	}
}

TEST(pools_end_while_passes_visit_them)
{
	weir_set_decay(0);
	CHECK_EQ(weir_maintain_start(1), 0);
	test_threads(3, come_and_go, NULL);
	weir_maintain_stop();
	(void)weir_trim();
	CHECK(weiri_pages_check());
}
