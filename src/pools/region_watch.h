/* SPDX-License-Identifier: MIT */
/*
 * region_watch.h - live regions, for the reports that show them.
 *
 *   region_watch.c   finding and reading them, the first in some order
 *   region_dump.c    the tree as text and JSON, places, the leak report
 */
#ifndef WEIRI_REGION_WATCH_H
#define WEIRI_REGION_WATCH_H

#include "pools/region.h"

/* What is read of a header. */
struct weiri_region_record {
	const struct weiri_region *region;
	const struct weiri_region *parent;
	const struct weiri_region_kind *kind;
	const char *name; /* never NULL once read */
	const void *site;
	const struct weir_local *owner;
	uint64_t bytes;
	uint64_t peak;
	uint32_t birth;
	uint32_t misses;
	uint32_t failures;
	/* Of a budget, read by who may; limit_bytes 0: no limit. */
	uint64_t limit_bytes;
	uint64_t below_bytes;
	uint64_t below_failures;
	/* For a tree of records; indices, WEIRI_RECORD_NONE for none. */
	uint32_t above, child, sibling;
};

#define WEIRI_RECORD_NONE UINT32_MAX

/* Reads @region, where a header is or was; false: it is not live. */
bool weiri_region_read(
    const struct weiri_region *region, struct weiri_region_record *out);

/* Calls @visit for each live region, under locks: it must not allocate. */
typedef void (*weiri_region_visit_fn)(
    const struct weiri_region_record *record, void *context);
void weiri_region_walk(weiri_region_visit_fn visit, void *context);

/* Nanoseconds from a birth to the last walk, at most. */
uint64_t weiri_region_age_ns(uint32_t birth);

/* One line of the leak report for each of the largest live regions. */
void weiri_region_report_leaks(void);

#endif /* WEIRI_REGION_WATCH_H */
