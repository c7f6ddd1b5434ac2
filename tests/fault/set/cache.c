/* SPDX-License-Identifier: MIT */
/*
 * cache.c - bugs with caches that check at the call.
 */
#include "bug.h"

#define BOTH (BUG_STACK_ALLOC | BUG_STACK_FREE)

struct pair {
	struct weir_cache *cache;
	void *object;
};

static void
free_pair(void *context)
{
	struct pair *pair = context;

	weir_cache_free(pair->cache, pair->object);
}

/* ---- frees ------------------------------------------------------------------- */

BUG(cache_double_free, ROW(DOUBLE_FREE), POOL(CACHE), NAMES("conn"),
    STACKS(BOTH), ALWAYS(NOW, "double-free"))
{
	struct weir_cache *cache = bug_cache("conn", 200);
	void *object = weir_cache_alloc(cache);

	weir_cache_free(cache, object);
	BUG_HERE(weir_cache_free(cache, object));
	weir_cache_destroy(cache);
}

/* Its state is in a table at the slab's start. */
BUG(cache_double_free_small, ROW(DOUBLE_FREE), POOL(CACHE), NAMES("timer"),
    STACKS(BOTH), ALWAYS(NOW, "double-free"))
{
	struct weir_cache *cache = bug_cache("timer", 24);
	void *object = weir_cache_alloc(cache);

	weir_cache_free(cache, object);
	BUG_HERE(weir_cache_free(cache, object));
	weir_cache_destroy(cache);
}

/* Its state is in the slab's header. */
BUG(cache_double_free_large, ROW(DOUBLE_FREE), POOL(CACHE), NAMES("frame"),
    STACKS(BOTH), ALWAYS(NOW, "double-free"))
{
	struct weir_cache *cache = bug_cache("frame", 40000);
	void *object = weir_cache_alloc(cache);

	weir_cache_free(cache, object);
	BUG_HERE(weir_cache_free(cache, object));
	weir_cache_destroy(cache);
}

BUG(cache_double_free_two_threads, ROW(DOUBLE_FREE), POOL(CACHE), NAMES("conn"),
    STACKS(BOTH), ALWAYS(NOW, "double-free"))
{
	struct pair pair = {bug_cache("conn", 200), NULL};

	pair.object = weir_cache_alloc(pair.cache);
	bug_on_thread(free_pair, &pair);
	BUG_HERE(weir_cache_free(pair.cache, pair.object));
	weir_cache_destroy(pair.cache);
}

/* What a list of free objects, looked at only at its head, does not see. */
BUG(cache_double_free_interleaved, ROW(DOUBLE_FREE), POOL(CACHE), NAMES("conn"),
    STACKS(BOTH), ALWAYS(NOW, "double-free"))
{
	struct weir_cache *cache = bug_cache("conn", 200);
	void *first = weir_cache_alloc(cache),
	     *second = weir_cache_alloc(cache);

	weir_cache_free(cache, first);
	weir_cache_free(cache, second);
	BUG_HERE(weir_cache_free(cache, first));
	weir_cache_destroy(cache);
}

BUG(cache_double_free_in_one_bulk, ROW(DOUBLE_FREE), POOL(CACHE), NAMES("conn"),
    STACKS(BOTH), ALWAYS(NOW, "double-free"))
{
	struct weir_cache *cache = bug_cache("conn", 200);
	void *objects[3];

	NEED(weir_cache_alloc_bulk(cache, 2, objects) == 2);
	objects[2] = objects[0];
	BUG_HERE(weir_cache_free_bulk(cache, 3, objects));
	MENDED(weir_cache_free_bulk(cache, 2, objects));
	weir_cache_destroy(cache);
}

BUG(cache_double_free_zeroed, ROW(DOUBLE_FREE), POOL(CACHE), NAMES("job"),
    STACKS(BOTH), ALWAYS(NOW, "double-free"))
{
	struct weir_cache *cache;
	void *object;

	NEED(weir_cache_create("job",
		 &(struct weir_cache_config){
		     .object_bytes = 64, .flags = WEIR_CACHE_ZERO},
		 &cache) == 0);
	object = weir_cache_alloc(cache);
	weir_cache_free(cache, object);
	BUG_HERE(weir_cache_free(cache, object));
	weir_cache_destroy(cache);
}

BUG(cache_stale_free, ROW(STALE_FREE), POOL(CACHE), NAMES("conn"), STACKS(BOTH),
    GUARDED(NOW, "double-free"))
{
	struct weir_cache *cache = bug_cache("conn", 200);
	void *stale = weir_cache_alloc(cache), *next;

	weir_cache_free(cache, stale);
	next = weir_cache_alloc(cache);
	BUG_HERE(weir_cache_free(cache, stale));
	/* In the mode that sees nothing, this was the same object. */
	if (!bug || next != stale)
		weir_cache_free(cache, next);
	weir_cache_destroy(cache);
}

BUG(cache_interior, ROW(WILD), POOL(CACHE), NAMES("conn"),
    ALWAYS(NOW, "interior-pointer"))
{
	struct weir_cache *cache = bug_cache("conn", 200);
	char *object = weir_cache_alloc(cache);

	BUG_HERE(weir_cache_free(cache, object + 64));
	weir_cache_free(cache, object);
	weir_cache_destroy(cache);
}

BUG(cache_misaligned, ROW(WILD), POOL(CACHE), NAMES("conn"),
    ALWAYS(NOW, "misaligned-pointer"))
{
	struct weir_cache *cache = bug_cache("conn", 200);
	char *object = weir_cache_alloc(cache);

	BUG_HERE(weir_cache_free(cache, object + 1));
	weir_cache_free(cache, object);
	weir_cache_destroy(cache);
}

BUG(cache_foreign_stack, ROW(WILD), POOL(CACHE), NAMES("conn"),
    ALWAYS(NOW, "foreign-pointer"))
{
	struct weir_cache *cache = bug_cache("conn", 200);
	uint64_t local[32] = {0};

	BUG_HERE(weir_cache_free(cache, bug_hide(local)));
	weir_cache_destroy(cache);
}

BUG(cache_foreign_malloc, ROW(WILD), POOL(CACHE), NAMES("conn"),
    ALWAYS(NOW, "foreign-pointer"))
{
	struct weir_cache *cache = bug_cache("conn", 200);
	void *object = malloc(200);

	BUG_HERE(weir_cache_free(cache, bug_hide(object)));
	free(object);
	weir_cache_destroy(cache);
}

BUG(cache_wild, ROW(WILD), POOL(CACHE), NAMES("conn"),
    ALWAYS(NOW, "foreign-pointer"))
{
	struct weir_cache *cache = bug_cache("conn", 200);

	BUG_HERE(weir_cache_free(
	    cache, bug_hide((void *)(uintptr_t)0xdeadbeefcafe)));
	weir_cache_destroy(cache);
}

BUG(cache_wrong_cache, ROW(WRONG_POOL), POOL(CACHE), NAMES("conn", "timer"),
    ALWAYS(NOW, "wrong-pool"))
{
	struct weir_cache *conns = bug_cache("conn", 200);
	struct weir_cache *timers = bug_cache("timer", 200);
	void *object = weir_cache_alloc(conns);

	BUG_HERE(weir_cache_free(timers, object));
	weir_cache_free(conns, object);
	weir_cache_destroy(conns);
	weir_cache_destroy(timers);
}

BUG(cache_object_of_a_heap, ROW(WRONG_POOL), POOL(CACHE), NAMES("conn", "jobs"),
    ALWAYS(NOW, "wrong-pool"))
{
	struct weir_cache *conns = bug_cache("conn", 200);
	struct weir_heap *heap = bug_heap("jobs");
	void *object = weir_heap_alloc(heap, 200);

	BUG_HERE(weir_cache_free(conns, object));
	weir_heap_free(heap, object);
	weir_heap_destroy(heap);
	weir_cache_destroy(conns);
}

BUG(cache_object_of_a_region, ROW(WRONG_POOL), POOL(CACHE), NAMES("conn"),
    ALWAYS(NOW, "wrong-pool"))
{
	struct weir_cache *conns = bug_cache("conn", 200);
	struct weir_region *region = bug_region(NULL);
	void *object = weir_region_alloc(region, 200);

	BUG_HERE(weir_cache_free(conns, object));
	weir_region_destroy(region);
	weir_cache_destroy(conns);
}

/* ---- types: in what is read by men, and by programs -------------------------- */

struct frame {
	char bytes[200];
};

WEIR_CACHE_DEFINE(frame, struct frame);

static struct weir_cache *
frames(void)
{
	struct weir_cache *cache;

	NEED(frame_cache_create("frames", NULL, &cache) == 0);
	return cache;
}

BUG(cache_double_free_of_a_type, ROW(DOUBLE_FREE), POOL(CACHE), NAMES("frames"),
    TEXT("\nweir:   type: struct frame\n"), STACKS(BOTH),
    ALWAYS(NOW, "double-free"))
{
	struct weir_cache *cache = frames();
	struct frame *object = frame_alloc(cache);

	frame_free(cache, object);
	BUG_HERE(frame_free(cache, object));
	weir_cache_destroy(cache);
}

BUG(cache_read_freed_of_a_type, ROW(READ_FREED), POOL(CACHE), NAMES("frames"),
    TEXT("\"pool\":\"frames\",\"type\":\"struct frame\""), STACKS(BOTH),
    GUARDED(NOW, "use-after-free"))
{
	struct weir_cache *cache = frames();
	struct frame *object = frame_alloc(cache);

	memset(object, 1, sizeof(*object));
	frame_free(cache, object);
	BUG_HERE(bug_read(object, 1));
	weir_cache_destroy(cache);
}

/* The type is that of the objects of the cache it is freed to; under guard the
 * object's own is told as well. */
BUG(cache_wrong_cache_of_a_type, ROW(WRONG_POOL), POOL(CACHE),
    NAMES("frames", "pages"), TEXT("\nweir:   type: struct frame\n"),
    ALWAYS(NOW, "wrong-pool"))
{
	struct weir_cache *cache = frames(), *pages;
	void *object;

	NEED(weir_cache_create("pages",
		 &(struct weir_cache_config){
		     .object_bytes = 200, .type_name = "struct page"},
		 &pages) == 0);
	object = weir_cache_alloc(pages);
	BUG_HERE(weir_cache_free(cache, object));
	weir_cache_free(pages, object);
	weir_cache_destroy(cache);
	weir_cache_destroy(pages);
}

/* ---- accesses ------------------------------------------------------------------ */

BUG(cache_read_freed, ROW(READ_FREED), POOL(CACHE), NAMES("conn"), STACKS(BOTH),
    GUARDED(NOW, "use-after-free"))
{
	struct weir_cache *cache = bug_cache("conn", 200);
	char *object = weir_cache_alloc(cache);

	memset(object, 1, 200);
	weir_cache_free(cache, object);
	BUG_HERE(bug_read(object + 8, 8));
	weir_cache_destroy(cache);
}

/* The memory serves another object by then. */
BUG(cache_read_reused, ROW(READ_FREED), POOL(CACHE), NAMES("conn"),
    STACKS(BOTH), GUARDED(NOW, "use-after-free"))
{
	struct weir_cache *cache = bug_cache("conn", 200);
	char *stale = weir_cache_alloc(cache), *next;

	memset(stale, 1, 200);
	weir_cache_free(cache, stale);
	next = weir_cache_alloc(cache);
	memset(next, 2, 200);
	BUG_HERE(bug_read(stale, 1));
	weir_cache_free(cache, next);
	weir_cache_destroy(cache);
}

BUG(cache_read_freed_on_another_thread, ROW(READ_FREED), POOL(CACHE),
    NAMES("conn"), STACKS(BOTH), GUARDED(NOW, "use-after-free"))
{
	struct pair pair = {bug_cache("conn", 200), NULL};

	pair.object = weir_cache_alloc(pair.cache);
	memset(pair.object, 1, 200);
	bug_on_thread(free_pair, &pair);
	BUG_HERE(bug_read(pair.object, 1));
	weir_cache_destroy(pair.cache);
}

BUG(cache_write_freed, ROW(WRITE_FREED), POOL(CACHE), NAMES("conn"),
    STACKS(BOTH), GUARDED(NOW, "use-after-free"))
{
	struct weir_cache *cache = bug_cache("conn", 200);
	char *object = weir_cache_alloc(cache);

	weir_cache_free(cache, object);
	BUG_HERE(bug_write(object, 200));
	weir_cache_free(cache, weir_cache_alloc(cache));
	weir_cache_destroy(cache);
}

/* Where free objects hold links, the next but one request would get whatever
 * address was written here. */
BUG(cache_free_objects_overwritten, ROW(FORGED), POOL(CACHE), NAMES("conn"),
    STACKS(BOTH), IN_A(REFUSED, NULL), IN_S(NOW, "use-after-free"),
    IN_D(NOW, "use-after-free"))
{
	struct weir_cache *cache = bug_cache("conn", 64);
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
	/* Each is looked at as any free: is it a slot of the cache? */
	for (size_t i = 0; i < 64; i++)
		weir_cache_free(cache, objects[i]);
	if (bug)
		bug_mark("refused");
	weir_cache_destroy(cache);
}

/* And the word behind it, by which a free knows whether the next one is in use:
 * a request does not believe it. */
BUG(cache_free_object_and_its_state_overwritten, ROW(FORGED), POOL(CACHE),
    NAMES("conn"), STACKS(BOTH), IN_A(REFUSED, NULL),
    IN_S(NOW, "use-after-free"), IN_D(NOW, "use-after-free"))
{
	struct weir_cache *cache = bug_cache("conn", 200);
	char *one = weir_cache_alloc(cache), *other = weir_cache_alloc(cache);
	char *low = one < other ? one : other;

	weir_cache_free(cache, one);
	weir_cache_free(cache, other);
	BUG_HERE(bug_forge(low, 208, &one));
	one = weir_cache_alloc(cache);
	other = weir_cache_alloc(cache);
	NEED(one != NULL && other != NULL && one != other);
	weir_cache_free(cache, one);
	weir_cache_free(cache, other);
	if (bug)
		bug_mark("refused");
	weir_cache_destroy(cache);
}

/* The word behind it says whether its neighbour is in use. */
BUG(cache_overflow, ROW(OVERFLOW), POOL(CACHE), NAMES("conn"),
    STACKS(BUG_STACK_ALLOC), IN_A(LATER, "corruption"), IN_S(LATER, "overflow"),
    IN_D(LATER, "overflow"))
{
	struct weir_cache *cache = bug_cache("conn", 200);
	char *one = weir_cache_alloc(cache), *other = weir_cache_alloc(cache);
	char *low = one < other ? one : other;

	BUG_HERE(bug_write(low + 200, 1));
	weir_cache_free(cache, one);
	weir_cache_free(cache, other);
	weir_cache_destroy(cache);
}

BUG(cache_overflow_of_full_lines, ROW(OVERFLOW), POOL(CACHE), NAMES("conn"),
    STACKS(BUG_STACK_ALLOC), GUARDED(NOW, "overflow"))
{
	struct weir_cache *cache = bug_cache("conn", 208);
	char *object = weir_cache_alloc(cache);

	BUG_HERE(bug_write(object + 208, 1));
	weir_cache_free(cache, object);
	weir_cache_destroy(cache);
}

/* Into what rounding leaves between the object's end and the next one. */
BUG(cache_overflow_into_slack, ROW(OVERFLOW), POOL(CACHE), NAMES("conn"),
    STACKS(BUG_STACK_ALLOC), GUARDED(LATER, "overflow"))
{
	struct weir_cache *cache = bug_cache("conn", 61);
	char *object = weir_cache_alloc(cache);

	BUG_HERE(bug_write(object + 61, 1));
	weir_cache_free(cache, object);
	weir_cache_destroy(cache);
}

BUG(cache_overflow_small, ROW(OVERFLOW), POOL(CACHE), NAMES("timer"),
    STACKS(BUG_STACK_ALLOC), GUARDED(NOW, "overflow"))
{
	struct weir_cache *cache = bug_cache("timer", 32);
	char *object = weir_cache_alloc(cache);

	BUG_HERE(bug_write(object + 32, 1));
	weir_cache_free(cache, object);
	weir_cache_destroy(cache);
}

BUG(cache_overread, ROW(OVERREAD), POOL(CACHE), NAMES("conn"),
    STACKS(BUG_STACK_ALLOC), GUARDED(NOW, "overflow"))
{
	struct weir_cache *cache = bug_cache("conn", 256);
	char *object = weir_cache_alloc(cache);

	memset(object, 1, 256);
	BUG_HERE(bug_read(object + 256, 4));
	weir_cache_free(cache, object);
	weir_cache_destroy(cache);
}

/* The word before an object is its own state. */
BUG(cache_underflow, ROW(UNDERFLOW), POOL(CACHE), NAMES("conn"),
    STACKS(BUG_STACK_ALLOC), IN_A(LATER, "corruption"),
    IN_S(LATER, "underflow"), IN_D(LATER, "underflow"))
{
	struct weir_cache *cache = bug_cache("conn", 200);
	char *object = weir_cache_alloc(cache);

	BUG_HERE(bug_write(object - 1, 1));
	weir_cache_free(cache, object);
	weir_cache_destroy(cache);
}

/* As much as the state of an object takes. */
BUG(cache_underflow_of_zeroes, ROW(UNDERFLOW), POOL(CACHE), NAMES("conn"),
    STACKS(BUG_STACK_ALLOC), IN_A(LATER, "corruption"),
    IN_S(LATER, "underflow"), IN_D(LATER, "underflow"))
{
	struct weir_cache *cache = bug_cache("conn", 200);
	char *object = weir_cache_alloc(cache);

	BUG_HERE(memset(bug_hide(object - 8), 0, 8));
	weir_cache_free(cache, object);
	weir_cache_destroy(cache);
}

/* Small ones have their state elsewhere, and another before them. */
BUG(cache_underflow_of_a_small_one, ROW(UNDERFLOW), POOL(CACHE), NAMES("conn"),
    STACKS(BUG_STACK_ALLOC), GUARDED(LATER, "underflow"))
{
	struct weir_cache *cache = bug_cache("conn", 48);
	char *object = weir_cache_alloc(cache);

	BUG_HERE(bug_write(object - 1, 1));
	weir_cache_free(cache, object);
	weir_cache_destroy(cache);
}

BUG(cache_read_unset, ROW(UNSET), POOL(CACHE), GUARDED(PATTERN, NULL))
{
	struct weir_cache *cache = bug_cache("conn", 200);
	unsigned char *object = weir_cache_alloc(cache);

	memset(object, 'k', 200); /* the key of the object before */
	weir_cache_free(cache, object);
	object = weir_cache_alloc(cache);
	MENDED(memset(object, 0, 200));
	BUG_HERE(if (object[9] != 'k' && object[9] == object[99])
		bug_mark("pattern"));
	weir_cache_free(cache, object);
	weir_cache_destroy(cache);
}

/* ---- the cache itself ------------------------------------------------------------ */

BUG(cache_destroyed_twice, ROW(GONE), POOL(CACHE), NAMES("conn"),
    ALWAYS(NOW, "double-destroy"))
{
	struct weir_cache *cache = bug_cache("conn", 200);

	weir_cache_destroy(cache);
	BUG_HERE(weir_cache_destroy(cache));
}

BUG(cache_alloc_after_destroy, ROW(GONE), POOL(CACHE), NAMES("conn"),
    ALWAYS(NOW, "use-after-destroy"))
{
	struct weir_cache *cache = bug_cache("conn", 200);

	weir_cache_free(cache, weir_cache_alloc(cache));
	weir_cache_destroy(cache);
	BUG_HERE((void)!weir_cache_alloc(cache));
}

/* The object is one that went with it; under guard it is known itself. */
BUG(cache_free_after_destroy, ROW(GONE), POOL(CACHE), NAMES("conn"),
    IN_A(NOW, "use-after-destroy"), IN_S(NOW, "double-free"),
    IN_D(NOW, "double-free"))
{
	struct weir_cache *cache = bug_cache("conn", 200);
	void *object = weir_cache_alloc(cache);

	weir_cache_free(cache, object);
	weir_cache_destroy(cache);
	BUG_HERE(weir_cache_free(cache, object));
}

/* A pool made since does not hide it. */
BUG(cache_alloc_after_destroy_and_create, ROW(GONE), POOL(CACHE), NAMES("conn"),
    ALWAYS(NOW, "use-after-destroy"))
{
	struct weir_cache *cache = bug_cache("conn", 200), *next;

	weir_cache_destroy(cache);
	next = bug_cache("next", 200);
	BUG_HERE((void)!weir_cache_alloc(cache));
	weir_cache_destroy(next);
}

BUG(cache_live_at_destroy, ROW(LIVE), POOL(CACHE), NAMES("conn"),
    TEXT("2 objects"), ALWAYS(NOW, "live-objects-at-destroy"))
{
	struct weir_cache *cache = bug_cache("conn", 200);
	void *first = weir_cache_alloc(cache),
	     *second = weir_cache_alloc(cache);

	BUG_HERE(weir_cache_destroy(cache));
	weir_cache_free(cache, first);
	weir_cache_free(cache, second);
	weir_cache_destroy(cache);
}

BUG(cache_leak, ROW(LEAK), POOL(CACHE), NAMES("conn"),
    TEXT("leak: cache \"conn\": 1 object"), ENVIRONMENT("WEIR_LEAKS=1"),
    ALWAYS(EXIT, NULL))
{
	struct weir_cache *cache = bug_cache("conn", 200);
	void *object = weir_cache_alloc(cache);

	MENDED(weir_cache_free(cache, object); weir_cache_destroy(cache));
}

/* ---- handles --------------------------------------------------------------------- */

BUG(cache_handle_of_a_free_object, ROW(CALL), POOL(CACHE), NAMES("conn"),
    STACKS(BOTH), ALWAYS(NOW, "double-free"))
{
	struct weir_cache *cache;
	struct weir_handle handle = {0};
	void *object;

	NEED(weir_cache_create("conn",
		 &(struct weir_cache_config){
		     .object_bytes = 200, .flags = WEIR_CACHE_HANDLES},
		 &cache) == 0);
	object = weir_cache_alloc(cache);
	MENDED(handle = weir_cache_handle(cache, object));
	weir_cache_free(cache, object);
	BUG_HERE(handle = weir_cache_handle(cache, object));
	NEED(weir_cache_resolve(cache, handle) == NULL);
	weir_cache_destroy(cache);
}

/* A stale handle answers NULL: what it was kept for. */
BUG(cache_stale_handle_resolved, ROW(READ_FREED), POOL(CACHE),
    ALWAYS(REFUSED, NULL))
{
	struct weir_cache *cache;
	struct weir_handle handle;
	void *object;

	NEED(weir_cache_create("conn",
		 &(struct weir_cache_config){
		     .object_bytes = 200, .flags = WEIR_CACHE_HANDLES},
		 &cache) == 0);
	object = weir_cache_alloc(cache);
	handle = weir_cache_handle(cache, object);
	MENDED(NEED(weir_cache_resolve(cache, handle) == object));
	weir_cache_free(cache, object);
	BUG_HERE(
	    if (weir_cache_resolve(cache, handle) == NULL) bug_mark("refused"));
	weir_cache_destroy(cache);
}
