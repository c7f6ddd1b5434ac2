/* SPDX-License-Identifier: MIT */
/*
 * source.h - where pages come from.
 *
 * Every pool draws from one page supply, and the supply draws from a page
 * source: anonymous memory by default, or huge pages, a memory file, a range
 * the caller owns (static memory, a shared segment, a device's), or functions
 * of the caller's own.  A source is named in weir_config before first use.
 */
#ifndef WEIR_SOURCE_H
#define WEIR_SOURCE_H

#include <weir/export.h>

WEIR_BEGIN_DECLS

enum weir_source_kind {
	WEIR_SOURCE_ANONYMOUS = 0, /* private pages of the system (default) */
	WEIR_SOURCE_HUGE = 1,      /* 2 MiB hugetlb pages, else anonymous with
				    * transparent huge pages; said in a message */
	WEIR_SOURCE_MEMFD = 2,     /* shared memory file; see below */
	WEIR_SOURCE_RANGE = 3,     /* base .. base + bytes, the caller's */
	WEIR_SOURCE_CUSTOM = 4,    /* the functions below */
};

enum weir_source_flags {
	WEIR_SOURCE_PREFAULT = 1 << 0, /* touch pages when they are taken */
	WEIR_SOURCE_LOCK = 1 << 1,     /* mlock them */
	WEIR_SOURCE_NO_DUMP = 1 << 2,  /* leave them out of core dumps */
	WEIR_SOURCE_NO_TRIM = 1 << 3,  /* never give pages back before exit */
};

/*
 * Memory that PREFAULT or LOCK brings in counts against the budget whole, before
 * it is touched.  A RANGE larger than the budget is then used in parts, from its
 * start, as far as the budget allows.
 *
 * WEIR_SOURCE_MEMFD and a RANGE on shared memory: after fork() parent and child
 * see the same pages.  A child must not use pools of its parent then, not even
 * to free; it may read what it was left, and use pools it makes itself.
 */

/**
 * struct weir_page_source - one source; zero is anonymous memory.
 *
 * The three functions are for WEIR_SOURCE_CUSTOM.  They are called under the
 * page lock and must not use weir.
 */
struct weir_page_source {
	enum weir_source_kind kind;
	unsigned flags;
	void *base;   /* RANGE: aligned to 4 KiB; must outlive the library */
	size_t bytes; /* RANGE */
	/* Usable memory of @bytes (a multiple of 2 MiB) at @align, or NULL. */
	void *(*take)(void *context, size_t bytes, size_t align);
	/* Contents may go, the range stays usable: true if it now reads zero. */
	bool (*decommit)(void *context, void *address, size_t bytes);
	/* The whole of an earlier take comes back. */
	void (*give)(void *context, void *address, size_t bytes);
	void *context;
	uint64_t reserved[4];
};

WEIR_END_DECLS

#endif /* WEIR_SOURCE_H */
