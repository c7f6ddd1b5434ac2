/* SPDX-License-Identifier: MIT */
/*
 * test_storms.c - what comes seldom, all at once, beside threads that allocate in
 * pools of every kind: forks, births and deaths of threads, signals, the end of a
 * pool, the end of the process.
 *
 * Each object of the pools carries a mark while somebody has it, so that one that
 * is handed out twice meets itself, and the figures are exact once it is quiet.
 */
#include "support/test.h"

#include <weir/weir.h>

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { THREADS = 8, HELD = 40 };

#define MARK UINT64_C(0x73746f726d)

/* ---- pools of every kind --------------------------------------------------- */

struct pools {
	struct weir_cache *each, *batch;
	struct weir_heap *heap;
	struct weir_buffer_pool *buffers;
	struct weir_buddy *buddy;
	struct weir_bounded *bounded;
};

static void *
storage_of(size_t bytes)
{
	static _Alignas(64) char storage[64 << 10];

	CHECK_LE(bytes, sizeof(storage));
	return storage;
}

static void
pools_make(struct pools *pools)
{
	const struct weir_bounded_config bounded = {
	    .object_bytes = 64, .object_count = 512};
	size_t bytes = weir_bounded_storage_bytes(&bounded);

	CHECK_EQ(
	    weir_cache_create("storm",
		&(struct weir_cache_config){.object_bytes = 64}, &pools->each),
	    0);
	CHECK_EQ(weir_cache_create("storm/batch",
		     &(struct weir_cache_config){
			 .object_bytes = 200, .check = WEIR_CHECK_BATCH},
		     &pools->batch),
	    0);
	CHECK_EQ(weir_heap_create("storm", NULL, &pools->heap), 0);
	CHECK_EQ(weir_buffer_pool_create("storm", NULL, &pools->buffers), 0);
	CHECK_EQ(
	    weir_buddy_create("storm",
		&(struct weir_buddy_config){.unit_count = 4096}, &pools->buddy),
	    0);
	CHECK_EQ(weir_bounded_init(storage_of(bytes), bytes, "storm", &bounded,
		     &pools->bounded),
	    0);
}

static uint64_t
cache_in_use(struct weir_cache *cache)
{
	struct weir_pool_stats stats = {.size = sizeof(stats)};

	CHECK_EQ(weir_cache_stats(cache, &stats), 0);
	CHECK_EQ(stats.total, stats.in_use + stats.available);
	return stats.in_use;
}

/* Nothing is out, all invariants hold; destroying tells of live objects. */
static void
pools_end(struct pools *pools)
{
	CHECK_EQ(cache_in_use(pools->each), 0);
	CHECK_EQ(cache_in_use(pools->batch), 0);
	CHECK(weir_cache_check(pools->each));
	CHECK(weir_cache_check(pools->batch));
	CHECK(weir_heap_check(pools->heap));
	CHECK(weir_buffer_pool_check(pools->buffers));
	CHECK(weir_buddy_check(pools->buddy));
	CHECK(weir_bounded_check(pools->bounded));
	weir_cache_destroy(pools->each);
	weir_cache_destroy(pools->batch);
	weir_heap_destroy(pools->heap);
	weir_buffer_pool_destroy(pools->buffers);
	weir_buddy_destroy(pools->buddy);
	weir_bounded_finish(pools->bounded);
}

static void *
marked(void *object)
{
	CHECK_NOT_NULL(object);
	CHECK_NE(*(uint64_t *)object, MARK);
	*(uint64_t *)object = MARK;
	return object;
}

static void *
unmarked(void *object)
{
	CHECK_EQ(*(uint64_t *)object, MARK);
	*(uint64_t *)object = 0;
	return object;
}

static void
regions_round(void)
{
	struct weir_region *region, *child;
	struct weir_region_config below = {0};

	CHECK_EQ(weir_region_create(NULL, NULL, &region), 0);
	below.parent = region;
	CHECK_EQ(weir_region_create(NULL, &below, &child), 0);
	memset(weir_region_alloc(region, 3000), 1, 3000);
	memset(weir_region_alloc(child, 70000), 2, 70000);
	weir_region_reset(region);
	memset(weir_region_alloc(region, 500), 3, 500);
	weir_region_destroy(region);
}

/* A little of everything, and all of it given back. */
static void
pools_round(struct pools *pools)
{
	void *object[2][HELD], *bounded = weir_bounded_alloc(pools->bounded);
	uint64_t *block = weir_heap_alloc(pools->heap, 700);
	struct weir_buffer *buffer = weir_buffer_acquire(pools->buffers, 3000);
	size_t units = weir_buddy_alloc(pools->buddy, 5);

	CHECK_NOT_NULL(block);
	CHECK_NOT_NULL(buffer);
	CHECK_NE(units, WEIR_BUDDY_NONE);
	CHECK_NOT_NULL(bounded);
	*block = MARK;
	memset(buffer->data, 4, 3000);
	for (size_t i = 0; i < HELD; i++) {
		object[0][i] = marked(weir_cache_alloc(pools->each));
		object[1][i] = marked(weir_cache_alloc(pools->batch));
	}
	regions_round();
	for (size_t i = 0; i < HELD; i++) {
		weir_cache_free(pools->each, unmarked(object[0][i]));
		weir_cache_free(pools->batch, unmarked(object[1][i]));
	}
	CHECK_EQ(*block, MARK);
	weir_bounded_free(pools->bounded, bounded);
	weir_buddy_free(pools->buddy, units);
	weir_buffer_release(buffer);
	weir_heap_free(pools->heap, block);
}

/* ---- threads that do nothing else ---------------------------------------------- */

struct storm {
	struct pools pools;
	bool done, gentle;
	size_t rounds; /* of all threads */
};

static void *
storm_run(void *argument)
{
	struct storm *storm = argument;

	while (!__atomic_load_n(&storm->done, __ATOMIC_ACQUIRE)) {
		pools_round(&storm->pools);
		__atomic_fetch_add(&storm->rounds, 1, __ATOMIC_RELAXED);
		/* Room for the children where there are two processors. */
		if (storm->gentle)
			(void)nanosleep(
			    &(struct timespec){.tv_nsec = 20000}, NULL);
	}
	return NULL;
}

static void
storm_start(struct storm *storm, pthread_t *threads)
{
	pools_make(&storm->pools);
	for (size_t i = 0; i < THREADS; i++)
		CHECK_EQ(
		    pthread_create(&threads[i], NULL, storm_run, storm), 0);
}

static void
storm_stop(struct storm *storm, const pthread_t *threads)
{
	__atomic_store_n(&storm->done, true, __ATOMIC_RELEASE);
	for (size_t i = 0; i < THREADS; i++)
		CHECK_EQ(pthread_join(threads[i], NULL), 0);
	pools_end(&storm->pools);
}

/* Until the threads have done so many rounds more. */
static void
storm_wait(const struct storm *storm, size_t rounds)
{
	size_t until =
	    rounds + __atomic_load_n(&storm->rounds, __ATOMIC_RELAXED);

	while (__atomic_load_n(&storm->rounds, __ATOMIC_RELAXED) < until)
		(void)nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
}

/* ---- forks ------------------------------------------------------------------------ */

/* In the child the marks of the threads that are gone stay where they are: what
 * it is handed has none. */
static void
child_lives(struct storm *storm)
{
	struct weir_stats stats = {.size = sizeof(stats)};

	(void)alarm(100); /* a lock held for ever */
	pools_round(&storm->pools);
	pools_round(&storm->pools);
	CHECK_EQ(weir_stats_read(&stats), 0);
	(void)weir_maintain(UINT64_MAX);
	CHECK(weir_cache_check(storm->pools.each));
	CHECK(weir_cache_check(storm->pools.batch));
	CHECK(weir_heap_check(storm->pools.heap));
	CHECK(weir_buddy_check(storm->pools.buddy));
	pools_round(&storm->pools);
}

TEST_LIMIT(a_thousand_forks_beside_eight_threads, 200)
{
	static struct storm storm;
	pthread_t threads[THREADS];
	size_t forks = test_count(1000);

	/* gcc 12's runtime keeps its own locks across the fork: the child of a
	 * program with threads hangs in it, whatever the program does. */
	if (TEST_TSAN)
		SKIP("ThreadSanitizer does not follow a fork with threads");
	/* Else a child waits for its turn behind eight that never do. */
	storm.gentle = true;
	storm_start(&storm, threads);
	for (size_t i = 0; i < forks; i++) {
		int status;
		pid_t child = fork();

		CHECK_NE(child, -1);
		if (child == 0) {
			child_lives(&storm);
			_exit(0);
		}
		CHECK_EQ(waitpid(child, &status, 0), child);
		CHECK_EQ(status, 0);
	}
	storm_stop(&storm, threads);
}

/* ---- births and deaths -------------------------------------------------------------- */

enum { PLACES = 1024, BORN_AT_ONCE = 8, LEFT = 6 };

/* Objects whose thread is gone, for some later thread to free. */
struct estate {
	struct pools pools;
	struct {
		void *object;
		unsigned kind;
	} place[PLACES];
	pthread_mutex_t lock;
	uint64_t out[3]; /* of each kind: taken, and not given back */
};

struct born {
	struct estate *estate;
	uint64_t seed;
};

static void *
estate_take(struct estate *estate, unsigned kind)
{
	if (kind == 0)
		return marked(weir_cache_alloc(estate->pools.each));
	if (kind == 1)
		return marked(weir_cache_alloc(estate->pools.batch));
	return marked(weir_heap_calloc(estate->pools.heap, 1, 300));
}

static void
estate_free(struct estate *estate, unsigned kind, void *object)
{
	if (kind == 0)
		weir_cache_free(estate->pools.each, unmarked(object));
	else if (kind == 1)
		weir_cache_free(estate->pools.batch, unmarked(object));
	else
		weir_heap_free(estate->pools.heap, unmarked(object));
}

/* Puts one of its own in the place of what another has left, and frees that. */
static void
estate_exchange(struct estate *estate, size_t at, unsigned kind)
{
	void *object = estate_take(estate, kind), *old;
	unsigned old_kind;

	pthread_mutex_lock(&estate->lock);
	old = estate->place[at].object;
	old_kind = estate->place[at].kind;
	estate->place[at].object = object;
	estate->place[at].kind = kind;
	estate->out[kind]++;
	if (old != NULL)
		estate->out[old_kind]--;
	pthread_mutex_unlock(&estate->lock);
	if (old != NULL)
		estate_free(estate, old_kind, old);
}

static void *
born_live(void *argument)
{
	struct born *born = argument;
	struct test_rng rng;

	test_rng_init(&rng, born->seed);
	for (unsigned i = 0; i < LEFT; i++)
		estate_exchange(born->estate, test_rand_below(&rng, PLACES),
		    (unsigned)test_rand_below(&rng, 3));
	/* One in ten dies with its magazines full of many sizes. */
	if (test_rand_below(&rng, 10) == 0)
		pools_round(&born->estate->pools);
	return NULL;
}

TEST_LIMIT(ten_thousand_births_and_deaths_with_survivors, 120)
{
	static struct estate estate = {.lock = PTHREAD_MUTEX_INITIALIZER};
	size_t rounds = test_count(10000 / BORN_AT_ONCE);
	struct born born[BORN_AT_ONCE];
	pthread_t thread[BORN_AT_ONCE];
	struct test_rng rng;

	test_rng_init(&rng, test_seed());
	pools_make(&estate.pools);
	for (size_t round = 0; round < rounds; round++) {
		for (size_t i = 0; i < BORN_AT_ONCE; i++) {
			born[i] = (struct born){&estate, test_rand(&rng)};
			CHECK_EQ(pthread_create(
				     &thread[i], NULL, born_live, &born[i]),
			    0);
		}
		for (size_t i = 0; i < BORN_AT_ONCE; i++)
			CHECK_EQ(pthread_join(thread[i], NULL), 0);
		/* Only what was left is out: nothing went with its thread. */
		CHECK_EQ(cache_in_use(estate.pools.each), estate.out[0]);
		CHECK_EQ(cache_in_use(estate.pools.batch), estate.out[1]);
	}
	for (size_t i = 0; i < PLACES; i++)
		if (estate.place[i].object != NULL)
			estate_free(&estate, estate.place[i].kind,
			    estate.place[i].object);
	pools_end(&estate.pools);
}

/* ---- signals -------------------------------------------------------------------------- */

static struct {
	struct weir_bounded *pool;
	size_t handled, wrong;
} signals;

/* What is documented to be safe here: a bounded pool's calls, its figures
 * among them. */
static void
signal_handler(int number)
{
	struct weir_pool_stats stats = {.size = sizeof(stats)};
	void *object = weir_bounded_alloc(signals.pool);

	(void)number;
	if (object == NULL || weir_bounded_stats(signals.pool, &stats) != 0 ||
	    stats.total != stats.in_use + stats.available ||
	    stats.in_use == 0 || !weir_bounded_check(signals.pool))
		__atomic_fetch_add(&signals.wrong, 1, __ATOMIC_RELAXED);
	weir_bounded_free(signals.pool, object);
	__atomic_fetch_add(&signals.handled, 1, __ATOMIC_RELAXED);
}

/* Every system call, wait and critical section of the pools is interrupted. */
TEST_LIMIT(a_thousand_signals_a_second_read_statistics, 120)
{
	static struct storm storm;
	pthread_t threads[THREADS];
	size_t wanted = test_count(1000);
	struct sigaction action = {.sa_handler = signal_handler};
	struct sigevent event = {
	    .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
	const struct itimerspec every_ms = {
	    .it_interval = {.tv_nsec = 1000000}, .it_value = {.tv_nsec = 1}};
	timer_t timer;
	sigset_t mask;

	storm_start(&storm, threads);
	signals.pool = storm.pools.bounded;
	/* No SA_RESTART: what the system interrupts comes back as EINTR. */
	CHECK_EQ(sigaction(SIGUSR1, &action, NULL), 0);
	/* Not here, where nothing happens. */
	(void)sigemptyset(&mask);
	(void)sigaddset(&mask, SIGUSR1);
	CHECK_EQ(pthread_sigmask(SIG_BLOCK, &mask, NULL), 0);
	CHECK_EQ(timer_create(CLOCK_MONOTONIC, &event, &timer), 0);
	CHECK_EQ(timer_settime(timer, 0, &every_ms, NULL), 0);
	while (__atomic_load_n(&signals.handled, __ATOMIC_RELAXED) < wanted)
		(void)nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	storm_wait(&storm, THREADS);
	CHECK_EQ(timer_delete(timer), 0);
	storm_stop(&storm, threads);
	CHECK_EQ(signals.wrong, 0);
}

/* ---- the end of a pool ------------------------------------------------------------------ */

struct race {
	struct weir_cache *cache;
	pthread_barrier_t start;
	void *object[THREADS][HELD];
};

struct racer {
	struct race *race;
	size_t index;
};

static void *
race_free(void *argument)
{
	struct racer *racer = argument;
	struct race *race = racer->race;

	(void)pthread_barrier_wait(&race->start);
	for (size_t i = 0; i < HELD; i++)
		weir_cache_free(race->cache, race->object[racer->index][i]);
	return NULL;
}

/* The program's bug: nobody waits for those who free. */
static void
race_run(enum weir_check_level check, unsigned spins)
{
	static struct race race;
	struct racer racer[THREADS];
	pthread_t thread[THREADS];

	CHECK_EQ(
	    weir_cache_create("raced",
		&(struct weir_cache_config){.object_bytes = 64, .check = check},
		&race.cache),
	    0);
	for (size_t t = 0; t < THREADS; t++)
		for (size_t i = 0; i < HELD; i++)
			race.object[t][i] = weir_cache_alloc(race.cache);
	CHECK_EQ(pthread_barrier_init(&race.start, NULL, THREADS + 1), 0);
	for (size_t t = 0; t < THREADS; t++) {
		racer[t] = (struct racer){&race, t};
		CHECK_EQ(
		    pthread_create(&thread[t], NULL, race_free, &racer[t]), 0);
	}
	(void)pthread_barrier_wait(&race.start);
	for (volatile unsigned i = 0; i < spins; i++)
		;
	weir_cache_destroy(race.cache);
	for (size_t t = 0; t < THREADS; t++)
		CHECK_EQ(pthread_join(thread[t], NULL), 0);
}

/* Other pools never notice. */
static void
race_after(void)
{
	struct pools pools;

	pools_make(&pools);
	for (unsigned i = 0; i < 20; i++)
		pools_round(&pools);
	pools_end(&pools);
}

/* The exit status of a child that races, and what it said. */
static int
race_in_child(
    enum weir_check_level check, unsigned spins, char *said, size_t bytes)
{
	int ends[2], status;
	size_t has = 0;
	ssize_t got;
	pid_t child;

	CHECK_EQ(pipe(ends), 0);
	child = fork();
	CHECK_NE(child, -1);
	if (child == 0) {
		(void)dup2(ends[1], STDERR_FILENO);
		(void)alarm(100);
		race_run(check, spins);
		race_after();
		_exit(0);
	}
	(void)close(ends[1]);
	while ((got = read(ends[0], said + has, bytes - 1 - has)) > 0)
		has += (size_t)got;
	said[has] = '\0';
	(void)close(ends[0]);
	CHECK_EQ(waitpid(child, &status, 0), child);
	return status;
}

TEST_LIMIT(destroy_that_races_with_frees_is_clean_or_reported, 120)
{
	static char said[64 << 10];
	size_t races = test_count(200), clean = 0, reported = 0;
	struct test_rng rng;

	if (TEST_TSAN)
		SKIP("the race is the program's, and ThreadSanitizer says so");
	test_rng_init(&rng, test_seed());
	for (size_t i = 0; i < races; i++) {
		unsigned spins = 1u << test_rand_below(&rng, 20);
		int status = race_in_child(
		    i % 2 == 0 ? WEIR_CHECK_EACH : WEIR_CHECK_BATCH, spins,
		    said, sizeof(said));

		if (status == 0) {
			CHECK_STR(said, "");
			clean++;
			continue;
		}
		if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGABRT)
			FAIL("status %x: %s", (unsigned)status, said);
		CHECK_CONTAINS(said, "weir: FAULT ");
		reported++;
	}
	printf("%zu clean, %zu reported\n", clean, reported);
}

/* ---- the end of the process ----------------------------------------------------------------- */

TEST_LIMIT(exit_while_threads_allocate_ends_the_process_well, 120)
{
	size_t ends = test_count(TEST_TSAN ? 10 : 40);

	for (size_t i = 0; i < ends; i++) {
		int status;
		pid_t child = fork();

		CHECK_NE(child, -1);
		if (child == 0) {
			static struct storm storm;
			pthread_t threads[THREADS];

			(void)alarm(100);
			storm_start(&storm, threads);
			for (size_t t = 0; t < THREADS; t++)
				CHECK_EQ(pthread_detach(threads[t]), 0);
			storm_wait(&storm, 1 + i % 16);
			exit(0);
		}
		CHECK_EQ(waitpid(child, &status, 0), child);
		CHECK_EQ(status, 0);
	}
}
