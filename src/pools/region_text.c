/* SPDX-License-Identifier: MIT */
/*
 * region_text.c - copies and formatted strings in a region.
 *
 * How long a formatted text is, only formatting it tells, and C can neither
 * stop nor go on in the middle.  So it is written where most texts fit, straight
 * into the room of the block; where that is less than many texts need, near the
 * end of a block, it is written aside and copied.  What fits neither is written
 * twice.
 */
#include "pools/region.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

void *
weir_region_alloc_zeroed(struct weir_region *region, size_t bytes)
{
	bool fresh = false;
	void *object;

	if (WEIR_LIKELY(bytes <= (size_t)(region->end - region->next)))
		object = weir_region_alloc(region, bytes);
	else
		object = weiri_region_alloc_slow(
		    weiri_region_of(region), bytes, WEIR_REGION_ALIGN, &fresh);
	if (WEIR_LIKELY(object != NULL && !fresh))
		memset(object, 0, bytes);
	return object;
}

void *
weir_region_memdup(struct weir_region *region, const void *data, size_t bytes)
{
	void *copy = weir_region_alloc(region, bytes);

	if (WEIR_LIKELY(copy != NULL) && bytes > 0)
		memcpy(copy, data, bytes);
	return copy;
}

char *
weir_region_strdup(struct weir_region *region, const char *string)
{
	return weir_region_memdup(region, string, strlen(string) + 1);
}

char *
weir_region_strndup(
    struct weir_region *region, const char *string, size_t bytes)
{
	const char *nul = memchr(string, '\0', bytes);
	size_t length = nul != NULL ? (size_t)(nul - string) : bytes;
	/* A length of SIZE_MAX asks for that much, not for nothing. */
	char *copy =
	    weir_region_alloc(region, length < SIZE_MAX ? length + 1 : length);

	if (WEIR_LIKELY(copy != NULL)) {
		memcpy(copy, string, length);
		copy[length] = '\0';
	}
	return copy;
}

static size_t
text_lengths(va_list strings)
{
	const char *string;
	size_t length = 0;

	while ((string = va_arg(strings, const char *)) != NULL)
		length += strlen(string);
	return length;
}

static void
text_join(char *at, va_list strings)
{
	const char *string;

	while ((string = va_arg(strings, const char *)) != NULL) {
		size_t length = strlen(string);

		memcpy(at, string, length);
		at += length;
	}
	*at = '\0';
}

char *
weir_region_strcat(struct weir_region *region, ...)
{
	va_list strings;
	size_t length;
	char *text;

	va_start(strings, region);
	length = text_lengths(strings);
	va_end(strings);
	text = weir_region_alloc(region, length + 1);
	if (WEIR_UNLIKELY(text == NULL))
		return NULL;
	va_start(strings, region);
	text_join(text, strings);
	va_end(strings);
	return text;
}

/* ---- formatted text -------------------------------------------------------- */

int
weiri_region_format(struct weiri_region_format *at, char *room, size_t bytes,
    const char *format, va_list arguments)
{
	bool aside = bytes < sizeof(at->aside);

	at->text = aside ? at->aside : room;
	/* No length is above INT_MAX, and no larger room is C's to take. */
	at->bytes = aside ? sizeof(at->aside) : weiri_min(bytes, INT_MAX);
	at->length = vsnprintf(at->text, at->bytes, format, arguments);
	return at->length;
}

void
weiri_region_format_end(const struct weiri_region_format *at, char *into,
    const char *format, va_list again)
{
	size_t bytes = (size_t)at->length + 1;

	if (WEIR_UNLIKELY(bytes > at->bytes))
		(void)vsnprintf(into, bytes, format, again);
	else if (into != at->text)
		memcpy(into, at->text, bytes);
}

/* The room of the current block, once written, only has to be claimed. */
WEIR_PRINTF(2, 0)
static char *
region_vprintf(
    struct weir_region *region, const char *format, va_list arguments)
{
	struct weiri_region_format at;
	va_list again;
	char *text;

	va_copy(again, arguments);
	if (weiri_region_format(&at, region->next,
		(size_t)(region->end - region->next), format, arguments) < 0)
		text = weiri_region_refuse(weiri_region_of(region));
	else
		text = weir_region_alloc(region, (size_t)at.length + 1);
	if (WEIR_LIKELY(text != NULL))
		weiri_region_format_end(&at, text, format, again);
	va_end(again);
	return text;
}

char *
weir_region_vprintf(
    struct weir_region *region, const char *format, va_list arguments)
{
	int saved_errno = errno;
	char *text;

	weiri_region_expect_live(
	    weiri_region_of(region), "text in %p, which was destroyed");
	text = region_vprintf(region, format, arguments);
	errno = saved_errno;
	return text;
}

char *
weir_region_printf(struct weir_region *region, const char *format, ...)
{
	va_list arguments;
	char *text;

	va_start(arguments, format);
	text = weir_region_vprintf(region, format, arguments);
	va_end(arguments);
	return text;
}
