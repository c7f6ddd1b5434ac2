/* SPDX-License-Identifier: MIT */
/*
 * report.h - all that is known of a fault, as text and as JSON.
 */
#ifndef WEIRI_GUARD_REPORT_H
#define WEIRI_GUARD_REPORT_H

#include "base/text.h"
#include "guard/fault.h"
#include "guard/stack.h"

/* What a report is made of; filled once, read by both forms. */
struct weiri_report {
	const struct weiri_fault_site *site;
	const char *class_text;
	const char *line; /* the first one, without its newline */
	const char *advice;
	struct weiri_stack here;
	const struct weiri_guarded *object; /* NULL: none */
	struct weiri_stack born, ended, made;
	const char *mode;
	uint32_t rate;
	uint64_t now_ns;
	int64_t distance;  /* of the address, from the object: see below */
	const char *where; /* "before", "in", "behind" */
	bool has_bytes;
	uint8_t bytes[64]; /* at the address, or the object's first */
};

/* The stack begins with the caller of the function whose frame is @frame. */
void weiri_report_fill(struct weiri_report *report,
    const struct weiri_fault_site *site, uintptr_t frame);

/* The lines behind the first, each by itself, to standard error. */
void weiri_report_write(const struct weiri_report *report);

/* One JSON object. */
void weiri_report_json(
    struct weiri_text *text, const struct weiri_report *report);

#endif /* WEIRI_GUARD_REPORT_H */
