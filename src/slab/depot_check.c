/* SPDX-License-Identifier: MIT */
/*
 * depot_check.c - reading a depot: its figures, and the walk over its
 * invariants (S1-S3 of slab.c, L2-L3 of local.c, D1-D8 of depot.c).
 */
#include "slab/depot.h"

#include "base/bits.h"
#include "guard/guard.h"
#include "slab/shard.h"

#include <weir/stats.h>

#include <string.h>

/* ---- figures ---------------------------------------------------------- */

struct depot_sum {
	uint64_t loaded; /* in threads' magazines */
	uint64_t spare;
	uint64_t requests;
	bool moving; /* some thread is in a call that moves slots */
};

/* Under weiri_local_lock(). */
static void
depot_sum_threads(const struct weiri_depot *depot, struct depot_sum *sum)
{
	if (depot->cell == WEIRI_CELL_NONE)
		return;
	WEIRI_LOCAL_FOR(local)
	{
		uint64_t requests = WEIRI_LOAD(&local->requests[depot->cell]);

		sum->moving |=
		    __atomic_load_n(&local->calls, __ATOMIC_ACQUIRE) != 0;
		sum->loaded += weiri_cursor_estimate(
		    WEIRI_LOAD(&local->cursor[depot->cell]),
		    weiri_requests_rounds(requests));
		sum->spare +=
		    weiri_spare_count(WEIRI_LOAD(&local->spare[depot->cell]));
		sum->requests += weiri_requests_count(requests);
		/* Nor in between; pairs with weiri_local_end(). */
		sum->moving |=
		    __atomic_load_n(&local->calls, __ATOMIC_ACQUIRE) != 0;
	}
}

static uint64_t
depot_minus(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}

/*
 * What is neither in the stock nor in a magazine is in use, or on its way
 * between them.  While calls are under way the peak bounds it; when none is, it
 * is exact, and it is the peak that may be behind: two threads that each move a
 * term of it at the same moment may both see the other's as it was, and the
 * child of a fork was never told of what it lost.
 */
static uint64_t
depot_in_use(struct weiri_depot *depot, uint64_t used, bool moving)
{
	uint64_t peak = WEIRI_LOAD(&depot->peak);

	if (moving)
		return weiri_min(used, peak);
	while (
	    used > peak && !__atomic_compare_exchange_n(&depot->peak, &peak,
			       used, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
	return used;
}

void
weiri_depot_stats(struct weiri_depot *depot, struct weiri_depot_stats *out)
{
	struct depot_sum sum = {0};
	uint64_t outside, given, requests, misses;

	weiri_local_lock();
	weiri_mutex_lock(&depot->lock);
	depot_sum_threads(depot, &sum);
	misses = weiri_depot_misses(depot);
	*out = (struct weiri_depot_stats){
	    .total = depot->carved,
	    .misses = misses,
	    .failures = depot->failures,
	    .slabs = depot->slab_count,
	    .bytes_mapped = depot->slab_count * depot->slab_bytes,
	    .lost = depot->lost,
	};
	out->waits = depot->wait.waits;
	out->wait_timeouts = depot->wait.timeouts;
	out->wait_longest = depot->wait.longest;
	if (depot->wait.config.policy == WEIRI_WAIT_TURN)
		out->waiting = WEIRI_LOAD(&depot->wait.attention);
	/* What lies in shards is with the depot. */
	outside = depot_minus(depot->outside, weiri_shards_slots(depot));
	given = WEIRI_LOAD(&depot->given);
	/* What was loaded and is in no magazine now was asked for.  The bound
	 * moves down when magazines do; what was proven once stays so. */
	requests = depot_minus(given, sum.loaded) + depot->failures;
	if (requests < misses)
		requests = misses;
	if (depot->requests_min < requests)
		depot->requests_min = requests;
	requests = depot->requests_min;
	/* A request is counted before its miss, and read after it. */
	if (depot->counted)
		requests =
		    weiri_max(depot->requests_gone + sum.requests, misses);
	weiri_mutex_unlock(&depot->lock);
	weiri_local_unlock();

	out->cached = sum.loaded + sum.spare;
	out->in_use =
	    depot_in_use(depot, depot_minus(outside, out->cached), sum.moving);
	out->peak = WEIRI_LOAD(&depot->peak);
	out->requests = requests;
	out->hits = requests - out->misses;
}

void
weiri_depot_add_bytes(const struct weiri_depot *depot,
    const struct weiri_depot_stats *stats, uint64_t object_bytes,
    struct weir_pool_stats *out)
{
	uint64_t room = stats->slabs * weiri_slab_slots(depot);
	uint64_t idle = depot_minus(stats->total, stats->in_use);
	uint64_t bytes =
	    stats->slabs * (depot->slab_bytes + depot->companion_bytes);

	out->bytes_mapped += bytes;
	out->bytes_in_use += stats->in_use * object_bytes;
	out->bytes_cached += stats->cached * object_bytes;
	out->bytes_idle += depot_minus(idle, stats->cached) * object_bytes;
	out->bytes_untouched += depot_minus(room, stats->total) * object_bytes;
	out->bytes_overhead += bytes - room * object_bytes;
	out->lost_in_fork += stats->lost;
}

/* ---- the walk --------------------------------------------------------- */

struct depot_walk {
	struct weiri_depot *depot;
	const char *why;
	uint64_t slabs, carved, resting;
	uint64_t stocked;  /* state bytes that say so */
	uint64_t loaded;   /* slots met in magazines */
	uint64_t borrowed; /* of them, those whose bit is not given back yet */
	uint64_t idle;     /* slabs at rest */
	uint64_t voided;
	uint64_t full;    /* of them, those in full_list */
	int64_t withheld; /* rounds of loaded magazines */
	int64_t spare;    /* slots in spares */
	uint64_t sharded; /* slots in shards */
};

#define DEPOT_REQUIRE(walk, condition, text) \
	do {                                 \
		if (!(condition)) {          \
			(walk)->why = text;  \
			return false;        \
		}                            \
	} while (0)

static bool
depot_check_slab(struct depot_walk *walk, const struct weiri_slab *slab)
{
	uint64_t bits = 0;

	for (size_t w = 0; w < WEIRI_BITMAP_WORDS(slab->slot_count); w++)
		bits += (uint64_t)__builtin_popcountll(slab->free_bits[w]);
	DEPOT_REQUIRE(walk, bits == slab->free_count, "S1: free_count");
	DEPOT_REQUIRE(walk, slab->carved <= slab->slot_count, "S1: carved");
	for (size_t i = slab->carved; i < slab->slot_count; i++)
		DEPOT_REQUIRE(walk, !weiri_bit_test(slab->free_bits, i),
		    "S1: free bit above carved");
	for (size_t at = 0; at < slab->span.bytes; at += WEIRI_PAGE)
		DEPOT_REQUIRE(walk,
		    weiri_span_of(slab->span.base + at) == &slab->span,
		    "S3: page map");
	DEPOT_REQUIRE(walk, weiri_slab_check_voided(slab), "K1: voided");
	if (walk->depot->verify)
		for (size_t i = 0; i < slab->carved; i++)
			walk->stocked +=
			    (slab->state[i] & WEIRI_STATE_STOCKED) != 0;
	walk->voided += (uint64_t)__builtin_popcount(slab->voided);
	walk->slabs++;
	walk->carved += slab->carved;
	walk->resting += slab->free_count;
	return true;
}

static bool
depot_check_slabs(struct depot_walk *walk)
{
	struct weiri_list *lists[] = {
	    &walk->depot->partial, &walk->depot->full};

	for (size_t i = 0; i < WEIRI_COUNT_OF(lists); i++) {
		WEIRI_LIST_FOR(node, lists[i])
		{
			struct weiri_slab *slab =
			    WEIRI_CONTAINER_OF(node, struct weiri_slab, link);

			DEPOT_REQUIRE(walk, weiri_slab_has_slots(slab) == !i,
			    "D3: slab in the wrong list");
			DEPOT_REQUIRE(walk,
			    slab->idle == (slab->free_count == slab->carved),
			    "D8: a slab at rest or not");
			DEPOT_REQUIRE(walk, slab->idle || walk->idle == 0 || i,
			    "D8: slabs at rest are not the last");
			walk->idle += slab->idle;
			if (!depot_check_slab(walk, slab))
				return false;
		}
	}
	return true;
}

/*
 * D1 for magazines: each slot met borrows its free bit; one that is set already
 * rests or was met before.  The bits are given back by a second walk with
 * @borrow false, which ends where the first one ended.
 */
static bool
depot_mark_slots(struct depot_walk *walk, const uintptr_t *bottom,
    const uintptr_t *cursor, bool borrow)
{
	DEPOT_REQUIRE(walk, (*bottom & WEIRI_MAGAZINE_TAG) != 0,
	    "L2: magazine without its tag");
	for (const uintptr_t *word = bottom + 1; word <= cursor; word++) {
		void *address = (void *)*word;
		struct weiri_slab *slab;

		if (weiri_guard_covers(address))
			address = weiri_guard_shadow_of(address);
		slab = (struct weiri_slab *)weiri_span_of(address);
		DEPOT_REQUIRE(walk,
		    slab != NULL && slab->span.tag == walk->depot->index,
		    "D1: magazine holds a foreign slot");

		size_t slot = weiri_slab_index(slab, address);

		DEPOT_REQUIRE(walk, slot != SIZE_MAX, "D1: not a slot");
		if (!borrow) {
			if (walk->borrowed == 0)
				return false;
			walk->borrowed--;
			weiri_bit_clear(slab->free_bits, slot);
			continue;
		}
		DEPOT_REQUIRE(walk, !weiri_bit_test(slab->free_bits, slot),
		    "D1: slot in two places");
		weiri_bit_set(slab->free_bits, slot);
		walk->loaded++;
		walk->borrowed++;
	}
	return true;
}

static bool
depot_mark_thread(
    struct depot_walk *walk, struct weir_local *local, bool borrow)
{
	uint32_t cell = walk->depot->cell;
	uintptr_t *cursor = local->cursor[cell];
	uintptr_t spare = local->spare[cell];

	if (cursor != WEIRI_CURSOR_DUMMY) {
		struct weiri_magazine *loaded = weiri_cursor_magazine(cursor);

		if (!depot_mark_slots(
			walk, weiri_magazine_bottom(loaded), cursor, borrow))
			return false;
		walk->withheld += borrow ? weiri_magazine_rounds(loaded) : 0;
	}
	if (weiri_spare_count(spare) == 0)
		return true;

	uintptr_t *bottom = weiri_magazine_bottom(weiri_spare_magazine(spare));

	walk->spare += borrow ? weiri_spare_count(spare) : 0;
	return depot_mark_slots(
	    walk, bottom, bottom + weiri_spare_count(spare), borrow);
}

static bool
depot_mark_shards(struct depot_walk *walk, bool borrow)
{
	struct weiri_shards *shards = weiri_shards_of(walk->depot);
	unsigned words = shards != NULL ? shards->count * WEIRI_SHARD_WORDS : 0;

	for (unsigned i = 0; i < words; i++) {
		const struct weiri_shard *shard =
		    &shards->shard[i / WEIRI_SHARD_WORDS];
		uintptr_t full = shard->full[i % WEIRI_SHARD_WORDS];
		struct weiri_magazine *m = weiri_spare_magazine(full);

		DEPOT_REQUIRE(walk,
		    weiri_spare_count(shard->empty[i % WEIRI_SHARD_WORDS]) == 0,
		    "H1: an empty magazine with slots");
		if (full == 0)
			continue;
		DEPOT_REQUIRE(walk,
		    weiri_spare_count(full) == weiri_magazine_rounds(m),
		    "H1: a full magazine that is not");
		walk->sharded += borrow ? weiri_spare_count(full) : 0;
		if (!depot_mark_slots(walk, weiri_magazine_bottom(m),
			weiri_magazine_top(m), borrow))
			return false;
	}
	return true;
}

static bool
depot_mark_all(struct depot_walk *walk, bool borrow)
{
	struct weiri_depot *depot = walk->depot;
	uint32_t full = 0, empty = 0;

	for (struct weiri_magazine *m = depot->full_list; m != NULL;
	     m = weiri_magazine_next(m), full++) {
		walk->full += borrow ? weiri_magazine_rounds(m) : 0;
		if (!depot_mark_slots(walk, weiri_magazine_bottom(m),
			weiri_magazine_top(m), borrow))
			return false;
	}
	for (struct weiri_magazine *m = depot->empty_list; m != NULL;
	     m = weiri_magazine_next(m))
		empty++;
	if (!depot_mark_shards(walk, borrow))
		return false;
	DEPOT_REQUIRE(walk, full == depot->full_count, "D2: full_count");
	DEPOT_REQUIRE(walk, empty == depot->empty_count, "D2: empty_count");
	if (depot->cell == WEIRI_CELL_NONE)
		return true;
	WEIRI_LOCAL_FOR(local)
	if (!depot_mark_thread(walk, local, borrow))
		return false;
	return true;
}

static bool
depot_walk_all(struct depot_walk *walk)
{
	struct weiri_depot *depot = walk->depot;

	if (!depot_check_slabs(walk))
		return false;

	bool sound = depot_mark_all(walk, true);
	/* The walk back may meet more; the first thing wrong is the one to
	 * tell. */
	const char *why = walk->why;

	(void)depot_mark_all(walk, false);
	walk->why = why;
	WEIR_ASSERT(walk->borrowed == 0);
	if (!sound)
		return false;
	DEPOT_REQUIRE(walk, walk->slabs == depot->slab_count, "D2: slabs");
	DEPOT_REQUIRE(walk, walk->idle == depot->idle_count, "D8: idle_count");
	DEPOT_REQUIRE(walk, walk->carved == depot->carved, "D2: carved");
	DEPOT_REQUIRE(walk, walk->resting == depot->resting, "D2: resting");
	DEPOT_REQUIRE(walk, depot->carved <= depot->limit, "D2: limit");
	/* What a fork's child lost may have been on its way out. */
	DEPOT_REQUIRE(walk,
	    !depot->verify || walk->stocked - walk->resting -
				      depot->full_slots - walk->sharded <=
				  depot->lost,
	    "D5: slots marked as stocked");
	DEPOT_REQUIRE(walk, walk->full == depot->full_slots, "D2: full_slots");
	DEPOT_REQUIRE(walk, walk->voided == depot->voided, "K2: voided");
	DEPOT_REQUIRE(walk,
	    depot->outside ==
		depot->carved - depot->resting - depot->full_slots,
	    "D2: outside");
	DEPOT_REQUIRE(walk,
	    walk->spare + (int64_t)walk->sharded == depot->spare_slots ||
		depot->wait.config.policy == WEIRI_WAIT_TURN,
	    "D6: spares");
	DEPOT_REQUIRE(walk, walk->withheld == depot->withheld, "D7: withheld");
	DEPOT_REQUIRE(walk, depot->wait.passed == 0, "W4: a waiter was passed");
	/* No slot is free twice: those in magazines were below `carved`, and
	 * their bits were clear. */
	WEIR_ASSERT(walk->resting + walk->loaded <= walk->carved);
	return true;
}

bool
weiri_depot_check(struct weiri_depot *depot, const char **why)
{
	struct depot_walk walk = {.depot = depot};
	bool ok;

	weiri_local_lock();
	weiri_mutex_lock(&depot->lock);
	ok = depot_walk_all(&walk);
	weiri_mutex_unlock(&depot->lock);
	weiri_local_unlock();
	if (why != NULL)
		*why = walk.why;
	return ok;
}
