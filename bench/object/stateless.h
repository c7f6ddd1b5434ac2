/* SPDX-License-Identifier: MIT */
/*
 * stateless.h - for opponents without a handle of the thread and, where
 * BENCH_STATELESS_POOL is defined, without one of the pool.  Those that have to
 * be started or proved define BENCH_OWN_BEGIN.
 */
#ifndef BENCH_OBJECT_STATELESS_H
#define BENCH_OBJECT_STATELESS_H

struct peer_local {
	char unused;
};

#ifndef BENCH_OWN_BEGIN
static void
peer_begin(void)
{
}
#endif

static BENCH_INLINE struct peer_local
peer_thread_begin(void)
{
	struct peer_local local = {0};

	return local;
}

static void
peer_thread_end(struct peer_local local)
{
	(void)local;
}

#ifdef BENCH_STATELESS_POOL
struct peer_pool {
	char unused;
};

static struct peer_pool *
peer_pool_open(size_t bytes, size_t objects)
{
	static struct peer_pool pool;

	(void)bytes;
	(void)objects;
	return &pool;
}

static void
peer_pool_close(struct peer_pool *pool)
{
	(void)pool;
}
#endif

#endif /* BENCH_OBJECT_STATELESS_H */
