/* SPDX-License-Identifier: MIT */
/*
 * Random operations on several heaps against a twin: each object has a copy in
 * malloc's memory, with which its contents must agree whenever it is looked at.
 * Random contents, so that two objects that overlap cannot agree by chance.
 */
#include "support/test.h"

#include <stdlib.h>
#include <string.h>
#include <weir/weir.h>

enum { HEAPS = 4, OBJECTS = 800 };

struct twin_object {
	unsigned char *object;
	unsigned char *copy;
	size_t bytes;
	bool aligned;
};

struct twin {
	struct weir_heap *heap;
	size_t limit;
	size_t live;
	size_t refused;
	struct twin_object objects[OBJECTS];
};

static void
twin_create(struct twin *twin, struct test_rng *rng)
{
	static const uint32_t classes[] = {32, 80, 400, 1008, 4096, 12288};
	struct weir_heap_config config = {
	    .check = test_rand(rng) % 2 ? WEIR_CHECK_EACH : WEIR_CHECK_BATCH,
	    .limit_bytes =
		test_rand(rng) % 2 ? (1 + test_rand(rng) % 8) << 20 : 0,
	};

	if (test_rand(rng) % 3 == 0) {
		config.class_bytes = classes;
		config.class_count = 1 + test_rand(rng) % 6;
	}
	memset(twin, 0, sizeof(*twin));
	twin->limit = config.limit_bytes != 0 ? config.limit_bytes : SIZE_MAX;
	CHECK_EQ(weir_heap_create("model", &config, &twin->heap), 0);
}

/* Mostly small, each doubling as likely as the next, some around borders. */
static size_t
random_bytes(struct test_rng *rng)
{
	size_t top = test_rand(rng) % 32 == 0 ? 20 : 12;
	size_t bytes = (size_t)1 << test_rand_below(rng, top);

	if (test_rand(rng) % 4 == 0)
		return bytes + test_rand(rng) % 3 - 1;
	return bytes + test_rand_below(rng, bytes);
}

static void
fill(unsigned char *object, unsigned char *copy, size_t from, size_t bytes,
    struct test_rng *rng)
{
	for (size_t at = from; at < bytes; at += sizeof(uint64_t)) {
		uint64_t word = test_rand(rng);
		size_t left = bytes - at;

		memcpy(copy + at, &word,
		    left < sizeof(word) ? left : sizeof(word));
	}
	memcpy(object + from, copy + from, bytes - from);
}

static void
twin_verify(const struct twin *twin, size_t i)
{
	const struct twin_object *o = &twin->objects[i];

	CHECK_MEM(o->object, o->copy, o->bytes);
	CHECK(weir_heap_of(o->object) == twin->heap);
}

/* Refused only where there is a limit. */
static bool
twin_refused(struct twin *twin, const void *object)
{
	if (object != NULL)
		return false;
	CHECK(twin->limit != SIZE_MAX);
	twin->refused++;
	return true;
}

static void
twin_alloc(struct twin *twin, struct test_rng *rng)
{
	struct twin_object *o = &twin->objects[twin->live];
	uint64_t how = test_rand(rng) % 8;
	size_t align = (size_t)1 << test_rand_below(rng, 14);

	if (twin->live == OBJECTS)
		return;
	*o = (struct twin_object){.bytes = random_bytes(rng)};
	if (how == 0) {
		o->object = weir_heap_calloc(twin->heap, 1, o->bytes);
	} else if (how == 1) {
		o->aligned = true;
		o->object = weir_heap_aligned(twin->heap, align, o->bytes);
		CHECK_EQ((uintptr_t)o->object % align, 0);
	} else {
		o->object = weir_heap_alloc(twin->heap, o->bytes);
	}
	if (twin_refused(twin, o->object))
		return;
	o->copy = calloc(1, o->bytes + 1);
	CHECK_NOT_NULL(o->copy);
	if (how == 0)
		CHECK_MEM(o->object, o->copy, o->bytes);
	fill(o->object, o->copy, 0, o->bytes, rng);
	twin->live++;
}

static void
twin_free(struct twin *twin, struct test_rng *rng)
{
	size_t i;

	if (twin->live == 0)
		return;
	i = test_rand_below(rng, twin->live);
	twin_verify(twin, i);

	struct twin_object *o = &twin->objects[i];

	if (!o->aligned && test_rand(rng) % 2)
		weir_heap_free_sized(twin->heap, o->object, o->bytes);
	else
		weir_heap_free(twin->heap, o->object);
	free(o->copy);
	*o = twin->objects[--twin->live];
}

static void
twin_realloc(struct twin *twin, struct test_rng *rng)
{
	if (twin->live == 0)
		return;

	size_t i = test_rand_below(rng, twin->live);
	struct twin_object *o = &twin->objects[i];
	size_t bytes = random_bytes(rng);
	unsigned char *object = weir_heap_realloc(twin->heap, o->object, bytes);

	if (twin_refused(twin, object)) {
		twin_verify(twin, i);
		return;
	}
	o->object = object;
	o->copy = realloc(o->copy, bytes + 1);
	CHECK_NOT_NULL(o->copy);
	CHECK_MEM(object, o->copy, o->bytes < bytes ? o->bytes : bytes);
	if (bytes > o->bytes)
		fill(object, o->copy, o->bytes, bytes, rng);
	o->bytes = bytes;
}

static void
twin_compare(const struct twin *twin)
{
	struct weir_pool_stats stats = {.size = sizeof(stats)};
	uint64_t usable = 0;

	for (size_t i = 0; i < twin->live; i++) {
		twin_verify(twin, i);
		usable += weir_usable_size(twin->objects[i].object);
	}
	CHECK_EQ(weir_heap_stats(twin->heap, &stats), 0);
	CHECK_EQ(stats.in_use, twin->live);
	/* Under guard an object has the size it was asked for with. */
	if (test_under_guard())
		CHECK_GE(stats.bytes_in_use, usable);
	else
		CHECK_EQ(stats.bytes_in_use, usable);
	CHECK_LE(stats.bytes_mapped, twin->limit);
	CHECK_GE(stats.failures, twin->refused);
	CHECK(weir_heap_check(twin->heap));
}

/* With everything in it, most of the time. */
static void
twin_destroy(struct twin *twin, struct test_rng *rng)
{
	if (test_rand(rng) % 3 == 0)
		while (twin->live > 0)
			twin_free(twin, rng);
	twin_compare(twin);
	for (size_t i = 0; i < twin->live; i++)
		free(twin->objects[i].copy);
	weir_heap_destroy(twin->heap);
}

TEST(heap_agrees_with_malloc)
{
	static struct twin twins[HEAPS];
	struct test_rng rng;
	size_t steps = test_count(80000);

	test_rng_init(&rng, test_seed());
	for (size_t i = 0; i < HEAPS; i++)
		twin_create(&twins[i], &rng);
	for (size_t step = 0; step < steps; step++) {
		struct twin *twin = &twins[test_rand(&rng) % HEAPS];
		uint64_t dice = test_rand(&rng) % 10000;
		bool growing = step / 6000 % 2 == 0;

		if (dice < (growing ? 5000u : 3000u))
			twin_alloc(twin, &rng);
		else if (dice < 7500)
			twin_free(twin, &rng);
		else if (dice < 9980)
			twin_realloc(twin, &rng);
		else if (dice < 9990)
			(void)weir_heap_trim(twin->heap);
		else if (dice < 9996)
			twin_compare(twin);
		else {
			twin_destroy(twin, &rng);
			twin_create(twin, &rng);
		}
	}
	for (size_t i = 0; i < HEAPS; i++)
		twin_destroy(&twins[i], &rng);
}
