/* SPDX-License-Identifier: MIT */
/*
 * echo_libuv.c - an echo server on libuv, written the usual way.
 *
 *     weir-echo-libuv --port 7700 &
 *     weir load --port 7700
 *
 * A contender of `weir demo`.  It is what libuv's guide and its own tests
 * show: the allocation callback mallocs what libuv suggests (64 KiB), the
 * received buffer is written back as it is, and the write callback frees the
 * buffer and the request.  Nothing is added that would slow it down: no
 * logging, TCP_NODELAY on, one loop.  It echoes bytes as they come, which
 * returns packets byte for byte.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <uv.h>

#define ECHO_BACKLOG 4096

struct echo_write {
	uv_write_t request;
	uv_buf_t buffer;
};

static uv_loop_t *echo_loop;

static void
echo_closed(uv_handle_t *handle)
{
	free(handle);
}

static void
echo_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
	(void)handle;
	buffer->base = malloc(suggested);
	buffer->len = buffer->base == NULL ? 0 : suggested;
}

static void
echo_written(uv_write_t *request, int status)
{
	struct echo_write *write = (struct echo_write *)(void *)request;
	uv_handle_t *handle = (uv_handle_t *)request->handle;

	free(write->buffer.base);
	free(write);
	if (status < 0 && !uv_is_closing(handle))
		uv_close(handle, echo_closed);
}

static void
echo_received(uv_stream_t *stream, ssize_t bytes, const uv_buf_t *buffer)
{
	struct echo_write *write;

	if (bytes <= 0) {
		free(buffer->base);
		if (bytes < 0 && !uv_is_closing((uv_handle_t *)stream))
			uv_close((uv_handle_t *)stream, echo_closed);
		return;
	}
	write = malloc(sizeof(*write));
	if (write == NULL) {
		free(buffer->base);
		uv_close((uv_handle_t *)stream, echo_closed);
		return;
	}
	write->buffer = uv_buf_init(buffer->base, (unsigned)bytes);
	if (uv_write(&write->request, stream, &write->buffer, 1,
		echo_written) != 0) {
		free(buffer->base);
		free(write);
		uv_close((uv_handle_t *)stream, echo_closed);
	}
}

static void
echo_connected(uv_stream_t *listener, int status)
{
	uv_tcp_t *client;

	if (status < 0)
		return;
	client = malloc(sizeof(*client));
	if (client == NULL)
		return;
	uv_tcp_init(echo_loop, client);
	if (uv_accept(listener, (uv_stream_t *)client) != 0) {
		uv_close((uv_handle_t *)client, echo_closed);
		return;
	}
	uv_tcp_nodelay(client, 1);
	uv_read_start((uv_stream_t *)client, echo_alloc, echo_received);
}

static void
echo_terminate(uv_signal_t *handle, int number)
{
	(void)number;
	uv_stop(handle->loop);
}

static int
echo_fail(const char *what, int error)
{
	fprintf(stderr, "weir-echo-libuv: %s: %s\n", what, uv_strerror(error));
	return 1;
}

/* "--name value" pairs; returns false on anything else. */
static int
echo_arguments(int argc, char **argv, const char **address, int *port)
{
	for (int i = 1; i < argc; i += 2) {
		char *end = NULL;
		long value;

		if (i + 1 >= argc)
			return 0;
		if (strcmp(argv[i], "--address") == 0) {
			*address = argv[i + 1];
			continue;
		}
		errno = 0;
		value = strtol(argv[i + 1], &end, 10);
		if (errno != 0 || end == argv[i + 1] || *end != '\0')
			return 0;
		if (strcmp(argv[i], "--port") == 0 && value >= 0 &&
		    value <= 65535)
			*port = (int)value;
		else if (strcmp(argv[i], "--threads") != 0 || value != 1)
			return 0;
	}
	return 1;
}

static void
echo_raise_descriptors(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

/* Binds, listens and prints the address; 0, or an error of libuv. */
static int
echo_listen(uv_tcp_t *listener, const char *address, int port)
{
	struct sockaddr_storage bound;
	struct sockaddr_in wanted;
	int length = sizeof(bound);
	int error = uv_ip4_addr(address, port, &wanted);

	if (error == 0)
		error = uv_tcp_init(echo_loop, listener);
	if (error == 0)
		error =
		    uv_tcp_bind(listener, (const struct sockaddr *)&wanted, 0);
	if (error == 0)
		error = uv_listen(
		    (uv_stream_t *)listener, ECHO_BACKLOG, echo_connected);
	if (error == 0)
		error = uv_tcp_getsockname(
		    listener, (struct sockaddr *)&bound, &length);
	if (error != 0)
		return error;
	const struct sockaddr_in *in = (const void *)&bound;
	printf("listening on %s:%u\n", address, (unsigned)ntohs(in->sin_port));
	return fflush(stdout) == 0 ? 0 : UV_EIO;
}

int
main(int argc, char **argv)
{
	const char *address = "127.0.0.1";
	int port = 7700;
	uv_tcp_t listener;
	uv_signal_t terminate;
	uv_signal_t interrupt;
	int error;

	if (!echo_arguments(argc, argv, &address, &port)) {
		fputs("usage: weir-echo-libuv [--address A] [--port P] "
		      "[--threads 1]\n",
		    stderr);
		return 2;
	}
	echo_raise_descriptors();
	echo_loop = uv_default_loop();
	if (echo_loop == NULL)
		return echo_fail("no loop", UV_ENOMEM);
	uv_signal_init(echo_loop, &terminate);
	uv_signal_init(echo_loop, &interrupt);
	uv_signal_start(&terminate, echo_terminate, SIGTERM);
	uv_signal_start(&interrupt, echo_terminate, SIGINT);
	signal(SIGPIPE, SIG_IGN);
	error = echo_listen(&listener, address, port);
	if (error != 0)
		return echo_fail("cannot listen", error);
	uv_run(echo_loop, UV_RUN_DEFAULT);
	return 0;
}
