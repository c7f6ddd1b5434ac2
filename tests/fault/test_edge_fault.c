/* SPDX-License-Identifier: MIT */
/*
 * test_edge_fault.c - pointers that are no pool at all, faults that are not
 * weir's, more pools than the guard has names for.
 */
#include "test.h"

#include <weir/weir.h>

#include "guard/guard.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- no pool ----------------------------------------------------------------- */

/* Memory that never was one. */
static _Alignas(64) char nothing[64 << 10];

TEST(what_never_was_a_pool_is_told_as_such)
{
	struct weir_cache *cache = (void *)nothing;
	struct weir_heap *heap = (void *)nothing;
	struct weir_buffer_pool *buffers = (void *)nothing;
	struct weir_buddy *buddy = (void *)nothing;
	struct weir_pool_stats stats = {.size = sizeof(stats)};

	EXPECT_ABORT("FAULT foreign-pointer: cache: 0x",
	    { (void)weir_cache_stats(cache, &stats); });
	EXPECT_ABORT("FAULT foreign-pointer: heap: 0x",
	    { (void)weir_heap_stats(heap, &stats); });
	EXPECT_ABORT("FAULT foreign-pointer: buddy: 0x",
	    { (void)!weir_buddy_alloc(buddy, 1); });
	EXPECT_ABORT(
	    "FAULT double-destroy: cache: 0x", { weir_cache_destroy(cache); });
	EXPECT_ABORT(
	    "FAULT double-destroy: heap: 0x", { weir_heap_destroy(heap); });
	EXPECT_ABORT("FAULT double-destroy: buffer: ",
	    { weir_buffer_pool_destroy(buffers); });
	EXPECT_ABORT(
	    "FAULT double-destroy: buddy: 0x", { weir_buddy_destroy(buddy); });
}

/* ---- faults that are the program's ---------------------------------------------- */

static void
full(void)
{
	CHECK_EQ(weir_guard_set(
		     &(struct weir_guard_config){.mode = WEIR_GUARD_FULL}),
	    0);
}

#define NOWHERE ((uintptr_t)16)

static void
touch_nothing(void)
{
	static volatile uintptr_t nowhere = NOWHERE;

	*(volatile char *)nowhere = 1;
}

/* The handler's own words, and that weir says none. */
static void
handle_plainly(int number)
{
	static const char text[] = "the program's own handler\n";

	(void)number;
	if (write(STDERR_FILENO, text, sizeof(text) - 1) < 0)
		_exit(1);
	abort();
}

static void
handle_with_facts(int number, siginfo_t *info, void *context)
{
	(void)context;
	if ((uintptr_t)info->si_addr == NOWHERE)
		handle_plainly(number);
	_exit(1);
}

TEST(a_fault_elsewhere_reaches_the_programs_handler)
{
	struct sigaction action = {.sa_flags = SA_SIGINFO};

	EXPECT_ABORT("the program's own handler\n", {
		(void)signal(SIGSEGV, handle_plainly);
		full();
		touch_nothing();
	});
	action.sa_sigaction = handle_with_facts;
	EXPECT_ABORT("the program's own handler\n", {
		CHECK_EQ(sigaction(SIGSEGV, &action, NULL), 0);
		full();
		touch_nothing();
	});
	/* One that somebody sent has no address. */
	EXPECT_ABORT("the program's own handler\n", {
		(void)signal(SIGSEGV, handle_plainly);
		full();
		(void)raise(SIGSEGV);
	});
}

TEST(a_fault_elsewhere_ends_a_program_without_a_handler_as_ever)
{
	for (int sent = 0; sent < 2; sent++) {
		int status;
		pid_t child = fork();

		CHECK_NE(child, -1);
		if (child == 0) {
			(void)signal(SIGSEGV, SIG_DFL);
			full();
			if (sent)
				(void)raise(SIGSEGV);
			else
				touch_nothing();
			_exit(0);
		}
		CHECK_EQ(waitpid(child, &status, 0), child);
		CHECK(WIFSIGNALED(status));
		CHECK_EQ(WTERMSIG(status), SIGSEGV);
	}
}

/* ---- objects ---------------------------------------------------------------------- */

TEST(accesses_before_an_object_are_told_as_what_they_are)
{
	struct weir_heap *heap;
	volatile char *object;

	full();
	CHECK_EQ(weir_heap_create("jobs", NULL, &heap), 0);
	/* Its page is full, so that what is before it traps. */
	object = weir_heap_alloc(heap, 4096);
	CHECK_NOT_NULL((const void *)(uintptr_t)object);
	EXPECT_ABORT(
	    "FAULT underflow: heap \"jobs\": write at 0x", { object[-1] = 1; });
	EXPECT_ABORT("1 byte before the object", { (void)object[-1]; });
	EXPECT_ABORT("FAULT underflow: heap \"jobs\": read at 0x",
	    { (void)object[-1]; });
	EXPECT_ABORT("FAULT overflow: heap \"jobs\": read at 0x",
	    { (void)object[4096]; });
	weir_heap_free(heap, (void *)(uintptr_t)object);
	EXPECT_ABORT("FAULT use-after-free: heap \"jobs\": write at 0x",
	    { object[4095] = 1; });
	weir_heap_destroy(heap);
}

/* Places for the names of some 4,000 that are remembered go round. */
TEST(after_thousands_of_pools_the_right_one_is_named)
{
	struct weir_cache *cache;
	char name[32];
	void *object;

	full();
	for (unsigned i = 0; i < 4500; i++) {
		(void)snprintf(name, sizeof(name), "pool %u", i);
		CHECK_EQ(weir_cache_create(name,
			     &(struct weir_cache_config){.object_bytes = 64},
			     &cache),
		    0);
		object = weir_cache_alloc(cache);
		CHECK_NOT_NULL(object);
		weir_cache_free(cache, object);
		if (i % 1000 == 499)
			EXPECT_ABORT("FAULT use-after-free: cache \"pool ",
			    { *(volatile char *)object = 1; });
		weir_cache_destroy(cache);
	}
	CHECK_EQ(weir_cache_create("the last one",
		     &(struct weir_cache_config){.object_bytes = 64}, &cache),
	    0);
	object = weir_cache_alloc(cache);
	EXPECT_ABORT("FAULT overflow: cache \"the last one\"",
	    { ((volatile char *)object)[64] = 1; });
	weir_cache_free(cache, object);
	weir_cache_destroy(cache);
}

TEST(lists_of_pools_are_matched_by_name_and_by_beginning)
{
	static char too_long[300];
	struct weir_guard_config config = {
	    .mode = WEIR_GUARD_FULL, .pools = "jobs,net*,,x"};
	static const struct {
		const char *name;
		bool guarded;
	} pools[] = {{"jobs", true}, {"job", false}, {"jobs2", false},
	    {"net", true}, {"network", true}, {"ne", false}, {"x", true}};

	memset(too_long, 'p', sizeof(too_long) - 1);
	CHECK_EQ(weir_guard_set(&config), 0);
	for (size_t i = 0; i < sizeof(pools) / sizeof(pools[0]); i++) {
		struct weir_cache *cache;
		void *object;

		CHECK_EQ(weir_cache_create(pools[i].name,
			     &(struct weir_cache_config){.object_bytes = 64},
			     &cache),
		    0);
		object = weir_cache_alloc(cache);
		CHECK_EQ(weiri_guard_covers(object), pools[i].guarded);
		weir_cache_free(cache, object);
		weir_cache_destroy(cache);
	}
	config.pools = too_long;
	CHECK_EQ(weir_guard_set(&config), -EINVAL);
}

/* What is found while a magazine is emptied, under a lock, is told by the next
 * call that can. */
TEST(a_write_behind_an_object_freed_at_level_batch_is_told_later)
{
	struct weir_cache *cache;
	char *object;

	CHECK_EQ(weir_cache_create("conn",
		     &(struct weir_cache_config){
			 .object_bytes = 70, .check = WEIR_CHECK_BATCH},
		     &cache),
	    0);
	for (unsigned i = 0; i < 100; i++)
		weir_cache_free(cache, weir_cache_alloc(cache));
	CHECK_EQ(weir_guard_set(&(struct weir_guard_config){
		     .mode = WEIR_GUARD_SAMPLE, .sample_rate = 2}),
	    0);
	CHECK_EQ(weir_guard_set_policy(WEIR_FAULT_COUNT, WEIR_GUARD_ABORT), 0);
	do
		object = weir_cache_alloc(cache);
	while (object != NULL && !weiri_guard_covers(object));
	CHECK_NOT_NULL(object);
	EXPECT_ABORT("nothing so far\nweir: FAULT overflow: cache \"conn\"", {
		object[70] = 1;
		weir_cache_free(cache, object);
		(void)weir_cache_trim(cache);
		(void)fputs("nothing so far\n", stderr);
		for (unsigned i = 0; i < 10000; i++)
			(void)!weir_cache_alloc(cache);
	});
}
