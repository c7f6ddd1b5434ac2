/* SPDX-License-Identifier: MIT */
/*
 * test_textbook.c - the text books' designs do what they claim: an opponent that
 * hands out an object twice would be fast and wrong.
 */
#include "test.h"

#include <pthread.h>
#include <stdint.h>
#include <string.h>

#include "../../bench/object/textbook_heap.c"
#include "../../bench/object/textbook_pool.c"

#define SLOTS 300
#define POOL 64
#define THREADS 4

struct slot {
	unsigned char *object;
	size_t bytes;
	unsigned char mark;
};

static void
slot_check(const struct slot *slot)
{
	for (size_t i = 0; i < slot->bytes; i++)
		CHECK_EQ(slot->object[i], slot->mark);
}

/* No two neighbours are free, sizes agree at both ends, nothing is lost. */
static void
heap_check(const struct textbook_heap *heap)
{
	size_t before = HEAP_BEFORE_USED;
	size_t free_blocks = 0;

	for (unsigned char *at = heap->storage + HEAP_ALIGN - HEAP_TAG;
	     at < heap->top;) {
		struct heap_block *block = heap_at(at);
		bool used = (block->tag & HEAP_USED) != 0;

		CHECK_EQ(block->tag & HEAP_BEFORE_USED, before);
		CHECK(used || before != 0);
		if (!used) {
			CHECK_EQ(*heap_foot(block), heap_size(block));
			free_blocks++;
		}
		before = used ? HEAP_BEFORE_USED : 0;
		at += heap_size(block);
	}
	CHECK_EQ(heap->top_before_used, before);
	for (struct heap_block *block = heap->free; block != NULL;
	     block = block->next)
		free_blocks--;
	CHECK_EQ(free_blocks, 0);
}

static void
heap_churn(bool best)
{
	struct textbook_heap *heap = textbook_heap_open(best);
	static struct slot slots[SLOTS];
	struct test_rng rng;

	memset(slots, 0, sizeof(slots));
	test_rng_init(&rng, test_seed());
	for (size_t run = test_count(20000); run > 0; run--) {
		struct slot *slot = &slots[test_rand_below(&rng, SLOTS)];

		if (slot->object != NULL) {
			slot_check(slot);
			textbook_heap_free(heap, slot->object);
		}
		slot->bytes = 1 + test_rand_below(&rng, 600);
		slot->mark = (unsigned char)run;
		slot->object = textbook_heap_alloc(heap, slot->bytes);
		CHECK_NOT_NULL(slot->object);
		CHECK_EQ((uintptr_t)slot->object % 16, 0);
		CHECK(textbook_heap_usable(slot->object) >= slot->bytes);
		memset(slot->object, slot->mark, slot->bytes);
		if (run % 512 == 0)
			heap_check(heap);
	}
	for (int i = 0; i < SLOTS; i++)
		if (slots[i].object != NULL)
			textbook_heap_free(heap, slots[i].object);
	heap_check(heap);
	/* All merged into one. */
	CHECK(heap->free == NULL || heap->free->next == NULL);
	textbook_heap_close(heap);
}

TEST(textbook_first_fit_keeps_blocks_apart)
{
	heap_churn(false);
}

TEST(textbook_best_fit_keeps_blocks_apart)
{
	heap_churn(true);
}

TEST(textbook_best_fit_takes_the_smallest_that_fits)
{
	struct textbook_heap *heap = textbook_heap_open(true);
	void *large = textbook_heap_alloc(heap, 500);
	void *fence = textbook_heap_alloc(heap, 16);
	void *small = textbook_heap_alloc(heap, 100);
	void *end = textbook_heap_alloc(heap, 16);

	textbook_heap_free(heap, small);
	textbook_heap_free(heap, large);
	/* First fit would take the large one, freed last. */
	CHECK(textbook_heap_alloc(heap, 90) == small);
	CHECK(fence != end);
	textbook_heap_close(heap);
}

/* ---- pools ----------------------------------------------------------------- */

static struct textbook_list *list;
static struct textbook_mutex *locked;

static void *
list_thread(void *argument)
{
	uintptr_t mark = (uintptr_t)argument;

	for (size_t run = test_count(20000); run > 0; run--) {
		volatile uintptr_t *object = textbook_list_alloc(list);

		if (object == NULL)
			continue;
		/* The first word is the list's while the object is free. */
		object[1] = mark;
		object[2] = run;
		CHECK_EQ(object[1], mark);
		CHECK_EQ(object[2], run);
		textbook_list_free(list, (void *)(uintptr_t)object);
	}
	return NULL;
}

TEST(textbook_list_gives_each_object_to_one_thread)
{
	pthread_t threads[THREADS];
	void *objects[POOL];

	list = textbook_list_open(64, POOL);
	for (uintptr_t i = 0; i < THREADS; i++)
		CHECK_EQ(pthread_create(
			     &threads[i], NULL, list_thread, (void *)(i + 1)),
		    0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	for (int i = 0; i < POOL; i++) {
		objects[i] = textbook_list_alloc(list);
		CHECK_NOT_NULL(objects[i]);
		for (int j = 0; j < i; j++)
			CHECK(objects[i] != objects[j]);
	}
	CHECK_NULL(textbook_list_alloc(list));
	textbook_list_close(list);
}

TEST(textbook_mutex_gives_all_and_no_more)
{
	void *first;

	locked = textbook_mutex_open(24, POOL);
	first = textbook_mutex_alloc(locked);
	for (int i = 1; i < POOL; i++)
		memset(textbook_mutex_alloc(locked), i, 24);
	CHECK_NULL(textbook_mutex_alloc(locked));
	textbook_mutex_free(locked, first);
	CHECK(textbook_mutex_alloc(locked) == first);
	textbook_mutex_close(locked);
}
