/* SPDX-License-Identifier: MIT */
/*
 * bench_net.c - servers under crowds: who takes how much processor time a
 * packet, and how long a packet takes.
 *
 * A crowd is a run of the demo (demo_play.c): all servers and their clients
 * live through it, and in each round each of them runs for a moment, so that
 * figures of one round may be compared.  The server is pinned to one processor
 * and the client to the other; the time is the server's with ksoftirqd's.
 *
 * What others took of the processors is a row beside the figures.  It makes the
 * kernel's part of a packet dearer for all servers alike, and so moves every
 * ratio towards 1.
 */
#include "bench_net.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "term.h"

#define NET_OPEN_RATE 21000u
#define NET_ACTIVE 1850u /* of 10,000 */

#define NET_SET(id) (UINT64_C(1) << DEMO_##id)
#define NET_REFERENCES \
	(NET_SET(libuv) | NET_SET(asio) | NET_SET(epoll) | NET_SET(uring))
#define NET_ALL                                                        \
	(NET_SET(weir_epoll) | NET_SET(weir_uring) | NET_SET(malloc) | \
	    NET_REFERENCES)

/* ---- figures that are asked for ------------------------------------------- */

static bool
net_has_word(const char *words, const char *word)
{
	size_t length = strlen(word);
	const char *at = words;

	if (length == 0)
		return false;
	while ((at = strstr(at, word)) != NULL) {
		if ((at == words || at[-1] == ' ') &&
		    (at[length] == ' ' || at[length] == '\0'))
			return true;
		at += length;
	}
	return false;
}

bool
bench_net_knows(const char *name)
{
	return net_has_word(BENCH_NET_FIGURES, name);
}

bool
bench_net_wants(const struct bench_net *net, const char *names)
{
	return demo_stop == 0 &&
	       (net->set->only == NULL || net_has_word(names, net->set->only));
}

/* ---- rows ------------------------------------------------------------------ */

struct demo_spread
bench_net_single(double value, unsigned count)
{
	return (struct demo_spread){
	    .median = value, .low = value, .high = value, .count = count};
}

void
bench_net_row(struct bench_net *net, const char *name, const char *peer,
    const char *metric, const char *unit, struct demo_spread spread)
{
	struct bench_row *row =
	    bench_rows_add(net->rows, "net", name, peer, metric);

	if (row == NULL)
		return;
	snprintf(row->unit, sizeof(row->unit), "%s", unit);
	row->value = spread.median;
	row->spread =
	    fmax(spread.high - spread.median, spread.median - spread.low);
	row->rounds = spread.count;
}

static void
net_text(struct bench_net *net, const struct bench_net_figure *figure,
    const char *metric, const char *text)
{
	bench_net_row(net, figure->name, figure->peer, metric, text,
	    bench_net_single(0, 0));
}

void
bench_net_add(struct bench_net *net, const struct bench_net_figure *figure)
{
	double value = figure->value.median;
	bool measured = figure->value.count > 0 && isfinite(value);
	bool pass = measured && (figure->at_least ? value >= figure->target
						  : value <= figure->target);
	char text[BENCH_UNIT_BYTES];

	net_text(net, figure, "what", figure->what);
	snprintf(text, sizeof(text), "%s %s",
	    figure->at_least ? ">=" : "<=", figure->unit);
	bench_net_row(net, figure->name, figure->peer, "target", text,
	    bench_net_single(figure->target, 1));
	if (measured)
		bench_net_row(net, figure->name, figure->peer, "figure",
		    figure->unit, figure->value);
	if (figure->bare > 0)
		bench_net_row(net, figure->name, figure->peer, "bare",
		    figure->unit, bench_net_single(figure->bare, 1));
	snprintf(text, sizeof(text), "short: %.200s",
	    figure->why != NULL ? figure->why : "not measured");
	net_text(net, figure, "verdict",
	    pass ? "pass" : (measured ? "short" : text));
}

/* ---- a crowd --------------------------------------------------------------- */

struct net_crowd {
	const char *name; /* the case of its rows */
	uint64_t connections;
	uint64_t active;
	uint64_t rate;
};

static const struct {
	enum demo_metric metric;
	const char *name;
	const char *unit;
	double scale;
} net_metrics[] = {
    {DEMO_CPU, "cpu_us_packet", "us", 1},
    {DEMO_PACKETS_PER_S, "packets_s", "1/s", 1},
    {DEMO_P50, "p50_us", "us", 1e-3},
    {DEMO_P99, "p99_us", "us", 1e-3},
    {DEMO_OTHERS, "others_share", "of the processors", 1},
};

static void
net_crowd_rows(struct bench_net *net, const struct net_crowd *crowd,
    const struct demo *demo)
{
	for (int i = 0; i < DEMO_ID_COUNT; i++) {
		const struct demo_row *row = &demo->rows[i];
		const char *peer = demo_contenders[i].name;

		if (row->note[0] != '\0')
			bench_net_row(net, crowd->name, peer,
			    row->status == DEMO_MISSING ? "missing" : "failed",
			    row->note, bench_net_single(0, 0));
		if (row->round_count == 0)
			continue;
		for (size_t m = 0;
		     m < sizeof(net_metrics) / sizeof(net_metrics[0]); m++) {
			struct demo_spread spread =
			    demo_row_spread(row, net_metrics[m].metric);

			spread.median *= net_metrics[m].scale;
			spread.low *= net_metrics[m].scale;
			spread.high *= net_metrics[m].scale;
			bench_net_row(net, crowd->name, peer,
			    net_metrics[m].name, net_metrics[m].unit, spread);
		}
		bench_net_row(net, crowd->name, peer, "rss_mib", "MiB",
		    bench_net_single((double)row->peak_rss / 1048576.0, 1));
	}
}

/* Runs it; the caller frees.  NULL without memory. */
static struct demo *
net_crowd_play(struct bench_net *net, const struct net_crowd *crowd)
{
	struct demo *demo = calloc(1, sizeof(*demo));
	char title[64];

	if (demo == NULL) {
		net->failed = true;
		return NULL;
	}
	snprintf(title, sizeof(title), "%s: ", crowd->name);
	demo->set = (struct demo_settings){
	    .connections = crowd->connections,
	    .wanted_connections = crowd->connections,
	    .active = crowd->active,
	    .size = 1024,
	    .depth = 1,
	    .rounds = net->rounds,
	    .duration_ns = net->run_ns,
	    .warmup_ns = net->run_ns / 3,
	    .contenders = NET_ALL,
	    .directory = net->set->directory,
	    .directory_given = net->set->directory_given,
	    .duration_given = true,
	    .pinned = net->pinned,
	    .rate = crowd->rate,
	    .title = title,
	};
	demo_machine_read(&demo->machine);
	demo_play(demo);
	demo->set.title = NULL;
	net_crowd_rows(net, crowd, demo);
	for (int i = 0; i < DEMO_ID_COUNT; i++)
		if (demo->rows[i].status == DEMO_BROKEN ||
		    demo_errors(&demo->rows[i]) != 0 ||
		    demo->rows[i].totals.mismatches != 0)
			net->failed = true;
	return demo;
}

/* ---- ratios ---------------------------------------------------------------- */

/* Whose median is lowest among a set; -1 if none of it ran. */
static int
net_best(const struct demo *demo, uint64_t set, enum demo_metric metric)
{
	double least = INFINITY;
	int best = -1;

	for (int i = 0; i < DEMO_ID_COUNT; i++) {
		double median;

		if ((set >> i & 1) == 0 || demo->rows[i].round_count == 0)
			continue;
		median = demo_row_spread(&demo->rows[i], metric).median;
		if (median < least) {
			least = median;
			best = i;
		}
	}
	return best;
}

static const char *
net_why(const struct demo *demo, int id)
{
	const char *note = id < 0 ? "" : demo->rows[id].note;

	return note[0] != '\0' ? note : "no reference ran";
}

/* How @id compares with @other in a crowd, and bare @bare with it. */
static void
net_ratio(struct bench_net *net, const struct demo *demo, const char *name,
    enum demo_id id, int other, int bare, double target, const char *what,
    enum demo_metric metric)
{
	const struct demo_row *rows = demo->rows;
	struct bench_net_figure figure = {
	    .name = name,
	    .peer = demo_contenders[id].name,
	    .what = what,
	    .unit = "x",
	    .target = target,
	};

	if (other >= 0 && rows[id].round_count > 0)
		figure.value =
		    demo_ratio_spread(&rows[id], &rows[other], metric);
	figure.why = net_why(demo, rows[id].round_count == 0 ? (int)id
				   : other < 0               ? -1
							     : other);
	if (bare >= 0 && other >= 0 && rows[bare].round_count > 0)
		figure.bare =
		    demo_ratio_spread(&rows[bare], &rows[other], metric).median;
	bench_net_add(net, &figure);
}

/* Against libuv, Asio and the best: one target for each back end, 0: none. */
struct net_targets {
	const char *crowd;
	double libuv[2]; /* as net_backends: epoll, io_uring */
	double asio[2];
	double best; /* io_uring against all, epoll against plain epoll */
	const char *libuv_name;
};

static void
net_targets_add(struct bench_net *net, const struct demo *demo,
    const struct net_targets *targets)
{
	static const int bares[2] = {DEMO_epoll, DEMO_uring};
	char name[BENCH_NAME_BYTES];
	char what[BENCH_UNIT_BYTES];

	for (int b = 0; b < 2; b++) {
		snprintf(name, sizeof(name), "%s %s %s", targets->libuv_name,
		    net_backends[b].name, targets->crowd);
		snprintf(what, sizeof(what), "CPU/packet vs libuv, %s",
		    targets->crowd);
		net_ratio(net, demo, name, net_backends[b].id, DEMO_libuv,
		    bares[b], targets->libuv[b], what, DEMO_CPU);
	}
	for (int b = 0; b < 2 && targets->best > 0; b++) {
		int best = b == 0 ? DEMO_epoll
				  : net_best(demo, NET_REFERENCES, DEMO_CPU);

		snprintf(name, sizeof(name), "N3 %s %s", net_backends[b].name,
		    targets->crowd);
		snprintf(what, sizeof(what), "CPU/packet vs %s%s, %s",
		    b == 0 ? "plain " : "the best: ",
		    best < 0 ? "none" : demo_contenders[best].name,
		    targets->crowd);
		net_ratio(net, demo, name, net_backends[b].id, best, -1,
		    targets->best, what, DEMO_CPU);
	}
	for (int b = 0; b < 2; b++) {
		snprintf(name, sizeof(name), "N4 %s %s", net_backends[b].name,
		    targets->crowd);
		snprintf(what, sizeof(what), "CPU/packet vs Asio, %s",
		    targets->crowd);
		net_ratio(net, demo, name, net_backends[b].id, DEMO_asio,
		    bares[b], targets->asio[b], what, DEMO_CPU);
	}
}

/* What pooling alone does, the engine being the same: its twin with a malloc
 * for each buffer and send runs over the best back end that works. */
static void
net_pooling(struct bench_net *net, const struct demo *demo, const char *crowd)
{
	const struct demo_row *twin = &demo->rows[DEMO_malloc];
	enum demo_id id = demo->rows[DEMO_weir_uring].round_count > 0
			      ? DEMO_weir_uring
			      : DEMO_weir_epoll;
	const struct demo_row *pool = &demo->rows[id];

	if (twin->round_count == 0 || pool->round_count == 0)
		return;
	bench_net_row(net, crowd, demo_contenders[id].name, "pooling_packets_s",
	    "x", demo_ratio_spread(pool, twin, DEMO_PACKETS_PER_S));
	bench_net_row(net, crowd, demo_contenders[id].name, "pooling_latency",
	    "x", demo_ratio_spread(pool, twin, DEMO_MEAN));
	bench_net_row(net, crowd, demo_contenders[id].name, "pooling_cpu", "x",
	    demo_ratio_spread(pool, twin, DEMO_CPU));
}

/* ---- the crowds ------------------------------------------------------------ */

static void
net_closed(struct bench_net *net, const struct net_crowd *crowd,
    const struct net_targets *targets, const char *figures)
{
	struct demo *demo;

	if (!bench_net_wants(net, figures))
		return;
	demo = net_crowd_play(net, crowd);
	if (demo == NULL)
		return;
	net_targets_add(net, demo, targets);
	net_pooling(net, demo, crowd->name);
	if (crowd->connections == 100 &&
	    demo->rows[DEMO_weir_epoll].round_count > 0)
		net->cpu_us =
		    demo_row_spread(&demo->rows[DEMO_weir_epoll], DEMO_CPU)
			.median;
	free(demo);
}

static void
net_open(struct bench_net *net)
{
	const struct net_crowd crowd = {"21,000/s, open loop", net->connections,
	    net->connections, NET_OPEN_RATE};
	struct demo *demo;
	char name[BENCH_NAME_BYTES];
	char what[BENCH_UNIT_BYTES];
	int best;

	if (!bench_net_wants(net, "N10"))
		return;
	demo = net_crowd_play(net, &crowd);
	if (demo == NULL)
		return;
	best = net_best(demo, NET_REFERENCES, DEMO_P50);
	for (int b = 0; b < 2; b++) {
		snprintf(name, sizeof(name), "N10 %s", net_backends[b].name);
		snprintf(what, sizeof(what),
		    "p50 at 21,000 packets/s vs the best: %s",
		    best < 0 ? "none" : demo_contenders[best].name);
		net_ratio(net, demo, name, net_backends[b].id, best, -1, 1.1,
		    what, DEMO_P50);
	}
	free(demo);
}

static void
net_crowds(struct bench_net *net)
{
	uint64_t active = net->connections * NET_ACTIVE / 10000;
	char number[2][TERM_NUMBER_BYTES];
	char all[TERM_NUMBER_BYTES];
	char some[BENCH_NAME_BYTES];
	const struct net_crowd many = {
	    all, net->connections, net->connections, 0};
	const struct net_crowd few = {"100", 100, 100, 0};
	const struct net_crowd idle = {some, net->connections, active, 0};
	const struct net_targets many_targets = {
	    all, {0.71, 0.66}, {0.95, 0.88}, 1.03, "N1"};
	const struct net_targets few_targets = {
	    "100", {0.60, 0.60}, {0.97, 0.97}, 1.03, "N2"};
	const struct net_targets idle_targets = {
	    some, {0.42, 0.42}, {0.97, 0.97}, 0, "N2"};

	term_count(net->connections, all);
	snprintf(some, sizeof(some), "%s+%s idle",
	    term_count(active, number[0]),
	    term_count(net->connections - active, number[1]));

	net_closed(net, &many, &many_targets, "N1 N3 N4");
	/* N5 and N11 are parts of what a packet costs there. */
	net_closed(net, &few, &few_targets, "N2 N3 N4 N5 N11");
	net_closed(net, &idle, &idle_targets, "N2 N4");
	net_open(net);
}

/* ---- all of it ------------------------------------------------------------- */

/* Fewer connections than the targets are for: asked for, or all that fit. */
static void
net_fit(struct bench_net *net)
{
	uint64_t fit = load_raise_descriptors();
	char text[BENCH_UNIT_BYTES];

	if (fit < net->connections)
		net->connections = fit;
	net->slow = net->connections / 10;
	if (net->connections == BENCH_NET_CONNECTIONS)
		return;
	snprintf(text, sizeof(text),
	    "%" PRIu64 " connections, for targets of 10,000; the limit of open "
	    "files allows %" PRIu64,
	    net->connections, fit);
	bench_rows_about(net->rows, "shortened", "-", text);
}

bool
bench_net_play(const struct bench_settings *set, uint64_t connections,
    bool quick, struct bench_rows *rows)
{
	struct bench_net net = {
	    .set = set,
	    .rows = rows,
	    .quick = quick,
	    .pinned = demo_processors() >= 2,
	    .connections = connections,
	    .run_ns = set->case_ms * 1000000,
	    .rounds = (unsigned)set->rounds,
	    .cpu_us = NAN,
	};

	bench_play_about(set, rows);
	net_fit(&net);
	net_crowds(&net);
	bench_net_memory(&net);
	bench_net_harm(&net);
	if (bench_net_wants(&net, "N12"))
		bench_net_limits(&net);
	return !net.failed && demo_stop == 0;
}
