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
 * twice before.  Not recognised are reads and writes through stale pointers, a
 * stale free after the object was handed out again, and calls on a destroyed
 * cache other than a second destroy.
 */
#ifndef WEIR_CACHE_H
#define WEIR_CACHE_H

#include <weir/local.h>
#include <weir/stats.h>

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

/** How much a cache verifies when an object comes back. */
enum weir_check_level {
	WEIR_CHECK_EACH = 0,  /* every free is checked at the call (default) */
	WEIR_CHECK_BATCH = 1, /* a magazine at a time, when it comes in */
};

enum weir_cache_flags {
	WEIR_CACHE_COUNT = 1 << 0, /* requests exact at WEIR_CHECK_BATCH too,
				      by the slower calls */
	WEIR_CACHE_ZERO = 1 << 1,  /* each object is handed out zeroed */
};

/**
 * struct weir_cache_config - what weir_cache_create() is told.
 *
 * At a limit, a thread that is idle may withhold one magazine of free objects,
 * limit / 64 at most; below a limit of 512 threads keep none, and each call
 * takes a short lock instead.
 *
 * Zero means the default for every field but object_bytes, so a caller names
 * what it cares about: `{.object_bytes = sizeof(struct conn)}`.
 */
struct weir_cache_config {
	size_t object_bytes;         /* 1 .. WEIR_CACHE_OBJECT_BYTES_MAX */
	size_t object_align;         /* power of two up to 4096; 0: 16 */
	size_t limit;                /* most objects in being; 0: none */
	size_t prealloc;             /* objects made ready at creation */
	enum weir_check_level check; /* 0: WEIR_CHECK_EACH */
	unsigned flags;              /* enum weir_cache_flags */
	weir_cache_hook_fn init;     /* memory enters the cache */
	weir_cache_hook_fn fini;     /* memory leaves the cache */
	weir_cache_hook_fn ctor;     /* an object is handed out */
	weir_cache_hook_fn dtor;     /* an object comes back */
	void *context;               /* handed to the four hooks */
	uint64_t reserved[4];        /* must be zero */
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
 *            WEIR_CACHE_ZERO, an unknown flag or level, a reserved field set);
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
 * Cost:      about 2 ns; one short lock per magazine, at most 126 objects;
 *            a system call only when the page supply grows.
 * Errors:    NULL at the limit or when memory is exhausted, counted in the
 *            statistics; errno is left as it was.
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD void *weir_cache_alloc(struct weir_cache *cache)
    WEIR_NOEXCEPT;

/**
 * weir_cache_free() - give one object back.
 * @cache:  the cache it came from.
 * @object: an object of @cache, or NULL for nothing to do.
 *
 * Ownership: @object is the cache's again; the caller's pointer is stale.
 * Threads:   any thread, not only the one that allocated.  Safe in thread
 *            exit handlers, also after the library's own ran.  Not
 *            async-signal-safe.
 * Cost:      about 2 ns; one short lock per magazine.
 * Errors:    a second free, a foreign, interior or misaligned pointer and an
 *            object of another cache are faults (weir/guard.h).
 * Since:     0.1
 */
WEIR_API void weir_cache_free(struct weir_cache *cache, void *object)
    WEIR_NOEXCEPT;

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
 *            (weir/guard.h) that name the cache and the count.
 * Since:     0.1
 */
WEIR_API void weir_cache_destroy(struct weir_cache *cache) WEIR_NOEXCEPT;

/**
 * weir_cache_alloc_at() - weir_cache_alloc(), compiled in line.
 * @local: the calling thread's weir_local().
 * @cache: a live cache.
 *
 * Cost:  about 1 ns less than the call; the rest as there.
 * Since: 0.1
 */
WEIR_NODISCARD static inline void *
weir_cache_alloc_at(struct weir_local *local, struct weir_cache *cache)
    WEIR_NOEXCEPT
{
	const struct weir_abi_head *head =
	    (const struct weir_abi_head *)(const void *)cache;
	uintptr_t **cell = (uintptr_t **)(void *)((char *)local + head->cell);
	void *object;

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
 * Cost:  about 1 ns less than the call; the rest as there.
 * Since: 0.1
 */
static inline void
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
 * in the configuration are set from @type where they are 0.
 *
 *     WEIR_CACHE_DEFINE(conn, struct conn)
 *
 * Since: 0.1
 */
#define WEIR_CACHE_DEFINE(prefix, type)                                        \
	static inline int prefix##_cache_create(const char *name,              \
	    const struct weir_cache_config *config, struct weir_cache **out)   \
	{                                                                      \
		struct weir_cache_config typed = *config;                      \
                                                                               \
		if (typed.object_bytes == 0)                                   \
			typed.object_bytes = sizeof(type);                     \
		if (typed.object_align == 0)                                   \
			typed.object_align =                                   \
			    WEIR_ALIGNOF(type) > 16 ? WEIR_ALIGNOF(type) : 16; \
		return weir_cache_create(name, &typed, out);                   \
	}                                                                      \
                                                                               \
	WEIR_NODISCARD static inline type *prefix##_alloc(                     \
	    struct weir_cache *cache)                                          \
	{                                                                      \
		return (type *)weir_cache_alloc(cache);                        \
	}                                                                      \
                                                                               \
	static inline void prefix##_free(                                      \
	    struct weir_cache *cache, type *object)                            \
	{                                                                      \
		weir_cache_free(cache, object);                                \
	}                                                                      \
                                                                               \
	WEIR_NODISCARD static inline type *prefix##_alloc_at(                  \
	    struct weir_local *local, struct weir_cache *cache)                \
	{                                                                      \
		return (type *)weir_cache_alloc_at(local, cache);              \
	}                                                                      \
                                                                               \
	static inline void prefix##_free_at(                                   \
	    struct weir_local *local, struct weir_cache *cache, type *object)  \
	{                                                                      \
		weir_cache_free_at(local, cache, object);                      \
	}                                                                      \
	struct weir_cache

WEIR_END_DECLS

#endif /* WEIR_CACHE_H */
