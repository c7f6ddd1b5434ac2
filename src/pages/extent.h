/* SPDX-License-Identifier: MIT */
/*
 * extent.h - extents: the large blocks that spans are cut from.
 *
 * All functions here run under weiri_supply.lock.
 */
#ifndef WEIRI_EXTENT_H
#define WEIRI_EXTENT_H

#include "base/decay.h"
#include "os/os.h"
#include "pages/buddy_core.h"
#include "pages/dirty.h"
#include "pages/supply.h"

struct weiri_extent {
	struct weiri_list bucket; /* in supply.bucket[order], or alone */
	struct weiri_list all; /* in supply.extents, by address, or in kept */
	struct weiri_block block;
	char *base;     /* of unit 0: block.base rounded down to EXTENT_ALIGN */
	int order;      /* of the bucket it is in; -1: in none */
	uint32_t hole;  /* units before block.base: a run for ever */
	uint32_t grain; /* units in a page of the system */
	uint32_t span_pages;  /* units in spans */
	uint32_t dirty_pages; /* set bits of dirty */
	bool frozen;          /* nothing more is handed out from it */
	size_t record_bytes;  /* of this record with what follows it */
	struct weiri_buddy_core buddy;
	uint64_t *dirty; /* in memory since it last read as zero for sure */
};

struct weiri_supply {
	struct weiri_mutex lock;
	struct weiri_list extents;
	struct weiri_list
	    bucket[WEIRI_BUDDY_ORDERS]; /* by largest free order */
	uint32_t bucket_mask;
	struct weiri_list kept; /* extents that the system would not unmap */
	struct weiri_extent *spare; /* the one wholly free extent kept */
	struct weiri_block orphan; /* taken, but there were no records for it */
	uint64_t bytes_reserved;
	uint64_t bytes_in_spans;
	uint64_t bytes_retained;
	struct weiri_decay retained; /* of bytes_retained; see purge.c */
	uint64_t failures;
	bool ready;
};

extern struct weiri_supply weiri_supply;

/* Sets the supply up on first use. */
void weiri_supply_lock(void);
/* Does not start the library, which must not happen under fork's locks. */
void weiri_supply_lock_only(void);
void weiri_supply_unlock(void);

/* Takes a block that @count units at @align fit in and makes an extent of it;
 * false when budget or source refuse. */
bool weiri_extent_add(size_t count, size_t align);

/*
 * Cuts @span, @count units at @align units, out of some extent.  0; -EAGAIN
 * when no extent has room; -ENOMEM when the budget refuses.
 */
int weiri_extent_cut(struct weiri_span *span, size_t count, size_t align);

/* The span's pages are free again.  Returns an extent that became superfluous,
 * for weiri_extent_discard(), or NULL. */
struct weiri_extent *weiri_extent_join(struct weiri_span *span);

/* 0, or -ENOMEM: no room behind, or the budget refuses. */
int weiri_extent_resize(struct weiri_span *span, size_t count);

/* Puts the extent into the bucket of @order, or into none: -1. */
void weiri_extent_set_order(struct weiri_extent *extent, int order);

/* Makes the extent part of the supply, ready to be cut from; false when the
 * page map cannot take it. */
bool weiri_extent_list(struct weiri_extent *extent);

/* Takes a wholly free extent out of the supply, for weiri_extent_discard();
 * false, with nothing changed, when the system does not take the page map's
 * memory back. */
bool weiri_extent_unlink(struct weiri_extent *extent);

/* Where no other extent lies, for the one listed between two nodes. */
struct weiri_map_gap weiri_extent_gap(
    struct weiri_list *before, struct weiri_list *after);

/* Decommits what is free; wholly free extents are unlinked and pushed to @gone.
 * Returns the bytes, those of @gone not included. */
size_t weiri_extent_trim(struct weiri_list *gone);

/* A step of it: decommits up to @bytes, rounded up to the system's pages, in
 * the first extent at or above *from that has any, and moves *from on.  Returns
 * what it gave; 0 with nothing in @gone: there was no such extent, or the system
 * refused. */
size_t weiri_extent_purge(
    size_t bytes, const char **from, struct weiri_list *gone);

/* In the child of a fork: shared extents hand out nothing more. */
void weiri_extent_freeze_shared(void);

/* Gives an unlinked extent back; takes the lock itself if need be.  Returns the
 * bytes that left the budget: 0 where the system refuses, and the extent goes to
 * the kept ones. */
size_t weiri_extent_discard(struct weiri_extent *extent);

/* What the extent is charged, in pages. */
WEIRI_INLINE uint32_t
weiri_extent_charged_pages(const struct weiri_extent *extent)
{
	return extent->block.resident ? extent->buddy.unit_count - extent->hole
				      : extent->dirty_pages;
}

#endif /* WEIRI_EXTENT_H */
