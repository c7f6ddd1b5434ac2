/* SPDX-License-Identifier: MIT */
/*
 * test_region_fault.c - misuse of regions is reported, and failing memory
 * loses nothing.
 */
#include <weir/guard.h>
#include <weir/region.h>
#include <weir/runtime.h>

#include "os/os.h"
#include "pools/region.h"
#include "test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define AT(member) offsetof(struct weiri_region, member)

static struct weir_region_kind test_kind = WEIR_REGION_KIND("victim");

static struct weir_region *
create(void)
{
	struct weir_region *region;

	CHECK_EQ(weir_region_create(&test_kind, NULL, &region), 0);
	return region;
}

static void
nothing(void *context)
{
	(void)context;
}

/* ---- caller's bugs ------------------------------------------------------ */

TEST(double_destroy_is_a_fault_that_names_the_kind)
{
	struct weir_region *region = create();
	char message[128];

	snprintf(message, sizeof(message),
	    "weir: FAULT double-destroy: region \"victim\": %p was destroyed "
	    "before, alone or with one above it; destroy once, and use "
	    "nothing of it afterwards\n",
	    (void *)region);
	weir_region_destroy(region);
	EXPECT_ABORT(message, { weir_region_destroy(region); });
}

TEST(destroy_of_what_went_back_to_the_system_is_a_fault)
{
	struct weir_region *region = create();

	weir_region_destroy(region);
	CHECK_GT(weir_trim(), 0);
	EXPECT_ABORT(
	    "weir: FAULT foreign-pointer", { weir_region_destroy(region); });
}

TEST(second_destroy_of_a_region_in_a_buffer_is_a_fault)
{
	char buffer[1024];
	struct weir_region *region;

	CHECK_EQ(weir_region_create_in(
		     &test_kind, NULL, buffer, sizeof(buffer), &region),
	    0);
	weir_region_destroy(region);
	EXPECT_ABORT(
	    "weir: FAULT foreign-pointer", { weir_region_destroy(region); });
}

TEST(large_object_given_back_wrongly_is_a_fault)
{
	struct weir_region *region = create(), *other = create();
	char *large = weir_region_alloc(region, 100000);

	CHECK_NOT_NULL(large);
	EXPECT_ABORT("weir: FAULT interior-pointer: region \"victim\": 0x",
	    { weir_region_free_large(region, large + 16); });
	EXPECT_ABORT("weir: FAULT interior-pointer: region \"victim\": 0x",
	    { (void)!weir_region_resize_large(region, large + 4096, 5000); });
	EXPECT_ABORT("weir: FAULT wrong-pool: region \"victim\": object 0x",
	    { weir_region_free_large(other, large); });
	CHECK(weir_region_free_large(region, large));
	/* Nothing is known of it any more. */
	CHECK(!weir_region_free_large(region, large));
	weir_region_destroy(other);
	weir_region_destroy(region);
}

TEST(region_taken_over_from_its_owner_is_a_fault)
{
	struct weir_region *region = create();

	weir_region_hand_off(region);
	weir_region_take_over(region);
	weir_region_take_over(region);
	EXPECT_ABORT("is another thread's", {
		/* As another thread left it. */
		((struct weiri_region *)(void *)region)->owner = (void *)region;
		weir_region_take_over(region);
	});
	weir_region_destroy(region);
	EXPECT_ABORT(
	    "handed off, was destroyed", { weir_region_hand_off(region); });
	EXPECT_ABORT(
	    "taken over, was destroyed", { weir_region_take_over(region); });
}

/* Debug builds look at whose a region is; others let it pass, as the comment in
 * the header says. */
static void
use_of_another(unsigned index, void *region)
{
	if (index == 0)
		return;
	CHECK_NOT_NULL(weir_region_alloc(region, 100000));
	weir_region_reset(region);
}

TEST(use_on_another_thread_is_a_fault_in_debug_builds)
{
	struct weir_region *region = create();

#if WEIR_DEBUG >= 1
	EXPECT_ABORT("FAULT wrong-thread: region \"victim\": 0x",
	    { test_threads(2, use_of_another, region); });
	EXPECT_ABORT("is another thread's",
	    { test_threads(2, use_of_another, region); });
	EXPECT_ABORT("handed off and not taken over", {
		weir_region_hand_off(region);
		(void)!weir_region_alloc(region, 100000);
	});
	EXPECT_ABORT("handed off and not taken over", {
		weir_region_hand_off(region);
		weir_region_destroy(region);
	});
#else
	test_threads(2, use_of_another, region);
	CHECK(weir_region_check(region));
#endif
	weir_region_destroy(region);
}

TEST(region_below_a_destroyed_one_is_a_fault)
{
	struct weir_region *region = create(), *below;
	const struct weir_region_config config = {.parent = region};

	weir_region_destroy(region);
	EXPECT_ABORT("region below 0x",
	    { (void)!weir_region_create(&test_kind, &config, &below); });
}

TEST(use_after_destroy_is_a_fault)
{
	struct weir_region *region = create();

	weir_region_destroy(region);
	EXPECT_ABORT("use-after-destroy: region \"victim\": object from 0x",
	    { (void)!weir_region_alloc(region, 1); });
	EXPECT_ABORT("use-after-destroy: region \"victim\": object from 0x",
	    { (void)!weir_region_alloc_zeroed(region, 100000); });
	EXPECT_ABORT("use-after-destroy: region \"victim\": text in 0x",
	    { (void)!weir_region_printf(region, "x"); });
	EXPECT_ABORT("use-after-destroy: region \"victim\": reset of 0x",
	    { weir_region_reset(region); });
	EXPECT_ABORT("use-after-destroy: region \"victim\": cleanup for 0x",
	    { (void)!weir_region_cleanup_add(region, nothing, NULL); });
}

TEST(destroy_of_what_is_no_region_is_a_fault)
{
	struct weir_region *region = create();
	struct weir_region local = {NULL, NULL};
	static const uintptr_t wild[] = {
	    1, 4096, 0x7ff000000000, 0xdead00000000, UINTPTR_MAX - 4095};
	char *object = weir_region_alloc(region, 100);
	char *large = weir_region_alloc(region, 100000);
	void *heap = malloc(4096);

	EXPECT_ABORT("FAULT foreign-pointer: region: 0x",
	    { weir_region_destroy(&local); });
	EXPECT_ABORT("foreign-pointer", { weir_region_destroy(heap); });
	EXPECT_ABORT(
	    "foreign-pointer", { weir_region_destroy((void *)object); });
	EXPECT_ABORT(
	    "foreign-pointer", { weir_region_destroy((void *)large); });
	EXPECT_ABORT("foreign-pointer",
	    { weir_region_destroy((void *)((char *)region + 1024)); });
	for (size_t i = 0; i < 5; i++)
		EXPECT_ABORT("foreign-pointer",
		    { weir_region_destroy((void *)wild[i]); });
	free(heap);
	weir_region_destroy(region);
}

TEST(overwritten_header_is_a_fault)
{
	struct weir_region *region = create();

	EXPECT_ABORT("FAULT corruption: region: 0x", {
		memset((char *)region + AT(magic), 0x41, 8);
		weir_region_destroy(region);
	});
	weir_region_destroy(region);
}

static void
destroys(void *region)
{
	weir_region_destroy(region);
}

static void
resets(void *region)
{
	weir_region_reset(region);
}

TEST(cleanup_that_ends_its_own_region_is_a_fault)
{
	struct weir_region *region = create();

	CHECK_NOT_NULL(weir_region_cleanup_add(region, destroys, region));
	EXPECT_ABORT("is destroyed by its own cleanup",
	    { weir_region_destroy(region); });
	EXPECT_ABORT(
	    "is destroyed by its own cleanup", { weir_region_reset(region); });
	CHECK_NOT_NULL(weir_region_cleanup_add(region, resets, region));
	EXPECT_ABORT(
	    "is reset by its own cleanup", { weir_region_reset(region); });
}

TEST(misused_cleanup_handles_are_faults)
{
	struct weir_region *region = create();
	struct weir_region_cleanup *armed =
	    weir_region_cleanup_add(region, nothing, NULL);
	struct weir_region_cleanup *gone =
	    weir_region_cleanup_add(region, nothing, NULL);

	weir_region_cleanup_cancel(region, gone);
	EXPECT_ABORT("bad-argument: region \"victim\": cleanup 0x",
	    { weir_region_cleanup_cancel(region, gone); });
	EXPECT_ABORT("is armed but was not reserved",
	    { weir_region_cleanup_arm(region, armed, nothing, NULL); });
	EXPECT_ABORT("is armed but was not reserved",
	    { weir_region_cleanup_arm(region, gone, nothing, NULL); });
	EXPECT_ABORT("without a function",
	    { (void)!weir_region_cleanup_add(region, NULL, NULL); });
	CHECK(weir_region_check(region));
	weir_region_destroy(region);
}

/* ---- the walker sees what it is for -------------------------------------- */

TEST(check_finds_what_is_broken)
{
	struct weir_region *region = create();
	unsigned char saved[sizeof(struct weiri_region)];
	const struct {
		size_t offset;
		uint64_t value;
		const char *what;
	} damage[] = {
	    {AT(bump.next), (uintptr_t)region, "next"},
	    {AT(bump.end), (uintptr_t)region + 4096, "end"},
	    {AT(newest), (uintptr_t)region + AT(first), "newest"},
	    {AT(magic), 0, "magic"},
	    {AT(charged_bytes), 0, "charged_bytes"},
	    {AT(attention), 0, "attention"},
	    {AT(large_bytes), 1 << 20, "large_bytes"},
	    {AT(sibling.next), (uintptr_t)region + AT(children), "sibling"},
	    {AT(peak_bytes), 0, "peak_bytes"},
	    {AT(first.bytes), 1024, "bytes of the first block"},
	};

	/* Little room in the first block, so that the next is the newest. */
	CHECK_NOT_NULL(weir_region_alloc(region, 3500));
	CHECK_NOT_NULL(weir_region_alloc(region, 6000));
	CHECK_NOT_NULL(weir_region_alloc(region, 100000));
	CHECK_NOT_NULL(weir_region_cleanup_add(region, nothing, NULL));
	CHECK(weir_region_check(region));
	memcpy(saved, region, sizeof(saved));
	for (size_t i = 0; i < sizeof(damage) / sizeof(damage[0]); i++) {
		memcpy((char *)region + damage[i].offset,
		    &(uint64_t){damage[i].value}, 8);
		if (weir_region_check(region))
			FAIL("damage to %s goes unnoticed", damage[i].what);
		memcpy(region, saved, sizeof(saved));
	}
	CHECK(weir_region_check(region));
	weir_region_destroy(region);
}

/* The walk tells it and is no use of the object, which would be a fault. */
TEST(check_finds_a_large_object_of_another_region)
{
	struct weir_region *region = create(), *other = create();
	struct weiri_region_pages *pages;

	CHECK_NOT_NULL(weir_region_alloc(region, 100000));
	pages = WEIRI_CONTAINER_OF(weiri_region_of(region)->larges.next,
	    struct weiri_region_pages, span.link);
	if (!pages->guarded) {
		pages->region = weiri_region_of(other);
		CHECK(!weir_region_check(region));
		pages->region = NULL;
		CHECK(!weir_region_check(region));
		pages->region = weiri_region_of(region);
	}
	CHECK(weir_region_check(region));
	weir_region_destroy(other);
	weir_region_destroy(region);
}

/* ---- memory that fails ---------------------------------------------------- */

static unsigned cleanups_run;

static void
count_run(void *context)
{
	(void)context;
	cleanups_run++;
}

/* Uses everything that takes memory; true if nothing was refused. */
static bool
scenario(struct weir_region_kind *kind)
{
	static const size_t sizes[] = {
	    100, 5000, 20000, 100, 40000, 300000, 31000, 3 << 20, 8};
	const struct weir_region_config config = {
	    .first_bytes = 2048, .block_bytes_max = 256 << 10};
	struct weir_region *region;
	bool whole = true;
	unsigned armed = 0;

	cleanups_run = 0;
	if (weir_region_create(kind, &config, &region) != 0) {
		CHECK_NULL(region);
		return false;
	}
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		char *object = weir_region_alloc(region, sizes[i]);

		if (object != NULL)
			memset(object, 0x77, sizes[i]);
		else
			whole = false;
		if (weir_region_cleanup_add(region, count_run, NULL) != NULL)
			armed++;
		else
			whole = false;
		CHECK(weir_region_check(region));
	}
	if (weir_region_printf(region, "%070000d", 1) == NULL)
		whole = false;
	weir_region_destroy(region);
	CHECK_EQ(cleanups_run, armed);
	return whole;
}

/* Every block and descriptor is back, and every depot whole. */
static void
check_nothing_out(void)
{
	const char *why = "";

	for (unsigned i = 0; i < WEIRI_REGION_SUPPLIES; i++) {
		struct weiri_depot *depot =
		    weiri_region_supply_depot(weiri_region_supply, i);
		struct weiri_depot_stats stats;

		if (depot == NULL)
			continue;
		weiri_depot_stats(depot, &stats);
		CHECK_EQ(stats.in_use, 0);
		if (!weiri_depot_check(depot, &why))
			FAIL("%s: %s", depot->name, why);
	}
	CHECK(weiri_pages_check());
}

/* In a child whose library was never used: true if the n-th call came. */
static bool
scenario_with_failure(int64_t n, bool persistent)
{
	static struct weir_region_kind kind = WEIR_REGION_KIND("sweep");
	struct weir_pool_stats stats = {.size = sizeof(stats)};
	bool whole, reached;

	weiri_os_fail_nth(n, persistent);
	whole = scenario(&kind);
	reached = weiri_os_calls() >= n;
	weiri_os_fail_nth(0, false);
	CHECK(reached || whole);
	CHECK(!(reached && persistent && whole));
	CHECK_EQ(weir_region_kind_stats(&kind, &stats), 0);
	CHECK_EQ(stats.in_use, 0);
	CHECK_EQ(stats.bytes_mapped, 0);
	/* With memory back all is well again, and after a trim too. */
	CHECK(scenario(&kind));
	check_nothing_out();
	(void)weir_trim();
	CHECK(scenario(&kind));
	check_nothing_out();
	CHECK_EQ(weir_region_kind_stats(&kind, &stats), 0);
	CHECK_EQ(stats.in_use, 0);
	CHECK_EQ(stats.bytes_mapped, 0);
	return reached;
}

/* Returns how many calls to the system the scenario makes. */
static int64_t
sweep(bool persistent)
{
	for (int64_t n = 1;; n++) {
		int status;
		pid_t pid = fork();

		CHECK_NE(pid, -1);
		if (pid == 0)
			_exit(scenario_with_failure(n, persistent) ? 10 : 11);
		CHECK_EQ(waitpid(pid, &status, 0), pid);
		CHECK(WIFEXITED(status));
		if (WEXITSTATUS(status) == 11)
			return n - 1;
		CHECK_EQ(WEXITSTATUS(status), 10);
	}
}

TEST(every_single_failure_of_the_system_is_survived)
{
	CHECK_GT(sweep(false), 3);
}

TEST(lasting_failure_of_the_system_is_survived)
{
	CHECK_GT(sweep(true), 3);
}
