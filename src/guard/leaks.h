/* SPDX-License-Identifier: MIT */
/*
 * leaks.h - how long objects under guard live, and which have lived too long.
 */
#ifndef WEIRI_GUARD_LEAKS_H
#define WEIRI_GUARD_LEAKS_H

#include "guard/guard.h"

struct weiri_guarded;

/* An object came to its end, as its record says. */
void weiri_leaks_note(const struct weiri_guarded *guarded);

/* For tests: the time that ages are told by; NULL is the clock's. */
extern uint64_t (*weiri_leaks_clock)(void);

#endif /* WEIRI_GUARD_LEAKS_H */
