/* SPDX-License-Identifier: MIT */
/*
 * test_guard_vm.c - regions in one range of addresses under guard: what traps,
 * what is said of it, and that correct programs notice nothing.
 */
#include "unit/region_vm_common.h"

#include "os/guard.h"

static void
guard(enum weir_guard_mode mode, uint32_t rate)
{
	struct weir_guard_config config = {.mode = mode, .sample_rate = rate};

	CHECK_EQ(weir_guard_set(&config), 0);
}

__attribute__((noinline)) static char
peek(const void *at)
{
	return *(const volatile char *)at;
}

__attribute__((noinline)) static void
poke(void *at)
{
	*(volatile char *)at = 1;
}

/* By markers, and as a system without them. */
static const bool ways[] = {true, false};

TEST(what_a_reset_a_rewind_or_a_shrink_ended_traps)
{
	for (int i = 0; i < 2; i++) {
		struct weir_region_vm_point mark;
		struct weir_region_vm *region;
		unsigned char *kept, *object;

		if (ways[i] && !weiri_os_bars_merge())
			continue;
		weiri_os_set_bars_merge(ways[i]);
		guard(WEIR_GUARD_FULL, 0);
		region = create(MIB, 0, 0);
		kept = fill(region, 100, 1);
		mark = weir_region_vm_mark(region);
		object = fill(region, 20000, 2);
		CHECK(weir_region_vm_rewind(region, mark));
		EXPECT_ABORT("to an object that ended by rewind; ",
		    { poke(object + 8000); });
		/* On the page of what is in use: no old data. */
		CHECK_EQ((unsigned char)peek(object), 0xb7);
		CHECK_EQ(kept[99], 1);
		CHECK(weir_region_vm_check(region));

		object = fill(region, 20000, 3);
		weir_region_vm_shrink(region, object, 20000, 10);
		EXPECT_ABORT("of an object that ended by shrink; ",
		    { (void)peek(object + 19999); });
		weir_region_vm_reset(region);
		EXPECT_ABORT("of an object that ended by reset; ",
		    { (void)peek(kept); });
		EXPECT_ABORT("weir: FAULT use-after-free: region \"",
		    { (void)peek(kept); });
		CHECK(weir_region_vm_check(region));
		weir_region_vm_destroy(region);
		EXPECT_ABORT("of an object that ended by destroy; ",
		    { (void)peek(kept); });
		EXPECT_ABORT("\nweir:   ended by destroy, thread ",
		    { (void)peek(kept); });
	}
}

TEST(past_the_newest_object_s_page_traps_and_growth_goes_there)
{
	struct weir_region_vm *region;
	unsigned char *object;

	guard(WEIR_GUARD_FULL, 0);
	region = create(64 * MIB, 0, 0);
	object = fill(region, 4096, 1);
	CHECK_PTR(object, weir_region_vm_base(region));
	EXPECT_ABORT("write at 0x", { poke(object + 4096); });
	EXPECT_ABORT("0 bytes behind the object; ", { poke(object + 4096); });
	CHECK(weir_region_vm_extend(region, object, 4096, 10 * MIB));
	memset(object, 2, 10 * MIB);
	CHECK(weir_region_vm_check(region));
	EXPECT_ABORT("FAULT overflow: region", { poke(object + 10 * MIB); });
	CHECK_EQ(fill(region, 16, 3) - object, 10 * MIB);
	weir_region_vm_destroy(region);
}

/* Many uses of the same addresses, with givings back in between. */
TEST(memory_comes_and_goes_as_without)
{
	struct test_rng rng;
	struct weir_region_vm *region;

	test_rng_init(&rng, test_seed());
	guard(WEIR_GUARD_FULL, 0);
	region = create(64 * MIB, 0, 0);
	for (int round = 0; round < 100; round++) {
		size_t count = 1 + test_rand_below(&rng, 50);

		for (size_t i = 0; i < count; i++)
			(void)fill(region,
			    test_rand_below(
				&rng, round % 10 == 0 ? 100000 : 1000),
			    (int)i);
		if (round % 7 == 0)
			(void)weir_region_vm_trim(region);
		CHECK(weir_region_vm_check(region));
		CHECK_EQ(check_laws(), committed(region));
		weir_region_vm_reset(region);
	}
	weir_region_vm_destroy(region);
	CHECK_EQ(check_laws(), 0);
}

/* The oldest of those that ended give their addresses back. */
TEST(more_regions_than_are_remembered_come_and_go)
{
	void *base[200];

	guard(WEIR_GUARD_FULL, 0);
	for (int i = 0; i < 200; i++) {
		struct weir_region_vm *region = create(MIB, 0, 0);

		base[i] = fill(region, 5000, i);
		weir_region_vm_destroy(region);
	}
	EXPECT_ABORT("ended by destroy", { (void)peek(base[199]); });
	EXPECT_ABORT("ended by destroy", { (void)peek(base[140]); });
	CHECK_EQ(check_laws(), 0);
}

TEST(more_at_once_than_are_remembered_are_unguarded_and_work)
{
	struct weir_region_vm *region[100];

	guard(WEIR_GUARD_FULL, 0);
	for (int i = 0; i < 100; i++) {
		region[i] = create(MIB, 0, 0);
		(void)fill(region[i], 100000, i);
	}
	for (int i = 0; i < 100; i++) {
		CHECK(weir_region_vm_check(region[i]));
		weir_region_vm_destroy(region[i]);
	}
	CHECK_EQ(check_laws(), 0);
}

TEST(in_mode_sample_the_program_goes_on)
{
	struct weir_guard_stats stats = {.size = sizeof(stats)};
	struct weir_region_vm *region;
	unsigned char *object;

	guard(WEIR_GUARD_SAMPLE, 1);
	region = create(MIB, 0, 0);
	object = fill(region, 5000, 1);
	weir_region_vm_reset(region);
	CHECK_EQ(peek(object), 0);
	poke(object + 4096);
	CHECK_EQ(weir_guard_read(&stats), 0);
	CHECK_EQ(stats.reports, 2);
	(void)fill(region, 50000, 2);
	CHECK(weir_region_vm_check(region));
	weir_region_vm_destroy(region);
	CHECK_EQ(peek(object), 0);
	CHECK_EQ(weir_guard_read(&stats), 0);
	CHECK_EQ(stats.reports, 3);
}
