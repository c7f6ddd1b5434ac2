/* SPDX-License-Identifier: MIT */
/*
 * range.c - reserved address space with a committed beginning.
 *
 * The owner is one thread at a time, so a range has no lock; the two sums are
 * changed by atomic addition.  The charge is made before memory can be touched
 * and taken back after the system has it.
 *
 * A range that ends while the system will neither unmap nor empty it (see
 * weiri_os_release()) is listed in its own memory.  The list is pushed by
 * compare-and-exchange and taken whole, so no entry can come back to its head
 * while another thread looks at it.
 *
 * Invariants (tests/unit/test_region_vm.c, weiri_pages_check()):
 *
 *   V1  committed_bytes is a multiple of weiri_range_page(), at most
 *       reserved_bytes, and all of it is charged.
 *   V2  Beyond it no access is possible, unless the system refused to say so.
 *   V3  weiri_range_charged() and weiri_range_kept() are the sums over the
 *       ranges with an owner and over those listed.
 */
#include "pages/range.h"

#include "base/assert.h"
#include "base/bits.h"
#include "os/os.h"
#include "pages/budget.h"
#include "pages/pages.h"

/* At the base of a range that nobody owns. */
struct range_kept {
	struct range_kept *next;
	struct weiri_range range;
};

static uint64_t range_charged;
static uint64_t range_kept_bytes;
static struct range_kept *range_list;

static void
range_add(uint64_t *sum, size_t bytes)
{
	__atomic_fetch_add(sum, bytes, __ATOMIC_RELAXED);
}

static void
range_sub(uint64_t *sum, size_t bytes)
{
	__atomic_fetch_sub(sum, bytes, __ATOMIC_RELAXED);
}

size_t
weiri_range_page(void)
{
	return weiri_max(weiri_os_page_bytes(), WEIRI_PAGE);
}

uint64_t
weiri_range_charged(void)
{
	return WEIRI_LOAD(&range_charged);
}

uint64_t
weiri_range_kept(void)
{
	return WEIRI_LOAD(&range_kept_bytes);
}

bool
weiri_range_reserve(struct weiri_range *range, size_t bytes, size_t align)
{
	char *base = weiri_os_reserve(bytes, align);

	if (base == NULL)
		return false;
	*range = (struct weiri_range){base, bytes, 0};
	return true;
}

bool
weiri_range_commit(struct weiri_range *range, size_t bytes)
{
	size_t old = range->committed_bytes;

	WEIR_ASSERT(bytes % weiri_range_page() == 0);
	WEIR_ASSERT(bytes <= range->reserved_bytes);
	if (bytes <= old)
		return true;
	if (!weiri_budget_charge(bytes - old))
		return false;
	if (weiri_os_commit(range->base + old, bytes - old) != 0) {
		weiri_budget_uncharge(bytes - old);
		return false;
	}
	range_add(&range_charged, bytes - old);
	WEIRI_STORE(&range->committed_bytes, bytes);
	return true;
}

size_t
weiri_range_shrink(struct weiri_range *range, size_t bytes)
{
	size_t old = range->committed_bytes;

	WEIR_ASSERT(bytes % weiri_range_page() == 0);
	if (bytes >= old)
		return 0;
	if (weiri_os_decommit(range->base + bytes, old - bytes) != 0)
		return 0;
	/* A stale pointer must not bring pages in that nobody is charged
	 * for.  If the system refuses that it is no loss to the range. */
	(void)weiri_os_protect(range->base + bytes, old - bytes, WEIRI_OS_NONE);
	WEIRI_STORE(&range->committed_bytes, bytes);
	range_sub(&range_charged, old - bytes);
	weiri_budget_uncharge(old - bytes);
	return old - bytes;
}

/* True when its memory is the system's. */
static bool
range_end(const struct weiri_range *range)
{
	if (range->committed_bytes > 0) {
		if (weiri_os_release(range->base, range->reserved_bytes) == 0)
			return true;
		if (weiri_os_decommit(range->base, range->committed_bytes) != 0)
			return false;
	}
	weiri_os_drop(range->base, range->reserved_bytes);
	return true;
}

static void
range_keep(const struct weiri_range *range)
{
	struct range_kept *kept = (struct range_kept *)(void *)range->base;
	struct range_kept *first = WEIRI_LOAD(&range_list);

	kept->range = *range;
	do
		kept->next = first;
	/* Pairs with the acquire in weiri_range_trim(). */
	while (!__atomic_compare_exchange_n(&range_list, &first, kept, true,
	    __ATOMIC_RELEASE, __ATOMIC_RELAXED));
}

void
weiri_range_release(struct weiri_range *range)
{
	size_t bytes = range->committed_bytes;

	if (range_end(range)) {
		range_sub(&range_charged, bytes);
		weiri_budget_uncharge(bytes);
	} else {
		range_add(&range_kept_bytes, bytes);
		range_sub(&range_charged, bytes);
		range_keep(range);
	}
	*range = (struct weiri_range){0};
}

void
weiri_range_forget(struct weiri_range *range)
{
	range_sub(&range_charged, range->committed_bytes);
	weiri_budget_uncharge(range->committed_bytes);
	*range = (struct weiri_range){0};
}

size_t
weiri_range_trim(void)
{
	size_t bytes = 0;

	if (WEIR_LIKELY(WEIRI_LOAD(&range_list) == NULL))
		return 0;

	/* Pairs with the release in range_keep(). */
	struct range_kept *kept =
	    __atomic_exchange_n(&range_list, NULL, __ATOMIC_ACQUIRE);

	while (kept != NULL) {
		struct range_kept *next = kept->next;
		struct weiri_range range = kept->range;

		if (range_end(&range)) {
			range_sub(&range_kept_bytes, range.committed_bytes);
			weiri_budget_uncharge(range.committed_bytes);
			bytes += range.committed_bytes;
		} else {
			range_keep(&range);
		}
		kept = next;
	}
	return bytes;
}
