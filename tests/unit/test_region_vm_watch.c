/* SPDX-License-Identifier: MIT */
/*
 * test_region_vm_watch.c - regions in ranges of addresses among the live ones.
 */
#include "region_vm_common.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

static char text[1 << 16];

static struct weir_region_vm *
named(const char *name, size_t bytes)
{
	struct weir_region_vm *region;

	CHECK_EQ(weir_region_vm_create(name,
		     &(struct weir_region_vm_config){.reserve_bytes = 64 * MIB},
		     &region),
	    0);
	if (bytes > 0)
		CHECK_NOT_NULL(weir_region_vm_alloc(region, bytes));
	return region;
}

static struct weir_region *
ordinary(void)
{
	struct weir_region *region;

	CHECK_EQ(weir_region_create(NULL, NULL, &region), 0);
	return region;
}

/* ---- one region ------------------------------------------------------------ */

TEST(range_tells_what_it_is_who_made_it_and_what_it_holds)
{
	struct weir_region_info info[2];
	struct weir_region_vm *region;

	/* Before any region of another sort was made. */
	CHECK_EQ(weir_region_top(WEIR_REGION_BY_BYTES, 0, info, 2), 0);
	region = named("parser", 300 * KIB);
	CHECK_NULL(weir_region_vm_alloc(region, 100 * MIB));
	CHECK_EQ(weir_region_top(WEIR_REGION_BY_BYTES, 0, info, 2), 1);
	CHECK_EQ((uintptr_t)info[0].region, (uintptr_t)region);
	CHECK_NULL(info[0].parent);
	CHECK_STR(info[0].name, "parser");
	CHECK_STR(info[0].kind, "vm");
	CHECK(info[0].vm);
	CHECK(info[0].mine);
	CHECK_EQ(info[0].bytes, committed(region));
	CHECK_EQ(info[0].bytes_peak, committed(region));
	CHECK_EQ(info[0].misses, figures(region).misses);
	CHECK_GE(info[0].misses, 1);
	CHECK_EQ(info[0].failures, 1);
	weir_region_vm_destroy(region);
	CHECK_EQ(weir_region_top(WEIR_REGION_BY_BYTES, 0, info, 2), 0);
}

TEST(peak_of_a_range_outlasts_what_it_gave_back)
{
	struct weir_region_vm *region = named("spike", 5 * MIB);
	struct weir_region_info info;
	uint64_t peak = committed(region);

	weir_region_vm_reset(region);
	CHECK_GT(weir_region_vm_trim(region), 0);
	CHECK_EQ(weir_region_top(WEIR_REGION_BY_PEAK, 0, &info, 1), 1);
	CHECK_EQ(info.bytes, committed(region));
	CHECK_LT(info.bytes, peak);
	CHECK_EQ(info.bytes_peak, peak);
	weir_region_vm_destroy(region);
}

TEST(age_of_a_range_grows_with_the_clock)
{
	const uint64_t tick_ns = UINT64_C(1) << 24;
	uint64_t before_ns = test_now_ns();
	struct weir_region_vm *region = named("old", 0);
	struct weir_region_info info;

	nanosleep(&(struct timespec){.tv_nsec = 80000000}, NULL);
	CHECK_EQ(weir_region_top(WEIR_REGION_BY_AGE, 0, &info, 1), 1);
	CHECK_GE(info.age_ns + tick_ns, 80000000);
	CHECK_LE(info.age_ns, test_now_ns() - before_ns + 2 * tick_ns);
	weir_region_vm_destroy(region);
}

TEST(name_that_was_listed_outlives_its_range)
{
	char name[] = "made up";
	struct weir_region_vm *region = named(name, 0);
	struct weir_region_info info;

	CHECK_EQ(weir_region_top(WEIR_REGION_BY_AGE, 0, &info, 1), 1);
	memset(name, 'x', sizeof(name) - 1);
	weir_region_vm_destroy(region);
	/* As many as there are records, so that its own is used again. */
	for (int i = 0; i < 1000; i++)
		weir_region_vm_destroy(named("another", 0));
	CHECK_STR(info.name, "made up");
}

TEST(names_beyond_those_that_are_kept_become_that_of_the_kind)
{
	struct weir_region *late = ordinary();
	struct weir_region_vm *region;
	struct weir_region_info info;
	char name[32];

	for (int i = 0; i < 256; i++) {
		snprintf(name, sizeof(name), "name %d", i);
		weir_region_vm_destroy(named(name, 0));
	}
	region = named("one too many", MIB);
	CHECK_EQ(weir_region_top(WEIR_REGION_BY_BYTES, 0, &info, 1), 2);
	CHECK_STR(info.name, "vm");
	CHECK_EQ((uintptr_t)info.region, (uintptr_t)region);
	weir_region_vm_destroy(region);
	region = named("name 255", MIB);
	CHECK_EQ(weir_region_top(WEIR_REGION_BY_BYTES, 0, &info, 1), 2);
	CHECK_STR(info.name, "name 255");
	weir_region_vm_destroy(region);
	/* Those that other regions are given late are not among them. */
	CHECK(weir_region_rename(late, "route"));
	weir_region_destroy(late);
}

TEST(owner_of_a_range_is_told)
{
	struct weir_region_vm *region = named("moves", 0);
	struct weir_region_info info;

	CHECK_EQ(
	    weir_region_top(WEIR_REGION_BY_AGE, WEIR_REGION_MINE, &info, 1), 1);
	weir_region_vm_hand_off(region);
	CHECK_EQ(
	    weir_region_top(WEIR_REGION_BY_AGE, WEIR_REGION_MINE, &info, 1), 0);
	CHECK_EQ(weir_region_top(WEIR_REGION_BY_AGE, 0, &info, 1), 1);
	CHECK_NULL(info.thread);
	CHECK(!info.mine);
	weir_region_vm_take_over(region);
	weir_region_vm_destroy(region);
}

/* ---- among others ------------------------------------------------------------ */

static __attribute__((noinline)) struct weir_region_vm *
made_here(size_t bytes)
{
	return named("here", bytes);
}

TEST(ranges_are_in_order_with_others_and_summed_up_by_place)
{
	struct weir_region *small = ordinary();
	struct weir_region_vm *large[2];
	struct weir_region_info info[3];
	struct weir_region_site sites[2];
	size_t found;

	for (int i = 0; i < 2; i++)
		large[i] = made_here((size_t)(i + 1) * 4 * MIB);
	CHECK_EQ(weir_region_top(WEIR_REGION_BY_BYTES, 0, info, 3), 3);
	CHECK_EQ((uintptr_t)info[0].region, (uintptr_t)large[1]);
	CHECK_EQ((uintptr_t)info[1].region, (uintptr_t)large[0]);
	CHECK_PTR(info[2].region, small);
	CHECK(!info[2].vm);
	CHECK_PTR(info[0].site, info[1].site);
	CHECK(info[2].site != info[1].site);
	CHECK_EQ(weir_region_top_sites(sites, 2, &found), 0);
	CHECK_EQ(found, 2);
	CHECK_PTR(sites[0].site, info[0].site);
	CHECK_STR(sites[0].kind, "vm");
	CHECK_EQ(sites[0].regions, 2);
	CHECK_EQ(sites[0].bytes, committed(large[0]) + committed(large[1]));
	CHECK_EQ(sites[0].bytes_max, committed(large[1]));
	CHECK_EQ(sites[1].regions, 1);
	for (int i = 0; i < 2; i++)
		weir_region_vm_destroy(large[i]);
	weir_region_destroy(small);
}

TEST(ranges_are_roots_in_text_and_json)
{
	struct weir_region *small = ordinary();
	struct weir_region_vm *region = named("parser", MIB);
	char expected[256];
	size_t length = weir_region_text(NULL, text, sizeof(text));

	CHECK_EQ(length, strlen(text));
	CHECK_CONTAINS(text, "2 regions, ");
	CHECK_CONTAINS(text, "  parser (vm), ");
	CHECK_CONTAINS(strstr(text, "parser"), "  region, ");

	length = weir_region_json(NULL, text, sizeof(text));
	CHECK_EQ(length, strlen(text));
	snprintf(expected, sizeof(expected),
	    "{\"region\":\"%p\",\"parent\":null,\"depth\":0,"
	    "\"name\":\"parser\",\"kind\":\"vm\",\"site\":\"0x",
	    (void *)region);
	CHECK_CONTAINS(text, expected);
	snprintf(expected, sizeof(expected),
	    "\"bytes\":%" PRIu64 ",\"bytes_peak\":%" PRIu64
	    ",\"misses\":%" PRIu64 ",\"failures\":0,\"vm\":true}",
	    committed(region), committed(region), figures(region).misses);
	CHECK_CONTAINS(text, expected);
	CHECK_CONTAINS(text, "\"failures\":0,\"vm\":false}");
	weir_region_vm_destroy(region);
	weir_region_destroy(small);
}

/* ---- threads ----------------------------------------------------------------- */

static unsigned stop;

static void
expect_sane(const struct weir_region_info *info)
{
	CHECK(info->vm);
	CHECK_STR(info->kind, "vm");
	CHECK(strcmp(info->name, "one") == 0 || strcmp(info->name, "two") == 0);
	CHECK_NOT_NULL(info->site);
	CHECK_NULL(info->parent);
	CHECK_LE(info->bytes, info->bytes_peak);
	CHECK_LE(info->bytes_peak, 64 * MIB);
	CHECK_LT(info->age_ns, UINT64_C(120000000000));
}

static void
churn(struct test_rng *rng)
{
	struct weir_region_vm *region =
	    named(test_rand_below(rng, 2) != 0 ? "one" : "two",
		test_rand_below(rng, 200000));

	weir_region_vm_reset(region);
	CHECK_NOT_NULL(
	    weir_region_vm_alloc(region, test_rand_below(rng, 200000)));
	if (test_rand_below(rng, 2) != 0)
		(void)weir_region_vm_trim(region);
	weir_region_vm_hand_off(region);
	weir_region_vm_take_over(region);
	weir_region_vm_destroy(region);
}

static void
churn_or_look(unsigned index, void *context)
{
	struct weir_region_info info[8];
	char line[4096];
	struct test_rng rng;

	test_rng_init(&rng, *(uint64_t *)context + index);
	while (index < 3 && !__atomic_load_n(&stop, __ATOMIC_RELAXED))
		churn(&rng);
	for (int i = 0; index >= 3 && i < 1500; i++) {
		size_t found = weir_region_top(
		    (enum weir_region_order)(i % 3), 0, info, 8);

		/* One that a thread made after it ended another is listed, too. */
		for (size_t k = 0; k < weiri_min(found, 8); k++)
			expect_sane(&info[k]);
		CHECK_EQ(weir_region_top(
			     WEIR_REGION_BY_AGE, WEIR_REGION_MINE, info, 8),
		    0);
		(void)weir_region_text(NULL, line, sizeof(line));
		(void)weir_region_json(NULL, line, sizeof(line));
	}
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
}

TEST(ranges_are_listed_while_threads_make_and_end_them)
{
	uint64_t seed = test_seed();

	test_threads(5, churn_or_look, &seed);
	CHECK_EQ(weir_region_top(WEIR_REGION_BY_AGE, 0, NULL, 0), 0);
}

/* ---- the end ------------------------------------------------------------------- */

static char received[4096];

static void
receive(enum weir_message_level level, const char *line, void *context)
{
	size_t used = strlen(received);

	(void)context;
	CHECK_EQ(level, WEIR_MESSAGE_WARNING);
	snprintf(received + used, sizeof(received) - used, "%s\n", line);
}

TEST(leak_report_tells_who_made_a_range_that_is_left)
{
	struct weir_region_vm *region;
	char expected[96];

	CHECK_EQ(weir_init(&(struct weir_config){
		     .flags = WEIR_REPORT_LEAKS, .message = receive}),
	    0);
	region = named("left behind", MIB);
	CHECK_EQ(weir_shutdown(), 1);
	snprintf(expected, sizeof(expected),
	    "leak: region \"left behind\": %" PRIu64 " bytes, ",
	    committed(region));
	CHECK_CONTAINS(received, expected);
	CHECK_CONTAINS(received, " s old, made at ");
	CHECK_CONTAINS(received, "test_region_vm_watch+0x");
	received[0] = '\0';
	weir_region_vm_destroy(region);
	CHECK_EQ(weir_shutdown(), 0);
	CHECK_STR(received, "");
}
