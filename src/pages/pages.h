/* SPDX-License-Identifier: MIT */
/*
 * pages.h - the page supply: spans of 4 KiB pages for every pool.
 *
 * A span is a run of pages with one owner.  Its descriptor is the owner's
 * (embedded in a slab header, a region block, ...), lies outside the pages,
 * and is what the page map answers for any address inside.
 */
#ifndef WEIRI_PAGES_H
#define WEIRI_PAGES_H

#include "base/list.h"

#define WEIRI_PAGE_SHIFT 12
#define WEIRI_PAGE ((size_t)1 << WEIRI_PAGE_SHIFT)

/* Who owns a span; the page map says so for any address in it. */
enum weiri_span_kind {
	WEIRI_SPAN_SLAB = 1,    /* slots of a depot: struct weiri_slab */
	WEIRI_SPAN_REGION = 2,  /* a block or large object of a region */
	WEIRI_SPAN_PAYLOAD = 3, /* payload of a buffer tier */
	WEIRI_SPAN_OTHER = 4,
	WEIRI_SPAN_HEAP = 5, /* a run of pages of a heap */
};

struct weiri_extent;

struct weiri_span {
	struct weiri_list link; /* free for the owner's use */
	char *base;
	size_t bytes; /* a multiple of WEIRI_PAGE */
	struct weiri_extent *extent;
	uint8_t kind; /* enum weiri_span_kind */
	bool zeroed;  /* fresh, reads as zero; false once grown */
	uint16_t tag; /* the owner's, as a depot index; kept in the page map */
	uint32_t first_page;
};

/*
 * Fills @span, whose kind and tag are set by the caller, with @bytes rounded
 * up to pages, aligned to @align (a power of two, at least WEIRI_PAGE).
 * Returns 0 or -ENOMEM: the budget, the source or the injected failure said
 * no after a trim of retained pages and the OOM hook.  Call it with no lock
 * held: hooks may run.  Cost: a lock and O(log n); a system call when the
 * supply grows.
 */
int weiri_span_alloc(struct weiri_span *span, size_t bytes, size_t align);

/* Gives the pages back; the descriptor is the caller's again. */
void weiri_span_free(struct weiri_span *span);

/*
 * Grows or shrinks a span where it lies.  Shrinking always works; growing
 * only if the pages behind are free and the budget allows (-ENOMEM); no trim
 * and no OOM hook then, since a new span may still be had.
 */
int weiri_span_resize(struct weiri_span *span, size_t bytes);

/* In the child of a fork: a thread that is not there may have been resizing the
 * span.  The page map says again what the descriptor does. */
void weiri_span_mend(const struct weiri_span *span);

/*
 * The memory of these whole pages of a span goes back to the system; they stay
 * the span's, stay charged, and read as anything.  False: nothing happened.
 * A depot's lock may be held.
 */
bool weiri_span_void(
    const struct weiri_span *span, size_t offset, size_t bytes);

/* ---- page map: any address -> span ------------------------------------ */

/* 0 for an address that is not weir's; never touches @address. */
WEIRI_INLINE uint64_t weiri_page_entry(const void *address);

WEIRI_INLINE struct weiri_span *
weiri_entry_span(uint64_t entry)
{
	return (struct weiri_span *)(uintptr_t)(entry & 0xffffffffffffULL);
}

WEIRI_INLINE uint16_t
weiri_entry_tag(uint64_t entry)
{
	return (uint16_t)(entry >> 48);
}

/* The span around @address, or NULL. */
WEIRI_INLINE struct weiri_span *
weiri_span_of(const void *address)
{
	return weiri_entry_span(weiri_page_entry(address));
}

/* ---- metadata --------------------------------------------------------- */

/*
 * Storage for the library's own records, outside all spans: zeroed, aligned to
 * the power of two it is rounded up to (64 bytes .. 64 KiB), charged to the
 * budget, given back to a free list by size.  NULL when memory is exhausted.
 */
void *weiri_meta_alloc(size_t bytes);

/* As weiri_meta_alloc(), which gives up when retained pages and idle slots did
 * not help; this one asks the program's OOM hook too.  No lock may be held. */
void *weiri_meta_need(size_t bytes);
void weiri_meta_free(void *record, size_t bytes);

/* As weiri_meta_free(), later: the record of a pool that ended stays as it is
 * until a few dozen others did, or memory is short. */
void weiri_grave_put(void *record, size_t bytes);

/* ---- the supply as a whole -------------------------------------------- */

/* Counts what pools got back from threads, so that a refused request knows
 * whether asking them again can help. */
extern uint64_t weiri_pages_idle;

WEIRI_INLINE void
weiri_pages_note_idle(void)
{
	__atomic_fetch_add(&weiri_pages_idle, 1, __ATOMIC_RELAXED);
}

/* Returns retained pages to the system; bytes given back. */
size_t weiri_pages_trim(void);

/*
 * A bounded step of it: pages that lay free for @epoch_ns and those owed go,
 * never with UINT64_MAX, all at 0.  True: more is due.  No lock may be held.
 */
bool weiri_pages_purge(uint64_t now_ns, uint64_t epoch_ns);

/* A step of at most a MiB of what is owed, whatever the clock says; the bytes
 * given back.  No lock may be held. */
size_t weiri_pages_settle(void);

/* True when a step's worth of what is owed came together. */
bool weiri_pages_owing(void);

/* Spans and records that were idle for long before they came back. */
void weiri_pages_owe(size_t span_bytes, size_t meta_bytes);

/* The free pages of all extents, adds to @sum. */
struct weiri_buddy_tally;
void weiri_pages_tally(struct weiri_buddy_tally *sum);

struct weir_stats;
void weiri_pages_stats(struct weir_stats *out);

/* Every invariant of extents, buddies and page map; quiet supply only. */
bool weiri_pages_check(void);

void weiri_pages_fork_lock(void);
void weiri_pages_fork_unlock(void);
void weiri_pages_fork_child(void);

/* ---- page map internals, here for the inline look-up ------------------- */

/*
 * Two levels: 2^18 root slots of 1 GiB each cover 48 bits, leaves hold one
 * word per page.  A leaf is address space only; each of its own pages, touched
 * on demand, describes one 2 MiB extent.
 */
#define WEIRI_MAP_BITS 48
#define WEIRI_MAP_LEAF_SHIFT 30
#define WEIRI_MAP_ROOT_COUNT \
	((size_t)1 << (WEIRI_MAP_BITS - WEIRI_MAP_LEAF_SHIFT))
#define WEIRI_MAP_LEAF_COUNT \
	((size_t)1 << (WEIRI_MAP_LEAF_SHIFT - WEIRI_PAGE_SHIFT))

extern uint64_t *weiri_map_root[WEIRI_MAP_ROOT_COUNT]
    __attribute__((visibility("hidden")));

WEIRI_INLINE uint64_t
weiri_page_entry(const void *address)
{
	uintptr_t a = (uintptr_t)address;
	uintptr_t root = a >> WEIRI_MAP_LEAF_SHIFT;

	/* Beyond 48 bits (kernel half, non-canonical, 57-bit): never ours. */
	if (WEIR_UNLIKELY(root >= WEIRI_MAP_ROOT_COUNT))
		return 0;

	/* Relaxed: the entry was written before the caller got @address, and
	 * for a wild pointer any answer that was true lately will do. */
	const uint64_t *leaf = WEIRI_LOAD(&weiri_map_root[root]);

	if (WEIR_UNLIKELY(leaf == NULL))
		return 0;
	return WEIRI_LOAD(
	    &leaf[(a >> WEIRI_PAGE_SHIFT) & (WEIRI_MAP_LEAF_COUNT - 1)]);
}

#endif /* WEIRI_PAGES_H */
