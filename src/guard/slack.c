/* SPDX-License-Identifier: MIT */
/*
 * slack.c - the bytes around an object, and what is left of one: a pattern that
 * nobody had any business to change.
 */
#include "guard/fault.h"
#include "guard/state.h"

#include <string.h>

/* Compared with itself, one byte along: as fast as memory is read. */
static bool
slack_is_whole(const char *from, const char *to)
{
	size_t bytes = (size_t)(to - from);

	return bytes == 0 || ((unsigned char)*from == WEIRI_GUARD_SLACK &&
				 memcmp(from, from + 1, bytes - 1) == 0);
}

const char *
weiri_guard_find_written(const char *from, const char *to)
{
	if (WEIR_LIKELY(slack_is_whole(from, to)))
		return NULL;
	for (; from < to; from++)
		if ((unsigned char)*from != WEIRI_GUARD_SLACK)
			return from;
	return NULL;
}

/* Of bytes before an object the last counts, which is the nearest. */
static const char *
slack_find_before(const char *from, const char *to)
{
	if (WEIR_LIKELY(slack_is_whole(from, to)))
		return NULL;
	while (to > from)
		if ((unsigned char)*--to != WEIRI_GUARD_SLACK)
			return to;
	return NULL;
}

void
weiri_guard_verify(
    struct weiri_guarded *guarded, const char *first, const char *end)
{
	const char *behind = guarded->start + guarded->bytes;
	const char *low = slack_find_before(first, guarded->start);
	const char *high = weiri_guard_find_written(behind, end);
	const struct weiri_guard_name *name = weiri_guard_name_of(guarded);
	struct weiri_fault_site site = {
	    .pool_kind = name->kind,
	    .pool_name = name->name,
	    .pool_type = name->type,
	    .operation = "write",
	};

	/* What was told once is known. */
	if (WEIR_LIKELY((low == NULL && high == NULL)) || guarded->bad ||
	    !WEIR_DETECTOR(guard_slack))
		return;
	if (high != NULL && WEIR_DETECTOR(guard_slack_behind)) {
		site.fault_class = WEIR_FAULT_OVERFLOW;
		site.address = high;
		site.number = (uint64_t)(high - behind);
		site.detail = "%p, %u byte%{|s} behind the object, was written "
			      "while it was in use";
	} else {
		site.fault_class = WEIR_FAULT_UNDERFLOW;
		site.address = low;
		site.number = (uint64_t)(guarded->start - low);
		site.detail = "%p, %u byte%{|s} before the object, was written "
			      "while it was in use";
	}
	weiri_guard_tell(guarded, site);
}
