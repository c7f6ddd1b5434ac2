/* SPDX-License-Identifier: MIT */
/*
 * test_bench.c - figures, ratios and rows of `weir bench`.
 */
#include "test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../../tools/weir/bench_figures.c"
#include "../../tools/weir/bench_list.c"
#include "../../tools/weir/bench_rows.c"
#include "../../tools/weir/demo_stats.c"

static struct bench_figures figures;
static struct bench_rows rows;

static unsigned
peer(const char *name)
{
	int found = bench_peer_find(name);

	CHECK(found >= 0);
	return (unsigned)found;
}

static void
add(const char *name, unsigned round, const char *metric, double value)
{
	bench_figures_add(
	    &figures, 0, peer(name), round, "64", metric, value, "ns");
}

static const struct bench_row *
find(const char *name, const char *metric)
{
	return bench_rows_find(&rows, bench_suites[0].name, "64", name, metric);
}

TEST(bench_ratios_pair_the_figures_of_a_round)
{
	/* Medians 8 and 2 would say 4; the rounds say 2, 4 and 1. */
	static const double mutex[] = {2, 8, 9};
	static const double weir[] = {1, 2, 9};

	for (unsigned i = 0; i < 3; i++) {
		add("mutex", i, "ns_op", mutex[i]);
		add("weir", i, "ns_op", weir[i]);
	}
	bench_figures_rows(&figures, &rows);
	const struct bench_row *row = find("mutex", "ns_op_over_weir");
	CHECK_NOT_NULL(row);
	CHECK(row->value == 2 && row->spread == 2 && row->rounds == 3);
	row = find("mutex", "ns_op");
	CHECK(row->value == 8 && row->spread == 6 && row->rounds == 3);
	CHECK_NULL(find("weir", "ns_op_over_weir"));
	CHECK_NULL(find("weir", "ns_op_over_mutex"));
}

TEST(bench_a_round_without_one_of_the_two_gives_no_ratio)
{
	add("mutex", 0, "ns_op", 4);
	add("mutex", 2, "ns_op", 9);
	add("weir-batch", 1, "ns_op", 1);
	add("weir-batch", 2, "ns_op", 3);
	add("weir", 3, "ns_op", 3);
	bench_figures_rows(&figures, &rows);
	const struct bench_row *row = find("mutex", "ns_op_over_weir-batch");
	CHECK_NOT_NULL(row);
	CHECK(row->value == 3 && row->rounds == 1);
	CHECK_EQ(find("mutex", "ns_op")->rounds, 2);
	CHECK_NULL(find("mutex", "ns_op_over_weir"));
}

TEST(bench_suites_of_regions_are_played_by_those_who_have_them)
{
	unsigned region = (unsigned)bench_suite_find("region");
	unsigned pair = (unsigned)bench_suite_find("pair");

	CHECK(bench_plays(peer("glibc"), region));
	CHECK(bench_plays(peer("glibc"), pair));
	CHECK(bench_plays(peer("nginx"), region));
	CHECK(!bench_plays(peer("nginx"), pair));
	CHECK(!bench_plays(peer("weir"), region));
	CHECK(bench_plays_any(peer("weir"), bench_suites_default()));
	CHECK(!bench_plays_any(peer("weir"), UINT64_C(1) << region));
}

TEST(bench_only_metrics_that_should_be_small_are_compared)
{
	add("mutex", 0, "mops_s", 4);
	add("weir", 0, "mops_s", 8);
	bench_figures_rows(&figures, &rows);
	CHECK_NOT_NULL(find("mutex", "mops_s"));
	CHECK_NULL(find("mutex", "mops_s_over_weir"));
}

/* Every ratio's name fits: a cut one would be found under no name. */
TEST(bench_names_of_ratios_are_whole)
{
	for (unsigned i = 0; i < bench_peer_count; i++) {
		if (bench_peers[i].kind != BENCH_WEIR)
			continue;
		CHECK(strlen(bench_peers[i].name) <= 13);
		CHECK(strlen("p99.9_over_p50") + strlen("_over_") +
			  strlen(bench_peers[i].name) <
		      BENCH_NAME_BYTES);
	}
}

static void
write_and_read(struct bench_rows *again)
{
	char *text = NULL;
	size_t bytes;
	unsigned line;
	FILE *out = open_memstream(&text, &bytes);

	CHECK_EQ(bench_rows_write(&rows, out), 0);
	fclose(out);
	FILE *in = fmemopen(text, bytes, "r");
	CHECK_EQ(bench_rows_read(again, in, &line), 0);
	fclose(in);
	free(text);
}

TEST(bench_rows_survive_a_file)
{
	struct bench_rows again = {0};
	struct bench_row *row =
	    bench_rows_add(&rows, "pair", "64/a\"b\\c", "weir", "ns_op");

	row->value = 1.25;
	row->spread = NAN;
	row->rounds = 7;
	bench_rows_about(&rows, "command", "-", "weir \x01\t\xc3\xb7 end");
	write_and_read(&again);
	CHECK_EQ(again.count, 2);
	CHECK_STR(again.rows[0].name, "64/a\"b\\c");
	CHECK(again.rows[0].value == 1.25 && isnan(again.rows[0].spread));
	CHECK_EQ(again.rows[0].rounds, 7);
	CHECK_STR(again.rows[1].unit, "weir \x01\t\xc3\xb7 end");
	bench_rows_free(&again);
	bench_rows_free(&rows);
}

/* Broken lines are refused, whatever is broken in them. */
TEST(bench_reader_stands_random_damage)
{
	static const char good[] =
	    "{\"suite\":\"pair\",\"case\":\"64\",\"peer\":\"weir\",\"metric\":"
	    "\"ns_op\",\"value\":2.5,\"unit\":\"\\u0001ns\",\"spread\":null,"
	    "\"rounds\":3}\n";
	size_t refused = 0;
	size_t runs = test_count(20000);
	struct test_rng rng;

	test_rng_init(&rng, test_seed());
	for (size_t run = 0; run < runs; run++) {
		char line[sizeof(good)];
		unsigned number;

		memcpy(line, good, sizeof(good));
		for (int i = 0; i < 3; i++)
			line[test_rand_below(&rng, sizeof(good) - 2)] =
			    (char)test_rand_below(&rng, 256);
		FILE *in = fmemopen(line, sizeof(line) - 1, "r");
		int error = bench_rows_read(&rows, in, &number);
		CHECK(error == 0 || error == -EINVAL);
		refused += error != 0;
		fclose(in);
		bench_rows_free(&rows);
	}
	CHECK(refused > runs / 2);
}
