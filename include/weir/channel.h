/* SPDX-License-Identifier: MIT */
/*
 * channel.h - messages to many connections of an engine.
 *
 * A message is one slice, counted once however many connections it goes to: each
 * has a cursor of 32 bytes (weir/broadcast.h), and a send on its way while its
 * socket takes the bytes.  Connections join on their loop; a message published
 * anywhere goes to the members of all loops.
 *
 *     weir_channel_create(net, NULL, &room);
 *     on_accept:  weir_channel_join(room, conn);
 *     on_data:    weir_channel_publish(room, slice);      to all, itself too
 *
 * A member that does not read is passed over, or closed, once it is behind by
 * more than the bounds (enum weir_slow_policy); it never gets a part of a message
 * only.  What is sent to one connection alone lies between messages, in the order
 * of the calls where it is up to date.
 *
 * Order: a member gets messages in an order that all members of its loop share;
 * those of one publisher in the order in which they were published.
 */
#ifndef WEIR_CHANNEL_H
#define WEIR_CHANNEL_H

#include <weir/broadcast.h>
#include <weir/net.h>

WEIR_BEGIN_DECLS

struct weir_channel;

/** Channels of an engine at a time, and members of one on each loop. */
#define WEIR_CHANNELS_MAX 4095u
#define WEIR_CHANNEL_MEMBERS_MAX ((1u << 20) - 1)

/** struct weir_channel_config - zero means the default for every field. */
struct weir_channel_config {
	enum weir_slow_policy policy; /* WEIR_SLOW_SKIP */
	uint32_t limit_messages;      /* 1024: that wait for somebody, a loop */
	uint64_t limit_bytes;         /* that they pin, a loop; 0: none */
	uint64_t reserved[4];         /* must be zero */
};

/**
 * weir_channel_create() - make a channel.
 * @net:    a live engine.
 * @config: copied; NULL for the defaults.
 * @out:    receives the channel, NULL on failure.
 *
 * Returns:   0; -EINVAL (an unknown policy, a reserved field set); -ENOSPC:
 *            WEIR_CHANNELS_MAX are there; -ENOMEM.
 * Ownership: the caller's until weir_channel_destroy().
 * Threads:   any thread.
 * Cost:      an allocation.
 * Errors:    on failure nothing is kept.
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD int weir_channel_create(struct weir_net *net,
    const struct weir_channel_config *config, struct weir_channel **out)
    WEIR_NOEXCEPT;

/**
 * weir_channel_join() - have a connection get what is published from now on.
 * @channel: a live channel of the connection's engine.
 * @conn:    a connection that is open and in no channel.
 *
 * It leaves when it closes.
 *
 * Returns:   0; -EBUSY: it is in a channel; -ESHUTDOWN: it is closing; -ENOSPC:
 *            the loop has as many members as can be; -ENOMEM.
 * Ownership: nothing changes hands.
 * Threads:   the connection's loop's.
 * Cost:      some stores; the first of a loop allocates.
 * Errors:    none beside the return value.
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD int weir_channel_join(
    struct weir_channel *channel, struct weir_conn *conn) WEIR_NOEXCEPT;

/**
 * weir_channel_leave() - have a connection get no more messages.
 * @conn: a connection, in a channel or not.
 *
 * Ownership: messages that only it was still to get are released; what is on its
 *            way to it is sent.
 * Threads:   the connection's loop's.
 * Cost:      some stores.
 * Errors:    none.
 * Since:     0.1
 */
WEIR_API void weir_channel_leave(struct weir_conn *conn) WEIR_NOEXCEPT;

/**
 * weir_channel_publish() - a message for all members.
 * @channel: a live channel.
 * @slice:   its reference passes to the engine, whatever is returned.
 *
 * Returns:   0; -ENOMEM: members of some loops do not get it.
 * Ownership: see @slice; the caller must not change its bytes.
 * Threads:   any thread.  On the thread of a loop the message is queued for the
 *            loop's members at once; other loops get it as a task.
 * Cost:      an operation object for each member that is up to date, which are
 *            sent in the pass; for each other loop with members one, and a
 *            system call if it may sleep.
 * Errors:    see Returns; the reference is gone in every case.
 * Since:     0.1
 */
WEIR_API int weir_channel_publish(
    struct weir_channel *channel, struct weir_slice slice) WEIR_NOEXCEPT;

/**
 * weir_channel_stats() - read the figures of a channel, all loops together.
 * @channel: a live channel.
 * @out:     filled whole; set out->size to sizeof(*out) first.
 *
 * Returns:   0, or -EINVAL when out->size is none this library knows.
 * Ownership: copies into the caller's storage.
 * Threads:   any thread; exact when the loops are quiet.
 * Cost:      linear in the loops; takes the channel's lock.
 * Errors:    none beside the return value.
 * Since:     0.1
 */
WEIR_API int weir_channel_stats(struct weir_channel *channel,
    struct weir_broadcast_figures *out) WEIR_NOEXCEPT;

/**
 * weir_channel_destroy() - end a channel.
 * @channel: a channel whose engine's loops are destroyed, or NULL.
 *
 * Ownership: its storage is gone.
 * Threads:   one thread, after every other use, before weir_net_destroy().
 * Cost:      a free.
 * Errors:    none.
 * Since:     0.1
 */
WEIR_API void weir_channel_destroy(struct weir_channel *channel) WEIR_NOEXCEPT;

WEIR_END_DECLS

#endif /* WEIR_CHANNEL_H */
