/* SPDX-License-Identifier: MIT */
/*
 * test_invalid.c - what is said about a configuration that is refused: the
 * call, the field, its value and what would have been taken.
 */
#include "test.h"

#include "config/config.h"
#include "config/invalid.h"

#include <weir/weir.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char said[1024];
static unsigned times;

static void
listen_to(enum weir_message_level level, const char *line, void *context)
{
	CHECK_PTR(context, said);
	CHECK_EQ(level, WEIR_MESSAGE_ERROR);
	snprintf(said, sizeof(said), "%s", line);
	times++;
}

static void
start_listening(void)
{
	CHECK_EQ(weir_init(&(struct weir_config){
		     .message = listen_to, .message_context = said}),
	    0);
}

/* One message since the last call, and exactly this one. */
static void
check_said(const char *line)
{
	CHECK_STR(said, line);
	CHECK_EQ(times, 1);
	said[0] = '\0';
	times = 0;
}

/* ---- the sentence --------------------------------------------------------- */

TEST(sentence_names_call_field_value_and_what_is_allowed)
{
	start_listening();
	CHECK_EQ(weiri_invalid(&(struct weiri_invalid){
		     .call = "weir_buffer_pool_create",
		     .field = "tier[].bytes",
		     .index = 2,
		     .value = 3000,
		     .allowed = "%u .. %u, a multiple of %u",
		     .bound = {64, 1048576, 64},
		 }),
	    -EINVAL);
	check_said("weir_buffer_pool_create: tier[2].bytes is 3000; allowed: "
		   "64 .. 1048576, a multiple of 64");
	CHECK_EQ(weiri_invalid(&(struct weiri_invalid){.call = "weir_x",
		     .field = "flags",
		     .value = 0x12,
		     .bits = true,
		     .allowed = "100 %"}),
	    -EINVAL);
	check_said("weir_x: flags is 0x12; allowed: 100 %");
}

TEST(sentence_that_is_too_long_is_cut)
{
	char field[600];

	start_listening();
	memset(field, 'f', sizeof(field));
	field[sizeof(field) - 1] = '\0';
	CHECK_EQ(weiri_invalid(&(struct weiri_invalid){
		     .call = "weir_x", .field = field, .allowed = "0"}),
	    -EINVAL);
	CHECK_EQ(strlen(said), WEIRI_INVALID_BYTES - 1);
}

TEST(refusal_before_the_start_goes_to_standard_error_and_starts_nothing)
{
	EXPECT_ABORT("weir: error: weir_buffer_pool_create: flags is 0x80; "
		     "allowed: flags of enum weir_buffer_flags\n",
	    {
		    struct weir_buffer_pool *pool;

		    CHECK_EQ(
			weir_buffer_pool_create("net",
			    &(struct weir_buffer_pool_config){.flags = 0x80},
			    &pool),
			-EINVAL);
		    CHECK(!weiri_config_started());
		    CHECK_EQ(weir_init(NULL), 0);
		    abort();
	    });
}

/* ---- buffers -------------------------------------------------------------- */

static void
check_buffer(const struct weir_buffer_pool_config *config, const char *line)
{
	struct weir_buffer_pool *pool;
	char whole[512];

	CHECK_EQ(weir_buffer_pool_create("net", config, &pool), -EINVAL);
	CHECK_NULL(pool);
	snprintf(whole, sizeof(whole), "weir_buffer_pool_create: %s", line);
	check_said(whole);
}

TEST(buffer_pool_names_the_field)
{
	const struct weir_buffer_pool_config good = {
	    .tier = {{.bytes = 512, .limit = 4}, {.bytes = 2048}},
	    .tier_count = 2,
	};
	struct weir_buffer_pool_config c;

	start_listening();
	c = good, c.tier_count = 17;
	check_buffer(
	    &c, "tier_count is 17; allowed: 1 .. 16, or 0 with no tier set");
	c = good, c.tier_count = 0;
	check_buffer(
	    &c, "tier_count is 0; allowed: 1 .. 16, or 0 with no tier set");
	c = good, c.tier_count = 3;
	check_buffer(
	    &c, "tier[2].bytes is 0; allowed: 2049 .. 2097152, ascending");
	c = good, c.tier[0].bytes = (2 << 20) + 1;
	check_buffer(
	    &c, "tier[0].bytes is 2097153; allowed: 1 .. 2097152, ascending");
	c = good, c.tier[0].reserve = 7;
	check_buffer(
	    &c, "tier[0].reserve is 7; allowed: at most the tier's limit, 4");
	c = good, c.tier[0].prealloc = 5;
	check_buffer(
	    &c, "tier[0].prealloc is 5; allowed: at most the tier's limit, 4");
	c = good, c.limit_bytes = 4096, c.tier[0].prealloc = 4,
	c.tier[1].prealloc = 2;
	check_buffer(&c, "tier[1].prealloc is 2; allowed: at most 1, with "
			 "what limit_bytes, 4096, leaves");
	c = good, c.limit_bytes = 511;
	check_buffer(&c, "limit_bytes is 511; allowed: 0 for none, at least "
			 "512, one buffer of the smallest tier, or "
			 "WEIR_LIMIT_NOTHING");
	c = good, c.flags = 6;
	check_buffer(
	    &c, "flags is 0x6; allowed: flags of enum weir_buffer_flags");
	c = good, c.reserved[3] = 9;
	check_buffer(&c, "reserved[3] is 9; allowed: 0");
}

/* ---- regions --------------------------------------------------------------- */

static void
check_region(const struct weir_region_config *config, const char *line)
{
	struct weir_region *region;
	char whole[512];

	CHECK_EQ(weir_region_create(NULL, config, &region), -EINVAL);
	CHECK_NULL(region);
	snprintf(whole, sizeof(whole), "weir_region_create: %s", line);
	check_said(whole);
}

static void
note_soft(struct weir_region *region, uint64_t bytes, void *context)
{
	(void)region;
	(void)bytes;
	(void)context;
}

TEST(region_names_the_field)
{
	start_listening();
	check_region(&(struct weir_region_config){.first_bytes = 65537},
	    "first_bytes is 65537; allowed: 0 .. 65536");
	check_region(&(struct weir_region_config){.block_bytes_max = 2 << 20},
	    "block_bytes_max is 2097152; allowed: 0 for the default, or a "
	    "power of two, 1024 .. 1048576");
	check_region(&(struct weir_region_config){.block_bytes_max = 5000},
	    "block_bytes_max is 5000; allowed: 0 for the default, or a power "
	    "of two, 1024 .. 1048576");
	check_region(
	    &(struct weir_region_config){
		.soft_bytes = 4096, .limit_bytes = 4096, .soft = note_soft},
	    "soft_bytes is 4096; allowed: below limit_bytes, 4096");
	check_region(&(struct weir_region_config){.first_bytes = 4096,
			 .block_bytes_max = 2048},
	    "first_bytes is 4096; allowed: at most block_bytes_max, 2048");
	check_region(&(struct weir_region_config){.limit_bytes = 100},
	    "limit_bytes is 100; allowed: 0 for none, or at least 512");
	check_region(
	    &(struct weir_region_config){.flags = 1}, "flags is 1; allowed: 0");
	check_region(&(struct weir_region_config){.reserved = {0, 0, 3}},
	    "reserved[2] is 3; allowed: 0");

	struct weir_region *region;

	CHECK_EQ(
	    weir_region_create(NULL,
		&(struct weir_region_config){.large_bytes = 1 << 20}, &region),
	    -EINVAL);
	CHECK_CONTAINS(said, "weir_region_create: large_bytes is 1048576; "
			     "allowed: 0 .. ");
}

/* ---- the library ------------------------------------------------------------ */

static void
check_init(struct weir_config config, const char *line)
{
	char whole[512];

	config.message = listen_to;
	config.message_context = said;
	CHECK_EQ(weir_init(&config), -EINVAL);
	CHECK(!weiri_config_started());
	snprintf(whole, sizeof(whole), "weir_init: %s", line);
	check_said(whole);
}

static void *
take_nothing(void *context, size_t bytes, size_t align)
{
	(void)context;
	(void)bytes;
	(void)align;
	return NULL;
}

TEST(init_names_the_field_to_the_hook_it_was_given)
{
	char *const page = (char *)(uintptr_t)0x10000;

	check_init((struct weir_config){.flags = 1u << 9},
	    "flags is 0x200; allowed: flags of enum weir_config_flags");
	check_init((struct weir_config){.limit_bytes = 100, .soft_bytes = 101},
	    "soft_bytes is 101; allowed: at most limit_bytes, 100, or "
	    "UINT64_MAX for none");
	check_init((struct weir_config){.reserved = {0, 5}},
	    "reserved[1] is 5; allowed: 0");
	check_init((struct weir_config){.source = {.flags = 1u << 7}},
	    "source.flags is 0x80; allowed: flags of enum weir_source_flags");
	check_init((struct weir_config){.source = {.reserved = {6}}},
	    "source.reserved[0] is 6; allowed: 0");
	check_init(
	    (struct weir_config){.source = {.base = page, .bytes = 4096}},
	    "source.kind is 0; allowed: WEIR_SOURCE_RANGE (3), as base or "
	    "bytes is set");
	check_init((struct weir_config){.source = {.take = take_nothing}},
	    "source.kind is 0; allowed: WEIR_SOURCE_CUSTOM (4), as take is "
	    "set");
	check_init((struct weir_config){.source = {.kind = WEIR_SOURCE_CUSTOM}},
	    "source.take is 0; allowed: a function, as kind is "
	    "WEIR_SOURCE_CUSTOM");
	check_init((struct weir_config){.source = {.kind = WEIR_SOURCE_RANGE,
					    .base = page + 1,
					    .bytes = 4096}},
	    "source.base is 0x10001; allowed: an address that is a multiple "
	    "of 4096");
	check_init((struct weir_config){.source = {.kind = WEIR_SOURCE_RANGE,
					    .base = page,
					    .bytes = 5000}},
	    "source.bytes is 5000; allowed: 4096 .. 18446744073709481984, a "
	    "multiple of 4096");
	/* None of them took the choice away. */
	start_listening();
	CHECK_EQ(weir_set_limit(10, 11), -EINVAL);
	check_said("weir_set_limit: soft_bytes is 11; allowed: at most "
		   "limit_bytes, 10, or UINT64_MAX for none");
}
