/* SPDX-License-Identifier: MIT */
/*
 * runs.c - runs of numbers under guard.
 *
 *     taken  ---->  LIVE  --free-->  ENDING: rests  --wake-->  ENDED
 *                    ^                                           |
 *                    '----------- taken from here on ------------'
 *
 * A number is the same number to whoever has it, so nothing can be put around it
 * and no other stand for it.  What is left is time: the numbers of a run that
 * ended are handed out again as late as possible, which is when a request cannot
 * be served without.  Until then its owner's second free is known for what it is,
 * with both stacks.
 *
 * The records lie by number, one for each, in address space of which only what
 * is used becomes memory.  Where runs are sampled they lie by a hash of it, in as
 * little memory as samples may have, and one whose place is taken is none.
 *
 * Where the numbers are memory that its owner lent for it, what is free traps, from
 * the first run that is known on; how it is unused, at rest or long free makes no
 * difference but for what the report knows.
 *
 * In mode sample few runs are known, picked by a countdown and then by time as
 * objects are, and few of their numbers rest: the pool is a server's, and what
 * rests is missing where it would be merged.
 *
 * Invariants:
 *
 *   R1  What is LIVE or ENDING was taken from the pool and not given back to it.
 *   R2  The list holds the runs that are ENDING, in the order of their ends, and
 *       `resting` is the sum of their lengths.
 */
#include "guard/runs.h"

#include "base/annotate.h"
#include "base/assert.h"
#include "base/bits.h"
#include "guard/arena.h"
#include "guard/fault.h"
#include "guard/state.h"
#include "os/guard.h"

#define S weiri_guard_state

/* A GiB of addresses is more than such a table should take. */
#define RUNS_COUNT_MAX ((size_t)4 << 20)

/* Records of a sampled pool: 700 KiB. */
#define RUNS_SAMPLE_SLOTS ((size_t)4096)

/* Multiples of it, modulo 2^32, are spread evenly. */
#define RUNS_GOLDEN UINT32_C(0x9e3779b9)

/* Of a sampled pool's numbers at most one in so many rests, in so many runs. */
#define RUNS_SAMPLE_SHARE 16
#define RUNS_SAMPLE_MAX 1024

void
weiri_runs_init(
    struct weiri_runs *runs, size_t count, void *base, size_t unit_bytes)
{
	*runs = (struct weiri_runs){
	    .count = count, .base = base, .unit_bytes = unit_bytes};
}

/* ---- records ------------------------------------------------------------------- */

/* Where the record of a run from @first on is or would be; NULL: nowhere. */
static struct weiri_guarded *
runs_place(const struct weiri_runs *runs, size_t first)
{
	/* Pairs with the release in runs_make(). */
	struct weiri_guarded *record =
	    __atomic_load_n(&runs->record, __ATOMIC_ACQUIRE);

	if (WEIR_LIKELY(record == NULL) || first >= runs->count)
		return NULL;
	if (runs->slots < runs->count)
		return &record[(uint64_t)((uint32_t)first * RUNS_GOLDEN) *
				   runs->slots >>
			       32];
	return &record[first];
}

/* The record of the run that is or was last known from @first on, or NULL. */
static struct weiri_guarded *
runs_find(const struct weiri_runs *runs, size_t first)
{
	struct weiri_guarded *run = runs_place(runs, first);

	if (run == NULL || run->state == WEIRI_GUARDED_NONE ||
	    (uintptr_t)run->shadow != first)
		return NULL;
	return run;
}

/* ---- memory -------------------------------------------------------------------- */

/* Of @count numbers from @first on.  What the system refuses does not trap. */
static void
runs_bar(const struct weiri_runs *runs, size_t first, size_t count)
{
	char *at;

	if (count == 0 || !weiri_runs_trap(runs))
		return;
	at = runs->base + first * runs->unit_bytes;
	if (WEIRI_LOAD(&runs->arena) != NULL)
		(void)weiri_os_bar(at, count * runs->unit_bytes);
	if (WEIRI_LOAD(&runs->forbids))
		weiri_annotate_forbid(at, count * runs->unit_bytes);
}

static void
runs_unbar(const struct weiri_runs *runs, size_t first, size_t count)
{
	char *at;

	if (count == 0 || !weiri_runs_trap(runs))
		return;
	at = runs->base + first * runs->unit_bytes;
	/* To open a part may need one mapping more; to open all needs none. */
	if (WEIRI_LOAD(&runs->arena) != NULL &&
	    weiri_os_unbar(at, count * runs->unit_bytes) != 0)
		(void)weiri_os_unbar(
		    runs->base, runs->count * runs->unit_bytes);
	if (WEIRI_LOAD(&runs->forbids))
		weiri_annotate_allow(at, count * runs->unit_bytes);
}

/* Under the guard's lock: the memory is known to the handler, or to the tool, from
 * now on. */
static void
runs_lend(struct weiri_runs *runs, const struct weiri_guard_pool *pool)
{
	struct weiri_arena *arena;

	if (runs->base == NULL || weiri_runs_trap(runs))
		return;
	if (weiri_guard_mode(pool) == WEIR_GUARD_TOOL) {
		WEIRI_STORE(&runs->forbids, true);
		return;
	}
	arena = weiri_arena_lend(
	    pool, runs->base, runs->count * runs->unit_bytes, runs);
	WEIRI_STORE(&runs->arena, arena);
}

/* The run that @unit is in, or behind which it is. */
static const struct weiri_guarded *
runs_around(const struct weiri_runs *runs, size_t unit)
{
	const struct weiri_guarded *run;

	do {
		run = runs_find(runs, unit);
	} while (run == NULL && unit-- > 0);
	return run;
}

bool
weiri_runs_view(const struct weiri_runs *runs, const void *address,
    struct weiri_guarded *view)
{
	size_t unit =
	    (size_t)((const char *)address - runs->base) / runs->unit_bytes;
	const struct weiri_guarded *run = runs_around(runs, unit);
	size_t first;

	/* Free since it was lent, if nothing else is known. */
	view->state = WEIRI_GUARDED_ENDED;
	view->ended_ns = view->born_ns;
	view->ended_thread = view->born_thread;
	view->bytes = runs->count * runs->unit_bytes;
	if (run == NULL)
		return true;
	first = (uintptr_t)run->shadow;
	/* Behind what ended long ago there may have been anything since. */
	if (unit - first >= run->bytes && run->state != WEIRI_GUARDED_LIVE)
		return true;
	*view = *run;
	view->is_run = false;
	view->start = runs->base + first * runs->unit_bytes;
	view->bytes = run->bytes * runs->unit_bytes;
	return true;
}

/* ---- the table ----------------------------------------------------------------- */

static size_t
runs_bytes(const struct weiri_runs *runs)
{
	return weiri_round_up(
	    runs->slots * sizeof(struct weiri_guarded), weiri_os_page_bytes());
}

void
weiri_runs_finish(struct weiri_runs *runs)
{
	if (weiri_runs_trap(runs))
		runs_unbar(runs, 0, runs->count);
	if (runs->arena != NULL)
		weiri_arena_forget(runs->arena);
	if (runs->record != NULL)
		weiri_os_drop(runs->record, runs_bytes(runs));
	*runs = (struct weiri_runs){0};
}

/* Under the guard's lock. */
static void
runs_make(struct weiri_runs *runs, bool all)
{
	void *record;

	runs->slots = all && runs->count <= RUNS_COUNT_MAX
			  ? runs->count
			  : weiri_min(runs->count, RUNS_SAMPLE_SLOTS);
	record = weiri_os_reserve(runs_bytes(runs), weiri_os_page_bytes());
	if (record != NULL && weiri_os_commit(record, runs_bytes(runs)) != 0) {
		weiri_os_drop(record, runs_bytes(runs));
		record = NULL;
	}
	/* Behind the number of slots. */
	__atomic_store_n(&runs->record, record, __ATOMIC_RELEASE);
}

/* Every so many runs, as the mode has it.  Two threads that count at once may count
 * one. */
static bool
runs_is_turn(struct weiri_runs *runs, const struct weiri_guard_pool *pool)
{
	uint32_t skip = WEIRI_LOAD(&runs->skip);

	if (skip == 0)
		skip = weiri_guard_skip(pool);
	WEIRI_STORE(&runs->skip, skip - 1);
	return skip == 1;
}

bool
weiri_runs_due(struct weiri_runs *runs, struct weiri_guard_pool *pool)
{
	enum weir_guard_mode mode = weiri_guard_mode(pool);

	/* On the debug menu there is nothing for numbers. */
	if (mode > WEIR_GUARD_TOOL ||
	    (mode == WEIR_GUARD_SAMPLE && !runs_is_turn(runs, pool)) ||
	    !weiri_guard_due(pool, weiri_guard_stride(pool)))
		return false;
	(void)weiri_guard_thread();
	weiri_mutex_lock(&S.lock);
	weiri_guard_name_need(pool);
	if (runs->record == NULL)
		runs_make(runs, weiri_guard_bare(pool));
	if (runs->record != NULL)
		runs_lend(runs, pool);
	weiri_mutex_unlock(&S.lock);
	if (WEIRI_LOAD(&runs->record) != NULL)
		return true;
	__atomic_fetch_add(&S.refused, 1, __ATOMIC_RELAXED);
	return false;
}

/* ---- a run's life ------------------------------------------------------------ */

/* Who is calling, in the table of the record's space. */
static uint32_t
runs_site(const struct weiri_guarded *run)
{
	struct weiri_stack stack;

	weiri_stack_here(&stack);
	return weiri_sites_keep(&S.space[run->sites - 1].sites, &stack);
}

static void
runs_know(struct weiri_runs *runs, const struct weiri_guard_pool *pool,
    size_t first, size_t count)
{
	struct weiri_guarded *run = runs_place(runs, first);
	enum weir_guard_mode mode = weiri_guard_mode(pool);
	bool all = mode == WEIR_GUARD_FULL || WEIRI_LOAD(&S.rate) == 1;
	size_t space = mode == WEIR_GUARD_TOOL ? WEIRI_GUARD_THROUGH
		       : all                   ? WEIRI_GUARD_LARGE
					       : WEIRI_GUARD_SMALL;

	/* Switched off, or over, since it was due. */
	if (mode == WEIR_GUARD_OFF || mode > WEIR_GUARD_TOOL)
		return;
	if (run->state == WEIRI_GUARDED_LIVE ||
	    run->state == WEIRI_GUARDED_ENDING) {
		__atomic_fetch_add(&S.refused, 1, __ATOMIC_RELAXED);
		return;
	}
	*run = (struct weiri_guarded){
	    .is_run = true,
	    .sites = (uint8_t)(space + 1),
	    .shadow = (void *)(uintptr_t)first,
	    .bytes = count,
	    .pool = pool,
	    .named = pool->named,
	    .mode = (uint8_t)mode,
	    .all = all || mode == WEIR_GUARD_TOOL,
	    .born_ns = weiri_os_now_ns(),
	    .born_thread = weiri_guard_thread()->number,
	    .state = WEIRI_GUARDED_LIVE,
	};
	run->born_site = runs_site(run);
	__atomic_fetch_add(&S.guarded, 1, __ATOMIC_RELAXED);
}

void
weiri_runs_take(struct weiri_runs *runs, const struct weiri_guard_pool *pool,
    size_t first, size_t count, bool known, bool alone)
{
	struct weiri_guarded *before = runs_find(runs, first);

	if (alone && known)
		runs_bar(runs, 0, runs->count);
	runs_unbar(runs, first, count);
	/* What is known of an earlier one is not true of this. */
	if (before != NULL)
		before->state = WEIRI_GUARDED_NONE;
	if (known)
		runs_know(runs, pool, first, count);
}

enum weiri_runs_state
weiri_runs_state(const struct weiri_runs *runs, size_t first)
{
	const struct weiri_guarded *run = runs_find(runs, first);

	if (WEIR_LIKELY(run == NULL))
		return WEIRI_RUNS_UNKNOWN;
	if (run->state == WEIRI_GUARDED_LIVE)
		return WEIRI_RUNS_LIVE;
	return run->state == WEIRI_GUARDED_ENDING ? WEIRI_RUNS_RESTING
						  : WEIRI_RUNS_UNKNOWN;
}

void
weiri_runs_resize(
    struct weiri_runs *runs, size_t first, size_t before, size_t count)
{
	if (count > before)
		runs_unbar(runs, first + before, count - before);
	else
		runs_bar(runs, first + count, before - count);
	if (weiri_runs_state(runs, first) == WEIRI_RUNS_LIVE)
		runs_find(runs, first)->bytes = count;
}

void
weiri_runs_freed(struct weiri_runs *runs, size_t first, size_t count)
{
	runs_bar(runs, first, count);
}

void
weiri_runs_rest(struct weiri_runs *runs, size_t first)
{
	struct weiri_guarded *run = runs_find(runs, first);
	uint32_t number = (uint32_t)(run - runs->record) + 1;

	WEIR_ASSERT(run->state == WEIRI_GUARDED_LIVE);
	runs_bar(runs, first, run->bytes);
	run->ended_site = runs_site(run);
	run->ended_thread = weiri_guard_thread()->number;
	run->ended_ns = weiri_os_now_ns();
	run->how = WEIRI_GUARD_FREE;
	run->next = 0;
	run->state = WEIRI_GUARDED_ENDING;
	if (runs->last != 0)
		runs->record[runs->last - 1].next = number;
	else
		runs->first = number;
	runs->last = number;
	runs->runs++;
	runs->resting += run->bytes;
}

size_t
weiri_runs_wake(struct weiri_runs *runs, bool over)
{
	struct weiri_guarded *run;

	if (runs->first == 0)
		return WEIRI_RUNS_NONE;
	run = &runs->record[runs->first - 1];
	if (over &&
	    (run->all || (runs->runs <= RUNS_SAMPLE_MAX &&
			     runs->resting <= runs->count / RUNS_SAMPLE_SHARE)))
		return WEIRI_RUNS_NONE;
	runs->first = run->next;
	if (runs->first == 0)
		runs->last = 0;
	runs->runs--;
	runs->resting -= run->bytes;
	run->state = WEIRI_GUARDED_ENDED;
	return (uintptr_t)run->shadow;
}

bool
weiri_runs_tell(
    const struct weiri_runs *runs, size_t first, struct weiri_fault_site site)
{
	const struct weiri_guarded *run = runs_find(runs, first);

	if (run == NULL || run->state < WEIRI_GUARDED_ENDING)
		return false;
	site.operation = "free";
	site.other = weiri_guard_how_text[run->how];
	weiri_guard_tell(run, site);
	return true;
}
