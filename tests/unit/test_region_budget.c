/* SPDX-License-Identifier: MIT */
/*
 * test_region_budget.c - limits of regions and of all below them, and what is
 * asked when one is reached.
 */
#include "region_common.h"

#include <errno.h>
#include <setjmp.h>

static struct weir_region *
below(struct weir_region *parent, uint64_t limit)
{
	return create(&(struct weir_region_config){
	    .parent = parent, .limit_bytes = limit});
}

static size_t
fill(struct weir_region *region, size_t bytes)
{
	size_t served = 0;

	while (weir_region_alloc(region, bytes) != NULL)
		served++;
	return served;
}

TEST(budget_counts_all_regions_below)
{
	struct weir_region *top =
	    create(&(struct weir_region_config){.limit_bytes = 100000});
	struct weir_region *a = below(top, 0), *b = below(a, 0);
	uint64_t sum;

	CHECK_NOT_NULL(weir_region_alloc(a, 9000));
	CHECK_NOT_NULL(weir_region_alloc(b, 40000));
	CHECK_NOT_NULL(weir_region_alloc(top, 5000));
	sum = figures(top).bytes_charged + figures(a).bytes_charged +
	      figures(b).bytes_charged;
	CHECK_EQ(figures(top).bytes_below, sum);
	CHECK_EQ(figures(top).bytes_limit, 100000);
	CHECK_EQ(figures(b).bytes_limit, UINT64_MAX);
	CHECK(weir_region_check(top));
	CHECK(weir_region_check(a));
	CHECK(weir_region_check(b));
	weir_region_destroy(b);
	CHECK_LT(figures(top).bytes_below, 60000);
	weir_region_destroy(a);
	CHECK_EQ(figures(top).bytes_below, figures(top).bytes_charged);
	weir_region_destroy(top);
	CHECK_EQ(kind_stats(&test_kind).in_use, 0);
	CHECK_EQ(kind_stats(&test_kind).bytes_mapped, 0);
}

TEST(no_budget_is_exceeded_by_a_byte)
{
	static const uint64_t limits[] = {8192, 50000, 131072, 1 << 20};

	for (size_t i = 0; i < 4; i++) {
		struct weir_region *top = create(
		    &(struct weir_region_config){.limit_bytes = limits[i]});
		struct weir_region *region[8];
		size_t count = 0, served = 0;

		for (; count < 8; count++) {
			struct weir_region_config config = {.parent = top};

			if (weir_region_create(
				&test_kind, &config, &region[count]) != 0)
				break;
			CHECK_LE(figures(top).bytes_below, limits[i]);
		}
		CHECK_GT(count, 0);
		for (size_t r = 0; r < count; r++)
			served += fill(region[r], 700);
		CHECK_GT(served, 0);
		CHECK_LE(figures(top).bytes_below, limits[i]);
		CHECK_LE(figures(top).budget_peak, limits[i]);
		/* Refused early by less than the smallest block. */
		CHECK_LT(limits[i] - figures(top).bytes_below, 1024);
		CHECK(weir_region_check(top));
		/* What one gives back, another may have. */
		weir_region_reset(region[0]);
		CHECK_NOT_NULL(weir_region_alloc(region[0], 700));
		weir_region_destroy(top);
	}
	CHECK_EQ(kind_stats(&test_kind).in_use, 0);
}

TEST(nearest_and_farthest_limit_bind)
{
	struct weir_region *top =
	    create(&(struct weir_region_config){.limit_bytes = 60000});
	struct weir_region *narrow = below(top, 20000);
	struct weir_region *wide = below(top, 1 << 20);

	(void)fill(narrow, 100);
	CHECK_LE(figures(narrow).bytes_charged, 20000);
	CHECK_GT(figures(narrow).bytes_charged, 18900);
	(void)fill(wide, 100);
	CHECK_LE(figures(top).bytes_below, 60000);
	CHECK_GT(figures(top).bytes_below, 58900);
	CHECK_EQ(figures(wide).bytes_limit, 1 << 20);
	CHECK(weir_region_check(wide));
	weir_region_destroy(top);
}

TEST(limit_is_kept_when_the_regions_below_are_gone)
{
	struct weir_region *top =
	    create(&(struct weir_region_config){.limit_bytes = 50000});

	for (int round = 0; round < 3; round++) {
		struct weir_region *child = below(top, 0);

		(void)fill(child, 500);
		CHECK_LE(figures(top).bytes_below, 50000);
		if (round == 1)
			weir_region_destroy(child);
		weir_region_reset(top);
		CHECK_EQ(figures(top).bytes_limit, 50000);
		CHECK_EQ(figures(top).children, 0);
		(void)fill(top, 500);
		CHECK_LE(figures(top).bytes_charged, 50000);
		CHECK_GT(figures(top).bytes_charged, 48000);
		CHECK(weir_region_check(top));
		weir_region_reset(top);
	}
	weir_region_destroy(top);
}

/* ---- soft limits ---------------------------------------------------------- */

static unsigned soft_calls;
static struct weir_region *soft_region;
static uint64_t soft_bytes;

static void
soft(struct weir_region *region, uint64_t bytes, void *context)
{
	CHECK_PTR(context, &soft_calls);
	soft_calls++;
	soft_region = region;
	soft_bytes = bytes;
}

TEST(soft_limit_calls_once_for_each_crossing)
{
	struct weir_region *top = create(&(struct weir_region_config){
	    .soft_bytes = 30000, .soft = soft, .soft_context = &soft_calls});
	struct weir_region *child = below(top, 0);

	for (unsigned crossing = 1; crossing <= 3; crossing++) {
		for (int i = 0; i < 100; i++)
			CHECK_NOT_NULL(weir_region_alloc(child, 1000));
		CHECK_EQ(soft_calls, crossing);
		CHECK_PTR(soft_region, top);
		CHECK_GT(soft_bytes, 30000);
		CHECK_LE(soft_bytes, figures(top).bytes_below);
		weir_region_reset(child);
		CHECK_LT(figures(top).bytes_below, 30000);
	}
	weir_region_destroy(top);
}

/* The short way passes it over; a wrapper's takes another, and so does the slow. */
TEST(soft_hook_without_its_bytes_is_none)
{
	static const char here;
	struct weir_region_config config = {.name = "no soft limit",
	    .limit_bytes = 100000,
	    .soft = soft,
	    .soft_context = &soft_calls};
	struct weir_region *region;
	struct weir_region_info info;

	soft_calls = 0;
	for (int i = 0; i < 6; i++) {
		config.site = i % 2 != 0 ? &here : NULL;
		config.first_bytes = i > 3 ? 2048 : 0;
		CHECK_EQ(weir_region_create(
			     i % 3 != 0 ? &test_kind : NULL, &config, &region),
		    0);
		CHECK_NOT_NULL(weir_region_alloc(region, 60000));
		CHECK_NULL(weir_region_alloc(region, 60000));
		CHECK_EQ(weir_region_top(WEIR_REGION_BY_AGE, 0, &info, 1), 1);
		CHECK_STR(info.name, "no soft limit");
		CHECK_STR(info.kind, i % 3 != 0 ? "test" : "region");
		CHECK(i % 2 != 0 ? info.site == &here : info.site != &here);
		weir_region_destroy(region);
	}
	CHECK_EQ(soft_calls, 0);
}

TEST(soft_limit_hears_of_the_block_that_a_reset_keeps)
{
	NOT_UNDER_GUARD("a region has no room and no blocks");

	static struct weir_region_kind kind = WEIR_REGION_KIND("soft kept");
	struct weir_region *region;
	unsigned before = 0;

	CHECK_EQ(weir_region_create(&kind,
		     &(struct weir_region_config){.first_bytes = 4096,
			 .soft_bytes = 20000,
			 .soft = soft,
			 .soft_context = &soft_calls},
		     &region),
	    0);
	soft_calls = 0;
	/* The kind learns that 20 KB are usual, and keeps 32 KiB for them,
	 * which none of the blocks on the way is: 8 and 16. */
	for (int reset = 0; reset < 200; reset++) {
		for (int i = 0; i < 20; i++)
			CHECK_NOT_NULL(weir_region_alloc(region, 1000));
		before = soft_calls;
		weir_region_reset(region);
		if (figures(region).bytes_charged > 20000)
			break;
	}
	CHECK_EQ(figures(region).bytes_charged, 4096 + (32 << 10));
	CHECK_EQ(soft_calls, before + 1);
	CHECK_EQ(soft_bytes, 4096 + (32 << 10));
	weir_region_destroy(region);
}

TEST(soft_limit_without_a_function_is_refused)
{
	struct weir_region *region;

	CHECK_EQ(weir_region_create(&test_kind,
		     &(struct weir_region_config){.soft_bytes = 1}, &region),
	    -EINVAL);
}

/* ---- without memory --------------------------------------------------------- */

struct oom {
	unsigned calls;
	struct weir_region *asked;
	struct weir_region *victim; /* destroyed for the second try */
	jmp_buf *leave;
};

static bool
oom(struct weir_region *region, size_t bytes, void *context)
{
	struct oom *oom = context;

	CHECK_EQ(bytes, 20000);
	CHECK(weir_region_check(region));
	oom->calls++;
	oom->asked = region;
	if (oom->leave != NULL)
		longjmp(*oom->leave, 1);
	if (oom->victim == NULL)
		return false;
	weir_region_destroy(oom->victim);
	oom->victim = NULL;
	return true;
}

TEST(handler_of_a_region_above_is_asked)
{
	struct oom state = {0};
	struct weir_region *top = create(&(struct weir_region_config){
	    .limit_bytes = 50000, .oom = oom, .oom_context = &state});
	struct weir_region *child = below(below(top, 0), 30000);

	CHECK_NOT_NULL(weir_region_alloc(child, 20000 - 4096));
	CHECK_NULL(weir_region_alloc(child, 20000));
	CHECK_EQ(state.calls, 1);
	CHECK_PTR(state.asked, child);
	CHECK_EQ(figures(child).failures, 1);
	weir_region_destroy(top);
}

TEST(handler_that_made_room_has_the_request_tried_again)
{
	NOT_UNDER_GUARD("a region has no room and no blocks");

	struct oom state = {0};
	struct weir_region *top = create(&(struct weir_region_config){
	    .limit_bytes = 60000, .oom = oom, .oom_context = &state});
	struct weir_region *child = below(top, 0);

	state.victim = below(top, 0);
	CHECK_NOT_NULL(weir_region_alloc(state.victim, 20000));
	CHECK_NOT_NULL(weir_region_alloc(child, 20000));
	CHECK_EQ(state.calls, 1);
	CHECK_EQ(figures(child).failures, 0);
	/* One more time only. */
	CHECK_NULL(weir_region_alloc(child, 20000));
	CHECK_EQ(state.calls, 2);
	CHECK(weir_region_check(top));
	weir_region_destroy(top);
}

TEST(handler_may_leave_by_longjmp)
{
	NOT_UNDER_GUARD("a region has no room and no blocks");

	jmp_buf back;
	struct oom state = {.leave = &back};
	struct weir_region *volatile top = create(&(struct weir_region_config){
	    .limit_bytes = 30000, .oom = oom, .oom_context = &state});
	volatile unsigned served = 0;

	if (setjmp(back) == 0)
		for (;;) {
			CHECK_NOT_NULL(weir_region_alloc(top, 20000));
			served++;
		}
	CHECK_EQ(served, 0);
	CHECK_EQ(state.calls, 1);
	CHECK(weir_region_check(top));
	CHECK_NOT_NULL(weir_region_alloc(top, 9000));
	weir_region_destroy(top);
	CHECK_EQ(kind_stats(&test_kind).bytes_mapped, 0);
}

/* ---- threads ---------------------------------------------------------------- */

#define SHARED_LIMIT 300000

static void
worker(unsigned index, void *context)
{
	struct weir_region **child = context;

	weir_region_take_over(child[index]);
	for (size_t round = test_count(300); round > 0; round--) {
		(void)fill(child[index], 100 + round % 5000);
		CHECK(weir_region_check(child[index]));
		weir_region_reset(child[index]);
	}
	weir_region_hand_off(child[index]);
}

TEST(regions_of_several_threads_share_a_budget)
{
	struct weir_region *top =
	    create(&(struct weir_region_config){.limit_bytes = SHARED_LIMIT});
	struct weir_region *child[2] = {below(top, 0), below(top, 0)};

	for (int i = 0; i < 2; i++)
		weir_region_hand_off(child[i]);
	test_threads(2, worker, child);
	for (int i = 0; i < 2; i++)
		weir_region_take_over(child[i]);
	CHECK_LE(figures(top).budget_peak, SHARED_LIMIT);
	CHECK_GT(figures(top).budget_peak, SHARED_LIMIT / 2);
	CHECK(weir_region_check(top));
	weir_region_destroy(top);
	CHECK_EQ(kind_stats(&test_kind).in_use, 0);
	CHECK_EQ(kind_stats(&test_kind).bytes_mapped, 0);
}

/* ---- handlers that reset -------------------------------------------------- */

static bool
reset_it(struct weir_region *region, size_t bytes, void *context)
{
	(void)bytes;
	++*(int *)context;
	weir_region_reset(region);
	return true;
}

TEST(limit_binds_below_a_region_that_the_handler_reset)
{
	int resets = 0;
	const struct weir_region_config top = {
	    .oom = reset_it,
	    .oom_context = &resets,
	};
	struct weir_region *above = create(&top);
	const struct weir_region_config middle = {
	    .parent = above,
	    .limit_bytes = 8192,
	    .first_bytes = 1024,
	};
	struct weir_region *region = create(&middle), *below;
	const struct weir_region_config under = {.parent = region};

	/* Up to the limit, so that not even a small region fits below. */
	while (figures(region).bytes_charged + 1024 <= 8192)
		CHECK_NOT_NULL(weir_region_alloc(region, 900));
	CHECK_EQ(resets, 0);
	below = create(&under);
	CHECK_EQ(resets, 1);
	CHECK(weir_region_check(region));
	CHECK_GT(figures(region).bytes_below, figures(region).bytes_charged);
	CHECK_LE(figures(region).bytes_below, 8192);
	CHECK(weir_region_check(below));
	weir_region_destroy(above);
	CHECK_EQ(kind_stats(&test_kind).in_use, 0);
}
