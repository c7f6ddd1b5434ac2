/* SPDX-License-Identifier: MIT */
/*
 * heap_check.c - reading a heap: its figures, and the walk over its invariants
 * (H1-H4 of heap.c).
 *
 * A heap's figures are the sums over its depots and its counters of runs.  What
 * a program asked for inside a slot leaves no trace there; one request in a
 * magazine, the one that finds it empty, is noted by size, and stands for the
 * others.
 */
#include "pools/heap.h"

#include "base/bits.h"
#include "config/config.h"

#include <errno.h>

/* ---- figures ---------------------------------------------------------------- */

static void
heap_add_stats(const struct weiri_heap_bin *bin,
    const struct weiri_depot_stats *depot, struct weir_pool_stats *out)
{
	out->total += depot->total;
	out->in_use += depot->in_use;
	out->cached += depot->cached;
	out->in_use_peak += depot->peak;
	out->requests += depot->requests;
	out->hits += depot->hits;
	out->misses += depot->misses;
	out->failures += depot->failures;
	weiri_depot_add_bytes(&bin->depot, depot, bin->depot.slot_bytes, out);
}

/* The sum of the classes' peaks and of the runs' bounds the heap's. */
void
weiri_heap_fill_stats(struct weiri_pool *pool, struct weir_pool_stats *out)
{
	struct weir_heap *heap =
	    WEIRI_CONTAINER_OF(pool, struct weir_heap, pool);
	uint64_t runs = WEIRI_LOAD(&heap->run_count);
	uint64_t refused = WEIRI_LOAD(&heap->refused);
	uint64_t served = WEIRI_LOAD(&heap->run_requests);

	WEIRI_HEAP_FOR_BIN(bin, heap)
	{
		struct weiri_depot_stats depot;

		weiri_depot_stats(&bin->depot, &depot);
		heap_add_stats(bin, &depot, out);
	}
	out->exact = WEIR_EXACT_COUNTS;
	out->limit = UINT64_MAX;
	out->available = out->total - out->in_use;
	out->total += runs;
	out->in_use += runs;
	out->in_use_peak += WEIRI_LOAD(&heap->run_peak);
	out->requests += served + refused;
	out->misses += served + refused;
	out->failures += refused;
	out->bytes_mapped += WEIRI_LOAD(&heap->run_bytes);
	out->bytes_in_use += WEIRI_LOAD(&heap->run_bytes);
}

int
weir_heap_stats(struct weir_heap *heap, struct weir_pool_stats *out)
{
	if (out->size != sizeof(*out))
		return -EINVAL;
	weiri_heap_need(heap);
	weiri_pool_stats(&heap->pool, out);
	return 0;
}

static void
heap_class_row(struct weiri_heap_bin *bin, struct weir_heap_class_stats *row)
{
	struct weiri_depot_stats depot;
	uint64_t slot_bytes = bin->depot.slot_bytes;
	uint64_t count = WEIRI_LOAD(&bin->sample_count);
	uint64_t bytes = WEIRI_LOAD(&bin->sample_bytes);

	weiri_depot_stats(&bin->depot, &depot);
	*row = (struct weir_heap_class_stats){
	    .object_bytes = slot_bytes,
	    .total = depot.total,
	    .in_use = depot.in_use,
	    .cached = depot.cached,
	    .bytes_mapped = depot.bytes_mapped,
	    .bytes_in_use = depot.in_use * slot_bytes,
	    .bytes_requested = depot.in_use * slot_bytes,
	};
	if (count > 0)
		row->bytes_requested = weiri_min(row->bytes_in_use,
		    (uint64_t)((double)depot.in_use * (double)bytes /
			       (double)count));
}

size_t
weir_heap_classes(
    struct weir_heap *heap, struct weir_heap_class_stats *out, size_t capacity)
{
	size_t rows = 0;

	weiri_heap_need(heap);
	WEIRI_HEAP_FOR_BIN(bin, heap)
	{
		if (rows < capacity)
			heap_class_row(bin, &out[rows]);
		rows++;
	}
	if (rows < capacity) {
		uint64_t runs = WEIRI_LOAD(&heap->run_count);

		out[rows] = (struct weir_heap_class_stats){
		    .total = runs,
		    .in_use = runs,
		    .bytes_mapped = WEIRI_LOAD(&heap->run_bytes),
		    .bytes_in_use = WEIRI_LOAD(&heap->run_bytes),
		    .bytes_requested = WEIRI_LOAD(&heap->run_asked),
		};
	}
	return rows + 1;
}

/* ---- the walk ---------------------------------------------------------------- */

/* H3. */
static const char *
heap_check_runs(const struct weir_heap *heap)
{
	uint64_t count = 0, bytes = 0, asked = 0;

	WEIRI_LIST_FOR(node, &heap->runs)
	{
		const struct weiri_heap_run *run =
		    WEIRI_CONTAINER_OF(node, struct weiri_heap_run, span.link);

		if (run->heap != heap)
			return "H3: a run of another heap";
		for (size_t at = 0; at < run->span.bytes; at += WEIRI_PAGE)
			if (weiri_span_of(run->span.base + at) != &run->span)
				return "H3: page map";
		count++;
		bytes += run->span.bytes;
		asked += run->bytes;
	}
	if (count != heap->run_count || bytes != heap->run_bytes ||
	    asked != heap->run_asked)
		return "H3: counters of runs";
	return NULL;
}

/* What free knows of the slabs with the bin's tag. */
static bool
heap_check_starts(
    const struct weir_heap *heap, const struct weiri_heap_bin *bin)
{
	struct weiri_heap_starts starts =
	    weiri_heap_starts_in(heap, bin->depot.slot_bytes);
	const struct weiri_heap_shape *shape =
	    &weiri_heap_shape[bin->depot.index];
	const struct weiri_heap_starts *own = &weiri_heap_own[bin->depot.index];

	return shape->step == bin->shape.step &&
	       shape->below == bin->shape.below &&
	       shape->slab_mask == bin->shape.slab_mask &&
	       own->step == starts.step && own->below == starts.below;
}

/* H4, for one bin. */
static const char *
heap_check_tables(
    const struct weir_heap *heap, const struct weiri_heap_bin *bin)
{
	uint32_t offset = bin->depot.fast_offset;
	size_t slot_bytes = bin->depot.slot_bytes;

	if (bin->depot.cell == WEIRI_CELL_NONE)
		return NULL;
	for (size_t i = 0; i < WEIRI_HEAP_QUICK; i++) {
		size_t bytes = i * WEIR_HEAP_ALIGN;
		bool ours = bytes <= slot_bytes &&
			    (bytes > bin->below || bin->below == 0);

		if ((heap->quick[i] == offset) != ours)
			return "H4: a size leads to another class";
	}
	if ((heap->tag_offset[bin->depot.index] & ~WEIRI_HEAP_EACH) != offset)
		return "H4: a tag leads to another class";
	if (!heap_check_starts(heap, bin))
		return "H4: a tag has the slots of another class";
	return NULL;
}

static const char *
heap_check_all(struct weir_heap *heap)
{
	uint64_t mapped = heap->run_bytes;
	const char *why = NULL;

	WEIRI_HEAP_FOR_BIN(bin, heap)
	{
		if (!weiri_depot_check(&bin->depot, &why))
			return why;
		why = heap_check_tables(heap, bin);
		if (why != NULL)
			return why;
		mapped += bin->depot.slab_count * bin->depot.slab_bytes;
	}
	if (mapped != heap->mapped_bytes || mapped > heap->limit_bytes)
		return "H2: mapped_bytes";
	return heap_check_runs(heap);
}

bool
weir_heap_check(struct weir_heap *heap)
{
	weiri_heap_need(heap);

	const char *why = heap_check_all(heap);

	if (why == NULL)
		return true;
	weiri_message(WEIR_MESSAGE_ERROR, why);
	return false;
}
