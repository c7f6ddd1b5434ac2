/* SPDX-License-Identifier: MIT */
/*
 * net/uring.h - what the files of the back end over io_uring share.
 */
#ifndef WEIRI_NET_URING_H
#define WEIRI_NET_URING_H

#include "net/backend.h"
#include "net/ring.h"

#include <sys/socket.h>
#include <sys/uio.h>

/* conn->interest */
enum uring_interest {
	URING_WANTED = 1 << 0,    /* the engine wants to receive */
	URING_ARMED = 1 << 1,     /* a receive is with the kernel, or a poll */
	URING_CANCELLED = 1 << 2, /* and a request to end it, too */
	URING_POLLING = 1 << 3,   /* a poll for room to send is */
	URING_STOPPING = 1 << 4,  /* conn_stop waits for all three */
	URING_BULK = 1 << 5,      /* armed for one receive only */
	/* While stopping, which wants nothing: the poll's end is asked for. */
	URING_UNPOLLED = URING_WANTED,
	URING_WATCHED = 1 << 6, /* ARMED: a poll for bytes, no receive */
	URING_RESUMED = 1 << 7, /* on uring->resumed: something is due */
};

/* The kernel still has to say something of the connection. */
#define URING_BUSY (URING_ARMED | URING_CANCELLED | URING_POLLING)

/* Low bits of user_data; the rest is the handle's address. */
enum uring_tag {
	URING_TAG_MAIN = 0, /* receive, accept, wake */
	URING_TAG_POLL = 1,
	URING_TAG_WATCH = 2,
	URING_TAG_CANCEL = 3, /* of a receive or watch */
	URING_TAG_NONE = 4,   /* nobody cares */
	URING_TAG_SEND = 5,   /* with an index of the batch for a handle */
	URING_TAG_NOW = 6,    /* without a handle: uring_direct.c */
	/* Of a listener: accepts into the table. */
	URING_TAG_DIRECT = URING_TAG_WATCH,
	URING_TAG_ZERO = 7, /* of a struct uring_zero */
	URING_TAGS = 7,
};

#define URING_TAG_BITS 3

/* No handle either: a place in the table was closed. */
#define URING_CLOSED ((uint64_t)1 << URING_TAG_BITS | URING_TAG_NOW)

static_assert(offsetof(struct weir_loop, wake) % (1 << URING_TAG_BITS) == 0,
    "the address of a handle has room for a tag");

/* Sends of one call; those of several slices need room for them. */
#define URING_BATCH 256
#define URING_MESSAGES 64
#define URING_VECTORS 1024

/* Places that wait for an entry to be closed with. */
#define URING_LATE 64

/* Slices of a send without a copy; and lists of those. */
#define URING_ZERO_SLICES 16
#define URING_ZERO_LISTS 64

struct uring_zero;

/* The sends of a round (uring_send.c). */
struct uring_batch {
	uint32_t count;    /* of send, queued and not submitted */
	uint32_t messages; /* used */
	uint32_t vectors;  /* used */
	uint32_t unseen;   /* completions there when the first was queued */
	struct uring_sending {
		struct weir_conn *conn;
		size_t bytes;
		int64_t result; /* of a completion */
		uint32_t slices;
		struct uring_zero *zero; /* without a copy */
	} send[URING_BATCH];
	struct msghdr message[URING_MESSAGES];
	struct iovec iov[URING_VECTORS];
};

enum { URING_GROUP_SMALL, URING_GROUP_LARGE, URING_GROUPS };

struct uring {
	struct weiri_ring ring;
	struct weiri_supply supply[URING_GROUPS];
	struct weiri_list resumed; /* conn->waiting; whose stash may be handed
				      on, or who found the queue full */
	uint32_t accepts;          /* of listeners, with the kernel */
	uint32_t table;            /* places for direct descriptors */
	uint32_t direct;           /* taken, and not known to be closed;
				      others may read it */
	uint32_t late_count;       /* places to be closed: the queue was full */
	uint32_t late[URING_LATE];
	uint32_t zero_bytes; /* least of a send without a copy */
	uint32_t zeros;      /* on the lists below */
	uint32_t zero_spares;
	uint64_t zero_rest_ns; /* none before */
	struct weiri_list zero_spare;
	struct weiri_list zero[URING_ZERO_LISTS];
	struct weir_timer left_timer; /* uring_left.c */
	struct uring *next_lost;
	struct uring_batch batch;
};

WEIRI_INLINE struct uring *
weiri_uring_of(const struct weir_loop *loop)
{
	return loop->events;
}

WEIRI_INLINE uint64_t
weiri_uring_data(const void *handle, enum uring_tag tag)
{
	return (uint64_t)(uintptr_t)handle | tag;
}

/* A completion that comes at once must not be put aside by the kernel, where it
 * could not be read before all others.  What is queued may bring some, too. */
#define URING_EACH 4

WEIRI_INLINE bool
weiri_uring_has_room(const struct weiri_ring *ring)
{
	return ring->enabled && !ring->dead && !weiri_ring_overflown(ring) &&
	       weiri_ring_unseen(ring) + URING_BATCH +
		       URING_EACH * weiri_ring_pending(ring) <=
		   ring->cq_mask;
}

/* ---- uring.c --------------------------------------------------------- */

/* The next entry, filled so far; or NULL when the queue is full.  @fd may be a
 * direct one; other flags than that are added to those there. */
struct io_uring_sqe *weiri_uring_entry(struct weir_loop *loop, uint8_t opcode,
    int fd, const void *handle, enum uring_tag tag);

/* Asks the kernel to end what was armed with (handle, tag). */
struct io_uring_sqe *weiri_uring_cancel(
    struct weir_loop *loop, const void *handle, enum uring_tag tag);

/* One report of @events; false when the queue is full. */
bool weiri_uring_poll(struct weir_loop *loop, int fd, uint32_t events,
    const void *handle, enum uring_tag tag);

/* ---- uring_conn.c: the completions of a connection ------------------- */

void weiri_uring_received(
    struct weir_conn *conn, const struct io_uring_cqe *cqe);
void weiri_uring_watched(struct weir_conn *conn, int result);
void weiri_uring_cancelled(struct weir_conn *conn);

/* Brings what is armed in line with what is wanted. */
void weiri_uring_tune(struct weir_conn *conn);

/* After each completion: is one whose end was asked for at it? */
void weiri_uring_check_stopped(struct weir_conn *conn);

/* Hands on the stashes that are due, and asks again for what a full queue did
 * not take. */
void weiri_uring_resume(struct weir_loop *loop);

/* ---- uring_stash.c --------------------------------------------------- */

/* Takes the slice's reference; without memory the connection is aborted. */
void weiri_uring_stash(struct weir_conn *conn, struct weir_slice slice);

/* The oldest, of a stash that is not empty. */
struct weir_slice weiri_uring_unstash(struct weir_conn *conn);

/* Puts the rest of a slice back to the front. */
void weiri_uring_restash(struct weir_conn *conn, struct weir_slice slice);

/* ---- uring_send.c ---------------------------------------------------- */

/* There is room to send, or the poll for that was ended. */
void weiri_uring_polled(struct weir_conn *conn);

/* ---- uring_direct.c -------------------------------------------------- */

/* Makes the loop's table if direct descriptors are used. */
void weiri_uring_table_open(struct weir_loop *loop);

/* Submits @entry, the newest, and returns its result; -EBUSY: not now.  For what
 * is over when it is submitted. */
int weiri_uring_now(struct weir_loop *loop, struct io_uring_sqe *entry);

/* As recv() without waiting: bytes or -errno. */
ssize_t weiri_uring_recv(struct weir_conn *conn, void *data, size_t bytes);

/* weiri_ring_command() of the direct descriptor @fd, and its result; -EBUSY:
 * not now. */
int weiri_uring_ask(struct weir_loop *loop, int fd, uint32_t command,
    int option, void *value, uint32_t bytes);

/* Bytes sent and not acknowledged, or -errno; -EBUSY: not now. */
int weiri_uring_unacknowledged(struct weir_loop *loop, int fd);

/* As weiri_socket_discard(). */
void weiri_uring_discard(struct weir_conn *conn);

/* Ends the stream; false: it is gone. */
bool weiri_uring_shutdown(struct weir_loop *loop, int fd);

void weiri_uring_close(struct weir_loop *loop, int fd, bool reset);

/* Closes such that the peer sees a reset; false, and nothing is done: the queue
 * is full. */
bool weiri_uring_reset(struct weir_loop *loop, int fd);

/* Completion of URING_CLOSED. */
void weiri_uring_closed(struct weir_loop *loop);

/* Closes the places that found the queue full. */
void weiri_uring_close_late(struct weir_loop *loop);

/* ---- uring_zero.c ---------------------------------------------------- */

void weiri_uring_zero_init(struct uring *uring);

/* May the connection's next send go without a copy? */
bool weiri_uring_zero_suits(struct weir_conn *conn);

/* Makes @entry, which sends the first @count unsent slices as the batch's
 * @index, such a send; NULL, and nothing changed: no memory. */
struct uring_zero *weiri_uring_zero_begin(struct weir_conn *conn,
    struct io_uring_sqe *entry, uint32_t index, uint32_t count);

/* It was not submitted. */
void weiri_uring_zero_undo(struct uring_zero *zero);

/* Its result has come with @flags; returns its place in the batch. */
uint32_t weiri_uring_zero_result(struct uring_zero *zero, uint32_t flags);

/* What the result means for the send: bytes or -errno.  Sets *awaited to the
 * bytes of buffers that are still read; 0: none, and @zero is gone. */
int64_t weiri_uring_zero_sent(
    struct uring_zero *zero, int64_t result, uint64_t *awaited);

void weiri_uring_zero_notified(
    struct weir_loop *loop, const struct io_uring_cqe *cqe);

/* Of a connection that awaits some: @bytes were sent in another way; and how many
 * bytes its peer has taken since the last question, as far as not told before, or
 * -1: that cannot be said yet. */
void weiri_uring_zero_passed(struct weir_conn *conn, uint64_t bytes);
int64_t weiri_uring_zero_moved(struct weir_conn *conn);

/* ---- uring_left.c ---------------------------------------------------- */

/* The connection ends before what it awaits; takes its socket. */
void weiri_uring_zero_leave(struct weir_conn *conn);

/* Of a loop that stops: has everything been notified? */
bool weiri_uring_zero_over(struct weir_loop *loop);

/* The ring has failed: on the loop's thread, with no connection left, finds out
 * what the kernel is done with. */
void weiri_uring_salvage(struct weir_loop *loop);

/* After the ring is closed: frees the rest, but for what the kernel may use. */
void weiri_uring_free(struct weir_loop *loop);

/* ---- and their parts of struct weiri_backend ------------------------- */

void weiri_uring_refuse(struct weir_loop *loop, int fd);
bool weiri_uring_conn_delivered(struct weir_conn *conn);

int weiri_uring_conn_start(struct weir_conn *conn);
bool weiri_uring_conn_stop(struct weir_conn *conn);
void weiri_uring_conn_receive(struct weir_conn *conn, bool on);
bool weiri_uring_conn_feed(struct weir_conn *conn);
bool weiri_uring_conn_send(struct weir_conn *conn);
void weiri_uring_sends_end(struct weir_loop *loop);
bool weiri_uring_conn_linger(struct weir_conn *conn);

#endif /* WEIRI_NET_URING_H */
