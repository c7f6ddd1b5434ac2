/* SPDX-License-Identifier: MIT */
/*
 * peer_weir_bounded.c - the bounded pool of weir, lock-free over the caller's
 * memory.  The library is the shared one.
 */
#include "harness.h"

#include <weir/bounded.h>
#include <weir/version.h>

#define PEER_NAME "weir-bounded"
#define PEER_FLAGS PEER_REMOTE
#define PEER_VALUES 2 /* size and number of objects */

#define peer_pool weir_bounded

#include "stateless.h"

static const char *
peer_version(void)
{
	return WEIR_VERSION_STRING;
}

static struct weir_bounded *
peer_pool_open(size_t bytes, size_t objects)
{
	/* As its documentation advises where threads take and free at once: a
	 * call that finds a pool without a spare object may have been passed by
	 * by others.  The caches of other peers hold spares, too. */
	struct weir_bounded_config config = {
	    .object_bytes = bytes,
	    .object_count = objects + objects / 8 + 1,
	};
	size_t storage = weir_bounded_storage_bytes(&config);
	struct weir_bounded *pool;
	int error = weir_bounded_init(
	    bench_map(storage), storage, "bench", &config, &pool);

	if (error != 0)
		bench_fail("weir_bounded_init: %s", strerror(-error));
	return pool;
}

static void
peer_pool_close(struct weir_bounded *pool)
{
	weir_bounded_finish(pool);
}

static BENCH_INLINE void *
peer_alloc(struct peer_local local, struct weir_bounded *pool, size_t bytes)
{
	(void)local;
	(void)bytes;
	return weir_bounded_alloc(pool);
}

static BENCH_INLINE void
peer_free(struct peer_local local, struct weir_bounded *pool, void *object,
    size_t bytes)
{
	(void)local;
	(void)bytes;
	weir_bounded_free(pool, object);
}

static size_t
peer_usable(struct weir_bounded *pool, void *object, size_t bytes)
{
	(void)pool;
	(void)object;
	return BENCH_CLASS_BYTES(bytes);
}

#include "worker.h"
