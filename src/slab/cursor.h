/* SPDX-License-Identifier: MIT */
/*
 * cursor.h - a thread's way into a depot: get and put without a lock.
 *
 * One word of state, one branch.  The cell's address is put in a register
 * first: a cursor reached as [register] forwards from store to load at once,
 * reached through an indexed %fs operand it costs nanoseconds more.
 */
#ifndef WEIRI_CURSOR_H
#define WEIRI_CURSOR_H

#include "slab/depot.h"

WEIRI_INLINE uintptr_t **
weiri_local_cell(struct weir_local *local, size_t offset)
{
	return (uintptr_t **)(void *)((char *)local + offset);
}

/* The top slot of @cell, or NULL at the edge. */
WEIRI_INLINE void *
weiri_cell_pop(uintptr_t **cell)
{
	uintptr_t *cursor = WEIRI_LOAD(cell);
	uintptr_t word = *cursor;

	if (WEIR_UNLIKELY(word & WEIRI_MAGAZINE_TAG))
		return NULL;
	WEIRI_STORE(cell, cursor - 1);
	return (void *)word;
}

/* False at the edge. */
WEIRI_INLINE bool
weiri_cell_push(uintptr_t **cell, void *slot)
{
	uintptr_t *cursor = WEIRI_LOAD(cell);

	if (WEIR_UNLIKELY(weiri_cursor_full(cursor)))
		return false;
	*++cursor = (uintptr_t)slot;
	/* Pairs with fork(): a child that sees the cursor sees the slot. */
	__atomic_store_n(cell, cursor, __ATOMIC_RELEASE);
	return true;
}

/* What the cell counts for its depot. */
WEIRI_INLINE uint64_t *
weiri_cell_requests(uintptr_t **cell)
{
	return (uint64_t *)(void *)((char *)cell + WEIR_ABI_REQUESTS_OFFSET);
}

/* A guess at the word at the cell's cursor, where its owner keeps one. */
WEIRI_INLINE uintptr_t *
weiri_cell_newest(uintptr_t **cell)
{
	return (uintptr_t *)(void *)((char *)cell +
				     offsetof(struct weir_local, newest));
}

/* Makes it good, after calls that move the cursor without.  The state of threads
 * that have none is everybody's, and never written. */
WEIRI_INLINE void
weiri_cell_note(uintptr_t **cell)
{
	uintptr_t *cursor = WEIRI_LOAD(cell);

	if (cursor != WEIRI_CURSOR_DUMMY)
		*weiri_cell_newest(cell) = *cursor;
}

/* One slot, or NULL (limit reached, or no memory).  No lock may be held. */
WEIRI_INLINE void *
weiri_depot_get(struct weiri_depot *depot)
{
	void *slot =
	    weiri_cell_pop(weiri_local_cell(weiri_local(), depot->fast_offset));

	if (WEIR_UNLIKELY(slot == NULL))
		return weiri_depot_get_slow(depot);
	return slot;
}

/* Gives a slot back, on any thread, also after its exit hook ran. */
WEIRI_INLINE void
weiri_depot_put(struct weiri_depot *depot, void *slot)
{
	uintptr_t **cell = weiri_local_cell(weiri_local(), depot->fast_offset);

	if (WEIR_UNLIKELY(!weiri_cell_push(cell, slot)))
		weiri_depot_put_slow(depot, slot);
}

#endif /* WEIRI_CURSOR_H */
