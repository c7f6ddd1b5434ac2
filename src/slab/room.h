/* SPDX-License-Identifier: MIT */
/*
 * room.h - room for what a thread puts: empty magazines, and which one is loaded.
 *
 * Between depot.c and room.c.  @local is the calling thread's own, of a depot in
 * which it has a cell.
 */
#ifndef WEIRI_ROOM_H
#define WEIRI_ROOM_H

#include "slab/rounds.h"

/* Is a magazine of so many rounds all that its thread has? */
WEIRI_INLINE bool
weiri_room_wide(const struct weiri_depot *depot, unsigned rounds)
{
	return rounds > depot->rounds_max;
}

/* An empty magazine: the spare, the depot's, or a new one; NULL: no memory. */
struct weiri_magazine *weiri_room_find(
    struct weiri_depot *depot, struct weir_local *local);

/* Lists an empty magazine that nobody needs now. */
void weiri_room_leave(struct weiri_depot *depot, struct weiri_magazine *empty);

/* As weiri_rounds_withhold(), for a thread that may have a spare. */
unsigned weiri_room_withhold(
    struct weiri_depot *depot, struct weir_local *local);

/* Makes @cursor the thread's. */
void weiri_room_load(
    struct weiri_depot *depot, struct weir_local *local, uintptr_t *cursor);

/* A full magazine that is in nobody's sight gets @rounds, more than it had, of
 * which its first @count words stay. */
void weiri_room_widen(
    struct weiri_magazine *full, unsigned rounds, size_t count);

/* Gives the thread, whose magazine is full, room to put a slot; false: it has
 * none, and is to put it elsewhere. */
bool weiri_room_make(struct weiri_depot *depot, struct weir_local *local);

#endif /* WEIRI_ROOM_H */
