/* SPDX-License-Identifier: MIT */
/*
 * peer_malloc.c - malloc and free of the library this worker is linked with.
 *
 * One source, a worker for each malloc: BENCH_PEER is its name, BENCH_LIBRARY a
 * part of the file name that must turn out to define malloc, else the worker
 * refuses.  With BENCH_SLOW each free is delayed; the benchmark's own test sees
 * whether that is found out.
 */
#include "harness.h"

#include <dlfcn.h>
#include <malloc.h>

#ifdef BENCH_GLIBC
#include <gnu/libc-version.h>
#endif

#define PEER_NAME BENCH_PEER
#define PEER_FLAGS (PEER_ANY_SIZE | PEER_GROWS | PEER_REMOTE)
#define PEER_VALUES 0

#define BENCH_STATELESS_POOL
#define BENCH_OWN_BEGIN
#include "stateless.h"

/* Without the directories. */
static const char *
malloc_file(const char *symbol)
{
	Dl_info info;
	void *found = dlsym(RTLD_DEFAULT, symbol);

	if (found == NULL || dladdr(found, &info) == 0)
		return "";
	const char *slash = strrchr(info.dli_fname, '/');
	return slash != NULL ? slash + 1 : info.dli_fname;
}

static void
peer_begin(void)
{
	const char *const symbols[] = {"malloc", "free", "malloc_usable_size"};

	for (size_t i = 0; i < sizeof(symbols) / sizeof(*symbols); i++)
		if (strstr(malloc_file(symbols[i]), BENCH_LIBRARY) == NULL)
			bench_fail("%s is that of %s, not of %s", symbols[i],
			    malloc_file(symbols[i]), BENCH_LIBRARY);
}

/* The real file's name holds the version: libjemalloc.so.2, by a link. */
static const char *
peer_version(void)
{
#ifdef BENCH_GLIBC
	return gnu_get_libc_version();
#else
	return BENCH_VERSION;
#endif
}

static BENCH_INLINE void *
peer_alloc(struct peer_local local, struct peer_pool *pool, size_t bytes)
{
	(void)local;
	(void)pool;
	return malloc(bytes);
}

static BENCH_INLINE void
peer_free(
    struct peer_local local, struct peer_pool *pool, void *object, size_t bytes)
{
	(void)local;
	(void)pool;
	(void)bytes;
#ifdef BENCH_SLOW
	for (volatile int i = 0; i < 50; i++)
		;
#endif
	free(object);
}

static size_t
peer_usable(struct peer_pool *pool, void *object, size_t bytes)
{
	(void)pool;
	(void)bytes;
	return malloc_usable_size(object);
}

#include "worker.h"
