/* SPDX-License-Identifier: MIT */
/*
 * batch.c - bugs with caches that check a magazine at a time: what is found is
 * found when the magazine comes home, here at a trim.
 */
#include "bug.h"

#define BOTH (BUG_STACK_ALLOC | BUG_STACK_FREE)

BUG(batch_double_free, ROW(DOUBLE_FREE), POOL(BATCH), NAMES("packet"),
    STACKS(BOTH), IN_A(LATER, "double-free"), IN_S(NOW, "double-free"),
    IN_D(NOW, "double-free"))
{
	struct weir_cache *cache = bug_cache_batch("packet", 200);
	void *object = weir_cache_alloc(cache),
	     *other = weir_cache_alloc(cache);

	weir_cache_free(cache, object);
	BUG_HERE(weir_cache_free(cache, object));
	MENDED(weir_cache_free(cache, other));
	(void)weir_cache_trim(cache);
	weir_cache_destroy(cache);
}

/* The magazine that comes home has none but the cache's. */
BUG(batch_free_objects_overwritten, ROW(FORGED), POOL(BATCH), NAMES("packet"),
    STACKS(BOTH), IN_A(REFUSED, NULL), IN_S(NOW, "use-after-free"),
    IN_D(NOW, "use-after-free"))
{
	struct weir_cache *cache = bug_cache_batch("packet", 64);
	void *first[64], *objects[64];

	for (size_t i = 0; i < 64; i++)
		first[i] = weir_cache_alloc(cache);
	for (size_t i = 0; i < 64; i++)
		weir_cache_free(cache, first[i]);
	BUG_HERE(
	    for (size_t i = 0; i < 64; i++) bug_forge(first[i], 64, objects));
	for (size_t i = 0; i < 64; i++) {
		objects[i] = weir_cache_alloc(cache);
		NEED(objects[i] != NULL && objects[i] != (void *)objects);
	}
	NEED(bug_distinct(objects, 64));
	for (size_t i = 0; i < 64; i++)
		weir_cache_free(cache, objects[i]);
	(void)weir_cache_trim(cache);
	if (bug)
		bug_mark("refused");
	weir_cache_destroy(cache);
}

BUG(batch_interior, ROW(WILD), POOL(BATCH), NAMES("packet"),
    IN_A(LATER, "interior-pointer"), IN_S(NOW, "interior-pointer"),
    IN_D(NOW, "interior-pointer"))
{
	struct weir_cache *cache = bug_cache_batch("packet", 200);
	char *object = weir_cache_alloc(cache);

	BUG_HERE(weir_cache_free(cache, object + 16));
	MENDED(weir_cache_free(cache, object));
	(void)weir_cache_trim(cache);
	weir_cache_destroy(cache);
}

BUG(batch_foreign, ROW(WILD), POOL(BATCH), NAMES("packet"),
    IN_A(LATER, "foreign-pointer"), IN_S(NOW, "foreign-pointer"),
    IN_D(NOW, "foreign-pointer"))
{
	struct weir_cache *cache = bug_cache_batch("packet", 200);
	void *object = malloc(200);

	weir_cache_free(cache, weir_cache_alloc(cache));
	BUG_HERE(weir_cache_free(cache, object));
	(void)weir_cache_trim(cache);
	free(object);
	weir_cache_destroy(cache);
}

BUG(batch_wrong_cache, ROW(WRONG_POOL), POOL(BATCH), NAMES("packet", "conn"),
    IN_A(LATER, "wrong-pool"), IN_S(NOW, "wrong-pool"), IN_D(NOW, "wrong-pool"))
{
	struct weir_cache *packets = bug_cache_batch("packet", 200);
	struct weir_cache *conns = bug_cache("conn", 200);
	void *object = weir_cache_alloc(conns);

	weir_cache_free(packets, weir_cache_alloc(packets));
	BUG_HERE(weir_cache_free(packets, object));
	MENDED(weir_cache_free(conns, object));
	(void)weir_cache_trim(packets);
	weir_cache_destroy(packets);
	weir_cache_destroy(conns);
}

BUG(batch_stale_free, ROW(STALE_FREE), POOL(BATCH), NAMES("packet"),
    STACKS(BOTH), IN_A(NEVER, NULL), IN_S(NOW, "double-free"),
    IN_D(NOW, "double-free"))
{
	struct weir_cache *cache = bug_cache_batch("packet", 200);
	void *stale = weir_cache_alloc(cache), *next;

	weir_cache_free(cache, stale);
	next = weir_cache_alloc(cache);
	BUG_HERE(weir_cache_free(cache, stale));
	if (!bug || next != stale)
		weir_cache_free(cache, next);
	weir_cache_destroy(cache);
}

BUG(batch_read_freed, ROW(READ_FREED), POOL(BATCH), NAMES("packet"),
    STACKS(BOTH), GUARDED(NOW, "use-after-free"))
{
	struct weir_cache *cache = bug_cache_batch("packet", 200);
	char *object = weir_cache_alloc(cache);

	memset(object, 1, 200);
	weir_cache_free(cache, object);
	BUG_HERE(bug_read(object, 1));
	weir_cache_destroy(cache);
}

BUG(batch_write_freed, ROW(WRITE_FREED), POOL(BATCH), NAMES("packet"),
    STACKS(BOTH), GUARDED(NOW, "use-after-free"))
{
	struct weir_cache *cache = bug_cache_batch("packet", 200);
	char *object = weir_cache_alloc(cache);

	weir_cache_free(cache, object);
	BUG_HERE(bug_write(object, 200));
	weir_cache_free(cache, weir_cache_alloc(cache));
	weir_cache_destroy(cache);
}

BUG(batch_overflow, ROW(OVERFLOW), POOL(BATCH), NAMES("packet"),
    STACKS(BUG_STACK_ALLOC), GUARDED(NOW, "overflow"))
{
	struct weir_cache *cache = bug_cache_batch("packet", 256);
	char *object = weir_cache_alloc(cache);

	BUG_HERE(bug_write(object + 256, 1));
	weir_cache_free(cache, object);
	weir_cache_destroy(cache);
}

BUG(batch_overread, ROW(OVERREAD), POOL(BATCH), NAMES("packet"),
    STACKS(BUG_STACK_ALLOC), GUARDED(NOW, "overflow"))
{
	struct weir_cache *cache = bug_cache_batch("packet", 256);
	char *object = weir_cache_alloc(cache);

	memset(object, 1, 256);
	BUG_HERE(bug_read(object + 256, 1));
	weir_cache_free(cache, object);
	weir_cache_destroy(cache);
}

BUG(batch_underflow, ROW(UNDERFLOW), POOL(BATCH), NAMES("packet"),
    STACKS(BUG_STACK_ALLOC), GUARDED(LATER, "underflow"))
{
	struct weir_cache *cache = bug_cache_batch("packet", 256);
	char *object = weir_cache_alloc(cache);

	BUG_HERE(bug_write(object - 1, 1));
	weir_cache_free(cache, object);
	weir_cache_destroy(cache);
}

BUG(batch_live_at_destroy, ROW(LIVE), POOL(BATCH), NAMES("packet"),
    TEXT("1 object"), ALWAYS(NOW, "live-objects-at-destroy"))
{
	struct weir_cache *cache = bug_cache_batch("packet", 200);
	void *object = weir_cache_alloc(cache);

	BUG_HERE(weir_cache_destroy(cache));
	weir_cache_free(cache, object);
	weir_cache_destroy(cache);
}

BUG(batch_alloc_after_destroy, ROW(GONE), POOL(BATCH), NAMES("packet"),
    ALWAYS(NOW, "use-after-destroy"))
{
	struct weir_cache *cache = bug_cache_batch("packet", 200);

	weir_cache_free(cache, weir_cache_alloc(cache));
	weir_cache_destroy(cache);
	BUG_HERE((void)!weir_cache_alloc(cache));
}

BUG(batch_free_after_destroy, ROW(GONE), POOL(BATCH), NAMES("packet"),
    IN_A(NOW, "use-after-destroy"), IN_S(NOW, "double-free"),
    IN_D(NOW, "double-free"))
{
	struct weir_cache *cache = bug_cache_batch("packet", 200);
	void *object = weir_cache_alloc(cache);

	weir_cache_free(cache, object);
	weir_cache_destroy(cache);
	BUG_HERE(weir_cache_free(cache, object));
}
