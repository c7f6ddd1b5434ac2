/* SPDX-License-Identifier: MIT */
/*
 * load_garbage.c - bytes that are no packets, packets at the edge of what is
 * one, and connections that end at the wrong moment.
 *
 * Every place plays one kind after the other, each on a connection of its own,
 * and each has a due outcome: what is a packet must come back byte for byte,
 * what is none must be closed, a reset must do no harm.  Neither in time is
 * "ignored", which a server that waits for 4 GiB to arrive does.
 *
 * Random bytes begin with a bit that no length has, so that their outcome is
 * not random.
 */
#include "load_rude.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "load_engine.h"

#define GARBAGE_LARGEST (LOAD_PACKET_HEADER + LOAD_PAYLOAD_MAX)
#define GARBAGE_TICK_MS 20

#define GARBAGE_DUE(name, key, due, text) RUDE_##due,
#define GARBAGE_KEY(name, key, due, text) #key,
#define GARBAGE_TEXT(name, key, due, text) text,
static const enum rude_due garbage_dues[] = {RUDE_GARBAGE(GARBAGE_DUE)};
static const char *const garbage_keys[] = {RUDE_GARBAGE(GARBAGE_KEY)};
static const char *const garbage_texts[] = {RUDE_GARBAGE(GARBAGE_TEXT)};

enum rude_due
rude_due(enum rude_garbage kind)
{
	return garbage_dues[kind];
}

const char *
rude_key(enum rude_garbage kind)
{
	return garbage_keys[kind];
}

const char *
rude_text(enum rude_garbage kind)
{
	return garbage_texts[kind];
}

/* One place of the crowd; its connections follow one another. */
struct place {
	int fd; /* -1: none */
	uint32_t events;
	bool connecting;
	enum rude_garbage kind;
	uint32_t sent;
	uint32_t received;
	uint64_t limit_ns; /* the outcome has to be there by then */
};

struct garbage {
	const struct rude_config *config;
	struct rude_report *report;
	struct place *places;
	int epoll;
	bool over; /* nothing new is begun */
	uint32_t busy;
	unsigned char bytes[RUDE_GARBAGE_COUNT][GARBAGE_LARGEST];
	uint32_t length[RUDE_GARBAGE_COUNT];
	unsigned char scratch[GARBAGE_LARGEST];
};

/* ---- what is sent ---------------------------------------------------------- */

static void
garbage_length(unsigned char *to, uint32_t length)
{
	to[0] = (unsigned char)(length >> 24);
	to[1] = (unsigned char)(length >> 16);
	to[2] = (unsigned char)(length >> 8);
	to[3] = (unsigned char)length;
}

/* xorshift64*, Vigna 2016: any seed but 0. */
static unsigned char
garbage_random(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return (unsigned char)(*state * UINT64_C(0x2545f4914f6cdd1d) >> 56);
}

static void
garbage_fill(struct garbage *garbage)
{
	static const struct {
		uint32_t length; /* the first four bytes */
		uint32_t bytes;  /* sent in all */
	} shapes[RUDE_GARBAGE_COUNT] = {
	    [RUDE_EMPTY] = {0, LOAD_PACKET_HEADER},
	    [RUDE_LARGEST] = {LOAD_PAYLOAD_MAX, GARBAGE_LARGEST},
	    [RUDE_BYTEWISE] = {60, LOAD_PACKET_HEADER + 60},
	    [RUDE_BEYOND] = {LOAD_PAYLOAD_MAX + 1, 300},
	    [RUDE_NEGATIVE] = {UINT32_MAX, 300},
	    [RUDE_RANDOM] = {0, 300},
	    [RUDE_CUT] = {1000, 500},
	    [RUDE_KNOCK] = {0, 0},
	};
	uint64_t state = garbage->config->seed | 1;

	for (int i = 0; i < RUDE_GARBAGE_COUNT; i++) {
		unsigned char *bytes = garbage->bytes[i];

		garbage->length[i] = shapes[i].bytes;
		for (uint32_t k = 0; k < shapes[i].bytes; k++)
			bytes[k] = garbage_random(&state);
		if (i != RUDE_RANDOM && i != RUDE_KNOCK)
			garbage_length(bytes, shapes[i].length);
	}
	garbage->bytes[RUDE_RANDOM][0] |= 0x80;
	/* Sixteen in a row. */
	garbage->length[RUDE_EMPTY] = 16 * LOAD_PACKET_HEADER;
	memset(garbage->bytes[RUDE_EMPTY], 0, garbage->length[RUDE_EMPTY]);
}

/* ---- one connection of a place --------------------------------------------- */

static void
place_watch(struct garbage *garbage, struct place *place)
{
	uint32_t events = EPOLLIN | EPOLLRDHUP;
	struct epoll_event event = {.data.ptr = place};

	if (place->connecting || place->sent < garbage->length[place->kind])
		events |= EPOLLOUT;
	if (events == place->events)
		return;
	event.events = events;
	epoll_ctl(garbage->epoll,
	    place->events == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, place->fd,
	    &event);
	place->events = events;
}

static void
place_begin(struct garbage *garbage, struct place *place)
{
	int fd = rude_socket(garbage->config);

	if (fd < 0) {
		enum load_cause cause = load_cause_of(-fd);

		/* The next look at the clock tries again. */
		garbage->report
		    ->failed[cause == LOAD_IO ? LOAD_CONNECT_OTHER : cause]++;
		return;
	}
	place->fd = fd;
	place->events = 0;
	place->connecting = true;
	place->sent = place->received = 0;
	place->limit_ns = load_now() + garbage->config->timeout_ns;
	garbage->busy++;
	place_watch(garbage, place);
}

/* The connection's part is over; the next kind's begins. */
static void
place_end(struct garbage *garbage, struct place *place)
{
	struct rude_report *report = garbage->report;

	close(place->fd);
	place->fd = -1;
	garbage->busy--;
	report->sent_bytes += place->sent;
	if (place->sent > report->most_bytes)
		report->most_bytes = place->sent;
	place->kind =
	    (enum rude_garbage)((place->kind + 1) % RUDE_GARBAGE_COUNT);
}

static void
place_lost(struct garbage *garbage, struct place *place, int error)
{
	struct rude_report *report = garbage->report;

	if (place->connecting) {
		report->failed[load_cause_of(error)]++;
	} else {
		report->kinds[place->kind].closed++;
		report->closed += error == 0;
		report->reset += error != 0;
	}
	place_end(garbage, place);
}

static void
place_late(struct garbage *garbage, struct place *place)
{
	if (place->connecting)
		garbage->report->failed[LOAD_CONNECT_TIMEOUT]++;
	else
		garbage->report->kinds[place->kind].ignored++;
	place_end(garbage, place);
}

static void
place_send(struct garbage *garbage, struct place *place)
{
	uint32_t left = garbage->length[place->kind] - place->sent;
	const unsigned char *from = garbage->bytes[place->kind] + place->sent;
	/* One byte each time the socket is found ready. */
	size_t bytes = place->kind == RUDE_BYTEWISE && left > 0 ? 1 : left;
	ssize_t sent = 0;

	if (bytes > 0)
		sent = send(place->fd, from, bytes, MSG_NOSIGNAL);
	if (sent < 0 && errno != EAGAIN && errno != EINTR) {
		place_lost(garbage, place, errno);
		return;
	}
	place->sent += sent > 0 ? (uint32_t)sent : 0;
	if (place->sent == garbage->length[place->kind] &&
	    rude_due(place->kind) == RUDE_BEAR)
		place_end(garbage, place); /* by reset */
	else
		place_watch(garbage, place);
}

static void
place_receive(struct garbage *garbage, struct place *place)
{
	enum rude_garbage kind = place->kind;
	ssize_t bytes =
	    recv(place->fd, garbage->scratch, sizeof(garbage->scratch), 0);

	if (bytes < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (bytes <= 0) {
		place_lost(garbage, place, bytes == 0 ? 0 : errno);
		return;
	}
	/* To anything that is no packet there is no answer. */
	if (rude_due(kind) != RUDE_ANSWER ||
	    (size_t)bytes > place->sent - place->received ||
	    memcmp(garbage->scratch, garbage->bytes[kind] + place->received,
		(size_t)bytes) != 0) {
		garbage->report->mismatches++;
		place_end(garbage, place);
		return;
	}
	place->received += (uint32_t)bytes;
	if (place->received == garbage->length[kind]) {
		garbage->report->kinds[kind].answered++;
		place_end(garbage, place);
	}
}

static void
place_connected(struct garbage *garbage, struct place *place)
{
	int error = 0;
	socklen_t bytes = sizeof(error);

	if (getsockopt(place->fd, SOL_SOCKET, SO_ERROR, &error, &bytes) != 0)
		error = errno;
	if (error != 0) {
		place_lost(garbage, place, error);
		return;
	}
	place->connecting = false;
	garbage->report->connected++;
	garbage->report->kinds[place->kind].played++;
	place_send(garbage, place);
}

static void
place_event(struct garbage *garbage, struct place *place, uint32_t events)
{
	if (place->connecting) {
		place_connected(garbage, place);
		return;
	}
	if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLERR | EPOLLHUP)) != 0) {
		place_receive(garbage, place);
		if (place->fd < 0)
			return;
	}
	if ((events & EPOLLOUT) != 0)
		place_send(garbage, place);
}

/* ---- all of it ------------------------------------------------------------- */

static void
garbage_poll(struct garbage *garbage)
{
	struct epoll_event events[LOAD_EVENTS];
	int count =
	    epoll_wait(garbage->epoll, events, LOAD_EVENTS, GARBAGE_TICK_MS);

	for (int i = 0; i < count; i++) {
		struct place *place = events[i].data.ptr;

		place_event(garbage, place, events[i].events);
		if (place->fd < 0 && !garbage->over)
			place_begin(garbage, place);
	}
}

/* Who is late; and places whose connect failed at once. */
static void
garbage_look(struct garbage *garbage, uint64_t now)
{
	for (uint32_t i = 0; i < garbage->config->connections; i++) {
		struct place *place = &garbage->places[i];

		if (place->fd >= 0 && now >= place->limit_ns)
			place_late(garbage, place);
		if (place->fd < 0 && !garbage->over)
			place_begin(garbage, place);
	}
}

static void
garbage_play(struct garbage *garbage)
{
	const struct rude_config *config = garbage->config;
	uint64_t begun = load_now();
	uint64_t looked = 0;

	do {
		uint64_t now = load_now();

		garbage->over = (config->stop != NULL && *config->stop != 0) ||
				(config->duration_ns != 0 &&
				    now - begun >= config->duration_ns);
		if (now - looked >= GARBAGE_TICK_MS * UINT64_C(1000000)) {
			garbage_look(garbage, now);
			looked = now;
		}
		garbage_poll(garbage);
	} while (!garbage->over || garbage->busy > 0);
	garbage->report->elapsed_ns = load_now() - begun;
}

int
rude_garbage_run(const struct rude_config *config, struct rude_report *report)
{
	struct garbage *garbage = calloc(1, sizeof(*garbage));
	struct place *places = calloc(config->connections, sizeof(*places));
	int error = -ENOMEM;

	if (garbage == NULL || places == NULL)
		goto done;
	garbage->config = config;
	garbage->report = report;
	garbage->places = places;
	garbage->epoll = epoll_create1(EPOLL_CLOEXEC);
	error = garbage->epoll < 0 ? -errno : 0;
	if (error != 0)
		goto done;
	garbage_fill(garbage);
	for (uint32_t i = 0; i < config->connections; i++) {
		places[i].fd = -1;
		places[i].kind = (enum rude_garbage)(i % RUDE_GARBAGE_COUNT);
	}
	garbage_play(garbage);
	close(garbage->epoll);
done:
	free(places);
	free(garbage);
	return error;
}
