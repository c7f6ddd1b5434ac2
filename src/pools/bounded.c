/* SPDX-License-Identifier: MIT */
/*
 * bounded.c - a fixed number of equal objects, lock-free, in caller's memory.
 *
 * The usual lock-free pool is a list: its head is one word that every call of
 * every thread must own in turn, an object popped and pushed back between a
 * thread's look at the head and its exchange makes it link a wrong successor
 * (ABA), and the cure is a tag beside the head and a 16-byte exchange.  Here a
 * free object is a set bit.  Taking it is "clear this bit, was it set?" and
 * giving it back "set this bit, was it clear?": neither depends on anything
 * read before, so whatever happened in between cannot mislead them, and the
 * second question finds the double free.
 *
 *     alloc: from the hint's word on, around, at most twice
 *
 *          word 0       word 1       word 2       word 3
 *         [........]   [..1.1111]   [1.......]   [11111111]
 *                       ^ load: not 0; pick bit 2; clear it: was it set?
 *                         yes: object 8 * 1 + 2.  no: lost it, next word
 *
 * A lost race is another call's success.  Going on to the next word after one
 * spreads the callers; it also bounds the call: 2 loads and 2 atomic operations
 * a word.  What NULL promises is in weir/bounded.h; models/bounded.pml checks
 * it, and shows by counter-examples that it promises no more.
 *
 * The words are dealt out so that a lost race is rare: each thread starts at
 * its own word and, within it, at its own bit.  Its place comes from a hint:
 * the address of the stack tells threads apart on any system without
 * thread-local storage; its low bits are dropped, so that a thread keeps its
 * place while its calls are not nested much deeper.
 *
 * Under guard (weir/guard.h) each call starts elsewhere instead, so that an object
 * is handed out again after most others, and its second free meets a set bit.
 * More cannot be done: nothing may be written into free objects, and whoever else
 * has mapped the pool knows nothing of the mode.
 *
 * Which object an address is takes no division: the distance of two objects is
 * odd * 2^k, and odd has an inverse modulo 2^64.  offset * inverse, rotated
 * right by k, is the index if the offset is a multiple of the stride, and
 * otherwise larger than any index: the product is a bijection, and the
 * multiples have taken the small values.  So one comparison finds foreign,
 * interior and misaligned pointers; a division then tells which it was.
 *
 * Invariants (weir_bounded_check() tests N1 .. N3):
 *
 *   N1  The fields of the header are those that init computes from
 *       object_bytes, object_align, object_count and flags.
 *   N2  A bit is set only for an object that exists.
 *   N3  An object that is out has its touched bit set: it is set before the
 *       object is taken, harmlessly so if another caller takes it first.
 *   N4  After init, free and touched are changed by single atomic operations
 *       only, and no step of a call waits for another call.  A signal handler,
 *       or a thread in the place of one that was stopped or killed, therefore
 *       always finds a pool it can use.
 *
 * Memory order: the release in bounded_give pairs with the acquire in
 * bounded_take, so that an object's new owner sees what the last one wrote; the
 * operations between them on the same word are read-modify-writes and keep the
 * release sequence.  The loads of a scan are acquires to keep the two passes in
 * order, which the last promise of NULL speaks about.
 */
#include "pools/bounded.h"

/* 2^32 / golden ratio: consecutive multiples, modulo 2^32, are spread evenly
 * whatever their number is. */
#define BOUNDED_GOLDEN UINT32_C(0x9e3779b9)

/* Call depths within 16 KiB of stack give one hint; on small targets, whose
 * stacks are that small, within 512 bytes. */
#define BOUNDED_STACK_SHIFT (BOUNDED_WORD_BITS == 64 ? 14 : 9)

/* ---- faults ------------------------------------------------------------ */

static WEIRI_COLD void
bounded_fault_free(const struct weir_bounded *pool,
    enum weir_bounded_result result, const void *object)
{
	switch (result) {
	case WEIR_BOUNDED_DOUBLE_FREE:
		weiri_bounded_fault(pool, WEIR_FAULT_DOUBLE_FREE, object, 0,
		    "object %p is free already");
		break;
	case WEIR_BOUNDED_FOREIGN:
		weiri_bounded_fault(pool, WEIR_FAULT_FOREIGN_POINTER, object, 0,
		    "%p is in none of its objects");
		break;
	case WEIR_BOUNDED_INTERIOR:
		weiri_bounded_fault(pool, WEIR_FAULT_INTERIOR_POINTER, object,
		    0, "%p is inside an object, not at its start");
		break;
	case WEIR_BOUNDED_MISALIGNED:
		weiri_bounded_fault(pool, WEIR_FAULT_MISALIGNED_POINTER, object,
		    pool->object_align, "%p is not aligned to %u");
		break;
	case WEIR_BOUNDED_FREED:
		break;
	}
}

/* ---- words ------------------------------------------------------------- */

/*
 * Both answer whether the bit was set before.  On x86 the built-ins would do,
 * but for clang before 15 and for unoptimised code, which make a loop around a
 * compare-exchange of them; ThreadSanitizer understands only the built-ins.
 */
#if defined(__SANITIZE_THREAD__)
#define BOUNDED_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define BOUNDED_TSAN 1
#endif
#endif

#if (defined(__x86_64__) || defined(__i386__)) && !defined(BOUNDED_TSAN)

/* The bit is below the width of the word: nothing beyond it is touched. */
WEIRI_INLINE bool
bounded_take(bounded_bits *word, unsigned bit)
{
	bool set;

	__asm__ volatile("lock btr %2, %1"
			 : "=@ccc"(set), "+m"(*word)
			 : "r"((bounded_bits)bit)
			 : "memory");
	return set;
}

WEIRI_INLINE bool
bounded_give(bounded_bits *word, unsigned bit)
{
	bool set;

	__asm__ volatile("lock bts %2, %1"
			 : "=@ccc"(set), "+m"(*word)
			 : "r"((bounded_bits)bit)
			 : "memory");
	return set;
}

#else

WEIRI_INLINE bool
bounded_take(bounded_bits *word, unsigned bit)
{
	bounded_bits mask = (bounded_bits)1 << bit;

	/* Acquires what bounded_give released, and releases the touch before it
	 * to weir_bounded_check(), which reads this word first. */
	return (__atomic_fetch_and(word, ~mask, __ATOMIC_ACQ_REL) & mask) != 0;
}

WEIRI_INLINE bool
bounded_give(bounded_bits *word, unsigned bit)
{
	bounded_bits mask = (bounded_bits)1 << bit;

	return (__atomic_fetch_or(word, mask, __ATOMIC_RELEASE) & mask) != 0;
}

#endif

/* In plain arithmetic: the built-in is a call into the compiler's library
 * wherever the processor's instruction cannot be taken for granted. */
static unsigned
bounded_popcount(bounded_bits word)
{
	const bounded_bits ones = ~(bounded_bits)0;

	word -= (word >> 1) & (ones / 3);
	word = (word & (ones / 5)) + ((word >> 2) & (ones / 5));
	word = (word + (word >> 4)) & (ones / 17);
	return (unsigned)((word * (ones / 255)) >> (BOUNDED_WORD_BITS - 8));
}

WEIRI_INLINE bounded_bits
bounded_rotate_right(bounded_bits word, unsigned by)
{
	const unsigned mask = BOUNDED_WORD_BITS - 1;

	return (word >> (by & mask)) | (word << ((0u - by) & mask));
}

/* ---- objects and indexes ----------------------------------------------- */

static void *
bounded_object_at(struct weir_bounded *pool, size_t index)
{
	return (char *)pool + pool->objects_offset + index * pool->stride;
}

/* Not below object_count for what is no object's address. */
WEIRI_INLINE size_t
bounded_index_of(const struct weir_bounded *pool, const void *object)
{
	size_t offset =
	    (uintptr_t)object - (uintptr_t)pool - pool->objects_offset;

	return bounded_rotate_right(
	    offset * pool->stride_inverse, (unsigned)pool->stride_shift);
}

static WEIRI_COLD enum weir_bounded_result
bounded_classify(const struct weir_bounded *pool, const void *object)
{
	size_t offset =
	    (uintptr_t)object - (uintptr_t)pool - pool->objects_offset;

	if (offset >= pool->object_count * pool->stride &&
	    WEIR_DETECTOR(bounded_foreign))
		return WEIR_BOUNDED_FOREIGN;
	if (offset % pool->object_align != 0 &&
	    WEIR_DETECTOR(bounded_misaligned))
		return WEIR_BOUNDED_MISALIGNED;
	return WEIR_BOUNDED_INTERIOR;
}

size_t
weir_bounded_index(const struct weir_bounded *pool, const void *object)
{
	size_t index = bounded_index_of(pool, object);

	return index < pool->object_count ? index : WEIR_BOUNDED_NONE;
}

void *
weir_bounded_object(struct weir_bounded *pool, size_t index)
{
	if (index >= pool->object_count)
		return NULL;
	return bounded_object_at(pool, index);
}

/* ---- alloc ------------------------------------------------------------- */

/* Where a caller starts: a word, and a bit in each word. */
struct bounded_place {
	size_t word;
	unsigned bit;
};

WEIRI_INLINE struct bounded_place
bounded_place(const struct weir_bounded *pool, size_t hint)
{
	uint32_t hash = (uint32_t)hint * BOUNDED_GOLDEN;

	return (struct bounded_place){
	    /* hash / 2^32 of the words; the product's top bits decide. */
	    .word = (size_t)(((uint64_t)hash * pool->word_count) >> 32),
	    /* Its low bits: the hint's own, another for each in a row. */
	    .bit = hash & ((1u << pool->span_shift) - 1),
	};
}

/* The first set bit of @free at or after @from, around; @free > 0. */
WEIRI_INLINE unsigned
bounded_pick(bounded_bits free, unsigned from)
{
	return (bounded_lowest(bounded_rotate_right(free, from)) + from) &
	       (BOUNDED_WORD_BITS - 1);
}

/* N3, before the take: the set bits of @mask are about to be taken. */
WEIRI_INLINE void
bounded_touch(struct bounded_word *word, bounded_bits mask)
{
	if (WEIR_UNLIKELY((WEIRI_LOAD(&word->touched) & mask) != mask))
		__atomic_fetch_or(&word->touched, mask, __ATOMIC_RELAXED);
}

/* One examination of one word: the bit taken, or -1. */
WEIRI_INLINE int
bounded_examine(struct bounded_word *word, unsigned from)
{
	bounded_bits free = __atomic_load_n(&word->free, __ATOMIC_ACQUIRE);

	if (free == 0)
		return -1;

	unsigned bit = bounded_pick(free, from);

	bounded_touch(word, (bounded_bits)1 << bit);
	return WEIR_LIKELY(bounded_take(&word->free, bit)) ? (int)bit : -1;
}

/* What the first examination of the first word did not settle. */
static WEIRI_COLD void *
bounded_search(struct weir_bounded *pool, struct bounded_place place)
{
	size_t at = place.word;

	/* Two passes, less the examination that has been. */
	for (size_t left = 2 * (size_t)pool->word_count - 1; left > 0; left--) {
		if (++at == pool->word_count)
			at = 0;

		int bit = bounded_examine(bounded_word(pool, at), place.bit);

		if (bit >= 0)
			return bounded_object_at(
			    pool, (at << pool->span_shift) + (unsigned)bit);
	}
	__atomic_fetch_add(&pool->failures, 1, __ATOMIC_RELAXED);
	return NULL;
}

/* Inline, as bounded_give_back(): what is exported may be replaced at load
 * time, so that one exported function calls another through a table. */
WEIRI_INLINE void *
bounded_get(struct weir_bounded *pool, size_t hint)
{
	WEIR_ASSERT(weiri_bounded_live(pool));

	struct bounded_place place = bounded_place(pool, hint);
	int bit = bounded_examine(bounded_word(pool, place.word), place.bit);

	if (WEIR_UNLIKELY(bit < 0))
		return bounded_search(pool, place);
	return bounded_object_at(
	    pool, (place.word << pool->span_shift) + (unsigned)bit);
}

void *
weir_bounded_alloc_hint(struct weir_bounded *pool, size_t hint)
{
	return bounded_get(pool, hint);
}

/* Of calls under guard: multiples of the golden ratio come around late. */
static size_t bounded_turn;

WEIRI_INLINE size_t
bounded_stack_hint(void)
{
	if (BOUNDED_LATE())
		return __atomic_fetch_add(&bounded_turn, 1, __ATOMIC_RELAXED);
	return (uintptr_t)__builtin_frame_address(0) >> BOUNDED_STACK_SHIFT;
}

void *
weir_bounded_alloc(struct weir_bounded *pool)
{
	return bounded_get(pool, bounded_stack_hint());
}

/* At most @count set bits of @free, from bit @from on, around. */
static bounded_bits
bounded_pick_many(bounded_bits free, unsigned from, size_t count)
{
	bounded_bits rest = bounded_rotate_right(free, from);
	bounded_bits all = rest;

	if (bounded_popcount(free) <= count)
		return free;
	for (; count > 0; count--)
		rest &= rest - 1;
	return bounded_rotate_right(all ^ rest, BOUNDED_WORD_BITS - from);
}

/* As bounded_examine(), for up to @count objects; writes them to @objects. */
static size_t
bounded_examine_many(struct weir_bounded *pool, size_t at, unsigned from,
    void **objects, size_t count)
{
	struct bounded_word *word = bounded_word(pool, at);
	bounded_bits free = __atomic_load_n(&word->free, __ATOMIC_ACQUIRE);
	size_t got = 0;

	if (free == 0)
		return 0;

	bounded_bits mask = bounded_pick_many(free, from, count);

	bounded_touch(word, mask);
	/* Acquires what bounded_give and bounded_flush released, and releases
	 * the touch, as in bounded_take. */
	mask &= __atomic_fetch_and(&word->free, ~mask, __ATOMIC_ACQ_REL);
	for (; mask != 0; mask &= mask - 1)
		objects[got++] = bounded_object_at(
		    pool, (at << pool->span_shift) + bounded_lowest(mask));
	return got;
}

size_t
weir_bounded_alloc_batch(
    struct weir_bounded *pool, void **objects, size_t count)
{
	struct bounded_place place = bounded_place(pool, bounded_stack_hint());
	size_t at = place.word, got = 0;

	for (size_t left = 2 * (size_t)pool->word_count; left > 0; left--) {
		if (got == count)
			return got;
		got += bounded_examine_many(
		    pool, at, place.bit, objects + got, count - got);
		if (++at == pool->word_count)
			at = 0;
	}
	if (got < count)
		__atomic_fetch_add(&pool->failures, 1, __ATOMIC_RELAXED);
	return got;
}

/* ---- free -------------------------------------------------------------- */

WEIRI_INLINE enum weir_bounded_result
bounded_give_back(struct weir_bounded *pool, void *object)
{
	size_t index = bounded_index_of(pool, object);

	WEIR_ASSERT(weiri_bounded_live(pool));
	if (WEIR_UNLIKELY(index >= pool->object_count))
		return bounded_classify(pool, object);

	struct bounded_word *word =
	    bounded_word(pool, index >> pool->span_shift);
	unsigned bit = (unsigned)index & ((1u << pool->span_shift) - 1);

	if (WEIR_UNLIKELY(bounded_give(&word->free, bit)) &&
	    WEIR_DETECTOR(bounded_double_free))
		return WEIR_BOUNDED_DOUBLE_FREE;
	return WEIR_BOUNDED_FREED;
}

enum weir_bounded_result
weir_bounded_try_free(struct weir_bounded *pool, void *object)
{
	return bounded_give_back(pool, object);
}

void
weir_bounded_free(struct weir_bounded *pool, void *object)
{
	if (object == NULL)
		return;

	enum weir_bounded_result result = bounded_give_back(pool, object);

	if (WEIR_UNLIKELY(result != WEIR_BOUNDED_FREED) &&
	    WEIR_DETECTOR(bounded_free))
		bounded_fault_free(pool, result, object);
}

/* Objects of one word on their way back. */
struct bounded_run {
	size_t word;
	bounded_bits mask;
};

/* Sets the bits of the run; a bit that was set already is a double free. */
static void
bounded_flush(struct weir_bounded *pool, struct bounded_run *run)
{
	bounded_bits mask = run->mask;

	if (mask == 0)
		return;
	run->mask = 0;
	/* Pairs with the acquires in bounded_take and bounded_examine_many. */
	mask &= __atomic_fetch_or(
	    &bounded_word(pool, run->word)->free, mask, __ATOMIC_RELEASE);
	if (WEIR_UNLIKELY(mask != 0) && WEIR_DETECTOR(bounded_bulk_double_free))
		bounded_fault_free(pool, WEIR_BOUNDED_DOUBLE_FREE,
		    bounded_object_at(pool, (run->word << pool->span_shift) +
						bounded_lowest(mask)));
}

/* Adds an object to the run; one of another word, or one that is in it
 * already, has the run go first. */
static void
bounded_run_add(
    struct weir_bounded *pool, struct bounded_run *run, void *object)
{
	size_t index = bounded_index_of(pool, object);

	if (WEIR_UNLIKELY(index >= pool->object_count)) {
		bounded_flush(pool, run);
		bounded_fault_free(
		    pool, bounded_classify(pool, object), object);
		return;
	}

	size_t word = index >> pool->span_shift;
	bounded_bits bit = (bounded_bits)1
			   << (index & (((size_t)1 << pool->span_shift) - 1));

	if (word != run->word || (run->mask & bit) != 0) {
		bounded_flush(pool, run);
		run->word = word;
	}
	run->mask |= bit;
}

void
weir_bounded_free_batch(
    struct weir_bounded *pool, void *const *objects, size_t count)
{
	struct bounded_run run = {0, 0};

	for (size_t i = 0; i < count; i++)
		if (objects[i] != NULL)
			bounded_run_add(pool, &run, objects[i]);
	bounded_flush(pool, &run);
}

/* ---- inspection -------------------------------------------------------- */

size_t
weir_bounded_object_count(const struct weir_bounded *pool)
{
	return pool->object_count;
}

size_t
weir_bounded_in_use(const struct weir_bounded *pool)
{
	size_t free = 0;

	for (size_t i = 0; i < pool->word_count; i++)
		free += bounded_popcount(
		    WEIRI_LOAD(&bounded_word_at(pool, i)->free));
	return pool->object_count - free;
}

size_t
weir_bounded_walk(
    struct weir_bounded *pool, weir_bounded_visit_fn visit, void *context)
{
	size_t visited = 0;

	for (size_t i = 0; i < pool->word_count; i++) {
		bounded_bits out =
		    bounded_word_mask(pool, i) &
		    ~__atomic_load_n(
			&bounded_word_at(pool, i)->free, __ATOMIC_ACQUIRE);

		for (; out != 0; out &= out - 1) {
			visited++;
			if (!visit(bounded_object_at(
				       pool, (i << pool->span_shift) +
						 bounded_lowest(out)),
				context))
				return visited;
		}
	}
	return visited;
}

void
weiri_bounded_figures(
    const struct weir_bounded *pool, struct weir_pool_stats *out)
{
	size_t touched = 0;

	for (size_t i = 0; i < pool->word_count; i++)
		touched += bounded_popcount(
		    WEIRI_LOAD(&bounded_word_at(pool, i)->touched));
	out->exact = WEIR_EXACT_COUNTS;
	out->object_bytes = pool->object_bytes;
	out->limit = pool->object_count;
	out->total = pool->object_count;
	out->in_use = weir_bounded_in_use(pool);
	out->available = out->total - out->in_use;
	out->in_use_peak = touched;
	out->failures = WEIRI_LOAD(&pool->failures);
	out->requests = out->failures + touched;
	/* Nothing is kept apart from the shared words. */
	out->misses = out->requests;
}

int
weir_bounded_stats(const struct weir_bounded *pool, struct weir_pool_stats *out)
{
	if (out->size != sizeof(*out))
		return -EINVAL;
	memset(out, 0, sizeof(*out));
	out->size = sizeof(*out);
	out->version = WEIR_STATS_VERSION;
	out->kind = WEIR_POOL_BOUNDED;
	out->limit_bytes = UINT64_MAX;
	memcpy(out->name, pool->name, sizeof(pool->name));
	weiri_bounded_figures(pool, out);
	return 0;
}

bool
weir_bounded_check(const struct weir_bounded *pool)
{
	if (!weiri_bounded_live(pool) || !weiri_bounded_header_valid(pool))
		return false;
	for (size_t i = 0; i < pool->word_count; i++) {
		const struct bounded_word *word = bounded_word_at(pool, i);
		bounded_bits mask = bounded_word_mask(pool, i);
		/* First what is out, then what was ever taken: N3 in the
		 * order in which takers make it true. */
		bounded_bits free =
		    __atomic_load_n(&word->free, __ATOMIC_ACQUIRE);
		bounded_bits touched = WEIRI_LOAD(&word->touched);

		if ((free & ~mask) != 0 || (touched & ~mask) != 0 ||
		    (~free & mask & ~touched) != 0)
			return false;
	}
	return true;
}
