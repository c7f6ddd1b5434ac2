/* SPDX-License-Identifier: MIT */
/*
 * Depots that many threads want at once have shards.  What a depot promises, it
 * promises with them too: no object in two hands, none lost, none out of reach
 * at a limit, all of it given back; and a second free is still found.
 */
#include "support/test.h"

#include "pools/cache.h"
#include "slab/shard.h"

#include <weir/runtime.h>

#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

enum { THREADS = 8, HELD = 600, SHARDS = 4, LIMIT = 2000 };

struct item {
	uint64_t owner;
	uint64_t padding[3];
};

struct arena {
	struct weir_cache *cache;
	size_t turns;
	uint64_t seed;
	struct item *exchange[64]; /* objects that change threads */
};

static void
item_init(void *object, void *context)
{
	(void)context;
	((struct item *)object)->owner = 0;
}

static struct weir_cache *
create(enum weir_check_level check, size_t limit)
{
	struct weir_cache *cache;

	CHECK_EQ(
	    weir_cache_create("sharded",
		&(struct weir_cache_config){.object_bytes = sizeof(struct item),
		    .check = check,
		    .limit = limit,
		    .init = item_init},
		&cache),
	    0);
	weiri_shards_make(&cache->depot, SHARDS);
	CHECK_NOT_NULL(cache->depot.shards);
	return cache;
}

static struct weir_pool_stats
figures(struct weir_cache *cache)
{
	struct weir_pool_stats stats = {.size = sizeof(stats)};

	CHECK_EQ(weir_cache_stats(cache, &stats), 0);
	return stats;
}

/* ---- one thread ---------------------------------------------------------- */

TEST(objects_go_through_shards_and_all_come_back)
{
	NOT_UNDER_GUARD("nothing stays with threads, or in shards");

	struct weir_cache *cache = create(WEIR_CHECK_EACH, 0);
	static void *held[5000];
	uint64_t total = 0;

	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < 5000; i++) {
			held[i] = weir_cache_alloc(cache);
			CHECK_NOT_NULL(held[i]);
		}
		CHECK_EQ(figures(cache).in_use, 5000);
		CHECK(weir_cache_check(cache));
		for (int i = 0; i < 5000; i++)
			weir_cache_free(cache, held[i]);
		/* Two magazines are in this thread's shard. */
		CHECK_GT(weiri_shards_slots(&cache->depot), 0);
		CHECK_EQ(figures(cache).in_use, 0);
		/* What the first round needed is enough for the others. */
		total = round == 0 ? figures(cache).total : total;
		CHECK_EQ(figures(cache).total, total);
		CHECK(weir_cache_check(cache));
	}
	CHECK_EQ(figures(cache).requests, 15000);
	CHECK_EQ(figures(cache).misses, weiri_depot_misses(&cache->depot));
	CHECK_GT(figures(cache).misses, cache->depot.misses);
	CHECK_GT(weir_cache_trim(cache), 0);
	CHECK_EQ(weiri_shards_slots(&cache->depot), 0);
	CHECK_EQ(figures(cache).total, 0);
	CHECK(weir_cache_check(cache));
	weir_cache_destroy(cache);
}

static bool
count_live(void *object, void *context)
{
	CHECK_EQ(((struct item *)object)->owner, 7);
	++*(size_t *)context;
	return true;
}

TEST(what_lies_in_a_shard_is_not_visited)
{
	NOT_UNDER_GUARD("nothing stays with threads, or in shards");

	struct weir_cache *cache = create(WEIR_CHECK_EACH, 0);
	struct item *held[2000];
	size_t live = 0;

	for (int i = 0; i < 2000; i++) {
		held[i] = weir_cache_alloc(cache);
		held[i]->owner = 7;
	}
	for (int i = 0; i < 1900; i++) {
		held[i]->owner = 0;
		weir_cache_free(cache, held[i]);
	}
	CHECK_GT(weiri_shards_slots(&cache->depot), 0);
	CHECK_EQ(weir_cache_for_each(cache, count_live, &live), 100);
	CHECK_EQ(live, 100);
	for (int i = 1900; i < 2000; i++)
		weir_cache_free(cache, held[i]);
	weir_cache_destroy(cache);
}

/* The magazine with the second free is marked on its way into the shard. */
TEST(second_free_at_level_batch_is_found_in_front_of_a_shard)
{
	NOT_UNDER_GUARD("nothing stays with threads, or in shards");

	struct weir_cache *cache = create(WEIR_CHECK_BATCH, 0);
	void *held[2000];

	for (int i = 0; i < 2000; i++)
		held[i] = weir_cache_alloc(cache);
	for (int i = 0; i < 2000; i++)
		weir_cache_free(cache, held[i]);
	CHECK_GT(weiri_shards_slots(&cache->depot), 0);
	EXPECT_ABORT("was freed more than once", {
		for (int i = 0; i < 2000; i++)
			weir_cache_free(cache, held[i]);
	});
	weir_cache_destroy(cache);
}

/* ---- many threads -------------------------------------------------------- */

static void
take_and_swap(unsigned index, void *context)
{
	struct arena *arena = context;
	struct item *held[HELD];
	struct test_rng rng;
	size_t count = 0;

	test_rng_init(&rng, arena->seed + index);
	for (size_t i = 0; i < arena->turns; i++) {
		size_t want = test_rand_below(&rng, HELD);

		for (; count < want; count++) {
			held[count] = weir_cache_alloc(arena->cache);
			if (held[count] == NULL)
				break;
			CHECK_EQ(__atomic_exchange_n(&held[count]->owner,
				     index + 1, __ATOMIC_RELAXED),
			    0);
		}
		for (int n = 0; n < 8 && count > 0; n++) {
			struct item **at =
			    &arena->exchange[test_rand_below(&rng, 64)];
			struct item *mine = held[--count];

			mine->owner = 99;
			mine = __atomic_exchange_n(at, mine, __ATOMIC_ACQ_REL);
			if (mine == NULL)
				continue;
			CHECK_EQ(mine->owner, 99);
			mine->owner = index + 1;
			held[count++] = mine;
		}
		while (count > want) {
			CHECK_EQ(__atomic_exchange_n(&held[--count]->owner, 0,
				     __ATOMIC_RELAXED),
			    index + 1);
			weir_cache_free(arena->cache, held[count]);
		}
		if (index == 0 && i % 64 == 63)
			(void)weir_cache_trim(arena->cache);
		if (index == 1 && i % 64 == 63)
			(void)weir_maintain(1000000);
	}
	while (count > 0) {
		held[--count]->owner = 0;
		weir_cache_free(arena->cache, held[count]);
	}
}

static void
run_threads(enum weir_check_level check, size_t limit)
{
	struct arena arena = {.cache = create(check, limit),
	    .turns = test_count(2000),
	    .seed = test_seed()};
	struct weir_pool_stats stats;
	static void *all[LIMIT];

	test_threads(THREADS, take_and_swap, &arena);
	for (size_t i = 0; i < 64; i++)
		weir_cache_free(arena.cache, arena.exchange[i]);
	stats = figures(arena.cache);
	CHECK_EQ(stats.in_use, 0);
	CHECK_LE(stats.total, stats.limit);
	CHECK_LE(stats.misses, stats.requests);
	CHECK(weir_cache_check(arena.cache));
	/* At the limit, what lies in shards is found. */
	for (size_t i = 0; i < limit; i++) {
		all[i] = weir_cache_alloc(arena.cache);
		CHECK_NOT_NULL(all[i]);
	}
	for (size_t i = 0; i < limit; i++)
		weir_cache_free(arena.cache, all[i]);
	weir_cache_destroy(arena.cache);
}

TEST_LIMIT(threads_exchange_magazines_through_shards, 120)
{
	run_threads(WEIR_CHECK_EACH, 0);
	run_threads(WEIR_CHECK_BATCH, 0);
}

TEST_LIMIT(no_object_is_out_of_reach_at_a_limit, 120)
{
	run_threads(WEIR_CHECK_EACH, LIMIT);
}

/* ---- contention ---------------------------------------------------------- */

static void
burst(struct weir_cache *cache)
{
	void *held[300];

	for (int i = 0; i < 300; i++)
		held[i] = weir_cache_alloc(cache);
	for (int i = 0; i < 300; i++)
		weir_cache_free(cache, held[i]);
}

struct storm {
	struct weir_cache *cache;
	unsigned locked, trips; /* atomic; each waits for the other's */
	bool done;
};

/* Has the lock whenever the other thread may come to it. */
static void
hold_lock(struct storm *storm)
{
	for (unsigned turn = 1;
	     !__atomic_load_n(&storm->done, __ATOMIC_RELAXED); turn++) {
		weiri_mutex_lock(&storm->cache->depot.lock);
		__atomic_store_n(&storm->locked, turn, __ATOMIC_RELEASE);
		usleep(1000);
		weiri_mutex_unlock(&storm->cache->depot.lock);
		while (
		    __atomic_load_n(&storm->trips, __ATOMIC_ACQUIRE) != turn &&
		    !__atomic_load_n(&storm->done, __ATOMIC_RELAXED))
			sched_yield();
	}
}

/* What a trip to the depot changes. */
static unsigned
trips_seen(struct storm *storm)
{
	struct weiri_depot *depot = &storm->cache->depot;

	return WEIRI_LOAD(&depot->window_trips) << 16 |
	       WEIRI_LOAD(&depot->window_waits);
}

/* However long its magazines are, each trip of the thread finds the lock taken:
 * none begins before the other thread has it again. */
static bool
storm_step(struct storm *storm, void **object, unsigned *turn)
{
	unsigned before = trips_seen(storm);

	if (*object == NULL) {
		*object = weir_cache_alloc(storm->cache);
	} else {
		weir_cache_free(storm->cache, *object);
		*object = NULL;
	}
	if (trips_seen(storm) == before)
		return true;
	if (*turn == 1000 || weiri_shards_of(&storm->cache->depot) != NULL)
		return false;
	__atomic_store_n(&storm->trips, (*turn)++, __ATOMIC_RELEASE);
	while (__atomic_load_n(&storm->locked, __ATOMIC_ACQUIRE) != *turn)
		sched_yield();
	return true;
}

static void
storm_run(unsigned index, void *context)
{
	struct storm *storm = context;
	void *held[300] = {NULL};
	unsigned turn = 1;
	size_t next = 0;

	if (index == 0) {
		hold_lock(storm);
		return;
	}
	while (__atomic_load_n(&storm->locked, __ATOMIC_ACQUIRE) != turn)
		sched_yield();
	while (storm_step(storm, &held[next], &turn))
		next = (next + 1) % 300;
	__atomic_store_n(&storm->done, true, __ATOMIC_RELAXED);
	for (size_t i = 0; i < 300; i++)
		weir_cache_free(storm->cache, held[i]);
}

TEST(depot_whose_lock_is_fought_for_gets_shards)
{
	NOT_UNDER_GUARD("nothing stays with threads, or in shards");

	struct storm storm = {.done = false};

	CHECK_EQ(
	    weir_cache_create("storm",
		&(struct weir_cache_config){.object_bytes = 64}, &storm.cache),
	    0);
	/* One thread alone never waits. */
	for (int i = 0; i < 1000; i++)
		burst(storm.cache);
	CHECK_NULL(weiri_shards_of(&storm.cache->depot));
	test_threads(2, storm_run, &storm);
	CHECK_NOT_NULL(weiri_shards_of(&storm.cache->depot));
	CHECK(weir_cache_check(storm.cache));
	CHECK_EQ(figures(storm.cache).in_use, 0);
	weir_cache_destroy(storm.cache);
}

/* ---- fork ---------------------------------------------------------------- */

TEST(child_of_a_fork_has_what_lies_in_shards)
{
	NOT_UNDER_GUARD("nothing stays with threads, or in shards");

	struct weir_cache *cache = create(WEIR_CHECK_EACH, 0);
	static void *held[3000];
	uint64_t total;
	int status;
	pid_t child;

	for (int i = 0; i < 3000; i++)
		held[i] = weir_cache_alloc(cache);
	for (int i = 0; i < 3000; i++)
		weir_cache_free(cache, held[i]);
	CHECK_GT(weiri_shards_slots(&cache->depot), 0);
	total = figures(cache).total;
	child = fork();
	CHECK_NE(child, -1);
	if (child == 0) {
		CHECK(weir_cache_check(cache));
		for (int i = 0; i < 3000; i++)
			CHECK_NOT_NULL(held[i] = weir_cache_alloc(cache));
		CHECK_EQ(figures(cache).total, total);
		for (int i = 0; i < 3000; i++)
			weir_cache_free(cache, held[i]);
		CHECK_EQ(figures(cache).lost_in_fork, 0);
		weir_cache_destroy(cache);
		_exit(0);
	}
	CHECK_EQ(waitpid(child, &status, 0), child);
	CHECK_EQ(status, 0);
	weir_cache_destroy(cache);
}
