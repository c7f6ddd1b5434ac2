/* SPDX-License-Identifier: MIT */
/*
 * broadcast.h - one message to many receivers.
 *
 * A message is a slice that is counted once, however many receive it.  Each
 * receiver is a cursor of 32 bytes: which message comes next, and how much of it
 * is sent.  Messages form a list; one that the slowest receiver is past is
 * released.  How long the list may become is bounded, and what is done with the
 * receivers that keep it long is a matter of policy:
 *
 *     WEIR_SLOW_SKIP   they miss messages, and go on with the newest; one that
 *                      is in the middle of a message gets the rest of it
 *     WEIR_SLOW_CLOSE  they are given up
 *
 * How bytes are sent is the driver's business: a function that takes as much of
 * a slice as the receiver's connection accepts right now.
 *
 * One thread at a time uses a broadcast.  With several loops each has one of its
 * own, and the messages' payload is shared by its reference count.
 */
#ifndef WEIR_BROADCAST_H
#define WEIR_BROADCAST_H

#include <weir/buffer.h>

WEIR_BEGIN_DECLS

struct weir_broadcast;

/** What becomes of a receiver that is behind by more than the bounds. */
enum weir_slow_policy {
	WEIR_SLOW_SKIP = 0,
	WEIR_SLOW_CLOSE = 1,
};

/** Why a receiver is given up. */
enum weir_receiver_end {
	WEIR_RECEIVER_SLOW = 0,   /* by policy */
	WEIR_RECEIVER_FAILED = 1, /* the driver said so */
};

/** What a driver that cannot send any more returns. */
#define WEIR_SEND_FAILED UINT32_MAX

/**
 * weir_broadcast_send_fn - sends to one receiver.
 * @user:    the receiver's, of weir_broadcast_join().
 * @slice:   what comes next.  To keep it, retain it.
 * @context: weir_broadcast_config.context.
 *
 * Returns:  how many of its bytes were taken.  Fewer than all: the receiver is
 *           left alone until weir_broadcast_ready().  WEIR_SEND_FAILED: it is
 *           given up.
 *
 * May not call the broadcast but for weir_broadcast_ready() of this receiver.
 */
typedef uint32_t (*weir_broadcast_send_fn)(
    void *user, struct weir_slice slice, void *context);

/**
 * weir_broadcast_end_fn - told that a receiver is given up.
 * @user:    the receiver's.
 * @end:     why.
 * @context: weir_broadcast_config.context.
 *
 * The receiver's number is free again.  May not call the broadcast.
 */
typedef void (*weir_broadcast_end_fn)(
    void *user, enum weir_receiver_end end, void *context);

/** struct weir_broadcast_config - zero means the default where there is one. */
struct weir_broadcast_config {
	weir_broadcast_send_fn send;
	weir_broadcast_end_fn end; /* or NULL */
	void *context;
	enum weir_slow_policy policy;
	uint32_t limit_messages; /* most that wait for somebody; 0: 1,024 */
	uint64_t limit_bytes;    /* most that they pin; 0: none */
	uint64_t reserved[4];    /* must be zero */
};

/** struct weir_broadcast_figures - one broadcast at one moment. */
struct weir_broadcast_figures {
	uint32_t size; /* bytes of this struct, set by the reader */
	uint32_t receivers;
	uint64_t messages;     /* that wait for somebody */
	uint64_t bytes_pinned; /* by them */
	uint64_t rests;        /* messages beside them, whose rest somebody gets
				   who is to skip */
	uint64_t published;    /* messages, ever */
	uint64_t skipped;      /* deliveries that were left out */
	uint64_t closed;       /* receivers given up for being slow */
	uint64_t receiver_bytes; /* memory of all cursors */
	uint64_t reserved;
};

/**
 * weir_broadcast_create() - make a broadcast.
 * @config: copied.
 * @out:    receives it, NULL on failure.
 *
 * Returns:   0; -EINVAL (no send function, an unknown policy, a reserved field
 *            set), and a message names the field; -ENOMEM.
 * Ownership: the caller's until weir_broadcast_destroy().
 * Threads:   one at a time, as all calls here.
 * Cost:      under a microsecond.
 * Errors:    on failure nothing is kept.
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD int weir_broadcast_create(
    const struct weir_broadcast_config *config, struct weir_broadcast **out)
    WEIR_NOEXCEPT;

/**
 * weir_broadcast_join() - add a receiver.
 * @broadcast: a live broadcast.
 * @user:      handed to the driver.
 * @receiver:  gets its number, small and reused.
 *
 * It receives what is published from now on.
 *
 * Returns:   0, or -ENOMEM.
 * Ownership: @user stays the program's.
 * Threads:   one at a time.
 * Cost:      some stores; now and then a larger table.
 * Errors:    none beside the return value.
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD int weir_broadcast_join(
    struct weir_broadcast *broadcast, void *user, uint32_t *receiver)
    WEIR_NOEXCEPT;

/**
 * weir_broadcast_leave() - take a receiver away.
 * @broadcast: a live broadcast.
 * @receiver:  the number of one that is there.
 *
 * Ownership: what only it was still to get is released.
 * Threads:   one at a time.
 * Cost:      some stores.
 * Errors:    a number that is nobody's is a fault, bad-argument (weir/guard.h).
 * Since:     0.1
 */
WEIR_API void weir_broadcast_leave(
    struct weir_broadcast *broadcast, uint32_t receiver) WEIR_NOEXCEPT;

/**
 * weir_broadcast_publish() - a message for all.
 * @broadcast: a live broadcast.
 * @slice:     with a reference of its own.
 *
 * It goes to all receivers that are not behind; the others get it in their turn.
 * Beyond the bounds the slowest are treated by the policy.
 *
 * Returns:   0; -ENOMEM, and nobody gets it; an empty slice is 0.
 * Ownership: the reference is the broadcast's, on success only.
 * Threads:   one at a time.
 * Cost:      a call of the driver for each receiver that is up to date; for each
 *            that is behind by more than the bounds, some stores once.
 * Errors:    none beside the return value.
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD int weir_broadcast_publish(
    struct weir_broadcast *broadcast, struct weir_slice slice) WEIR_NOEXCEPT;

/**
 * weir_broadcast_ready() - a receiver's connection takes bytes again.
 * @broadcast: a live broadcast.
 * @receiver:  its number.
 *
 * Inside the driver's send function it only notes so.
 *
 * Ownership: messages that nobody else waits for are released.
 * Threads:   one at a time.
 * Cost:      a call of the driver for each message it takes.
 * Errors:    a number that is nobody's is a fault, bad-argument (weir/guard.h).
 * Since:     0.1
 */
WEIR_API void weir_broadcast_ready(
    struct weir_broadcast *broadcast, uint32_t receiver) WEIR_NOEXCEPT;

/**
 * weir_broadcast_stats() - read the figures.
 * @broadcast: a live broadcast.
 * @out:       filled whole; set out->size to sizeof(*out) first.
 *
 * Returns:   0, or -EINVAL when out->size is none this library knows.
 * Ownership: copies into the caller's storage.
 * Threads:   one at a time.
 * Cost:      some loads.
 * Errors:    none beside the return value.
 * Since:     0.1
 */
WEIR_API int weir_broadcast_stats(const struct weir_broadcast *broadcast,
    struct weir_broadcast_figures *out) WEIR_NOEXCEPT;

/**
 * weir_broadcast_check() - walk the invariants of a broadcast.
 * @broadcast: a live broadcast.
 *
 * Returns:   true when every receiver is in one list, every message has as many
 *            as it says, and the bounds hold.
 * Ownership: nothing changes hands.
 * Threads:   one at a time.
 * Cost:      linear in receivers and messages.
 * Errors:    false; the first broken invariant goes to the message hook.
 * Since:     0.1
 */
WEIR_API bool weir_broadcast_check(const struct weir_broadcast *broadcast)
    WEIR_NOEXCEPT;

/**
 * weir_broadcast_destroy() - end a broadcast.
 * @broadcast: a live broadcast, with receivers or without, or NULL.
 *
 * Ownership: all messages are released; receivers are not told.
 * Threads:   one at a time.
 * Cost:      linear in the messages.
 * Errors:    none.
 * Since:     0.1
 */
WEIR_API void weir_broadcast_destroy(struct weir_broadcast *broadcast)
    WEIR_NOEXCEPT;

WEIR_END_DECLS

#endif /* WEIR_BROADCAST_H */
