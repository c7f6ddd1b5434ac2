/* SPDX-License-Identifier: MIT */
/*
 * Heaps between threads, across fork, and far from where memory usually is; and
 * the system call that moves pages.
 */
#include "support/test.h"

#include "os/os.h"
#include "pages/near.h"
#include "pages/pages.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <weir/weir.h>

#define MIB ((size_t)1048576)

/* ---- hand-over ----------------------------------------------------------- */

enum { THREADS = 4, SLOTS = 512 };

/* Objects in the open: whoever takes one frees it. */
struct market {
	struct weir_heap *heap;
	uint64_t seed;
	unsigned char *slot[SLOTS];
};

/* The first two bytes tell how many follow with which content. */
static unsigned char *
make_object(struct weir_heap *heap, struct test_rng *rng)
{
	static const size_t most[] = {300, 300, 300, 5000, 60000};
	size_t bytes = 4 + test_rand_below(rng, most[test_rand(rng) % 5]);
	unsigned char *object = weir_heap_alloc(heap, bytes);
	uint32_t told = (uint32_t)bytes;

	CHECK_NOT_NULL(object);
	memcpy(object, &told, sizeof(told));
	memset(object + 4, (int)(bytes % 251), bytes - 4);
	return object;
}

static void
end_object(struct weir_heap *heap, unsigned char *object)
{
	uint32_t bytes;

	if (object == NULL)
		return;
	memcpy(&bytes, object, sizeof(bytes));
	for (size_t i = 4; i < bytes; i += i < 64 ? 1 : 61)
		CHECK_EQ(object[i], bytes % 251);
	if (bytes % 2)
		weir_heap_free(heap, object);
	else
		weir_heap_free_sized(heap, object, bytes);
}

static void
trade(unsigned index, void *context)
{
	struct market *market = context;
	struct test_rng rng;

	test_rng_init(&rng, market->seed + index);
	for (size_t i = 0; i < test_count(40000); i++) {
		unsigned char *mine = NULL;
		size_t at = test_rand_below(&rng, SLOTS);

		if (test_rand(&rng) % 3 != 0)
			mine = make_object(market->heap, &rng);
		end_object(market->heap, __atomic_exchange_n(&market->slot[at],
					     mine, __ATOMIC_ACQ_REL));
		if (i % 8192 == 8191)
			(void)weir_heap_trim(market->heap);
	}
}

static void
trade_in(struct weir_heap *heap)
{
	static struct market market;

	market = (struct market){.heap = heap, .seed = test_seed()};
	test_threads(THREADS, trade, &market);
	for (size_t i = 0; i < SLOTS; i++)
		end_object(heap, market.slot[i]);

	struct weir_pool_stats stats = {.size = sizeof(stats)};

	CHECK_EQ(weir_heap_stats(heap, &stats), 0);
	CHECK_EQ(stats.in_use, 0);
	CHECK_EQ(stats.bytes_in_use, 0);
	CHECK(weir_heap_check(heap));
}

TEST(heap_objects_change_threads_whole)
{
	static const enum weir_check_level levels[] = {
	    WEIR_CHECK_EACH, WEIR_CHECK_BATCH};

	for (size_t i = 0; i < 2; i++) {
		struct weir_heap *heap;

		CHECK_EQ(
		    weir_heap_create("trade",
			&(struct weir_heap_config){.check = levels[i]}, &heap),
		    0);
		trade_in(heap);
		weir_heap_destroy(heap);
	}
	CHECK(weiri_pages_check());
}

/* Many threads' first calls at once: one heap, one bin a class. */
static void
first_call(unsigned index, void *context)
{
	unsigned char **out = context;

	out[index] = (weir_alloc)(100 + index % 2 * 40000);
	CHECK_NOT_NULL(out[index]);
	memset(out[index], (int)index, 100);
}

TEST(heap_of_the_process_is_made_once)
{
	unsigned char *out[8];
	struct weir_pool_stats pools[16] = {{.size = sizeof(pools[0])}};
	size_t heaps = 0;

	test_threads(8, first_call, out);
	for (size_t i = 0; i < 8; i++) {
		CHECK_EQ(out[i][99], i);
		weir_free(out[i]);
	}
	for (size_t i = 0, n = weir_stats_pools(pools, 16); i < n; i++)
		heaps += pools[i].kind == WEIR_POOL_HEAP;
	CHECK_EQ(heaps, 1);
	CHECK(weir_heap_check(weir_heap_default()));
}

/* ---- fork ---------------------------------------------------------------- */

static bool fork_stop;

static void *
fork_churn(void *context)
{
	(void)context;
	while (!__atomic_load_n(&fork_stop, __ATOMIC_RELAXED)) {
		void *small = weir_alloc(100), *large = weir_alloc(70000);

		weir_free(large);
		weir_free(small);
	}
	return NULL;
}

TEST(heap_works_in_the_child_of_a_fork_in_the_middle_of_everything)
{
	pthread_t thread;

	CHECK_EQ(pthread_create(&thread, NULL, fork_churn, NULL), 0);
	for (size_t i = 0; i < test_count(20); i++) {
		char *mine = weir_alloc(200);
		int status;
		pid_t child;

		strcpy(mine, "parent");
		child = fork();
		CHECK_NE(child, -1);
		if (child == 0) {
			for (size_t n = 0; n < 1000; n++)
				weir_free((weir_alloc)(n * 50));
			CHECK_STR(mine, "parent");
			weir_free(mine);
			_exit(0);
		}
		CHECK_EQ(waitpid(child, &status, 0), child);
		CHECK_EQ(status, 0);
		weir_free(mine);
	}
	__atomic_store_n(&fork_stop, true, __ATOMIC_RELAXED);
	CHECK_EQ(pthread_join(thread, NULL), 0);
	CHECK(weir_heap_check(weir_heap_default()));
}

/* ---- memory that is far away --------------------------------------------- */

/* Out of the reach of the table of tags: the page map answers. */
static void *
far_take(void *context, size_t bytes, size_t align)
{
	static uintptr_t next;
	(void)context;
	(void)align;

	if (next == 0)
		next = weiri_near_base() +
		       ((uintptr_t)WEIRI_NEAR_COUNT << WEIRI_NEAR_SHIFT);
	next = (next + 2 * MIB - 1) & ~(2 * MIB - 1);
	/* Beyond the stack, or wherever something is: further down then. */
	for (int i = 0; i < 64; i++) {
		void *got = mmap((void *)(next - ((uintptr_t)i << 37)), bytes,
		    PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

		if (got != MAP_FAILED && ((uintptr_t)got - weiri_near_base()) >>
					     WEIRI_NEAR_SHIFT >=
					     WEIRI_NEAR_COUNT) {
			next += bytes;
			return got;
		}
		if (got != MAP_FAILED)
			(void)munmap(got, bytes);
	}
	return NULL;
}

static void
far_give(void *context, void *address, size_t bytes)
{
	(void)context;
	(void)munmap(address, bytes);
}

TEST(heap_serves_memory_beyond_the_table_of_tags)
{
	NOT_UNDER_GUARD("mode sample goes on where an abort is expected");

	struct weir_heap *heap;
	void *object;

	if (TEST_TSAN)
		SKIP("ThreadSanitizer has addresses of its own");
	CHECK_EQ(weir_init(&(struct weir_config){
		     .source = {.kind = WEIR_SOURCE_CUSTOM,
			 .take = far_take,
			 .give = far_give}}),
	    0);
	CHECK_EQ(weir_heap_create("far", NULL, &heap), 0);
	object = weir_heap_alloc(heap, 100);
	if (object == NULL)
		SKIP("no address far away to be had");
	CHECK(weir_heap_of(object) == heap);
	CHECK_GE(((uintptr_t)object - weiri_near_base()) >> WEIRI_NEAR_SHIFT,
	    WEIRI_NEAR_COUNT);
	weir_heap_free(heap, object);
	EXPECT_ABORT("FAULT double-free: heap \"far\"",
	    { weir_heap_free(heap, object); });
	trade_in(heap);
	weir_heap_destroy(heap);
}
