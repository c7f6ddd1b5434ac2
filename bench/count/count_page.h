/* SPDX-License-Identifier: MIT */
/*
 * count_page.h - the page of counters shared with a counted process.
 *
 * The reader makes a zeroed file of COUNT_PAGE_BYTES, starts the process with
 * LD_PRELOAD=weir-count.so and WEIR_COUNT_FILE naming the file, maps it, and
 * reads the counters at any two moments.  `ready` tells that the counter was
 * loaded: without it a process that was never counted would look as if it
 * allocated nothing.
 */
#ifndef WEIR_COUNT_PAGE_H
#define WEIR_COUNT_PAGE_H

#include <stdint.h>

#define COUNT_PAGE_BYTES 4096
#define COUNT_PAGE_READY 0x77636e74u
#define COUNT_FILE_VARIABLE "WEIR_COUNT_FILE"

/* Calls that are counted: name, is it an allocation, is it a memory call. */
#define COUNT_KINDS(X)    \
	X(malloc, 1, 0)   \
	X(calloc, 1, 0)   \
	X(realloc, 1, 0)  \
	X(memalign, 1, 0) \
	X(free, 0, 0)     \
	X(mmap, 0, 1)     \
	X(munmap, 0, 1)   \
	X(mremap, 0, 1)   \
	X(madvise, 0, 1)  \
	X(mprotect, 0, 1) \
	X(brk, 0, 1)

enum count_kind {
#define COUNT_NAME(name, allocates, maps) COUNT_##name,
	COUNT_KINDS(COUNT_NAME)
#undef COUNT_NAME
	    COUNT_KIND_COUNT
};

struct count_page {
	_Atomic uint32_t ready; /* COUNT_PAGE_READY once counting */
	uint32_t reserved;
	_Atomic uint64_t calls[COUNT_KIND_COUNT];
};

#endif /* WEIR_COUNT_PAGE_H */
