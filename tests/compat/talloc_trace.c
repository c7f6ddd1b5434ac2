/* SPDX-License-Identifier: MIT */
/*
 * talloc_trace.c - a random life of a talloc tree, written down.
 *
 *     talloc_trace SEED OPERATIONS
 *
 * Compiled against talloc itself and against weir/compat/talloc.h, by talloc.sh,
 * which compares what the two say: every result, every destructor that runs and
 * when, parents, references and totals after each operation.
 */
#ifdef TRACE_WEIR
#define WEIR_COMPAT_IMPLEMENTATION
#include <weir/compat/talloc.h>
#else
#include <talloc.h>
#endif

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TRACE_OBJECTS 64

struct object {
	unsigned id;
	int refuses; /* so many times */
};

static struct object *objects[TRACE_OBJECTS];
static unsigned ids;
static uint64_t state;

static unsigned
drawn(unsigned below)
{
	state = state * UINT64_C(6364136223846793005) +
		UINT64_C(1442695040888963407);
	return (unsigned)((state >> 33) % below);
}

/* Objects whose memory is gone are forgotten, which is what tells. */
static int
on_end(struct object *object)
{
	if (object->refuses > 0) {
		object->refuses--;
		printf(" refused:%u", object->id);
		return -1;
	}
	printf(" end:%u", object->id);
	for (unsigned i = 0; i < TRACE_OBJECTS; i++)
		if (objects[i] == object)
			objects[i] = NULL;
	return 0;
}

static unsigned
id_of(const void *object)
{
	for (unsigned i = 0; object != NULL && i < TRACE_OBJECTS; i++)
		if (objects[i] == object)
			return objects[i]->id;
	return 0;
}

static struct object *
some(void)
{
	return objects[drawn(TRACE_OBJECTS)];
}

static void
make(const void *ctx, unsigned at)
{
	struct object *object;

	if (objects[at] != NULL)
		return;
	object = talloc_zero_size(ctx, sizeof(*object) + drawn(300));
	object->id = ++ids;
	if (drawn(12) == 0)
		object->refuses = 1;
	objects[at] = object;
	talloc_set_destructor(object, on_end);
	printf(" make:%u<%u", object->id, id_of(ctx));
}

static void
resize(unsigned at)
{
	struct object *object = objects[at];
	size_t bytes = sizeof(*object) + drawn(3000);

	if (object == NULL)
		return;
	objects[at] = talloc_realloc_size(NULL, object, bytes);
	printf(" resize:%d", objects[at] != NULL);
	if (objects[at] == NULL)
		objects[at] = object;
	else
		talloc_set_name_const(objects[at], "resized");
}

/* Nothing becomes a part of itself: talloc would make a loop of it. */
static void
steal(struct object *ctx, struct object *object)
{
	if (object == NULL || ctx == object ||
	    (ctx != NULL && talloc_is_parent(ctx, object)))
		return;
	printf(" steal:%u<%u=%u", object->id, id_of(ctx),
	    id_of(talloc_steal(ctx, object)));
}

static void
refer(struct object *ctx, struct object *object)
{
	if (ctx == NULL || object == NULL || ctx == object ||
	    talloc_is_parent(ctx, object) || talloc_reference_count(object) > 2)
		return;
	printf(" refer:%u<%u=%u", object->id, id_of(ctx),
	    id_of(talloc_reference(ctx, object)));
}

/*
 * Where an object goes that refuses to end with its parent depends in talloc on
 * whether that was its parent's newest child: such are not freed here.
 */
static int
refused_below(const struct object *top)
{
	for (unsigned i = 0; top != NULL && i < TRACE_OBJECTS; i++)
		if (objects[i] != NULL && objects[i] != top &&
		    objects[i]->refuses > 0 &&
		    talloc_is_parent(objects[i], top))
			return 1;
	return 0;
}

static void
operate(void)
{
	struct object *one = some();
	struct object *two = some();
	unsigned at = drawn(TRACE_OBJECTS);

	switch (drawn(12)) {
	case 0:
	case 1:
	case 2:
		make(one, at);
		break;
	case 3:
		make(NULL, at);
		break;
	case 4:
		if (refused_below(one))
			break;
		if (one != NULL)
			printf(" free:%u", one->id);
		printf("=%d", talloc_free(one));
		break;
	case 5:
		steal(one, two);
		break;
	case 6:
	case 7:
		refer(one, two);
		break;
	case 8:
		if (refused_below(two))
			break;
		if (two != NULL)
			printf(" unlink:%u<%u", two->id, id_of(one));
		printf("=%d", talloc_unlink(one, two));
		break;
	case 9:
		resize(at);
		break;
	case 10:
		if (one != NULL && drawn(4) == 0 && !refused_below(one)) {
			printf(" children:%u", one->id);
			talloc_free_children(one);
		}
		break;
	default:
		if (one != NULL && two != NULL && one != two)
			printf(" is:%d", talloc_is_parent(one, two));
		break;
	}
}

/*
 * Who refers to what it is below, and inherits it, makes a loop of the tree, in
 * talloc too: the life ends there.
 */
static int
looped(void)
{
	for (unsigned i = 0; i < TRACE_OBJECTS; i++) {
		const void *above = objects[i];
		unsigned steps = 0;

		while (above != NULL && steps++ <= 2 * TRACE_OBJECTS)
			above = talloc_parent(above);
		if (above != NULL)
			return 1;
	}
	return 0;
}

static void
look(void)
{
	for (unsigned i = 0; i < TRACE_OBJECTS; i++) {
		struct object *object = objects[i];

		if (object == NULL)
			continue;
		printf(" %u<%u:%zu,%zu,%zu,%zu", object->id,
		    id_of(talloc_parent(object)), talloc_get_size(object),
		    talloc_total_size(object), talloc_total_blocks(object),
		    talloc_reference_count(object));
	}
}

static void
report_line(
    const void *ptr, int depth, int max_depth, int is_ref, void *private_data)
{
	(void)private_data;
	printf("%s %d %d %d\n", talloc_get_name(ptr), depth, max_depth, is_ref);
}

/* A report without the addresses that end its lines. */
static void
report(const void *ptr, int depth, int max_depth)
{
	char text[4096], *line = text;
	FILE *file = fmemopen(text, sizeof(text), "w");

	talloc_report_depth_file(ptr, depth, max_depth, file);
	fclose(file);
	while ((line = strstr(line, ") 0x")) != NULL) {
		size_t digits = 3 + strspn(line + 4, "0123456789abcdef") + 1;

		memmove(line + 1, line + digits, strlen(line + digits) + 1);
		line++;
	}
	printf("%s", text);
}

static void
reports(void)
{
	void *top = talloc_named_const(NULL, 3, "top");
	void *middle = talloc_named_const(top, 4, "middle");
	void *leaf = talloc_named_const(middle, 5, "leaf");
	void *other = talloc_named_const(NULL, 1, "other");

	talloc_named_const(leaf, 6, "end");
	(void)talloc_reference(other, leaf);
	(void)talloc_reference(middle, other);
	for (int max_depth = -1; max_depth < 4; max_depth++) {
		talloc_report_depth_cb(top, 0, max_depth, report_line, NULL);
		talloc_report_depth_cb(top, 2, max_depth, report_line, NULL);
		report(top, 0, max_depth);
		report(top, 1, max_depth);
	}
	talloc_show_parents(leaf, stdout);
	talloc_enable_null_tracking();
	talloc_show_parents(talloc_new(NULL), stdout);
	report(NULL, 0, -1);
	talloc_free(top);
	report(NULL, 0, 1);
	talloc_free_children(other);
	report(NULL, 0, -1);
	talloc_disable_null_tracking();
	talloc_free(other);
}

static void
strings(void)
{
	char *text = talloc_strdup(NULL, "a");

	for (int i = 0; i < 20; i++) {
		text = talloc_asprintf_append(text, "-%d", i);
		text = talloc_strdup_append_buffer(text, "+");
		text = talloc_strndup_append(text, "xyz", 2);
	}
	printf(
	    "%s %s %zu\n", text, talloc_get_name(text), talloc_get_size(text));
	text[4] = '\0';
	text = talloc_strdup_append(text, "short");
	text = talloc_asprintf_append_buffer(text, "%s", "");
	text = talloc_strndup_append_buffer(text, "er", 9);
	talloc_asprintf_addbuf(&text, " and %d", 7);
	printf("%s %zu\n", text, talloc_get_size(text));
	talloc_show_parents(talloc_new(talloc_strdup(text, "below")), stdout);
	talloc_show_parents(NULL, stdout);
	talloc_free(text);
}

int
main(int argc, char **argv)
{
	unsigned operations = argc > 2 ? (unsigned)atoi(argv[2]) : 1000;

	state = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
	strings();
	reports();
	for (unsigned i = 0; i < operations; i++) {
		printf("%u", i);
		operate();
		if (looped()) {
			printf(" loop\n");
			return 0;
		}
		look();
		printf("\n");
	}
	printf("end\n");
	return 0;
}
