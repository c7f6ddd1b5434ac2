/* SPDX-License-Identifier: MIT */
/*
 * test_pages_fail.c - the page supply when the system refuses: the n-th call
 * for every n, a process that starts without memory, a small address space, and
 * a system that does not take memory back.
 */
#include "pages_common.h"

#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>

/* ---- failure of the system --------------------------------------------- */

/* Beyond 64 MiB an extent goes back as soon as it is free. */
static size_t scenario_large_bytes = 66 * MIB;

/* Spans, records and an over-aligned span; true when all were granted. */
static bool
scenario(void)
{
	struct weiri_span spans[4] = {
	    span_of_tag(1), span_of_tag(2), span_of_tag(3), span_of_tag(4)};
	const size_t bytes[4] = {
	    WEIRI_PAGE, 5 * MIB, 100 * KIB, scenario_large_bytes};
	bool got[4], all = true;
	void *record = weiri_meta_alloc(200 * KIB);

	for (size_t i = 0; i < 4; i++) {
		int error = weiri_span_alloc(
		    &spans[i], bytes[i], i == 2 ? 8 * MIB : WEIRI_PAGE);

		CHECK(error == 0 || error == -ENOMEM);
		got[i] = error == 0;
		all = all && got[i];
		if (got[i]) {
			spans[i].base[0] = 1;
			spans[i].base[spans[i].bytes - 1] = 1;
		}
	}
	CHECK(weiri_pages_check());
	for (size_t i = 0; i < 4; i++)
		if (got[i])
			weiri_span_free(&spans[i]);
	weiri_meta_free(record, 200 * KIB);
	return all && record != NULL;
}

struct sweep {
	bool persistent;
	int64_t calls; /* of a scenario that nothing happens to */
	size_t granted, refused;
};

static void
sweep_step(struct sweep *sweep, int64_t n)
{
	(void)weiri_pages_trim();
	weiri_os_fail_nth(n, sweep->persistent);
	if (scenario())
		sweep->granted++;
	else
		sweep->refused++;
	weiri_os_fail_nth(0, false);
	check_conserved();
	(void)weiri_pages_trim();
	CHECK_EQ(read_stats().bytes_reserved, 0);
	CHECK_EQ(read_stats().bytes_in_spans, 0);
	CHECK_EQ(read_stats().bytes_charged, read_stats().bytes_metadata);
}

static void
sweep(bool persistent)
{
	/* The tool takes its time for each mapping of 66 MiB. */
	const int64_t step = test_under_valgrind() ? 5 : 1;
	struct sweep s = {.persistent = persistent};
	uint64_t metadata, space;

	CHECK(scenario());
	(void)weiri_pages_trim();
	weiri_os_fail_nth(0, false);
	CHECK(scenario());
	s.calls = weiri_os_calls();
	CHECK_GT(s.calls, 4);
	/* Once for the records that stay for good: a failure may lead to other
	 * extents, with records of other sizes, than it goes without. */
	for (int64_t n = 1; n <= s.calls + 1; n += step)
		sweep_step(&s, n);
	metadata = read_stats().bytes_metadata;
	space = test_mapped_bytes();
	for (int64_t n = 1; n <= s.calls + 1; n += step) {
		sweep_step(&s, n);
		CHECK_EQ(read_stats().bytes_metadata, metadata);
		CHECK(scenario());
	}
	CHECK_GT(s.granted, 0);
	if (persistent)
		CHECK_GT(s.refused, 0);
	/* No mapping was forgotten either; the tools map what they like. */
	(void)weiri_pages_trim();
	if (test_owns_memory())
		CHECK_LE(test_mapped_bytes(), space + 64 * KIB);
}

TEST(nothing_is_lost_when_the_nth_system_call_fails)
{
	sweep(false);
}

TEST(nothing_is_lost_when_all_system_calls_from_the_nth_fail)
{
	sweep(true);
}

TEST(nothing_is_lost_when_prefaulted_extents_fail)
{
	use_source(&(struct weir_page_source){.flags = WEIR_SOURCE_PREFAULT},
	    UINT64_MAX);
	scenario_large_bytes = 9 * MIB; /* all of it is brought in each time */
	sweep(false);
}

TEST(first_use_of_a_process_without_memory_fails_cleanly)
{
	struct weiri_span span = span_of_tag(0);
	bool done = false;

	for (int64_t n = 1; !done; n++) {
		CHECK_LT(n, 20);
		weiri_os_fail_nth(n, true);
		done = weiri_span_alloc(&span, WEIRI_PAGE, WEIRI_PAGE) == 0;
		weiri_os_fail_nth(0, false);
		check_conserved();
	}
	weiri_span_free(&span);
}

/* Allocates until the system refuses, and gives all back: the bytes. */
static size_t
fill_what_there_is(void)
{
	static struct weiri_span spans[1024];
	size_t count = 0;

	while (count < WEIRI_COUNT_OF(spans)) {
		spans[count] = span_of_tag(0);
		if (weiri_span_alloc(&spans[count], 64 * KIB, 64 * KIB) != 0)
			break;
		memset(spans[count].base, 1, spans[count].bytes);
		count++;
	}
	CHECK_LT(count, WEIRI_COUNT_OF(spans));
	check_conserved();
	for (size_t i = 0; i < count; i++)
		weiri_span_free(&spans[i]);
	(void)weiri_pages_trim();
	CHECK_EQ(read_stats().bytes_reserved, 0);
	check_conserved();
	return count * 64 * KIB;
}

TEST(works_in_a_small_address_space)
{
	uint64_t space;

	if (!test_owns_memory())
		SKIP("the tool needs the address space");
	space = test_mapped_bytes();

	struct rlimit limit = {space + 48 * MIB, space + 48 * MIB};

	CHECK_EQ(setrlimit(RLIMIT_AS, &limit), 0);
	/* The supply does not give up while half of the space is free. */
	CHECK_GE(fill_what_there_is(), 32 * MIB);
}

/* As under a strict overcommit rule: to reserve is free, to commit is not. */
TEST(works_where_commit_is_limited)
{
	size_t data = 0;
	char line[128];
	FILE *status = fopen("/proc/self/status", "r");

	if (TEST_ASAN || TEST_TSAN || test_under_valgrind())
		SKIP("the tool needs the memory");
	if (status == NULL)
		SKIP("no /proc/self/status");
	while (fgets(line, sizeof(line), status) != NULL)
		(void)sscanf(line, "VmData: %zu", &data);
	CHECK_EQ(fclose(status), 0);
	CHECK_GT(data, 0);

	struct rlimit limit = {data * KIB + 40 * MIB, data * KIB + 40 * MIB};

	CHECK_EQ(setrlimit(RLIMIT_DATA, &limit), 0);
	/* Extents were 2, 2, 4, 8 and 16 MiB; then what could be had. */
	CHECK_GE(fill_what_there_is(), 34 * MIB);
}

static uint64_t
growth_when_call_fails(int64_t n)
{
	struct weiri_span span = span_of_tag(0);
	uint64_t before = read_stats().bytes_reserved;

	weiri_os_fail_nth(n, false);
	CHECK_EQ(weiri_span_alloc(&span, 2 * MIB, 2 * MIB), 0);
	weiri_os_fail_nth(0, false);
	check_conserved();

	uint64_t growth = read_stats().bytes_reserved - before;

	weiri_span_free(&span);
	(void)weiri_pages_trim();
	CHECK_EQ(read_stats().bytes_reserved, before);
	return growth;
}

TEST(growth_falls_back_to_half_when_the_system_refuses)
{
	struct weiri_span span = span_of_tag(0);

	CHECK_EQ(weiri_span_alloc(&span, 16 * MIB, WEIRI_PAGE), 0);
	CHECK_EQ(read_stats().bytes_reserved, 16 * MIB);
	CHECK_EQ(growth_when_call_fails(0), 16 * MIB);
	CHECK_EQ(growth_when_call_fails(1), 8 * MIB); /* the reservation */
	CHECK_EQ(growth_when_call_fails(2), 8 * MIB); /* the commit */
	weiri_span_free(&span);
}

/* ---- what the system does not take back -------------------------------- */

static void
alloc_painted(struct weiri_span *span, size_t bytes)
{
	*span = span_of_tag(0);
	CHECK_EQ(weiri_span_alloc(span, bytes, WEIRI_PAGE), 0);
	for (size_t at = 0; at < bytes; at += WEIRI_PAGE) {
		if (span->zeroed)
			CHECK(reads_zero(span->base + at, 64));
		memset(span->base + at, 0xa5, 64);
	}
}

static void
check_all_gone(void)
{
	(void)weiri_pages_trim();
	CHECK_EQ(read_stats().bytes_reserved, 0);
	CHECK_EQ(read_stats().bytes_charged, read_stats().bytes_metadata);
	check_conserved();
}

/*
 * Beyond 64 MiB an extent goes back as soon as it is free, with these calls: a
 * decommit of its part of the page map, or two where it lies in two leaves; its
 * release; its decommit if that is refused.
 */
enum large_call { LARGE_MAP, LARGE_RELEASE, LARGE_DECOMMIT };

#define LARGE_BYTES (70 * MIB)

static int64_t
large_call(const struct weiri_span *span, enum large_call call)
{
	uintptr_t first = (uintptr_t)span->base;
	uintptr_t last = first + LARGE_BYTES - 1;
	bool two =
	    first >> WEIRI_MAP_LEAF_SHIFT != last >> WEIRI_MAP_LEAF_SHIFT;

	return 1 + (int64_t)call + (two && call > LARGE_MAP);
}

static void
alloc_large(struct weiri_span *span)
{
	/* Whatever comes first in a process has been done after one turn. */
	alloc_painted(span, LARGE_BYTES);
	weiri_span_free(span);
	CHECK_EQ(read_stats().bytes_reserved, 0);
	alloc_painted(span, LARGE_BYTES);
}

TEST(extent_the_system_will_not_unmap_is_emptied_kept_and_used_again)
{
	struct weiri_span span;
	size_t bytes = LARGE_BYTES;

	alloc_large(&span);

	char *base = span.base;

	weiri_os_fail_nth(large_call(&span, LARGE_RELEASE), false);
	weiri_span_free(&span);
	CHECK_EQ(read_stats().bytes_reserved, bytes);
	CHECK_EQ(read_stats().bytes_retained, 0);
	check_conserved();
	CHECK_NULL(weiri_span_of(base));

	/* Without asking the system for anything. */
	weiri_os_fail_nth(0, false);
	alloc_painted(&span, bytes);
	CHECK_EQ(weiri_os_calls(), 0);
	CHECK_PTR(span.base, base);
	CHECK_EQ(read_stats().bytes_reserved, bytes);
	check_conserved();
	weiri_span_free(&span);
	CHECK_EQ(read_stats().bytes_reserved, 0);
	check_conserved();
}

TEST(extent_the_system_will_not_even_empty_stays_charged)
{
	struct weiri_span span, small;
	size_t bytes = LARGE_BYTES;

	alloc_large(&span);
	weiri_os_fail_nth(large_call(&span, LARGE_RELEASE), true);
	weiri_span_free(&span);
	CHECK_GE(weiri_os_calls(), large_call(&span, LARGE_DECOMMIT));
	CHECK_EQ(read_stats().bytes_reserved, bytes);
	CHECK_EQ(read_stats().bytes_retained, bytes);
	CHECK_GE(read_stats().bytes_charged, bytes);
	check_conserved();
	CHECK_EQ(trim_retained(), 0);
	CHECK_EQ(read_stats().bytes_retained, bytes);
	check_conserved();
	/* What is charged anyway serves smaller requests, dirty as it is. */
	alloc_painted(&small, MIB);
	CHECK_EQ(read_stats().bytes_reserved, bytes);
	check_conserved();
	weiri_os_fail_nth(0, false);
	weiri_span_free(&small);
	check_all_gone();
}

TEST(extent_whose_page_map_stays_in_memory_stays_in_the_supply)
{
	struct weiri_span span;
	size_t bytes = LARGE_BYTES;

	alloc_large(&span);
	weiri_os_fail_nth(large_call(&span, LARGE_MAP), false);
	weiri_span_free(&span);
	CHECK_EQ(weiri_os_calls(), large_call(&span, LARGE_MAP));
	CHECK_EQ(read_stats().bytes_reserved, bytes);
	CHECK_EQ(read_stats().bytes_retained, bytes);
	check_conserved();
	alloc_painted(&span, MIB);
	CHECK_EQ(read_stats().bytes_reserved, bytes);
	weiri_span_free(&span);
	check_all_gone();
}

TEST(trim_that_is_refused_reports_and_loses_nothing)
{
	struct weiri_span keep, span;

	alloc_painted(&keep, WEIRI_PAGE);
	alloc_painted(&span, MIB);
	weiri_span_free(&span);
	weiri_os_fail_nth(1, true);
	CHECK_EQ(trim_retained(), 0);
	CHECK_EQ(read_stats().bytes_retained, MIB);
	check_conserved();
	weiri_os_fail_nth(0, false);
	CHECK_EQ(trim_retained(), MIB);
	CHECK_EQ(read_stats().bytes_retained, 0);
	weiri_span_free(&keep);
	check_all_gone();
}

TEST(record_the_system_will_not_unmap_stays_charged_and_is_used_again)
{
	size_t bytes = 300 * KIB;
	char *record = weiri_meta_alloc(bytes);
	uint64_t charged = read_stats().bytes_metadata;

	CHECK_NOT_NULL(record);
	memset(record, 0xa5, bytes);
	weiri_os_fail_nth(1, true);
	weiri_meta_free(record, bytes);
	CHECK_EQ(read_stats().bytes_metadata, charged);
	check_conserved();
	CHECK_PTR(weiri_meta_alloc(bytes), record);
	CHECK(reads_zero(record, bytes));
	CHECK_EQ(read_stats().bytes_metadata, charged);
	weiri_meta_free(record, bytes);
	CHECK_EQ(trim_retained(), 0);
	weiri_os_fail_nth(0, false);
	CHECK_GE(weiri_pages_trim(), bytes);
	CHECK_LE(read_stats().bytes_metadata + bytes, charged);
	check_conserved();
}

/*
 * Makes one mapping after the other until the system has enough of them
 * (vm.max_map_count): pages of alternate protection, which it cannot join.
 */
static void
use_up_mappings(char *filler, size_t bytes)
{
	size_t page = weiri_os_page_bytes();

	for (size_t at = 0; at + page <= bytes; at += 2 * page)
		if (weiri_os_protect(filler + at, page, WEIRI_OS_READ) != 0)
			return;
	SKIP("more mappings than this test makes");
}

/* Which spans lie in the mapping that holds most of them, as a set of bits. */
static uint32_t
joined_spans(const struct weiri_span *spans, size_t count)
{
	char line[512];
	unsigned long from, to;
	uint32_t most = 0;
	FILE *maps = fopen("/proc/self/maps", "r");

	if (maps == NULL)
		SKIP("no /proc/self/maps");
	while (fgets(line, sizeof(line), maps) != NULL) {
		uint32_t in = 0;

		if (sscanf(line, "%lx-%lx", &from, &to) != 2)
			continue;
		for (size_t i = 0; i < count; i++)
			if (from <= (uintptr_t)spans[i].base &&
			    (uintptr_t)spans[i].base < to)
				in |= UINT32_C(1) << i;
		if (__builtin_popcount(in) > __builtin_popcount(most))
			most = in;
	}
	CHECK_EQ(fclose(maps), 0);
	return most;
}

/* Extents lie side by side, and the system joins them into one mapping: to give
 * back one in the middle makes two of it, when there may be no more. */
TEST(nothing_is_lost_where_the_system_has_no_mapping_left)
{
	enum { SPANS = 31 };
	static struct weiri_span spans[SPANS];
	char *filler = weiri_os_reserve(600 * MIB, MIB);
	size_t page = weiri_os_page_bytes(), low = SPANS, high = SPANS;
	size_t between = 0;
	char *probe = weiri_os_reserve(3 * page, page);
	uint32_t joined;

	if (TEST_ASAN || TEST_TSAN || test_under_valgrind())
		SKIP("the tool needs mappings");
	CHECK_NOT_NULL(filler);
	CHECK_NOT_NULL(probe);
	CHECK_EQ(weiri_os_commit(probe, 3 * page), 0);
	for (size_t i = 0; i < SPANS; i++)
		alloc_painted(&spans[i], 2 * MIB);
	/* The ends of one mapping stay, and all between them goes; what is in
	 * another would set a mapping free, and the next could be cut. */
	joined = joined_spans(spans, SPANS);
	for (size_t i = 0; i < SPANS; i++) {
		if ((joined >> i & 1) == 0)
			continue;
		between += spans[i].bytes;
		if (low == SPANS || spans[i].base < spans[low].base)
			low = i;
		if (high == SPANS || spans[i].base > spans[high].base)
			high = i;
	}
	if (between < 12 * MIB)
		SKIP("the system did not join the mappings");
	joined &= ~(UINT32_C(1) << low | UINT32_C(1) << high);
	use_up_mappings(filler, 600 * MIB);
	for (size_t i = 0; i < SPANS; i++)
		if ((joined >> i & 1) != 0)
			weiri_span_free(&spans[i]);
	(void)weiri_pages_trim();
	/* What could not be unmapped is still there, and was emptied where that
	 * takes no mapping. */
	CHECK_GE(read_stats().bytes_reserved, between);
	if (weiri_os_decommit(probe + page, page) == 0)
		CHECK_EQ(read_stats().bytes_retained, 0);
	check_conserved();
	weiri_os_fail_nth(0, false);
	for (size_t i = 0; i < SPANS; i++)
		if ((joined >> i & 1) != 0)
			alloc_painted(&spans[i], MIB);
	check_conserved();
	CHECK_EQ(weiri_os_release(filler, 600 * MIB), 0);
	for (size_t i = 0; i < SPANS; i++) {
		CHECK_EQ(
		    spans[i].base[spans[i].bytes - WEIRI_PAGE], (char)0xa5);
		weiri_span_free(&spans[i]);
	}
	check_all_gone();
}
