/* SPDX-License-Identifier: MIT */
/*
 * load_connect.c - life of connections: create, connect, lose, destroy.
 *
 * Connecting goes in batches below the usual backlog (4,096).  A completed
 * handshake only says that the kernel has queued the connection; a server that
 * accepts slowly would let the queue overflow, which shows as connects that
 * hang for a second.  So after each batch its last connection sends a packet
 * and waits for the answer: queues of accept are first in, first out, so all
 * before it are accepted too.
 *
 * Every socket closes by reset (SO_LINGER 0).  Ten thousand closes the polite
 * way leave as many ports in TIME_WAIT for a minute, and the third run in that
 * minute finds none free.
 */
#include "load_engine.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define CONNECT_BATCH 1024
/* Connections from one source address: below the 28,232 ports that Linux
 * gives out by default, so that other programs find some too. */
#define CONNECT_PER_SOURCE 20000u

uint64_t
load_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * LOAD_NS_PER_S + (uint64_t)now.tv_nsec;
}

uint64_t
load_raise_descriptors(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		return 1024 - LOAD_SPARE_DESCRIPTORS;
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
		getrlimit(RLIMIT_NOFILE, &limit);
	if (limit.rlim_cur <= LOAD_SPARE_DESCRIPTORS)
		return 0;
	return limit.rlim_cur - LOAD_SPARE_DESCRIPTORS;
}

bool
load_stopped(const struct load *load)
{
	return load->config.stop != NULL && *load->config.stop != 0;
}

enum load_cause
load_cause_of(int error)
{
	switch (error) {
	case ECONNREFUSED:
		return LOAD_REFUSED;
	case ETIMEDOUT:
		return LOAD_CONNECT_TIMEOUT;
	case EADDRNOTAVAIL:
		return LOAD_NO_PORT;
	case EMFILE:
	case ENFILE:
		return LOAD_NO_DESCRIPTOR;
	case ECONNRESET:
	case EPIPE:
		return LOAD_RESET;
	default:
		return LOAD_IO;
	}
}

void
load_lose(struct load *load, struct load_connection *connection,
    enum load_cause cause)
{
	if (connection->connecting) {
		load->connecting--;
		if (cause == LOAD_IO)
			cause = LOAD_CONNECT_OTHER;
	} else {
		load->live--;
	}
	load->in_flight -= load_begun(connection) - connection->recv_packet;
	load->report->errors[cause]++;
	close(connection->fd);
	connection->fd = -1;
	connection->connecting = false;
}

void
load_wait_for(struct load *load, struct load_connection *connection, bool out)
{
	struct epoll_event event = {
	    .events = out ? EPOLLIN | EPOLLOUT : EPOLLIN,
	    .data.u32 = connection->index,
	};

	if (connection->wait_out == out)
		return;
	connection->wait_out = out;
	if (epoll_ctl(load->epoll, EPOLL_CTL_MOD, connection->fd, &event) != 0)
		load_lose(load, connection, LOAD_IO);
}

static bool
connect_is_loopback4(const struct load_config *config)
{
	const struct sockaddr_in *in = (const void *)&config->address;

	return config->address.ss_family == AF_INET &&
	       ntohl(in->sin_addr.s_addr) >> 24 == 127;
}

/* Every CONNECT_PER_SOURCE connections come from an address of their own. */
static int
connect_bind(const struct load *load, int fd, uint32_t index)
{
	struct sockaddr_in source = {.sin_family = AF_INET};
	int yes = 1;

	if (load->config.connections <= CONNECT_PER_SOURCE ||
	    !connect_is_loopback4(&load->config))
		return 0;
	/* The port is then chosen by connect(), which knows the other end. */
	setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &yes, sizeof(yes));
	source.sin_addr.s_addr =
	    htonl(INADDR_LOOPBACK + index / CONNECT_PER_SOURCE);
	return bind(fd, (const struct sockaddr *)&source, sizeof(source));
}

static int
connect_open(struct load *load, struct load_connection *connection)
{
	const struct load_config *config = &load->config;
	const struct linger reset = {.l_onoff = 1, .l_linger = 0};
	struct epoll_event event = {
	    .events = EPOLLIN | EPOLLOUT,
	    .data.u32 = connection->index,
	};
	int yes = 1;
	int fd = socket(config->address.ss_family,
	    SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
	if (connect_bind(load, fd, connection->index) != 0 ||
	    (connect(fd, (const struct sockaddr *)&config->address,
		 config->address_bytes) != 0 &&
		errno != EINPROGRESS) ||
	    epoll_ctl(load->epoll, EPOLL_CTL_ADD, fd, &event) != 0) {
		int error = -errno;
		close(fd);
		return error;
	}
	connection->fd = fd;
	connection->connecting = true;
	connection->wait_out = true;
	load->connecting++;
	return 0;
}

static void
connect_completed(struct load *load, struct load_connection *connection)
{
	int error = 0;
	socklen_t bytes = sizeof(error);

	if (getsockopt(connection->fd, SOL_SOCKET, SO_ERROR, &error, &bytes) !=
	    0)
		error = errno;
	if (error != 0) {
		load_lose(load, connection, load_cause_of(error));
		return;
	}
	connection->connecting = false;
	load->connecting--;
	load->live++;
	load_wait_for(load, connection, false);
}

/* epoll_pwait2() by number: older C libraries lack it, older kernels too. */
static int
connect_epoll(struct load *load, struct epoll_event *events, uint64_t timeout)
{
#ifdef SYS_epoll_pwait2
	struct timespec wait = {
	    .tv_sec = (time_t)(timeout / LOAD_NS_PER_S),
	    .tv_nsec = (long)(timeout % LOAD_NS_PER_S),
	};
	long count = syscall(SYS_epoll_pwait2, load->epoll, events, LOAD_EVENTS,
	    &wait, NULL, (size_t)0);

	if (count >= 0 || errno != ENOSYS)
		return (int)count;
#endif
	/* Rounded down: below a millisecond this polls and is never late. */
	return epoll_wait(
	    load->epoll, events, LOAD_EVENTS, (int)(timeout / 1000000));
}

void
load_poll(struct load *load, uint64_t timeout_ns)
{
	struct epoll_event events[LOAD_EVENTS];
	int count = connect_epoll(load, events, timeout_ns);

	for (int i = 0; i < count; i++) {
		struct load_connection *connection =
		    &load->connections[events[i].data.u32];
		uint32_t happened = events[i].events;

		if (connection->fd < 0)
			continue;
		if (connection->connecting) {
			connect_completed(load, connection);
			continue;
		}
		if ((happened & (EPOLLIN | EPOLLERR | EPOLLHUP)) != 0)
			load_receive(load, connection);
		if ((happened & EPOLLOUT) != 0 && connection->fd >= 0)
			load_send(load, connection, load_now());
	}
}

/* Wait for the handshakes of the connections [first, end). */
static void
connect_finish(struct load *load, uint32_t first, uint32_t end)
{
	uint64_t deadline = load_now() + load->config.timeout_ns;

	while (load->connecting > 0 && load_now() < deadline &&
	       !load_stopped(load))
		load_poll(load, LOAD_NS_PER_S / 10);
	for (uint32_t i = first; i < end; i++)
		if (load->connections[i].connecting)
			load_lose(
			    load, &load->connections[i], LOAD_CONNECT_TIMEOUT);
}

/* True when the server answered on the last live connection of the batch. */
static bool
connect_accepted(struct load *load, uint32_t first, uint32_t end)
{
	uint64_t deadline = load_now() + load->config.timeout_ns;
	struct load_connection *last = NULL;

	for (uint32_t i = first; i < end; i++)
		if (load->connections[i].fd >= 0)
			last = &load->connections[i];
	if (last == NULL)
		return true;
	last->goal = last->recv_packet + 1;
	load_send(load, last, load_now());
	while (last->fd >= 0 && last->recv_packet < last->goal &&
	       !load_stopped(load)) {
		if (load_now() >= deadline) {
			load->report->errors[LOAD_UNANSWERED]++;
			return false;
		}
		load_poll(load, LOAD_NS_PER_S / 10);
	}
	return true;
}

void
load_connect(struct load *load, struct load_report *report)
{
	uint32_t total = load->config.connections;
	uint32_t index = 0;
	bool answers = true;

	memset(report, 0, sizeof(*report));
	load->report = report;
	load->phase = LOAD_IDLE;
	report->elapsed_ns = load_now();
	while (index < total && answers && !load_stopped(load)) {
		uint32_t first = index;

		for (; index < total && index - first < CONNECT_BATCH;
		     index++) {
			int error =
			    connect_open(load, &load->connections[index]);
			if (error == 0)
				continue;
			enum load_cause cause = load_cause_of(-error);
			report->errors[cause == LOAD_IO ? LOAD_CONNECT_OTHER
							: cause]++;
		}
		connect_finish(load, first, index);
		answers = connect_accepted(load, first, index);
	}
	report->elapsed_ns = load_now() - report->elapsed_ns;
	report->connected = load->live;
	report->stopped = load_stopped(load);
}

static bool
connect_config_valid(const struct load_config *config)
{
	if (config->connections == 0 || config->active == 0 ||
	    config->active > config->connections)
		return false;
	if (config->payload_bytes > LOAD_PAYLOAD_MAX ||
	    (config->payload_bytes == 0 && config->protocol == LOAD_RAW))
		return false;
	return config->depth >= 1 && config->depth <= LOAD_DEPTH_MAX;
}

static int
connect_allocate(struct load *load)
{
	uint32_t count = load->config.connections;
	uint32_t active = load->config.active;

	load->connections = calloc(count, sizeof(*load->connections));
	load->active = calloc(active, sizeof(struct load_connection *));
	load->sent_ns =
	    calloc((size_t)active * load->config.depth, sizeof(uint64_t));
	load->out = malloc(LOAD_SCRATCH_BYTES);
	load->in = malloc(LOAD_SCRATCH_BYTES);
	if (load->connections == NULL || load->active == NULL ||
	    load->sent_ns == NULL || load->out == NULL || load->in == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < count; i++) {
		load->connections[i].index = i;
		load->connections[i].fd = -1;
	}
	return 0;
}

int
load_create(struct load **out, const struct load_config *config)
{
	struct load *load;
	int error;

	*out = NULL;
	if (!connect_config_valid(config))
		return -EINVAL;
	load = calloc(1, sizeof(*load));
	if (load == NULL)
		return -ENOMEM;
	load->config = *config;
	load->epoll = -1;
	error = connect_allocate(load);
	if (error != 0)
		goto undo_load;
	load->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (load->epoll < 0) {
		error = -errno;
		goto undo_load;
	}
	pattern_init(&load->pattern, config->protocol, config->payload_bytes);
	*out = load;
	return 0;

undo_load:
	load_destroy(load);
	return error;
}

void
load_destroy(struct load *load)
{
	if (load == NULL)
		return;
	for (uint32_t i = 0;
	     load->connections != NULL && i < load->config.connections; i++)
		if (load->connections[i].fd >= 0)
			close(load->connections[i].fd);
	if (load->epoll >= 0)
		close(load->epoll);
	free(load->connections);
	free(load->active);
	free(load->sent_ns);
	free(load->out);
	free(load->in);
	free(load);
}
