/* SPDX-License-Identifier: MIT */
/*
 * scenarios_wait.c - who finds a depot or its quota exhausted: waits in turn, or
 * wants to be told; and the end of a quota.
 *
 * Whoever looks once, is refused and goes away leaves a mark, and a mark that is
 * missed is missed for good.
 */
#include "explore.h"
#include "one_depot.h"
#include "slab/cursor.h"
#include "slab/wait.h"

#include <weir/limit.h>

static unsigned told;    /* atomic: notifications */
static unsigned scratch; /* plain: what a thread did before */
static unsigned left;    /* atomic: a flag of the threads' own */
static bool refused;

/* ---- waiting in turn ---------------------------------------------------- */

static const struct weiri_wait_config waiters_turn = {
    .policy = WEIRI_WAIT_TURN,
    .timeout_ns = WEIRI_WAIT_FOREVER,
};

/* All but one slot are out for good. */
static void
waiters_setup(void)
{
	depot_make(DEPOT_FULL_LIMIT, 2, 0, &waiters_turn, false);
	for (unsigned i = 0; i + 1 < DEPOT_FULL_LIMIT; i++)
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
	depot_check(DEPOT_FULL_LIMIT - 1);
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
	depot_make(DEPOT_FULL_LIMIT, 2, 0, &waiters_turn, false);
	for (unsigned i = 0; i + 2 < DEPOT_FULL_LIMIT; i++)
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
	depot_check(DEPOT_FULL_LIMIT);
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
	depot_check(DEPOT_FULL_LIMIT - 1 + kept);
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

/* ---- being told --------------------------------------------------------- */

static void
notify_tell(void *owner)
{
	(void)owner;
	__atomic_fetch_add(&told, 1, __ATOMIC_RELAXED);
}

static const struct weiri_wait_config notify_config = {
    .policy = WEIRI_WAIT_NOTIFY,
    .low = DEPOT_FULL_LIMIT - 1,
    .notify = notify_tell,
};

static void
notify_setup(void)
{
	depot_make(DEPOT_FULL_LIMIT, 1, 0, &notify_config, false);
	for (unsigned i = 0; i + 1 < DEPOT_FULL_LIMIT; i++)
		(void)depot_get();
	depot_slot[0] = depot_get();
	told = 0;
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
		EXPLORE_CHECK(told == 1);
	EXPLORE_CHECK(depot.wait.attention == 0);
}

/* ---- memory of several depots ------------------------------------------- */

/* A depot without a slab, and all that its quota allows is somebody else's. */
static void
quota_make(const struct weiri_wait_config *wait)
{
	depot_quota_make();
	depot_make(DEPOT_FULL_LIMIT, 1, 4, wait, false);
	EXPLORE_CHECK(weiri_quota_charge(depot_quota, DEPOT_SLAB_BYTES, false));
}

static void
quota_setup(void)
{
	quota_make(&waiters_turn);
}

static void
quota_tell(void *owner)
{
	scratch++; /* after what the refused one did before */
	notify_tell(owner);
}

static void
quota_notify_setup(void)
{
	static const struct weiri_wait_config notify = {
	    .policy = WEIRI_WAIT_NOTIFY,
	    .low = DEPOT_FULL_LIMIT - 1,
	    .notify = quota_tell,
	};

	quota_make(&notify);
}

static void
quota_get(void)
{
	scratch++;
	refused = weiri_depot_get(&depot) == NULL;
}

static void
quota_give_back(void)
{
	weiri_quota_return(depot_quota, DEPOT_SLAB_BYTES);
}

static void
quota_raise(void)
{
	weir_quota_set_limit(depot_quota, 2 * DEPOT_SLAB_BYTES);
}

/* Who got nothing is told once there is memory, and there is. */
static void
quota_check_told(void)
{
	EXPLORE_CHECK(!refused || told == 1);
	EXPLORE_CHECK(depot.wait.attention == 0);
}

/* ---- the end of a quota ------------------------------------------------- */

static void
quota_end_setup(void)
{
	depot_quota_make();
	weiri_quota_join(depot_quota);
	EXPLORE_CHECK(weiri_quota_charge(depot_quota, DEPOT_SLAB_BYTES, false));
}

static void
quota_leave(void)
{
	scratch++;
	weiri_quota_return(depot_quota, DEPOT_SLAB_BYTES);
	weiri_quota_leave(depot_quota);
}

/* As soon as no pool is charged to it. */
static void
quota_end(void)
{
	struct weir_quota_figures figures = {.size = sizeof(figures)};

	do {
		weiri_os_sleep_ns(1);
		(void)weir_quota_stats(depot_quota, &figures);
	} while (figures.pools != 0);
	scratch++; /* what its pools did has been done */
	weir_quota_destroy(depot_quota);
}

/* Told by who left: the count is to be what that thread made it. */
static void
quota_leave_told(void)
{
	quota_leave();
	__atomic_store_n(&left, 1, __ATOMIC_RELEASE);
}

static void
quota_end_told(void)
{
	while (__atomic_load_n(&left, __ATOMIC_ACQUIRE) == 0)
		weiri_os_sleep_ns(1);
	weir_quota_destroy(depot_quota);
}

/* ---- the list ----------------------------------------------------------- */

const struct explore_scenario explore_wait_scenarios[] = {
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
	.check = depot_check_none_out,
	.bound = {3, 1},
	.bound_long = {3, 2},
    },
    /* A quota refuses one pool, and another gives back; or it is raised. */
    {
	.name = "quota_told",
	.setup = quota_notify_setup,
	.prepare = {depot_own, depot_own},
	.body = {quota_give_back, quota_get},
	.check = quota_check_told,
	.bound = {3, 1},
	.bound_long = {4, 2},
    },
    {
	.name = "quota_raised",
	.setup = quota_notify_setup,
	.prepare = {depot_own, depot_own},
	.body = {quota_raise, quota_get},
	.check = quota_check_told,
	.bound = {3, 1},
	.bound_long = {4, 2},
    },
    {
	.name = "quota_end",
	.setup = quota_end_setup,
	.body = {quota_leave, quota_end},
	.bound = {3, 1},
	.bound_long = {4, 2},
    },
    {
	.name = "quota_end_told",
	.setup = quota_end_setup,
	.body = {quota_leave_told, quota_end_told},
	.bound = {3, 1},
	.bound_long = {4, 2},
    },
    {.name = NULL},
};
