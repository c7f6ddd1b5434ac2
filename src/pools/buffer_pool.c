/* SPDX-License-Identifier: MIT */
/*
 * buffer_pool.c - pools of buffers: tiers, their memory, their figures.
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
 * Two limits, which answer two questions.  A tier's limit counts buffers in
 * being, so it bounds memory; the depot keeps it.  limit_bytes counts what
 * callers hold, so that its answer depends on what the program did and on
 * nothing else; a count of memory in being would refuse one tier because
 * another has idle buffers.  Memory kept for reuse is held near limit_bytes by
 * trimming the other tiers before a tier grows beyond it.
 *
 * Invariants (weir_buffer_pool_check(), in buffer_check.c, on a quiet pool):
 *
 *   B1  Descriptor i of a slab: data == block + i * stride; data, bytes, tier,
 *       pool and seal stay what slot_init wrote while the slab lives.
 *   B2  Descriptors with references > 0 are exactly the depot's slots in use.
 *   B3  With limit_bytes, held_bytes is the sum of tier sizes over the
 *       descriptors of B2, and never above limit_bytes at any moment.
 *   B4  payload_bytes is the sum of the blocks in `payloads`, one a slab.
 *   B5  weiri_buffer_tier.lock is a leaf: only list operations under it.
 */
#include "base/bits.h"
#include "base/text.h"
#include "config/invalid.h"
#include "guard/fault.h"
#include "pools/buffer.h"

#include <errno.h>
#include <string.h>

#define BUFFER_POOL_DEAD UINT64_C(0x7765697220646561)

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

static const struct weir_buffer_tier buffer_default_tiers[] = {
    {.bytes = 64},
    {.bytes = 512},
    {.bytes = 2 << 10},
    {.bytes = 8 << 10},
    {.bytes = 32 << 10},
    {.bytes = 64 << 10},
};

/* ---- memory: hooks of the depot ----------------------------------------- */

static size_t
buffer_align(size_t bytes)
{
	if (bytes >= BUFFER_PAGE_ALIGN_BYTES)
		return WEIRI_PAGE;
	if (bytes >= WEIRI_CACHE_LINE)
		return WEIRI_CACHE_LINE;
	return (size_t)1 << weiri_log2_floor(bytes);
}

static size_t
buffer_block_bytes(const struct weiri_buffer_tier *tier, size_t slots)
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
	if (pool->limit_bytes == WEIRI_BUFFER_NO_LIMIT || pool->prefault)
		return;
	for (uint32_t i = 0; i < pool->tier_count; i++)
		sum += WEIRI_LOAD(&pool->tier[i].payload_bytes);
	if (sum <= pool->limit_bytes)
		return;
	for (uint32_t i = 0; i < pool->tier_count; i++)
		if (&pool->tier[i] != tier)
			weiri_depot_trim(&pool->tier[i].depot);
}

static bool
buffer_slab_open(struct weiri_slab *slab, void *owner)
{
	struct weiri_buffer_tier *tier = owner;
	size_t bytes = buffer_block_bytes(tier, slab->slot_count);

	buffer_make_room(tier, bytes);

	struct weiri_payload *payload = weiri_meta_need(sizeof(*payload));

	if (payload == NULL)
		return false;
	payload->span.kind = WEIRI_SPAN_PAYLOAD;
	payload->slab = slab;
	payload->tier = tier;
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

/* Atomic where weir_buffer_of() may look at a slot that is just being made. */
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
	buffer->tier = tier->index;
	buffer->pool = tier->pool;
	buffer->user = NULL;
	memset(buffer->internal, 0, sizeof(buffer->internal));
	if (tier->pool->prefault)
		for (size_t at = 0; at < tier->bytes; at += WEIRI_PAGE)
			*(volatile unsigned char *)&data[at] = 0;
}

const struct weiri_depot_hooks weiri_buffer_hooks = {
    .slab_open = buffer_slab_open,
    .slab_close = buffer_slab_close,
    .slot_init = buffer_slot_init,
};

/* ---- registry ----------------------------------------------------------- */

static struct weiri_buffer_tier *
buffer_entry_tier(struct weiri_pool *entry)
{
	return WEIRI_CONTAINER_OF(entry, struct weiri_buffer_tier, entry);
}

static void
buffer_entry_stats(struct weiri_pool *entry, struct weir_pool_stats *out)
{
	struct weiri_buffer_tier *tier = buffer_entry_tier(entry);
	uint64_t by_bytes = WEIRI_LOAD(&tier->refused_by_bytes);
	uint64_t by_size = WEIRI_LOAD(&tier->refused_by_size);
	struct weiri_depot_stats depot;

	weiri_depot_stats(&tier->depot, &depot);
	out->exact = WEIR_EXACT_COUNTS;
	out->object_bytes = tier->bytes;
	out->limit = tier->limit;
	out->total = depot.total;
	out->in_use = depot.in_use;
	out->available = depot.total - depot.in_use;
	out->cached = depot.cached;
	out->in_use_peak = depot.peak;
	out->requests = depot.requests + by_bytes + by_size;
	out->hits = depot.hits;
	out->misses = depot.misses;
	out->failures = depot.failures + by_bytes + by_size;
	out->failures_by_bytes = by_bytes;
	out->failures_by_size = by_size;
	weiri_depot_add_bytes(&tier->depot, &depot, tier->bytes, out);
	if (tier->pool->limit_bytes == WEIRI_BUFFER_NO_LIMIT)
		return;
	out->limit_bytes = tier->pool->limit_bytes;
	out->limit_bytes_used = WEIRI_LOAD(&tier->pool->held_bytes);
}

static size_t
buffer_tier_trim(struct weiri_buffer_tier *tier)
{
	size_t slab_bytes = weiri_depot_trim(&tier->depot);
	size_t slabs = slab_bytes / tier->depot.slab_bytes;

	return slab_bytes + slabs * buffer_block_bytes(tier, tier->slab_slots);
}

static size_t
buffer_entry_trim(struct weiri_pool *entry)
{
	return buffer_tier_trim(buffer_entry_tier(entry));
}

static void
buffer_entry_fork_lock(struct weiri_pool *entry)
{
	weiri_mutex_lock(&buffer_entry_tier(entry)->lock);
}

static void
buffer_entry_fork_unlock(struct weiri_pool *entry)
{
	weiri_mutex_unlock(&buffer_entry_tier(entry)->lock);
}

static const struct weiri_pool_ops buffer_ops = {
    .stats = buffer_entry_stats,
    .trim = buffer_entry_trim,
    .fork_lock = buffer_entry_fork_lock,
    .fork_unlock = buffer_entry_fork_unlock,
};

/* ---- configuration ------------------------------------------------------ */

/* 0 stands for no limit, WEIR_LIMIT_NOTHING for one that admits nothing. */
static uint64_t
buffer_limit(uint64_t configured)
{
	if (configured == 0)
		return UINT64_MAX;
	return configured == WEIR_LIMIT_NOTHING ? 0 : configured;
}

static int
buffer_refuse_config(struct weiri_invalid invalid)
{
	invalid.call = "weir_buffer_pool_create";
	return weiri_invalid(&invalid);
}

/* One tier, and its order to the one before it. */
static int
buffer_check_tier_config(const struct weir_buffer_tier *tier, size_t index)
{
	uint64_t least = index == 0 ? 1 : (uint64_t)tier[-1].bytes + 1;

	if (tier->bytes < least || tier->bytes > WEIR_BUFFER_BYTES_MAX)
		return buffer_refuse_config(
		    (struct weiri_invalid){.field = "tier[].bytes",
			.index = index,
			.value = tier->bytes,
			.allowed = "%u .. %u, ascending",
			.bound = {least, WEIR_BUFFER_BYTES_MAX}});
	if (tier->reserved != 0)
		return buffer_refuse_config(
		    (struct weiri_invalid){.field = "tier[].reserved",
			.index = index,
			.value = tier->reserved,
			.allowed = "0"});
	if (tier->prealloc > buffer_limit(tier->limit))
		return buffer_refuse_config(
		    (struct weiri_invalid){.field = "tier[].prealloc",
			.index = index,
			.value = tier->prealloc,
			.allowed = "at most the tier's limit, %u",
			.bound = {buffer_limit(tier->limit)}});
	return 0;
}

/* Each tier, and that what all make in advance stays within limit_bytes. */
static int
buffer_check_tiers(const struct weir_buffer_pool_config *config)
{
	uint64_t room = buffer_limit(config->limit_bytes);

	for (size_t i = 0; i < config->tier_count; i++) {
		const struct weir_buffer_tier *tier = &config->tier[i];
		int error = buffer_check_tier_config(tier, i);

		if (error != 0)
			return error;
		if (tier->prealloc > room / tier->bytes)
			return buffer_refuse_config(
			    (struct weiri_invalid){.field = "tier[].prealloc",
				.index = i,
				.value = tier->prealloc,
				.allowed = "at most %u, with what limit_bytes, "
					   "%u, leaves",
				.bound = {room / tier->bytes,
				    buffer_limit(config->limit_bytes)}});
		room -= (uint64_t)tier->prealloc * tier->bytes;
	}
	return 0;
}

static int
buffer_check_config(const struct weir_buffer_pool_config *config)
{
	uint64_t room = buffer_limit(config->limit_bytes);
	size_t i = weiri_invalid_word(
	    config->reserved, WEIRI_COUNT_OF(config->reserved));

	if ((config->flags & ~WEIRI_BUFFER_PUBLIC_FLAGS) != 0)
		return buffer_refuse_config(
		    (struct weiri_invalid){.field = "flags",
			.value = config->flags,
			.bits = true,
			.allowed = "flags of enum weir_buffer_flags"});
	if (i < WEIRI_COUNT_OF(config->reserved))
		return buffer_refuse_config(
		    (struct weiri_invalid){.field = "reserved[]",
			.index = i,
			.value = config->reserved[i],
			.allowed = "0"});
	/* Closed on purpose is one thing, useless by mistake another. */
	if (room != 0 && room < config->tier[0].bytes)
		return buffer_refuse_config(
		    (struct weiri_invalid){.field = "limit_bytes",
			.value = config->limit_bytes,
			.allowed = "0 for none, at least %u, one buffer of the "
				   "smallest tier, or WEIR_LIMIT_NOTHING",
			.bound = {config->tier[0].bytes}});
	return buffer_check_tiers(config);
}

/* Copies @given with the defaults filled in; 0 or -EINVAL. */
static int
buffer_config_resolve(const struct weir_buffer_pool_config *given,
    struct weir_buffer_pool_config *config)
{
	memset(config, 0, sizeof(*config));
	if (given != NULL)
		*config = *given;
	/* Tiers without their number are a slip, not a wish. */
	if (config->tier_count > WEIR_BUFFER_TIERS_MAX ||
	    (config->tier_count == 0 && config->tier[0].bytes != 0))
		return buffer_refuse_config(
		    (struct weiri_invalid){.field = "tier_count",
			.value = config->tier_count,
			.allowed = "%u .. %u, or 0 with no tier set",
			.bound = {1, WEIR_BUFFER_TIERS_MAX}});
	if (config->tier_count == 0) {
		memcpy(config->tier, buffer_default_tiers,
		    sizeof(buffer_default_tiers));
		config->tier_count = WEIRI_COUNT_OF(buffer_default_tiers);
	}
	return buffer_check_config(config);
}

/* ---- creation ----------------------------------------------------------- */

static size_t
buffer_pool_bytes(size_t tier_count)
{
	return sizeof(struct weir_buffer_pool) +
	       tier_count * sizeof(struct weiri_buffer_tier);
}

/* How many descriptors a slab has: a block's worth, and not more than the
 * limits can ever use. */
static size_t
buffer_slab_slots(const struct weiri_buffer_tier *tier)
{
	size_t slots = BUFFER_BLOCK_BYTES / tier->stride;

	slots = weiri_min(slots, BUFFER_SLAB_SLOTS_MAX);
	slots = weiri_min(slots, tier->limit);
	slots = weiri_min(slots, tier->pool->limit_bytes / tier->bytes);
	return weiri_max(slots, 1);
}

static int
buffer_tier_init(struct weir_buffer_pool *pool, uint32_t index,
    const struct weir_buffer_tier *config)
{
	struct weiri_buffer_tier *tier = &pool->tier[index];

	tier->pool = pool;
	tier->index = index;
	tier->bytes = config->bytes;
	tier->stride = (uint32_t)weiri_round_up(
	    config->bytes, buffer_align(config->bytes));
	tier->limit = buffer_limit(config->limit);
	tier->slab_slots = (uint32_t)buffer_slab_slots(tier);
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
	    .limit = tier->limit,
	    .hooks = &weiri_buffer_hooks,
	    .owner = tier,
	};
	int error;

	weiri_mutex_init(&tier->lock);
	error = weiri_depot_init(&tier->depot, &depot);
	if (error != 0)
		goto undo_lock;
	tier->depot.companion_bytes =
	    buffer_block_bytes(tier, weiri_slab_slots(&tier->depot));
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

static void
buffer_tier_finish(struct weiri_buffer_tier *tier)
{
	weiri_depot_finish(&tier->depot);
	WEIR_ASSERT(weiri_list_empty(&tier->payloads));
	WEIR_ASSERT(tier->payload_bytes == 0);
	weiri_mutex_destroy(&tier->lock);
}

static void
buffer_fill_fit(struct weir_buffer_pool *pool)
{
	uint32_t i = 0;

	for (unsigned log2 = 0; log2 < WEIRI_COUNT_OF(pool->fit); log2++) {
		/* Requests of this class are above half its size. */
		uint64_t least =
		    log2 == 0 ? 0 : (UINT64_C(1) << (log2 - 1)) + 1;

		while (i < pool->tier_count && pool->tier[i].bytes < least)
			i++;
		pool->fit[log2] = (uint8_t)i;
	}
}

/* Last, since others may read the figures from then on. */
static void
buffer_register(struct weir_buffer_pool *pool)
{
	for (uint32_t i = 0; i < pool->tier_count; i++) {
		char bytes[16], name[WEIRI_NAME_BYTES];
		struct weiri_text number = {bytes, sizeof(bytes), 0};
		struct weiri_text whole = {name, 0, 0};

		weiri_text_char(&number, '/');
		weiri_text_u64(&number, pool->tier[i].bytes);
		/* A long name is cut, the number that tells tiers apart not. */
		whole.bytes = sizeof(name) - number.used;
		weiri_text_str(&whole, pool->name);
		memcpy(name + strlen(name), bytes, number.used + 1);
		weiri_pool_register(&pool->tier[i].entry, WEIR_POOL_BUFFER,
		    name, &buffer_ops, false);
	}
}

int
weir_buffer_pool_create(const char *name,
    const struct weir_buffer_pool_config *config, struct weir_buffer_pool **out)
{
	struct weir_buffer_pool_config effective;
	struct weir_buffer_pool *pool;
	int error;

	*out = NULL;
	error = buffer_config_resolve(config, &effective);
	if (error != 0)
		return error;
	pool = weiri_meta_need(buffer_pool_bytes(effective.tier_count));
	if (pool == NULL)
		return -ENOMEM;

	struct weiri_text text = {pool->name, sizeof(pool->name), 0};

	weiri_text_str(&text, name == NULL ? "unnamed" : name);
	pool->limit_bytes = buffer_limit(effective.limit_bytes);
	pool->flags = WEIRI_BUFFER_SEAL | effective.flags;
	if (pool->limit_bytes != WEIRI_BUFFER_NO_LIMIT)
		pool->flags |= WEIRI_BUFFER_CHARGED;
	pool->bytes_max = effective.tier[effective.tier_count - 1].bytes;
	pool->prefault = true;
	while (pool->tier_count < effective.tier_count) {
		error = buffer_tier_init(
		    pool, pool->tier_count, &effective.tier[pool->tier_count]);
		if (error != 0)
			goto undo_tiers;
		pool->tier_count++;
	}
	pool->prefault = false;
	buffer_fill_fit(pool);
	pool->state = WEIRI_BUFFER_POOL_LIVE;
	buffer_register(pool);
	*out = pool;
	return 0;

undo_tiers:
	while (pool->tier_count > 0)
		buffer_tier_finish(&pool->tier[--pool->tier_count]);
	weiri_meta_free(pool, buffer_pool_bytes(effective.tier_count));
	return error;
}

/* ---- inspection --------------------------------------------------------- */

size_t
weir_buffer_pool_trim(struct weir_buffer_pool *pool)
{
	size_t bytes = 0;

	for (uint32_t i = 0; i < pool->tier_count; i++)
		bytes += buffer_tier_trim(&pool->tier[i]);
	return bytes;
}

size_t
weir_buffer_pool_tier_count(const struct weir_buffer_pool *pool)
{
	return pool->tier_count;
}

int
weir_buffer_pool_stats(
    struct weir_buffer_pool *pool, size_t tier, struct weir_pool_stats *out)
{
	if (out->size != sizeof(*out) || tier >= pool->tier_count)
		return -EINVAL;
	weiri_pool_stats(&pool->tier[tier].entry, out);
	return 0;
}

/* ---- end ---------------------------------------------------------------- */

static WEIRI_COLD WEIRI_NORETURN void
buffer_fault_dead(const struct weir_buffer_pool *pool)
{
	weiri_fault(&(struct weiri_fault_site){
	    .fault_class = WEIR_FAULT_DOUBLE_DESTROY,
	    .pool_kind = "buffer",
	    /* Any other state: the record has been reused, its name too. */
	    .pool_name = pool->state == BUFFER_POOL_DEAD ? pool->name : NULL,
	    .address = pool,
	    .detail = "pool %p is not alive",
	});
}

static void
buffer_demand_idle(struct weiri_buffer_tier *tier)
{
	struct weiri_depot_stats stats;

	weiri_depot_stats(&tier->depot, &stats);
	if (WEIR_LIKELY(stats.in_use == 0))
		return;
	weiri_fault(&(struct weiri_fault_site){
	    .fault_class = WEIR_FAULT_LIVE_OBJECTS,
	    .pool_kind = "buffer",
	    .pool_name = tier->entry.name,
	    .number = stats.in_use,
	    .detail = "%u %{buffer is|buffers are} still held",
	});
}

void
weir_buffer_pool_destroy(struct weir_buffer_pool *pool)
{
	if (pool == NULL)
		return;
	if (WEIR_UNLIKELY(pool->state != WEIRI_BUFFER_POOL_LIVE))
		buffer_fault_dead(pool);

	size_t bytes = buffer_pool_bytes(pool->tier_count);

	/* All of them first: a fault leaves the pool as it was. */
	for (uint32_t i = 0; i < pool->tier_count; i++)
		buffer_demand_idle(&pool->tier[i]);
	for (uint32_t i = 0; i < pool->tier_count; i++)
		weiri_pool_unregister(&pool->tier[i].entry);
	for (uint32_t i = 0; i < pool->tier_count; i++)
		buffer_tier_finish(&pool->tier[i]);
	pool->state = BUFFER_POOL_DEAD;
	weiri_meta_free(pool, bytes);
}
