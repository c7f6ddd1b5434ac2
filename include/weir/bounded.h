/* SPDX-License-Identifier: MIT */
/*
 * bounded.h - a fixed number of equal objects in memory the caller brings.
 *
 * Lock-free, free of system calls, callable from signal handlers, and the same
 * at every address it is mapped to: for real-time threads, interrupt-like code,
 * memory shared by processes, and systems without an operating system.
 *
 *     static _Alignas(WEIR_BOUNDED_ALIGN) unsigned char
 *         storage[WEIR_BOUNDED_BYTES(sizeof(struct event), 0, 256, 0)];
 *     struct weir_bounded_config config = {
 *             .object_bytes = sizeof(struct event), .object_count = 256};
 *     struct weir_bounded *events;
 *
 *     if (weir_bounded_init(storage, sizeof(storage), "event", &config,
 *             &events) == 0) {
 *             struct event *event = weir_bounded_alloc(events);  // or NULL
 *             ...
 *             weir_bounded_free(events, event);
 *     }
 *
 * What is free is a bit in a word and nothing is written into free objects: no
 * list, hence no ABA problem, no tag and no 16-byte atomic, and an object comes
 * back with the contents it was freed with.
 *
 * In mode full of the guard (weir/guard.h) an object is handed out again after most
 * others of its pool, so that a second free is told from that of its next owner.
 * The mode is in force once the library is in use, which weir_bounded_show() or any
 * other pool makes it.
 *
 * src/pools/bounded.c and bounded_layout.c compile alone with -ffreestanding
 * and need no symbol but memcpy and memset.  weir_bounded_show() and
 * weir_bounded_hide() are then absent, and a caller's bug goes to the program's
 * weir_bounded_fault().
 */
#ifndef WEIR_BOUNDED_H
#define WEIR_BOUNDED_H

#include <weir/export.h>
#include <weir/guard.h>
#include <weir/stats.h>

WEIR_BEGIN_DECLS

struct weir_bounded;

/** What weir_bounded_index() answers for a pointer to no object. */
#define WEIR_BOUNDED_NONE SIZE_MAX

/** Most objects of one pool. */
#define WEIR_BOUNDED_COUNT_MAX ((size_t)1 << 30)

/** Alignment of the storage; an object_align above it raises it. */
#define WEIR_BOUNDED_ALIGN 64

enum weir_bounded_flags {
	/* One processor, or memory before speed: bitmap words side by side and
	 * all their bits in use, instead of few objects a cache line. */
	WEIR_BOUNDED_COMPACT = 1 << 0,
};

/**
 * struct weir_bounded_config - what weir_bounded_init() is told.
 *
 * Zero means the default for object_align (the largest power of two that
 * divides object_bytes, at most 16: enough for any C type) and flags.
 */
struct weir_bounded_config {
	size_t object_bytes;  /* > 0 */
	size_t object_align;  /* a power of two */
	size_t object_count;  /* 1 .. WEIR_BOUNDED_COUNT_MAX */
	unsigned flags;       /* enum weir_bounded_flags */
	uint64_t reserved[4]; /* must be zero */
};

/** What weir_bounded_try_free() found. */
enum weir_bounded_result {
	WEIR_BOUNDED_FREED,
	WEIR_BOUNDED_DOUBLE_FREE, /* the object was free */
	WEIR_BOUNDED_FOREIGN,     /* outside the pool's objects */
	WEIR_BOUNDED_INTERIOR,    /* inside an object, not at its start */
	WEIR_BOUNDED_MISALIGNED,  /* not even at an object's alignment */
};

/* ---- storage at compile time --------------------------------------------- */

/*
 * The arithmetic of the layout, as constant expressions.  Names that end in an
 * underscore are only for the two macros without one.
 *
 * A word tracks 64 objects (32 on 32-bit targets), or fewer while that makes up
 * to 8 words, so that threads have different words to go to.  Up to 64 words
 * have a cache line each.
 */
#define WEIR_BOUNDED_HEADER_BYTES_ 192
#define WEIR_BOUNDED_WORD_BITS_ (sizeof(void *) * 8)
#define WEIR_BOUNDED_ROUND_(n, to) (((size_t)(n) + (to)-1) / (to) * (to))
#define WEIR_BOUNDED_SPAN_(count, flags)                           \
	(((flags)&WEIR_BOUNDED_COMPACT) != 0 ||                    \
		    (size_t)(count) >= 8 * WEIR_BOUNDED_WORD_BITS_ \
		? WEIR_BOUNDED_WORD_BITS_                          \
		: (size_t)((count) >= 256   ? 32                   \
			   : (count) >= 128 ? 16                   \
					    : 8))
#define WEIR_BOUNDED_WORDS_(count, flags)                           \
	(((size_t)(count) + WEIR_BOUNDED_SPAN_(count, flags) - 1) / \
	    WEIR_BOUNDED_SPAN_(count, flags))
#define WEIR_BOUNDED_WORD_STRIDE_(count, flags)            \
	(((flags)&WEIR_BOUNDED_COMPACT) != 0 ||            \
		    WEIR_BOUNDED_WORDS_(count, flags) > 64 \
		? 2 * sizeof(void *)                       \
		: (size_t)64)
#define WEIR_BOUNDED_OBJECT_ALIGN_(bytes, align) \
	((align) != 0 ? (size_t)(align)          \
	    : (bytes) % 16 == 0                  \
		? (size_t)16                     \
		: ((size_t)(bytes) & (~(size_t)(bytes) + (size_t)1)))

/** Bytes from one object to the next. */
#define WEIR_BOUNDED_STRIDE(object_bytes, object_align) \
	WEIR_BOUNDED_ROUND_(object_bytes,               \
	    WEIR_BOUNDED_OBJECT_ALIGN_(object_bytes, object_align))

/** Bytes of storage a valid configuration needs: a constant if they are. */
#define WEIR_BOUNDED_BYTES(object_bytes, object_align, object_count, flags) \
	(WEIR_BOUNDED_ROUND_(                                               \
	     WEIR_BOUNDED_HEADER_BYTES_ +                                   \
		 WEIR_BOUNDED_WORDS_(object_count, flags) *                 \
		     WEIR_BOUNDED_WORD_STRIDE_(object_count, flags),        \
	     WEIR_BOUNDED_OBJECT_ALIGN_(object_bytes, object_align)) +      \
	    (size_t)(object_count)*WEIR_BOUNDED_STRIDE(                     \
		object_bytes, object_align))

/* ---- life ---------------------------------------------------------------- */

/**
 * weir_bounded_storage_bytes() - storage that weir_bounded_init() needs.
 * @config: as for weir_bounded_init().
 *
 * Returns:   bytes, or 0 for a configuration that is not valid.
 * Ownership: nothing changes hands.
 * Threads:   any thread, async-signal-safe.
 * Cost:      some instructions.
 * Errors:    0.
 * Since:     0.1
 */
WEIR_API size_t weir_bounded_storage_bytes(
    const struct weir_bounded_config *config) WEIR_NOEXCEPT;

/**
 * weir_bounded_init() - make a pool in the caller's storage.
 * @storage:       aligned to WEIR_BOUNDED_ALIGN and to the object_align; its
 *                 contents do not matter.
 * @storage_bytes: at least weir_bounded_storage_bytes(@config).
 * @name:          up to 47 bytes are kept, NULL for "unnamed"; shown in
 *                 reports and statistics.
 * @config:        object_bytes and object_count at least; copied.
 * @out:           receives the pool, which is @storage; NULL on failure.
 *
 * Returns:   0; -EINVAL for storage that is NULL, misaligned or too small,
 *            object_bytes 0, an object_align that is no power of two, an
 *            object_count of 0 or above WEIR_BOUNDED_COUNT_MAX, a size beyond
 *            the address space, an unknown flag, a reserved field set.
 * Ownership: @storage stays the caller's and must not go before the last use
 *            of the pool.  Objects are not touched.
 * Threads:   one thread, before any other uses @storage.
 * Cost:      clears the header and the bitmap; no system call.
 * Errors:    on failure @storage is as it was.
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD int weir_bounded_init(void *storage,
    size_t storage_bytes, const char *name,
    const struct weir_bounded_config *config, struct weir_bounded **out)
    WEIR_NOEXCEPT;

/**
 * weir_bounded_attach() - use a pool that another process or core has made.
 * @storage:       the memory, at whatever address it is seen here, aligned as
 *                 for weir_bounded_init().
 * @storage_bytes: how much of it can be accessed here.
 * @out:           receives the pool, which is @storage; NULL on failure.
 *
 * Returns:   0; -EAGAIN when no pool is there, or not yet whole; -EPROTO when
 *            it was made by a library of another layout or word size, or is
 *            damaged; -EINVAL for storage that is NULL or misaligned, or when
 *            the pool does not fit in @storage_bytes.
 * Ownership: nothing changes hands; there is no opposite call.
 * Threads:   any number, also while the pool is in use.
 * Cost:      some instructions; no system call.
 * Errors:    on failure nothing has been written.  The sharers trust each
 *            other: one that writes wildly over the header misleads the rest.
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD int weir_bounded_attach(void *storage,
    size_t storage_bytes, struct weir_bounded **out) WEIR_NOEXCEPT;

/**
 * weir_bounded_finish() - end a pool.
 * @pool: a pool whose objects are all back and that is shown nowhere, or NULL.
 *
 * Ownership: the storage is the caller's to reuse.
 * Threads:   one thread of one process, after every other use of the pool.
 * Cost:      reads the bitmap; no system call.
 * Errors:    objects still out and a second finish are faults (weir/guard.h).
 *            A pool need not be finished: its storage may simply go.
 * Since:     0.1
 */
WEIR_API void weir_bounded_finish(struct weir_bounded *pool) WEIR_NOEXCEPT;

/* ---- use ----------------------------------------------------------------- */

/**
 * weir_bounded_alloc() - take one object.
 * @pool: a live pool.
 *
 * Returns:   storage of object_bytes bytes at the pool's alignment, or NULL.
 *            Its contents are those it was freed with.
 * Ownership: the caller's until weir_bounded_free(), on any thread, in any
 *            process that has attached the pool.  What a process holds when it
 *            is killed stays out.
 * Threads:   any number of threads and processes; async-signal-safe, also on
 *            top of a call it interrupted.  Wait-free on x86 and on aarch64
 *            with LSE atomics, else lock-free.
 * Cost:      looks at each bitmap word (one for every 64 objects; 8 at least,
 *            from 57 objects on) at most twice: a load, and where that shows a
 *            free object one atomic operation.  Usually the first word serves.
 *            No system call.
 * Errors:    NULL, counted, after two passes over the words without success.
 *            It promises:
 *            - alone (no other call takes an object meanwhile; any may free):
 *              the pool was full when the call began;
 *            - an object that was free from before the call until after it was
 *              passed by only because other calls took two objects of its own
 *              word under this call's hands, one in each pass;
 *            - at the moment between the passes the pool was full, or in every
 *              word with an object free then another call has taken one since.
 *            So a failing call means a full pool or the success of others; but
 *            of objects that others free and take meanwhile, this call may miss
 *            each one: where threads should not see it, let the pool have an
 *            eighth more objects than can be in use.  errno is left as it was.
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD void *weir_bounded_alloc(struct weir_bounded *pool)
    WEIR_NOEXCEPT;

/**
 * weir_bounded_alloc_hint() - take one object, near a place of one's own.
 * @pool: a live pool.
 * @hint: any number: of the thread, the processor, the core.  Callers with
 *        different hints start at different words, best with small numbers in
 *        a row; the same hint finds objects in the same order each time.
 *
 * weir_bounded_alloc() takes the hint from the address of its stack, which
 * tells threads apart without thread-local storage.
 *
 * Returns:   as weir_bounded_alloc().
 * Ownership: as weir_bounded_alloc().
 * Threads:   as weir_bounded_alloc().
 * Cost:      as weir_bounded_alloc().
 * Errors:    as weir_bounded_alloc().
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD void *weir_bounded_alloc_hint(
    struct weir_bounded *pool, size_t hint) WEIR_NOEXCEPT;

/**
 * weir_bounded_alloc_batch() - take several objects.
 * @pool:    a live pool.
 * @objects: receives them.
 * @count:   how many are wanted.
 *
 * Returns:   how many were had, 0 .. @count.
 * Ownership: as weir_bounded_alloc(), each object for itself.
 * Threads:   as weir_bounded_alloc(), but lock-free, not wait-free, on x86.
 * Cost:      as one weir_bounded_alloc(): an atomic operation takes all it can
 *            from a word.
 * Errors:    fewer than @count, counted as one failure; what that promises for
 *            the objects missing is as for weir_bounded_alloc().
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD size_t weir_bounded_alloc_batch(
    struct weir_bounded *pool, void **objects, size_t count) WEIR_NOEXCEPT;

/**
 * weir_bounded_free() - give an object back.
 * @pool:   the pool it came from.
 * @object: one of its objects, or NULL.
 *
 * Ownership: the object is the pool's again.
 * Threads:   as weir_bounded_alloc(); what was written to the object before is
 *            seen by whoever takes it next.
 * Cost:      one atomic operation; no loop, no system call.
 * Errors:    a pointer that is no object of the pool (foreign, interior,
 *            misaligned) or a free one (double free) is a fault
 *            (weir/guard.h) and changes nothing.
 * Since:     0.1
 */
WEIR_API void weir_bounded_free(struct weir_bounded *pool, void *object)
    WEIR_NOEXCEPT;

/**
 * weir_bounded_try_free() - give an object back, or learn why not.
 * @pool:   the pool it came from.
 * @object: any address.
 *
 * Returns:   WEIR_BOUNDED_FREED, or what is wrong with @object; nothing has
 *            been changed then and nothing was reported.
 * Ownership: as weir_bounded_free().
 * Threads:   as weir_bounded_free().
 * Cost:      as weir_bounded_free().
 * Errors:    in the return value.
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD enum weir_bounded_result weir_bounded_try_free(
    struct weir_bounded *pool, void *object) WEIR_NOEXCEPT;

/**
 * weir_bounded_free_batch() - give several objects back.
 * @pool:    the pool they came from.
 * @objects: objects of it, in any order; NULL entries are passed over.
 * @count:   entries of @objects.
 *
 * Ownership: the objects are the pool's again.
 * Threads:   as weir_bounded_free(), but lock-free, not wait-free, on x86.
 * Cost:      one atomic operation for each run of objects of the same word,
 *            so one for each word in the order of weir_bounded_alloc_batch().
 * Errors:    as weir_bounded_free() for the first entry that is wrong; objects
 *            before it, and those of its own word up to 64 entries on, may
 *            have been freed.
 * Since:     0.1
 */
WEIR_API void weir_bounded_free_batch(struct weir_bounded *pool,
    void *const *objects, size_t count) WEIR_NOEXCEPT;

/* ---- objects as numbers, for memory seen at several addresses ------------ */

/**
 * weir_bounded_index() - the number of an object.
 * @pool:   a live pool.
 * @object: any address; it is not touched.
 *
 * Returns:   its number, the same in every process, or WEIR_BOUNDED_NONE for
 *            an address at which no object starts.
 * Ownership: nothing changes hands; the object may be free.
 * Threads:   any, async-signal-safe.
 * Cost:      a few instructions.
 * Errors:    WEIR_BOUNDED_NONE.
 * Since:     0.1
 */
WEIR_API size_t weir_bounded_index(
    const struct weir_bounded *pool, const void *object) WEIR_NOEXCEPT;

/**
 * weir_bounded_object() - the address of an object by its number.
 * @pool:  a live pool.
 * @index: any number.
 *
 * Returns:   its address here, or NULL for a number that is none.
 * Ownership: nothing changes hands; the object may be free.
 * Threads:   any, async-signal-safe.
 * Cost:      a few instructions.
 * Errors:    NULL.
 * Since:     0.1
 */
WEIR_API void *weir_bounded_object(struct weir_bounded *pool, size_t index)
    WEIR_NOEXCEPT;

/* ---- inspection ---------------------------------------------------------- */

/**
 * weir_bounded_object_count() - how many objects the pool has.
 * @pool: a live pool.
 *
 * Returns:   object_count of its configuration.
 * Ownership: nothing changes hands.
 * Threads:   any, async-signal-safe.
 * Cost:      a load.
 * Errors:    none.
 * Since:     0.1
 */
WEIR_API size_t weir_bounded_object_count(const struct weir_bounded *pool)
    WEIR_NOEXCEPT;

/**
 * weir_bounded_in_use() - how many objects are out.
 * @pool: a live pool.
 *
 * Returns:   the count; exact when the pool is quiet, else the words are read
 *            one after the other.
 * Ownership: nothing changes hands.
 * Threads:   any, async-signal-safe.
 * Cost:      reads the bitmap.
 * Errors:    none.
 * Since:     0.1
 */
WEIR_API size_t weir_bounded_in_use(const struct weir_bounded *pool)
    WEIR_NOEXCEPT;

/** weir_bounded_visit_fn - called for an object; false ends the walk. */
typedef bool (*weir_bounded_visit_fn)(void *object, void *context);

/**
 * weir_bounded_walk() - visit the objects that are out.
 * @pool:    a live pool.
 * @visit:   called for each, in order of address; it may free the object.
 * @context: handed to @visit.
 *
 * Returns:   the objects visited.
 * Ownership: nothing changes hands.
 * Threads:   meant for a quiet pool: an object that is taken or freed meanwhile
 *            may be visited or not.
 * Cost:      reads the bitmap, one call an object.
 * Errors:    none.
 * Since:     0.1
 */
WEIR_API size_t weir_bounded_walk(struct weir_bounded *pool,
    weir_bounded_visit_fn visit, void *context) WEIR_NOEXCEPT;

/**
 * weir_bounded_stats() - read the figures of one pool.
 * @pool: a live pool.
 * @out:  filled whole; set out->size to sizeof(*out) first.
 *
 * The peak is the number of different objects that were ever taken: exact with
 * one hint, where each call takes the first free object of one order, else an
 * upper bound (and what of the storage has ever been used).  Requests are a
 * lower bound, failures exact; figures count all processes.
 *
 * Returns:   0, or -EINVAL when out->size is none this library knows.
 * Ownership: copies into the caller's storage.
 * Threads:   any, async-signal-safe; counts are exact when the pool is quiet.
 * Cost:      reads the bitmap; no system call.
 * Errors:    none beside the return value.
 * Since:     0.1
 */
WEIR_API int weir_bounded_stats(
    const struct weir_bounded *pool, struct weir_pool_stats *out) WEIR_NOEXCEPT;

/**
 * weir_bounded_check() - walk the invariants of a pool.
 * @pool: a live pool.
 *
 * Returns:   true when header and bitmap are consistent.
 * Ownership: nothing changes hands.
 * Threads:   any, also while the pool is in use; async-signal-safe.
 * Cost:      reads the bitmap; no system call.
 * Errors:    false.
 * Since:     0.1
 */
WEIR_API bool weir_bounded_check(const struct weir_bounded *pool) WEIR_NOEXCEPT;

/* ---- with an operating system -------------------------------------------- */

/** struct weir_bounded_view - this process's entry for a pool it shows. */
struct weir_bounded_view {
	uint64_t opaque[16];
};

/**
 * weir_bounded_show() - enter a pool in this process's list of pools.
 * @pool: a live pool.
 * @view: storage for the entry, not in shared memory.
 *
 * From now on weir_stats_pools(), texts and the leak report know the pool.
 * Apart from weir_bounded_init() because the list has a lock and may be the
 * first use of the library, which reads its options.
 *
 * Ownership: @view is the library's until weir_bounded_hide().
 * Threads:   any thread.  Not async-signal-safe.
 * Cost:      a lock.
 * Errors:    none.
 * Since:     0.1
 */
WEIR_API void weir_bounded_show(
    struct weir_bounded *pool, struct weir_bounded_view *view) WEIR_NOEXCEPT;

/**
 * weir_bounded_hide() - take a pool out of the list again.
 * @view: what weir_bounded_show() was given, or NULL.
 *
 * Ownership: @view is the caller's again.
 * Threads:   any thread, but not from a walk of the list.
 * Cost:      a lock; waits for readers of the list.
 * Errors:    a view that is not shown is a fault (weir/guard.h).
 * Since:     0.1
 */
WEIR_API void weir_bounded_hide(struct weir_bounded_view *view) WEIR_NOEXCEPT;

/* ---- without an operating system ----------------------------------------- */

/*
 * Called for a caller's bug where the sources are compiled freestanding, in
 * place of the reporter of weir/guard.h.  The program may define it; the
 * default executes a trapping instruction.  When it returns, the faulty call
 * returns too and has changed nothing.
 */
void weir_bounded_fault(const struct weir_bounded *pool,
    enum weir_fault_class fault_class, const void *address);

WEIR_END_DECLS

#endif /* WEIR_BOUNDED_H */
