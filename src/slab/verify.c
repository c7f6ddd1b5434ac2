/* SPDX-License-Identifier: MIT */
/*
 * verify.c - is it a slot, and is it free: what a depot asks of what comes in.
 *
 * A free puts a slot into a magazine; at the fastest level nobody looks at it
 * there, and at any level two frees of one object at the same moment can both
 * pass.  So each slot of a magazine that comes to the depot is looked at: it
 * must be the start of a slot of this depot, and not be with the depot already,
 * which its state byte tells (D5 in depot.c).  A magazine carries up to 126
 * slots, found outside the lock and marked under it: some ten instructions a
 * slot, on every 126th call.
 */
#include "slab/stock.h"

#include "guard/fault.h"

/* ---- what is wrong with a pointer --------------------------------------- */

static WEIRI_COLD WEIRI_NORETURN void
verify_fault(const struct weiri_depot *depot, enum weir_fault_class fault_class,
    const void *slot, const char *other, const char *detail)
{
	weiri_fault(&(struct weiri_fault_site){.fault_class = fault_class,
	    .pool_kind = depot->kind,
	    .pool_name = depot->name,
	    .address = slot,
	    .other = other,
	    .detail = detail});
}

void
weiri_depot_require(const struct weiri_depot *depot, const void *slot)
{
	struct weiri_span *span = weiri_span_of(slot);

	if (span == NULL)
		verify_fault(depot, WEIR_FAULT_FOREIGN_POINTER, slot, NULL,
		    "%p is not memory of any pool");
	if (span->kind != WEIRI_SPAN_SLAB)
		verify_fault(depot, WEIR_FAULT_WRONG_POOL, slot, NULL,
		    "%p belongs to a region or a buffer");

	struct weiri_slab *slab = (struct weiri_slab *)span;

	if (slab->depot != depot)
		verify_fault(depot, WEIR_FAULT_WRONG_POOL, slot,
		    slab->depot->name, "%p belongs to \"%s\"");
	if (((uintptr_t)slot & (depot->slot_align - 1)) != 0)
		verify_fault(depot, WEIR_FAULT_MISALIGNED_POINTER, slot, NULL,
		    "%p is not aligned as its objects are");
	if (weiri_slab_index(slab, slot) == SIZE_MAX)
		verify_fault(depot, WEIR_FAULT_INTERIOR_POINTER, slot, NULL,
		    "%p is not the start of an object");
}

void
weiri_stock_report(const struct weiri_depot *depot, const void *slot)
{
	weiri_depot_require(depot, slot);
	verify_fault(depot, WEIR_FAULT_DOUBLE_FREE, slot, NULL,
	    "object %p was freed more than once");
}

/* ---- magazines ---------------------------------------------------------- */

/* A slab, and what finding one of its slots takes, at hand for the next. */
struct verify_view {
	const char *base;
	uintptr_t mask; /* of an address in any slab: the slab's base */
	char *first;
	uint8_t *state;
	uint64_t inverse;
	size_t slot_bytes;
	size_t carved;
};

WEIRI_INLINE struct verify_view
verify_view_init(const struct weiri_depot *depot)
{
	return (struct verify_view){
	    .mask = ~(uintptr_t)(depot->slab_bytes - 1),
	    .inverse = depot->slot_inverse,
	    .slot_bytes = depot->slot_bytes,
	};
}

/* False if the slot is in no slab of the depot.  Neighbours in a magazine are
 * often of one slab. */
WEIRI_INLINE bool
verify_view_at(
    struct verify_view *view, const struct weiri_depot *depot, uintptr_t word)
{
	if (WEIR_LIKELY((word & view->mask) == (uintptr_t)view->base))
		return true;

	uint64_t entry = weiri_page_entry((void *)word);
	struct weiri_slab *slab = (struct weiri_slab *)weiri_entry_span(entry);

	if (weiri_entry_tag(entry) != depot->index)
		return false;
	view->base = slab->span.base;
	view->first = slab->first;
	view->state = slab->state;
	view->carved = WEIRI_LOAD(&slab->carved);
	return true;
}

WEIRI_INLINE size_t
verify_view_index(const struct verify_view *view, uintptr_t word)
{
	return (size_t)(((word - (uintptr_t)view->first) * view->inverse) >>
			WEIRI_INVERSE_SHIFT);
}

/* Where the state byte of each slot of a full magazine lies, without the lock;
 * or the slot that is none of the depot's. */
static void *
verify_find_states(const struct weiri_depot *depot, struct weiri_magazine *full,
    uint8_t **state)
{
	const uintptr_t *word = weiri_magazine_bottom(full) + 1;
	const unsigned rounds = weiri_magazine_rounds(full);
	struct verify_view view = verify_view_init(depot);

	for (size_t i = 0; i < rounds; i++) {
		if (WEIR_UNLIKELY(!verify_view_at(&view, depot, word[i])))
			return (void *)word[i];

		size_t index = verify_view_index(&view, word[i]);

		if (WEIR_UNLIKELY(
			index >= view.carved ||
			(uintptr_t)view.first + index * view.slot_bytes !=
			    word[i]))
			return (void *)word[i];
		state[i] = &view.state[index];
	}
	return NULL;
}

/* Locked: marks the slots; one that is marked already came twice. */
static void *
verify_mark(struct weiri_magazine *full, uint8_t *const *state)
{
	const uintptr_t *word = weiri_magazine_bottom(full) + 1;
	const unsigned rounds = weiri_magazine_rounds(full);

	for (size_t i = 0; i < rounds; i++) {
		/* NOLINTNEXTLINE(clang-analyzer-core.NullDereference) */
		if (WEIR_UNLIKELY(*state[i] & WEIRI_STATE_STOCKED))
			return (void *)word[i];
		*state[i] |= WEIRI_STATE_STOCKED;
	}
	return NULL;
}

void
weiri_stock_unmark(const struct weiri_depot *depot, struct weiri_magazine *full)
{
	const uintptr_t *word = weiri_magazine_bottom(full) + 1;
	const unsigned rounds = weiri_magazine_rounds(full);
	struct verify_view view = verify_view_init(depot);

	if (!depot->verify)
		return;
	/* A view that is at a slab has its state bytes. */
	for (size_t i = 0; i < rounds; i++)
		if (WEIR_LIKELY(verify_view_at(&view, depot, word[i])))
			/* NOLINTNEXTLINE(clang-analyzer-core.NullDereference) */
			view.state[verify_view_index(&view, word[i])] &=
			    (uint8_t)~WEIRI_STATE_STOCKED;
}

void
weiri_stock_put_magazine(struct weiri_depot *depot, struct weiri_magazine *full)
{
	uint8_t *state[WEIRI_ROUNDS_MAX];
	const bool verify = depot->verify;
	void *bad = verify ? verify_find_states(depot, full, state) : NULL;

	if (WEIR_LIKELY(bad == NULL)) {
		weiri_mutex_lock(&depot->lock);
		if (verify)
			bad = verify_mark(full, state);
		if (WEIR_LIKELY(bad == NULL))
			weiri_stock_list_full(depot, full);
		weiri_stock_update(depot);
		weiri_mutex_unlock(&depot->lock);
	}
	if (WEIR_UNLIKELY(bad != NULL))
		weiri_stock_report(depot, bad);
}
