/* SPDX-License-Identifier: MIT */
/*
 * test_pages.c - the page supply: spans, page map, metadata, trim.
 */
#include "pages_common.h"

#include "os/guard.h"
#include "pages/extent.h"

#include <stdlib.h>
#include <sys/mman.h>

#include <weir/buddy.h>

/* ---- spans ------------------------------------------------------------- */

TEST(span_has_size_alignment_and_zeroes_as_asked)
{
	const size_t bytes[] = {0, 1, 4096, 4097, 65536, 3 * MIB, 70 * MIB};

	for (size_t i = 0; i < WEIRI_COUNT_OF(bytes); i++) {
		for (size_t align = WEIRI_PAGE; align <= 16 * MIB; align *= 4) {
			struct weiri_span span = span_of_tag(1);

			CHECK_EQ(weiri_span_alloc(&span, bytes[i], align), 0);
			CHECK_EQ((uintptr_t)span.base % align, 0);
			CHECK_EQ(span.bytes,
			    weiri_round_up(
				bytes[i] > 0 ? bytes[i] : 1, WEIRI_PAGE));
			if (span.zeroed)
				CHECK(reads_zero(span.base, WEIRI_PAGE));
			span.base[0] = 1;
			span.base[span.bytes - 1] = 1;
			CHECK(weiri_pages_check());
			weiri_span_free(&span);
		}
	}
	check_conserved();
}

TEST(span_says_zeroed_only_until_the_pages_were_used)
{
	struct weiri_span span = span_of_tag(0);

	CHECK_EQ(weiri_span_alloc(&span, 64 * KIB, WEIRI_PAGE), 0);
	CHECK(span.zeroed);
	CHECK(reads_zero(span.base, span.bytes));
	memset(span.base, 0xa5, span.bytes);
	weiri_span_free(&span);

	/* Newest first: the same pages come back. */
	CHECK_EQ(weiri_span_alloc(&span, 64 * KIB, WEIRI_PAGE), 0);
	CHECK(!span.zeroed);
	weiri_span_free(&span);
	CHECK_GT(weiri_pages_trim(), 0);
	CHECK_EQ(weiri_span_alloc(&span, 64 * KIB, WEIRI_PAGE), 0);
	CHECK(span.zeroed);
	CHECK(reads_zero(span.base, span.bytes));
	weiri_span_free(&span);
}

TEST(span_decommitted_in_part_reads_zero_again)
{
	struct weiri_span keep = span_of_tag(0), span = span_of_tag(0);

	CHECK_EQ(weiri_span_alloc(&keep, WEIRI_PAGE, WEIRI_PAGE), 0);
	CHECK_EQ(weiri_span_alloc(&span, MIB, WEIRI_PAGE), 0);
	memset(keep.base, 0x11, keep.bytes);
	memset(span.base, 0xa5, span.bytes);
	weiri_span_free(&span);
	CHECK_EQ(trim_retained(), MIB);
	check_conserved();
	CHECK_EQ(read_stats().bytes_retained, 0);
	CHECK_EQ(weiri_span_alloc(&span, MIB, WEIRI_PAGE), 0);
	CHECK(span.zeroed);
	CHECK(reads_zero(span.base, span.bytes));
	CHECK_EQ(keep.base[100], 0x11);
	weiri_span_free(&span);
	weiri_span_free(&keep);
}

TEST(span_resize_keeps_the_place_and_the_map)
{
	struct weiri_span span = span_of_tag(7), next = span_of_tag(8);

	CHECK_EQ(weiri_span_alloc(&span, 8 * WEIRI_PAGE, WEIRI_PAGE), 0);

	char *base = span.base;

	memset(base, 1, span.bytes);
	CHECK_EQ(weiri_span_resize(&span, 3 * WEIRI_PAGE), 0);
	CHECK_EQ(span.bytes, 3 * WEIRI_PAGE);
	CHECK_PTR(span.base, base);
	CHECK_NULL(weiri_span_of(base + 3 * WEIRI_PAGE));
	CHECK_PTR(weiri_span_of(base + 3 * WEIRI_PAGE - 1), &span);
	CHECK_EQ(read_stats().bytes_retained, 5 * WEIRI_PAGE);
	check_conserved();

	CHECK_EQ(weiri_span_resize(&span, 5 * WEIRI_PAGE + 1), 0);
	CHECK_EQ(span.bytes, 6 * WEIRI_PAGE);
	CHECK_PTR(weiri_span_of(base + 5 * WEIRI_PAGE), &span);
	check_conserved();

	/* The two free pages behind are taken: no more growth. */
	CHECK_EQ(weiri_span_alloc(&next, 2 * WEIRI_PAGE, WEIRI_PAGE), 0);
	CHECK_PTR(next.base, base + 6 * WEIRI_PAGE);
	CHECK_EQ(weiri_span_resize(&span, 7 * WEIRI_PAGE), -ENOMEM);
	CHECK_EQ(weiri_span_resize(&span, SIZE_MAX), -ENOMEM);
	CHECK_EQ(span.bytes, 6 * WEIRI_PAGE);
	check_conserved();
	weiri_span_free(&next);
	CHECK_EQ(weiri_budget_set(read_stats().bytes_charged, UINT64_MAX), 0);
	/* Room behind, but no budget for a fresh page. */
	CHECK_EQ(weiri_span_resize(&span, 9 * WEIRI_PAGE), -ENOMEM);
	CHECK_EQ(weiri_span_resize(&span, 8 * WEIRI_PAGE), 0);
	check_conserved();
	weiri_span_free(&span);
}

TEST(span_of_absurd_size_fails_and_is_counted)
{
	struct weiri_span span = span_of_tag(0);

	CHECK_EQ(weiri_span_alloc(&span, SIZE_MAX, WEIRI_PAGE), -ENOMEM);
	CHECK_EQ(weiri_span_alloc(&span, (size_t)1 << 46, WEIRI_PAGE), -ENOMEM);
	CHECK_EQ(weiri_span_alloc(&span, 1, (size_t)1 << 46), -ENOMEM);
	CHECK_EQ(read_stats().failures, 3);
	check_conserved();
}

TEST(one_wholly_free_extent_is_kept_and_trim_takes_it)
{
	struct weiri_span spans[6];

	for (size_t i = 0; i < WEIRI_COUNT_OF(spans); i++) {
		spans[i] = span_of_tag(0);
		CHECK_EQ(weiri_span_alloc(&spans[i], 4 * MIB, WEIRI_PAGE), 0);
	}

	uint64_t full = read_stats().bytes_reserved;

	CHECK_GE(full, 24 * MIB);
	for (size_t i = 0; i < WEIRI_COUNT_OF(spans); i++)
		weiri_span_free(&spans[i]);
	CHECK_GT(read_stats().bytes_reserved, 0);
	CHECK_LT(read_stats().bytes_reserved, full);
	check_conserved();
	(void)weiri_pages_trim();
	CHECK_EQ(read_stats().bytes_reserved, 0);
	CHECK_EQ(read_stats().bytes_retained, 0);
	check_conserved();
}

static bool
is_mapped(char *page)
{
	unsigned char in_memory;

	return mincore(page, 1, &in_memory) == 0;
}

/* The second lies below the first, where the system has its way. */
TEST(behind_a_span_that_has_a_mapping_of_its_own_any_access_traps)
{
	struct weiri_span first = span_of_tag(1), second = span_of_tag(1);
	char byte, *behind;

	CHECK_EQ(weiri_span_alloc(&first, 66 * MIB, WEIRI_PAGE), 0);
	CHECK_EQ(weiri_span_alloc(&second, 66 * MIB, WEIRI_PAGE), 0);
	behind = second.base + second.bytes;
	if (!weiri_os_peek(behind - 1, &byte, 1))
		SKIP("the system reads no memory on request");
	CHECK(!weiri_os_peek(behind, &byte, 1));
	CHECK(!weiri_os_peek(first.base + first.bytes, &byte, 1));
	CHECK(is_mapped(behind + 2 * MIB - WEIRI_PAGE));
	/* Address space: neither reserved memory nor charged. */
	CHECK_EQ(read_stats().bytes_reserved, 132 * MIB);
	CHECK(weiri_pages_check());
	weiri_span_free(&second);
	if (!test_under_valgrind()) {
		CHECK(!is_mapped(behind - WEIRI_PAGE));
		CHECK(!is_mapped(behind));
		CHECK(!is_mapped(behind + 2 * MIB - WEIRI_PAGE));
	}
	weiri_span_free(&first);
	check_conserved();
}

TEST(trim_gives_memory_back_to_the_system)
{
	struct weiri_span keep = span_of_tag(0), span = span_of_tag(0);
	uint64_t before, used, after;

	if (test_under_valgrind())
		SKIP("valgrind's memory is not the program's");
	CHECK_EQ(weiri_span_alloc(&keep, WEIRI_PAGE, WEIRI_PAGE), 0);
	before = test_resident_bytes();
	CHECK_EQ(weiri_span_alloc(&span, 32 * MIB, WEIRI_PAGE), 0);
	memset(span.base, 1, span.bytes);
	used = test_resident_bytes();
	CHECK_GE(used, before + 31 * MIB);
	weiri_span_free(&span);
	CHECK_GE(trim_retained(), 32 * MIB);
	after = test_resident_bytes();
	CHECK_LE(after, used - 31 * MIB);
	weiri_span_free(&keep);
}

/* Pages in memory, wholly within [base, base + bytes). */
static size_t
resident_pages(const void *base, size_t bytes)
{
	uintptr_t at = weiri_round_up((uintptr_t)base, WEIRI_PAGE);
	uintptr_t end = ((uintptr_t)base + bytes) & ~(WEIRI_PAGE - 1);
	unsigned char resident;
	size_t pages = 0;

	for (; at < end; at += WEIRI_PAGE) {
		CHECK_EQ(mincore((void *)at, WEIRI_PAGE, &resident), 0);
		pages += resident & 1;
	}
	return pages;
}

static size_t
resident_links(const struct weiri_extent *extent)
{
	return resident_pages(extent->buddy.link,
	    extent->buddy.unit_count * sizeof(*extent->buddy.link));
}

/* Of the page map. */
static size_t
resident_map(const struct weiri_extent *extent)
{
	uintptr_t at = (uintptr_t)extent->block.base;
	uintptr_t end = at + extent->block.bytes;
	size_t pages = 0;

	for (; at < end; at += WEIRI_EXTENT_ALIGN) {
		size_t entry = at >> WEIRI_PAGE_SHIFT;

		pages +=
		    resident_pages(weiri_map_root[at >> WEIRI_MAP_LEAF_SHIFT] +
				       (entry & (WEIRI_MAP_LEAF_COUNT - 1)),
			WEIRI_PAGE);
	}
	return pages;
}

#define SPARSE_SPANS 64 /* of 2 MiB */

TEST(trim_gives_back_what_describes_free_pages)
{
	static struct weiri_span spans[SPARSE_SPANS];
	struct weiri_span *kept = &spans[SPARSE_SPANS - 1];
	const struct weiri_extent *extent;
	size_t links;

	if (weiri_os_page_bytes() != WEIRI_PAGE)
		SKIP("larger pages stay");
	for (size_t i = 0; i < SPARSE_SPANS; i++) {
		spans[i] = span_of_tag(1);
		CHECK_EQ(weiri_span_alloc(&spans[i], 2 * MIB, WEIRI_PAGE), 0);
	}
	extent = kept->extent;
	CHECK_GE(extent->block.bytes, 32 * MIB);
	links = resident_links(extent);
	CHECK_GE(resident_map(extent), 8);
	CHECK_GE(links, 8);
	for (size_t i = 0; i < SPARSE_SPANS - 1; i++)
		weiri_span_free(&spans[i]);
	(void)weiri_pages_trim();
	/* A page for the span, and a head for each larger block around it. */
	CHECK_EQ(resident_map(extent), 1);
	CHECK_LE(resident_links(extent), links / 2);
	CHECK_PTR(weiri_span_of(kept->base), kept);
	CHECK_PTR(weiri_span_of(kept->base + 2 * MIB - 1), kept);
	check_conserved();
	for (size_t i = 0; i < SPARSE_SPANS - 1; i++)
		CHECK_EQ(weiri_span_alloc(&spans[i], 2 * MIB, WEIRI_PAGE), 0);
	for (size_t i = 0; i < SPARSE_SPANS; i++)
		CHECK_PTR(weiri_span_of(spans[i].base + MIB), &spans[i]);
	check_conserved();
	for (size_t i = 0; i < SPARSE_SPANS; i++)
		weiri_span_free(&spans[i]);
	check_conserved();
}

TEST(charge_follows_touched_pages_not_address_space)
{
	struct weiri_span span = span_of_tag(0);

	CHECK_EQ(weiri_span_alloc(&span, WEIRI_PAGE, WEIRI_PAGE), 0);

	struct weir_stats s = read_stats();

	CHECK_EQ(s.bytes_in_spans, WEIRI_PAGE);
	CHECK_EQ(s.bytes_reserved, 2 * MIB);
	CHECK_LE(s.bytes_charged, 32 * KIB);
	check_conserved();
	weiri_span_free(&span);
}

static struct weir_buddy_orders
read_orders(void)
{
	struct weir_buddy_orders orders = {.size = sizeof(orders)};

	CHECK_EQ(weir_pages_orders_read(&orders), 0);
	return orders;
}

TEST(supply_tells_how_its_free_pages_lie)
{
	enum { SPANS = 512 };
	static struct weiri_span spans[SPANS];
	struct weir_buddy_orders orders = read_orders();

	CHECK_EQ(orders.free_units, 0);
	CHECK_EQ(orders.fragmentation_permille, 0);
	for (size_t i = 0; i < SPANS; i++) {
		spans[i] = span_of_tag(0);
		CHECK_EQ(
		    weiri_span_alloc(&spans[i], WEIRI_PAGE, WEIRI_PAGE), 0);
	}
	CHECK_EQ(read_orders().free_units, 0);
	CHECK_EQ(read_stats().bytes_free, 0);

	/* Every other page of one extent: nothing larger than a page. */
	for (size_t i = 0; i < SPANS; i++)
		if (spans[i].first_page % 2 != 0)
			weiri_span_free(&spans[i]);
	orders = read_orders();
	CHECK_EQ(orders.free_units, SPANS / 2);
	CHECK_EQ(orders.free_blocks[0], SPANS / 2);
	CHECK_EQ(orders.largest_units, 1);
	CHECK_EQ(orders.fragmentation_permille, 996);
	CHECK_EQ(read_stats().bytes_free, SPANS / 2 * WEIRI_PAGE);
	CHECK_EQ(read_stats().bytes_free_largest, WEIRI_PAGE);
	CHECK_EQ(read_stats().fragmentation_permille, 996);

	/* A second extent, untouched but for a page: nearly all in one run. */
	struct weiri_span other = span_of_tag(0);

	CHECK_EQ(weiri_span_alloc(&other, MIB, MIB), 0);
	orders = read_orders();
	CHECK_EQ(orders.free_blocks[8], 1);
	CHECK_EQ(orders.largest_units, 1 + 256);
	CHECK_EQ(orders.fragmentation_permille, 255 * 1000 / 512);
	weiri_span_free(&other);
	for (size_t i = 0; i < SPANS; i++)
		if (spans[i].first_page % 2 == 0)
			weiri_span_free(&spans[i]);
	CHECK_EQ(read_orders().fragmentation_permille, 0);
	check_conserved();
}

static void
churn_run(unsigned index, void *context)
{
	size_t rounds = *(size_t *)context;
	struct weiri_span held[16];
	bool used[16] = {false};
	struct test_rng rng;

	test_rng_init(&rng, test_seed() + index);
	for (size_t i = 0; i < rounds; i++) {
		size_t slot = test_rand_below(&rng, 16);
		struct weiri_span *span = &held[slot];

		if (used[slot]) {
			CHECK_PTR(weiri_span_of(span->base), span);
			CHECK_EQ(span->base[0], (char)index);
			weiri_span_free(span);
			used[slot] = false;
		} else {
			*span = span_of_tag((uint16_t)(index + 1));
			CHECK_EQ(weiri_span_alloc(span,
				     1 + test_rand_below(&rng, 256 * KIB),
				     WEIRI_PAGE << test_rand_below(&rng, 6)),
			    0);
			span->base[0] = (char)index;
			span->base[span->bytes - 1] = (char)index;
			used[slot] = true;
		}
		if (test_rand_below(&rng, 200) == 0)
			(void)weiri_pages_trim();
	}
	for (size_t slot = 0; slot < 16; slot++)
		if (used[slot])
			weiri_span_free(&held[slot]);
}

TEST(spans_of_threads_do_not_mix)
{
	size_t rounds = test_count(5000);

	(void)test_seed();
	test_threads(4, churn_run, &rounds);
	CHECK_EQ(read_stats().bytes_in_spans, 0);
	check_conserved();
}

TEST(extents_grow_no_larger_than_the_budget)
{
	struct weiri_span spans[5];

	CHECK_EQ(weiri_budget_set(11 * MIB, UINT64_MAX), 0);
	for (size_t i = 0; i < WEIRI_COUNT_OF(spans); i++) {
		spans[i] = span_of_tag(0);
		CHECK_EQ(weiri_span_alloc(&spans[i], 2 * MIB, 2 * MIB), 0);
	}
	/* 2 + 2 + 4 and then what still fits, not 8 more. */
	CHECK_LE(read_stats().bytes_reserved, 10 * MIB);
	check_conserved();
	for (size_t i = 0; i < WEIRI_COUNT_OF(spans); i++)
		weiri_span_free(&spans[i]);
}

/* ---- page map ---------------------------------------------------------- */

TEST(page_map_answers_any_pointer)
{
	static char in_data[16];
	int on_stack = 0;
	char *from_malloc = malloc(100);
	struct weiri_span span = span_of_tag(0xbeef), next = span_of_tag(2);
	const uintptr_t nowhere[] = {0, 1, 4095, 4096, UINT64_C(0x7fffffffffff),
	    UINT64_C(0x800000000000), UINT64_C(0xffffffffffff),
	    UINT64_C(0x1000000000000),
	    UINT64_C(0x0100000000000000), /* 57 bits */
	    UINT64_C(0x01ffffffffffffff), UINT64_C(0x8000000000000000),
	    UINT64_C(0xffff800000000000), UINT64_C(0xfffffffffffff000),
	    UINTPTR_MAX};

	/* Before the first use and after. */
	for (int round = 0; round < 2; round++) {
		for (size_t i = 0; i < WEIRI_COUNT_OF(nowhere); i++)
			CHECK_EQ(weiri_page_entry((void *)nowhere[i]), 0);
		CHECK_NULL(weiri_span_of(in_data));
		CHECK_NULL(weiri_span_of(&on_stack));
		CHECK_NULL(weiri_span_of(from_malloc));
		CHECK_NULL(weiri_span_of(&span));
		if (round == 0)
			CHECK_EQ(
			    weiri_span_alloc(&span, 5 * WEIRI_PAGE, WEIRI_PAGE),
			    0);
	}
	CHECK_EQ(weiri_span_alloc(&next, WEIRI_PAGE, WEIRI_PAGE), 0);
	for (size_t at = 0; at < span.bytes; at += 1000) {
		uint64_t entry = weiri_page_entry(span.base + at);

		CHECK_PTR(weiri_entry_span(entry), &span);
		CHECK_EQ(weiri_entry_tag(entry), 0xbeef);
	}
	CHECK_PTR(weiri_span_of(span.base + span.bytes - 1), &span);
	CHECK(weiri_span_of(span.base + span.bytes) != &span);
	CHECK(weiri_span_of(span.base - 1) != &span);

	/* The same low 48 bits with other bits above are another address. */
	CHECK_NULL(
	    weiri_span_of((void *)((uintptr_t)span.base | UINT64_C(1) << 56)));
	CHECK_NULL(weiri_span_of(
	    (void *)((uintptr_t)span.base | UINT64_C(0xffff) << 48)));

	char *stale = span.base;

	weiri_span_free(&span);
	CHECK_NULL(weiri_span_of(stale));
	weiri_span_free(&next);
	(void)weiri_pages_trim();
	CHECK_NULL(weiri_span_of(stale));
	free(from_malloc);
}

TEST(page_map_covers_a_span_across_a_gigabyte)
{
	struct weiri_span span = span_of_tag(3);
	size_t bytes = ((size_t)1 << 30) + 8 * MIB;

	if (TEST_ASAN || TEST_TSAN || test_under_valgrind())
		SKIP("more address space than the tool likes");
	if (weiri_span_alloc(&span, bytes, WEIRI_PAGE) != 0)
		SKIP("no address space for %zu bytes", bytes);
	for (size_t at = 0; at < bytes; at += MIB)
		CHECK_PTR(weiri_span_of(span.base + at), &span);
	CHECK_PTR(weiri_span_of(span.base + bytes - 1), &span);
	check_conserved();
	weiri_span_free(&span);
	/* Beyond 64 MiB nothing is kept. */
	CHECK_EQ(read_stats().bytes_reserved, 0);
	check_conserved();
}

/* ---- metadata ---------------------------------------------------------- */

TEST(metadata_is_zeroed_aligned_and_reused)
{
	char *records[12];
	uint64_t charged = 0;

	for (int round = 0; round < 3; round++) {
		for (size_t i = 0; i < WEIRI_COUNT_OF(records); i++) {
			size_t bytes = (size_t)64 << i;
			size_t align = weiri_min(bytes, 64 * KIB);

			records[i] = weiri_meta_alloc(bytes);
			CHECK_NOT_NULL(records[i]);
			CHECK_EQ((uintptr_t)records[i] % align, 0);
			CHECK(reads_zero(records[i], bytes));
			memset(records[i], 0xff, bytes);
			CHECK_NULL(weiri_span_of(records[i]));
		}
		check_conserved();
		if (round == 0)
			charged = read_stats().bytes_metadata;
		CHECK_EQ(read_stats().bytes_metadata, charged);
		for (size_t i = 0; i < WEIRI_COUNT_OF(records); i++)
			weiri_meta_free(records[i], (size_t)64 << i);
		check_conserved();
	}
	weiri_meta_free(NULL, 64);
	CHECK_NULL(weiri_meta_alloc(SIZE_MAX));
	CHECK_NULL(weiri_meta_alloc(SIZE_MAX / 2));
	check_conserved();
}

TEST(metadata_of_odd_sizes_does_not_overlap)
{
	enum { COUNT = 500 };
	static struct {
		unsigned char *bytes;
		size_t size;
	} record[COUNT];
	struct test_rng rng;

	test_rng_init(&rng, test_seed());
	for (size_t i = 0; i < COUNT; i++) {
		record[i].size = 1 + test_rand_below(&rng, 3000);
		record[i].bytes = weiri_meta_alloc(record[i].size);
		CHECK_NOT_NULL(record[i].bytes);
		memset(record[i].bytes, (int)(i & 0xff), record[i].size);
	}
	for (size_t i = 0; i < COUNT; i++) {
		for (size_t at = 0; at < record[i].size; at++)
			CHECK_EQ(record[i].bytes[at], i & 0xff);
		weiri_meta_free(record[i].bytes, record[i].size);
	}
	check_conserved();
}

TEST(metadata_reuses_the_gap_before_an_aligned_record)
{
	void *small = weiri_meta_alloc(64);
	void *large = weiri_meta_alloc(32 * KIB);
	uint64_t charged = read_stats().bytes_metadata;

	CHECK_NOT_NULL(small);
	CHECK_NOT_NULL(large);
	/* Alignment skipped 30 KiB and more, which serve the next records. */
	for (size_t i = 0; i < 30; i++)
		CHECK_NOT_NULL(weiri_meta_alloc(KIB));
	CHECK_EQ(read_stats().bytes_metadata, charged);
	check_conserved();
}
