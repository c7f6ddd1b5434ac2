/* SPDX-License-Identifier: MIT */
/*
 * invalid.c - the one sentence about a field that is refused.
 *
 * A struct and not a format with arguments, so that call, field, value and
 * what is allowed are there each time and in the same order: programs may
 * search their log for "; allowed: ".
 */
#include "config/invalid.h"

#include "base/bits.h"
#include "config/config.h"

#include <errno.h>

static void
invalid_field(struct weiri_text *text, const struct weiri_invalid *invalid)
{
	for (const char *c = invalid->field; *c != '\0'; c++) {
		weiri_text_char(text, *c);
		if (c[0] == '[' && c[1] == ']')
			weiri_text_u64(text, invalid->index);
	}
}

static void
invalid_allowed(struct weiri_text *text, const struct weiri_invalid *invalid)
{
	size_t next = 0;

	for (const char *c = invalid->allowed; *c != '\0'; c++) {
		if (c[0] != '%' || c[1] != 'u' ||
		    next == WEIRI_COUNT_OF(invalid->bound)) {
			weiri_text_char(text, *c);
			continue;
		}
		weiri_text_u64(text, invalid->bound[next++]);
		c++;
	}
}

void
weiri_invalid_text(struct weiri_text *text, const struct weiri_invalid *invalid)
{
	weiri_text_str(text, invalid->call);
	weiri_text_str(text, ": ");
	if (invalid->kind != NULL) {
		weiri_text_str(text, invalid->kind);
		weiri_text_str(text, " \"");
		weiri_text_str(text, invalid->name);
		weiri_text_str(text, "\": ");
	}
	invalid_field(text, invalid);
	weiri_text_str(text, " is ");
	if (invalid->bits)
		weiri_text_hex(text, invalid->value);
	else
		weiri_text_u64(text, invalid->value);
	weiri_text_str(text, "; allowed: ");
	invalid_allowed(text, invalid);
}

int
weiri_invalid(const struct weiri_invalid *invalid)
{
	char line[WEIRI_INVALID_BYTES];
	struct weiri_text text = {line, sizeof(line), 0};

	weiri_invalid_text(&text, invalid);
	weiri_message(WEIR_MESSAGE_ERROR, line);
	return -EINVAL;
}

size_t
weiri_invalid_word(const uint64_t *words, size_t count)
{
	size_t i = 0;

	while (i < count && words[i] == 0)
		i++;
	return i;
}
