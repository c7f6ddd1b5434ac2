/* SPDX-License-Identifier: MIT */
/*
 * net_model.h - peers that exist in memory only, a program that answers them, and
 * what has to hold of an engine between the two.
 *
 * Whose calls move the bytes is another header's: net_sim.h is a back end of its
 * own, kernel_sim.h a kernel below the real ones.  What peers do, when memory is
 * short and how time passes is drawn from the seed, so that a failure is replayed
 * by it, step by step.
 *
 * net_stream.h has what they send.
 */
#ifndef NET_MODEL_H
#define NET_MODEL_H

#include "net_stream.h"

#include "net/backend.h"
#include "support/test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SIM_PEERS 48          /* at a time */
#define SIM_WRITTEN_MAX 90000 /* by a peer and not received */
#define SIM_HELD 16           /* slices the program keeps for a while */

struct sim_peer {
	struct weir_conn *conn; /* NULL: the engine is done with it */
	uint32_t id;            /* what its stream is a function of */
	bool used, half_closed, reset;
	bool ended;       /* by the engine: there comes no more */
	uint32_t written; /* and not received */
	uint32_t window;  /* it can still take */
	struct sim_cursor sends, expects;
	uintptr_t next_send, next_report; /* of weir_conn_send() */
};

static struct {
	struct test_rng rng;
	struct weir_net *net;
	struct weir_loop *loop;
	struct weir_listener *listener;
	struct sim_peer peer[SIM_PEERS];
	struct weir_slice held[SIM_HELD];
	uint64_t steps, steps_max;
	uint32_t peers;   /* so far */
	uint64_t taken;   /* peers, from the system */
	uint64_t perhaps; /* the system said what it says of a lost one */
	uint64_t closes, accepts, owed_whole;
	int64_t memory_out;
	uint32_t memory_fails; /* of 1000 */
} sim;

/* ---- what the header of the system has ----------------------------------- */

/* Before there is an engine, which may be told what to use. */
static void sim_system_begin(struct weir_net_config *config);
/* The engine is there, and no loop yet. */
static void sim_system_ready(void);
/* Neither is there any more. */
static void sim_system_end(void);
/* The peer at the other end of a connection just accepted. */
static struct sim_peer *sim_system_peer(const struct weir_conn *conn);

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

/* ---- what comes back ------------------------------------------------------ */

static void
sim_expect(struct sim_peer *peer, const unsigned char *data, size_t bytes)
{
	unsigned char owed;
	size_t right =
	    sim_compare(peer->id, &peer->expects, data, bytes, &owed);

	if (right < bytes)
		FAIL("step %llu: peer %u: byte %zu of %zu is %u, owed is %u",
		    (unsigned long long)sim.steps, peer->id, right, bytes,
		    data[right], owed);
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

/* At the end of each pass. */
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
		peer->written = sim_whole(peer->id, peer->sends, peer->written);
		peer->half_closed = true;
	}
}

/* What befalls memory in a step, and what the program kept. */
static void
sim_memory_step(void)
{
	struct weir_slice *held = &sim.held[sim_below(SIM_HELD)];

	sim.steps++;
	if (sim_chance(1))
		sim.memory_fails = sim_chance(700)   ? 0
				   : sim_chance(500) ? 100
						     : 950;
	if (sim_chance(20))
		weir_slice_release(held);
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

/* ---- the program ---------------------------------------------------------- */

static void
sim_accepted(struct weir_conn *conn)
{
	struct sim_peer *peer = sim_system_peer(conn);

	peer->conn = conn;
	weir_conn_set_user(conn, peer);
	sim.accepts++;
}

/* Sometimes in several slices; sometimes a reference is kept for later. */
static void
sim_answer(struct weir_conn *conn, struct weir_slice slice)
{
	struct sim_peer *peer = sim_peer_of(conn);
	struct weir_slice cut[3] = {slice, slice, slice};
	size_t count = slice.bytes >= 3 && sim_chance(200) ? 3 : 1;
	uint32_t held = sim_below(SIM_HELD * 20);

	if (count == 3) {
		cut[0].bytes = 1;
		cut[1].offset += 1;
		cut[1].bytes = slice.bytes / 2;
		cut[2].offset += 1 + cut[1].bytes;
		cut[2].bytes -= 1 + cut[1].bytes;
	}
	if (held < SIM_HELD && sim.held[held].buffer == NULL)
		sim.held[held] = weir_slice_retain(slice);
	weir_buffer_retain_many(slice.buffer, (uint32_t)count);
	if (weir_conn_send(conn, cut, count, (void *)peer->next_send) == 0)
		peer->next_send++;
}

/* Answers whole packets at the start of @slice; false: the connection ends. */
static bool
sim_packets(struct weir_conn *conn, struct weir_slice *slice, uint32_t *need)
{
	while (slice->bytes >= SIM_HEADER) {
		const unsigned char *data = slice->buffer->data + slice->offset;
		uint32_t bytes =
		    SIM_HEADER + data[1] + ((uint32_t)data[2] << 8);
		struct weir_slice packet = *slice;
		if (slice->bytes < bytes) {
			*need = bytes;
			return true;
		}
		packet.bytes = bytes;
		slice->offset += bytes;
		slice->bytes -= bytes;
		switch ((enum sim_command)data[0]) {
		case SIM_ECHO:
			sim_answer(conn, packet);
			break;
		case SIM_DROP:
			break;
		case SIM_CLOSE:
			weir_conn_close(conn, WEIR_CLOSE_LOCAL);
			return false;
		case SIM_ABORT:
			weir_conn_abort(conn, WEIR_CLOSE_MALFORMED);
			return false;
		}
	}
	*need = SIM_HEADER;
	return true;
}

/* Whole packets, all of them to be answered. */
static bool
sim_all_echo(struct weir_slice slice)
{
	while (slice.bytes >= SIM_HEADER) {
		const unsigned char *data = slice.buffer->data + slice.offset;
		uint32_t bytes =
		    SIM_HEADER + data[1] + ((uint32_t)data[2] << 8);
		if (data[0] != SIM_ECHO || slice.bytes < bytes)
			return false;
		slice.offset += bytes;
		slice.bytes -= bytes;
	}
	return slice.bytes == 0;
}

static void
sim_data(struct weir_conn *conn, struct weir_slice slice)
{
	struct sim_peer *peer = sim_peer_of(conn);
	uint32_t need = 0;

	CHECK_GT(slice.bytes, 0);
	CHECK_EQ(conn->state, WEIRI_CONN_OPEN);
	if (sim_chance(700) && sim_all_echo(slice)) {
		/* As it is, with its only reference. */
		if (weir_conn_send(conn, &slice, 1, (void *)peer->next_send) ==
		    0)
			peer->next_send++;
		return;
	}
	if (sim_packets(conn, &slice, &need) && slice.bytes > 0) {
		(void)weir_conn_need(conn, slice, need);
		return;
	}
	weir_buffer_release(slice.buffer);
}

static void
sim_sent(struct weir_conn *conn, void *context, int status)
{
	struct sim_peer *peer = sim_peer_of(conn);

	CHECK_EQ((uintptr_t)context, peer->next_report);
	CHECK(status == 0 || status == -ECANCELED);
	peer->next_report++;
}

/* Has it everything that it is owed for what it wrote, whole packets? */
static bool
sim_has_all(struct sim_peer *peer)
{
	while (peer->expects.packet < peer->sends.packet &&
	       peer->expects.at == 0 &&
	       sim_command_of(peer->id, peer->expects.packet) != SIM_ECHO)
		peer->expects.packet++;
	return peer->written == 0 && peer->expects.at == 0 &&
	       peer->expects.packet == peer->sends.packet;
}

static void
sim_closed(struct weir_conn *conn, enum weir_close_reason reason)
{
	struct sim_peer *peer = sim_peer_of(conn);

	sim.closes++;
	CHECK_EQ(peer->next_report, peer->next_send);
	/* Who ended its stream got all it is owed before the end of ours. */
	if (reason == WEIR_CLOSE_PEER && !peer->reset) {
		CHECK(peer->half_closed);
		CHECK(sim_has_all(peer));
		sim.owed_whole++;
	}
	peer->conn = NULL;
	peer->used = false;
}

/* ---- the invariants of the engine ------------------------------------------- */

static size_t
sim_length(const struct weiri_list *list)
{
	size_t length = 0;

	WEIRI_LIST_FOR(node, list)
	{
		length++;
	}
	return length;
}

static uint64_t
sim_check_conn(const struct weir_conn *conn)
{
	uint64_t charge = 0;
	uint64_t ops = 0;
	bool holding = (conn->flags & WEIRI_CONN_HOLDING) != 0;

	for (const struct weiri_op *op = conn->ops; op != NULL; op = op->next) {
		CHECK_LT(op->done, op->count);
		for (size_t i = op->done; i < op->count; i++)
			charge += op->slice[i].buffer->bytes;
		ops++;
	}
	/* And what was sent without a copy and may still be read. */
	CHECK_GE(conn->charge, charge);
	if (!weiri_conn_awaits(conn))
		CHECK_EQ(conn->charge, charge);
	CHECK_EQ(conn->need > 0, conn->carry.buffer != NULL);
	CHECK(conn->need == 0 || conn->carry.bytes < conn->need);
	if (conn->state >= WEIRI_CONN_LINGERING)
		return ops;
	if (holding) {
		CHECK(conn->flags & WEIRI_CONN_HELD);
		CHECK(!(conn->flags & WEIRI_CONN_STARVED));
		CHECK(conn->need > 0 || conn->ops != NULL ||
		      weiri_conn_awaits(conn));
	} else if (!(conn->flags & (WEIRI_CONN_STARVED | WEIRI_CONN_SENDING)) &&
		   (conn->need > 0 || conn->ops != NULL)) {
		FAIL("step %llu: nobody watches what it holds: state %u, flags "
		     "%#x, need %u, %llu operations",
		    (unsigned long long)sim.steps, conn->state, conn->flags,
		    conn->need, (unsigned long long)ops);
	}
	return ops;
}

/* At the end of a pass. */
static void
sim_check(const struct weir_loop *loop)
{
	size_t conns = 0;
	uint64_t ops = 0;

	WEIRI_LIST_FOR(node, &loop->conns)
	{
		ops += sim_check_conn(
		    WEIRI_CONTAINER_OF(node, struct weir_conn, member));
		conns++;
	}
	CHECK_EQ(conns, loop->counters.connections);
	CHECK_EQ(conns, loop->net->connections);
	CHECK_EQ(ops, loop->counters.operations);
	CHECK_EQ(sim_length(&loop->starved), loop->counters.starved_now);
	CHECK_EQ(loop->net->starving, loop->counters.starved_now);
	CHECK_EQ(sim.accepts - sim.closes, conns);
}

/* ---- runs --------------------------------------------------------------------- */

/* False: too little happened for it to prove anything. */
static bool
sim_once(uint64_t seed, uint64_t steps, struct weir_net_config config)
{
	struct weir_listen_config listen = {
	    .handlers =
		{
		    .on_accept = sim_accepted,
		    .on_data = sim_data,
		    .on_sent = sim_sent,
		    .on_close = sim_closed,
		},
	};
	struct weir_net_figures figures = {.size = sizeof(figures)};
	uint64_t closed = 0, turned;

	memset(&sim, 0, sizeof(sim));
	test_rng_init(&sim.rng, seed);
	sim.steps_max = steps;
	sim_system_begin(&config);
	CHECK_EQ(weir_net_create(&config, &sim.net), 0);
	sim_system_ready();
	CHECK_EQ(weir_loop_create(sim.net, &sim.loop), 0);
	while (weir_listen(sim.loop, &listen, &sim.listener) == -ENOMEM)
		;
	CHECK_EQ(weir_loop_run(sim.loop), 0);
	for (size_t i = 0; i < SIM_HELD; i++)
		weir_slice_release(&sim.held[i]);
	weir_loop_destroy(sim.loop);
	CHECK_EQ(weir_net_stats(sim.net, &figures), 0);
	for (size_t i = 0; i < WEIR_CLOSE_REASON_COUNT; i++)
		closed += figures.closed[i];
	CHECK_EQ(figures.accepted, sim.accepts);
	CHECK_EQ(closed, sim.closes);
	CHECK_EQ(sim.accepts, sim.closes);
	/* Nobody is turned away unheard. */
	turned = figures.refused + figures.no_descriptor;
	CHECK_GE(sim.accepts + turned, sim.taken);
	CHECK_LE(sim.accepts + turned, sim.taken + sim.perhaps);
	CHECK_EQ(figures.operations, 0);
	CHECK_EQ(figures.connections, 0);
	weir_net_destroy(sim.net); /* a fault if a buffer is out */
	CHECK_EQ(sim.memory_out, 0);
	sim_system_end();
	return figures.closed[WEIR_CLOSE_PEER] > 0 && sim.owed_whole > 0;
}

/* A short run may end before anybody goes. */
static void
sim_run(uint64_t seed, uint64_t steps, struct weir_net_config config)
{
	for (uint64_t more = 0; more < 50; more++)
		if (sim_once(seed + more, steps, config))
			return;
	FAIL("nothing happened in 50 runs");
}

#endif /* NET_MODEL_H */
