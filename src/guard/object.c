/* SPDX-License-Identifier: MIT */
/*
 * object.c - an object under guard, from its first to its last use.
 *
 *     mode full:      | trap | slack ~~~~~~~~~~~~~~~~~ | object |~| trap |
 *     some samples:   | trap | object | slack ~~~~~~~~~~~~~~~~~~~ | trap |
 *
 * The object ends where its last page does, as near as its alignment allows, so
 * that a read or write past the end traps; bytes before it, and the few behind
 * it that alignment leaves, hold a pattern that is looked at when it ends.  A
 * quarter of the samples begin where their first page does instead, for the
 * sake of reads before an object.
 *
 * When the object ends its pages trap at once and lose their memory.  Of what
 * was in it the first bytes are kept for the report, with both stacks.
 *
 * Invariants:
 *
 *   O1  A record's state goes NONE, LIVE, ENDING, ENDED, NONE.
 *   O2  LIVE to ENDING is a compare-and-exchange: of two ends one is told that
 *       it is the second.
 *   O3  What a live record says of the object was written before it was LIVE.
 */
#include "base/annotate.h"
#include "base/bits.h"
#include "guard/debug.h"
#include "guard/fault.h"
#include "guard/leaks.h"
#include "guard/state.h"
#include "os/guard.h"

#include <string.h>

#define S weiri_guard_state

/* One sample of so many begins at the border. */
#define OBJECT_LEFT 4

/* ---- telling later ----------------------------------------------------------------- */

/* What was found under a lock and is not told yet: one, the others are lost. */
static struct {
	bool busy;
	bool is;
	struct weiri_fault_site site;
} object_later;

static void
object_tell_later(const struct weiri_fault_site *site)
{
	if (__atomic_exchange_n(&object_later.busy, true, __ATOMIC_ACQUIRE))
		return;
	object_later.site = *site;
	__atomic_store_n(&object_later.is, true, __ATOMIC_RELEASE);
}

static void
object_tell_now(void)
{
	struct weiri_fault_site site;

	if (WEIR_LIKELY(!WEIRI_LOAD(&object_later.is)) ||
	    !__atomic_exchange_n(&object_later.is, false, __ATOMIC_ACQUIRE))
		return;
	site = object_later.site;
	__atomic_store_n(&object_later.busy, false, __ATOMIC_RELEASE);
	weiri_fault_tell(&site);
}

/* ---- taking ------------------------------------------------------------------------ */

static size_t
object_pages(size_t bytes, size_t page)
{
	return (weiri_max(bytes, 1) + page - 1) / page;
}

/* The pages an object lies in, of all in its place. */
static char *
object_first_page(const struct weiri_guarded *guarded, size_t page)
{
	return (char *)((uintptr_t)guarded->start & ~(page - 1));
}

static size_t
object_span(const struct weiri_guarded *guarded, size_t page)
{
	return object_pages(guarded->bytes, page) * page;
}

static void
object_place(struct weiri_guarded *guarded, size_t bytes, size_t align,
    bool left, size_t page)
{
	char *end = guarded->area + weiri_space_area_bytes(guarded, page);

	guarded->bytes = bytes;
	if (left)
		guarded->start = guarded->area;
	else
		guarded->start =
		    end - weiri_round_up(weiri_max(bytes, 1), align);
}

static void
object_fill(const struct weiri_guarded *guarded, bool zeroed, size_t page)
{
	char *first = object_first_page(guarded, page);
	char *end = first + object_span(guarded, page);
	char *behind = guarded->start + guarded->bytes;

	if (guarded->open)
		memset(first, 0, (size_t)(end - first));
	if (guarded->ready) {
		memset(guarded->start, 0, guarded->bytes);
	} else {
		memset(
		    first, WEIRI_GUARD_SLACK, (size_t)(guarded->start - first));
		memset(behind, WEIRI_GUARD_SLACK, (size_t)(end - behind));
	}
	if (!zeroed && guarded->mode == WEIR_GUARD_FULL &&
	    WEIR_DETECTOR(guard_fresh_pattern)) {
		memset(guarded->start, WEIRI_GUARD_FRESH, guarded->bytes);
		weiri_annotate_undefined(guarded->start, guarded->bytes);
	}
}

/* Who is calling: kept, unless the debug menu has the object and does not ask. */
static uint32_t
object_site(const struct weiri_guarded *guarded, struct weiri_space *space)
{
	struct weiri_stack stack;

	if (guarded->mode == WEIRI_GUARD_MENU &&
	    (guarded->debug & WEIRI_DEBUG_CALLER) == 0)
		return 0;
	weiri_stack_here(&stack);
	return weiri_sites_keep(&space->sites, &stack);
}

/* Who, when, for whom; from here on it is live. */
static void
object_begin(struct weiri_guarded *guarded, struct weiri_space *space,
    const struct weiri_guard_pool *pool, void *shadow,
    const struct weiri_guard_thread *self)
{
	guarded->born_site = object_site(guarded, space);
	guarded->born_thread = self->number;
	guarded->born_ns = weiri_os_now_ns();
	guarded->ended_site = 0;
	__atomic_store_n(&guarded->pool, pool, __ATOMIC_RELAXED);
	guarded->named = pool->named;
	guarded->shadow = shadow;
	guarded->kept_is = false;
	guarded->open = false;
	guarded->ready = false;
	guarded->quiet = false;
	if (guarded->mode == WEIRI_GUARD_MENU)
		weiri_debug_begin(guarded, space);
	__atomic_store_n(
	    &guarded->state, (uint8_t)WEIRI_GUARDED_LIVE, __ATOMIC_RELEASE);
	__atomic_fetch_add(&S.guarded, 1, __ATOMIC_RELAXED);
}

/* A place, or NULL; one that is ready is not the object's yet. */
static struct weiri_guarded *
object_take_place(struct weiri_space *space, struct weiri_guard_pool *pool,
    size_t bytes, size_t align, bool left)
{
	size_t page = weiri_os_page_bytes();
	struct weiri_guarded *guarded = NULL;

	weiri_mutex_lock(&S.lock);
	weiri_guard_name_need(pool);
	if (space->base != NULL)
		guarded =
		    weiri_space_take(space, object_pages(bytes, page), true);
	if (guarded != NULL && !guarded->ready)
		object_place(guarded, bytes, align, left, page);
	weiri_mutex_unlock(&S.lock);
	return guarded;
}

/* A place whose pages are there, or NULL. */
static struct weiri_guarded *
object_take(struct weiri_space *space, struct weiri_guard_pool *pool,
    size_t bytes, size_t align, bool left)
{
	size_t page = weiri_os_page_bytes();
	struct weiri_guarded *guarded;
	bool open;

	if (bytes > PTRDIFF_MAX)
		return NULL;
	do {
		guarded = object_take_place(space, pool, bytes, align, left);
	} while (guarded != NULL && guarded->ready &&
		 !weiri_ready_is_whole(space, guarded));
	if (guarded == NULL)
		return NULL;
	if (guarded->ready) {
		weiri_mutex_lock(&S.lock);
		object_place(guarded, bytes, align, left, page);
		weiri_mutex_unlock(&S.lock);
		return guarded;
	}
	/* After this use they are barred as any others. */
	open = guarded->open;
	if (weiri_os_unbar(object_first_page(guarded, page),
		object_span(guarded, page)) == 0 ||
	    open)
		return guarded;
	weiri_mutex_lock(&S.lock);
	weiri_space_rest(space, guarded, false);
	weiri_mutex_unlock(&S.lock);
	return NULL;
}

/* As object_take(), of malloc(). */
static struct weiri_guarded *
object_take_through(struct weiri_space *space, struct weiri_guard_pool *pool,
    size_t bytes, size_t align, bool zeroed)
{
	weiri_mutex_lock(&S.lock);
	weiri_guard_name_need(pool);
	weiri_mutex_unlock(&S.lock);
	return weiri_through_take(space, bytes, align, zeroed);
}

static struct weiri_space *
object_space(enum weir_guard_mode mode, bool all)
{
	if (mode == WEIR_GUARD_TOOL)
		return &S.space[WEIRI_GUARD_THROUGH];
	if (mode == WEIRI_GUARD_MENU)
		return &S.space[WEIRI_GUARD_PACKED];
	return &S.space[all ? WEIRI_GUARD_LARGE : WEIRI_GUARD_SMALL];
}

void *
weiri_guard_new(struct weiri_guard_pool *pool, size_t bytes, size_t align,
    bool zeroed, void *shadow)
{
	struct weiri_guard_thread *self = weiri_guard_thread();
	enum weir_guard_mode mode = weiri_guard_mode(pool);
	uint32_t rate = WEIRI_LOAD(&S.rate);
	bool all = mode == WEIR_GUARD_FULL || rate == 1;
	struct weiri_space *space = object_space(mode, all);
	bool left = !all && weiri_guard_random_below(self, OBJECT_LEFT) == 0;
	struct weiri_guarded *guarded;

	if (all && !self->handler_stack) {
		self->handler_stack = true;
		weiri_os_handler_stack();
	}
	object_tell_now();
	if (mode == WEIR_GUARD_TOOL)
		guarded =
		    object_take_through(space, pool, bytes, align, zeroed);
	else if (mode == WEIRI_GUARD_MENU)
		guarded = weiri_debug_take(space, pool, bytes, align, zeroed);
	else
		guarded = object_take(space, pool, bytes, align, left);
	if (guarded == NULL) {
		__atomic_fetch_add(&S.refused, 1, __ATOMIC_RELAXED);
		return NULL;
	}
	guarded->mode = (uint8_t)mode;
	if (mode < WEIR_GUARD_TOOL)
		object_fill(guarded, zeroed, weiri_os_page_bytes());
	object_begin(guarded, space, pool, shadow, self);
	return guarded->start;
}

/* ---- what is wrong ------------------------------------------------------------------- */

void
weiri_guard_tell(
    const struct weiri_guarded *guarded, struct weiri_fault_site site)
{
	site.object = guarded;
	site.goes_on = weiri_guard_goes_on(
	    site.fault_class, (enum weir_guard_mode)guarded->mode);
	__atomic_fetch_add(&S.reports, 1, __ATOMIC_RELAXED);
	if (guarded->quiet)
		object_tell_later(&site);
	else
		weiri_fault_tell(&site);
}

/* A free, or another call, of what is no live object of @pool at @object. */
static void
object_tell_misuse(const struct weiri_guard_pool *pool,
    const struct weiri_guarded *guarded, const void *object)
{
	struct weiri_fault_site site = {
	    .pool_kind = pool->kind,
	    .pool_name = pool->name,
	    .pool_type = pool->type,
	    .address = object,
	    .operation = "free",
	};
	const struct weiri_guard_name *name = weiri_guard_name_of(guarded);
	enum weiri_guarded_state state = weiri_guarded_state(guarded);

	if (state == WEIRI_GUARDED_LIVE && guarded->pool != pool &&
	    WEIR_DETECTOR(guard_wrong_pool)) {
		site.fault_class = WEIR_FAULT_WRONG_POOL;
		site.other = name->name;
		site.detail = "%p belongs to \"%s\"";
		if (strcmp(name->kind, "region") == 0)
			site.detail = "%p belongs to \"%s\", and ends with its "
				      "region";
	} else if (object != guarded->start && WEIR_DETECTOR(guard_interior)) {
		site.fault_class = (uintptr_t)object % 8 != 0
				       ? WEIR_FAULT_MISALIGNED_POINTER
				       : WEIR_FAULT_INTERIOR_POINTER;
		site.detail = "%p is not the start of an object";
		if (site.fault_class == WEIR_FAULT_MISALIGNED_POINTER)
			site.detail = "%p is not aligned as its objects are";
	} else {
		site.fault_class = WEIR_FAULT_DOUBLE_FREE;
		site.other = weiri_guard_how_text[guarded->how];
		site.detail = "object %p is free already: it ended by %s";
	}
	weiri_guard_tell(guarded, site);
}

/* ---- ending --------------------------------------------------------------------------- */

/* The live record of @pool that starts at @object; else reports. */
static struct weiri_guarded *
object_require(
    const struct weiri_guard_pool *pool, const void *object, bool *foreign)
{
	struct weiri_space *space = NULL;
	struct weiri_guarded *guarded = weiri_guard_find(object, &space);

	*foreign = guarded == NULL;
	if (guarded == NULL)
		return NULL;
	if (weiri_guarded_state(guarded) == WEIRI_GUARDED_LIVE &&
	    guarded->pool == pool && guarded->start == object)
		return guarded;
	if (WEIR_DETECTOR(guard_misuse))
		object_tell_misuse(pool, guarded, object);
	return NULL;
}

/* O2. */
static bool
object_claim(struct weiri_guarded *guarded)
{
	uint8_t live = WEIRI_GUARDED_LIVE;

	return __atomic_compare_exchange_n(&guarded->state, &live,
	    (uint8_t)WEIRI_GUARDED_ENDING, false, __ATOMIC_ACQ_REL,
	    __ATOMIC_RELAXED);
}

void *
weiri_guard_claim(
    struct weiri_guard_pool *pool, const void *object, bool *foreign)
{
	struct weiri_guarded *guarded;

	object_tell_now();
	guarded = object_require(pool, object, foreign);
	if (guarded == NULL)
		return NULL;
	if (WEIR_UNLIKELY(!object_claim(guarded))) {
		object_tell_misuse(pool, guarded, object);
		return NULL;
	}
	return guarded->shadow;
}

void *
weiri_guard_shadow(
    struct weiri_guard_pool *pool, const void *object, bool *foreign)
{
	struct weiri_guarded *guarded = object_require(pool, object, foreign);

	return guarded != NULL ? guarded->shadow : NULL;
}

static void
object_verify(struct weiri_guarded *guarded)
{
	size_t page = weiri_os_page_bytes();
	const char *first = object_first_page(guarded, page);

	weiri_guard_verify(guarded, first, first + object_span(guarded, page));
}

static void
object_keep(struct weiri_guarded *guarded)
{
	size_t bytes = weiri_min(guarded->bytes, sizeof(guarded->kept));

	memset(guarded->kept, 0, sizeof(guarded->kept));
	weiri_annotate_defined(guarded->start, bytes);
	memcpy(guarded->kept, guarded->start, bytes);
	guarded->kept_is = true;
}

/* Its pages trap from now on, until its place is another's.  Nothing traps while
 * its page is moved away, which another thread may meet: it is this call that ends
 * the object, and only then did it. */
static void
object_bar(struct weiri_guarded *guarded, struct weiri_space *space)
{
	size_t page = weiri_os_page_bytes();
	struct weiri_guarded *ahead = weiri_ready_make(space, guarded);

	guarded->open = weiri_os_bar(object_first_page(guarded, page),
			    object_span(guarded, page)) != 0;
	if (guarded->open)
		memset(guarded->start, WEIRI_GUARD_SLACK, guarded->bytes);
	__atomic_store_n(
	    &guarded->state, (uint8_t)WEIRI_GUARDED_ENDED, __ATOMIC_RELEASE);
	weiri_mutex_lock(&S.lock);
	weiri_space_rest(space, guarded, true);
	if (ahead != NULL)
		weiri_space_put_ahead(space, ahead);
	weiri_mutex_unlock(&S.lock);
}

/* Who ended it, when, by which call. */
static void
object_note_end(struct weiri_guarded *guarded, struct weiri_space *space,
    enum weiri_guard_how how)
{
	guarded->ended_site = object_site(guarded, space);
	/* At level `batch` this may be under a depot's lock. */
	guarded->ended_thread = weiri_guard_thread_number();
	guarded->ended_ns = weiri_os_now_ns();
	guarded->how = (uint8_t)how;
}

/* Claimed: all that is left to do. */
static void
object_end(struct weiri_guarded *guarded, struct weiri_space *space,
    enum weiri_guard_how how)
{
	bool through = space == &S.space[WEIRI_GUARD_THROUGH];

	object_note_end(guarded, space, how);
	weiri_leaks_note(guarded);
	if (guarded->mode == WEIRI_GUARD_MENU)
		weiri_debug_verify(guarded);
	else if (!through)
		object_verify(guarded);
	guarded->quiet = false;
	object_keep(guarded);
	if (guarded->mode == WEIRI_GUARD_MENU) {
		weiri_debug_rest(guarded, space);
		return;
	}
	if (!through) {
		object_bar(guarded, space);
		return;
	}
	__atomic_store_n(
	    &guarded->state, (uint8_t)WEIRI_GUARDED_ENDED, __ATOMIC_RELEASE);
	weiri_through_give(space, guarded);
}

void
weiri_guard_end(const void *object, enum weiri_guard_how how)
{
	struct weiri_space *space = NULL;
	struct weiri_guarded *guarded = weiri_guard_find(object, &space);

	WEIR_ASSERT(guarded != NULL && guarded->state == WEIRI_GUARDED_ENDING);
	object_end(guarded, space, how);
}

void *
weiri_guard_end_quietly(const struct weiri_guard_pool *pool, const void *object)
{
	struct weiri_space *space = NULL;
	struct weiri_guarded *guarded = weiri_guard_find(object, &space);

	if (guarded == NULL ||
	    weiri_guarded_state(guarded) != WEIRI_GUARDED_LIVE ||
	    guarded->pool != pool || guarded->start != object ||
	    !object_claim(guarded))
		return NULL;

	void *shadow = guarded->shadow;

	guarded->quiet = true;
	object_end(guarded, space, WEIRI_GUARD_FREE);
	return shadow;
}

void
weiri_guard_finish(const void *object, enum weiri_guard_how how)
{
	struct weiri_space *space = NULL;
	struct weiri_guarded *guarded = weiri_guard_find(object, &space);

	WEIR_ASSERT(guarded != NULL);
	object_tell_now();
	if (object_claim(guarded))
		object_end(guarded, space, how);
}

void
weiri_guard_tell_broken(const void *object, size_t at, const char *detail)
{
	struct weiri_space *space = NULL;
	struct weiri_guarded *guarded = weiri_guard_find(object, &space);
	const struct weiri_guard_name *name;

	WEIR_ASSERT(guarded != NULL && guarded->state == WEIRI_GUARDED_ENDING);
	name = weiri_guard_name_of(guarded);
	object_note_end(guarded, space, WEIRI_GUARD_FREE);
	weiri_guard_tell(guarded, (struct weiri_fault_site){
				      .fault_class = WEIR_FAULT_BROKEN_STATE,
				      .pool_kind = name->kind,
				      .pool_name = name->name,
				      .pool_type = name->type,
				      .address = (const char *)object + at,
				      .number = at,
				      .operation = "free",
				      .detail = detail,
				  });
}

void
weiri_guard_expect(const struct weiri_guard_pool *pool, const void *object)
{
	struct weiri_space *space = NULL;
	const struct weiri_guarded *guarded = weiri_guard_find(object, &space);
	const struct weiri_guard_pool *own;

	if (guarded == NULL)
		return;
	own = weiri_guarded_state(guarded) == WEIRI_GUARDED_LIVE ? guarded->pool
								 : pool;
	if ((weiri_guarded_state(guarded) != WEIRI_GUARDED_LIVE ||
		guarded->start != object) &&
	    WEIR_DETECTOR(guard_expect))
		object_tell_misuse(own, guarded, object);
}

void
weiri_guard_refuse(const struct weiri_guard_pool *pool, const void *object)
{
	struct weiri_space *space = NULL;
	struct weiri_guarded *guarded = weiri_guard_find(object, &space);

	if (guarded != NULL && WEIR_DETECTOR(guard_refuse))
		object_tell_misuse(pool, guarded, object);
}

void
weiri_guard_end_all(struct weiri_guard_pool *pool, enum weiri_guard_how how)
{
	for (size_t i = 0; i < WEIRI_COUNT_OF(S.space); i++) {
		struct weiri_space *space = &S.space[i];
		uint32_t count;

		weiri_mutex_lock(&S.lock);
		count = WEIRI_LOAD(&space->record_count);
		weiri_mutex_unlock(&S.lock);
		for (uint32_t n = 1; n < count; n++) {
			struct weiri_guarded *guarded = &space->record[n];

			if (weiri_guarded_state(guarded) ==
				WEIRI_GUARDED_LIVE &&
			    __atomic_load_n(&guarded->pool, __ATOMIC_RELAXED) ==
				pool &&
			    object_claim(guarded))
				object_end(guarded, space, how);
		}
	}
}
