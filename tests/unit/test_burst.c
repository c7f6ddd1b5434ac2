/* SPDX-License-Identifier: MIT */
/*
 * test_burst.c - what a burst leaves behind goes back, although a few objects of
 * it stay in use, or a thread goes on taking and giving what lies all over it.
 */
#include "support/proc.h"
#include "support/test.h"

#include <weir/buffer.h>
#include <weir/cache.h>
#include <weir/runtime.h>
#include <weir/stats.h>

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define BURST_BUFFERS 16384
#define BURST_BYTES 2048
#define BURST_KEPT 512 /* each of so many stays in use */
#define BURST_OBJECTS 65536
#define BURST_USED 50
#define BURST_DECAY_MS 200
#define BURST_LIMIT_NS UINT64_C(50000000000)
#define MIB ((uint64_t)1 << 20)

static void
pass(void)
{
	const struct timespec pause = {.tv_nsec = 2000000};

	(void)weir_maintain(UINT64_MAX);
	nanosleep(&pause, NULL);
}

static struct weir_buffer *burst[BURST_BUFFERS];

static void
acquire_all(struct weir_buffer_pool *pool)
{
	for (size_t i = 0; i < BURST_BUFFERS; i++) {
		if (burst[i] == NULL)
			burst[i] = weir_buffer_acquire(pool, BURST_BYTES);
		CHECK_NOT_NULL(burst[i]);
		memset(burst[i]->data, (int)(i & 0xff), BURST_BYTES);
	}
}

static void
check_payload(size_t i)
{
	for (size_t k = 0; k < BURST_BYTES; k++)
		CHECK_EQ(burst[i]->data[k], i & 0xff);
}

TEST(burst_of_buffers_goes_back_around_those_that_stay)
{
	const struct weir_buffer_pool_config config = {
	    .tier = {{.bytes = BURST_BYTES}}, .tier_count = 1};
	struct weir_buffer_pool *pool;
	uint64_t before, end;

	if (!test_owns_memory())
		SKIP("the tool has memory of its own");
	NOT_UNDER_GUARD("each buffer has pages of its own");
	weir_set_decay(BURST_DECAY_MS);
	CHECK_EQ(weir_buffer_pool_create("burst", &config, &pool), 0);
	before = test_resident_bytes();
	acquire_all(pool);
	CHECK_GT(test_resident_bytes(), before + 32 * MIB);
	for (size_t i = 0; i < BURST_BUFFERS; i++)
		if (i % BURST_KEPT != 0) {
			weir_buffer_release(burst[i]);
			burst[i] = NULL;
		}
	end = test_now_ns() + BURST_LIMIT_NS;
	while (test_resident_bytes() > before + 2 * MIB && test_now_ns() < end)
		pass();
	CHECK_LE(test_resident_bytes(), before + 2 * MIB);
	CHECK(weir_buffer_pool_check(pool));
	/* What stayed is as it was, and what went can be used again. */
	for (size_t i = 0; i < BURST_BUFFERS; i += BURST_KEPT)
		check_payload(i);
	acquire_all(pool);
	for (size_t i = 0; i < BURST_BUFFERS; i++) {
		check_payload(i);
		weir_buffer_release(burst[i]);
		burst[i] = NULL;
	}
	CHECK(weir_buffer_pool_check(pool));
	weir_buffer_pool_destroy(pool);
}

static void
shuffle(void **object, size_t count)
{
	struct test_rng rng;

	test_rng_init(&rng, test_seed());
	for (size_t i = count; i-- > 1;) {
		size_t at = (size_t)test_rand_below(&rng, i + 1);
		void *other = object[at];

		object[at] = object[i];
		object[i] = other;
	}
}

TEST(burst_of_objects_goes_back_while_some_of_them_are_in_use)
{
	const struct weir_cache_config config = {.object_bytes = 128};
	struct weir_pool_stats stats = {.size = sizeof(stats)};
	void **object = calloc(BURST_OBJECTS, sizeof(*object));
	struct weir_cache *cache;
	uint64_t end;

	NOT_UNDER_GUARD("each object has pages of its own");
	CHECK_NOT_NULL(object);
	weir_set_decay(BURST_DECAY_MS);
	CHECK_EQ(weir_cache_create("burst", &config, &cache), 0);
	for (size_t i = 0; i < BURST_OBJECTS; i++) {
		object[i] = weir_cache_alloc(cache);
		CHECK_NOT_NULL(object[i]);
	}
	/* So that those freed last, which are used first, lie anywhere. */
	shuffle(object, BURST_OBJECTS);
	for (size_t i = 0; i < BURST_OBJECTS; i++)
		weir_cache_free(cache, object[i]);
	end = test_now_ns() + BURST_LIMIT_NS;
	do {
		for (size_t i = 0; i < BURST_USED; i++)
			object[i] = weir_cache_alloc(cache);
		for (size_t i = 0; i < BURST_USED; i++)
			weir_cache_free(cache, object[i]);
		pass();
		CHECK_EQ(weir_cache_stats(cache, &stats), 0);
	} while (stats.bytes_mapped > MIB && test_now_ns() < end);
	CHECK_LE(stats.bytes_mapped, MIB);
	weir_cache_destroy(cache);
	free(object);
}

/* ---- pages around what stays ----------------------------------------------- */

#define STAYS_OBJECTS 4096
#define STAYS_EACH 512   /* one of so many stays ... */
#define STAYS_STEP 32768 /* and those at multiples of this */

static size_t stays_page;

static uintptr_t
stays_page_of(const void *address)
{
	return (uintptr_t)address & ~(stays_page - 1);
}

static bool
stays_resident(uintptr_t page)
{
	unsigned char resident;

	/* An error: it is not even mapped. */
	return mincore((void *)page, stays_page, &resident) == 0 &&
	       (resident & 1) != 0;
}

/* Pages in memory that objects were in, of increasing addresses. */
static size_t
stays_count(void *const *object, size_t bytes)
{
	uintptr_t before = 0;
	size_t pages = 0;

	for (size_t i = 0; i < STAYS_OBJECTS; i++) {
		const char *at = object[i];

		for (uintptr_t page = stays_page_of(at);
		     page <= stays_page_of(at + bytes - 1);
		     page += stays_page) {
			if (page > before && stays_resident(page))
				pages++;
			before = page > before ? page : before;
		}
	}
	return pages;
}

static int
stays_compare(const void *a, const void *b)
{
	uintptr_t x = (uintptr_t) * (void *const *)a;
	uintptr_t y = (uintptr_t) * (void *const *)b;

	return (x > y) - (x < y);
}

/* What is before an object at the start of a page lies in the one before. */
static bool
stays_is_kept(void *const *object, size_t i)
{
	return i % STAYS_EACH == 0 || (uintptr_t)object[i] % STAYS_STEP == 0;
}

static void
stays_take(struct weir_cache *cache, void **object, size_t bytes, bool all)
{
	for (size_t i = 0; i < STAYS_OBJECTS; i++) {
		if (!all && stays_is_kept(object, i))
			continue;
		object[i] = weir_cache_alloc(cache);
		CHECK_NOT_NULL(object[i]);
		memset(object[i], (int)(i & 0xff), bytes);
	}
}

/* A free object that is not in memory, in a slab that is; or 0. */
static size_t
stays_find(void *const *object)
{
	const uintptr_t slab = ~(uintptr_t)0xffff; /* or more of it */
	size_t kept = 0;

	for (size_t i = 0; i < STAYS_OBJECTS; i++) {
		uintptr_t other =
		    (uintptr_t)object[i] ^ (uintptr_t)object[kept];

		if (stays_is_kept(object, i))
			kept = i;
		else if ((other & slab) == 0 &&
			 !stays_resident(stays_page_of(object[i])))
			return i;
	}
	return 0;
}

static void
stays_run(const struct weir_cache_config *config)
{
	static void *object[STAYS_OBJECTS];
	struct weir_cache *cache;
	size_t kept = 0, before, at;
	uint64_t end;

	CHECK_EQ(weir_cache_create("stays", config, &cache), 0);
	stays_take(cache, object, config->object_bytes, true);
	qsort(object, STAYS_OBJECTS, sizeof(*object), stays_compare);
	for (size_t i = 0; i < STAYS_OBJECTS; i++)
		memset(object[i], (int)(i & 0xff), config->object_bytes);
	before = stays_count(object, config->object_bytes);
	for (size_t i = 0; i < STAYS_OBJECTS; i++) {
		kept += stays_is_kept(object, i);
		if (!stays_is_kept(object, i))
			weir_cache_free(cache, object[i]);
	}
	/* Each of them lies in two pages at most, a slab begins with one. */
	CHECK_GT(before, 4 * kept);
	end = test_now_ns() + BURST_LIMIT_NS;
	do
		pass();
	while ((stays_count(object, config->object_bytes) > 3 * kept ||
		   stays_find(object) == 0) &&
	       test_now_ns() < end);
	CHECK_LE(stays_count(object, config->object_bytes), 3 * kept);
	at = stays_find(object);
	CHECK_NE(at, 0);
	CHECK(weir_cache_check(cache));
	if (config->check == WEIR_CHECK_EACH)
		EXPECT_ABORT("FAULT double-free",
		    { weir_cache_free(cache, object[at]); });
	stays_take(cache, object, config->object_bytes, false);
	for (size_t i = 0; i < STAYS_OBJECTS; i++) {
		const unsigned char *byte = object[i];

		for (size_t k = 0; k < config->object_bytes; k++)
			CHECK_EQ(byte[k], i & 0xff);
	}
	for (size_t i = 0; i < STAYS_OBJECTS; i++)
		weir_cache_free(cache, object[i]);
	CHECK(weir_cache_check(cache));
	weir_cache_destroy(cache);
}

TEST(burst_of_objects_leaves_the_pages_of_those_that_stay)
{
	/* The state in a word before it, in a table, in a byte, nowhere. */
	static const struct weir_cache_config shapes[] = {
	    {.object_bytes = 56},
	    {.object_bytes = 512, .object_align = 64},
	    {.object_bytes = 192, .object_align = 64},
	    {.object_bytes = 1280, .object_align = 256},
	    {.object_bytes = 64, .check = WEIR_CHECK_BATCH},
	    {.object_bytes = 200, .flags = WEIR_CACHE_ZERO},
	    {.object_bytes = 100, .flags = WEIR_CACHE_HANDLES},
	};

	NOT_UNDER_GUARD("each object has pages of its own");
	stays_page = (size_t)sysconf(_SC_PAGESIZE);
	if (stays_page != 4096)
		SKIP("larger pages go whole");
	weir_set_decay(BURST_DECAY_MS);
	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
		stays_run(&shapes[i]);
}

/* All of a slab's; a thread's magazines have some of each page. */
#define FEW_OBJECTS 1000
#define FEW_USED 20

static size_t
few_resident(const void *object)
{
	uintptr_t slab = (uintptr_t)object & ~(uintptr_t)0xffff;
	size_t pages = 0;

	for (size_t at = 0; at < 0x10000; at += stays_page)
		pages += stays_resident(slab + at);
	return pages;
}

TEST(burst_of_objects_leaves_few_pages_to_those_in_use)
{
	const struct weir_cache_config config = {.object_bytes = 56};
	void *object[FEW_OBJECTS];
	struct weir_cache *cache;
	uint64_t end;

	NOT_UNDER_GUARD("each object has pages of its own");
	stays_page = (size_t)sysconf(_SC_PAGESIZE);
	if (stays_page != 4096)
		SKIP("larger pages go whole");
	weir_set_decay(BURST_DECAY_MS);
	CHECK_EQ(weir_cache_create("few", &config, &cache), 0);
	for (size_t i = 0; i < FEW_OBJECTS; i++) {
		object[i] = weir_cache_alloc(cache);
		CHECK_NOT_NULL(object[i]);
	}
	CHECK_GE(few_resident(object[0]), 15);
	shuffle(object, FEW_OBJECTS);
	for (size_t i = 0; i < FEW_OBJECTS; i++)
		weir_cache_free(cache, object[i]);
	end = test_now_ns() + BURST_LIMIT_NS;
	do {
		for (size_t i = 0; i < FEW_USED; i++)
			object[i] = weir_cache_alloc(cache);
		for (size_t i = 0; i < FEW_USED; i++)
			weir_cache_free(cache, object[i]);
		pass();
	} while (few_resident(object[0]) > 6 && test_now_ns() < end);
	CHECK_LE(few_resident(object[0]), 6);
	CHECK(weir_cache_check(cache));
	/* One that went with its state is free all the same. */
	for (size_t i = FEW_USED; i < FEW_OBJECTS; i++) {
		uintptr_t state = (uintptr_t)object[i] - sizeof(uint64_t);

		if (stays_resident(state & ~(uintptr_t)(stays_page - 1)))
			continue;
		EXPECT_ABORT("FAULT double-free: cache \"few\"",
		    { weir_cache_free(cache, object[i]); });
		break;
	}
	weir_cache_destroy(cache);
}
