/* SPDX-License-Identifier: MIT */
/*
 * test_json_parts.c - what reports in JSON are made of, in too little room.
 *
 * The reporter has no memory but its stack's: what does not fit is left out, and
 * what is written is an object all the same.
 */
#include "test.h"

#include "guard/json.h"
#include "guard/stack.h"

#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

TEST(members_are_separated_and_numbers_keep_their_sign)
{
	char bytes[200];
	struct weiri_text text = {bytes, sizeof(bytes), 0};

	weiri_text_char(&text, '{');
	weiri_json_number(&text, "a", -5);
	weiri_json_number(&text, "b", INT64_MIN);
	weiri_json_string(&text, "none", NULL);
	weiri_json_string(&text, "c", "x\"");
	weiri_text_char(&text, '}');
	CHECK_STR(
	    bytes, "{\"a\":-5,\"b\":-9223372036854775808,\"c\":\"x\\\"\"}");
	/* At the very start of a text nothing is separated. */
	text = (struct weiri_text){bytes, sizeof(bytes), 0};
	weiri_json_number(&text, "a", 1);
	CHECK_STR(bytes, "\"a\":1");
}

/* A text that ran out of room counts on, and is written to no more. */
TEST(text_that_is_full_is_left_as_it_is)
{
	char bytes[8];
	struct weiri_text text = {bytes, sizeof(bytes), 0};
	const struct weiri_stack stack = {.count = 2, .frame = {1, 2}};

	memset(bytes, '#', sizeof(bytes));
	weiri_text_str(&text, "0123456789");
	weiri_json_number(&text, "key", 12345);
	weiri_json_stack(&text, "stack", &stack);
	CHECK_GT(text.used, sizeof(bytes));
	CHECK_EQ(strlen(bytes), sizeof(bytes) - 1);
	CHECK_MEM(bytes, "0123456", 7);
}

/* The modules of two stacks as JSON, in @room bytes. */
static size_t
modules(const struct weiri_stack *stack, const struct weiri_stack *other,
    char *bytes, size_t room)
{
	struct weiri_text text = {bytes, room, 0};
	struct weiri_json_modules all;

	weiri_text_char(&text, '{');
	weiri_json_modules_begin(&all, &text);
	weiri_json_modules_add(&all, stack);
	weiri_json_modules_add(&all, other);
	weiri_json_modules_end(&all);
	weiri_text_char(&text, '}');
	CHECK_LE(text.used, room);
	return all.count;
}

TEST(modules_are_told_once_and_only_where_there_is_room)
{
	uintptr_t here = (uintptr_t)modules;
	int local;
	struct weiri_stack stack = {.count = 5,
	    .frame = {here, here + 8, here - 8, (uintptr_t)&local, 16}};
	char bytes[2000];

	CHECK_EQ(modules(&stack, &stack, bytes, sizeof(bytes)), 1);
	CHECK_CONTAINS(bytes, "\"modules\":[{\"path\":\"");
	CHECK_CONTAINS(bytes, "test_json_parts\",\"base\":\"0x");
	CHECK_STR(bytes + strlen(bytes) - 3, "}]}");
	CHECK_EQ(modules(&stack, &stack, bytes, 40), 0);
	CHECK_STR(bytes, "{}");
	/* Of nothing but what is in no file there is no list. */
	stack = (struct weiri_stack){.count = 1, .frame = {16}};
	CHECK_EQ(modules(&stack, &stack, bytes, sizeof(bytes)), 0);
	CHECK_STR(bytes, "{}");
}

/* Files that are no programs, mapped: one more than are told. */
TEST(more_modules_than_are_told_are_left_out)
{
	static char bytes[8000];
	struct weiri_stack stack = {.count = 0}, other = {.count = 1};
	char name[64];

	static_assert(WEIRI_JSON_MODULES <= WEIRI_STACK_FRAMES, "in one stack");
	other.frame[0] = (uintptr_t)modules;
	for (size_t i = 0; i < WEIRI_JSON_MODULES; i++) {
		void *at;
		int fd;

		snprintf(name, sizeof(name), "/tmp/weir-module-XXXXXX");
		fd = mkstemp(name);
		CHECK_GE(fd, 0);
		CHECK_EQ(ftruncate(fd, 4096), 0);
		at = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0);
		CHECK(at != MAP_FAILED);
		CHECK_EQ(close(fd), 0);
		CHECK_EQ(unlink(name), 0);
		stack.frame[stack.count++] = (uintptr_t)at;
	}
	CHECK_EQ(
	    modules(&stack, &other, bytes, sizeof(bytes)), WEIRI_JSON_MODULES);
	CHECK(strstr(bytes, "build_id") == NULL);
	CHECK(strstr(bytes, "test_json_parts") == NULL);
	CHECK_EQ(
	    modules(&other, &stack, bytes, sizeof(bytes)), WEIRI_JSON_MODULES);
	CHECK_CONTAINS(bytes, "test_json_parts");
}
