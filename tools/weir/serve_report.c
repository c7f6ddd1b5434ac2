/* SPDX-License-Identifier: MIT */
/*
 * serve_report.c - what a server says when asked and at its end.
 *
 * The report asked for by a signal is written by the thread that serves, so it
 * must not wait for whoever reads: a pipe nobody empties would stop every
 * connection.  It is put together in memory and offered in pieces, each only
 * after poll() has said that there is room.  A pipe that is writable takes
 * PIPE_BUF bytes at once, so a piece is no larger.  O_NONBLOCK would be shorter
 * but belongs to the open file, which other processes share: a shell, a logger.
 */
#include "serve.h"

#include "json.h"
#include "term.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <weir/stats.h>

#define REPORT_POOLS_MAX 64

/* Figures a reader of the report looks for, in this order. */
#define REPORT_FIGURES(X)                                         \
	X(connections, "open connections")                        \
	X(accepted, "accepted connections")                       \
	X(refused, "refused connections")                         \
	X(no_descriptor, "closed without descriptor")             \
	X(accept_pauses, "pauses of accepting")                   \
	X(receives, "receives")                                   \
	X(bytes_received, "bytes received")                       \
	X(sends, "sends")                                         \
	X(bytes_sent, "bytes sent")                               \
	X(operations, "sends on their way")                       \
	X(starved, "waits for a buffer")                          \
	X(starved_now, "connections waiting for a buffer")        \
	X(quota_pauses, "pauses of receiving, peer not reading")  \
	X(listeners_lost, "listeners lost")                       \
	X(throttled, "pauses of receiving, account full")         \
	X(throttled_now, "connections paused by an account")      \
	X(closed_holding, "ended with buffers still held")        \
	X(account_bytes, "bytes pinned, by accounts")             \
	X(account_bytes_peak, "most of them")                     \
	X(zero_copies, "sends without a copy")                    \
	X(zero_copies_copied, "of them copied after all")         \
	X(zero_copies_reset, "ended, and reset: peer not taking") \
	X(buffers_lost, "buffers left to a failed ring")

static void
report_net_text(FILE *out, const struct weir_net_figures *stats)
{
	char number[TERM_NUMBER_BYTES];

#define REPORT_LINE(name, text) \
	fprintf(out, "  %-40s %16s\n", text, term_count(stats->name, number));
	REPORT_FIGURES(REPORT_LINE)
#undef REPORT_LINE
	for (int i = 0; i < WEIR_CLOSE_REASON_COUNT; i++) {
		char text[64];
		if (stats->closed[i] == 0)
			continue;
		snprintf(text, sizeof(text), "closed: %s",
		    weir_close_reason_text((enum weir_close_reason)i));
		fprintf(out, "  %-40s %16s\n", text,
		    term_count(stats->closed[i], number));
	}
}

static void
report_net_json(struct json *json, const struct weir_net_figures *stats)
{
	static const char *const reasons[] = {
#define REPORT_REASON(name, text) #name,
	    WEIR_CLOSE_REASONS(REPORT_REASON)
#undef REPORT_REASON
	};

	json_open(json, "net", '{');
#define REPORT_COUNT(name, text) json_count(json, #name, stats->name);
	REPORT_FIGURES(REPORT_COUNT)
#undef REPORT_COUNT
	json_open(json, "closed", '{');
	for (int i = 0; i < WEIR_CLOSE_REASON_COUNT; i++)
		json_count(json, reasons[i], stats->closed[i]);
	json_close(json, '}');
	json_close(json, '}');
}

/*
 * The library's own text or JSON, which grows with the number of pools,
 * without line ends after it; the caller frees it.  NULL: no memory.
 */
static char *
report_pools(size_t (*write)(char *buffer, size_t bytes))
{
	size_t bytes = write(NULL, 0) + 256;
	char *text = malloc(bytes);

	if (text == NULL)
		return NULL;
	(void)write(text, bytes);
	for (size_t end = strlen(text); end > 0 && text[end - 1] == '\n'; end--)
		text[end - 1] = '\0';
	return text;
}

void
serve_report(FILE *out, struct weir_net *net)
{
	struct weir_net_figures stats = {.size = sizeof(stats)};
	char *pools;

	if (weir_net_stats(net, &stats) != 0)
		return;
	report_net_text(out, &stats);
	pools = report_pools(weir_stats_text);
	if (pools != NULL)
		fprintf(out, "%s\n", pools);
	free(pools);
	fflush(out);
}

void
serve_report_channel(FILE *out, struct weir_channel *channel)
{
	struct weir_broadcast_figures stats = {.size = sizeof(stats)};

	if (weir_channel_stats(channel, &stats) == 0)
		fprintf(out,
		    "broadcast: %" PRIu64 " messages, %" PRIu64
		    " deliveries passed over, %" PRIu64 " members closed\n",
		    stats.published, stats.skipped, stats.closed);
	fflush(out);
}

/* Writes what goes without waiting; false: not all of it. */
static bool
report_offer(int fd, const char *text, size_t bytes)
{
	while (bytes > 0) {
		struct pollfd room = {.fd = fd, .events = POLLOUT};
		size_t piece = bytes < PIPE_BUF ? bytes : PIPE_BUF;
		ssize_t written;

		if (poll(&room, 1, 0) != 1 || !(room.revents & POLLOUT))
			return false;
		written = write(fd, text, piece);
		if (written < 0 && errno != EINTR)
			return false;
		if (written > 0) {
			text += written;
			bytes -= (size_t)written;
		}
	}
	return true;
}

void
serve_report_dropped(FILE *out, uint64_t dropped)
{
	if (dropped > 0)
		fprintf(out,
		    "\nweir serve: reports cut short or lost because nobody "
		    "read them: %" PRIu64 "\n",
		    dropped);
}

void
serve_report_offer(FILE *out, struct weir_net *net, uint64_t *dropped)
{
	char *text = NULL;
	size_t bytes = 0;
	FILE *memory = open_memstream(&text, &bytes);
	bool whole;

	if (memory == NULL) {
		++*dropped;
		return;
	}
	serve_report_dropped(memory, *dropped);
	serve_report(memory, net);
	whole = fclose(memory) == 0 && report_offer(fileno(out), text, bytes);
	*dropped = whole ? 0 : *dropped + 1;
	free(text);
}

int
serve_report_json(FILE *out, struct weir_net *net, uint64_t leaks)
{
	struct weir_net_figures stats = {.size = sizeof(stats)};
	int error = weir_net_stats(net, &stats);
	struct json json;
	char *pools;

	if (error != 0)
		return error;
	pools = report_pools(weir_stats_json);
	if (pools == NULL)
		return -ENOMEM;
	json_begin(&json, out);
	json_open(&json, NULL, '{');
	report_net_json(&json, &stats);
	json_raw(&json, "memory", pools);
	json_count(&json, "leaks", leaks);
	json_close(&json, '}');
	free(pools);
	return json_end(&json);
}

static uint64_t
report_leak(FILE *out, uint64_t count, const char *what)
{
	if (count > 0 && out != NULL)
		fprintf(out, "leaks: %" PRIu64 " %s\n", count, what);
	return count;
}

/* Net counts its own; the pools say what is out of them. */
static uint64_t
report_pool_leaks(FILE *out)
{
	static struct weir_pool_stats pools[REPORT_POOLS_MAX];
	uint64_t leaks = 0;
	size_t count;

	pools[0].size = sizeof(pools[0]);
	count = weir_stats_pools(pools, REPORT_POOLS_MAX);
	if (count > REPORT_POOLS_MAX)
		count = REPORT_POOLS_MAX;
	for (size_t i = 0; i < count; i++) {
		char what[80];
		snprintf(what, sizeof(what), "of pool %s", pools[i].name);
		leaks += report_leak(out, pools[i].in_use, what);
	}
	return leaks;
}

uint64_t
serve_leaks(FILE *out, struct weir_net *net)
{
	struct weir_net_figures stats = {.size = sizeof(stats)};
	struct serve_malloc_counts counts = serve_malloc_total();
	uint64_t leaks = 0;

	if (weir_net_stats(net, &stats) == 0) {
		leaks += report_leak(out, stats.connections, "connections");
		leaks += report_leak(out, stats.operations, "sends");
	}
	leaks += report_pool_leaks(out);
	leaks += report_leak(
	    out, counts.buffers_taken - counts.buffers_given, "malloc buffers");
	leaks += report_leak(
	    out, counts.objects_taken - counts.objects_given, "malloc objects");
	if (leaks == 0 && out != NULL)
		fputs("leaks: none\n", out);
	return leaks;
}

void
serve_complain(const char *address, uint64_t port, int error)
{
	if (error == -EADDRINUSE)
		fprintf(stderr,
		    "weir serve: port %" PRIu64
		    " of %s is in use; stop the other "
		    "server, or choose another --port (0: any free one)\n",
		    port, address);
	else if (error == -EADDRNOTAVAIL)
		fprintf(stderr,
		    "weir serve: %s is no address of this machine\n", address);
	else if (error == -EACCES)
		fprintf(stderr,
		    "weir serve: port %" PRIu64
		    " is for root only; ports from 1024 "
		    "on are for everybody\n",
		    port);
	else
		fprintf(stderr, "weir serve: %s\n", strerror(-error));
}
