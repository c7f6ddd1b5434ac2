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
 * That the mark was erased is seen when the slot comes to the depot or leaves it
 * in a magazine (slab/verify.c), off the way of calls.
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

#include "pages/near.h"

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

struct weiri_heap_bin *
weiri_heap_find_slot(
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

struct weiri_heap_run *
weiri_heap_find_run(
    const struct weir_heap *heap, struct weiri_span *span, const void *object)
{
	struct weiri_heap_run *run = weiri_heap_run_of(span);

	if (run == NULL || run->heap != heap)
		return NULL;
	if (run->span.base != object && WEIR_DETECTOR(heap_run_interior))
		return NULL;
	return run;
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

/* The bin of a class, made at its first request; or the request is refused. */
static struct weiri_heap_bin *
heap_find_bin(struct weir_heap *heap, size_t index)
{
	struct weiri_heap_bin *bin = weiri_heap_bin(heap, index);

	if (WEIR_UNLIKELY(bin == NULL)) {
		bin = weiri_heap_bin_need(heap, index);
		if (bin == NULL)
			weiri_heap_refuse(heap);
	}
	return bin;
}

void *
weiri_heap_alloc_from(
    struct weir_heap *heap, size_t index, size_t bytes, size_t align)
{
	struct weiri_heap_bin *bin = heap_find_bin(heap, index);
	void *slot = NULL;

	if (WEIR_UNLIKELY(bin == NULL))
		return NULL;
	if (WEIR_LIKELY(heap_pop(bin->depot.fast_offset, &slot)))
		return slot;
	return heap_take_slow(bin, bytes, align);
}

/*
 * A request that a table has led to its cell in vain: that it was counted there
 * may have ended the countdown.  To pop and count it again would begin another,
 * and what was due would not be done.  The size comes first, as it does in
 * weir_alloc(): no register is moved.
 */
static WEIRI_NOINLINE void *
heap_alloc_due(size_t bytes, struct weir_heap *heap)
{
	struct weiri_heap_bin *bin;

	weiri_heap_need(heap);
	if (bytes > heap->class_max)
		return weiri_heap_run_alloc(heap, bytes, WEIR_HEAP_ALIGN, NULL);
	bin = heap_find_bin(heap, weiri_heap_class_of(heap, bytes));
	return WEIR_LIKELY(bin != NULL)
		   ? heap_take_slow(bin, bytes, WEIR_HEAP_ALIGN)
		   : NULL;
}

/* A request beyond the table by size. */
static WEIRI_NOINLINE void *
heap_alloc_large(size_t bytes, struct weir_heap *heap)
{
	weiri_heap_need(heap);
	if (bytes > heap->class_max)
		return weiri_heap_run_alloc(heap, bytes, WEIR_HEAP_ALIGN, NULL);
	return weiri_heap_alloc_from(
	    heap, weiri_heap_class_of(heap, bytes), bytes, WEIR_HEAP_ALIGN);
}

WEIRI_INLINE void *
heap_alloc(struct weir_heap *heap, size_t bytes)
{
	if (WEIR_UNLIKELY(bytes > WEIRI_HEAP_QUICK_BYTES))
		return heap_alloc_large(bytes, heap);

	void *slot = NULL;

	if (WEIR_UNLIKELY(
		!heap_pop(WEIRI_LOAD(&heap->quick[(bytes + 15) / 16]), &slot)))
		return heap_alloc_due(bytes, heap);
	return slot;
}

/* ---- free ---------------------------------------------------------------- */

static WEIRI_NOINLINE void
heap_free_slow(struct weir_heap *heap, void *object)
{
	if (object == NULL)
		return;

	struct weiri_span *span = weiri_span_of(object);
	struct weiri_heap_bin *bin = weiri_heap_find_slot(heap, span, object);

	if (WEIR_LIKELY(bin != NULL)) {
		/* First: from a depot without a cell anyone may take it. */
		if (heap->each)
			*(uint64_t *)object = heap_mark(heap, object);
		weiri_depot_put(&bin->depot, object);
		weiri_cell_note(
		    weiri_local_cell(weiri_local(), bin->depot.fast_offset));
		return;
	}

	struct weiri_heap_run *run = weiri_heap_find_run(heap, span, object);

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

/* At level `each`, for an address where a slot starts of the heap of the
 * process. */
WEIRI_INLINE bool
heap_free_start(void *object, size_t offset)
{
	uint64_t mark = heap_mark(&weiri_heap_default, object);

	if (WEIR_UNLIKELY(*(const uint64_t *)object == mark))
		return false;
	if (WEIR_UNLIKELY(!heap_push(offset, object)))
		return false;
	/* Behind the push, so that what goes the slow way is as it was. */
	*(uint64_t *)object = mark;
	return true;
}

/* In the heap of the process.  A size that is known leads to @offset, which is to
 * be that of the object's tag. */
WEIRI_INLINE bool
heap_free_own(void *object, bool sized, size_t offset)
{
	uintptr_t unit = ((uintptr_t)object - weiri_heap_default.near_base) >>
			 WEIRI_NEAR_SHIFT;
	const struct weiri_heap_starts *starts;
	size_t tag;

	if (WEIR_UNLIKELY(unit >= WEIRI_NEAR_COUNT))
		return false;
	tag = WEIRI_LOAD(&weiri_near_tag[unit]);
	starts = &weiri_heap_own[tag];
	if (WEIR_LIKELY(weiri_heap_is_short_start(starts, object))) {
		if (sized && WEIR_UNLIKELY(tag * sizeof(uintptr_t *) != offset))
			return false;
		return heap_free_start(
		    object, sized ? offset : tag * sizeof(uintptr_t *));
	}
	/* At level `batch` the slab alone tells the cell, unless the size does.
	 * Loaded anew, or compilers keep it ready for this. */
	return !sized && WEIRI_LOAD(&starts->step) == WEIRI_HEAP_STEP_ANY &&
	       heap_push(tag * sizeof(uintptr_t *), object);
}

static WEIRI_NOINLINE void
heap_free_sized_slow(void *object, size_t bytes, struct weir_heap *heap)
{
	if (object == NULL)
		return;

	const void *own = weiri_heap_stand_in(heap, object);
	struct weiri_span *span = weiri_span_of(own);
	struct weiri_heap_bin *bin = weiri_heap_find_slot(heap, span, own);
	struct weiri_heap_run *run = weiri_heap_find_run(heap, span, own);

	if (own == NULL)
		return;
	if ((bin != NULL ? !weiri_heap_bin_serves(bin, bytes)
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
		return heap_alloc_due(
		    index > 0xff ? index >> 8 : weir_heap_class_bytes(class),
		    heap);
	return slot;
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

/* ---- heaps of one's own -------------------------------------------------- */

void *
weir_heap_alloc(struct weir_heap *heap, size_t bytes)
{
	return heap_alloc(heap, bytes);
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
