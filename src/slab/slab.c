/* SPDX-License-Identifier: MIT */
/*
 * slab.c - slabs: a span of pages cut into slots of one size.
 *
 *      header (metadata)            pages (aligned to their size)
 *     +-------------------+        +------+------+------+------+------+--+
 *     | span, depot       |------->| head | slot | slot | slot |      |  |
 *     | free bits 0 1 1 0 |        +------+------+------+------+------+--+
 *     | state bytes       |                0      1      2 ^  not yet carved
 *     +-------------------+                                carved = 3
 *
 * Slots come into being in address order ("carved") when they are first
 * wanted, so that a slab's untouched end costs no memory.  The header lies
 * outside: a program that writes past an object cannot reach the free bits, and
 * slots of a power-of-two size fill their pages without a remainder.  Only an
 * owner that must find a slot's state from its address alone asks for a head.
 *
 * Invariants (weiri_depot_check() tests them):
 *
 *   S1  free_count == popcount(free_bits), and no bit at or above carved.
 *   S2  A slot's free bit is set only while it rests here: not with a caller
 *       and not in a magazine.
 *   S3  Every page of the slab has this header in the page map.
 *
 * The free bits and counts are guarded by the depot's lock once the slab is in
 * one of its lists; before and after, the slab is private to one thread.
 */
#include "slab/depot.h"

#include "base/bits.h"

/*
 * Slots at the same place of every slab would fight for the same cache sets.
 * What the slots leave over shifts them, each slab by another colour (Bonwick,
 * USENIX 1994).
 */
static size_t
slab_colour(struct weiri_depot *depot, size_t slots)
{
	size_t left =
	    depot->slab_bytes - depot->head_bytes - slots * depot->slot_bytes;
	size_t step = weiri_max(depot->slot_align, WEIRI_CACHE_LINE);

	if (depot->uncoloured)
		return 0;

	uint64_t turn =
	    __atomic_fetch_add(&depot->colours, 1, __ATOMIC_RELAXED);

	return turn % (left / step + 1) * step;
}

size_t
weiri_slab_slots(const struct weiri_depot *depot)
{
	size_t room = depot->slab_bytes - depot->head_bytes;

	return weiri_min(room / depot->slot_bytes, depot->slab_slots);
}

static struct weiri_slab *
slab_open(struct weiri_depot *depot)
{
	size_t slots = weiri_slab_slots(depot);
	size_t bitmap = WEIRI_BITMAP_WORDS(slots) * sizeof(uint64_t);
	size_t header_bytes = sizeof(struct weiri_slab) + bitmap +
			      (depot->state_bytes ? slots : 0);
	struct weiri_slab *slab = weiri_meta_need(header_bytes);

	if (slab == NULL)
		return NULL;
	weiri_list_init(&slab->link);
	slab->depot = depot;
	slab->slot_count = (uint32_t)slots;
	slab->void_below = (uint32_t)slots;
	slab->header_bytes = (uint32_t)header_bytes;
	if (depot->state_bytes)
		slab->state = (uint8_t *)slab->free_bits + bitmap;
	slab->span.kind = WEIRI_SPAN_SLAB;
	slab->span.tag = depot->index;
	if (weiri_span_alloc(
		&slab->span, depot->slab_bytes, depot->slab_bytes) != 0)
		goto undo_header;
	slab->first =
	    slab->span.base + depot->head_bytes + slab_colour(depot, slots);
	if (depot->hooks != NULL && depot->hooks->slab_open != NULL &&
	    !depot->hooks->slab_open(slab, depot->owner))
		goto undo_span;
	return slab;

undo_span:
	weiri_span_free(&slab->span);
undo_header:
	weiri_meta_free(slab, header_bytes);
	return NULL;
}

struct weiri_slab *
weiri_slab_open(struct weiri_depot *depot)
{
	struct weiri_slab *slab;

	if (!weiri_quota_charge(depot->quota, depot->slab_bytes,
		depot->wait.config.policy != WEIRI_WAIT_FAIL))
		return NULL;
	/* The owner's hook, and the page supply's, may come to run. */
	weiri_wait_enter();
	slab = slab_open(depot);
	if (slab == NULL)
		weiri_quota_undo(depot->quota, depot->slab_bytes);
	weiri_wait_leave();
	return slab;
}

void
weiri_slab_close(struct weiri_slab *slab)
{
	const struct weiri_depot *depot = slab->depot;
	const struct weiri_depot_hooks *hooks = depot->hooks;
	void *owner = depot->owner;

	weiri_wait_enter();
	if (hooks != NULL && hooks->slot_fini != NULL)
		for (size_t i = 0; i < slab->carved; i++)
			hooks->slot_fini(
			    slab, weiri_slab_address(slab, i), owner);
	if (hooks != NULL && hooks->slab_close != NULL)
		hooks->slab_close(slab, owner);
	weiri_span_free(&slab->span);
	weiri_meta_free(slab, slab->header_bytes);
	weiri_quota_return(depot->quota, depot->slab_bytes);
	weiri_wait_leave();
}

size_t
weiri_slab_index(const struct weiri_slab *slab, const void *address)
{
	if ((const char *)address < slab->first)
		return SIZE_MAX;

	size_t slot = weiri_slab_slot(slab, address);

	/* Relaxed: grows under the lock, and covered any slot in use long ago. */
	if (slot >= WEIRI_LOAD(&slab->carved) ||
	    weiri_slab_address(slab, slot) != address)
		return SIZE_MAX;
	return slot;
}

size_t
weiri_slab_take(struct weiri_slab *slab, uintptr_t *into, size_t count,
    size_t carve_max, size_t *carved)
{
	size_t taken = 0;
	size_t words = WEIRI_BITMAP_WORDS(slab->carved);

	for (size_t w = 0; w < words && slab->free_count > 0; w++) {
		while (slab->free_bits[w] != 0 && taken < count) {
			size_t bit =
			    (size_t)__builtin_ctzll(slab->free_bits[w]);

			slab->free_bits[w] &= slab->free_bits[w] - 1;
			slab->free_count--;
			if (slab->state != NULL)
				slab->state[w * 64 + bit] &=
				    (uint8_t)~WEIRI_STATE_STOCKED;
			into[taken++] =
			    (uintptr_t)weiri_slab_address(slab, w * 64 + bit);
		}
		if (taken == count)
			break;
	}

	size_t fresh = weiri_min(count - taken, carve_max);

	fresh = weiri_min(fresh, slab->slot_count - slab->carved);
	for (size_t i = 0; i < fresh; i++)
		into[taken + i] =
		    (uintptr_t)weiri_slab_address(slab, slab->carved + i);
	WEIRI_BUMP(&slab->carved, (uint32_t)fresh);
	*carved = fresh;
	slab->void_below = slab->slot_count;
	taken += fresh;
	/* Lowest first: none above the last one was. */
	if (taken > 0) {
		const void *last = (const void *)into[taken - 1];
		uint32_t above = (uint32_t)weiri_slab_slot(slab, last) + 1;

		if (slab->warm < above)
			slab->warm = above;
	}
	if (WEIR_UNLIKELY(slab->voided != 0))
		weiri_slab_unvoid(slab, into, taken);
	return taken;
}

bool
weiri_slab_rest(struct weiri_slab *slab, size_t slot)
{
	WEIR_ASSERT(slot < slab->carved);
	if (weiri_bit_test(slab->free_bits, slot))
		return false;
	if (slab->depot->verify) {
		if (slab->state[slot] & WEIRI_STATE_STOCKED)
			return false;
		slab->state[slot] |= WEIRI_STATE_STOCKED;
	}
	weiri_bit_set(slab->free_bits, slot);
	slab->free_count++;
	return true;
}
