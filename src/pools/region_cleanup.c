/* SPDX-License-Identifier: MIT */
/*
 * region_cleanup.c - functions that run when a region ends.
 *
 * A handle is 32 bytes among the region's objects.  Its `run` says what state
 * it is in, by the function itself or by one of three marks:
 *
 *     reserve ---> reserved --arm--> armed --run--> spent
 *                      |               |
 *                      +----cancel-----+--> cancelled --> next add or reserve
 *
 * Armed handles are on a doubly linked list, newest first, so cancel takes a
 * few stores wherever the handle stands; cancelled ones are used again, so a
 * long-lived region that adds and cancels does not grow.  Spent handles are
 * not: their owner cannot know that the cleanup ran and may cancel it.
 */
#include "pools/region.h"

#include "guard/fault.h"

#define REGION_CLEANUP_DEAD "cleanup for %p, which was destroyed"
#define REGION_CLEANUP_NO_RUN "a cleanup without a function"

static WEIRI_COLD WEIRI_NORETURN void
region_cleanup_fault(const struct weiri_region *region,
    const struct weir_region_cleanup *cleanup, const char *detail)
{
	weiri_fault(&(struct weiri_fault_site){
	    .fault_class = WEIR_FAULT_BAD_ARGUMENT,
	    .pool_kind = "region",
	    .pool_name = weiri_region_kind_name(region->kind),
	    .address = cleanup,
	    .detail = detail,
	});
}

static inline struct weir_region_cleanup *
region_cleanup_take(struct weiri_region *region)
{
	struct weir_region_cleanup *cleanup = region->cancelled;

	if (WEIR_LIKELY(cleanup == NULL))
		return weir_region_alloc(&region->bump, sizeof(*cleanup));
	region->cancelled = cleanup->context;
	return cleanup;
}

static inline void
region_cleanup_push(struct weiri_region *region,
    struct weir_region_cleanup *cleanup, weir_region_cleanup_fn run,
    void *context)
{
	cleanup->run = run;
	cleanup->context = context;
	weiri_list_push(&region->cleanups, &cleanup->link);
}

struct weir_region_cleanup *
weir_region_cleanup_add(
    struct weir_region *bump, weir_region_cleanup_fn run, void *context)
{
	struct weiri_region *region = weiri_region_of(bump);
	struct weir_region_cleanup *cleanup;

	weiri_region_expect_live(region, REGION_CLEANUP_DEAD);
	if (WEIR_UNLIKELY(run == NULL))
		region_cleanup_fault(region, NULL, REGION_CLEANUP_NO_RUN);
	cleanup = region_cleanup_take(region);
	if (WEIR_LIKELY(cleanup != NULL))
		region_cleanup_push(region, cleanup, run, context);
	return cleanup;
}

struct weir_region_cleanup *
weir_region_cleanup_reserve(struct weir_region *bump)
{
	struct weiri_region *region = weiri_region_of(bump);
	struct weir_region_cleanup *cleanup;

	weiri_region_expect_live(region, REGION_CLEANUP_DEAD);
	cleanup = region_cleanup_take(region);
	if (WEIR_LIKELY(cleanup != NULL))
		cleanup->run = WEIRI_CLEANUP_RESERVED;
	return cleanup;
}

void
weir_region_cleanup_arm(struct weir_region *bump,
    struct weir_region_cleanup *cleanup, weir_region_cleanup_fn run,
    void *context)
{
	struct weiri_region *region = weiri_region_of(bump);

	weiri_region_expect_live(region, REGION_CLEANUP_DEAD);
	if (WEIR_UNLIKELY(run == NULL))
		region_cleanup_fault(region, cleanup, REGION_CLEANUP_NO_RUN);
	if (WEIR_UNLIKELY(cleanup->run != WEIRI_CLEANUP_RESERVED))
		region_cleanup_fault(region, cleanup,
		    "cleanup %p is armed but was not reserved");
	region_cleanup_push(region, cleanup, run, context);
}

void
weir_region_cleanup_cancel(
    struct weir_region *bump, struct weir_region_cleanup *cleanup)
{
	struct weiri_region *region = weiri_region_of(bump);

	if (cleanup == NULL)
		return;
	weiri_region_expect_live(region, REGION_CLEANUP_DEAD);
	if (cleanup->run == WEIRI_CLEANUP_SPENT)
		return;
	if (WEIR_UNLIKELY(cleanup->run == WEIRI_CLEANUP_CANCELLED))
		region_cleanup_fault(
		    region, cleanup, "cleanup %p is cancelled twice");
	if (weiri_region_cleanup_is_armed(cleanup))
		weiri_list_remove(&cleanup->link);
	cleanup->run = WEIRI_CLEANUP_CANCELLED;
	cleanup->context = region->cancelled;
	region->cancelled = cleanup;
}

void
weiri_region_cleanups_run(struct weiri_region *region)
{
	struct weiri_list *head = &region->cleanups;

	region->ending = true;
	while (head->next != head) {
		struct weir_region_cleanup *cleanup = WEIRI_CONTAINER_OF(
		    head->next, struct weir_region_cleanup, link);
		weir_region_cleanup_fn run = cleanup->run;

		weiri_list_remove(&cleanup->link);
		cleanup->run = WEIRI_CLEANUP_SPENT;
		run(cleanup->context);
	}
	region->ending = false;
}
