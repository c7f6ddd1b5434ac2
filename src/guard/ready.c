/* SPDX-License-Identifier: MIT */
/*
 * ready.c - the page of an object that ends becomes the next one's.
 *
 *     ends:   | trap |~~| object |    ...    | trap | traps       |
 *                 '-------- the page ------------------.
 *             | trap | traps       |   ...   | trap |~~~~~~~~~~~~~|  ready
 *
 * What mode full costs is what the system takes for a page that is given back and
 * one that is asked for.  Most programs do the one just before the other; where
 * the system can move a page it is done in one, for half of the price.  What is
 * asked for is always the place that comes next by its age, and few are ready at
 * a time, so addresses are used again as late as ever.
 *
 * A place that is ready does not trap, nor has it an object: its page is full of
 * the slack's pattern, and is looked at when the place is taken.  A stale pointer
 * that is as old as the quarantine is seen there when it writes, and reads the
 * pattern.  Until then its record is that of the object that ended: a second free
 * of that is known as any.
 *
 * Places are let in by one call for some of them, and are empty until a page comes:
 * a read of the stale pointer brings zeroes there, and what it writes keeps the page
 * from being moved there, so that it is known, too.  No object comes to them but by
 * being ready first.
 *
 * The page is filled after it came: a thread that still writes to the object while
 * it ends does so where it was, and leaves no trace where the next one is.
 */
#include "guard/fault.h"
#include "guard/state.h"
#include "os/guard.h"

#include <errno.h>
#include <string.h>

#define S weiri_guard_state

/* The next place, let in, and a few behind it; NULL: it is not to be, or cannot. */
static struct weiri_guarded *
ready_let_in(struct weiri_space *space)
{
	struct weiri_guarded *ahead[WEIRI_OS_UNBAR_MAX];
	void *pages[WEIRI_OS_UNBAR_MAX];
	size_t count, done = 0;

	weiri_mutex_lock(&S.lock);
	count = weiri_space_ahead(space, ahead, WEIRI_OS_UNBAR_MAX);
	weiri_mutex_unlock(&S.lock);
	if (count == 0)
		return NULL;
	if (ahead[0]->let_in)
		return ahead[0];
	/* One that could not be barred may hold anything. */
	while (done < count && !ahead[done]->open) {
		pages[done] = ahead[done]->area;
		done++;
	}
	if (done > 0)
		done = weiri_os_unbar_each(pages, done);
	for (size_t i = 0; i < done; i++)
		ahead[i]->let_in = true;
	if (count == 1 && done == 1)
		return ahead[0];
	weiri_mutex_lock(&S.lock);
	if (count > 1)
		weiri_space_put_let_in(space, ahead + 1, count - 1);
	if (done == 0)
		weiri_space_put_ahead(space, ahead[0]);
	weiri_mutex_unlock(&S.lock);
	return done > 0 ? ahead[0] : NULL;
}

/* Somebody was there since it was let in, and memory is; what was written stays for
 * who takes the place. */
static void
ready_adopt(char *area, size_t page)
{
	for (char *at = area; at < area + page; at++)
		if (*at == 0)
			*at = (char)WEIRI_GUARD_SLACK;
}

static void
ready_stop(struct weiri_space *space)
{
	weiri_mutex_lock(&S.lock);
	weiri_space_stop_moving(space);
	weiri_mutex_unlock(&S.lock);
}

/* @next, which is let in, gets the page and is ready; false: it traps. */
static bool
ready_move(struct weiri_space *space, struct weiri_guarded *next,
    const struct weiri_guarded *ending)
{
	size_t page = weiri_os_page_bytes();
	int error = weiri_os_move(next->area, ending->area);

	next->let_in = false;
	if (error == 0) {
		memset(next->area, WEIRI_GUARD_SLACK, page);
		return true;
	}
	if (error == -EEXIST) {
		ready_adopt(next->area, page);
		return true;
	}
	next->open = weiri_os_bar(next->area, page) != 0;
	/* Others are of this page and this moment: it is shared with the child
	 * of a fork, say. */
	if (error == -EBADF || error == -ENOTTY || error == -EINVAL ||
	    error == -EPERM || error == -ENOSYS)
		ready_stop(space);
	return false;
}

struct weiri_guarded *
weiri_ready_make(struct weiri_space *space, const struct weiri_guarded *ending)
{
	struct weiri_guarded *next;

	if (ending->class != 0 || !WEIRI_LOAD(&space->moves))
		return NULL;
	/* What traps by protection is a mapping of its own. */
	if (WEIR_UNLIKELY(!weiri_os_bars_merge())) {
		ready_stop(space);
		return NULL;
	}
	next = ready_let_in(space);
	if (next == NULL)
		return NULL;
	next->ready = ready_move(space, next, ending);
	if (next->ready)
		return next;
	weiri_mutex_lock(&S.lock);
	weiri_space_put_ahead(space, next);
	weiri_mutex_unlock(&S.lock);
	return NULL;
}

/* Of a write at @at, in the place of @guarded: of the object that was there, else
 * of the neighbour, which it went far beyond. */
static void
ready_tell(const struct weiri_space *space, const struct weiri_guarded *guarded,
    const char *at)
{
	const struct weiri_guarded *object = guarded;
	struct weiri_fault_site site = {.address = at, .operation = "write"};
	const struct weiri_guard_name *name;

	if (object->start == NULL)
		object = weiri_space_before(space, guarded);
	if (object == NULL || object->start == NULL)
		return;
	name = weiri_guard_name_of(object);
	site.pool_kind = name->kind;
	site.pool_name = name->name;
	site.pool_type = name->type;
	weiri_trap_judge(&site, object, true);
	/* It is found now, and was written by another call than this. */
	site.detail = site.fault_class == WEIR_FAULT_USE_AFTER_FREE
			  ? "%p was written after its object ended by %s"
			  : "%p, %u byte%{|s} behind the object, was written";
	weiri_guard_tell(object, site);
}

bool
weiri_ready_is_whole(struct weiri_space *space, struct weiri_guarded *guarded)
{
	size_t page = weiri_os_page_bytes();
	const char *at =
	    weiri_guard_find_written(guarded->area, guarded->area + page);

	if (WEIR_LIKELY(at == NULL) || !WEIR_DETECTOR(guard_ready))
		return true;
	weiri_mutex_lock(&S.lock);
	weiri_space_retire(space, guarded);
	weiri_mutex_unlock(&S.lock);
	ready_tell(space, guarded, at);
	(void)weiri_os_bar(guarded->area, page);
	return false;
}
