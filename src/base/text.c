/* SPDX-License-Identifier: MIT */
/*
 * text.c - formatting without allocation, for reports and snapshots.
 *
 * The fault reporter runs with the heap in doubt and perhaps inside a signal
 * handler, which rules out snprintf (it may take a locale lock).  These few
 * functions cover what reports need.
 *
 * Invariant: after each call buffer[min(used, bytes - 1)] == '\0' if bytes > 0.
 */
#include "base/text.h"

#include <string.h>

static void
text_append(struct weiri_text *text, const char *data, size_t length)
{
	if (text->used < text->bytes) {
		size_t room = text->bytes - text->used - 1;
		size_t take = length < room ? length : room;

		memcpy(text->buffer + text->used, data, take);
		text->buffer[text->used + take] = '\0';
	}
	text->used += length;
}

static void
text_pad(struct weiri_text *text, size_t length, unsigned width)
{
	for (; length < width; length++)
		weiri_text_char(text, ' ');
}

void
weiri_text_char(struct weiri_text *text, char c)
{
	text_append(text, &c, 1);
}

void
weiri_text_str(struct weiri_text *text, const char *string)
{
	text_append(text, string, strlen(string));
}

void
weiri_text_u64(struct weiri_text *text, uint64_t value)
{
	char digits[20];
	size_t at = sizeof(digits);

	do {
		digits[--at] = (char)('0' + value % 10);
		value /= 10;
	} while (value != 0);
	text_append(text, digits + at, sizeof(digits) - at);
}

void
weiri_text_hex(struct weiri_text *text, uint64_t value)
{
	char digits[18];
	size_t at = sizeof(digits);

	do {
		digits[--at] = "0123456789abcdef"[value & 15];
		value >>= 4;
	} while (value != 0);
	digits[--at] = 'x';
	digits[--at] = '0';
	text_append(text, digits + at, sizeof(digits) - at);
}

void
weiri_text_fixed(struct weiri_text *text, uint64_t value, unsigned decimals)
{
	uint64_t unit = 1;

	for (unsigned i = 0; i < decimals; i++)
		unit *= 10;
	weiri_text_u64(text, value / unit);
	if (decimals == 0)
		return;
	weiri_text_char(text, '.');
	for (unit /= 10; unit > 0; unit /= 10)
		weiri_text_char(text, (char)('0' + value / unit % 10));
}

void
weiri_text_right(struct weiri_text *text, const char *string, unsigned width)
{
	text_pad(text, strlen(string), width);
	weiri_text_str(text, string);
}

void
weiri_text_left(struct weiri_text *text, const char *string, unsigned width)
{
	weiri_text_str(text, string);
	text_pad(text, strlen(string), width);
}

void
weiri_text_json(struct weiri_text *text, const char *string)
{
	weiri_text_char(text, '"');
	for (const char *c = string; *c != '\0'; c++) {
		unsigned char byte = (unsigned char)*c;

		if (byte == '"' || byte == '\\') {
			weiri_text_char(text, '\\');
			weiri_text_char(text, *c);
		} else if (byte < 0x20) {
			weiri_text_str(text, "\\u00");
			weiri_text_char(text, "0123456789abcdef"[byte >> 4]);
			weiri_text_char(text, "0123456789abcdef"[byte & 15]);
		} else {
			weiri_text_char(text, *c);
		}
	}
	weiri_text_char(text, '"');
}
