/* SPDX-License-Identifier: MIT */
/*
 * echo.h - what the contenders without a library have in common: their command
 * line, their listening socket and their end.
 *
 * They hold nothing that the kernel does not clean up, so a signal ends them on
 * the spot, with status 0, and no loop has to look for it.
 */
#ifndef WEIR_CONTENDER_ECHO_H
#define WEIR_CONTENDER_ECHO_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define ECHO_BACKLOG 4096

static void
echo_end(int number)
{
	(void)number;
	_exit(0);
}

/* "--name value" pairs; false on anything else. */
static inline bool
echo_arguments(int argc, char **argv, struct sockaddr_in *address)
{
	address->sin_family = AF_INET;
	address->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	address->sin_port = htons(7700);
	for (int i = 1; i < argc; i += 2) {
		char *end = NULL;
		long value;

		if (i + 1 >= argc)
			return false;
		if (strcmp(argv[i], "--address") == 0) {
			if (inet_pton(
				AF_INET, argv[i + 1], &address->sin_addr) != 1)
				return false;
			continue;
		}
		errno = 0;
		value = strtol(argv[i + 1], &end, 10);
		if (errno != 0 || end == argv[i + 1] || *end != '\0')
			return false;
		if (strcmp(argv[i], "--port") == 0 && value >= 0 &&
		    value <= 65535)
			address->sin_port = htons((uint16_t)value);
		else if (strcmp(argv[i], "--threads") != 0 || value != 1)
			return false;
	}
	return true;
}

static inline void
echo_settle(void)
{
	struct sigaction action = {.sa_handler = echo_end};
	struct rlimit limit;

	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

/* Listens where the command line says and tells it; exits if it cannot. */
static inline int
echo_listen(int argc, char **argv)
{
	struct sockaddr_in address = {0};
	socklen_t bytes = sizeof(address);
	char text[INET_ADDRSTRLEN];
	int yes = 1;
	int fd;

	if (!echo_arguments(argc, argv, &address)) {
		fprintf(stderr,
		    "usage: %s [--address A] [--port P] [--threads 1]\n",
		    argv[0]);
		exit(2);
	}
	echo_settle();
	fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) != 0 ||
	    bind(fd, (const struct sockaddr *)&address, sizeof(address)) != 0 ||
	    listen(fd, ECHO_BACKLOG) != 0 ||
	    getsockname(fd, (struct sockaddr *)&address, &bytes) != 0) {
		fprintf(stderr, "%s: cannot listen: %s\n", argv[0],
		    strerror(errno));
		exit(1);
	}
	printf("listening on %s:%u\n",
	    inet_ntop(AF_INET, &address.sin_addr, text, sizeof(text)),
	    (unsigned)ntohs(address.sin_port));
	fflush(stdout);
	return fd;
}

static inline void
echo_no_delay(int fd)
{
	int yes = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
}

#endif /* WEIR_CONTENDER_ECHO_H */
