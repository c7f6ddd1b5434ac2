/* SPDX-License-Identifier: MIT */
/*
 * test_cache_notify.c - word that there is room again: once for all that were
 * refused, when the use is low, and not from inside a hook.
 */
#include "limit_common.h"

#include <sys/eventfd.h>

/* ---- once, and in time ---------------------------------------------------- */

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

/* ---- hooks ------------------------------------------------- */

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
