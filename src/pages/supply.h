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

/* The largest pages of a system that the supply works with: those of aarch64
 * and powerpc.  Spans stay multiples of WEIRI_PAGE; what is charged and what is
 * given back are whole pages of the system. */
#define WEIRI_SYSTEM_PAGE_MAX ((size_t)64 << 10)

/* ---- source.c: where extents come from; under the supply's mutex ------------- */

struct weiri_block {
	char *base;
	size_t bytes;
	size_t behind; /* bytes of addresses after it where any access traps */
	bool zeroed;   /* reads as zero until written */
	bool resident; /* all of it is charged and in memory, for good */
	bool may_trim; /* weiri_source_decommit() may be asked */
	bool may_give; /* weiri_source_give() may be asked */
	bool shared;   /* a fork's child sees the parent's writes */
};

/*
 * A block of at least @need bytes, of @want if that can be had, of @most at
 * most; multiples of WEIRI_EXTENT_ALIGN.  A range gives all it has, or @most of
 * it, whatever the need.  Nothing has been brought into memory yet, though
 * block->resident may say that it will be.  @alone: all of the need is one span's,
 * and what is written past its end had better trap, where that costs no call.
 */
bool weiri_source_take(struct weiri_block *block, size_t need, size_t want,
    size_t most, bool alone);
/* Does to a block, once it is charged, what the source's flags ask for. */
void weiri_source_prepare(const struct weiri_block *block);
/* Takes back the latest take, with the lock held; false: it cannot be. */
bool weiri_source_undo(const struct weiri_block *block);

/* True when the memory was given up; it may read as anything later. */
bool weiri_source_decommit(
    const struct weiri_block *block, char *base, size_t bytes);
/* With the lock held if weiri_source_give_locked(), else without.  False: the
 * system refused, and the block is what it was. */
bool weiri_source_give(const struct weiri_block *block);
bool weiri_source_give_locked(void);

/* True when blocks are charged whole as soon as they are taken. */
bool weiri_source_resident(void);

/* Sends the messages that came up under the lock; no lock may be held. */
void weiri_source_deliver(void);

/* ---- map.c: under the supply's mutex, but for set and clear ------------------ */

/* Where no other block lies: behind the one before and up to the one after.  A
 * page of the map that reaches beyond is the neighbour's affair as well. */
struct weiri_map_gap {
	uintptr_t low, high;
};

/* Bytes of address that one page of the system's describes in the map. */
size_t weiri_map_reach(void);

/* Makes entries for [base, base + bytes) settable and charges for them:
 * 0, -ENOMEM, or -ERANGE above 48 bits. */
int weiri_map_add(
    const char *base, size_t bytes, const struct weiri_map_gap *gap);
/* All entries are 0 again.  False: the system did not take the memory; nothing
 * has changed. */
bool weiri_map_remove(
    const char *base, size_t bytes, const struct weiri_map_gap *gap);

/* Of a block that no span lies in: what describes it, and nothing else, goes back
 * to the system.  It stays charged, and reads as it did. */
void weiri_map_void(const char *base, size_t bytes);

/* Entries of whole pages; the caller owns the pages. */
void weiri_map_set(
    const char *base, size_t bytes, const struct weiri_span *span);
void weiri_map_clear(const char *base, size_t bytes);

uint64_t weiri_map_charged(void);

/* ---- meta.c ------------------------------------------------------------- */

/* As weiri_meta_alloc(), for callers that hold the heap lock: no trim. */
void *weiri_meta_alloc_locked(size_t bytes);
uint64_t weiri_meta_charged(void);
/* Purges all, and tries again to unmap what the system would not; the bytes of
 * the latter that it took. */
size_t weiri_meta_trim(void);
/* Frees what weiri_grave_put() keeps. */
void weiri_grave_empty(void);
/* Pages of records that are all free go back to the system, up to @bytes or one
 * record more; the bytes they had. */
size_t weiri_meta_purge(size_t bytes);
/* The bytes of such pages; read without the lock. */
uint64_t weiri_meta_whole(void);
const char *weiri_meta_check(void);
void weiri_meta_fork_lock(void);
void weiri_meta_fork_unlock(void);

/* ---- meta_map.c: for meta.c ------------------------------------------------ */

/* @bytes in whole pages of the system, and of ours. */
size_t weiri_meta_pages(size_t bytes);

/* A zeroed record with a mapping of its own, or NULL; and its end. */
void *weiri_meta_map(size_t bytes);
void weiri_meta_unmap(void *record, size_t bytes);
/* Tries again what the system would not unmap; the bytes that it took. */
size_t weiri_meta_map_trim(void);
uint64_t weiri_meta_map_charged(void);
void weiri_meta_map_fork_lock(void);
void weiri_meta_map_fork_unlock(void);

#endif /* WEIRI_SUPPLY_H */
