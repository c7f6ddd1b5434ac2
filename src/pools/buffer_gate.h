/* SPDX-License-Identifier: MIT */
/*
 * buffer_gate.h - where requests wait that a buffer pool has nothing for.
 */
#ifndef WEIRI_BUFFER_GATE_H
#define WEIRI_BUFFER_GATE_H

#include "base/list.h"
#include "slab/wait.h"

#include <weir/buffer_limit.h>

struct weiri_buffer_tier;

/* In each tier.  The reserve is a list through weir_buffer.user. */
struct weiri_gate_tier {
	uint32_t reserve;             /* buffers set apart; fixed */
	uint32_t missing;             /* of them, with a sender; racing reads */
	struct weir_buffer *reserved; /* under the tier's lock */
	uint64_t
	    rescued; /* requests the depot refused and the reserve served */
	/* Of a pool that waits: calls, and those that got NULL. */
	uint64_t requests, failures;
	uint64_t waits, timeouts, waiting, turns_max; /* under the lock */
	uint64_t turns; /* requests served, for turns_max */
};

/* In each pool. */
struct weiri_gate {
	enum weir_limit_policy policy;
	uint64_t timeout_ns;
	weir_buffer_notify_fn notify;
	void *notify_context;
	uint32_t told_due; /* limit_bytes refused one who wants to be told */
	/* Under the lock of all gates: */
	struct weiri_list pools;                     /* those with waiters */
	struct weiri_list waiters[WEIR_BUFFER_USES]; /* oldest first */
	uint32_t waiting;
	/* What the walk under way found closed. */
	uint32_t closed_tiers;
	bool closed_bytes;
	bool short_of_memory; /* a waiter looks again by itself */
};

/* Between what was written and who is looked for.  ThreadSanitizer of gcc does not
 * know fences: see wait.c. */
WEIRI_INLINE void
weiri_gate_fence(void)
{
#if defined(__SANITIZE_THREAD__)
	static uint32_t word;

	(void)__atomic_fetch_add(&word, 0, __ATOMIC_SEQ_CST);
#else
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
#endif
}

/* Waiters of all pools; read by every release that may be one's turn. */
extern uint32_t weiri_gate_attention;

/* Before the pool's tiers are made; true: its buffers need BUFFER_GATED. */
bool weiri_gate_init(struct weir_buffer_pool *pool,
    const struct weir_buffer_pool_config *config);

/* Before a pool ends: nobody is about to leave it any more. */
void weiri_gate_settle(struct weir_buffer_pool *pool);

/* For the depots of its tiers. */
struct weiri_wait_config weiri_gate_wait_config(
    const struct weir_buffer_pool_config *config);

/* Sets the reserves apart, or lets them go; 0 or -ENOMEM. */
int weiri_gate_fill(struct weir_buffer_pool *pool,
    const struct weir_buffer_pool_config *config);
void weiri_gate_empty(struct weir_buffer_pool *pool);

/* A request to a pool with BUFFER_GATED. */
struct weir_buffer *weiri_gate_acquire(
    struct weiri_buffer_tier *tier, const struct weir_buffer_want *want);

/* A reserved buffer, charged to the pool but not to its account, or NULL. */
struct weir_buffer *weiri_gate_take_reserved(struct weiri_buffer_tier *tier);

/* True: the buffer, still charged to the pool, is in the reserve now. */
bool weiri_gate_put_reserved(
    struct weiri_buffer_tier *tier, struct weir_buffer *buffer);

/* Buffers of the tier in the reserve. */
uint64_t weiri_gate_reserved(struct weiri_buffer_tier *tier);

/* After something was given back, or a limit raised: serves whose turn it is. */
void weiri_gate_look(void);

/* The same after a release in a pool with BUFFER_GATED, which may want to be
 * told instead. */
void weiri_gate_freed(struct weiri_buffer_tier *tier);

/* limit_bytes refused a request of a pool that notifies. */
void weiri_gate_note_due(struct weiri_buffer_tier *tier);

/* Before a fault, whose hook may leave by longjmp(). */
WEIRI_COLD void weiri_gate_abandon(void);

#endif /* WEIRI_BUFFER_GATE_H */
