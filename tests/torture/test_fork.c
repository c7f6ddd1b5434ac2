/* SPDX-License-Identifier: MIT */
/*
 * fork() while other threads are inside the pools - allocating, freeing, giving
 * idle memory back: the child finds no lock held and no figure torn, can use
 * everything at once, is handed no object that somebody has, and knows what was
 * lost.
 */
#include "support/test.h"

#include <pthread.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <weir/weir.h>

enum { THREADS = 4, OBJECTS = 300, CACHES = 2, MAGAZINE = 126 };

/* In the first word of an object that somebody has. */
#define MARK_HELD UINT64_C(0x68656c64)
#define MARK_CHILD UINT64_C(0x6368696c64)

struct busy {
	struct weir_cache *cache[CACHES]; /* levels each and batch */
	struct weir_buffer_pool *buffers;
	struct weir_heap *heap;
	/* What each thread holds: NULL, or an object it has marked. */
	uint64_t *held[CACHES][THREADS][OBJECTS];
	bool done;
};

struct churner {
	struct busy *busy;
	size_t index;
};

/* The mark says that it is ours from here on ... */
static void
hold(struct busy *busy, size_t c, uint64_t **place)
{
	uint64_t *object = weir_cache_alloc(busy->cache[c]);

	CHECK_NOT_NULL(object);
	CHECK_EQ(__atomic_load_n(object, __ATOMIC_RELAXED), 0);
	__atomic_store_n(object, MARK_HELD, __ATOMIC_RELAXED);
	__atomic_store_n(place, object, __ATOMIC_RELEASE);
}

/* ... and up to here. */
static void
drop(struct busy *busy, size_t c, uint64_t **place)
{
	uint64_t *object = *place;

	__atomic_store_n(place, NULL, __ATOMIC_RELEASE);
	__atomic_store_n(object, 0, __ATOMIC_RELAXED);
	weir_cache_free(busy->cache[c], object);
}

static void *
churn(void *argument)
{
	struct churner *churner = argument;
	struct busy *busy = churner->busy;

	while (!__atomic_load_n(&busy->done, __ATOMIC_ACQUIRE)) {
		struct weir_buffer *buffer =
		    weir_buffer_acquire(busy->buffers, 3000);
		void *block = weir_heap_alloc(busy->heap, 700);
		struct weir_region *region;

		for (size_t c = 0; c < CACHES; c++)
			for (size_t i = 0; i < OBJECTS; i++)
				hold(
				    busy, c, &busy->held[c][churner->index][i]);
		if (weir_region_create(NULL, NULL, &region) == 0) {
			(void)!weir_region_alloc(region, 5000);
			(void)!weir_region_alloc(region, 50000);
			weir_region_destroy(region);
		}
		for (size_t c = 0; c < CACHES; c++)
			for (size_t i = 0; i < OBJECTS; i++)
				drop(
				    busy, c, &busy->held[c][churner->index][i]);
		weir_heap_free(busy->heap, block);
		weir_buffer_release(buffer);
	}
	return NULL;
}

/* Everything that moves memory the other way. */
static void *
give_back(void *argument)
{
	struct busy *busy = argument;

	for (unsigned i = 0; !__atomic_load_n(&busy->done, __ATOMIC_ACQUIRE);
	     i++) {
		(void)weir_maintain(i % 2 == 0 ? 20000 : UINT64_MAX);
		if (i % 8 == 0)
			(void)weir_cache_trim(busy->cache[i / 8 % CACHES]);
		if (i % 64 == 0)
			(void)weir_trim();
	}
	return NULL;
}

/* What the other threads held when the child began: they hold it for ever. */
static uint64_t
child_count_held(const struct busy *busy, size_t c)
{
	uint64_t count = 0;

	for (size_t t = 0; t < THREADS; t++)
		for (size_t i = 0; i < OBJECTS; i++)
			count += busy->held[c][t][i] != NULL;
	return count;
}

static void
child_check_figures(const struct busy *busy, size_t c)
{
	struct weir_pool_stats stats = {.size = sizeof(stats)};
	uint64_t held = child_count_held(busy, c);

	CHECK_EQ(weir_cache_stats(busy->cache[c], &stats), 0);
	CHECK_EQ(stats.total, stats.in_use + stats.available);
	CHECK_EQ(stats.bytes_mapped,
	    stats.bytes_in_use + stats.bytes_cached + stats.bytes_idle +
		stats.bytes_untouched + stats.bytes_overhead);
	/* One magazine and one object for each of the others, no more. */
	CHECK_LE(stats.lost_in_fork, (uint64_t)(THREADS + 2) * (MAGAZINE + 1));
	CHECK_GE(stats.in_use, held);
	CHECK_LE(stats.in_use, held + stats.lost_in_fork);
	CHECK(weir_cache_check(busy->cache[c]));
}

/* Takes all that is there and more: nothing of it is held, or comes twice. */
static void
child_take_all(struct busy *busy, size_t c)
{
	struct weir_pool_stats stats = {.size = sizeof(stats)};
	static uint64_t *taken[20000];
	size_t count;

	CHECK_EQ(weir_cache_stats(busy->cache[c], &stats), 0);
	count = stats.available + 1000;
	CHECK_LE(count, sizeof(taken) / sizeof(taken[0]));
	for (size_t i = 0; i < count; i++) {
		taken[i] = weir_cache_alloc(busy->cache[c]);
		CHECK_NOT_NULL(taken[i]);
		CHECK_NE(*taken[i], MARK_HELD);
		CHECK_NE(*taken[i], MARK_CHILD);
		*taken[i] = MARK_CHILD;
	}
	for (size_t t = 0; t < THREADS; t++)
		for (size_t i = 0; i < OBJECTS; i++)
			if (busy->held[c][t][i] != NULL)
				CHECK_EQ(*busy->held[c][t][i], MARK_HELD);
	for (size_t i = 0; i < count; i++) {
		*taken[i] = 0;
		weir_cache_free(busy->cache[c], taken[i]);
	}
}

/* In the child: everything again, in the one thread there is. */
static int
child_lives(struct busy *busy)
{
	for (size_t c = 0; c < CACHES; c++) {
		child_check_figures(busy, c);
		child_take_all(busy, c);
		child_check_figures(busy, c);
	}
	for (int round = 0; round < 3; round++) {
		struct weir_cache *cache;
		void *object;

		CHECK_EQ(weir_cache_create("child",
			     &(struct weir_cache_config){.object_bytes = 40},
			     &cache),
		    0);
		object = weir_cache_alloc(cache);
		CHECK_NOT_NULL(object);
		weir_cache_free(cache, object);
		CHECK(weir_cache_check(cache));
		weir_cache_destroy(cache);
		weir_heap_free(busy->heap, weir_heap_alloc(busy->heap, 900));
		(void)weir_maintain(UINT64_MAX);
		(void)weir_trim();
	}
	return 0;
}

static void
unmark(void *object, void *context)
{
	(void)context;
	*(uint64_t *)object = 0;
}

static void
busy_make(struct busy *busy)
{
	for (size_t c = 0; c < CACHES; c++)
		CHECK_EQ(weir_cache_create("busy",
			     &(struct weir_cache_config){.object_bytes = 200,
				 .init = unmark,
				 .check = c == 0 ? WEIR_CHECK_EACH
						 : WEIR_CHECK_BATCH},
			     &busy->cache[c]),
		    0);
	CHECK_EQ(weir_buffer_pool_create("busy",
		     &(struct weir_buffer_pool_config){0}, &busy->buffers),
	    0);
	CHECK_EQ(weir_heap_create("busy", NULL, &busy->heap), 0);
}

TEST_LIMIT(fork_in_the_middle_leaves_a_working_child, 120)
{
	static struct busy busy;
	struct churner churner[THREADS];
	pthread_t threads[THREADS + 1];
	size_t forks = test_count(60);

	busy_make(&busy);
	weir_set_decay(0);
	CHECK_EQ(weir_maintain_start(1), 0);
	for (size_t i = 0; i < THREADS; i++) {
		churner[i] = (struct churner){&busy, i};
		CHECK_EQ(
		    pthread_create(&threads[i], NULL, churn, &churner[i]), 0);
	}
	CHECK_EQ(pthread_create(&threads[THREADS], NULL, give_back, &busy), 0);
	for (size_t i = 0; i < forks; i++) {
		int status;
		pid_t child = fork();

		CHECK_NE(child, -1);
		if (child == 0)
			_exit(child_lives(&busy));
		CHECK_EQ(waitpid(child, &status, 0), child);
		CHECK_EQ(status, 0);
	}
	__atomic_store_n(&busy.done, true, __ATOMIC_RELEASE);
	for (size_t i = 0; i <= THREADS; i++)
		pthread_join(threads[i], NULL);
	weir_maintain_stop();
	for (size_t c = 0; c < CACHES; c++) {
		CHECK(weir_cache_check(busy.cache[c]));
		weir_cache_destroy(busy.cache[c]);
	}
	weir_buffer_pool_destroy(busy.buffers);
	weir_heap_destroy(busy.heap);
}

/* ---- at a certain point of a call ---------------------------------------- */

/* Another thread stops in a hook; there is nothing left to chance. */
struct stop {
	struct weir_cache *cache, *inner;
	pthread_barrier_t barrier;
	bool stopped;
	size_t count; /* of a bulk call; 0: a single one */
	void *objects[OBJECTS];
};

static void
stop_here(void *object, void *context)
{
	struct stop *stop = context;

	(void)object;
	if (__atomic_exchange_n(&stop->stopped, true, __ATOMIC_RELAXED))
		return;
	pthread_barrier_wait(&stop->barrier);
	pthread_barrier_wait(&stop->barrier); /* the child is made */
}

/* A hook that is in the middle of a call itself when the fork comes. */
static void
stop_within(void *object, void *context)
{
	struct stop *stop = context;

	(void)object;
	if (!stop->stopped)
		weir_cache_free(stop->inner, weir_cache_alloc(stop->inner));
}

static void *
stop_run(void *argument)
{
	struct stop *stop = argument;
	size_t got = 1;

	if (stop->count > 0)
		got = weir_cache_alloc_bulk(
		    stop->cache, stop->count, stop->objects);
	else
		stop->objects[0] = weir_cache_alloc(stop->cache);
	CHECK_EQ(got, stop->count > 0 ? stop->count : 1);
	weir_cache_free_bulk(stop->cache, got, stop->objects);
	return NULL;
}

/* The child has none of what the thread had in its hands, and can tell. */
static int
stop_child(struct weir_cache *cache, uint64_t least, uint64_t most)
{
	struct weir_pool_stats stats = {.size = sizeof(stats)};

	CHECK_EQ(weir_cache_stats(cache, &stats), 0);
	CHECK_GE(stats.in_use, least);
	CHECK_GE(stats.lost_in_fork, stats.in_use);
	CHECK_LE(stats.lost_in_fork, most);
	/* No objects are out that were not lost. */
	weir_cache_destroy(cache);
	return 0;
}

static void
stop_and_fork(struct stop *stop, uint64_t least, uint64_t most)
{
	pthread_t thread;
	pid_t child;
	int status;

	pthread_barrier_init(&stop->barrier, NULL, 2);
	CHECK_EQ(pthread_create(&thread, NULL, stop_run, stop), 0);
	pthread_barrier_wait(&stop->barrier);
	child = fork();
	CHECK_NE(child, -1);
	if (child == 0)
		_exit(stop_child(stop->cache, least, most));
	CHECK_EQ(waitpid(child, &status, 0), child);
	CHECK_EQ(status, 0);
	pthread_barrier_wait(&stop->barrier);
	pthread_join(thread, NULL);
	CHECK(weir_cache_check(stop->cache));
	weir_cache_destroy(stop->cache);
	pthread_barrier_destroy(&stop->barrier);
}

TEST(child_counts_what_a_bulk_call_had_in_its_hands)
{
	static const size_t counts[] = {5, 100, OBJECTS};

	for (size_t i = 0; i < 3; i++) {
		struct stop stop = {.count = counts[i]};

		/* All are in the array when the first one is constructed. */
		CHECK_EQ(weir_cache_create("bulk",
			     &(struct weir_cache_config){.object_bytes = 64,
				 .ctor = stop_here,
				 .context = &stop},
			     &stop.cache),
		    0);
		stop_and_fork(&stop, counts[i], counts[i] + MAGAZINE + 1);
	}
}

TEST(child_counts_what_a_call_had_that_a_hook_interrupts)
{
	struct stop stop = {.count = 0};

	CHECK_EQ(
	    weir_cache_create("inner",
		&(struct weir_cache_config){
		    .object_bytes = 64, .init = stop_here, .context = &stop},
		&stop.inner),
	    0);
	CHECK_EQ(
	    weir_cache_create("outer",
		&(struct weir_cache_config){
		    .object_bytes = 64, .init = stop_within, .context = &stop},
		&stop.cache),
	    0);
	/* The new objects that init is called for are in no magazine yet; where
	 * all are under guard it is one. */
	stop_and_fork(&stop, test_under_guard() ? 1 : 2, MAGAZINE + 1);
	weir_cache_destroy(stop.inner);
}
