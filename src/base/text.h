/* SPDX-License-Identifier: MIT */
/*
 * text.h - formatting into a caller's buffer: no allocation, no locale, no
 * stdio, safe in signal handlers.
 *
 * Everything appends; what does not fit is counted but not written, so that
 * `used` ends as the length the whole text would have had.
 */
#ifndef WEIRI_TEXT_H
#define WEIRI_TEXT_H

#include "base/compiler.h"

struct weiri_text {
	char *buffer;
	size_t bytes; /* of buffer; 0: only count */
	size_t used;  /* length of the whole text so far */
};

/* Appends; the text stays NUL-terminated whenever bytes > 0. */
void weiri_text_char(struct weiri_text *text, char c);
void weiri_text_str(struct weiri_text *text, const char *string);
void weiri_text_u64(struct weiri_text *text, uint64_t value);
void weiri_text_hex(struct weiri_text *text, uint64_t value);
/* value / 10^decimals, e.g. 9995, 2 -> "99.95". */
void weiri_text_fixed(
    struct weiri_text *text, uint64_t value, unsigned decimals);
/* As "%*s" and "%-*s": pads with spaces to at least @width. */
void weiri_text_right(
    struct weiri_text *text, const char *string, unsigned width);
void weiri_text_left(
    struct weiri_text *text, const char *string, unsigned width);
/* A JSON string with its quotes; control bytes are escaped, others copied. */
void weiri_text_json(struct weiri_text *text, const char *string);

#endif /* WEIRI_TEXT_H */
