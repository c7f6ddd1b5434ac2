/* SPDX-License-Identifier: MIT */
/*
 * ops_cache.c - caches of all kinds, and a heap.
 */
#include "ops.h"

#include <weir/cache.h>
#include <weir/heap.h>

#include <string.h>

#define CACHES 4
#define BULK 40

/* ---- caches --------------------------------------------------------------- */

struct cache_twin {
	struct weir_cache *cache; /* NULL: not there */
	struct weir_cache_config config;
	uint64_t failures;
	uint64_t made, gone; /* calls of ctor and dtor */
};

static struct cache_twin caches[CACHES];

static void
cache_made(void *object, void *context)
{
	(void)object;
	((struct cache_twin *)context)->made++;
}

static void
cache_gone(void *object, void *context)
{
	(void)object;
	((struct cache_twin *)context)->gone++;
}

static void
cache_create(struct cache_twin *twin)
{
	static const size_t align[] = {0, 8, 16, 64, 256, 4096};
	unsigned how = ops_byte();

	memset(twin, 0, sizeof(*twin));
	twin->config = (struct weir_cache_config){
	    .object_bytes = 1 + ops_size(),
	    .object_align = align[ops_below(6)],
	    .limit = (how & 3) == 0 ? 1u + ops_byte() * 4u : 0,
	    .check = (how & 4) != 0 ? WEIR_CHECK_BATCH : WEIR_CHECK_EACH,
	    .flags = ((how & 8) != 0 ? WEIR_CACHE_ZERO : 0u) |
		     ((how & 16) != 0 ? WEIR_CACHE_COUNT : 0u) |
		     ((how & 32) != 0 ? WEIR_CACHE_HANDLES : 0u),
	    .ctor = (how & 64) != 0 ? cache_made : NULL,
	    .dtor = (how & 64) != 0 ? cache_gone : NULL,
	    .context = twin,
	};
	if (twin->config.limit != 0 && (how & 128) != 0)
		twin->config.prealloc = twin->config.limit / 2;
	if (twin->config.object_bytes > 100000)
		twin->config.prealloc = 0;
	OPS_CHECK(
	    weir_cache_create("fuzzed", &twin->config, &twin->cache) == 0);
}

static size_t
cache_align(const struct cache_twin *twin)
{
	return twin->config.object_align != 0 ? twin->config.object_align : 16;
}

static void
cache_took(struct cache_twin *twin, void *object)
{
	if ((twin->config.flags & WEIR_CACHE_ZERO) != 0)
		shadow_expect_zero(object, twin->config.object_bytes);
	shadow_add(twin, object, twin->config.object_bytes, cache_align(twin));
}

/* How many more there may be, as far as the limit goes. */
static size_t
cache_room(const struct cache_twin *twin)
{
	return twin->config.limit == 0
		   ? SIZE_MAX
		   : twin->config.limit - shadow_count(twin);
}

static void
cache_alloc(struct cache_twin *twin)
{
	size_t room = cache_room(twin);
	void *object;

	if (shadow_full())
		return;
	object = weir_cache_alloc(twin->cache);
	OPS_CHECK((object != NULL) == (room > 0));
	if (object != NULL)
		cache_took(twin, object);
	else
		twin->failures++;
}

static void
cache_free(struct cache_twin *twin)
{
	struct shadow_object *object = shadow_pick(twin, ops_word());
	void *address;

	if (object == NULL)
		return;
	address = object->address;
	shadow_remove(object);
	weir_cache_free(twin->cache, address);
}

static void
cache_alloc_bulk(struct cache_twin *twin)
{
	void *object[BULK];
	size_t count = ops_below(BULK + 1), room = cache_room(twin), got;

	if (shadow_count(twin) + count > SHADOW_OBJECTS / 2 || shadow_full())
		return;
	for (size_t i = 0; i < CACHES; i++)
		if (shadow_count(&caches[i]) > SHADOW_OBJECTS / 4)
			return;
	got = weir_cache_alloc_bulk(twin->cache, count, object);
	OPS_CHECK(got == (count < room ? count : room));
	twin->failures += count - got;
	for (size_t i = 0; i < got; i++)
		cache_took(twin, object[i]);
}

static void
cache_free_bulk(struct cache_twin *twin)
{
	void *object[BULK];
	size_t count = ops_below(BULK + 1);

	for (size_t i = 0; i < count; i++) {
		struct shadow_object *one = shadow_pick(twin, ops_byte());

		if (one == NULL) {
			count = i;
			break;
		}
		object[i] = one->address;
		shadow_remove(one);
	}
	weir_cache_free_bulk(twin->cache, count, object);
}

static void
cache_check_one(struct cache_twin *twin)
{
	struct weir_pool_stats stats = {.size = sizeof(stats)};
	size_t out = shadow_count(twin);

	OPS_CHECK(weir_cache_check(twin->cache));
	OPS_CHECK(weir_cache_stats(twin->cache, &stats) == 0);
	OPS_CHECK(stats.in_use == out);
	OPS_CHECK(stats.in_use_peak >= out);
	OPS_CHECK(stats.total >= out);
	OPS_CHECK(twin->config.limit == 0 || stats.total <= twin->config.limit);
	OPS_CHECK(stats.bytes_in_use + stats.bytes_cached + stats.bytes_idle +
		      stats.bytes_untouched + stats.bytes_overhead ==
		  stats.bytes_mapped);
	if (twin->config.ctor != NULL)
		OPS_CHECK(twin->made - twin->gone == out);
}

static void
cache_end(struct cache_twin *twin)
{
	struct shadow_object *object;

	if (twin->cache == NULL)
		return;
	while ((object = shadow_pick(twin, 0)) != NULL) {
		void *address = object->address;

		shadow_remove(object);
		weir_cache_free(twin->cache, address);
	}
	cache_check_one(twin);
	weir_cache_destroy(twin->cache);
	twin->cache = NULL;
}

static void
caches_begin(void)
{
	memset(caches, 0, sizeof(caches));
}

static void
caches_step(void)
{
	unsigned what = ops_byte();
	struct cache_twin *twin = &caches[what % CACHES];

	if (twin->cache == NULL) {
		cache_create(twin);
		return;
	}
	switch (what / CACHES % 16) {
	case 0:
		cache_end(twin);
		break;
	case 1:
		(void)weir_cache_trim(twin->cache);
		break;
	case 2:
	case 3:
		cache_alloc_bulk(twin);
		break;
	case 4:
	case 5:
		cache_free_bulk(twin);
		break;
	case 6:
		cache_check_one(twin);
		break;
	case 7:
	case 8:
	case 9:
	case 10:
		cache_free(twin);
		break;
	default:
		cache_alloc(twin);
		break;
	}
}

static void
caches_check(void)
{
	for (size_t i = 0; i < CACHES; i++)
		if (caches[i].cache != NULL)
			cache_check_one(&caches[i]);
}

static void
caches_end(void)
{
	for (size_t i = 0; i < CACHES; i++)
		cache_end(&caches[i]);
}

const struct ops_pool ops_cache = {
    caches_begin, caches_step, caches_check, caches_end};

/* ---- a heap -------------------------------------------------------------------- */

static struct weir_heap *heap;
/* Of weir_heap_aligned(), or not: such an object is not freed with a size. */
static const char heap_owner[2];

static void
heap_begin(void)
{
	OPS_CHECK(weir_heap_create("fuzzed", NULL, &heap) == 0);
}

static void
heap_took(void *object, size_t bytes, size_t align)
{
	OPS_CHECK(object != NULL);
	OPS_CHECK(weir_usable_size(object) >= bytes);
	OPS_CHECK(weir_heap_of(object) == heap);
	shadow_add(&heap_owner[align > 16], object, bytes, align);
}

/* Any of both kinds, or NULL. */
static struct shadow_object *
heap_pick(void)
{
	unsigned number = ops_word();
	struct shadow_object *object =
	    shadow_pick(&heap_owner[number % 4 == 0], number / 4);

	return object != NULL
		   ? object
		   : shadow_pick(&heap_owner[number % 4 != 0], number / 4);
}

static void
heap_alloc(void)
{
	size_t bytes = 1 + ops_size();

	heap_took(weir_heap_alloc(heap, bytes), bytes, bytes >= 16 ? 16 : 8);
}

static void
heap_calloc(void)
{
	size_t count = 1u + ops_byte(), each = 1u + ops_byte();
	void *object = weir_heap_calloc(heap, count, each);

	OPS_CHECK(object != NULL);
	shadow_expect_zero(object, count * each);
	heap_took(object, count * each, 8);
	OPS_CHECK(weir_heap_calloc(heap, SIZE_MAX / 2, 2 + each) == NULL);
}

static void
heap_aligned(void)
{
	size_t align = (size_t)32 << ops_below(12);
	size_t bytes = 1 + ops_size();

	heap_took(weir_heap_aligned(heap, align, bytes), bytes, align);
}

static void
heap_realloc(void)
{
	struct shadow_object *object = heap_pick();
	size_t bytes = 1 + ops_size();
	void *moved;

	if (object == NULL)
		return;
	shadow_verify(object);
	moved = weir_heap_realloc(heap, object->address, bytes);
	OPS_CHECK(moved != NULL);
	OPS_CHECK(weir_usable_size(moved) >= bytes);
	shadow_move(object, moved, bytes, 8);
}

static void
heap_free(bool sized)
{
	struct shadow_object *object = heap_pick();
	struct shadow_object copy;

	if (object == NULL)
		return;
	copy = *object;
	shadow_remove(object);
	if (sized && copy.owner == &heap_owner[0])
		weir_heap_free_sized(heap, copy.address, copy.bytes);
	else
		weir_heap_free(heap, copy.address);
}

static size_t
heap_count(void)
{
	return shadow_count(&heap_owner[0]) + shadow_count(&heap_owner[1]);
}

static void
heap_check(void)
{
	struct weir_pool_stats stats = {.size = sizeof(stats)};

	OPS_CHECK(weir_heap_check(heap));
	OPS_CHECK(weir_heap_stats(heap, &stats) == 0);
	OPS_CHECK(stats.in_use == heap_count());
}

static void
heap_step(void)
{
	unsigned what = ops_below(16);

	if (shadow_full())
		what = 12;
	switch (what) {
	case 0:
		(void)weir_heap_trim(heap);
		break;
	case 1:
		heap_check();
		break;
	case 2:
		heap_calloc();
		break;
	case 3:
		heap_aligned();
		break;
	case 4:
	case 5:
	case 6:
		heap_realloc();
		break;
	case 7:
	case 8:
	case 9:
	case 10:
	case 11:
		heap_alloc();
		break;
	default:
		heap_free(what == 15);
		break;
	}
}

static void
heap_end(void)
{
	while (heap_count() > 0)
		heap_free(false);
	heap_check();
	weir_heap_destroy(heap);
	heap = NULL;
}

const struct ops_pool ops_heap = {heap_begin, heap_step, heap_check, heap_end};
