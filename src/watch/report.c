/* SPDX-License-Identifier: MIT */
/*
 * report.c - pools as a table for people and as JSON for programs.
 *
 * Each pool is read and written while the registry walks, so that no array has
 * to hold them all and nothing is allocated.  The table has three lines a
 * pool, within 80 columns:
 *
 *   id kind   name                     in use  available       peak  refused ...
 *    1 cache  conn                         12        114       <=20        0 ...
 *             object 256 B | cached 100 | requests 1000+ | hits 990+ | misses 3
 *             usage 9 % | success 100.00 % | ok
 *   2 pools unused
 *
 * "+" marks a lower bound and "<=" an upper one, as the exact bits say.  What
 * was never asked for anything and holds no memory has nothing to show but
 * zeros: such pools are counted, not listed.  A tier of a buffer pool with
 * limit_bytes has one line more: what the whole pool holds of it.
 */
#include "watch/report.h"

#include "watch/registry.h"

#define REPORT_INDENT "            "

/* ---- pieces ------------------------------------------------------------- */

void
weiri_report_bytes(struct weiri_text *text, uint64_t bytes)
{
	static const char *const unit[] = {
	    " B", " KiB", " MiB", " GiB", " TiB", " PiB", " EiB"};
	size_t i = 0;
	uint64_t tenths;

	if (bytes < 1024) {
		weiri_text_u64(text, bytes);
		weiri_text_str(text, unit[0]);
		return;
	}
	/* Down to below 2^20 of the last unit but one: * 10 cannot overflow. */
	for (; bytes >= (UINT64_C(1) << 20); i++)
		bytes >>= 10;
	tenths = bytes * 10 / 1024;
	weiri_text_fixed(text, tenths, 1);
	weiri_text_str(text, unit[i + 1]);
}

void
weiri_report_member(struct weiri_text *text, const char *name, uint64_t value)
{
	weiri_text_char(text, ',');
	weiri_text_json(text, name);
	weiri_text_char(text, ':');
	if (value == UINT64_MAX)
		weiri_text_str(text, "null");
	else
		weiri_text_u64(text, value);
}

/* @value to the right of @width columns, between @before and @after. */
static void
report_cell(struct weiri_text *text, const char *before, uint64_t value,
    const char *after, unsigned width)
{
	char cell[32];
	struct weiri_text piece = {cell, sizeof(cell), 0};

	weiri_text_str(&piece, before);
	weiri_text_u64(&piece, value);
	weiri_text_str(&piece, after);
	weiri_text_right(text, cell, width);
}

static void
report_bytes_cell(struct weiri_text *text, uint64_t bytes, unsigned width)
{
	char cell[32];
	struct weiri_text piece = {cell, sizeof(cell), 0};

	weiri_report_bytes(&piece, bytes);
	weiri_text_right(text, cell, width);
}

/* ---- health ------------------------------------------------------------- */

/* @part in units of @whole / @scale, rounded down; @whole > 0. */
static uint64_t
report_ratio(uint64_t part, uint64_t whole, uint64_t scale)
{
	while (part > UINT64_MAX / scale) {
		part >>= 1;
		whole >>= 1;
	}
	return part * scale / (whole > 0 ? whole : 1);
}

/* Nine tenths of @limit, rounded down: a count above it is above 90 %. */
static uint64_t
report_nine_tenths(uint64_t limit)
{
	return limit / 10 * 9 + limit % 10 * 9 / 10;
}

/* Above 90 % of its limit. */
static bool
report_tight(const struct weir_pool_stats *stats)
{
	return stats->limit != UINT64_MAX &&
	       stats->in_use > report_nine_tenths(stats->limit);
}

/* The same of limit_bytes, which all tiers of a buffer pool share. */
static bool
report_tight_bytes(const struct weir_pool_stats *stats)
{
	return stats->limit_bytes != UINT64_MAX &&
	       stats->limit_bytes_used > report_nine_tenths(stats->limit_bytes);
}

static void
report_usage(struct weiri_text *text, const struct weir_pool_stats *stats)
{
	weiri_text_str(text, "raise the limit: ");
	weiri_text_u64(text, stats->in_use);
	weiri_text_str(text, " of ");
	weiri_text_u64(text, stats->limit);
	weiri_text_str(text, " in use");
}

static void
report_usage_bytes(struct weiri_text *text, const struct weir_pool_stats *stats)
{
	weiri_text_str(text, "raise limit_bytes: ");
	weiri_report_bytes(text, stats->limit_bytes_used);
	weiri_text_str(text, " of ");
	weiri_report_bytes(text, stats->limit_bytes);
	weiri_text_str(text, " held");
}

static void
report_refused(struct weiri_text *text, uint64_t count)
{
	weiri_text_u64(text, count);
	weiri_text_str(
	    text, count == 1 ? " request refused" : " requests refused");
}

/*
 * Of a buffer pool it is known which requests limit_bytes refused and which
 * were too large for any tier: what refused most is named first.  Zero where
 * neither refused more than the rest did.
 */
enum report_cause { REPORT_REST, REPORT_BYTES, REPORT_SIZE };

static enum report_cause
report_cause(const struct weir_pool_stats *stats)
{
	uint64_t rest = stats->failures - stats->failures_by_bytes -
			stats->failures_by_size;

	if (stats->failures_by_size > rest &&
	    stats->failures_by_size > stats->failures_by_bytes)
		return REPORT_SIZE;
	return stats->failures_by_bytes > rest ? REPORT_BYTES : REPORT_REST;
}

/*
 * What refused requests, as far as the figures tell.  A pool that has made all
 * the limit allows asks for no memory, so the limit refused even if no moment
 * saw all of it in use: threads held the rest, or, in a buddy, it was in
 * pieces.  Below that, memory was missing.
 */
static void
report_refusals(struct weiri_text *text, const struct weir_pool_stats *stats)
{
	enum report_cause cause = report_cause(stats);
	bool used_up =
	    report_tight(stats) || stats->in_use_peak >= stats->limit;

	if (cause == REPORT_SIZE) {
		weiri_text_str(text, "add a larger tier: ");
	} else if (cause == REPORT_BYTES) {
		report_usage_bytes(text, stats);
		weiri_text_str(text, ", ");
	} else if (!used_up && stats->total < stats->limit) {
		weiri_text_str(text, "raise the process budget: ");
	} else if (!used_up && stats->kind == WEIR_POOL_BUDDY) {
		weiri_text_str(
		    text, "raise the limit: no free block was large enough, ");
	} else if (!used_up && stats->cached > 0) {
		weiri_text_str(text, "raise the limit: threads hold ");
		weiri_text_u64(text, stats->cached);
		weiri_text_str(text, " idle, ");
	} else {
		report_usage(text, stats);
		weiri_text_str(text, ", ");
	}
	report_refused(text, stats->failures);
}

/* What is certain where the share of refusals is not. */
static void
report_share_unknown(
    struct weiri_text *text, const struct weir_pool_stats *stats)
{
	static const char *const cause[] = {
	    [REPORT_REST] = "",
	    [REPORT_BYTES] = " by limit_bytes",
	    [REPORT_SIZE] = " as too large for any tier",
	};

	report_refused(text, stats->failures);
	weiri_text_str(text, cause[report_cause(stats)]);
	weiri_text_str(text, ", their share unknown");
}

/*
 * Without exact requests the share of refusals has an upper bound only: what
 * looks like more than 1 % is then stated, not advised upon.
 */
static void
report_advice(
    struct weiri_text *text, const struct weir_pool_stats *stats, bool failing)
{
	bool exact = (stats->exact & WEIR_EXACT_REQUESTS) != 0;
	bool tight = report_tight(stats) || report_tight_bytes(stats);

	if (failing && (exact || tight))
		report_refusals(text, stats);
	else if (report_tight(stats))
		report_usage(text, stats);
	else if (tight)
		report_usage_bytes(text, stats);
	else if (failing)
		report_share_unknown(text, stats);
	else
		weiri_text_str(text, "ok");
}

/*
 * Usage is of the limit, else of what exists.  Success is rounded down, so
 * that "100.00 %" means no refusal at all.
 */
void
weiri_report_health(
    struct weiri_text *text, const struct weir_pool_stats *stats)
{
	uint64_t whole =
	    stats->limit != UINT64_MAX ? stats->limit : stats->total;
	/* Requests may be a lower bound, refusals are always exact. */
	uint64_t requests = stats->requests > stats->failures ? stats->requests
							      : stats->failures;
	uint64_t served = requests - stats->failures;
	bool bound =
	    (stats->exact & WEIR_EXACT_REQUESTS) == 0 && stats->failures > 0;

	weiri_text_str(text, "usage ");
	weiri_text_u64(
	    text, whole > 0 ? report_ratio(stats->in_use, whole, 100) : 0);
	weiri_text_str(text, bound ? " % | success >= " : " % | success ");
	weiri_text_fixed(text,
	    requests > 0 ? report_ratio(served, requests, 10000) : 10000, 2);
	weiri_text_str(text, " % | ");
	report_advice(text, stats, stats->failures > requests / 100);
}

/* ---- the table ----------------------------------------------------------- */

struct report_table {
	struct weiri_text *text;
	bool verbose;
	size_t unused; /* pools left out */
};

/* Requests may be a lower bound; what was ever in use shows in the rest.  The
 * total does not count: a buddy has all its units from the start. */
static bool
report_unused(const struct weir_pool_stats *stats)
{
	return (stats->requests | stats->misses | stats->failures |
		   stats->in_use | stats->in_use_peak | stats->bytes_mapped) ==
	       0;
}

static void
report_row(struct weiri_text *text, const struct weir_pool_stats *stats)
{
	const char *most = (stats->exact & WEIR_EXACT_PEAK) != 0 ? "" : "<=";

	report_cell(text, "", stats->id, " ", 5);
	weiri_text_left(text, weiri_pool_kind_text(stats->kind), 7);
	weiri_text_left(text, stats->name, 22);
	report_cell(text, "", stats->in_use, "", 9);
	report_cell(text, "", stats->available, "", 11);
	report_cell(text, most, stats->in_use_peak, "", 10);
	report_cell(text, "", stats->failures, "", 8);
	report_bytes_cell(text, stats->bytes_mapped, 11);
	weiri_text_char(text, '\n');
}

static void
report_details(struct weiri_text *text, const struct weir_pool_stats *stats)
{
	const char *more = (stats->exact & WEIR_EXACT_REQUESTS) != 0 ? "" : "+";

	weiri_text_str(text, REPORT_INDENT);
	if (stats->object_bytes > 0) {
		weiri_text_str(text, "object ");
		weiri_report_bytes(text, stats->object_bytes);
		weiri_text_str(text, " | ");
	}
	report_cell(text, "cached ", stats->cached, " | ", 0);
	report_cell(text, "requests ", stats->requests, more, 0);
	report_cell(text, " | hits ", stats->hits, more, 0);
	report_cell(text, " | misses ", stats->misses, "\n" REPORT_INDENT, 0);
	if (stats->limit_bytes != UINT64_MAX) {
		weiri_text_str(text, "all tiers hold ");
		weiri_report_bytes(text, stats->limit_bytes_used);
		weiri_text_str(text, " of limit_bytes ");
		weiri_report_bytes(text, stats->limit_bytes);
		weiri_text_str(text, "\n" REPORT_INDENT);
	}
	if (stats->chunk_bytes != 0) {
		weiri_text_str(text, "chunks pin ");
		weiri_report_bytes(text, stats->chunk_bytes);
		weiri_text_str(text, ", alive of it ");
		weiri_report_bytes(text, stats->chunk_bytes_live);
		weiri_text_str(text, "\n" REPORT_INDENT);
	}
	weiri_report_health(text, stats);
	weiri_text_char(text, '\n');
}

static bool
report_pool(struct weiri_pool *pool, void *context)
{
	struct report_table *table = context;
	struct weir_pool_stats stats;

	if (pool->internal)
		return true;
	weiri_pool_stats(pool, &stats);
	if (!table->verbose && report_unused(&stats)) {
		table->unused++;
		return true;
	}
	report_row(table->text, &stats);
	report_details(table->text, &stats);
	return true;
}

void
weiri_report_pools(struct weiri_text *text, bool verbose)
{
	struct report_table table = {.text = text, .verbose = verbose};

	weiri_text_str(text,
	    "  id kind   name                     in use  available"
	    "      peak refused     memory\n");
	weiri_pool_walk(report_pool, &table);
	if (table.unused > 0)
		report_cell(text, "", table.unused,
		    table.unused == 1 ? " pool unused\n" : " pools unused\n",
		    0);
}

/* ---- JSON ---------------------------------------------------------------- */

struct report_json {
	struct weiri_text *text;
	bool any;
};

static void
report_exact_json(struct weiri_text *text, uint32_t exact)
{
	static const struct {
		uint32_t bit;
		const char *word;
	} words[] = {
	    {WEIR_EXACT_COUNTS, "counts"},
	    {WEIR_EXACT_REQUESTS, "requests"},
	    {WEIR_EXACT_PEAK, "peak"},
	};
	bool any = false;

	weiri_text_str(text, ",\"exact\":[");
	for (size_t i = 0; i < WEIRI_COUNT_OF(words); i++) {
		if ((exact & words[i].bit) == 0)
			continue;
		if (any)
			weiri_text_char(text, ',');
		weiri_text_json(text, words[i].word);
		any = true;
	}
	weiri_text_char(text, ']');
}

static bool
report_pool_json(struct weiri_pool *pool, void *context)
{
	struct report_json *json = context;
	struct weiri_text *text = json->text;
	struct weir_pool_stats stats;

	if (pool->internal)
		return true;
	weiri_pool_stats(pool, &stats);

	weiri_text_str(text, json->any ? ",\n  {\"id\":" : "\n  {\"id\":");
	json->any = true;
	weiri_text_u64(text, stats.id);
	weiri_text_str(text, ",\"kind\":");
	weiri_text_json(text, weiri_pool_kind_text(stats.kind));
	weiri_text_str(text, ",\"name\":");
	weiri_text_json(text, stats.name);
	weiri_report_member(text, "object_bytes", stats.object_bytes);
	weiri_report_member(text, "limit", stats.limit);
	weiri_report_member(text, "total", stats.total);
	weiri_report_member(text, "in_use", stats.in_use);
	weiri_report_member(text, "available", stats.available);
	weiri_report_member(text, "cached", stats.cached);
	weiri_report_member(text, "in_use_peak", stats.in_use_peak);
	weiri_report_member(text, "requests", stats.requests);
	weiri_report_member(text, "hits", stats.hits);
	weiri_report_member(text, "misses", stats.misses);
	weiri_report_member(text, "failures", stats.failures);
	weiri_report_member(text, "bytes_mapped", stats.bytes_mapped);
	weiri_report_member(text, "bytes_in_use", stats.bytes_in_use);
	weiri_report_member(text, "bytes_cached", stats.bytes_cached);
	weiri_report_member(text, "bytes_idle", stats.bytes_idle);
	weiri_report_member(text, "bytes_untouched", stats.bytes_untouched);
	weiri_report_member(text, "bytes_overhead", stats.bytes_overhead);
	weiri_report_member(text, "lost_in_fork", stats.lost_in_fork);
	weiri_report_member(text, "limit_bytes", stats.limit_bytes);
	weiri_report_member(text, "limit_bytes_used", stats.limit_bytes_used);
	weiri_report_member(text, "failures_by_bytes", stats.failures_by_bytes);
	weiri_report_member(text, "failures_by_size", stats.failures_by_size);
	weiri_report_member(text, "waits", stats.waits);
	weiri_report_member(text, "wait_timeouts", stats.wait_timeouts);
	weiri_report_member(text, "waiting", stats.waiting);
	weiri_report_member(text, "wait_turns_max", stats.wait_turns_max);
	weiri_report_member(text, "chunk_bytes", stats.chunk_bytes);
	weiri_report_member(text, "chunk_bytes_live", stats.chunk_bytes_live);
	report_exact_json(text, stats.exact);
	weiri_text_str(text, ",\"health\":\"");
	weiri_report_health(text, &stats);
	weiri_text_str(text, "\"}");
	return true;
}

void
weiri_report_pools_json(struct weiri_text *text)
{
	struct report_json json = {.text = text};

	weiri_text_char(text, '[');
	weiri_pool_walk(report_pool_json, &json);
	weiri_text_str(text, json.any ? "\n ]" : "]");
}
