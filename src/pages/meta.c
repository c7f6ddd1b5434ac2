/* SPDX-License-Identifier: MIT */
/*
 * meta.c - storage for the library's own records.
 *
 * Records must not come from spans: a span needs a descriptor and an extent its
 * buddy before the first page can be handed out, and an overrun of a program's
 * object must not reach the library's bookkeeping.  So they have chunks of
 * their own, cut into power-of-two classes:
 *
 *     chunk  | 64 | 1024 | gap given to the lists | 8192 |   bump ->      |
 *              ^-- each record is aligned to its size       ^ bump  ^ paid
 *
 * A request is served from the list of its class, else by halving a larger
 * free record, else by moving the bump pointer.  Free records never merge and
 * chunks never go back: what a process needed once for its records is small
 * and it needs it again.  Beyond 64 KiB a record is a mapping of its own.
 *
 * The budget is charged page by page as the bump pointer moves, not by chunk;
 * the rest of a chunk is address space that was never touched.
 *
 * Invariants (weiri_meta_check()):
 *
 *   T1  Bit c of the mask says that list c is not empty.
 *   T2  Listed records are aligned to their class.
 *   T3  Free records together are no larger than what was charged.
 *
 * Lock: meta_mutex is a leaf; nothing but the budget and os/ under it.
 */
#include "base/bits.h"
#include "os/os.h"
#include "pages/budget.h"
#include "pages/supply.h"

#include <string.h>

#define META_MIN_SHIFT 6  /* a cache line; less would invite false sharing */
#define META_MAX_SHIFT 16 /* as promised in pages.h */
#define META_CLASSES (META_MAX_SHIFT - META_MIN_SHIFT + 1)
#define META_MAX ((size_t)1 << META_MAX_SHIFT)

/* The first chunk serves the many programs with a handful of pools; a chunk's
 * address space is free, its page tables and system calls are not. */
#define META_CHUNK_FIRST ((size_t)64 << 10)
#define META_CHUNK ((size_t)256 << 10)

struct meta_free {
	struct meta_free *next;
};

static struct weiri_mutex meta_mutex = WEIRI_MUTEX_INITIALIZER;
static struct meta_free *meta_list[META_CLASSES];
static uint32_t meta_mask;
static char *meta_bump, *meta_paid, *meta_end; /* of the current chunk */
static bool meta_started;
static uint64_t meta_charged; /* written under the lock */

static unsigned
meta_class(size_t bytes)
{
	return bytes <= (size_t)1 << META_MIN_SHIFT
		   ? 0
		   : weiri_log2_ceil(bytes) - META_MIN_SHIFT;
}

static size_t
meta_class_bytes(unsigned class)
{
	return (size_t)1 << (class + META_MIN_SHIFT);
}

static void
meta_push(unsigned class, void *record)
{
	struct meta_free *node = record;

	node->next = meta_list[class];
	meta_list[class] = node;
	meta_mask |= UINT32_C(1) << class;
}

static void *
meta_pop(unsigned class)
{
	struct meta_free *node = meta_list[class];

	meta_list[class] = node->next;
	if (meta_list[class] == NULL)
		meta_mask &= ~(UINT32_C(1) << class);
	return node;
}

/* From the lists, halving a larger record if need be; NULL if none is free. */
static void *
meta_take_listed(unsigned class)
{
	uint32_t fits = meta_mask & (UINT32_MAX << class);

	if (fits == 0)
		return NULL;

	unsigned from = (unsigned)__builtin_ctz(fits);
	char *record = meta_pop(from);

	while (from > class) {
		from--;
		meta_push(from, record + meta_class_bytes(from));
	}
	return record;
}

/* Charges the pages up to @end; false leaves all as it was. */
static bool
meta_pay(char *end)
{
	if (end <= meta_paid)
		return true;

	size_t bytes = weiri_round_up((size_t)(end - meta_paid), WEIRI_PAGE);

	if (!weiri_budget_charge(bytes))
		return false;
	WEIRI_BUMP(&meta_charged, bytes);
	meta_paid += bytes;
	return true;
}

/* Moves the bump pointer up to @to, the space between to the lists. */
static void
meta_skip(char *to)
{
	while (meta_bump < to) {
		size_t bytes = (size_t)(to - meta_bump);
		unsigned class = META_CLASSES - 1;

		while (
		    meta_class_bytes(class) > bytes ||
		    ((uintptr_t)meta_bump & (meta_class_bytes(class) - 1)) != 0)
			class --;
		meta_push(class, meta_bump);
		meta_bump += meta_class_bytes(class);
	}
}

static bool
meta_chunk_add(void)
{
	size_t bytes = meta_started ? META_CHUNK : META_CHUNK_FIRST;
	char *chunk = weiri_os_reserve(bytes, META_MAX);

	if (chunk == NULL)
		return false;
	if (weiri_os_commit(chunk, bytes) != 0) {
		(void)weiri_os_release(chunk, bytes);
		return false;
	}
	/* What is left of the last chunk and paid for goes to the lists; what
	 * was never touched stays untouched for good. */
	meta_skip(meta_paid);
	meta_started = true;
	meta_bump = meta_paid = chunk;
	meta_end = chunk + bytes;
	return true;
}

static void *
meta_take_bump(unsigned class)
{
	size_t bytes = meta_class_bytes(class);
	uintptr_t place = weiri_round_up((uintptr_t)meta_bump, bytes);

	if (meta_bump == NULL || place + bytes > (uintptr_t)meta_end) {
		if (!meta_chunk_add())
			return NULL;
		place = (uintptr_t)meta_bump;
	}

	char *record = meta_bump + (place - (uintptr_t)meta_bump);

	if (!meta_pay(record + bytes))
		return NULL;
	meta_skip(record);
	meta_bump = record + bytes;
	return record;
}

/* ---- records with a mapping of their own ------------------------------- */

static void *
meta_map(size_t bytes)
{
	if (bytes > SIZE_MAX / 2)
		return NULL;
	bytes = weiri_round_up(bytes, WEIRI_PAGE);
	if (!weiri_budget_charge(bytes))
		return NULL;

	void *record = weiri_os_reserve(bytes, META_MAX);

	if (record == NULL)
		goto undo_charge;
	if (weiri_os_commit(record, bytes) != 0)
		goto undo_reserve;
	weiri_mutex_lock(&meta_mutex);
	WEIRI_BUMP(&meta_charged, bytes);
	weiri_mutex_unlock(&meta_mutex);
	return record;

undo_reserve:
	(void)weiri_os_release(record, bytes);
undo_charge:
	weiri_budget_uncharge(bytes);
	return NULL;
}

static void
meta_unmap(void *record, size_t bytes)
{
	bytes = weiri_round_up(bytes, WEIRI_PAGE);
	(void)weiri_os_release(record, bytes);
	weiri_mutex_lock(&meta_mutex);
	WEIRI_STORE(&meta_charged, WEIRI_LOAD(&meta_charged) - bytes);
	weiri_mutex_unlock(&meta_mutex);
	weiri_budget_uncharge(bytes);
}

/* ---- interface --------------------------------------------------------- */

void *
weiri_meta_alloc_locked(size_t bytes)
{
	weiri_budget_start();
	if (bytes > META_MAX)
		return meta_map(bytes);

	unsigned class = meta_class(bytes);
	bool fresh = false;

	weiri_mutex_lock(&meta_mutex);

	void *record = meta_take_listed(class);

	if (record == NULL) {
		record = meta_take_bump(class);
		fresh = true;
	}
	weiri_mutex_unlock(&meta_mutex);

	/* What the bump pointer passes for the first time reads as zero. */
	if (record != NULL && !fresh)
		memset(record, 0, meta_class_bytes(class));
	return record;
}

void
weiri_meta_free(void *record, size_t bytes)
{
	if (record == NULL)
		return;
	if (bytes > META_MAX) {
		meta_unmap(record, bytes);
		return;
	}
	weiri_mutex_lock(&meta_mutex);
	meta_push(meta_class(bytes), record);
	weiri_mutex_unlock(&meta_mutex);
}

uint64_t
weiri_meta_charged(void)
{
	return WEIRI_LOAD(&meta_charged);
}

const char *
weiri_meta_check(void)
{
	const char *why = NULL;
	uint64_t listed = 0;

	weiri_mutex_lock(&meta_mutex);
	for (unsigned class = 0; class < META_CLASSES; class ++) {
		if (((meta_mask >> class) & 1) != (meta_list[class] != NULL))
			why = "T1: the mask and a list of records differ";
		for (struct meta_free *node = meta_list[class]; node != NULL;
		     node = node->next) {
			listed += meta_class_bytes(class);
			if ((uintptr_t)node & (meta_class_bytes(class) - 1))
				why = "T2: a free record out of line";
			if (listed > meta_charged)
				break;
		}
	}
	if (listed > meta_charged)
		why = "T3: more free records than paid for";
	weiri_mutex_unlock(&meta_mutex);
	return why;
}

void
weiri_meta_fork_lock(void)
{
	weiri_mutex_lock(&meta_mutex);
}

void
weiri_meta_fork_unlock(void)
{
	weiri_mutex_unlock(&meta_mutex);
}
