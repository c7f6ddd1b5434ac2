/* SPDX-License-Identifier: MIT */
/*
 * scenarios_depot.c - magazines, spares and shards.
 *
 * The depots have magazines of one slot or two, so that each call that could
 * meet another thread does.
 */
#include "explore.h"
#include "one_depot.h"
#include "slab/cursor.h"
#include "slab/shard.h"
#include "slab/stock.h"

/* No memory for more than one slab of @slots. */
static void
depot_make_short(size_t rounds, size_t slots)
{
	depot_quota_make();
	depot_make(SIZE_MAX, rounds, slots, NULL, false);
}

/* This many slots lie in the calling thread's magazines. */
static void
depot_preload(unsigned count)
{
	void *slot[8];

	for (unsigned i = 0; i < count; i++)
		slot[i] = depot_get();
	for (unsigned i = 0; i < count; i++)
		depot_put(slot[i]);
}

static void
depot_preload_2(void)
{
	depot_preload(2);
}

static void
depot_get_get_put_put(void)
{
	void *first = depot_get(), *second = depot_get();

	depot_put(first);
	depot_put(second);
}

/* ---- magazines and the depot -------------------------------------------- */

static void
magazines_setup(void)
{
	depot_make(SIZE_MAX, 1, 16, NULL, true);
	EXPLORE_CHECK(weiri_depot_prepare(&depot, 8) == 0);
}

static void
magazines_put_3(void)
{
	for (unsigned i = 0; i < 3; i++)
		depot_put(depot_slot[i]);
}

static void
magazines_take_3(void)
{
	for (unsigned i = 0; i < 3; i++)
		depot_slot[i] = depot_get();
}

static void
magazines_take_1(void)
{
	depot_slot[0] = depot_get();
}

static void
magazines_put_1(void)
{
	depot_put(depot_slot[0]);
}

static void
magazines_keep(void)
{
	depot_kept[explore_index()] = depot_get();
	EXPLORE_CHECK(depot_kept[explore_index()] != NULL);
}

static void
magazines_check(void)
{
	depot_check(2);
}

/* Slots one thread took are another's to give back, and a third's to get. */
static void
magazines_get_2(void)
{
	void *first = depot_get(), *second = depot_get();

	EXPLORE_CHECK(first != NULL && second != NULL);
	depot_put(second);
	depot_put(first);
}

/* ---- spares ------------------------------------------------------------- */

/* All four slots there are: two in the owner's magazines. */
static void
spares_setup(void)
{
	depot_make_short(1, 4);
	depot_slot[0] = depot_get();
	depot_slot[1] = depot_get();
}

/* The other two, loaded and spare. */
static void
spares_owner(void)
{
	depot_get_get_put_put();
}

static void
spares_thief(void)
{
	depot_kept[explore_index()] = depot_get();
}

static void
spares_check(void)
{
	size_t out = 2;

	for (unsigned i = 0; i < EXPLORE_THREADS; i++)
		out += depot_kept[i] != NULL;
	depot_check(out);
}

static void
spares_trim(void)
{
	(void)weiri_depot_trim(&depot);
}

/* Looks and marks, looks again and takes. */
static void
spares_retire(void)
{
	(void)weiri_stock_gather_spares(&depot, false);
	(void)weiri_stock_gather_spares(&depot, false);
}

static void
spares_stats(void)
{
	struct weiri_depot_stats stats;

	weiri_depot_stats(&depot, &stats);
	EXPLORE_CHECK(stats.in_use <= stats.total);
}

/* Two slots are out at most, and that is what the figures say, whatever moves. */
static void
figures_look(void)
{
	struct weiri_depot_stats stats;

	weiri_depot_stats(&depot, &stats);
	EXPLORE_CHECK(stats.in_use <= 2);
}

/* ---- shards ------------------------------------------------------------- */

static void
shards_setup(void)
{
	magazines_setup();
	weiri_shards_make(&depot, 2);
}

static void
shards_make(void)
{
	weiri_shards_make(&depot, 2);
	depot_get_put();
}

static void
shards_put_full(void)
{
	for (unsigned i = 0; i < 3; i++)
		depot_put(depot_slot[i]);
	depot_kept[0] = depot_get();
}

static void
shards_get(void)
{
	depot_kept[1] = depot_get();
	depot_put(depot_kept[1]);
	depot_kept[1] = depot_get();
}

static void
shards_check(void)
{
	depot_check(2);
}

static void
shards_gather(void)
{
	(void)weiri_stock_gather_spares(&depot, false);
	(void)weiri_depot_trim(&depot);
}

static void
shards_gather_check(void)
{
	depot_check(1);
}

/* ---- wide magazines ------------------------------------------------------ */

/* Two slots in one, in place of one in each of two. */
static void
wide_setup(void)
{
	magazines_setup();
	depot.rounds_wide = 2;
	depot.rounds = 2;
}

/* A narrow one gives way to a wide one at its first edge. */
static void
wide_begins(void)
{
	depot.rounds = 1;
	depot_preload(1);
	depot.rounds = 2;
}

/* ---- given back on demand ----------------------------------------------- */

static void
recall_setup(void)
{
	depot_make(SIZE_MAX, 4, 16, NULL, false);
}

static void
recall_preload(void)
{
	(void)weiri_local_own();
	weiri_depot_put(&depot, weiri_depot_get(&depot));
	/* Used since, so not idle. */
	weiri_local_shed();
	weiri_depot_put(&depot, weiri_depot_get(&depot));
}

static void
recall(void)
{
	weiri_local_recall(&depot);
}

/* Who is in the new round has nothing of the depot any more. */
static void
recall_shed(void)
{
	uint64_t before = weiri_local()->round;

	weiri_local_shed();
	if (weiri_local()->round != before)
		EXPLORE_CHECK(
		    weiri_local()->cursor[depot.cell] == WEIRI_CURSOR_DUMMY);
}

/* ---- the list ----------------------------------------------------------- */

const struct explore_scenario explore_depot_scenarios[] = {
    /* Get and put, each a trip to the depot, on all threads. */
    {
	.name = "magazines",
	.setup = magazines_setup,
	.prepare = {depot_own, depot_own},
	.body = {depot_get_get_put_put, depot_get_put},
	.check = depot_check_none_out,
	.bound = {3, 1},
	.bound_long = {4, 1},
    },
    {
	.name = "magazines_2",
	.setup = magazines_setup,
	.prepare = {depot_own, depot_own},
	.body = {depot_get_get_put_put, depot_get_get_put_put},
	.check = depot_check_none_out,
	.bound = {3, 1},
	.bound_long = {3, 2},
	.is_long = true,
    },
    /* Three with a slot each: they put, or get. */
    {
	.name = "magazines_3",
	.setup = magazines_setup,
	.prepare = {magazines_take_1, depot_own, depot_own},
	.body = {magazines_put_1, magazines_keep, magazines_keep},
	.check = magazines_check,
	.bound = {3, 1},
	.bound_long = {4, 1},
    },
    {
	.name = "magazines_3_trips",
	.setup = magazines_setup,
	.prepare = {depot_own, depot_own, depot_own},
	.body = {depot_get_put, depot_get_put, depot_get_put},
	.check = depot_check_none_out,
	.bound = {3, 1},
	.bound_long = {3, 1},
	.is_long = true,
    },
    /* Full magazines go to the depot, and from there to others. */
    {
	.name = "magazines_remote",
	.setup = magazines_setup,
	.prepare = {magazines_take_3, depot_own},
	.body = {magazines_put_3, magazines_get_2},
	.check = depot_check_none_out,
	.bound = {3, 1},
	.bound_long = {3, 2},
    },
    /* Threads without a state make theirs. */
    {
	.name = "magazines_born",
	.setup = magazines_setup,
	.body = {depot_get_put, depot_get_put},
	.check = depot_check_none_out,
	.bound = {3, 1},
	.bound_long = {3, 2},
	.exits = 3,
    },
    /* The owner swaps magazines while another takes its spare. */
    {
	.name = "spares",
	.setup = spares_setup,
	.prepare = {spares_owner, depot_own},
	.body = {depot_get_get_put_put, spares_thief},
	.check = spares_check,
	.bound = {3, 1},
	.bound_long = {4, 2},
    },
    {
	.name = "spares_2_thieves",
	.setup = spares_setup,
	.prepare = {spares_owner, depot_own, depot_own},
	.body = {depot_get_put, spares_thief, spares_thief},
	.check = spares_check,
	.bound = {3, 1},
	.bound_long = {3, 2},
    },
    {
	.name = "spares_trim",
	.setup = spares_setup,
	.prepare = {spares_owner, depot_own, depot_own},
	.body = {depot_get_get_put_put, spares_trim, spares_retire},
	.check = spares_check,
	.bound = {3, 1},
	.bound_long = {3, 2},
    },
    /* The owner ends, with what it has. */
    {
	.name = "spares_orphaned",
	.setup = spares_setup,
	.prepare = {spares_owner, depot_own, depot_own},
	.body = {depot_get_put, spares_thief, spares_stats},
	.check = spares_check,
	.bound = {3, 1},
	.bound_long = {3, 2},
	.exits = 1,
    },
    {
	.name = "figures",
	.setup = magazines_setup,
	.prepare = {depot_own, depot_own},
	.body = {depot_get_get_put_put, figures_look},
	.check = depot_check_none_out,
	.bound = {3, 1},
	.bound_long = {4, 2},
    },
    /* Words of shards, filled and emptied by whoever comes. */
    {
	.name = "shards",
	.setup = shards_setup,
	.prepare = {magazines_take_3, depot_own},
	.body = {shards_put_full, shards_get},
	.check = shards_check,
	.bound = {3, 1},
	.bound_long = {4, 2},
    },
    {
	.name = "shards_gather",
	.setup = shards_setup,
	.prepare = {magazines_take_3, depot_preload_2, depot_own},
	.body = {shards_put_full, depot_get_put, shards_gather},
	.check = shards_gather_check,
	.bound = {3, 1},
	.bound_long = {3, 2},
    },
    {
	.name = "shards_made",
	.setup = magazines_setup,
	.prepare = {depot_own, depot_own},
	.body = {shards_make, shards_make},
	.check = depot_check_none_out,
	.bound = {3, 1},
	.bound_long = {4, 2},
    },
    /* Halves of wide magazines go to the depot, and from there to others. */
    {
	.name = "wide",
	.setup = wide_setup,
	.prepare = {magazines_take_3, depot_own},
	.body = {magazines_put_3, magazines_get_2},
	.check = depot_check_none_out,
	.bound = {3, 1},
	.bound_long = {3, 2},
    },
    {
	.name = "wide_begins",
	.setup = wide_setup,
	.prepare = {wide_begins, depot_own, depot_own},
	.body = {depot_get_get_put_put, spares_trim, figures_look},
	.check = depot_check_none_out,
	.bound = {3, 1},
	.bound_long = {3, 2},
    },
    /* What lies in a thread's magazines is asked for. */
    {
	.name = "recall",
	.setup = recall_setup,
	.prepare = {depot_own, recall_preload},
	.body = {recall, recall_shed},
	.bound = {3, 1},
	.bound_long = {4, 2},
    },
    {.name = NULL},
};
