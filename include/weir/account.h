/* SPDX-License-Identifier: MIT */
/*
 * account.h - who pays for memory: a tree of accounts with strict limits.
 *
 * A server has an account for the process, below it one for each listener or
 * tenant, and below those one for each connection.  What is charged to one is
 * charged to all above it, and no account is above its limit at any moment, not
 * by a byte.  Buffers are charged with all they pin - the whole buffer, however
 * short the slice that keeps it - from weir_buffer_acquire_for() to the last
 * release on whatever thread.
 *
 * What a server does as memory becomes scarce, in this order:
 *
 *     WEIR_ACCOUNT_PAUSE   stop reading from this connection
 *     WEIR_ACCOUNT_FULL    fail the request, or let it wait
 *     WEIR_ACCOUNT_CLOSE   close the one that holds most (weir_account_largest())
 *
 * In the child of a fork, what other threads were in the middle of taking or
 * giving back at that moment stays charged, as the memory itself stays taken.
 */
#ifndef WEIR_ACCOUNT_H
#define WEIR_ACCOUNT_H

#include <weir/export.h>

WEIR_BEGIN_DECLS

/** Accounts from the root to a leaf, both included. */
#define WEIR_ACCOUNT_DEPTH_MAX 8

struct weir_account;

/**
 * weir_account_resume_fn - told that a paused account may go on.
 * @account: the level that had weir_account_verdict() say PAUSE, FULL or CLOSE.
 *
 * Runs on the thread whose release brought the account down to half of its
 * pause_bytes, or that moved a limit so that it is, under no lock of the library;
 * once for each time it was paused.
 * May use accounts and pools, but not finish @account.
 */
typedef void (*weir_account_resume_fn)(struct weir_account *account);

/**
 * struct weir_account - one account, in the caller's storage, 128 bytes.
 *
 * A holder reads parent, user and name; the rest is the library's.
 */
struct weir_account {
	struct weir_account *parent;
	void *user;
	const char *name;
	uint64_t used, peak, limit, reserve, pause;
	struct weir_account *first, *next, *previous;
	weir_account_resume_fn resume;
	uint64_t refusals;
	uint32_t refused_run, close_after;
	uint32_t paused, children;
	uint64_t state;
};

/** struct weir_account_config - zero means the default for every field. */
struct weir_account_config {
	const char *name;            /* kept by pointer; NULL: "account" */
	void *user;                  /* the program's; shown in reports */
	struct weir_account *parent; /* NULL: a root */
	uint64_t limit_bytes;   /* 0: none; WEIR_LIMIT_NOTHING: not a byte */
	uint64_t pause_bytes;   /* PAUSE from here on; 0: 3/4 of the limit */
	uint64_t reserve_bytes; /* of the limit, for WEIR_BUFFER_SEND only */
	uint32_t close_after;   /* refusals in a row; 0: never CLOSE */
	uint32_t reserved0;     /* must be zero */
	weir_account_resume_fn resume; /* or NULL */
	uint64_t reserved[4];          /* must be zero */
};

/** In order: a later one is the more urgent. */
enum weir_account_verdict {
	WEIR_ACCOUNT_OK = 0,
	WEIR_ACCOUNT_PAUSE = 1,
	WEIR_ACCOUNT_FULL = 2,
	WEIR_ACCOUNT_CLOSE = 3,
};

/** struct weir_account_figures - one account at one moment. */
struct weir_account_figures {
	uint32_t size;     /* bytes of this struct, set by the reader */
	uint32_t children; /* accounts directly below */
	uint64_t used_bytes;
	uint64_t peak_bytes;  /* highest used_bytes */
	uint64_t limit_bytes; /* UINT64_MAX: none */
	uint64_t refusals;    /* charges this level refused */
	uint64_t reserved[3];
};

/**
 * weir_account_init() - begin an account.
 * @account: storage of the caller's; what was there does not matter.
 * @config:  copied, but for the name; NULL for the defaults.
 *
 * Returns:   0; -EINVAL (more than WEIR_ACCOUNT_DEPTH_MAX levels, pause_bytes or
 *            reserve_bytes above the limit, a reserved field set), and a message
 *            names the field.
 * Ownership: the storage stays the caller's, and must stay where it is until
 *            weir_account_finish().
 * Threads:   any thread; the parent must last until after the finish.
 * Cost:      a short lock.
 * Errors:    on failure @account must not be used.
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD int weir_account_init(struct weir_account *account,
    const struct weir_account_config *config) WEIR_NOEXCEPT;

/**
 * weir_account_charge() - charge memory that is not a buffer of weir's.
 * @account: a live account, or NULL, which is charged nothing.
 * @bytes:   how many.
 *
 * Returns:   true; or false with nothing charged, when a level has no room.
 * Ownership: the charge is the caller's to end by weir_account_uncharge().
 * Threads:   any thread.  While one level refuses a charge, those below it show
 *            it for a moment, and may refuse another for it.
 * Cost:      an atomic operation a level.
 * Errors:    none beside the return value.
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD bool weir_account_charge(
    struct weir_account *account, uint64_t bytes) WEIR_NOEXCEPT;

/**
 * weir_account_uncharge() - end a charge, or a part of it.
 * @account: the account that was charged, or NULL.
 * @bytes:   how many.
 *
 * Ownership: requests that wait for room are served.
 * Threads:   any thread; may call resume functions.  The account may be finished
 *            by another thread as soon as nothing is charged any more.
 * Cost:      an atomic operation a level, two where there is a resume function.
 * Errors:    more than is charged is a fault, reference-underflow
 *            (weir/guard.h).
 * Since:     0.1
 */
WEIR_API void weir_account_uncharge(
    struct weir_account *account, uint64_t bytes) WEIR_NOEXCEPT;

/**
 * weir_account_verdict() - what to do before so many bytes more.
 * @account: a live account.
 * @bytes:   what is about to be charged; 0 asks how things stand.
 * @level:   receives the account that says so, @account or one above it; may be
 *           NULL.
 *
 * Returns:   the most urgent answer of all levels: CLOSE where bytes do not fit
 *            and close_after charges in a row were refused with nothing given
 *            back in between, FULL where they do not fit, PAUSE where
 *            pause_bytes are in use already.
 * Ownership: nothing is charged; others may be faster.
 * Threads:   any thread.
 * Cost:      some loads a level; a store where the answer is not OK and the
 *            level has a resume function.
 * Errors:    none.
 * Since:     0.1
 */
WEIR_API enum weir_account_verdict weir_account_verdict(
    struct weir_account *account, uint64_t bytes, struct weir_account **level)
    WEIR_NOEXCEPT;

/**
 * weir_account_set_limit() - change a limit.
 * @account:     a live account.
 * @limit_bytes: as in the configuration.
 *
 * Ownership: nothing changes hands: below what is used, nothing is charged until
 *            enough was given back.  pause_bytes that were not named are 3/4 of
 *            the new limit; those that were, and the reserve, become no more
 *            than it, and stay so.
 * Threads:   any thread.  Requests that wait are served by a higher limit, and
 *            who was told to pause is told if the account is at half of its
 *            pause_bytes now.
 * Cost:      some stores.
 * Errors:    none.
 * Since:     0.1
 */
WEIR_API void weir_account_set_limit(
    struct weir_account *account, uint64_t limit_bytes) WEIR_NOEXCEPT;

/**
 * weir_account_largest() - the leaf below an account that holds most.
 * @account: a live account.
 * @bytes:   receives what the leaf holds; may be NULL.
 *
 * Returns:   a leaf, @account itself if nothing is below it; NULL if no leaf
 *            holds anything.
 * Ownership: the account is its owner's: whoever calls makes sure that it is not
 *            finished meanwhile, as by finishing accounts of one group on one
 *            thread.
 * Threads:   any thread.
 * Cost:      linear in the accounts below; beginning and finishing an account
 *            waits meanwhile.
 * Errors:    none.
 * Since:     0.1
 */
WEIR_API struct weir_account *weir_account_largest(
    struct weir_account *account, uint64_t *bytes) WEIR_NOEXCEPT;

/**
 * weir_account_stats() - read the figures of an account.
 * @account: a live account.
 * @out:     filled whole; set out->size to sizeof(*out) first.
 *
 * Returns:   0, or -EINVAL when out->size is none this library knows.
 * Ownership: copies into the caller's storage.
 * Threads:   any thread; each figure is one that held during the call.
 * Cost:      some loads.
 * Errors:    none beside the return value.
 * Since:     0.1
 */
WEIR_API int weir_account_stats(const struct weir_account *account,
    struct weir_account_figures *out) WEIR_NOEXCEPT;

/**
 * weir_account_check() - walk the invariants of a tree.
 * @root: a live account that nobody charges or changes during the call.
 *
 * Returns:   true when each level has at least what its children have in all,
 *            and nothing is above its limit unless that was lowered.
 * Ownership: nothing changes hands.
 * Threads:   quiet trees only.
 * Cost:      linear in the accounts.
 * Errors:    false; the first account that fails goes to the message hook.
 * Since:     0.1
 */
WEIR_API bool weir_account_check(struct weir_account *root) WEIR_NOEXCEPT;

/**
 * weir_account_finish() - end an account.
 * @account: an account without a charge and without accounts below, or NULL.
 *
 * Ownership: the storage is the caller's again.
 * Threads:   any thread, after every other use of the account has happened, but
 *            for the last release of what was charged.
 * Cost:      a short lock.
 * Errors:    bytes still charged, or accounts below, are a fault (weir/guard.h)
 *            that names the account and how many; weir_buffer_held_text() tells
 *            which buffers.
 * Since:     0.1
 */
WEIR_API void weir_account_finish(struct weir_account *account) WEIR_NOEXCEPT;

WEIR_END_DECLS

#endif /* WEIR_ACCOUNT_H */
