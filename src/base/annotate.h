/* SPDX-License-Identifier: MIT */
/*
 * annotate.h - what tools that watch memory are told of the memory in pools.
 *
 * To Valgrind and MemorySanitizer a pool's memory is one that was written long
 * ago: by the object before, or by the library, which fills what it hands out.
 * Told that an object begins here, they report a decision taken on a byte that
 * the program itself never wrote, and where that byte came to be.
 *
 * Valgrind's requests are a few instructions that do nothing outside it; they
 * are there where its header was at build time, and not with NVALGRIND defined.
 * Sanitizers are asked by calls, in builds with them alone.  AddressSanitizer
 * needs none here: an object under guard has pages of its own that trap, and the
 * report of weir/guard.h, with the object's stacks, comes before its own.
 */
#ifndef WEIRI_ANNOTATE_H
#define WEIRI_ANNOTATE_H

#include "base/compiler.h"

#if defined(__has_feature)
#if __has_feature(memory_sanitizer)
#include <sanitizer/msan_interface.h>
#define WEIRI_ANNOTATE_MSAN 1
#endif
#endif
#if defined(__has_include) && !defined(NVALGRIND)
#if __has_include(<valgrind/memcheck.h>)
#include <valgrind/memcheck.h>
#define WEIRI_ANNOTATE_VALGRIND 1
#endif
#endif

/* The program may write here; what is read before that is nobody's value. */
WEIRI_INLINE void
weiri_annotate_undefined(const void *address, size_t bytes)
{
#ifdef WEIRI_ANNOTATE_VALGRIND
	(void)VALGRIND_MAKE_MEM_UNDEFINED(address, bytes);
#endif
#ifdef WEIRI_ANNOTATE_MSAN
	__msan_allocated_memory(address, bytes);
#endif
	(void)address;
	(void)bytes;
}

/* What is here is a value, whoever wrote it. */
WEIRI_INLINE void
weiri_annotate_defined(const void *address, size_t bytes)
{
#ifdef WEIRI_ANNOTATE_VALGRIND
	(void)VALGRIND_MAKE_MEM_DEFINED(address, bytes);
#endif
#ifdef WEIRI_ANNOTATE_MSAN
	__msan_unpoison(address, bytes);
#endif
	(void)address;
	(void)bytes;
}

#endif /* WEIRI_ANNOTATE_H */
