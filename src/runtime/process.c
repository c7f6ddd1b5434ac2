/* SPDX-License-Identifier: MIT */
/*
 * process.c - the figures of the process beside those of its pools.
 *
 * They are read one after the other without stopping anybody: each held at
 * some moment of the call, and all of them together only in a quiet process.
 */
#include "pages/pages.h"
#include "watch/registry.h"
#include "watch/report.h"

#include <weir/stats.h>
#include <weir/version.h>

#include <errno.h>
#include <string.h>

/* Pools that are left out of the list: what others do not count as theirs. */
static bool
process_add_shared(struct weiri_pool *pool, void *context)
{
	struct weir_stats *out = context;
	struct weir_pool_stats stats;

	if (!pool->internal)
		return true;
	weiri_pool_stats(pool, &stats);
	out->bytes_shared += stats.bytes_mapped - stats.bytes_in_use;
	return true;
}

static void
process_read(struct weir_stats *out)
{
	memset(out, 0, sizeof(*out));
	weiri_pages_stats(out);
	out->size = sizeof(*out);
	out->version = WEIR_STATS_VERSION;
	out->pool_count = weiri_pool_count();
	weiri_pool_walk(process_add_shared, out);
}

int
weir_stats_read(struct weir_stats *out)
{
	if (out->size != sizeof(*out))
		return -EINVAL;
	process_read(out);
	return 0;
}

static void
process_bytes(struct weiri_text *text, const char *before, uint64_t bytes)
{
	weiri_text_str(text, before);
	if (bytes == UINT64_MAX)
		weiri_text_str(text, "none");
	else
		weiri_report_bytes(text, bytes);
}

static void
process_text(struct weiri_text *text, const struct weir_stats *stats)
{
	process_bytes(text, "charged ", stats->bytes_charged);
	process_bytes(text, ", peak ", stats->bytes_peak);
	process_bytes(text, ", limit ", stats->bytes_limit);
	process_bytes(text, ", soft ", stats->bytes_soft);
	process_bytes(text, "\nin pools ", stats->bytes_in_spans);
	process_bytes(text, ", retained ", stats->bytes_retained);
	process_bytes(text, ", records ", stats->bytes_metadata);
	process_bytes(text, ", address space ", stats->bytes_reserved);
	process_bytes(text, ", free there ", stats->bytes_free);
	weiri_text_str(text, " (fragmented ");
	weiri_text_u64(text, stats->fragmentation_permille / 10);
	weiri_text_str(text, " %)\npools ");
	weiri_text_u64(text, stats->pool_count);
	weiri_text_str(text, ", page requests refused ");
	weiri_text_u64(text, stats->failures);
	weiri_text_char(text, '\n');
}

static size_t
process_report(char *buffer, size_t bytes, bool verbose)
{
	struct weiri_text text = {buffer, bytes, 0};
	struct weir_stats stats;

	process_read(&stats);
	process_text(&text, &stats);
	weiri_report_pools(&text, verbose);
	return text.used;
}

size_t
weir_stats_text(char *buffer, size_t bytes)
{
	return process_report(buffer, bytes, false);
}

size_t
weir_stats_text_verbose(char *buffer, size_t bytes)
{
	return process_report(buffer, bytes, true);
}

static void
process_json(struct weiri_text *text, const struct weir_stats *stats)
{
	weiri_text_str(text, "{\"pool_count\":");
	weiri_text_u64(text, stats->pool_count);
	weiri_report_member(text, "bytes_reserved", stats->bytes_reserved);
	weiri_report_member(text, "bytes_charged", stats->bytes_charged);
	weiri_report_member(text, "bytes_peak", stats->bytes_peak);
	weiri_report_member(text, "bytes_limit", stats->bytes_limit);
	weiri_report_member(text, "bytes_soft", stats->bytes_soft);
	weiri_report_member(text, "bytes_in_spans", stats->bytes_in_spans);
	weiri_report_member(text, "bytes_retained", stats->bytes_retained);
	weiri_report_member(text, "bytes_metadata", stats->bytes_metadata);
	weiri_report_member(text, "bytes_free", stats->bytes_free);
	weiri_report_member(
	    text, "bytes_free_largest", stats->bytes_free_largest);
	weiri_report_member(
	    text, "fragmentation_permille", stats->fragmentation_permille);
	weiri_report_member(text, "failures", stats->failures);
	weiri_report_member(text, "bytes_shared", stats->bytes_shared);
	weiri_text_char(text, '}');
}

size_t
weir_stats_json(char *buffer, size_t bytes)
{
	struct weiri_text text = {buffer, bytes, 0};
	struct weir_stats stats;

	process_read(&stats);
	weiri_text_str(&text, "{\"weir\":\"" WEIR_VERSION_STRING "\"");
	weiri_report_member(&text, "version", stats.version);
	weiri_text_str(&text, ",\n \"process\":");
	process_json(&text, &stats);
	weiri_text_str(&text, ",\n \"pools\":");
	weiri_report_pools_json(&text);
	weiri_text_str(&text, "}\n");
	return text.used;
}
