/* SPDX-License-Identifier: MIT */
/*
 * region_vm.h - regions that grow where they are, up to a size known before.
 *
 * Such a region reserves a range of addresses and brings memory in from the
 * front, doubling.  All objects lie behind one another: an array of any size
 * grows in place as long as it is the newest, an object's distance from
 * weir_region_vm_base() is a name for it of 32 bits or less, and no address
 * changes before a rewind, a reset or the end.
 *
 *     base                      next           end                 base + reserve
 *      | objects                 | room         | reserved addresses |
 *
 * It is for the few that are large and live long: a parser's tree, an arena of
 * each worker.  For requests the regions of weir/region.h are better: they
 * begin and end without a system call.  There are no cleanups and no regions
 * below; each has a line of its own in the statistics, and is among the live
 * regions of weir/region_watch.h.
 *
 * Memory comes from the system, whatever the page source (weir/source.h), and
 * counts against the budget as soon as it is committed.
 */
#ifndef WEIR_REGION_VM_H
#define WEIR_REGION_VM_H

#include <weir/region.h>

WEIR_BEGIN_DECLS

/** Most that can be reserved: 64 TiB, half of what a process can address. */
#define WEIR_REGION_VM_MAX ((uint64_t)1 << 46)

/**
 * struct weir_region_vm - a region; the library makes it and its storage.
 *
 * Open as far as the inline calls need, as struct weir_region is.
 */
struct weir_region_vm {
	char *next;
	char *end;
};

/** struct weir_region_vm_config - how one grows; zero means default. */
struct weir_region_vm_config {
	uint64_t reserve_bytes; /* 1 .. WEIR_REGION_VM_MAX, rounded up to pages;
				 * costs address space alone */
	uint64_t limit_bytes;   /* committed at most, rounded down to pages; at
				 * least one; 0: reserve_bytes */
	uint64_t first_bytes; /* committed by the first object, and never given
				 * back by a reset; up to reserve_bytes; 0: 64
				 * KiB */
	unsigned flags;       /* must be zero */
	uint64_t reserved[4]; /* must be zero */
};

/** A moment of a region; see weir_region_vm_rewind(). */
struct weir_region_vm_point {
	const struct weir_region_vm *region;
	uint64_t bytes;  /* in use */
	uint64_t resets; /* before */
};

/** struct weir_region_vm_figures - one region at one moment. */
struct weir_region_vm_figures {
	uint32_t size;            /* bytes of this struct, set by the reader */
	uint32_t version;         /* WEIR_STATS_VERSION, set by the library */
	uint64_t bytes_reserved;  /* addresses */
	uint64_t bytes_limit;     /* committed at most */
	uint64_t bytes_committed; /* charged to the budget */
	uint64_t bytes_in_use;    /* from the first object to the last */
	uint64_t bytes_peak;      /* highest bytes_in_use, resets included */
	uint64_t bytes_kept;      /* what a reset would not give back now */
	uint64_t resets;
	uint64_t misses;   /* times that the room was too small */
	uint64_t failures; /* requests refused */
	uint64_t reserved[4];
};

/**
 * weir_region_vm_create() - reserve addresses for a region.
 * @name:   up to 47 bytes are kept; shown in statistics, reports and, with the
 *          place of this call, in lists of live regions.
 * @config: copied; not NULL, since reserve_bytes has no default.
 * @out:    receives the region, NULL on failure.
 *
 * Returns:   0; -EINVAL (a size out of its range, flags or a reserved field
 *            set), said in a message; -ENOMEM, also when the process cannot
 *            have so many addresses.
 * Ownership: the caller's until weir_region_vm_destroy().
 * Threads:   any thread; the region then belongs to the caller.  Not
 *            async-signal-safe.
 * Cost:      a system call or two, and reading the clock; no memory but a record
 *            of less than 512 bytes, and 48 that stay for a name not seen before.
 * Errors:    on failure nothing is kept.
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD int weir_region_vm_create(const char *name,
    const struct weir_region_vm_config *config, struct weir_region_vm **out)
    WEIR_NOEXCEPT;

/* What the inline calls do when there is no room, in layout 1. */
WEIR_API WEIR_NODISCARD void *weir_abi_region_vm_1(
    struct weir_region_vm *region, size_t bytes, size_t align) WEIR_NOEXCEPT;

/* Statistics of another thread may read it meanwhile; a plain store all the
 * same. */
static inline void
weir_abi_region_vm_move(struct weir_region_vm *region, char *next) WEIR_NOEXCEPT
{
#ifdef __GNUC__
	__atomic_store_n(&region->next, next, __ATOMIC_RELAXED);
#else
	region->next = next;
#endif
}

/**
 * weir_region_vm_alloc() - take an object.
 * @region: a live region.
 * @bytes:  any size; 0 gives a pointer that points at no byte of the caller's,
 *          may equal that of the next object and is not NULL.
 *
 * Returns:   storage of @bytes bytes aligned to 16, directly behind the object
 *            before it, contents unspecified; or NULL.
 * Ownership: the region's: it ends with weir_region_vm_rewind(),
 *            weir_region_vm_reset() or weir_region_vm_destroy().
 * Threads:   the region's owner.
 * Cost:      ten instructions while there is room; else as much again is
 *            committed as there is, 64 MiB at most, by one system call.
 * Errors:    NULL beyond the limit, without memory and for sizes near SIZE_MAX,
 *            counted; nothing has changed then and errno is left as it was.  A
 *            destroyed region, with any size but 0, is a fault
 *            (weir/guard.h).
 * Since:     0.1
 */
WEIR_NODISCARD static inline void *
weir_region_vm_alloc(struct weir_region_vm *region, size_t bytes) WEIR_NOEXCEPT
{
	char *object = region->next;

	/* The room is a multiple of 16, so what fits also fits rounded up. */
	if (WEIR_UNLIKELY(bytes > (size_t)(region->end - object)))
		return weir_abi_region_vm_1(region, bytes, WEIR_REGION_ALIGN);
	weir_abi_region_vm_move(region,
	    object +
		((bytes + (WEIR_REGION_ALIGN - 1)) & ~(WEIR_REGION_ALIGN - 1)));
	return object;
}

/**
 * weir_region_vm_alloc_aligned() - take an object at a given alignment.
 * @region: a live region.
 * @bytes:  any size, as weir_region_vm_alloc().
 * @align:  a power of two up to WEIR_REGION_ALIGN_MAX; below 16 means 16.
 *
 * Returns:   as weir_region_vm_alloc(), aligned to @align.
 * Ownership: as weir_region_vm_alloc().
 * Threads:   the region's owner.
 * Cost:      as weir_region_vm_alloc() and four instructions; up to @align
 *            bytes are lost before the object.
 * Errors:    as weir_region_vm_alloc(); also NULL, and counted, when @align is
 *            0, not a power of two or too large.
 * Since:     0.1
 */
WEIR_NODISCARD static inline void *
weir_region_vm_alloc_aligned(
    struct weir_region_vm *region, size_t bytes, size_t align) WEIR_NOEXCEPT
{
	char *next = region->next;
	size_t room = (size_t)(region->end - next);
	size_t pad = (size_t)(0 - (uintptr_t)next) & (align - 1);

	if (WEIR_UNLIKELY((align & (align - 1)) != 0 || align == 0 ||
			  align > WEIR_REGION_ALIGN_MAX || pad > room ||
			  bytes > room - pad))
		return weir_abi_region_vm_1(region, bytes, align);
	weir_abi_region_vm_move(region,
	    next + pad +
		((bytes + (WEIR_REGION_ALIGN - 1)) & ~(WEIR_REGION_ALIGN - 1)));
	return next + pad;
}

/**
 * weir_region_vm_base() - where the objects of a region begin.
 * @region: a live region.
 *
 * Returns:   the first address, the same as long as the region lives.
 * Ownership: nothing changes hands.
 * Threads:   any.
 * Cost:      a call and a load.
 * Errors:    a destroyed region is a fault (weir/guard.h).
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD char *weir_region_vm_base(
    const struct weir_region_vm *region) WEIR_NOEXCEPT;

/**
 * weir_region_vm_extend() - make the newest object larger where it lies.
 * @region:    a live region.
 * @object:    an object of @region, or NULL, which cannot grow.
 * @bytes:     its size.
 * @new_bytes: the size it should have.
 *
 * Returns:   true when it has @new_bytes now; false when others lie behind it,
 *            beyond the limit and without memory: all is as it was.  A smaller
 *            size is true, and gives nothing back.
 * Ownership: as before.
 * Threads:   the region's owner.
 * Cost:      as weir_region_vm_alloc(); nothing is copied.
 * Errors:    what does not lie among the objects, and a destroyed region, are
 *            faults (weir/guard.h).  A refusal is not counted.
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD bool weir_region_vm_extend(
    struct weir_region_vm *region, void *object, size_t bytes, size_t new_bytes)
    WEIR_NOEXCEPT;

/**
 * weir_region_vm_shrink() - give the end of the newest object back.
 * @region:    a live region.
 * @object:    an object of @region, or NULL for nothing to do.
 * @bytes:     its size.
 * @new_bytes: the size it should have; not below @bytes: nothing to do.
 *
 * What is behind @new_bytes is room again if @object is the newest; else
 * nothing happens.
 *
 * Ownership: the first @new_bytes stay the caller's.
 * Threads:   the region's owner.
 * Cost:      some 20 instructions.
 * Errors:    faults as weir_region_vm_extend().
 * Since:     0.1
 */
WEIR_API void weir_region_vm_shrink(struct weir_region_vm *region, void *object,
    size_t bytes, size_t new_bytes) WEIR_NOEXCEPT;

/**
 * weir_region_vm_mark() - remember what is there.
 * @region: a live region.
 *
 * Returns:   the moment, for weir_region_vm_rewind().
 * Ownership: nothing changes hands.
 * Threads:   the region's owner.
 * Cost:      some loads.
 * Errors:    a destroyed region is a fault (weir/guard.h).
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD struct weir_region_vm_point weir_region_vm_mark(
    const struct weir_region_vm *region) WEIR_NOEXCEPT;

/**
 * weir_region_vm_rewind() - end all objects taken since a moment.
 * @region: a live region.
 * @mark:   a moment of it.
 *
 * Memory is kept.
 *
 * Returns:   false, and nothing is changed, for the mark of another region,
 *            for one from before a reset and for one beyond what is there now.
 * Ownership: objects taken since are stale.
 * Threads:   the region's owner.
 * Cost:      some 20 instructions.
 * Errors:    a destroyed region is a fault (weir/guard.h).  A mark that was
 *            rewound over is recognised until as much is in use again.
 * Since:     0.1
 */
WEIR_API bool weir_region_vm_rewind(struct weir_region_vm *region,
    struct weir_region_vm_point mark) WEIR_NOEXCEPT;

/**
 * weir_region_vm_reset() - end all objects, keep the region.
 * @region: a live region.
 *
 * Every 16th reset gives memory back, so that what the last 16 to 32 uses
 * needed stays, and at least first_bytes.
 *
 * Ownership: every pointer into the region is stale.
 * Threads:   the region's owner.
 * Cost:      some 20 instructions; every 16th two system calls if there is
 *            something to give.
 * Errors:    a destroyed region is a fault (weir/guard.h).  What the system
 *            refuses to take stays committed until later.
 * Since:     0.1
 */
WEIR_API void weir_region_vm_reset(struct weir_region_vm *region) WEIR_NOEXCEPT;

/**
 * weir_region_vm_trim() - give back all memory that no object is in.
 * @region: a live region.
 *
 * Also forgets what earlier uses needed.  weir_trim() does not do this, as it
 * runs on any thread.
 *
 * Returns:   the bytes that left the budget.
 * Ownership: objects stay as they are.
 * Threads:   the region's owner.
 * Cost:      two system calls.
 * Errors:    a destroyed region is a fault (weir/guard.h).
 * Since:     0.1
 */
WEIR_API size_t weir_region_vm_trim(struct weir_region_vm *region)
    WEIR_NOEXCEPT;

/**
 * weir_region_vm_hand_off() - give up a region for another thread.
 * @region: a live region.
 *
 * The other thread calls weir_region_vm_take_over(), after the ordering any
 * hand-over of memory needs (a queue, a join).  Release builds do not ask for
 * the two calls; debug builds, and the mode full of weir/guard.h, report a thread
 * that uses a region it does not own, in all calls but the inline ones.
 *
 * Ownership: nobody's until it is taken over.
 * Threads:   the region's owner.
 * Cost:      a few stores.
 * Errors:    a destroyed region is a fault (weir/guard.h).
 * Since:     0.1
 */
WEIR_API void weir_region_vm_hand_off(struct weir_region_vm *region)
    WEIR_NOEXCEPT;

/**
 * weir_region_vm_take_over() - own a region that was handed off.
 * @region: a live region, handed off, or the caller's already.
 *
 * Ownership: the calling thread's.
 * Threads:   one thread, after weir_region_vm_hand_off() happened.
 * Cost:      a few stores.
 * Errors:    a destroyed region, and in debug builds and in mode full one that
 *            another thread owns, are faults (weir/guard.h).
 * Since:     0.1
 */
WEIR_API void weir_region_vm_take_over(struct weir_region_vm *region)
    WEIR_NOEXCEPT;

/**
 * weir_region_vm_stats() - read the figures of one region.
 * @region: a live region.
 * @out:    filled whole; set out->size to sizeof(*out) first.
 *
 * Its line in weir_stats_pools() counts one object, the region; requests are a
 * lower bound, as the inline calls leave no trace.
 *
 * Returns:   0, or -EINVAL when out->size is none this library knows.
 * Ownership: copies into the caller's storage.
 * Threads:   the region's owner.
 * Cost:      some loads.
 * Errors:    a destroyed region is a fault (weir/guard.h).
 * Since:     0.1
 */
WEIR_API int weir_region_vm_stats(const struct weir_region_vm *region,
    struct weir_region_vm_figures *out) WEIR_NOEXCEPT;

/**
 * weir_region_vm_check() - look at the invariants of a region.
 * @region: a live region.
 *
 * Returns:   true when they hold.
 * Ownership: nothing changes hands.
 * Threads:   the region's owner.
 * Cost:      some loads.
 * Errors:    false; the first broken invariant goes to the message hook.
 * Since:     0.1
 */
WEIR_API bool weir_region_vm_check(const struct weir_region_vm *region)
    WEIR_NOEXCEPT;

/**
 * weir_region_vm_destroy() - end a region and everything in it.
 * @region: a live region, or NULL.
 *
 * Ownership: every pointer into the region, and the region, are stale.
 * Threads:   the region's owner; waits for statistics that are being read.
 * Cost:      a system call.
 * Errors:    a pointer that is no region, and a second destroy, are faults
 *            (weir/guard.h); the latter is recognised until the region's
 *            record is handed out again.
 * Since:     0.1
 */
WEIR_API void weir_region_vm_destroy(struct weir_region_vm *region)
    WEIR_NOEXCEPT;

WEIR_END_DECLS

#endif /* WEIR_REGION_VM_H */
