/* SPDX-License-Identifier: MIT */
/*
 * guard.h - what happens when a program misuses a pool.
 *
 * Every pool reports a caller's bug to one reporter.  It writes one line to
 * standard error without allocating,
 *
 *     weir: FAULT double-free: cache "conn": object 0x7f32a0014080 is free
 *
 * calls the hook if one is set, and aborts.
 */
#ifndef WEIR_GUARD_H
#define WEIR_GUARD_H

#include <weir/export.h>

WEIR_BEGIN_DECLS

/*
 * The classes of faults: enumerator, the word in the report.  One list feeds
 * the enum and the texts, so that neither can miss an entry.
 */
#define WEIR_FAULT_CLASSES(X)                       \
	X(DOUBLE_FREE, "double-free")               \
	X(FOREIGN_POINTER, "foreign-pointer")       \
	X(INTERIOR_POINTER, "interior-pointer")     \
	X(MISALIGNED_POINTER, "misaligned-pointer") \
	X(WRONG_POOL, "wrong-pool")                 \
	X(LIVE_OBJECTS, "live-objects-at-destroy")  \
	X(DOUBLE_DESTROY, "double-destroy")         \
	X(REF_UNDERFLOW, "reference-underflow")     \
	X(CORRUPTION, "corruption")                 \
	X(BAD_ARGUMENT, "bad-argument")

enum weir_fault_class {
#define X(symbol, text) WEIR_FAULT_##symbol,
	WEIR_FAULT_CLASSES(X)
#undef X
	    WEIR_FAULT_COUNT
};

/** struct weir_fault - what the reporter knows; valid during the hook only. */
struct weir_fault {
	enum weir_fault_class fault_class;
	const char *class_text; /* "double-free" */
	const char *pool_kind;  /* "cache", "region", "buffer", "buddy" */
	const char *pool_name;
	const void *address; /* the pointer the program passed, or NULL */
	const char *line;    /* the whole message without its newline */
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
