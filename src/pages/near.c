/* SPDX-License-Identifier: MIT */
/*
 * near.c - keeps the table of near.h.
 *
 * Where the system maps memory now decides where the 64 GiB lie.  Linux maps
 * from high addresses down, so most of them are below.  The table is 2 MiB of
 * .bss, of which a process touches a page for each 128 MiB it uses.
 *
 * Invariant (weiri_pages_check()):
 *
 *   N1  A unit that lies wholly in a slab's span has the span's tag, any other
 *       unit 0.
 *
 * Entries are written by the owners of the pages.
 */
#include "pages/near.h"

#include "base/bits.h"
#include "os/os.h"

#define NEAR_BYTES ((uintptr_t)WEIRI_NEAR_COUNT << WEIRI_NEAR_SHIFT)
#define NEAR_BELOW (NEAR_BYTES / 4 * 3)

uint16_t weiri_near_tag[WEIRI_NEAR_COUNT];

static uintptr_t near_base; /* multiple of the unit; 0 until known */

/* Where would the next mapping be?  Anywhere will do if the system says no. */
static WEIRI_COLD uintptr_t
near_choose(void)
{
	void *probe = weiri_os_reserve(WEIRI_NEAR_UNIT, WEIRI_NEAR_UNIT);
	uintptr_t first =
	    probe != NULL ? (uintptr_t)probe : (uintptr_t)weiri_near_tag;

	if (probe != NULL)
		(void)weiri_os_release(probe, WEIRI_NEAR_UNIT);
	return first > NEAR_BELOW
		   ? weiri_round_up(first, WEIRI_NEAR_UNIT) - NEAR_BELOW
		   : WEIRI_NEAR_UNIT;
}

uintptr_t
weiri_near_base(void)
{
	uintptr_t base = WEIRI_LOAD(&near_base);

	if (WEIR_UNLIKELY(base == 0)) {
		uintptr_t mine = near_choose();

		/* Relaxed: the table is static, and all zero. */
		if (__atomic_compare_exchange_n(&near_base, &base, mine, false,
			__ATOMIC_RELAXED, __ATOMIC_RELAXED))
			base = mine;
	}
	return base;
}

void
weiri_near_set(const char *base, size_t bytes, uint16_t tag)
{
	uintptr_t near = weiri_near_base();
	uintptr_t at = weiri_round_up((uintptr_t)base, WEIRI_NEAR_UNIT);
	uintptr_t end = ((uintptr_t)base + bytes) & ~(WEIRI_NEAR_UNIT - 1);

	for (; at < end; at += WEIRI_NEAR_UNIT) {
		uintptr_t unit = (at - near) >> WEIRI_NEAR_SHIFT;

		if (unit < WEIRI_NEAR_COUNT)
			WEIRI_STORE(&weiri_near_tag[unit], tag);
	}
}
