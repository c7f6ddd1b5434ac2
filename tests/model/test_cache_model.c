/* SPDX-License-Identifier: MIT */
/*
 * Random operations on several caches against a twin: an array that remembers
 * each object's address and the byte it was filled with.  What the twin knows
 * must be what the cache says: contents, overlap, counts, limit.
 */
#include "support/test.h"

#include <stdlib.h>
#include <string.h>
#include <weir/weir.h>

enum { CACHES = 5, OBJECTS = 3000 };

struct twin {
	struct weir_cache *cache;
	size_t bytes;
	size_t limit;
	size_t live;
	unsigned char *object[OBJECTS];
	unsigned char fill[OBJECTS];
};

static void
twin_create(struct twin *twin, struct test_rng *rng)
{
	static const size_t aligns[] = {0, 8, 16, 64, 128, 4096};
	struct weir_cache_config config = {
	    .object_bytes = 1 + test_rand(rng) % 700,
	    .object_align = aligns[test_rand(rng) % 6],
	    .limit = test_rand(rng) % 2 ? 1 + test_rand(rng) % OBJECTS : 0,
	    .flags = test_rand(rng) % 4 ? 0 : WEIR_CACHE_COUNT,
	};

	if (config.limit != 0 && test_rand(rng) % 2)
		config.prealloc = test_rand(rng) % config.limit;
	*twin = (struct twin){.bytes = config.object_bytes,
	    .limit = config.limit == 0 ? SIZE_MAX : config.limit};
	CHECK_EQ(weir_cache_create("model", &config, &twin->cache), 0);
}

static void
twin_verify(const struct twin *twin, size_t i)
{
	for (size_t b = 0; b < twin->bytes; b++)
		CHECK_EQ(twin->object[i][b], twin->fill[i]);
}

static void
twin_alloc(struct twin *twin, struct test_rng *rng)
{
	unsigned char *object;

	if (twin->live == OBJECTS)
		return;
	object = weir_cache_alloc(twin->cache);
	if (twin->live == twin->limit) {
		CHECK_NULL(object);
		return;
	}
	CHECK_NOT_NULL(object);
	twin->fill[twin->live] = (unsigned char)test_rand(rng);
	memset(object, twin->fill[twin->live], twin->bytes);
	twin->object[twin->live++] = object;
}

static void
twin_free(struct twin *twin, struct test_rng *rng)
{
	size_t i;

	if (twin->live == 0)
		return;
	i = test_rand(rng) % twin->live;
	twin_verify(twin, i);
	weir_cache_free(twin->cache, twin->object[i]);
	twin->live--;
	twin->object[i] = twin->object[twin->live];
	twin->fill[i] = twin->fill[twin->live];
}

static void
twin_compare(const struct twin *twin)
{
	struct weir_pool_stats stats = {.size = sizeof(stats)};

	CHECK_EQ(weir_cache_stats(twin->cache, &stats), 0);
	CHECK_EQ(stats.in_use, twin->live);
	CHECK(stats.total <= twin->limit);
	CHECK(stats.in_use_peak >= twin->live);
	CHECK(weir_cache_check(twin->cache));
}

static void
twin_destroy(struct twin *twin)
{
	while (twin->live > 0) {
		twin_verify(twin, --twin->live);
		weir_cache_free(twin->cache, twin->object[twin->live]);
	}
	twin_compare(twin);
	weir_cache_destroy(twin->cache);
}

TEST(cache_agrees_with_an_array)
{
	static struct twin twins[CACHES];
	struct test_rng rng;
	size_t steps = test_count(400000);

	test_rng_init(&rng, test_seed());
	for (size_t i = 0; i < CACHES; i++)
		twin_create(&twins[i], &rng);
	for (size_t step = 0; step < steps; step++) {
		struct twin *twin = &twins[test_rand(&rng) % CACHES];
		uint64_t dice = test_rand(&rng) % 1000;
		/* Phases of growth and decline, so that slabs empty. */
		bool growing = step / 20000 % 2 == 0;

		if (dice < (growing ? 560u : 430u))
			twin_alloc(twin, &rng);
		else if (dice < 990)
			twin_free(twin, &rng);
		else if (dice < 996)
			(void)weir_cache_trim(twin->cache);
		else if (dice < 999)
			twin_compare(twin);
		else {
			twin_destroy(twin);
			twin_create(twin, &rng);
		}
	}
	for (size_t i = 0; i < CACHES; i++)
		twin_destroy(&twins[i]);
}
