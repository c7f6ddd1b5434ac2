/* SPDX-License-Identifier: MIT */
/*
 * handle.h - names of objects that may be gone when they are used.
 *
 * A timer, a completion, a peer or another thread's table remembers a
 * connection; the connection ends, its memory serves the next one, and the old
 * pointer finds a stranger.  A handle says which object and which use of it is
 * meant: weir_cache_resolve() answers NULL as soon as the object was freed,
 * however often its memory was reused since.
 *
 *     struct weir_handle owner = weir_cache_handle(conns, conn);
 *     ...
 *     struct conn *conn = (struct conn *)weir_cache_resolve(conns, owner);
 *     if (conn == NULL)
 *             return;                        // it is gone: nothing to do
 *
 * A handle is a plain value of 64 bits: copy it, compare it, keep it in an
 * atomic.  A compare-and-swap on its bits cannot be fooled as one on pointers
 * is, where A was freed and its address came back as A (the ABA problem):
 *
 *     uint64_t seen = atomic_load(&slot->waiter);        // a handle's bits
 *     ...                                                // decide
 *     atomic_compare_exchange_strong(&slot->waiter, &seen, 0);
 *                              // succeeds for that very waiter, no successor
 *
 * What a handle is not:
 *   - a reference.  Nothing keeps an object that was resolved; whoever may free
 *     it must be ordered against whoever uses it, as with a pointer.
 *   - a secret.  Generations start at a random number, so a guess hits with
 *     2^-32, but whoever has seen one handle of an object knows the next.
 *   - for ever.  The generation has 32 bits.  A handle that was kept while its
 *     object was freed 2^32 times (at a free each 10 ns, 43 seconds of nothing
 *     else) fits again until the next free.
 */
#ifndef WEIR_HANDLE_H
#define WEIR_HANDLE_H

#include <weir/export.h>

WEIR_BEGIN_DECLS

struct weir_cache;

/** struct weir_handle - one use of one object; all bits 0: of none. */
struct weir_handle {
	uint64_t bits; /* equal exactly if the handles are */
};

/**
 * weir_cache_handle() - the handle of an object in use.
 * @cache:  a cache created with WEIR_CACHE_HANDLES.
 * @object: an object of @cache in use, or NULL.
 *
 * Returns:   the same handle for the same use of an object each time, never
 *            all bits 0; for NULL that one.
 * Ownership: nothing changes hands; a handle is a value.
 * Threads:   any thread that may use @object.  No lock.
 * Cost:      67 instructions.
 * Errors:    a pointer that is no object of @cache, at WEIR_CHECK_EACH one that
 *            is free, and a cache without handles are faults (weir/guard.h).
 * Since:     0.1
 */
WEIR_API struct weir_handle weir_cache_handle(
    struct weir_cache *cache, const void *object) WEIR_NOEXCEPT;

/**
 * weir_cache_resolve() - the object of a handle, if it is still in use.
 * @cache:  a live cache, with handles or not.
 * @handle: any 64 bits.
 *
 * Returns:   the object if it has not been freed since the handle was made;
 *            NULL if it has, if it is one of another cache, also one that was
 *            destroyed, and for bits that never were a handle.
 * Ownership: the object stays whose it was.
 * Threads:   any number, no lock, no store.  When a free of the object happened
 *            before the call, the answer is NULL.  When one happens at the same
 *            time, the answer is NULL or an object that was in use at a moment
 *            within the call and may be gone at its return: the pointer is the
 *            right one, and using it is what the program must order against the
 *            free.  Memory that is given back meanwhile is never read.
 * Cost:      29 instructions, three cache lines.
 * Errors:    none.  A live handle of another cache is told to the message hook,
 *            once for each @cache.
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD void *weir_cache_resolve(
    struct weir_cache *cache, struct weir_handle handle) WEIR_NOEXCEPT;

WEIR_END_DECLS

#endif /* WEIR_HANDLE_H */
