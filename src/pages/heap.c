/* SPDX-License-Identifier: MIT */
/*
 * heap.c - the page supply as the pools see it.
 *
 *     pools  --span-->  heap.c  -->  extent.c  -->  source.c
 *                       retries      buddies        the system
 *
 * This file holds what surrounds the critical section: the page map's entries,
 * which the owner of the pages may write without a lock; the retries when
 * memory is short; and the hooks, which run with no lock held.
 *
 * A request for a span, a range or a record that is refused is tried again after each
 * thing that may help, in this order: retained pages go back to the system; idle
 * slots of all pools do; then the program's OOM hook, as long as it says that it
 * freed something.
 *
 * Lock: weiri_supply.lock, below every lock of the pools.
 */
#include "config/config.h"
#include "pages/budget.h"
#include "pages/extent.h"
#include "pages/range.h"
#include "watch/registry.h"

#include <weir/stats.h>

#include <errno.h>

/* No real request; keeps the arithmetic on sizes and alignments from wrapping
 * and an extent within a buddy's units. */
#define HEAP_BYTES_MAX ((size_t)1 << 42)

#define HEAP_RECLAIM_PAUSE_NS UINT64_C(10000000)

#define HEAP_RECLAIM_WAIT_NS UINT64_C(50000000)
#define HEAP_RECLAIM_LOOK_NS UINT64_C(20000)

uint64_t weiri_pages_idle;

static bool heap_reclaiming;
static uint64_t heap_reclaim_after;
static uint64_t heap_reclaim_idle; /* weiri_pages_idle at a fruitless walk */
static __thread bool heap_inside   /* this thread is the one that walks */
    __attribute__((tls_model("initial-exec")));

static int
heap_try(struct weiri_span *span, size_t count, size_t align)
{
	int error;

	weiri_supply_lock();
	/* Each turn has one more extent or ends; a second turn is the rule, a
	 * third happens when an orphan block came first. */
	while ((error = weiri_extent_cut(span, count, align)) == -EAGAIN)
		if (!weiri_extent_add(count, align))
			break;
	weiri_supply_unlock();
	return error;
}

static void
heap_deliver(void)
{
	weiri_budget_deliver();
	weiri_source_deliver();
}

static bool
heap_wait_for_reclaim(uint64_t now)
{
	uint64_t end = now + HEAP_RECLAIM_WAIT_NS;

	while (__atomic_load_n(&heap_reclaiming, __ATOMIC_ACQUIRE)) {
		if (weiri_os_now_ns() >= end)
			return false;
		weiri_os_sleep_ns(HEAP_RECLAIM_LOOK_NS);
	}
	return true;
}

/*
 * Idle memory of all pools goes back to the supply.  One thread does it at a
 * time; another waits for it, but not for ever, since the walk runs hooks that
 * may wait for what the other holds.  After a walk that brought nothing the next
 * one comes when a pool got something back, or some time later: a program that
 * lives at its limit must not walk all its pools for every refusal.
 */
static bool
heap_reclaim(void)
{
	uint64_t idle = WEIRI_LOAD(&weiri_pages_idle);
	uint64_t now = weiri_os_now_ns();

	if (idle == WEIRI_LOAD(&heap_reclaim_idle) &&
	    now < WEIRI_LOAD(&heap_reclaim_after))
		return false;
	if (__atomic_exchange_n(&heap_reclaiming, true, __ATOMIC_ACQUIRE))
		return !heap_inside && heap_wait_for_reclaim(now);
	heap_inside = true;

	size_t bytes = weiri_pool_trim_all();

	if (bytes == 0) {
		WEIRI_STORE(&heap_reclaim_idle, idle);
		WEIRI_STORE(&heap_reclaim_after, now + HEAP_RECLAIM_PAUSE_NS);
	}
	heap_inside = false;
	__atomic_store_n(&heap_reclaiming, false, __ATOMIC_RELEASE);
	return bytes > 0;
}

/* Said once: a program at its limit refuses often, and its pools count. */
static void
heap_tell_refusal(size_t bytes)
{
	static bool told;
	struct weiri_budget_figures budget;
	char line[160];
	struct weiri_text text = {line, sizeof(line), 0};

	if (__atomic_exchange_n(&told, true, __ATOMIC_RELAXED))
		return;
	weiri_budget_read(&budget);
	if (weiri_os_page_bytes() > WEIRI_SYSTEM_PAGE_MAX)
		weiri_text_str(&text, "system pages above 64 KiB; ");
	weiri_text_u64(&text, bytes);
	weiri_text_str(&text, " bytes refused: ");
	weiri_text_u64(&text, budget.charged_bytes);
	if (budget.charged_bytes < budget.limit_bytes &&
	    bytes <= budget.limit_bytes - budget.charged_bytes) {
		weiri_text_str(&text, " taken, the system gives no more");
	} else {
		weiri_text_str(&text, " of the limit of ");
		weiri_text_u64(&text, budget.limit_bytes);
		weiri_text_str(
		    &text, " taken; raise limit_bytes or WEIR_LIMIT");
	}
	weiri_message(WEIR_MESSAGE_WARNING, line);
}

/* A request that was refused once, whatever for. */
typedef bool (*heap_again_fn)(void *context);

/* The steps that do without the program: no hook of it but fini runs. */
static bool
heap_relieve(heap_again_fn again, void *context)
{
	/* Even if no byte came back: unmapping untouched extents may have
	 * helped a limit on address space. */
	(void)weiri_pages_trim();
	if (again(context))
		return true;
	if (!heap_reclaim())
		return false;
	(void)weiri_pages_trim();
	return again(context);
}

static WEIRI_COLD bool
heap_insist(heap_again_fn again, void *context, size_t bytes)
{
	do {
		if (heap_relieve(again, context))
			return true;
	} while (weiri_hook_oom(bytes));
	heap_tell_refusal(bytes);
	return false;
}

/* ---- records ----------------------------------------------------------- */

struct heap_record {
	size_t bytes;
	void *record;
};

static bool
heap_again_record(void *context)
{
	struct heap_record *wish = context;

	wish->record = weiri_meta_alloc_locked(wish->bytes);
	return wish->record != NULL;
}

void *
weiri_meta_alloc(size_t bytes)
{
	struct heap_record wish = {bytes, NULL};

	if (WEIR_UNLIKELY(!heap_again_record(&wish)))
		(void)heap_relieve(heap_again_record, &wish);
	return wish.record;
}

void *
weiri_meta_need(size_t bytes)
{
	struct heap_record wish = {bytes, NULL};

	if (WEIR_UNLIKELY(!heap_again_record(&wish)))
		(void)heap_insist(heap_again_record, &wish, bytes);
	heap_deliver();
	return wish.record;
}

/* ---- spans ------------------------------------------------------------- */

struct heap_span {
	struct weiri_span *span;
	size_t count, align;
};

static bool
heap_again_span(void *context)
{
	const struct heap_span *wish = context;

	return heap_try(wish->span, wish->count, wish->align) == 0;
}

static WEIRI_COLD int
heap_retry(struct weiri_span *span, size_t count, size_t align)
{
	struct heap_span wish = {span, count, align};

	return heap_insist(heap_again_span, &wish, count * WEIRI_PAGE)
		   ? 0
		   : -ENOMEM;
}

int
weiri_span_alloc(struct weiri_span *span, size_t bytes, size_t align)
{
	WEIR_ASSERT(weiri_is_pow2(align));
	WEIR_ASSERT(align >= WEIRI_PAGE);

	int error = -ENOMEM;

	if (WEIR_LIKELY(bytes <= HEAP_BYTES_MAX && align <= HEAP_BYTES_MAX)) {
		size_t count = weiri_round_up(weiri_max(bytes, 1), WEIRI_PAGE) /
			       WEIRI_PAGE;

		error = heap_try(span, count, align / WEIRI_PAGE);
		if (WEIR_UNLIKELY(error != 0))
			error = heap_retry(span, count, align / WEIRI_PAGE);
	}
	if (WEIR_LIKELY(error == 0))
		weiri_map_set(span->base, span->bytes, span);
	else
		__atomic_fetch_add(&weiri_supply.failures, 1, __ATOMIC_RELAXED);
	heap_deliver();
	return error;
}

void
weiri_span_free(struct weiri_span *span)
{
	WEIR_ASSERT(weiri_span_of(span->base) == span);
	weiri_map_clear(span->base, span->bytes);
	weiri_supply_lock();

	struct weiri_extent *gone = weiri_extent_join(span);

	weiri_supply_unlock();
	if (gone != NULL)
		(void)weiri_extent_discard(gone);
}

int
weiri_span_resize(struct weiri_span *span, size_t bytes)
{
	if (bytes > HEAP_BYTES_MAX)
		return -ENOMEM;
	bytes = weiri_round_up(weiri_max(bytes, 1), WEIRI_PAGE);

	size_t old = span->bytes;

	if (bytes < old)
		weiri_map_clear(span->base + bytes, old - bytes);
	weiri_supply_lock();

	int error = weiri_extent_resize(span, bytes / WEIRI_PAGE);

	weiri_supply_unlock();
	if (error == 0 && bytes > old)
		weiri_map_set(span->base + old, bytes - old, span);
	weiri_budget_deliver();
	return error;
}

void
weiri_span_mend(const struct weiri_span *span)
{
	for (char *at = span->base; at < span->base + span->bytes;
	     at += WEIRI_PAGE)
		if (weiri_span_of(at) != span)
			weiri_map_set(at, WEIRI_PAGE, span);
}

bool
weiri_span_void(const struct weiri_span *span, size_t offset, size_t bytes)
{
	const struct weiri_extent *extent = span->extent;
	bool done = false;

	/* Larger pages of the system's would have to be asked for whole. */
	if (!extent->block.may_trim || extent->grain != 1)
		return false;
	weiri_supply_lock();
	if (!extent->frozen)
		done = weiri_source_decommit(
		    &extent->block, span->base + offset, bytes);
	weiri_supply_unlock();
	return done;
}

/* ---- ranges ------------------------------------------------------------ */

struct heap_range {
	struct weiri_range *range;
	size_t need;
};

static bool
heap_again_range(void *context)
{
	const struct heap_range *wish = context;

	return weiri_range_commit(wish->range, wish->need);
}

int
weiri_range_grow(struct weiri_range *range, size_t need, size_t want)
{
	struct heap_range wish = {range, need};
	bool done = weiri_range_commit(range, weiri_max(need, want)) ||
		    heap_again_range(&wish);

	if (WEIR_UNLIKELY(!done))
		done = heap_insist(heap_again_range, &wish,
		    need - weiri_min(need, range->committed_bytes));
	if (WEIR_UNLIKELY(!done))
		__atomic_fetch_add(&weiri_supply.failures, 1, __ATOMIC_RELAXED);
	heap_deliver();
	return done ? 0 : -ENOMEM;
}

/* ---- the supply as a whole ---------------------------------------------- */

size_t
weiri_pages_trim(void)
{
	struct weiri_list gone;

	weiri_list_init(&gone);
	weiri_supply_lock();

	size_t bytes = weiri_extent_trim(&gone);

	weiri_supply_unlock();
	WEIRI_LIST_FOR_SAFE(node, &gone)
	{
		weiri_list_remove(node);
		bytes += weiri_extent_discard(
		    WEIRI_CONTAINER_OF(node, struct weiri_extent, all));
	}
	return bytes + weiri_range_trim() + weiri_meta_trim();
}

/* Under the lock. */
static void
heap_tally(struct weiri_buddy_tally *sum)
{
	WEIRI_LIST_FOR(node, &weiri_supply.extents)
	{
		const struct weiri_extent *extent =
		    WEIRI_CONTAINER_OF(node, struct weiri_extent, all);

		if (!extent->frozen)
			weiri_buddy_core_tally(&extent->buddy, sum);
	}
}

void
weiri_pages_tally(struct weiri_buddy_tally *sum)
{
	weiri_supply_lock();
	heap_tally(sum);
	weiri_supply_unlock();
}

void
weiri_pages_stats(struct weir_stats *out)
{
	struct weiri_budget_figures budget;
	struct weiri_buddy_tally tally = {0};

	weiri_supply_lock();
	heap_tally(&tally);
	out->bytes_reserved = weiri_supply.bytes_reserved;
	out->bytes_in_spans =
	    weiri_supply.bytes_in_spans + weiri_range_charged();
	out->bytes_retained = weiri_supply.bytes_retained + weiri_range_kept();
	out->bytes_metadata = weiri_meta_charged() + weiri_map_charged();
	weiri_budget_read(&budget);
	weiri_supply_unlock();
	out->bytes_free = tally.free_units * WEIRI_PAGE;
	out->bytes_free_largest = tally.largest_units * WEIRI_PAGE;
	out->fragmentation_permille = weiri_buddy_fragmentation(&tally);
	out->failures = WEIRI_LOAD(&weiri_supply.failures);
	out->bytes_charged = budget.charged_bytes;
	out->bytes_peak = budget.peak_bytes;
	out->bytes_limit = budget.limit_bytes;
	out->bytes_soft = budget.soft_bytes;
}

/* ---- fork -------------------------------------------------------------- */

void
weiri_pages_fork_lock(void)
{
	weiri_supply_lock_only();
	weiri_meta_fork_lock();
}

void
weiri_pages_fork_unlock(void)
{
	weiri_meta_fork_unlock();
	weiri_supply_unlock();
}

/*
 * Shared pages are the parent's, which goes on handing them out: no new span
 * comes from there in the child, and nothing is decommitted.  Slots that rest in
 * slabs on them are beyond this layer; weir/source.h forbids their use.
 */
void
weiri_pages_fork_child(void)
{
	weiri_extent_freeze_shared();
	weiri_pages_fork_unlock();
	heap_reclaiming = false; /* whoever was at it is not here */
}
