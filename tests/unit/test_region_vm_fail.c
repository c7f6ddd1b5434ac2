/* SPDX-License-Identifier: MIT */
/*
 * test_region_vm_fail.c - regions in one range of addresses: what the system
 * refuses, and what the program does wrong.
 */
#include "region_vm_common.h"

/* ---- the system refuses --------------------------------------------------- */

static bool
refusals_scenario(bool persistent)
{
	struct weir_region_vm *region;
	bool whole = true;
	int error = weir_region_vm_create("refused",
	    &(struct weir_region_vm_config){.reserve_bytes = GIB}, &region);

	if (error != 0) {
		CHECK_EQ(error, -ENOMEM);
		CHECK_NULL(region);
		return false;
	}
	for (size_t i = 0; i < 70; i++) {
		size_t bytes = i == 3 ? 9 * MIB : 100 * KIB;
		char *object = weir_region_vm_alloc(region, 70 * KIB);

		if (object != NULL)
			memset(object, 1, 70 * KIB);
		if (object == NULL ||
		    !weir_region_vm_extend(region, object, 70 * KIB, bytes))
			whole = false;
		else
			memset(object, 2, bytes);
		CHECK(weir_region_vm_check(region));
		CHECK_EQ(check_laws(), committed(region));
		weir_region_vm_reset(region);
	}
	(void)weir_region_vm_trim(region);
	CHECK(weir_region_vm_check(region));
	if (whole && !persistent)
		(void)fill(region, 100, 1);
	weir_region_vm_destroy(region);
	CHECK_EQ(check_laws(), 0);
	return whole;
}

static void
refusals_sweep(bool persistent)
{
	/* Under guard there are ten times as many. */
	int64_t n = 1, step = test_under_guard() ? 11 : 1, reached;

	do {
		weiri_os_fail_nth(n, persistent);
		(void)refusals_scenario(persistent);
		reached = weiri_os_calls();
		weiri_os_fail_nth(0, false);
		(void)weir_trim();
		CHECK_EQ(read_stats().bytes_retained, 0);
		CHECK(refusals_scenario(false));
		n += step;
	} while (reached >= n - step);
	CHECK_GT(n, 8);
}

TEST(each_refusal_of_the_system_is_survived_and_made_up_for)
{
	refusals_sweep(false);
}

TEST(system_that_refuses_from_some_moment_on_is_survived)
{
	refusals_sweep(true);
}

TEST(memory_the_system_does_not_take_stays_charged_until_it_does)
{
	struct weir_region_vm *region = create(GIB, 0, 0);
	struct weir_stats stats;

	(void)fill(region, 5 * MIB, 1);
	weiri_os_fail_nth(1, true);
	CHECK_EQ(weir_region_vm_trim(region), 0);
	CHECK_EQ(check_laws(), committed(region));
	weir_region_vm_destroy(region);
	CHECK_EQ(check_laws(), 0);
	(void)weir_trim();
	stats = read_stats();
	CHECK_EQ(stats.bytes_retained, weiri_range_kept());
	CHECK_GE(stats.bytes_retained, 5 * MIB);
	weiri_os_fail_nth(0, false);
	CHECK_GE(weir_trim(), 5 * MIB);
	CHECK_EQ(weiri_range_kept(), 0);
	CHECK_EQ(read_stats().bytes_retained, 0);
	CHECK_EQ(check_laws(), 0);
}

/* ---- bugs of the caller ----------------------------------------------------- */

TEST(uses_after_the_end_are_reported)
{
	struct weir_region_vm *region = create(MIB, 0, 0);
	char *object = (char *)fill(region, 100, 1);
	static const char message[] =
	    "weir: FAULT use-after-destroy: region \"range\": 0x";

	weir_region_vm_destroy(region);
	EXPECT_ABORT("weir: FAULT double-destroy: region \"range\": 0x",
	    { weir_region_vm_destroy(region); });
	EXPECT_ABORT(message, { CHECK_NULL(weir_region_vm_alloc(region, 1)); });
	EXPECT_ABORT(message,
	    { CHECK_NULL(weir_region_vm_alloc_aligned(region, 1, 64)); });
	EXPECT_ABORT(message, { weir_region_vm_reset(region); });
	EXPECT_ABORT(message, { (void)weir_region_vm_trim(region); });
	EXPECT_ABORT(
	    message, { CHECK(weir_region_vm_mark(region).bytes == 0); });
	EXPECT_ABORT(message, { CHECK_NULL(weir_region_vm_base(region)); });
	EXPECT_ABORT(message, { (void)weir_region_vm_check(region); });
	EXPECT_ABORT(
	    message, { weir_region_vm_shrink(region, object, 100, 1); });
	EXPECT_ABORT(
	    message, { CHECK(weir_region_vm_extend(region, object, 100, 1)); });
	EXPECT_ABORT(message, { weir_region_vm_hand_off(region); });
	EXPECT_ABORT(message, { weir_region_vm_take_over(region); });
}

TEST(pointers_that_are_none_of_its_own_are_reported)
{
	static uint64_t words[128];
	struct weir_region_vm *region = create(MIB, 0, 0);
	char *object = (char *)fill(region, 100, 1);

	EXPECT_ABORT("weir: FAULT foreign-pointer: region",
	    { weir_region_vm_destroy((struct weir_region_vm *)&words[64]); });
	EXPECT_ABORT("weir: FAULT foreign-pointer: region \"range\": 0x",
	    { CHECK(weir_region_vm_extend(region, words, 8, 16)); });
	EXPECT_ABORT("of 113 bytes, is not among its objects",
	    { CHECK(weir_region_vm_extend(region, object, 113, 200)); });
	EXPECT_ABORT("foreign-pointer",
	    { weir_region_vm_shrink(region, object + 100, 13, 0); });
	EXPECT_ABORT("foreign-pointer",
	    { weir_region_vm_shrink(region, object, SIZE_MAX, 0); });
	weir_region_vm_destroy(region);
}

TEST(no_access_beyond_what_is_committed)
{
	struct weir_region_vm *region = create(GIB, 0, 0);
	char *object = (char *)fill(region, 5 * MIB, 1);
	int into[2];
	size_t page = weiri_range_page();

	/* The kernel says EFAULT where the program would die. */
	CHECK_EQ(pipe(into), 0);
	CHECK_EQ(write(into[1], object + 4 * MIB, 1), 1);
	weir_region_vm_reset(region);
	(void)fill(region, page, 1);
	CHECK_GT(weir_region_vm_trim(region), 0);
	CHECK_EQ(write(into[1], object + page - 1, 1), 1);
	CHECK_EQ(write(into[1], object + page, 1), -1);
	CHECK_EQ(errno, EFAULT);
	CHECK_EQ(write(into[1], object + 4 * MIB, 1), -1);
	weir_region_vm_destroy(region);
}

/* ---- a region of another thread's --------------------------------------- */

#if defined(WEIR_DEBUG) && WEIR_DEBUG >= 1
static void *
other_resets(void *context)
{
	weir_region_vm_reset(context);
	return NULL;
}

TEST(another_threads_use_is_reported)
{
	struct weir_region_vm *region = create(MIB, 0, 0);
	pthread_t thread;

	EXPECT_ABORT("is another thread's", {
		CHECK_EQ(
		    pthread_create(&thread, NULL, other_resets, region), 0);
		pthread_join(thread, NULL);
	});
	weir_region_vm_hand_off(region);
	EXPECT_ABORT("was handed off and not taken over",
	    { weir_region_vm_reset(region); });
	weir_region_vm_take_over(region);
	weir_region_vm_destroy(region);
}
#endif
