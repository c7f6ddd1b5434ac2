/* SPDX-License-Identifier: MIT */
/*
 * demo.h - `weir demo`: servers with and without pools, side by side.
 *
 *     cmd_demo.c       options and output
 *     demo_play.c      the experiment: who runs when
 *     demo_server.c    a contender's process: start, figures, stop
 *     demo_client.c    a load engine in a process of its own, on command
 *     demo_slow.c      clients that never read, in a process of their own
 *     demo_harm.c      the round with those
 *     demo_machine.c   processor clocks of other processes, facts
 *     demo_stats.c     medians and their spread
 *     demo_table.c     the result for people
 *     demo_json.c      the result for programs
 *     demo_chart.c     the result as a picture
 *
 * All servers and their clients live, connected, through the whole timed part.
 * A round lets each contender run once for a fraction of a second while the
 * others are silent, so that what disturbs the machine disturbs all of them,
 * and a pair of figures from one round can be compared when figures minutes
 * apart cannot.
 */
#ifndef WEIR_TOOL_DEMO_H
#define WEIR_TOOL_DEMO_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>
#include <time.h>

#include "../../bench/count/count_page.h"
#include "load.h"

#define DEMO_ROUNDS_MAX 1000u
#define DEMO_PATH_BYTES 4096

/*
 * Identifier, name, whether it plays unless others are named; then either the
 * back end and the memory of a `weir serve`, or its program beside weir and the
 * package that this needs; and what it is.
 */
/* clang-format off */
#define DEMO_CONTENDERS(X)                                               \
	X(weir, "weir", true, WEIR("auto", "pool"),                      \
	    "weir serve on pools")                                       \
	X(weir_epoll, "weir-epoll", false, WEIR("epoll", "pool"),        \
	    "the same, over epoll")                                      \
	X(weir_uring, "weir-uring", false, WEIR("io_uring", "pool"),     \
	    "the same, over io_uring")                                   \
	X(malloc, "malloc", true, WEIR("auto", "malloc"),                \
	    "weir serve, malloc for every buffer")                       \
	X(libuv, "libuv", true, OTHER("weir-echo-libuv", "libuv1-dev"),  \
	    "libuv, malloc in alloc_cb")                                 \
	X(asio, "asio", true, OTHER("weir-echo-asio", "libasio-dev"),    \
	    "Asio, a buffer allocated per packet")                       \
	X(epoll, "epoll", false, OTHER("weir-echo-epoll", NULL),         \
	    "plain epoll, a malloc per packet")                          \
	X(uring, "uring", false, OTHER("weir-echo-uring", NULL),         \
	    "a bare io_uring, one ring of buffers, no safety")
/* clang-format on */

enum demo_id {
#define DEMO_ID(id, name, usual, kind, text) DEMO_##id,
	DEMO_CONTENDERS(DEMO_ID)
#undef DEMO_ID
	    DEMO_ID_COUNT
};

struct demo_contender {
	const char *name;
	const char *text;
	const char *program; /* NULL: weir itself */
	const char *package; /* NULL: it needs none */
	const char *backend;
	const char *memory;
	bool usual; /* plays unless others are named */
};

extern const struct demo_contender demo_contenders[DEMO_ID_COUNT];

struct demo_settings {
	uint64_t connections;
	uint64_t wanted_connections; /* before descriptors cut them */
	uint64_t active;
	uint64_t size;
	uint64_t depth;
	uint64_t rounds;
	uint64_t duration_ns;
	uint64_t warmup_ns;
	uint64_t contenders; /* set of enum demo_id */
	uint64_t slow;       /* clients that never read; 0: no such round */
	const char *json;
	const char *svg;
	const char *directory; /* of the contenders' programs */
	const char *title;     /* before the steps of the progress, or NULL */
	const char *const *serve_options; /* more for weir serve, or NULL */
	uint64_t rate; /* packets/s of an open loop; 0: closed */
	bool active_given;
	bool directory_given;
	bool duration_given;
	bool count;
	bool pinned; /* server on processor 0, client on processor 1 */
	int argc;
	char **argv;
};

extern volatile sig_atomic_t demo_stop; /* Ctrl-C was pressed */

/* ---- demo_server.c ----------------------------------------------------- */

struct demo_server {
	pid_t pid; /* 0: none */
	int output;
	int log; /* its standard error; -1: not kept */
	uint16_t port;
	clockid_t clock; /* processor time of the process */
};

/**
 * demo_server_where() - say that a file is not in the directory, and the way
 * out; @package is what its build needs, NULL if nothing.
 */
void demo_server_where(const struct demo_settings *set, const char *package,
    char *why, size_t why_bytes);

/* Is there a program for this contender?  False also explains in @why. */
bool demo_server_exists(const struct demo_settings *set, enum demo_id id,
    char *why, size_t why_bytes);

/**
 * demo_server_start() - start a contender and wait until it listens.
 * @count_file: when not NULL, preload the counter with this file.
 *
 * Returns 0; or -errno, and the reason in @why.
 */
int demo_server_start(struct demo_server *server,
    const struct demo_settings *set, enum demo_id id, const char *count_file,
    char *why, size_t why_bytes);

/* Waits for its line "listening on ADDR:PORT", of a process with pid and output
 * set; 0 or -errno. */
int demo_server_greeted(struct demo_server *server);

/* Peak resident memory in bytes, 0 if unknown. */
uint64_t demo_server_peak_rss(const struct demo_server *server);

/* Resident now, without what it shares with files: its own memory. */
uint64_t demo_server_memory(const struct demo_server *server);

/* Ask it to end, force it after two seconds; true if it ended with status 0. */
bool demo_server_stop(struct demo_server *server);

/* ---- demo_client.c ----------------------------------------------------- */

/* What a client process writes for its parent, in shared memory. */
struct demo_result {
	int error; /* -errno of the engine's creation */
	struct load_report report;
	uint64_t server_cpu_ns;  /* in the measured window */
	uint64_t softirq_cpu_ns; /* of ksoftirqd, in the same window */
	uint64_t busy_ns;        /* of the processors, whoever it was for */
};

struct demo_client {
	pid_t pid;
	int orders; /* socket to the process, -1: none */
	struct demo_result *result;
};

int demo_client_start(struct demo_client *client,
    const struct demo_settings *set, const struct demo_server *server);

/* Both wait until done; 0, -EINTR after Ctrl-C, -EPIPE if the client died. */
int demo_client_connect(struct demo_client *client);
int demo_client_run(
    struct demo_client *client, uint64_t warmup_ns, uint64_t duration_ns);

void demo_client_stop(struct demo_client *client);

/* ---- demo_slow.c ------------------------------------------------------- */

struct demo_slow {
	pid_t pid; /* 0: none */
};

/* @count clients that send @bytes each, or as much as is taken, and read
 * nothing; 0 or -errno. */
int demo_slow_start(struct demo_slow *slow, const struct demo_settings *set,
    const struct demo_server *server, uint32_t count, uint64_t bytes);

/* Wait until the server rests from them; false: it did not in time. */
bool demo_slow_settle(const struct demo_server *server, uint64_t limit_ns);

/* Reset them; accepts none. */
void demo_slow_stop(struct demo_slow *slow);

/* ---- demo_machine.c ---------------------------------------------------- */

struct demo_machine {
	char cpu[128];
	char kernel[256];
	const char *compiler;
	unsigned processors;
	bool softirq_seen; /* ksoftirqd's time can be read */
};

void demo_machine_read(struct demo_machine *machine);

/* Processors this process may use. */
unsigned demo_processors(void);

/* Run on one processor from now on; failure leaves things as they are. */
void demo_pin(unsigned cpu);

uint64_t demo_clock_ns(clockid_t clock);

/*
 * Time of the kernel threads that take over network work: of one processor,
 * or of all with cpu < 0.
 */
uint64_t demo_softirq_ns(int cpu);

/*
 * Time that processors were not idle, to 10 ms, with what a host took from
 * them: of the first two, or of all.
 */
uint64_t demo_busy_ns(bool first_two);

/* ---- results ----------------------------------------------------------- */

enum demo_status {
	DEMO_OFF,     /* not asked for */
	DEMO_MISSING, /* no program; the note says where it comes from */
	DEMO_BROKEN,  /* did not start, died or lost its connections */
	DEMO_READY,
};

struct demo_round {
	double packets_per_s;
	double cpu_us; /* per packet, with ksoftirqd's */
	double cpu_alone_us;
	double mean_ns;
	double p50_ns;
	double p99_ns;
	double others; /* share of the processors' time that others took */
};

/* Packets of some connections, alone and beside others that never read. */
struct demo_harm {
	bool ran;
	bool settled; /* the server rested from them before it was measured */
	double alone_per_s;
	double beside_per_s;
	uint64_t alone_bytes; /* the server's own memory */
	uint64_t beside_bytes;
	char note[192];
};

struct demo_row {
	enum demo_status status;
	char note[512];
	struct demo_server server;
	struct demo_client client;
	struct demo_round rounds[DEMO_ROUNDS_MAX];
	unsigned round_count;
	struct hist latency;       /* of all rounds */
	struct load_report totals; /* errors and mismatches of everything */
	uint32_t connected;
	uint64_t peak_rss;

	struct demo_harm harm;

	bool counted;
	char count_note[512];
	uint64_t counted_packets;
	uint64_t calls[COUNT_KIND_COUNT];
};

struct demo {
	struct demo_settings set;
	struct demo_machine machine;
	struct demo_row rows[DEMO_ID_COUNT];
	uint64_t elapsed_ns;
	uint64_t shortest_ns; /* of the rounds, see demo_pace() */
	bool interrupted;
};

/* Fills the rows by running the contenders; demo_play.c. */
void demo_play(struct demo *demo);

/* The round with clients that never read, of one contender; demo_harm.c. */
void demo_harm_play(struct demo *demo, enum demo_id id);

/* Allocations and memory calls per packet of a counted row. */
double demo_calls_per_packet(const struct demo_row *row, bool memory_calls);

/* The contender others are compared with: the first that ran. */
enum demo_id demo_baseline(const struct demo *demo);

uint64_t demo_errors(const struct demo_row *row);

/* Everything as it should be? */
bool demo_succeeded(const struct demo *demo);

void demo_table_print(const struct demo *demo, FILE *out);
int demo_json_write(const struct demo *demo, FILE *out);

/* 0, or -errno; the chart needs the gnuplot that demo_chart_ready() found. */
bool demo_chart_ready(void);
int demo_chart_write(const struct demo *demo, FILE *out);

/* The published figures this experiment repeats. */
#define DEMO_PUBLISHED_PLAIN_PER_S 15000
#define DEMO_PUBLISHED_POOL_PER_S 21000
#define DEMO_PUBLISHED_PLAIN_MS 120
#define DEMO_PUBLISHED_POOL_MS 90

#endif /* WEIR_TOOL_DEMO_H */
