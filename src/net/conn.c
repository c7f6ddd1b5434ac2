/* SPDX-License-Identifier: MIT */
/*
 * conn.c - a connection: bytes in, bytes handed to the program, bytes out.
 *
 *      room            received               weir_conn_send    settle
 *   hint bytes ---> slice to on_data ---> ops, charged ---> sent, released
 *                        |       ^
 *                        +-need--+ carry
 *
 * Nothing here waits and nothing here knows a system call.  Sends are only
 * queued; the loop sends for all connections of a pass together, which keeps
 * receiving code and sending code, ours and the kernel's, in the caches.
 *
 * Memory between two passes is of two kinds: a carry (an unfinished packet
 * handed back by weir_conn_need()) and unsent ops.  A connection with either is
 * on two lists, so that the stall timer looks only at their heads; unless it
 * waits for a buffer: then it is the loop that keeps it from progress, and the
 * wait does not count against it.
 *
 *   loop->holding   in the order of the last progress, which is any byte of
 *                   what is held: stall_ms (patience.c)
 *   loop->held      in the order in which periods of hold_ms began.  The first
 *                   begins when a connection comes to hold memory, and only
 *                   holding none ends the last: neither a byte now and then nor
 *                   a packet completed by the start of the next one does.
 *
 * Invariants:
 *
 *   I1  need > 0 if and only if carry is valid, and carry.bytes < need.
 *   I2  charge is the sum of buffer->bytes over the slices in ops, and over
 *       those sent that the system still reads.
 *   I3  At the end of a pass, HOLDING means HELD, not STARVED, and need > 0
 *       or ops != NULL or such sends; and HELD means HOLDING, or SENDING more
 *       than one flush takes.
 *   I4  PAUSED or STARVED: nothing is handed on.  With unsent bytes nothing is
 *       received into more than the quota leaves, and nothing at all where that
 *       is less than receive_bytes_min.  So for a handler that sends no more
 *       than it was given, charge <= send_quota_bytes or one receive, whichever
 *       is more; over io_uring also what had come when the first send did not
 *       go out whole (uring_conn.c).
 *
 * How a connection ends is in close.c, with the invariants of that.
 */
#include "net/backend.h"

#include "base/bits.h"
#include "net/channel.h"
#include "net/payer.h"
#include "net/view.h"

#include <errno.h>
#include <string.h>

/* ---- holding memory between passes ----------------------------------- */

void
weiri_conn_hold_anew(struct weir_conn *conn)
{
	conn->flags |= WEIRI_CONN_HELD;
	conn->held_ms = weiri_loop_now_ms(conn->loop);
	conn->held_moved = 0;
	weiri_list_remove(&conn->held);
	weiri_list_append(&conn->loop->held, &conn->held);
}

void
weiri_conn_unhold(struct weir_conn *conn)
{
	conn->flags &= (uint8_t) ~(WEIRI_CONN_HOLDING | WEIRI_CONN_HELD);
	weiri_list_remove(&conn->holding);
	weiri_list_remove(&conn->held);
}

/* The last of what it held is gone, but for what the system still reads. */
static void
conn_let_go(struct weir_conn *conn)
{
	if (WEIR_UNLIKELY(weiri_conn_awaits(conn))) {
		weiri_conn_hold(conn);
	} else if (conn->flags & WEIRI_CONN_HELD) {
		weiri_conn_unhold(conn);
		conn->received_ns = conn->loop->now_ns; /* idle from now on */
	}
}

void
weiri_conn_hold(struct weir_conn *conn)
{
	struct weir_loop *loop = conn->loop;

	if (conn->flags & (WEIRI_CONN_HOLDING | WEIRI_CONN_STARVED) ||
	    conn->state >= WEIRI_CONN_LINGERING)
		return;
	conn->flags |= WEIRI_CONN_HOLDING;
	conn->progress_ms = weiri_loop_now_ms(loop);
	weiri_list_append(&loop->holding, &conn->holding);
	if (!(conn->flags & WEIRI_CONN_HELD))
		weiri_conn_hold_anew(conn);
	weiri_loop_watch_memory(loop);
}

/* @bytes of what is held moved. */
static void
conn_progress(struct weir_conn *conn, size_t bytes)
{
	size_t most = UINT32_MAX - conn->held_moved;

	conn->held_moved += (uint32_t)weiri_min(bytes, most);
	if (conn->flags & WEIRI_CONN_HOLDING) {
		conn->flags &= (uint8_t)~WEIRI_CONN_HOLDING;
		weiri_list_remove(&conn->holding);
		conn->loop->moved_ns = conn->loop->now_ns;
	}
}

void
weiri_conn_moved(struct weir_conn *conn, uint64_t bytes)
{
	conn_progress(conn, bytes);
	weiri_conn_hold(conn);
}

/* ---- waiting for a buffer -------------------------------------------- */

void
weiri_conn_pause(struct weir_conn *conn)
{
	conn->flags |= WEIRI_CONN_PAUSED;
	conn->loop->backend->conn_receive(conn, false);
}

void
weiri_conn_go_on(struct weir_conn *conn)
{
	struct weir_loop *loop = conn->loop;

	if ((conn->flags & WEIRI_CONN_PAUSED) == 0 ||
	    conn->charge > loop->net->config.send_quota_bytes / 2 ||
	    weiri_payer_waits(conn))
		return;
	conn->flags &= (uint8_t)~WEIRI_CONN_PAUSED;
	loop->backend->conn_receive(conn, true);
}

void
weiri_conn_starve(struct weir_conn *conn)
{
	struct weir_loop *loop = conn->loop;

	if ((conn->flags & WEIRI_CONN_CHARGED) &&
	    weiri_payer_stops(conn, weiri_payer_wants(conn)))
		return; /* the queue has nothing for it */
	WEIRI_COUNT(loop, starved, 1);
	if (conn->ops != NULL) {
		/* Its own unsent bytes go first; settle starts it again. */
		weiri_conn_hold(conn);
		weiri_conn_pause(conn);
		return;
	}
	conn_progress(conn, 0);
	weiri_conn_unhold(conn);
	if (weiri_list_empty(&loop->starved))
		loop->moved_ns = loop->now_ns;
	conn->flags |= WEIRI_CONN_STARVED;
	conn->turn = weiri_turn_take(loop->net);
	weiri_list_append(&loop->starved, &conn->waiting);
	weiri_turn_note(loop);
	__atomic_fetch_add(&loop->net->starving, 1, __ATOMIC_RELAXED);
	WEIRI_COUNT(loop, starved_now, 1);
	weiri_loop_watch_memory(loop);
}

void
weiri_conn_unstarve(struct weir_conn *conn)
{
	struct weir_loop *loop = conn->loop;

	if (!(conn->flags & WEIRI_CONN_STARVED))
		return;
	conn->flags &= (uint8_t)~WEIRI_CONN_STARVED;
	conn->packet_ms = weiri_loop_now_ms(loop); /* it did not dawdle */
	weiri_list_remove(&conn->waiting);
	weiri_turn_note(loop);
	__atomic_fetch_sub(&loop->net->starving, 1, __ATOMIC_RELAXED);
	WEIRI_COUNT(loop, starved_now, -1);
	/* What it is out of while it starves. */
	if (weiri_conn_awaits(conn))
		weiri_conn_hold(conn);
}

/* ---- bytes in -------------------------------------------------------- */

/* A carry rests in no more than four times what it needs. */
static void
conn_put_away(struct weir_conn *conn)
{
	struct weir_slice *carry = &conn->carry;
	uint32_t quarter;

	if (WEIR_UNLIKELY(conn->loop->net->views != NULL))
		weiri_view_settle(conn->loop, carry);
	quarter = carry->buffer->bytes / 4;

	/* Without memory for the copy it stays where it is. */
	if (conn->need <= quarter && carry->bytes > 0)
		(void)weiri_conn_move_carry(
		    conn, weiri_conn_acquire(conn, carry->bytes, false));
	weiri_conn_hold(conn);
}

static void
conn_adapt_hint(struct weir_conn *conn, uint32_t room, uint32_t bytes)
{
	const struct weir_net_config *config = &conn->loop->net->config;

	if (bytes == room && room >= conn->hint)
		conn->hint =
		    conn->hint < config->receive_bytes_max / WEIRI_HINT_STEP
			? conn->hint * WEIRI_HINT_STEP
			: config->receive_bytes_max;
	else if (bytes <= conn->hint / WEIRI_HINT_STEP &&
		 conn->hint > config->receive_bytes_min)
		conn->hint =
		    conn->hint / WEIRI_HINT_STEP < config->receive_bytes_min
			? config->receive_bytes_min
			: conn->hint / WEIRI_HINT_STEP;
}

static void
conn_carry_received(struct weir_conn *conn, uint32_t bytes)
{
	conn->carry.bytes += bytes;
	conn_progress(conn, bytes);
	if (conn->carry.bytes < conn->need) {
		conn_put_away(conn);
		return;
	}
	struct weir_slice slice = conn->carry;
	conn->need = 0;
	conn->handlers->on_data(conn, slice);
	if (conn->need > 0)
		return;
	conn->carry.buffer = NULL;
	if (conn->ops == NULL)
		conn_let_go(conn);
	else if (!(conn->flags & WEIRI_CONN_SENDING))
		weiri_conn_hold(conn); /* sends from before, still waiting */
}

static void
conn_received_none(
    struct weir_conn *conn, struct weir_buffer *buffer, int error)
{
	if (conn->need == 0)
		weir_buffer_release(buffer);
	else
		weiri_conn_hold(conn); /* it may have waited, and so not been */
	if (error == 0) {
		conn->flags |= WEIRI_CONN_ENDED;
		weir_conn_close(conn, WEIR_CLOSE_PEER);
	} else if (error != -EAGAIN && error != -EINTR) {
		weiri_conn_failed(conn, error);
	}
}

void
weiri_conn_received(struct weir_conn *conn, struct weir_buffer *buffer,
    uint32_t offset, uint32_t room, ssize_t result)
{
	struct weir_loop *loop = conn->loop;

	if (WEIR_UNLIKELY(result <= 0)) {
		conn_received_none(conn, buffer, (int)result);
		return;
	}
	uint32_t bytes = (uint32_t)result;
	WEIR_ASSERT(bytes <= room);
	WEIRI_COUNT(loop, receives, 1);
	WEIRI_COUNT(loop, bytes_received, bytes);
	if (loop->net->idle_ns != 0)
		conn->received_ns = loop->now_ns;
	if (bytes == room || conn->hint > loop->net->config.receive_bytes_min)
		conn_adapt_hint(conn, room, bytes);
	if (WEIR_UNLIKELY(conn->need > 0)) {
		conn_carry_received(conn, bytes);
		return;
	}
	struct weir_slice slice = {buffer, offset, bytes};
	conn->handlers->on_data(conn, slice);
}

int
weir_conn_need(struct weir_conn *conn, struct weir_slice slice, uint32_t bytes)
{
	int error = 0;

	if (conn->state != WEIRI_CONN_OPEN)
		error = -ESHUTDOWN;
	else if (bytes <= slice.bytes || bytes > WEIR_NET_BUFFER_BYTES_MAX ||
		 conn->need > 0)
		error = -EINVAL;
	if (error != 0) {
		weir_buffer_release(slice.buffer);
		return error;
	}
	/* What begins where the last one began is the same packet. */
	if (conn->carry.buffer != slice.buffer ||
	    conn->carry.offset != slice.offset)
		conn->packet_ms = weiri_loop_now_ms(conn->loop);
	conn->carry = slice;
	conn->need = bytes;
	conn_put_away(conn);
	return 0;
}

/* ---- bytes out ------------------------------------------------------- */

void
weiri_conn_queue(struct weir_conn *conn)
{
	struct weir_loop *loop = conn->loop;

	if (conn->flags & WEIRI_CONN_SENDING)
		return;
	conn->flags |= WEIRI_CONN_SENDING;
	conn->next_sending = loop->sending;
	loop->sending = conn;
}

static void
conn_release_slices(const struct weir_slice *slices, size_t count)
{
	for (size_t i = 0; i < count; i++)
		weir_buffer_release(slices[i].buffer);
}

static struct weiri_op *
conn_append_op(struct weir_conn *conn)
{
	struct weir_loop *loop = conn->loop;
	struct weiri_op *op =
	    weiri_net_object(loop->net, WEIR_NET_OPERATION, sizeof(*op));

	if (WEIR_UNLIKELY(op == NULL))
		return NULL;
	op->next = NULL;
	op->count = op->done = 0;
	op->reports = op->exact = false;
	if (conn->ops == NULL)
		conn->ops = op;
	else
		conn->ops_last->next = op;
	conn->ops_last = op;
	WEIRI_COUNT(loop, operations, 1);
	return op;
}

int
weir_conn_send(struct weir_conn *conn, const struct weir_slice *slices,
    size_t count, void *context)
{
	struct weiri_op *op = NULL;

	if (WEIR_UNLIKELY(conn->state != WEIRI_CONN_OPEN ||
			  count - 1 >= WEIR_SEND_SLICES_MAX)) {
		conn_release_slices(slices, count);
		return conn->state != WEIRI_CONN_OPEN ? -ESHUTDOWN : -EINVAL;
	}
	for (size_t i = 0; i < count; i++) {
		if (op == NULL || op->count == WEIRI_OP_SLICES)
			op = conn_append_op(conn);
		if (WEIR_UNLIKELY(op == NULL)) {
			conn_release_slices(slices + i, count - i);
			weir_conn_abort(conn, WEIR_CLOSE_NO_MEMORY);
			return -ENOMEM;
		}
		op->slice[op->count++] = slices[i];
		conn->charge += slices[i].buffer->bytes;
	}
	op->reports = true;
	op->context = context;
	weiri_conn_queue(conn);
	return 0;
}

bool
weiri_conn_append(struct weir_conn *conn, struct weir_slice slice)
{
	struct weiri_op *op =
	    conn->state == WEIRI_CONN_OPEN ? conn_append_op(conn) : NULL;

	if (WEIR_UNLIKELY(op == NULL)) {
		weir_buffer_release(slice.buffer);
		weir_conn_abort(conn, WEIR_CLOSE_NO_MEMORY);
		return false;
	}
	op->slice[op->count++] = slice;
	conn->charge += slice.buffer->bytes;
	weiri_conn_queue(conn);
	return true;
}

static void
conn_end_op(struct weir_conn *conn, int status)
{
	struct weir_loop *loop = conn->loop;
	struct weiri_op *op = conn->ops;
	void *context = op->context;
	bool reports = op->reports;

	conn->ops = op->next;
	weiri_net_object_free(loop->net, WEIR_NET_OPERATION, op);
	WEIRI_COUNT(loop, operations, -1);
	if (reports && conn->handlers->on_sent != NULL)
		conn->handlers->on_sent(conn, context, status);
}

void
weiri_conn_sent(struct weir_conn *conn, size_t bytes)
{
	WEIRI_COUNT(conn->loop, sends, 1);
	WEIRI_COUNT(conn->loop, bytes_sent, bytes);
	if (WEIR_UNLIKELY(conn->flags & WEIRI_CONN_HOLDING)) {
		/* What the system goes on reading has not moved yet. */
		conn_progress(conn, weiri_conn_awaits(conn) ? 0 : bytes);
		if (conn->need > 0)
			weiri_conn_hold(conn);
	}
	/* on_sent may abort; the reaper then ends what is left. */
	while (conn->ops != NULL && conn->state != WEIRI_CONN_CLOSING) {
		struct weiri_op *op = conn->ops;
		struct weir_slice *slice = &op->slice[op->done];

		if (bytes < slice->bytes) {
			slice->offset += (uint32_t)bytes;
			slice->bytes -= (uint32_t)bytes;
			break;
		}
		bytes -= slice->bytes;
		conn->charge -= slice->buffer->bytes;
		weir_buffer_release(slice->buffer);
		if (++op->done == op->count)
			conn_end_op(conn, 0);
	}
}

void
weiri_conn_cancel(struct weir_conn *conn)
{
	while (conn->ops != NULL) {
		struct weiri_op *op = conn->ops;
		conn_release_slices(
		    op->slice + op->done, (size_t)(op->count - op->done));
		conn_end_op(conn, -ECANCELED);
	}
}

/* Whatever a receive brings may all stay unsent. */
static bool
conn_is_over_quota(const struct weir_conn *conn)
{
	const struct weir_net_config *config = &conn->loop->net->config;

	return conn->charge + config->receive_bytes_min >
	       config->send_quota_bytes;
}

/* A tail stays behind: the peer is slower than the handler. */
static void
conn_settle_tail(struct weir_conn *conn)
{
	struct weir_loop *loop = conn->loop;

	if (WEIR_UNLIKELY(loop->net->views != NULL))
		weiri_tail_unshare(conn);
	if (weiri_net_is_short(loop))
		weiri_tail_detach(conn);
	weiri_conn_hold(conn);
	if (conn->flags & WEIRI_CONN_PAUSED)
		return;
	if (conn->state == WEIRI_CONN_FLUSHING) {
		weiri_conn_pause(conn);
	} else if (conn_is_over_quota(conn)) {
		WEIRI_COUNT(loop, quota_pauses, 1);
		weiri_conn_pause(conn);
	} else if (conn->flags & WEIRI_CONN_CHARGED) {
		(void)weiri_payer_stops(conn, 0);
	}
}

void
weiri_conn_await(struct weir_conn *conn, uint64_t bytes)
{
	conn->charge += bytes;
	if (conn->state >= WEIRI_CONN_LINGERING)
		return;
	weiri_conn_hold(conn);
	if (conn->state == WEIRI_CONN_OPEN &&
	    !(conn->flags & WEIRI_CONN_PAUSED) && conn_is_over_quota(conn)) {
		WEIRI_COUNT(conn->loop, quota_pauses, 1);
		weiri_conn_pause(conn);
	}
}

void
weiri_conn_awaited(struct weir_conn *conn, uint64_t bytes, uint64_t moved)
{
	WEIR_ASSERT(weiri_conn_awaits(conn) && conn->charge >= bytes);
	conn->awaited--;
	conn->charge -= bytes;
	if (conn->state >= WEIRI_CONN_LINGERING)
		return;
	if (moved > 0)
		conn_progress(conn, moved);
	if (conn->need > 0)
		weiri_conn_hold(conn);
	weiri_conn_settle(conn);
}

void
weiri_conn_settle(struct weir_conn *conn)
{
	if (WEIR_LIKELY(conn->ops == NULL && conn->state == WEIRI_CONN_OPEN &&
			!(conn->flags & (WEIRI_CONN_PAUSED | WEIRI_CONN_HELD |
					    WEIRI_CONN_STARVED))))
		return;
	if (conn->state >= WEIRI_CONN_LINGERING)
		return;
	if (conn->ops != NULL)
		conn_settle_tail(conn);
	else if (conn->need == 0)
		conn_let_go(conn);
	if (conn->state == WEIRI_CONN_OPEN) {
		weiri_conn_go_on(conn);
		if (conn->channel != 0 && conn->ops == NULL)
			weiri_channel_ready(conn);
	} else if (conn->ops == NULL) {
		weiri_conn_linger(conn, (enum weir_close_reason)conn->reason);
	}
}
