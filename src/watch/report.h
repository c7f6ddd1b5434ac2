/* SPDX-License-Identifier: MIT */
/*
 * report.h - the figures of pools as text and as JSON.
 *
 * The process's own figures come from pages/, which lies above: runtime/ puts
 * the two parts together.
 */
#ifndef WEIRI_REPORT_H
#define WEIRI_REPORT_H

#include "base/text.h"

#include <weir/stats.h>

/* "12 B", "1.5 KiB", "512.0 MiB". */
void weiri_report_bytes(struct weiri_text *text, uint64_t bytes);

/* ,"name":value with the comma; UINT64_MAX, which means none, as null. */
void weiri_report_member(
    struct weiri_text *text, const char *name, uint64_t value);

/* The line of weir_stats_health(). */
void weiri_report_health(
    struct weiri_text *text, const struct weir_pool_stats *stats);

/* All pools, oldest first: a table with a heading, in which unused pools are
 * rows only when @verbose, and a JSON array. */
void weiri_report_pools(struct weiri_text *text, bool verbose);
void weiri_report_pools_json(struct weiri_text *text);

#endif /* WEIRI_REPORT_H */
