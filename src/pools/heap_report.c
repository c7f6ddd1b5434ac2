/* SPDX-License-Identifier: MIT */
/*
 * heap_report.c - what is wrong with a pointer that is no object of a heap.
 *
 * The calls know only that it is none: what else lies at the address is asked of
 * the page map, once nothing is left to be fast.
 */
#include "pools/heap.h"

#include "guard/fault.h"
#include "pools/region.h"

static WEIRI_COLD WEIRI_NORETURN void
heap_fault(const struct weir_heap *heap, enum weir_fault_class fault_class,
    const void *object, const char *other, const char *detail)
{
	weiri_fault(&(struct weiri_fault_site){.fault_class = fault_class,
	    .pool_kind = "heap",
	    .pool_name = heap->pool.name,
	    .address = object,
	    .other = other,
	    .detail = detail});
}

/* A pointer into a slab: of another pool, of another heap, or of this one. */
static WEIRI_COLD WEIRI_NORETURN void
heap_report_slab(const struct weir_heap *heap, const struct weiri_slab *slab,
    const void *object)
{
	const struct weiri_heap_bin *bin = weiri_heap_bin_of(&slab->span);

	if (weiri_region_has_depot(slab->depot) &&
	    WEIR_DETECTOR(heap_region_slab))
		heap_fault(heap, WEIR_FAULT_WRONG_POOL, object,
		    slab->depot->name,
		    "%p belongs to \"%s\", and ends with its region");
	if ((bin == NULL || bin->heap != heap) &&
	    WEIR_DETECTOR(heap_other_slab))
		heap_fault(heap, WEIR_FAULT_WRONG_POOL, object,
		    slab->depot->name, "%p belongs to \"%s\"");
	if ((uintptr_t)object % WEIR_HEAP_ALIGN != 0 &&
	    WEIR_DETECTOR(heap_misaligned))
		heap_fault(heap, WEIR_FAULT_MISALIGNED_POINTER, object, NULL,
		    "%p is not aligned as its objects are");
	if (weiri_slab_index(slab, object) == SIZE_MAX &&
	    WEIR_DETECTOR(heap_interior))
		heap_fault(heap, WEIR_FAULT_INTERIOR_POINTER, object, NULL,
		    "%p is not the start of an object");
	heap_fault(heap, WEIR_FAULT_DOUBLE_FREE, object, NULL,
	    "object %p is free already");
}

void
weiri_heap_report(struct weir_heap *heap, const void *object)
{
	struct weiri_span *span = weiri_span_of(object);
	const struct weiri_heap_run *run = weiri_heap_run_of(span);

	weiri_heap_need(heap); /* for its name */
	if (span == NULL && weiri_heap_run_gone(heap, object) &&
	    WEIR_DETECTOR(heap_run_gone))
		heap_fault(heap, WEIR_FAULT_DOUBLE_FREE, object, NULL,
		    "object %p is free already");
	if (span == NULL && WEIR_DETECTOR(heap_foreign))
		heap_fault(heap, WEIR_FAULT_FOREIGN_POINTER, object, NULL,
		    "%p is not memory of any pool");
	/* Reports do not return, which is not seen across files.
	 * NOLINTNEXTLINE(clang-analyzer-core.NullDereference) */
	if (span->kind == WEIRI_SPAN_SLAB)
		heap_report_slab(heap, (const struct weiri_slab *)span, object);
	if (run == NULL && WEIR_DETECTOR(heap_other_kind))
		heap_fault(heap, WEIR_FAULT_WRONG_POOL, object, NULL,
		    "%p belongs to a region or a buffer, and ends with it");
	/* NOLINTNEXTLINE(clang-analyzer-core.NullDereference) */
	if (run->heap != heap && WEIR_DETECTOR(heap_other_run))
		heap_fault(heap, WEIR_FAULT_WRONG_POOL, object,
		    run->heap->pool.name, "%p belongs to \"%s\"");
	if ((uintptr_t)object % WEIR_HEAP_ALIGN != 0 &&
	    WEIR_DETECTOR(heap_run_misaligned))
		heap_fault(heap, WEIR_FAULT_MISALIGNED_POINTER, object, NULL,
		    "%p is not aligned as its objects are");
	heap_fault(heap, WEIR_FAULT_INTERIOR_POINTER, object, NULL,
	    "%p is not the start of an object");
}

void
weiri_heap_report_size(
    const struct weir_heap *heap, const void *object, size_t bytes)
{
	weiri_fault(
	    &(struct weiri_fault_site){.fault_class = WEIR_FAULT_WRONG_SIZE,
		.pool_kind = "heap",
		.pool_name = heap->pool.name,
		.address = object,
		.number = bytes,
		.detail = "object %p was not taken with a size of %u"});
}
