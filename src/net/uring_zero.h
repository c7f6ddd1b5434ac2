/* SPDX-License-Identifier: MIT */
/*
 * net/uring_zero.h - a send without a copy, from its entry to its notification.
 *
 * That of a live connection is uring_zero.c's.  What an ended one left, or a
 * ring that failed, is uring_left.c's.
 */
#ifndef WEIRI_NET_URING_ZERO_H
#define WEIRI_NET_URING_ZERO_H

#include "net/uring.h"

/* How far a connection's peer is, told by its newest send. */
struct uring_watch {
	int64_t sent;    /* bytes, since the first that is awaited */
	int64_t counted; /* of those, what was told to be there */
	bool asked;      /* the system, how many are not */
};

/* A socket that outlives its connection. */
struct uring_left {
	int fd;             /* closed with the last notification; -1: none */
	int bytes;          /* not acknowledged when last asked */
	int period_bytes;   /* and at the beginning of a period of hold_ms, */
	uint64_t period_ns; /* which was then */
	uint64_t moved_ns;  /* bytes fell */
};

struct uring_zero {
	struct weiri_list link;
	struct weir_conn *conn;   /* NULL once that has ended */
	struct uring_zero *owner; /* who has the socket then; NULL: this, or
				     nobody */
	uint64_t bytes;           /* of the buffers */
	int64_t end;              /* watch.sent when it was sent */
	uint32_t index;           /* in the batch */
	uint16_t list;            /* of uring->zero */
	uint16_t count;
	bool more; /* a notification follows */
	bool sent; /* and is about bytes */
	struct uring_watch watch;
	struct uring_left left;
	struct weir_slice slice[URING_ZERO_SLICES];
};

/* Of uring->zero: where those of @conn are. */
WEIRI_INLINE uint16_t
weiri_uring_zero_list(const struct weir_conn *conn)
{
	return (uint16_t)((uintptr_t)conn / sizeof(*conn) % URING_ZERO_LISTS);
}

/* Unlinks it, for another send to use. */
void weiri_uring_zero_give(struct uring *uring, struct uring_zero *zero);

/* ---- uring_left.c ---------------------------------------------------- */

/* The owner of a socket is notified: another one has that, or it is closed. */
void weiri_uring_left_notified(
    struct weir_loop *loop, struct uring_zero *owner);

#endif /* WEIRI_NET_URING_ZERO_H */
