/* SPDX-License-Identifier: MIT */
/*
 * arena.c - what is known of ranges that their pools guard themselves.
 *
 *     base           live                 high
 *      | in use       | ended: traps       | never used: traps |
 *
 * One record stands for all that a range holds: who made it, and who ended what
 * is gone, by which call.  A range that ended keeps its addresses, without memory,
 * until the table needs the place: the one that ended first goes first.
 *
 * The table changes under the guard's lock.  It is read without one, in signal
 * handlers, which may come at any time: also while another thread ends the range,
 * and what knows its runs.  So a reader counts, and looks again; who takes an entry
 * away waits until nobody is counted any more:
 *
 *     reader:  readers + 1, base is what it was?  ... read ...  readers - 1
 *     owner:   base = 0, readers == 0?            ... change
 *
 * All four are sequentially consistent: of two that meet one sees the other.  What
 * changes in an entry that stays is a report's text, which may be torn.
 */
#include "guard/arena.h"

#include "guard/runs.h"
#include "guard/state.h"

#define S weiri_guard_state

#define ARENAS 64

/* Readers copy one record, or look for one in a table. */
#define ARENA_WAIT_NS UINT64_C(20000)

struct weiri_arena {
	uintptr_t base;   /* 0: free; atomic */
	uint32_t readers; /* atomic */
	size_t bytes;
	size_t live, high;
	uint64_t ended;                /* when, counted; 0: not yet */
	const struct weiri_runs *runs; /* of a range that is lent; NULL: none */
	struct weiri_guarded record;
};

static struct weiri_arena arena_table[ARENAS];
static uint64_t arena_ends;

/* Under the lock: one that is free, else the one that ended first, or NULL. */
static struct weiri_arena *
arena_place(void)
{
	struct weiri_arena *oldest = NULL;

	for (size_t i = 0; i < ARENAS; i++) {
		struct weiri_arena *arena = &arena_table[i];

		if (arena->base == 0)
			return arena;
		if (arena->ended != 0 &&
		    (oldest == NULL || arena->ended < oldest->ended))
			oldest = arena;
	}
	return oldest;
}

/* Under the lock: nobody reads it from now on. */
static void
arena_close(struct weiri_arena *arena)
{
	__atomic_store_n(&arena->base, 0, __ATOMIC_SEQ_CST);
	while (__atomic_load_n(&arena->readers, __ATOMIC_SEQ_CST) != 0)
		weiri_os_sleep_ns(ARENA_WAIT_NS);
}

/* Under the lock: one that was closed comes to stand for a range. */
static void
arena_fill(struct weiri_arena *arena, const struct weiri_guard_pool *pool,
    char *base, size_t bytes, const struct weiri_stack *stack, uint8_t sites)
{
	WEIRI_STORE(&arena->bytes, bytes);
	WEIRI_STORE(&arena->live, 0);
	WEIRI_STORE(&arena->high, 0);
	arena->ended = 0;
	arena->runs = NULL;
	arena->record = (struct weiri_guarded){
	    .area = base,
	    .start = base,
	    .pool = pool,
	    .born_ns = weiri_os_now_ns(),
	    .born_site = weiri_sites_keep(&S.space[sites - 1].sites, stack),
	    .sites = sites,
	    .born_thread = weiri_guard_thread_number(),
	    .named = pool->named,
	    .state = WEIRI_GUARDED_LIVE,
	    .mode = (uint8_t)weiri_guard_mode(pool),
	};
}

static void
arena_open(struct weiri_arena *arena, const void *base)
{
	/* Pairs with the load in arena_enter(). */
	__atomic_store_n(&arena->base, (uintptr_t)base, __ATOMIC_SEQ_CST);
}

struct weiri_arena *
weiri_arena_lend(const struct weiri_guard_pool *pool, char *base, size_t bytes,
    const struct weiri_runs *runs, uint8_t sites)
{
	struct weiri_arena *arena = arena_place();
	struct weiri_stack stack;

	if (arena == NULL)
		return NULL;
	if (arena->base != 0) {
		void *gone = (void *)arena->base;

		arena_close(arena);
		weiri_os_drop(gone, arena->bytes);
	}
	weiri_stack_here(&stack);
	arena_fill(arena, pool, base, bytes, &stack, sites);
	arena->runs = runs;
	arena_open(arena, base);
	return arena;
}

struct weiri_arena *
weiri_arena_begin(struct weiri_guard_pool *pool, const void *base, size_t bytes)
{
	enum weir_guard_mode mode = weiri_guard_mode(pool);
	struct weiri_arena *arena = NULL;
	struct weiri_stack stack;
	void *gone = NULL;
	size_t gone_bytes = 0;
	uint8_t sites;
	bool all;

	if ((mode != WEIR_GUARD_FULL && mode != WEIR_GUARD_SAMPLE) ||
	    !weiri_guard_due(pool, 1))
		return NULL;
	(void)weiri_guard_thread();
	weiri_stack_here(&stack);
	weiri_mutex_lock(&S.lock);
	/* Again: since it was due the mode may have changed. */
	sites = weiri_guard_sites(pool, &all);
	if (sites != 0 && weiri_guard_mode(pool) != WEIR_GUARD_TOOL) {
		weiri_guard_name_need(pool);
		arena = arena_place();
	}
	if (arena != NULL) {
		gone = (void *)arena->base;
		gone_bytes = arena->bytes;
		arena_close(arena);
		arena_fill(
		    arena, pool, (char *)(uintptr_t)base, bytes, &stack, sites);
		arena_open(arena, base);
	}
	weiri_mutex_unlock(&S.lock);
	__atomic_fetch_add(
	    arena != NULL ? &S.guarded : &S.refused, 1, __ATOMIC_RELAXED);
	if (gone != NULL)
		weiri_os_drop(gone, gone_bytes);
	return arena;
}

void
weiri_arena_move(struct weiri_arena *arena, size_t live)
{
	WEIRI_STORE(&arena->live, live);
}

void
weiri_arena_cut(struct weiri_arena *arena, size_t live, size_t high,
    enum weiri_guard_how how)
{
	struct weiri_guarded *record = &arena->record;
	struct weiri_stack stack;

	weiri_stack_here(&stack);
	record->ended_site =
	    weiri_sites_keep(&S.space[record->sites - 1].sites, &stack);
	record->ended_thread = weiri_guard_thread_number();
	record->ended_ns = weiri_os_now_ns();
	record->how = (uint8_t)how;
	if (high > arena->high)
		WEIRI_STORE(&arena->high, high);
	WEIRI_STORE(&arena->live, live);
}

void
weiri_arena_end(
    struct weiri_arena *arena, size_t bytes, enum weiri_guard_how how)
{
	weiri_arena_cut(arena, 0, bytes, how);
	weiri_mutex_lock(&S.lock);
	WEIRI_STORE(&arena->bytes, bytes);
	arena->record.pool = NULL;
	arena->ended = ++arena_ends;
	weiri_mutex_unlock(&S.lock);
}

void
weiri_arena_forget(struct weiri_arena *arena)
{
	weiri_mutex_lock(&S.lock);
	arena_close(arena);
	weiri_mutex_unlock(&S.lock);
}

/* ---- reading --------------------------------------------------------------- */

static void
arena_leave(struct weiri_arena *arena)
{
	__atomic_fetch_sub(&arena->readers, 1, __ATOMIC_SEQ_CST);
}

/* The one that @address is in, for the caller to leave; NULL: none. */
static struct weiri_arena *
arena_enter(const void *address)
{
	for (size_t i = 0; i < ARENAS; i++) {
		struct weiri_arena *arena = &arena_table[i];
		uintptr_t base =
		    __atomic_load_n(&arena->base, __ATOMIC_SEQ_CST);

		if (base == 0 ||
		    (uintptr_t)address - base >= WEIRI_LOAD(&arena->bytes))
			continue;
		__atomic_fetch_add(&arena->readers, 1, __ATOMIC_SEQ_CST);
		if (__atomic_load_n(&arena->base, __ATOMIC_SEQ_CST) == base)
			return arena;
		arena_leave(arena);
	}
	return NULL;
}

/* Of a range that is its pool's as a whole. */
static void
arena_view(const struct weiri_arena *arena, const void *address,
    struct weiri_guarded *view)
{
	size_t offset = (size_t)((const char *)address - view->start);

	view->bytes = WEIRI_LOAD(&arena->live);
	if (offset >= view->bytes && offset < WEIRI_LOAD(&arena->high)) {
		view->state = WEIRI_GUARDED_ENDED;
		view->bytes = WEIRI_LOAD(&arena->high);
	}
}

bool
weiri_arena_view(const void *address, struct weiri_guarded *view)
{
	struct weiri_arena *arena = arena_enter(address);

	if (arena == NULL)
		return false;
	*view = arena->record;
	if (arena->runs != NULL)
		weiri_runs_view(arena->runs, address, view);
	else
		arena_view(arena, address, view);
	arena_leave(arena);
	return true;
}

bool
weiri_arena_view_before(const void *address, struct weiri_guarded *view)
{
	size_t page = weiri_os_page_bytes();
	struct weiri_arena *arena =
	    arena_enter((const void *)((uintptr_t)address + page));
	bool found;

	if (arena == NULL)
		return false;
	*view = arena->record;
	view->bytes = WEIRI_LOAD(&arena->live);
	/* Of a range that is lent, what lies before is its owner's. */
	found = arena->runs == NULL && view->bytes > 0 &&
		(uintptr_t)address < (uintptr_t)view->start;
	arena_leave(arena);
	return found;
}

/* ---- fork ------------------------------------------------------------------ */

void
weiri_arena_fork_child(void)
{
	/* Who read is in another process. */
	for (size_t i = 0; i < ARENAS; i++)
		WEIRI_STORE(&arena_table[i].readers, 0);
}
