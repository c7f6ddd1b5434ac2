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
 * handlers; an entry's base is written last when it comes and first when it goes,
 * and what is torn between is a report's text.
 */
#include "guard/arena.h"

#include "guard/runs.h"
#include "guard/state.h"

#define S weiri_guard_state

#define ARENAS 64

struct weiri_arena {
	uintptr_t base; /* 0: free; atomic */
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

static void
arena_set_base(struct weiri_arena *arena, uintptr_t base)
{
	/* Pairs with the acquire in arena_find(). */
	__atomic_store_n(&arena->base, base, __ATOMIC_RELEASE);
}

/* Under the lock. */
static void
arena_fill(struct weiri_arena *arena, const struct weiri_guard_pool *pool,
    char *base, size_t bytes, const struct weiri_stack *stack)
{
	enum weir_guard_mode mode = weiri_guard_mode(pool);
	bool all = mode == WEIR_GUARD_FULL || WEIRI_LOAD(&S.rate) == 1;
	size_t space = all ? WEIRI_GUARD_LARGE : WEIRI_GUARD_SMALL;

	arena->bytes = bytes;
	arena->live = arena->high = 0;
	arena->ended = 0;
	arena->runs = NULL;
	arena->record = (struct weiri_guarded){
	    .area = base,
	    .start = base,
	    .pool = pool,
	    .born_ns = weiri_os_now_ns(),
	    .born_site = weiri_sites_keep(&S.space[space].sites, stack),
	    .sites = (uint8_t)(space + 1),
	    .born_thread = weiri_guard_thread()->number,
	    .named = pool->named,
	    .state = WEIRI_GUARDED_LIVE,
	    .mode = (uint8_t)mode,
	};
}

struct weiri_arena *
weiri_arena_lend(const struct weiri_guard_pool *pool, char *base, size_t bytes,
    const struct weiri_runs *runs)
{
	struct weiri_arena *arena = arena_place();
	struct weiri_stack stack;

	if (arena == NULL)
		return NULL;
	if (arena->base != 0) {
		void *gone = (void *)arena->base;

		arena_set_base(arena, 0);
		weiri_os_drop(gone, arena->bytes);
	}
	weiri_stack_here(&stack);
	arena_fill(arena, pool, base, bytes, &stack);
	arena->runs = runs;
	arena_set_base(arena, (uintptr_t)base);
	return arena;
}

struct weiri_arena *
weiri_arena_begin(struct weiri_guard_pool *pool, const void *base, size_t bytes)
{
	enum weir_guard_mode mode = weiri_guard_mode(pool);
	struct weiri_arena *arena;
	struct weiri_stack stack;
	void *gone = NULL;
	size_t gone_bytes = 0;

	if ((mode != WEIR_GUARD_FULL && mode != WEIR_GUARD_SAMPLE) ||
	    !weiri_guard_due(pool, 1))
		return NULL;
	weiri_stack_here(&stack);
	weiri_mutex_lock(&S.lock);
	weiri_guard_name_need(pool);
	arena = arena_place();
	if (arena != NULL) {
		gone = (void *)arena->base;
		gone_bytes = arena->bytes;
		arena_set_base(arena, 0);
		arena_fill(arena, pool, (char *)(uintptr_t)base, bytes, &stack);
		arena_set_base(arena, (uintptr_t)base);
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
	const struct weiri_guard_thread *self = weiri_guard_thread();
	struct weiri_guarded *record = &arena->record;
	struct weiri_stack stack;

	weiri_stack_here(&stack);
	record->ended_site =
	    weiri_sites_keep(&S.space[record->sites - 1].sites, &stack);
	record->ended_thread = self->number;
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
	arena_set_base(arena, 0);
	weiri_mutex_unlock(&S.lock);
}

static const struct weiri_arena *
arena_find(const void *address)
{
	for (size_t i = 0; i < ARENAS; i++) {
		const struct weiri_arena *arena = &arena_table[i];
		uintptr_t base =
		    __atomic_load_n(&arena->base, __ATOMIC_ACQUIRE);

		if (base != 0 &&
		    (uintptr_t)address - base < WEIRI_LOAD(&arena->bytes))
			return arena;
	}
	return NULL;
}

bool
weiri_arena_view(const void *address, struct weiri_guarded *view)
{
	const struct weiri_arena *arena = arena_find(address);
	size_t offset;

	if (arena == NULL)
		return false;
	*view = arena->record;
	if (arena->runs != NULL)
		return weiri_runs_view(arena->runs, address, view);
	offset = (size_t)((const char *)address - view->start);
	view->bytes = WEIRI_LOAD(&arena->live);
	if (offset >= view->bytes && offset < WEIRI_LOAD(&arena->high)) {
		view->state = WEIRI_GUARDED_ENDED;
		view->bytes = WEIRI_LOAD(&arena->high);
	}
	return true;
}
