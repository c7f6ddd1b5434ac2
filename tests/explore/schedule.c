/* SPDX-License-Identifier: MIT */
/*
 * schedule.c - the choices of a run, the walk over all lists of them, and how a
 * list is told.
 *
 * A run repeats the choices that it has in common with the last one, and takes the
 * first way at each that is new.  The next run differs in the last choice with a
 * way that was not taken.
 *
 * Told is what was not the first way, each with the number of its step; see
 * engine.c.
 */
#include "engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SCHEDULE_CHOICES 4096
#define SCHEDULE_SHARED 1024 /* twice as many as there may be */

struct schedule_choice {
	unsigned taken, count;
};

struct schedule_told {
	unsigned step;
	char kind;
	unsigned value;
};

static struct {
	struct schedule_choice choice[SCHEDULE_CHOICES];
	unsigned depth, chosen; /* of this run; known from the last one */
	struct schedule_told told[SCHEDULE_CHOICES];
	unsigned told_count, retold;
	bool replay;
	uintptr_t shared[SCHEDULE_SHARED]; /* hashed */
	unsigned shared_count;
} schedule;

/* ---- choices ---------------------------------------------------------------- */

void
schedule_begin_run(void)
{
	schedule.depth = schedule.retold = 0;
	if (!schedule.replay)
		schedule.told_count = 0;
}

unsigned
schedule_choose(unsigned count)
{
	struct schedule_choice *choice = &schedule.choice[schedule.depth];

	if (count <= 1)
		return 0;
	if (schedule.depth == SCHEDULE_CHOICES)
		explore_fail("more than %d choices", SCHEDULE_CHOICES);
	if (schedule.depth < schedule.chosen) {
		if (choice->count != count)
			explore_fail("not the same run again: choice %u has "
				     "%u ways, not %u",
			    schedule.depth, count, choice->count);
	} else {
		*choice = (struct schedule_choice){.count = count};
		schedule.chosen++;
	}
	schedule.depth++;
	return choice->taken;
}

bool
schedule_is_new(void)
{
	return schedule.depth == schedule.chosen;
}

bool
schedule_advance(void)
{
	while (schedule.chosen > 0) {
		struct schedule_choice *last =
		    &schedule.choice[schedule.chosen - 1];

		if (++last->taken < last->count)
			return true;
		schedule.chosen--;
	}
	return false;
}

void
schedule_restart(void)
{
	schedule.chosen = 0;
}

/* ---- lists ------------------------------------------------------------------ */

void
schedule_note(unsigned step, char kind, unsigned value)
{
	if (schedule.replay || schedule.told_count == SCHEDULE_CHOICES)
		return;
	schedule.told[schedule.told_count++] =
	    (struct schedule_told){step, kind, value};
}

bool
schedule_is_told(unsigned step, char kind, unsigned *value)
{
	const struct schedule_told *told = &schedule.told[schedule.retold];

	if (schedule.retold == schedule.told_count || told->step != step ||
	    told->kind != kind)
		return false;
	schedule.retold++;
	*value = told->value;
	return true;
}

void
schedule_tell(char *text, size_t bytes)
{
	size_t at = 0;

	(void)snprintf(text, bytes, "0");
	for (unsigned i = 0; i < schedule.told_count && at + 24 < bytes; i++) {
		const struct schedule_told *told = &schedule.told[i];

		at += (size_t)snprintf(text + at, bytes - at, "%s%u%c%u",
		    i > 0 ? "," : "", told->step, told->kind, told->value);
	}
}

void
schedule_replay(const char *text)
{
	schedule.replay = true;
	while (*text != '\0' && schedule.told_count < SCHEDULE_CHOICES) {
		struct schedule_told *told =
		    &schedule.told[schedule.told_count];
		char *end;

		told->step = (unsigned)strtoul(text, &end, 10);
		told->kind = *end;
		if (*end == '\0')
			return;
		told->value = (unsigned)strtoul(end + 1, &end, 10);
		if (told->kind != '~' && told->value >= EXPLORE_THREADS)
			return;
		schedule.told_count++;
		text = *end == ',' ? end + 1 : end;
	}
}

/* ---- shared words ----------------------------------------------------------- */

static uintptr_t *
schedule_entry(uintptr_t address)
{
	size_t at = (address >> 2) * UINT64_C(0x9e3779b97f4a7c15) >> 54;

	while (schedule.shared[at] != 0 && schedule.shared[at] != address)
		at = (at + 1) % SCHEDULE_SHARED;
	return &schedule.shared[at];
}

/* In a replay all are: steps have the same numbers. */
bool
engine_is_shared(uintptr_t address)
{
	return schedule.replay || *schedule_entry(address) != 0;
}

bool
schedule_share(uintptr_t address)
{
	uintptr_t *entry = schedule_entry(address);

	if (*entry != 0 || schedule.replay)
		return false;
	if (schedule.shared_count == SCHEDULE_SHARED / 2)
		explore_fail("too many shared words");
	*entry = address;
	schedule.shared_count++;
	return true;
}
