/* SPDX-License-Identifier: MIT */
/*
 * test_pages_fail.c - the page supply when the system refuses: the n-th call
 * for every n, a process that starts without memory, a small address space.
 */
#include "pages_common.h"

#include <sys/resource.h>

/* ---- failure of the system --------------------------------------------- */

/* Spans, records and an over-aligned span; true when all were granted. */
static bool
scenario(void)
{
	struct weiri_span spans[4] = {
	    span_of_tag(1), span_of_tag(2), span_of_tag(3), span_of_tag(4)};
	const size_t bytes[4] = {WEIRI_PAGE, 5 * MIB, 100 * KIB, 66 * MIB};
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

static void
sweep(bool persistent)
{
	uint64_t reserved, metadata;
	size_t granted = 0, refused = 0, space, space_after, resident;

	/* Warm: records that stay for good are there. */
	CHECK(scenario());
	(void)weiri_pages_trim();
	reserved = read_stats().bytes_reserved;
	metadata = read_stats().bytes_metadata;
	weiri_os_fail_nth(0, false);
	CHECK(scenario());

	int64_t calls = weiri_os_calls();

	CHECK_GT(calls, 4);
	(void)weiri_pages_trim();
	read_statm(&space, &resident);
	for (int64_t n = 1; n <= calls + 1; n++) {
		(void)weiri_pages_trim();
		weiri_os_fail_nth(n, persistent);
		if (scenario())
			granted++;
		else
			refused++;
		weiri_os_fail_nth(0, false);
		check_conserved();
		(void)weiri_pages_trim();
		CHECK_EQ(read_stats().bytes_reserved, reserved);
		CHECK_EQ(read_stats().bytes_in_spans, 0);
		CHECK_EQ(read_stats().bytes_metadata, metadata);
		CHECK_EQ(read_stats().bytes_charged, metadata);
		CHECK(scenario());
	}
	CHECK_GT(granted, 0);
	if (persistent)
		CHECK_GT(refused, 0);
	/* No mapping was forgotten either; the tools map what they like. */
	(void)weiri_pages_trim();
	read_statm(&space_after, &resident);
	if (!TEST_ASAN && !TEST_TSAN && !test_under_valgrind())
		CHECK_LE(space_after, space + 64 * KIB);
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

TEST(works_in_a_small_address_space)
{
	static struct weiri_span spans[4096];
	size_t count = 0, space, resident;

	if (TEST_ASAN || TEST_TSAN || test_under_valgrind())
		SKIP("the tool needs the address space");
	read_statm(&space, &resident);

	struct rlimit limit = {space + 48 * MIB, space + 48 * MIB};

	CHECK_EQ(setrlimit(RLIMIT_AS, &limit), 0);
	while (count < WEIRI_COUNT_OF(spans)) {
		spans[count] = span_of_tag(0);
		if (weiri_span_alloc(&spans[count], 64 * KIB, 64 * KIB) != 0)
			break;
		memset(spans[count].base, 1, spans[count].bytes);
		count++;
	}
	CHECK_LT(count, WEIRI_COUNT_OF(spans));
	/* The supply does not give up while half of the space is free. */
	CHECK_GE(count * 64 * KIB, 32 * MIB);
	check_conserved();
	for (size_t i = 0; i < count; i++)
		weiri_span_free(&spans[i]);
	(void)weiri_pages_trim();
	CHECK_EQ(read_stats().bytes_reserved, 0);
	check_conserved();
}
