/* SPDX-License-Identifier: MIT */
/*
 * patience.c - how long a connection may keep what it has.
 *
 *   stall_ms    holds memory, and not a byte of that moves
 *   hold_ms     holds memory for so long without a break, and moves fewer than
 *               hold_bytes in it; only while others wait for memory
 *   packet_ms   from the first byte of a packet to its last (weir_conn_need())
 *   idle_ms     receives nothing
 *
 * While somebody waits for memory, PATIENCE_STALL_PRESSURE_NS takes the place of
 * stall_ms, and those who hold some give way one by one: first who made no
 * progress for that time, then who broke the second rule, which is for clients
 * that drip a byte now and then to keep what they have.  The third is for those
 * that do the same when nobody waits.
 */
#include "net/backend.h"

#include "base/bits.h"
#include "net/payer.h"

/* Between two looks at who holds memory without progress. */
#define PATIENCE_STALL_TICK_NS (250 * WEIRI_MS)

/* How long one may do so while others wait for memory. */
#define PATIENCE_STALL_PRESSURE_NS (500 * WEIRI_MS)

/* Between two connections that have to give way. */
#define PATIENCE_SHED_NS (5 * WEIRI_MS)

/* ---- who holds memory ------------------------------------------------- */

uint64_t
weiri_patience_ns(const struct weir_loop *loop)
{
	return weiri_net_is_short(loop)
		   ? weiri_min(loop->net->stall_ns, PATIENCE_STALL_PRESSURE_NS)
		   : loop->net->stall_ns;
}

/* Of what was sent and is on its way: bytes that got there since the last look,
 * which are counted; -1: that cannot be said yet. */
static int64_t
patience_look(struct weir_conn *conn)
{
	const struct weiri_backend *backend = conn->loop->backend;
	int64_t moved;

	if (WEIR_LIKELY(!weiri_conn_awaits(conn)) ||
	    backend->conn_moved == NULL)
		return 0;
	moved = backend->conn_moved(conn);
	if (moved != 0)
		weiri_conn_moved(conn, moved > 0 ? (uint64_t)moved : 0);
	return moved;
}

static bool
patience_moves(struct weir_conn *conn)
{
	return patience_look(conn) != 0;
}

/* The longest in the queue for buffers that itself holds some. */
static struct weir_conn *
patience_starved_holder(struct weir_loop *loop)
{
	WEIRI_LIST_FOR(node, &loop->starved)
	{
		struct weir_conn *conn =
		    WEIRI_CONTAINER_OF(node, struct weir_conn, waiting);
		if (conn->need > 0 || conn->ops != NULL)
			return conn;
	}
	return NULL;
}

/* Who has held memory longest without moving enough bytes in a period.  The
 * others found on the way have earned another. */
static struct weir_conn *
patience_slow_holder(struct weir_loop *loop)
{
	const struct weir_net *net = loop->net;

	while (!weiri_list_empty(&loop->held)) {
		struct weir_conn *conn =
		    WEIRI_CONTAINER_OF(loop->held.next, struct weir_conn, held);
		if (weiri_loop_since_ns(loop, conn->held_ms) < net->hold_ns)
			return NULL;
		/* Who cannot be judged yet can after another one. */
		if (patience_look(conn) >= 0 &&
		    conn->held_moved < net->config.hold_bytes)
			return conn;
		weiri_conn_hold_anew(conn);
	}
	return NULL;
}

/*
 * Who made no progress for a short time although nothing kept it from that; or,
 * when all who hold memory wait for more and nobody got on for that time, the
 * first of those.
 */
static struct weir_conn *
patience_stalled(struct weir_loop *loop)
{
	if (!weiri_list_empty(&loop->holding)) {
		struct weir_conn *oldest = WEIRI_CONTAINER_OF(
		    loop->holding.next, struct weir_conn, holding);
		bool stalled = weiri_loop_since_ns(loop, oldest->progress_ms) >=
			       PATIENCE_STALL_PRESSURE_NS;
		return stalled && !patience_moves(oldest) ? oldest : NULL;
	}
	if (!weiri_list_empty(&loop->starved) &&
	    loop->now_ns - loop->moved_ns >= PATIENCE_STALL_PRESSURE_NS)
		return patience_starved_holder(loop);
	return NULL;
}

/* Somebody has to give way; false: nobody deserves it. */
static bool
patience_shed(struct weir_loop *loop)
{
	enum weir_close_reason reason = WEIR_CLOSE_STALLED;
	struct weir_conn *victim;

	weiri_loop_flush(loop); /* who just got done holds nothing more */
	victim = patience_stalled(loop);
	if (victim == NULL) {
		victim = patience_slow_holder(loop);
		reason = WEIR_CLOSE_SLOW;
	}
	if (victim != NULL)
		weir_conn_abort(victim, reason);
	return victim != NULL;
}

void
weiri_stall_tick(struct weir_loop *loop, struct weir_timer *timer)
{
	struct weir_net *net = loop->net;
	uint64_t delay_ns = weiri_min(net->stall_ns, PATIENCE_STALL_TICK_NS);

	while (!weiri_list_empty(&loop->holding)) {
		struct weir_conn *conn = WEIRI_CONTAINER_OF(
		    loop->holding.next, struct weir_conn, holding);
		if (weiri_loop_since_ns(loop, conn->progress_ms) <
		    net->stall_ns)
			break;
		if (!patience_moves(conn))
			weir_conn_abort(conn, WEIR_CLOSE_STALLED);
	}
	weiri_tails_rest(loop);
	if (__atomic_load_n(&net->starving, __ATOMIC_RELAXED) > 0) {
		/* One at a time: it may have been enough. */
		if (patience_shed(loop))
			delay_ns = PATIENCE_SHED_NS;
	}
	if (!weiri_list_empty(&loop->holding) ||
	    !weiri_list_empty(&loop->starved))
		weir_timer_start(loop, timer, delay_ns);
}

void
weiri_loop_watch_memory(struct weir_loop *loop)
{
	if (loop->stall_timer.due_ns == 0)
		weir_timer_start(loop, &loop->stall_timer,
		    weiri_min(loop->net->stall_ns, PATIENCE_STALL_TICK_NS));
}

/* ---- who is silent ---------------------------------------------------- */

void
weiri_idle_tick(struct weir_loop *loop, struct weir_timer *timer)
{
	uint64_t idle_ns = loop->net->idle_ns;

	WEIRI_LIST_FOR(node, &loop->conns)
	{
		struct weir_conn *conn =
		    WEIRI_CONTAINER_OF(node, struct weir_conn, member);
		/* Who waits for memory is not asked to send. */
		if (conn->state == WEIRI_CONN_OPEN && conn->ops == NULL &&
		    !(conn->flags & WEIRI_CONN_STARVED) &&
		    !weiri_payer_waits(conn) &&
		    loop->now_ns - conn->received_ns >= idle_ns)
			weir_conn_close(conn, WEIR_CLOSE_IDLE);
	}
	weir_timer_start(loop, timer, idle_ns / 4 + WEIRI_MS);
}

/* Who waits for memory is not on the list, and its time begins anew. */
void
weiri_packet_tick(struct weir_loop *loop, struct weir_timer *timer)
{
	uint64_t packet_ns = loop->net->packet_ns;

	WEIRI_LIST_FOR_SAFE(node, &loop->held)
	{
		struct weir_conn *conn =
		    WEIRI_CONTAINER_OF(node, struct weir_conn, held);
		if (conn->need > 0 && !weiri_payer_waits(conn) &&
		    weiri_loop_since_ns(loop, conn->packet_ms) >= packet_ns)
			weir_conn_abort(conn, WEIR_CLOSE_PACKET);
	}
	weir_timer_start(loop, timer, packet_ns / 4 + WEIRI_MS);
}
