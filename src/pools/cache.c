/* SPDX-License-Identifier: MIT */
/*
 * cache.c - named caches of objects over a depot, with checks at the call.
 *
 * The depot moves slots; the cache decides what a slot looks like and verifies
 * what comes back.  At level `each` every slot has a state, live or free:
 *
 *      in line       object_bytes   state     where the word costs at most an
 *                   +--------------+-----+    eighth of the slot
 *                   |              |  s  |    s = secret ^ address when live,
 *                   +--------------+-----+        its complement when free
 *
 *      beside        one byte a slot in the slab's header, for small objects,
 *                    large ones, and alignments that the word would break
 *
 * A free asks the page map first: an address of any other memory is never
 * read.  The word after an object then answers four questions at once, because
 * its value depends on the cache and on the address: live, free already, not
 * the start of an object, or overwritten by a write past the object's end.
 * An interior pointer near the end of the slab would put the word outside it;
 * the address therefore wraps inside the slab, which is aligned to its size.
 *
 * Invariants (weir_cache_check()):
 *
 *   C1  The depot's invariants hold.
 *   C2  The number of slots in state live is the number of objects in use.
 *
 * Hooks: init and fini run when a slot comes into being and when its slab
 * ends; ctor and dtor at each use (FreeBSD's uma(9) draws the same line).
 */
#include <weir/cache.h>

#include "base/bits.h"
#include "config/config.h"
#include "guard/fault.h"
#include "slab/cursor.h"
#include "watch/registry.h"

#include <errno.h>
#include <string.h>

#define CACHE_ALIGN_DEFAULT 16
#define CACHE_ALIGN_MIN 8
#define CACHE_ALIGN_MAX 4096

/* The word in line may add this share of the slot; above it, state bytes. */
#define CACHE_STATE_SHARE 8

/* From here on a word would push an object of a power of two out of the slab
 * it fills, and a look-up is nothing against the object's own use. */
#define CACHE_WORD_BYTES_MAX ((size_t)32 << 10)

/* Told apart from whatever lies where a destroyed cache was. */
#define CACHE_MAGIC UINT32_C(0x63616368)

enum cache_state {
	CACHE_STATE_WORD,  /* in line */
	CACHE_STATE_BYTES, /* in the slab's header */
	CACHE_STATE_NONE,  /* level `none` */
};

struct weir_cache {
	struct weiri_depot depot;

	/* Read by every call. */
	uint64_t secret;
	uintptr_t align_mask;
	uintptr_t slab_mask;
	uint32_t state_offset;
	bool plain;    /* state word, no hook, no zeroing: the short path */
	uint8_t state; /* enum cache_state */
	bool zero;

	uint32_t magic;
	size_t object_bytes;
	weir_cache_hook_fn init, fini, ctor, dtor;
	void *context;
	struct weiri_pool pool;
};

/* ---- state of a slot -------------------------------------------------- */

WEIRI_INLINE uint64_t
cache_live(const struct weir_cache *cache, const void *object)
{
	return cache->secret ^ (uintptr_t)object;
}

WEIRI_INLINE uint64_t *
cache_word(const struct weir_cache *cache, const void *object)
{
	uintptr_t address = (uintptr_t)object;
	uintptr_t mask = cache->slab_mask;

	return (uint64_t *)((address & ~mask) |
			    ((address + cache->state_offset) & mask));
}

/* ---- faults ----------------------------------------------------------- */

static WEIRI_COLD WEIRI_NORETURN void
cache_fault(const struct weir_cache *cache, enum weir_fault_class fault_class,
    const void *object, const char *other, const char *detail)
{
	weiri_fault(&(struct weiri_fault_site){.fault_class = fault_class,
	    .pool_kind = "cache",
	    .pool_name = cache->pool.name,
	    .address = object,
	    .other = other,
	    .detail = detail});
}

/* Says what is wrong with a pointer that failed the checks of a free. */
static WEIRI_COLD WEIRI_NORETURN void
cache_report(const struct weir_cache *cache, const void *object)
{
	struct weiri_span *span = weiri_span_of(object);

	if (span == NULL)
		cache_fault(cache, WEIR_FAULT_FOREIGN_POINTER, object, NULL,
		    "%p is not memory of any pool");
	if (span->kind != WEIRI_SPAN_SLAB)
		cache_fault(cache, WEIR_FAULT_WRONG_POOL, object, NULL,
		    "%p belongs to a region or a buffer");

	struct weiri_slab *slab = (struct weiri_slab *)span;

	if (slab->depot != &cache->depot)
		cache_fault(cache, WEIR_FAULT_WRONG_POOL, object,
		    slab->depot->name, "%p belongs to \"%s\"");
	if (((uintptr_t)object & cache->align_mask) != 0)
		cache_fault(cache, WEIR_FAULT_MISALIGNED_POINTER, object, NULL,
		    "%p is not aligned as its objects are");
	if (weiri_slab_index(slab, object) == SIZE_MAX)
		cache_fault(cache, WEIR_FAULT_INTERIOR_POINTER, object, NULL,
		    "%p is not the start of an object");
	if (cache->state == CACHE_STATE_BYTES ||
	    *cache_word(cache, object) == ~cache_live(cache, object))
		cache_fault(cache, WEIR_FAULT_DOUBLE_FREE, object, NULL,
		    "object %p is free already");
	cache_fault(cache, WEIR_FAULT_CORRUPTION, object, NULL,
	    "the word after object %p was overwritten");
}

/* ---- changing the state ----------------------------------------------- */

static uint8_t *
cache_byte(const void *object)
{
	struct weiri_slab *slab = (struct weiri_slab *)weiri_span_of(object);
	size_t index = weiri_slab_index(slab, object);

	return index == SIZE_MAX ? NULL : &slab->state[index];
}

/* free -> live; false if the slot was not free. */
static bool
cache_mark_live(const struct weir_cache *cache, void *object)
{
	if (cache->state == CACHE_STATE_NONE)
		return true;
	if (cache->state == CACHE_STATE_BYTES) {
		uint8_t *byte = cache_byte(object);

		if (byte == NULL || *byte != 0)
			return false;
		*byte = 1;
		return true;
	}

	uint64_t *word = cache_word(cache, object);
	uint64_t live = cache_live(cache, object);

	if (*word != ~live)
		return false;
	*word = live;
	return true;
}

/* live -> free; false if the slot was not live, or @object is no slot. */
static bool
cache_mark_free(const struct weir_cache *cache, void *object)
{
	if (cache->state == CACHE_STATE_NONE)
		return true;
	if (cache->state == CACHE_STATE_BYTES) {
		uint8_t *byte = cache_byte(object);

		if (byte == NULL || *byte != 1)
			return false;
		*byte = 0;
		return true;
	}

	uint64_t *word = cache_word(cache, object);
	uint64_t live = cache_live(cache, object);

	if (*word != live)
		return false;
	*word = ~live;
	return true;
}

/* ---- alloc and free --------------------------------------------------- */

static WEIRI_NOINLINE void *
cache_finish_alloc(struct weir_cache *cache, void *object)
{
	if (!cache_mark_live(cache, object)) {
		/* Back first: a hook that leaves finds it not in use. */
		weiri_depot_put(&cache->depot, object);
		cache_fault(cache, WEIR_FAULT_CORRUPTION, object, NULL,
		    "free object %p was written to");
	}
	if (cache->zero)
		memset(object, 0, cache->object_bytes);
	if (cache->ctor != NULL)
		cache->ctor(object, cache->context);
	return object;
}

void *
weir_cache_alloc(struct weir_cache *cache)
{
	void *object = weiri_depot_get(&cache->depot);

	if (WEIR_UNLIKELY(object == NULL))
		return NULL;
	if (WEIR_UNLIKELY(!cache->plain))
		return cache_finish_alloc(cache, object);

	/* A slot of this cache: its word lies right behind it. */
	uint64_t *word =
	    (uint64_t *)(void *)((char *)object + cache->state_offset);
	uint64_t live = cache_live(cache, object);

	if (WEIR_UNLIKELY(*word != ~live))
		return cache_finish_alloc(cache, object); /* reports it */
	*word = live;
	return object;
}

static WEIRI_NOINLINE void
cache_finish_free(struct weir_cache *cache, void *object)
{
	if (!cache_mark_free(cache, object))
		cache_report(cache, object);
	if (cache->dtor != NULL)
		cache->dtor(object, cache->context);
	weiri_depot_put(&cache->depot, object);
}

void
weir_cache_free(struct weir_cache *cache, void *object)
{
	if (WEIR_UNLIKELY(object == NULL))
		return;

	uint16_t tag = weiri_entry_tag(weiri_page_entry(object));

	if (WEIR_UNLIKELY(tag != cache->depot.index ||
			  ((uintptr_t)object & cache->align_mask) != 0))
		cache_report(cache, object);
	if (WEIR_UNLIKELY(!cache->plain)) {
		cache_finish_free(cache, object);
		return;
	}

	uint64_t *word = cache_word(cache, object);
	uint64_t live = cache_live(cache, object);

	if (WEIR_UNLIKELY(*word != live))
		cache_report(cache, object);
	*word = ~live;
	weiri_depot_put(&cache->depot, object);
}

/* ---- depot hooks ------------------------------------------------------ */

static void
cache_slot_init(struct weiri_slab *slab, void *slot, void *owner)
{
	struct weir_cache *cache = owner;

	(void)slab;
	if (cache->state == CACHE_STATE_WORD)
		*cache_word(cache, slot) = ~cache_live(cache, slot);
	if (cache->init != NULL)
		cache->init(slot, cache->context);
}

static void
cache_slot_fini(struct weiri_slab *slab, void *slot, void *owner)
{
	struct weir_cache *cache = owner;

	(void)slab;
	cache->fini(slot, cache->context);
}

/* Without a hook for the program the walk over a dying slab is spared. */
static const struct weiri_depot_hooks cache_hooks = {
    .slot_init = cache_slot_init,
};
static const struct weiri_depot_hooks cache_hooks_fini = {
    .slot_init = cache_slot_init,
    .slot_fini = cache_slot_fini,
};

/* ---- registry operations ---------------------------------------------- */

static void
cache_fill_stats(struct weiri_pool *pool, struct weir_pool_stats *out)
{
	struct weir_cache *cache =
	    WEIRI_CONTAINER_OF(pool, struct weir_cache, pool);
	struct weiri_depot_stats depot;

	weiri_depot_stats(&cache->depot, &depot);
	out->exact = WEIR_EXACT_COUNTS |
		     (cache->depot.counted ? WEIR_EXACT_REQUESTS : 0u);
	out->object_bytes = cache->object_bytes;
	out->limit =
	    cache->depot.limit == SIZE_MAX ? UINT64_MAX : cache->depot.limit;
	out->total = depot.total;
	out->in_use = depot.in_use;
	out->available = depot.total - depot.in_use;
	out->cached = depot.cached;
	out->in_use_peak = depot.peak;
	out->requests = depot.requests;
	out->hits = depot.hits;
	out->misses = depot.misses;
	out->failures = depot.failures;
	out->bytes_mapped = depot.bytes_mapped;
	out->bytes_in_use = depot.in_use * cache->depot.slot_bytes;
}

static size_t
cache_trim_pool(struct weiri_pool *pool)
{
	return weir_cache_trim(
	    WEIRI_CONTAINER_OF(pool, struct weir_cache, pool));
}

static const struct weiri_pool_ops cache_pool_ops = {
    .stats = cache_fill_stats,
    .trim = cache_trim_pool,
};

/* ---- creation and end ------------------------------------------------- */

static bool
cache_config_valid(const struct weir_cache_config *config)
{
	const unsigned known = WEIR_CACHE_COUNT | WEIR_CACHE_ZERO;

	if (config->object_bytes == 0 ||
	    config->object_bytes > WEIR_CACHE_OBJECT_BYTES_MAX)
		return false;
	if (config->object_align != 0 &&
	    (!weiri_is_pow2(config->object_align) ||
		config->object_align > CACHE_ALIGN_MAX))
		return false;
	if (config->limit != 0 &&
	    config->prealloc >
		(config->limit == WEIR_LIMIT_NOTHING ? 0 : config->limit))
		return false;
	if ((unsigned)config->check > WEIR_CHECK_NONE ||
	    (config->flags & ~known) != 0)
		return false;
	if (config->init != NULL && (config->flags & WEIR_CACHE_ZERO) != 0)
		return false;
	for (size_t i = 0; i < WEIRI_COUNT_OF(config->reserved); i++)
		if (config->reserved[i] != 0)
			return false;
	return true;
}

/* Decides where the state goes; returns the distance of slots. */
static size_t
cache_lay_out(struct weir_cache *cache, const struct weir_cache_config *config,
    size_t align)
{
	size_t bare = weiri_round_up(config->object_bytes, align);
	size_t offset = weiri_round_up(config->object_bytes, sizeof(uint64_t));
	size_t with_word = weiri_round_up(offset + sizeof(uint64_t), align);

	if (config->check == WEIR_CHECK_NONE) {
		cache->state = CACHE_STATE_NONE;
		return bare;
	}
	if (with_word - bare > bare / CACHE_STATE_SHARE ||
	    bare >= CACHE_WORD_BYTES_MAX) {
		cache->state = CACHE_STATE_BYTES;
		return bare;
	}
	cache->state = CACHE_STATE_WORD;
	cache->state_offset = (uint32_t)offset;
	return with_word;
}

static int
cache_init_depot(
    struct weir_cache *cache, const struct weir_cache_config *config)
{
	size_t align = config->object_align != 0 ? config->object_align
						 : CACHE_ALIGN_DEFAULT;

	align = weiri_max(align, CACHE_ALIGN_MIN);

	struct weiri_depot_config depot = {
	    .kind = "cache",
	    .name = cache->pool.name,
	    .slot_bytes = cache_lay_out(cache, config, align),
	    .slot_align = align,
	    .limit = config->limit == 0                    ? SIZE_MAX
		     : config->limit == WEIR_LIMIT_NOTHING ? 0
							   : config->limit,
	    .state_bytes = cache->state == CACHE_STATE_BYTES,
	    .counted = (config->flags & WEIR_CACHE_COUNT) != 0,
	    .hooks = config->fini != NULL ? &cache_hooks_fini : &cache_hooks,
	    .owner = cache,
	};
	int error = weiri_depot_init(&cache->depot, &depot);

	if (error != 0)
		return error;
	cache->align_mask = align - 1;
	cache->slab_mask = cache->depot.slab_bytes - 1;
	cache->plain = cache->state == CACHE_STATE_WORD && !cache->zero &&
		       config->ctor == NULL && config->dtor == NULL;
	return 0;
}

int
weir_cache_create(const char *name, const struct weir_cache_config *config,
    struct weir_cache **out)
{
	struct weir_cache *cache;
	int error;

	*out = NULL;
	if (!cache_config_valid(config))
		return -EINVAL;
	(void)weiri_config(); /* starts the library */
	cache = weiri_meta_need(sizeof(*cache));
	if (cache == NULL)
		return -ENOMEM;
	cache->secret = weiri_os_random();
	cache->object_bytes = config->object_bytes;
	cache->zero = (config->flags & WEIR_CACHE_ZERO) != 0;
	cache->init = config->init;
	cache->fini = config->fini;
	cache->ctor = config->ctor;
	cache->dtor = config->dtor;
	cache->context = config->context;
	error = cache_init_depot(cache, config);
	if (error != 0)
		goto undo_cache;
	weiri_pool_register(
	    &cache->pool, WEIR_POOL_CACHE, name, &cache_pool_ops, false);
	error = weiri_depot_prepare(&cache->depot, config->prealloc);
	if (error != 0)
		goto undo_depot;
	cache->magic = CACHE_MAGIC;
	*out = cache;
	return 0;

undo_depot:
	weiri_pool_unregister(&cache->pool);
	weiri_depot_finish(&cache->depot);
undo_cache:
	weiri_meta_free(cache, sizeof(*cache));
	return error;
}

size_t
weir_cache_trim(struct weir_cache *cache)
{
	return weiri_depot_trim(&cache->depot);
}

int
weir_cache_stats(struct weir_cache *cache, struct weir_pool_stats *out)
{
	if (out->size != sizeof(*out))
		return -EINVAL;
	weiri_pool_stats(&cache->pool, out);
	return 0;
}

/* C2, over all slabs of one list. */
static uint64_t
cache_count_live(const struct weir_cache *cache, struct weiri_list *slabs)
{
	uint64_t live = 0;

	WEIRI_LIST_FOR(node, slabs)
	{
		struct weiri_slab *slab =
		    WEIRI_CONTAINER_OF(node, struct weiri_slab, link);

		for (size_t i = 0; i < slab->carved; i++) {
			void *object = weiri_slab_address(slab, i);

			live += cache->state == CACHE_STATE_BYTES
				    ? slab->state[i] == 1
				    : *cache_word(cache, object) ==
					  cache_live(cache, object);
		}
	}
	return live;
}

bool
weir_cache_check(struct weir_cache *cache)
{
	const char *why = NULL;
	struct weiri_depot_stats stats;

	if (!weiri_depot_check(&cache->depot, &why)) {
		weiri_message(WEIR_MESSAGE_ERROR, why);
		return false;
	}
	if (cache->state == CACHE_STATE_NONE)
		return true;
	weiri_depot_stats(&cache->depot, &stats);
	if (cache_count_live(cache, &cache->depot.partial) +
		cache_count_live(cache, &cache->depot.full) ==
	    stats.in_use)
		return true;
	weiri_message(WEIR_MESSAGE_ERROR, "C2: live states and objects in use");
	return false;
}

void
weir_cache_destroy(struct weir_cache *cache)
{
	struct weiri_depot_stats stats;

	if (cache == NULL)
		return;
	if (cache->magic != CACHE_MAGIC)
		weiri_fault(&(struct weiri_fault_site){
		    .fault_class = WEIR_FAULT_DOUBLE_DESTROY,
		    .pool_kind = "cache",
		    .address = cache,
		    .detail = "%p is no live cache"});
	weiri_depot_stats(&cache->depot, &stats);
	if (stats.in_use != 0)
		weiri_fault(&(struct weiri_fault_site){
		    .fault_class = WEIR_FAULT_LIVE_OBJECTS,
		    .pool_kind = "cache",
		    .pool_name = cache->pool.name,
		    .number = stats.in_use,
		    .detail = "%u objects are still in use"});
	cache->magic = 0;
	weiri_pool_unregister(&cache->pool);
	weiri_depot_finish(&cache->depot);
	weiri_meta_free(cache, sizeof(*cache));
}
