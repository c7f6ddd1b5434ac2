/* SPDX-License-Identifier: MIT */
/*
 * scenarios_account.c - accounts: what is charged, the limit it is held against,
 * who is told to pause and to go on, and an account's end.
 */
#include "explore.h"

#include <weir/account.h>

static struct weir_account account_root, account_leaf;
static unsigned told;    /* atomic: calls of resume */
static unsigned scratch; /* plain: what a thread did before */
static bool refused, refused_too;

/* ---- charges ------------------------------------------------------------ */

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

/* ---- limits ------------------------------------------------------------- */

static void
account_limit_setup(void)
{
	const struct weir_account_config config = {
	    .name = "limited",
	    .limit_bytes = 100,
	    .reserve_bytes = 60,
	};

	EXPLORE_CHECK(weir_account_init(&account_leaf, &config) == 0);
}

/* The reserve shrinks with it. */
static void
account_lower(void)
{
	weir_account_set_limit(&account_leaf, 50);
}

/* More than there was room for, ever. */
static void
account_charge(void)
{
	EXPLORE_CHECK(!weir_account_charge(&account_leaf, 60));
}

/* ---- told to pause, and to go on ---------------------------------------- */

static void
account_resume(struct weir_account *level)
{
	(void)level;
	scratch++;
	__atomic_fetch_add(&told, 1, __ATOMIC_RELAXED);
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

	EXPLORE_CHECK(weir_account_init(&account_leaf, &config) == 0);
	EXPLORE_CHECK(weir_account_charge(&account_leaf, 80));
}

/* What is noted before the question is there for the function. */
static void
account_ask(void)
{
	struct weir_account *level;

	scratch++;
	refused = weir_account_verdict(&account_leaf, 1, &level) ==
		  WEIR_ACCOUNT_PAUSE;
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
	account_leaf.resume = account_resume_only;
}

static void
account_ask_too(void)
{
	struct weir_account *level;

	refused_too = weir_account_verdict(&account_leaf, 1, &level) ==
		      WEIR_ACCOUNT_PAUSE;
}

static void
account_drop(void)
{
	weir_account_uncharge(&account_leaf, 80);
}

static void
account_told_check(void)
{
	EXPLORE_CHECK(!refused || told == 1);
}

/* Whoever was told to pause, the function is called after that. */
static void
account_told_check_two(void)
{
	EXPLORE_CHECK((!refused && !refused_too) || told >= 1);
}

/* ---- the end of an account ---------------------------------------------- */

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
	scratch++;
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
	scratch++;
	memset(&account_leaf, 0, sizeof(account_leaf));
}

/* The same with one who is to be told, which takes longer to leave. */
static void
account_end_told_setup(void)
{
	const struct weir_account_config config = {
	    .name = "told",
	    .limit_bytes = 200,
	    .resume = account_resume_only,
	};

	account_setup();
	EXPLORE_CHECK(weir_account_init(&account_leaf, &config) == 0);
	EXPLORE_CHECK(weir_account_charge(&account_leaf, 100));
}

/* ---- the list ----------------------------------------------------------- */

const struct explore_scenario explore_account_scenarios[] = {
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
	.name = "account_limit",
	.setup = account_limit_setup,
	.body = {account_lower, account_charge},
	.bound = {3, 1},
	.bound_long = {4, 2},
    },
    {
	.name = "account_told",
	.setup = account_pause_setup,
	.body = {account_ask, account_drop},
	.check = account_told_check,
	.bound = {3, 1},
	.bound_long = {4, 2},
    },
    {
	.name = "account_told_two",
	.setup = account_pause_two_setup,
	.body = {account_ask, account_ask_too, account_drop},
	.check = account_told_check_two,
	.bound = {3, 1},
	.bound_long = {4, 2},
    },
    {.name = NULL},
};
