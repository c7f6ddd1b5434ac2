/* SPDX-License-Identifier: MIT */
/*
 * peer_talloc.c - Samba's talloc: every object is a child of a context, here one
 * for each thread, since talloc's contexts are not for two threads at once.
 */
#include "harness.h"

#include <talloc.h>

#define PEER_NAME BENCH_PEER
#define PEER_FLAGS (PEER_ANY_SIZE | PEER_GROWS)
#define PEER_VALUES 0

struct peer_pool {
	char unused;
};

struct peer_local {
	TALLOC_CTX *context;
};

static void
peer_begin(void)
{
	talloc_disable_null_tracking();
}

static const char *
peer_version(void)
{
	static char version[32];

	snprintf(version, sizeof(version), "%d.%d", talloc_version_major(),
	    talloc_version_minor());
	return version;
}

static BENCH_INLINE struct peer_local
peer_thread_begin(void)
{
	static __thread TALLOC_CTX *context;
	struct peer_local local;

	if (context == NULL)
		context = talloc_new(NULL);
	local.context = context;
	return local;
}

static void
peer_thread_end(struct peer_local local)
{
	talloc_free(local.context);
}

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

static BENCH_INLINE void *
peer_alloc(struct peer_local local, struct peer_pool *pool, size_t bytes)
{
	(void)pool;
	return talloc_size(local.context, bytes);
}

static BENCH_INLINE void
peer_free(
    struct peer_local local, struct peer_pool *pool, void *object, size_t bytes)
{
	(void)local;
	(void)pool;
	(void)bytes;
	talloc_free(object);
}

static size_t
peer_usable(struct peer_pool *pool, void *object, size_t bytes)
{
	(void)pool;
	(void)object;
	return bytes;
}

#include "../region/region_talloc.h"
#include "worker.h"
