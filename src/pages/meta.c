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
 * free record, else from a page given back, else by moving the bump pointer.
 * Free records never merge and chunks are never unmapped.  Beyond 32 KiB a
 * record is a mapping of its own (meta_map.c).
 *
 * A spike of small objects leaves an eighth of its size in records (a magazine
 * for each 126 of them), so their memory must be able to go back, too.  Chunks
 * consist of units of 64 KiB, and begin with counts of each: a page whose 64
 * lines are all free is found by them, its records leave their lists, and a bit
 * says that it is void.  A chunk starts at a multiple of the largest, which leads
 * from a record to its counts; beside these, and not in each unit, so that no more
 * than a page of a chunk has to stay.
 *
 *     chunk | counts | 64 | 1024 | ... |      void      | 2048 | ...
 *
 * The budget is charged page by page as the bump pointer moves, not by chunk;
 * the rest of a chunk is address space that was never touched.  Pages are those
 * of the system, if they are larger than 4 KiB; then none is ever void.
 *
 * Invariants (weiri_meta_check()):
 *
 *   T1  Bit c of the mask says that list c is not empty.
 *   T2  Listed records are aligned to their class.
 *   T3  Free records together are no larger than what was charged.
 *   T4  A unit's counts are those of the listed records in it; a void page has
 *       none.
 *
 * Lock: meta_mutex is a leaf; nothing but the budget and os/ under it.
 */
#include "base/bits.h"
#include "os/os.h"
#include "pages/budget.h"
#include "pages/supply.h"

#include <string.h>

#define META_MIN_SHIFT 6  /* a cache line; less would invite false sharing */
#define META_MAX_SHIFT 15 /* half a unit: it begins behind a chunk's counts */
#define META_CLASSES (META_MAX_SHIFT - META_MIN_SHIFT + 1)
#define META_MAX ((size_t)1 << META_MAX_SHIFT)
#define META_LINE ((size_t)1 << META_MIN_SHIFT)

#define META_UNIT ((size_t)64 << 10)
#define META_UNIT_PAGES (META_UNIT / WEIRI_PAGE)
#define META_PAGE_LINES (WEIRI_PAGE / META_LINE)
#define META_PAGE_CLASS (WEIRI_PAGE_SHIFT - META_MIN_SHIFT)

/* Void units looked at for more pages than one in a row. */
#define META_VOID_LOOKS 8

/* The first chunk serves the many programs with a handful of pools; a chunk's
 * address space is free, its page tables and system calls are not. */
#define META_CHUNK_FIRST ((size_t)128 << 10)
#define META_CHUNK_MAX ((size_t)1 << 20) /* the second is twice the first ... */

struct meta_free {
	struct meta_free *next, **link; /* what points here */
	unsigned class;
};

/* At the start of a chunk, for each 64 KiB that the largest has. */
struct meta_unit {
	struct meta_unit *next;
	struct meta_unit *next_void;          /* with a void page */
	uint16_t void_mask;                   /* bit p: page p is void */
	uint8_t free_lines[META_UNIT_PAGES];  /* of each page */
	uint8_t whole_class[META_UNIT_PAGES]; /* 1 + class of a free record
						  * of whole pages */
};

static_assert(sizeof(struct meta_free) <= META_LINE, "fits the least record");

#define META_CHUNK_UNITS (META_CHUNK_MAX / META_UNIT)
#define META_HEAD (META_CHUNK_UNITS * META_LINE)

static_assert(sizeof(struct meta_unit) * META_CHUNK_UNITS <= META_HEAD &&
		  META_HEAD < WEIRI_PAGE,
    "a chunk's counts leave room on their page");

static struct weiri_mutex meta_mutex = WEIRI_MUTEX_INITIALIZER;
static struct meta_free *meta_list[META_CLASSES];
static uint32_t meta_mask;
static char *meta_bump, *meta_paid, *meta_end; /* of the current chunk */
static size_t meta_chunk_next = META_CHUNK_FIRST;
static struct meta_unit *meta_units, *meta_void_units;
static struct meta_unit *meta_purge_at; /* where the next purge begins */
static size_t meta_whole;               /* pages with every line free */
static uint64_t meta_charged;           /* written under the lock */

size_t
weiri_meta_pages(size_t bytes)
{
	return weiri_round_up(
	    bytes, weiri_max(weiri_os_page_bytes(), WEIRI_PAGE));
}

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

static struct meta_unit *
meta_unit_of(void *record)
{
	uintptr_t offset = (uintptr_t)record & (META_CHUNK_MAX - 1);
	struct meta_unit *first =
	    (struct meta_unit *)((uintptr_t)record - offset);

	return &first[offset / META_UNIT];
}

/* Page @page of what @unit counts. */
static char *
meta_page(struct meta_unit *unit, size_t page)
{
	uintptr_t offset = (uintptr_t)unit & (META_CHUNK_MAX - 1);
	char *chunk = (char *)unit - offset;

	return chunk + offset / sizeof(*unit) * META_UNIT + page * WEIRI_PAGE;
}

static size_t
meta_page_of(const void *record)
{
	return ((uintptr_t)record & (META_UNIT - 1)) / WEIRI_PAGE;
}

/* A page of @unit has @lines free lines now. */
static void
meta_set_lines(struct meta_unit *unit, size_t page, size_t lines)
{
	bool was = unit->free_lines[page] == META_PAGE_LINES;
	bool is = lines == META_PAGE_LINES;

	unit->free_lines[page] = (uint8_t)lines;
	WEIRI_STORE(&meta_whole, meta_whole + is - was);
}

/* A record of @class was listed, or left its list. */
static void
meta_count(void *record, unsigned class, bool listed)
{
	struct meta_unit *unit = meta_unit_of(record);
	size_t page = meta_page_of(record);

	if (class < META_PAGE_CLASS) {
		size_t lines = meta_class_bytes(class) / META_LINE;
		size_t seen = unit->free_lines[page];

		meta_set_lines(
		    unit, page, listed ? seen + lines : seen - lines);
		return;
	}
	unit->whole_class[page] = listed ? (uint8_t)(class + 1) : 0;
	for (size_t i = 0; i < meta_class_bytes(class) / WEIRI_PAGE; i++)
		meta_set_lines(unit, page + i, listed ? META_PAGE_LINES : 0);
}

static void
meta_push(unsigned class, void *record)
{
	struct meta_free *node = record;

	node->next = meta_list[class];
	node->link = &meta_list[class];
	node->class = class;
	if (node->next != NULL)
		node->next->link = &node->next;
	meta_list[class] = node;
	meta_mask |= UINT32_C(1) << class;
	meta_count(record, class, true);
}

static void
meta_unlist(struct meta_free *node)
{
	*node->link = node->next;
	if (node->next != NULL)
		node->next->link = node->link;
	if (meta_list[node->class] == NULL)
		meta_mask &= ~(UINT32_C(1) << node->class);
	meta_count(node, node->class, false);
}

static void *
meta_pop(unsigned class)
{
	struct meta_free *node = meta_list[class];

	meta_unlist(node);
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

	size_t bytes = weiri_meta_pages((size_t)(end - meta_paid));

	if (!weiri_budget_charge(bytes))
		return false;
	WEIRI_BUMP(&meta_charged, bytes);
	meta_paid += bytes;
	return true;
}

static bool
meta_is_chunk(const char *address)
{
	return ((uintptr_t)address & (META_CHUNK_MAX - 1)) == 0;
}

/* The bump pointer is at a chunk's start, which is paid for. */
static void
meta_enter_chunk(void)
{
	struct meta_unit *unit = (struct meta_unit *)(void *)meta_bump;
	size_t units = (size_t)(meta_end - meta_bump) / META_UNIT;

	for (size_t i = 0; i < units; i++) {
		unit[i].next = meta_units;
		meta_units = &unit[i];
	}
	meta_bump += META_HEAD;
}

/* Moves the bump pointer up to @to, the space between to the lists. */
static void
meta_skip(char *to)
{
	while (meta_bump < to) {
		if (meta_is_chunk(meta_bump)) {
			meta_enter_chunk();
			continue;
		}

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

static char *
meta_chunk_map(size_t bytes)
{
	char *chunk = weiri_os_reserve(bytes, META_CHUNK_MAX);

	if (chunk != NULL && weiri_os_commit(chunk, bytes) != 0) {
		weiri_os_drop(chunk, bytes);
		chunk = NULL;
	}
	return chunk;
}

static bool
meta_chunk_add(void)
{
	size_t bytes = meta_chunk_next;
	char *chunk = meta_chunk_map(bytes);

	/* Near a limit of address space or of commit a small one may be had. */
	if (chunk == NULL && bytes > META_CHUNK_FIRST) {
		bytes = META_CHUNK_FIRST;
		chunk = meta_chunk_map(bytes);
	}
	if (chunk == NULL)
		return false;
	/* What is left of the last chunk and paid for goes to the lists; what
	 * was never touched stays untouched for good. */
	meta_skip(meta_paid);
	meta_bump = meta_paid = chunk;
	meta_end = chunk + bytes;
	meta_chunk_next = weiri_min(bytes * 2, META_CHUNK_MAX);
	return true;
}

/* Where the bump pointer finds room for a record, behind a chunk's counts. */
static uintptr_t
meta_place(size_t bytes)
{
	uintptr_t from = (uintptr_t)meta_bump;

	return weiri_round_up(
	    meta_is_chunk(meta_bump) ? from + META_HEAD : from, bytes);
}

static void *
meta_take_bump(unsigned class)
{
	size_t bytes = meta_class_bytes(class);
	uintptr_t place = meta_place(bytes);

	if (meta_bump == NULL || place + bytes > (uintptr_t)meta_end) {
		if (!meta_chunk_add())
			return NULL;
		place = meta_place(bytes);
	}

	char *record = meta_bump + (place - (uintptr_t)meta_bump);

	if (!meta_pay(record + bytes))
		return NULL;
	meta_skip(record);
	meta_bump = record + bytes;
	return record;
}

/* ---- void pages --------------------------------------------------------- */

/* The first of @count void pages at a multiple of it, or SIZE_MAX. */
static size_t
meta_find_void(const struct meta_unit *unit, size_t count)
{
	size_t run = ((size_t)1 << count) - 1;

	for (size_t page = 0; page < META_UNIT_PAGES; page += count)
		if (((unit->void_mask >> page) & run) == run)
			return page;
	return SIZE_MAX;
}

/* Lists a record of at least @class made of void pages; false if none is at
 * hand or the budget refuses. */
static bool
meta_fill_void(unsigned class)
{
	struct meta_unit **at = &meta_void_units, *unit;
	size_t count, page = SIZE_MAX;

	class = class > META_PAGE_CLASS ? class : META_PAGE_CLASS;
	count = meta_class_bytes(class) / WEIRI_PAGE;
	for (int looks = 0; *at != NULL && looks < META_VOID_LOOKS; looks++) {
		page = meta_find_void(*at, count);
		if (page != SIZE_MAX)
			break;
		at = &(*at)->next_void;
	}
	unit = *at;
	if (unit == NULL || page == SIZE_MAX ||
	    !weiri_budget_charge(count * WEIRI_PAGE))
		return false;
	WEIRI_BUMP(&meta_charged, count * WEIRI_PAGE);
	unit->void_mask &= (uint16_t) ~((((size_t)1 << count) - 1) << page);
	if (unit->void_mask == 0)
		*at = unit->next_void;
	meta_push(class, meta_page(unit, page));
	return true;
}

/* Unlists the free records that fill @page, and perhaps the pages around it;
 * the pages. */
static unsigned
meta_detach(struct meta_unit *unit, size_t page)
{
	char *base = meta_page(unit, 0);

	for (unsigned order = 0; order < META_CLASSES - META_PAGE_CLASS;
	     order++) {
		size_t first = page & ~(((size_t)1 << order) - 1);
		unsigned class = META_PAGE_CLASS + order;

		if (unit->whole_class[first] != class + 1)
			continue;
		meta_unlist(
		    (struct meta_free *)(void *)(base + first * WEIRI_PAGE));
		return ((1u << (1u << order)) - 1) << first;
	}
	for (size_t at = page * WEIRI_PAGE; at < (page + 1) * WEIRI_PAGE;) {
		struct meta_free *node = (void *)(base + at);

		at += meta_class_bytes(node->class);
		meta_unlist(node);
	}
	return 1u << page;
}

/* All pages of the unit that are free, out of their lists. */
static unsigned
meta_detach_all(struct meta_unit *unit)
{
	unsigned pages = 0;

	for (size_t page = 0; page < META_UNIT_PAGES; page++)
		if (unit->free_lines[page] == META_PAGE_LINES)
			pages |= meta_detach(unit, page);
	return pages;
}

/* Without the lock: the detached pages that the system took, run by run. */
static unsigned
meta_decommit(struct meta_unit *unit, unsigned pages)
{
	unsigned taken = 0;

	for (size_t page = 0; page < META_UNIT_PAGES; page++) {
		size_t first = page;

		while (page < META_UNIT_PAGES && (pages >> page & 1) != 0)
			page++;
		if (page == first)
			continue;
		if (weiri_os_decommit(meta_page(unit, first),
			(page - first) * WEIRI_PAGE) == 0)
			taken |= (1u << page) - (1u << first);
	}
	return taken;
}

/* Under the lock: what the system took is void, the rest free as before. */
static void
meta_settle(struct meta_unit *unit, unsigned pages, unsigned taken)
{
	for (size_t page = 0; page < META_UNIT_PAGES; page++)
		if (((pages & ~taken) >> page & 1) != 0)
			meta_push(META_PAGE_CLASS, meta_page(unit, page));
	if (taken == 0)
		return;
	if (unit->void_mask == 0) {
		unit->next_void = meta_void_units;
		meta_void_units = unit;
	}
	unit->void_mask |= (uint16_t)taken;
	WEIRI_STORE(
	    &meta_charged, WEIRI_LOAD(&meta_charged) -
			       (size_t)__builtin_popcount(taken) * WEIRI_PAGE);
}

/* Under the lock: the next unit with free pages, which are detached; NULL after
 * the last.  The next walk begins where this one ended. */
static struct meta_unit *
meta_purge_next(unsigned *pages, unsigned *ends)
{
	while (meta_whole > 0) {
		if (meta_purge_at == NULL) {
			if (++*ends == 2)
				return NULL;
			meta_purge_at = meta_units;
			continue;
		}

		struct meta_unit *unit = meta_purge_at;

		meta_purge_at = unit->next;
		*pages = meta_detach_all(unit);
		if (*pages != 0)
			return unit;
	}
	return NULL;
}

size_t
weiri_meta_purge(size_t bytes)
{
	size_t given = 0;
	unsigned pages, ends = 0;

	if (weiri_os_page_bytes() != WEIRI_PAGE)
		return 0;
	weiri_mutex_lock(&meta_mutex);
	while (given < bytes) {
		struct meta_unit *unit = meta_purge_next(&pages, &ends);

		if (unit == NULL)
			break;
		weiri_mutex_unlock(&meta_mutex);

		unsigned taken = meta_decommit(unit, pages);
		size_t gone = (size_t)__builtin_popcount(taken) * WEIRI_PAGE;

		weiri_mutex_lock(&meta_mutex);
		meta_settle(unit, pages, taken);
		weiri_budget_uncharge(gone);
		given += gone;
	}
	weiri_mutex_unlock(&meta_mutex);
	return given;
}

/* ---- interface --------------------------------------------------------- */

void *
weiri_meta_alloc_locked(size_t bytes)
{
	weiri_budget_start();
	if (bytes > META_MAX)
		return weiri_meta_map(bytes);

	unsigned class = meta_class(bytes);
	bool fresh = false;

	weiri_mutex_lock(&meta_mutex);

	void *record = meta_take_listed(class);

	if (record == NULL && meta_fill_void(class))
		record = meta_take_listed(class);
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
		weiri_meta_unmap(record, bytes);
		return;
	}
	weiri_mutex_lock(&meta_mutex);
	meta_push(meta_class(bytes), record);
	weiri_mutex_unlock(&meta_mutex);
}

size_t
weiri_meta_trim(void)
{
	weiri_grave_empty();
	(void)weiri_meta_purge(SIZE_MAX);
	return weiri_meta_map_trim();
}

uint64_t
weiri_meta_whole(void)
{
	return WEIRI_LOAD(&meta_whole) * WEIRI_PAGE;
}

uint64_t
weiri_meta_charged(void)
{
	return WEIRI_LOAD(&meta_charged) + weiri_meta_map_charged();
}

/* Under the lock: what the units say is free. */
static uint64_t
meta_counted(void)
{
	uint64_t lines = 0;

	for (struct meta_unit *unit = meta_units; unit != NULL;
	     unit = unit->next)
		for (size_t page = 0; page < META_UNIT_PAGES; page++)
			lines += unit->free_lines[page];
	return lines * META_LINE;
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
	if (why == NULL && listed > meta_charged)
		why = "T3: more free records than paid for";
	if (why == NULL && listed != meta_counted())
		why = "T4: free lines of units and free records differ";
	weiri_mutex_unlock(&meta_mutex);
	return why;
}

void
weiri_meta_fork_lock(void)
{
	weiri_mutex_lock(&meta_mutex);
	weiri_meta_map_fork_lock();
}

void
weiri_meta_fork_unlock(void)
{
	weiri_meta_map_fork_unlock();
	weiri_mutex_unlock(&meta_mutex);
}
