/* SPDX-License-Identifier: MIT */
/*
 * bench_net_memory.c - what connections hold, what stays after a burst, and
 * what a pool saves.
 *
 * What a pool saves over a malloc of the right size is less than the noise of a
 * server's figures, so it is computed: what taking and giving back a buffer and
 * a send cost, both ways, in passes as the engine makes them, against the
 * processor time of a packet measured before.  What tracking costs is computed
 * in the same way.
 */
#include "bench_net.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include <weir/buffer.h>
#include <weir/cache.h>

#include "serve.h"

#define MEMORY_PASS 256 /* packets a pass of the engine */
#define MEMORY_PASSES 400
#define MEMORY_PACKET_BYTES 2048
#define MEMORY_OPERATION_BYTES 56
#define MEMORY_IDLE_TARGET 256.0
#define MEMORY_SLOW_BYTES (UINT64_C(2) << 20)
#define MEMORY_BACK_NS UINT64_C(10000000000)
#define MEMORY_BACK_QUICK_NS UINT64_C(2000000000)
#define MEMORY_LOOK_NS UINT64_C(100000000)

/* ---- N5, N11: what a pool saves, what a buffer costs ------------------------ */

struct memory_pools {
	struct weir_buffer_pool *buffers;
	struct weir_cache *operations;
	struct weir_buffer *buffer[MEMORY_PASS];
	void *operation[MEMORY_PASS];
};

static bool
memory_pool_pass(struct memory_pools *pools)
{
	bool all = true;

	for (int i = 0; i < MEMORY_PASS; i++) {
		pools->buffer[i] =
		    weir_buffer_acquire(pools->buffers, MEMORY_PACKET_BYTES);
		pools->operation[i] = weir_cache_alloc(pools->operations);
		if (pools->buffer[i] == NULL || pools->operation[i] == NULL)
			all = false;
		else
			pools->buffer[i]->data[0] = (unsigned char)i;
	}
	for (int i = MEMORY_PASS - 1; i >= 0; i--) {
		weir_buffer_release(pools->buffer[i]);
		weir_cache_free(pools->operations, pools->operation[i]);
	}
	return all;
}

static bool
memory_malloc_pass(struct memory_pools *pools)
{
	const struct weir_net_memory *memory = serve_malloc();
	bool all = true;

	for (int i = 0; i < MEMORY_PASS; i++) {
		pools->buffer[i] =
		    memory->buffer_acquire(MEMORY_PACKET_BYTES, NULL);
		pools->operation[i] = memory->object_alloc(
		    WEIR_NET_OPERATION, MEMORY_OPERATION_BYTES, NULL);
		if (pools->buffer[i] == NULL || pools->operation[i] == NULL)
			all = false;
		else
			pools->buffer[i]->data[0] = (unsigned char)i;
	}
	for (int i = MEMORY_PASS - 1; i >= 0; i--) {
		weir_buffer_release(pools->buffer[i]);
		memory->object_free(
		    WEIR_NET_OPERATION, pools->operation[i], NULL);
	}
	return all;
}

/* Nanoseconds a packet, NAN without memory. */
static double
memory_time(
    struct memory_pools *pools, bool (*pass)(struct memory_pools *pools))
{
	uint64_t begun = demo_clock_ns(CLOCK_THREAD_CPUTIME_ID);

	for (int i = 0; i < MEMORY_PASSES; i++)
		if (!pass(pools))
			return NAN;
	return (double)(demo_clock_ns(CLOCK_THREAD_CPUTIME_ID) - begun) /
	       ((double)MEMORY_PASSES * MEMORY_PASS);
}

static void
memory_costs(struct bench_net *net, struct memory_pools *pools,
    struct bench_net_figure *saved, struct bench_net_figure *tracked)
{
	double pool[BENCH_ROUNDS_MAX];
	double heap[BENCH_ROUNDS_MAX];
	double ratio[BENCH_ROUNDS_MAX];
	double share[BENCH_ROUNDS_MAX];

	(void)memory_time(pools, memory_pool_pass);
	(void)memory_time(pools, memory_malloc_pass);
	for (unsigned i = 0; i < net->rounds; i++) {
		pool[i] = memory_time(pools, memory_pool_pass);
		heap[i] = memory_time(pools, memory_malloc_pass);
		ratio[i] = 1 + (heap[i] - pool[i]) / 1e3 / net->cpu_us;
		share[i] = 100 * pool[i] / 1e3 / net->cpu_us;
	}
	saved->value = demo_spread(ratio, net->rounds);
	tracked->value = demo_spread(share, net->rounds);
	bench_net_row(net, "buffer and send", "weir", "ns_packet", "ns",
	    demo_spread(pool, net->rounds));
	bench_net_row(net, "buffer and send", "malloc", "ns_packet", "ns",
	    demo_spread(heap, net->rounds));
}

static void
memory_pooling(struct bench_net *net)
{
	static struct memory_pools pools;
	const struct weir_cache_config operations = {
	    .object_bytes = MEMORY_OPERATION_BYTES, .prealloc = MEMORY_PASS};
	struct bench_net_figure figure = {
	    .name = "N5 right-sized",
	    .peer = "malloc",
	    .what = "malloc twin vs pool, CPU/packet at 100, computed",
	    .unit = "x",
	    .target = 1.02,
	    .at_least = true,
	    .why = "the crowd of 100 did not run",
	};
	/* Tracking cannot be switched off: its cost is below that of all that
	 * is done with a buffer and a send. */
	struct bench_net_figure tracked = {
	    .name = "N11",
	    .peer = "weir",
	    .what = "leak tracking, and all else done with a buffer",
	    .unit = "%",
	    .target = 1,
	    .why = "the crowd of 100 did not run",
	};
	int error =
	    weir_buffer_pool_create("bench.buffers", NULL, &pools.buffers);

	if (error == 0)
		error = weir_cache_create(
		    "bench.operations", &operations, &pools.operations);
	if (error != 0)
		figure.why = tracked.why = strerror(-error);
	else if (isfinite(net->cpu_us))
		memory_costs(net, &pools, &figure, &tracked);
	bench_net_add(net, &figure);
	bench_net_add(net, &tracked);
	if (pools.operations != NULL)
		weir_cache_destroy(pools.operations);
	weir_buffer_pool_destroy(pools.buffers);
	memset(&pools, 0, sizeof(pools));
}

/* ---- N5: the habit -------------------------------------------------------------- */

/* Pairs of runs at 100 connections: twin over pool. */
static struct demo_spread
memory_habit_pairs(struct bench_net *net, struct net_lane lanes[2])
{
	double ratios[BENCH_ROUNDS_MAX];
	unsigned used = 0;

	for (unsigned i = 0; i < net->rounds && demo_stop == 0; i++) {
		double cpu[2];

		for (unsigned k = 0; k < 2; k++) {
			unsigned which = (i + k) % 2;
			double rate =
			    net_lane_run(net, &lanes[which], net->run_ns);

			cpu[which] =
			    rate > 0 ? net_lane_cpu_us(&lanes[which]) : NAN;
		}
		ratios[used] = cpu[1] / cpu[0];
		if (isfinite(ratios[used]))
			used++;
	}
	return demo_spread(ratios, used);
}

static void
memory_habit(struct bench_net *net)
{
	struct net_lane lanes[2];
	struct bench_net_figure figure = {
	    .name = "N5 64 KB",
	    .peer = "malloc",
	    .what = "64 KB a read, held until sent, vs pool, CPU/packet",
	    .unit = "x",
	    .target = 1.5,
	    .at_least = true,
	};

	if (!net_lane_start(net, &lanes[0], DEMO_weir_epoll, 100, 1024, NULL)) {
		figure.why = lanes[0].why;
	} else if (!net_lane_start(net, &lanes[1], NET_TWIN, 100, 1024, NULL)) {
		figure.why = lanes[1].why;
		net_lane_stop(&lanes[0]);
	} else {
		figure.value = memory_habit_pairs(net, lanes);
		if (lanes[1].why[0] != '\0')
			figure.why = lanes[1].why;
		net_lane_stop(&lanes[0]);
		net_lane_stop(&lanes[1]);
	}
	bench_net_add(net, &figure);
}

/* ---- N6: idle connections ------------------------------------------------------ */

/* Ten thousand more on a server that has served some. */
static void
memory_idle_crowd(struct bench_net *net, struct net_lane *lane,
    struct bench_net_figure *figure)
{
	struct demo_settings set = lane->set;
	struct demo_client crowd;
	uint64_t before = demo_server_memory(&lane->server);
	int64_t held = net_lane_buffers(lane);

	set.connections = net->connections;
	set.active = 1;
	if (demo_client_start(&crowd, &set, &lane->server) != 0)
		return;
	if (demo_client_connect(&crowd) == 0 &&
	    crowd.result->report.connected == net->connections) {
		uint64_t after = demo_server_memory(&lane->server);
		int64_t holds = net_lane_buffers(lane);

		figure->value = bench_net_single(
		    ((double)after - (double)before) / (double)net->connections,
		    1);
		bench_net_row(net, "idle", figure->peer, "memory_mib", "MiB",
		    bench_net_single(
			((double)after - (double)before) / 1048576.0, 1));
		bench_net_row(net, "idle", figure->peer, "buffers", "",
		    bench_net_single((double)(holds - held), 1));
	}
	demo_client_stop(&crowd);
}

static void
memory_idle(struct bench_net *net, const struct net_backend *backend)
{
	struct net_lane lane;
	char name[BENCH_NAME_BYTES];
	struct bench_net_figure figure = {
	    .name = name,
	    .peer = demo_contenders[backend->id].name,
	    .what = "memory of an idle connection of a large crowd",
	    .unit = "B",
	    .target = MEMORY_IDLE_TARGET,
	    .why = "the connections could not be made",
	};

	snprintf(name, sizeof(name), "N6 %s", backend->name);
	if (net_lane_start(net, &lane, backend->id, 64, 1024, NULL)) {
		(void)net_lane_run(net, &lane, MEMORY_LOOK_NS);
		memory_idle_crowd(net, &lane, &figure);
		net_lane_stop(&lane);
	} else {
		figure.why = lane.why;
	}
	bench_net_add(net, &figure);
}

/* ---- N7: after a burst --------------------------------------------------------- */

/* Memory over that of before, once it is low enough or after ten seconds. */
static double
memory_wait(struct bench_net *net, struct net_lane *lane, const char *peer,
    uint64_t before, double target)
{
	uint64_t begun = demo_clock_ns(CLOCK_MONOTONIC);
	uint64_t limit = net->quick ? MEMORY_BACK_QUICK_NS : MEMORY_BACK_NS;
	const struct timespec pause = {.tv_nsec = (long)MEMORY_LOOK_NS};
	double ratio;

	do {
		nanosleep(&pause, NULL);
		/* A server does what it does at its ease in passes. */
		(void)net_lane_run(net, lane, MEMORY_LOOK_NS / 10);
		ratio =
		    (double)demo_server_memory(&lane->server) / (double)before;
	} while (ratio > target && demo_stop == 0 &&
		 demo_clock_ns(CLOCK_MONOTONIC) - begun < limit);
	bench_net_row(net, "after the burst", peer, "seconds", "s",
	    bench_net_single(
		(double)(demo_clock_ns(CLOCK_MONOTONIC) - begun) / 1e9, 1));
	return ratio;
}

static void
memory_burst(struct bench_net *net, const struct net_backend *backend)
{
	struct net_lane lane;
	struct demo_slow slow = {0};
	char name[BENCH_NAME_BYTES];
	struct bench_net_figure figure = {
	    .name = name,
	    .peer = demo_contenders[backend->id].name,
	    .what = "memory within 10 s after slow readers, vs before",
	    .unit = "x",
	    .target = 1.25,
	};

	snprintf(name, sizeof(name), "N7 %s", backend->name);
	if (net_lane_start(net, &lane, backend->id, 100, 1024, NULL)) {
		uint64_t before, peak;

		(void)net_lane_run(net, &lane, MEMORY_LOOK_NS);
		before = demo_server_memory(&lane.server);
		(void)demo_slow_start(&slow, &lane.set, &lane.server,
		    (uint32_t)net->slow, MEMORY_SLOW_BYTES);
		(void)demo_slow_settle(&lane.server, BENCH_NET_SETTLE_NS);
		peak = demo_server_memory(&lane.server);
		demo_slow_stop(&slow);
		bench_net_row(net, "burst", figure.peer, "memory_mib", "MiB",
		    bench_net_single((double)peak / 1048576.0, 1));
		figure.value = bench_net_single(
		    memory_wait(net, &lane, figure.peer, before, figure.target),
		    1);
		net_lane_stop(&lane);
	} else {
		figure.why = lane.why;
	}
	bench_net_add(net, &figure);
}

void
bench_net_memory(struct bench_net *net)
{
	if (bench_net_wants(net, "N5 N11"))
		memory_pooling(net);
	if (bench_net_wants(net, "N5"))
		memory_habit(net);
	for (int b = 0; b < 2 && bench_net_wants(net, "N6"); b++)
		memory_idle(net, &net_backends[b]);
	for (int b = 0; b < 2 && bench_net_wants(net, "N7"); b++)
		memory_burst(net, &net_backends[b]);
}
