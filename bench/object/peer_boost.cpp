/* SPDX-License-Identifier: MIT */
/*
 * peer_boost.cpp - what boost::fast_pool_allocator allocates from: boost::pool
 * behind a mutex.  (fast_pool_allocator itself reaches it through a singleton
 * for each size.)
 */
#include "harness.h"

#include <mutex>
#include <new>

#include <boost/pool/pool.hpp>
#include <boost/version.hpp>

#define PEER_NAME "boost"
#define PEER_FLAGS (PEER_GROWS | PEER_REMOTE)
#define PEER_VALUES 1

struct peer_pool {
	explicit peer_pool(size_t bytes) : pool(bytes)
	{
	}

	std::mutex lock;
	boost::pool<> pool;
};

#include "stateless.h"

static const char *
peer_version(void)
{
	return BOOST_LIB_VERSION;
}

static struct peer_pool *
peer_pool_open(size_t bytes, size_t objects)
{
	(void)objects;
	return new peer_pool(bytes);
}

static void
peer_pool_close(struct peer_pool *pool)
{
	delete pool;
}

static BENCH_INLINE void *
peer_alloc(struct peer_local local, struct peer_pool *pool, size_t bytes)
{
	std::lock_guard<std::mutex> guard(pool->lock);

	(void)local;
	(void)bytes;
	return pool->pool.malloc();
}

static BENCH_INLINE void
peer_free(
    struct peer_local local, struct peer_pool *pool, void *object, size_t bytes)
{
	std::lock_guard<std::mutex> guard(pool->lock);

	(void)local;
	(void)bytes;
	pool->pool.free(object);
}

static size_t
peer_usable(struct peer_pool *pool, void *object, size_t bytes)
{
	(void)pool;
	(void)object;
	return BENCH_CLASS_BYTES(bytes);
}

#include "worker.h"
