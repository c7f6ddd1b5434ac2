/* SPDX-License-Identifier: MIT */
/*
 * invalid.h - says which field of a configuration is refused, and why.
 *
 * -EINVAL alone leaves a programmer with a struct of fields to guess from.
 * Each call that takes a configuration tells the message hook first:
 *
 *     weir_buffer_pool_create: tier[2].bytes is 3000; allowed: 1 .. 2048
 *
 * With the name of what was to be made, where it has one:
 *
 *     weir_cache_create: cache "conn": object_bytes is 0; allowed: 1 .. 1048576
 */
#ifndef WEIRI_INVALID_H
#define WEIRI_INVALID_H

#include "base/text.h"

/*
 * @field is spelled as in C; in it [] stands for [@index].  In @allowed, a
 * clause, each %u stands for the next of @bound.  Longer than
 * WEIRI_INVALID_BYTES a line is cut.
 */
struct weiri_invalid {
	const char *call; /* "weir_buffer_pool_create" */
	const char *kind; /* "cache", with @name fit for a line; or NULL */
	const char *name;
	const char *field;
	size_t index;
	uint64_t value;
	bool bits; /* @value is a set of flags: shown in base 16 */
	const char *allowed;
	uint64_t bound[3];
};

#define WEIRI_INVALID_BYTES 256

/* Appends the line, without a newline. */
void weiri_invalid_text(
    struct weiri_text *text, const struct weiri_invalid *invalid);

/* Sends the line as an error and returns -EINVAL; no lock may be held. */
WEIRI_COLD int weiri_invalid(const struct weiri_invalid *invalid);

/* The index of the first word that is not zero, @count if all are. */
size_t weiri_invalid_word(const uint64_t *words, size_t count);

#endif /* WEIRI_INVALID_H */
