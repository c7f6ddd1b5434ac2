/* SPDX-License-Identifier: MIT */
/*
 * close.c - how a connection ends.
 *
 *   OPEN --close--> FLUSHING --all sent--> LINGERING --peer has it--> CLOSING
 *     |                |                       |                        ^
 *     +--------------- abort, error -----------+------------------------+
 *
 * A close with unread bytes in the socket makes the system send a reset, and
 * throw away what it was still to send, or the peer's what it has not yet read.
 * So a connection that has sent everything ends its stream and lingers: what
 * arrives is discarded until the peer ends its own, or has it all and is quiet,
 * or has had its time (weiri_linger_tick).  A peer that ended first, the usual
 * case, costs none of this.
 *
 * Invariants:
 *
 *   I1  FLUSHING: need == 0, ops != NULL until the next settle, and no handler
 *       but on_sent and on_close is called.
 *   I2  LINGERING: ops == NULL, need == 0, on loop->lingering, and no handler
 *       but on_close is called.
 *   I3  CLOSING is final: on loop->closing, no handler but on_sent (-ECANCELED)
 *       and on_close is called, and the object stays until the loop reaps it,
 *       so events of the same pass may still name it.
 *   I4  From LINGERING on a connection neither holds memory nor waits for it,
 *       but for the carry and the ops of one that CLOSING cut off, which go
 *       when it is reaped.
 */
#include "net/backend.h"

#include "base/bits.h"
#include "net/channel.h"
#include "net/payer.h"

#include <errno.h>

/* Between two looks at who lingers, and how long a peer that has everything
 * must be quiet.  One that still sends had bytes on their way. */
#define CLOSE_LINGER_TICK_NS (50 * WEIRI_MS)
#define CLOSE_LINGER_QUIET_NS (100 * WEIRI_MS)

/* A peer that neither reads nor ends may linger so long, or stall_ms if that is
 * shorter.  The system goes on sending after the close. */
#define CLOSE_LINGER_NS (30000 * WEIRI_MS)

/* ---- the last states ------------------------------------------------- */

static void
close_drop_carry(struct weir_conn *conn)
{
	if (conn->need > 0) {
		weir_buffer_release(conn->carry.buffer);
		conn->carry.buffer = NULL;
		conn->need = 0;
	}
}

/* It waits for no memory any more, for whatever reason it did, and for no
 * messages. */
static void
close_wait_no_more(struct weir_conn *conn)
{
	if (conn->channel != 0)
		weiri_channel_left(conn);
	weiri_conn_unstarve(conn);
	if (conn->flags & WEIRI_CONN_CHARGED)
		weiri_payer_go_free(conn);
}

/* A later reason replaces the one of a close that did not work out. */
static void
close_end(struct weir_conn *conn, enum weir_close_reason reason)
{
	if (conn->state == WEIRI_CONN_CLOSING)
		return;
	conn->reason = (uint32_t)reason & WEIRI_REASON_MASK;
	conn->state = WEIRI_CONN_CLOSING;
	close_wait_no_more(conn);
	weiri_conn_unhold(conn); /* or off the list of those that linger */
	weiri_list_append(&conn->loop->closing, &conn->holding);
}

void
weiri_conn_linger(struct weir_conn *conn, enum weir_close_reason reason)
{
	struct weir_loop *loop = conn->loop;

	WEIR_ASSERT(conn->ops == NULL && conn->need == 0);
	if (conn->flags & WEIRI_CONN_ENDED) {
		close_end(conn, reason);
		return;
	}
	conn->reason = (uint32_t)reason & WEIRI_REASON_MASK;
	conn->state = WEIRI_CONN_LINGERING;
	conn->received_ns = loop->now_ns;
	conn->held_ms = weiri_loop_now_ms(loop);
	close_wait_no_more(conn);
	weiri_conn_unhold(conn);
	weiri_list_append(&loop->lingering, &conn->holding);
	if (!loop->backend->conn_linger(conn))
		close_end(conn, reason);
	else if (loop->linger_timer.due_ns == 0)
		weir_timer_start(
		    loop, &loop->linger_timer, CLOSE_LINGER_TICK_NS);
}

void
weiri_conn_discarded(struct weir_conn *conn)
{
	conn->received_ns = conn->loop->now_ns;
}

void
weiri_conn_linger_over(struct weir_conn *conn)
{
	WEIR_ASSERT(conn->state == WEIRI_CONN_LINGERING);
	close_end(conn, (enum weir_close_reason)conn->reason);
}

/* The program's reason may be no reason at all; it becomes an index. */
static enum weir_close_reason
close_reason(enum weir_close_reason reason)
{
	return (unsigned)reason < WEIR_CLOSE_REASON_COUNT ? reason
							  : WEIR_CLOSE_LOCAL;
}

void
weir_conn_close(struct weir_conn *conn, enum weir_close_reason reason)
{
	if (conn->state != WEIRI_CONN_OPEN)
		return;
	reason = close_reason(reason);
	close_drop_carry(conn);
	if (conn->ops == NULL) {
		weiri_conn_linger(conn, reason);
		return;
	}
	conn->state = WEIRI_CONN_FLUSHING;
	conn->reason = (uint32_t)reason & WEIRI_REASON_MASK;
	close_wait_no_more(conn);
	weiri_conn_queue(conn); /* settle stops receiving if a tail stays */
}

void
weir_conn_abort(struct weir_conn *conn, enum weir_close_reason reason)
{
	if (conn->state == WEIRI_CONN_CLOSING)
		return;
	conn->flags |= WEIRI_CONN_ABORT;
	close_end(conn, close_reason(reason));
}

void
weiri_conn_failed(struct weir_conn *conn, int error)
{
	bool reset = error == -ECONNRESET || error == -EPIPE;

	close_end(conn, reset ? WEIR_CLOSE_RESET : WEIR_CLOSE_ERROR);
}

/* ---- time and end ---------------------------------------------------- */

void
weiri_linger_tick(struct weir_loop *loop, struct weir_timer *timer)
{
	const struct weiri_backend *backend = loop->backend;
	uint64_t limit_ns = weiri_min(loop->net->stall_ns, CLOSE_LINGER_NS);

	WEIRI_LIST_FOR_SAFE(node, &loop->lingering)
	{
		struct weir_conn *conn =
		    WEIRI_CONTAINER_OF(node, struct weir_conn, holding);
		uint64_t quiet_ns = loop->now_ns - conn->received_ns;
		if (weiri_loop_since_ns(loop, conn->held_ms) >= limit_ns ||
		    (quiet_ns >= CLOSE_LINGER_QUIET_NS &&
			backend->conn_delivered(conn)))
			weiri_conn_linger_over(conn);
	}
	if (!weiri_list_empty(&loop->lingering))
		weir_timer_start(loop, timer, CLOSE_LINGER_TICK_NS);
}

void
weiri_conn_stopped(struct weir_conn *conn)
{
	weiri_list_append(&conn->loop->closing, &conn->holding);
}

void
weiri_conn_reap(struct weir_conn *conn)
{
	struct weir_loop *loop = conn->loop;
	struct weir_net *net = loop->net;

	WEIR_ASSERT(conn->state == WEIRI_CONN_CLOSING);
	WEIR_ASSERT(!(conn->flags & WEIRI_CONN_SENDING));
	weiri_list_remove(&conn->holding);
	if (!loop->backend->conn_stop(conn))
		return;
	close_drop_carry(conn);
	weiri_conn_cancel(conn);
	weiri_list_remove(&conn->member);
	weiri_peers_leave(&net->peers, conn->peer);
	__atomic_fetch_sub(&net->connections, 1, __ATOMIC_RELAXED);
	WEIRI_COUNT(loop, connections, -1);
	WEIRI_COUNT(loop, closed[conn->reason], 1);
	if (conn->handlers->on_close != NULL)
		conn->handlers->on_close(
		    conn, (enum weir_close_reason)conn->reason);
	if ((conn->flags & WEIRI_CONN_CHARGED) && !weiri_payer_end(conn))
		return;
	weiri_net_object_free(net, WEIR_NET_CONNECTION, conn);
}
