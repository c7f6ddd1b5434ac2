/* SPDX-License-Identifier: MIT */
/*
 * echo_epoll.c - an echo server on nothing but epoll and malloc.
 *
 *     weir-echo-epoll --port 7700 &
 *     weir load --port 7700
 *
 * A contender of `weir demo` and of `weir bench net`: the least code that
 * serves many connections without falling over.  Level-triggered; for each
 * ready socket a buffer is taken with malloc, filled by one recv, sent, and
 * freed.  Of what the peer does not take, the rest stays in that buffer, and
 * nothing more is received from this peer until it has gone.
 */
#include "echo.h"

#include <sys/epoll.h>

#define ECHO_BUFFER_BYTES 4096
#define ECHO_EVENTS 256

struct echo_connection {
	int fd;
	char *tail; /* NULL: all is sent */
	size_t begin;
	size_t end;
};

static int echo_poll;

static int
echo_watch(int operation, int fd, uint32_t events, void *data)
{
	struct epoll_event event = {.events = events, .data.ptr = data};

	return epoll_ctl(echo_poll, operation, fd, &event);
}

static void
echo_close(struct echo_connection *connection)
{
	close(connection->fd);
	free(connection->tail);
	free(connection);
}

static void
echo_accept(int listener)
{
	for (;;) {
		int fd =
		    accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		struct echo_connection *connection;

		if (fd < 0)
			return;
		connection = calloc(1, sizeof(*connection));
		if (connection == NULL) {
			close(fd);
			return;
		}
		connection->fd = fd;
		echo_no_delay(fd);
		if (echo_watch(EPOLL_CTL_ADD, fd, EPOLLIN, connection) != 0)
			echo_close(connection);
	}
}

/* How much of it went, or -1 if the connection is lost. */
static ssize_t
echo_send(const struct echo_connection *connection, const char *data, size_t n)
{
	ssize_t sent = send(connection->fd, data, n, MSG_NOSIGNAL);

	if (sent < 0 && errno != EAGAIN)
		return -1;
	return sent < 0 ? 0 : sent;
}

static void
echo_receive(struct echo_connection *connection)
{
	char *buffer = malloc(ECHO_BUFFER_BYTES);
	ssize_t bytes, sent;

	if (buffer == NULL) {
		echo_close(connection);
		return;
	}
	bytes = recv(connection->fd, buffer, ECHO_BUFFER_BYTES, 0);
	sent = bytes > 0 ? echo_send(connection, buffer, (size_t)bytes) : bytes;
	if (sent == bytes && bytes > 0) {
		free(buffer);
		return;
	}
	if (bytes > 0 && sent >= 0) {
		connection->tail = buffer;
		connection->begin = (size_t)sent;
		connection->end = (size_t)bytes;
		echo_watch(EPOLL_CTL_MOD, connection->fd, EPOLLOUT, connection);
		return;
	}
	free(buffer);
	if (bytes >= 0 || errno != EAGAIN)
		echo_close(connection);
}

static void
echo_send_tail(struct echo_connection *connection)
{
	ssize_t sent =
	    echo_send(connection, connection->tail + connection->begin,
		connection->end - connection->begin);

	if (sent < 0) {
		echo_close(connection);
		return;
	}
	connection->begin += (size_t)sent;
	if (connection->begin < connection->end)
		return;
	free(connection->tail);
	connection->tail = NULL;
	echo_watch(EPOLL_CTL_MOD, connection->fd, EPOLLIN, connection);
}

int
main(int argc, char **argv)
{
	struct epoll_event events[ECHO_EVENTS];
	int listener = echo_listen(argc, argv);

	echo_poll = epoll_create1(EPOLL_CLOEXEC);
	if (echo_poll < 0) {
		perror(argv[0]);
		return 1;
	}
	echo_watch(EPOLL_CTL_ADD, listener, EPOLLIN, NULL);
	for (;;) {
		int count = epoll_wait(echo_poll, events, ECHO_EVENTS, -1);

		for (int i = 0; i < count; i++) {
			struct echo_connection *connection = events[i].data.ptr;

			if (connection == NULL)
				echo_accept(listener);
			else if (connection->tail != NULL)
				echo_send_tail(connection);
			else
				echo_receive(connection);
		}
	}
}
