/* SPDX-License-Identifier: MIT */
/*
 * maintain.c - giving idle slots, slabs and pages back, a step at a time.
 *
 *     threads' spares --aged--> full magazines --surplus--> slabs at rest
 *                                                             |  surplus
 *                               system <--- page supply <-----+
 *
 * Each store keeps what it may need again and lets go what it did not need for
 * an epoch (base/decay.h).  One pass through the chain must not take as long as
 * its stages together, so what decay sets free passes on at once: a slab that
 * came to rest because surplus magazines were emptied into it is closed in the
 * same pass, and the pages of a closed slab are owed to the system.  Idle memory
 * is gone after three epochs at most: the rest of the one it fell idle in, the
 * one that proves it idle, and the one it leaves in.
 *
 * What a burst leaves in use lies in any of its slabs, a few slots in each, and a
 * thread's magazine has slots of all of them: they would never come to rest.  So
 * in a depot with many times the slots that were outside in an epoch, all that
 * lies in magazines goes to the slabs, those of threads included; from then on
 * requests are served from few slabs, and the others come to rest and are owed.
 *
 * Slabs that stay give back the pages that an epoch did not need (compact.c);
 * for the sake of that magazines are emptied once an epoch, too, where many pages
 * would be free but for a slot or two that lie there.
 *
 * A spare that its thread did not exchange between two passes is taken.  The
 * loaded magazine is the thread's own; see weiri_local_shed().
 *
 * The clock is read after each step: who gave a budget is an event loop, and
 * waits.  A step is the arrival at a depot, a magazine emptied, a slab closed, a
 * few records, or what an owner calls one; and a MiB that is owed by then.
 *
 * Invariants:
 *
 *   A1  A depot under a step is pinned, so it does not end; a step holds the
 *       depot's lock over one magazine or one slab at most, and no lock over
 *       hooks and page requests.
 *   A2  Slots that weiri_depot_prepare() made are not given back: what is in
 *       being stays at or above depot->kept.
 *   A3  idle_owed <= idle_count after each step.
 */
#include "slab/maintain.h"

#include "slab/shard.h"
#include "slab/stock.h"

/* Magazines that one step frees: each is a push on a list of records. */
#define MAINTAIN_EMPTIES 16

/* Slabs that a pass looks at for pages at rest, most of them for not more than
 * whether it did already. */
#define MAINTAIN_LOOKS 1024

/* Slots in being, as a multiple of those needed, from which on magazines are
 * emptied once an epoch where pages may go; and how many slots more there are. */
#define MAINTAIN_TIMES_LOOSE 2
#define MAINTAIN_LOOSE_BYTES (2 * WEIRI_PAGE)

/* Slots in being, as a multiple of those needed, that are too many; and full
 * magazines that a pass empties of a depot with so many. */
#define MAINTAIN_TIMES 4
#define MAINTAIN_MAGAZINES 32

/* ---- one depot ----------------------------------------------------------- */

/* Of an owner that looks after its pages itself none are taken here. */
static bool
maintain_may_void(const struct weiri_depot *depot)
{
	return depot->hooks != NULL && depot->hooks->maintain == NULL &&
	       depot->hooks->slot_again != NULL;
}

/* Locked: would pages of slabs that stay come to rest if magazines had their
 * slots from few of them? */
static bool
maintain_is_loose(const struct weiri_depot *depot)
{
	return maintain_may_void(depot) &&
	       depot->carved >
		   weiri_max(MAINTAIN_TIMES_LOOSE * depot->turn_outside,
		       depot->kept) +
		       MAINTAIN_LOOSE_BYTES / depot->slot_bytes;
}

/* True: what is in magazines is to go to the slabs. */
static bool
maintain_turn(struct weiri_depot *depot)
{
	uint64_t misses = weiri_depot_misses(depot);
	bool quiet = misses == depot->turn_misses;
	bool loose = maintain_is_loose(depot);

	weiri_decay_turn(&depot->full_decay, depot->full_count);
	weiri_decay_turn(&depot->empty_decay, depot->empty_count);
	weiri_decay_turn(&depot->idle_decay, depot->idle_count);
	depot->turn_misses = misses;
	depot->large =
	    depot->carved >
	    weiri_max(MAINTAIN_TIMES * depot->turn_outside, depot->kept) +
		weiri_slab_slots(depot);
	depot->turn_outside = 0;
	depot->void_turn++;
	if (quiet)
		weiri_depot_cool(depot);
	return loose;
}

/* The first thing in a pass: the clock, and spares that nobody exchanged.
 *
 * Of a depot with far too many slots what is in magazines goes to the slabs, in
 * each pass, since a slot that is out now comes back into a magazine, and would
 * be the next to be taken from there. */
static void
maintain_arrive(struct weiri_maintain *maintain, struct weiri_depot *depot)
{
	void *bad = weiri_stock_gather_spares(depot, maintain->epoch_ns == 0);
	bool gather = false, large;

	weiri_mutex_lock(&depot->lock);
	depot->turn_outside = weiri_max(depot->turn_outside, depot->outside);
	if (weiri_decay_tick(
		&depot->clock, maintain->now_ns, maintain->epoch_ns))
		gather = maintain_turn(depot);
	large = depot->large;
	gather = gather || large;
	/* That these are surplus is known already: most go within an epoch, of
	 * sixteen passes. */
	if (large)
		depot->idle_owed =
		    weiri_max(depot->idle_owed, (depot->idle_count + 7) / 8);
	weiri_mutex_unlock(&depot->lock);
	if (gather)
		weiri_local_recall(depot);
	maintain->arrived = true;
	maintain->gather = gather ? MAINTAIN_MAGAZINES : 0;
	maintain->owner_steps = 0;
	maintain->looks = MAINTAIN_LOOKS;
	maintain->owner_done =
	    depot->hooks == NULL || depot->hooks->maintain == NULL;
	if (bad != NULL)
		weiri_stock_report(depot, bad);
	/* Whoever memory was refused to: nobody tells when there is some. */
	if (depot->wait.config.policy != WEIRI_WAIT_FAIL)
		weiri_wait_look(depot);
}

/* Locked. */
static uint64_t
maintain_want(const struct weiri_maintain *maintain,
    const struct weiri_depot *depot, const struct weiri_decay *decay,
    uint64_t level)
{
	return weiri_decay_want(
	    decay, &depot->clock, maintain->now_ns, maintain->epoch_ns, level);
}

/* Locked: a magazine is to be emptied, by its time or to gather what is in it. */
static struct weiri_magazine *
maintain_take_full(struct weiri_maintain *maintain, struct weiri_depot *depot)
{
	bool is_due = maintain_want(maintain, depot, &depot->full_decay,
			  depot->full_count) > 0;
	struct weiri_magazine *full =
	    is_due || maintain->gather > 0 ? weiri_stock_pop_full(depot) : NULL;

	if (full == NULL)
		return NULL;
	if (is_due)
		weiri_decay_done(&depot->full_decay, 1);
	else
		weiri_decay_note(&depot->full_decay, depot->full_count);
	if (maintain->gather > 0)
		maintain->gather--;
	return full;
}

/* Empties one such magazine into the slabs; false if there is none. */
static bool
maintain_unpack(struct weiri_maintain *maintain, struct weiri_depot *depot)
{
	struct weiri_magazine *full;
	void *bad = NULL;
	uint64_t idle;

	weiri_mutex_lock(&depot->lock);
	full = maintain_take_full(maintain, depot);
	if (full != NULL) {
		idle = depot->idle_count;
		bad = weiri_stock_unpack(depot, full);
		depot->idle_owed += depot->idle_count - idle;
		weiri_stock_update(depot);
	}
	weiri_mutex_unlock(&depot->lock);
	if (bad != NULL)
		weiri_stock_report(depot, bad);
	if (full == NULL)
		return false;
	weiri_stock_free_magazine(full);
	weiri_pages_owe(0, WEIRI_MAGAZINE_BYTES);
	return true;
}

/* Locked: a surplus slab, off its list, or NULL. */
static struct weiri_slab *
maintain_take_idle(
    const struct weiri_maintain *maintain, struct weiri_depot *depot)
{
	uint64_t want = maintain_want(
	    maintain, depot, &depot->idle_decay, depot->idle_count);
	struct weiri_slab *slab;

	depot->idle_owed = weiri_min(depot->idle_owed, depot->idle_count);
	want = weiri_max(want, depot->idle_owed);
	if (want == 0)
		return NULL;
	slab = WEIRI_CONTAINER_OF(depot->partial.prev, struct weiri_slab, link);
	if (depot->carved - slab->carved < depot->kept) {
		depot->idle_owed = 0; /* what rests later has its own time */
		return NULL;
	}
	slab = weiri_stock_unlist_slab(depot);
	/* One that is owed was no part of what is due. */
	if (depot->idle_owed > 0)
		depot->idle_owed--;
	else
		weiri_decay_done(&depot->idle_decay, 1);
	return slab;
}

/* Closes one surplus slab; false if there is none. */
static bool
maintain_close(const struct weiri_maintain *maintain, struct weiri_depot *depot)
{
	struct weiri_slab *slab;
	size_t header_bytes;

	weiri_mutex_lock(&depot->lock);
	slab = maintain_take_idle(maintain, depot);
	weiri_mutex_unlock(&depot->lock);
	if (slab == NULL)
		return false;
	header_bytes = slab->header_bytes;
	weiri_slab_close(slab);
	if (depot->wait.config.policy == WEIRI_WAIT_TURN)
		weiri_wait_serve(depot);
	weiri_pages_owe(
	    depot->slab_bytes + depot->companion_bytes, header_bytes);
	return true;
}

/* Frees surplus empty magazines; false if there is none. */
static bool
maintain_empties(
    const struct weiri_maintain *maintain, struct weiri_depot *depot)
{
	struct weiri_magazine *list = NULL;
	uint64_t count;

	weiri_mutex_lock(&depot->lock);
	count = maintain_want(
	    maintain, depot, &depot->empty_decay, depot->empty_count);
	count = weiri_min(count, MAINTAIN_EMPTIES);
	count = weiri_min(count, depot->empty_count);
	for (uint64_t i = 0; i < count; i++)
		weiri_magazine_push(
		    &list, weiri_magazine_pop(&depot->empty_list));
	depot->empty_count -= (uint32_t)count;
	weiri_decay_done(&depot->empty_decay, count);
	weiri_mutex_unlock(&depot->lock);
	weiri_stock_free_magazines(list);
	weiri_pages_owe(0, count * WEIRI_MAGAZINE_BYTES);
	return count > 0;
}

/* The owner's part; false if it has none left. */
static bool
maintain_owner(struct weiri_maintain *maintain, struct weiri_depot *depot)
{
	if (maintain->owner_done)
		return false;
	maintain->owner_done =
	    !depot->hooks->maintain(depot->owner, maintain->owner_steps++);
	return true;
}

static bool
maintain_void(struct weiri_maintain *maintain, struct weiri_depot *depot)
{
	return maintain_may_void(depot) &&
	       weiri_depot_void_idle(depot, &maintain->looks);
}

/* One step of what there is to do; false if there is nothing. */
static bool
maintain_step(struct weiri_maintain *maintain, struct weiri_depot *depot)
{
	if (!maintain->arrived) {
		maintain_arrive(maintain, depot);
		return true;
	}
	return maintain_unpack(maintain, depot) ||
	       maintain_close(maintain, depot) ||
	       maintain_empties(maintain, depot) ||
	       maintain_void(maintain, depot) ||
	       maintain_owner(maintain, depot);
}

/* ---- the pass ------------------------------------------------------------ */

static bool
maintain_over(struct weiri_maintain *maintain, uint64_t deadline_ns)
{
	maintain->now_ns = weiri_os_now_ns();
	return maintain->now_ns >= deadline_ns;
}

/* True when the depot has nothing left to do, false when time is over. */
static bool
maintain_visit(struct weiri_maintain *maintain, struct weiri_depot *depot,
    uint64_t deadline_ns)
{
	while (maintain_step(maintain, depot)) {
		/* Or an extent would be unmapped with all its memory, at once,
		 * when the last of its slabs goes. */
		if (weiri_pages_owing())
			(void)weiri_pages_purge(
			    maintain->now_ns, maintain->epoch_ns);
		if (maintain_over(maintain, deadline_ns))
			return false;
	}
	return true;
}

/* As maintain_visit(), of all depots. */
static bool
maintain_depots(struct weiri_maintain *maintain, uint64_t deadline_ns)
{
	struct weiri_depot *depot;
	uint32_t before = maintain->index;

	while ((depot = weiri_local_pin(&maintain->index)) != NULL) {
		/* The one that was left may have ended meanwhile. */
		if (maintain->index != before)
			maintain->arrived = false;

		bool done = maintain_visit(maintain, depot, deadline_ns);

		weiri_local_unpin(depot);
		if (!done)
			return false;
		maintain->arrived = false;
		before = ++maintain->index;
	}
	return true;
}

bool
weiri_maintain_run(struct weiri_maintain *maintain, uint64_t deadline_ns)
{
	maintain->now_ns = weiri_os_now_ns();
	if (!maintain->under_way) {
		maintain->under_way = true;
		maintain->arrived = false;
		maintain->index = 1;
		__atomic_fetch_add(&weiri_local_round, 1, __ATOMIC_RELAXED);
	}
	if (!maintain_depots(maintain, deadline_ns))
		return true;
	while (weiri_pages_purge(maintain->now_ns, maintain->epoch_ns))
		if (maintain_over(maintain, deadline_ns))
			return true;
	maintain->under_way = false;
	return false;
}
