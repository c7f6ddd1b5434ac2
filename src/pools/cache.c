/* SPDX-License-Identifier: MIT */
/*
 * cache.c - named caches of objects over a depot, with checks at the call.
 *
 * The depot moves slots; the cache decides what a slot looks like and verifies
 * what comes back.  At level `each` every object has a state, live or free:
 *
 *      word        +---+--------------+---+--------------+   where it costs an
 *                  | s |   object 0   | s |   object 1   |   eighth at most:
 *                  +---+--------------+---+--------------+   s = live or 0
 *
 *      table       +-----------+----------+----------+---    small objects:
 *                  | s s s s . | object 0 | object 1 |       2 bytes each at
 *                  +-----------+----------+----------+---    the slab's start
 *
 *      byte        in the slab's header: large objects, large alignments
 *
 * A free asks first whose memory the address is in (pages/near.h, else the page
 * map), so that a wild pointer is never read; then for the state.  The word has
 * a value of the cache's own, and lies on the line of the object's first bytes,
 * which the caller touches anyway; behind the object it would cost a miss.  A
 * table entry holds the low bits of its object's address, so a pointer into the
 * middle does not fit; neighbours share a line of it, which two threads that
 * exchange single small objects feel.  Both also tell of a write past the end
 * of the object before.
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
 *   C2  The number of slots in state live is the number of objects in use.
 *
 * Hooks: init and fini run when a slot comes into being and when its slab
 * ends; ctor and dtor at each use (FreeBSD's uma(9) draws the same line).
 */
#include <weir/cache.h>

#include "base/bits.h"
#include "config/config.h"
#include "guard/fault.h"
#include "pages/near.h"
#include "slab/cursor.h"
#include "watch/registry.h"

#include <errno.h>
#include <string.h>

#define CACHE_ALIGN_DEFAULT 16
#define CACHE_ALIGN_MIN 8
#define CACHE_ALIGN_MAX 4096

/* The word in line may add this share of the slot. */
#define CACHE_STATE_SHARE 8

/* From here on a word would push an object of a power of two out of the slab
 * it fills, and a look-up is nothing against the object's own use. */
#define CACHE_WORD_BYTES_MAX ((size_t)32 << 10)

/* Slots up to this size may have their states in a table; for larger ones it
 * would cost the slab a slot that counts. */
#define CACHE_TABLE_SLOT_MAX 1024

/* In the state byte of a slot in the header. */
#define CACHE_BYTE_LIVE 1u

/* Told apart from whatever lies where a destroyed cache was. */
#define CACHE_MAGIC UINT32_C(0x63616368)

/* Masks of the head. */
#define CACHE_TAKE_EDGE ((uint64_t)WEIRI_MAGAZINE_TAG)
#define CACHE_TAKE_NEVER UINT64_MAX
#define CACHE_PUT_MASK ((uint32_t)WEIR_ABI_MAGAZINE_BYTES - 1)
#define CACHE_PUT_FULL ((uint32_t)WEIR_ABI_MAGAZINE_FULL)

enum cache_state {
	CACHE_STATE_WORD,  /* before the object */
	CACHE_STATE_TABLE, /* at the slab's start */
	CACHE_STATE_BYTE,  /* in the slab's header */
	CACHE_STATE_NONE,  /* level `batch` */
};

struct weir_cache {
	struct weir_abi_head head; /* first: compiled into programs */
	uint8_t state;             /* enum cache_state */
	bool zero;
	bool extra; /* hooks, zeroing: only the long path */
	uint32_t magic;

	size_t object_bytes;
	weir_cache_hook_fn init, fini, ctor, dtor;
	void *context;
	struct weiri_pool pool;
	struct weiri_depot depot;
};

static_assert(offsetof(struct weir_cache, head) == 0, "see weir/cache.h");

/* ---- state of a slot -------------------------------------------------- */

WEIRI_INLINE uint64_t *
cache_word(const void *object)
{
	return (uint64_t *)(uintptr_t)object - 1;
}

static uint8_t *
cache_byte(const void *object)
{
	struct weiri_slab *slab = (struct weiri_slab *)weiri_span_of(object);
	size_t index = weiri_slab_index(slab, object);

	return index == SIZE_MAX ? NULL : &slab->state[index];
}

/* Of a slot of this cache. */
static bool
cache_is_live(const struct weir_cache *cache, const void *object)
{
	switch ((enum cache_state)cache->state) {
	case CACHE_STATE_WORD:
		return *cache_word(object) == cache->head.live;
	case CACHE_STATE_TABLE:
		return *weir_abi_entry(&cache->head, object) ==
		       (uint16_t)(uintptr_t)object;
	case CACHE_STATE_BYTE:
		return (*cache_byte(object) & CACHE_BYTE_LIVE) != 0;
	case CACHE_STATE_NONE:
		break;
	}
	return true;
}

static void
cache_mark(const struct weir_cache *cache, const void *object, bool live)
{
	switch ((enum cache_state)cache->state) {
	case CACHE_STATE_WORD:
		*cache_word(object) = live ? cache->head.live : 0;
		break;
	case CACHE_STATE_TABLE:
		*weir_abi_entry(&cache->head, object) =
		    (uint16_t)((uintptr_t)object ^
			       (live ? 0 : WEIR_ABI_TABLE_FREE));
		break;
	case CACHE_STATE_BYTE:
		*cache_byte(object) = live ? CACHE_BYTE_LIVE : 0;
		break;
	case CACHE_STATE_NONE:
		break;
	}
}

/* ---- faults ----------------------------------------------------------- */

static WEIRI_COLD WEIRI_NORETURN void
cache_fault(const struct weir_cache *cache, enum weir_fault_class fault_class,
    const void *object, const char *detail)
{
	weiri_fault(&(struct weiri_fault_site){.fault_class = fault_class,
	    .pool_kind = "cache",
	    .pool_name = cache->pool.name,
	    .address = object,
	    .detail = detail});
}

/* Says what is wrong with an object that failed the checks of a free. */
static WEIRI_COLD WEIRI_NORETURN void
cache_report(const struct weir_cache *cache, const void *object)
{
	bool free = true;

	weiri_depot_require(&cache->depot, object);
	if (cache->state == CACHE_STATE_WORD)
		free = *cache_word(object) == 0;
	else if (cache->state == CACHE_STATE_TABLE)
		free = *weir_abi_entry(&cache->head, object) ==
		       ((uint16_t)(uintptr_t)object ^ WEIR_ABI_TABLE_FREE);
	if (free)
		cache_fault(cache, WEIR_FAULT_DOUBLE_FREE, object,
		    "object %p is free already");
	cache_fault(cache, WEIR_FAULT_CORRUPTION, object,
	    "the word before object %p was overwritten");
}

/* ---- alloc ------------------------------------------------------------ */

static void *
cache_finish_alloc(struct weir_cache *cache, void *object)
{
	cache_mark(cache, object, true);
	if (cache->zero)
		memset(object, 0, cache->object_bytes);
	if (cache->ctor != NULL)
		cache->ctor(object, cache->context);
	return object;
}

/* The edge of a magazine, and caches with more to do. */
static WEIRI_NOINLINE void *
cache_alloc_slow(struct weir_cache *cache)
{
	struct weir_local *local = weiri_local();
	uintptr_t **cell = weiri_local_cell(local, cache->head.cell);
	void *object = cache->extra ? weiri_cell_pop(cell) : NULL;

	if (object == NULL)
		object = weiri_depot_get_slow(&cache->depot);
	else if (cache->depot.counted)
		WEIRI_BUMP(weiri_cell_requests(cell), 1);
	if (WEIR_UNLIKELY(object == NULL))
		return NULL;
	return cache_finish_alloc(cache, object);
}

void *
weir_cache_alloc(struct weir_cache *cache)
{
	uintptr_t **cell = weiri_local_cell(weiri_local(), cache->head.cell);
	void *object;

	if (WEIR_UNLIKELY(!weir_abi_take(&cache->head, cell, &object)))
		return cache_alloc_slow(cache);
	return object;
}

/* ---- free ------------------------------------------------------------- */

/* The edge of a magazine, addresses far from the others, caches with more to
 * do, and wrong frees. */
static WEIRI_NOINLINE void
cache_free_slow(struct weir_cache *cache, void *object)
{
	if (object == NULL)
		return;
	if (cache->state != CACHE_STATE_NONE) {
		/* Before its state is read: is there one? */
		weiri_depot_require(&cache->depot, object);
		if (!cache_is_live(cache, object))
			cache_report(cache, object);
		cache_mark(cache, object, false);
	}
	if (cache->dtor != NULL)
		cache->dtor(object, cache->context);
	weiri_depot_put(&cache->depot, object);
}

void
weir_cache_free(struct weir_cache *cache, void *object)
{
	uintptr_t **cell = weiri_local_cell(weiri_local(), cache->head.cell);

	if (WEIR_UNLIKELY(!weir_abi_put(&cache->head, cell, object)))
		cache_free_slow(cache, object);
}

/* ---- depot hooks ------------------------------------------------------ */

static void
cache_slot_init(struct weiri_slab *slab, void *slot, void *owner)
{
	struct weir_cache *cache = owner;

	(void)slab;
	cache_mark(cache, slot, false);
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
	if ((unsigned)config->check > WEIR_CHECK_BATCH ||
	    (config->flags & ~known) != 0)
		return false;
	if (config->init != NULL && (config->flags & WEIR_CACHE_ZERO) != 0)
		return false;
	for (size_t i = 0; i < WEIRI_COUNT_OF(config->reserved); i++)
		if (config->reserved[i] != 0)
			return false;
	return true;
}

/* Decides where the state goes, and with it the slots. */
static void
cache_lay_out(struct weir_cache *cache, const struct weir_cache_config *config,
    struct weiri_depot_config *depot)
{
	size_t align = depot->slot_align;
	size_t bare = weiri_round_up(config->object_bytes, align);
	size_t with_word =
	    weiri_round_up(config->object_bytes + sizeof(uint64_t), align);

	depot->slot_bytes = bare;
	if (config->check == WEIR_CHECK_BATCH) {
		cache->state = CACHE_STATE_NONE;
	} else if (with_word - bare <= bare / CACHE_STATE_SHARE &&
		   bare < CACHE_WORD_BYTES_MAX) {
		cache->state = CACHE_STATE_WORD;
		depot->slot_bytes = with_word;
		depot->head_bytes = weiri_round_up(sizeof(uint64_t), align);
	} else if (bare <= CACHE_TABLE_SLOT_MAX) {
		cache->state = CACHE_STATE_TABLE;
		depot->slab_bytes = WEIR_ABI_TABLE_SLAB;
		depot->head_bytes = weiri_round_up(
		    (WEIR_ABI_TABLE_SLAB >> weiri_log2_floor(bare)) *
			sizeof(uint16_t),
		    align);
	} else {
		cache->state = CACHE_STATE_BYTE;
	}
}

/* Which calls the inline halves may end by themselves. */
static void
cache_set_head(struct weir_cache *cache)
{
	bool plain = !cache->extra && cache->state == CACHE_STATE_NONE;
	bool word = !cache->extra && cache->state == CACHE_STATE_WORD;
	bool table = !cache->extra && cache->state == CACHE_STATE_TABLE;

	cache->head = (struct weir_abi_head){
	    .take_plain = plain ? CACHE_TAKE_EDGE : CACHE_TAKE_NEVER,
	    .take_word = word ? CACHE_TAKE_EDGE : CACHE_TAKE_NEVER,
	    .take_table = table ? CACHE_TAKE_EDGE : CACHE_TAKE_NEVER,
	    .cell = cache->depot.fast_offset,
	    .put_mask = plain ? CACHE_PUT_MASK : 0,
	    .put_full = plain ? CACHE_PUT_FULL : 0,
	    .tag = cache->depot.index,
	    .check = word    ? WEIR_ABI_CHECK_WORD
		     : table ? WEIR_ABI_CHECK_TABLE
			     : WEIR_ABI_CHECK_OTHER,
	    .table_shift = (uint8_t)weiri_log2_floor(cache->depot.slot_bytes),
	    .near_base = weiri_near_base(),
	    .near_tags = weiri_near_tag,
	    .live = weiri_os_random() | 1, /* never 0 */
	};
}

static int
cache_init_depot(
    struct weir_cache *cache, const struct weir_cache_config *config)
{
	size_t align = config->object_align != 0 ? config->object_align
						 : CACHE_ALIGN_DEFAULT;
	bool each = config->check == WEIR_CHECK_EACH;
	bool count = (config->flags & WEIR_CACHE_COUNT) != 0;
	struct weiri_depot_config depot = {
	    .kind = "cache",
	    .name = cache->pool.name,
	    .slot_align = weiri_max(align, CACHE_ALIGN_MIN),
	    .limit = config->limit == 0                    ? SIZE_MAX
		     : config->limit == WEIR_LIMIT_NOTHING ? 0
							   : config->limit,
	    .state_bytes = true,
	    .verify = true,
	    .counted = each || count,
	    .hooks = config->fini != NULL ? &cache_hooks_fini : &cache_hooks,
	    .owner = cache,
	};
	int error;

	cache_lay_out(cache, config, &depot);
	error = weiri_depot_init(&cache->depot, &depot);
	if (error != 0)
		return error;
	cache->extra = cache->state == CACHE_STATE_BYTE || cache->zero ||
		       config->ctor != NULL || config->dtor != NULL ||
		       (!each && count);
	cache_set_head(cache);
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
			live +=
			    cache_is_live(cache, weiri_slab_address(slab, i));
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
