/* SPDX-License-Identifier: MIT */
/*
 * heap_run.c - what is larger than a size class: runs of whole pages.
 *
 * From 32 KiB on, rounding to pages of 4 KiB wastes an eighth at most, so a run
 * is a span of exactly the pages needed; the supply takes back the tail of the
 * block it was cut from.  A run changes its size where it lies when pages are to
 * go, or when those behind it are free.  Else a new one is made and the contents
 * are copied.  Moving their page tables with mremap() would be cheaper, but a
 * move onto a given address can stop halfway on Linux since 6.17, when it crosses
 * a border of two mappings, and leaves mappings behind that do not merge.
 *
 * After a run is freed its address belongs to nobody, which is what a second
 * free then looks like.  The last addresses are kept to call it by its name.
 *
 * Lock: heap->lock, a leaf, over the list and those addresses only.
 */
#include "pools/heap.h"

#include "base/bits.h"

#include <errno.h>
#include <string.h>

static void
run_raise(uint64_t *peak, uint64_t value)
{
	uint64_t seen = WEIRI_LOAD(peak);

	while (value > seen && !__atomic_compare_exchange_n(peak, &seen, value,
				   true, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
}

/* ---- birth and end ------------------------------------------------------- */

struct weiri_heap_run *
weiri_heap_run_of(struct weiri_span *span)
{
	if (span == NULL || span->kind != WEIRI_SPAN_HEAP)
		return NULL;
	return (struct weiri_heap_run *)span;
}

/* Counts a run in (sign 1) or out (-1), pages and requested bytes. */
static void
run_count(struct weir_heap *heap, const struct weiri_heap_run *run, bool in)
{
	uint64_t pages = run->span.bytes, asked = run->bytes, one = 1;

	if (!in) {
		pages = -pages;
		asked = -asked;
		one = UINT64_MAX;
	}
	__atomic_fetch_add(&heap->run_bytes, pages, __ATOMIC_RELAXED);
	__atomic_fetch_add(&heap->run_asked, asked, __ATOMIC_RELAXED);
	run_raise(&heap->run_peak,
	    __atomic_add_fetch(&heap->run_count, one, __ATOMIC_RELAXED));
}

/* Ends what a charge of @bytes began when heap->forks was @forks. */
static void
run_settle(struct weir_heap *heap, uint32_t forks, size_t bytes, bool keeps)
{
	bool counted = WEIRI_LOAD(&heap->forks) == forks;

	if (counted && !keeps)
		weiri_heap_uncharge(heap, bytes);
	else if (!counted && keeps)
		__atomic_fetch_add(
		    &heap->mapped_bytes, bytes, __ATOMIC_RELAXED);
	if (counted)
		weiri_heap_settle(heap);
}

static struct weiri_heap_run *
run_open(struct weir_heap *heap, size_t bytes, size_t align)
{
	size_t whole = weiri_round_up(weiri_max(bytes, 1), WEIRI_PAGE);
	uint32_t forks = WEIRI_LOAD(&heap->forks);
	struct weiri_heap_run *run;

	if (!weiri_heap_charge(heap, whole))
		return NULL;
	run = weiri_meta_need(sizeof(*run));
	if (run == NULL)
		goto undo_charge;
	run->span.kind = WEIRI_SPAN_HEAP;
	run->heap = heap;
	run->bytes = bytes;
	if (weiri_span_alloc(&run->span, whole, align) != 0)
		goto undo_record;
	weiri_mutex_lock(&heap->lock);
	weiri_list_append(&heap->runs, &run->span.link);
	run_count(heap, run, true);
	run_settle(heap, forks, whole, true);
	weiri_mutex_unlock(&heap->lock);
	return run;

undo_record:
	weiri_meta_free(run, sizeof(*run));
undo_charge:
	run_settle(heap, forks, whole, false);
	return NULL;
}

void *
weiri_heap_run_alloc(
    struct weir_heap *heap, size_t bytes, size_t align, bool *zeroed)
{
	struct weiri_heap_run *run = NULL;

	if (WEIR_UNLIKELY(weiri_guard_bare(&heap->guard)) &&
	    weiri_debug_refuses(&heap->guard, bytes))
		return weiri_heap_refuse(heap);
	run = bytes <= PTRDIFF_MAX
		  ? run_open(heap, bytes, weiri_max(align, WEIRI_PAGE))
		  : NULL;

	if (run == NULL)
		return weiri_heap_refuse(heap);
	__atomic_fetch_add(&heap->run_requests, 1, __ATOMIC_RELAXED);
	if (zeroed != NULL)
		*zeroed = run->span.zeroed;
	return weiri_heap_run_due(heap, run->span.base, bytes, align, zeroed);
}

/* Not in the list any more. */
static void
run_close(struct weiri_heap_run *run)
{
	size_t bytes = run->span.bytes;

	weiri_span_free(&run->span);
	weiri_heap_uncharge(run->heap, bytes);
	weiri_meta_free(run, sizeof(*run));
}

void
weiri_heap_run_free(struct weiri_heap_run *run)
{
	struct weir_heap *heap = run->heap;

	weiri_mutex_lock(&heap->lock);
	weiri_list_remove(&run->span.link);
	run_count(heap, run, false);
	heap->gone[heap->gone_next++ % WEIRI_HEAP_GONE] =
	    (uintptr_t)run->span.base;
	weiri_mutex_unlock(&heap->lock);
	run_close(run);
}

bool
weiri_heap_run_gone(struct weir_heap *heap, const void *address)
{
	bool gone = false;

	weiri_mutex_lock(&heap->lock);
	for (size_t i = 0; i < WEIRI_HEAP_GONE; i++)
		gone = gone ||
		       (heap->gone[i] == (uintptr_t)address && address != NULL);
	weiri_mutex_unlock(&heap->lock);
	return gone;
}

void
weiri_heap_run_free_all(struct weir_heap *heap)
{
	WEIRI_LIST_FOR_SAFE(node, &heap->runs)
	{
		weiri_list_remove(node);
		run_close(
		    WEIRI_CONTAINER_OF(node, struct weiri_heap_run, span.link));
	}
}

/* ---- another size -------------------------------------------------------- */

/* In its place; false if that cannot be. */
static bool
run_resize_here(struct weiri_heap_run *run, size_t bytes, size_t whole)
{
	struct weir_heap *heap = run->heap;
	size_t old = run->span.bytes;
	uint32_t forks = WEIRI_LOAD(&heap->forks);
	bool grows = whole > old;

	if (grows && !weiri_heap_charge(heap, whole - old))
		return false;

	bool done = whole == old || weiri_span_resize(&run->span, whole) == 0;

	/* In a child that came to be in a hook, the count saw the pages. */
	if (WEIRI_LOAD(&heap->forks) == forks) {
		if (grows && !done)
			weiri_heap_uncharge(heap, whole - old);
		else if (!grows && done)
			weiri_heap_uncharge(heap, old - whole);
		if (grows)
			weiri_heap_settle(heap);
		if (done)
			__atomic_fetch_add(
			    &heap->run_bytes, whole - old, __ATOMIC_RELAXED);
	}
	if (!done)
		return false;
	__atomic_fetch_add(
	    &heap->run_asked, bytes - run->bytes, __ATOMIC_RELAXED);
	run->bytes = bytes;
	return true;
}

static void *
run_move(struct weiri_heap_run *run, size_t bytes)
{
	struct weir_heap *heap = run->heap;
	struct weiri_heap_run *moved = run_open(heap, bytes, WEIRI_PAGE);

	if (moved == NULL)
		return NULL;
	memcpy(moved->span.base, run->span.base,
	    weiri_min(run->span.bytes, moved->span.bytes));

	void *base = moved->span.base;

	weiri_heap_run_free(run);
	return base;
}

void *
weiri_heap_run_resize(struct weiri_heap_run *run, size_t bytes)
{
	struct weir_heap *heap = run->heap;

	if (bytes > PTRDIFF_MAX)
		return weiri_heap_refuse(heap);

	size_t whole = weiri_round_up(bytes, WEIRI_PAGE);

	if (run_resize_here(run, bytes, whole))
		return run->span.base;

	void *moved = run_move(run, bytes);

	if (moved != NULL)
		return moved;
	/* What was trimmed for the move may be room enough here. */
	if (run_resize_here(run, bytes, whole))
		return run->span.base;
	return weiri_heap_refuse(heap);
}
