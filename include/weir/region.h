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

#include <stdarg.h>

WEIR_BEGIN_DECLS

/** Alignment of every object that asks for no other, and of room left. */
#define WEIR_REGION_ALIGN ((size_t)16)

/** Largest alignment weir_region_alloc_aligned() serves. */
#define WEIR_REGION_ALIGN_MAX ((size_t)2 << 20)

/**
 * struct weir_region - a region; the library makes it and its storage.
 *
 * Open only as far as the inline calls below need.  Both pointers are
 * multiples of WEIR_REGION_ALIGN; the free room is [next, end).
 */
struct weir_region {
	char *next;
	char *end;
};

/**
 * struct weir_region_kind - what a set of regions has in common.
 *
 * One static object per call site or route, which gives its regions a name
 * and one line in the statistics:
 *
 *     static struct weir_region_kind request = WEIR_REGION_KIND("request");
 *
 * It enters the statistics with its first region and stays there; the name is
 * copied then, so a module that defines a kind may be unloaded.
 */
struct weir_region_kind {
	const char *name;
	void *record; /* the library's; NULL until the first region */
	uint64_t reserved[6];
};

/* clang-format off */
#define WEIR_REGION_KIND(text) { (text), NULL, { 0 } }
/* clang-format on */

/** Bounds of first_bytes and block_bytes_max. */
#define WEIR_REGION_BLOCK_MIN ((size_t)1 << 10)
#define WEIR_REGION_FIRST_MAX ((size_t)32 << 10)
#define WEIR_REGION_BLOCK_MAX ((size_t)1 << 20)

/**
 * struct weir_region_config - how one region grows; zero means default.
 *
 * limit_bytes binds all memory of the region, the first block with the
 * region's own 160 bytes and the unused room of every block included.
 */
struct weir_region_config {
	size_t first_bytes; /* first block: rounded up to a power of two, 1 KiB
			     * .. 32 KiB; 0: 4 KiB */
	size_t block_bytes_max; /* blocks double up to this: likewise, up to
				 * 1 MiB, not below first_bytes; 0: 32 KiB */
	size_t large_bytes;     /* objects above it get their own pages; at most
			     * what a block of block_bytes_max holds; 0: that */
	uint64_t limit_bytes;   /* at least 1 KiB; 0: none */
	unsigned flags;         /* must be zero */
	uint64_t reserved[4];   /* must be zero */
};

/** struct weir_region_figures - one region at one moment. */
struct weir_region_figures {
	uint32_t size;          /* bytes of this struct, set by the reader */
	uint32_t version;       /* WEIR_STATS_VERSION, set by the library */
	uint64_t bytes_charged; /* what counts against the limit */
	uint64_t bytes_peak;    /* highest bytes_charged, resets included */
	uint64_t bytes_limit;   /* UINT64_MAX: none */
	uint64_t bytes_room;    /* left in the current block */
	uint64_t blocks;
	uint64_t larges; /* objects with pages of their own */
	uint64_t cleanups;
	uint64_t misses;   /* blocks and large objects taken since creation */
	uint64_t failures; /* requests refused since creation */
	uint64_t reserved[5];
};

/**
 * weir_region_create() - make a region.
 * @kind:   a static kind, or NULL for the one named "region".
 * @config: copied; NULL for all defaults.
 * @out:    receives the region, NULL on failure.
 *
 * Returns:   0; -EINVAL (a size out of its range, flags or a reserved field
 *            set); -ENOMEM.
 * Ownership: the caller's until weir_region_destroy().
 * Threads:   any thread; the region then belongs to the caller.  Not
 *            async-signal-safe.
 * Cost:      tens of nanoseconds: one block from the thread's own magazine.
 * Errors:    on failure nothing is kept; -ENOMEM is counted with the kind.
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD int weir_region_create(struct weir_region_kind *kind,
    const struct weir_region_config *config, struct weir_region **out)
    WEIR_NOEXCEPT;

/**
 * weir_region_alloc_slow() - what the inline calls do when the block is full.
 * @region: a live region.
 * @bytes:  as the inline call got it.
 * @align:  as the inline call got it.
 *
 * Call weir_region_alloc() or weir_region_alloc_aligned() instead.
 *
 * Returns:   as weir_region_alloc_aligned().
 * Ownership: as weir_region_alloc().
 * Threads:   the region's owner.
 * Cost:      a block or a span of pages.
 * Errors:    as weir_region_alloc_aligned(); a destroyed region is a fault
 *            (weir/guard.h) as long as its memory was not handed out again.
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD void *weir_region_alloc_slow(
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
		return weir_region_alloc_slow(region, bytes, WEIR_REGION_ALIGN);
#ifdef __GNUC__
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
 * Cost:      as weir_region_alloc() and four instructions; up to @align bytes
 *            are lost before the object.
 * Errors:    as weir_region_alloc(); also NULL, and counted, when @align is 0,
 *            not a power of two or too large.
 * Since:     0.1
 */
WEIR_NODISCARD static inline void *
weir_region_alloc_aligned(
    struct weir_region *region, size_t bytes, size_t align) WEIR_NOEXCEPT
{
	char *next = region->next;
	size_t room = (size_t)(region->end - next);
	/* For align 0 this exceeds any room, unless the address is 0 too. */
	size_t pad = (size_t)(0 - (uintptr_t)next) & (align - 1);

	if (WEIR_UNLIKELY((align & (align - 1)) != 0 || align == 0 ||
			  pad > room || bytes > room - pad))
		return weir_region_alloc_slow(region, bytes, align);
	region->next =
	    next + pad +
	    ((bytes + (WEIR_REGION_ALIGN - 1)) & ~(WEIR_REGION_ALIGN - 1));
	return next + pad;
}

/**
 * weir_region_alloc_zeroed() - take an object that reads as zero.
 * @region: a live region.
 * @bytes:  as weir_region_alloc().
 *
 * Returns:   as weir_region_alloc(), every byte zero.
 * Ownership: as weir_region_alloc().
 * Threads:   the region's owner.
 * Cost:      as weir_region_alloc() and the zeroing, which large objects on
 *            fresh pages are spared.
 * Errors:    as weir_region_alloc().
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD void *weir_region_alloc_zeroed(
    struct weir_region *region, size_t bytes) WEIR_NOEXCEPT;

/**
 * weir_region_memdup() - copy bytes into a region.
 * @region: a live region.
 * @data:   @bytes bytes; may be NULL when @bytes is 0.
 * @bytes:  any size.
 *
 * Returns:   the copy, aligned to 16, or NULL.
 * Ownership: as weir_region_alloc().
 * Threads:   the region's owner.
 * Cost:      weir_region_alloc() and the copy.
 * Errors:    as weir_region_alloc().
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD void *weir_region_memdup(
    struct weir_region *region, const void *data, size_t bytes) WEIR_NOEXCEPT;

/**
 * weir_region_strdup() - copy a string into a region.
 * @region: a live region.
 * @string: NUL-terminated.
 *
 * Returns:   the copy, or NULL.
 * Ownership: as weir_region_alloc().
 * Threads:   the region's owner.
 * Cost:      weir_region_alloc(), one pass for the length, one for the copy.
 * Errors:    as weir_region_alloc().
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD char *weir_region_strdup(
    struct weir_region *region, const char *string) WEIR_NOEXCEPT;

/**
 * weir_region_strndup() - copy at most some bytes of a string.
 * @region: a live region.
 * @string: at least @bytes bytes, or NUL-terminated before.
 * @bytes:  the most to copy, without the NUL that is always added.
 *
 * Returns:   the copy, or NULL.
 * Ownership: as weir_region_alloc().
 * Threads:   the region's owner.
 * Cost:      as weir_region_strdup().
 * Errors:    as weir_region_alloc().
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD char *weir_region_strndup(
    struct weir_region *region, const char *string, size_t bytes) WEIR_NOEXCEPT;

/**
 * weir_region_printf() - format a string into a region.
 * @region: a live region.
 * @format: as printf().
 *
 * Returns:   the NUL-terminated text, or NULL.
 * Ownership: as weir_region_alloc().
 * Threads:   the region's owner.
 * Cost:      one formatting pass, straight into the current block; a second
 *            only when the text did not fit there.
 * Errors:    as weir_region_alloc(); also NULL, and counted, when the format
 *            fails (an unencodable wide character, a length above INT_MAX).
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD char *weir_region_printf(struct weir_region *region,
    const char *format, ...) WEIR_NOEXCEPT WEIR_PRINTF(2, 3);

/**
 * weir_region_vprintf() - weir_region_printf() with a va_list.
 * @region:    a live region.
 * @format:    as vprintf().
 * @arguments: left as vprintf() leaves them.
 *
 * Returns:   as weir_region_printf().
 * Ownership: as weir_region_alloc().
 * Threads:   the region's owner.
 * Cost:      as weir_region_printf().
 * Errors:    as weir_region_printf().
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD char *weir_region_vprintf(struct weir_region *region,
    const char *format, va_list arguments) WEIR_NOEXCEPT WEIR_PRINTF(2, 0);

/**
 * weir_region_cleanup_fn - gives back what a region does not own.
 * @context: the pointer it was armed with.
 *
 * Runs on the thread that resets or destroys the region, while every object is
 * still there.  It may allocate from the region, add cleanups (they run before
 * the ones that were there), cancel others, and use other regions.  It must
 * not reset or destroy its own region (a fault) nor leave by longjmp.
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
 * weir_region_reset() - end all objects, keep the region.
 * @region: a live region.
 *
 * Runs the cleanups, newest first; keeps the first block and gives back the
 * others and all large objects.  Blocks grow from the start again.
 *
 * Ownership: every pointer into the region is stale.
 * Threads:   the region's owner.
 * Cost:      linear in cleanups, blocks and large objects, not in objects.
 * Errors:    a destroyed region, and a call from one of its own cleanups, are
 *            faults (weir/guard.h).
 * Since:     0.1
 */
WEIR_API void weir_region_reset(struct weir_region *region) WEIR_NOEXCEPT;

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
 * Threads:   the region's owner; the blocks go to this thread's magazines.
 * Cost:      tens of nanoseconds, and as weir_region_reset().
 * Errors:    faults (weir/guard.h): a pointer that is no region, a call from
 *            one of its own cleanups, a second destroy.  The last is
 *            recognised until the memory is handed out again; a destroyed
 *            region whose first block serves another region meanwhile cannot
 *            be told from that one.
 * Since:     0.1
 */
WEIR_API void weir_region_destroy(struct weir_region *region) WEIR_NOEXCEPT;

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

#ifdef __GNUC__
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

#endif /* WEIR_REGION_H */
