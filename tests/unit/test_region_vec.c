/* SPDX-License-Identifier: MIT */
/*
 * test_region_vec.c - writers and vectors.
 */
#include "region_common.h"

#include <errno.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <wchar.h>

/* ---- writers --------------------------------------------------------------- */

TEST(writer_joins_pieces_of_every_sort)
{
	NOT_UNDER_GUARD("a region has no room and no blocks");

	struct weir_region *region = create(NULL);
	struct weir_region_writer out = WEIR_REGION_WRITER(region);
	size_t length;
	char *room, *text;

	CHECK(weir_region_writer_str(&out, "one "));
	CHECK(weir_region_writer_printf(&out, "%d %s ", 2, "three"));
	CHECK(weir_region_writer_add(&out, "4\0", 2));
	CHECK(weir_region_writer_add(&out, NULL, 0));
	room = weir_region_writer_reserve(&out, 10);
	memset(room, 'x', 3);
	weir_region_writer_commit(&out, 1);
	weir_region_writer_commit(&out, 2);
	text = weir_region_writer_finish(&out, &length);
	CHECK_EQ(length, 17);
	CHECK_MEM(text, "one 2 three 4\0xxx", 18);
	/* No more than it needs is taken, and it is the region's. */
	CHECK_PTR(region->next, text + 32);
	CHECK_NULL(out.data);
	weir_region_destroy(region);
}

TEST(writer_crosses_blocks_and_pages_while_others_allocate)
{
	NOT_UNDER_GUARD("a region has no room and no blocks");

	enum { BYTES = 300000 };
	struct weir_region *region = create(NULL);
	struct weir_region_writer out[2] = {
	    WEIR_REGION_WRITER(region), WEIR_REGION_WRITER(region)};
	char *text[2], *others[64];
	size_t length, count = 0;

	for (size_t i = 0; i < BYTES; i += 100) {
		for (int w = 0; w < 2; w++) {
			char *room = weir_region_writer_reserve(&out[w], 1000);

			CHECK_NOT_NULL(room);
			memset(room, 'a' + w + (int)(i / 100 % 20), 100);
			weir_region_writer_commit(&out[w], 100);
		}
		if (i % 5000 == 0) {
			others[count] = weir_region_alloc(region, 24);
			memset(others[count++], '!', 24);
		}
	}
	for (int w = 0; w < 2; w++) {
		text[w] = weir_region_writer_finish(&out[w], &length);
		CHECK_EQ(length, BYTES);
		CHECK_EQ(strlen(text[w]), BYTES);
	}
	for (size_t i = 0; i < BYTES; i++)
		for (int w = 0; w < 2; w++)
			CHECK_EQ(text[w][i], 'a' + w + (int)(i / 100 % 20));
	for (size_t i = 0; i < count; i++)
		CHECK_EQ(others[i][23], '!');
	/* Both on pages, nothing of their way there beside the blocks. */
	CHECK_EQ(figures(region).larges, 2);
	CHECK_LT(figures(region).bytes_charged, 2 * BYTES + (256 << 10));
	CHECK(weir_region_check(region));
	weir_region_destroy(region);
}

TEST(writer_given_up_leaves_its_room)
{
	struct weir_region *region = create(NULL);
	struct weir_region_writer out = WEIR_REGION_WRITER(region);
	char *before = region->next;
	uint64_t charged = figures(region).bytes_charged;

	weir_region_writer_abandon(&out);
	CHECK(weir_region_writer_str(&out, "never mind"));
	weir_region_writer_abandon(&out);
	CHECK_PTR(region->next, before);
	CHECK_NOT_NULL(weir_region_writer_reserve(&out, 1 << 20));
	weir_region_writer_abandon(&out);
	CHECK_EQ(figures(region).bytes_charged, charged);
	CHECK_STR(weir_region_writer_finish(&out, NULL), "");
	weir_region_destroy(region);
}

/* Where the text ends: in the array, behind it in the block, beyond both. */
TEST(writer_formats_across_every_border)
{
	for (int before = 0; before < 80; before += 13) {
		for (int length = 0; length < 5000; length += 61) {
			struct weir_region *region = create(NULL);
			struct weir_region_writer out =
			    WEIR_REGION_WRITER(region);
			char expected[5200], *text;

			CHECK(
			    weir_region_writer_printf(&out, "%0*d", before, 1));
			CHECK(weir_region_writer_printf(
			    &out, "%0*d|%s", length, 7, "end"));
			text = weir_region_writer_finish(&out, NULL);
			snprintf(expected, sizeof(expected), "%0*d%0*d|%s",
			    before, 1, length, 7, "end");
			CHECK_STR(text, expected);
			memset(weir_region_alloc(region, 64), 'x', 64);
			CHECK_STR(text, expected);
			weir_region_destroy(region);
		}
	}
}

TEST(writer_fails_once_and_stays_failed_until_finished)
{
	NOT_UNDER_GUARD("a region has no room and no blocks");

	static const wchar_t unencodable[] = {0x7ffffff0, 0};
	struct weir_region *region =
	    create(&(struct weir_region_config){.limit_bytes = 4096});
	struct weir_region_writer out = WEIR_REGION_WRITER(region);
	char *before = region->next;
	size_t length = 1;

	CHECK(weir_region_writer_str(&out, "some "));
	CHECK_NULL(weir_region_writer_reserve(&out, 5000));
	CHECK(!weir_region_writer_str(&out, "more"));
	CHECK(!weir_region_writer_printf(&out, "%d", 1));
	CHECK_NULL(weir_region_writer_finish(&out, &length));
	CHECK_EQ(length, 0);
	CHECK_PTR(region->next, before);

	CHECK_NULL(weir_region_writer_reserve(&out, SIZE_MAX));
	weir_region_writer_abandon(&out);
	CHECK(weir_region_writer_str(&out, "x"));
	CHECK_NULL(weir_region_writer_reserve(&out, SIZE_MAX - 1));
	weir_region_writer_abandon(&out);

	setlocale(LC_ALL, "C");
	errno = 77;
	CHECK(!weir_region_writer_printf(&out, "%ls", unencodable));
	CHECK_EQ(errno, 77);
	CHECK_NULL(weir_region_writer_finish(&out, NULL));
	CHECK_EQ(figures(region).failures, 4);
	CHECK(weir_region_writer_str(&out, "again"));
	CHECK_STR(weir_region_writer_finish(&out, NULL), "again");
	weir_region_destroy(region);
}

/* Up to the last byte of a limit: doubling must not refuse what would fit. */
TEST(writer_uses_up_a_limit)
{
	struct weir_region *region =
	    create(&(struct weir_region_config){.limit_bytes = 65536});
	struct weir_region_writer out = WEIR_REGION_WRITER(region);

	while (weir_region_writer_str(&out, "0123456789"))
		CHECK_LE(figures(region).bytes_charged, 65536);
	/* The old and the new array have to fit at once. */
	CHECK_GT(out.length, 65536 / 4);
	/* Only the last of all was refused, not the doubling before it. */
	CHECK_EQ(figures(region).failures, 1);
	weir_region_destroy(region);
}

TEST(committing_more_than_was_reserved_is_a_fault)
{
	struct weir_region *region = create(NULL);
	struct weir_region_writer out = WEIR_REGION_WRITER(region);

	EXPECT_ABORT("FAULT bad-argument: region \"test\": writer ",
	    weir_region_writer_commit(&out, 1));
	CHECK_NOT_NULL(weir_region_writer_reserve(&out, 10));
	EXPECT_ABORT("commits 11 bytes, more than it has reserved",
	    weir_region_writer_commit(&out, 11));
	weir_region_writer_commit(&out, 10);
	EXPECT_ABORT("commits 1 bytes, more than it has reserved",
	    weir_region_writer_commit(&out, 1));
	weir_region_destroy(region);
}

/* ---- vectors --------------------------------------------------------------- */

struct point {
	int x, y, z;
};

TEST(vector_keeps_its_elements_while_it_grows)
{
	enum { COUNT = 50000 };
	struct weir_region *region = create(NULL);
	struct weir_region_vec points = WEIR_REGION_VEC(region, struct point);
	struct weir_region_vec bytes = WEIR_REGION_VEC(region, char);
	struct point *all;
	size_t count;

	for (int i = 0; i < COUNT; i++) {
		struct point *point = weir_region_vec_push(&points);
		char *byte = weir_region_vec_push(&bytes);

		CHECK_NOT_NULL(point);
		CHECK_NOT_NULL(byte);
		*point = (struct point){i, -i, i + i};
		*byte = (char)i;
	}
	CHECK(is_aligned(points.data, 16));
	CHECK_PTR(weir_region_vec_pop(&points),
	    (struct point *)points.data + COUNT - 1);
	all = weir_region_vec_finish(&points, &count);
	CHECK_EQ(count, COUNT - 1);
	CHECK_NULL(points.data);
	for (int i = 0; i < COUNT - 1; i++) {
		CHECK_EQ(all[i].x, i);
		CHECK_EQ(all[i].y, -i);
		CHECK_EQ(all[i].z, i + i);
		CHECK_EQ(((char *)bytes.data)[i], (char)i);
	}
	CHECK(weir_region_check(region));
	weir_region_destroy(region);
}

TEST(vector_with_capacity_takes_no_memory_to_push)
{
	NOT_UNDER_GUARD("a region has no room and no blocks");

	struct weir_region *region = create(NULL);
	struct weir_region_vec vec = WEIR_REGION_VEC(region, struct point);
	char *next;

	CHECK(weir_region_vec_reserve(&vec, 100));
	next = region->next;
	CHECK_NOT_NULL(weir_region_vec_push_many(&vec, 60));
	for (int i = 60; i < 100; i++)
		CHECK_NOT_NULL(weir_region_vec_push(&vec));
	CHECK_PTR(region->next, next);
	CHECK_NOT_NULL(weir_region_vec_push(&vec));
	/* Nothing was behind it: it grew where it was. */
	CHECK_GT((uintptr_t)region->next, (uintptr_t)next);
	vec.count = 10;
	CHECK_PTR(weir_region_vec_finish(&vec, NULL), next - 1200);
	CHECK_PTR(region->next, next - 1200 + 128);
	weir_region_destroy(region);
}

TEST(vectors_one_after_the_other_use_the_same_arrays)
{
	NOT_UNDER_GUARD("an address is used again as late as can be");

	struct weir_region *region = create(NULL);
	uint64_t charged = 0;

	for (int round = 0; round < 50; round++) {
		struct weir_region_vec vec = WEIR_REGION_VEC(region, uint64_t);

		for (uint64_t i = 0; i < 1000; i++) {
			uint64_t *at = weir_region_vec_push(&vec);

			CHECK_NOT_NULL(at);
			*at = i;
			/* Something is always behind it. */
			if (i % 100 == 0)
				CHECK_NOT_NULL(weir_region_alloc(region, 16));
		}
		weir_region_vec_abandon(&vec);
		if (round == 0)
			charged = figures(region).bytes_charged;
	}
	/* The small objects need a block; the vectors 800 KB without reuse. */
	CHECK_LE(figures(region).bytes_charged, charged + 65536);
	weir_region_destroy(region);
}

TEST(vector_refuses_what_no_memory_has_and_stays_as_it_was)
{
	struct weir_region *region =
	    create(&(struct weir_region_config){.limit_bytes = 8192});
	struct weir_region_vec vec = WEIR_REGION_VEC(region, uint64_t);
	struct weir_region_vec nothing = {.region = region};
	uint64_t *at = weir_region_vec_push(&vec);

	CHECK_NOT_NULL(at);
	*at = 5;
	CHECK(!weir_region_vec_reserve(&vec, SIZE_MAX));
	CHECK(!weir_region_vec_reserve(&vec, SIZE_MAX / 8));
	CHECK_NULL(weir_region_vec_push_many(&vec, SIZE_MAX));
	CHECK_NULL(weir_region_vec_push_many(&vec, 2000));
	CHECK_NULL(weir_region_vec_push(&nothing));
	CHECK_EQ(figures(region).failures, 5);
	CHECK_EQ(vec.count, 1);
	CHECK_EQ(*(uint64_t *)vec.data, 5);
	CHECK_NOT_NULL(weir_region_vec_push(&vec));
	weir_region_destroy(region);
}

TEST(vector_and_writer_of_a_merged_region_go_on_in_its_parent)
{
	struct weir_region *parent = create(NULL);
	struct weir_region *child =
	    create(&(struct weir_region_config){.parent = parent});
	struct weir_region_vec numbers = WEIR_REGION_VEC(child, size_t);
	struct weir_region_writer text = WEIR_REGION_WRITER(child);
	size_t length;
	char *string;

	for (size_t i = 0; i < 4000; i++) {
		size_t *number = weir_region_vec_push(&numbers);

		CHECK_NOT_NULL(number);
		*number = i;
		CHECK(weir_region_writer_add(&text, "ab", 2));
		if (i != 1000)
			continue;
		weir_region_merge(parent, child);
		numbers.region = text.region = parent;
	}
	for (size_t i = 0; i < 4000; i++)
		CHECK_EQ(((size_t *)numbers.data)[i], i);
	string = weir_region_writer_finish(&text, &length);
	CHECK_NOT_NULL(string);
	CHECK_EQ(length, 8000);
	CHECK_EQ(strlen(string), 8000);
	CHECK(weir_region_check(parent));
	weir_region_destroy(parent);
}

TEST(empty_vectors_have_no_array)
{
	struct weir_region *region = create(NULL);
	struct weir_region_vec vec = WEIR_REGION_VEC(region, int);
	size_t count = 1;

	CHECK_NULL(weir_region_vec_pop(&vec));
	CHECK_NULL(weir_region_vec_finish(&vec, &count));
	CHECK_EQ(count, 0);
	CHECK_NOT_NULL(weir_region_vec_push_many(&vec, 0));
	CHECK_EQ(vec.count, 0);
	CHECK_NULL(weir_region_vec_finish(&vec, &count));
	weir_region_vec_abandon(&vec);
	weir_region_destroy(region);
}

/* ---- joined strings --------------------------------------------------------- */

TEST(strings_are_joined)
{
	struct weir_region *region = create(NULL);

	CHECK_STR(weir_region_strcat(region, (const char *)NULL), "");
	CHECK_STR(weir_region_strcat(region, "", "", (const char *)NULL), "");
	CHECK_STR(weir_region_strcat(
		      region, "/srv", "/", "index.html", (const char *)NULL),
	    "/srv/index.html");
	weir_region_destroy(region);
	region = create(&(struct weir_region_config){.limit_bytes = 1024});
	CHECK_NULL(
	    weir_region_strcat(region, weir_region_printf(region, "%0600d", 1),
		weir_region_printf(region, "%0100d", 1), (const char *)NULL));
	weir_region_destroy(region);
}
