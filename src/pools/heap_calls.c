/* SPDX-License-Identifier: MIT */
/*
 * heap_calls.c - memory of any size: the calls that are made less often.
 *
 * They take and free by the calls of heap.c.  An object that grows stays where it
 * is while the class it lies in serves the size, or the pages behind it are free;
 * else it is copied.
 */
#include "pools/heap.h"

#include "base/bits.h"
#include "guard/fault.h"

#include <string.h>

/* ---- zeroed, aligned ------------------------------------------------------ */

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
		object = weir_heap_alloc(heap, sum);
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
		return weir_heap_alloc(heap, bytes);

	size_t least = weiri_max(bytes, align);

	if (least <= heap->class_max && align <= WEIRI_HEAP_SLOT_ALIGN_MAX)
		for (size_t i = weiri_heap_class_of(heap, least);
		     i < heap->class_count; i++)
			if (weiri_heap_slot_align(heap->class_bytes[i]) >=
			    align)
				return weiri_heap_alloc_from(
				    heap, i, bytes, align);
	return weiri_heap_run_alloc(heap, bytes, align, NULL);
}

/* ---- realloc ------------------------------------------------------------- */

static void *
heap_move(struct weir_heap *heap, void *object, size_t old_bytes, size_t bytes)
{
	void *moved = weir_heap_alloc(heap, bytes);

	if (moved == NULL)
		return NULL;
	memcpy(moved, object, weiri_min(old_bytes, bytes));
	weir_heap_free(heap, object);
	return moved;
}

static void *
heap_realloc(struct weir_heap *heap, void *object, size_t bytes)
{
	if (object == NULL)
		return weir_heap_alloc(heap, bytes);

	struct weiri_span *span = weiri_span_of(object);
	struct weiri_heap_bin *bin = weiri_heap_find_slot(heap, span, object);

	if (WEIR_LIKELY(bin != NULL)) {
		if (weiri_heap_bin_serves(bin, bytes))
			return object;
		return heap_move(heap, object, bin->depot.slot_bytes, bytes);
	}

	struct weiri_heap_run *run = weiri_heap_find_run(heap, span, object);
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

/* ---- for programs ------------------------------------------------------- */

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

	const struct weiri_heap_bin *bin =
	    weiri_heap_find_slot(heap, span, object);
	const struct weiri_heap_run *run =
	    weiri_heap_find_run(heap, span, object);

	if (bin == NULL && run == NULL)
		weiri_heap_report(heap, object);
	return bin != NULL ? bin->depot.slot_bytes : run->span.bytes;
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
