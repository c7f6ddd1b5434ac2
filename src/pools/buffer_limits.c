/* SPDX-License-Identifier: MIT */
/*
 * buffer_limits.c - limits and stocks of a pool that is in use.
 *
 * A tier's limit counts buffers in being, so one below what there is cannot take
 * effect and is refused.  limit_bytes counts what callers hold and can: nothing
 * is handed out until enough came back.  A pool that was created without it does
 * not count, and what it handed out is not known any more.
 */
#include "base/bits.h"
#include "pools/buffer.h"
#include "slab/stock.h"

#include <errno.h>

int
weir_buffer_pool_set_limit_bytes(
    struct weir_buffer_pool *pool, uint64_t limit_bytes)
{
	uint64_t limit = weiri_buffer_limit(limit_bytes);

	if ((pool->flags & WEIRI_BUFFER_CHARGED) == 0)
		return -EINVAL;
	WEIRI_STORE(&pool->limit_bytes, limit);
	if (WEIRI_LOAD(&pool->held_bytes) > limit)
		pool->lowered = true;
	weiri_gate_freed(&pool->tier[0]);
	return 0;
}

int
weir_buffer_pool_set_tier_limit(
    struct weir_buffer_pool *pool, size_t tier, size_t limit)
{
	int error;

	if (tier >= pool->tier_count)
		return -EINVAL;
	weiri_buffer_guard_flush(&pool->tier[tier]);
	error = weiri_depot_set_limit(
	    &pool->tier[tier].depot, weiri_buffer_limit(limit));
	if (error == 0)
		weiri_gate_freed(&pool->tier[tier]);
	return error;
}

/* As many as there are, @count at most, linked through user; their number. */
static size_t
limits_take(
    struct weiri_buffer_tier *tier, size_t count, struct weir_buffer **taken)
{
	size_t made = 0;

	*taken = NULL;
	weiri_buffer_guard_flush(tier);
	while (made < count) {
		struct weir_buffer *buffer = weiri_depot_get(&tier->depot);

		if (buffer == NULL)
			break;
		for (size_t at = 0; at < buffer->bytes; at += WEIRI_PAGE)
			*(volatile unsigned char *)&buffer->data[at] =
			    buffer->data[at];
		WEIRI_STORE(&buffer->user, *taken);
		*taken = buffer;
		made++;
	}
	return made;
}

int
weir_buffer_pool_prepare(
    struct weir_buffer_pool *pool, size_t tier_index, size_t count)
{
	struct weiri_buffer_tier *tier = &pool->tier[tier_index];
	struct weir_buffer *taken;
	int error = 0;

	if (tier_index >= pool->tier_count)
		return -EINVAL;
	if (limits_take(tier, count, &taken) < count)
		error = weiri_stock_may_grow(&tier->depot) ? -ENOMEM : -ENOSPC;
	while (taken != NULL) {
		struct weir_buffer *next = taken->user;

		weiri_depot_put(&tier->depot, taken);
		taken = next;
	}
	if (error == 0) {
		weiri_mutex_lock(&tier->depot.lock);
		tier->depot.kept = weiri_max(tier->depot.kept, count);
		weiri_mutex_unlock(&tier->depot.lock);
	}
	if ((pool->flags & WEIRI_BUFFER_GATED) != 0)
		weiri_gate_freed(tier);
	return error;
}
