/* SPDX-License-Identifier: MIT */
/*
 * peer_textbook.c - the designs of textbook.h: BENCH_DESIGN chooses one.
 */
#include "harness.h"

#include "textbook.h"

#define DESIGN_MUTEX 1
#define DESIGN_LOCKFREE 2
#define DESIGN_FIRSTFIT 3
#define DESIGN_BESTFIT 4

#if BENCH_DESIGN == DESIGN_MUTEX || BENCH_DESIGN == DESIGN_LOCKFREE
#define PEER_FLAGS PEER_REMOTE
#define PEER_VALUES 2 /* size and number of objects */
#else
#define PEER_FLAGS (PEER_ANY_SIZE | PEER_GROWS | PEER_REMOTE)
#define PEER_VALUES 0
#endif

#if BENCH_DESIGN == DESIGN_MUTEX
#define PEER_NAME "mutex"
#define peer_pool textbook_mutex
#define DESIGN_OPEN(bytes, objects) textbook_mutex_open(bytes, objects)
#define DESIGN_ALLOC(pool, bytes) ((void)(bytes), textbook_mutex_alloc(pool))
#define DESIGN_FREE(pool, object) textbook_mutex_free(pool, object)
#define DESIGN_USABLE(object, bytes) BENCH_CLASS_BYTES(bytes)
#define DESIGN_CLOSE(pool) textbook_mutex_close(pool)
#elif BENCH_DESIGN == DESIGN_LOCKFREE
#define PEER_NAME "lockfree"
#define peer_pool textbook_list
#define DESIGN_OPEN(bytes, objects) textbook_list_open(bytes, objects)
#define DESIGN_ALLOC(pool, bytes) ((void)(bytes), textbook_list_alloc(pool))
#define DESIGN_FREE(pool, object) textbook_list_free(pool, object)
#define DESIGN_USABLE(object, bytes) BENCH_CLASS_BYTES(bytes)
#define DESIGN_CLOSE(pool) textbook_list_close(pool)
#else
#define peer_pool textbook_heap
#define DESIGN_OPEN(bytes, objects)      \
	((void)(bytes), (void)(objects), \
	    textbook_heap_open(BENCH_DESIGN == DESIGN_BESTFIT))
#define DESIGN_ALLOC(pool, bytes) textbook_heap_alloc(pool, bytes)
#define DESIGN_FREE(pool, object) textbook_heap_free(pool, object)
#define DESIGN_USABLE(object, bytes) \
	((void)(bytes), textbook_heap_usable(object))
#define DESIGN_CLOSE(pool) textbook_heap_close(pool)
#if BENCH_DESIGN == DESIGN_FIRSTFIT
#define PEER_NAME "firstfit"
#else
#define PEER_NAME "bestfit"
#endif
#endif

#include "stateless.h"

static const char *
peer_version(void)
{
	return "written for this benchmark";
}

static struct peer_pool *
peer_pool_open(size_t bytes, size_t objects)
{
	return (struct peer_pool *)bench_check(DESIGN_OPEN(bytes, objects));
}

static void
peer_pool_close(struct peer_pool *pool)
{
	DESIGN_CLOSE(pool);
}

static BENCH_INLINE void *
peer_alloc(struct peer_local local, struct peer_pool *pool, size_t bytes)
{
	(void)local;
	return DESIGN_ALLOC(pool, bytes);
}

static BENCH_INLINE void
peer_free(
    struct peer_local local, struct peer_pool *pool, void *object, size_t bytes)
{
	(void)local;
	(void)bytes;
	DESIGN_FREE(pool, object);
}

static size_t
peer_usable(struct peer_pool *pool, void *object, size_t bytes)
{
	(void)pool;
	(void)object;
	return DESIGN_USABLE(object, bytes);
}

#include "worker.h"
