/* SPDX-License-Identifier: MIT */
/*
 * load_rude.c - clients that are silent, deaf or unfinished.
 *
 * All three are one thing: a connection that sends up to a target and then
 * waits, and that reads or does not.
 *
 *     mode          target                            reads
 *     idle          nothing                           yes
 *     half-open     a piece of a packet               yes
 *     slow-reader   as much as goes, or pump_bytes    no
 *
 * After the window those the server left open behave again: they finish the
 * packet they are in, read, and must get back everything they ever sent.  So a
 * server that throttles by forgetting is found out.
 *
 * What a connection sends follows from its index and the position in its
 * stream (load_pattern.h), so nothing is kept of it.
 */
#include "load_rude.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "load_engine.h"

#define RUDE_BATCH 1024 /* connects before one is seen to be accepted */
#define RUDE_SCRATCH_BYTES ((size_t)64 * 1024)
#define RUDE_TURN 4 /* full buffers one connection sends or reads at a time */
#define RUDE_TICK_NS (LOAD_NS_PER_S / 20) /* so that `stop` is seen soon */

/* What a slow reader takes at a time once it reads. */
#define RUDE_HEARS_BYTES (256 * 1024)

struct rude_conn {
	int fd; /* -1: not connected, or lost */
	uint32_t index;
	uint32_t events; /* registered */
	bool connecting;
	bool reads;
	uint64_t sent; /* bytes of its stream */
	uint64_t received;
	uint64_t target;
};

struct rude {
	const struct rude_config *config;
	struct rude_report *report;
	struct rude_conn *conns;
	struct load_pattern *pattern;
	unsigned char *scratch;
	int epoll;
	uint32_t connecting;
	uint32_t live;
	uint32_t owed;        /* connections still to recover */
	uint64_t begun_ns;    /* of the window */
	uint64_t progress_ns; /* any byte moved */
	bool window;
	bool recovering;
};

/* ---- a connection ---------------------------------------------------------- */

static bool
rude_stopped(const struct rude *rude)
{
	return rude->config->stop != NULL && *rude->config->stop != 0;
}

static void
rude_watch(struct rude *rude, struct rude_conn *conn)
{
	struct epoll_event event = {.data.u32 = conn->index};
	uint32_t events = EPOLLRDHUP;

	if (conn->reads)
		events |= EPOLLIN;
	if (conn->connecting || conn->sent < conn->target)
		events |= EPOLLOUT;
	if (events == conn->events)
		return;
	event.events = events;
	epoll_ctl(rude->epoll,
	    conn->events == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, conn->fd,
	    &event);
	conn->events = events;
}

static void
rude_close(struct rude *rude, struct rude_conn *conn)
{
	close(conn->fd);
	conn->fd = -1;
	conn->events = 0;
	if (conn->connecting)
		rude->connecting--;
	else
		rude->live--;
	if (rude->recovering)
		rude->owed--;
	conn->connecting = false;
}

/* The server ended it; @error 0 is an orderly end. */
static void
rude_lost(struct rude *rude, struct rude_conn *conn, int error)
{
	struct rude_report *report = rude->report;

	if (conn->connecting)
		report->failed[load_cause_of(error)]++;
	else if (rude->recovering)
		report->unanswered++;
	else if (error == 0)
		report->closed++;
	else
		report->reset++;
	if (!conn->connecting && rude->window && report->first_ns == 0)
		report->first_ns = load_now() - rude->begun_ns;
	rude_close(rude, conn);
}

static void
rude_wrong(struct rude *rude, struct rude_conn *conn)
{
	rude->report->mismatches++;
	rude_close(rude, conn);
}

/* Bytes of the stream from its position on, as many as fit; whole buffers. */
static size_t
rude_fill(const struct rude *rude, const struct rude_conn *conn)
{
	const struct load_pattern *pattern = rude->pattern;
	uint64_t position = conn->sent;
	size_t used = 0;

	while (used < RUDE_SCRATCH_BYTES && position < conn->target) {
		uint32_t offset = (uint32_t)(position % pattern->wire_bytes);
		uint64_t part = pattern->wire_bytes - offset;

		if (part > conn->target - position)
			part = conn->target - position;
		if (part > RUDE_SCRATCH_BYTES - used)
			part = RUDE_SCRATCH_BYTES - used;
		pattern_copy(pattern, conn->index,
		    position / pattern->wire_bytes, offset, (size_t)part,
		    rude->scratch + used);
		used += (size_t)part;
		position += part;
	}
	return used;
}

static void
rude_send(struct rude *rude, struct rude_conn *conn)
{
	for (int turn = 0; turn < RUDE_TURN && conn->sent < conn->target;
	     turn++) {
		size_t bytes = rude_fill(rude, conn);
		ssize_t sent =
		    send(conn->fd, rude->scratch, bytes, MSG_NOSIGNAL);

		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0 && errno == EAGAIN)
			break;
		if (sent < 0) {
			rude_lost(rude, conn, errno);
			return;
		}
		conn->sent += (uint64_t)sent;
		if (rude->window)
			rude->report->sent_bytes += (uint64_t)sent;
		rude->progress_ns = load_now();
		if ((size_t)sent < bytes)
			break;
	}
	rude_watch(rude, conn);
}

static bool
rude_equal(const struct rude *rude, const struct rude_conn *conn, size_t bytes)
{
	const struct load_pattern *pattern = rude->pattern;
	const unsigned char *data = rude->scratch;
	uint64_t position = conn->received;

	if (bytes > conn->sent - conn->received)
		return false; /* nobody asked for those */
	while (bytes > 0) {
		uint32_t offset = (uint32_t)(position % pattern->wire_bytes);
		size_t part = pattern->wire_bytes - offset;

		part = part < bytes ? part : bytes;
		if (!pattern_equal(pattern, conn->index,
			position / pattern->wire_bytes, offset, part, data))
			return false;
		data += part;
		bytes -= part;
		position += part;
	}
	return true;
}

static void
rude_receive(struct rude *rude, struct rude_conn *conn)
{
	for (int turn = 0; turn < RUDE_TURN; turn++) {
		ssize_t bytes =
		    recv(conn->fd, rude->scratch, RUDE_SCRATCH_BYTES, 0);

		if (bytes < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (bytes <= 0) {
			rude_lost(rude, conn, bytes == 0 ? 0 : errno);
			return;
		}
		if (!rude_equal(rude, conn, (size_t)bytes)) {
			rude_wrong(rude, conn);
			return;
		}
		conn->received += (uint64_t)bytes;
		rude->progress_ns = load_now();
		if (rude->recovering && conn->received == conn->target) {
			rude->report->recovered++;
			rude_close(rude, conn);
			return;
		}
		if ((size_t)bytes < RUDE_SCRATCH_BYTES)
			return;
	}
}

static void
rude_connected(struct rude *rude, struct rude_conn *conn)
{
	int error = 0;
	socklen_t bytes = sizeof(error);

	if (getsockopt(conn->fd, SOL_SOCKET, SO_ERROR, &error, &bytes) != 0)
		error = errno;
	if (error != 0) {
		rude_lost(rude, conn, error);
		return;
	}
	conn->connecting = false;
	rude->connecting--;
	rude->live++;
	rude->report->connected++;
	rude_watch(rude, conn);
}

static void
rude_event(struct rude *rude, struct rude_conn *conn, uint32_t events)
{
	if (conn->fd < 0)
		return;
	if (conn->connecting) {
		rude_connected(rude, conn);
		return;
	}
	if (conn->reads && (events & (EPOLLIN | EPOLLERR | EPOLLHUP)) != 0)
		rude_receive(rude, conn);
	else if ((events & (EPOLLERR | EPOLLHUP)) != 0)
		rude_lost(rude, conn, ECONNRESET);
	else if ((events & EPOLLRDHUP) != 0)
		rude_lost(rude, conn, 0);
	if (conn->fd >= 0 && (events & EPOLLOUT) != 0)
		rude_send(rude, conn);
}

static void
rude_poll(struct rude *rude, uint64_t timeout_ns)
{
	struct epoll_event events[LOAD_EVENTS];
	int count = epoll_wait(rude->epoll, events, LOAD_EVENTS,
	    (int)((timeout_ns + 999999) / 1000000));

	for (int i = 0; i < count; i++)
		rude_event(
		    rude, &rude->conns[events[i].data.u32], events[i].events);
}

/* ---- phases ---------------------------------------------------------------- */

static void
rude_open(struct rude *rude, struct rude_conn *conn)
{
	int fd = rude_socket(rude->config);

	if (fd < 0) {
		enum load_cause cause = load_cause_of(-fd);

		rude->report
		    ->failed[cause == LOAD_IO ? LOAD_CONNECT_OTHER : cause]++;
		return;
	}
	conn->fd = fd;
	conn->connecting = true;
	conn->reads = rude->config->mode != LOAD_MODE_SLOW_READER;
	rude->connecting++;
	rude_watch(rude, conn);
}

/* In batches below the usual backlog; queues of accept are first in, first
 * out, so when the probe is answered all before it are accepted. */
static void
rude_connect(struct rude *rude)
{
	uint32_t count = rude->config->connections;
	uint64_t begun = load_now();
	uint32_t index = 0;

	while (index < count && !rude_stopped(rude)) {
		uint64_t limit = load_now() + rude->config->timeout_ns;

		for (uint32_t i = 0; i < RUDE_BATCH && index < count; i++)
			rude_open(rude, &rude->conns[index++]);
		while (rude->connecting > 0 && load_now() < limit &&
		       !rude_stopped(rude))
			rude_poll(rude, RUDE_TICK_NS);
		for (uint32_t i = 0; i < index && rude->connecting > 0; i++)
			if (rude->conns[i].connecting)
				rude_lost(rude, &rude->conns[i], ETIMEDOUT);
		if (rude_probe(rude->config) == 0)
			break;
	}
	rude->report->connect_ns = load_now() - begun;
}

/* A piece of the first packet, not always the same: within the length, up to
 * its end, half of all, all but the last byte. */
static uint64_t
rude_piece(const struct rude *rude, uint32_t index)
{
	uint64_t wire = rude->pattern->wire_bytes;
	const uint64_t pieces[] = {1, LOAD_PACKET_HEADER, wire / 2, wire - 1};
	uint64_t piece = pieces[index % 4];

	return piece < wire ? piece : wire - 1;
}

static void
rude_set_target(struct rude *rude, struct rude_conn *conn)
{
	uint64_t pump = rude->config->pump_bytes;

	switch (rude->config->mode) {
	case LOAD_MODE_SLOW_READER:
		conn->target = pump != 0 ? pump : UINT64_MAX;
		break;
	case LOAD_MODE_HALF_OPEN:
		conn->target = rude_piece(rude, conn->index);
		break;
	default:
		break; /* idle */
	}
}

static void
rude_window(struct rude *rude)
{
	uint64_t duration = rude->config->duration_ns;
	uint64_t now = load_now();
	uint64_t end = duration == 0 ? UINT64_MAX : now + duration;

	rude->begun_ns = now;
	rude->window = true;
	for (uint32_t i = 0; i < rude->config->connections; i++) {
		struct rude_conn *conn = &rude->conns[i];

		if (conn->fd < 0)
			continue;
		rude_set_target(rude, conn);
		rude_watch(rude, conn);
	}
	while (now < end && rude->live > 0 && !rude_stopped(rude)) {
		rude_poll(
		    rude, end - now < RUDE_TICK_NS ? end - now : RUDE_TICK_NS);
		now = load_now();
	}
	rude->window = false;
	rude->report->elapsed_ns = load_now() - rude->begun_ns;
}

static void
rude_count(struct rude *rude)
{
	struct rude_report *report = rude->report;

	for (uint32_t i = 0; i < rude->config->connections; i++) {
		const struct rude_conn *conn = &rude->conns[i];

		if (conn->sent > report->most_bytes)
			report->most_bytes = conn->sent;
		report->open += conn->fd >= 0;
		report->throttled += conn->fd >= 0 && conn->sent < conn->target;
	}
}

/* What is due now: the packet under way, or one if there is none. */
static void
rude_recover(struct rude *rude)
{
	uint64_t wire = rude->pattern->wire_bytes;
	int hears = RUDE_HEARS_BYTES;

	rude->recovering = true;
	rude->owed = rude->live;
	rude->progress_ns = load_now();
	for (uint32_t i = 0; i < rude->config->connections; i++) {
		struct rude_conn *conn = &rude->conns[i];

		if (conn->fd < 0)
			continue;
		conn->target = (conn->sent + wire - 1) / wire * wire;
		if (conn->target == conn->received)
			conn->target += wire;
		conn->reads = true;
		setsockopt(
		    conn->fd, SOL_SOCKET, SO_RCVBUF, &hears, sizeof(hears));
		rude_watch(rude, conn);
	}
	while (rude->owed > 0 && !rude_stopped(rude) &&
	       load_now() - rude->progress_ns < rude->config->timeout_ns)
		rude_poll(rude, RUDE_TICK_NS);
	rude->report->unanswered += rude->owed;
}

/* ---- all of it ------------------------------------------------------------- */

static void
rude_free(struct rude *rude)
{
	for (uint32_t i = 0;
	     rude->conns != NULL && i < rude->config->connections; i++)
		if (rude->conns[i].fd >= 0)
			close(rude->conns[i].fd);
	if (rude->epoll >= 0)
		close(rude->epoll);
	free(rude->conns);
	free(rude->pattern);
	free(rude->scratch);
}

static int
rude_make(struct rude *rude)
{
	uint32_t count = rude->config->connections;

	rude->conns = calloc(count, sizeof(*rude->conns));
	rude->pattern = malloc(sizeof(*rude->pattern));
	rude->scratch = malloc(RUDE_SCRATCH_BYTES);
	if (rude->conns == NULL || rude->pattern == NULL ||
	    rude->scratch == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < count; i++) {
		rude->conns[i].index = i;
		rude->conns[i].fd = -1;
	}
	pattern_init(
	    rude->pattern, rude->config->protocol, rude->config->payload_bytes);
	rude->epoll = epoll_create1(EPOLL_CLOEXEC);
	return rude->epoll < 0 ? -errno : 0;
}

int
rude_run(const struct rude_config *config, struct rude_report *report)
{
	struct rude rude = {.config = config, .report = report, .epoll = -1};
	int error = 0;

	memset(report, 0, sizeof(*report));
	if (config->mode == LOAD_MODE_GARBAGE) {
		error = rude_garbage_run(config, report);
	} else if (config->mode == LOAD_MODE_BROADCAST) {
		error = rude_broadcast_run(config, report);
	} else {
		error = rude_make(&rude);
		if (error == 0) {
			rude_connect(&rude);
			rude_window(&rude);
			rude_count(&rude);
			if (!config->leave && !rude_stopped(&rude))
				rude_recover(&rude);
		}
		rude_free(&rude);
	}
	if (error == 0 && rude_probes(config))
		report->alive_ns = rude_probe(config);
	report->stopped = config->stop != NULL && *config->stop != 0;
	return error;
}
