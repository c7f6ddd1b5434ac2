/* SPDX-License-Identifier: MIT */
/*
 * buddy_core.c - a buddy allocator over unit numbers.
 *
 * Units lie in free blocks, of a power of two and aligned to it, and in runs,
 * of any length.  One byte per unit tells heads from the rest:
 *
 *     unit    0    1    2    3    4    5    6    7    8    9
 *     state  [R ]  .    .   [F0] [F2]  .    .    .   [F1]  .
 *     link   len=3          list list                list
 *
 * A request takes the smallest free block that covers it, found by one
 * count-trailing-zeros over the mask of non-empty orders, and returns the
 * tail, so a run of 5 costs 5 units and not 8.  Blocks split and merge in at
 * most 31 steps whatever the history; that bound is why the pages are kept by
 * buddies and not in a tree by size.  The price is Robson's: fragmentation can
 * refuse a request that a best-fit allocator would still place.
 *
 * Links are kept beside the units and not inside them: units need not be
 * memory, and free pages are never touched.
 *
 * Invariants (weiri_buddy_core_check() tests all of them):
 *
 *   B1  Free blocks and runs together cover each unit exactly once; the state
 *       byte of every unit that is not a head is INTERIOR.
 *   B2  A free block of order o starts at a multiple of 2^o and ends inside.
 *   B3  Two free buddies of one order do not exist: they were merged.
 *   B4  The list of order o holds all free blocks of order o and nothing else;
 *       blocks[o] is its length, bit o of the mask says that it is not empty.
 *   B5  free_count and run_count are the sums over blocks and runs.
 */
#include "pages/buddy_core.h"

#include "base/assert.h"

#define BUDDY_INTERIOR 0x00 /* so that zeroed records are the right start */
#define BUDDY_FREE 0x40     /* | order */
#define BUDDY_RUN 0x80

static_assert(WEIRI_BUDDY_ORDERS <= BUDDY_FREE, "an order fits below the flag");
static_assert(WEIRI_BUDDY_UNITS_MAX < WEIRI_BUDDY_NONE, "NONE is no unit");

/* ---- free lists -------------------------------------------------------- */

static void
buddy_list_push(struct weiri_buddy_core *core, uint32_t index, unsigned order)
{
	uint32_t first = core->free[order];

	core->link[index].next = first;
	core->link[index].prev = WEIRI_BUDDY_NONE;
	if (first != WEIRI_BUDDY_NONE)
		core->link[first].prev = index;
	core->free[order] = index;
	core->blocks[order]++;
	core->order_mask |= UINT32_C(1) << order;
	core->state[index] = (uint8_t)(BUDDY_FREE | order);
}

static void
buddy_list_remove(struct weiri_buddy_core *core, uint32_t index, unsigned order)
{
	struct weiri_buddy_link link = core->link[index];

	WEIR_ASSERT(core->state[index] == (BUDDY_FREE | order));
	if (link.prev != WEIRI_BUDDY_NONE)
		core->link[link.prev].next = link.next;
	else
		core->free[order] = link.next;
	if (link.next != WEIRI_BUDDY_NONE)
		core->link[link.next].prev = link.prev;
	core->blocks[order]--;
	if (core->free[order] == WEIRI_BUDDY_NONE)
		core->order_mask &= ~(UINT32_C(1) << order);
	core->state[index] = BUDDY_INTERIOR;
}

/* Adds one block and merges it upwards as far as its buddies are free. */
static void
buddy_block_add(struct weiri_buddy_core *core, uint32_t index, unsigned order)
{
	while (order + 1 < WEIRI_BUDDY_ORDERS) {
		uint32_t size = UINT32_C(1) << order;
		uint32_t buddy = index ^ size;

		/* A free buddy has its head byte inside the range, and by B2
		 * its end too. */
		if (buddy >= core->unit_count ||
		    core->state[buddy] != (BUDDY_FREE | order))
			break;
		buddy_list_remove(core, buddy, order);
		index &= ~size;
		order++;
	}
	buddy_list_push(core, index, order);
}

/* Adds the units [from, to), cut into the largest aligned blocks. */
static void
buddy_units_add(struct weiri_buddy_core *core, uint32_t from, uint32_t to)
{
	core->free_count += to - from;
	while (from < to) {
		unsigned order = weiri_log2_floor(to - from);

		if (from != 0) {
			unsigned align = (unsigned)__builtin_ctz(from);

			order = align < order ? align : order;
		}
		buddy_block_add(core, from, order);
		from += UINT32_C(1) << order;
	}
}

static uint32_t
buddy_block_size(const struct weiri_buddy_core *core, uint32_t index)
{
	return UINT32_C(1) << (core->state[index] & (BUDDY_FREE - 1));
}

/*
 * Takes the units [from, to) out of the free blocks that cover them; false,
 * with nothing changed, unless all are free.  @from starts a block or run, and
 * @to is not behind the last unit.
 */
static bool
buddy_units_take(struct weiri_buddy_core *core, uint32_t from, uint32_t to)
{
	uint32_t end = from;

	WEIR_ASSERT(to <= core->unit_count);
	while (end < to) {
		if (!(core->state[end] & BUDDY_FREE))
			return false;
		end += buddy_block_size(core, end);
	}
	for (uint32_t at = from; at < to;) {
		unsigned order = core->state[at] & (BUDDY_FREE - 1);

		buddy_list_remove(core, at, order);
		at += UINT32_C(1) << order;
	}
	core->free_count -= end - from;
	buddy_units_add(core, to, end);
	return true;
}

static void
buddy_run_set(struct weiri_buddy_core *core, uint32_t index, uint32_t count)
{
	core->state[index] = BUDDY_RUN;
	core->link[index].next = count;
	core->link[index].prev = WEIRI_BUDDY_NONE;
}

/* ---- interface --------------------------------------------------------- */

size_t
weiri_buddy_core_bytes(size_t unit_count)
{
	return unit_count * (sizeof(struct weiri_buddy_link) + 1);
}

void
weiri_buddy_core_init(
    struct weiri_buddy_core *core, size_t unit_count, void *records)
{
	WEIR_ASSERT(unit_count > 0);
	WEIR_ASSERT(unit_count <= WEIRI_BUDDY_UNITS_MAX);
	core->unit_count = (uint32_t)unit_count;
	core->free_count = 0;
	core->run_count = 0;
	core->order_mask = 0;
	core->link = records;
	core->state = (uint8_t *)(core->link + unit_count);
	for (unsigned order = 0; order < WEIRI_BUDDY_ORDERS; order++) {
		core->free[order] = WEIRI_BUDDY_NONE;
		core->blocks[order] = 0;
	}
	buddy_units_add(core, 0, core->unit_count);
}

uint32_t
weiri_buddy_core_alloc(
    struct weiri_buddy_core *core, size_t count, size_t align)
{
	WEIR_ASSERT(count > 0);
	WEIR_ASSERT(weiri_is_pow2(align));
	if (count > core->free_count || align > WEIRI_BUDDY_UNITS_MAX)
		return WEIRI_BUDDY_NONE;

	unsigned order = weiri_buddy_core_order(count, align);
	uint32_t fits = core->order_mask & (UINT32_MAX << order);
	uint32_t index = 0;

	if (WEIR_LIKELY(fits != 0)) {
		index = core->free[__builtin_ctz(fits)];
	} else if (core->run_count != 0) {
		return WEIRI_BUDDY_NONE;
	}

	/* With no run at all unit 0 starts count free units at any alignment,
	 * though no single block may cover them. */
	bool taken WEIRI_UNUSED =
	    buddy_units_take(core, index, index + (uint32_t)count);

	WEIR_ASSERT(taken);
	buddy_run_set(core, index, (uint32_t)count);
	core->run_count++;
	return index;
}

enum weiri_buddy_result
weiri_buddy_core_query(
    const struct weiri_buddy_core *core, size_t index, uint32_t *count)
{
	if (index >= core->unit_count)
		return WEIRI_BUDDY_OUTSIDE;

	uint32_t unit = (uint32_t)index;

	if (core->state[unit] == BUDDY_RUN) {
		*count = core->link[unit].next;
		return WEIRI_BUDDY_OK;
	}
	/* The free block around a unit, if any, starts at the unit rounded
	 * down to the block's size: one guess for each order. */
	for (unsigned order = 0; order < WEIRI_BUDDY_ORDERS; order++) {
		uint32_t head = unit & ~((UINT32_C(1) << order) - 1);

		if (core->state[head] == (BUDDY_FREE | order))
			return WEIRI_BUDDY_FREE;
	}
	return WEIRI_BUDDY_INTERIOR;
}

enum weiri_buddy_result
weiri_buddy_core_free(
    struct weiri_buddy_core *core, size_t index, uint32_t *count)
{
	enum weiri_buddy_result result =
	    weiri_buddy_core_query(core, index, count);

	if (result != WEIRI_BUDDY_OK)
		return result;
	core->state[index] = BUDDY_INTERIOR;
	core->run_count--;
	buddy_units_add(core, (uint32_t)index, (uint32_t)index + *count);
	return WEIRI_BUDDY_OK;
}

enum weiri_buddy_result
weiri_buddy_core_resize(
    struct weiri_buddy_core *core, size_t index, size_t count)
{
	uint32_t old;
	enum weiri_buddy_result result =
	    weiri_buddy_core_query(core, index, &old);

	if (result != WEIRI_BUDDY_OK)
		return result;
	WEIR_ASSERT(count > 0);
	if (count > core->unit_count - index)
		return WEIRI_BUDDY_FULL;

	uint32_t end = (uint32_t)index + (uint32_t)count;

	if (count <= old)
		buddy_units_add(core, end, (uint32_t)index + old);
	else if (!buddy_units_take(core, (uint32_t)index + old, end))
		return WEIRI_BUDDY_FULL;
	core->link[index].next = (uint32_t)count;
	return WEIRI_BUDDY_OK;
}

enum weiri_buddy_result
weiri_buddy_core_split(
    struct weiri_buddy_core *core, size_t index, size_t count)
{
	uint32_t old;
	enum weiri_buddy_result result =
	    weiri_buddy_core_query(core, index, &old);

	if (result != WEIRI_BUDDY_OK)
		return result;
	WEIR_ASSERT(count > 0);
	if (count >= old)
		return WEIRI_BUDDY_FULL;
	core->link[index].next = (uint32_t)count;
	buddy_run_set(core, (uint32_t)(index + count), old - (uint32_t)count);
	core->run_count++;
	return WEIRI_BUDDY_OK;
}

uint32_t
weiri_buddy_core_extent(
    const struct weiri_buddy_core *core, uint32_t index, bool *is_free)
{
	WEIR_ASSERT(index < core->unit_count);
	WEIR_ASSERT(core->state[index] != BUDDY_INTERIOR);
	*is_free = (core->state[index] & BUDDY_FREE) != 0;
	return *is_free ? buddy_block_size(core, index)
			: core->link[index].next;
}

void
weiri_buddy_core_blank(const struct weiri_buddy_core *core, uint32_t index,
    struct weiri_buddy_blank blank[2])
{
	size_t behind = buddy_block_size(core, index) - 1;

	WEIR_ASSERT((core->state[index] & BUDDY_FREE) != 0);
	/* Links are written before they are read; INTERIOR is 0. */
	blank[0].base = (char *)&core->link[index + 1];
	blank[0].bytes = behind * sizeof(core->link[0]);
	blank[1].base = (char *)&core->state[index + 1];
	blank[1].bytes = behind;
}

void
weiri_buddy_core_tally(
    const struct weiri_buddy_core *core, struct weiri_buddy_tally *sum)
{
	sum->free_units += core->free_count;
	sum->largest_units += weiri_buddy_core_longest(core);
	for (uint32_t left = core->order_mask; left != 0; left &= left - 1) {
		unsigned order = (unsigned)__builtin_ctz(left);

		sum->blocks[order] += core->blocks[order];
	}
}

uint32_t
weiri_buddy_fragmentation(const struct weiri_buddy_tally *tally)
{
	uint64_t free_units = tally->free_units;

	WEIR_ASSERT(tally->largest_units <= free_units);
	if (free_units == 0)
		return 0;
	return (
	    uint32_t)((free_units - tally->largest_units) * 1000 / free_units);
}

/* ---- check ------------------------------------------------------------- */

/* B2 and B3 for one free block. */
static const char *
buddy_check_block(
    const struct weiri_buddy_core *core, uint32_t index, unsigned order)
{
	if (order >= WEIRI_BUDDY_ORDERS)
		return "B2: a free block of no order";

	uint32_t size = UINT32_C(1) << order;
	uint32_t buddy = index ^ size;

	if ((index & (size - 1)) != 0 || size > core->unit_count - index)
		return "B2: a free block out of line";
	if (buddy < core->unit_count &&
	    core->state[buddy] == (BUDDY_FREE | order))
		return "B3: two free buddies apart";
	return NULL;
}

/* B4 for one order: the list is sound and as long as the blocks counted. */
static const char *
buddy_check_list(
    const struct weiri_buddy_core *core, unsigned order, uint32_t blocks)
{
	uint32_t prev = WEIRI_BUDDY_NONE;

	if (((core->order_mask >> order) & 1) != (blocks != 0))
		return "B4: the mask and a list differ";
	if (core->blocks[order] != blocks)
		return "B4: a count is not its list's";
	for (uint32_t at = core->free[order]; at != WEIRI_BUDDY_NONE;
	     at = core->link[at].next) {
		if (at >= core->unit_count ||
		    core->state[at] != (BUDDY_FREE | order))
			return "B4: a list holds what is not its block";
		/* So none is met twice, and there are not more of them than
		 * were counted. */
		if (core->link[at].prev != prev)
			return "B4: a list's links differ";
		blocks--;
		prev = at;
	}
	return blocks == 0 ? NULL : "B4: a free block is on no list";
}

const char *
weiri_buddy_core_check(const struct weiri_buddy_core *core)
{
	uint32_t blocks[WEIRI_BUDDY_ORDERS] = {0};
	uint32_t free_count = 0, run_count = 0;

	for (uint32_t at = 0, count; at < core->unit_count; at += count) {
		uint8_t state = core->state[at];

		if (state == BUDDY_RUN) {
			count = core->link[at].next;
			run_count++;
			if (count == 0 || count > core->unit_count - at)
				return "B1: a run of impossible length";
		} else if (state & BUDDY_FREE) {
			unsigned order = state & ~(unsigned)BUDDY_FREE;
			const char *why = buddy_check_block(core, at, order);

			if (why != NULL)
				return why;
			blocks[order]++;
			count = UINT32_C(1) << order;
			free_count += count;
		} else {
			return "B1: a unit in no block and no run";
		}
		for (uint32_t i = 1; i < count; i++)
			if (core->state[at + i] != BUDDY_INTERIOR)
				return "B1: a head inside a block or run";
	}
	for (unsigned order = 0; order < WEIRI_BUDDY_ORDERS; order++) {
		const char *why = buddy_check_list(core, order, blocks[order]);

		if (why != NULL)
			return why;
	}
	if (free_count != core->free_count || run_count != core->run_count)
		return "B5: a count is not the sum";
	return NULL;
}
