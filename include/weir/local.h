/* SPDX-License-Identifier: MIT */
/*
 * local.h - a thread's own state, resolved once for many calls.
 *
 * Most of a call that takes an object from a thread's magazine is finding the
 * thread.  A loop that asks once, and passes the answer to the calls that end
 * in _at, has the rest of them compiled in line.
 *
 * What is compiled in line depends on the layout below.  The library that is
 * loaded must have the same, so the function behind weir_local() carries the
 * layout's number in its name: a program built against another one does not
 * link, and is not loaded, instead of writing where it should not.
 */
#ifndef WEIR_LOCAL_H
#define WEIR_LOCAL_H

#include <weir/export.h>

WEIR_BEGIN_DECLS

/** The layout of thread states, magazines and pool heads that is in line. */
#define WEIR_ABI 4

struct weir_local;

/* The thread's state in layout 4; call weir_local(). */
WEIR_API struct weir_local *weir_abi_4(void) WEIR_NOEXCEPT;

#if defined(__cplusplus) && defined(__GNUC__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wshadow" /* the struct has this name, too */
#endif

/**
 * weir_local() - the calling thread's state.
 *
 * Returns:   never NULL; without memory for a state of its own, one that sends
 *            every call through a lock.
 * Ownership: the library's; ends with the thread.
 * Threads:   only the calling thread may use the answer, and not in its thread
 *            exit handlers, where the calls without _at still work.  Not
 *            async-signal-safe.
 * Cost:      a call; the thread's first takes microseconds.
 * Errors:    none.
 * Since:     0.1
 */
static inline struct weir_local *
weir_local(void) WEIR_NOEXCEPT
{
	return weir_abi_4();
}
#if defined(__cplusplus) && defined(__GNUC__)
#pragma GCC diagnostic pop
#endif

/*
 * Layout 3.  Offsets are bytes in struct weir_local.  The cursor of a pool is a
 * pointer into a 1 KiB-aligned magazine; it points at a word with bit 0 set
 * when the magazine is empty, and at the magazine's last word when it is full.
 */
#define WEIR_ABI_CELLS 480
#define WEIR_ABI_REQUESTS_OFFSET ((size_t)WEIR_ABI_CELLS * 2 * 8)

/* A word that counts: requests below, a countdown above (slab/local.h). */
#define WEIR_ABI_REQUESTS_BITS 41
#define WEIR_ABI_COUNTDOWN_SHIFT 48
#define WEIR_ABI_COUNT (((uint64_t)1 << WEIR_ABI_COUNTDOWN_SHIFT) + 1)

#define WEIR_ABI_MAGAZINE_BYTES 1024
#define WEIR_ABI_MAGAZINE_FULL (WEIR_ABI_MAGAZINE_BYTES - 8)
#define WEIR_ABI_NEAR_SHIFT 16
#define WEIR_ABI_NEAR_COUNT ((uintptr_t)1 << 20)

/* Slots whose state is in a table lie in slabs of this many bytes; 2 bytes for
 * each 2^(table_shift + 1) bytes, at the slab's start, hold the low bits of the
 * address of the object in use there.  Of a free one the upper byte is this: so
 * far at the start lies no object, and the entry for that place is of none. */
#define WEIR_ABI_TABLE_SLAB ((uintptr_t)64 << 10)
#define WEIR_ABI_TABLE_FREE 1u

/* The word before a free object: not 0, which is what most overwrite it with; even,
 * as that of one in use is not; and what one instruction can store. */
#define WEIR_ABI_WORD_FREE UINT64_C(0x65657266)

/* The compiler's measure of what is worth it counts the rare cases, too. */
#ifdef __GNUC__
#define WEIR_ABI_INLINE __attribute__((always_inline))
#else
#define WEIR_ABI_INLINE
#endif

/* Comes first, but what comes second is not rare either: told that it is, a
 * compiler has it jump to the end of the first. */
#if defined(__has_builtin)
#if __has_builtin(__builtin_expect_with_probability)
#define WEIR_ABI_OFTEN(x) (__builtin_expect_with_probability(!!(x), 1, 0.6))
#endif
#endif
#ifndef WEIR_ABI_OFTEN
#define WEIR_ABI_OFTEN(x) (x)
#endif

/* What is looked at when an object is put. */
enum weir_abi_check {
	WEIR_ABI_CHECK_OTHER = 0, /* nothing, or more than is in line */
	WEIR_ABI_CHECK_WORD = 1,  /* the word before it */
	WEIR_ABI_CHECK_TABLE = 2, /* its entry in the slab's table */
};

/*
 * The head of a pool that hands out slots from magazines.  The word at the
 * cursor, and the cursor, must be tested for the edges of the magazine anyway;
 * what they are tested with says as well whether there is more to do.  A word is
 * an object's address, so all of it is tested: a part of it may be 0.  A cursor at
 * a magazine's end is followed by an address whose lower bits are 0.
 */
struct weir_abi_head {
	uintptr_t take_plain; /* word & this: not to be taken as it is */
	uintptr_t take_word;  /* nor with the word before it to set */
	uintptr_t take_table; /* nor with its entry in the table to set */
	uint32_t cell;        /* offset of the cursor */
	uint16_t put_plain;   /* next & this: to be put as it is */
	uint16_t put_word;    /* or with the word before it to look at */
	uint16_t put_table;   /* or with its entry in the table to look at */
	uint16_t tag;         /* whose memory the pool's is */
	uint8_t check;        /* enum weir_abi_check */
	uint8_t table_shift;
	uint64_t live;             /* in the word before an object in use */
	uintptr_t near_base;       /* tags begin here, one for each 64 KiB */
	const uint16_t *near_tags; /* WEIR_ABI_NEAR_COUNT of them */
};

/*
 * The distance in the slab, in slots and doubled, takes the place of the lower
 * half word of the address; a shift of that half alone C has no word for.
 */
WEIR_ABI_INLINE static inline uint16_t *
weir_abi_entry(const struct weir_abi_head *head, const void *object)
{
	uintptr_t entry = (uintptr_t)object;

#if defined(__x86_64__) && defined(__GNUC__)
	__asm__("shrw %b1, %w0" : "+r"(entry) : "c"(head->table_shift) : "cc");
#else
	entry = (entry & ~(WEIR_ABI_TABLE_SLAB - 1)) +
		((unsigned)(uint16_t)entry >> head->table_shift);
#endif
	return (uint16_t *)(entry & ~(uintptr_t)1);
}

/* What the entry of a free object is. */
WEIR_ABI_INLINE static inline uint16_t
weir_abi_free_entry(const void *object)
{
	return (
	    uint16_t)(WEIR_ABI_TABLE_FREE << 8 | ((uintptr_t)object & 0xff));
}

/* Makes it that of one in use: the lower byte stays. */
WEIR_ABI_INLINE static inline void
weir_abi_set_free(uint16_t *entry, const void *object)
{
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	(void)object;
	((unsigned char *)entry)[1] = WEIR_ABI_TABLE_FREE;
#else
	*entry = weir_abi_free_entry(object);
#endif
}

/*
 * Counts a request; true if that ended the countdown.  One writer: no locked
 * add.  The carry of the addition is the answer, which C has no word for that
 * compilers turn into one jump.
 */
WEIR_ABI_INLINE static inline bool
weir_abi_count(uintptr_t **cell)
{
	uint64_t *requests =
	    (uint64_t *)(void *)((char *)cell + WEIR_ABI_REQUESTS_OFFSET);

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__SANITIZE_THREAD__)
	__asm__ goto("addq %1, %0\n\tjc %l[due]"
		     : /* none: compilers differ on outputs beside labels */
		     : "m"(*requests), "r"(WEIR_ABI_COUNT)
		     : "cc", "memory"
		     : due);
	return false;
due:
	return true;
#else
	uint64_t before = __atomic_load_n(requests, __ATOMIC_RELAXED);
	uint64_t after = before + WEIR_ABI_COUNT;

	__atomic_store_n(requests, after, __ATOMIC_RELAXED);
	return after < before;
#endif
}

/* Is an address @units of 64 KiB above the first tag memory of the pool?  False
 * tells only that a closer look is needed; the address is not read. */
WEIR_ABI_INLINE static inline bool
weir_abi_owns_unit(const struct weir_abi_head *head, uintptr_t units)
{
	if (WEIR_UNLIKELY(units >= WEIR_ABI_NEAR_COUNT))
		return false;
	return __atomic_load_n(&head->near_tags[units], __ATOMIC_RELAXED) ==
	       head->tag;
}

/* The same of an @address, and whether it is 8-aligned. */
WEIR_ABI_INLINE static inline bool
weir_abi_owns_word(const struct weir_abi_head *head, const void *address)
{
	uintptr_t away = (uintptr_t)address - head->near_base;

	/* Rotated, bits that should be 0 make the number too large. */
	away = away >> 3 | away << 61;
	return weir_abi_owns_unit(head, away >> (WEIR_ABI_NEAR_SHIFT - 3));
}

/* And whatever its alignment. */
WEIR_ABI_INLINE static inline bool
weir_abi_owns(const struct weir_abi_head *head, const void *address)
{
	return weir_abi_owns_unit(head,
	    ((uintptr_t)address - head->near_base) >> WEIR_ABI_NEAR_SHIFT);
}

/* Has a word none of the bits of a mask?  GCC copies a word of 64 bits before it
 * tests it with memory: an instruction more each time. */
WEIR_ABI_INLINE static inline bool
weir_abi_clear(uintptr_t word, const uintptr_t *mask)
{
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__ILP32__) && !defined(__SANITIZE_ADDRESS__)
	__asm__ goto("testq %0, %1\n\tjne %l[set]"
		     :
		     : "r"(word), "m"(*mask)
		     : "cc"
		     : set);
	return true;
set:
	return false;
#else
	return (word & *mask) == 0;
#endif
}

/*
 * Takes the newest slot of the cell's magazine; false if that is not all, and
 * *object is to be forgotten.
 *
 * Here and in weir_abi_put() each case ends by itself, with nothing to do in
 * common: a jump that is taken costs more than the instructions it saves.
 */
WEIR_ABI_INLINE static inline bool
weir_abi_take(const struct weir_abi_head *head, uintptr_t **cell, void **object)
{
	uintptr_t *cursor = __atomic_load_n(cell, __ATOMIC_RELAXED);
	uintptr_t word = *cursor;

	*object = (void *)word;
	if (WEIR_ABI_OFTEN(weir_abi_clear(word, &head->take_plain))) {
		__atomic_store_n(cell, cursor - 1, __ATOMIC_RELAXED);
		return true;
	}
	if (WEIR_ABI_OFTEN(weir_abi_clear(word, &head->take_word))) {
		if (WEIR_UNLIKELY(weir_abi_count(cell)))
			return false;
		__atomic_store_n(cell, cursor - 1, __ATOMIC_RELAXED);
		((uint64_t *)word)[-1] = head->live;
		return true;
	}
	if (WEIR_LIKELY(weir_abi_clear(word, &head->take_table))) {
		if (WEIR_UNLIKELY(weir_abi_count(cell)))
			return false;
		__atomic_store_n(cell, cursor - 1, __ATOMIC_RELAXED);
		*weir_abi_entry(head, (void *)word) = (uint16_t)word;
		return true;
	}
	return false;
}

/* Marks an object free whose state is the word before it, if it is one in use;
 * false if that needs a closer look: nothing was changed then. */
WEIR_ABI_INLINE static inline bool
weir_abi_retire_word(const struct weir_abi_head *head, void *object)
{
	/* The word is what is read, so it must be the pool's. */
	uint64_t *word = (uint64_t *)((uintptr_t)object - 8);

	if (WEIR_UNLIKELY(!weir_abi_owns_word(head, word)))
		return false;
	/* NOLINTNEXTLINE(clang-analyzer-core.NullDereference) */
	if (WEIR_UNLIKELY(*word != head->live))
		return false;
	*word = WEIR_ABI_WORD_FREE;
	return true;
}

/* The same of one whose state is in its slab's table. */
WEIR_ABI_INLINE static inline bool
weir_abi_retire_entry(const struct weir_abi_head *head, void *object)
{
	uint16_t live = (uint16_t)(uintptr_t)object;

	/* Aligned or not: the entry of none but its start has its last bits. */
	if (WEIR_UNLIKELY(!weir_abi_owns(head, object)))
		return false;

	uint16_t *entry = weir_abi_entry(head, object);

	if (WEIR_UNLIKELY(*entry != live))
		return false;
	weir_abi_set_free(entry, object);
	return true;
}

/* The same of one whose state is wherever the pool's are. */
WEIR_ABI_INLINE static inline bool
weir_abi_retire(const struct weir_abi_head *head, void *object)
{
	if (WEIR_LIKELY(head->check == WEIR_ABI_CHECK_WORD))
		return weir_abi_retire_word(head, object);
	if (WEIR_LIKELY(head->check == WEIR_ABI_CHECK_TABLE))
		return weir_abi_retire_entry(head, object);
	return false;
}

/* Puts @object into the cell's magazine; false if that is not all.  The cursor
 * is released, so that the child of a fork() that sees it sees the object. */
WEIR_ABI_INLINE static inline bool
weir_abi_put(const struct weir_abi_head *head, uintptr_t **cell, void *object)
{
	uintptr_t *cursor = __atomic_load_n(cell, __ATOMIC_RELAXED);
	uintptr_t *next = cursor + 1;
	uint16_t low = (uint16_t)(uintptr_t)next;

	if (WEIR_LIKELY((low & head->put_plain) != 0 && object != NULL)) {
		*next = (uintptr_t)object;
		__atomic_store_n(cell, next, __ATOMIC_RELEASE);
		return true;
	}
	/* What lies above the cursor is nobody's. */
	if (WEIR_LIKELY((low & head->put_word) != 0)) {
		*next = (uintptr_t)object;
		if (WEIR_UNLIKELY(!weir_abi_retire_word(head, object)))
			return false;
		__atomic_store_n(cell, next, __ATOMIC_RELEASE);
		return true;
	}
	if (WEIR_LIKELY((low & head->put_table) != 0)) {
		*next = (uintptr_t)object;
		if (WEIR_UNLIKELY(!weir_abi_retire_entry(head, object)))
			return false;
		__atomic_store_n(cell, next, __ATOMIC_RELEASE);
		return true;
	}
	return false;
}

WEIR_END_DECLS

#endif /* WEIR_LOCAL_H */
