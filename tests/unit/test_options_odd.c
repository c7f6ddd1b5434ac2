/* SPDX-License-Identifier: MIT */
/*
 * test_options_odd.c - options as people write them by mistake, and how those in
 * force are shown.
 */
#include "test.h"

#include "config/config.h"
#include "config/invalid.h"
#include "config/resolve.h"
#include "watch/registry.h"

#include <weir/weir.h>

#include <errno.h>
#include <string.h>

static const char *world[16]; /* name, value, ... */

static const char *
world_variable(const char *name)
{
	for (size_t i = 0; i + 1 < 16 && world[i] != NULL; i += 2)
		if (strcmp(world[i], name) == 0)
			return world[i + 1];
	return NULL;
}

static struct weiri_options options;
static char text_bytes[4096];

static const char *
resolve(const struct weir_config *config, const char *name, const char *value)
{
	const struct weiri_inputs inputs = {world_variable, UINT64_MAX, false};

	memset(world, 0, sizeof(world));
	world[0] = name;
	world[1] = value;
	CHECK_EQ(weiri_options_resolve(&options, config, &inputs), 0);
	return options.warnings;
}

static const char *
shown(void)
{
	struct weiri_text text = {text_bytes, sizeof(text_bytes), 0};

	weiri_options_describe(&options, &text);
	return text_bytes;
}

static void
no_soft(uint64_t charged, uint64_t soft, void *context)
{
	(void)charged;
	(void)soft;
	(void)context;
}

static bool
no_oom(size_t bytes, void *context)
{
	(void)bytes;
	(void)context;
	return false;
}

TEST(options_are_shown_as_they_are_in_force)
{
	struct weir_config config = {
	    .decay_ms = WEIR_DECAY_NEVER,
	    .flags =
		WEIR_REPORT_LEAKS | WEIR_SHOW_OPTIONS | WEIR_IGNORE_ENVIRONMENT,
	    .oom = no_oom,
	    .soft = no_soft,
	};

	CHECK_STR(resolve(&config, NULL, NULL), "");
	CHECK_CONTAINS(shown(), "decay_ms = never");
	CHECK_CONTAINS(text_bytes, "report_leaks = 1");
	CHECK_CONTAINS(text_bytes, "show_options = 1");
	CHECK_CONTAINS(text_bytes, "oom = hook\n");
	CHECK_CONTAINS(text_bytes, "soft = hook\n");
	CHECK_CONTAINS(text_bytes, "environment = ignored (weir_init)\n");
	config = (struct weir_config){.decay_ms = WEIR_DECAY_AT_ONCE};
	CHECK_STR(resolve(&config, NULL, NULL), "");
	CHECK_CONTAINS(shown(), "decay_ms = 0");
	CHECK_CONTAINS(text_bytes, "report_leaks = 0");
	CHECK_CONTAINS(text_bytes, "show_options = 0");
	CHECK_CONTAINS(text_bytes, "oom = none\n");
	CHECK_CONTAINS(text_bytes, "soft = none\n");
	CHECK_CONTAINS(text_bytes, "environment = read\n");
}

TEST(limits_of_the_environment_yield_to_those_of_the_program)
{
	struct weir_config config = {.soft_bytes = 1000};

	CHECK_CONTAINS(resolve(&config, "WEIR_LIMIT", "999"),
	    "WEIR_LIMIT=999 is ignored: it is below the soft limit");
	CHECK_STR(resolve(&config, "WEIR_LIMIT", "1000"), "");
	CHECK_EQ(options.effective.limit_bytes, 1000);
	config.soft_bytes = UINT64_MAX;
	CHECK_STR(resolve(&config, "WEIR_LIMIT", "999"), "");
	CHECK_EQ(options.effective.limit_bytes, 999);
	config = (struct weir_config){.limit_bytes = 1000};
	CHECK_STR(resolve(&config, "WEIR_SOFT", "none"), "");
	CHECK_EQ(options.effective.soft_bytes, UINT64_MAX);
	CHECK_CONTAINS(resolve(&config, "WEIR_SOFT", "1001"),
	    "WEIR_SOFT=1001 is ignored: it is above the limit");
}

/* A terminal is no place for what it might obey. */
TEST(values_are_quoted_without_what_a_terminal_obeys)
{
	CHECK_CONTAINS(resolve(NULL, "WEIR_LIMIT",
			   "\0337\177\xff"
			   "x"),
	    "WEIR_LIMIT=?7??x is ignored");
	CHECK_CONTAINS(resolve(NULL, "WEIR_MAINTAIN", "3600001"), "is ignored");
	CHECK_CONTAINS(resolve(NULL, "WEIR_MAINTAIN", "1s"), "is ignored");
	CHECK_STR(resolve(NULL, "WEIR_MAINTAIN", "3600000"), "");
	CHECK_EQ(options.effective.maintain_ms, 3600000);
}

/* Of a kind that has none of them. */
TEST(source_that_contradicts_itself_is_refused)
{
	static char range[8192];
	const struct weir_page_source slips[] = {
	    {.kind = WEIR_SOURCE_ANONYMOUS, .base = range},
	    {.kind = WEIR_SOURCE_MEMFD, .bytes = 8192},
	};
	const struct weiri_inputs inputs = {world_variable, UINT64_MAX, false};

	for (size_t i = 0; i < 2; i++) {
		struct weir_config config = {.source = slips[i]};

		CHECK_EQ(
		    weiri_options_resolve(&options, &config, &inputs), -EINVAL);
		CHECK_CONTAINS(options.warnings, "source.kind is");
	}
}

/* ---- the debug menu ------------------------------------------------------- */

static const char *
menu(const char *text)
{
	static char why_bytes[WEIRI_DEBUG_WHY_BYTES];
	struct weiri_debug_option option;
	struct weiri_text why = {why_bytes, sizeof(why_bytes), 0};

	why_bytes[0] = '\0';
	return weiri_debug_parse(text, &option, &why) ? NULL : why_bytes;
}

TEST(menu_items_that_are_wrong_are_named)
{
	static const char *const good[] = {"fail:1%", "fail:100%",
	    "fail:100.0%", "fail:0.0001%", "fail:1%,fail:1%", "fail-nth:7",
	    "fail-nth:7+", "fail-nth:7+,fail-nth:7+", "fail-nth:7,fail-nth:7",
	    "fail:1%,seed:9,seed:9", "fail:1%,seed:9"};
	static const char *const bad[][2] = {{"fail:1", "a share of"},
	    {"fail:1%%", "a share of"}, {"fail:0%", "a share of"},
	    {"fail:100.1%", "a share of"}, {"fail:101%", "a share of"},
	    {"fail:1.00001%", "a share of"}, {"fail:1.%%", "a share of"},
	    {"fail:1x", "a share of"}, {"fail:1%,fail:2%", "twice"},
	    {"fail-nth:0", "a number from 1"},
	    {"fail-nth:7x", "a number from 1"},
	    {"fail-nth:7++", "a number from 1"},
	    {"fail-nth:7,fail-nth:8", "twice"},
	    {"fail-nth:7,fail-nth:7+", "twice"}, {"seed:9,seed:8", "twice"},
	    {"seed:9x", "18 digits"}, {"seed:x", "18 digits"},
	    {"seed:9@pool", "is for all pools"}, {"poison:1", "takes no value"},
	    {"poison@", "no pool"}, {"\033\177poison", "\"??poison\""}};

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		CHECK_STR(menu(good[i]), NULL);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		CHECK_NOT_NULL(menu(bad[i][0]));
		CHECK_CONTAINS(menu(bad[i][0]), bad[i][1]);
	}
}

/* ---- lines about values ------------------------------------------------------ */

static const char *
invalid(const char *field, const char *allowed)
{
	struct weiri_text text = {text_bytes, sizeof(text_bytes), 0};

	weiri_invalid_text(&text, &(struct weiri_invalid){.call = "call",
				      .field = field,
				      .index = 3,
				      .value = 7,
				      .allowed = allowed,
				      .bound = {1, 2, 3}});
	return text_bytes;
}

TEST(bounds_and_indices_stand_where_they_are_meant)
{
	CHECK_STR(
	    invalid("a[].b", "%u .. %u"), "call: a[3].b is 7; allowed: 1 .. 2");
	CHECK_STR(invalid("a[1]", "100 %"), "call: a[1] is 7; allowed: 100 %");
	CHECK_STR(invalid("a", "%u %u %u %u %x"),
	    "call: a is 7; allowed: 1 2 3 %u %x");
}

/* ---- names ---------------------------------------------------------------------- */

TEST(names_are_kept_as_far_as_they_are_utf_8)
{
	static const char *const names[][2] = {
	    {"plain", "plain"},
	    {"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80",
		"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"},
	    {"\xed\x9f\xbf\xee\x80\x80", "\xed\x9f\xbf\xee\x80\x80"},
	    {"\xf4\x8f\xbf\xbf", "\xf4\x8f\xbf\xbf"},
	    /* Longer than need be, halves of a pair, beyond the last, alone. */
	    {"\xe0\x9f\xbf", "???"},
	    {"\xed\xa0\x80", "???"},
	    {"\xf0\x8f\xbf\xbf", "????"},
	    {"\xf4\x90\x80\x80", "????"},
	    {"\xc1\xbf\xf5x", "???x"},
	    {"\x80\xe2\x82", "???"},
	    {"\x1b[2J\x7f", "?[2J?"},
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		char name[WEIRI_NAME_BYTES];

		weiri_name_set(name, names[i][0]);
		CHECK_STR(name, names[i][1]);
	}
}

/* ---- policies of caches ------------------------------------------------------------- */

static void
no_notice(struct weir_cache *cache, void *context)
{
	(void)cache;
	(void)context;
}

TEST(policies_that_contradict_the_rest_are_refused)
{
	const struct weir_cache_config slips[] = {
	    {.object_bytes = 8, .notify = no_notice},
	    {.object_bytes = 8, .notify_fd = 2},
	    {.object_bytes = 8, .notify_at = 2},
	    {.object_bytes = 8, .policy = WEIR_LIMIT_NOTIFY, .limit = 10},
	    {.object_bytes = 8, .policy = WEIR_LIMIT_NOTIFY, .notify_fd = 2},
	    {.object_bytes = 8,
		.policy = WEIR_LIMIT_NOTIFY,
		.notify = no_notice,
		.limit = 10,
		.notify_at = 10},
	    {.object_bytes = 8, .timeout_ns = 5},
	};

	for (size_t i = 0; i < sizeof(slips) / sizeof(slips[0]); i++) {
		struct weir_cache *cache;

		CHECK_EQ(weir_cache_create("slip", &slips[i], &cache), -EINVAL);
		CHECK_NULL(cache);
	}
}
