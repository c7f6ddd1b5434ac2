/* SPDX-License-Identifier: MIT */
/*
 * region.c - bugs with regions: what is used after a reset, a rewind, an end;
 * savepoints, cleanups, and regions within one range of addresses.
 */
#include "bug.h"

#define BOTH (BUG_STACK_ALLOC | BUG_STACK_FREE)

static void
nothing(void *context)
{
	(void)context;
}

static struct weir_region_savepoint
mark(struct weir_region *region)
{
	struct weir_region_savepoint savepoint;

	NEED(weir_region_mark(region, &savepoint) == 0);
	return savepoint;
}

/* ---- ends ---------------------------------------------------------------------- */

BUG(region_destroyed_twice, ROW(GONE), POOL(REGION), NAMES(BUG_REGION),
    ALWAYS(NOW, "double-destroy"))
{
	struct weir_region *region = bug_region(NULL);

	weir_region_destroy(region);
	BUG_HERE(weir_region_destroy(region));
}

/* The region above ended it. */
BUG(region_child_destroyed_after_parent, ROW(GONE), POOL(REGION),
    NAMES(BUG_REGION), ALWAYS(NOW, "double-destroy"))
{
	struct weir_region *parent = bug_region(NULL);
	struct weir_region *child = bug_region(parent);

	MENDED(weir_region_destroy(child));
	weir_region_destroy(parent);
	BUG_HERE(weir_region_destroy(child));
}

BUG(region_alloc_after_destroy, ROW(GONE), POOL(REGION), NAMES(BUG_REGION),
    ALWAYS(NOW, "use-after-destroy"))
{
	struct weir_region *region = bug_region(NULL);

	weir_region_destroy(region);
	BUG_HERE((void)!weir_region_alloc(region, 100));
}

BUG(region_reset_after_destroy, ROW(GONE), POOL(REGION), NAMES(BUG_REGION),
    ALWAYS(NOW, "use-after-destroy"))
{
	struct weir_region *region = bug_region(NULL);

	weir_region_destroy(region);
	BUG_HERE(weir_region_reset(region));
}

BUG(region_cleanup_after_destroy, ROW(GONE), POOL(REGION), NAMES(BUG_REGION),
    ALWAYS(NOW, "use-after-destroy"))
{
	struct weir_region *region = bug_region(NULL);

	weir_region_destroy(region);
	BUG_HERE((void)!weir_region_cleanup_add(region, nothing, NULL));
}

BUG(region_destroy_of_no_region, ROW(WILD), POOL(REGION),
    ALWAYS(NOW, "foreign-pointer"))
{
	struct weir_region *region = bug_region(NULL);
	void *object = weir_region_alloc(region, 100);

	BUG_HERE(weir_region_destroy(object));
	weir_region_destroy(region);
}

BUG(region_large_interior, ROW(WILD), POOL(REGION), NAMES(BUG_REGION),
    ALWAYS(NOW, "interior-pointer"))
{
	struct weir_region *region = bug_region(NULL);
	char *large = weir_region_alloc(region, 100000);

	BUG_HERE(weir_region_free_large(region, large + 4096));
	NEED(weir_region_free_large(region, large));
	weir_region_destroy(region);
}

BUG(region_large_of_another_region, ROW(WRONG_POOL), POOL(REGION),
    NAMES(BUG_REGION), ALWAYS(NOW, "wrong-pool"))
{
	struct weir_region *region = bug_region(NULL),
			   *other = bug_region(NULL);
	void *large = weir_region_alloc(region, 100000);

	BUG_HERE(weir_region_free_large(other, large));
	NEED(weir_region_free_large(region, large));
	weir_region_destroy(other);
	weir_region_destroy(region);
}

BUG(region_object_freed_as_a_caches, ROW(WRONG_POOL), POOL(REGION),
    NAMES("conn"), ALWAYS(NOW, "wrong-pool"))
{
	struct weir_cache *cache = bug_cache("conn", 200);
	struct weir_region *region = bug_region(NULL);
	void *large = weir_region_alloc(region, 200000);

	BUG_HERE(weir_cache_free(cache, large));
	weir_region_destroy(region);
	weir_cache_destroy(cache);
}

/* ---- accesses ------------------------------------------------------------------ */

BUG(region_read_after_reset, ROW(READ_FREED), POOL(REGION), NAMES(BUG_REGION),
    TEXT("reset"), GUARDED(NOW, "use-after-free"))
{
	struct weir_region *region = bug_region(NULL);
	char *object = weir_region_alloc(region, 100);

	memset(object, 1, 100);
	weir_region_reset(region);
	BUG_HERE(bug_read(object, 1));
	weir_region_destroy(region);
}

BUG(region_read_after_rewind, ROW(READ_FREED), POOL(REGION), NAMES(BUG_REGION),
    TEXT("rewind"), GUARDED(NOW, "use-after-free"))
{
	struct weir_region *region = bug_region(NULL);
	struct weir_region_savepoint before = mark(region);
	char *object = weir_region_alloc(region, 100);

	memset(object, 1, 100);
	weir_region_rewind(region, &before);
	BUG_HERE(bug_read(object, 1));
	weir_region_destroy(region);
}

BUG(region_read_after_destroy, ROW(READ_FREED), POOL(REGION), NAMES(BUG_REGION),
    TEXT("destroy"), GUARDED(NOW, "use-after-free"))
{
	struct weir_region *region = bug_region(NULL);
	char *object = weir_region_alloc(region, 100);

	memset(object, 1, 100);
	weir_region_destroy(region);
	BUG_HERE(bug_read(object, 1));
}

BUG(region_read_after_parent_destroyed, ROW(READ_FREED), POOL(REGION),
    NAMES(BUG_REGION), TEXT("parent"), GUARDED(NOW, "use-after-free"))
{
	struct weir_region *parent = bug_region(NULL);
	char *object = weir_region_alloc(bug_region(parent), 100);

	memset(object, 1, 100);
	weir_region_destroy(parent);
	BUG_HERE(bug_read(object, 1));
}

BUG(region_read_of_a_large_object, ROW(READ_FREED), POOL(REGION),
    NAMES(BUG_REGION), GUARDED(NOW, "use-after-free"))
{
	struct weir_region *region = bug_region(NULL);
	char *object = weir_region_alloc(region, 100000);

	memset(object, 1, 100000);
	NEED(weir_region_free_large(region, object));
	BUG_HERE(bug_read(object, 1));
	weir_region_destroy(region);
}

BUG(region_write_after_reset, ROW(WRITE_FREED), POOL(REGION), NAMES(BUG_REGION),
    TEXT("reset"), GUARDED(NOW, "use-after-free"))
{
	struct weir_region *region = bug_region(NULL);
	char *object = weir_region_alloc(region, 100);

	weir_region_reset(region);
	BUG_HERE(bug_write(object, 100));
	weir_region_destroy(region);
}

BUG(region_write_after_rewind, ROW(WRITE_FREED), POOL(REGION),
    NAMES(BUG_REGION), TEXT("rewind"), GUARDED(NOW, "use-after-free"))
{
	struct weir_region *region = bug_region(NULL);
	struct weir_region_savepoint before = mark(region);
	char *object = weir_region_alloc(region, 100);

	weir_region_rewind(region, &before);
	BUG_HERE(bug_write(object, 100));
	weir_region_destroy(region);
}

BUG(region_write_after_destroy, ROW(WRITE_FREED), POOL(REGION),
    NAMES(BUG_REGION), TEXT("destroy"), GUARDED(NOW, "use-after-free"))
{
	struct weir_region *region = bug_region(NULL);
	char *object = weir_region_alloc(region, 100);

	weir_region_destroy(region);
	BUG_HERE(bug_write(object, 100));
}

BUG(region_overflow, ROW(OVERFLOW), POOL(REGION), NAMES(BUG_REGION),
    STACKS(BUG_STACK_ALLOC), GUARDED(NOW, "overflow"))
{
	struct weir_region *region = bug_region(NULL);
	char *object = weir_region_alloc(region, 112), *next;

	next = weir_region_alloc(region, 112);
	memset(next, 0, 112);
	BUG_HERE(bug_write(object + 112, 1));
	weir_region_destroy(region);
}

BUG(region_overflow_into_slack, ROW(OVERFLOW), POOL(REGION), NAMES(BUG_REGION),
    STACKS(BUG_STACK_ALLOC), GUARDED(LATER, "overflow"))
{
	struct weir_region *region = bug_region(NULL);
	char *object = weir_region_alloc(region, 101);

	BUG_HERE(bug_write(object + 101, 1));
	weir_region_destroy(region);
}

BUG(region_overread, ROW(OVERREAD), POOL(REGION), NAMES(BUG_REGION),
    STACKS(BUG_STACK_ALLOC), GUARDED(NOW, "overflow"))
{
	struct weir_region *region = bug_region(NULL);
	char *object = weir_region_alloc(region, 128);

	memset(weir_region_alloc(region, 64), 1, 64);
	BUG_HERE(bug_read(object + 128, 1));
	weir_region_destroy(region);
}

BUG(region_underflow, ROW(UNDERFLOW), POOL(REGION), NAMES(BUG_REGION),
    STACKS(BUG_STACK_ALLOC), GUARDED(LATER, "underflow"))
{
	struct weir_region *region = bug_region(NULL);
	char *object;

	memset(weir_region_alloc(region, 64), 1, 64);
	object = weir_region_alloc(region, 112);
	BUG_HERE(bug_write(object - 1, 1));
	weir_region_destroy(region);
}

BUG(region_read_unset, ROW(UNSET), POOL(REGION), GUARDED(PATTERN, NULL))
{
	struct weir_region *region = bug_region(NULL);
	unsigned char *object = weir_region_alloc(region, 100);

	memset(object, 'k', 100);
	weir_region_reset(region);
	object = weir_region_alloc(region, 100);
	MENDED(memset(object, 0, 100));
	BUG_HERE(if (object[9] != 'k' && object[9] == object[60])
		bug_mark("pattern"));
	weir_region_destroy(region);
}

/* ---- sizes, leaks, owners ---------------------------------------------------------- */

BUG(region_product_overflows, ROW(PRODUCT), POOL(REGION), ALWAYS(REFUSED, NULL))
{
	struct weir_region *region = bug_region(NULL);
	struct weir_region_vec numbers = WEIR_REGION_VEC(region, uint64_t);

	BUG_HERE(if (!weir_region_vec_reserve(&numbers, (SIZE_MAX >> 3) + 2))
		bug_mark("refused"));
	MENDED(NEED(weir_region_vec_reserve(&numbers, 100)));
	weir_region_destroy(region);
}

BUG(region_leak, ROW(LEAK), POOL(REGION), NAMES(BUG_REGION),
    TEXT("leak: region \"request\": 1 object"), ENVIRONMENT("WEIR_LEAKS=1"),
    ALWAYS(EXIT, NULL))
{
	struct weir_region *region = bug_region(NULL);

	memset(weir_region_alloc(region, 100), 1, 100);
	MENDED(weir_region_destroy(region));
}

static void
fill(void *context)
{
	struct weir_region *region = context;

	for (int i = 0; i < 100; i++)
		NEED(weir_region_alloc(region, 1000) != NULL);
}

BUG(region_used_by_another_thread, ROW(OWNER), POOL(REGION), NAMES(BUG_REGION),
    IN_DEBUG_AND_D(NOW, "wrong-thread"))
{
	struct weir_region *region = bug_region(NULL);

	BUG_HERE(bug_on_thread(fill, region));
	MENDED(fill(region));
	weir_region_destroy(region);
}

BUG(region_handed_off_and_used, ROW(OWNER), POOL(REGION), NAMES(BUG_REGION),
    IN_DEBUG_AND_D(NOW, "wrong-thread"))
{
	struct weir_region *region = bug_region(NULL);

	weir_region_hand_off(region);
	MENDED(weir_region_take_over(region));
	BUG_HERE((void)!weir_region_alloc(region, 100000));
	MENDED((void)!weir_region_alloc(region, 100000));
	weir_region_take_over(region);
	weir_region_destroy(region);
}

static void
reset_vm(void *region)
{
	weir_region_vm_reset(region);
}

BUG(vm_used_by_another_thread, ROW(OWNER), POOL(VM), NAMES("arena"),
    IN_DEBUG_AND_D(NOW, "wrong-thread"))
{
	struct weir_region_vm *region = bug_region_vm("arena");

	BUG_HERE(bug_on_thread(reset_vm, region));
	MENDED(weir_region_vm_reset(region));
	weir_region_vm_take_over(region);
	weir_region_vm_destroy(region);
}

/* ---- savepoints, cleanups, trees ------------------------------------------------------ */

BUG(region_rewound_to_a_stale_savepoint, ROW(CALL), POOL(REGION),
    NAMES(BUG_REGION), TEXT("savepoint that is gone"),
    ALWAYS(NOW, "bad-argument"))
{
	struct weir_region *region = bug_region(NULL);
	struct weir_region_savepoint before = mark(region);

	weir_region_reset(region);
	BUG_HERE(weir_region_rewind(region, &before));
	weir_region_destroy(region);
}

BUG(region_rewound_to_another_regions_savepoint, ROW(CALL), POOL(REGION),
    NAMES(BUG_REGION), TEXT("savepoint of another region"),
    ALWAYS(NOW, "bad-argument"))
{
	struct weir_region *region = bug_region(NULL),
			   *other = bug_region(NULL);
	struct weir_region_savepoint before = mark(other);

	BUG_HERE(weir_region_rewind(region, &before));
	MENDED(weir_region_rewind(other, &before));
	weir_region_destroy(other);
	weir_region_destroy(region);
}

BUG(region_cleanup_cancelled_twice, ROW(CALL), POOL(REGION), NAMES(BUG_REGION),
    TEXT("cancelled twice"), ALWAYS(NOW, "bad-argument"))
{
	struct weir_region *region = bug_region(NULL);
	struct weir_region_cleanup *cleanup =
	    weir_region_cleanup_add(region, nothing, NULL);

	weir_region_cleanup_cancel(region, cleanup);
	BUG_HERE(weir_region_cleanup_cancel(region, cleanup));
	weir_region_destroy(region);
}

static void
destroys(void *region)
{
	weir_region_destroy(region);
}

BUG(region_destroyed_by_its_own_cleanup, ROW(CALL), POOL(REGION),
    NAMES(BUG_REGION), TEXT("by its own cleanup"), ALWAYS(NOW, "bad-argument"))
{
	struct weir_region *region = bug_region(NULL);
	struct weir_region_cleanup *cleanup;

	cleanup = weir_region_cleanup_add(region, destroys, region);
	MENDED(weir_region_cleanup_cancel(region, cleanup));
	BUG_HERE(weir_region_destroy(region));
	MENDED(weir_region_destroy(region));
}

BUG(region_adopted_from_below, ROW(CALL), POOL(REGION), NAMES(BUG_REGION),
    ALWAYS(NOW, "bad-argument"))
{
	struct weir_region *root = bug_region(NULL), *child = bug_region(root);

	BUG_HERE((void)!weir_region_adopt(child, root));
	MENDED(NEED(weir_region_adopt(root, child) == 0));
	weir_region_destroy(root);
}

/* ---- a range of addresses -------------------------------------------------------------- */

BUG(vm_destroyed_twice, ROW(GONE), POOL(VM), NAMES("arena"),
    ALWAYS(NOW, "double-destroy"))
{
	struct weir_region_vm *region = bug_region_vm("arena");

	weir_region_vm_destroy(region);
	BUG_HERE(weir_region_vm_destroy(region));
}

BUG(vm_alloc_after_destroy, ROW(GONE), POOL(VM), NAMES("arena"),
    ALWAYS(NOW, "use-after-destroy"))
{
	struct weir_region_vm *region = bug_region_vm("arena");

	weir_region_vm_destroy(region);
	BUG_HERE((void)!weir_region_vm_alloc(region, 100));
}

/* In mode off its addresses went back to the system. */
BUG(vm_read_after_destroy, ROW(READ_FREED), POOL(VM), NAMES("arena"),
    NO_SANITIZER, STACKS(BOTH), IN_A(DIES, NULL), IN_S(NOW, "use-after-free"),
    IN_D(NOW, "use-after-free"))
{
	struct weir_region_vm *region = bug_region_vm("arena");
	char *object = weir_region_vm_alloc(region, 100);

	memset(object, 1, 100);
	weir_region_vm_destroy(region);
	BUG_HERE(bug_read(object, 1));
}

BUG(vm_read_after_reset, ROW(READ_FREED), POOL(VM), NAMES("arena"),
    TEXT("ended by reset"), STACKS(BOTH), GUARDED(NOW, "use-after-free"))
{
	struct weir_region_vm *region = bug_region_vm("arena");
	char *object = weir_region_vm_alloc(region, 100);

	memset(object, 1, 100);
	weir_region_vm_reset(region);
	BUG_HERE(bug_read(object, 1));
	weir_region_vm_destroy(region);
}

BUG(vm_written_after_rewind, ROW(WRITE_FREED), POOL(VM), NAMES("arena"),
    TEXT("ended by rewind"), STACKS(BOTH), GUARDED(NOW, "use-after-free"))
{
	struct weir_region_vm *region = bug_region_vm("arena");
	struct weir_region_vm_point before = weir_region_vm_mark(region);
	char *object = weir_region_vm_alloc(region, 100);

	memset(object, 1, 100);
	NEED(weir_region_vm_rewind(region, before));
	BUG_HERE(bug_write(object + 50, 1));
	weir_region_vm_destroy(region);
}

/* Nothing lies before the first one. */
BUG(vm_written_before_its_start, ROW(UNDERFLOW), POOL(VM), NAMES("arena"),
    NO_SANITIZER, STACKS(BUG_STACK_ALLOC), IN_A(DIES, NULL),
    IN_S(NOW, "underflow"), IN_D(NOW, "underflow"))
{
	struct weir_region_vm *region = bug_region_vm("arena");
	char *object = weir_region_vm_alloc(region, 8192);

	bug_write(object, 8192);
	BUG_HERE(bug_write(object - 1, 1));
	weir_region_vm_destroy(region);
}

BUG(vm_read_past_its_end, ROW(OVERREAD), POOL(VM), NAMES("arena"),
    STACKS(BUG_STACK_ALLOC), GUARDED(NOW, "overflow"))
{
	struct weir_region_vm *region = bug_region_vm("arena");
	char *object = weir_region_vm_alloc(region, 8192);

	bug_write(object, 8192);
	BUG_HERE(bug_read(object + 8192, 1));
	weir_region_vm_destroy(region);
}

/* What a reset or an end leaves is the next one's, wherever it came from. */
BUG(region_ended_objects_overwritten, ROW(FORGED), POOL(REGION),
    NAMES(BUG_REGION), STACKS(BOTH), IN_A(REFUSED, NULL),
    IN_S(NOW, "use-after-free"), IN_D(NOW, "use-after-free"))
{
	struct weir_region *region = bug_region(NULL), *next;
	void *ended[16], *objects[16];

	for (size_t i = 0; i < 16; i++)
		ended[i] = weir_region_alloc(region, 1000);
	weir_region_destroy(region);
	BUG_HERE(
	    for (size_t i = 0; i < 16; i++) bug_forge(ended[i], 1000, objects));
	next = bug_region(NULL);
	for (size_t i = 0; i < 16; i++) {
		objects[i] = weir_region_alloc(next, 1000);
		NEED(objects[i] != NULL && objects[i] != (void *)objects);
		memset(objects[i], 1, 1000);
	}
	NEED(bug_distinct(objects, 16));
	NEED(weir_region_check(next));
	if (bug)
		bug_mark("refused");
	weir_region_destroy(next);
}

/* The newest object ends with its page. */
BUG(vm_written_past_its_end, ROW(OVERFLOW), POOL(VM), NAMES("arena"),
    STACKS(BUG_STACK_ALLOC), GUARDED(NOW, "overflow"))
{
	struct weir_region_vm *region = bug_region_vm("arena");
	char *object = weir_region_vm_alloc(region, 8192);

	BUG_HERE(bug_write(object + 8192, 1));
	weir_region_vm_destroy(region);
}

BUG(vm_extend_of_no_object, ROW(WILD), POOL(VM), NAMES("arena"),
    ALWAYS(NOW, "foreign-pointer"))
{
	struct weir_region_vm *region = bug_region_vm("arena");
	char *object = weir_region_vm_alloc(region, 100);
	char local[100];

	BUG_HERE(
	    (void)!weir_region_vm_extend(region, bug_hide(local), 100, 200));
	NEED(weir_region_vm_extend(region, object, 100, 200));
	weir_region_vm_destroy(region);
}

BUG(vm_rewound_to_a_stale_mark, ROW(CALL), POOL(VM), ALWAYS(REFUSED, NULL))
{
	struct weir_region_vm *region = bug_region_vm("arena");
	struct weir_region_vm_point before;

	NEED(weir_region_vm_alloc(region, 100) != NULL);
	before = weir_region_vm_mark(region);
	MENDED(NEED(weir_region_vm_rewind(region, before)));
	weir_region_vm_reset(region);
	BUG_HERE(
	    if (!weir_region_vm_rewind(region, before)) bug_mark("refused"));
	weir_region_vm_destroy(region);
}

BUG(vm_leak, ROW(LEAK), POOL(VM), NAMES("arena"),
    TEXT("leak: region \"arena\""), ENVIRONMENT("WEIR_LEAKS=1"),
    ALWAYS(EXIT, NULL))
{
	struct weir_region_vm *region = bug_region_vm("arena");

	NEED(weir_region_vm_alloc(region, 100) != NULL);
	MENDED(weir_region_vm_destroy(region));
}
