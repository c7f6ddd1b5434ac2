/* SPDX-License-Identifier: MIT */
/*
 * guarded.c - what a depot does for objects under guard.
 *
 * The depot hands out slots, and its owner decides which of them stand for an
 * object under guard.  What that takes of the depot is a way for requests to the
 * slow path: each one where nothing may stay with threads, else one now and then
 * by the countdown in the thread's word of requests (local.h).
 */
#include "base/bits.h"
#include "guard/guard.h"
#include "slab/cursor.h"
#include "slab/stock.h"

void
weiri_depot_lay_bare(struct weiri_depot *depot)
{
	struct weir_local *local;
	void *bad;

	if (depot->cell == WEIRI_CELL_NONE)
		return;
	/* A fork's child counts what threads that are known had in hands. */
	local = weiri_local_own();
	if (local == NULL ||
	    (local->cursor[depot->cell] == WEIRI_CURSOR_DUMMY &&
		WEIRI_LOAD(&local->spare[depot->cell]) == 0))
		return;
	bad = weiri_depot_adopt(depot, local);
	if (bad != NULL)
		weiri_stock_report(depot, bad);
}

void
weiri_depot_move_requests(struct weiri_depot *depot, uint64_t *requests)
{
	uint64_t count = weiri_requests_count(*requests);

	weiri_mutex_lock(&depot->lock);
	depot->requests_gone += count;
	WEIRI_STORE(requests, *requests - count);
	weiri_mutex_unlock(&depot->lock);
}

uint32_t
weiri_depot_wind(struct weiri_depot *depot)
{
	struct weir_local *local = weiri_local();

	if (weiri_guard_bare(depot->guard)) {
		/* The countdown may be what led here. */
		weiri_depot_lay_bare(depot);
		return 1;
	}
	if (depot->cell == WEIRI_CELL_NONE || local == &weiri_local_none ||
	    depot->wait.config.policy == WEIRI_WAIT_TURN)
		return 1;
	if (!depot->countdown)
		return (uint32_t)weiri_min(
		    WEIRI_LOAD(&depot->rounds), depot->rounds_max);

	uint64_t *requests = &local->requests[depot->cell];

	if (weiri_requests_count(*requests) >= WEIRI_REQUESTS_FULL)
		weiri_depot_move_requests(depot, requests);
	/* At an edge it goes on as it was; 0 is where it ends and begins. */
	if (*requests >> WEIRI_COUNTDOWN_SHIFT != 0)
		return 0;
	WEIRI_STORE(requests,
	    weiri_requests_wind(*requests, weiri_guard_skip(depot->guard)));
	return weiri_guard_mode(depot->guard) == WEIR_GUARD_OFF
		   ? 0
		   : weiri_guard_stride(depot->guard);
}

void *
weiri_stock_unguard(struct weiri_depot *depot, void *address)
{
	struct weiri_slab *slab;
	void *slot = NULL;

	if (depot->guard != NULL && weiri_guard_covers(address))
		slot = weiri_guard_end_quietly(depot->guard, address);
	if (slot == NULL)
		return NULL;
	slab = (struct weiri_slab *)weiri_span_of(slot);
	if (slab->state != NULL)
		slab->state[weiri_slab_slot(slab, slot)] &=
		    (uint8_t)~WEIRI_STATE_SHADOW;
	return slot;
}
