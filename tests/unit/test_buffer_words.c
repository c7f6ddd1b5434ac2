/* SPDX-License-Identifier: MIT */
/*
 * test_buffer_words.c - buffers that are held, in words; pools without a name, and
 * pools that are none.
 */
#include "buffer_common.h"

#include <weir/buffer_limit.h>
#include <weir/buffer_watch.h>
#include <weir/region_fixed.h>
#include <weir/weir.h>

#include <stdlib.h>
#include <string.h>

TEST(buffers_held_are_told_with_what_is_known_of_each)
{
	struct weir_buffer_pool *pool = pool_make(NULL);
	struct weir_account account;
	struct weir_buffer *plain, *paid;
	char text[4096];

	CHECK_EQ(weir_account_init(
		     &account, &(struct weir_account_config){.name = "carol"}),
	    0);
	paid = weir_buffer_acquire_for(
	    pool, &(struct weir_buffer_want){.bytes = 500,
		      .account = &account,
		      .site = __builtin_return_address(0)});
	CHECK_NOT_NULL(paid);
	CHECK_GT(weir_buffer_held_text(NULL, text, sizeof(text)), 0);
	CHECK_CONTAINS(text, ": 1 reference, state app, ");
	CHECK_CONTAINS(text, ", carol 0x");
	CHECK_CONTAINS(text, ", taken at ");
	CHECK_CONTAINS(text, "1 buffer held, 512 B, the oldest ");
	CHECK_GT(weir_buffer_held_json(NULL, text, sizeof(text)), 0);
	CHECK_CONTAINS(text, "\"account\":\"carol\"");
	CHECK_CONTAINS(text, "\"site\":\"");
	weir_buffer_release(paid);
	weir_account_finish(&account);
	plain = weir_buffer_acquire(pool, 500);
	weir_buffer_retain(plain);
	CHECK_GT(weir_buffer_held_text(NULL, text, sizeof(text)), 0);
	CHECK_CONTAINS(text, ": 2 references, state app, ");
	CHECK_GT(weir_buffer_held_json(NULL, text, sizeof(text)), 0);
	CHECK_CONTAINS(text, "\"account\":null");
	weir_buffer_release(plain);
	weir_buffer_release(plain);
	pool_end(pool);
}

TEST(pool_without_a_name_is_unnamed_and_one_that_is_none_is_told)
{
	static _Alignas(64) uint64_t none[4096]; /* as a pool lies */
	struct weir_buffer_pool *pool;
	struct weir_buffer *buffer;

	CHECK_EQ(weir_buffer_pool_create(NULL,
		     &(struct weir_buffer_pool_config){.limit_bytes = 1 << 24},
		     &pool),
	    0);
	buffer = weir_buffer_acquire(pool, 100);
	CHECK_NOT_NULL(buffer);
	EXPECT_ABORT("buffer \"unnamed", weir_buffer_pool_destroy(pool));
	weir_buffer_release(buffer);
	weir_buffer_pool_destroy(pool);
	EXPECT_ABORT("it is used, but was destroyed",
	    (void)!weir_buffer_acquire(pool, 100));
	EXPECT_ABORT(
	    "is no live pool", (void)!weir_buffer_acquire((void *)none, 100));
}

/* ---- regions in storage of a fixed size ------------------------------------------ */

TEST(fixed_region_takes_no_storage_and_no_mark_that_are_not_its_own)
{
	static _Alignas(16) char storage[2][1024];
	struct weir_region *region, *other;
	struct weir_region_fixed_point mark, wrong;

	CHECK_NULL(
	    weir_region_fixed_init(storage[0], WEIR_REGION_FIXED_MIN - 1));
	CHECK_NULL(weir_region_fixed_init(storage[0], SIZE_MAX / 2 + 1));
	region = weir_region_fixed_init(storage[0], sizeof(storage[0]));
	other = weir_region_fixed_init(storage[1], sizeof(storage[1]));
	CHECK_NOT_NULL(region);
	CHECK_NOT_NULL(other);
	CHECK_NOT_NULL(weir_region_alloc(region, 100));
	mark = weir_region_fixed_mark(region);
	CHECK_NOT_NULL(weir_region_alloc(region, 100));
	CHECK(!weir_region_fixed_rewind(other, mark));
	wrong = mark;
	wrong.next = storage[0];
	CHECK(!weir_region_fixed_rewind(region, wrong));
	wrong.next = storage[0] + sizeof(storage[0]);
	CHECK(!weir_region_fixed_rewind(region, wrong));
	CHECK(weir_region_fixed_rewind(region, mark));
	CHECK_PTR(region->next, mark.next);
	weir_region_fixed_reset(region);
}
