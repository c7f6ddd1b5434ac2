/* SPDX-License-Identifier: MIT */
/*
 * buffer_reserve.c - buffers set apart, so that a pool that is full can still send.
 *
 * The reserve is a list of buffers that left the depot for good, as held by
 * callers for all limits.  A sender that is refused takes one, and the next
 * buffer of the tier that is released takes its place, before anybody is served.
 *
 * Buffers, and not a part of the limit that others may not touch: a limit is a
 * number, and the memory behind it may be gone when it is needed.
 *
 * Invariant: of each tier, those in the list and `missing` are `reserve`; both
 * change under the tier's lock.
 */
#include "base/bits.h"
#include "pools/buffer.h"

#include <errno.h>

struct weir_buffer *
weiri_gate_take_reserved(struct weiri_buffer_tier *tier)
{
	struct weiri_gate_tier *gate = &tier->gate;
	struct weir_buffer *buffer;

	if (gate->reserve == 0)
		return NULL;
	weiri_mutex_lock(&tier->lock);
	buffer = gate->reserved;
	if (buffer != NULL) {
		gate->reserved = buffer->user;
		WEIRI_STORE(&gate->missing, gate->missing + 1);
	}
	weiri_mutex_unlock(&tier->lock);
	return buffer;
}

/* Locked. */
static void
reserve_push(struct weiri_gate_tier *gate, struct weir_buffer *buffer)
{
	WEIRI_STORE(&buffer->user, gate->reserved);
	gate->reserved = buffer;
	WEIRI_STORE(&gate->missing, gate->missing - 1);
}

bool
weiri_gate_put_reserved(
    struct weiri_buffer_tier *tier, struct weir_buffer *buffer)
{
	bool missing;

	if (WEIR_LIKELY(WEIRI_LOAD(&tier->gate.missing) == 0))
		return false;
	weiri_mutex_lock(&tier->lock);
	missing = tier->gate.missing > 0;
	if (missing)
		reserve_push(&tier->gate, buffer);
	weiri_mutex_unlock(&tier->lock);
	return missing;
}

uint64_t
weiri_gate_reserved(struct weiri_buffer_tier *tier)
{
	return tier->gate.reserve - WEIRI_LOAD(&tier->gate.missing);
}

int
weiri_gate_fill(
    struct weir_buffer_pool *pool, const struct weir_buffer_pool_config *config)
{
	for (uint32_t i = 0; i < pool->tier_count; i++) {
		struct weiri_buffer_tier *tier = &pool->tier[i];
		struct weiri_gate_tier *gate = &tier->gate;

		gate->reserve = gate->missing = config->tier[i].reserve;
		while (gate->missing > 0) {
			struct weir_buffer *buffer =
			    weiri_depot_get(&tier->depot);

			if (buffer == NULL)
				return -ENOMEM;
			pool->held_bytes +=
			    pool->limit_bytes == WEIRI_BUFFER_NO_LIMIT
				? 0
				: tier->bytes;
			reserve_push(gate, buffer);
		}
	}
	return 0;
}

void
weiri_gate_empty(struct weir_buffer_pool *pool)
{
	weiri_gate_settle(pool);
	for (uint32_t i = 0; i < pool->tier_count; i++) {
		struct weiri_buffer_tier *tier = &pool->tier[i];
		struct weir_buffer *buffer;

		while ((buffer = tier->gate.reserved) != NULL) {
			tier->gate.reserved = buffer->user;
			if ((pool->flags & WEIRI_BUFFER_CHARGED) != 0)
				pool->held_bytes -= tier->bytes;
			weiri_depot_put(&tier->depot, buffer);
		}
		tier->gate.reserve = tier->gate.missing = 0;
	}
}
