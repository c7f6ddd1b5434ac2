/* SPDX-License-Identifier: MIT */
/*
 * socket.c - what the Linux back ends do with a socket in the same way.
 *
 * A send is one non-blocking call for all that is queued on a connection: what
 * the peer's window takes is copied by the kernel and its buffers come back at
 * once; what it does not stays ours, to be counted and limited.
 */
#include "net/backend.h"

#include "net/lend.h"

#include <errno.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <linux/sockios.h>

/* One connection may send so often in a flush, each time from what on_sent
 * queued; then the others have their turn. */
#define SOCKET_SENDS 16

/* Bytes of a lingering connection thrown away in a pass. */
#define SOCKET_DISCARD_BYTES 16384

size_t
weiri_socket_gather(
    const struct weir_conn *conn, struct iovec *iov, size_t most, size_t *bytes)
{
	size_t count = 0;

	*bytes = 0;
	for (struct weiri_op *op = conn->ops; op != NULL; op = op->next) {
		for (size_t i = op->done; i < op->count; i++) {
			const struct weir_slice *slice = &op->slice[i];
			if (count == SOCKET_IOVECS || count == most)
				return count;
			iov[count].iov_base =
			    slice->buffer->data + slice->offset;
			iov[count].iov_len = slice->bytes;
			*bytes += slice->bytes;
			count++;
		}
	}
	return count;
}

static ssize_t
socket_send_many(const struct weir_conn *conn, size_t *bytes)
{
	struct iovec iov[SOCKET_IOVECS];
	struct msghdr message = {.msg_iov = iov};

	ssize_t sent;

	message.msg_iovlen =
	    weiri_socket_gather(conn, iov, SOCKET_IOVECS, bytes);
	weiri_lend_sends(conn, message.msg_iovlen, false);
	sent = sendmsg(conn->fd, &message, MSG_NOSIGNAL);
	if (WEIR_UNLIKELY(sent < 0))
		sent = -errno;
	weiri_lend_sends(conn, message.msg_iovlen, true);
	return sent;
}

/* One system call; @bytes is what it was asked to send.  Bytes or -errno. */
static ssize_t
socket_send_once(const struct weir_conn *conn, size_t *bytes)
{
	const struct weiri_op *op = conn->ops;
	const struct weir_slice *slice = &op->slice[op->done];

	if (op->next != NULL || op->done + 1 < op->count)
		return socket_send_many(conn, bytes);
	*bytes = slice->bytes;
	weiri_lend_sends(conn, 1, false);
	ssize_t sent = send(conn->fd, slice->buffer->data + slice->offset,
	    slice->bytes, MSG_NOSIGNAL);
	if (WEIR_UNLIKELY(sent < 0))
		sent = -errno;
	weiri_lend_sends(conn, 1, true);
	return sent;
}

void
weiri_socket_send(struct weir_conn *conn)
{
	for (int i = 0; i < SOCKET_SENDS && conn->ops != NULL; i++) {
		size_t bytes;
		ssize_t sent = socket_send_once(conn, &bytes);
		if (WEIR_UNLIKELY(sent < 0)) {
			if (sent == -EINTR)
				continue;
			if (sent != -EAGAIN)
				weiri_conn_failed(conn, (int)sent);
			return;
		}
		weiri_conn_sent(conn, (size_t)sent);
		if (WEIR_UNLIKELY(conn->state == WEIRI_CONN_CLOSING))
			return;
		if ((size_t)sent < bytes)
			return;
	}
}

void
weiri_socket_discard(struct weir_conn *conn)
{
	unsigned char scratch[SOCKET_DISCARD_BYTES];
	ssize_t result = recv(conn->fd, scratch, sizeof(scratch), 0);

	if (result > 0)
		weiri_conn_discarded(conn);
	else if (result == 0 || (errno != EAGAIN && errno != EINTR))
		weiri_conn_linger_over(conn);
}

bool
weiri_socket_delivered(struct weir_conn *conn)
{
	int bytes = 0; /* not acknowledged, the end of the stream included */

	return ioctl(conn->fd, SIOCOUTQ, &bytes) != 0 || bytes == 0;
}

void
weiri_socket_reset(int fd)
{
	struct linger linger = {.l_onoff = 1, .l_linger = 0};

	(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	close(fd);
}

void
weiri_socket_end(struct weir_conn *conn)
{
	if (conn->flags & WEIRI_CONN_ABORT)
		weiri_socket_reset(conn->fd);
	else
		close(conn->fd);
	conn->fd = -1;
}

void
weiri_socket_wake(int fd)
{
	int saved = errno; /* called in signal handlers */
	uint64_t one = 1;
	ssize_t result = write(fd, &one, sizeof(one));

	(void)result; /* EAGAIN: so many wakes are pending that one is seen */
	errno = saved;
}

void
weiri_socket_woken(int fd)
{
	uint64_t count;
	ssize_t result = read(fd, &count, sizeof(count));

	(void)result; /* EAGAIN: somebody was faster, and that is as good */
}
