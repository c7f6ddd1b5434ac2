/* SPDX-License-Identifier: MIT */
/*
 * region_place.c - regions whose first block is the caller's memory.
 *
 * Such a block is not charged and not given back.  No page map knows it, so the
 * regions that lie in one are in a table by their address: destroy looks there
 * before it reads what it was given, and so does whoever lists live regions.
 *
 *     buffer
 *    +---------------+------------------+---------+------+
 *    | weiri_region  | link: in a chain | objects | room |
 *    +---------------+------------------+---------+------+
 *
 * One lock, held for a few stores, covers the table.
 */
#include "pools/region.h"

#include "os/os.h"

#define PLACE_CHAINS 64u

static struct weiri_mutex place_lock = WEIRI_MUTEX_INITIALIZER;
static struct weiri_list place_chain[PLACE_CHAINS];

/* A chain that was never used is all zero. */
static struct weiri_list *
place_chain_of(const struct weiri_region *region)
{
	uint64_t hash =
	    (uint64_t)(uintptr_t)region * UINT64_C(0x9e3779b97f4a7c15);
	struct weiri_list *chain = &place_chain[hash >> 58];

	if (chain->next == NULL)
		weiri_list_init(chain);
	return chain;
}

static_assert(PLACE_CHAINS == 1u << (64 - 58), "six bits choose a chain");

static struct weiri_region_placed *
place_of(struct weiri_region *region)
{
	return (struct weiri_region_placed *)(void *)(region + 1);
}

void
weiri_region_place_enter(struct weiri_region *region)
{
	weiri_mutex_lock(&place_lock);
	weiri_list_push(place_chain_of(region), &place_of(region)->link);
	weiri_mutex_unlock(&place_lock);
}

void
weiri_region_place_leave(struct weiri_region *region)
{
	weiri_mutex_lock(&place_lock);
	weiri_list_remove(&place_of(region)->link);
	weiri_mutex_unlock(&place_lock);
}

bool
weiri_region_is_placed(const struct weiri_region *region)
{
	const struct weiri_list *chain;
	bool found = false;

	weiri_mutex_lock(&place_lock);
	chain = place_chain_of(region);
	for (const struct weiri_list *node = chain->next;
	     node != chain && !found; node = node->next)
		found = (uintptr_t)node == (uintptr_t)(region + 1);
	weiri_mutex_unlock(&place_lock);
	return found;
}

void
weiri_region_place_walk(
    void (*visit)(struct weiri_region *region, void *context), void *context)
{
	weiri_mutex_lock(&place_lock);
	for (unsigned i = 0; i < PLACE_CHAINS; i++) {
		if (place_chain[i].next == NULL)
			continue;
		WEIRI_LIST_FOR(node, &place_chain[i])
		{
			struct weiri_region_placed *placed = WEIRI_CONTAINER_OF(
			    node, struct weiri_region_placed, link);

			visit(
			    (struct weiri_region *)(void *)placed - 1, context);
		}
	}
	weiri_mutex_unlock(&place_lock);
}

void
weiri_region_place_fork_lock(void)
{
	weiri_mutex_lock(&place_lock);
}

void
weiri_region_place_fork_unlock(void)
{
	weiri_mutex_unlock(&place_lock);
}
