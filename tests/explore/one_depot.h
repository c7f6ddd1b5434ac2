/* SPDX-License-Identifier: MIT */
/*
 * one_depot.h - the depot of a scenario, and what its threads do with it.
 *
 * Each scenario has a process of its own, so one depot serves all.  Slots are
 * written by whoever has them: a slot that two threads have, or one that comes
 * without what its last owner wrote, is a race.
 */
#ifndef EXPLORE_ONE_DEPOT_H
#define EXPLORE_ONE_DEPOT_H

#include "slab/depot.h"
#include "slab/quota.h"

#define DEPOT_FULL_LIMIT 512 /* least that leaves threads a magazine */
#define DEPOT_SLAB_BYTES ((size_t)4096)

extern struct weiri_depot depot;
extern struct weir_quota *depot_quota;    /* of depot_make(), or NULL */
extern void *depot_slot[4];               /* on their way between threads */
extern void *depot_kept[EXPLORE_THREADS]; /* by thread, until the check */

/* @slab_slots: 0 for one slab of as many as the largest limit. */
void depot_make(size_t limit, size_t rounds, size_t slab_slots,
    const struct weiri_wait_config *wait, bool verify);

/* A quota of one slab, which the next depot takes its memory from. */
void depot_quota_make(void);

void *depot_get(void);
void *depot_get_within(uint64_t timeout_ns);
void depot_put(void *slot); /* or NULL */
void depot_get_put(void);

/* Sound, and so many slots are not in it. */
void depot_check(size_t out);
void depot_check_none_out(void);

/* The calling thread's state is there from now on. */
void depot_own(void);

#endif /* EXPLORE_ONE_DEPOT_H */
