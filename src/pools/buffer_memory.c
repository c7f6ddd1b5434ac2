/* SPDX-License-Identifier: MIT */
/*
 * buffer_memory.c - the memory of buffers: descriptors in slabs, payload beside.
 *
 * Each tier is a depot whose slots are descriptors of 64 bytes.  A slab of them
 * brings its payload along as one block of pages, and descriptor i owns part i
 * of it for as long as the slab lives:
 *
 *     slab of descriptors           payload block, <= 2 MiB, page-aligned
 *     +------+------+------+        +-----------+-----------+-----------+
 *     |  0   |  1   |  2   |        | payload 0 | payload 1 | payload 2 |
 *     +------+------+------+        +-----------+-----------+-----------+
 *        |data  |      |              ^           ^           ^
 *        +------|------|--------------+           |           |
 *               +------|--------------------------+           |
 *                      +--------------------------------------+
 *
 * Apart, because what a peer may overrun must not adjoin what the library
 * believes, payload aligned to pages can be given to the kernel as it is, and
 * a walk over counts does not drag payload through the cache.  The price is a
 * second line per packet.
 *
 * A walk from outside (buffer_watch.c) reaches the descriptors through the
 * tier's list of blocks, under its lock: a slab that is about to end takes its
 * block off that list first, so what the walk reads is there.  It reads slots
 * that may not have been carved yet, too, and believes those only that point at
 * their own part of the block, or
 * at an object of the guard's that is known by their address.
 */
#include "base/bits.h"
#include "pools/buffer.h"

#include <string.h>

/* A huge page's worth, and not more: one buffer held keeps its whole block. */
#define BUFFER_BLOCK_BYTES ((size_t)2 << 20)

/* Small buffers fill no 2 MiB: 64 KiB of descriptors are enough for a slab. */
#define BUFFER_SLAB_SLOTS_MAX ((size_t)1024)

/* Payload in a full magazine, of which a thread holds two at most.  Enough for
 * a pass over many connections to stay off the lock, and not more idle memory
 * per thread and tier than its second-level cache would hold. */
#define BUFFER_MAGAZINE_BYTES ((size_t)512 << 10)
#define BUFFER_ROUNDS_MIN ((size_t)8)

/* From here payload starts on a page, below on a line or its own size. */
#define BUFFER_PAGE_ALIGN_BYTES WEIRI_PAGE

/* ---- hooks of the depot ------------------------------------------------- */

size_t
weiri_buffer_align(size_t bytes)
{
	if (bytes >= BUFFER_PAGE_ALIGN_BYTES)
		return WEIRI_PAGE;
	if (bytes >= WEIRI_CACHE_LINE)
		return WEIRI_CACHE_LINE;
	return (size_t)1 << weiri_log2_floor(bytes);
}

size_t
weiri_buffer_block_bytes(const struct weiri_buffer_tier *tier, size_t slots)
{
	return weiri_round_up(slots * tier->stride, WEIRI_PAGE);
}

/* Gives back what other tiers keep idle when the pool's payload would pass
 * limit_bytes; best effort, buffers in loaded magazines stay. */
static void
buffer_make_room(struct weiri_buffer_tier *tier, size_t bytes)
{
	struct weir_buffer_pool *pool = tier->pool;
	uint64_t sum = bytes;

	/* While creating, what is idle was just asked for. */
	uint64_t limit = WEIRI_LOAD(&pool->limit_bytes);

	if (limit == WEIRI_BUFFER_NO_LIMIT || pool->prefault)
		return;
	for (uint32_t i = 0; i < pool->tier_count; i++)
		sum += WEIRI_LOAD(&pool->tier[i].payload_bytes);
	if (sum <= limit)
		return;
	for (uint32_t i = 0; i < pool->tier_count; i++)
		if (&pool->tier[i] != tier)
			weiri_depot_trim(&pool->tier[i].depot);
}

static bool
buffer_slab_open(struct weiri_slab *slab, void *owner)
{
	struct weiri_buffer_tier *tier = owner;
	size_t bytes = weiri_buffer_block_bytes(tier, slab->slot_count);

	buffer_make_room(tier, bytes);

	struct weiri_payload *payload = weiri_meta_need(sizeof(*payload));

	if (payload == NULL)
		return false;
	payload->span.kind = WEIRI_SPAN_PAYLOAD;
	payload->slab = slab;
	payload->tier = tier;
	payload->void_free = 0;
	if (weiri_span_alloc(&payload->span, bytes, WEIRI_PAGE) != 0) {
		weiri_meta_free(payload, sizeof(*payload));
		return false;
	}
	slab->companion = payload;
	weiri_mutex_lock(&tier->lock);
	weiri_list_append(&tier->payloads, &payload->span.link);
	WEIRI_BUMP(&tier->payload_bytes, payload->span.bytes);
	weiri_mutex_unlock(&tier->lock);
	return true;
}

static void
buffer_slab_close(struct weiri_slab *slab, void *owner)
{
	struct weiri_buffer_tier *tier = owner;
	struct weiri_payload *payload = slab->companion;

	weiri_mutex_lock(&tier->lock);
	weiri_list_remove(&payload->span.link);
	WEIRI_BUMP(&tier->payload_bytes, -payload->span.bytes);
	weiri_mutex_unlock(&tier->lock);
	weiri_span_free(&payload->span);
	weiri_meta_free(payload, sizeof(*payload));
}

/* Atomic where others may look at a slot that is just being made. */
static void
buffer_slot_init(struct weiri_slab *slab, void *slot, void *owner)
{
	struct weiri_buffer_tier *tier = owner;
	const struct weiri_payload *payload = slab->companion;
	struct weir_buffer *buffer = slot;
	unsigned char *data = (unsigned char *)payload->span.base +
			      weiri_slab_slot(slab, slot) * tier->stride;

	WEIRI_STORE(&buffer->references, 0);
	WEIRI_STORE(&buffer->flags, WEIRI_BUFFER_SEAL);
	WEIRI_STORE(&buffer->data, data);
	buffer->bytes = tier->bytes;
	buffer->tier = (uint16_t)tier->index;
	WEIRI_STORE(&buffer->kernel, 0);
	buffer->pool = tier->pool;
	WEIRI_STORE(&buffer->user, NULL);
	WEIRI_STORE(&buffer->history, 0);
	WEIRI_STORE(&buffer->internal[0], 0);
	WEIRI_STORE(&buffer->internal[1], 0);
	if (tier->pool->prefault)
		for (size_t at = 0; at < tier->bytes; at += WEIRI_PAGE)
			*(volatile unsigned char *)&data[at] = 0;
}

static bool
buffer_maintain(void *owner, uint32_t step)
{
	return weiri_buffer_maintain(owner, step);
}

const struct weiri_depot_hooks weiri_buffer_hooks = {
    .slab_open = buffer_slab_open,
    .slab_close = buffer_slab_close,
    .slot_init = buffer_slot_init,
    .slot_again = buffer_slot_init,
    .maintain = buffer_maintain,
};

/* ---- tiers --------------------------------------------------------------- */

/* How many descriptors a slab has: a block's worth, and not more than the
 * limits can ever use. */
static size_t
buffer_slab_slots(const struct weiri_buffer_tier *tier, uint64_t limit)
{
	size_t slots = BUFFER_BLOCK_BYTES / tier->stride;

	slots = weiri_min(slots, BUFFER_SLAB_SLOTS_MAX);
	slots = weiri_min(slots, limit);
	slots = weiri_min(slots, tier->pool->limit_bytes / tier->bytes);
	return weiri_max(slots, 1);
}

int
weiri_buffer_tier_init(struct weir_buffer_pool *pool, uint32_t index,
    const struct weir_buffer_pool_config *pool_config)
{
	const struct weir_buffer_tier *config = &pool_config->tier[index];
	struct weiri_wait_config wait = weiri_gate_wait_config(pool_config);
	struct weiri_buffer_tier *tier = &pool->tier[index];
	uint64_t limit = weiri_buffer_limit(config->limit);

	tier->pool = pool;
	tier->index = index;
	tier->bytes = config->bytes;
	tier->stride = (uint32_t)weiri_round_up(
	    config->bytes, weiri_buffer_align(config->bytes));
	tier->slab_slots = (uint32_t)buffer_slab_slots(tier, limit);
	weiri_list_init(&tier->payloads);

	size_t slab_bytes = (size_t)1 << weiri_log2_ceil(
				tier->slab_slots * sizeof(struct weir_buffer));
	struct weiri_depot_config depot = {
	    .kind = "buffer",
	    .name = tier->entry.name,
	    .slot_bytes = sizeof(struct weir_buffer),
	    .slot_align = WEIRI_CACHE_LINE,
	    .slab_bytes = weiri_max(slab_bytes, WEIRI_PAGE),
	    /* Slots are small: what counts is the payload they withhold. */
	    .rounds = weiri_max(
		BUFFER_MAGAZINE_BYTES / tier->bytes, BUFFER_ROUNDS_MIN),
	    .slab_slots = tier->slab_slots,
	    .limit = limit,
	    .wait = &wait,
	    .hooks = &weiri_buffer_hooks,
	    .guard = &tier->guard,
	    .owner = tier,
	};
	int error;

	weiri_mutex_init(&tier->lock);
	error = weiri_depot_init(&tier->depot, &depot);
	if (error != 0)
		goto undo_lock;
	tier->depot.companion_bytes =
	    weiri_buffer_block_bytes(tier, weiri_slab_slots(&tier->depot));
	error = weiri_depot_prepare(&tier->depot, config->prealloc);
	if (error != 0)
		goto undo_depot;
	return 0;

undo_depot:
	weiri_depot_finish(&tier->depot);
undo_lock:
	weiri_mutex_destroy(&tier->lock);
	return error;
}

void
weiri_buffer_tier_finish(struct weiri_buffer_tier *tier)
{
	weiri_depot_finish(&tier->depot);
	WEIR_ASSERT(weiri_list_empty(&tier->payloads));
	WEIR_ASSERT(tier->payload_bytes == 0);
	weiri_mutex_destroy(&tier->lock);
}

/* ---- walks --------------------------------------------------------------- */

void
weiri_buffer_walk(struct weiri_buffer_tier *tier,
    void (*visit)(const struct weiri_payload *payload, void *context),
    void *context)
{
	weiri_mutex_lock(&tier->lock);
	WEIRI_LIST_FOR(node, &tier->payloads)
	{
		const struct weiri_payload *payload =
		    WEIRI_CONTAINER_OF(node, struct weiri_payload, span.link);

		visit(payload, context);
	}
	weiri_mutex_unlock(&tier->lock);
}

struct weir_buffer *
weiri_buffer_held(const struct weiri_payload *payload, size_t index)
{
	struct weir_buffer *buffer = weiri_slab_address(payload->slab, index);

	/* A slot that was never carved holds anything; that it looks like this
	 * very buffer, held, is out of the question. */
	if (WEIRI_LOAD(&buffer->references) == 0 ||
	    (WEIRI_LOAD(&buffer->flags) & WEIRI_BUFFER_SEAL_MASK) !=
		WEIRI_BUFFER_SEAL ||
	    (WEIRI_LOAD(&buffer->data) !=
		    (const unsigned char *)payload->span.base +
			index * payload->tier->stride &&
		!weiri_buffer_guard_has(buffer)))
		return NULL;
	return buffer;
}
