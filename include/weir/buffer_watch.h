/* SPDX-License-Identifier: MIT */
/*
 * buffer_watch.h - which buffers are held: by whom, since when, taken where.
 *
 * Every descriptor keeps the last 16 things that happened to its buffer, when it
 * was taken, and the account that pays for it; one in 128 also the place in the
 * program.  That is always on.  Reading it disturbs nobody and may run while
 * buffers come and go: what is told of each was true at some moment of the call.
 */
#ifndef WEIR_BUFFER_WATCH_H
#define WEIR_BUFFER_WATCH_H

#include <weir/account.h>
#include <weir/buffer.h>

WEIR_BEGIN_DECLS

/** Who may touch a buffer's payload. */
enum weir_buffer_state {
	WEIR_BUFFER_FREE = 0,      /* nobody: it is the pool's */
	WEIR_BUFFER_APP = 1,       /* those with a reference */
	WEIR_BUFFER_KERNEL_RX = 2, /* the kernel writes it */
	WEIR_BUFFER_KERNEL_TX = 3, /* the kernel reads it: nobody may write */
	WEIR_BUFFER_ZC_NOTIFY = 4, /* sent, and the network may still read it */
};

/** Of a history, the newest in the lowest 4 bits. */
enum weir_buffer_event {
	WEIR_BUFFER_EVENT_NONE = 0,
	WEIR_BUFFER_EVENT_ACQUIRE = 1, /* in texts: a */
	WEIR_BUFFER_EVENT_RETAIN = 2,  /* + */
	WEIR_BUFFER_EVENT_RELEASE = 3, /* - */
	WEIR_BUFFER_EVENT_END = 4,     /* .   the last release */
	WEIR_BUFFER_EVENT_WIPE = 5,    /* w */
	WEIR_BUFFER_EVENT_ACCOUNT = 6, /* $   another account pays */
	WEIR_BUFFER_EVENT_RX = 7,      /* r   lent to the kernel, to receive */
	WEIR_BUFFER_EVENT_TX = 8,      /* s   lent to the kernel, to send */
	WEIR_BUFFER_EVENT_SENT = 9,    /* z   sent, but for the notification */
	WEIR_BUFFER_EVENT_BACK = 10,   /* k   the kernel gave it back */
};

/** struct weir_buffer_holding - one buffer that is held. */
struct weir_buffer_holding {
	const struct weir_buffer *buffer;   /* not to be used: it may be gone */
	const struct weir_account *account; /* likewise; NULL: none */
	const char *account_name;           /* NULL without one */
	const void *user; /* of the account, NULL without one */
	const char *pool; /* "<pool>/<bytes>" */
	const void *site; /* NULL: not among those that were looked at */
	uint64_t age_ns;  /* at most; see weir_buffer_pool_tick() */
	uint64_t history; /* of enum weir_buffer_event */
	uint32_t bytes;   /* what it pins */
	uint32_t references;
	enum weir_buffer_state state;
	uint32_t reserved0;
};

/** struct weir_buffer_query - which; zero is all of them. */
struct weir_buffer_query {
	struct weir_buffer_pool *pool;      /* NULL: all pools */
	const struct weir_account *account; /* it or one below; NULL: all */
	uint64_t held_ns;                   /* for at least so long */
};

/**
 * weir_buffer_state() - whose a buffer is.
 * @buffer: a buffer the caller holds a reference of.
 *
 * Returns:   the state; with several operations of the kernel under way, the one
 *            that ends last.
 * Ownership: nothing changes hands.
 * Threads:   any holder.
 * Cost:      two loads.
 * Errors:    none.
 * Since:     0.1
 */
WEIR_API enum weir_buffer_state weir_buffer_state(
    const struct weir_buffer *buffer) WEIR_NOEXCEPT;

/**
 * weir_buffer_pool_tick() - tell a pool that time goes by.
 * @pool: a live pool.
 *
 * A buffer's age is counted from the pool's last tick before it was taken.  One
 * in 128 acquires of a thread is a tick, and so is every query; a loop that
 * calls this each time it comes round has ages that are true to its turns.
 *
 * Ownership: nothing changes hands.
 * Threads:   any thread.
 * Cost:      reads the clock; a store each 17 ms.
 * Errors:    none.
 * Since:     0.1
 */
WEIR_API void weir_buffer_pool_tick(struct weir_buffer_pool *pool)
    WEIR_NOEXCEPT;

/**
 * weir_buffer_held() - list the buffers that are held.
 * @query: which; NULL for all.
 * @out:   receives up to @count, in no order; may be NULL when @count is 0.
 * @count: of @out.
 *
 * Returns:   how many there are, which may be more than @count.  Buffers over
 *            foreign memory are in no list.
 * Ownership: copies; nothing in them may be used but pool, site and numbers,
 *            unless the program knows that it lasts.
 * Threads:   any thread.  Accounts must not be finished meanwhile if @query
 *            names one, nor their storage be unmapped in any case.
 * Cost:      linear in the buffers in being; a tier does not grow while its
 *            blocks are looked through.  No allocation.
 * Errors:    none.
 * Since:     0.1
 */
WEIR_API size_t weir_buffer_held(const struct weir_buffer_query *query,
    struct weir_buffer_holding *out, size_t count) WEIR_NOEXCEPT;

/**
 * weir_buffer_held_text() - the same for people, one line a buffer.
 * @query:  which; NULL for all.
 * @buffer: receives the text, NUL-terminated, cut if need be; may be NULL when
 *          @bytes is 0.
 * @bytes:  of @buffer.
 *
 *     net/2048 0x7f..c0: 2 references, state tx, 31 s, conn 0x5581c0,
 *     taken at server+0x1234, history a+-s
 *
 * (one line, broken here), and a last one with the sums: buffers, bytes, the
 * oldest.  At most 64 buffers have a line.
 *
 * Returns:   the length of the whole text without the NUL.
 * Ownership: the caller's buffer.
 * Threads:   as weir_buffer_held().
 * Cost:      as weir_buffer_held().
 * Errors:    none.
 * Since:     0.1
 */
WEIR_API size_t weir_buffer_held_text(const struct weir_buffer_query *query,
    char *buffer, size_t bytes) WEIR_NOEXCEPT;

/**
 * weir_buffer_held_json() - the same for programs.
 * @query:  which; NULL for all.
 * @buffer: as weir_buffer_held_text().
 * @bytes:  of @buffer.
 *
 * One object with `buffers`, `bytes`, `age_ns_max` and `held`, an array of the
 * same 64 at most.
 *
 * Returns:   as weir_buffer_held_text().
 * Ownership: as weir_buffer_held_text().
 * Threads:   as weir_buffer_held().
 * Cost:      as weir_buffer_held().
 * Errors:    none.
 * Since:     0.1
 */
WEIR_API size_t weir_buffer_held_json(const struct weir_buffer_query *query,
    char *buffer, size_t bytes) WEIR_NOEXCEPT;

WEIR_END_DECLS

#endif /* WEIR_BUFFER_WATCH_H */
