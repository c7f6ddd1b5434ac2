/* SPDX-License-Identifier: MIT */
/*
 * json.h - writes one JSON value to a stream, indented by tabs.
 *
 * The writer keeps commas, nesting and escapes right; the caller opens and
 * closes.  A key is NULL for an array's elements and for the outermost value.
 */
#ifndef WEIR_TOOL_JSON_H
#define WEIR_TOOL_JSON_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct json {
	FILE *out;
	unsigned depth;
	bool empty; /* nothing written yet at this depth */
};

void json_begin(struct json *json, FILE *out);

/** json_end() - ends the text; returns 0 or -EIO if any write failed. */
int json_end(struct json *json);

void json_open(struct json *json, const char *key, char bracket);
void json_close(struct json *json, char bracket);

/* Text is taken as UTF-8; bytes that are none become U+FFFD. */
void json_text(struct json *json, const char *key, const char *value);
void json_count(struct json *json, const char *key, uint64_t value);
void json_bool(struct json *json, const char *key, bool value);
void json_null(struct json *json, const char *key);

/* A value that is JSON already. */
void json_raw(struct json *json, const char *key, const char *value);

/* Not-a-number and infinity, which JSON lacks, become null. */
void json_real(struct json *json, const char *key, double value);

#endif /* WEIR_TOOL_JSON_H */
