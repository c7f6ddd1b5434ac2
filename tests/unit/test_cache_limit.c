/* SPDX-License-Identifier: MIT */
/*
 * test_cache_limit.c - what a cache does at its limit: waiting in order of arrival,
 * time-outs, limits that change; and the size of magazines, which follows how often
 * they are exchanged.
 */
#include "limit_common.h"

#define MS UINT64_C(1000000)

/* ---- waiting ------------------------------------------------------------- */

static void
waiters_are_served_in_order(size_t limit)
{
	struct weir_cache *cache = cache_make_waiting(limit, 0);
	struct waiter waiters[WAITERS];
	void *objects[LARGE];
	size_t served = 0;

	take_all(cache, objects, limit);
	for (int round = 0; round < 4; round++) {
		served = 0;
		waiters_start(waiters, cache, &served);
		for (size_t i = 0; i < WAITERS; i++) {
			weir_cache_free(cache, objects[i]);
			/* It is another's already: nobody takes it past him. */
			CHECK_NULL(weir_cache_alloc_wait(cache, 0));
			pthread_join(waiters[i].thread, NULL);
			CHECK_PTR(waiters[i].object, objects[i]);
			CHECK_EQ(waiters[i].turn, i);
		}
	}

	struct weir_pool_stats stats = cache_stats(cache);

	CHECK_EQ(stats.waits, FOUR_ROUNDS);
	CHECK_EQ(stats.wait_timeouts, 0);
	CHECK_EQ(stats.waiting, 0);
	CHECK_EQ(stats.wait_turns_max, WAITERS - 1);
	CHECK_EQ(stats.failures, FOUR_ROUNDS);
	give_all(cache, objects, limit);
	cache_end(cache);
}

TEST(waiters_are_served_in_order_of_arrival)
{
	NOT_UNDER_GUARD("an address is used again as late as can be");

	waiters_are_served_in_order(SMALL);
	waiters_are_served_in_order(LARGE);
}

static void
wait_ends_in_time(size_t limit)
{
	struct weir_cache *cache = cache_make_waiting(limit, 3 * MS);
	void *objects[LARGE];
	uint64_t begin_ns;

	take_all(cache, objects, limit);
	errno = 77;
	begin_ns = test_now_ns();
	CHECK_NULL(weir_cache_alloc_wait(cache, 5 * MS));
	CHECK_GE(test_now_ns() - begin_ns, 5 * MS);
	begin_ns = test_now_ns();
	CHECK_NULL(weir_cache_alloc(cache));
	CHECK_GE(test_now_ns() - begin_ns, 3 * MS);
	/* In bulk nothing waits. */
	CHECK_EQ(weir_cache_alloc_bulk(cache, 1, objects), 0);
	CHECK_EQ(errno, 77);

	struct weir_pool_stats stats = cache_stats(cache);

	CHECK_EQ(stats.waits, 2);
	CHECK_EQ(stats.wait_timeouts, 2);
	CHECK_EQ(stats.failures, 3);
	CHECK_EQ(stats.requests, limit + 3);
	CHECK_EQ(stats.hits + stats.misses, stats.requests);
	give_all(cache, objects, limit);
	cache_end(cache);
}

TEST(wait_ends_in_time_with_nothing)
{
	wait_ends_in_time(SMALL);
	wait_ends_in_time(LARGE);
}

TEST(wait_without_a_waiting_policy_is_a_plain_alloc)
{
	struct weir_cache *cache = cache_make(
	    &(struct weir_cache_config){.object_bytes = 64, .limit = 1});
	void *object = weir_cache_alloc_wait(cache, WEIR_WAIT_FOREVER);

	CHECK_NOT_NULL(object);
	CHECK_NULL(weir_cache_alloc_wait(cache, WEIR_WAIT_FOREVER));
	weir_cache_free(cache, object);
	cache_end(cache);
}

static void
hook_waits(void *object, void *context)
{
	/* Would never end: the caller holds all there is. */
	CHECK_NULL(weir_cache_alloc(context));
	memset(object, 1, 64);
}

TEST(wait_in_a_hook_fails_at_once)
{
	struct weir_cache *cache = cache_make_waiting(1, 0);
	struct weir_cache *hooked =
	    cache_make(&(struct weir_cache_config){.object_bytes = 64,
		.init = hook_waits,
		.fini = hook_waits,
		.ctor = hook_waits,
		.dtor = hook_waits,
		.context = cache});
	void *object = weir_cache_alloc(cache);
	void *other = weir_cache_alloc(hooked);

	CHECK_NOT_NULL(object);
	CHECK_NOT_NULL(other);
	weir_cache_free(hooked, other);
	cache_end(hooked);
	CHECK_GE(cache_stats(cache).failures, 4);
	weir_cache_free(cache, object);
	cache_end(cache);
}

/* ---- nothing is out of reach --------------------------------------------- */

struct idle_test {
	struct weir_cache *cache;
	pthread_barrier_t barrier;
	size_t count;
};

static void
idle_after_use(unsigned index, void *context)
{
	struct idle_test *test = context;
	void *objects[LARGE];

	if (index > 0) {
		for (int round = 0; round < 3; round++) {
			size_t got = weir_cache_alloc_bulk(
			    test->cache, test->count, objects);

			give_all(test->cache, objects, got);
		}
		pthread_barrier_wait(&test->barrier);
	} else {
		pthread_barrier_wait(&test->barrier);
		take_all(test->cache, objects, test->count);
		give_all(test->cache, objects, test->count);
	}
	pthread_barrier_wait(&test->barrier);
}

TEST(free_object_is_always_found_beside_idle_threads)
{
	const size_t limits[] = {SMALL, 511, 512, LARGE};

	for (size_t i = 0; i < 4; i++) {
		struct idle_test test = {
		    .cache = cache_make_waiting(limits[i], 0),
		    .count = limits[i]};

		pthread_barrier_init(&test.barrier, NULL, 9);
		test_threads(9, idle_after_use, &test);
		pthread_barrier_destroy(&test.barrier);
		cache_end(test.cache);
	}
}

/* An empty magazine that a thread takes is needed, and what is needed again and
 * again is not given back. */
TEST(waiting_cache_notes_the_empty_magazines_it_needs)
{
	struct weir_cache *cache = cache_make_waiting(LARGE, 0);
	struct weiri_depot *depot = &cache->depot;

	weir_set_decay(60000);
	weir_cache_free(cache, weir_cache_alloc(cache));
	/* The pocket's magazine into the depot, and the epoch begins with it. */
	CHECK_NULL(
	    weiri_depot_adopt(depot, weiri_local_tls)); /* nothing is bad */
	CHECK_EQ(depot->empty_count, 1);
	weiri_decay_turn(&depot->empty_decay, depot->empty_count);
	weir_cache_free(cache, weir_cache_alloc(cache));
	CHECK_EQ(depot->empty_count, 0);
	CHECK_EQ(depot->empty_decay.low, 0);
	cache_end(cache);
}

/* ---- limits that change -------------------------------------------------- */

static char message[256];

static void
keep_message(enum weir_message_level level, const char *line, void *context)
{
	(void)level;
	(void)context;
	(void)strncpy(message, line, sizeof(message) - 1);
}

static void
listen_to_messages(void)
{
	CHECK_EQ(weir_init(&(struct weir_config){.message = keep_message}), 0);
}

TEST(limit_below_what_is_in_use_is_refused_with_figures)
{
	listen_to_messages();

	struct weir_cache *cache = cache_make(
	    &(struct weir_cache_config){.object_bytes = 64, .limit = SMALL});
	void *objects[SMALL + 4];

	take_all(cache, objects, SMALL);
	CHECK_EQ(weir_cache_set_limit(cache, 10), -EBUSY);
	CHECK_STR(message, "weir_cache_set_limit: cache \"limited\": "
			   "limit 10 is below the "
			   "16 objects in being, 16 of them in use");
	CHECK_EQ(cache_stats(cache).limit, SMALL);
	CHECK_EQ(weir_cache_set_limit(cache, SMALL + 4), 0);
	take_all(cache, objects + SMALL, 4);
	CHECK_NULL(weir_cache_alloc(cache));
	give_all(cache, objects, SMALL + 4);
	/* What is not in use is no obstacle. */
	CHECK_EQ(weir_cache_set_limit(cache, 10), 0);
	take_all(cache, objects, 10);
	CHECK_NULL(weir_cache_alloc(cache));
	give_all(cache, objects, 10);
	CHECK_EQ(weir_cache_set_limit(cache, WEIR_LIMIT_NOTHING), 0);
	CHECK_NULL(weir_cache_alloc(cache));
	CHECK_EQ(weir_cache_set_limit(cache, 0), 0);
	take_all(cache, objects, SMALL + 4);
	give_all(cache, objects, SMALL + 4);
	cache_end(cache);
}

TEST(higher_limit_serves_those_who_wait)
{
	struct weir_cache *cache = cache_make_waiting(SMALL, 0);
	struct waiter waiters[WAITERS];
	void *objects[SMALL];
	size_t served = 0;

	take_all(cache, objects, SMALL);
	waiters_start(waiters, cache, &served);
	CHECK_EQ(weir_cache_set_limit(cache, SMALL + WAITERS), 0);
	for (size_t i = 0; i < WAITERS; i++) {
		pthread_join(waiters[i].thread, NULL);
		CHECK_NOT_NULL(waiters[i].object);
		weir_cache_free(cache, waiters[i].object);
	}
	give_all(cache, objects, SMALL);
	cache_end(cache);
}

TEST(lower_limit_holds_for_magazines_that_are_loaded)
{
	struct weir_cache *cache =
	    cache_make(&(struct weir_cache_config){.object_bytes = 64});
	void *objects[LARGE];

	for (int round = 0; round < 30; round++) {
		take_all(cache, objects, LARGE);
		give_all(cache, objects, LARGE);
	}
	CHECK_EQ(weir_cache_set_limit(cache, SMALL), 0);
	take_all(cache, objects, SMALL);
	CHECK_NULL(weir_cache_alloc(cache));
	CHECK_EQ(cache_stats(cache).total, SMALL);
	give_all(cache, objects, SMALL);
	/* Below a limit of 512 nothing stays with the thread. */
	CHECK_EQ(cache_stats(cache).cached, 0);
	cache_end(cache);
}

/* Threads with loaded magazines that a limit comes too late for. */
struct recall {
	struct weir_cache *cache;
	pthread_barrier_t barrier;
	void (*come)(struct weir_cache *cache); /* what brings them back */
};

static void
recall_poll(struct weir_cache *cache)
{
	(void)cache;
	weir_thread_poll();
}

static void
recall_maintain(struct weir_cache *cache)
{
	(void)cache;
	(void)weir_maintain(0);
}

/* More than its magazines have, so that they are exchanged. */
static void
recall_exchange(struct weir_cache *cache)
{
	void *objects[40];

	for (int i = 0; i < 2; i++)
		give_all(
		    cache, objects, weir_cache_alloc_bulk(cache, 40, objects));
}

static void *
recall_run(void *argument)
{
	struct recall *recall = argument;
	void *objects[8];

	take_all(recall->cache, objects, 8);
	give_all(recall->cache, objects, 8);
	for (int i = 0; i < 3; i++)
		pthread_barrier_wait(&recall->barrier);
	recall->come(recall->cache);
	for (int i = 0; i < 2; i++)
		pthread_barrier_wait(&recall->barrier);
	return NULL;
}

static size_t
take_what_is_there(struct weir_cache *cache, void **objects, size_t most)
{
	size_t got = 0;

	while (got < most && (objects[got] = weir_cache_alloc(cache)) != NULL)
		got++;
	return got;
}

static void
recall_begin(struct recall *recall, pthread_t *threads)
{
	recall->cache =
	    cache_make(&(struct weir_cache_config){.object_bytes = 64});
	pthread_barrier_init(&recall->barrier, NULL, WAITERS + 1);
	for (size_t i = 0; i < WAITERS; i++)
		CHECK_EQ(
		    pthread_create(&threads[i], NULL, recall_run, recall), 0);
	pthread_barrier_wait(&recall->barrier);
}

static void
recall_end(struct recall *recall, const pthread_t *threads)
{
	pthread_barrier_wait(&recall->barrier);
	for (size_t i = 0; i < WAITERS; i++)
		pthread_join(threads[i], NULL);
	pthread_barrier_destroy(&recall->barrier);
	cache_end(recall->cache);
}

static void
limit_calls_magazines_back(
    void (*come)(struct weir_cache *cache), bool to_the_last)
{
	struct recall recall = {.come = come};
	pthread_t threads[WAITERS];
	void *objects[LARGE];
	size_t limit, got;

	recall_begin(&recall, threads);
	take_all(recall.cache, objects, LARGE / 2);
	limit = cache_stats(recall.cache).total;
	/* All objects there are, and the threads have some. */
	CHECK_EQ(weir_cache_set_limit(recall.cache, limit), 0);
	CHECK_GT(WAITERS * 8, limit / 16);
	got = LARGE / 2;
	got += take_what_is_there(recall.cache, objects + got, LARGE - got);
	CHECK_LE(got, limit);
	/* What they exchange they have to find. */
	give_all(recall.cache, objects, LARGE / 2);
	got -= LARGE / 2;
	memmove(objects, objects + LARGE / 2, got * sizeof(*objects));
	pthread_barrier_wait(&recall.barrier);
	pthread_barrier_wait(&recall.barrier);
	pthread_barrier_wait(&recall.barrier);
	got += take_what_is_there(recall.cache, objects + got, LARGE - got);
	CHECK_GE(got, to_the_last ? limit : limit - limit / 16);
	CHECK_EQ(cache_stats(recall.cache).total, limit);
	give_all(recall.cache, objects, got);
	recall_end(&recall, threads);
}

TEST(lower_limit_calls_back_what_other_threads_have_loaded)
{
	limit_calls_magazines_back(recall_poll, true);
	limit_calls_magazines_back(recall_maintain, true);
	limit_calls_magazines_back(recall_exchange, false);
}

TEST(limit_refused_for_idle_magazines_is_granted_once_they_are_back)
{
	NOT_UNDER_GUARD("nothing stays with threads");

	struct recall recall = {.come = recall_poll};
	pthread_t threads[WAITERS];

	listen_to_messages();
	recall_begin(&recall, threads);
	CHECK_EQ(weir_cache_set_limit(recall.cache, SMALL), -EBUSY);
	CHECK_CONTAINS(message, " objects in being, 0 of them in use");
	pthread_barrier_wait(&recall.barrier);
	pthread_barrier_wait(&recall.barrier);
	pthread_barrier_wait(&recall.barrier);
	CHECK_EQ(weir_cache_set_limit(recall.cache, SMALL), 0);
	recall_end(&recall, threads);
}

/* ---- figures ------------------------------------------------------------- */

/* Two threads that move slots at the same moment may each miss what the other
 * does; the peak they leave behind must not cut what is in use for good. */
TEST(figures_of_a_quiet_cache_are_exact_whatever_the_peak_missed)
{
	struct weir_cache *cache =
	    cache_make(&(struct weir_cache_config){.object_bytes = 64});
	void *objects[100];

	take_all(cache, objects, 100);
	cache->depot.peak = 60;
	CHECK_EQ(cache_stats(cache).in_use, 100);
	CHECK_GE(cache_stats(cache).in_use_peak, 100);
	CHECK_EQ(cache_stats(cache).total, 100 + cache_stats(cache).available);
	give_all(cache, objects, 100);
	CHECK_GE(cache_stats(cache).in_use_peak, 100);
	cache_end(cache);
}

/* ---- the size of magazines ----------------------------------------------- */

TEST(magazines_start_small_and_grow_with_the_trips)
{
	NOT_UNDER_GUARD("nothing stays with threads");

	struct weir_cache *cache =
	    cache_make(&(struct weir_cache_config){.object_bytes = 64});
	void *objects[512];

	weir_cache_free(cache, weir_cache_alloc(cache));
	CHECK_LE(cache_stats(cache).cached, 8);
	for (int round = 0; round < 200; round++) {
		for (size_t i = 0; i < 512; i++)
			objects[i] = weir_cache_alloc(cache);
		give_all(cache, objects, 512);
	}
	CHECK_GT(cache_stats(cache).cached, 100);
	CHECK_LE(cache_stats(cache).cached, 252);
	CHECK(weir_cache_check(cache));

	/* Fewer trips: less than one in a hundred requests now. */
	struct weir_pool_stats before = cache_stats(cache), after;

	for (int round = 0; round < 100; round++) {
		for (size_t i = 0; i < 512; i++)
			objects[i] = weir_cache_alloc(cache);
		give_all(cache, objects, 512);
	}
	after = cache_stats(cache);
	CHECK_LE((after.misses - before.misses) * 100,
	    after.requests - before.requests);
	cache_end(cache);
}

TEST(magazines_of_a_used_cache_are_no_larger_than_their_class)
{
	const size_t sizes[] = {64, 512, 1024, 4096, 32768};

	for (size_t s = 0; s < 5; s++) {
		struct weir_cache *cache = cache_make(
		    &(struct weir_cache_config){.object_bytes = sizes[s]});
		size_t most = 32768 / sizes[s];
		void *objects[256];

		most = most < 4 ? 4 : most > 126 ? 126 : most;
		for (int round = 0; round < 100; round++) {
			for (size_t i = 0; i < 256; i++)
				objects[i] = weir_cache_alloc(cache);
			give_all(cache, objects, 256);
		}
		CHECK_LE(cache_stats(cache).cached, 2 * most);
		cache_end(cache);
	}
}

/* ---- bad input ----------------------------------------------------------- */

TEST(senseless_policies_are_refused)
{
	const struct {
		struct weir_cache_config config;
		const char *message;
	} bad[] = {
	    {{.policy = (enum weir_limit_policy)3}, "policy is 3; allowed: "},
	    {{.timeout_ns = 1}, "timeout_ns is 1; allowed: 0 without"},
	    {{.policy = WEIR_LIMIT_NOTIFY, .limit = 4}, "notify is 0; allowed"},
	    {{.policy = WEIR_LIMIT_NOTIFY, .notify = tell},
		"notify_at is 0; allowed: 1 or more"},
	    {{.policy = WEIR_LIMIT_NOTIFY,
		 .notify = tell,
		 .limit = 4,
		 .notify_at = 4},
		"notify_at is 4; allowed: 0 .. 3"},
	    {{.policy = WEIR_LIMIT_NOTIFY, .notify_fd = -1, .limit = 4},
		"notify_fd is 4294967295; allowed"},
	    {{.notify = tell}, "policy is 0; allowed: 2"},
	    {{.notify_at = 4}, "notify_at is 4; allowed: 0 without"},
	};

	listen_to_messages();
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct weir_cache_config config = bad[i].config;
		struct weir_cache *cache;

		config.object_bytes = 64;
		CHECK_EQ(weir_cache_create("bad", &config, &cache), -EINVAL);
		CHECK_NULL(cache);
		CHECK_CONTAINS(message, bad[i].message);
	}
}
