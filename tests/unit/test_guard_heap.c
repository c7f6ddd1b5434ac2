/* SPDX-License-Identifier: MIT */
/*
 * test_guard_heap.c - objects of heaps under guard: every size to the byte, and
 * what a heap does besides.
 */
#include "support/test.h"

#include "base/annotate.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <weir/weir.h>

static void
guard(enum weir_guard_mode mode, uint32_t rate)
{
	struct weir_guard_config config = {.mode = mode, .sample_rate = rate};

	CHECK_EQ(weir_guard_set(&config), 0);
}

static struct weir_guard_stats
figures(void)
{
	struct weir_guard_stats stats = {.size = sizeof(stats)};

	CHECK_EQ(weir_guard_read(&stats), 0);
	return stats;
}

static struct weir_heap *
make(enum weir_check_level check)
{
	struct weir_heap_config config = {.check = check};
	struct weir_heap *heap;

	CHECK_EQ(weir_heap_create("box", &config, &heap), 0);
	return heap;
}

__attribute__((noinline)) static char
peek(const char *at)
{
	return *(const volatile char *)at;
}

__attribute__((noinline)) static void
poke(char *at)
{
	*(volatile char *)at = 1;
}

static const enum weir_check_level levels[] = {
    WEIR_CHECK_EACH, WEIR_CHECK_BATCH};

/* Slots, the last of a table, runs of pages. */
static const size_t sizes[] = {16, 100, 4096, 5000, 32768, 32784, 1000000};

TEST(full_every_size_ends_to_the_byte)
{
	guard(WEIR_GUARD_FULL, 0);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct weir_heap *heap = make(levels[i % 2]);
		size_t whole = (sizes[i] + 15) / 16 * 16;
		char *object = weir_heap_alloc(heap, sizes[i]);

		CHECK_NOT_NULL(object);
		CHECK_EQ((uintptr_t)object % 16, 0);
		memset(object, 1, sizes[i]);
		EXPECT_ABORT("weir: FAULT overflow: heap \"box\": read at 0x",
		    { (void)peek(object + whole); });
		if (whole != sizes[i])
			EXPECT_ABORT("FAULT overflow: heap \"box\": 0x", {
				poke(object + sizes[i]);
				weir_heap_free(heap, object);
			});
		CHECK_EQ(weir_usable_size(object), sizes[i]);
		CHECK_PTR(weir_heap_of(object), heap);
		weir_heap_free(heap, object);
		EXPECT_ABORT(
		    "weir: FAULT use-after-free: heap \"box\": read at 0x",
		    { (void)peek(object + sizes[i] - 1); });
		EXPECT_ABORT("FAULT double-free: heap \"box\": object 0x",
		    { weir_heap_free(heap, object); });
		CHECK(weir_heap_check(heap));
		weir_heap_destroy(heap);
	}
	CHECK_EQ(figures().live, 0);
}

/* A pointer made of it traps, and a length is larger than anything. */
TEST(full_what_is_fresh_holds_a_pattern)
{
	unsigned char *object;

	guard(WEIR_GUARD_FULL, 0);
	object = weir_alloc(300);
	CHECK_NOT_NULL(object);
	/* A tool that watches memory knows that nobody wrote it. */
	weiri_annotate_defined(object, 300);
	for (size_t i = 0; i < 300; i++)
		CHECK_EQ(object[i], 0xa5);
	weir_free(object);
	object = weir_calloc(3, 100);
	for (size_t i = 0; i < 300; i++)
		CHECK_EQ(object[i], 0);
	weir_free(object);
}

/* What the compiler makes of it keeps the size as well. */
TEST(full_a_constant_size_is_known)
{
	char *object;

	guard(WEIR_GUARD_FULL, 0);
	object = weir_alloc(20);
	CHECK_NOT_NULL(object);
	CHECK_EQ(weir_usable_size(object), 20);
	EXPECT_ABORT("FAULT overflow: heap \"default\": 0x", {
		poke(object + 20);
		weir_free(object);
	});
	weir_free(object);
}

TEST(full_wrong_frees_are_told_at_the_call)
{
	struct weir_heap *heap, *other;
	char *object;

	guard(WEIR_GUARD_FULL, 0);
	heap = make(WEIR_CHECK_EACH);
	CHECK_EQ(weir_heap_create("other", NULL, &other), 0);
	object = weir_heap_alloc(heap, 100);
	EXPECT_ABORT("FAULT wrong-pool: heap \"other\":",
	    { weir_heap_free(other, object); });
	EXPECT_ABORT("belongs to \"box\"", { weir_heap_free(other, object); });
	EXPECT_ABORT("FAULT interior-pointer: heap \"box\":",
	    { weir_heap_free(heap, object + 16); });
	EXPECT_ABORT("was not taken with a size of 200",
	    { weir_heap_free_sized(heap, object, 200); });
	weir_heap_free_sized(heap, object, 100);
	EXPECT_ABORT("FAULT double-free: heap \"box\":",
	    { weir_heap_free_sized(heap, object, 100); });
	EXPECT_ABORT("FAULT double-free: heap \"box\":",
	    { (void)!weir_heap_realloc(heap, object, 100); });
	weir_heap_destroy(heap);
	weir_heap_destroy(other);
}

TEST(full_realloc_keeps_contents_and_ends_what_it_leaves)
{
	struct weir_heap *heap;
	char *object, *grown;

	guard(WEIR_GUARD_FULL, 0);
	heap = make(WEIR_CHECK_EACH);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		object = weir_heap_alloc(heap, sizes[i]);
		memset(object, (int)i + 1, sizes[i]);
		grown = weir_heap_realloc(heap, object, sizes[i] + 1);
		CHECK_NOT_NULL(grown);
		CHECK(grown != object);
		for (size_t b = 0; b < sizes[i]; b++)
			CHECK_EQ(grown[b], (char)(i + 1));
		EXPECT_ABORT("of an object that ended by realloc",
		    { (void)peek(object); });
		grown = weir_heap_realloc(heap, grown, 7);
		for (size_t b = 0; b < 7; b++)
			CHECK_EQ(grown[b], (char)(i + 1));
		weir_heap_free(heap, grown);
	}
	weir_heap_destroy(heap);
}

TEST(full_calloc_and_aligned_keep_their_promises)
{
	struct weir_heap *heap;

	guard(WEIR_GUARD_FULL, 0);
	heap = make(WEIR_CHECK_EACH);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		char *object = weir_heap_calloc(heap, 1, sizes[i]);

		for (size_t b = 0; b < sizes[i]; b++)
			CHECK_EQ(object[b], 0);
		weir_heap_free(heap, object);
	}
	for (size_t align = 1; align <= 65536; align *= 2)
		for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
			char *object = weir_heap_aligned(heap, align, sizes[i]);

			CHECK_EQ((uintptr_t)object % align, 0);
			memset(object, 1, sizes[i]);
			weir_heap_free(heap, object);
		}
	CHECK(weir_heap_check(heap));
	weir_heap_destroy(heap);
}

TEST(full_the_end_of_a_heap_is_the_end_of_its_objects)
{
	struct weir_heap *heap;
	char *object, *other;

	guard(WEIR_GUARD_FULL, 0);
	heap = make(WEIR_CHECK_EACH);
	object = weir_heap_alloc(heap, 50);
	other = weir_heap_alloc(heap, 100000);
	weir_heap_destroy(heap);
	EXPECT_ABORT(
	    "of an object that ended by destroy", { (void)peek(object); });
	EXPECT_ABORT("FAULT use-after-free: heap \"box\"",
	    { (void)peek(other + 99999); });
	CHECK_EQ(figures().live, 0);
}

TEST(a_loop_of_pairs_is_sampled_at_the_rate)
{
	enum { PAIRS = 100000 };
	static const uint32_t rates[] = {1, 50, 1000};

	for (int level = 0; level < 2; level++)
		for (int r = 0; r < 3; r++) {
			struct weir_heap *heap;
			int pairs = rates[r] == 1 ? 2000 : PAIRS;
			uint64_t before = figures().guarded, got;
			double wanted = pairs / (double)rates[r];

			guard(WEIR_GUARD_SAMPLE, rates[r]);
			heap = make(levels[level]);
			for (int j = 0; j < pairs; j++) {
				char *object = weir_heap_alloc(heap, 100);

				memset(object, j, 100);
				weir_heap_free(heap, object);
			}
			got = figures().guarded - before;
			CHECK((double)got >= wanted * 0.5 - 5);
			CHECK((double)got <= wanted * 1.5 + 5);
			if (rates[r] == 1)
				CHECK_EQ(got, pairs);
			CHECK(weir_heap_check(heap));
			weir_heap_destroy(heap);
		}
	CHECK_EQ(figures().reports, 0);
}

/* The calls of the heap of the process: by a table, by class, by neither. */
static void *
take_quick(void)
{
	size_t bytes = 100;

	__asm__ volatile("" : "+r"(bytes));
	return weir_alloc(bytes);
}

static void *
take_large(void)
{
	size_t bytes = 5000;

	__asm__ volatile("" : "+r"(bytes));
	return weir_alloc(bytes);
}

static void *
take_constant(void)
{
	return weir_alloc(100);
}

static void *
take_large_constant(void)
{
	return weir_alloc(5000);
}

static void *
take_aligned(void)
{
	return weir_aligned(64, 100);
}

static void *
take_large_aligned(void)
{
	return weir_aligned(64, 5000);
}

static void *
take_zeroed(void)
{
	return weir_calloc(50, 100);
}

static void *
take_moved(void)
{
	return weir_realloc(weir_realloc(NULL, 100), 5000);
}

static void *(*const takes[])(void) = {take_quick, take_large, take_constant,
    take_large_constant, take_aligned, take_large_aligned, take_zeroed,
    take_moved};

TEST(pairs_of_every_call_are_sampled_at_the_rate)
{
	enum { PAIRS = 40000, RATE = 1024 };

	guard(WEIR_GUARD_SAMPLE, RATE);
	for (size_t i = 0; i < sizeof(takes) / sizeof(takes[0]); i++) {
		uint64_t before = figures().guarded, got;

		for (int j = 0; j < PAIRS; j++)
			weir_free(takes[i]());
		got = figures().guarded - before;
		if (got < PAIRS / RATE / 2)
			FAIL("call %zu: %llu samples", i,
			    (unsigned long long)got);
		CHECK_LE(got, 4 * PAIRS / RATE);
	}
	CHECK_EQ(figures().reports, 0);
}

TEST(a_switched_mode_reaches_pairs_of_every_call)
{
	for (size_t i = 0; i < sizeof(takes) / sizeof(takes[0]); i++) {
		uint64_t before;

		guard(WEIR_GUARD_OFF, 0);
		for (int j = 0; j < 1000; j++)
			weir_free(takes[i]());
		before = figures().guarded;
		guard(WEIR_GUARD_FULL, 0);
		for (int j = 0; j < 65536 && figures().guarded == before; j++)
			weir_free(takes[i]());
		if (figures().guarded == before)
			FAIL("call %zu did not notice", i);
	}
}

/* Sized frees in batches look at nothing: what they put away comes back. */
TEST(samples_in_a_heap_of_batches_serve_any_size_of_their_class)
{
	enum { COUNT = 2000 };
	static void *objects[COUNT];
	struct weir_heap *heap;

	guard(WEIR_GUARD_SAMPLE, 5);
	heap = make(WEIR_CHECK_BATCH);
	for (int turn = 0; turn < 20; turn++) {
		for (int i = 0; i < COUNT; i++) {
			size_t bytes = 97 + (size_t)i % 16;

			objects[i] = weir_heap_alloc(heap, bytes);
			memset(objects[i], i, bytes);
		}
		for (int i = 0; i < COUNT; i++)
			weir_heap_free_sized(
			    heap, objects[i], 97 + (size_t)i % 16);
	}
	CHECK_GT(figures().guarded, 1000);
	(void)weir_heap_trim(heap);
	CHECK(weir_heap_check(heap));
	CHECK_EQ(figures().live, 0);
	CHECK_EQ(figures().reports, 0);
	weir_heap_destroy(heap);
}

TEST(a_switched_mode_reaches_a_loop_of_pairs)
{
	struct weir_heap *heap = make(WEIR_CHECK_EACH);

	for (int i = 0; i < 1000; i++)
		weir_heap_free(heap, weir_heap_alloc(heap, 64));
	guard(WEIR_GUARD_FULL, 0);
	for (int i = 0; i < 65536; i++)
		weir_heap_free(heap, weir_heap_alloc(heap, 64));
	CHECK_GT(figures().guarded, 0);
	weir_heap_destroy(heap);
}
