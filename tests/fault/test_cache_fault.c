/* SPDX-License-Identifier: MIT */
/*
 * Each misuse of a cache dies with its own message; next to it the correct
 * neighbour that must not.
 */
#include "support/test.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <weir/weir.h>

#include "pages/supply.h"

static struct weir_cache *
cache_named(const char *name, size_t bytes, size_t align)
{
	struct weir_cache *cache;

	CHECK_EQ(weir_cache_create(name,
		     &(struct weir_cache_config){
			 .object_bytes = bytes, .object_align = align},
		     &cache),
	    0);
	return cache;
}

/* The places for the state: the word before the object, the table at the slab's
 * start, the byte in the slab's header. */
static const size_t state_sizes[] = {200, 16, 40000};
#define STATES (sizeof(state_sizes) / sizeof(state_sizes[0]))

TEST(cache_second_free_dies_at_the_call)
{
	for (size_t i = 0; i < STATES; i++) {
		struct weir_cache *cache =
		    cache_named("conn", state_sizes[i], 0);
		void *object = weir_cache_alloc(cache);
		void *other = weir_cache_alloc(cache);

		weir_cache_free(cache, object);
		EXPECT_ABORT(
		    "weir: FAULT double-free: cache \"conn\": object 0x",
		    { weir_cache_free(cache, object); });
		weir_cache_free(cache, other);
		EXPECT_ABORT(
		    "is free already", { weir_cache_free(cache, object); });
		weir_cache_destroy(cache);
	}
}

TEST(cache_foreign_pointers_die_without_being_read)
{
	struct weir_cache *cache = cache_named("conn", 200, 0);
	/* The kernel's half, a non-canonical one, 57 bits, page zero. */
	static const uintptr_t wild[] = {0xffff888000001000, 0x8000000000001000,
	    0x0100000000001000, 0x1000, 16};
	static char still[64];
	char *heap = malloc(64);

	for (size_t i = 0; i < sizeof(wild) / sizeof(wild[0]); i++)
		EXPECT_ABORT("weir: FAULT foreign-pointer: cache \"conn\": 0x",
		    { weir_cache_free(cache, (void *)wild[i]); });
	EXPECT_ABORT("foreign-pointer", { weir_cache_free(cache, still); });
	EXPECT_ABORT("foreign-pointer", { weir_cache_free(cache, heap); });
	EXPECT_ABORT("foreign-pointer", { weir_cache_free(cache, &heap); });
	free(heap);
	weir_cache_destroy(cache);
}

TEST(cache_interior_and_misaligned_pointers_die)
{
	static const size_t steps[] = {1, 2, 3, 4, 7, 8, 9, 15};

	for (size_t i = 0; i < STATES; i++) {
		struct weir_cache *cache =
		    cache_named("conn", state_sizes[i] + 48, 0);
		char *object = weir_cache_alloc(cache);

		for (size_t at = 16; at < 64; at += 16)
			EXPECT_ABORT(
			    "FAULT interior-pointer: cache \"conn\": 0x",
			    { weir_cache_free(cache, object + at); });
		for (size_t j = 0; j < sizeof(steps) / sizeof(steps[0]); j++)
			EXPECT_ABORT(
			    "FAULT misaligned-pointer: cache \"conn\": 0x",
			    { weir_cache_free(cache, object + steps[j]); });
		weir_cache_free(cache, object);
		weir_cache_destroy(cache);
	}
}

/* The state word of an address near the slab's end would lie outside it. */
TEST(cache_interior_pointers_up_to_the_last_byte_of_a_slab_die)
{
	struct weir_cache *cache = cache_named("big", 30000, 16);
	char *object = weir_cache_alloc(cache);
	char *slab_end = (char *)(((uintptr_t)object | 0x3fff) + 1);

	for (char *p = slab_end - 16; p > slab_end - 2000; p -= 16)
		EXPECT_ABORT(
		    "interior-pointer", { weir_cache_free(cache, p); });
	weir_cache_free(cache, object);
	weir_cache_destroy(cache);
}

/* Where the state of small objects is: its first entries are those of none. */
TEST(cache_pointers_to_the_start_of_a_slab_die)
{
	struct weir_cache *cache = cache_named("conn", 32, 0);
	char *object = weir_cache_alloc(cache);
	char *slab = (char *)((uintptr_t)object & ~(uintptr_t)0xffff);

	CHECK(slab + 1024 < object);
	for (int at = 0; at < 1024; at += 16)
		EXPECT_ABORT("FAULT interior-pointer: cache \"conn\": 0x",
		    { weir_cache_free(cache, slab + at); });
	EXPECT_ABORT("FAULT misaligned-pointer: cache \"conn\": 0x",
	    { weir_cache_free(cache, slab + 1); });
	EXPECT_ABORT("FAULT misaligned-pointer: cache \"conn\": 0x",
	    { weir_cache_free(cache, object + 1); });
	weir_cache_free(cache, object);
	weir_cache_destroy(cache);
}

TEST(cache_object_of_another_cache_dies_and_names_both)
{
	struct weir_cache *conns = cache_named("conn", 200, 0);
	struct weir_cache *timers = cache_named("timer", 200, 0);
	void *object = weir_cache_alloc(conns);

	EXPECT_ABORT("weir: FAULT wrong-pool: cache \"timer\": 0x",
	    { weir_cache_free(timers, object); });
	EXPECT_ABORT(
	    "belongs to \"conn\"", { weir_cache_free(timers, object); });
	weir_cache_free(conns, object);
	weir_cache_destroy(conns);
	weir_cache_destroy(timers);
}

TEST(cache_write_past_the_end_is_seen_at_the_neighbours_free)
{
	struct weir_cache *cache = cache_named("conn", 200, 0);
	char *first = weir_cache_alloc(cache),
	     *second = weir_cache_alloc(cache);
	char *low = first < second ? first : second;
	char *high = first < second ? second : first;

	EXPECT_ABORT(
	    "FAULT corruption: cache \"conn\": the word before object", {
		    low[200] = (char)(low[200] + 1);
		    weir_cache_free(cache, high);
	    });
	EXPECT_ABORT("the word before object", {
		memset(high - 8, 0x5a, 8);
		weir_cache_free(cache, high);
	});
	weir_cache_free(cache, first);
	weir_cache_free(cache, second);
	weir_cache_destroy(cache);
}

TEST(cache_destroy_with_objects_out_dies_and_counts_them)
{
	struct weir_cache *cache = cache_named("conn", 200, 0);
	void *objects[3];

	for (int i = 0; i < 3; i++)
		objects[i] = weir_cache_alloc(cache);
	EXPECT_ABORT("weir: FAULT live-objects-at-destroy: cache \"conn\": "
		     "3 objects are still in use",
	    { weir_cache_destroy(cache); });
	weir_cache_free(cache, objects[1]);
	weir_cache_free(cache, objects[2]);
	EXPECT_ABORT(
	    "1 object is still in use", { weir_cache_destroy(cache); });
	weir_cache_free(cache, objects[0]);
	weir_cache_destroy(cache);
}

TEST(cache_second_destroy_dies)
{
	struct weir_cache *cache = cache_named("conn", 200, 0);

	weir_cache_destroy(cache);
	EXPECT_ABORT("FAULT double-destroy: cache \"conn\": 0x",
	    { weir_cache_destroy(cache); });
}

static bool
visit_nothing(void *object, void *context)
{
	(void)object;
	(void)context;
	return true;
}

/* Whatever its configuration made of the common ways. */
TEST(cache_calls_after_destroy_die_and_name_it)
{
	static const struct weir_cache_config configs[] = {
	    {.object_bytes = 200},
	    {.object_bytes = 16},
	    {.object_bytes = 40000},
	    {.object_bytes = 200, .check = WEIR_CHECK_BATCH},
	    {.object_bytes = 200, .flags = WEIR_CACHE_HANDLES},
	    {.object_bytes = 200, .limit = 4, .policy = WEIR_LIMIT_WAIT},
	};

	for (size_t i = 0; i < sizeof(configs) / sizeof(configs[0]); i++) {
		struct weir_pool_stats stats = {.size = sizeof(stats)};
		struct weir_cache *cache, *next;
		void *object, *others[2];

		CHECK_EQ(weir_cache_create("gone", &configs[i], &cache), 0);
		object = weir_cache_alloc(cache);
		weir_cache_free(cache, object);
		weir_cache_destroy(cache);
		/* One in its place, as it seems. */
		CHECK_EQ(weir_cache_create("next", &configs[i], &next), 0);
		others[0] = others[1] = weir_cache_alloc(next);
#define GONE "FAULT use-after-destroy: cache \"gone\": "
		EXPECT_ABORT(
		    GONE "it is used", { (void)!weir_cache_alloc(cache); });
		EXPECT_ABORT(GONE "it is used",
		    { (void)!weir_cache_alloc_at(weir_local(), cache); });
		EXPECT_ABORT(
		    GONE, { (void)!weir_cache_alloc_wait(cache, 1000); });
		EXPECT_ABORT(
		    GONE, { (void)!weir_cache_alloc_bulk(cache, 2, others); });
		EXPECT_ABORT(GONE "0x", { weir_cache_free(cache, object); });
		EXPECT_ABORT(GONE "0x", { weir_cache_free(cache, others[0]); });
		EXPECT_ABORT(GONE "0x",
		    { weir_cache_free_at(weir_local(), cache, others[0]); });
		EXPECT_ABORT(
		    GONE "0x", { weir_cache_free_bulk(cache, 2, others); });
		EXPECT_ABORT(GONE, { (void)weir_cache_trim(cache); });
		EXPECT_ABORT(GONE, { (void)!weir_cache_set_limit(cache, 9); });
		EXPECT_ABORT(GONE, { (void)weir_cache_check(cache); });
		EXPECT_ABORT(GONE, { (void)weir_cache_stats(cache, &stats); });
		EXPECT_ABORT(GONE,
		    { (void)weir_cache_for_each(cache, visit_nothing, NULL); });
		EXPECT_ABORT(
		    GONE, { (void)weir_cache_handle(cache, others[0]); });
		if (configs[i].flags & WEIR_CACHE_HANDLES)
			EXPECT_ABORT(GONE, {
				(void)!weir_cache_resolve(
				    cache, weir_cache_handle(next, others[0]));
			});
		weir_cache_free(next, others[0]);
		weir_cache_destroy(next);
	}
}

/* Records that are kept go back: with so many others, and in a trim. */
TEST(cache_records_of_ended_caches_do_not_pile_up)
{
	struct weir_cache *cache = cache_named("conn", 200, 0);
	uint64_t before;

	weir_cache_destroy(cache);
	for (int i = 0; i < 100; i++)
		weir_cache_destroy(cache_named("conn", 200, 0));
	before = weiri_meta_charged();
	for (int i = 0; i < 10000; i++)
		weir_cache_destroy(cache_named("conn", 200, 0));
	CHECK_EQ(weiri_meta_charged(), before);
	(void)weir_trim();
	CHECK_LT(weiri_meta_charged(), before);
	CHECK_NULL(weiri_meta_check());
}

static jmp_buf back;

static void
leave(const struct weir_fault *fault, void *context)
{
	CHECK_EQ(fault->fault_class, WEIR_FAULT_DOUBLE_FREE);
	CHECK_STR(fault->pool_name, "conn");
	CHECK_STR(fault->pool_kind, "cache");
	CHECK(fault->address == context);
	longjmp(back, 1);
}

TEST(cache_survives_a_hook_that_leaves)
{
	struct weir_cache *cache = cache_named("conn", 200, 0);
	void *object = weir_cache_alloc(cache);

	weir_cache_free(cache, object);
	weir_guard_set_hook(leave, object);
	if (setjmp(back) == 0) {
		weir_cache_free(cache, object);
		FAIL("the hook was not called");
	}
	weir_guard_set_hook(NULL, NULL);
	CHECK(weir_cache_check(cache));
	weir_cache_destroy(cache);
}

static void
free_again(void *object, void *context)
{
	void **pair = context;

	(void)object;
	weir_cache_free(pair[0], pair[1]);
}

/* The hook is left as well: what is not allowed in one is allowed again. */
TEST(cache_waits_again_after_a_hook_left_a_hook)
{
	struct weir_cache *cache = cache_named("conn", 200, 0), *outer, *waits;
	void *pair[2] = {cache, weir_cache_alloc(cache)};
	void *object, *only;
	uint64_t begin_ns;

	CHECK_EQ(
	    weir_cache_create("outer",
		&(struct weir_cache_config){
		    .object_bytes = 64, .dtor = free_again, .context = pair},
		&outer),
	    0);
	CHECK_EQ(
	    weir_cache_create("waits",
		&(struct weir_cache_config){
		    .object_bytes = 64, .limit = 1, .policy = WEIR_LIMIT_WAIT},
		&waits),
	    0);
	object = weir_cache_alloc(outer);
	only = weir_cache_alloc(waits);
	weir_cache_free(cache, pair[1]);
	weir_guard_set_hook(leave, pair[1]);
	if (setjmp(back) == 0) {
		weir_cache_free(outer, object);
		FAIL("the hook was not called");
	}
	weir_guard_set_hook(NULL, NULL);
	begin_ns = test_now_ns();
	CHECK_NULL(weir_cache_alloc_wait(waits, 5000000));
	CHECK_GE(test_now_ns() - begin_ns, 5000000);
	weir_cache_free(waits, only);
	weir_cache_destroy(waits);
	weir_cache_destroy(cache);
}

static void
tell_statistics(const struct weir_fault *fault, void *context)
{
	static char text[65536];

	(void)context;
	(void)weir_stats_text(text, sizeof(text));
	fprintf(stderr, "hook saw %s\n", fault->class_text);
}

static struct weir_cache *
batch_named(const char *name)
{
	struct weir_cache *cache;

	CHECK_EQ(weir_cache_create(name,
		     &(struct weir_cache_config){
			 .object_bytes = 200, .check = WEIR_CHECK_BATCH},
		     &cache),
	    0);
	return cache;
}

static void *
free_twice(void *cache)
{
	void *object = weir_cache_alloc(cache);

	/* One more out, so that both frees end in the same magazine. */
	(void)!weir_cache_alloc(cache);
	weir_cache_free(cache, object);
	weir_cache_free(cache, object);
	return NULL;
}

/* At level batch the second free shows when the slot comes home, here at the
 * thread's end; the hook may use the library even then. */
TEST(cache_double_free_found_at_thread_exit_reports_without_a_lock)
{
	struct weir_cache *cache = batch_named("loose");

	weir_guard_set_hook(tell_statistics, NULL);
	EXPECT_ABORT("hook saw double-free", {
		pthread_t thread;

		pthread_create(&thread, NULL, free_twice, cache);
		pthread_join(thread, NULL);
	});
	weir_guard_set_hook(NULL, NULL);
	weir_cache_destroy(cache);
}

/* ---- level batch: found when a magazine comes in ------------------------ */

#define MANY 1024

/* Frees @bad among enough others to bring its magazine home. */
static void
free_among_others(struct weir_cache *cache, void *bad)
{
	static void *others[MANY];

	for (size_t i = 0; i < MANY; i++)
		others[i] = weir_cache_alloc(cache);
	for (size_t i = 0; i < MANY; i++) {
		if (i == 300)
			weir_cache_free(cache, bad);
		weir_cache_free(cache, others[i]);
	}
}

TEST(cache_batch_finds_a_second_free_when_the_magazine_comes_home)
{
	struct weir_cache *cache = batch_named("fast");
	void *object = weir_cache_alloc(cache);

	EXPECT_ABORT("weir: FAULT double-free: cache \"fast\": object 0x", {
		static void *others[MANY];

		for (size_t i = 0; i < MANY; i++)
			others[i] = weir_cache_alloc(cache);
		for (size_t i = 0; i < MANY; i++) {
			if (i == 100 || i == 700)
				weir_cache_free(cache, object);
			weir_cache_free(cache, others[i]);
		}
	});
	weir_cache_free(cache, object);
	weir_cache_destroy(cache);
}

TEST(cache_batch_finds_wrong_pointers_when_the_magazine_comes_home)
{
	struct weir_cache *cache = batch_named("fast");
	struct weir_cache *other = cache_named("other", 200, 0);
	char *object = weir_cache_alloc(cache);
	void *foreign = malloc(64);
	void *alien = weir_cache_alloc(other);

	EXPECT_ABORT("FAULT foreign-pointer: cache \"fast\": 0x",
	    { free_among_others(cache, foreign); });
	EXPECT_ABORT("FAULT wrong-pool: cache \"fast\": 0x",
	    { free_among_others(cache, alien); });
	EXPECT_ABORT(
	    "belongs to \"other\"", { free_among_others(cache, alien); });
	EXPECT_ABORT("FAULT interior-pointer: cache \"fast\": 0x",
	    { free_among_others(cache, object + 16); });
	EXPECT_ABORT("FAULT misaligned-pointer: cache \"fast\": 0x",
	    { free_among_others(cache, object + 3); });
	free(foreign);
	weir_cache_free(other, alien);
	weir_cache_free(cache, object);
	CHECK(weir_cache_check(cache));
	weir_cache_destroy(cache);
	weir_cache_destroy(other);
}

/* ---- many objects a call -------------------------------------------------- */

TEST(cache_bulk_free_dies_at_each_kind_of_wrong_object)
{
	for (size_t i = 0; i < STATES; i++) {
		struct weir_cache *cache =
		    cache_named("conn", state_sizes[i] + 48, 0);
		struct weir_cache *other = cache_named("other", 200, 0);
		void *good[3], *heap = malloc(64);
		void *alien = weir_cache_alloc(other);

		CHECK_EQ(weir_cache_alloc_bulk(cache, 3, good), 3);
		EXPECT_ABORT(
		    "weir: FAULT double-free: cache \"conn\": object 0x", {
			    void *twice[] = {good[0], good[1], good[0]};

			    weir_cache_free_bulk(cache, 3, twice);
		    });
		EXPECT_ABORT("FAULT foreign-pointer: cache \"conn\": 0x", {
			void *foreign[] = {good[0], heap};

			weir_cache_free_bulk(cache, 2, foreign);
		});
		EXPECT_ABORT("FAULT wrong-pool: cache \"conn\": 0x", {
			void *wrong[] = {alien, good[0]};

			weir_cache_free_bulk(cache, 2, wrong);
		});
		EXPECT_ABORT("FAULT interior-pointer: cache \"conn\": 0x", {
			void *inside[] = {good[0], (char *)good[1] + 16};

			weir_cache_free_bulk(cache, 2, inside);
		});
		EXPECT_ABORT("FAULT misaligned-pointer: cache \"conn\": 0x", {
			void *odd[] = {good[0], (char *)good[1] + 1};

			weir_cache_free_bulk(cache, 2, odd);
		});
		weir_cache_free_bulk(cache, 3, good);
		weir_cache_free(other, alien);
		free(heap);
		weir_cache_destroy(cache);
		weir_cache_destroy(other);
	}
}

TEST(cache_bulk_free_leaves_what_is_behind_the_wrong_object)
{
	struct weir_pool_stats stats = {.size = sizeof(stats)};
	struct weir_cache *cache = cache_named("conn", 200, 0);
	void *objects[200];

	CHECK_EQ(weir_cache_alloc_bulk(cache, 200, objects), 200);
	weir_cache_free(cache, objects[150]);
	weir_guard_set_hook(leave, objects[150]);
	if (setjmp(back) == 0) {
		weir_cache_free_bulk(cache, 200, objects);
		FAIL("the hook was not called");
	}
	weir_guard_set_hook(NULL, NULL);
	CHECK(weir_cache_check(cache));
	CHECK_EQ(weir_cache_stats(cache, &stats), 0);
	CHECK_EQ(stats.in_use, 49);
	weir_cache_free_bulk(cache, 49, objects + 151);
	weir_cache_destroy(cache);
}

TEST(cache_bulk_free_at_batch_is_found_when_the_magazine_comes_home)
{
	struct weir_cache *cache = batch_named("fast");
	static void *objects[MANY + 1];

	CHECK_EQ(weir_cache_alloc_bulk(cache, MANY, objects), MANY);
	EXPECT_ABORT("weir: FAULT double-free: cache \"fast\": object 0x", {
		objects[MANY] = objects[10];
		weir_cache_free_bulk(cache, MANY + 1, objects);
		(void)weir_cache_trim(cache);
	});
	weir_cache_free_bulk(cache, MANY, objects);
	weir_cache_destroy(cache);
}

/* ---- configurations ------------------------------------------------------- */

static char told[512];

static void
listen(enum weir_message_level level, const char *line, void *context)
{
	(void)context;
	CHECK_EQ(level, WEIR_MESSAGE_ERROR);
	strncpy(told, line, sizeof(told) - 1);
}

static void
nothing(void *object, void *context)
{
	(void)object;
	(void)context;
}

TEST(cache_create_names_the_field_it_refuses)
{
	static const struct {
		struct weir_cache_config config;
		const char *line;
	} bad[] = {
	    {{.object_bytes = 0}, "object_bytes is 0; allowed: 1 .. 1048576"},
	    {{.object_bytes = 1048577},
		"object_bytes is 1048577; allowed: 1 .. 1048576"},
	    /* What a size computed from a negative or too large one becomes. */
	    {{.object_bytes = SIZE_MAX},
		"object_bytes is 18446744073709551615; allowed: 1 .. 1048576"},
	    {{.object_bytes = 8, .object_align = SIZE_MAX},
		"object_align is 18446744073709551615; allowed: 0 or a power "
		"of two up to 4096"},
	    {{.object_bytes = 8, .object_align = SIZE_MAX / 2 + 1},
		"object_align is 9223372036854775808; allowed: 0 or a power "
		"of two up to 4096"},
	    {{.object_bytes = 8, .object_align = 24},
		"object_align is 24; allowed: 0 or a power of two up to 4096"},
	    {{.object_bytes = 8, .limit = 4, .prealloc = 5},
		"prealloc is 5; allowed: 0 .. 4, the limit"},
	    {{.object_bytes = 8, .check = (enum weir_check_level)9},
		"check is 9; allowed: 0 (WEIR_CHECK_EACH) or 1 "
		"(WEIR_CHECK_BATCH)"},
	    {{.object_bytes = 8, .flags = 0x100001},
		"flags is 0x100001; allowed: those of enum weir_cache_flags"},
	    {{.object_bytes = 8, .flags = WEIR_CACHE_ZERO, .init = nothing},
		"flags is 0x2; allowed: no WEIR_CACHE_ZERO beside init, whose "
		"work it would undo"},
	    {{.object_bytes = 8, .reserved = {0, 5}},
		"reserved[1] is 5; allowed: 0"},
	};

	CHECK_EQ(weir_init(&(struct weir_config){.message = listen}), 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct weir_cache *cache = (struct weir_cache *)&cache;

		CHECK_EQ(
		    weir_cache_create("b\nd", &bad[i].config, &cache), -EINVAL);
		CHECK_NULL(cache);
		CHECK_CONTAINS(told, "weir_cache_create: cache \"b?d\": ");
		CHECK_STR(told + strlen("weir_cache_create: cache \"b?d\": "),
		    bad[i].line);
	}
}

/* An odd one ends the magazine before its end. */
TEST(cache_batch_finds_an_odd_pointer_at_the_next_request)
{
	struct weir_cache *cache = batch_named("fast");
	char *objects[5];

	for (size_t i = 0; i < 5; i++)
		objects[i] = weir_cache_alloc(cache);
	for (size_t i = 0; i < 4; i++)
		weir_cache_free(cache, objects[i]);
	EXPECT_ABORT("FAULT misaligned-pointer: cache \"fast\": 0x", {
		weir_cache_free(cache, objects[4] + 1);
		(void)!weir_cache_alloc(cache);
	});
	weir_cache_free(cache, objects[4]);
	weir_cache_destroy(cache);
}
