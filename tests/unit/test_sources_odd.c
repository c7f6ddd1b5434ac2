/* SPDX-License-Identifier: MIT */
/*
 * test_sources_odd.c - page sources that give little, or the wrong memory, and
 * what may be taken back of those that take nothing back.
 */
#include "pages_common.h"

#include "pages/extent.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <weir/weir.h>

#define PAGE_64K ((size_t)64 << 10)

static WEIRI_ALIGNED(1 << 16) char range[8 * 1024 * 1024];

static void
use_range(char *base, size_t bytes, unsigned flags, uint64_t limit)
{
	use_source(&(struct weir_page_source){.kind = WEIR_SOURCE_RANGE,
		       .base = base,
		       .bytes = bytes,
		       .flags = flags},
	    limit);
}

/* Within one page of the system there is none that lies wholly in the range. */
TEST(range_within_a_large_page_of_the_system_is_used_and_left_alone)
{
	struct weiri_span span = span_of_tag(0);

	weiri_os_set_page_bytes(PAGE_64K);
	use_range(range + WEIRI_PAGE, 4 * WEIRI_PAGE,
	    WEIR_SOURCE_NO_DUMP | WEIR_SOURCE_PREFAULT, UINT64_MAX);
	CHECK_EQ(weiri_span_alloc(&span, WEIRI_PAGE, WEIRI_PAGE), 0);
	CHECK(span.base >= range + WEIRI_PAGE);
	CHECK(span.base < range + 5 * WEIRI_PAGE);
	check_conserved();
	weiri_span_free(&span);
	check_conserved();
}

TEST(range_across_large_pages_of_the_system_keeps_its_ends)
{
	struct weiri_span span = span_of_tag(0);

	weiri_os_set_page_bytes(PAGE_64K);
	range[0] = range[5 * PAGE_64K - 1] = 7;
	use_range(range + WEIRI_PAGE, 5 * PAGE_64K - 2 * WEIRI_PAGE,
	    WEIR_SOURCE_NO_DUMP, UINT64_MAX);
	CHECK_EQ(weiri_span_alloc(&span, PAGE_64K, WEIRI_PAGE), 0);
	memset(span.base, 1, span.bytes);
	weiri_span_free(&span);
	(void)weiri_pages_trim();
	CHECK_EQ(range[0], 7);
	CHECK_EQ(range[5 * PAGE_64K - 1], 7);
	check_conserved();
}

/* The budget ends before the first border that a part of a range may end at. */
TEST(range_of_which_the_budget_pays_nothing_is_refused)
{
	struct weiri_span span = span_of_tag(0);

	use_range(range + WEIRI_PAGE, sizeof(range) - WEIRI_PAGE,
	    WEIR_SOURCE_PREFAULT, 300 * KIB);
	for (unsigned i = 0; i < 3; i++)
		CHECK_EQ(
		    weiri_span_alloc(&span, 400 * KIB, WEIRI_PAGE), -ENOMEM);
	check_conserved();
}

TEST(huge_pages_beyond_the_limit_are_not_asked_for)
{
	struct weiri_span span = span_of_tag(0);

	use_source(
	    &(struct weir_page_source){.kind = WEIR_SOURCE_HUGE}, 512 * KIB);
	CHECK_EQ(weiri_span_alloc(&span, MIB, WEIRI_PAGE), -ENOMEM);
	check_conserved();
}

TEST(huge_pages_that_nothing_stands_in_for_are_refused)
{
	struct weiri_span span = span_of_tag(0);

	use_source(
	    &(struct weir_page_source){.kind = WEIR_SOURCE_HUGE}, UINT64_MAX);
	weiri_os_fail_nth(1, true);
	CHECK_EQ(weiri_span_alloc(&span, MIB, WEIRI_PAGE), -ENOMEM);
	weiri_os_fail_nth(0, false);
	CHECK_EQ(weiri_span_alloc(&span, MIB, WEIRI_PAGE), 0);
	weiri_span_free(&span);
	check_conserved();
}

/* ---- functions of the program ---------------------------------------------- */

static char *custom_next;
static size_t custom_shift, custom_given;

static void *
custom_take(void *context, size_t bytes, size_t align)
{
	(void)context;
	(void)bytes;
	(void)align;
	return custom_next != NULL ? custom_next + custom_shift : NULL;
}

static void
custom_give(void *context, void *address, size_t bytes)
{
	(void)context;
	(void)bytes;
	CHECK_PTR(address, custom_next + custom_shift);
	custom_given++;
}

static void
use_custom(bool gives)
{
	custom_next = mmap(NULL, 64 * MIB, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	CHECK(custom_next != MAP_FAILED);
	custom_next = (char *)weiri_round_up((uintptr_t)custom_next, 2 * MIB);
	use_source(&(struct weir_page_source){.kind = WEIR_SOURCE_CUSTOM,
		       .take = custom_take,
		       .give = gives ? custom_give : NULL},
	    UINT64_MAX);
}

TEST(custom_memory_at_a_wrong_place_goes_back_if_it_can)
{
	struct weiri_span span = span_of_tag(0);

	use_custom(true);
	custom_shift = WEIRI_PAGE;
	CHECK_EQ(weiri_span_alloc(&span, WEIRI_PAGE, WEIRI_PAGE), -ENOMEM);
	CHECK_GT(custom_given, 0);
	custom_shift = 0;
	CHECK_EQ(weiri_span_alloc(&span, WEIRI_PAGE, WEIRI_PAGE), 0);
	weiri_span_free(&span);
	check_conserved();
}

TEST(custom_memory_at_a_wrong_place_that_cannot_go_back_is_lost)
{
	struct weiri_span span = span_of_tag(0);

	use_custom(false);
	custom_shift = WEIRI_PAGE;
	CHECK_EQ(weiri_span_alloc(&span, WEIRI_PAGE, WEIRI_PAGE), -ENOMEM);
	custom_shift = 0;
	CHECK_EQ(weiri_span_alloc(&span, WEIRI_PAGE, WEIRI_PAGE), 0);
	weiri_span_free(&span);
	CHECK_EQ(custom_given, 0);
	check_conserved();
}

/* Above what a 47-bit address space has; nothing may be read there. */
TEST(custom_memory_beyond_the_page_map_is_refused)
{
	struct weiri_span span = span_of_tag(0);

	use_custom(true);
	custom_next = (char *)(UINT64_C(1) << 50);
	CHECK_EQ(weiri_span_alloc(&span, WEIRI_PAGE, WEIRI_PAGE), -ENOMEM);
	CHECK_GT(custom_given, 0);
	check_conserved();
}

/* ---- what is taken back ------------------------------------------------------ */

/* All that a supply may try to give back, in small steps and whole. */
static void
give_back(void)
{
	for (unsigned i = 0; i < 50 && weiri_pages_purge(UINT64_MAX / 2, 0);
	     i++)
		;
	weiri_pages_owe(2 * MIB, 0);
	(void)weiri_pages_settle();
	(void)weiri_pages_trim();
	(void)weir_trim();
}

/* Spans in several extents, of which every other one is free again. */
static struct weiri_span held[12];

static void
hold(size_t bytes)
{
	for (size_t i = 0; i < WEIRI_COUNT_OF(held); i++) {
		held[i] = span_of_tag(0);
		if (weiri_span_alloc(&held[i], bytes, WEIRI_PAGE) != 0)
			held[i].base = NULL;
		else
			memset(held[i].base, 1, bytes);
	}
	for (size_t i = 0; i < WEIRI_COUNT_OF(held); i += 2)
		if (held[i].base != NULL)
			weiri_span_free(&held[i]);
}

static void
let_go(void)
{
	for (size_t i = 1; i < WEIRI_COUNT_OF(held); i += 2)
		if (held[i].base != NULL) {
			CHECK_EQ(held[i].base[0], 1);
			weiri_span_free(&held[i]);
		}
}

static void
hold_and_give_back(void)
{
	hold(300 * KIB);
	give_back();
	check_conserved();
	for (size_t i = 1; i < WEIRI_COUNT_OF(held); i += 2)
		if (held[i].base != NULL)
			(void)weiri_span_void(
			    &held[i], 4 * WEIRI_PAGE, 16 * WEIRI_PAGE);
	check_conserved();
	let_go();
	give_back();
	check_conserved();
}

TEST(sources_that_keep_everything_lose_nothing_to_those_that_ask)
{
	use_range(range + 3 * WEIRI_PAGE, sizeof(range) - 3 * WEIRI_PAGE, 0,
	    UINT64_MAX);
	hold_and_give_back();
}

TEST(memory_that_is_never_trimmed_is_there_for_the_next)
{
	use_source(&(struct weir_page_source){.flags = WEIR_SOURCE_NO_TRIM},
	    UINT64_MAX);
	hold_and_give_back();
}

TEST(resident_memory_goes_back_whole_or_not_at_all)
{
	use_source(&(struct weir_page_source){.flags = WEIR_SOURCE_PREFAULT},
	    UINT64_MAX);
	hold_and_give_back();
}

TEST(memory_of_large_system_pages_goes_back_in_whole_ones)
{
	weiri_os_set_page_bytes(PAGE_64K);
	use_source(&(struct weir_page_source){0}, UINT64_MAX);
	hold_and_give_back();
}

/* The child of a fork leaves alone what it shares with its parent. */
TEST(child_gives_back_nothing_of_a_shared_file)
{
	int status;
	pid_t child;

	use_source(
	    &(struct weir_page_source){.kind = WEIR_SOURCE_MEMFD}, UINT64_MAX);
	hold(300 * KIB);
	child = fork();
	CHECK_NE(child, -1);
	if (child == 0) {
		struct weiri_span span = span_of_tag(0);

		give_back();
		CHECK(!weiri_span_void(
		    &held[1], 4 * WEIRI_PAGE, 16 * WEIRI_PAGE));
		CHECK_EQ(weiri_span_alloc(&span, 5 * MIB, WEIRI_PAGE), 0);
		memset(span.base, 2, 5 * MIB);
		check_conserved();
		weiri_span_free(&span);
		give_back();
		check_conserved();
		_exit(0);
	}
	CHECK_EQ(waitpid(child, &status, 0), child);
	CHECK_EQ(status, 0);
	let_go();
	give_back();
	check_conserved();
}
