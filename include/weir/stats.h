/* SPDX-License-Identifier: MIT */
/*
 * stats.h - what every pool is doing, in one versioned form.
 *
 * Figures come from cursor positions and magazine trips that the pools keep
 * anyway; reading them allocates nothing and stops nobody.  A figure that the
 * fast path leaves no trace of is either counted on request or given as a
 * bound, and the `exact` bits tell which.  The structs carry their size and
 * version, so a program built against an older header keeps working.
 */
#ifndef WEIR_STATS_H
#define WEIR_STATS_H

#include <weir/export.h>

WEIR_BEGIN_DECLS

#define WEIR_STATS_VERSION 2u

enum weir_pool_kind {
	WEIR_POOL_CACHE = 1,
	WEIR_POOL_REGION = 2,
	WEIR_POOL_BUFFER = 3,
	WEIR_POOL_BUDDY = 4,
	WEIR_POOL_BOUNDED = 5,
	WEIR_POOL_HEAP = 6,
};

/** Which figures of a weir_pool_stats are exact when the pool is quiet. */
enum weir_stats_exact {
	WEIR_EXACT_COUNTS = 1 << 0,   /* total, in_use, available, cached */
	WEIR_EXACT_REQUESTS = 1 << 1, /* requests, hits; else lower bounds */
	WEIR_EXACT_PEAK = 1 << 2,     /* in_use_peak; else an upper bound */
};

/**
 * struct weir_pool_stats - one pool at one moment.
 *
 * Objects are what the pool hands out: objects, buffers, regions or units.
 * total == in_use + available, and total <= limit if one is set; cached is the
 * part of available that threads hold in magazines.  While the pool is busy
 * in_use is an estimate from racing reads: a magazine on its way between a
 * thread and the pool, at most one a thread, counts as in use.
 */
struct weir_pool_stats {
	uint32_t size;    /* bytes of this struct, set by the reader */
	uint32_t version; /* WEIR_STATS_VERSION, set by the library */
	uint32_t kind;    /* enum weir_pool_kind */
	uint32_t exact;   /* enum weir_stats_exact bits */
	uint32_t id;      /* unique in the process, never reused; 0: a kind of
			     regions that is not in the list of pools yet */
	uint32_t reserved0;
	char name[48];

	uint64_t object_bytes; /* 0 where objects differ in size */
	uint64_t limit;        /* objects; UINT64_MAX: none */
	uint64_t total;
	uint64_t in_use;
	uint64_t available;
	uint64_t cached;
	uint64_t in_use_peak;

	uint64_t requests; /* alloc calls, failures included */
	uint64_t hits;     /* requests served without the shared part */
	uint64_t misses;   /* visits to the shared part; exact, but a bounded
			      pool's are its requests */
	uint64_t failures; /* requests that got NULL; always exact */

	uint64_t bytes_mapped; /* memory taken from the page supply */
	uint64_t bytes_in_use; /* the part of it that callers hold */

	/* Of a buffer pool as a whole, the same in each of its tiers. */
	uint64_t limit_bytes;      /* payload held at most; UINT64_MAX: none */
	uint64_t limit_bytes_used; /* payload held; 0 without a limit */
	/* Parts of failures; the rest is the limit or missing memory. */
	uint64_t failures_by_bytes; /* limit_bytes was reached */
	uint64_t failures_by_size;  /* larger than the largest tier */

	/* Of a pool whose requests wait at the limit. */
	uint64_t waits;          /* requests that had to */
	uint64_t wait_timeouts;  /* of them, those that got NULL in the end */
	uint64_t waiting;        /* at this moment */
	uint64_t wait_turns_max; /* most others served between a request's
				    arrival and its own turn */

	/* With bytes_in_use these add up to bytes_mapped. */
	uint64_t bytes_cached;    /* idle objects that threads hold */
	uint64_t bytes_idle;      /* idle objects that the pool holds */
	uint64_t bytes_untouched; /* room for objects that never were */
	uint64_t bytes_overhead;  /* heads, colours, rests, descriptors */

	/* In the child of a fork: objects of in_use, at most, that other
	 * threads of the parent were moving at that moment, a magazine and an
	 * object each, and what bulk calls had in their arrays; they are
	 * lost. */
	uint64_t lost_in_fork;

	/* Of a tier with send chunks (weir/chunk.h): their size, and what of
	 * it is in messages that are not released, about. */
	uint64_t chunk_bytes;
	uint64_t chunk_bytes_live;
};

/**
 * struct weir_stats - the process: page supply, budget, number of pools.
 *
 * While nobody is inside the library it adds up to the byte:
 *
 *   bytes_charged  == bytes_in_spans + bytes_retained + bytes_metadata
 *   bytes_in_spans == bytes_shared + the sum of bytes_mapped over the pools
 *   bytes_mapped   == bytes_in_use + bytes_cached + bytes_idle
 *                     + bytes_untouched + bytes_overhead
 *
 * Bounded and buddy pools manage memory of the caller's: their bytes_mapped
 * is no part of the sum.
 */
struct weir_stats {
	uint32_t size;
	uint32_t version;
	uint64_t pool_count;
	uint64_t bytes_reserved; /* address space taken from the page sources */
	uint64_t
	    bytes_charged;    /* what counts against the budget, metadata in */
	uint64_t bytes_peak;  /* highest bytes_charged */
	uint64_t bytes_limit; /* hard limit; UINT64_MAX: none */
	uint64_t bytes_soft;  /* soft limit; UINT64_MAX: none */
	uint64_t bytes_in_spans;         /* handed out to pools */
	uint64_t bytes_retained;         /* free, touched, kept for reuse */
	uint64_t bytes_metadata;         /* the library's own records */
	uint64_t failures;               /* page requests refused */
	uint64_t bytes_free;             /* address space in no span */
	uint64_t bytes_free_largest;     /* of it, the longest run in each of
					  * the blocks that sources gave */
	uint64_t fragmentation_permille; /* share of bytes_free beside those:
					  * see weir_pages_orders_read() */
	uint64_t bytes_shared;           /* of bytes_in_spans, what no pool's
					  * bytes_mapped has: idle blocks that
					  * regions of all kinds share */
	uint64_t reserved[4];
};

/**
 * weir_stats_read() - read the figures of the process.
 * @out: set out->size to sizeof(*out) first.
 *
 * Returns:   0, or -EINVAL when out->size is none this library knows.
 * Ownership: copies into the caller's storage.
 * Threads:   any thread.  Not async-signal-safe (takes the page lock).
 * Cost:      under a microsecond, no allocation.
 * Errors:    none beside the return value.
 * Since:     0.1
 */
WEIR_API int weir_stats_read(struct weir_stats *out) WEIR_NOEXCEPT;

/**
 * weir_stats_pools() - read the figures of every pool.
 * @out:      array of @capacity entries; out[0].size set by the caller.
 * @capacity: entries of @out; 0 asks only for the number of pools.
 *
 * Returns:   the number of pools met, which may exceed @capacity; the first
 *            @capacity of them, oldest first, are filled.
 * Ownership: copies into the caller's storage.
 * Threads:   any thread.  Pools may come and go during the call; the number
 *            is then that of all it met, not of those alive at one moment.
 * Cost:      about 100 ns a pool and thread, no allocation.
 * Errors:    0 with capacity > 0 and an unknown out[0].size.
 * Since:     0.1
 */
WEIR_API size_t weir_stats_pools(struct weir_pool_stats *out, size_t capacity)
    WEIR_NOEXCEPT;

/**
 * weir_stats_text() - write all figures as a table for people.
 * @buffer: receives a NUL-terminated text, cut when it does not fit.
 * @bytes:  size of @buffer; 0 is allowed.
 *
 * Pools that were never asked for anything and hold no memory, as a tier of
 * buffers that no request fits into, are only counted in the last line.
 * docs/STATISTICS.md explains every figure.
 *
 * Returns:   the bytes of the whole text without its NUL, as snprintf does.
 * Ownership: writes only into @buffer.
 * Threads:   any thread.
 * Cost:      as weir_stats_pools() and the formatting; no allocation.
 * Errors:    none.
 * Since:     0.1
 */
WEIR_API size_t weir_stats_text(char *buffer, size_t bytes) WEIR_NOEXCEPT;

/**
 * weir_stats_text_verbose() - as weir_stats_text(), unused pools included.
 * @buffer: receives a NUL-terminated text, cut when it does not fit.
 * @bytes:  size of @buffer; 0 is allowed.
 *
 * Returns:   the bytes of the whole text without its NUL, as snprintf does.
 * Ownership: writes only into @buffer.
 * Threads:   any thread.
 * Cost:      as weir_stats_text().
 * Errors:    none.
 * Since:     0.1
 */
WEIR_API size_t weir_stats_text_verbose(char *buffer, size_t bytes)
    WEIR_NOEXCEPT;

/**
 * weir_stats_json() - write all figures as one JSON object.
 * @buffer: receives a NUL-terminated text, cut when it does not fit.
 * @bytes:  size of @buffer; 0 is allowed.
 *
 * Returns:   the bytes of the whole text without its NUL, as snprintf does.
 * Ownership: writes only into @buffer.
 * Threads:   any thread.
 * Cost:      as weir_stats_text().
 * Errors:    none.
 * Since:     0.1
 */
WEIR_API size_t weir_stats_json(char *buffer, size_t bytes) WEIR_NOEXCEPT;

/**
 * weir_stats_health() - one line on a pool, with advice where it is due.
 * @stats:  figures read before.
 * @buffer: receives e.g. "usage 85 % | success 99.95 % | ok"; above 90 % usage
 *          of a limit, be it objects or limit_bytes, or above 1 % failures, the
 *          last part says what to do.
 *          Where requests are a lower bound, success is one as well (">="),
 *          and a share above 1 % is not advised upon.
 * @bytes:  size of @buffer; 0 is allowed.
 *
 * Returns:   the bytes of the whole line without its NUL, as snprintf does.
 * Ownership: writes only into @buffer.
 * Threads:   any thread.
 * Cost:      formatting only.
 * Errors:    none.
 * Since:     0.1
 */
WEIR_API size_t weir_stats_health(const struct weir_pool_stats *stats,
    char *buffer, size_t bytes) WEIR_NOEXCEPT;

WEIR_END_DECLS

#endif /* WEIR_STATS_H */
