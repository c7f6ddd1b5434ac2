/* SPDX-License-Identifier: MIT */
/*
 * chain.h - many slices as one message, or as all that is still to be sent.
 *
 * A chain holds a reference for each of its slices.  Five lie in the chain, more
 * in nodes that are buffers of its pool, so that nothing is allocated but what
 * the pool keeps anyway.  Bytes are taken off the front as they are sent; what
 * is put in front, a header, goes into the room before the first slice if its
 * buffer is nobody else's.
 *
 *     struct weir_chain chain;
 *
 *     weir_chain_init(&chain, pool);
 *     weir_chain_append(&chain, body);              takes the reference
 *     memcpy(weir_chain_prepend_bytes(&chain, 4), &length, 4);
 *     sent = writev(fd, iov, weir_chain_iovec(&chain, iov, 64));
 *     weir_chain_consume(&chain, sent);
 *
 * One thread at a time uses a chain.
 */
#ifndef WEIR_CHAIN_H
#define WEIR_CHAIN_H

#include <weir/account.h>
#include <weir/buffer.h>

WEIR_BEGIN_DECLS

struct iovec; /* <sys/uio.h> */

/** Slices in the chain itself. */
#define WEIR_CHAIN_INLINE 5

struct weir_chain_node;

/**
 * struct weir_chain - a queue of slices, in the caller's storage, 128 bytes.
 *
 * A holder reads bytes and count; the rest is the library's.
 */
struct weir_chain {
	uint64_t bytes; /* of all slices */
	uint32_t count; /* of slices */
	uint16_t first; /* of those in `slice` */
	uint16_t own;   /* how many are there */
	struct weir_buffer_pool *pool;
	struct weir_chain_node *head, *tail; /* behind those in `slice` */
	struct weir_slice slice[WEIR_CHAIN_INLINE];
	uint64_t reserved;
};

/** As the WSABUF of Windows: an array of these is one of those. */
struct weir_wsabuf {
	uint32_t bytes;
	char *data;
};

/**
 * weir_chain_init() - begin an empty chain.
 * @chain: storage of the caller's.
 * @pool:  for nodes and for what is put in front; it must outlive the chain.
 *
 * Ownership: the storage stays the caller's until weir_chain_clear().
 * Threads:   one at a time, as all calls here.
 * Cost:      a few stores.
 * Errors:    none.
 * Since:     0.1
 */
WEIR_API void weir_chain_init(
    struct weir_chain *chain, struct weir_buffer_pool *pool) WEIR_NOEXCEPT;

/**
 * weir_chain_append() - put a slice at the end.
 * @chain: a live chain.
 * @slice: a slice with a reference of its own; an empty one is dropped.
 *
 * Returns:   true; or false, with all as it was, when there is no memory for a
 *            node.
 * Ownership: on success the reference is the chain's.
 * Threads:   one at a time.
 * Cost:      some stores; each 30 slices an acquire.
 * Errors:    none beside the return value.
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD bool weir_chain_append(
    struct weir_chain *chain, struct weir_slice slice) WEIR_NOEXCEPT;

/**
 * weir_chain_append_chain() - move all of another chain to the end.
 * @chain: a live chain.
 * @other: another; empty afterwards.
 *
 * Returns:   true; or false, with all as it was, when there is no memory for
 *            nodes.
 * Ownership: the references are @chain's.
 * Threads:   one at a time.
 * Cost:      linear in the slices of @other.
 * Errors:    none beside the return value.
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD bool weir_chain_append_chain(
    struct weir_chain *chain, struct weir_chain *other) WEIR_NOEXCEPT;

/**
 * weir_chain_prepend_bytes() - make room for bytes at the front.
 * @chain: a live chain.
 * @bytes: how many; 1 .. what the pool's largest tier has.
 *
 * Takes them from the room before the first slice where nobody else holds its
 * buffer, else from a buffer of the pool, which has them at its end so that more
 * fit in front.
 *
 * Returns:   where to write them; NULL, with all as it was, without memory.
 * Ownership: the bytes are part of the chain already.
 * Threads:   one at a time.
 * Cost:      some comparisons, or an acquire.
 * Errors:    none beside NULL.
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD unsigned char *weir_chain_prepend_bytes(
    struct weir_chain *chain, uint32_t bytes) WEIR_NOEXCEPT;

/**
 * weir_chain_consume() - take bytes off the front.
 * @chain: a live chain.
 * @bytes: as many as were sent.
 *
 * Ownership: slices that are used up are released.
 * Threads:   one at a time.
 * Cost:      a release for each slice used up.
 * Errors:    more than there are is a fault, bad-argument (weir/guard.h).
 * Since:     0.1
 */
WEIR_API void weir_chain_consume(struct weir_chain *chain, uint64_t bytes)
    WEIR_NOEXCEPT;

/**
 * weir_chain_take() - take the first slice off a chain.
 * @chain: a live chain.
 *
 * Returns:   the slice, or the empty one if there is none.
 * Ownership: its reference is the caller's.
 * Threads:   one at a time.
 * Cost:      some stores.
 * Errors:    none.
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD struct weir_slice weir_chain_take(
    struct weir_chain *chain) WEIR_NOEXCEPT;

/**
 * weir_chain_slices() - the first slices of a chain.
 * @chain: a live chain.
 * @out:   receives up to @count.
 * @count: of @out.
 *
 * Returns:   how many it gave.
 * Ownership: counts nothing: good until the chain is changed.
 * Threads:   one at a time.
 * Cost:      linear in what it gives.
 * Errors:    none.
 * Since:     0.1
 */
WEIR_API size_t weir_chain_slices(const struct weir_chain *chain,
    struct weir_slice *out, size_t count) WEIR_NOEXCEPT;

/**
 * weir_chain_iovec() - the first slices for writev() and the like.
 * @chain: a live chain.
 * @out:   receives up to @count.
 * @count: of @out.
 *
 * Returns:   how many it gave.
 * Ownership: as weir_chain_slices().
 * Threads:   one at a time.
 * Cost:      linear in what it gives.
 * Errors:    none.
 * Since:     0.1
 */
WEIR_API int weir_chain_iovec(
    const struct weir_chain *chain, struct iovec *out, int count) WEIR_NOEXCEPT;

/**
 * weir_chain_wsabuf() - the first slices for WSASend() and the like.
 * @chain: a live chain.
 * @out:   receives up to @count.
 * @count: of @out.
 *
 * Returns:   how many it gave.
 * Ownership: as weir_chain_slices().
 * Threads:   one at a time.
 * Cost:      linear in what it gives.
 * Errors:    none.
 * Since:     0.1
 */
WEIR_API int weir_chain_wsabuf(const struct weir_chain *chain,
    struct weir_wsabuf *out, int count) WEIR_NOEXCEPT;

/**
 * weir_chain_clear() - release all of a chain.
 * @chain: a live chain; empty, and usable, afterwards.
 *
 * Ownership: all references end.
 * Threads:   one at a time.
 * Cost:      a release for each slice.
 * Errors:    none.
 * Since:     0.1
 */
WEIR_API void weir_chain_clear(struct weir_chain *chain) WEIR_NOEXCEPT;

/* ---- what slices pin ---------------------------------------------------- */

/**
 * struct weir_compact_rule - which slices are copied into buffers of their own.
 *
 * A slice keeps its whole buffer.  Kept for long, or much shorter than what it
 * keeps, it is worth a copy: what it pinned is free for others then.
 */
struct weir_compact_rule {
	struct weir_buffer_pool *pool; /* the copies' */
	struct weir_account *account;  /* pays for the copies; or NULL */
	uint64_t
	    older_ns;   /* copy those whose buffer is older; 0: none for age */
	uint32_t share; /* copy those below 1/share of their buffer; 0: 1/4 */
	uint32_t reserved0; /* must be zero */
};

/**
 * weir_slice_compact() - copy a slice that pins too much.
 * @slice: a slice with a reference of its own; over foreign memory it stays.
 * @rule:  which.
 *
 * The smallest tier that fits takes the copy, and only if that pins less than
 * the slice did: a buffer that is as small as can be stays, however old.  The
 * payload must not be written by others.
 *
 * Returns:   the bytes less that are pinned once all others have released the
 *            buffer: its size, less that of the copy; 0: it stayed.
 * Ownership: the slice keeps a reference, of the copy then.
 * Threads:   one at a time for each slice.
 * Cost:      a few comparisons; an acquire and a copy.
 * Errors:    without memory it stays.
 * Since:     0.1
 */
WEIR_API uint64_t weir_slice_compact(struct weir_slice *slice,
    const struct weir_compact_rule *rule) WEIR_NOEXCEPT;

/**
 * weir_chain_compact() - copy the slices of a chain that pin too much.
 * @chain: a live chain of which no slice is with the kernel.
 * @rule:  which.
 *
 * Returns:   as weir_slice_compact(), of all.
 * Ownership: as weir_slice_compact().
 * Threads:   one at a time.
 * Cost:      linear in the slices.
 * Errors:    as weir_slice_compact().
 * Since:     0.1
 */
WEIR_API uint64_t weir_chain_compact(struct weir_chain *chain,
    const struct weir_compact_rule *rule) WEIR_NOEXCEPT;

WEIR_END_DECLS

#endif /* WEIR_CHAIN_H */
