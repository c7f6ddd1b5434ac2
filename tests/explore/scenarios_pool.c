/* SPDX-License-Identifier: MIT */
/*
 * scenarios_pool.c - references to buffers, buffers that are waited for,
 * accounts, and the bounded pool.
 *
 * Holders write and read the payload as programs do, plainly.  A release that
 * does not hand on what its holder did is a race with the next owner.
 */
#include "explore.h"
#include "pools/buffer.h"

#include <weir/account.h>
#include <weir/bounded.h>

static struct weir_buffer_pool *pool;
static struct weir_buffer *held[EXPLORE_THREADS];
static struct weir_buffer *passed; /* atomic: from one thread to another */
static struct weir_account account_root, account_leaf;
static unsigned wiped, resumed;
static bool paused;
static struct weir_buffer foreign;
static unsigned foreign_bytes[16];
static struct weir_bounded *bounded;

/* ---- buffers ------------------------------------------------------------------ */

static void
buffer_make(const struct weir_buffer_pool_config *given)
{
	struct weir_buffer_pool_config config = {
	    .tier[0] = {.bytes = 64},
	    .tier_count = 1,
	};

	if (given != NULL)
		config = *given;
	if (weir_buffer_pool_create("explored", &config, &pool) != 0)
		explore_fail("no pool");
}

static struct weir_buffer *
buffer_acquire(void)
{
	struct weir_buffer *buffer = weir_buffer_acquire(pool, 64);

	if (buffer != NULL)
		*(unsigned *)buffer->data = 1;
	return buffer;
}

static unsigned
buffer_use(const struct weir_buffer *buffer)
{
	return *(const unsigned *)buffer->data;
}

/* One buffer, a reference for each of the threads. */
static void
buffer_shared_setup(void)
{
	buffer_make(NULL);
	held[0] = buffer_acquire();
	held[1] = weir_buffer_retain(held[0]);
	held[2] = weir_buffer_retain(held[0]);
}

static void
buffer_2_shared_setup(void)
{
	buffer_make(NULL);
	held[0] = buffer_acquire();
	held[1] = weir_buffer_retain(held[0]);
}

static void
buffer_thread(void)
{
	weir_buffer_release(buffer_acquire());
}

/* Reads, releases, and takes the next buffer, which may be this one. */
static void
buffer_read_release(void)
{
	struct weir_buffer *buffer = held[explore_index()];

	EXPLORE_CHECK(buffer_use(buffer) == 1);
	weir_buffer_release(buffer);
	buffer = buffer_acquire();
	EXPLORE_CHECK(buffer != NULL);
	weir_buffer_release(buffer);
}

static void
buffer_release_only(void)
{
	struct weir_buffer *buffer = held[explore_index()];

	EXPLORE_CHECK(buffer_use(buffer) == 1);
	weir_buffer_release(buffer);
}

static void
buffer_mark_release(void)
{
	weir_buffer_set_wipe(held[explore_index()]);
	weir_buffer_release(held[explore_index()]);
}

static void
buffer_check(void)
{
	struct weir_pool_stats stats = {.size = sizeof(stats)};

	EXPLORE_CHECK(weir_buffer_pool_check(pool));
	EXPLORE_CHECK(weir_buffer_pool_stats(pool, 0, &stats) == 0);
	EXPLORE_CHECK(stats.in_use == 0);
}

/* Marked by one holder, wiped by whoever is the last. */
static void
buffer_wipe_check(void)
{
	buffer_check();
	EXPLORE_CHECK(*(unsigned *)held[0]->data == 0);
}

/* A holder who is alone again retains by a plain store; who releases last has
 * what went before from him. */
static void
buffer_chain_setup(void)
{
	buffer_make(NULL);
	held[0] = buffer_acquire();
	held[1] = weir_buffer_retain(held[0]);
}

static void
buffer_chain_first(void)
{
	while (weir_buffer_references(held[0]) != 1)
		weiri_os_sleep_ns(1);
	/* Alone with it: who read before has read. */
	*(unsigned *)held[0]->data = 1;
	__atomic_store_n(
	    &passed, weir_buffer_retain(held[0]), __ATOMIC_RELEASE);
	weir_buffer_release(held[0]);
}

static void
buffer_chain_relaxed(void)
{
	if (WEIRI_LOAD(&held[0]->references) != 1)
		return;
	__atomic_store_n(
	    &passed, weir_buffer_retain(held[0]), __ATOMIC_RELEASE);
	weir_buffer_release(held[0]);
}

static void
buffer_chain_second(void)
{
	*(unsigned *)held[1]->data = 1;
	weir_buffer_release(held[1]);
}

static void
buffer_chain_third(void)
{
	struct weir_buffer *buffer;

	buffer = __atomic_load_n(&passed, __ATOMIC_ACQUIRE);
	if (buffer == NULL)
		return;
	weir_buffer_release(buffer);
	buffer = buffer_acquire();
	weir_buffer_release(buffer);
}

static void
buffer_chain_check(void)
{
	if (passed != NULL)
		return;
	weir_buffer_release(held[0]);
	buffer_check();
}

/* ---- foreign memory -------------------------------------------------------------- */

static void
foreign_end(struct weir_buffer *buffer, void *context)
{
	(void)buffer;
	(void)context;
	wiped++;
	foreign_bytes[0] = 0;
}

static void
foreign_setup(void)
{
	foreign_bytes[0] = 1;
	weir_buffer_init_external(
	    &foreign, foreign_bytes, sizeof(foreign_bytes), foreign_end, NULL);
	held[0] = &foreign;
	held[1] = weir_buffer_retain(&foreign);
}

static void
foreign_retain_release(void)
{
	EXPLORE_CHECK(buffer_use(&foreign) == 1);
	weir_buffer_release(weir_buffer_retain(&foreign));
	weir_buffer_release(&foreign);
}

static void
foreign_check(void)
{
	EXPLORE_CHECK(wiped == 1);
}

/* ---- waiting for buffers ---------------------------------------------------- */

#define GATE_LIMIT 512 /* least that leaves threads a pocket */

/* All are out. */
static void
gate_setup(void)
{
	buffer_make(&(struct weir_buffer_pool_config){
	    .tier[0] = {.bytes = 64, .limit = GATE_LIMIT},
	    .tier_count = 1,
	    .policy = WEIR_LIMIT_WAIT,
	});
	for (unsigned i = 0; i < GATE_LIMIT; i++)
		held[i % 2] = buffer_acquire();
}

static void
gate_check(void)
{
	struct weir_pool_stats stats = {.size = sizeof(stats)};

	EXPLORE_CHECK(weir_buffer_pool_check(pool));
	EXPLORE_CHECK(weir_buffer_pool_stats(pool, 0, &stats) == 0);
	EXPLORE_CHECK(stats.in_use == GATE_LIMIT - 1);
	EXPLORE_CHECK(stats.waiting == 0);
}

static void
gate_holder(void)
{
	weir_buffer_release(held[0]);
}

static void
gate_holder_2(void)
{
	weir_buffer_release(held[0]);
	weir_buffer_release(held[1]);
}

static void
gate_keeper(void)
{
	EXPLORE_CHECK(buffer_acquire() != NULL);
}

static void
gate_check_kept(void)
{
	struct weir_pool_stats stats = {.size = sizeof(stats)};

	EXPLORE_CHECK(weir_buffer_pool_check(pool));
	EXPLORE_CHECK(weir_buffer_pool_stats(pool, 0, &stats) == 0);
	EXPLORE_CHECK(stats.in_use == GATE_LIMIT);
	EXPLORE_CHECK(stats.waiting == 0);
}

static void
gate_user(void)
{
	struct weir_buffer *buffer = buffer_acquire();

	EXPLORE_CHECK(buffer != NULL);
	weir_buffer_release(buffer);
}

/* ---- accounts -------------------------------------------------------------------------- */

static void
account_setup(void)
{
	const struct weir_account_config root = {
	    .name = "all", .limit_bytes = 150};
	const struct weir_account_config leaf = {
	    .name = "one", .parent = &account_root};

	EXPLORE_CHECK(weir_account_init(&account_root, &root) == 0);
	EXPLORE_CHECK(weir_account_init(&account_leaf, &leaf) == 0);
}

static void
account_use(void)
{
	if (weir_account_charge(&account_leaf, 100))
		weir_account_uncharge(&account_leaf, 100);
	if (weir_account_charge(&account_root, 100))
		weir_account_uncharge(&account_root, 100);
}

static void
account_check(void)
{
	struct weir_account_figures figures = {.size = sizeof(figures)};

	EXPLORE_CHECK(weir_account_stats(&account_root, &figures) == 0);
	EXPLORE_CHECK(figures.used_bytes == 0 && figures.peak_bytes <= 150);
}

/* A connection ends, and its account as soon as nothing is charged to it. */
static void
account_end_setup(void)
{
	account_setup();
	EXPLORE_CHECK(weir_account_charge(&account_leaf, 100));
}

static void
account_last(void)
{
	foreign_bytes[0]++;
	weir_account_uncharge(&account_leaf, 100);
}

static void
account_end(void)
{
	struct weir_account_figures figures = {.size = sizeof(figures)};

	do {
		weiri_os_sleep_ns(1);
		(void)weir_account_stats(&account_leaf, &figures);
	} while (figures.used_bytes != 0);
	weir_account_finish(&account_leaf);
	foreign_bytes[0]++;
	memset(&account_leaf, 0, sizeof(account_leaf));
}

static void
account_resume(struct weir_account *level, void *user)
{
	(void)level;
	(void)user;
	__atomic_fetch_add(&resumed, 1, __ATOMIC_RELAXED);
}

/* The same with one who is to be told, which takes longer to leave. */
static void
account_end_told_setup(void)
{
	const struct weir_account_config config = {
	    .name = "told",
	    .limit_bytes = 200,
	    .resume = account_resume,
	};

	account_setup();
	EXPLORE_CHECK(weir_account_init(&account_leaf, &config) == 0);
	EXPLORE_CHECK(weir_account_charge(&account_leaf, 100));
}

/* Above its pause mark; who asks is told to pause, and to go on again. */
static void
account_pause_setup(void)
{
	const struct weir_account_config config = {
	    .name = "paused",
	    .limit_bytes = 100,
	    .pause_bytes = 50,
	    .resume = account_resume,
	};

	EXPLORE_CHECK(weir_account_init(&account_leaf, &config) == 0);
	EXPLORE_CHECK(weir_account_charge(&account_leaf, 80));
}

static void
account_ask(void)
{
	struct weir_account *level;

	paused = weir_account_verdict(&account_leaf, 1, &level) ==
		 WEIR_ACCOUNT_PAUSE;
}

static void
account_drop(void)
{
	weir_account_uncharge(&account_leaf, 80);
}

static void
account_pause_check(void)
{
	EXPLORE_CHECK(!paused || resumed == 1);
}

/* ---- bounded pools ------------------------------------------------------------------------ */

static void
bounded_make(size_t count)
{
	static _Alignas(128) unsigned char storage[8192];
	const struct weir_bounded_config config = {
	    .object_bytes = 8,
	    .object_align = 8,
	    .object_count = count,
	};

	EXPLORE_CHECK(weir_bounded_storage_bytes(&config) <= sizeof(storage));
	EXPLORE_CHECK(weir_bounded_init(storage, sizeof(storage), "explored",
			  &config, &bounded) == 0);
}

static void
bounded_setup_2(void)
{
	bounded_make(2);
}

static void
bounded_setup_3(void)
{
	bounded_make(3);
}

static void
bounded_use(void)
{
	unsigned *object = weir_bounded_alloc_hint(bounded, explore_index());

	if (object == NULL)
		return;
	++*object;
	weir_bounded_free(bounded, object);
}

static void
bounded_use_twice(void)
{
	bounded_use();
	bounded_use();
}

/* All with one hint, so that each is what the others want. */
static void
bounded_batch(void)
{
	void *object[2];
	size_t got = weir_bounded_alloc_batch(bounded, object, 2);

	for (size_t i = 0; i < got; i++)
		++*(unsigned *)object[i];
	weir_bounded_free_batch(bounded, object, got);
}

static void
bounded_check(void)
{
	struct weir_pool_stats stats = {.size = sizeof(stats)};

	EXPLORE_CHECK(weir_bounded_check(bounded));
	EXPLORE_CHECK(weir_bounded_stats(bounded, &stats) == 0);
	EXPLORE_CHECK(stats.in_use == 0);
}

/* ---- the list ------------------------------------------------------------------------------ */

const struct explore_scenario explore_pool_scenarios[] = {
    /* The last release, wherever it comes from; then the buffer's next life. */
    {
	.name = "buffer_last_release",
	.setup = buffer_2_shared_setup,
	.prepare = {buffer_thread, buffer_thread},
	.body = {buffer_read_release, buffer_read_release},
	.check = buffer_check,
	.bound = {3, 1},
	.bound_long = {4, 2},
    },
    {
	.name = "buffer_3_releases",
	.setup = buffer_shared_setup,
	.prepare = {buffer_thread, buffer_thread, buffer_thread},
	.body = {buffer_read_release, buffer_release_only, buffer_release_only},
	.check = buffer_check,
	.bound = {3, 1},
	.bound_long = {4, 2},
    },
    /* The owner is gone when the last reference ends. */
    {
	.name = "buffer_owner_gone",
	.setup = buffer_2_shared_setup,
	.prepare = {buffer_thread, buffer_thread},
	.body = {buffer_release_only, buffer_read_release},
	.check = buffer_check,
	.bound = {3, 1},
	.bound_long = {4, 2},
	.exits = 3,
    },
    {
	.name = "buffer_wipe",
	.setup = buffer_2_shared_setup,
	.prepare = {buffer_thread, buffer_thread},
	.body = {buffer_mark_release, buffer_release_only},
	.check = buffer_wipe_check,
	.bound = {3, 1},
	.bound_long = {4, 2},
    },
    {
	.name = "buffer_retain",
	.setup = buffer_chain_setup,
	.prepare = {buffer_thread, buffer_thread, buffer_thread},
	.body = {buffer_chain_relaxed, buffer_chain_second, buffer_chain_third},
	.check = buffer_chain_check,
	.bound = {3, 1},
	.bound_long = {4, 2},
    },
    {
	.name = "buffer_references",
	.setup = buffer_chain_setup,
	.prepare = {buffer_thread, buffer_thread, buffer_thread},
	.body = {buffer_chain_first, buffer_chain_second, buffer_chain_third},
	.check = buffer_chain_check,
	.bound = {3, 2},
	.bound_long = {4, 2},
    },
    {
	.name = "buffer_foreign",
	.setup = foreign_setup,
	.body = {foreign_retain_release, foreign_retain_release},
	.check = foreign_check,
	.bound = {3, 1},
	.bound_long = {4, 2},
    },
    /* One buffer for three. */
    {
	.name = "gate",
	.setup = gate_setup,
	.prepare = {weiri_gate_look, weiri_gate_look, weiri_gate_look},
	.body = {gate_holder, gate_user},
	.check = gate_check,
	.bound = {3, 1},
	.bound_long = {4, 2},
    },
    /* Two for two: in the pocket of one of them, and in that of a third. */
    {
	.name = "gate_pocket",
	.setup = gate_setup,
	.prepare = {gate_holder_2, weiri_gate_look},
	.body = {gate_keeper, gate_keeper},
	.check = gate_check_kept,
	.bound = {3, 1},
	.bound_long = {4, 1},
    },
    {
	.name = "gate_pair",
	.setup = gate_setup,
	.prepare = {gate_holder_2, weiri_gate_look, weiri_gate_look},
	.body = {NULL, gate_keeper, gate_keeper},
	.check = gate_check_kept,
	.bound = {3, 0},
	.bound_long = {3, 1},
	.is_long = true,
    },
    {
	.name = "gate_3",
	.setup = gate_setup,
	.prepare = {weiri_gate_look, weiri_gate_look, weiri_gate_look},
	.body = {gate_holder_2, gate_keeper, gate_keeper},
	.check = gate_check_kept,
	.bound = {2, 0},
	.bound_long = {2, 0},
	.is_long = true,
    },
    {
	.name = "gate_3_users",
	.setup = gate_setup,
	.prepare = {weiri_gate_look, weiri_gate_look, weiri_gate_look},
	.body = {gate_holder, gate_user, gate_user},
	.check = gate_check,
	.bound = {2, 0},
	.bound_long = {2, 0},
	.is_long = true,
    },
    {
	.name = "account",
	.setup = account_setup,
	.body = {account_use, account_use},
	.check = account_check,
	.bound = {3, 1},
	.bound_long = {4, 2},
    },
    {
	.name = "account_end",
	.setup = account_end_setup,
	.body = {account_last, account_end},
	.check = account_check,
	.bound = {3, 1},
	.bound_long = {4, 2},
    },
    {
	.name = "account_end_told",
	.setup = account_end_told_setup,
	.body = {account_last, account_end},
	.check = account_check,
	.bound = {3, 1},
	.bound_long = {4, 2},
    },
    {
	.name = "account_resume",
	.setup = account_pause_setup,
	.body = {account_ask, account_drop},
	.check = account_pause_check,
	.bound = {3, 1},
	.bound_long = {4, 2},
    },
    {
	.name = "bounded",
	.setup = bounded_setup_2,
	.body = {bounded_use_twice, bounded_use, bounded_use},
	.check = bounded_check,
	.bound = {3, 1},
	.bound_long = {4, 2},
    },
    {
	.name = "bounded_batch",
	.setup = bounded_setup_3,
	.body = {bounded_batch, bounded_batch, bounded_use},
	.check = bounded_check,
	.bound = {3, 1},
	.bound_long = {4, 2},
    },
    {.name = NULL},
};
