/* SPDX-License-Identifier: MIT */
/*
 * buffer.h - reference-counted I/O buffers in tiers of sizes.
 *
 * A pool serves a request from the smallest tier that fits.  Buffers are
 * shared by reference count and cut into slices without copying; the last
 * release, on any thread, gives the payload back.  Descriptors lie apart from
 * payload, so payload is aligned to itself and adjoins nothing of the
 * library's.
 *
 * Who owns what: a reference belongs to whoever acquired or retained it and
 * ends with one release.  A slice is a value and counts nothing until
 * weir_slice_retain() gives it a reference of its own:
 *
 *     struct weir_buffer *b = weir_buffer_acquire(pool, n);     1 reference
 *     struct weir_slice body = weir_slice_make(b, 4, n - 4);    1
 *     conn->out = weir_slice_retain(body);                      2
 *     weir_buffer_release(b);                                   1
 *     weir_slice_release(&conn->out);                           0, b is free
 *
 * One reference is used by one thread at a time; a thread that is to work
 * beside another gets a reference of its own.
 *
 *   buffer_limit.h  requests that wait, by priority; limits set at run time
 *   account.h       who pays for what is held: connection, group, process
 *   buffer_watch.h  what is held, by whom, since when
 *   chain.h         many slices as one message, for writev() and the like
 *   chunk.h         many small messages in one buffer
 *   broadcast.h     one message to many receivers
 */
#ifndef WEIR_BUFFER_H
#define WEIR_BUFFER_H

#include <weir/export.h>
#include <weir/limit.h>
#include <weir/stats.h>

WEIR_BEGIN_DECLS

#define WEIR_BUFFER_TIERS_MAX 16

/** Largest payload of a tier; foreign memory may be larger. */
#define WEIR_BUFFER_BYTES_MAX ((size_t)2 << 20)

struct weir_buffer_pool;

/**
 * struct weir_buffer - descriptor of one buffer, 64 bytes.
 *
 * A holder reads data and bytes, and reads and writes user; the rest is the
 * library's.  The descriptor of a pool's buffer lies in the pool, that of
 * foreign memory where the caller put it.
 */
struct weir_buffer {
	unsigned char *data;
	uint32_t bytes; /* capacity of data */
	uint32_t flags;
	uint32_t references;
	uint16_t tier;
	uint16_t kernel;
	struct weir_buffer_pool *pool; /* NULL over foreign memory */
	void *user;                    /* the holders'; NULL after acquire */
	uint64_t history;
	uint64_t internal[2];
};

/** struct weir_slice - bytes offset .. offset + bytes of one buffer. */
struct weir_slice {
	struct weir_buffer *buffer; /* NULL: the empty slice */
	uint32_t offset;
	uint32_t bytes;
};

/**
 * weir_buffer_release_fn - ends foreign memory.
 * @buffer:  has no reference any more; the callee may free it, too.
 * @context: the pointer given to weir_buffer_init_external().
 *
 * Runs on the thread of the last release, under no lock of the library.
 */
typedef void (*weir_buffer_release_fn)(
    struct weir_buffer *buffer, void *context);

struct weir_buffer_tier {
	uint32_t bytes;   /* payload of a buffer, 1 .. WEIR_BUFFER_BYTES_MAX */
	uint32_t reserve; /* buffers set apart for WEIR_BUFFER_SEND */
	size_t limit;     /* buffers in being; 0: none of its own */
	size_t prealloc;  /* buffers made and touched at creation */
};

/**
 * weir_buffer_notify_fn - told that there is room in a pool again.
 * @context: weir_buffer_pool_config.notify_context.
 *
 * With policy WEIR_LIMIT_NOTIFY, called once after requests were refused, as
 * soon as a request like the last refused one would be served and the tier or
 * limit_bytes is down to 7/8 of its limit: on the thread whose release made it
 * so, which is in weir_buffer_release() and holds no lock, or in the acquire
 * that was refused itself if it is so already.  It may use the pool.
 */
typedef void (*weir_buffer_notify_fn)(
    struct weir_buffer_pool *pool, void *context);

enum weir_buffer_flags {
	WEIR_BUFFER_WIPE = 1 << 0, /* zero the payload on the last release */
};

/**
 * struct weir_buffer_pool_config - what weir_buffer_pool_create() is told.
 *
 * Zero means the default for every field.  The tier's limit counts buffers in
 * being, those kept for reuse included; limit_bytes counts the payload that
 * callers hold, a buffer with its whole tier size.  Both are strict, and
 * WEIR_LIMIT_NOTHING closes a tier or the pool.
 *
 * At a tier's limit, threads that are idle may withhold free buffers, limit / 16
 * at most in all; below a limit of 512 threads keep none, and each call takes a
 * short lock instead.  With WEIR_LIMIT_WAIT nothing is withheld at any limit, and
 * each call costs some 40 ns.  What threads keep does not count against
 * limit_bytes.
 *
 * A tier's reserve is taken at creation: its buffers count against the limits
 * from then on, and only requests for WEIR_BUFFER_SEND (weir/buffer_limit.h) get
 * one, when there is nothing else.  So a server that is full can still send, and
 * by that become less full.
 */
struct weir_buffer_pool_config {
	struct weir_buffer_tier tier[WEIR_BUFFER_TIERS_MAX]; /* ascending */
	size_t tier_count;    /* 0: 64, 512, 2K, 8K, 32K, 64K */
	uint64_t limit_bytes; /* payload over all tiers; 0: none */
	unsigned flags;       /* enum weir_buffer_flags, for every buffer */
	enum weir_limit_policy policy; /* 0: WEIR_LIMIT_FAIL */
	uint64_t timeout_ns;           /* with WEIR_LIMIT_WAIT; 0: for ever */
	weir_buffer_notify_fn notify;  /* with WEIR_LIMIT_NOTIFY */
	void *notify_context;
	uint64_t reserved[4]; /* must be zero */
};

/* ---- pools -------------------------------------------------------------- */

/**
 * weir_buffer_pool_create() - make a pool of buffers.
 * @name:   shown in statistics and reports as "name/bytes", one entry a tier;
 *          what is longer than fits into 47 bytes is cut.
 * @config: copied; NULL for the defaults.
 * @out:    receives the pool, NULL on failure.
 *
 * Returns:   0; -EINVAL (tiers not ascending, a tier of 0 bytes or above
 *            WEIR_BUFFER_BYTES_MAX, too many tiers, tiers given and
 *            tier_count 0, limit_bytes below the smallest tier, prealloc
 *            or reserve above a limit, an unknown flag, a field of another
 *            policy, a reserved field set), and a message names the field;
 *            -ENOMEM.
 * Ownership: the caller's until weir_buffer_pool_destroy().
 * Threads:   any thread.  Not async-signal-safe.
 * Cost:      microseconds, plus the preallocated buffers.
 * Errors:    on failure nothing is kept.
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD int weir_buffer_pool_create(const char *name,
    const struct weir_buffer_pool_config *config, struct weir_buffer_pool **out)
    WEIR_NOEXCEPT;

/**
 * weir_buffer_pool_trim() - give idle memory of a pool back to the page supply.
 * @pool: a live pool.
 *
 * Returns:   bytes given back, descriptors and payload.
 * Ownership: buffers held are untouched.  Payload goes back in blocks of up
 *            to 2 MiB, so one buffer held keeps its block.
 * Threads:   any thread; takes the caller's magazines and the spare ones of all
 *            threads, not those other threads are using.  Not async-signal-safe.
 * Cost:      linear in the idle buffers.
 * Errors:    none.
 * Since:     0.1
 */
WEIR_API size_t weir_buffer_pool_trim(struct weir_buffer_pool *pool)
    WEIR_NOEXCEPT;

/**
 * weir_buffer_pool_tier_count() - number of tiers of a pool.
 * @pool: a live pool.
 *
 * Returns:   1 .. WEIR_BUFFER_TIERS_MAX.
 * Ownership: nothing changes hands.
 * Threads:   any thread.
 * Cost:      one load.
 * Errors:    none.
 * Since:     0.1
 */
WEIR_API size_t weir_buffer_pool_tier_count(const struct weir_buffer_pool *pool)
    WEIR_NOEXCEPT;

/**
 * weir_buffer_pool_stats() - read the figures of one tier.
 * @pool: a live pool.
 * @tier: 0 is the smallest.
 * @out:  filled whole; set out->size to sizeof(*out) first.
 *
 * A request above the largest tier counts as a failure of the largest
 * (failures_by_size), one refused by limit_bytes as a failure of the tier it
 * would have been from (failures_by_bytes).  limit_bytes and limit_bytes_used
 * are those of the whole pool.
 *
 * Returns:   0, or -EINVAL when there is no such tier or out->size is none
 *            this library knows.
 * Ownership: copies into the caller's storage.
 * Threads:   any thread; exact when the pool is quiet, otherwise each figure
 *            is one that held at some moment of the call.
 * Cost:      linear in the threads that used the pool; no allocation.
 * Errors:    none beside the return value.
 * Since:     0.1
 */
WEIR_API int weir_buffer_pool_stats(struct weir_buffer_pool *pool, size_t tier,
    struct weir_pool_stats *out) WEIR_NOEXCEPT;

/**
 * weir_buffer_pool_check() - walk the invariants of a pool.
 * @pool: a live pool that no other thread uses during the call.
 *
 * Returns:   true when every descriptor is where it belongs, every buffer is
 *            accounted for exactly once and the limits hold.
 * Ownership: nothing changes hands.
 * Threads:   quiet pools only.
 * Cost:      linear in all buffers.
 * Errors:    false; the first broken invariant goes to the message hook.
 * Since:     0.1
 */
WEIR_API bool weir_buffer_pool_check(struct weir_buffer_pool *pool)
    WEIR_NOEXCEPT;

/**
 * weir_buffer_pool_destroy() - end a pool.
 * @pool: a pool whose buffers are all released, or NULL.
 *
 * Ownership: the memory returns to the page supply.
 * Threads:   one thread, after every other use of the pool has happened.
 * Cost:      linear in the buffers and in the threads.
 * Errors:    buffers still held, and a second destroy, are faults
 *            (weir/guard.h); the first names the tier and the count.
 * Since:     0.1
 */
WEIR_API void weir_buffer_pool_destroy(struct weir_buffer_pool *pool)
    WEIR_NOEXCEPT;

/* ---- buffers ------------------------------------------------------------ */

/**
 * weir_buffer_acquire() - take a buffer for at least so many bytes.
 * @pool:  a live pool; it must outlive every buffer taken from it.
 * @bytes: what has to fit; 0 takes from the smallest tier.
 *
 * The smallest tier that fits serves the request or nobody does: a full tier
 * never spills into the next, which would hide that it is too small and let
 * small requests starve large ones.
 *
 * In a pool with WEIR_LIMIT_WAIT this is weir_buffer_acquire_for() without an
 * account, for WEIR_BUFFER_RECEIVE.
 *
 * Returns:   a buffer with one reference and data of at least @bytes bytes,
 *            or NULL.  Contents are unspecified.  Payload of 4 KiB and more is
 *            aligned to pages, smaller payload to 64 or, below that, to the
 *            power of two in its tier's size.
 * Ownership: the reference is the caller's until weir_buffer_release().
 * Threads:   any number of threads.  No shared line is written while this
 *            thread's magazine has buffers and the pool has no limit_bytes;
 *            with it, one shared counter.  Not async-signal-safe.
 * Cost:      about 3 ns, 6 ns with limit_bytes; one short lock per magazine,
 *            which holds 8 to 126 buffers, or per call in a tier limited to
 *            less than 512; a system call only when the page supply grows.
 * Errors:    NULL at a limit (with WEIR_LIMIT_WAIT, at the end of the time), when
 *            memory is exhausted, or above the largest tier, counted in the
 *            statistics; errno is left as it was.  A free buffer that was
 *            written to is a fault (weir/guard.h).
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD struct weir_buffer *weir_buffer_acquire(
    struct weir_buffer_pool *pool, size_t bytes) WEIR_NOEXCEPT;

/**
 * weir_buffer_retain() - add a reference.
 * @buffer: a buffer the caller holds a reference of, or NULL.
 *
 * Returns:   @buffer.
 * Ownership: the caller has one reference more, to be released once.
 * Threads:   any thread that holds a reference no other thread is using:
 *            the only reference is counted up without an atomic.  Foreign
 *            memory (weir_buffer_init_external()) is always counted by
 *            atomics, so that a static buffer may be retained by any thread
 *            while its first reference lasts.
 * Cost:      1 ns for the only reference, else one atomic add.
 * Errors:    a buffer without references and more than 2^31 references are
 *            faults (weir/guard.h).
 * Since:     0.1
 */
WEIR_API struct weir_buffer *weir_buffer_retain(struct weir_buffer *buffer)
    WEIR_NOEXCEPT;

/**
 * weir_buffer_retain_many() - add references for many holders at once.
 * @buffer: a buffer the caller holds a reference of.
 * @count:  references to add; 0 adds none.
 *
 * Returns:   @buffer.
 * Ownership: the caller has @count references more.
 * Threads:   as weir_buffer_retain().
 * Cost:      as one weir_buffer_retain().
 * Errors:    as weir_buffer_retain().
 * Since:     0.1
 */
WEIR_API struct weir_buffer *weir_buffer_retain_many(
    struct weir_buffer *buffer, uint32_t count) WEIR_NOEXCEPT;

/**
 * weir_buffer_release() - end a reference; the last gives the buffer back.
 * @buffer: a buffer the caller holds a reference of, or NULL.
 *
 * Ownership: the reference is gone and the caller's pointer stale.  With the
 *            last one a pool's buffer is free, after it was wiped if asked,
 *            and foreign memory goes to its release function.
 * Threads:   any thread, not only the one that acquired.  What holders wrote
 *            before their release is seen by the next owner.  Safe in thread
 *            exit handlers, also after the library's own ran.  Not
 *            async-signal-safe.
 * Cost:      about 4 ns for the last reference, half a nanosecond of it for
 *            a look into the page map, else one atomic subtraction; one short
 *            lock per magazine; wiping as memset().
 * Errors:    faults (weir/guard.h): double-free when the buffer is free,
 *            reference-underflow when foreign memory has no reference or two
 *            threads race to one, foreign-pointer when @buffer is no buffer or
 *            a copy of one, interior-pointer when it is inside a descriptor,
 *            corruption when that was written to.  Two threads that both
 *            release the last reference at the same moment are seen at once
 *            with limit_bytes, WEIR_BUFFER_WIPE or foreign memory, else when
 *            the buffer is handed out again.
 * Since:     0.1
 */
WEIR_API void weir_buffer_release(struct weir_buffer *buffer) WEIR_NOEXCEPT;

/**
 * weir_buffer_release_many() - end several references at once.
 * @buffer: a buffer the caller holds @count references of.
 * @count:  references to end; 0 ends none.
 *
 * Ownership: as @count calls of weir_buffer_release().
 * Threads:   as weir_buffer_release().
 * Cost:      as one weir_buffer_release().
 * Errors:    as weir_buffer_release(); more than there are is
 *            reference-underflow.
 * Since:     0.1
 */
WEIR_API void weir_buffer_release_many(
    struct weir_buffer *buffer, uint32_t count) WEIR_NOEXCEPT;

/**
 * weir_buffer_cleanup() - end the reference in a variable that leaves scope.
 * @variable: points at a buffer or NULL; becomes NULL.
 *
 * For WEIR_BUFFER_SCOPED; to keep the buffer, set the variable to NULL.
 *
 * Ownership: as weir_buffer_release(*variable).
 * Threads:   as weir_buffer_release().
 * Cost:      as weir_buffer_release().
 * Errors:    as weir_buffer_release().
 * Since:     0.1
 */
WEIR_API void weir_buffer_cleanup(struct weir_buffer **variable) WEIR_NOEXCEPT;

#ifdef WEIR_CLEANUP
/** `WEIR_BUFFER_SCOPED struct weir_buffer *b = ...;` is released at the end of
 * its block, by whatever way the block is left. */
#define WEIR_BUFFER_SCOPED WEIR_CLEANUP(weir_buffer_cleanup)
/** `WEIR_SLICE_SCOPED struct weir_slice s = weir_slice_retain(...);` */
#define WEIR_SLICE_SCOPED WEIR_CLEANUP(weir_slice_release)
#endif

/**
 * weir_buffer_set_wipe() - have this buffer's payload zeroed when it ends.
 * @buffer: a buffer the caller holds a reference of.
 *
 * For the one buffer with a key or a password in a pool without
 * WEIR_BUFFER_WIPE.  Holds until the last release; there is no way back.
 *
 * Ownership: nothing changes hands.
 * Threads:   any holder, at any time.
 * Cost:      one atomic; the whole payload is zeroed on the last release, by
 *            stores the compiler may not drop.
 * Errors:    a buffer without references is a fault, as in
 *            weir_buffer_retain().
 * Since:     0.1
 */
WEIR_API void weir_buffer_set_wipe(struct weir_buffer *buffer) WEIR_NOEXCEPT;

/**
 * weir_buffer_usable() - bytes that fit into a buffer.
 * @buffer: a buffer the caller holds a reference of, or NULL.
 *
 * Returns:   the size of its tier or of its foreign memory; 0 for NULL.
 * Ownership: nothing changes hands.
 * Threads:   any holder.
 * Cost:      one load.
 * Errors:    none.
 * Since:     0.1
 */
WEIR_API size_t weir_buffer_usable(const struct weir_buffer *buffer)
    WEIR_NOEXCEPT;

/**
 * weir_buffer_references() - how many references there are.
 * @buffer: a buffer the caller holds a reference of, or NULL.
 *
 * Returns:   the count at one moment; 0 for NULL.  1 stays true as long as the
 *            caller does not share it: the payload may then be written to.
 * Ownership: nothing changes hands.
 * Threads:   any holder.  A result of 1 makes visible what former holders
 *            wrote before their release.
 * Cost:      one load.
 * Errors:    none.
 * Since:     0.1
 */
WEIR_API uint32_t weir_buffer_references(const struct weir_buffer *buffer)
    WEIR_NOEXCEPT;

/**
 * weir_buffer_of() - the buffer around an address in its payload.
 * @address: an address in a buffer that the caller holds a reference to, or any
 *           other that no pool is giving back at this moment, as a trim, a
 *           destroy or another thread short of memory may: the records of the
 *           block it is in are read without a lock.
 *
 * Returns:   the buffer, or NULL when @address is in no buffer of a pool that
 *            is held: not the library's, in foreign memory, in the gap behind
 *            a payload, or free.  Nothing is read at @address.
 * Ownership: nothing changes hands: the answer is as good as the reference the
 *            caller holds anyway.
 * Threads:   any thread; see @address.
 * Cost:      a page map look-up and a division, about 5 ns.
 * Errors:    none beside NULL.
 * Since:     0.1
 */
WEIR_API struct weir_buffer *weir_buffer_of(const void *address) WEIR_NOEXCEPT;

/**
 * weir_buffer_init_external() - make a buffer over memory of the caller's.
 * @buffer:  the descriptor, in the caller's storage; has one reference then.
 * @data:    static or foreign payload; may be read-only if nobody writes.
 * @bytes:   its size, below 4 GiB.
 * @release: called with the last reference; NULL for nothing to do.
 * @context: handed to @release.
 *
 * Ownership: descriptor and memory stay the caller's but must last until
 *            @release was called; @release may free both.  Without @release,
 *            as long as anybody may hold a reference.
 * Threads:   any thread; the buffer may then be shared as any other.
 * Cost:      a few stores.
 * Errors:    4 GiB and more, and NULL for @data with bytes, are faults
 *            (weir/guard.h).
 * Since:     0.1
 */
WEIR_API void weir_buffer_init_external(struct weir_buffer *buffer, void *data,
    size_t bytes, weir_buffer_release_fn release, void *context) WEIR_NOEXCEPT;

/* ---- slices ------------------------------------------------------------- */

/**
 * weir_slice_make() - name a part of a buffer.
 * @buffer: a buffer the caller holds a reference of.
 * @offset: first byte of the part.
 * @bytes:  its length; 0 is allowed.
 *
 * Returns:   the slice.
 * Ownership: counts nothing: the slice is good as long as the caller's
 *            reference, unless weir_slice_retain() gives it its own.
 * Threads:   any holder.
 * Cost:      a comparison.
 * Errors:    a part that is not inside the buffer is a fault, bad-argument
 *            (weir/guard.h).
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD struct weir_slice weir_slice_make(
    struct weir_buffer *buffer, size_t offset, size_t bytes) WEIR_NOEXCEPT;

/**
 * weir_slice_sub() - name a part of a slice.
 * @slice:  any slice, also the empty one.
 * @offset: first byte of the part, counted from the start of @slice.
 * @bytes:  its length; 0 is allowed.
 *
 * Returns:   the slice.
 * Ownership: counts nothing: good as long as the reference behind @slice.
 *            Assigned over @slice it takes that reference along, which is how
 *            a sender moves its cursor.
 * Threads:   any holder.
 * Cost:      a comparison.
 * Errors:    a part that is not inside @slice is a fault, bad-argument
 *            (weir/guard.h).
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD struct weir_slice weir_slice_sub(
    struct weir_slice slice, size_t offset, size_t bytes) WEIR_NOEXCEPT;

/**
 * weir_slice_data() - address of the first byte of a slice.
 * @slice: any slice.
 *
 * Returns:   the address, NULL for the empty slice.
 * Ownership: good as long as the reference behind @slice.
 * Threads:   any holder.
 * Cost:      an addition.
 * Errors:    none.
 * Since:     0.1
 */
WEIR_API unsigned char *weir_slice_data(struct weir_slice slice) WEIR_NOEXCEPT;

/**
 * weir_slice_retain() - give a slice a reference of its own.
 * @slice: a slice of a buffer the caller holds a reference of, or the empty
 *         slice.
 *
 * Returns:   @slice.
 * Ownership: the slice returned holds a reference, to be ended once by
 *            weir_slice_release().  It keeps the whole buffer alive.
 * Threads:   as weir_buffer_retain().
 * Cost:      as weir_buffer_retain().
 * Errors:    as weir_buffer_retain().
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD struct weir_slice weir_slice_retain(
    struct weir_slice slice) WEIR_NOEXCEPT;

/**
 * weir_slice_release() - end the reference of a slice.
 * @slice: a slice that holds a reference, or the empty slice; becomes empty.
 *
 * Ownership: as weir_buffer_release(slice->buffer).
 * Threads:   as weir_buffer_release().
 * Cost:      as weir_buffer_release().
 * Errors:    as weir_buffer_release().
 * Since:     0.1
 */
WEIR_API void weir_slice_release(struct weir_slice *slice) WEIR_NOEXCEPT;

WEIR_END_DECLS

#endif /* WEIR_BUFFER_H */
