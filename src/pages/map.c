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
 * and given back when it goes, or when all of what it describes is free.  Where the system's pages are larger, several
 * extents share one, and the last of them to go gives it back; the caller, who
 * has the extents in a list, says how far the neighbours are.  The map costs
 * 1/512 of the supply, and leaves are never unmapped: a look-up needs no lock
 * and no epoch.
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
 *   M2  What is charged are the system's pages of leaves that describe part of
 *       an extent: one for each 2 MiB, or 32 MiB where pages have 64 KiB.
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

size_t
weiri_map_reach(void)
{
	return weiri_max(weiri_os_page_bytes(), WEIRI_PAGE) / sizeof(uint64_t) *
	       WEIRI_PAGE;
}

/* The addresses described by those of the system's pages in the map that
 * describe this block and no other. */
struct map_part {
	uintptr_t first, end;
};

static struct map_part
map_own(const char *base, size_t bytes, const struct weiri_map_gap *gap)
{
	uintptr_t low = weiri_round_up(gap->low, weiri_map_reach());
	uintptr_t high = gap->high & ~(weiri_map_reach() - 1);
	uintptr_t first = (uintptr_t)base & ~(weiri_map_reach() - 1);
	uintptr_t end =
	    weiri_round_up((uintptr_t)base + bytes, weiri_map_reach());

	first = weiri_max(first, low);
	end = weiri_min(end, high);
	return (struct map_part){first, weiri_max(first, end)};
}

/* Bytes of leaves; they are whole pages of the system. */
static size_t
map_cost(uintptr_t bytes)
{
	return bytes / WEIRI_PAGE * sizeof(uint64_t);
}

static bool
map_leaf_add(size_t root)
{
	if (weiri_map_root[root] != NULL)
		return true;

	uint64_t *leaf =
	    weiri_os_reserve(MAP_LEAF_BYTES, weiri_os_page_bytes());

	if (leaf == NULL)
		return false;
	if (weiri_os_commit(leaf, MAP_LEAF_BYTES) != 0) {
		weiri_os_drop(leaf, MAP_LEAF_BYTES);
		return false;
	}
	__atomic_store_n(&weiri_map_root[root], leaf, __ATOMIC_RELEASE);
	return true;
}

int
weiri_map_add(const char *base, size_t bytes, const struct weiri_map_gap *gap)
{
	uintptr_t first = (uintptr_t)base;
	uintptr_t last = first + bytes - 1;

	if (last >> WEIRI_MAP_BITS != 0 || last < first)
		return -ERANGE;

	struct map_part own = map_own(base, bytes, gap);
	size_t cost = map_cost(own.end - own.first);

	if (!weiri_budget_charge(cost))
		return -ENOMEM;
	for (size_t root = first >> WEIRI_MAP_LEAF_SHIFT;
	     root <= last >> WEIRI_MAP_LEAF_SHIFT; root++) {
		/* Leaves made before a failure stay: they cost no memory. */
		if (!map_leaf_add(root)) {
			weiri_budget_uncharge(cost);
			return -ENOMEM;
		}
	}
	WEIRI_BUMP(&map_charged, cost);
	return 0;
}

bool
weiri_map_remove(
    const char *base, size_t bytes, const struct weiri_map_gap *gap)
{
	struct map_part own = map_own(base, bytes, gap);
	size_t cost = map_cost(own.end - own.first);

	/* All entries are 0, which is what a page given back reads as; so those
	 * before one that is refused need not be undone. */
	for (uintptr_t at = own.first; at < own.end;) {
		uintptr_t end = weiri_min(own.end, map_leaf_end(at));

		if (weiri_os_decommit(map_entry(at), map_cost(end - at)) != 0)
			return false;
		at = end;
	}
	WEIRI_STORE(&map_charged, WEIRI_LOAD(&map_charged) - cost);
	weiri_budget_uncharge(cost);
	return true;
}

/* Whoever cleared the entries did so before the span's pages were free, and who
 * sets them gets the pages from the supply; so under its lock nobody writes. */
void
weiri_map_void(const char *base, size_t bytes)
{
	uintptr_t reach = weiri_map_reach();
	uintptr_t at = weiri_round_up((uintptr_t)base, reach);
	uintptr_t last = ((uintptr_t)base + bytes) & ~(reach - 1);

	while (at < last) {
		uintptr_t end = weiri_min(last, map_leaf_end(at));

		/* What is refused stays: zeros, in memory. */
		(void)weiri_os_decommit(map_entry(at), map_cost(end - at));
		at = end;
	}
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
