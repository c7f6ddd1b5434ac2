/* SPDX-License-Identifier: MIT */
/*
 * cache_bulk.c - many objects a call, between the caller's array and the
 * thread's magazine.
 *
 * What a cache does with each object - set its state, look at it - happens while
 * it is copied, in a loop for each kind of state.  Where the magazine ends, the
 * depot goes on (slab/bulk.c) or a single free makes room.  Objects with more to
 * do than the inline calls know go the way of a single one.
 *
 * A free that dies names its object in a state that can be told: all objects
 * before it in the array are free, it and those behind it are untouched.
 */
#include "pools/cache.h"

#include "base/bits.h"

#include <string.h>

/* ---- alloc ------------------------------------------------------------ */

/* States of objects that were taken. */
WEIRI_INLINE void
bulk_mark(const struct weir_cache *cache, size_t count, void *const *objects)
{
	const uint64_t live = cache->head.live;

	if (cache->state == WEIRI_CACHE_WORD)
		for (size_t i = 0; i < count; i++)
			*weiri_cache_word(objects[i]) = live;
	else if (cache->state == WEIRI_CACHE_TABLE)
		for (size_t i = 0; i < count; i++)
			*weir_abi_entry(&cache->head, objects[i]) =
			    (uint16_t)(uintptr_t)objects[i];
}

/* As weir_abi_count(), for @count requests at once. */
WEIRI_INLINE bool
bulk_count(uint64_t *requests, size_t count)
{
	uint64_t before = WEIRI_LOAD(requests);
	uint64_t after = before + count * WEIR_ABI_COUNT;

	WEIRI_STORE(requests, after);
	return after < before;
}

/* The countdown ended with one of these objects: the last will do. */
static WEIRI_COLD void
bulk_take_due(struct weir_cache *cache, size_t count, void **objects)
{
	struct weir_local *local = weiri_local();
	uint64_t *requests =
	    weiri_cell_requests(weiri_local_cell(local, cache->head.cell));

	WEIRI_STORE(requests, weiri_requests_end(*requests));
	objects[count - 1] = weiri_cache_take_due(cache, objects[count - 1]);
}

/* More than the thread's magazine has, and caches with more to do. */
static WEIRI_NOINLINE size_t
bulk_alloc_slow(struct weir_cache *cache, size_t count, void **objects)
{
	uint32_t cell = cache->depot.cell, outer = 0;
	struct weir_local *local =
	    cell != WEIRI_CELL_NONE ? weiri_local_own() : NULL;
	size_t got;

	weiri_cache_expect_live(cache);
	if (count == 0)
		return 0;
	if (local != NULL)
		outer = weiri_local_begin(local, cell);
	got = weiri_depot_get_bulk(&cache->depot, local, count, objects);
	if (WEIR_UNLIKELY(weiri_guard_mode(&cache->guard) != WEIR_GUARD_OFF))
		for (size_t i = 0; i < got; i++)
			objects[i] = weiri_cache_take_due(cache, objects[i]);
	else if (!cache->long_take)
		bulk_mark(cache, got, objects);
	else
		for (size_t i = 0; i < got; i++)
			weiri_cache_finish_alloc(cache, objects[i]);
	if (local != NULL)
		weiri_local_end(local, outer);
	return got;
}

size_t
weir_cache_alloc_bulk(struct weir_cache *cache, size_t count, void **objects)
{
	struct weir_local *local = weiri_local();
	uintptr_t **cell = weiri_local_cell(local, cache->head.cell);
	uintptr_t *cursor = WEIRI_LOAD(cell);

	/* None is no case for memcpy(). */
	if (WEIR_UNLIKELY(
		cache->long_take || count - 1 >= weiri_cursor_count(cursor)))
		return bulk_alloc_slow(cache, count, objects);
	weiri_local_copy(local, cache->head.cell, count);
	cursor -= count;
	memcpy(objects, cursor + 1, count * sizeof(*objects));
	WEIRI_STORE(cell, cursor);
	bulk_mark(cache, count, objects);
	weiri_local_copied(local);
	if (cache->depot.counted &&
	    WEIR_UNLIKELY(bulk_count(weiri_cell_requests(cell), count)))
		bulk_take_due(cache, count, objects);
	return count;
}

/* ---- free ------------------------------------------------------------- */

/* With @check known, each loop has that one check in it.  NULL is none of the
 * cache's. */
WEIRI_INLINE size_t
bulk_retire_as(struct weir_abi_head head, enum weir_abi_check check,
    size_t count, void *const *objects)
{
	size_t i = 0;

	head.check = (uint8_t)check;
	while (i < count && weir_abi_retire(&head, objects[i]))
		i++;
	return i;
}

/* Marks objects free, up to one that needs a closer look; their number. */
WEIRI_INLINE size_t
bulk_retire(const struct weir_cache *cache, size_t count, void *const *objects)
{
	size_t i = 0;

	if (cache->state == WEIRI_CACHE_WORD)
		return bulk_retire_as(
		    cache->head, WEIR_ABI_CHECK_WORD, count, objects);
	if (cache->state == WEIRI_CACHE_TABLE)
		return bulk_retire_as(
		    cache->head, WEIR_ABI_CHECK_TABLE, count, objects);
	while (i < count && objects[i] != NULL)
		i++;
	return i;
}

/* Into the thread's magazine as far as it has room; how many. */
WEIRI_INLINE size_t
bulk_put(struct weir_cache *cache, size_t count, void *const *objects)
{
	struct weir_local *local = weiri_local();
	uintptr_t **cell = weiri_local_cell(local, cache->head.cell);
	uintptr_t *cursor = WEIRI_LOAD(cell);
	size_t room =
	    WEIRI_MAGAZINE_LAST -
	    ((uintptr_t)cursor & WEIRI_MAGAZINE_LOW) / sizeof(uintptr_t);

	/* Also of a thread without magazines, whose state is not its own. */
	if (room == 0)
		return 0;
	count = weiri_min(count, room);
	weiri_local_copy(local, cache->head.cell, count);
	count = bulk_retire(cache, count, objects);
	memcpy(cursor + 1, objects, count * sizeof(*objects));
	/* Released, as by a single free. */
	__atomic_store_n(cell, cursor + count, __ATOMIC_RELEASE);
	weiri_local_copied(local);
	return count;
}

void
weir_cache_free_bulk(
    struct weir_cache *cache, size_t count, void *const *objects)
{
	size_t done = 0;

	while (done < count) {
		if (!cache->long_put)
			done += bulk_put(cache, count - done, objects + done);
		/* The edge, a wrong object, or NULL; the magazine may be
		 * another afterwards. */
		if (done < count)
			weiri_cache_free_slow(cache, objects[done++]);
	}
}
