/* SPDX-License-Identifier: MIT */
/*
 * heap.h - memory of any size, in any order, from any thread.
 *
 * weir_alloc() and its family serve one heap of the process, made at the first
 * call.  Heaps a program creates are worlds of their own: a budget, statistics,
 * a checking level, and one call that ends a heap with everything in it, which
 * costs by the slab and not by the object.
 *
 * Up to 32 KiB a request gets a slot of its size class, out of the calling
 * thread's magazine; beyond, a run of whole pages.  Classes are 16 bytes apart
 * up to 256, then eight to a doubling: above 128 bytes a slot exceeds the
 * request by an eighth of it at most.  Nothing is stored beside an object; its
 * owner and size follow from its address.
 *
 * A heap at the default checking level recognises at the call a second free, a
 * foreign, interior or misaligned pointer, an object of another heap and a
 * wrong size, and reports it through weir/guard.h.  The mark that tells a free
 * object lies in its first word; a program that writes there after a free, or
 * frees once more after the memory was handed out again or went back to the
 * system, is not caught there.  The write is, when the object comes to the stock
 * that threads share, or from it with others; not if it was of zero, or the
 * object was handed out before.
 *
 * What is free in one class is for the others, without any call: a heap keeps an
 * eighth of what is in use, and 128 KiB, in its magazines at most, and pages of
 * classes that a program does not use any more go back to the system while it
 * frees; not with WEIR_DECAY_NEVER.  weir_maintain() gives back the rest.
 */
#ifndef WEIR_HEAP_H
#define WEIR_HEAP_H

#include <weir/cache.h>
#include <weir/export.h>
#include <weir/stats.h>

WEIR_BEGIN_DECLS

struct weir_heap;

/* ---- size classes ------------------------------------------------------ */

/*
 * The map from sizes to classes is compiled into programs, and so part of the
 * ABI: weir_alloc() of a constant asks for the class, not for the size.
 */

/** Number of size classes; they are numbered from 0. */
#define WEIR_HEAP_CLASSES 72

/** Largest size that has a class. */
#define WEIR_HEAP_CLASS_BYTES_MAX ((size_t)32768)

/** Alignment of every object that asks for no other. */
#define WEIR_HEAP_ALIGN ((size_t)16)

/**
 * weir_heap_class() - the class of a size.
 * @bytes: 0 .. WEIR_HEAP_CLASS_BYTES_MAX.
 *
 * Returns:   0 .. WEIR_HEAP_CLASSES - 1.
 * Ownership: pure.
 * Threads:   any.
 * Cost:      nothing for a constant.
 * Errors:    a larger @bytes gives a number that is no class.
 * Since:     0.1
 */
static inline unsigned
weir_heap_class(size_t bytes) WEIR_NOEXCEPT
{
	if (bytes <= 16)
		return 0;
	if (bytes <= 256)
		return (unsigned)((bytes - 1) / 16);

	/* 2^k < bytes <= 2^(k + 1), cut into eight; k is 8 .. 14. */
	unsigned k = 63u - (unsigned)__builtin_clzll(bytes - 1);

	return 16 + (k - 8) * 8 + (unsigned)((bytes - 1) >> (k - 3)) - 8;
}

/**
 * weir_heap_class_bytes() - the slot size of a class.
 * @index: 0 .. WEIR_HEAP_CLASSES - 1.
 *
 * Returns:   the largest size that has class @index.
 * Ownership: pure.
 * Threads:   any.
 * Cost:      nothing for a constant.
 * Errors:    none for a class.
 * Since:     0.1
 */
static inline size_t
weir_heap_class_bytes(unsigned index) WEIR_NOEXCEPT
{
	if (index < 16)
		return ((size_t)index + 1) * 16;
	return ((size_t)index % 8 + 9) << ((index - 16) / 8 + 5);
}

/* ---- the heap of the process ------------------------------------------- */

/**
 * weir_alloc() - take memory of any size from the heap of the process.
 * @bytes: what is needed; 0 is served as 1.
 *
 * Returns:   at least @bytes bytes aligned to WEIR_HEAP_ALIGN, or NULL.
 *            Contents are unspecified.
 * Ownership: the caller's until weir_free() or weir_free_sized(), on any
 *            thread.
 * Threads:   any number of threads; also in thread exit handlers.  No shared
 *            line is written while this thread's magazine of the class has
 *            slots.  Not async-signal-safe.
 * Cost:      about 2 ns up to 4 KiB, little more up to 32 KiB; beyond, one lock
 *            of the page supply.  A constant size is looked up by the compiler.
 * Errors:    NULL when memory or the heap's limit is exhausted and for sizes
 *            above PTRDIFF_MAX; counted in the statistics; errno is left as it
 *            was.
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD void *weir_alloc(size_t bytes) WEIR_NOEXCEPT;

/**
 * weir_alloc_class() - what weir_alloc() of a constant size compiles to.
 * @index: 0 .. WEIR_HEAP_CLASSES - 1; in the bits from 8 on the size that was
 *         asked for, which the guard wants to know, or 0.
 *
 * Returns:   as weir_alloc() of weir_heap_class_bytes(@index).
 * Ownership: as weir_alloc().
 * Threads:   as weir_alloc().
 * Cost:      as weir_alloc(), without the look-up of the size.
 * Errors:    as weir_alloc(); NULL for an @index that is no class.
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD void *weir_alloc_class(unsigned index) WEIR_NOEXCEPT;

/*
 * The function above as a macro too, as C lets any header do (C17 7.1.4):
 * (weir_alloc)(n) and &weir_alloc are the function.
 */
#ifdef __GNUC__
#define weir_alloc(bytes)                                             \
	(__builtin_constant_p(bytes) &&                               \
		    (size_t)(bytes) <= WEIR_HEAP_CLASS_BYTES_MAX      \
		? weir_alloc_class(weir_heap_class((size_t)(bytes)) | \
				   (unsigned)(bytes) << 8)            \
		: (weir_alloc)(bytes))
#endif

/**
 * weir_calloc() - take zeroed memory for an array.
 * @count: elements.
 * @bytes: of one element.
 *
 * Returns:   @count * @bytes zero bytes, otherwise as weir_alloc().
 * Ownership: as weir_alloc().
 * Threads:   as weir_alloc().
 * Cost:      as weir_alloc() and the zeroing, which pages that never were used
 *            do without.
 * Errors:    as weir_alloc(); NULL when the product overflows.
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD void *weir_calloc(size_t count, size_t bytes)
    WEIR_NOEXCEPT;

/**
 * weir_aligned() - take memory at an alignment.
 * @align: a power of two.
 * @bytes: what is needed; need not be a multiple of @align.
 *
 * Returns:   at least @bytes bytes aligned to @align, otherwise as weir_alloc().
 * Ownership: as weir_alloc(), but not for weir_free_sized(): the class follows
 *            from both numbers.
 * Threads:   as weir_alloc().
 * Cost:      up to 4 KiB as weir_alloc() of the next multiple of @align that is
 *            a class; larger alignments take runs of pages.
 * Errors:    as weir_alloc(); an @align that is no power of two is a fault.
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD void *weir_aligned(size_t align, size_t bytes)
    WEIR_NOEXCEPT;

/**
 * weir_realloc() - change the size of an object.
 * @object: an object of the heap of the process, or NULL for a new one.
 * @bytes:  its new size; 0 is served as 1, nothing is freed.
 *
 * Returns:   the object, at the same address if its class stays the same or its
 *            pages could be added or taken away there; else moved, with as much
 *            of its contents as fits.  NULL leaves @object as it was.
 * Ownership: on success the old pointer is stale unless it was returned.
 * Threads:   as weir_alloc().
 * Cost:      in place a few ns; moved by a copy.
 * Errors:    as weir_alloc() and weir_free().
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD void *weir_realloc(void *object, size_t bytes)
    WEIR_NOEXCEPT;

/**
 * weir_free() - give an object back to the heap of the process.
 * @object: what weir_alloc() and its family returned, or NULL.
 *
 * Ownership: @object is the heap's again; the caller's pointer is stale.
 * Threads:   any thread, not only the one that allocated; also in thread exit
 *            handlers.  Not async-signal-safe.
 * Cost:      about 2 ns up to 32 KiB; one short lock a magazine.
 * Errors:    a second free, a foreign, interior or misaligned pointer and an
 *            object of another heap or pool are faults (weir/guard.h).
 * Since:     0.1
 */
WEIR_API void weir_free(void *object) WEIR_NOEXCEPT;

/**
 * weir_free_sized() - give back an object whose size the caller knows.
 * @object: what weir_alloc(), weir_calloc() or weir_realloc() returned, or
 *          NULL; nothing of weir_aligned().
 * @bytes:  the size last asked for.
 *
 * Ownership: as weir_free().
 * Threads:   as weir_free().
 * Cost:      a few instructions more than weir_free() where the size is
 *            checked; less where the heap checks in batches.
 * Errors:    as weir_free(); a size of another class is a fault, at the call or,
 *            where the heap checks in batches, when the magazine is.
 * Since:     0.1
 */
WEIR_API void weir_free_sized(void *object, size_t bytes) WEIR_NOEXCEPT;

/**
 * weir_usable_size() - how many bytes an object really has.
 * @object: an object of any heap, or NULL.
 *
 * Returns:   at least the size asked for, all of it usable; 0 for NULL.
 * Ownership: nothing changes hands.
 * Threads:   as weir_free().
 * Cost:      a look-up.
 * Errors:    a pointer that is no object of a heap is a fault (weir/guard.h).
 * Since:     0.1
 */
WEIR_API size_t weir_usable_size(const void *object) WEIR_NOEXCEPT;

/* ---- heaps of one's own ------------------------------------------------ */

/**
 * enum weir_heap_flag - what a heap does beside the usual.
 * @WEIR_HEAP_REPORT_LIVE: objects in use when the heap is destroyed are a fault
 *   (weir/guard.h), as in a cache: for a heap whose objects are each freed, and
 *   not ended by its end.
 */
enum weir_heap_flag {
	WEIR_HEAP_REPORT_LIVE = 1 << 0,
};

/**
 * struct weir_heap_config - what weir_heap_create() is told.
 *
 * Zero means the default for every field; NULL is all defaults.
 *
 * A class costs a heap nothing before its first use, then a slab of 64 KiB of
 * address space and one of the cells (WEIR_ABI_CELLS) each thread has for the
 * pools of a process; classes beyond them work, through a lock.
 */
struct weir_heap_config {
	size_t limit_bytes;          /* most slabs and runs in all; 0: none */
	enum weir_check_level check; /* 0: WEIR_CHECK_EACH */
	unsigned flags;              /* of enum weir_heap_flag */
	/* Slot sizes in place of the map above: rising multiples of 16 up to
	 * WEIR_HEAP_CLASS_BYTES_MAX, for a program that knows its sizes.  Copied.
	 * Larger requests take runs of pages. */
	const uint32_t *class_bytes;
	size_t class_count;   /* 1 .. WEIR_HEAP_CLASSES, or 0 with NULL */
	uint64_t reserved[4]; /* must be zero */
};

/**
 * weir_heap_create() - make a heap.
 * @name:   up to 47 bytes are kept; shown in statistics and reports.
 * @config: NULL for all defaults; copied.
 * @out:    receives the heap, NULL on failure.
 *
 * Returns:   0; -EINVAL (an unknown flag or level, classes that do not rise,
 *            are no multiples of 16, too large or too many, a reserved field
 *            set), said in a message; -ENOMEM.
 * Ownership: the caller's until weir_heap_destroy().
 * Threads:   any thread.  Not async-signal-safe.
 * Cost:      about a microsecond and 4 KiB; no slab before the first object.
 * Errors:    on failure nothing is kept.
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD int weir_heap_create(const char *name,
    const struct weir_heap_config *config, struct weir_heap **out)
    WEIR_NOEXCEPT;

/**
 * weir_heap_set_default() - configure the heap of the process.
 * @config: as for weir_heap_create(); NULL for all defaults.
 *
 * Returns:   0; -EINVAL as weir_heap_create(), and for classes of one's own,
 *            since compiled-in sizes mean the standard ones; -EBUSY when the
 *            heap was used already.
 * Ownership: copies.
 * Threads:   one thread, before any uses the heap of the process.
 * Cost:      small.
 * Errors:    on failure nothing changes.
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD int weir_heap_set_default(
    const struct weir_heap_config *config) WEIR_NOEXCEPT;

/**
 * weir_heap_default() - the heap of the process as a heap.
 *
 * Returns:   the heap behind weir_alloc(), made if need be; never NULL.
 * Ownership: the library's; it is never destroyed.
 * Threads:   any.
 * Cost:      small.
 * Errors:    none.
 * Since:     0.1
 */
WEIR_API struct weir_heap *weir_heap_default(void) WEIR_NOEXCEPT;

/**
 * weir_heap_of() - the heap an address lies in.
 * @address: in memory that nobody gives back meanwhile; it is not read.
 *
 * Returns:   the heap, or NULL for memory that is not of a heap.
 * Ownership: nothing changes hands.
 * Threads:   any; the answer holds as long as the object around it is in use.
 *            Not for an address whose heap or slab another thread may be ending.
 * Cost:      a look-up.
 * Errors:    none.
 * Since:     0.1
 */
WEIR_API struct weir_heap *weir_heap_of(const void *address) WEIR_NOEXCEPT;

/**
 * weir_heap_alloc() - as weir_alloc(), from a heap.
 * @heap:  a live heap.
 * @bytes: what is needed; 0 is served as 1.
 *
 * Returns:   as weir_alloc().
 * Ownership: the caller's until weir_heap_free() or weir_heap_destroy().
 * Threads:   as weir_alloc().
 * Cost:      as weir_alloc().
 * Errors:    as weir_alloc().
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD void *weir_heap_alloc(
    struct weir_heap *heap, size_t bytes) WEIR_NOEXCEPT;

/**
 * weir_heap_calloc() - as weir_calloc(), from a heap.
 * @heap:  a live heap.
 * @count: elements.
 * @bytes: of one element.
 *
 * Returns:   as weir_calloc().
 * Ownership: as weir_heap_alloc().
 * Threads:   as weir_alloc().
 * Cost:      as weir_calloc().
 * Errors:    as weir_calloc().
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD void *weir_heap_calloc(
    struct weir_heap *heap, size_t count, size_t bytes) WEIR_NOEXCEPT;

/**
 * weir_heap_aligned() - as weir_aligned(), from a heap.
 * @heap:  a live heap.
 * @align: a power of two.
 * @bytes: what is needed.
 *
 * Returns:   as weir_aligned().
 * Ownership: as weir_aligned().
 * Threads:   as weir_alloc().
 * Cost:      as weir_aligned().
 * Errors:    as weir_aligned().
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD void *weir_heap_aligned(
    struct weir_heap *heap, size_t align, size_t bytes) WEIR_NOEXCEPT;

/**
 * weir_heap_realloc() - as weir_realloc(), in a heap.
 * @heap:   a live heap.
 * @object: an object of @heap, or NULL for a new one.
 * @bytes:  its new size.
 *
 * Returns:   as weir_realloc().
 * Ownership: as weir_realloc().
 * Threads:   as weir_alloc().
 * Cost:      as weir_realloc().
 * Errors:    as weir_realloc().
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD void *weir_heap_realloc(
    struct weir_heap *heap, void *object, size_t bytes) WEIR_NOEXCEPT;

/**
 * weir_heap_free() - as weir_free(), to a heap.
 * @heap:   the heap it came from.
 * @object: an object of @heap, or NULL.
 *
 * Ownership: @object is the heap's again.
 * Threads:   as weir_free().
 * Cost:      as weir_free().
 * Errors:    as weir_free().
 * Since:     0.1
 */
WEIR_API void weir_heap_free(struct weir_heap *heap, void *object)
    WEIR_NOEXCEPT;

/**
 * weir_heap_free_sized() - as weir_free_sized(), to a heap.
 * @heap:   the heap it came from.
 * @object: an object of @heap, or NULL.
 * @bytes:  the size last asked for.
 *
 * Ownership: @object is the heap's again.
 * Threads:   as weir_free().
 * Cost:      as weir_free_sized().
 * Errors:    as weir_free_sized().
 * Since:     0.1
 */
WEIR_API void weir_heap_free_sized(
    struct weir_heap *heap, void *object, size_t bytes) WEIR_NOEXCEPT;

/**
 * weir_heap_trim() - give idle memory of a heap back to the page supply.
 * @heap: a live heap.
 *
 * Returns:   bytes of slabs given back.
 * Ownership: objects in use are untouched.
 * Threads:   any thread; takes the caller's magazines and the spare ones of all
 *            threads.  Not async-signal-safe.
 * Cost:      linear in the idle slots.
 * Errors:    none.
 * Since:     0.1
 */
WEIR_API size_t weir_heap_trim(struct weir_heap *heap) WEIR_NOEXCEPT;

/**
 * weir_heap_stats() - read the figures of one heap.
 * @heap: a live heap.
 * @out:  filled whole; set out->size to sizeof(*out) first.
 *
 * Objects are slots and runs; the heap's limit is in bytes, so out->limit is
 * always UINT64_MAX.  Requests for slots leave no trace in a magazine: requests
 * and hits are lower bounds, from magazines that were loaded and found empty
 * later; requests for runs, misses and failures are exact, as is all else when
 * the heap is quiet.
 *
 * Returns:   0, or -EINVAL when out->size is none this library knows.
 * Ownership: copies into the caller's storage.
 * Threads:   any thread; exact when the heap is quiet.
 * Cost:      linear in classes times threads; no allocation.
 * Errors:    none beside the return value.
 * Since:     0.1
 */
WEIR_API int weir_heap_stats(
    struct weir_heap *heap, struct weir_pool_stats *out) WEIR_NOEXCEPT;

/** struct weir_heap_class_stats - one class of a heap, or its runs of pages. */
struct weir_heap_class_stats {
	uint64_t object_bytes; /* of a slot; 0 in the row of the runs */
	uint64_t total;        /* slots in being; runs */
	uint64_t in_use;
	uint64_t cached; /* of the others, those that threads hold */
	uint64_t bytes_mapped;
	uint64_t bytes_in_use;
	/* The part of bytes_in_use that was asked for: for runs exact, for
	 * slots an estimate from one request a magazine. */
	uint64_t bytes_requested;
	uint64_t reserved[3];
};

/**
 * weir_heap_classes() - read the figures of a heap's classes.
 * @heap:     a live heap.
 * @out:      array of @capacity entries, or NULL with 0.
 * @capacity: entries of @out; WEIR_HEAP_CLASSES + 1 always suffices.
 *
 * Returns:   the number of classes used so far, smallest first, and one for the
 *            runs of pages; the first @capacity of them are filled.
 * Ownership: copies into the caller's storage.
 * Threads:   as weir_heap_stats().
 * Cost:      as weir_heap_stats().
 * Errors:    none.
 * Since:     0.1
 */
WEIR_API size_t weir_heap_classes(struct weir_heap *heap,
    struct weir_heap_class_stats *out, size_t capacity) WEIR_NOEXCEPT;

/**
 * weir_heap_check() - walk the invariants of a heap.
 * @heap: a live heap that no other thread uses during the call.
 *
 * Returns:   true when every slot and run is accounted for exactly once.
 * Ownership: nothing changes hands.
 * Threads:   quiet heaps only.
 * Cost:      linear in all slots and runs.
 * Errors:    false; the first broken invariant goes to the message hook.
 * Since:     0.1
 */
WEIR_API bool weir_heap_check(struct weir_heap *heap) WEIR_NOEXCEPT;

/**
 * weir_heap_destroy() - end a heap and every object in it.
 * @heap: a heap that was created, or NULL.
 *
 * Ownership: all memory of the heap returns to the page supply; every pointer
 *            into it is stale.
 * Threads:   one thread, after every other use of the heap has happened.
 * Cost:      linear in slabs and runs, and in classes times threads; of objects,
 *            in those that threads keep for their next requests.
 * Errors:    a second destroy, the heap of the process, an object that was
 *            freed twice, if that was not seen before, and with
 *            WEIR_HEAP_REPORT_LIVE objects in use are faults (weir/guard.h).
 * Since:     0.1
 */
WEIR_API void weir_heap_destroy(struct weir_heap *heap) WEIR_NOEXCEPT;

WEIR_END_DECLS

#endif /* WEIR_HEAP_H */
