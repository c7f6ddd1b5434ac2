/* SPDX-License-Identifier: MIT */
/*
 * timer.c - a loop's timers: a pairing heap in the callers' storage.
 *
 * A heap of nodes needs no memory of its own, so starting a timer cannot fail.
 * Of those, the pairing heap has the shortest code and O(1) insertion, and
 * most timers of a server (time-outs) are stopped before they expire.
 *
 * A node's children form a list: `internal_child` is the first,
 * `internal_next` the next sibling, `internal_back` the previous sibling or,
 * for a first child, the parent.
 *
 * Invariants: due_ns is 0 if and only if the node is in no heap; no child is
 * due before its parent.
 */
#include "net/engine.h"

static struct weir_timer *
timer_merge(struct weir_timer *a, struct weir_timer *b)
{
	if (a == NULL || b == NULL)
		return a != NULL ? a : b;
	if (b->due_ns < a->due_ns) {
		struct weir_timer *swap = a;
		a = b;
		b = swap;
	}
	b->internal_next = a->internal_child;
	if (b->internal_next != NULL)
		b->internal_next->internal_back = b;
	b->internal_back = a;
	a->internal_child = b;
	return a;
}

static struct weir_timer *
timer_cut(struct weir_timer *timer)
{
	if (timer != NULL)
		timer->internal_next = timer->internal_back = NULL;
	return timer;
}

/* One heap of a list of siblings: in pairs from the front, then all pairs
 * from the back, which is what bounds the cost. */
static struct weir_timer *
timer_merge_list(struct weir_timer *list)
{
	struct weir_timer *pairs = NULL;
	struct weir_timer *root = NULL;

	while (list != NULL) {
		struct weir_timer *a = list;
		struct weir_timer *b = a->internal_next;
		list = b != NULL ? b->internal_next : NULL;
		struct weir_timer *pair =
		    timer_merge(timer_cut(a), timer_cut(b));
		pair->internal_next = pairs;
		pairs = pair;
	}
	while (pairs != NULL) {
		struct weir_timer *rest = pairs->internal_next;
		root = timer_merge(root, timer_cut(pairs));
		pairs = rest;
	}
	return root;
}

void
weir_timer_stop(struct weir_loop *loop, struct weir_timer *timer)
{
	struct weir_timer *back = timer->internal_back;
	struct weir_timer *next = timer->internal_next;

	if (timer->due_ns == 0)
		return;
	struct weir_timer *below = timer_merge_list(timer->internal_child);
	timer->internal_child = NULL;
	if (back == NULL) {
		WEIR_ASSERT(loop->timers == timer && next == NULL);
		loop->timers = below;
	} else {
		if (back->internal_child == timer)
			back->internal_child = next;
		else
			back->internal_next = next;
		if (next != NULL)
			next->internal_back = back;
		loop->timers = timer_merge(loop->timers, below);
	}
	timer_cut(timer);
	timer->due_ns = 0;
}

void
weir_timer_start(
    struct weir_loop *loop, struct weir_timer *timer, uint64_t delay_ns)
{
	weir_timer_stop(loop, timer);
	/* Nobody else keeps the clock of a loop that does not run. */
	if (!loop->running)
		loop->now_ns = weiri_os_now_ns();
	/* Later than now, so that a timer which starts itself anew waits for
	 * another pass; a time past the end of the clock is its end. */
	if (delay_ns == 0)
		delay_ns = 1;
	timer->due_ns = delay_ns < UINT64_MAX - loop->now_ns
			    ? loop->now_ns + delay_ns
			    : UINT64_MAX;
	loop->timers = timer_merge(loop->timers, timer);
}

void
weiri_timers_run(struct weir_loop *loop)
{
	while (loop->timers != NULL && loop->timers->due_ns <= loop->now_ns) {
		struct weir_timer *timer = loop->timers;
		weir_timer_stop(loop, timer);
		timer->expired(loop, timer);
	}
}
