/* SPDX-License-Identifier: MIT */
/*
 * The n-th request to the system fails, for every n, once and from then on.
 *
 * Each scenario runs in a process that has never used the library, so that its
 * very first start is among the failing sites.  It must live through the
 * failure, give everything back, and then run to its end with the system well
 * again.  The sweep ends with the first n that the scenario does not reach.
 */
#include "support/test.h"

#include "os/os.h"
#include "pages/pages.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <weir/weir.h>

/* Runs to the end, or as far as memory allows: true if nothing was refused. */
typedef bool (*scenario_fn)(void);

/* ---- scenarios -------------------------------------------------------- */

static bool
scenario_cache(void)
{
	enum { COUNT = 3000 };
	static void *objects[COUNT];
	struct weir_cache *cache;
	bool whole = true;
	int error = weir_cache_create("oom",
	    &(struct weir_cache_config){.object_bytes = 300, .prealloc = 700},
	    &cache);

	if (error != 0) {
		CHECK_EQ(error, -ENOMEM);
		CHECK_NULL(cache);
		return false;
	}
	for (size_t i = 0; i < COUNT; i++) {
		objects[i] = weir_cache_alloc(cache);
		if (objects[i] == NULL)
			whole = false;
		else
			memset(objects[i], 0x5a, 300);
	}
	CHECK(weir_cache_check(cache));
	for (size_t i = 0; i < COUNT; i++)
		weir_cache_free(cache, objects[i]);
	CHECK(weir_cache_check(cache));
	weir_cache_destroy(cache);
	return whole;
}

static bool
scenario_region(void)
{
	struct weir_region *region;
	bool whole = true;
	int error = weir_region_create(NULL, NULL, &region);

	if (error != 0) {
		CHECK_EQ(error, -ENOMEM);
		CHECK_NULL(region);
		return false;
	}
	for (int round = 0; round < 3; round++) {
		for (size_t i = 0; i < 400; i++) {
			size_t bytes = i % 40 == 39 ? 300000 : 8 + i * 7 % 900;
			char *p = weir_region_alloc(region, bytes);

			if (p == NULL)
				whole = false;
			else
				memset(p, 0x5a, bytes);
		}
		CHECK(weir_region_check(region));
		weir_region_reset(region);
	}
	weir_region_destroy(region);
	return whole;
}

static bool
scenario_buffer(void)
{
	enum { COUNT = 600 };
	static const size_t sizes[] = {10, 500, 2048, 8000, 30000, 65536};
	static struct weir_buffer *buffers[COUNT];
	struct weir_buffer_pool *pool;
	bool whole = true;
	int error = weir_buffer_pool_create(
	    "oom", &(struct weir_buffer_pool_config){0}, &pool);

	if (error != 0) {
		CHECK_EQ(error, -ENOMEM);
		CHECK_NULL(pool);
		return false;
	}
	for (size_t i = 0; i < COUNT; i++) {
		buffers[i] = weir_buffer_acquire(pool, sizes[i % 6]);
		if (buffers[i] == NULL)
			whole = false;
		else
			memset(buffers[i]->data, 0x5a, sizes[i % 6]);
	}
	for (size_t i = 0; i < COUNT; i++)
		if (buffers[i] != NULL)
			weir_buffer_release(buffers[i]);
	weir_buffer_pool_destroy(pool);
	return whole;
}

static bool
scenario_heap(void)
{
	enum { COUNT = 100 };
	static const size_t sizes[] = {16, 500, 3000, 9000, 40000, 1200000};
	static unsigned char *objects[COUNT];
	struct weir_heap *heap;
	bool whole = true;
	int error = weir_heap_create("oom", NULL, &heap);

	if (error != 0) {
		CHECK_EQ(error, -ENOMEM);
		CHECK_NULL(heap);
		return false;
	}
	for (size_t i = 0; i < COUNT; i++) {
		objects[i] = weir_heap_alloc(heap, sizes[i % 50 % 6]);
		if (objects[i] == NULL)
			whole = false;
		else
			memset(objects[i], (int)i, 16);
	}
	for (size_t i = 0; i < COUNT; i++) {
		size_t bytes = sizes[(i + 1) % 50 % 6];
		unsigned char *moved;

		if (objects[i] == NULL)
			continue;
		moved = weir_heap_realloc(heap, objects[i], bytes);
		if (moved == NULL)
			whole = false;
		else
			objects[i] = moved;
		CHECK_EQ(objects[i][15], i % 256);
	}
	CHECK(weir_heap_check(heap));
	for (size_t i = 0; i < COUNT; i += 2)
		weir_heap_free(heap, objects[i]);
	CHECK(weir_heap_check(heap));
	weir_heap_destroy(heap);
	return whole;
}

/* The heap of the process: its very first call is among the failing ones. */
static bool
scenario_default_heap(void)
{
	void *small = weir_alloc(100), *large = weir_calloc(100, 1000);
	bool whole = small != NULL && large != NULL;

	weir_free(small);
	weir_free(large);
	CHECK(weir_heap_check(weir_heap_default()));
	return whole;
}

/* ---- the sweep -------------------------------------------------------- */

static void
expect_nothing_kept(void)
{
	struct weir_stats stats = {.size = sizeof(stats)};

	(void)weir_trim();
	CHECK(weiri_pages_check());
	CHECK_EQ(weir_stats_read(&stats), 0);
	CHECK_EQ(stats.bytes_in_spans, 0);
	CHECK_EQ(stats.bytes_charged,
	    stats.bytes_in_spans + stats.bytes_retained + stats.bytes_metadata);
}

/* Exit status: 0 the n-th call was reached, 3 it was not. */
static int
sweep_once(scenario_fn scenario, int64_t n, bool persistent)
{
	weiri_os_fail_nth(n, persistent);

	bool whole = scenario();
	bool reached = weiri_os_calls() >= n;

	weiri_os_fail_nth(0, false);
	CHECK(reached || whole);
	expect_nothing_kept();
	CHECK(scenario());
	expect_nothing_kept();
	return reached ? 0 : 3;
}

static void
sweep(scenario_fn scenario, bool persistent)
{
	int64_t n = 1;

	for (;; n++) {
		int status;
		pid_t child = fork();

		CHECK_NE(child, -1);
		if (child == 0)
			_exit(sweep_once(scenario, n, persistent));
		CHECK_EQ(waitpid(child, &status, 0), child);
		CHECK(WIFEXITED(status));
		if (WEXITSTATUS(status) == 3)
			break;
		CHECK_EQ(WEXITSTATUS(status), 0);
		CHECK_LT(n, 10000);
	}
	/* A sweep that met no site would prove nothing. */
	CHECK_GT(n, 3);
}

TEST(cache_lives_through_any_failing_system_call)
{
	sweep(scenario_cache, false);
	sweep(scenario_cache, true);
}

TEST(region_lives_through_any_failing_system_call)
{
	sweep(scenario_region, false);
	sweep(scenario_region, true);
}

TEST(buffer_lives_through_any_failing_system_call)
{
	sweep(scenario_buffer, false);
	sweep(scenario_buffer, true);
}

TEST(heap_lives_through_any_failing_system_call)
{
	sweep(scenario_heap, false);
	sweep(scenario_heap, true);
}

TEST(heap_of_the_process_lives_through_any_failing_system_call)
{
	sweep(scenario_default_heap, false);
	sweep(scenario_default_heap, true);
}
