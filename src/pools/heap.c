/* SPDX-License-Identifier: MIT */
/*
 * heap.c - memory of any size: the calls that are made often.
 *
 *   alloc   size / 16 --(quick)--> offset of a cell --> slot
 *   free    address / 64 KiB --(near)--> tag --(tag_offset)--> offset of a cell
 *
 * A heap is a depot per size class and nothing beside an object.  One table of
 * 16-bit offsets leads from a size straight to the calling thread's cell of the
 * class, another from the tag of an object's slab to the cell it goes back to.
 * Offset 0 is the cell that is empty and full for ever: a class not used yet, a
 * foreign pointer, NULL, a depot without a cell and a heap that does not exist
 * yet all arrive in the slow path without a test of their own.
 *
 * A free in the heap of the process is shorter: a table by tag, which has entries
 * for its slabs only, answers whether they are and where slots start in one, and
 * the cell follows from the tag.  Nothing else lies between the object's address
 * and that of the cursor: what is taken next waits until it is known where this
 * one goes, so each look-up on that way costs its whole latency, of each pair.
 *
 * Checks at the call (level `each`) need two answers: does an object start
 * here, and is it free already?  The first is a multiplication and a comparison
 * (weiri_heap_shape_of()), which answer for interior and misaligned pointers
 * alike.  Heaps do without slab colours for it.  The second is a mark in the
 * object's first word:
 *
 *     free:  word 0 = secret ^ address       live:  the program's
 *
 * A state byte in the slab's header would be out of a program's reach, but
 * neighbours share its line between threads, and it costs a division at alloc
 * as well.  The mark costs alloc one store to the line the program writes next
 * anyway, and a free one look at a line it mostly has.  The price: a program
 * that writes into the first word of what it freed erases the mark, and its
 * second free goes unseen; so does the free of a slot that was never handed out.
 *
 * Invariants (weir_heap_check()):
 *
 *   H1  The depot of each class is sound.
 *   H2  mapped_bytes is the sum of slabs and runs, and within the limit (M1).
 *   H3  Each page of a run has the run's descriptor in the page map; the
 *       counters of runs are the sums over their list.
 *   H4  A table's entry is 0, or leads to the smallest class that holds the
 *       sizes it stands for, or back to the class whose tag it stands for; what
 *       is kept by tag of where slots start is what the class has.
 *
 * Memory order: entries of the tables are relaxed.  A thread that sees an
 * offset early finds its own cell there, which is at the dummy; the slow path
 * takes the bin's address with acquire, and with it the class's shape, which is
 * written before: whoever has an object of a class has seen its shape.
 */
#include "pools/heap.h"

#include "base/bits.h"
#include "guard/fault.h"
#include "pages/near.h"

#include <string.h>

/* The functions; the macro of this name is for callers. */
#undef weir_alloc

/* ---- the mark ------------------------------------------------------------ */

WEIRI_INLINE uint64_t
heap_mark(const struct weir_heap *heap, const void *slot)
{
	return heap->secret ^ (uintptr_t)slot;
}

/* On the way out: whatever is there, it is no mark. */
WEIRI_INLINE void
heap_clear_mark(void *slot)
{
	*(uint64_t *)slot = 0;
}

void
weiri_heap_set_mark(const struct weir_heap *heap, void *slot)
{
	*(uint64_t *)slot = heap_mark(heap, slot);
}

/*
 * The tag of a slab that may be of @heap, by the table of pages/near.h; 0 for
 * all that needs a closer look: other memory, far slabs, depots without a cell.
 */
WEIRI_INLINE size_t
heap_near_tag(const struct weir_heap *heap, const void *object)
{
	uintptr_t unit =
	    ((uintptr_t)object - heap->near_base) >> WEIRI_NEAR_SHIFT;
	size_t tag;

	if (WEIR_UNLIKELY(unit >= WEIRI_NEAR_COUNT))
		return 0;
	tag = WEIRI_LOAD(&weiri_near_tag[unit]);
	return WEIR_LIKELY(tag < WEIRI_CELLS) ? tag : 0;
}

/* ---- cells --------------------------------------------------------------- */

/*
 * As weiri_cell_pop(), but the answer is in no need of another test.
 *
 * In a program that takes and frees many sizes, a processor cannot know whether
 * the free before has moved this cursor, and what the cursor leads to is one load
 * more behind it.  So the word there is kept beside the cursor as well, and given
 * out as soon as that is known; what the cursor says is looked at behind, in
 * nobody's way.  Where the two differ, slow calls make the guess good.
 */
WEIRI_INLINE bool
heap_pop(uint32_t offset, void **slot)
{
	uintptr_t **cell = weiri_local_cell(weiri_local(), offset);
	uintptr_t *newest = weiri_cell_newest(cell);
	uintptr_t word = *newest;
	uintptr_t *cursor = WEIRI_LOAD(cell);

	/* Or the compiler takes the one for the other, which is as good to it. */
	__asm__("" : "+r"(word));
	if (WEIR_UNLIKELY(*cursor != word))
		return false;
	if (WEIR_UNLIKELY(word & WEIRI_MAGAZINE_TAG))
		return false;
	if (WEIR_UNLIKELY(weir_abi_count(cell)))
		return false;
	*newest = cursor[-1];
	WEIRI_STORE(cell, cursor - 1);
	*slot = (void *)word;
	heap_clear_mark(*slot);
	return true;
}

WEIRI_INLINE bool
heap_push(size_t offset, void *slot)
{
	uintptr_t **cell = weiri_local_cell(weiri_local(), offset);

	if (WEIR_UNLIKELY(!weiri_cell_push(cell, slot)))
		return false;
	*weiri_cell_newest(cell) = (uintptr_t)slot;
	return true;
}

/* ---- which object is it? ------------------------------------------------- */

/* The bin of an object in use of @heap, else NULL. */
WEIRI_INLINE struct weiri_heap_bin *
heap_find_slot(
    const struct weir_heap *heap, struct weiri_span *span, const void *object)
{
	struct weiri_heap_bin *bin = weiri_heap_bin_of(span);

	if (bin == NULL || bin->heap != heap ||
	    !weiri_heap_is_start(&bin->shape, object))
		return NULL;
	if (heap->each &&
	    *(const uint64_t *)object == heap_mark(heap, object) &&
	    WEIR_DETECTOR(heap_double_free))
		return NULL;
	return bin;
}

/* The run of @heap that starts at @object, else NULL. */
WEIRI_INLINE struct weiri_heap_run *
heap_find_run(
    const struct weir_heap *heap, struct weiri_span *span, const void *object)
{
	struct weiri_heap_run *run = weiri_heap_run_of(span);

	if (run == NULL || run->heap != heap)
		return NULL;
	if (run->span.base != object && WEIR_DETECTOR(heap_run_interior))
		return NULL;
	return run;
}

/* True if a request of @bytes is served by the bin's class. */
WEIRI_INLINE bool
heap_bin_serves(const struct weiri_heap_bin *bin, size_t bytes)
{
	return bytes <= bin->depot.slot_bytes &&
	       (bytes > bin->below || bin->below == 0);
}

/* ---- alloc --------------------------------------------------------------- */

/* The edge of a magazine, and the end of the countdown. */
static WEIRI_NOINLINE void *
heap_take_slow(struct weiri_heap_bin *bin, size_t bytes, size_t align)
{
	uintptr_t **cell =
	    weiri_local_cell(weiri_local(), bin->depot.fast_offset);
	void *slot = weiri_cell_pop(cell);

	if (slot == NULL) {
		/* One request a magazine says what the others may be like. */
		__atomic_fetch_add(&bin->sample_count, 1, __ATOMIC_RELAXED);
		__atomic_fetch_add(&bin->sample_bytes, bytes, __ATOMIC_RELAXED);
		slot = weiri_depot_get_slow(&bin->depot);
		/* The thread may have come to its state there. */
		cell = weiri_local_cell(weiri_local(), bin->depot.fast_offset);
	}
	weiri_cell_note(cell);
	return weiri_heap_take_due(bin, slot, bytes, align);
}

static void *
heap_alloc_from(
    struct weir_heap *heap, size_t index, size_t bytes, size_t align)
{
	struct weiri_heap_bin *bin = weiri_heap_bin(heap, index);

	if (WEIR_UNLIKELY(bin == NULL)) {
		bin = weiri_heap_bin_need(heap, index);
		if (bin == NULL)
			return weiri_heap_refuse(heap);
	}

	void *slot = NULL;

	/* By a size that has no entry in the quick table.  What comes from there
	 * counts twice at its end, which is a beginning then. */
	if (bytes > WEIRI_HEAP_QUICK_BYTES &&
	    WEIR_LIKELY(heap_pop(bin->depot.fast_offset, &slot)))
		return slot;
	return heap_take_slow(bin, bytes, align);
}

/* The size comes first, as it does in weir_alloc(): no register is moved. */
static WEIRI_NOINLINE void *
heap_alloc_slow(size_t bytes, struct weir_heap *heap)
{
	weiri_heap_need(heap);
	if (bytes > heap->class_max)
		return weiri_heap_run_alloc(heap, bytes, WEIR_HEAP_ALIGN, NULL);
	return heap_alloc_from(
	    heap, weiri_heap_class_of(heap, bytes), bytes, WEIR_HEAP_ALIGN);
}

WEIRI_INLINE void *
heap_alloc(struct weir_heap *heap, size_t bytes)
{
	if (WEIR_UNLIKELY(bytes > WEIRI_HEAP_QUICK_BYTES))
		return heap_alloc_slow(bytes, heap);

	void *slot = NULL;

	if (WEIR_UNLIKELY(
		!heap_pop(WEIRI_LOAD(&heap->quick[(bytes + 15) / 16]), &slot)))
		return heap_alloc_slow(bytes, heap);
	return slot;
}

static void *
heap_calloc(struct weir_heap *heap, size_t count, size_t bytes)
{
	size_t sum;
	bool zeroed = false;
	void *object;

	if (WEIR_UNLIKELY(__builtin_mul_overflow(count, bytes, &sum)) &&
	    WEIR_DETECTOR(heap_product))
		return weiri_heap_refuse(heap);
	weiri_heap_need(heap);
	if (sum > heap->class_max)
		object =
		    weiri_heap_run_alloc(heap, sum, WEIR_HEAP_ALIGN, &zeroed);
	else
		object = heap_alloc(heap, sum);
	if (object != NULL && !zeroed)
		memset(object, 0, sum);
	return object;
}

static void *
heap_aligned(struct weir_heap *heap, size_t align, size_t bytes)
{
	weiri_heap_need(heap);
	if (!weiri_is_pow2(align) && WEIR_DETECTOR(heap_bad_align))
		weiri_fault(&(struct weiri_fault_site){
		    .fault_class = WEIR_FAULT_BAD_ARGUMENT,
		    .pool_kind = "heap",
		    .pool_name = heap->pool.name,
		    .number = align,
		    .detail = "alignment %u is no power of two"});
	if (align <= WEIR_HEAP_ALIGN)
		return heap_alloc(heap, bytes);

	size_t least = weiri_max(bytes, align);

	if (least <= heap->class_max && align <= WEIRI_HEAP_SLOT_ALIGN_MAX)
		for (size_t i = weiri_heap_class_of(heap, least);
		     i < heap->class_count; i++)
			if (weiri_heap_slot_align(heap->class_bytes[i]) >=
			    align)
				return heap_alloc_from(heap, i, bytes, align);
	return weiri_heap_run_alloc(heap, bytes, align, NULL);
}

/* ---- free ---------------------------------------------------------------- */

static WEIRI_NOINLINE void
heap_free_slow(struct weir_heap *heap, void *object)
{
	if (object == NULL)
		return;

	struct weiri_span *span = weiri_span_of(object);
	struct weiri_heap_bin *bin = heap_find_slot(heap, span, object);

	if (WEIR_LIKELY(bin != NULL)) {
		/* First: from a depot without a cell anyone may take it. */
		if (heap->each)
			*(uint64_t *)object = heap_mark(heap, object);
		weiri_depot_put(&bin->depot, object);
		weiri_cell_note(
		    weiri_local_cell(weiri_local(), bin->depot.fast_offset));
		return;
	}

	struct weiri_heap_run *run = heap_find_run(heap, span, object);

	if (WEIR_LIKELY(run != NULL))
		weiri_heap_run_free(run);
	else if (!weiri_heap_free_guarded(heap, object, WEIRI_GUARD_FREE))
		weiri_heap_report(heap, object);
}

/* At level `each`, for an address in a slab of @heap with this tag. */
WEIRI_INLINE bool
heap_free_checked(
    struct weir_heap *heap, void *object, size_t tag, uint32_t offset)
{
	uint64_t mark = heap_mark(heap, object);

	if (WEIR_UNLIKELY(!weiri_heap_is_start(&weiri_heap_shape[tag], object)))
		return false;
	if (WEIR_UNLIKELY(*(const uint64_t *)object == mark))
		return false;
	if (WEIR_UNLIKELY(!heap_push(offset, object)))
		return false;
	/* Behind the push, so that what goes the slow way is as it was. */
	*(uint64_t *)object = mark;
	return true;
}

WEIRI_INLINE void
heap_free(struct weir_heap *heap, void *object)
{
	size_t tag = heap_near_tag(heap, object);
	uint32_t offset = WEIRI_LOAD(&heap->tag_offset[tag]);
	bool done;

	/* The bit is there for tags of this heap only. */
	if (WEIR_LIKELY(offset & WEIRI_HEAP_EACH))
		done = heap_free_checked(
		    heap, object, tag, offset - WEIRI_HEAP_EACH);
	else
		done = heap_push(offset, object);
	if (WEIR_UNLIKELY(!done))
		heap_free_slow(heap, object);
}

/* What heap_free_own() left. */
static WEIRI_NOINLINE void
heap_free_default(void *object)
{
	if (object != NULL)
		heap_free(&weiri_heap_default, object);
}

/* In the heap of the process, at level `each`, out of a slab of 64 KiB.  A size
 * that is known leads to @offset, which is to be that of the object's tag. */
WEIRI_INLINE bool
heap_free_own(void *object, bool sized, size_t offset)
{
	const struct weir_heap *heap = &weiri_heap_default;
	uintptr_t unit =
	    ((uintptr_t)object - heap->near_base) >> WEIRI_NEAR_SHIFT;
	uint64_t mark = heap_mark(heap, object);
	size_t tag;

	if (WEIR_UNLIKELY(unit >= WEIRI_NEAR_COUNT))
		return false;
	tag = WEIRI_LOAD(&weiri_near_tag[unit]);
	if (WEIR_UNLIKELY(
		!weiri_heap_is_short_start(&weiri_heap_own[tag], object)))
		return false;
	if (WEIR_UNLIKELY(*(const uint64_t *)object == mark))
		return false;
	if (sized && WEIR_UNLIKELY(tag * sizeof(uintptr_t *) != offset))
		return false;
	if (WEIR_UNLIKELY(
		!heap_push(sized ? offset : tag * sizeof(uintptr_t *), object)))
		return false;
	/* Behind the push, so that what goes the slow way is as it was. */
	*(uint64_t *)object = mark;
	return true;
}

static WEIRI_NOINLINE void
heap_free_sized_slow(void *object, size_t bytes, struct weir_heap *heap)
{
	if (object == NULL)
		return;

	const void *own = weiri_heap_stand_in(heap, object);
	struct weiri_span *span = weiri_span_of(own);
	struct weiri_heap_bin *bin = heap_find_slot(heap, span, own);
	struct weiri_heap_run *run = heap_find_run(heap, span, own);

	if (own == NULL)
		return;
	if ((bin != NULL ? !heap_bin_serves(bin, bytes)
			 : run != NULL && run->bytes != bytes) &&
	    WEIR_DETECTOR(heap_wrong_size))
		weiri_heap_report_size(heap, object, bytes);
	heap_free_slow(heap, object);
}

/* Where the heap does not check at the call, the size alone leads to the cell,
 * and the magazine's check will find one that was wrong. */
WEIRI_INLINE bool
heap_free_as(struct weir_heap *heap, void *object, uint32_t offset)
{
	if (!heap->each)
		return object != NULL && heap_push(offset, object);

	size_t tag = heap_near_tag(heap, object);

	return WEIRI_LOAD(&heap->tag_offset[tag]) ==
		   (offset | WEIRI_HEAP_EACH) &&
	       heap_free_checked(heap, object, tag, offset);
}

/* ---- realloc ------------------------------------------------------------- */

static void *
heap_move(struct weir_heap *heap, void *object, size_t old_bytes, size_t bytes)
{
	void *moved = heap_alloc(heap, bytes);

	if (moved == NULL)
		return NULL;
	memcpy(moved, object, weiri_min(old_bytes, bytes));
	heap_free(heap, object);
	return moved;
}

static void *
heap_realloc(struct weir_heap *heap, void *object, size_t bytes)
{
	if (object == NULL)
		return heap_alloc(heap, bytes);

	struct weiri_span *span = weiri_span_of(object);
	struct weiri_heap_bin *bin = heap_find_slot(heap, span, object);

	if (WEIR_LIKELY(bin != NULL)) {
		if (heap_bin_serves(bin, bytes))
			return object;
		return heap_move(heap, object, bin->depot.slot_bytes, bytes);
	}

	struct weiri_heap_run *run = heap_find_run(heap, span, object);
	void *moved;

	if (WEIR_UNLIKELY(run == NULL)) {
		if (weiri_heap_realloc_guarded(heap, object, bytes, &moved))
			return moved;
		weiri_heap_report(heap, object);
	}
	if (bytes > heap->class_max)
		return weiri_heap_run_resize(run, bytes);
	return heap_move(heap, object, run->span.bytes, bytes);
}

/* ---- the heap of the process --------------------------------------------- */

/* Where it straddles a line more, a pair of calls costs half a nanosecond. */
WEIRI_ALIGNED(WEIRI_CACHE_LINE)
void *
weir_alloc(size_t bytes)
{
	return heap_alloc(&weiri_heap_default, bytes);
}

void *
weir_alloc_class(unsigned index)
{
	struct weir_heap *heap = &weiri_heap_default;
	unsigned class = index & 0xff;

	if (WEIR_UNLIKELY(class >= WEIR_HEAP_CLASSES))
		return weiri_heap_refuse(heap);

	void *slot = NULL;

	if (WEIR_UNLIKELY(
		!heap_pop(WEIRI_LOAD(&heap->class_offset[class]), &slot)))
		return heap_alloc_slow(
		    index > 0xff ? index >> 8 : weir_heap_class_bytes(class),
		    heap);
	return slot;
}

void *
weir_calloc(size_t count, size_t bytes)
{
	return heap_calloc(&weiri_heap_default, count, bytes);
}

void *
weir_aligned(size_t align, size_t bytes)
{
	return heap_aligned(&weiri_heap_default, align, bytes);
}

void *
weir_realloc(void *object, size_t bytes)
{
	return heap_realloc(&weiri_heap_default, object, bytes);
}

WEIRI_ALIGNED(WEIRI_CACHE_LINE)
void
weir_free(void *object)
{
	if (WEIR_UNLIKELY(!heap_free_own(object, false, 0)))
		heap_free_default(object);
}

void
weir_free_sized(void *object, size_t bytes)
{
	struct weir_heap *heap = &weiri_heap_default;

	if (WEIR_LIKELY(bytes <= WEIRI_HEAP_QUICK_BYTES)) {
		size_t offset = WEIRI_LOAD(&heap->quick[(bytes + 15) / 16]);

		if (WEIR_LIKELY(heap_free_own(object, true, offset)))
			return;
		if (!heap->each && object != NULL && heap_push(offset, object))
			return;
	}
	heap_free_sized_slow(object, bytes, heap);
}

size_t
weir_usable_size(const void *object)
{
	if (object == NULL)
		return 0;

	struct weir_heap *heap = weir_heap_of(object);
	struct weiri_span *span = weiri_span_of(object);
	size_t guarded = weiri_guard_bytes(object);

	if (WEIR_UNLIKELY(guarded != 0))
		return guarded;
	if (heap == NULL)
		weiri_heap_report(&weiri_heap_default, object);

	const struct weiri_heap_bin *bin = heap_find_slot(heap, span, object);
	const struct weiri_heap_run *run = heap_find_run(heap, span, object);

	if (bin == NULL && run == NULL)
		weiri_heap_report(heap, object);
	return bin != NULL ? bin->depot.slot_bytes : run->span.bytes;
}

/* ---- heaps of one's own -------------------------------------------------- */

void *
weir_heap_alloc(struct weir_heap *heap, size_t bytes)
{
	return heap_alloc(heap, bytes);
}

void *
weir_heap_calloc(struct weir_heap *heap, size_t count, size_t bytes)
{
	return heap_calloc(heap, count, bytes);
}

void *
weir_heap_aligned(struct weir_heap *heap, size_t align, size_t bytes)
{
	return heap_aligned(heap, align, bytes);
}

void *
weir_heap_realloc(struct weir_heap *heap, void *object, size_t bytes)
{
	return heap_realloc(heap, object, bytes);
}

void
weir_heap_free(struct weir_heap *heap, void *object)
{
	heap_free(heap, object);
}

void
weir_heap_free_sized(struct weir_heap *heap, void *object, size_t bytes)
{
	if (WEIR_LIKELY(bytes <= WEIRI_HEAP_QUICK_BYTES) &&
	    heap_free_as(
		heap, object, WEIRI_LOAD(&heap->quick[(bytes + 15) / 16])))
		return;
	heap_free_sized_slow(object, bytes, heap);
}
