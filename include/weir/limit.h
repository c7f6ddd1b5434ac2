/* SPDX-License-Identifier: MIT */
/*
 * limit.h - what happens at a limit, and limits that pools share.
 *
 * A pool at its limit, or without memory, answers a request with NULL.  It can
 * instead have the request wait for its turn, or tell the program when there is
 * room again.  Several pools - those of one tenant, say - can draw on one budget
 * of bytes, the quota, beside the limits of their own.
 */
#ifndef WEIR_LIMIT_H
#define WEIR_LIMIT_H

#include <weir/export.h>

WEIR_BEGIN_DECLS

/** What a pool does with a request that it has nothing for. */
enum weir_limit_policy {
	WEIR_LIMIT_FAIL = 0,   /* NULL at once (default) */
	WEIR_LIMIT_WAIT = 1,   /* in order of arrival, up to a time */
	WEIR_LIMIT_NOTIFY = 2, /* NULL at once, and a word when it is over */
};

/** As a time: without end. */
#define WEIR_WAIT_FOREVER UINT64_MAX

struct weir_quota;

/** struct weir_quota_figures - one quota at one moment. */
struct weir_quota_figures {
	uint32_t size;  /* bytes of this struct, set by the reader */
	uint32_t pools; /* charged to it */
	char name[48];
	uint64_t limit_bytes;
	uint64_t used_bytes; /* by the memory of all its pools, free or not */
	uint64_t peak_bytes;
	uint64_t failures; /* of pools to grow; they may have gone on without */
	uint64_t reserved[4];
};

/**
 * weir_quota_create() - make a budget for several pools.
 * @name:        up to 47 bytes are kept; shown in reports.
 * @limit_bytes: most memory its pools may have in all.
 * @out:         receives the quota, NULL on failure.
 *
 * Named in the configuration of a pool, it is charged with each slab of memory
 * the pool takes and credited when the slab is given back: by trim, maintain or
 * destroy, not by each free.  Slabs are 64 KiB or more, so a limit below that
 * for each pool leaves some without any.
 *
 * Returns:   0 or -ENOMEM.
 * Ownership: the caller's until weir_quota_destroy(), after that of its pools.
 * Threads:   any thread.  Not async-signal-safe.
 * Cost:      under a microsecond.
 * Errors:    on failure nothing is kept.
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD int weir_quota_create(const char *name,
    uint64_t limit_bytes, struct weir_quota **out) WEIR_NOEXCEPT;

/**
 * weir_quota_set_limit() - change the limit of a quota.
 * @quota:       a live quota.
 * @limit_bytes: the new limit.
 *
 * Ownership: nothing changes hands: below what is used, no pool grows until
 *            enough was given back.
 * Threads:   any thread.  Requests that wait in one of the pools for memory are
 *            served, and pools that notify do, by a higher limit as by what any
 *            of the pools gives back.
 * Cost:      one store; a look at each pool if one of them waits.
 * Errors:    none.
 * Since:     0.1
 */
WEIR_API void weir_quota_set_limit(
    struct weir_quota *quota, uint64_t limit_bytes) WEIR_NOEXCEPT;

/**
 * weir_quota_stats() - read the figures of a quota.
 * @quota: a live quota.
 * @out:   filled whole; set out->size to sizeof(*out) first.
 *
 * Returns:   0, or -EINVAL when out->size is none this library knows.
 * Ownership: copies into the caller's storage.
 * Threads:   any thread; each figure is one that held during the call.
 * Cost:      some loads.
 * Errors:    none beside the return value.
 * Since:     0.1
 */
WEIR_API int weir_quota_stats(const struct weir_quota *quota,
    struct weir_quota_figures *out) WEIR_NOEXCEPT;

/**
 * weir_quota_destroy() - end a quota.
 * @quota: a quota whose pools are destroyed, or NULL.
 *
 * Ownership: the quota's memory returns to the library.
 * Threads:   one thread, after every other use of the quota has happened.
 * Cost:      under a microsecond.
 * Errors:    a pool still charged to it is a fault (weir/guard.h) that names
 *            the quota and the number of pools.
 * Since:     0.1
 */
WEIR_API void weir_quota_destroy(struct weir_quota *quota) WEIR_NOEXCEPT;

WEIR_END_DECLS

#endif /* WEIR_LIMIT_H */
