/* SPDX-License-Identifier: MIT */
/*
 * rounds.c - how large the magazines of a depot are, and how many of its slots
 * may be in loaded ones.
 *
 * Size: a thread that takes the lock for each eight objects of a depot it uses
 * now and then holds little; one that does it ten thousand times a second should
 * carry more at a time.  So the magazines of a depot start small, double while
 * trips come fast, and halve when they come seldom.  To swap the loaded magazine
 * with the spare is a quarter of a trip: a thread that frees and takes at random
 * about an edge comes to no lock, and yet too often.  An empty magazine takes the
 * size of the day on its way to be filled; full ones of other sizes are used up
 * as they are.  Where slots are large, the last doubling makes one magazine of
 * the two a thread has (room.c).
 *
 * Limits: what an idle thread's loaded magazine withholds, nobody can take.  In
 * a limited depot all of them together have limit / 16 slots at most.  A thread
 * that comes to load one gets half of what is left of that: n busy threads end
 * up with an (n + 1)th each, and one that comes too late uses the lock.
 */
#include "base/bits.h"
#include "slab/rounds.h"
#include "slab/shard.h"
#include "slab/stock.h"

/* WEIRI_WINDOW_TRIPS faster than the one cost over a ten-thousandth of a
 * processor; slower than the other, the thread can as well take them more
 * often. */
#define ROUNDS_WINDOW_FAST_NS UINT64_C(16000000)
#define ROUNDS_WINDOW_SLOW_NS UINT64_C(16000000000)

/* As many swaps of a loaded magazine with the spare cost what the trips of a
 * window cost. */
#define ROUNDS_WINDOW_SWAPS (4 * WEIRI_WINDOW_TRIPS)

/* So many trips of a window that wait are too many for one lock. */
#define ROUNDS_WINDOW_WAITS (2 * WEIRI_WINDOW_TRIPS / 4)

/* ---- the size of magazines ----------------------------------------------- */

/* No lock, here and below: should two threads be here at once, one of them is
 * not heard. */
static void
rounds_grow(struct weiri_depot *depot)
{
	size_t rounds = WEIRI_LOAD(&depot->rounds);

	/* Two narrow ones make a wide one, no less: what a half of it holds is
	 * what a thread may take and put without an edge. */
	if (rounds < depot->rounds_max)
		rounds = weiri_min(rounds * 2, depot->rounds_max);
	else
		rounds = depot->rounds_wide;
	WEIRI_STORE(&depot->rounds, (uint16_t)rounds);
}

void
weiri_rounds_adapt(struct weiri_depot *depot)
{
	uint64_t now_ns = weiri_os_now_ns();
	uint64_t took_ns = now_ns - WEIRI_LOAD(&depot->window_ns);
	size_t rounds = WEIRI_LOAD(&depot->rounds);

	/* Puts wait for the lock as well as gets do. */
	if (WEIRI_LOAD(&depot->window_waits) >= ROUNDS_WINDOW_WAITS)
		weiri_shards_make(depot, 0);
	WEIRI_STORE(&depot->window_waits, 0);
	WEIRI_STORE(&depot->window_trips, 0);
	WEIRI_STORE(&depot->window_ns, now_ns);
	if (took_ns < ROUNDS_WINDOW_FAST_NS)
		rounds_grow(depot);
	else if (took_ns > ROUNDS_WINDOW_SLOW_NS)
		WEIRI_STORE(&depot->rounds,
		    (uint16_t)weiri_max(rounds / 2, depot->rounds_min));
}

void
weiri_depot_cool(struct weiri_depot *depot)
{
	WEIRI_STORE(&depot->rounds, depot->rounds_min);
}

/* A window of its own: what is known of trips and of waiting for the lock by now
 * is no less true, and what comes seldom is no reason to shrink. */
static WEIRI_COLD void
rounds_adapt_to_swaps(struct weiri_depot *depot)
{
	uint64_t now_ns = weiri_os_now_ns();
	uint64_t took_ns = now_ns - WEIRI_LOAD(&depot->swaps_ns);

	WEIRI_STORE(&depot->window_swaps, 0);
	WEIRI_STORE(&depot->swaps_ns, now_ns);
	if (took_ns < ROUNDS_WINDOW_FAST_NS)
		rounds_grow(depot);
}

void
weiri_rounds_count_swap(struct weiri_depot *depot)
{
	WEIRI_BUMP(&depot->window_swaps, 1);
	if (WEIR_UNLIKELY(
		WEIRI_LOAD(&depot->window_swaps) >= ROUNDS_WINDOW_SWAPS))
		rounds_adapt_to_swaps(depot);
}

/* ---- what may be loaded --------------------------------------------------- */

unsigned
weiri_rounds_withhold(struct weiri_depot *depot)
{
	size_t want = WEIRI_LOAD(&depot->rounds);
	int64_t withheld = WEIRI_LOAD(&depot->withheld);
	size_t rounds;

	do {
		int64_t free = WEIRI_LOAD(&depot->withheld_max) - withheld;

		if (free <= 0)
			return 0;

		size_t left = (size_t)free;

		rounds = weiri_max(
		    left / 2, weiri_min(left, WEIRI_ROUNDS_LIMITED_MIN));
		rounds = weiri_min(rounds, want);
	} while (!__atomic_compare_exchange_n(&depot->withheld, &withheld,
	    withheld + (int64_t)rounds, true, __ATOMIC_RELAXED,
	    __ATOMIC_RELAXED));
	return (unsigned)rounds;
}

bool
weiri_rounds_change(struct weiri_depot *depot, unsigned has, unsigned wants)
{
	int64_t more = (int64_t)wants - (int64_t)has;
	int64_t withheld = WEIRI_LOAD(&depot->withheld);

	/* Nearly always: a locked instruction less. */
	if (more == 0)
		return withheld <= WEIRI_LOAD(&depot->withheld_max);
	do {
		if (more > WEIRI_LOAD(&depot->withheld_max) - withheld)
			return false;
	} while (!__atomic_compare_exchange_n(&depot->withheld, &withheld,
	    withheld + more, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
	return true;
}
