/* SPDX-License-Identifier: MIT */
/*
 * test_apr_pools.c - the calls of APR's pools, without APR.
 */
#include "test.h"

#define WEIR_COMPAT_IMPLEMENTATION
#include <weir/compat/apr_pools.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

static char order[64];
static int aborts;

static apr_status_t
note(void *data)
{
	size_t used = strlen(order);

	order[used] = *(const char *)data;
	order[used + 1] = '\0';
	return APR_SUCCESS;
}

static apr_status_t
note_child(void *data)
{
	(void)data;
	return note((char[]){'!', 0});
}

static int
note_abort(int code)
{
	CHECK_EQ(code, APR_ENOMEM);
	aborts++;
	return 0;
}

static uint64_t
regions(void)
{
	struct weir_pool_stats stats = {.size = sizeof(stats)};

	CHECK_EQ(weir_region_kind_stats(&weir_apr_kind, &stats), 0);
	return stats.in_use;
}

static apr_pool_t *
make(apr_pool_t *parent, const char *name)
{
	apr_pool_t *pool;

	CHECK_EQ(apr_pool_create(&pool, parent), APR_SUCCESS);
	apr_pool_tag(pool, name);
	if (name != NULL)
		apr_pool_cleanup_register(
		    pool, name, note, apr_pool_cleanup_null);
	return pool;
}

TEST(apr_tag_is_the_name_of_the_region)
{
	struct weir_region_info info;

	CHECK_EQ(apr_pool_initialize(), APR_SUCCESS);
	CHECK_EQ(weir_region_top(WEIR_REGION_BY_BYTES, 0, &info, 1), 1);
	CHECK_STR(info.name, "apr_global_pool");
	CHECK_STR(info.kind, "apr_pool");
	apr_pool_terminate();
}

TEST(apr_pools_end_children_first_and_newest_first)
{
	CHECK_EQ(apr_pool_initialize(), APR_SUCCESS);
	apr_pool_t *top = make(NULL, "t");
	apr_pool_t *left = make(top, "l");

	make(top, "r");
	make(left, "1");
	make(left, "2");
	apr_pool_cleanup_register(top, "u", note, apr_pool_cleanup_null);
	apr_pool_pre_cleanup_register(top, "P", note);
	apr_pool_pre_cleanup_register(left, "p", note);
	apr_pool_destroy(top);
	CHECK_STR(order, "Prp21lut");
	apr_pool_terminate();
	CHECK_EQ(regions(), 0);
}

TEST(apr_clear_ends_everything_below_and_keeps_the_pool)
{
	void *data;

	CHECK_EQ(apr_pool_initialize(), APR_SUCCESS);
	apr_pool_t *top = make(NULL, NULL);
	for (int i = 0; i < 50; i++) {
		order[0] = '\0';
		make(top, "c");
		apr_pool_cleanup_register(
		    top, "t", note, apr_pool_cleanup_null);
		CHECK_EQ(apr_pool_userdata_set("value", "key", NULL, top), 0);
		memset(apr_palloc(top, 50000), 1, 50000);
		apr_pool_clear(top);
		CHECK_STR(order, "ct");
		CHECK_EQ(apr_pool_userdata_get(&data, "key", top), 0);
		CHECK_NULL(data);
		CHECK_EQ(regions(), 2);
	}
	apr_pool_terminate();
	CHECK_EQ(regions(), 0);
}

static apr_pool_t *victim;

static apr_status_t
destroy_victim(void *data)
{
	(void)data;
	apr_pool_destroy(victim);
	return APR_SUCCESS;
}

static apr_status_t
add_more(void *data)
{
	apr_pool_cleanup_register(
	    (apr_pool_t *)data, "m", note, apr_pool_cleanup_null);
	make((apr_pool_t *)data, "n");
	return APR_SUCCESS;
}

TEST(apr_cleanups_may_destroy_siblings_and_add_more)
{
	CHECK_EQ(apr_pool_initialize(), APR_SUCCESS);
	apr_pool_t *top = make(NULL, "t");
	victim = make(top, "v");
	apr_pool_t *other = make(top, "o");

	apr_pool_cleanup_register(
	    other, NULL, destroy_victim, apr_pool_cleanup_null);
	apr_pool_cleanup_register(top, top, add_more, apr_pool_cleanup_null);
	apr_pool_destroy(top);
	CHECK_STR(order, "vomtn");
	CHECK_EQ(regions(), 1);
	apr_pool_terminate();
}

TEST(apr_kill_run_and_child_cleanups_find_their_own)
{
	CHECK_EQ(apr_pool_initialize(), APR_SUCCESS);
	apr_pool_t *top = make(NULL, NULL);

	apr_pool_cleanup_register(top, "a", note, note_child);
	apr_pool_cleanup_register(top, "b", note, note_child);
	apr_pool_pre_cleanup_register(top, "c", note);
	apr_pool_cleanup_kill(top, "c", note);
	apr_pool_cleanup_kill(top, "x", note); /* none of them */
	CHECK_EQ(apr_pool_cleanup_run(top, (char[]){'z', 0}, note), 0);
	apr_pool_child_cleanup_set(top, "b", note, note);
	apr_pool_cleanup_for_exec();
	CHECK_STR(order, "zb!");
	/* Those that ran for exec() are gone, as in APR. */
	apr_pool_destroy(top);
	CHECK_STR(order, "zb!");
	apr_pool_terminate();
}

TEST(apr_a_tree_of_any_depth_is_destroyed)
{
	unsigned depth = (unsigned)test_count(20000);

	CHECK_EQ(apr_pool_initialize(), APR_SUCCESS);
	apr_pool_t *top = make(NULL, NULL);
	apr_pool_t *pool = top;

	for (unsigned i = 0; i < depth; i++)
		pool = make(pool, NULL);
	CHECK(apr_pool_is_ancestor(top, pool));
	CHECK(apr_pool_is_ancestor(NULL, pool));
	CHECK(!apr_pool_is_ancestor(pool, top));
	apr_pool_destroy(top);
	CHECK_EQ(regions(), 1);
	apr_pool_terminate();
}

TEST(apr_abort_function_is_inherited_and_called)
{
	apr_pool_t *top;
	apr_pool_t *child;

	CHECK_EQ(apr_pool_initialize(), APR_SUCCESS);
	CHECK_EQ(apr_pool_create_ex(&top, NULL, note_abort, NULL), 0);
	CHECK_EQ(apr_pool_create(&child, top), 0);
	CHECK(apr_pool_abort_get(child) == note_abort);
	CHECK_NULL(apr_palloc(child, SIZE_MAX));
	CHECK_NULL(apr_pcalloc(child, SIZE_MAX / 2));
	CHECK_EQ(aborts, 2);
	apr_pool_abort_set(NULL, child);
	CHECK_NULL(apr_palloc(child, SIZE_MAX));
	CHECK_EQ(aborts, 2);
	apr_pool_terminate();
}

TEST(apr_userdata_is_found_by_key_and_cleaned_up)
{
	void *data;
	char key[] = "one";

	CHECK_EQ(apr_pool_initialize(), APR_SUCCESS);
	apr_pool_t *pool = make(NULL, NULL);
	CHECK_EQ(apr_pool_userdata_set("1", key, note, pool), 0);
	key[0] = 'x'; /* it was copied */
	CHECK_EQ(apr_pool_userdata_setn("2", "two", NULL, pool), 0);
	CHECK_EQ(apr_pool_userdata_get(&data, "one", pool), 0);
	CHECK_STR((char *)data, "1");
	CHECK_EQ(apr_pool_userdata_setn("3", "two", NULL, pool), 0);
	CHECK_EQ(apr_pool_userdata_get(&data, "two", pool), 0);
	CHECK_STR((char *)data, "3");
	apr_pool_destroy(pool);
	CHECK_STR(order, "1");
	apr_pool_terminate();
}

TEST(apr_strings_are_those_asked_for)
{
	apr_pool_t *pool;

	CHECK_EQ(apr_pool_create_unmanaged(&pool), APR_SUCCESS);
	CHECK_NULL(apr_pool_parent_get(pool));
	CHECK_STR(apr_pstrdup(pool, "text"), "text");
	CHECK_NULL(apr_pstrdup(pool, NULL));
	CHECK_STR(apr_pstrndup(pool, "text", 2), "te");
	CHECK_STR(apr_pstrndup(pool, "text", 20), "text");
	CHECK_MEM(apr_pstrmemdup(pool, "a\0b", 3), "a\0b", 4);
	CHECK_MEM(apr_pmemdup(pool, "a\0b", 3), "a\0b", 3);
	CHECK_STR(apr_pstrcat(pool, "a", "", "bc", NULL), "abc");
	CHECK_STR(apr_pstrcat(pool, NULL), "");
	CHECK_STR(apr_psprintf(pool, "%d-%s", 7, "x"), "7-x");
	CHECK_EQ(strlen(apr_psprintf(pool, "%070000d", 7)), 70000);
	apr_pool_destroy(pool);
	CHECK_EQ(regions(), 0);
}

static void *
make_and_destroy(void *unused)
{
	for (int i = 0; i < 2000; i++) {
		apr_pool_t *pool = make(NULL, NULL);

		memset(apr_palloc(pool, 100), 1, 100);
		apr_pool_destroy(make(pool, NULL));
		apr_pool_destroy(pool);
	}
	return unused;
}

TEST(apr_threads_share_the_global_pool)
{
	pthread_t threads[4];

	CHECK_EQ(apr_pool_initialize(), APR_SUCCESS);
	for (int i = 0; i < 4; i++)
		CHECK_EQ(
		    pthread_create(&threads[i], NULL, make_and_destroy, NULL),
		    0);
	for (int i = 0; i < 4; i++)
		CHECK_EQ(pthread_join(threads[i], NULL), 0);
	CHECK_EQ(regions(), 1);
	CHECK_NULL(weir_apr_global->child);
	apr_pool_terminate();
}

TEST(apr_hints_for_debugging_are_taken_and_do_nothing)
{
	apr_pool_t *pool, *below;

	CHECK_EQ(apr_pool_create_core(&pool), APR_SUCCESS);
	CHECK_EQ(apr_pool_create(&below, pool), APR_SUCCESS);
	apr_pool_join(pool, below);
	apr_pool_lock(pool, 1);
	CHECK_NOT_NULL(apr_palloc(pool, 10));
	CHECK_PTR(apr_pool_parent_get(below), pool);
	apr_pool_destroy(pool);
	CHECK_EQ(regions(), 0);
}

TEST(apr_pools_are_shown_where_the_program_made_them)
{
	struct weir_region_info info[3];
	apr_pool_t *one, *two;

	CHECK_EQ(apr_pool_create_core(&one), APR_SUCCESS);
	CHECK_EQ(apr_pool_create_core(&two), APR_SUCCESS);
	CHECK_EQ(weir_region_top(WEIR_REGION_BY_AGE, 0, info, 3), 2);
	CHECK_NOT_NULL(info[0].site);
	CHECK(info[0].site != info[1].site);
	apr_pool_destroy(one);
	CHECK_EQ(apr_pool_create(&one, NULL), APR_SUCCESS);
	CHECK_EQ(weir_region_top(WEIR_REGION_BY_AGE, 0, info, 3), 2);
	CHECK(info[0].site != info[1].site);
	apr_pool_destroy(one);
	apr_pool_destroy(two);
}
