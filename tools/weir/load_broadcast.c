/* SPDX-License-Identifier: MIT */
/*
 * load_broadcast.c - one speaks, all others must hear it.
 *
 * For servers that hand each packet to every connection.  The speaker is the
 * last one to connect: queues of accept are first in, first out, so when it is
 * heard, all others are there.  It sends a packet, waits until every listener
 * has it, and sends the next; the time until the last one has it is what a
 * broadcast takes.  Whether the speaker hears itself is the server's choice.
 *
 * A listener collects a packet whole and compares it; one that comes twice, is
 * another, or comes before it was sent is a mismatch.
 */
#include "load_rude.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "load_engine.h"

#define BROADCAST_BATCH 1024
#define BROADCAST_TICK_MS 20
#define BROADCAST_SPEAKER 0u /* whose pattern the packets have */

struct listener {
	int fd; /* -1: lost, or not connected */
	bool connecting;
	bool speaks;
	uint32_t used;    /* bytes of the packet under way */
	uint64_t packets; /* the next one's number */
	unsigned char *packet;
};

struct broadcast {
	const struct rude_config *config;
	struct rude_report *report;
	struct load_pattern *pattern;
	struct listener *listeners;
	struct listener *speaker;
	unsigned char *packets; /* of all listeners */
	unsigned char *scratch;
	int epoll;
	uint32_t connecting;
	uint32_t live;  /* listeners, without the speaker */
	uint32_t heard; /* of those: have packet number `sent` - 1 */
	uint64_t sent;  /* packets */
	uint64_t sent_ns;
};

/* ---- a listener ------------------------------------------------------------ */

static void
listener_lose(struct broadcast *broadcast, struct listener *listener, int error)
{
	struct rude_report *report = broadcast->report;

	close(listener->fd);
	listener->fd = -1;
	if (listener->connecting) {
		broadcast->connecting--;
		report->failed[load_cause_of(error)]++;
		return;
	}
	report->closed += error == 0;
	report->reset += error != 0;
	if (listener->speaks)
		return;
	broadcast->live--;
	if (listener->packets == broadcast->sent && broadcast->sent > 0)
		broadcast->heard--;
}

/* A whole packet is there: is it the one that is due? */
static void
listener_heard(struct broadcast *broadcast, struct listener *listener)
{
	struct rude_report *report = broadcast->report;

	listener->used = 0;
	if (listener->packets >= broadcast->sent ||
	    !pattern_equal(broadcast->pattern, BROADCAST_SPEAKER,
		listener->packets, 0, broadcast->pattern->wire_bytes,
		listener->packet)) {
		report->mismatches++;
		listener_lose(broadcast, listener, ECONNRESET);
		return;
	}
	listener->packets++;
	if (listener->speaks)
		return;
	report->delivered++;
	if (listener->packets == broadcast->sent)
		broadcast->heard++;
}

static void
listener_receive(struct broadcast *broadcast, struct listener *listener)
{
	uint32_t wire = broadcast->pattern->wire_bytes;
	const unsigned char *data = broadcast->scratch;
	ssize_t bytes =
	    recv(listener->fd, broadcast->scratch, LOAD_SCRATCH_BYTES, 0);

	if (bytes < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (bytes <= 0) {
		listener_lose(broadcast, listener, bytes == 0 ? 0 : errno);
		return;
	}
	while (bytes > 0 && listener->fd >= 0) {
		size_t part = wire - listener->used;

		part = part < (size_t)bytes ? part : (size_t)bytes;
		memcpy(listener->packet + listener->used, data, part);
		listener->used += (uint32_t)part;
		data += part;
		bytes -= (ssize_t)part;
		if (listener->used == wire)
			listener_heard(broadcast, listener);
	}
}

static void
listener_connected(struct broadcast *broadcast, struct listener *listener)
{
	struct epoll_event event = {
	    .events = EPOLLIN | EPOLLRDHUP, .data.ptr = listener};
	int error = 0;
	socklen_t bytes = sizeof(error);

	if (getsockopt(listener->fd, SOL_SOCKET, SO_ERROR, &error, &bytes) != 0)
		error = errno;
	if (error == 0 && epoll_ctl(broadcast->epoll, EPOLL_CTL_MOD,
			      listener->fd, &event) != 0)
		error = errno;
	if (error != 0) {
		listener_lose(broadcast, listener, error);
		return;
	}
	listener->connecting = false;
	broadcast->connecting--;
	broadcast->report->connected++;
	broadcast->live += !listener->speaks;
}

static void
broadcast_poll(struct broadcast *broadcast, int timeout_ms)
{
	struct epoll_event events[LOAD_EVENTS];
	int count =
	    epoll_wait(broadcast->epoll, events, LOAD_EVENTS, timeout_ms);

	for (int i = 0; i < count; i++) {
		struct listener *listener = events[i].data.ptr;

		if (listener->fd < 0)
			continue;
		if (listener->connecting)
			listener_connected(broadcast, listener);
		else
			listener_receive(broadcast, listener);
	}
}

/* ---- phases ---------------------------------------------------------------- */

static bool
broadcast_stopped(const struct broadcast *broadcast)
{
	return broadcast->config->stop != NULL && *broadcast->config->stop != 0;
}

static void
broadcast_open(struct broadcast *broadcast, struct listener *listener)
{
	struct epoll_event event = {.events = EPOLLOUT, .data.ptr = listener};
	int fd = rude_socket(broadcast->config);

	if (fd >= 0 &&
	    epoll_ctl(broadcast->epoll, EPOLL_CTL_ADD, fd, &event) != 0) {
		int error = -errno;
		close(fd);
		fd = error;
	}
	if (fd < 0) {
		broadcast->report->failed[load_cause_of(-fd)]++;
		return;
	}
	listener->fd = fd;
	listener->connecting = true;
	broadcast->connecting++;
}

/* The next ones up to @end, and their handshakes. */
static void
broadcast_connect(struct broadcast *broadcast, uint32_t first, uint32_t end)
{
	uint64_t limit = load_now() + broadcast->config->timeout_ns;

	for (uint32_t i = first; i < end; i++)
		broadcast_open(broadcast, &broadcast->listeners[i]);
	while (broadcast->connecting > 0 && load_now() < limit &&
	       !broadcast_stopped(broadcast))
		broadcast_poll(broadcast, BROADCAST_TICK_MS);
	for (uint32_t i = first; i < end; i++)
		if (broadcast->listeners[i].connecting)
			listener_lose(
			    broadcast, &broadcast->listeners[i], ETIMEDOUT);
}

static void
broadcast_connect_all(struct broadcast *broadcast)
{
	uint32_t last = broadcast->config->connections - 1;
	uint64_t begun = load_now();

	for (uint32_t at = 0; at < last && !broadcast_stopped(broadcast);
	     at += BROADCAST_BATCH)
		broadcast_connect(broadcast, at,
		    last - at < BROADCAST_BATCH ? last : at + BROADCAST_BATCH);
	broadcast_connect(broadcast, last, last + 1);
	broadcast->report->connect_ns = load_now() - begun;
}

/* The next packet, whole; false: the speaker is gone, or not heard. */
static bool
broadcast_speak(struct broadcast *broadcast)
{
	uint32_t wire = broadcast->pattern->wire_bytes;
	struct listener *speaker = broadcast->speaker;
	uint32_t done = 0;

	broadcast->heard = 0;
	broadcast->sent_ns = load_now();
	broadcast->sent++;
	while (done < wire && speaker->fd >= 0) {
		ssize_t sent;

		pattern_copy(broadcast->pattern, BROADCAST_SPEAKER,
		    broadcast->sent - 1, done, wire - done, broadcast->scratch);
		sent = send(
		    speaker->fd, broadcast->scratch, wire - done, MSG_NOSIGNAL);
		if (sent > 0)
			done += (uint32_t)sent;
		else if (errno != EAGAIN && errno != EINTR)
			listener_lose(broadcast, speaker, errno);
		if (load_now() - broadcast->sent_ns >
		    broadcast->config->timeout_ns)
			return false;
		if (done < wire)
			broadcast_poll(broadcast, 1);
	}
	broadcast->report->sent_bytes += done;
	return speaker->fd >= 0;
}

/* One packet, there and everywhere; false: that was the last. */
static bool
broadcast_one(struct broadcast *broadcast)
{
	struct rude_report *report = broadcast->report;

	if (!broadcast_speak(broadcast))
		return false;
	while (broadcast->heard < broadcast->live) {
		if (load_now() - broadcast->sent_ns >
		    broadcast->config->timeout_ns) {
			report->unanswered +=
			    broadcast->live - broadcast->heard;
			return false;
		}
		if (broadcast_stopped(broadcast))
			return false;
		broadcast_poll(broadcast, BROADCAST_TICK_MS);
	}
	if (broadcast->live == 0)
		return false;
	report->packets++;
	hist_record(&report->last_heard, load_now() - broadcast->sent_ns);
	return true;
}

static void
broadcast_window(struct broadcast *broadcast)
{
	uint64_t duration = broadcast->config->duration_ns;
	uint64_t begun = load_now();

	if (broadcast->live == 0 || broadcast->speaker->fd < 0)
		return;
	while (broadcast_one(broadcast) && !broadcast_stopped(broadcast) &&
	       (duration == 0 || load_now() - begun < duration))
		;
	broadcast->report->elapsed_ns = load_now() - begun;
	broadcast->report->open = broadcast->live;
}

/* ---- all of it ------------------------------------------------------------- */

static int
broadcast_make(struct broadcast *broadcast)
{
	const struct rude_config *config = broadcast->config;
	uint32_t count = config->connections;
	uint32_t wire;

	broadcast->listeners = calloc(count, sizeof(*broadcast->listeners));
	broadcast->pattern = malloc(sizeof(*broadcast->pattern));
	broadcast->scratch = malloc(LOAD_SCRATCH_BYTES);
	if (broadcast->listeners == NULL || broadcast->pattern == NULL ||
	    broadcast->scratch == NULL)
		return -ENOMEM;
	pattern_init(
	    broadcast->pattern, config->protocol, config->payload_bytes);
	wire = broadcast->pattern->wire_bytes;
	broadcast->packets = malloc((size_t)count * wire);
	if (broadcast->packets == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < count; i++) {
		broadcast->listeners[i].fd = -1;
		broadcast->listeners[i].packet =
		    broadcast->packets + (size_t)i * wire;
	}
	broadcast->speaker = &broadcast->listeners[count - 1];
	broadcast->speaker->speaks = true;
	broadcast->epoll = epoll_create1(EPOLL_CLOEXEC);
	return broadcast->epoll < 0 ? -errno : 0;
}

int
rude_broadcast_run(const struct rude_config *config, struct rude_report *report)
{
	struct broadcast broadcast = {
	    .config = config, .report = report, .epoll = -1};
	int error = broadcast_make(&broadcast);

	if (error == 0) {
		broadcast_connect_all(&broadcast);
		broadcast_window(&broadcast);
	}
	for (uint32_t i = 0;
	     broadcast.listeners != NULL && i < config->connections; i++)
		if (broadcast.listeners[i].fd >= 0)
			close(broadcast.listeners[i].fd);
	if (broadcast.epoll >= 0)
		close(broadcast.epoll);
	free(broadcast.listeners);
	free(broadcast.pattern);
	free(broadcast.packets);
	free(broadcast.scratch);
	return error;
}
