/* SPDX-License-Identifier: MIT */
/*
 * uring_send.c - sends over io_uring: those of a round in one call.
 *
 * A send through the ring could be left to the kernel until the peer reads.
 * These are not: they move what the socket takes at once, like a non-blocking
 * send(), and the rest stays ours, to be counted and limited.  So when the call
 * that submits them returns, all are over:
 *
 *     conn_send   fills an entry           conn_send   ...   (up to a batch)
 *     sends_end   one call; buffers come back, tails wait for a poll
 *
 * MSG_WAITALL makes a partial send a failure, and one that did not fail has no
 * completion (CQE_SKIP_SUCCESS).  So the usual batch leaves nothing to read:
 * what has no completion went out whole.  Completions are looked at where they
 * lie, between others that the loop has not come to yet.
 *
 * That holds only if every failure is seen when the call returns.  Hence it is
 * done where completions are made by this thread alone (WEIR_NET_DEFERRED), and
 * while there is room for one of each send; otherwise, and for a single send,
 * which it would not help, send() is called (socket.c).
 *
 * Invariants:
 *  B1  Between two calls of sends_end(), count connections of the batch have
 *      bytes in the newest count entries of the queue, and each only once.
 *  B2  No handler runs between the first conn_send() of a batch and its
 *      sends_end(), so the slices stay.
 */
#include "net/uring.h"

#include "net/lend.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

/* What a stream socket takes at once; less than all is a failure. */
#define URING_SEND_FLAGS (MSG_DONTWAIT | MSG_WAITALL | MSG_NOSIGNAL)

/* ---- without the batch ------------------------------------------------ */

static void
uring_send_wait(struct weir_conn *conn)
{
	if (conn->interest & URING_POLLING)
		return;
	if (weiri_uring_poll(
		conn->loop, conn->fd, POLLOUT, conn, URING_TAG_POLL))
		conn->interest |= URING_POLLING;
	else
		weiri_conn_queue(conn); /* the queue is full: next pass */
	weiri_uring_tune(conn);
}

/* After the sends of a connection: what it may receive now. */
static void
uring_send_over(struct weir_conn *conn)
{
	weiri_conn_settle(conn);
	if (WEIR_UNLIKELY(
		!(conn->interest & URING_ARMED) || weiri_conn_awaits(conn)))
		weiri_uring_tune(conn);
}

static void
uring_send_plain(struct weir_conn *conn)
{
	if (WEIR_UNLIKELY(weiri_fd_is_direct(conn->fd))) {
		/* No call sends there. */
		if (weiri_uring_of(conn->loop)->ring.dead)
			weiri_conn_failed(conn, -EIO);
		else
			weiri_conn_queue(conn);
		return;
	}
	uint64_t before = conn->loop->counters.bytes_sent;
	weiri_socket_send(conn);
	if (WEIR_UNLIKELY(weiri_conn_awaits(conn)))
		weiri_uring_zero_passed(
		    conn, conn->loop->counters.bytes_sent - before);
	if (WEIR_UNLIKELY(conn->ops != NULL) &&
	    conn->state != WEIRI_CONN_CLOSING)
		uring_send_wait(conn);
}

void
weiri_uring_polled(struct weir_conn *conn)
{
	conn->interest &= (uint8_t)~URING_POLLING;
	if (conn->state != WEIRI_CONN_CLOSING && conn->ops != NULL)
		weiri_conn_queue(conn);
}

/* ---- filling ----------------------------------------------------------- */

/* Does a batch go on, or may this be the first of one?  Then there must be
 * another, unless a call would not do, and room for what may be reported of as
 * many as fit. */
static bool
send_joins(const struct weir_conn *conn, struct uring *uring, bool zero)
{
	const struct weiri_ring *ring = &uring->ring;

	if (WEIR_LIKELY(uring->batch.count > 0))
		return true;
	if (conn->next_sending == NULL && !zero &&
	    !weiri_fd_is_direct(conn->fd))
		return false;
	if (!(conn->loop->net->features & WEIR_NET_RING_SEND) ||
	    !weiri_uring_has_room(ring))
		return false;
	uring->batch.unseen = weiri_ring_unseen(ring);
	return true;
}

static struct io_uring_sqe *
send_entry(struct weir_loop *loop, uint8_t opcode, int fd, uint32_t index)
{
	struct io_uring_sqe *entry =
	    weiri_uring_entry(loop, opcode, fd, NULL, URING_TAG_SEND);

	if (entry == NULL)
		return NULL;
	entry->user_data |= (uint64_t)index << URING_TAG_BITS;
	entry->flags |= IOSQE_CQE_SKIP_SUCCESS;
	entry->msg_flags = URING_SEND_FLAGS;
	return entry;
}

static bool
send_fill_many(struct weir_conn *conn, struct uring_batch *batch, bool zero)
{
	struct iovec *iov = &batch->iov[batch->vectors];
	struct msghdr *message = &batch->message[batch->messages];
	size_t bytes;
	size_t count = weiri_socket_gather(
	    conn, iov, URING_VECTORS - batch->vectors, &bytes);
	struct io_uring_sqe *entry =
	    send_entry(conn->loop, IORING_OP_SENDMSG, conn->fd, batch->count);

	if (entry == NULL)
		return false;
	*message = (struct msghdr){.msg_iov = iov, .msg_iovlen = count};
	entry->addr = (uint64_t)(uintptr_t)message;
	entry->len = 1;
	batch->vectors += (uint32_t)count;
	batch->messages++;
	batch->send[batch->count].bytes = bytes;
	batch->send[batch->count].slices = (uint32_t)count;
	batch->send[batch->count].zero =
	    zero && bytes >= weiri_uring_of(conn->loop)->zero_bytes &&
		    count <= URING_ZERO_SLICES
		? weiri_uring_zero_begin(
		      conn, entry, batch->count, (uint32_t)count)
		: NULL;
	return true;
}

static bool
send_fill(struct weir_conn *conn, struct uring_batch *batch, bool zero)
{
	const struct weiri_op *op = conn->ops;
	const struct weir_slice *slice = &op->slice[op->done];

	if (WEIR_UNLIKELY(op->next != NULL || op->done + 1 < op->count))
		return send_fill_many(conn, batch, zero);

	struct io_uring_sqe *entry =
	    send_entry(conn->loop, IORING_OP_SEND, conn->fd, batch->count);

	if (WEIR_UNLIKELY(entry == NULL))
		return false;
	entry->addr =
	    (uint64_t)(uintptr_t)(slice->buffer->data + slice->offset);
	entry->len = slice->bytes;
	batch->send[batch->count].bytes = slice->bytes;
	batch->send[batch->count].slices = 1;
	batch->send[batch->count].zero =
	    WEIR_UNLIKELY(zero)
		? weiri_uring_zero_begin(conn, entry, batch->count, 1)
		: NULL;
	return true;
}

/* So many bytes at least in what one entry sends. */
static bool
send_is_large(const struct weir_conn *conn, uint32_t least)
{
	const struct weiri_op *op = conn->ops;
	uint64_t bytes = op->slice[op->done].bytes;

	if (WEIR_LIKELY(op->next == NULL && op->done + 1 == op->count))
		return WEIR_UNLIKELY(bytes >= least);
	if (least == UINT32_MAX)
		return false;
	struct iovec iov[URING_ZERO_SLICES];
	(void)weiri_socket_gather(conn, iov, URING_ZERO_SLICES, &bytes);
	return bytes >= least;
}

bool
weiri_uring_conn_send(struct weir_conn *conn)
{
	struct weir_loop *loop = conn->loop;
	struct uring *uring = weiri_uring_of(loop);
	struct uring_batch *batch = &uring->batch;
	bool zero;

	if (WEIR_UNLIKELY(conn->ops == NULL))
		return true;
	zero = send_is_large(conn, uring->zero_bytes) &&
	       weiri_uring_zero_suits(conn);
	if (WEIR_UNLIKELY(conn->state == WEIRI_CONN_CLOSING))
		return false; /* by a report before the question above */
	if (WEIR_UNLIKELY(!send_joins(conn, uring, zero) ||
			  !send_fill(conn, batch, zero))) {
		uring_send_plain(conn);
		uring_send_over(conn);
		return false;
	}
	weiri_lend_sends(conn, batch->send[batch->count].slices, false);
	batch->send[batch->count++].conn = conn;
	if (WEIR_UNLIKELY(batch->count == URING_BATCH ||
			  batch->messages == URING_MESSAGES ||
			  batch->vectors + SOCKET_IOVECS > URING_VECTORS))
		weiri_uring_sends_end(loop);
	return false;
}

/* ---- the outcome ------------------------------------------------------- */

/* Notes what the batch's completions say; without one a send was whole. */
static void
send_read_failures(struct uring *uring)
{
	struct uring_batch *batch = &uring->batch;
	uint32_t unseen = weiri_ring_unseen(&uring->ring);

	for (uint32_t i = batch->unseen; i < unseen; i++) {
		const struct io_uring_cqe *cqe =
		    weiri_ring_completion(&uring->ring, i);
		uint64_t index = cqe->user_data >> URING_TAG_BITS;
		enum uring_tag tag = cqe->user_data & URING_TAGS;
		if (WEIR_UNLIKELY(tag == URING_TAG_ZERO) &&
		    !(cqe->flags & IORING_CQE_F_NOTIF))
			index = weiri_uring_zero_result(
			    (void *)(uintptr_t)(cqe->user_data - tag),
			    cqe->flags);
		else if (tag != URING_TAG_SEND)
			continue;
		WEIR_ASSERT(index < batch->count);
		batch->send[index].result = cqe->res;
	}
}

static void
send_report(const struct uring_sending *send)
{
	struct weir_conn *conn = send->conn;
	int64_t sent = send->result;
	uint64_t awaited = 0;

	if (WEIR_UNLIKELY(send->zero != NULL))
		sent = weiri_uring_zero_sent(send->zero, sent, &awaited);
	else if (WEIR_LIKELY(sent == INT32_MAX))
		sent = (int64_t)send->bytes;
	if (WEIR_UNLIKELY(weiri_conn_awaits(conn)) && send->zero == NULL &&
	    sent > 0)
		weiri_uring_zero_passed(conn, (uint64_t)sent);
	if (WEIR_UNLIKELY(conn->state == WEIRI_CONN_CLOSING))
		; /* aborted by a handler of another one */
	else if (WEIR_LIKELY(sent >= 0))
		weiri_conn_sent(conn, (size_t)sent);
	else if (sent != -EAGAIN && sent != -EINTR)
		weiri_conn_failed(conn, (int)sent);
	if (WEIR_UNLIKELY(awaited > 0))
		weiri_conn_await(conn, awaited);
	if (WEIR_UNLIKELY(conn->state == WEIRI_CONN_CLOSING))
		return;
	if (WEIR_LIKELY(conn->ops == NULL))
		;
	else if (sent == (int64_t)send->bytes || sent == -EINTR)
		weiri_conn_queue(conn); /* more than fits one, or new */
	else
		uring_send_wait(conn);
	uring_send_over(conn);
}

void
weiri_uring_sends_end(struct weir_loop *loop)
{
	struct uring *uring = weiri_uring_of(loop);
	struct uring_batch *batch = &uring->batch;
	uint32_t count = batch->count;
	uint32_t left;

	if (WEIR_LIKELY(count == 0))
		return;
	for (uint32_t i = 0; i < count; i++)
		batch->send[i].result = INT32_MAX;
	left = weiri_ring_submit(&uring->ring);
	left = left < count ? left : count;
	weiri_ring_withdraw(&uring->ring, left);
	if (WEIR_UNLIKELY(weiri_ring_unseen(&uring->ring) != batch->unseen))
		send_read_failures(uring);
	for (uint32_t i = 0; i < count; i++)
		weiri_lend_sends(
		    batch->send[i].conn, batch->send[i].slices, true);
	batch->count = batch->messages = batch->vectors = 0;
	for (uint32_t i = 0; i < count; i++) {
		struct uring_sending *send = &batch->send[i];
		if (WEIR_LIKELY(i + left < count)) {
			send_report(send);
			continue;
		}
		if (send->zero != NULL)
			weiri_uring_zero_undo(send->zero);
		if (send->conn->state != WEIRI_CONN_CLOSING) {
			uring_send_plain(send->conn);
			uring_send_over(send->conn);
		}
	}
}
