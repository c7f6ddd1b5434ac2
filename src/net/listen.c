/* SPDX-License-Identifier: MIT */
/*
 * listen.c - listeners: sockets, accepting, and what to do without room.
 *
 * Without free descriptors the engine's spare one (spare.c) is used to accept a
 * connection and reset it: the peer learns at once, and the queue drains.  Where
 * even that fails, accepting pauses for LISTEN_PAUSE_NS.  Both are counted and
 * warned of.
 *
 * The kernel also reports as errors of accept what befell the connection that
 * would have been accepted; those mean nothing for the next one.  An error that
 * cannot pass ends the listener, with a message.  Whatever is in neither list
 * costs a pause, since a loop must not spin on what it does not know.
 *
 * Listeners belong to their loop and live as long as it does, because their
 * connections use their handlers; weiri_listener_close() closes the socket
 * only.
 */
#include "net/backend.h"

#include "base/text.h"
#include "config/config.h"
#include "net/payer.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define LISTEN_PAUSE_NS (100 * WEIRI_MS)

/* The kernel cuts a longer backlog to its own limit, net.core.somaxconn. */
#define LISTEN_BACKLOG_MAX 65535

/* ---- accepting ------------------------------------------------------- */

static void
listener_count_refused(struct weir_loop *loop)
{
	WEIRI_COUNT(loop, no_descriptor, 1);
	weiri_loop_warn(loop, "connections closed for want of a descriptor",
	    loop->counters.no_descriptor);
}

void
weiri_listener_lost_one(struct weir_listener *listener)
{
	listener_count_refused(listener->loop);
}

/* Undoes what was counted, and resets the socket. */
static void
listener_refuse(struct weir_loop *loop, int fd, uint32_t peer, const char *what)
{
	if (loop->backend->refuse != NULL)
		loop->backend->refuse(loop, fd);
	else
		weiri_socket_reset(fd);
	weiri_peers_leave(&loop->net->peers, peer);
	__atomic_fetch_sub(&loop->net->connections, 1, __ATOMIC_RELAXED);
	WEIRI_COUNT(loop, refused, 1);
	weiri_loop_warn(loop, what, loop->counters.refused);
}

/* False: no memory for it, or it cannot be watched. */
static bool
listener_open(struct weir_listener *listener, int fd, uint32_t peer)
{
	struct weir_loop *loop = listener->loop;
	struct weir_net *net = loop->net;
	struct weir_conn *conn =
	    weiri_net_object(net, WEIR_NET_CONNECTION, net->conn_bytes);

	if (conn == NULL)
		return false;
	memset(conn, 0, sizeof(*conn));
	conn->handle = WEIRI_HANDLE_CONN;
	conn->fd = fd;
	conn->peer = peer & WEIRI_PEERS_MAX;
	conn->hint = net->config.receive_bytes_min;
	conn->loop = loop;
	conn->handlers = &listener->handlers;
	conn->received_ns = loop->now_ns;
	weiri_list_init(&conn->holding);
	weiri_list_init(&conn->held);
	weiri_list_init(&conn->waiting);
	if (loop->backend->conn_start(conn) != 0) {
		weiri_net_object_free(net, WEIR_NET_CONNECTION, conn);
		return false;
	}
	if (net->accounting)
		weiri_payer_begin(conn, listener);
	weiri_list_append(&loop->conns, &conn->member);
	WEIRI_COUNT(loop, connections, 1);
	WEIRI_COUNT(loop, accepted, 1);
	if (conn->handlers->on_accept != NULL)
		conn->handlers->on_accept(conn);
	return true;
}

void
weiri_listener_accepted(struct weir_listener *listener, int fd)
{
	struct weir_loop *loop = listener->loop;
	struct weir_net *net = loop->net;
	const struct weir_net_config *config = &net->config;
	uint32_t peer = 0;

	/* What has no number has not the spare's. */
	if (fd >= 0 && weiri_spare_reclaim(&net->spare, fd)) {
		listener_count_refused(loop);
		return;
	}
	/* Counted first: two loops that accept at the same moment must not both
	 * find room for one. */
	uint64_t count =
	    __atomic_add_fetch(&net->connections, 1, __ATOMIC_RELAXED);
	if (config->connections_max != 0 && count > config->connections_max)
		listener_refuse(
		    loop, fd, peer, "connections refused at the limit");
	else if (config->address_max != 0 &&
		 weiri_peers_enter(
		     &net->peers, fd, config->address_max, &peer) != 0)
		listener_refuse(loop, fd, peer,
		    "connections refused at the limit of one address");
	else if (!listener_open(listener, fd, peer))
		listener_refuse(
		    loop, fd, peer, "connections refused without memory");
}

static void
listener_resume(struct weir_loop *loop, struct weir_timer *timer)
{
	struct weir_listener *listener = timer->context;

	if (listener->fd < 0 || loop->stopping)
		return;
	if (loop->backend->listener_start(listener) == 0)
		listener->accepting = true;
	else
		weir_timer_start(loop, timer, LISTEN_PAUSE_NS);
}

void
weiri_listener_pause(struct weir_listener *listener, const char *what)
{
	struct weir_loop *loop = listener->loop;

	listener->accepting = false;
	loop->backend->listener_stop(listener);
	weir_timer_start(loop, &listener->resume, LISTEN_PAUSE_NS);
	WEIRI_COUNT(loop, accept_pauses, 1);
	weiri_loop_warn(loop, what, loop->counters.accept_pauses);
}

/* Can accept() never again work there?  EINVAL and EOPNOTSUPP may also be about
 * a connection, so the socket is asked. */
static bool
listener_is_lost(const struct weir_listener *listener, int error)
{
	int accepts = 0;
	socklen_t bytes = sizeof(accepts);

	if (error == -EBADF || error == -ENOTSOCK)
		return true;
	if (error != -EINVAL && error != -EOPNOTSUPP)
		return false;
	return getsockopt(listener->fd, SOL_SOCKET, SO_ACCEPTCONN, &accepts,
		   &bytes) != 0 ||
	       accepts == 0;
}

static void
listener_lose(struct weir_listener *listener, int error)
{
	struct weir_loop *loop = listener->loop;
	char line[128];
	struct weiri_text text = {line, sizeof(line), 0};

	weiri_text_str(&text, "net: accepting on port ");
	weiri_text_u64(&text, listener->port);
	weiri_text_str(&text, " ended, its socket is gone: errno ");
	weiri_text_u64(&text, (uint64_t)-error);
	weiri_message(WEIR_MESSAGE_ERROR, line);
	WEIRI_COUNT(loop, listeners_lost, 1);
	if (error == -EBADF || error == -ENOTSOCK) {
		/* The number is nobody's or somebody else's. */
		loop->backend->listener_stop(listener);
		listener->accepting = false;
		listener->fd = -1;
	}
	weiri_listener_close(listener);
}

bool
weiri_listener_failed(struct weir_listener *listener, int error)
{
	/* The kernel looks for a descriptor before it looks for a connection,
	 * so this may well end in EAGAIN. */
	if (error == -EMFILE || error == -ENFILE)
		error = weiri_spare_refuse(
		    &listener->loop->net->spare, listener->fd);
	if (listener_is_lost(listener, error)) {
		listener_lose(listener, error);
		return false;
	}
	switch (-error) {
	case EAGAIN:
		return false;
	case 0:
		listener_count_refused(listener->loop);
		return true;
	case EINTR:
	case ECONNABORTED: /* the peer gave up: the next one may not */
	case EPROTO:
	case ENOPROTOOPT:
	case ENETDOWN:
	case ENETUNREACH:
	case EHOSTDOWN:
	case EHOSTUNREACH:
	case EOPNOTSUPP:
	case ETIMEDOUT:
		return true;
	case EMFILE:
	case ENFILE:
	case ENOBUFS:
	case ENOMEM:
		weiri_listener_pause(listener,
		    "accepting paused, the system is out of resources");
		return false;
	default:
		weiri_listener_pause(
		    listener, "accepting paused after an error");
		return false;
	}
}

/* ---- sockets --------------------------------------------------------- */

union listen_address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

static int
listen_parse(const struct weir_listen_config *config,
    union listen_address *address, socklen_t *bytes)
{
	const char *text =
	    config->address != NULL ? config->address : "127.0.0.1";

	memset(address, 0, sizeof(*address));
	if (inet_pton(AF_INET, text, &address->v4.sin_addr) == 1) {
		address->v4.sin_family = AF_INET;
		address->v4.sin_port = htons(config->port);
		*bytes = sizeof(address->v4);
		return 0;
	}
	if (inet_pton(AF_INET6, text, &address->v6.sin6_addr) == 1) {
		address->v6.sin6_family = AF_INET6;
		address->v6.sin6_port = htons(config->port);
		*bytes = sizeof(address->v6);
		return 0;
	}
	return -EINVAL;
}

static int
listen_option(int fd, int level, int name)
{
	int on = 1;

	return setsockopt(fd, level, name, &on, sizeof(on)) == 0 ? 0 : -errno;
}

static int
listen_prepare(int fd, const struct weir_listen_config *config,
    const union listen_address *address, socklen_t bytes)
{
	uint32_t backlog = config->backlog;
	int error = listen_option(fd, SOL_SOCKET, SO_REUSEADDR);

	if (error == 0 && config->shared)
		error = listen_option(fd, SOL_SOCKET, SO_REUSEPORT);
	/* Accepted sockets inherit it: one system call less for each. */
	if (error == 0)
		error = listen_option(fd, IPPROTO_TCP, TCP_NODELAY);
	if (error != 0)
		return error;
	if (backlog == 0 || backlog > LISTEN_BACKLOG_MAX)
		backlog = LISTEN_BACKLOG_MAX;
	if (bind(fd, &address->any, bytes) != 0 ||
	    listen(fd, (int)backlog) != 0)
		return -errno;
	return 0;
}

static int
listen_socket(const struct weir_listen_config *config, int *out, uint16_t *port)
{
	union listen_address address;
	socklen_t bytes = 0;
	int error = listen_parse(config, &address, &bytes);
	int fd;

	if (error != 0)
		return error;
	fd = socket(address.any.sa_family,
	    SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	error = listen_prepare(fd, config, &address, bytes);
	bytes = sizeof(address);
	if (error == 0 && getsockname(fd, &address.any, &bytes) != 0)
		error = -errno;
	if (error != 0) {
		close(fd);
		return error;
	}
	*port = ntohs(address.any.sa_family == AF_INET ? address.v4.sin_port
						       : address.v6.sin6_port);
	*out = fd;
	return 0;
}

/* ---- life ------------------------------------------------------------ */

int
weir_listen(struct weir_loop *loop, const struct weir_listen_config *config,
    struct weir_listener **out)
{
	struct weir_listener *listener;
	int error;

	*out = NULL;
	for (size_t i = 0; i < WEIRI_COUNT_OF(config->reserved); i++)
		if (config->reserved[i] != 0)
			return -EINVAL;
	if (config->handlers.on_data == NULL)
		return -EINVAL;
	if (loop->stopping || WEIRI_LOAD(&loop->stop_request) != 0)
		return -ESHUTDOWN; /* nothing would close it again */
	listener = calloc(1, sizeof(*listener));
	if (listener == NULL)
		return -ENOMEM;
	listener->handle = WEIRI_HANDLE_LISTENER;
	listener->loop = loop;
	listener->handlers = config->handlers;
	listener->resume.expired = listener_resume;
	listener->resume.context = listener;
	error = weiri_payer_listener_begin(listener, config);
	if (error != 0)
		goto undo_listener;
	error = listen_socket(config, &listener->fd, &listener->port);
	if (error != 0)
		goto undo_account;
	error = loop->backend->listener_start(listener);
	if (error != 0)
		goto undo_socket;
	listener->accepting = true;
	weiri_list_append(&loop->listeners, &listener->link);
	*out = listener;
	return 0;

undo_socket:
	close(listener->fd);
undo_account:
	(void)weiri_payer_listener_end(listener); /* it has no connection */
undo_listener:
	free(listener);
	return error;
}

void
weiri_listener_close(struct weir_listener *listener)
{
	struct weir_loop *loop = listener->loop;

	if (listener->fd < 0)
		return;
	if (listener->accepting)
		loop->backend->listener_stop(listener);
	listener->accepting = false;
	weir_timer_stop(loop, &listener->resume);
	close(listener->fd);
	listener->fd = -1;
}

uint16_t
weir_listener_port(const struct weir_listener *listener)
{
	return listener->port;
}

/* ---- what a connection belongs to ------------------------------------ */

struct weir_loop *
weir_conn_loop(const struct weir_conn *conn)
{
	return conn->loop;
}

void *
weir_conn_context(const struct weir_conn *conn)
{
	return conn->handlers->context;
}

void *
weir_conn_user(const struct weir_conn *conn)
{
	return conn->user;
}

void
weir_conn_set_user(struct weir_conn *conn, void *user)
{
	conn->user = user;
}
