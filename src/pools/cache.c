/* SPDX-License-Identifier: MIT */
/*
 * cache.c - named caches of objects over a depot, with checks at the call.
 *
 * The depot moves slots; the cache decides what a slot looks like and verifies
 * what comes back.  At level `each` every object has a state, live or free:
 *
 *      word        +---+--------------+---+--------------+   where it costs an
 *                  | s |   object 0   | s |   object 1   |   eighth at most:
 *                  +---+--------------+---+--------------+   s = live or free
 *
 *      table       +-----------+----------+----------+---    small objects:
 *                  | s s s s . | object 0 | object 1 |       2 bytes each at
 *                  +-----------+----------+----------+---    the slab's start
 *
 *      byte        in the slab's header: large objects, large alignments
 *
 * A free asks first whose memory the address is in (pages/near.h, else the page
 * map), so that a wild pointer is never read; then for the state.  The word of
 * an object in use has a value of the cache's own, that of a free one another
 * than 0, so that an overwritten word is told from a second free; it lies on
 * the line of the object's first bytes, which the caller touches anyway; behind
 * the object it would cost a miss.  A table entry holds the low bits of its
 * object's address, so a pointer into the middle does not fit; neighbours share
 * a line of it, which two threads that exchange single small objects feel.
 * Both also tell of a write past the end of the object before.
 *
 * At level `batch` a call looks at nothing.  At either level the depot looks at
 * each slot of a magazine that comes in, so that what slipped through - two
 * frees at the same moment, or any wrong free at `batch` - is found there.
 *
 * The inline calls of cache.h know the plain cases.  Which one a cache is lies
 * in the masks of its head: what a call must test anyway, "is the magazine
 * empty" and "is it full", becomes always true for a cache with more to do, so
 * the plainest cache pays for none of the others.
 *
 * Invariants (weir_cache_check()):
 *
 *   C1  The depot's invariants hold.
 *   C2  The number of slots in state live is the number of objects in use; in
 *       the child of a fork give or take what was lost there.
 *
 * Hooks: init and fini run when a slot comes into being and when its slab
 * ends; ctor and dtor at each use (FreeBSD's uma(9) draws the same line).
 */
#include "pools/cache.h"

#include "guard/fault.h"

#include <errno.h>
#include <string.h>

/* ---- faults ----------------------------------------------------------- */

static WEIRI_COLD WEIRI_NORETURN void
cache_fault(const struct weir_cache *cache, enum weir_fault_class fault_class,
    const void *object, const char *detail)
{
	weiri_wait_abandon();
	weiri_fault(&(struct weiri_fault_site){.fault_class = fault_class,
	    .pool_kind = "cache",
	    .pool_name = cache->pool.name,
	    .pool_type = cache->type,
	    .address = object,
	    .detail = detail});
}

/* What rests may have lost its word with the page to the system. */
static bool
cache_word_is_free(const void *object)
{
	const struct weiri_slab *slab =
	    (const struct weiri_slab *)weiri_span_of(object);
	size_t slot = weiri_slab_slot(slab, object);

	return *weiri_cache_word(object) == WEIR_ABI_WORD_FREE ||
	       (WEIRI_LOAD(&slab->state[slot]) & WEIRI_STATE_STOCKED) != 0;
}

void
weiri_cache_report(const struct weir_cache *cache, const void *object)
{
	const char *overwritten = "the word before object %p was overwritten";
	bool free = true;

	weiri_depot_require(&cache->depot, object);
	if (cache->state == WEIRI_CACHE_WORD) {
		free = cache_word_is_free(object);
	} else if (cache->state == WEIRI_CACHE_TABLE) {
		free = *weir_abi_entry(&cache->head, object) ==
		       weir_abi_free_entry(object);
		overwritten = "the state of object %p was overwritten";
	}
	if (free && WEIR_DETECTOR(cache_double_free))
		cache_fault(cache, WEIR_FAULT_DOUBLE_FREE, object,
		    "object %p is free already");
	cache_fault(cache, WEIR_FAULT_CORRUPTION, object, overwritten);
}

/* Not in line: calls without a hook are not to save registers for one. */
WEIRI_NOINLINE void
weiri_cache_run_hook(
    const struct weir_cache *cache, weir_cache_hook_fn hook, void *object)
{
	weiri_wait_enter();
	hook(object, cache->context);
	weiri_wait_leave();
}

/* ---- alloc ------------------------------------------------------------ */

void
weiri_cache_finish_alloc(struct weir_cache *cache, void *object)
{
	struct weiri_slab *slab = NULL;
	size_t slot = 0;

	if (cache->state == WEIRI_CACHE_BYTE) {
		slab = (struct weiri_slab *)weiri_span_of(object);
		slot = weiri_slab_slot(slab, object);
	}
	weiri_cache_mark(cache, slab, slot, object, true);
	if (cache->zero)
		memset(object, 0, cache->object_bytes);
	if (cache->ctor != NULL)
		weiri_cache_run_hook(cache, cache->ctor, object);
}

/* The edge of a magazine, the end of the countdown, caches with more to do. */
static WEIRI_NOINLINE void *
cache_alloc_slow(struct weir_cache *cache)
{
	struct weir_local *local = weiri_local();
	uintptr_t **cell = weiri_local_cell(local, cache->head.cell);
	void *object = weiri_cell_pop(cell);
	bool due = true;

	if (object == NULL) {
		weiri_cache_expect_live(cache);
		object = weiri_depot_get_slow(&cache->depot);
	} else if (cache->long_take) {
		due = cache->depot.counted && weir_abi_count(cell);
	}
	if (WEIR_UNLIKELY(due))
		return weiri_cache_take_due(cache, object);
	weiri_cache_finish_alloc(cache, object);
	return object;
}

/* In as few lines of the instruction cache as they fill: where they straddle one
 * more, a pair of calls costs 0.6 ns. */
WEIRI_ALIGNED(WEIRI_CACHE_LINE)
void *
weir_cache_alloc(struct weir_cache *cache)
{
	uintptr_t **cell = weiri_local_cell(weiri_local(), cache->head.cell);
	void *object = NULL;

	if (WEIR_UNLIKELY(!weir_abi_take(&cache->head, cell, &object)))
		return cache_alloc_slow(cache);
	return object;
}

/* ---- free ------------------------------------------------------------- */

/* The edge of a magazine, addresses far from the others, caches with more to
 * do, and wrong frees. */
void
weiri_cache_free_slow(struct weir_cache *cache, void *object)
{
	if (object == NULL)
		return;
	if (cache->state != WEIRI_CACHE_NONE || cache->handles) {
		size_t slot = 0;
		/* Before its state is read: is there one? */
		struct weiri_slab *slab =
		    weiri_cache_slab(cache, object, &slot);

		if (WEIR_UNLIKELY(slab == NULL)) {
			weiri_cache_free_elsewhere(cache, object);
			return;
		}
		if (!weiri_cache_is_live(cache, slab, slot, object) &&
		    WEIR_DETECTOR(cache_not_live))
			weiri_cache_report(cache, object);
		weiri_cache_mark(cache, slab, slot, object, false);
		if (cache->handles)
			weiri_handle_retire(slab, slot);
	} else if (WEIR_UNLIKELY(weiri_guard_covers(object))) {
		weiri_cache_free_elsewhere(cache, object);
		return;
	}
	if (cache->dtor != NULL)
		weiri_cache_run_hook(cache, cache->dtor, object);
	weiri_depot_put(&cache->depot, object);
	if (cache->depot.wait.config.policy == WEIRI_WAIT_NOTIFY)
		weiri_wait_freed(&cache->depot);
}

WEIRI_ALIGNED(WEIRI_CACHE_LINE)
void
weir_cache_free(struct weir_cache *cache, void *object)
{
	uintptr_t **cell = weiri_local_cell(weiri_local(), cache->head.cell);

	if (WEIR_UNLIKELY(!weir_abi_put(&cache->head, cell, object)))
		weiri_cache_free_slow(cache, object);
}

/* What the first entry of a slab is: far above the addresses of the slot that
 * would be there. */
#define CACHE_ENTRY_NONE UINT16_C(0x8000)

/* ---- depot hooks ------------------------------------------------------ */

void
weiri_cache_slot_init(struct weiri_slab *slab, void *slot, void *owner)
{
	struct weir_cache *cache = owner;
	size_t index = weiri_slab_slot(slab, slot);

	weiri_cache_mark(cache, slab, index, slot, false);
	/* No object's, and no address that leads there has it. */
	if (index == 0 && cache->state == WEIRI_CACHE_TABLE)
		*(uint16_t *)(void *)slab->span.base = CACHE_ENTRY_NONE;
	if (cache->init != NULL)
		cache->init(slot, cache->context);
}

/* No other state lies in pages that may go: a table is before the first slot. */
void
weiri_cache_slot_again(struct weiri_slab *slab, void *slot, void *owner)
{
	const struct weir_cache *cache = owner;

	(void)slab;
	if (cache->state == WEIRI_CACHE_WORD)
		*weiri_cache_word(slot) = WEIR_ABI_WORD_FREE;
}

void
weiri_cache_slot_fini(struct weiri_slab *slab, void *slot, void *owner)
{
	struct weir_cache *cache = owner;

	(void)slab;
	cache->fini(slot, cache->context);
}

/* ---- registry operations ---------------------------------------------- */

static void
cache_fill_stats(struct weiri_pool *pool, struct weir_pool_stats *out)
{
	struct weir_cache *cache =
	    WEIRI_CONTAINER_OF(pool, struct weir_cache, pool);
	struct weiri_depot_stats depot;
	size_t limit;

	weiri_depot_stats(&cache->depot, &depot);
	out->exact = WEIR_EXACT_COUNTS |
		     (cache->depot.counted ? WEIR_EXACT_REQUESTS : 0u);
	out->object_bytes = cache->object_bytes;
	limit = WEIRI_LOAD(&cache->depot.limit);
	out->limit = limit == SIZE_MAX ? UINT64_MAX : limit;
	out->total = depot.total;
	out->in_use = depot.in_use;
	out->available = depot.total - depot.in_use;
	out->cached = depot.cached;
	out->in_use_peak = depot.peak;
	out->requests = depot.requests;
	out->hits = depot.hits;
	out->misses = depot.misses;
	out->failures = depot.failures;
	out->waits = depot.waits;
	out->wait_timeouts = depot.wait_timeouts;
	out->waiting = depot.waiting;
	out->wait_turns_max = depot.wait_longest;
	weiri_depot_add_bytes(
	    &cache->depot, &depot, cache->depot.slot_bytes, out);
}

static size_t
cache_trim_pool(struct weiri_pool *pool)
{
	return weir_cache_trim(
	    WEIRI_CONTAINER_OF(pool, struct weir_cache, pool));
}

const struct weiri_pool_ops weiri_cache_pool_ops = {
    .stats = cache_fill_stats,
    .trim = cache_trim_pool,
};

size_t
weir_cache_trim(struct weir_cache *cache)
{
	weiri_cache_expect_live(cache);
	return weiri_depot_trim(&cache->depot);
}

int
weir_cache_stats(struct weir_cache *cache, struct weir_pool_stats *out)
{
	weiri_cache_expect_live(cache);
	if (out->size != sizeof(*out))
		return -EINVAL;
	weiri_pool_stats(&cache->pool, out);
	return 0;
}
