/* SPDX-License-Identifier: MIT */
/*
 * buffer_pool.c - pools of buffers: how they begin and end, and their figures.
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
 *       pool and seal stay what slot_init wrote while the slab lives, but for
 *       the data of a buffer that is held and under guard (buffer_guard.c).
 *   B2  Descriptors with references > 0, those in a reserve, and those that
 *       rest, are exactly the depot's slots in use.
 *   B3  With limit_bytes, held_bytes is the sum of tier sizes over the
 *       descriptors of B2 that do not rest, and was never above limit_bytes when it grew.
 *   B4  payload_bytes is the sum of the blocks in `payloads`, one a slab.
 *   B5  weiri_buffer_tier.lock is a leaf: list operations under it, and reading
 *       the descriptors of what is in the list.
 *   B6  What is held for an account has the flag; a free descriptor has no
 *       references and no operation of the kernel's.
 */
#include "base/bits.h"
#include "base/text.h"
#include "guard/fault.h"
#include "pools/buffer.h"

#include <errno.h>
#include <string.h>

#define BUFFER_POOL_DEAD UINT64_C(0x7765697220646561)

/* ---- registry ----------------------------------------------------------- */

/* The depot counts each look of one that waits; the gate, each request. */
static void
buffer_wait_stats(struct weiri_buffer_tier *tier, struct weir_pool_stats *out)
{
	struct weiri_gate_tier *gate = &tier->gate;

	out->failures = WEIRI_LOAD(&gate->failures) + out->failures_by_size;
	out->requests = WEIRI_LOAD(&gate->requests) + out->failures_by_size;
	out->hits = weiri_min(out->hits, out->requests);
	out->waits = WEIRI_LOAD(&gate->waits);
	out->wait_timeouts = WEIRI_LOAD(&gate->timeouts);
	out->waiting = WEIRI_LOAD(&gate->waiting);
	out->wait_turns_max = WEIRI_LOAD(&gate->turns_max);
}

static void
buffer_entry_stats(struct weiri_pool *entry, struct weir_pool_stats *out)
{
	struct weiri_buffer_tier *tier = weiri_buffer_entry_tier(entry);
	uint64_t by_bytes = WEIRI_LOAD(&tier->refused_by_bytes);
	uint64_t by_size = WEIRI_LOAD(&tier->refused_by_size);
	uint64_t by_account = WEIRI_LOAD(&tier->refused_by_account);
	struct weiri_chunk_sums chunks = {0};
	struct weiri_depot_stats depot;

	weiri_depot_stats(&tier->depot, &depot);
	depot.in_use -= weiri_min(depot.in_use,
	    weiri_gate_reserved(tier) + WEIRI_LOAD(&tier->rest.count));
	out->exact = WEIR_EXACT_COUNTS;
	out->object_bytes = tier->bytes;
	out->limit = WEIRI_LOAD(&tier->depot.limit);
	out->total = depot.total;
	out->in_use = depot.in_use;
	out->available = depot.total - depot.in_use;
	out->cached = depot.cached;
	out->in_use_peak = depot.peak;
	out->requests = depot.requests + by_bytes + by_size + by_account;
	out->hits = depot.hits;
	out->misses = depot.misses;
	out->failures = depot.failures + by_bytes + by_size + by_account -
			WEIRI_LOAD(&tier->gate.rescued);
	out->failures_by_bytes = by_bytes;
	out->failures_by_size = by_size;
	if (tier->pool->gate.policy == WEIR_LIMIT_WAIT)
		buffer_wait_stats(tier, out);
	weiri_depot_add_bytes(&tier->depot, &depot, tier->bytes, out);
	weiri_chunk_add(tier, &chunks);
	out->chunk_bytes = chunks.pinned;
	out->chunk_bytes_live = chunks.live;
	if ((tier->pool->flags & WEIRI_BUFFER_CHARGED) == 0)
		return;
	out->limit_bytes = WEIRI_LOAD(&tier->pool->limit_bytes);
	out->limit_bytes_used = WEIRI_LOAD(&tier->pool->held_bytes);
}

static size_t
buffer_tier_trim(struct weiri_buffer_tier *tier)
{
	size_t slab_bytes, slabs;

	weiri_buffer_guard_flush(tier);
	slab_bytes = weiri_depot_trim(&tier->depot);
	slabs = slab_bytes / tier->depot.slab_bytes;
	weiri_buffer_trim_pages(tier);

	return slab_bytes +
	       slabs * weiri_buffer_block_bytes(tier, tier->slab_slots);
}

static size_t
buffer_entry_trim(struct weiri_pool *entry)
{
	return buffer_tier_trim(weiri_buffer_entry_tier(entry));
}

static void
buffer_entry_fork_lock(struct weiri_pool *entry)
{
	weiri_mutex_lock(&weiri_buffer_entry_tier(entry)->lock);
}

static void
buffer_entry_fork_unlock(struct weiri_pool *entry)
{
	weiri_mutex_unlock(&weiri_buffer_entry_tier(entry)->lock);
}

const struct weiri_pool_ops weiri_buffer_ops = {
    .stats = buffer_entry_stats,
    .trim = buffer_entry_trim,
    .fork_lock = buffer_entry_fork_lock,
    .fork_unlock = buffer_entry_fork_unlock,
};

/* ---- creation ----------------------------------------------------------- */

static size_t
buffer_pool_bytes(size_t tier_count)
{
	return sizeof(struct weir_buffer_pool) +
	       tier_count * sizeof(struct weiri_buffer_tier);
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
		    name, &weiri_buffer_ops, false);
		pool->tier[i].guard.fails_above =
		    pool->gate.policy == WEIR_LIMIT_WAIT;
		weiri_guard_enter(
		    &pool->tier[i].guard, "buffer", pool->tier[i].entry.name);
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
	error = weiri_buffer_config_resolve(config, &effective);
	if (error != 0)
		return error;
	pool = weiri_meta_need(buffer_pool_bytes(effective.tier_count));
	if (pool == NULL)
		return -ENOMEM;

	struct weiri_text text = {pool->name, sizeof(pool->name), 0};

	weiri_text_str(&text, name == NULL ? "unnamed" : name);
	pool->limit_bytes = weiri_buffer_limit(effective.limit_bytes);
	pool->flags = WEIRI_BUFFER_SEAL | effective.flags;
	if (pool->limit_bytes != WEIRI_BUFFER_NO_LIMIT)
		pool->flags |= WEIRI_BUFFER_CHARGED;
	if (weiri_gate_init(pool, &effective))
		pool->flags |= WEIRI_BUFFER_GATED;
	pool->bytes_max = effective.tier[effective.tier_count - 1].bytes;
	pool->prefault = true;
	while (pool->tier_count < effective.tier_count) {
		error =
		    weiri_buffer_tier_init(pool, pool->tier_count, &effective);
		if (error != 0)
			goto undo_tiers;
		pool->tier_count++;
	}
	error = weiri_gate_fill(pool, &effective);
	if (error != 0)
		goto undo_tiers;
	pool->prefault = false;
	buffer_fill_fit(pool);
	(void)weiri_buffer_tick(pool);
	pool->state = WEIRI_BUFFER_POOL_LIVE;
	buffer_register(pool);
	*out = pool;
	return 0;

undo_tiers:
	weiri_gate_empty(pool);
	while (pool->tier_count > 0)
		weiri_buffer_tier_finish(&pool->tier[--pool->tier_count]);
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

void
weiri_buffer_pool_not_live(const struct weir_buffer_pool *pool)
{
	bool known = pool->state == BUFFER_POOL_DEAD;

	weiri_fault(&(struct weiri_fault_site){
	    .fault_class = known ? WEIR_FAULT_USE_AFTER_DESTROY
				 : WEIR_FAULT_FOREIGN_POINTER,
	    .pool_kind = "buffer",
	    .pool_name = known ? pool->name : NULL,
	    .address = pool,
	    .detail =
		known ? "it is used, but was destroyed" : "%p is no live pool",
	});
}

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
	uint64_t reserved = weiri_gate_reserved(tier);

	weiri_buffer_guard_flush(tier);
	weiri_depot_stats(&tier->depot, &stats);
	if (WEIR_LIKELY(stats.in_use == reserved) ||
	    !WEIR_DETECTOR(buffer_live))
		return;
	weiri_fault(&(struct weiri_fault_site){
	    .fault_class = WEIR_FAULT_LIVE_OBJECTS,
	    .pool_kind = "buffer",
	    .pool_name = tier->entry.name,
	    .number = stats.in_use - reserved,
	    .detail = "%u %{buffer is|buffers are} still held",
	});
}

void
weir_buffer_pool_destroy(struct weir_buffer_pool *pool)
{
	if (pool == NULL)
		return;
	if (WEIR_UNLIKELY(pool->state != WEIRI_BUFFER_POOL_LIVE) &&
	    WEIR_DETECTOR(buffer_pool_double_destroy))
		buffer_fault_dead(pool);

	size_t bytes = buffer_pool_bytes(pool->tier_count);

	/* All of them first: a fault leaves the pool as it was. */
	for (uint32_t i = 0; i < pool->tier_count; i++)
		buffer_demand_idle(&pool->tier[i]);
	for (uint32_t i = 0; i < pool->tier_count; i++)
		weiri_pool_unregister(&pool->tier[i].entry);
	weiri_gate_empty(pool);
	for (uint32_t i = 0; i < pool->tier_count; i++)
		weiri_guard_leave(&pool->tier[i].guard);
	for (uint32_t i = 0; i < pool->tier_count; i++)
		weiri_buffer_tier_finish(&pool->tier[i]);
	pool->state = BUFFER_POOL_DEAD;
	/* Each request is refused from now on, which looks at the state. */
	pool->flags = WEIRI_BUFFER_SEAL | WEIRI_BUFFER_CHARGED;
	pool->limit_bytes = 0;
	weiri_grave_put(pool, bytes);
}
