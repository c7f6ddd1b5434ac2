/* SPDX-License-Identifier: MIT */
/*
 * region_watch.h - live regions, for the reports that show them.
 *
 *   region_watch.c    finding and reading them, the first in some order
 *   region_vm_view.c  likewise those in ranges of addresses
 *   region_name.c     names that are shown when their regions are gone
 *   region_dump.c     the tree as text and JSON, places, the leak report
 */
#ifndef WEIRI_REGION_WATCH_H
#define WEIRI_REGION_WATCH_H

#include "pools/region.h"

/* What is read of a region. */
struct weiri_region_record {
	const struct weir_region *region; /* of one of addresses the address */
	const struct weir_region *parent;
	const char *kind; /* its name, there for ever, */
	const char *name; /* as this one, which is never NULL once read */
	const void *site;
	const struct weir_local *owner;
	uint64_t bytes;
	uint64_t peak;
	uint64_t misses;
	uint64_t failures;
	uint32_t birth;
	bool is_vm;
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

/* The part of it for those in ranges of addresses. */
void weiri_region_vm_walk(weiri_region_visit_fn visit, void *context);

/* The name to list such a region by: a copy that stays, or, when there are too
 * many different ones, the word for its kind. */
#define WEIRI_REGION_VM_KIND "vm"
const char *weiri_region_vm_name_keep(const char *name);

/* Nanoseconds from a birth to the last walk, at most. */
uint64_t weiri_region_age_ns(uint32_t birth);

/* One line of the leak report for each of the largest live regions. */
void weiri_region_report_leaks(void);

#endif /* WEIRI_REGION_WATCH_H */
