/* SPDX-License-Identifier: MIT */
/*
 * demo_chart.c - the result of a demo as an SVG picture, drawn by gnuplot.
 *
 * gnuplot gets the picture's program and data on its standard input and writes
 * the picture to the caller's file as its standard output, so no file name
 * passes through a shell or through gnuplot's own quoting.
 */
#include "demo.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "demo_stats.h"

static const char chart_head[] =
    "set terminal svg size 900,420 dynamic font 'sans-serif,13' "
    "background '#ffffff'\n"
    "set style fill solid 0.9 noborder\n"
    "set boxwidth 0.6\n"
    "set grid ytics lc rgb '#dddddd'\n"
    "set border 3 lc rgb '#666666'\n"
    "set tics nomirror\n"
    "set yrange [0:*]\n"
    "set offsets 0.5,0.5,0,0\n"
    "unset key\n"
    "color(i) = i == 0 ? 0x1f6f8b : i == 1 ? 0xb0b0b0 : i == 2 ? 0x9a8c98 "
    ": 0xc9ada7\n";

bool
demo_chart_ready(void)
{
	const char *path = getenv("PATH");
	char candidate[DEMO_PATH_BYTES];

	while (path != NULL && *path != '\0') {
		int length = (int)strcspn(path, ":");

		snprintf(
		    candidate, sizeof(candidate), "%.*s/gnuplot", length, path);
		if (access(candidate, X_OK) == 0)
			return true;
		path += length;
		path += *path == ':';
	}
	return false;
}

/* One data block: x, name, value, low, high, colour. */
static void
chart_data(FILE *to, const struct demo *demo, const char *name, double scale,
    enum demo_metric metric)
{
	int x = 0;

	fprintf(to, "$%s << EOD\n", name);
	for (int i = 0; i < DEMO_ID_COUNT; i++) {
		const struct demo_row *row = &demo->rows[i];
		struct demo_spread spread;

		if (row->round_count == 0)
			continue;
		spread = demo_row_spread(row, metric);
		fprintf(to, "%d %s %.9g %.9g %.9g %d\n", x++,
		    demo_contenders[i].name, spread.median * scale,
		    spread.low * scale, spread.high * scale, i);
	}
	fputs("EOD\n", to);
}

static void
chart_memory(FILE *to, const struct demo *demo)
{
	int x = 0;

	fputs("$memory << EOD\n", to);
	for (int i = 0; i < DEMO_ID_COUNT; i++)
		if (demo->rows[i].round_count > 0) {
			double mib = (double)demo->rows[i].peak_rss / 1048576.0;
			fprintf(to, "%d %s %.3f %.3f %.3f %d\n", x++,
			    demo_contenders[i].name, mib, mib, mib, i);
		}
	fputs("EOD\n", to);
}

static void
chart_panel(FILE *to, const char *title, const char *data)
{
	fprintf(to,
	    "set title '%s'\n"
	    "plot $%s using 1:3:(color(int($6))):xtic(2) with boxes "
	    "lc rgb variable, "
	    "$%s using 1:3:4:5 with errorbars lc rgb '#222222' pt 0\n",
	    title, data, data);
}

static void
chart_program(FILE *to, const struct demo *demo)
{
	fputs(chart_head, to);
	chart_data(to, demo, "cpu", 1.0, DEMO_CPU);
	chart_data(to, demo, "rate", 1e-3, DEMO_PACKETS_PER_S);
	chart_data(to, demo, "slow", 1e-6, DEMO_P99);
	chart_memory(to, demo);
	fprintf(to,
	    "set multiplot layout 1,4 title '%llu connections, %llu active, "
	    "%llu B packets'\n",
	    (unsigned long long)demo->set.connections,
	    (unsigned long long)demo->set.active,
	    (unsigned long long)demo->set.size);
	chart_panel(to, "server CPU, us/packet", "cpu");
	chart_panel(to, "packets/s, thousands", "rate");
	chart_panel(to, "latency p99, ms", "slow");
	chart_panel(to, "peak RSS, MiB", "memory");
	fputs("unset multiplot\n", to);
}

int
demo_chart_write(const struct demo *demo, FILE *out)
{
	FILE *to;
	pid_t child;
	int ends[2];
	int status;
	bool written;

	fflush(NULL);
	if (pipe2(ends, O_CLOEXEC) != 0)
		return -errno;
	child = fork();
	if (child == 0) {
		if (dup2(ends[0], STDIN_FILENO) >= 0 &&
		    dup2(fileno(out), STDOUT_FILENO) >= 0)
			execlp("gnuplot", "gnuplot", (char *)NULL);
		_exit(127);
	}
	close(ends[0]);
	to = child < 0 ? NULL : fdopen(ends[1], "w");
	if (to == NULL) {
		int error = -errno;

		close(ends[1]);
		if (child > 0)
			waitpid(child, NULL, 0);
		return error;
	}
	chart_program(to, demo);
	written = fclose(to) == 0;
	if (waitpid(child, &status, 0) != child || !WIFEXITED(status) ||
	    WEXITSTATUS(status) != 0 || !written)
		return -EIO;
	return 0;
}
