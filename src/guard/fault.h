/* SPDX-License-Identifier: MIT */
/*
 * fault.h - the one reporter of a caller's bugs.
 */
#ifndef WEIRI_FAULT_H
#define WEIRI_FAULT_H

#include "base/compiler.h"
#include "base/detector.h"

#include <weir/guard.h>

struct weiri_guarded;
struct weiri_os_fault;

/*
 * Writes "weir: FAULT <class>: <kind> "<name>": <detail>; <advice>" and what
 * else is known, calls the hook and aborts.  The advice is that of the class
 * (weir/guard.h).  Allocates nothing, takes no lock, async-signal-safe; callers
 * have released their locks, because a hook may leave by longjmp.  @pool_kind and
 * @pool_name may be NULL.
 *
 * @detail is a short clause; in it %p stands for @address, %u for @number and
 * %s for @other, each used at most once, and "%{object is|objects are}" for the
 * half that goes with @number.
 *
 * If @address is in a place for guarded objects, the object is told as well.
 */
struct weiri_fault_site {
	enum weir_fault_class fault_class;
	const char *pool_kind;
	const char *pool_name;
	const char *pool_type; /* of its objects; NULL or empty: not known */
	const void *address;
	uint64_t number;
	const char *other;
	const char *detail;
	/* For who knows more; zero else. */
	const char *operation;                /* "read", "write", "free" */
	const struct weiri_guarded *object;   /* the one concerned */
	const struct weiri_os_fault *trapped; /* where the thread was */
	bool goes_on;                         /* return after the hook */
};

/* Returns only with @goes_on. */
WEIRI_COLD void weiri_fault_tell(const struct weiri_fault_site *site);

WEIRI_COLD WEIRI_NORETURN void weiri_fault(const struct weiri_fault_site *site);

#endif /* WEIRI_FAULT_H */
