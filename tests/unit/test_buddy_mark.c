/* SPDX-License-Identifier: MIT */
/*
 * test_buddy_mark.c - writes to free units of a buddy, without any guard: those
 * that are told, and all that is no bug and must not be.
 */
#include "test.h"

#include <weir/buddy.h>
#include <weir/guard.h>

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE ((size_t)4096)

/* What is under guard traps at the write. */
#define NEEDS_MARKS() NOT_UNDER_GUARD("a free unit that is written to traps")

#define WRITTEN "weir: FAULT corruption: buddy \"pages\": the free unit "

static char *
map_pages(size_t count)
{
	char *pages = mmap(NULL, count * PAGE, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(pages != MAP_FAILED);
	return pages;
}

static struct weir_buddy_config
config_of(size_t count)
{
	return (struct weir_buddy_config){.unit_count = count,
	    .base = map_pages(count),
	    .unit_bytes = PAGE,
	    .flags = WEIR_BUDDY_TRAP};
}

static struct weir_buddy *
buddy_of_pages(size_t count)
{
	struct weir_buddy_config config = config_of(count);
	struct weir_buddy *buddy;

	CHECK_EQ(weir_buddy_create("pages", &config, &buddy), 0);
	return buddy;
}

static void
write_to(struct weir_buddy *buddy, size_t unit, uint64_t value)
{
	*(volatile uint64_t *)weir_buddy_address(buddy, unit) = value;
}

/* ---- what is told ------------------------------------------------------------- */

TEST(a_write_after_the_free_is_told_by_the_next_alloc)
{
	struct weir_buddy *buddy = buddy_of_pages(64);
	size_t run = weir_buddy_alloc(buddy, 4);

	NEEDS_MARKS();
	write_to(buddy, run, 1);
	weir_buddy_free(buddy, run);
	write_to(buddy, run, 2);
	CHECK(!weir_buddy_check(buddy));
	EXPECT_ABORT(WRITTEN "0 at 0x", { (void)!weir_buddy_alloc(buddy, 1); });
	EXPECT_ABORT(WRITTEN "0 at 0x", { weir_buddy_destroy(buddy); });
	/* As if nothing had been. */
	write_to(buddy, run, 0);
	CHECK(weir_buddy_check(buddy));
	weir_buddy_destroy(buddy);
}

/* It was zero, which stays, and a mark need not be there. */
TEST(a_write_to_what_was_never_written_is_told)
{
	struct weir_buddy *buddy = buddy_of_pages(64);
	size_t run = weir_buddy_alloc(buddy, 4);

	NEEDS_MARKS();
	weir_buddy_free(buddy, run);
	CHECK_EQ(*(uint64_t *)weir_buddy_address(buddy, run), 0);
	write_to(buddy, run, 2);
	EXPECT_ABORT(WRITTEN "0 at 0x", { (void)!weir_buddy_alloc(buddy, 4); });
	write_to(buddy, run, 0);
	weir_buddy_destroy(buddy);
}

/* Whatever the run that has the unit next is like, and where in it the unit is. */
TEST(a_write_is_told_of_any_unit_of_the_next_run)
{
	enum { UNITS = 512 };
	static const size_t at[] = {0, 1, 63, 64, 65, 127, 128, 300, 511};
	struct weir_buddy *buddy = buddy_of_pages(UNITS);
	size_t runs[UNITS];
	char text[80];

	NEEDS_MARKS();
	for (size_t i = 0; i < UNITS; i++) {
		runs[i] = weir_buddy_alloc(buddy, 1);
		write_to(buddy, runs[i], i + 1);
	}
	for (size_t i = 0; i < UNITS; i++)
		weir_buddy_free(buddy, runs[i]);
	for (size_t i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
		(void)snprintf(text, sizeof(text), WRITTEN "%zu at 0x", at[i]);
		EXPECT_ABORT(text, {
			write_to(buddy, at[i], 99);
			(void)!weir_buddy_alloc(buddy, UNITS);
		});
		EXPECT_ABORT(text, {
			write_to(buddy, at[i], 99);
			(void)!weir_buddy_alloc(buddy, UNITS / 2);
			(void)weir_buddy_resize(buddy, 0, UNITS);
		});
		EXPECT_ABORT(text, {
			write_to(buddy, at[i], 99);
			weir_buddy_destroy(buddy);
		});
	}
	weir_buddy_destroy(buddy);
}

TEST(a_write_behind_a_shorter_run_is_told)
{
	struct weir_buddy *buddy = buddy_of_pages(64);
	size_t run = weir_buddy_alloc(buddy, 8);

	NEEDS_MARKS();
	memset(weir_buddy_address(buddy, run), 'a', 8 * PAGE);
	CHECK_EQ(weir_buddy_resize(buddy, run, 3), 0);
	memset(weir_buddy_address(buddy, run), 'b', 3 * PAGE);
	EXPECT_ABORT(WRITTEN "3 at 0x", {
		memset(weir_buddy_address(buddy, run), 'b', 3 * PAGE + 1);
		(void)weir_buddy_resize(buddy, run, 4);
	});
	CHECK_EQ(weir_buddy_resize(buddy, run, 8), 0);
	memset(weir_buddy_address(buddy, run), 'c', 8 * PAGE);
	weir_buddy_free(buddy, run);
	weir_buddy_destroy(buddy);
}

TEST(in_the_callers_storage_it_is_told_as_well)
{
	size_t bytes = weir_buddy_storage_bytes(100);
	struct weir_buddy_config config = config_of(100);
	char *storage = malloc(bytes + 16);
	struct weir_buddy *buddy;
	size_t run;

	CHECK_NOT_NULL(storage);
	memset(storage, 0xa5, bytes + 16);
	CHECK_EQ(weir_buddy_init(storage, bytes, "pages", &config, &buddy), 0);
	run = weir_buddy_alloc(buddy, 99);
	CHECK_EQ(weir_buddy_resize(buddy, run, 98), 0);
	write_to(buddy, 98, 1);
	EXPECT_ABORT(
	    WRITTEN "98 at 0x", { (void)weir_buddy_resize(buddy, run, 100); });
	weir_buddy_free(buddy, run);
	EXPECT_ABORT(WRITTEN "98 at 0x", { weir_buddy_finish(buddy); });
	write_to(buddy, 98, 0);
	weir_buddy_finish(buddy);
	for (size_t i = bytes; i < bytes + 16; i++)
		CHECK_EQ((unsigned char)storage[i], 0xa5);
	free(storage);
}

static jmp_buf over;

static void
leave(const struct weir_fault *fault, void *context)
{
	(void)fault;
	(void)context;
	longjmp(over, 1);
}

/* Whoever has no number of it cannot use it. */
TEST(who_goes_on_after_the_report_has_a_run_less)
{
	struct weir_buddy *buddy = buddy_of_pages(64);
	volatile size_t run = weir_buddy_alloc(buddy, 64);

	NEEDS_MARKS();
	weir_buddy_free(buddy, run);
	write_to(buddy, run, 2);
	weir_guard_set_hook(leave, NULL);
	if (setjmp(over) == 0) {
		(void)!weir_buddy_alloc(buddy, 4);
		CHECK(false);
	}
	CHECK_EQ(weir_buddy_run(buddy, run), 4);
	/* It is told once. */
	CHECK(weir_buddy_check(buddy));
	write_to(buddy, run, 3);
	weir_buddy_free(buddy, run);
	weir_guard_set_hook(NULL, NULL);
	run = weir_buddy_alloc(buddy, 64);
	CHECK_EQ(run, 0);
	weir_buddy_free(buddy, run);
	weir_buddy_destroy(buddy);
}

/* ---- what is no bug ----------------------------------------------------------- */

TEST(what_the_owner_wrote_before_and_what_the_system_cleared_is_no_bug)
{
	struct weir_buddy_config config = config_of(64);
	struct weir_buddy *buddy;
	size_t runs[2];

	memset(config.base, 'x', 64 * PAGE);
	CHECK_EQ(weir_buddy_create("pages", &config, &buddy), 0);
	runs[0] = weir_buddy_alloc(buddy, 16);
	runs[1] = weir_buddy_alloc(buddy, 16);
	weir_buddy_free(buddy, runs[0]);
	/* Given back to the system, before the free and after. */
	CHECK_EQ(madvise(weir_buddy_address(buddy, runs[0]), 16 * PAGE,
		     MADV_DONTNEED),
	    0);
	CHECK_EQ(madvise(weir_buddy_address(buddy, runs[1]), 16 * PAGE,
		     MADV_DONTNEED),
	    0);
	weir_buddy_free(buddy, runs[1]);
	CHECK(weir_buddy_check(buddy));
	runs[0] = weir_buddy_alloc(buddy, 64);
	CHECK_EQ(runs[0], 0);
	weir_buddy_free(buddy, runs[0]);
	weir_buddy_destroy(buddy);
}

/* Of units that are not said to be pages nothing is touched. */
TEST(units_that_may_be_anything_are_left_alone)
{
	struct weir_buddy_config config = config_of(64);
	char *pages = config.base;
	struct weir_buddy *buddy;

	config.flags = 0;
	memset(pages, 'x', 64 * PAGE);
	CHECK_EQ(mprotect(pages, 64 * PAGE, PROT_NONE), 0);
	CHECK_EQ(weir_buddy_create("pages", &config, &buddy), 0);
	weir_buddy_free(buddy, weir_buddy_alloc(buddy, 4));
	weir_buddy_free(buddy, weir_buddy_alloc(buddy, 64));
	CHECK(weir_buddy_check(buddy));
	weir_buddy_destroy(buddy);
	CHECK_EQ(mprotect(pages, 64 * PAGE, PROT_READ), 0);
	for (size_t i = 0; i < 64 * PAGE; i++)
		CHECK_EQ(pages[i], 'x');
}

/* Kilobytes that the system holds for a mapping's start; -1: not known. */
static long
resident_kib(const char *start)
{
	FILE *file = fopen("/proc/self/smaps", "r");
	char line[256], want[32];
	bool in = false;
	long kib = -1;

	if (file == NULL)
		return -1;
	(void)snprintf(want, sizeof(want), "%lx-", (unsigned long)start);
	while (kib < 0 && fgets(line, sizeof(line), file) != NULL) {
		if (strncmp(line, want, strlen(want)) == 0)
			in = true;
		else if (in && strncmp(line, "Rss:", 4) == 0)
			kib = strtol(line + 4, NULL, 10);
	}
	(void)fclose(file);
	return kib;
}

/* The mapping has borders of its own, so that it is found. */
TEST(pages_that_nobody_wrote_take_no_memory)
{
	enum { UNITS = 1024 };
	char *pages = map_pages(UNITS + 2) + PAGE;
	struct weir_buddy_config config = {.unit_count = UNITS,
	    .base = pages,
	    .unit_bytes = PAGE,
	    .flags = WEIR_BUDDY_TRAP};
	struct weir_buddy *buddy;
	unsigned char in_memory;
	size_t runs[UNITS];

	CHECK_EQ(mprotect(pages - PAGE, PAGE, PROT_NONE), 0);
	CHECK_EQ(mprotect(pages + UNITS * PAGE, PAGE, PROT_NONE), 0);
	if (resident_kib(pages) != 0)
		SKIP("the system does not tell what a mapping takes");
	CHECK_EQ(weir_buddy_create("pages", &config, &buddy), 0);
	/* The large first: nothing of it is even looked at. */
	weir_buddy_free(buddy, weir_buddy_alloc(buddy, UNITS));
	CHECK_EQ(mincore(pages, PAGE, &in_memory), 0);
	CHECK_EQ(in_memory & 1, 0);
	for (size_t i = 0; i < UNITS; i++)
		runs[i] = weir_buddy_alloc(buddy, 1);
	for (size_t i = 0; i < UNITS; i++)
		weir_buddy_free(buddy, runs[i]);
	CHECK(weir_buddy_check(buddy));
	CHECK_EQ(resident_kib(pages), 0);
	weir_buddy_destroy(buddy);
	CHECK_EQ(resident_kib(pages), 0);
}

/* Runs of all kinds, each written over whole, given back in any order, made longer
 * and shorter; and at the end one write where there may be none. */
TEST(among_many_runs_the_one_bad_write_is_told_and_nothing_else)
{
	enum { UNITS = 1000, RUNS = 100 };
	struct weir_buddy *buddy = buddy_of_pages(UNITS);
	struct {
		size_t first, count;
	} run[RUNS] = {{0, 0}};
	size_t steps = test_count(5000), last = WEIR_BUDDY_NONE;
	struct test_rng rng;

	NEEDS_MARKS();
	test_rng_init(&rng, test_seed());
	for (size_t i = 0; i < steps; i++) {
		size_t at = test_rand_below(&rng, RUNS);
		size_t count = test_rand_below(&rng, 8) != 0
				   ? 1 + test_rand_below(&rng, 8)
				   : 1 + test_rand_below(&rng, 300);

		if (run[at].count == 0) {
			run[at].first = weir_buddy_alloc(buddy, count);
			if (run[at].first == WEIR_BUDDY_NONE)
				continue;
			run[at].count = count;
		} else if (test_rand_below(&rng, 3) != 0) {
			weir_buddy_free(buddy, run[at].first);
			last = run[at].first;
			run[at].count = 0;
			continue;
		} else if (weir_buddy_resize(buddy, run[at].first, count) ==
			   0) {
			run[at].count = count;
		}
		if (test_rand_below(&rng, 4) != 0)
			for (size_t unit = 0; unit < run[at].count; unit++)
				write_to(buddy, run[at].first + unit, i);
		last = WEIR_BUDDY_NONE;
	}
	CHECK(weir_buddy_check(buddy));
	if (last == WEIR_BUDDY_NONE) {
		last = weir_buddy_alloc(buddy, 1);
		if (last != WEIR_BUDDY_NONE)
			weir_buddy_free(buddy, last);
	}
	for (size_t i = 0; i < RUNS; i++)
		if (run[i].count != 0)
			weir_buddy_free(buddy, run[i].first);
	if (last != WEIR_BUDDY_NONE) {
		EXPECT_ABORT(WRITTEN, {
			write_to(buddy, last, 12345);
			weir_buddy_destroy(buddy);
		});
		EXPECT_ABORT(WRITTEN, {
			write_to(buddy, last, 12345);
			(void)!weir_buddy_alloc(buddy, UNITS);
		});
	}
	weir_buddy_destroy(buddy);
}

/* Whole words of bits are read without the lock, by whose they are. */
static struct weir_buddy *shared;

static void
churn(unsigned index, void *context)
{
	(void)context;
	for (size_t i = 0; i < 500; i++) {
		size_t count = (i * 37 + index) % 200 + 1;
		size_t run = weir_buddy_alloc(shared, count);

		if (run == WEIR_BUDDY_NONE)
			continue;
		for (size_t unit = 0; unit < count; unit += 7)
			write_to(shared, run + unit, i + 1);
		if (i % 3 == 0)
			(void)weir_buddy_resize(
			    shared, run, count / 2 + i % 128 + 1);
		if (i % 64 == 0)
			CHECK(weir_buddy_check(shared));
		weir_buddy_free(shared, run);
	}
}

TEST(threads_share_a_buddy_with_marks)
{
	shared = buddy_of_pages(1000);
	test_threads(4, churn, NULL);
	CHECK(weir_buddy_check(shared));
	CHECK_EQ(weir_buddy_largest(shared), 1000);
	weir_buddy_destroy(shared);
}
