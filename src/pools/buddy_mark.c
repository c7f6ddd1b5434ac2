/* SPDX-License-Identifier: MIT */
/*
 * buddy_mark.c - writes to units that are free.
 *
 * Units that are memory of the program's alone (WEIR_BUDDY_TRAP) trap while they
 * are free, under guard.  Without it the first word of what is given back gets a
 * mark (base/mark.h), and whoever is handed the unit next has it looked at.  A
 * page is not written for it that was not before: a first word that is 0 stays,
 * and counts as a mark.  Reading what nobody used maps the system's page of zeros,
 * which may be a huge one, and the first write would get a small page in its place:
 * a run as large as that, which its owner may have given back to the system, has
 * no mark.  (To ask the system takes longer than all the rest.)
 *
 * Which units have one is a bit for each, beside the records.  A unit's bit stays
 * when its block is merged or split, so a run may have as many to look at as runs
 * ended in it, a line of memory each; each was somebody's free.
 *
 * Invariants:
 *
 *   M1  A unit with a bit is free, or in a run that is being handed out.
 *   M2  Its first word is 0 or the mark.  (weir_buddy_check(); broken by a bug
 *       of the program's.)
 *
 * Lock: 64 bits are a word, which changes under the buddy's lock; but a word whose
 * units are all in one run is that run's owner's, and read without.
 */
#include "pools/buddy.h"

#include "base/mark.h"
#include "guard/fault.h"

#define MARK_BITS ((size_t)64)
#define MARK_HUGE_BYTES ((size_t)2 << 20)

size_t
weiri_buddy_mark_bytes(size_t unit_count)
{
	return (unit_count + MARK_BITS - 1) / MARK_BITS * sizeof(uint64_t);
}

static void *
mark_place(const struct weir_buddy *buddy, size_t unit)
{
	return buddy->base + unit * buddy->unit_bytes;
}

void
weiri_buddy_mark_set(struct weir_buddy *buddy, size_t unit, size_t count)
{
	uint64_t *word = mark_place(buddy, unit);

	if (WEIR_UNLIKELY(count * buddy->unit_bytes >= MARK_HUGE_BYTES))
		return;
	if (*word != 0)
		*word = weiri_mark(buddy->secret, word);
	buddy->marks[unit / MARK_BITS] |= UINT64_C(1) << unit % MARK_BITS;
}

/* The bits of one word from the unit @first on that are below @end. */
static uint64_t
mark_mask(size_t first, size_t end)
{
	uint64_t mask = UINT64_MAX << first % MARK_BITS;

	if (end - first + first % MARK_BITS < MARK_BITS)
		mask &= ~(UINT64_MAX << end % MARK_BITS);
	return mask;
}

/* Where the word of @unit ends. */
static size_t
mark_word_end(size_t unit)
{
	return (unit | (MARK_BITS - 1)) + 1;
}

static uint64_t
mark_take_word(struct weir_buddy *buddy, size_t first, size_t end)
{
	uint64_t *word = &buddy->marks[first / MARK_BITS];
	uint64_t bits = *word & mark_mask(first, end);

	*word ^= bits;
	return bits;
}

bool
weiri_buddy_mark_take(struct weir_buddy *buddy, size_t first, size_t end,
    struct weiri_buddy_marks *marks)
{
	size_t last = end & ~(MARK_BITS - 1);

	marks->first = first;
	marks->end = end;
	marks->head = mark_take_word(buddy, first, end);
	marks->tail = 0;
	if (WEIR_LIKELY(end <= mark_word_end(first)))
		return marks->head != 0;
	if (last < end)
		marks->tail = mark_take_word(buddy, last, end);
	return true;
}

/* Of the units whose bits these are, from @unit on: one that was written to, or
 * NONE. */
static size_t
mark_find_gone(const struct weir_buddy *buddy, size_t unit, uint64_t bits)
{
	for (; bits != 0; bits &= bits - 1) {
		size_t at =
		    (unit & ~(MARK_BITS - 1)) | (size_t)__builtin_ctzll(bits);

		if (WEIR_UNLIKELY(weiri_mark_is_gone(
			buddy->secret, mark_place(buddy, at))) &&
		    WEIR_DETECTOR(buddy_mark_gone))
			return at;
	}
	return WEIR_BUDDY_NONE;
}

static WEIRI_COLD WEIRI_NORETURN void
mark_fault(const struct weir_buddy *buddy, size_t unit)
{
	weiri_fault(&(struct weiri_fault_site){
	    .fault_class = WEIR_FAULT_CORRUPTION,
	    .pool_kind = "buddy",
	    .pool_name = buddy->pool.name,
	    .address = mark_place(buddy, unit),
	    .number = unit,
	    .detail = "the free unit %u at %p was written to: after its free, "
		      "or past the end of the run before it",
	});
}

/* Words behind the first: all of those that are whole lose their bits, also
 * behind a unit that was written to. */
static size_t
mark_look_on(struct weir_buddy *buddy, const struct weiri_buddy_marks *marks)
{
	size_t at = mark_word_end(marks->first), gone = WEIR_BUDDY_NONE;

	for (; at + MARK_BITS <= marks->end; at += MARK_BITS) {
		uint64_t bits = buddy->marks[at / MARK_BITS];

		if (WEIR_LIKELY(bits == 0))
			continue;
		buddy->marks[at / MARK_BITS] = 0;
		if (gone == WEIR_BUDDY_NONE)
			gone = mark_find_gone(buddy, at, bits);
	}
	return gone != WEIR_BUDDY_NONE ? gone
				       : mark_find_gone(buddy, at, marks->tail);
}

/* All bits go before anything is said: the hook may leave by longjmp, and the run
 * is its owner's. */
void
weiri_buddy_mark_look(
    struct weir_buddy *buddy, const struct weiri_buddy_marks *marks)
{
	size_t gone = WEIR_BUDDY_NONE;

	if (WEIR_UNLIKELY(marks->end > mark_word_end(marks->first)))
		gone = mark_look_on(buddy, marks);
	if (gone == WEIR_BUDDY_NONE)
		gone = mark_find_gone(buddy, marks->first, marks->head);
	if (WEIR_UNLIKELY(gone != WEIR_BUDDY_NONE))
		mark_fault(buddy, gone);
}

void
weiri_buddy_mark_end(struct weir_buddy *buddy)
{
	struct weiri_buddy_marks marks;

	if (buddy->marks == NULL || weiri_runs_trap(&buddy->runs))
		return;
	if (weiri_buddy_mark_take(buddy, 0, buddy->core.unit_count, &marks))
		weiri_buddy_mark_look(buddy, &marks);
}

static bool
mark_block_is_whole(const struct weir_buddy *buddy, size_t first, size_t count)
{
	size_t end = first + count;

	while (first < end) {
		uint64_t bits = buddy->marks[first / MARK_BITS];

		bits &= mark_mask(first, end);
		if (mark_find_gone(buddy, first, bits) != WEIR_BUDDY_NONE)
			return false;
		first = mark_word_end(first);
	}
	return true;
}

bool
weiri_buddy_mark_check(const struct weir_buddy *buddy)
{
	uint32_t count;
	bool is_free;

	if (buddy->marks == NULL || weiri_runs_trap(&buddy->runs))
		return true;
	for (uint32_t at = 0; at < buddy->core.unit_count; at += count) {
		count = weiri_buddy_core_extent(&buddy->core, at, &is_free);
		if (is_free && !mark_block_is_whole(buddy, at, count))
			return false;
	}
	return true;
}
