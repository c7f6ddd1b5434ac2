/* SPDX-License-Identifier: MIT */
/*
 * test_guard_space.c - places for objects under guard: each address leads to its
 * own, memory that is out is out, and what is refused leaves nothing.
 *
 * On spaces of the test's own, which no pool knows.
 */
#include "test.h"

#include "guard/space.h"
#include "os/os.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum { MANY = 4000 };

static struct weiri_guarded *taken[MANY];

/* As many of a size as there are. */
static size_t
take_all(struct weiri_space *space, size_t grains, bool late)
{
	size_t count = 0;

	while (count < MANY) {
		taken[count] = weiri_space_take(space, grains, late);
		if (taken[count] == NULL)
			break;
		count++;
	}
	return count;
}

static void
rest_all(struct weiri_space *space, size_t count, bool late)
{
	for (size_t i = 0; i < count; i++) {
		taken[i]->state = WEIRI_GUARDED_ENDED;
		weiri_space_rest(space, taken[i], late);
	}
}

TEST(space_ends_and_what_rests_is_used_again)
{
	struct weiri_space space = {0};
	size_t count;

	CHECK_EQ(weiri_space_init(&space, WEIRI_SPACE_SMALL), 0);
	/* By what may be live at once. */
	count = take_all(&space, 1, true);
	CHECK_GT(count, 100);
	CHECK_LE(count * space.grain, space.live_bytes_max);
	CHECK_EQ(space.live, count);
	rest_all(&space, count, true);
	CHECK_EQ(space.live, 0);
	CHECK_EQ(space.ended, count);
	/* By the addresses there are. */
	space.live_bytes_max = SIZE_MAX;
	count = take_all(&space, 512, true);
	CHECK_GT(count, 10);
	CHECK_LT(count, 40);
	CHECK_NULL(weiri_space_take(&space, 512, false));
	rest_all(&space, count, false);
	/* Larger than any place. */
	CHECK_NULL(
	    weiri_space_take(&space, (size_t)1 << WEIRI_SPACE_CLASSES, true));
	/* What ended last is the first again, or the last. */
	CHECK_PTR(weiri_space_take(&space, 512, false), taken[count - 1]);
	weiri_space_rest(&space, taken[count - 1], false);
	CHECK_PTR(weiri_space_take(&space, 300, true), taken[count - 1]);
}

TEST(place_that_is_bad_is_never_used_again)
{
	struct weiri_space space = {0};
	struct weiri_guarded *first, *second;

	CHECK_EQ(weiri_space_init(&space, WEIRI_SPACE_SMALL), 0);
	first = weiri_space_take(&space, 1, false);
	second = weiri_space_take(&space, 1, false);
	CHECK_NOT_NULL(first);
	CHECK_NOT_NULL(second);
	first->state = second->state = WEIRI_GUARDED_ENDED;
	weiri_space_rest(&space, first, false);
	weiri_space_rest(&space, second, false);
	second->bad = true;
	CHECK_PTR(weiri_space_take(&space, 1, false), first);
	first->state = WEIRI_GUARDED_ENDED;
	first->bad = true;
	weiri_space_rest(&space, first, false);
	for (unsigned i = 0; i < 50; i++) {
		struct weiri_guarded *next = weiri_space_take(&space, 1, false);

		CHECK_NOT_NULL(next);
		CHECK(next != first && next != second);
	}
}

static void
expect_found(const struct weiri_space *space, struct weiri_guarded *guarded)
{
	size_t bytes = weiri_space_area_bytes(guarded, space->grain);
	struct weiri_guarded *before = weiri_space_before(space, guarded);

	CHECK_PTR(weiri_space_find(space, guarded->area), guarded);
	CHECK_PTR(weiri_space_find(space, guarded->area + bytes - 1), guarded);
	if (space->border > 0)
		CHECK_PTR(weiri_space_find(space, guarded->area - 1), guarded);
	if (before != NULL)
		CHECK_PTR(
		    weiri_space_find(space, guarded->area - space->border - 1),
		    before);
}

TEST(each_address_leads_to_the_place_it_is_in)
{
	static const enum weiri_space_kind kinds[] = {
	    WEIRI_SPACE_SMALL, WEIRI_SPACE_PACKED};

	for (size_t k = 0; k < 2; k++) {
		struct weiri_space space = {0};

		CHECK_EQ(weiri_space_init(&space, kinds[k]), 0);
		space.live_bytes_max = SIZE_MAX;
		CHECK_NULL(weiri_space_find(&space, space.base));
		for (size_t grains = 1; grains <= 1024; grains *= 3)
			for (unsigned i = 0; i < 5; i++) {
				struct weiri_guarded *guarded =
				    weiri_space_take(&space, grains, true);

				CHECK_NOT_NULL(guarded);
				expect_found(&space, guarded);
			}
		CHECK_NULL(weiri_space_before(&space, &space.record[1]));
		CHECK_NULL(weiri_space_find(&space, space.base - 1));
		CHECK_NULL(weiri_space_find(&space, space.committed));
		CHECK_NULL(weiri_space_find(&space, &space));
		/* What a run of units has behind its last place. */
		for (const char *at = space.base; at < space.committed;
		     at += 4096)
			CHECK_NOT_NULL(weiri_space_find(&space, at));
	}
}

TEST(space_without_memory_takes_nothing_and_can_later)
{
	struct weiri_space space = {0};

	weiri_os_fail_nth(1, true);
	CHECK_EQ(weiri_space_init(&space, WEIRI_SPACE_LARGE), -ENOMEM);
	weiri_os_fail_nth(2, true);
	CHECK_EQ(weiri_space_init(&space, WEIRI_SPACE_SMALL), -ENOMEM);
	weiri_os_fail_nth(0, false);
	CHECK_EQ(weiri_space_init(&space, WEIRI_SPACE_SMALL), 0);
	for (int64_t n = 1; n <= 2; n++) {
		weiri_os_fail_nth(n, false);
		CHECK_NULL(weiri_space_take(&space, 1, true));
		CHECK_NULL(weiri_space_find(&space, space.base));
	}
	weiri_os_fail_nth(0, false);
	CHECK_NOT_NULL(weiri_space_take(&space, 1, true));
}

/* A process that may not have 64 GiB of addresses guards in fewer. */
TEST(space_is_smaller_where_addresses_are_short)
{
	struct weiri_space space = {0};
	struct rlimit limit;

	if (TEST_ASAN || TEST_TSAN || test_under_valgrind())
		SKIP("the tool needs the address space");
	CHECK_EQ(getrlimit(RLIMIT_AS, &limit), 0);
	limit.rlim_cur = (rlim_t)6 << 30;
	CHECK_EQ(setrlimit(RLIMIT_AS, &limit), 0);
	CHECK_EQ(weiri_space_init(&space, WEIRI_SPACE_LARGE), 0);
	CHECK_LT(space.end - space.base, (ptrdiff_t)6 << 30);
	CHECK_NOT_NULL(weiri_space_take(&space, 1, true));
}
