/* SPDX-License-Identifier: MIT */
/*
 * test_debug_option.c - the debug menu as text: what is taken, and what is said
 * to who mistyped it.
 */
#include "test.h"

#include "config/resolve.h"

#include <errno.h>
#include <string.h>
#include <weir/weir.h>

static struct weiri_debug_option option;
static char why_bytes[WEIRI_DEBUG_WHY_BYTES];

static bool
parse(const char *text)
{
	struct weiri_text why = {why_bytes, sizeof(why_bytes), 0};
	bool taken;

	why_bytes[0] = '\0';
	taken = weiri_debug_parse(text, &option, &why);
	/* Whole, whatever there was to say. */
	CHECK_LT(why.used, sizeof(why_bytes));
	return taken;
}

static const char *
describe(void)
{
	static char text[WEIRI_DEBUG_TEXT_BYTES];
	struct weiri_text out = {text, sizeof(text), 0};

	weiri_debug_describe(&out, &option);
	CHECK_LT(out.used, sizeof(text));
	return text;
}

TEST(menu_is_read_and_written_back_as_it_was)
{
	static const char *const taken[] = {"fail:1%", "fail:0.0001%",
	    "fail:100%", "fail:2.5%,seed:17", "fail-nth:1",
	    "fail-nth:999999999999999999+", "poison,tag,caller",
	    "cold-first,no-cache,integrity,pass-through",
	    "poison@conn,poison@req*,tag", "fail:1%@conn,fail:1%@req,seed:0"};

	for (size_t i = 0; i < sizeof(taken) / sizeof(taken[0]); i++) {
		CHECK(parse(taken[i]));
		CHECK_STR(describe(), taken[i]);
		CHECK_STR(why_bytes, "");
	}
	CHECK(parse("fail:1.5000%,"));
	CHECK_STR(describe(), "fail:1.5%");
	CHECK_EQ(option.fail_ppm, 15000);
	CHECK(parse("poison@a:b"));
	CHECK_STR(option.entry[0].pool, "a:b");
	CHECK(parse("off"));
	CHECK_STR(describe(), "off");
	CHECK(parse(""));
	CHECK_EQ(option.count, 0);
}

TEST(word_that_is_not_there_is_answered_with_the_nearest_and_the_menu)
{
	static const char *const wrong[][2] = {
	    {"posion", "the nearest is \"poison\""},
	    {"Poison", "the nearest is \"poison\""},
	    {"tags", "the nearest is \"tag\""},
	    {"coldfirst", "the nearest is \"cold-first\""},
	    {"fail_nth:3", "the nearest is \"fail-nth\""},
	    {"passthrough", "the nearest is \"pass-through\""},
	    {"nocache@conn", "the nearest is \"no-cache\""},
	    {"tag,integerity", "the nearest is \"integrity\""},
	    {"callers:1", "the nearest is \"caller\""},
	    {" tag", "\" tag\" is not on the menu"},
	    {"tag,,poison", "\"\" is not on the menu"},
	    {"0123456789012345678901234567890123456789",
		"\"012345678901234567890123...\" is not"},
	};

	CHECK(parse("tag"));
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		CHECK(!parse(wrong[i][0]));
		CHECK_CONTAINS(why_bytes, wrong[i][1]);
		CHECK_CONTAINS(why_bytes,
		    "; the menu: fail:P%, fail-nth:N[+], seed:N, poison, tag, "
		    "caller, cold-first, no-cache, integrity, pass-through; ");
		CHECK_STR(describe(), "tag");
	}
}

TEST(value_that_cannot_be_read_is_answered_with_what_was_expected)
{
	static const char share[] =
	    "\"fail\" expects a share of 0.0001% to 100%";
	static const char nth[] = "\"fail-nth\" expects a number from 1";
	static const char *const wrong[][2] = {{"fail", share},
	    {"fail:", share}, {"fail:1", share}, {"fail:%", share},
	    {"fail:0%", share}, {"fail:0.00001%", share}, {"fail:1.%", share},
	    {"fail:101%", share}, {"fail:100.1%", share}, {"fail:-1%", share},
	    {"fail:1%%", share}, {"fail-nth", nth}, {"fail-nth:0", nth},
	    {"fail-nth:+", nth}, {"fail-nth:7-", nth}, {"fail-nth:7++", nth},
	    {"fail-nth:1000000000000000000", nth},
	    {"seed:x", "\"seed\" expects a number of 18 digits at most"},
	    {"seed", "\"seed\" expects a number"},
	    {"seed:1@conn", "\"seed\" is for all pools"},
	    {"tag:3", "\"tag\" takes no value"},
	    {"tag:", "\"tag\" takes no value"},
	    {"poison@", "\"poison\" has no pool behind its @"},
	    {"fail:1%@a,fail:2%@b",
		"\"fail\" is there twice, and not the same"},
	    {"fail-nth:1,fail-nth:1+", "\"fail-nth\" is there twice"},
	    {"seed:1,seed:2", "\"seed\" is there twice"}};
	char many[WEIRI_DEBUG_ENTRIES * 4 + 8] = "tag";
	char name[80] = "tag@";

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		CHECK(!parse(wrong[i][0]));
		CHECK_CONTAINS(why_bytes, wrong[i][1]);
	}
	for (size_t i = 1; i < WEIRI_DEBUG_ENTRIES; i++)
		strcat(many, ",tag");
	CHECK(parse(many));
	strcat(many, ",tag");
	CHECK(!parse(many));
	CHECK_CONTAINS(why_bytes, "\"tag\" is one item too many");
	memset(name + 4, 'x', 47);
	CHECK(parse(name));
	name[51] = 'x';
	CHECK(!parse(name));
	CHECK_CONTAINS(why_bytes, "too long a name");
}

/* The longest line there can be is not cut. */
TEST(all_of_the_longest_menu_is_shown)
{
	char text[WEIRI_DEBUG_ENTRIES * 64 + 64] = "";
	char name[48];

	memset(name, 'p', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	for (size_t i = 0; i < WEIRI_DEBUG_ENTRIES; i++) {
		strcat(text, i > 0 ? "," : "");
		strcat(text, "pass-through@");
		strcat(text, name);
	}
	strcat(text, ",seed:999999999999999999");
	CHECK(parse(text));
	CHECK_STR(describe(), text);
}

/* ---- where it comes from ---------------------------------------------------- */

static const char *debug_value;
static struct weiri_options options;

static const char *
world_variable(const char *name)
{
	return strcmp(name, "WEIR_DEBUG") == 0 ? debug_value : NULL;
}

static int
resolve(const struct weir_config *config, bool secure)
{
	const struct weiri_inputs inputs = {world_variable, UINT64_MAX, secure};

	return weiri_options_resolve(&options, config, &inputs);
}

TEST(menu_is_not_read_with_raised_privileges_and_the_config_wins)
{
	struct weir_config config = {.debug = "tag@conn"};

	debug_value = "poison";
	CHECK_EQ(resolve(NULL, false), 0);
	CHECK_EQ(options.debug_option.count, 1);
	CHECK_EQ(options.debug_option.entry[0].bit, WEIRI_DEBUG_POISON);
	CHECK_EQ(options.debug, WEIRI_ORIGIN_ENVIRONMENT);
	CHECK_EQ(resolve(NULL, true), 0);
	CHECK_EQ(options.debug_option.count, 0);
	CHECK_EQ(resolve(&config, false), 0);
	CHECK_EQ(options.debug_option.entry[0].bit, WEIRI_DEBUG_TAG);
	CHECK_EQ(options.debug, WEIRI_ORIGIN_CONFIG);
}

TEST(menu_that_cannot_be_read_is_a_warning_or_refused)
{
	struct weir_config config = {.debug = "tag,posion"};

	debug_value = "tag,posion";
	CHECK_EQ(resolve(NULL, false), 0);
	CHECK_EQ(options.debug_option.count, 0);
	CHECK_CONTAINS(options.warnings,
	    "WEIR_DEBUG=tag,posion is ignored: \"posion\" is not on the menu, "
	    "the nearest is \"poison\"; the menu: ");
	debug_value = NULL;
	CHECK_EQ(resolve(&config, false), -EINVAL);
	CHECK_CONTAINS(options.warnings,
	    "weir_init: debug: \"posion\" is not on the menu, the nearest is ");
}

/* ---- the call ---------------------------------------------------------------- */

static char received[1024];

static void
receive(enum weir_message_level level, const char *line, void *context)
{
	(void)level;
	(void)context;
	strncpy(received, line, sizeof(received) - 1);
}

TEST(call_says_what_is_in_force_and_what_is_wrong)
{
	struct weir_config config = {.message = receive};
	char text[4096];

	CHECK_EQ(weir_init(&config), 0);
	CHECK_EQ(weir_debug_set("tag@conn,no-cache"), 0);
	CHECK_STR(received, "debug menu: tag@conn,no-cache");
	CHECK_EQ(weir_debug_set("tag@conn,nocash"), -EINVAL);
	CHECK_CONTAINS(received, "weir_debug_set: \"nocash\" is not on the "
				 "menu, the nearest is \"no-cache\"; ");
	CHECK_LT(0, weir_options_text(text, sizeof(text)));
	CHECK_CONTAINS(text, "\ndebug = tag@conn,no-cache (weir_debug_set)\n");
	CHECK_EQ(weir_debug_set(NULL), 0);
	CHECK_LT(0, weir_options_text(text, sizeof(text)));
	CHECK_CONTAINS(text, "\ndebug = off (weir_debug_set)\n");
	/* A seed is drawn where there is none, and told. */
	CHECK_EQ(weir_debug_set("fail:1%"), 0);
	CHECK_CONTAINS(received, "debug menu: fail:1%,seed:");
	CHECK_LT(0, weir_options_text(text, sizeof(text)));
	CHECK_CONTAINS(text, received + strlen("debug menu: "));
}
