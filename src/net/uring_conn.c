/* SPDX-License-Identifier: MIT */
/*
 * uring_conn.c - a connection over io_uring.
 *
 * A multishot receive cannot be told "enough for now" in time: after a handler
 * went over its quota, or found no memory for an unfinished packet, completions
 * that are already there carry more bytes.  Those are stashed, and handed on
 * before anything else when the connection may receive again.  A peer that
 * fills its buffers could fill many that way, so its receives are armed one by
 * one, with large buffers where memory is not short.  One that does not take
 * all that was sent to it is read from with plain recv, after a poll, into
 * buffers that its quota has room for.
 *
 * When the supply is empty, a receive ends, and this connection is read with a
 * plain recv into a buffer of its own, if there is memory; if not, it joins the
 * engine's queue like any other.  Nobody waits for what only another socket's
 * progress would re-arm.
 *
 * What is armed for a connection is in conn->interest, and weiri_uring_tune()
 * alone compares that with what the engine wants.
 *
 * Invariants:
 *  U1  ARMED, POLLING: a completion without F_MORE is still to come, and the
 *      connection stays until then.
 *  U2  stash != NULL: no bytes of a later completion are handed on first.
 *  U3  ARMED and not CANCELLED implies that the engine wants to receive, or has
 *      stopped wanting in this very call.
 */
#include "net/uring.h"

#include "net/lend.h"
#include "net/payer.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

/* A multishot receive goes on while there are bytes, and could take the whole
 * supply in one go.  Kernels that know it (6.17) let others have their turn
 * after sqe->len bytes, so many buffers. */
#define URING_TURN 4

/* And end it after so many bytes in all, which are half a quota at most: it is
 * armed again when what it brought is sent, so that a peer who sends much and
 * reads nothing is found out in time. */
#define URING_RECEIVE_PARTS 2

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

/* Its peer sends more than the small buffers are for.  What the system still
 * reads of what was sent leaves no room for much more. */
static bool
uring_is_bulk(const struct weir_conn *conn)
{
	return conn->hint > conn->loop->net->config.receive_bytes_min &&
	       WEIR_LIKELY(!weiri_conn_awaits(conn));
}

/* Has the quota no room for all that a receive by itself may bring? */
static bool
uring_is_tight(const struct weir_conn *conn)
{
	uint32_t quota = conn->loop->net->config.send_quota_bytes;

	return conn->interest & URING_POLLING ||
	       (WEIR_UNLIKELY(weiri_conn_awaits(conn)) &&
		   conn->charge > quota - quota / URING_RECEIVE_PARTS);
}

static void
uring_cap(struct io_uring_sqe *entry, const struct weiri_supply *supply,
    uint32_t quota_bytes)
{
	entry->len = supply->turn_bytes * URING_TURN;
	/* Since then the field is named optlen. */
	entry->file_index = quota_bytes / URING_RECEIVE_PARTS;
	if (entry->file_index < supply->turn_bytes)
		entry->file_index = supply->turn_bytes;
}

static bool
uring_arm_receive(struct weir_conn *conn, const struct weiri_supply *supply)
{
	const struct weir_net *net = conn->loop->net;
	struct io_uring_sqe *entry = weiri_uring_entry(
	    conn->loop, IORING_OP_RECV, conn->fd, conn, URING_TAG_MAIN);

	if (entry == NULL)
		return false;
	entry->flags |= IOSQE_BUFFER_SELECT;
	entry->buf_group = supply->group;
	if (conn->interest & URING_BULK ||
	    !(net->features & WEIR_NET_MULTISHOT_RECEIVE)) {
		entry->len = supply->turn_bytes;
	} else {
		entry->ioprio = IORING_RECV_MULTISHOT;
		uring_cap(entry, supply, net->config.send_quota_bytes);
	}
	return true;
}

/* A receive looks for a buffer before it looks for bytes, so with none it would
 * fail again and again; then a poll says when there is something.  So it does
 * while there is no room to send, or little: then what is received has to fit the
 * quota.
 */
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
	if (WEIR_UNLIKELY(supply->published == 0) && !weiri_net_is_short(loop))
		weiri_supply_fill(supply, loop);
	if (WEIR_LIKELY(supply->published > 0 && !uring_is_tight(conn))) {
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
 * says so, and it is asked for anew.  False: the queue is full. */
static bool
uring_disarm(struct weir_conn *conn)
{
	bool watched = (conn->interest & URING_WATCHED) != 0;
	struct io_uring_sqe *entry;

	if (conn->interest & URING_CANCELLED)
		return true;
	entry = weiri_uring_cancel(
	    conn->loop, conn, watched ? URING_TAG_WATCH : URING_TAG_MAIN);
	if (entry == NULL)
		return false;
	entry->user_data = weiri_uring_data(conn, URING_TAG_CANCEL);
	conn->interest |= URING_CANCELLED;
	return true;
}

/* Something is due for it at the start of the next pass.  One link serves this
 * queue and the one for buffers: who waits for a buffer is not resumed. */
static void
uring_resume_later(struct weir_conn *conn)
{
	if (conn->interest & URING_RESUMED || conn->flags & WEIRI_CONN_STARVED)
		return;
	conn->interest |= URING_RESUMED;
	weiri_list_append(&weiri_uring_of(conn->loop)->resumed, &conn->waiting);
}

static void
uring_unresume(struct weir_conn *conn)
{
	if (conn->interest & URING_RESUMED) {
		conn->interest &= (uint8_t)~URING_RESUMED;
		weiri_list_remove(&conn->waiting);
	}
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

/* Is what is armed of the right kind?  Of large receives and of small ones; or
 * a poll, which always is. */
static bool
uring_is_right(const struct weir_conn *conn)
{
	uint8_t interest = conn->interest;

	if (interest & URING_WATCHED)
		return true;
	return !uring_is_tight(conn) &&
	       (interest & URING_BULK) ==
		   (uring_is_bulk(conn) ? URING_BULK : 0);
}

void
weiri_uring_tune(struct weir_conn *conn)
{
	bool wanted = uring_may_receive(conn);
	uint8_t interest = conn->interest;

	if (WEIR_LIKELY(interest & URING_ARMED)) {
		if (WEIR_UNLIKELY(!wanted || !uring_is_right(conn)))
			(void)uring_disarm(conn); /* or at the next event */
	} else if (wanted && !(interest & URING_CANCELLED) &&
		   !(conn->flags & WEIRI_CONN_SENDING)) {
		/* An answer still to come could be about this one.  And what is
		 * to be sent is first: it may leave a tail. */
		if (!uring_arm(conn))
			uring_resume_later(conn);
	}
}

/* ---- the stash ------------------------------------------------------- */

static void
uring_drop_stash(struct weir_conn *conn)
{
	while (conn->stash != NULL)
		weir_buffer_release(weiri_uring_unstash(conn).buffer);
	uring_unresume(conn);
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

/* Whoever is fed needs not be resumed. */
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
	if (WEIR_UNLIKELY(conn->flags & WEIRI_CONN_CHARGED) &&
	    !weiri_payer_pays(conn, slice.buffer)) {
		weiri_uring_restash(conn, slice);
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
		weiri_uring_restash(conn, slice);
	else
		weir_buffer_release(slice.buffer);
}

static void
uring_drain_stash(struct weir_conn *conn)
{
	while (conn->stash != NULL && uring_may_hand_on(conn))
		uring_hand_on(conn, weiri_uring_unstash(conn));
}

static void
uring_receive(struct weir_conn *conn, struct weir_buffer *buffer,
    uint32_t offset, uint32_t room)
{
	bool lent = weiri_lend_receive(buffer);
	ssize_t result;

	/* A receive that is armed may have the bytes before these. */
	WEIR_ASSERT((conn->interest & URING_ARMED) == 0 ||
		    (conn->interest & URING_WATCHED) != 0);
	result = weiri_uring_recv(conn, buffer->data + offset, room);
	weiri_lend_received(buffer, lent);
	weiri_conn_received(conn, buffer, offset, room, result);
}

/* The supply was empty: without it, once. */
static void
uring_readable(struct weir_conn *conn)
{
	struct weir_loop *loop = conn->loop;
	uint32_t offset, room;
	struct weir_buffer *buffer = NULL;

	if ((conn->flags & WEIRI_CONN_CHARGED) && !weiri_conn_has_room(conn) &&
	    weiri_payer_stops(conn, weiri_payer_wants(conn)))
		return;
	/* Behind those who wait, unless it needs nothing they do. */
	if (!weiri_net_is_short(loop) || weiri_conn_has_room(conn)) {
		buffer = weiri_conn_room(conn, &offset, &room);
		if (buffer == NULL) {
			weiri_loop_flush(loop);
			/* What it sent may have armed a receive, which is
			 * first then. */
			if (!uring_may_hand_on(conn) ||
			    conn->interest & URING_ARMED)
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
	weiri_uring_tune(conn);
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
			weiri_uring_stash(conn, slice);
		else
			weir_buffer_release(buffer);
		if (conn->state == WEIRI_CONN_LINGERING)
			weiri_conn_discarded(conn);
		else if (WEIR_UNLIKELY(conn->flags & WEIRI_CONN_CHARGED) &&
			 uring_may_hand_on(conn))
			(void)weiri_payer_stops(conn, 0);
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
		weiri_uring_stash(
		    conn, (struct weir_slice){NULL, 0, (uint32_t)-result});
	}
	/* With a stash, the next receive after it says the rest again. */
}

/* Asks for the end of what is armed; again in the next pass if the queue is
 * full, since the peer may never do anything that would end it. */
static void
uring_ask_to_stop(struct weir_conn *conn)
{
	bool asked = true;

	if (conn->interest & URING_ARMED)
		asked = uring_disarm(conn);
	/* Asked once it ends: nothing arms another. */
	if ((conn->interest & (URING_POLLING | URING_UNPOLLED)) ==
	    URING_POLLING) {
		if (weiri_uring_cancel(conn->loop, conn, URING_TAG_POLL))
			conn->interest |= URING_UNPOLLED;
		else
			asked = false;
	}
	if (!asked)
		uring_resume_later(conn);
}

void
weiri_uring_check_stopped(struct weir_conn *conn)
{
	if (!(conn->interest & URING_STOPPING))
		return;
	if (conn->interest & URING_BUSY) {
		uring_ask_to_stop(conn);
		return;
	}
	uring_unresume(conn);
	conn->interest &= (uint8_t)~URING_STOPPING;
	weiri_conn_stopped(conn);
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
	if (WEIR_LIKELY(cqe->flags & IORING_CQE_F_BUFFER)) {
		buffer = weiri_supply_take(supply, cqe);
		if (WEIR_UNLIKELY(buffer == NULL)) {
			weir_conn_abort(conn, WEIR_CLOSE_NO_MEMORY);
			result = -ECANCELED; /* the bytes are lost */
		}
	} else if (result == -ENOBUFS)
		weiri_supply_ran_out(supply);
	uring_arrived(conn, buffer, result);
	weiri_uring_tune(conn);
	weiri_uring_check_stopped(conn);
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
		weiri_uring_discard(conn);
	else if (conn->stash == NULL && uring_may_hand_on(conn))
		uring_readable(conn);
	weiri_uring_tune(conn);
	weiri_uring_check_stopped(conn);
}

void
weiri_uring_cancelled(struct weir_conn *conn)
{
	conn->interest &= (uint8_t)~URING_CANCELLED;
	weiri_uring_tune(conn);
	weiri_uring_check_stopped(conn);
}

void
weiri_uring_conn_receive(struct weir_conn *conn, bool on)
{
	if (!on) {
		conn->interest &= (uint8_t)~URING_WANTED;
	} else {
		conn->interest |= URING_WANTED;
		/* Not from here: the caller is in the middle. */
		if (conn->stash != NULL)
			uring_resume_later(conn);
	}
	weiri_uring_tune(conn);
}

void
weiri_uring_resume(struct weir_loop *loop)
{
	struct weiri_list *resumed = &weiri_uring_of(loop)->resumed;
	struct weiri_list due;

	/* Those for whom the queue is still full join it again. */
	weiri_list_init(&due);
	while (!weiri_list_empty(resumed)) {
		struct weiri_list *first = resumed->next;
		weiri_list_remove(first);
		weiri_list_append(&due, first);
	}
	while (!weiri_list_empty(&due)) {
		struct weir_conn *conn =
		    WEIRI_CONTAINER_OF(due.next, struct weir_conn, waiting);
		uring_unresume(conn);
		if (conn->interest & URING_STOPPING) {
			uring_ask_to_stop(conn);
			continue;
		}
		uring_drain_stash(conn);
		weiri_uring_tune(conn);
	}
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
	if (!weiri_uring_shutdown(conn->loop, conn->fd))
		return false;
	conn->interest |= URING_WANTED;
	weiri_uring_tune(conn);
	return true;
}

bool
weiri_uring_conn_stop(struct weir_conn *conn)
{
	struct weir_loop *loop = conn->loop;

	conn->interest &= (uint8_t)~URING_WANTED;
	uring_drop_stash(conn);
	if (!weiri_uring_of(loop)->ring.dead && conn->interest & URING_BUSY) {
		conn->interest |= URING_STOPPING;
		uring_ask_to_stop(conn);
		return false;
	}
	if (WEIR_UNLIKELY(weiri_conn_awaits(conn)))
		weiri_uring_zero_leave(conn);
	else
		weiri_uring_close(
		    loop, conn->fd, (conn->flags & WEIRI_CONN_ABORT) != 0);
	conn->fd = -1;
	return true;
}
