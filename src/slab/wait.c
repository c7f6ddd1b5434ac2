/* SPDX-License-Identifier: MIT */
/*
 * wait.c - depots whose gets wait for their turn, and those that tell when
 * there is room again.
 *
 * A slot in the loaded magazine of an idle thread is out of everybody's reach,
 * so a depot that waits has no loaded magazines.  Each thread's one magazine,
 * its pocket, lies in the atomic word that holds the spare in other depots:
 *
 *      get, put:   exchange the pocket for 0, take or add a slot, exchange it
 *                  back - then look whether somebody waits
 *      waiter:     queue up, and only then search the stock and all pockets
 *
 * Both sides write first and read then, with a full fence between: a put that
 * does not see the waiter has its slot where the waiter's search finds it.
 * models/wait.pml lets spin try every interleaving, with store buffers, and
 * shows what goes wrong without the fence, without the second look, and with
 * the search before the queue.
 *
 * Order: while somebody waits, no get takes a slot past the queue, and every
 * slot that turns up - given back, found in a pocket, or come with new memory -
 * is handed to the oldest waiter, whoever found it.  One slot wakes one thread,
 * and that thread owns the slot when it wakes.
 *
 * Invariants:
 *
 *   W1  Under the lock, attention is the number of waiters in the list.
 *   W2  A waiter leaves the list under the lock, with a slot or at the end of
 *       its time, never both.
 *   W3  In a quiet depot with a waiter no slot rests, lies in a magazine, or
 *       could come into being.
 *   W4  Between a waiter's arrival and its turn no more are served than waited
 *       when it came (weiri_depot_check()).
 *
 * Notification: the failing get sets attention, fences, and looks at the figures
 * itself; a put into a magazine fences and looks at attention.  Who finds the
 * use low and attention set resets it, and calls; so one call follows a failure.
 * In a hook that is put off until the outermost hook of the thread ends.
 *
 * Memory: a get that was refused pages may be served without a put, once there
 * are some.  Who gives back what was charged to a quota, or raises its limit,
 * looks for those it refused; for the others a pass of maintain.c does.
 */
#include "slab/wait.h"

#include "base/bits.h"
#include "guard/guard.h"
#include "slab/stock.h"

#include <string.h>

__thread unsigned weiri_wait_depth;
__thread bool weiri_wait_due;

/* Of this thread's hook: depots, by index, to notify, and if all with a quota
 * are to be looked at. */
static __thread struct wait_later {
	uint32_t first, last; /* 0: none */
	bool memory;
	bool under_way; /* catching up */
} wait_later __attribute__((tls_model("initial-exec")));

/* On the stack of its thread. */
struct wait_turn {
	struct weiri_list link;
	struct weiri_depot *depot;
	struct wait_turn *outer; /* of the same thread, in a hook of it */
	void *slot;
	uint64_t handoffs; /* of the depot, when it queued up */
	uint32_t ahead;    /* who waited then */
	uint32_t given;    /* 1: slot is set; what the thread sleeps on */
};

/* The turns of this thread, innermost first. */
static __thread struct wait_turn *wait_own
    __attribute__((tls_model("initial-exec")));

void
weiri_wait_init(
    struct weiri_depot *depot, const struct weiri_wait_config *config)
{
	if (config != NULL)
		depot->wait.config = *config;
	weiri_list_init(&depot->wait.waiters);
}

void
weiri_wait_forget(struct weiri_depot *depot)
{
	uint32_t waiting = 0;

	if (depot->wait.config.policy != WEIRI_WAIT_TURN)
		return;
	weiri_list_init(&depot->wait.waiters);
	/* Forked in a hook that ran while it searched for a slot. */
	for (struct wait_turn *turn = wait_own; turn != NULL;
	     turn = turn->outer) {
		if (turn->depot != depot || turn->given != 0)
			continue;
		weiri_list_push(&depot->wait.waiters, &turn->link);
		waiting++;
	}
	WEIRI_STORE(&depot->wait.attention, waiting);
}

/* ThreadSanitizer of gcc does not know fences; it reports what may race by the
 * orders of the accesses, which are complete without this one. */
static void
wait_fence(void)
{
#if defined(__SANITIZE_THREAD__)
	static uint32_t word;

	(void)__atomic_fetch_add(&word, 0, __ATOMIC_SEQ_CST);
#else
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
#endif
}

static bool
wait_attention(const struct weiri_depot *depot)
{
	return __atomic_load_n(&depot->wait.attention, __ATOMIC_SEQ_CST) != 0;
}

/* ---- the queue ---------------------------------------------------------- */

/* One more is served, after @before others; there were @ahead before it. */
static void
wait_count(struct weiri_wait *wait, uint64_t before, uint32_t ahead)
{
	wait->longest = weiri_max(wait->longest, before);
	wait->passed += before > ahead;
	wait->handoffs++;
}

/* Locked: whose turn it is gets the slot; false if nobody waits. */
static bool
wait_give(struct weiri_depot *depot, void *slot, uint32_t **wake)
{
	struct weiri_wait *wait = &depot->wait;

	if (weiri_list_empty(&wait->waiters))
		return false;

	struct wait_turn *turn =
	    WEIRI_CONTAINER_OF(wait->waiters.next, struct wait_turn, link);

	weiri_list_remove(&turn->link);
	WEIRI_STORE(&wait->attention, wait->attention - 1);
	wait_count(wait, wait->handoffs - turn->handoffs, turn->ahead);
	turn->slot = slot;
	*wake = &turn->given;
	/* The turn may be gone as soon as this is seen; its address is all
	 * that the wake-up below uses. */
	__atomic_store_n(&turn->given, 1, __ATOMIC_RELEASE);
	return true;
}

/* To the oldest waiter, else to rest.  In both cases under the lock: one who
 * queues up later looks at what rests later, too. */
static void
wait_settle(struct weiri_depot *depot, void *slot)
{
	uint32_t *wake = NULL;
	bool rested = true;

	weiri_mutex_lock(&depot->lock);
	if (!wait_give(depot, slot, &wake))
		rested = weiri_stock_rest(depot, slot);
	weiri_stock_update(depot);
	weiri_mutex_unlock(&depot->lock);
	if (!rested)
		weiri_stock_report(depot, slot);
	if (wake != NULL)
		weiri_os_wake(wake);
	else
		weiri_pages_note_idle();
}

/* ---- pockets ------------------------------------------------------------ */

/* Slots @first .. @last rest, and the magazine, if one is given, is empty. */
static void
wait_rest(struct weiri_depot *depot, struct weiri_magazine *magazine,
    const uintptr_t *first, const uintptr_t *last)
{
	void *bad;

	weiri_mutex_lock(&depot->lock);
	bad = weiri_stock_rest_all(depot, first, last);
	if (magazine != NULL) {
		weiri_magazine_push(&depot->empty_list, magazine);
		depot->empty_count++;
	}
	weiri_stock_update(depot);
	weiri_mutex_unlock(&depot->lock);
	if (bad != NULL)
		weiri_stock_report(depot, bad);
}

/*
 * The pocket's way back.  A full fence: what follows sees who queued up before
 * the slots in it could be seen.  A hook that ran meanwhile may have made
 * another pocket, which goes to the stock.
 */
static void
wait_pocket_back(
    struct weiri_depot *depot, struct weir_local *local, uintptr_t word)
{
	uintptr_t other = __atomic_exchange_n(
	    &local->spare[depot->cell], word, __ATOMIC_SEQ_CST);

	if (WEIR_UNLIKELY(other != 0)) {
		struct weiri_magazine *magazine = weiri_spare_magazine(other);
		uintptr_t *bottom = weiri_magazine_bottom(magazine);

		wait_rest(depot, magazine, bottom + 1,
		    bottom + weiri_spare_count(other));
	}
}

static uintptr_t
wait_pocket_out(struct weiri_depot *depot, struct weir_local *local)
{
	return __atomic_exchange_n(
	    &local->spare[depot->cell], 0, __ATOMIC_SEQ_CST);
}

/* An empty magazine of the size of the day, or NULL. */
static struct weiri_magazine *
wait_find_empty(struct weiri_depot *depot)
{
	struct weiri_magazine *empty;

	weiri_mutex_lock(&depot->lock);
	empty = weiri_magazine_pop(&depot->empty_list);
	depot->empty_count -= empty != NULL;
	weiri_decay_note(&depot->empty_decay, depot->empty_count);
	weiri_mutex_unlock(&depot->lock);
	if (empty == NULL)
		empty = weiri_meta_alloc(WEIRI_MAGAZINE_BYTES);
	return empty;
}

/* Fills the thread's empty pocket, half of it so that a put finds room, and
 * takes a slot. */
static void *
wait_refill(struct weiri_depot *depot, struct weir_local *local,
    struct weiri_magazine *empty)
{
	struct weiri_magazine *found;
	unsigned rounds = WEIRI_LOAD(&depot->rounds);
	size_t count = 0;

	weiri_magazine_resize(empty, rounds);

	uintptr_t *bottom = weiri_magazine_bottom(empty);

	switch (weiri_stock_supply(
	    depot, bottom + 1, (rounds + 1) / 2, &count, &found)) {
	case WEIRI_STOCK_NOTHING:
	case WEIRI_STOCK_SLOTS:
		break;
	case WEIRI_STOCK_MAGAZINE:
		wait_rest(depot, empty, bottom + 1, bottom);
		empty = found;
		bottom = weiri_magazine_bottom(found);
		break;
	}

	void *slot = count > 0 ? (void *)bottom[count] : NULL;

	wait_pocket_back(depot, local,
	    weiri_spare_word(empty, (unsigned)count - (count > 0)));
	return slot;
}

/* One slot under the lock, by growth, or out of another thread's pocket. */
static void *
wait_find(struct weiri_depot *depot)
{
	struct weiri_magazine *found;
	uintptr_t word = 0;
	size_t count = 0;

	switch (weiri_stock_supply(depot, &word, 1, &count, &found)) {
	case WEIRI_STOCK_NOTHING:
	case WEIRI_STOCK_SLOTS:
		break;
	case WEIRI_STOCK_MAGAZINE: {
		uintptr_t *bottom = weiri_magazine_bottom(found);

		word = bottom[count];
		wait_rest(depot, found, bottom + 1, bottom + count - 1);
		break;
	}
	}
	return (void *)word;
}

void
weiri_wait_serve(struct weiri_depot *depot)
{
	struct weir_local *local = weiri_local();
	uint32_t outer = 0;
	void *slot;

	if (!wait_attention(depot))
		return;
	if (local != &weiri_local_none)
		outer = weiri_local_begin(local, depot->cell);
	while (wait_attention(depot) && (slot = wait_find(depot)) != NULL)
		wait_settle(depot, slot);
	if (local != &weiri_local_none)
		weiri_local_end(local, outer);
}

/* ---- get ---------------------------------------------------------------- */

/* Without waiting; the caller looks at attention afterwards. */
static void *
wait_take(struct weiri_depot *depot, struct weir_local *local, bool *missed)
{
	uint32_t outer = weiri_local_begin(local, depot->cell);
	uintptr_t word = wait_pocket_out(depot, local);
	struct weiri_magazine *pocket = weiri_spare_magazine(word);
	unsigned count = weiri_spare_count(word);
	void *slot;

	*missed = count == 0;
	if (pocket == NULL)
		pocket = wait_find_empty(depot);
	if (count > 0) {
		slot = (void *)weiri_magazine_bottom(pocket)[count];
		wait_pocket_back(
		    depot, local, weiri_spare_word(pocket, count - 1));
	} else if (pocket != NULL) {
		slot = wait_refill(depot, local, pocket);
	} else {
		slot = wait_find(depot);
	}
	weiri_local_end(local, outer);
	return slot;
}

/* Off the list, unless a slot came first. */
static bool
wait_leave(struct weiri_depot *depot, struct wait_turn *turn)
{
	bool given;

	weiri_mutex_lock(&depot->lock);
	given = turn->given != 0;
	if (!given) {
		weiri_list_remove(&turn->link);
		WEIRI_STORE(&depot->wait.attention, depot->wait.attention - 1);
		depot->wait.timeouts++;
	}
	weiri_mutex_unlock(&depot->lock);
	return !given;
}

static void *
wait_turn(struct weiri_depot *depot, uint64_t timeout_ns)
{
	struct wait_turn turn = {.depot = depot, .outer = wait_own};
	uint64_t now_ns = weiri_os_now_ns();
	uint64_t end_ns =
	    timeout_ns > UINT64_MAX - now_ns ? UINT64_MAX : now_ns + timeout_ns;

	weiri_mutex_lock(&depot->lock);
	depot->wait.waits++;
	turn.handoffs = depot->wait.handoffs;
	turn.ahead = depot->wait.attention;
	weiri_list_append(&depot->wait.waiters, &turn.link);
	WEIRI_STORE(&depot->wait.attention, depot->wait.attention + 1);
	weiri_mutex_unlock(&depot->lock);

	wait_own = &turn;
	/* Pairs with the exchanges in wait_pocket_back(). */
	wait_fence();
	weiri_wait_serve(depot);
	while (__atomic_load_n(&turn.given, __ATOMIC_ACQUIRE) == 0) {
		if (!weiri_os_wait(&turn.given, 0, end_ns) &&
		    wait_leave(depot, &turn))
			break;
	}
	wait_own = turn.outer;
	return turn.slot;
}

void *
weiri_wait_get(struct weiri_depot *depot, uint64_t timeout_ns)
{
	struct weir_local *local =
	    depot->cell != WEIRI_CELL_NONE ? weiri_local_own() : NULL;
	void *slot = NULL;

	bool missed = true;

	weiri_depot_note_request(depot, local);
	/* For want of memory nobody waits. */
	if (WEIR_UNLIKELY(weiri_guard_bare(depot->guard)) &&
	    weiri_debug_refuses(depot->guard, depot->slot_bytes)) {
		weiri_depot_note_miss(depot, true);
		return NULL;
	}
	/* Who comes while others wait goes to the end of the queue. */
	if (!wait_attention(depot)) {
		slot = local != NULL ? wait_take(depot, local, &missed)
				     : wait_find(depot);
		/* What it left behind, or had in hand while they searched. */
		if (WEIR_UNLIKELY(wait_attention(depot)))
			weiri_wait_serve(depot);
	}
	if (slot == NULL && timeout_ns > 0 && weiri_wait_depth == 0)
		slot = wait_turn(depot, timeout_ns);
	if (missed)
		weiri_depot_note_miss(depot, slot == NULL);
	return slot;
}

/* ---- put ---------------------------------------------------------------- */

/* The older half of a full pocket rests. */
static unsigned
wait_make_room(struct weiri_depot *depot, struct weiri_magazine *pocket)
{
	unsigned count = weiri_magazine_rounds(pocket);
	unsigned half = (count + 1) / 2;
	uintptr_t *bottom = weiri_magazine_bottom(pocket);

	wait_rest(depot, NULL, bottom + 1, bottom + half);
	memmove(
	    bottom + 1, bottom + 1 + half, (count - half) * sizeof(*bottom));
	weiri_pages_note_idle();
	return count - half;
}

static bool
wait_pocket_put(struct weiri_depot *depot, struct weir_local *local, void *slot)
{
	uint32_t outer = weiri_local_begin(local, depot->cell);
	uintptr_t word = wait_pocket_out(depot, local);
	struct weiri_magazine *pocket = weiri_spare_magazine(word);
	unsigned count = weiri_spare_count(word);

	if (pocket == NULL && (pocket = wait_find_empty(depot)) == NULL) {
		weiri_local_end(local, outer);
		return false;
	}
	if (count == 0)
		weiri_magazine_resize(pocket, WEIRI_LOAD(&depot->rounds));
	if (count == weiri_magazine_rounds(pocket))
		count = wait_make_room(depot, pocket);
	weiri_magazine_bottom(pocket)[++count] = (uintptr_t)slot;
	wait_pocket_back(depot, local, weiri_spare_word(pocket, count));
	weiri_local_end(local, outer);
	return true;
}

void
weiri_wait_put(struct weiri_depot *depot, void *slot)
{
	struct weir_local *local =
	    depot->cell != WEIRI_CELL_NONE ? weiri_local_own() : NULL;

	if (wait_attention(depot) || local == NULL ||
	    !wait_pocket_put(depot, local, slot)) {
		wait_settle(depot, slot);
		return;
	}
	if (WEIR_UNLIKELY(wait_attention(depot)))
		weiri_wait_serve(depot);
}

/* ---- notification ------------------------------------------------------- */

static void
wait_note_later(uint32_t index)
{
	struct wait_later *later = &wait_later;

	later->first =
	    later->first == 0 || index < later->first ? index : later->first;
	later->last = index > later->last ? index : later->last;
	weiri_wait_due = true;
}

/* In use are at least the slots that are neither in the stock, nor in spares,
 * nor have room in a loaded magazine. */
static int64_t
wait_least_use(const struct weiri_depot *depot)
{
	return (int64_t)WEIRI_LOAD(&depot->outside) -
	       WEIRI_LOAD(&depot->spare_slots) - WEIRI_LOAD(&depot->withheld);
}

static int64_t
wait_least_use_locked(struct weiri_depot *depot)
{
	int64_t least;

	weiri_mutex_lock(&depot->lock);
	least = wait_least_use(depot);
	weiri_mutex_unlock(&depot->lock);
	return least;
}

/* Could the use be low?  A thread that ends moves its slots from one term to
 * another under the lock, and does not look afterwards: so a "no" is asked for
 * twice. */
static bool
wait_is_low(struct weiri_depot *depot)
{
	size_t limit = WEIRI_LOAD(&depot->limit);
	size_t low = depot->wait.config.low;
	struct weiri_depot_stats stats;
	bool (*room)(void *owner) = depot->wait.config.room;

	if (room != NULL && !room(depot->owner))
		return false;
	/* The limit may have changed; full is never low. */
	if (low == 0)
		low = limit - limit / 8;
	low = weiri_min(low, limit - (limit > 0));
	low = weiri_min(low, (size_t)INT64_MAX); /* without a limit */
	if (wait_least_use(depot) > (int64_t)low &&
	    wait_least_use_locked(depot) > (int64_t)low)
		return false;
	weiri_depot_stats(depot, &stats);
	return stats.in_use <= low && stats.in_use < limit;
}

static WEIRI_COLD void
wait_notify(struct weiri_depot *depot)
{
	uint32_t due = 1;

	if (!wait_is_low(depot))
		return;
	/* A function that is notified may do what a hook may not, and what its
	 * caller has in hand here is no business of its: after the hook. */
	if (weiri_wait_depth > 0) {
		wait_note_later(depot->index);
		return;
	}
	if (!__atomic_compare_exchange_n(&depot->wait.attention, &due, 0, false,
		__ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
		return;
	weiri_wait_enter();
	depot->wait.config.notify(depot->owner);
	weiri_wait_leave();
}

/* In the stock or in spares, for any thread to take. */
static bool
wait_in_reach(struct weiri_depot *depot)
{
	int64_t reach;

	weiri_mutex_lock(&depot->lock);
	reach = (int64_t)depot->carved - (int64_t)depot->outside +
		WEIRI_LOAD(&depot->spare_slots);
	weiri_mutex_unlock(&depot->lock);
	return reach > 0;
}

/*
 * At the limit, low use means room.  Short of it, memory was refused: the use may
 * be as low as it likes, and whoever is told and asks again would be refused
 * again, at once and for ever.  Then the next put tells, or who gives memory
 * back, if the quota refused it, else maintain.c.
 */
void
weiri_wait_failed(struct weiri_depot *depot)
{
	__atomic_store_n(&depot->wait.attention, 1, __ATOMIC_SEQ_CST);
	/* Pairs with the fence in weiri_wait_freed(). */
	wait_fence();
	/* From inside a hook, that might be the function that was told. */
	if (wait_in_reach(depot) ||
	    (weiri_wait_depth == 0 && !weiri_stock_may_grow(depot)))
		wait_notify(depot);
	else if (depot->quota != NULL && !weiri_quota_starved(depot->quota))
		/* Since it refused, somebody looked whom to tell. */
		weiri_wait_look(depot);
}

void
weiri_wait_freed(struct weiri_depot *depot)
{
	wait_fence();
	if (WEIR_UNLIKELY(wait_attention(depot)))
		wait_notify(depot);
}

/* ---- memory, and what waits for the end of a hook ------------------------ */

void
weiri_wait_look(struct weiri_depot *depot)
{
	if (!wait_attention(depot))
		return;
	if (depot->wait.config.policy == WEIRI_WAIT_TURN)
		weiri_wait_serve(depot);
	/* A slab that is there proves that there is memory. */
	else if (wait_is_low(depot) &&
		 (wait_in_reach(depot) ||
		     (weiri_stock_may_grow(depot) && weiri_stock_grow(depot))))
		wait_notify(depot);
}

/* The depots may have ended since; another at that index has nothing due, or is
 * told what is true. */
static void
wait_look_at_all(const struct wait_later *later)
{
	struct weiri_depot *depot;

	for (uint32_t i = later->memory ? 1 : later->first;
	     (depot = weiri_local_pin(&i)) != NULL; i++) {
		bool named = i >= later->first && i <= later->last;

		if (later->memory && depot->quota != NULL)
			weiri_wait_look(depot);
		else if (named &&
			 depot->wait.config.policy == WEIRI_WAIT_NOTIFY &&
			 wait_attention(depot))
			wait_notify(depot);
		weiri_local_unpin(depot);
		if (!later->memory && i >= later->last)
			break;
	}
}

void
weiri_wait_abandon(void)
{
	weiri_wait_depth = 0;
	wait_later.under_way = false;
	wait_own = NULL;
	if (weiri_local() != &weiri_local_none)
		weiri_local_end(weiri_local(), 0);
}

void
weiri_wait_catch_up(void)
{
	struct wait_later *own = &wait_later;

	if (own->under_way)
		return;
	own->under_way = true;
	while (weiri_wait_due) {
		struct wait_later later = *own;

		*own = (struct wait_later){.under_way = true};
		weiri_wait_due = false;
		wait_look_at_all(&later);
	}
	own->under_way = false;
}

void
weiri_wait_look_again(void)
{
	wait_later.memory = true;
	weiri_wait_due = true;
	if (weiri_wait_depth == 0)
		weiri_wait_catch_up();
}
