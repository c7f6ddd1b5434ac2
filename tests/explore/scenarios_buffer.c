/* SPDX-License-Identifier: MIT */
/*
 * scenarios_buffer.c - references to buffers, buffers at the kernel, and buffers
 * that are waited for.
 *
 * Holders write and read the payload as programs do, plainly.  A release that
 * does not hand on what its holder did is a race with the next owner.
 */
#include "explore.h"
#include "pools/buffer.h"
#include "slab/local.h"

static struct weir_buffer_pool *pool;
static struct weir_buffer *held[EXPLORE_THREADS];
static struct weir_buffer *passed; /* atomic: from one thread to another */
static struct weir_buffer foreign;
static unsigned foreign_bytes[16];
static unsigned ended; /* plain: calls of the foreign buffer's function */
static unsigned told;  /* atomic: notifications */
static bool refused;

/* ---- references --------------------------------------------------------- */

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
buffer_2_shared_setup(void)
{
	buffer_make(NULL);
	held[0] = buffer_acquire();
	held[1] = weir_buffer_retain(held[0]);
}

static void
buffer_shared_setup(void)
{
	buffer_2_shared_setup();
	held[2] = weir_buffer_retain(held[0]);
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

/* ---- foreign memory ----------------------------------------------------- */

static void
foreign_end(struct weir_buffer *buffer, void *context)
{
	(void)buffer;
	(void)context;
	ended++;
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
	EXPLORE_CHECK(ended == 1);
}

/* ---- lent to the kernel ------------------------------------------------- */

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

/* ---- waiting for buffers ------------------------------------------------ */

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
gate_check_out(size_t out)
{
	struct weir_pool_stats stats = {.size = sizeof(stats)};

	EXPLORE_CHECK(weir_buffer_pool_check(pool));
	EXPLORE_CHECK(weir_buffer_pool_stats(pool, 0, &stats) == 0);
	EXPLORE_CHECK(stats.in_use == out);
	EXPLORE_CHECK(stats.waiting == 0);
}

/* One is back, or all are out again. */
static void
gate_check(void)
{
	gate_check_out(GATE_LIMIT - 1);
}

static void
gate_check_kept(void)
{
	gate_check_out(GATE_LIMIT);
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
gate_user(void)
{
	struct weir_buffer *buffer = buffer_acquire();

	EXPLORE_CHECK(buffer != NULL);
	weir_buffer_release(buffer);
}

/* ---- told of buffers ---------------------------------------------------- */

static void
buffer_own(void)
{
	(void)weiri_local_own();
}

static void
buffer_tell(struct weir_buffer_pool *of, void *context)
{
	(void)of;
	(void)context;
	__atomic_fetch_add(&told, 1, __ATOMIC_RELAXED);
}

/* limit_bytes is one buffer, which is out. */
static void
buffer_bytes_setup(void)
{
	buffer_make(&(struct weir_buffer_pool_config){
	    .tier[0] = {.bytes = 64},
	    .tier_count = 1,
	    .limit_bytes = 64,
	    .policy = WEIR_LIMIT_NOTIFY,
	    .notify = buffer_tell,
	});
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

/* ---- the list ----------------------------------------------------------- */

const struct explore_scenario explore_buffer_scenarios[] = {
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
	.setup = buffer_2_shared_setup,
	.prepare = {buffer_thread, buffer_thread, buffer_thread},
	.body = {buffer_chain_relaxed, buffer_chain_second, buffer_chain_third},
	.check = buffer_chain_check,
	.bound = {3, 1},
	.bound_long = {4, 2},
    },
    {
	.name = "buffer_references",
	.setup = buffer_2_shared_setup,
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
	.name = "buffer_told",
	.setup = buffer_bytes_setup,
	.prepare = {buffer_own, buffer_own},
	.body = {buffer_give_back, buffer_take},
	.check = buffer_told_check,
	.bound = {3, 1},
	.bound_long = {4, 2},
    },
    /* Sent to two at once; whoever is the last ends it. */
    {
	.name = "buffer_lent",
	.setup = buffer_2_shared_setup,
	.prepare = {buffer_thread, buffer_thread},
	.body = {buffer_lend, buffer_lend_too},
	.check = buffer_check,
	.bound = {3, 1},
	.bound_long = {4, 2},
    },
    /* Marked by one while the other, alone with it soon, lends it. */
    {
	.name = "buffer_lent_wipe",
	.setup = buffer_2_shared_setup,
	.prepare = {buffer_thread, buffer_thread},
	.body = {buffer_lend_alone, buffer_mark_release},
	.check = buffer_wipe_check,
	.bound = {3, 1},
	.bound_long = {4, 2},
    },
    {.name = NULL},
};
