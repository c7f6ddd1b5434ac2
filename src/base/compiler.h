/* SPDX-License-Identifier: MIT */
/*
 * compiler.h - what the sources need of the compiler beyond C17.
 */
#ifndef WEIRI_COMPILER_H
#define WEIRI_COMPILER_H

#include <weir/export.h>

#include <assert.h>

static_assert(sizeof(void *) == 8, "the page map packs 16 bits above pointers");

#define WEIRI_NOINLINE __attribute__((noinline))
#define WEIRI_COLD __attribute__((cold, noinline))
#define WEIRI_NORETURN __attribute__((noreturn))
#define WEIRI_UNUSED __attribute__((unused))
#define WEIRI_ALIGNED(bytes) __attribute__((aligned(bytes)))
#define WEIRI_INLINE static inline __attribute__((always_inline))

/* A line of x86-64 and of most aarch64 cores; hot words of different owners
 * are kept this far apart. */
#define WEIRI_CACHE_LINE 64

#define WEIRI_CONTAINER_OF(pointer, type, member) \
	((type *)(void *)((char *)(pointer)-offsetof(type, member)))

#define WEIRI_COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

/*
 * Relaxed loads and stores for words with one writer and racing readers; on
 * every target they cost what a plain access costs.  Orders other than relaxed
 * are written out with the built-in where they are needed, beside the name of
 * their partner.
 */
#define WEIRI_LOAD(pointer) __atomic_load_n((pointer), __ATOMIC_RELAXED)
#define WEIRI_STORE(pointer, value) \
	__atomic_store_n((pointer), (value), __ATOMIC_RELAXED)

/* One writer: a load and a store instead of a locked add. */
#define WEIRI_BUMP(pointer, amount) \
	WEIRI_STORE((pointer), WEIRI_LOAD(pointer) + (amount))

#endif /* WEIRI_COMPILER_H */
