/* SPDX-License-Identifier: MIT */
/*
 * registry.c - the list of every pool, and how to walk it.
 *
 * A walk calls into pools, and pools call hooks of the program, which may
 * create and destroy pools: no lock can be held meanwhile.  A walk therefore
 * pins the pool it visits, and destroying a pinned pool waits.
 *
 *     head -> A -> B -> C          walk: pin B, unlock, visit B,
 *                  ^pin                  lock, step to C, unpin B
 *
 * The pinned pool stays in the list, so the step from it is always valid,
 * whatever came or went around it; a pool is visited at most once, and one that
 * was there all the time exactly once.  A reader-writer lock would do the same
 * for readers alone, but a trim that destroys a pool would deadlock on it.
 *
 * Invariants:
 *
 *   R1  The list, ids, visitors and leaving change only under the lock.
 *   R2  A pool is unlinked only with no visitors; leaving keeps new ones out,
 *       so the wait ends.
 *   R3  The lock is held over no call but fork_lock and fork_unlock.
 *   R4  Ids rise along the list.
 *
 * fork: the child has one thread, so of all pins only those of the forking
 * thread live on; they are found on its chain of walks.
 */
#include "watch/registry.h"

#include "base/text.h"
#include "config/config.h"

#include <string.h>

/* Long enough to let a visit end, short enough not to be felt: visits take
 * microseconds, and destroying a pool during one is rare. */
#define REGISTRY_WAIT_NS UINT64_C(50000)

struct registry_walk {
	struct weiri_pool *pinned;
	struct registry_walk *outer; /* this walk runs inside a visit of it */
};

static struct weiri_mutex registry_mutex = WEIRI_MUTEX_INITIALIZER;
static struct weiri_list registry_pools =
    WEIRI_LIST_INITIALIZER(registry_pools);
static uint32_t registry_last_id;
static size_t registry_count; /* without internal pools */

static __thread struct registry_walk *registry_walks
    __attribute__((tls_model("initial-exec")));

static struct weiri_pool *
registry_pool(struct weiri_list *node)
{
	return WEIRI_CONTAINER_OF(node, struct weiri_pool, link);
}

/*
 * Bytes of the UTF-8 character at @at, 0 if there is none.  Control characters
 * count as none.  Overlong forms and surrogates pass the length test but fail
 * the one on the second byte.
 */
static size_t
registry_utf8_bytes(const unsigned char *at)
{
	size_t bytes;

	if (at[0] < 0x80)
		return at[0] >= 0x20 && at[0] != 0x7f;
	if (at[0] < 0xc2 || at[0] > 0xf4)
		return 0;
	bytes = at[0] < 0xe0 ? 2 : at[0] < 0xf0 ? 3 : 4;
	/* A NUL is no continuation byte, so the end of the string stops this. */
	for (size_t i = 1; i < bytes; i++)
		if ((at[i] & 0xc0) != 0x80)
			return 0;
	if ((at[0] == 0xe0 && at[1] < 0xa0) ||
	    (at[0] == 0xed && at[1] > 0x9f) ||
	    (at[0] == 0xf0 && at[1] < 0x90) || (at[0] == 0xf4 && at[1] > 0x8f))
		return 0;
	return bytes;
}

void
weiri_name_set(char into[WEIRI_NAME_BYTES], const char *name)
{
	const unsigned char *from =
	    (const unsigned char *)(name != NULL ? name : "unnamed");
	size_t used = 0;

	while (*from != '\0') {
		size_t bytes = registry_utf8_bytes(from);
		size_t take = bytes > 0 ? bytes : 1;

		if (used + take >= WEIRI_NAME_BYTES)
			break;
		if (bytes > 0)
			memcpy(into + used, from, bytes);
		else
			into[used] = '?';
		used += take;
		from += take;
	}
	memset(into + used, 0, WEIRI_NAME_BYTES - used);
}

void
weiri_pool_describe(struct weiri_pool *pool, uint32_t kind, const char *name,
    const struct weiri_pool_ops *ops, bool internal)
{
	pool->ops = ops;
	pool->kind = kind;
	pool->internal = internal;
	pool->leaving = false;
	pool->visitors = 0;
	pool->id = 0;
	weiri_name_set(pool->name, name);
}

void
weiri_pool_enter(struct weiri_pool *pool)
{
	(void)weiri_config(); /* fork handlers before the first lock */
	weiri_mutex_lock(&registry_mutex);
	/* Who was shown the pool already may be reading it. */
	WEIRI_STORE(&pool->id, ++registry_last_id);
	weiri_list_append(&registry_pools, &pool->link);
	registry_count += !pool->internal;
	weiri_mutex_unlock(&registry_mutex);
}

void
weiri_pool_register(struct weiri_pool *pool, uint32_t kind, const char *name,
    const struct weiri_pool_ops *ops, bool internal)
{
	weiri_pool_describe(pool, kind, name, ops, internal);
	weiri_pool_enter(pool);
}

void
weiri_pool_unregister(struct weiri_pool *pool)
{
	weiri_mutex_lock(&registry_mutex);
	WEIR_ASSERT(!pool->leaving);
	pool->leaving = true;
	registry_count -= !pool->internal;
	while (pool->visitors > 0) {
		weiri_mutex_unlock(&registry_mutex);
		weiri_os_sleep_ns(REGISTRY_WAIT_NS);
		weiri_mutex_lock(&registry_mutex);
	}
	weiri_list_remove(&pool->link);
	weiri_mutex_unlock(&registry_mutex);
}

/* Under the lock: moves the pin to the next pool; false at the end. */
static bool
registry_step(struct registry_walk *walk)
{
	struct weiri_list *node =
	    walk->pinned != NULL ? &walk->pinned->link : &registry_pools;

	if (walk->pinned != NULL)
		walk->pinned->visitors--;
	do
		node = node->next;
	while (node != &registry_pools && registry_pool(node)->leaving);

	walk->pinned = node != &registry_pools ? registry_pool(node) : NULL;
	if (walk->pinned != NULL)
		walk->pinned->visitors++;
	return walk->pinned != NULL;
}

void
weiri_pool_walk(weiri_pool_visit_fn visit, void *context)
{
	struct registry_walk walk = {.outer = registry_walks};

	registry_walks = &walk;
	weiri_mutex_lock(&registry_mutex);
	while (registry_step(&walk)) {
		weiri_mutex_unlock(&registry_mutex);

		bool more = visit(walk.pinned, context);

		weiri_mutex_lock(&registry_mutex);
		if (!more) {
			walk.pinned->visitors--;
			break;
		}
	}
	weiri_mutex_unlock(&registry_mutex);
	registry_walks = walk.outer;
}

static bool
registry_trim(struct weiri_pool *pool, void *context)
{
	size_t *bytes = context;

	if (pool->ops->trim != NULL)
		*bytes += pool->ops->trim(pool);
	return true;
}

size_t
weiri_pool_trim_all(void)
{
	size_t bytes = 0;

	weiri_pool_walk(registry_trim, &bytes);
	return bytes;
}

static bool
registry_guard(struct weiri_pool *pool, void *context)
{
	(void)context;
	if (pool->ops->guard != NULL)
		pool->ops->guard(pool);
	return true;
}

void
weiri_pool_guard_all(void)
{
	weiri_pool_walk(registry_guard, NULL);
}

size_t
weiri_pool_count(void)
{
	weiri_mutex_lock(&registry_mutex);

	size_t count = registry_count;

	weiri_mutex_unlock(&registry_mutex);
	return count;
}

void
weiri_pool_stats(struct weiri_pool *pool, struct weir_pool_stats *out)
{
	memset(out, 0, sizeof(*out));
	out->size = sizeof(*out);
	out->version = WEIR_STATS_VERSION;
	out->kind = pool->kind;
	out->id = WEIRI_LOAD(&pool->id);
	memcpy(out->name, pool->name, sizeof(out->name));
	out->limit_bytes = UINT64_MAX; /* of pools that know no such limit */
	pool->ops->stats(pool, out);
}

static_assert(sizeof(((struct weir_pool_stats *)0)->name) == WEIRI_NAME_BYTES,
    "a name is copied whole");

const char *
weiri_pool_kind_text(uint32_t kind)
{
	static const char *const text[] = {
	    [WEIR_POOL_CACHE] = "cache",
	    [WEIR_POOL_REGION] = "region",
	    [WEIR_POOL_BUFFER] = "buffer",
	    [WEIR_POOL_BUDDY] = "buddy",
	    [WEIR_POOL_BOUNDED] = "bounded",
	    [WEIR_POOL_HEAP] = "heap",
	};

	return kind > 0 && kind < WEIRI_COUNT_OF(text) ? text[kind] : "pool";
}

void
weiri_registry_fork_lock(void)
{
	weiri_mutex_lock(&registry_mutex);
	WEIRI_LIST_FOR(node, &registry_pools)
	{
		struct weiri_pool *pool = registry_pool(node);

		if (pool->ops->fork_lock != NULL)
			pool->ops->fork_lock(pool);
	}
}

void
weiri_registry_fork_unlock(void)
{
	for (struct weiri_list *node = registry_pools.prev;
	     node != &registry_pools; node = node->prev) {
		struct weiri_pool *pool = registry_pool(node);

		if (pool->ops->fork_unlock != NULL)
			pool->ops->fork_unlock(pool);
	}
	weiri_mutex_unlock(&registry_mutex);
}

/* A pool that another thread was about to destroy stays in the child's list as
 * leaving: nobody there will use it, and its memory is as it was. */
void
weiri_registry_fork_child(void)
{
	WEIRI_LIST_FOR(node, &registry_pools)
	{
		struct weiri_pool *pool = registry_pool(node);

		pool->visitors = 0;
		if (pool->ops->fork_child != NULL)
			pool->ops->fork_child(pool);
	}
	for (struct registry_walk *walk = registry_walks; walk != NULL;
	     walk = walk->outer)
		walk->pinned->visitors++;
	weiri_registry_fork_unlock();
}
