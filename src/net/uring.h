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
	URING_TAGS = 7,
};

#define URING_TAG_BITS 3

static_assert(offsetof(struct weir_loop, wake) % (1 << URING_TAG_BITS) == 0,
    "the address of a handle has room for a tag");

/* Sends of one call; those of several slices need room for them. */
#define URING_BATCH 256
#define URING_MESSAGES 64
#define URING_VECTORS 1024

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

/* ---- uring.c --------------------------------------------------------- */

/* The next entry, filled so far; or NULL when the queue is full. */
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

/* ---- and their parts of struct weiri_backend ------------------------- */

int weiri_uring_conn_start(struct weir_conn *conn);
bool weiri_uring_conn_stop(struct weir_conn *conn);
void weiri_uring_conn_receive(struct weir_conn *conn, bool on);
bool weiri_uring_conn_feed(struct weir_conn *conn);
bool weiri_uring_conn_send(struct weir_conn *conn);
void weiri_uring_sends_end(struct weir_loop *loop);
bool weiri_uring_conn_linger(struct weir_conn *conn);

#endif /* WEIRI_NET_URING_H */
