/* SPDX-License-Identifier: MIT */
/*
 * bench_play.c - the experiment: who plays when, and what is known of the
 * machine.
 *
 * The innermost loop is the opponents', so that those who are compared play
 * within seconds of each other; its order changes from round to round, so that
 * nobody always follows the same one.  A suite an opponent failed in, or cannot
 * play, is not tried again.
 */
#include "bench.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include <weir/version.h>

#include "demo.h"
#include "term.h"

/* A worker that takes longer than all its cases together and this is ended. */
#define PLAY_SLACK_MS 20000
#define PLAY_SLACK_QUICK_MS 8000
#define PLAY_CASES_MAX 8u
#define PLAY_OPS_PER_MS 600u /* decay: more than 1.6 us an operation */

struct play {
	const struct bench_settings *set;
	struct bench_rows *rows;
	struct bench_figures figures;
	struct term_progress progress;
	uint64_t begun_ns;
	unsigned done;
	unsigned total;
	unsigned round;
	unsigned suite;
	unsigned peer;
	uint64_t out[BENCH_SUITE_MAX];   /* peers that no longer play it */
	uint64_t spent[BENCH_SUITE_MAX]; /* ns, in the last round of it */
	uint64_t versions;               /* peers whose version is known */
	bool failed;
	bool over; /* the time limit came */
};

static uint64_t
play_now_ns(void)
{
	return demo_clock_ns(CLOCK_MONOTONIC);
}

/* ---- progress ------------------------------------------------------------ */

static void
play_left(const struct play *play, char *text, size_t bytes)
{
	uint64_t spent = (play_now_ns() - play->begun_ns) / 1000000000u;
	uint64_t left;

	text[0] = '\0';
	if (play->done * 50u < play->total || play->done == 0)
		return;
	left = spent * (play->total - play->done) / play->done;
	if (left >= 100)
		snprintf(
		    text, bytes, ", %" PRIu64 " min left", (left + 30) / 60);
	else
		snprintf(text, bytes, ", %" PRIu64 " s left", left);
}

static void
play_step(struct play *play, const char *what, unsigned peer)
{
	char left[40];
	char text[160];

	play_left(play, left, sizeof(left));
	snprintf(
	    text, sizeof(text), "%s, %s%s", what, bench_peers[peer].name, left);
	term_progress_set(&play->progress, play->done, play->total, text);
	play->done++;
}

/* ---- what the figures are from --------------------------------------------- */

static void
play_command(const struct bench_settings *set, char *text, size_t bytes)
{
	size_t used = (size_t)snprintf(text, bytes, "weir");

	for (int i = 0; i < set->argc && used < bytes; i++)
		used += (size_t)snprintf(
		    text + used, bytes - used, " %s", set->argv[i]);
}

void
bench_play_about(const struct bench_settings *set, struct bench_rows *rows)
{
	static struct demo_machine machine;
	char text[BENCH_UNIT_BYTES];
	char number[64];
	time_t now = time(NULL);
	struct tm day;

	demo_machine_read(&machine);
	play_command(set, text, sizeof(text));
	bench_rows_about(rows, "command", "-", text);
	bench_rows_about(rows, "cpu", "-", machine.cpu);
	snprintf(number, sizeof(number), "%u", machine.processors);
	bench_rows_about(rows, "processors", "-", number);
	bench_rows_about(rows, "kernel", "-", machine.kernel);
	bench_rows_about(rows, "compiler", "-", machine.compiler);
	bench_rows_about(rows, "weir", "-", WEIR_VERSION_STRING);
	if (gmtime_r(&now, &day) != NULL &&
	    strftime(number, sizeof(number), "%Y-%m-%d", &day) > 0)
		bench_rows_about(rows, "date", "-", number);
	snprintf(number, sizeof(number), "%" PRIu64, set->rounds);
	bench_rows_about(rows, "rounds", "-", number);
	snprintf(number, sizeof(number), "%" PRIu64 " ms", set->case_ms);
	bench_rows_about(rows, "time for a case", "-", number);
}

/* ---- one worker -------------------------------------------------------------- */

static void
play_figure(void *context, const char *name, const char *metric, double value,
    const char *unit)
{
	struct play *play = context;

	bench_figures_add(&play->figures, play->suite, play->peer, play->round,
	    name, metric, value, unit);
}

static uint64_t
play_limit_ms(const struct bench_settings *set, const char *suite)
{
	uint64_t slack =
	    set->case_ms < 50 ? PLAY_SLACK_QUICK_MS : PLAY_SLACK_MS;

	if (strcmp(suite, "decay") == 0)
		return slack + set->decay_ops / PLAY_OPS_PER_MS;
	return slack + PLAY_CASES_MAX * set->case_ms;
}

static void
play_worker(struct play *play)
{
	const struct bench_settings *set = play->set;
	const char *suite = bench_suites[play->suite].name;
	const char *peer = bench_peers[play->peer].name;
	const struct bench_worker_job job = {
	    .directory = set->directory,
	    .peer = peer,
	    .suite = suite,
	    .only = set->only,
	    .case_ms = set->case_ms,
	    .decay_ops = set->decay_ops,
	    .live_bytes = set->live_bytes,
	    .limit_ms = play_limit_ms(set, suite),
	};
	struct bench_worker_result result;

	bench_worker_run(&job, play_figure, play, &result);
	if ((play->versions >> play->peer & 1) == 0 &&
	    result.version[0] != '\0') {
		play->versions |= UINT64_C(1) << play->peer;
		bench_rows_about(play->rows, "version", peer, result.version);
	}
	if (result.outcome == BENCH_PLAYED ||
	    result.outcome == BENCH_INTERRUPTED)
		return;
	play->out[play->suite] |= UINT64_C(1) << play->peer;
	play->failed |= result.outcome == BENCH_FAILED;
	bench_rows_note(play->rows, suite, peer,
	    result.outcome == BENCH_FAILED ? "failed" : "skipped", result.text);
}

/* ---- rounds ---------------------------------------------------------------------- */

/* Rotated by one each second round, turned around in every other one. */
static unsigned
play_turn(unsigned round, unsigned place)
{
	unsigned turn = round % 2 == 0 ? place : bench_peer_count - 1 - place;

	return (turn + round / 2 * 5) % bench_peer_count;
}

/* The time limit came inside a round: what is left of it is not played. */
static bool
play_is_over(struct play *play)
{
	uint64_t limit_ns = play->set->limit_ns;

	if (play->over || limit_ns == 0 ||
	    play_now_ns() - play->begun_ns < limit_ns)
		return play->over;
	play->over = true;
	bench_rows_about(play->rows, "shortened", "-",
	    "the time limit came inside a round; name suites or peers, or "
	    "a number of rounds");
	return true;
}

static void
play_suite(struct play *play, unsigned suite)
{
	char what[96];

	snprintf(what, sizeof(what), "round %u of %" PRIu64 ", %s",
	    play->round + 1, play->set->rounds, bench_suites[suite].name);
	for (unsigned place = 0; place < bench_peer_count && bench_stop == 0;
	     place++) {
		unsigned peer = play_turn(play->round, place);

		if ((play->set->peers >> peer & 1) == 0 ||
		    !bench_plays(peer, suite))
			continue;
		play_step(play, what, peer);
		if (play_is_over(play))
			return;
		if ((play->out[suite] >> peer & 1) != 0)
			continue;
		play->suite = suite;
		play->peer = peer;
		play_worker(play);
	}
}

static bool
play_has_suite(const struct play *play, unsigned suite, unsigned round)
{
	unsigned rounds_max = bench_suites[suite].rounds_max;

	return (play->set->suites >> suite & 1) != 0 &&
	       (rounds_max == 0 || round < rounds_max);
}

static void
play_round(struct play *play)
{
	for (unsigned suite = 0; suite < bench_suite_count; suite++) {
		uint64_t begun = play_now_ns();

		if (!play_has_suite(play, suite, play->round) ||
		    bench_stop != 0 || play->over)
			continue;
		play_suite(play, suite);
		play->spent[suite] = play_now_ns() - begun;
	}
}

/* Would the next round, like the last, end within the limit? */
static bool
play_fits(const struct play *play)
{
	uint64_t end = play_now_ns() - play->begun_ns;

	if (play->set->limit_ns == 0 || play->round == 0)
		return true;
	for (unsigned suite = 0; suite < bench_suite_count; suite++)
		if (play_has_suite(play, suite, play->round))
			end += play->spent[suite];
	return end <= play->set->limit_ns;
}

static void
play_rounds(struct play *play)
{
	char text[96];

	for (play->round = 0;
	     play->round < play->set->rounds && bench_stop == 0 && !play->over;
	     play->round++) {
		if (!play_fits(play)) {
			snprintf(text, sizeof(text),
			    "%u of %" PRIu64
			    " rounds: another would not end in time",
			    play->round, play->set->rounds);
			bench_rows_about(play->rows, "shortened", "-", text);
			break;
		}
		play_round(play);
	}
}

/* ---- all of it --------------------------------------------------------------------- */

/* Of a set of peers, how many play a suite. */
static unsigned
play_count(uint64_t peers, unsigned suite)
{
	unsigned count = 0;

	for (unsigned i = 0; i < bench_peer_count; i++)
		count += (peers >> i & 1) != 0 && bench_plays(i, suite);
	return count;
}

/* What to do about an opponent without a worker. */
static void
play_remedy(const struct bench_peer *peer, char *text, size_t bytes)
{
	const char *verb = "install ";

	if (peer->package[0] == '\0')
		verb = "";
	else if (strchr(peer->package, '=') != NULL)
		verb = "set "; /* a variable that names a source tree */
	snprintf(text, bytes, "%s%s%srun script/bench in the source tree", verb,
	    peer->package, peer->package[0] != '\0' ? " and " : "");
}

/* Leaves out who plays none of the suites, and names those without a worker. */
static void
play_missing(struct play *play, struct bench_settings *set)
{
	char path[BENCH_PATH_BYTES];
	char text[BENCH_UNIT_BYTES];

	for (unsigned i = 0; i < bench_peer_count; i++) {
		const struct bench_peer *peer = &bench_peers[i];

		if (!bench_plays_any(i, set->suites))
			set->peers &= ~(UINT64_C(1) << i);
		if ((set->peers >> i & 1) == 0 ||
		    bench_worker_path(set->directory, peer->name, path))
			continue;
		set->peers &= ~(UINT64_C(1) << i);
		snprintf(text, sizeof(text),
		    "no bench/weir-bench-%s %s%.80s: ", peer->name,
		    set->directory_given ? "in " : "beside this program",
		    set->directory_given ? set->directory : "");
		size_t used = strlen(text);
		play_remedy(peer, text + used, sizeof(text) - used);
		bench_rows_note(
		    play->rows, "about", peer->name, "missing", text);
	}
}

static void
play_counts(struct play *play)
{
	for (unsigned i = 0; i < bench_peer_count && bench_stop == 0; i++) {
		if ((play->set->peers >> i & 1) == 0)
			continue;
		play_step(play, "counting instructions", i);
		bench_count_play(play->set, i, play->rows);
	}
}

bool
bench_play(const struct bench_settings *given, struct bench_rows *rows)
{
	struct bench_settings set = *given;
	struct play play = {.set = &set, .rows = rows};

	play.begun_ns = play_now_ns();
	bench_play_about(&set, rows);
	play_missing(&play, &set);
	for (unsigned suite = 0; suite < bench_suite_count; suite++)
		for (unsigned round = 0; round < set.rounds; round++)
			if (play_has_suite(&play, suite, round))
				play.total += play_count(set.peers, suite);
	if (set.instructions)
		play.total += (unsigned)__builtin_popcountll(set.peers);
	term_progress_begin(&play.progress, stderr);
	play_rounds(&play);
	bench_figures_rows(&play.figures, rows);
	bench_figures_free(&play.figures);
	if (set.instructions)
		play_counts(&play);
	term_progress_end(&play.progress);
	if (bench_stop != 0)
		bench_rows_about(rows, "shortened", "-", "interrupted");
	return !play.failed && bench_stop == 0;
}
