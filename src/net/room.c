/* SPDX-License-Identifier: MIT */
/*
 * room.c - where the next bytes of a connection go.
 *
 * Without a carry into a new buffer, of the size that recent receives filled.
 * With one behind it: in its buffer, if the rest of the packet fits there, be it
 * after moving to the front; else in one that has room for all of it.  Who has
 * unsent bytes gets no more than its quota leaves, and where memory is short the
 * least will do.
 */
#include "net/backend.h"

#include "base/bits.h"
#include "net/payer.h"

#include <string.h>

/* ---- buffers ----------------------------------------------------------- */

struct weir_buffer *
weiri_conn_acquire(struct weir_conn *conn, size_t bytes, bool sending)
{
	if (WEIR_LIKELY(!(conn->flags & WEIRI_CONN_CHARGED)))
		return weiri_loop_acquire(conn->loop, bytes);
	return weiri_payer_buffer(
	    conn, bytes, sending ? WEIR_BUFFER_SEND : WEIR_BUFFER_RECEIVE);
}

/* The loop's reserve, if the connection can pay for it. */
static WEIRI_NOINLINE struct weir_buffer *
room_borrow(struct weir_conn *conn)
{
	struct weir_loop *loop = conn->loop;
	struct weir_buffer *buffer = loop->reserve;

	if (loop->lent || ((conn->flags & WEIRI_CONN_CHARGED) &&
			      !weir_buffer_set_account(
				  buffer, &weiri_payer_of(conn)->account)))
		return NULL;
	loop->reserve = NULL;
	loop->lent = loop->careful = true;
	return buffer;
}

/* For a receive; a loop that lends gives its reserve when all else fails. */
static struct weir_buffer *
room_buffer(struct weir_conn *conn, size_t bytes)
{
	struct weir_buffer *buffer = weiri_conn_acquire(conn, bytes, false);

	if (WEIR_UNLIKELY(buffer == NULL) && conn->loop->lending)
		return room_borrow(conn);
	return buffer;
}

bool
weiri_conn_move_carry(struct weir_conn *conn, struct weir_buffer *to)
{
	struct weir_slice *carry = &conn->carry;

	if (to == NULL)
		return false;
	memcpy(to->data, carry->buffer->data + carry->offset, carry->bytes);
	weir_buffer_release(carry->buffer);
	carry->buffer = to;
	carry->offset = 0;
	return true;
}

/* Can the buffer of the carry hold @bytes from the carry's start on, if need be
 * after moving it to the front? */
static bool
room_carry_fits(const struct weir_conn *conn, uint32_t bytes)
{
	const struct weir_buffer *buffer = conn->carry.buffer;

	return bytes <= buffer->bytes - conn->carry.offset ||
	       (bytes <= buffer->bytes && weir_buffer_references(buffer) == 1);
}

/* Makes it so; room_carry_fits() has said yes. */
static void
room_carry_fit(struct weir_conn *conn, uint32_t bytes)
{
	struct weir_slice *carry = &conn->carry;
	unsigned char *data = carry->buffer->data;

	if (bytes <= carry->buffer->bytes - carry->offset)
		return;
	memmove(data, data + carry->offset, carry->bytes);
	carry->offset = 0;
}

bool
weiri_conn_has_room(const struct weir_conn *conn)
{
	return conn->need > 0 && room_carry_fits(conn, conn->need);
}

static struct weir_buffer *
room_behind_carry(struct weir_conn *conn, uint32_t *offset, uint32_t *room)
{
	struct weir_loop *loop = conn->loop;
	struct weir_slice *carry = &conn->carry;
	uint32_t least = loop->net->config.receive_bytes_min;
	uint32_t wanted = conn->need > conn->hint ? conn->need : conn->hint;
	bool scarce = weiri_net_is_short(loop);

	if (room_carry_fits(conn, wanted))
		room_carry_fit(conn, wanted);
	else if (scarce && room_carry_fits(conn, conn->need))
		room_carry_fit(conn, conn->need);
	else if (!weiri_conn_move_carry(conn, room_buffer(conn, wanted))) {
		if (room_carry_fits(conn, conn->need))
			room_carry_fit(conn, conn->need);
		else if (!weiri_conn_move_carry(conn,
			     room_buffer(conn,
				 conn->need > least ? conn->need : least)))
			return NULL;
	}
	*offset = carry->offset + carry->bytes;
	*room = carry->buffer->bytes - *offset;
	WEIR_ASSERT(*room > 0);
	return carry->buffer;
}

/* With unsent bytes, or sent ones that the system still reads, no more than the quota leaves, so that they stay within it
 * whatever the handler answers.  In steps of the tiers: what is asked for must
 * not be rounded up. */
static uint32_t
room_allowance(const struct weir_conn *conn)
{
	const struct weir_net_config *config = &conn->loop->net->config;
	uint64_t left = config->send_quota_bytes > conn->charge
			    ? config->send_quota_bytes - conn->charge
			    : 0;
	uint64_t bytes = config->receive_bytes_min;

	while (bytes * WEIRI_HINT_STEP <= left &&
	       bytes * WEIRI_HINT_STEP <= conn->hint)
		bytes *= WEIRI_HINT_STEP;
	return (uint32_t)bytes;
}

struct weir_buffer *
weiri_conn_room(struct weir_conn *conn, uint32_t *offset, uint32_t *room)
{
	if (WEIR_UNLIKELY(conn->need > 0))
		return room_behind_carry(conn, offset, room);

	const struct weir_net_config *config = &conn->loop->net->config;
	uint32_t bytes = conn->hint;
	if (WEIR_UNLIKELY(conn->ops != NULL || weiri_conn_awaits(conn)))
		bytes = room_allowance(conn);
	struct weir_buffer *buffer = room_buffer(conn, bytes);
	if (WEIR_UNLIKELY(buffer == NULL) &&
	    conn->hint > config->receive_bytes_min) {
		conn->hint = config->receive_bytes_min;
		buffer = room_buffer(conn, conn->hint);
	}
	if (WEIR_UNLIKELY(buffer == NULL))
		return NULL;
	*offset = 0;
	*room = buffer->bytes;
	return buffer;
}
