/* SPDX-License-Identifier: MIT */
/*
 * heap_limit.c - what a heap maps, and its limit.
 *
 *     charge --(is there room?)--> slab or run made --> settle
 *        |                              failed --> uncharge, settle
 *        +--no: wait for those under way, trim, wait--> refused
 *
 * Bytes are charged before the memory is taken, so that mapped_bytes is within
 * the limit at any moment.  So between charge and settle they may count for
 * something that will not be: a slab that another thread made needless, a run
 * that gets no pages, a growth in place that cannot be.  And slabs that a trim
 * has in hand still count.  A request refused because of these would be refused
 * for nothing; it waits until they are settled, or for a bounded time: whoever
 * is under way may be in a hook of the program.
 *
 * A trim that brought nothing is not repeated before some pool got slots back: a
 * program that lives at its limit must not walk all classes for every refusal.
 *
 * Invariants:
 *
 *   M1  mapped_bytes <= limit_bytes.
 *   M2  under_way is the number of threads between charge and settle or within
 *       a trim; 0 in heaps without a limit, where nobody asks.
 *
 * In the child of a fork nobody is under way but the caller, and what other
 * threads had charged is nobody's: all is counted afresh from what is listed,
 * and runs that were about to change their size are as their descriptor says.
 * The caller may itself be between charge and settle, having forked in a hook of
 * the program; it sees by heap->forks that its charge is not counted any more.
 */
#include "pools/heap.h"

#define LIMIT_WAIT_NS UINT64_C(2000000)
#define LIMIT_LOOK_NS UINT64_C(20000)

static bool
limit_try(struct weir_heap *heap, uint64_t bytes)
{
	uint64_t old = WEIRI_LOAD(&heap->mapped_bytes);

	do {
		if (old > heap->limit_bytes || bytes > heap->limit_bytes - old)
			return false;
	} while (!__atomic_compare_exchange_n(&heap->mapped_bytes, &old,
	    old + bytes, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
	return true;
}

static bool
limit_is_set(const struct weir_heap *heap)
{
	return heap->limit_bytes != UINT64_MAX;
}

void
weiri_heap_begin(struct weir_heap *heap)
{
	if (limit_is_set(heap))
		__atomic_fetch_add(&heap->under_way, 1, __ATOMIC_ACQ_REL);
}

void
weiri_heap_settle(struct weir_heap *heap)
{
	/* Pairs with limit_wait(): who sees this sees what came of it. */
	if (limit_is_set(heap))
		__atomic_fetch_sub(&heap->under_way, 1, __ATOMIC_ACQ_REL);
}

/* Until nobody is under way, at most LIMIT_WAIT_NS. */
static void
limit_wait(struct weir_heap *heap)
{
	uint64_t end = 0;

	while (__atomic_load_n(&heap->under_way, __ATOMIC_ACQUIRE) > 0) {
		uint64_t now = weiri_os_now_ns();

		if (end == 0)
			end = now + LIMIT_WAIT_NS;
		if (now >= end)
			return;
		weiri_os_sleep_ns(LIMIT_LOOK_NS);
	}
}

/* Once more, counted as under way only if it succeeds or while it tries. */
static bool
limit_retry(struct weir_heap *heap, uint64_t bytes)
{
	limit_wait(heap);
	weiri_heap_begin(heap);
	if (limit_try(heap, bytes))
		return true;
	weiri_heap_settle(heap);
	return false;
}

static WEIRI_COLD bool
limit_insist(struct weir_heap *heap, uint64_t bytes)
{
	if (bytes > heap->limit_bytes)
		return false;
	if (limit_retry(heap, bytes))
		return true;

	uint64_t idle = WEIRI_LOAD(&weiri_pages_idle);

	if (WEIRI_LOAD(&heap->trim_idle) == idle)
		return false;
	if (weir_heap_trim(heap) == 0)
		WEIRI_STORE(&heap->trim_idle, idle);
	return limit_retry(heap, bytes);
}

bool
weiri_heap_charge(struct weir_heap *heap, size_t bytes)
{
	weiri_heap_begin(heap);
	if (WEIR_LIKELY(limit_try(heap, bytes)))
		return true;
	weiri_heap_settle(heap);
	return limit_insist(heap, bytes);
}

void
weiri_heap_uncharge(struct weir_heap *heap, size_t bytes)
{
	__atomic_fetch_sub(&heap->mapped_bytes, bytes, __ATOMIC_RELAXED);
}

void *
weiri_heap_refuse(struct weir_heap *heap)
{
	__atomic_fetch_add(&heap->refused, 1, __ATOMIC_RELAXED);
	return NULL;
}

void
weiri_heap_recount(struct weir_heap *heap)
{
	uint64_t count = 0, bytes = 0, asked = 0, slabs = 0;

	WEIRI_LIST_FOR(node, &heap->runs)
	{
		const struct weiri_heap_run *run =
		    WEIRI_CONTAINER_OF(node, struct weiri_heap_run, span.link);

		weiri_span_mend(&run->span);
		count++;
		bytes += run->span.bytes;
		asked += run->bytes;
	}
	WEIRI_HEAP_FOR_BIN(bin, heap)
	{
		slabs += bin->depot.slab_count * bin->depot.slab_bytes;
	}
	WEIRI_STORE(&heap->run_count, count);
	WEIRI_STORE(&heap->run_bytes, bytes);
	WEIRI_STORE(&heap->run_asked, asked);
	WEIRI_STORE(&heap->mapped_bytes, bytes + slabs);
	WEIRI_STORE(&heap->trim_idle, UINT64_MAX);
	WEIRI_STORE(&heap->under_way, 0);
	WEIRI_BUMP(&heap->forks, 1);
}
