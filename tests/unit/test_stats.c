/* SPDX-License-Identifier: MIT */
/*
 * test_stats.c - what texts say about pools: their health, the table and JSON.
 */
#include "fake_pool.h"

#include "watch/report.h"

#include <weir/cache.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct fake first, second;

/* ---- health ------------------------------------------------------------------ */

TEST(health_line_follows_its_rules_at_the_edges)
{
	static const struct {
		uint64_t limit, total, in_use, requests, failures;
		const char *line;
	} cases[] = {
	    {1000, 900, 850, 10000, 5, "usage 85 % | success 99.95 % | ok"},
	    {UINT64_MAX, 0, 0, 0, 0, "usage 0 % | success 100.00 % | ok"},
	    {UINT64_MAX, 100, 99, 9, 0, "usage 99 % | success 100.00 % | ok"},
	    {1000, 1000, 900, 100, 1, "usage 90 % | success 99.00 % | ok"},
	    {1000, 1000, 901, 100, 0,
		"usage 90 % | success 100.00 % | raise the limit: 901 of 1000 "
		"in use"},
	    {1000, 1000, 1000, 1000, 11,
		"usage 100 % | success 98.90 % | raise the limit: 1000 of 1000 "
		"in use, 11 requests refused"},
	    {1000, 500, 10, 1000, 11,
		"usage 1 % | success 98.90 % | raise the process budget: 11 "
		"requests refused"},
	    {UINT64_MAX, 10, 10, 0, 7,
		"usage 100 % | success 0.00 % | raise the process budget: 7 "
		"requests refused"},
	    /* Rounding up would hide the one that failed. */
	    {UINT64_MAX, 2, 1, 1000000, 1, "usage 50 % | success 99.99 % | ok"},
	    {UINT64_MAX - 1, UINT64_MAX - 1, UINT64_MAX - 1, UINT64_MAX,
		UINT64_MAX,
		"usage 100 % | success 0.00 % | raise the limit: "
		"18446744073709551614 of 18446744073709551614 in use, "
		"18446744073709551615 requests refused"},
	    {0, 0, 0, 5, 5,
		"usage 0 % | success 0.00 % | raise the limit: 0 of 0 in use, "
		"5 requests refused"},
	};
	char line[256];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct weir_pool_stats stats = {
		    .size = sizeof(stats),
		    .exact = WEIR_EXACT_REQUESTS,
		    .limit = cases[i].limit,
		    .total = cases[i].total,
		    .in_use = cases[i].in_use,
		    .in_use_peak = cases[i].in_use,
		    .requests = cases[i].requests,
		    .failures = cases[i].failures,
		};
		size_t length = weir_stats_health(&stats, line, sizeof(line));

		CHECK_STR(line, cases[i].line);
		CHECK_EQ(length, strlen(line));
		CHECK_EQ(weir_stats_health(&stats, NULL, 0), length);
	}
}

TEST(limit_that_was_reached_is_blamed_after_use_fell)
{
	struct weir_pool_stats stats = {
	    .exact = WEIR_EXACT_REQUESTS,
	    .limit = 10,
	    .total = 10,
	    .in_use = 1,
	    .in_use_peak = 10,
	    .requests = 100,
	    .failures = 50,
	};
	char line[256];

	weir_stats_health(&stats, line, sizeof(line));
	CHECK_STR(line,
	    "usage 10 % | success 50.00 % | raise the limit: 1 of 10 in use, "
	    "50 requests refused");
}

TEST(share_of_refusals_is_no_fact_where_requests_are_a_bound)
{
	struct weir_pool_stats stats = {
	    .limit = 1000,
	    .total = 1000,
	    .in_use = 10,
	    .in_use_peak = 500,
	    .cached = 900,
	    .requests = 894,
	    .failures = 20,
	};
	char line[256];

	weir_stats_health(&stats, line, sizeof(line));
	CHECK_STR(line, "usage 1 % | success >= 97.76 % | 20 requests refused, "
			"their share unknown");
	stats.exact = WEIR_EXACT_REQUESTS;
	weir_stats_health(&stats, line, sizeof(line));
	CHECK_STR(line,
	    "usage 1 % | success 97.76 % | raise the limit: threads hold 900 "
	    "idle, 20 requests refused");
}

TEST(refusals_are_blamed_on_what_can_have_refused)
{
	static const struct {
		uint32_t kind;
		uint64_t total, in_use, peak, cached;
		const char *advice;
	} cases[] = {
	    /* Slots were still to be made: memory was missing, and what
	     * threads hold now is beside the point. */
	    {WEIR_POOL_CACHE, 500, 10, 400, 100,
		"| raise the process budget: 50 requests refused"},
	    {WEIR_POOL_CACHE, 1000, 10, 400, 100,
		"| raise the limit: threads hold 100 idle, 50 requests "
		"refused"},
	    /* The threads that held them have ended. */
	    {WEIR_POOL_CACHE, 1000, 10, 400, 0,
		"| raise the limit: 10 of 1000 in use, 50 requests "
		"refused"},
	    /* Above nine tenths that is what there is to say. */
	    {WEIR_POOL_CACHE, 960, 950, 960, 10,
		"| raise the limit: 950 of 1000 in use, 50 requests "
		"refused"},
	    /* All its units exist from the start. */
	    {WEIR_POOL_BUDDY, 1000, 500, 600, 0,
		"| raise the limit: no free block was large enough, 50 "
		"requests refused"},
	    {WEIR_POOL_BUDDY, 1000, 500, 1000, 0,
		"| raise the limit: 500 of 1000 in use, 50 requests "
		"refused"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct weir_pool_stats stats = {
		    .kind = cases[i].kind,
		    .exact = WEIR_EXACT_REQUESTS,
		    .limit = 1000,
		    .total = cases[i].total,
		    .in_use = cases[i].in_use,
		    .in_use_peak = cases[i].peak,
		    .cached = cases[i].cached,
		    .requests = 100,
		    .failures = 50,
		};
		char line[256];

		weir_stats_health(&stats, line, sizeof(line));
		CHECK_CONTAINS(line, cases[i].advice);
	}
}

TEST(refusals_of_a_buffer_pool_are_blamed_on_what_refused_most)
{
	static const struct {
		uint64_t used, by_bytes, by_size, failures;
		const char *advice;
	} cases[] = {
	    {500, 40, 5, 50,
		"| raise limit_bytes: 500 B of 1000 B held, 50 requests "
		"refused"},
	    {500, 5, 40, 50, "| add a larger tier: 50 requests refused"},
	    /* Neither is behind most of them. */
	    {500, 10, 10, 50, "| raise the process budget: 50 requests "},
	    /* Nine tenths, and a byte more. */
	    {900, 0, 0, 0, "| ok"},
	    {901, 0, 0, 0, "| raise limit_bytes: 901 B of 1000 B held"},
	    /* A hundredth is not too many, but the limit is near. */
	    {1000, 1, 0, 1, "| raise limit_bytes: 1000 B of 1000 B held"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct weir_pool_stats stats = {
		    .kind = WEIR_POOL_BUFFER,
		    .exact = WEIR_EXACT_REQUESTS,
		    .limit = UINT64_MAX,
		    .total = 20,
		    .requests = 100,
		    .failures = cases[i].failures,
		    .failures_by_bytes = cases[i].by_bytes,
		    .failures_by_size = cases[i].by_size,
		    .limit_bytes = 1000,
		    .limit_bytes_used = cases[i].used,
		};
		char line[256];

		weir_stats_health(&stats, line, sizeof(line));
		CHECK_CONTAINS(line, cases[i].advice);
	}
}

TEST(cause_is_told_where_the_share_is_unknown)
{
	struct weir_pool_stats stats = {
	    .limit = UINT64_MAX,
	    .limit_bytes = UINT64_MAX,
	    .total = 20,
	    .requests = 30,
	    .failures = 1,
	    .failures_by_size = 1,
	};
	char line[256];

	weir_stats_health(&stats, line, sizeof(line));
	CHECK_CONTAINS(line, "| 1 request refused as too large for any tier, "
			     "their share unknown");
	stats.failures = 20;
	stats.failures_by_bytes = 19;
	weir_stats_health(&stats, line, sizeof(line));
	CHECK_CONTAINS(line, "| 20 requests refused by limit_bytes, their "
			     "share unknown");
}

TEST(bytes_are_written_in_the_unit_that_fits)
{
	static const struct {
		uint64_t bytes;
		const char *text;
	} cases[] = {
	    {0, "0 B"},
	    {1023, "1023 B"},
	    {1024, "1.0 KiB"},
	    {1536, "1.5 KiB"},
	    {1048575, "1023.9 KiB"},
	    {1048576, "1.0 MiB"},
	    {UINT64_C(3) << 30, "3.0 GiB"},
	    {UINT64_C(5) << 40, "5.0 TiB"},
	    {UINT64_C(1) << 50, "1.0 PiB"},
	    {UINT64_MAX, "15.9 EiB"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char buffer[32];
		struct weiri_text text = {buffer, sizeof(buffer), 0};

		weiri_report_bytes(&text, cases[i].bytes);
		CHECK_STR(buffer, cases[i].text);
	}
}

/* ---- table and JSON ------------------------------------------------------------- */

static void
fill(struct fake *fake)
{
	fake->figures = (struct weir_pool_stats){
	    .object_bytes = 256,
	    .limit = 1000,
	    .total = 126,
	    .in_use = 12,
	    .in_use_peak = 20,
	    .requests = 1000,
	    .exact = WEIR_EXACT_COUNTS,
	};
}

TEST(table_shows_bounds_as_bounds_within_80_columns)
{
	char buffer[2048];
	struct weiri_text text = {buffer, sizeof(buffer), 0};

	fake_enter(&first, "conn");
	fill(&first);
	weiri_report_pools(&text, false);
	CHECK_STR(buffer,
	    "  id kind   name                     in use  available"
	    "      peak refused     memory\n"
	    "   1 cache  conn                         12        114"
	    "      <=20       0        0 B\n"
	    "            object 256 B | cached 0 | requests 1000+ | hits 0+ | "
	    "misses 0\n"
	    "            usage 1 % | success 100.00 % | ok\n");
	fake_leave(&first);
}

TEST(unused_pools_are_counted_and_listed_only_when_verbose)
{
	char brief[4096], verbose[4096];
	struct fake idle[3];

	fake_enter(&first, "conn");
	fill(&first);
	fake_enter(&idle[0], "idle");
	weir_stats_text(brief, sizeof(brief));
	CHECK_CONTAINS(brief, " conn ");
	CHECK_CONTAINS(brief, "| ok\n1 pool unused\n");
	CHECK(strstr(brief, "idle") == NULL);
	fake_enter(&idle[1], "idle");
	fake_enter(&idle[2], "idle");
	weir_stats_text(brief, sizeof(brief));
	CHECK_CONTAINS(brief, "| ok\n3 pools unused\n");

	/* Any trace of use, and memory held, makes it a row. */
	idle[0].figures.failures = 1;
	idle[1].figures.bytes_mapped = 4096;
	idle[2].figures.misses = 1;
	idle[2].figures.total = 10;
	weir_stats_text(brief, sizeof(brief));
	CHECK(strstr(brief, "unused") == NULL);
	CHECK_EQ(
	    weir_stats_text_verbose(verbose, sizeof(verbose)), strlen(brief));
	CHECK_STR(verbose, brief);

	for (int i = 0; i < 3; i++)
		memset(&idle[i].figures, 0, sizeof(idle[i].figures));
	CHECK_EQ(
	    weir_stats_text_verbose(verbose, sizeof(verbose)), strlen(verbose));
	CHECK(strstr(verbose, "unused") == NULL);
	CHECK_CONTAINS(verbose, " idle ");
	for (int i = 0; i < 3; i++)
		fake_leave(&idle[i]);
	fake_leave(&first);
}

TEST(limit_in_bytes_has_its_line_and_its_member)
{
	char buffer[4096];

	fake_enter(&first, "net/512");
	fill(&first);
	weir_stats_text(buffer, sizeof(buffer));
	CHECK(strstr(buffer, "limit_bytes") == NULL);
	weir_stats_json(buffer, sizeof(buffer));
	CHECK_CONTAINS(buffer, "\"limit_bytes\":null,\"limit_bytes_used\":0,");
	first.figures.limit_bytes = 64 << 20;
	first.figures.limit_bytes_used = 3 << 19;
	weir_stats_text(buffer, sizeof(buffer));
	CHECK_CONTAINS(buffer,
	    "misses 0\n            all tiers hold 1.5 MiB of "
	    "limit_bytes 64.0 MiB\n            usage 1 %");
	weir_stats_json(buffer, sizeof(buffer));
	CHECK_CONTAINS(
	    buffer, "\"limit_bytes\":67108864,\"limit_bytes_used\":1572864,");
	fake_leave(&first);
}

/* Feeds @json to an independent parser. */
static void
check_parses(const char *json)
{
	FILE *parser;

	if (system("python3 -c '' 2>/dev/null") != 0)
		SKIP("no python3");
	parser = popen("python3 -m json.tool > /dev/null", "w");
	CHECK_NOT_NULL(parser);
	CHECK_EQ(fputs(json, parser) >= 0, 1);
	CHECK_EQ(pclose(parser), 0);
}

TEST(json_of_pools_with_any_name_parses)
{
	char buffer[8192];
	size_t length;

	length = weir_stats_json(buffer, sizeof(buffer));
	CHECK_EQ(length, strlen(buffer));
	check_parses(buffer);

	fake_enter(&first, "a \"quoted\" \\ name\n\x01");
	fake_enter(&second, "\xff\xfe caf\xc3\xa9");
	fill(&first);
	second.figures.exact =
	    WEIR_EXACT_COUNTS | WEIR_EXACT_REQUESTS | WEIR_EXACT_PEAK;
	length = weir_stats_json(buffer, sizeof(buffer));
	CHECK_EQ(length, strlen(buffer));
	check_parses(buffer);
	CHECK_CONTAINS(buffer, "\"name\":\"a \\\"quoted\\\" \\\\ name??\"");
	CHECK_CONTAINS(buffer, "\"name\":\"?? caf\xc3\xa9\"");
	CHECK_CONTAINS(buffer, "\"limit\":1000,\"total\":126,\"in_use\":12");
	CHECK_CONTAINS(buffer, "\"limit\":null");
	CHECK_CONTAINS(buffer, "\"exact\":[\"counts\"]");
	CHECK_CONTAINS(buffer, "\"exact\":[\"counts\",\"requests\",\"peak\"]");
	CHECK_CONTAINS(buffer, "\"pool_count\":2");
	CHECK_EQ(weir_stats_json(NULL, 0), length);
	fake_leave(&first);
	fake_leave(&second);
}

TEST(text_is_the_same_at_every_buffer_size)
{
	char whole[4096], part[4096];
	size_t length;

	fake_enter(&first, "conn");
	fill(&first);
	length = weir_stats_text(whole, sizeof(whole));
	CHECK_EQ(length, strlen(whole));
	CHECK_CONTAINS(whole, "\npools 1, page requests refused 0\n");
	for (size_t bytes = 1; bytes <= length + 1; bytes++) {
		memset(part, '#', sizeof(part));
		CHECK_EQ(weir_stats_text(part, bytes), length);
		CHECK_MEM(part, whole, bytes - 1);
		CHECK_EQ(part[bytes - 1], '\0');
		CHECK_EQ(part[bytes], '#');
	}
	fake_leave(&first);
}

/* ---- with a real pool ------------------------------------------------------------- */

TEST(figures_of_the_process_are_read_by_size)
{
	struct weir_stats stats = {.size = sizeof(stats) - 8};

	CHECK_EQ(weir_stats_read(&stats), -EINVAL);
	stats.size = sizeof(stats);
	CHECK_EQ(weir_stats_read(&stats), 0);
	CHECK_EQ(stats.version, WEIR_STATS_VERSION);
	CHECK_EQ(stats.pool_count, 0);
	CHECK_LE(stats.bytes_charged, stats.bytes_peak);
}

TEST(cache_is_counted_from_creation_to_destruction)
{
	struct weir_stats stats = {.size = sizeof(stats)};
	struct weir_pool_stats pools[2] = {{.size = sizeof(pools[0])}};
	struct weir_cache_config config = {.object_bytes = 100};
	struct weir_cache *cache;
	void *object;

	CHECK_EQ(weir_cache_create("real", &config, &cache), 0);
	object = weir_cache_alloc(cache);
	CHECK_NOT_NULL(object);
	CHECK_EQ(weir_stats_read(&stats), 0);
	CHECK_EQ(stats.pool_count, 1);
	CHECK_GT(stats.bytes_charged, 0);
	CHECK_EQ(weir_stats_pools(pools, 2), 1);
	CHECK_STR(pools[0].name, "real");
	CHECK_EQ(pools[0].in_use, 1);
	CHECK_EQ(pools[0].total, pools[0].in_use + pools[0].available);
	weir_cache_free(cache, object);
	weir_cache_destroy(cache);
	CHECK_EQ(weir_stats_pools(pools, 2), 0);
}
