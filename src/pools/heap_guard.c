/* SPDX-License-Identifier: MIT */
/*
 * heap_guard.c - objects of a heap that are under guard.
 *
 * As in a cache, a slot of the class stands for the object, or a run of pages,
 * which nothing touches meanwhile.  What the guard keeps is the size that was
 * asked for, so that the first byte behind it is behind the object: a slot has
 * up to an eighth more.
 *
 * A free finds such an object because its address is in no slab, and a request
 * comes here by the countdown (slab/local.h), at the end of a magazine, or each
 * time in a heap where every object is under guard.  In a heap that checks in
 * batches, a free with a size puts an object into a magazine without a look at
 * it, and the next request takes it as it is; there it has the size of the slot.
 */
#include "guard/guard.h"
#include "pools/heap.h"

#include <string.h>

const char weiri_heap_kind[] = "heap";

/* @stand_in is what the heap knows the object by. */
static void *
guard_object(struct weir_heap *heap, void *stand_in, size_t bytes, size_t align)
{
	void *object;

	if (align > WEIRI_PAGE)
		return stand_in;
	/* 0 is served as 1. */
	object = weiri_guard_new(
	    &heap->guard, bytes > 0 ? bytes : 1, align, false, stand_in);
	return object != NULL ? object : stand_in;
}

void *
weiri_heap_take_due(
    struct weiri_heap_bin *bin, void *slot, size_t bytes, size_t align)
{
	struct weir_heap *heap = bin->heap;
	uint32_t stride = weiri_depot_wind(&bin->depot);

	if (slot == NULL)
		return NULL;
	/* From a magazine, as a sized free left it: still the same object. */
	if (WEIR_UNLIKELY(weiri_guard_covers(slot)))
		return slot;
	*(uint64_t *)slot = 0; /* no mark: in use */
	if (weiri_guard_mode(&heap->guard) == WEIR_GUARD_OFF || stride == 0 ||
	    !weiri_guard_due(&heap->guard, stride))
		return slot;
	if (!heap->each && !heap->born_bare)
		bytes = bin->depot.slot_bytes;
	return guard_object(heap, slot, bytes, align);
}

void *
weiri_heap_run_due(
    struct weir_heap *heap, void *run, size_t bytes, size_t align, bool *zeroed)
{
	void *object;

	if (run == NULL || !weiri_guard_due(&heap->guard, 1))
		return run;
	object = guard_object(heap, run, bytes, align);
	if (object != run && zeroed != NULL)
		*zeroed = false;
	return object;
}

/* The heap's own again. */
static void
guard_put(struct weir_heap *heap, void *stand_in)
{
	struct weiri_heap_run *run;
	struct weiri_span *span = weiri_span_of(stand_in);
	struct weiri_heap_bin *bin = weiri_heap_bin_of(span);

	if (bin != NULL) {
		if (heap->each)
			weiri_heap_set_mark(heap, stand_in);
		weiri_depot_put(&bin->depot, stand_in);
		return;
	}
	run = weiri_heap_run_of(span);
	WEIR_ASSERT(run != NULL);
	weiri_heap_run_free(run);
}

bool
weiri_heap_free_guarded(
    struct weir_heap *heap, void *object, enum weiri_guard_how how)
{
	bool foreign = false;
	void *stand_in;

	if (!weiri_guard_covers(object))
		return false;
	weiri_heap_need(heap); /* for its name, and that it is live */
	stand_in = weiri_guard_claim(&heap->guard, object, &foreign);
	if (foreign)
		return false;
	if (stand_in != NULL) {
		weiri_guard_end(object, how);
		guard_put(heap, stand_in);
	}
	return true;
}

const void *
weiri_heap_stand_in(struct weir_heap *heap, const void *object)
{
	bool foreign = false;
	const void *stand_in;

	if (!weiri_guard_covers(object))
		return object;
	stand_in = weiri_guard_shadow(&heap->guard, object, &foreign);
	return foreign ? object : stand_in;
}

bool
weiri_heap_realloc_guarded(
    struct weir_heap *heap, void *object, size_t bytes, void **out)
{
	const void *stand_in = weiri_heap_stand_in(heap, object);
	void *moved;

	if (stand_in == object)
		return false;
	*out = NULL;
	if (stand_in == NULL)
		return true;
	moved = weir_heap_alloc(heap, bytes);
	if (moved == NULL)
		return true;
	size_t old_bytes = weiri_guard_bytes(object);

	memcpy(moved, object, old_bytes < bytes ? old_bytes : bytes);
	(void)weiri_heap_free_guarded(heap, object, WEIRI_GUARD_REALLOC);
	*out = moved;
	return true;
}

struct weir_heap *
weiri_heap_of_guarded(const void *object)
{
	const struct weiri_guard_pool *pool = weiri_guard_pool_of(object);

	if (pool == NULL || pool->kind != weiri_heap_kind)
		return NULL;
	/* The pool is const for who only asks; the heap is not. */
	return (struct weir_heap *)((uintptr_t)pool -
				    offsetof(struct weir_heap, guard));
}
