/* SPDX-License-Identifier: MIT */
/*
 * peer_tbb.c - the scalable allocator of oneTBB, called by its own names: its
 * replacement of malloc is a proxy that costs a second call.
 */
#include "harness.h"

#define PEER_NAME "tbb"

/* Of <oneapi/tbb/scalable_allocator.h>; the library alone is needed. */
extern void *scalable_malloc(size_t bytes);
extern void scalable_free(void *object);
extern size_t scalable_msize(void *object);

#define BENCH_ALLOC scalable_malloc
#define BENCH_FREE scalable_free
#define BENCH_USABLE scalable_msize
#include "malloc_like.h"

static const char *
peer_version(void)
{
	return BENCH_VERSION;
}

#include "worker.h"
