/* SPDX-License-Identifier: MIT */
/*
 * test_net_model.c - the engine over a system that is simulated (net_sim.h),
 * against a model of what every peer is owed.
 *
 * A failure is replayed by its seed, step by step.
 */
#include "net_sim.h"

/* ---- the program ---------------------------------------------------------- */

static void
sim_accepted(struct weir_conn *conn)
{
	struct sim_peer *peer = &sim.peer[conn->fd - SIM_FD];

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

static void
sim_closed(struct weir_conn *conn, enum weir_close_reason reason)
{
	struct sim_peer *peer = sim_peer_of(conn);

	sim.closes++;
	CHECK_EQ(peer->next_report, peer->next_send);
	/* Who ended its stream got all it is owed before the end of ours. */
	if (reason == WEIR_CLOSE_PEER && !peer->reset) {
		while (
		    peer->expects.packet < peer->sends.packet &&
		    peer->expects.at == 0 &&
		    sim_command_of(peer->id, peer->expects.packet) != SIM_ECHO)
			peer->expects.packet++;
		CHECK(peer->half_closed);
		CHECK_EQ(peer->written, 0);
		CHECK_EQ(peer->expects.at, 0);
		CHECK_EQ(peer->expects.packet, peer->sends.packet);
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
	CHECK_EQ(conn->charge, charge);
	CHECK_EQ(conn->need > 0, conn->carry.buffer != NULL);
	CHECK(conn->need == 0 || conn->carry.bytes < conn->need);
	if (conn->state >= WEIRI_CONN_LINGERING)
		return ops;
	if (holding) {
		CHECK(conn->flags & WEIRI_CONN_HELD);
		CHECK(!(conn->flags & WEIRI_CONN_STARVED));
		CHECK(conn->need > 0 || conn->ops != NULL);
	} else if (!(conn->flags & (WEIRI_CONN_STARVED | WEIRI_CONN_SENDING))) {
		CHECK(conn->need == 0 && conn->ops == NULL);
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
sim_once(uint64_t seed, struct weir_net_config config)
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
	uint64_t closed = 0;

	memset(&sim, 0, sizeof(sim));
	test_rng_init(&sim.rng, seed);
	sim.steps_max = test_count(100000);
	config.backend = WEIR_BACKEND_EPOLL;
	CHECK_EQ(weir_net_create(&config, &sim.net), 0);
	sim.net->backend = &sim_backend;
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
	CHECK_EQ(figures.operations, 0);
	CHECK_EQ(figures.connections, 0);
	weir_net_destroy(sim.net); /* a fault if a buffer is out */
	CHECK_EQ(sim.memory_out, 0);
	return figures.closed[WEIR_CLOSE_PEER] > 0 && sim.owed_whole > 0;
}

/* A short run may end before anybody goes. */
static void
sim_run(uint64_t seed, struct weir_net_config config)
{
	for (uint64_t more = 0; more < 50; more++)
		if (sim_once(seed + more, config))
			return;
	FAIL("nothing happened in 50 runs");
}

TEST_LIMIT(net_model_from_memory_that_fails, 600)
{
	const struct weir_net_config config = {
	    .memory = &sim_memory,
	    .receive_bytes_min = 512,
	    .send_quota_bytes = 20000,
	    .stall_ms = 2000,
	    .idle_ms = 5000,
	    .packet_ms = 4000,
	};

	sim_run(test_seed(), config);
}

TEST_LIMIT(net_model_from_limited_pools, 600)
{
	const struct weir_net_config config = {
	    .buffer_limit_bytes = WEIR_NET_BUFFER_LIMIT_BYTES_MIN,
	    .hold_ms = 300,
	    .hold_bytes = 5000,
	};

	sim_run(test_seed() + 1, config);
}

TEST_LIMIT(net_model_from_plenty, 600)
{
	const struct weir_net_config config = {
	    .idle_ms = 300,
	    .packet_ms = 500,
	};

	sim_run(test_seed() + 2, config);
}
