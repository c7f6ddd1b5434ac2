/* SPDX-License-Identifier: MIT */
/*
 * test_guard_witness.c - what AddressSanitizer is told, and what it tells.
 *
 * The library asks the dynamic linker whether AddressSanitizer's runtime is there
 * (base/annotate.h).  Here this program stands in for it: it keeps a list of what
 * was forbidden and allowed, and makes up reports.  In builds with the true one
 * tests/fault/set and tests/e2e/tool_asan.sh see to the same.
 */
#include "test.h"

#include <weir/weir.h>

#include <errno.h>
#include <string.h>

#if !TEST_ASAN

/* ---- the stand-in ----------------------------------------------------------- */

static struct {
	uintptr_t from, to;
	bool forbidden;
} told[4096];
static size_t told_count;
static size_t ignored;

static void (*on_report)(const char *report);
static void *report_address, *report_block;
static int report_writes;

static void
note(const volatile void *address, size_t bytes, bool forbidden)
{
	CHECK_LT(told_count, sizeof(told) / sizeof(told[0]));
	told[told_count].from = (uintptr_t)address;
	told[told_count].to = (uintptr_t)address + bytes;
	told[told_count++].forbidden = forbidden;
}

/* NOLINTBEGIN(bugprone-reserved-identifier): AddressSanitizer's names */
void __asan_poison_memory_region(const volatile void *address, size_t bytes);
void __asan_unpoison_memory_region(const volatile void *address, size_t bytes);
void __lsan_ignore_object(const void *block);
void __asan_set_error_report_callback(void (*told)(const char *report));
void *__asan_get_report_address(void);
void *__asan_get_report_pc(void);
void *__asan_get_report_bp(void);
void *__asan_get_report_sp(void);
int __asan_get_report_access_type(void);
const char *__asan_locate_address(void *address, char *name, size_t name_bytes,
    void **region, size_t *region_bytes);

void
__asan_poison_memory_region(const volatile void *address, size_t bytes)
{
	note(address, bytes, true);
}

void
__asan_unpoison_memory_region(const volatile void *address, size_t bytes)
{
	note(address, bytes, false);
}

void
__lsan_ignore_object(const void *block)
{
	ignored += block != NULL;
}

void
__asan_set_error_report_callback(void (*report)(const char *report))
{
	on_report = report;
}

void *
__asan_get_report_address(void)
{
	return report_address;
}

void *
__asan_get_report_pc(void)
{
	return (void *)(uintptr_t)__asan_get_report_pc;
}

void *
__asan_get_report_bp(void)
{
	return __builtin_frame_address(0);
}

void *
__asan_get_report_sp(void)
{
	return __builtin_frame_address(0);
}

int
__asan_get_report_access_type(void)
{
	return report_writes;
}

const char *
__asan_locate_address(void *address, char *name, size_t name_bytes,
    void **region, size_t *region_bytes)
{
	(void)address;
	(void)name;
	(void)name_bytes;
	*region = report_block;
	*region_bytes = 1;
	return "heap";
}
/* NOLINTEND(bugprone-reserved-identifier) */

static bool
is_forbidden(const void *at)
{
	for (size_t i = told_count; i-- > 0;)
		if ((uintptr_t)at >= told[i].from && (uintptr_t)at < told[i].to)
			return told[i].forbidden;
	return false;
}

static void
guard_tool(void)
{
	CHECK_EQ(weir_guard_set(
		     &(struct weir_guard_config){.mode = WEIR_GUARD_TOOL}),
	    0);
}

/* ---- what it is told ---------------------------------------------------------- */

TEST(what_a_range_holds_beside_its_objects_is_forbidden)
{
	const struct weir_region_vm_config config = {
	    .reserve_bytes = 16 << 20, .first_bytes = 4096};
	struct weir_region_vm_point mark;
	struct weir_region_vm *region;
	char *first, *second;

	guard_tool();
	CHECK_EQ(weir_region_vm_create("arena", &config, &region), 0);
	first = weir_region_vm_alloc(region, 104);
	CHECK(!is_forbidden(first + 103));
	CHECK(is_forbidden(first + 104));
	mark = weir_region_vm_mark(region);
	/* More is committed for it, which is nobody's but for the object. */
	second = weir_region_vm_alloc_aligned(region, 100000, 64);
	CHECK_NOT_NULL(second);
	CHECK(!is_forbidden(second + 99999));
	CHECK(is_forbidden(second + 100000));
	CHECK(weir_region_vm_extend(region, second, 100000, 300000));
	CHECK(!is_forbidden(second + 299999));
	CHECK(is_forbidden(second + 300000));
	weir_region_vm_shrink(region, second, 300000, 64);
	CHECK(!is_forbidden(second + 63));
	CHECK(is_forbidden(second + 64));
	CHECK(weir_region_vm_check(region));
	CHECK(weir_region_vm_rewind(region, mark));
	CHECK(is_forbidden(second));
	CHECK(!is_forbidden(first));
	weir_region_vm_reset(region);
	CHECK(is_forbidden(first));
	weir_region_vm_destroy(region);
	/* Its addresses are the next one's, which is not told of. */
	CHECK(!is_forbidden(first));
	CHECK(!is_forbidden(first + 4095));
}

/* What a pool keeps of an object is a block that nothing else points to. */
TEST(blocks_that_the_library_holds_are_no_leaks)
{
	struct weir_cache *cache;
	char *object;

	guard_tool();
	CHECK_EQ(weir_cache_create("plain",
		     &(struct weir_cache_config){.object_bytes = 100}, &cache),
	    0);
	for (unsigned i = 0; i < 20; i++) {
		object = weir_cache_alloc(cache);
		CHECK_NOT_NULL(object);
		CHECK_GT(ignored, i);
		memset(object, 7, 100);
		weir_cache_free(cache, object);
	}
	CHECK(weir_cache_check(cache));
	weir_cache_destroy(cache);
}

/* ---- what it tells -------------------------------------------------------------- */

static unsigned faults;
static struct weir_fault last;
static char last_pool[48];

static void
see_fault(const struct weir_fault *fault, void *context)
{
	(void)context;
	faults++;
	last = *fault;
	strncpy(last_pool, fault->pool_name != NULL ? fault->pool_name : "?",
	    sizeof(last_pool) - 1);
}

/* As if AddressSanitizer had stopped an access there, in or near @block. */
static void
report(void *address, void *block, bool writes)
{
	report_address = address;
	report_block = block;
	report_writes = writes;
	on_report("a report");
}

TEST(report_of_the_tool_is_told_with_the_pool_and_the_distance)
{
	NOT_UNDER_GUARD("it is set here, and reports are made");

	struct weir_heap *heap;
	char *object;

	weir_guard_set_hook(see_fault, NULL);
	guard_tool();
	CHECK(on_report != NULL);
	CHECK_EQ(weir_heap_create("witnessed", NULL, &heap), 0);
	object = weir_heap_alloc(heap, 100);
	CHECK_NOT_NULL(object);

	report(object + 104, object, false);
	CHECK_EQ(faults, 1);
	CHECK_EQ(last.fault_class, WEIR_FAULT_OVERFLOW);
	CHECK_STR(last_pool, "witnessed");
	CHECK_PTR(last.object, object);
	CHECK(last.goes_on);
	report(object - 3, object, true);
	CHECK_EQ(faults, 2);
	CHECK_EQ(last.fault_class, WEIR_FAULT_UNDERFLOW);
	/* Of an access that begins in the object its end is behind it. */
	report(object + 97, object, true);
	CHECK_EQ(faults, 3);
	CHECK_EQ(last.fault_class, WEIR_FAULT_OVERFLOW);
	CHECK_PTR(last.address, object + 100);
	/* A block that is no object's, and memory that is in no block. */
	report(object + 104, &heap, false);
	report(object + 104, NULL, false);
	CHECK_EQ(faults, 3);

	weir_heap_free(heap, object);
	report(object + 5, object, false);
	CHECK_EQ(faults, 4);
	CHECK_EQ(last.fault_class, WEIR_FAULT_USE_AFTER_FREE);
	CHECK_STR(last_pool, "witnessed");
	weir_heap_destroy(heap);
}

#else

TEST(the_true_one_is_in_the_process)
{
	SKIP("tests/e2e/tool_asan.sh sees to it");
}

#endif
