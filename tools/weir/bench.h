/* SPDX-License-Identifier: MIT */
/*
 * bench.h - `weir bench`: pools and allocators side by side.
 *
 *     cmd_bench.c       options and output
 *     bench_list.c      the suites and the opponents
 *     bench_play.c      the experiment: who runs when
 *     bench_worker.c    one worker process: start, figures, time limit
 *     bench_figures.c   figures of all rounds, medians and ratios: rows
 *     bench_count.c     instructions, by callgrind
 *     bench_rows.c      rows to and from JSON
 *     bench_table.c     the result for people
 *     bench_report.c    the result as a page of documentation
 *     bench_chart.c     the result as pictures
 *     bench_net.h       the engine's figures: servers, not allocators
 *
 * A worker plays one suite with one opponent in a process of its own (see
 * bench/object/harness.h).  In a round every suite is played by every opponent,
 * one right after the other: what disturbs the machine disturbs neighbours
 * alike, so ratios are taken between figures of the same round.
 *
 * Everything that is known in the end is rows - suite, case, peer, metric,
 * value, unit, spread, rounds - and tables, charts and pages are made of rows
 * alone, whether they were just measured or read from a file.
 */
#ifndef WEIR_TOOL_BENCH_H
#define WEIR_TOOL_BENCH_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define BENCH_PATH_BYTES 4096
#define BENCH_ROUNDS_MAX 99u

extern volatile sig_atomic_t bench_stop; /* Ctrl-C was pressed */

/* ---- bench_list.c ------------------------------------------------------ */

/* name, kind, what it plays, package that its worker needs, what it is. */
/* clang-format off */
#define BENCH_PEERS(X)                                                        \
	X("glibc", MALLOC, ALL, "", "malloc of the C library")                \
	X("mimalloc", MALLOC, ALL, "libmimalloc2.0", "mimalloc")              \
	X("jemalloc", MALLOC, ALL, "libjemalloc2", "jemalloc")                \
	X("tcmalloc", MALLOC, ALL, "libtcmalloc-minimal4",                    \
	    "gperftools' tcmalloc")                                           \
	X("tbb", MALLOC, ALL, "libtbbmalloc2", "scalable_malloc of oneTBB")   \
	X("rte", POOL, OBJECTS, "libdpdk-dev", "DPDK's rte_mempool")          \
	X("apr", POOL, ALL, "libapr1-dev", "pools of the Apache runtime")     \
	X("nginx", POOL, REGIONS, "WEIR_NGINX_SOURCE=DIR",                  \
	    "nginx's pools, 16 KiB")                                          \
	X("nginx-4k", POOL, REGIONS, "WEIR_NGINX_SOURCE=DIR",               \
	    "nginx's pools, 4 KiB")                                           \
	X("obstack", POOL, REGIONS, "", "obstacks of the C library")          \
	X("glib", MALLOC, REGIONS, "libglib2.0-0", "GLib's slices")             \
	X("talloc", MALLOC, ALL, "libtalloc-dev", "Samba's talloc")           \
	X("talloc-pool", MALLOC, REGIONS, "libtalloc-dev",                    \
	    "talloc_pool() of 64 KiB")                                        \
	X("boost", POOL, OBJECTS, "libboost-dev",                             \
	    "boost::pool behind a mutex")                                     \
	X("boost-lockfree", POOL, OBJECTS, "libboost-dev",                    \
	    "Boost's lock-free list")                                         \
	X("ck", POOL, OBJECTS, "libck-dev", "ck_stack as a free list")        \
	X("mutex", TEXTBOOK, OBJECTS, "", "an array of objects behind a mutex") \
	X("lockfree", TEXTBOOK, OBJECTS, "", "a lock-free list with a tag")   \
	X("firstfit", TEXTBOOK, OBJECTS, "",                                  \
	    "Knuth's first fit behind a mutex")                               \
	X("bestfit", TEXTBOOK, OBJECTS, "", "the same, best fit")             \
	X("weir", WEIR, OBJECTS, "", "cache, every free checked")             \
	X("weir-batch", WEIR, OBJECTS, "", "cache, checked by the magazine")  \
	X("weir-inline", WEIR, OBJECTS, "",                                   \
	    "as weir, compiled into the caller")                              \
	X("batch-inline", WEIR, OBJECTS, "",                                  \
	    "as weir-batch, compiled into the caller")                        \
	X("weir-heap", WEIR, ALL, "", "heap: any size")                       \
	X("weir-bounded", WEIR, OBJECTS, "", "bounded pool, lock-free")       \
	X("weir-region", WEIR, REGIONS, "", "region, of a kind with a name")    \
	X("weir-limited", WEIR, REGIONS, "", "the same, with a limit")          \
	X("weir-plain", WEIR, REGIONS, "", "region, with neither")            \
	X("harness", FLOOR, ALL, "",                                          \
	    "no allocator: what each figure contains")                        \
	X("calls", FLOOR, OBJECTS, "",                                        \
	    "no allocator: two calls and a list of objects")                  \
	X("slow", HIDDEN, ALL, "",                                            \
	    "glibc, each free delayed: the test of this test")
/* clang-format on */

enum bench_kind {
	BENCH_MALLOC,
	BENCH_POOL,
	BENCH_TEXTBOOK,
	BENCH_WEIR, /* what the others are compared with */
	BENCH_FLOOR,
	BENCH_HIDDEN, /* plays only when it is named */
};

/* What a suite is about, and a set of it what an opponent has. */
enum bench_plays {
	BENCH_OBJECTS = 1, /* freed one by one, or by a pool of one size */
	BENCH_REGIONS = 2, /* of any size, freed together */
	BENCH_ALL = BENCH_OBJECTS | BENCH_REGIONS,
};

struct bench_peer {
	const char *name;
	enum bench_kind kind;
	enum bench_plays plays;
	const char *package;
	const char *text;
};

#define BENCH_PEER_MAX 32u

extern const struct bench_peer bench_peers[];
extern const unsigned bench_peer_count;

struct bench_suite {
	const char *name;
	const char *question;
	const char *metrics; /* of the table: "ns_op", or several with blanks */
	unsigned rounds_max; /* long suites play fewer rounds; 0: all */
	enum bench_plays plays;
};

#define BENCH_SUITE_MAX 16u

extern const struct bench_suite bench_suites[];
extern const unsigned bench_suite_count;

/* Does this opponent have what the suite is about? */
bool bench_plays(unsigned peer, unsigned suite);

/* Or with any of a set of suites? */
bool bench_plays_any(unsigned peer, uint64_t suites);

/* All that play unless others are named. */
uint64_t bench_peers_default(void);
uint64_t bench_suites_default(void);

/* Index of a name, -1 if there is none. */
int bench_peer_find(const char *name);
int bench_suite_find(const char *name);

/* NULL-terminated, for messages. */
const char *const *bench_peer_names(void);
const char *const *bench_suite_names(void);

/* ---- rows: bench_rows.c ------------------------------------------------ */

#define BENCH_NAME_BYTES 40
#define BENCH_UNIT_BYTES 232

struct bench_row {
	char suite[BENCH_NAME_BYTES];
	char name[BENCH_NAME_BYTES]; /* the case */
	char peer[BENCH_NAME_BYTES];
	char metric[BENCH_NAME_BYTES];
	char unit[BENCH_UNIT_BYTES];
	double value;  /* median */
	double spread; /* its interval is within value +- spread */
	unsigned rounds;
};

struct bench_rows {
	struct bench_row *rows;
	size_t count;
	size_t room;
	bool failed; /* out of memory: rows are missing */
};

/*
 * Rows without a figure carry their text as the unit.  Suite "about" tells
 * where the figures are from; the metrics "missing", "skipped" and "failed"
 * say why an opponent has none.
 */
struct bench_row *bench_rows_add(struct bench_rows *rows, const char *suite,
    const char *name, const char *peer, const char *metric);
void bench_rows_note(struct bench_rows *rows, const char *suite,
    const char *peer, const char *metric, const char *text);
void bench_rows_about(struct bench_rows *rows, const char *what,
    const char *peer, const char *text);
const struct bench_row *bench_rows_find(const struct bench_rows *rows,
    const char *suite, const char *name, const char *peer, const char *metric);
void bench_rows_free(struct bench_rows *rows);

/* One JSON object a line; 0 or -errno. */
int bench_rows_write(const struct bench_rows *rows, FILE *out);

/* Returns 0; -errno, or -EINVAL with the number of the bad line in @line. */
int bench_rows_read(struct bench_rows *rows, FILE *in, unsigned *line);

/* ---- figures of rounds: bench_figures.c ---------------------------------- */

struct bench_figure {
	uint8_t suite;
	uint8_t peer;
	char name[BENCH_NAME_BYTES];
	char metric[BENCH_NAME_BYTES];
	char unit[16];
	double values[BENCH_ROUNDS_MAX]; /* NAN: not in this round */
};

struct bench_figures {
	struct bench_figure *figures;
	size_t count;
	size_t room;
	bool failed;
};

void bench_figures_add(struct bench_figures *figures, unsigned suite,
    unsigned peer, unsigned round, const char *name, const char *metric,
    double value, const char *unit);

/* Medians of all, and ratios of opponents to each of weir's own. */
void bench_figures_rows(
    const struct bench_figures *figures, struct bench_rows *rows);
void bench_figures_free(struct bench_figures *figures);

/* Is a smaller value of this metric the better one, and a ratio of use? */
bool bench_metric_compared(const char *metric);

/* ---- one worker: bench_worker.c ------------------------------------------- */

struct bench_worker_job {
	const char *directory; /* where the workers are */
	const char *peer;
	const char *suite;
	const char *only; /* the only case, or NULL */
	uint64_t case_ms;
	uint64_t decay_ops;
	uint64_t live_bytes;
	uint64_t limit_ms; /* then it is ended */
};

enum bench_outcome {
	BENCH_PLAYED,
	BENCH_SKIPPED, /* the suite makes no sense; the text says why */
	BENCH_FAILED,  /* the text says how */
	BENCH_INTERRUPTED,
};

/* Called for each figure; a worker that fails later keeps those it gave. */
typedef void (*bench_figure_fn)(void *context, const char *name,
    const char *metric, double value, const char *unit);

struct bench_worker_result {
	enum bench_outcome outcome;
	char text[BENCH_UNIT_BYTES];
	char version[BENCH_UNIT_BYTES];
};

/* The program of an opponent; false if it is not there. */
bool bench_worker_path(
    const char *directory, const char *peer, char path[BENCH_PATH_BYTES]);

void bench_worker_run(const struct bench_worker_job *job,
    bench_figure_fn figure, void *context, struct bench_worker_result *result);

/*
 * bench_process_run() - a child process with an end: its standard output and
 * error, NUL-terminated and cut at the size of the buffers.
 *
 * Returns its wait status, -ETIME after the limit, -EINTR after Ctrl-C.
 */
int bench_process_run(char *const argv[], uint64_t limit_ms, char *out,
    size_t out_bytes, char *err, size_t err_bytes);

/* ---- the experiment: bench_play.c ------------------------------------------ */

struct bench_settings {
	uint64_t suites; /* sets of indices */
	uint64_t peers;
	uint64_t rounds;
	uint64_t case_ms;
	uint64_t decay_ops;
	uint64_t live_bytes;
	uint64_t limit_ns; /* no further round that would end later */
	const char *directory;
	bool directory_given;
	const char *only;
	bool instructions;
	int argc;
	char **argv;
};

/* Rows about the machine, the command and the like. */
void bench_play_about(
    const struct bench_settings *set, struct bench_rows *rows);

/* Plays, and adds what came of it to the rows; false if a worker failed. */
bool bench_play(const struct bench_settings *set, struct bench_rows *rows);

/* Instructions of alloc and free, for --instructions; bench_count.c. */
bool bench_count_ready(void);
void bench_count_play(
    const struct bench_settings *set, unsigned peer, struct bench_rows *rows);

/* ---- output ------------------------------------------------------------------ */

void bench_table_print(const struct bench_rows *rows, FILE *out);
void bench_report_print(
    const struct bench_rows *rows, const char *charts, FILE *out);

/* Charts of all suites that have rows, into a folder; 0 or -errno. */
int bench_chart_write(const struct bench_rows *rows, const char *folder);

#endif /* WEIR_TOOL_BENCH_H */
