/* SPDX-License-Identifier: MIT */
/*
 * arena.h - ranges of addresses in which a pool itself says what traps.
 *
 * Where objects must lie behind one another none of them can have pages of its
 * own.  Such a pool bars whole pages that no object is in, and tells here what was
 * in them, so that an access there is reported as any other.
 */
#ifndef WEIRI_GUARD_ARENA_H
#define WEIRI_GUARD_ARENA_H

#include "guard/guard.h"

struct weiri_arena;
struct weiri_guarded;
struct weiri_runs;

/* A range begins; NULL: it is none of those that are to be under guard, or too
 * many are. */
struct weiri_arena *weiri_arena_begin(
    struct weiri_guard_pool *pool, const void *base, size_t bytes);

/* The first @live bytes are objects now. */
void weiri_arena_move(struct weiri_arena *arena, size_t live);

/* What was between @live and @high ended just now. */
void weiri_arena_cut(struct weiri_arena *arena, size_t live, size_t high,
    enum weiri_guard_how how);

/* All of it ended.  The first @bytes of the range are the arena's, which has them
 * trap for as long as others do not need its place, and gives their addresses
 * back then. */
void weiri_arena_end(
    struct weiri_arena *arena, size_t bytes, enum weiri_guard_how how);

/* Under the guard's lock, as the beginning of a range that stays its owner's, of
 * which @runs knows who had what; weiri_arena_forget() ends it.  @sites: see
 * weiri_guard_sites(). */
struct weiri_arena *weiri_arena_lend(const struct weiri_guard_pool *pool,
    char *base, size_t bytes, const struct weiri_runs *runs, uint8_t sites);

/* What the pool put there is its own again; nothing is known of it, and nobody
 * looks at the runs. */
void weiri_arena_forget(struct weiri_arena *arena);

/* Fills in what an access to @address, which trapped, is about; false if it is in
 * no arena.  Async-signal-safe. */
bool weiri_arena_view(const void *address, struct weiri_guarded *view);

/* The same for one in the page before the first object of a range.  It need not
 * have trapped for the range: other memory may lie there, that trapped for its
 * own reasons; so this is asked last. */
bool weiri_arena_view_before(const void *address, struct weiri_guarded *view);

/* Under the guard's lock, in the child of a fork. */
void weiri_arena_fork_child(void);

#endif /* WEIRI_GUARD_ARENA_H */
