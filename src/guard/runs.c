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
 * little memory as samples may have, and one whose place is taken is none; should
 * all be known later they move to a table of all numbers.
 *
 * Where the numbers are memory that its owner lent for it, what is free traps, from
 * the first run that is known on; how it is unused, at rest or long free makes no
 * difference but for what the report knows.
 *
 * In mode sample few runs are known, picked by a countdown and then by time as
 * objects are, and few of their numbers rest: the pool is a server's, and what
 * rests is missing where it would be merged.  In mode off nothing rests and nothing
 * traps.  A pool notices what mode it is in at the first call under its lock.
 *
 * Invariants:
 *
 *   R1  What is LIVE or ENDING was taken from the pool and not given back to it.
 *   R2  The list holds the runs that are ENDING, in the order of their ends, and
 *       `resting` is the sum of their lengths.
 *   R3  A table changes under the pool's lock, and is replaced under the guard's as
 *       well; one that was replaced stays until the pool ends, because reports
 *       read under neither.
 */
#include "guard/runs.h"

#include "base/annotate.h"
#include "base/assert.h"
#include "base/bits.h"
#include "guard/arena.h"
#include "guard/fault.h"
#include "guard/leaks.h"
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

struct weiri_runs_table {
	size_t bytes; /* of all of it */
	size_t slots; /* below the pool's count: hashed */
	struct weiri_guarded
	    record[]; /* of the run that starts, or did last, at
					  a number */
};

static struct weiri_list runs_list = WEIRI_LIST_INITIALIZER(runs_list);

void
weiri_runs_init(struct weiri_runs *runs, struct weiri_guard_pool *pool,
    size_t count, void *base, size_t unit_bytes)
{
	*runs = (struct weiri_runs){.pool = pool,
	    .count = count,
	    .base = base,
	    .unit_bytes = unit_bytes};
}

/* ---- records ------------------------------------------------------------------- */

static struct weiri_runs_table *
runs_table(const struct weiri_runs *runs)
{
	/* Pairs with the releases in runs_begin() and runs_grow(). */
	return __atomic_load_n(&runs->table, __ATOMIC_ACQUIRE);
}

static void
runs_set_state(struct weiri_guarded *run, enum weiri_guarded_state state)
{
	/* Pairs with the acquire in weiri_guarded_state(). */
	__atomic_store_n(&run->state, (uint8_t)state, __ATOMIC_RELEASE);
}

/* Where the record of a run from @first on is or would be; NULL: nowhere. */
static struct weiri_guarded *
runs_place(const struct weiri_runs *runs, size_t first)
{
	struct weiri_runs_table *table = runs_table(runs);

	if (WEIR_LIKELY(table == NULL) || first >= runs->count)
		return NULL;
	if (table->slots < runs->count)
		return &table
			    ->record[(uint64_t)((uint32_t)first * RUNS_GOLDEN) *
					 table->slots >>
				     32];
	return &table->record[first];
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
runs_lend(struct weiri_runs *runs, struct weiri_runs_due due)
{
	struct weiri_arena *arena;

	if (runs->base == NULL || weiri_runs_trap(runs))
		return;
	if (due.mode == WEIR_GUARD_TOOL) {
		WEIRI_STORE(&runs->forbids, true);
		return;
	}
	arena = weiri_arena_lend(runs->pool, runs->base,
	    runs->count * runs->unit_bytes, runs, due.sites);
	WEIRI_STORE(&runs->arena, arena);
}

/* All of the memory is its owner's again. */
static void
runs_take_back(struct weiri_runs *runs)
{
	struct weiri_arena *arena;

	runs_unbar(runs, 0, runs->count);
	WEIRI_STORE(&runs->forbids, false);
	arena = __atomic_exchange_n(&runs->arena, NULL, __ATOMIC_ACQ_REL);
	if (arena != NULL)
		weiri_arena_forget(arena);
}

/* The last known run that starts at @unit or before it, of a table by hash. */
static const struct weiri_guarded *
runs_around_hashed(const struct weiri_runs_table *table, size_t unit)
{
	const struct weiri_guarded *last = NULL;

	for (size_t i = 0; i < table->slots; i++) {
		const struct weiri_guarded *run = &table->record[i];

		if (run->state != WEIRI_GUARDED_NONE &&
		    (uintptr_t)run->shadow <= unit &&
		    (last == NULL || run->shadow > last->shadow))
			last = run;
	}
	return last;
}

/* The run that @unit is in, or behind which it is; NULL: there is none. */
static const struct weiri_guarded *
runs_around(const struct weiri_runs *runs, size_t unit)
{
	const struct weiri_runs_table *table = runs_table(runs);
	const struct weiri_guarded *run;

	WEIR_ASSERT(table != NULL && unit < runs->count);
	if (table->slots < runs->count)
		return runs_around_hashed(table, unit);
	do {
		run = &table->record[unit];
	} while (run->state == WEIRI_GUARDED_NONE && unit-- > 0);
	return run->state != WEIRI_GUARDED_NONE ? run : NULL;
}

static char *
runs_start(const struct weiri_runs *runs, const struct weiri_guarded *run)
{
	return runs->base + (uintptr_t)run->shadow * runs->unit_bytes;
}

/*
 * In a unit that no known run has: the live one that it is behind, or that begins
 * with the next unit, whichever @address is nearer to; NULL: neither is known to
 * live, and there may have been anything since.
 */
static const struct weiri_guarded *
runs_nearer(const struct weiri_runs *runs, const char *address, size_t unit,
    const struct weiri_guarded *before)
{
	const struct weiri_guarded *behind = runs_find(runs, unit + 1);

	if (before != NULL && before->state != WEIRI_GUARDED_LIVE)
		before = NULL;
	if (behind == NULL || behind->state != WEIRI_GUARDED_LIVE)
		return before;
	if (before != NULL && address - (runs_start(runs, before) +
					    before->bytes * runs->unit_bytes) <
				  runs_start(runs, behind) - address)
		return before;
	return behind;
}

void
weiri_runs_view(const struct weiri_runs *runs, const void *address,
    struct weiri_guarded *view)
{
	size_t unit =
	    (size_t)((const char *)address - runs->base) / runs->unit_bytes;
	const struct weiri_guarded *run = runs_around(runs, unit);

	/* Free since it was lent, if nothing else is known. */
	view->state = WEIRI_GUARDED_ENDED;
	view->ended_ns = view->born_ns;
	view->ended_thread = view->born_thread;
	view->bytes = runs->count * runs->unit_bytes;
	if (run == NULL || unit - (uintptr_t)run->shadow >= run->bytes)
		run = runs_nearer(runs, address, unit, run);
	if (run == NULL)
		return;
	*view = *run;
	view->is_run = false;
	view->start = runs_start(runs, run);
	view->bytes = run->bytes * runs->unit_bytes;
}

/* ---- the table ----------------------------------------------------------------- */

/* NULL: there is no memory for one. */
static struct weiri_runs_table *
runs_make(size_t count, bool all)
{
	size_t page = weiri_os_page_bytes();
	size_t slots = all && count <= RUNS_COUNT_MAX
			   ? count
			   : weiri_min(count, RUNS_SAMPLE_SLOTS);
	size_t bytes = weiri_round_up(sizeof(struct weiri_runs_table) +
					  slots * sizeof(struct weiri_guarded),
	    page);
	struct weiri_runs_table *table = weiri_os_reserve(bytes, page);

	if (table == NULL)
		return NULL;
	if (weiri_os_commit(table, bytes) != 0) {
		weiri_os_drop(table, bytes);
		return NULL;
	}
	table->bytes = bytes;
	table->slots = slots;
	return table;
}

static void
runs_drop(struct weiri_runs_table *table)
{
	if (table != NULL)
		weiri_os_drop(table, table->bytes);
}

void
weiri_runs_finish(struct weiri_runs *runs)
{
	if (weiri_runs_trap(runs))
		runs_take_back(runs);
	if (weiri_runs_begun(runs)) {
		weiri_mutex_lock(&S.lock);
		weiri_list_remove(&runs->link);
		weiri_mutex_unlock(&S.lock);
	}
	runs_drop(runs->table);
	runs_drop(runs->larger);
	runs_drop(runs->outgrown);
	*runs = (struct weiri_runs){0};
}

/* Under the guard's lock: there is a table, if there can be, and if need be another
 * to follow it. */
static void
runs_begin(struct weiri_runs *runs, bool all)
{
	struct weiri_runs_table *table = runs_table(runs);

	if (table == NULL) {
		table = runs_make(runs->count, all);
		if (table == NULL)
			return;
		weiri_list_append(&runs_list, &runs->link);
		__atomic_store_n(&runs->table, table, __ATOMIC_RELEASE);
	} else if (all && table->slots < runs->count &&
		   runs->count <= RUNS_COUNT_MAX && runs->larger == NULL) {
		WEIRI_STORE(&runs->larger, runs_make(runs->count, true));
	}
}

/* The runs that rest are listed in @to by the numbers of their slots there. */
static void
runs_relink(struct weiri_runs *runs, const struct weiri_runs_table *from,
    struct weiri_runs_table *to)
{
	uint32_t *link = &runs->first;
	uint32_t number = runs->first;

	while (number != 0) {
		const struct weiri_guarded *run = &from->record[number - 1];
		uint32_t moved = (uint32_t)(uintptr_t)run->shadow + 1;

		number = run->next;
		*link = runs->last = moved;
		link = &to->record[moved - 1].next;
	}
	*link = 0;
}

/* Under both locks: what is known moves to the table of all numbers. */
static void
runs_grow(struct weiri_runs *runs)
{
	struct weiri_runs_table *from = runs->table, *to = runs->larger;

	for (size_t i = 0; i < from->slots; i++) {
		const struct weiri_guarded *run = &from->record[i];

		if (run->state != WEIRI_GUARDED_NONE)
			to->record[(uintptr_t)run->shadow] = *run;
	}
	runs_relink(runs, from, to);
	runs->outgrown = from;
	__atomic_store_n(&runs->table, to, __ATOMIC_RELEASE);
	WEIRI_STORE(&runs->larger, NULL);
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

/* Under the guard's lock; it was due a moment ago. */
static struct weiri_runs_due
runs_admit(struct weiri_runs *runs)
{
	struct weiri_runs_due due = {.sites = 0};
	bool all;

	due.sites = weiri_guard_sites(runs->pool, &all);
	if (due.sites == 0)
		return due;
	due.mode = (uint8_t)weiri_guard_mode(runs->pool);
	weiri_guard_name_need(runs->pool);
	runs_begin(runs, all);
	if (runs->table == NULL) {
		__atomic_fetch_add(&S.refused, 1, __ATOMIC_RELAXED);
		due.sites = 0;
	} else {
		runs_lend(runs, due);
	}
	return due;
}

struct weiri_runs_due
weiri_runs_due(struct weiri_runs *runs)
{
	struct weiri_guard_pool *pool = runs->pool;
	enum weir_guard_mode mode = weiri_guard_mode(pool);
	struct weiri_runs_due due = {.sites = 0};

	/* On the debug menu there is nothing for numbers. */
	if (mode > WEIR_GUARD_TOOL ||
	    (mode == WEIR_GUARD_SAMPLE && !runs_is_turn(runs, pool)) ||
	    !weiri_guard_due(pool, weiri_guard_stride(pool)))
		return due;
	(void)weiri_guard_thread();
	weiri_mutex_lock(&S.lock);
	due = runs_admit(runs);
	weiri_mutex_unlock(&S.lock);
	return due;
}

void
weiri_runs_follow(struct weiri_runs *runs)
{
	enum weir_guard_mode mode = weiri_guard_mode(runs->pool);

	if (mode == WEIR_GUARD_OFF || mode > WEIR_GUARD_TOOL)
		runs->keeping = WEIRI_RUNS_KEEP_NONE;
	else if (mode == WEIR_GUARD_SAMPLE && WEIRI_LOAD(&S.rate) != 1)
		runs->keeping = WEIRI_RUNS_KEEP_SOME;
	else
		runs->keeping = WEIRI_RUNS_KEEP_ALL;
	if (runs->keeping == WEIRI_RUNS_KEEP_NONE && weiri_runs_trap(runs))
		runs_take_back(runs);
	if (WEIR_UNLIKELY(WEIRI_LOAD(&runs->larger) != NULL)) {
		weiri_mutex_lock(&S.lock);
		runs_grow(runs);
		weiri_mutex_unlock(&S.lock);
	}
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
runs_know(struct weiri_runs *runs, size_t first, size_t count,
    struct weiri_runs_due due)
{
	struct weiri_guarded *run = runs_place(runs, first);

	/* Switched off since it was due. */
	if (runs->keeping == WEIRI_RUNS_KEEP_NONE)
		return;
	if (run->state == WEIRI_GUARDED_LIVE ||
	    run->state == WEIRI_GUARDED_ENDING) {
		__atomic_fetch_add(&S.refused, 1, __ATOMIC_RELAXED);
		return;
	}
	*run = (struct weiri_guarded){
	    .is_run = true,
	    .sites = due.sites,
	    .shadow = (void *)(uintptr_t)first,
	    .bytes = count,
	    .pool = runs->pool,
	    .named = runs->pool->named,
	    .mode = due.mode,
	    .born_ns = weiri_os_now_ns(),
	    .born_thread = weiri_guard_thread_number(),
	    .state = WEIRI_GUARDED_NONE,
	};
	run->born_site = runs_site(run);
	runs_set_state(run, WEIRI_GUARDED_LIVE);
	WEIRI_BUMP(&runs->live, 1);
	__atomic_fetch_add(&S.guarded, 1, __ATOMIC_RELAXED);
}

void
weiri_runs_take(struct weiri_runs *runs, size_t first, size_t count,
    struct weiri_runs_due due, bool alone)
{
	struct weiri_guarded *before = runs_find(runs, first);

	if (alone && due.sites != 0)
		runs_bar(runs, 0, runs->count);
	runs_unbar(runs, first, count);
	/* What is known of an earlier one is not true of this. */
	if (before != NULL)
		runs_set_state(before, WEIRI_GUARDED_NONE);
	if (due.sites != 0)
		runs_know(runs, first, count, due);
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
	struct weiri_runs_table *table = runs->table;
	struct weiri_guarded *run = runs_find(runs, first);
	uint32_t number = (uint32_t)(run - table->record) + 1;

	WEIR_ASSERT(run->state == WEIRI_GUARDED_LIVE);
	runs_bar(runs, first, run->bytes);
	run->ended_site = runs_site(run);
	run->ended_thread = weiri_guard_thread_number();
	run->ended_ns = weiri_os_now_ns();
	run->how = WEIRI_GUARD_FREE;
	run->next = 0;
	weiri_leaks_note(run);
	runs_set_state(run, WEIRI_GUARDED_ENDING);
	if (runs->last != 0)
		table->record[runs->last - 1].next = number;
	else
		runs->first = number;
	runs->last = number;
	WEIRI_BUMP(&runs->live, -1u);
	WEIRI_BUMP(&runs->runs, 1);
	runs->resting += run->bytes;
}

/* Do more rest than the mode allows? */
static bool
runs_are_over(const struct weiri_runs *runs)
{
	if (runs->keeping == WEIRI_RUNS_KEEP_SOME)
		return runs->runs > RUNS_SAMPLE_MAX ||
		       runs->resting > runs->count / RUNS_SAMPLE_SHARE;
	return runs->keeping == WEIRI_RUNS_KEEP_NONE;
}

size_t
weiri_runs_wake(struct weiri_runs *runs, bool over)
{
	struct weiri_guarded *run;

	if (runs->first == 0 || (over && !runs_are_over(runs)))
		return WEIRI_RUNS_NONE;
	run = &runs->table->record[runs->first - 1];
	runs->first = run->next;
	if (runs->first == 0)
		runs->last = 0;
	WEIRI_BUMP(&runs->runs, -1u);
	runs->resting -= run->bytes;
	runs_set_state(run, WEIRI_GUARDED_ENDED);
	return (uintptr_t)run->shadow;
}

/* ---- all pools ----------------------------------------------------------------- */

void
weiri_runs_for_live(weiri_runs_fn see, void *context)
{
	WEIRI_LIST_FOR(node, &runs_list)
	{
		const struct weiri_runs *runs =
		    WEIRI_CONTAINER_OF(node, struct weiri_runs, link);
		const struct weiri_runs_table *table = runs_table(runs);
		/* Of a table of millions of numbers few may be known. */
		uint32_t left = WEIRI_LOAD(&runs->live);

		for (size_t i = 0; i < table->slots && left > 0; i++) {
			const struct weiri_guarded *run = &table->record[i];

			if (weiri_guarded_state(run) != WEIRI_GUARDED_LIVE)
				continue;
			see(runs, run, context);
			left--;
		}
	}
}

void
weiri_runs_add(struct weir_guard_stats *sum)
{
	WEIRI_LIST_FOR(node, &runs_list)
	{
		const struct weiri_runs *runs =
		    WEIRI_CONTAINER_OF(node, struct weiri_runs, link);
		uint32_t live = WEIRI_LOAD(&runs->live);
		uint32_t resting = WEIRI_LOAD(&runs->runs);

		sum->live += live;
		sum->quarantined += resting;
		sum->bytes +=
		    ((uint64_t)live + resting) * sizeof(struct weiri_guarded);
	}
}

/* ---- reports ------------------------------------------------------------------- */

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
