/* SPDX-License-Identifier: MIT */
/*
 * json.c - a JSON writer of the size the tool needs.
 */
#include "json.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>

/* Length of the well-formed UTF-8 sequence at text, or 0. */
static unsigned
json_utf8(const unsigned char *text)
{
	unsigned length;

	if (text[0] < 0x80)
		return 1;
	if (text[0] >= 0xc2 && text[0] <= 0xdf)
		length = 2;
	else if ((text[0] & 0xf0) == 0xe0)
		length = 3;
	else if (text[0] >= 0xf0 && text[0] <= 0xf4)
		length = 4;
	else
		return 0;
	/* A NUL is no continuation byte, so this never reads past the end. */
	for (unsigned i = 1; i < length; i++)
		if ((text[i] & 0xc0) != 0x80)
			return 0;
	if ((text[0] == 0xe0 && text[1] < 0xa0) ||
	    (text[0] == 0xed && text[1] > 0x9f) ||
	    (text[0] == 0xf0 && text[1] < 0x90) ||
	    (text[0] == 0xf4 && text[1] > 0x8f))
		return 0;
	return length;
}

static void
json_string(struct json *json, const char *value)
{
	const unsigned char *text = (const unsigned char *)value;

	fputc('"', json->out);
	while (*text != '\0') {
		unsigned length = json_utf8(text);

		if (length == 0) {
			fputs("\\ufffd", json->out);
			text++;
			continue;
		}
		if (*text == '"' || *text == '\\')
			fprintf(json->out, "\\%c", *text);
		else if (*text < 0x20)
			fprintf(json->out, "\\u%04x", *text);
		else
			fwrite(text, 1, length, json->out);
		text += length;
	}
	fputc('"', json->out);
}

static void
json_line(struct json *json)
{
	if (json->depth > 0)
		fputc('\n', json->out);
	for (unsigned i = 0; i < json->depth; i++)
		fputc('\t', json->out);
}

static void
json_key(struct json *json, const char *key)
{
	if (!json->empty)
		fputc(',', json->out);
	json->empty = false;
	json_line(json);
	if (key != NULL) {
		json_string(json, key);
		fputs(": ", json->out);
	}
}

void
json_begin(struct json *json, FILE *out)
{
	*json = (struct json){.out = out, .empty = true};
}

int
json_end(struct json *json)
{
	fputc('\n', json->out);
	return fflush(json->out) != 0 || ferror(json->out) ? -EIO : 0;
}

void
json_open(struct json *json, const char *key, char bracket)
{
	json_key(json, key);
	fputc(bracket, json->out);
	json->depth++;
	json->empty = true;
}

void
json_close(struct json *json, char bracket)
{
	bool empty = json->empty;

	json->depth--;
	json->empty = false;
	if (!empty) {
		fputc('\n', json->out);
		for (unsigned i = 0; i < json->depth; i++)
			fputc('\t', json->out);
	}
	fputc(bracket, json->out);
}

void
json_text(struct json *json, const char *key, const char *value)
{
	json_key(json, key);
	json_string(json, value);
}

void
json_count(struct json *json, const char *key, uint64_t value)
{
	json_key(json, key);
	fprintf(json->out, "%" PRIu64, value);
}

void
json_bool(struct json *json, const char *key, bool value)
{
	json_key(json, key);
	fputs(value ? "true" : "false", json->out);
}

void
json_null(struct json *json, const char *key)
{
	json_key(json, key);
	fputs("null", json->out);
}

void
json_raw(struct json *json, const char *key, const char *value)
{
	json_key(json, key);
	fputs(value, json->out);
}

void
json_real(struct json *json, const char *key, double value)
{
	if (!isfinite(value)) {
		json_null(json, key);
		return;
	}
	json_key(json, key);
	fprintf(json->out, "%.9g", value);
}
