/* SPDX-License-Identifier: MIT */
/*
 * cache.h - named caches of equal-sized objects.
 *
 * A cache hands out objects of one size and one alignment.  Each thread keeps
 * a magazine of free objects per cache, so the common alloc and free touch no
 * shared memory; objects may be freed on any thread.  Constructed state can
 * survive between uses (init/fini), or be set at each use (ctor/dtor).
 *
 * A cache created with the default checking level recognises at the call a
 * second free, a foreign, interior or misaligned pointer and an object of
 * another cache, and reports it through weir/guard.h; two frees of one object
 * at the same moment are found when its magazine comes back to the cache.  At
 * level WEIR_CHECK_BATCH, for the fastest paths, all of this is found then and
 * no call looks at anything: the report names the object, but comes up to two
 * magazines of frees later, and an object freed twice may have been handed out
 * twice before.  Calls on a destroyed cache are recognised until some 30 other
 * pools ended, or a trim.  Not recognised are reads and writes through stale
 * pointers and a stale free after the object was handed out again; the modes of
 * weir/guard.h are for these.
 */
#ifndef WEIR_CACHE_H
#define WEIR_CACHE_H

#include <weir/limit.h>
#include <weir/local.h>
#include <weir/stats.h>

#include <string.h>

WEIR_BEGIN_DECLS

struct weir_cache;

/**
 * weir_cache_hook_fn - sets up or takes down the state of one object.
 * @object:  storage of object_bytes bytes.
 * @context: the pointer given in the configuration.
 *
 * Runs on a thread that is in a call of the library - alloc or free, also
 * create, trim and destroy, and for fini any call that is short of memory -
 * never under a lock of the library.  It may use other pools but not the cache
 * it was called for.
 */
typedef void (*weir_cache_hook_fn)(void *object, void *context);

/**
 * weir_cache_verify_fn - says whether an object is as init left it.
 * @object:  one that was freed, after its dtor; only read.
 * @context: the pointer given in the configuration.
 *
 * Returns true if it is, or in another state that a next use may begin with.
 * Runs as the hooks do, but under guard alone.
 */
typedef bool (*weir_cache_verify_fn)(const void *object, void *context);

/**
 * weir_cache_visit_fn - is shown one object in use.
 * @object:  may be freed in the call, alone of all objects of its cache.
 * @context: the pointer given with the function.
 *
 * Returns true to go on.
 */
typedef bool (*weir_cache_visit_fn)(void *object, void *context);

/**
 * weir_cache_notify_fn - told that there is room in a cache again.
 * @cache:   one created with WEIR_LIMIT_NOTIFY.
 * @context: the pointer given in the configuration.
 *
 * Called once after one or more requests failed, as soon as no more than
 * notify_at objects are in use: on the thread whose free made it so, which is
 * in weir_cache_free() or, if that happened at the same moment, on the one whose
 * request failed.  No lock of the library is held: it may allocate from @cache
 * and free to it, but not destroy it.  A request of its own that fails makes
 * another call due, which comes at the earliest with the next free outside.
 * What a free inside a hook of the library makes due, as by a dtor for parts of
 * its object, comes when the thread's outermost hook ends.
 * Where it was not the limit that refused a request but memory, and no more than
 * notify_at objects are in use, it is called with the next free, or as soon as
 * there is memory: on the thread that gave memory of the quota back or raised
 * its limit, or, if the process was short of memory, on one in weir_maintain(),
 * whose passes try to get some for the cache.
 * Calls for one cache may overlap if requests fail meanwhile.
 */
typedef void (*weir_cache_notify_fn)(struct weir_cache *cache, void *context);

/** How much a cache verifies when an object comes back. */
enum weir_check_level {
	WEIR_CHECK_EACH = 0,  /* every free is checked at the call (default) */
	WEIR_CHECK_BATCH = 1, /* a magazine at a time, when it comes in */
};

/** What a cache does beyond handing out and taking back; any together. */
enum weir_cache_flags {
	WEIR_CACHE_COUNT = 1 << 0,   /* requests exact at WEIR_CHECK_BATCH too,
					by the slower calls */
	WEIR_CACHE_ZERO = 1 << 1,    /* each object is handed out zeroed */
	WEIR_CACHE_HANDLES = 1 << 2, /* weir_cache_handle(); a free costs some
					80 instructions more, a slot 4 bytes
					that stay when its memory goes back */
	WEIR_CACHE_VERIFY = 1 << 3,  /* under guard, what init wrote is compared
					when an object comes back */
};

/**
 * struct weir_cache_config - what weir_cache_create() is told.
 *
 * At a limit, threads that are idle may withhold free objects, limit / 16 at
 * most in all; created with a limit below 512, the cache keeps none in threads,
 * and each call takes a short lock instead.  With WEIR_LIMIT_WAIT nothing is
 * withheld at any limit, and calls cost two atomic exchanges; with
 * WEIR_LIMIT_NOTIFY each free costs a fence.
 *
 * Zero means the default for every field but object_bytes, so a caller names
 * what it cares about: `{.object_bytes = sizeof(struct conn)}`.
 *
 * What is expensive to set up and good for any use - a lock, a list head, a
 * buffer - belongs in init: it stays while the object's memory is in the cache,
 * from use to use and through trims that leave it there.  What a use begins with
 * belongs in ctor.  A program must free an object with init's state intact; its
 * bytes are not touched while it is free.
 *
 * Whether that is so can be looked at under guard (weir/guard.h): in mode full for
 * each object, in mode sample for some.  With WEIR_CACHE_VERIFY every byte that
 * init wrote must be as init left it; where a use may change some for good, as a
 * buffer that grew, verify is to say instead whether the object is well.  What is
 * not is a fault, told with the stack that took the object; where the program goes
 * on, fini does not run on it.  At level `batch` such a cache has its frees take
 * the slower calls, in every mode, because an object that came to lie in a
 * magazine is asked no more.
 *
 * A cache at level `batch` with init or fini and neither of the two, nor a dtor,
 * handles or WEIR_LIMIT_NOTIFY, has no objects under guard but where mode full, or
 * sample:1, was in force when it was created.
 */
struct weir_cache_config {
	size_t object_bytes;         /* 1 .. WEIR_CACHE_OBJECT_BYTES_MAX */
	size_t object_align;         /* power of two up to 4096; 0: 16 */
	size_t limit;                /* most objects in being; 0: none */
	size_t prealloc;             /* objects made ready at creation */
	enum weir_check_level check; /* 0: WEIR_CHECK_EACH */
	unsigned flags;              /* enum weir_cache_flags */
	weir_cache_hook_fn init;     /* memory enters: once an object */
	weir_cache_hook_fn fini;     /* memory leaves: trim, destroy */
	weir_cache_hook_fn ctor;     /* an object is handed out */
	weir_cache_hook_fn dtor;     /* an object comes back */
	void *context;               /* handed to the four hooks */

	/* When there is nothing to hand out: */
	enum weir_limit_policy policy; /* 0: WEIR_LIMIT_FAIL */
	int notify_fd;                 /* eventfd to add 1 to; 0: none */
	uint64_t timeout_ns; /* of WEIR_LIMIT_WAIT; 0: WEIR_WAIT_FOREVER */
	size_t notify_at;    /* objects in use; 0: 7/8 of the limit */
	weir_cache_notify_fn notify;
	void *notify_context;
	struct weir_quota *quota;    /* its memory is charged to; NULL: none */
	weir_cache_verify_fn verify; /* under guard, of a freed object; NULL */
	/* What the objects are, in reports: "struct conn".  Up to 47 bytes are
	 * kept; NULL: not said. */
	const char *type_name;
	uint64_t reserved[2]; /* must be zero */
};

/** Largest object a cache takes; a region or a buffer serves larger ones. */
#define WEIR_CACHE_OBJECT_BYTES_MAX ((size_t)1 << 20)

/**
 * weir_cache_create() - make a cache.
 * @name:   up to 47 bytes are kept; shown in statistics and reports.
 * @config: object_bytes at least; copied.
 * @out:    receives the cache, NULL on failure.
 *
 * Returns:   0; -EINVAL (object_bytes 0 or too large, object_align not a power
 *            of two or above 4096, prealloc above limit, init together with
 *            WEIR_CACHE_ZERO, verify or WEIR_CACHE_VERIFY without init, an
 *            unknown flag or level, a reserved field set);
 *            -ENOMEM (no memory, or 65,535 pools in being).
 * Ownership: the caller's until weir_cache_destroy().
 * Threads:   any thread.  Not async-signal-safe.
 * Cost:      microseconds, plus the preallocated objects.
 * Errors:    on failure nothing is kept.
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD int weir_cache_create(const char *name,
    const struct weir_cache_config *config, struct weir_cache **out)
    WEIR_NOEXCEPT;

/**
 * weir_cache_alloc() - take one object.
 * @cache: a live cache; it must outlive every object taken from it.
 *
 * Returns:   storage of object_bytes bytes at the cache's alignment, or NULL.
 *            Contents are unspecified without WEIR_CACHE_ZERO, init or ctor.
 * Ownership: the caller's until weir_cache_free(), on any thread.
 * Threads:   any number of threads.  No shared line is written while this
 *            thread's magazine has objects.  Not async-signal-safe.
 * Cost:      11 instructions at WEIR_CHECK_BATCH, 18 at WEIR_CHECK_EACH, 23
 *            there for small objects, 83 for those of 32 KiB and more; one
 *            short lock per magazine, at most 126 objects;
 *            a system call only when the page supply grows.
 * Errors:    NULL at the limit or when memory is exhausted, counted in the
 *            statistics; errno is left as it was.
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD void *weir_cache_alloc(struct weir_cache *cache)
    WEIR_NOEXCEPT;

/**
 * weir_cache_alloc_wait() - take one object, or wait for one.
 * @cache:      a live cache, created with WEIR_LIMIT_WAIT; of any other cache
 *              this is weir_cache_alloc().
 * @timeout_ns: how long at most; 0: not at all, WEIR_WAIT_FOREVER: no end.
 *
 * Returns:   as weir_cache_alloc().  Requests are served in the order they
 *            came; none that comes later, by this or any other call, takes an
 *            object past one that waits.  weir_cache_alloc() waits for the
 *            timeout_ns of the configuration, weir_cache_alloc_bulk() never.
 * Ownership: the caller's until weir_cache_free(), on any thread.
 * Threads:   any number of threads.  In a hook that the library called it does
 *            not wait: what it waited for might be in the hands of its own
 *            thread.  Not async-signal-safe.
 * Cost:      about 15 ns; a system call, and one of the thread that gives, when
 *            it waits.
 * Errors:    NULL when the time is over, counted in the statistics as a failure
 *            and a wait_timeout; errno is left as it was.
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD void *weir_cache_alloc_wait(
    struct weir_cache *cache, uint64_t timeout_ns) WEIR_NOEXCEPT;

/**
 * weir_cache_set_limit() - change the limit of a cache.
 * @cache: a live cache.
 * @limit: most objects in being; 0: none, WEIR_LIMIT_NOTHING: not one.
 *
 * Returns:   0; -EBUSY when more objects are in being than @limit, after those
 *            that could be given back were: the old limit stays, and a line
 *            with the figures goes to the message hook.  Objects in being are
 *            those in use and the free ones in slabs with them.
 * Ownership: nothing changes hands.  A limit that is set holds at once.  Free
 *            objects in magazines of other threads are out of reach until those
 *            threads exchange a magazine of the cache or call weir_maintain()
 *            or weir_thread_poll(): from then on they withhold no more than
 *            the 16th of the new limit.  A limit that was refused calls them
 *            back as well, so that it may be granted later.
 * Threads:   any thread.  Requests that wait are served at once if there is
 *            room now.  Not async-signal-safe.
 * Cost:      that of weir_cache_trim() if @limit is below what is in being.
 * Errors:    none beside the return value.
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD int weir_cache_set_limit(
    struct weir_cache *cache, size_t limit) WEIR_NOEXCEPT;

/**
 * weir_cache_free() - give one object back.
 * @cache:  the cache it came from.
 * @object: an object of @cache, or NULL for nothing to do.
 *
 * Ownership: @object is the cache's again; the caller's pointer is stale.
 * Threads:   any thread, not only the one that allocated.  Safe in thread
 *            exit handlers, also after the library's own ran.  Not
 *            async-signal-safe.
 * Cost:      12 instructions at WEIR_CHECK_BATCH, 26 at WEIR_CHECK_EACH, 30
 *            there for small objects, 91 for those of 32 KiB and more; one
 *            short lock per magazine.
 * Errors:    a second free, a foreign, interior or misaligned pointer, an
 *            object of another cache and, where that is looked at, one whose
 *            constructed state is broken are faults (weir/guard.h).
 * Since:     0.1
 */
WEIR_API void weir_cache_free(struct weir_cache *cache, void *object)
    WEIR_NOEXCEPT;

/**
 * weir_cache_alloc_bulk() - take many objects.
 * @cache:   a live cache; it must outlive every object taken from it.
 * @count:   how many are wanted; any number.
 * @objects: receives them.
 *
 * Returns:   how many it got: @count, or less at the limit or when memory is
 *            exhausted.  As many calls of weir_cache_alloc() that stop at the
 *            first NULL do the same, with the same figures in the statistics;
 *            whoever wants all or nothing gives a part back by
 *            weir_cache_free_bulk().  @objects beyond the number returned is as
 *            it was.
 * Ownership: each object is the caller's until it is freed, one by one or many
 *            a call.
 * Threads:   as weir_cache_alloc().
 * Cost:      instructions for each object at count 8, 32 and 126: 9, 3 and 5 at
 *            WEIR_CHECK_BATCH, 15, 8 and 10 at WEIR_CHECK_EACH; full magazines
 *            of the depot are copied whole.
 * Errors:    less than @count, counted in the statistics as one failure; errno
 *            is left as it was.
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD size_t weir_cache_alloc_bulk(
    struct weir_cache *cache, size_t count, void **objects) WEIR_NOEXCEPT;

/**
 * weir_cache_free_bulk() - give many objects back.
 * @cache:   the cache they came from.
 * @count:   how many there are.
 * @objects: objects of @cache, all different; NULL for nothing to do.
 *
 * Ownership: the objects are the cache's again; the array stays the caller's
 *            and is not written.
 * Threads:   as weir_cache_free().
 * Cost:      instructions for each object at count 8, 32 and 126: 16, 10 and 10
 *            at WEIR_CHECK_BATCH, 28, 21 and 21 at WEIR_CHECK_EACH.
 * Errors:    as weir_cache_free() for each object: the report is of the first
 *            that is wrong, those before it are free, those behind it are not.
 * Since:     0.1
 */
WEIR_API void weir_cache_free_bulk(
    struct weir_cache *cache, size_t count, void *const *objects) WEIR_NOEXCEPT;

/**
 * weir_cache_for_each() - show every object in use to a function.
 * @cache:   a live cache that is quiet.
 * @visit:   called for each; it may free the object it is given and use other
 *           pools, but must do nothing else with @cache.
 * @context: handed to @visit.
 *
 * Quiet means that no other thread is in a call on @cache, or begins one, until
 * this one returns; that other pools are busy, and that memory is short, does
 * no harm.  Objects are in use from their alloc to their free, whoever holds
 * them: nothing tells the visitor that their owner is done with them.
 *
 * Returns:   how many were shown: all, or those up to the one for which @visit
 *            returned false.
 * Ownership: an object stays whose it was, unless @visit frees it.
 * Threads:   quiet caches only.
 * Cost:      linear in all slots; no allocation.
 * Errors:    none.  In the child of a fork() that met another thread inside a
 *            call, what was in that thread's hands is shown as well.
 * Since:     0.1
 */
WEIR_API size_t weir_cache_for_each(struct weir_cache *cache,
    weir_cache_visit_fn visit, void *context) WEIR_NOEXCEPT;

/**
 * weir_cache_trim() - give idle memory of a cache back to the page supply.
 * @cache: a live cache.
 *
 * Returns:   bytes of slabs given back.
 * Ownership: objects in use are untouched; fini runs on the others.
 * Threads:   any thread; takes the caller's magazines and the spare ones of all
 *            threads, not those other threads are using.  Not async-signal-safe.
 * Cost:      linear in the idle objects.
 * Errors:    none.
 * Since:     0.1
 */
WEIR_API size_t weir_cache_trim(struct weir_cache *cache) WEIR_NOEXCEPT;

/**
 * weir_cache_stats() - read the figures of one cache.
 * @cache: a live cache.
 * @out:   filled whole; set out->size to sizeof(*out) first.
 *
 * Returns:   0, or -EINVAL when out->size is none this library knows.
 * Ownership: copies into the caller's storage.
 * Threads:   any thread; exact when the cache is quiet, otherwise each figure
 *            is one that held at some moment of the call.
 * Cost:      linear in the threads that used the cache; no allocation.
 * Errors:    none beside the return value.
 * Since:     0.1
 */
WEIR_API int weir_cache_stats(
    struct weir_cache *cache, struct weir_pool_stats *out) WEIR_NOEXCEPT;

/**
 * weir_cache_check() - walk the invariants of a cache.
 * @cache: a live cache that no other thread uses during the call.
 *
 * Returns:   true when every slot is accounted for exactly once.
 * Ownership: nothing changes hands.
 * Threads:   quiet caches only.
 * Cost:      linear in all slots.
 * Errors:    false; the first broken invariant goes to the message hook.  Also
 *            in the child of a fork() that met another thread inside a call:
 *            what was in its hands is missing.
 * Since:     0.1
 */
WEIR_API bool weir_cache_check(struct weir_cache *cache) WEIR_NOEXCEPT;

/**
 * weir_cache_destroy() - end a cache.
 * @cache: a cache whose objects are all back, or NULL.
 *
 * Ownership: the memory returns to the page supply; fini runs on each object.
 * Threads:   one thread, after every other use of the cache has happened.
 * Cost:      linear in the slots and in the threads.
 * Errors:    objects still out, and a second destroy, are faults
 *            (weir/guard.h) that name the cache and the count.  So is an object
 *            that lies in magazines twice: what was freed a second time at level
 *            `batch` is found here, if it did not come to the depot before.
 * Since:     0.1
 */
WEIR_API void weir_cache_destroy(struct weir_cache *cache) WEIR_NOEXCEPT;

/**
 * weir_cache_alloc_at() - weir_cache_alloc(), compiled in line.
 * @local: the calling thread's weir_local().
 * @cache: a live cache; it must outlive every object taken from it.
 *
 * Returns:   as weir_cache_alloc().
 * Ownership: as there.
 * Threads:   @local says which: only the calling one.  Not async-signal-safe.
 * Cost:      8 instructions at WEIR_CHECK_BATCH, 15 at WEIR_CHECK_EACH, 20
 *            there for small objects.
 * Errors:    as weir_cache_alloc().
 * Since:     0.1
 */
WEIR_NODISCARD WEIR_ABI_INLINE static inline void *
weir_cache_alloc_at(struct weir_local *local, struct weir_cache *cache)
    WEIR_NOEXCEPT
{
	const struct weir_abi_head *head =
	    (const struct weir_abi_head *)(const void *)cache;
	uintptr_t **cell = (uintptr_t **)(void *)((char *)local + head->cell);
	void *object = NULL;

	if (WEIR_UNLIKELY(!weir_abi_take(head, cell, &object)))
		return weir_cache_alloc(cache);
	return object;
}

/**
 * weir_cache_free_at() - weir_cache_free(), compiled in line.
 * @local:  the calling thread's weir_local().
 * @cache:  the cache it came from.
 * @object: an object of @cache, or NULL for nothing to do.
 *
 * Ownership: as weir_cache_free().
 * Threads:   @local says which: only the calling one.  Not async-signal-safe.
 * Cost:      8 instructions at WEIR_CHECK_BATCH, 24 at WEIR_CHECK_EACH, 28
 *            there for small objects; two more where the compiler cannot
 *            know that @object is not NULL.
 * Errors:    as weir_cache_free().
 * Since:     0.1
 */
WEIR_ABI_INLINE static inline void
weir_cache_free_at(struct weir_local *local, struct weir_cache *cache,
    void *object) WEIR_NOEXCEPT
{
	const struct weir_abi_head *head =
	    (const struct weir_abi_head *)(const void *)cache;
	uintptr_t **cell = (uintptr_t **)(void *)((char *)local + head->cell);

	if (WEIR_UNLIKELY(!weir_abi_put(head, cell, object)))
		weir_cache_free(cache, object);
}

/**
 * WEIR_CACHE_DEFINE() - typed calls for the objects of one cache.
 * @prefix: what the functions' names begin with.
 * @type:   of the objects.
 *
 * Defines static inline @prefix##_cache_create(name, config, out),
 * @prefix##_alloc(cache), @prefix##_free(cache, object) and the same two with
 * _at, which take the thread's weir_local() first.  The size and the alignment
 * in the configuration are set from @type where they are 0, and so is the
 * type_name; NULL for it means all defaults.
 *
 *     WEIR_CACHE_DEFINE(conn, struct conn);
 *
 * Since: 0.1
 */
#define WEIR_CACHE_DEFINE(prefix, type)                                        \
	WEIR_NODISCARD WEIR_UNUSED static inline int prefix##_cache_create(    \
	    const char *name, const struct weir_cache_config *config,          \
	    struct weir_cache **out)                                           \
	{                                                                      \
		struct weir_cache_config typed;                                \
                                                                               \
		memset(&typed, 0, sizeof(typed));                              \
		if (config != NULL)                                            \
			typed = *config;                                       \
		if (typed.object_bytes == 0)                                   \
			typed.object_bytes = sizeof(type);                     \
		if (typed.object_align == 0)                                   \
			typed.object_align =                                   \
			    WEIR_ALIGNOF(type) > 16 ? WEIR_ALIGNOF(type) : 16; \
		if (typed.type_name == NULL)                                   \
			typed.type_name = #type;                               \
		return weir_cache_create(name, &typed, out);                   \
	}                                                                      \
                                                                               \
	WEIR_NODISCARD WEIR_UNUSED static inline type *prefix##_alloc(         \
	    struct weir_cache *cache)                                          \
	{                                                                      \
		return (type *)weir_cache_alloc(cache);                        \
	}                                                                      \
                                                                               \
	WEIR_UNUSED static inline void prefix##_free(                          \
	    struct weir_cache *cache, type *object)                            \
	{                                                                      \
		weir_cache_free(cache, object);                                \
	}                                                                      \
                                                                               \
	WEIR_NODISCARD WEIR_UNUSED static inline type *prefix##_alloc_at(      \
	    struct weir_local *local, struct weir_cache *cache)                \
	{                                                                      \
		return (type *)weir_cache_alloc_at(local, cache);              \
	}                                                                      \
                                                                               \
	WEIR_UNUSED static inline void prefix##_free_at(                       \
	    struct weir_local *local, struct weir_cache *cache, type *object)  \
	{                                                                      \
		weir_cache_free_at(local, cache, object);                      \
	}                                                                      \
	struct weir_cache

WEIR_END_DECLS

#endif /* WEIR_CACHE_H */
