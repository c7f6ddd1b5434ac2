/* SPDX-License-Identifier: MIT */
/*
 * test_guard_state.c - constructed state of objects under guard, looked at when
 * they come back: who is asked, when, and what becomes of an object that is not
 * as it was.
 */
#include "support/test.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <weir/weir.h>

struct item {
	unsigned long magic;
	void *self;
	char scratch[100];
};

static struct {
	size_t inits, finis, asked;
	bool answer;
} seen;

static void
item_init(void *object, void *context)
{
	struct item *item = object;

	(void)context;
	seen.inits++;
	item->magic = 0x1234;
	item->self = item;
}

static void
item_fini(void *object, void *context)
{
	(void)object;
	(void)context;
	seen.finis++;
}

static bool
item_verify(const void *object, void *context)
{
	CHECK_PTR(context, &seen);
	CHECK_NOT_NULL(object);
	seen.asked++;
	return seen.answer;
}

static const struct weir_cache_config item_config = {
    .object_bytes = sizeof(struct item),
    .flags = WEIR_CACHE_VERIFY,
    .init = item_init,
    .fini = item_fini,
    .context = &seen,
};

static struct weir_cache *
make(const struct weir_cache_config *config)
{
	struct weir_cache *cache;

	CHECK_EQ(weir_cache_create("item", config, &cache), 0);
	return cache;
}

static void
guard(enum weir_guard_mode mode, uint32_t rate)
{
	struct weir_guard_config config = {.mode = mode, .sample_rate = rate};

	CHECK_EQ(weir_guard_set(&config), 0);
}

static struct {
	size_t count;
	enum weir_fault_class last;
	const void *object, *address;
	char json[4096];
} told;

static void
hear(const struct weir_fault *fault, void *context)
{
	(void)context;
	told.count++;
	told.last = fault->fault_class;
	told.object = fault->object;
	told.address = fault->address;
	snprintf(told.json, sizeof(told.json), "%s", fault->json);
}

/* Takes a first step and ends what it took. */
static void
use(struct weir_cache *cache)
{
	struct item *item = weir_cache_alloc(cache);

	CHECK_NOT_NULL(item);
	CHECK_EQ(item->magic, 0x1234);
	CHECK_PTR(item->self, item);
	memset(item->scratch, 7, sizeof(item->scratch));
	weir_cache_free(cache, item);
}

TEST(the_first_byte_that_differs_is_told)
{
	const size_t at = offsetof(struct item, self) + 2;
	struct weir_cache *cache;
	struct item *item;
	char line[80];

	guard(WEIR_GUARD_FULL, 0);
	cache = make(&item_config);
	use(cache);
	item = weir_cache_alloc(cache);
	snprintf(line, sizeof(line),
	    "FAULT broken-state: cache \"item\": byte %zu of the object", at);
	EXPECT_ABORT(line, {
		((unsigned char *)item)[at] ^= 1;
		weir_cache_free(cache, item);
	});
	/* And the object's stacks, as of any other fault. */
	EXPECT_ABORT("taken by thread", {
		item->magic = 0;
		weir_cache_free(cache, item);
	});
	weir_cache_free(cache, item);
	weir_cache_destroy(cache);
}

TEST(many_at_a_time_are_looked_at_as_one_is)
{
	struct weir_cache *cache;
	struct item *items[4];

	guard(WEIR_GUARD_FULL, 0);
	cache = make(&item_config);
	CHECK_EQ(weir_cache_alloc_bulk(cache, 4, (void **)items), 4);
	EXPECT_ABORT("FAULT broken-state: cache \"item\": byte 0", {
		items[2]->magic = 1;
		weir_cache_free_bulk(cache, 4, (void **)items);
	});
	weir_cache_free_bulk(cache, 4, (void **)items);
	weir_cache_destroy(cache);
}

TEST(where_the_program_goes_on_fini_does_not_run_on_it)
{
	struct weir_cache *cache;
	struct item *item;

	guard(WEIR_GUARD_SAMPLE, 1);
	weir_guard_set_hook(hear, NULL);
	cache = make(&item_config);
	item = weir_cache_alloc(cache);
	CHECK_NOT_NULL(item);
	item->self = NULL;

	size_t finis = seen.finis;

	weir_cache_free(cache, item);
	CHECK_EQ(told.count, 1);
	CHECK_EQ(told.last, WEIR_FAULT_BROKEN_STATE);
	CHECK_PTR(told.object, item);
	CHECK_PTR(told.address, &item->self);
	CHECK_CONTAINS(told.json, "\"class\":\"broken-state\"");
	CHECK_CONTAINS(told.json, "\"taken\":{\"thread\":");
	CHECK_CONTAINS(told.json, "\"ended\":{\"how\":\"free\"");
	CHECK_EQ(seen.finis, finis);
	/* It ended all the same, and the next one is as good as new. */
	use(cache);
	CHECK_EQ(told.count, 1);
	CHECK(weir_cache_check(cache));
	weir_cache_destroy(cache);
	/* All but the one that was left as it was. */
	CHECK_EQ(seen.finis + 1, seen.inits);
}

/* Made in mode off: threads may have had magazines since. */
TEST(at_level_batch_objects_are_looked_at_whenever_the_mode_comes)
{
	struct weir_cache_config config = item_config;
	struct weir_cache *cache;
	struct item *item, *other;

	guard(WEIR_GUARD_OFF, 0);
	config.check = WEIR_CHECK_BATCH;
	cache = make(&config);
	item = weir_cache_alloc(cache);
	CHECK_NOT_NULL(item);
	weir_cache_free(cache, item);
	guard(WEIR_GUARD_FULL, 0);
	weir_thread_poll();
	item = weir_cache_alloc(cache);
	other = weir_cache_alloc(cache);
	CHECK_NOT_NULL(item);
	CHECK_NOT_NULL(other);
	EXPECT_ABORT(
	    "FAULT broken-state: cache \"item\": byte 0 of the object", {
		    item->magic++;
		    weir_cache_free(cache, item);
	    });
	weir_cache_free(cache, other);
	weir_cache_free(cache, item);
	weir_cache_destroy(cache);
}

TEST(verify_is_asked_once_for_each_object_under_guard)
{
	struct weir_cache_config config = item_config;
	struct weir_cache *cache;
	struct item *item;

	config.flags = 0;
	config.verify = item_verify;
	seen.answer = true;
	guard(WEIR_GUARD_OFF, 0);
	cache = make(&config);
	use(cache);
	CHECK_EQ(seen.asked, 0);
	weir_cache_destroy(cache);

	guard(WEIR_GUARD_FULL, 0);
	cache = make(&config);
	for (size_t i = 0; i < 10; i++)
		use(cache);
	CHECK_EQ(seen.asked, 10);
	item = weir_cache_alloc(cache);
	/* What verify allows is no matter of bytes. */
	item->magic++;
	weir_cache_free(cache, item);
	item = weir_cache_alloc(cache);
	EXPECT_ABORT("FAULT broken-state: cache \"item\": object 0x", {
		seen.answer = false;
		weir_cache_free(cache, item);
	});
	weir_cache_free(cache, item);
	weir_cache_destroy(cache);
}

TEST(without_init_there_is_nothing_to_look_at)
{
	struct weir_cache_config config = {
	    .object_bytes = 64, .flags = WEIR_CACHE_VERIFY};
	struct weir_cache *cache;

	CHECK_EQ(weir_cache_create("item", &config, &cache), -EINVAL);
	CHECK_NULL(cache);
	config.flags = 0;
	config.verify = item_verify;
	CHECK_EQ(weir_cache_create("item", &config, &cache), -EINVAL);
	CHECK_NULL(cache);
	config.init = item_init;
	CHECK_EQ(weir_cache_create("item", &config, &cache), 0);
	weir_cache_destroy(cache);
}
