/* SPDX-License-Identifier: MIT */
/*
 * test_ngx_palloc.c - the calls of nginx's pools, outside nginx.
 */
#include "test.h"

#define WEIR_COMPAT_IMPLEMENTATION
#include <weir/compat/ngx_palloc.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

static char order[16];

static void
note(void *data)
{
	size_t used = strlen(order);

	order[used] = *(const char *)data;
	order[used + 1] = '\0';
}

static void
add(ngx_pool_t *pool, char name)
{
	ngx_pool_cleanup_t *cleanup = ngx_pool_cleanup_add(pool, 1);

	CHECK_NOT_NULL(cleanup);
	CHECK(cleanup->handler == NULL);
	*(char *)cleanup->data = name;
	cleanup->handler = note;
}

static uint64_t
regions(void)
{
	struct weir_pool_stats stats = {.size = sizeof(stats)};

	CHECK_EQ(weir_region_kind_stats(&weir_ngx_kind, &stats), 0);
	return stats.in_use;
}

static uint64_t
heap_objects(void)
{
	struct weir_pool_stats stats = {.size = sizeof(stats)};

	if (weir_heap_default() == NULL)
		return 0;
	CHECK_EQ(weir_heap_stats(weir_heap_default(), &stats), 0);
	return stats.in_use;
}

TEST(ngx_objects_of_all_sizes_keep_their_contents)
{
	ngx_pool_t *pool = ngx_create_pool(NGX_DEFAULT_POOL_SIZE, NULL);
	unsigned char *objects[200];

	CHECK_NOT_NULL(pool);
	CHECK_EQ(pool->max, 4095);
	for (size_t i = 0; i < 200; i++) {
		size_t bytes = 1 + i * i;

		objects[i] = i % 3 == 0   ? ngx_pcalloc(pool, bytes)
			     : i % 3 == 1 ? ngx_palloc(pool, bytes)
					  : ngx_pnalloc(pool, bytes);
		CHECK_NOT_NULL(objects[i]);
		if (i % 3 == 0)
			for (size_t j = 0; j < bytes; j++)
				CHECK_EQ(objects[i][j], 0);
		memset(objects[i], (int)i, bytes);
	}
	for (size_t i = 0; i < 200; i++)
		for (size_t j = 0; j < 1 + i * i; j++)
			CHECK_EQ(objects[i][j], i);
	ngx_destroy_pool(pool);
	CHECK_EQ(regions(), 0);
	CHECK_EQ(heap_objects(), 0);
}

TEST(ngx_pfree_frees_large_objects_and_declines_others)
{
	ngx_pool_t *pool = ngx_create_pool(1024, NULL);
	size_t max = pool->max;
	void *small = ngx_palloc(pool, max);
	void *large = ngx_palloc(pool, max + 1);
	uint64_t before = heap_objects();
	int local;

	CHECK_EQ(ngx_pfree(pool, small), NGX_DECLINED);
	CHECK_EQ(ngx_pfree(pool, &local), NGX_DECLINED);
	CHECK_EQ(ngx_pfree(pool, large), NGX_OK);
	CHECK_EQ(heap_objects(), before - 1);
	CHECK_EQ(ngx_pfree(pool, large), NGX_DECLINED);
	CHECK_EQ(ngx_pfree(pool, NULL), NGX_DECLINED);
	/* A connection that lives long takes and frees buffers for ever. */
	for (int i = 0; i < 10000; i++) {
		large = ngx_palloc(pool, 8192);
		CHECK_NOT_NULL(large);
		CHECK_EQ(ngx_pfree(pool, large), NGX_OK);
	}
	CHECK_NOT_NULL(pool->large);
	CHECK_NULL(pool->large->next);
	ngx_destroy_pool(pool);
	CHECK_EQ(heap_objects(), 0);
}

TEST(ngx_pmemalign_aligns_and_is_freed)
{
	ngx_pool_t *pool = ngx_create_pool(512, NULL);

	for (size_t align = 16; align <= 65536; align *= 2) {
		void *object = ngx_pmemalign(pool, 100, align);

		CHECK_NOT_NULL(object);
		CHECK_EQ((uintptr_t)object % align, 0);
		if (align % 3 == 1)
			CHECK_EQ(ngx_pfree(pool, object), NGX_OK);
	}
	ngx_destroy_pool(pool);
	CHECK_EQ(heap_objects(), 0);
}

TEST(ngx_cleanups_run_newest_first_and_once)
{
	ngx_pool_t *pool = ngx_create_pool(4096, NULL);

	add(pool, 'a');
	add(pool, 'b');
	CHECK_NOT_NULL(ngx_pool_cleanup_add(pool, 0)); /* without a handler */
	add(pool, 'c');
	ngx_destroy_pool(pool);
	CHECK_STR(order, "cba");
}

TEST(ngx_reset_runs_cleanups_keeps_the_pool_and_frees_large_objects)
{
	ngx_pool_t *pool = ngx_create_pool(4096, NULL);

	for (int round = 0; round < 100; round++) {
		order[0] = '\0';
		add(pool, 'x');
		add(pool, 'y');
		CHECK_NOT_NULL(ngx_palloc(pool, 100000));
		for (int i = 0; i < 100; i++)
			memset(ngx_palloc(pool, 300), 0xff, 300);
		ngx_reset_pool(pool);
		CHECK_STR(order, "yx");
		CHECK_NULL(pool->cleanup);
		CHECK_NULL(pool->large);
		CHECK_EQ(heap_objects(), 1); /* the pool itself */
	}
	order[0] = '\0';
	ngx_destroy_pool(pool);
	CHECK_STR(order, "");
}

TEST(ngx_any_size_of_pool_serves_any_object)
{
	static const size_t sizes[] = {
	    0, 1, 80, 127, 1001, 4096, 40000, 1 << 20};

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		ngx_pool_t *pool = ngx_create_pool(sizes[i], NULL);

		CHECK_NOT_NULL(pool);
		for (size_t bytes = 0; bytes < 6000; bytes += 37) {
			void *object = ngx_palloc(pool, bytes);

			CHECK_NOT_NULL(object);
			memset(object, 1, bytes);
			CHECK(weir_region_check(weir_ngx_region(pool)));
		}
		CHECK_NULL(ngx_palloc(pool, SIZE_MAX));
		CHECK_NULL(ngx_palloc(pool, SIZE_MAX / 2));
		ngx_destroy_pool(pool);
	}
	CHECK_EQ(regions(), 0);
}

TEST(ngx_files_are_closed_and_deleted)
{
	char name[] = "/tmp/weir-ngx-XXXXXX";
	ngx_pool_t *pool = ngx_create_pool(4096, NULL);
	int files[2] = {mkstemp(name), open("/dev/null", O_RDONLY)};

	for (int i = 0; i < 2; i++) {
		ngx_pool_cleanup_t *cleanup =
		    ngx_pool_cleanup_add(pool, sizeof(ngx_pool_cleanup_file_t));
		ngx_pool_cleanup_file_t *file = cleanup->data;

		CHECK(files[i] >= 0);
		file->fd = files[i];
		file->name = (unsigned char *)name;
		file->log = NULL;
		cleanup->handler =
		    i == 0 ? ngx_pool_delete_file : ngx_pool_cleanup_file;
	}
	ngx_pool_run_cleanup_file(pool, files[0]); /* not one of its kind */
	CHECK(fcntl(files[0], F_GETFD) >= 0);
	ngx_pool_run_cleanup_file(pool, files[1]);
	CHECK_EQ(fcntl(files[1], F_GETFD), -1);
	ngx_destroy_pool(pool);
	CHECK_EQ(fcntl(files[0], F_GETFD), -1);
	CHECK_EQ(access(name, F_OK), -1);
}

TEST(ngx_pools_are_shown_where_the_program_made_them)
{
	struct weir_region_info info[3];
	ngx_pool_t *one = ngx_create_pool(1024, NULL);
	ngx_pool_t *two = ngx_create_pool(1024, NULL);

	CHECK_EQ(weir_region_top(WEIR_REGION_BY_AGE, 0, info, 3), 2);
	CHECK_NOT_NULL(info[0].site);
	CHECK(info[0].site != info[1].site);
	ngx_destroy_pool(one);
	ngx_destroy_pool(two);
}
