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
 * (one line, broken here), lines that say more, among them the stack of the
 * caller, all of it once more as a line of JSON, calls the hook if one is set,
 * and aborts.  What stands behind the last semicolon of the first line is the
 * advice of the class, always the same.
 *
 * What pools check at every call is always on.  Two modes more find what no
 * check at a call can: reads and writes past an object's end, or after its end.
 * An object under guard has pages of its own between pages that trap, and is
 * known with the stacks that took it and gave it back.
 *
 *   off     nothing is under guard
 *   sample  some objects are: so few that a server can afford it at all times
 *   full    every object is, and stays known after its end: for tests
 *   tool    every object is a block of malloc(), so that AddressSanitizer,
 *           Valgrind and heaptrack see objects as they see those: for tests
 *           under these tools
 *
 * The mode comes from weir_config.guard or WEIR_GUARD, and weir_guard_set()
 * changes it at any time.  docs/SECURITY-MODEL.md has what each finds and costs.
 */
#ifndef WEIR_GUARD_H
#define WEIR_GUARD_H

#include <weir/export.h>

WEIR_BEGIN_DECLS

/* ---- faults ------------------------------------------------------------ */

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
	    "compare the call with its comment in the header")                \
	X(USE_AFTER_FREE, "use-after-free",                                   \
	    "find who kept the pointer when the object ended")                \
	X(OVERFLOW, "overflow",                                               \
	    "compare the length with the size the object was taken with")     \
	X(UNDERFLOW, "underflow",                                             \
	    "find the index or the pointer that went below the object")       \
	X(STACK_OVERFLOW, "stack-overflow",                                   \
	    "bound the recursion, or give the thread more stack")             \
	X(USE_AFTER_DESTROY, "use-after-destroy",                             \
	    "destroy the pool after its last use, or end that use before")    \
	X(WRONG_SIZE, "wrong-size",                                           \
	    "pass the size that was last asked for, or free without one")     \
	X(WRONG_THREAD, "wrong-thread",                                       \
	    "hand it off on its owner's thread and take it over on this one") \
	X(BROKEN_STATE, "broken-state",                                       \
	    "put back what init set up before the free, or leave it alone")
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
	const char *line;    /* the first line without its newline */
	const char *advice;  /* "find its two owners: ..." */
	const char *json;    /* all of it, one JSON object without a newline */
	/* Of an object under guard: */
	const void *object; /* where it begins; NULL: none is concerned, or
			       numbers are */
	size_t object_bytes;
	bool goes_on; /* when the hook returns, so does the faulty call */
};

/**
 * weir_fault_fn - called after the report was written, before the abort.
 *
 * It may log, dump or leave by longjmp in tests; when it returns the process
 * aborts, unless the policy of the class says otherwise.  A fault of an access
 * to memory calls it in a signal handler.  The pool's state is as before the faulty call.  A longjmp must not
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

/* ---- modes ------------------------------------------------------------- */

enum weir_guard_mode {
	WEIR_GUARD_OFF = 0,
	WEIR_GUARD_SAMPLE = 1,
	WEIR_GUARD_FULL = 2,
	WEIR_GUARD_TOOL = 3,
};

/**
 * struct weir_guard_config - what weir_guard_set() is told; zero means default.
 *
 * The same as text, for WEIR_GUARD and weir_config.guard:
 *
 *     off | sample[:rate] | full | tool, and :pool,pool,... for these pools alone
 *
 * A pool is named by its name, or by the beginning of it and a star.
 */
struct weir_guard_config {
	enum weir_guard_mode mode;
	/* Names, a comma between two; NULL: all.  Of other pools none is under
	 * guard. */
	const char *pools;
	/* One of so many objects, 1 being all; 0: as many as sample_per_s
	 * allows. */
	uint32_t sample_rate;
	uint32_t sample_per_s; /* most in a second; 0: 1,000; see below */
	uint64_t reserved[6];  /* must be zero */
};

/** What a fault of a class leads to. */
enum weir_guard_policy {
	/* Mode sample goes on, all else aborts (default). */
	WEIR_GUARD_BY_MODE = 0,
	WEIR_GUARD_ABORT = 1,
	/* The faulty call has no effect, or the faulty access one on memory
	 * that is nobody's, and the program goes on.  The object is never used
	 * again.  For faults of objects under guard; any other aborts. */
	WEIR_GUARD_GO_ON = 2,
};

/**
 * weir_guard_set() - change the mode of the guard.
 * @config: copied; NULL is off.
 *
 * Objects that are out stay what they are: those under guard until they are
 * freed, the others unguarded.  A thread takes notice when it next exchanges a
 * magazine of the pool, in weir_maintain() and weir_thread_poll(), and with a
 * cache at level `each` within 65,535 requests.  What buddies keep back for the
 * guard's sake is free, and none of it traps, when a call that turns it off returns
 * (weir/buddy.h).  What weir_init() or the environment set holds from the first
 * object.
 *
 * In mode sample, an object of a cache at level `each` or of a heap is picked by
 * a countdown in each thread, so that any pattern of use is sampled; of a cache
 * at level `batch` only an object that comes with a magazine is, and a free that
 * goes into the thread's magazine is looked at when that comes to the depot.
 *
 * Returns:   0; -EINVAL (an unknown mode, a list of pools longer than 255 bytes,
 *            a reserved field set), said in a message; -ENOMEM without address
 *            space for the guard.
 * Ownership: copies.
 * Threads:   any thread.  Not async-signal-safe.
 * Cost:      linear in the pools.
 * Errors:    on failure nothing is changed.
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD int weir_guard_set(
    const struct weir_guard_config *config) WEIR_NOEXCEPT;

/**
 * weir_debug_set() - put items of the debug menu in force, for whoever searches.
 * @menu: items with a comma between two, copied; NULL or "": none.
 *
 * As text for WEIR_DEBUG and weir_config.debug, too.  An item is for all pools, or
 * with @pool behind it for one, or for those whose names begin as a name that
 * ends with a star; it may be there more than once:
 *
 *   fail:P%       so many of all requests fail, as for want of memory
 *   fail-nth:N    request number N fails, counted from this call; N+: and all
 *                 behind it
 *   seed:N        which ones fail:P% means; without it one is drawn and told
 *   poison        objects hold a pattern at first and after their end, where it
 *                 is looked at before the memory is used again
 *   tag           words behind each object lead to its pool's name, and are looked
 *                 at when it ends
 *   caller        the stacks that took and ended an object are kept, and a word
 *                 behind it leads to the last
 *   cold-first    memory is used again as late as possible, not as soon
 *   no-cache      threads keep no objects: each call goes to the pool's stock
 *   integrity     what an object holds when it ends stays there, and is compared
 *                 before the memory is used again
 *   pass-through  each object is a block of malloc(), as in mode tool
 *
 *     weir_debug_set("fail:0.1%,seed:7,poison@conn,poison@req*");
 *
 * Modes full and tool come first: of their pools all that is on the menu beside
 * fail, fail-nth and no-cache is what they do by themselves.  When threads take
 * notice is as with weir_guard_set().
 *
 * Returns:   0; -EINVAL for what is not on the menu, said in a message with what
 *            is nearest; -ENOMEM without address space.
 * Ownership: copies.
 * Threads:   any thread.  Not async-signal-safe.
 * Cost:      linear in the pools.  Off, a request costs nothing more.
 * Errors:    on failure nothing is changed.
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD int weir_debug_set(const char *menu) WEIR_NOEXCEPT;

/**
 * weir_guard_set_policy() - what happens after a fault of a class.
 * @fault_class: one of the classes, or WEIR_FAULT_COUNT for all.
 * @policy:      WEIR_GUARD_BY_MODE puts the default back.
 *
 * Returns:   0, or -EINVAL for what is none of them.
 * Ownership: nothing changes hands.
 * Threads:   any thread.
 * Cost:      a store.
 * Errors:    none beside the return value.
 * Since:     0.1
 */
WEIR_API int weir_guard_set_policy(enum weir_fault_class fault_class,
    enum weir_guard_policy policy) WEIR_NOEXCEPT;

/** struct weir_guard_stats - figures of the guard. */
struct weir_guard_stats {
	size_t size;          /* set to sizeof(*out) before the call */
	uint64_t guarded;     /* objects that were put under guard so far */
	uint64_t live;        /* of them, in use */
	uint64_t quarantined; /* of them, ended and known */
	uint64_t refused;     /* were to be and could not, for want of room */
	uint64_t reports;     /* of objects under guard */
	uint64_t bytes;       /* memory in use for all of it, about */
	uint64_t failed;      /* requests that the debug menu had fail */
	uint64_t reserved[3];
};

/**
 * weir_guard_read() - read the figures of the guard.
 * @out: filled whole; set out->size to sizeof(*out) first.
 *
 * Returns:   0, or -EINVAL when out->size is none this library knows.
 * Ownership: copies into the caller's storage.
 * Threads:   any thread.
 * Cost:      a lock.
 * Errors:    none beside the return value.
 * Since:     0.1
 */
WEIR_API int weir_guard_read(struct weir_guard_stats *out) WEIR_NOEXCEPT;

/* ---- leaks ------------------------------------------------------------- */

/** Objects under guard of one pool, taken by one stack, that are in use. */
struct weir_leak {
	const char *pool_kind;
	const char *pool_name;
	uint64_t objects;
	uint64_t bytes;
	uint64_t age_ns_min, age_ns_max; /* of the newest, the oldest */
	/* Of them, in use for longer than suspect_ns: four times what 99 of 100
	 * of the pool's objects lived.  0: fewer than 100 ended so far. */
	uint64_t suspects;
	uint64_t suspect_ns;
	const void *const *stack; /* who took them, innermost first */
	size_t stack_count;
	const char *line; /* all that in a line, without a newline */
	const char *json; /* the same as one JSON object */
};

/** Told of one; false: no more.  What it is told is valid during the call. */
typedef bool (*weir_leak_fn)(const struct weir_leak *leak, void *context);

enum weir_leaks {
	WEIR_LEAKS_ALL = 0,
	WEIR_LEAKS_SUSPECTS = 1, /* those with a suspect among them */
};

/**
 * weir_guard_leaks() - tell which objects under guard are in use, and since when.
 * @which:   all of them, or what has been in use for unusually long.
 * @tell:    called for each; NULL: they are written, as messages with the frames
 *           of their stacks and as lines of JSON on standard error, of which
 *           `weir symbolize` makes functions and lines.
 * @context: handed to @tell.
 *
 * In mode full these are all objects; what a program leaves at its end is told so
 * with WEIR_LEAKS=1.  In mode sample they are samples, and the suspects among them
 * are what a server may have forgotten.  At most 32 are told, those with the most
 * bytes.
 *
 * Returns:   how many there are to tell.
 * Ownership: nothing changes hands.
 * Threads:   any thread; no lock is held while @tell runs.  Not
 *            async-signal-safe.
 * Cost:      linear in the objects under guard, which threads that put some there
 *            wait for; 8 KiB of stack at most.
 * Errors:    none.
 * Since:     0.1
 */
WEIR_API size_t weir_guard_leaks(
    enum weir_leaks which, weir_leak_fn tell, void *context) WEIR_NOEXCEPT;

WEIR_END_DECLS

#endif /* WEIR_GUARD_H */
