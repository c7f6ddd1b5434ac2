/* SPDX-License-Identifier: MIT */
/*
 * shard.h - magazines of a depot within reach of some threads without its lock.
 *
 * shard.c says when a depot has shards, and what they are.
 */
#ifndef WEIRI_SHARD_H
#define WEIRI_SHARD_H

#include "slab/depot.h"

#define WEIRI_SHARD_WORDS 2
#define WEIRI_SHARDS_MAX 32u

/* One for some of the threads.  All words are atomic; 0: nothing. */
struct weiri_shard {
	WEIRI_ALIGNED(WEIRI_CACHE_LINE)
	uintptr_t full[WEIRI_SHARD_WORDS]; /* as the word of a spare */
	uintptr_t empty[WEIRI_SHARD_WORDS];
	uint64_t misses; /* gets that were served here */
};

/* Made once, and there until the depot ends. */
struct weiri_shards {
	unsigned count; /* a power of two */
	struct weiri_shard shard[];
};

WEIRI_INLINE struct weiri_shards *
weiri_shards_of(const struct weiri_depot *depot)
{
	/* Pairs with the release of who made them. */
	return __atomic_load_n(&depot->shards, __ATOMIC_ACQUIRE);
}

/* Gives the depot shards, @count of them, a power of two, or 0 for as many as
 * suit the machine; unless it has some, may have none, or there is no memory. */
WEIRI_COLD void weiri_shards_make(struct weiri_depot *depot, unsigned count);

/*
 * A full magazine whose slots are marked, if the depot verifies, goes to the
 * caller's shard; *empty receives one in exchange, or NULL.  False: there is no
 * room, and nothing happened.
 */
bool weiri_shard_put(struct weiri_depot *depot, struct weiri_magazine *full,
    struct weiri_magazine **empty);

/*
 * A full magazine, of the caller's shard or another one, marked as it came, or
 * NULL.  For one, the empty @hand, if any, is left with the depot, and a miss is
 * counted if there is one.
 */
struct weiri_magazine *weiri_shard_get(
    struct weiri_depot *depot, struct weiri_magazine *hand);

/* Locked: what lies in shards moves into the depot's lists; all of it, or what
 * was there when this was called last. */
void weiri_shards_gather(struct weiri_depot *depot, bool all);

/* Slots in full magazines of shards; exact when quiet. */
uint64_t weiri_shards_slots(const struct weiri_depot *depot);

/* Gets that did not end at a thread's own magazines. */
uint64_t weiri_depot_misses(const struct weiri_depot *depot);

/* Ends them, with their magazines; the depot is ending. */
void weiri_shards_free(struct weiri_depot *depot);

#endif /* WEIRI_SHARD_H */
