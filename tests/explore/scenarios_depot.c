/* SPDX-License-Identifier: MIT */
/*
 * scenarios_depot.c - magazines, spares, shards, and who waits.
 *
 * The depots have magazines of one slot or two, so that each call that could
 * meet another thread does.  Slots are written by whoever has them: a slot that
 * two threads have, or one that comes without what its last owner wrote, is a
 * race.
 */
#include "explore.h"
#include "slab/cursor.h"
#include "slab/shard.h"
#include "slab/stock.h"

#include <weir/limit.h>

#define FULL_LIMIT 512 /* least that leaves threads a magazine */

#define DEPOT_SLOT_BYTES ((size_t)64)

static struct weiri_depot depot;

static struct weir_quota *depot_quota;
static void *depot_slot[4]; /* on their way from one thread to another */
static void *depot_kept[EXPLORE_THREADS];
static unsigned depot_told; /* notifications */

/* ---- what scenarios share -------------------------------------------------- */

static void
depot_make(size_t limit, size_t rounds, size_t slab_slots,
    const struct weiri_wait_config *wait, bool verify)
{
	struct weiri_depot_config config = {
	    .kind = "cache",
	    .name = "explored",
	    .slot_bytes = DEPOT_SLOT_BYTES,
	    .slot_align = 64,
	    .slab_bytes = slab_slots > 0 ? 4096 : FULL_LIMIT * DEPOT_SLOT_BYTES,
	    .slab_slots = slab_slots,
	    .rounds = rounds,
	    .limit = limit,
	    .state_bytes = verify,
	    .verify = verify,
	    .wait = wait,
	    .quota = depot_quota,
	};

	if (weiri_depot_init(&depot, &config) != 0)
		explore_fail("no depot");
}

/* No memory for more than one slab of @slots. */
static void
depot_make_short(size_t rounds, size_t slots)
{
	if (weir_quota_create("one slab", 4096, &depot_quota) != 0)
		explore_fail("no quota");
	depot_make(SIZE_MAX, rounds, slots, NULL, false);
}

static void *
depot_get_within(uint64_t timeout_ns)
{
	unsigned *slot = weiri_depot_get_within(&depot, timeout_ns);

	if (slot != NULL)
		++*slot;
	return slot;
}

static void *
depot_get(void)
{
	unsigned *slot = weiri_depot_get(&depot);

	if (slot != NULL)
		++*slot;
	return slot;
}

static void
depot_put(void *slot)
{
	if (slot == NULL)
		return;
	++*(unsigned *)slot;
	weiri_depot_put(&depot, slot);
}

static void
depot_check(size_t out)
{
	struct weiri_depot_stats stats;
	const char *why = NULL;

	if (!weiri_depot_check(&depot, &why))
		explore_fail("the depot is not sound: %s", why);
	weiri_depot_stats(&depot, &stats);
	if (stats.in_use != out)
		explore_fail("%lu slots are out, not %zu",
		    (unsigned long)stats.in_use, out);
}

static void
depot_check_none_out(void)
{
	depot_check(0);
}

static void
depot_own(void)
{
	(void)weiri_local_own();
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
depot_get_put(void)
{
	depot_put(depot_get());
}

static void
depot_get_get_put_put(void)
{
	void *first = depot_get(), *second = depot_get();

	depot_put(first);
	depot_put(second);
}

/* ---- magazines and the depot ------------------------------------------------- */

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

/* ---- spares ---------------------------------------------------------------------- */

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

/* ---- shards -------------------------------------------------------------------------- */

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

/* ---- waiting in turn --------------------------------------------------------------------- */

static const struct weiri_wait_config waiters_turn = {
    .policy = WEIRI_WAIT_TURN,
    .timeout_ns = WEIRI_WAIT_FOREVER,
};

/* All but one slot are out for good. */
static void
waiters_setup(void)
{
	depot_make(FULL_LIMIT, 2, 0, &waiters_turn, false);
	for (unsigned i = 0; i + 1 < FULL_LIMIT; i++)
		(void)depot_get();
}

static void
waiters_user(void)
{
	void *slot = depot_get();

	EXPLORE_CHECK(slot != NULL);
	depot_put(slot);
}

static void
waiters_check(void)
{
	depot_check(FULL_LIMIT - 1);
	EXPLORE_CHECK(depot.wait.attention == 0);
}

/* The last slot is this thread's. */
static void
waiters_holder(void)
{
	depot_put(depot_slot[0]);
}

static void
waiters_hold(void)
{
	depot_slot[0] = depot_get();
}

/* Two slots are this thread's, and two others wait for them. */
static void
waiters_setup_2(void)
{
	depot_make(FULL_LIMIT, 2, 0, &waiters_turn, false);
	for (unsigned i = 0; i + 2 < FULL_LIMIT; i++)
		(void)depot_get();
}

static void
waiters_hold_2(void)
{
	depot_slot[0] = depot_get();
	depot_slot[1] = depot_get();
}

static void
waiters_holder_2(void)
{
	depot_put(depot_slot[0]);
	depot_put(depot_slot[1]);
}

/* Whose thread is idle from now on. */
static void
waiters_pocket_2(void)
{
	waiters_hold_2();
	waiters_holder_2();
}

static void
waiters_keep(void)
{
	depot_kept[explore_index()] = depot_get();
	EXPLORE_CHECK(depot_kept[explore_index()] != NULL);
}

static void
waiters_check_kept(void)
{
	depot_check(FULL_LIMIT);
	EXPLORE_CHECK(depot.wait.attention == 0);
}

/* One comes back, and one of two gets it: nobody has it for ever. */
static void
waiters_timed_keep(void)
{
	depot_kept[1] = depot_get_within(1000000);
}

static void
waiters_keep_timed(void)
{
	depot_kept[2] = depot_get_within(2000000);
}

static void
waiters_check_timed(void)
{
	size_t kept = (depot_kept[1] != NULL) + (depot_kept[2] != NULL);

	EXPLORE_CHECK(kept <= 1);
	depot_check(FULL_LIMIT - 1 + kept);
	EXPLORE_CHECK(depot.wait.attention == 0);
}

static void
waiters_check_locked(void)
{
	depot_check(2);
	EXPLORE_CHECK(depot.wait.attention == 0);
}

static void
waiters_timed(void)
{
	void *slot = depot_get_within(1000000);

	depot_kept[1] = slot;
	depot_put(slot);
}

/* No more than it: what is out when nobody has a magazine. */
static void
waiters_locked_setup(void)
{
	depot_make(1, 1, 4, &waiters_turn, false);
	EXPLORE_CHECK(weiri_depot_prepare(&depot, 1) == 0);
}

static void
waiters_locked_setup_2(void)
{
	depot_make(2, 1, 4, &waiters_turn, false);
	EXPLORE_CHECK(weiri_depot_prepare(&depot, 2) == 0);
}

/* ---- being told ------------------------------------------------------------------------------ */

static void
notify_tell(void *owner)
{
	(void)owner;
	__atomic_fetch_add(&depot_told, 1, __ATOMIC_RELAXED);
}

static const struct weiri_wait_config notify_config = {
    .policy = WEIRI_WAIT_NOTIFY,
    .low = FULL_LIMIT - 1,
    .notify = notify_tell,
};

static void
notify_setup(void)
{
	depot_make(FULL_LIMIT, 1, 0, &notify_config, false);
	for (unsigned i = 0; i + 1 < FULL_LIMIT; i++)
		(void)depot_get();
	depot_slot[0] = depot_get();
	depot_told = 0;
}

/* As a pool's free does it. */
static void
notify_put(void)
{
	depot_put(depot_slot[0]);
	weiri_wait_freed(&depot);
}

static void
notify_get(void)
{
	depot_kept[1] = depot_get();
}

/* Who got nothing is told once there is room, and there is. */
static void
notify_check(void)
{
	if (depot_kept[1] == NULL)
		EXPLORE_CHECK(depot_told == 1);
	EXPLORE_CHECK(depot.wait.attention == 0);
}

/* ---- memory of several depots ------------------------------------------------------------------ */

/* A waiter that a quota refused is served by who gives the quota back. */
static void
quota_setup(void)
{
	if (weir_quota_create("one slab", 4096, &depot_quota) != 0)
		explore_fail("no quota");
	depot_make(FULL_LIMIT, 1, 4, &waiters_turn, false);
	EXPLORE_CHECK(weiri_quota_charge(depot_quota, 4096, false));
}

static void
quota_give_back(void)
{
	weiri_quota_return(depot_quota, 4096);
}

static void
quota_check(void)
{
	depot_check(0);
}

/* ---- the list ------------------------------------------------------------------------------------- */

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
    /* One slot for two and for three; nobody sleeps for ever. */
    {
	.name = "waiters",
	.setup = waiters_setup,
	.prepare = {depot_own, depot_own},
	.body = {waiters_user, waiters_user},
	.check = waiters_check,
	.bound = {3, 1},
	.bound_long = {4, 2},
    },
    {
	.name = "waiters_pair",
	.setup = waiters_setup_2,
	.prepare = {waiters_pocket_2, depot_own, depot_own},
	.body = {NULL, waiters_keep, waiters_keep},
	.check = waiters_check_kept,
	.bound = {3, 1},
	.bound_long = {4, 1},
    },
    {
	.name = "waiters_3",
	.setup = waiters_setup_2,
	.prepare = {waiters_hold_2, depot_own, depot_own},
	.body = {waiters_holder_2, waiters_keep, waiters_keep},
	.check = waiters_check_kept,
	.bound = {3, 0},
	.bound_long = {3, 0},
	.is_long = true,
    },
    {
	.name = "waiters_3_users",
	.setup = waiters_setup,
	.prepare = {depot_own, depot_own, depot_own},
	.body = {waiters_user, waiters_user, waiters_user},
	.check = waiters_check,
	.bound = {3, 0},
	.bound_long = {3, 0},
	.is_long = true,
    },
    /* The slot is in a pocket, or about to be. */
    {
	.name = "waiters_pocket",
	.setup = waiters_setup,
	.prepare = {waiters_hold, depot_own},
	.body = {waiters_holder, waiters_user},
	.check = waiters_check,
	.bound = {3, 1},
	.bound_long = {4, 2},
    },
    {
	.name = "waiters_timed",
	.setup = waiters_setup,
	.prepare = {waiters_hold, depot_own},
	.body = {waiters_holder, waiters_timed},
	.check = waiters_check,
	.bound = {3, 1},
	.bound_long = {4, 2},
    },
    {
	.name = "waiters_timed_3",
	.setup = waiters_setup_2,
	.prepare = {waiters_hold_2, depot_own, depot_own},
	.body = {waiters_holder, waiters_timed_keep, waiters_keep_timed},
	.check = waiters_check_timed,
	.bound = {3, 0},
	.bound_long = {3, 0},
	.is_long = true,
    },
    {
	.name = "waiters_timed_users",
	.setup = waiters_setup,
	.prepare = {waiters_hold, depot_own, depot_own},
	.body = {waiters_holder, waiters_timed, waiters_user},
	.check = waiters_check,
	.bound = {3, 0},
	.bound_long = {3, 0},
	.is_long = true,
    },
    {
	.name = "waiters_locked",
	.setup = waiters_locked_setup,
	.prepare = {waiters_hold, depot_own},
	.body = {waiters_holder, waiters_user},
	.check = depot_check_none_out,
	.bound = {3, 1},
	.bound_long = {4, 2},
    },
    {
	.name = "waiters_locked_3",
	.setup = waiters_locked_setup_2,
	.prepare = {waiters_hold_2, depot_own, depot_own},
	.body = {waiters_holder_2, waiters_keep, waiters_keep},
	.check = waiters_check_locked,
	.bound = {3, 0},
	.bound_long = {3, 1},
	.is_long = true,
    },
    {
	.name = "waiters_locked_users",
	.setup = waiters_locked_setup,
	.prepare = {depot_own, depot_own, depot_own},
	.body = {waiters_user, waiters_user, waiters_user},
	.check = depot_check_none_out,
	.bound = {3, 0},
	.bound_long = {3, 0},
	.is_long = true,
    },
    /* A get that fails, and a put at the same time: one call follows. */
    {
	.name = "notify",
	.setup = notify_setup,
	.prepare = {depot_own, depot_own},
	.body = {notify_put, notify_get},
	.check = notify_check,
	.bound = {3, 1},
	.bound_long = {4, 2},
    },
    /* What a quota refused comes with what another gives back. */
    {
	.name = "quota",
	.setup = quota_setup,
	.prepare = {depot_own, depot_own},
	.body = {quota_give_back, waiters_user},
	.check = quota_check,
	.bound = {3, 1},
	.bound_long = {3, 2},
    },
    {.name = NULL},
};
