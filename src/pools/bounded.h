/* SPDX-License-Identifier: MIT */
/*
 * bounded.h - the storage of a bounded pool, and what its files share.
 *
 *     line 0  hot, read only after init      what alloc and free need
 *     line 1  cold, read only                the configuration, for attach
 *     line 2  cold                           name, failures
 *     words   {free, touched}                one a line, or side by side
 *     objects
 *
 * All of it is the same in every process that maps it: sizes and distances, no
 * address.
 *
 * All but bounded_view.c is compiled with and without an operating system and
 * for any word size.  Without, it includes nothing of base/, which asks for a C
 * library's header and for 64 bits.
 */
#ifndef WEIRI_POOLS_BOUNDED_H
#define WEIRI_POOLS_BOUNDED_H

#include <weir/bounded.h>

#if __STDC_HOSTED__
#include "base/assert.h"
#include "guard/fault.h"
#include "guard/guard.h"

#include <errno.h>
#include <string.h>
#define BOUNDED_LATE() WEIR_UNLIKELY(WEIRI_LOAD(&weiri_guard_late))
#else
#define BOUNDED_LATE() 0
#define WEIRI_INLINE static inline __attribute__((always_inline))
#define WEIRI_COLD __attribute__((cold, noinline))
#define WEIRI_COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))
#define WEIRI_LOAD(pointer) __atomic_load_n((pointer), __ATOMIC_RELAXED)
#define WEIR_ASSERT(condition) ((void)sizeof(!(condition)))
#define WEIR_DETECTOR(name) 1
/* Linux's numbers, which callers only compare with 0. */
#ifndef EINVAL
#define EAGAIN 11
#define EINVAL 22
#define EPROTO 71
#endif
void *memcpy(void *restrict to, const void *restrict from, size_t bytes);
void *memset(void *to, int value, size_t bytes);
#endif

#define BOUNDED_LINE 64
#define BOUNDED_NAME_BYTES 48
#define BOUNDED_LAYOUT_VERSION 1

/* A word as wide as a pointer: every target has atomics of that width. */
typedef uintptr_t bounded_bits;
#define BOUNDED_WORD_BITS ((unsigned)WEIR_BOUNDED_WORD_BITS_)

struct bounded_word {
	bounded_bits free;    /* bit set: that object is free */
	bounded_bits touched; /* bit set: it was taken at least once */
};

struct weir_bounded {
	/* Line 0. */
	uint32_t magic; /* written last by init */
	uint32_t word_count;
	uint32_t span_shift;   /* log2 of the objects a word tracks */
	uint32_t word_stride;  /* bytes from word to word */
	size_t object_count;   /* here and below: a size_t each, so that */
	size_t stride;         /* a core of another width sees another magic */
	size_t objects_offset; /* from the start of the storage */
	size_t stride_inverse; /* of its odd part, modulo 2^word */
	size_t stride_shift;   /* log2 of its power of two */

	/* Line 1. */
	_Alignas(BOUNDED_LINE) uint32_t version;
	uint32_t flags;
	size_t object_bytes;
	size_t object_align;
	size_t storage_bytes;

	/* Line 2. */
	_Alignas(BOUNDED_LINE) char name[BOUNDED_NAME_BYTES];
	size_t failures;
};

_Static_assert(sizeof(struct weir_bounded) == WEIR_BOUNDED_HEADER_BYTES_,
    "the header is what the public arithmetic counts");
_Static_assert(sizeof(struct bounded_word) == 2 * sizeof(void *),
    "words side by side are as far apart as the public arithmetic says");
_Static_assert(
    offsetof(struct weir_bounded, version) == BOUNDED_LINE, "line 0 is full");
_Static_assert(
    sizeof(bounded_bits) == sizeof(size_t), "a word is as wide as a size");

/* Reports a caller's bug.  With an operating system it does not return; @detail
 * and @number are as in guard/fault.h. */
WEIRI_COLD void weiri_bounded_fault(const struct weir_bounded *pool,
    enum weir_fault_class fault_class, const void *address, size_t number,
    const char *detail);

/* N1 of bounded.c: is the header what its configuration makes it? */
bool weiri_bounded_header_valid(const struct weir_bounded *pool);

/* False after weir_bounded_finish(). */
bool weiri_bounded_live(const struct weir_bounded *pool);

/* The figures of weir_bounded_stats() but for the header and the name. */
void weiri_bounded_figures(
    const struct weir_bounded *pool, struct weir_pool_stats *out);

/* ---- words ------------------------------------------------------------- */

WEIRI_INLINE const struct bounded_word *
bounded_word_at(const struct weir_bounded *pool, size_t index)
{
	return (const void *)((const char *)pool + sizeof(*pool) +
			      index * pool->word_stride);
}

WEIRI_INLINE struct bounded_word *
bounded_word(struct weir_bounded *pool, size_t index)
{
	return (
	    void *)((char *)pool + sizeof(*pool) + index * pool->word_stride);
}

/* @word > 0; __builtin_ctzl is inline on every target with a bit scan. */
WEIRI_INLINE unsigned
bounded_lowest(bounded_bits word)
{
	return sizeof(word) == sizeof(long)
		   ? (unsigned)__builtin_ctzl((unsigned long)word)
		   : (unsigned)__builtin_ctzll((unsigned long long)word);
}

/* The bits of word @index that stand for objects. */
WEIRI_INLINE bounded_bits
bounded_word_mask(const struct weir_bounded *pool, size_t index)
{
	size_t span = (size_t)1 << pool->span_shift;
	size_t left = pool->object_count - index * span;
	size_t bits = left < span ? left : span;

	return ~(bounded_bits)0 >> (BOUNDED_WORD_BITS - bits);
}

#endif /* WEIRI_POOLS_BOUNDED_H */
