/* SPDX-License-Identifier: MIT */
/*
 * heap_pool.c - heaps as pools: creation, classes, the end.
 *
 * A class has nothing before its first request.  Then it gets a bin, a depot
 * with what the heap knows of it, and the tables of heap.c learn its cell.  Two
 * threads may make the same one; the first to publish it wins, and the other's
 * goes away before it ever had a slab.
 *
 * Ending a heap does not ask what is in use.  Depots close slab after slab
 * without looking at slots, and runs are a list.
 */
#include "pools/heap.h"

#include "base/bits.h"
#include "config/config.h"
#include "config/invalid.h"
#include "guard/fault.h"
#include "pages/near.h"
#include "slab/stock.h"

#include <errno.h>
#include <string.h>

/* Told apart from whatever lies where a destroyed heap was. */
#define HEAP_MAGIC UINT32_C(0x68656170)
#define HEAP_DEAD UINT32_C(0x64656164)

struct weir_heap weiri_heap_default;
struct weiri_heap_shape weiri_heap_shape[WEIRI_CELLS];
struct weiri_heap_starts weiri_heap_own[UINT16_MAX + 1];

/* ---- the map from sizes to classes ---------------------------------------- */

/* What programs were compiled with must stay true: a sample of each shape. */
static_assert(WEIR_HEAP_CLASSES == 16 + 8 * 7, "16 up to 256, 8 a doubling");
static_assert(WEIR_HEAP_CLASS_BYTES_MAX == (size_t)256 << 7, "seven of them");
static_assert(WEIR_HEAP_CLASSES < WEIRI_HEAP_NO_CLASS, "fits a byte");

/* Binary search over a heap's own classes. */
static size_t
heap_search_class(const struct weir_heap *heap, size_t bytes)
{
	size_t low = 0, high = heap->class_count - 1;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (bytes <= heap->class_bytes[middle])
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

size_t
weiri_heap_class_of(const struct weir_heap *heap, size_t bytes)
{
	WEIR_ASSERT(bytes <= heap->class_max);
	if (WEIR_LIKELY(!heap->tuned))
		return weir_heap_class(bytes);
	return heap_search_class(heap, bytes);
}

/* ---- bins ------------------------------------------------------------------ */

static bool
heap_slab_open(struct weiri_slab *slab, void *owner)
{
	struct weiri_heap_bin *bin = owner;

	/* What weiri_heap_is_start() believes: no colours. */
	WEIR_ASSERT(slab->first == slab->span.base);
	if (!weiri_heap_charge(bin->heap, slab->span.bytes))
		return false;
	weiri_heap_compact_others(bin);
	return true;
}

static void
heap_slab_close(struct weiri_slab *slab, void *owner)
{
	struct weiri_heap_bin *bin = owner;

	weiri_heap_uncharge(bin->heap, slab->span.bytes);
}

static void
heap_slab_settled(void *owner)
{
	struct weiri_heap_bin *bin = owner;

	weiri_heap_settle(bin->heap);
}

static const struct weiri_depot_hooks heap_hooks = {
    .slab_open = heap_slab_open,
    .slab_settled = heap_slab_settled,
    .slab_close = heap_slab_close,
    .stocked = weiri_heap_stocked,
};

struct weiri_heap_bin *
weiri_heap_bin_of(const struct weiri_span *span)
{
	const struct weiri_slab *slab = (const struct weiri_slab *)span;

	if (span == NULL || span->kind != WEIRI_SPAN_SLAB ||
	    slab->depot->hooks != &heap_hooks)
		return NULL;
	return slab->depot->owner;
}

/* Has free know the slabs with the bin's tag, or nothing of them. */
static void
heap_bin_tag(const struct weiri_heap_bin *bin, struct weiri_heap_shape shape,
    struct weiri_heap_starts starts)
{
	const struct weir_heap *heap = bin->heap;

	if (bin->depot.cell == WEIRI_CELL_NONE)
		return;
	/* As heap_free_own() takes the one for the other. */
	WEIR_ASSERT(bin->depot.cell == bin->depot.index);
	weiri_heap_shape[bin->depot.index] = shape;
	if (heap == &weiri_heap_default)
		weiri_heap_own[bin->depot.index] = starts;
}

static int
heap_bin_init(struct weiri_heap_bin *bin, struct weir_heap *heap, size_t index)
{
	uint32_t slot_bytes = heap->class_bytes[index];
	struct weiri_heap_shape shape = weiri_heap_shape_of(slot_bytes);
	struct weiri_depot_config config = {
	    .kind = "heap",
	    .name = heap->pool.name,
	    .slot_bytes = slot_bytes,
	    .slab_bytes = (size_t)shape.slab_mask + 1,
	    .uncoloured = true,
	    .slot_align = weiri_heap_slot_align(slot_bytes),
	    .limit = SIZE_MAX,
	    .state_bytes = !heap->each,
	    .verify = !heap->each,
	    .secret = heap->each ? heap->secret : 0,
	    .hooks = &heap_hooks,
	    .guard = &heap->guard,
	    .countdown = true,
	    .owner = bin,
	};

	bin->heap = heap;
	bin->index = (uint32_t)index;
	bin->below = index > 0 ? heap->class_bytes[index - 1] : 0;
	bin->shape = shape;

	int error = weiri_depot_init(&bin->depot, &config);

	/* Before anyone can have an object of it: what leads others to the bin
	 * leads them to its shape. */
	if (error == 0)
		heap_bin_tag(
		    bin, shape, weiri_heap_starts_in(heap, slot_bytes));
	return error;
}

/* Has the tables of heap.c lead to the bin; one without a cell stays in the
 * slow path. */
static void
heap_bin_publish(struct weir_heap *heap, const struct weiri_heap_bin *bin)
{
	uint16_t offset = (uint16_t)bin->depot.fast_offset;
	size_t slot_bytes = bin->depot.slot_bytes;
	size_t last = weiri_min(slot_bytes, WEIRI_HEAP_QUICK_BYTES);

	if (bin->depot.cell == WEIRI_CELL_NONE)
		return;
	WEIRI_STORE(&heap->tag_offset[bin->depot.index],
	    (uint16_t)(offset | (heap->each ? WEIRI_HEAP_EACH : 0)));
	for (size_t bytes = bin->below; bytes <= last; bytes += WEIR_HEAP_ALIGN)
		if (bytes > bin->below || bytes == 0)
			WEIRI_STORE(
			    &heap->quick[bytes / WEIR_HEAP_ALIGN], offset);
	for (unsigned i = 0; i < WEIR_HEAP_CLASSES; i++) {
		size_t bytes = weir_heap_class_bytes(i);

		if (bytes > bin->below && bytes <= slot_bytes)
			WEIRI_STORE(&heap->class_offset[i], offset);
	}
}

struct weiri_heap_bin *
weiri_heap_bin_need(struct weir_heap *heap, size_t index)
{
	struct weiri_heap_bin *bin = weiri_meta_need(sizeof(*bin));
	struct weiri_heap_bin *other = NULL;

	if (bin == NULL)
		return NULL;
	if (heap_bin_init(bin, heap, index) != 0) {
		weiri_meta_free(bin, sizeof(*bin));
		return NULL;
	}
	/* Pairs with the acquire in weiri_heap_bin(). */
	if (__atomic_compare_exchange_n(&heap->bin[index], &other, bin, false,
		__ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
		heap_bin_publish(heap, bin);
		return bin;
	}
	/* The tag will be another's. */
	heap_bin_tag(bin, (struct weiri_heap_shape){0, 0, 0},
	    (struct weiri_heap_starts){0, 0});
	weiri_depot_finish(&bin->depot);
	weiri_meta_free(bin, sizeof(*bin));
	return other;
}

/* ---- registry operations ---------------------------------------------------- */

static struct weir_heap *
heap_of_pool(struct weiri_pool *pool)
{
	return WEIRI_CONTAINER_OF(pool, struct weir_heap, pool);
}

static size_t
heap_trim_pool(struct weiri_pool *pool)
{
	return weir_heap_trim(heap_of_pool(pool));
}

static void
heap_fork_lock(struct weiri_pool *pool)
{
	weiri_mutex_lock(&heap_of_pool(pool)->lock);
}

static void
heap_fork_unlock(struct weiri_pool *pool)
{
	weiri_mutex_unlock(&heap_of_pool(pool)->lock);
}

static void
heap_fork_child(struct weiri_pool *pool)
{
	weiri_heap_recount(heap_of_pool(pool));
}

static const struct weiri_pool_ops heap_pool_ops = {
    .stats = weiri_heap_fill_stats,
    .trim = heap_trim_pool,
    .fork_lock = heap_fork_lock,
    .fork_unlock = heap_fork_unlock,
    .fork_child = heap_fork_child,
};

/* ---- configuration ---------------------------------------------------------- */

static WEIRI_COLD int
heap_refuse_field(const char *call, const char *field, size_t index,
    uint64_t value, const char *allowed)
{
	return weiri_invalid(&(struct weiri_invalid){
	    .call = call,
	    .field = field,
	    .index = index,
	    .value = value,
	    .allowed = allowed,
	    .bound = {WEIR_HEAP_CLASSES},
	});
}

static int
heap_check_classes(const char *call, const struct weir_heap_config *config)
{
	uint32_t below = 0;

	if ((config->class_count == 0) != (config->class_bytes == NULL) ||
	    config->class_count > WEIR_HEAP_CLASSES)
		return heap_refuse_field(call, "class_count", 0,
		    config->class_count, "0 without class_bytes, else 1 .. %u");
	for (size_t i = 0; i < config->class_count; i++) {
		uint32_t bytes = config->class_bytes[i];

		if (bytes <= below || bytes % WEIR_HEAP_ALIGN != 0 ||
		    bytes > WEIR_HEAP_CLASS_BYTES_MAX)
			return heap_refuse_field(call, "class_bytes[]", i,
			    bytes, "rising multiples of 16 up to 32768");
		below = bytes;
	}
	return 0;
}

static int
heap_check_config(const char *call, const struct weir_heap_config *config)
{
	size_t word = weiri_invalid_word(
	    config->reserved, WEIRI_COUNT_OF(config->reserved));

	if ((config->flags & ~(unsigned)WEIR_HEAP_REPORT_LIVE) != 0)
		return heap_refuse_field(call, "flags", 0, config->flags,
		    "0 or WEIR_HEAP_REPORT_LIVE");
	if ((unsigned)config->check > WEIR_CHECK_BATCH)
		return heap_refuse_field(call, "check", 0,
		    (uint64_t)config->check,
		    "WEIR_CHECK_EACH or WEIR_CHECK_BATCH");
	if (word < WEIRI_COUNT_OF(config->reserved))
		return heap_refuse_field(
		    call, "reserved[]", word, config->reserved[word], "0");
	return heap_check_classes(call, config);
}

static void
heap_set_classes(struct weir_heap *heap, const struct weir_heap_config *config)
{
	heap->tuned = config->class_count > 0;
	heap->class_count = WEIR_HEAP_CLASSES;
	if (heap->tuned)
		heap->class_count = (uint32_t)config->class_count;
	for (unsigned i = 0; i < heap->class_count; i++)
		heap->class_bytes[i] = heap->tuned
					   ? config->class_bytes[i]
					   : (uint32_t)weir_heap_class_bytes(i);
	heap->class_max = heap->class_bytes[heap->class_count - 1];
}

/* ---- creation and end ------------------------------------------------------- */

/* @heap reads as zero. */
static void
heap_set_up(struct weir_heap *heap, const char *name,
    const struct weir_heap_config *config)
{
	heap_set_classes(heap, config);
	heap->near_base = weiri_near_base();
	heap->secret = weiri_os_random() | 1; /* 0 is none */
	heap->each = config->check == WEIR_CHECK_EACH;
	heap->report_live = (config->flags & WEIR_HEAP_REPORT_LIVE) != 0;
	heap->limit_bytes = config->limit_bytes;
	if (config->limit_bytes == 0)
		heap->limit_bytes = UINT64_MAX;
	else if (config->limit_bytes == WEIR_LIMIT_NOTHING)
		heap->limit_bytes = 0;
	heap->trim_idle = UINT64_MAX;
	heap->magic = HEAP_MAGIC;
	weiri_mutex_init(&heap->lock);
	weiri_list_init(&heap->runs);
	weiri_pool_register(
	    &heap->pool, WEIR_POOL_HEAP, name, &heap_pool_ops, false);
	weiri_guard_enter(&heap->guard, weiri_heap_kind, heap->pool.name);
	heap->born_bare = weiri_guard_bare(&heap->guard);
	/* Pairs with the acquire in weiri_heap_need(). */
	__atomic_store_n(&heap->ready, true, __ATOMIC_RELEASE);
}

int
weir_heap_create(const char *name, const struct weir_heap_config *config,
    struct weir_heap **out)
{
	static const struct weir_heap_config defaults;
	struct weir_heap *heap;
	int error;

	*out = NULL;
	if (config == NULL)
		config = &defaults;
	error = heap_check_config("weir_heap_create", config);
	if (error != 0)
		return error;
	(void)weiri_config(); /* starts the library */
	heap = weiri_meta_need(sizeof(*heap));
	if (heap == NULL)
		return -ENOMEM;
	heap_set_up(heap, name, config);
	*out = heap;
	return 0;
}

/* What the default heap is made with, and whether it was. */
static const struct weir_heap_config *heap_default_config;

static void
heap_start_default(void)
{
	static const struct weir_heap_config defaults;
	const struct weir_heap_config *config = heap_default_config;

	/* A fork in the middle has its child come here once more. */
	if (weiri_heap_default.pool.id != 0) {
		WEIRI_STORE(&weiri_heap_default.ready, true);
		return;
	}
	heap_default_config = NULL;
	heap_set_up(&weiri_heap_default, "default",
	    config != NULL ? config : &defaults);
}

static WEIRI_COLD WEIRI_NORETURN void
heap_not_live(const struct weir_heap *heap)
{
	bool known = heap->magic == HEAP_DEAD;

	weiri_fault(&(struct weiri_fault_site){
	    .fault_class = known ? WEIR_FAULT_USE_AFTER_DESTROY
				 : WEIR_FAULT_FOREIGN_POINTER,
	    .pool_kind = "heap",
	    .pool_name = known ? heap->pool.name : NULL,
	    .address = heap,
	    .detail = known ? "it is used, but was destroyed"
			    : "%p is no live heap"});
}

void
weiri_heap_start(struct weir_heap *heap)
{
	static weiri_once once = WEIRI_ONCE_INITIALIZER;

	if (heap != &weiri_heap_default && WEIR_DETECTOR(heap_gone))
		heap_not_live(heap);
	/* Ahead of the once: the first use of the options sends messages, and
	 * their hook may come here again. */
	(void)weiri_config();
	weiri_os_once(&once, heap_start_default);
}

int
weir_heap_set_default(const struct weir_heap_config *config)
{
	static const struct weir_heap_config defaults;
	int error;

	if (config == NULL)
		config = &defaults;
	error = heap_check_config("weir_heap_set_default", config);
	if (error != 0)
		return error;
	if (config->class_count != 0)
		return weiri_invalid(&(struct weiri_invalid){
		    .call = "weir_heap_set_default",
		    .field = "class_count",
		    .value = config->class_count,
		    .allowed = "0: compiled-in sizes mean the standard classes",
		});
	heap_default_config = config;
	weiri_heap_start(&weiri_heap_default);
	if (heap_default_config == NULL)
		return 0;
	heap_default_config = NULL;
	return -EBUSY;
}

struct weir_heap *
weir_heap_default(void)
{
	weiri_heap_need(&weiri_heap_default);
	return &weiri_heap_default;
}

struct weir_heap *
weir_heap_of(const void *address)
{
	struct weiri_span *span = weiri_span_of(address);
	const struct weiri_heap_bin *bin = weiri_heap_bin_of(span);
	const struct weiri_heap_run *run = weiri_heap_run_of(span);

	if (bin != NULL)
		return bin->heap;
	return run != NULL ? run->heap : weiri_heap_of_guarded(address);
}

static WEIRI_COLD WEIRI_NORETURN void
heap_refuse_destroy(const struct weir_heap *heap)
{
	if (heap == &weiri_heap_default &&
	    WEIR_DETECTOR(heap_default_destroyed))
		weiri_fault(&(struct weiri_fault_site){
		    .fault_class = WEIR_FAULT_BAD_ARGUMENT,
		    .pool_kind = "heap",
		    .pool_name = "default",
		    .detail = "the heap of the process cannot be destroyed"});
	weiri_fault(
	    &(struct weiri_fault_site){.fault_class = WEIR_FAULT_DOUBLE_DESTROY,
		.pool_kind = "heap",
		/* Any other word: the record has been reused. */
		.pool_name = heap->magic == HEAP_DEAD ? heap->pool.name : NULL,
		.address = heap,
		.detail = "%p is no live heap"});
}

/* What its record is left as: without an offset every call comes to its slow
 * half, which needs a heap that is ready. */
static void
heap_bury(struct weir_heap *heap)
{
	memset(heap->quick, 0, sizeof(heap->quick));
	memset(heap->class_offset, 0, sizeof(heap->class_offset));
	memset(heap->tag_offset, 0, sizeof(heap->tag_offset));
	memset(heap->bin, 0, sizeof(heap->bin));
	heap->magic = HEAP_DEAD;
	WEIRI_STORE(&heap->ready, false);
	weiri_grave_put(heap, sizeof(*heap));
}

/* Objects that were freed twice and came to no depot yet; its end is the last
 * time to look. */
static void
heap_settle(struct weir_heap *heap)
{
	WEIRI_HEAP_FOR_BIN(bin, heap)
	{
		void *bad = weiri_depot_settle(&bin->depot);

		if (bad != NULL)
			weiri_stock_report(&bin->depot, bad);
	}
}

/* Where the end of the heap is not to be that of its objects. */
static void
heap_require_empty(struct weir_heap *heap)
{
	uint64_t live = WEIRI_LOAD(&heap->run_count);

	WEIRI_HEAP_FOR_BIN(bin, heap)
	{
		struct weiri_depot_stats stats;

		weiri_depot_stats(&bin->depot, &stats);
		/* In a fork's child, what other threads were moving is lost, not
		 * used. */
		if (stats.in_use > stats.lost)
			live += stats.in_use;
	}
	if (live > 0 && WEIR_DETECTOR(heap_live_objects))
		weiri_fault(&(struct weiri_fault_site){
		    .fault_class = WEIR_FAULT_LIVE_OBJECTS,
		    .pool_kind = "heap",
		    .pool_name = heap->pool.name,
		    .number = live,
		    .detail = "%u %{object is|objects are} still in use"});
}

void
weir_heap_destroy(struct weir_heap *heap)
{
	if (heap == NULL)
		return;
	if ((heap == &weiri_heap_default || heap->magic != HEAP_MAGIC) &&
	    WEIR_DETECTOR(heap_double_destroy))
		heap_refuse_destroy(heap);
	heap_settle(heap);
	if (heap->report_live)
		heap_require_empty(heap);
	weiri_guard_end_all(&heap->guard, WEIRI_GUARD_DESTROY);
	weiri_guard_leave(&heap->guard);
	weiri_pool_unregister(&heap->pool);
	weiri_heap_run_free_all(heap);
	WEIRI_HEAP_FOR_BIN(bin, heap)
	{
		weiri_depot_finish(&bin->depot);
		weiri_meta_free(bin, sizeof(*bin));
	}
	weiri_mutex_destroy(&heap->lock);
	heap_bury(heap);
}
