/* SPDX-License-Identifier: MIT */
/*
 * debug_object.c - objects in places that do not trap, as the debug menu has
 * them: packed, of powers of two, and at the cost of a call to malloc().
 *
 *     | object              |~~~~~~~~| name   | stack  |           |
 *     '-- aligned to the    '-- tag: a pattern, and    '-- caller: where the
 *         place's size          where the name of          frames of the last
 *                               its pool is                caller are
 *
 * Both words are pointers, so that a debugger or a core shows them as they are:
 * `x/s *(char **)(object + size + 8)`, `x/4a *(long *)(object + size + 16)`.
 * Without tag, the word of caller comes first.
 *
 * What a program did to memory that was no longer its own is looked at when the
 * place is taken again, which is at once for the last that ended, unless
 * cold-first has it rest for as long as there are others; and when the pool ends.
 *
 * Invariants:
 *
 *   M1  What a record says of its last object - where it was, what was on the
 *       menu for it, its sum - stands until the place has been looked at.
 *   M2  A place that was written to when it was nobody's is bad: it is in no list
 *       and never used again.
 */
#include "base/annotate.h"
#include "base/bits.h"
#include "guard/debug.h"
#include "guard/fault.h"
#include "guard/state.h"

#include <string.h>

#define S weiri_guard_state

/* ---- the words behind an object -------------------------------------------- */

#define TAG_BYTES ((size_t)16)
#define TAG_NAME ((size_t)8)
#define CALLER_BYTES ((size_t)8)

static size_t
debug_tail_bytes(unsigned debug)
{
	return ((debug & WEIRI_DEBUG_TAG) != 0 ? TAG_BYTES : 0) +
	       ((debug & WEIRI_DEBUG_CALLER) != 0 ? CALLER_BYTES : 0);
}

static void
debug_make_tag(const struct weiri_guarded *guarded, char tag[TAG_BYTES])
{
	uintptr_t name = (uintptr_t)weiri_guard_name_of(guarded)->name;

	memset(tag, WEIRI_GUARD_SLACK, TAG_NAME);
	memcpy(tag + TAG_NAME, &name, sizeof(name));
}

static void
debug_set_caller(const struct weiri_guarded *guarded,
    const struct weiri_space *space, uint32_t site)
{
	char *at = guarded->start + guarded->bytes;
	uintptr_t frames = (uintptr_t)weiri_sites_frames(&space->sites, site);

	if ((guarded->debug & WEIRI_DEBUG_CALLER) == 0)
		return;
	if ((guarded->debug & WEIRI_DEBUG_TAG) != 0)
		at += TAG_BYTES;
	memcpy(at, &frames, sizeof(frames));
}

void
weiri_debug_begin(
    struct weiri_guarded *guarded, const struct weiri_space *space)
{
	char tag[TAG_BYTES];

	if ((guarded->debug & WEIRI_DEBUG_TAG) != 0) {
		debug_make_tag(guarded, tag);
		memcpy(guarded->start + guarded->bytes, tag, sizeof(tag));
	}
	debug_set_caller(guarded, space, guarded->born_site);
}

void
weiri_debug_verify(struct weiri_guarded *guarded)
{
	const struct weiri_guard_name *name = weiri_guard_name_of(guarded);
	const char *behind = guarded->start + guarded->bytes;
	char tag[TAG_BYTES];
	size_t i = 0;

	if ((guarded->debug & WEIRI_DEBUG_TAG) == 0)
		return;
	debug_make_tag(guarded, tag);
	while (i < sizeof(tag) && behind[i] == tag[i])
		i++;
	if (i == sizeof(tag) || !WEIR_DETECTOR(debug_tag))
		return;
	weiri_guard_tell(guarded,
	    (struct weiri_fault_site){.fault_class = WEIR_FAULT_OVERFLOW,
		.pool_kind = name->kind,
		.pool_name = name->name,
		.pool_type = name->type,
		.operation = "write",
		.address = behind + i,
		.number = i,
		.other = name->name,
		.detail = "%p, %u byte%{|s} behind the object, in the tag of "
			  "\"%s\", was written while it was in use"});
}

/* ---- what was left --------------------------------------------------------- */

/* Any change of any byte is another sum; never 0. */
static uint64_t
debug_sum(const char *at, size_t bytes)
{
	uint64_t sum = bytes, word = 0;

	for (; bytes >= sizeof(word); at += sizeof(word)) {
		memcpy(&word, at, sizeof(word));
		sum = (sum ^ word) * UINT64_C(0x9e3779b97f4a7c15);
		sum ^= sum >> 32;
		bytes -= sizeof(word);
	}
	word = 0;
	memcpy(&word, at, bytes);
	sum = (sum ^ word) * UINT64_C(0x9e3779b97f4a7c15);
	return sum | 1;
}

/* The first byte that was written since; the object's start where only the sum
 * tells; NULL: none. */
static const char *
debug_find_write(const struct weiri_guarded *guarded)
{
	const char *start = guarded->start;
	size_t kept = weiri_min(guarded->bytes, sizeof(guarded->kept));
	const char *written;

	if ((guarded->debug & WEIRI_DEBUG_POISON) != 0) {
		written =
		    weiri_guard_find_written(start, start + guarded->bytes);
		return written != NULL && WEIR_DETECTOR(debug_poison) ? written
								      : NULL;
	}
	weiri_annotate_defined(start, guarded->bytes);
	if ((guarded->debug & WEIRI_DEBUG_INTEGRITY) == 0 ||
	    debug_sum(start, guarded->bytes) == guarded->sum ||
	    !WEIR_DETECTOR(debug_integrity))
		return NULL;
	for (size_t i = 0; i < kept; i++)
		if ((uint8_t)start[i] != guarded->kept[i])
			return start + i;
	return start;
}

/* @at is from debug_find_write(). */
static void
debug_tell_write(struct weiri_guarded *guarded, const char *at)
{
	const struct weiri_guard_name *name = weiri_guard_name_of(guarded);
	bool whole = (guarded->debug & WEIRI_DEBUG_POISON) == 0 &&
		     (uint8_t)*at == guarded->kept[at - guarded->start];

	weiri_guard_tell(guarded,
	    (struct weiri_fault_site){.fault_class = WEIR_FAULT_USE_AFTER_FREE,
		.pool_kind = name->kind,
		.pool_name = name->name,
		.pool_type = name->type,
		.operation = "write",
		.address = at,
		.number = whole ? sizeof(guarded->kept)
				: (uint64_t)(at - guarded->start),
		.other = weiri_guard_how_text[guarded->how],
		.detail = whole ? "the object at %p was written, %u bytes "
				  "inside it or more, after it ended by %s"
				: "%p, %u byte%{|s} inside the object, was "
				  "written after it ended by %s"});
}

/* A place that was taken; false: it is bad, and its object is as it was when it
 * ended (M2). */
static bool
debug_is_as_left(struct weiri_space *space, struct weiri_guarded *guarded)
{
	const char *at = NULL;

	if (guarded->start != NULL && (guarded->debug & WEIRI_DEBUG_LASTS) != 0)
		at = debug_find_write(guarded);
	if (WEIR_LIKELY(at == NULL) || !WEIR_DETECTOR(debug_reused))
		return true;
	weiri_mutex_lock(&S.lock);
	weiri_space_retire(space, guarded);
	weiri_mutex_unlock(&S.lock);
	debug_tell_write(guarded, at);
	return false;
}

/* Under the lock: the number of the next record from @from on whose object was
 * @pool's and was written to after its end; bad from then on.  0: none. */
static uint32_t
debug_next_written(struct weiri_space *space,
    const struct weiri_guard_pool *pool, uint32_t from)
{
	for (uint32_t n = from; n < space->record_count; n++) {
		struct weiri_guarded *guarded = &space->record[n];

		/* Pairs with the release in weiri_debug_rest().  Its place
		 * cannot be taken meanwhile. */
		if (__atomic_load_n(&guarded->state, __ATOMIC_ACQUIRE) !=
			WEIRI_GUARDED_ENDED ||
		    guarded->named != pool->named ||
		    WEIRI_LOAD(&guarded->bad) ||
		    (guarded->debug & WEIRI_DEBUG_LASTS) == 0 ||
		    debug_find_write(guarded) == NULL)
			continue;
		WEIRI_STORE(&guarded->bad, true);
		return n;
	}
	return 0;
}

void
weiri_debug_look(const struct weiri_guard_pool *pool)
{
	struct weiri_space *space = &S.space[WEIRI_GUARD_PACKED];
	uint32_t n = 0;

	do {
		weiri_mutex_lock(&S.lock);
		n = space->base != NULL ? debug_next_written(space, pool, n + 1)
					: 0;
		weiri_mutex_unlock(&S.lock);
		if (n != 0 && WEIR_DETECTOR(debug_left)) {
			struct weiri_guarded *guarded = &space->record[n];

			debug_tell_write(guarded, debug_find_write(guarded));
		}
	} while (n != 0);
}

/* ---- life -------------------------------------------------------------------- */

struct weiri_guarded *
weiri_debug_take(struct weiri_space *space, struct weiri_guard_pool *pool,
    size_t bytes, size_t align, bool zeroed)
{
	unsigned debug = WEIRI_LOAD(&pool->debug);
	bool late = (debug & WEIRI_DEBUG_COLD_FIRST) != 0;
	struct weiri_guarded *guarded;
	size_t least;

	if (bytes > PTRDIFF_MAX)
		return NULL;
	least = weiri_max(bytes + debug_tail_bytes(debug), align);
	do {
		weiri_mutex_lock(&S.lock);
		weiri_guard_name_need(pool);
		guarded = weiri_space_take(space,
		    (weiri_max(least, 1) + space->grain - 1) / space->grain,
		    late);
		weiri_mutex_unlock(&S.lock);
	} while (guarded != NULL && !debug_is_as_left(space, guarded));
	if (guarded == NULL)
		return NULL;
	guarded->start = guarded->area;
	guarded->bytes = bytes;
	guarded->debug = (uint16_t)debug;
	if (zeroed) {
		memset(guarded->start, 0, bytes);
	} else if ((debug & WEIRI_DEBUG_POISON) != 0) {
		memset(guarded->start, WEIRI_GUARD_FRESH, bytes);
		weiri_annotate_undefined(guarded->start, bytes);
	}
	return guarded;
}

void
weiri_debug_rest(struct weiri_guarded *guarded, struct weiri_space *space)
{
	if ((guarded->debug & WEIRI_DEBUG_POISON) != 0) {
		memset(guarded->start, WEIRI_GUARD_SLACK, guarded->bytes);
	} else if ((guarded->debug & WEIRI_DEBUG_INTEGRITY) != 0) {
		weiri_annotate_defined(guarded->start, guarded->bytes);
		guarded->sum = debug_sum(guarded->start, guarded->bytes);
	}
	debug_set_caller(guarded, space, guarded->ended_site);
	__atomic_store_n(
	    &guarded->state, (uint8_t)WEIRI_GUARDED_ENDED, __ATOMIC_RELEASE);
	weiri_mutex_lock(&S.lock);
	weiri_space_rest(
	    space, guarded, (guarded->debug & WEIRI_DEBUG_COLD_FIRST) != 0);
	weiri_mutex_unlock(&S.lock);
}
