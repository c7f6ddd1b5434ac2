/* SPDX-License-Identifier: MIT */
/*
 * region_kind.c - kinds: a name, the counters of a set of regions, and what
 * they need.
 *
 * Regions come and go by the million, so they are not in the registry: their
 * kind is, once, with counters in one cache line per thread.  A line belongs to
 * the thread whose local state claimed it, found by the state's address; its
 * owner counts with plain loads and stores.  Who finds the line of another, or
 * has no state (late in its life, or without memory), uses the shared line and
 * atomic adds.  A line outlives its thread and passes to the next one whose
 * state has the same address; the lock under which states are made and ended
 * orders the two.
 *
 * Number and memory of the live regions change together, so they share a word:
 *
 *      63            37 36                                0
 *     +----------------+----------------------------------+
 *     | live regions   | 64 B they hold                   |   2^27, 8 TiB
 *     +----------------+----------------------------------+
 *
 * A line's word wraps when regions end on another thread than they began on;
 * the sum over all lines, modulo 2^64, is right, because it equals the sum of
 * what the live regions really have.
 *
 * Learning.  A region that ends or is reset counts in a bin of its line for the
 * bytes of blocks it used; bins are the sizes of first blocks and go on from
 * there.  After 32 of them the line's bins are added to a quarter of what the
 * kind's were: remembered are the last 32, a quarter of the 32 before, and so on,
 * of the threads together.  So a kind that changes is understood after 64 ends,
 * when the past has a weight of 6 %, and none of it costs an object anything.
 *
 *     first_bin   of first blocks from now on: first_percent ended within it
 *     keep_bin    what a reset keeps: likewise with keep_percent
 *
 * A kind between two sizes must not flutter, which would leave regions of either
 * size idle in every magazine.  So both fall only when half of what is beyond the
 * quantile would be within the smaller size, too, and rise at once only when
 * twice as much is beyond the size that is in force; otherwise when that is too
 * small for the second time in a row.
 *
 * A kind's record is made by its first region without a lock, as the supply
 * is (region_supply.c), and is never freed: statistics may be reading it, and
 * the program's static object may be gone with its module.
 */
#include "pools/region.h"
#include "pools/region_shape.h"

#include "watch/registry.h"

#include <errno.h>
#include <string.h>

#define REGION_LINES WEIRI_REGION_LINES
#define REGION_BYTES_MASK (WEIRI_REGION_LIVE_ONE - 1)

#define REGION_FIRST_PERCENT 90
#define REGION_KEEP_PERCENT 75

struct weir_region_kind weiri_region_kind_default = WEIR_REGION_KIND("region");

/* ---- lines ------------------------------------------------------------ */

/* Claims @line if it is free; otherwise the shared one. */
static WEIRI_COLD struct weiri_region_counts *
region_kind_line_slow(struct weiri_region_kind *kind,
    struct weiri_region_counts *line, const struct weir_local *local)
{
	const struct weir_local *nobody = NULL;

	if (local != &weiri_local_none &&
	    __atomic_compare_exchange_n(&line->owner, &nobody, local, false,
		__ATOMIC_RELAXED, __ATOMIC_RELAXED))
		return line;
	return &kind->line[REGION_LINES];
}

struct weiri_region_counts *
weiri_region_kind_line(struct weiri_region_kind *kind, bool *shared)
{
	const struct weir_local *local = weiri_local();
	/* Local states are aligned to their size. */
	struct weiri_region_counts *line =
	    &kind->line[(uintptr_t)local / sizeof(*local) % REGION_LINES];

	if (WEIR_UNLIKELY(WEIRI_LOAD(&line->owner) != local))
		line = region_kind_line_slow(kind, line, local);
	/* Nobody owns the shared line, and it is used only as such. */
	*shared = WEIRI_LOAD(&line->owner) == NULL;
	if (WEIR_UNLIKELY(WEIRI_LOAD(&line->due) == 0))
		WEIRI_STORE(&line->due, WEIRI_REGION_EPOCH);
	return line;
}

/* ---- counting --------------------------------------------------------- */

int
weiri_region_kind_peak(struct weiri_region_counts *counts, uint64_t live)
{
	int64_t peak = WEIRI_LOAD(&counts->live_peak);

	while ((int64_t)live > peak &&
	       !__atomic_compare_exchange_n(&counts->live_peak, &peak,
		   (int64_t)live, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
	return 0;
}

void
weiri_region_kind_end_shared(struct weiri_region_counts *counts)
{
	__atomic_fetch_add(&counts->told, 1, __ATOMIC_RELAXED);
}

void
weiri_region_kind_fail(struct weiri_region_kind *kind)
{
	bool shared;
	struct weiri_region_counts *line =
	    weiri_region_kind_line(kind, &shared);

	if (shared)
		__atomic_fetch_add(&line->failures, 1, __ATOMIC_RELAXED);
	else
		WEIRI_BUMP(&line->failures, 1);
}

/* ---- time ------------------------------------------------------------- */

uint32_t weiri_region_tick;

void
weiri_region_tick_now(void)
{
	WEIRI_STORE(&weiri_region_tick, (uint32_t)(weiri_os_now_ns() >> 24));
}

/* ---- learning --------------------------------------------------------- */

#define REGION_BYTES(byte) (UINT64_C(0x0101010101010101) * (byte))

/* The sum of eight bins. */
static uint32_t
kind_sum(uint64_t word)
{
	const uint64_t even = UINT64_C(0x00ff00ff00ff00ff);

	word = (word & even) + ((word >> 8) & even);
	return (uint32_t)((word * UINT64_C(0x0001000100010001)) >> 48);
}

/* A quarter of what was, and what is new. */
static void
kind_add(struct weiri_region_kind *kind, const struct weiri_region_ends *ends)
{
	uint32_t weight = 0;

	for (unsigned i = 0; i < WEIRI_REGION_BINS / 8; i++) {
		uint64_t word = kind->ends.word[i];

		/* The regions of one kind are of few sizes. */
		if ((word | ends->word[i]) == 0)
			continue;
		word = ((word >> 2) & REGION_BYTES(0x3f)) + ends->word[i];
		kind->ends.word[i] = word;
		weight += kind_sum(word);
	}
	kind->weight = weight;
}

/* The smallest bin that @percent of the weight ended within. */
static unsigned
kind_quantile(const struct weiri_region_kind *kind, unsigned percent)
{
	uint32_t within = kind->weight - kind->weight * (100 - percent) / 100;
	const struct weiri_region_ends *ends = &kind->ends;
	unsigned bin = 0;
	uint32_t sum;

	for (; (sum = kind_sum(ends->word[bin / 8])) < within; bin += 8)
		within -= sum;
	for (; ends->bin[bin] < within; bin++)
		within -= ends->bin[bin];
	return bin;
}

/* What takes the place of @now; *is_short: that was a little too small.  See the
 * essay. */
static unsigned
kind_settle(const struct weiri_region_kind *kind, unsigned now,
    unsigned percent, bool *is_short)
{
	unsigned beyond = 100 - percent;
	unsigned bin = kind_quantile(kind, percent);
	bool was_short = *is_short;

	*is_short = false;
	if (bin < now)
		return (unsigned)weiri_min(
		    kind_quantile(kind, percent + beyond / 2), now);
	if (bin > now && !was_short && percent > beyond &&
	    kind_quantile(kind, percent - beyond) <= now) {
		*is_short = true;
		return now;
	}
	return bin;
}

/* First blocks are of another bin from now on, unless there is no memory for a
 * depot of them. */
static void
kind_move(struct weiri_region_kind *kind, unsigned bin)
{
	const struct weiri_depot *depot = weiri_region_first_make(bin, false);

	if (WEIR_UNLIKELY(depot == NULL))
		return;
	weiri_region_idle_moved(kind->first_bin);
	kind->left |= UINT64_C(1) << kind->first_bin;
	kind->left &= ~(UINT64_C(1) << bin);
	WEIRI_STORE(&kind->first_bin, (uint8_t)bin);
	WEIRI_STORE(&kind->cell, depot->fast_offset);
}

/* What a reset keeps, kinds without resets need not know. */
static void
kind_decide(struct weiri_region_kind *kind, bool resets)
{
	unsigned first = kind_settle(
	    kind, kind->first_bin, kind->first_percent, &kind->first_short);

	first = (unsigned)weiri_min(first, WEIRI_REGION_FIRSTS - 1);
	if (first != kind->first_bin)
		kind_move(kind, first);
	if (resets)
		WEIRI_STORE(&kind->keep_bin,
		    (uint8_t)kind_settle(kind, kind->keep_bin,
			kind->keep_percent, &kind->keep_short));
	WEIRI_STORE(&kind->learned, true);
}

/* Regions of before end when they end. */
static void
kind_look_back(struct weiri_region_kind *kind)
{
	for (uint64_t left = kind->left; left != 0; left &= left - 1) {
		unsigned bin = (unsigned)__builtin_ctzll(left);

		if (!weiri_region_idle_left(bin))
			kind->left &= ~(UINT64_C(1) << bin);
	}
}

void
weiri_region_kind_learn(struct weiri_region_counts *counts)
{
	struct weiri_region_kind *kind = WEIRI_CONTAINER_OF(
	    counts - counts->line, struct weiri_region_kind, line[0]);

	WEIRI_BUMP(&counts->told, WEIRI_REGION_EPOCH);
	WEIRI_STORE(&counts->due, WEIRI_REGION_EPOCH);
	weiri_region_tick_now();
	/* Another thread is at it: its ends are as good as ours.  Pairs with
	 * the release below. */
	if (!__atomic_exchange_n(&kind->learning, true, __ATOMIC_ACQUIRE)) {
		kind_add(kind, &counts->ends);
		kind_decide(kind, WEIRI_LOAD(&counts->resets) != 0);
		if (WEIR_UNLIKELY(kind->left != 0))
			kind_look_back(kind);
		__atomic_store_n(&kind->learning, false, __ATOMIC_RELEASE);
	}
	counts->ends = (struct weiri_region_ends){0};
	weiri_region_guard_divert(kind);
	weiri_region_idle_look();
}

/* ---- statistics ------------------------------------------------------- */

static void
region_kind_sum(struct weiri_region_kind *kind, struct weiri_region_counts *sum)
{
	memset(sum, 0, sizeof(*sum));
	for (size_t i = 0; i <= REGION_LINES; i++) {
		struct weiri_region_counts *line = &kind->line[i];

		sum->live += WEIRI_LOAD(&line->live);
		/* Of the peak of each, regions alone: bytes would carry. */
		sum->live_peak +=
		    WEIRI_LOAD(&line->live_peak) >> WEIRI_REGION_LIVE_SHIFT;
		/* Ends, with what the kind was not told yet. */
		sum->told +=
		    WEIRI_LOAD(&line->told) - WEIRI_LOAD(&line->resets);
		if (WEIRI_LOAD(&line->due) != 0)
			sum->told +=
			    WEIRI_REGION_EPOCH - WEIRI_LOAD(&line->due);
		sum->misses += WEIRI_LOAD(&line->misses);
		sum->failures += WEIRI_LOAD(&line->failures);
	}
}

static void
region_kind_fill(struct weiri_pool *pool, struct weir_pool_stats *out)
{
	struct weiri_region_counts sum;
	uint64_t made;

	region_kind_sum(
	    WEIRI_CONTAINER_OF(pool, struct weiri_region_kind, pool), &sum);
	out->exact = WEIR_EXACT_COUNTS;
	out->limit = UINT64_MAX;
	out->in_use = sum.live >> WEIRI_REGION_LIVE_SHIFT;
	out->total = out->in_use;
	made = sum.told + out->in_use;
	/* Regions handed from thread to thread inflate the peaks' sum. */
	out->in_use_peak = weiri_min((uint64_t)sum.live_peak, made);
	out->hits = made;
	out->misses = sum.misses;
	out->failures = sum.failures;
	out->requests = made + sum.misses + sum.failures;
	out->bytes_mapped = (sum.live & REGION_BYTES_MASK)
			    << WEIRI_REGION_LIVE_UNIT;
	out->bytes_in_use = out->bytes_mapped;
}

/* Who was at it is not in the child.  The bins it left are whole bytes, and
 * their sum is made anew by the next. */
static void
region_kind_fork_child(struct weiri_pool *pool)
{
	struct weiri_region_kind *kind =
	    WEIRI_CONTAINER_OF(pool, struct weiri_region_kind, pool);

	WEIRI_STORE(&kind->learning, false);
}

static const struct weiri_pool_ops region_kind_ops = {
    .stats = region_kind_fill,
    .fork_child = region_kind_fork_child,
};

/* ---- records ---------------------------------------------------------- */

static uint8_t
kind_percent(uint8_t percent, uint8_t otherwise)
{
	return percent == 0 ? otherwise : (uint8_t)weiri_min(percent, 100);
}

static WEIRI_COLD struct weiri_region_kind *
region_kind_make(struct weir_region_kind *kind)
{
	const struct weiri_depot *depot =
	    weiri_region_first_make(WEIRI_REGION_FIRST_BIN, true);
	struct weiri_region_kind *record;
	void *seen = NULL;

	if (depot == NULL)
		return NULL;
	record = weiri_meta_need(sizeof(*record));
	if (record == NULL)
		return NULL;
	record->first_bin = record->keep_bin = WEIRI_REGION_FIRST_BIN;
	record->cell = depot->fast_offset;
	for (uint32_t i = 0; i <= REGION_LINES; i++)
		record->line[i].line = i;
	record->first_percent =
	    kind_percent(kind->first_percent, REGION_FIRST_PERCENT);
	record->keep_percent =
	    kind_percent(kind->keep_percent, REGION_KEEP_PERCENT);
	weiri_pool_describe(&record->pool, WEIR_POOL_REGION, kind->name,
	    &region_kind_ops, false);
	/* Pairs with the acquires in weiri_region_kind_of() and
	 * weir_region_kind_stats(). */
	if (!__atomic_compare_exchange_n(&kind->record, &seen, record, false,
		__ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
		weiri_meta_free(record, sizeof(*record));
		return seen;
	}
	weiri_pool_enter(&record->pool);
	weiri_guard_enter(&record->guard, "region", record->pool.name);
	weiri_region_guard_divert(record);
	return record;
}

struct weiri_region_kind *
weiri_region_kind_of(struct weir_region_kind *kind)
{
	struct weiri_region_kind *record;

	if (kind == NULL)
		kind = &weiri_region_kind_default;
	record = __atomic_load_n(&kind->record, __ATOMIC_ACQUIRE);
	if (WEIR_LIKELY(record != NULL))
		return record;
	return region_kind_make(kind);
}

const char *
weiri_region_kind_name(const struct weiri_region_kind *kind)
{
	return kind->pool.name;
}

int
weir_region_kind_stats(
    const struct weir_region_kind *kind, struct weir_pool_stats *out)
{
	struct weiri_region_kind *record;

	if (out->size != sizeof(*out))
		return -EINVAL;
	if (kind == NULL)
		kind = &weiri_region_kind_default;
	record = __atomic_load_n(&kind->record, __ATOMIC_ACQUIRE);
	if (record != NULL) {
		weiri_pool_stats(&record->pool, out);
		return 0;
	}
	memset(out, 0, sizeof(*out));
	out->size = sizeof(*out);
	out->version = WEIR_STATS_VERSION;
	out->kind = WEIR_POOL_REGION;
	return 0;
}
