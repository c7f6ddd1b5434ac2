/* SPDX-License-Identifier: MIT */
/*
 * buddy.c - weir_buddy: the buddy of pages/buddy_core.c for anything that comes
 * in numbered units.
 *
 * The core finds and merges; this file adds what makes a pool of it: a lock, a
 * name, figures, and an answer to numbers that are wrong.  The unit is the
 * object of the statistics.
 *
 * The records of a buddy made by weir_buddy_create() lie apart from its handle:
 * the handle stays readable when it is freed, so a second destroy is reported,
 * while large records are unmapped.  Such a one is under the guard, too: what is
 * given back rests until the units are needed, so that its second free is known
 * from that of the next owner (guard/runs.c).  To the core, units that rest are
 * a run like any other; whoever asks how free units lie wakes them first.  One in
 * the caller's storage is to need no memory but that, and is as it is.
 *
 * Invariants (weir_buddy_check()):
 *
 *   U1  The core's invariants B1 .. B5.
 *   U2  in_use + resting units + free units == unit_count; in_use <= peak.
 *
 * and of free units those of buddy_mark.c.
 *
 * Lock: a leaf.  It is released before a fault is reported, since the hook may
 * leave by longjmp.  The figures are written under the lock, or by the one
 * caller of an unlocked buddy, and read without it: statistics must not need
 * the serialisation that an unlocked buddy's user provides for his own calls.
 */
#include "pools/buddy.h"

#include "config/config.h"
#include "guard/fault.h"
#include "guard/stack.h"
#include "pages/pages.h"

#include <errno.h>
#include <string.h>

/* Of the records behind a handle in the caller's storage. */
#define BUDDY_HANDLE_BYTES                                         \
	((sizeof(struct weir_buddy) + _Alignof(max_align_t) - 1) & \
	    ~(_Alignof(max_align_t) - 1))

static_assert(WEIR_BUDDY_UNITS_MAX == WEIRI_BUDDY_UNITS_MAX,
    "the public limit is the core's");
static_assert(WEIR_BUDDY_ORDERS == WEIRI_BUDDY_ORDERS,
    "the public orders are the core's");

void
weiri_buddy_not_live(const struct weir_buddy *buddy)
{
	bool known = buddy->magic == BUDDY_DEAD;

	weiri_fault(&(struct weiri_fault_site){
	    .fault_class = known ? WEIR_FAULT_USE_AFTER_DESTROY
				 : WEIR_FAULT_FOREIGN_POINTER,
	    .pool_kind = "buddy",
	    .pool_name = known ? buddy->pool.name : NULL,
	    .address = buddy,
	    .detail =
		known ? "it is used, but was destroyed" : "%p is no live buddy",
	});
}

/* ---- faults ------------------------------------------------------------ */

static WEIRI_COLD WEIRI_NORETURN void
buddy_fault(const struct weir_buddy *buddy, enum weir_fault_class class,
    const void *address, size_t number, const char *detail)
{
	weiri_fault(&(struct weiri_fault_site){
	    .fault_class = class,
	    .pool_kind = "buddy",
	    .pool_name = buddy->pool.name,
	    .address = address,
	    .number = number,
	    .detail = detail,
	});
}

/* The caller's @unit was none that he holds; no lock is held.  Returns if the
 * program goes on. */
static WEIRI_COLD void
buddy_fault_unit(
    const struct weir_buddy *buddy, enum weiri_buddy_result result, size_t unit)
{
	void *address = weir_buddy_address(buddy, unit);

	switch (result) {
	case WEIRI_BUDDY_FREE:
		if (weiri_runs_tell(&buddy->runs, unit,
			(struct weiri_fault_site){
			    .fault_class = WEIR_FAULT_DOUBLE_FREE,
			    .pool_kind = "buddy",
			    .pool_name = buddy->pool.name,
			    .address = address,
			    .number = unit,
			    .detail = "unit %u is free: its run ended by %s",
			}))
			return;
		buddy_fault(buddy, WEIR_FAULT_DOUBLE_FREE, address, unit,
		    "unit %u is free");
	case WEIRI_BUDDY_INTERIOR:
		buddy_fault(buddy, WEIR_FAULT_INTERIOR_POINTER, address, unit,
		    "unit %u is inside a run");
	case WEIRI_BUDDY_OUTSIDE:
		buddy_fault(buddy, WEIR_FAULT_FOREIGN_POINTER, address, unit,
		    "unit %u is not one of its units");
	case WEIRI_BUDDY_OK:
	case WEIRI_BUDDY_FULL:
		break;
	}
	buddy_fault(buddy, WEIR_FAULT_CORRUPTION, address, unit,
	    "unit %u is in no known state");
}

static void
buddy_expect_live(const struct weir_buddy *buddy, bool created)
{
	if (WEIR_UNLIKELY(buddy->magic != BUDDY_MAGIC) &&
	    WEIR_DETECTOR(buddy_double_destroy))
		weiri_fault(&(struct weiri_fault_site){
		    .fault_class = WEIR_FAULT_DOUBLE_DESTROY,
		    .pool_kind = "buddy",
		    /* Any other word: the record has been reused. */
		    .pool_name =
			buddy->magic == BUDDY_DEAD ? buddy->pool.name : NULL,
		    .address = buddy,
		    .detail = "%p is no live buddy",
		});
	if (WEIR_UNLIKELY(buddy->created != created) &&
	    WEIR_DETECTOR(buddy_wrong_end))
		buddy_fault(buddy, WEIR_FAULT_BAD_ARGUMENT, buddy, 0,
		    created ? "%p is in the caller's storage: use finish"
			    : "%p was made by create: use destroy");
	if (WEIR_UNLIKELY(WEIRI_LOAD(&buddy->in_use) != 0) &&
	    WEIR_DETECTOR(buddy_live_units))
		buddy_fault(buddy, WEIR_FAULT_LIVE_OBJECTS, buddy,
		    WEIRI_LOAD(&buddy->in_use),
		    "%u %{unit is|units are} still in use");
}

/* ---- guard ------------------------------------------------------------- */

/* Under the lock: what may rest and trap is as the guard's mode has it by now. */
static WEIRI_NOINLINE void
buddy_follow_slow(struct weir_buddy *buddy)
{
	weiri_runs_follow(&buddy->runs);
	while (weiri_buddy_wake(buddy, true))
		;
}

/* False: nothing was under guard yet. */
WEIRI_INLINE bool
buddy_follow(struct weir_buddy *buddy)
{
	if (WEIR_LIKELY(!weiri_runs_begun(&buddy->runs)))
		return false;
	buddy_follow_slow(buddy);
	return true;
}

/* ---- the pool's side --------------------------------------------------- */

static struct weir_buddy *
buddy_of(struct weiri_pool *pool)
{
	return WEIRI_CONTAINER_OF(pool, struct weir_buddy, pool);
}

static void
buddy_pool_stats(struct weiri_pool *pool, struct weir_pool_stats *out)
{
	const struct weir_buddy *buddy = buddy_of(pool);

	out->exact = WEIR_EXACT_COUNTS | WEIR_EXACT_REQUESTS | WEIR_EXACT_PEAK;
	out->object_bytes = buddy->unit_bytes;
	out->limit = buddy->core.unit_count;
	out->total = buddy->core.unit_count;
	out->in_use = WEIRI_LOAD(&buddy->in_use);
	out->available = out->total - out->in_use;
	out->in_use_peak = WEIRI_LOAD(&buddy->peak);
	out->requests = WEIRI_LOAD(&buddy->requests);
	out->misses = out->requests; /* there is no other way than the lock */
	out->failures = WEIRI_LOAD(&buddy->failures);
}

static void
buddy_pool_fork_lock(struct weiri_pool *pool)
{
	weiri_buddy_lock(buddy_of(pool));
}

static void
buddy_pool_fork_unlock(struct weiri_pool *pool)
{
	weiri_buddy_unlock(buddy_of(pool));
}

/* What rests is given back, and what traps stops to, without waiting for a call.
 * The caller of one that is not locked has to have the time for it. */
static void
buddy_pool_guard(struct weiri_pool *pool)
{
	struct weir_buddy *buddy = buddy_of(pool);

	if (!buddy->locked)
		return;
	weiri_buddy_lock(buddy);
	(void)buddy_follow(buddy);
	weiri_buddy_unlock(buddy);
}

static const struct weiri_pool_ops buddy_pool_ops = {
    .stats = buddy_pool_stats,
    .guard = buddy_pool_guard,
    .fork_lock = buddy_pool_fork_lock,
    .fork_unlock = buddy_pool_fork_unlock,
};

/* ---- life -------------------------------------------------------------- */

static bool
buddy_config_valid(const struct weir_buddy_config *config)
{
	const unsigned known =
	    WEIR_BUDDY_UNLOCKED | WEIR_BUDDY_INTERNAL | WEIR_BUDDY_TRAP;
	const size_t page = weiri_os_page_bytes();

	if (config->unit_count == 0 ||
	    config->unit_count > WEIR_BUDDY_UNITS_MAX)
		return false;
	if ((config->base == NULL) != (config->unit_bytes == 0))
		return false;
	if (config->unit_bytes >
	    (UINTPTR_MAX - (uintptr_t)config->base) / config->unit_count)
		return false;
	if ((config->flags & WEIR_BUDDY_TRAP) != 0 &&
	    (config->base == NULL || (uintptr_t)config->base % page != 0 ||
		config->unit_bytes % page != 0))
		return false;
	for (size_t i = 0; i < WEIRI_COUNT_OF(config->reserved); i++)
		if (config->reserved[i] != 0)
			return false;
	return (config->flags & ~known) == 0;
}

/* @records reads as zero: @mark_bytes for bits of marks, then the core's. */
static void
buddy_setup(struct weir_buddy *buddy, const char *name,
    const struct weir_buddy_config *config, void *records, size_t mark_bytes)
{
	bool trap = (config->flags & WEIR_BUDDY_TRAP) != 0;

	buddy->locked = (config->flags & WEIR_BUDDY_UNLOCKED) == 0;
	buddy->base = config->base;
	buddy->unit_bytes = config->unit_bytes;
	buddy->records = records;
	buddy->record_bytes =
	    mark_bytes + weiri_buddy_core_bytes(config->unit_count);
	if (trap) {
		buddy->marks = records;
		buddy->secret = weiri_os_random() | 1;
	}
	weiri_mutex_init(&buddy->lock);
	weiri_buddy_core_init(
	    &buddy->core, config->unit_count, (char *)records + mark_bytes);
	weiri_runs_init(&buddy->runs, &buddy->guard, config->unit_count,
	    trap ? config->base : NULL, config->unit_bytes);
	buddy->magic = BUDDY_MAGIC;
	weiri_pool_register(&buddy->pool, WEIR_POOL_BUDDY, name,
	    &buddy_pool_ops, (config->flags & WEIR_BUDDY_INTERNAL) != 0);
}

static void
buddy_teardown(struct weir_buddy *buddy)
{
	weiri_pool_unregister(&buddy->pool);
	weiri_guard_leave(&buddy->guard);
	buddy->guard = (struct weiri_guard_pool){0};
	weiri_runs_finish(&buddy->runs);
	weiri_mutex_destroy(&buddy->lock);
	buddy->magic = BUDDY_DEAD;
}

int
weir_buddy_create(const char *name, const struct weir_buddy_config *config,
    struct weir_buddy **out)
{
	*out = NULL;
	if (!buddy_config_valid(config))
		return -EINVAL;

	struct weir_buddy *buddy = weiri_meta_need(sizeof(*buddy));

	if (buddy == NULL)
		return -ENOMEM;

	size_t mark_bytes = (config->flags & WEIR_BUDDY_TRAP) != 0
				? weiri_buddy_mark_bytes(config->unit_count)
				: 0;
	void *records = weiri_meta_need(
	    mark_bytes + weiri_buddy_core_bytes(config->unit_count));

	if (records == NULL) {
		weiri_meta_free(buddy, sizeof(*buddy));
		return -ENOMEM;
	}
	buddy->created = true;
	buddy_setup(buddy, name, config, records, mark_bytes);
	weiri_guard_enter(&buddy->guard, "buddy", buddy->pool.name);
	*out = buddy;
	return 0;
}

void
weir_buddy_destroy(struct weir_buddy *buddy)
{
	if (buddy == NULL)
		return;
	buddy_expect_live(buddy, true);
	weiri_buddy_mark_end(buddy);
	buddy_teardown(buddy);
	weiri_meta_free(buddy->records, buddy->record_bytes);
	weiri_grave_put(buddy, sizeof(*buddy));
}

size_t
weir_buddy_storage_bytes(size_t unit_count)
{
	if (unit_count == 0 || unit_count > WEIR_BUDDY_UNITS_MAX)
		return 0;
	return BUDDY_HANDLE_BYTES + weiri_buddy_mark_bytes(unit_count) +
	       weiri_buddy_core_bytes(unit_count);
}

int
weir_buddy_init(void *storage, size_t storage_bytes, const char *name,
    const struct weir_buddy_config *config, struct weir_buddy **out)
{
	*out = NULL;
	if (!buddy_config_valid(config) || storage == NULL ||
	    (uintptr_t)storage % _Alignof(max_align_t) != 0 ||
	    storage_bytes < weir_buddy_storage_bytes(config->unit_count))
		return -EINVAL;
	memset(storage, 0, weir_buddy_storage_bytes(config->unit_count));
	buddy_setup(storage, name, config, (char *)storage + BUDDY_HANDLE_BYTES,
	    weiri_buddy_mark_bytes(config->unit_count));
	*out = storage;
	return 0;
}

void
weir_buddy_finish(struct weir_buddy *buddy)
{
	if (buddy == NULL)
		return;
	buddy_expect_live(buddy, false);
	weiri_buddy_mark_end(buddy);
	buddy_teardown(buddy);
}

/* ---- use --------------------------------------------------------------- */

bool
weiri_buddy_wake(struct weir_buddy *buddy, bool over)
{
	size_t first = weiri_runs_wake(&buddy->runs, over);
	uint32_t count;

	return first != WEIRI_RUNS_NONE && weiri_buddy_core_free(&buddy->core,
					       first, &count) == WEIRI_BUDDY_OK;
}

/* What is to be known of the run that is taken next?  No lock is held. */
WEIRI_INLINE struct weiri_runs_due
buddy_due(struct weir_buddy *buddy)
{
	if (WEIR_LIKELY(weiri_guard_mode(&buddy->guard) == WEIR_GUARD_OFF))
		return (struct weiri_runs_due){.sites = 0};
	return weiri_runs_due(&buddy->runs);
}

/* Under the lock. */
static uint32_t
buddy_take(struct weir_buddy *buddy, size_t count, size_t align,
    struct weiri_runs_due due)
{
	bool begun = buddy_follow(buddy);
	uint32_t first = weiri_buddy_core_alloc(&buddy->core, count, align);

	while (
	    WEIR_UNLIKELY(first == WEIRI_BUDDY_NONE && buddy->runs.runs > 0 &&
			  count <= buddy->core.unit_count) &&
	    weiri_buddy_wake(buddy, false))
		first = weiri_buddy_core_alloc(&buddy->core, count, align);
	if (WEIR_UNLIKELY(begun) && first != WEIRI_BUDDY_NONE)
		weiri_runs_take(&buddy->runs, first, count, due,
		    buddy->core.run_count == 1);
	return first;
}

/* Under the lock: units are free, which were no run that the guard knows. */
WEIRI_INLINE void
buddy_ended(struct weir_buddy *buddy, size_t first, size_t count)
{
	if (WEIR_UNLIKELY(weiri_runs_trap(&buddy->runs)))
		weiri_runs_freed(&buddy->runs, first, count);
	else if (buddy->marks != NULL)
		weiri_buddy_mark_set(buddy, first, count);
}

/* Under the lock. */
static enum weiri_buddy_result
buddy_give(struct weir_buddy *buddy, size_t first)
{
	uint32_t count;

	(void)buddy_follow(buddy);
	switch (weiri_runs_state(&buddy->runs, first)) {
	case WEIRI_RUNS_LIVE:
		weiri_runs_rest(&buddy->runs, first);
		while (weiri_buddy_wake(buddy, true))
			;
		return WEIRI_BUDDY_OK;
	case WEIRI_RUNS_RESTING:
		return WEIRI_BUDDY_FREE;
	case WEIRI_RUNS_UNKNOWN:
		break;
	}

	enum weiri_buddy_result result =
	    weiri_buddy_core_free(&buddy->core, first, &count);

	if (WEIR_LIKELY(result == WEIRI_BUDDY_OK))
		buddy_ended(buddy, first, count);
	return result;
}

/* Under the lock: of units that had marks, a run is longer or shorter.  True:
 * there are some to look at. */
static bool
buddy_resized(struct weir_buddy *buddy, size_t first, size_t before,
    size_t count, struct weiri_buddy_marks *marks)
{
	if (count > before)
		return weiri_buddy_mark_take(
		    buddy, first + before, first + count, marks);
	if (count < before && !weiri_runs_trap(&buddy->runs))
		weiri_buddy_mark_set(buddy, first + count, before - count);
	return false;
}

/* Under the lock.  @marks: of units that it takes; *look: there are some. */
static enum weiri_buddy_result
buddy_give_or_take(struct weir_buddy *buddy, size_t first, size_t count,
    struct weiri_buddy_marks *marks, bool *look)
{
	enum weiri_buddy_result result;
	bool begun = buddy_follow(buddy);
	uint32_t before = 0;

	if (weiri_runs_state(&buddy->runs, first) == WEIRI_RUNS_RESTING)
		return WEIRI_BUDDY_FREE;
	(void)weiri_buddy_core_query(&buddy->core, first, &before);
	do {
		result = weiri_buddy_core_resize(&buddy->core, first, count);
	} while (
	    WEIR_UNLIKELY(result == WEIRI_BUDDY_FULL && buddy->runs.runs > 0) &&
	    weiri_buddy_wake(buddy, false));
	if (WEIR_UNLIKELY(begun) && result == WEIRI_BUDDY_OK)
		weiri_runs_resize(&buddy->runs, first, before, count);
	if (buddy->marks != NULL && result == WEIRI_BUDDY_OK)
		*look = buddy_resized(buddy, first, before, count, marks);
	return result;
}

/* Under the lock. */
static void
buddy_set_in_use(struct weir_buddy *buddy)
{
	uint64_t in_use = buddy->core.unit_count - buddy->core.free_count -
			  buddy->runs.resting;

	WEIRI_STORE(&buddy->in_use, in_use);
	if (in_use > WEIRI_LOAD(&buddy->peak))
		WEIRI_STORE(&buddy->peak, in_use);
}

size_t
weir_buddy_alloc_aligned(struct weir_buddy *buddy, size_t count, size_t align)
{
	uint32_t first = WEIRI_BUDDY_NONE;
	struct weiri_runs_due due = buddy_due(buddy);
	struct weiri_buddy_marks marks;
	bool look = false;

	weiri_buddy_lock(buddy);
	if (WEIR_LIKELY(count > 0 && weiri_is_pow2(align)))
		first = buddy_take(buddy, count, align, due);
	WEIRI_BUMP(&buddy->requests, 1);
	if (WEIR_LIKELY(first != WEIRI_BUDDY_NONE)) {
		buddy_set_in_use(buddy);
		if (buddy->marks != NULL)
			look = weiri_buddy_mark_take(
			    buddy, first, first + count, &marks);
	} else {
		WEIRI_BUMP(&buddy->failures, 1);
	}
	weiri_buddy_unlock(buddy);
	if (look)
		weiri_buddy_mark_look(buddy, &marks);
	return first != WEIRI_BUDDY_NONE ? first : WEIR_BUDDY_NONE;
}

size_t
weir_buddy_alloc(struct weir_buddy *buddy, size_t count)
{
	return weir_buddy_alloc_aligned(buddy, count, 1);
}

void
weir_buddy_free(struct weir_buddy *buddy, size_t first)
{
	if (first == WEIR_BUDDY_NONE)
		return;
	if (WEIR_UNLIKELY(weiri_runs_begun(&buddy->runs)))
		(void)weiri_guard_thread();
	if (buddy->marks != NULL && first < buddy->core.unit_count)
		__builtin_prefetch(weir_buddy_address(buddy, first), 1);
	weiri_buddy_lock(buddy);

	enum weiri_buddy_result result = buddy_give(buddy, first);

	buddy_set_in_use(buddy);
	weiri_buddy_unlock(buddy);
	if (WEIR_UNLIKELY(result != WEIRI_BUDDY_OK) &&
	    WEIR_DETECTOR(buddy_free_unit))
		buddy_fault_unit(buddy, result, first);
}

int
weir_buddy_resize(struct weir_buddy *buddy, size_t first, size_t count)
{
	struct weiri_buddy_marks marks;
	bool look = false;

	if (count == 0)
		return -EINVAL;
	weiri_buddy_lock(buddy);

	enum weiri_buddy_result result =
	    buddy_give_or_take(buddy, first, count, &marks, &look);

	buddy_set_in_use(buddy);
	weiri_buddy_unlock(buddy);
	if (look)
		weiri_buddy_mark_look(buddy, &marks);
	if (result == WEIRI_BUDDY_FULL)
		return -ENOSPC;
	if (WEIR_UNLIKELY(result != WEIRI_BUDDY_OK) &&
	    WEIR_DETECTOR(buddy_resize_unit)) {
		buddy_fault_unit(buddy, result, first);
		return -EINVAL;
	}
	return 0;
}

/* ---- addresses --------------------------------------------------------- */

void *
weir_buddy_address(const struct weir_buddy *buddy, size_t unit)
{
	if (buddy->base == NULL || unit >= buddy->core.unit_count)
		return NULL;
	return buddy->base + unit * buddy->unit_bytes;
}

size_t
weir_buddy_unit(const struct weir_buddy *buddy, const void *address)
{
	if (buddy->base == NULL || (uintptr_t)address < (uintptr_t)buddy->base)
		return WEIR_BUDDY_NONE;

	size_t unit =
	    ((uintptr_t)address - (uintptr_t)buddy->base) / buddy->unit_bytes;

	return unit < buddy->core.unit_count ? unit : WEIR_BUDDY_NONE;
}

void *
weir_buddy_alloc_address(struct weir_buddy *buddy, size_t count)
{
	if (WEIR_UNLIKELY(buddy->base == NULL) && WEIR_DETECTOR(buddy_no_base))
		buddy_fault(buddy, WEIR_FAULT_BAD_ARGUMENT, NULL, 0,
		    "it has no base address");
	return weir_buddy_address(buddy, weir_buddy_alloc(buddy, count));
}

void
weir_buddy_free_address(struct weir_buddy *buddy, void *address)
{
	if (address == NULL)
		return;

	size_t unit = weir_buddy_unit(buddy, address);

	if (WEIR_UNLIKELY(unit == WEIR_BUDDY_NONE) &&
	    WEIR_DETECTOR(buddy_foreign))
		buddy_fault(buddy, WEIR_FAULT_FOREIGN_POINTER, address, 0,
		    "%p is in none of its units");
	if (WEIR_UNLIKELY(weir_buddy_address(buddy, unit) != address) &&
	    WEIR_DETECTOR(buddy_misaligned))
		buddy_fault(buddy, WEIR_FAULT_MISALIGNED_POINTER, address, unit,
		    "%p is not the start of unit %u");
	weir_buddy_free(buddy, unit);
}
