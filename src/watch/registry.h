/* SPDX-License-Identifier: MIT */
/*
 * registry.h - the list of every pool in the process.
 *
 * A pool embeds a weiri_pool and enters it at creation; statistics, trim, the
 * leak report and fork handling find all pools here.  The registry knows no
 * pool kind: it calls the operations the pool brought.
 */
#ifndef WEIRI_REGISTRY_H
#define WEIRI_REGISTRY_H

#include "base/list.h"
#include "os/os.h"

#include <weir/stats.h>

#define WEIRI_NAME_BYTES 48

struct weiri_pool;

struct weiri_pool_ops {
	/* Fills the figures; size, version, kind, id, name are already set. */
	void (*stats)(struct weiri_pool *pool, struct weir_pool_stats *out);
	/* Gives idle memory back; returns bytes.  May be NULL. */
	size_t (*trim)(struct weiri_pool *pool);
	/* The guard's mode has changed.  May be NULL. */
	void (*guard)(struct weiri_pool *pool);
	/* Around fork: take and give back the pool's locks.  May be NULL. */
	void (*fork_lock)(struct weiri_pool *pool);
	void (*fork_unlock)(struct weiri_pool *pool);
	/* In the child, under the locks: figures may be torn.  May be NULL. */
	void (*fork_child)(struct weiri_pool *pool);
};

struct weiri_pool {
	struct weiri_list link;
	const struct weiri_pool_ops *ops;
	uint32_t kind; /* enum weir_pool_kind */
	uint32_t id;   /* 0: described, not entered yet */
	bool internal; /* left out of the leak report and of statistics */
	bool leaving;  /* unregister waits for the visitors; walks skip it */
	uint32_t visitors; /* walks that are calling its ops */
	char name[WEIRI_NAME_BYTES];
};

/*
 * @name may be NULL ("unnamed"); longer names are cut, bytes that are not
 * printable UTF-8 become '?'.  Starts the library if need be.  The pool must be
 * ready for its ops; no lock may be held.
 */
void weiri_pool_register(struct weiri_pool *pool, uint32_t kind,
    const char *name, const struct weiri_pool_ops *ops, bool internal);

/*
 * The two halves of it, for a pool that other threads are shown in between and
 * may ask for its figures at once: one that several threads make at the same
 * time, and only the one whose was taken enters.
 */
void weiri_pool_describe(struct weiri_pool *pool, uint32_t kind,
    const char *name, const struct weiri_pool_ops *ops, bool internal);
void weiri_pool_enter(struct weiri_pool *pool);

/* Waits until no walk is inside the pool; not from inside one. */
void weiri_pool_unregister(struct weiri_pool *pool);

/*
 * Calls @visit for each pool, oldest first, with no lock held; pools may come
 * and go meanwhile.  Stops early when @visit returns false.
 */
typedef bool (*weiri_pool_visit_fn)(struct weiri_pool *pool, void *context);
void weiri_pool_walk(weiri_pool_visit_fn visit, void *context);

/* Has every pool give its idle memory back; what they gave, in bytes. */
size_t weiri_pool_trim_all(void);

/* Tells every pool that the guard's mode has changed. */
void weiri_pool_guard_all(void);

/* Fills *out for one pool, header fields included. */
void weiri_pool_stats(struct weiri_pool *pool, struct weir_pool_stats *out);

/* Pools in being, internal ones left out. */
size_t weiri_pool_count(void);

/* Copies what texts, reports and JSON can show without a second thought; NULL
 * is "unnamed". */
void weiri_name_set(char into[WEIRI_NAME_BYTES], const char *name);

/* The word for a kind in texts and reports: "cache", "region", ... */
const char *weiri_pool_kind_text(uint32_t kind);

/* fork: lock the list and every pool in it, in list order. */
void weiri_registry_fork_lock(void);
void weiri_registry_fork_unlock(void);
void weiri_registry_fork_child(void);

#endif /* WEIRI_REGISTRY_H */
