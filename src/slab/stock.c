/* SPDX-License-Identifier: MIT */
/*
 * stock.c - what a depot holds for all threads: full and empty magazines, slots
 * resting in slabs, and the ways to more.
 *
 *   supply:  full magazine of a shard (shard.c), of the list -> resting slots
 *            -> new slots of a slab -> a new slab -> (at the limit or without
 *            memory) another thread's spare
 *
 * Resting slots come before new ones, so that memory is touched only when no
 * slot rests anywhere.  A new slab is opened outside the lock, and closed again
 * if another thread's turned up meanwhile.
 *
 * Invariants, and the lock: see depot.c.  Functions marked "locked" want the
 * depot's lock held; the others take it.
 */
#include "slab/stock.h"

#include "base/bits.h"
#include "guard/fault.h"
#include "slab/shard.h"

/*
 * `outside` counts everything threads hold, so only the loaded magazines make
 * the figure too high: one a thread.
 */
void
weiri_stock_note_peak(struct weiri_depot *depot)
{
	int64_t out = (int64_t)WEIRI_LOAD(&depot->outside) -
		      WEIRI_LOAD(&depot->spare_slots);
	uint64_t peak = WEIRI_LOAD(&depot->peak);

	while (out > (int64_t)peak &&
	       !__atomic_compare_exchange_n(&depot->peak, &peak, (uint64_t)out,
		   true, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
}

void
weiri_stock_update(struct weiri_depot *depot)
{
	uint64_t inside = depot->resting + depot->full_slots;

	WEIRI_STORE(&depot->inside, inside);
	WEIRI_STORE(&depot->outside, depot->carved - inside);
}

/* ---- slots at rest ------------------------------------------------------ */

/*
 * Puts a slab where it belongs.  Slabs at rest stay together at the end of
 * their list: the last to be taken from, and found without a search.
 */
static void
stock_settle(struct weiri_depot *depot, struct weiri_slab *slab)
{
	bool idle = slab->free_count == slab->carved;

	weiri_list_remove(&slab->link);
	if (slab->idle && !idle) {
		depot->idle_count--;
		weiri_decay_note(&depot->idle_decay, depot->idle_count);
	}
	depot->idle_count += idle && !slab->idle;
	slab->idle = idle;
	if (idle)
		weiri_list_append(&depot->partial, &slab->link);
	else
		weiri_list_push(
		    weiri_slab_has_slots(slab) ? &depot->partial : &depot->full,
		    &slab->link);
}

void
weiri_stock_list_slab(struct weiri_depot *depot, struct weiri_slab *slab)
{
	depot->slab_count++;
	depot->carved += slab->carved;
	depot->resting += slab->free_count;
	stock_settle(depot, slab);
	weiri_stock_update(depot);
}

struct weiri_slab *
weiri_stock_unlist_slab(struct weiri_depot *depot)
{
	struct weiri_slab *slab =
	    WEIRI_CONTAINER_OF(depot->partial.prev, struct weiri_slab, link);

	if (depot->idle_count == 0)
		return NULL;
	WEIR_ASSERT(slab->idle);
	weiri_list_remove(&slab->link);
	depot->idle_count--;
	depot->slab_count--;
	depot->carved -= slab->carved;
	depot->resting -= slab->free_count;
	WEIRI_STORE(&depot->voided,
	    depot->voided - (uint64_t)__builtin_popcount(slab->voided));
	weiri_stock_update(depot);
	return slab;
}

bool
weiri_stock_rest(struct weiri_depot *depot, void *slot)
{
	struct weiri_slab *slab = (struct weiri_slab *)weiri_span_of(slot);
	size_t index;

	if (WEIR_UNLIKELY(slab == NULL)) {
		slot = weiri_stock_unguard(depot, slot);
		slab = (struct weiri_slab *)weiri_span_of(slot);
	}
	if ((slab == NULL || slab->span.tag != depot->index) &&
	    WEIR_DETECTOR(rest_foreign))
		return false;
	index = weiri_slab_index(slab, slot);
	if (index == SIZE_MAX && WEIR_DETECTOR(rest_interior))
		return false;

	if (depot->secret != 0 && weiri_slot_written(depot, slot) &&
	    WEIR_DETECTOR(rest_written))
		return false;

	bool was_full = !weiri_slab_has_slots(slab);

	if (!weiri_slab_rest(slab, index) && WEIR_DETECTOR(rest_freed_twice))
		return false;
	depot->resting++;
	if (was_full || slab->free_count == slab->carved)
		stock_settle(depot, slab);
	return true;
}

void *
weiri_stock_rest_all(
    struct weiri_depot *depot, const uintptr_t *first, const uintptr_t *last)
{
	void *bad = NULL;

	for (const uintptr_t *word = first; word <= last; word++)
		if (!weiri_stock_rest(depot, (void *)*word))
			bad = (void *)*word;
	return bad;
}

struct weiri_magazine *
weiri_stock_pop_full(struct weiri_depot *depot)
{
	struct weiri_magazine *full = weiri_magazine_pop(&depot->full_list);

	if (full != NULL) {
		depot->full_count--;
		WEIRI_STORE(&depot->full_slots,
		    depot->full_slots - weiri_magazine_rounds(full));
	}
	return full;
}

void *
weiri_stock_unpack(struct weiri_depot *depot, struct weiri_magazine *full)
{
	void *bad = weiri_stock_unmark(depot, full);

	if (WEIR_UNLIKELY(bad != NULL))
		return bad;
	return weiri_stock_rest_all(
	    depot, weiri_magazine_bottom(full) + 1, weiri_magazine_top(full));
}

/* Up to @count slots, all resting before or all (*carved) awaiting slot_init. */
static size_t
stock_take(
    struct weiri_depot *depot, uintptr_t *into, size_t count, size_t *carved)
{
	size_t taken = 0;

	*carved = 0;
	WEIRI_LIST_FOR_SAFE(node, &depot->partial)
	{
		struct weiri_slab *slab =
		    WEIRI_CONTAINER_OF(node, struct weiri_slab, link);
		/* New memory only when no slot rests anywhere. */
		size_t carve_max =
		    taken > 0 || depot->resting > 0
			? 0
			: WEIRI_LOAD(&depot->limit) - depot->carved;
		size_t got = weiri_slab_take(
		    slab, into + taken, count - taken, carve_max, carved);

		depot->carved += *carved;
		depot->resting -= got - *carved;
		taken += got;
		if (got > 0 && (slab->idle || !weiri_slab_has_slots(slab)))
			stock_settle(depot, slab);
		if (taken == count || *carved > 0)
			break;
	}
	weiri_stock_update(depot);
	return taken;
}

/* ---- growth and theft --------------------------------------------------- */

/*
 * Whoever had the same need may have listed
 * a slab, or returned slots, meanwhile; then this one would only lie idle.
 */
bool
weiri_stock_grow(struct weiri_depot *depot)
{
	struct weiri_slab *slab = weiri_slab_open(depot);
	bool needed;

	if (slab == NULL)
		return false;
	weiri_mutex_lock(&depot->lock);
	needed = depot->full_list == NULL && weiri_list_empty(&depot->partial);
	if (needed)
		weiri_stock_list_slab(depot, slab);
	weiri_mutex_unlock(&depot->lock);
	if (!needed)
		weiri_slab_close(slab);
	if (depot->hooks != NULL && depot->hooks->slab_settled != NULL)
		depot->hooks->slab_settled(depot->owner);
	return true;
}

/* A depot that has none spares the others the walk.  In one that waits nobody
 * counts the pockets. */
static bool
stock_has_spares(const struct weiri_depot *depot)
{
	return depot->cell != WEIRI_CELL_NONE &&
	       (WEIRI_LOAD(&depot->spare_slots) > 0 ||
		   depot->wait.config.policy == WEIRI_WAIT_TURN);
}

/* A thread's spare with its *count slots, or NULL; empty ones it meets are
 * left. */
static struct weiri_magazine *
stock_steal(struct weiri_depot *depot, size_t *count)
{
	struct weiri_magazine *full = NULL;

	if (!stock_has_spares(depot))
		return NULL;
	weiri_local_lock();
	WEIRI_LOCAL_FOR(local)
	{
		uintptr_t *spare = &local->spare[depot->cell];
		uintptr_t seen = WEIRI_LOAD(spare);

		/* Pairs with the owner's exchanges in depot_swap_in() and
		 * room_retire_full(). */
		if (weiri_spare_count(seen) != 0 &&
		    __atomic_compare_exchange_n(spare, &seen, 0, false,
			__ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
			full = weiri_spare_magazine(seen);
			*count = weiri_spare_count(seen);
			weiri_stock_spares(depot, -(int64_t)*count);
			break;
		}
	}
	weiri_local_unlock();
	return full;
}

/* ---- supply ------------------------------------------------------------- */

bool
weiri_stock_may_grow(struct weiri_depot *depot)
{
	bool may_grow;

	weiri_mutex_lock(&depot->lock);
	may_grow = depot->carved < WEIRI_LOAD(&depot->limit);
	weiri_mutex_unlock(&depot->lock);
	return may_grow;
}

/* What other pools left is no mark of this one.  Memory that is fresh reads as
 * zero, and is not touched before its slot is used. */
static void
stock_clear_marks(const uintptr_t *words, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (!weiri_span_of((void *)words[i])->zeroed)
			*(uint64_t *)words[i] = 0;
}

void
weiri_stock_init_slots(
    struct weiri_depot *depot, const uintptr_t *words, size_t count)
{
	if (depot->secret != 0)
		stock_clear_marks(words, count);
	if (depot->hooks == NULL || depot->hooks->slot_init == NULL)
		return;
	weiri_wait_enter();
	for (size_t i = 0; i < count; i++) {
		void *slot = (void *)words[i];

		depot->hooks->slot_init(
		    (struct weiri_slab *)weiri_span_of(slot), slot,
		    depot->owner);
	}
	weiri_wait_leave();
}

/* A full magazine leaves the stock. */
static enum weiri_stock_find
stock_hand_out(
    struct weiri_depot *depot, struct weiri_magazine *full, size_t *taken)
{
	void *bad = weiri_stock_unmark_for_use(depot, full);

	if (WEIR_UNLIKELY(bad != NULL))
		weiri_stock_report(depot, bad);
	*taken = weiri_magazine_rounds(full);
	return WEIRI_STOCK_MAGAZINE;
}

/* One look into the stock; @hand, if any, for a full magazine. */
static enum weiri_stock_find
stock_look(struct weiri_depot *depot, struct weiri_magazine *hand,
    uintptr_t *into, size_t count, size_t *taken, struct weiri_magazine **full)
{
	size_t carved = 0;

	*full = weiri_shard_get(depot, hand);
	if (*full != NULL)
		return stock_hand_out(depot, *full, taken);
	weiri_stock_lock(depot);
	*full = weiri_stock_pop_full(depot);
	if (*full != NULL) {
		weiri_decay_note(&depot->full_decay, depot->full_count);
		weiri_stock_update(depot);
		if (hand != NULL)
			weiri_stock_push_empty(depot, hand);
	} else {
		*taken = stock_take(depot, into, count, &carved);
	}
	if (hand != NULL && (*full != NULL || *taken > 0))
		weiri_stock_count_miss(depot);
	weiri_mutex_unlock(&depot->lock);
	if (*full != NULL)
		return stock_hand_out(depot, *full, taken);
	if (*taken == 0)
		return WEIRI_STOCK_NOTHING;
	weiri_stock_init_slots(depot, into, carved);
	return WEIRI_STOCK_SLOTS;
}

/* A magazine that was a thread's spare, for @hand if there is one. */
static enum weiri_stock_find
stock_look_abroad(struct weiri_depot *depot, struct weiri_magazine *hand,
    size_t *taken, struct weiri_magazine **full)
{
	*full = stock_steal(depot, taken);
	if (*full == NULL)
		return WEIRI_STOCK_NOTHING;
	if (hand != NULL) {
		weiri_mutex_lock(&depot->lock);
		weiri_stock_push_empty(depot, hand);
		weiri_stock_count_miss(depot);
		weiri_mutex_unlock(&depot->lock);
	}
	return WEIRI_STOCK_MAGAZINE;
}

static enum weiri_stock_find
stock_supply(struct weiri_depot *depot, struct weiri_magazine *hand,
    uintptr_t *into, size_t count, size_t *taken, struct weiri_magazine **full)
{
	enum weiri_stock_find found;

	for (;;) {
		found = stock_look(depot, hand, into, count, taken, full);
		if (found != WEIRI_STOCK_NOTHING)
			break;
		if (weiri_stock_may_grow(depot) && weiri_stock_grow(depot))
			continue;
		found = stock_look_abroad(depot, hand, taken, full);
		if (found != WEIRI_STOCK_NOTHING)
			break;
		/* An OOM hook, a trim or a thread's end may have put slots
		 * here since the look that found none. */
		found = stock_look(depot, hand, into, count, taken, full);
		break;
	}
	if (found != WEIRI_STOCK_NOTHING)
		weiri_stock_note_peak(depot);
	return found;
}

enum weiri_stock_find
weiri_stock_supply(struct weiri_depot *depot, uintptr_t *into, size_t count,
    size_t *taken, struct weiri_magazine **full)
{
	return stock_supply(depot, NULL, into, count, taken, full);
}

enum weiri_stock_find
weiri_stock_exchange(struct weiri_depot *depot, struct weiri_magazine *hand,
    size_t *taken, struct weiri_magazine **full)
{
	size_t count = weiri_magazine_rounds(hand);

	/* A wide one by half: far from either edge, see room.c. */
	if (count > depot->rounds_max)
		count /= 2;
	return stock_supply(
	    depot, hand, weiri_magazine_bottom(hand) + 1, count, taken, full);
}

/* ---- giving back -------------------------------------------------------- */

/* Locked: a thread's loaded magazine empties into the slabs. */
static void *
stock_unload(struct weiri_depot *depot, uintptr_t *cursor)
{
	struct weiri_magazine *magazine = weiri_cursor_magazine(cursor);
	void *bad;

	weiri_stock_take_back(depot, magazine, weiri_cursor_count(cursor));
	weiri_stock_loose(depot, weiri_magazine_rounds(magazine));
	bad = weiri_stock_rest_all(
	    depot, weiri_magazine_bottom(magazine) + 1, cursor);
	weiri_magazine_push(&depot->empty_list, magazine);
	depot->empty_count++;
	return bad;
}

/* Locked: a spare that was exchanged out of its word goes into its list; where
 * its slots are to be verified, they rest. */
static void *
stock_list_spare(struct weiri_depot *depot, uintptr_t spare)
{
	struct weiri_magazine *magazine = weiri_spare_magazine(spare);
	unsigned count = weiri_spare_count(spare);
	void *bad = NULL;

	if (spare == 0)
		return NULL;
	if (count != 0) {
		uintptr_t *bottom = weiri_magazine_bottom(magazine);

		weiri_stock_spares(depot, -(int64_t)count);
		if (!depot->verify &&
		    bottom + count == weiri_magazine_top(magazine)) {
			if (depot->secret != 0)
				bad = weiri_stock_find_written(depot, magazine);
			if (WEIR_LIKELY(bad == NULL))
				weiri_stock_list_full(depot, magazine);
			return bad;
		}
		bad = weiri_stock_rest_all(depot, bottom + 1, bottom + count);
	}
	weiri_magazine_push(&depot->empty_list, magazine);
	depot->empty_count++;
	return bad;
}

void *
weiri_depot_adopt(struct weiri_depot *depot, struct weir_local *local)
{
	if (depot->cell == WEIRI_CELL_NONE)
		return NULL;

	uintptr_t **cell = &local->cursor[depot->cell];
	void *bad, *other = NULL;

	/* The lock first: a fork must not find a magazine in our hands. */
	weiri_mutex_lock(&depot->lock);
	bad = stock_list_spare(
	    depot, __atomic_exchange_n(
		       &local->spare[depot->cell], 0, __ATOMIC_ACQ_REL));
	if (*cell != WEIRI_CURSOR_DUMMY) {
		uintptr_t *cursor = *cell;

		WEIRI_STORE(cell, WEIRI_CURSOR_DUMMY);
		other = stock_unload(depot, cursor);
	}
	depot->requests_gone +=
	    weiri_requests_count(local->requests[depot->cell]);
	WEIRI_STORE(&local->requests[depot->cell], 0);
	weiri_pages_note_idle();
	weiri_stock_update(depot);
	weiri_mutex_unlock(&depot->lock);
	return bad != NULL ? bad : other;
}

void
weiri_stock_recount_spares(struct weiri_depot *depot)
{
	int64_t spare = 0, loaded = 0;

	/* Who waited is in another process now. */
	weiri_wait_forget(depot);
	if (depot->cell == WEIRI_CELL_NONE)
		return;
	WEIRI_LOCAL_FOR(local)
	{
		spare += weiri_spare_count(local->spare[depot->cell]);
		loaded += weiri_magazine_rounds(
		    weiri_cursor_magazine(local->cursor[depot->cell]));
	}
	spare += (int64_t)weiri_shards_slots(depot);
	if (depot->wait.config.policy != WEIRI_WAIT_TURN)
		WEIRI_STORE(&depot->spare_slots, spare);
	WEIRI_STORE(&depot->withheld, loaded);
}

void *
weiri_stock_gather_spares(struct weiri_depot *depot, bool all)
{
	void *bad = NULL;

	if (weiri_shards_of(depot) != NULL) {
		weiri_mutex_lock(&depot->lock);
		weiri_shards_gather(depot, all);
		weiri_mutex_unlock(&depot->lock);
	}
	if (!stock_has_spares(depot))
		return NULL;
	weiri_local_lock();
	weiri_mutex_lock(&depot->lock);
	WEIRI_LOCAL_FOR(local)
	{
		uintptr_t *spare = &local->spare[depot->cell];
		uintptr_t seen = WEIRI_LOAD(spare);
		bool take = all || (seen & WEIRI_SPARE_AGED) != 0;

		if (weiri_spare_count(seen) != 0 &&
		    __atomic_compare_exchange_n(spare, &seen,
			take ? 0 : seen | WEIRI_SPARE_AGED, false,
			__ATOMIC_ACQ_REL, __ATOMIC_RELAXED) &&
		    take) {
			void *slot = stock_list_spare(depot, seen);

			bad = slot != NULL ? slot : bad;
		}
	}
	weiri_stock_update(depot);
	weiri_mutex_unlock(&depot->lock);
	weiri_local_unlock();
	return bad;
}

/* Locked: unlists the slabs with every slot at rest. */
static void
stock_collect_idle(struct weiri_depot *depot, struct weiri_list *idle)
{
	struct weiri_slab *slab;

	while ((slab = weiri_stock_unlist_slab(depot)) != NULL)
		weiri_list_push(idle, &slab->link);
	weiri_decay_note(&depot->idle_decay, 0);
}

size_t
weiri_stock_close_slabs(struct weiri_list *slabs)
{
	size_t bytes = 0;

	WEIRI_LIST_FOR_SAFE(node, slabs)
	{
		struct weiri_slab *slab =
		    WEIRI_CONTAINER_OF(node, struct weiri_slab, link);

		bytes += slab->span.bytes;
		weiri_list_remove(node);
		weiri_slab_close(slab);
	}
	return bytes;
}

void
weiri_stock_free_magazines(struct weiri_magazine *list)
{
	struct weiri_magazine *magazine;

	while ((magazine = weiri_magazine_pop(&list)) != NULL)
		weiri_stock_free_magazine(magazine);
}

/* Locked: every full magazine empties into the slabs. */
static void *
stock_empty_all(struct weiri_depot *depot)
{
	struct weiri_magazine *magazine;
	void *bad = NULL;

	while ((magazine = weiri_stock_pop_full(depot)) != NULL) {
		void *slot = weiri_stock_unpack(depot, magazine);

		if (slot != NULL)
			bad = slot;
		weiri_magazine_push(&depot->empty_list, magazine);
	}
	weiri_decay_note(&depot->full_decay, 0);
	return bad;
}

size_t
weiri_depot_trim(struct weiri_depot *depot)
{
	struct weiri_list idle = WEIRI_LIST_INITIALIZER(idle);
	struct weiri_magazine *empties;
	void *bad = NULL, *other;

	/* This thread's loaded magazine is its own to empty; others' are not. */
	if (weiri_local_tls != &weiri_local_none)
		bad = weiri_depot_adopt(depot, weiri_local_tls);
	other = weiri_stock_gather_spares(depot, true);
	bad = bad != NULL ? bad : other;

	weiri_mutex_lock(&depot->lock);
	other = stock_empty_all(depot);
	stock_collect_idle(depot, &idle);
	empties = depot->empty_list;
	depot->empty_list = NULL;
	depot->empty_count = 0;
	weiri_mutex_unlock(&depot->lock);

	weiri_stock_free_magazines(empties);
	if (bad != NULL || other != NULL)
		weiri_stock_report(depot, bad != NULL ? bad : other);

	size_t bytes = weiri_stock_close_slabs(&idle);

	/* There is room again for who found none a moment ago. */
	if (depot->wait.config.policy == WEIRI_WAIT_TURN)
		weiri_wait_serve(depot);
	return bytes;
}
