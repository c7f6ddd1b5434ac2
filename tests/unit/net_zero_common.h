/* SPDX-License-Identifier: MIT */
/*
 * net_zero_common.h - a server that sends without a copy, and a peer that reads
 * when it likes.
 *
 * On loopback the kernel copies when a packet leaves the sender's queue, and so
 * notifies only then: bytes that do not fit the peer's window stay ours.
 */
#ifndef NET_ZERO_COMMON_H
#define NET_ZERO_COMMON_H

#include "net_common.h"

#if WEIRI_HAVE_URING

#include "net/uring.h"

#include <weir/buffer_watch.h>

#define PIECE 65536u
#define PIECES 16u /* more than the peer's window and less than the quota */

static struct {
	struct weir_conn *conn;            /* atomic */
	struct weir_buffer *piece[PIECES]; /* atomic */
	int sent;                          /* atomic: reports */
	int cancelled;                     /* atomic */
	int closed;                        /* atomic: ends */
	int asked;                         /* atomic: times that bytes came */
	bool close;                        /* behind the answer; atomic */
	bool once;                         /* answers the first; atomic */
	bool together;                     /* in one send; atomic */
} zero;

static inline unsigned char
zero_byte(size_t at)
{
	return (unsigned char)(at / 251 + at * 7);
}

/* Answers anything, or the first, with PIECES buffers, each in a send of its
 * own or all in one, and keeps a reference to each. */
static inline void
zero_data(struct weir_conn *conn, struct weir_slice slice)
{
	struct weir_slice all[PIECES];
	bool together = __atomic_load_n(&zero.together, __ATOMIC_RELAXED);
	size_t at = 0;

	weir_buffer_release(slice.buffer);
	if (__atomic_fetch_add(&zero.asked, 1, __ATOMIC_ACQ_REL) > 0 &&
	    __atomic_load_n(&zero.once, __ATOMIC_RELAXED))
		return;
	for (uint32_t i = 0; i < PIECES; i++) {
		struct weir_buffer *buffer =
		    weir_loop_buffer(weir_conn_loop(conn), PIECE);
		CHECK_NOT_NULL(buffer);
		for (size_t k = 0; k < PIECE; k++)
			buffer->data[k] = zero_byte(at++);
		__atomic_store_n(&zero.piece[i], weir_buffer_retain(buffer),
		    __ATOMIC_RELEASE);
		all[i] = (struct weir_slice){buffer, 0, PIECE};
		if (!together)
			CHECK_EQ(weir_conn_send(conn, &all[i], 1, NULL), 0);
	}
	if (together)
		CHECK_EQ(weir_conn_send(conn, all, PIECES, NULL), 0);
	if (__atomic_load_n(&zero.close, __ATOMIC_RELAXED))
		weir_conn_close(conn, WEIR_CLOSE_LOCAL);
}

static inline void
zero_accept(struct weir_conn *conn)
{
	__atomic_store_n(&zero.conn, conn, __ATOMIC_RELEASE);
}

static inline void
zero_sent(struct weir_conn *conn, void *context, int status)
{
	(void)conn;
	(void)context;
	__atomic_fetch_add(
	    status == 0 ? &zero.sent : &zero.cancelled, 1, __ATOMIC_RELEASE);
}

static inline void
zero_close(struct weir_conn *conn, enum weir_close_reason reason)
{
	(void)conn;
	(void)reason;
	__atomic_fetch_add(&zero.closed, 1, __ATOMIC_RELEASE);
}

static const struct weir_handlers zero_handlers = {
    .on_accept = zero_accept,
    .on_data = zero_data,
    .on_sent = zero_sent,
    .on_close = zero_close,
};

static inline void
zero_start(struct rig *rig, struct weir_net_config config)
{
	memset(&zero, 0, sizeof(zero));
	if (rig_backend() == WEIR_BACKEND_EPOLL)
		SKIP("for io_uring");
	if (config.send_quota_bytes == 0)
		config.send_quota_bytes = 4u << 20;
	if (config.zero_copy_bytes == 0)
		config.zero_copy_bytes = PIECE;
	config.with |= WEIR_NET_ZERO_COPY;
	rig_start(rig, &config, &zero_handlers);
	if (!(weir_net_features(rig->net) & WEIR_NET_ZERO_COPY)) {
		rig_end(rig);
		SKIP("no sends without a copy here");
	}
}

/* A peer with a small window. */
static inline int
zero_client(const struct rig *rig)
{
	struct sockaddr_in address = {
	    .sin_family = AF_INET,
	    .sin_port = htons(rig->port),
	    .sin_addr = {htonl(INADDR_LOOPBACK)},
	};
	struct timeval limit = {.tv_sec = 45};
	int small = 65536;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	CHECK_GE(fd, 0);
	CHECK_EQ(
	    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)), 0);
	CHECK_EQ(
	    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)), 0);
	CHECK_EQ(connect(fd, (void *)&address, sizeof(address)), 0);
	return fd;
}

static inline void
zero_expect_all(int fd)
{
	static unsigned char back[65536];
	size_t at = 0;

	while (at < (size_t)PIECES * PIECE) {
		ssize_t got = recv(fd, back, sizeof(back), 0);
		CHECK_GT(got, 0);
		for (ssize_t k = 0; k < got; k++, at++)
			if (back[k] != zero_byte(at))
				FAIL("byte %zu differs", at);
	}
}

static inline int
zero_reports(void)
{
	return __atomic_load_n(&zero.sent, __ATOMIC_ACQUIRE);
}

static inline struct weir_buffer *
zero_piece(uint32_t index)
{
	return __atomic_load_n(&zero.piece[index], __ATOMIC_ACQUIRE);
}

static inline size_t
zero_in(enum weir_buffer_state state)
{
	size_t count = 0;

	for (uint32_t i = 0; i < PIECES; i++) {
		const struct weir_buffer *piece = zero_piece(i);
		count += piece != NULL && weir_buffer_state(piece) == state;
	}
	return count;
}

static inline void
zero_release(void)
{
	for (uint32_t i = 0; i < PIECES; i++) {
		weir_buffer_release(zero_piece(i));
	}
}

static inline int
zero_closed(void)
{
	return __atomic_load_n(&zero.closed, __ATOMIC_ACQUIRE);
}

/* Sends that are reported, and whose buffers the kernel still reads. */
static inline void
zero_await(int fd)
{
	client_send(fd, "?", 1);
	WAIT_FOR(zero_reports() >= 2 && zero_in(WEIR_BUFFER_ZC_NOTIFY) >= 1);
}

#endif

#endif /* NET_ZERO_COMMON_H */
