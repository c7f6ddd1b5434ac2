/* SPDX-License-Identifier: MIT */
/*
 * load_report.h - a load report as text and as JSON.
 */
#ifndef WEIR_TOOL_LOAD_REPORT_H
#define WEIR_TOOL_LOAD_REPORT_H

#include "json.h"
#include "load.h"

/** load_report_latency() - one JSON object of percentiles in ns. */
void load_report_latency(
    struct json *json, const char *key, const struct hist *hist);

/** load_report_errors() - one JSON object: causes and their sum. */
void load_report_errors(
    struct json *json, const char *key, const struct load_report *report);

/** load_report_causes() - a line for each cause that occurred. */
void load_report_causes(
    FILE *out, const char *indent, const struct load_report *report);

#endif /* WEIR_TOOL_LOAD_REPORT_H */
