/* SPDX-License-Identifier: MIT */
/*
 * cache_guard.c - objects of a cache that are under guard.
 *
 * Such an object has pages of its own, and a slot of the cache stands for it: it
 * was taken as for any other, counts as in use, and goes back to the depot when
 * the object ends.  So limits, waiting, handles, figures and the check of the
 * cache need to know nothing.  The slot's first word leads to the object, for
 * whoever goes over the slots, and a bit of its state byte says so.
 *
 * How a request gets here: the countdown in the thread's word of requests
 * carries (slab/local.h), or the magazine ends; in a cache where every object is
 * to be guarded no thread has a magazine, so each request does.  A free needs
 * nothing of the kind: the address is in no slab of the cache, and a look at
 * that is what each free begins with.  At level `batch` it does not, so there a
 * guarded object may come to lie in a thread's magazine like any other; the
 * depot recognises it (slab/verify.c).
 *
 * What init set up is a slot's for as long as the slot is there.  While the slot
 * stands for an object, that has it instead: init and fini go with it.
 *
 * Whether a free leaves it as init did is looked at here, if the cache is to.
 * Where bytes are compared, the object holds one value throughout before init,
 * so that what init wrote is known from what it did not: the program may leave
 * there whatever it likes.  The copy lies in the slot, which has no other use
 * meanwhile but for its first word; what belongs there is in the guard's record.
 */
#include "pools/cache.h"

#include "base/annotate.h"
#include "base/bits.h"
#include "guard/guard.h"

/* Of a copy, what the record has. */
#define GUARD_HEAD sizeof(void *)

static_assert(GUARD_HEAD <= WEIRI_GUARD_POCKET, "the record has room");

/* ---- constructed state --------------------------------------------------- */

/* To tools that watch memory it holds no value. */
static void
guard_blank(const struct weir_cache *cache, void *object)
{
	memset(object, WEIRI_GUARD_FRESH, cache->object_bytes);
	weiri_annotate_undefined(object, cache->object_bytes);
}

/* What init left, of which the copy may be read whole. */
static void
guard_keep(const struct weir_cache *cache, unsigned char *slot,
    const unsigned char *object)
{
	size_t head = weiri_min(cache->object_bytes, GUARD_HEAD);
	void *pocket = weiri_guard_pocket(object);

	memcpy(pocket, object, head);
	memcpy(slot + head, object + head, cache->object_bytes - head);
	weiri_annotate_defined(pocket, head);
	weiri_annotate_defined(slot + head, cache->object_bytes - head);
}

/* The first byte that is not what init wrote there; object_bytes: none. */
static size_t
guard_compare(const struct weir_cache *cache, const unsigned char *slot,
    const unsigned char *object)
{
	const unsigned char *head = weiri_guard_pocket(object);
	size_t i = 0;

	for (; i < cache->object_bytes; i++) {
		unsigned char kept = i < GUARD_HEAD ? head[i] : slot[i];

		if (kept != WEIRI_GUARD_FRESH && object[i] != kept)
			break;
	}
	return i;
}

static bool
guard_ask(const struct weir_cache *cache, const void *object)
{
	bool well;

	if (cache->verify == NULL)
		return true;
	weiri_wait_enter();
	well = cache->verify(object, cache->context);
	weiri_wait_leave();
	return well;
}

/* Is @object, which was claimed, as init left it?  Reports if not. */
static bool
guard_is_well(
    const struct weir_cache *cache, const void *slot, const void *object)
{
	size_t at;

	if (cache->keeps_state) {
		at = guard_compare(cache, slot, object);
		if (at < cache->object_bytes &&
		    WEIR_DETECTOR(cache_state_bytes)) {
			weiri_guard_tell_broken(object, at,
			    "byte %u of the object, at %p, is not as init left "
			    "it");
			return false;
		}
	}
	if (!guard_ask(cache, object) && WEIR_DETECTOR(cache_state_verify)) {
		weiri_guard_tell_broken(object, 0,
		    "object %p is not as init left it, says its verify");
		return false;
	}
	return true;
}

/* ---- taking ------------------------------------------------------------ */

/* The slot stands for @object now; false: it may not. */
static bool
guard_attach(struct weir_cache *cache, void *slot, void *object)
{
	struct weiri_slab *slab = (struct weiri_slab *)weiri_span_of(slot);
	size_t index = weiri_slab_slot(slab, slot);

	if (cache->handles && !weiri_handle_set_guarded(slab, index, object))
		return false;
	weiri_cache_mark(cache, slab, index, slot, true);
	slab->state[index] |= WEIRI_STATE_SHADOW;
	if (cache->fini != NULL)
		weiri_cache_run_hook(cache, cache->fini, slot);
	*(void **)slot = object;
	if (cache->keeps_state)
		guard_blank(cache, object);
	if (cache->init != NULL)
		weiri_cache_run_hook(cache, cache->init, object);
	if (cache->keeps_state)
		guard_keep(cache, slot, object);
	if (cache->ctor != NULL)
		weiri_cache_run_hook(cache, cache->ctor, object);
	return true;
}

/*
 * A free at level `batch` may put an object under guard into a magazine, where
 * it ends with nobody to run hooks for it.  So where there are such, all frees
 * must come here: nothing was ever loaded.
 */
static bool
guard_allowed(const struct weir_cache *cache)
{
	return cache->state != WEIRI_CACHE_NONE || cache->long_put ||
	       (cache->init == NULL && cache->fini == NULL) || cache->born_bare;
}

void *
weiri_cache_take_due(struct weir_cache *cache, void *slot)
{
	uint32_t stride = weiri_depot_wind(&cache->depot);
	void *object = NULL;

	if (slot == NULL)
		return NULL;
	if (WEIR_UNLIKELY(weiri_guard_covers(slot))) {
		/* From a magazine, at level `batch`: still the same object. */
		weiri_cache_finish_alloc(cache, slot);
		return slot;
	}
	if (weiri_guard_mode(&cache->guard) != WEIR_GUARD_OFF && stride > 0 &&
	    guard_allowed(cache) && weiri_guard_due(&cache->guard, stride))
		object = weiri_guard_new(&cache->guard, cache->object_bytes,
		    cache->depot.slot_align, cache->zero, slot);
	if (object != NULL) {
		if (guard_attach(cache, slot, object))
			return object;
		weiri_guard_finish(object, WEIRI_GUARD_FREE);
	}
	weiri_cache_finish_alloc(cache, slot);
	return slot;
}

/* ---- giving back --------------------------------------------------------- */

/* The slot is one like any other again, in state free. */
static void
guard_detach(struct weir_cache *cache, void *slot)
{
	struct weiri_slab *slab = (struct weiri_slab *)weiri_span_of(slot);
	size_t index = weiri_slab_slot(slab, slot);

	slab->state[index] &= (uint8_t)~WEIRI_STATE_SHADOW;
	weiri_cache_mark(cache, slab, index, slot, false);
	if (cache->init != NULL)
		weiri_cache_run_hook(cache, cache->init, slot);
	if (cache->handles) {
		weiri_handle_retire(slab, index);
		(void)weiri_handle_set_guarded(slab, index, NULL);
	}
}

void
weiri_cache_free_elsewhere(struct weir_cache *cache, void *object)
{
	bool foreign = false;
	void *slot = weiri_guard_claim(&cache->guard, object, &foreign);

	if (foreign) {
		weiri_depot_require(&cache->depot, object);
		return;
	}
	if (slot == NULL)
		return;
	if (cache->dtor != NULL)
		weiri_cache_run_hook(cache, cache->dtor, object);
	if (guard_is_well(cache, slot, object) && cache->fini != NULL)
		weiri_cache_run_hook(cache, cache->fini, object);
	weiri_guard_end(object, WEIRI_GUARD_FREE);
	guard_detach(cache, slot);
	weiri_depot_put(&cache->depot, slot);
	if (cache->depot.wait.config.policy == WEIRI_WAIT_NOTIFY)
		weiri_wait_freed(&cache->depot);
}

/* ---- asking ---------------------------------------------------------------- */

const void *
weiri_cache_slot_of(struct weir_cache *cache, const void *object)
{
	bool foreign = false;

	if (!weiri_guard_covers(object))
		return object;
	return weiri_guard_shadow(&cache->guard, object, &foreign);
}

void *
weiri_cache_object_of(const struct weiri_slab *slab, void *slot)
{
	uint8_t state = slab->state[weiri_slab_slot(slab, slot)];

	return (state & WEIRI_STATE_SHADOW) != 0 ? *(void **)slot : slot;
}
