/* SPDX-License-Identifier: MIT */
/*
 * uring_left.c - what the kernel still reads of connections that ended, and
 * what it may use of ours when a ring has failed.
 *
 * A connection that ends leaves its socket to the newest of the sends that it
 * awaited, the owner, and the last of them to be notified closes it:
 *
 *     conn --end--> owner (socket), other, other    each holds its buffers
 *                     |  notified: another one is the owner
 *                     v  or none is left: closed
 *
 * The bytes are still due to the peer, which may be slow.  But one that takes
 * none of them, and keeps answering, would have the kernel ask for ever, and
 * hold a socket and buffers here that no connection stands for.  So the rules
 * of patience.c hold on: who takes nothing for stall_ms, LEFT_NS at most, is
 * reset, which makes the kernel let go; and while others wait for memory that
 * is PATIENCE_STALL_PRESSURE_NS, and hold_bytes in hold_ms are asked for.  So
 * it is, at once, with those that are left when a loop has used up its time to
 * stop.
 *
 * A ring that failed tells nothing by itself any more.  What can be is settled
 * on the loop's thread before it ends: receives are cancelled, sockets reset,
 * and notifications waited for.  A buffer of which it is not known then that
 * the kernel is done with it must never be anybody else's, whose bytes would go
 * to the wrong peer, or be overwritten.  It stays the kernel's for good, is
 * counted, and nobody pays for it; and its pool is not destroyed (net.c).
 *
 * Invariants:
 *  L1  Of the sends that an ended connection left one has left.fd, and the
 *      others name it as their owner; or none has, and the socket was reset.
 *  L2  A buffer of this file is released after its notification only.
 */
#include "net/uring_zero.h"

#include "base/bits.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>

#include <weir/buffer_limit.h>

/* Between two looks at what is left. */
#define LEFT_TICK_NS (250 * WEIRI_MS)

/* As long a peer may take nothing where stall_ms is longer, or for ever: there
 * is nobody any more who would mind. */
#define LEFT_NS (30000 * WEIRI_MS)

/* left.bytes, before the first answer. */
#define LEFT_UNASKED INT_MAX

/* How long a failed ring is waited for, and at a time. */
#define LEFT_SALVAGE_NS (1000 * WEIRI_MS)
#define LEFT_SALVAGE_STEP_NS (10 * WEIRI_MS)

/* Rings that failed with buffers: they stay, and so do those. */
static struct uring *left_lost; /* atomic */

/* ---- the owner of a socket ------------------------------------------------
 * */

/* Those who name @owner name @heir from now on; or, if that is NULL, the first
 * of them, which is returned: NULL, there are none. */
static struct uring_zero *
left_hand_over(struct uring *uring, const struct uring_zero *owner,
    struct uring_zero *heir)
{
	WEIRI_LIST_FOR(node, &uring->zero[owner->list])
	{
		struct uring_zero *zero =
		    WEIRI_CONTAINER_OF(node, struct uring_zero, link);
		if (zero->owner != owner)
			continue;
		zero->owner = heir;
		if (heir == NULL)
			heir = zero;
	}
	return heir;
}

void
weiri_uring_left_notified(struct weir_loop *loop, struct uring_zero *owner)
{
	struct uring_zero *heir =
	    left_hand_over(weiri_uring_of(loop), owner, NULL);

	if (heir != NULL)
		heir->left = owner->left;
	else
		weiri_uring_close(loop, owner->left.fd, false);
	owner->left.fd = -1;
}

/* False: not now, the queue is full. */
static bool
left_reset(struct weir_loop *loop, struct uring_zero *owner)
{
	struct uring *uring = weiri_uring_of(loop);

	if (!weiri_uring_reset(loop, owner->left.fd))
		return false;
	owner->left.fd = -1;
	WEIRI_LIST_FOR(node, &uring->zero[owner->list])
	{
		struct uring_zero *zero =
		    WEIRI_CONTAINER_OF(node, struct uring_zero, link);
		if (zero->owner == owner)
			zero->owner = NULL;
	}
	return true;
}

/* ---- patience
 * ---------------------------------------------------------------- */

/* Has the peer had its time? */
static bool
left_is_over(struct weir_loop *loop, struct uring_left *left)
{
	const struct weir_net *net = loop->net;
	uint64_t limit_ns = weiri_min(weiri_patience_ns(loop), LEFT_NS);
	int bytes = weiri_uring_unacknowledged(loop, left->fd);

	if (bytes < 0 && bytes != -EBUSY)
		return true; /* there is nobody to take anything */
	if (bytes >= 0 && left->bytes == LEFT_UNASKED)
		left->bytes = left->period_bytes = bytes;
	if (bytes >= 0 && bytes < left->bytes) {
		left->bytes = bytes;
		left->moved_ns = loop->now_ns;
	}
	if (loop->now_ns - left->moved_ns >= limit_ns)
		return true;
	if (!weiri_net_is_short(loop) || left->bytes == LEFT_UNASKED ||
	    loop->now_ns - left->period_ns < net->hold_ns)
		return false;
	if ((uint32_t)(left->period_bytes - left->bytes) <
	    net->config.hold_bytes)
		return true;
	left->period_bytes = left->bytes;
	left->period_ns = loop->now_ns;
	return false;
}

/* Resets those that are over, or all; returns how many stay. */
static uint64_t
left_end(struct weir_loop *loop, bool all)
{
	struct uring *uring = weiri_uring_of(loop);
	uint64_t stay = 0;

	for (size_t i = 0; i < URING_ZERO_LISTS; i++)
		WEIRI_LIST_FOR(node, &uring->zero[i])
		{
			struct uring_zero *zero =
			    WEIRI_CONTAINER_OF(node, struct uring_zero, link);
			if (zero->left.fd == -1)
				continue;
			if ((all || left_is_over(loop, &zero->left)) &&
			    left_reset(loop, zero))
				WEIRI_COUNT(loop, zero_copies_reset, 1);
			else
				stay++;
		}
	return stay;
}

static void
left_tick(struct weir_loop *loop, struct weir_timer *timer)
{
	if (left_end(loop, false) > 0)
		weir_timer_start(loop, timer, LEFT_TICK_NS);
}

/* ---- ends
 * -------------------------------------------------------------------- */

/* The newest that @conn awaits; all of them are nobody's now. */
static struct uring_zero *
left_take(struct uring *uring, const struct weir_conn *conn)
{
	struct weiri_list *list = &uring->zero[weiri_uring_zero_list(conn)];
	struct uring_zero *owner = NULL;

	for (struct weiri_list *node = list->prev; node != list;
	     node = node->prev) {
		struct uring_zero *zero =
		    WEIRI_CONTAINER_OF(node, struct uring_zero, link);
		if (zero->conn != conn)
			continue;
		zero->conn = NULL;
		zero->owner = owner;
		if (owner == NULL)
			owner = zero;
	}
	WEIR_ASSERT(owner != NULL);
	return owner;
}

void
weiri_uring_zero_leave(struct weir_conn *conn)
{
	struct weir_loop *loop = conn->loop;
	struct uring *uring = weiri_uring_of(loop);
	bool abort = (conn->flags & WEIRI_CONN_ABORT) != 0;
	struct uring_zero *owner = left_take(uring, conn);

	owner->left = (struct uring_left){
	    .fd = conn->fd,
	    .bytes = LEFT_UNASKED,
	    .period_ns = loop->now_ns,
	    /* The tick tries again what a full queue does not take. */
	    .moved_ns = abort ? 0 : loop->now_ns,
	};
	if (abort && left_reset(loop, owner))
		return;
	/* The peer may wait for the end.  It comes with the close if not now.
	 * */
	if (!abort)
		(void)weiri_uring_shutdown(loop, conn->fd);
	uring->left_timer.expired = left_tick;
	if (uring->left_timer.due_ns == 0)
		weir_timer_start(loop, &uring->left_timer, LEFT_TICK_NS);
}

bool
weiri_uring_zero_over(struct weir_loop *loop)
{
	if (weiri_uring_of(loop)->zeros == 0)
		return true;
	if (loop->grace_timer.due_ns == 0)
		(void)left_end(loop, true);
	return false;
}

/* ---- a ring that failed
 * -------------------------------------------------------- */

/* Of all that it says, what the buffers wait for. */
static void
left_listen(struct weir_loop *loop)
{
	struct weiri_ring *ring = &weiri_uring_of(loop)->ring;
	const struct io_uring_cqe *cqe;

	while ((cqe = weiri_ring_completion(ring, 0)) != NULL) {
		if ((cqe->user_data & URING_TAGS) == URING_TAG_ZERO)
			weiri_uring_zero_notified(loop, cqe);
		weiri_ring_seen(ring);
	}
}

/* What was not submitted before is not to be now: whom it names is gone. */
static void
left_withdraw(struct uring *uring)
{
	struct weiri_ring *ring = &uring->ring;
	uint32_t count = weiri_ring_pending(ring);

	for (uint32_t i = 1; i <= count; i++) {
		const struct io_uring_sqe *entry =
		    &ring->sqes[(ring->sq_tail - i) & ring->sq_mask];
		if (entry->opcode == IORING_OP_RECV &&
		    entry->flags & IOSQE_BUFFER_SELECT)
			uring->supply[entry->buf_group].armed--;
	}
	weiri_ring_withdraw(ring, count);
}

void
weiri_uring_salvage(struct weir_loop *loop)
{
	struct uring *uring = weiri_uring_of(loop);
	struct weiri_ring *ring = &uring->ring;
	uint64_t end_ns = weiri_os_now_ns() + LEFT_SALVAGE_NS;

	left_withdraw(uring);
	/* A receive has its socket stay open, be that closed. */
	if (weiri_ring_cancel_all(ring) == 0)
		for (int i = 0; i < URING_GROUPS; i++)
			uring->supply[i].armed = 0;
	(void)left_end(loop, true);
	(void)weiri_ring_submit(ring);
	do
		left_listen(loop);
	while (uring->zeros > 0 && weiri_os_now_ns() < end_ns &&
	       weiri_ring_listen(ring, LEFT_SALVAGE_STEP_NS) == 0);
}

/* It has a reference that nobody releases, and nobody pays for. */
static void
left_lose(struct weir_buffer *buffer)
{
	bool free_of_charge = weir_buffer_set_account(buffer, NULL);

	WEIR_ASSERT(free_of_charge);
	(void)free_of_charge;
}

static uint64_t
left_lose_sends(struct uring *uring)
{
	uint64_t count = 0;

	for (size_t i = 0; i < URING_ZERO_LISTS; i++)
		WEIRI_LIST_FOR(node, &uring->zero[i])
		{
			struct uring_zero *zero =
			    WEIRI_CONTAINER_OF(node, struct uring_zero, link);
			for (uint16_t k = 0; k < zero->count; k++)
				left_lose(zero->slice[k].buffer);
			count += zero->count;
		}
	return count;
}

/* Those that a receive may pick still, and the ring it would find them by. */
static uint64_t
left_lose_supply(const struct weiri_supply *supply)
{
	for (uint16_t id = 0; id < supply->entries; id++)
		if (supply->buffers[id] != NULL)
			left_lose(supply->buffers[id]);
	return supply->published;
}

void
weiri_uring_free(struct weir_loop *loop)
{
	struct uring *uring = weiri_uring_of(loop);
	uint64_t lost = left_lose_sends(uring);
	bool stays = lost > 0;

	for (int i = 0; i < URING_GROUPS; i++) {
		struct weiri_supply *supply = &uring->supply[i];
		if (supply->armed == 0 || supply->shared == NULL) {
			weiri_supply_close(supply);
		} else {
			lost += left_lose_supply(supply);
			stays = true;
		}
	}
	WEIRI_LIST_FOR_SAFE(node, &uring->zero_spare)
	{
		free(WEIRI_CONTAINER_OF(node, struct uring_zero, link));
	}
	weiri_list_init(&uring->zero_spare);
	if (!stays) {
		free(uring);
		return;
	}
	if (lost > 0)
		weiri_net_lose(loop, lost);
	uring->next_lost = __atomic_load_n(&left_lost, __ATOMIC_RELAXED);
	/* Nobody reads them; a leak checker finds them. */
	while (!__atomic_compare_exchange_n(&left_lost, &uring->next_lost,
	    uring, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
}
