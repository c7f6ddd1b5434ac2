/* SPDX-License-Identifier: MIT */
/*
 * peer_ck.c - a free list from Concurrency Kit: ck_stack for many producers and
 * consumers, inlined as its header means it, objects linked through themselves.
 */
#include "harness.h"

#include <ck_stack.h>

#define PEER_NAME "ck"
#define PEER_FLAGS PEER_REMOTE
#define PEER_VALUES 2

struct peer_pool {
	ck_stack_t stack __attribute__((aligned(BENCH_LINE)));
	void *objects;
};

#include "stateless.h"

static const char *
peer_version(void)
{
	return BENCH_VERSION;
}

static struct peer_pool *
peer_pool_open(size_t bytes, size_t objects)
{
	struct peer_pool *pool = bench_map(sizeof(*pool));
	unsigned char *object;

	bytes = (bytes + 15) & ~(size_t)15;
	ck_stack_init(&pool->stack);
	pool->objects = bench_map(bytes * objects);
	object = pool->objects;
	for (size_t i = objects; i > 0; i--)
		ck_stack_push_spnc(
		    &pool->stack, (void *)(object + (i - 1) * bytes));
	return pool;
}

static void
peer_pool_close(struct peer_pool *pool)
{
	(void)pool;
}

static BENCH_INLINE void *
peer_alloc(struct peer_local local, struct peer_pool *pool, size_t bytes)
{
	(void)local;
	(void)bytes;
	return ck_stack_pop_mpmc(&pool->stack);
}

static BENCH_INLINE void
peer_free(
    struct peer_local local, struct peer_pool *pool, void *object, size_t bytes)
{
	(void)local;
	(void)bytes;
	ck_stack_push_mpmc(&pool->stack, (struct ck_stack_entry *)object);
}

static size_t
peer_usable(struct peer_pool *pool, void *object, size_t bytes)
{
	(void)pool;
	(void)object;
	return BENCH_CLASS_BYTES(bytes);
}

#include "worker.h"
