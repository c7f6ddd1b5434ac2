/* SPDX-License-Identifier: MIT */
/*
 * buddy.h - runs of consecutive units out of a fixed number of them.
 *
 * A unit is whatever the caller counts: a page of device memory, a sector, a
 * port, a database connection.  The buddy knows unit numbers and nothing else;
 * it never touches what they stand for.  With a base address and a size of a
 * unit it also translates between numbers and addresses.
 *
 *     struct weir_buddy_config config = {.unit_count = 64};
 *     struct weir_buddy *group;
 *
 *     if (weir_buddy_create("db connections", &config, &group) == 0) {
 *             size_t first = weir_buddy_alloc(group, 8);  // e.g. 16 .. 23
 *             ...
 *             weir_buddy_free(group, first);
 *     }
 *
 * A run may have any length.  It is cut from the smallest free block of a power
 * of two that covers it, and what it does not need stays free; neighbours that
 * become free merge at once.
 *
 * Under guard (weir/guard.h) a buddy made by weir_buddy_create() merges and hands
 * out again what was given back as late as it can, so that a number freed twice is
 * told, with both stacks, from one that has a new owner.  A request that cannot be
 * served otherwise has all of it; but runs may lie apart that would have been
 * side by side.  With WEIR_BUDDY_TRAP reads and writes of free units are told, too;
 * without guard, writes to the first word of what was given back.
 * What is in use is among the leaks (weir_guard_leaks()), its units counted as
 * objects, with the stacks that took it.  When the guard is turned off, all that
 * waits is free and nothing traps any more when weir_guard_set() returns; of a
 * buddy with WEIR_BUDDY_UNLOCKED, with its next alloc, free or resize.
 */
#ifndef WEIR_BUDDY_H
#define WEIR_BUDDY_H

#include <weir/export.h>
#include <weir/stats.h>

WEIR_BEGIN_DECLS

struct weir_buddy;

/** What alloc returns when it has no run to give: the number of no unit. */
#define WEIR_BUDDY_NONE SIZE_MAX

/** Most units of one buddy. */
#define WEIR_BUDDY_UNITS_MAX ((size_t)1 << 31)

/** Sizes of free blocks: 1, 2, 4, ... 2^31 units. */
#define WEIR_BUDDY_ORDERS 32

enum weir_buddy_flags {
	WEIR_BUDDY_UNLOCKED = 1 << 0, /* the caller serialises all calls */
	WEIR_BUDDY_INTERNAL = 1 << 1, /* left out of the leak report */
	/* Units are anonymous pages of this process alone, which may lose what
	 * they hold while they are free: under guard they trap then.  In every
	 * mode the first word of a run that is given back, or cut off by a
	 * resize, may be changed, and is looked at when its unit is handed out
	 * again and at the end of the buddy: until that, the pages are to be
	 * there, and to be readable and writable. */
	WEIR_BUDDY_TRAP = 1 << 2,
};

/**
 * struct weir_buddy_config - what weir_buddy_create() is told.
 *
 * Zero means the default for every field but unit_count.
 */
struct weir_buddy_config {
	size_t unit_count;    /* 1 .. WEIR_BUDDY_UNITS_MAX */
	void *base;           /* address of unit 0; NULL: units are no memory */
	size_t unit_bytes;    /* distance of two units; > 0 if base is set */
	unsigned flags;       /* enum weir_buddy_flags */
	uint64_t reserved[4]; /* must be zero */
};

/**
 * weir_buddy_create() - make a buddy; weir supplies its records.
 * @name:   up to 47 bytes are kept; shown in statistics and reports.
 * @config: unit_count at least; copied.
 * @out:    receives the buddy, NULL on failure.
 *
 * Returns:   0; -EINVAL (unit_count 0 or above WEIR_BUDDY_UNITS_MAX, base
 *            without unit_bytes or the other way round, units that reach
 *            beyond the address space, WEIR_BUDDY_TRAP for units that are not
 *            whole pages, an unknown flag, a reserved field set); -ENOMEM.
 * Ownership: the caller's until weir_buddy_destroy().  The units stay the
 *            caller's all the time and must outlive the buddy's use only.
 * Threads:   any thread.  Not async-signal-safe.
 * Cost:      nine bytes of records a unit, with WEIR_BUDDY_TRAP a bit more,
 *            charged to the budget.
 * Errors:    on failure nothing is kept.
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD int weir_buddy_create(const char *name,
    const struct weir_buddy_config *config, struct weir_buddy **out)
    WEIR_NOEXCEPT;

/**
 * weir_buddy_destroy() - end a buddy made by weir_buddy_create().
 * @buddy: a buddy whose runs are all back, or NULL.
 *
 * Ownership: the records return to weir.
 * Threads:   one thread, after every other use of the buddy has happened.
 * Cost:      constant; with WEIR_BUDDY_TRAP a look at each unit at which a run
 *            ended that no run has had since.
 * Errors:    runs still out, a second destroy, and a buddy made by
 *            weir_buddy_init() are faults (weir/guard.h); with
 *            WEIR_BUDDY_TRAP so is a free unit that was written to.
 * Since:     0.1
 */
WEIR_API void weir_buddy_destroy(struct weir_buddy *buddy) WEIR_NOEXCEPT;

/**
 * weir_buddy_storage_bytes() - storage that weir_buddy_init() needs.
 * @unit_count: 1 .. WEIR_BUDDY_UNITS_MAX.
 *
 * Returns:   bytes, or 0 for a count out of range.
 * Ownership: nothing changes hands.
 * Threads:   any thread.
 * Cost:      a few instructions.
 * Errors:    0.
 * Since:     0.1
 */
WEIR_API size_t weir_buddy_storage_bytes(size_t unit_count) WEIR_NOEXCEPT;

/**
 * weir_buddy_init() - make a buddy in the caller's storage.
 * @storage:       aligned as for malloc; its contents do not matter.
 * @storage_bytes: at least weir_buddy_storage_bytes(config->unit_count).
 * @name:          up to 47 bytes are kept; shown in statistics and reports.
 * @config:        unit_count at least; copied.
 * @out:           receives the buddy, which is @storage; NULL on failure.
 *
 * Returns:   0; -EINVAL as weir_buddy_create(), and for storage that is NULL,
 *            misaligned or too small.
 * Ownership: @storage stays the caller's and must not move or go before
 *            weir_buddy_finish().
 * Threads:   any thread.
 * Cost:      clears the storage; allocates nothing, then or later.
 * Errors:    on failure nothing is kept.
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD int weir_buddy_init(void *storage, size_t storage_bytes,
    const char *name, const struct weir_buddy_config *config,
    struct weir_buddy **out) WEIR_NOEXCEPT;

/**
 * weir_buddy_finish() - end a buddy made by weir_buddy_init().
 * @buddy: a buddy whose runs are all back, or NULL.
 *
 * Ownership: the storage is the caller's to reuse.
 * Threads:   one thread, after every other use of the buddy has happened.
 * Cost:      as weir_buddy_destroy().
 * Errors:    runs still out, a second finish, and a buddy made by
 *            weir_buddy_create() are faults (weir/guard.h); with
 *            WEIR_BUDDY_TRAP so is a free unit that was written to.
 * Since:     0.1
 */
WEIR_API void weir_buddy_finish(struct weir_buddy *buddy) WEIR_NOEXCEPT;

/**
 * weir_buddy_alloc() - take a run of consecutive units.
 * @buddy: a live buddy.
 * @count: units wanted; the run has exactly so many.
 *
 * Returns:   the number of the first unit, or WEIR_BUDDY_NONE.  A count that
 *            is a power of two is aligned to itself.
 * Ownership: the units are the caller's until weir_buddy_free().
 * Threads:   any number of threads, under one lock; with
 *            WEIR_BUDDY_UNLOCKED one at a time.  Not async-signal-safe.
 * Cost:      tens of ns; at most 31 splits.  With WEIR_BUDDY_TRAP a look at
 *            each of the units at which a run ended that no run has had since.
 * Errors:    WEIR_BUDDY_NONE, counted in the statistics: count 0; or no free
 *            block of the power of two that covers @count, although @count
 *            units side by side may be free (when all units are free any
 *            count up to unit_count succeeds).  errno is left as it was.
 *            With WEIR_BUDDY_TRAP one of the units that was written to while
 *            it was free is a fault (weir/guard.h); if the program goes on by
 *            longjmp, nobody has the run.
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD size_t weir_buddy_alloc(
    struct weir_buddy *buddy, size_t count) WEIR_NOEXCEPT;

/**
 * weir_buddy_alloc_aligned() - take a run that starts at a multiple.
 * @buddy: a live buddy.
 * @count: units wanted.
 * @align: a power of two, in units.
 *
 * Returns:   as weir_buddy_alloc(), a multiple of @align.
 * Ownership: as weir_buddy_alloc().
 * Threads:   as weir_buddy_alloc().
 * Cost:      as weir_buddy_alloc().
 * Errors:    as weir_buddy_alloc(), for the power of two that covers @count
 *            and @align; also when @align is no power of two.
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD size_t weir_buddy_alloc_aligned(
    struct weir_buddy *buddy, size_t count, size_t align) WEIR_NOEXCEPT;

/**
 * weir_buddy_alloc_address() - take a run and get the address of its start.
 * @buddy: a live buddy with a base.
 * @count: units wanted.
 *
 * Returns:   base + first unit * unit_bytes, or NULL.
 * Ownership: as weir_buddy_alloc(); weir_buddy_free_address() ends it.
 * Threads:   as weir_buddy_alloc().
 * Cost:      as weir_buddy_alloc().
 * Errors:    NULL as weir_buddy_alloc(); a buddy without base is a fault
 *            (weir/guard.h).
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD void *weir_buddy_alloc_address(
    struct weir_buddy *buddy, size_t count) WEIR_NOEXCEPT;

/**
 * weir_buddy_free() - give a run back.
 * @buddy: the buddy it came from.
 * @first: its first unit, or WEIR_BUDDY_NONE for nothing to do.
 *
 * Ownership: the units are the buddy's again.
 * Threads:   as weir_buddy_alloc(); any thread, not only the one that took it.
 * Cost:      tens of ns; at most 31 merges per power of two in the length.
 * Errors:    a unit that is free (double free), inside a run (interior), or
 *            not below unit_count (foreign) is a fault (weir/guard.h).
 * Since:     0.1
 */
WEIR_API void weir_buddy_free(struct weir_buddy *buddy, size_t first)
    WEIR_NOEXCEPT;

/**
 * weir_buddy_free_address() - give a run back by its address.
 * @buddy:   the buddy it came from, with a base.
 * @address: of its first unit, or NULL for nothing to do.
 *
 * Ownership: as weir_buddy_free().
 * Threads:   as weir_buddy_free().
 * Cost:      as weir_buddy_free().
 * Errors:    as weir_buddy_free(); also an address that is not the start of a
 *            unit (misaligned) or not in the range (foreign).
 * Since:     0.1
 */
WEIR_API void weir_buddy_free_address(struct weir_buddy *buddy, void *address)
    WEIR_NOEXCEPT;

/**
 * weir_buddy_resize() - change the length of a run where it lies.
 * @buddy: a live buddy.
 * @first: the first unit of a run.
 * @count: its new length.
 *
 * Returns:   0; -EINVAL for a count of 0; -ENOSPC when the units behind it are
 *            not all free.  Making it shorter always succeeds.
 * Ownership: units behind the new length are the buddy's again, new ones the
 *            caller's.
 * Threads:   as weir_buddy_alloc().
 * Cost:      as weir_buddy_free().
 * Errors:    on failure nothing is changed.  A unit that starts no run is a
 *            fault as in weir_buddy_free(); where the program goes on, -EINVAL.
 *            Of units that are new, as weir_buddy_alloc().
 * Since:     0.1
 */
WEIR_API int weir_buddy_resize(
    struct weir_buddy *buddy, size_t first, size_t count) WEIR_NOEXCEPT;

/**
 * weir_buddy_run() - the length of the run that starts at a unit.
 * @buddy: a live buddy.
 * @first: any number.
 *
 * Returns:   units of the run, or 0 when none starts there.
 * Ownership: nothing changes hands.
 * Threads:   as weir_buddy_alloc().
 * Cost:      a lock.
 * Errors:    0.
 * Since:     0.1
 */
WEIR_API size_t weir_buddy_run(struct weir_buddy *buddy, size_t first)
    WEIR_NOEXCEPT;

/**
 * weir_buddy_largest() - the longest run that is sure to be had now.
 * @buddy: a live buddy.
 *
 * Returns:   the size of the largest free block, unit_count when all is free;
 *            0 when nothing is.
 * Ownership: nothing changes hands.
 * Threads:   as weir_buddy_alloc(); true at the moment of the call.
 * Cost:      a lock.
 * Errors:    none.
 * Since:     0.1
 */
WEIR_API size_t weir_buddy_largest(struct weir_buddy *buddy) WEIR_NOEXCEPT;

/**
 * weir_buddy_address() - the address of a unit.
 * @buddy: a live buddy.
 * @unit:  any number.
 *
 * Returns:   base + unit * unit_bytes, or NULL without a base or for a number
 *            that is not below unit_count.
 * Ownership: nothing changes hands.
 * Threads:   any thread.
 * Cost:      a few instructions.
 * Errors:    NULL.
 * Since:     0.1
 */
WEIR_API void *weir_buddy_address(const struct weir_buddy *buddy, size_t unit)
    WEIR_NOEXCEPT;

/**
 * weir_buddy_unit() - the unit an address lies in.
 * @buddy:   a live buddy.
 * @address: any address; it is not touched.
 *
 * Returns:   the number of the unit around @address, or WEIR_BUDDY_NONE when
 *            it lies in none or the buddy has no base.
 * Ownership: nothing changes hands.
 * Threads:   any thread.
 * Cost:      a division.
 * Errors:    WEIR_BUDDY_NONE.
 * Since:     0.1
 */
WEIR_API size_t weir_buddy_unit(
    const struct weir_buddy *buddy, const void *address) WEIR_NOEXCEPT;

/**
 * weir_buddy_stats() - read the figures of one buddy; objects are units.
 * @buddy: a live buddy.
 * @out:   filled whole; set out->size to sizeof(*out) first.
 *
 * Returns:   0, or -EINVAL when out->size is none this library knows.
 * Ownership: copies into the caller's storage.
 * Threads:   as weir_buddy_alloc(); every figure is exact.
 * Cost:      a lock; no allocation.
 * Errors:    none beside the return value.
 * Since:     0.1
 */
WEIR_API int weir_buddy_stats(
    struct weir_buddy *buddy, struct weir_pool_stats *out) WEIR_NOEXCEPT;

/**
 * struct weir_buddy_orders - how the free units lie.
 *
 * The sum of free_blocks[order] << order is free_units.  The fragmentation is
 * the share of the free units that do not belong to the longest run that is
 * sure to be had: 0 when that run is all there is, 750 when it is a quarter.
 */
struct weir_buddy_orders {
	uint32_t size; /* bytes of this struct, set by the reader */
	uint32_t fragmentation_permille;
	uint64_t free_units;
	uint64_t largest_units; /* the longest run that is sure to be had */
	uint64_t free_blocks[WEIR_BUDDY_ORDERS];
	uint64_t reserved[4];
};

/**
 * weir_buddy_orders_read() - count the free blocks of each order.
 * @buddy: a live buddy.
 * @out:   filled whole; set out->size to sizeof(*out) first.
 *
 * Returns:   0, or -EINVAL when out->size is none this library knows.
 * Ownership: copies into the caller's storage.
 * Threads:   as weir_buddy_alloc(); all figures are of one moment.
 * Cost:      a lock and an addition an order, whatever the number of units.
 * Errors:    none beside the return value.
 * Since:     0.1
 */
WEIR_API int weir_buddy_orders_read(
    struct weir_buddy *buddy, struct weir_buddy_orders *out) WEIR_NOEXCEPT;

/**
 * weir_pages_orders_read() - the same for the supply under all pools.
 * @out: filled whole; set out->size to sizeof(*out) first.
 *
 * A unit is a page of 4 KiB.  The supply is one buddy for each block of address
 * space that it took, so largest_units is the sum of the longest run in each,
 * and the fragmentation is the mean of theirs, weighted by free units.
 *
 * Returns:   0, or -EINVAL when out->size is none this library knows.
 * Ownership: copies into the caller's storage.
 * Threads:   any thread.  Not async-signal-safe (takes the page lock).
 * Cost:      a lock and a few ns for each block of address space.
 * Errors:    none beside the return value.
 * Since:     0.1
 */
WEIR_API int weir_pages_orders_read(struct weir_buddy_orders *out)
    WEIR_NOEXCEPT;

/**
 * weir_buddy_check() - walk the invariants of a buddy.
 * @buddy: a live buddy.
 *
 * Returns:   true when every unit is in exactly one run or free block, and no
 *            free one is known to have been written to (WEIR_BUDDY_TRAP).
 * Ownership: nothing changes hands.
 * Threads:   as weir_buddy_alloc().
 * Cost:      linear in the units, under the lock.
 * Errors:    false; the first broken invariant goes to the message hook.
 * Since:     0.1
 */
WEIR_API bool weir_buddy_check(struct weir_buddy *buddy) WEIR_NOEXCEPT;

WEIR_END_DECLS

#endif /* WEIR_BUDDY_H */
