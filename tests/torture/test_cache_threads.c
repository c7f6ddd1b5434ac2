/* SPDX-License-Identifier: MIT */
/*
 * Threads that come and go, pass objects to each other and leave some behind
 * for others to free, while statistics and trim run beside them.  Objects carry
 * a pattern, so that an object handed out twice is seen at once.
 */
#include "support/test.h"

#include <pthread.h>
#include <string.h>
#include <unistd.h>
#include <weir/weir.h>

enum { MAILBOXES = 64, HELD = 200, WORKERS = 6 };

struct message {
	struct message *self; /* overwritten if two own it */
	uint64_t owner;
	unsigned char body[80];
};

struct arena {
	struct weir_cache *cache;
	struct message *mailbox[MAILBOXES]; /* exchanged atomically */
	size_t rounds;
	uint64_t seed;
	bool done;
};

static struct message *
message_make(struct arena *arena, uint64_t owner)
{
	struct message *message = weir_cache_alloc(arena->cache);

	if (message == NULL)
		return NULL;
	message->self = message;
	message->owner = owner;
	memset(message->body, (int)(owner & 255), sizeof(message->body));
	return message;
}

static void
message_end(struct arena *arena, struct message *message)
{
	if (message == NULL)
		return;
	CHECK_PTR(message->self, message);
	CHECK_EQ(message->body[0], message->owner & 255);
	CHECK_EQ(message->body[79], message->owner & 255);
	message->self = NULL;
	weir_cache_free(arena->cache, message);
}

static void
worker_step(struct arena *arena, struct test_rng *rng, struct message **held)
{
	size_t slot = test_rand_below(rng, HELD);
	size_t box = test_rand_below(rng, MAILBOXES);

	switch (test_rand_below(rng, 4)) {
	case 0:
	case 1:
		message_end(arena, held[slot]);
		held[slot] = message_make(arena, test_rand(rng));
		break;
	case 2: /* send what is held, end what was waiting */
		message_end(arena, __atomic_exchange_n(&arena->mailbox[box],
				       held[slot], __ATOMIC_ACQ_REL));
		held[slot] = NULL;
		break;
	default: /* take over what was waiting */
		message_end(arena, held[slot]);
		held[slot] = __atomic_exchange_n(
		    &arena->mailbox[box], NULL, __ATOMIC_ACQ_REL);
	}
}

/* One short life: some thousand steps, then an exit with magazines full. */
static void *
worker_live(void *argument)
{
	struct arena *arena = argument;
	struct message *held[HELD] = {NULL};
	struct test_rng rng;

	test_rng_init(
	    &rng, __atomic_add_fetch(&arena->seed, 1, __ATOMIC_RELAXED));
	for (size_t i = 0; i < 3000; i++)
		worker_step(arena, &rng, held);
	for (size_t i = 0; i < HELD; i++)
		message_end(arena, held[i]);
	return NULL;
}

static void
spawn_lives(unsigned index, void *context)
{
	struct arena *arena = context;

	(void)index;
	for (size_t round = 0; round < arena->rounds; round++) {
		pthread_t thread;

		CHECK_EQ(pthread_create(&thread, NULL, worker_live, arena), 0);
		pthread_join(thread, NULL);
	}
}

static void *
watch(void *argument)
{
	struct arena *arena = argument;
	struct weir_pool_stats stats = {.size = sizeof(stats)};

	while (!__atomic_load_n(&arena->done, __ATOMIC_ACQUIRE)) {
		CHECK_EQ(weir_cache_stats(arena->cache, &stats), 0);
		CHECK_LE(stats.in_use, stats.total);
		(void)weir_cache_trim(arena->cache);
		usleep(2000);
	}
	return NULL;
}

static void
torture(size_t limit)
{
	struct arena arena = {.rounds = test_count(40), .seed = test_seed()};
	struct weir_pool_stats stats = {.size = sizeof(stats)};
	pthread_t watcher;

	CHECK_EQ(
	    weir_cache_create("message",
		&(struct weir_cache_config){
		    .object_bytes = sizeof(struct message), .limit = limit},
		&arena.cache),
	    0);
	CHECK_EQ(pthread_create(&watcher, NULL, watch, &arena), 0);
	test_threads(WORKERS, spawn_lives, &arena);
	__atomic_store_n(&arena.done, true, __ATOMIC_RELEASE);
	pthread_join(watcher, NULL);
	for (size_t i = 0; i < MAILBOXES; i++)
		message_end(&arena, arena.mailbox[i]);
	CHECK_EQ(weir_cache_stats(arena.cache, &stats), 0);
	CHECK_EQ(stats.in_use, 0);
	CHECK(stats.total <= stats.limit);
	CHECK(weir_cache_check(arena.cache));
	weir_cache_destroy(arena.cache);
}

TEST_LIMIT(threads_come_and_go_and_nothing_is_lost, 120)
{
	torture(0);
}

TEST_LIMIT(threads_come_and_go_at_a_limit, 120)
{
	torture(400);
}
