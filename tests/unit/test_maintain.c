/* SPDX-License-Identifier: MIT */
/*
 * Giving idle memory back: weir_maintain(), its helper thread, and what a
 * thread keeps of pools it does not use.
 */
#include "os/os.h"
#include "pages/pages.h"
#include "pools/cache.h"
#include "support/test.h"

#include "base/decay.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <weir/weir.h>

#define MS UINT64_C(1000000)
#define KIB ((size_t)1024)
#define MIB ((size_t)1024 * KIB)

static struct weir_cache *
cache_make(size_t object_bytes, size_t prealloc)
{
	struct weir_cache *cache;

	CHECK_EQ(weir_cache_create("kept",
		     &(struct weir_cache_config){.object_bytes = object_bytes,
			 .prealloc = prealloc,
			 .check = WEIR_CHECK_BATCH},
		     &cache),
	    0);
	return cache;
}

static struct weir_pool_stats
cache_stats(struct weir_cache *cache)
{
	struct weir_pool_stats stats = {.size = sizeof(stats)};

	CHECK_EQ(weir_cache_stats(cache, &stats), 0);
	return stats;
}

static struct weir_stats
process_stats(void)
{
	struct weir_stats stats = {.size = sizeof(stats)};

	CHECK_EQ(weir_stats_read(&stats), 0);
	return stats;
}

/* Calls weir_maintain() for so long, as an event loop would. */
static void
maintain_for(uint64_t ms)
{
	uint64_t end = test_now_ns() + ms * MS;

	while (test_now_ns() < end) {
		(void)weir_maintain(MS / 5);
		usleep(500);
	}
}

/* ---- a spike ------------------------------------------------------------- */

enum { SIZES = 4 };

static const size_t spike_bytes[SIZES] = {64, 200, 1000, 8000};

struct spike {
	struct weir_cache *cache[SIZES];
	void **object[SIZES];
	size_t count[SIZES];
};

static size_t
resident_bytes(void)
{
	char line[128], *end;
	unsigned long resident;
	FILE *file = fopen("/proc/self/statm", "r");

	CHECK_NOT_NULL(file);
	CHECK_NOT_NULL(fgets(line, sizeof(line), file));
	fclose(file);
	(void)strtoul(line, &end, 10); /* the address space */
	resident = strtoul(end, NULL, 10);
	CHECK_GT(resident, 0);
	return resident * (size_t)sysconf(_SC_PAGESIZE);
}

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
	size_t before, high, after;

	if (TEST_ASAN || TEST_TSAN || test_under_valgrind())
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
	before = resident_bytes();
	spike_run(&spike, peak);
	high = resident_bytes();
	CHECK_GT(high, before + SIZES * peak / 2);
	maintain_for(DECAY_MS);
	after = resident_bytes();
	/* A busy machine may not have let this thread run in that time. */
	for (int i = 0; i < 100 && after > before + before / 5; i++) {
		maintain_for(100);
		after = resident_bytes();
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
	/* A page in sixteen stays, with the counts of its unit. */
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

/* ---- what threads keep ----------------------------------------------------- */

TEST(threads_cache_at_most_64_kib_or_8_objects_of_a_pool)
{
	NOT_UNDER_GUARD("nothing stays with threads");

	static const size_t sizes[] = {8, 16, 64, 500, 4000, 10000, 100000};
	enum { COUNT = 2000 };
	static void *object[COUNT];

	for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
		struct weir_cache *cache = cache_make(sizes[s], 0);
		size_t most = 64 * KIB > 8 * sizes[s] ? 64 * KIB : 8 * sizes[s];
		size_t count = sizes[s] > 8 * KIB ? 100 : COUNT;

		/* Often enough for magazines to grow as they may. */
		for (int round = 0; round < 50; round++) {
			for (size_t i = 0; i < count; i++)
				object[i] = weir_cache_alloc(cache);
			for (size_t i = 0; i < count; i++)
				weir_cache_free(cache, object[i]);
		}
		CHECK_LE(cache_stats(cache).cached * sizes[s], most);
		weir_cache_destroy(cache);
	}
}

TEST(maintain_empties_this_thread_s_magazines_of_unused_pools)
{
	NOT_UNDER_GUARD("nothing stays with threads");

	struct weir_cache *idle = cache_make(100, 0);
	struct weir_cache *used = cache_make(100, 0);
	void *held = weir_cache_alloc(used);

	weir_set_decay(64); /* a pass is due each millisecond */
	weir_cache_free(idle, weir_cache_alloc(idle));
	CHECK_GT(cache_stats(idle).cached, 0);
	for (int i = 0; i < 20; i++) {
		void *other = weir_cache_alloc(used);

		weir_cache_free(used, held);
		held = other;
		/* One more each time: in use, whatever the hour. */
		(void)!weir_cache_alloc(used);
		usleep(1200);
		(void)weir_maintain(UINT64_MAX);
		CHECK_EQ(cache_stats(used).in_use, (uint64_t)i + 2);
	}
	CHECK_EQ(cache_stats(idle).cached, 0);
	CHECK_GT(cache_stats(used).cached, 0);
	CHECK(weir_cache_check(idle));
	CHECK(weir_cache_check(used));
}

struct idler {
	struct weir_cache *cache;
	pthread_barrier_t barrier;
	bool poll;
};

static void *
idler_run(void *argument)
{
	struct idler *idler = argument;
	static void *object[400];

	for (size_t i = 0; i < 400; i++)
		object[i] = weir_cache_alloc(idler->cache);
	for (size_t i = 0; i < 400; i++)
		weir_cache_free(idler->cache, object[i]);
	pthread_barrier_wait(&idler->barrier); /* full magazines */
	pthread_barrier_wait(&idler->barrier); /* the spare is gone */
	for (int i = 0; i < 2 && idler->poll; i++) {
		weir_thread_poll();
		pthread_barrier_wait(&idler->barrier);
		pthread_barrier_wait(&idler->barrier); /* a pass came by */
	}
	pthread_barrier_wait(&idler->barrier);
	return NULL;
}

static void
pass(void)
{
	uint64_t round = weiri_local_round;

	while (weiri_local_round == round) {
		(void)weir_maintain(UINT64_MAX);
		usleep(500);
	}
	while (weir_maintain(UINT64_MAX))
		;
}

TEST(idle_threads_give_up_the_spare_and_when_polled_the_rest)
{
	NOT_UNDER_GUARD("nothing stays with threads");

	struct idler idler = {.cache = cache_make(100, 0), .poll = true};
	pthread_t thread;
	uint64_t full;

	weir_set_decay(64);
	pthread_barrier_init(&idler.barrier, NULL, 2);
	CHECK_EQ(pthread_create(&thread, NULL, idler_run, &idler), 0);
	pthread_barrier_wait(&idler.barrier);
	full = cache_stats(idler.cache).cached;
	CHECK_GT(full, 0);
	pass();
	pass();
	pass();
	CHECK_LT(cache_stats(idler.cache).cached, full);
	CHECK_GT(cache_stats(idler.cache).cached, 0);
	pthread_barrier_wait(&idler.barrier);
	for (int i = 0; i < 2; i++) {
		pthread_barrier_wait(&idler.barrier);
		pass();
		pthread_barrier_wait(&idler.barrier);
	}
	CHECK_EQ(cache_stats(idler.cache).cached, 0);
	pthread_barrier_wait(&idler.barrier);
	pthread_join(thread, NULL);
	CHECK(weir_cache_check(idler.cache));
	weir_cache_destroy(idler.cache);
}

static pthread_barrier_t busy_barrier;

static void
busy_fini(void *object, void *context)
{
	bool *stopped = context;

	(void)object;
	if (*stopped)
		return;
	*stopped = true;
	pthread_barrier_wait(&busy_barrier);
	pthread_barrier_wait(&busy_barrier);
}

static void *
busy_run(void *argument)
{
	struct weir_cache *slow = argument;

	weir_cache_free(slow, weir_cache_alloc(slow));
	/* The magazine, then the slab. */
	for (int i = 0; i < 8; i++)
		(void)weir_maintain(UINT64_MAX);
	return NULL;
}

/* A pass that another thread is at does not keep this one's magazines here. */
TEST(maintain_empties_this_thread_s_magazines_beside_a_pass_of_another)
{
	NOT_UNDER_GUARD("nothing stays with threads");

	struct weir_cache *idle = cache_make(100, 0), *slow;
	bool stopped = false;
	pthread_t thread;

	CHECK_EQ(weir_cache_create("slow",
		     &(struct weir_cache_config){.object_bytes = 1000,
			 .fini = busy_fini,
			 .context = &stopped},
		     &slow),
	    0);
	pthread_barrier_init(&busy_barrier, NULL, 2);
	weir_set_decay(0);
	weir_cache_free(idle, weir_cache_alloc(idle));
	(void)weir_maintain(UINT64_MAX); /* notes where the magazine is */
	CHECK_GT(cache_stats(idle).cached, 0);
	CHECK_EQ(pthread_create(&thread, NULL, busy_run, slow), 0);
	pthread_barrier_wait(&busy_barrier);
	CHECK(!weir_maintain(UINT64_MAX));
	CHECK_EQ(cache_stats(idle).cached, 0);
	pthread_barrier_wait(&busy_barrier);
	pthread_join(thread, NULL);
	weir_cache_destroy(slow);
	weir_cache_destroy(idle);
	pthread_barrier_destroy(&busy_barrier);
}

/* Threads that used many pools once, and idle. */
enum { LEFT_POOLS = 100, LEFT_THREADS = 4, LEFT_ROUNDS = 4 };

struct left {
	struct weir_cache *cache[LEFT_POOLS];
	pthread_barrier_t barrier;
};

static void *
left_run(void *argument)
{
	struct left *left = argument;

	for (size_t i = 0; i < LEFT_POOLS; i++) {
		void *object[300];

		CHECK_EQ(
		    weir_cache_alloc_bulk(left->cache[i], 300, object), 300);
		for (size_t k = 0; k < 300; k++)
			weir_cache_free(left->cache[i], object[k]);
	}
	pthread_barrier_wait(&left->barrier);
	for (size_t i = 0; i < LEFT_ROUNDS; i++) {
		pthread_barrier_wait(&left->barrier);
		weir_thread_poll();
		pthread_barrier_wait(&left->barrier);
	}
	pthread_barrier_wait(&left->barrier);
	return NULL;
}

static void
left_pass(struct left *left)
{
	pass();
	pthread_barrier_wait(&left->barrier);
	pthread_barrier_wait(&left->barrier);
}

/* No magazine, here or in the depot, no slab: what is left are the words of the
 * thread's cell. */
static void
left_check(const struct weiri_depot *depot)
{
	CHECK_EQ(depot->slab_count, 0);
	CHECK_EQ(depot->full_count, 0);
	CHECK_EQ(depot->empty_count, 0);
	weiri_local_lock();
	WEIRI_LOCAL_FOR(local)
	{
		CHECK_PTR(local->cursor[depot->cell], WEIRI_CURSOR_DUMMY);
		CHECK_EQ(local->spare[depot->cell], 0);
	}
	weiri_local_unlock();
}

TEST(idle_threads_keep_no_more_than_64_bytes_a_pool_after_maintain)
{
	NOT_UNDER_GUARD("nothing stays with threads");

	const struct weir_local *local = NULL;
	pthread_t thread[LEFT_THREADS];
	struct left left;

	CHECK_LE(sizeof(local->cursor[0]) + sizeof(local->spare[0]) +
		     sizeof(local->requests[0]),
	    64);
	weir_set_decay(0);
	for (size_t i = 0; i < LEFT_POOLS; i++)
		left.cache[i] = cache_make(100, 0);
	pthread_barrier_init(&left.barrier, NULL, LEFT_THREADS + 1);
	for (size_t i = 0; i < LEFT_THREADS; i++)
		CHECK_EQ(pthread_create(&thread[i], NULL, left_run, &left), 0);
	pthread_barrier_wait(&left.barrier);
	for (size_t i = 0; i < LEFT_POOLS; i++)
		CHECK_GE(cache_stats(left.cache[i]).cached, 8);
	for (size_t i = 0; i < LEFT_ROUNDS; i++)
		left_pass(&left);
	pass();
	for (size_t i = 0; i < LEFT_POOLS; i++)
		left_check(&left.cache[i]->depot);
	pthread_barrier_wait(&left.barrier);
	for (size_t i = 0; i < LEFT_THREADS; i++)
		pthread_join(thread[i], NULL);
	for (size_t i = 0; i < LEFT_POOLS; i++)
		weir_cache_destroy(left.cache[i]);
	pthread_barrier_destroy(&left.barrier);
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

/* ---- conservation ------------------------------------------------------------ */

enum { POOLS = 64 };

struct sums {
	uint64_t mapped, in_use;
};

/* Every law that stats.h states, to the byte; and the sums over all pools. */
static struct sums
check_conservation(void)
{
	static struct weir_pool_stats pool[POOLS];
	struct weir_stats stats;
	struct sums sums = {0, 0};
	size_t count;

	pool[0].size = sizeof(pool[0]);
	count = weir_stats_pools(pool, POOLS);
	CHECK_LE(count, POOLS);
	stats = process_stats();
	for (size_t i = 0; i < count; i++) {
		const struct weir_pool_stats *p = &pool[i];

		if (p->kind == WEIR_POOL_BUDDY || p->kind == WEIR_POOL_BOUNDED)
			continue;
		CHECK_EQ(p->bytes_mapped,
		    p->bytes_in_use + p->bytes_cached + p->bytes_idle +
			p->bytes_untouched + p->bytes_overhead);
		CHECK_EQ(p->total, p->in_use + p->available);
		CHECK_EQ(p->lost_in_fork, 0);
		sums.mapped += p->bytes_mapped;
		sums.in_use += p->bytes_in_use;
	}
	/* Objects of regions under guard are charged, and have no spans. */
	if (test_under_guard())
		CHECK_LE(
		    stats.bytes_in_spans, stats.bytes_shared + sums.mapped);
	else
		CHECK_EQ(
		    stats.bytes_in_spans, stats.bytes_shared + sums.mapped);
	CHECK_EQ(stats.bytes_charged,
	    stats.bytes_in_spans + stats.bytes_retained + stats.bytes_metadata);
	return sums;
}

struct mixed {
	struct weir_cache *cache[3];
	struct weir_buffer_pool *buffers;
	struct weir_heap *heap;
	struct weir_region *region;
	void *object[3][300];
	struct weir_buffer *buffer[60];
	void *block[200];
};

static void
mixed_fill(struct mixed *mixed, struct test_rng *rng)
{
	for (size_t c = 0; c < 3; c++)
		for (size_t i = 0; i < 300; i++)
			if (mixed->object[c][i] == NULL)
				mixed->object[c][i] =
				    weir_cache_alloc(mixed->cache[c]);
	for (size_t i = 0; i < 60; i++)
		if (mixed->buffer[i] == NULL)
			mixed->buffer[i] = weir_buffer_acquire(
			    mixed->buffers, 1 + test_rand_below(rng, 60000));
	for (size_t i = 0; i < 200; i++)
		if (mixed->block[i] == NULL)
			mixed->block[i] = weir_heap_alloc(
			    mixed->heap, 1 + test_rand_below(rng, 100000));
	if (mixed->region == NULL)
		CHECK_EQ(weir_region_create(NULL, NULL, &mixed->region), 0);
	(void)!weir_region_alloc(
	    mixed->region, 1 + test_rand_below(rng, 200000));
}

/* Gives back @part of 100 of what is out. */
static void
mixed_drain(struct mixed *mixed, struct test_rng *rng, uint64_t part)
{
	for (size_t c = 0; c < 3; c++)
		for (size_t i = 0; i < 300; i++)
			if (test_rand_below(rng, 100) < part) {
				weir_cache_free(
				    mixed->cache[c], mixed->object[c][i]);
				mixed->object[c][i] = NULL;
			}
	for (size_t i = 0; i < 60; i++)
		if (mixed->buffer[i] != NULL &&
		    test_rand_below(rng, 100) < part) {
			weir_buffer_release(mixed->buffer[i]);
			mixed->buffer[i] = NULL;
		}
	for (size_t i = 0; i < 200; i++)
		if (test_rand_below(rng, 100) < part) {
			weir_heap_free(mixed->heap, mixed->block[i]);
			mixed->block[i] = NULL;
		}
	if (mixed->region != NULL && test_rand_below(rng, 100) < part) {
		weir_region_destroy(mixed->region);
		mixed->region = NULL;
	}
}

struct mixed_thread {
	struct mixed *mixed;
	uint64_t seed;
};

/* Frees on another thread than the one that allocated. */
static void *
mixed_drain_thread(void *argument)
{
	struct mixed_thread *thread = argument;
	struct test_rng rng;

	test_rng_init(&rng, thread->seed);
	weir_region_take_over(thread->mixed->region);
	mixed_drain(thread->mixed, &rng, 60);
	if (thread->mixed->region != NULL)
		weir_region_hand_off(thread->mixed->region);
	return NULL;
}

TEST(every_byte_is_accounted_for_when_all_is_quiet)
{
	static struct mixed mixed;
	struct test_rng rng;
	size_t rounds = test_count(60);

	test_rng_init(&rng, test_seed());
	mixed.cache[0] = cache_make(40, 0);
	mixed.cache[1] = cache_make(3000, 100);
	CHECK_EQ(
	    weir_cache_create("each",
		&(struct weir_cache_config){.object_bytes = 200, .limit = 1000},
		&mixed.cache[2]),
	    0);
	CHECK_EQ(weir_buffer_pool_create("mixed",
		     &(struct weir_buffer_pool_config){0}, &mixed.buffers),
	    0);
	CHECK_EQ(weir_heap_create("mixed", NULL, &mixed.heap), 0);
	weir_set_decay(16);
	for (size_t round = 0; round < rounds; round++) {
		struct mixed_thread other = {&mixed, test_rand(&rng)};
		pthread_t thread;

		mixed_fill(&mixed, &rng);
		CHECK_GT(check_conservation().in_use, 300 * KIB);
		weir_region_hand_off(mixed.region);
		CHECK_EQ(
		    pthread_create(&thread, NULL, mixed_drain_thread, &other),
		    0);
		pthread_join(thread, NULL);
		if (mixed.region != NULL)
			weir_region_take_over(mixed.region);
		(void)check_conservation();
		mixed_drain(&mixed, &rng, 30);
		(void)weir_maintain(test_rand_below(&rng, 200000));
		(void)check_conservation();
		if (round % 16 == 15)
			(void)weir_trim();
		(void)check_conservation();
	}
	mixed_drain(&mixed, &rng, 100);
	CHECK_EQ(check_conservation().in_use, 0);
	(void)weir_trim();
	(void)check_conservation();
	for (size_t c = 0; c < 3; c++)
		weir_cache_destroy(mixed.cache[c]);
	weir_buffer_pool_destroy(mixed.buffers);
	weir_heap_destroy(mixed.heap);
	CHECK_EQ(check_conservation().mapped, 0);
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
