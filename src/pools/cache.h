/* SPDX-License-Identifier: MIT */
/*
 * cache.h - a cache, for the files that make one up.
 *
 *   cache.c         one object: alloc, free and what they look at; the hooks;
 *                   figures
 *   cache_make.c    a configuration, what becomes of it; creation and end
 *   cache_bulk.c    many objects a call
 *   cache_limit.c   what happens at the limit, and changing it
 *   cache_handle.c  handles: what an object is called when it may be gone
 *   cache_visit.c   all live objects: iteration, the check of the cache
 *   cache_guard.c   objects under guard
 */
#ifndef WEIRI_CACHE_H
#define WEIRI_CACHE_H

#include "base/detector.h"
#include "guard/guard.h"
#include "slab/cursor.h"
#include "watch/registry.h"

#include <weir/cache.h>
#include <weir/handle.h>

enum weiri_cache_state {
	WEIRI_CACHE_WORD,  /* before the object */
	WEIRI_CACHE_TABLE, /* at the slab's start */
	WEIRI_CACHE_BYTE,  /* in the slab's header */
	WEIRI_CACHE_NONE,  /* level `batch` */
};

/* Told apart from whatever lies where a destroyed cache was. */
#define WEIRI_CACHE_MAGIC UINT32_C(0x63616368)
#define WEIRI_CACHE_DEAD UINT32_C(0x64656164)

/* In the state byte of a slot in the header. */
#define WEIRI_CACHE_BYTE_LIVE 1u

struct weir_cache {
	struct weir_abi_head head; /* first: compiled into programs */
	uint8_t state;             /* enum weiri_cache_state */
	bool zero;
	bool handles;
	bool long_take, long_put; /* never as the head's plain cases */
	bool told;                /* of a handle of another cache */
	bool born_bare;           /* no thread ever had a magazine */
	bool keeps_state;         /* what init wrote is compared under guard */
	uint32_t magic;

	size_t object_bytes;
	weir_cache_hook_fn init, fini, ctor, dtor;
	void *context;
	weir_cache_notify_fn notify;
	void *notify_context;
	weir_cache_verify_fn verify;
	int notify_fd;               /* 0: none */
	char type[WEIRI_NAME_BYTES]; /* of the objects; empty: not said */
	struct weiri_pool pool;
	struct weiri_depot_hooks hooks;
	struct weiri_guard_pool guard;
	struct weiri_depot depot;
};

static_assert(offsetof(struct weir_cache, head) == 0, "see weir/cache.h");

/* ---- state of a slot -------------------------------------------------- */

WEIRI_INLINE uint64_t *
weiri_cache_word(const void *object)
{
	return (uint64_t *)(uintptr_t)object - 1;
}

/* Of @object, slot @slot of @slab; these two count where the state is a byte. */
WEIRI_INLINE bool
weiri_cache_is_live(const struct weir_cache *cache,
    const struct weiri_slab *slab, size_t slot, const void *object)
{
	switch ((enum weiri_cache_state)cache->state) {
	case WEIRI_CACHE_WORD:
		return *weiri_cache_word(object) == cache->head.live;
	case WEIRI_CACHE_TABLE:
		return *weir_abi_entry(&cache->head, object) ==
		       (uint16_t)(uintptr_t)object;
	case WEIRI_CACHE_BYTE:
		return (slab->state[slot] & WEIRI_CACHE_BYTE_LIVE) != 0;
	case WEIRI_CACHE_NONE:
		break;
	}
	return true;
}

WEIRI_INLINE void
weiri_cache_mark(const struct weir_cache *cache, struct weiri_slab *slab,
    size_t slot, const void *object, bool live)
{
	switch ((enum weiri_cache_state)cache->state) {
	case WEIRI_CACHE_WORD:
		*weiri_cache_word(object) =
		    live ? cache->head.live : WEIR_ABI_WORD_FREE;
		break;
	case WEIRI_CACHE_TABLE:
		*weir_abi_entry(&cache->head, object) =
		    live ? (uint16_t)(uintptr_t)object
			 : weir_abi_free_entry(object);
		break;
	case WEIRI_CACHE_BYTE:
		slab->state[slot] = live ? WEIRI_CACHE_BYTE_LIVE : 0;
		break;
	case WEIRI_CACHE_NONE:
		break;
	}
}

/* The slab and the slot of an object; NULL for what is none of the cache's. */
WEIRI_INLINE struct weiri_slab *
weiri_cache_slab(
    const struct weir_cache *cache, const void *object, size_t *slot)
{
	uint64_t entry = weiri_page_entry(object);
	struct weiri_slab *slab = (struct weiri_slab *)weiri_entry_span(entry);

	if (weiri_entry_tag(entry) != cache->depot.index ||
	    (const char *)object < slab->first)
		return NULL;
	*slot = weiri_slab_slot(slab, object);
	if (*slot >= WEIRI_LOAD(&slab->carved) ||
	    weiri_slab_address(slab, *slot) != object)
		return NULL;
	return slab;
}

/* As above; for what is none of the cache's it does not return. */
WEIRI_INLINE struct weiri_slab *
weiri_cache_need_slab(
    const struct weir_cache *cache, const void *object, size_t *slot)
{
	struct weiri_slab *slab;

	/* The depot asks the same questions, to say which was not met. */
	while (WEIR_UNLIKELY(
	    (slab = weiri_cache_slab(cache, object, slot)) == NULL))
		weiri_depot_require(&cache->depot, object);
	return slab;
}

/* ---- a cache that ended ------------------------------------------------ */

/* Says that @cache is none: @address is the object, or the cache itself. */
WEIRI_COLD WEIRI_NORETURN void weiri_cache_not_live(
    const struct weir_cache *cache, const void *address);

/* Off the common ways only: those lead here by themselves (cache_bury()). */
WEIRI_INLINE void
weiri_cache_expect_live(const struct weir_cache *cache)
{
	if (WEIR_UNLIKELY(cache->magic != WEIRI_CACHE_MAGIC) &&
	    WEIR_DETECTOR(cache_gone))
		weiri_cache_not_live(cache, cache);
}

/* ---- one object -------------------------------------------------------- */

/* What there is to do with a slot that was taken, before it is the caller's. */
void weiri_cache_finish_alloc(struct weir_cache *cache, void *object);

/* All of a free, for any object, right or wrong, or NULL. */
WEIRI_NOINLINE void weiri_cache_free_slow(
    struct weir_cache *cache, void *object);

/* Says what is wrong with an object that is not live. */
WEIRI_COLD WEIRI_NORETURN void weiri_cache_report(
    const struct weir_cache *cache, const void *object);

void weiri_cache_run_hook(
    const struct weir_cache *cache, weir_cache_hook_fn hook, void *object);

/* ---- guard -------------------------------------------------------------- */

/* The long way of an alloc: a slot, or NULL, on its way to the caller. */
WEIRI_NOINLINE void *weiri_cache_take_due(struct weir_cache *cache, void *slot);

/* A free of what is in no slab of the cache: an object under guard, or wrong. */
WEIRI_COLD void weiri_cache_free_elsewhere(
    struct weir_cache *cache, void *object);

/* What stands for an object, and the object a slot stands for: itself, unless
 * it is under guard.  The first may report, and is NULL if that returns. */
WEIRI_COLD const void *weiri_cache_slot_of(
    struct weir_cache *cache, const void *object);
void *weiri_cache_object_of(const struct weiri_slab *slab, void *slot);

/* ---- limits ------------------------------------------------------------ */

/* 0 or -EINVAL: the fields that say what happens at @limit. */
int weiri_cache_check_policy(
    const char *name, const struct weir_cache_config *config, size_t limit);

/* Says which field of a configuration is wrong, and what is allowed, with
 * @bound for its %u; -EINVAL. */
int weiri_cache_invalid(const char *name, const char *field, uint64_t value,
    const char *allowed, uint64_t bound);

/* What the fields mean for the depot. */
struct weiri_wait_config weiri_cache_wait_config(
    const struct weir_cache_config *config);

/* ---- handles ----------------------------------------------------------- */

/* Least distance of slots in a cache with handles: what a handle's 12 bits can
 * number in a slab. */
#define WEIRI_HANDLE_SLOT_MIN 16

/* For slabs of caches with handles: a depot's hooks. */
bool weiri_handle_slab_open(struct weiri_slab *slab, void *owner);
void weiri_handle_slab_close(struct weiri_slab *slab, void *owner);

/* The slot stands for @object, whose handles are its own; NULL: for nothing any
 * more.  False without memory: it may not. */
bool weiri_handle_set_guarded(
    struct weiri_slab *slab, size_t slot, void *object);

/* No handle of the slot's object resolves any more. */
void weiri_handle_retire(const struct weiri_slab *slab, size_t slot);

/* ---- setup ------------------------------------------------------------- */

/* The depot's, as far as the program or the level wants them. */
void weiri_cache_slot_init(struct weiri_slab *slab, void *slot, void *owner);
void weiri_cache_slot_fini(struct weiri_slab *slab, void *slot, void *owner);
void weiri_cache_slot_again(struct weiri_slab *slab, void *slot, void *owner);

extern const struct weiri_pool_ops weiri_cache_pool_ops;

#endif /* WEIRI_CACHE_H */
