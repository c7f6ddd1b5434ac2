/* SPDX-License-Identifier: MIT */
/*
 * load_engine.h - the engine's state, shared by its three parts:
 *
 *     load_connect.c   life of connections: create, connect, lose, destroy
 *     load_stream.c    bytes of a connection: send, receive, verify
 *     load_run.c       time: phases of a run, schedule of packets
 *
 * A connection owns no buffer.  What it sends and what must come back follow
 * from its index and a position in its stream, so its whole state is two
 * positions:
 *
 *     received <= sent <= goal        in packets, with the bytes of the packet
 *     |<- in flight ->|               under way in send_offset, recv_offset
 *
 * Invariants:
 *
 *   L1  received position <= sent position; a byte beyond is UNASKED.
 *   L2  goal - recv_packet <= depth, so the times of the packets in flight fit
 *       a ring of depth entries.
 *   L3  load->in_flight is the sum over live connections of the packets begun
 *       (first byte sent) and not yet received whole.
 *   L4  A connection that fails once is closed, counted once, and touched no
 *       more: its descriptor is -1.
 */
#ifndef WEIR_TOOL_LOAD_ENGINE_H
#define WEIR_TOOL_LOAD_ENGINE_H

#include "load.h"
#include "load_pattern.h"

/* Receives may bring this much at once; also the most sent by one call. */
#define LOAD_SCRATCH_BYTES ((size_t)256 * 1024)
#define LOAD_EVENTS 256 /* per wait: also the grain of the clock's phases */

#define LOAD_NS_PER_S UINT64_C(1000000000)

struct load_connection {
	int fd; /* -1: not connected, or lost */
	uint32_t index;
	uint32_t send_offset; /* bytes sent of packet send_packet */
	uint32_t recv_offset;
	uint64_t send_packet; /* packets sent whole */
	uint64_t recv_packet; /* packets received whole */
	uint64_t goal;        /* packets it may send in all */
	uint64_t base;        /* recv_packet when the run began */
	uint64_t due;         /* open loop: packets due since then */
	uint32_t slot;        /* place among the active ones */
	bool connecting;
	bool active;
	bool wrong;    /* a byte of packet recv_packet differed */
	bool wait_out; /* EPOLLOUT is registered */
};

enum load_phase {
	LOAD_IDLE, /* no run: between calls, and while connecting */
	LOAD_WARMUP,
	LOAD_MEASURE,
	LOAD_DRAIN,
};

struct load {
	struct load_config config;
	struct load_report *report; /* of the call under way */
	const struct load_run *run; /* NULL while connecting */
	enum load_phase phase;
	int epoll;
	uint32_t live;
	uint32_t connecting;
	uint64_t in_flight;
	uint64_t progress_ns; /* when the last byte came */

	/* The run; times are of the monotonic clock. */
	uint64_t start_ns;
	uint64_t measure_ns;
	uint64_t end_ns; /* UINT64_MAX: open */
	uint64_t cpu_start_ns;
	uint64_t budget;     /* packets that may still be begun */
	uint64_t due_packet; /* open loop: next of the schedule */
	uint32_t kicked;     /* closed loop: connections set going */
	uint32_t active_count;

	struct load_connection *connections;
	struct load_connection **active;
	uint64_t *sent_ns; /* [slot * depth + packet % depth] */
	unsigned char *out;
	unsigned char *in;
	struct load_pattern pattern;
};

uint64_t load_now(void);

/* Packets whose first byte was sent. */
static inline uint64_t
load_begun(const struct load_connection *connection)
{
	return connection->send_packet + (connection->send_offset > 0);
}

/* Send up to the goal, as far as the socket takes it. */
void load_send(
    struct load *load, struct load_connection *connection, uint64_t now);

/* Receive and verify what is there, then send what that permits. */
void load_receive(struct load *load, struct load_connection *connection);

/* Packet recv_packet - 1 is back; load_run.c takes its time, sets the goal. */
void load_answered(
    struct load *load, struct load_connection *connection, uint64_t now);

void load_lose(struct load *load, struct load_connection *connection,
    enum load_cause cause);
enum load_cause load_cause_of(int error);
bool load_stopped(const struct load *load);

/* Register what to wait for on a live connection. */
void load_wait_for(
    struct load *load, struct load_connection *connection, bool out);

/* Wait for events at most timeout_ns and handle them. */
void load_poll(struct load *load, uint64_t timeout_ns);

#endif /* WEIR_TOOL_LOAD_ENGINE_H */
