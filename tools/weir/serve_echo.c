/* SPDX-License-Identifier: MIT */
/*
 * serve_echo.c - the protocols: packets back byte for byte or to all, or bytes
 * as is.
 *
 * Whole packets are sent from the buffer they were received in; nothing is
 * copied.  Of a packet that is not complete, the engine receives the rest
 * behind what is there (weir_conn_need()), so a protocol needs no state of its
 * own per connection.
 */
#include "serve.h"

static uint32_t
echo_length(const unsigned char *data)
{
	return (uint32_t)data[0] << 24 | (uint32_t)data[1] << 16 |
	       (uint32_t)data[2] << 8 | (uint32_t)data[3];
}

struct serve_packets
serve_scan(const unsigned char *data, uint32_t bytes)
{
	struct serve_packets packets = {0};

	while (bytes - packets.whole_bytes >= SERVE_HEADER_BYTES) {
		uint32_t rest = bytes - packets.whole_bytes;
		uint32_t length = echo_length(data + packets.whole_bytes);
		if (length > SERVE_PAYLOAD_MAX) {
			packets.malformed = true;
			return packets;
		}
		if (SERVE_HEADER_BYTES + length > rest) {
			packets.need_bytes = SERVE_HEADER_BYTES + length;
			return packets;
		}
		packets.whole_bytes += SERVE_HEADER_BYTES + length;
	}
	if (packets.whole_bytes < bytes)
		packets.need_bytes = SERVE_HEADER_BYTES;
	return packets;
}

/* Whole packets, with a reference: back, or to all. */
static void
echo_answer(struct weir_conn *conn, struct weir_slice slice)
{
	struct weir_channel *all = weir_conn_context(conn);

	/* What a failed send means, the engine sees to. */
	if (WEIR_LIKELY(all == NULL))
		(void)weir_conn_send(conn, &slice, 1, NULL);
	else
		(void)weir_channel_publish(all, slice);
}

static void
echo_join(struct weir_conn *conn)
{
	/* Without memory for a member it would hear nothing. */
	if (weir_channel_join(weir_conn_context(conn), conn) != 0)
		weir_conn_abort(conn, WEIR_CLOSE_NO_MEMORY);
}

/* More than whole packets: split the slice. */
static void
echo_split(struct weir_conn *conn, struct weir_slice slice,
    const struct serve_packets *packets)
{
	struct weir_slice tail = slice;

	tail.offset += packets->whole_bytes;
	tail.bytes -= packets->whole_bytes;
	if (packets->whole_bytes > 0) {
		slice.bytes = packets->whole_bytes;
		weir_buffer_retain(slice.buffer);
		echo_answer(conn, slice);
	}
	if (packets->malformed) {
		weir_buffer_release(tail.buffer);
		weir_conn_close(conn, WEIR_CLOSE_MALFORMED);
	} else {
		(void)weir_conn_need(conn, tail, packets->need_bytes);
	}
}

static void
echo_packets(struct weir_conn *conn, struct weir_slice slice)
{
	struct serve_packets packets =
	    serve_scan(slice.buffer->data + slice.offset, slice.bytes);

	if (WEIR_LIKELY(packets.whole_bytes == slice.bytes))
		echo_answer(conn, slice);
	else
		echo_split(conn, slice, &packets);
}

static void
echo_raw(struct weir_conn *conn, struct weir_slice slice)
{
	(void)weir_conn_send(conn, &slice, 1, NULL);
}

struct weir_handlers
serve_handlers(enum serve_protocol protocol, struct weir_channel *all)
{
	return (struct weir_handlers){
	    .on_accept = all != NULL ? echo_join : NULL,
	    .context = all,
	    .on_data = protocol == SERVE_RAW ? echo_raw : echo_packets,
	};
}
