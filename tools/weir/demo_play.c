/* SPDX-License-Identifier: MIT */
/*
 * demo_play.c - the experiment: who runs when, and for how long.
 *
 * First the timed part, with all servers alive and one of them loaded at a
 * time; then, with fresh servers under the preloaded counter, the part that
 * counts allocations, whose times nobody looks at.  A contender that breaks is
 * left out from then on and said to be broken; the others go on.
 */
#include "demo.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "term.h"

/* Of each of the two runs that count. */
#define DEMO_COUNT_NS UINT64_C(400000000)

/* Start and rounds together; what is left of a minute is for slow readers, and
 * for counting. */
#define DEMO_PLAY_NS UINT64_C(38000000000)

/* No round with slow readers begins later. */
#define DEMO_HARM_NS UINT64_C(46000000000)
#define DEMO_RUN_MIN_NS UINT64_C(100000000)

struct demo_steps {
	struct term_progress progress;
	const char *title;
	unsigned done;
	unsigned total;
};

static void
demo_step(struct demo_steps *steps, const char *what, enum demo_id id)
{
	char text[128];

	snprintf(text, sizeof(text), "%s%s %s", steps->title, what,
	    demo_contenders[id].name);
	term_progress_set(&steps->progress, steps->done, steps->total, text);
	steps->done++;
}

__attribute__((format(printf, 2, 3))) static void
demo_break(struct demo_row *row, const char *format, ...)
{
	va_list arguments;

	row->status = DEMO_BROKEN;
	va_start(arguments, format);
	vsnprintf(row->note, sizeof(row->note), format, arguments);
	va_end(arguments);
}

/* ---- one contender ----------------------------------------------------- */

static void
demo_row_stop(struct demo_row *row)
{
	bool ran = row->server.pid != 0;

	demo_client_stop(&row->client);
	if (!demo_server_stop(&row->server) && ran &&
	    row->status == DEMO_READY && demo_stop == 0)
		demo_break(row, "failed: the server did not end cleanly");
}

/* After an order: false, and the row broken, if the client is not there. */
static bool
demo_row_alive(struct demo_row *row, int error)
{
	if (error == 0)
		return true;
	if (error == -EPIPE && row->client.result->error != 0)
		demo_break(row, "failed: the client cannot start: %s",
		    strerror(-row->client.result->error));
	else if (error != -EINTR)
		demo_break(row, "failed: the client process died");
	return false;
}

static void
demo_row_add_errors(struct demo_row *row, const struct load_report *report)
{
	if (row->totals.mismatches == 0)
		row->totals.first_mismatch = report->first_mismatch;
	row->totals.mismatches += report->mismatches;
	for (int i = 0; i < LOAD_CAUSE_COUNT; i++)
		row->totals.errors[i] += report->errors[i];
}

/* Server, client and connections; false if the row cannot go on. */
static bool
demo_row_start(const struct demo *demo, enum demo_id id, struct demo_row *row,
    const char *count_file)
{
	char why[192] = "";
	int error;

	error = demo_server_start(
	    &row->server, &demo->set, id, count_file, why, sizeof(why));
	if (error == 0)
		error =
		    demo_client_start(&row->client, &demo->set, &row->server);
	if (error != 0) {
		if (error != -EINTR)
			demo_break(row, "failed: %s",
			    why[0] != '\0' ? why : strerror(-error));
		return false;
	}
	if (!demo_row_alive(row, demo_client_connect(&row->client)))
		return false;
	demo_row_add_errors(row, &row->client.result->report);
	row->connected = row->client.result->report.connected;
	if (row->connected == 0)
		demo_break(row, "failed: no connection was made");
	return row->connected > 0;
}

/* What neither the server nor its client nor ksoftirqd took. */
static double
demo_others(const struct demo_result *result, unsigned processors, bool pinned)
{
	const struct load_report *report = &result->report;
	double own = (double)result->server_cpu_ns +
		     (double)result->softirq_cpu_ns + (double)report->cpu_ns;
	double others = (double)result->busy_ns - own;
	double time = (double)report->elapsed_ns * (pinned ? 2 : processors);

	return others > 0 && time > 0 ? others / time : 0;
}

static void
demo_row_record(const struct demo *demo, struct demo_row *row)
{
	const struct demo_result *result = row->client.result;
	const struct load_report *report = &result->report;
	struct demo_round *round = &row->rounds[row->round_count++];
	double packets = (double)report->packets;
	double alone = (double)result->server_cpu_ns / 1e3;
	double all = alone + (double)result->softirq_cpu_ns / 1e3;

	/* Without packets these become infinite and are left out of ratios. */
	round->packets_per_s = packets * 1e9 / (double)report->elapsed_ns;
	round->cpu_us = all / packets;
	round->cpu_alone_us = alone / packets;
	round->mean_ns = hist_mean(&report->latency);
	round->p50_ns = (double)hist_percentile(&report->latency, 50);
	round->p99_ns = (double)hist_percentile(&report->latency, 99);
	round->others =
	    demo_others(result, demo->machine.processors, demo->set.pinned);
	hist_add(&row->latency, &report->latency);
	demo_row_add_errors(row, report);
}

/* ---- the timed part ---------------------------------------------------- */

static void
demo_start_all(struct demo *demo, struct demo_steps *steps)
{
	for (int i = 0; i < DEMO_ID_COUNT && demo_stop == 0; i++) {
		if (demo->rows[i].status != DEMO_READY)
			continue;
		demo_step(steps, "connecting", (enum demo_id)i);
		demo_row_start(demo, (enum demo_id)i, &demo->rows[i], NULL);
	}
}

static unsigned
demo_ready_count(const struct demo *demo)
{
	unsigned count = 0;

	for (int i = 0; i < DEMO_ID_COUNT; i++)
		count += demo->rows[i].status == DEMO_READY;
	return count;
}

/*
 * How long to measure in the next runs.  Warm-up and drain take as long as the
 * machine wants; what they take beyond the plan is saved here, so that the
 * default command ends within a minute and still plays all rounds.
 */
static uint64_t
demo_pace(const struct demo *demo, uint64_t begun_ns, unsigned round,
    uint64_t overhead_ns)
{
	const struct demo_settings *set = &demo->set;
	uint64_t spent = demo_clock_ns(CLOCK_MONOTONIC) - begun_ns;
	uint64_t runs = (set->rounds - round) * demo_ready_count(demo);
	uint64_t share;

	if (set->duration_given || round == 0 || runs == 0)
		return set->duration_ns;
	share = spent < DEMO_PLAY_NS ? (DEMO_PLAY_NS - spent) / runs : 0;
	if (share < overhead_ns + DEMO_RUN_MIN_NS)
		return DEMO_RUN_MIN_NS;
	share -= overhead_ns;
	return share < set->duration_ns ? share : set->duration_ns;
}

/*
 * The order rotates by one from round to round and turns around in every
 * second round, so that no contender always follows the same one.
 */
static enum demo_id
demo_turn(unsigned round, unsigned place)
{
	unsigned turn = round % 2 == 0 ? place : DEMO_ID_COUNT - 1 - place;

	return (enum demo_id)((turn + round / 2) % DEMO_ID_COUNT);
}

/* One contender's turn in a round. */
static void
demo_play_one(struct demo *demo, enum demo_id id, uint64_t duration_ns)
{
	struct demo_row *row = &demo->rows[id];
	int error =
	    demo_client_run(&row->client, demo->set.warmup_ns, duration_ns);

	if (demo_row_alive(row, error))
		demo_row_record(demo, row);
}

static void
demo_play_rounds(struct demo *demo, struct demo_steps *steps, uint64_t begun_ns)
{
	const struct demo_settings *set = &demo->set;
	uint64_t overhead_ns = 0;

	demo->shortest_ns = set->duration_ns;
	for (unsigned round = 0; round < set->rounds && demo_stop == 0;
	     round++) {
		uint64_t round_begun = demo_clock_ns(CLOCK_MONOTONIC);
		uint64_t duration =
		    demo_pace(demo, begun_ns, round, overhead_ns);
		unsigned runs = 0;
		char what[48];

		snprintf(what, sizeof(what), "round %u of %" PRIu64 ",",
		    round + 1, set->rounds);
		if (duration < demo->shortest_ns)
			demo->shortest_ns = duration;
		for (unsigned place = 0;
		     place < DEMO_ID_COUNT && demo_stop == 0; place++) {
			enum demo_id id = demo_turn(round, place);

			if (demo->rows[id].status != DEMO_READY)
				continue;
			demo_step(steps, what, id);
			demo_play_one(demo, id, duration);
			runs++;
		}
		if (runs > 0)
			overhead_ns =
			    (demo_clock_ns(CLOCK_MONOTONIC) - round_begun) /
				runs -
			    duration;
	}
}

static void
demo_stop_all(struct demo *demo)
{
	for (int i = 0; i < DEMO_ID_COUNT; i++) {
		struct demo_row *row = &demo->rows[i];

		if (row->server.pid != 0)
			row->peak_rss = demo_server_peak_rss(&row->server);
		demo_row_stop(row);
	}
}

/* ---- the part with slow readers ---------------------------------------- */

static void
demo_harm_all(struct demo *demo, struct demo_steps *steps, uint64_t begun_ns)
{
	for (int i = 0; i < DEMO_ID_COUNT && demo_stop == 0; i++) {
		struct demo_row *row = &demo->rows[i];

		if (row->status != DEMO_READY || row->round_count == 0)
			continue;
		demo_step(steps, "slow readers,", (enum demo_id)i);
		if (!demo->set.duration_given &&
		    demo_clock_ns(CLOCK_MONOTONIC) - begun_ns > DEMO_HARM_NS)
			snprintf(row->harm.note, sizeof(row->harm.note),
			    "left out: the minute is over");
		else
			demo_harm_play(demo, (enum demo_id)i);
	}
}

/* ---- the counting part ------------------------------------------------- */

/*
 * The first run lets pools reach their size.  The second is counted from
 * before its first packet to after its last, when the server rests: in the
 * middle of a run the calls of a packet lie on both sides of any border.
 */
static void
demo_count_run(struct demo *demo, enum demo_id id, const char *file,
    const struct count_page *page)
{
	struct demo_row *row = &demo->rows[id];
	const struct load_report *report;

	if (!demo_row_start(demo, id, row, file))
		return;
	if (page->ready != COUNT_PAGE_READY) {
		snprintf(row->count_note, sizeof(row->count_note),
		    "not counted: the counter could not be preloaded");
		return;
	}
	report = &row->client.result->report;
	for (uint64_t sign = UINT64_MAX;; sign = 1) {
		if (!demo_row_alive(
			row, demo_client_run(&row->client, 0, DEMO_COUNT_NS)))
			return;
		demo_row_add_errors(row, report);
		for (int i = 0; i < COUNT_KIND_COUNT; i++)
			row->calls[i] += sign * page->calls[i];
		if (sign == 1)
			break;
	}
	row->counted_packets = report->all_packets;
	row->counted = row->counted_packets > 0;
}

static void
demo_count_one(struct demo *demo, enum demo_id id)
{
	struct demo_row *row = &demo->rows[id];
	struct count_page *page = MAP_FAILED;
	char file[64];
	int fd = memfd_create("weir-count", MFD_CLOEXEC);

	/* The server opens this process's descriptor: no file is left. */
	snprintf(file, sizeof(file), "/proc/%ld/fd/%d", (long)getpid(), fd);
	if (fd >= 0 && ftruncate(fd, COUNT_PAGE_BYTES) == 0)
		page = mmap(NULL, COUNT_PAGE_BYTES, PROT_READ | PROT_WRITE,
		    MAP_SHARED, fd, 0);
	if (page == MAP_FAILED) {
		snprintf(row->count_note, sizeof(row->count_note),
		    "not counted: no shared memory: %s", strerror(errno));
	} else {
		demo_count_run(demo, id, file, page);
		demo_row_stop(row);
		munmap(page, COUNT_PAGE_BYTES);
	}
	if (fd >= 0)
		close(fd);
}

static void
demo_count_all(struct demo *demo, struct demo_steps *steps)
{
	char path[DEMO_PATH_BYTES];
	char why[400];

	snprintf(path, sizeof(path), "%s/weir-count.so", demo->set.directory);
	demo_server_where(&demo->set, NULL, why, sizeof(why));
	for (int i = 0; i < DEMO_ID_COUNT && demo_stop == 0; i++) {
		struct demo_row *row = &demo->rows[i];

		if (row->status != DEMO_READY || row->round_count == 0)
			continue;
		demo_step(steps, "counting", (enum demo_id)i);
		if (access(path, R_OK) != 0)
			snprintf(row->count_note, sizeof(row->count_note),
			    "not counted: weir-count.so is %s", why);
		else
			demo_count_one(demo, (enum demo_id)i);
	}
}

/* ---- all of it --------------------------------------------------------- */

static void
demo_choose(struct demo *demo)
{
	for (int i = 0; i < DEMO_ID_COUNT; i++) {
		struct demo_row *row = &demo->rows[i];

		row->client.orders = -1;
		if ((demo->set.contenders >> i & 1) == 0)
			continue;
		row->status = DEMO_READY;
		if (!demo_server_exists(&demo->set, (enum demo_id)i, row->note,
			sizeof(row->note)))
			row->status = DEMO_MISSING;
	}
}

void
demo_play(struct demo *demo)
{
	uint64_t begun_ns = demo_clock_ns(CLOCK_MONOTONIC);
	struct demo_steps steps = {
	    .title = demo->set.title != NULL ? demo->set.title : ""};

	demo_choose(demo);
	steps.total = demo_ready_count(demo) *
		      ((unsigned)demo->set.rounds + 1 + demo->set.count +
			  (demo->set.slow > 0));
	term_progress_begin(&steps.progress, stderr);
	demo_start_all(demo, &steps);
	demo_play_rounds(demo, &steps, begun_ns);
	demo_stop_all(demo);
	if (demo->set.slow > 0)
		demo_harm_all(demo, &steps, begun_ns);
	if (demo->set.count)
		demo_count_all(demo, &steps);
	term_progress_end(&steps.progress);
	demo->interrupted = demo_stop != 0;
	demo->elapsed_ns = demo_clock_ns(CLOCK_MONOTONIC) - begun_ns;
}
