/* SPDX-License-Identifier: MIT */
/*
 * purge.c - idle memory of the supply goes back to the system, step by step.
 *
 * Two reasons make it due.  Free pages that nobody needed for an epoch
 * (base/decay.h) go over the next one.  And pages that slabs brought which lay
 * idle for as long already are owed: to keep them through another epoch would
 * only double the time.  So it is with the library's own records; of those that
 * end in other ways, whole pages that lay free for an epoch go.
 *
 *     retained pages   bytes_retained > low > due ---+
 *     pages of slabs   weiri_pages_owe()  -----------+--> steps of 1 MiB
 *     records of slabs weiri_pages_owe()  ---+--> meta.c
 *     records          weiri_meta_whole() ---+
 *
 * A step holds the supply's lock over one or a few madvise() of a MiB, some
 * 100 us at most; between steps others get in, and the caller looks at its
 * clock.
 *
 * Invariants:
 *
 *   G1  A step gives back at most PURGE_STEP_BYTES, but for a wholly free block
 *       that can only go whole.
 *   G2  What cannot be given back - the source forbids it, the system refuses -
 *       is not asked for again before the next epoch: the steps end.
 */
#include "pages/extent.h"

#include "pages/budget.h"

#define supply weiri_supply

#define PURGE_STEP_BYTES ((size_t)1 << 20)

static struct weiri_decay_clock purge_clock;
static struct weiri_decay purge_records_decay; /* under the supply's lock */
static const char *purge_from; /* where the next step looks first */
static uint64_t purge_owed, purge_owed_meta; /* atomic */

void
weiri_pages_owe(size_t span_bytes, size_t meta_bytes)
{
	if (span_bytes > 0)
		__atomic_fetch_add(&purge_owed, span_bytes, __ATOMIC_RELAXED);
	if (meta_bytes > 0)
		__atomic_fetch_add(
		    &purge_owed_meta, meta_bytes, __ATOMIC_RELAXED);
}

bool
weiri_pages_owing(void)
{
	return WEIRI_LOAD(&purge_owed) >= PURGE_STEP_BYTES ||
	       WEIRI_LOAD(&purge_owed_meta) >= PURGE_STEP_BYTES;
}

/* @paid may be more than what is owed. */
static void
purge_pay(uint64_t *owed, uint64_t paid)
{
	uint64_t seen = WEIRI_LOAD(owed);

	while (!__atomic_compare_exchange_n(owed, &seen,
	    seen - weiri_min(paid, seen), true, __ATOMIC_RELAXED,
	    __ATOMIC_RELAXED))
		;
}

/* Under the lock: nothing to be had in this epoch. */
static void
purge_give_up(void)
{
	supply.retained.done = supply.retained.due;
	WEIRI_STORE(&purge_owed, 0);
}

/* Under the lock: the bytes to go now. */
static uint64_t
purge_want(uint64_t now_ns, uint64_t epoch_ns)
{
	struct weiri_decay *decay = &supply.retained;
	uint64_t want, owed;

	if (epoch_ns == WEIRI_DECAY_NEVER)
		return 0;
	weiri_decay_note(&purge_records_decay, weiri_meta_whole());
	if (weiri_decay_tick(&purge_clock, now_ns, epoch_ns)) {
		weiri_decay_turn(decay, supply.bytes_retained);
		weiri_decay_turn(&purge_records_decay, weiri_meta_whole());
		/* All at once: they are few. */
		weiri_pages_owe(0, purge_records_decay.due);
	}
	want = weiri_decay_want(
	    decay, &purge_clock, now_ns, epoch_ns, supply.bytes_retained);
	/* Owed bytes that pools took again are not there to be given. */
	owed = weiri_min(WEIRI_LOAD(&purge_owed), supply.bytes_retained);
	return weiri_max(want, owed);
}

/* Under the lock.  From the first extent again when the last is through. */
static size_t
purge_extents(size_t bytes, struct weiri_list *gone)
{
	size_t given = weiri_extent_purge(bytes, &purge_from, gone);

	if (given > 0 || !weiri_list_empty(gone) || purge_from == NULL)
		return given;
	purge_from = NULL;
	return weiri_extent_purge(bytes, &purge_from, gone);
}

/* Under the lock, which it gives up: a step of @want; the bytes that went. */
static size_t
purge_step(uint64_t want)
{
	struct weiri_list gone = WEIRI_LIST_INITIALIZER(gone);
	size_t given = 0;

	if (want >= WEIRI_PAGE) {
		given = purge_extents(weiri_min(want, PURGE_STEP_BYTES), &gone);
		weiri_decay_done(&supply.retained, given);
		if (given == 0 && weiri_list_empty(&gone))
			purge_give_up();
	}
	weiri_supply_unlock();
	WEIRI_LIST_FOR_SAFE(node, &gone)
	{
		weiri_list_remove(node);
		given += weiri_extent_discard(
		    WEIRI_CONTAINER_OF(node, struct weiri_extent, all));
	}
	purge_pay(&purge_owed, given);
	return given;
}

static bool
purge_pages(uint64_t now_ns, uint64_t epoch_ns)
{
	weiri_supply_lock();

	uint64_t want = purge_want(now_ns, epoch_ns);
	size_t given = purge_step(want);

	return given > 0 && want > given;
}

size_t
weiri_pages_settle(void)
{
	weiri_supply_lock();
	return purge_step(
	    weiri_min(WEIRI_LOAD(&purge_owed), supply.bytes_retained));
}

static bool
purge_records(void)
{
	uint64_t owed = WEIRI_LOAD(&purge_owed_meta);
	size_t given;

	if (owed < WEIRI_PAGE)
		return false;
	given = weiri_meta_purge(weiri_min(owed, PURGE_STEP_BYTES));
	/* Whole pages only: a rest among records in use is not owed. */
	purge_pay(&purge_owed_meta, given > 0 ? given : owed);
	return given > 0 && owed > given;
}

bool
weiri_pages_purge(uint64_t now_ns, uint64_t epoch_ns)
{
	bool more = purge_pages(now_ns, epoch_ns);

	return purge_records() || more;
}
