/* SPDX-License-Identifier: MIT */
/*
 * What a depot finds by itself, whatever the calls above it look at: here the
 * slot that two magazines brought at the same moment, when both found it
 * unmarked.  The moment cannot be arranged; what it leaves behind can.
 */
#include "support/test.h"

#include "slab/cursor.h"

#define SLOTS (4 * WEIRI_ROUNDS_MAX)

static struct weiri_depot depot;

/* Slots of which most are back, in the depot's magazines. */
static void
depot_fill(void)
{
	static void *slots[SLOTS];
	const struct weiri_depot_config config = {
	    .kind = "cache",
	    .name = "twice",
	    .slot_bytes = 64,
	    .slot_align = 16,
	    .limit = SIZE_MAX,
	    .rounds = WEIRI_ROUNDS_MAX,
	    .state_bytes = true,
	    .verify = true,
	};

	CHECK_EQ(weiri_depot_init(&depot, &config), 0);
	for (size_t i = 0; i < SLOTS; i++)
		slots[i] = weiri_depot_get(&depot);
	for (size_t i = 0; i < SLOTS; i++)
		weiri_depot_put(&depot, slots[i]);
	CHECK(depot.full_list != NULL);
	CHECK(weiri_depot_check(&depot, NULL));
}

static void
depot_drain(void)
{
	for (size_t i = 0; i < SLOTS; i++)
		(void)!weiri_depot_get(&depot);
}

/* As if the other magazine with it had been here, and left. */
static void
depot_unmark_one(void)
{
	void *slot = (void *)*weiri_magazine_top(depot.full_list);
	struct weiri_slab *slab = (struct weiri_slab *)weiri_span_of(slot);

	slab->state[weiri_slab_index(slab, slot)] &=
	    (uint8_t)~WEIRI_STATE_STOCKED;
}

TEST(depot_slots_come_out_marked_as_they_went_in)
{
	depot_fill();
	depot_drain();
}

TEST(depot_slot_of_two_magazines_dies_when_the_second_is_loaded)
{
	depot_fill();
	depot_unmark_one();
	EXPECT_ABORT("weir: FAULT double-free: cache \"twice\": object 0x",
	    { depot_drain(); });
}

TEST(depot_slot_of_two_magazines_dies_when_the_second_is_emptied)
{
	depot_fill();
	depot_unmark_one();
	EXPECT_ABORT(
	    "was freed more than once", { (void)weiri_depot_trim(&depot); });
}
