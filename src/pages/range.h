/* SPDX-License-Identifier: MIT */
/*
 * range.h - address space of one owner, with memory behind the first part of it.
 *
 *     base
 *      | committed, charged | reserved: no memory, no access |
 *
 * For what must grow without moving.  Apart from extents: a range is no part of
 * the page map and takes nothing from the page source.  What it has committed
 * counts as handed out (bytes_in_spans); its owner is to show it as bytes_mapped.
 */
#ifndef WEIRI_RANGE_H
#define WEIRI_RANGE_H

#include "base/compiler.h"

struct weiri_range {
	char *base;
	size_t reserved_bytes;
	size_t committed_bytes; /* written by the owner, read by any thread */
};

/* The unit of all sizes below: pages of the system's, and of ours. */
size_t weiri_range_page(void);

/* False, and *range is untouched, when there is no such address space. */
bool weiri_range_reserve(struct weiri_range *range, size_t bytes, size_t align);

/* Charges and commits up to @bytes, asking nobody for help; true also if that
 * much was there already.  On failure nothing has changed. */
bool weiri_range_commit(struct weiri_range *range, size_t bytes);

/*
 * Has at least @need committed, @want if that is easy: 0, or -ENOMEM after what
 * a span would have tried as well (heap.c).  No lock may be held: hooks run, and
 * they may have grown or shrunk the range.
 */
int weiri_range_grow(struct weiri_range *range, size_t need, size_t want);

/* The memory beyond @bytes goes back to the system; what left the budget, 0
 * also when the system refuses. */
size_t weiri_range_shrink(struct weiri_range *range, size_t bytes);

/* Ends it.  What the system refuses to take is kept, as retained memory, and
 * offered again by weiri_range_trim(). */
void weiri_range_release(struct weiri_range *range);
/* Ends it likewise; there is no memory in it, and its addresses are the
 * caller's. */
void weiri_range_forget(struct weiri_range *range);
size_t weiri_range_trim(void);

/* Committed in all ranges, and in those that are kept. */
uint64_t weiri_range_charged(void);
uint64_t weiri_range_kept(void);

#endif /* WEIRI_RANGE_H */
