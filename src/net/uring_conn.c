/* SPDX-License-Identifier: MIT */
/*
 * uring_conn.c - a connection over io_uring.
 *
 * A multishot receive cannot be told "enough for now" in time: after a handler
 * went over its quota, or found no memory for an unfinished packet, completions
 * that are already there carry more bytes.  Those are stashed, and handed on
 * before anything else when the connection may receive again.  A peer that
 * fills its buffers could fill many that way, so its receives are armed one by
 * one, with large buffers where memory is not short.
 *
 * When the supply is empty, a receive ends, and this connection is read with a
 * plain recv into a buffer of its own, if there is memory; if not, it joins the
 * engine's queue like any other.  Nobody waits for what only another socket's
 * progress would re-arm.
 *
 * What is armed for a connection is in conn->interest, and uring_tune() alone
 * compares that with what the engine wants.
 *
 * Invariants:
 *  U1  ARMED, POLLING: a completion without F_MORE is still to come, and the
 *      connection stays until then.
 *  U2  stash != NULL: no bytes of a later completion are handed on first.
 *  U3  ARMED and not CANCELLED implies that the engine wants to receive, or has
 *      stopped wanting in this very call.
 */
#include "net/uring.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

/* A multishot receive goes on while there are bytes, and could take the whole
 * supply in one go.  Kernels that know it (6.17) let others have their turn
 * after sqe->len bytes, so many buffers. */
#define URING_TURN 4

/* ---- what is armed for a connection ---------------------------------- */

/* Which its armed receive picks from. */
static struct weiri_supply *
uring_supply(const struct weir_conn *conn)
{
	struct uring *uring = weiri_uring_of(conn->loop);
	struct weiri_supply *large = &uring->supply[URING_GROUP_LARGE];

	return conn->interest & URING_BULK && large->shared != NULL
		   ? large
		   : &uring->supply[URING_GROUP_SMALL];
}

/* Its peer sends more than the small buffers are for. */
static bool
uring_is_bulk(const struct weir_conn *conn)
{
	return conn->hint > conn->loop->net->config.receive_bytes_min;
}

static bool
uring_arm_receive(struct weir_conn *conn, const struct weiri_supply *supply)
{
	struct io_uring_sqe *entry = weiri_uring_entry(
	    conn->loop, IORING_OP_RECV, conn->fd, conn, URING_TAG_MAIN);

	if (entry == NULL)
		return false;
	entry->flags = IOSQE_BUFFER_SELECT;
	entry->buf_group = supply->group;
	if (conn->interest & URING_BULK) {
		entry->len = supply->bytes;
	} else {
		entry->ioprio = IORING_RECV_MULTISHOT;
		if (WEIRI_LOAD(&weiri_uring_bounds_turns))
			entry->len = supply->bytes * URING_TURN;
	}
	return true;
}

/* A receive looks for a buffer before it looks for bytes, so with none it would
 * fail again and again; then a poll says when there is something. */
static bool
uring_arm(struct weir_conn *conn)
{
	struct weir_loop *loop = conn->loop;
	struct weiri_supply *supply;
	bool armed;

	conn->interest &= (uint8_t) ~(URING_BULK | URING_WATCHED);
	conn->interest |= URING_ARMED;
	if (uring_is_bulk(conn))
		conn->interest |= URING_BULK;
	supply = uring_supply(conn);
	supply->armed++;
	if (WEIR_UNLIKELY(supply->published == 0) &&
	    weiri_list_empty(&loop->starved))
		weiri_supply_fill(supply, loop);
	if (WEIR_LIKELY(supply->published > 0)) {
		armed = uring_arm_receive(conn, supply);
	} else {
		armed = weiri_uring_poll(
		    loop, conn->fd, POLLIN, conn, URING_TAG_WATCH);
		conn->interest |= URING_WATCHED;
	}
	if (!armed) {
		supply->armed--;
		conn->interest &= (uint8_t)~URING_ARMED;
	}
	return armed;
}

/* A receive that is just being served again cannot be found; then the answer
 * says so, and it is asked for anew. */
static void
uring_disarm(struct weir_conn *conn)
{
	bool watched = (conn->interest & URING_WATCHED) != 0;
	struct io_uring_sqe *entry;

	if (conn->interest & URING_CANCELLED)
		return;
	entry = weiri_uring_cancel(
	    conn->loop, conn, watched ? URING_TAG_WATCH : URING_TAG_MAIN);
	if (entry == NULL)
		return; /* the next event tries again */
	entry->user_data = weiri_uring_data(conn, URING_TAG_CANCEL);
	conn->interest |= URING_CANCELLED;
}

static bool
uring_may_receive(const struct weir_conn *conn)
{
	if (!(conn->interest & URING_WANTED) || conn->stash != NULL)
		return false;
	return conn->state == WEIRI_CONN_LINGERING ||
	       (conn->state == WEIRI_CONN_OPEN &&
		   !(conn->flags & (WEIRI_CONN_STARVED | WEIRI_CONN_PAUSED)));
}

/* Brings what is armed in line with what is wanted. */
static void
uring_tune(struct weir_conn *conn)
{
	bool wanted = uring_may_receive(conn);
	uint8_t interest = conn->interest;

	if (WEIR_LIKELY(interest & URING_ARMED)) {
		bool bulk = (interest & URING_BULK) != 0;
		if (WEIR_UNLIKELY(!wanted || bulk != uring_is_bulk(conn)))
			uring_disarm(conn);
	} else if (wanted && !(interest & URING_CANCELLED)) {
		/* An answer still to come could be about this one. */
		if (!uring_arm(conn))
			weiri_conn_failed(conn, -ENOMEM);
	}
}

/* ---- the stash ------------------------------------------------------- */

/* Takes the slice's reference. */
static void
uring_stash(struct weir_conn *conn, struct weir_slice slice)
{
	struct weir_net *net = conn->loop->net;
	struct weiri_op **end = &conn->stash;
	struct weiri_op *node =
	    weiri_net_object(net, WEIR_NET_OPERATION, sizeof(*node));

	if (node == NULL) {
		weir_buffer_release(slice.buffer);
		weir_conn_abort(conn, WEIR_CLOSE_NO_MEMORY);
		return;
	}
	node->next = NULL;
	node->slice[0] = slice;
	while (*end != NULL)
		end = &(*end)->next;
	*end = node;
}

static struct weir_slice
uring_unstash(struct weir_conn *conn)
{
	struct weiri_op *node = conn->stash;
	struct weir_slice slice = node->slice[0];

	conn->stash = node->next;
	weiri_net_object_free(conn->loop->net, WEIR_NET_OPERATION, node);
	return slice;
}

static void
uring_unresume(struct weir_conn *conn)
{
	if (conn->interest & URING_RESUMED) {
		conn->interest &= (uint8_t)~URING_RESUMED;
		weiri_list_remove(&conn->waiting);
	}
}

static void
uring_drop_stash(struct weir_conn *conn)
{
	while (conn->stash != NULL)
		weir_buffer_release(uring_unstash(conn).buffer);
	uring_unresume(conn);
}

/* Puts the rest of a slice back to the front. */
static void
uring_restash(struct weir_conn *conn, struct weir_slice slice)
{
	struct weiri_op *rest = conn->stash;

	conn->stash = NULL;
	uring_stash(conn, slice);
	if (conn->stash != NULL)
		conn->stash->next = rest;
	else
		conn->stash = rest; /* aborted; dropped when it is stopped */
}

/* ---- bytes in -------------------------------------------------------- */

/* Somewhere to put the rest of an unfinished packet. */
static struct weir_buffer *
uring_room(struct weir_conn *conn, uint32_t *offset, uint32_t *room)
{
	struct weir_buffer *buffer = weiri_conn_room(conn, offset, room);

	if (WEIR_LIKELY(buffer != NULL))
		return buffer;
	/* What this pass received so far may be on its way. */
	weiri_loop_flush(conn->loop);
	return conn->state == WEIRI_CONN_OPEN && conn->need > 0
		   ? weiri_conn_room(conn, offset, room)
		   : NULL;
}

/* One link serves both queues: whoever is fed needs not be resumed. */
static void
uring_starve(struct weir_conn *conn)
{
	uring_unresume(conn);
	weiri_conn_starve(conn);
}

static bool
uring_may_hand_on(const struct weir_conn *conn)
{
	return conn->state == WEIRI_CONN_OPEN &&
	       !(conn->flags & (WEIRI_CONN_STARVED | WEIRI_CONN_PAUSED));
}

/* Copies from @slice behind the carry; false: no memory for it. */
static bool
uring_append(struct weir_conn *conn, struct weir_slice *slice)
{
	uint32_t offset, room;
	struct weir_buffer *buffer = uring_room(conn, &offset, &room);

	if (buffer == NULL)
		return false;
	uint32_t bytes = slice->bytes < room ? slice->bytes : room;
	memcpy(
	    buffer->data + offset, slice->buffer->data + slice->offset, bytes);
	slice->offset += bytes;
	slice->bytes -= bytes;
	weiri_conn_received(conn, buffer, offset, room, bytes);
	return true;
}

/* 0 is the end of the stream. */
static void
uring_hand_on_error(struct weir_conn *conn, int error)
{
	weiri_conn_received(
	    conn, conn->need > 0 ? conn->carry.buffer : NULL, 0, 1, error);
}

/* Hands on what it can of @slice, whose reference it takes; the rest is put
 * to the front of the stash. */
static void
uring_hand_on(struct weir_conn *conn, struct weir_slice slice)
{
	if (WEIR_UNLIKELY(slice.buffer == NULL)) {
		uring_hand_on_error(conn, -(int)slice.bytes);
		return;
	}
	while (uring_may_hand_on(conn)) {
		if (WEIR_LIKELY(conn->need == 0)) {
			weiri_conn_received(conn, slice.buffer, slice.offset,
			    slice.buffer->bytes - slice.offset, slice.bytes);
			return;
		}
		if (!uring_append(conn, &slice)) {
			if (uring_may_hand_on(conn) && conn->need > 0)
				uring_starve(conn);
			continue;
		}
		if (slice.bytes == 0)
			break;
	}
	if (slice.bytes > 0 && conn->state == WEIRI_CONN_OPEN)
		uring_restash(conn, slice);
	else
		weir_buffer_release(slice.buffer);
}

static void
uring_drain_stash(struct weir_conn *conn)
{
	while (conn->stash != NULL && uring_may_hand_on(conn))
		uring_hand_on(conn, uring_unstash(conn));
}

static void
uring_receive(struct weir_conn *conn, struct weir_buffer *buffer,
    uint32_t offset, uint32_t room)
{
	ssize_t result =
	    recv(conn->fd, buffer->data + offset, room, MSG_DONTWAIT);

	weiri_conn_received(
	    conn, buffer, offset, room, result < 0 ? -errno : result);
}

/* The supply was empty: without it, once. */
static void
uring_readable(struct weir_conn *conn)
{
	struct weir_loop *loop = conn->loop;
	uint32_t offset, room;
	struct weir_buffer *buffer = NULL;

	/* Behind those who wait, unless it needs nothing they do. */
	if (weiri_list_empty(&loop->starved) || weiri_conn_has_room(conn)) {
		buffer = weiri_conn_room(conn, &offset, &room);
		if (buffer == NULL) {
			weiri_loop_flush(loop);
			if (!uring_may_hand_on(conn))
				return;
			buffer = weiri_conn_room(conn, &offset, &room);
		}
	}
	if (buffer == NULL)
		uring_starve(conn);
	else
		uring_receive(conn, buffer, offset, room);
}

bool
weiri_uring_conn_feed(struct weir_conn *conn)
{
	uint32_t offset, room;
	struct weir_buffer *buffer = weiri_conn_room(conn, &offset, &room);

	if (buffer == NULL)
		return false;
	weiri_conn_unstarve(conn);
	if (conn->stash == NULL) {
		uring_receive(conn, buffer, offset, room);
	} else {
		if (conn->need == 0)
			weir_buffer_release(buffer); /* it has its own */
		uring_drain_stash(conn);
	}
	uring_tune(conn);
	return true;
}

/* A buffer full of bytes, or the end of it, or why there is neither. */
static void
uring_arrived(struct weir_conn *conn, struct weir_buffer *buffer, int result)
{
	if (result > 0 && buffer != NULL) {
		struct weir_slice slice = {buffer, 0, (uint32_t)result};
		if (WEIR_LIKELY(conn->stash == NULL && uring_may_hand_on(conn)))
			uring_hand_on(conn, slice);
		else if (conn->state == WEIRI_CONN_OPEN)
			uring_stash(conn, slice);
		else
			weir_buffer_release(buffer);
		if (conn->state == WEIRI_CONN_LINGERING)
			weiri_conn_discarded(conn);
		return;
	}
	weir_buffer_release(buffer);
	if (conn->state == WEIRI_CONN_LINGERING) {
		if (result != -ENOBUFS && result != -ECANCELED)
			weiri_conn_linger_over(conn);
	} else if (conn->stash == NULL && uring_may_hand_on(conn)) {
		if (result == -ENOBUFS)
			uring_readable(conn);
		else if (result != -ECANCELED)
			uring_hand_on_error(conn, result);
	} else if (result < 0 && result != -ENOBUFS && result != -ECANCELED &&
		   conn->state == WEIRI_CONN_OPEN) {
		/* Told once: the next receive would find an orderly end. */
		uring_stash(
		    conn, (struct weir_slice){NULL, 0, (uint32_t)-result});
	}
	/* With a stash, the next receive after it says the rest again. */
}

static void
uring_check_stopped(struct weir_conn *conn)
{
	if (!(conn->interest & URING_STOPPING))
		return;
	if (!(conn->interest & URING_BUSY)) {
		conn->interest &= (uint8_t)~URING_STOPPING;
		weiri_conn_stopped(conn);
	} else if (conn->interest & URING_ARMED) {
		uring_disarm(conn);
	}
}

void
weiri_uring_received(struct weir_conn *conn, const struct io_uring_cqe *cqe)
{
	struct weiri_supply *supply = uring_supply(conn);
	struct weir_buffer *buffer = NULL;
	int result = cqe->res;

	if (WEIR_UNLIKELY(!(cqe->flags & IORING_CQE_F_MORE))) {
		conn->interest &= (uint8_t)~URING_ARMED;
		supply->armed--;
	}
	if (WEIR_LIKELY(cqe->flags & IORING_CQE_F_BUFFER))
		buffer = weiri_supply_take(
		    supply, (uint16_t)(cqe->flags >> IORING_CQE_BUFFER_SHIFT));
	else if (result == -ENOBUFS)
		weiri_supply_ran_out(supply);
	uring_arrived(conn, buffer, result);
	uring_tune(conn);
	uring_check_stopped(conn);
}

/* Instead of a receive: there was no buffer for one. */
void
weiri_uring_watched(struct weir_conn *conn, int result)
{
	conn->interest &= (uint8_t)~URING_ARMED;
	uring_supply(conn)->armed--;
	if (result == -ECANCELED)
		;
	else if (conn->state == WEIRI_CONN_LINGERING)
		weiri_socket_discard(conn);
	else if (conn->stash == NULL && uring_may_hand_on(conn))
		uring_readable(conn);
	uring_tune(conn);
	uring_check_stopped(conn);
}

void
weiri_uring_cancelled(struct weir_conn *conn)
{
	conn->interest &= (uint8_t)~URING_CANCELLED;
	uring_tune(conn);
	uring_check_stopped(conn);
}

void
weiri_uring_conn_receive(struct weir_conn *conn, bool on)
{
	struct uring *uring = weiri_uring_of(conn->loop);

	if (!on) {
		conn->interest &= (uint8_t)~URING_WANTED;
	} else {
		conn->interest |= URING_WANTED;
		if (conn->stash != NULL && !(conn->interest & URING_RESUMED) &&
		    !(conn->flags & WEIRI_CONN_STARVED)) {
			/* Not from here: the caller is in the middle. */
			conn->interest |= URING_RESUMED;
			weiri_list_append(&uring->resumed, &conn->waiting);
		}
	}
	uring_tune(conn);
}

void
weiri_uring_resume(struct weir_loop *loop)
{
	struct weiri_list *resumed = &weiri_uring_of(loop)->resumed;

	while (!weiri_list_empty(resumed)) {
		struct weir_conn *conn = WEIRI_CONTAINER_OF(
		    resumed->next, struct weir_conn, waiting);
		uring_unresume(conn);
		uring_drain_stash(conn);
		uring_tune(conn);
	}
}

/* ---- bytes out ------------------------------------------------------- */

void
weiri_uring_conn_send(struct weir_conn *conn)
{
	weiri_socket_send(conn);
	if (WEIR_LIKELY(conn->ops == NULL) || conn->state == WEIRI_CONN_CLOSING)
		return;
	if (conn->interest & URING_POLLING)
		return;
	if (weiri_uring_poll(
		conn->loop, conn->fd, POLLOUT, conn, URING_TAG_POLL))
		conn->interest |= URING_POLLING;
	else
		weiri_conn_failed(conn, -ENOMEM);
}

void
weiri_uring_polled(struct weir_conn *conn)
{
	conn->interest &= (uint8_t)~URING_POLLING;
	if (conn->state != WEIRI_CONN_CLOSING && conn->ops != NULL)
		weiri_conn_queue(conn);
	uring_check_stopped(conn);
}

/* ---- a connection's ends --------------------------------------------- */

int
weiri_uring_conn_start(struct weir_conn *conn)
{
	/* Without it the caller frees the object, so it must not fail as one
	 * that has a place among the others. */
	conn->interest = URING_WANTED;
	return uring_arm(conn) ? 0 : -ENOMEM;
}

bool
weiri_uring_conn_linger(struct weir_conn *conn)
{
	uring_drop_stash(conn);
	if (shutdown(conn->fd, SHUT_WR) != 0)
		return false;
	conn->interest |= URING_WANTED;
	uring_tune(conn);
	return true;
}

bool
weiri_uring_conn_stop(struct weir_conn *conn)
{
	struct weir_loop *loop = conn->loop;

	conn->interest &= (uint8_t)~URING_WANTED;
	uring_drop_stash(conn);
	if (!weiri_uring_of(loop)->ring.dead) {
		/* A full queue takes the request in the next pass. */
		if (conn->interest & URING_ARMED)
			uring_disarm(conn);
		if (conn->interest & URING_POLLING)
			(void)weiri_uring_cancel(loop, conn, URING_TAG_POLL);
		if (conn->interest & URING_BUSY) {
			conn->interest |= URING_STOPPING;
			return false;
		}
	}
	weiri_socket_end(conn);
	return true;
}
