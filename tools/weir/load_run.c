/* SPDX-License-Identifier: MIT */
/*
 * load_run.c - one run: its phases, and which packet is sent when.
 *
 *     start        measure                      end
 *       |  warm-up    |  measured window         |  drain
 *       |             mark(begin)                mark(end)
 *
 * The drain sends nothing new and waits for what is in flight, so that a run
 * leaves the connections as it found them and every packet is accounted for.
 *
 * Open loop: packet k of the schedule is due at start + k / rate, on active
 * connection k mod M.  The n-th packet of connection s is therefore number
 * n * M + s, and the time it was due needs no memory.
 */
#include "load_engine.h"

#include <string.h>
#include <sys/prctl.h>
#include <time.h>

#define RUN_KICK 64 /* connections set going before answers are looked at */
#define RUN_WAIT_MAX (LOAD_NS_PER_S / 20) /* so that `stop` is seen soon */

#define RUN_CAUSE_KEY(name, key, text) #key,
#define RUN_CAUSE_TEXT(name, key, text) text,
static const char *const run_cause_keys[] = {LOAD_CAUSES(RUN_CAUSE_KEY)};
static const char *const run_cause_texts[] = {LOAD_CAUSES(RUN_CAUSE_TEXT)};

const char *
load_cause_key(enum load_cause cause)
{
	return run_cause_keys[cause];
}

const char *
load_cause_text(enum load_cause cause)
{
	return run_cause_texts[cause];
}

uint64_t
load_errors(const struct load_report *report)
{
	uint64_t sum = 0;

	for (int i = 0; i < LOAD_CAUSE_COUNT; i++)
		sum += report->errors[i];
	return sum;
}

static uint64_t
run_cpu_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (uint64_t)now.tv_sec * LOAD_NS_PER_S + (uint64_t)now.tv_nsec;
}

/* When packet k of the schedule is due; exact, without 128-bit arithmetic. */
static uint64_t
run_due_at(const struct load *load, uint64_t k)
{
	uint64_t rate = load->run->rate;

	return load->start_ns + k / rate * LOAD_NS_PER_S +
	       k % rate * LOAD_NS_PER_S / rate;
}

static bool
run_open_loop(const struct load *load)
{
	return load->run->rate != 0;
}

/* Packets counted by completion, times by when they were due or sent. */
static void
run_record(
    struct load *load, const struct load_connection *connection, uint64_t now)
{
	uint64_t packet = connection->recv_packet - 1;
	uint32_t depth = load->config.depth;

	if (load->phase == LOAD_MEASURE)
		load->report->packets++;
	if (run_open_loop(load)) {
		uint64_t k = (packet - connection->base) * load->active_count +
			     connection->slot;
		uint64_t due = run_due_at(load, k);

		if (due >= load->measure_ns && due < load->end_ns)
			hist_record(&load->report->latency, now - due);
	} else if (load->phase == LOAD_MEASURE) {
		uint64_t sent = load->sent_ns[(size_t)connection->slot * depth +
					      packet % depth];
		hist_record(&load->report->latency, now - sent);
	}
}

/* Closed loop: one more packet for this connection, if any is left. */
static void
run_permit(struct load *load, struct load_connection *connection)
{
	if (load->budget == 0)
		return;
	load->budget--;
	connection->goal++;
}

/* Open loop: what is due, as far as the depth allows. */
static void
run_permit_due(struct load *load, struct load_connection *connection)
{
	uint64_t due = connection->base + connection->due;
	uint64_t deep = connection->recv_packet + load->config.depth;

	connection->goal = due < deep ? due : deep;
}

void
load_answered(
    struct load *load, struct load_connection *connection, uint64_t now)
{
	if (load->run == NULL || !connection->active ||
	    connection->recv_packet <= connection->base)
		return;
	if (!connection->wrong)
		run_record(load, connection, now);
	if (load->phase == LOAD_DRAIN || load->run->burst)
		return;
	if (run_open_loop(load))
		run_permit_due(load, connection);
	else
		run_permit(load, connection);
}

/* Set the next few connections of a closed loop going. */
static void
run_kick(struct load *load)
{
	for (uint32_t i = 0; i < RUN_KICK && load->kicked < load->active_count;
	     i++) {
		struct load_connection *connection =
		    load->active[load->kicked++];

		if (connection->fd < 0)
			continue;
		while (connection->goal <
			   connection->recv_packet + load->config.depth &&
		       load->budget > 0)
			run_permit(load, connection);
		load_send(load, connection, load_now());
	}
}

/* Send what has come due; a burst is cut so that answers are read between. */
static void
run_send_due(struct load *load, uint64_t now)
{
	for (uint32_t i = 0; i < RUN_KICK && load->budget > 0 &&
			     run_due_at(load, load->due_packet) <= now;
	     i++) {
		struct load_connection *connection =
		    load->active[load->due_packet++ % load->active_count];

		load->budget--;
		connection->due++;
		if (connection->fd < 0)
			continue;
		run_permit_due(load, connection);
		if (connection->goal > connection->send_packet)
			load_send(load, connection, now);
	}
}

/* Time until something is to be done that no socket announces. */
static uint64_t
run_wait(const struct load *load, uint64_t now)
{
	uint64_t next = now + RUN_WAIT_MAX;

	if (load->phase == LOAD_DRAIN)
		return RUN_WAIT_MAX;
	if (!run_open_loop(load) && load->kicked < load->active_count)
		return 0;
	if (run_open_loop(load) && load->budget > 0) {
		uint64_t due = run_due_at(load, load->due_packet);
		next = due < next ? due : next;
	}
	if (load->phase == LOAD_WARMUP && load->measure_ns < next)
		next = load->measure_ns;
	if (load->end_ns < next)
		next = load->end_ns;
	return next > now ? next - now : 0;
}

static void
run_measure(struct load *load, uint64_t now)
{
	load->phase = LOAD_MEASURE;
	load->measure_ns = now;
	if (load->run->duration_ns != 0)
		load->end_ns = now + load->run->duration_ns;
	load->cpu_start_ns = run_cpu_now();
	if (load->run->mark != NULL)
		load->run->mark(load->run->context, true);
}

/* Packets due in time and never sent count with the age they have now. */
static void
run_give_up_backlog(
    struct load *load, const struct load_connection *connection, uint64_t now)
{
	uint64_t packet = load_begun(connection) - connection->base;

	for (; packet < connection->due; packet++) {
		uint64_t due = run_due_at(
		    load, packet * load->active_count + connection->slot);

		load->report->backlog++;
		if (due >= load->measure_ns && due < now)
			hist_record(&load->report->latency, now - due);
	}
}

static void
run_drain(struct load *load, uint64_t now)
{
	if (load->phase == LOAD_MEASURE) {
		load->report->elapsed_ns = now - load->measure_ns;
		load->report->cpu_ns = run_cpu_now() - load->cpu_start_ns;
		if (load->run->mark != NULL)
			load->run->mark(load->run->context, false);
	}
	load->phase = LOAD_DRAIN;
	load->end_ns = now;
	load->progress_ns = now;
	for (uint32_t i = 0; i < load->active_count; i++) {
		struct load_connection *connection = load->active[i];

		if (connection->fd < 0)
			continue;
		if (run_open_loop(load))
			run_give_up_backlog(load, connection, now);
		connection->goal = load_begun(connection);
	}
}

/* Is the measured window over before its time? */
static bool
run_finished(const struct load *load, uint64_t now)
{
	bool started =
	    run_open_loop(load) || load->kicked == load->active_count;

	if (load_stopped(load) || load->live == 0)
		return true;
	/* All packets through; or none comes back, and nothing ends this. */
	if ((load->budget == 0 || load->run->burst) && started &&
	    load->in_flight == 0)
		return true;
	return load->in_flight > 0 &&
	       now > load->progress_ns + load->config.timeout_ns &&
	       load->run->duration_ns == 0;
}

static void
run_loop(struct load *load)
{
	for (;;) {
		uint64_t now = load_now();

		if (load->phase == LOAD_WARMUP && now >= load->measure_ns)
			run_measure(load, now);
		if (load->phase != LOAD_DRAIN &&
		    (now >= load->end_ns || run_finished(load, now)))
			run_drain(load, now);
		if (load->phase == LOAD_DRAIN &&
		    (load->in_flight == 0 ||
			now > load->progress_ns + load->config.timeout_ns))
			return;
		if (load->phase != LOAD_DRAIN && run_open_loop(load))
			run_send_due(load, now);
		else if (load->phase != LOAD_DRAIN)
			run_kick(load);
		load_poll(load, run_wait(load, now));
	}
}

/* The first live connections are the active ones. */
static void
run_prepare(struct load *load)
{
	load->active_count = 0;
	for (uint32_t i = 0; i < load->config.connections; i++) {
		struct load_connection *connection = &load->connections[i];

		connection->base = load_begun(connection);
		connection->goal = connection->base;
		connection->due = 0;
		connection->active = connection->fd >= 0 &&
				     load->active_count < load->config.active;
		connection->slot = load->active_count;
		if (connection->active)
			load->active[load->active_count++] = connection;
	}
}

void
load_run(
    struct load *load, const struct load_run *run, struct load_report *report)
{
	memset(report, 0, sizeof(*report));
	load->report = report;
	load->run = run;
	load->phase = LOAD_WARMUP;
	load->start_ns = load_now();
	load->progress_ns = load->start_ns;
	load->measure_ns = load->start_ns + run->warmup_ns;
	load->end_ns = UINT64_MAX;
	load->budget = run->packets != 0 ? run->packets : UINT64_MAX;
	load->due_packet = 0;
	load->kicked = 0;
	/* The default slack of 50 us is more than a packet's due time apart. */
	prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
	run_prepare(load);
	if (load->active_count > 0)
		run_loop(load);
	report->errors[LOAD_UNANSWERED] += load->in_flight;
	report->connected = load->live;
	report->stopped = load_stopped(load);
	load->phase = LOAD_IDLE;
	load->run = NULL;
}
