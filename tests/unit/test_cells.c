/* SPDX-License-Identifier: MIT */
/*
 * test_cells.c - more pools than a thread has cells for.
 *
 * Those that come too late keep nothing with threads and are used by their lock;
 * nothing else is to differ, and cells of pools that ended are used again.
 */
#include "test.h"

#include <weir/weir.h>

#include "pools/cache.h"

#include <string.h>

enum { CACHES = WEIR_ABI_CELLS + 40 };

static struct weir_cache *caches[CACHES];

/* A few objects of each, some of which another thread may free. */
static void
use_all(unsigned index, void *context)
{
	(void)context;
	for (size_t i = 0; i < CACHES; i++) {
		void *object[3];
		size_t count = weir_cache_alloc_bulk(caches[i], 2, object);

		CHECK_EQ(count, 2);
		object[2] = weir_cache_alloc(caches[i]);
		CHECK_NOT_NULL(object[2]);
		for (size_t n = 0; n < 3; n++)
			memset(object[n], (int)index, 48);
		weir_cache_free(caches[i], object[0]);
		weir_cache_free_bulk(caches[i], 2, &object[1]);
	}
	weir_thread_poll();
}

static void
expect_all_idle(void)
{
	for (size_t i = 0; i < CACHES; i++) {
		struct weir_pool_stats stats = {.size = sizeof(stats)};

		CHECK(weir_cache_check(caches[i]));
		CHECK_EQ(weir_cache_stats(caches[i], &stats), 0);
		CHECK_EQ(stats.in_use, 0);
		CHECK_GE(stats.requests, 3);
	}
}

TEST(caches_beyond_the_cells_of_threads_are_used_by_their_lock)
{
	size_t without = 0;

	for (size_t i = 0; i < CACHES; i++)
		CHECK_EQ(weir_cache_create("many",
			     &(struct weir_cache_config){.object_bytes = 48,
				 .check = i % 2 == 0 ? WEIR_CHECK_EACH
						     : WEIR_CHECK_BATCH},
			     &caches[i]),
		    0);
	for (size_t i = 0; i < CACHES; i++)
		without += caches[i]->depot.cell == WEIRI_CELL_NONE;
	CHECK_GE(without, 40);
	use_all(0, NULL);
	/* Threads that end leave nothing. */
	test_threads(3, use_all, NULL);
	expect_all_idle();
	/* What idles goes back in a few turns of the clock. */
	weir_set_decay(0);
	for (unsigned turn = 0; turn < 4; turn++)
		while (weir_maintain(UINT64_MAX))
			;
	expect_all_idle();
	for (size_t i = 0; i < CACHES / 2; i++) {
		weir_cache_destroy(caches[i]);
		CHECK_EQ(weir_cache_create("many",
			     &(struct weir_cache_config){.object_bytes = 48},
			     &caches[i]),
		    0);
	}
	use_all(1, NULL);
	expect_all_idle();
	for (size_t i = 0; i < CACHES; i++)
		weir_cache_destroy(caches[i]);
}
