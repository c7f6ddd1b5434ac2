/* SPDX-License-Identifier: MIT */
/*
 * test_json.c - the JSON writer of the command-line tool.
 */
#include "test.h"

#include <math.h>
#include <stdlib.h>

#include "../../tools/weir/json.c"

static char *text;
static size_t text_bytes;
static struct json json;

static void
begin(void)
{
	free(text);
	json_begin(&json, open_memstream(&text, &text_bytes));
	CHECK_NOT_NULL(json.out);
}

static void
finish(void)
{
	CHECK_EQ(json_end(&json), 0);
	fclose(json.out);
}

TEST(json_nests_and_separates)
{
	begin();
	json_open(&json, NULL, '{');
	json_count(&json, "a", UINT64_MAX);
	json_open(&json, "b", '[');
	json_bool(&json, NULL, true);
	json_null(&json, NULL);
	json_open(&json, NULL, '{');
	json_close(&json, '}');
	json_close(&json, ']');
	json_real(&json, "c", 0.125);
	json_close(&json, '}');
	finish();
	CHECK_STR(text,
	    "{\n\t\"a\": 18446744073709551615,\n\t\"b\": [\n\t\ttrue,\n"
	    "\t\tnull,\n\t\t{}\n\t],\n\t\"c\": 0.125\n}\n");
}

TEST(json_numbers_that_are_none_become_null)
{
	begin();
	json_open(&json, NULL, '[');
	json_real(&json, NULL, NAN);
	json_real(&json, NULL, INFINITY);
	json_close(&json, ']');
	finish();
	CHECK_STR(text, "[\n\tnull,\n\tnull\n]\n");
}

TEST(json_raw_is_one_more_value)
{
	begin();
	json_open(&json, NULL, '{');
	json_count(&json, "a", 1);
	json_raw(&json, "b", "{\"c\": [2]}");
	json_close(&json, '}');
	finish();
	CHECK_STR(text, "{\n\t\"a\": 1,\n\t\"b\": {\"c\": [2]}\n}\n");
}

static void
check_text(const char *value, const char *expected)
{
	begin();
	json_text(&json, NULL, value);
	finish();
	CHECK_STR(text, expected);
}

TEST(json_text_is_escaped_and_valid_utf8)
{
	check_text("a\"b\\c\n\x01", "\"a\\\"b\\\\c\\u000a\\u0001\"\n");
	check_text("\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80",
	    "\"\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80\"\n");
	/* Overlong, surrogate, too large, cut short, lone continuation. */
	check_text("\xc0\x80", "\"\\ufffd\\ufffd\"\n");
	check_text("\xed\xa0\x80", "\"\\ufffd\\ufffd\\ufffd\"\n");
	check_text("\xf4\x90\x80\x80", "\"\\ufffd\\ufffd\\ufffd\\ufffd\"\n");
	check_text("\xe2\x82", "\"\\ufffd\\ufffd\"\n");
	check_text("\x80x", "\"\\ufffdx\"\n");
}

TEST(json_end_reports_a_failed_write)
{
	FILE *full = fopen("/dev/full", "w");

	if (full == NULL)
		SKIP("no /dev/full here");
	json_begin(&json, full);
	json_text(&json, NULL, "lost");
	CHECK_EQ(json_end(&json), -EIO);
	fclose(full);
}
