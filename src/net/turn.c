/* SPDX-License-Identifier: MIT */
/*
 * turn.c - one queue for buffers over all loops.
 *
 * Memory is the engine's, and so is the order of those who wait for it: each
 * takes a number when it begins to wait, and while anybody waits nobody who needs
 * a buffer receives outside the queue.  Connections are their loop's alone, so
 * the queue is kept in parts, a list for each loop in the order of the numbers,
 * whose first number others may read.  The loop that has the lowest is served;
 * whoever ends a pass while others wait wakes it, since the pass may have given
 * buffers back.
 *
 * A loop that is not served may use the buffer it has in reserve, which is
 * nobody else's (loop.c).  Where there is none, one that does not come for its
 * turn within TURN_LATE_NS, because a handler blocks, is passed over.
 *
 * Numbers wrap; they are compared by their distance.
 */
#include "net/backend.h"

/* More than a loop's pass should take on any machine. */
#define TURN_LATE_NS (2000 * WEIRI_MS)

#define TURN_WAITS (UINT64_C(1) << 32) /* beside a number */

void
weiri_turn_note(struct weir_loop *loop)
{
	uint64_t first = 0;

	if (!weiri_list_empty(&loop->starved))
		first = TURN_WAITS | WEIRI_CONTAINER_OF(loop->starved.next,
					 struct weir_conn, waiting)
					 ->turn;
	WEIRI_STORE(&loop->first_turn, first);
}

uint32_t
weiri_turn_take(struct weir_net *net)
{
	return __atomic_add_fetch(&net->turn, 1, __ATOMIC_RELAXED);
}

/* Under net->lock; NULL: nobody waits. */
static struct weir_loop *
turn_oldest(struct weir_net *net, uint32_t *turn)
{
	struct weir_loop *oldest = NULL;

	WEIRI_LIST_FOR(node, &net->loops)
	{
		struct weir_loop *loop =
		    WEIRI_CONTAINER_OF(node, struct weir_loop, link);
		uint64_t first = WEIRI_LOAD(&loop->first_turn);
		if (first == 0 ||
		    (oldest != NULL && (int32_t)((uint32_t)first - *turn) >= 0))
			continue;
		oldest = loop;
		*turn = (uint32_t)first;
	}
	return oldest;
}

static bool
turn_others_wait(const struct weir_loop *loop)
{
	return WEIRI_LOAD(&loop->net->starving) > loop->counters.starved_now;
}

bool
weiri_turn_is_ours(struct weir_loop *loop)
{
	struct weir_net *net = loop->net;
	const struct weir_loop *oldest;
	uint32_t turn = 0;

	__atomic_store_n(&loop->called, false, __ATOMIC_RELAXED);
	if (!turn_others_wait(loop))
		return true;
	weiri_mutex_lock(&net->lock);
	oldest = turn_oldest(net, &turn);
	weiri_mutex_unlock(&net->lock);
	if (oldest == NULL || oldest == loop)
		return true;
	if (loop->behind_ns == 0 || loop->behind_turn != turn) {
		loop->behind_turn = turn;
		loop->behind_ns = loop->now_ns;
	}
	return loop->now_ns - loop->behind_ns >= TURN_LATE_NS;
}

void
weiri_turn_call(struct weir_loop *loop)
{
	struct weir_net *net = loop->net;
	struct weir_loop *oldest;
	uint32_t turn = 0;

	if (!turn_others_wait(loop))
		return;
	weiri_mutex_lock(&net->lock);
	oldest = turn_oldest(net, &turn);
	/* Once until it comes. */
	if (oldest != NULL && oldest != loop &&
	    !__atomic_exchange_n(&oldest->called, true, __ATOMIC_RELAXED))
		oldest->backend->wake(oldest);
	weiri_mutex_unlock(&net->lock);
}
