/* SPDX-License-Identifier: MIT */
/*
 * test_region_budget_model.c - random trees of regions with budgets against a
 * plain twin.
 *
 * The twin knows who is below whom and what limit each has.  After each step the
 * sums of a tree are added up region by region and compared with what its
 * budgets say; a refused request must have had a budget above it that could not
 * have paid for the smallest block to serve it.
 */
#include <weir/region.h>

#include "test.h"

#include <string.h>

#define REGIONS 40

struct twin {
	struct weir_region *region; /* NULL: this one is not there */
	int parent;                 /* -1: none */
	uint64_t limit;             /* UINT64_MAX: none */
	void *large;                /* an object with pages of its own */
	size_t large_bytes;
};

static struct weir_region_kind model_kind = WEIR_REGION_KIND("budgets");
static struct twin twins[REGIONS];
static struct test_rng rng;

static struct weir_region_figures
figures(const struct twin *twin)
{
	struct weir_region_figures out = {.size = sizeof(out)};

	CHECK_EQ(weir_region_stats(twin->region, &out), 0);
	return out;
}

static bool
is_below(int index, int top)
{
	for (; index >= 0; index = twins[index].parent)
		if (index == top)
			return true;
	return false;
}

static uint64_t
sum_of(int top)
{
	uint64_t sum = 0;

	for (int i = 0; i < REGIONS; i++)
		if (twins[i].region != NULL && is_below(i, top))
			sum += figures(&twins[i]).bytes_charged;
	return sum;
}

static void
verify(void)
{
	for (int i = 0; i < REGIONS; i++) {
		struct weir_region_figures seen;

		if (twins[i].region == NULL)
			continue;
		CHECK(weir_region_check(twins[i].region));
		seen = figures(&twins[i]);
		CHECK_EQ(seen.bytes_limit, twins[i].limit);
		CHECK_LE(sum_of(i), twins[i].limit);
		CHECK_LE(seen.budget_peak, twins[i].limit);
		if (seen.bytes_below != 0)
			CHECK_EQ(seen.bytes_below, sum_of(i));
	}
}

/* What is left to @index, and nothing below that of a budget above it. */
static uint64_t
left_to(int index)
{
	uint64_t left = UINT64_MAX;

	for (; index >= 0; index = twins[index].parent)
		if (twins[index].limit != UINT64_MAX) {
			uint64_t here = twins[index].limit - sum_of(index);

			left = here < left ? here : left;
		}
	return left;
}

/* The smallest block, or the pages, for an object. */
static uint64_t
need_of(size_t bytes)
{
	uint64_t block = 1024;

	if (bytes > (32 << 10) - 32)
		return (bytes + 4095) / 4096 * 4096;
	while (block < (bytes + 15) / 16 * 16 + 32)
		block *= 2;
	return block;
}

static int
any(void)
{
	int index = (int)test_rand_below(&rng, REGIONS);

	for (int i = 0; i < REGIONS; i++, index = (index + 1) % REGIONS)
		if (twins[index].region != NULL)
			return index;
	return -1;
}

static void
do_create(void)
{
	struct weir_region_config config = {0};
	int index = 0;

	while (index < REGIONS && twins[index].region != NULL)
		index++;
	if (index == REGIONS)
		return;
	twins[index] = (struct twin){.parent = -1, .limit = UINT64_MAX};
	if (test_rand_below(&rng, 4) != 0 && any() >= 0) {
		twins[index].parent = any();
		config.parent = twins[twins[index].parent].region;
	}
	if (test_rand_below(&rng, 3) == 0) {
		twins[index].limit = 1024 + test_rand_below(&rng, 400000);
		config.limit_bytes = twins[index].limit;
	}
	if (weir_region_create(&model_kind, &config, &twins[index].region) != 0)
		CHECK_LT(left_to(twins[index].parent), 1024);
}

static void
do_alloc(struct twin *twin, int index)
{
	static const size_t most[] = {200, 3000, 20000, 90000};
	size_t bytes = test_rand_below(&rng, most[test_rand_below(&rng, 4)]);
	void *object = weir_region_alloc(twin->region, bytes);

	if (object == NULL)
		CHECK_LT(left_to(index), need_of(bytes));
	else
		memset(object, 1, bytes);
	if (object != NULL && bytes > 64 << 10) {
		twin->large = object;
		twin->large_bytes = bytes;
	}
}

static void
do_large(struct twin *twin)
{
	if (twin->large == NULL)
		return;
	if (test_rand_below(&rng, 2) == 0) {
		CHECK(weir_region_free_large(twin->region, twin->large));
		twin->large = NULL;
	} else if (weir_region_resize_large(
		       twin->region, twin->large, twin->large_bytes + 5000)) {
		twin->large_bytes += 5000;
		memset(twin->large, 2, twin->large_bytes);
	}
}

static void
do_end(int top, bool reset)
{
	if (reset)
		weir_region_reset(twins[top].region);
	else
		weir_region_destroy(twins[top].region);
	twins[top].large = NULL;
	for (int i = 0; i < REGIONS; i++)
		if (twins[i].region != NULL && i != top && is_below(i, top))
			/* Its parents go in any order: ask first, then. */
			twins[i].large = &twins[i];
	for (int i = 0; i < REGIONS; i++)
		if (twins[i].large == &twins[i])
			twins[i] = (struct twin){0};
	if (!reset)
		twins[top] = (struct twin){0};
}

TEST_LIMIT(budgets_are_the_sums_of_what_is_below, 120)
{
	struct weir_pool_stats stats = {.size = sizeof(stats)};
	size_t refused = 0;

	test_rng_init(&rng, test_seed());
	for (size_t steps = test_count(8000); steps > 0; steps--) {
		uint64_t dice = test_rand_below(&rng, 100);
		int index = any();
		uint64_t before =
		    index < 0 ? 0 : figures(&twins[index]).failures;

		if (index < 0 || dice < 25)
			do_create();
		else if (dice < 85)
			do_alloc(&twins[index], index);
		else if (dice < 92)
			do_large(&twins[index]);
		else
			do_end(index, dice < 96);
		if (index >= 0 && twins[index].region != NULL)
			refused += figures(&twins[index]).failures != before;
		if (dice % 4 == 0)
			verify();
	}
	CHECK_GT(refused, 0);
	for (int i = 0; i < REGIONS; i++)
		if (twins[i].region != NULL)
			do_end(i, false);
	CHECK_EQ(weir_region_kind_stats(&model_kind, &stats), 0);
	CHECK_EQ(stats.in_use, 0);
	CHECK_EQ(stats.bytes_mapped, 0);
}
