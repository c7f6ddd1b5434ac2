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
 * The result is that of any other send of the batch (uring_send.c): so many
 * bytes went, the rest is a tail.  The operation ends with it and is reported;
 * but its buffers stay, with a reference of their own each, until the kernel
 * notifies.  So whatever is due with their end - the wipe, the account, the
 * place in the pool - waits for that, be the connection closed meanwhile.
 *
 * Until then the connection holds them: they count in its charge, so that one
 * whose peer acknowledges nothing is paused at its quota, and it is among those
 * that hold memory, so that such a peer is found out (conn.c).
 *
 * How far the peer is, a notification says late: for a large send to a slow
 * peer, after all of it.  So whoever asks whether the connection moves asks the
 * system how much is not acknowledged (weiri_uring_zero_moved()).  Against what
 * was sent since the first send that is awaited that makes a position, and so
 * do notifications; it only grows, and what it grows by is counted once.
 *
 * A send that sent nothing has a notification all the same, at once, and counts
 * for nothing: it says neither that the peer took something nor that the kernel
 * copied.
 *
 * What a connection that ends does not await any more is in uring_left.c.
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
 *  Z3  The newest of those has the connection's watch, and counted <= sent but
 *      for what was sent before the first.
 */
#include "net/uring_zero.h"
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

/* ---- who is sent to without copies ----------------------------------------
 * */

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

/* Of a direct descriptor: an answer is asked for with no more room than it
 * takes, or there is none.  0 or -errno. */
static int
zero_ask_peer(const struct weir_conn *conn, struct sockaddr_storage *peer)
{
	struct weir_loop *loop = conn->loop;
	int result = weiri_uring_ask(loop, conn->fd, WEIRI_RING_GETSOCKOPT,
	    SO_PEERNAME, peer, sizeof(struct sockaddr_in));

	if (result >= 0 && peer->ss_family == AF_INET6)
		result = weiri_uring_ask(loop, conn->fd, WEIRI_RING_GETSOCKOPT,
		    SO_PEERNAME, peer, sizeof(struct sockaddr_in6));
	return result < 0 ? result : 0;
}

/* Whether its peer is on this machine, as far as can be told; or -EBUSY: not
 * now. */
static int
zero_is_local(struct weir_conn *conn)
{
	struct sockaddr_storage peer = {.ss_family = AF_UNSPEC};
	struct sockaddr_storage own = {.ss_family = AF_UNSPEC};
	socklen_t bytes = sizeof(peer);

	if (weiri_fd_is_direct(conn->fd)) {
		/* Our own address is not to be had; the notification tells. */
		int error;
		weiri_uring_sends_end(conn->loop);
		error = zero_ask_peer(conn, &peer);
		return error == -EBUSY ? error
				       : error < 0 || zero_is_loopback(&peer);
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
	int local;

	if (conn->awaited >= WEIRI_AWAITED_MAX ||
	    loop->now_ns < weiri_uring_of(loop)->zero_rest_ns)
		return false;
	/* Asked for with the first of several. */
	if (loop->net->config.with & WEIR_NET_ZERO_COPY || conn->awaited > 0)
		return true;
	local = zero_is_local(conn);
	if (local > 0)
		conn->awaited = WEIRI_AWAITED_NEVER;
	return local == 0;
}

/* ---- how far the peer is ---------------------------------------------------
 * */

/* The newest of a connection that awaits some, or had: NULL. */
static struct uring_zero *
zero_newest(const struct weir_conn *conn)
{
	struct uring *uring = weiri_uring_of(conn->loop);
	struct uring_zero *newest = NULL;

	WEIRI_LIST_FOR(node, &uring->zero[weiri_uring_zero_list(conn)])
	{
		struct uring_zero *zero =
		    WEIRI_CONTAINER_OF(node, struct uring_zero, link);
		if (zero->conn == conn && zero->more)
			newest = zero;
	}
	return newest;
}

/* It is as far as @there: the bytes by which that is news. */
static uint64_t
zero_advance(struct uring_watch *watch, int64_t there)
{
	int64_t moved = there - watch->counted;

	if (moved <= 0)
		return 0;
	watch->counted = there;
	return (uint64_t)moved;
}

void
weiri_uring_zero_passed(struct weir_conn *conn, uint64_t bytes)
{
	zero_newest(conn)->watch.sent += (int64_t)bytes;
}

int64_t
weiri_uring_zero_moved(struct weir_conn *conn)
{
	struct uring_watch *watch = &zero_newest(conn)->watch;
	int bytes = weiri_uring_unacknowledged(conn->loop, conn->fd);
	bool asked = watch->asked;
	uint64_t moved;

	if (bytes < 0)
		return bytes == -EBUSY ? -1 : 0;
	watch->asked = true;
	moved = zero_advance(watch, watch->sent - bytes);
	if (moved > 0 || asked)
		return (int64_t)moved;
	/* Bytes from before the first may be among them. */
	watch->counted = watch->sent - bytes;
	return -1;
}

/* ---- from the entry to its result ------------------------------------------
 * */

void
weiri_uring_zero_init(struct uring *uring)
{
	for (size_t i = 0; i < URING_ZERO_LISTS; i++)
		weiri_list_init(&uring->zero[i]);
	weiri_list_init(&uring->zero_spare);
}

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

void
weiri_uring_zero_give(struct uring *uring, struct uring_zero *zero)
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
zero_return(struct uring_zero *zero, uint16_t first)
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
	zero->owner = NULL;
	zero->bytes = 0;
	zero->index = index;
	zero->list = weiri_uring_zero_list(conn);
	zero->count = 0;
	zero->more = zero->sent = false;
	zero->left.fd = -1;
	uring->zeros++;
	weiri_list_append(&uring->zero[zero->list], &zero->link);
	if (!zero_lend(zero, conn, count)) {
		zero_return(zero, 0);
		weiri_uring_zero_give(uring, zero);
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

/* The kernel goes on reading: the newest of its connection from now on. */
static void
zero_stays(struct uring_zero *zero, int64_t result)
{
	const struct uring_zero *before = zero_newest(zero->conn);

	zero->watch =
	    before != NULL ? before->watch : (struct uring_watch){.sent = 0};
	zero->sent = result > 0;
	if (zero->sent)
		zero->watch.sent += result;
	zero->end = zero->watch.sent;
	zero->more = true;
	for (uint16_t i = 0; i < zero->count; i++)
		weiri_buffer_kernel_sent(zero->slice[i].buffer);
	zero->conn->awaited++;
	WEIRI_COUNT(zero->conn->loop, zero_copies, zero->sent);
}

int64_t
weiri_uring_zero_sent(
    struct uring_zero *zero, int64_t result, uint64_t *awaited)
{
	struct weir_loop *loop = zero->conn->loop;
	struct uring *uring = weiri_uring_of(loop);
	bool more = zero->more;
	uint16_t used = 0;

	if (result == INT32_MAX) {
		/* None was told, which the probe has not seen to happen. */
		uring->ring.dead = more = true;
		result = -EIO;
	}
	for (int64_t rest = result; rest > 0 && used < zero->count; used++)
		rest -= zero->slice[used].bytes;
	if (result <= 0 && more)
		used = zero->count; /* it may have looked at all of them */
	zero_return(zero, more ? used : 0);
	*awaited = zero->bytes;
	zero->more = false; /* and so not its own predecessor */
	if (more)
		zero_stays(zero, result);
	else
		weiri_uring_zero_give(uring, zero);
	switch (result) {
	case -ENOMEM:
	case -ENOBUFS:
	case -EOPNOTSUPP:
	case -EINVAL:
		/* Not this way, but it may go. */
		uring->zero_rest_ns = loop->now_ns + ZERO_REST_NS;
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
	weiri_uring_zero_give(uring, zero);
}

/* ---- the notification -------------------------------------------------------
 * */

/* For a connection that is there: by how many bytes it is news.  With the last
 * one, what was sent behind it counts, too: that is with the system. */
static uint64_t
zero_watch_notified(struct uring_zero *zero)
{
	struct uring_watch watch = zero_newest(zero->conn)->watch;
	struct uring_zero *newest;
	uint64_t moved = 0;

	if (zero->conn->awaited == 1)
		moved = zero_advance(&watch, watch.sent);
	else if (zero->sent)
		moved = zero_advance(&watch, zero->end);
	zero->more = false;
	newest = zero_newest(zero->conn);
	if (newest != NULL)
		newest->watch = watch;
	return moved;
}

static void
zero_conn_notified(
    struct weir_conn *conn, uint64_t bytes, uint64_t moved, bool copied)
{
	weiri_conn_awaited(conn, bytes, moved);
	weiri_uring_tune(conn);
	if (copied && conn->awaited == 0 &&
	    !(conn->loop->net->config.with & WEIR_NET_ZERO_COPY))
		conn->awaited = WEIRI_AWAITED_NEVER;
}

void
weiri_uring_zero_notified(
    struct weir_loop *loop, const struct io_uring_cqe *cqe)
{
	struct uring_zero *zero =
	    (void *)(uintptr_t)(cqe->user_data - URING_TAG_ZERO);
	struct weir_conn *conn;
	uint64_t bytes, moved = 0;
	bool copied;

	/* The result was read before, and @zero may have ended with it. */
	if (!(cqe->flags & IORING_CQE_F_NOTIF))
		return;
	conn = zero->conn;
	bytes = zero->bytes;
	copied = zero->sent && ((uint32_t)cqe->res & WEIRI_RING_COPIED) != 0;
	WEIRI_COUNT(loop, zero_copies_copied, copied);
	if (conn != NULL)
		moved = zero_watch_notified(zero);
	else if (zero->left.fd != -1)
		weiri_uring_left_notified(loop, zero);
	zero_return(zero, 0);
	weiri_uring_zero_give(weiri_uring_of(loop), zero);
	if (conn != NULL)
		zero_conn_notified(conn, bytes, moved, copied);
}
