/* SPDX-License-Identifier: MIT */
/*
 * peer_rte.c - DPDK's rte_mempool over its ring, with the largest cache a thread
 * can have.  Without huge pages or devices, as on any machine.
 *
 * Only threads known to the EAL have a cache: each registers itself.  Objects in
 * the caches of other threads cannot be taken, so a pool is made for what the
 * suite holds plus what all caches may keep back.
 */
#include "harness.h"

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_lcore.h>
#include <rte_mempool.h>
#include <rte_version.h>

#define PEER_NAME "rte"
#define PEER_FLAGS PEER_REMOTE
#define PEER_VALUES 3 /* size, number, size of the cache */

/* A cache is flushed when it holds half as much again. */
#define RTE_KEPT_BACK \
	((BENCH_THREADS_MAX + 1) * (RTE_MEMPOOL_CACHE_MAX_SIZE * 3 / 2))

#define peer_pool rte_mempool

struct peer_local {
	char unused;
};

static void
peer_begin(void)
{
	char name[] = PEER_NAME;
	char no_huge[] = "--no-huge";
	char no_pci[] = "--no-pci";
	char no_telemetry[] = "--no-telemetry";
	char no_config[] = "--no-shconf";
	char quiet[] = "--log-level=critical";
	char memory[] = "-m";
	char megabytes[] = "512";
	char lcores[] = "--lcores";
	char one[16];
	char *arguments[] = {name, no_huge, no_pci, no_telemetry, no_config,
	    quiet, memory, megabytes, lcores, one, NULL};

	/* The EAL pins this thread; the suites pin it anew as they like. */
	snprintf(one, sizeof(one), "0@%d", bench_cpu(0));
	if (rte_eal_init(10, arguments) < 0)
		bench_fail("rte_eal_init: %s", rte_strerror(rte_errno));
	sched_setaffinity(0, sizeof(bench_cpus), &bench_cpus);
}

static const char *
peer_version(void)
{
	return rte_version();
}

static BENCH_INLINE struct peer_local
peer_thread_begin(void)
{
	struct peer_local local = {0};

	if (rte_lcore_id() == LCORE_ID_ANY && rte_thread_register() != 0)
		bench_fail("rte_thread_register: %s", rte_strerror(rte_errno));
	return local;
}

static void
peer_thread_end(struct peer_local local)
{
	(void)local;
	rte_thread_unregister();
}

static struct rte_mempool *
peer_pool_open(size_t bytes, size_t objects)
{
	static unsigned number;
	char name[32];
	struct rte_mempool *pool;

	snprintf(name, sizeof(name), "bench%u", number++);
	pool = rte_mempool_create(name, (unsigned)objects + RTE_KEPT_BACK,
	    (unsigned)bytes, RTE_MEMPOOL_CACHE_MAX_SIZE, 0, NULL, NULL, NULL,
	    NULL, SOCKET_ID_ANY, 0);
	if (pool == NULL)
		bench_fail("rte_mempool_create: %s", rte_strerror(rte_errno));
	return pool;
}

static void
peer_pool_close(struct rte_mempool *pool)
{
	rte_mempool_free(pool);
}

static BENCH_INLINE void *
peer_alloc(struct peer_local local, struct rte_mempool *pool, size_t bytes)
{
	void *object;

	(void)local;
	(void)bytes;
	return rte_mempool_get(pool, &object) == 0 ? object : NULL;
}

static BENCH_INLINE void
peer_free(struct peer_local local, struct rte_mempool *pool, void *object,
    size_t bytes)
{
	(void)local;
	(void)bytes;
	rte_mempool_put(pool, object);
}

static size_t
peer_usable(struct rte_mempool *pool, void *object, size_t bytes)
{
	(void)pool;
	(void)object;
	return BENCH_CLASS_BYTES(bytes);
}

#include "worker.h"
