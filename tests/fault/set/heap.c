/* SPDX-License-Identifier: MIT */
/*
 * heap.c - bugs with memory of any size: slots of classes, runs of pages.
 */
#include "bug.h"

#define BOTH (BUG_STACK_ALLOC | BUG_STACK_FREE)

struct pair {
	struct weir_heap *heap;
	void *object;
	bool bug;
};

static void
free_pair(void *context)
{
	struct pair *pair = context;

	weir_heap_free(pair->heap, pair->object);
}

/* ---- frees ------------------------------------------------------------------- */

BUG(heap_double_free, ROW(DOUBLE_FREE), POOL(HEAP), NAMES("jobs"), STACKS(BOTH),
    ALWAYS(NOW, "double-free"))
{
	struct weir_heap *heap = bug_heap("jobs");
	void *object = weir_heap_alloc(heap, 100);

	weir_heap_free(heap, object);
	BUG_HERE(weir_heap_free(heap, object));
	weir_heap_destroy(heap);
}

BUG(heap_double_free_default, ROW(DOUBLE_FREE), POOL(HEAP), NAMES("default"),
    STACKS(BOTH), ALWAYS(NOW, "double-free"))
{
	void *object = weir_alloc(3000);

	weir_free(object);
	BUG_HERE(weir_free(object));
}

BUG(heap_double_free_run, ROW(DOUBLE_FREE), POOL(HEAP), NAMES("jobs"),
    STACKS(BOTH), ALWAYS(NOW, "double-free"))
{
	struct weir_heap *heap = bug_heap("jobs");
	void *object = weir_heap_alloc(heap, 100000);

	weir_heap_free(heap, object);
	BUG_HERE(weir_heap_free(heap, object));
	weir_heap_destroy(heap);
}

BUG(heap_double_free_two_threads, ROW(DOUBLE_FREE), POOL(HEAP), NAMES("jobs"),
    STACKS(BOTH), ALWAYS(NOW, "double-free"))
{
	struct pair pair = {.heap = bug_heap("jobs")};

	pair.object = weir_heap_alloc(pair.heap, 100);
	bug_on_thread(free_pair, &pair);
	BUG_HERE(weir_heap_free(pair.heap, pair.object));
	weir_heap_destroy(pair.heap);
}

BUG(heap_double_free_interleaved, ROW(DOUBLE_FREE), POOL(HEAP), NAMES("jobs"),
    STACKS(BOTH), ALWAYS(NOW, "double-free"))
{
	struct weir_heap *heap = bug_heap("jobs");
	void *first = weir_heap_alloc(heap, 100);
	void *second = weir_heap_alloc(heap, 100);

	weir_heap_free(heap, first);
	weir_heap_free(heap, second);
	BUG_HERE(weir_heap_free(heap, first));
	weir_heap_destroy(heap);
}

/* realloc() frees; the program keeps the old pointer and frees it, too. */
BUG(heap_double_free_after_realloc, ROW(DOUBLE_FREE), POOL(HEAP), NAMES("jobs"),
    STACKS(BOTH), ALWAYS(NOW, "double-free"))
{
	struct weir_heap *heap = bug_heap("jobs");
	void *old = weir_heap_alloc(heap, 100);
	void *object = weir_heap_realloc(heap, old, 1000);

	NEED(object != old);
	BUG_HERE(weir_heap_free(heap, old));
	weir_heap_free(heap, object);
	weir_heap_destroy(heap);
}

BUG(heap_realloc_of_freed, ROW(DOUBLE_FREE), POOL(HEAP), NAMES("jobs"),
    STACKS(BOTH), ALWAYS(NOW, "double-free"))
{
	struct weir_heap *heap = bug_heap("jobs");
	void *object = weir_heap_alloc(heap, 100);

	weir_heap_free(heap, object);
	BUG_HERE((void)!weir_heap_realloc(heap, object, 200));
	weir_heap_destroy(heap);
}

/* The mark that tells a free object is what was written over. */
BUG(heap_double_free_after_write, ROW(DOUBLE_FREE), POOL(HEAP), NAMES("jobs"),
    STACKS(BOTH), IN_A(LATER, "double-free"), IN_S(NOW, "use-after-free"),
    IN_D(NOW, "use-after-free"))
{
	struct weir_heap *heap = bug_heap("jobs");
	void *object = weir_heap_alloc(heap, 100);
	void *other = weir_heap_alloc(heap, 100);

	weir_heap_free(heap, object);
	BUG_HERE(bug_write(object, 100); weir_heap_free(heap, object));
	MENDED(weir_heap_free(heap, other));
	(void)weir_heap_trim(heap);
	weir_heap_destroy(heap);
}

BUG(heap_stale_free, ROW(STALE_FREE), POOL(HEAP), NAMES("jobs"), STACKS(BOTH),
    GUARDED(NOW, "double-free"))
{
	struct weir_heap *heap = bug_heap("jobs");
	void *stale = weir_heap_alloc(heap, 100), *next;

	weir_heap_free(heap, stale);
	next = weir_heap_alloc(heap, 100);
	BUG_HERE(weir_heap_free(heap, stale));
	if (!bug || next != stale)
		weir_heap_free(heap, next);
	weir_heap_destroy(heap);
}

BUG(heap_interior, ROW(WILD), POOL(HEAP), NAMES("jobs"),
    ALWAYS(NOW, "interior-pointer"))
{
	struct weir_heap *heap = bug_heap("jobs");
	char *object = weir_heap_alloc(heap, 100);

	BUG_HERE(weir_heap_free(heap, object + 16));
	weir_heap_free(heap, object);
	weir_heap_destroy(heap);
}

BUG(heap_interior_of_a_run, ROW(WILD), POOL(HEAP), NAMES("jobs"),
    ALWAYS(NOW, "interior-pointer"))
{
	struct weir_heap *heap = bug_heap("jobs");
	char *object = weir_heap_alloc(heap, 100000);

	BUG_HERE(weir_heap_free(heap, object + 4096));
	weir_heap_free(heap, object);
	weir_heap_destroy(heap);
}

BUG(heap_misaligned, ROW(WILD), POOL(HEAP), NAMES("jobs"),
    ALWAYS(NOW, "misaligned-pointer"))
{
	struct weir_heap *heap = bug_heap("jobs");
	char *object = weir_heap_alloc(heap, 100);

	BUG_HERE(weir_heap_free(heap, object + 1));
	weir_heap_free(heap, object);
	weir_heap_destroy(heap);
}

BUG(heap_foreign_stack, ROW(WILD), POOL(HEAP), NAMES("default"),
    ALWAYS(NOW, "foreign-pointer"))
{
	uint64_t local[32] = {0};

	weir_free(weir_alloc(256));
	BUG_HERE(weir_free(bug_hide(local)));
}

BUG(heap_foreign_malloc, ROW(WILD), POOL(HEAP), NAMES("default"),
    ALWAYS(NOW, "foreign-pointer"))
{
	void *object = malloc(100);

	BUG_HERE(weir_free(object));
	free(object);
}

BUG(heap_wild, ROW(WILD), POOL(HEAP), NAMES("jobs"),
    ALWAYS(NOW, "foreign-pointer"))
{
	struct weir_heap *heap = bug_heap("jobs");

	BUG_HERE(weir_heap_free(
	    heap, bug_hide((void *)(uintptr_t)0x4141414141414140)));
	weir_heap_destroy(heap);
}

BUG(heap_wrong_heap, ROW(WRONG_POOL), POOL(HEAP), NAMES("jobs", "mail"),
    ALWAYS(NOW, "wrong-pool"))
{
	struct weir_heap *jobs = bug_heap("jobs"), *mail = bug_heap("mail");
	void *object = weir_heap_alloc(jobs, 100);

	BUG_HERE(weir_heap_free(mail, object));
	weir_heap_free(jobs, object);
	weir_heap_destroy(jobs);
	weir_heap_destroy(mail);
}

BUG(heap_object_of_a_cache, ROW(WRONG_POOL), POOL(HEAP),
    NAMES("default", "conn"), ALWAYS(NOW, "wrong-pool"))
{
	struct weir_cache *cache = bug_cache("conn", 200);
	void *object = weir_cache_alloc(cache);

	BUG_HERE(weir_free(object));
	weir_cache_free(cache, object);
	weir_cache_destroy(cache);
}

BUG(heap_object_of_a_region, ROW(WRONG_POOL), POOL(HEAP), NAMES("default"),
    TEXT("ends with its region"), ALWAYS(NOW, "wrong-pool"))
{
	struct weir_region *region = bug_region(NULL);

	BUG_HERE(weir_free(weir_region_alloc(region, 100)));
	weir_region_destroy(region);
}

BUG(heap_wrong_size, ROW(WRONG_POOL), POOL(HEAP), NAMES("jobs"),
    TEXT("size of 300"), ALWAYS(NOW, "wrong-size"))
{
	struct weir_heap *heap = bug_heap("jobs");
	void *object = weir_heap_alloc(heap, 100);

	BUG_HERE(weir_heap_free_sized(heap, object, 300));
	weir_heap_free_sized(heap, object, 100);
	weir_heap_destroy(heap);
}

BUG(heap_wrong_size_of_a_run, ROW(WRONG_POOL), POOL(HEAP), NAMES("default"),
    ALWAYS(NOW, "wrong-size"))
{
	void *object = weir_alloc(100000);

	BUG_HERE(weir_free_sized(object, 10000));
	weir_free_sized(object, 100000);
}

/* ---- accesses ------------------------------------------------------------------ */

BUG(heap_read_freed, ROW(READ_FREED), POOL(HEAP), NAMES("jobs"), STACKS(BOTH),
    GUARDED(NOW, "use-after-free"))
{
	struct weir_heap *heap = bug_heap("jobs");
	char *object = weir_heap_alloc(heap, 100);

	memset(object, 1, 100);
	weir_heap_free(heap, object);
	BUG_HERE(bug_read(object + 50, 1));
	weir_heap_destroy(heap);
}

BUG(heap_read_after_realloc, ROW(READ_FREED), POOL(HEAP), NAMES("jobs"),
    STACKS(BOTH), GUARDED(NOW, "use-after-free"))
{
	struct weir_heap *heap = bug_heap("jobs");
	char *old = weir_heap_alloc(heap, 100), *object;

	memset(old, 1, 100);
	object = weir_heap_realloc(heap, old, 5000);
	NEED(object != old);
	BUG_HERE(bug_read(old, 1));
	weir_heap_free(heap, object);
	weir_heap_destroy(heap);
}

/* The pages are idle in the library: still mapped. */
BUG(heap_read_freed_run, ROW(READ_FREED), POOL(HEAP), NAMES("jobs"),
    STACKS(BOTH), GUARDED(NOW, "use-after-free"))
{
	struct weir_heap *heap = bug_heap("jobs");
	char *object = weir_heap_alloc(heap, 100000);

	memset(object, 1, 100000);
	weir_heap_free(heap, object);
	BUG_HERE(bug_read(object + 99999, 1));
	weir_heap_destroy(heap);
}

BUG(heap_read_after_destroy, ROW(READ_FREED), POOL(HEAP), NAMES("jobs"),
    STACKS(BOTH), GUARDED(NOW, "use-after-free"))
{
	struct weir_heap *heap = bug_heap("jobs");
	char *object = weir_heap_alloc(heap, 100);

	memset(object, 1, 100);
	weir_heap_destroy(heap);
	BUG_HERE(bug_read(object, 1));
}

/* What is used again first is never looked at. */
BUG(heap_write_freed, ROW(WRITE_FREED), POOL(HEAP), NAMES("jobs"), STACKS(BOTH),
    GUARDED(NOW, "use-after-free"))
{
	struct weir_heap *heap = bug_heap("jobs");
	void *object = weir_heap_alloc(heap, 100);

	weir_heap_free(heap, object);
	BUG_HERE(bug_write(object, 100));
	weir_heap_free(heap, weir_heap_alloc(heap, 100));
	weir_heap_destroy(heap);
}

/* At the end of the heap, at a trim, when a magazine is full: it is looked at
 * when it comes to the stock. */
BUG(heap_write_freed_and_at_rest, ROW(WRITE_FREED), POOL(HEAP), NAMES("jobs"),
    STACKS(BOTH), IN_A(LATER, "corruption"), IN_S(NOW, "use-after-free"),
    IN_D(NOW, "use-after-free"))
{
	struct weir_heap *heap = bug_heap("jobs");
	void *object = weir_heap_alloc(heap, 100);

	weir_heap_free(heap, object);
	BUG_HERE(bug_write(object, 8));
	(void)weir_heap_trim(heap);
	weir_heap_destroy(heap);
}

static void
free_two_write_one(void *context)
{
	struct pair *pair = context;
	void *other = weir_heap_alloc(pair->heap, 100);
	bool bug = pair->bug;

	weir_heap_free(pair->heap, pair->object);
	weir_heap_free(pair->heap, other);
	BUG_HERE(bug_write(pair->object, 1));
}

BUG(heap_write_freed_by_a_thread_that_ended, ROW(WRITE_FREED), POOL(HEAP),
    NAMES("jobs"), STACKS(BOTH), IN_A(LATER, "corruption"),
    IN_S(NOW, "use-after-free"), IN_D(NOW, "use-after-free"))
{
	struct pair pair = {.heap = bug_heap("jobs"), .bug = bug};

	pair.object = weir_heap_alloc(pair.heap, 100);
	bug_on_thread(free_two_write_one, &pair);
	weir_heap_destroy(pair.heap);
}

/* Among them those that come to the pool's stock meanwhile. */
static void
overwrite_free_objects(bool bug, size_t from)
{
	struct weir_heap *heap = bug_heap("jobs");
	char *first[64], *objects[64];

	for (size_t i = 0; i < 64; i++)
		first[i] = weir_heap_alloc(heap, 64);
	for (size_t i = 0; i < 64; i++)
		weir_heap_free(heap, first[i]);
	BUG_HERE(for (size_t i = 0; i < 64; i++)
		bug_forge(first[i] + from, 64 - from, objects));
	for (size_t i = 0; i < 64; i++) {
		objects[i] = weir_heap_alloc(heap, 64);
		NEED(weir_heap_of(objects[i]) == heap);
	}
	NEED(bug_distinct((void **)objects, 64));
	for (size_t i = 0; i < 64; i++)
		weir_heap_free(heap, objects[i]);
	if (bug)
		bug_mark("refused");
	weir_heap_destroy(heap);
}

BUG(heap_free_objects_overwritten, ROW(FORGED), POOL(HEAP), NAMES("jobs"),
    STACKS(BOTH), IN_A(LATER, "corruption"), IN_S(NOW, "use-after-free"),
    IN_D(NOW, "use-after-free"))
{
	overwrite_free_objects(bug, 0);
}

BUG(heap_free_objects_overwritten_but_for_the_mark, ROW(FORGED), POOL(HEAP),
    NAMES("jobs"), STACKS(BOTH), IN_A(REFUSED, NULL),
    IN_S(NOW, "use-after-free"), IN_D(NOW, "use-after-free"))
{
	overwrite_free_objects(bug, sizeof(uint64_t));
}

/* The pages of a run, idle in the library. */
BUG(heap_free_run_overwritten, ROW(FORGED), POOL(HEAP), NAMES("jobs"),
    STACKS(BOTH), IN_A(REFUSED, NULL), IN_S(NOW, "use-after-free"),
    IN_D(NOW, "use-after-free"))
{
	struct weir_heap *heap = bug_heap("jobs");
	void *run = weir_heap_alloc(heap, 100000), *runs[8];

	weir_heap_free(heap, run);
	BUG_HERE(bug_forge(run, 100000, runs));
	for (size_t i = 0; i < 8; i++) {
		runs[i] = weir_heap_alloc(heap, 100000);
		NEED(weir_heap_of(runs[i]) == heap);
		memset(runs[i], 1, 100000);
	}
	NEED(bug_distinct(runs, 8));
	for (size_t i = 0; i < 8; i++)
		weir_heap_free(heap, runs[i]);
	if (bug)
		bug_mark("refused");
	weir_heap_destroy(heap);
}

BUG(heap_overflow, ROW(OVERFLOW), POOL(HEAP), NAMES("jobs"),
    STACKS(BUG_STACK_ALLOC), GUARDED(NOW, "overflow"))
{
	struct weir_heap *heap = bug_heap("jobs");
	char *object = weir_heap_alloc(heap, 128);

	BUG_HERE(bug_write(object + 128, 1));
	weir_heap_free(heap, object);
	weir_heap_destroy(heap);
}

/* Requested were 100 bytes, the slot has 112. */
BUG(heap_overflow_into_slack, ROW(OVERFLOW), POOL(HEAP), NAMES("jobs"),
    STACKS(BUG_STACK_ALLOC), GUARDED(LATER, "overflow"))
{
	struct weir_heap *heap = bug_heap("jobs");
	char *object = weir_heap_alloc(heap, 101);

	BUG_HERE(bug_write(object + 101, 1));
	weir_heap_free(heap, object);
	weir_heap_destroy(heap);
}

BUG(heap_overflow_of_a_run, ROW(OVERFLOW), POOL(HEAP), NAMES("jobs"),
    STACKS(BUG_STACK_ALLOC), GUARDED(NOW, "overflow"))
{
	struct weir_heap *heap = bug_heap("jobs");
	char *object = weir_heap_alloc(heap, 40960), *next;

	next = weir_heap_alloc(heap, 40960);
	BUG_HERE(bug_write(object + 40960, 1));
	weir_heap_free(heap, object);
	weir_heap_free(heap, next);
	weir_heap_destroy(heap);
}

/* It fills a mapping of its own, and nothing may be behind that. */
#define HUGE ((size_t)66 << 20)

BUG(heap_overflow_of_a_mapping, ROW(OVERFLOW), POOL(HEAP), NAMES("jobs"),
    NO_SANITIZER, STACKS(BUG_STACK_ALLOC), IN_A(DIES, NULL),
    IN_S(NOW, "overflow"), IN_D(NOW, "overflow"))
{
	struct weir_heap *heap = bug_heap("jobs");
	char *first = weir_heap_alloc(heap, HUGE);
	char *object = weir_heap_alloc(heap, HUGE);

	bug_write(object + HUGE - 1, 1);
	BUG_HERE(bug_write(object + HUGE, 1));
	weir_heap_free(heap, object);
	weir_heap_free(heap, first);
	weir_heap_destroy(heap);
}

BUG(heap_overread_of_a_mapping, ROW(OVERREAD), POOL(HEAP), NAMES("jobs"),
    NO_SANITIZER, STACKS(BUG_STACK_ALLOC), IN_A(DIES, NULL),
    IN_S(NOW, "overflow"), IN_D(NOW, "overflow"))
{
	struct weir_heap *heap = bug_heap("jobs");
	char *first = weir_heap_alloc(heap, HUGE);
	char *object = weir_heap_alloc(heap, HUGE);

	bug_read(object + HUGE - 1, 1);
	BUG_HERE(bug_read(object + HUGE, 1));
	weir_heap_free(heap, object);
	weir_heap_free(heap, first);
	weir_heap_destroy(heap);
}

BUG(heap_overread, ROW(OVERREAD), POOL(HEAP), NAMES("jobs"),
    STACKS(BUG_STACK_ALLOC), GUARDED(NOW, "overflow"))
{
	struct weir_heap *heap = bug_heap("jobs");
	char *object = weir_heap_alloc(heap, 4096);

	memset(object, 1, 4096);
	BUG_HERE(bug_read(object + 4096, 8));
	weir_heap_free(heap, object);
	weir_heap_destroy(heap);
}

BUG(heap_underflow, ROW(UNDERFLOW), POOL(HEAP), NAMES("jobs"),
    STACKS(BUG_STACK_ALLOC), GUARDED(LATER, "underflow"))
{
	struct weir_heap *heap = bug_heap("jobs");
	char *object = weir_heap_alloc(heap, 112);

	BUG_HERE(bug_write(object - 1, 1));
	weir_heap_free(heap, object);
	weir_heap_destroy(heap);
}

BUG(heap_read_unset, ROW(UNSET), POOL(HEAP), GUARDED(PATTERN, NULL))
{
	struct weir_heap *heap = bug_heap("jobs");
	unsigned char *object = weir_heap_alloc(heap, 100);

	memset(object, 'k', 100);
	weir_heap_free(heap, object);
	object = weir_heap_alloc(heap, 100);
	MENDED(memset(object, 0, 100));
	BUG_HERE(if (object[19] != 'k' && object[19] == object[60])
		bug_mark("pattern"));
	weir_heap_free(heap, object);
	weir_heap_destroy(heap);
}

/* ---- sizes, life ----------------------------------------------------------------- */

BUG(heap_product_overflows, ROW(PRODUCT), POOL(HEAP), ALWAYS(REFUSED, NULL))
{
	size_t count = (SIZE_MAX >> 4) + 2;
	void *object = NULL;

	BUG_HERE(if (weir_calloc(*(volatile size_t *)&count, 16) == NULL)
		bug_mark("refused"));
	MENDED(object = weir_calloc(10, 16));
	weir_free(object);
}

/* Without the flag the end of a heap is that of its objects. */
static struct weir_heap *
heap_that_reports(const char *name)
{
	struct weir_heap *heap;

	NEED(weir_heap_create(name,
		 &(struct weir_heap_config){.flags = WEIR_HEAP_REPORT_LIVE},
		 &heap) == 0);
	return heap;
}

BUG(heap_live_at_destroy, ROW(LIVE), POOL(HEAP), NAMES("jobs"),
    TEXT("2 objects"), ALWAYS(NOW, "live-objects-at-destroy"))
{
	struct weir_heap *heap = heap_that_reports("jobs");
	void *small = weir_heap_alloc(heap, 100);
	void *run = weir_heap_alloc(heap, 100000);

	weir_heap_free(heap, weir_heap_alloc(heap, 3000));
	BUG_HERE(weir_heap_destroy(heap));
	weir_heap_free(heap, small);
	weir_heap_free(heap, run);
	weir_heap_destroy(heap);
}

/* The object of another thread that ended since. */
static void
free_one_keep_one(void *context)
{
	struct pair *pair = context;

	weir_heap_free(pair->heap, weir_heap_alloc(pair->heap, 100));
	pair->object = weir_heap_alloc(pair->heap, 100);
}

BUG(heap_live_of_an_ended_thread, ROW(LIVE), POOL(HEAP), NAMES("jobs"),
    TEXT("1 object is"), ALWAYS(NOW, "live-objects-at-destroy"))
{
	struct pair pair = {.heap = heap_that_reports("jobs")};

	bug_on_thread(free_one_keep_one, &pair);
	BUG_HERE(weir_heap_destroy(pair.heap));
	weir_heap_free(pair.heap, pair.object);
	weir_heap_destroy(pair.heap);
}

BUG(heap_leak, ROW(LEAK), POOL(HEAP), NAMES("jobs"),
    TEXT("leak: heap \"jobs\": 1 object"), ENVIRONMENT("WEIR_LEAKS=1"),
    ALWAYS(EXIT, NULL))
{
	struct weir_heap *heap = bug_heap("jobs");

	BUG_HERE((void)!weir_heap_alloc(heap, 100));
	MENDED(weir_heap_destroy(heap));
}

BUG(heap_leak_default, ROW(LEAK), POOL(HEAP), NAMES("default"),
    TEXT("leak: heap \"default\": 1 object"), ENVIRONMENT("WEIR_LEAKS=1"),
    ALWAYS(EXIT, NULL))
{
	void *object = weir_alloc(100);

	MENDED(weir_free(object));
}

BUG(heap_destroyed_twice, ROW(GONE), POOL(HEAP), NAMES("jobs"),
    ALWAYS(NOW, "double-destroy"))
{
	struct weir_heap *heap = bug_heap("jobs");

	weir_heap_destroy(heap);
	BUG_HERE(weir_heap_destroy(heap));
}

BUG(heap_alloc_after_destroy, ROW(GONE), POOL(HEAP), NAMES("jobs"),
    ALWAYS(NOW, "use-after-destroy"))
{
	struct weir_heap *heap = bug_heap("jobs");

	weir_heap_free(heap, weir_heap_alloc(heap, 100));
	weir_heap_destroy(heap);
	BUG_HERE((void)!weir_heap_alloc(heap, 100));
}

BUG(heap_free_after_destroy, ROW(GONE), POOL(HEAP), NAMES("jobs"),
    ALWAYS(NOW, "use-after-destroy"))
{
	struct weir_heap *heap = bug_heap("jobs");
	void *object = weir_heap_alloc(heap, 100);

	MENDED(weir_heap_free(heap, object));
	weir_heap_destroy(heap);
	BUG_HERE(weir_heap_free(heap, object));
}

BUG(heap_alignment_no_power_of_two, ROW(CALL), POOL(HEAP), NAMES("default"),
    ALWAYS(NOW, "bad-argument"))
{
	void *object = weir_aligned(32, 100);

	BUG_HERE((void)!weir_aligned(48, 100));
	weir_free(object);
}
