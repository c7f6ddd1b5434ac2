/* SPDX-License-Identifier: MIT */
/*
 * find.c - from an address to the object under guard that is or was there, and
 * what a pool may ask of it.
 *
 * No lock is taken: signal handlers ask, too.  What is answered of an object that
 * another thread ends at this moment may be its last state or the one before.
 */
#include "guard/state.h"

#define S weiri_guard_state

struct weiri_space_range weiri_guard_range[WEIRI_GUARD_SPACES];
bool weiri_guard_through;

/* ---- by address ------------------------------------------------------------ */

/* Of an address in the page between two places: whose object is nearer? */
static struct weiri_guarded *
find_nearer(const struct weiri_space *space, struct weiri_guarded *behind,
    const char *address)
{
	struct weiri_guarded *before = weiri_space_before(space, behind);
	size_t past, short_of;

	if (before == NULL || before->start == NULL)
		return behind;
	if (behind->start == NULL)
		return before;
	past = (size_t)(address - (before->start + before->bytes));
	short_of = (size_t)(behind->start - address);
	return past < short_of ? before : behind;
}

struct weiri_guarded *
weiri_guard_find(const void *address, struct weiri_space **space)
{
	for (size_t i = 0; i < WEIRI_GUARD_SPACES; i++) {
		struct weiri_guarded *guarded;

		if ((uintptr_t)address -
			WEIRI_LOAD(&weiri_guard_range[i].base) >=
		    WEIRI_LOAD(&weiri_guard_range[i].bytes))
			continue;
		*space = &S.space[i];
		guarded = weiri_space_find(*space, address);
		if (guarded != NULL && (const char *)address < guarded->area)
			guarded = find_nearer(*space, guarded, address);
		if (guarded == NULL || guarded->start == NULL)
			return NULL;
		return guarded;
	}
	*space = &S.space[WEIRI_GUARD_THROUGH];
	return weiri_through_find(*space, address);
}

bool
weiri_guard_through_covers(const void *address)
{
	return weiri_through_find(&S.space[WEIRI_GUARD_THROUGH], address) !=
	       NULL;
}

/* ---- questions --------------------------------------------------------------- */

/* The record of the live object at @address, or NULL. */
static struct weiri_guarded *
find_live(const void *address)
{
	struct weiri_space *space = NULL;
	struct weiri_guarded *guarded = weiri_guard_find(address, &space);

	if (guarded == NULL ||
	    weiri_guarded_state(guarded) != WEIRI_GUARDED_LIVE)
		return NULL;
	return guarded;
}

/* As above, of one that starts there. */
static struct weiri_guarded *
find_live_start(const void *object)
{
	struct weiri_guarded *guarded = find_live(object);

	return guarded != NULL && guarded->start == object ? guarded : NULL;
}

void *
weiri_guard_shadow_of(const void *object)
{
	const struct weiri_guarded *guarded = find_live_start(object);

	return guarded != NULL ? guarded->shadow : NULL;
}

void *
weiri_guard_shadow_around(const void *address)
{
	const struct weiri_guarded *guarded = find_live(address);

	if (guarded == NULL ||
	    (uintptr_t)address - (uintptr_t)guarded->start >= guarded->bytes)
		return NULL;
	return guarded->shadow;
}

const struct weiri_guarded *
weiri_guard_ended(const void *object, const void *shadow)
{
	struct weiri_space *space = NULL;
	const struct weiri_guarded *guarded = weiri_guard_find(object, &space);

	if (guarded == NULL ||
	    weiri_guarded_state(guarded) != WEIRI_GUARDED_ENDED ||
	    guarded->start != object || guarded->shadow != shadow)
		return NULL;
	return guarded;
}

const struct weiri_guard_pool *
weiri_guard_pool_of(const void *object)
{
	const struct weiri_guarded *guarded = find_live(object);

	return guarded != NULL ? guarded->pool : NULL;
}

size_t
weiri_guard_bytes(const void *object)
{
	const struct weiri_guarded *guarded = find_live_start(object);

	return guarded != NULL ? guarded->bytes : 0;
}

void *
weiri_guard_pocket(const void *object)
{
	struct weiri_space *space = NULL;
	struct weiri_guarded *guarded = weiri_guard_find(object, &space);

	static_assert(sizeof(guarded->kept) >= WEIRI_GUARD_POCKET,
	    "what is kept at its end has room before");
	return guarded->kept;
}
