/* SPDX-License-Identifier: MIT */
/*
 * region_kind.h - kinds: their counters and what they learn; region_kind.c says
 * how.
 */
#ifndef WEIRI_REGION_KIND_H
#define WEIRI_REGION_KIND_H

#include "guard/guard.h"
#include "pools/region_size.h"
#include "slab/local.h"
#include "watch/registry.h"

/* Ends of regions between two times that a thread tells the kind about them;
 * the time is looked at then, too. */
#define WEIRI_REGION_EPOCH 32

/* Ends and resets by their bin, eight to a word; none is above 127. */
struct weiri_region_ends {
	union {
		uint8_t bin[WEIRI_REGION_BINS];
		uint64_t word[WEIRI_REGION_BINS / 8];
	};
};

/* One thread's counters of one kind. */
struct weiri_region_counts {
	WEIRI_ALIGNED(WEIRI_CACHE_LINE) const struct weir_local *owner;
	uint64_t live;     /* drawn in region_kind.c */
	int64_t live_peak; /* the highest it was */
	uint64_t told;     /* ends and resets that the kind knows of */
	uint64_t resets;   /* of those and the ones since */
	uint64_t misses;   /* blocks and large objects taken */
	uint64_t failures;
	uint32_t due;  /* ends and resets until the kind is told */
	uint32_t line; /* which of the kind's it is */
	struct weiri_region_ends ends; /* since, by bytes of blocks used */
};

static_assert(
    sizeof(struct weiri_region_counts) == (size_t)2 * WEIRI_CACHE_LINE,
    "what changes with each region is in one line");

/* As many as make a kind's record 4 KiB with the shared line: a class of the
 * metadata, and more threads than most servers run. */
#define WEIRI_REGION_LINES 29

struct weiri_region_kind {
	uint32_t cell;     /* of the depot of first blocks; atomic, see learn */
	uint8_t first_bin; /* its index; atomic */
	uint8_t keep_bin;  /* what a reset keeps; atomic */
	bool learned;      /* either is more than a guess; atomic */
	bool learning;     /* a lock of what follows */
	uint8_t first_percent, keep_percent;
	bool first_short, keep_short; /* see kind_settle() */
	uint32_t weight;              /* sum of ends */
	uint64_t left; /* bins it took before, of which regions may be live */
	struct weiri_region_ends ends;
	struct weiri_pool pool;
	struct weiri_guard_pool guard;
	struct weiri_region_counts line[WEIRI_REGION_LINES + 1]; /* + shared */
};

static_assert(
    sizeof(struct weiri_region_kind) <= 4096, "fills a metadata class");
static_assert(WEIRI_REGION_FIRSTS <= 64, "bins are bits");

/* Of counts->live. */
#define WEIRI_REGION_LIVE_SHIFT 37
#define WEIRI_REGION_LIVE_ONE (UINT64_C(1) << WEIRI_REGION_LIVE_SHIFT)

/* Bytes as they are counted there, in units of 64. */
#define WEIRI_REGION_LIVE_UNIT 6

WEIRI_INLINE uint64_t
weiri_region_live_bytes(uint64_t bytes)
{
	return bytes >> WEIRI_REGION_LIVE_UNIT;
}

/* Time in 2^24 ns, as it was when somebody last looked. */
extern uint32_t weiri_region_tick __attribute__((visibility("hidden")));
void weiri_region_tick_now(void);

/* Of regions without a kind. */
extern struct weir_region_kind weiri_region_kind_default
    __attribute__((visibility("hidden")));

/* The record behind @kind, made on first use; NULL without memory.  After
 * weiri_region_supply_start(). */
struct weiri_region_kind *weiri_region_kind_of(struct weir_region_kind *kind);

const char *weiri_region_kind_name(const struct weiri_region_kind *kind);

/* The line the calling thread counts in; *shared: others do, too. */
struct weiri_region_counts *weiri_region_kind_line(
    struct weiri_region_kind *kind, bool *shared);

/* A region was not made. */
WEIRI_COLD void weiri_region_kind_fail(struct weiri_region_kind *kind);

/* The highest number of live regions rose to that in @live.  Returns 0. */
WEIRI_COLD int weiri_region_kind_peak(
    struct weiri_region_counts *counts, uint64_t live);

/* A thread's epoch is over: tells the kind, which may take other sizes. */
WEIRI_COLD void weiri_region_kind_learn(struct weiri_region_counts *counts);

/* A region of a line that many threads share ended. */
WEIRI_COLD void weiri_region_kind_end_shared(
    struct weiri_region_counts *counts);

/* A region ended, or was reset, that used a bin's bytes of blocks. */
WEIRI_INLINE void
weiri_region_kind_note(struct weiri_region_counts *counts, size_t bin)
{
	uint32_t due = WEIRI_LOAD(&counts->due) - 1;

	counts->ends.bin[bin]++;
	if (WEIR_UNLIKELY(due == 0))
		weiri_region_kind_learn(counts);
	else
		WEIRI_STORE(&counts->due, due);
}

#endif /* WEIRI_REGION_KIND_H */
