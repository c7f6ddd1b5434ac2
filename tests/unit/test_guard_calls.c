/* SPDX-License-Identifier: MIT */
/*
 * test_guard_calls.c - what pools ask of the guard about addresses that are none of
 * its objects, or not any more.
 *
 * The answer is "not mine", and nothing happens: whoever asked tells the program.
 */
#include "test.h"

#include "guard/guard.h"

#include <weir/weir.h>

#include <stdint.h>

static struct weir_heap *heap;
static char *object;

static struct weiri_guard_pool *
guard_one(void)
{
	CHECK_EQ(weir_guard_set(
		     &(struct weir_guard_config){.mode = WEIR_GUARD_FULL}),
	    0);
	CHECK_EQ(weir_heap_create("asked", NULL, &heap), 0);
	object = weir_heap_alloc(heap, 100);
	CHECK_NOT_NULL(object);
	CHECK(weiri_guard_covers(object));
	return (struct weiri_guard_pool *)(uintptr_t)weiri_guard_pool_of(
	    object);
}

static void
end_one(void)
{
	weir_heap_free(heap, object);
	weir_heap_destroy(heap);
}

TEST(quiet_end_is_of_a_live_object_of_the_pool_that_asks)
{
	NOT_UNDER_GUARD("it is set here");

	const struct weiri_guard_pool *pool = guard_one(), other = {0};
	char elsewhere;

	CHECK_NULL(weiri_guard_end_quietly(pool, &elsewhere));
	CHECK_NULL(weiri_guard_end_quietly(&other, object));
	CHECK_NULL(weiri_guard_end_quietly(pool, object + 1));
	/* It is what it was. */
	CHECK_PTR(weiri_guard_pool_of(object), pool);
	object[99] = 1;
	end_one();
	CHECK_NULL(weiri_guard_end_quietly(pool, object));
}

TEST(record_of_an_end_is_of_that_object_and_no_other)
{
	NOT_UNDER_GUARD("it is set here");

	char elsewhere;
	void *shadow;

	(void)guard_one();
	shadow = weiri_guard_shadow_of(object);
	CHECK_NULL(weiri_guard_ended(&elsewhere, shadow));
	CHECK_NULL(weiri_guard_ended(object, shadow)); /* it is live */
	weir_heap_free(heap, object);
	CHECK_NOT_NULL(weiri_guard_ended(object, shadow));
	CHECK_NULL(weiri_guard_ended(object + 1, shadow));
	CHECK_NULL(weiri_guard_ended(object, &elsewhere));
	CHECK_NULL(weiri_guard_shadow_of(object));
	CHECK_NULL(weiri_guard_shadow_around(&elsewhere));
	CHECK_EQ(weiri_guard_bytes(object), 0);
	weir_heap_destroy(heap);
}

TEST(address_that_is_nobodys_is_left_to_the_pool)
{
	NOT_UNDER_GUARD("it is set here");

	struct weiri_guard_pool *pool = guard_one();
	bool foreign = false;
	char elsewhere;

	weiri_guard_expect(pool, &elsewhere);
	weiri_guard_expect(pool, object);
	weiri_guard_refuse(pool, &elsewhere);
	CHECK_NULL(weiri_guard_claim(pool, &elsewhere, &foreign));
	CHECK(foreign);
	CHECK_NULL(weiri_guard_shadow(pool, &elsewhere, &foreign));
	CHECK(foreign);
	CHECK_NOT_NULL(weiri_guard_shadow(pool, object, &foreign));
	CHECK(!foreign);
	end_one();
}

TEST(object_larger_than_any_is_not_guarded)
{
	NOT_UNDER_GUARD("it is set here");

	struct weiri_guard_pool *pool = guard_one();

	CHECK_NULL(weiri_guard_new(pool, SIZE_MAX, 16, false, NULL));
	CHECK_NULL(
	    weiri_guard_new(pool, (size_t)PTRDIFF_MAX + 1, 16, false, NULL));
	CHECK_NULL(weiri_guard_new(pool, (size_t)1 << 45, 16, false, NULL));
	CHECK_EQ(weir_guard_set(
		     &(struct weir_guard_config){.mode = WEIR_GUARD_TOOL}),
	    0);
	CHECK_NULL(weiri_guard_new(pool, SIZE_MAX, 16, false, NULL));
	CHECK_EQ(weir_guard_set(NULL), 0);
	CHECK_EQ(weir_debug_set("poison"), 0);
	CHECK_NULL(weiri_guard_new(pool, SIZE_MAX, 16, false, NULL));
	CHECK_NULL(weiri_guard_new(pool, (size_t)1 << 45, 16, false, NULL));
	CHECK_EQ(weir_debug_set(NULL), 0);
	end_one();
}
