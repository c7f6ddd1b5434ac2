/* SPDX-License-Identifier: MIT */
/*
 * uring_zero.c - sends that the network reads from our buffers.
 *
 * A large send costs a copy into the kernel.  With WEIR_NET_ZERO_COPY one of
 * zero_copy_bytes or more lends its buffers instead:
 *
 *     entry        result, at once        acknowledged        notification
 *       |               |                      |                  |
 *       KERNEL_TX ------+------------ ZC_NOTIFY ------------------+-- released
 *
 * The result is that of any other send of the batch (uring_send.c): so many bytes
 * went, the rest is a tail.  The operation ends with it and is reported; but its
 * buffers stay, with a reference of their own each, until the kernel notifies.
 * So whatever is due with their end - the wipe, the account, the place in the
 * pool - waits for that, be the connection closed meanwhile.
 *
 * Until then the connection holds them: they count in its charge, so that one
 * whose peer acknowledges nothing is paused at its quota, and it is among those
 * that hold memory, so that such a peer is found out (conn.c).
 *
 * A connection that ends leaves its socket to the newest of these sends, and that
 * closes it: the bytes are still due to the peer, and if it never takes them, a
 * reset must be possible, which alone makes the kernel let go.  So it is with
 * those that are left when a loop has used up its time to stop.
 *
 * To a peer on this machine the kernel copies anyway, later, and at a higher
 * price (16 KB: 13.0 against 5.9 us); so those are left out, and whoever is
 * found to be such by the notification is left out from then on.
 *
 * Invariants:
 *  Z1  A send is on the list of its connection's address from its entry to its
 *      notification; its connection is NULL once that has ended.
 *  Z2  conn->awaited is the number of those of the connection that had a result
 *      and no notification, or WEIRI_AWAITED_NEVER with none.
 *  Z3  Of those that an ended connection left, one owns the socket, or none when
 *      it was reset.
 */
#include "net/uring.h"
#include "net/view.h"

#include "pools/buffer_kernel.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Kept for the next send, not freed. */
#define ZERO_SPARE 64u

/* After a refusal for want of something, such as pages that may be locked. */
#define ZERO_REST_NS (100 * WEIRI_MS)

struct uring_zero {
	struct weiri_list link;
	struct weir_conn *conn;
	uint64_t bytes; /* of the buffers */
	int fd;         /* to be closed with the notification, or -1 */
	uint32_t index; /* in the batch */
	uint32_t count;
	int unacknowledged; /* when last asked; -1: not yet */
	bool more;          /* a notification follows */
	struct weir_slice slice[URING_ZERO_SLICES];
};

static struct weiri_list *
zero_list(struct uring *uring, const struct weir_conn *conn)
{
	return &uring->zero[(uintptr_t)conn / sizeof(*conn) % URING_ZERO_LISTS];
}

/* ---- who is sent to without copies ---------------------------------------- */

static bool
zero_is_loopback(const struct sockaddr_storage *address)
{
	const struct sockaddr_in *v4 = (const void *)address;
	const struct sockaddr_in6 *v6 = (const void *)address;

	if (address->ss_family == AF_INET)
		return ntohl(v4->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
	if (address->ss_family != AF_INET6)
		return true; /* nothing a network would carry */
	return IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr) ||
	       (IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr) &&
		   v6->sin6_addr.s6_addr[12] == IN_LOOPBACKNET);
}

/* Does an address of this machine talk to itself? */
static bool
zero_is_same(const struct sockaddr_storage *a, const struct sockaddr_storage *b)
{
	const struct sockaddr_in *v4[] = {(const void *)a, (const void *)b};
	const struct sockaddr_in6 *v6[] = {(const void *)a, (const void *)b};

	if (a->ss_family == AF_INET)
		return v4[0]->sin_addr.s_addr == v4[1]->sin_addr.s_addr;
	return memcmp(&v6[0]->sin6_addr, &v6[1]->sin6_addr,
		   sizeof(v6[0]->sin6_addr)) == 0;
}

static bool
zero_is_local(struct weir_conn *conn)
{
	struct sockaddr_storage peer = {.ss_family = AF_UNSPEC};
	struct sockaddr_storage own = {.ss_family = AF_UNSPEC};
	socklen_t bytes = sizeof(peer);

	if (weiri_fd_is_direct(conn->fd)) {
		/* Our own address is not to be had; the notification tells. */
		weiri_uring_sends_end(conn->loop);
		return weiri_uring_ask(conn, WEIRI_RING_GETSOCKOPT, SO_PEERNAME,
			   &peer, sizeof(peer)) < 0 ||
		       zero_is_loopback(&peer);
	}
	if (getpeername(conn->fd, (void *)&peer, &bytes) != 0 ||
	    zero_is_loopback(&peer))
		return true;
	bytes = sizeof(own);
	return getsockname(conn->fd, (void *)&own, &bytes) != 0 ||
	       zero_is_same(&peer, &own);
}

bool
weiri_uring_zero_suits(struct weir_conn *conn)
{
	const struct weir_loop *loop = conn->loop;

	if (conn->awaited >= WEIRI_AWAITED_MAX ||
	    loop->now_ns < weiri_uring_of(loop)->zero_rest_ns)
		return false;
	if (loop->net->config.with & WEIR_NET_ZERO_COPY)
		return true;
	/* Asked for with the first of several. */
	if (conn->awaited == 0 && zero_is_local(conn))
		conn->awaited = WEIRI_AWAITED_NEVER;
	return conn->awaited != WEIRI_AWAITED_NEVER;
}

/* ---- from the entry to its result ------------------------------------------ */

static struct uring_zero *
zero_take(struct uring *uring)
{
	struct uring_zero *zero;

	if (weiri_list_empty(&uring->zero_spare))
		return calloc(1, sizeof(*zero));
	zero =
	    WEIRI_CONTAINER_OF(uring->zero_spare.next, struct uring_zero, link);
	weiri_list_remove(&zero->link);
	uring->zero_spares--;
	return zero;
}

static void
zero_give(struct uring *uring, struct uring_zero *zero)
{
	weiri_list_remove(&zero->link);
	uring->zeros--;
	if (uring->zero_spares >= ZERO_SPARE) {
		free(zero);
		return;
	}
	uring->zero_spares++;
	weiri_list_append(&uring->zero_spare, &zero->link);
}

/* Ends the loan of slices from @first on, and the references. */
static void
zero_return(struct uring_zero *zero, uint32_t first)
{
	for (uint32_t i = first; i < zero->count; i++) {
		zero->bytes -= zero->slice[i].buffer->bytes;
		weiri_buffer_kernel_done(zero->slice[i].buffer);
	}
	zero->count = first;
}

/* Lends the first @count unsent slices; not for long what others share. */
static bool
zero_lend(struct uring_zero *zero, const struct weir_conn *conn, uint32_t count)
{
	for (const struct weiri_op *op = conn->ops; zero->count < count;
	     op = op->next)
		for (size_t i = op->done; i < op->count; i++) {
			const struct weir_slice *slice = &op->slice[i];
			if (zero->count == count)
				break;
			if (weiri_is_view(slice->buffer))
				return false;
			weir_buffer_retain(slice->buffer);
			if (!weiri_buffer_to_kernel(
				slice->buffer, WEIR_BUFFER_KERNEL_TX)) {
				weir_buffer_release(slice->buffer);
				return false;
			}
			zero->slice[zero->count++] = *slice;
			zero->bytes += slice->buffer->bytes;
		}
	return true;
}

struct uring_zero *
weiri_uring_zero_begin(struct weir_conn *conn, struct io_uring_sqe *entry,
    uint32_t index, uint32_t count)
{
	struct uring *uring = weiri_uring_of(conn->loop);
	struct uring_zero *zero = zero_take(uring);

	if (zero == NULL)
		return NULL;
	zero->conn = conn;
	zero->bytes = 0;
	zero->fd = -1;
	zero->index = index;
	zero->count = 0;
	zero->unacknowledged = -1;
	zero->more = false;
	uring->zeros++;
	weiri_list_append(zero_list(uring, conn), &zero->link);
	if (!zero_lend(zero, conn, count)) {
		zero_return(zero, 0);
		zero_give(uring, zero);
		return NULL;
	}
	entry->opcode = entry->opcode == IORING_OP_SEND ? IORING_OP_SEND_ZC
							: IORING_OP_SENDMSG_ZC;
	entry->ioprio = WEIRI_RING_REPORT_USAGE;
	/* It has a completion in any case, and so may be short without one
	 * that says so. */
	entry->flags &= (uint8_t)~IOSQE_CQE_SKIP_SUCCESS;
	entry->msg_flags &= ~(uint32_t)MSG_WAITALL;
	entry->user_data = weiri_uring_data(zero, URING_TAG_ZERO);
	return zero;
}

uint32_t
weiri_uring_zero_result(struct uring_zero *zero, uint32_t flags)
{
	zero->more = (flags & IORING_CQE_F_MORE) != 0;
	return zero->index;
}

int64_t
weiri_uring_zero_sent(
    struct uring_zero *zero, int64_t result, uint64_t *awaited)
{
	struct weir_conn *conn = zero->conn;
	struct uring *uring = weiri_uring_of(conn->loop);
	uint32_t used = 0;

	if (result == INT32_MAX) {
		/* None was told, which the probe has not seen to happen. */
		uring->ring.dead = zero->more = true;
		result = -EIO;
	}
	for (int64_t rest = result; rest > 0 && used < zero->count; used++)
		rest -= zero->slice[used].bytes;
	if (result <= 0 && zero->more)
		used = zero->count; /* it may have looked at all of them */
	zero_return(zero, zero->more ? used : 0);
	*awaited = zero->bytes;
	if (zero->more) {
		for (uint32_t i = 0; i < zero->count; i++)
			weiri_buffer_kernel_sent(zero->slice[i].buffer);
		conn->awaited++;
		WEIRI_COUNT(conn->loop, zero_copies, result > 0);
	} else {
		zero_give(uring, zero);
	}
	switch (result) {
	case -ENOMEM:
	case -ENOBUFS:
	case -EOPNOTSUPP:
	case -EINVAL:
		/* Not this way, but it may go. */
		uring->zero_rest_ns = conn->loop->now_ns + ZERO_REST_NS;
		return -EINTR;
	default:
		return result;
	}
}

void
weiri_uring_zero_undo(struct uring_zero *zero)
{
	struct uring *uring = weiri_uring_of(zero->conn->loop);

	zero_return(zero, 0);
	zero_give(uring, zero);
}

/* ---- the notification ------------------------------------------------------- */

void
weiri_uring_zero_notified(
    struct weir_loop *loop, const struct io_uring_cqe *cqe)
{
	struct uring_zero *zero =
	    (void *)(uintptr_t)(cqe->user_data - URING_TAG_ZERO);
	struct weir_conn *conn;
	uint64_t bytes;
	bool copied = ((uint32_t)cqe->res & WEIRI_RING_COPIED) != 0;

	/* The result was read before, and @zero may have ended with it. */
	if (!(cqe->flags & IORING_CQE_F_NOTIF))
		return;
	conn = zero->conn;
	bytes = zero->bytes;
	WEIRI_COUNT(loop, zero_copies_copied, copied);
	if (zero->fd != -1)
		weiri_uring_close(loop, zero->fd, false);
	zero_return(zero, 0);
	zero_give(weiri_uring_of(loop), zero);
	if (conn == NULL)
		return;
	weiri_conn_awaited(conn, bytes);
	weiri_uring_tune(conn);
	if (copied && conn->awaited == 0 &&
	    !(loop->net->config.with & WEIR_NET_ZERO_COPY))
		conn->awaited = WEIRI_AWAITED_NEVER;
}

/* The newest of a connection that awaits some. */
static struct uring_zero *
zero_newest(const struct weir_conn *conn)
{
	struct weiri_list *list = zero_list(weiri_uring_of(conn->loop), conn);
	struct uring_zero *newest = NULL;

	WEIRI_LIST_FOR(node, list)
	{
		struct uring_zero *zero =
		    WEIRI_CONTAINER_OF(node, struct uring_zero, link);
		if (zero->conn == conn)
			newest = zero;
	}
	WEIR_ASSERT(newest != NULL);
	return newest;
}

/* A notification comes when the last byte is there, which with a slow peer may be
 * long after the first.  The first answer is yes: it has nothing to compare. */
bool
weiri_uring_zero_moves(struct weir_conn *conn)
{
	struct uring_zero *zero = zero_newest(conn);
	int bytes = weiri_uring_unacknowledged(conn);
	bool moves = bytes != zero->unacknowledged;

	if (bytes < 0)
		return bytes == -EBUSY;
	zero->unacknowledged = bytes;
	return moves;
}

/* ---- ends ----------------------------------------------------------------- */

void
weiri_uring_zero_leave(struct weir_conn *conn)
{
	struct uring_zero *newest = zero_newest(conn);

	WEIRI_LIST_FOR(node, zero_list(weiri_uring_of(conn->loop), conn))
	{
		struct uring_zero *zero =
		    WEIRI_CONTAINER_OF(node, struct uring_zero, link);
		if (zero->conn == conn)
			zero->conn = NULL;
	}
	if (conn->flags & WEIRI_CONN_ABORT) {
		weiri_uring_close(conn->loop, conn->fd, true);
		return;
	}
	/* The peer may wait for the end.  It comes with the close if not now. */
	(void)weiri_uring_shutdown(conn->loop, conn->fd);
	newest->fd = conn->fd;
}

/* Resets what ended connections left. */
static void
zero_reset(struct weir_loop *loop)
{
	struct uring *uring = weiri_uring_of(loop);

	for (size_t i = 0; i < URING_ZERO_LISTS; i++)
		WEIRI_LIST_FOR(node, &uring->zero[i])
		{
			struct uring_zero *zero =
			    WEIRI_CONTAINER_OF(node, struct uring_zero, link);
			if (zero->fd == -1)
				continue;
			weiri_uring_close(loop, zero->fd, true);
			zero->fd = -1;
		}
}

bool
weiri_uring_zero_over(struct weir_loop *loop)
{
	if (weiri_uring_of(loop)->zeros == 0)
		return true;
	if (loop->grace_timer.due_ns == 0)
		zero_reset(loop);
	return false;
}

void
weiri_uring_zero_init(struct uring *uring)
{
	for (size_t i = 0; i < URING_ZERO_LISTS; i++)
		weiri_list_init(&uring->zero[i]);
	weiri_list_init(&uring->zero_spare);
}

void
weiri_uring_zero_finish(struct weir_loop *loop)
{
	struct uring *uring = weiri_uring_of(loop);

	/* Some are left only when the ring failed.  What was reset the kernel
	 * does not read any more. */
	zero_reset(loop);
	for (size_t i = 0; i < URING_ZERO_LISTS; i++)
		WEIRI_LIST_FOR_SAFE(node, &uring->zero[i])
		{
			struct uring_zero *zero =
			    WEIRI_CONTAINER_OF(node, struct uring_zero, link);
			zero_return(zero, 0);
			zero_give(uring, zero);
		}
	WEIRI_LIST_FOR_SAFE(node, &uring->zero_spare)
	{
		free(WEIRI_CONTAINER_OF(node, struct uring_zero, link));
	}
}
