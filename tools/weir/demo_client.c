/* SPDX-License-Identifier: MIT */
/*
 * demo_client.c - a load engine in a process of its own, on command.
 *
 * One process for each contender: descriptors are limited per process, and
 * four times ten thousand connections need more than most limits allow.  The
 * parent sends an order, the client does it and answers with one byte; figures
 * go through shared memory.  The client reads the server's processor time
 * itself at the two ends of the measured window, so no message delay enters.
 */
#include "demo.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define CLIENT_CPU 1
#define CLIENT_TIMEOUT_NS UINT64_C(5000000000)

enum client_kind {
	CLIENT_CONNECT,
	CLIENT_RUN,
};

struct client_order {
	enum client_kind kind;
	uint64_t warmup_ns;
	uint64_t duration_ns;
};

/* What a client process works with. */
struct client {
	struct demo_result *result;
	clockid_t server_clock;
	int softirq_cpu;
	uint64_t rate;
	struct load *load;
};

/* At the window's begin the counters go in negative, at its end they are
 * added: what remains is the difference. */
static void
client_mark(void *context, bool begin)
{
	const struct client *client = context;
	struct demo_result *result = client->result;
	uint64_t sign = begin ? UINT64_MAX : 1;

	result->server_cpu_ns += sign * demo_clock_ns(client->server_clock);
	result->softirq_cpu_ns += sign * demo_softirq_ns(client->softirq_cpu);
	result->busy_ns += sign * demo_busy_ns(client->softirq_cpu >= 0);
}

static void
client_obey(struct client *client, const struct client_order *order)
{
	struct demo_result *result = client->result;
	const struct load_run run = {
	    .warmup_ns = order->warmup_ns,
	    .duration_ns = order->duration_ns,
	    .rate = client->rate,
	    .mark = client_mark,
	    .context = client,
	};

	if (order->kind == CLIENT_CONNECT) {
		load_connect(client->load, &result->report);
		return;
	}
	result->server_cpu_ns = 0;
	result->softirq_cpu_ns = 0;
	result->busy_ns = 0;
	load_run(client->load, &run, &result->report);
}

/* The life of the client process; ends with the parent's end of the socket. */
_Noreturn static void
client_live(struct client *client, const struct load_config *config, int orders)
{
	struct client_order order;
	char done = 0;

	client->result->error = load_create(&client->load, config);
	if (client->result->error != 0)
		_exit(1);
	while (
	    recv(orders, &order, sizeof(order), 0) == (ssize_t)sizeof(order)) {
		client_obey(client, &order);
		if (send(orders, &done, 1, MSG_NOSIGNAL) != 1)
			break;
	}
	load_destroy(client->load);
	_exit(0);
}

static void
client_configure(struct load_config *config, const struct demo_settings *set,
    const struct demo_server *server)
{
	struct sockaddr_in *address = (void *)&config->address;

	memset(config, 0, sizeof(*config));
	address->sin_family = AF_INET;
	address->sin_port = htons(server->port);
	address->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	config->address_bytes = sizeof(*address);
	config->connections = (uint32_t)set->connections;
	config->active = (uint32_t)set->active;
	config->payload_bytes = (uint32_t)set->size;
	config->depth = (uint32_t)set->depth;
	config->timeout_ns = CLIENT_TIMEOUT_NS;
	config->protocol = LOAD_PACKET;
	config->verify = true;
}

_Noreturn static void
client_become(const struct demo_settings *set, const struct demo_server *server,
    struct demo_result *result, int orders, pid_t parent)
{
	struct load_config config;
	struct client client = {
	    .result = result,
	    .server_clock = server->clock,
	    .softirq_cpu = set->pinned ? 0 : -1,
	    .rate = set->rate,
	};

	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL, 0UL, 0UL, 0UL);
	if (getppid() != parent)
		_exit(1);
	signal(SIGINT, SIG_DFL);
	signal(SIGTERM, SIG_DFL);
	if (set->pinned)
		demo_pin(CLIENT_CPU);
	client_configure(&config, set, server);
	client_live(&client, &config, orders);
}

int
demo_client_start(struct demo_client *client, const struct demo_settings *set,
    const struct demo_server *server)
{
	pid_t parent = getpid();
	void *shared;
	int ends[2];
	int error;

	memset(client, 0, sizeof(*client));
	client->orders = -1;
	shared = mmap(NULL, sizeof(*client->result), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		return -errno;
	client->result = shared;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
		error = -errno;
		goto undo_map;
	}
	fflush(NULL); /* or the child would write it once more */
	client->pid = fork();
	if (client->pid < 0) {
		error = -errno;
		goto undo_ends;
	}
	if (client->pid == 0) {
		close(ends[0]);
		client_become(set, server, client->result, ends[1], parent);
	}
	close(ends[1]);
	client->orders = ends[0];
	return 0;

undo_ends:
	close(ends[0]);
	close(ends[1]);
undo_map:
	munmap(shared, sizeof(*client->result));
	memset(client, 0, sizeof(*client));
	client->orders = -1;
	return error;
}

static int
client_wait(const struct demo_client *client)
{
	char done;

	for (;;) {
		struct pollfd ready = {.fd = client->orders, .events = POLLIN};

		if (demo_stop != 0)
			return -EINTR;
		if (poll(&ready, 1, 200) <= 0)
			continue;
		return recv(client->orders, &done, 1, 0) == 1 ? 0 : -EPIPE;
	}
}

static int
client_order(struct demo_client *client, const struct client_order *order)
{
	if (send(client->orders, order, sizeof(*order), MSG_NOSIGNAL) !=
	    (ssize_t)sizeof(*order))
		return -EPIPE;
	return client_wait(client);
}

int
demo_client_connect(struct demo_client *client)
{
	const struct client_order order = {.kind = CLIENT_CONNECT};

	return client_order(client, &order);
}

int
demo_client_run(
    struct demo_client *client, uint64_t warmup_ns, uint64_t duration_ns)
{
	const struct client_order order = {
	    .kind = CLIENT_RUN,
	    .warmup_ns = warmup_ns,
	    .duration_ns = duration_ns,
	};

	return client_order(client, &order);
}

void
demo_client_stop(struct demo_client *client)
{
	if (client->result == NULL)
		return;
	close(client->orders);
	/* It holds nothing that the kernel does not clean up. */
	kill(client->pid, SIGKILL);
	waitpid(client->pid, NULL, 0);
	munmap(client->result, sizeof(*client->result));
	memset(client, 0, sizeof(*client));
	client->orders = -1;
}
