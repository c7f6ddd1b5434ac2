/* SPDX-License-Identifier: MIT */
/*
 * guard.h - objects under guard, for the pools that put them there.
 *
 * A pool takes its own storage for an object as always - a slot, a run, the
 * memory of a payload - and asks for a guarded object of the same size besides.
 * The program gets the guarded one; the pool's own storage stands for it in all
 * the pool's books, so that limits, figures and checks need to know nothing.  An
 * address of a guarded object is in no page map: it reaches the slow path of
 * every call by itself, where the pool asks here.
 *
 *     taking   if (weiri_guard_due(...))
 *                      object = weiri_guard_new(..., shadow)   or shadow
 *     ending   shadow = weiri_guard_claim(..., object)   says what is wrong
 *              ... the pool's own hooks, on the object ...
 *              weiri_guard_end(object)
 *              the shadow goes the way of every object
 */
#ifndef WEIRI_GUARD_H
#define WEIRI_GUARD_H

#include "base/list.h"

#include <weir/guard.h>

/* How an object came to its end. */
/* clang-format off */
#define WEIRI_GUARD_HOWS(X)       \
	X(FREE, "free")           \
	X(REALLOC, "realloc")     \
	X(RESET, "reset")         \
	X(REWIND, "rewind")       \
	X(DESTROY, "destroy")     \
	X(UNREF, "unref")         \
	X(PARENT, "end of parent")   \
	X(SHRINK, "shrink")
/* clang-format on */

enum weiri_guard_how {
#define X(symbol, text) WEIRI_GUARD_##symbol,
	WEIRI_GUARD_HOWS(X)
#undef X
};

extern const char *const weiri_guard_how_text[];

/* Part of a pool.  All zero it is off. */
struct weiri_guard_pool {
	struct weiri_list link; /* while entered */
	const char *kind, *name;
	const char *type; /* of its objects, or NULL; set before it enters */
	uint32_t serial;  /* of its name in the table of names */
	uint16_t named;   /* 0: none yet */
	uint8_t mode;     /* enum weir_guard_mode, or the one below; atomic */
	bool bare;        /* threads are to keep nothing; atomic */
	bool entered;
	bool fails_above; /* requests are not to fail in its depot */
	uint16_t debug;   /* what is on the menu for it; atomic */
};

/* Objects lie in places that do not trap, as the debug menu asks for.  Not a mode
 * of the process. */
#define WEIRI_GUARD_MENU ((enum weir_guard_mode)(WEIR_GUARD_TOOL + 1))

/* A pool comes to be, with kind, name and type that stay while it is, and ends. */
void weiri_guard_enter(
    struct weiri_guard_pool *pool, const char *kind, const char *name);
void weiri_guard_leave(struct weiri_guard_pool *pool);

WEIRI_INLINE enum weir_guard_mode
weiri_guard_mode(const struct weiri_guard_pool *pool)
{
	return (enum weir_guard_mode)WEIRI_LOAD(&pool->mode);
}

/* Is the process in mode full, whatever pools are named?  Takes the lock. */
WEIRI_COLD bool weiri_guard_is_full(void);

/* Is it in mode tool?  Takes the lock. */
WEIRI_COLD bool weiri_guard_is_tool(void);

/* Must every request come to the slow path, and nothing stay with a thread? */
WEIRI_INLINE bool
weiri_guard_bare(const struct weiri_guard_pool *pool)
{
	return pool != NULL && WEIRI_LOAD(&pool->bare);
}

/* Is what nothing can be put around to be handed out again late, at least? */
extern bool weiri_guard_late __attribute__((visibility("hidden")));

/* A request for @bytes of a pool that is bare, which the debug menu may want to
 * fail: as for want of memory, after the OOM hook.  No lock may be held. */
WEIRI_COLD bool weiri_debug_refuses(
    const struct weiri_guard_pool *pool, size_t bytes);

/* May what a pool has be served to a request that was refused? */
bool weiri_guard_rests(const struct weiri_guard_pool *pool);

/* ---- sampling ----------------------------------------------------------- */

/* A countdown goes this far at most. */
#define WEIRI_GUARD_SKIP_MAX 65535u

/* For tests: the time that samples are picked by; NULL is the clock's. */
extern uint64_t (*weiri_guard_clock)(void);

/* Is the object of this visit, which stands for @requests, to be guarded? */
bool weiri_guard_due(const struct weiri_guard_pool *pool, uint32_t requests);

/* How many requests to let pass before the next visit, 1 .. SKIP_MAX, and what
 * weiri_guard_due() is to be told then. */
uint32_t weiri_guard_skip(const struct weiri_guard_pool *pool);
uint32_t weiri_guard_stride(const struct weiri_guard_pool *pool);

/* ---- objects ------------------------------------------------------------- */

/* An object of @bytes at @align, a power of two up to a page, in place of
 * @shadow; reads as zero where @zeroed.  NULL if there is no room: the pool's
 * own serves.  Changes no errno. */
void *weiri_guard_new(struct weiri_guard_pool *pool, size_t bytes, size_t align,
    bool zeroed, void *shadow);

struct weiri_space_range {
	uintptr_t base;
	uintptr_t bytes;
};

/* Where guarded objects lie: few ranges, never taken back. */
#define WEIRI_GUARD_SPACES 3
extern struct weiri_space_range weiri_guard_range[WEIRI_GUARD_SPACES]
    __attribute__((visibility("hidden")));

/* Some of them are, or were, blocks of malloc(). */
extern bool weiri_guard_through __attribute__((visibility("hidden")));
WEIRI_COLD bool weiri_guard_through_covers(const void *address);

/* Is @address in a place for guarded objects?  Reads nothing there. */
WEIRI_INLINE bool
weiri_guard_covers(const void *address)
{
	for (int i = 0; i < WEIRI_GUARD_SPACES; i++)
		if ((uintptr_t)address -
			WEIRI_LOAD(&weiri_guard_range[i].base) <
		    WEIRI_LOAD(&weiri_guard_range[i].bytes))
			return true;
	return WEIR_UNLIKELY(WEIRI_LOAD(&weiri_guard_through)) &&
	       weiri_guard_through_covers(address);
}

/*
 * @object is to end, by a call of @pool.  Its shadow, once; NULL after a report
 * that the program survives: there is nothing to do then.  What is no address
 * of a guarded object is left to the pool: *foreign is true, and nothing is
 * reported.
 */
void *weiri_guard_claim(
    struct weiri_guard_pool *pool, const void *object, bool *foreign);

/*
 * As the claim and the end of an object of @pool that was freed where nobody
 * looked, for who holds a lock: what is wrong is told by a later call.  Its
 * shadow, or NULL for what is no such object; then it is as it was.
 */
void *weiri_guard_end_quietly(
    const struct weiri_guard_pool *pool, const void *object);

/* The end of a live object that only its pool ends, whichever that is. */
void weiri_guard_finish(const void *object, enum weiri_guard_how how);

/* Reports, and does not return, unless @object is live and begins there; its
 * pool may be another than @pool, which asks. */
void weiri_guard_expect(
    const struct weiri_guard_pool *pool, const void *object);

/* What a live object is known by; NULL for what is none. */
void *weiri_guard_shadow_of(const void *object);

/* As above, of any address in it. */
void *weiri_guard_shadow_around(const void *address);

struct weiri_guarded;

/* The record, for a report, of an object that ended and was known by @shadow;
 * NULL: its place has been used since. */
const struct weiri_guarded *weiri_guard_ended(
    const void *object, const void *shadow);

/* Reports, if @object is in a place for guarded objects, what is wrong with it
 * as one of @pool. */
void weiri_guard_refuse(
    const struct weiri_guard_pool *pool, const void *object);

/* As the claim, of an object that stays: what a pool knows it by. */
void *weiri_guard_shadow(
    struct weiri_guard_pool *pool, const void *object, bool *foreign);

/* The end of an object that was claimed: what was written around it is looked
 * at, and its pages trap from now on. */
void weiri_guard_end(const void *object, enum weiri_guard_how how);

/* The pool of a live object; NULL for what is none. */
const struct weiri_guard_pool *weiri_guard_pool_of(const void *object);

/* The bytes a live guarded object was asked for with; 0 for what is none. */
size_t weiri_guard_bytes(const void *object);

/* What an object holds at first in mode full: a pointer made of it traps. */
#define WEIRI_GUARD_FRESH 0xa5

/* Bytes of an object's record that are its pool's until the object ends. */
#define WEIRI_GUARD_POCKET 64
void *weiri_guard_pocket(const void *object);

/* Of an object that was claimed: its pool demands it back in a state it is not in,
 * which @detail says, from byte @at on.  Reports; returns if the program goes
 * on. */
void weiri_guard_tell_broken(const void *object, size_t at, const char *detail);

/* All live objects of a pool end, without a word. */
void weiri_guard_end_all(
    struct weiri_guard_pool *pool, enum weiri_guard_how how);

/* ---- process -------------------------------------------------------------- */

/* The mode that is in force from now on; as weir_guard_set().  Threads are told
 * by the caller. */
int weiri_guard_apply(const struct weir_guard_config *config);

/* The menu that is in force from now on; as weir_debug_set().  Threads are told by
 * the caller. */
int weiri_debug_apply(const char *menu);

/* The options are in force: says what is on the menu, if anything. */
void weiri_debug_start(void);

void weiri_guard_fork_lock(void);
void weiri_guard_fork_unlock(void);
void weiri_guard_fork_child(void);

#endif /* WEIRI_GUARD_H */
