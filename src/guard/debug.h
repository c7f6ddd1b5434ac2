/* SPDX-License-Identifier: MIT */
/*
 * debug.h - the debug menu, for the files of the guard.
 */
#ifndef WEIRI_GUARD_DEBUG_H
#define WEIRI_GUARD_DEBUG_H

#include "config/config.h"
#include "guard/space.h"

/* Items that requests of a pool fail by, that objects of it need a place of the
 * guard's for, and that leave something there to be looked at after the end. */
#define WEIRI_DEBUG_FAILS \
	((unsigned)WEIRI_DEBUG_FAIL | (unsigned)WEIRI_DEBUG_FAIL_NTH)
#define WEIRI_DEBUG_PLACES                                                    \
	((unsigned)WEIRI_DEBUG_POISON | (unsigned)WEIRI_DEBUG_TAG |           \
	    (unsigned)WEIRI_DEBUG_CALLER | (unsigned)WEIRI_DEBUG_COLD_FIRST | \
	    (unsigned)WEIRI_DEBUG_INTEGRITY)
#define WEIRI_DEBUG_LASTS \
	((unsigned)WEIRI_DEBUG_POISON | (unsigned)WEIRI_DEBUG_INTEGRITY)

/* ---- debug.c: which items, and failures ---------------------------------- */

/* Under the guard's lock: what is on the menu for a pool, as bits, and for any.
 * The option is in force from then on, with a seed if it needs one. */
unsigned weiri_debug_bits(const struct weiri_guard_pool *pool);
unsigned weiri_debug_bits_of_all(const struct weiri_debug_option *option);
void weiri_debug_put(const struct weiri_debug_option *option);

/* The mode in which a pool with these items puts its objects under guard, which
 * is @mode if they ask for none.  Full and tool stay what they are. */
enum weir_guard_mode weiri_debug_mode(const struct weiri_guard_pool *pool,
    unsigned bits, enum weir_guard_mode mode);

/* How many requests were made to fail. */
uint64_t weiri_debug_failed(void);

/* ---- debug_object.c: objects in places that do not trap ------------------ */

/* As weiri_guard_new(), in mode WEIRI_GUARD_MENU. */
struct weiri_guarded *weiri_debug_take(struct weiri_space *space,
    struct weiri_guard_pool *pool, size_t bytes, size_t align, bool zeroed);

/* Before it is live, and once it was claimed: what lies behind it. */
void weiri_debug_begin(
    struct weiri_guarded *guarded, const struct weiri_space *space);
void weiri_debug_verify(struct weiri_guarded *guarded);

/* All that is known of the object's end is in the record: it is ended, and its
 * place the next one's. */
void weiri_debug_rest(struct weiri_guarded *guarded, struct weiri_space *space);

/* A pool ends: what was left in its places is looked at. */
void weiri_debug_look(const struct weiri_guard_pool *pool);

#endif /* WEIRI_GUARD_DEBUG_H */
