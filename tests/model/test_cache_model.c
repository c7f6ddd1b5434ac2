/* SPDX-License-Identifier: MIT */
/*
 * Random operations on several caches against a twin: an array that remembers
 * each object's address, the byte it was filled with and its handle, and a ring
 * of the handles of objects that are gone.  What the twin knows must be what the
 * cache says: contents, overlap, counts, limit, which handles are good, and
 * which objects a walk shows.
 */
#include "support/test.h"

#include <stdlib.h>
#include <string.h>
#include <weir/weir.h>

enum { CACHES = 5, OBJECTS = 3000, BULK = 300, GONE = 512 };

struct twin {
	struct weir_cache *cache;
	size_t bytes;
	size_t limit;
	size_t live;
	unsigned char *object[OBJECTS];
	unsigned char fill[OBJECTS];
	bool handles;
	struct weir_handle handle[OBJECTS];
	struct weir_handle gone[GONE];
	size_t gone_count;
	bool exact; /* requests are counted */
	uint64_t requests, failures;
};

static void
twin_create(struct twin *twin, struct test_rng *rng)
{
	static const size_t aligns[] = {0, 8, 16, 64, 128, 4096};
	struct weir_cache_config config = {
	    .object_bytes = 1 + test_rand(rng) % 700,
	    .object_align = aligns[test_rand(rng) % 6],
	    .limit = test_rand(rng) % 2 ? 1 + test_rand(rng) % OBJECTS : 0,
	    .check = test_rand(rng) % 2 ? WEIR_CHECK_EACH : WEIR_CHECK_BATCH,
	    .flags = (test_rand(rng) % 4 ? 0u : WEIR_CACHE_COUNT) |
		     (test_rand(rng) % 2 ? 0u : WEIR_CACHE_HANDLES),
	};

	if (config.limit != 0 && test_rand(rng) % 2)
		config.prealloc = test_rand(rng) % config.limit;
	*twin = (struct twin){.bytes = config.object_bytes,
	    .limit = config.limit == 0 ? SIZE_MAX : config.limit,
	    .handles = (config.flags & WEIR_CACHE_HANDLES) != 0,
	    .exact = config.check == WEIR_CHECK_EACH ||
		     (config.flags & WEIR_CACHE_COUNT) != 0};
	CHECK_EQ(weir_cache_create("model", &config, &twin->cache), 0);
}

static void
twin_verify(const struct twin *twin, size_t i)
{
	for (size_t b = 0; b < twin->bytes; b++)
		CHECK_EQ(twin->object[i][b], twin->fill[i]);
}

static void
twin_enter(struct twin *twin, struct test_rng *rng, unsigned char *object)
{
	size_t i = twin->live++;

	CHECK_NOT_NULL(object);
	twin->fill[i] = (unsigned char)test_rand(rng);
	memset(object, twin->fill[i], twin->bytes);
	twin->object[i] = object;
	if (twin->handles)
		twin->handle[i] = weir_cache_handle(twin->cache, object);
}

/* The twin forgets object @i, which is still to be freed. */
static unsigned char *
twin_leave(struct twin *twin, size_t i)
{
	unsigned char *object = twin->object[i];

	twin_verify(twin, i);
	if (twin->handles) {
		CHECK_PTR(
		    weir_cache_resolve(twin->cache, twin->handle[i]), object);
		twin->gone[twin->gone_count++ % GONE] = twin->handle[i];
	}
	twin->live--;
	twin->object[i] = twin->object[twin->live];
	twin->fill[i] = twin->fill[twin->live];
	twin->handle[i] = twin->handle[twin->live];
	return object;
}

static void
twin_alloc(struct twin *twin, struct test_rng *rng)
{
	unsigned char *object;

	if (twin->live == OBJECTS)
		return;
	object = weir_cache_alloc(twin->cache);
	twin->requests++;
	if (twin->live == twin->limit) {
		CHECK_NULL(object);
		twin->failures++;
		return;
	}
	twin_enter(twin, rng, object);
}

static void
twin_alloc_bulk(struct twin *twin, struct test_rng *rng)
{
	void *objects[BULK];
	size_t count = test_rand(rng) % BULK;
	size_t room = twin->limit - twin->live;
	size_t got;

	if (twin->live + count > OBJECTS)
		return;
	got = weir_cache_alloc_bulk(twin->cache, count, objects);
	CHECK_EQ(got, count < room ? count : room);
	twin->requests += got + (got < count);
	twin->failures += got < count;
	for (size_t i = 0; i < got; i++)
		twin_enter(twin, rng, objects[i]);
}

static void
twin_free_bulk(struct twin *twin, struct test_rng *rng)
{
	void *objects[BULK];
	size_t count = test_rand(rng) % BULK;

	if (count > twin->live)
		count = twin->live;
	for (size_t i = 0; i < count; i++)
		objects[i] = twin_leave(twin, test_rand(rng) % twin->live);
	weir_cache_free_bulk(twin->cache, count, objects);
}

static void
twin_free(struct twin *twin, struct test_rng *rng)
{
	size_t i;

	if (twin->live == 0)
		return;
	i = test_rand(rng) % twin->live;
	weir_cache_free(twin->cache, twin_leave(twin, i));
}

/* Of what is live each once: the walk's objects against the twin's, sorted. */
struct twin_walk {
	const void *seen[OBJECTS];
	size_t count;
};

static bool
twin_see(void *object, void *context)
{
	struct twin_walk *walk = context;

	CHECK_LT(walk->count, OBJECTS);
	walk->seen[walk->count++] = object;
	return true;
}

static int
twin_order(const void *a, const void *b)
{
	uintptr_t x = (uintptr_t) * (void *const *)a;
	uintptr_t y = (uintptr_t) * (void *const *)b;

	return x < y ? -1 : x > y;
}

static void
twin_compare_walk(const struct twin *twin)
{
	static struct twin_walk walk;
	static const void *known[OBJECTS];

	walk.count = 0;
	CHECK_EQ(weir_cache_for_each(twin->cache, twin_see, &walk), twin->live);
	CHECK_EQ(walk.count, twin->live);
	for (size_t i = 0; i < twin->live; i++)
		known[i] = twin->object[i];
	qsort(known, twin->live, sizeof(*known), twin_order);
	qsort(walk.seen, walk.count, sizeof(*walk.seen), twin_order);
	CHECK_MEM(known, walk.seen, twin->live * sizeof(*known));
}

static void
twin_compare_handles(const struct twin *twin)
{
	size_t gone = twin->gone_count < GONE ? twin->gone_count : GONE;

	if (!twin->handles)
		return;
	for (size_t i = 0; i < twin->live; i++)
		CHECK_PTR(weir_cache_resolve(twin->cache, twin->handle[i]),
		    twin->object[i]);
	for (size_t i = 0; i < gone; i++)
		CHECK_NULL(weir_cache_resolve(twin->cache, twin->gone[i]));
}

static void
twin_compare(const struct twin *twin)
{
	struct weir_pool_stats stats = {.size = sizeof(stats)};

	CHECK_EQ(weir_cache_stats(twin->cache, &stats), 0);
	CHECK_EQ(stats.in_use, twin->live);
	CHECK(stats.total <= twin->limit);
	CHECK(stats.in_use_peak >= twin->live);
	if (twin->exact)
		CHECK_EQ(stats.requests, twin->requests);
	CHECK_LE(stats.requests, twin->requests);
	CHECK_EQ(stats.failures, twin->failures);
	CHECK(weir_cache_check(twin->cache));
	twin_compare_walk(twin);
	twin_compare_handles(twin);
}

static void
twin_destroy(struct twin *twin)
{
	while (twin->live > 0)
		weir_cache_free(twin->cache, twin_leave(twin, twin->live - 1));
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

		if (dice < (growing ? 556u : 426u))
			twin_alloc(twin, &rng);
		else if (dice < 974)
			twin_free(twin, &rng);
		else if (dice < (growing ? 983u : 981u))
			twin_alloc_bulk(twin, &rng);
		else if (dice < 990)
			twin_free_bulk(twin, &rng);
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
