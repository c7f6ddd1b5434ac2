/* SPDX-License-Identifier: MIT */
/*
 * cache_limit.c - what a cache does when it has nothing to hand out, and how its
 * limit changes.
 *
 * The depot does the waiting and the counting (slab/wait.c).  Nothing of it is
 * in the way of caches whose requests simply fail: in a cache that waits every
 * thread's cursor stays at the dummy magazine, which sends each call the long
 * way; one that notifies has heads that send its frees there.
 *
 * A limit counts objects in being, so a lower one cannot take effect while more
 * exist than it allows, and is refused: a cache that is over its limit, and one
 * that is not yet under it, cannot be told apart by anything a program sees.
 */
#include "base/text.h"
#include "config/config.h"
#include "config/invalid.h"
#include "pools/cache.h"

#include <errno.h>

#define LIMIT_LINE_BYTES 256

/* The fields that only WEIR_LIMIT_NOTIFY has a use for. */
static int
limit_check_notify(
    const char *name, const struct weir_cache_config *config, size_t limit)
{
	if (config->notify_fd < 0)
		return weiri_cache_invalid(name, "notify_fd",
		    (uint64_t)(unsigned)config->notify_fd,
		    "a descriptor, or 0 for none", 0);
	if (config->policy != WEIR_LIMIT_NOTIFY) {
		if (config->notify_at != 0)
			return weiri_cache_invalid(name, "notify_at",
			    config->notify_at,
			    "0 without policy WEIR_LIMIT_NOTIFY", 0);
		if (config->notify != NULL || config->notify_fd != 0)
			return weiri_cache_invalid(name, "policy",
			    (unsigned)config->policy,
			    "%u (WEIR_LIMIT_NOTIFY) with notify or notify_fd",
			    WEIR_LIMIT_NOTIFY);
		return 0;
	}
	if (config->notify == NULL && config->notify_fd == 0)
		return weiri_cache_invalid(name, "notify", 0,
		    "a function, or notify_fd, with WEIR_LIMIT_NOTIFY", 0);
	if (limit == SIZE_MAX && config->notify_at == 0)
		return weiri_cache_invalid(name, "notify_at", 0,
		    "1 or more in a cache without limit", 0);
	if (config->notify_at >= limit && limit > 0)
		return weiri_cache_invalid(name, "notify_at", config->notify_at,
		    "0 .. %u, below the limit", limit - 1);
	return 0;
}

int
weiri_cache_check_policy(
    const char *name, const struct weir_cache_config *config, size_t limit)
{
	if ((unsigned)config->policy > WEIR_LIMIT_NOTIFY)
		return weiri_cache_invalid(name, "policy",
		    (unsigned)config->policy,
		    "0 .. %u, those of enum weir_limit_policy",
		    WEIR_LIMIT_NOTIFY);
	if (config->policy != WEIR_LIMIT_WAIT && config->timeout_ns != 0)
		return weiri_cache_invalid(name, "timeout_ns",
		    config->timeout_ns, "0 without policy WEIR_LIMIT_WAIT", 0);
	return limit_check_notify(name, config, limit);
}

/* No lock is held. */
static void
limit_notify(void *owner)
{
	struct weir_cache *cache = owner;

	if (cache->notify_fd != 0)
		weiri_os_signal(cache->notify_fd);
	if (cache->notify != NULL)
		cache->notify(cache, cache->notify_context);
}

struct weiri_wait_config
weiri_cache_wait_config(const struct weir_cache_config *config)
{
	static const enum weiri_wait_policy policy[] = {
	    [WEIR_LIMIT_FAIL] = WEIRI_WAIT_FAIL,
	    [WEIR_LIMIT_WAIT] = WEIRI_WAIT_TURN,
	    [WEIR_LIMIT_NOTIFY] = WEIRI_WAIT_NOTIFY,
	};

	return (struct weiri_wait_config){
	    .policy = policy[config->policy],
	    .timeout_ns = config->timeout_ns == 0 ? WEIR_WAIT_FOREVER
						  : config->timeout_ns,
	    .low = config->notify_at,
	    .notify = limit_notify,
	};
}

void *
weir_cache_alloc_wait(struct weir_cache *cache, uint64_t timeout_ns)
{
	void *object;

	weiri_cache_expect_live(cache);
	if (cache->depot.wait.config.policy != WEIRI_WAIT_TURN)
		return weir_cache_alloc(cache);
	object = weiri_depot_get_within(&cache->depot, timeout_ns);
	return weiri_cache_take_due(cache, object);
}

static WEIRI_COLD void
limit_tell_refusal(struct weir_cache *cache, size_t limit)
{
	char line[LIMIT_LINE_BYTES];
	struct weiri_text text = {.buffer = line, .bytes = sizeof(line)};
	struct weiri_depot_stats stats;

	weiri_depot_stats(&cache->depot, &stats);
	weiri_text_str(&text, "weir_cache_set_limit: cache \"");
	weiri_text_str(&text, cache->pool.name);
	weiri_text_str(&text, "\": limit ");
	weiri_text_u64(&text, limit);
	weiri_text_str(&text, " is below the ");
	weiri_text_u64(&text, stats.total);
	weiri_text_str(&text, " objects in being, ");
	weiri_text_u64(&text, stats.in_use);
	weiri_text_str(&text, " of them in use");
	weiri_message(WEIR_MESSAGE_ERROR, line);
}

int
weir_cache_set_limit(struct weir_cache *cache, size_t limit)
{
	int error;

	weiri_cache_expect_live(cache);
	if (limit == 0)
		limit = SIZE_MAX;
	else if (limit == WEIR_LIMIT_NOTHING)
		limit = 0;
	error = weiri_depot_set_limit(&cache->depot, limit);
	if (error != 0)
		limit_tell_refusal(cache, limit);
	return error;
}
