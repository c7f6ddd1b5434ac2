/* SPDX-License-Identifier: MIT */
/*
 * bench_chart.c - rows as SVG pictures, drawn by gnuplot: one a suite.
 *
 * Bars on a logarithmic scale, since the slowest opponent may take hundreds of
 * times as long as the fastest; for `decay` two panels of lines over the hours.
 * gnuplot reads program and data on its standard input and writes the picture
 * to its standard output, so no file name passes through its quoting.
 */
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHART_CASES_MAX 8u

static const char chart_head[] =
    "set terminal svg size 1000,420 dynamic font 'sans-serif,12' "
    "background '#ffffff'\n"
    "set grid ytics lc rgb '#dddddd'\n"
    "set border 3 lc rgb '#666666'\n"
    "set tics nomirror\n"
    "set key outside right top\n";

static const char *const chart_colours[CHART_CASES_MAX] = {"#1f6f8b", "#99a8b2",
    "#e6b655", "#c06c84", "#6c5b7b", "#355c7d", "#b0c4b1", "#d4a373"};

/* The first metric of the suite's table. */
static void
chart_metric(const struct bench_suite *suite, char *metric, size_t bytes)
{
	snprintf(metric, bytes, "%.*s", (int)strcspn(suite->metrics, " "),
	    suite->metrics);
}

static unsigned
chart_cases(const struct bench_rows *rows, const char *suite,
    const char *metric, const char *cases[CHART_CASES_MAX])
{
	unsigned count = 0;

	for (size_t i = 0; i < rows->count; i++) {
		const struct bench_row *row = &rows->rows[i];
		bool known = false;

		if (strcmp(row->suite, suite) != 0 ||
		    strcmp(row->metric, metric) != 0)
			continue;
		for (unsigned j = 0; j < count; j++)
			known |= strcmp(cases[j], row->name) == 0;
		if (!known && count < CHART_CASES_MAX)
			cases[count++] = row->name;
	}
	return count;
}

static void
chart_bars(FILE *to, const struct bench_rows *rows,
    const struct bench_suite *suite, const char *metric,
    const char *const *cases, unsigned count)
{
	fputs("$data << EOD\n", to);
	for (unsigned i = 0; i < bench_peer_count; i++) {
		bool any = false;

		for (unsigned j = 0; j < count; j++)
			any |= bench_rows_find(rows, suite->name, cases[j],
				   bench_peers[i].name, metric) != NULL;
		if (!any)
			continue;
		fprintf(to, "%s", bench_peers[i].name);
		for (unsigned j = 0; j < count; j++) {
			const struct bench_row *row = bench_rows_find(rows,
			    suite->name, cases[j], bench_peers[i].name, metric);

			if (row != NULL && row->value > 0)
				fprintf(to, " %.6g", row->value);
			else
				fputs(" NaN", to);
		}
		fputc('\n', to);
	}
	fprintf(to,
	    "EOD\n"
	    "set title '%s: %s (%s)' noenhanced\n"
	    "set style data histograms\n"
	    "set style histogram clustered gap 1\n"
	    "set style fill solid 0.9 noborder\n"
	    "set logscale y\n"
	    "set xtics rotate by -40\n"
	    "set xtics noenhanced\n"
	    "plot ",
	    suite->name, suite->question, metric);
	for (unsigned j = 0; j < count; j++)
		fprintf(to,
		    "%s$data using %u:xtic(1) title '%s' noenhanced lc rgb "
		    "'%s'",
		    j == 0 ? "" : ", ", j + 2, cases[j], chart_colours[j]);
	fputc('\n', to);
}

/* ---- decay: lines over the hours --------------------------------------------- */

#define CHART_HOURS 72u

static unsigned
chart_hours(FILE *to, const struct bench_rows *rows, const char *metric)
{
	unsigned lines = 0;

	for (unsigned i = 0; i < bench_peer_count; i++) {
		if (bench_rows_find(rows, "decay", "mixed/hour01",
			bench_peers[i].name, metric) == NULL)
			continue;
		fprintf(to, "$d%u << EOD\n", lines++);
		for (unsigned hour = 1; hour <= CHART_HOURS; hour++) {
			char name[BENCH_NAME_BYTES];
			const struct bench_row *row;

			snprintf(name, sizeof(name), "mixed/hour%02u", hour);
			row = bench_rows_find(
			    rows, "decay", name, bench_peers[i].name, metric);
			if (row != NULL)
				fprintf(to, "%u %.6g\n", hour, row->value);
		}
		fputs("EOD\n", to);
	}
	return lines;
}

static void
chart_panel(
    FILE *to, const struct bench_rows *rows, const char *metric, bool key)
{
	unsigned lines = chart_hours(to, rows, metric);
	unsigned line = 0;

	fprintf(to, "set title '%s' noenhanced\nset %s\nset logscale y\nplot ",
	    metric, key ? "key outside right top" : "key off");
	for (unsigned i = 0; i < bench_peer_count && line < lines; i++)
		if (bench_rows_find(rows, "decay", "mixed/hour01",
			bench_peers[i].name, metric) != NULL) {
			bool own = bench_peers[i].kind == BENCH_WEIR;

			fprintf(to,
			    "%s$d%u using 1:2 with lines lw %d dt %d title "
			    "'%s' noenhanced",
			    line == 0 ? "" : ", ", line, own ? 3 : 1,
			    line % 5 + 1, bench_peers[i].name);
			line++;
		}
	fputc('\n', to);
}

static void
chart_decay(FILE *to, const struct bench_rows *rows)
{
	fputs("set multiplot layout 1,2\nset xlabel 'hour'\n", to);
	chart_panel(to, rows, "p99_ns", false);
	chart_panel(to, rows, "rss_ratio", true);
	fputs("unset multiplot\n", to);
}

/* ---- one picture ----------------------------------------------------------------- */

/* gnuplot with its input in the returned stream; NULL and -errno. */
static FILE *
chart_start(int picture, pid_t *child, int *error)
{
	int ends[2];
	FILE *to;

	fflush(NULL);
	if (pipe2(ends, O_CLOEXEC) != 0) {
		*error = -errno;
		return NULL;
	}
	*child = fork();
	if (*child == 0) {
		if (dup2(ends[0], STDIN_FILENO) >= 0 &&
		    dup2(picture, STDOUT_FILENO) >= 0)
			execlp("gnuplot", "gnuplot", (char *)NULL);
		_exit(127);
	}
	close(ends[0]);
	to = *child < 0 ? NULL : fdopen(ends[1], "w");
	if (to == NULL) {
		*error = -errno;
		close(ends[1]);
		if (*child > 0)
			waitpid(*child, NULL, 0);
	}
	return to;
}

static int
chart_suite(const struct bench_rows *rows, const struct bench_suite *suite,
    const char *path)
{
	const char *cases[CHART_CASES_MAX];
	char metric[BENCH_NAME_BYTES];
	bool decay = strcmp(suite->name, "decay") == 0;
	int error = 0;
	int status;
	pid_t child;

	chart_metric(suite, metric, sizeof(metric));
	unsigned count = chart_cases(rows, suite->name, metric, cases);
	if (count == 0)
		return 0;
	int picture =
	    open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (picture < 0)
		return -errno;
	FILE *to = chart_start(picture, &child, &error);
	close(picture);
	if (to == NULL)
		return error;
	fputs(chart_head, to);
	if (decay)
		chart_decay(to, rows);
	else
		chart_bars(to, rows, suite, metric, cases, count);
	bool written = fclose(to) == 0;
	if (waitpid(child, &status, 0) != child || !WIFEXITED(status) ||
	    WEXITSTATUS(status) != 0 || !written)
		return -EIO;
	return 0;
}

int
bench_chart_write(const struct bench_rows *rows, const char *folder)
{
	char path[BENCH_PATH_BYTES];

	if (mkdir(folder, 0777) != 0 && errno != EEXIST)
		return -errno;
	for (unsigned i = 0; i < bench_suite_count; i++) {
		snprintf(path, sizeof(path), "%s/%s.svg", folder,
		    bench_suites[i].name);
		int error = chart_suite(rows, &bench_suites[i], path);
		if (error != 0)
			return error;
	}
	return 0;
}
