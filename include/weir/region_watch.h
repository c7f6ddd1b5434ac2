/* SPDX-License-Identifier: MIT */
/*
 * region_watch.h - which regions are there, how large, how old, made by whom.
 *
 * Part of weir/region.h, which includes it.
 *
 * Looking costs the regions nothing: their headers lie in memory that always
 * holds such headers, and are read while they come and go.  So any thread can
 * list the regions of all.  What it gets of each was true at some moment of the
 * call; of one that is busy, or was ended and followed by another in the same
 * place, the figures may be from two.
 *
 * Regions in a range of addresses (weir/region_vm.h) are among them, as of the
 * kind "vm"; they have nothing above or below them.  Regions in one buffer
 * (weir/region_fixed.h) are not: there is no library behind them that could know
 * them.
 */
#ifndef WEIR_REGION_WATCH_H
#define WEIR_REGION_WATCH_H

#include <weir/region.h>

WEIR_BEGIN_DECLS

/** struct weir_region_info - one live region. */
struct weir_region_info {
	/* Not to be used: it may be gone; with vm the address of another
	 * struct. */
	const struct weir_region *region;
	const struct weir_region *parent; /* likewise; NULL: none */
	const char *name;                 /* its own, else that of its kind */
	const char *kind;
	const void *site;   /* where the call returned to that made it */
	const void *thread; /* tells owners apart; NULL: handed off */
	uint64_t age_ns;    /* at most; it may be 17 ms less, and more when no
			     * region ended lately */
	uint64_t bytes;     /* blocks and large objects; with vm what is
			     * committed */
	uint64_t bytes_peak;
	uint64_t misses;   /* blocks and large objects taken; with vm times that
			    * the room was too small */
	uint64_t failures; /* requests refused */
	bool mine;         /* the calling thread's */
	bool vm;           /* one of weir/region_vm.h */
	uint8_t padding[6];
	uint64_t reserved[4];
};

/** struct weir_region_site - all live regions made at one place. */
struct weir_region_site {
	const void *site;
	const char *kind; /* of the largest */
	uint64_t regions;
	uint64_t bytes;
	uint64_t bytes_max;  /* of the largest */
	uint64_t age_ns_max; /* of the oldest */
	uint64_t reserved[4];
};

enum weir_region_order {
	WEIR_REGION_BY_BYTES = 0, /* largest first */
	WEIR_REGION_BY_AGE = 1,   /* oldest first */
	WEIR_REGION_BY_PEAK = 2,  /* highest bytes_peak first */
};

/**
 * weir_region_rename() - give a live region another name.
 * @region: a live region.
 * @name:   cut after 47 bytes; NULL: that of the kind.
 *
 * For what is known only once the region is there: which route a request takes,
 * what a pool's tag says.  weir_region_config.name costs less.
 *
 * Returns:   true; false when the region keeps the name it had: there are 256
 *            different names already, or there is no memory for another.
 * Ownership: copied, once for all regions of the name, and never freed.
 * Threads:   the region's owner; whoever lists regions meanwhile sees the old
 *            name or the new one.
 * Cost:      some instructions for each byte of @name; no lock.
 * Errors:    a destroyed region is a fault (weir/guard.h).
 * Since:     0.1
 */
WEIR_API bool weir_region_rename(struct weir_region *region, const char *name)
    WEIR_NOEXCEPT;

/** Of weir_region_top(): regions of the calling thread only. */
#define WEIR_REGION_MINE 1u

/**
 * weir_region_top() - the first live regions in some order.
 * @order: which come first.
 * @flags: 0 or WEIR_REGION_MINE.
 * @out:   receives up to @count; may be NULL when @count is 0.
 * @count: of @out.
 *
 * Returns:   the number of live regions there are, which may be more than
 *            @count; those that began or ended meanwhile may be in it.
 * Ownership: copies; the texts in them live as long as the process, or the
 *            storage that weir_region_config.name was in.  Names of 256
 *            different regions in ranges of addresses are kept for that, the
 *            others have the name "vm" here.
 * Threads:   any thread.
 * Cost:      linear in the regions that are there, and were there since the
 *            last trim, and in the pools; threads that need a first block from
 *            the shared part, or end a region in a range of addresses, wait
 *            meanwhile, others do not.  No allocation.
 * Errors:    an unknown order or flag: 0, and nothing in @out.
 * Since:     0.1
 */
WEIR_API size_t weir_region_top(enum weir_region_order order, unsigned flags,
    struct weir_region_info *out, size_t count) WEIR_NOEXCEPT;

/**
 * weir_region_top_sites() - the places whose live regions hold most.
 * @out:   receives up to @count, most bytes first; may be NULL when @count is 0.
 * @count: of @out.
 * @found: receives the number of places there are.
 *
 * Returns:   0, or -ENOMEM: there is no memory to sort with, *found is 0.
 * Ownership: as weir_region_top().
 * Threads:   any thread.
 * Cost:      as weir_region_top(), and pages for a hundred bytes a region
 *            while it sorts.
 * Errors:    none beside the return value.
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD int weir_region_top_sites(
    struct weir_region_site *out, size_t count, size_t *found) WEIR_NOEXCEPT;

/**
 * weir_region_text() - live regions as a tree.
 * @root:   a live region, for it and those below it, newest first, with their
 *          limits; NULL for all regions of all threads, the largest first.
 * @buffer: receives the text, NUL-terminated, cut if need be; may be NULL when
 *          @bytes is 0.
 * @bytes:  of @buffer.
 *
 * Returns:   the length of the whole text without the NUL.
 * Ownership: the caller's buffer.
 * Threads:   with @root its owner, who owns those below, too; else any thread.
 * Cost:      as weir_region_top_sites(); with @root linear in the regions
 *            below, no allocation.
 * Errors:    without memory to sort with the text says so and lists nothing.
 * Since:     0.1
 */
WEIR_API size_t weir_region_text(
    const struct weir_region *root, char *buffer, size_t bytes) WEIR_NOEXCEPT;

/**
 * weir_region_json() - live regions as JSON.
 * @root:   as weir_region_text().
 * @buffer: as weir_region_text().
 * @bytes:  as weir_region_text().
 *
 * One object with `regions`, `bytes` and `tree`, an array in which a region
 * comes before those below it; `depth` and `parent` tell the tree, so that no
 * reader has to nest as deep as it is.  With @root one that has a limit says
 * `limit_bytes`, `bytes_below` and `budget_failures`, as weir_region_stats().
 *
 * Returns:   as weir_region_text().
 * Ownership: as weir_region_text().
 * Threads:   as weir_region_text().
 * Cost:      as weir_region_text().
 * Errors:    without memory to sort with `tree` is null.
 * Since:     0.1
 */
WEIR_API size_t weir_region_json(
    const struct weir_region *root, char *buffer, size_t bytes) WEIR_NOEXCEPT;

WEIR_END_DECLS

#endif /* WEIR_REGION_WATCH_H */
