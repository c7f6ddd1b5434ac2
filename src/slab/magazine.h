/* SPDX-License-Identifier: MIT */
/*
 * magazine.h - the boxes slots travel in.
 *
 * A magazine is 1 KiB of words, aligned to itself, and a thread's whole state
 * for one depot is a cursor into it:
 *
 *      word 0      its rounds in the low bits; above them the next magazine
 *                  while it lies in a list of the depot, else what a get gave
 *      ...         unused when rounds < 126
 *      word e      the tag word 1, where e = 127 - rounds
 *      words e+1.. slots, filled upwards
 *      word 127    the last slot
 *
 *         e             cursor          127
 *      ---[1][s][s][s][s][ ][ ][ ][ ][ ]
 *
 * Magazines of one depot differ in size: each carries its own, and an empty one
 * may be given another.
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
#define WEIRI_MAGAZINE_LOW ((uintptr_t)WEIRI_MAGAZINE_BYTES - 1)
#define WEIRI_MAGAZINE_LAST (WEIRI_MAGAZINE_WORDS - 1)

/* Word 0 is the link and one word is the tag. */
#define WEIRI_ROUNDS_MAX (WEIRI_MAGAZINE_WORDS - 2)

/* In word 0 of a loaded one: what a get gave, and what lies below the stamp of
 * weiri_cursor_idle(). */
#define WEIRI_GIVEN_MASK ((uintptr_t)127)
#define WEIRI_STAMP_BELOW \
	(WEIRI_GIVEN_MASK * WEIRI_MAGAZINE_BYTES | WEIRI_MAGAZINE_LOW)

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
	/* The word after it is what a push needs anyway. */
	return ((uintptr_t)(cursor + 1) & WEIRI_MAGAZINE_LOW) == 0;
}

WEIRI_INLINE struct weiri_magazine *
weiri_cursor_magazine(uintptr_t *cursor)
{
	return (
	    struct weiri_magazine *)((uintptr_t)cursor & ~WEIRI_MAGAZINE_LOW);
}

/* ---- word 0: to whoever holds the magazine ------------------------------ */

WEIRI_INLINE unsigned
weiri_magazine_rounds(const struct weiri_magazine *magazine)
{
	return (unsigned)(magazine->word[0] & WEIRI_MAGAZINE_LOW);
}

WEIRI_INLINE uintptr_t *
weiri_magazine_bottom(struct weiri_magazine *magazine)
{
	return &magazine->word[WEIRI_MAGAZINE_LAST -
			       weiri_magazine_rounds(magazine)];
}

WEIRI_INLINE uintptr_t *
weiri_magazine_top(struct weiri_magazine *magazine)
{
	return &magazine->word[WEIRI_MAGAZINE_LAST];
}

/* An empty magazine takes a size; what word 0 said else is forgotten. */
WEIRI_INLINE void
weiri_magazine_resize(struct weiri_magazine *magazine, unsigned rounds)
{
	/* NOLINTNEXTLINE(bugprone-sizeof-expression): unevaluated in release */
	WEIR_ASSERT(rounds >= 1 && rounds <= WEIRI_ROUNDS_MAX);
	magazine->word[0] = rounds;
	magazine->word[WEIRI_MAGAZINE_LAST - rounds] = WEIRI_MAGAZINE_TAG;
}

WEIRI_INLINE size_t
weiri_magazine_given(const struct weiri_magazine *magazine)
{
	return magazine->word[0] / WEIRI_MAGAZINE_BYTES & WEIRI_GIVEN_MASK;
}

WEIRI_INLINE void
weiri_magazine_set_given(struct weiri_magazine *magazine, size_t slots)
{
	magazine->word[0] =
	    slots * WEIRI_MAGAZINE_BYTES | weiri_magazine_rounds(magazine);
}

/* Slots at and below @cursor, which is the caller's own. */
WEIRI_INLINE unsigned
weiri_cursor_count(uintptr_t *cursor)
{
	return (unsigned)(cursor -
			  weiri_magazine_bottom(weiri_cursor_magazine(cursor)));
}

/* Of another thread's @cursor, whose magazine may go at any moment: from the
 * address, and what is known of the magazine's rounds, alone. */
WEIRI_INLINE unsigned
weiri_cursor_estimate(const uintptr_t *cursor, unsigned rounds)
{
	size_t at =
	    ((uintptr_t)cursor & WEIRI_MAGAZINE_LOW) / sizeof(uintptr_t);
	size_t bottom = WEIRI_MAGAZINE_LAST - rounds;

	if (cursor == WEIRI_CURSOR_DUMMY || at < bottom)
		return 0;
	return (unsigned)(at - bottom);
}

/*
 * Of a loaded magazine: was its cursor here, with as many requests counted, when
 * this was asked last?  The answer to the next time lies above what a get gave,
 * until the magazine is filled or emptied anew.
 */
WEIRI_INLINE bool
weiri_cursor_idle(uintptr_t *cursor, uint64_t requests)
{
	struct weiri_magazine *magazine = weiri_cursor_magazine(cursor);
	uint64_t stamp =
	    (requests << 32) | ((uintptr_t)cursor & WEIRI_MAGAZINE_LOW) << 17;
	uint64_t below = magazine->word[0] & WEIRI_STAMP_BELOW;

	if (magazine->word[0] == (stamp | below))
		return true;
	magazine->word[0] = stamp | below;
	return false;
}

/* ---- spares: a magazine and the number of its slots in one word --------- */

/* In the word of a spare that has slots: it was there at the last pass of
 * maintain.c, too.  Every exchange takes it away. */
#define WEIRI_SPARE_AGED ((uintptr_t)512)

WEIRI_INLINE uintptr_t
weiri_spare_word(struct weiri_magazine *magazine, unsigned count)
{
	return (uintptr_t)magazine | count;
}

WEIRI_INLINE unsigned
weiri_spare_count(uintptr_t spare)
{
	return (unsigned)(spare & (WEIRI_SPARE_AGED - 1));
}

/* NULL for 0, a thread without a spare. */
WEIRI_INLINE struct weiri_magazine *
weiri_spare_magazine(uintptr_t spare)
{
	return (struct weiri_magazine *)(spare & ~WEIRI_MAGAZINE_LOW);
}

/* ---- lists ------------------------------------------------------------- */

WEIRI_INLINE struct weiri_magazine *
weiri_magazine_next(const struct weiri_magazine *magazine)
{
	return weiri_spare_magazine(magazine->word[0]);
}

WEIRI_INLINE void
weiri_magazine_push(
    struct weiri_magazine **list, struct weiri_magazine *magazine)
{
	magazine->word[0] = (uintptr_t)*list | weiri_magazine_rounds(magazine);
	*list = magazine;
}

WEIRI_INLINE struct weiri_magazine *
weiri_magazine_pop(struct weiri_magazine **list)
{
	struct weiri_magazine *magazine = *list;

	if (magazine != NULL) {
		*list = weiri_magazine_next(magazine);
		magazine->word[0] = weiri_magazine_rounds(magazine);
	}
	return magazine;
}

#endif /* WEIRI_MAGAZINE_H */
