/* SPDX-License-Identifier: MIT */
/*
 * test_buffer_fault.c - misuse of buffers dies with the right line, and memory
 * that is refused at any point loses nothing.
 */
#include "test.h"

#include <weir/buffer.h>
#include <weir/guard.h>

#include "os/os.h"
#include "pages/pages.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <string.h>
#include <unistd.h>

static struct weir_buffer_pool *
pool_make(void)
{
	struct weir_buffer_pool *pool;

	CHECK_EQ(weir_buffer_pool_create("net", NULL, &pool), 0);
	return pool;
}

TEST(buffer_second_release_is_a_double_free)
{
	struct weir_buffer_pool *pool = pool_make();
	struct weir_buffer *b = weir_buffer_acquire(pool, 2000);

	weir_buffer_release(b);
	EXPECT_ABORT("weir: FAULT double-free: buffer \"net/2048\": ",
	    weir_buffer_release(b));
	EXPECT_ABORT("weir: FAULT double-free: buffer \"net/2048\": ",
	    weir_buffer_release_many(b, 3));
	/* The fault left the pool as it was. */
	CHECK(weir_buffer_pool_check(pool));
	weir_buffer_pool_destroy(pool);
}

TEST(buffer_retain_of_a_free_buffer_is_a_double_free)
{
	struct weir_buffer_pool *pool = pool_make();
	struct weir_buffer *b = weir_buffer_acquire(pool, 2000);
	struct weir_slice s = weir_slice_make(b, 0, 100);

	weir_buffer_release(b);
	EXPECT_ABORT("double-free", weir_buffer_retain(b));
	EXPECT_ABORT("double-free", s = weir_slice_retain(s));
	EXPECT_ABORT("double-free", weir_slice_release(&s));
	EXPECT_ABORT("double-free", weir_buffer_set_wipe(b));
	weir_buffer_pool_destroy(pool);
}

TEST(buffer_released_too_often_is_a_reference_underflow)
{
	struct weir_buffer_pool *pool = pool_make();
	struct weir_buffer *b = weir_buffer_acquire(pool, 10);

	weir_buffer_retain(b);
	EXPECT_ABORT("weir: FAULT reference-underflow: buffer \"net/64\": ",
	    weir_buffer_release_many(b, 3));
	weir_buffer_release_many(b, 2);
	weir_buffer_pool_destroy(pool);
}

TEST(buffer_over_foreign_memory_underflows)
{
	static char text[] = "static";
	struct weir_buffer b;

	weir_buffer_init_external(&b, text, sizeof(text), NULL, NULL);
	weir_buffer_release(&b);
	EXPECT_ABORT(
	    "weir: FAULT reference-underflow: buffer", weir_buffer_release(&b));
	EXPECT_ABORT("reference-underflow", weir_buffer_retain(&b));
}

TEST(buffer_with_too_many_references_is_corruption)
{
	static char text[] = "static";
	struct weir_buffer b;

	weir_buffer_init_external(&b, text, sizeof(text), NULL, NULL);
	weir_buffer_retain_many(&b, 0x7ffffffe);
	CHECK_EQ(weir_buffer_references(&b), 0x7fffffff);
	EXPECT_ABORT("corruption", weir_buffer_retain(&b));
	EXPECT_ABORT("corruption", weir_buffer_retain_many(&b, UINT32_MAX));
	weir_buffer_release_many(&b, 0x7fffffff);
}

TEST(buffer_pointer_to_something_else_is_foreign)
{
	struct weir_buffer_pool *pool = pool_make();
	struct weir_buffer *b = weir_buffer_acquire(pool, 2000);
	static uint64_t other[16];

	memset(b->data, 0x42, b->bytes);
	EXPECT_ABORT("weir: FAULT foreign-pointer: buffer: 0x",
	    weir_buffer_release((struct weir_buffer *)(void *)b->data));
	EXPECT_ABORT(" is in the payload of a buffer; ",
	    weir_buffer_retain((struct weir_buffer *)(void *)b->data));
	EXPECT_ABORT("foreign-pointer",
	    weir_buffer_retain((struct weir_buffer *)(void *)other));
	weir_buffer_release(b);
	weir_buffer_pool_destroy(pool);
}

TEST(buffer_pointer_into_a_descriptor_is_interior)
{
	struct weir_buffer_pool *pool = pool_make();
	struct weir_buffer *b = weir_buffer_acquire(pool, 2000);

	for (size_t at = 8; at < sizeof(*b); at += 8) {
		struct weir_buffer *inside =
		    (struct weir_buffer *)(void *)((char *)b + at);

		EXPECT_ABORT("FAULT interior-pointer: buffer \"net/2048\": 0x",
		    weir_buffer_release(inside));
		EXPECT_ABORT("FAULT interior-pointer: buffer \"net/2048\": 0x",
		    weir_buffer_release_many(inside, 1));
	}
	/* Not even when the words there look like a descriptor's. */
	b->internal[0] = (uint64_t)b->flags << 32;
	b->internal[1] = 1;
	EXPECT_ABORT("FAULT interior-pointer: buffer \"net/2048\": 0x",
	    weir_buffer_release(
		(struct weir_buffer *)(void *)((char *)b + 32)));
	weir_buffer_release(b);
	weir_buffer_pool_destroy(pool);
}

TEST(buffer_copy_of_a_descriptor_is_no_buffer)
{
	struct weir_buffer_pool *pool = pool_make();
	struct weir_buffer *b = weir_buffer_acquire(pool, 2000);
	struct weir_buffer *other = weir_buffer_acquire(pool, 60000);
	_Alignas(64) struct weir_buffer copy = *b;

	EXPECT_ABORT("weir: FAULT foreign-pointer: buffer: 0x",
	    weir_buffer_release(&copy));
	copy.references = 2;
	EXPECT_ABORT("weir: FAULT foreign-pointer: buffer: 0x",
	    weir_buffer_release(&copy));
	/* In a payload, and over another tier's descriptor. */
	memcpy(b->data, b, sizeof(*b));
	EXPECT_ABORT("weir: FAULT foreign-pointer: buffer: 0x",
	    weir_buffer_release((struct weir_buffer *)(void *)b->data));
	EXPECT_ABORT("weir: FAULT corruption: buffer \"net/65536\": ", {
		*other = *b;
		weir_buffer_release(other);
	});
	weir_buffer_release(other);
	weir_buffer_release(b);
	weir_buffer_pool_destroy(pool);
}

TEST(buffer_descriptor_written_to_while_held_is_corruption)
{
	struct weir_buffer_pool *pool = pool_make();
	struct weir_buffer *b = weir_buffer_acquire(pool, 2000);

	EXPECT_ABORT("weir: FAULT corruption: buffer \"net/2048\": the "
		     "descriptor of buffer 0x",
	    {
		    memset(b, 0x41, sizeof(*b));
		    weir_buffer_release(b);
	    });
	weir_buffer_release(b);
	weir_buffer_pool_destroy(pool);
}

/* What a thread does that read the count before another one's last release. */
static void
release_as_if_at_once(struct weir_buffer *b)
{
	weir_buffer_release(b);
	__atomic_store_n(&b->references, 1, __ATOMIC_RELAXED);
	weir_buffer_release(b);
}

TEST(buffer_released_by_two_at_once_is_seen_by_limit_bytes)
{
	struct weir_buffer_pool *pool;

	CHECK_EQ(weir_buffer_pool_create("net",
		     &(struct weir_buffer_pool_config){.limit_bytes = 1 << 20},
		     &pool),
	    0);

	struct weir_buffer *b = weir_buffer_acquire(pool, 2000);

	EXPECT_ABORT("weir: FAULT double-free: buffer \"net/2048\": ",
	    release_as_if_at_once(b));
	weir_buffer_release(b);
	CHECK(weir_buffer_pool_check(pool));
	weir_buffer_pool_destroy(pool);
}

TEST(buffer_released_by_two_at_once_is_seen_by_the_next_owner_but_one)
{
	struct weir_buffer_pool *pool = pool_make();
	struct weir_buffer *b = weir_buffer_acquire(pool, 2000);

	EXPECT_ABORT("FAULT corruption: buffer \"net/2048\": free buffer 0x", {
		release_as_if_at_once(b);
		CHECK_PTR(weir_buffer_acquire(pool, 2000), b);
		(void)!weir_buffer_acquire(pool, 2000);
	});
	weir_buffer_release(b);
	weir_buffer_pool_destroy(pool);
}

#define RACE_THREADS 2

struct race {
	struct weir_buffer buffer;
	unsigned arrived, faults, ended;
	bool last; /* of thread 0, read by the others after they met */
};

static __thread jmp_buf race_back;

static void
race_fault(const struct weir_fault *fault, void *context)
{
	struct race *race = context;

	CHECK_EQ(fault->fault_class, WEIR_FAULT_REF_UNDERFLOW);
	__atomic_fetch_add(&race->faults, 1, __ATOMIC_RELAXED);
	longjmp(race_back, 1);
}

static void
race_end(struct weir_buffer *buffer, void *context)
{
	struct race *race = context;

	(void)buffer;
	__atomic_fetch_add(&race->ended, 1, __ATOMIC_RELAXED);
}

/* All of them, before any goes on; @round counts from 0.  Spins at first, so
 * that they leave within nanoseconds of each other. */
static void
race_meet(struct race *race, unsigned round)
{
	unsigned spins = 0;

	__atomic_fetch_add(&race->arrived, 1, __ATOMIC_ACQ_REL);
	while (__atomic_load_n(&race->arrived, __ATOMIC_ACQUIRE) <
	       (round + 1) * RACE_THREADS)
		if (++spins > 5000)
			sched_yield();
}

/* Apart from the checks, whose variables a longjmp could spoil. */
static void
race_release(struct race *race)
{
	if (setjmp(race_back) == 0)
		weir_buffer_release(&race->buffer);
}

static void
race_run(unsigned index, void *context)
{
	struct race *race = context;
	static char text[] = "static";
	unsigned rounds = (unsigned)test_count(20000);
	uint64_t end_ns = test_now_ns() + UINT64_C(3000000000);

	for (unsigned i = 0; i < rounds; i++) {
		if (index == 0) {
			weir_buffer_init_external(
			    &race->buffer, text, 6, race_end, race);
			/* A meeting takes long where threads outnumber the
			 * processors that are free. */
			race->last = test_now_ns() > end_ns;
		}
		race_meet(race, 3 * i);
		if (race->last)
			rounds = i + 1;
		race_release(race);
		race_meet(race, 3 * i + 1);
		/* One of them ended it, the other was told. */
		CHECK_EQ(
		    __atomic_load_n(&race->ended, __ATOMIC_RELAXED), i + 1);
		CHECK_EQ(
		    __atomic_load_n(&race->faults, __ATOMIC_RELAXED), i + 1);
		race_meet(race, 3 * i + 2);
	}
}

TEST(buffer_over_foreign_memory_ends_once_when_two_release_at_once)
{
	static struct race race;

	/* A line for each of the faults is of no use to anybody. */
	CHECK_EQ(
	    dup2(open("/dev/null", O_WRONLY), STDERR_FILENO), STDERR_FILENO);
	weir_guard_set_hook(race_fault, &race);
	test_threads(RACE_THREADS, race_run, &race);
	CHECK_GT(race.ended, 0);
}

static jmp_buf back;

static void
leave(const struct weir_fault *fault, void *context)
{
	(void)fault;
	(void)context;
	longjmp(back, 1);
}

TEST(buffer_left_by_a_hook_at_acquire_charges_nothing)
{
	struct weir_buffer_pool *pool;
	struct weir_buffer *b;

	CHECK_EQ(
	    weir_buffer_pool_create("one",
		&(struct weir_buffer_pool_config){.tier = {{.bytes = 2048}},
		    .tier_count = 1,
		    .limit_bytes = 2048},
		&pool),
	    0);
	b = weir_buffer_acquire(pool, 2000);
	weir_buffer_release(b);
	b->references = 7; /* a write through a stale pointer */
	weir_guard_set_hook(leave, NULL);
	if (setjmp(back) == 0) {
		(void)!weir_buffer_acquire(pool, 2000);
		FAIL("the hook was not called");
	}
	b->references = 0; /* mended, the one buffer there is serves again */
	CHECK_PTR(weir_buffer_acquire(pool, 2000), b);
	weir_buffer_release(b);
	CHECK(weir_buffer_pool_check(pool));
	weir_buffer_pool_destroy(pool);
}

TEST(buffer_written_to_while_free_is_corruption)
{
	struct weir_buffer_pool *pool = pool_make();
	struct weir_buffer *b = weir_buffer_acquire(pool, 2000);

	weir_buffer_release(b);
	EXPECT_ABORT("weir: FAULT corruption: buffer \"net/2048\": ", {
		memset(b, 0xff, sizeof(*b));
		b = weir_buffer_acquire(pool, 2000);
	});
	weir_buffer_pool_destroy(pool);
}

TEST(buffer_pool_destroyed_with_live_buffers_names_tier_and_count)
{
	struct weir_buffer_pool *pool = pool_make();
	struct weir_buffer *b[3];

	for (int i = 0; i < 3; i++)
		b[i] = weir_buffer_acquire(pool, 8000);
	weir_buffer_retain_many(b[0], 100);
	EXPECT_ABORT("weir: FAULT live-objects-at-destroy: buffer "
		     "\"net/8192\": 3 buffers are still held",
	    weir_buffer_pool_destroy(pool));
	weir_buffer_release_many(b[0], 101);
	EXPECT_ABORT("\"net/8192\": 2 ", weir_buffer_pool_destroy(pool));
	weir_buffer_release(b[1]);
	weir_buffer_release(b[2]);
	weir_buffer_pool_destroy(pool);
}

TEST(buffer_pool_destroyed_twice)
{
	struct weir_buffer_pool *pool = pool_make();

	weir_buffer_pool_destroy(pool);
	EXPECT_ABORT("weir: FAULT double-destroy: buffer \"net\": ",
	    weir_buffer_pool_destroy(pool));
}

TEST(buffer_requests_of_a_destroyed_pool_are_faults)
{
	struct weir_buffer_pool_config config = {.limit_bytes = 1 << 20};
	struct weir_buffer_pool *pool;

	for (int limited = 0; limited < 2; limited++) {
		CHECK_EQ(weir_buffer_pool_create(
			     "net", limited ? &config : NULL, &pool),
		    0);
		weir_buffer_release(weir_buffer_acquire(pool, 100));
		weir_buffer_pool_destroy(pool);
#define GONE "FAULT use-after-destroy: buffer \"net\": it is used, but"
		EXPECT_ABORT(GONE, { (void)!weir_buffer_acquire(pool, 0); });
		EXPECT_ABORT(GONE, { (void)!weir_buffer_acquire(pool, 100); });
		EXPECT_ABORT(
		    GONE, { (void)!weir_buffer_acquire(pool, 3 << 20); });
	}
}

TEST(buffer_slice_outside_its_buffer_is_a_bad_argument)
{
	struct weir_buffer_pool *pool = pool_make();
	struct weir_buffer *b = weir_buffer_acquire(pool, 64);
	struct weir_slice s = weir_slice_make(b, 10, 20);

	EXPECT_ABORT("weir: FAULT bad-argument: buffer \"net/64\": ",
	    s = weir_slice_make(b, 0, 65));
	EXPECT_ABORT("bad-argument", s = weir_slice_make(b, 65, 0));
	EXPECT_ABORT("bad-argument", s = weir_slice_make(b, 1, SIZE_MAX));
	EXPECT_ABORT("bad-argument", s = weir_slice_make(b, SIZE_MAX, 2));
	/* Beyond 32 bits, where a careless cast would come round to 0. */
	EXPECT_ABORT(
	    "bad-argument", s = weir_slice_make(b, (size_t)1 << 32, 1));
	/* Inside the buffer, but outside the slice. */
	EXPECT_ABORT("bad-argument", s = weir_slice_sub(s, 0, 21));
	EXPECT_ABORT("bad-argument", s = weir_slice_sub(s, 21, 0));
	EXPECT_ABORT("bad-argument", s = weir_slice_sub(s, SIZE_MAX, 2));
	EXPECT_ABORT("bad-argument", s = weir_slice_make(NULL, 0, 1));
	CHECK_EQ(s.bytes, 20);
	weir_buffer_release(b);
	weir_buffer_pool_destroy(pool);
}

TEST(buffer_over_impossible_memory_is_a_bad_argument)
{
	struct weir_buffer b;
	char byte;

	EXPECT_ABORT("weir: FAULT bad-argument: buffer",
	    weir_buffer_init_external(
		&b, &byte, (size_t)UINT32_MAX + 1, NULL, NULL));
	EXPECT_ABORT(
	    "bad-argument", weir_buffer_init_external(&b, NULL, 1, NULL, NULL));
}

/* ---- memory refused ---------------------------------------------------- */

static size_t refused_acquires;

/* A life of a pool; false when the pool itself could not be had. */
static bool
scenario(void)
{
	struct weir_buffer_pool_config config = {
	    .tier = {{.bytes = 512, .prealloc = 10},
		{.bytes = 65536, .prealloc = 1}},
	    .tier_count = 2,
	    .limit_bytes = 64 << 20,
	};
	struct weir_buffer_pool *pool;
	static struct weir_buffer *held[400];
	int error = weir_buffer_pool_create("oom", &config, &pool);

	if (error != 0) {
		CHECK_EQ(error, -ENOMEM);
		CHECK_NULL(pool);
		return false;
	}
	for (size_t i = 0; i < 400; i++) {
		errno = 0;
		held[i] = weir_buffer_acquire(pool, i % 2 == 0 ? 512 : 65536);
		CHECK_EQ(errno, 0);
		if (held[i] == NULL)
			refused_acquires++;
		else
			memset(held[i]->data, 1, held[i]->bytes);
	}
	CHECK(weir_buffer_pool_check(pool));
	for (size_t i = 0; i < 400; i++)
		weir_buffer_release(held[i]);
	CHECK(weir_buffer_pool_check(pool));
	weir_buffer_pool_destroy(pool);
	return true;
}

static void
sweep(bool persistent)
{
	size_t failed_pools = 0;

	refused_acquires = 0;
	for (int64_t n = 1;; n++) {
		weiri_pages_trim();
		weiri_os_fail_nth(n, persistent);
		failed_pools += !scenario();

		bool reached = weiri_os_calls() >= n;

		weiri_os_fail_nth(0, false);
		CHECK(weiri_pages_check());
		if (!reached)
			break;
	}
	/* What fails once is asked for again before anybody is refused. */
	if (persistent)
		CHECK_GT(failed_pools + refused_acquires, 0);
	else
		CHECK_EQ(failed_pools + refused_acquires, 0);
}

TEST(buffer_survives_every_refusal_of_memory)
{
	sweep(false);
}

TEST(buffer_survives_memory_that_stays_refused)
{
	sweep(true);
}
