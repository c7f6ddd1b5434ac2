/* SPDX-License-Identifier: MIT */
/*
 * cache_make.c - caches come to be and end.
 *
 * A configuration says what the program wants; here it is decided where the
 * state of an object lies (see cache.c), which calls the inline halves may end
 * by themselves, and which hooks the depot calls.  Nothing of it changes later.
 */
#include "pools/cache.h"

#include "base/bits.h"
#include "config/config.h"
#include "config/invalid.h"
#include "guard/fault.h"
#include "pages/near.h"
#include "slab/stock.h"

#include <errno.h>

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

/* Masks of the head. */
#define CACHE_TAKE_EDGE ((uintptr_t)WEIRI_MAGAZINE_TAG)
#define CACHE_TAKE_NEVER UINTPTR_MAX
#define CACHE_PUT_EDGE ((uint16_t)(WEIR_ABI_MAGAZINE_BYTES - 1))

/* ---- the configuration ------------------------------------------------ */

int
weiri_cache_invalid(const char *name, const char *field, uint64_t value,
    const char *allowed, uint64_t bound)
{
	return weiri_invalid(
	    &(struct weiri_invalid){.call = "weir_cache_create",
		.kind = "cache",
		.name = name,
		.field = field,
		.value = value,
		.allowed = allowed,
		.bound = {bound}});
}

static int
cache_invalid_flags(const char *name, uint64_t flags, const char *allowed)
{
	return weiri_invalid(
	    &(struct weiri_invalid){.call = "weir_cache_create",
		.kind = "cache",
		.name = name,
		.field = "flags",
		.value = flags,
		.bits = true,
		.allowed = allowed});
}

static size_t
cache_limit(const struct weir_cache_config *config)
{
	if (config->limit == WEIR_LIMIT_NOTHING)
		return 0;
	return config->limit == 0 ? SIZE_MAX : config->limit;
}

/* 0 or -EINVAL; the sizes. */
static int
cache_check_sizes(const char *name, const struct weir_cache_config *config)
{
	if (config->object_bytes == 0 ||
	    config->object_bytes > WEIR_CACHE_OBJECT_BYTES_MAX)
		return weiri_cache_invalid(name, "object_bytes",
		    config->object_bytes, "1 .. %u",
		    WEIR_CACHE_OBJECT_BYTES_MAX);
	if (config->object_align != 0 &&
	    (!weiri_is_pow2(config->object_align) ||
		config->object_align > CACHE_ALIGN_MAX))
		return weiri_cache_invalid(name, "object_align",
		    config->object_align, "0 or a power of two up to %u",
		    CACHE_ALIGN_MAX);
	if (config->prealloc > cache_limit(config))
		return weiri_cache_invalid(name, "prealloc", config->prealloc,
		    "0 .. %u, the limit", cache_limit(config));
	return 0;
}

static int
cache_check_config(const char *name, const struct weir_cache_config *config)
{
	const unsigned known = WEIR_CACHE_COUNT | WEIR_CACHE_ZERO |
			       WEIR_CACHE_HANDLES | WEIR_CACHE_VERIFY;
	size_t word;
	int error = cache_check_sizes(name, config);

	if (error != 0)
		return error;
	if ((unsigned)config->check > WEIR_CHECK_BATCH)
		return weiri_cache_invalid(name, "check",
		    (unsigned)config->check,
		    "0 (WEIR_CHECK_EACH) or %u (WEIR_CHECK_BATCH)",
		    WEIR_CHECK_BATCH);
	if ((config->flags & ~known) != 0)
		return cache_invalid_flags(
		    name, config->flags, "those of enum weir_cache_flags");
	if (config->init != NULL && (config->flags & WEIR_CACHE_ZERO) != 0)
		return cache_invalid_flags(name, config->flags,
		    "no WEIR_CACHE_ZERO beside init, whose work it would undo");
	if (config->init == NULL && (config->flags & WEIR_CACHE_VERIFY) != 0)
		return cache_invalid_flags(name, config->flags,
		    "no WEIR_CACHE_VERIFY without init, whose work it "
		    "compares");
	if (config->init == NULL && config->verify != NULL)
		return weiri_cache_invalid(name, "verify",
		    (uintptr_t)config->verify,
		    "NULL without init, whose work it looks at", 0);
	error = weiri_cache_check_policy(name, config, cache_limit(config));
	if (error != 0)
		return error;
	word = weiri_invalid_word(
	    config->reserved, WEIRI_COUNT_OF(config->reserved));
	if (word < WEIRI_COUNT_OF(config->reserved))
		return weiri_invalid(
		    &(struct weiri_invalid){.call = "weir_cache_create",
			.kind = "cache",
			.name = name,
			.field = "reserved[]",
			.index = word,
			.value = config->reserved[word],
			.allowed = "0"});
	return 0;
}

/* ---- what becomes of it ----------------------------------------------- */

/* Two bytes a slot; and the first entry is to be no slot's, whose place is where
 * the entries of free ones lead to. */
static size_t
cache_table_bytes(size_t slot_bytes)
{
	unsigned shift = weiri_log2_floor(slot_bytes);

	return weiri_max((WEIR_ABI_TABLE_SLAB >> shift) * sizeof(uint16_t),
	    (size_t)1 << shift);
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
		cache->state = WEIRI_CACHE_NONE;
	} else if (with_word - bare <= bare / CACHE_STATE_SHARE &&
		   bare < CACHE_WORD_BYTES_MAX) {
		cache->state = WEIRI_CACHE_WORD;
		depot->slot_bytes = with_word;
		depot->head_bytes = weiri_round_up(sizeof(uint64_t), align);
		depot->front_bytes = sizeof(uint64_t);
	} else if (bare <= CACHE_TABLE_SLOT_MAX) {
		cache->state = WEIRI_CACHE_TABLE;
		depot->slab_bytes = WEIR_ABI_TABLE_SLAB;
		depot->head_bytes =
		    weiri_round_up(cache_table_bytes(bare), align);
	} else {
		cache->state = WEIRI_CACHE_BYTE;
	}
}

/* Which calls the inline halves may end by themselves. */
static void
cache_set_head(struct weir_cache *cache)
{
	bool none = cache->state == WEIRI_CACHE_NONE;
	bool word = cache->state == WEIRI_CACHE_WORD;
	bool table = cache->state == WEIRI_CACHE_TABLE;
	bool take = !cache->long_take, put = !cache->long_put;

	cache->head = (struct weir_abi_head){
	    .take_plain = none && take ? CACHE_TAKE_EDGE : CACHE_TAKE_NEVER,
	    .take_word = word && take ? CACHE_TAKE_EDGE : CACHE_TAKE_NEVER,
	    .take_table = table && take ? CACHE_TAKE_EDGE : CACHE_TAKE_NEVER,
	    .cell = cache->depot.fast_offset,
	    .put_plain = none && put ? CACHE_PUT_EDGE : 0,
	    .put_word = word && put ? CACHE_PUT_EDGE : 0,
	    .put_table = table && put ? CACHE_PUT_EDGE : 0,
	    .tag = cache->depot.index,
	    .check = word && put    ? WEIR_ABI_CHECK_WORD
		     : table && put ? WEIR_ABI_CHECK_TABLE
				    : WEIR_ABI_CHECK_OTHER,
	    .table_shift =
		(uint8_t)(weiri_log2_floor(cache->depot.slot_bytes) - 1),
	    .near_base = weiri_near_base(),
	    .near_tags = weiri_near_tag,
	    .live = weiri_os_random() | 1, /* never that of a free one */
	};
}

static void
cache_set_hooks(struct weir_cache *cache)
{
	cache->hooks.slot_init = weiri_cache_slot_init;
	/* Without a hook for the program the walk over a dying slab is
	 * spared. */
	if (cache->fini != NULL)
		cache->hooks.slot_fini = weiri_cache_slot_fini;
	/* What init made must stay, and fini may look at what it ends. */
	if (cache->init == NULL && cache->fini == NULL)
		cache->hooks.slot_again = weiri_cache_slot_again;
	if (cache->handles) {
		cache->hooks.slab_open = weiri_handle_slab_open;
		cache->hooks.slab_close = weiri_handle_slab_close;
	}
}

static int
cache_init_depot(
    struct weir_cache *cache, const struct weir_cache_config *config)
{
	size_t align = config->object_align != 0 ? config->object_align
						 : CACHE_ALIGN_DEFAULT;
	bool each = config->check == WEIR_CHECK_EACH;
	bool count = (config->flags & WEIR_CACHE_COUNT) != 0;
	struct weiri_wait_config wait = weiri_cache_wait_config(config);
	struct weiri_depot_config depot = {
	    .kind = "cache",
	    .name = cache->pool.name,
	    .slot_align = weiri_max(align,
		cache->handles ? WEIRI_HANDLE_SLOT_MIN : CACHE_ALIGN_MIN),
	    .limit = cache_limit(config),
	    .state_bytes = true,
	    .verify = true,
	    .counted = each || count,
	    .countdown = each || count,
	    .wait = &wait,
	    .quota = config->quota,
	    .guard = &cache->guard,
	    .hooks = &cache->hooks,
	    .owner = cache,
	};
	int error;

	cache_set_hooks(cache);
	cache_lay_out(cache, config, &depot);
	error = weiri_depot_init(&cache->depot, &depot);
	if (error != 0)
		return error;
	cache->long_take = cache->state == WEIRI_CACHE_BYTE || cache->zero ||
			   config->ctor != NULL || (!each && count);
	cache->long_put = cache->state == WEIRI_CACHE_BYTE || cache->handles ||
			  config->dtor != NULL ||
			  config->policy == WEIR_LIMIT_NOTIFY;
	/* Where a call looks at nothing, what it frees could not be asked. */
	if (!each && (cache->verify != NULL || cache->keeps_state))
		cache->long_put = true;
	cache_set_head(cache);
	return 0;
}

/* ---- creation and end ------------------------------------------------- */

int
weir_cache_create(const char *name, const struct weir_cache_config *config,
    struct weir_cache **out)
{
	char told[WEIRI_NAME_BYTES];
	struct weir_cache *cache;
	int error;

	*out = NULL;
	weiri_name_set(told, name);
	error = cache_check_config(told, config);
	if (error != 0)
		return error;
	(void)weiri_config(); /* starts the library */
	cache = weiri_meta_need(sizeof(*cache));
	if (cache == NULL)
		return -ENOMEM;
	cache->object_bytes = config->object_bytes;
	cache->zero = (config->flags & WEIR_CACHE_ZERO) != 0;
	cache->handles = (config->flags & WEIR_CACHE_HANDLES) != 0;
	cache->init = config->init;
	cache->fini = config->fini;
	cache->ctor = config->ctor;
	cache->dtor = config->dtor;
	cache->context = config->context;
	cache->verify = config->verify;
	cache->keeps_state = (config->flags & WEIR_CACHE_VERIFY) != 0;
	cache->notify = config->notify;
	cache->notify_context = config->notify_context;
	cache->notify_fd = config->notify_fd;
	if (config->type_name != NULL)
		weiri_name_set(cache->type, config->type_name);
	error = cache_init_depot(cache, config);
	if (error != 0)
		goto undo_cache;
	/* From here on others may trim it. */
	cache->magic = WEIRI_CACHE_MAGIC;
	weiri_pool_register(
	    &cache->pool, WEIR_POOL_CACHE, name, &weiri_cache_pool_ops, false);
	error = weiri_depot_prepare(&cache->depot, config->prealloc);
	if (error != 0)
		goto undo_depot;
	cache->guard.type = cache->type;
	weiri_guard_enter(&cache->guard, "cache", cache->pool.name);
	cache->born_bare = weiri_guard_bare(&cache->guard);
	*out = cache;
	return 0;

undo_depot:
	weiri_pool_unregister(&cache->pool);
	weiri_depot_finish(&cache->depot);
undo_cache:
	weiri_meta_free(cache, sizeof(*cache));
	return error;
}

void
weiri_cache_not_live(const struct weir_cache *cache, const void *address)
{
	bool known = cache->magic == WEIRI_CACHE_DEAD;

	weiri_wait_abandon();
	weiri_fault(&(struct weiri_fault_site){
	    .fault_class = known ? WEIR_FAULT_USE_AFTER_DESTROY
				 : WEIR_FAULT_FOREIGN_POINTER,
	    .pool_kind = "cache",
	    .pool_name = known ? cache->pool.name : NULL,
	    .pool_type = known ? cache->type : NULL,
	    .address = address,
	    .detail = !known             ? "%p is no live cache"
		      : address == cache ? "it is used, but was destroyed"
					 : "%p is freed to it, but it was "
					   "destroyed"});
}

/* The dtor of a cache that ended. */
static void
cache_free_dead(void *object, void *context)
{
	if (WEIR_DETECTOR(cache_freed_to_gone))
		weiri_cache_not_live(context, object);
}

/* What its record is left as: whatever a program goes on to call with it comes
 * to weiri_cache_not_live(), and no call on a live cache is a test longer.  The
 * cursor of cell 0 is at the dummy, so each request comes to its slow half; a
 * free finds no state to look at, but a dtor. */
static void
cache_bury(struct weir_cache *cache)
{
	cache->magic = WEIRI_CACHE_DEAD;
	cache->head.take_plain = CACHE_TAKE_NEVER;
	cache->head.take_word = CACHE_TAKE_NEVER;
	cache->head.take_table = CACHE_TAKE_NEVER;
	cache->head.cell = WEIRI_CELL_NONE;
	cache->head.put_plain = 0;
	cache->head.put_word = 0;
	cache->head.put_table = 0;
	cache->head.check = WEIR_ABI_CHECK_OTHER;
	cache->state = WEIRI_CACHE_NONE;
	cache->handles = false;
	cache->long_take = false;
	cache->long_put = true;
	cache->dtor = cache_free_dead;
	cache->context = cache;
	weiri_grave_put(cache, sizeof(*cache));
}

void
weir_cache_destroy(struct weir_cache *cache)
{
	struct weiri_depot_stats stats;
	void *bad;

	if (cache == NULL)
		return;
	if (cache->magic != WEIRI_CACHE_MAGIC &&
	    WEIR_DETECTOR(cache_double_destroy))
		weiri_fault(&(struct weiri_fault_site){
		    .fault_class = WEIR_FAULT_DOUBLE_DESTROY,
		    .pool_kind = "cache",
		    /* Any other word: the record has been reused. */
		    .pool_name = cache->magic == WEIRI_CACHE_DEAD
				     ? cache->pool.name
				     : NULL,
		    .address = cache,
		    .detail = "%p is no live cache"});
	/* First: an object that was freed twice makes up for one in use. */
	bad = weiri_depot_settle(&cache->depot);
	if (bad != NULL)
		weiri_stock_report(&cache->depot, bad);
	weiri_depot_stats(&cache->depot, &stats);
	/* In a fork's child, what other threads were moving is lost, not used. */
	if (stats.in_use > stats.lost && WEIR_DETECTOR(cache_live_objects))
		weiri_fault(&(struct weiri_fault_site){
		    .fault_class = WEIR_FAULT_LIVE_OBJECTS,
		    .pool_kind = "cache",
		    .pool_name = cache->pool.name,
		    .pool_type = cache->type,
		    .number = stats.in_use,
		    .detail = "%u %{object is|objects are} still in use"});
	weiri_guard_leave(&cache->guard);
	weiri_pool_unregister(&cache->pool);
	weiri_depot_finish(&cache->depot);
	cache_bury(cache);
}
