/* SPDX-License-Identifier: MIT */
/*
 * region_idle.c - blocks that no region will want go back to the system.
 *
 *     magazines, stock --(quiet)--> slabs at rest --> page supply --> system
 *
 * A kind that takes another size of first blocks leaves those it had; a region
 * that needed a hundred times the usual leaves its blocks.  Nobody takes from
 * those depots any more, so what is in them stays in memory until the clock of
 * maintenance finds it (slab/maintain.c), if anybody runs that.  Regions know
 * sooner: both events are seen here ("stirred"), and from then on the depots are
 * looked at whenever a kind learns, once in 32 ends of a thread.  Regions of the
 * size of before may be live for long: a kind that learns asks after them.
 *
 * A depot whose stock was not asked between two looks gives all of it back, and
 * then the magazines that no thread used since the look before; one whose stock
 * is asked gives what exceeds the slots that are out.  After IDLE_LOOKS looks
 * with nothing left to give it is left in peace.  A program that makes many
 * regions at once and ends them together stirs nothing: its blocks stay.
 *
 * One look gives back IDLE_STEP_BYTES and a magazine or two at most, so the end
 * of a region that comes to look is delayed by a bounded time.
 */
#include "config/config.h"
#include "pools/region.h"
#include "slab/shard.h"

#define IDLE_STEP_BYTES ((size_t)4 << 20)
#define IDLE_LOOKS 4

/* Magazines and headers of slabs are at most that part of what is in them. */
#define IDLE_RECORDS_PART 24

/* Less than this is not worth the system calls. */
#define IDLE_SURGE_BYTES ((uint64_t)256 << 10)
#define IDLE_SURGE_TIMES 4

static void
idle_stir(struct weiri_region_supply *supply, unsigned index)
{
	WEIRI_STORE(&supply->looks[index], IDLE_LOOKS);
	WEIRI_STORE(&supply->stirred, true);
}

static void
idle_stir_blocks(struct weiri_region_supply *supply)
{
	for (unsigned i = 0; i < WEIRI_REGION_DEPOTS; i++)
		idle_stir(supply, WEIRI_REGION_FIRSTS + i);
}

void
weiri_region_idle_moved(unsigned bin)
{
	struct weiri_region_supply *supply = weiri_region_supply_now();

	idle_stir(supply, bin);
	idle_stir_blocks(supply);
}

bool
weiri_region_idle_left(unsigned bin)
{
	struct weiri_region_supply *supply = weiri_region_supply_now();
	struct weiri_depot *depot = weiri_region_first_depot(supply, bin);
	bool quiet;

	if (WEIRI_LOAD(&depot->inside) == 0)
		return WEIRI_LOAD(&depot->outside) != 0;
	if (WEIRI_LOAD(&supply->looks[bin]) != 0)
		return true;
	weiri_mutex_lock(&depot->lock);
	quiet = weiri_depot_misses(depot) == WEIRI_LOAD(&supply->misses[bin]);
	weiri_mutex_unlock(&depot->lock);
	if (quiet)
		idle_stir(supply, bin);
	return quiet;
}

void
weiri_region_idle_gave(const struct weiri_region_kind *kind, uint64_t bytes)
{
	uint64_t usual = weiri_region_bin_bytes(WEIRI_LOAD(&kind->keep_bin));

	if (bytes >= IDLE_SURGE_BYTES && bytes / IDLE_SURGE_TIMES >= usual)
		idle_stir_blocks(weiri_region_supply_now());
}

/* What of the stock is too much, in bytes. */
static size_t
idle_excess(const struct weiri_depot *depot, bool quiet)
{
	uint64_t inside = WEIRI_LOAD(&depot->inside);
	uint64_t outside = quiet ? 0 : WEIRI_LOAD(&depot->outside);

	return inside > outside ? (inside - outside) * depot->slot_bytes : 0;
}

/* A depot that was stirred meanwhile has all its looks to come. */
static void
idle_looked(struct weiri_region_supply *supply, unsigned index)
{
	uint8_t looks = WEIRI_LOAD(&supply->looks[index]);

	(void)__atomic_compare_exchange_n(&supply->looks[index], &looks,
	    (uint8_t)(looks - 1), false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

/* Bytes that went to the page supply, @most or little more. */
static size_t
idle_give(struct weiri_region_supply *supply, unsigned index, size_t most)
{
	struct weiri_depot *depot = weiri_region_supply_depot(supply, index);
	/* Of one magazine. */
	size_t box =
	    weiri_max((size_t)depot->rounds_max * depot->slot_bytes, 1);
	size_t excess, bytes;
	bool quiet;

	weiri_mutex_lock(&depot->lock);
	quiet = weiri_depot_misses(depot) == supply->misses[index];
	WEIRI_STORE(&supply->misses[index], weiri_depot_misses(depot));
	weiri_mutex_unlock(&depot->lock);
	excess = idle_excess(depot, quiet);
	if (!quiet || excess > most) {
		if (excess < box)
			return 0;
		return weiri_depot_compact(depot,
		    (unsigned)weiri_max(weiri_min(excess, most) / box, 1));
	}
	bytes = weiri_depot_retire(depot);
	if (bytes == 0)
		idle_looked(supply, index);
	return bytes;
}

/*
 * Pages that left the depots go on to the system.  A whole extent pays for pages
 * it gave before, too, so the @last look owes what all gave once more: for most
 * of it nothing is left to be done.
 */
static void
idle_settle(struct weiri_region_supply *supply, size_t given, bool last)
{
	supply->given += given;
	if (last) {
		given = supply->given;
		supply->given = 0;
	}
	if (given == 0)
		return;
	weiri_pages_owe(given, given / IDLE_RECORDS_PART);
	for (size_t bytes = 0; bytes <= IDLE_STEP_BYTES;) {
		size_t step = weiri_pages_settle();

		if (step == 0)
			break;
		bytes += step;
	}
	/* No pages then, the records alone. */
	while (weiri_pages_purge(0, WEIRI_DECAY_NEVER))
		;
}

/* True when a depot is to be looked at again. */
static bool
idle_round(struct weiri_region_supply *supply)
{
	size_t given = 0;
	bool more = false;

	for (unsigned i = 0; i < WEIRI_REGION_SUPPLIES; i++) {
		if (WEIRI_LOAD(&supply->looks[i]) == 0)
			continue;
		if (given < IDLE_STEP_BYTES)
			given += idle_give(supply, i, IDLE_STEP_BYTES - given);
		more = true;
	}
	if (WEIRI_LOAD(&weiri_config()->decay_ms) != WEIR_DECAY_NEVER)
		idle_settle(supply, given, !more);
	return more;
}

void
weiri_region_idle_look(void)
{
	struct weiri_region_supply *supply = weiri_region_supply_now();

	if (WEIR_LIKELY(!WEIRI_LOAD(&supply->stirred)) ||
	    /* Another thread is at it.  Pairs with the release below. */
	    __atomic_exchange_n(&supply->looking, true, __ATOMIC_ACQUIRE))
		return;
	/* Before the looks: what is stirred from now on is seen. */
	WEIRI_STORE(&supply->stirred, false);
	if (idle_round(supply))
		WEIRI_STORE(&supply->stirred, true);
	__atomic_store_n(&supply->looking, false, __ATOMIC_RELEASE);
}
