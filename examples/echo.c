/* SPDX-License-Identifier: MIT */
/*
 * echo.c - an echo server on weir's engine; bytes come back as they are.
 *
 *     ./echo                     says hello to itself and ends
 *     ./echo 7700                serves until killed
 *     nc 127.0.0.1 7700          ... from another terminal
 */
#include <weir/net.h>

#include <arpa/inet.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* The slice is ours; sending passes it on.  No copy, no count. */
static void
on_data(struct weir_conn *conn, struct weir_slice slice)
{
	(void)weir_conn_send(conn, &slice, 1, NULL);
}

static void *
serve(void *loop)
{
	weir_loop_run(loop);
	return NULL;
}

/* A client of the server in this process. */
static int
hello(uint16_t port)
{
	struct sockaddr_in address = {
	    .sin_family = AF_INET,
	    .sin_port = htons(port),
	    .sin_addr = {htonl(INADDR_LOOPBACK)},
	};
	char back[6] = "";
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (fd < 0 || connect(fd, (void *)&address, sizeof(address)) != 0 ||
	    send(fd, "hello", 5, 0) != 5 || recv(fd, back, 5, MSG_WAITALL) != 5)
		return 1;
	close(fd);
	printf("echo: sent hello, received %s\n", back);
	return strcmp(back, "hello") != 0;
}

int
main(int argc, char **argv)
{
	struct weir_listen_config config = {
	    .port = (uint16_t)(argc > 1 ? atoi(argv[1]) : 0),
	    .handlers = {.on_data = on_data},
	};
	struct weir_net *net;
	struct weir_loop *loop;
	struct weir_listener *listener;
	pthread_t thread;
	int status = 0;

	if (weir_net_create(NULL, &net) != 0 ||
	    weir_loop_create(net, &loop) != 0 ||
	    weir_listen(loop, &config, &listener) != 0) {
		fprintf(stderr, "echo: cannot listen\n");
		return 1;
	}
	pthread_create(&thread, NULL, serve, loop);
	if (argc == 1) {
		status = hello(weir_listener_port(listener));
		weir_loop_stop(loop, 1000);
	}
	pthread_join(thread, NULL);
	weir_loop_destroy(loop);
	weir_net_destroy(net);
	return status;
}
