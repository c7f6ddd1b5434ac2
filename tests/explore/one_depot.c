/* SPDX-License-Identifier: MIT */
/*
 * one_depot.c - see one_depot.h.
 */
#include "explore.h"
#include "one_depot.h"
#include "slab/cursor.h"
#include "slab/local.h"

#define SLOT_BYTES ((size_t)64)

struct weiri_depot depot;
struct weir_quota *depot_quota;
void *depot_slot[4];
void *depot_kept[EXPLORE_THREADS];

void
depot_make(size_t limit, size_t rounds, size_t slab_slots,
    const struct weiri_wait_config *wait, bool verify)
{
	struct weiri_depot_config config = {
	    .kind = "cache",
	    .name = "explored",
	    .slot_bytes = SLOT_BYTES,
	    .slot_align = 64,
	    .slab_bytes = slab_slots > 0 ? DEPOT_SLAB_BYTES
					 : DEPOT_FULL_LIMIT * SLOT_BYTES,
	    .slab_slots = slab_slots,
	    .rounds = rounds,
	    .limit = limit,
	    .state_bytes = verify,
	    .verify = verify,
	    .wait = wait,
	    .quota = depot_quota,
	};

	if (weiri_depot_init(&depot, &config) != 0)
		explore_fail("no depot");
}

void
depot_quota_make(void)
{
	if (weir_quota_create("one slab", DEPOT_SLAB_BYTES, &depot_quota) != 0)
		explore_fail("no quota");
}

void *
depot_get_within(uint64_t timeout_ns)
{
	unsigned *slot = weiri_depot_get_within(&depot, timeout_ns);

	if (slot != NULL)
		++*slot;
	return slot;
}

void *
depot_get(void)
{
	unsigned *slot = weiri_depot_get(&depot);

	if (slot != NULL)
		++*slot;
	return slot;
}

void
depot_put(void *slot)
{
	if (slot == NULL)
		return;
	++*(unsigned *)slot;
	weiri_depot_put(&depot, slot);
}

void
depot_get_put(void)
{
	depot_put(depot_get());
}

void
depot_check(size_t out)
{
	struct weiri_depot_stats stats;
	const char *why = NULL;

	if (!weiri_depot_check(&depot, &why))
		explore_fail("the depot is not sound: %s", why);
	weiri_depot_stats(&depot, &stats);
	if (stats.in_use != out)
		explore_fail("%lu slots are out, not %zu",
		    (unsigned long)stats.in_use, out);
}

void
depot_check_none_out(void)
{
	depot_check(0);
}

void
depot_own(void)
{
	(void)weiri_local_own();
}
