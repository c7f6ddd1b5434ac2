/* SPDX-License-Identifier: MIT */
/*
 * backend.h - what the engine asks of a system interface.
 *
 * The engine decides which connection may receive and what is sent in which
 * order; a back end moves the bytes and reports what moved.  Calls go down
 * through this table, reports go up through weiri_conn_received(),
 * weiri_conn_sent(), weiri_conn_failed(), weiri_conn_discarded(),
 * weiri_conn_linger_over() and weiri_listener_accepted().
 * docs/ARCHITECTURE.md says how each call maps onto epoll, io_uring and IOCP.
 *
 * Where the system holds memory of ours, or may still name the connection,
 * conn_stop is done when its last completion is in, and the reaper waits for
 * that.
 */
#ifndef WEIRI_BACKEND_H
#define WEIRI_BACKEND_H

#include "net/engine.h"

#include <sys/uio.h>

struct weiri_backend {
	const char *name;
	/* Here and now: 0 or -errno; and which features, of those not in
	 * @without, it uses. */
	int (*works)(uint32_t without, uint32_t *features);

	int (*loop_start)(struct weir_loop *loop); /* 0 or -errno */
	void (*loop_finish)(struct weir_loop *loop);

	int (*listener_start)(struct weir_listener *listener);
	void (*listener_stop)(struct weir_listener *listener);

	int (*conn_start)(struct weir_conn *conn);
	/* End watching and close the socket, by reset if WEIRI_CONN_ABORT;
	 * false: not yet, weiri_conn_stopped() will have it called again. */
	bool (*conn_stop)(struct weir_conn *conn);
	/* Stop receiving for a while, and start again. */
	void (*conn_receive)(struct weir_conn *conn, bool on);
	/* Receive for one that waited for memory; false: still none. */
	bool (*conn_feed)(struct weir_conn *conn);
	/* Send from conn->ops as much as goes; see to the rest by itself.
	 * True: done.  False: sends_end() does it with others. */
	bool (*conn_send)(struct weir_conn *conn);
	/* Ends the sends of a round, reports and settles them. */
	void (*sends_end)(struct weir_loop *loop);
	/* End the stream behind what was sent, and throw away what arrives;
	 * false: the connection is gone. */
	bool (*conn_linger)(struct weir_conn *conn);
	/* Has the peer's system all that was sent, and that end? */
	bool (*conn_delivered)(struct weir_conn *conn);

	/* How many bytes of what was sent has the peer's system taken since the
	 * last question, beside those that weiri_conn_awaited() told of; or -1:
	 * that cannot be said yet.  Asked of connections that await something;
	 * or NULL. */
	int64_t (*conn_moved)(struct weir_conn *conn);
	/* Resets what was accepted and not made a connection; NULL: as
	 * weiri_socket_reset() does. */
	void (*refuse)(struct weir_loop *loop, int fd);

	/* Of a stopped loop without connections: does the system hold nothing
	 * of its listeners any more?  Asked until it says so; and once, by its
	 * thread, of a loop whose wait has failed. */
	bool (*quiet)(struct weir_loop *loop);
	/* Wait, report and return; INT64_MAX: no time limit.  0 or -errno. */
	int (*wait)(struct weir_loop *loop, int64_t timeout_ns);
	/* Ends a wait; any thread, signal handlers. */
	void (*wake)(struct weir_loop *loop);
	/* Ten times a second while there is traffic, and some time after: what
	 * is lent to the system is as much as is used.  NULL: nothing is. */
	void (*maintain)(struct weir_loop *loop);
};

extern const struct weiri_backend weiri_backend_epoll;
#if WEIRI_HAVE_URING
extern const struct weiri_backend weiri_backend_uring;
#endif

/* ---- socket.c: what the back ends of Linux share ---------------------- */

#define SOCKET_IOVECS 64 /* slices in one call */

/* Fills @iov, up to SOCKET_IOVECS or @most, from what is queued; returns how
 * many, and their bytes. */
size_t weiri_socket_gather(const struct weir_conn *conn, struct iovec *iov,
    size_t most, size_t *bytes);

/* Sends what goes now; fails the connection on errors. */
void weiri_socket_send(struct weir_conn *conn);

/* Throws away what a lingering connection got: left unread, it would turn the
 * close into a reset. */
void weiri_socket_discard(struct weir_conn *conn);

/* Has the peer's system all of it? */
bool weiri_socket_delivered(struct weir_conn *conn);

/* Closes the connection's socket as its flags say. */
void weiri_socket_end(struct weir_conn *conn);

/* An eventfd: ends a wait, and was seen. */
void weiri_socket_wake(int fd);
void weiri_socket_woken(int fd);

#endif /* WEIRI_BACKEND_H */
