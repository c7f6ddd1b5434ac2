/* SPDX-License-Identifier: MIT */
/*
 * region_writer.c - text and data written piece by piece.
 *
 *     data              length         length + reserved      capacity
 *      | written          | promised          | not yet promised |
 *
 * The array always has a byte behind what is reserved, for the NUL that finish
 * adds, so that finishing what has an array cannot fail.
 */
#include "pools/region_array.h"

#include "guard/fault.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

static char *
writer_fail(struct weir_region_writer *writer)
{
	writer->failed = true;
	writer->reserved = 0;
	return NULL;
}

static WEIRI_NOINLINE char *
writer_grow(struct weir_region_writer *writer, size_t bytes)
{
	struct weiri_region *region = weiri_region_of(writer->region);
	char *data;

	weiri_region_expect_live(region, "text in %p, which was destroyed");
	weiri_region_here(region);
	if (WEIR_UNLIKELY(bytes >= SIZE_MAX - writer->length)) {
		(void)weiri_region_refuse(region);
		return writer_fail(writer);
	}
	data = weiri_region_array_grow(region, writer->data, writer->length,
	    &writer->capacity, writer->length + bytes + 1);
	if (WEIR_UNLIKELY(data == NULL))
		return writer_fail(writer);
	writer->data = data;
	writer->reserved = bytes;
	return data + writer->length;
}

char *
weir_region_writer_reserve(struct weir_region_writer *writer, size_t bytes)
{
	if (WEIR_UNLIKELY(writer->failed))
		return NULL;
	if (bytes >= writer->capacity - writer->length)
		return writer_grow(writer, bytes);
	writer->reserved = bytes;
	return writer->data + writer->length;
}

void
weir_region_writer_commit(struct weir_region_writer *writer, size_t bytes)
{
	const struct weiri_region *region = weiri_region_of(writer->region);

	if (WEIR_UNLIKELY(bytes > writer->reserved) &&
	    WEIR_DETECTOR(writer_commit))
		weiri_fault(&(struct weiri_fault_site){
		    .fault_class = WEIR_FAULT_BAD_ARGUMENT,
		    .pool_kind = "region",
		    .pool_name = weiri_region_kind_name(region->kind),
		    .address = writer,
		    .number = bytes,
		    .detail = "writer %p commits %u bytes, more than it has "
			      "reserved",
		});
	writer->length += bytes;
	writer->reserved -= bytes;
}

bool
weir_region_writer_add(
    struct weir_region_writer *writer, const void *data, size_t bytes)
{
	char *room = weir_region_writer_reserve(writer, bytes);

	if (WEIR_UNLIKELY(room == NULL))
		return false;
	if (bytes > 0)
		memcpy(room, data, bytes);
	writer->length += bytes;
	writer->reserved = 0;
	return true;
}

bool
weir_region_writer_str(struct weir_region_writer *writer, const char *string)
{
	return weir_region_writer_add(writer, string, strlen(string));
}

/* ---- formatted text -------------------------------------------------------- */

/* What can be written behind the text: while nothing was taken behind the array
 * that is all of the block. */
static size_t
writer_room(const struct weir_region_writer *writer)
{
	const struct weiri_region *region = weiri_region_of(writer->region);
	size_t room = writer->capacity - writer->length, has;

	if (writer->data != NULL &&
	    weiri_region_is_last(region, writer->data, writer->capacity, &has))
		room = has - writer->length +
		       (size_t)(region->bump.end - region->bump.next);
	return room;
}

WEIR_PRINTF(2, 0)
static bool
writer_vprintf(
    struct weir_region_writer *writer, const char *format, va_list arguments)
{
	struct weiri_region_format first;
	char *at = weir_region_writer_reserve(writer, 0);
	va_list again;

	if (WEIR_UNLIKELY(at == NULL))
		return false;
	va_copy(again, arguments);
	if (weiri_region_format(
		&first, at, writer_room(writer), format, arguments) < 0) {
		(void)weiri_region_refuse(weiri_region_of(writer->region));
		at = writer_fail(writer);
	} else {
		/* In place as long as it fits, so that the text is there. */
		at = weir_region_writer_reserve(writer, (size_t)first.length);
	}
	if (WEIR_LIKELY(at != NULL))
		weiri_region_format_end(&first, at, format, again);
	va_end(again);
	if (WEIR_UNLIKELY(at == NULL))
		return false;
	writer->length += (size_t)first.length;
	writer->reserved = 0;
	return true;
}

bool
weir_region_writer_vprintf(
    struct weir_region_writer *writer, const char *format, va_list arguments)
{
	int saved_errno = errno;
	bool added = writer_vprintf(writer, format, arguments);

	errno = saved_errno;
	return added;
}

bool
weir_region_writer_printf(
    struct weir_region_writer *writer, const char *format, ...)
{
	va_list arguments;
	bool added;

	va_start(arguments, format);
	added = weir_region_writer_vprintf(writer, format, arguments);
	va_end(arguments);
	return added;
}

/* ---- end ------------------------------------------------------------------- */

static void
writer_clear(struct weir_region_writer *writer)
{
	writer->data = NULL;
	writer->length = writer->capacity = writer->reserved = 0;
	writer->failed = false;
}

char *
weir_region_writer_finish(struct weir_region_writer *writer, size_t *length)
{
	char *text = weir_region_writer_reserve(writer, 0);

	if (length != NULL)
		*length = text != NULL ? writer->length : 0;
	if (WEIR_UNLIKELY(text == NULL)) {
		weir_region_writer_abandon(writer);
		return NULL;
	}
	*text = '\0';
	text = writer->data;
	weir_region_shrink(
	    writer->region, text, writer->capacity, writer->length + 1);
	writer_clear(writer);
	return text;
}

void
weir_region_writer_abandon(struct weir_region_writer *writer)
{
	weir_region_free(writer->region, writer->data, writer->capacity);
	writer_clear(writer);
}
