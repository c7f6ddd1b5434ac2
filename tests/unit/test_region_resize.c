/* SPDX-License-Identifier: MIT */
/*
 * test_region_resize.c - objects that grow, shrink, move and end early.
 */
#include "proc.h"
#include "region_common.h"

#include <stdlib.h>

static char *
take(struct weir_region *region, size_t bytes)
{
	char *object = weir_region_alloc(region, bytes);

	CHECK_NOT_NULL(object);
	memset(object, (int)(bytes % 251), bytes);
	return object;
}

static bool
holds(const char *object, size_t bytes, int value)
{
	for (size_t i = 0; i < bytes; i++)
		if (object[i] != (char)value)
			return false;
	return true;
}

/* ---- the last object --------------------------------------------------- */

TEST(last_object_grows_and_shrinks_where_it_is)
{
	NOT_UNDER_GUARD("a region has no room and no blocks");

	struct weir_region *region = create(NULL);
	char *object = take(region, 40);
	char *behind = region->next;

	/* What the rounding left is its own already. */
	CHECK(weir_region_extend(region, object, 40, 48));
	CHECK_PTR(region->next, behind);
	CHECK(weir_region_extend(region, object, 48, 1000));
	CHECK_PTR(region->next, object + 1008);
	CHECK_PTR(weir_region_realloc(region, object, 1000, 1500), object);
	weir_region_shrink(region, object, 1500, 20);
	CHECK_PTR(region->next, object + 32);
	CHECK(holds(object, 20, 40));
	CHECK_PTR(weir_region_realloc(region, object, 20, 0), object);
	CHECK_PTR(region->next, object);
	CHECK(weir_region_check(region));
	weir_region_destroy(region);
}

TEST(last_object_grows_to_the_end_of_its_block_and_not_beyond)
{
	struct weir_region *region = create(NULL);
	char *object = take(region, 16);
	size_t most = 16 + (size_t)(region->end - region->next);

	CHECK(!weir_region_extend(region, object, 16, most + 1));
	CHECK(weir_region_extend(region, object, 16, most));
	CHECK_PTR(region->next, region->end);
	CHECK(!weir_region_extend(region, object, most, SIZE_MAX));
	CHECK(!weir_region_extend(region, object, most, SIZE_MAX - 8));
	CHECK_EQ(figures(region).failures, 0);
	CHECK(weir_region_check(region));
	weir_region_destroy(region);
}

TEST(last_object_given_back_is_room_again)
{
	NOT_UNDER_GUARD("an address is used again as late as can be");

	struct weir_region *region = create(NULL);
	char *object = take(region, 100);

	weir_region_free(region, object, 100);
	CHECK_PTR(weir_region_alloc(region, 8), object);
	weir_region_free(region, NULL, 0);
	weir_region_shrink(region, NULL, 0, 0);
	CHECK(weir_region_check(region));
	weir_region_destroy(region);
}

TEST(object_with_others_behind_moves_and_keeps_its_bytes)
{
	struct weir_region *region = create(NULL);
	char *object = take(region, 40), *other = take(region, 60), *moved;

	CHECK(!weir_region_extend(region, object, 40, 49));
	moved = weir_region_realloc(region, object, 40, 200);
	CHECK_NOT_NULL(moved);
	CHECK(moved != object);
	CHECK(is_aligned(moved, 16));
	CHECK(holds(moved, 40, 40));
	CHECK(holds(other, 60, 60));
	weir_region_destroy(region);
}

/* ---- large objects ------------------------------------------------------ */

TEST(large_object_grows_shrinks_and_ends_by_its_pages)
{
	NOT_UNDER_GUARD("a region has no room and no blocks");

	struct weir_region *region = create(NULL);
	uint64_t before = figures(region).bytes_charged;
	char *object = take(region, 200000), *moved;

	CHECK_EQ(figures(region).larges, 1);
	moved = weir_region_realloc(region, object, 200000, 900000);
	CHECK_NOT_NULL(moved);
	CHECK(holds(moved, 200000, 200000 % 251));
	CHECK_EQ(figures(region).larges, 1);
	CHECK_PTR(weir_region_realloc(region, moved, 900000, 5000), moved);
	CHECK_EQ(figures(region).bytes_charged, before + 8192);
	weir_region_free(region, moved, 5000);
	CHECK_EQ(figures(region).larges, 0);
	CHECK_EQ(figures(region).bytes_charged, before);
	CHECK(weir_region_check(region));
	weir_region_destroy(region);
}

TEST(object_grows_from_a_block_onto_pages_and_leaves_its_array_to_others)
{
	NOT_UNDER_GUARD("a region has no room and no blocks");

	struct weir_region *region = create(NULL);
	char *object = take(region, 512), *large;

	(void)take(region, 16);
	large = weir_region_realloc(region, object, 512, 100000);
	CHECK(holds(large, 512, 512 % 251));
	CHECK_EQ(figures(region).larges, 1);
	/* 512 bytes are kept, but for the table of what is kept. */
	CHECK_PTR(weir_region_realloc(region, NULL, 0, 368), object + 144);
	weir_region_destroy(region);
}

/* ---- spare arrays --------------------------------------------------------- */

TEST(arrays_given_back_serve_those_that_move_next)
{
	NOT_UNDER_GUARD("an address is used again as late as can be");

	struct weir_region *region =
	    create(&(struct weir_region_config){.first_bytes = 64 << 10});
	char *a = take(region, 256), *b = take(region, 64),
	     *c = take(region, 1024), *end = take(region, 16), *next;

	weir_region_free(region, a, 256); /* holds the table and 112 bytes */
	weir_region_free(region, b, 64);
	weir_region_free(region, c, 1024);
	next = region->next;
	/* The smallest class that surely fits; what is over serves, too. */
	CHECK_PTR(weir_region_realloc(region, NULL, 0, 64), b);
	CHECK_PTR(weir_region_realloc(region, NULL, 0, 600), c);
	CHECK_PTR(weir_region_realloc(region, NULL, 0, 400), c + 608);
	CHECK_PTR(weir_region_realloc(region, NULL, 0, 112), a + 144);
	CHECK_PTR(region->next, next);
	/* No more: from the block, as ever. */
	CHECK_PTR(weir_region_realloc(region, NULL, 0, 48), next);
	CHECK(holds(end, 16, 16));
	CHECK(weir_region_check(region));
	weir_region_destroy(region);
}

TEST(spare_arrays_end_with_a_reset)
{
	NOT_UNDER_GUARD("an address is used again as late as can be");

	struct weir_region *region = create(NULL);
	char *next;

	for (int round = 0; round < 3; round++) {
		char *object = take(region, 400), *fresh;

		(void)take(region, 16);
		weir_region_free(region, object, 400);
		weir_region_reset(region);
		/* A spare of before would be the same memory twice. */
		fresh = take(region, 400);
		(void)take(region, 16);
		CHECK(weir_region_realloc(region, NULL, 0, 200) != fresh);
		weir_region_reset(region);
	}
	weir_region_destroy(region);
	/* Nor do they reach the next region in that block. */
	region = create(NULL);
	next = region->next;
	CHECK_PTR(weir_region_realloc(region, NULL, 0, 32), next);
	weir_region_destroy(region);
}

TEST(spare_marks_of_an_earlier_life_are_no_double_free)
{
	struct weir_region *region = create(NULL);

	for (int round = 0; round < 3; round++) {
		char *first = weir_region_alloc(region, 320);
		char *second = weir_region_alloc(region, 64);

		/* Contents unspecified: what lay there before, in fact. */
		CHECK_NOT_NULL(weir_region_alloc(region, 16));
		weir_region_free(region, first, 320);
		weir_region_free(region, second, 64);
		weir_region_reset(region);
	}
	weir_region_destroy(region);
}

/* Two objects that are in each other's way, so that both keep moving. */
static void
grow_together(struct weir_region *region, size_t most)
{
	char *objects[2] = {NULL, NULL};
	size_t bytes = 0;

	while (bytes < most) {
		size_t more = bytes / 2 + 40;

		for (int i = 0; i < 2; i++) {
			objects[i] = weir_region_realloc(
			    region, objects[i], bytes, bytes + more);
			CHECK_NOT_NULL(objects[i]);
			memset(objects[i] + bytes, i + 1, more);
		}
		bytes += more;
	}
	for (int i = 0; i < 2; i++) {
		CHECK(holds(objects[i], bytes, i + 1));
		weir_region_free(region, objects[i], bytes);
	}
}

TEST(what_moving_objects_leave_is_enough_for_the_next)
{
	struct weir_region *region = create(NULL);
	uint64_t charged;

	grow_together(region, 5000);
	charged = figures(region).bytes_charged;
	for (int round = 0; round < 50; round++)
		grow_together(region, 5000);
	/* 40 KB go through it in each round. */
	CHECK_LE(figures(region).bytes_charged, 2 * charged);
	CHECK(weir_region_check(region));
	weir_region_destroy(region);
}

/* ---- against a model ------------------------------------------------------ */

struct twin {
	unsigned char *object;
	size_t bytes;
	unsigned char value;
};

static size_t
random_bytes(struct test_rng *rng)
{
	static const size_t most[] = {40, 300, 3000, 40000, 200000};

	return test_rand_below(rng, most[test_rand_below(rng, 5)]);
}

static void
twin_check(const struct twin *twin)
{
	CHECK(holds((char *)twin->object, twin->bytes, twin->value));
}

static void
twin_step(struct weir_region *region, struct twin *twin, struct test_rng *rng)
{
	size_t bytes = random_bytes(rng);
	size_t kept = bytes < twin->bytes ? bytes : twin->bytes;
	void *object;

	twin_check(twin);
	switch (test_rand_below(rng, 4)) {
	case 0:
		weir_region_free(region, twin->object, twin->bytes);
		*twin = (struct twin){0};
		return;
	case 1:
		if (weir_region_extend(
			region, twin->object, twin->bytes, bytes) &&
		    bytes > twin->bytes)
			twin->bytes = bytes;
		break;
	case 2:
		weir_region_shrink(region, twin->object, twin->bytes, bytes);
		twin->bytes = kept;
		break;
	default:
		object = weir_region_realloc(
		    region, twin->object, twin->bytes, bytes);
		CHECK_NOT_NULL(object);
		CHECK(holds(object, kept, twin->value));
		twin->object = object;
		twin->bytes = bytes;
	}
	twin->value++;
	if (twin->bytes > 0)
		memset(twin->object, twin->value, twin->bytes);
}

TEST(random_sizes_never_share_memory)
{
	enum { COUNT = 40 };
	static struct twin twins[COUNT];
	struct test_rng rng;
	struct weir_region *region = create(NULL);

	test_rng_init(&rng, test_seed());
	for (size_t step = 0; step < test_count(20000); step++) {
		struct twin *twin = &twins[test_rand_below(&rng, COUNT)];

		twin_step(region, twin, &rng);
		if (step % 64 == 0)
			CHECK(weir_region_check(region));
		if (test_rand_below(&rng, 2000) == 0) {
			weir_region_reset(region);
			memset(twins, 0, sizeof(twins));
		}
	}
	for (size_t i = 0; i < COUNT; i++)
		twin_check(&twins[i]);
	weir_region_destroy(region);
}

/* ---- limits ----------------------------------------------------------------- */

TEST(refused_growth_leaves_the_object_as_it_was)
{
	struct weir_region *region = create(&(struct weir_region_config){
	    .first_bytes = 4096, .limit_bytes = 4096});
	char *object = take(region, 1000);

	(void)take(region, 1000);
	CHECK_NULL(weir_region_realloc(region, object, 1000, 3000));
	CHECK_NULL(weir_region_realloc(region, object, 1000, SIZE_MAX));
	CHECK_NULL(weir_region_realloc(region, object, 1000, SIZE_MAX - 15));
	CHECK_NULL(weir_region_realloc(region, NULL, 0, SIZE_MAX / 2));
	CHECK(holds(object, 1000, 1000 % 251));
	CHECK_EQ(figures(region).failures, 4);
	CHECK(weir_region_check(region));
	weir_region_destroy(region);
}

/* ---- zero ------------------------------------------------------------------- */

TEST(zeroed_objects_on_fresh_pages_are_not_touched_and_used_ones_are_cleared)
{
	NOT_UNDER_GUARD("each object has a page");

	const size_t bytes = 64 << 20;
	struct weir_region *region = create(NULL);
	uint64_t before = test_resident_bytes();
	char *object = weir_region_alloc_zeroed(region, bytes);

	CHECK_NOT_NULL(object);
	/* A tool keeps a shadow of what is mapped. */
	if (!test_under_valgrind())
		CHECK_LT(test_resident_bytes() - before, 16 << 20);
	CHECK(holds(object, 1 << 20, 0));
	memset(object, 'x', bytes);
	CHECK(weir_region_free_large(region, object));
	object = weir_region_alloc_zeroed(region, bytes);
	CHECK(holds(object, bytes, 0));
	/* Grown over used pages and given back, it is not fresh either. */
	memset(object, 'y', bytes);
	weir_region_shrink(region, object, bytes, 4096);
	CHECK(holds(weir_region_alloc_zeroed(region, 1 << 20), 1 << 20, 0));
	weir_region_destroy(region);
}

/* ---- faults ----------------------------------------------------------------- */

TEST(wrong_pointers_and_sizes_are_told_apart)
{
	NOT_UNDER_GUARD("other words are expected than those of the guard, "
			"which knows more");

	struct weir_region *region = create(NULL);
	char *a = take(region, 320), *b = take(region, 64), *large;
	char here[32];

	(void)take(region, 16);
	large = take(region, 100000);
	EXPECT_ABORT("FAULT misaligned-pointer: region \"test\": no object "
		     "begins at ",
	    weir_region_free(region, b + 8, 40));
	EXPECT_ABORT("FAULT foreign-pointer: region \"test\": ",
	    weir_region_free(region, here - (uintptr_t)here % 16 + 16, 16));
	EXPECT_ABORT("is no object of this region",
	    weir_region_free(region, (char *)region + 64, 16));
	EXPECT_ABORT("FAULT bad-argument: region \"test\": object ",
	    weir_region_free(region, b, 5000));
	EXPECT_ABORT("never had 18446744073709551615 bytes",
	    weir_region_free(region, b, SIZE_MAX));
	EXPECT_ABORT("FAULT interior-pointer: region \"test\": ",
	    weir_region_free(region, large + 4096, 100));
	EXPECT_ABORT("FAULT interior-pointer: region \"test\": ",
	    (void)!weir_region_realloc(region, large + 64, 100, 200));
	EXPECT_ABORT("never had 200000 bytes",
	    weir_region_shrink(region, large, 200000, 100));
	weir_region_free(region, a, 320);
	weir_region_free(region, b, 64);
	EXPECT_ABORT("FAULT double-free: region \"test\": object ",
	    weir_region_free(region, b, 64));
	memset(b, 'w', 16);
	EXPECT_ABORT("was written to after it was free",
	    (void)!weir_region_realloc(region, NULL, 0, 64));
	weir_region_destroy(region);
}

TEST(object_of_another_region_is_a_fault)
{
	NOT_UNDER_GUARD("other words are expected than those of the guard, "
			"which knows more");

	struct weir_region *region = create(NULL), *other = create(NULL);
	char *object = take(other, 64);

	(void)take(other, 16);
	EXPECT_ABORT("FAULT wrong-pool: region \"test\": object ",
	    weir_region_free(region, object, 64));
	weir_region_destroy(other);
	EXPECT_ABORT("FAULT wrong-pool: region \"test\": object ",
	    weir_region_free(region, object, 64));
	other = create(NULL);
	weir_region_destroy(region);
	EXPECT_ABORT("which was destroyed",
	    (void)!weir_region_realloc(region, NULL, 0, 64));
	weir_region_destroy(other);
}

TEST(object_of_a_merged_region_is_one_of_its_new_region)
{
	NOT_UNDER_GUARD("a realloc always moves");

	struct weir_region *region = create(NULL), *middle, *child;
	char *objects[2];

	middle = create(&(struct weir_region_config){.parent = region});
	child = create(&(struct weir_region_config){.parent = middle});
	objects[0] = take(child, 320);
	objects[1] = take(child, 64);
	(void)take(child, 16);
	weir_region_merge(middle, child);
	weir_region_merge(region, middle);
	weir_region_free(region, objects[0], 320);
	weir_region_free(region, objects[1], 64);
	CHECK_PTR(weir_region_realloc(region, NULL, 0, 64), objects[1]);
	CHECK(weir_region_check(region));
	weir_region_destroy(region);
}

TEST(object_inside_of_a_block_is_taken_for_one_of_its_own)
{
	NOT_UNDER_GUARD("other words are expected than those of the guard, "
			"which knows more");

	struct weir_region *region = create(NULL);
	char *object = take(region, 640), *middle = object + 320;

	(void)take(region, 16);
	weir_region_free(region, middle, 320);
	CHECK(holds(object, 320, 640 % 251));
	CHECK_PTR(weir_region_realloc(region, NULL, 0, 160), middle + 144);
	weir_region_destroy(region);
}

/* ---- size 0 ----------------------------------------------------------------- */

TEST(size_zero_is_an_object_that_holds_nothing)
{
	struct weir_region *region = create(NULL);
	char *object = weir_region_alloc(region, 0), *other = take(region, 32);

	CHECK_NOT_NULL(object);
	/* Their addresses may be the same: giving one back is not the other. */
	weir_region_free(region, object, 0);
	weir_region_shrink(region, object, 0, 0);
	CHECK(!weir_region_extend(region, object, 0, 8));
	object = weir_region_realloc(region, object, 0, 24);
	CHECK_NOT_NULL(object);
	memset(object, 1, 24);
	CHECK(holds(other, 32, 32));
	CHECK_NOT_NULL(weir_region_realloc(region, NULL, 0, 0));
	weir_region_destroy(region);
}
