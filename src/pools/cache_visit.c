/* SPDX-License-Identifier: MIT */
/*
 * cache_visit.c - all of a cache's objects: iteration, and the check.
 *
 * Iteration is the depot's walk over what is out (slab/visit.c), which needs no
 * state and so serves both levels.
 */
#include "pools/cache.h"

#include "config/config.h"

/* ---- iteration ---------------------------------------------------------- */

struct visit_program {
	weir_cache_visit_fn visit;
	void *context;
};

static bool
visit_slot(void *slot, void *context)
{
	const struct visit_program *program = context;
	const struct weiri_slab *slab =
	    (const struct weiri_slab *)weiri_span_of(slot);

	return program->visit(
	    weiri_cache_object_of(slab, slot), program->context);
}

size_t
weir_cache_for_each(
    struct weir_cache *cache, weir_cache_visit_fn visit, void *context)
{
	struct visit_program program = {visit, context};

	weiri_cache_expect_live(cache);
	return weiri_depot_visit(&cache->depot, visit_slot, &program);
}

/* ---- the check ---------------------------------------------------------- */

/* C2, over all slabs of one list. */
static uint64_t
cache_count_live(const struct weir_cache *cache, struct weiri_list *slabs)
{
	uint64_t live = 0;

	WEIRI_LIST_FOR(node, slabs)
	{
		struct weiri_slab *slab =
		    WEIRI_CONTAINER_OF(node, struct weiri_slab, link);

		for (size_t i = 0; i < slab->carved; i++) {
			live += weiri_cache_is_live(
			    cache, slab, i, weiri_slab_address(slab, i));
		}
	}
	return live;
}

bool
weir_cache_check(struct weir_cache *cache)
{
	const char *why = NULL;
	struct weiri_depot_stats stats;
	uint64_t live;

	weiri_cache_expect_live(cache);
	if (!weiri_depot_check(&cache->depot, &why)) {
		weiri_message(WEIR_MESSAGE_ERROR, why);
		return false;
	}
	if (cache->state == WEIRI_CACHE_NONE)
		return true;
	weiri_depot_stats(&cache->depot, &stats);
	live = cache_count_live(cache, &cache->depot.partial) +
	       cache_count_live(cache, &cache->depot.full);
	/* In a fork's child, what others were moving may be either. */
	if (live <= stats.in_use + stats.lost &&
	    stats.in_use <= live + stats.lost)
		return true;
	weiri_message(WEIR_MESSAGE_ERROR, "C2: live states and objects in use");
	return false;
}
