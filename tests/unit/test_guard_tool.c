/* SPDX-License-Identifier: MIT */
/*
 * test_guard_tool.c - objects that are blocks of malloc(), as tools see them.
 *
 * That a tool finds the bugs of the set is asked by fault_set --tool; here is
 * asked what the library does for that, in any build.
 */
#include "support/test.h"

#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <weir/region_life.h>
#include <weir/region_vm.h>
#include <weir/weir.h>

#if TEST_ASAN
#include <sanitizer/asan_interface.h>
#endif

static void
guard(enum weir_guard_mode mode, const char *pools)
{
	struct weir_guard_config config = {.mode = mode, .pools = pools};

	CHECK_EQ(weir_guard_set(&config), 0);
}

static struct weir_guard_stats
figures(void)
{
	struct weir_guard_stats stats = {.size = sizeof(stats)};

	CHECK_EQ(weir_guard_read(&stats), 0);
	return stats;
}

static struct weir_cache *
make_cache(const struct weir_cache_config *config)
{
	struct weir_cache *cache;

	CHECK_EQ(weir_cache_create("conn", config, &cache), 0);
	return cache;
}

static struct weir_heap *
make_heap(void)
{
	struct weir_heap *heap;

	CHECK_EQ(weir_heap_create("box", NULL, &heap), 0);
	return heap;
}

static struct weir_region *
make_region(void)
{
	static struct weir_region_kind kind = WEIR_REGION_KIND("request");
	struct weir_region *region;

	CHECK_EQ(weir_region_create(&kind, NULL, &region), 0);
	return region;
}

/* The C library, or what stands for it, has handed this out with this size: it
 * would end the program otherwise, or know another one. */
static void
expect_block(void *object, size_t bytes)
{
	size_t usable = malloc_usable_size(object);

	CHECK_NOT_NULL(object);
	CHECK_GE(usable, bytes);
	CHECK_LE(usable, bytes + 5000);
	memset(object, 1, bytes);
}

TEST(objects_of_every_pool_are_blocks_of_malloc)
{
	struct weir_buffer_pool *buffers;
	struct weir_buffer *buffer;
	struct weir_region *region;
	struct weir_cache *cache;
	struct weir_heap *heap;
	void *object;

	guard(WEIR_GUARD_TOOL, NULL);
	cache = make_cache(&(struct weir_cache_config){.object_bytes = 200});
	heap = make_heap();
	region = make_region();
	CHECK_EQ(weir_buffer_pool_create("io", NULL, &buffers), 0);

	object = weir_cache_alloc(cache);
	expect_block(object, 200);
	weir_cache_free(cache, object);
	object = weir_heap_alloc(heap, 100);
	expect_block(object, 100);
	CHECK_EQ(weir_usable_size(object), 100);
	weir_heap_free(heap, object);
	object = weir_heap_alloc(heap, 1000000);
	expect_block(object, 1000000);
	weir_heap_free(heap, object);
	object = weir_region_alloc(region, 33);
	expect_block(object, 33);
	buffer = weir_buffer_acquire(buffers, 1000);
	CHECK_NOT_NULL(buffer);
	expect_block(buffer->data, 1000);
	weir_buffer_release(buffer);
	CHECK_EQ(figures().live, 1);
	weir_region_destroy(region);
	CHECK_EQ(figures().live, 0);
	weir_buffer_pool_destroy(buffers);
	weir_heap_destroy(heap);
	weir_cache_destroy(cache);
}

TEST(pools_that_are_not_named_keep_their_own_memory)
{
	struct weir_cache *cache;
	struct weir_heap *heap;
	void *object;

	guard(WEIR_GUARD_TOOL, "con*");
	cache = make_cache(&(struct weir_cache_config){.object_bytes = 200});
	heap = make_heap();
	object = weir_heap_alloc(heap, 100);
	CHECK_EQ(figures().live, 0);
	weir_heap_free(heap, object);
	object = weir_cache_alloc(cache);
	CHECK_EQ(figures().live, 1);
	expect_block(object, 200);
	weir_cache_free(cache, object);
	weir_heap_destroy(heap);
	weir_cache_destroy(cache);
}

TEST(alignment_and_zeroes_are_as_asked_for)
{
	struct weir_cache *cache;
	struct weir_heap *heap;

	guard(WEIR_GUARD_TOOL, NULL);
	heap = make_heap();
	for (size_t align = 16; align <= 4096; align *= 2) {
		void *object = weir_heap_aligned(heap, align, align + 8);

		CHECK_NOT_NULL(object);
		CHECK_EQ((uintptr_t)object % align, 0);
		expect_block(object, align + 8);
		weir_heap_free(heap, object);
	}
	cache = make_cache(&(struct weir_cache_config){
	    .object_bytes = 64, .flags = WEIR_CACHE_ZERO});
	for (int i = 0; i < 10; i++) {
		static const char zero[64];
		char *object = weir_cache_alloc(cache);

		CHECK_MEM(object, zero, 64);
		memset(object, 1, 64);
		weir_cache_free(cache, object);
	}
	weir_heap_destroy(heap);
	weir_cache_destroy(cache);
}

TEST(wrong_frees_are_told_with_the_pools)
{
	struct weir_cache *cache, *other;
	char *object, *freed;

	guard(WEIR_GUARD_TOOL, NULL);
	cache = make_cache(&(struct weir_cache_config){.object_bytes = 200});
	CHECK_EQ(weir_cache_create("idle",
		     &(struct weir_cache_config){.object_bytes = 200}, &other),
	    0);
	object = weir_cache_alloc(cache);
	freed = weir_cache_alloc(cache);
	weir_cache_free(cache, freed);
	EXPECT_ABORT("FAULT double-free: cache \"conn\"",
	    { weir_cache_free(cache, freed); });
	EXPECT_ABORT("weir:   ended by free, thread ",
	    { weir_cache_free(cache, freed); });
	EXPECT_ABORT("FAULT interior-pointer: cache \"conn\"",
	    { weir_cache_free(cache, object + 64); });
	EXPECT_ABORT("FAULT wrong-pool: cache \"idle\"",
	    { weir_cache_free(other, object); });
	weir_cache_free(cache, object);
	weir_cache_destroy(other);
	weir_cache_destroy(cache);
}

/* An end of any kind gives the blocks back. */
TEST(ends_of_regions_give_blocks_back)
{
	struct weir_region *region;
	struct weir_region_savepoint mark;
	uint64_t before;

	guard(WEIR_GUARD_TOOL, NULL);
	region = make_region();
	for (int i = 0; i < 10; i++)
		expect_block(weir_region_alloc(region, 100), 100);
	CHECK_EQ(weir_region_mark(region, &mark), 0);
	before = figures().live; /* the savepoint may be one */
	for (int i = 0; i < 10; i++)
		expect_block(weir_region_alloc(region, 5000), 5000);
	CHECK_EQ(figures().live, before + 10);
	weir_region_rewind(region, &mark);
	CHECK_EQ(figures().live, before);
	weir_region_reset(region);
	CHECK_EQ(figures().live, 0);
	expect_block(weir_region_alloc(region, 100), 100);
	weir_region_destroy(region);
	CHECK_EQ(figures().live, 0);
}

/* Each of many is found by its address, whatever the order they end in, and
 * what was freed long ago makes room for others. */
TEST(any_order_of_ends)
{
	enum { LIVE = 2000 };
	static struct {
		char *object;
		size_t bytes;
	} held[LIVE];
	struct test_rng rng;
	struct weir_heap *heap;
	size_t rounds = test_count(200000);

	guard(WEIR_GUARD_TOOL, NULL);
	heap = make_heap();
	test_rng_init(&rng, test_seed());
	for (size_t i = 0; i < rounds; i++) {
		size_t at = (size_t)test_rand_below(&rng, LIVE);

		if (held[at].object != NULL) {
			CHECK_EQ(
			    weir_usable_size(held[at].object), held[at].bytes);
			CHECK_EQ(*held[at].object, (char)at);
			weir_heap_free(heap, held[at].object);
			held[at].object = NULL;
			continue;
		}
		held[at].bytes = 1 + (size_t)test_rand_below(&rng, 2000);
		held[at].object = weir_heap_alloc(heap, held[at].bytes);
		CHECK_NOT_NULL(held[at].object);
		*held[at].object = (char)at;
	}
	CHECK_LE(figures().quarantined, 65536);
	for (size_t i = 0; i < LIVE; i++)
		weir_heap_free(heap, held[i].object);
	CHECK_EQ(figures().live, 0);
	weir_heap_destroy(heap);
}

static void *
take_and_free(void *context)
{
	struct weir_heap *heap = context;
	size_t rounds = test_count(5000);

	for (size_t i = 0; i < rounds; i++) {
		void *object = weir_heap_alloc(heap, 1 + i % 300);

		memset(object, 2, 1 + i % 300);
		weir_heap_free(heap, object);
	}
	return NULL;
}

TEST(threads_and_a_fork)
{
	pthread_t thread[3];
	struct weir_heap *heap;
	int status;

	guard(WEIR_GUARD_TOOL, NULL);
	heap = make_heap();
	for (int i = 0; i < 3; i++)
		CHECK_EQ(
		    pthread_create(&thread[i], NULL, take_and_free, heap), 0);
	for (int i = 0; i < 5; i++) {
		pid_t child = fork();

		CHECK_GE(child, 0);
		if (child == 0) {
			void *object = weir_heap_alloc(heap, 100);

			weir_heap_free(heap, object);
			_exit(object != NULL ? 0 : 1);
		}
		CHECK_EQ(waitpid(child, &status, 0), child);
		CHECK_EQ(status, 0);
	}
	for (int i = 0; i < 3; i++)
		CHECK_EQ(pthread_join(thread[i], NULL), 0);
	weir_heap_destroy(heap);
}

/* Objects from before stay what they are, those of the mode stay blocks. */
TEST(the_mode_changes_while_objects_are_out)
{
	struct weir_heap *heap = make_heap();
	void *before = weir_heap_alloc(heap, 100), *block;

	guard(WEIR_GUARD_TOOL, NULL);
	weir_thread_poll();
	block = weir_heap_alloc(heap, 100);
	expect_block(block, 100);
	weir_heap_free(heap, before);
	guard(WEIR_GUARD_OFF, NULL);
	before = weir_heap_alloc(heap, 100);
	weir_heap_free(heap, block);
	weir_heap_free(heap, before);
	CHECK_EQ(figures().live, 0);
	CHECK(weir_heap_check(heap));
	weir_heap_destroy(heap);
}

#if TEST_ASAN
#define IS_FORBIDDEN(at) (__asan_address_is_poisoned(at) != 0)
#else
#define IS_FORBIDDEN(at) ((void)(at), expected)
#endif

/* Its objects cannot be moved into blocks: they are told apart where they are. */
static void
expect_forbidden(const char *at, bool expected)
{
	CHECK_EQ(IS_FORBIDDEN(at), expected);
}

TEST(a_range_of_addresses_is_forbidden_but_for_its_objects)
{
	const struct weir_region_vm_config config = {
	    .reserve_bytes = 16 << 20, .first_bytes = 4096};
	struct weir_region_vm_point mark;
	struct weir_region_vm *region;
	char *first, *second;

	guard(WEIR_GUARD_TOOL, NULL);
	CHECK_EQ(weir_region_vm_create("arena", &config, &region), 0);
	first = weir_region_vm_alloc(region, 101);
	memset(first, 1, 101);
	expect_forbidden(first + 100, false);
	expect_forbidden(first + 101, true);
	expect_forbidden(first + 4095, true);
	mark = weir_region_vm_mark(region);
	second = weir_region_vm_alloc_aligned(region, 100000, 64);
	memset(second, 1, 100000);
	CHECK(weir_region_vm_extend(region, second, 100000, 300000));
	memset(second, 1, 300000);
	expect_forbidden(second + 300000, true);
	weir_region_vm_shrink(region, second, 300000, 50);
	expect_forbidden(second + 49, false);
	expect_forbidden(second + 50, true);
	CHECK(weir_region_vm_check(region));
	CHECK(weir_region_vm_rewind(region, mark));
	expect_forbidden(second, true);
	expect_forbidden(first, false);
	weir_region_vm_reset(region);
	expect_forbidden(first, true);
	CHECK_PTR(weir_region_vm_alloc(region, 10), first);
	expect_forbidden(first, false);
	CHECK(weir_region_vm_check(region));
	weir_region_vm_destroy(region);
	/* Its addresses are the next one's, which is not told of. */
	expect_forbidden(first + 4095, false);
}
