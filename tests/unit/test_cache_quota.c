/* SPDX-License-Identifier: MIT */
/*
 * test_cache_quota.c - budgets that several caches share, the process's own among
 * them: what they bound, and who hears of room.
 */
#include "limit_common.h"

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
