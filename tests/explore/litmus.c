/* SPDX-License-Identifier: MIT */
/*
 * litmus.c - small programs that a model of memory is known by.
 *
 * Each ends with up to three numbers; C11 says which of these ends there are, and
 * the explorer has to find exactly those: no fewer, or it would miss what a
 * processor does; no more, or it would report what none does.  Names are those of
 * the literature (Alglave et al., "Herding Cats", 2014).
 *
 * What the model leaves out shows as well: `load_buffer` never ends with 1 1, and
 * `two_writes` never with the older stores of both, although C11 allows it.
 */
#include "base/compiler.h"
#include "explore.h"

#define RLX __ATOMIC_RELAXED
#define ACQ __ATOMIC_ACQUIRE
#define REL __ATOMIC_RELEASE
#define ACQ_REL __ATOMIC_ACQ_REL
#define SEQ __ATOMIC_SEQ_CST

static struct litmus {
	_Alignas(64) unsigned x;
	_Alignas(64) unsigned y;
	_Alignas(64) unsigned a, b, c; /* what threads found */
	_Alignas(64) unsigned data;    /* plain */
} litmus;

#define GET(word, order) __atomic_load_n(&litmus.word, order)
#define SET(word, value, order) __atomic_store_n(&litmus.word, value, order)
#define ADD(word, value, order) __atomic_fetch_add(&litmus.word, value, order)
#define SWAP(word, value, order) __atomic_exchange_n(&litmus.word, value, order)
#define FENCE(order) __atomic_thread_fence(order)

static void
litmus_setup(void)
{
	memset(&litmus, 0, sizeof(litmus));
}

static void
litmus_ab(void)
{
	explore_outcome(0, litmus.a, litmus.b);
}

static void
litmus_abc(void)
{
	explore_outcome(litmus.a, litmus.b, litmus.c);
}

static void
litmus_axy(void)
{
	explore_outcome(litmus.a, litmus.x, litmus.y);
}

/* A thread: statements on words of `litmus`. */
#define THREAD(name, ...)               \
	static void litmus_##name(void) \
	{                               \
		__VA_ARGS__;            \
	}

/* Store buffering. */
THREAD(sb_rlx_0, SET(x, 1, RLX); litmus.a = GET(y, RLX))
THREAD(sb_rlx_1, SET(y, 1, RLX); litmus.b = GET(x, RLX))
THREAD(sb_ra_0, SET(x, 1, REL); litmus.a = GET(y, ACQ))
THREAD(sb_ra_1, SET(y, 1, REL); litmus.b = GET(x, ACQ))
THREAD(sb_sc_0, SET(x, 1, SEQ); litmus.a = GET(y, SEQ))
THREAD(sb_sc_1, SET(y, 1, SEQ); litmus.b = GET(x, SEQ))
THREAD(sb_fence_0, SET(x, 1, RLX); FENCE(SEQ); litmus.a = GET(y, RLX))
THREAD(sb_fence_1, SET(y, 1, RLX); FENCE(SEQ); litmus.b = GET(x, RLX))
THREAD(sb_weak_0, SET(x, 1, RLX); FENCE(ACQ_REL); litmus.a = GET(y, RLX))
THREAD(sb_swap_0, (void)SWAP(x, 1, ACQ_REL); litmus.a = GET(y, ACQ))
THREAD(sb_swap_1, (void)SWAP(y, 1, ACQ_REL); litmus.b = GET(x, ACQ))
/* One order has to be that of both. */
THREAD(sb_half_1, SET(y, 1, SEQ); litmus.b = GET(x, ACQ))

/* Message passing. */
THREAD(mp_rlx_0, SET(x, 1, RLX); SET(y, 1, RLX))
THREAD(mp_rel_0, SET(x, 1, RLX); SET(y, 1, REL))
THREAD(mp_fence_0, SET(x, 1, RLX); FENCE(REL); SET(y, 1, RLX))
THREAD(mp_rlx_1, litmus.a = GET(y, RLX); litmus.b = GET(x, RLX))
THREAD(mp_acq_1, litmus.a = GET(y, ACQ); litmus.b = GET(x, RLX))
THREAD(mp_fence_1, litmus.a = GET(y, RLX); FENCE(ACQ); litmus.b = GET(x, RLX))
/* Through a third thread: a release sequence goes on with changes only. */
THREAD(mp_add_2, (void)ADD(y, 1, RLX))
THREAD(mp_set_2, if (GET(y, RLX) == 1) SET(y, 2, RLX))

/* The same word is in order, whatever is said. */
THREAD(corr_0, SET(x, 1, RLX); SET(x, 2, RLX))
THREAD(corr_1, litmus.a = GET(x, RLX); litmus.b = GET(x, RLX))

/* Write to read causality; what one found, it hands on. */
THREAD(wrc_0, SET(x, 1, RLX))
THREAD(wrc_rlx_1, litmus.a = GET(x, RLX); SET(y, 1, RLX))
THREAD(wrc_ra_1, litmus.a = GET(x, RLX); SET(y, 1, REL))
THREAD(wrc_rlx_2, litmus.b = GET(y, RLX); litmus.c = GET(x, RLX))
THREAD(wrc_ra_2, litmus.b = GET(y, ACQ); litmus.c = GET(x, RLX))

THREAD(lb_0, litmus.a = GET(x, RLX); SET(y, 1, RLX))
THREAD(lb_1, litmus.b = GET(y, RLX); SET(x, 1, RLX))

THREAD(two_writes_0, SET(x, 1, RLX); SET(y, 2, RLX))
THREAD(two_writes_1, SET(y, 1, RLX); SET(x, 2, RLX))

/* "R": a store after a store, against a load after a store. */
THREAD(r_sc_0, SET(x, 1, SEQ); SET(y, 1, SEQ))
THREAD(r_sc_1, SET(y, 2, SEQ); litmus.a = GET(x, SEQ))
THREAD(r_ra_0, SET(x, 1, REL); SET(y, 1, REL))
THREAD(r_ra_1, SET(y, 2, REL); litmus.a = GET(x, ACQ))

/* Changes find the newest. */
THREAD(add_0, litmus.a = ADD(x, 1, RLX))
THREAD(add_1, litmus.b = ADD(x, 1, RLX))
/* A comparison that fails may find an older value. */
THREAD(compare_0, SET(x, 1, RLX); SET(x, 2, RLX))
THREAD(compare_1, litmus.a = 2; litmus.b = __atomic_compare_exchange_n(
				    &litmus.x, &litmus.a, 3, false, RLX, RLX))

/* Fences of one thread, stores and loads of that order of the other. */
THREAD(mixed_0, SET(x, 1, SEQ); FENCE(SEQ); litmus.a = GET(y, RLX))
THREAD(mixed_1, SET(y, 1, RLX); FENCE(SEQ); litmus.b = GET(x, SEQ))
/* A fence says nothing about what its own thread stores later. */
THREAD(late_0, FENCE(SEQ); SET(x, 1, RLX); litmus.a = GET(y, RLX))

#define LITMUS(title, first, second, third, ends, numbers)                     \
	{                                                                      \
		.name = "litmus_" title, .setup = litmus_setup,                \
		.body = {litmus_##first, litmus_##second, third},              \
		.check = litmus_##ends, .bound = {4, 4}, .bound_long = {5, 5}, \
		.outcomes = numbers,                                           \
	}

const struct explore_scenario explore_litmus_scenarios[] = {
    LITMUS("sb", sb_rlx_0, sb_rlx_1, NULL, ab, "000 001 010 011"),
    LITMUS("sb_ra", sb_ra_0, sb_ra_1, NULL, ab, "000 001 010 011"),
    LITMUS("sb_sc", sb_sc_0, sb_sc_1, NULL, ab, "001 010 011"),
    LITMUS("sb_fences", sb_fence_0, sb_fence_1, NULL, ab, "001 010 011"),
    LITMUS("sb_weak_fence", sb_weak_0, sb_fence_1, NULL, ab, "000 001 010 011"),
    LITMUS("sb_swap", sb_swap_0, sb_swap_1, NULL, ab, "000 001 010 011"),
    LITMUS("sb_half", sb_sc_0, sb_half_1, NULL, ab, "000 001 010 011"),
    LITMUS("sb_mixed", mixed_0, mixed_1, NULL, ab, "001 010 011"),
    LITMUS("sb_late", late_0, sb_fence_1, NULL, ab, "000 001 010 011"),
    LITMUS("mp", mp_rlx_0, mp_rlx_1, NULL, ab, "000 001 010 011"),
    LITMUS("mp_ra", mp_rel_0, mp_acq_1, NULL, ab, "000 001 011"),
    LITMUS("mp_release", mp_rel_0, mp_rlx_1, NULL, ab, "000 001 010 011"),
    LITMUS("mp_acquire", mp_rlx_0, mp_acq_1, NULL, ab, "000 001 010 011"),
    LITMUS("mp_fences", mp_fence_0, mp_fence_1, NULL, ab, "000 001 011"),
    LITMUS("mp_fence", mp_fence_0, mp_rlx_1, NULL, ab, "000 001 010 011"),
    LITMUS("mp_sequence", mp_rel_0, mp_acq_1, litmus_mp_add_2, ab,
	"000 001 010 011 021"),
    LITMUS("mp_no_sequence", mp_rel_0, mp_acq_1, litmus_mp_set_2, ab,
	"000 001 011 020 021"),
    LITMUS("corr", corr_0, corr_1, NULL, ab, "000 001 002 011 012 022"),
    LITMUS("wrc", wrc_0, wrc_rlx_1, litmus_wrc_rlx_2, abc,
	"000 001 010 011 100 101 110 111"),
    LITMUS("wrc_ra", wrc_0, wrc_ra_1, litmus_wrc_ra_2, abc,
	"000 001 010 011 100 101 111"),
    LITMUS("load_buffer", lb_0, lb_1, NULL, ab, "000 001 010"),
    LITMUS("two_writes", two_writes_0, two_writes_1, NULL, axy, "012 021 022"),
    LITMUS("r_sc", r_sc_0, r_sc_1, NULL, axy, "011 111 112"),
    LITMUS("r_ra", r_ra_0, r_ra_1, NULL, axy, "011 012 111 112"),
    LITMUS("add", add_0, add_1, NULL, ab, "001 010"),
    LITMUS("compare", compare_0, compare_1, NULL, ab, "000 010 021"),
    {.name = NULL},
};
