/* SPDX-License-Identifier: MIT */
/*
 * load_stream.c - bytes of one connection: sent, received, verified.
 *
 * One scratch buffer serves all connections in each direction.  A send that
 * the socket takes only in part is not kept: its rest is made again from the
 * pattern when the socket has room.
 */
#include "load_engine.h"

#include <errno.h>
#include <sys/epoll.h>

/* Packets in the scratch buffer from the send position up to the goal. */
static size_t
stream_fill(struct load *load, struct load_connection *connection, uint64_t now)
{
	const struct load_pattern *pattern = &load->pattern;
	uint64_t packet = connection->send_packet;
	uint32_t offset = connection->send_offset;
	uint32_t depth = load->config.depth;
	size_t used = 0;

	while (packet < connection->goal) {
		size_t bytes = pattern->wire_bytes - offset;

		if (used + bytes > LOAD_SCRATCH_BYTES)
			break;
		pattern_copy(pattern, connection->index, packet, offset, bytes,
		    load->out + used);
		/* A packet not taken now is stamped again next time. */
		if (connection->active && offset == 0)
			load->sent_ns[(size_t)connection->slot * depth +
				      packet % depth] = now;
		used += bytes;
		packet++;
		offset = 0;
	}
	return used;
}

static void
stream_advance(
    struct load *load, struct load_connection *connection, size_t bytes)
{
	uint64_t begun = load_begun(connection);
	uint32_t wire = load->pattern.wire_bytes;
	uint64_t position = connection->send_offset + (uint64_t)bytes;

	connection->send_packet += position / wire;
	connection->send_offset = (uint32_t)(position % wire);
	load->in_flight += load_begun(connection) - begun;
}

void
load_send(struct load *load, struct load_connection *connection, uint64_t now)
{
	while (connection->send_packet < connection->goal) {
		size_t bytes = stream_fill(load, connection, now);
		ssize_t sent =
		    send(connection->fd, load->out, bytes, MSG_NOSIGNAL);

		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0 && errno != EAGAIN) {
			load_lose(load, connection, load_cause_of(errno));
			return;
		}
		if (sent > 0)
			stream_advance(load, connection, (size_t)sent);
		if (sent < 0 || (size_t)sent < bytes) {
			load_wait_for(load, connection, true);
			return;
		}
	}
	load_wait_for(load, connection, false);
}

static void
stream_differs(struct load *load, struct load_connection *connection,
    const unsigned char *data, size_t bytes)
{
	struct load_mismatch *first = &load->report->first_mismatch;

	if (load->report->mismatches == 0 && !connection->wrong) {
		uint32_t offset = connection->recv_offset;
		size_t i = 0;

		while (i + 1 < bytes &&
		       pattern_equal(&load->pattern, connection->index,
			   connection->recv_packet, offset + (uint32_t)i, 1,
			   data + i))
			i++;
		first->connection = connection->index;
		first->packet = connection->recv_packet;
		first->offset = offset + (uint32_t)i;
		first->got = data[i];
		first->expected = pattern_byte(&load->pattern,
		    connection->index, connection->recv_packet, first->offset);
	}
	connection->wrong = true;
}

/* How many bytes of packet recv_packet may come, by L1. */
static size_t
stream_expected(
    const struct load *load, const struct load_connection *connection)
{
	if (connection->recv_packet < connection->send_packet)
		return load->pattern.wire_bytes - connection->recv_offset;
	return connection->send_offset - connection->recv_offset;
}

static void
stream_answered(
    struct load *load, struct load_connection *connection, uint64_t now)
{
	connection->recv_offset = 0;
	connection->recv_packet++;
	load->in_flight--;
	if (connection->wrong)
		load->report->mismatches++;
	else
		load->report->all_packets++;
	load_answered(load, connection, now);
	connection->wrong = false;
}

static void
stream_verify(struct load *load, struct load_connection *connection,
    const unsigned char *data, size_t bytes, uint64_t now)
{
	while (bytes > 0) {
		size_t part = stream_expected(load, connection);

		if (part == 0) {
			load_lose(load, connection, LOAD_UNASKED);
			return;
		}
		part = part < bytes ? part : bytes;
		if (load->config.verify &&
		    !pattern_equal(&load->pattern, connection->index,
			connection->recv_packet, connection->recv_offset, part,
			data))
			stream_differs(load, connection, data, part);
		connection->recv_offset += (uint32_t)part;
		if (connection->recv_offset == load->pattern.wire_bytes)
			stream_answered(load, connection, now);
		data += part;
		bytes -= part;
	}
}

void
load_receive(struct load *load, struct load_connection *connection)
{
	uint64_t now = 0;
	ssize_t bytes;

	do {
		bytes = recv(connection->fd, load->in, LOAD_SCRATCH_BYTES, 0);
		if (bytes < 0 && errno == EAGAIN)
			break;
		if (bytes < 0 && errno == EINTR)
			continue;
		if (bytes <= 0) {
			load_lose(load, connection,
			    bytes == 0 ? LOAD_CLOSED : load_cause_of(errno));
			return;
		}
		now = load_now();
		load->progress_ns = now;
		stream_verify(load, connection, load->in, (size_t)bytes, now);
		if (connection->fd < 0)
			return;
		/* A short receive has emptied the socket: no second call. */
	} while (bytes < 0 || (size_t)bytes == LOAD_SCRATCH_BYTES);
	if (connection->goal > connection->send_packet)
		load_send(load, connection, now != 0 ? now : load_now());
}
