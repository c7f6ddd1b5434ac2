/* SPDX-License-Identifier: MIT */
/*
 * test_region_text.c - copies and formatted strings.
 */
#include "region_common.h"

#include <errno.h>
#include <locale.h>
#include <stdio.h>
#include <wchar.h>
#ifdef __GLIBC__
#include <printf.h>
#endif

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

/* ---- how often a text is formatted ----------------------------------------- */

#ifdef __GLIBC__

static unsigned passes;

static int
count_pass(FILE *file, const struct printf_info *info, const void *const *args)
{
	(void)file;
	(void)info;
	(void)args;
	passes++;
	return 0;
}

static int
take_no_argument(
    const struct printf_info *info, size_t n, int *types, int *size)
{
	(void)info;
	(void)n;
	(void)types;
	(void)size;
	return 0;
}

/* Counts each time it is formatted, and adds nothing; compilers do not know
 * the conversion. */
static const char *volatile counting = "%0*d%Y";

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"

static unsigned
passes_of_text(struct weir_region *region, size_t length)
{
	char *text;

	passes = 0;
	text = weir_region_printf(region, counting, (int)length, 7);
	CHECK_EQ(strlen(text), length);
	CHECK_EQ(strspn(text, "0"), length - 1);
	CHECK_EQ(text[length - 1], '7');
	return passes;
}

static unsigned
passes_of_more(struct weir_region_writer *writer, size_t length)
{
	size_t before = writer->length;

	passes = 0;
	CHECK(weir_region_writer_printf(writer, counting, (int)length, 7));
	CHECK_EQ(writer->length, before + length);
	CHECK_EQ(strspn(writer->data + before, "0"), length - 1);
	return passes;
}

#pragma GCC diagnostic pop

static struct weir_region *
with_room(size_t room)
{
	struct weir_region *region =
	    create(&(struct weir_region_config){.first_bytes = 8192});

	CHECK_NOT_NULL(
	    weir_region_alloc(region, figures(region).bytes_room - room));
	return region;
}

TEST(text_is_formatted_once_if_it_fits_the_block_or_is_short)
{
	NOT_UNDER_GUARD("a region has no room and no blocks");

	CHECK_EQ(
	    register_printf_specifier('Y', count_pass, take_no_argument), 0);
	for (size_t room = 0; room <= 2048; room += 112) {
		for (size_t length = 1; length < 3000; length += 1 + room / 3) {
			struct weir_region *region = with_room(room);
			size_t once = room > 1024 ? room : 1024;

			CHECK_EQ(passes_of_text(region, length),
			    length < once ? 1 : 2);
			weir_region_destroy(region);
		}
	}
}

TEST(appended_text_is_formatted_once_if_it_fits_or_is_short)
{
	CHECK_EQ(
	    register_printf_specifier('Y', count_pass, take_no_argument), 0);
	for (size_t length = 1; length < 1024; length += 31) {
		struct weir_region *region = create(NULL);
		struct weir_region_writer writer = WEIR_REGION_WRITER(region);

		/* The array moves, and others lie behind it. */
		for (int i = 0; i < 40; i++) {
			CHECK_EQ(passes_of_more(&writer, length), 1);
			if (i % 3 == 0)
				CHECK_NOT_NULL(weir_region_alloc(region, 16));
		}
		CHECK_LE(passes_of_more(&writer, 100000), 2);
		weir_region_destroy(region);
	}
}

#endif

/* A zero in it, more than what is aside or in the block, and what %n is told. */
TEST(formatted_text_is_whole_and_leaves_errno_wherever_it_is_made)
{
	struct weir_region *region = create(NULL);
	struct weir_region_writer writer = WEIR_REGION_WRITER(region);

	for (int width = 1; width<9000; width += width % 1000> 30 ? 41 : 1) {
		size_t length = (size_t)width + 2, before = writer.length;
		int told[2] = {0, 0};
		char *text;

		errno = 77;
		text = weir_region_printf(
		    region, "%c%0*d!%n", 0, width, 7, &told[0]);
		CHECK_NOT_NULL(text);
		CHECK(weir_region_writer_printf(
		    &writer, "%c%0*d!%n", 0, width, 7, &told[1]));
		CHECK_EQ(errno, 77);
		CHECK_EQ(told[0], (int)length);
		CHECK_EQ(told[1], (int)length);
		CHECK_EQ(text[0], '\0');
		CHECK_EQ(strspn(text + 1, "0"), (size_t)width - 1);
		CHECK_STR(text + width, "7!");
		CHECK_EQ(writer.length, before + length);
		CHECK_EQ(memcmp(writer.data + before, text, length + 1), 0);
	}
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
