/* SPDX-License-Identifier: MIT */
/*
 * The n-th request to the system fails, for every n, once and from then on.
 *
 * Each scenario runs in a process that has never used the library, so that its
 * very first start is among the failing sites.  It must live through the
 * failure, give everything back, and then run to its end with the system well
 * again.  The sweep ends with the first n that the scenario does not reach.
 */
#include "oom/sweep.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- scenarios -------------------------------------------------------- */

static bool
scenario_cache(void)
{
	enum { COUNT = 3000 };
	static void *objects[COUNT];
	struct weir_cache *cache;
	bool whole = true;
	int error = weir_cache_create("oom",
	    &(struct weir_cache_config){.object_bytes = 300, .prealloc = 700},
	    &cache);

	if (error != 0) {
		CHECK_EQ(error, -ENOMEM);
		CHECK_NULL(cache);
		return false;
	}
	for (size_t i = 0; i < COUNT; i++) {
		objects[i] = weir_cache_alloc(cache);
		if (objects[i] == NULL)
			whole = false;
		else
			memset(objects[i], 0x5a, 300);
	}
	CHECK(weir_cache_check(cache));
	for (size_t i = 0; i < COUNT; i++)
		weir_cache_free(cache, objects[i]);
	CHECK(weir_cache_check(cache));
	weir_cache_destroy(cache);
	return whole;
}

/* What a free in the sweep has to tell somebody; allocates once more. */
static void
limits_told(struct weir_cache *cache, void *context)
{
	unsigned *calls = context;

	(*calls)++;
	weir_cache_free(cache, weir_cache_alloc(cache));
}

static struct weir_cache *
limits_cache(
    struct weir_quota *quota, enum weir_limit_policy policy, unsigned *calls)
{
	bool notify = policy == WEIR_LIMIT_NOTIFY;
	struct weir_cache *cache;
	int error = weir_cache_create("oom",
	    &(struct weir_cache_config){.object_bytes = 500,
		.flags = WEIR_CACHE_HANDLES,
		.limit = 600,
		.prealloc = notify ? 3 : 0,
		.quota = quota,
		.policy = policy,
		.timeout_ns = policy == WEIR_LIMIT_WAIT,
		.notify = notify ? limits_told : NULL,
		.notify_context = notify ? calls : NULL},
	    &cache);

	if (error != 0) {
		CHECK_EQ(error, -ENOMEM);
		CHECK_NULL(cache);
	}
	return cache;
}

/* Many a call and one a call, up to the limit; true if that was reached. */
static bool
limits_use(struct weir_cache *cache)
{
	enum { COUNT = 650 };
	static void *objects[COUNT];
	size_t got = weir_cache_alloc_bulk(cache, 300, objects), tries = 0;
	bool whole;

	while (tries++ < 400 && got < COUNT)
		if ((objects[got] = weir_cache_alloc(cache)) != NULL)
			got++;
	whole = got == 600;
	for (size_t i = 0; i < got; i++) {
		memset(objects[i], 0x5a, 500);
		CHECK_PTR(weir_cache_resolve(
			      cache, weir_cache_handle(cache, objects[i])),
		    objects[i]);
	}
	weir_cache_free_bulk(cache, got / 2, objects);
	(void)weir_maintain(UINT64_MAX);
	for (size_t i = got / 2; i < got; i++)
		weir_cache_free(cache, objects[i]);
	(void)weir_cache_trim(cache);
	CHECK(weir_cache_check(cache));
	return whole;
}

/* Handles, limits of all three kinds, many objects a call, a shared budget. */
static bool
scenario_limits(void)
{
	struct weir_quota_figures figures = {.size = sizeof(figures)};
	struct weir_quota *quota;
	unsigned calls = 0;
	bool whole = true;
	int error = weir_quota_create("oom", 1 << 20, &quota);

	if (error != 0) {
		CHECK_EQ(error, -ENOMEM);
		CHECK_NULL(quota);
		return false;
	}
	weir_set_decay(0);
	for (int policy = WEIR_LIMIT_FAIL; policy <= WEIR_LIMIT_NOTIFY;
	     policy++) {
		struct weir_cache *cache =
		    limits_cache(quota, (enum weir_limit_policy)policy, &calls);

		whole = cache != NULL && limits_use(cache) && whole;
		weir_cache_destroy(cache);
	}
	/* Each failure is told of once there is room. */
	CHECK(!whole || calls > 0);
	CHECK_EQ(weir_quota_stats(quota, &figures), 0);
	CHECK_EQ(figures.used_bytes, 0);
	CHECK_EQ(figures.pools, 0);
	weir_quota_destroy(quota);
	return whole;
}

static bool
scenario_region(void)
{
	struct weir_region *region;
	bool whole = true;
	int error = weir_region_create(NULL, NULL, &region);

	if (error != 0) {
		CHECK_EQ(error, -ENOMEM);
		CHECK_NULL(region);
		return false;
	}
	for (int round = 0; round < 3; round++) {
		for (size_t i = 0; i < 400; i++) {
			size_t bytes = i % 40 == 39 ? 300000 : 8 + i * 7 % 900;
			char *p = weir_region_alloc(region, bytes);

			if (p == NULL)
				whole = false;
			else
				memset(p, 0x5a, bytes);
		}
		CHECK(weir_region_check(region));
		weir_region_reset(region);
	}
	weir_region_destroy(region);
	return whole;
}

static void
life_count(void *context)
{
	++*(unsigned *)context;
}

/* Objects, cleanups and savepoints, of which each may be refused; *armed counts
 * the cleanups that must have run once the region ended. */
static bool
life_fill(struct weir_region *region, unsigned *armed, unsigned *ran)
{
	struct weir_region_savepoint savepoint;
	unsigned due = *ran;
	bool whole = true;

	for (size_t i = 0; i < 12; i++) {
		char *object = weir_region_alloc(region, 200 + i * 3000);

		if (object != NULL)
			memset(object, 0x5a, 200 + i * 3000);
		whole = whole && object != NULL;
	}
	if (weir_region_cleanup_add(region, life_count, ran) != NULL)
		++*armed;
	else
		whole = false;
	if (weir_region_mark(region, &savepoint) != 0)
		return false;
	whole = weir_region_alloc(region, 100000) != NULL && whole;
	if (weir_region_cleanup_add(region, life_count, ran) != NULL) {
		++*armed;
		due++;
	} else {
		whole = false;
	}
	weir_region_rewind(region, &savepoint);
	CHECK_EQ(*ran, due);
	CHECK(weir_region_check(region));
	return whole;
}

/* A tree with budgets, in which regions and objects move and merge. */
static bool
scenario_region_life(void)
{
	struct weir_region *root, *child[3] = {NULL};
	unsigned armed = 0, ran = 0;
	bool whole = true;
	void *large;

	if (weir_region_create(NULL, NULL, &root) != 0)
		return false;
	for (size_t i = 0; i < 3; i++) {
		struct weir_region_config config = {
		    .limit_bytes = i == 1 ? 1 << 20 : 0,
		    .parent = i < 2 ? root : NULL,
		};

		whole = weir_region_create(NULL, &config, &child[i]) == 0 &&
			life_fill(child[i], &armed, &ran) && whole;
	}
	if (child[2] != NULL && child[1] != NULL) {
		large = weir_region_alloc(child[2], 200000);
		if (large == NULL ||
		    weir_region_adopt_large(child[1], child[2], large) != 0)
			whole = false;
		if (weir_region_adopt(child[1], child[2]) == 0) {
			weir_region_merge(child[1], child[2]);
			child[2] = NULL;
		} else {
			whole = false;
		}
		CHECK(weir_region_check(child[1]));
	}
	if (child[0] != NULL)
		weir_region_merge(root, child[0]);
	CHECK(weir_region_check(root));
	weir_region_destroy(root);
	weir_region_destroy(child[2]);
	CHECK_EQ(ran, armed);
	return whole;
}

/* What changes its size: objects, a writer, a vector; and a list of regions. */
static bool
scenario_region_arrays(void)
{
	struct weir_region_writer text = {0};
	struct weir_region_vec numbers = {.element_bytes = sizeof(size_t)};
	struct weir_region_site site;
	struct weir_region *region;
	char *object = NULL, *moved;
	size_t bytes = 0, found;
	bool whole = true;
	int error = weir_region_create(NULL, NULL, &region);

	if (error != 0) {
		CHECK_EQ(error, -ENOMEM);
		return false;
	}
	text.region = numbers.region = region;
	for (size_t i = 0; i < 600; i++) {
		size_t *number = weir_region_vec_push(&numbers);

		whole = number != NULL && whole;
		if (number != NULL)
			*number = i;
		moved =
		    weir_region_realloc(region, object, bytes, bytes + i * 5);
		whole = moved != NULL && whole;
		if (moved != NULL) {
			memset(moved + bytes, (int)i, i * 5);
			bytes += i * 5;
			object = moved;
		}
		if (!weir_region_writer_printf(&text, "%0*zu", 300, i)) {
			whole = false;
			weir_region_writer_abandon(&text);
		}
	}
	CHECK(weir_region_check(region));
	for (size_t i = 1; i < numbers.count; i++)
		CHECK_LT(((size_t *)numbers.data)[i - 1],
		    ((size_t *)numbers.data)[i]);
	CHECK_EQ(text.length % 300, 0);
	weir_region_shrink(region, object, bytes, bytes / 2);
	error = weir_region_top_sites(&site, 1, &found);
	CHECK(error == 0 ? found == 1 : error == -ENOMEM && found == 0);
	CHECK_GT(weir_region_text(NULL, NULL, 0), 0);
	weir_region_destroy(region);
	return whole && error == 0;
}

static bool
scenario_region_vm(void)
{
	struct weir_region_vm *region;
	bool whole = true;
	int error = weir_region_vm_create("oom",
	    &(struct weir_region_vm_config){.reserve_bytes = 1 << 30}, &region);

	if (error != 0) {
		CHECK_EQ(error, -ENOMEM);
		CHECK_NULL(region);
		return false;
	}
	for (int round = 0; round < 40; round++) {
		for (size_t i = 0; i < 30; i++) {
			size_t bytes = round == 1 ? 40000 : 1000 + i;
			char *p = weir_region_vm_alloc(region, bytes);

			if (p == NULL)
				whole = false;
			else
				memset(p, 0x5a, bytes);
		}
		CHECK(weir_region_vm_check(region));
		weir_region_vm_reset(region);
	}
	weir_region_vm_destroy(region);
	return whole;
}

static bool
scenario_buffer(void)
{
	enum { COUNT = 600 };
	static const size_t sizes[] = {10, 500, 2048, 8000, 30000, 65536};
	static struct weir_buffer *buffers[COUNT];
	struct weir_buffer_pool *pool;
	bool whole = true;
	int error = weir_buffer_pool_create(
	    "oom", &(struct weir_buffer_pool_config){0}, &pool);

	if (error != 0) {
		CHECK_EQ(error, -ENOMEM);
		CHECK_NULL(pool);
		return false;
	}
	for (size_t i = 0; i < COUNT; i++) {
		buffers[i] = weir_buffer_acquire(pool, sizes[i % 6]);
		if (buffers[i] == NULL)
			whole = false;
		else
			memset(buffers[i]->data, 0x5a, sizes[i % 6]);
	}
	for (size_t i = 0; i < COUNT; i++)
		if (buffers[i] != NULL)
			weir_buffer_release(buffers[i]);
	weir_buffer_pool_destroy(pool);
	return whole;
}

static uint32_t
buffers_take(void *user, struct weir_slice slice, void *context)
{
	(void)context;
	return user != NULL ? slice.bytes : 0;
}

/* Messages of many small parts, to one who takes all and one who takes none. */
static bool
buffers_publish(struct weir_buffer_pool *pool, struct weir_account *account,
    struct weir_broadcast *broadcast)
{
	struct weir_chunk chunk;
	struct weir_chain chain;
	bool whole = true;

	weir_chain_init(&chain, pool);
	CHECK_EQ(weir_chunk_init(&chunk, pool,
		     &(struct weir_chunk_config){.account = account}),
	    0);
	for (size_t i = 0; i < 300; i++) {
		unsigned char *text = weir_chunk_open(&chunk, 900);
		struct weir_slice slice;

		if (text == NULL) {
			whole = false;
			continue;
		}
		memset(text, 0x5a, 900);
		slice = weir_chunk_close(&chunk, 900);
		if (i % 2 == 0
			? !weir_chain_append(&chain, slice)
			: weir_broadcast_publish(broadcast, slice) != 0) {
			weir_slice_release(&slice);
			whole = false;
		}
	}
	if (weir_chain_prepend_bytes(&chain, 5000) == NULL)
		whole = false;
	(void)weir_chain_compact(
	    &chain, &(struct weir_compact_rule){
			.pool = pool, .account = account, .share = 2});
	weir_chain_clear(&chain);
	weir_chunk_finish(&chunk);
	return whole;
}

/* A pool that waits and has a reserve, and what is built on buffers. */
static bool
scenario_buffers(void)
{
	struct weir_buffer_pool_config config = {
	    .tier = {{.bytes = 1024, .reserve = 3}, {.bytes = 65536}},
	    .tier_count = 2,
	    .limit_bytes = 4 << 20,
	    .policy = WEIR_LIMIT_WAIT,
	    .timeout_ns = 1,
	};
	struct weir_buffer_pool *pool;
	struct weir_broadcast *broadcast;
	struct weir_account account;
	uint32_t number;
	bool whole;
	int error = weir_buffer_pool_create("oom", &config, &pool);

	if (error != 0) {
		CHECK_EQ(error, -ENOMEM);
		CHECK_NULL(pool);
		return false;
	}
	CHECK_EQ(weir_account_init(&account, NULL), 0);
	error = weir_broadcast_create(
	    &(struct weir_broadcast_config){.send = buffers_take}, &broadcast);
	if (error != 0)
		CHECK_EQ(error, -ENOMEM);
	whole = error == 0 &&
		weir_broadcast_join(broadcast, &pool, &number) == 0 &&
		weir_broadcast_join(broadcast, NULL, &number) == 0 &&
		weir_buffer_pool_prepare(pool, 0, 100) == 0 &&
		buffers_publish(pool, &account, broadcast);
	if (broadcast != NULL)
		CHECK(weir_broadcast_check(broadcast));
	weir_broadcast_destroy(broadcast);
	CHECK(weir_buffer_pool_check(pool));
	weir_account_finish(&account);
	weir_buffer_pool_destroy(pool);
	return whole;
}

static bool
scenario_heap(void)
{
	enum { COUNT = 100 };
	static const size_t sizes[] = {16, 500, 3000, 9000, 40000, 1200000};
	static unsigned char *objects[COUNT];
	struct weir_heap *heap;
	bool whole = true;
	int error = weir_heap_create("oom", NULL, &heap);

	if (error != 0) {
		CHECK_EQ(error, -ENOMEM);
		CHECK_NULL(heap);
		return false;
	}
	for (size_t i = 0; i < COUNT; i++) {
		objects[i] = weir_heap_alloc(heap, sizes[i % 50 % 6]);
		if (objects[i] == NULL)
			whole = false;
		else
			memset(objects[i], (int)i, 16);
	}
	for (size_t i = 0; i < COUNT; i++) {
		size_t bytes = sizes[(i + 1) % 50 % 6];
		unsigned char *moved;

		if (objects[i] == NULL)
			continue;
		moved = weir_heap_realloc(heap, objects[i], bytes);
		if (moved == NULL)
			whole = false;
		else
			objects[i] = moved;
		CHECK_EQ(objects[i][15], i % 256);
	}
	CHECK(weir_heap_check(heap));
	for (size_t i = 0; i < COUNT; i += 2)
		weir_heap_free(heap, objects[i]);
	CHECK(weir_heap_check(heap));
	weir_heap_destroy(heap);
	return whole;
}

/* The heap of the process: its very first call is among the failing ones. */
static bool
scenario_default_heap(void)
{
	void *small = weir_alloc(100), *large = weir_calloc(100, 1000);
	bool whole = small != NULL && large != NULL;

	weir_free(small);
	weir_free(large);
	CHECK(weir_heap_check(weir_heap_default()));
	return whole;
}

/* ---- the sweep -------------------------------------------------------- */

TEST(cache_lives_through_any_failing_system_call)
{
	sweep(scenario_cache, false);
	sweep(scenario_cache, true);
}

TEST(limits_and_handles_live_through_any_failing_system_call)
{
	sweep(scenario_limits, false);
	sweep(scenario_limits, true);
}

TEST(region_lives_through_any_failing_system_call)
{
	sweep(scenario_region, false);
	sweep(scenario_region, true);
}

TEST(lives_of_regions_go_through_any_failing_system_call)
{
	sweep(scenario_region_life, false);
	sweep(scenario_region_life, true);
}

TEST(growing_in_a_region_lives_through_any_failing_system_call)
{
	sweep(scenario_region_arrays, false);
	sweep(scenario_region_arrays, true);
}

TEST(region_vm_lives_through_any_failing_system_call)
{
	sweep(scenario_region_vm, false);
	sweep(scenario_region_vm, true);
}

TEST(buffer_lives_through_any_failing_system_call)
{
	sweep(scenario_buffer, false);
	sweep(scenario_buffer, true);
}

TEST(buffers_in_use_live_through_any_failing_system_call)
{
	sweep(scenario_buffers, false);
	sweep(scenario_buffers, true);
}

TEST(heap_lives_through_any_failing_system_call)
{
	sweep(scenario_heap, false);
	sweep(scenario_heap, true);
}

TEST(heap_of_the_process_lives_through_any_failing_system_call)
{
	sweep(scenario_default_heap, false);
	sweep(scenario_default_heap, true);
}
