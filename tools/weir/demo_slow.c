/* SPDX-License-Identifier: MIT */
/*
 * demo_slow.c - clients that never read, beside those whose packets count.
 *
 * They run in a process of their own, which sends what the server takes and
 * then waits; so once they have settled, what they cost is memory, and the
 * attention a server gives to sockets that cannot be written to.
 */
#include "demo.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "load_rude.h"

#define SLOW_CPU 1
#define SLOW_LOOK_NS UINT64_C(200000000)

_Noreturn static void
slow_live(const struct demo_server *server, uint32_t count, uint64_t bytes)
{
	struct rude_config config = {
	    .mode = LOAD_MODE_SLOW_READER,
	    .protocol = LOAD_PACKET,
	    .connections = count,
	    .payload_bytes = 1024,
	    .pump_bytes = bytes,
	    .timeout_ns = UINT64_C(5000000000),
	    .leave = true,
	};
	struct sockaddr_in *address = (void *)&config.address;
	struct rude_report report;

	address->sin_family = AF_INET;
	address->sin_port = htons(server->port);
	address->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	config.address_bytes = sizeof(*address);
	(void)rude_run(&config, &report);
	/* All were closed, or there was no memory: nothing is left to do. */
	_exit(0);
}

int
demo_slow_start(struct demo_slow *slow, const struct demo_settings *set,
    const struct demo_server *server, uint32_t count, uint64_t bytes)
{
	pid_t parent = getpid();

	fflush(NULL); /* or the child would write it once more */
	slow->pid = fork();
	if (slow->pid < 0) {
		slow->pid = 0;
		return -errno;
	}
	if (slow->pid > 0)
		return 0;
	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL, 0UL, 0UL, 0UL);
	if (getppid() != parent)
		_exit(1);
	signal(SIGINT, SIG_DFL);
	signal(SIGTERM, SIG_DFL);
	if (set->pinned)
		demo_pin(SLOW_CPU);
	slow_live(server, count, bytes);
}

bool
demo_slow_settle(const struct demo_server *server, uint64_t limit_ns)
{
	const struct timespec pause = {.tv_nsec = (long)SLOW_LOOK_NS};
	unsigned rests = 0;

	/* Twice in a row: it may just not have had its turn. */
	for (uint64_t waited = 0; waited < limit_ns && demo_stop == 0;
	     waited += SLOW_LOOK_NS) {
		uint64_t before = demo_clock_ns(server->clock);

		nanosleep(&pause, NULL);
		rests =
		    demo_clock_ns(server->clock) - before < SLOW_LOOK_NS / 20
			? rests + 1
			: 0;
		if (rests >= 2)
			return true;
	}
	return false;
}

void
demo_slow_stop(struct demo_slow *slow)
{
	if (slow->pid == 0)
		return;
	/* The kernel resets its connections. */
	kill(slow->pid, SIGKILL);
	waitpid(slow->pid, NULL, 0);
	slow->pid = 0;
}
