/* SPDX-License-Identifier: MIT */
/*
 * test_pools_odd.c - calls that come seldom: a handle shown to the wrong cache, a
 * slice with no buffer behind it, an account above which there is none, sizes that
 * wrap, a system whose pages are too large.
 */
#include "test.h"

#include <weir/broadcast.h>
#include <weir/chain.h>
#include <weir/weir.h>

#include "os/os.h"
#include "pages/pages.h"
#include "pages/supply.h"
#include "pools/buffer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static unsigned messages;
static char said[512];

static void
note_message(enum weir_message_level level, const char *line, void *context)
{
	(void)level;
	(void)context;
	messages++;
	strncpy(said, line, sizeof(said) - 1);
}

static void
start(struct weir_config config)
{
	config.flags |= WEIR_IGNORE_ENVIRONMENT;
	config.message = note_message;
	CHECK_EQ(weir_init(&config), 0);
}

/* ---- handles ------------------------------------------------------------------- */

static struct weir_cache *
handles_make(const char *name)
{
	struct weir_cache *cache;

	CHECK_EQ(weir_cache_create(name,
		     &(struct weir_cache_config){
			 .object_bytes = 64, .flags = WEIR_CACHE_HANDLES},
		     &cache),
	    0);
	return cache;
}

TEST(handle_of_another_cache_resolves_to_nothing_and_is_told_once)
{
	struct weir_cache *own, *other;
	struct weir_handle handle;
	void *object, *mine;

	start((struct weir_config){0});
	own = handles_make("own");
	other = handles_make("other");
	object = weir_cache_alloc(other);
	mine = weir_cache_alloc(own);
	handle = weir_cache_handle(other, object);
	messages = 0;
	CHECK_NULL(weir_cache_resolve(own, handle));
	CHECK_EQ(messages, 1);
	CHECK_CONTAINS(said, "the handle is one of cache \"other\"");
	CHECK_NULL(weir_cache_resolve(own, handle));
	CHECK_EQ(messages, 1);
	CHECK_PTR(weir_cache_resolve(other, handle), object);
	/* Of no object any more, and of no cache. */
	weir_cache_free(other, object);
	CHECK_NULL(weir_cache_resolve(own, handle));
	CHECK_NULL(weir_cache_resolve(other, handle));
	weir_cache_destroy(other);
	CHECK_NULL(weir_cache_resolve(own, handle));
	CHECK_EQ(messages, 1);
	weir_cache_free(own, mine);
	weir_cache_destroy(own);
}

/* ---- slices ---------------------------------------------------------------------- */

static void
nothing_left(struct weir_buffer *buffer, void *context)
{
	(void)buffer;
	(void)context;
}

TEST(slice_that_cannot_be_copied_stays_as_it_is)
{
	static unsigned char text[100];
	struct weir_buffer_pool *pool;
	struct weir_compact_rule rule = {.share = 2};
	struct weir_slice none = {0}, whole;
	struct weir_buffer outside;

	CHECK_EQ(weir_buffer_pool_create("few", NULL, &pool), 0);
	rule.pool = pool;
	CHECK_EQ(weir_slice_compact(&none, &rule), 0);
	weir_buffer_init_external(
	    &outside, text, sizeof(text), nothing_left, NULL);
	whole = weir_slice_make(&outside, 0, 1);
	CHECK_EQ(weir_slice_compact(&whole, &rule), 0);
	CHECK_PTR(whole.buffer, &outside);
	weir_slice_release(&whole);
	/* Too much of it is in use, and it is not old enough. */
	rule.share = 8;
	whole = weir_slice_make(weir_buffer_acquire(pool, 12000), 0, 5000);
	CHECK_EQ(weir_slice_compact(&whole, &rule), 0);
	rule.older_ns = UINT64_MAX;
	CHECK_EQ(weir_slice_compact(&whole, &rule), 0);
	weir_slice_release(&whole);
	weir_buffer_pool_destroy(pool);
}

/* ---- accounts ------------------------------------------------------------------- */

TEST(account_that_pauses_above_its_limit_pauses_at_it)
{
	struct weir_account account;
	struct weir_account_figures figures = {.size = sizeof(figures)};

	CHECK_EQ(weir_account_init(&account,
		     &(struct weir_account_config){
			 .limit_bytes = 1000, .pause_bytes = 900}),
	    0);
	weir_account_uncharge(NULL, 10);
	weir_account_uncharge(&account, 0);
	weir_account_set_limit(&account, 950);
	CHECK_EQ(account.pause, 900);
	weir_account_set_limit(&account, 500);
	CHECK_EQ(account.pause, 500);
	CHECK_EQ(weir_account_stats(&account, &figures), 0);
	CHECK_EQ(figures.used_bytes, 0);
	weir_account_finish(&account);
}

/* ---- broadcasts ----------------------------------------------------------------- */

static uint32_t
take_none(void *user, struct weir_slice slice, void *context)
{
	(void)user;
	(void)slice;
	(void)context;
	return 0;
}

/* Nobody is told of who is given up when nobody asked. */
TEST(broadcast_gives_up_who_is_slow_without_a_word)
{
	struct weir_buffer_pool *pool;
	struct weir_broadcast *broadcast;
	uint32_t number;

	CHECK_EQ(weir_buffer_pool_create("few", NULL, &pool), 0);
	CHECK_EQ(weir_broadcast_create(
		     &(struct weir_broadcast_config){.send = take_none,
			 .policy = WEIR_SLOW_CLOSE,
			 .limit_messages = 2},
		     &broadcast),
	    0);
	CHECK_EQ(weir_broadcast_join(broadcast, NULL, &number), 0);
	for (unsigned i = 0; i < 6; i++)
		CHECK_EQ(weir_broadcast_publish(broadcast,
			     weir_slice_make(
				 weir_buffer_acquire(pool, 100), 0, 100)),
		    0);
	CHECK(weir_broadcast_check(broadcast));
	EXPECT_ABORT("weir: FAULT ", weir_broadcast_leave(broadcast, 12345));
	weir_broadcast_destroy(broadcast);
	weir_buffer_pool_destroy(pool);
}

/* ---- regions --------------------------------------------------------------------- */

__attribute__((noinline)) static struct weir_region *
make_small(void)
{
	struct weir_region *region;

	CHECK_EQ(weir_region_create(NULL, NULL, &region), 0);
	return region;
}

__attribute__((noinline)) static struct weir_region *
make_large(void)
{
	struct weir_region *region;

	CHECK_EQ(weir_region_create(NULL, NULL, &region), 0);
	CHECK_NOT_NULL(weir_region_alloc(region, 1 << 20));
	return region;
}

TEST(places_of_regions_come_with_the_most_bytes_first)
{
	struct weir_region *region[4] = {
	    make_small(), make_large(), make_small(), make_large()};
	struct weir_region_site site[3];
	size_t found;

	CHECK_EQ(weir_region_top_sites(site, 1, &found), 0);
	CHECK_GE(found, 2);
	CHECK_GT(site[0].bytes, 1 << 20);
	CHECK_EQ(weir_region_top_sites(site, 3, &found), 0);
	CHECK_GE(found, 2);
	for (size_t i = 1; i < found; i++)
		CHECK_LE(site[i].bytes, site[i - 1].bytes);
	for (size_t i = 0; i < 4; i++)
		weir_region_destroy(region[i]);
}

TEST(regions_refuse_sizes_that_wrap)
{
	static char buffer[4096];
	struct weir_region_vm *vm;
	struct weir_region *region;

	CHECK_EQ(weir_region_create_in(
		     NULL, NULL, buffer, SIZE_MAX / 2 + 1, &region),
	    -EINVAL);
	CHECK_EQ(
	    weir_region_create_in(NULL, NULL, buffer, 16, &region), -EINVAL);
	CHECK_NULL(region);
	CHECK_EQ(weir_region_vm_create("small",
		     &(struct weir_region_vm_config){
			 .reserve_bytes = 1 << 20, .limit_bytes = 1 << 16},
		     &vm),
	    0);
	CHECK_NULL(weir_region_vm_alloc(vm, SIZE_MAX));
	CHECK_NULL(weir_region_vm_alloc(vm, SIZE_MAX - 64));
	CHECK_NULL(weir_region_vm_alloc_aligned(vm, 1, (size_t)1 << 40));
	CHECK_NULL(weir_region_vm_alloc(vm, (1 << 16) + 1));
	CHECK_NOT_NULL(weir_region_vm_alloc(vm, 1 << 15));
	CHECK(weir_region_vm_check(vm));
	weir_region_vm_destroy(vm);
}

/* ---- the system ------------------------------------------------------------------ */

TEST(addresses_beyond_the_page_map_have_no_entries)
{
	const struct weiri_map_gap gap = {0, UINTPTR_MAX};
	const size_t page = weiri_os_page_bytes();

	CHECK_EQ(
	    weiri_map_add((const char *)(UINT64_C(1) << 50), 2 << 20, &gap),
	    -ERANGE);
	CHECK_EQ(weiri_map_add(
		     (const char *)(UINTPTR_MAX - page + 1), 2 << 20, &gap),
	    -ERANGE);
}

TEST(system_of_pages_above_64_kib_is_told_that_there_is_no_memory)
{
	struct weiri_span span = {.kind = WEIRI_SPAN_OTHER};

	weiri_os_set_page_bytes((size_t)128 << 10);
	start((struct weir_config){0});
	CHECK_EQ(weiri_span_alloc(&span, 100, WEIRI_PAGE), -ENOMEM);
	CHECK_GT(messages, 0);
	CHECK_CONTAINS(said, "system pages above 64 KiB");
}

TEST(guard_that_finds_no_addresses_at_the_start_is_off)
{
	NOT_UNDER_GUARD("it is set here");
	if (test_under_valgrind())
		SKIP("valgrind takes a minute over the guard's places");

	int ends[2], saved = dup(STDERR_FILENO);
	char got[256] = "";
	void *object;

	CHECK_EQ(pipe(ends), 0);
	CHECK_GE(dup2(ends[1], STDERR_FILENO), 0);
	start((struct weir_config){.guard = "full"});
	weiri_os_fail_nth(1, true);
	CHECK_NULL(weir_alloc(100));
	weiri_os_fail_nth(0, false);
	CHECK_GE(dup2(saved, STDERR_FILENO), 0);
	CHECK_GT(read(ends[0], got, sizeof(got) - 1), 0);
	CHECK_CONTAINS(got, "no address space for the guard: off");
	object = weir_alloc(100);
	CHECK_NOT_NULL(object);
	weir_free(object);
}

/* The leak of least size, in the singular. */
TEST(leak_of_one_byte_is_told_at_the_end)
{
	struct weir_cache *cache;
	void *object;

	start((struct weir_config){.flags = WEIR_REPORT_LEAKS});
	CHECK_EQ(weir_cache_create("byte",
		     &(struct weir_cache_config){
			 .object_bytes = 1, .object_align = 1},
		     &cache),
	    0);
	object = weir_cache_alloc(cache);
	CHECK_NOT_NULL(object);
	messages = 0;
	CHECK_EQ(weir_shutdown(), 1);
	CHECK_GT(messages, 0);
	weir_cache_free(cache, object);
	weir_cache_destroy(cache);
}
