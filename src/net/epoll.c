/* SPDX-License-Identifier: MIT */
/*
 * epoll.c - the back end over Linux epoll.
 *
 * Level-triggered, one receive per readiness: a full buffer is reported again
 * in the next pass, so a short read needs no second one to learn that the
 * socket is empty, and no connection gets ahead of the others.  The usual
 * packet costs one recv, one send and its share of an epoll_wait; epoll_ctl is
 * called only when a peer falls behind or memory runs out.
 *
 * Edge triggering would save nothing here: the extra recv until EAGAIN costs
 * more than a level-triggered item.
 *
 * conn->interest is what the kernel was told: EPOLLIN and EPOLLOUT, which fit a
 * byte.  EPOLLERR and EPOLLHUP are always told, so a connection that does not
 * receive still learns of a reset.
 */
#include "net/backend.h"

#include "net/lend.h"
#include "net/payer.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

static_assert((EPOLLIN | EPOLLOUT) <= UINT8_MAX, "interest is a byte");

/* Connections one listener may bring in a pass; more wait for the next. */
#define EPOLL_ACCEPTS 64

/* Events ahead of the current one whose connection is fetched. */
#define EPOLL_AHEAD 2

/* ---- interest -------------------------------------------------------- */

static int
epoll_tell(int poll_fd, int operation, int fd, uint32_t events, void *handle)
{
	struct epoll_event event = {.events = events, .data.ptr = handle};

	return epoll_ctl(poll_fd, operation, fd, &event) == 0 ? 0 : -errno;
}

static void
epoll_set(struct weir_conn *conn, uint32_t interest)
{
	int error;

	if (conn->interest == interest)
		return;
	error = epoll_tell(
	    conn->loop->poll_fd, EPOLL_CTL_MOD, conn->fd, interest, conn);
	if (error == 0)
		conn->interest = (uint8_t)interest;
	else
		weiri_conn_failed(conn, error);
}

static void
epoll_conn_receive(struct weir_conn *conn, bool on)
{
	uint32_t interest = conn->interest;

	epoll_set(
	    conn, on ? interest | EPOLLIN : interest & ~(uint32_t)EPOLLIN);
}

/* ---- receiving ------------------------------------------------------- */

static void
epoll_receive(struct weir_conn *conn, struct weir_buffer *buffer,
    uint32_t offset, uint32_t room)
{
	bool lent = weiri_lend_receive(buffer);
	ssize_t result = recv(conn->fd, buffer->data + offset, room, 0);

	if (WEIR_UNLIKELY(result < 0))
		result = -errno;
	weiri_lend_received(buffer, lent);
	weiri_conn_received(conn, buffer, offset, room, result);
}

static bool
epoll_conn_feed(struct weir_conn *conn)
{
	uint32_t offset, room;
	struct weir_buffer *buffer = weiri_conn_room(conn, &offset, &room);

	if (buffer == NULL)
		return false;
	weiri_conn_unstarve(conn);
	epoll_receive(conn, buffer, offset, room);
	/* Closing or over quota, it stays off; settle knows. */
	if (conn->state == WEIRI_CONN_OPEN &&
	    !(conn->flags & WEIRI_CONN_PAUSED))
		epoll_conn_receive(conn, true);
	return true;
}

static void
epoll_readable(struct weir_conn *conn)
{
	struct weir_loop *loop = conn->loop;
	uint32_t offset, room;
	struct weir_buffer *buffer;

	if (WEIR_UNLIKELY(conn->flags & WEIRI_CONN_STARVED)) {
		/* Told once more: the wait is a long one, so be silent. */
		epoll_conn_receive(conn, false);
		return;
	}
	if (WEIR_UNLIKELY(conn->flags & WEIRI_CONN_CHARGED) &&
	    !weiri_conn_has_room(conn) &&
	    weiri_payer_stops(conn, weiri_payer_wants(conn)))
		return;
	if (WEIR_UNLIKELY(weiri_net_is_short(loop)) &&
	    !weiri_conn_has_room(conn)) {
		weiri_conn_starve(conn); /* behind those who wait */
		return;
	}
	buffer = weiri_conn_room(conn, &offset, &room);
	if (WEIR_UNLIKELY(buffer == NULL)) {
		/* What this pass received so far may be on its way. */
		weiri_loop_flush(loop);
		if (conn->state != WEIRI_CONN_OPEN)
			return;
		buffer = weiri_conn_room(conn, &offset, &room);
		if (buffer == NULL) {
			weiri_conn_starve(conn);
			return;
		}
	}
	epoll_receive(conn, buffer, offset, room);
}

/* ---- sending --------------------------------------------------------- */

static bool
epoll_conn_send(struct weir_conn *conn)
{
	uint32_t interest;

	weiri_socket_send(conn);
	if (WEIR_UNLIKELY(conn->state == WEIRI_CONN_CLOSING))
		return true;
	/* EPOLLOUT also brings back one whose turns are used up. */
	interest = conn->interest & ~(uint32_t)EPOLLOUT;
	if (WEIR_UNLIKELY(conn->ops != NULL))
		interest |= EPOLLOUT;
	epoll_set(conn, interest);
	return true;
}

static void
epoll_sends_end(struct weir_loop *loop)
{
	(void)loop; /* none is left for it */
}

/* ---- lingering ------------------------------------------------------- */

static bool
epoll_conn_linger(struct weir_conn *conn)
{
	if (shutdown(conn->fd, SHUT_WR) != 0)
		return false;
	epoll_set(conn, EPOLLIN);
	return true;
}

/* ---- listeners ------------------------------------------------------- */

static int
epoll_listener_start(struct weir_listener *listener)
{
	return epoll_tell(listener->loop->poll_fd, EPOLL_CTL_ADD, listener->fd,
	    EPOLLIN, listener);
}

static void
epoll_listener_stop(struct weir_listener *listener)
{
	(void)epoll_tell(
	    listener->loop->poll_fd, EPOLL_CTL_DEL, listener->fd, 0, NULL);
}

static bool
epoll_quiet(struct weir_loop *loop)
{
	(void)loop;
	return true;
}

static void
epoll_accept(struct weir_listener *listener)
{
	for (int i = 0; i < EPOLL_ACCEPTS && listener->accepting; i++) {
		int fd = accept4(
		    listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd >= 0)
			weiri_listener_accepted(listener, fd);
		else if (!weiri_listener_failed(listener, -errno))
			return;
	}
}

/* ---- the loop -------------------------------------------------------- */

static void
epoll_conn_event(struct weir_conn *conn, uint32_t events)
{
	if (WEIR_UNLIKELY(conn->state == WEIRI_CONN_CLOSING))
		return;
	if (WEIR_UNLIKELY(events & EPOLLOUT))
		weiri_conn_queue(conn);
	if (!(events & (EPOLLIN | EPOLLERR | EPOLLHUP)))
		return;
	if (WEIR_LIKELY(conn->interest & EPOLLIN)) {
		if (WEIR_LIKELY(conn->state == WEIRI_CONN_OPEN))
			epoll_readable(conn);
		else if (conn->state == WEIRI_CONN_LINGERING)
			weiri_socket_discard(conn);
		else
			epoll_conn_receive(conn, false);
	} else if (events & (EPOLLERR | EPOLLHUP)) {
		weiri_conn_failed(conn, -ECONNRESET);
	}
}

static void
epoll_event(struct weir_loop *loop, const struct epoll_event *event)
{
	/* The first byte of each handle is its kind. */
	const uint8_t *handle = event->data.ptr;

	if (WEIR_LIKELY(*handle == WEIRI_HANDLE_CONN))
		epoll_conn_event(event->data.ptr, event->events);
	else if (*handle == WEIRI_HANDLE_LISTENER)
		epoll_accept(event->data.ptr);
	else
		weiri_socket_woken(loop->wake.fd);
}

static int
epoll_timeout_ms(int64_t timeout_ns)
{
	int64_t timeout_ms;

	if (timeout_ns == INT64_MAX)
		return -1;
	/* Late rather than early: early would spin until the time is there. */
	timeout_ms = timeout_ns / (int64_t)WEIRI_MS +
		     (timeout_ns % (int64_t)WEIRI_MS != 0);
	return timeout_ms > INT_MAX ? INT_MAX : (int)timeout_ms;
}

static int
epoll_pass(struct weir_loop *loop, int64_t timeout_ns)
{
	struct epoll_event *events = loop->events;
	int count = epoll_wait(loop->poll_fd, events,
	    (int)loop->net->config.batch, epoll_timeout_ms(timeout_ns));

	int error = count < 0 ? errno : 0;

	loop->now_ns = weiri_os_now_ns();
	if (WEIR_UNLIKELY(error != 0))
		return error == EINTR ? 0 : -error;
	for (int i = 0; i < count; i++) {
		if (i + EPOLL_AHEAD < count)
			__builtin_prefetch(events[i + EPOLL_AHEAD].data.ptr);
		epoll_event(loop, &events[i]);
	}
	return 0;
}

static void
epoll_wake(struct weir_loop *loop)
{
	weiri_socket_wake(loop->wake.fd);
}

static int
epoll_conn_start(struct weir_conn *conn)
{
	conn->interest = EPOLLIN;
	return epoll_tell(
	    conn->loop->poll_fd, EPOLL_CTL_ADD, conn->fd, EPOLLIN, conn);
}

static bool
epoll_conn_stop(struct weir_conn *conn)
{
	/* The kernel forgets the item with the socket's last descriptor, and
	 * the child of a fork may hold one: its events would name an object
	 * that is freed. */
	(void)epoll_tell(conn->loop->poll_fd, EPOLL_CTL_DEL, conn->fd, 0, NULL);
	weiri_socket_end(conn);
	return true;
}

static void
epoll_loop_finish(struct weir_loop *loop)
{
	if (loop->wake.fd >= 0)
		close(loop->wake.fd);
	if (loop->poll_fd >= 0)
		close(loop->poll_fd);
	free(loop->events);
}

static int
epoll_loop_start(struct weir_loop *loop)
{
	int error = -ENOMEM;

	loop->events =
	    calloc(loop->net->config.batch, sizeof(struct epoll_event));
	if (loop->events == NULL)
		goto undo;
	loop->poll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (loop->poll_fd < 0)
		goto undo_errno;
	loop->wake.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (loop->wake.fd < 0)
		goto undo_errno;
	error = epoll_tell(
	    loop->poll_fd, EPOLL_CTL_ADD, loop->wake.fd, EPOLLIN, &loop->wake);
	if (error != 0)
		goto undo;
	return 0;

undo_errno:
	error = -errno;
undo:
	epoll_loop_finish(loop);
	return error;
}

static int
epoll_works(uint32_t without, uint32_t *features)
{
	int fd = epoll_create1(EPOLL_CLOEXEC);

	(void)without;
	(void)features; /* none that could be missing */
	if (fd >= 0)
		close(fd);
	/* Out of descriptors, say, is for the loop to report. */
	return fd < 0 && errno == ENOSYS ? -ENOSYS : 0;
}

const struct weiri_backend weiri_backend_epoll = {
    .name = "epoll",
    .works = epoll_works,
    .loop_start = epoll_loop_start,
    .loop_finish = epoll_loop_finish,
    .listener_start = epoll_listener_start,
    .listener_stop = epoll_listener_stop,
    .conn_start = epoll_conn_start,
    .conn_stop = epoll_conn_stop,
    .conn_receive = epoll_conn_receive,
    .conn_feed = epoll_conn_feed,
    .conn_send = epoll_conn_send,
    .sends_end = epoll_sends_end,
    .conn_linger = epoll_conn_linger,
    .conn_delivered = weiri_socket_delivered,
    .quiet = epoll_quiet,
    .wait = epoll_pass,
    .wake = epoll_wake,
};
