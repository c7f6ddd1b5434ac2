/* SPDX-License-Identifier: MIT */
/*
 * peer_weir_heap.c - the default heap of weir.  The library is the shared one.
 */
#include "harness.h"

#include <weir/heap.h>
#include <weir/version.h>

#define PEER_NAME "weir-heap"

#define BENCH_ALLOC weir_alloc
#define BENCH_FREE weir_free
#define BENCH_USABLE weir_usable_size
#include "malloc_like.h"

static const char *
peer_version(void)
{
	return WEIR_VERSION_STRING;
}

#include "worker.h"
