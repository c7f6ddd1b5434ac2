/* SPDX-License-Identifier: MIT */
/*
 * test_guard_menu.c - what each item of the debug menu does, in pools of every
 * kind that it means something for, and that without it nothing of the sort
 * happens.  Requests that fail are in test_guard_menu_fail.c.
 */
#include "support/test.h"

#include "guard/guard.h"
#include "menu_common.h"

#include <malloc.h>
#include <stdio.h>
#include <string.h>
#include <weir/weir.h>

/* Writes that no compiler leaves out, or warns of. */
__attribute__((noinline)) static void
poke(char *at)
{
	*(volatile char *)at = 1;
}

static bool
is_all(const char *at, int byte, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		if ((unsigned char)at[i] != byte)
			return false;
	return true;
}

/* ---- poison ----------------------------------------------------------------- */

TEST(poison_is_in_what_is_fresh_and_in_what_ended)
{
	menu("poison");
	FOR_KINDS(kind)
	{
		char *object;

		kind->make(kind);
		object = take(kind);
		CHECK(is_all(object, 0xa5, kind->bytes));
		memset(object, 1, kind->bytes);
		kind->give(object);
		CHECK(is_all(object, 0xb7, kind->bytes));
		CHECK_PTR(take(kind), object);
		CHECK(is_all(object, 0xa5, kind->bytes));
		kind->give(object);
		kind->end();
	}
}

TEST(poison_leaves_what_is_zeroed_zero)
{
	struct weir_cache_config config = {
	    .object_bytes = 100, .flags = WEIR_CACHE_ZERO};
	char *object;

	menu("poison");
	CHECK_EQ(weir_cache_create("conn", &config, &pool.cache), 0);
	object = weir_cache_alloc(pool.cache);
	memset(object, 1, 100);
	weir_cache_free(pool.cache, object);
	CHECK_PTR(weir_cache_alloc(pool.cache), object);
	CHECK(is_all(object, 0, 100));
	weir_cache_free(pool.cache, object);
	cache_end();
}

/* A write after the end, one byte in each half of the object, and then what lets
 * it be seen. */
static void
write_after_end(const struct kind *kind, bool again)
{
	char *object = take(kind);

	kind->give(object);
	poke(object + 7);
	poke(object + kind->bytes - 1);
	if (again)
		(void)take(kind);
	else
		kind->end();
}

TEST(poison_tells_a_write_after_the_end_when_memory_is_used_again)
{
	char expected[160];

	FOR_KINDS(kind)
	{
		menu("poison");
		kind->make(kind);
		EXPECT_ABORT(
		    "FAULT use-after-free: ", { write_after_end(kind, true); });
		snprintf(expected, sizeof(expected),
		    ", 7 bytes inside the object, was written after it ended "
		    "by %s; find who kept the pointer",
		    kind->how);
		EXPECT_ABORT(expected, { write_after_end(kind, true); });
		snprintf(expected, sizeof(expected),
		    "%zu bytes, of %s \"conn%s\"; the address is 7 bytes "
		    "inside",
		    kind->bytes, kind->kind,
		    strcmp(kind->kind, "buffer") == 0 ? "/200" : "");
		EXPECT_ABORT(expected, { write_after_end(kind, true); });
		EXPECT_ABORT(
		    "\nweir:   mode menu\n", { write_after_end(kind, true); });
		kind->end();
	}
}

TEST(poison_tells_a_write_after_the_end_when_the_pool_ends)
{
	menu("poison");
	/* A kind of regions never ends. */
	FOR_KINDS(kind)
	{
		if (strcmp(kind->kind, "region") == 0)
			continue;
		kind->make(kind);
		EXPECT_ABORT(", 7 bytes inside the object, was written after",
		    { write_after_end(kind, false); });
		kind->end();
	}
}

TEST(without_poison_and_integrity_nobody_looks)
{
	FOR_KINDS(kind)
	{
		/* At its first word a pool may look by itself. */
		menu("tag,caller");
		kind->make(kind);
		write_after_end(kind, true);
		menu("poison@other");
		menu(NULL);
	}
}

TEST(poisoned_memory_that_was_written_to_is_not_used_again)
{
	const struct kind *kind = &kinds[0];
	struct weir_guard_stats stats = {.size = sizeof(stats)};
	char *object, *next;

	CHECK_EQ(
	    weir_guard_set_policy(WEIR_FAULT_USE_AFTER_FREE, WEIR_GUARD_GO_ON),
	    0);
	menu("poison");
	kind->make(kind);
	object = take(kind);
	kind->give(object);
	poke(object + 7);
	next = take(kind);
	CHECK(next != object);
	CHECK_EQ(weir_guard_read(&stats), 0);
	CHECK_EQ(stats.reports, 1);
	CHECK_EQ(stats.live, 1);
	kind->give(next);
	kind->end();
	CHECK_EQ(weir_guard_read(&stats), 0);
	CHECK_EQ(stats.reports, 1);
}

/* ---- integrity ---------------------------------------------------------------- */

TEST(integrity_leaves_contents_and_tells_of_any_change)
{
	menu("integrity");
	FOR_KINDS(kind)
	{
		char *object;

		kind->make(kind);
		object = take(kind);
		memset(object, 3, kind->bytes);
		kind->give(object);
		CHECK(is_all(object, 3, kind->bytes));
		EXPECT_ABORT(", 7 bytes inside the object, was written after", {
			poke(object + 7);
			(void)take(kind);
		});
		/* What is kept of it are its first bytes. */
		EXPECT_ABORT(
		    " was written, 64 bytes inside it or more, after", {
			    poke(object + kind->bytes - 1);
			    (void)take(kind);
		    });
		CHECK_PTR(take(kind), object);
		kind->give(object);
		kind->end();
	}
}

/* ---- tag, caller ---------------------------------------------------------------- */

TEST(tag_leads_to_the_name_and_tells_of_a_write_into_it)
{
	FOR_KINDS(kind)
	{
		char *object, *name;

		menu("tag");
		kind->make(kind);
		object = take(kind);
		memset(object, 1, kind->bytes);
		memcpy(&name, object + kind->bytes + 8, sizeof(name));
		CHECK_CONTAINS(name, "conn");
		EXPECT_ABORT("FAULT overflow: ", {
			poke(object + kind->bytes);
			kind->give(object);
		});
		EXPECT_ABORT(
		    ", 0 bytes behind the object, in the tag of \"conn", {
			    poke(object + kind->bytes);
			    kind->give(object);
		    });
		/* The name's address is part of it. */
		EXPECT_ABORT(
		    ", 8 bytes behind the object, in the tag of \"conn", {
			    object[kind->bytes + 8] ^= 0x40;
			    kind->give(object);
		    });
		kind->give(object);
		kind->end();
		/* Not on the menu: nobody looks. */
		menu("poison");
		kind->make(kind);
		object = take(kind);
		poke(object + kind->bytes);
		kind->give(object);
		kind->end();
	}
}

TEST(free_to_another_pool_names_both)
{
	struct weir_cache_config config = {.object_bytes = 200};
	struct weir_cache *one, *other;
	void *object;

	menu("tag");
	CHECK_EQ(weir_cache_create("one", &config, &one), 0);
	CHECK_EQ(weir_cache_create("other", &config, &other), 0);
	object = weir_cache_alloc(one);
	EXPECT_ABORT("FAULT wrong-pool: cache \"other\": ",
	    { weir_cache_free(other, object); });
	EXPECT_ABORT(
	    " belongs to \"one\"; ", { weir_cache_free(other, object); });
	weir_cache_free(one, object);
	weir_cache_destroy(one);
	weir_cache_destroy(other);
}

TEST(caller_is_in_the_report_and_behind_the_object)
{
	FOR_KINDS(kind)
	{
		char *object;
		uintptr_t *taken, *ended;

		menu("caller,integrity");
		kind->make(kind);
		object = take(kind);
		memset(object, 3, kind->bytes);
		memcpy(&taken, object + kind->bytes, sizeof(taken));
		CHECK_NOT_NULL(taken);
		CHECK(taken[0] != 0);
		kind->give(object);
		memcpy(&ended, object + kind->bytes, sizeof(ended));
		CHECK_NOT_NULL(ended);
		CHECK(ended != taken);
		EXPECT_ABORT(" s ago:\nweir:     #0 0x", {
			poke(object + 7);
			(void)take(kind);
		});
		kind->end();
		/* Not on the menu: when, and by which thread, but not where. */
		menu("integrity");
		kind->make(kind);
		object = take(kind);
		memset(object, 3, kind->bytes);
		kind->give(object);
		EXPECT_ABORT(" s ago:\nweir:   its ", {
			poke(object + 7);
			(void)take(kind);
		});
		kind->end();
	}
}

/* ---- cold-first, no-cache, pass-through --------------------------------------- */

TEST(cold_first_uses_memory_again_late)
{
	FOR_KINDS(kind)
	{
		size_t rounds = kind->bytes > 4096 ? 4 : 100;
		char *object;

		menu("cold-first");
		kind->make(kind);
		object = take(kind);
		kind->give(object);
		for (size_t i = 0; i < rounds; i++) {
			char *next = take(kind);

			CHECK(next != object);
			kind->give(next);
		}
		kind->end();
		/* Else it is the next. */
		menu("integrity");
		kind->make(kind);
		object = take(kind);
		memset(object, 1, kind->bytes);
		kind->give(object);
		CHECK_PTR(take(kind), object);
		kind->give(object);
		kind->end();
	}
}

/* Those that wait longest are the first to be used again. */
TEST(cold_first_takes_them_in_the_order_they_ended)
{
	const struct kind large = {HEAP(30000000), WEIR_CHECK_EACH};
	void *first[16];

	menu("cold-first");
	large.make(&large);
	for (int i = 0; i < 16; i++) {
		first[i] = take(&large);
		large.give(first[i]);
	}
	/* As many as are kept of so large ones. */
	for (int i = 0; i < 16; i++) {
		CHECK_PTR(take(&large), first[i]);
		large.give(first[i]);
	}
	large.end();
}

TEST(no_cache_leaves_nothing_with_threads)
{
	FOR_KINDS(kind)
	{
		void *object;

		/* A region's objects are not kept by anybody, nor are pages. */
		if (strcmp(kind->kind, "region") == 0 || kind->bytes > 4096)
			continue;
		menu(NULL);
		kind->make(kind);
		kind->give(take(kind));
		CHECK_GT(kind->figures().cached, 0);
		kind->end();
		menu("no-cache");
		kind->make(kind);
		for (int i = 0; i < 100; i++) {
			object = take(kind);
			/* In the pool's own memory, as ever. */
			CHECK(!weiri_guard_covers(object));
			kind->give(object);
			CHECK_EQ(kind->figures().cached, 0);
		}
		CHECK_EQ(kind->figures().misses, 100);
		kind->end();
	}
}

TEST(pass_through_makes_each_object_a_block_of_malloc)
{
	menu("pass-through");
	FOR_KINDS(kind)
	{
		char *object;

		kind->make(kind);
		object = take(kind);
		CHECK(weiri_guard_covers(object));
		CHECK_LE(kind->bytes, malloc_usable_size(object));
		kind->give(object);
		kind->end();
	}
	menu("pass-through@other");
	kinds[0].make(&kinds[0]);
	CHECK(!weiri_guard_covers(take(&kinds[0])));
}

/* ---- all of it ------------------------------------------------------------------ */

#define OBJECTS 64

/* A correct program on every kind: what it wrote is there until it frees. */
static void
churn(uint64_t seed)
{
	struct weir_heap_config heap_config = {0};
	struct weir_cache_config cache_config = {.object_bytes = 72};
	struct weir_cache *cache;
	struct weir_heap *heap;
	struct test_rng rng;
	struct {
		unsigned char *at;
		size_t bytes;
		bool cached;
	} object[OBJECTS] = {{NULL, 0, false}};

	test_rng_init(&rng, seed);
	CHECK_EQ(weir_cache_create("conn", &cache_config, &cache), 0);
	CHECK_EQ(weir_heap_create("box", &heap_config, &heap), 0);
	for (size_t i = 0; i < test_count(6000); i++) {
		size_t n = test_rand_below(&rng, OBJECTS);
		unsigned char mark = (unsigned char)(n + 1);

		if (object[n].at != NULL) {
			CHECK(is_all(
			    (char *)object[n].at, mark, object[n].bytes));
			if (object[n].cached)
				weir_cache_free(cache, object[n].at);
			else
				weir_heap_free(heap, object[n].at);
			object[n].at = NULL;
			continue;
		}
		object[n].cached = test_rand(&rng) % 2 == 0;
		object[n].bytes =
		    object[n].cached ? 72 : test_rand_below(&rng, 3000) + 1;
		object[n].at = object[n].cached
				   ? weir_cache_alloc(cache)
				   : weir_heap_alloc(heap, object[n].bytes);
		if (object[n].at != NULL)
			memset(object[n].at, mark, object[n].bytes);
	}
	for (size_t n = 0; n < OBJECTS; n++) {
		if (object[n].cached)
			weir_cache_free(cache, object[n].at);
		else
			weir_heap_free(heap, object[n].at);
	}
	CHECK(weir_cache_check(cache));
	CHECK(weir_heap_check(heap));
	weir_cache_destroy(cache);
	weir_heap_destroy(heap);
}

TEST(correct_programs_notice_nothing)
{
	static const char *const menus[] = {
	    "poison,tag,caller,cold-first,no-cache,integrity",
	    "poison,tag,integrity,fail:3%", "tag,caller", "no-cache",
	    "pass-through,fail:3%", "poison@conn,cold-first@box"};
	struct weir_guard_stats stats = {.size = sizeof(stats)};

	for (size_t i = 0; i < sizeof(menus) / sizeof(menus[0]); i++) {
		menu(menus[i]);
		churn(test_seed() + i);
	}
	CHECK_EQ(weir_guard_read(&stats), 0);
	CHECK_EQ(stats.reports, 0);
	CHECK_EQ(stats.live, 0);
	CHECK_GT(stats.failed, 0);
}

static void
churn_thread(unsigned index, void *context)
{
	(void)context;
	churn(test_seed() + index);
}

TEST(correct_threads_notice_nothing)
{
	menu("poison,tag,caller,integrity,fail:1%");
	test_threads(4, churn_thread, NULL);
}

TEST(menu_that_changes_while_objects_are_out_loses_none)
{
	static const char *const menus[] = {"poison", NULL, "tag,cold-first",
	    "pass-through", "no-cache", "caller,integrity", NULL};

	FOR_KINDS(kind)
	{
		char *object[7];

		/* A reset ends them all, and one buffer is remembered. */
		if (strcmp(kind->kind, "region") == 0 ||
		    strcmp(kind->kind, "buffer") == 0)
			continue;
		kind->make(kind);
		for (size_t i = 0; i < 7; i++) {
			menu(menus[i]);
			weir_thread_poll();
			object[i] = take(kind);
			memset(object[i], (int)i, kind->bytes);
		}
		for (size_t i = 0; i < 7; i++) {
			CHECK(is_all(object[i], (int)i, kind->bytes));
			menu(menus[6 - i]);
			kind->give(object[i]);
		}
		kind->end();
	}
}

TEST(modes_full_and_menu_divide_the_pools)
{
	struct weir_guard_config full = {
	    .mode = WEIR_GUARD_FULL, .pools = "conn"};
	struct weir_cache_config config = {.object_bytes = 200};
	struct weir_cache *other;
	char *object;

	CHECK_EQ(weir_guard_set(&full), 0);
	menu("poison");
	cache_make(&kinds[0]);
	CHECK_EQ(weir_cache_create("other", &config, &other), 0);
	object = weir_cache_alloc(pool.cache);
	weir_cache_free(pool.cache, object);
	EXPECT_ABORT("write at 0x", { poke(object + 7); });
	object = weir_cache_alloc(other);
	weir_cache_free(other, object);
	EXPECT_ABORT("7 bytes inside the object, was written after", {
		poke(object + 7);
		CHECK_NOT_NULL(weir_cache_alloc(other));
	});
	weir_cache_destroy(other);
	cache_end();
}
