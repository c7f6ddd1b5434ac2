/* SPDX-License-Identifier: MIT */
/*
 * peer_harness.c - the harness alone: what every figure contains.
 *
 * Objects are handed out round a ring of as many as the suite may hold at once,
 * and a free does nothing.  In the random suites an object may therefore be
 * handed out while it is in use, which nobody there minds.
 */
#include "harness.h"

#define PEER_NAME "harness"
#define PEER_FLAGS (PEER_REMOTE | PEER_ALONE)
#define PEER_VALUES 2
#define PEER_IS_LOOP

struct peer_pool {
	size_t next;
	size_t mask; /* of the ring's bytes, a power of two */
	size_t bytes;
	unsigned char *objects;
};

#include "stateless.h"

static const char *
peer_version(void)
{
	return "nothing is allocated";
}

static struct peer_pool *
peer_pool_open(size_t bytes, size_t objects)
{
	struct peer_pool *pool =
	    (struct peer_pool *)bench_map(sizeof(struct peer_pool));
	size_t ring = 64;

	while (ring < bytes * objects)
		ring *= 2;
	pool->bytes = bytes;
	pool->mask = ring - 1;
	pool->objects = (unsigned char *)bench_map(ring + bytes);
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
	size_t at = pool->next;

	(void)local;
	pool->next = (at + bytes) & pool->mask;
	return pool->objects + at;
}

#include "no_free.h"

#include "../region/region_floor.h"
#include "worker.h"
