/* SPDX-License-Identifier: MIT */
/*
 * region_life.h - how regions and what is in them end: cleanups, scopes,
 * savepoints, and moving to another region to live on.
 *
 * Part of weir/region.h, which includes it.
 */
#ifndef WEIR_REGION_LIFE_H
#define WEIR_REGION_LIFE_H

#include <weir/region.h>

WEIR_BEGIN_DECLS

/**
 * weir_region_cleanup_fn - gives back what a region does not own.
 * @context: the pointer it was armed with.
 *
 * Runs on the thread that resets, rewinds or destroys the region, while every
 * object is still there.  It may allocate from the region, add cleanups and
 * regions below (they end before the ones that were there), cancel others, and
 * use or destroy other regions, those beside its own included.  It must not
 * reset, rewind, move or destroy its own region or one above (a fault), nor
 * leave by longjmp.
 */
typedef void (*weir_region_cleanup_fn)(void *context);

/** A registered cleanup; lives in its region. */
struct weir_region_cleanup;

/**
 * weir_region_cleanup_add() - have a function called at the region's end.
 * @region:  a live region.
 * @run:     the function.
 * @context: handed to it.
 *
 * Where failing after the resource was acquired would be awkward, reserve
 * first and arm afterwards.
 *
 * Returns:   a handle to cancel it with, or NULL.
 * Ownership: the handle is the region's and ends with the cleanup's run.
 * Threads:   the region's owner.
 * Cost:      weir_region_alloc() of 32 bytes; cancelled handles are reused.
 * Errors:    NULL as weir_region_alloc(): @run will not be called.  @run NULL
 *            is a fault (weir/guard.h).
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD struct weir_region_cleanup *weir_region_cleanup_add(
    struct weir_region *region, weir_region_cleanup_fn run, void *context)
    WEIR_NOEXCEPT;

/**
 * weir_region_cleanup_reserve() - make sure that a cleanup can be added.
 * @region: a live region.
 *
 *     struct weir_region_cleanup *cleanup =
 *         weir_region_cleanup_reserve(region);
 *     if (cleanup == NULL)
 *             return -ENOMEM;
 *     int fd = open(path, O_RDONLY);
 *     if (fd >= 0)
 *             weir_region_cleanup_arm(region, cleanup, close_fd, &file);
 *
 * Returns:   a handle that does nothing until it is armed, or NULL.
 * Ownership: as weir_region_cleanup_add(); never arming it is fine.
 * Threads:   the region's owner.
 * Cost:      as weir_region_cleanup_add().
 * Errors:    NULL as weir_region_alloc().
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD struct weir_region_cleanup *weir_region_cleanup_reserve(
    struct weir_region *region) WEIR_NOEXCEPT;

/**
 * weir_region_cleanup_arm() - put a reserved cleanup in force.
 * @region:  the region it was reserved in.
 * @cleanup: a reserved handle.
 * @run:     the function.
 * @context: handed to it.
 *
 * Its place in the order is that of this call, not of the reservation.
 *
 * Ownership: as weir_region_cleanup_add().
 * Threads:   the region's owner.
 * Cost:      a few stores.
 * Errors:    cannot fail.  A handle that is armed, cancelled or has run, and
 *            @run NULL, are faults (weir/guard.h).
 * Since:     0.1
 */
WEIR_API void weir_region_cleanup_arm(struct weir_region *region,
    struct weir_region_cleanup *cleanup, weir_region_cleanup_fn run,
    void *context) WEIR_NOEXCEPT;

/**
 * weir_region_cleanup_cancel() - take a cleanup back; it will not run.
 * @region:  the region it belongs to.
 * @cleanup: a handle, armed or reserved, or NULL for nothing to do.
 *
 * Ownership: the handle is the region's again, for the next cleanup.
 * Threads:   the region's owner.
 * Cost:      a few stores, however many cleanups there are.
 * Errors:    none for one that has run in the reset or destroy under way;
 *            a second cancel is a fault (weir/guard.h) until the handle is
 *            reused.
 * Since:     0.1
 */
WEIR_API void weir_region_cleanup_cancel(struct weir_region *region,
    struct weir_region_cleanup *cleanup) WEIR_NOEXCEPT;

/**
 * weir_region_cleanup_transfer() - have another region run a cleanup.
 * @region:  the region it belongs to.
 * @cleanup: an armed handle.
 * @to:      a live region; it runs the cleanup before those it has.
 *
 * For what is to survive @region.  Where a failure would be awkward, reserve a
 * handle in @to first; then cancel here, arm there.
 *
 * Returns:   the handle in @to, or NULL: the cleanup is where it was.
 * Ownership: the returned handle is that of @to; @cleanup is stale.
 * Threads:   the owner of both regions.
 * Cost:      as weir_region_cleanup_add(), however many cleanups there are.
 * Errors:    NULL as weir_region_alloc() from @to.  A handle that is reserved,
 *            cancelled or has run is a fault (weir/guard.h).
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD struct weir_region_cleanup *
weir_region_cleanup_transfer(struct weir_region *region,
    struct weir_region_cleanup *cleanup, struct weir_region *to) WEIR_NOEXCEPT;

/** struct weir_region_savepoint - a moment to go back to; copy it freely. */
struct weir_region_savepoint {
	struct weir_region *region; /* NULL: none, rewinding does nothing */
	const void *record;
	uint64_t stamp;
};

/**
 * weir_region_mark() - remember a moment in a region's life.
 * @region: a live region.
 * @out:    receives the savepoint; one of no region on failure.
 *
 *     struct weir_region_savepoint before;
 *
 *     if (weir_region_mark(region, &before) != 0)
 *             return -ENOMEM;
 *     if (!parse(region, input))
 *             weir_region_rewind(region, &before);
 *
 * A savepoint is in force until the region is reset, destroyed, merged or
 * rewound to one made earlier.  Going back to it leaves it in force;
 * weir_region_unmark() does not.
 *
 * Returns:   0, or -ENOMEM.
 * Ownership: nothing to give back: its record is an object of the region.
 * Threads:   the region's owner.
 * Cost:      weir_region_alloc() of 80 bytes, none if nothing happened since
 *            the last one.
 * Errors:    -ENOMEM as weir_region_alloc() fails.
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD int weir_region_mark(struct weir_region *region,
    struct weir_region_savepoint *out) WEIR_NOEXCEPT;

/**
 * weir_region_rewind() - end all that came after a savepoint.
 * @region:    a live region.
 * @savepoint: of @region, in force.
 *
 * Ends the regions that were made below @region or moved there since, runs the
 * cleanups armed since, newest first, and ends the objects, large ones too,
 * that were taken, moved or merged into it since.
 *
 * What was there before stays as it is now: a region, a large object or a
 * cleanup that is gone does not come back.  An array or a vector that has moved
 * since the savepoint, because it grew, lies among what ends.
 *
 * Ownership: pointers to what came after @savepoint are stale.
 * Threads:   the region's owner.
 * Cost:      linear in those regions, cleanups, blocks and large objects, not
 *            in objects.
 * Errors:    faults (weir/guard.h): a savepoint of another region, one that is
 *            gone, a destroyed region, and a call from a cleanup that the
 *            region or one below it is running.  One of no region is nothing to
 *            do.
 * Since:     0.1
 */
WEIR_API void weir_region_rewind(struct weir_region *region,
    const struct weir_region_savepoint *savepoint) WEIR_NOEXCEPT;

/**
 * weir_region_unmark() - as weir_region_rewind(), and end the savepoint.
 * @region:    a live region.
 * @savepoint: of @region, in force; gone afterwards.
 *
 * Marks in a loop should end like this: what the savepoint took goes as well.
 *
 * Ownership: as weir_region_rewind().
 * Threads:   the region's owner.
 * Cost:      as weir_region_rewind().
 * Errors:    as weir_region_rewind().
 * Since:     0.1
 */
WEIR_API void weir_region_unmark(struct weir_region *region,
    const struct weir_region_savepoint *savepoint) WEIR_NOEXCEPT;

/**
 * weir_region_detach() - let a region live on without the one above it.
 * @region: a live region.
 *
 * The regions below it go with it.  Budgets above stop counting all of them.
 *
 * Ownership: the caller's until weir_region_destroy().
 * Threads:   the owner of @region and of the one above.
 * Cost:      a few stores; below a budget, and without one of its own, also
 *            linear in the regions below it.
 * Errors:    none: a region without one above stays as it is.  A destroyed
 *            region, and one whose cleanups are running, are faults
 *            (weir/guard.h).
 * Since:     0.1
 */
WEIR_API void weir_region_detach(struct weir_region *region) WEIR_NOEXCEPT;

/**
 * weir_region_adopt() - have a region end before another.
 * @parent: a live region.
 * @child:  a live region, with one above or without; it becomes the newest
 *          below @parent, or stays where it is if it is there already.
 *
 * The regions below it go with it, and the budgets above @parent count
 * them instead of those they were under.
 *
 * Returns:   0, or -ENOMEM: all is as it was.
 * Ownership: as that of a region created with @parent in its configuration.
 * Threads:   the owner of @parent, @child, and of the one above that.
 * Cost:      as weir_region_detach(); with regions below it, also linear in
 *            those above @parent.
 * Errors:    -ENOMEM when a budget says no.  A destroyed region, one whose
 *            cleanups are running, and a @parent that is @child or below it are
 *            faults (weir/guard.h).
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD int weir_region_adopt(
    struct weir_region *parent, struct weir_region *child) WEIR_NOEXCEPT;

/**
 * weir_region_adopt_large() - let an object live on in another region.
 * @to:     a live region.
 * @from:   the region it belongs to.
 * @object: an object of @from with pages of its own.
 *
 * Nothing is copied; the object stays where it is.
 *
 * Returns:   0; -EINVAL: it shares a block, and would have to be copied;
 *            -ENOMEM: a limit or a budget says no.  It is where it was then.
 * Ownership: that of @to.
 * Threads:   the owner of both regions.
 * Cost:      a few stores, and one for each budget above the two.
 * Errors:    a pointer into such an object, one of another region than @from,
 *            and a destroyed region are faults (weir/guard.h).
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD int weir_region_adopt_large(struct weir_region *to,
    struct weir_region *from, void *object) WEIR_NOEXCEPT;

/**
 * weir_region_merge() - end a region and keep all that is in it.
 * @parent: the region above it.
 * @child:  a live region, made or adopted below @parent.
 *
 * Objects stay where they are and are those of @parent, as if taken from it now;
 * so are large objects, regions below, and cleanups, which run in their order
 * before those @parent had.  Handles of cleanups are used with @parent; vectors
 * and writers go on once their `region` is set to it.
 *
 * For work that is shared out: a region for each worker, below that of the
 * whole; the worker has it by weir_region_hand_off() and hands it back, the
 * owner of the whole takes it over and merges it.
 *
 * Ownership: what was @child's is that of @parent; @child is gone, and its
 *            savepoints.
 * Threads:   the owner of both regions.
 * Cost:      some hundred instructions, however much there is in it; also
 *            linear in the regions below it.
 * Errors:    faults (weir/guard.h): a region that is not directly below
 *            @parent, a destroyed one, one whose cleanups are running, and one
 *            in a buffer of the caller's, which would have to outlive @parent.
 * Since:     0.1
 */
WEIR_API void weir_region_merge(
    struct weir_region *parent, struct weir_region *child) WEIR_NOEXCEPT;

/**
 * weir_region_scope_end() - what WEIR_REGION_SCOPE calls.
 * @region: a variable that holds a live region or NULL.
 *
 * Ownership: as weir_region_destroy().
 * Threads:   as weir_region_destroy().
 * Cost:      as weir_region_destroy().
 * Errors:    as weir_region_destroy().
 * Since:     0.1
 */
static inline void
weir_region_scope_end(struct weir_region **region) WEIR_NOEXCEPT
{
	weir_region_destroy(*region);
}

/**
 * weir_region_scratch_begin() - what WEIR_REGION_SCRATCH calls.
 * @region: a live region.
 *
 * Returns:   a savepoint, of no region when there is no memory for it.
 * Ownership: as weir_region_mark().
 * Threads:   as weir_region_mark().
 * Cost:      as weir_region_mark().
 * Errors:    none beside the return value.
 * Since:     0.1
 */
static inline struct weir_region_savepoint
weir_region_scratch_begin(struct weir_region *region) WEIR_NOEXCEPT
{
	struct weir_region_savepoint savepoint;
	int status = weir_region_mark(region, &savepoint);

	(void)status;
	return savepoint;
}

/**
 * weir_region_scratch_end() - likewise, at the end.
 * @savepoint: what weir_region_scratch_begin() returned.
 *
 * Ownership: as weir_region_unmark().
 * Threads:   as weir_region_unmark().
 * Cost:      as weir_region_unmark().
 * Errors:    as weir_region_unmark().
 * Since:     0.1
 */
static inline void
weir_region_scratch_end(struct weir_region_savepoint *savepoint) WEIR_NOEXCEPT
{
	weir_region_unmark(savepoint->region, savepoint);
}

#ifdef __GNUC__
/**
 * Takes a region back, when the block is left, to where it is now:
 *
 *     WEIR_REGION_SCRATCH(scratch, region);
 *     char *path = weir_region_printf(region, "%s/%s", folder, name);
 *
 * They may be nested.  Without memory for the savepoint, which is the same as
 * for the objects, things end with the scope around or with the region.
 */
#define WEIR_REGION_SCRATCH(savepoint, region)                           \
	WEIR_CLEANUP(weir_region_scratch_end)                            \
	__attribute__((unused)) struct weir_region_savepoint savepoint = \
	    weir_region_scratch_begin(region)

/**
 * A region that ends with the block that declares it, however that is left:
 *
 *     WEIR_REGION_SCOPE struct weir_region *region = NULL;
 *     if (weir_region_create(&kind, NULL, &region) != 0)
 *             return -ENOMEM;
 */
#define WEIR_REGION_SCOPE WEIR_CLEANUP(weir_region_scope_end)
#endif

WEIR_END_DECLS

#endif /* WEIR_REGION_LIFE_H */
