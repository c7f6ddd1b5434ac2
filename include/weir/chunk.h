/* SPDX-License-Identifier: MIT */
/*
 * chunk.h - many small messages in one buffer.
 *
 * A thread that answers many requests with little each writes its answers one
 * behind the other into a chunk, 64 KiB by default.  Each is a slice, and all of
 * them keep the chunk; the last release, on any thread, gives it back.  A chunk
 * that has nobody but its writer begins again at its front, so a writer whose
 * messages are sent soon uses the same warm memory for ever.
 *
 *     struct weir_chunk out;                       one for each thread or loop
 *
 *     weir_chunk_init(&out, pool, NULL);
 *     text = weir_chunk_open(&out, 300);           at least so many bytes
 *     slice = weir_chunk_close(&out, snprintf(text, 300, ...));
 *
 * The price: one message that is not sent pins 64 KiB.  How much chunks pin and
 * how much of it is alive is in the statistics, and weir_slice_compact()
 * (weir/chain.h) copies such a message out.
 */
#ifndef WEIR_CHUNK_H
#define WEIR_CHUNK_H

#include <weir/buffer_limit.h>

WEIR_BEGIN_DECLS

/** struct weir_chunk_config - zero means the default for every field. */
struct weir_chunk_config {
	uint32_t bytes; /* of a chunk; 0: 64 KiB or the largest tier */
	uint32_t align; /* of a message, a power of two; 0: 8 */
	struct weir_account *account; /* pays for the chunks; or NULL */
	enum weir_buffer_use use;     /* of the chunks */
	uint32_t reserved0;           /* must be zero */
};

/**
 * struct weir_chunk - a writer of messages, in the caller's storage.
 *
 * All of it is the library's.
 */
struct weir_chunk {
	struct weir_buffer_pool *pool;
	struct weir_account *account;
	struct weir_buffer *buffer; /* the writer's own reference */
	struct weir_buffer *large;  /* opened for one message */
	uint32_t bytes;             /* of a chunk */
	uint32_t align;
	uint32_t used; /* of buffer */
	uint32_t opened;
	enum weir_buffer_use use;
	uint32_t reserved0;
};

/** struct weir_chunk_figures - the chunks of a pool at one moment. */
struct weir_chunk_figures {
	uint32_t size; /* bytes of this struct, set by the reader */
	uint32_t reserved0;
	uint64_t chunks;       /* held, by their writers or by slices */
	uint64_t bytes_pinned; /* their size */
	uint64_t bytes_live;   /* in messages that are not released, as if those
				  of a chunk had one length */
	uint64_t compactions;  /* slices copied out, of any buffer */
	uint64_t bytes_compacted; /* what they pinned */
	uint64_t reserved[2];
};

/**
 * weir_chunk_init() - begin a writer.
 * @chunk:  storage of the caller's.
 * @pool:   where the chunks come from; it must outlive the writer.
 * @config: copied; NULL for the defaults.
 *
 * Returns:   0; -EINVAL (bytes above the largest tier, align no power of two or
 *            above 4096, an unknown use, a reserved field set), and a message
 *            names the field.
 * Ownership: takes nothing yet.
 * Threads:   one at a time, as all calls with @chunk.
 * Cost:      a few stores.
 * Errors:    on failure @chunk must not be used.
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD int weir_chunk_init(struct weir_chunk *chunk,
    struct weir_buffer_pool *pool, const struct weir_chunk_config *config)
    WEIR_NOEXCEPT;

/**
 * weir_chunk_open() - room for a message.
 * @chunk: a live writer without a message open.
 * @bytes: what it may need.
 *
 * Returns:   at least @bytes bytes; NULL without memory.  A message larger than
 *            a chunk has a buffer of its own.
 * Ownership: the writer's, until weir_chunk_close().
 * Threads:   one at a time.
 * Cost:      an addition; an acquire for a new chunk.
 * Errors:    NULL at a limit, counted as that of an acquire.  A message that is
 *            open already is a fault, bad-argument (weir/guard.h).
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD unsigned char *weir_chunk_open(
    struct weir_chunk *chunk, uint32_t bytes) WEIR_NOEXCEPT;

/**
 * weir_chunk_close() - end a message.
 * @chunk: a writer with a message open.
 * @bytes: what was written, at most what was opened; 0: nothing was.
 *
 * Returns:   the message, the empty slice for 0.
 * Ownership: the slice holds a reference of its own.
 * Threads:   one at a time; the slice goes to any thread.
 * Cost:      a reference, as weir_buffer_retain().
 * Errors:    more than was opened, and nothing open, are faults, bad-argument
 *            (weir/guard.h).
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD struct weir_slice weir_chunk_close(
    struct weir_chunk *chunk, uint32_t bytes) WEIR_NOEXCEPT;

/**
 * weir_chunk_finish() - end a writer.
 * @chunk: a live writer without a message open, or NULL.
 *
 * Ownership: its reference ends; slices keep theirs.
 * Threads:   one at a time.
 * Cost:      a release.
 * Errors:    none.
 * Since:     0.1
 */
WEIR_API void weir_chunk_finish(struct weir_chunk *chunk) WEIR_NOEXCEPT;

/**
 * weir_chunk_stats() - what the chunks of a pool pin.
 * @pool: a live pool.
 * @out:  filled whole; set out->size to sizeof(*out) first.
 *
 * Returns:   0, or -EINVAL when out->size is none this library knows.
 * Ownership: copies into the caller's storage.
 * Threads:   any thread; true when nobody writes, otherwise for each chunk at
 *            some moment of the call.
 * Cost:      linear in the buffers in being.
 * Errors:    none beside the return value.
 * Since:     0.1
 */
WEIR_API int weir_chunk_stats(struct weir_buffer_pool *pool,
    struct weir_chunk_figures *out) WEIR_NOEXCEPT;

WEIR_END_DECLS

#endif /* WEIR_CHUNK_H */
