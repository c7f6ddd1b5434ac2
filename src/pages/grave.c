/* SPDX-License-Identifier: MIT */
/*
 * grave.c - records of pools that ended, kept for a while as they are.
 *
 * A program that goes on using a pool it destroyed reads the record behind its
 * pointer.  If that serves another pool by then, the call works on a stranger;
 * in the free list it finds a list's links.  So the last few records lie here,
 * left by their pools such that each call on them comes to a report:
 *
 *     destroy --> | newest | . . . . | oldest | --> free list
 *
 * First in, first out, since the stale call tends to come soon.  A trim, and
 * memory that is short, empty the place: what is known then is that the record
 * is none, and no name.
 *
 * Invariant: a record is in one slot or in none; whoever exchanges it out owns
 * it.  No lock, so that a pool may end anywhere, and nothing to do at a fork.
 */
#include "base/bits.h"
#include "os/os.h"
#include "pages/supply.h"

/* Of a kilobyte each as a rule, 10 KiB at most. */
#define GRAVES 32

/* Records are aligned to 64 bytes and more: room for the size's logarithm. */
#define GRAVE_SIZE_MASK ((uintptr_t)63)

static uintptr_t grave_record[GRAVES];
static uint64_t grave_next;

static void
grave_free(uintptr_t entry)
{
	if (entry != 0)
		weiri_meta_free((void *)(entry & ~GRAVE_SIZE_MASK),
		    (size_t)1 << (entry & GRAVE_SIZE_MASK));
}

void
weiri_grave_put(void *record, size_t bytes)
{
	uintptr_t entry = (uintptr_t)record | weiri_log2_ceil(bytes);
	uint64_t at =
	    __atomic_fetch_add(&grave_next, 1, __ATOMIC_RELAXED) % GRAVES;

	WEIR_ASSERT(((uintptr_t)record & GRAVE_SIZE_MASK) == 0);
	/* Released for who takes it out and reads its size; acquired likewise. */
	grave_free(
	    __atomic_exchange_n(&grave_record[at], entry, __ATOMIC_ACQ_REL));
}

void
weiri_grave_empty(void)
{
	for (size_t i = 0; i < GRAVES; i++)
		grave_free(
		    __atomic_exchange_n(&grave_record[i], 0, __ATOMIC_ACQ_REL));
}
