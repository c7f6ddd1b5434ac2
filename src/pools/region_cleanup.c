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
 * long-lived region that adds and cancels does not grow, nor one that others
 * are merged into.  Spent handles are not: their owner cannot know that the
 * cleanup ran and may cancel it.
 *
 * Savepoints stand on the same list (region_mark.c).
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
	if (WEIR_LIKELY(region->cancelled == NULL))
		return weir_region_alloc(
		    &region->bump, sizeof(struct weir_region_cleanup));
	return weiri_region_cancelled_pop(&region->cancelled);
}

static inline void
region_cleanup_push(struct weiri_region *region,
    struct weir_region_cleanup *cleanup, weir_region_cleanup_fn run,
    void *context)
{
	struct weiri_list *head = &region->cleanups, *next = head->next;

	cleanup->run = run;
	cleanup->context = context;
	/* As weiri_list_push(); one by one, because to join two words for one
	 * store takes longer than two stores. */
	WEIRI_STORE(&cleanup->link.next, next);
	WEIRI_STORE(&cleanup->link.prev, head);
	next->prev = &cleanup->link;
	head->next = &cleanup->link;
	region->attention |= WEIRI_HAS_CLEANUPS;
}

static WEIRI_NOINLINE struct weir_region_cleanup *
region_cleanup_add_slow(
    struct weiri_region *region, weir_region_cleanup_fn run, void *context)
{
	struct weir_region_cleanup *cleanup;

	weiri_region_expect_live(region, REGION_CLEANUP_DEAD);
	weiri_region_here(region);
	if (WEIR_UNLIKELY(run == NULL) && WEIR_DETECTOR(cleanup_no_run))
		region_cleanup_fault(region, NULL, REGION_CLEANUP_NO_RUN);
	cleanup = region_cleanup_take(region);
	if (WEIR_LIKELY(cleanup != NULL))
		region_cleanup_push(region, cleanup, run, context);
	return cleanup;
}

/* Whatever is not in order goes the slow way as the last step, so that the
 * common case needs no frame. */
struct weir_region_cleanup *
weir_region_cleanup_add(
    struct weir_region *bump, weir_region_cleanup_fn run, void *context)
{
	struct weiri_region *region = weiri_region_of(bump);
	struct weir_region_cleanup *cleanup = (void *)bump->next;
	uintptr_t end = (uintptr_t)cleanup + sizeof(*cleanup);

	if (WEIR_UNLIKELY(!weiri_region_is_live(region)) ||
	    WEIR_UNLIKELY(run == NULL) ||
	    WEIR_UNLIKELY(region->cancelled != NULL) ||
	    WEIR_UNLIKELY(end > (uintptr_t)bump->end))
		return region_cleanup_add_slow(region, run, context);
	bump->next = (char *)(cleanup + 1);
	region_cleanup_push(region, cleanup, run, context);
	return cleanup;
}

struct weir_region_cleanup *
weir_region_cleanup_reserve(struct weir_region *bump)
{
	struct weiri_region *region = weiri_region_of(bump);
	struct weir_region_cleanup *cleanup;

	weiri_region_expect_live(region, REGION_CLEANUP_DEAD);
	weiri_region_here(region);
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
	weiri_region_here(region);
	if (WEIR_UNLIKELY(run == NULL) && WEIR_DETECTOR(cleanup_arm_no_run))
		region_cleanup_fault(region, cleanup, REGION_CLEANUP_NO_RUN);
	if (WEIR_UNLIKELY(cleanup->run != WEIRI_CLEANUP_RESERVED) &&
	    WEIR_DETECTOR(cleanup_not_reserved))
		region_cleanup_fault(region, cleanup,
		    "cleanup %p is armed but was not reserved");
	region_cleanup_push(region, cleanup, run, context);
}

/* It does nothing and is the region's to use again. */
static void
region_cleanup_retire(
    struct weiri_region *region, struct weir_region_cleanup *cleanup)
{
	cleanup->run = WEIRI_CLEANUP_CANCELLED;
	weiri_region_cancelled_push(&region->cancelled, cleanup);
	region->attention |= WEIRI_HAS_CLEANUPS;
}

void
weir_region_cleanup_cancel(
    struct weir_region *bump, struct weir_region_cleanup *cleanup)
{
	struct weiri_region *region = weiri_region_of(bump);

	if (cleanup == NULL)
		return;
	weiri_region_expect_live(region, REGION_CLEANUP_DEAD);
	weiri_region_here(region);
	if (cleanup->run == WEIRI_CLEANUP_SPENT)
		return;
	if (WEIR_UNLIKELY(cleanup->run == WEIRI_CLEANUP_CANCELLED) &&
	    WEIR_DETECTOR(cleanup_cancelled_twice))
		region_cleanup_fault(
		    region, cleanup, "cleanup %p is cancelled twice");
	if (weiri_region_cleanup_is_armed(cleanup))
		weiri_list_remove(&cleanup->link);
	region_cleanup_retire(region, cleanup);
}

/*
 * A handle ends with the region it lies in, so the cleanup gets another; which
 * also serves when both are the same, since the old one is used again.
 */
struct weir_region_cleanup *
weir_region_cleanup_transfer(struct weir_region *bump,
    struct weir_region_cleanup *cleanup, struct weir_region *bump_to)
{
	struct weiri_region *region = weiri_region_of(bump);
	struct weiri_region *to = weiri_region_of(bump_to);
	struct weir_region_cleanup *moved;

	weiri_region_expect_live(region, REGION_CLEANUP_DEAD);
	weiri_region_here(region);
	weiri_region_expect_live(to, REGION_CLEANUP_DEAD);
	weiri_region_here(to);
	if (WEIR_UNLIKELY(!weiri_region_cleanup_is_armed(cleanup)) &&
	    WEIR_DETECTOR(cleanup_moved_unarmed))
		region_cleanup_fault(
		    region, cleanup, "cleanup %p is moved but is not in force");
	moved = region_cleanup_take(to);
	if (WEIR_UNLIKELY(moved == NULL))
		return NULL;
	weiri_list_remove(&cleanup->link);
	region_cleanup_push(to, moved, cleanup->run, cleanup->context);
	region_cleanup_retire(region, cleanup);
	return moved;
}
