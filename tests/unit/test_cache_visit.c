/* SPDX-License-Identifier: MIT */
/*
 * Iteration over live objects, and what init and fini promise about the others.
 */
#include "support/test.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <weir/weir.h>

enum { MANY = 4000 };

struct visit_item {
	size_t number; /* 0: was never handed out */
	char text[56];
};

struct visit_seen {
	struct weir_cache *cache;
	unsigned char times[MANY + 1];
	size_t stop_after; /* 0: no */
	size_t calls;
	bool frees;
};

static bool
visit_note(void *object, void *context)
{
	struct visit_seen *seen = context;
	struct visit_item *item = object;

	CHECK(item->number >= 1 && item->number <= MANY);
	seen->times[item->number]++;
	seen->calls++;
	if (seen->frees) {
		item->number = 0;
		weir_cache_free(seen->cache, item);
	}
	return seen->calls != seen->stop_after;
}

static struct weir_cache *
visit_cache(enum weir_check_level check, size_t limit)
{
	struct weir_cache *cache;

	CHECK_EQ(weir_cache_create("visit",
		     &(struct weir_cache_config){
			 .object_bytes = sizeof(struct visit_item),
			 .check = check,
			 .limit = limit},
		     &cache),
	    0);
	return cache;
}

static size_t
visit_in_use(struct weir_cache *cache)
{
	struct weir_pool_stats stats = {.size = sizeof(stats)};

	CHECK_EQ(weir_cache_stats(cache, &stats), 0);
	return stats.in_use;
}

/* Frees in another thread, which stays with its magazines full. */
struct visit_other {
	struct weir_cache *cache;
	struct visit_item **items;
	size_t count;
	pthread_barrier_t barrier;
};

static void *
visit_free_and_stay(void *argument)
{
	struct visit_other *other = argument;

	for (size_t i = 0; i < other->count; i++) {
		other->items[i]->number = 0;
		weir_cache_free(other->cache, other->items[i]);
	}
	pthread_barrier_wait(&other->barrier);
	pthread_barrier_wait(&other->barrier);
	return NULL;
}

/* Objects rest in slabs, lie in the depot and with two threads; the rest is
 * live. */
static void
visit_exactly_the_live(enum weir_check_level check, size_t limit)
{
	static struct visit_item *items[MANY + 1];
	static struct visit_seen seen;
	struct visit_other other;
	pthread_t thread;
	size_t live = 0;

	memset(&seen, 0, sizeof(seen));
	seen.cache = visit_cache(check, limit);
	for (size_t i = 1; i <= MANY; i++) {
		items[i] = weir_cache_alloc(seen.cache);
		CHECK_NOT_NULL(items[i]);
		items[i]->number = i;
	}
	for (size_t i = 1; i <= MANY; i += 3) {
		items[i]->number = 0;
		weir_cache_free(seen.cache, items[i]);
		items[i] = NULL;
	}
	(void)weir_cache_trim(seen.cache); /* now they rest */
	for (size_t i = 2; i <= MANY / 2; i += 3) {
		items[i]->number = 0;
		weir_cache_free(seen.cache, items[i]);
		items[i] = NULL;
	}
	other.cache = seen.cache;
	other.items = &items[MANY - 1];
	other.count = 1;
	CHECK_NOT_NULL(items[MANY - 1]);
	pthread_barrier_init(&other.barrier, NULL, 2);
	CHECK_EQ(pthread_create(&thread, NULL, visit_free_and_stay, &other), 0);
	pthread_barrier_wait(&other.barrier);
	items[MANY - 1] = NULL;
	for (size_t i = 1; i <= MANY; i++)
		live += items[i] != NULL;
	CHECK_EQ(visit_in_use(seen.cache), live);

	for (int twice = 0; twice < 2; twice++) {
		memset(seen.times, 0, sizeof(seen.times));
		CHECK_EQ(
		    weir_cache_for_each(seen.cache, visit_note, &seen), live);
		for (size_t i = 1; i <= MANY; i++)
			CHECK_EQ(seen.times[i], items[i] != NULL);
		CHECK(weir_cache_check(seen.cache));
	}
	seen.frees = true;
	CHECK_EQ(weir_cache_for_each(seen.cache, visit_note, &seen), live);
	CHECK_EQ(visit_in_use(seen.cache), 0);
	CHECK_EQ(weir_cache_for_each(seen.cache, visit_note, &seen), 0);
	CHECK(weir_cache_check(seen.cache));
	pthread_barrier_wait(&other.barrier);
	pthread_join(thread, NULL);
	pthread_barrier_destroy(&other.barrier);
	weir_cache_destroy(seen.cache);
}

TEST(cache_for_each_shows_each_live_object_once)
{
	visit_exactly_the_live(WEIR_CHECK_EACH, 0);
	visit_exactly_the_live(WEIR_CHECK_BATCH, 0);
	visit_exactly_the_live(WEIR_CHECK_BATCH, MANY);
}

TEST(cache_for_each_ends_when_told_and_begins_anew)
{
	static struct visit_item *items[MANY + 1];
	static struct visit_seen seen;

	seen.cache = visit_cache(WEIR_CHECK_EACH, 0);
	seen.stop_after = 100;
	for (size_t i = 1; i <= 300; i++) {
		items[i] = weir_cache_alloc(seen.cache);
		items[i]->number = i;
	}
	CHECK_EQ(weir_cache_for_each(seen.cache, visit_note, &seen), 100);
	seen.stop_after = 0;
	CHECK_EQ(weir_cache_for_each(seen.cache, visit_note, &seen), 300);
	seen.frees = true;
	CHECK_EQ(weir_cache_for_each(seen.cache, visit_note, &seen), 300);
	weir_cache_destroy(seen.cache);
}

static jmp_buf visit_out;
static size_t visit_left_at;

static bool
visit_leave(void *object, void *context)
{
	visit_left_at = ((struct visit_item *)object)->number;
	weir_cache_free(context, object);
	longjmp(visit_out, 1);
}

TEST(cache_for_each_after_a_visitor_left_by_longjmp)
{
	static struct visit_item *items[MANY + 1];
	static struct visit_seen seen;
	static size_t live = 1999;

	seen.cache = visit_cache(WEIR_CHECK_BATCH, 0);
	for (size_t i = 1; i <= 2000; i++) {
		items[i] = weir_cache_alloc(seen.cache);
		items[i]->number = i;
	}
	if (setjmp(visit_out) == 0)
		(void)weir_cache_for_each(seen.cache, visit_leave, seen.cache);
	CHECK_EQ(visit_in_use(seen.cache), 1999);
	/* What it was to be shown next rests when the next walk begins. */
	for (size_t i = 1; i <= 2000; i++) {
		if (i == visit_left_at || i % 8 == 0)
			continue;
		items[i]->number = 0;
		weir_cache_free(seen.cache, items[i]);
		live--;
	}
	(void)weir_cache_trim(seen.cache);
	CHECK_EQ(visit_in_use(seen.cache), live);
	CHECK_EQ(weir_cache_for_each(seen.cache, visit_note, &seen), live);
	seen.frees = true;
	CHECK_EQ(weir_cache_for_each(seen.cache, visit_note, &seen), live);
	weir_cache_destroy(seen.cache);
}

static bool
visit_trim_elsewhere(void *object, void *context)
{
	weir_cache_free(context, object);
	(void)weir_trim();
	return true;
}

/* The slab of the object shown last may end before the visitor returns. */
TEST(cache_for_each_while_slabs_end_behind_it)
{
	static struct visit_item *items[MANY + 1];
	struct weir_cache *cache = visit_cache(WEIR_CHECK_EACH, 0);

	for (size_t i = 1; i <= MANY; i++)
		items[i] = weir_cache_alloc(cache);
	for (size_t i = 1; i <= MANY; i++)
		if (i % 16 != 0)
			weir_cache_free(cache, items[i]);
	CHECK_EQ(
	    weir_cache_for_each(cache, visit_trim_elsewhere, cache), MANY / 16);
	CHECK_EQ(visit_in_use(cache), 0);
	weir_cache_destroy(cache);
}

/* ---- constructed state ---------------------------------------------------- */

struct visit_state {
	uint64_t serial; /* set by init, once */
	uint64_t uses;   /* counted over all uses */
	char buffer[100];
};

struct visit_states {
	uint64_t inits, finis;
	unsigned char alive[100000]; /* by serial */
};

static void
state_init(void *object, void *context)
{
	struct visit_states *states = context;
	struct visit_state *state = object;

	state->serial = states->inits++;
	state->uses = 0;
	CHECK_LT(state->serial, sizeof(states->alive));
	states->alive[state->serial] = 1;
}

static void
state_fini(void *object, void *context)
{
	struct visit_states *states = context;
	struct visit_state *state = object;

	/* What init made is what fini finds, and once. */
	CHECK_LT(state->serial, states->inits);
	CHECK_EQ(states->alive[state->serial], 1);
	states->alive[state->serial] = 0;
	states->finis++;
}

static void
state_check_level(enum weir_check_level check)
{
	enum { OBJECTS = 3000, ROUNDS = 20 };
	static struct visit_states states;
	static struct visit_state *objects[OBJECTS];
	struct weir_pool_stats stats = {.size = sizeof(stats)};
	struct weir_cache *cache;
	uint64_t uses = 0, survived = 0;

	memset(&states, 0, sizeof(states));
	CHECK_EQ(weir_cache_create("state",
		     &(struct weir_cache_config){
			 .object_bytes = sizeof(struct visit_state),
			 .check = check,
			 .init = state_init,
			 .fini = state_fini,
			 .context = &states},
		     &cache),
	    0);
	for (size_t round = 0; round < ROUNDS; round++) {
		size_t count = round % 3 == 2 ? OBJECTS / 50 : OBJECTS;

		for (size_t i = 0; i < count; i++) {
			objects[i] = weir_cache_alloc(cache);
			CHECK_EQ(states.alive[objects[i]->serial], 1);
			survived += objects[i]->uses > 0;
			objects[i]->uses++;
			uses++;
		}
		/* In disorder, and some stay over the trim: their slabs keep
		 * the free neighbours with their state. */
		for (size_t i = 0; i < count; i++)
			if (i % 40 != 0)
				weir_cache_free(cache, objects[i]);
		(void)weir_cache_trim(cache);
		CHECK_EQ(weir_cache_stats(cache, &stats), 0);
		CHECK_EQ(states.inits - states.finis, stats.total);
		for (size_t i = 0; i < count; i += 40) {
			CHECK_EQ(states.alive[objects[i]->serial], 1);
			weir_cache_free(cache, objects[i]);
		}
	}
	CHECK_GT(survived, uses / 2);
	CHECK_GT(states.finis, 0);
	weir_cache_destroy(cache);
	CHECK_EQ(states.finis, states.inits);
}

TEST(cache_keeps_what_init_made_over_reuse_and_trim)
{
	NOT_UNDER_GUARD("init and fini run at each use");

	state_check_level(WEIR_CHECK_EACH);
	state_check_level(WEIR_CHECK_BATCH);
}
