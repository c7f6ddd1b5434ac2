/* SPDX-License-Identifier: MIT */
/*
 * What a heap keeps when the sizes that a program asks for change.
 */
#include "support/test.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <weir/weir.h>

#define MIB ((size_t)1048576)
#define KIB ((size_t)1024)

enum { OBJECTS = 65536 };

static unsigned char *objects[OBJECTS];

/* The system's pages that are in memory, of those that @count objects at a
 * distance of @every in the table were on. */
static size_t
count_resident(unsigned char *const *addresses, size_t count)
{
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
	size_t resident = 0;

	for (size_t i = 0; i < count; i++) {
		unsigned char in = 0;
		uintptr_t at = (uintptr_t)addresses[i] & ~(page - 1);

		/* NOLINTNEXTLINE(performance-no-int-to-ptr) */
		if (mincore((void *)at, 1, &in) == 0)
			resident += in & 1;
	}
	return resident;
}

static void
shuffle(unsigned char **table, size_t count, struct test_rng *rng)
{
	for (size_t i = count; i > 1; i--) {
		size_t other = test_rand_below(rng, i);
		unsigned char *object = table[i - 1];

		table[i - 1] = table[other];
		table[other] = object;
	}
}

static void
fill(struct weir_heap *heap, size_t count, size_t bytes)
{
	for (size_t i = 0; i < count; i++) {
		objects[i] = weir_heap_alloc(heap, bytes);
		CHECK_NOT_NULL(objects[i]);
		memset(objects[i], (int)(i % 251), bytes);
	}
}

/* Takes and frees @bytes in all of objects of @each, in bursts. */
static void
churn(struct weir_heap *heap, size_t bytes, size_t each)
{
	static void *burst[4096];
	size_t count = 512 * KIB / each;

	for (size_t done = 0; done < bytes; done += count * each) {
		for (size_t i = 0; i < count; i++)
			burst[i] = weir_heap_alloc(heap, each);
		for (size_t i = 0; i < count; i++)
			weir_heap_free(heap, burst[i]);
	}
}

static uint64_t
mapped(struct weir_heap *heap)
{
	struct weir_pool_stats stats = {.size = sizeof(stats)};

	CHECK_EQ(weir_heap_stats(heap, &stats), 0);
	return stats.bytes_mapped;
}

/* No clock, no trim, no maintain: frees alone. */
TEST(heap_memory_of_one_size_serves_another)
{
	NOT_UNDER_GUARD("freed slots rest until a trim");

	struct weir_heap *heap;
	static const size_t sizes[] = {64, 320, 1024, 4096, 16384, 128, 2048};
	uint64_t highest = 0;

	CHECK_EQ(weir_heap_create("sizes", NULL, &heap), 0);
	for (size_t s = 0; s < sizeof(sizes) / sizeof(*sizes); s++) {
		size_t count = 4 * MIB / sizes[s];

		fill(heap, count, sizes[s]);
		if (mapped(heap) > highest)
			highest = mapped(heap);
		for (size_t i = 0; i < count; i++)
			weir_heap_free(heap, objects[i]);
	}
	/* What is in use is 4 MiB, rounded up to classes, at any time. */
	CHECK_LE(highest, 7 * MIB);
	CHECK_LE(mapped(heap), 2 * MIB);
	CHECK(weir_heap_check(heap));
	weir_heap_destroy(heap);
}

TEST(heap_objects_that_stay_hold_their_pages_only)
{
	const size_t count = 16384, bytes = 256, stay = count / 256;
	struct test_rng rng;
	struct weir_heap *heap;

	if (sysconf(_SC_PAGESIZE) != 4096)
		SKIP("pages of the system's are larger than the supply's");
	test_rng_init(&rng, test_seed());
	CHECK_EQ(weir_heap_create("stay", NULL, &heap), 0);
	fill(heap, count, bytes);
	CHECK_EQ(count_resident(objects, count), count);
	shuffle(objects, count, &rng);

	static unsigned char copies[OBJECTS];

	for (size_t i = 0; i < stay; i++)
		copies[i] = objects[i][0];
	for (size_t i = stay; i < count; i++)
		weir_heap_free(heap, objects[i]);
	/* The program goes on with another size. */
	churn(heap, 16 * MIB, 1024);

	/* A page has 16 objects: 15 of 16 pages or so have none that stays. */
	CHECK_LE(count_resident(objects + stay, count - stay), count / 4);
	for (size_t i = 0; i < stay; i++)
		for (size_t at = 0; at < bytes; at++)
			CHECK_EQ(objects[i][at], copies[i]);
	CHECK(weir_heap_check(heap));

	/* And the size comes back, onto pages that are not there. */
	for (size_t i = stay; i < count; i++) {
		objects[i] = weir_heap_alloc(heap, bytes);
		memset(objects[i], 7, bytes);
	}
	for (size_t i = 0; i < stay; i++)
		for (size_t at = 0; at < bytes; at++)
			CHECK_EQ(objects[i][at], copies[i]);
	CHECK(weir_heap_check(heap));
	weir_heap_destroy(heap);
}

TEST(heap_keeps_its_pages_where_decay_is_off)
{
	NOT_UNDER_GUARD("what was freed has no pages");

	const size_t count = 16384, bytes = 256;
	struct weir_heap *heap;

	CHECK_EQ(
	    weir_init(&(struct weir_config){.decay_ms = WEIR_DECAY_NEVER}), 0);
	CHECK_EQ(weir_heap_create("never", NULL, &heap), 0);
	fill(heap, count, bytes);
	for (size_t i = 0; i < count; i++)
		if (i % 64 != 0)
			weir_heap_free(heap, objects[i]);
	churn(heap, 16 * MIB, 1024);
	CHECK_EQ(count_resident(objects, count), count);
	CHECK(weir_heap_check(heap));
	weir_heap_destroy(heap);
}

#define LIVE ((size_t)4096)

/* Sizes and live objects at random; each object keeps its content. */
TEST(heap_contents_survive_changes_of_size)
{
	static uint32_t told[LIVE];
	struct test_rng rng;
	struct weir_heap *heap;

	test_rng_init(&rng, test_seed());
	CHECK_EQ(weir_heap_create("drift", NULL, &heap), 0);
	for (size_t op = 0; op < 40 * LIVE; op++) {
		size_t at = test_rand_below(&rng, LIVE);
		size_t top = (size_t)32 << op * 9 / (40 * LIVE);
		unsigned char *object = objects[at];

		if (object != NULL) {
			CHECK_EQ(object[0], at % 251);
			CHECK_EQ(object[told[at] - 1], at % 251);
			weir_heap_free(heap, object);
		}
		objects[at] = NULL;
		/* Nine in ten stay away when a size comes to its end. */
		if (op % (4 * LIVE) > 3 * LIVE && test_rand_below(&rng, 10) > 0)
			continue;
		told[at] = (uint32_t)(1 + test_rand_below(&rng, top));
		object = weir_heap_alloc(heap, told[at]);
		CHECK_NOT_NULL(object);
		object[0] = (unsigned char)(at % 251);
		object[told[at] - 1] = (unsigned char)(at % 251);
		objects[at] = object;
		if (op % LIVE == 0)
			CHECK(weir_heap_check(heap));
	}
	CHECK(weir_heap_check(heap));
	weir_heap_destroy(heap);
}
