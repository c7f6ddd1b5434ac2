/* SPDX-License-Identifier: MIT */
/*
 * fake_pool.h - a pool of the test's own, with the figures it is given: the
 * registry knows no pool kind.
 */
#ifndef WEIR_FAKE_POOL_H
#define WEIR_FAKE_POOL_H

#include "test.h"

#include "watch/registry.h"

#include <string.h>

struct fake {
	struct weiri_pool pool;
	struct weir_pool_stats figures;
	void (*visit)(struct fake *fake);
	int visits;
	bool gone; /* set after unregister: any visit is a bug */
	bool locked;
};

static inline struct fake *
fake_of(struct weiri_pool *pool)
{
	return WEIRI_CONTAINER_OF(pool, struct fake, pool);
}

static inline void
fake_stats(struct weiri_pool *pool, struct weir_pool_stats *out)
{
	struct fake *fake = fake_of(pool);

	CHECK(!WEIRI_LOAD(&fake->gone));
	__atomic_add_fetch(&fake->visits, 1, __ATOMIC_RELAXED);
	out->object_bytes = fake->figures.object_bytes;
	out->limit = fake->figures.limit;
	out->total = fake->figures.total;
	out->in_use = fake->figures.in_use;
	out->available = fake->figures.total - fake->figures.in_use;
	out->in_use_peak = fake->figures.in_use_peak;
	out->requests = fake->figures.requests;
	out->failures = fake->figures.failures;
	out->exact = fake->figures.exact;
	out->misses = fake->figures.misses;
	out->bytes_mapped = fake->figures.bytes_mapped;
	if (fake->figures.limit_bytes != 0) {
		out->limit_bytes = fake->figures.limit_bytes;
		out->limit_bytes_used = fake->figures.limit_bytes_used;
	}
	if (fake->visit != NULL)
		fake->visit(fake);
}

static inline void
fake_lock(struct weiri_pool *pool)
{
	CHECK(!fake_of(pool)->locked);
	fake_of(pool)->locked = true;
}

static inline void
fake_unlock(struct weiri_pool *pool)
{
	CHECK(fake_of(pool)->locked);
	fake_of(pool)->locked = false;
}

static const struct weiri_pool_ops fake_ops = {
    .stats = fake_stats,
    .fork_lock = fake_lock,
    .fork_unlock = fake_unlock,
};

static inline void
fake_enter(struct fake *fake, const char *name)
{
	memset(fake, 0, sizeof(*fake));
	fake->figures.limit = UINT64_MAX;
	weiri_pool_register(
	    &fake->pool, WEIR_POOL_CACHE, name, &fake_ops, false);
}

static inline void
fake_leave(struct fake *fake)
{
	weiri_pool_unregister(&fake->pool);
	WEIRI_STORE(&fake->gone, true);
}

#endif /* WEIR_FAKE_POOL_H */
