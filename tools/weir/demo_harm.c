/* SPDX-License-Identifier: MIT */
/*
 * demo_harm.c - the round with clients that never read.
 *
 * Each contender alone, on a fresh server: some connections whose packets
 * count run without the harm, then beside it.  A server that keeps what its
 * peers do not read grows by all they send; one whose peers share a ring of
 * buffers without a limit for each stands still.
 */
#include "demo.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "demo_stats.h"

#define HARM_GOOD 100u /* connections, at most */
#define HARM_SLOW_BYTES (UINT64_C(6) << 20)
#define HARM_SETTLE_NS UINT64_C(3000000000)
#define HARM_RUNS 3
#define HARM_RUN_NS UINT64_C(200000000)
#define HARM_WARMUP_NS UINT64_C(40000000)

static void
harm_add_errors(struct demo_row *row, const struct load_report *report)
{
	for (int i = 0; i < LOAD_CAUSE_COUNT; i++)
		row->totals.errors[i] += report->errors[i];
	if (row->totals.mismatches == 0)
		row->totals.first_mismatch = report->first_mismatch;
	row->totals.mismatches += report->mismatches;
}

/* The median of a few runs; 0 once answers are missing. */
static double
harm_rate(struct demo_row *row, struct demo_client *client)
{
	const struct load_report *report = &client->result->report;
	double rates[HARM_RUNS];

	for (unsigned i = 0; i < HARM_RUNS; i++) {
		if (demo_client_run(client, HARM_WARMUP_NS, HARM_RUN_NS) != 0)
			return 0;
		harm_add_errors(row, report);
		if (load_errors(report) != 0)
			return 0; /* the next would wait as long for none */
		rates[i] =
		    (double)report->packets * 1e9 / (double)report->elapsed_ns;
	}
	return demo_spread(rates, HARM_RUNS).median;
}

static void
harm_measure(const struct demo_settings *set, struct demo_row *row,
    const struct demo_server *server, struct demo_client *client)
{
	struct demo_harm *harm = &row->harm;
	struct demo_slow slow = {0};

	harm->alone_per_s = harm_rate(row, client);
	harm->alone_bytes = demo_server_memory(server);
	if (demo_stop != 0)
		return;
	if (demo_slow_start(&slow, set, server, (uint32_t)set->slow,
		HARM_SLOW_BYTES) != 0) {
		snprintf(harm->note, sizeof(harm->note),
		    "no process for slow readers: %s", strerror(errno));
		return;
	}
	harm->settled = demo_slow_settle(server, HARM_SETTLE_NS);
	harm->beside_per_s = harm_rate(row, client);
	harm->beside_bytes = demo_server_memory(server);
	demo_slow_stop(&slow);
	harm->ran = demo_stop == 0 && harm->alone_per_s > 0;
}

void
demo_harm_play(struct demo *demo, enum demo_id id)
{
	struct demo_settings set = demo->set;
	struct demo_row *row = &demo->rows[id];
	struct demo_harm *harm = &row->harm;
	struct demo_server server;
	struct demo_client client;
	int error;

	if (set.connections > HARM_GOOD)
		set.connections = HARM_GOOD;
	set.active = set.connections;
	if (demo_server_start(
		&server, &set, id, NULL, harm->note, sizeof(harm->note)) != 0)
		return;
	error = demo_client_start(&client, &set, &server);
	if (error == 0)
		error = demo_client_connect(&client);
	if (error == 0)
		harm_measure(&set, row, &server, &client);
	else if (error != -EINTR)
		snprintf(harm->note, sizeof(harm->note), "no client: %s",
		    strerror(-error));
	demo_client_stop(&client);
	if (!demo_server_stop(&server) && demo_stop == 0 && harm->ran)
		snprintf(harm->note, sizeof(harm->note),
		    "the server did not end cleanly");
}
