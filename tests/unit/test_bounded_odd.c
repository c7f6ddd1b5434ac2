/* SPDX-License-Identifier: MIT */
/*
 * test_bounded_odd.c - bounded pools in storage that is not what it should be, and
 * of sizes where the layout changes.
 */
#include "test.h"

#include "pools/bounded.h"

#include <weir/bounded.h>
#include <weir/weir.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static struct weir_bounded *
made(const char *name, const struct weir_bounded_config *config)
{
	size_t bytes = weir_bounded_storage_bytes(config);
	struct weir_bounded *pool;
	void *storage;

	CHECK_GT(bytes, 0);
	CHECK_EQ(posix_memalign(&storage, 4096, bytes), 0);
	CHECK_EQ(weir_bounded_init(storage, bytes, name, config, &pool), 0);
	return pool;
}

/* Each border of the layout: bits of a word, words of a line, alignments. */
TEST(bounded_is_whole_at_every_border_of_its_layout)
{
	static const size_t counts[] = {
	    1, 7, 8, 9, 127, 128, 129, 255, 256, 511, 512, 4096, 4097, 9000};
	static const size_t bytes[] = {1, 8, 16, 24, 100};
	static const size_t aligns[] = {0, 8, 128};

	for (size_t c = 0; c < sizeof(counts) / sizeof(counts[0]); c++)
		for (size_t i = 0; i<5 * 3 * 2; i += counts[c]> 600 ? 7 : 1) {
			struct weir_bounded_config config = {
			    .object_bytes = bytes[i % 5],
			    .object_align = aligns[i / 5 % 3],
			    .object_count = counts[c],
			    .flags = i / 15 != 0 ? WEIR_BOUNDED_COMPACT : 0,
			};
			struct weir_bounded *pool = made("border", &config);
			size_t count = 0;
			char *object, *last = NULL;

			while ((object = weir_bounded_alloc(pool)) != NULL) {
				memset(object, 1, config.object_bytes);
				last = object;
				count++;
			}
			CHECK_EQ(count, counts[c]);
			CHECK(weir_bounded_check(pool));
			CHECK_LE(
			    (size_t)(last - (char *)pool) + config.object_bytes,
			    weir_bounded_storage_bytes(&config));
			free(pool);
		}
}

TEST(bounded_storage_that_was_written_to_is_no_pool)
{
	const struct weir_bounded_config config = {
	    .object_bytes = 48, .object_align = 128, .object_count = 100};
	size_t bytes = weir_bounded_storage_bytes(&config);
	struct weir_bounded *pool = made(
	    "a name that is longer than the forty-seven bytes that are kept",
	    &config);
	struct weir_bounded *again;
	char *moved;

	CHECK_EQ(strlen(pool->name), sizeof(pool->name) - 1);
	CHECK_EQ(weir_bounded_attach(pool, bytes, &again), 0);
	pool->name[sizeof(pool->name) - 1] = 'x';
	CHECK_EQ(weir_bounded_attach(pool, bytes, &again), -EPROTO);
	CHECK(!weir_bounded_check(pool));
	pool->name[sizeof(pool->name) - 1] = '\0';
	pool->object_align = 0;
	CHECK_EQ(weir_bounded_attach(pool, bytes, &again), -EPROTO);
	pool->object_align = 128;
	CHECK_EQ(weir_bounded_attach(pool, bytes, &again), 0);
	/* A copy at an address that its objects cannot have. */
	CHECK_EQ(posix_memalign((void **)&moved, 4096, bytes + 64), 0);
	memcpy(moved + 64, pool, bytes);
	CHECK_EQ(weir_bounded_attach(moved + 64, bytes, &again), -EINVAL);
	CHECK_NULL(again);
	free(moved);
	free(pool);
}

TEST(bounded_check_sees_what_was_never_there_taken)
{
	const struct weir_bounded_config config = {.object_bytes = 16,
	    .object_count = 60,
	    .flags = WEIR_BOUNDED_COMPACT};
	struct weir_bounded *pool = made("bits", &config);
	struct bounded_word *word = bounded_word(pool, 0);

	CHECK(weir_bounded_check(pool));
	word->touched = (bounded_bits)1 << 60; /* no such object */
	CHECK(!weir_bounded_check(pool));
	word->touched = 0;
	CHECK(weir_bounded_check(pool));
	weir_bounded_finish(pool);
	CHECK(!weir_bounded_check(pool));
	free(pool);
}

/* In memory that is shared another process may have ended it. */
TEST(bounded_pool_that_ended_is_shown_empty)
{
	const struct weir_bounded_config config = {
	    .object_bytes = 16, .object_count = 60};
	struct weir_bounded *pool = made("shared", &config);
	struct weir_bounded_view view;
	char text[4096];

	weir_bounded_show(pool, &view);
	CHECK_NOT_NULL(weir_bounded_alloc(pool));
	CHECK_GT(weir_stats_text(text, sizeof(text)), 0);
	CHECK_CONTAINS(text, "shared");
	pool->magic = 0;
	CHECK_GT(weir_stats_text(text, sizeof(text)), 0);
	CHECK_CONTAINS(text, "1 pool unused");
	weir_bounded_hide(&view);
	free(pool);
}
