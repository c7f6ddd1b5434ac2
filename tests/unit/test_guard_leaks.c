/* SPDX-License-Identifier: MIT */
/*
 * test_guard_leaks.c - what is in use: where it was taken, since when, and what
 * has been for unusually long.
 */
#include "support/test.h"

#include "guard/leaks.h"
#include "os/os.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <weir/weir.h>

#define SECOND UINT64_C(1000000000)

static uint64_t clock_ns;

static uint64_t
clock_read(void)
{
	return clock_ns;
}

static void
guard(enum weir_guard_mode mode, uint32_t rate)
{
	struct weir_guard_config config = {.mode = mode, .sample_rate = rate};

	CHECK_EQ(weir_guard_set(&config), 0);
}

static struct weir_cache *
make(const char *name, size_t bytes)
{
	struct weir_cache *cache;

	CHECK_EQ(
	    weir_cache_create(name,
		&(struct weir_cache_config){.object_bytes = bytes}, &cache),
	    0);
	return cache;
}

/* Each call of one is a site of its own. */
__attribute__((noinline)) static void *
take_here(struct weir_cache *cache)
{
	void *object = weir_cache_alloc(cache);

	CHECK_NOT_NULL(object);
	return object;
}

__attribute__((noinline)) static void *
take_there(struct weir_cache *cache)
{
	void *object = weir_cache_alloc(cache);

	CHECK_NOT_NULL(object);
	return object;
}

/* All by one call. */
__attribute__((noinline)) static void
take_many(struct weir_cache *cache, void **objects, int count)
{
	for (volatile int i = 0; i < count; i++)
		objects[i] = take_here(cache);
}

struct seen {
	size_t count, most;
	struct weir_leak leak[8];
	char line[8][320], json[8][3072], name[8][48];
};

static bool
see(const struct weir_leak *leak, void *context)
{
	struct seen *seen = context;
	size_t i = seen->count++;

	CHECK_LT(i, 8);
	seen->leak[i] = *leak;
	(void)snprintf(seen->line[i], sizeof(seen->line[i]), "%s", leak->line);
	(void)snprintf(seen->json[i], sizeof(seen->json[i]), "%s", leak->json);
	(void)snprintf(
	    seen->name[i], sizeof(seen->name[i]), "%s", leak->pool_name);
	CHECK_GT(leak->stack_count, 0);
	return seen->count < seen->most;
}

static struct seen *
leaks(enum weir_leaks which, size_t count)
{
	static struct seen seen;

	memset(&seen, 0, sizeof(seen));
	seen.most = 8;
	CHECK_EQ(weir_guard_leaks(which, see, &seen), count);
	CHECK_EQ(seen.count, count);
	return &seen;
}

TEST(objects_in_use_are_told_by_pool_and_site_the_most_bytes_first)
{
	struct weir_cache *conn, *page;
	void *few[3], *many[50], *large;
	struct seen *seen;

	guard(WEIR_GUARD_FULL, 0);
	CHECK_EQ(leaks(WEIR_LEAKS_ALL, 0)->count, 0);
	conn = make("conn", 100);
	page = make("page", 3000);
	take_many(conn, many, 50);
	take_many(conn, few, 3);
	large = take_here(page);
	/* Not in use any more. */
	weir_cache_free(conn, take_there(conn));
	clock_ns = weiri_os_now_ns() + 5 * SECOND;
	weiri_leaks_clock = clock_read;

	seen = leaks(WEIR_LEAKS_ALL, 3);
	CHECK_STR(seen->name[0], "conn");
	CHECK_EQ(seen->leak[0].objects, 50);
	CHECK_EQ(seen->leak[0].bytes, 5000);
	CHECK_GE(seen->leak[0].age_ns_min, 5 * SECOND);
	CHECK_GE(seen->leak[0].age_ns_max, seen->leak[0].age_ns_min);
	CHECK_EQ(seen->leak[0].suspect_ns, 0);
	CHECK_STR(seen->name[1], "page");
	CHECK_EQ(seen->leak[1].objects, 1);
	CHECK_EQ(seen->leak[1].bytes, 3000);
	CHECK_STR(seen->name[2], "conn");
	CHECK_EQ(seen->leak[2].objects, 3);
	CHECK_CONTAINS(seen->line[0],
	    "leak: cache \"conn\": 50 objects, 5000 bytes, taken ");
	CHECK_CONTAINS(seen->line[1],
	    "leak: cache \"page\": 1 object, 3000 bytes, taken ");
	CHECK_CONTAINS(seen->json[2], "{\"weir\":\"leak\",\"kind\":\"cache\","
				      "\"pool\":\"conn\",\"objects\":3,"
				      "\"bytes\":300,");
	CHECK_CONTAINS(seen->json[2], "\"modules\":[{\"path\":\"/");

	/* Until it has enough. */
	memset(seen, 0, sizeof(*seen));
	seen->most = 2;
	CHECK_EQ(weir_guard_leaks(WEIR_LEAKS_ALL, see, seen), 3);
	CHECK_EQ(seen->count, 2);

	for (int i = 0; i < 50; i++)
		weir_cache_free(conn, many[i]);
	for (int i = 0; i < 3; i++)
		weir_cache_free(conn, few[i]);
	weir_cache_free(page, large);
	(void)leaks(WEIR_LEAKS_ALL, 0);
	weir_cache_destroy(conn);
	weir_cache_destroy(page);
}

/* Whatever the machine does meanwhile, nothing here lives for hours. */
TEST(sample_in_use_for_far_longer_than_others_lived_is_a_suspect)
{
	struct weir_cache *cache, *other;
	struct seen *seen;
	void *old, *few;

	guard(WEIR_GUARD_SAMPLE, 1);
	cache = make("request", 200);
	other = make("listener", 200);
	for (int i = 0; i < 99; i++)
		weir_cache_free(cache, take_here(cache));
	old = take_there(cache);
	few = take_there(other);
	weiri_leaks_clock = clock_read;

	/* What 99 are is no quantile of 100. */
	clock_ns = weiri_os_now_ns() + 100 * 3600 * SECOND;
	(void)leaks(WEIR_LEAKS_SUSPECTS, 0);
	weir_cache_free(cache, take_here(cache));
	seen = leaks(WEIR_LEAKS_SUSPECTS, 1);
	CHECK_STR(seen->name[0], "request");
	CHECK_EQ(seen->leak[0].suspects, 1);
	CHECK_GT(seen->leak[0].suspect_ns, 0);
	CHECK_LT(seen->leak[0].suspect_ns, 3600 * SECOND);
	CHECK_CONTAINS(seen->line[0], ", 1 suspect: few live for ");
	CHECK_CONTAINS(seen->json[0], "\"suspects\":1,\"suspect_ns\":");
	/* All are told, suspects or not. */
	(void)leaks(WEIR_LEAKS_ALL, 2);

	/* Just taken, it is as young as any. */
	clock_ns = 0;
	(void)leaks(WEIR_LEAKS_SUSPECTS, 0);
	weir_cache_free(cache, old);
	weir_cache_free(other, few);
	weir_cache_destroy(cache);
	weir_cache_destroy(other);
}

/* Of a name that another pool has now, nothing is counted. */
TEST(lifetimes_are_a_pool_s_own)
{
	guard(WEIR_GUARD_FULL, 0);
	weiri_leaks_clock = clock_read;
	/* As many as there are names, so that each is used again. */
	for (int i = 0; i < 4200; i++) {
		struct weir_cache *cache = make("short", 64);
		void *object = take_here(cache);

		if (i < 4) {
			for (int n = 0; n < 200; n++)
				weir_cache_free(cache, take_here(cache));
			clock_ns = weiri_os_now_ns() + 3600 * SECOND;
			(void)leaks(WEIR_LEAKS_SUSPECTS, 1);
		} else if (i > 4100) {
			clock_ns = weiri_os_now_ns() + 3600 * SECOND;
			(void)leaks(WEIR_LEAKS_SUSPECTS, 0);
		}
		weir_cache_free(cache, object);
		weir_cache_destroy(cache);
	}
}

struct churn {
	struct weir_cache *cache;
	bool done;
};

static void *
churn_run(void *argument)
{
	struct churn *churn = argument;
	void *held[20];

	while (!__atomic_load_n(&churn->done, __ATOMIC_ACQUIRE)) {
		for (int i = 0; i < 20; i++)
			held[i] = take_here(churn->cache);
		for (int i = 0; i < 20; i++)
			weir_cache_free(churn->cache, held[i]);
	}
	return NULL;
}

static bool
count_one(const struct weir_leak *leak, void *context)
{
	CHECK_GT(leak->objects, 0);
	CHECK_LE(leak->objects, 80);
	++*(size_t *)context;
	return true;
}

TEST(others_take_and_free_while_leaks_are_told)
{
	struct churn churn = {.done = false};
	pthread_t threads[4];
	/* ThreadSanitizer looks at each pair of accesses, not at their number. */
	size_t told = 0, count = TEST_TSAN ? 20 : test_count(200);

	guard(WEIR_GUARD_FULL, 0);
	churn.cache = make("busy", 100);
	for (int i = 0; i < 4; i++)
		CHECK_EQ(
		    pthread_create(&threads[i], NULL, churn_run, &churn), 0);
	for (size_t i = 0; i < count || told == 0; i++)
		(void)weir_guard_leaks(WEIR_LEAKS_ALL, count_one, &told);
	__atomic_store_n(&churn.done, true, __ATOMIC_RELEASE);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	(void)leaks(WEIR_LEAKS_ALL, 0);
	weir_cache_destroy(churn.cache);
}
