/* SPDX-License-Identifier: MIT */
/*
 * test_guard_buddy.c - buddies under guard: what was given back rests, and nobody
 * but who frees twice is to notice.
 */
#include "support/test.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <weir/weir.h>

#define UNITS 64

static void
guard(enum weir_guard_mode mode, uint32_t rate)
{
	struct weir_guard_config config = {.mode = mode, .sample_rate = rate};

	CHECK_EQ(weir_guard_set(&config), 0);
}

static struct weir_buddy *
make(size_t units, unsigned flags)
{
	struct weir_buddy_config config = {.unit_count = units, .flags = flags};
	struct weir_buddy *buddy;

	CHECK_EQ(weir_buddy_create("ports", &config, &buddy), 0);
	return buddy;
}

static uint64_t
in_use(struct weir_buddy *buddy)
{
	struct weir_pool_stats stats = {.size = sizeof(stats)};

	CHECK_EQ(weir_buddy_stats(buddy, &stats), 0);
	CHECK_EQ(stats.in_use + stats.available, stats.total);
	CHECK(weir_buddy_check(buddy));
	return stats.in_use;
}

static struct {
	size_t count;
	enum weir_fault_class last;
	const void *object;
	char json[4096];
} told;

static void
hear(const struct weir_fault *fault, void *context)
{
	(void)context;
	told.count++;
	told.last = fault->fault_class;
	told.object = fault->object;
	snprintf(told.json, sizeof(told.json), "%s", fault->json);
}

TEST(units_rest_until_they_are_needed)
{
	struct weir_buddy *buddy;
	size_t first, next;

	guard(WEIR_GUARD_FULL, 0);
	buddy = make(UNITS, 0);
	first = weir_buddy_alloc(buddy, 8);
	weir_buddy_free(buddy, first);
	/* Seven runs of eight go by before it is its turn again. */
	for (size_t i = 0; i < UNITS / 8 - 1; i++) {
		next = weir_buddy_alloc(buddy, 8);
		CHECK_NE(next, first);
		weir_buddy_free(buddy, next);
		CHECK_EQ(in_use(buddy), 0);
		CHECK_EQ(weir_buddy_run(buddy, first), 0);
	}
	EXPECT_ABORT("FAULT double-free: buddy \"ports\": unit",
	    { weir_buddy_free(buddy, first); });
	EXPECT_ABORT("is free: its run ended by free",
	    { (void)weir_buddy_resize(buddy, first, 2); });
	CHECK_EQ(weir_buddy_alloc(buddy, 8), first);
	weir_buddy_free(buddy, first);
	weir_buddy_destroy(buddy);
}

TEST(all_units_can_be_had_whatever_rests)
{
	struct weir_buddy_orders orders = {.size = sizeof(orders)};
	struct weir_buddy *buddy;
	size_t runs[UNITS], all;

	guard(WEIR_GUARD_FULL, 0);
	buddy = make(UNITS, WEIR_BUDDY_UNLOCKED);
	for (int round = 0; round < 3; round++) {
		for (size_t i = 0; i < UNITS; i++) {
			runs[i] = weir_buddy_alloc(buddy, 1);
			CHECK_NE(runs[i], WEIR_BUDDY_NONE);
		}
		CHECK_EQ(weir_buddy_alloc(buddy, 1), WEIR_BUDDY_NONE);
		CHECK_EQ(in_use(buddy), UNITS);
		for (size_t i = 0; i < UNITS; i++)
			weir_buddy_free(buddy, runs[i * 5 % UNITS]);
		CHECK_EQ(in_use(buddy), 0);
		all = weir_buddy_alloc(buddy, UNITS);
		CHECK_EQ(all, 0);
		weir_buddy_free(buddy, all);
		CHECK_EQ(weir_buddy_alloc(buddy, UNITS + 1), WEIR_BUDDY_NONE);
	}
	/* What is said of free units is said of all of them. */
	CHECK_EQ(weir_buddy_largest(buddy), UNITS);
	all = weir_buddy_alloc(buddy, 5);
	weir_buddy_free(buddy, all);
	CHECK_EQ(weir_buddy_orders_read(buddy, &orders), 0);
	CHECK_EQ(orders.free_units, UNITS);
	CHECK_EQ(orders.fragmentation_permille, 0);
	weir_buddy_destroy(buddy);
}

TEST(a_run_grows_into_units_that_rest)
{
	struct weir_buddy *buddy;
	size_t first, second;

	guard(WEIR_GUARD_FULL, 0);
	buddy = make(UNITS, 0);
	first = weir_buddy_alloc(buddy, 8);
	second = weir_buddy_alloc(buddy, 8);
	CHECK_EQ(second, first + 8);
	CHECK_EQ(weir_buddy_resize(buddy, first, 16), -ENOSPC);
	weir_buddy_free(buddy, second);
	CHECK_EQ(weir_buddy_resize(buddy, first, 16), 0);
	CHECK_EQ(weir_buddy_run(buddy, first), 16);
	CHECK_EQ(in_use(buddy), 16);
	CHECK_EQ(weir_buddy_resize(buddy, first, 3), 0);
	CHECK_EQ(in_use(buddy), 3);
	/* What is said of it is its last length. */
	weir_guard_set_hook(hear, NULL);
	weir_buddy_free(buddy, first);
	CHECK_EQ(
	    weir_guard_set_policy(WEIR_FAULT_DOUBLE_FREE, WEIR_GUARD_GO_ON), 0);
	weir_buddy_free(buddy, first);
	CHECK_CONTAINS(told.json, "\"object\":{\"first\":0,\"units\":3,");
	weir_buddy_destroy(buddy);
}

TEST(in_mode_sample_the_program_goes_on)
{
	struct weir_buddy *buddy;
	size_t first;

	guard(WEIR_GUARD_SAMPLE, 1);
	weir_guard_set_hook(hear, NULL);
	buddy = make(UNITS, 0);
	first = weir_buddy_alloc(buddy, 4);
	weir_buddy_free(buddy, first);
	weir_buddy_free(buddy, first);
	CHECK_EQ(told.count, 1);
	CHECK_EQ(told.last, WEIR_FAULT_DOUBLE_FREE);
	CHECK_NULL(told.object);
	CHECK_CONTAINS(told.json, "\"taken\":{\"thread\":");
	CHECK_CONTAINS(told.json, "\"ended\":{\"how\":\"free\"");
	CHECK_EQ(weir_buddy_resize(buddy, first, 2), -EINVAL);
	CHECK_EQ(told.count, 2);
	CHECK_EQ(in_use(buddy), 0);
	weir_buddy_destroy(buddy);
}

/* A sampled pool is in use: no more than a sixteenth of it may rest. */
TEST(samples_keep_few_units_from_being_merged)
{
	struct weir_guard_stats stats = {.size = sizeof(stats)};
	struct weir_buddy *buddy;
	size_t runs[1024];

	guard(WEIR_GUARD_SAMPLE, 2);
	buddy = make(1024, 0);
	for (size_t i = 0; i < 1024; i++)
		runs[i] = weir_buddy_alloc(buddy, 1);
	CHECK_EQ(weir_guard_read(&stats), 0);
	/* Half of them, give or take what chance may. */
	CHECK_GT(stats.guarded, 350);
	CHECK_LT(stats.guarded, 674);
	for (size_t i = 0; i < 1024; i++)
		weir_buddy_free(buddy, runs[i]);
	/* As many runs of eight as there would be, but for the 64. */
	for (size_t i = 0; i < 64; i++)
		CHECK_NE(weir_buddy_alloc(buddy, 8), WEIR_BUDDY_NONE);
	CHECK_EQ(in_use(buddy), 512);
	CHECK(weir_buddy_check(buddy));
	for (size_t i = 0; i < 1024; i++)
		if (weir_buddy_run(buddy, i) > 0)
			weir_buddy_free(buddy, i);
	weir_buddy_destroy(buddy);
}

/* By a hash of the number; whose place is taken is not known, and works. */
TEST(of_a_large_pool_as_many_samples_are_known_as_there_is_room_for)
{
	enum { COUNT = 1 << 14 };
	static size_t runs[COUNT];
	struct weir_guard_stats stats = {.size = sizeof(stats)};
	struct weir_buddy *buddy;

	guard(WEIR_GUARD_SAMPLE, 2);
	buddy = make(8 * COUNT, 0);
	for (int round = 0; round < 2; round++) {
		for (size_t i = 0; i < COUNT; i++) {
			runs[i] = weir_buddy_alloc(buddy, i % 7 + 1);
			CHECK_NE(runs[i], WEIR_BUDDY_NONE);
		}
		for (size_t i = 0; i < COUNT; i++) {
			CHECK_EQ(weir_buddy_run(buddy, runs[i]), i % 7 + 1);
			weir_buddy_free(buddy, runs[i]);
			CHECK_EQ(weir_buddy_run(buddy, runs[i]), 0);
		}
		CHECK_EQ(in_use(buddy), 0);
	}
	CHECK_EQ(weir_guard_read(&stats), 0);
	CHECK_GT(stats.guarded, 2000);
	CHECK_LT(stats.guarded, 3 * 4096);
	CHECK_GT(stats.refused, 2000);
	CHECK_EQ(weir_buddy_largest(buddy), 8 * COUNT);
	weir_buddy_destroy(buddy);
}

/* A number has had many owners: what is told is the last one's, or nobody's. */
TEST(what_is_known_of_a_run_is_forgotten_with_the_next_one)
{
	struct weir_buddy *buddy;
	size_t first;

	guard(WEIR_GUARD_FULL, 0);
	weir_guard_set_hook(hear, NULL);
	buddy = make(4, 0);
	first = weir_buddy_alloc(buddy, 4);
	weir_buddy_free(buddy, first);
	guard(WEIR_GUARD_OFF, 0);
	CHECK_EQ(weir_buddy_alloc(buddy, 4), first);
	weir_buddy_free(buddy, first);
	CHECK_EQ(
	    weir_guard_set_policy(WEIR_FAULT_DOUBLE_FREE, WEIR_GUARD_GO_ON), 0);
	/* An object under guard would go on. */
	EXPECT_ABORT("FAULT double-free: buddy \"ports\": unit 0 is free; find",
	    { weir_buddy_free(buddy, first); });
	weir_buddy_destroy(buddy);
}

TEST(a_mode_that_changes_leaves_runs_as_they_are)
{
	struct weir_buddy *buddy;
	size_t plain, kept;

	guard(WEIR_GUARD_OFF, 0);
	buddy = make(UNITS, 0);
	plain = weir_buddy_alloc(buddy, 4);
	guard(WEIR_GUARD_FULL, 0);
	kept = weir_buddy_alloc(buddy, 4);
	weir_buddy_free(buddy, plain);
	guard(WEIR_GUARD_OFF, 0);
	CHECK_EQ(weir_buddy_alloc(buddy, 4), plain);
	weir_buddy_free(buddy, kept);
	CHECK_EQ(in_use(buddy), 4);
	EXPECT_ABORT("FAULT double-free: buddy \"ports\"",
	    { weir_buddy_free(buddy, kept); });
	weir_buddy_free(buddy, plain);
	CHECK_EQ(weir_buddy_alloc(buddy, UNITS), 0);
	weir_buddy_free(buddy, 0);
	weir_buddy_destroy(buddy);
}

static size_t
quarantined(void)
{
	struct weir_guard_stats stats = {.size = sizeof(stats)};

	CHECK_EQ(weir_guard_read(&stats), 0);
	return (size_t)stats.quarantined;
}

TEST(a_mode_that_is_turned_off_gives_back_what_rests)
{
	static const struct {
		enum weir_guard_mode mode;
		uint32_t rate;
	} modes[] = {{WEIR_GUARD_FULL, 0}, {WEIR_GUARD_SAMPLE, 1}};

	for (unsigned i = 0; i < 4; i++) {
		size_t before = quarantined();
		struct weir_buddy *buddy;
		size_t first, kept;

		guard(modes[i % 2].mode, modes[i % 2].rate);
		buddy = make(UNITS, i < 2 ? 0 : WEIR_BUDDY_UNLOCKED);
		first = weir_buddy_alloc(buddy, 8);
		kept = weir_buddy_alloc(buddy, 8);
		weir_buddy_free(buddy, first);
		CHECK_EQ(quarantined(), before + 1);
		guard(WEIR_GUARD_OFF, 0);
		/* Nobody but its caller may touch one that is not locked. */
		CHECK_EQ(quarantined(), before + i / 2);
		CHECK_EQ(weir_buddy_alloc(buddy, 8), first);
		CHECK_EQ(quarantined(), before);
		weir_buddy_free(buddy, kept);
		CHECK_EQ(quarantined(), before);
		CHECK_EQ(weir_buddy_alloc(buddy, 8), kept);
		CHECK_EQ(in_use(buddy), 16);
		weir_buddy_free(buddy, first);
		weir_buddy_free(buddy, kept);
		weir_buddy_destroy(buddy);
	}
}

TEST(a_mode_that_becomes_sample_gives_back_what_is_too_much_of_it)
{
	struct weir_buddy *buddy;
	size_t runs[UNITS], before = quarantined();

	guard(WEIR_GUARD_FULL, 0);
	buddy = make(UNITS, 0);
	for (size_t i = 0; i < UNITS; i++)
		runs[i] = weir_buddy_alloc(buddy, 1);
	for (size_t i = 0; i < UNITS; i++)
		weir_buddy_free(buddy, runs[i]);
	CHECK_EQ(quarantined(), before + UNITS);
	guard(WEIR_GUARD_SAMPLE, 2);
	CHECK_LE(quarantined(), before + UNITS / 16);
	CHECK_EQ(in_use(buddy), 0);
	weir_buddy_destroy(buddy);
	CHECK_EQ(quarantined(), before);
}

/* First some are known, by a hash of their numbers; then all, and those still. */
TEST(of_a_sampled_pool_all_runs_are_known_when_the_mode_becomes_full)
{
	enum { COUNT = 1 << 14 };
	static size_t runs[COUNT];
	struct weir_guard_stats before = {.size = sizeof(before)},
				stats = before;
	struct weir_buddy *buddy;
	size_t few;

	guard(WEIR_GUARD_SAMPLE, 2);
	weir_guard_set_hook(hear, NULL);
	CHECK_EQ(
	    weir_guard_set_policy(WEIR_FAULT_DOUBLE_FREE, WEIR_GUARD_GO_ON), 0);
	buddy = make(2 * COUNT, 0);
	for (size_t i = 0; i < 100; i++)
		runs[i] = weir_buddy_alloc(buddy, 1);
	CHECK_EQ(weir_guard_read(&stats), 0);
	CHECK_GT(stats.guarded, 20);
	few = (size_t)stats.guarded;
	/* Some of them rest already, in the order of their ends. */
	for (size_t i = 0; i < 50; i++)
		weir_buddy_free(buddy, runs[i]);
	guard(WEIR_GUARD_FULL, 0);
	CHECK_EQ(weir_guard_read(&before), 0);
	for (size_t i = 100; i < COUNT; i++)
		runs[i] = weir_buddy_alloc(buddy, 1);
	CHECK_EQ(weir_guard_read(&stats), 0);
	CHECK_EQ(stats.guarded, before.guarded + COUNT - 100);
	CHECK_EQ(stats.refused, before.refused);
	CHECK_EQ(in_use(buddy), COUNT - 50);
	for (size_t i = 50; i < COUNT; i++)
		weir_buddy_free(buddy, runs[i]);
	CHECK_EQ(weir_guard_read(&stats), 0);
	CHECK_EQ(stats.quarantined, few + COUNT - 100);
	for (size_t i = 100; i < COUNT; i += 1000)
		weir_buddy_free(buddy, runs[i]);
	CHECK_EQ(told.count, (COUNT - 100 + 999) / 1000);
	CHECK_CONTAINS(told.json, "\"ended\":{\"how\":\"free\"");
	CHECK_EQ(weir_buddy_largest(buddy), 2 * COUNT);
	CHECK(weir_buddy_check(buddy));
	weir_buddy_destroy(buddy);
}

/* ---- leaks ------------------------------------------------------------------- */

static struct {
	size_t entries;
	uint64_t objects, bytes, suspects;
} leaked;

static bool
count_leak(const struct weir_leak *leak, void *context)
{
	if (strcmp(leak->pool_name, context) != 0)
		return true;
	CHECK_STR(leak->pool_kind, "buddy");
	CHECK_GT(leak->stack_count, 0);
	leaked.entries++;
	leaked.objects += leak->objects;
	leaked.bytes += leak->bytes;
	leaked.suspects += leak->suspects;
	return true;
}

static void
look_for_leaks(void)
{
	static char name[] = "ports";

	memset(&leaked, 0, sizeof(leaked));
	(void)weir_guard_leaks(WEIR_LEAKS_ALL, count_leak, name);
}

__attribute__((noinline)) static size_t
take_here(struct weir_buddy *buddy)
{
	return weir_buddy_alloc(buddy, 3);
}

__attribute__((noinline)) static size_t
take_there(struct weir_buddy *buddy)
{
	return weir_buddy_alloc(buddy, 4);
}

TEST(units_in_use_are_among_the_leaks_by_who_took_them)
{
	static char memory[UNITS * 16];
	struct weir_buddy_config config = {
	    .unit_count = UNITS, .base = memory, .unit_bytes = 16};
	struct weir_buddy *buddy;
	size_t runs[3];

	guard(WEIR_GUARD_FULL, 0);
	CHECK_EQ(weir_buddy_create("ports", &config, &buddy), 0);
	for (size_t i = 0; i < 2; i++)
		runs[i] = take_here(buddy);
	runs[2] = take_there(buddy);
	look_for_leaks();
	CHECK_GE(leaked.entries, 2);
	CHECK_EQ(leaked.objects, 10);
	CHECK_EQ(leaked.bytes, 160);
	CHECK_EQ(weir_buddy_resize(buddy, runs[2], 2), 0);
	weir_buddy_free(buddy, runs[0]);
	look_for_leaks();
	CHECK_EQ(leaked.objects, 5);
	weir_buddy_free(buddy, runs[1]);
	weir_buddy_free(buddy, runs[2]);
	look_for_leaks();
	CHECK_EQ(leaked.entries, 0);
	weir_buddy_destroy(buddy);
	look_for_leaks();
	CHECK_EQ(leaked.entries, 0);
}

/* A hundred runs lived for moments. */
TEST(units_in_use_for_long_are_suspects)
{
	struct weir_buddy *buddy;
	size_t kept;

	guard(WEIR_GUARD_SAMPLE, 1);
	buddy = make(UNITS, 0);
	kept = take_here(buddy);
	for (size_t i = 0; i < 1000; i++)
		weir_buddy_free(buddy, take_there(buddy));
	do
		look_for_leaks();
	while (leaked.suspects == 0);
	CHECK_EQ(leaked.suspects, 3);
	weir_buddy_free(buddy, kept);
	weir_buddy_destroy(buddy);
}

/* It promised to need no memory but the caller's. */
TEST(in_the_callers_storage_nothing_rests)
{
	static _Alignas(max_align_t) char storage[16384];
	struct weir_buddy_config config = {.unit_count = UNITS};
	struct weir_buddy *buddy;
	size_t first;

	guard(WEIR_GUARD_FULL, 0);
	CHECK_LE(weir_buddy_storage_bytes(UNITS), sizeof(storage));
	CHECK_EQ(
	    weir_buddy_init(storage, sizeof(storage), "ports", &config, &buddy),
	    0);
	first = weir_buddy_alloc(buddy, 8);
	weir_buddy_free(buddy, first);
	CHECK_EQ(weir_buddy_alloc(buddy, 8), first);
	weir_buddy_free(buddy, first);
	weir_buddy_finish(buddy);
}

static _Alignas(4096) char none[4096];

TEST(only_whole_pages_may_trap)
{
	struct weir_buddy_config config = {
	    .unit_count = UNITS, .flags = WEIR_BUDDY_TRAP};
	struct weir_buddy *buddy;

	CHECK_EQ(weir_buddy_create("ports", &config, &buddy), -EINVAL);
	config.base = none;
	config.unit_bytes = 512;
	CHECK_EQ(weir_buddy_create("ports", &config, &buddy), -EINVAL);
	config.base = none + 64;
	config.unit_bytes = 4096;
	CHECK_EQ(weir_buddy_create("ports", &config, &buddy), -EINVAL);
}

static char *
map_pages(void)
{
	char *pages = mmap(NULL, UNITS * 4096, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(pages != MAP_FAILED);
	return pages;
}

__attribute__((noinline)) static char
peek(const char *at)
{
	return *(const volatile char *)at;
}

TEST(free_pages_trap_and_those_out_do_not)
{
	struct weir_buddy_config config = {.unit_count = UNITS,
	    .base = map_pages(),
	    .unit_bytes = 4096,
	    .flags = WEIR_BUDDY_TRAP};
	struct weir_buddy *buddy;
	char *first, *second;

	guard(WEIR_GUARD_FULL, 0);
	CHECK_EQ(weir_buddy_create("pages", &config, &buddy), 0);
	first = weir_buddy_alloc_address(buddy, 2);
	second = weir_buddy_alloc_address(buddy, 2);
	memset(first, 1, 2 * 4096);
	memset(second, 2, 2 * 4096);
	/* Never used: all that is known is where it is. */
	EXPECT_ABORT("FAULT overflow: buddy \"pages\": read at 0x",
	    { (void)peek((char *)config.base + 40 * 4096); });
	weir_buddy_free_address(buddy, first);
	EXPECT_ABORT("FAULT use-after-free: buddy \"pages\": read at 0x",
	    { (void)peek(first + 4096); });
	CHECK_EQ(peek(second + 2 * 4096 - 1), 2);
	CHECK_EQ(
	    weir_buddy_resize(buddy, weir_buddy_unit(buddy, second), 1), 0);
	EXPECT_ABORT("FAULT overflow: buddy \"pages\": read at 0x",
	    { (void)peek(second + 4096); });
	CHECK_EQ(
	    weir_buddy_resize(buddy, weir_buddy_unit(buddy, second), 4), 0);
	CHECK_EQ(peek(second), 2);
	memset(second, 3, 4 * 4096);
	weir_buddy_free_address(buddy, second);
	weir_buddy_destroy(buddy);
	/* All of it is the program's again. */
	memset(config.base, 4, UNITS * 4096);
}

/* What is not known of a run must not trap when it is used. */
TEST(samples_of_pages_leave_others_alone)
{
	struct weir_buddy_config config = {.unit_count = UNITS,
	    .base = map_pages(),
	    .unit_bytes = 4096,
	    .flags = WEIR_BUDDY_TRAP};
	struct weir_buddy *buddy;
	char *runs[16];

	guard(WEIR_GUARD_SAMPLE, 3);
	CHECK_EQ(weir_buddy_create("pages", &config, &buddy), 0);
	for (int round = 0; round < 50; round++) {
		for (size_t i = 0; i < 16; i++) {
			runs[i] = weir_buddy_alloc_address(buddy, i % 3 + 1);
			CHECK_NOT_NULL(runs[i]);
			memset(runs[i], (int)i, (i % 3 + 1) * 4096);
		}
		for (size_t i = 0; i < 16; i++) {
			CHECK_EQ(peek(runs[i] + 4095), (char)i);
			weir_buddy_free_address(buddy, runs[i]);
		}
	}
	guard(WEIR_GUARD_OFF, 0);
	runs[0] = weir_buddy_alloc_address(buddy, UNITS);
	memset(runs[0], 5, UNITS * 4096);
	weir_buddy_free_address(buddy, runs[0]);
	weir_buddy_destroy(buddy);
}

TEST(nothing_traps_any_more_when_the_mode_is_off)
{
	struct weir_buddy_config config = {.unit_count = UNITS,
	    .base = map_pages(),
	    .unit_bytes = 4096,
	    .flags = WEIR_BUDDY_TRAP};
	struct weir_buddy *buddy;
	char *run;

	guard(WEIR_GUARD_FULL, 0);
	CHECK_EQ(weir_buddy_create("pages", &config, &buddy), 0);
	run = weir_buddy_alloc_address(buddy, 2);
	weir_buddy_free_address(buddy, run);
	EXPECT_ABORT("FAULT use-after-free: buddy \"pages\": read at 0x",
	    { (void)peek(run); });
	guard(WEIR_GUARD_OFF, 0);
	/* It is the program's, whatever it does there. */
	memset(config.base, 1, UNITS * 4096);
	/* And traps again when it is to. */
	guard(WEIR_GUARD_FULL, 0);
	run = weir_buddy_alloc_address(buddy, 2);
	memset(run, 2, 2 * 4096);
	EXPECT_ABORT("FAULT overflow: buddy \"pages\": read at 0x",
	    { (void)peek(run + 2 * 4096); });
	weir_buddy_free_address(buddy, run);
	weir_buddy_destroy(buddy);
	memset(config.base, 3, UNITS * 4096);
}

static struct weir_buddy *shared;

static void *
churn(void *argument)
{
	size_t id = (size_t)(uintptr_t)argument;

	for (size_t i = 0; i < 400; i++) {
		size_t count = (i + id) % 3 + 1;
		char *run = weir_buddy_alloc_address(shared, count);

		if (run == NULL)
			continue;
		memset(run, (int)id, count * 4096);
		CHECK_EQ(peek(run + count * 4096 - 1), (char)id);
		if (i % 5 == 0)
			(void)weir_buddy_resize(
			    shared, weir_buddy_unit(shared, run), 4);
		CHECK_EQ(peek(run), (char)id);
		weir_buddy_free_address(shared, run);
	}
	return NULL;
}

TEST(threads_share_it_while_modes_change)
{
	struct weir_buddy_config config = {.unit_count = UNITS,
	    .base = map_pages(),
	    .unit_bytes = 4096,
	    .flags = WEIR_BUDDY_TRAP};
	pthread_t threads[4];

	CHECK_EQ(weir_buddy_create("pages", &config, &shared), 0);
	for (size_t i = 0; i < 4; i++)
		CHECK_EQ(pthread_create(&threads[i], NULL, churn,
			     (void *)(uintptr_t)(i + 1)),
		    0);
	for (int i = 0; i < 20; i++) {
		guard(WEIR_GUARD_FULL, 0);
		CHECK(weir_buddy_check(shared));
		guard(WEIR_GUARD_SAMPLE, 2);
		(void)weir_buddy_largest(shared);
		guard(WEIR_GUARD_OFF, 0);
	}
	guard(WEIR_GUARD_FULL, 0);
	for (size_t i = 0; i < 4; i++)
		CHECK_EQ(pthread_join(threads[i], NULL), 0);
	CHECK_EQ(in_use(shared), 0);
	CHECK_EQ(weir_buddy_largest(shared), UNITS);
	weir_buddy_destroy(shared);
}
