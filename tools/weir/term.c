/* SPDX-License-Identifier: MIT */
/*
 * term.c - output for people.
 */
#include "term.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TERM_BAR_CELLS 24

bool
term_colour(FILE *stream)
{
	const char *no_color = getenv("NO_COLOR");
	const char *terminal = getenv("TERM");

	/* no-color.org: present and not empty, whatever the value. */
	if (no_color != NULL && *no_color != '\0')
		return false;
	if (terminal != NULL && strcmp(terminal, "dumb") == 0)
		return false;
	return isatty(fileno(stream)) == 1;
}

const char *
term_style(FILE *stream, enum term_style style)
{
	static const char *const escapes[] = {
	    [TERM_PLAIN] = "\033[0m",
	    [TERM_BOLD] = "\033[1m",
	    [TERM_DIM] = "\033[2m",
	    [TERM_GOOD] = "\033[32m",
	    [TERM_BAD] = "\033[31m",
	};

	return term_colour(stream) ? escapes[style] : "";
}

const char *
term_count(uint64_t value, char buffer[TERM_NUMBER_BYTES])
{
	char digits[TERM_NUMBER_BYTES];
	size_t length =
	    (size_t)snprintf(digits, sizeof(digits), "%" PRIu64, value);
	size_t out = 0;

	for (size_t i = 0; i < length; i++) {
		if (i > 0 && (length - i) % 3 == 0)
			buffer[out++] = ',';
		buffer[out++] = digits[i];
	}
	buffer[out] = '\0';
	return buffer;
}

const char *
term_time(uint64_t ns, char buffer[TERM_NUMBER_BYTES])
{
	static const struct {
		double ns;
		const char *name;
	} units[] = {{1e9, "s"}, {1e6, "ms"}, {1e3, "us"}, {1, "ns"}};
	double value = (double)ns;
	size_t unit = 0;

	while (unit < 3 && value < units[unit].ns)
		unit++;
	value /= units[unit].ns;
	/* Three figures, as many as a histogram of 1.6 % has to say. */
	int decimals = unit == 3 || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
	snprintf(buffer, TERM_NUMBER_BYTES, "%.*f %s", decimals, value,
	    units[unit].name);
	return buffer;
}

void
term_progress_begin(struct term_progress *progress, FILE *stream)
{
	*progress = (struct term_progress){.stream = stream};
}

static void
term_bar(struct term_progress *progress, unsigned done, unsigned total,
    const char *what)
{
	unsigned full = done * TERM_BAR_CELLS / total;
	char bar[TERM_BAR_CELLS + 1];

	memset(bar, '.', TERM_BAR_CELLS);
	memset(bar, '#', full);
	bar[TERM_BAR_CELLS] = '\0';
	/* Carriage return, text, erase to the end of the line. */
	fprintf(progress->stream, "\r[%s] %3u %%  %s\033[K", bar,
	    done * 100 / total, what);
	fflush(progress->stream);
	progress->drawn = true;
}

void
term_progress_set(struct term_progress *progress, unsigned done, unsigned total,
    const char *what)
{
	unsigned tenths;

	if (total == 0)
		return;
	if (isatty(fileno(progress->stream)) == 1) {
		term_bar(progress, done, total, what);
		return;
	}
	tenths = done * 10 / total;
	if (tenths > progress->tenths) {
		fprintf(progress->stream, "%3u %%  %s\n", tenths * 10, what);
		fflush(progress->stream);
		progress->tenths = tenths;
	}
}

void
term_progress_end(struct term_progress *progress)
{
	if (progress->drawn)
		fputs("\r\033[K", progress->stream);
	fflush(progress->stream);
	progress->drawn = false;
}
