/* SPDX-License-Identifier: MIT */
/*
 * buffer_check.c - walks a quiet pool and tests B1 to B4, B6 of buffer_pool.c.
 *
 * The walk reaches the descriptors through the payload blocks of each tier, the
 * depot's own walk through its slabs, and the two must meet: a slab without a
 * block, or a held buffer the depot believes free, shows as a difference.
 */
#include "base/text.h"
#include "config/config.h"
#include "pools/buffer.h"

/* Tests B1 for one block; returns its descriptors with references. */
static bool
buffer_check_block(const struct weiri_buffer_tier *tier,
    const struct weiri_payload *payload, uint64_t *held)
{
	const struct weiri_slab *slab = payload->slab;

	if (slab->companion != payload || payload->tier != tier)
		return false;
	for (uint32_t i = 0; i < slab->carved; i++) {
		const struct weir_buffer *buffer = weiri_slab_address(slab, i);
		const unsigned char *data =
		    (const unsigned char *)payload->span.base +
		    (size_t)i * tier->stride;

		/* Given back with its page, and to be made again. */
		if (weiri_slab_is_voided(slab, buffer))
			continue;

		bool own =
		    buffer->data == data ||
		    (buffer->references > 0 && weiri_buffer_guard_has(buffer));

		if (!own || buffer->bytes != tier->bytes ||
		    buffer->tier != tier->index || buffer->pool != tier->pool)
			return false;
		if ((buffer->flags & WEIRI_BUFFER_SEAL_MASK) !=
		    WEIRI_BUFFER_SEAL)
			return false;
		/* B6, and N1 of buffer_kernel.c. */
		if ((buffer->kernel & WEIRI_KERNEL_COUNT) > buffer->references)
			return false;
		*held += buffer->references > 0;
	}
	return true;
}

/* NULL, or the first invariant of @tier that does not hold. */
static const char *
buffer_check_tier(struct weiri_buffer_tier *tier, uint64_t *held_bytes)
{
	struct weiri_depot_stats stats;
	const char *why = NULL;
	uint64_t held = 0, blocks = 0, bytes = 0;

	if (!weiri_depot_check(&tier->depot, &why))
		return why;
	weiri_depot_stats(&tier->depot, &stats);
	weiri_mutex_lock(&tier->lock);
	WEIRI_LIST_FOR(node, &tier->payloads)
	{
		const struct weiri_payload *payload =
		    WEIRI_CONTAINER_OF(node, struct weiri_payload, span.link);

		if (!buffer_check_block(tier, payload, &held))
			why = "B1: a descriptor was changed";
		bytes += payload->span.bytes;
		blocks++;
	}
	weiri_mutex_unlock(&tier->lock);
	held += weiri_gate_reserved(tier);
	*held_bytes += held * tier->bytes;
	held += tier->rest.count;
	if (why != NULL)
		return why;
	if (held != stats.in_use)
		return "B2: counts and depot disagree on what is in use";
	if (blocks != stats.slabs || bytes != tier->payload_bytes)
		return "B4: payload blocks do not match the slabs";
	return NULL;
}

static bool
buffer_check_failed(const char *name, const char *why)
{
	char line[160];
	struct weiri_text text = {line, sizeof(line), 0};

	weiri_text_str(&text, "buffer pool \"");
	weiri_text_str(&text, name);
	weiri_text_str(&text, "\": ");
	weiri_text_str(&text, why);
	weiri_message(WEIR_MESSAGE_ERROR, line);
	return false;
}

bool
weir_buffer_pool_check(struct weir_buffer_pool *pool)
{
	uint64_t held_bytes = 0;

	if (pool->state != WEIRI_BUFFER_POOL_LIVE)
		return buffer_check_failed("?", "is not a live pool");
	for (uint32_t i = 0; i < pool->tier_count; i++) {
		struct weiri_buffer_tier *tier = &pool->tier[i];
		const char *why = buffer_check_tier(tier, &held_bytes);

		if (why != NULL)
			return buffer_check_failed(tier->entry.name, why);
	}
	if ((pool->flags & WEIRI_BUFFER_CHARGED) == 0)
		return true;
	if (held_bytes != pool->held_bytes)
		return buffer_check_failed(
		    pool->name, "B3: held_bytes is not what is held");
	if (held_bytes > pool->limit_bytes && !pool->lowered)
		return buffer_check_failed(
		    pool->name, "B3: more is held than the limit allows");
	return true;
}
