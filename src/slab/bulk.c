/* SPDX-License-Identifier: MIT */
/*
 * bulk.c - many slots a call, into a caller's array.
 *
 *   - what the thread's magazine has, in one copy
 *   - up to a magazine more: a refill, and another copy
 *   - more than that: the depot's magazines, copied out whole, and resting
 *     slots, without passing through the thread's magazine
 *
 * There is no such way back.  Slots that are put go through the thread's
 * magazine, as many at once as it has room for: a full one changes owner as it
 * is, so that nothing would be saved, and the newest slots stay with the thread.
 *
 * The figures come out as those of as many single calls: each slot is a
 * request, a get that nothing was left for is one more and a failure, and each
 * visit to the lock is a miss.
 *
 * Until the call returns, nobody but it knows what its array holds: the thread
 * says how many they are, for the child of a fork (local.h).
 */
#include "base/bits.h"
#include "guard/guard.h"
#include "slab/cursor.h"
#include "slab/stock.h"

#include <string.h>

/* Slots of the thread's own magazine. */
static size_t
bulk_pop(struct weiri_depot *depot, uintptr_t **cell, size_t count, void **into)
{
	uintptr_t *cursor = WEIRI_LOAD(cell);
	size_t taken = weiri_min(count, weiri_cursor_count(cursor));

	if (taken == 0)
		return 0;
	cursor -= taken;
	memcpy(into, cursor + 1, taken * sizeof(*into));
	WEIRI_STORE(cell, cursor);
	if (depot->counted)
		WEIRI_BUMP(weiri_cell_requests(cell), taken);
	return taken;
}

/* The first @count slots of a magazine that is nobody's and holds @has; what is
 * left goes to the slabs. */
static void
bulk_unpack(struct weiri_depot *depot, struct weiri_magazine *magazine,
    size_t has, void **into, size_t count)
{
	uintptr_t *first = weiri_magazine_bottom(magazine) + 1;
	void *bad;

	memcpy(into, first, count * sizeof(*into));
	weiri_mutex_lock(&depot->lock);
	bad = weiri_stock_rest_all(depot, first + count, first + has - 1);
	weiri_magazine_push(&depot->empty_list, magazine);
	depot->empty_count++;
	weiri_stock_update(depot);
	weiri_mutex_unlock(&depot->lock);
	if (bad != NULL)
		weiri_stock_report(depot, bad);
}

/* From the stock, past the thread's magazine. */
static size_t
bulk_supply(struct weiri_depot *depot, size_t count, void **into)
{
	uintptr_t words[WEIRI_ROUNDS_MAX];
	struct weiri_magazine *magazine;
	size_t has = 0, taken = 0;

	count = weiri_min(count, WEIRI_ROUNDS_MAX);
	switch (weiri_stock_supply(depot, words, count, &has, &magazine)) {
	case WEIRI_STOCK_NOTHING:
		break;
	case WEIRI_STOCK_SLOTS:
		taken = has;
		memcpy(into, words, taken * sizeof(*into));
		break;
	case WEIRI_STOCK_MAGAZINE:
		taken = weiri_min(has, count);
		bulk_unpack(depot, magazine, has, into, taken);
		break;
	}
	__atomic_fetch_add(&depot->given, taken, __ATOMIC_RELAXED);
	return taken;
}

/* A thread with a spare loads that first, as for a single get. */
static bool
bulk_wants_stock(const struct weiri_depot *depot,
    const struct weir_local *local, size_t count)
{
	/* A get that may not pass the queue. */
	if (depot->wait.config.policy == WEIRI_WAIT_TURN)
		return false;
	/* Each for itself: it may be one that is to fail. */
	if (WEIR_UNLIKELY(weiri_guard_bare(depot->guard)))
		return false;
	if (local == NULL)
		return true;
	return count >= depot->rounds_max &&
	       weiri_spare_count(WEIRI_LOAD(&local->spare[depot->cell])) == 0;
}

/* What comes next into the caller's hands, beside the @got slots there. */
static void
bulk_carry(struct weir_local *local, size_t got, size_t count)
{
	if (local != NULL)
		weiri_local_carry(
		    local, got + weiri_min(count - got, WEIRI_ROUNDS_MAX));
}

/* More than the magazine had; what it holds again after each step comes too. */
static size_t
bulk_get(struct weiri_depot *depot, struct weir_local *local, size_t got,
    size_t count, void **into)
{
	while (got < count) {
		size_t before = got;

		bulk_carry(local, got, count);
		if (bulk_wants_stock(depot, local, count - got)) {
			got += bulk_supply(depot, count - got, into + got);
			weiri_depot_note_bulk(depot, local, got - before);
		} else {
			/* Never waits: with a part in hand it might wait for
			 * another that does the same. */
			void *slot = weiri_depot_get_within(depot, 0);

			if (slot == NULL)
				break;
			into[got++] = slot;
		}
		bulk_carry(local, got, count);
		/* Without supply, too: an OOM hook may have freed into it. */
		if (local != NULL)
			got += bulk_pop(depot, &local->cursor[depot->cell],
			    count - got, into + got);
		if (got == before) {
			weiri_depot_note_refusal(depot, local);
			break;
		}
	}
	return got;
}

size_t
weiri_depot_get_bulk(struct weiri_depot *depot, struct weir_local *local,
    size_t count, void **into)
{
	size_t got = 0;

	if (local != NULL) {
		bulk_carry(local, got, count);
		got = bulk_pop(depot, &local->cursor[depot->cell], count, into);
	}
	return bulk_get(depot, local, got, count, into);
}
