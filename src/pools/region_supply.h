/* SPDX-License-Identifier: MIT */
/*
 * region_supply.h - where regions have their blocks from, and who sees to those
 * that nobody wants.
 */
#ifndef WEIRI_REGION_SUPPLY_H
#define WEIRI_REGION_SUPPLY_H

#include "guard/guard.h"
#include "pools/region_size.h"
#include "slab/depot.h"
#include "watch/registry.h"

struct weiri_region;
struct weiri_region_block;
struct weiri_region_kind;
struct weiri_region_pages;

#define WEIRI_REGION_SUPPLIES (WEIRI_REGION_FIRSTS + WEIRI_REGION_DEPOTS + 1)

#define WEIRI_REGION_DEPOT_NAME 32

/* A depot of first blocks. */
struct weiri_region_first {
	struct weiri_depot depot;
	char name[WEIRI_REGION_DEPOT_NAME];
};

/*
 * The depots behind all regions; made by the first region, kept for ever.
 */
struct weiri_region_supply {
	struct weiri_region_first *first[WEIRI_REGION_FIRSTS]; /* atomic; NULL:
						* nobody wanted it yet */
	struct weiri_depot block[WEIRI_REGION_DEPOTS];
	struct weiri_depot pages; /* struct weiri_region_pages */
	struct weiri_pool pool;   /* internal: trim */
	char name[WEIRI_REGION_DEPOTS][WEIRI_REGION_DEPOT_NAME];

	/* Of region_idle.c. */
	bool stirred;                         /* a depot has looks to come */
	bool looking;                         /* a lock of what follows looks */
	uint8_t looks[WEIRI_REGION_SUPPLIES]; /* to come; atomic */
	uint64_t misses[WEIRI_REGION_SUPPLIES]; /* at the last look */
	size_t given; /* bytes since the first look of these */
};

/* NULL until weiri_region_supply_start() returned 0 once. */
extern struct weiri_region_supply *weiri_region_supply
    __attribute__((visibility("hidden")));
/* weiri_near_base() from then on; before, far from any address. */
extern uintptr_t weiri_region_near_base __attribute__((visibility("hidden")));

/*
 * For a thread past weiri_region_supply_start(), whose acquire covers what the
 * pointer leads to, or that was handed a region made by such a thread.
 */
WEIRI_INLINE struct weiri_region_supply *
weiri_region_supply_now(void)
{
	return WEIRI_LOAD(&weiri_region_supply);
}

extern const struct weiri_depot_hooks weiri_region_first_hooks
    __attribute__((visibility("hidden")));

/* Are the slots of @depot first blocks? */
WEIRI_INLINE bool
weiri_region_depot_is_first(const struct weiri_depot *depot)
{
	return depot->hooks == &weiri_region_first_hooks;
}

/* Or those of blocks that come later? */
WEIRI_INLINE bool
weiri_region_depot_is_later(const struct weiri_depot *depot)
{
	const struct weiri_region_supply *supply = weiri_region_supply_now();

	return supply != NULL && (uintptr_t)depot - (uintptr_t)supply->block <
				     sizeof(supply->block);
}

/* Are the slots of @depot regions, or blocks of them? */
WEIRI_INLINE bool
weiri_region_has_depot(const struct weiri_depot *depot)
{
	return weiri_region_depot_is_first(depot) ||
	       weiri_region_depot_is_later(depot);
}

/* The depot of first blocks of @bin; NULL: there is none. */
WEIRI_INLINE struct weiri_depot *
weiri_region_first_depot(const struct weiri_region_supply *supply, unsigned bin)
{
	struct weiri_region_first *first =
	    __atomic_load_n(&supply->first[bin], __ATOMIC_ACQUIRE);

	return first != NULL ? &first->depot : NULL;
}

/* 0 or -ENOMEM.  Safe from any number of threads. */
int weiri_region_supply_start(void);

/* The same, made if need be; NULL without memory.  With @urgent, weir's pools and
 * the program's hook are asked for some. */
struct weiri_depot *weiri_region_first_make(unsigned bin, bool urgent);

/* Of all depots, @index below WEIRI_REGION_SUPPLIES; NULL: there is none. */
struct weiri_depot *weiri_region_supply_depot(
    struct weiri_region_supply *supply, unsigned index);

/* A first block, whose header is that of a region that ended, or zero. */
struct weiri_region *weiri_region_first_take(unsigned bin);
void weiri_region_first_give(struct weiri_region *region);

/* Another block with its header filled but for `older`; NULL without memory. */
struct weiri_region_block *weiri_region_block_take(unsigned block_class);
void weiri_region_block_give(struct weiri_region_block *block);

/* Pages of their own; NULL without memory. */
struct weiri_region_pages *weiri_region_pages_take(size_t bytes, size_t align);
void weiri_region_pages_give(
    struct weiri_region_pages *pages, enum weiri_guard_how how);

/* True when @region, any pointer, is where a first block may start. */
bool weiri_region_in_block(const struct weiri_region *region);

/* ---- blocks out of use (region_idle.c) ----------------------------------- */

/* A kind takes no first blocks of @bin any more. */
void weiri_region_idle_moved(unsigned bin);

/* A kind that took them before asks again, as regions of before may have ended
 * since; false when it need not come back: none are left, or others take them. */
bool weiri_region_idle_left(unsigned bin);

/* A region of @kind ended or was reset and gave back @bytes in blocks. */
void weiri_region_idle_gave(
    const struct weiri_region_kind *kind, uint64_t bytes);

/* Gives back a step of what is idle since.  Not within a call of a depot. */
void weiri_region_idle_look(void);

/* ---- the caller's memory (region_place.c) -------------------------------- */

void weiri_region_place_enter(struct weiri_region *region);
void weiri_region_place_leave(struct weiri_region *region);
/* True when @region, any pointer, is a live region in the caller's memory. */
bool weiri_region_is_placed(const struct weiri_region *region);
/* Calls @visit for each, under a lock that those calls take. */
void weiri_region_place_walk(
    void (*visit)(struct weiri_region *region, void *context), void *context);
void weiri_region_place_fork_lock(void);
void weiri_region_place_fork_unlock(void);

#endif /* WEIRI_REGION_SUPPLY_H */
