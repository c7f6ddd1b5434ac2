/* SPDX-License-Identifier: MIT */
/*
 * bench_rows.c - rows in memory, and as lines of JSON.
 *
 * Each line is a flat object of eight members, so that a line can be found with
 * grep and a file read by any tool line by line; the reader here takes the
 * members in any order and passes over those it does not know.
 */
#include "bench.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define ROWS_LINE_BYTES 2048

struct bench_row *
bench_rows_add(struct bench_rows *rows, const char *suite, const char *name,
    const char *peer, const char *metric)
{
	struct bench_row *row;

	if (rows->count == rows->room) {
		size_t room = rows->room == 0 ? 256 : rows->room * 2;
		void *more = realloc(rows->rows, room * sizeof(*rows->rows));

		if (more == NULL) {
			rows->failed = true;
			return NULL;
		}
		rows->rows = more;
		rows->room = room;
	}
	row = &rows->rows[rows->count++];
	memset(row, 0, sizeof(*row));
	snprintf(row->suite, sizeof(row->suite), "%s", suite);
	snprintf(row->name, sizeof(row->name), "%s", name);
	snprintf(row->peer, sizeof(row->peer), "%s", peer);
	snprintf(row->metric, sizeof(row->metric), "%s", metric);
	return row;
}

void
bench_rows_note(struct bench_rows *rows, const char *suite, const char *peer,
    const char *metric, const char *text)
{
	struct bench_row *row = bench_rows_add(rows, suite, "-", peer, metric);

	if (row != NULL)
		snprintf(row->unit, sizeof(row->unit), "%s", text);
}

void
bench_rows_about(struct bench_rows *rows, const char *what, const char *peer,
    const char *text)
{
	struct bench_row *row = bench_rows_add(rows, "about", "-", peer, what);

	if (row != NULL)
		snprintf(row->unit, sizeof(row->unit), "%s", text);
}

const struct bench_row *
bench_rows_find(const struct bench_rows *rows, const char *suite,
    const char *name, const char *peer, const char *metric)
{
	for (size_t i = 0; i < rows->count; i++) {
		const struct bench_row *row = &rows->rows[i];

		if (strcmp(row->metric, metric) == 0 &&
		    strcmp(row->peer, peer) == 0 &&
		    strcmp(row->name, name) == 0 &&
		    strcmp(row->suite, suite) == 0)
			return row;
	}
	return NULL;
}

void
bench_rows_free(struct bench_rows *rows)
{
	free(rows->rows);
	*rows = (struct bench_rows){0};
}

/* ---- writing ------------------------------------------------------------- */

static void
rows_text(FILE *out, const char *key, const char *text)
{
	fprintf(out, "\"%s\":\"", key);
	for (; *text != '\0'; text++) {
		unsigned char byte = (unsigned char)*text;

		if (byte == '"' || byte == '\\')
			fprintf(out, "\\%c", byte);
		else if (byte < 0x20)
			fprintf(out, "\\u%04x", byte);
		else
			fputc(byte, out);
	}
	fputs("\",", out);
}

static void
rows_number(FILE *out, const char *key, double value)
{
	if (isfinite(value))
		fprintf(out, "\"%s\":%.6g,", key, value);
	else
		fprintf(out, "\"%s\":null,", key);
}

int
bench_rows_write(const struct bench_rows *rows, FILE *out)
{
	for (size_t i = 0; i < rows->count; i++) {
		const struct bench_row *row = &rows->rows[i];

		fputc('{', out);
		rows_text(out, "suite", row->suite);
		rows_text(out, "case", row->name);
		rows_text(out, "peer", row->peer);
		rows_text(out, "metric", row->metric);
		rows_number(out, "value", row->value);
		rows_text(out, "unit", row->unit);
		rows_number(out, "spread", row->spread);
		fprintf(out, "\"rounds\":%u}\n", row->rounds);
		if (ferror(out))
			return -errno; /* said by the call that failed */
	}
	return fflush(out) != 0 ? -errno : 0;
}

/* ---- reading --------------------------------------------------------------- */

static const char *
rows_blanks(const char *at)
{
	while (isspace((unsigned char)*at))
		at++;
	return at;
}

/* A string into a buffer, cut if it is longer; NULL if there is none. */
static const char *
rows_read_text(const char *at, char *to, size_t bytes)
{
	size_t used = 0;

	if (*at++ != '"')
		return NULL;
	while (*at != '"') {
		char byte = *at++;

		if (byte == '\\' && *at == 'u') {
			char digits[5] = {0};

			snprintf(digits, sizeof(digits), "%.4s", at + 1);
			if (strlen(digits) != 4)
				return NULL;
			/* Only control characters are written so. */
			byte = (char)strtoul(digits, NULL, 16);
			at += 5;
		} else if (byte == '\\') {
			byte = *at++;
		}
		if (byte == '\0')
			return NULL;
		if (used + 1 < bytes)
			to[used++] = byte;
	}
	to[used] = '\0';
	return at + 1;
}

static const char *
rows_read_number(const char *at, double *value)
{
	char *end;

	if (strncmp(at, "null", 4) == 0) {
		*value = NAN;
		return at + 4;
	}
	*value = strtod(at, &end);
	return end == at ? NULL : end;
}

/* A member's value into its place in the row. */
static const char *
rows_read_value(const char *at, const char *key, struct bench_row *row)
{
	const struct {
		const char *key;
		char *to;
		size_t bytes;
	} texts[] = {
	    {"suite", row->suite, sizeof(row->suite)},
	    {"case", row->name, sizeof(row->name)},
	    {"peer", row->peer, sizeof(row->peer)},
	    {"metric", row->metric, sizeof(row->metric)},
	    {"unit", row->unit, sizeof(row->unit)},
	};
	char other[ROWS_LINE_BYTES];
	double number = 0;

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		if (strcmp(key, texts[i].key) == 0)
			return rows_read_text(at, texts[i].to, texts[i].bytes);
	if (*at == '"')
		return rows_read_text(at, other, sizeof(other));
	at = rows_read_number(at, &number);
	if (strcmp(key, "value") == 0)
		row->value = number;
	else if (strcmp(key, "spread") == 0)
		row->spread = number;
	else if (strcmp(key, "rounds") == 0 && number >= 0 && number < 1e6)
		row->rounds = (unsigned)number;
	return at;
}

static bool
rows_read_line(const char *at, struct bench_row *row)
{
	char key[BENCH_NAME_BYTES];

	if (*at++ != '{')
		return false;
	for (;;) {
		at = rows_read_text(rows_blanks(at), key, sizeof(key));
		if (at == NULL)
			return false;
		at = rows_blanks(at);
		if (*at++ != ':')
			return false;
		at = rows_read_value(rows_blanks(at), key, row);
		if (at == NULL)
			return false;
		at = rows_blanks(at);
		if (*at == '}')
			break;
		if (*at++ != ',')
			return false;
	}
	return *rows_blanks(at + 1) == '\0' && row->suite[0] != '\0' &&
	       row->metric[0] != '\0';
}

int
bench_rows_read(struct bench_rows *rows, FILE *in, unsigned *line)
{
	char text[ROWS_LINE_BYTES];

	for (*line = 1; fgets(text, sizeof(text), in) != NULL; ++*line) {
		struct bench_row row = {0};
		const char *at = rows_blanks(text);
		struct bench_row *added;

		if (*at == '\0')
			continue;
		if (!rows_read_line(at, &row))
			return -EINVAL;
		added = bench_rows_add(
		    rows, row.suite, row.name, row.peer, row.metric);
		if (added == NULL)
			return -ENOMEM;
		*added = row;
	}
	return ferror(in) ? -EIO : 0;
}
