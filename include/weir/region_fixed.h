/* SPDX-License-Identifier: MIT */
/*
 * region_fixed.h - regions in one buffer that never grow, without a C library.
 *
 * For firmware and for code that must not reach the system: such a region has
 * the memory it was given and no more, needs no thread state, no statistics and
 * no operating system, and is part of libweir-freestanding.a.  Objects are taken
 * with the inline calls of weir/region.h; a request that does not fit gives
 * NULL and is counted.  The other calls of weir/region.h are not for it, and
 * lists of live regions do not have it: nobody but its owner knows of it.
 */
#ifndef WEIR_REGION_FIXED_H
#define WEIR_REGION_FIXED_H

#include <weir/region.h>

WEIR_BEGIN_DECLS

/** What weir_region_fixed_init() needs at least. */
#define WEIR_REGION_FIXED_MIN ((size_t)128)

/** A moment of a fixed region; see weir_region_fixed_rewind(). */
struct weir_region_fixed_point {
	const struct weir_region *region;
	char *next;
};

/**
 * weir_region_fixed_init() - make a region of a buffer.
 * @buffer: any alignment; the region's header is at its start.
 * @bytes:  of it, at least WEIR_REGION_FIXED_MIN.
 *
 * Returns:   the region, or NULL when @bytes is too small.
 * Ownership: @buffer is the region's until weir_region_fixed_finish().
 * Threads:   any; the region then is one thread's at a time.
 * Cost:      some stores.
 * Errors:    none beside the return value.
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD struct weir_region *weir_region_fixed_init(
    void *buffer, size_t bytes) WEIR_NOEXCEPT;

/**
 * weir_region_fixed_cleanup() - have a function called at the end.
 * @region:  a fixed region.
 * @run:     the function.
 * @context: handed to it.
 *
 * Returns:   false, and @run will not be called, when there is no room.
 * Ownership: what is needed for it lies among the objects.
 * Threads:   the region's.
 * Cost:      that of an object.
 * Errors:    none beside the return value.
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD bool weir_region_fixed_cleanup(
    struct weir_region *region, weir_region_cleanup_fn run, void *context)
    WEIR_NOEXCEPT;

/**
 * weir_region_fixed_mark() - remember what is there.
 * @region: a fixed region.
 *
 * Returns:   the moment, for weir_region_fixed_rewind().
 * Ownership: nothing changes hands.
 * Threads:   the region's.
 * Cost:      two loads.
 * Errors:    none.
 * Since:     0.1
 */
static inline struct weir_region_fixed_point
weir_region_fixed_mark(const struct weir_region *region) WEIR_NOEXCEPT
{
	struct weir_region_fixed_point mark;

	mark.region = region;
	mark.next = region->next;
	return mark;
}

/**
 * weir_region_fixed_rewind() - end all objects taken since a moment.
 * @region: a fixed region.
 * @mark:   a moment of it.
 *
 * Runs the cleanups added since, newest first.
 *
 * Returns:   false, and nothing is changed, for the mark of another region and
 *            for one beyond what is there now.
 * Ownership: objects taken since are stale.
 * Threads:   the region's.
 * Cost:      linear in cleanups.
 * Errors:    none beside the return value.
 * Since:     0.1
 */
WEIR_API bool weir_region_fixed_rewind(struct weir_region *region,
    struct weir_region_fixed_point mark) WEIR_NOEXCEPT;

/**
 * weir_region_fixed_reset() - end all objects.
 * @region: a fixed region.
 *
 * Ownership: every pointer into the region is stale; the region stays.
 * Threads:   the region's.
 * Cost:      linear in cleanups, which run newest first.
 * Errors:    none.
 * Since:     0.1
 */
WEIR_API void weir_region_fixed_reset(struct weir_region *region) WEIR_NOEXCEPT;

/**
 * weir_region_fixed_failures() - requests that did not fit, since the start.
 * @region: a fixed region.
 *
 * Returns:   their number, cleanups included.
 * Ownership: nothing changes hands.
 * Threads:   the region's.
 * Cost:      one load.
 * Errors:    none.
 * Since:     0.1
 */
WEIR_API uint64_t weir_region_fixed_failures(const struct weir_region *region)
    WEIR_NOEXCEPT;

/**
 * weir_region_fixed_finish() - end a fixed region.
 * @region: a fixed region, or NULL.
 *
 * Ownership: its buffer is the caller's again.
 * Threads:   the region's.
 * Cost:      as weir_region_fixed_reset().
 * Errors:    none.
 * Since:     0.1
 */
WEIR_API void weir_region_fixed_finish(struct weir_region *region)
    WEIR_NOEXCEPT;

WEIR_END_DECLS

#endif /* WEIR_REGION_FIXED_H */
