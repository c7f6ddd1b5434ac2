/* SPDX-License-Identifier: MIT */
/*
 * term.h - what goes to people: numbers, colour, a progress bar.
 */
#ifndef WEIR_TOOL_TERM_H
#define WEIR_TOOL_TERM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum term_style {
	TERM_PLAIN,
	TERM_BOLD,
	TERM_DIM,
	TERM_GOOD,
	TERM_BAD,
};

/** term_colour() - a terminal that has not been asked for no colour. */
bool term_colour(FILE *stream);

/** term_style() - the escape that begins a style, "" without colour. */
const char *term_style(FILE *stream, enum term_style style);

#define TERM_NUMBER_BYTES 32 /* enough for any result of the two below */

/** term_count() - 12,345,678; returns @buffer. */
const char *term_count(uint64_t value, char buffer[TERM_NUMBER_BYTES]);

/** term_time() - 950 ns, 12.3 us, 4.56 ms, 1.23 s; returns @buffer. */
const char *term_time(uint64_t ns, char buffer[TERM_NUMBER_BYTES]);

/**
 * struct term_progress - one line that is drawn over on a terminal; elsewhere
 * a plain line at each tenth of the way, so that a log shows life.
 */
struct term_progress {
	FILE *stream;
	bool drawn; /* a bar stands on the current line */
	unsigned tenths;
};

void term_progress_begin(struct term_progress *progress, FILE *stream);
void term_progress_set(struct term_progress *progress, unsigned done,
    unsigned total, const char *what);
void term_progress_end(struct term_progress *progress);

#endif /* WEIR_TOOL_TERM_H */
