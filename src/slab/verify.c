/* SPDX-License-Identifier: MIT */
/*
 * verify.c - is it a slot, and is it free: what a depot asks of what comes in.
 *
 * A free puts a slot into a magazine; at the fastest level nobody looks at it
 * there, and at any level two frees of one object at the same moment can both
 * pass.  So each slot of a magazine that comes to the depot is looked at: it
 * must be the start of a slot of this depot, and not be with the depot already,
 * which its state byte tells (D5 in depot.c).  That is some thirty instructions
 * a slot for the way in and out, on every 126th call.
 *
 * The marks are set before the magazine is listed and taken away after it left,
 * by the one thread that holds it, without the lock: of a slot freed once nobody
 * else has the state byte.  Of one that two magazines bring at the same moment,
 * both may find it unmarked.  Then the mark is gone when the second of them
 * leaves, and it is found there.
 *
 * Where free slots begin with a mark (weiri_slot_written()), calls have looked at
 * each free; what comes in, or leaves, is then asked whether it was written to
 * since.  What stays with a thread is not, nor what rests in slabs.
 *
 * An object under guard that was freed where nobody looked lies in a magazine by
 * its own address.  It ends here, and the slot that stood for it takes its place.
 */
#include "slab/stock.h"

#include "guard/fault.h"
#include "guard/guard.h"
#include "slab/shard.h"

/* ---- what is wrong with a pointer --------------------------------------- */

static WEIRI_COLD WEIRI_NORETURN void
verify_fault(const struct weiri_depot *depot, enum weir_fault_class fault_class,
    const void *slot, const char *other, const char *detail)
{
	weiri_wait_abandon();
	weiri_fault(&(struct weiri_fault_site){.fault_class = fault_class,
	    .pool_kind = depot->kind,
	    .pool_name = depot->name,
	    .pool_type = depot->guard != NULL ? depot->guard->type : NULL,
	    .address = slot,
	    .other = other,
	    .detail = detail});
}

void
weiri_depot_require(const struct weiri_depot *depot, const void *slot)
{
	struct weiri_span *span = weiri_span_of(slot);

	if (span == NULL && depot->guard != NULL)
		weiri_guard_refuse(depot->guard, slot);
	if (span == NULL && WEIR_DETECTOR(slab_foreign))
		verify_fault(depot, WEIR_FAULT_FOREIGN_POINTER, slot, NULL,
		    "%p is not memory of any pool");
	if (span->kind != WEIRI_SPAN_SLAB && WEIR_DETECTOR(slab_other_kind))
		verify_fault(depot, WEIR_FAULT_WRONG_POOL, slot, NULL,
		    "%p belongs to a region or a buffer");

	struct weiri_slab *slab = (struct weiri_slab *)span;

	if (slab->depot != depot && WEIR_DETECTOR(slab_other_pool))
		verify_fault(depot, WEIR_FAULT_WRONG_POOL, slot,
		    slab->depot->name, "%p belongs to \"%s\"");
	if (((uintptr_t)slot & (depot->slot_align - 1)) != 0 &&
	    WEIR_DETECTOR(slab_misaligned))
		verify_fault(depot, WEIR_FAULT_MISALIGNED_POINTER, slot, NULL,
		    "%p is not aligned as its objects are");
	if (weiri_slab_index(slab, slot) == SIZE_MAX &&
	    WEIR_DETECTOR(slab_interior))
		verify_fault(depot, WEIR_FAULT_INTERIOR_POINTER, slot, NULL,
		    "%p is not the start of an object");
}

void
weiri_stock_report(const struct weiri_depot *depot, const void *slot)
{
	weiri_depot_require(depot, slot);
	if (depot->secret != 0 && weiri_slot_written(depot, slot))
		verify_fault(depot, WEIR_FAULT_CORRUPTION, slot, NULL,
		    "the free object %p was written to: after its free, or "
		    "past the end of the one before it");
	verify_fault(depot, WEIR_FAULT_DOUBLE_FREE, slot, NULL,
	    "object %p was freed more than once");
}

/* ---- magazines ---------------------------------------------------------- */

/* A slab, and what finding one of its slots takes, at hand for the next. */
struct verify_view {
	uintptr_t first;
	uintptr_t bytes; /* of its carved slots */
	uint8_t *state;
	uint64_t inverse; /* the depot's; a store to a state byte hides that
			     it is the same as before */
};

#define VERIFY_FRACTION ((UINT64_C(1) << WEIRI_INVERSE_SHIFT) - 1)

/* The state byte of the slot that starts at @word; NULL if none of the depot
 * does.  Neighbours in a magazine are often of one slab. */
WEIRI_INLINE uint8_t *
verify_state(
    const struct weiri_depot *depot, struct verify_view *view, uintptr_t word)
{
	if (WEIR_UNLIKELY(word - view->first >= view->bytes)) {
		uint64_t entry = weiri_page_entry((void *)word);
		struct weiri_slab *slab =
		    (struct weiri_slab *)weiri_entry_span(entry);

		if (weiri_entry_tag(entry) != depot->index)
			return NULL;
		view->first = (uintptr_t)slab->first;
		view->bytes =
		    (uintptr_t)WEIRI_LOAD(&slab->carved) * depot->slot_bytes;
		view->state = slab->state;
		if (word - view->first >= view->bytes)
			return NULL;
	}

	/* The integer part is the slot.  What rounding up the inverse adds is
	 * less than the inverse; a distance within the slot adds one or more. */
	uint64_t product = (word - view->first) * view->inverse;

	if (WEIR_UNLIKELY((product & VERIFY_FRACTION) >= view->inverse))
		return NULL;
	return &view->state[product >> WEIRI_INVERSE_SHIFT];
}

/* Marks the slots of a magazine that comes in; returns one that is none of the
 * depot's, or is marked already, or NULL. */
static void *
verify_mark(struct weiri_depot *depot, struct weiri_magazine *full)
{
	struct verify_view view = {.inverse = depot->slot_inverse};
	const uintptr_t *const top = weiri_magazine_top(full);

	for (uintptr_t *word = weiri_magazine_bottom(full) + 1; word <= top;
	     word++) {
		uint8_t *state = verify_state(depot, &view, *word);

		if (WEIR_UNLIKELY(state == NULL)) {
			void *slot = weiri_stock_unguard(depot, (void *)*word);

			if (slot == NULL && WEIR_DETECTOR(magazine_foreign))
				return (void *)*word;
			*word = (uintptr_t)slot;
			state = verify_state(depot, &view, *word);
		}

		uint8_t was = WEIRI_LOAD(state);

		if (WEIR_UNLIKELY((was & WEIRI_STATE_STOCKED) != 0) &&
		    WEIR_DETECTOR(magazine_freed_twice))
			return (void *)*word;
		WEIRI_STORE(state, (uint8_t)(was | WEIRI_STATE_STOCKED));
	}
	return NULL;
}

/* Takes the marks away; returns a slot that had none, or NULL. */
WEIRI_INLINE void *
verify_unmark(
    const struct weiri_depot *depot, struct weiri_magazine *full, bool for_use)
{
	struct verify_view view = {.inverse = depot->slot_inverse};
	const uintptr_t *const top = weiri_magazine_top(full);

	for (const uintptr_t *word = weiri_magazine_bottom(full) + 1;
	     word <= top; word++) {
		uint8_t *state = verify_state(depot, &view, *word);
		uint8_t was = state != NULL ? WEIRI_LOAD(state) : 0;

		if (WEIR_UNLIKELY(
			state == NULL || (was & WEIRI_STATE_STOCKED) == 0) &&
		    WEIR_DETECTOR(magazine_overwritten))
			return (void *)*word;
		WEIRI_STORE(state, (uint8_t)(was & ~WEIRI_STATE_STOCKED));
		/* Objects freed by another thread are in its processor's cache;
		 * asked for together they come in the time of a few. */
		if (for_use)
			__builtin_prefetch((void *)*word, 1);
	}
	return NULL;
}

void *
weiri_stock_find_written(
    const struct weiri_depot *depot, struct weiri_magazine *full)
{
	const uintptr_t *const top = weiri_magazine_top(full);

	for (const uintptr_t *word = weiri_magazine_bottom(full) + 1;
	     word <= top; word++)
		if (WEIR_UNLIKELY(weiri_slot_written(depot, (void *)*word)) &&
		    WEIR_DETECTOR(magazine_written))
			return (void *)*word;
	return NULL;
}

void *
weiri_stock_unmark(const struct weiri_depot *depot, struct weiri_magazine *full)
{
	return depot->verify ? verify_unmark(depot, full, false) : NULL;
}

void *
weiri_stock_unmark_for_use(
    const struct weiri_depot *depot, struct weiri_magazine *full)
{
	if (depot->verify)
		return verify_unmark(depot, full, true);
	return depot->secret != 0 ? weiri_stock_find_written(depot, full)
				  : NULL;
}

struct weiri_magazine *
weiri_stock_put_magazine(struct weiri_depot *depot, struct weiri_magazine *full)
{
	struct weiri_magazine *empty = NULL;
	const unsigned rounds = weiri_magazine_rounds(full);
	void *bad = NULL;

	if (depot->verify)
		bad = verify_mark(depot, full);
	else if (depot->secret != 0)
		bad = weiri_stock_find_written(depot, full);
	if (WEIR_LIKELY(bad == NULL) && !weiri_shard_put(depot, full, &empty)) {
		weiri_stock_lock(depot);
		weiri_stock_list_full(depot, full);
		weiri_stock_update(depot);
		empty = weiri_stock_pop_empty(depot);
		weiri_mutex_unlock(&depot->lock);
	}
	if (WEIR_UNLIKELY(bad != NULL))
		weiri_stock_report(depot, bad);
	if (depot->hooks != NULL && depot->hooks->stocked != NULL)
		depot->hooks->stocked(depot->owner, rounds);
	return empty;
}
