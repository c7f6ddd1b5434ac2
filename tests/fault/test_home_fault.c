/* SPDX-License-Identifier: MIT */
/*
 * test_home_fault.c - a second free at level `batch` is found by whoever brings
 * the magazine home: the thread that trims, polls, maintains or ends, the child of
 * a fork, a mode that changes, the end of the cache.
 *
 * None of them may hold a lock then, which a hook that looks at all pools tells.
 */
#include "test.h"

#include <weir/weir.h>

#include "slab/cursor.h"
#include "slab/depot.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static struct weir_cache *cache;
static void *kept; /* keeps its slab from being closed, which is known then */

/* Looks at every pool, for which no lock may be held. */
static void
look_around(const struct weir_fault *fault, void *context)
{
	char text[2048];

	(void)context;
	CHECK_NOT_NULL(fault);
	CHECK_GT(weir_stats_text(text, sizeof(text)), 0);
	(void)weir_trim();
}

static void
make(enum weir_limit_policy policy, size_t limit)
{
	CHECK_EQ(weir_cache_create("home",
		     &(struct weir_cache_config){.object_bytes = 64,
			 .check = WEIR_CHECK_BATCH,
			 .policy = policy,
			 .limit = limit},
		     &cache),
	    0);
	kept = weir_cache_alloc(cache);
	CHECK_NOT_NULL(kept);
	weir_guard_set_hook(look_around, NULL);
}

static void
end(void)
{
	weir_cache_free(cache, kept);
	weir_cache_destroy(cache);
}

/* One object twice, and as many others as to leave it in the middle. */
static void
free_twice(size_t others)
{
	static void *object[400];

	CHECK_LE(others, sizeof(object) / sizeof(object[0]));
	for (size_t i = 0; i < others; i++) {
		object[i] = weir_cache_alloc(cache);
		CHECK_NOT_NULL(object[i]);
	}
	for (size_t i = 0; i < others; i++)
		weir_cache_free(cache, object[i]);
	weir_cache_free(cache, object[others / 2]);
}

#define FOUND(...) EXPECT_ABORT("double-free: cache \"home\"", __VA_ARGS__)

TEST(second_free_is_found_by_a_trim)
{
	NOT_UNDER_GUARD("it is found at the call");
	make(WEIR_LIMIT_FAIL, 0);
	FOUND({
		free_twice(3);
		(void)weir_cache_trim(cache);
	});
	FOUND({
		free_twice(400);
		(void)weir_trim();
	});
	end();
}

/* One object is in use, for which the second free makes up in what is counted. */
TEST(second_free_is_found_by_destroy)
{
	NOT_UNDER_GUARD("it is found at the call");
	make(WEIR_LIMIT_FAIL, 0);
	for (size_t others = 1; others <= 400; others = others * 3 + 1)
		FOUND({
			free_twice(others);
			weir_cache_destroy(cache);
		});
	end();
	make(WEIR_LIMIT_WAIT, 500);
	FOUND({
		free_twice(1);
		weir_cache_destroy(cache);
	});
	end();
}

TEST(second_free_is_found_when_its_heap_ends)
{
	struct weir_heap *heap;
	void *object, *other;

	NOT_UNDER_GUARD("it is found at the call");
	CHECK_EQ(
	    weir_heap_create("home",
		&(struct weir_heap_config){.check = WEIR_CHECK_BATCH}, &heap),
	    0);
	object = weir_heap_alloc(heap, 100);
	other = weir_heap_alloc(heap, 100);
	CHECK_NOT_NULL(object);
	CHECK_NOT_NULL(other);
	weir_guard_set_hook(look_around, NULL);
	EXPECT_ABORT("double-free: heap \"home", {
		weir_heap_free(heap, object);
		weir_heap_free(heap, other);
		weir_heap_free(heap, object);
		weir_heap_destroy(heap);
	});
	weir_heap_free(heap, object);
	weir_heap_free(heap, other);
	weir_heap_destroy(heap);
}

/* Passes take what nobody used since the one before. */
static void
maintain(void)
{
	weir_set_decay(0);
	for (unsigned pass = 0; pass < 20; pass++)
		while (weir_maintain(UINT64_MAX))
			;
}

TEST(second_free_is_found_by_who_maintains)
{
	NOT_UNDER_GUARD("it is found at the call");
	make(WEIR_LIMIT_FAIL, 0);
	for (size_t others = 1; others <= 400; others = others * 3 + 1)
		EXPECT_ABORT("weir: FAULT ", {
			free_twice(others);
			maintain();
		});
	end();
}

static sem_t freed, done;

static void *
free_and_wait(void *argument)
{
	(void)argument;
	free_twice(1);
	sem_post(&freed);
	sem_wait(&done);
	return NULL;
}

static void *
free_and_poll(void *argument)
{
	(void)argument;
	free_twice(1);
	for (;;) {
		sem_post(&freed);
		sem_wait(&done);
		weir_thread_poll();
	}
	return NULL;
}

TEST(second_free_of_another_thread_is_found_by_destroy)
{
	NOT_UNDER_GUARD("it is found at the call");
	make(WEIR_LIMIT_FAIL, 0);
	FOUND({
		pthread_t thread;

		CHECK_EQ(sem_init(&freed, 0, 0), 0);
		CHECK_EQ(sem_init(&done, 0, 0), 0);
		CHECK_EQ(pthread_create(&thread, NULL, free_and_wait, NULL), 0);
		sem_wait(&freed);
		weir_cache_destroy(cache);
	});
	end();
}

TEST(second_free_is_found_by_the_thread_that_polls)
{
	NOT_UNDER_GUARD("it is found at the call");
	make(WEIR_LIMIT_FAIL, 0);
	FOUND({
		pthread_t thread;

		CHECK_EQ(sem_init(&freed, 0, 0), 0);
		CHECK_EQ(sem_init(&done, 0, 0), 0);
		CHECK_EQ(pthread_create(&thread, NULL, free_and_poll, NULL), 0);
		weir_set_decay(0);
		for (unsigned turn = 0; turn < 50; turn++) {
			sem_wait(&freed);
			(void)weir_maintain(UINT64_MAX);
			sem_post(&done);
		}
	});
	end();
}

/* The child has no such thread, and takes what that had. */
TEST(second_free_is_found_by_the_child_of_a_fork)
{
	NOT_UNDER_GUARD("it is found at the call");
	make(WEIR_LIMIT_FAIL, 0);
	FOUND({
		pthread_t thread;
		int status;
		pid_t child;

		CHECK_EQ(sem_init(&freed, 0, 0), 0);
		CHECK_EQ(sem_init(&done, 0, 0), 0);
		CHECK_EQ(pthread_create(&thread, NULL, free_and_wait, NULL), 0);
		sem_wait(&freed);
		child = fork();
		CHECK_GT(child, 0);
		CHECK_EQ(waitpid(child, &status, 0), child);
		if (WIFSIGNALED(status))
			abort();
	});
	end();
}

TEST(second_free_is_found_when_the_cache_comes_under_guard)
{
	NOT_UNDER_GUARD("it is found at the call");
	make(WEIR_LIMIT_FAIL, 0);
	FOUND({
		free_twice(5);
		CHECK_EQ(weir_guard_set(&(struct weir_guard_config){
			     .mode = WEIR_GUARD_FULL}),
		    0);
		weir_thread_poll();
		weir_cache_free(cache, weir_cache_alloc(cache));
		(void)weir_cache_trim(cache);
	});
	end();
}

TEST(second_free_is_found_in_a_cache_that_waits)
{
	NOT_UNDER_GUARD("it is found at the call");
	make(WEIR_LIMIT_WAIT, 500);
	for (size_t others = 1; others <= 400; others = others * 3 + 1)
		FOUND({
			free_twice(others);
			(void)weir_cache_trim(cache);
		});
	end();
}

/* ---- magazines in the depot ------------------------------------------------------ */

#define SLOTS (4 * WEIRI_ROUNDS_MAX)

static struct weiri_depot depot;

/* Slots of which most are back, in the depot's magazines; one of them is in two,
 * of which the other has been here, and left. */
static void
depot_make(size_t limit)
{
	static void *slots[SLOTS];
	const struct weiri_depot_config config = {
	    .kind = "cache",
	    .name = "home",
	    .slot_bytes = 64,
	    .slot_align = 16,
	    .limit = limit,
	    .rounds = WEIRI_ROUNDS_MAX,
	    .state_bytes = true,
	    .verify = true,
	};
	struct weiri_slab *slab;
	void *slot;

	CHECK_EQ(weiri_depot_init(&depot, &config), 0);
	for (size_t i = 0; i < SLOTS; i++)
		slots[i] = weiri_depot_get(&depot);
	for (size_t i = 0; i < SLOTS; i++)
		weiri_depot_put(&depot, slots[i]);
	CHECK(depot.full_list != NULL);
	slot = (void *)*weiri_magazine_top(depot.full_list);
	slab = (struct weiri_slab *)weiri_span_of(slot);
	slab->state[weiri_slab_index(slab, slot)] &=
	    (uint8_t)~WEIRI_STATE_STOCKED;
}

TEST(slot_of_two_magazines_is_found_wherever_one_is_emptied)
{
	depot_make(SIZE_MAX);
	FOUND((void)weiri_depot_compact(&depot, UINT32_MAX));
	FOUND(maintain());
	FOUND({
		void *into[3];

		CHECK_EQ(weiri_depot_get_bulk(&depot, NULL, 3, into), 3);
	});
	FOUND({
		while (weiri_depot_retire(&depot) == 0)
			;
	});
}

TEST(depot_of_impossible_slots_is_refused)
{
	static const struct {
		size_t bytes, align;
	} slips[] = {{0, 16}, {WEIRI_SLOT_BYTES_MAX + 16, 16}, {64, 0},
	    {64, 24}, {72, 16}};

	for (size_t i = 0; i < sizeof(slips) / sizeof(slips[0]); i++)
		CHECK_EQ(weiri_depot_init(&depot,
			     &(struct weiri_depot_config){.kind = "cache",
				 .name = "slip",
				 .slot_bytes = slips[i].bytes,
				 .slot_align = slips[i].align,
				 .limit = SIZE_MAX}),
		    -EINVAL);
}
