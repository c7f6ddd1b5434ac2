/* SPDX-License-Identifier: MIT */
/*
 * buffer_limit.h - requests for buffers with an account, a purpose and a time to
 * wait; limits that change while a pool is in use.
 *
 * In a pool with WEIR_LIMIT_WAIT a request that finds nothing queues up.  Those
 * that are to send come before control messages, those before receives, since
 * what is sent ends and what is received begins; among equals, in order of
 * arrival.  Nobody takes what an earlier one of the same kind waits for.  A
 * request that waits for another tier, or for another account, is not in the
 * way.
 */
#ifndef WEIR_BUFFER_LIMIT_H
#define WEIR_BUFFER_LIMIT_H

#include <weir/account.h>
#include <weir/buffer.h>

WEIR_BEGIN_DECLS

/** What a buffer is for; a later one goes first. */
enum weir_buffer_use {
	WEIR_BUFFER_RECEIVE = 0,
	WEIR_BUFFER_CONTROL = 1,
	WEIR_BUFFER_SEND = 2, /* may use what is reserved */
	WEIR_BUFFER_USES = 3
};

enum weir_buffer_want_flags {
	WEIR_BUFFER_NO_WAIT = 1 << 0, /* NULL at once, whatever the policy */
};

/** struct weir_buffer_want - one request; zero is weir_buffer_acquire(). */
struct weir_buffer_want {
	size_t bytes;
	struct weir_account
	    *account; /* charged with the tier's bytes; or NULL */
	enum weir_buffer_use use;
	unsigned flags;      /* enum weir_buffer_want_flags */
	uint64_t timeout_ns; /* 0: the pool's */
	const void *site;    /* for reports; NULL: where the call returns to */
};

/**
 * weir_buffer_acquire_for() - take a buffer for a purpose, on an account.
 * @pool: a live pool.
 * @want: what for.
 *
 * Returns:   as weir_buffer_acquire().
 * Ownership: as weir_buffer_acquire(); the account must last until the buffer's
 *            last release, and is credited by it.
 * Threads:   any number of threads.  A thread inside a hook of the library does
 *            not wait.
 * Cost:      as weir_buffer_acquire(), and an atomic operation for each level of
 *            the account.
 * Errors:    as weir_buffer_acquire(), and NULL where a level of the account has
 *            no room; with WEIR_LIMIT_WAIT, at the end of the time.  Without
 *            waiting also while others wait and another thread is at that
 *            moment serving them: as a lock that is tried.
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD struct weir_buffer *weir_buffer_acquire_for(
    struct weir_buffer_pool *pool, const struct weir_buffer_want *want)
    WEIR_NOEXCEPT;

/**
 * weir_buffer_set_account() - have another account pay for a buffer.
 * @buffer:  a pool's buffer that the caller holds a reference of.
 * @account: the payer from now on; NULL: nobody.
 *
 * Returns:   true; or false, with all as it was, when a level has no room, or
 *            when @buffer is over foreign memory.  Levels above both accounts
 *            are charged once at any moment.
 * Ownership: the account must last until the last release.
 * Threads:   any holder, one at a time.
 * Cost:      an atomic operation for each level of both accounts.
 * Errors:    a buffer without references is a fault, as in
 *            weir_buffer_retain().
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD bool weir_buffer_set_account(
    struct weir_buffer *buffer, struct weir_account *account) WEIR_NOEXCEPT;

/**
 * weir_buffer_pool_set_limit_bytes() - change the bytes that callers may hold.
 * @pool:        a live pool that was created with limit_bytes.
 * @limit_bytes: the new limit; 0: none, WEIR_LIMIT_NOTHING: not a byte.
 *
 * Returns:   0; -EINVAL when the pool was created without limit_bytes: what it
 *            handed out since was not counted.
 * Ownership: nothing changes hands: below what is held, no request is served
 *            until enough was released.
 * Threads:   any thread.  Requests that wait are served by a higher limit, and a
 *            pool that notifies does.
 * Cost:      one store, and what it brings about.
 * Errors:    none beside the return value.
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD int weir_buffer_pool_set_limit_bytes(
    struct weir_buffer_pool *pool, uint64_t limit_bytes) WEIR_NOEXCEPT;

/**
 * weir_buffer_pool_set_tier_limit() - change how many buffers a tier may have.
 * @pool:  a live pool.
 * @tier:  0 is the smallest.
 * @limit: buffers in being; 0: none, WEIR_LIMIT_NOTHING: not one.
 *
 * Returns:   0; -EINVAL when there is no such tier; -EBUSY when more are in
 *            being, after those that could be given back were: the old limit
 *            stays.
 * Ownership: nothing changes hands.  A limit that is set holds at once.
 * Threads:   any thread.  Requests that wait are served at once if there is room
 *            now.  A lower limit has idle threads give back what they withhold
 *            at their next use of the pool or weir_thread_poll(): try again.
 * Cost:      that of weir_buffer_pool_trim() if @limit is below what is in being.
 * Errors:    none beside the return value.
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD int weir_buffer_pool_set_tier_limit(
    struct weir_buffer_pool *pool, size_t tier, size_t limit) WEIR_NOEXCEPT;

/**
 * weir_buffer_pool_prepare() - have free buffers ready, at any time.
 * @pool:  a live pool.
 * @tier:  0 is the smallest.
 * @count: buffers that shall be free, their payload in memory.
 *
 * Returns:   0; -EINVAL when there is no such tier; -ENOSPC when the tier's
 *            limit has no room for so many; -ENOMEM.
 * Ownership: the pool keeps as many through weir_maintain(); a trim takes them.
 * Threads:   any thread; for the time of the call others may be refused, and
 *            those that wait are not.
 * Cost:      takes so many buffers, touches the payload, and gives them back.
 * Errors:    on failure some of them may have been made.
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD int weir_buffer_pool_prepare(
    struct weir_buffer_pool *pool, size_t tier, size_t count) WEIR_NOEXCEPT;

WEIR_END_DECLS

#endif /* WEIR_BUFFER_LIMIT_H */
