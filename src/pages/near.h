/* SPDX-License-Identifier: MIT */
/*
 * near.h - whose memory is this, for addresses near all others of ours.
 *
 * The page map (map.c) answers for any address with two dependent loads and a
 * test of each.  Systems map memory side by side, so that nearly all extents of
 * a process lie within 64 GiB: for those one flat table says who owns each
 * 64 KiB, in one load.  "Far" is an honest answer, too; then the map decides.
 *
 * The tag of an entry is the owning depot's index, 0 for everything else: free
 * memory, spans of other owners, and units that a span shares with others.  The
 * look-up is compiled into programs, so it lies in weir/local.h.
 *
 * Memory order: an entry is written before anybody has an address in its span,
 * and cleared after the last has given it up; for a wild pointer any answer
 * that was true lately will do.
 */
#ifndef WEIRI_NEAR_H
#define WEIRI_NEAR_H

#include "base/compiler.h"

#include <weir/local.h>

#define WEIRI_NEAR_SHIFT WEIR_ABI_NEAR_SHIFT
#define WEIRI_NEAR_UNIT ((uintptr_t)1 << WEIRI_NEAR_SHIFT)
#define WEIRI_NEAR_COUNT WEIR_ABI_NEAR_COUNT

/* Hidden where it is declared, so that it is reached without a table. */
extern uint16_t weiri_near_tag[WEIRI_NEAR_COUNT]
    __attribute__((visibility("hidden")));

/* The address entry 0 is for; fixed by the first call, never 0. */
uintptr_t weiri_near_base(void);

/* Called by map.c, for whole pages. */
void weiri_near_set(const char *base, size_t bytes, uint16_t tag);

#endif /* WEIRI_NEAR_H */
