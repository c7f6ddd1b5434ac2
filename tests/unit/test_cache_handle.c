/* SPDX-License-Identifier: MIT */
/*
 * Handles: a stale one is detected, whatever became of the memory.
 */
#include "support/test.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <weir/weir.h>

struct session {
	uint64_t id;
	char text[48];
};

static struct weir_cache *
handle_cache(enum weir_check_level check, size_t bytes)
{
	struct weir_cache *cache;

	CHECK_EQ(weir_cache_create("session",
		     &(struct weir_cache_config){.object_bytes = bytes,
			 .check = check,
			 .flags = WEIR_CACHE_HANDLES},
		     &cache),
	    0);
	return cache;
}

TEST(handle_resolves_to_its_object_until_that_is_freed)
{
	static const size_t sizes[] = {1, 16, 64, 1000, 5000, 40000, 1 << 20};
	static void *objects[300];
	static struct weir_handle handles[300];

	for (int level = 0; level < 2; level++) {
		for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
			struct weir_cache *cache = handle_cache(
			    level ? WEIR_CHECK_BATCH : WEIR_CHECK_EACH,
			    sizes[s]);
			size_t count = sizes[s] > 5000 ? 9 : 300;

			for (size_t i = 0; i < count; i++) {
				objects[i] = weir_cache_alloc(cache);
				handles[i] =
				    weir_cache_handle(cache, objects[i]);
				CHECK_NE(handles[i].bits, 0);
				CHECK_EQ(
				    weir_cache_handle(cache, objects[i]).bits,
				    handles[i].bits);
			}
			for (size_t i = 0; i < count; i += 2)
				weir_cache_free(cache, objects[i]);
			for (size_t i = 0; i < count; i++)
				CHECK_PTR(weir_cache_resolve(cache, handles[i]),
				    i % 2 ? objects[i] : NULL);
			for (size_t i = 1; i < count; i += 2)
				weir_cache_free(cache, objects[i]);
			for (size_t i = 0; i < count; i++)
				CHECK_NULL(
				    weir_cache_resolve(cache, handles[i]));
			CHECK(weir_cache_check(cache));
			weir_cache_destroy(cache);
		}
	}
}

TEST(handle_stays_stale_when_the_object_is_used_again)
{
	NOT_UNDER_GUARD("an address is used again as late as can be");

	enum { USES = 2000 };
	static struct weir_handle old[USES];
	struct weir_cache *cache =
	    handle_cache(WEIR_CHECK_EACH, sizeof(struct session));
	void *first = NULL;

	for (size_t i = 0; i < USES; i++) {
		void *object = weir_cache_alloc(cache);

		first = i == 0 ? object : first;
		CHECK_PTR(object, first); /* the same memory each time */
		old[i] = weir_cache_handle(cache, object);
		for (size_t j = 0; j < i; j++)
			CHECK_NULL(weir_cache_resolve(cache, old[j]));
		CHECK_PTR(weir_cache_resolve(cache, old[i]), object);
		weir_cache_free(cache, object);
	}
	weir_cache_destroy(cache);
}

TEST(handle_of_nothing_and_made_up_bits_resolve_to_null)
{
	struct weir_cache *cache =
	    handle_cache(WEIR_CHECK_EACH, sizeof(struct session));
	struct weir_cache *plain;
	void *object = weir_cache_alloc(cache);
	struct weir_handle good = weir_cache_handle(cache, object);
	struct test_rng rng;

	CHECK_EQ(weir_cache_create("plain",
		     &(struct weir_cache_config){.object_bytes = 64}, &plain),
	    0);
	CHECK_EQ(weir_cache_handle(cache, NULL).bits, 0);
	CHECK_NULL(weir_cache_resolve(cache, (struct weir_handle){0}));
	CHECK_NULL(weir_cache_resolve(cache, (struct weir_handle){UINT64_MAX}));
	CHECK_NULL(weir_cache_resolve(plain, good));
	/* Each single bit matters. */
	for (int bit = 0; bit < 64; bit++)
		CHECK_NULL(weir_cache_resolve(cache,
		    (struct weir_handle){good.bits ^ UINT64_C(1) << bit}));
	/* Any slot of its table, generation 0. */
	for (uint64_t slot = 0; slot < 4096; slot++)
		CHECK_NULL(weir_cache_resolve(cache,
		    (struct weir_handle){(good.bits & 0xfffff000) | slot}));
	test_rng_init(&rng, test_seed());
	for (size_t i = 0; i < test_count(1000000); i++) {
		struct weir_handle wild = {test_rand(&rng)};

		if (wild.bits != good.bits)
			CHECK_NULL(weir_cache_resolve(cache, wild));
	}
	weir_cache_free(cache, object);
	weir_cache_destroy(plain);
	weir_cache_destroy(cache);
}

static char handle_line[512];
static int handle_lines;

static void
handle_message(enum weir_message_level level, const char *line, void *context)
{
	(void)context;
	CHECK_EQ(level, WEIR_MESSAGE_WARNING);
	strncpy(handle_line, line, sizeof(handle_line) - 1);
	handle_lines++;
}

TEST(handle_of_another_cache_resolves_to_null_and_is_told_once)
{
	struct weir_cache *timers, *conns;
	struct weir_cache_config config = {
	    .object_bytes = 64, .flags = WEIR_CACHE_HANDLES};
	struct weir_handle handle;
	void *object;

	CHECK_EQ(
	    weir_init(&(struct weir_config){.message = handle_message}), 0);
	CHECK_EQ(weir_cache_create("timer", &config, &timers), 0);
	CHECK_EQ(weir_cache_create("conn", &config, &conns), 0);
	object = weir_cache_alloc(conns);
	handle = weir_cache_handle(conns, object);
	weir_cache_free(timers, weir_cache_alloc(timers));
	for (int i = 0; i < 3; i++)
		CHECK_NULL(weir_cache_resolve(timers, handle));
	CHECK_EQ(handle_lines, 1);
	CHECK_STR(handle_line,
	    "weir_cache_resolve: cache \"timer\": the handle "
	    "is one of cache \"conn\"; resolve it there");
	CHECK_PTR(weir_cache_resolve(conns, handle), object);
	/* A stale one is nobody's: nothing to tell. */
	weir_cache_free(conns, object);
	CHECK_NULL(weir_cache_resolve(timers, handle));
	CHECK_NULL(weir_cache_resolve(conns, handle));
	CHECK_EQ(handle_lines, 1);
	weir_cache_destroy(timers);
	weir_cache_destroy(conns);
}

/* Slabs go back to the system and come again, in this cache and in others. */
TEST(handle_stays_stale_when_slabs_come_and_go)
{
	enum { COUNT = 6000, ROUNDS = 12 };
	static struct weir_handle old[ROUNDS][COUNT];
	static void *objects[COUNT];
	static const size_t sizes[] = {24, 64, 500};

	for (size_t s = 0; s < 3; s++) {
		struct weir_cache *cache =
		    handle_cache(WEIR_CHECK_EACH, sizes[s]);
		struct weir_cache *keeper =
		    handle_cache(WEIR_CHECK_BATCH, sizes[s]);

		for (size_t round = 0; round < ROUNDS; round++) {
			for (size_t i = 0; i < COUNT; i++) {
				objects[i] = weir_cache_alloc(cache);
				CHECK_NOT_NULL(objects[i]);
				old[round][i] =
				    weir_cache_handle(cache, objects[i]);
			}
			for (size_t r = 0; r < round; r++)
				for (size_t i = 0; i < COUNT; i += 7)
					CHECK_NULL(weir_cache_resolve(
					    cache, old[r][i]));
			for (size_t i = 0; i < COUNT; i++)
				CHECK_PTR(
				    weir_cache_resolve(cache, old[round][i]),
				    objects[i]);
			for (size_t i = 0; i < COUNT; i++)
				weir_cache_free(cache, objects[i]);
			CHECK_GT(weir_cache_trim(cache), 0);
			for (size_t i = 0; i < COUNT; i++)
				CHECK_NULL(
				    weir_cache_resolve(cache, old[round][i]));
			if (round % 4 == 3) { /* its tables change hands */
				weir_cache_destroy(cache);
				cache = handle_cache(WEIR_CHECK_EACH, sizes[s]);
			}
		}
		weir_cache_destroy(cache);
		for (size_t i = 0; i < COUNT; i++)
			objects[i] = weir_cache_alloc(keeper);
		for (size_t round = 0; round < ROUNDS; round++)
			for (size_t i = 0; i < COUNT; i++)
				CHECK_NULL(
				    weir_cache_resolve(keeper, old[round][i]));
		for (size_t i = 0; i < COUNT; i++)
			weir_cache_free(keeper, objects[i]);
		weir_cache_destroy(keeper);
	}
}

/*
 * One thread frees and reuses while others resolve what it published: a handle
 * that resolves does so to the address it was made for, however old it is, and
 * never once its end has been published.
 */
struct handle_race {
	struct weir_cache *cache;
	struct {
		uint64_t bits;
		uintptr_t object;
	} shown[64];
	uint64_t ended[64]; /* bits of a handle whose object was freed before */
	bool stop;
	size_t hits;
};

static void
handle_writer(struct handle_race *race)
{
	size_t rounds = test_count(300000);
	void *objects[64] = {NULL};

	for (size_t i = 0; i < rounds; i++) {
		size_t at = i * 31 % 64;
		struct weir_handle handle;

		if (objects[at] != NULL) {
			uint64_t bits = __atomic_load_n(
			    &race->shown[at].bits, __ATOMIC_RELAXED);

			weir_cache_free(race->cache, objects[at]);
			__atomic_store_n(
			    &race->ended[at], bits, __ATOMIC_RELEASE);
		}
		if (i % 4096 == 0)
			(void)weir_cache_trim(race->cache);
		objects[at] = weir_cache_alloc(race->cache);
		CHECK_NOT_NULL(objects[at]);
		handle = weir_cache_handle(race->cache, objects[at]);
		/* Odd address: the pair is being changed. */
		__atomic_store_n(&race->shown[at].object, 1, __ATOMIC_SEQ_CST);
		__atomic_store_n(
		    &race->shown[at].bits, handle.bits, __ATOMIC_SEQ_CST);
		__atomic_store_n(&race->shown[at].object,
		    (uintptr_t)objects[at], __ATOMIC_SEQ_CST);
	}
	/* Threads may have had their turns one after the other so far. */
	while (__atomic_load_n(&race->hits, __ATOMIC_RELAXED) == 0)
		sched_yield();
	__atomic_store_n(&race->stop, true, __ATOMIC_RELEASE);
	for (size_t at = 0; at < 64; at++)
		weir_cache_free(race->cache, objects[at]);
}

static void
handle_reader(struct handle_race *race)
{
	for (size_t at = 0; !__atomic_load_n(&race->stop, __ATOMIC_ACQUIRE);
	     at = (at + 1) % 64) {
		struct weir_handle ended = {
		    __atomic_load_n(&race->ended[at], __ATOMIC_ACQUIRE)};
		uintptr_t object =
		    __atomic_load_n(&race->shown[at].object, __ATOMIC_SEQ_CST);
		struct weir_handle handle = {
		    __atomic_load_n(&race->shown[at].bits, __ATOMIC_SEQ_CST)};
		void *found;

		CHECK_NULL(weir_cache_resolve(race->cache, ended));
		if (object <= 1 || __atomic_load_n(&race->shown[at].object,
				       __ATOMIC_SEQ_CST) != object)
			continue;
		/* The pair may have been A, B, A: then the handle is newer
		 * than the address, which is the same. */
		found = weir_cache_resolve(race->cache, handle);
		CHECK(found == NULL || (uintptr_t)found == object);
		if (found != NULL)
			__atomic_fetch_add(&race->hits, 1, __ATOMIC_RELAXED);
	}
}

static void
handle_race_run(unsigned index, void *context)
{
	if (index == 0)
		handle_writer(context);
	else
		handle_reader(context);
}

TEST(handle_resolves_right_or_not_at_all_beside_frees_and_trims)
{
	static struct handle_race race;

	race.cache = handle_cache(WEIR_CHECK_EACH, 3000);
	test_threads(3, handle_race_run, &race);
	CHECK_GT(race.hits, 0);
	weir_cache_destroy(race.cache);
}

/* The free list's classic: A is read, A and B are popped, A is pushed again.  A
 * compare-and-swap on handles sees that it is another A. */
TEST(handle_in_a_compare_and_swap_tells_reuse_apart)
{
	NOT_UNDER_GUARD("an address is used again as late as can be");

	struct weir_cache *cache =
	    handle_cache(WEIR_CHECK_EACH, sizeof(struct session));
	void *object = weir_cache_alloc(cache);
	uint64_t waiter = weir_cache_handle(cache, object).bits;
	uint64_t seen = waiter;
	void *again;

	weir_cache_free(cache, object);
	again = weir_cache_alloc(cache);
	CHECK_PTR(again, object);
	waiter = weir_cache_handle(cache, again).bits;
	CHECK(!__atomic_compare_exchange_n(
	    &waiter, &seen, 0, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
	CHECK_EQ(waiter, weir_cache_handle(cache, again).bits);
	weir_cache_free(cache, again);
	weir_cache_destroy(cache);
}
