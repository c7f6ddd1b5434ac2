/* SPDX-License-Identifier: MIT */
/*
 * uring.c - the back end over Linux io_uring: its loop and listeners.
 *
 * Bytes come in by multishot receives: armed once, they bring a completion and
 * a buffer of the loop's supply (supply.c) each time there is something, so a
 * packet costs neither a call to learn of it nor one to fetch it.  What that
 * means for a connection is in uring_conn.c.  The sends of a pass go out in one
 * call (uring_send.c).
 *
 * Only the poll, the accept and the cancel are always there; the rest are
 * features (ring_probe.c).  Without buffers to pick from a poll says that there
 * are bytes, and recv() fetches them; without multishot each receive or accept
 * is armed anew.
 */
#include "net/uring.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define URING_ENTRIES 512
/* A crowd's completions; more than fit are kept by the kernel, at a price. */
#define URING_COMPLETIONS 4096

/* Buffers for those who send little, and for those who fill large ones. */
#define URING_SMALL 512
#define URING_LARGE 8
#define URING_SHARED 16 /* of 64 KiB, which many receives share */

/* Connections accepted or refused by calls before the rest has its turn. */
#define URING_ACCEPTS 64

/* Completions ahead of the current one whose connection is fetched. */
#define URING_AHEAD 2

/* ---- entries --------------------------------------------------------- */

struct io_uring_sqe *
weiri_uring_entry(struct weir_loop *loop, uint8_t opcode, int fd,
    const void *handle, enum uring_tag tag)
{
	struct io_uring_sqe *entry =
	    weiri_ring_entry(&weiri_uring_of(loop)->ring);

	if (WEIR_UNLIKELY(entry == NULL))
		return NULL;
	entry->opcode = opcode;
	entry->fd = fd;
	entry->user_data = weiri_uring_data(handle, tag);
	if (WEIR_UNLIKELY(weiri_fd_is_direct(fd))) {
		entry->fd = weiri_fd_direct(fd);
		entry->flags = IOSQE_FIXED_FILE;
	}
	return entry;
}

struct io_uring_sqe *
weiri_uring_cancel(
    struct weir_loop *loop, const void *handle, enum uring_tag tag)
{
	struct io_uring_sqe *entry = weiri_uring_entry(
	    loop, IORING_OP_ASYNC_CANCEL, -1, NULL, URING_TAG_NONE);

	if (entry != NULL)
		entry->addr = weiri_uring_data(handle, tag);
	return entry;
}

bool
weiri_uring_poll(struct weir_loop *loop, int fd, uint32_t events,
    const void *handle, enum uring_tag tag)
{
	struct io_uring_sqe *entry =
	    weiri_uring_entry(loop, IORING_OP_POLL_ADD, fd, handle, tag);

	if (entry == NULL)
		return false;
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	events = events << 16 | events >> 16; /* once was a 16-bit field */
#endif
	entry->poll32_events = events;
	return true;
}

/* ---- listeners ------------------------------------------------------- */

static bool
uring_accept_arm(struct weir_listener *listener)
{
	struct uring *uring = weiri_uring_of(listener->loop);
	bool direct = uring->direct < uring->table;
	struct io_uring_sqe *entry =
	    weiri_uring_entry(listener->loop, IORING_OP_ACCEPT, listener->fd,
		listener, direct ? URING_TAG_DIRECT : URING_TAG_MAIN);

	if (entry == NULL)
		return false;
	/* Beside a full table one by one: there may be a place for the next. */
	if (listener->loop->net->features & WEIR_NET_MULTISHOT_ACCEPT &&
	    (direct || uring->table == 0))
		entry->ioprio = IORING_ACCEPT_MULTISHOT;
	entry->accept_flags = SOCK_NONBLOCK;
	if (direct)
		entry->file_index = IORING_FILE_INDEX_ALLOC;
	else
		entry->accept_flags |= SOCK_CLOEXEC;
	uring->accepts++;
	return true;
}

static bool
uring_accept_watch(struct weir_listener *listener)
{
	if (!weiri_uring_poll(
		listener->loop, listener->fd, POLLIN, listener, URING_TAG_POLL))
		return false;
	weiri_uring_of(listener->loop)->accepts++;
	return true;
}

static int
uring_listener_start(struct weir_listener *listener)
{
	return uring_accept_arm(listener) ? 0 : -ENOMEM;
}

static void
uring_listener_stop(struct weir_listener *listener)
{
	static const enum uring_tag tags[] = {
	    URING_TAG_MAIN, URING_TAG_POLL, URING_TAG_DIRECT};

	for (size_t i = 0; i < WEIRI_COUNT_OF(tags); i++) {
		struct io_uring_sqe *entry =
		    weiri_uring_cancel(listener->loop, listener, tags[i]);
		if (entry != NULL)
			entry->cancel_flags = IORING_ASYNC_CANCEL_ALL;
	}
}

/* Until then the kernel keeps the closed socket listening, and may have
 * accepted what nobody would close.  An accept that is just being served cannot
 * be found, so it is asked for anew; the answer ends the next wait. */
static bool
uring_quiet(struct weir_loop *loop)
{
	struct uring *uring = weiri_uring_of(loop);

	if (uring->ring.dead) {
		weiri_uring_salvage(loop);
		return true;
	}
	if (uring->accepts == 0 || !uring->ring.enabled) {
		/* Those that close a place in the table. */
		weiri_uring_close_late(loop);
		if (uring->ring.enabled)
			(void)weiri_ring_submit(&uring->ring);
		return weiri_uring_zero_over(loop);
	}
	if (weiri_ring_completion(&uring->ring, 0) != NULL)
		return false;
	WEIRI_LIST_FOR(node, &loop->listeners)
	{
		uring_listener_stop(
		    WEIRI_CONTAINER_OF(node, struct weir_listener, link));
	}
	return false;
}

/* After a failure the socket is asked with calls of our own until one is
 * accepted or none is left: the kernel looks for a descriptor before it looks
 * for a connection, so an accept armed without one would fail for ever. */
static void
uring_accept_again(struct weir_listener *listener, int error)
{
	bool short_of =
	    error == -EMFILE || error == -ENFILE || error == -EAGAIN;

	for (int i = 0; i < URING_ACCEPTS; i++) {
		if (!weiri_listener_failed(listener, error))
			break;
		int fd = accept4(
		    listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		error = fd < 0 ? -errno : 0;
		short_of = error == -EMFILE || error == -ENFILE ||
			   (short_of && fd < 0);
		if (fd >= 0) {
			weiri_listener_accepted(listener, fd);
			break;
		}
	}
	if (!listener->accepting)
		return;
	if (!(short_of ? uring_accept_watch(listener)
		       : uring_accept_arm(listener)))
		weiri_listener_pause(listener, "accepting paused, queue full");
}

/* An accept into a full table has lost its connection; false: it has not, or it
 * was not that. */
static bool
uring_accept_lost(struct weir_listener *listener, int result)
{
	const struct uring *uring = weiri_uring_of(listener->loop);

	if (result != -ENFILE || uring->direct < uring->table)
		return false;
	weiri_listener_lost_one(listener);
	return true;
}

static void
uring_accepted(struct weir_listener *listener, const struct io_uring_cqe *cqe,
    enum uring_tag tag)
{
	struct uring *uring = weiri_uring_of(listener->loop);
	bool direct = tag == URING_TAG_DIRECT;
	int error = cqe->res < 0 ? cqe->res : -EINTR;
	int fd = direct ? weiri_fd_direct(cqe->res) : cqe->res;

	if (!(cqe->flags & IORING_CQE_F_MORE))
		uring->accepts--;
	if (direct && cqe->res >= 0)
		WEIRI_STORE(&uring->direct, uring->direct + 1);
	if (!listener->accepting) {
		if (cqe->res >= 0)
			weiri_uring_close(listener->loop, fd, true);
		return;
	}
	if (cqe->res >= 0)
		weiri_listener_accepted(listener, fd);
	else if (error == -ECANCELED)
		return; /* by a stop before this start */
	else if (direct && uring_accept_lost(listener, error))
		error = -EINTR; /* the next is none of the table's */
	if (!(cqe->flags & IORING_CQE_F_MORE))
		uring_accept_again(listener, error);
}

static void
uring_accept_watched(struct weir_listener *listener, int result)
{
	weiri_uring_of(listener->loop)->accepts--;
	if (listener->accepting && result != -ECANCELED)
		uring_accept_again(listener, -EINTR);
}

/* ---- the loop -------------------------------------------------------- */

static void
uring_woken(struct weir_loop *loop, const struct io_uring_cqe *cqe)
{
	weiri_socket_woken(loop->wake.fd);
	if (!(cqe->flags & IORING_CQE_F_MORE) &&
	    !weiri_uring_poll(
		loop, loop->wake.fd, POLLIN, &loop->wake, URING_TAG_MAIN))
		weiri_uring_of(loop)->ring.dead =
		    true; /* nothing could stop it */
}

static void
uring_completed(struct weir_loop *loop, const struct io_uring_cqe *cqe)
{
	enum uring_tag tag = cqe->user_data & URING_TAGS;
	/* The first byte of each handle is its kind. */
	uint8_t *handle = (uint8_t *)(uintptr_t)(cqe->user_data - tag);

	if (WEIR_UNLIKELY(tag >= URING_TAG_NONE)) {
		if (tag == URING_TAG_ZERO)
			weiri_uring_zero_notified(loop, cqe);
		else if (cqe->user_data == URING_CLOSED)
			weiri_uring_closed(loop);
		return; /* or read already (uring_send.c) */
	}
	if (WEIR_LIKELY(*handle == WEIRI_HANDLE_CONN)) {
		if (WEIR_LIKELY(tag == URING_TAG_MAIN))
			weiri_uring_received((void *)handle, cqe);
		else if (tag == URING_TAG_WATCH)
			weiri_uring_watched((void *)handle, cqe->res);
		else if (tag == URING_TAG_CANCEL)
			weiri_uring_cancelled((void *)handle);
		else {
			weiri_uring_polled((void *)handle);
			weiri_uring_check_stopped((void *)handle);
		}
	} else if (*handle == WEIRI_HANDLE_LISTENER) {
		if (tag == URING_TAG_POLL)
			uring_accept_watched((void *)handle, cqe->res);
		else
			uring_accepted((void *)handle, cqe, tag);
	} else {
		uring_woken(loop, cqe);
	}
}

static void
uring_fetch_ahead(const struct weiri_ring *ring)
{
	const struct io_uring_cqe *next =
	    weiri_ring_completion(ring, URING_AHEAD);

	if (next != NULL)
		__builtin_prefetch((void *)(uintptr_t)next->user_data);
}

static int
uring_pass(struct weir_loop *loop, int64_t timeout_ns)
{
	struct uring *uring = weiri_uring_of(loop);
	struct weiri_ring *ring = &uring->ring;
	const struct io_uring_cqe *cqe;
	int error;

	if (WEIR_LIKELY(!weiri_net_is_short(loop)))
		for (int i = 0; i < URING_GROUPS; i++)
			if (uring->supply[i].armed > 0) {
				weiri_supply_adapt(&uring->supply[i]);
				weiri_supply_fill(&uring->supply[i], loop);
			}
	if (WEIR_UNLIKELY(uring->late_count > 0))
		weiri_uring_close_late(loop);
	if (!weiri_list_empty(&uring->resumed) || uring->late_count > 0)
		timeout_ns = 0;
	error = weiri_ring_wait(ring, timeout_ns);
	loop->now_ns = weiri_os_now_ns();
	if (WEIR_UNLIKELY(error != 0))
		return error;
	weiri_uring_resume(loop);
	for (uint32_t i = 0; i < loop->net->config.batch; i++) {
		cqe = weiri_ring_completion(ring, 0);
		if (cqe == NULL)
			break;
		uring_fetch_ahead(ring);
		uring_completed(loop, cqe);
		weiri_ring_seen(ring);
	}
	return 0;
}

/* ---- life ------------------------------------------------------------ */

static void
uring_loop_finish(struct weir_loop *loop)
{
	struct uring *uring = weiri_uring_of(loop);

	if (loop->wake.fd >= 0)
		close(loop->wake.fd);
	if (uring == NULL)
		return;
	weiri_ring_close(&uring->ring);
	weiri_uring_free(loop);
	loop->events = NULL;
}

/* Only where memory is not short: they are large, and lent out idle. */
static bool
uring_has_large(const struct weir_net_config *config)
{
	uint64_t all = (uint64_t)URING_LARGE * config->receive_bytes_max;

	return config->receive_bytes_max > config->receive_bytes_min &&
	       (config->buffer_limit_bytes == 0 ||
		   config->buffer_limit_bytes / 16 >= all);
}

/* A buffer for each receive, or large ones that many share. */
static int
uring_open_small(struct weir_loop *loop, struct uring *uring)
{
	struct weiri_supply *supply = &uring->supply[URING_GROUP_SMALL];
	uint32_t least = loop->net->config.receive_bytes_min;
	int error;

	if (!(loop->net->features & WEIR_NET_INCREMENTAL))
		return weiri_supply_open(supply, &uring->ring,
		    URING_GROUP_SMALL, URING_SMALL, least, false);
	error = weiri_supply_open(supply, &uring->ring, URING_GROUP_SMALL,
	    URING_SHARED, WEIR_NET_BUFFER_BYTES_MAX, true);
	supply->turn_bytes = least;
	supply->net = loop->net;
	return error;
}

static int
uring_open(struct weir_loop *loop, struct uring *uring)
{
	const struct weir_net_config *config = &loop->net->config;
	uint32_t features = loop->net->features;
	int error = weiri_ring_open(&uring->ring, URING_ENTRIES,
	    URING_COMPLETIONS, (features & WEIR_NET_DEFERRED) != 0);

	if (error == 0)
		weiri_uring_table_open(loop);
	if (!(features & WEIR_NET_BUFFER_RING))
		return error;
	if (error == 0)
		error = uring_open_small(loop, uring);
	if (error == 0 && uring_has_large(config))
		error = weiri_supply_open(&uring->supply[URING_GROUP_LARGE],
		    &uring->ring, URING_GROUP_LARGE, URING_LARGE,
		    config->receive_bytes_max, false);
	return error;
}

static int
uring_loop_start(struct weir_loop *loop)
{
	struct uring *uring = calloc(1, sizeof(*uring));
	int error;

	if (uring == NULL)
		return -ENOMEM;
	uring->ring.fd = -1;
	weiri_list_init(&uring->resumed);
	weiri_uring_zero_init(uring);
	uring->zero_bytes = loop->net->features & WEIR_NET_ZERO_COPY
				? loop->net->config.zero_copy_bytes
				: UINT32_MAX;
	loop->events = uring;
	error = uring_open(loop, uring);
	if (error != 0)
		goto undo;
	loop->wake.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (loop->wake.fd < 0) {
		error = -errno;
		goto undo;
	}
	if (weiri_uring_poll(
		loop, loop->wake.fd, POLLIN, &loop->wake, URING_TAG_MAIN))
		return 0;
	error = -ENOMEM;
undo:
	uring_loop_finish(loop);
	return error;
}

static void
uring_maintain(struct weir_loop *loop)
{
	for (int i = 0; i < URING_GROUPS; i++)
		weiri_supply_maintain(&weiri_uring_of(loop)->supply[i], loop);
}

static void
uring_wake(struct weir_loop *loop)
{
	weiri_socket_wake(loop->wake.fd);
}

const struct weiri_backend weiri_backend_uring = {
    .name = "io_uring",
    .works = weiri_ring_probe,
    .loop_start = uring_loop_start,
    .loop_finish = uring_loop_finish,
    .listener_start = uring_listener_start,
    .listener_stop = uring_listener_stop,
    .conn_start = weiri_uring_conn_start,
    .conn_stop = weiri_uring_conn_stop,
    .conn_receive = weiri_uring_conn_receive,
    .conn_feed = weiri_uring_conn_feed,
    .conn_send = weiri_uring_conn_send,
    .sends_end = weiri_uring_sends_end,
    .conn_linger = weiri_uring_conn_linger,
    .conn_delivered = weiri_uring_conn_delivered,
    .conn_moved = weiri_uring_zero_moved,
    .refuse = weiri_uring_refuse,
    .quiet = uring_quiet,
    .wait = uring_pass,
    .wake = uring_wake,
    .maintain = uring_maintain,
};
