/* SPDX-License-Identifier: MIT */
/*
 * Caches whose states are in a table at the slab's start: of all addresses of a
 * slab, those of objects in use are told from all others.
 */
#include "support/test.h"

#include "pools/cache.h"

#include <stdio.h>

/* Whose state is a word is no matter here. */
static const struct {
	size_t bytes, align;
} shapes[] = {{8, 8}, {16, 16}, {24, 8}, {32, 32}, {40, 8}, {48, 16}, {64, 16},
    {64, 64}, {96, 32}, {120, 8}, {128, 128}, {192, 64}, {256, 128}, {384, 128},
    {512, 128}, {512, 512}, {640, 128}, {768, 256}, {896, 128}, {1024, 1024},
    {1024, 256}};

enum { OBJECTS = 13000 };

static bool
is_told_live(const struct weir_cache *cache, uintptr_t address)
{
	return *weir_abi_entry(&cache->head, (void *)address) ==
	       (uint16_t)address;
}

static bool
is_object(const struct weiri_slab *slab, uintptr_t address)
{
	uintptr_t first = (uintptr_t)slab->first;
	size_t slot_bytes = slab->depot->slot_bytes;

	return address >= first && (address - first) % slot_bytes == 0 &&
	       (address - first) / slot_bytes < slab->slot_count;
}

/* With all of the slab's objects in use, and with none. */
static void
slab_is_told(
    const struct weir_cache *cache, const struct weiri_slab *slab, bool in_use)
{
	uintptr_t base = (uintptr_t)slab->span.base;

	for (uintptr_t at = base; at < base + WEIR_ABI_TABLE_SLAB; at++) {
		bool live = in_use && is_object(slab, at);

		if (is_told_live(cache, at) != live)
			FAIL("slots of %u, offset %u: told %s",
			    (unsigned)cache->depot.slot_bytes,
			    (unsigned)(at - base), live ? "free" : "in use");
	}
	CHECK_LT((uintptr_t)weir_abi_entry(
		     &cache->head, (void *)(base + WEIR_ABI_TABLE_SLAB - 1)),
	    (uintptr_t)slab->first);
}

TEST(of_all_addresses_of_a_slab_those_of_objects_in_use_are_told)
{
	NOT_UNDER_GUARD("objects are elsewhere");

	static void *objects[OBJECTS];
	size_t tables = 0;

	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
		struct weir_cache_config config = {
		    .object_bytes = shapes[i].bytes,
		    .object_align = shapes[i].align};
		struct weir_cache *cache;
		const struct weiri_slab *slab;
		size_t count = 0;

		CHECK_EQ(weir_cache_create("table", &config, &cache), 0);
		if (cache->state != WEIRI_CACHE_TABLE) {
			weir_cache_destroy(cache);
			continue;
		}
		tables++;
		/* All of the first slab, and of the second. */
		objects[count++] = weir_cache_alloc(cache);
		slab = (struct weiri_slab *)weiri_span_of(objects[0]);
		while (count < 2 * slab->slot_count + 1) {
			CHECK_LT(count, OBJECTS);
			objects[count] = weir_cache_alloc(cache);
			CHECK_NOT_NULL(objects[count]);
			count++;
		}
		slab_is_told(cache, slab, true);
		for (size_t j = 0; j < count; j++)
			weir_cache_free(cache, objects[j]);
		slab_is_told(cache, slab, false);
		CHECK(weir_cache_check(cache));
		weir_cache_destroy(cache);
	}
	CHECK_GE(tables, 12);
}
