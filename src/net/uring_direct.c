/* SPDX-License-Identifier: MIT */
/*
 * uring_direct.c - connections without a descriptor.
 *
 * With WEIR_NET_DIRECT a connection is accepted into a table of the ring, and
 * named by its place there: an operation finds the file without the process's
 * table, and that has room for other things.  What the table has no room for
 * gets a descriptor as ever, so both kinds live side by side, and conn->fd says
 * which it is: a place is kept as a number below -1 (ring.h).
 *
 *     accept --> place free --> conn->fd = -2 - place   operations, commands
 *            \-> table full --> conn->fd = descriptor   calls, operations
 *
 * No system call knows a place.  What the back end does by calls elsewhere is
 * an entry here, of two kinds.  Where nobody looks at the outcome - the end of
 * the stream, the reset, the close - it is left in the queue for the next
 * call.  Where somebody does - receives without a lent buffer, questions - it
 * is submitted at once, and its completion is read where it lies, as those of
 * sends are (uring_send.c): all of these are over when the call returns.
 *
 * A connection that finds the table full was accepted before that is known, and
 * cannot be kept: the kernel has closed it.  It is counted as one without a
 * descriptor, and the next ones are accepted by number until there is room.
 *
 * Invariants:
 *  D1  uring->direct counts the places taken, up to uring->table, until their
 *      close has a completion: not fewer than the kernel does.
 *  D2  A place is closed by one entry or one call, and not named afterwards.
 */
#include "net/uring.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <linux/sockios.h>

/* The kernel makes no larger tables, in old versions. */
#define DIRECT_TABLE_MAX 32768u

/* Refused ones of a full engine need a place for a moment. */
#define DIRECT_SPARE 64u

/* ---- operations that are over at once ----------------------------------- */

int
weiri_uring_now(struct weir_loop *loop, struct io_uring_sqe *entry)
{
	struct weiri_ring *ring = &weiri_uring_of(loop)->ring;
	uint32_t unseen = weiri_ring_unseen(ring);

	entry->user_data = URING_TAG_NOW;
	if (!weiri_uring_has_room(ring) || weiri_ring_submit(ring) > 0) {
		weiri_ring_withdraw(ring, 1);
		return -EBUSY;
	}
	for (; weiri_ring_completion(ring, unseen) != NULL; unseen++) {
		const struct io_uring_cqe *cqe =
		    weiri_ring_completion(ring, unseen);
		if (cqe->user_data == URING_TAG_NOW)
			return cqe->res;
	}
	/* It may still write to where its caller thinks it has not.  The
	 * probe has seen that it does not come to this. */
	ring->dead = true;
	return -EIO;
}

ssize_t
weiri_uring_recv(struct weir_conn *conn, void *data, size_t bytes)
{
	struct io_uring_sqe *entry;
	ssize_t result;

	if (WEIR_LIKELY(!weiri_fd_is_direct(conn->fd))) {
		result = recv(conn->fd, data, bytes, MSG_DONTWAIT);
		return result < 0 ? -errno : result;
	}
	entry = weiri_uring_entry(
	    conn->loop, IORING_OP_RECV, conn->fd, NULL, URING_TAG_NONE);
	if (entry == NULL)
		return -EAGAIN;
	entry->addr = (uint64_t)(uintptr_t)data;
	entry->len = (uint32_t)bytes;
	entry->msg_flags = MSG_DONTWAIT;
	result = weiri_uring_now(conn->loop, entry);
	/* A poll finds it once more. */
	return result == -EBUSY ? -EAGAIN : result;
}

int
weiri_uring_ask(struct weir_loop *loop, int fd, uint32_t command, int option,
    void *value, uint32_t bytes)
{
	struct io_uring_sqe *entry = weiri_uring_entry(
	    loop, IORING_OP_URING_CMD, fd, NULL, URING_TAG_NONE);

	if (entry == NULL)
		return -EBUSY;
	weiri_ring_command(entry, command, option, value, bytes);
	return weiri_uring_now(loop, entry);
}

int
weiri_uring_unacknowledged(struct weir_loop *loop, int fd)
{
	int bytes;

	if (weiri_fd_is_direct(fd))
		return weiri_uring_ask(
		    loop, fd, WEIRI_RING_SIOCOUTQ, 0, NULL, 0);
	return ioctl(fd, SIOCOUTQ, &bytes) == 0 ? bytes : -errno;
}

bool
weiri_uring_conn_delivered(struct weir_conn *conn)
{
	int bytes = weiri_uring_unacknowledged(conn->loop, conn->fd);

	return bytes == 0 || (bytes < 0 && bytes != -EBUSY);
}

void
weiri_uring_discard(struct weir_conn *conn)
{
	unsigned char scratch[16384];
	ssize_t result;

	if (!weiri_fd_is_direct(conn->fd)) {
		weiri_socket_discard(conn);
		return;
	}
	result = weiri_uring_recv(conn, scratch, sizeof(scratch));
	if (result > 0)
		weiri_conn_discarded(conn);
	else if (result != -EAGAIN && result != -EINTR)
		weiri_conn_linger_over(conn);
}

/* ---- operations nobody waits for ----------------------------------------- */

bool
weiri_uring_shutdown(struct weir_loop *loop, int fd)
{
	struct io_uring_sqe *entry;

	if (!weiri_fd_is_direct(fd))
		return shutdown(fd, SHUT_WR) == 0;
	entry = weiri_uring_entry(
	    loop, IORING_OP_SHUTDOWN, fd, NULL, URING_TAG_NONE);
	if (entry == NULL)
		return false;
	entry->len = SHUT_WR;
	entry->flags |= IOSQE_CQE_SKIP_SUCCESS;
	return true;
}

/* Its close is a reset from now on; false: the queue is full. */
static bool
direct_reset(struct weir_loop *loop, int fd)
{
	static const struct linger now = {.l_onoff = 1, .l_linger = 0};
	struct io_uring_sqe *entry = weiri_uring_entry(
	    loop, IORING_OP_URING_CMD, fd, NULL, URING_TAG_NONE);

	if (entry == NULL)
		return false;
	weiri_ring_command(
	    entry, WEIRI_RING_SETSOCKOPT, SO_LINGER, &now, sizeof(now));
	entry->flags |= IOSQE_CQE_SKIP_SUCCESS;
	return true;
}

void
weiri_uring_closed(struct weir_loop *loop)
{
	struct uring *uring = weiri_uring_of(loop);

	WEIR_ASSERT(uring->direct > 0);
	WEIRI_STORE(&uring->direct, uring->direct - 1);
}

static bool
direct_close_entry(struct weir_loop *loop, uint32_t index)
{
	struct io_uring_sqe *entry =
	    weiri_uring_entry(loop, IORING_OP_CLOSE, 0, NULL, URING_TAG_NONE);

	if (entry == NULL)
		return false;
	entry->file_index = index + 1;
	entry->user_data = URING_CLOSED;
	return true;
}

/* In the queue, behind what was asked of it before. */
static void
direct_close(struct weir_loop *loop, int fd)
{
	struct uring *uring = weiri_uring_of(loop);
	uint32_t index = (uint32_t)weiri_fd_direct(fd);

	/* Of a dead ring: it ends with that, if not before. */
	if (direct_close_entry(loop, index) || uring->ring.dead)
		return;
	/* What is queued may name the place, so it waits its turn. */
	if (uring->late_count < URING_LATE) {
		uring->late[uring->late_count++] = index;
		return;
	}
	weiri_ring_table_close(&uring->ring, index);
	weiri_uring_closed(loop);
}

void
weiri_uring_close_late(struct weir_loop *loop)
{
	struct uring *uring = weiri_uring_of(loop);

	while (uring->late_count > 0 &&
	       direct_close_entry(loop, uring->late[uring->late_count - 1]))
		uring->late_count--;
}

void
weiri_uring_close(struct weir_loop *loop, int fd, bool reset)
{
	if (weiri_fd_is_direct(fd)) {
		/* Without room for it the peer sees an orderly end. */
		if (reset)
			(void)direct_reset(loop, fd);
		direct_close(loop, fd);
	} else if (reset) {
		weiri_socket_reset(fd);
	} else {
		close(fd);
	}
}

bool
weiri_uring_reset(struct weir_loop *loop, int fd)
{
	if (!weiri_fd_is_direct(fd))
		weiri_socket_reset(fd);
	else if (direct_reset(loop, fd))
		direct_close(loop, fd);
	else
		return false;
	return true;
}

void
weiri_uring_refuse(struct weir_loop *loop, int fd)
{
	weiri_uring_close(loop, fd, true);
}

/* ---- the table ------------------------------------------------------------
 * */

void
weiri_uring_table_open(struct weir_loop *loop)
{
	struct uring *uring = weiri_uring_of(loop);
	const struct weir_net_config *config = &loop->net->config;
	uint64_t entries = DIRECT_TABLE_MAX;
	struct rlimit limit;

	if (!(loop->net->features & WEIR_NET_DIRECT))
		return;
	if (config->connections_max != 0 &&
	    (uint64_t)config->connections_max + DIRECT_SPARE < entries)
		entries = (uint64_t)config->connections_max + DIRECT_SPARE;
	/* The kernel goes by the same limit. */
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < entries)
		entries = limit.rlim_cur;
	/* Without one, everybody has a descriptor. */
	if (entries > 0 &&
	    weiri_ring_table_open(&uring->ring, (uint32_t)entries) == 0)
		uring->table = (uint32_t)entries;
}
