/* SPDX-License-Identifier: MIT */
/*
 * shard.c - a depot that many processors want at once.
 *
 * A trip to the depot is a lock, a push, a pop, and the lock again: some forty
 * nanoseconds on every hundredth call, which two or four processors share
 * without meeting.  Where a quarter of the trips finds the lock taken, the depot
 * gets shards: a line of memory for the threads of each processor's worth, with
 * words for two full magazines and two empty ones.
 *
 *      put:  full  -> own shard -> the depot's list, under its lock
 *      get:  own shard -> other shards -> the depot's list, its slabs
 *
 * A word is filled by compare-and-exchange from 0 and emptied by exchange, so
 * nobody waits for anybody, and any thread can take what it finds: a full
 * magazine in a shard is a spare (depot.c) that belongs to no thread.  It counts
 * as one, is taken by trims and at limits as one, and ages as one.
 *
 * A depot without contention has none of it.  Shards stay once they were made:
 * they are 64 bytes each, and what lies in them goes back with everything else
 * that idles.
 *
 * Invariants:
 *
 *   H1  Magazines in `full` words hold as many slots as they have rounds, marked
 *       as stocked where the depot verifies; those in `empty` words hold none.
 *   H2  spare_slots of the depot contains the slots of the full words.
 *   H3  Who needs a slot and finds none anywhere has looked into all shards.
 */
#include "slab/shard.h"

#include "base/bits.h"
#include "slab/stock.h"

#define SHARDS_BYTES(count) \
	(sizeof(struct weiri_shards) + (count) * sizeof(struct weiri_shard))

/* ---- words -------------------------------------------------------------- */

static bool
shard_fill(uintptr_t words[WEIRI_SHARD_WORDS], uintptr_t value)
{
	for (unsigned i = 0; i < WEIRI_SHARD_WORDS; i++) {
		uintptr_t nothing = 0;

		if (WEIRI_LOAD(&words[i]) == 0 &&
		    __atomic_compare_exchange_n(&words[i], &nothing, value,
			false, __ATOMIC_RELEASE, __ATOMIC_RELAXED))
			return true;
	}
	return false;
}

/* What some word held, or 0. */
static uintptr_t
shard_empty(uintptr_t words[WEIRI_SHARD_WORDS])
{
	for (unsigned i = 0; i < WEIRI_SHARD_WORDS; i++) {
		uintptr_t value;

		if (WEIRI_LOAD(&words[i]) == 0)
			continue;
		value = __atomic_exchange_n(&words[i], 0, __ATOMIC_ACQUIRE);
		if (value != 0)
			return value;
	}
	return 0;
}

/* The calling thread's.  Local states are aligned to their size. */
static unsigned
shard_own(const struct weiri_shards *shards)
{
	return (unsigned)((uintptr_t)weiri_local() /
			  sizeof(struct weir_local)) &
	       (shards->count - 1);
}

/* ---- trips -------------------------------------------------------------- */

bool
weiri_shard_put(struct weiri_depot *depot, struct weiri_magazine *full,
    struct weiri_magazine **empty)
{
	struct weiri_shards *shards = weiri_shards_of(depot);
	unsigned rounds = weiri_magazine_rounds(full);
	struct weiri_shard *shard;

	if (WEIR_LIKELY(shards == NULL))
		return false;
	shard = &shards->shard[shard_own(shards)];
	/* Counted before it can be taken: never too few. */
	weiri_stock_spares(depot, rounds);
	if (!shard_fill(shard->full, weiri_spare_word(full, rounds))) {
		weiri_stock_spares(depot, -(int64_t)rounds);
		return false;
	}
	*empty = weiri_spare_magazine(shard_empty(shard->empty));
	return true;
}

/* Of the caller's shard, else of the next that has one. */
static struct weiri_magazine *
shard_take(struct weiri_depot *depot, struct weiri_shards *shards, unsigned own)
{
	for (unsigned i = 0; i < shards->count; i++) {
		struct weiri_shard *shard =
		    &shards->shard[(own + i) & (shards->count - 1)];
		uintptr_t word = shard_empty(shard->full);

		if (word != 0) {
			weiri_stock_spares(
			    depot, -(int64_t)weiri_spare_count(word));
			return weiri_spare_magazine(word);
		}
	}
	return NULL;
}

struct weiri_magazine *
weiri_shard_get(struct weiri_depot *depot, struct weiri_magazine *hand)
{
	struct weiri_shards *shards = weiri_shards_of(depot);
	struct weiri_magazine *full;
	unsigned own;

	if (WEIR_LIKELY(shards == NULL))
		return NULL;
	own = shard_own(shards);
	full = shard_take(depot, shards, own);
	if (full == NULL || hand == NULL)
		return full;
	__atomic_fetch_add(&shards->shard[own].misses, 1, __ATOMIC_RELAXED);
	WEIRI_BUMP(&depot->window_trips, 1);
	if (!shard_fill(shards->shard[own].empty, (uintptr_t)hand)) {
		weiri_mutex_lock(&depot->lock);
		weiri_stock_push_empty(depot, hand);
		weiri_mutex_unlock(&depot->lock);
	}
	return full;
}

/* ---- all of them ----------------------------------------------------------- */

/* Empties a word, or notes that it was seen; what it held, or 0. */
static uintptr_t
shard_gather(uintptr_t *word, bool all)
{
	uintptr_t seen = WEIRI_LOAD(word);
	bool take = all || (seen & WEIRI_SPARE_AGED) != 0;

	if (seen == 0 || !__atomic_compare_exchange_n(word, &seen,
			     take ? 0 : seen | WEIRI_SPARE_AGED, false,
			     __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
		return 0;
	return take ? seen : 0;
}

static void
shards_gather_one(
    struct weiri_depot *depot, struct weiri_shard *shard, bool all)
{
	for (unsigned i = 0; i < WEIRI_SHARD_WORDS; i++) {
		uintptr_t full = shard_gather(&shard->full[i], all);
		uintptr_t empty = shard_gather(&shard->empty[i], all);

		if (full != 0) {
			weiri_stock_spares(
			    depot, -(int64_t)weiri_spare_count(full));
			weiri_stock_list_full(
			    depot, weiri_spare_magazine(full));
		}
		if (empty != 0)
			weiri_stock_push_empty(
			    depot, weiri_spare_magazine(empty));
	}
}

void
weiri_shards_gather(struct weiri_depot *depot, bool all)
{
	struct weiri_shards *shards = weiri_shards_of(depot);

	if (shards == NULL)
		return;
	for (unsigned i = 0; i < shards->count; i++)
		shards_gather_one(depot, &shards->shard[i], all);
	weiri_stock_update(depot);
}

uint64_t
weiri_shards_slots(const struct weiri_depot *depot)
{
	const struct weiri_shards *shards = weiri_shards_of(depot);
	uint64_t slots = 0;

	for (unsigned i = 0; shards != NULL && i < shards->count; i++)
		for (unsigned j = 0; j < WEIRI_SHARD_WORDS; j++)
			slots += weiri_spare_count(
			    WEIRI_LOAD(&shards->shard[i].full[j]));
	return slots;
}

uint64_t
weiri_depot_misses(const struct weiri_depot *depot)
{
	const struct weiri_shards *shards = weiri_shards_of(depot);
	uint64_t misses = depot->misses;

	for (unsigned i = 0; shards != NULL && i < shards->count; i++)
		misses += WEIRI_LOAD(&shards->shard[i].misses);
	return misses;
}

/* ---- from the first to the last -------------------------------------------- */

static unsigned
shards_suiting(void)
{
	unsigned processors = weiri_os_processors();
	unsigned count = 2;

	while (count < processors && count < WEIRI_SHARDS_MAX)
		count *= 2;
	return count;
}

void
weiri_shards_make(struct weiri_depot *depot, unsigned count)
{
	struct weiri_shards *shards, *seen = NULL;

	/* Threads that wait are handed slots, not magazines. */
	if (depot->cell == WEIRI_CELL_NONE || weiri_shards_of(depot) != NULL ||
	    depot->wait.config.policy == WEIRI_WAIT_TURN)
		return;
	if (count == 0)
		count = shards_suiting();
	shards = weiri_meta_alloc(SHARDS_BYTES(count));
	if (shards == NULL)
		return;
	shards->count = count;
	if (!__atomic_compare_exchange_n(&depot->shards, &seen, shards, false,
		__ATOMIC_RELEASE, __ATOMIC_RELAXED))
		weiri_meta_free(shards, SHARDS_BYTES(count));
}

void
weiri_shards_free(struct weiri_depot *depot)
{
	struct weiri_shards *shards = weiri_shards_of(depot);

	if (shards == NULL)
		return;
	weiri_mutex_lock(&depot->lock);
	weiri_shards_gather(depot, true);
	weiri_mutex_unlock(&depot->lock);
	WEIRI_STORE(&depot->shards, NULL);
	weiri_meta_free(shards, SHARDS_BYTES(shards->count));
}
