/* SPDX-License-Identifier: MIT */
/*
 * region.h - memory with one end: many objects, freed together.
 *
 * A region serves everything a request (a frame, a query, a parse) needs and
 * ends with it.  Taking an object moves a pointer; nothing is freed by itself.
 * Objects lie in blocks that double in size; large ones have pages of their
 * own.  Cleanup handlers, run newest first, give back what is not memory.
 *
 * A region belongs to one thread at a time: it has no lock.  Handing it to
 * another thread needs the ordering any hand-over of memory needs (a queue, a
 * join).  Kinds and the blocks behind all regions are safe from any thread.
 */
#ifndef WEIR_REGION_H
#define WEIR_REGION_H

#include <weir/export.h>
#include <weir/stats.h>

WEIR_BEGIN_DECLS

/** Alignment of every object that asks for no other, and of room left. */
#define WEIR_REGION_ALIGN ((size_t)16)

/** Largest alignment weir_region_alloc_aligned() serves. */
#define WEIR_REGION_ALIGN_MAX ((size_t)2 << 20)

/**
 * struct weir_region - a region; the library makes it and its storage.
 *
 * Open only as far as the inline calls below need.  Both pointers are
 * multiples of WEIR_REGION_ALIGN; the free room is [next, end).  The function
 * behind the inline calls carries the number of this layout in its name, so a
 * program built against another one does not link, and is not loaded.
 */
struct weir_region {
	char *next;
	char *end;
};

/**
 * struct weir_region_kind - what a set of regions has in common.
 *
 * One static object per call site or route, which gives its regions a name,
 * one line in the statistics, and a memory of what they needed:
 *
 *     static struct weir_region_kind request = WEIR_REGION_KIND("request");
 *
 * It enters the statistics with its first region and stays there; the name is
 * copied then, so a module that defines a kind may be unloaded.
 *
 * A kind learns how many bytes of blocks its regions use.  Of the last few
 * dozen to end, first_percent had enough with what is now the size of a first
 * block, and keep_percent with what a reset keeps; what happened before fades.
 */
struct weir_region_kind {
	const char *name;
	void *record;          /* the library's; NULL until the first region */
	uint8_t first_percent; /* 1 .. 100; 0: 90; what is above 100 is 100 */
	uint8_t keep_percent;  /* likewise; 0: 75 */
	uint8_t padding[6];    /* must be zero */
	uint64_t reserved[5];
};

/* clang-format off */
#define WEIR_REGION_KIND(text) { (text), NULL, 0, 0, { 0 }, { 0 } }
/* clang-format on */

/** What weir_region_create_in() needs at least: the region's own 256 bytes, 16
 * more to find it by, alignment, and room. */
#define WEIR_REGION_BUFFER_MIN ((size_t)512)

/** Bounds of first_bytes and block_bytes_max. */
#define WEIR_REGION_BLOCK_MIN ((size_t)1 << 10)
#define WEIR_REGION_FIRST_MIN ((size_t)512)
#define WEIR_REGION_FIRST_MAX ((size_t)64 << 10)
#define WEIR_REGION_BLOCK_MAX ((size_t)1 << 20)

/**
 * weir_region_oom_fn - called when a region cannot have what it was asked for.
 * @region:  the region that was asked.
 * @bytes:   for so much.
 * @context: as configured.
 *
 * Runs on the region's thread.  True asks for one more try; false lets the
 * request fail with NULL.  It may free objects, destroy other regions, and
 * leave by longjmp(): the region is as it was before the request.  In the
 * middle of a cleanup it must not.
 */
typedef bool (*weir_region_oom_fn)(
    struct weir_region *region, size_t bytes, void *context);

/**
 * weir_region_soft_fn - called when a budget rises over its soft limit.
 * @region:  the region with the budget.
 * @bytes:   what it and those below it hold.
 * @context: as configured.
 *
 * Runs on the thread of the region that grew, which may be one below, before
 * its object is handed out; once for each time the limit is crossed upwards.
 */
typedef void (*weir_region_soft_fn)(
    struct weir_region *region, uint64_t bytes, void *context);

/**
 * struct weir_region_config - how one region grows; zero means default.
 *
 * limit_bytes binds all memory of the region and of those below it, each first
 * block with the region's own 256 bytes and the unused room of every block
 * included: it is never exceeded, and may refuse early by what one block has
 * unused in each region.  A region below a budget is charged to all above it.
 *
 * A failing request asks the nearest region upwards that has an oom handler.
 */
struct weir_region_config {
	size_t first_bytes;     /* first block: rounded up, by an eighth and by
			     * 512 bytes at most up to 16 KiB, then to 24, 32,
			     * 48, 64; 0: what the kind learned, else 4 KiB */
	size_t block_bytes_max; /* blocks double up to this, a power of two from
				 * 1 KiB to 1 MiB, not below first_bytes; 0:
				 * 32 KiB, or 64 for a larger first_bytes */
	size_t large_bytes;     /* objects above it get their own pages; at most
			     * what a block of block_bytes_max holds; 0: that;
			     * below 256 it counts as 256 */
	uint64_t limit_bytes;   /* at least 512; 0: none */
	uint64_t soft_bytes;    /* below limit_bytes, if any; 0: none */
	weir_region_soft_fn soft; /* with soft_bytes */
	void *soft_context;
	weir_region_oom_fn oom; /* NULL: that of the region above, if any */
	void *oom_context;
	struct weir_region *parent; /* the new region ends before it */
	const char *name;           /* static storage; NULL: the kind's */
	unsigned flags;             /* must be zero */
	const void *site;     /* code address that dumps show as the one which
			       * created it, for wrappers; NULL: the caller's */
	uint64_t reserved[3]; /* must be zero */
};

/** struct weir_region_figures - one region at one moment. */
struct weir_region_figures {
	uint32_t size;          /* bytes of this struct, set by the reader */
	uint32_t version;       /* WEIR_STATS_VERSION, set by the library */
	uint64_t bytes_charged; /* blocks and large objects of its own */
	uint64_t bytes_peak;    /* highest bytes_charged, resets included */
	uint64_t bytes_limit;   /* UINT64_MAX: none */
	uint64_t bytes_room;    /* left in the current block */
	uint64_t blocks;
	uint64_t larges; /* objects with pages of their own */
	uint64_t cleanups;
	uint64_t misses;   /* blocks and large objects taken since creation */
	uint64_t failures; /* requests refused since creation */
	uint64_t bytes_below; /* charged to its budget, those below included; 0
				* without a budget */
	uint64_t budget_peak;
	uint64_t children;
	uint64_t budget_failures; /* requests refused to it and those below,
				   * regions to be made below included; 0
				   * without a budget */
	uint64_t reserved[1];
};

/**
 * weir_region_create() - make a region.
 * @kind:   a static kind, or NULL for the one named "region".
 * @config: copied; NULL for all defaults, the fastest way.
 * @out:    receives the region, NULL on failure; not NULL itself.
 *
 * Returns:   0; -EINVAL (a size out of its range, flags or a reserved field
 *            set): the message hook is told the field; -ENOMEM, also when a
 *            budget above says no.
 * Ownership: the caller's until weir_region_destroy(), its own or that of a
 *            region above it.
 * Threads:   any thread; the region then belongs to the caller, who must own
 *            config->parent too.  Not async-signal-safe.
 * Cost:      some 40 instructions: the block and the header of a region of
 *            this kind that ended on this thread, from its own magazine.
 * Errors:    on failure nothing is kept; -ENOMEM is counted with the kind.
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD int weir_region_create(struct weir_region_kind *kind,
    const struct weir_region_config *config, struct weir_region **out)
    WEIR_NOEXCEPT;

/**
 * weir_region_create_in() - make a region that starts in the caller's memory.
 * @kind:   as weir_region_create().
 * @config: likewise; first_bytes is not looked at.
 * @buffer: the first block, on a stack or static, at any alignment.
 * @bytes:  of it, at least WEIR_REGION_BUFFER_MIN.
 * @out:    receives the region, NULL on failure.
 *
 * More blocks are taken from weir when the buffer is full; a limit counts
 * those alone.
 *
 * Returns:   0; -EINVAL (also for @bytes too small); -ENOMEM.
 * Ownership: as weir_region_create().  @buffer is the region's until it is
 *            destroyed, and still the caller's to give back then.
 * Threads:   as weir_region_create().
 * Cost:      two short locks over the region's life; no memory.
 * Errors:    as weir_region_create().
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD int weir_region_create_in(struct weir_region_kind *kind,
    const struct weir_region_config *config, void *buffer, size_t bytes,
    struct weir_region **out) WEIR_NOEXCEPT;

/* What the inline calls do when the block is full, in layout 1: takes a block,
 * or pages for a large object; as weir_region_alloc_aligned(). */
WEIR_API WEIR_NODISCARD void *weir_abi_region_1(
    struct weir_region *region, size_t bytes, size_t align) WEIR_NOEXCEPT;

/**
 * weir_region_alloc() - take an object.
 * @region: a live region.
 * @bytes:  any size; 0 gives a pointer that is not NULL, points at no byte of
 *          the caller's and may equal that of the next object.
 *
 * Returns:   storage of @bytes bytes aligned to 16, contents unspecified, or
 *            NULL.
 * Ownership: the region's: it ends with weir_region_reset() or
 *            weir_region_destroy().
 * Threads:   the region's owner.
 * Cost:      eight instructions while the block has room; else a block from
 *            the thread's magazine, or pages for a large object.
 * Errors:    NULL at the limit, without memory and for sizes near SIZE_MAX,
 *            counted in both statistics; errno is left as it was.
 * Since:     0.1
 */
WEIR_NODISCARD static inline void *
weir_region_alloc(struct weir_region *region, size_t bytes) WEIR_NOEXCEPT
{
	char *object = region->next;

	/* The room is a multiple of 16, so what fits also fits rounded up, and
	 * no size can wrap. */
	if (WEIR_UNLIKELY(bytes > (size_t)(region->end - object)))
		return weir_abi_region_1(region, bytes, WEIR_REGION_ALIGN);
#ifdef __GNUC__
	/* Nor is it NULL: the caller's test is one of the slow way only. */
	if (object == NULL)
		__builtin_unreachable();
	/* A constant size is rounded by the compiler.  Else rounding the sum
	 * is one instruction less than rounding the size. */
	if (!__builtin_constant_p(bytes))
		region->next = (char *)(((uintptr_t)object + bytes +
					    (WEIR_REGION_ALIGN - 1)) &
					~(uintptr_t)(WEIR_REGION_ALIGN - 1));
	else
#endif
		region->next = object + ((bytes + (WEIR_REGION_ALIGN - 1)) &
					    ~(WEIR_REGION_ALIGN - 1));
	return object;
}

/**
 * weir_region_alloc_aligned() - take an object at a given alignment.
 * @region: a live region.
 * @bytes:  any size; 0 as with weir_region_alloc(), but an address of that
 *          alignment may need a block and so may be refused.
 * @align:  a power of two up to WEIR_REGION_ALIGN_MAX; below 16 means 16.
 *
 * Returns:   as weir_region_alloc(), aligned to @align.
 * Ownership: as weir_region_alloc().
 * Threads:   the region's owner.
 * Cost:      as weir_region_alloc(): nine instructions where @bytes and @align
 *            are constants, thirteen where @align is; up to @align bytes
 *            are lost before the object.
 * Errors:    as weir_region_alloc(); also NULL, and counted, when @align is 0,
 *            not a power of two or too large.
 * Since:     0.1
 */
WEIR_NODISCARD static inline void *
weir_region_alloc_aligned(
    struct weir_region *region, size_t bytes, size_t align) WEIR_NOEXCEPT
{
	uintptr_t next = (uintptr_t)region->next;
	uintptr_t object = (next + align - 1) & (0 - (uintptr_t)align);
	/* Negative where the alignment alone is more than there is. */
	intptr_t room = (intptr_t)((uintptr_t)region->end - object);

	/* Less one, 0 is too large as well. */
	if (WEIR_UNLIKELY((align & (align - 1)) != 0 ||
			  align - 1 > WEIR_REGION_ALIGN_MAX - 1 ||
			  bytes > (size_t)INTPTR_MAX || room < (intptr_t)bytes))
		return weir_abi_region_1(region, bytes, align);
#ifdef __GNUC__
	if (next == 0)
		__builtin_unreachable();
#endif
	region->next = (char *)object + ((bytes + (WEIR_REGION_ALIGN - 1)) &
					    ~(WEIR_REGION_ALIGN - 1));
	return (char *)object;
}

/**
 * weir_region_free_large() - give back an object that has pages of its own.
 * @region: a live region.
 * @object: an object of @region, or NULL.
 *
 * Returns:   true when @object had pages of its own and they are free now;
 *            false when it shares a block and ends with the region.
 * Ownership: @object is stale when true is returned.
 * Threads:   the region's owner.
 * Cost:      two loads, and giving back a span, however many there are.
 * Errors:    a pointer into such an object, and an object of another region,
 *            are faults (weir/guard.h).  Of what is not on pages of its own
 *            nothing is known: false.
 * Since:     0.1
 */
WEIR_API bool weir_region_free_large(struct weir_region *region, void *object)
    WEIR_NOEXCEPT;

/**
 * weir_region_resize_large() - grow or shrink an object on its own pages.
 * @region: a live region.
 * @object: an object of @region with pages of its own.
 * @bytes:  the new size, up to any number of pages.
 *
 * Returns:   true when the object has @bytes now, where it was; false when the
 *            pages behind it are taken, at a limit, and when @object shares a
 *            block: all is as it was then.
 * Ownership: as before.
 * Threads:   the region's owner.
 * Cost:      a lock and O(log n); nothing is copied.
 * Errors:    as weir_region_free_large().
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD bool weir_region_resize_large(
    struct weir_region *region, void *object, size_t bytes) WEIR_NOEXCEPT;

/**
 * weir_region_reset() - end all objects, keep the region.
 * @region: a live region, or NULL for nothing to do.
 *
 * Ends the regions below it, runs the cleanups, newest first, and keeps as much
 * memory as the kind's regions need (weir_region_kind.keep_percent): the first
 * block, and another instead of those that came after it if that is too small.
 * The rest and all large objects are given back.
 *
 * Ownership: every pointer into the region is stale.
 * Threads:   the region's owner.
 * Cost:      some 30 instructions when one block was enough; else linear in
 *            cleanups, blocks and large objects, not in objects.
 * Errors:    a destroyed region, and a call from one of its own cleanups, are
 *            faults (weir/guard.h).
 * Since:     0.1
 */
WEIR_API void weir_region_reset(struct weir_region *region) WEIR_NOEXCEPT;

/**
 * weir_region_hand_off() - give up a region for another thread.
 * @region: a live region.
 *
 * The regions below it go with it.  The other thread calls
 * weir_region_take_over(), after the ordering any hand-over of memory needs (a
 * queue, a join).  Release builds do not ask for the two calls; debug builds,
 * and the mode full of weir/guard.h, report a thread that uses a region it does
 * not own.
 *
 * A region below another may be handed to a worker: that one allocates in it,
 * and hands it back to the owner of the region above, who alone may end it.
 *
 * Ownership: nobody's until it is taken over.
 * Threads:   the region's owner.
 * Cost:      a few stores for each region.
 * Errors:    a destroyed region is a fault (weir/guard.h).
 * Since:     0.1
 */
WEIR_API void weir_region_hand_off(struct weir_region *region) WEIR_NOEXCEPT;

/**
 * weir_region_take_over() - own a region that was handed off.
 * @region: a live region, handed off, or the caller's already.
 *
 * Ownership: the calling thread's, with the regions below it.
 * Threads:   one thread, after weir_region_hand_off() happened.
 * Cost:      a few stores for each region.
 * Errors:    a destroyed region, and one that another thread owns, are faults
 *            (weir/guard.h).
 * Since:     0.1
 */
WEIR_API void weir_region_take_over(struct weir_region *region) WEIR_NOEXCEPT;

/**
 * weir_region_stats() - read the figures of one region.
 * @region: a live region.
 * @out:    filled whole; set out->size to sizeof(*out) first.
 *
 * Returns:   0, or -EINVAL when out->size is none this library knows.
 * Ownership: copies into the caller's storage.
 * Threads:   the region's owner.
 * Cost:      linear in blocks, large objects and cleanups; no allocation.
 * Errors:    none beside the return value.
 * Since:     0.1
 */
WEIR_API int weir_region_stats(const struct weir_region *region,
    struct weir_region_figures *out) WEIR_NOEXCEPT;

/**
 * weir_region_kind_stats() - read the figures of all regions of one kind.
 * @kind: NULL for the kind of regions without one.
 * @out:  filled whole; set out->size to sizeof(*out) first.
 *
 * Objects are regions: in_use counts the live ones.  A hit is a region made,
 * a miss a visit to the block supply because a block was full or an object
 * large; requests are both and the refusals, a lower bound of the calls, which
 * leave no trace on the fast path.  in_use_peak is an upper bound: the sum of
 * each thread's own peak, exact while regions end on the thread that made them
 * and one thread makes them.
 *
 * Returns:   0, or -EINVAL when out->size is none this library knows.  A kind
 *            that never had a region reads as zero.
 * Ownership: copies into the caller's storage.
 * Threads:   any thread; exact when the kind is quiet.
 * Cost:      under a microsecond; no allocation.
 * Errors:    none beside the return value.
 * Since:     0.1
 */
WEIR_API int weir_region_kind_stats(const struct weir_region_kind *kind,
    struct weir_pool_stats *out) WEIR_NOEXCEPT;

/**
 * weir_region_check() - walk the invariants of a region.
 * @region: a live region.
 *
 * Returns:   true when blocks, large objects, charges and cleanups agree.
 * Ownership: nothing changes hands.
 * Threads:   the region's owner.
 * Cost:      linear in blocks, large objects and cleanups.
 * Errors:    false; the first broken invariant goes to the message hook.
 * Since:     0.1
 */
WEIR_API bool weir_region_check(const struct weir_region *region) WEIR_NOEXCEPT;

/**
 * weir_region_destroy() - end a region and everything in it.
 * @region: a live region, or NULL.
 *
 * Runs the cleanups, newest first, then gives all memory back.
 *
 * Ownership: every pointer into the region, and the region, are stale.
 * Threads:   the region's owner.  The blocks go to this thread's magazines, and
 *            what these have too much of to any thread that makes regions.
 * Cost:      tens of nanoseconds, and as weir_region_reset().
 * Errors:    faults (weir/guard.h): a pointer that is no region, a call from
 *            one of its own cleanups, a second destroy.  The last is
 *            recognised until the memory is handed out again; a destroyed
 *            region whose first block serves another region meanwhile cannot
 *            be told from that one.
 * Since:     0.1
 */
WEIR_API void weir_region_destroy(struct weir_region *region) WEIR_NOEXCEPT;

WEIR_END_DECLS

#include <weir/region_life.h>
#include <weir/region_text.h>
#include <weir/region_vec.h>
#include <weir/region_watch.h>

#endif /* WEIR_REGION_H */
