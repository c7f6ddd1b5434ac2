/* SPDX-License-Identifier: MIT */
/*
 * peer_calls.c - the least that a pool behind two calls does.
 *
 * A thread's own array of free objects and a cursor into it, without a test of
 * whether there are any, a limit, a check, or a way for an object to another
 * thread.  What weir-batch and the others take beyond this is what they do;
 * what this takes beyond weir's inline calls is the price of calling: where
 * calls are dear, or where a stored cursor is loaded late, no library is below.
 */
#include "harness.h"

#define PEER_NAME "calls"
#define PEER_FLAGS PEER_ALONE
#define PEER_VALUES 2

struct peer_pool {
	char unused;
};

static __thread void **calls_cursor
    __attribute__((tls_model("initial-exec"))); /* the newest free object */

#include "stateless.h"

static const char *
peer_version(void)
{
	return "no allocator: two calls";
}

static struct peer_pool *
peer_pool_open(size_t bytes, size_t objects)
{
	static struct peer_pool pool;
	unsigned char *memory;

	bytes = (bytes + 15) & ~(size_t)15;
	memory = bench_map(bytes * objects);
	calls_cursor = bench_map((objects + 1) * sizeof(*calls_cursor));
	for (size_t i = objects; i > 0; i--)
		*++calls_cursor = memory + (i - 1) * bytes;
	return &pool;
}

static void
peer_pool_close(struct peer_pool *pool)
{
	(void)pool;
}

static BENCH_NOINLINE void *
calls_take(void)
{
	void **cursor = calls_cursor;
	void *object = *cursor;

	calls_cursor = cursor - 1;
	return object;
}

static BENCH_NOINLINE void
calls_give(void *object)
{
	void **cursor = calls_cursor + 1;

	*cursor = object;
	calls_cursor = cursor;
}

static BENCH_INLINE void *
peer_alloc(struct peer_local local, struct peer_pool *pool, size_t bytes)
{
	(void)local;
	(void)pool;
	(void)bytes;
	return calls_take();
}

static BENCH_INLINE void
peer_free(
    struct peer_local local, struct peer_pool *pool, void *object, size_t bytes)
{
	(void)local;
	(void)pool;
	(void)bytes;
	calls_give(object);
}

static size_t
peer_usable(struct peer_pool *pool, void *object, size_t bytes)
{
	(void)pool;
	(void)object;
	return BENCH_CLASS_BYTES(bytes);
}

#include "worker.h"
