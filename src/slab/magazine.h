/* SPDX-License-Identifier: MIT */
/*
 * magazine.h - the boxes slots travel in.
 *
 * A magazine is 1 KiB of words, aligned to itself, and a thread's whole state
 * for one depot is a cursor into it:
 *
 *      word 0      next magazine while it lies in a list of the depot
 *      ...         unused when rounds < 126
 *      word e      the tag word 1, where e = 127 - rounds
 *      words e+1.. slots, filled upwards
 *      word 127    the last slot
 *
 *         e             cursor          127
 *      ---[1][s][s][s][s][ ][ ][ ][ ][ ]
 *
 * The cursor points at the newest slot.  Empty is seen in the word (its low
 * bit is set, which no slot's address has), full in the address (word 127), so
 * either test needs nothing but the cursor.  The dummy magazine has its tag in
 * word 127: a cursor there is both empty and full, which sends the first get
 * and the first put of a thread to the slow path without an initialisation
 * test.  The idea of magazines is Bonwick's and Adams' (USENIX 2001).
 */
#ifndef WEIRI_MAGAZINE_H
#define WEIRI_MAGAZINE_H

#include "base/assert.h"

#define WEIRI_MAGAZINE_BYTES ((size_t)1024)
#define WEIRI_MAGAZINE_WORDS (WEIRI_MAGAZINE_BYTES / sizeof(uintptr_t))
#define WEIRI_MAGAZINE_LAST (WEIRI_MAGAZINE_WORDS - 1)

/* Word 0 is the link and one word is the tag. */
#define WEIRI_ROUNDS_MAX (WEIRI_MAGAZINE_WORDS - 2)

#define WEIRI_MAGAZINE_TAG ((uintptr_t)1)

struct weiri_magazine {
	uintptr_t word[WEIRI_MAGAZINE_WORDS];
};

static_assert(sizeof(struct weiri_magazine) == WEIRI_MAGAZINE_BYTES,
    "the full test looks at ten address bits");

extern struct weiri_magazine weiri_magazine_dummy;

#define WEIRI_CURSOR_DUMMY (&weiri_magazine_dummy.word[WEIRI_MAGAZINE_LAST])

WEIRI_INLINE bool
weiri_cursor_full(const uintptr_t *cursor)
{
	return ((uintptr_t)cursor & (WEIRI_MAGAZINE_BYTES - 1)) ==
	       WEIRI_MAGAZINE_LAST * sizeof(uintptr_t);
}

WEIRI_INLINE struct weiri_magazine *
weiri_cursor_magazine(uintptr_t *cursor)
{
	return (
	    struct weiri_magazine *)((uintptr_t)cursor &
				     ~(uintptr_t)(WEIRI_MAGAZINE_BYTES - 1));
}

WEIRI_INLINE uintptr_t *
weiri_magazine_bottom(struct weiri_magazine *magazine, unsigned rounds)
{
	return &magazine->word[WEIRI_MAGAZINE_LAST - rounds];
}

WEIRI_INLINE uintptr_t *
weiri_magazine_top(struct weiri_magazine *magazine)
{
	return &magazine->word[WEIRI_MAGAZINE_LAST];
}

/* Slots at and below @cursor, from its address alone. */
WEIRI_INLINE unsigned
weiri_cursor_count(const uintptr_t *cursor, unsigned rounds)
{
	size_t at = ((uintptr_t)cursor & (WEIRI_MAGAZINE_BYTES - 1)) /
		    sizeof(uintptr_t);

	if (cursor == WEIRI_CURSOR_DUMMY)
		return 0;
	return (unsigned)(at - (WEIRI_MAGAZINE_LAST - rounds));
}

/* Lists of magazines through word 0. */
WEIRI_INLINE void
weiri_magazine_push(
    struct weiri_magazine **list, struct weiri_magazine *magazine)
{
	magazine->word[0] = (uintptr_t)*list;
	*list = magazine;
}

WEIRI_INLINE struct weiri_magazine *
weiri_magazine_pop(struct weiri_magazine **list)
{
	struct weiri_magazine *magazine = *list;

	if (magazine != NULL)
		*list = (struct weiri_magazine *)magazine->word[0];
	return magazine;
}

#endif /* WEIRI_MAGAZINE_H */
