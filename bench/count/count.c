/* SPDX-License-Identifier: MIT */
/*
 * count.c - weir-count.so: counts the memory calls of any program.
 *
 *     truncate -s 4096 /tmp/counts
 *     LD_PRELOAD=./weir-count.so WEIR_COUNT_FILE=/tmp/counts program
 *
 * Each function of the malloc family and each call that changes the address
 * space is interposed, counted in a shared page and passed on to the next
 * definition, so that another preloaded malloc is counted as well.  operator
 * new and delete arrive here through malloc and free.  Calls the C library
 * makes to itself (malloc growing its heap) do not pass here; the malloc that
 * caused them was counted.
 *
 * Start-up is the delicate part: the dynamic linker and dlsym() allocate
 * before the next definitions are known.  Such requests are served from a
 * small static arena; what comes from there is never freed, and realloc moves
 * it out.
 *
 * Memory order: counters are relaxed; a reader wants totals, not an order.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "count_page.h"

#define COUNT_API __attribute__((visibility("default")))
#define COUNT_ARENA_BYTES 65536 /* glibc's start-up takes under 4 KiB */
#define COUNT_ALIGN 16

static struct count_page count_own; /* used until the shared page is there */
static struct count_page *count_shared = &count_own;

static _Alignas(COUNT_ALIGN) unsigned char count_arena[COUNT_ARENA_BYTES];
static _Atomic size_t count_arena_used;

/* The next definition of each function; NULL until resolved. */
static void *(*next_malloc)(size_t);
static void *(*next_calloc)(size_t, size_t);
static void *(*next_realloc)(void *, size_t);
static void *(*next_memalign)(size_t, size_t);
static int (*next_posix_memalign)(void **, size_t, size_t);
static void *(*next_aligned_alloc)(size_t, size_t);
static void (*next_free)(void *);
static void *(*next_mmap)(void *, size_t, int, int, int, off_t);
static int (*next_munmap)(void *, size_t);
static void *(*next_mremap)(void *, size_t, size_t, int, ...);
static int (*next_madvise)(void *, size_t, int);
static int (*next_mprotect)(void *, size_t, int);
static int (*next_brk)(void *);
static void *(*next_sbrk)(intptr_t);

/* A thread inside dlsym() must not enter it again. */
static _Thread_local __attribute__((tls_model("initial-exec"))) bool resolving;

static void
count_call(enum count_kind kind)
{
	atomic_fetch_add_explicit(
	    &count_shared->calls[kind], 1, memory_order_relaxed);
}

/* ISO C has no conversion from void * to a function; POSIX says it works. */
static void
count_find(const char *name, void *function)
{
	void *found = dlsym(RTLD_NEXT, name);

	memcpy(function, &found, sizeof(found));
}

static void
count_resolve(void)
{
	if (resolving)
		return;
	resolving = true;
	count_find("malloc", &next_malloc);
	count_find("calloc", &next_calloc);
	count_find("realloc", &next_realloc);
	count_find("memalign", &next_memalign);
	count_find("posix_memalign", &next_posix_memalign);
	count_find("aligned_alloc", &next_aligned_alloc);
	count_find("free", &next_free);
	count_find("mmap", &next_mmap);
	count_find("munmap", &next_munmap);
	count_find("mremap", &next_mremap);
	count_find("madvise", &next_madvise);
	count_find("mprotect", &next_mprotect);
	count_find("brk", &next_brk);
	count_find("sbrk", &next_sbrk);
	resolving = false;
}

static void *
count_arena_alloc(size_t align, size_t bytes)
{
	size_t used;
	size_t start;

	if (align < COUNT_ALIGN)
		align = COUNT_ALIGN;
	if (bytes > COUNT_ARENA_BYTES || align > COUNT_ARENA_BYTES)
		goto full;
	used = atomic_load_explicit(&count_arena_used, memory_order_relaxed);
	do {
		start = (used + align - 1) & ~(align - 1);
		if (start + bytes > COUNT_ARENA_BYTES)
			goto full;
	} while (!atomic_compare_exchange_weak_explicit(&count_arena_used,
	    &used, start + bytes, memory_order_relaxed, memory_order_relaxed));
	return count_arena + start;
full:
	errno = ENOMEM;
	return NULL;
}

static bool
count_in_arena(const void *pointer)
{
	uintptr_t offset = (uintptr_t)pointer - (uintptr_t)count_arena;

	return offset < COUNT_ARENA_BYTES;
}

COUNT_API void *
malloc(size_t bytes)
{
	count_call(COUNT_malloc);
	if (next_malloc == NULL)
		count_resolve();
	if (next_malloc == NULL)
		return count_arena_alloc(COUNT_ALIGN, bytes);
	return next_malloc(bytes);
}

COUNT_API void *
calloc(size_t count, size_t bytes)
{
	size_t total;

	count_call(COUNT_calloc);
	if (next_calloc == NULL)
		count_resolve();
	if (next_calloc != NULL)
		return next_calloc(count, bytes);
	if (__builtin_mul_overflow(count, bytes, &total)) {
		errno = ENOMEM;
		return NULL;
	}
	/* The arena is used once, so it is still zero. */
	return count_arena_alloc(COUNT_ALIGN, total);
}

COUNT_API void *
realloc(void *pointer, size_t bytes)
{
	count_call(COUNT_realloc);
	if (next_realloc == NULL)
		count_resolve();
	if (next_realloc != NULL && !count_in_arena(pointer))
		return next_realloc(pointer, bytes);

	void *moved = next_malloc != NULL
			  ? next_malloc(bytes)
			  : count_arena_alloc(COUNT_ALIGN, bytes);
	if (moved != NULL && pointer != NULL) {
		/* The old size is unknown: at most what follows it, which
		 * may include the new place. */
		size_t most = COUNT_ARENA_BYTES -
			      ((uintptr_t)pointer - (uintptr_t)count_arena);
		memmove(moved, pointer, bytes < most ? bytes : most);
	}
	return moved;
}

COUNT_API void
free(void *pointer)
{
	count_call(COUNT_free);
	if (pointer == NULL || count_in_arena(pointer))
		return;
	if (next_free == NULL)
		count_resolve();
	if (next_free != NULL)
		next_free(pointer);
}

static void *
count_memalign(size_t align, size_t bytes)
{
	count_call(COUNT_memalign);
	if (next_memalign == NULL)
		count_resolve();
	if (next_memalign == NULL)
		return count_arena_alloc(align, bytes);
	return next_memalign(align, bytes);
}

COUNT_API void *
memalign(size_t align, size_t bytes)
{
	return count_memalign(align, bytes);
}

COUNT_API void *
aligned_alloc(size_t align, size_t bytes)
{
	if (next_aligned_alloc == NULL)
		return count_memalign(align, bytes);
	count_call(COUNT_memalign);
	return next_aligned_alloc(align, bytes);
}

COUNT_API void *
valloc(size_t bytes)
{
	return count_memalign((size_t)getpagesize(), bytes);
}

COUNT_API void *
pvalloc(size_t bytes)
{
	size_t page = (size_t)getpagesize();

	if (bytes > SIZE_MAX - page) {
		errno = ENOMEM;
		return NULL;
	}
	return count_memalign(page, (bytes + page - 1) & ~(page - 1));
}

COUNT_API int
posix_memalign(void **out, size_t align, size_t bytes)
{
	count_call(COUNT_memalign);
	if (next_posix_memalign == NULL)
		count_resolve();
	if (next_posix_memalign != NULL)
		return next_posix_memalign(out, align, bytes);

	int saved = errno; /* this call reports by its result alone */
	void *found = count_arena_alloc(align, bytes);
	errno = saved;
	if (found == NULL)
		return ENOMEM;
	*out = found;
	return 0;
}

COUNT_API void *
mmap(void *at, size_t bytes, int protect, int flags, int fd, off_t offset)
{
	count_call(COUNT_mmap);
	if (next_mmap == NULL)
		count_resolve();
	if (next_mmap == NULL) {
		errno = ENOMEM;
		return MAP_FAILED;
	}
	return next_mmap(at, bytes, protect, flags, fd, offset);
}

#if defined(__LP64__) && defined(__GLIBC__)
/* off_t and off64_t are one type here, and so are the functions. */
COUNT_API void *
mmap64(void *at, size_t bytes, int protect, int flags, int fd, off_t offset)
{
	return mmap(at, bytes, protect, flags, fd, offset);
}
#endif

COUNT_API int
munmap(void *at, size_t bytes)
{
	count_call(COUNT_munmap);
	if (next_munmap == NULL)
		count_resolve();
	if (next_munmap == NULL) {
		errno = ENOSYS;
		return -1;
	}
	return next_munmap(at, bytes);
}

COUNT_API void *
mremap(void *at, size_t old_bytes, size_t new_bytes, int flags, ...)
{
	void *fixed = NULL;

	count_call(COUNT_mremap);
	if ((flags & MREMAP_FIXED) != 0) {
		va_list arguments;
		va_start(arguments, flags);
		fixed = va_arg(arguments, void *);
		va_end(arguments);
	}
	if (next_mremap == NULL)
		count_resolve();
	if (next_mremap == NULL) {
		errno = ENOMEM;
		return MAP_FAILED;
	}
	return next_mremap(at, old_bytes, new_bytes, flags, fixed);
}

COUNT_API int
madvise(void *at, size_t bytes, int advice)
{
	count_call(COUNT_madvise);
	if (next_madvise == NULL)
		count_resolve();
	if (next_madvise == NULL)
		return 0;
	return next_madvise(at, bytes, advice);
}

COUNT_API int
mprotect(void *at, size_t bytes, int protect)
{
	count_call(COUNT_mprotect);
	if (next_mprotect == NULL)
		count_resolve();
	if (next_mprotect == NULL) {
		errno = ENOSYS;
		return -1;
	}
	return next_mprotect(at, bytes, protect);
}

COUNT_API int
brk(void *end)
{
	count_call(COUNT_brk);
	if (next_brk == NULL)
		count_resolve();
	if (next_brk == NULL) {
		errno = ENOMEM;
		return -1;
	}
	return next_brk(end);
}

COUNT_API void *
sbrk(intptr_t bytes)
{
	/* -1 by POSIX's signature of the function. */
	void *failed = (void *)(intptr_t)-1;

	count_call(COUNT_brk);
	if (next_sbrk == NULL)
		count_resolve();
	if (next_sbrk == NULL) {
		errno = ENOMEM;
		return failed;
	}
	return next_sbrk(bytes);
}

/* Maps the shared page; without one the program runs uncounted. */
__attribute__((constructor)) static void
count_begin(void)
{
	const char *path = getenv(COUNT_FILE_VARIABLE);
	void *page;
	int fd;

	count_resolve();
	if (path == NULL)
		return;
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return;
	page = next_mmap == NULL
		   ? MAP_FAILED
		   : next_mmap(NULL, COUNT_PAGE_BYTES, PROT_READ | PROT_WRITE,
			 MAP_SHARED, fd, 0);
	close(fd);
	if (page == MAP_FAILED)
		return;
	count_shared = page;
	atomic_store(&count_shared->ready, COUNT_PAGE_READY);
}
