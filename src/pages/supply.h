/* SPDX-License-Identifier: MIT */
/*
 * supply.h - the parts of the page supply, as they see each other.
 *
 * heap.c is on top, then extent.c; map.c, meta.c and source.c know nothing of
 * one another.  Lock order: the supply's mutex, then meta's; both are below
 * every other lock of the library.
 */
#ifndef WEIRI_SUPPLY_H
#define WEIRI_SUPPLY_H

#include "pages/pages.h"

/* Extents start at, and the page map is paid for by, this much. */
#define WEIRI_EXTENT_ALIGN ((size_t)2 << 20)

/* ---- source.c: where extents come from; under the supply's mutex ------------- */

struct weiri_block {
	char *base;
	size_t bytes;
	bool zeroed;   /* reads as zero until written */
	bool resident; /* all of it is in memory from the start, for good */
	bool may_trim; /* weiri_source_decommit() may be asked */
	bool may_give; /* weiri_source_give() may be asked */
	bool shared;   /* a fork's child sees the parent's writes */
};

/* A block of at least @need bytes, of @want if that can be had; multiples of
 * WEIRI_EXTENT_ALIGN.  A range is one block whatever the need. */
bool weiri_source_take(struct weiri_block *block, size_t need, size_t want);
/* True when the memory was given up; it may read as anything later. */
bool weiri_source_decommit(
    const struct weiri_block *block, char *base, size_t bytes);
/* With the lock held if weiri_source_give_locked(), else without. */
void weiri_source_give(const struct weiri_block *block);
bool weiri_source_give_locked(void);

/* True when blocks are charged whole as soon as they are taken. */
bool weiri_source_resident(void);

/* Sends the messages that came up under the lock; no lock may be held. */
void weiri_source_deliver(void);

/* ---- map.c: under the supply's mutex, but for set and clear ------------------ */

/* Makes entries for [base, base + bytes) settable and charges for them:
 * 0, -ENOMEM, or -ERANGE above 48 bits. */
int weiri_map_add(const char *base, size_t bytes);
void weiri_map_remove(const char *base, size_t bytes);

/* Entries of whole pages; the caller owns the pages. */
void weiri_map_set(
    const char *base, size_t bytes, const struct weiri_span *span);
void weiri_map_clear(const char *base, size_t bytes);

uint64_t weiri_map_charged(void);

/* ---- meta.c ------------------------------------------------------------- */

/* As weiri_meta_alloc(), for callers that hold the heap lock: no trim. */
void *weiri_meta_alloc_locked(size_t bytes);
uint64_t weiri_meta_charged(void);
const char *weiri_meta_check(void);
void weiri_meta_fork_lock(void);
void weiri_meta_fork_unlock(void);

#endif /* WEIRI_SUPPLY_H */
