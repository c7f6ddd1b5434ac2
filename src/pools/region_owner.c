/* SPDX-License-Identifier: MIT */
/*
 * region_owner.c - threads: whose a region is, and handing it over.
 *
 * The owner is told by its thread state.  Its counters of the kind are the
 * region's, too, so that counting needs no atomic addition; when another thread
 * uses the region, the first thing it does by a slow call is to put its own
 * there.  The inline calls look at none of this.
 *
 * A thread without a state of its own, late in its life or without memory for
 * one, owns regions like any other that has none: such threads are not told
 * apart.
 */
#include "pools/region.h"

#include "guard/fault.h"
#include "guard/guard.h"

#ifdef WEIR_DEBUG
#define OWNER_DEBUG (WEIR_DEBUG >= 1)
#else
#define OWNER_DEBUG 0
#endif

/* Asked only where the owner is another thread: a correct program never is. */
#define OWNER_CHECKED (OWNER_DEBUG || weiri_guard_is_full())

static WEIRI_COLD WEIRI_NORETURN void
owner_fault(const struct weiri_region *region, const char *detail)
{
	weiri_fault(&(struct weiri_fault_site){
	    .fault_class = WEIR_FAULT_WRONG_THREAD,
	    .pool_kind = "region",
	    .pool_name = weiri_region_kind_name(region->kind),
	    .address = region,
	    .detail = detail,
	});
}

static void
owner_set(struct weiri_region *region)
{
	bool shared;

	region->counts = weiri_region_kind_line(region->kind, &shared);
	region->attention &= ~(uint32_t)(WEIRI_IS_SHARED | WEIRI_IS_HANDED_OFF);
	if (shared)
		region->attention |= WEIRI_IS_SHARED;
	WEIRI_STORE(&region->owner, weiri_local());
}

void
weiri_region_come(struct weiri_region *region)
{
	/* A thread that never used weir has no state yet, but may have one. */
	if (weiri_local() == &weiri_local_none)
		(void)weiri_local_own();
	if (region->owner == weiri_local())
		return;
	if (OWNER_CHECKED) {
		if (region->attention & WEIRI_IS_HANDED_OFF &&
		    WEIR_DETECTOR(region_handed_off))
			owner_fault(
			    region, "%p was handed off and not taken over");
		if (region->owner != &weiri_local_none &&
		    weiri_local() != &weiri_local_none &&
		    WEIR_DETECTOR(region_other_owner))
			owner_fault(region, "%p is another thread's");
	}
	owner_set(region);
}

void
weiri_region_expect_owned(const struct weiri_region *region)
{
	if (region->owner != weiri_local() &&
	    region->owner != &weiri_local_none &&
	    weiri_local() != &weiri_local_none && OWNER_CHECKED &&
	    WEIR_DETECTOR(region_above_other_owner))
		owner_fault(region, "%p is above and another thread's");
}

void
weir_region_hand_off(struct weir_region *bump)
{
	struct weiri_region *root = weiri_region_of(bump);

	weiri_region_expect_live(root, "%p, handed off, was destroyed");
	for (struct weiri_region *region = root; region != NULL;
	     region = weiri_region_next(root, region)) {
		weiri_region_here(region);
		region->attention |= WEIRI_IS_HANDED_OFF;
		WEIRI_STORE(&region->owner, NULL);
	}
}

void
weir_region_take_over(struct weir_region *bump)
{
	struct weiri_region *root = weiri_region_of(bump);

	weiri_region_expect_live(root, "%p, taken over, was destroyed");
	if (root->owner != NULL && root->owner != weiri_local() &&
	    WEIR_DETECTOR(region_take_over))
		owner_fault(root, "%p, taken over, is another thread's");
	if (weiri_local() == &weiri_local_none)
		(void)weiri_local_own();
	for (struct weiri_region *region = root; region != NULL;
	     region = weiri_region_next(root, region))
		owner_set(region);
}
