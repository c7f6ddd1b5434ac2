/* SPDX-License-Identifier: MIT */
/*
 * bench_net_harm.c - what those who never read cost the others, and what a ring
 * of buffers that is far too small costs.
 *
 * Two servers of a kind live side by side, one with the harm and one without,
 * and run in turn: a pair is one moment of each.
 */
#include "bench_net.h"

#include <math.h>
#include <string.h>

#include "term.h"

#define HARM_GOOD 100u
#define HARM_SLOW_BYTES (UINT64_C(2) << 20)
#define HARM_QUOTA_BYTES 65536.0 /* of `weir serve`: --send-quota */
#define HARM_ACTIVE 5            /* of how many connections one is */
/* A supply lends the kernel a 32nd of a limited memory at most: 64 buffers of
 * 2 KiB. */
#define HARM_RING_LIMIT "4M"

/* ---- pairs of lanes ------------------------------------------------------------ */

/* How the second does beside the first, by answers per second; rows of both. */
static struct demo_spread
harm_pairs(struct bench_net *net, const char *name, struct net_lane lanes[2],
    const char *const peers[2], unsigned rounds)
{
	double rates[2][BENCH_ROUNDS_MAX];
	double ratios[BENCH_ROUNDS_MAX];
	unsigned used = 0;

	for (unsigned i = 0; i < rounds && demo_stop == 0; i++) {
		/* Nobody is always first. */
		for (unsigned k = 0; k < 2; k++) {
			unsigned which = (i + k) % 2;

			rates[which][used] =
			    net_lane_run(net, &lanes[which], net->run_ns);
		}
		ratios[used] = rates[1][used] / rates[0][used];
		if (isfinite(ratios[used]))
			used++;
	}
	for (int k = 0; k < 2 && used > 0; k++)
		bench_net_row(net, name, peers[k], "packets_s", "1/s",
		    demo_spread(rates[k], used));
	return demo_spread(ratios, used);
}

/* ---- N8: slow readers ---------------------------------------------------------- */

static void
harm_memory(struct bench_net *net, const struct net_backend *backend,
    uint64_t base, uint64_t with)
{
	char name[BENCH_NAME_BYTES];
	char what[BENCH_UNIT_BYTES];
	char number[TERM_NUMBER_BYTES];
	const struct bench_net_figure figure = {
	    .name = name,
	    .peer = demo_contenders[backend->id].name,
	    .what = what,
	    .unit = "MiB",
	    .target =
		((double)base + (double)net->slow * HARM_QUOTA_BYTES * 1.1) /
		1048576.0,
	    .value = bench_net_single((double)with / 1048576.0, 1),
	};

	snprintf(name, sizeof(name), "N8 memory %s", backend->name);
	snprintf(what, sizeof(what), "memory with %s slow readers",
	    term_count(net->slow, number));
	bench_net_add(net, &figure);
}

static void
harm_slow_lanes(struct bench_net *net, const struct net_backend *backend,
    struct net_lane lanes[2], struct bench_net_figure *figure)
{
	char beside[BENCH_NAME_BYTES];
	const char *const peers[2] = {figure->peer, beside};
	struct demo_slow slow = {0};
	struct demo_spread pairs;
	uint64_t base, with;
	char name[BENCH_NAME_BYTES];

	snprintf(beside, sizeof(beside), "%s beside them", figure->peer);
	for (int k = 0; k < 2; k++)
		(void)net_lane_run(net, &lanes[k], net->run_ns);
	base = demo_server_memory(&lanes[1].server);
	if (demo_slow_start(&slow, &lanes[1].set, &lanes[1].server,
		(uint32_t)net->slow, HARM_SLOW_BYTES) != 0)
		return;
	if (!demo_slow_settle(&lanes[1].server, BENCH_NET_SETTLE_NS))
		figure->what = "100 good beside slow readers still at it, "
			       "packets/s";
	snprintf(name, sizeof(name), "slow readers %s", backend->name);
	pairs = harm_pairs(net, name, lanes, peers, net->rounds);
	with = demo_server_memory(&lanes[1].server);
	demo_slow_stop(&slow);
	figure->value = pairs;
	harm_memory(net, backend, base, with);
}

static void
harm_slow(struct bench_net *net, const struct net_backend *backend)
{
	struct net_lane lanes[2];
	char name[BENCH_NAME_BYTES];
	char what[BENCH_UNIT_BYTES];
	char number[TERM_NUMBER_BYTES];
	struct bench_net_figure figure = {
	    .name = name,
	    .peer = demo_contenders[backend->id].name,
	    .what = what,
	    .unit = "x",
	    .target = 0.85,
	    .at_least = true,
	};

	snprintf(name, sizeof(name), "N8 %s", backend->name);
	snprintf(what, sizeof(what),
	    "100 good beside %s slow readers, packets/s",
	    term_count(net->slow, number));
	if (!net_lane_start(
		net, &lanes[0], backend->id, HARM_GOOD, 1024, NULL)) {
		figure.why = lanes[0].why;
	} else if (!net_lane_start(
		       net, &lanes[1], backend->id, HARM_GOOD, 1024, NULL)) {
		figure.why = lanes[1].why;
		net_lane_stop(&lanes[0]);
	} else {
		harm_slow_lanes(net, backend, lanes, &figure);
		if (lanes[1].why[0] != '\0')
			figure.why = lanes[1].why;
		net_lane_stop(&lanes[0]);
		net_lane_stop(&lanes[1]);
	}
	bench_net_add(net, &figure);
}

/* ---- N9: a small ring ---------------------------------------------------------- */

static void
harm_ring(struct bench_net *net)
{
	static const char *const options[] = {
	    "--buffer-limit", HARM_RING_LIMIT, NULL};
	static const char *const peers[2] = {"weir-uring", "weir-uring/64"};
	struct net_lane lanes[2];
	uint64_t active = net->connections / HARM_ACTIVE;
	char what[BENCH_UNIT_BYTES];
	char number[TERM_NUMBER_BYTES];
	struct bench_net_figure figure = {
	    .name = "N9",
	    .peer = "weir-uring",
	    .what = what,
	    .unit = "x",
	    .target = 0.9,
	    .at_least = true,
	};

	snprintf(what, sizeof(what),
	    "a ring of 64 buffers under %s active, packets/s",
	    term_count(active, number));
	if (!net_lane_start(
		net, &lanes[0], DEMO_weir_uring, active, 1024, NULL)) {
		figure.why = lanes[0].why;
	} else if (!net_lane_start(net, &lanes[1], DEMO_weir_uring, active,
		       1024, options)) {
		figure.why = lanes[1].why;
		net_lane_stop(&lanes[0]);
	} else {
		figure.value =
		    harm_pairs(net, "small ring", lanes, peers, net->rounds);
		if (lanes[1].why[0] != '\0')
			figure.why = lanes[1].why;
		net_lane_stop(&lanes[0]);
		net_lane_stop(&lanes[1]);
	}
	bench_net_add(net, &figure);
}

void
bench_net_harm(struct bench_net *net)
{
	for (int b = 0; b < 2 && bench_net_wants(net, "N8"); b++)
		harm_slow(net, &net_backends[b]);
	if (bench_net_wants(net, "N9"))
		harm_ring(net);
}
