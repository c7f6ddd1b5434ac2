/* SPDX-License-Identifier: MIT */
/*
 * heap_idle.c - what one class of a heap does not need is for the others.
 *
 *     free --> magazines of the stock --too many--> slabs --at rest--> supply
 *                                                     |
 *                     class out of use: all of it, ---+--pages at rest--> system
 *                     threads' magazines as well
 *
 * A cache may keep what it has: its objects will be wanted again.  A heap of 72
 * classes that each keep what they once needed grows to several times what is in
 * use when a program's sizes change, and a slot in a magazine keeps the slab, and
 * the page, that it lies in.  So a heap bounds what lies in magazines, by a part
 * of what is in use, whoever calls weir_maintain() or does not:
 *
 *   - A free that brings a full magazine while there are too many has two
 *     emptied.  Slabs that come to rest go to the supply, and their pages to
 *     the system.
 *   - A class that grows has some magazines of another emptied before: what
 *     comes free there is the next slab.
 *   - Rounds: when a good part of what is in use went round, classes that had
 *     no use since the last round are emptied whole, and pages of theirs without
 *     an object are voided (slab/compact.c).  At most one in HEAP_ROUND_NS,
 *     unless half of what is in use lies idle.
 *
 * All of it is paid by magazines on their way, in proportion to what they bring;
 * two magazines a class, which go from thread to thread, do not count.  Decay does
 * the rest (slab/maintain.c).  With WEIR_DECAY_NEVER nothing goes to the system
 * from here either.
 */
#include "pools/heap.h"

#include "config/config.h"

/* Magazines of the stock may hold this much, and a part of what is in use. */
#define HEAP_STOCK_BYTES ((uint64_t)128 << 10)
#define HEAP_STOCK_PART 8
#define HEAP_STOCK_MAGAZINES 2

/* What comes back between two looks. */
#define HEAP_LOOK_BYTES ((uint64_t)64 << 10)

/* And, with the same part of what is in use, between two rounds of emptying
 * classes out of use; the time between them, and the memory, and part of what is
 * in use, that have to lie idle for it to be shorter. */
#define HEAP_ROUND_BYTES ((uint64_t)256 << 10)
#define HEAP_ROUND_NS UINT64_C(100000000)
#define HEAP_IDLE_BYTES ((uint64_t)2 << 20)
#define HEAP_IDLE_PART 2

/* Magazines to empty for one that comes, and for a slab that is opened. */
#define HEAP_COMPACT_PUT 2
#define HEAP_COMPACT_GROW 4

/* ---- growth -------------------------------------------------------------- */

void
weiri_heap_compact_others(const struct weiri_heap_bin *grows)
{
	struct weir_heap *heap = grows->heap;
	uint32_t turn = WEIRI_LOAD(&heap->turn);

	for (uint32_t i = 0; i < WEIR_HEAP_CLASSES; i++) {
		struct weiri_heap_bin *bin =
		    weiri_heap_bin(heap, (turn + i) % WEIR_HEAP_CLASSES);

		if (bin == NULL || bin == grows ||
		    WEIRI_LOAD(&bin->depot.full_slots) == 0)
			continue;
		/* The next one's turn, so that none is spared. */
		WEIRI_STORE(&heap->turn, bin->index + 1);
		(void)weiri_depot_compact(&bin->depot, HEAP_COMPACT_GROW);
		return;
	}
}

/* ---- frees --------------------------------------------------------------- */

static bool
idle_may_go(void)
{
	return WEIRI_LOAD(&weiri_config()->decay_ms) != WEIR_DECAY_NEVER;
}

/* Pages of slabs that were too many are owed to the system; a step pays what
 * came together. */
static void
idle_owe(size_t bytes)
{
	if (bytes == 0 || !idle_may_go())
		return;
	weiri_pages_owe(bytes, 0);
	if (weiri_pages_owing())
		(void)weiri_pages_settle();
}

/* Slots in magazines of the stock, but for those that any class has that goes
 * from thread to thread. */
static uint64_t
idle_excess(const struct weiri_heap_bin *bin)
{
	uint64_t slots = WEIRI_LOAD(&bin->depot.full_slots);
	uint64_t keeps = (uint64_t)bin->depot.rounds_max * HEAP_STOCK_MAGAZINES;

	return slots > keeps ? slots - keeps : 0;
}

struct idle_view {
	uint64_t used;  /* bytes in use */
	uint64_t stock; /* in magazines of the stock, and too many */
	uint64_t idle;  /* in memory and not in use */
};

static struct idle_view
idle_measure(struct weir_heap *heap)
{
	struct idle_view view = {.used = WEIRI_LOAD(&heap->run_bytes)};
	uint64_t inside = 0, voided = 0;

	WEIRI_HEAP_FOR_BIN(bin, heap)
	{
		uint64_t slot_bytes = bin->depot.slot_bytes;

		view.stock += idle_excess(bin) * slot_bytes;
		view.used += WEIRI_LOAD(&bin->depot.outside) * slot_bytes;
		inside += WEIRI_LOAD(&bin->depot.inside) * slot_bytes;
		voided += WEIRI_LOAD(&bin->depot.voided) * WEIRI_PAGE;
	}
	if (inside > voided)
		view.idle = inside - voided;
	return view;
}

/* Empties the classes out of use.  That of the call under way is none. */
static void
idle_retire(struct weir_heap *heap, const struct weiri_heap_bin *busy)
{
	size_t bytes = 0;

	WEIRI_HEAP_FOR_BIN(bin, heap)
	{
		if (bin != busy)
			bytes += weiri_depot_retire(&bin->depot);
	}
	idle_owe(bytes);
}

/* Once a good part of what is in use went round; and some time after the last
 * one, unless much lies idle: classes that are used now and then are no reason
 * for system calls. */
static bool
idle_is_due(struct weir_heap *heap, const struct idle_view *view)
{
	uint64_t now_ns = weiri_os_now_ns();

	if (view->idle < HEAP_IDLE_BYTES + view->used / HEAP_IDLE_PART &&
	    now_ns - WEIRI_LOAD(&heap->round_ns) < HEAP_ROUND_NS)
		return false;
	WEIRI_STORE(&heap->round_ns, now_ns);
	WEIRI_STORE(&heap->round_bytes, 0);
	return idle_may_go();
}

static void
idle_look(
    struct weir_heap *heap, const struct weiri_heap_bin *busy, uint64_t came)
{
	struct idle_view view = idle_measure(heap);
	uint64_t round =
	    __atomic_add_fetch(&heap->round_bytes, came, __ATOMIC_RELAXED);

	WEIRI_STORE(&heap->compacting,
	    view.stock > HEAP_STOCK_BYTES + view.used / HEAP_STOCK_PART);
	if (round >= HEAP_ROUND_BYTES + view.used / HEAP_STOCK_PART &&
	    idle_is_due(heap, &view))
		idle_retire(heap, busy);
}

void
weiri_heap_stocked(void *owner, size_t slots)
{
	struct weiri_heap_bin *bin = owner;
	struct weir_heap *heap = bin->heap;
	uint64_t came = __atomic_add_fetch(
	    &heap->came_bytes, slots * bin->depot.slot_bytes, __ATOMIC_RELAXED);

	if (came >= HEAP_LOOK_BYTES) {
		WEIRI_STORE(&heap->came_bytes, 0);
		idle_look(heap, bin, came);
	}
	if (WEIRI_LOAD(&heap->compacting) && idle_excess(bin) > 0)
		idle_owe(weiri_depot_compact(&bin->depot, HEAP_COMPACT_PUT));
}

/* ---- on request ---------------------------------------------------------- */

size_t
weir_heap_trim(struct weir_heap *heap)
{
	size_t bytes = 0;

	weiri_heap_need(heap);
	weiri_heap_begin(heap);
	WEIRI_HEAP_FOR_BIN(bin, heap)
	{
		bytes += weiri_depot_trim(&bin->depot);
	}
	weiri_heap_settle(heap);
	return bytes;
}
