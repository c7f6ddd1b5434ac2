/* SPDX-License-Identifier: MIT */
/*
 * through.c - objects under guard that are blocks of malloc().
 *
 * AddressSanitizer, Valgrind and heaptrack know what malloc() handed out: where
 * it ends, who took it, who gave it back, what was written there.  A pool hides
 * all that, and telling a tool where objects lie gives it back by half: what is
 * poisoned by hand has no stacks.  So in mode `tool` each object is a block of
 * its own, and what the tool does for those it does for objects of pools: its
 * borders, its quarantine, its stacks, its bits for what was never written.
 *
 * What is left to do here is to find an object by an address.  Blocks lie
 * anywhere, so their records hang in a tree by their starts:
 *
 *     address --> last start at or before it --> is it within that object?
 *
 * The tree is a treap whose priorities are a mix of the records' numbers: as
 * deep as a random one, and nothing to keep for its balance.
 *
 * An ended object's record stays, so that a second free is told with both
 * stacks, until its place is handed out again or too many others ended since.
 *
 * Invariants:
 *
 *   H1  Objects of records in the tree do not overlap.  A block is given back
 *       after its record is ENDED, so whoever gets its place next can drop it.
 *   H2  A record is in the tree, or in the list of free ones, or was never
 *       used.  Those in the tree that ended are in the list `ended` too.
 *   H3  The lock is a leaf, and held for no call of malloc() or free().
 */
#include "guard/through.h"

#include "base/annotate.h"
#include "base/bits.h"
#include "os/os.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* What live and ended ones there can be: a fifth of a GiB of addresses, made
 * memory by steps, since a tool notes each byte of it. */
#define THROUGH_RECORDS ((uint32_t)1 << 20)
#define THROUGH_STEP ((uint32_t)16 << 10)
#define THROUGH_BUCKETS ((uint32_t)64 << 10)
#define THROUGH_WORDS ((uint32_t)1 << 20)

/* Ended ones that are known. */
#define THROUGH_KNOWN ((size_t)64 << 10)

/* As objects of mode full: a pointer made of it traps. */
#define THROUGH_FRESH 0xa5

/* Of each record, by its number; 0 is none. */
struct through_node {
	uint32_t low, high;  /* subtrees */
	uint32_t prev, next; /* in `ended`; next also among the free ones */
	uint32_t listed;     /* in `ended` */
};

static struct {
	struct weiri_mutex lock;
	struct weiri_guarded *record;
	struct through_node *node;
	uint32_t committed; /* records and nodes that are memory */
	uint32_t root;
	uint32_t free;        /* records */
	uint32_t first, last; /* of `ended`, by age */
} through = {.lock = WEIRI_MUTEX_INITIALIZER};

/* This thread has the lock, or is about to: a handler keeps out. */
static __thread bool through_inside __attribute__((tls_model("initial-exec")));

static void
through_enter(void)
{
	WEIRI_STORE(&through_inside, true);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	weiri_mutex_lock(&through.lock);
}

static void
through_leave(void)
{
	weiri_mutex_unlock(&through.lock);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	WEIRI_STORE(&through_inside, false);
}

/* ---- the tree -------------------------------------------------------------- */

static uintptr_t
through_start(uint32_t number)
{
	return (uintptr_t)through.record[number].start;
}

/* Behind the last byte; an object of none has one, which is its name. */
static uintptr_t
through_end(uint32_t number)
{
	return through_start(number) +
	       weiri_max(through.record[number].bytes, 1);
}

static uint32_t
through_priority(uint32_t number)
{
	uint32_t mixed = number * UINT32_C(0x9e3779b1);

	mixed ^= mixed >> 15;
	return mixed * UINT32_C(0x85ebca77);
}

/* Where the number of the record with this start is, or would be. */
static uint32_t *
through_slot(uintptr_t start)
{
	uint32_t *at = &through.root;

	while (*at != 0 && through_start(*at) != start)
		at = start < through_start(*at) ? &through.node[*at].low
						: &through.node[*at].high;
	return at;
}

/* The record that begins at @address or last before it; 0: none. */
static uint32_t
through_floor(uintptr_t address)
{
	uint32_t best = 0;

	for (uint32_t at = through.root; at != 0;) {
		if (through_start(at) > address) {
			at = through.node[at].low;
			continue;
		}
		best = at;
		at = through.node[at].high;
	}
	return best;
}

/* Cuts the tree @whole into what begins before @start and what does not. */
static void
through_split(uint32_t whole, uintptr_t start, uint32_t *low, uint32_t *high)
{
	while (whole != 0) {
		struct through_node *node = &through.node[whole];

		if (through_start(whole) < start) {
			*low = whole;
			low = &node->high;
			whole = node->high;
		} else {
			*high = whole;
			high = &node->low;
			whole = node->low;
		}
	}
	*low = *high = 0;
}

static void
through_insert(uint32_t number)
{
	uintptr_t start = through_start(number);
	uint32_t priority = through_priority(number);
	uint32_t *at = &through.root;

	while (*at != 0 && through_priority(*at) > priority)
		at = start < through_start(*at) ? &through.node[*at].low
						: &through.node[*at].high;
	through_split(
	    *at, start, &through.node[number].low, &through.node[number].high);
	*at = number;
}

/* Two trees, all of the first before the second, are put in the place @at. */
static void
through_join(uint32_t *at, uint32_t low, uint32_t high)
{
	while (low != 0 && high != 0) {
		if (through_priority(low) > through_priority(high)) {
			*at = low;
			at = &through.node[low].high;
			low = *at;
		} else {
			*at = high;
			at = &through.node[high].low;
			high = *at;
		}
	}
	*at = low != 0 ? low : high;
}

static void
through_remove(uint32_t number)
{
	uint32_t *at = through_slot(through_start(number));

	through_join(at, through.node[number].low, through.node[number].high);
}

/* ---- records --------------------------------------------------------------- */

static void
through_list(uint32_t number)
{
	struct through_node *node = &through.node[number];

	*node = (struct through_node){
	    .low = node->low,
	    .high = node->high,
	    .prev = through.last,
	    .listed = 1,
	};
	if (through.last != 0)
		through.node[through.last].next = number;
	else
		through.first = number;
	through.last = number;
}

static void
through_unlist(uint32_t number)
{
	struct through_node *node = &through.node[number];

	if (node->prev != 0)
		through.node[node->prev].next = node->next;
	else
		through.first = node->next;
	if (node->next != 0)
		through.node[node->next].prev = node->prev;
	else
		through.last = node->prev;
	node->listed = 0;
}

/* An ended object is known no more. */
static void
through_forget(struct weiri_space *space, uint32_t number)
{
	through_unlist(number);
	through_remove(number);
	__atomic_store_n(&through.record[number].state,
	    (uint8_t)WEIRI_GUARDED_NONE, __ATOMIC_RELAXED);
	WEIRI_STORE(&space->ended, space->ended - 1);
	through.node[number].next = through.free;
	through.free = number;
}

/* A step more of records and their nodes. */
static bool
through_grow(const struct weiri_space *space)
{
	uint32_t from = through.committed;

	if (from >= space->record_max ||
	    weiri_os_commit(&through.record[from],
		THROUGH_STEP * sizeof(*through.record)) != 0 ||
	    weiri_os_commit(
		&through.node[from], THROUGH_STEP * sizeof(*through.node)) != 0)
		return false;
	through.committed = from + THROUGH_STEP;
	return true;
}

/* A record that is nobody's; 0: all are live. */
static uint32_t
through_record(struct weiri_space *space)
{
	uint32_t number = space->record_count;

	if (through.free == 0 &&
	    (number < through.committed || through_grow(space))) {
		WEIRI_STORE(&space->record_count, number + 1);
		return number;
	}
	if (through.free == 0 && through.first != 0)
		through_forget(space, through.first);
	number = through.free;
	if (number != 0)
		through.free = through.node[number].next;
	return number;
}

/* Whatever ended in the bytes that are handed out again. */
static void
through_clear(struct weiri_space *space, uintptr_t start, size_t bytes)
{
	uint32_t number;

	while ((number = through_floor(start + weiri_max(bytes, 1) - 1)) != 0 &&
	       through_end(number) > start && through.node[number].listed)
		through_forget(space, number);
}

/* ---- blocks ---------------------------------------------------------------- */

/* What the C library gives without being asked for more. */
#define THROUGH_ALIGN _Alignof(max_align_t)

static void *
through_block(size_t bytes, size_t align)
{
	int saved = errno;
	void *block = NULL;

	if (align <= THROUGH_ALIGN)
		block = malloc(bytes);
	else if (posix_memalign(&block, align, bytes) != 0)
		block = NULL;
	errno = saved;
	return block;
}

static void
through_fill(void *block, size_t bytes, bool zeroed)
{
	/* What keeps the only pointer may be memory of weir's, which the search
	 * for leaks does not see; weir has its own (WEIR_LEAKS). */
	weiri_annotate_ignore_leak(block);
	if (zeroed) {
		memset(block, 0, bytes);
	} else if (!weiri_annotate_is_valgrind()) {
		/* That has the block as unset, and from where. */
		memset(block, THROUGH_FRESH, bytes);
		weiri_annotate_undefined(block, bytes);
	}
}

struct weiri_guarded *
weiri_through_take(
    struct weiri_space *space, size_t bytes, size_t align, bool zeroed)
{
	char *block = bytes <= PTRDIFF_MAX ? through_block(bytes, align) : NULL;
	struct weiri_guarded *guarded;
	uint32_t number;

	if (block == NULL)
		return NULL;
	through_enter();
	number = through_record(space);
	if (number == 0) {
		through_leave();
		free(block);
		return NULL;
	}
	through_clear(space, (uintptr_t)block, bytes);
	guarded = &through.record[number];
	guarded->area = guarded->start = block;
	guarded->bytes = bytes;
	through_insert(number);
	WEIRI_STORE(&space->live, space->live + 1);
	WEIRI_STORE(&space->live_bytes, space->live_bytes + bytes);
	through_leave();
	through_fill(block, bytes, zeroed);
	return guarded;
}

void
weiri_through_give(struct weiri_space *space, struct weiri_guarded *guarded)
{
	char *block = guarded->start;
	int saved = errno;

	through_enter();
	WEIRI_STORE(&space->live, space->live - 1);
	WEIRI_STORE(&space->live_bytes, space->live_bytes - guarded->bytes);
	WEIRI_STORE(&space->ended, space->ended + 1);
	through_list((uint32_t)(guarded - through.record));
	if (space->ended > space->quarantine_max)
		through_forget(space, through.first);
	through_leave();
	free(block);
	errno = saved;
}

struct weiri_guarded *
weiri_through_find(struct weiri_space *space, const void *address)
{
	struct weiri_guarded *guarded = NULL;
	uint32_t number;

	if (WEIRI_LOAD(&space->record_max) == 0 || WEIRI_LOAD(&through_inside))
		return NULL;
	through_enter();
	number = through_floor((uintptr_t)address);
	if (number != 0 && (uintptr_t)address < through_end(number))
		guarded = &through.record[number];
	through_leave();
	return guarded;
}

/* ---- process --------------------------------------------------------------- */

int
weiri_through_start(struct weiri_space *space)
{
	size_t page = weiri_os_page_bytes();
	size_t records = THROUGH_RECORDS * sizeof(struct weiri_guarded);
	size_t nodes = THROUGH_RECORDS * sizeof(struct through_node);
	size_t buckets = THROUGH_BUCKETS * sizeof(uint32_t);
	size_t sites = buckets + THROUGH_WORDS * sizeof(uintptr_t);
	size_t bytes = weiri_round_up(records + nodes + sites, page);
	char *all;

	if (space->record_max != 0)
		return 0;
	all = weiri_os_reserve(bytes, page);
	if (all == NULL)
		return -ENOMEM;
	sites = bytes - records - nodes;
	if (weiri_os_commit(all + records + nodes, sites) != 0) {
		weiri_os_drop(all, bytes);
		return -ENOMEM;
	}
	static_assert(
	    THROUGH_STEP * sizeof(struct weiri_guarded) % 65536 == 0 &&
		THROUGH_STEP * sizeof(struct through_node) % 65536 == 0,
	    "a step is whole pages, on any machine");
	space->record = through.record = (void *)all;
	through.node = (void *)(all + records);
	space->sites = (struct weiri_sites){
	    .bucket = (void *)(all + records + nodes),
	    .bucket_count = THROUGH_BUCKETS,
	    .word = (void *)(all + records + nodes + buckets),
	    .word_count = THROUGH_WORDS,
	};
	space->quarantine_max = THROUGH_KNOWN;
	space->record_count = 1;
	WEIRI_STORE(&space->record_max, THROUGH_RECORDS);
	weiri_witness_start();
	return 0;
}

void
weiri_through_fork_lock(void)
{
	through_enter();
}

void
weiri_through_fork_unlock(void)
{
	through_leave();
}
