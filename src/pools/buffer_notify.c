/* SPDX-License-Identifier: MIT */
/*
 * buffer_notify.c - telling the program that a pool has room again.
 *
 * Notification is the depot's (wait.c) for what a tier refuses.  What limit_bytes
 * refuses marks the tier's depot, too, which asks gate_room() before it tells,
 * and the pool, so that releases in other tiers look at it.
 */
#include "base/bits.h"
#include "pools/buffer.h"

/* Of a tier's depot; no lock is held. */
static void
gate_notify(void *owner)
{
	struct weiri_buffer_tier *tier = owner;
	struct weiri_gate *gate = &tier->pool->gate;

	gate->notify(tier->pool, gate->notify_context);
}

/* Would limit_bytes, down to 7/8 or by one more buffer, allow another? */
static bool
gate_room(void *owner)
{
	struct weiri_buffer_tier *tier = owner;
	uint64_t limit = WEIRI_LOAD(&tier->pool->limit_bytes);
	uint64_t held = WEIRI_LOAD(&tier->pool->held_bytes);
	uint64_t least = weiri_max(limit / 8, tier->bytes);

	if (limit == WEIRI_BUFFER_NO_LIMIT)
		return true;
	/* The last one may need it all. */
	least = weiri_min(least, limit);
	return held <= limit - least && tier->bytes <= limit;
}

void
weiri_gate_note_due(struct weiri_buffer_tier *tier)
{
	weiri_wait_failed(&tier->depot);
	__atomic_store_n(&tier->pool->gate.told_due, 1, __ATOMIC_RELEASE);
	/* Pairs with the fence in weiri_gate_freed(). */
	weiri_gate_fence();
	weiri_wait_look(&tier->depot);
}

/* limit_bytes refused somebody; all tiers whose depots are marked look. */
static WEIRI_COLD void
gate_tell_all(struct weir_buffer_pool *pool)
{
	bool due = false;

	WEIRI_STORE(&pool->gate.told_due, 0);
	weiri_gate_fence();
	for (uint32_t i = 0; i < pool->tier_count; i++) {
		struct weiri_depot *depot = &pool->tier[i].depot;

		if (WEIRI_LOAD(&depot->wait.attention) == 0)
			continue;
		weiri_wait_look(depot);
		due |= WEIRI_LOAD(&depot->wait.attention) != 0;
	}
	if (due)
		WEIRI_STORE(&pool->gate.told_due, 1);
}

void
weiri_gate_freed(struct weiri_buffer_tier *tier)
{
	struct weir_buffer_pool *pool = tier->pool;

	if (pool->gate.policy != WEIR_LIMIT_NOTIFY) {
		weiri_gate_look();
		return;
	}
	weiri_wait_freed(&tier->depot); /* fences */
	if (WEIR_UNLIKELY(WEIRI_LOAD(&pool->gate.told_due) != 0))
		gate_tell_all(pool);
	/* An account may be what somebody in another pool waits for. */
	weiri_gate_look();
}

struct weiri_wait_config
weiri_gate_wait_config(const struct weir_buffer_pool_config *config)
{
	static const enum weiri_wait_policy policy[] = {
	    [WEIR_LIMIT_FAIL] = WEIRI_WAIT_FAIL,
	    [WEIR_LIMIT_WAIT] = WEIRI_WAIT_TURN,
	    [WEIR_LIMIT_NOTIFY] = WEIRI_WAIT_NOTIFY,
	};

	/* For the pockets of a depot that waits; no get of it ever does. */
	return (struct weiri_wait_config){
	    .policy = policy[config->policy],
	    .timeout_ns = 0,
	    .notify = gate_notify,
	    .room = gate_room,
	};
}
