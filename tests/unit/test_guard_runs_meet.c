/* SPDX-License-Identifier: MIT */
/*
 * test_guard_runs_meet.c - runs and ranges under guard, in the middle of calls
 * that another thread makes: a mode that changes, a pool that ends, a thread that
 * the guard never met.
 */
#include "support/refuse.h"
#include "support/test.h"

#include "guard/arena.h"
#include "guard/fault.h"
#include "guard/runs.h"
#include "guard/space.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <weir/weir.h>

#define UNITS ((size_t)4096)

static void
guard(enum weir_guard_mode mode, uint32_t rate)
{
	struct weir_guard_config config = {.mode = mode, .sample_rate = rate};

	CHECK_EQ(weir_guard_set(&config), 0);
}

static struct weiri_guard_pool pool;
static struct weiri_runs runs;

static struct weiri_runs_due
begin(void *base)
{
	struct weiri_runs_due due;

	weiri_guard_enter(&pool, "buddy", "ports");
	weiri_runs_init(&runs, &pool, UNITS, base, 4096);
	do
		due = weiri_runs_due(&runs);
	while (due.sites == 0);
	return due;
}

static void
end(void)
{
	weiri_guard_leave(&pool);
	weiri_runs_finish(&runs);
}

static char *
map_pages(void)
{
	char *pages = mmap(NULL, UNITS * 4096, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(pages != MAP_FAILED);
	return pages;
}

/* ---- modes ------------------------------------------------------------------- */

static unsigned taken;

static void
take_one(void *context)
{
	const struct weiri_runs_due *due = context;

	if (taken++ > 0)
		return;
	weiri_runs_follow(&runs);
	weiri_runs_take(&runs, 8, 4, *due, true);
}

static struct {
	size_t count;
	char json[4096];
} told;

static void
hear(const struct weir_fault *fault, void *context)
{
	(void)context;
	told.count++;
	snprintf(told.json, sizeof(told.json), "%s", fault->json);
}

/* The rate is another already, and what it needs is about to be made. */
TEST(run_is_taken_while_another_thread_changes_the_rate)
{
	struct weiri_runs_due due;

	NOT_UNDER_GUARD("another rate was in force before");
	guard(WEIR_GUARD_SAMPLE, 2);
	due = begin(NULL);
	test_step_in(TEST_CALL_MMAP, take_one, &due);
	guard(WEIR_GUARD_SAMPLE, 1);
	test_step_in(TEST_CALL_MMAP, NULL, NULL);
	CHECK_GT(taken, 0);
	CHECK_EQ(weiri_runs_state(&runs, 8), WEIRI_RUNS_LIVE);
	weiri_runs_rest(&runs, 8);
	weir_guard_set_hook(hear, NULL);
	CHECK_EQ(weir_guard_set_policy(WEIR_FAULT_COUNT, WEIR_GUARD_GO_ON), 0);
	CHECK(weiri_runs_tell(&runs, 8,
	    (struct weiri_fault_site){.fault_class = WEIR_FAULT_DOUBLE_FREE,
		.pool_kind = "buddy",
		.pool_name = "ports",
		.detail = "unit 8 is free: its run ended by %s"}));
	CHECK_CONTAINS(told.json, "\"object\":{\"first\":8,\"units\":4,");
	CHECK_CONTAINS(told.json, "\"taken\":{\"thread\":");
	end();
}

/* Mode off has a rate, too, for which nothing was made. */
static uint64_t
turn_off(void)
{
	guard(WEIR_GUARD_OFF, 1);
	return UINT64_MAX / 2;
}

TEST(run_that_was_due_in_a_mode_that_is_over_is_like_any_other)
{
	struct weiri_runs_due due;

	NOT_UNDER_GUARD("another mode was in force before");
	guard(WEIR_GUARD_SAMPLE, 0);
	weiri_guard_enter(&pool, "buddy", "pages");
	weiri_runs_init(&runs, &pool, UNITS, map_pages(), 4096);
	weiri_guard_clock = turn_off;
	do
		due = weiri_runs_due(&runs);
	while (weiri_guard_mode(&pool) != WEIR_GUARD_OFF);
	weiri_guard_clock = NULL;
	CHECK_EQ(due.sites, 0);
	CHECK(!weiri_runs_trap(&runs));
	end();
}

TEST(range_that_was_due_in_a_mode_that_is_over_is_like_any_other)
{
	char *base = map_pages();

	NOT_UNDER_GUARD("another mode was in force before");
	guard(WEIR_GUARD_SAMPLE, 0);
	weiri_guard_enter(&pool, "region", "range");
	weiri_guard_clock = turn_off;
	CHECK_NULL(weiri_arena_begin(&pool, base, 4096));
	weiri_guard_clock = NULL;
	CHECK_EQ(weiri_guard_mode(&pool), WEIR_GUARD_OFF);
	weiri_guard_leave(&pool);
}

/* ---- ends ---------------------------------------------------------------------- */

static bool over;

/* As the handler of a fault does, which may come at any moment. */
static void *
look(void *address)
{
	struct weiri_guarded view;

	while (!__atomic_load_n(&over, __ATOMIC_ACQUIRE))
		if (weiri_arena_view(address, &view))
			CHECK_LE(view.bytes, UNITS * 4096);
	return NULL;
}

TEST(runs_end_while_a_handler_looks_at_them)
{
	struct weir_buddy_config config = {.unit_count = UNITS,
	    .base = map_pages(),
	    .unit_bytes = 4096,
	    .flags = WEIR_BUDDY_TRAP};
	size_t rounds = test_count(300);
	struct weir_buddy *buddy;
	pthread_t thread;

	if (TEST_TSAN)
		SKIP("what a handler reads may be torn");
	guard(WEIR_GUARD_FULL, 0);
	/* Far from what is known, so that it looks for long. */
	CHECK_EQ(pthread_create(&thread, NULL, look,
		     (char *)config.base + (UNITS - 1) * 4096),
	    0);
	for (size_t i = 0; i < rounds; i++) {
		CHECK_EQ(weir_buddy_create("pages", &config, &buddy), 0);
		weir_buddy_free(buddy, weir_buddy_alloc(buddy, 3));
		weir_buddy_destroy(buddy);
	}
	__atomic_store_n(&over, true, __ATOMIC_RELEASE);
	CHECK_EQ(pthread_join(thread, NULL), 0);
}

/* ---- threads ------------------------------------------------------------------- */

static struct weir_buddy *ports;
static size_t port;
static unsigned met;

/* What the system is asked may take memory, and have anything run. */
static void
use_the_buddy(void *context)
{
	(void)context;
	met++;
	CHECK_EQ(weir_buddy_run(ports, port), 2);
}

static void *
give_back(void *context)
{
	test_step_in(TEST_CALL_GETATTR, use_the_buddy, context);
	weir_buddy_free(ports, port);
	test_step_in(TEST_CALL_GETATTR, NULL, NULL);
	return NULL;
}

TEST(thread_that_the_guard_never_met_frees_a_run)
{
	struct weir_buddy_config config = {.unit_count = UNITS};
	pthread_t thread;

	guard(WEIR_GUARD_FULL, 0);
	CHECK_EQ(weir_buddy_create("ports", &config, &ports), 0);
	port = weir_buddy_alloc(ports, 2);
	CHECK_EQ(pthread_create(&thread, NULL, give_back, NULL), 0);
	CHECK_EQ(pthread_join(thread, NULL), 0);
	CHECK_EQ(met, 1);
	CHECK_EQ(weir_buddy_run(ports, port), 0);
	weir_buddy_destroy(ports);
}
