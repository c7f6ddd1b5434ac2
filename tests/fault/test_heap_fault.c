/* SPDX-License-Identifier: MIT */
/*
 * Each misuse of a heap dies with its own message that names the heap; next to
 * it the correct neighbour that must not.
 */
#include "support/test.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <weir/weir.h>

static struct weir_heap *
heap_named(const char *name, enum weir_check_level check)
{
	struct weir_heap *heap;

	CHECK_EQ(weir_heap_create(
		     name, &(struct weir_heap_config){.check = check}, &heap),
	    0);
	return heap;
}

/* A slot through the table, a slot through the search, a run. */
static const size_t sizes[] = {16, 100, 208, 4096, 7000, 32768, 40000, 3000000};

#define FOR_SIZES(i) \
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)

TEST(heap_second_free_dies_at_the_call)
{
	struct weir_heap *heap = heap_named("jobs", WEIR_CHECK_EACH);

	FOR_SIZES(i)
	{
		void *object = weir_heap_alloc(heap, sizes[i]);
		void *other = weir_heap_alloc(heap, sizes[i]);

		memset(object, 0xff, sizes[i]);
		weir_heap_free(heap, object);
		EXPECT_ABORT(
		    "weir: FAULT double-free: heap \"jobs\": object 0x",
		    { weir_heap_free(heap, object); });
		EXPECT_ABORT("is free already",
		    { weir_heap_free_sized(heap, object, sizes[i]); });
		EXPECT_ABORT("FAULT double-free: heap \"jobs\"",
		    { (void)!weir_heap_realloc(heap, object, 5); });
		weir_heap_free(heap, other);
		EXPECT_ABORT(
		    "is free already", { weir_heap_free(heap, object); });
		EXPECT_ABORT(
		    "is free already", { weir_heap_free(heap, other); });
	}
	weir_heap_destroy(heap);
}

TEST(heap_of_the_process_second_free_dies_at_the_call)
{
	FOR_SIZES(i)
	{
		void *object = (weir_alloc)(sizes[i]);

		weir_free(object);
		EXPECT_ABORT(
		    "weir: FAULT double-free: heap \"default\": object 0x",
		    { weir_free(object); });
	}
}

/* No free of an object in use may be taken for a second one. */
TEST(heap_takes_every_content_of_a_live_object)
{
	uint64_t *word = weir_alloc(64), stale;

	weir_free(word);
	memcpy(&stale, word, sizeof(stale));
	for (int i = 0; i < 3; i++) {
		uint64_t *next = weir_alloc(64);

		/* The mark of this very slot is gone at alloc; of another slot
		 * it is no mark. */
		CHECK(next == word);
		CHECK_NE(*next, stale);
		*next = stale ^ 16;
		weir_free(next);
	}
}

TEST(heap_foreign_pointers_die_without_being_read)
{
	struct weir_heap *heap = heap_named("jobs", WEIR_CHECK_EACH);
	static const uintptr_t wild[] = {0xffff888000001000, 0x8000000000001000,
	    0x0100000000001000, 0x1000, 16, 8, 1};
	static char still[64];
	char *heap_of_libc = malloc(64);

	weir_heap_free(heap, weir_heap_alloc(heap, 100));
	for (size_t i = 0; i < sizeof(wild) / sizeof(wild[0]); i++) {
		EXPECT_ABORT("weir: FAULT foreign-pointer: heap \"jobs\": 0x",
		    { weir_heap_free(heap, (void *)wild[i]); });
		EXPECT_ABORT("foreign-pointer: heap \"default\": 0x",
		    { weir_free((void *)wild[i]); });
	}
	EXPECT_ABORT("foreign-pointer", { weir_heap_free(heap, still); });
	EXPECT_ABORT("foreign-pointer", { weir_free(heap_of_libc); });
	EXPECT_ABORT("foreign-pointer", { weir_free_sized(&heap, 8); });
	EXPECT_ABORT(
	    "foreign-pointer", { (void)!weir_realloc(heap_of_libc, 100); });
	EXPECT_ABORT("foreign-pointer: heap \"default\"",
	    { (void)weir_usable_size(heap_of_libc); });
	free(heap_of_libc);
	weir_heap_destroy(heap);
}

TEST(heap_interior_and_misaligned_pointers_die)
{
	struct weir_heap *heap = heap_named("jobs", WEIR_CHECK_EACH);

	FOR_SIZES(i)
	{
		char *object = weir_heap_alloc(heap, sizes[i]);

		memset(object, 0, sizes[i]);
		if (sizes[i] > 16) {
			EXPECT_ABORT(
			    "FAULT interior-pointer: heap \"jobs\": 0x",
			    { weir_heap_free(heap, object + 16); });
			EXPECT_ABORT("is not the start of an object",
			    { weir_heap_free_sized(heap, object + 16, 16); });
			EXPECT_ABORT("interior-pointer", {
				(void)!weir_heap_realloc(heap, object + 16, 9);
			});
			EXPECT_ABORT("interior-pointer",
			    { (void)weir_usable_size(object + 16); });
		}
		EXPECT_ABORT("FAULT misaligned-pointer: heap \"jobs\": 0x",
		    { weir_heap_free(heap, object + 3); });
		weir_heap_free(heap, object);
	}
	weir_heap_destroy(heap);
}

/* The heap of the process has a way of its own to look at a pointer. */
TEST(heap_of_the_process_interior_and_misaligned_pointers_die)
{
	FOR_SIZES(i)
	{
		char *object = (weir_alloc)(sizes[i]);

		memset(object, 0, sizes[i]);
		if (sizes[i] > 16)
			EXPECT_ABORT(
			    "FAULT interior-pointer: heap \"default\": 0x",
			    { weir_free(object + 16); });
		EXPECT_ABORT("FAULT misaligned-pointer: heap \"default\": 0x",
		    { weir_free(object + 8); });
		EXPECT_ABORT("FAULT misaligned-pointer: heap \"default\": 0x",
		    { weir_free(object + 1); });
		weir_free(object);
	}
}

/* Where a slab has a remainder, it lies behind the last slot. */
TEST(heap_pointers_behind_the_last_slot_of_a_slab_die)
{
	enum { SLAB = 65536, SLOT = 7168, END = SLAB / SLOT * SLOT };
	struct weir_heap *heap = heap_named("jobs", WEIR_CHECK_EACH);
	char *object = weir_heap_alloc(heap, SLOT);
	char *own = weir_alloc(SLOT);
	char *slab = (char *)((uintptr_t)object & ~(uintptr_t)(SLAB - 1));
	char *own_slab = (char *)((uintptr_t)own & ~(uintptr_t)(SLAB - 1));

	CHECK_EQ((object - slab) % SLOT, 0);
	for (int at = END; at < SLAB; at += 128) {
		EXPECT_ABORT("interior-pointer: heap \"jobs\"",
		    { weir_heap_free(heap, slab + at); });
		EXPECT_ABORT("interior-pointer: heap \"default\"",
		    { weir_free(own_slab + at); });
	}
	weir_free(own);
	weir_heap_free(heap, object);
	weir_heap_destroy(heap);
}

TEST(heap_object_of_another_pool_dies_and_names_both)
{
	struct weir_heap *jobs = heap_named("jobs", WEIR_CHECK_EACH);
	struct weir_heap *mail = heap_named("mail", WEIR_CHECK_BATCH);
	struct weir_cache *cache;
	struct weir_region *region;
	uint64_t *object;

	CHECK_EQ(weir_cache_create("conn",
		     &(struct weir_cache_config){.object_bytes = 200}, &cache),
	    0);
	CHECK_EQ(weir_region_create(NULL, NULL, &region), 0);
	FOR_SIZES(i)
	{
		object = weir_heap_alloc(jobs, sizes[i]);
		*object = 12345;
		EXPECT_ABORT("weir: FAULT wrong-pool: heap \"mail\": 0x",
		    { weir_heap_free(mail, object); });
		EXPECT_ABORT(
		    "belongs to \"jobs\"", { weir_heap_free(mail, object); });
		EXPECT_ABORT(
		    "wrong-pool: heap \"default\": 0x", { weir_free(object); });
		weir_heap_free(jobs, object);

		object = weir_heap_alloc(mail, sizes[i]);
		EXPECT_ABORT("belongs to \"mail\"",
		    { (void)!weir_heap_realloc(jobs, object, 4000); });
		weir_heap_free(mail, object);
	}
	object = weir_cache_alloc(cache);
	EXPECT_ABORT(
	    "FAULT wrong-pool: heap \"default\"", { weir_free(object); });
	EXPECT_ABORT("belongs to \"conn\"", { weir_free(object); });
	weir_cache_free(cache, object);
	object = weir_heap_alloc(jobs, 200);
	EXPECT_ABORT(
	    "belongs to \"jobs\"", { weir_cache_free(cache, object); });
	weir_heap_free(jobs, object);
	EXPECT_ABORT("wrong-pool: heap \"default\"",
	    { weir_free(weir_region_alloc(region, 200)); });
	EXPECT_ABORT("belongs to \"regions of 4.0 KiB\", and ends with its "
		     "region",
	    { weir_free(weir_region_alloc(region, 200)); });
	EXPECT_ABORT("belongs to \"blocks of 32.0 KiB\", and ends with its "
		     "region",
	    { weir_free(weir_region_alloc(region, 30000)); });
	object = weir_region_alloc(region, 1 << 20);
	EXPECT_ABORT("belongs to a region or a buffer, and ends with it",
	    { weir_free(object); });
	weir_region_destroy(region);
	weir_cache_destroy(cache);
	weir_heap_destroy(jobs);
	weir_heap_destroy(mail);
}

TEST(heap_free_with_a_wrong_size_dies)
{
	struct weir_heap *heap = heap_named("jobs", WEIR_CHECK_EACH);

	FOR_SIZES(i)
	{
		void *object = weir_heap_alloc(heap, sizes[i]);
		size_t usable = weir_usable_size(object);

		EXPECT_ABORT("weir: FAULT wrong-size: heap \"jobs\": object 0x",
		    { weir_heap_free_sized(heap, object, usable + 1); });
		EXPECT_ABORT("was not taken with a size of 100000",
		    { weir_heap_free_sized(heap, object, 100000); });
		weir_heap_free_sized(heap, object, sizes[i]);
	}
	weir_heap_destroy(heap);
}

TEST(heap_alignment_that_is_no_power_of_two_dies)
{
	EXPECT_ABORT("FAULT bad-argument: heap \"default\": alignment 24 is no "
		     "power of two",
	    { (void)!weir_aligned(24, 100); });
	EXPECT_ABORT("alignment 0 is no", { (void)!weir_aligned(0, 100); });
}

TEST(heap_second_destroy_and_that_of_the_process_die)
{
	struct weir_heap *heap = heap_named("jobs", WEIR_CHECK_EACH);

	weir_heap_destroy(heap);
	EXPECT_ABORT("weir: FAULT double-destroy: heap \"jobs\": 0x",
	    { weir_heap_destroy(heap); });
	EXPECT_ABORT("FAULT bad-argument: heap \"default\": the heap of the "
		     "process cannot be destroyed",
	    { weir_heap_destroy(weir_heap_default()); });
}

TEST(heap_calls_after_destroy_die_and_name_it)
{
	for (int level = WEIR_CHECK_EACH; level <= WEIR_CHECK_BATCH; level++) {
		struct weir_pool_stats stats = {.size = sizeof(stats)};
		struct weir_heap *heap =
		    heap_named("gone", (enum weir_check_level)level);
		struct weir_heap *next;
		void *object = weir_heap_alloc(heap, 100), *other;

		(void)!weir_heap_alloc(heap, 100000);
		weir_heap_destroy(heap);
		next = heap_named("next", (enum weir_check_level)level);
		other = weir_heap_alloc(next, 100);
#define GONE "FAULT use-after-destroy: heap \"gone\": it is used, but"
		EXPECT_ABORT(GONE, { (void)!weir_heap_alloc(heap, 100); });
		EXPECT_ABORT(GONE, { (void)!weir_heap_alloc(heap, 100000); });
		EXPECT_ABORT(GONE, { (void)!weir_heap_calloc(heap, 2, 100); });
		EXPECT_ABORT(
		    GONE, { (void)!weir_heap_aligned(heap, 64, 100); });
		EXPECT_ABORT(
		    GONE, { (void)!weir_heap_realloc(heap, NULL, 100); });
		EXPECT_ABORT(
		    GONE, { (void)!weir_heap_realloc(heap, other, 100); });
		EXPECT_ABORT(GONE, { weir_heap_free(heap, object); });
		EXPECT_ABORT(GONE, { weir_heap_free(heap, other); });
		EXPECT_ABORT(GONE, { weir_heap_free_sized(heap, other, 100); });
		EXPECT_ABORT(GONE, { (void)weir_heap_trim(heap); });
		EXPECT_ABORT(GONE, { (void)weir_heap_check(heap); });
		EXPECT_ABORT(GONE, { (void)weir_heap_stats(heap, &stats); });
		EXPECT_ABORT(GONE, { (void)weir_heap_classes(heap, NULL, 0); });
		weir_heap_destroy(next);
	}
}

/* At level `batch` a second free shows when the magazine comes in. */
TEST(heap_that_checks_in_batches_finds_a_second_free_later)
{
	struct weir_heap *heap = heap_named("loose", WEIR_CHECK_BATCH);

	EXPECT_ABORT("FAULT double-free: heap \"loose\": object 0x", {
		void *all[2000];

		for (size_t i = 0; i < 2000; i++)
			all[i] = weir_heap_alloc(heap, 100);
		for (size_t i = 0; i < 2000; i++) {
			weir_heap_free(heap, all[i]);
			if (i == 100)
				weir_heap_free(heap, all[50]);
		}
		(void)weir_heap_trim(heap);
	});
	weir_heap_destroy(heap);
}

static jmp_buf back;

static void
leave(const struct weir_fault *fault, void *context)
{
	CHECK_STR(fault->pool_kind, "heap");
	CHECK(fault->address == context);
	longjmp(back, 1);
}

TEST(heap_survives_a_hook_that_leaves_and_the_object_is_as_it_was)
{
	struct weir_heap *a = heap_named("a", WEIR_CHECK_EACH);
	struct weir_heap *b = heap_named("b", WEIR_CHECK_EACH);
	uint64_t *object = weir_heap_alloc(a, 100);

	weir_heap_free(b, weir_heap_alloc(b, 100));
	*object = 4711;
	weir_guard_set_hook(leave, object);
	if (setjmp(back) == 0) {
		weir_heap_free(b, object);
		FAIL("the hook was not called");
	}
	CHECK_EQ(*object, 4711);
	weir_heap_free(a, object);
	if (setjmp(back) == 0) {
		weir_heap_free(a, object);
		FAIL("the hook was not called");
	}
	weir_guard_set_hook(NULL, NULL);
	CHECK(weir_heap_check(a));
	CHECK(weir_heap_check(b));
	weir_heap_destroy(a);
	weir_heap_destroy(b);
}
