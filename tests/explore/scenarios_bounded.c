/* SPDX-License-Identifier: MIT */
/*
 * scenarios_bounded.c - bounded pools: taken from and given to by all, attached
 * to while they are made or ended, looked at while others work.
 */
#include "explore.h"

#include <weir/bounded.h>

static struct weir_bounded *bounded;
static _Alignas(128) unsigned char storage[8192];

static void
bounded_make(size_t count)
{
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

/* ---- objects ------------------------------------------------------------ */

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

/* ---- made, attached, ended ---------------------------------------------- */

static void
bounded_use_of(struct weir_bounded *of)
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
		bounded_use_of(attached);
}

static void
bounded_use_finish(void)
{
	bounded_use_of(bounded);
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

/* ---- looked at ---------------------------------------------------------- */

static void
bounded_use_own(void)
{
	bounded_use_of(bounded);
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

/* ---- the list ----------------------------------------------------------- */

const struct explore_scenario explore_bounded_scenarios[] = {
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
    {
	.name = "bounded_attach",
	.setup = bounded_clear,
	.body = {bounded_setup_2, bounded_attach},
	.bound = {3, 1},
	.bound_long = {4, 2},
    },
    {
	.name = "bounded_finish",
	.setup = bounded_setup_2,
	.body = {bounded_use_finish, bounded_reuse},
	.bound = {3, 1},
	.bound_long = {4, 2},
    },
    /* The walker looks while others work. */
    {
	.name = "bounded_check",
	.setup = bounded_setup_2,
	.body = {bounded_use_own, bounded_look},
	.bound = {3, 1},
	.bound_long = {4, 2},
    },
    {
	.name = "bounded_check_batch",
	.setup = bounded_setup_2,
	.body = {bounded_use_batch, bounded_look},
	.bound = {3, 1},
	.bound_long = {4, 2},
    },
    {.name = NULL},
};
