/* SPDX-License-Identifier: MIT */
/*
 * bench_net_twin.c - the engine with the habit of event loops: 64 KiB from
 * malloc for each read, held until the bytes are written.
 *
 * Nobody would serve so, hence it is no option of `weir serve` but a process of
 * the benchmark.
 */
#include "bench_net.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <weir/net.h>

#include "serve.h"

#define TWIN_CPU 0
#define TWIN_READ_BYTES 65536

static struct weir_loop *twin_loop;

static void
twin_end(int number)
{
	(void)number;
	weir_loop_stop(twin_loop, 0);
}

/* The life of the process; its exit status. */
static int
twin_live(int output)
{
	const struct weir_net_config config = {
	    .backend = WEIR_BACKEND_EPOLL,
	    .memory = serve_malloc(),
	    .receive_bytes_min = TWIN_READ_BYTES,
	    .receive_bytes_max = TWIN_READ_BYTES,
	};
	const struct weir_listen_config listen = {
	    .address = "127.0.0.1",
	    .handlers = serve_handlers(SERVE_PACKET, NULL),
	};
	struct sigaction action = {.sa_handler = twin_end};
	struct weir_listener *listener;
	struct weir_net *net;
	char line[64];
	int length;

	if (weir_net_create(&config, &net) != 0 ||
	    weir_loop_create(net, &twin_loop) != 0 ||
	    weir_listen(twin_loop, &listen, &listener) != 0)
		return 1;
	sigaction(SIGTERM, &action, NULL);
	length = snprintf(line, sizeof(line), "listening on 127.0.0.1:%u\n",
	    (unsigned)weir_listener_port(listener));
	if (write(output, line, (size_t)length) != length)
		return 1;
	return weir_loop_run(twin_loop) == 0 ? 0 : 1;
}

int
net_twin_start(struct demo_server *server, const struct demo_settings *set,
    char *why, size_t why_bytes)
{
	pid_t parent = getpid();
	int ends[2];
	int error;

	memset(server, 0, sizeof(*server));
	server->log = -1;
	if (pipe2(ends, O_CLOEXEC) != 0)
		return -errno;
	fflush(NULL); /* or the child would write it once more */
	server->pid = fork();
	if (server->pid == 0) {
		setpgid(0, 0);
		prctl(PR_SET_PDEATHSIG, SIGKILL, 0UL, 0UL, 0UL);
		if (getppid() != parent)
			_exit(1);
		signal(SIGINT, SIG_DFL);
		if (set->pinned)
			demo_pin(TWIN_CPU);
		_exit(twin_live(ends[1]));
	}
	error = server->pid < 0 ? -errno : 0;
	close(ends[1]);
	if (error != 0) {
		close(ends[0]);
		server->pid = 0;
		return error;
	}
	setpgid(server->pid, server->pid); /* whoever is first */
	server->output = ends[0];
	error = demo_server_greeted(server);
	if (error == 0)
		return 0;
	snprintf(
	    why, why_bytes, "the twin did not start: %s", strerror(-error));
	demo_server_stop(server);
	return error;
}
