/* SPDX-License-Identifier: MIT */
/*
 * numbered.c - bugs with buddies and bounded pools, and one with a stack.
 */
#include "bug.h"

#include <pthread.h>

#define BOTH (BUG_STACK_ALLOC | BUG_STACK_FREE)
#define UNITS 64

static _Alignas(4096) char units[UNITS * 4096];

/* ---- buddies ------------------------------------------------------------------- */

BUG(buddy_double_free, ROW(DOUBLE_FREE), POOL(BUDDY), NAMES("db"), STACKS(BOTH),
    ALWAYS(NOW, "double-free"))
{
	struct weir_buddy *buddy = bug_buddy("db", NULL, 0);
	size_t first = weir_buddy_alloc(buddy, 8);

	weir_buddy_free(buddy, first);
	BUG_HERE(weir_buddy_free(buddy, first));
	weir_buddy_destroy(buddy);
}

/* Both halves were merged since. */
BUG(buddy_double_free_after_merge, ROW(DOUBLE_FREE), POOL(BUDDY), NAMES("db"),
    STACKS(BOTH), ALWAYS(NOW, "double-free"))
{
	struct weir_buddy *buddy = bug_buddy("db", NULL, 0);
	size_t first = weir_buddy_alloc(buddy, 8);
	size_t second = weir_buddy_alloc(buddy, 8);

	weir_buddy_free(buddy, second);
	weir_buddy_free(buddy, first);
	BUG_HERE(weir_buddy_free(buddy, second));
	weir_buddy_destroy(buddy);
}

/* A number is the same number to whoever has it, but under guard it rests. */
BUG(buddy_stale_free, ROW(STALE_FREE), POOL(BUDDY), NAMES("db"), STACKS(BOTH),
    GUARDED(NOW, "double-free"))
{
	struct weir_buddy *buddy = bug_buddy("db", NULL, 0);
	size_t stale = weir_buddy_alloc(buddy, 8), next;

	weir_buddy_free(buddy, stale);
	next = weir_buddy_alloc(buddy, 8);
	BUG_HERE(weir_buddy_free(buddy, stale));
	if (!bug || next != stale)
		weir_buddy_free(buddy, next);
	weir_buddy_destroy(buddy);
}

/* By address, and of a run that was made shorter. */
BUG(buddy_stale_free_by_address, ROW(STALE_FREE), POOL(BUDDY), NAMES("pages"),
    STACKS(BOTH), GUARDED(NOW, "double-free"))
{
	struct weir_buddy *buddy = bug_buddy("pages", units, 4096);
	char *stale = weir_buddy_alloc_address(buddy, 8), *next;

	NEED(weir_buddy_resize(buddy, weir_buddy_unit(buddy, stale), 2) == 0);
	weir_buddy_free_address(buddy, stale);
	next = weir_buddy_alloc_address(buddy, 2);
	BUG_HERE(weir_buddy_free_address(buddy, stale));
	if (!bug || next != stale)
		weir_buddy_free_address(buddy, next);
	weir_buddy_destroy(buddy);
}

BUG(buddy_stale_resize, ROW(CALL), POOL(BUDDY), NAMES("db"), STACKS(BOTH),
    GUARDED(NOW, "double-free"))
{
	struct weir_buddy *buddy = bug_buddy("db", NULL, 0);
	size_t stale = weir_buddy_alloc(buddy, 8), next;

	weir_buddy_free(buddy, stale);
	next = weir_buddy_alloc(buddy, 8);
	BUG_HERE((void)weir_buddy_resize(buddy, stale, 2));
	weir_buddy_free(buddy, next);
	weir_buddy_destroy(buddy);
}

BUG(buddy_interior, ROW(WILD), POOL(BUDDY), NAMES("db"),
    ALWAYS(NOW, "interior-pointer"))
{
	struct weir_buddy *buddy = bug_buddy("db", NULL, 0);
	size_t first = weir_buddy_alloc(buddy, 8);

	BUG_HERE(weir_buddy_free(buddy, first + 1));
	weir_buddy_free(buddy, first);
	weir_buddy_destroy(buddy);
}

BUG(buddy_foreign, ROW(WILD), POOL(BUDDY), NAMES("db"),
    ALWAYS(NOW, "foreign-pointer"))
{
	struct weir_buddy *buddy = bug_buddy("db", NULL, 0);

	BUG_HERE(weir_buddy_free(buddy, UNITS));
	weir_buddy_destroy(buddy);
}

BUG(buddy_misaligned, ROW(WILD), POOL(BUDDY), NAMES("pages"),
    ALWAYS(NOW, "misaligned-pointer"))
{
	struct weir_buddy *buddy = bug_buddy("pages", units, 4096);
	char *run = weir_buddy_alloc_address(buddy, 2);

	BUG_HERE(weir_buddy_free_address(buddy, run + 64));
	weir_buddy_free_address(buddy, run);
	weir_buddy_destroy(buddy);
}

/* The address is of another buddy's range. */
BUG(buddy_wrong_buddy, ROW(WRONG_POOL), POOL(BUDDY), NAMES("low"),
    ALWAYS(NOW, "foreign-pointer"))
{
	static _Alignas(4096) char others[UNITS * 4096];
	struct weir_buddy *low = bug_buddy("low", units, 4096);
	struct weir_buddy *high = bug_buddy("high", others, 4096);
	void *run = weir_buddy_alloc_address(high, 2);

	BUG_HERE(weir_buddy_free_address(low, run));
	weir_buddy_free_address(high, run);
	weir_buddy_destroy(low);
	weir_buddy_destroy(high);
}

/* Pages of the program's that may trap while they are free. */
static struct weir_buddy *
pages_buddy(void)
{
	struct weir_buddy *buddy;

	NEED(weir_buddy_create("pages",
		 &(struct weir_buddy_config){.unit_count = UNITS,
		     .base = bug_pages(UNITS),
		     .unit_bytes = 4096,
		     .flags = WEIR_BUDDY_TRAP},
		 &buddy) == 0);
	return buddy;
}

BUG(buddy_read_freed, ROW(READ_FREED), POOL(BUDDY), NAMES("pages"),
    STACKS(BOTH), GUARDED(NOW, "use-after-free"))
{
	struct weir_buddy *buddy = pages_buddy();
	char *run = weir_buddy_alloc_address(buddy, 4);

	memset(run, 1, 4 * 4096);
	weir_buddy_free_address(buddy, run);
	BUG_HERE(bug_read(run + 3 * 4096 + 7, 1));
	weir_buddy_destroy(buddy);
}

/* It is the next one's by then. */
BUG(buddy_write_freed, ROW(WRITE_FREED), POOL(BUDDY), NAMES("pages"),
    STACKS(BOTH), GUARDED(NOW, "use-after-free"))
{
	struct weir_buddy *buddy = pages_buddy();
	char *run = weir_buddy_alloc_address(buddy, 4), *next;

	weir_buddy_free_address(buddy, run);
	next = weir_buddy_alloc_address(buddy, 4);
	memset(next, 1, 4 * 4096);
	BUG_HERE(bug_write(run, 8));
	weir_buddy_free_address(buddy, next);
	weir_buddy_destroy(buddy);
}

/* By who is handed it next. */
BUG(buddy_write_freed_and_taken, ROW(WRITE_FREED), POOL(BUDDY), NAMES("pages"),
    STACKS(BOTH), IN_A(LATER, "corruption"), IN_S(NOW, "use-after-free"),
    IN_D(NOW, "use-after-free"))
{
	struct weir_buddy *buddy = pages_buddy();
	char *run = weir_buddy_alloc_address(buddy, 4);

	memset(run, 1, 4 * 4096);
	weir_buddy_free_address(buddy, run);
	BUG_HERE(bug_write(run, 8));
	weir_buddy_free_address(buddy, weir_buddy_alloc_address(buddy, 2));
	weir_buddy_destroy(buddy);
}

/* Which is in the middle of a larger block by then. */
BUG(buddy_write_freed_and_merged, ROW(WRITE_FREED), POOL(BUDDY), NAMES("pages"),
    STACKS(BOTH), IN_A(LATER, "corruption"), IN_S(NOW, "use-after-free"),
    IN_D(NOW, "use-after-free"))
{
	struct weir_buddy *buddy = pages_buddy();
	char *low = weir_buddy_alloc_address(buddy, 1);
	char *high = weir_buddy_alloc_address(buddy, 1);

	memset(high, 1, 4096);
	weir_buddy_free_address(buddy, high);
	weir_buddy_free_address(buddy, low);
	BUG_HERE(bug_write(high, 1));
	low = weir_buddy_alloc_address(buddy, UNITS);
	weir_buddy_free_address(buddy, low);
	weir_buddy_destroy(buddy);
}

BUG(buddy_write_freed_until_the_end, ROW(WRITE_FREED), POOL(BUDDY),
    NAMES("pages"), STACKS(BOTH), IN_A(LATER, "corruption"),
    IN_S(NOW, "use-after-free"), IN_D(NOW, "use-after-free"))
{
	struct weir_buddy *buddy = pages_buddy();
	char *run = weir_buddy_alloc_address(buddy, 3);

	weir_buddy_free_address(buddy, run);
	BUG_HERE(bug_write(run, 8));
	weir_buddy_destroy(buddy);
}

/* What resize took off the end. */
BUG(buddy_write_behind_shorter, ROW(OVERFLOW), POOL(BUDDY), NAMES("pages"),
    STACKS(BUG_STACK_ALLOC), IN_A(LATER, "corruption"), IN_S(NOW, "overflow"),
    IN_D(NOW, "overflow"))
{
	struct weir_buddy *buddy = pages_buddy();
	char *run = weir_buddy_alloc_address(buddy, 4);

	NEED(weir_buddy_resize(buddy, weir_buddy_unit(buddy, run), 2) == 0);
	bug_write(run + 2 * 4096 - 1, 1);
	BUG_HERE(bug_write(run + 2 * 4096, 1));
	weir_buddy_free_address(buddy, run);
	weir_buddy_destroy(buddy);
}

BUG(buddy_overread, ROW(OVERREAD), POOL(BUDDY), NAMES("pages"),
    STACKS(BUG_STACK_ALLOC), GUARDED(NOW, "overflow"))
{
	struct weir_buddy *buddy = pages_buddy();
	char *run = weir_buddy_alloc_address(buddy, 4);

	bug_read(run, 4 * 4096);
	BUG_HERE(bug_read(run + 4 * 4096, 1));
	weir_buddy_free_address(buddy, run);
	weir_buddy_destroy(buddy);
}

/* Between two runs it is the nearer one's that was meant. */
BUG(buddy_underflow, ROW(UNDERFLOW), POOL(BUDDY), NAMES("pages"),
    STACKS(BUG_STACK_ALLOC), GUARDED(NOW, "underflow"))
{
	struct weir_buddy *buddy = pages_buddy();
	char *one = weir_buddy_alloc_address(buddy, 1);
	char *run = weir_buddy_alloc_address(buddy, 4);

	NEED(run == one + 4 * 4096);
	bug_write(run, 1);
	BUG_HERE(bug_write(run - 1, 1));
	weir_buddy_free_address(buddy, run);
	weir_buddy_free_address(buddy, one);
	weir_buddy_destroy(buddy);
}

/* What is free is known by bits that lie elsewhere: there is no link to forge. */
BUG(buddy_free_units_overwritten, ROW(FORGED), POOL(BUDDY),
    ALWAYS(REFUSED, NULL))
{
	struct weir_buddy *buddy = bug_buddy("pages", units, 4096);
	char *runs[UNITS / 2], *fake = (char *)&runs;
	bool forged = false;

	for (size_t i = 0; i < UNITS / 2; i++)
		runs[i] = weir_buddy_alloc_address(buddy, 1);
	for (size_t i = 0; i < UNITS / 2; i += 2)
		weir_buddy_free_address(buddy, runs[i]);
	BUG_HERE(for (size_t i = 0; i < UNITS / 2; i += 2)
		bug_forge(runs[i], 4096, fake));
	for (size_t i = 0; i < UNITS / 2; i += 2) {
		runs[i] = weir_buddy_alloc_address(buddy, 1);
		NEED(runs[i] != NULL);
		forged |= (size_t)(runs[i] - units) >= sizeof(units);
	}
	NEED(!forged && bug_distinct((void **)runs, UNITS / 2));
	for (size_t i = 0; i < UNITS / 2; i++)
		weir_buddy_free_address(buddy, runs[i]);
	if (bug)
		bug_mark("refused");
	weir_buddy_destroy(buddy);
}

BUG(buddy_free_units_that_trap_overwritten, ROW(FORGED), POOL(BUDDY),
    NAMES("pages"), STACKS(BOTH), IN_A(LATER, "corruption"),
    IN_S(NOW, "use-after-free"), IN_D(NOW, "use-after-free"))
{
	struct weir_buddy *buddy = pages_buddy();
	char *run = weir_buddy_alloc_address(buddy, 4), *next;
	char *base = weir_buddy_address(buddy, 0);

	weir_buddy_free_address(buddy, run);
	BUG_HERE(bug_forge(run, 4 * 4096, &next));
	next = weir_buddy_alloc_address(buddy, 4);
	NEED(next != NULL && (size_t)(next - base) < (size_t)UNITS * 4096);
	if (bug)
		bug_mark("refused");
	weir_buddy_free_address(buddy, next);
	weir_buddy_destroy(buddy);
}

BUG(buddy_count_too_large, ROW(PRODUCT), POOL(BUDDY), ALWAYS(REFUSED, NULL))
{
	struct weir_buddy *buddy = bug_buddy("db", units, 4096);
	size_t first = WEIR_BUDDY_NONE;

	BUG_HERE(if (weir_buddy_alloc(buddy, SIZE_MAX / 4096 + 2) ==
		     WEIR_BUDDY_NONE) bug_mark("refused"));
	MENDED(first = weir_buddy_alloc(buddy, 2));
	weir_buddy_free(buddy, first);
	weir_buddy_destroy(buddy);
}

BUG(buddy_live_at_destroy, ROW(LIVE), POOL(BUDDY), NAMES("db"),
    ALWAYS(NOW, "live-objects-at-destroy"))
{
	struct weir_buddy *buddy = bug_buddy("db", NULL, 0);
	size_t first = weir_buddy_alloc(buddy, 3);

	BUG_HERE(weir_buddy_destroy(buddy));
	weir_buddy_free(buddy, first);
	weir_buddy_destroy(buddy);
}

BUG(buddy_leak, ROW(LEAK), POOL(BUDDY), NAMES("db"),
    TEXT("leak: buddy \"db\": 3 objects"), ENVIRONMENT("WEIR_LEAKS=1"),
    ALWAYS(EXIT, NULL))
{
	struct weir_buddy *buddy = bug_buddy("db", NULL, 0);
	size_t first = weir_buddy_alloc(buddy, 3);

	MENDED(weir_buddy_free(buddy, first); weir_buddy_destroy(buddy));
}

BUG(buddy_destroyed_twice, ROW(GONE), POOL(BUDDY), NAMES("db"),
    ALWAYS(NOW, "double-destroy"))
{
	struct weir_buddy *buddy = bug_buddy("db", NULL, 0);

	weir_buddy_destroy(buddy);
	BUG_HERE(weir_buddy_destroy(buddy));
}

BUG(buddy_alloc_after_destroy, ROW(GONE), POOL(BUDDY), NAMES("db"),
    ALWAYS(NOW, "use-after-destroy"))
{
	struct weir_buddy *buddy = bug_buddy("db", NULL, 0);

	weir_buddy_destroy(buddy);
	BUG_HERE((void)!weir_buddy_alloc(buddy, 1));
}

/* ---- bounded pools --------------------------------------------------------------- */

static struct weir_bounded *
bounded(void *storage, size_t bytes, const char *name)
{
	struct weir_bounded *pool;

	NEED(weir_bounded_init(storage, bytes, name,
		 &(struct weir_bounded_config){
		     .object_bytes = 64, .object_count = 16},
		 &pool) == 0);
	return pool;
}

#define STORAGE(variable) \
	static _Alignas(WEIR_BOUNDED_ALIGN) char variable[8192]

BUG(bounded_double_free, ROW(DOUBLE_FREE), POOL(BOUNDED), NAMES("isr"),
    ALWAYS(NOW, "double-free"))
{
	STORAGE(storage);
	struct weir_bounded *pool = bounded(storage, sizeof(storage), "isr");
	void *object = weir_bounded_alloc(pool);

	weir_bounded_free(pool, object);
	BUG_HERE(weir_bounded_free(pool, object));
	weir_bounded_finish(pool);
}

BUG(bounded_interior, ROW(WILD), POOL(BOUNDED), NAMES("isr"),
    ALWAYS(NOW, "interior-pointer"))
{
	STORAGE(storage);
	struct weir_bounded *pool = bounded(storage, sizeof(storage), "isr");
	char *object = weir_bounded_alloc(pool);

	BUG_HERE(weir_bounded_free(pool, object + 16));
	weir_bounded_free(pool, object);
	weir_bounded_finish(pool);
}

BUG(bounded_misaligned, ROW(WILD), POOL(BOUNDED), NAMES("isr"),
    ALWAYS(NOW, "misaligned-pointer"))
{
	STORAGE(storage);
	struct weir_bounded *pool = bounded(storage, sizeof(storage), "isr");
	char *object = weir_bounded_alloc(pool);

	BUG_HERE(weir_bounded_free(pool, object + 1));
	weir_bounded_free(pool, object);
	weir_bounded_finish(pool);
}

BUG(bounded_foreign, ROW(WILD), POOL(BOUNDED), NAMES("isr"),
    ALWAYS(NOW, "foreign-pointer"))
{
	STORAGE(storage);
	struct weir_bounded *pool = bounded(storage, sizeof(storage), "isr");
	uint64_t local[8];

	BUG_HERE(weir_bounded_free(pool, bug_hide(local)));
	weir_bounded_finish(pool);
}

BUG(bounded_wrong_pool, ROW(WRONG_POOL), POOL(BOUNDED), NAMES("isr"),
    ALWAYS(NOW, "foreign-pointer"))
{
	STORAGE(storage);
	STORAGE(others);
	struct weir_bounded *pool = bounded(storage, sizeof(storage), "isr");
	struct weir_bounded *other = bounded(others, sizeof(others), "task");
	void *object = weir_bounded_alloc(other);

	BUG_HERE(weir_bounded_free(pool, object));
	weir_bounded_free(other, object);
	weir_bounded_finish(pool);
	weir_bounded_finish(other);
}

/* The pool asks nobody what mode is in force; who shows it has started the
 * library. */
BUG(bounded_stale_free, ROW(STALE_FREE), POOL(BOUNDED), NAMES("isr"),
    GUARDED(NOW, "double-free"))
{
	STORAGE(storage);
	struct weir_bounded *pool = bounded(storage, sizeof(storage), "isr");
	struct weir_bounded_view view;
	void *stale, *next;

	weir_bounded_show(pool, &view);
	stale = weir_bounded_alloc(pool);
	weir_bounded_free(pool, stale);
	next = weir_bounded_alloc(pool);
	BUG_HERE(weir_bounded_free(pool, stale));
	if (!bug || next != stale)
		weir_bounded_free(pool, next);
	weir_bounded_hide(&view);
	weir_bounded_finish(pool);
}

BUG(bounded_read_freed, ROW(READ_FREED), POOL(BOUNDED), ALWAYS(NEVER, NULL))
{
	STORAGE(storage);
	struct weir_bounded *pool = bounded(storage, sizeof(storage), "isr");
	void *object = weir_bounded_alloc(pool);

	weir_bounded_free(pool, object);
	BUG_HERE(bug_read(object, 1));
	weir_bounded_finish(pool);
}

BUG(bounded_overflow, ROW(OVERFLOW), POOL(BOUNDED), ALWAYS(NEVER, NULL))
{
	STORAGE(storage);
	struct weir_bounded *pool = bounded(storage, sizeof(storage), "isr");
	char *object = weir_bounded_alloc(pool);

	BUG_HERE(bug_write(object + 64, 1));
	weir_bounded_free(pool, object);
	weir_bounded_finish(pool);
}

/* The words that say what is free lie behind the objects or before them. */
BUG(bounded_underflow, ROW(UNDERFLOW), POOL(BOUNDED), ALWAYS(NEVER, NULL))
{
	STORAGE(storage);
	struct weir_bounded *pool = bounded(storage, sizeof(storage), "isr");
	char *one = weir_bounded_alloc(pool), *other = weir_bounded_alloc(pool);
	char *high = one > other ? one : other;

	BUG_HERE(bug_write(high - 1, 1));
	weir_bounded_free(pool, one);
	weir_bounded_free(pool, other);
	weir_bounded_finish(pool);
}

BUG(bounded_free_object_overwritten, ROW(FORGED), POOL(BOUNDED),
    ALWAYS(REFUSED, NULL))
{
	STORAGE(storage);
	struct weir_bounded *pool = bounded(storage, sizeof(storage), "isr");
	char *objects[16];
	bool forged = false;

	for (size_t i = 0; i < 16; i++)
		objects[i] = weir_bounded_alloc(pool);
	for (size_t i = 0; i < 16; i++)
		weir_bounded_free(pool, objects[i]);
	BUG_HERE(
	    for (size_t i = 0; i < 16; i++) bug_forge(objects[i], 64, &forged));
	for (size_t i = 0; i < 16; i++) {
		objects[i] = weir_bounded_alloc(pool);
		NEED(objects[i] != NULL);
		forged |= (size_t)(objects[i] - storage) >= sizeof(storage);
	}
	NEED(!forged && bug_distinct((void **)objects, 16));
	for (size_t i = 0; i < 16; i++)
		weir_bounded_free(pool, objects[i]);
	if (bug)
		bug_mark("refused");
	weir_bounded_finish(pool);
}

/* One in the list of pools is told as any other. */
BUG(bounded_leak, ROW(LEAK), POOL(BOUNDED), NAMES("isr"),
    TEXT("leak: bounded \"isr\": 1 object"), ENVIRONMENT("WEIR_LEAKS=1"),
    ALWAYS(EXIT, NULL))
{
	STORAGE(storage);
	static struct weir_bounded_view view;
	struct weir_bounded *pool = bounded(storage, sizeof(storage), "isr");
	void *object;

	weir_bounded_show(pool, &view);
	object = weir_bounded_alloc(pool);
	MENDED(weir_bounded_free(pool, object); weir_bounded_hide(&view));
}

BUG(bounded_product_overflows, ROW(PRODUCT), POOL(BOUNDED),
    ALWAYS(REFUSED, NULL))
{
	struct weir_bounded_config config = {
	    .object_bytes = 64, .object_count = 16};

	NEED(weir_bounded_storage_bytes(&config) > 0);
	config.object_bytes = SIZE_MAX / 8 + 1;
	BUG_HERE(
	    if (weir_bounded_storage_bytes(&config) == 0) bug_mark("refused"));
}

BUG(bounded_live_at_finish, ROW(LIVE), POOL(BOUNDED), NAMES("isr"),
    ALWAYS(NOW, "live-objects-at-destroy"))
{
	STORAGE(storage);
	struct weir_bounded *pool = bounded(storage, sizeof(storage), "isr");
	void *object = weir_bounded_alloc(pool);

	BUG_HERE(weir_bounded_finish(pool));
	weir_bounded_free(pool, object);
	weir_bounded_finish(pool);
}

BUG(bounded_finished_twice, ROW(GONE), POOL(BOUNDED), NAMES("isr"),
    ALWAYS(NOW, "double-destroy"))
{
	STORAGE(storage);
	struct weir_bounded *pool = bounded(storage, sizeof(storage), "isr");

	weir_bounded_finish(pool);
	BUG_HERE(weir_bounded_finish(pool));
}

/* ---- a stack --------------------------------------------------------------------- */

static unsigned
recurse(unsigned depth)
{
	volatile char frame[512];

	frame[0] = (char)depth;
	frame[511] = frame[0];
	return depth == 0 ? 0 : recurse(depth - 1) + (unsigned)frame[511];
}

static void *
run_deep(void *depth)
{
	/* A thread that uses a pool is known. */
	weir_free(weir_alloc(100));
	(void)recurse(*(unsigned *)depth);
	return NULL;
}

static void
deep(unsigned depth)
{
	pthread_attr_t attributes;
	pthread_t thread;

	NEED(pthread_attr_init(&attributes) == 0);
	NEED(pthread_attr_setstacksize(&attributes, 256 << 10) == 0);
	NEED(pthread_create(&thread, &attributes, run_deep, &depth) == 0);
	NEED(pthread_join(thread, NULL) == 0);
	NEED(pthread_attr_destroy(&attributes) == 0);
}

BUG(stack_overflow, ROW(STACK), POOL(CACHE), NO_SANITIZER, IN_A(DIES, NULL),
    IN_S(NOW, "stack-overflow"), IN_D(NOW, "stack-overflow"))
{
	struct weir_cache *cache = bug_cache("conn", 200);

	weir_cache_free(cache, weir_cache_alloc(cache));
	BUG_HERE(deep(1 << 20));
	MENDED(deep(100));
	weir_cache_destroy(cache);
}
