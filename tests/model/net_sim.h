/* SPDX-License-Identifier: MIT */
/*
 * net_sim.h - a back end of the engine over peers that exist in memory only.
 *
 * Who connects, writes, reads, half-closes or resets, how much of a call goes
 * through, which call fails with EAGAIN, EINTR, EMFILE, ENFILE, ENOBUFS or
 * ENOMEM, when memory is short and how late a connection is let go of: all that
 * is drawn from the seed, and so is the time.
 *
 * A peer's stream is a function of its number, so nothing needs to be kept to
 * check that each byte that comes back is the one it is owed.
 */
#ifndef NET_SIM_H
#define NET_SIM_H

#include "net/backend.h"
#include "support/test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SIM_PEERS 48          /* at a time */
#define SIM_FD 0x40000000     /* numbers no system gives */
#define SIM_WRITTEN_MAX 90000 /* by a peer and not received */
#define SIM_HEADER 3u         /* of a packet: what to do with it, length */
#define SIM_HELD 16           /* slices the program keeps for a while */

enum sim_command {
	SIM_ECHO, /* and most of the others */
	SIM_DROP,
	SIM_CLOSE,
	SIM_ABORT,
};

/* A place in a peer's stream. */
struct sim_cursor {
	uint32_t packet;
	uint32_t at;
};

struct sim_peer {
	struct weir_conn *conn; /* NULL: the engine is done with it */
	uint32_t id;            /* what its stream is a function of */
	bool used, half_closed, reset, refused, ended;
	bool wanted;
	bool stopping, let_go; /* asked for the end; answered */
	uint32_t written;      /* and not received */
	uint32_t window;       /* it can still take */
	struct sim_cursor sends, expects;
	uintptr_t next_send, next_report; /* of weir_conn_send() */
};

static struct {
	struct test_rng rng;
	struct weir_net *net;
	struct weir_loop *loop;
	struct weir_listener *listener;
	struct sim_peer peer[SIM_PEERS];
	struct sim_peer *batch[SIM_PEERS];
	size_t batched;
	struct weir_slice held[SIM_HELD];
	uint64_t steps, steps_max;
	uint32_t peers; /* so far */
	uint64_t closes, accepts, owed_whole;
	int64_t memory_out;
	uint32_t memory_fails; /* of 1000 */
	bool listening;
} sim;

static uint32_t
sim_below(uint32_t bound)
{
	return (uint32_t)test_rand_below(&sim.rng, bound);
}

static bool
sim_chance(uint32_t of_1000)
{
	return sim_below(1000) < of_1000;
}

/* ---- streams ------------------------------------------------------------ */

static uint64_t
sim_hash(uint32_t id, uint32_t packet)
{
	uint64_t hash = ((uint64_t)id << 32 | packet) + 1;

	hash *= UINT64_C(0x9e3779b97f4a7c15);
	return hash ^ hash >> 29;
}

static enum sim_command
sim_command_of(uint32_t id, uint32_t packet)
{
	uint64_t kind = sim_hash(id, packet) % 1000;

	return kind < 4    ? SIM_CLOSE
	       : kind < 8  ? SIM_ABORT
	       : kind < 80 ? SIM_DROP
			   : SIM_ECHO;
}

static uint32_t
sim_length_of(uint32_t id, uint32_t packet)
{
	uint64_t hash = sim_hash(id, packet) >> 12;
	uint32_t most = hash % 64 == 0 ? 60000 : hash % 8 == 0 ? 5000 : 300;

	return (uint32_t)(hash >> 8) % most;
}

static unsigned char
sim_next_byte(uint32_t id, struct sim_cursor *cursor)
{
	uint32_t length = sim_length_of(id, cursor->packet);
	uint32_t at = cursor->at++;
	unsigned char byte;

	if (at == 0)
		byte = (unsigned char)sim_command_of(id, cursor->packet);
	else if (at < SIM_HEADER)
		byte = (unsigned char)(length >> (8 * (at - 1)));
	else
		byte = (unsigned char)(sim_hash(id, cursor->packet) + at);
	if (cursor->at == SIM_HEADER + length) {
		cursor->at = 0;
		cursor->packet++;
	}
	return byte;
}

/* Of what comes back: packets that are answered. */
static void
sim_expect(struct sim_peer *peer, const unsigned char *data, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++) {
		while (
		    peer->expects.at == 0 &&
		    sim_command_of(peer->id, peer->expects.packet) != SIM_ECHO)
			peer->expects.packet++;
		unsigned char want = sim_next_byte(peer->id, &peer->expects);
		if (data[i] != want)
			FAIL("step %llu: peer %u: byte %zu of %zu is %u, owed "
			     "is %u",
			    (unsigned long long)sim.steps, peer->id, i, bytes,
			    data[i], want);
	}
}

/* The connection's peer, which knows it by on_accept. */
static struct sim_peer *
sim_peer_of(const struct weir_conn *conn)
{
	struct sim_peer *peer = weir_conn_user(conn);

	CHECK_NOT_NULL(peer);
	CHECK_PTR(peer->conn, conn);
	return peer;
}

/* The test's, at the end of each pass. */
static void sim_check(const struct weir_loop *loop);

/* ---- memory that is short at times ---------------------------------------- */

static void
sim_release(struct weir_buffer *buffer, void *context)
{
	(void)context;
	sim.memory_out--;
	free(buffer);
}

static struct weir_buffer *
sim_buffer(size_t bytes, void *context)
{
	struct weir_buffer *buffer;

	(void)context;
	if (sim_chance(sim.memory_fails))
		return NULL;
	buffer = malloc(sizeof(*buffer) + bytes);
	CHECK_NOT_NULL(buffer);
	sim.memory_out++;
	weir_buffer_init_external(buffer, buffer + 1, bytes, sim_release, NULL);
	return buffer;
}

static void *
sim_object(enum weir_net_object kind, size_t bytes, void *context)
{
	(void)context;
	/* Without an operation a connection ends; that is to be rare. */
	if (sim_chance(kind == WEIR_NET_CONNECTION ? sim.memory_fails
						   : sim.memory_fails / 50))
		return NULL;
	sim.memory_out++;
	return malloc(bytes);
}

static void
sim_object_free(enum weir_net_object kind, void *object, void *context)
{
	(void)kind;
	(void)context;
	sim.memory_out--;
	free(object);
}

static const struct weir_net_memory sim_memory = {
    .buffer_acquire = sim_buffer,
    .object_alloc = sim_object,
    .object_free = sim_object_free,
};

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
	for (ssize_t i = 0; i < result; i++)
		buffer->data[offset + (uint32_t)i] =
		    sim_next_byte(peer->id, &peer->sends);
	if (result > 0)
		peer->written -= (uint32_t)result;
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
	sim_peer_of(conn)->wanted = on;
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
	if (sim_chance(500) && sim.batched < SIM_PEERS) {
		sim.batch[sim.batched++] = peer;
		return false;
	}
	sim_send_now(peer);
	return true;
}

static void
sim_sends_end(struct weir_loop *loop)
{
	size_t count = sim.batched;

	(void)loop;
	sim.batched = 0;
	for (size_t i = 0; i < count; i++) {
		struct weir_conn *conn = sim.batch[i]->conn;
		if (conn == NULL || conn->state == WEIRI_CONN_CLOSING)
			continue;
		sim_send_now(sim.batch[i]);
		weiri_conn_settle(conn);
	}
}

static bool
sim_conn_linger(struct weir_conn *conn)
{
	struct sim_peer *peer = sim_peer_of(conn);

	CHECK_NULL(conn->ops);
	peer->ended = true;
	peer->wanted = true;
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
	struct sim_peer *peer = &sim.peer[conn->fd - SIM_FD];

	peer->wanted = true;
	return sim_chance(5) ? -ENOMEM : 0;
}

/* Like a system that holds something: at times it lets go later. */
static bool
sim_conn_stop(struct weir_conn *conn)
{
	struct sim_peer *peer = sim_peer_of(conn);

	CHECK_EQ(conn->state, WEIRI_CONN_CLOSING);
	peer->wanted = false;
	CHECK(!peer->stopping || peer->let_go);
	if (peer->let_go || sim_chance(600))
		return true;
	peer->stopping = true;
	return false;
}

static int
sim_listener_start(struct weir_listener *listener)
{
	(void)listener;
	sim.listening = !sim_chance(200);
	return sim.listening ? 0 : -ENOMEM;
}

static void
sim_listener_stop(struct weir_listener *listener)
{
	(void)listener;
	sim.listening = false;
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

	if (!sim.listening || sim.loop->stopping)
		return;
	if (sim_chance(20)) {
		(void)weiri_listener_failed(
		    sim.listener, -errors[sim_below(8)]);
		return;
	}
	*peer = (struct sim_peer){
	    .used = true,
	    .id = sim.peers++,
	    .window = sim_below(100000),
	};
	weiri_listener_accepted(sim.listener, SIM_FD + (int)(peer - sim.peer));
	peer->used = peer->conn != NULL; /* or it was refused */
}

/* ---- steps ------------------------------------------------------------------ */

/* What a peer does, if it can. */
static void
sim_peer_acts(struct sim_peer *peer)
{
	uint32_t what = sim_below(1000);

	if (what < 400) {
		if (!peer->half_closed && peer->written < SIM_WRITTEN_MAX)
			peer->written +=
			    sim_below(sim_chance(50) ? SIM_WRITTEN_MAX : 3000);
	} else if (what < 800) {
		/* Some are slow. */
		if (peer->id % 3 != 0 || sim_chance(30))
			peer->window +=
			    sim_below(sim_chance(100) ? 200000 : 4000);
	} else if (what < 803) {
		peer->reset = true;
		peer->written = 0;
	} else if (what < 810 && !peer->half_closed) {
		/* At the end of a packet, so that it is owed all. */
		struct sim_cursor end = peer->sends;
		for (uint32_t i = 0; i < peer->written || end.at != 0; i++) {
			(void)sim_next_byte(peer->id, &end);
			if (i >= peer->written)
				peer->written++;
		}
		peer->half_closed = true;
	}
}

/* What the system tells the loop of a connection. */
static void
sim_peer_event(struct sim_peer *peer)
{
	struct weir_conn *conn = peer->conn;

	if (peer->stopping && !peer->let_go) {
		peer->let_go = true;
		weiri_conn_stopped(conn);
	}
	if (conn->state == WEIRI_CONN_CLOSING)
		return;
	if (conn->ops != NULL && peer->window > 0 && sim_chance(500))
		weiri_conn_queue(conn);
	if (!peer->wanted) {
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
	struct weir_slice *held = &sim.held[sim_below(SIM_HELD)];

	sim.steps++;
	if (sim_chance(1))
		sim.memory_fails = sim_chance(700)   ? 0
				   : sim_chance(500) ? 100
						     : 950;
	if (sim_chance(20))
		weir_slice_release(held);
	if (!peer->used)
		sim_connect(peer);
	else if (sim_chance(500))
		sim_peer_acts(peer);
	else
		sim_peer_event(peer);
}

/* Whole milliseconds, so that a run does not depend on when it began. */
static uint64_t
sim_sleep_ns(int64_t timeout_ns)
{
	uint64_t most_ms = sim_below(4);
	uint64_t timeout_ms = ((uint64_t)timeout_ns + WEIRI_MS - 1) / WEIRI_MS;

	if (sim_chance(1))
		return 700 * WEIRI_MS; /* it was not scheduled */
	return (timeout_ms < most_ms ? timeout_ms : most_ms) * WEIRI_MS;
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

#endif /* NET_SIM_H */
