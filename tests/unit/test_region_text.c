/* SPDX-License-Identifier: MIT */
/*
 * test_region_text.c - copies and formatted strings.
 */
#include "region_common.h"

#include <errno.h>
#include <locale.h>
#include <stdio.h>
#include <wchar.h>

TEST(strings_are_copied)
{
	struct weir_region *region = create(NULL);
	char text[] = "one two";

	CHECK_STR(weir_region_strdup(region, text), "one two");
	CHECK_STR(weir_region_strdup(region, ""), "");
	CHECK_STR(weir_region_strndup(region, text, 3), "one");
	CHECK_STR(weir_region_strndup(region, text, 0), "");
	CHECK_STR(weir_region_strndup(region, text, 7), "one two");
	CHECK_STR(weir_region_strndup(region, text, 99), "one two");
	CHECK_MEM(weir_region_memdup(region, text, 8), text, 8);
	CHECK(weir_region_strdup(region, text) != text);
	weir_region_destroy(region);
}

TEST(formatting_fits_every_remaining_room)
{
	NOT_UNDER_GUARD("a region has no room and no blocks");

	char expected[64];

	for (int room = 0; room <= 48; room += 16) {
		for (int length = 0; length < 60; length++) {
			struct weir_region *region = create(NULL);
			char *text;

			CHECK_NOT_NULL(weir_region_alloc(region,
			    figures(region).bytes_room - (uint64_t)room));
			text = weir_region_printf(
			    region, "%0*d|%s", length, 7, "end");
			snprintf(expected, sizeof(expected), "%0*d|%s", length,
			    7, "end");
			CHECK_STR(text, expected);
			CHECK(is_aligned(text, 16));
			/* The text is claimed: what follows leaves it alone. */
			memset(weir_region_alloc(region, 64), 'x', 64);
			CHECK_STR(text, expected);
			CHECK(weir_region_check(region));
			weir_region_destroy(region);
		}
	}
}

TEST(long_text_is_formatted_on_pages_of_its_own)
{
	struct weir_region *region = create(NULL);
	char *text = weir_region_printf(region, "%0100000d", 5);

	CHECK_NOT_NULL(text);
	CHECK_EQ(strlen(text), 100000);
	CHECK_EQ(text[99999], '5');
	CHECK_EQ(figures(region).larges, 1);
	weir_region_destroy(region);
}

TEST(failing_format_gives_null_takes_nothing_and_leaves_errno)
{
	static const wchar_t unencodable[] = {0x7ffffff0, 0};
	struct weir_region *region = create(NULL);
	char *before = region->next;

	setlocale(LC_ALL, "C");
	errno = 77;
	CHECK_NULL(weir_region_printf(region, "%ls", unencodable));
	CHECK_EQ(errno, 77);
	CHECK_PTR(region->next, before);
	CHECK_EQ(figures(region).failures, 1);
	CHECK_EQ(kind_stats(&test_kind).failures, 1);
	weir_region_destroy(region);
}

TEST(sizes_near_the_largest_give_null_and_take_nothing)
{
	struct weir_region *region = create(NULL);
	char *before = region->next;
	volatile size_t most = SIZE_MAX;

	for (size_t less = 0; less < 40; less++) {
		CHECK_NULL(weir_region_alloc(region, most - less));
		CHECK_NULL(weir_region_alloc_zeroed(region, most - less));
		CHECK_NULL(weir_region_memdup(region, "", most - less));
	}
	CHECK_EQ(figures(region).failures, 120);
	CHECK_PTR(region->next, before);
	CHECK_NOT_NULL(weir_region_alloc_zeroed(region, 0));
	CHECK_NOT_NULL(weir_region_memdup(region, NULL, 0));
	weir_region_destroy(region);
}

TEST(formatting_at_the_limit_gives_null)
{
	struct weir_region *region =
	    create(&(struct weir_region_config){.limit_bytes = 1024});

	CHECK_NULL(weir_region_printf(region, "%02000d", 1));
	CHECK_STR(weir_region_printf(region, "%d", 12), "12");
	weir_region_destroy(region);
}
