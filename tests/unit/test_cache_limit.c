/* SPDX-License-Identifier: MIT */
/*
 * What a cache does at its limit: waiting in order of arrival, time-outs, word
 * that there is room again, limits that change, budgets that several caches
 * share; and the size of magazines, which follows how often they are exchanged.
 */
#include "pools/cache.h"
#include "support/test.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <weir/weir.h>

#define MS UINT64_C(1000000)

/* A limit that is served through the lock, and one with magazines. */
enum { SMALL = 16, LARGE = 1024, WAITERS = 8, FOUR_ROUNDS = 4 * WAITERS };

static struct weir_cache *
cache_make(const struct weir_cache_config *config)
{
	struct weir_cache *cache;

	CHECK_EQ(weir_cache_create("limited", config, &cache), 0);
	return cache;
}

static struct weir_cache *
cache_make_waiting(size_t limit, uint64_t timeout_ns)
{
	return cache_make(&(struct weir_cache_config){.object_bytes = 64,
	    .limit = limit,
	    .policy = WEIR_LIMIT_WAIT,
	    .timeout_ns = timeout_ns});
}

static struct weir_pool_stats
cache_stats(struct weir_cache *cache)
{
	struct weir_pool_stats stats = {.size = sizeof(stats)};

	CHECK_EQ(weir_cache_stats(cache, &stats), 0);
	return stats;
}

static void
cache_end(struct weir_cache *cache)
{
	CHECK_EQ(cache_stats(cache).in_use, 0);
	CHECK(weir_cache_check(cache));
	weir_cache_destroy(cache);
}

static void
take_all(struct weir_cache *cache, void **objects, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		objects[i] = weir_cache_alloc_wait(cache, 0);
		CHECK_NOT_NULL(objects[i]);
	}
}

static void
give_all(struct weir_cache *cache, void **objects, size_t count)
{
	for (size_t i = 0; i < count; i++)
		weir_cache_free(cache, objects[i]);
}

static void
await_waiting(struct weir_cache *cache, uint64_t count)
{
	while (cache_stats(cache).waiting != count)
		usleep(100);
}

/* ---- waiting ------------------------------------------------------------- */

struct waiter {
	struct weir_cache *cache;
	pthread_t thread;
	void *object;
	size_t *served;
	size_t turn; /* when it was served, by its own account */
	uint64_t timeout_ns;
};

static void *
waiter_run(void *argument)
{
	struct waiter *waiter = argument;

	waiter->object =
	    weir_cache_alloc_wait(waiter->cache, waiter->timeout_ns);
	waiter->turn = __atomic_fetch_add(waiter->served, 1, __ATOMIC_RELAXED);
	return NULL;
}

/* Each is in the queue before the next one comes. */
static void
waiters_start(struct waiter *waiters, struct weir_cache *cache, size_t *served)
{
	for (size_t i = 0; i < WAITERS; i++) {
		waiters[i] = (struct waiter){.cache = cache,
		    .served = served,
		    .timeout_ns = WEIR_WAIT_FOREVER};
		CHECK_EQ(pthread_create(
			     &waiters[i].thread, NULL, waiter_run, &waiters[i]),
		    0);
		await_waiting(cache, i + 1);
	}
}

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

/* ---- notification -------------------------------------------------------- */

struct told {
	unsigned calls;
	void *taken[LARGE];
	size_t count, want;
};

/* Takes up to `want` objects, which may fail and is then due again. */
static void
tell(struct weir_cache *cache, void *context)
{
	struct told *told = context;

	told->calls++;
	for (size_t i = 0; i < told->want; i++) {
		void *object = weir_cache_alloc(cache);

		if (object != NULL)
			told->taken[told->count++] = object;
	}
}

static void
notification_comes_once(enum weir_check_level check, size_t limit)
{
	struct told told = {.calls = 0};
	int fd = eventfd(0, EFD_NONBLOCK);
	struct weir_cache *cache =
	    cache_make(&(struct weir_cache_config){.object_bytes = 64,
		.limit = limit,
		.check = check,
		.policy = WEIR_LIMIT_NOTIFY,
		.notify_at = limit / 2,
		.notify = tell,
		.notify_context = &told,
		.notify_fd = fd});
	void *objects[LARGE];
	uint64_t count;

	CHECK_GE(fd, 0);
	for (unsigned round = 1; round <= 3; round++) {
		take_all(cache, objects, limit);
		give_all(cache, objects, limit);
		/* Nobody was refused. */
		CHECK_EQ(told.calls, round - 1);
		take_all(cache, objects, limit);
		CHECK_NULL(weir_cache_alloc(cache));
		give_all(cache, objects, limit / 2 - 1);
		CHECK_EQ(told.calls, round - 1);
		weir_cache_free(cache, objects[limit / 2 - 1]);
		CHECK_EQ(told.calls, round);
		give_all(cache, objects + limit / 2, limit / 2);
		CHECK_EQ(told.calls, round);
		CHECK_EQ(read(fd, &count, sizeof(count)), sizeof(count));
		CHECK_EQ(count, 1);
	}
	cache_end(cache);
	CHECK_EQ(close(fd), 0);
}

TEST(notification_comes_once_for_failures_when_the_use_is_low)
{
	notification_comes_once(WEIR_CHECK_EACH, SMALL);
	notification_comes_once(WEIR_CHECK_BATCH, SMALL);
	notification_comes_once(WEIR_CHECK_EACH, LARGE);
	notification_comes_once(WEIR_CHECK_BATCH, LARGE);
}

/* The default of notify_at, down to a limit of one: full is never low. */
TEST(notification_waits_for_room_at_small_limits)
{
	for (size_t limit = 1; limit <= 9; limit++) {
		struct told told = {.calls = 0};
		struct weir_cache *cache =
		    cache_make(&(struct weir_cache_config){.object_bytes = 64,
			.limit = limit,
			.policy = WEIR_LIMIT_NOTIFY,
			.notify = tell,
			.notify_context = &told});
		void *objects[9];

		take_all(cache, objects, limit);
		CHECK_NULL(weir_cache_alloc(cache));
		CHECK_NULL(weir_cache_alloc(cache));
		CHECK_EQ(told.calls, 0);
		give_all(cache, objects, limit);
		CHECK_EQ(told.calls, 1);
		cache_end(cache);
	}
}

TEST(notification_comes_when_the_limit_is_raised)
{
	struct told told = {.calls = 0};
	struct weir_cache *cache =
	    cache_make(&(struct weir_cache_config){.object_bytes = 64,
		.limit = 100,
		.policy = WEIR_LIMIT_NOTIFY,
		.notify = tell,
		.notify_context = &told});
	void *objects[100];

	take_all(cache, objects, 100);
	CHECK_NULL(weir_cache_alloc(cache));
	CHECK_EQ(told.calls, 0);
	CHECK_EQ(weir_cache_set_limit(cache, 1000), 0);
	CHECK_EQ(told.calls, 1);
	give_all(cache, objects, 100);
	cache_end(cache);
}

TEST(notified_function_may_use_the_cache)
{
	struct told told = {.want = SMALL};
	void *objects[SMALL];
	struct weir_cache *cache =
	    cache_make(&(struct weir_cache_config){.object_bytes = 64,
		.limit = SMALL,
		.policy = WEIR_LIMIT_NOTIFY,
		.notify_at = SMALL / 2,
		.notify = tell,
		.notify_context = &told});

	take_all(cache, objects, SMALL);
	CHECK_NULL(weir_cache_alloc(cache));
	give_all(cache, objects, SMALL / 2);
	/* It took what there was, and more, and is not called from within. */
	CHECK_EQ(told.calls, 1);
	CHECK_EQ(told.count, SMALL / 2);
	told.want = 0;
	give_all(cache, objects + SMALL / 2, SMALL / 2);
	CHECK_EQ(told.calls, 2);
	give_all(cache, told.taken, told.count);
	CHECK_EQ(told.calls, 2);
	cache_end(cache);
}

static void
free_a_share(unsigned index, void *context)
{
	void **objects = context;
	struct weir_cache *cache = objects[LARGE];

	give_all(cache, objects + (size_t)index * (LARGE / 4), LARGE / 4);
}

TEST(notification_is_not_lost_among_threads_that_free)
{
	struct told told = {.calls = 0};
	void *objects[LARGE + 1];
	struct weir_cache *cache =
	    cache_make(&(struct weir_cache_config){.object_bytes = 64,
		.limit = LARGE,
		.policy = WEIR_LIMIT_NOTIFY,
		.notify_at = 1,
		.notify = tell,
		.notify_context = &told});

	objects[LARGE] = cache;
	for (unsigned round = 1; round <= 50; round++) {
		take_all(cache, objects, LARGE);
		CHECK_NULL(weir_cache_alloc(cache));
		test_threads(4, free_a_share, objects);
		CHECK_EQ(told.calls, round);
	}
	cache_end(cache);
}

/* ---- notification: hooks ------------------------------------------------- */

/* An object and the part of it that its dtor frees. */
struct whole {
	struct weir_cache *parts;
	struct weir_cache *inner; /* or NULL: the hook is not the outermost */
	void *part;
	struct told *told;
	unsigned told_inside;
};

static void
whole_give(void *object, void *context)
{
	struct whole *whole = context;

	(void)object;
	weir_cache_free(whole->parts, whole->part);
	whole->part = NULL;
	whole->told_inside += whole->told->calls;
}

static void
whole_enter(void *object, void *context)
{
	struct whole *whole = context;

	(void)object;
	if (whole->part == NULL)
		return;
	weir_cache_free(whole->inner, weir_cache_alloc(whole->inner));
	whole->told_inside += whole->told->calls;
}

enum hook { INIT, FINI, CTOR, DTOR, HOOKS };

static struct weir_cache *
whole_make(enum hook hook, weir_cache_hook_fn run, struct whole *whole)
{
	return cache_make(&(struct weir_cache_config){.object_bytes = 64,
	    .init = hook == INIT ? run : NULL,
	    .fini = hook == FINI ? run : NULL,
	    .ctor = hook == CTOR ? run : NULL,
	    .dtor = hook == DTOR ? run : NULL,
	    .context = whole});
}

static void
whole_life(struct weir_cache *cache)
{
	weir_cache_free(cache, weir_cache_alloc(cache));
	(void)weir_cache_trim(cache);
}

static void
free_in_a_hook_notifies_after_it(enum hook hook, bool nested, size_t limit)
{
	struct told told = {.want = 1};
	struct whole whole = {.told = &told};
	struct weir_cache *outer;
	void *objects[LARGE];

	whole.parts = cache_make(&(struct weir_cache_config){.object_bytes = 64,
	    .limit = limit,
	    .policy = WEIR_LIMIT_NOTIFY,
	    .notify_at = limit - 1,
	    .notify = tell,
	    .notify_context = &told});
	take_all(whole.parts, objects, limit);
	whole.inner = NULL;
	outer = whole_make(nested ? DTOR : hook, whole_give, &whole);
	if (nested) {
		whole.inner = outer;
		outer = whole_make(hook, whole_enter, &whole);
	}
	CHECK_NULL(weir_cache_alloc(whole.parts));
	whole.part = objects[0];
	if (hook == FINI) {
		void *part = whole.part;

		/* Only the end of the memory calls it. */
		whole.part = NULL;
		weir_cache_free(outer, weir_cache_alloc(outer));
		whole.part = part;
		(void)weir_cache_trim(outer);
	} else {
		weir_cache_free(outer, weir_cache_alloc(outer));
	}
	CHECK_EQ(whole.told_inside, 0);
	CHECK_EQ(told.calls, 1);
	/* The one it was told of is to be had. */
	CHECK_EQ(told.count, 1);
	CHECK_PTR(told.taken[0], objects[0]);
	give_all(whole.parts, objects, limit);
	whole_life(outer);
	cache_end(outer);
	if (nested)
		cache_end(whole.inner);
	cache_end(whole.parts);
}

TEST(free_inside_a_hook_notifies_when_the_outermost_ends)
{
	NOT_UNDER_GUARD("init and fini run at each use");

	for (enum hook hook = INIT; hook < HOOKS; hook++) {
		free_in_a_hook_notifies_after_it(hook, false, 1);
		free_in_a_hook_notifies_after_it(hook, false, LARGE);
		free_in_a_hook_notifies_after_it(hook, true, SMALL);
	}
}

static void
free_one(void *object, void *context)
{
	void **pair = context;

	(void)object;
	if (pair[1] != NULL)
		weir_cache_free(pair[0], pair[1]);
	pair[1] = NULL;
}

TEST(free_inside_a_hook_serves_who_waits)
{
	NOT_UNDER_GUARD("an address is used again as late as can be");

	struct weir_cache *cache = cache_make_waiting(WAITERS, 0);
	void *objects[WAITERS], *pair[2] = {cache, NULL};
	struct waiter waiters[WAITERS];
	size_t served = 0;
	struct weir_cache *outer =
	    cache_make(&(struct weir_cache_config){.object_bytes = 64,
		.ctor = free_one,
		.dtor = free_one,
		.context = pair});

	take_all(cache, objects, WAITERS);
	waiters_start(waiters, cache, &served);
	for (size_t i = 0; i < WAITERS; i += 2) {
		void *object;

		pair[1] = objects[i];
		object = weir_cache_alloc(outer);
		pthread_join(waiters[i].thread, NULL);
		CHECK_PTR(waiters[i].object, objects[i]);
		pair[1] = objects[i + 1];
		weir_cache_free(outer, object);
		pthread_join(waiters[i + 1].thread, NULL);
		CHECK_PTR(waiters[i + 1].object, objects[i + 1]);
	}
	give_all(cache, objects, WAITERS);
	cache_end(outer);
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

/* ---- shared budgets ------------------------------------------------------ */

static struct weir_quota_figures
quota_stats(const struct weir_quota *quota)
{
	struct weir_quota_figures stats = {.size = sizeof(stats)};

	CHECK_EQ(weir_quota_stats(quota, &stats), 0);
	return stats;
}

TEST(quota_bounds_the_memory_of_its_caches_together)
{
	enum { SLAB = 64 << 10, LIMIT = 4 * SLAB, MOST = 2048 };
	static void *objects[MOST];
	struct weir_quota *quota;
	struct weir_cache *first, *second;
	size_t got = 0;

	CHECK_EQ(weir_quota_create("tenant", LIMIT, &quota), 0);
	first = cache_make(
	    &(struct weir_cache_config){.object_bytes = 256, .quota = quota});
	second = cache_make(
	    &(struct weir_cache_config){.object_bytes = 128, .quota = quota});
	CHECK_EQ(quota_stats(quota).pools, 2);
	while (got < MOST && (objects[got] = weir_cache_alloc(first)) != NULL)
		got++;
	CHECK_GE(got, (LIMIT - SLAB) / 288);
	CHECK_LE(got, LIMIT / 256);
	CHECK_EQ(quota_stats(quota).used_bytes, LIMIT);
	CHECK_GE(quota_stats(quota).failures, 1);
	CHECK_NULL(weir_cache_alloc(second));
	CHECK_EQ(cache_stats(second).failures, 1);

	/* By the slab: free objects count until they are given back. */
	give_all(first, objects, got);
	CHECK_EQ(quota_stats(quota).used_bytes, LIMIT);
	(void)weir_cache_trim(first);
	CHECK_EQ(quota_stats(quota).used_bytes, 0);
	CHECK_EQ(quota_stats(quota).peak_bytes, LIMIT);
	objects[0] = weir_cache_alloc(second);
	CHECK_NOT_NULL(objects[0]);

	/* Lowered below what is used: nobody grows. */
	weir_quota_set_limit(quota, 0);
	CHECK_NULL(weir_cache_alloc(first));
	weir_cache_free(second, objects[0]);
	EXPECT_ABORT("quota \"tenant\": 2 pools are still charged to it",
	    weir_quota_destroy(quota));
	cache_end(first);
	cache_end(second);
	CHECK_EQ(quota_stats(quota).used_bytes, 0);
	CHECK_EQ(quota_stats(quota).pools, 0);
	weir_quota_destroy(quota);
	weir_quota_destroy(NULL);
}

/* All a quota allows is another cache's; what ends that, and who is told. */
struct shared {
	struct weir_quota *quota;
	struct weir_cache *holder, *cache;
	void *held;
};

static void
shared_make(struct shared *shared, const struct weir_cache_config *config)
{
	struct weir_cache_config with_quota = *config;

	CHECK_EQ(weir_quota_create("shared", 64 << 10, &shared->quota), 0);
	with_quota.quota = shared->quota;
	with_quota.object_bytes = 64;
	shared->cache = cache_make(&with_quota);
	shared->holder = cache_make(&(struct weir_cache_config){
	    .object_bytes = 64, .quota = shared->quota});
	shared->held = weir_cache_alloc(shared->holder);
	CHECK_NOT_NULL(shared->held);
}

static void
shared_make_room(struct shared *shared, bool raise)
{
	if (raise) {
		weir_quota_set_limit(shared->quota, 128 << 10);
		return;
	}
	weir_cache_free(shared->holder, shared->held);
	shared->held = NULL;
	(void)weir_cache_trim(shared->holder);
}

static void
shared_end(struct shared *shared)
{
	cache_end(shared->cache);
	weir_cache_free(shared->holder, shared->held);
	cache_end(shared->holder);
	weir_quota_destroy(shared->quota);
}

TEST(room_in_a_quota_notifies_those_it_refused)
{
	for (int raise = 0; raise < 2; raise++) {
		struct told told = {.want = 3};
		struct shared shared;

		shared_make(&shared,
		    &(struct weir_cache_config){.policy = WEIR_LIMIT_NOTIFY,
			.notify_at = 10,
			.notify = tell,
			.notify_context = &told});
		/* The use is low, but to try again would be in vain. */
		for (int i = 0; i < 3; i++)
			CHECK_NULL(weir_cache_alloc(shared.cache));
		CHECK_EQ(told.calls, 0);
		shared_make_room(&shared, raise != 0);
		CHECK_EQ(told.calls, 1);
		CHECK_EQ(told.count, 3);
		give_all(shared.cache, told.taken, told.count);
		CHECK_EQ(told.calls, 1);
		shared_end(&shared);
	}
}

TEST(room_in_a_quota_serves_those_who_wait)
{
	for (int raise = 0; raise < 2; raise++) {
		struct waiter waiters[WAITERS];
		struct shared shared;
		size_t served = 0;

		shared_make(&shared,
		    &(struct weir_cache_config){.policy = WEIR_LIMIT_WAIT});
		waiters_start(waiters, shared.cache, &served);
		shared_make_room(&shared, raise != 0);
		for (size_t i = 0; i < WAITERS; i++) {
			pthread_join(waiters[i].thread, NULL);
			CHECK_NOT_NULL(waiters[i].object);
			weir_cache_free(shared.cache, waiters[i].object);
		}
		CHECK_EQ(cache_stats(shared.cache).wait_turns_max, WAITERS - 1);
		shared_end(&shared);
	}
}

TEST(free_after_memory_was_refused_notifies)
{
	NOT_UNDER_GUARD("an address is used again as late as can be");

	struct told told = {.want = 1};
	struct shared shared;
	void *objects[2];

	shared_make(
	    &shared, &(struct weir_cache_config){.policy = WEIR_LIMIT_NOTIFY,
			 .limit = 100000,
			 .notify = tell,
			 .notify_context = &told});
	weir_quota_set_limit(shared.quota, 128 << 10);
	take_all(shared.cache, objects, 2);
	while (weir_cache_alloc(shared.cache) != NULL)
		continue;
	CHECK_EQ(told.calls, 0);
	weir_cache_free(shared.cache, objects[0]);
	CHECK_EQ(told.calls, 1);
	CHECK_EQ(told.count, 1);
	CHECK_PTR(told.taken[0], objects[0]);
}

/* For the memory of the process a pass of weir_maintain() looks. */
TEST(maintain_gets_memory_for_those_the_process_refused)
{
	struct weir_stats stats = {.size = sizeof(stats)};
	struct told told = {.want = 1};
	struct weir_cache *notifying =
	    cache_make(&(struct weir_cache_config){.object_bytes = 64,
		.policy = WEIR_LIMIT_NOTIFY,
		.notify_at = 10,
		.notify = tell,
		.notify_context = &told});
	struct weir_cache *waiting = cache_make_waiting(SMALL, 0);
	struct waiter waiters[WAITERS];
	size_t served = 0;

	weir_cache_free(notifying, weir_cache_alloc(notifying));
	weir_set_decay(0);
	(void)weir_trim();
	CHECK_EQ(weir_stats_read(&stats), 0);
	CHECK_EQ(weir_set_limit(stats.bytes_charged, stats.bytes_charged), 0);
	CHECK_NULL(weir_cache_alloc(notifying));
	waiters_start(waiters, waiting, &served);
	(void)weir_maintain(UINT64_MAX);
	CHECK_EQ(told.calls, 0);
	CHECK_EQ(cache_stats(waiting).waiting, WAITERS);
	CHECK_EQ(weir_set_limit(UINT64_MAX, UINT64_MAX), 0);
	(void)weir_maintain(UINT64_MAX);
	CHECK_EQ(told.calls, 1);
	CHECK_EQ(told.count, 1);
	for (size_t i = 0; i < WAITERS; i++) {
		pthread_join(waiters[i].thread, NULL);
		CHECK_NOT_NULL(waiters[i].object);
		weir_cache_free(waiting, waiters[i].object);
	}
	give_all(notifying, told.taken, told.count);
	cache_end(notifying);
	cache_end(waiting);
}

TEST(quota_name_is_cleaned_as_those_of_pools_are)
{
	struct weir_quota *quota;

	CHECK_EQ(weir_quota_create("a\n\"b\x01\xff", 1, &quota), 0);
	CHECK_STR(quota_stats(quota).name, "a?\"b??");
	weir_quota_destroy(quota);
	CHECK_EQ(weir_quota_create(NULL, 1, &quota), 0);
	CHECK_STR(quota_stats(quota).name, "unnamed");
	weir_quota_destroy(quota);
	/* Cut between characters: 46 bytes and two of the next. */
	CHECK_EQ(weir_quota_create(
		     "1234567890123456789012345678901234567890123456\xc3\xa4",
		     1, &quota),
	    0);
	CHECK_STR(quota_stats(quota).name,
	    "1234567890123456789012345678901234567890123456");
	weir_quota_destroy(quota);
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
