/* SPDX-License-Identifier: MIT */
/*
 * test_region_life.c - what region_life.h promises of ends and of moves from
 * region to region.
 */
#include "region_life_common.h"

#include <limits.h>
#include <pthread.h>
#include <unistd.h>

/* ---- transfer ------------------------------------------------------------- */

TEST(transferred_cleanup_survives_its_region)
{
	struct weir_region *from = create(NULL), *to = create(NULL);
	char letter[] = "m";
	struct weir_region_cleanup *moves =
	    weir_region_cleanup_add(from, note, letter);

	add_note(from, "a");
	add_note(to, "x");
	moves = weir_region_cleanup_transfer(from, moves, to);
	CHECK_NOT_NULL(moves);
	CHECK(weir_region_check(from));
	CHECK(weir_region_check(to));
	CHECK_EQ(figures(from).cleanups, 1);
	CHECK_EQ(figures(to).cleanups, 2);
	weir_region_destroy(from);
	CHECK_STR(trace, "a");
	moves = weir_region_cleanup_transfer(to, moves, to);
	add_note(to, "y");
	CHECK_NOT_NULL(moves);
	weir_region_destroy(to);
	CHECK_STR(trace, "aymx");
}

TEST(transfer_that_is_refused_changes_nothing)
{
	struct weir_region *from = create(NULL);
	struct weir_region *to = create(&(struct weir_region_config){
	    .first_bytes = 1024, .block_bytes_max = 1024, .limit_bytes = 1024});
	char letter[] = "m";
	struct weir_region_cleanup *stays =
	    weir_region_cleanup_add(from, note, letter);
	struct weir_region_cleanup *reserved = weir_region_cleanup_reserve(to);

	CHECK_NOT_NULL(reserved);
	while (weir_region_alloc(to, 16) != NULL)
		;
	CHECK_NULL(weir_region_cleanup_transfer(from, stays, to));
	CHECK_EQ(figures(from).cleanups, 1);
	/* What was reserved is there to be armed. */
	weir_region_cleanup_cancel(from, stays);
	weir_region_cleanup_arm(to, reserved, note, letter);
	weir_region_destroy(from);
	CHECK_STR(trace, "");
	weir_region_destroy(to);
	CHECK_STR(trace, "m");
}

/* ---- trees ---------------------------------------------------------------- */

TEST(children_end_before_their_parent_newest_first)
{
	struct weir_region *root = create(NULL), *a, *b;

	add_note(root, "r");
	a = create_below(root);
	add_note(a, "a");
	b = create_below(root);
	add_note(b, "b");
	add_note(create_below(b), "c");
	add_note(create_below(a), "d");
	add_note(root, "s");
	CHECK(weir_region_check(root));
	CHECK_EQ(figures(root).children, 2);
	weir_region_reset(root);
	CHECK_STR(trace, "cbdasr");
	CHECK_EQ(figures(root).children, 0);
	CHECK_EQ(kind_stats(&test_kind).in_use, 1);
	weir_region_destroy(root);
}

static void
add_letter(char letter)
{
	size_t length = strlen(trace);

	CHECK_LT(length + 1, sizeof(trace));
	trace[length] = letter;
	trace[length + 1] = '\0';
}

static void
destroy_it(void *context)
{
	add_letter('!');
	weir_region_destroy(context);
}

TEST(cleanup_may_destroy_siblings)
{
	struct weir_region *root = create(NULL), *sibling[4], *last;

	for (size_t i = 0; i < 4; i++) {
		sibling[i] = create_below(root);
		add_note(sibling[i], &"abcd"[i]);
		add_note(create_below(sibling[i]), "-");
	}
	last = create_below(root);
	add_note(last, "l");
	CHECK_NOT_NULL(weir_region_cleanup_add(last, destroy_it, sibling[2]));
	CHECK_NOT_NULL(weir_region_cleanup_add(last, destroy_it, sibling[0]));
	CHECK_NOT_NULL(
	    weir_region_cleanup_add(sibling[0], destroy_it, sibling[3]));
	weir_region_destroy(root);
	CHECK_STR(trace, "!-!-da!-cl-b");
	CHECK_EQ(kind_stats(&test_kind).in_use, 0);
	CHECK_EQ(kind_stats(&test_kind).bytes_mapped, 0);
}

static void
make_child(void *context)
{
	add_letter('+');
	add_note(create_below(context), "n");
}

TEST(region_made_by_a_cleanup_ends_before_the_next_cleanup)
{
	for (int way = 0; way < 3; way++) {
		struct weir_region *root = create(NULL);

		trace[0] = '\0';
		if (way == 2)
			add_note(create_below(root), "c");
		add_note(root, "a");
		CHECK_NOT_NULL(weir_region_cleanup_add(root, make_child, root));
		add_note(root, "b");
		if (way == 1)
			weir_region_reset(root);
		CHECK(way != 1 || weir_region_check(root));
		weir_region_destroy(root);
		CHECK_STR(trace, way == 2 ? "cb+na" : "b+na");
	}
	CHECK_EQ(kind_stats(&test_kind).in_use, 0);
}

static struct weir_region *saved;

static void
save_it(void *context)
{
	weir_region_detach(context);
	saved = context;
}

TEST(cleanup_may_save_a_sibling)
{
	struct weir_region *root = create(NULL);
	struct weir_region *survivor = create_below(root);
	char *object = filled(survivor, 5000, 7);

	add_note(survivor, "s");
	CHECK_NOT_NULL(
	    weir_region_cleanup_add(create_below(root), save_it, survivor));
	weir_region_destroy(root);
	CHECK_STR(trace, "");
	CHECK_PTR(saved, survivor);
	CHECK(weir_region_check(survivor));
	CHECK(holds(object, 5000, 7));
	weir_region_destroy(survivor);
	CHECK_STR(trace, "s");
}

static size_t ended;

static void
count_end(void *context)
{
	ended += *(size_t *)context;
}

/* The shape of a tree, and a thread whose stack is too small for recursion. */
struct forest {
	size_t regions;
	bool deep;
	bool reset;
};

static void *
forest_run(void *context)
{
	const struct forest *forest = context;
	struct weir_region_config config = {.first_bytes = 1024};
	struct weir_region *root = create(&config), *region = root;
	size_t one = 1;

	for (size_t i = 0; i < forest->regions; i++) {
		config.parent = forest->deep ? region : root;
		CHECK_EQ(weir_region_create(&test_kind, &config, &region), 0);
		CHECK_NOT_NULL(
		    weir_region_cleanup_add(region, count_end, &one));
	}
	if (forest->reset)
		weir_region_reset(root);
	weir_region_destroy(root);
	return NULL;
}

static void
run_forest(struct forest forest)
{
	long page = sysconf(_SC_PAGESIZE);
	size_t stack = TEST_ASAN ? 512 << 10 : 64 << 10;
	pthread_attr_t attr;
	pthread_t thread;

	if (TEST_TSAN)
		SKIP("many operations of one thread");
	stack += ((size_t)PTHREAD_STACK_MIN + (size_t)page - 1) / (size_t)page *
		 (size_t)page;
	ended = 0;
	CHECK_EQ(pthread_attr_init(&attr), 0);
	CHECK_EQ(pthread_attr_setstacksize(&attr, stack), 0);
	CHECK_EQ(pthread_create(&thread, &attr, forest_run, &forest), 0);
	CHECK_EQ(pthread_join(thread, NULL), 0);
	CHECK_EQ(pthread_attr_destroy(&attr), 0);
	CHECK_EQ(ended, forest.regions);
	CHECK_EQ(kind_stats(&test_kind).in_use, 0);
	CHECK_EQ(kind_stats(&test_kind).bytes_mapped, 0);
}

TEST(million_regions_one_below_the_other_end_in_a_small_stack)
{
	run_forest((struct forest){test_count(1000000), .deep = true});
}

TEST(million_regions_side_by_side_end_in_a_small_stack)
{
	run_forest((struct forest){test_count(1000000), .reset = true});
}

/* ---- moving --------------------------------------------------------------- */

TEST(detached_and_adopted_regions_live_as_long_as_their_new_parent)
{
	struct weir_region *a = create(NULL), *b = create(NULL), *moves, *below;

	moves = create_below(a);
	below = create_below(moves);
	add_note(moves, "m");
	add_note(below, "w");
	add_note(a, "a");
	add_note(b, "b");
	weir_region_detach(moves);
	weir_region_detach(moves);
	CHECK_EQ(figures(a).children, 0);
	weir_region_destroy(a);
	CHECK_STR(trace, "a");
	CHECK_EQ(weir_region_adopt(b, moves), 0);
	CHECK_EQ(weir_region_adopt(b, moves), 0);
	CHECK(weir_region_check(moves));
	CHECK_EQ(figures(b).children, 1);
	/* From the middle of one tree to the top of another. */
	CHECK_EQ(weir_region_adopt(b, below), 0);
	CHECK_EQ(weir_region_adopt(below, moves), 0);
	CHECK(weir_region_check(b));
	weir_region_destroy(b);
	CHECK_STR(trace, "amwb");
	CHECK_EQ(kind_stats(&test_kind).in_use, 0);
}

static unsigned soft_calls;

static void
soft_told(struct weir_region *region, uint64_t bytes, void *context)
{
	CHECK_PTR(region, *(struct weir_region **)context);
	CHECK_EQ(figures(region).bytes_below, bytes);
	soft_calls++;
}

TEST(budgets_count_what_moves)
{
	struct weir_region *tenant, *moves, *below, *outside = create(NULL);
	char *object;
	uint64_t own, tree;

	tenant = create(&(struct weir_region_config){
	    .limit_bytes = 300000,
	    .soft_bytes = 150000,
	    .soft = soft_told,
	    .soft_context = &tenant,
	});
	own = figures(tenant).bytes_below;
	moves = create_below(outside);
	below = create_below(moves);
	object = filled(below, 200000, 1);
	tree = figures(moves).bytes_charged + figures(below).bytes_charged;
	CHECK_EQ(weir_region_adopt(tenant, moves), 0);
	CHECK_EQ(soft_calls, 1);
	CHECK_EQ(figures(tenant).bytes_below, own + tree);
	CHECK(weir_region_check(tenant));
	CHECK(weir_region_check(below));
	/* Moves inside change no sum, and need no room. */
	CHECK_EQ(weir_region_adopt_large(tenant, below, object), 0);
	CHECK_EQ(figures(tenant).bytes_below, own + tree);
	CHECK_EQ(soft_calls, 1);
	weir_region_detach(moves);
	CHECK_EQ(figures(tenant).bytes_below, own + 200704);
	CHECK(weir_region_check(tenant));
	CHECK(weir_region_check(moves));
	/* Too much for what is left: nothing moves. */
	(void)filled(below, 200000, 1);
	CHECK_EQ(weir_region_adopt(tenant, moves), -ENOMEM);
	CHECK_EQ(figures(tenant).children, 0);
	CHECK_EQ(figures(tenant).bytes_below, own + 200704);
	CHECK(weir_region_check(below));
	object = filled(outside, 150000, 3);
	CHECK_EQ(weir_region_adopt_large(tenant, outside, object), -ENOMEM);
	CHECK(holds(object, 150000, 3));
	CHECK(weir_region_check(outside));
	weir_region_destroy(tenant);
	weir_region_destroy(moves);
	weir_region_destroy(outside);
	CHECK_EQ(kind_stats(&test_kind).bytes_mapped, 0);
}

TEST(limit_of_a_lone_region_holds_for_adopted_objects)
{
	struct weir_region *from = create(NULL);
	struct weir_region *to =
	    create(&(struct weir_region_config){.limit_bytes = 100000});
	char *object = filled(from, 90000, 1), *other = filled(from, 20000, 2);
	char *large = filled(from, 40000, 3), *small = filled(from, 100, 4);

	CHECK_EQ(weir_region_adopt_large(to, from, small), -EINVAL);
	CHECK_EQ(weir_region_adopt_large(to, from, other), -EINVAL);
	CHECK_EQ(weir_region_adopt_large(to, from, object), 0);
	CHECK_EQ(weir_region_adopt_large(to, to, object), 0);
	CHECK_EQ(weir_region_adopt_large(to, from, large), -ENOMEM);
	CHECK_EQ(figures(to).bytes_charged, 4096 + 90112);
	CHECK(weir_region_check(to));
	CHECK(weir_region_check(from));
	weir_region_destroy(from);
	CHECK(holds(object, 90000, 1));
	weir_region_destroy(to);
	CHECK_EQ(kind_stats(&test_kind).bytes_mapped, 0);
}

TEST(merged_region_leaves_everything_to_its_parent)
{
	static struct weir_region_kind other_kind = WEIR_REGION_KIND("other");
	struct weir_region *root = create(NULL), *child;
	struct weir_region_config config = {.parent = root};
	struct weir_region_cleanup *cancelled, *reserved;
	char letter[] = "v", late[] = "l";
	char *small, *large, *address;
	uint64_t charged;

	add_note(root, "r");
	CHECK_EQ(weir_region_create(&other_kind, &config, &child), 0);
	small = filled(child, 1500, 1);
	for (int i = 0; i < 100; i++)
		(void)filled(child, 1000, 2);
	large = filled(child, 123456, 3);
	add_note(child, "a");
	cancelled = weir_region_cleanup_add(child, note, letter);
	reserved = weir_region_cleanup_reserve(child);
	add_note(child, "b");
	add_note(create_below(child), "x");
	add_note(create_below(child), "y");
	charged = figures(root).bytes_charged + figures(child).bytes_charged;
	weir_region_merge(root, child);
	CHECK(weir_region_check(root));
	CHECK_EQ(figures(root).bytes_charged, charged);
	CHECK_EQ(figures(root).children, 2);
	CHECK_EQ(kind_stats(&other_kind).in_use, 0);
	CHECK_EQ(kind_stats(&other_kind).bytes_mapped, 0);
	CHECK_EQ(kind_stats(&test_kind).in_use, 3);
	CHECK_EQ(kind_stats(&test_kind).bytes_mapped, charged + 8192);
	CHECK(holds(small, 1500, 1));
	CHECK(holds(large, 123456, 3));
	/* Its handles and large objects are used as the parent's. */
	weir_region_cleanup_cancel(root, cancelled);
	weir_region_cleanup_arm(root, reserved, note, late);
	CHECK(weir_region_resize_large(root, large, 50000));
	address = filled(root, 3000, 4);
	CHECK(weir_region_check(root));
	CHECK(holds(small, 1500, 1));
	CHECK(holds(address, 3000, 4));
	weir_region_reset(root);
	CHECK_STR(trace, "yxlbar");
	CHECK(weir_region_check(root));
	weir_region_destroy(root);
	CHECK_EQ(kind_stats(&test_kind).in_use, 0);
	CHECK_EQ(kind_stats(&test_kind).bytes_mapped, 0);
	/* Its first block, used by a region again, has forgotten all this. */
	for (int i = 0; i < 5; i++) {
		CHECK_EQ(weir_region_create(&other_kind, NULL, &child), 0);
		CHECK(weir_region_check(child));
		add_note(child, "-");
		weir_region_destroy(child);
	}
}

/* Adds so many cleanups and cancels them all. */
static void
cancel_some(struct weir_region *region, int count)
{
	struct weir_region_cleanup *handles[16];
	char letter[] = "-";

	for (int i = 0; i < count; i++)
		handles[i] = weir_region_cleanup_add(region, note, letter);
	for (int i = 0; i < count; i++)
		weir_region_cleanup_cancel(region, handles[i]);
}

TEST(merged_region_brings_the_handles_it_had_to_use_again)
{
	NOT_UNDER_GUARD("what a cancelled handle leaves is not used again");

	enum { CHILDREN = 3, EACH = 5, ALL = (CHILDREN + 1) * EACH };
	struct weir_region *root = create(NULL);
	struct weir_region_cleanup *used[ALL];
	char letter[] = "x";
	const char *next;

	cancel_some(root, EACH);
	for (int i = 0; i < CHILDREN; i++) {
		struct weir_region *child = create_below(root);

		cancel_some(child, EACH);
		weir_region_merge(root, child);
		CHECK(weir_region_check(root));
	}
	next = root->next;
	for (int i = 0; i < ALL; i++) {
		used[i] = weir_region_cleanup_add(root, note, letter);
		CHECK_NOT_NULL(used[i]);
		for (int j = 0; j < i; j++)
			CHECK(used[j] != used[i]);
	}
	CHECK_PTR(root->next, next);
	CHECK(weir_region_check(root));
	/* There were no more of them. */
	CHECK_NOT_NULL(weir_region_cleanup_add(root, note, letter));
	CHECK(root->next != next);
	weir_region_destroy(root);
	CHECK_EQ(strlen(trace), ALL + 1);
}

TEST(merged_region_takes_its_own_budget_off_what_was_below_it)
{
	struct weir_region *root, *child, *below;
	struct weir_region_figures before, after;

	root = create(&(struct weir_region_config){.limit_bytes = 1 << 20});
	child = create(
	    &(struct weir_region_config){.parent = root, .limit_bytes = 50000});
	below = create_below(child);
	CHECK_NULL(weir_region_alloc(below, 100000));
	before = figures(root);
	weir_region_merge(root, child);
	after = figures(root);
	CHECK_EQ(after.bytes_below, before.bytes_below);
	CHECK(weir_region_check(root));
	CHECK(weir_region_check(below));
	(void)filled(below, 100000, 1);
	CHECK_EQ(figures(root).bytes_below, before.bytes_below + 102400);
	weir_region_destroy(root);
	CHECK_EQ(kind_stats(&test_kind).bytes_mapped, 0);
}

TEST(parent_goes_on_in_the_larger_room_after_a_merge)
{
	struct weir_region *root = create(NULL);
	struct weir_region *child = create(&(struct weir_region_config){
	    .parent = root, .first_bytes = 64 << 10});

	(void)filled(root, 3000, 1);
	weir_region_merge(root, child);
	for (int i = 0; i < 60; i++)
		(void)filled(root, 1000, 2);
	CHECK_EQ(figures(root).blocks, 2);
	weir_region_destroy(root);
}

/* ---- work that is shared out ---------------------------------------------- */

#define WORKERS 4
#define OBJECTS 300
#define LARGES 20 /* of all, see crew_bytes() */

struct crew {
	struct weir_region *region[WORKERS];
	char *object[WORKERS][OBJECTS];
};

static size_t
crew_bytes(unsigned index, int i)
{
	return i % 60 == 59 ? 70000 : 20 + (size_t)i * (index + 1) % 700;
}

static void
crew_work(unsigned index, void *context)
{
	struct crew *crew = context;
	struct weir_region *region = crew->region[index];
	struct weir_region *below;

	/* Some are the worker's own, which the owner of the whole adopts. */
	if (region == NULL)
		region = crew->region[index] = create(NULL);
	weir_region_take_over(region);
	for (int i = 0; i < OBJECTS; i++) {
		WEIR_REGION_SCRATCH(scratch, region);
		(void)filled(region, 500, 0);
	}
	for (int i = 0; i < OBJECTS; i++)
		crew->object[index][i] =
		    filled(region, crew_bytes(index, i), (int)index + 1);
	add_note(region, &"0123"[index]);
	below = create_below(region);
	(void)filled(below, 9000, 1);
	weir_region_hand_off(region);
}

TEST(workers_fill_a_region_each_and_the_owner_joins_them)
{
	struct weir_region *root =
	    create(&(struct weir_region_config){.limit_bytes = 64 << 20});

	for (int round = 0; round < 3; round++) {
		static struct crew crew;

		trace[0] = '\0';
		for (unsigned i = 0; i < WORKERS; i++) {
			crew.region[i] = NULL;
			if (i % 2 == 0)
				continue;
			crew.region[i] = create_below(root);
			weir_region_hand_off(crew.region[i]);
		}
		test_threads(WORKERS, crew_work, &crew);
		for (unsigned i = 0; i < WORKERS; i++) {
			weir_region_take_over(crew.region[i]);
			CHECK_EQ(weir_region_adopt(root, crew.region[i]), 0);
			weir_region_merge(root, crew.region[i]);
		}
		CHECK(weir_region_check(root));
		CHECK_EQ(figures(root).children, WORKERS);
		CHECK_EQ(figures(root).larges, LARGES);
		for (unsigned w = 0; w < WORKERS; w++)
			for (int i = 0; i < OBJECTS; i++)
				CHECK(holds(crew.object[w][i], crew_bytes(w, i),
				    (int)w + 1));
		weir_region_reset(root);
		CHECK_STR(trace, "3210");
	}
	weir_region_destroy(root);
	CHECK_EQ(kind_stats(&test_kind).in_use, 0);
	CHECK_EQ(kind_stats(&test_kind).bytes_mapped, 0);
}
