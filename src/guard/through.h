/* SPDX-License-Identifier: MIT */
/*
 * through.h - objects under guard that are blocks of malloc(), for tools that
 * watch those.
 */
#ifndef WEIRI_GUARD_THROUGH_H
#define WEIRI_GUARD_THROUGH_H

#include "guard/space.h"

/* Under the guard's lock: such objects can be from now on; once.  0 or
 * -ENOMEM. */
int weiri_through_start(struct weiri_space *space);

/* A block for an object and its record, not live yet; NULL: there is none to be
 * had.  Changes no errno. */
struct weiri_guarded *weiri_through_take(
    struct weiri_space *space, size_t bytes, size_t align, bool zeroed);

/* Its object ended; the block goes back, and the record is known until its
 * place is another's. */
void weiri_through_give(
    struct weiri_space *space, struct weiri_guarded *guarded);

/* The record whose object @address is in, live or ended; NULL: none.  In a
 * signal handler that came in the middle of this file: NULL. */
struct weiri_guarded *weiri_through_find(
    struct weiri_space *space, const void *address);

void weiri_through_fork_lock(void);
void weiri_through_fork_unlock(void);

/* Has AddressSanitizer's reports of such objects told once more, with what the
 * guard knows. */
void weiri_witness_start(void);

#endif /* WEIRI_GUARD_THROUGH_H */
