/* SPDX-License-Identifier: MIT */
/*
 * test_talloc.c - the calls of talloc; talloc.sh compares them with talloc's.
 */
#include "test.h"

#include <sys/wait.h>
#include <unistd.h>

#define WEIR_COMPAT_IMPLEMENTATION
#include <weir/compat/talloc.h>

static char order[64];
static char died[128];

struct named {
	char name;
	int refuses;
};

static int
note(struct named *named)
{
	size_t used = strlen(order);

	if (named->refuses > 0) {
		named->refuses--;
		return -1;
	}
	order[used] = named->name;
	order[used + 1] = '\0';
	return 0;
}

static struct named *
make(const void *ctx, char name)
{
	struct named *named = talloc_zero(ctx, struct named);

	CHECK_NOT_NULL(named);
	named->name = name;
	talloc_set_destructor(named, note);
	return named;
}

static uint64_t
heap_objects(void)
{
	struct weir_pool_stats stats = {.size = sizeof(stats)};

	if (weir_heap_default() == NULL)
		return 0;
	CHECK_EQ(weir_heap_stats(weir_heap_default(), &stats), 0);
	return stats.in_use;
}

static uint64_t
regions(void)
{
	struct weir_pool_stats stats = {.size = sizeof(stats)};

	CHECK_EQ(weir_region_kind_stats(&weir_talloc_kind, &stats), 0);
	return stats.in_use;
}

TEST(talloc_parents_end_before_their_children_and_the_newest_first)
{
	struct named *top = make(NULL, 't');
	struct named *left = make(top, 'l');

	make(top, 'r');
	make(left, '1');
	make(left, '2');
	CHECK_EQ(talloc_total_blocks(top), 5);
	CHECK_EQ(talloc_total_size(top), 5 * sizeof(*top));
	CHECK_EQ(talloc_free(top), 0);
	CHECK_STR(order, "trl21");
	CHECK_EQ(heap_objects(), 0);
	CHECK_EQ(talloc_free(NULL), -1);
}

TEST(talloc_a_child_that_refuses_goes_to_the_grandparent)
{
	struct named *top = make(NULL, 't');
	struct named *middle = make(top, 'm');
	struct named *child = make(middle, 'c');

	make(top, 'n'); /* newer: in talloc the child has no parent then */
	child->refuses = 1;
	CHECK_EQ(talloc_free(middle), 0);
	CHECK(talloc_parent(child) == top);
	CHECK_EQ(talloc_free(top), 0);
	CHECK_STR(order, "mtcn");
	CHECK_EQ(heap_objects(), 0);
}

TEST(talloc_steal_move_and_references_keep_what_is_in_use)
{
	struct named *one = make(NULL, '1');
	struct named *two = make(NULL, '2');
	struct named *object = make(one, 'o');
	struct named *moved = object;

	CHECK(talloc_steal(two, object) == object);
	CHECK(talloc_is_parent(object, two));
	CHECK(!talloc_is_parent(object, one));
	CHECK(talloc_move(one, &moved) == object);
	CHECK_NULL(moved);
	CHECK(talloc_reference(two, object) == object);
	CHECK_EQ(talloc_reference_count(object), 1);
	CHECK_EQ(talloc_free(object), -1); /* which of the two? */
	CHECK_EQ(talloc_free(one), 0);
	CHECK_STR(order, "1");
	CHECK(talloc_parent(object) == two);
	CHECK_EQ(talloc_reference_count(object), 0);
	CHECK_EQ(talloc_unlink(NULL, object), -1);
	CHECK_EQ(talloc_unlink(two, object), 0);
	CHECK_STR(order, "1o");
	talloc_free(two);
	CHECK_EQ(heap_objects(), 0);
}

TEST(talloc_resized_objects_keep_their_family)
{
	void *top = talloc_new(NULL);
	int *array = talloc_array(top, int, 4);
	char *before = talloc_strdup(top, "before");
	char *child = talloc_strdup(array, "child");

	for (int i = 0; i < 4; i++)
		array[i] = i;
	CHECK_EQ(talloc_array_length(array), 4);
	for (unsigned count = 8; count <= 65536; count *= 2) {
		array = talloc_realloc(top, array, int, count);
		CHECK_NOT_NULL(array);
		CHECK(talloc_parent(child) == array);
		CHECK(talloc_parent(array) == top);
	}
	for (int i = 0; i < 4; i++)
		CHECK_EQ(array[i], i);
	CHECK_STR(talloc_get_name(array), "int");
	CHECK_NULL(_talloc_array(top, SIZE_MAX / 2, 3, "too many"));
	CHECK_NULL(talloc_size(top, SIZE_MAX));
	CHECK_NULL(talloc_realloc_size(top, array, 0));
	CHECK_STR(before, "before");
	CHECK_EQ(talloc_total_blocks(top), 2);
	talloc_free(top);
	CHECK_EQ(heap_objects(), 0);
}

TEST(talloc_pool_serves_what_is_below_it_and_lives_as_long)
{
	void *pool = talloc_pool(NULL, 4096);
	void *other = talloc_new(NULL);
	uint64_t before = heap_objects();
	char *kept;

	for (int round = 0; round < 100; round++) {
		void *list = talloc_new(pool);

		for (int i = 0; i < 100; i++)
			CHECK_STR(talloc_asprintf(list, "%d", i),
			    talloc_asprintf(list, "%d", i));
		talloc_free(list);
	}
	CHECK_EQ(heap_objects(), before);
	CHECK_EQ(regions(), 1);
	/* Nothing of it is in use, so that it starts anew. */
	struct weir_region_figures figures = {.size = sizeof(figures)};
	CHECK_EQ(
	    weir_region_stats(weir_talloc_of(pool)->pool->region, &figures), 0);
	CHECK_LT(figures.bytes_charged, 128 << 10);
	kept = talloc_steal(other, talloc_strdup(pool, "kept"));
	kept = talloc_strdup_append(kept, " and longer than it was");
	talloc_free(pool);
	CHECK_EQ(regions(), 1);
	CHECK_STR(kept, "kept and longer than it was");
	talloc_free(other);
	CHECK_EQ(regions(), 0);
	CHECK_EQ(heap_objects(), 0);
}

TEST(talloc_pooled_object_is_freed_with_its_pool)
{
	struct named *named = talloc_pooled_object(NULL, struct named, 4, 100);

	named->name = 'p';
	named->refuses = 0;
	talloc_set_destructor(named, note);
	CHECK_STR(talloc_strdup(named, "text"), "text");
	CHECK_STR(talloc_get_name(named), "struct named");
	talloc_free(named);
	CHECK_STR(order, "p");
	CHECK_EQ(regions(), 0);
	CHECK_EQ(heap_objects(), 0);
}

static void
remember(const char *reason)
{
	snprintf(died, sizeof(died), "%s", reason);
}

TEST(talloc_names_are_types)
{
	struct named *named = make(NULL, 'n');
	void *formatted = talloc_named(named, 8, "name %d", 7);

	CHECK(talloc_get_type(named, struct named) == named);
	CHECK_NULL(talloc_get_type(named, struct other));
	CHECK_STR(talloc_get_name(formatted), "name 7");
	CHECK_STR(talloc_parent_name(formatted), "struct named");
	CHECK(talloc_find_parent_bytype(formatted, struct named) == named);
	talloc_free_children(formatted);
	CHECK_STR(talloc_get_name(formatted), "name 7");
	talloc_set_abort_fn(remember);
	CHECK_NULL(talloc_get_type_abort(named, int *));
	CHECK_CONTAINS(died, "Type mismatch");
	talloc_free(named);
	CHECK_EQ(heap_objects(), 0);
}

TEST(talloc_a_deep_tree_is_freed)
{
	size_t depth = test_count(100000);
	void *top = talloc_new(NULL);
	void *at = top;

	for (size_t i = 0; i < depth; i++)
		at = talloc_new(at);
	CHECK_EQ(talloc_total_blocks(top), depth + 1);
	talloc_free(top);
	CHECK_EQ(heap_objects(), 0);
}

TEST(talloc_null_tracking_finds_what_has_no_parent)
{
	talloc_enable_null_tracking();
	struct named *lost = make(NULL, 'l');

	CHECK_EQ(talloc_total_blocks(NULL), 2);
	CHECK_STR(talloc_parent_name(lost), "null_context");
	talloc_disable_null_tracking();
	CHECK_NULL(talloc_parent(lost));
	CHECK_EQ(talloc_total_blocks(NULL), 0);
	talloc_free(lost);
	CHECK_EQ(heap_objects(), 0);
}

TEST(talloc_report_names_every_object)
{
	char *text = NULL;
	size_t bytes = 0;
	FILE *file = open_memstream(&text, &bytes);
	void *top = talloc_named_const(NULL, 3, "the top");
	void *other = talloc_named_const(NULL, 1, "the other");

	talloc_named_const(top, 5, "the child");
	CHECK_NOT_NULL(talloc_reference(top, other));
	talloc_report_full(top, file);
	fclose(file);
	CHECK_CONTAINS(text, "the top");
	CHECK_CONTAINS(text, "(total      8 bytes in   3 blocks)\n");
	CHECK_CONTAINS(text, "    the child ");
	CHECK_CONTAINS(text, "contains      5 bytes in   1 blocks (ref 0)");
	CHECK_CONTAINS(text, "reference to: the other");
	free(text);
	talloc_free(top);
	talloc_free(other);
}

TEST(talloc_pools_are_shown_where_the_program_made_them)
{
	struct weir_region_info info[3];
	void *one = talloc_pool(NULL, 1000);
	void *two = talloc_pool(NULL, 1000);

	CHECK_EQ(weir_region_top(WEIR_REGION_BY_AGE, 0, info, 3), 2);
	CHECK_NOT_NULL(info[0].site);
	CHECK(info[0].site != info[1].site);
	talloc_free(one);
	talloc_free(two);
}

/* ---- what is written down ------------------------------------------------- */

TEST(talloc_parents_are_shown_up_to_the_one_without)
{
	char text[256] = "";
	FILE *file = fmemopen(text, sizeof(text), "w");
	void *top = talloc_named_const(NULL, 0, "top");
	void *middle = talloc_named_const(top, 0, "middle");

	CHECK_NOT_NULL(file);
	talloc_show_parents(talloc_named_const(middle, 1, "leaf"), file);
	talloc_show_parents(NULL, file);
	fclose(file);
	CHECK_STR(text,
	    "talloc parents of 'leaf'\n\t'leaf'\n\t'middle'\n\t'top'\n"
	    "talloc no parents for NULL\n");
	CHECK_EQ(talloc_free(top), 0);
}

TEST(talloc_text_is_added_where_it_is_and_to_nothing_is_nothing)
{
	char *none = NULL, *text = talloc_strdup(NULL, "a");

	for (int i = 0; i < 1000; i++)
		talloc_asprintf_addbuf(&text, "%d,", i);
	CHECK_EQ(strlen(text), 1 + 3890);
	CHECK_EQ(strncmp(text, "a0,1,2,", 7), 0);
	CHECK_STR(text + strlen(text) - 4, "999,");
	talloc_asprintf_addbuf(&none, "%d", 1);
	CHECK_NULL(none);
	CHECK_EQ(talloc_free(text), 0);
	CHECK_EQ(talloc_version_major(), TALLOC_VERSION_MAJOR);
	CHECK_EQ(talloc_version_minor(), TALLOC_VERSION_MINOR);
}

/* Shorter and longer than what is formatted once. */
TEST(talloc_text_is_whole_whatever_its_length)
{
	for (int width = 1; width < 3000; width += width < 900 ? 97 : 1) {
		char *text = talloc_asprintf(NULL, "%0*d", width, 7);
		size_t length = (size_t)width;

		CHECK_NOT_NULL(text);
		CHECK_EQ(strspn(text, "0"), length - 1);
		CHECK_STR(text + length - 1, "7");
		CHECK_STR(talloc_get_name(text), text);
		text = talloc_asprintf_append(text, "%0*d", width, 8);
		CHECK_NOT_NULL(text);
		CHECK_EQ(strspn(text + length, "0"), length - 1);
		CHECK_EQ(text[length - 1], '7');
		CHECK_STR(text + 2 * length - 1, "8");
		CHECK_EQ(talloc_free(text), 0);
	}
}

static int
say_ended(struct named *named)
{
	fprintf(stderr, "%c ended\n", named->name);
	return 0;
}

/* Runs @run in a child that exits; what it wrote to stderr. */
static const char *
written_by(void (*run)(void))
{
	static char text[2048];
	size_t used = 0;
	ssize_t got;
	int ends[2], status;
	pid_t child;

	CHECK_EQ(pipe(ends), 0);
	fflush(NULL);
	child = fork();
	CHECK_NE(child, -1);
	if (child == 0) {
		dup2(ends[1], STDERR_FILENO);
		run();
		exit(0);
	}
	close(ends[1]);
	while ((got = read(ends[0], text + used, sizeof(text) - 1 - used)) > 0)
		used += (size_t)got;
	text[used] = '\0';
	close(ends[0]);
	CHECK_EQ(waitpid(child, &status, 0), child);
	CHECK_EQ(status, 0);
	return text;
}

static void
leave_some(void)
{
	struct named *named = make(talloc_autofree_context(), 'x');
	void *top;

	talloc_set_destructor(named, say_ended);
	talloc_set_log_stderr();
	talloc_enable_leak_report();
	top = talloc_named_const(NULL, 10, "left behind");
	talloc_named_const(top, 20, "below it");
}

static void
leave_some_and_say_all(void)
{
	leave_some();
	talloc_enable_leak_report_full();
}

static void
leave_nothing(void)
{
	talloc_enable_leak_report_full();
	talloc_enable_null_tracking_no_autofree();
	talloc_free(talloc_autofree_context());
	(void)talloc_autofree_context();
}

TEST(talloc_what_is_left_at_the_end_of_the_program_is_reported)
{
	const char *text = written_by(leave_some);

	CHECK_CONTAINS(text, "x ended\n");
	CHECK_CONTAINS(text, "left behind");
	CHECK_CONTAINS(text, "talloc report on 'null_context' (total     30 "
			     "bytes in   3 blocks)");
	CHECK_CONTAINS(text, "contains     30 bytes in   2 blocks (ref 0) ");
	CHECK_NULL(strstr(text, "below it"));
	CHECK_NULL(strstr(text, "autofree"));
	CHECK_CONTAINS(written_by(leave_some_and_say_all), "below it");
	CHECK_STR(written_by(leave_nothing), "");
}
