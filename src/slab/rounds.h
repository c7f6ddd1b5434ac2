/* SPDX-License-Identifier: MIT */
/*
 * rounds.h - how many slots the magazines of a depot have; see rounds.c.
 */
#ifndef WEIRI_ROUNDS_H
#define WEIRI_ROUNDS_H

#include "slab/depot.h"

/* Before loading an empty magazine: how many rounds it may have; 0: none may be
 * loaded. */
unsigned weiri_rounds_withhold(struct weiri_depot *depot);

/* A loaded magazine of @has rounds gives way to one of @wants; false if that
 * would be too many, as the one it has may be since the limit was lowered. */
bool weiri_rounds_change(
    struct weiri_depot *depot, unsigned has, unsigned wants);

/* A window of trips is over: the size of the day is thought over.  No lock may
 * be held. */
WEIRI_COLD void weiri_rounds_adapt(struct weiri_depot *depot);

/* The loaded magazine was swapped for the thread's own spare.  No lock. */
void weiri_rounds_count_swap(struct weiri_depot *depot);

#endif /* WEIRI_ROUNDS_H */
