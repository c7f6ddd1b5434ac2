/* SPDX-License-Identifier: MIT */
/*
 * peer_weir_region.c - regions of weir.  With BENCH_NAMED each load is a kind
 * with a name, with BENCH_LIMITED its regions have a limit, too.  Statistics are
 * always kept: there is no build without them.  The library is the shared one.
 */
#include "../object/harness.h"

#include <weir/region.h>
#include <weir/version.h>

#include "region.h"

#define PEER_NAME BENCH_PEER
#define PEER_HAS_REGIONS
#define PEER_REGIONS_ONLY

#define peer_region weir_region

static void
peer_begin(void)
{
}

static const char *
peer_version(void)
{
	return WEIR_VERSION_STRING;
}

#if BENCH_NAMED
static struct weir_region_kind region_kinds[] = {
    WEIR_REGION_KIND("request"),
    WEIR_REGION_KIND("small"),
    WEIR_REGION_KIND("tiny"),
    WEIR_REGION_KIND("fastpath"),
};

#endif
#if BENCH_LIMITED
/* Never reached, always checked. */
static const struct weir_region_config region_config = {
    .limit_bytes = (uint64_t)1 << 30,
};
#endif

static BENCH_INLINE struct peer_region *
peer_region_open(unsigned load)
{
	struct weir_region *region;
#if BENCH_LIMITED
	const struct weir_region_config *config = &region_config;
#else
	const struct weir_region_config *config = NULL;
#endif
#if BENCH_NAMED
	struct weir_region_kind *kind = &region_kinds[load];
#else
	struct weir_region_kind *kind = NULL;
#endif

	(void)load;
	return weir_region_create(kind, config, &region) == 0 ? region : NULL;
}

static BENCH_INLINE void *
peer_region_alloc(struct peer_region *region, size_t bytes)
{
	return weir_region_alloc(region, bytes);
}

static BENCH_INLINE void
peer_region_cleanup(struct peer_region *region, void *object)
{
	bench_check(weir_region_cleanup_add(region, region_cleanup, object));
}

static BENCH_INLINE void
peer_region_reset(struct peer_region *region, void *last)
{
	(void)last;
	weir_region_reset(region);
}

static BENCH_INLINE void
peer_region_close(struct peer_region *region, void *last)
{
	(void)last;
	weir_region_destroy(region);
}

#include "../object/worker.h"
