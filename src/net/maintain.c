/* SPDX-License-Identifier: MIT */
/*
 * maintain.c - idle memory of a loop goes back to the system.
 *
 * A burst leaves its peak behind: in the loop's thread, in the stocks of the
 * pools, in the page supply.  weir_maintain() gives back what nobody needed for a
 * while (decay_ms), a little at a time; a loop calls it by itself, since a server
 * that is quiet has nobody else who would.  Each loop does, because what lies with
 * its thread only that can give.
 *
 * A loop without traffic sleeps, and is not to be woken ten times a second for
 * ever.  So the timer ends when nothing was received, sent, accepted or closed
 * for longer than decay takes, and the first pass with traffic starts it again.
 * A program that wants nothing given back says so by decay_ms (weir/runtime.h).
 */
#include "net/backend.h"

#include "config/config.h"

#include <weir/runtime.h>

#define MAINTAIN_TICK_NS (100 * WEIRI_MS)

/* A pass that could not end is taken up again soon: what a thousand slow readers
 * left is gone within ten seconds, at 5 % of a processor, and no packet waits for
 * more than a step and half a millisecond. */
#define MAINTAIN_BUDGET_NS (WEIRI_MS / 2)
#define MAINTAIN_MORE_NS (10 * WEIRI_MS)

/* Grows with all that takes memory or gives it back. */
static uint64_t
maintain_traffic(const struct weir_loop *loop)
{
	const struct weiri_net_counters *counters = &loop->counters;

	/* What was accepted and is not there any more has ended. */
	return counters->receives + counters->sends + 2 * counters->accepted -
	       counters->connections;
}

/* Is everything gone that can go, given how long nothing happened? */
static bool
maintain_is_over(const struct weir_loop *loop)
{
	uint64_t decay_ms = WEIRI_LOAD(&weiri_config()->decay_ms);
	uint64_t quiet_ms = (loop->now_ns - loop->traffic_ns) / WEIRI_MS;

	if (decay_ms == WEIR_DECAY_NEVER || decay_ms == WEIR_DECAY_AT_ONCE)
		return true;
	return quiet_ms / 2 >= decay_ms;
}

void
weiri_maintain_tick(struct weir_loop *loop, struct weir_timer *timer)
{
	uint64_t traffic = maintain_traffic(loop);
	bool more;

	if (loop->backend->maintain != NULL)
		loop->backend->maintain(loop);
	more = weir_maintain(MAINTAIN_BUDGET_NS);
	if (traffic != loop->traffic) {
		loop->traffic = traffic;
		loop->traffic_ns = loop->now_ns;
	} else if (!more && maintain_is_over(loop)) {
		return;
	}
	weir_timer_start(
	    loop, timer, more ? MAINTAIN_MORE_NS : MAINTAIN_TICK_NS);
}

void
weiri_maintain_wake(struct weir_loop *loop)
{
	uint64_t traffic = maintain_traffic(loop);

	if (traffic == loop->traffic)
		return;
	loop->traffic = traffic;
	loop->traffic_ns = loop->now_ns;
	weir_timer_start(loop, &loop->maintain_timer, MAINTAIN_TICK_NS);
}
