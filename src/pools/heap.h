/* SPDX-License-Identifier: MIT */
/*
 * heap.h - heaps from the inside: between heap.c, heap_run.c and heap_pool.c.
 *
 * heap.c holds the calls a program makes often, heap_calls.c the others,
 * heap_run.c what is larger than a class, heap_shape.c where slots start,
 * heap_limit.c the limit, heap_idle.c what is given back, heap_pool.c creation
 * and end, heap_check.c figures and the walk, heap_guard.c objects under guard,
 * heap_report.c what to say of a wrong pointer.
 */
#ifndef WEIRI_POOLS_HEAP_H
#define WEIRI_POOLS_HEAP_H

#include "guard/guard.h"
#include "slab/cursor.h"
#include "watch/registry.h"

#include <weir/heap.h>

/* Requests up to here are looked up in a table, by units of 16 bytes. */
#define WEIRI_HEAP_QUICK_BYTES ((size_t)4096)
#define WEIRI_HEAP_QUICK (WEIRI_HEAP_QUICK_BYTES / WEIR_HEAP_ALIGN + 1)

#define WEIRI_HEAP_NO_CLASS UINT8_MAX

/* Slots start at multiples of the largest power of two in their size, up to
 * this; what is to be aligned further has pages of its own. */
#define WEIRI_HEAP_SLOT_ALIGN_MAX WEIRI_PAGE

/* In tag_offset, beside a cell's offset, which is a multiple of 8. */
#define WEIRI_HEAP_EACH 1u

/*
 * How to tell from an offset into a slab whether a slot starts there: the offset
 * times step, modulo 2^64, is below `below` then and only then.  With no slots,
 * as where nothing was set, it never is.
 */
struct weiri_heap_shape {
	uint64_t step, below;
	uint32_t slab_mask; /* slabs are aligned to their size */
};

/* The same modulo 2^32, for slabs of 64 KiB. */
struct weiri_heap_starts {
	uint32_t step, below;
};

/* With no slots: at level `batch`, where nobody asks. */
#define WEIRI_HEAP_STEP_ANY 1u

#define WEIRI_HEAP_SHORT_MASK UINT32_C(0xffff)

/* A class that was used: made at its first request, lives as the heap does. */
struct weiri_heap_bin {
	struct weiri_depot depot;
	struct weir_heap *heap;
	uint32_t index; /* of the class */
	uint32_t below; /* slot size of the class before; requests are larger */
	struct weiri_heap_shape shape;
	uint64_t sample_count; /* requests that found a magazine empty */
	uint64_t sample_bytes; /*   and their sum */
};

/* A request beyond the classes.  The span comes first: what the page map
 * answers for an address in it is the run. */
struct weiri_heap_run {
	struct weiri_span span; /* its link is in heap->runs */
	struct weir_heap *heap;
	size_t bytes; /* asked for */
};

/* Addresses of the runs freed last, to tell a second free by its name. */
#define WEIRI_HEAP_GONE 64

struct weir_heap {
	/*
	 * Read by every call, written when a class is used first.  An offset is
	 * that of a cell in struct weir_local; 0 is the cell that is never
	 * anything but empty and full, which sends the caller to the slow path.
	 */
	uint16_t quick[WEIRI_HEAP_QUICK];         /* by request / 16 */
	uint16_t class_offset[WEIR_HEAP_CLASSES]; /* by class of the ABI */
	uintptr_t near_base;                      /* as in pages/near.h */
	uint64_t secret;                  /* in the mark of a free slot */
	uint16_t tag_offset[WEIRI_CELLS]; /* by tag of the page map */

	/* Read by the slow path; written at creation, bins when first used. */
	struct weiri_heap_bin *bin[WEIR_HEAP_CLASSES];
	uint32_t class_bytes[WEIR_HEAP_CLASSES];
	uint32_t class_count;
	uint32_t class_max; /* the largest slot */
	bool tuned;         /* the class map is the program's own */
	bool each;          /* checks at the call */
	bool born_bare;     /* no thread ever had a magazine; see guard.h */
	bool report_live;   /* objects in use at its end are a fault */
	bool ready;         /* false: the default heap before its first use */
	uint32_t magic;
	uint64_t limit_bytes; /* UINT64_MAX: none */

	/* Atomic. */
	WEIRI_ALIGNED(WEIRI_CACHE_LINE) uint64_t mapped_bytes;
	uint32_t under_way;    /* see heap_limit.c */
	uint32_t forks;        /* counts afresh: one in each child */
	uint64_t refused;      /* requests that no depot saw */
	uint64_t run_requests; /* served */
	uint64_t run_count, run_peak;
	uint64_t run_bytes, run_asked;
	uint64_t
	    trim_idle; /* weiri_pages_idle at a trim that brought nothing */
	uint64_t came_bytes;  /* into the stock since the last look */
	uint64_t round_bytes; /*   and since classes were emptied */
	uint64_t round_ns;    /* when that was */
	uint32_t turn;        /* the class that growth empties next */
	bool compacting;      /* too much lies in magazines */

	/* A leaf: list operations only under it. */
	struct weiri_mutex lock;
	struct weiri_list runs;
	uintptr_t gone[WEIRI_HEAP_GONE];
	size_t gone_next;

	struct weiri_pool pool;
	struct weiri_guard_pool guard;
};

static_assert(sizeof(struct weir_heap) <= WEIRI_PAGE, "as heap.h tells users");
static_assert(WEIRI_CELLS * sizeof(uintptr_t *) <= UINT16_MAX,
    "offsets of cells have 16 bits");

/* Hidden in so many words: a mere declaration would be reached through the
 * table of global addresses. */
extern struct weir_heap weiri_heap_default
    __attribute__((visibility("hidden")));

/* By tag of the page map, for slabs of heaps; of the default heap, as
 * weiri_heap_starts_in() has it, with a place for every tag there is. */
extern struct weiri_heap_shape weiri_heap_shape[WEIRI_CELLS]
    __attribute__((visibility("hidden")));
extern struct weiri_heap_starts weiri_heap_own[UINT16_MAX + 1]
    __attribute__((visibility("hidden")));

/* Of a class; the second if its slabs have 64 KiB, else without slots. */
struct weiri_heap_shape weiri_heap_shape_of(uint32_t slot_bytes);
struct weiri_heap_starts weiri_heap_starts_of(uint32_t slot_bytes);

/* What a free in the heap of the process knows of a class of @heap: nothing, if
 * that is another. */
struct weiri_heap_starts weiri_heap_starts_in(
    const struct weir_heap *heap, uint32_t slot_bytes);

WEIRI_INLINE bool
weiri_heap_is_start(const struct weiri_heap_shape *shape, const void *address)
{
	uint32_t offset = (uint32_t)(uintptr_t)address & shape->slab_mask;

	return offset * shape->step < shape->below;
}

WEIRI_INLINE bool
weiri_heap_is_short_start(
    const struct weiri_heap_starts *starts, const void *address)
{
	return (uint16_t)(uintptr_t)address * starts->step < starts->below;
}

/* Makes the default heap ready at its first use; any other was destroyed, and
 * that is said. */
WEIRI_COLD void weiri_heap_start(struct weir_heap *heap);

WEIRI_INLINE void
weiri_heap_need(struct weir_heap *heap)
{
	/* Pairs with the release in heap_start_default(). */
	if (WEIR_UNLIKELY(!__atomic_load_n(&heap->ready, __ATOMIC_ACQUIRE)))
		weiri_heap_start(heap);
}

/* ---- classes ------------------------------------------------------------ */

/* The class of @bytes <= heap->class_max. */
size_t weiri_heap_class_of(const struct weir_heap *heap, size_t bytes);

/* The alignment every slot of a class has. */
WEIRI_INLINE size_t
weiri_heap_slot_align(size_t slot_bytes)
{
	size_t lowest = slot_bytes & (~slot_bytes + 1);

	return lowest < WEIRI_HEAP_SLOT_ALIGN_MAX ? lowest
						  : WEIRI_HEAP_SLOT_ALIGN_MAX;
}

/* The bin of a class, or NULL while it was never used. */
WEIRI_INLINE struct weiri_heap_bin *
weiri_heap_bin(struct weir_heap *heap, size_t index)
{
	/* Pairs with the exchange in weiri_heap_bin_need(). */
	return __atomic_load_n(&heap->bin[index], __ATOMIC_ACQUIRE);
}

/* All bins, smallest first; the body may free them. */
#define WEIRI_HEAP_FOR_BIN(bin, heap)                                    \
	for (size_t bin##_i = 0; bin##_i < WEIR_HEAP_CLASSES; bin##_i++) \
		for (struct weiri_heap_bin *bin =                        \
			 weiri_heap_bin((heap), bin##_i);                \
		     bin != NULL; bin = NULL)

/* The bin of a class, made if need be; NULL without memory. */
struct weiri_heap_bin *weiri_heap_bin_need(
    struct weir_heap *heap, size_t index);

/* The bin whose slab @span is, or NULL: of any heap. */
struct weiri_heap_bin *weiri_heap_bin_of(const struct weiri_span *span);

/* True if a request of @bytes is served by the bin's class. */
WEIRI_INLINE bool
weiri_heap_bin_serves(const struct weiri_heap_bin *bin, size_t bytes)
{
	return bytes <= bin->depot.slot_bytes &&
	       (bytes > bin->below || bin->below == 0);
}

/* ---- objects ------------------------------------------------------------- */

/* The bin of an object in use of @heap, else NULL. */
struct weiri_heap_bin *weiri_heap_find_slot(
    const struct weir_heap *heap, struct weiri_span *span, const void *object);

/* The run of @heap that starts at @object, else NULL. */
struct weiri_heap_run *weiri_heap_find_run(
    const struct weir_heap *heap, struct weiri_span *span, const void *object);

/* A request that no table leads from to its cell. */
void *weiri_heap_alloc_from(
    struct weir_heap *heap, size_t index, size_t bytes, size_t align);

/* For the registry: fills the figures of a heap. */
void weiri_heap_fill_stats(
    struct weiri_pool *pool, struct weir_pool_stats *out);

/* ---- faults ------------------------------------------------------------- */

/* Says what is wrong with a pointer that is no object of @heap. */
WEIRI_COLD WEIRI_NORETURN void weiri_heap_report(
    struct weir_heap *heap, const void *object);

/* And with the size of an object that is freed. */
WEIRI_COLD WEIRI_NORETURN void weiri_heap_report_size(
    const struct weir_heap *heap, const void *object, size_t bytes);

/* ---- limit -------------------------------------------------------------- */

/* Adds to what the heap maps, giving idle slabs of it back if that makes room;
 * false at the limit.  After a success, weiri_heap_settle() says that what the
 * bytes are for is in its list, or uncharged.  No lock may be held. */
bool weiri_heap_charge(struct weir_heap *heap, size_t bytes);
void weiri_heap_uncharge(struct weir_heap *heap, size_t bytes);
void weiri_heap_settle(struct weir_heap *heap);

/* As a charge of nothing: for who gives memory back that is still charged. */
void weiri_heap_begin(struct weir_heap *heap);

/* In the child of a fork: counts what is in the lists. */
void weiri_heap_recount(struct weir_heap *heap);

/* A request that ends with NULL without any depot having seen it. */
WEIRI_COLD void *weiri_heap_refuse(struct weir_heap *heap);

/* ---- idle memory --------------------------------------------------------- */

/* A slab was opened for a class; no lock may be held. */
void weiri_heap_compact_others(const struct weiri_heap_bin *grows);

/* A depot's hook: a full magazine came into the stock. */
void weiri_heap_stocked(void *owner, size_t slots);

/* ---- guard --------------------------------------------------------------- */

extern const char weiri_heap_kind[] __attribute__((visibility("hidden")));

/* A free slot's first word, so that a second free is told. */
void weiri_heap_set_mark(const struct weir_heap *heap, void *slot);

/* The long way of a request: a slot, or NULL, on its way to the caller; and a
 * run of pages on its own. */
void *weiri_heap_take_due(
    struct weiri_heap_bin *bin, void *slot, size_t bytes, size_t align);
void *weiri_heap_run_due(struct weir_heap *heap, void *run, size_t bytes,
    size_t align, bool *zeroed);

/* The end of an object under guard; false: it is none, and nothing happened. */
WEIRI_COLD bool weiri_heap_free_guarded(
    struct weir_heap *heap, void *object, enum weiri_guard_how how);

/* What stands for an object of the heap: itself, unless it is under guard.  May
 * report, and is NULL if that returns. */
WEIRI_COLD const void *weiri_heap_stand_in(
    struct weir_heap *heap, const void *object);

/* False if @object is not under guard; else *out is what a realloc returns. */
WEIRI_COLD bool weiri_heap_realloc_guarded(
    struct weir_heap *heap, void *object, size_t bytes, void **out);

/* The heap of a live object under guard, or NULL. */
struct weir_heap *weiri_heap_of_guarded(const void *object);

/* ---- runs --------------------------------------------------------------- */

/* Sizes and alignments no class serves; *zeroed (or NULL) tells whether the
 * pages read as zero.  NULL when refused, counted. */
void *weiri_heap_run_alloc(
    struct weir_heap *heap, size_t bytes, size_t align, bool *zeroed);

/* The run of any heap around @span, or NULL. */
struct weiri_heap_run *weiri_heap_run_of(struct weiri_span *span);

void weiri_heap_run_free(struct weiri_heap_run *run);

/* To @bytes, larger than any class: where it lies, or moved; NULL: as it was. */
void *weiri_heap_run_resize(struct weiri_heap_run *run, size_t bytes);

/* True if a run at @address was freed lately. */
bool weiri_heap_run_gone(struct weir_heap *heap, const void *address);

/* All runs of a dying heap. */
void weiri_heap_run_free_all(struct weir_heap *heap);

#endif /* WEIRI_POOLS_HEAP_H */
