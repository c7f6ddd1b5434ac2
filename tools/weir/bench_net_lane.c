/* SPDX-License-Identifier: MIT */
/*
 * bench_net_lane.c - one server with clients of its own.
 */
#include "bench_net.h"

#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LANE_REPORT_BYTES 65536
#define LANE_REPORT_MS 500 /* a server answers a signal within */

const struct net_backend net_backends[2] = {
    {DEMO_weir_epoll, "epoll"}, {DEMO_weir_uring, "io_uring"}};

static bool
lane_connect(struct bench_net *net, struct net_lane *lane, enum demo_id id)
{
	const struct load_report *report;
	int error;

	if (id == NET_TWIN)
		error = net_twin_start(
		    &lane->server, &lane->set, lane->why, sizeof(lane->why));
	else
		error = demo_server_start(&lane->server, &lane->set, id, NULL,
		    lane->why, sizeof(lane->why));
	if (error != 0)
		return false;
	error = demo_client_start(&lane->client, &lane->set, &lane->server);
	if (error == 0)
		error = demo_client_connect(&lane->client);
	if (error != 0) {
		snprintf(lane->why, sizeof(lane->why), "no client: %s",
		    strerror(-error));
		return false;
	}
	report = &lane->client.result->report;
	if (report->connected == lane->set.connections)
		return true;
	snprintf(lane->why, sizeof(lane->why),
	    "%" PRIu32 " of %" PRIu64 " connections were made",
	    report->connected, lane->set.connections);
	net->failed = true;
	return false;
}

bool
net_lane_start(struct bench_net *net, struct net_lane *lane, enum demo_id id,
    uint64_t connections, uint64_t size, const char *const *options)
{
	memset(lane, 0, sizeof(*lane));
	lane->client.orders = -1;
	lane->set.connections = lane->set.active = connections;
	lane->set.size = size;
	lane->set.depth = 1;
	lane->set.pinned = net->pinned;
	lane->set.directory = net->set->directory;
	lane->set.directory_given = net->set->directory_given;
	lane->set.serve_options = options;
	lane->connected = lane_connect(net, lane, id);
	if (!lane->connected)
		net_lane_stop(lane);
	return lane->connected;
}

double
net_lane_run(struct bench_net *net, struct net_lane *lane, uint64_t duration_ns)
{
	const struct load_report *report;

	if (!lane->connected ||
	    demo_client_run(&lane->client, duration_ns / 4, duration_ns) != 0)
		return 0;
	report = &lane->client.result->report;
	if (load_errors(report) != 0 || report->mismatches != 0) {
		snprintf(lane->why, sizeof(lane->why),
		    "%" PRIu64 " errors, %" PRIu64 " wrong answers",
		    load_errors(report), report->mismatches);
		net->failed = true;
		return 0;
	}
	return (double)report->packets * 1e9 / (double)report->elapsed_ns;
}

double
net_lane_cpu_us(const struct net_lane *lane)
{
	const struct demo_result *result = lane->client.result;
	double ns;

	if (!lane->connected)
		return NAN;
	ns = (double)result->server_cpu_ns + (double)result->softirq_cpu_ns;
	return ns / 1e3 / (double)result->report.packets;
}

/* The first number behind each "buffer NAME", which is what is in use. */
static int64_t
lane_sum_buffers(const char *text)
{
	static const char name[] = "buffer net.buffers/";
	int64_t sum = -1;

	while ((text = strstr(text, name)) != NULL) {
		text += sizeof(name) - 1;
		text += strcspn(text, " \n");
		sum = (sum < 0 ? 0 : sum) + strtoll(text, NULL, 10);
	}
	return sum;
}

int64_t
net_lane_buffers(const struct net_lane *lane)
{
	char *text = malloc(LANE_REPORT_BYTES);
	size_t used = 0;
	int64_t sum;

	if (text == NULL)
		return -1;
	kill(lane->server.pid, SIGUSR1);
	for (int wait = LANE_REPORT_MS; used < LANE_REPORT_BYTES - 1;
	     wait = 50) {
		struct pollfd ready = {
		    .fd = lane->server.output, .events = POLLIN};
		ssize_t bytes;

		if (poll(&ready, 1, wait) <= 0)
			break;
		bytes = read(lane->server.output, text + used,
		    LANE_REPORT_BYTES - 1 - used);
		if (bytes <= 0)
			break;
		used += (size_t)bytes;
	}
	text[used] = '\0';
	sum = lane_sum_buffers(text);
	free(text);
	return sum;
}

void
net_lane_stop(struct net_lane *lane)
{
	demo_client_stop(&lane->client);
	demo_server_stop(&lane->server);
	lane->connected = false;
}
