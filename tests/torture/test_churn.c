/* SPDX-License-Identifier: MIT */
/*
 * Thousands of short threads: what each held comes back when it ends, memory
 * does not grow with their number, and every figure stays exact.
 */
#include "pages/pages.h"
#include "slab/depot.h"
#include "support/test.h"

#include <pthread.h>
#include <string.h>
#include <weir/weir.h>

enum { ROW = 8, KEPT = 5, TAKEN = 150 };

struct churn {
	struct weir_cache *cache[3];
	struct weir_heap *heap;
	struct weir_buffer_pool *buffers;
};

struct life {
	struct churn *churn;
	void *kept[KEPT]; /* of cache[0], for the main thread to free */
	size_t number;
};

/* Full and empty magazines, spares, and one object given to another thread. */
static void *
live(void *argument)
{
	struct life *life = argument;
	struct churn *churn = life->churn;
	struct weir_buffer *buffer = weir_buffer_acquire(churn->buffers, 1500);
	void *object[TAKEN];
	size_t taken = 1 + life->number * 37 % TAKEN;

	CHECK_NOT_NULL(buffer);
	for (size_t i = 0; i < KEPT; i++) {
		life->kept[i] = weir_cache_alloc(churn->cache[0]);
		CHECK_NOT_NULL(life->kept[i]);
	}
	for (size_t c = 0; c < 3; c++) {
		for (size_t i = 0; i < taken; i++) {
			object[i] = weir_cache_alloc(churn->cache[c]);
			CHECK_NOT_NULL(object[i]);
		}
		for (size_t i = 0; i < taken; i++)
			weir_cache_free(churn->cache[c], object[i]);
	}
	for (size_t i = 0; i < 20; i++) {
		void *block =
		    weir_heap_alloc(churn->heap, (size_t)16 << (i % 10));

		CHECK_NOT_NULL(block);
		weir_heap_free(churn->heap, block);
	}
	weir_buffer_release(buffer);
	return NULL;
}

static struct weir_pool_stats
stats_of(struct weir_cache *cache)
{
	struct weir_pool_stats stats = {.size = sizeof(stats)};

	CHECK_EQ(weir_cache_stats(cache, &stats), 0);
	return stats;
}

static uint64_t
charged(void)
{
	struct weir_stats stats = {.size = sizeof(stats)};

	CHECK_EQ(weir_stats_read(&stats), 0);
	return stats.bytes_charged;
}

static void
churn_row(struct churn *churn, size_t number)
{
	struct life life[ROW];
	pthread_t thread[ROW];

	for (size_t i = 0; i < ROW; i++) {
		life[i] = (struct life){.churn = churn, .number = number + i};
		CHECK_EQ(pthread_create(&thread[i], NULL, live, &life[i]), 0);
	}
	for (size_t i = 0; i < ROW; i++)
		pthread_join(thread[i], NULL);
	/* The threads are gone, and with them what they had cached; what they
	 * gave away is all that is out. */
	for (size_t c = 1; c < 3; c++) {
		CHECK_EQ(stats_of(churn->cache[c]).in_use, 0);
		CHECK_EQ(stats_of(churn->cache[c]).cached, 0);
	}
	CHECK_EQ(stats_of(churn->cache[0]).in_use, (uint64_t)ROW * KEPT);
	for (size_t i = 0; i < ROW; i++)
		for (size_t k = 0; k < KEPT; k++)
			weir_cache_free(churn->cache[0], life[i].kept[k]);
	CHECK_EQ(stats_of(churn->cache[0]).in_use, 0);
}

TEST_LIMIT(ten_thousand_short_threads_leave_nothing_behind, 120)
{
	struct churn churn;
	size_t rows = test_count(10000 / ROW), number = 0;
	uint64_t early = 0;

	for (size_t c = 0; c < 3; c++)
		CHECK_EQ(weir_cache_create("churn",
			     &(struct weir_cache_config){
				 .object_bytes = (size_t)24 << (2 * c),
				 .check = c == 1 ? WEIR_CHECK_BATCH
						 : WEIR_CHECK_EACH,
				 .limit = c == 2 ? (size_t)ROW * TAKEN : 0},
			     &churn.cache[c]),
		    0);
	CHECK_EQ(weir_heap_create("churn", NULL, &churn.heap), 0);
	CHECK_EQ(weir_buffer_pool_create("churn",
		     &(struct weir_buffer_pool_config){0}, &churn.buffers),
	    0);
	for (size_t row = 0; row < rows; row++, number += ROW) {
		churn_row(&churn, number);
		if (row == rows / 5)
			early = charged();
	}
	/* Each thread has had 16 KiB of its own and a dozen magazines; how many
	 * of them were about at once is the system's affair. */
	CHECK_LE(charged(), early + (2 << 20));
	for (size_t c = 0; c < 3; c++)
		CHECK(weir_cache_check(churn.cache[c]));
	CHECK(weir_heap_check(churn.heap));
	CHECK(weir_buffer_pool_check(churn.buffers));
	CHECK(weiri_pages_check());
	for (size_t c = 0; c < 3; c++)
		weir_cache_destroy(churn.cache[c]);
	weir_heap_destroy(churn.heap);
	weir_buffer_pool_destroy(churn.buffers);
}
