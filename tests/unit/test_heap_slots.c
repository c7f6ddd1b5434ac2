/* SPDX-License-Identifier: MIT */
/*
 * Heaps: where slots start in a slab, which a free asks of a multiplication,
 * against a division; that the guess at the next slot is only that; magazines.
 */
#include "support/test.h"

#include "pools/heap.h"

#include <stdio.h>

#define SLOT_MAX ((uint32_t)WEIR_HEAP_CLASS_BYTES_MAX)

static void
offset_is_told(const struct weiri_heap_shape *shape,
    const struct weiri_heap_starts *starts, uint32_t slot_bytes,
    uint32_t offset)
{
	/* Of a slab somewhere. */
	const void *address = (const void *)(((uintptr_t)7 << 40) + offset);
	uint32_t slots = (shape->slab_mask + 1) / slot_bytes;
	bool is = offset % slot_bytes == 0 && offset / slot_bytes < slots;
	bool told = weiri_heap_is_start(shape, address);

	if (offset > shape->slab_mask)
		return;
	if (shape->slab_mask == WEIRI_HEAP_SHORT_MASK &&
	    weiri_heap_is_short_start(starts, address) != is)
		told = !is;
	if (shape->slab_mask != WEIRI_HEAP_SHORT_MASK &&
	    weiri_heap_is_short_start(starts, address))
		told = !is;
	if (told != is)
		printf("slots of %u bytes, offset %u\n", slot_bytes, offset);
	CHECK_EQ(told, is);
}

TEST(heap_tells_the_start_of_each_slot_of_the_standard_classes)
{
	for (unsigned i = 0; i < WEIR_HEAP_CLASSES; i++) {
		uint32_t slot_bytes = (uint32_t)weir_heap_class_bytes(i);
		struct weiri_heap_shape shape = weiri_heap_shape_of(slot_bytes);
		struct weiri_heap_starts starts =
		    weiri_heap_starts_of(slot_bytes);

		for (uint32_t at = 0; at <= shape.slab_mask; at++)
			offset_is_told(&shape, &starts, slot_bytes, at);
	}
}

/* A heap may have any multiple of 16 for a class. */
TEST(heap_tells_the_start_of_each_slot_of_any_class)
{
	for (uint32_t slot = 16; slot <= SLOT_MAX; slot += 16) {
		struct weiri_heap_shape shape = weiri_heap_shape_of(slot);
		struct weiri_heap_starts starts = weiri_heap_starts_of(slot);

		for (uint32_t at = 0; at <= shape.slab_mask; at += slot) {
			offset_is_told(&shape, &starts, slot, at);
			offset_is_told(&shape, &starts, slot, at + 1);
			offset_is_told(&shape, &starts, slot, at + slot / 2);
			offset_is_told(&shape, &starts, slot, at + slot - 1);
		}
		offset_is_told(&shape, &starts, slot, shape.slab_mask);
	}
}

TEST(heap_without_slots_has_none_that_starts)
{
	static const struct weiri_heap_starts none;
	static const struct weiri_heap_shape no_shape;

	for (uintptr_t at = 0; at <= 2 * WEIRI_HEAP_SHORT_MASK; at += 16) {
		CHECK(!weiri_heap_is_short_start(&none, (void *)at));
		CHECK(!weiri_heap_is_start(&no_shape, (void *)at));
	}
}

/* What is kept beside the cursor may be anything. */
TEST(heap_gives_what_its_magazine_has_whatever_it_guessed)
{
	NOT_UNDER_GUARD("nothing stays with threads");

	enum { BYTES = 64 };
	void *first = weir_alloc(BYTES), *second = weir_alloc(BYTES);
	const struct weiri_heap_bin *bin =
	    weiri_heap_bin_of(weiri_span_of(first));
	uintptr_t *newest = weiri_cell_newest(
	    weiri_local_cell(weiri_local(), bin->depot.fast_offset));
	char other[BYTES];
	uintptr_t guesses[] = {
	    0, 1, (uintptr_t)other, (uintptr_t)second, (uintptr_t)first + 16};

	for (size_t i = 0; i < sizeof(guesses) / sizeof(*guesses); i++) {
		weir_free(first);
		CHECK_EQ(*newest, (uintptr_t)first);
		*newest = guesses[i];
		CHECK(weir_alloc(BYTES) == first);
		/* And the call made it good. */
		CHECK_NE(*newest, guesses[i]);
	}
	weir_free(first);
	weir_free(second);
	CHECK(weir_alloc(BYTES) == second);
	CHECK_EQ(*newest, (uintptr_t)first);
	weir_free(second);
}

/* Magazines grow where trips to the depot come fast; and where a thread swaps its
 * two so often, though it comes to no lock. */
TEST_LIMIT(heap_magazines_that_are_swapped_too_often_grow, 60)
{
	NOT_UNDER_GUARD("nothing stays with threads");

	enum { BYTES = 64, OBJECTS = 2 * WEIRI_ROUNDS_MAX + 1 };
	static void *objects[OBJECTS];
	struct weir_heap *heap;
	const struct weiri_heap_bin *bin;
	size_t rounds, at = 0;
	uint64_t misses;

	CHECK_EQ(weir_heap_create("swaps", NULL, &heap), 0);
	objects[at++] = weir_heap_alloc(heap, BYTES);
	bin = weiri_heap_bin_of(weiri_span_of(objects[0]));
	rounds = bin->depot.rounds;
	CHECK_LT(rounds, bin->depot.rounds_max);
	/* Then the loaded one and the spare are full. */
	while (at < 2 * rounds + 1)
		objects[at++] = weir_heap_alloc(heap, BYTES);
	while (at > rounds)
		weir_heap_free(heap, objects[--at]);
	misses = bin->depot.misses;
	while (bin->depot.rounds == rounds) {
		while (at < 2 * rounds + 1)
			objects[at++] = weir_heap_alloc(heap, BYTES);
		while (at > rounds)
			weir_heap_free(heap, objects[--at]);
	}
	CHECK_EQ(bin->depot.rounds, 2 * rounds);
	CHECK_EQ(bin->depot.misses, misses);
	while (at > 0)
		weir_heap_free(heap, objects[--at]);
	CHECK(weir_heap_check(heap));
	weir_heap_destroy(heap);
}

/* There the tag alone leads back, and what has another heap's goes nowhere. */
TEST(heap_of_the_process_at_level_batch_takes_back_what_is_its_own)
{
	NOT_UNDER_GUARD("nothing stays with threads");

	static const struct weir_heap_config batch = {
	    .check = WEIR_CHECK_BATCH};
	void *objects[20];
	struct weir_heap *other;
	void *foreign;

	CHECK_EQ(weir_heap_set_default(&batch), 0);
	CHECK_EQ(weir_heap_create("other", NULL, &other), 0);
	/* Each is a process that aborts. */
	for (unsigned i = 0; i < WEIR_HEAP_CLASSES;
	     i += test_under_valgrind() ? 8 : 1) {
		size_t bytes = weir_heap_class_bytes(i);
		const struct weiri_heap_bin *bin;

		for (size_t j = 0; j < sizeof(objects) / sizeof(*objects); j++)
			objects[j] = weir_alloc(bytes);
		for (size_t j = 0; j < sizeof(objects) / sizeof(*objects); j++)
			weir_free(objects[j]);
		bin = weiri_heap_bin_of(weiri_span_of(objects[0]));
		CHECK_EQ(
		    weiri_heap_own[bin->depot.index].step, WEIRI_HEAP_STEP_ANY);
		foreign = weir_heap_alloc(other, bytes);
		EXPECT_ABORT("FAULT wrong-pool: heap \"default\":",
		    { weir_free(foreign); });
		weir_heap_free(other, foreign);
	}
	CHECK(weir_heap_check(weir_heap_default()));
	weir_heap_destroy(other);
}
