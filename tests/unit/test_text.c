/* SPDX-License-Identifier: MIT */
/*
 * test_text.c - formatting that reports rely on, against snprintf.
 */
#include "test.h"

#include "base/text.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static char buffer[256];

static struct weiri_text
fresh(void)
{
	memset(buffer, '#', sizeof(buffer));
	return (struct weiri_text){buffer, sizeof(buffer), 0};
}

TEST(numbers_read_as_printf_writes_them)
{
	static const uint64_t fixed[] = {
	    0, 1, 9, 10, 99, 100, 4096, UINT32_MAX, INT64_MAX, UINT64_MAX};
	struct test_rng rng;
	char expected[64];

	test_rng_init(&rng, test_seed());
	for (size_t i = 0; i < 1000; i++) {
		uint64_t value =
		    i < 10 ? fixed[i] : test_rand(&rng) >> (i % 64);
		struct weiri_text text = fresh();

		weiri_text_u64(&text, value);
		snprintf(expected, sizeof(expected), "%" PRIu64, value);
		CHECK_STR(buffer, expected);
		CHECK_EQ(text.used, strlen(expected));

		text = fresh();
		weiri_text_hex(&text, value);
		snprintf(expected, sizeof(expected), "0x%" PRIx64, value);
		CHECK_STR(buffer, expected);
	}
}

TEST(fixed_point_keeps_leading_zeroes_of_the_fraction)
{
	struct weiri_text text = fresh();

	weiri_text_fixed(&text, 9995, 2);
	weiri_text_char(&text, ' ');
	weiri_text_fixed(&text, 5, 2);
	weiri_text_char(&text, ' ');
	weiri_text_fixed(&text, 100, 2);
	weiri_text_char(&text, ' ');
	weiri_text_fixed(&text, 42, 0);
	weiri_text_char(&text, ' ');
	weiri_text_fixed(&text, UINT64_MAX, 3);
	CHECK_STR(buffer, "99.95 0.05 1.00 42 18446744073709551.615");
}

TEST(columns_pad_and_never_cut)
{
	struct weiri_text text = fresh();

	weiri_text_left(&text, "ab", 4);
	weiri_text_char(&text, '|');
	weiri_text_right(&text, "ab", 4);
	weiri_text_char(&text, '|');
	weiri_text_left(&text, "abcdef", 4);
	weiri_text_right(&text, "abcdef", 4);
	weiri_text_left(&text, "", 0);
	CHECK_STR(buffer, "ab  |  ab|abcdefabcdef");
}

TEST(json_escapes_what_it_must_and_nothing_else)
{
	struct weiri_text text = fresh();

	weiri_text_json(&text, "a\"b\\c\nd\x01\x1f/\xc3\xa9");
	CHECK_STR(buffer, "\"a\\\"b\\\\c\\u000ad\\u0001\\u001f/\xc3\xa9\"");
}

TEST(text_is_cut_terminated_and_counted_at_every_size)
{
	static const char whole[] = "name 12345 0xff 1.50";

	for (size_t bytes = 0; bytes <= sizeof(whole) + 2; bytes++) {
		struct weiri_text text = fresh();

		text.bytes = bytes;
		weiri_text_str(&text, "name ");
		weiri_text_u64(&text, 12345);
		weiri_text_char(&text, ' ');
		weiri_text_hex(&text, 255);
		weiri_text_char(&text, ' ');
		weiri_text_fixed(&text, 150, 2);
		CHECK_EQ(text.used, sizeof(whole) - 1);

		size_t kept = bytes < sizeof(whole) ? bytes : sizeof(whole);

		if (kept > 0) {
			CHECK_MEM(buffer, whole, kept - 1);
			CHECK_EQ(buffer[kept - 1], '\0');
		}
		CHECK_EQ(buffer[kept], '#');
	}
}
