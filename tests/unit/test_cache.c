/* SPDX-License-Identifier: MIT */
/*
 * What a user of object caches relies on, one claim a test.
 */
#include "support/test.h"

#include "os/os.h"
#include "slab/magazine.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <weir/weir.h>

struct conn {
	int fd;
	char text[100];
};

static struct weir_cache *
cache_make(const struct weir_cache_config *config)
{
	struct weir_cache *cache;

	CHECK_EQ(weir_cache_create("test", config, &cache), 0);
	return cache;
}

static struct weir_pool_stats
cache_stats(struct weir_cache *cache)
{
	struct weir_pool_stats stats = {.size = sizeof(stats)};

	CHECK_EQ(weir_cache_stats(cache, &stats), 0);
	CHECK_EQ(stats.total, stats.in_use + stats.available);
	return stats;
}

WEIR_CACHE_DEFINE(conn, struct conn);

TEST(typed_cache_takes_no_configuration_for_all_defaults)
{
	struct weir_cache *cache;
	struct conn *conn;

	CHECK_EQ(conn_cache_create("conn", NULL, &cache), 0);
	CHECK_EQ(cache_stats(cache).object_bytes, sizeof(struct conn));
	conn = conn_alloc(cache);
	CHECK_NOT_NULL(conn);
	memset(conn, 1, sizeof(*conn));
	conn_free(cache, conn);
	weir_cache_destroy(cache);
}

TEST(cache_hands_out_distinct_aligned_storage)
{
	enum { COUNT = 5000 };
	static const size_t aligns[] = {0, 8, 16, 64, 256, 4096};
	static const size_t sizes[] = {1, 8, 24, 64, 100, 1000, 5000};
	static unsigned char *objects[COUNT];

	for (size_t a = 0; a < sizeof(aligns) / sizeof(aligns[0]); a++) {
		for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
			size_t align = aligns[a] == 0 ? 16 : aligns[a];
			size_t count = align < 4096 ? COUNT : 300;
			struct weir_cache *cache = cache_make(&(
			    struct weir_cache_config){.object_bytes = sizes[s],
			    .object_align = aligns[a]});

			for (size_t i = 0; i < count; i++) {
				objects[i] = weir_cache_alloc(cache);
				CHECK_NOT_NULL(objects[i]);
				CHECK_EQ((uintptr_t)objects[i] % align, 0);
				memset(objects[i], (int)(i & 255), sizes[s]);
			}
			CHECK(weir_cache_check(cache));
			CHECK_EQ(cache_stats(cache).in_use, count);
			for (size_t i = 0; i < count; i++) {
				CHECK_EQ(objects[i][0], i & 255);
				CHECK_EQ(objects[i][sizes[s] - 1], i & 255);
				weir_cache_free(cache, objects[i]);
			}
			CHECK_EQ(cache_stats(cache).in_use, 0);
			CHECK(weir_cache_check(cache));
			weir_cache_destroy(cache);
		}
	}
}

TEST(cache_reuses_the_object_freed_last)
{
	NOT_UNDER_GUARD("an address is used again as late as can be");

	struct weir_cache *cache =
	    cache_make(&(struct weir_cache_config){.object_bytes = 100});
	void *object = weir_cache_alloc(cache);

	weir_cache_free(cache, object);
	CHECK(weir_cache_alloc(cache) == object);
	weir_cache_free(cache, object);
	weir_cache_free(cache, NULL);
	weir_cache_destroy(cache);
	weir_cache_destroy(NULL);
}

TEST(cache_rejects_bad_configurations)
{
	static const struct weir_cache_config bad[] = {
	    {.object_bytes = 0},
	    {.object_bytes = WEIR_CACHE_OBJECT_BYTES_MAX + 1},
	    {.object_bytes = SIZE_MAX},
	    {.object_bytes = 8, .object_align = 3},
	    {.object_bytes = 8, .object_align = 8192},
	    {.object_bytes = 8, .limit = 4, .prealloc = 5},
	    {.object_bytes = 8, .limit = WEIR_LIMIT_NOTHING, .prealloc = 1},
	    {.object_bytes = 8, .flags = 1u << 20},
	    {.object_bytes = 8, .check = (enum weir_check_level)7},
	    {.object_bytes = 8, .reserved = {1}},
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct weir_cache *cache = (struct weir_cache *)&cache;

		CHECK_EQ(weir_cache_create("bad", &bad[i], &cache), -EINVAL);
		CHECK_NULL(cache);
	}
}

TEST(cache_limit_is_strict_and_failures_are_counted)
{
	enum { LIMIT = 37 };
	void *objects[LIMIT];
	struct weir_cache *cache = cache_make(
	    &(struct weir_cache_config){.object_bytes = 48, .limit = LIMIT});

	errno = 77;
	for (int round = 0; round < 3; round++) {
		for (size_t i = 0; i < LIMIT; i++) {
			objects[i] = weir_cache_alloc(cache);
			CHECK_NOT_NULL(objects[i]);
		}
		CHECK_NULL(weir_cache_alloc(cache));
		CHECK_EQ(errno, 77);
		for (size_t i = 0; i < LIMIT; i++)
			weir_cache_free(cache, objects[i]);
	}
	struct weir_pool_stats stats = cache_stats(cache);

	CHECK_EQ(stats.failures, 3);
	CHECK_EQ(stats.total, LIMIT);
	CHECK_EQ(stats.limit, LIMIT);
	CHECK(weir_cache_check(cache));
	weir_cache_destroy(cache);
}

TEST(cache_limit_nothing_lets_nothing_through)
{
	struct weir_cache *cache = cache_make(&(struct weir_cache_config){
	    .object_bytes = 48, .limit = WEIR_LIMIT_NOTHING});

	CHECK_NULL(weir_cache_alloc(cache));
	CHECK_EQ(cache_stats(cache).failures, 1);
	CHECK_EQ(cache_stats(cache).limit, 0);
	weir_cache_destroy(cache);
}

struct idle_test {
	struct weir_cache *cache;
	pthread_barrier_t barrier;
	size_t count;
};

/* Takes and frees, so that both magazines of the thread are full, and idles. */
static void *
cache_use_and_idle(void *argument)
{
	struct idle_test *test = argument;
	void *objects[1024];
	size_t got = 0;

	while (got < test->count &&
	       (objects[got] = weir_cache_alloc(test->cache)) != NULL)
		got++;
	while (got > 0)
		weir_cache_free(test->cache, objects[--got]);
	pthread_barrier_wait(&test->barrier);
	pthread_barrier_wait(&test->barrier);
	return NULL;
}

/* What the calling thread gets while @threads others idle after their use. */
static size_t
cache_reach(size_t limit, unsigned threads)
{
	struct idle_test test = {.count = limit};
	pthread_t thread[8];
	void *objects[1024];
	size_t got = 0, reach;

	test.cache = cache_make(
	    &(struct weir_cache_config){.object_bytes = 48, .limit = limit});
	pthread_barrier_init(&test.barrier, NULL, threads + 1);
	for (unsigned i = 0; i < threads; i++)
		CHECK_EQ(
		    pthread_create(&thread[i], NULL, cache_use_and_idle, &test),
		    0);
	pthread_barrier_wait(&test.barrier);
	while (got < limit &&
	       (objects[got] = weir_cache_alloc(test.cache)) != NULL)
		got++;
	reach = got;
	while (got > 0)
		weir_cache_free(test.cache, objects[--got]);
	pthread_barrier_wait(&test.barrier);
	for (unsigned i = 0; i < threads; i++)
		pthread_join(thread[i], NULL);
	CHECK(weir_cache_check(test.cache));
	weir_cache_destroy(test.cache);
	pthread_barrier_destroy(&test.barrier);
	return reach;
}

TEST(cache_idle_threads_withhold_a_16th_of_the_limit_in_all)
{
	CHECK_GE(cache_reach(1024, 1), 1024 - 1024 / 16);
	CHECK_GE(cache_reach(1024, 8), 1024 - 1024 / 16);
	CHECK_GE(cache_reach(512, 8), 512 - 512 / 16);
}

TEST(cache_idle_threads_withhold_nothing_of_a_small_limit)
{
	CHECK_EQ(cache_reach(8, 8), 8);
	CHECK_EQ(cache_reach(16, 8), 16);
	CHECK_EQ(cache_reach(100, 8), 100);
	CHECK_EQ(cache_reach(511, 8), 511);
}

static void *
cache_free_all_given(void *argument)
{
	void **objects = argument;
	struct weir_cache *cache = objects[0];

	for (size_t i = 1; objects[i] != NULL; i++)
		weir_cache_free(cache, objects[i]);
	return NULL;
}

TEST(cache_free_on_another_thread_and_its_exit_lose_nothing)
{
	enum { COUNT = 1000 };
	static void *objects[COUNT + 2];
	pthread_t thread;
	struct weir_cache *cache =
	    cache_make(&(struct weir_cache_config){.object_bytes = 80});

	objects[0] = cache;
	for (size_t i = 1; i <= COUNT; i++)
		objects[i] = weir_cache_alloc(cache);
	CHECK_EQ(
	    pthread_create(&thread, NULL, cache_free_all_given, objects), 0);
	pthread_join(thread, NULL);

	struct weir_pool_stats stats = cache_stats(cache);

	CHECK_EQ(stats.in_use, 0);
	/* The thread is gone and holds nothing; this one holds its rest. */
	CHECK(stats.cached <= WEIRI_ROUNDS_MAX);
	CHECK(weir_cache_check(cache));
	weir_cache_destroy(cache);
}

static pthread_key_t late_key;
static struct weir_cache *late_cache;

static void
cache_free_late(void *object)
{
	/* Called again while the key is set: the third time lies behind the
	 * library's own exit hook, whatever the order of keys. */
	static __thread int calls;

	if (++calls < 3)
		pthread_setspecific(late_key, object);
	else
		weir_cache_free(late_cache, object);
}

static void *
cache_leave_with_object(void *unused)
{
	(void)unused;
	pthread_setspecific(late_key, weir_cache_alloc(late_cache));
	return NULL;
}

TEST(cache_free_after_the_threads_destructors_ran)
{
	pthread_t thread;

	late_cache =
	    cache_make(&(struct weir_cache_config){.object_bytes = 80});
	CHECK_EQ(pthread_key_create(&late_key, cache_free_late), 0);
	for (int i = 0; i < 200; i++) {
		CHECK_EQ(pthread_create(
			     &thread, NULL, cache_leave_with_object, NULL),
		    0);
		pthread_join(thread, NULL);
	}
	CHECK_EQ(cache_stats(late_cache).in_use, 0);
	CHECK(cache_stats(late_cache).total < 200);
	CHECK(weir_cache_check(late_cache));
	weir_cache_destroy(late_cache);
}

struct hook_counts {
	int init, fini, ctor, dtor;
};

static void
count_init(void *object, void *context)
{
	((struct hook_counts *)context)->init++;
	((struct conn *)object)->fd = 1000;
}

static void
count_fini(void *object, void *context)
{
	((struct hook_counts *)context)->fini++;
	CHECK(((struct conn *)object)->fd >= 1000);
}

static void
count_ctor(void *object, void *context)
{
	((struct hook_counts *)context)->ctor++;
	((struct conn *)object)->fd++;
}

static void
count_dtor(void *object, void *context)
{
	(void)object;
	((struct hook_counts *)context)->dtor++;
}

TEST(cache_keeps_constructed_state_between_uses)
{
	NOT_UNDER_GUARD("init and fini run at each use");

	struct hook_counts counts = {0};
	struct weir_cache *cache = cache_make(
	    &(struct weir_cache_config){.object_bytes = sizeof(struct conn),
		.init = count_init,
		.fini = count_fini,
		.ctor = count_ctor,
		.dtor = count_dtor,
		.context = &counts});
	struct conn *conn;

	for (int i = 1; i <= 5; i++) {
		conn = weir_cache_alloc(cache);
		CHECK_EQ(conn->fd, 1000 + i); /* init once, ctor each time */
		weir_cache_free(cache, conn);
	}
	CHECK_EQ(counts.ctor, 5);
	CHECK_EQ(counts.dtor, 5);
	CHECK_EQ(counts.init, cache_stats(cache).total);
	weir_cache_destroy(cache);
	CHECK_EQ(counts.fini, counts.init);
}

TEST(cache_zero_hands_out_zeroed_objects)
{
	struct weir_cache *cache = cache_make(&(struct weir_cache_config){
	    .object_bytes = 200, .flags = WEIR_CACHE_ZERO});

	for (int round = 0; round < 3; round++) {
		unsigned char *object = weir_cache_alloc(cache);

		for (size_t i = 0; i < 200; i++)
			CHECK_EQ(object[i], 0);
		memset(object, 0xff, 200);
		weir_cache_free(cache, object);
	}
	weir_cache_destroy(cache);
}

TEST(cache_prealloc_makes_steady_state_free_of_system_calls)
{
	NOT_UNDER_GUARD("it makes system calls");

	enum { COUNT = 2000 };
	static void *objects[COUNT];
	struct weir_cache *cache = cache_make(&(struct weir_cache_config){
	    .object_bytes = 512, .prealloc = COUNT});

	CHECK_EQ(cache_stats(cache).total, COUNT);
	weir_cache_free(cache, weir_cache_alloc(cache));

	weiri_os_fail_nth(0, false); /* count from here */
	for (int round = 0; round < 20; round++) {
		for (size_t i = 0; i < COUNT; i++) {
			objects[i] = weir_cache_alloc(cache);
			CHECK_NOT_NULL(objects[i]);
		}
		for (size_t i = 0; i < COUNT; i++)
			weir_cache_free(cache, objects[i]);
	}
	CHECK_EQ(weiri_os_calls(), 0);
	CHECK_EQ(cache_stats(cache).total, COUNT);
	weir_cache_destroy(cache);
}

TEST(cache_trim_gives_idle_slabs_back)
{
	enum { COUNT = 20000 };
	static void *objects[COUNT];
	struct weir_cache *cache =
	    cache_make(&(struct weir_cache_config){.object_bytes = 256});

	for (size_t i = 0; i < COUNT; i++)
		objects[i] = weir_cache_alloc(cache);

	uint64_t mapped = cache_stats(cache).bytes_mapped;

	CHECK(mapped >= (uint64_t)COUNT * 256);
	for (size_t i = 1; i < COUNT; i++)
		weir_cache_free(cache, objects[i]);
	CHECK(weir_cache_trim(cache) > mapped / 2);
	CHECK(cache_stats(cache).bytes_mapped < mapped / 10);
	CHECK(weir_cache_check(cache));
	weir_cache_free(cache, objects[0]);
	weir_cache_destroy(cache);
}

TEST(cache_statistics_are_exact_when_quiet)
{
	enum { COUNT = 1000 };
	static void *objects[COUNT];
	struct weir_cache *cache = cache_make(&(struct weir_cache_config){
	    .object_bytes = 64, .flags = WEIR_CACHE_COUNT, .limit = COUNT});
	struct weir_pool_stats stats;

	for (size_t i = 0; i < COUNT; i++)
		objects[i] = weir_cache_alloc(cache);
	CHECK_NULL(weir_cache_alloc(cache));
	for (size_t i = 0; i < 300; i++)
		weir_cache_free(cache, objects[i]);
	stats = cache_stats(cache);
	CHECK_EQ(stats.in_use, 700);
	CHECK_EQ(stats.available, 300);
	CHECK(stats.cached <= 300);
	CHECK_EQ(stats.in_use_peak, COUNT);
	CHECK_EQ(stats.requests, COUNT + 1);
	CHECK_EQ(stats.failures, 1);
	CHECK_EQ(stats.hits + stats.misses, stats.requests);
	CHECK((stats.exact & WEIR_EXACT_REQUESTS) != 0);
	(void)weir_cache_trim(cache); /* moves the counts, keeps the sums */
	CHECK_EQ(cache_stats(cache).requests, COUNT + 1);
	CHECK_EQ(cache_stats(cache).in_use, 700);
	for (size_t i = 300; i < COUNT; i++)
		weir_cache_free(cache, objects[i]);
	weir_cache_destroy(cache);
}

TEST(cache_peak_is_right_to_one_magazine_per_thread)
{
	enum { COUNT = 3000 };
	static void *objects[COUNT];
	struct weir_cache *cache =
	    cache_make(&(struct weir_cache_config){.object_bytes = 64});
	uint64_t peak;

	for (size_t i = 0; i < COUNT; i++)
		objects[i] = weir_cache_alloc(cache);
	for (size_t i = 0; i < COUNT; i++)
		weir_cache_free(cache, objects[i]);
	for (size_t i = 0; i < COUNT / 2; i++)
		objects[i] = weir_cache_alloc(cache);
	for (size_t i = 0; i < COUNT / 2; i++)
		weir_cache_free(cache, objects[i]);
	peak = cache_stats(cache).in_use_peak;
	CHECK(peak >= COUNT);
	CHECK(peak <= COUNT + WEIRI_ROUNDS_MAX);
	/* Without counting, requests are a lower bound that stays close. */
	CHECK(cache_stats(cache).requests <= COUNT + COUNT / 2);
	CHECK(cache_stats(cache).requests >= COUNT);
	weir_cache_destroy(cache);
}

static void *
cache_use_once(void *cache)
{
	weir_cache_free(cache, weir_cache_alloc(cache));
	return NULL;
}

TEST(cache_requests_are_never_overstated)
{
	struct weir_cache *cache =
	    cache_make(&(struct weir_cache_config){.object_bytes = 64});
	uint64_t before;

	for (int i = 0; i < 100; i++) {
		pthread_t thread;

		CHECK_EQ(
		    pthread_create(&thread, NULL, cache_use_once, cache), 0);
		pthread_join(thread, NULL);
	}
	CHECK_LE(cache_stats(cache).requests, 100);
	for (int i = 0; i < 1000; i++) {
		cache_use_once(cache);
		(void)weir_cache_trim(cache);
	}
	before = cache_stats(cache).requests;
	CHECK_LE(before, 1100);
	for (int i = 0; i < 1000; i++)
		cache_use_once(cache);
	CHECK_GE(cache_stats(cache).requests, before);
	weir_cache_destroy(cache);
}

struct rescue {
	struct weir_cache *cache;
	void *objects[2000];
	size_t count;
	int calls;
};

/* Gives half of what is out back, as a server drops half of its sessions. */
static bool
rescue_half(size_t bytes, void *context)
{
	struct rescue *rescue = context;

	(void)bytes;
	if (rescue->calls++ > 0)
		return false;
	for (size_t i = rescue->count / 2; i < rescue->count; i++)
		weir_cache_free(rescue->cache, rescue->objects[i]);
	rescue->count /= 2;
	(void)weir_trim();
	return true;
}

TEST(cache_finds_what_the_oom_hook_freed)
{
	struct rescue rescue = {.calls = 0};
	void *object;

	CHECK_EQ(weir_init(&(struct weir_config){.limit_bytes = 4 << 20,
		     .oom = rescue_half,
		     .oom_context = &rescue}),
	    0);
	rescue.cache =
	    cache_make(&(struct weir_cache_config){.object_bytes = 4000});
	while (rescue.calls == 0) {
		CHECK_LT(rescue.count, 2000);
		object = weir_cache_alloc(rescue.cache);
		CHECK_NOT_NULL(object);
		rescue.objects[rescue.count++] = object;
	}
	CHECK_EQ(cache_stats(rescue.cache).failures, 0);
	CHECK_EQ(cache_stats(rescue.cache).in_use, rescue.count);
	CHECK(weir_cache_check(rescue.cache));
	while (rescue.count > 0)
		weir_cache_free(rescue.cache, rescue.objects[--rescue.count]);
	weir_cache_destroy(rescue.cache);
}

static bool
spoil_errno(size_t bytes, void *context)
{
	(void)bytes;
	(void)context;
	errno = EBADF;
	return false;
}

TEST(cache_leaves_errno_alone_whatever_a_hook_does)
{
	struct weir_cache *cache;
	size_t got = 0;

	CHECK_EQ(weir_init(&(struct weir_config){
		     .limit_bytes = 4 << 20, .oom = spoil_errno}),
	    0);
	cache = cache_make(&(struct weir_cache_config){.object_bytes = 4000});
	errno = 77;
	while (weir_cache_alloc(cache) != NULL)
		CHECK_LT(got++, 2000);
	CHECK_EQ(errno, 77);
}

TEST(cache_counts_exactly_beyond_the_cells_of_a_thread)
{
	enum { CACHES = 520 };
	static struct weir_cache *caches[CACHES];
	struct weir_pool_stats stats;

	for (size_t c = 0; c < CACHES; c++)
		caches[c] = cache_make(&(struct weir_cache_config){
		    .object_bytes = 32, .flags = WEIR_CACHE_COUNT});
	for (int i = 0; i < 10; i++)
		cache_use_once(caches[CACHES - 1]);
	stats = cache_stats(caches[CACHES - 1]);
	CHECK_EQ(stats.requests, 10);
	CHECK_EQ(stats.hits + stats.misses, 10);
	for (size_t c = 0; c < CACHES; c++)
		weir_cache_destroy(caches[c]);
}

TEST(cache_prealloc_beyond_the_budget_fails_at_once)
{
	struct weir_cache *cache;

	CHECK_EQ(weir_cache_create("vast",
		     &(struct weir_cache_config){
			 .object_bytes = 64, .prealloc = SIZE_MAX},
		     &cache),
	    -ENOMEM);
	/* Within the address space, and beyond any machine: without a budget. */
	CHECK_EQ(weir_set_limit(UINT64_MAX, UINT64_MAX), 0);
	CHECK_EQ(weir_cache_create("vast",
		     &(struct weir_cache_config){
			 .object_bytes = 64, .prealloc = (size_t)1 << 40},
		     &cache),
	    -ENOMEM);
	CHECK_EQ(weir_set_limit(8 << 20, UINT64_MAX), 0);
	CHECK_EQ(weir_cache_create("vast",
		     &(struct weir_cache_config){
			 .object_bytes = 64, .prealloc = 1 << 20},
		     &cache),
	    -ENOMEM);
}

TEST(caches_beyond_the_cells_of_a_thread_still_work)
{
	enum { CACHES = 600, COUNT = 20 };
	static struct weir_cache *caches[CACHES];
	void *objects[COUNT];

	for (size_t c = 0; c < CACHES; c++)
		caches[c] = cache_make(
		    &(struct weir_cache_config){.object_bytes = 32 + c});
	for (size_t c = 0; c < CACHES; c++) {
		for (size_t i = 0; i < COUNT; i++) {
			objects[i] = weir_cache_alloc(caches[c]);
			CHECK_NOT_NULL(objects[i]);
			memset(objects[i], 1, 32 + c);
		}
		CHECK_EQ(cache_stats(caches[c]).in_use, COUNT);
		for (size_t i = 0; i < COUNT; i++)
			weir_cache_free(caches[c], objects[i]);
		CHECK(weir_cache_check(caches[c]));
	}
	for (size_t c = 0; c < CACHES; c++)
		weir_cache_destroy(caches[c]);
}

TEST(cache_serves_large_objects_within_a_small_budget)
{
	static const size_t sizes[] = {
	    20000, 40000, 300000, 512 << 10, WEIR_CACHE_OBJECT_BYTES_MAX};

	CHECK_EQ(weir_set_limit(8 << 20, UINT64_MAX), 0);
	for (size_t s = 0; s < 5; s++) {
		struct weir_cache *cache = cache_make(
		    &(struct weir_cache_config){.object_bytes = sizes[s]});
		void *objects[3];

		for (size_t i = 0; i < 3; i++) {
			objects[i] = weir_cache_alloc(cache);
			CHECK_NOT_NULL(objects[i]);
			memset(objects[i], 1, sizes[s]);
		}
		for (size_t i = 0; i < 3; i++)
			weir_cache_free(cache, objects[i]);
		CHECK(weir_cache_check(cache));
		weir_cache_destroy(cache);
	}
}

TEST(cache_gets_what_idle_pools_hold_when_the_budget_is_spent)
{
	enum { COUNT = 100 };
	static void *objects[COUNT];
	struct weir_cache *first =
	    cache_make(&(struct weir_cache_config){.object_bytes = 50000});
	struct weir_cache *second =
	    cache_make(&(struct weir_cache_config){.object_bytes = 30000});
	size_t got;

	CHECK_EQ(weir_set_limit(8 << 20, UINT64_MAX), 0);
	for (got = 0; got < COUNT; got++)
		CHECK_NOT_NULL(objects[got] = weir_cache_alloc(first));
	for (got = 0; got < COUNT; got++)
		weir_cache_free(first, objects[got]);
	/* All of it rests in the first cache; the second gets it. */
	for (got = 0; got < COUNT; got++)
		CHECK_NOT_NULL(objects[got] = weir_cache_alloc(second));
	for (got = 0; got < COUNT; got++)
		weir_cache_free(second, objects[got]);
	weir_cache_destroy(first);
	weir_cache_destroy(second);
}

struct greedy_test {
	struct weir_cache *idle, *wants[2];
	size_t refused;
};

static void
cache_take_from_idle(unsigned index, void *context)
{
	struct greedy_test *test = context;

	for (size_t i = 0; i < 60; i++)
		if (weir_cache_alloc(test->wants[index]) == NULL)
			__atomic_add_fetch(&test->refused, 1, __ATOMIC_RELAXED);
}

TEST(caches_of_two_threads_at_once_get_what_an_idle_one_holds)
{
	static void *objects[700];
	struct greedy_test test = {.refused = 0};

	CHECK_EQ(weir_set_limit(24 << 20, UINT64_MAX), 0);
	test.idle =
	    cache_make(&(struct weir_cache_config){.object_bytes = 30000});
	for (int i = 0; i < 2; i++)
		test.wants[i] = cache_make(
		    &(struct weir_cache_config){.object_bytes = 50000});
	for (size_t i = 0; i < 700; i++)
		CHECK_NOT_NULL(objects[i] = weir_cache_alloc(test.idle));
	for (size_t i = 0; i < 700; i++)
		weir_cache_free(test.idle, objects[i]);
	test_threads(2, cache_take_from_idle, &test);
	CHECK_EQ(test.refused, 0);
}

TEST(cache_create_at_the_limit_gets_what_idle_pools_hold)
{
	static void *objects[700];
	struct weir_cache *idle;
	size_t got = 0;

	CHECK_EQ(weir_set_limit(24 << 20, UINT64_MAX), 0);
	idle = cache_make(&(struct weir_cache_config){.object_bytes = 30000});
	while (got < 700 && (objects[got] = weir_cache_alloc(idle)) != NULL)
		got++;
	while (got > 0)
		weir_cache_free(idle, objects[--got]);
	/* Records for thousands of caches need pages that only it holds. */
	for (size_t i = 0; i < 5000; i++)
		(void)cache_make(
		    &(struct weir_cache_config){.object_bytes = 64});
}

TEST(a_new_cache_at_an_old_index_starts_clean)
{
	for (int round = 0; round < 50; round++) {
		struct weir_cache *cache =
		    cache_make(&(struct weir_cache_config){
			.object_bytes = round % 2 ? 64 : 4000});
		void *objects[300];

		for (size_t i = 0; i < 300; i++) {
			objects[i] = weir_cache_alloc(cache);
			memset(objects[i], round, round % 2 ? 64 : 4000);
		}
		for (size_t i = 0; i < 300; i++)
			weir_cache_free(cache, objects[i]);
		CHECK(weir_cache_check(cache));
		weir_cache_destroy(cache);
	}
}
