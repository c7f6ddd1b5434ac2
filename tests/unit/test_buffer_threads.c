/* SPDX-License-Identifier: MIT */
/*
 * test_buffer_threads.c - buffers handed from thread to thread.
 */
#include "buffer_common.h"

#include <pthread.h>
#include <string.h>

/* ---- threads ----------------------------------------------------------- */

struct handover {
	struct weir_buffer_pool *pool;
	struct weir_slice slice;
};

static void *
handover_acquire(void *argument)
{
	struct handover *handover = argument;
	struct weir_buffer *b = weir_buffer_acquire(handover->pool, 3000);

	memset(b->data, 0x77, b->bytes);
	handover->slice = weir_slice_retain(weir_slice_make(b, 1000, 2000));
	weir_buffer_release(b);
	return NULL;
}

TEST(buffer_outlives_the_thread_that_acquired_it)
{
	struct handover handover = {.pool = pool_make(NULL)};
	pthread_t thread;

	for (int i = 0; i < 50; i++) {
		CHECK_EQ(
		    pthread_create(&thread, NULL, handover_acquire, &handover),
		    0);
		CHECK_EQ(pthread_join(thread, NULL), 0);
		CHECK_EQ(tier_stats(handover.pool, 3).in_use, 1);
		CHECK(all_bytes(weir_slice_data(handover.slice), 2000, 0x77));
		weir_slice_release(&handover.slice);
	}
	CHECK_EQ(tier_stats(handover.pool, 3).in_use, 0);
	/* What ended threads held is used again, not added to. */
	CHECK_LE(tier_stats(handover.pool, 3).total, 512);
	pool_end(handover.pool);
}

/* Rings of slices between neighbours; each stop adds or drops references. */
#define RING_THREADS 4
#define RING_SLOTS 64

struct ring {
	struct weir_buffer_pool *pool;
	struct mailbox {
		pthread_mutex_t lock;
		struct weir_slice slot[RING_SLOTS];
		size_t count;
	} box[RING_THREADS];
};

/* The pattern of a payload follows from its first bytes. */
static void
ring_fill(struct weir_buffer *b, uint64_t key)
{
	for (size_t i = 0; i + 8 <= b->bytes; i += 8) {
		uint64_t word = key * 0x9e3779b97f4a7c15u + i;

		memcpy(b->data + i, &word, 8);
	}
	b->user = (void *)(uintptr_t)key;
}

static void
ring_verify(struct weir_slice s)
{
	uint64_t key = (uintptr_t)s.buffer->user;

	for (size_t i = 0; i + 8 <= s.bytes; i += 8) {
		uint64_t word;

		memcpy(&word, weir_slice_data(s) + i, 8);
		CHECK_EQ(word, key * 0x9e3779b97f4a7c15u + s.offset + i);
	}
}

static bool
ring_post(struct mailbox *box, struct weir_slice s)
{
	bool posted;

	pthread_mutex_lock(&box->lock);
	posted = box->count < RING_SLOTS;
	if (posted)
		box->slot[box->count++] = s;
	pthread_mutex_unlock(&box->lock);
	return posted;
}

static struct weir_slice
ring_take(struct mailbox *box)
{
	struct weir_slice s = {0};

	pthread_mutex_lock(&box->lock);
	if (box->count > 0)
		s = box->slot[--box->count];
	pthread_mutex_unlock(&box->lock);
	return s;
}

static void
ring_send(struct ring *ring, unsigned to, struct weir_slice s)
{
	if (!ring_post(&ring->box[to % RING_THREADS], s))
		weir_slice_release(&s);
}

static void
ring_run(unsigned index, void *context)
{
	struct ring *ring = context;
	struct test_rng rng;

	test_rng_init(&rng, test_seed() * 31 + index);
	for (size_t i = test_count(60000); i > 0; i--) {
		struct weir_slice s = ring_take(&ring->box[index]);

		if (s.buffer == NULL) {
			size_t bytes = (size_t)8 << test_rand_below(&rng, 9);
			struct weir_buffer *b =
			    weir_buffer_acquire(ring->pool, bytes);

			ring_fill(b, test_rand(&rng) >> 16);
			s = weir_slice_make(b, 0, b->bytes);
			/* One payload to every neighbour. */
			weir_buffer_retain_many(b, RING_THREADS - 1);
			for (unsigned t = 1; t < RING_THREADS; t++)
				ring_send(ring, index + t, s);
		}
		ring_verify(s);
		if (s.bytes >= 16 && test_rand_below(&rng, 3) != 0) {
			size_t half = s.bytes / 16 * 8;

			ring_send(ring, index + 1,
			    weir_slice_retain(weir_slice_sub(s, 0, half)));
			ring_send(ring, index + 2,
			    weir_slice_sub(s, half, s.bytes - half));
		} else {
			weir_slice_release(&s);
		}
	}
}

TEST(buffer_slices_travel_between_threads)
{
	static struct ring ring;

	ring.pool = pool_make(NULL);
	for (size_t i = 0; i < RING_THREADS; i++)
		pthread_mutex_init(&ring.box[i].lock, NULL);
	test_threads(RING_THREADS, ring_run, &ring);
	CHECK(weir_buffer_pool_check(ring.pool));
	for (size_t i = 0; i < RING_THREADS; i++) {
		while (ring.box[i].count > 0) {
			struct weir_slice s = ring_take(&ring.box[i]);

			ring_verify(s);
			weir_slice_release(&s);
		}
	}
	for (size_t t = 0; t < DEFAULT_TIERS; t++)
		CHECK_EQ(tier_stats(ring.pool, t).in_use, 0);
	pool_end(ring.pool);
}

/* Who drops the last reference is a matter of luck; that it is one is not. */
struct last {
	struct weir_buffer *buffer;
	pthread_barrier_t barrier;
	size_t rounds;
	struct weir_buffer_pool *pool;
};

static void
last_run(unsigned index, void *context)
{
	struct last *last = context;

	for (size_t i = 0; i < last->rounds; i++) {
		if (index == 0) {
			last->buffer = weir_buffer_acquire(last->pool, 64);
			memset(last->buffer->data, 0, 64);
			weir_buffer_retain_many(last->buffer, 2);
		}
		pthread_barrier_wait(&last->barrier);

		struct weir_buffer *b = last->buffer;

		b->data[index]++; /* each its own byte, before its release */
		weir_buffer_release(b);
		pthread_barrier_wait(&last->barrier);
	}
}

TEST(buffer_racing_releases_end_it_once)
{
	struct last last = {.rounds = test_count(5000)};

	last.pool = pool_make(NULL);
	pthread_barrier_init(&last.barrier, NULL, 3);
	test_threads(3, last_run, &last);
	CHECK_EQ(tier_stats(last.pool, 0).in_use, 0);
	pthread_barrier_destroy(&last.barrier);
	pool_end(last.pool);
}

/* A destructor of the program that runs after the library's own hook. */
static pthread_key_t late_key;
static struct weir_buffer_pool *late_pool;

static void
late_release(void *value)
{
	static __thread int laps;

	/* The library's hook runs in the first lap.  A system grants four; in
	 * the last ThreadSanitizer ends the thread's state before us. */
	if (++laps < 3)
		pthread_setspecific(late_key, value);
	else
		weir_buffer_release(value);
}

static void *
late_thread(void *unused)
{
	struct weir_buffer *b = weir_buffer_acquire(late_pool, 64);

	CHECK_NOT_NULL(b);
	CHECK_EQ(pthread_setspecific(late_key, b), 0);
	return unused;
}

TEST(buffer_release_works_in_late_thread_destructors)
{
	pthread_t thread;

	late_pool = pool_make(NULL);
	CHECK_EQ(pthread_key_create(&late_key, late_release), 0);
	CHECK_EQ(pthread_create(&thread, NULL, late_thread, NULL), 0);
	CHECK_EQ(pthread_join(thread, NULL), 0);
	CHECK_EQ(tier_stats(late_pool, 0).in_use, 0);
	pool_end(late_pool);
}
