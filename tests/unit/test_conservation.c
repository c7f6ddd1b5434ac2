/* SPDX-License-Identifier: MIT */
/*
 * test_conservation.c - every byte that is charged is somewhere: after a storm of
 * all pools, the sums over pools, pages and records are what the process has.
 */
#include "maintain_common.h"

#include "os/os.h"
#include "pages/pages.h"
#include "pools/cache.h"

#include <stdlib.h>
#include <string.h>

enum { POOLS = 64 };

struct sums {
	uint64_t mapped, in_use;
};

/* Every law that stats.h states, to the byte; and the sums over all pools. */
static struct sums
check_conservation(void)
{
	static struct weir_pool_stats pool[POOLS];
	struct weir_stats stats;
	struct sums sums = {0, 0};
	size_t count;

	pool[0].size = sizeof(pool[0]);
	count = weir_stats_pools(pool, POOLS);
	CHECK_LE(count, POOLS);
	stats = process_stats();
	for (size_t i = 0; i < count; i++) {
		const struct weir_pool_stats *p = &pool[i];

		if (p->kind == WEIR_POOL_BUDDY || p->kind == WEIR_POOL_BOUNDED)
			continue;
		CHECK_EQ(p->bytes_mapped,
		    p->bytes_in_use + p->bytes_cached + p->bytes_idle +
			p->bytes_untouched + p->bytes_overhead);
		CHECK_EQ(p->total, p->in_use + p->available);
		CHECK_EQ(p->lost_in_fork, 0);
		sums.mapped += p->bytes_mapped;
		sums.in_use += p->bytes_in_use;
	}
	/* Objects of regions under guard are charged, and have no spans. */
	if (test_under_guard())
		CHECK_LE(
		    stats.bytes_in_spans, stats.bytes_shared + sums.mapped);
	else
		CHECK_EQ(
		    stats.bytes_in_spans, stats.bytes_shared + sums.mapped);
	CHECK_EQ(stats.bytes_charged,
	    stats.bytes_in_spans + stats.bytes_retained + stats.bytes_metadata);
	return sums;
}

struct mixed {
	struct weir_cache *cache[3];
	struct weir_buffer_pool *buffers;
	struct weir_heap *heap;
	struct weir_region *region;
	void *object[3][300];
	struct weir_buffer *buffer[60];
	void *block[200];
};

static void
mixed_fill(struct mixed *mixed, struct test_rng *rng)
{
	for (size_t c = 0; c < 3; c++)
		for (size_t i = 0; i < 300; i++)
			if (mixed->object[c][i] == NULL)
				mixed->object[c][i] =
				    weir_cache_alloc(mixed->cache[c]);
	for (size_t i = 0; i < 60; i++)
		if (mixed->buffer[i] == NULL)
			mixed->buffer[i] = weir_buffer_acquire(
			    mixed->buffers, 1 + test_rand_below(rng, 60000));
	for (size_t i = 0; i < 200; i++)
		if (mixed->block[i] == NULL)
			mixed->block[i] = weir_heap_alloc(
			    mixed->heap, 1 + test_rand_below(rng, 100000));
	if (mixed->region == NULL)
		CHECK_EQ(weir_region_create(NULL, NULL, &mixed->region), 0);
	(void)!weir_region_alloc(
	    mixed->region, 1 + test_rand_below(rng, 200000));
}

/* Gives back @part of 100 of what is out. */
static void
mixed_drain(struct mixed *mixed, struct test_rng *rng, uint64_t part)
{
	for (size_t c = 0; c < 3; c++)
		for (size_t i = 0; i < 300; i++)
			if (test_rand_below(rng, 100) < part) {
				weir_cache_free(
				    mixed->cache[c], mixed->object[c][i]);
				mixed->object[c][i] = NULL;
			}
	for (size_t i = 0; i < 60; i++)
		if (mixed->buffer[i] != NULL &&
		    test_rand_below(rng, 100) < part) {
			weir_buffer_release(mixed->buffer[i]);
			mixed->buffer[i] = NULL;
		}
	for (size_t i = 0; i < 200; i++)
		if (test_rand_below(rng, 100) < part) {
			weir_heap_free(mixed->heap, mixed->block[i]);
			mixed->block[i] = NULL;
		}
	if (mixed->region != NULL && test_rand_below(rng, 100) < part) {
		weir_region_destroy(mixed->region);
		mixed->region = NULL;
	}
}

struct mixed_thread {
	struct mixed *mixed;
	uint64_t seed;
};

/* Frees on another thread than the one that allocated. */
static void *
mixed_drain_thread(void *argument)
{
	struct mixed_thread *thread = argument;
	struct test_rng rng;

	test_rng_init(&rng, thread->seed);
	weir_region_take_over(thread->mixed->region);
	mixed_drain(thread->mixed, &rng, 60);
	if (thread->mixed->region != NULL)
		weir_region_hand_off(thread->mixed->region);
	return NULL;
}

TEST(every_byte_is_accounted_for_when_all_is_quiet)
{
	static struct mixed mixed;
	struct test_rng rng;
	size_t rounds = test_count(60);

	test_rng_init(&rng, test_seed());
	mixed.cache[0] = cache_make(40, 0);
	mixed.cache[1] = cache_make(3000, 100);
	CHECK_EQ(
	    weir_cache_create("each",
		&(struct weir_cache_config){.object_bytes = 200, .limit = 1000},
		&mixed.cache[2]),
	    0);
	CHECK_EQ(weir_buffer_pool_create("mixed",
		     &(struct weir_buffer_pool_config){0}, &mixed.buffers),
	    0);
	CHECK_EQ(weir_heap_create("mixed", NULL, &mixed.heap), 0);
	weir_set_decay(16);
	for (size_t round = 0; round < rounds; round++) {
		struct mixed_thread other = {&mixed, test_rand(&rng)};
		pthread_t thread;

		mixed_fill(&mixed, &rng);
		CHECK_GT(check_conservation().in_use, 300 * KIB);
		weir_region_hand_off(mixed.region);
		CHECK_EQ(
		    pthread_create(&thread, NULL, mixed_drain_thread, &other),
		    0);
		pthread_join(thread, NULL);
		if (mixed.region != NULL)
			weir_region_take_over(mixed.region);
		(void)check_conservation();
		mixed_drain(&mixed, &rng, 30);
		(void)weir_maintain(test_rand_below(&rng, 200000));
		(void)check_conservation();
		if (round % 16 == 15)
			(void)weir_trim();
		(void)check_conservation();
	}
	mixed_drain(&mixed, &rng, 100);
	CHECK_EQ(check_conservation().in_use, 0);
	(void)weir_trim();
	(void)check_conservation();
	for (size_t c = 0; c < 3; c++)
		weir_cache_destroy(mixed.cache[c]);
	weir_buffer_pool_destroy(mixed.buffers);
	weir_heap_destroy(mixed.heap);
	CHECK_EQ(check_conservation().mapped, 0);
}
