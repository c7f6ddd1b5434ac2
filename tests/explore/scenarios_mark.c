/* SPDX-License-Identifier: MIT */
/*
 * scenarios_mark.c - marks: what one thread leaves behind for another to find, who
 * looks once and goes away.
 *
 * Somebody was refused and wants to be told; a limit has changed, and what goes
 * with it; a buffer is at the kernel, or to be wiped; a pool is made or ended in
 * memory that others watch.  A mark that is missed is missed for good.
 */
#include "explore.h"
#include "pools/buffer.h"
#include "slab/local.h"
#include "slab/quota.h"
#include "slab/stock.h"
#include "slab/wait.h"

#include <weir/account.h>
#include <weir/bounded.h>
#include <weir/limit.h>

#define MARK_LIMIT 512 /* least that leaves threads a magazine */
#define MARK_SLAB 4096

static struct weiri_depot depot;
static struct weir_quota *quota;
static struct weir_account account;
static struct weir_buffer_pool *pool;
static struct weir_buffer *held[EXPLORE_THREADS];
static struct weir_bounded *bounded;
static _Alignas(128) unsigned char storage[8192];
static unsigned told;    /* atomic: calls */
static unsigned scratch; /* plain: what a thread did before */
static bool refused, refused_too;

static void
mark_own(void)
{
	(void)weiri_local_own();
}

/* ---- told of memory --------------------------------------------------------- */

static void
mark_tell(void *owner)
{
	(void)owner;
	scratch++; /* after what the refused one did before */
	__atomic_fetch_add(&told, 1, __ATOMIC_RELAXED);
}

/* A depot without a slab, and all that its quota allows is somebody else's. */
static void
quota_setup(void)
{
	static const struct weiri_wait_config notify = {
	    .policy = WEIRI_WAIT_NOTIFY,
	    .low = MARK_LIMIT - 1,
	    .notify = mark_tell,
	};
	struct weiri_depot_config config = {
	    .kind = "cache",
	    .name = "explored",
	    .slot_bytes = 64,
	    .slot_align = 64,
	    .slab_bytes = MARK_SLAB,
	    .slab_slots = 4,
	    .rounds = 1,
	    .limit = MARK_LIMIT,
	    .wait = &notify,
	};

	if (weir_quota_create("one slab", MARK_SLAB, &quota) != 0)
		explore_fail("no quota");
	config.quota = quota;
	if (weiri_depot_init(&depot, &config) != 0)
		explore_fail("no depot");
	EXPLORE_CHECK(weiri_quota_charge(quota, MARK_SLAB, false));
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
	weiri_quota_return(quota, MARK_SLAB);
}

static void
quota_raise(void)
{
	weir_quota_set_limit(quota, 2 * MARK_SLAB);
}

/* Who got nothing is told once there is memory, and there is. */
static void
quota_check(void)
{
	EXPLORE_CHECK(!refused || told == 1);
	EXPLORE_CHECK(depot.wait.attention == 0);
}

/* ---- the end of a quota ---------------------------------------------------------- */

static void
quota_end_setup(void)
{
	if (weir_quota_create("one slab", MARK_SLAB, &quota) != 0)
		explore_fail("no quota");
	weiri_quota_join(quota);
	EXPLORE_CHECK(weiri_quota_charge(quota, MARK_SLAB, false));
}

static void
quota_leave(void)
{
	scratch++;
	weiri_quota_return(quota, MARK_SLAB);
	weiri_quota_leave(quota);
}

/* As soon as no pool is charged to it. */
static void
quota_end(void)
{
	struct weir_quota_figures figures = {.size = sizeof(figures)};

	do {
		weiri_os_sleep_ns(1);
		(void)weir_quota_stats(quota, &figures);
	} while (figures.pools != 0);
	scratch++; /* what its pools did has been done */
	weir_quota_destroy(quota);
}

/* Told by who left: the count is to be what that thread made it. */
static void
quota_leave_told(void)
{
	quota_leave();
	__atomic_store_n(&told, 1, __ATOMIC_RELEASE);
}

static void
quota_end_told(void)
{
	while (__atomic_load_n(&told, __ATOMIC_ACQUIRE) == 0)
		weiri_os_sleep_ns(1);
	weir_quota_destroy(quota);
}

static void
mark_check_nothing(void)
{
}

/* ---- given back on demand ------------------------------------------------------ */

static void
recall_setup(void)
{
	const struct weiri_depot_config config = {
	    .kind = "cache",
	    .name = "explored",
	    .slot_bytes = 64,
	    .slot_align = 64,
	    .slab_bytes = MARK_SLAB,
	    .slab_slots = 16,
	    .rounds = 4,
	    .limit = SIZE_MAX,
	};

	if (weiri_depot_init(&depot, &config) != 0)
		explore_fail("no depot");
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

/* ---- limits of accounts ------------------------------------------------------------ */

static void
account_resume(struct weir_account *level)
{
	(void)level;
	scratch++;
	__atomic_fetch_add(&told, 1, __ATOMIC_RELAXED);
}

static void
account_setup(void)
{
	const struct weir_account_config config = {
	    .name = "limited",
	    .limit_bytes = 100,
	    .reserve_bytes = 60,
	};

	EXPLORE_CHECK(weir_account_init(&account, &config) == 0);
}

/* The reserve shrinks with it. */
static void
account_lower(void)
{
	weir_account_set_limit(&account, 50);
}

/* More than there was room for, ever. */
static void
account_charge(void)
{
	EXPLORE_CHECK(!weir_account_charge(&account, 60));
}

/* Above its pause mark. */
static void
account_pause_setup(void)
{
	const struct weir_account_config config = {
	    .name = "paused",
	    .limit_bytes = 100,
	    .pause_bytes = 50,
	    .resume = account_resume,
	};

	EXPLORE_CHECK(weir_account_init(&account, &config) == 0);
	EXPLORE_CHECK(weir_account_charge(&account, 80));
}

/* What is noted before the question is there for the function. */
static void
account_ask(void)
{
	struct weir_account *level;

	scratch++;
	refused =
	    weir_account_verdict(&account, 1, &level) == WEIR_ACCOUNT_PAUSE;
}

static void
account_resume_only(struct weir_account *level)
{
	(void)level;
	__atomic_fetch_add(&told, 1, __ATOMIC_RELAXED);
}

static void
account_pause_two_setup(void)
{
	account_pause_setup();
	account.resume = account_resume_only;
}

static void
account_ask_too(void)
{
	struct weir_account *level;

	refused_too =
	    weir_account_verdict(&account, 1, &level) == WEIR_ACCOUNT_PAUSE;
}

static void
account_drop(void)
{
	weir_account_uncharge(&account, 80);
}

static void
account_check(void)
{
	EXPLORE_CHECK(!refused || told == 1);
}

/* Whoever was told to pause, the function is called after that. */
static void
account_check_two(void)
{
	EXPLORE_CHECK((!refused && !refused_too) || told >= 1);
}

/* ---- buffers ------------------------------------------------------------------------ */

static void
buffer_tell(struct weir_buffer_pool *of, void *context)
{
	(void)of;
	(void)context;
	__atomic_fetch_add(&told, 1, __ATOMIC_RELAXED);
}

static struct weir_buffer *
buffer_acquire(void)
{
	struct weir_buffer *buffer = weir_buffer_acquire(pool, 64);

	if (buffer != NULL)
		*(unsigned *)buffer->data = 1;
	return buffer;
}

static void
buffer_thread(void)
{
	weir_buffer_release(buffer_acquire());
}

/* limit_bytes is one buffer, which is out. */
static void
buffer_bytes_setup(void)
{
	const struct weir_buffer_pool_config config = {
	    .tier[0] = {.bytes = 64},
	    .tier_count = 1,
	    .limit_bytes = 64,
	    .policy = WEIR_LIMIT_NOTIFY,
	    .notify = buffer_tell,
	};

	if (weir_buffer_pool_create("explored", &config, &pool) != 0)
		explore_fail("no pool");
	held[0] = buffer_acquire();
	EXPLORE_CHECK(held[0] != NULL);
}

static void
buffer_give_back(void)
{
	weir_buffer_release(held[0]);
}

static void
buffer_take(void)
{
	held[1] = buffer_acquire();
	refused = held[1] == NULL;
}

static void
buffer_told_check(void)
{
	EXPLORE_CHECK(!refused || told == 1);
}

/* Two references to one. */
static void
buffer_shared_setup(void)
{
	const struct weir_buffer_pool_config config = {
	    .tier[0] = {.bytes = 64}, .tier_count = 1};

	if (weir_buffer_pool_create("explored", &config, &pool) != 0)
		explore_fail("no pool");
	held[0] = buffer_acquire();
	held[1] = weir_buffer_retain(held[0]);
}

static void
buffer_lend(void)
{
	EXPLORE_CHECK(weiri_buffer_to_kernel(held[0], WEIR_BUFFER_KERNEL_TX));
	weiri_buffer_kernel_done(held[0]);
}

static void
buffer_lend_too(void)
{
	EXPLORE_CHECK(weiri_buffer_to_kernel(held[1], WEIR_BUFFER_KERNEL_TX));
	weiri_buffer_kernel_sent(held[1]);
	weiri_buffer_kernel_done(held[1]);
}

/* Lent as soon as this is the only holder, and used again. */
static void
buffer_lend_alone(void)
{
	EXPLORE_CHECK(weiri_buffer_to_kernel(held[0], WEIR_BUFFER_KERNEL_TX));
	weiri_buffer_from_kernel(held[0]);
	if (weir_buffer_references(held[0]) == 1)
		++*(unsigned *)held[0]->data;
	weir_buffer_release(held[0]);
}

static void
buffer_mark_release(void)
{
	weir_buffer_set_wipe(held[1]);
	weir_buffer_release(held[1]);
}

static void
buffer_check(void)
{
	struct weir_pool_stats stats = {.size = sizeof(stats)};

	EXPLORE_CHECK(weir_buffer_pool_check(pool));
	EXPLORE_CHECK(weir_buffer_pool_stats(pool, 0, &stats) == 0);
	EXPLORE_CHECK(stats.in_use == 0);
}

static void
buffer_wipe_check(void)
{
	buffer_check();
	EXPLORE_CHECK(*(unsigned *)held[0]->data == 0);
}

/* ---- bounded pools --------------------------------------------------------------------- */

static void
bounded_make(void)
{
	const struct weir_bounded_config config = {
	    .object_bytes = 8,
	    .object_align = 8,
	    .object_count = 2,
	};

	EXPLORE_CHECK(weir_bounded_init(storage, sizeof(storage), "explored",
			  &config, &bounded) == 0);
}

static void
bounded_use(struct weir_bounded *of)
{
	unsigned *object = weir_bounded_alloc(of);

	EXPLORE_CHECK(object != NULL);
	++*object;
	weir_bounded_free(of, object);
}

static void
bounded_clear(void)
{
	memset(storage, 0, sizeof(storage));
}

/* Another process looks whether it is there. */
static void
bounded_attach(void)
{
	struct weir_bounded *attached;

	if (weir_bounded_attach(storage, sizeof(storage), &attached) == 0)
		bounded_use(attached);
}

static void
bounded_use_finish(void)
{
	bounded_use(bounded);
	weir_bounded_finish(bounded);
}

/* Of a pool that has ended the storage is anybody's. */
static void
bounded_reuse(void)
{
	struct weir_bounded *attached;

	if (weir_bounded_attach(storage, sizeof(storage), &attached) != 0)
		bounded_clear();
}

static void
bounded_use_own(void)
{
	bounded_use(bounded);
}

static void
bounded_use_batch(void)
{
	void *object[2];
	size_t got = weir_bounded_alloc_batch(bounded, object, 2);

	weir_bounded_free_batch(bounded, object, got);
}

static void
bounded_look(void)
{
	EXPLORE_CHECK(weir_bounded_check(bounded));
}

/* ---- the list ------------------------------------------------------------------------------ */

const struct explore_scenario explore_mark_scenarios[] = {
    /* A quota refuses one pool, and another gives back; or it is raised. */
    {
	.name = "quota_told",
	.setup = quota_setup,
	.prepare = {mark_own, mark_own},
	.body = {quota_give_back, quota_get},
	.check = quota_check,
	.bound = {3, 1},
	.bound_long = {4, 2},
    },
    {
	.name = "quota_raised",
	.setup = quota_setup,
	.prepare = {mark_own, mark_own},
	.body = {quota_raise, quota_get},
	.check = quota_check,
	.bound = {3, 1},
	.bound_long = {4, 2},
    },
    {
	.name = "quota_end",
	.setup = quota_end_setup,
	.body = {quota_leave, quota_end},
	.check = mark_check_nothing,
	.bound = {3, 1},
	.bound_long = {4, 2},
    },
    {
	.name = "quota_end_told",
	.setup = quota_end_setup,
	.body = {quota_leave_told, quota_end_told},
	.check = mark_check_nothing,
	.bound = {3, 1},
	.bound_long = {4, 2},
    },
    {
	.name = "account_limit",
	.setup = account_setup,
	.body = {account_lower, account_charge},
	.check = mark_check_nothing,
	.bound = {3, 1},
	.bound_long = {4, 2},
    },
    {
	.name = "account_told",
	.setup = account_pause_setup,
	.body = {account_ask, account_drop},
	.check = account_check,
	.bound = {3, 1},
	.bound_long = {4, 2},
    },
    {
	.name = "account_told_two",
	.setup = account_pause_two_setup,
	.body = {account_ask, account_ask_too, account_drop},
	.check = account_check_two,
	.bound = {3, 1},
	.bound_long = {4, 2},
    },
    {
	.name = "recall",
	.setup = recall_setup,
	.prepare = {mark_own, recall_preload},
	.body = {recall, recall_shed},
	.check = mark_check_nothing,
	.bound = {3, 1},
	.bound_long = {4, 2},
    },
    {
	.name = "buffer_told",
	.setup = buffer_bytes_setup,
	.prepare = {mark_own, mark_own},
	.body = {buffer_give_back, buffer_take},
	.check = buffer_told_check,
	.bound = {3, 1},
	.bound_long = {4, 2},
    },
    /* Sent to two at once; whoever is the last ends it. */
    {
	.name = "buffer_lent",
	.setup = buffer_shared_setup,
	.prepare = {buffer_thread, buffer_thread},
	.body = {buffer_lend, buffer_lend_too},
	.check = buffer_check,
	.bound = {3, 1},
	.bound_long = {4, 2},
    },
    /* Marked by one while the other, alone with it soon, lends it. */
    {
	.name = "buffer_lent_wipe",
	.setup = buffer_shared_setup,
	.prepare = {buffer_thread, buffer_thread},
	.body = {buffer_lend_alone, buffer_mark_release},
	.check = buffer_wipe_check,
	.bound = {3, 1},
	.bound_long = {4, 2},
    },
    {
	.name = "bounded_attach",
	.setup = bounded_clear,
	.body = {bounded_make, bounded_attach},
	.check = mark_check_nothing,
	.bound = {3, 1},
	.bound_long = {4, 2},
    },
    {
	.name = "bounded_finish",
	.setup = bounded_make,
	.body = {bounded_use_finish, bounded_reuse},
	.check = mark_check_nothing,
	.bound = {3, 1},
	.bound_long = {4, 2},
    },
    /* The walker looks while others work. */
    {
	.name = "bounded_check",
	.setup = bounded_make,
	.body = {bounded_use_own, bounded_look},
	.check = mark_check_nothing,
	.bound = {3, 1},
	.bound_long = {4, 2},
    },
    {
	.name = "bounded_check_batch",
	.setup = bounded_make,
	.body = {bounded_use_batch, bounded_look},
	.check = mark_check_nothing,
	.bound = {3, 1},
	.bound_long = {4, 2},
    },
    {.name = NULL},
};
