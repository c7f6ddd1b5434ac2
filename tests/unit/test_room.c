/* SPDX-License-Identifier: MIT */
/*
 * Magazines of large slots: wherever a thread begins, its turns come to no edge;
 * what it holds is bounded; what was known of the depot's lock stays known.
 */
#include "support/test.h"

#include "pools/cache.h"
#include "slab/room.h"
#include "slab/shard.h"
#include "slab/stock.h"

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#define BOUND_BYTES ((size_t)64 << 10)
#define BOUND_OBJECTS ((size_t)8)

static struct weir_cache *
make(size_t bytes, enum weir_check_level check, size_t limit)
{
	struct weir_cache_config config = {
	    .object_bytes = bytes, .check = check, .limit = limit};
	struct weir_cache *cache;

	CHECK_EQ(weir_cache_create("large", &config, &cache), 0);
	return cache;
}

/* Takes @count objects and gives them back. */
static void
turn(struct weir_cache *cache, size_t count)
{
	void *objects[64];

	for (size_t i = 0; i < count; i++) {
		objects[i] = weir_cache_alloc(cache);
		CHECK_NOT_NULL(objects[i]);
	}
	for (size_t i = 0; i < count; i++)
		weir_cache_free(cache, objects[i]);
}

/* The magazine that the calling thread has loaded. */
static struct weiri_magazine *
loaded(const struct weir_cache *cache)
{
	return weiri_cursor_magazine(weiri_local()->cursor[cache->depot.cell]);
}

static uint64_t
cached(struct weir_cache *cache)
{
	struct weir_pool_stats stats = {.size = sizeof(stats)};

	CHECK_EQ(weir_cache_stats(cache, &stats), 0);
	return stats.cached;
}

/* Until the thread has a wide magazine. */
static void
widen(struct weir_cache *cache)
{
	size_t rounds = cache->depot.rounds_max;
	void *held[64];

	/* What happens too seldom is let be: a machine may be slow.  And from
	 * some beginnings turns come to no edge. */
	for (size_t h = 0; !weiri_room_wide(
		 &cache->depot, weiri_magazine_rounds(loaded(cache)));
	     h = (h + 1) % rounds) {
		for (size_t i = 0; i < h; i++)
			held[i] = weir_cache_alloc(cache);
		for (int i = 0; i < 100; i++)
			turn(cache, rounds);
		for (size_t i = 0; i < h; i++)
			weir_cache_free(cache, held[i]);
	}
}

TEST(turns_of_a_thread_come_to_no_edge_wherever_it_began)
{
	NOT_UNDER_GUARD("nothing stays with threads");

	static const size_t sizes[] = {3000, 8192, 20000};

	for (unsigned i = 0; i < 2 * sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct weir_cache *cache = make(sizes[i / 2],
		    i % 2 ? WEIR_CHECK_BATCH : WEIR_CHECK_EACH, 0);
		const struct weiri_depot *depot = &cache->depot;
		void *held[64];

		CHECK_EQ(depot->rounds_wide, 2u * depot->rounds_max);
		for (size_t h = 0; h < depot->rounds_max; h++) {
			const struct weiri_magazine *magazine;
			uint64_t misses;
			uint32_t swaps;

			held[h] = weir_cache_alloc(cache);
			/* Begins at each distance from an edge. */
			if (h % depot->rounds_max != 0)
				widen(cache);
			for (int j = 0; j < 3; j++)
				turn(cache, depot->rounds_max);
			magazine = loaded(cache);
			misses = depot->misses;
			swaps = depot->window_swaps;
			for (int j = 0; j < 20; j++) {
				turn(cache, depot->rounds_max);
				if (h == 0)
					continue;
				CHECK_PTR(loaded(cache), magazine);
				CHECK_EQ(depot->misses, misses);
				CHECK_EQ(depot->window_swaps, swaps);
			}
			CHECK(weir_cache_check(cache));
		}
		for (size_t h = 0; h < depot->rounds_max; h++)
			weir_cache_free(cache, held[h]);
		weir_cache_destroy(cache);
	}
}

TEST(what_a_thread_holds_is_bounded_whatever_its_magazines)
{
	NOT_UNDER_GUARD("nothing stays with threads");

	static const size_t sizes[] = {2048, 5000, 8192, 33000, 100000};
	struct test_rng rng;

	test_rng_init(&rng, test_seed());
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct weir_cache *cache = make(sizes[i], WEIR_CHECK_EACH, 0);
		size_t bound = BOUND_BYTES / cache->depot.slot_bytes, out = 0;
		void *objects[64];

		if (bound < BOUND_OBJECTS)
			bound = BOUND_OBJECTS;
		widen(cache);
		for (int step = 0; step < 3000; step++) {
			size_t to = test_rand_below(&rng, 65);

			if (step % 500 == 499)
				weiri_depot_cool(&cache->depot);
			while (out < to)
				objects[out++] = weir_cache_alloc(cache);
			while (out > to)
				weir_cache_free(cache, objects[--out]);
			CHECK_LE(cached(cache), bound);
		}
		CHECK(weir_cache_check(cache));
		while (out > 0)
			weir_cache_free(cache, objects[--out]);
		weir_cache_destroy(cache);
	}
}

TEST(a_limit_counts_wide_magazines_as_what_they_are)
{
	NOT_UNDER_GUARD("nothing stays with threads");

	struct weir_cache *cache = make(8192, WEIR_CHECK_EACH, 1024);
	struct weiri_depot *depot = &cache->depot;
	void *objects[64];

	objects[0] = weir_cache_alloc(cache);
	widen(cache);
	CHECK_EQ(depot->withheld, depot->rounds_wide);
	CHECK(weir_cache_check(cache));
	/* Below what has magazines at all. */
	CHECK_EQ(weir_cache_set_limit(cache, 256), 0);
	CHECK_EQ(depot->withheld_max, 0);
	for (int i = 1; i < 40; i++)
		objects[i] = weir_cache_alloc(cache);
	for (int i = 1; i < 40; i++)
		weir_cache_free(cache, objects[i]);
	CHECK_EQ(depot->withheld, 0);
	CHECK_EQ(cached(cache), 0);
	CHECK(weir_cache_check(cache));
	/* And from a full one. */
	CHECK_EQ(weir_cache_set_limit(cache, 1024), 0);
	widen(cache);
	for (int i = 1; i < 40; i++)
		objects[i] = weir_cache_alloc(cache);
	CHECK_EQ(weir_cache_set_limit(cache, 256), 0);
	for (int i = 1; i < 40; i++)
		weir_cache_free(cache, objects[i]);
	CHECK_EQ(depot->withheld, 0);
	CHECK(weir_cache_check(cache));
	weir_cache_free(cache, objects[0]);
	weir_cache_destroy(cache);
}

/* ---- many threads -------------------------------------------------------- */

enum { THREADS = 4, PLACES = 64, STEPS = 4000 };

struct meeting {
	struct weir_cache *cache;
	void *place[PLACES];
};

/* Objects end on other threads than they began on. */
static void
exchange(unsigned index, void *context)
{
	struct meeting *meeting = context;
	struct test_rng rng;

	test_rng_init(&rng, test_seed() + index);
	for (int i = 0; i < STEPS; i++) {
		size_t at = test_rand_below(&rng, PLACES);
		void *object = i % 3 ? weir_cache_alloc(meeting->cache) : NULL;

		if (object != NULL)
			*(unsigned *)object = index;
		weir_cache_free(
		    meeting->cache, __atomic_exchange_n(&meeting->place[at],
					object, __ATOMIC_ACQ_REL));
		if (i % 16 == 0)
			turn(meeting->cache, 5);
	}
}

TEST(wide_magazines_lose_nothing_between_threads)
{
	struct meeting meeting = {.cache = make(8192, WEIR_CHECK_EACH, 4096)};
	struct weir_pool_stats stats = {.size = sizeof(stats)};

	/* From the first on. */
	meeting.cache->depot.rounds = meeting.cache->depot.rounds_wide;
	test_threads(THREADS, exchange, &meeting);
	for (size_t i = 0; i < PLACES; i++)
		weir_cache_free(meeting.cache, meeting.place[i]);
	CHECK(weir_cache_check(meeting.cache));
	CHECK_EQ(weir_cache_stats(meeting.cache, &stats), 0);
	CHECK_EQ(stats.in_use, 0);
	weir_cache_destroy(meeting.cache);
}

struct fork_meeting {
	struct weir_cache *cache;
	bool done;
};

static void *
churn(void *context)
{
	struct fork_meeting *meeting = context;

	while (!__atomic_load_n(&meeting->done, __ATOMIC_ACQUIRE))
		for (size_t count = 1; count < 20; count++)
			turn(meeting->cache, count);
	return NULL;
}

/* In the child: each of the others had a half in its hands at most, and an
 * object. */
static int
child_looks(struct weir_cache *cache)
{
	struct weir_pool_stats stats = {.size = sizeof(stats)};

	CHECK_EQ(weir_cache_stats(cache, &stats), 0);
	CHECK_LE(stats.lost_in_fork,
	    (uint64_t)THREADS * (cache->depot.rounds_max + 1u));
	CHECK_LE(stats.in_use, (uint64_t)THREADS * 20 + stats.lost_in_fork);
	CHECK(weir_cache_check(cache));
	turn(cache, 40);
	CHECK(weir_cache_check(cache));
	return 0;
}

TEST(a_fork_in_the_middle_leaves_wide_magazines_whole)
{
	NOT_UNDER_GUARD("nothing stays with threads");

	struct fork_meeting meeting = {.cache = make(8192, WEIR_CHECK_EACH, 0)};
	pthread_t threads[THREADS];

	meeting.cache->depot.rounds = meeting.cache->depot.rounds_wide;
	for (int i = 0; i < THREADS; i++)
		CHECK_EQ(pthread_create(&threads[i], NULL, churn, &meeting), 0);
	for (size_t i = 0; i < test_count(20); i++) {
		pid_t child = fork();
		int status;

		CHECK_NE(child, -1);
		if (child == 0)
			_exit(child_looks(meeting.cache));
		CHECK_EQ(waitpid(child, &status, 0), child);
		CHECK_EQ(status, 0);
	}
	__atomic_store_n(&meeting.done, true, __ATOMIC_RELEASE);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	CHECK(weir_cache_check(meeting.cache));
	weir_cache_destroy(meeting.cache);
}

/* ---- what is known of the depot's lock ------------------------------------ */

/* A thread that swaps its magazines is no reason to forget who waited. */
TEST(swaps_leave_what_is_known_of_waiting_as_it_is)
{
	NOT_UNDER_GUARD("nothing stays with threads");

	struct weir_cache *cache = make(200, WEIR_CHECK_EACH, 0);
	struct weiri_depot *depot = &cache->depot;

	(void)!weir_cache_alloc(cache);
	depot->window_trips = WEIRI_WINDOW_TRIPS - 1;
	depot->window_waits = WEIRI_WINDOW_TRIPS;
	for (unsigned i = 0; i < 4 * WEIRI_WINDOW_TRIPS; i++)
		weiri_rounds_count_swap(depot);
	CHECK_EQ(depot->window_swaps, 0);
	CHECK_NULL(weiri_shards_of(depot));
	CHECK_EQ(depot->window_waits, WEIRI_WINDOW_TRIPS);
	/* The trip that was missing. */
	for (int i = 0; weiri_shards_of(depot) == NULL && i < 1000; i++)
		CHECK_NOT_NULL(weir_cache_alloc(cache));
	CHECK_NOT_NULL(weiri_shards_of(depot));
}
