/* SPDX-License-Identifier: MIT */
/*
 * test_region_watch.c - live regions seen from outside.
 */
#include "region_common.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <weir/runtime.h>

static char text[1 << 20];

static struct weir_region *
named(const char *name, struct weir_region *parent)
{
	return create(
	    &(struct weir_region_config){.name = name, .parent = parent});
}

static size_t
count_of(const char *haystack, const char *needle)
{
	size_t count = 0;

	while ((haystack = strstr(haystack, needle)) != NULL) {
		haystack += strlen(needle);
		count++;
	}
	return count;
}

static void
wait_ms(long ms)
{
	nanosleep(&(struct timespec){.tv_nsec = ms * 1000000}, NULL);
}

/* ---- one region --------------------------------------------------------- */

TEST(region_tells_what_it_is_who_made_it_and_what_it_holds)
{
	struct weir_region_info info[2];
	struct weir_region *parent = named("above", NULL), *region;
	struct weir_region_figures now;

	region = create(&(struct weir_region_config){.name = "below",
	    .parent = parent,
	    .first_bytes = 1024,
	    .limit_bytes = 100000});
	CHECK_NOT_NULL(weir_region_alloc(region, 60000));
	CHECK(weir_region_free_large(region, weir_region_alloc(region, 34000)));
	CHECK_NULL(weir_region_alloc(region, 200000));
	CHECK_EQ(weir_region_top(WEIR_REGION_BY_BYTES, 0, info, 2), 2);

	now = figures(region);
	CHECK_PTR(info[0].region, region);
	CHECK_PTR(info[0].parent, parent);
	CHECK_STR(info[0].name, "below");
	CHECK_STR(info[0].kind, "test");
	CHECK_NOT_NULL(info[0].site);
	CHECK_EQ(info[0].bytes, now.bytes_charged);
	CHECK_EQ(info[0].bytes_peak, now.bytes_peak);
	CHECK_GT(now.bytes_peak, now.bytes_charged);
	CHECK_EQ(info[0].misses, now.misses);
	CHECK_GE(info[0].misses, 2);
	CHECK_EQ(info[0].failures, 1);
	CHECK(info[0].mine);
	CHECK_PTR(info[1].region, parent);
	CHECK_NULL(info[1].parent);
	CHECK_PTR(info[1].thread, info[0].thread);
	weir_region_destroy(parent);
	CHECK_EQ(weir_region_top(WEIR_REGION_BY_BYTES, 0, info, 2), 0);
}

TEST(region_without_a_name_has_that_of_its_kind)
{
	struct weir_region_info info;
	struct weir_region *region;

	CHECK_EQ(weir_region_create(NULL, NULL, &region), 0);
	CHECK_EQ(weir_region_top(WEIR_REGION_BY_AGE, 0, &info, 1), 1);
	CHECK_STR(info.name, "region");
	CHECK_STR(info.kind, "region");
	weir_region_destroy(region);
	/* The next in the same block has what it was given, not that. */
	region = named("other", NULL);
	CHECK_EQ(weir_region_top(WEIR_REGION_BY_AGE, 0, &info, 1), 1);
	CHECK_STR(info.name, "other");
	CHECK_STR(info.kind, "test");
	weir_region_destroy(region);
	region = create(NULL);
	CHECK_EQ(weir_region_top(WEIR_REGION_BY_AGE, 0, &info, 1), 1);
	CHECK_STR(info.name, "test");
	weir_region_destroy(region);
}

TEST(age_grows_with_the_clock_and_starts_anew)
{
	const uint64_t tick_ns = UINT64_C(1) << 24;
	struct weir_region_info info;
	struct weir_region *region;
	uint64_t before_ns;

	/* The second lies where the first did. */
	for (int round = 0; round < 2; round++) {
		(void)weir_region_top(WEIR_REGION_BY_AGE, 0, NULL, 0);
		before_ns = test_now_ns();
		region = create(NULL);
		wait_ms(80);
		CHECK_EQ(weir_region_top(WEIR_REGION_BY_AGE, 0, &info, 1), 1);
		CHECK_LE(info.age_ns, test_now_ns() - before_ns + 2 * tick_ns);
		CHECK_GE(info.age_ns + tick_ns, 80000000);
		weir_region_destroy(region);
	}
}

TEST(region_in_the_programs_memory_is_seen)
{
	static _Alignas(16) char buffer[4096];
	struct weir_region_info info;
	struct weir_region *region;

	CHECK_EQ(weir_region_create_in(
		     &test_kind, NULL, buffer, sizeof(buffer), &region),
	    0);
	CHECK_EQ(weir_region_top(WEIR_REGION_BY_AGE, 0, &info, 1), 1);
	CHECK_PTR(info.region, region);
	weir_region_destroy(region);
	CHECK_EQ(weir_region_top(WEIR_REGION_BY_AGE, 0, NULL, 0), 0);
}

/* ---- many ----------------------------------------------------------------- */

TEST(top_has_the_first_in_each_order)
{
	enum { COUNT = 300 };
	static struct weir_region *regions[COUNT];
	struct weir_region_info info[10];

	for (size_t i = 0; i < COUNT; i++) {
		regions[i] = create(NULL);
		/* 7 * i mod 300 is each of them once. */
		CHECK_NOT_NULL(weir_region_alloc(
		    regions[i], 40000 + i * 7 % COUNT * 4096));
		if (i == 150)
			wait_ms(40);
	}
	CHECK_EQ(weir_region_top(WEIR_REGION_BY_BYTES, 0, info, 10), COUNT);
	for (size_t i = 0; i + 1 < 10; i++)
		CHECK_EQ(info[i].bytes, info[i + 1].bytes + 4096);
	CHECK_EQ(info[0].bytes, figures(regions[257]).bytes_charged);
	CHECK_PTR(info[0].region, regions[257]); /* 7 * 257 = 6 * 300 - 1 */

	weir_region_reset(regions[257]);
	CHECK_EQ(weir_region_top(WEIR_REGION_BY_PEAK, 0, info, 1), COUNT);
	CHECK_PTR(info[0].region, regions[257]);
	CHECK_EQ(weir_region_top(WEIR_REGION_BY_BYTES, 0, info, 1), COUNT);
	CHECK(info[0].region != regions[257]);

	CHECK_EQ(weir_region_top(WEIR_REGION_BY_AGE, 0, info, 10), COUNT);
	for (size_t i = 0; i + 1 < 10; i++)
		CHECK_GE(info[i].age_ns, info[i + 1].age_ns);
	CHECK_GE(info[9].age_ns, 20000000);
	CHECK_EQ(weir_region_top((enum weir_region_order)7, 0, info, 10), 0);
	CHECK_EQ(weir_region_top(WEIR_REGION_BY_AGE, 2, info, 10), 0);
	for (size_t i = 0; i < COUNT; i++)
		weir_region_destroy(regions[i]);
}

/* In line, each round of a loop that the compiler unrolls would be a place. */
static __attribute__((noinline)) struct weir_region *
made_here(void)
{
	return create(NULL);
}

static __attribute__((noinline)) struct weir_region *
made_there(void)
{
	struct weir_region *region = NULL;

	CHECK_EQ(weir_region_create(&test_kind, NULL, &region), 0);
	return region;
}

TEST(places_are_summed_up)
{
	struct weir_region *here[3], *there[2];
	struct weir_region_site sites[3];
	size_t found;

	for (int i = 0; i < 3; i++)
		here[i] = made_here();
	for (int i = 0; i < 2; i++)
		there[i] = made_there();
	CHECK_NOT_NULL(weir_region_alloc(there[0], 90000));
	CHECK_EQ(weir_region_top_sites(sites, 3, &found), 0);
	CHECK_EQ(found, 2);
	CHECK_EQ(sites[0].regions, 2);
	CHECK_EQ(sites[0].bytes,
	    figures(there[0]).bytes_charged + figures(there[1]).bytes_charged);
	CHECK_EQ(sites[0].bytes_max, figures(there[0]).bytes_charged);
	CHECK_STR(sites[0].kind, "test");
	CHECK_EQ(sites[1].regions, 3);
	CHECK(sites[0].site != sites[1].site);
	CHECK_EQ(weir_region_top_sites(sites, 1, &found), 0);
	CHECK_EQ(found, 2);
	CHECK_EQ(sites[0].regions, 2);
	CHECK_EQ(weir_region_top_sites(NULL, 0, &found), 0);
	CHECK_EQ(found, 2);
	for (int i = 0; i < 3; i++)
		weir_region_destroy(here[i]);
	for (int i = 0; i < 2; i++)
		weir_region_destroy(there[i]);
}

/* ---- the tree --------------------------------------------------------------- */

TEST(tree_is_shown_from_a_region_and_from_all)
{
	struct weir_region *root = named("root", NULL), *left, *right, *middle,
			   *leaf;
	struct weir_region *alone = named("alone\n\x01", NULL);
	size_t length;

	left = named("left", root);
	right = named("right", root);
	middle = named("middle", root);
	leaf = named("leaf", left);
	CHECK_NOT_NULL(weir_region_alloc(right, 100000));
	CHECK_NOT_NULL(weir_region_alloc(middle, 50000));
	length = weir_region_text(root, text, sizeof(text));
	CHECK_EQ(length, strlen(text));
	CHECK_CONTAINS(text, "5 regions, ");
	CHECK_CONTAINS(text, "  root (test), ");
	/* Newest first, and what is below right behind. */
	CHECK_CONTAINS(strstr(text, " root"), "\n");
	CHECK_CONTAINS(strstr(text, "    middle (test)"), "    right (test)");
	CHECK_CONTAINS(strstr(text, "    right (test)"), "    left (test)");
	CHECK_CONTAINS(strstr(text, "    left"), "      leaf (test)");
	CHECK_EQ(count_of(text, "\n"), 7);
	CHECK_NULL(strstr(text, "alone"));

	length = weir_region_text(NULL, text, sizeof(text));
	CHECK_EQ(length, strlen(text));
	CHECK_CONTAINS(text, "6 regions, ");
	CHECK_CONTAINS(text, "  alone?? (test)");
	/* The largest first. */
	CHECK_CONTAINS(strstr(text, " root"), "    right");
	CHECK_CONTAINS(strstr(text, "    right"), "    middle");
	CHECK_CONTAINS(strstr(text, "    middle"), "    left");
	CHECK_CONTAINS(strstr(text, "    left"), "      leaf");
	CHECK_EQ(weir_region_text(NULL, NULL, 0), length);
	CHECK_EQ(weir_region_text(NULL, text, 20), length);
	CHECK_EQ(strlen(text), 19);
	weir_region_destroy(leaf);
	weir_region_destroy(root);
	weir_region_destroy(alone);
	(void)weir_region_text(NULL, text, sizeof(text));
	CHECK_CONTAINS(text, "0 regions, 0 B\n");
}

TEST(limit_is_shown_with_what_it_refused_below)
{
	struct weir_region *root =
	    create(&(struct weir_region_config){.limit_bytes = 16384});
	struct weir_region *leaf = named("leaf", root), *third;

	CHECK_NULL(weir_region_alloc(leaf, 20000));
	CHECK_NULL(weir_region_alloc(leaf, 20000));
	CHECK_NOT_NULL(weir_region_alloc(leaf, 8000));
	CHECK_EQ(weir_region_create(&test_kind,
		     &(struct weir_region_config){.parent = root}, &third),
	    -ENOMEM);
	CHECK_EQ(figures(root).failures, 0);
	CHECK_EQ(figures(root).budget_failures, 3);
	CHECK_EQ(figures(leaf).failures, 2);
	CHECK_EQ(figures(leaf).budget_failures, 0);
	(void)weir_region_text(root, text, sizeof(text));
	CHECK_CONTAINS(text, ", limit 16.0 KiB: 16.0 KiB held, 3 refused\n");
	CHECK_EQ(count_of(text, ", limit "), 1);
	(void)weir_region_json(root, text, sizeof(text));
	CHECK_CONTAINS(text, "\"limit_bytes\":16384,\"bytes_below\":16384,"
			     "\"budget_failures\":3}");
	weir_region_destroy(root);
	/* One without others below it keeps its limit elsewhere. */
	root = create(&(struct weir_region_config){.limit_bytes = 16384});
	CHECK_NULL(weir_region_alloc(root, 20000));
	(void)weir_region_text(root, text, sizeof(text));
	CHECK_CONTAINS(text, ", limit 16.0 KiB: 4.0 KiB held, 1 refused\n");
	weir_region_destroy(root);
}

TEST(json_names_depth_and_parent)
{
	struct weir_region *root = named("a \"b\"", NULL), *leaf;
	char expected[128];

	leaf = named("leaf", root);
	for (int all = 0; all < 2; all++) {
		size_t length =
		    weir_region_json(all ? NULL : root, text, sizeof(text));

		CHECK_EQ(length, strlen(text));
		snprintf(expected, sizeof(expected),
		    "{\"regions\":2,\"bytes\":%" PRIu64 ",\"tree\":[\n  ",
		    figures(root).bytes_charged + figures(leaf).bytes_charged);
		CHECK_CONTAINS(text, expected);
		CHECK_CONTAINS(text,
		    "\"parent\":null,\"depth\":0,\"name\":\"a \\\"b\\\"\","
		    "\"kind\":\"test\",\"site\":\"0x");
		snprintf(expected, sizeof(expected),
		    "{\"region\":\"%p\",\"parent\":\"%p\",\"depth\":1,"
		    "\"name\":\"leaf\"",
		    (void *)leaf, (void *)root);
		CHECK_CONTAINS(text, expected);
		CHECK_STR(text + length - 3, " ]}");
		CHECK_EQ(count_of(text, "{"), count_of(text, "}"));
	}
	weir_region_destroy(root);
	(void)weir_region_json(NULL, text, sizeof(text));
	CHECK_STR(text, "{\"regions\":0,\"bytes\":0,\"tree\":[]}");
}

TEST(deep_and_wide_trees_need_no_stack)
{
	size_t count = test_count(20000), length;
	struct weir_region_config config = {.first_bytes = 1024};
	struct weir_region *root = create(&config), *deep = root, *wide;

	for (size_t i = 0; i < count; i++) {
		config.parent = deep;
		CHECK_EQ(weir_region_create(&test_kind, &config, &deep), 0);
		config.parent = root;
		CHECK_EQ(weir_region_create(&test_kind, &config, &wide), 0);
	}
	length = weir_region_text(root, text, sizeof(text));
	CHECK_EQ(weir_region_text(NULL, NULL, 0), length);
	CHECK_GT(length, count * 2 * 60);
	CHECK_EQ(
	    weir_region_top(WEIR_REGION_BY_AGE, 0, NULL, 0), 2 * count + 1);
	weir_region_destroy(root);
}

TEST(tree_of_a_destroyed_region_is_a_fault)
{
	struct weir_region *region = create(NULL);

	weir_region_destroy(region);
	EXPECT_ABORT("to be shown, was destroyed",
	    (void)weir_region_text(region, NULL, 0));
}

TEST(without_memory_the_sums_are_told)
{
	enum { COUNT = 5000 };
	static struct weir_region *regions[COUNT];
	struct weir_stats stats = {.size = sizeof(stats)};
	struct weir_region_site site;
	size_t found = 1;

	for (size_t i = 0; i < COUNT; i++)
		regions[i] = create(NULL);
	(void)weir_trim();
	CHECK_EQ(weir_stats_read(&stats), 0);
	CHECK_EQ(weir_set_limit(stats.bytes_charged, UINT64_MAX), 0);
	CHECK_EQ(weir_region_top_sites(&site, 1, &found), -ENOMEM);
	CHECK_EQ(found, 0);
	(void)weir_region_text(NULL, text, sizeof(text));
	CHECK_CONTAINS(text, "5000 regions, ");
	CHECK_CONTAINS(text, "no memory to list them\n");
	(void)weir_region_json(NULL, text, sizeof(text));
	CHECK_CONTAINS(text, ",\"tree\":null}");
	CHECK_EQ(weir_region_top(WEIR_REGION_BY_BYTES, 0, NULL, 0), COUNT);
	/* One region's tree is walked where it is. */
	CHECK_GT(weir_region_text(regions[0], NULL, 0), 0);
	for (size_t i = 0; i < COUNT; i++)
		weir_region_destroy(regions[i]);
}

/* ---- threads ---------------------------------------------------------------- */

static struct weir_region_kind kinds[3] = {WEIR_REGION_KIND("kind one"),
    WEIR_REGION_KIND("kind two"), WEIR_REGION_KIND("kind three")};
static const char *const names[] = {"alpha", "beta", "gamma", NULL};
static unsigned stop;

static void
expect_known(const char *name, bool is_kind)
{
	for (size_t i = 0; i < 3; i++)
		if (strcmp(name, is_kind ? kinds[i].name : names[i]) == 0 ||
		    (!is_kind && strcmp(name, kinds[i].name) == 0))
			return;
	FAIL("no region has the name \"%s\"", name);
}

static void
expect_sane(const struct weir_region_info *info)
{
	expect_known(info->kind, true);
	expect_known(info->name, false);
	CHECK_GE(info->bytes, 512);
	CHECK_LE(info->bytes, info->bytes_peak);
	CHECK_LT(info->bytes_peak, 2 << 20);
	CHECK_LT(info->age_ns, UINT64_C(120000000000));
	CHECK_NOT_NULL(info->site);
}

/* Makes and ends a small tree in a way that depends on the random numbers. */
static void
churn_once(struct test_rng *rng)
{
	struct weir_region *region[4];
	struct weir_region_config config = {0};

	for (size_t i = 0; i < 4; i++) {
		config.name = names[test_rand_below(rng, 4)];
		config.parent = i > 0 ? region[test_rand_below(rng, i)] : NULL;
		config.first_bytes = (size_t)1024 << test_rand_below(rng, 4);
		CHECK_EQ(weir_region_create(&kinds[test_rand_below(rng, 3)],
			     i > 0 ? &config : NULL, &region[i]),
		    0);
		CHECK_NOT_NULL(
		    weir_region_alloc(region[i], test_rand_below(rng, 60000)));
	}
	switch (test_rand_below(rng, 4)) {
	case 0:
		weir_region_reset(region[0]);
		break;
	case 1:
		weir_region_merge(region[0], region[1]);
		break;
	case 2:
		weir_region_detach(region[1]);
		if (weir_region_adopt(region[0], region[1]) != 0)
			weir_region_destroy(region[1]);
		break;
	default:
		weir_region_hand_off(region[0]);
		weir_region_take_over(region[0]);
	}
	weir_region_destroy(region[0]);
}

/* Many at once: some lie where none ever was. */
static void
churn_many(struct test_rng *rng)
{
	struct weir_region_config config = {
	    .first_bytes = (size_t)1024 << test_rand_below(rng, 4)};
	struct weir_region *region[200];

	for (size_t i = 0; i < 200; i++)
		CHECK_EQ(weir_region_create(&kinds[0], &config, &region[i]), 0);
	for (size_t i = 0; i < 200; i++)
		weir_region_destroy(region[i]);
	(void)weir_trim();
}

static void
churn_or_look(unsigned index, void *context)
{
	struct weir_region_info info[16];
	char line[4096];
	struct test_rng rng;
	uint64_t until = test_now_ns() + 700000000;

	test_rng_init(&rng, *(uint64_t *)context + index);
	while (index < 3 && !__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		churn_once(&rng);
		if (test_rand_below(&rng, 64) == 0)
			churn_many(&rng);
	}
	while (index >= 3 && test_now_ns() < until) {
		enum weir_region_order order =
		    (enum weir_region_order)test_rand_below(&rng, 3);
		size_t found = weir_region_top(order, 0, info, 16);

		for (size_t i = 0; i < (found < 16 ? found : 16); i++)
			expect_sane(&info[i]);
		CHECK_EQ(weir_region_top(
			     WEIR_REGION_BY_AGE, WEIR_REGION_MINE, info, 16),
		    0);
		(void)weir_region_text(NULL, line, sizeof(line));
		(void)weir_region_json(NULL, line, sizeof(line));
		CHECK_CONTAINS(line, "{\"regions\":");
	}
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
}

TEST(regions_are_listed_while_threads_make_and_end_them)
{
	uint64_t seed = test_seed();

	test_threads(5, churn_or_look, &seed);
	CHECK_EQ(weir_region_top(WEIR_REGION_BY_AGE, 0, NULL, 0), 0);
}

static void
look_from_another(unsigned index, void *context)
{
	struct weir_region_info info;

	(void)index;
	(void)context;
	CHECK_EQ(
	    weir_region_top(WEIR_REGION_BY_AGE, WEIR_REGION_MINE, &info, 1), 0);
	CHECK_EQ(weir_region_top(WEIR_REGION_BY_AGE, 0, &info, 1), 1);
	CHECK(!info.mine);
}

TEST(regions_of_one_thread_are_told_from_those_of_others)
{
	struct weir_region *region = create(NULL);
	struct weir_region_info info;

	test_threads(1, look_from_another, NULL);
	CHECK_EQ(
	    weir_region_top(WEIR_REGION_BY_AGE, WEIR_REGION_MINE, &info, 1), 1);
	weir_region_hand_off(region);
	CHECK_EQ(
	    weir_region_top(WEIR_REGION_BY_AGE, WEIR_REGION_MINE, &info, 1), 0);
	CHECK_EQ(weir_region_top(WEIR_REGION_BY_AGE, 0, &info, 1), 1);
	CHECK_NULL(info.thread);
	weir_region_take_over(region);
	weir_region_destroy(region);
}

/* ---- the end ------------------------------------------------------------------ */

static char received[8192];

static void
receive(enum weir_message_level level, const char *line, void *context)
{
	size_t used = strlen(received);

	(void)context;
	CHECK_EQ(level, WEIR_MESSAGE_WARNING);
	snprintf(received + used, sizeof(received) - used, "%s\n", line);
}

TEST(leak_report_tells_which_regions_are_left_and_who_made_them)
{
	static struct weir_region *regions[20];

	CHECK_EQ(weir_init(&(struct weir_config){
		     .flags = WEIR_REPORT_LEAKS, .message = receive}),
	    0);
	regions[0] = named("left behind", NULL);
	CHECK_NOT_NULL(weir_region_alloc(regions[0], 90000));
	CHECK_EQ(weir_shutdown(), 1);
	CHECK_CONTAINS(received, "leak: region \"test\": 1 object, ");
	CHECK_CONTAINS(received, "leak: region \"left behind\": ");
	CHECK_CONTAINS(received, " s old, made at ");
	CHECK_CONTAINS(received, "test_region_watch+0x");

	for (int i = 1; i < 20; i++)
		regions[i] = create(NULL);
	received[0] = '\0';
	CHECK_EQ(weir_shutdown(), 20);
	CHECK_EQ(count_of(received, "made at"), 8);
	CHECK_CONTAINS(received, "leak: regions: 12 more, none larger\n");
	for (int i = 0; i < 20; i++)
		weir_region_destroy(regions[i]);
	received[0] = '\0';
	CHECK_EQ(weir_shutdown(), 0);
	CHECK_STR(received, "");
}
