/* SPDX-License-Identifier: MIT */
/*
 * net_sim.h - a back end of the engine over the peers of net_model.h.
 *
 * How much of a call goes through, which call fails with EAGAIN, EINTR, EMFILE,
 * ENFILE, ENOBUFS or ENOMEM and how late a connection is let go of: all that is
 * drawn from the seed.
 */
#ifndef NET_SIM_H
#define NET_SIM_H

#include "net_model.h"

#define SIM_FD 0x40000000 /* numbers no system gives */

/* What the system knows of a peer, by its index. */
struct sim_socket {
	bool wanted;
	bool stopping, let_go; /* asked for the end; answered */
};

static struct {
	struct sim_socket socket[SIM_PEERS];
	struct sim_peer *batch[SIM_PEERS];
	size_t batched;
	bool listening;
} sim_system;

static struct sim_socket *
sim_socket_of(const struct sim_peer *peer)
{
	return &sim_system.socket[peer - sim.peer];
}

static struct sim_peer *
sim_system_peer(const struct weir_conn *conn)
{
	return &sim.peer[conn->fd - SIM_FD];
}

/* ---- the system: bytes ---------------------------------------------------- */

static void
sim_receive(struct weir_conn *conn, struct weir_buffer *buffer, uint32_t offset,
    uint32_t room)
{
	struct sim_peer *peer = sim_peer_of(conn);
	ssize_t result = -EAGAIN;

	if (sim_chance(30))
		result = -EINTR;
	else if (peer->reset)
		result = -ECONNRESET;
	else if (peer->written > 0)
		result =
		    1 + sim_below(room < peer->written ? room : peer->written);
	else if (peer->half_closed)
		result = 0;
	if (result > 0) {
		sim_next(peer->id, &peer->sends, buffer->data + offset,
		    (uint32_t)result);
		peer->written -= (uint32_t)result;
	}
	weiri_conn_received(conn, buffer, offset, room, result);
}

static void
sim_readable(struct weir_conn *conn)
{
	struct weir_loop *loop = conn->loop;
	struct weir_buffer *buffer = NULL;
	uint32_t offset, room;

	if (conn->flags & WEIRI_CONN_STARVED)
		return;
	if (weiri_list_empty(&loop->starved) || weiri_conn_has_room(conn)) {
		buffer = weiri_conn_room(conn, &offset, &room);
		if (buffer == NULL) {
			weiri_loop_flush(loop);
			if (conn->state != WEIRI_CONN_OPEN)
				return;
			buffer = weiri_conn_room(conn, &offset, &room);
		}
	}
	if (buffer == NULL)
		weiri_conn_starve(conn);
	else
		sim_receive(conn, buffer, offset, room);
}

static bool
sim_conn_feed(struct weir_conn *conn)
{
	uint32_t offset, room;
	struct weir_buffer *buffer = weiri_conn_room(conn, &offset, &room);

	if (buffer == NULL)
		return false;
	weiri_conn_unstarve(conn);
	sim_receive(conn, buffer, offset, room);
	return true;
}

static void
sim_conn_receive(struct weir_conn *conn, bool on)
{
	sim_socket_of(sim_peer_of(conn))->wanted = on;
}

/* As much as the peer's window takes, and at times less. */
static void
sim_send_now(struct sim_peer *peer)
{
	struct weir_conn *conn = peer->conn;
	size_t taken = 0;
	uint32_t most = peer->window;

	if (peer->reset && sim_chance(500)) {
		weiri_conn_failed(conn, sim_chance(500) ? -EPIPE : -ECONNRESET);
		return;
	}
	if (sim_chance(100) && most > 0)
		most = sim_below(most);
	if (sim_chance(20))
		most = 0;
	for (struct weiri_op *op = conn->ops; op != NULL; op = op->next)
		for (size_t i = op->done; i < op->count; i++) {
			const struct weir_slice *slice = &op->slice[i];
			uint32_t left = most - (uint32_t)taken;
			uint32_t bytes =
			    slice->bytes < left ? slice->bytes : left;
			if (!peer->reset)
				sim_expect(peer,
				    slice->buffer->data + slice->offset, bytes);
			taken += bytes;
			if (bytes < slice->bytes)
				goto full;
		}
full:
	peer->window -= (uint32_t)taken;
	weiri_conn_sent(conn, taken);
}

static bool
sim_conn_send(struct weir_conn *conn)
{
	struct sim_peer *peer = sim_peer_of(conn);

	if (conn->ops == NULL)
		return true;
	if (sim_chance(500) && sim_system.batched < SIM_PEERS) {
		sim_system.batch[sim_system.batched++] = peer;
		return false;
	}
	sim_send_now(peer);
	return true;
}

static void
sim_sends_end(struct weir_loop *loop)
{
	size_t count = sim_system.batched;

	(void)loop;
	sim_system.batched = 0;
	for (size_t i = 0; i < count; i++) {
		struct weir_conn *conn = sim_system.batch[i]->conn;
		if (conn == NULL || conn->state == WEIRI_CONN_CLOSING)
			continue;
		sim_send_now(sim_system.batch[i]);
		weiri_conn_settle(conn);
	}
}

static bool
sim_conn_linger(struct weir_conn *conn)
{
	struct sim_peer *peer = sim_peer_of(conn);

	CHECK_NULL(conn->ops);
	peer->ended = true;
	sim_socket_of(peer)->wanted = true;
	return !peer->reset;
}

static bool
sim_conn_delivered(struct weir_conn *conn)
{
	(void)conn;
	return sim_chance(500);
}

/* ---- the system: coming and going ------------------------------------------ */

static int
sim_conn_start(struct weir_conn *conn)
{
	sim_socket_of(&sim.peer[conn->fd - SIM_FD])->wanted = true;
	return sim_chance(5) ? -ENOMEM : 0;
}

/* Like a system that holds something: at times it lets go later. */
static bool
sim_conn_stop(struct weir_conn *conn)
{
	struct sim_socket *socket = sim_socket_of(sim_peer_of(conn));

	CHECK_EQ(conn->state, WEIRI_CONN_CLOSING);
	socket->wanted = false;
	CHECK(!socket->stopping || socket->let_go);
	if (socket->let_go || sim_chance(600))
		return true;
	socket->stopping = true;
	return false;
}

static int
sim_listener_start(struct weir_listener *listener)
{
	(void)listener;
	sim_system.listening = !sim_chance(200);
	return sim_system.listening ? 0 : -ENOMEM;
}

static void
sim_listener_stop(struct weir_listener *listener)
{
	(void)listener;
	sim_system.listening = false;
}

static int
sim_loop_start(struct weir_loop *loop)
{
	(void)loop;
	return 0;
}

static void
sim_loop_nothing(struct weir_loop *loop)
{
	(void)loop;
}

static bool
sim_quiet(struct weir_loop *loop)
{
	(void)loop;
	return sim_chance(500);
}

static void
sim_connect(struct sim_peer *peer)
{
	static const int errors[] = {EMFILE, ENFILE, ENOBUFS, ENOMEM,
	    ECONNABORTED, EINTR, EAGAIN, EPROTO};

	if (!sim_system.listening || sim.loop->stopping)
		return;
	if (sim_chance(20)) {
		(void)weiri_listener_failed(
		    sim.listener, -errors[sim_below(8)]);
		return;
	}
	*sim_socket_of(peer) = (struct sim_socket){.wanted = false};
	*peer = (struct sim_peer){
	    .used = true,
	    .id = sim.peers++,
	    .window = sim_below(100000),
	};
	sim.taken++;
	weiri_listener_accepted(sim.listener, SIM_FD + (int)(peer - sim.peer));
	peer->used = peer->conn != NULL; /* or it was refused */
}

/* ---- steps ------------------------------------------------------------------ */

/* What the system tells the loop of a connection. */
static void
sim_peer_event(struct sim_peer *peer)
{
	struct sim_socket *socket = sim_socket_of(peer);
	struct weir_conn *conn = peer->conn;

	if (socket->stopping && !socket->let_go) {
		socket->let_go = true;
		weiri_conn_stopped(conn);
	}
	if (conn->state == WEIRI_CONN_CLOSING)
		return;
	if (conn->ops != NULL && peer->window > 0 && sim_chance(500))
		weiri_conn_queue(conn);
	if (!socket->wanted) {
		if (peer->reset)
			weiri_conn_failed(conn, -ECONNRESET);
		return;
	}
	if (peer->written == 0 && !peer->half_closed && !peer->reset &&
	    !sim_chance(50))
		return; /* nothing to tell but by mistake */
	if (conn->state == WEIRI_CONN_OPEN) {
		sim_readable(conn);
	} else if (conn->state == WEIRI_CONN_LINGERING) {
		if (peer->reset || (peer->half_closed && peer->written == 0))
			weiri_conn_linger_over(conn);
		else
			weiri_conn_discarded(conn);
		peer->written = 0;
	}
}

static void
sim_step(void)
{
	struct sim_peer *peer = &sim.peer[sim_below(SIM_PEERS)];

	sim_memory_step();
	if (!peer->used)
		sim_connect(peer);
	else if (sim_chance(500))
		sim_peer_acts(peer);
	else
		sim_peer_event(peer);
}

static int
sim_wait(struct weir_loop *loop, int64_t timeout_ns)
{
	uint32_t events = sim_below(12);

	sim_check(loop);
	loop->now_ns += sim_sleep_ns(timeout_ns);
	for (uint32_t i = 0; i < events; i++)
		sim_step();
	if (sim.steps >= sim.steps_max && !loop->stopping)
		weir_loop_stop(loop, sim_below(2) * 3000);
	return 0;
}

static const struct weiri_backend sim_backend = {
    .name = "simulated",
    .loop_start = sim_loop_start,
    .loop_finish = sim_loop_nothing,
    .listener_start = sim_listener_start,
    .listener_stop = sim_listener_stop,
    .conn_start = sim_conn_start,
    .conn_stop = sim_conn_stop,
    .conn_receive = sim_conn_receive,
    .conn_feed = sim_conn_feed,
    .conn_send = sim_conn_send,
    .sends_end = sim_sends_end,
    .conn_linger = sim_conn_linger,
    .conn_delivered = sim_conn_delivered,
    .quiet = sim_quiet,
    .wait = sim_wait,
    .wake = sim_loop_nothing,
};

static void
sim_system_begin(struct weir_net_config *config)
{
	memset(&sim_system, 0, sizeof(sim_system));
	config->backend = WEIR_BACKEND_EPOLL;
}

static void
sim_system_ready(void)
{
	sim.net->backend = &sim_backend;
}

static void
sim_system_end(void)
{
	CHECK_EQ(sim_system.batched, 0);
}

#endif /* NET_SIM_H */
