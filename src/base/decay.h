/* SPDX-License-Identifier: MIT */
/*
 * decay.h - how much of what lies idle is to be given back by now.
 *
 *     level  |\        ________
 *            | \______/        \___         due: the lowest level of the
 *            |   low ...............        epoch before, given back evenly
 *            +-----------|----------|--     over this one
 *               epoch       epoch
 *
 * What a store did not need for a whole epoch is surplus (the low-water mark of
 * Bonwick's depots); it goes over the next epoch, in proportion to the time, so
 * that a spike ends as a slope and not as a cliff.  What is needed meanwhile
 * lowers the mark and with it what may still go.
 *
 * Arithmetic only: no clock, no lock.  The level is the caller's, who says when
 * it fell; a rise needs no word.
 */
#ifndef WEIRI_DECAY_H
#define WEIRI_DECAY_H

#include "base/bits.h"

struct weiri_decay {
	uint64_t low;  /* lowest level of this epoch */
	uint64_t due;  /* to go in this epoch */
	uint64_t done; /* of it, what went */
	uint64_t late; /* of it, what is left of the last epoch */
};

/* The length of an epoch, and when this one began. */
struct weiri_decay_clock {
	uint64_t turn_ns;
};

#define WEIRI_DECAY_NEVER UINT64_MAX

/* The level fell to @level. */
WEIRI_INLINE void
weiri_decay_note(struct weiri_decay *decay, uint64_t level)
{
	if (level < decay->low)
		decay->low = level;
}

/* True, and a new epoch, when @epoch_ns are over: turn each decay then. */
WEIRI_INLINE bool
weiri_decay_tick(
    struct weiri_decay_clock *clock, uint64_t now, uint64_t epoch_ns)
{
	if (epoch_ns == WEIRI_DECAY_NEVER || now - clock->turn_ns < epoch_ns)
		return false;
	clock->turn_ns = now;
	return true;
}

WEIRI_INLINE void
weiri_decay_turn(struct weiri_decay *decay, uint64_t level)
{
	/* Calls rarer than epochs would else put off what is due for ever. */
	/* What went for other reasons may be more than was due. */
	decay->late = decay->due > decay->done
			  ? weiri_min(decay->due - decay->done, decay->low)
			  : 0;
	decay->due = decay->low;
	decay->done = 0;
	decay->low = level;
}

/* What is to go now. */
WEIRI_INLINE uint64_t
weiri_decay_want(const struct weiri_decay *decay,
    const struct weiri_decay_clock *clock, uint64_t now, uint64_t epoch_ns,
    uint64_t level)
{
	if (epoch_ns == 0)
		return level;
	if (epoch_ns == WEIRI_DECAY_NEVER || decay->due == 0)
		return 0;

	/* In 1024ths, which no product of bytes or counts overflows with. */
	uint64_t part =
	    weiri_min((now - clock->turn_ns) / (epoch_ns / 1024 + 1), 1024);
	uint64_t share = weiri_max(decay->due * part / 1024, decay->late);

	return share > decay->done ? weiri_min(share - decay->done, decay->low)
				   : 0;
}

/* @amount went: the level fell, but nobody needed it. */
WEIRI_INLINE void
weiri_decay_done(struct weiri_decay *decay, uint64_t amount)
{
	decay->done += amount;
	decay->low -= weiri_min(amount, decay->low);
}

#endif /* WEIRI_DECAY_H */
