/* SPDX-License-Identifier: MIT */
/*
 * test_guard_runs.c - runs of numbers under guard by themselves: what is said of
 * an address, what is refused, and modes that have nothing for them.
 */
#include "support/test.h"

#include "guard/arena.h"
#include "guard/fault.h"
#include "guard/runs.h"
#include "guard/space.h"
#include "os/os.h"

#include <string.h>
#include <sys/mman.h>
#include <weir/weir.h>

#define PAGE ((size_t)4096)

static struct weiri_guard_pool pool;

static void
guard(enum weir_guard_mode mode, uint32_t rate)
{
	struct weir_guard_config config = {.mode = mode, .sample_rate = rate};

	CHECK_EQ(weir_guard_set(&config), 0);
}

static char *
map_pages(size_t count)
{
	char *pages = mmap(NULL, count * PAGE, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(pages != MAP_FAILED);
	return pages;
}

static struct weiri_runs_due
due_now(struct weiri_runs *runs)
{
	struct weiri_runs_due due;

	do
		due = weiri_runs_due(runs);
	while (due.sites == 0);
	return due;
}

static void
take(struct weiri_runs *runs, size_t first, size_t count)
{
	struct weiri_runs_due due = due_now(runs);

	weiri_runs_follow(runs);
	weiri_runs_take(runs, first, count, due, false);
	CHECK_EQ(weiri_runs_state(runs, first), WEIRI_RUNS_LIVE);
}

static void
rest_and_wake(struct weiri_runs *runs, size_t first)
{
	weiri_runs_rest(runs, first);
	CHECK_EQ(weiri_runs_state(runs, first), WEIRI_RUNS_RESTING);
	CHECK_EQ(weiri_runs_wake(runs, false), first);
	CHECK_EQ(weiri_runs_state(runs, first), WEIRI_RUNS_UNKNOWN);
}

/* ---- what is said of an address ------------------------------------------------ */

static void
see(const char *base, size_t unit, struct weiri_guarded *view)
{
	memset(view, 0, sizeof(*view));
	CHECK(weiri_arena_view(base + unit * PAGE + 100, view));
	CHECK(!view->is_run);
}

/* By number, and by a hash of it, where there are more than a table has room. */
static void
look_at_units(enum weir_guard_mode mode, uint32_t rate, size_t count)
{
	char *base = map_pages(count);
	struct weiri_runs runs;
	struct weiri_guarded view;

	guard(mode, rate);
	weiri_guard_enter(&pool, "buddy", "pages");
	weiri_runs_init(&runs, &pool, count, base, PAGE);
	CHECK(!weiri_arena_view(base, &view));
	take(&runs, 8, 4);
	/* In front of all there was, it is the range that is known. */
	see(base, 2, &view);
	CHECK_EQ(view.state, WEIRI_GUARDED_ENDED);
	CHECK_PTR(view.start, base);
	CHECK_EQ(view.bytes, count * PAGE);
	see(base, 8, &view);
	CHECK_EQ(view.state, WEIRI_GUARDED_LIVE);
	see(base, 11, &view);
	CHECK_PTR(view.start, base + 8 * PAGE);
	CHECK_EQ(view.bytes, 4 * PAGE);
	/* Behind a run that lives it is that one's end that was passed. */
	see(base, count - 1, &view);
	CHECK_EQ(view.state, WEIRI_GUARDED_LIVE);
	CHECK_PTR(view.start, base + 8 * PAGE);
	/* Just before one it is that one's start, where no other is nearer. */
	see(base, 7, &view);
	CHECK_EQ(view.state, WEIRI_GUARDED_LIVE);
	CHECK_PTR(view.start, base + 8 * PAGE);
	take(&runs, 13, 1);
	CHECK(weiri_arena_view(base + 12 * PAGE + 100, &view));
	CHECK_PTR(view.start, base + 8 * PAGE);
	CHECK(weiri_arena_view(base + 13 * PAGE - 100, &view));
	CHECK_PTR(view.start, base + 13 * PAGE);
	rest_and_wake(&runs, 13);
	take(&runs, 20, 2);
	see(base, 21, &view);
	CHECK_PTR(view.start, base + 20 * PAGE);
	rest_and_wake(&runs, 20);
	see(base, 21, &view);
	CHECK_EQ(view.state, WEIRI_GUARDED_ENDED);
	CHECK_PTR(view.start, base + 20 * PAGE);
	/* Behind one that is gone there may have been anything since. */
	see(base, 22, &view);
	CHECK_EQ(view.state, WEIRI_GUARDED_ENDED);
	CHECK_PTR(view.start, base);
	rest_and_wake(&runs, 8);
	weiri_guard_leave(&pool);
	weiri_runs_finish(&runs);
	CHECK(!weiri_arena_view(base, &view));
	memset(base, 1, 32 * PAGE);
}

TEST(address_of_units_leads_to_who_had_them)
{
	look_at_units(WEIR_GUARD_FULL, 0, 64);
}

TEST(address_of_units_leads_to_who_had_them_by_a_hash_too)
{
	NOT_UNDER_GUARD("all are known then");
	look_at_units(WEIR_GUARD_SAMPLE, 2, 8192);
}

/* ---- what is refused -------------------------------------------------------------- */

TEST(runs_without_memory_for_records_are_like_any_others)
{
	struct weir_guard_stats before = {.size = sizeof(before)},
				after = before;
	struct weiri_runs runs;

	guard(WEIR_GUARD_FULL, 0);
	weiri_guard_enter(&pool, "buddy", "ports");
	weiri_runs_init(&runs, &pool, 64, NULL, 0);
	CHECK_EQ(weir_guard_read(&before), 0);
	/* The addresses, then the memory. */
	for (unsigned n = 1; n <= 2; n++) {
		weiri_os_fail_nth(n, false);
		CHECK_EQ(weiri_runs_due(&runs).sites, 0);
		weiri_os_fail_nth(0, false);
		CHECK(!weiri_runs_begun(&runs));
		CHECK_EQ(weiri_runs_state(&runs, 3), WEIRI_RUNS_UNKNOWN);
	}
	CHECK_EQ(weir_guard_read(&after), 0);
	CHECK_EQ(after.refused, before.refused + 2);
	take(&runs, 3, 1);
	CHECK_EQ(weiri_runs_state(&runs, 64), WEIRI_RUNS_UNKNOWN);
	CHECK(!weiri_runs_tell(&runs, 3, (struct weiri_fault_site){0}));
	CHECK(!weiri_runs_tell(&runs, 4, (struct weiri_fault_site){0}));
	weiri_guard_leave(&pool);
	weiri_runs_finish(&runs);
}

TEST(runs_without_memory_for_a_larger_table_stay_few)
{
	struct weiri_runs runs;

	NOT_UNDER_GUARD("all are known then");
	guard(WEIR_GUARD_SAMPLE, 2);
	weiri_guard_enter(&pool, "buddy", "ports");
	weiri_runs_init(&runs, &pool, 8192, NULL, 0);
	take(&runs, 3, 1);
	guard(WEIR_GUARD_FULL, 0);
	weiri_os_fail_nth(1, false);
	CHECK_GT(weiri_runs_due(&runs).sites, 0);
	weiri_os_fail_nth(0, false);
	CHECK_NULL(runs.larger);
	weiri_runs_follow(&runs);
	CHECK_EQ(weiri_runs_state(&runs, 3), WEIRI_RUNS_LIVE);
	/* There is, the next time. */
	take(&runs, 8191, 1);
	CHECK_NOT_NULL(runs.outgrown);
	CHECK_EQ(weiri_runs_state(&runs, 3), WEIRI_RUNS_LIVE);
	rest_and_wake(&runs, 3);
	weiri_guard_leave(&pool);
	weiri_runs_finish(&runs);
}

/* One that was made and never moved into goes with the pool. */
TEST(table_that_nothing_moved_to_ends_with_the_pool)
{
	struct weiri_runs runs;

	NOT_UNDER_GUARD("all are known then");
	guard(WEIR_GUARD_SAMPLE, 2);
	weiri_guard_enter(&pool, "buddy", "ports");
	weiri_runs_init(&runs, &pool, 8192, NULL, 0);
	take(&runs, 3, 1);
	guard(WEIR_GUARD_FULL, 0);
	CHECK_GT(weiri_runs_due(&runs).sites, 0);
	CHECK_GT(weiri_runs_due(&runs).sites, 0);
	CHECK_NOT_NULL(runs.larger);
	weiri_guard_leave(&pool);
	weiri_runs_finish(&runs);
	CHECK(!weiri_runs_begun(&runs));
}

/* More ranges than are kept apart: those beyond trap nowhere, and work. */
TEST(ranges_beyond_the_table_do_not_trap)
{
	enum { RANGES = 80 };
	static struct weiri_runs runs[RANGES];
	char *base = map_pages(RANGES);
	unsigned trapping = 0;

	guard(WEIR_GUARD_FULL, 0);
	weiri_guard_enter(&pool, "buddy", "pages");
	for (size_t i = 0; i < RANGES; i++) {
		weiri_runs_init(&runs[i], &pool, 1, base + i * PAGE, PAGE);
		take(&runs[i], 0, 1);
		base[i * PAGE] = 1;
		trapping += weiri_runs_trap(&runs[i]);
		weiri_runs_rest(&runs[i], 0);
	}
	CHECK_GE(trapping, 32);
	CHECK_LT(trapping, RANGES);
	weiri_guard_leave(&pool);
	for (size_t i = 0; i < RANGES; i++)
		weiri_runs_finish(&runs[i]);
	memset(base, 2, RANGES * PAGE);
}

/* What cannot be opened alone is opened with all around it. */
TEST(units_that_are_taken_can_be_used_whatever_is_refused)
{
	char *base = map_pages(16);
	struct weiri_runs runs;
	struct weiri_runs_due due;

	guard(WEIR_GUARD_FULL, 0);
	weiri_guard_enter(&pool, "buddy", "pages");
	weiri_runs_init(&runs, &pool, 16, base, PAGE);
	due = due_now(&runs);
	weiri_runs_follow(&runs);
	weiri_runs_take(&runs, 0, 4, due, true);
	memset(base, 1, 4 * PAGE);
	weiri_runs_follow(&runs);
	weiri_os_fail_nth(1, false);
	weiri_runs_take(&runs, 4, 4, due, false);
	weiri_os_fail_nth(0, false);
	memset(base + 4 * PAGE, 2, 4 * PAGE);
	/* As long as it is, and as short. */
	weiri_runs_resize(&runs, 4, 4, 4);
	weiri_guard_leave(&pool);
	weiri_runs_finish(&runs);
}

/* ---- modes ------------------------------------------------------------------------ */

TEST(mode_tool_has_the_tool_told_and_the_menu_nothing)
{
	char *base = map_pages(16);
	struct weiri_runs runs;

	guard(WEIR_GUARD_TOOL, 0);
	weiri_guard_enter(&pool, "buddy", "pages");
	weiri_runs_init(&runs, &pool, 16, base, PAGE);
	take(&runs, 0, 4);
	CHECK(runs.forbids);
	CHECK_NULL(runs.arena);
	weiri_runs_rest(&runs, 0);
	CHECK_EQ(weiri_runs_wake(&runs, true), WEIRI_RUNS_NONE);
	guard(WEIR_GUARD_OFF, 0);
	CHECK_EQ(weir_debug_set("poison"), 0);
	CHECK_EQ(weiri_runs_due(&runs).sites, 0);
	weiri_runs_follow(&runs);
	CHECK(!runs.forbids);
	CHECK_EQ(weiri_runs_wake(&runs, true), 0);
	CHECK_EQ(weiri_runs_wake(&runs, true), WEIRI_RUNS_NONE);
	memset(base, 1, 16 * PAGE);
	CHECK_EQ(weir_debug_set(NULL), 0);
	weiri_guard_leave(&pool);
	weiri_runs_finish(&runs);
}

/* It was due, and is out, before the mode was turned off. */
TEST(run_that_is_taken_in_mode_off_is_not_known)
{
	struct weiri_runs runs;
	struct weiri_runs_due due;

	guard(WEIR_GUARD_FULL, 0);
	weiri_guard_enter(&pool, "buddy", "ports");
	weiri_runs_init(&runs, &pool, 16, NULL, 0);
	due = due_now(&runs);
	guard(WEIR_GUARD_OFF, 0);
	weiri_runs_follow(&runs);
	weiri_runs_take(&runs, 3, 2, due, true);
	CHECK_EQ(weiri_runs_state(&runs, 3), WEIRI_RUNS_UNKNOWN);
	weiri_guard_leave(&pool);
	weiri_runs_finish(&runs);
}
