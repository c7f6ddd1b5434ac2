/* SPDX-License-Identifier: MIT */
/*
 * Many threads want more objects than there are, and wait for their turn.  A
 * lost wake-up hangs the test; an object handed out twice meets itself; who is
 * passed by another sees more served than waited when it came, which the check
 * of the cache tells.
 */
#include "support/test.h"

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>
#include <weir/weir.h>

enum { THREADS = 6, HELD = 120 };

struct item {
	uint64_t owner;
	uint64_t uses;
};

struct arena {
	struct weir_cache *cache;
	size_t count;
	uint64_t seed;
};

/* Runs once an object, or at each use where that has memory of its own. */
static void
item_init(void *object, void *context)
{
	(void)context;
	*(struct item *)object = (struct item){0};
}

static void
arena_init(struct arena *arena, size_t limit, size_t count)
{
	*arena = (struct arena){.count = count, .seed = test_seed()};
	CHECK_EQ(
	    weir_cache_create("waited",
		&(struct weir_cache_config){.object_bytes = sizeof(struct item),
		    .limit = limit,
		    .init = item_init,
		    .policy = WEIR_LIMIT_WAIT},
		&arena->cache),
	    0);
}

static void
item_take(struct item *item, uint64_t owner)
{
	CHECK_EQ(__atomic_exchange_n(&item->owner, owner, __ATOMIC_RELAXED), 0);
	item->uses++;
}

static void
item_give(struct arena *arena, struct item *item, uint64_t owner)
{
	CHECK_EQ(__atomic_exchange_n(&item->owner, 0, __ATOMIC_RELAXED), owner);
	weir_cache_free(arena->cache, item);
}

static struct weir_pool_stats
arena_finish(struct arena *arena)
{
	struct weir_pool_stats stats = {.size = sizeof(stats)};

	CHECK_EQ(weir_cache_stats(arena->cache, &stats), 0);
	CHECK_EQ(stats.in_use, 0);
	CHECK_EQ(stats.waiting, 0);
	CHECK_LE(stats.total, stats.limit);
	CHECK_LE(stats.wait_turns_max, THREADS - 1);
	CHECK(weir_cache_check(arena->cache));
	weir_cache_destroy(arena->cache);
	return stats;
}

/* ---- one object each ----------------------------------------------------- */

static void
take_in_turn(unsigned index, void *context)
{
	struct arena *arena = context;

	for (size_t i = 0; i < arena->count / THREADS; i++) {
		struct item *item =
		    weir_cache_alloc_wait(arena->cache, WEIR_WAIT_FOREVER);

		item_take(item, index + 1);
		/* Now and then with the object in hand. */
		if ((i & 15) == 0)
			sched_yield();
		item_give(arena, item, index + 1);
	}
}

TEST_LIMIT(a_million_turns_come_in_order, 200)
{
	struct arena arena;

	for (size_t limit = 1; limit <= 4; limit += 3) {
		struct weir_pool_stats stats;

		arena_init(&arena, limit, test_count(500000));
		test_threads(THREADS, take_in_turn, &arena);
		stats = arena_finish(&arena);
		CHECK_EQ(stats.failures, 0);
		CHECK_GT(stats.waits, 0);
	}
}

/* ---- many, from pockets -------------------------------------------------- */

static void
hold_many(unsigned index, void *context)
{
	struct arena *arena = context;
	struct item *held[HELD];
	struct test_rng rng;
	size_t count = 0;

	test_rng_init(&rng, arena->seed + index);
	for (size_t i = 0; i < arena->count / THREADS; i++) {
		bool take = count == 0 ||
			    (count < HELD && test_rand_below(&rng, 100) < 55);
		struct item *item =
		    take ? weir_cache_alloc_wait(arena->cache,
			       count == 0 ? WEIR_WAIT_FOREVER : 200000)
			 : NULL;

		if (item != NULL) {
			item->owner = index + 1;
			held[count++] = item;
			continue;
		}
		/* Nothing in time, while others wait for what it holds. */
		for (size_t give = take ? count : 1; give > 0; give--) {
			size_t at = test_rand_below(&rng, count);

			CHECK_EQ(held[at]->owner, index + 1);
			weir_cache_free(arena->cache, held[at]);
			held[at] = held[--count];
		}
	}
	while (count > 0)
		weir_cache_free(arena->cache, held[--count]);
}

TEST_LIMIT(pockets_are_searched_and_no_waiter_is_forgotten, 120)
{
	size_t turns = test_count(1000000);
	uint64_t waits = 0;

	/* A short run may never come to the limit. */
	turns = turns < 400000 ? 400000 : turns;
	for (int i = 0; i < 20 && waits == 0; i++) {
		struct arena arena;

		arena_init(&arena, 512, turns);
		test_threads(THREADS, hold_many, &arena);
		waits = arena_finish(&arena).waits;
	}
	CHECK_GT(waits, 0);
}

/* ---- one free against one waiter ----------------------------------------- */

enum { LIMIT_POCKETS = 512 };

struct duel {
	struct arena arena;
	void *object;
	size_t turn; /* whose object it is: even and odd rounds */
};

/*
 * The one object there is goes to and fro: each round one thread gives it back
 * at the moment when the other comes to wait, and does nothing else that could
 * wake it.
 */
static void
duel_run(unsigned index, void *context)
{
	struct duel *duel = context;

	for (size_t round = 0; round < duel->arena.count; round++) {
		/* Not for the rest of its slice where others want the processor. */
		for (unsigned spins = 0;
		     __atomic_load_n(&duel->turn, __ATOMIC_ACQUIRE) != round;
		     spins++)
			if (round % 64 == 0 || spins >= 4096)
				sched_yield();
		if (round % 2 == index) {
			weir_cache_free(duel->arena.cache, duel->object);
			continue;
		}
		duel->object = weir_cache_alloc_wait(
		    duel->arena.cache, UINT64_C(5000000000));
		CHECK_NOT_NULL(duel->object);
		__atomic_store_n(&duel->turn, round + 1, __ATOMIC_RELEASE);
	}
}

TEST_LIMIT(free_that_races_with_a_waiter_is_not_lost, 120)
{
	void *others[LIMIT_POCKETS - 1];
	struct duel duel = {.turn = 0};

	arena_init(&duel.arena, LIMIT_POCKETS,
	    test_count(test_under_guard() ? 10000 : 100000));
	for (size_t i = 0; i < LIMIT_POCKETS - 1; i++)
		others[i] = weir_cache_alloc(duel.arena.cache);
	duel.object = weir_cache_alloc(duel.arena.cache);
	test_threads(2, duel_run, &duel);
	weir_cache_free(duel.arena.cache, duel.object);
	for (size_t i = 0; i < LIMIT_POCKETS - 1; i++)
		weir_cache_free(duel.arena.cache, others[i]);
	(void)arena_finish(&duel.arena);
}

/* ---- with trims, and threads that end ------------------------------------ */

static bool churn_done;

static void *
churn_trim(void *argument)
{
	struct arena *arena = argument;

	while (!__atomic_load_n(&churn_done, __ATOMIC_ACQUIRE)) {
		(void)weir_cache_trim(arena->cache);
		usleep(500);
	}
	return NULL;
}

static void *
churn_live(void *argument)
{
	struct arena *arena = argument;
	void *held[HELD];

	for (size_t i = 0; i < 20; i++) {
		size_t count = 0;

		while (count < HELD &&
		       (held[count] = weir_cache_alloc_wait(arena->cache,
			    count == 0 ? WEIR_WAIT_FOREVER : 100000)) != NULL)
			count++;
		while (count > 0)
			weir_cache_free(arena->cache, held[--count]);
	}
	return NULL;
}

static void
churn_spawn(unsigned index, void *context)
{
	struct arena *arena = context;

	(void)index;
	for (size_t i = 0; i < arena->count; i++) {
		pthread_t thread;

		CHECK_EQ(pthread_create(&thread, NULL, churn_live, arena), 0);
		pthread_join(thread, NULL);
	}
}

TEST_LIMIT(waiters_outlast_trims_and_ends_of_threads, 120)
{
	struct arena arena;
	pthread_t trimmer;

	arena_init(&arena, 512, test_count(60));
	CHECK_EQ(pthread_create(&trimmer, NULL, churn_trim, &arena), 0);
	test_threads(THREADS, churn_spawn, &arena);
	__atomic_store_n(&churn_done, true, __ATOMIC_RELEASE);
	pthread_join(trimmer, NULL);
	(void)arena_finish(&arena);
}

/* ---- fork ---------------------------------------------------------------- */

static void *
wait_long(void *argument)
{
	struct arena *arena = argument;

	weir_cache_free(arena->cache,
	    weir_cache_alloc_wait(arena->cache, WEIR_WAIT_FOREVER));
	return NULL;
}

TEST(child_of_a_fork_serves_nobody_who_waits_in_the_parent)
{
	struct weir_pool_stats stats = {.size = sizeof(stats)};
	struct arena arena;
	pthread_t thread;
	void *object;
	pid_t child;
	int status;

	arena_init(&arena, 1, 1);
	object = weir_cache_alloc(arena.cache);
	CHECK_EQ(pthread_create(&thread, NULL, wait_long, &arena), 0);
	do
		CHECK_EQ(weir_cache_stats(arena.cache, &stats), 0);
	while (stats.waiting == 0);
	child = fork();
	CHECK_NE(child, -1);
	if (child == 0) {
		weir_cache_free(arena.cache, object);
		object = weir_cache_alloc_wait(arena.cache, 0);
		CHECK_NOT_NULL(object);
		weir_cache_free(arena.cache, object);
		CHECK(weir_cache_check(arena.cache));
		_exit(0);
	}
	CHECK_EQ(waitpid(child, &status, 0), child);
	CHECK_EQ(status, 0);
	weir_cache_free(arena.cache, object);
	pthread_join(thread, NULL);
	(void)arena_finish(&arena);
}

struct growth {
	struct weir_cache *cache;
	pthread_barrier_t barrier;
	unsigned inits;
};

/* The first that comes stops, the second forks and goes on in the child. */
static void
growth_init(void *object, void *context)
{
	struct growth *growth = context;
	int status;
	pid_t child;

	(void)object;
	switch (__atomic_fetch_add(&growth->inits, 1, __ATOMIC_RELAXED)) {
	case 1:
		pthread_barrier_wait(&growth->barrier);
		pthread_barrier_wait(&growth->barrier);
		break;
	case 2:
		child = fork();
		CHECK_NE(child, -1);
		if (child == 0)
			break;
		CHECK_EQ(waitpid(child, &status, 0), child);
		CHECK_EQ(status, 0);
		pthread_barrier_wait(&growth->barrier);
		break;
	default:
		break;
	}
}

static void *
growth_raise(void *argument)
{
	struct growth *growth = argument;

	CHECK_EQ(weir_cache_set_limit(growth->cache, 3), 0);
	return NULL;
}

static void *
growth_wait(void *argument)
{
	struct growth *growth = argument;
	void *object = weir_cache_alloc_wait(growth->cache, WEIR_WAIT_FOREVER);

	CHECK_NOT_NULL(object);
	return object;
}

/* One waits, another raises the limit and stops in the init hook of the object
 * it makes for the first; this one queues up behind, and forks in that hook. */
TEST(waiter_that_forks_in_a_hook_is_served_in_the_child_too)
{
	NOT_UNDER_GUARD("init and fini run at each use");

	struct weir_pool_stats stats = {.size = sizeof(stats)};
	struct growth growth = {.inits = 0};
	pthread_t first, raiser;
	void *objects[3];
	pid_t self = getpid();

	pthread_barrier_init(&growth.barrier, NULL, 2);
	CHECK_EQ(weir_cache_create("growth",
		     &(struct weir_cache_config){.object_bytes = 64,
			 .limit = 1,
			 .init = growth_init,
			 .context = &growth,
			 .policy = WEIR_LIMIT_WAIT},
		     &growth.cache),
	    0);
	objects[0] = weir_cache_alloc(growth.cache);
	CHECK_EQ(pthread_create(&first, NULL, growth_wait, &growth), 0);
	do
		CHECK_EQ(weir_cache_stats(growth.cache, &stats), 0);
	while (stats.waiting == 0);
	CHECK_EQ(pthread_create(&raiser, NULL, growth_raise, &growth), 0);
	pthread_barrier_wait(&growth.barrier);
	objects[1] = weir_cache_alloc_wait(growth.cache, UINT64_C(5000000000));
	if (getpid() != self) {
		CHECK_NOT_NULL(objects[1]);
		CHECK_EQ(weir_cache_stats(growth.cache, &stats), 0);
		CHECK_EQ(stats.waiting, 0);
		/* The raiser's object is lost here, the others are not. */
		CHECK_NULL(weir_cache_alloc_wait(growth.cache, 1000000));
		weir_cache_free(growth.cache, objects[1]);
		objects[1] = weir_cache_alloc_wait(growth.cache, 0);
		CHECK_NOT_NULL(objects[1]);
		_exit(0);
	}
	pthread_join(first, &objects[2]);
	pthread_join(raiser, NULL);
	for (size_t i = 0; i < 3; i++)
		weir_cache_free(growth.cache, objects[i]);
	CHECK(weir_cache_check(growth.cache));
	weir_cache_destroy(growth.cache);
	pthread_barrier_destroy(&growth.barrier);
}
