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

static inline void
malloc_free(void *object)
{
#ifdef BENCH_SLOW
	for (volatile int i = 0; i < 1000; i++)
		;
#endif
	free(object);
}

#define BENCH_ALLOC malloc
#define BENCH_FREE malloc_free
#define BENCH_USABLE malloc_usable_size
#define BENCH_OWN_BEGIN
#include "malloc_like.h"

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

#include "worker.h"
