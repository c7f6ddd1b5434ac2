/* SPDX-License-Identifier: MIT */
/*
 * guard.h - what happens when a program misuses a pool.
 *
 * Every pool reports a caller's bug to one reporter.  It writes one line to
 * standard error without allocating,
 *
 *     weir: FAULT double-free: cache "conn": object 0x7f32a0014080 is free
 *     already; find its two owners: each object is freed once
 *
 * (one line, broken here), calls the hook if one is set, and aborts.  What
 * stands behind the last semicolon is the advice of the class, always the same.
 */
#ifndef WEIR_GUARD_H
#define WEIR_GUARD_H

#include <weir/export.h>

WEIR_BEGIN_DECLS

/*
 * The classes of faults: enumerator, the word in the report, what to do.  One
 * list feeds the enum and the texts, so that none can miss an entry.
 */
/* clang-format off */
#define WEIR_FAULT_CLASSES(X)                                                 \
	X(DOUBLE_FREE, "double-free",                                         \
	    "find its two owners: each object is freed once")                 \
	X(FOREIGN_POINTER, "foreign-pointer",                                 \
	    "pass only what was handed out here and not given back")          \
	X(INTERIOR_POINTER, "interior-pointer",                               \
	    "pass the pointer that was handed out, not one into its memory")  \
	X(MISALIGNED_POINTER, "misaligned-pointer",                           \
	    "pass the pointer that was handed out: this one was changed")     \
	X(WRONG_POOL, "wrong-pool",                                           \
	    "give it back to the pool it came from")                          \
	X(LIVE_OBJECTS, "live-objects-at-destroy",                            \
	    "give everything back first, or destroy the pool later")          \
	X(DOUBLE_DESTROY, "double-destroy",                                   \
	    "destroy once, and use nothing of it afterwards")                 \
	X(REF_UNDERFLOW, "reference-underflow",                               \
	    "release once for each acquire and each retain")                  \
	X(CORRUPTION, "corruption",                                           \
	    "find the write past an end or after a free: watch this address") \
	X(BAD_ARGUMENT, "bad-argument",                                       \
	    "compare the call with its comment in the header")
/* clang-format on */

enum weir_fault_class {
#define X(symbol, text, advice) WEIR_FAULT_##symbol,
	WEIR_FAULT_CLASSES(X)
#undef X
	    WEIR_FAULT_COUNT
};

/** struct weir_fault - what the reporter knows; valid during the hook only. */
struct weir_fault {
	enum weir_fault_class fault_class;
	const char *class_text; /* "double-free" */
	const char *pool_kind;  /* "cache", "heap", "buffer", ... */
	const char *pool_name;
	const void *address; /* the pointer the program passed, or NULL */
	const char *line;    /* the whole message without its newline */
	const char *advice;  /* "find its two owners: ..." */
};

/**
 * weir_fault_fn - called after the line was written, before the abort.
 *
 * It may log, dump or leave by longjmp in tests; when it returns the process
 * aborts.  The pool's state is as before the faulty call.  A longjmp must not
 * cross a call-back that the library is running, as a region's cleanup: the
 * call that runs it would be left half done.
 */
typedef void (*weir_fault_fn)(const struct weir_fault *fault, void *context);

/**
 * weir_guard_set_hook() - set the hook for faults.
 * @hook:    NULL removes it.
 * @context: handed to @hook.
 *
 * Ownership: @context stays the caller's and must outlive the hook.
 * Threads:   any thread; set it before other threads use pools.
 * Cost:      two stores.
 * Errors:    none.
 * Since:     0.1
 */
WEIR_API void weir_guard_set_hook(weir_fault_fn hook, void *context)
    WEIR_NOEXCEPT;

WEIR_END_DECLS

#endif /* WEIR_GUARD_H */
