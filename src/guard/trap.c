/* SPDX-License-Identifier: MIT */
/*
 * trap.c - an access that trapped, turned into a report.
 *
 *     access --> page that traps --> SIGSEGV --> record of the place --> report
 *
 * A fault elsewhere is another's, with one exception: next to the stack pointer
 * and to the end of the thread's stack it is a stack that was too small, which
 * nothing else says in so many words: that is told, and aborts.
 *
 * Where the program is to go on, the page it touched is made accessible: it
 * belongs to a place that is never used again, and its neighbour when the page
 * lies between two.  The access is then tried again and finds zeroes.
 */
#include "base/bits.h"
#include "guard/arena.h"
#include "guard/fault.h"
#include "guard/state.h"
#include "os/guard.h"

#define S weiri_guard_state

/* How far below the stack pointer an access of the stack may be, and how far
 * around the end of the stack the pages that catch it. */
#define TRAP_STACK_NEAR ((uintptr_t)64 << 10)

static const char *const trap_access[] = {
    [WEIRI_OS_ACCESS_ANY] = "access",
    [WEIRI_OS_ACCESS_READ] = "read",
    [WEIRI_OS_ACCESS_WRITE] = "write",
};

void
weiri_trap_judge(struct weiri_fault_site *site,
    const struct weiri_guarded *guarded, bool writes)
{
	const char *at = site->address;
	const char *end = guarded->start + guarded->bytes;
	bool reads = !writes;

	if (guarded->state >= WEIRI_GUARDED_ENDING &&
	    WEIR_DETECTOR(trap_ended)) {
		site->fault_class = WEIR_FAULT_USE_AFTER_FREE;
		site->other = weiri_guard_how_text[guarded->how];
		site->detail = reads ? "read at %p, of an object that ended by "
				       "%s"
				     : "write at %p, to an object that ended "
				       "by %s";
	} else if (at >= end && WEIR_DETECTOR(trap_behind)) {
		site->fault_class = WEIR_FAULT_OVERFLOW;
		site->number = (uint64_t)(at - end);
		site->detail = reads ? "read at %p, %u byte%{|s} behind the "
				       "object"
				     : "write at %p, %u byte%{|s} behind the "
				       "object";
	} else {
		site->fault_class = WEIR_FAULT_UNDERFLOW;
		site->number = (uint64_t)(guarded->start - at);
		site->detail = reads ? "read at %p, %u byte%{|s} before the "
				       "object"
				     : "write at %p, %u byte%{|s} before the "
				       "object";
	}
}

/* The page may be used from now on, and nobody else gets the places around. */
static bool
trap_let_pass(struct weiri_space *space, struct weiri_guarded *guarded,
    const void *address)
{
	size_t page = weiri_os_page_bytes();
	char *base = (char *)((uintptr_t)address & ~(page - 1));
	struct weiri_guarded *behind = weiri_space_find(space, address);

	WEIRI_STORE(&guarded->bad, true);
	if (behind != NULL)
		WEIRI_STORE(&behind->bad, true);
	return weiri_os_unbar(base, page) == 0;
}

/* Returns if the program goes on, which it may only if it @can. */
static void
trap_tell(const struct weiri_os_fault *fault,
    const struct weiri_guarded *guarded, bool can)
{
	const struct weiri_guard_name *name = weiri_guard_name_of(guarded);
	struct weiri_fault_site site = {
	    .address = fault->address,
	    .operation = trap_access[fault->access],
	    .trapped = fault,
	    .pool_kind = name->kind,
	    .pool_name = name->name,
	    .pool_type = name->type,
	    .object = guarded,
	};

	weiri_trap_judge(
	    &site, guarded, fault->access == WEIRI_OS_ACCESS_WRITE);
	site.goes_on = can && weiri_guard_goes_on(site.fault_class,
				  (enum weir_guard_mode)guarded->mode);
	__atomic_fetch_add(&S.reports, 1, __ATOMIC_RELAXED);
	weiri_fault_tell(&site);
}

static bool
trap_guarded(const struct weiri_os_fault *fault)
{
	struct weiri_space *space = NULL;
	struct weiri_guarded *guarded =
	    weiri_guard_find(fault->address, &space);

	if (guarded == NULL || !WEIR_DETECTOR(trap_object))
		return false;
	trap_tell(fault, guarded, true);
	return trap_let_pass(space, guarded, fault->address);
}

/* In a range that its pool guards; it may have no memory any more. */
static bool
trap_arena(const struct weiri_os_fault *fault)
{
	size_t page = weiri_os_page_bytes();
	char *base = (char *)((uintptr_t)fault->address & ~(page - 1));
	struct weiri_guarded view;

	if (!weiri_arena_view(fault->address, &view) ||
	    !WEIR_DETECTOR(trap_arena))
		return false;
	trap_tell(fault, &view, true);
	return weiri_os_commit(base, page) == 0 &&
	       weiri_os_unbar(base, page) == 0;
}

/* Returns if it is not for want of stack. */
static void
trap_stack(const struct weiri_os_fault *fault)
{
	const struct weiri_guard_thread *self = &weiri_guard_self;
	uintptr_t at = (uintptr_t)fault->address;

	if (!self->ready || self->high == 0 || fault->stack == 0 ||
	    at + TRAP_STACK_NEAR < fault->stack ||
	    at > fault->stack + TRAP_STACK_NEAR ||
	    at + TRAP_STACK_NEAR < self->low ||
	    at > self->low + TRAP_STACK_NEAR || !WEIR_DETECTOR(trap_stack))
		return;
	weiri_fault(&(struct weiri_fault_site){
	    .fault_class = WEIR_FAULT_STACK_OVERFLOW,
	    .address = fault->address,
	    .number = self->number,
	    .operation = trap_access[fault->access],
	    .detail = "%p is below the stack of thread %u",
	    .trapped = fault,
	});
}

/* Before the first object of such a range: that is nobody's page, so the program
 * cannot go on.  Returns if it is not that. */
static void
trap_before_arena(const struct weiri_os_fault *fault)
{
	struct weiri_guarded view;

	if (!weiri_arena_view_before(fault->address, &view) ||
	    !WEIR_DETECTOR(trap_before_arena))
		return;
	trap_tell(fault, &view, false);
}

static bool
trap_fault(const struct weiri_os_fault *fault)
{
	/* The report itself went wrong: the program's bug is told as far as it
	 * was, and the process ends as it would have. */
	if (weiri_guard_self.reporting)
		return false;
	if (trap_guarded(fault) || trap_arena(fault))
		return true;
	trap_stack(fault);
	trap_before_arena(fault);
	return false;
}

void
weiri_trap_start(void)
{
	static bool started; /* under the guard's lock */

	if (!started)
		(void)weiri_os_catch_faults(trap_fault);
	started = true;
}
