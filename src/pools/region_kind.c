/* SPDX-License-Identifier: MIT */
/*
 * region_kind.c - kinds: a name and the counters of a set of regions.
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
 *      63            36 35                                0
 *     +----------------+----------------------------------+
 *     | live regions   | KiB they hold                    |   2^28, 64 TiB
 *     +----------------+----------------------------------+
 *
 * A line's word wraps when regions end on another thread than they began on;
 * the sum over all lines, modulo 2^64, is right, because it equals the sum of
 * what the live regions really have.
 *
 * A kind's record is made by its first region without a lock, as the supply
 * is (region_supply.c), and is never freed: statistics may be reading it, and
 * the program's static object may be gone with its module.
 */
#include "pools/region.h"

#include "watch/registry.h"

#include <errno.h>
#include <string.h>

/* As many as make the record 2 KiB with the shared line: a class of the
 * metadata, and more threads than most servers run. */
#define REGION_LINES 29

#define REGION_LIVE_SHIFT 36
#define REGION_LIVE_ONE (UINT64_C(1) << REGION_LIVE_SHIFT)
#define REGION_KIB_MASK (REGION_LIVE_ONE - 1)

struct region_counts {
	WEIRI_ALIGNED(WEIRI_CACHE_LINE) const struct weir_local *owner;
	uint64_t live;     /* drawn above */
	int64_t live_peak; /* most live regions, by this line's count */
	uint64_t ended;    /* regions destroyed */
	uint64_t misses;   /* blocks and large objects taken */
	uint64_t failures;
};

static_assert(sizeof(struct region_counts) == WEIRI_CACHE_LINE,
    "threads do not share lines");

struct weiri_region_kind {
	struct weiri_pool pool;
	struct region_counts line[REGION_LINES + 1]; /* the last is shared */
};

static_assert(
    sizeof(struct weiri_region_kind) <= 2048, "fills a metadata class");

static struct weir_region_kind region_kind_default = WEIR_REGION_KIND("region");

/* ---- lines ------------------------------------------------------------ */

/* Claims @line if it is free; otherwise the shared one. */
static WEIRI_COLD struct region_counts *
region_kind_line_slow(struct weiri_region_kind *kind,
    struct region_counts *line, const struct weir_local *local)
{
	const struct weir_local *nobody = NULL;

	if (local != &weiri_local_none &&
	    __atomic_compare_exchange_n(&line->owner, &nobody, local, false,
		__ATOMIC_RELAXED, __ATOMIC_RELAXED))
		return line;
	return &kind->line[REGION_LINES];
}

WEIRI_INLINE struct region_counts *
region_kind_line(struct weiri_region_kind *kind)
{
	const struct weir_local *local = weiri_local();
	/* Local states are aligned to their size. */
	struct region_counts *line =
	    &kind->line[(uintptr_t)local / sizeof(*local) % REGION_LINES];

	if (WEIR_LIKELY(WEIRI_LOAD(&line->owner) == local))
		return line;
	return region_kind_line_slow(kind, line, local);
}

WEIRI_INLINE bool
region_line_is_shared(const struct region_counts *line)
{
	/* Nobody owns the shared line, and it is used only as such. */
	return WEIRI_LOAD(&line->owner) == NULL;
}

/* Adds and returns the sum. */
WEIRI_INLINE uint64_t
region_line_add(
    const struct region_counts *line, uint64_t *counter, uint64_t amount)
{
	if (WEIR_UNLIKELY(region_line_is_shared(line)))
		return __atomic_add_fetch(counter, amount, __ATOMIC_RELAXED);

	uint64_t sum = WEIRI_LOAD(counter) + amount;

	WEIRI_STORE(counter, sum);
	return sum;
}

/* ---- counting --------------------------------------------------------- */

void
weiri_region_kind_enter(struct weiri_region_kind *kind, size_t bytes)
{
	struct region_counts *line = region_kind_line(kind);
	/* Signed: below zero where others' regions end. */
	int64_t live = (int64_t)region_line_add(line, &line->live,
			   REGION_LIVE_ONE + (bytes >> 10)) >>
		       REGION_LIVE_SHIFT;
	int64_t peak = WEIRI_LOAD(&line->live_peak);

	while (WEIR_UNLIKELY(live > peak) &&
	       !__atomic_compare_exchange_n(&line->live_peak, &peak, live, true,
		   __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
}

void
weiri_region_kind_leave(struct weiri_region_kind *kind, uint64_t bytes)
{
	struct region_counts *line = region_kind_line(kind);

	region_line_add(
	    line, &line->live, 0 - (REGION_LIVE_ONE + (bytes >> 10)));
	region_line_add(line, &line->ended, 1);
}

void
weiri_region_kind_grow(struct weiri_region_kind *kind, size_t bytes)
{
	struct region_counts *line = region_kind_line(kind);

	region_line_add(line, &line->live, bytes >> 10);
	region_line_add(line, &line->misses, 1);
}

void
weiri_region_kind_shrink(struct weiri_region_kind *kind, uint64_t bytes)
{
	struct region_counts *line = region_kind_line(kind);

	region_line_add(line, &line->live, 0 - (bytes >> 10));
}

void
weiri_region_kind_fail(struct weiri_region_kind *kind)
{
	struct region_counts *line = region_kind_line(kind);

	region_line_add(line, &line->failures, 1);
}

/* ---- statistics ------------------------------------------------------- */

static void
region_kind_sum(struct weiri_region_kind *kind, struct region_counts *sum)
{
	memset(sum, 0, sizeof(*sum));
	for (size_t i = 0; i <= REGION_LINES; i++) {
		struct region_counts *line = &kind->line[i];

		sum->live += WEIRI_LOAD(&line->live);
		sum->live_peak += WEIRI_LOAD(&line->live_peak);
		sum->ended += WEIRI_LOAD(&line->ended);
		sum->misses += WEIRI_LOAD(&line->misses);
		sum->failures += WEIRI_LOAD(&line->failures);
	}
}

static void
region_kind_fill(struct weiri_pool *pool, struct weir_pool_stats *out)
{
	struct region_counts sum;
	uint64_t made;

	region_kind_sum(
	    WEIRI_CONTAINER_OF(pool, struct weiri_region_kind, pool), &sum);
	out->exact = WEIR_EXACT_COUNTS;
	out->limit = UINT64_MAX;
	out->in_use = sum.live >> REGION_LIVE_SHIFT;
	out->total = out->in_use;
	made = sum.ended + out->in_use;
	/* Regions handed from thread to thread inflate the peaks' sum. */
	out->in_use_peak = weiri_min((uint64_t)sum.live_peak, made);
	out->hits = made;
	out->misses = sum.misses;
	out->failures = sum.failures;
	out->requests = made + sum.misses + sum.failures;
	out->bytes_mapped = (sum.live & REGION_KIB_MASK) << 10;
	out->bytes_in_use = out->bytes_mapped;
}

static const struct weiri_pool_ops region_kind_ops = {
    .stats = region_kind_fill,
};

/* ---- records ---------------------------------------------------------- */

static WEIRI_COLD struct weiri_region_kind *
region_kind_make(struct weir_region_kind *kind)
{
	struct weiri_region_kind *record = weiri_meta_need(sizeof(*record));
	void *seen = NULL;

	if (record == NULL)
		return NULL;
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
	return record;
}

struct weiri_region_kind *
weiri_region_kind_of(struct weir_region_kind *kind)
{
	struct weiri_region_kind *record;

	if (kind == NULL)
		kind = &region_kind_default;
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
		kind = &region_kind_default;
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
