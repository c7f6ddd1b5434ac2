/* SPDX-License-Identifier: MIT */
/*
 * annotate.h - what tools that watch memory are told of the memory in pools.
 *
 * To such a tool a pool's memory is one block, written long ago.  What is told
 * it here is where in it the program has business, and which of that holds a
 * value yet:
 *
 *     undefined  the program may write here; who reads before that is reported
 *     defined    what is here is a value, whoever wrote it
 *     forbid     nothing of the program's is here: any access is reported
 *     allow      it may be used again
 *
 * Where every object is a block of malloc() (guard/through.c) tools know all
 * that by themselves, and whose stack took it besides; this is for memory that
 * stays where it is.
 *
 * AddressSanitizer is looked for when the program runs: its runtime is in the
 * process or it is not, whatever this library was built with.  What is asked is
 * a word of the dynamic linker's.  Valgrind's requests are a few instructions
 * that do nothing outside it; they are there where its header was at build time,
 * and not with NVALGRIND defined.  MemorySanitizer demands that all of a program
 * is built with it, so there it is asked in such builds alone.
 *
 * No inline path of the public headers asks any of this: where a tool is to
 * see, the paths are diverted (guard/guard.h).
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

/* AddressSanitizer's, if its runtime is in the process, else NULL. */
#if defined(__GNUC__) && defined(__ELF__)
#define WEIRI_ANNOTATE_WEAK(name) __asm__(name) __attribute__((weak))

void weiri_asan_poison(const volatile void *address, size_t bytes)
    WEIRI_ANNOTATE_WEAK("__asan_poison_memory_region");
void weiri_asan_unpoison(const volatile void *address, size_t bytes)
    WEIRI_ANNOTATE_WEAK("__asan_unpoison_memory_region");
void weiri_lsan_ignore(const void *block)
    WEIRI_ANNOTATE_WEAK("__lsan_ignore_object");
#define WEIRI_ANNOTATE_ASAN 1
#endif

WEIRI_INLINE bool
weiri_annotate_is_valgrind(void)
{
#ifdef WEIRI_ANNOTATE_VALGRIND
	return RUNNING_ON_VALGRIND != 0;
#else
	return false;
#endif
}

/* Does some tool listen to what is forbidden? */
WEIRI_INLINE bool
weiri_annotate_is_watched(void)
{
#ifdef WEIRI_ANNOTATE_ASAN
	if (weiri_asan_poison != NULL)
		return true;
#endif
	return weiri_annotate_is_valgrind();
}

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

/* Nothing of the program's is here.  Bytes before the first multiple of eight
 * may stay allowed. */
WEIRI_INLINE void
weiri_annotate_forbid(const void *address, size_t bytes)
{
#ifdef WEIRI_ANNOTATE_ASAN
	if (weiri_asan_poison != NULL)
		weiri_asan_poison(address, bytes);
#endif
#ifdef WEIRI_ANNOTATE_VALGRIND
	(void)VALGRIND_MAKE_MEM_NOACCESS(address, bytes);
#endif
	(void)address;
	(void)bytes;
}

/* It may be used again, and holds no value. */
WEIRI_INLINE void
weiri_annotate_allow(const void *address, size_t bytes)
{
#ifdef WEIRI_ANNOTATE_ASAN
	if (weiri_asan_unpoison != NULL)
		weiri_asan_unpoison(address, bytes);
#endif
	weiri_annotate_undefined(address, bytes);
}

/* A block of malloc() whose only pointer a search for leaks may not see. */
WEIRI_INLINE void
weiri_annotate_ignore_leak(const void *block)
{
#ifdef WEIRI_ANNOTATE_ASAN
	if (weiri_lsan_ignore != NULL)
		weiri_lsan_ignore(block);
#endif
	(void)block;
}

#endif /* WEIRI_ANNOTATE_H */
