/* SPDX-License-Identifier: MIT */
/*
 * peer_boost_lockfree.cpp - the free list that feeds the nodes of Boost's
 * lock-free containers, used as a pool.  It is made for one type, so there is
 * one list for each size the suites ask for; choosing among them is a branch
 * that is always predicted.
 */
#include "harness.h"

#include <memory>

#include <boost/lockfree/detail/freelist.hpp>
#include <boost/version.hpp>

#define PEER_NAME "boost-lockfree"
#define PEER_FLAGS (PEER_REMOTE | PEER_ONE_SIZE)
#define PEER_VALUES 2

template <size_t bytes> struct boost_object {
	unsigned char storage[bytes];
};

template <size_t bytes>
using boost_base = boost::lockfree::detail::freelist_stack<boost_object<bytes>>;

/* Its calls are protected, for the containers that derive from it. */
template <size_t bytes> struct boost_list : boost_base<bytes> {
	explicit boost_list(size_t objects)
	    : boost_base<bytes>(std::allocator<boost_object<bytes>>(), objects)
	{
	}

	using boost_base<bytes>::allocate;
	using boost_base<bytes>::deallocate;
};

struct peer_pool {
	size_t bytes;
	boost_list<64> *small;
	boost_list<256> *medium;
	boost_list<8192> *large;
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
	struct peer_pool *pool =
	    (struct peer_pool *)bench_map(sizeof(struct peer_pool));

	pool->bytes = bytes;
	if (bytes == 64)
		pool->small = new boost_list<64>(objects);
	else if (bytes == 256)
		pool->medium = new boost_list<256>(objects);
	else if (bytes == 8192)
		pool->large = new boost_list<8192>(objects);
	else
		bench_fail("no list of %zu bytes", bytes);
	return pool;
}

static void
peer_pool_close(struct peer_pool *pool)
{
	delete pool->small;
	delete pool->medium;
	delete pool->large;
}

/* Thread-safe, and only from what was allocated at first. */
static BENCH_INLINE void *
peer_alloc(struct peer_local local, struct peer_pool *pool, size_t bytes)
{
	(void)local;
	if (bytes == 64)
		return pool->small->allocate<true, true>();
	if (bytes == 256)
		return pool->medium->allocate<true, true>();
	return pool->large->allocate<true, true>();
}

static BENCH_INLINE void
peer_free(
    struct peer_local local, struct peer_pool *pool, void *object, size_t bytes)
{
	(void)local;
	if (bytes == 64)
		pool->small->deallocate<true>((boost_object<64> *)object);
	else if (bytes == 256)
		pool->medium->deallocate<true>((boost_object<256> *)object);
	else
		pool->large->deallocate<true>((boost_object<8192> *)object);
}

static size_t
peer_usable(struct peer_pool *pool, void *object, size_t bytes)
{
	(void)pool;
	(void)object;
	return bytes;
}

#include "worker.h"
