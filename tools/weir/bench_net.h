/* SPDX-License-Identifier: MIT */
/*
 * bench_net.h - `weir bench net`: the engine's figures, each with its target.
 *
 *     bench_net.c          the crowds: processor time, latency, who is best
 *     bench_net_lane.c     one server with clients of its own
 *     bench_net_twin.c     the engine with 64 KiB from malloc a read
 *     bench_net_memory.c   what connections hold, what stays after a burst, what
 *                          a pool saves
 *     bench_net_harm.c     slow readers, and a ring that is too small
 *     bench_net_limits.c   a test of the limits, run for its verdict
 *     bench_net_table.c    the figures for people
 *
 * A figure is five rows of one case: what it is about, the target, what was
 * measured, the same of a bare server where there is one, and the verdict.  The
 * rows of the crowds themselves stand beside them.  A figure that cannot be
 * measured counts as short and says why.  Where one is asked for by name, what is
 * measured with it is shown, too.
 */
#ifndef WEIR_TOOL_BENCH_NET_H
#define WEIR_TOOL_BENCH_NET_H

#include "bench.h"
#include "demo.h"
#include "demo_stats.h"

struct bench_net {
	const struct bench_settings *set;
	struct bench_rows *rows;
	bool quick;
	bool pinned;
	uint64_t connections; /* of a large crowd: 10,000, or what fits */
	uint64_t slow;        /* who never read: a tenth of that */
	uint64_t run_ns;      /* of one server in one round */
	unsigned rounds;
	bool failed;   /* a server broke, or an answer was wrong */
	double cpu_us; /* of weir over epoll at 100 connections, or NAN */
};

#define BENCH_NET_FIGURES "N1 N2 N3 N4 N5 N6 N7 N8 N9 N10 N11 N12"

#define BENCH_NET_CONNECTIONS 10000u /* what the targets are for */

/* For slow readers to be where they stay: 2 GiB go to the server. */
#define BENCH_NET_SETTLE_NS UINT64_C(40000000000)

/**
 * bench_net_play() - all of it; false if something broke.
 * @connections: of the large crowds; everything else is scaled alike.
 */
bool bench_net_play(const struct bench_settings *set, uint64_t connections,
    bool quick, struct bench_rows *rows);

/**
 * bench_net_print() - the table of figures; nothing if there are none.
 * @page: as Markdown, a part of a page.
 */
void bench_net_print(const struct bench_rows *rows, bool page, FILE *out);

/* ---- figures ------------------------------------------------------------- */

struct bench_net_figure {
	const char *name; /* N1 to N12, and what tells two of them apart */
	const char *peer;
	const char *what;
	const char *unit; /* of target and value */
	double target;
	bool at_least; /* the target is a least value, not a greatest */
	struct demo_spread value; /* count 0: not measured, and */
	const char *why;          /* this is the reason */
	double bare; /* what a bare server reached in its place; 0: none */
};

/* Is @name a figure? */
bool bench_net_knows(const char *name);

/* Is one of these figures asked for?  @names: with blanks between. */
bool bench_net_wants(const struct bench_net *net, const char *names);

void bench_net_add(
    struct bench_net *net, const struct bench_net_figure *figure);

/* A single value, measured @count times. */
struct demo_spread bench_net_single(double value, unsigned count);

/* A row beside the figures. */
void bench_net_row(struct bench_net *net, const char *name, const char *peer,
    const char *metric, const char *unit, struct demo_spread spread);

/* ---- a server with clients of its own: bench_net_lane.c --------------------- */

struct net_lane {
	struct demo_settings set;
	struct demo_server server;
	struct demo_client client;
	bool connected;
	char why[192];
};

/* Starts and connects; false: lane->why says why, and the lane is stopped. */
bool net_lane_start(struct bench_net *net, struct net_lane *lane,
    enum demo_id id, uint64_t connections, uint64_t size,
    const char *const *options);

/* Answers per second of one run; 0 if there was none, or a wrong one. */
double net_lane_run(
    struct bench_net *net, struct net_lane *lane, uint64_t duration_ns);

/* Buffers that server says are in use; -1: it says nothing. */
int64_t net_lane_buffers(const struct net_lane *lane);

/* Processor time a packet in the last run, us. */
double net_lane_cpu_us(const struct net_lane *lane);

void net_lane_stop(struct net_lane *lane);

/* ---- bench_net_twin.c -------------------------------------------------------- */

#define NET_TWIN ((enum demo_id)DEMO_ID_COUNT) /* for net_lane_start() */

/* Starts the twin of the engine; 0, or -errno and @why. */
int net_twin_start(struct demo_server *server, const struct demo_settings *set,
    char *why, size_t why_bytes);

/* ---- the parts ---------------------------------------------------------------- */

void bench_net_memory(struct bench_net *net); /* N5 to N7, N11 */
void bench_net_harm(struct bench_net *net);   /* N8 and N9 */
void bench_net_limits(struct bench_net *net); /* N12 */

/* The two back ends, and how an option names them. */
struct net_backend {
	enum demo_id id;
	const char *name;
};

extern const struct net_backend net_backends[2];

#endif /* WEIR_TOOL_BENCH_NET_H */
