/* SPDX-License-Identifier: MIT */
/*
 * runtime.h - the library as a whole: start, options, budget, end.
 *
 * No call is needed: the first use of a pool starts the library with the
 * options found in the environment and the defaults.  weir_init() is for
 * programs that want their own options or a fixed order, weir_shutdown() for
 * those that want a verdict on leaks.
 */
#ifndef WEIR_RUNTIME_H
#define WEIR_RUNTIME_H

#include <weir/export.h>
#include <weir/source.h>

WEIR_BEGIN_DECLS

enum weir_message_level {
	WEIR_MESSAGE_INFO = 0,
	WEIR_MESSAGE_WARNING = 1,
	WEIR_MESSAGE_ERROR = 2,
};

/** Receives the library's messages: one line, no newline, no "weir:". */
typedef void (*weir_message_fn)(
    enum weir_message_level level, const char *line, void *context);

/**
 * Called without locks when @bytes could not be had, after the library gave
 * back what it could; true means "try again, I freed something".
 */
typedef bool (*weir_oom_fn)(size_t bytes, void *context);

/** Called without locks when the charge rises over the soft limit. */
typedef void (*weir_soft_fn)(
    uint64_t charged_bytes, uint64_t soft_bytes, void *context);

enum weir_config_flags {
	WEIR_REPORT_LEAKS = 1
			    << 0, /* weir_shutdown(), else exit, lists leaks */
	WEIR_SHOW_OPTIONS = 1 << 1, /* write the effective options at start */
	WEIR_IGNORE_ENVIRONMENT = 1 << 2,
};

/**
 * struct weir_config - options of the library; zero means default.
 *
 * An option comes from here if set, else from the environment (ignored when
 * the process runs with raised privileges), else from its default.
 *
 *   field        environment        default
 *   limit_bytes  WEIR_LIMIT         the cgroup's memory limit, else none
 *   soft_bytes   WEIR_SOFT          90 % of the limit, else none
 *   source.kind  WEIR_SOURCE        anonymous (huge, memfd)
 *   source.flags WEIR_SOURCE_FLAGS  none (prefault,lock,nodump,notrim)
 *   decay_ms     WEIR_DECAY         10000 (0 is at once; never)
 *   maintain_ms  WEIR_MAINTAIN      no helper thread
 *   guard        WEIR_GUARD         off (sample[:rate], full, tool; :pool,...)
 *   debug        WEIR_DEBUG         off (fail:1%,poison,tag@pool, ...)
 *   flags        WEIR_LEAKS=1, WEIR_SHOW=1
 *
 * Sizes in the environment take the suffixes k, M, G (powers of 1024); times
 * are milliseconds.
 */
struct weir_config {
	uint64_t limit_bytes; /* UINT64_MAX: none, whatever the cgroup says */
	uint64_t soft_bytes;  /* UINT64_MAX: none */
	unsigned flags;       /* enum weir_config_flags */
	struct weir_page_source source;
	weir_message_fn message; /* default: standard error */
	void *message_context;
	weir_oom_fn oom; /* default: none */
	void *oom_context;
	weir_soft_fn soft; /* default: none */
	void *soft_context;
	uint64_t decay_ms;    /* idle memory goes back within; see
				 weir_maintain(); or a value below */
	uint64_t maintain_ms; /* a helper thread calls it this often */
	const char *guard;    /* mode and pools; see weir/guard.h */
	const char *debug;    /* items and pools; see weir_debug_set() */
	uint64_t reserved[4];
};

/** Values of weir_config.decay_ms beside a number of milliseconds. */
#define WEIR_DECAY_AT_ONCE (UINT64_MAX - 1)
#define WEIR_DECAY_NEVER UINT64_MAX

/**
 * weir_init() - start the library with options.
 * @config: copied; NULL for the environment and the defaults.
 *
 * Returns:   0; -EALREADY when the library has started (a pool was used or
 *            weir_init() was called); -EINVAL for a field out of range, a
 *            range not aligned to 4 KiB, a reserved field set, and
 *            config->message or standard error is told which.
 * Ownership: hooks, contexts and a range must stay until the process ends.
 * Threads:   one thread, before others use the library.
 * Cost:      microseconds.
 * Errors:    on failure nothing is changed.
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD int weir_init(const struct weir_config *config)
    WEIR_NOEXCEPT;

/**
 * weir_shutdown() - end the use of the library and say what is left.
 *
 * Gives idle memory back and, with WEIR_REPORT_LEAKS or WEIR_LEAKS=1, writes
 * one message for each pool that still has objects out or was not destroyed.
 *
 * Returns:   the number of objects still out, over all pools.
 * Ownership: pools still in being stay usable: shutting down is a statement,
 *            not a demolition, so late frees in exit handlers are safe.
 * Threads:   one thread, when the others are done.
 * Cost:      linear in the idle objects.
 * Errors:    none.  A second call reports again.
 * Since:     0.1
 */
WEIR_API uint64_t weir_shutdown(void) WEIR_NOEXCEPT;

/**
 * weir_options_text() - write the effective options, one "name = value" a line.
 * @buffer: receives a NUL-terminated text, cut when it does not fit.
 * @bytes:  size of @buffer; 0 is allowed.
 *
 * Returns:   the bytes of the whole text without its NUL, as snprintf does.
 * Ownership: writes only into @buffer.
 * Threads:   any thread; starts the library if need be.
 * Cost:      formatting only.
 * Errors:    none.
 * Since:     0.1
 */
WEIR_API size_t weir_options_text(char *buffer, size_t bytes) WEIR_NOEXCEPT;

/**
 * weir_set_limit() - change the process budget at run time.
 * @limit_bytes: hard limit, UINT64_MAX for none.
 * @soft_bytes:  soft limit, UINT64_MAX for none; at most @limit_bytes.
 *
 * Returns:   0, or -EINVAL when the soft limit is above the hard one, said in
 *            a message.
 * Ownership: memory already taken stays; requests fail until it is below.
 * Threads:   any thread.
 * Cost:      a few stores.
 * Errors:    none beside the return value.
 * Since:     0.1
 */
WEIR_API int weir_set_limit(uint64_t limit_bytes, uint64_t soft_bytes)
    WEIR_NOEXCEPT;

/**
 * weir_trim() - give everything idle back to the system.
 *
 * Returns:   bytes given back.
 * Ownership: objects in use are untouched.
 * Threads:   any thread.  Not async-signal-safe.
 * Cost:      linear in the idle objects, system calls.
 * Errors:    none.
 * Since:     0.1
 */
WEIR_API size_t weir_trim(void) WEIR_NOEXCEPT;

/* ---- giving back little by little --------------------------------------- */

/**
 * weir_maintain() - a bounded piece of giving idle memory back.
 * @budget_ns: time to spend; the call ends with the first step that passes
 *             it, and goes on there next time.  A step takes microseconds, or
 *             what the system takes to accept 1 MiB, 2 MiB of a pool of
 *             buffers, or a program's fini.
 *             UINT64_MAX: all that is due.
 *
 * For event loops, at each turn or on a timer of a few per decay_ms.  What pools
 * keep for reuse and nobody needed for a quarter of decay_ms goes back to the
 * system over the next quarter, so that a load that swings faster finds its
 * memory warm, and a spike that is over ends as a slope.  Also taken are spare
 * magazines of threads that stopped using a pool, and the calling thread's
 * magazines of pools that it did not use since the last pass, of which there are
 * 64 per decay_ms at most.  Memory that weir_cache_config.prealloc asked for
 * stays.
 *
 * Returns:   true when more is due now than the budget allowed.
 * Ownership: objects in use are untouched; fini hooks of pools may run.
 * Threads:   any number; one at a time does the work, for the others it is
 *            weir_thread_poll().  Not from inside a hook that the library
 *            calls.
 * Cost:      one clock reading when nothing is due, 30 ns.  A pass costs
 *            another 100 ns a pool, and some 0.2 ms a MiB that goes back, 2 ms
 *            where it was objects of 16 bytes.
 * Errors:    none.
 * Since:     0.1
 */
WEIR_API bool weir_maintain(uint64_t budget_ns) WEIR_NOEXCEPT;

/**
 * weir_maintain_start() - have a helper thread call weir_maintain().
 * @interval_ms: time between its calls, 1 .. 3600000.
 *
 * The thread has all signals blocked and a stack of 256 KiB.  fini hooks of
 * pools may run on it.  It does not exist in a fork's child.
 *
 * Returns:   0; -EALREADY when it runs; -EINVAL for an interval out of range;
 *            -EAGAIN or another code when the system gives no thread.
 * Ownership: weir_maintain_stop() or weir_shutdown() ends it.
 * Threads:   any thread, not from inside a hook.
 * Cost:      creates a thread.
 * Errors:    on failure nothing is changed.
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD int weir_maintain_start(uint64_t interval_ms)
    WEIR_NOEXCEPT;

/**
 * weir_maintain_stop() - end the helper thread.
 *
 * The thread is gone when the call returns; without one it does nothing.
 *
 * Ownership: nothing changes hands.
 * Threads:   any thread, not from inside a hook.
 * Cost:      waits for the pass the thread is at.
 * Errors:    none.
 * Since:     0.1
 */
WEIR_API void weir_maintain_stop(void) WEIR_NOEXCEPT;

/**
 * weir_thread_poll() - give back what this thread keeps of pools it left.
 *
 * What a thread has in its loaded magazines only the thread itself can give
 * back.  A thread that does not call weir_maintain() and may sit idle calls this
 * in its loop; it acts when a pass of weir_maintain(), by whomever, came by
 * since its last call, and gives back the magazines of pools that the thread has
 * not used in between, and of those whose limit was lowered.
 *
 * Ownership: objects in use are untouched.
 * Threads:   any thread, not from inside a hook.
 * Cost:      two loads when no pass came by; else a look at each pool's
 *            cursor, and a lock and a few microseconds a magazine.
 * Errors:    none.
 * Since:     0.1
 */
WEIR_API void weir_thread_poll(void) WEIR_NOEXCEPT;

/**
 * weir_set_decay() - change decay_ms at run time.
 * @decay_ms: milliseconds, WEIR_DECAY_AT_ONCE or 0 to give idle memory back at
 *            the next weir_maintain(), WEIR_DECAY_NEVER to keep it.
 *
 * Ownership: nothing changes hands.
 * Threads:   any thread.
 * Cost:      a few stores.
 * Errors:    none.
 * Since:     0.1
 */
WEIR_API void weir_set_decay(uint64_t decay_ms) WEIR_NOEXCEPT;

WEIR_END_DECLS

#endif /* WEIR_RUNTIME_H */
