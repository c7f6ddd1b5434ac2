/* SPDX-License-Identifier: MIT */
/*
 * map.c - the page map: any address -> the span around it.
 *
 *     address  63   48 47       30 29      12 11     0
 *             |  must  |  root     |  leaf    |  page  |
 *             |  be 0  |  2^18     |  2^18    |        |
 *
 * The root lies in .bss, 2 MiB of address space of which a process touches one
 * or two pages.  A leaf is 2 MiB of address space too and covers 1 GiB; each
 * of its pages describes one 2 MiB extent, is touched when that extent comes
 * and given back when it goes.  So the map costs 1/512 of the supply, and
 * leaves are never unmapped: a look-up needs no lock and no epoch.
 *
 * A radix tree and not a hash, because the answer for a pointer that is not
 * weir's must come without touching the memory it points at and without a
 * probe sequence; two loads say "no" as fast as "yes".
 *
 * An entry is the span's address with the owner's tag above it, so that the
 * common question, "which depot", is answered without touching the span.
 *
 * Invariants (weiri_pages_check()):
 *
 *   M1  The entry of a page of a span is that span's; of any other page 0.
 *   M2  What is charged is a page for each 2 MiB that an extent touches.
 *
 * Memory order: leaves are published with release for the sake of order in
 * this file; readers need none (see weiri_page_entry()).
 */
#include "base/bits.h"
#include "os/os.h"
#include "pages/budget.h"
#include "pages/near.h"
#include "pages/supply.h"

#include <errno.h>

#define MAP_LEAF_BYTES (WEIRI_MAP_LEAF_COUNT * sizeof(uint64_t))

static_assert(WEIRI_EXTENT_ALIGN / WEIRI_PAGE * sizeof(uint64_t) == WEIRI_PAGE,
    "one page of a leaf describes one unit of extents");

uint64_t *weiri_map_root[WEIRI_MAP_ROOT_COUNT];

static uint64_t map_charged; /* written under the supply's mutex */

/* The first address behind the leaf that covers @address. */
static uintptr_t
map_leaf_end(uintptr_t address)
{
	return (address | (((uintptr_t)1 << WEIRI_MAP_LEAF_SHIFT) - 1)) + 1;
}

static uint64_t *
map_entry(uintptr_t address)
{
	uint64_t *leaf =
	    WEIRI_LOAD(&weiri_map_root[address >> WEIRI_MAP_LEAF_SHIFT]);

	return leaf +
	       ((address >> WEIRI_PAGE_SHIFT) & (WEIRI_MAP_LEAF_COUNT - 1));
}

static size_t
map_cost(const char *base, size_t bytes)
{
	uintptr_t first = (uintptr_t)base & ~(WEIRI_EXTENT_ALIGN - 1);
	uintptr_t end =
	    weiri_round_up((uintptr_t)base + bytes, WEIRI_EXTENT_ALIGN);

	return (end - first) / WEIRI_EXTENT_ALIGN * WEIRI_PAGE;
}

static bool
map_leaf_add(size_t root)
{
	if (weiri_map_root[root] != NULL)
		return true;

	uint64_t *leaf = weiri_os_reserve(MAP_LEAF_BYTES, WEIRI_PAGE);

	if (leaf == NULL)
		return false;
	if (weiri_os_commit(leaf, MAP_LEAF_BYTES) != 0) {
		(void)weiri_os_release(leaf, MAP_LEAF_BYTES);
		return false;
	}
	__atomic_store_n(&weiri_map_root[root], leaf, __ATOMIC_RELEASE);
	return true;
}

int
weiri_map_add(const char *base, size_t bytes)
{
	uintptr_t first = (uintptr_t)base;
	uintptr_t last = first + bytes - 1;

	if (last >> WEIRI_MAP_BITS != 0 || last < first)
		return -ERANGE;
	if (!weiri_budget_charge(map_cost(base, bytes)))
		return -ENOMEM;
	for (size_t root = first >> WEIRI_MAP_LEAF_SHIFT;
	     root <= last >> WEIRI_MAP_LEAF_SHIFT; root++) {
		/* Leaves made before a failure stay: they cost no memory. */
		if (!map_leaf_add(root)) {
			weiri_budget_uncharge(map_cost(base, bytes));
			return -ENOMEM;
		}
	}
	WEIRI_BUMP(&map_charged, map_cost(base, bytes));
	return 0;
}

void
weiri_map_remove(const char *base, size_t bytes)
{
	uintptr_t at = (uintptr_t)base & ~(WEIRI_EXTENT_ALIGN - 1);
	uintptr_t end =
	    weiri_round_up((uintptr_t)base + bytes, WEIRI_EXTENT_ALIGN);

	/* All entries are 0, which is what a page given back reads as. */
	while (at < end) {
		uintptr_t part = weiri_min(end, map_leaf_end(at)) - at;

		(void)weiri_os_decommit(
		    map_entry(at), part / WEIRI_EXTENT_ALIGN * WEIRI_PAGE);
		at += part;
	}
	WEIRI_STORE(
	    &map_charged, WEIRI_LOAD(&map_charged) - map_cost(base, bytes));
	weiri_budget_uncharge(map_cost(base, bytes));
}

static void
map_fill(const char *base, size_t bytes, uint64_t value)
{
	uintptr_t at = (uintptr_t)base;
	uintptr_t end = at + bytes;

	while (at < end) {
		uint64_t *entry = map_entry(at);
		size_t count =
		    (weiri_min(end, map_leaf_end(at)) - at) / WEIRI_PAGE;

		for (size_t i = 0; i < count; i++)
			WEIRI_STORE(&entry[i], value);
		at += count * WEIRI_PAGE;
	}
}

void
weiri_map_set(const char *base, size_t bytes, const struct weiri_span *span)
{
	WEIR_ASSERT((uintptr_t)span >> WEIRI_MAP_BITS == 0);
	map_fill(
	    base, bytes, (uint64_t)(uintptr_t)span | (uint64_t)span->tag << 48);
	if (span->kind == WEIRI_SPAN_SLAB)
		weiri_near_set(base, bytes, span->tag);
}

void
weiri_map_clear(const char *base, size_t bytes)
{
	weiri_near_set(base, bytes, 0);
	map_fill(base, bytes, 0);
}

uint64_t
weiri_map_charged(void)
{
	return WEIRI_LOAD(&map_charged);
}
