/* SPDX-License-Identifier: MIT */
/*
 * menu_common.h - a pool of each kind that the debug menu means something for, in
 * one form.
 */
#ifndef TEST_MENU_COMMON_H
#define TEST_MENU_COMMON_H

#include "support/test.h"

#include <string.h>
#include <weir/weir.h>

/* ---- pools of every kind --------------------------------------------------- */

/* One of them at a time, as `pool`; all have the name "conn". */
struct kind {
	const char *kind;
	size_t bytes;
	void (*make)(const struct kind *kind);
	void *(*take)(const struct kind *kind);
	void (*give)(void *object);
	void (*end)(void);
	struct weir_pool_stats (*figures)(void);
	const char *how; /* an object ends */
	enum weir_check_level check;
};

static union {
	struct weir_cache *cache;
	struct weir_heap *heap;
	struct weir_region *region;
	struct weir_buffer_pool *buffers;
} pool;

static struct weir_pool_stats
empty_stats(void)
{
	return (struct weir_pool_stats){.size = sizeof(struct weir_pool_stats)};
}

static void
cache_make(const struct kind *kind)
{
	struct weir_cache_config config = {
	    .object_bytes = kind->bytes, .check = kind->check};

	CHECK_EQ(weir_cache_create("conn", &config, &pool.cache), 0);
}

static void *
cache_take(const struct kind *kind)
{
	(void)kind;
	return weir_cache_alloc(pool.cache);
}

static void
cache_give(void *object)
{
	weir_cache_free(pool.cache, object);
}

static void
cache_end(void)
{
	CHECK(weir_cache_check(pool.cache));
	weir_cache_destroy(pool.cache);
}

static struct weir_pool_stats
cache_figures(void)
{
	struct weir_pool_stats stats = empty_stats();

	CHECK_EQ(weir_cache_stats(pool.cache, &stats), 0);
	return stats;
}

static void
heap_make(const struct kind *kind)
{
	struct weir_heap_config config = {.check = kind->check};

	CHECK_EQ(weir_heap_create("conn", &config, &pool.heap), 0);
}

static void *
heap_take(const struct kind *kind)
{
	return weir_heap_alloc(pool.heap, kind->bytes);
}

static void
heap_give(void *object)
{
	weir_heap_free(pool.heap, object);
}

static void
heap_end(void)
{
	CHECK(weir_heap_check(pool.heap));
	weir_heap_destroy(pool.heap);
}

static struct weir_pool_stats
heap_figures(void)
{
	struct weir_pool_stats stats = empty_stats();

	CHECK_EQ(weir_heap_stats(pool.heap, &stats), 0);
	return stats;
}

static struct weir_region_kind region_kind = WEIR_REGION_KIND("conn");

static void
region_make(const struct kind *kind)
{
	(void)kind;
	CHECK_EQ(weir_region_create(&region_kind, NULL, &pool.region), 0);
}

static void *
region_take(const struct kind *kind)
{
	return weir_region_alloc(pool.region, kind->bytes);
}

static void
region_give(void *object)
{
	(void)object;
	weir_region_reset(pool.region);
}

static void
region_end(void)
{
	weir_region_destroy(pool.region);
}

static struct weir_pool_stats
region_figures(void)
{
	struct weir_pool_stats stats = empty_stats();

	CHECK_EQ(weir_region_kind_stats(&region_kind, &stats), 0);
	return stats;
}

static void
buffer_make(const struct kind *kind)
{
	struct weir_buffer_pool_config config = {
	    .tier = {{.bytes = (uint32_t)kind->bytes}}, .tier_count = 1};

	CHECK_EQ(weir_buffer_pool_create("conn", &config, &pool.buffers), 0);
}

/* By its payload, as of all others. */
static struct weir_buffer *buffer_taken;

static void *
buffer_take(const struct kind *kind)
{
	struct weir_buffer *buffer =
	    weir_buffer_acquire(pool.buffers, kind->bytes);

	if (buffer == NULL)
		return NULL;
	buffer_taken = buffer;
	return buffer->data;
}

static void
buffer_give(void *object)
{
	CHECK_PTR(buffer_taken->data, object);
	weir_buffer_release(buffer_taken);
}

static void
buffer_end(void)
{
	weir_buffer_pool_destroy(pool.buffers);
}

static struct weir_pool_stats
buffer_figures(void)
{
	struct weir_pool_stats stats = empty_stats();

	CHECK_EQ(weir_buffer_pool_stats(pool.buffers, 0, &stats), 0);
	return stats;
}

#define CACHE                                                        \
	"cache", 200, cache_make, cache_take, cache_give, cache_end, \
	    cache_figures, "free"
#define HEAP(bytes)                                               \
	"heap", bytes, heap_make, heap_take, heap_give, heap_end, \
	    heap_figures, "free"

static const struct kind kinds[] = {
    {CACHE, WEIR_CHECK_EACH},
    {CACHE, WEIR_CHECK_BATCH},
    {HEAP(200), WEIR_CHECK_EACH},
    {HEAP(200), WEIR_CHECK_BATCH},
    {HEAP(1000000), WEIR_CHECK_EACH},
    {"region", 200, region_make, region_take, region_give, region_end,
	region_figures, "reset", 0},
    {"buffer", 200, buffer_make, buffer_take, buffer_give, buffer_end,
	buffer_figures, "unref", 0},
};

#define KINDS (sizeof(kinds) / sizeof(kinds[0]))
#define FOR_KINDS(kind) \
	for (const struct kind *kind = kinds; kind < kinds + KINDS; kind++)

static void
menu(const char *text)
{
	CHECK_EQ(weir_debug_set(text), 0);
}

static char *
take(const struct kind *kind)
{
	char *object = kind->take(kind);

	CHECK_NOT_NULL(object);
	return object;
}

#endif /* TEST_MENU_COMMON_H */
