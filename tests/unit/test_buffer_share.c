/* SPDX-License-Identifier: MIT */
/*
 * test_buffer_share.c - one buffer, many holders: references, slices, wiping,
 * foreign memory.
 */
#include "buffer_common.h"

#include <weir/guard.h>

#include <sched.h>
#include <stdlib.h>
#include <string.h>

/* ---- references -------------------------------------------------------- */

TEST(buffer_lives_until_the_last_release)
{
	struct weir_buffer_pool *pool = pool_make(NULL);
	struct weir_buffer *b = weir_buffer_acquire(pool, 100);

	CHECK_PTR(weir_buffer_retain(b), b);
	CHECK_EQ(weir_buffer_references(b), 2);
	CHECK_PTR(weir_buffer_retain(b), b);
	CHECK_EQ(weir_buffer_references(b), 3);
	weir_buffer_retain_many(b, 0);
	weir_buffer_release_many(b, 0);
	CHECK_EQ(weir_buffer_references(b), 3);
	weir_buffer_release_many(b, 2);
	CHECK_EQ(weir_buffer_references(b), 1);
	weir_buffer_retain_many(b, 41);
	CHECK_EQ(weir_buffer_references(b), 42);
	CHECK_EQ(tier_stats(pool, 1).in_use, 1);
	CHECK_EQ(tier_stats(pool, 1).bytes_in_use, 512);
	weir_buffer_release_many(b, 42);
	CHECK_EQ(tier_stats(pool, 1).in_use, 0);
	pool_end(pool);
}

TEST(buffer_null_is_nothing_to_do)
{
	struct weir_slice empty = {0};

	weir_buffer_release(NULL);
	weir_buffer_pool_destroy(NULL);
	CHECK_NULL(weir_buffer_retain(NULL));
	CHECK_EQ(weir_buffer_references(NULL), 0);
	CHECK_EQ(weir_buffer_usable(NULL), 0);
	CHECK_NULL(weir_slice_retain(weir_slice_sub(empty, 0, 0)).buffer);
	CHECK_NULL(weir_slice_data(weir_slice_make(NULL, 0, 0)));
	weir_slice_release(&empty);
}

static struct weir_buffer *
scoped_early(struct weir_buffer_pool *pool, bool keep)
{
	WEIR_BUFFER_SCOPED struct weir_buffer *b =
	    weir_buffer_acquire(pool, 600);
	struct weir_buffer *kept = b;

	CHECK_EQ(tier_stats(pool, 2).in_use, 1);
	if (!keep)
		return NULL;
	b = NULL;
	return kept;
}

TEST(buffer_scope_guard_releases_on_every_way_out)
{
	struct weir_buffer_pool *pool = pool_make(NULL);
	struct weir_buffer *kept;

	CHECK_NULL(scoped_early(pool, false));
	CHECK_EQ(tier_stats(pool, 2).in_use, 0);
	kept = scoped_early(pool, true);
	CHECK_EQ(weir_buffer_references(kept), 1);
	for (int i = 0; i < 3; i++) {
		WEIR_SLICE_SCOPED struct weir_slice s =
		    weir_slice_retain(weir_slice_make(kept, 1, 2));

		CHECK_EQ(weir_buffer_references(kept), 2);
		if (i == 1)
			continue;
		CHECK_EQ(s.bytes, 2);
	}
	CHECK_EQ(weir_buffer_references(kept), 1);
	weir_buffer_release(kept);
	pool_end(pool);
}

/* ---- wiping ------------------------------------------------------------ */

/* Free payload stays mapped and readable: the pool keeps it for reuse. */
static bool
wiped_after_release(struct weir_buffer *b)
{
	unsigned char *data = b->data;
	size_t bytes = b->bytes;

	memset(data, 0x5a, bytes);
	weir_buffer_retain(b);
	weir_buffer_release(b);
	CHECK(all_bytes(data, bytes, 0x5a)); /* not before the last */
	weir_buffer_release(b);
	if (all_bytes(data, bytes, 0))
		return true;
	CHECK(all_bytes(data, bytes, 0x5a));
	return false;
}

TEST(buffer_payload_is_wiped_when_asked_and_only_then)
{
	struct weir_buffer_pool_config config = {.flags = WEIR_BUFFER_WIPE};
	struct weir_buffer_pool *secret = pool_make(&config);
	struct weir_buffer_pool *plain = pool_make(NULL);
	struct weir_buffer *b;

	/* It reads what was released. */
	CHECK_EQ(weir_guard_set(&(struct weir_guard_config){0}), 0);
	for (size_t i = 0; i < DEFAULT_TIERS; i++) {
		size_t bytes = default_bytes[i];

		CHECK(wiped_after_release(weir_buffer_acquire(secret, bytes)));
		b = weir_buffer_acquire(plain, bytes);
		weir_buffer_set_wipe(b);
		CHECK(wiped_after_release(b));
		/* The mark ends with the use it was made for. */
		CHECK_PTR(weir_buffer_acquire(plain, bytes), b);
		CHECK(!wiped_after_release(b));
	}
	pool_end(secret);
	pool_end(plain);
}

/* ---- slices ------------------------------------------------------------ */

TEST(buffer_slices_cut_without_copying_or_counting)
{
	struct weir_buffer_pool *pool = pool_make(NULL);
	struct weir_buffer *b = weir_buffer_acquire(pool, 64);
	struct weir_slice all = weir_slice_make(b, 0, 64);
	struct weir_slice body = weir_slice_sub(all, 4, 60);
	struct weir_slice tail = weir_slice_sub(body, 50, 10);
	struct weir_slice none = weir_slice_sub(tail, 10, 0);

	CHECK_EQ(weir_buffer_references(b), 1);
	CHECK_PTR(weir_slice_data(all), b->data);
	CHECK_PTR(weir_slice_data(body), b->data + 4);
	CHECK_PTR(weir_slice_data(tail), b->data + 54);
	CHECK_EQ(tail.bytes, 10);
	CHECK_EQ(none.bytes, 0);
	CHECK_EQ(none.offset, 64);

	tail = weir_slice_retain(tail);
	CHECK_EQ(weir_buffer_references(b), 2);
	memcpy(weir_slice_data(tail), "0123456789", 10);
	weir_buffer_release(b);
	CHECK_MEM(weir_slice_data(tail), "0123456789", 10);
	/* A cursor moves and takes the reference along. */
	tail = weir_slice_sub(tail, 3, 7);
	CHECK_MEM(weir_slice_data(tail), "3456789", 7);
	weir_slice_release(&tail);
	CHECK_NULL(tail.buffer);
	CHECK_EQ(tail.bytes, 0);
	weir_slice_release(&tail);
	CHECK_EQ(tier_stats(pool, 0).in_use, 0);
	pool_end(pool);
}

/* ---- foreign memory ---------------------------------------------------- */

static void
free_twin(struct weir_buffer *buffer, void *context)
{
	size_t *calls = context;

	CHECK_EQ(weir_buffer_references(buffer), 0);
	(*calls)++;
	free(buffer);
}

TEST(buffer_over_malloc_is_released_once)
{
	size_t calls = 0;
	struct weir_buffer *b = calloc(1, sizeof(*b) + 100);
	struct weir_slice s;

	CHECK_NOT_NULL(b);
	weir_buffer_init_external(b, b + 1, 100, free_twin, &calls);
	CHECK_EQ(b->bytes, 100);
	CHECK_NULL(b->pool);
	CHECK_NULL(b->user);
	s = weir_slice_retain(weir_slice_make(b, 40, 60));
	memset(weir_slice_data(s), 1, 60);
	weir_buffer_release(b);
	CHECK_EQ(calls, 0);
	weir_slice_release(&s);
	CHECK_EQ(calls, 1);
}

TEST(buffer_over_static_memory_needs_no_release_function)
{
	static char page[] = "HTTP/1.1 404 Not Found\r\n\r\n";
	struct weir_buffer b;

	weir_buffer_init_external(&b, page, sizeof(page) - 1, NULL, NULL);
	weir_buffer_retain(&b);
	weir_buffer_release(&b);
	weir_buffer_release(&b);
	CHECK_EQ(weir_buffer_references(&b), 0);
	CHECK_STR(page, "HTTP/1.1 404 Not Found\r\n\r\n");
	weir_buffer_init_external(&b, NULL, 0, NULL, NULL);
	weir_buffer_set_wipe(&b);
	weir_buffer_release(&b);
}

static void
check_wiped(struct weir_buffer *buffer, void *context)
{
	CHECK(all_bytes(buffer->data, buffer->bytes, 0));
	*(bool *)context = true;
}

TEST(buffer_over_foreign_memory_is_wiped_before_it_is_given_back)
{
	unsigned char key[48];
	struct weir_buffer b;
	bool called = false;

	memset(key, 0xee, sizeof(key));
	weir_buffer_init_external(&b, key, sizeof(key), check_wiped, &called);
	weir_buffer_set_wipe(&b);
	weir_buffer_release(&b);
	CHECK(called);
}

#define RACERS 2

struct static_race {
	struct weir_buffer buffer;
	uint64_t end_ns; /* few steps do where each waits for a processor */
	unsigned arrived;
	bool over;
};

/* A barrier that spins: threads leave it within nanoseconds of each other. */
static void
gather(struct static_race *race, unsigned *lap)
{
	unsigned all = ++*lap * RACERS;
	unsigned spins = 0;

	__atomic_fetch_add(&race->arrived, 1, __ATOMIC_ACQ_REL);
	while (__atomic_load_n(&race->arrived, __ATOMIC_ACQUIRE) < all)
		if (++spins % 1024 == 0)
			sched_yield();
}

static void
static_race_run(unsigned index, void *context)
{
	struct static_race *race = context;
	unsigned lap = 0;

	for (size_t i = test_count(100000); i > 0 && !race->over; i--) {
		gather(race, &lap);
		weir_buffer_retain(&race->buffer);
		gather(race, &lap);
		CHECK_EQ(weir_buffer_references(&race->buffer), 1 + RACERS);
		if (index == 0)
			race->over = test_now_ns() > race->end_ns;
		gather(race, &lap);
		weir_buffer_release(&race->buffer);
	}
}

TEST(buffer_over_static_memory_may_be_retained_by_any_thread)
{
	static char text[] = "shared by all";
	static struct static_race race;

	weir_buffer_init_external(&race.buffer, text, sizeof(text), NULL, NULL);
	race.end_ns = test_now_ns() + UINT64_C(10000000000);
	test_threads(RACERS, static_race_run, &race);
	CHECK_EQ(weir_buffer_references(&race.buffer), 1);
	weir_buffer_release(&race.buffer);
}
