/* SPDX-License-Identifier: MIT */
/*
 * load_probe.c - sockets of clients that do harm, the newcomer who must be
 * served all the same, and the verdict.
 */
#include "load_rude.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <unistd.h>

#include "load_engine.h"

/* A deaf peer's kernel takes the least there is of what comes, and little of
 * what is sent: what counts as sent, the server's side has. */
#define RUDE_DEAF_BYTES 4096
#define RUDE_PUMP_BYTES 65536

int
rude_socket(const struct rude_config *config)
{
	const struct linger reset = {.l_onoff = 1, .l_linger = 0};
	int deaf = RUDE_DEAF_BYTES;
	int pump = RUDE_PUMP_BYTES;
	int yes = 1;
	int fd = socket(config->address.ss_family,
	    SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
	if (config->mode == LOAD_MODE_SLOW_READER) {
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &deaf, sizeof(deaf));
		setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &pump, sizeof(pump));
	}
	if (connect(fd, (const struct sockaddr *)&config->address,
		config->address_bytes) != 0 &&
	    errno != EINPROGRESS) {
		int error = -errno;
		close(fd);
		return error;
	}
	return fd;
}

/* Moves all bytes one way on a socket with time-outs. */
static bool
rude_probe_move(int fd, unsigned char *data, size_t bytes, bool out)
{
	while (bytes > 0) {
		ssize_t moved = out ? send(fd, data, bytes, MSG_NOSIGNAL)
				    : recv(fd, data, bytes, 0);

		if (moved < 0 && errno == EINTR)
			continue;
		if (moved <= 0)
			return false;
		data += moved;
		bytes -= (size_t)moved;
	}
	return true;
}

uint64_t
rude_probe(const struct rude_config *config)
{
	static const unsigned char sent[] = {0, 0, 0, 4, 'w', 'e', 'i', 'r'};
	const struct linger reset = {.l_onoff = 1, .l_linger = 0};
	struct timeval limit = {
	    .tv_sec = (time_t)(config->timeout_ns / LOAD_NS_PER_S),
	    .tv_usec = (suseconds_t)(config->timeout_ns % LOAD_NS_PER_S / 1000),
	};
	unsigned char data[sizeof(sent)];
	uint64_t begun = load_now();
	bool good = false;
	int fd =
	    socket(config->address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return 0;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	memcpy(data, sent, sizeof(sent));
	if (connect(fd, (const struct sockaddr *)&config->address,
		config->address_bytes) == 0 &&
	    rude_probe_move(fd, data, sizeof(sent), true)) {
		memset(data, 0, sizeof(data));
		good = rude_probe_move(fd, data, sizeof(sent), false) &&
		       memcmp(data, sent, sizeof(sent)) == 0;
	}
	close(fd);
	return good ? load_now() - begun : 0;
}

bool
rude_probes(const struct rude_config *config)
{
	return !config->leave && config->mode != LOAD_MODE_BROADCAST;
}

bool
rude_verdict(const struct rude_config *config, const struct rude_report *report)
{
	for (int i = 0; i < LOAD_CAUSE_COUNT; i++)
		if (report->failed[i] != 0)
			return false;
	for (int i = 0; i < RUDE_GARBAGE_COUNT; i++) {
		const struct rude_kind *kind = &report->kinds[i];
		enum rude_due due = rude_due((enum rude_garbage)i);

		if (kind->ignored != 0 ||
		    (due == RUDE_ANSWER && kind->answered < kind->played))
			return false;
	}
	/* Who hears everything is not to be closed. */
	if (config->mode == LOAD_MODE_BROADCAST &&
	    (report->packets == 0 || report->closed + report->reset > 0))
		return false;
	return report->mismatches == 0 && report->unanswered == 0 &&
	       report->connected > 0 &&
	       (!rude_probes(config) || report->alive_ns != 0);
}
