/* SPDX-License-Identifier: MIT */
/*
 * The limit of a heap between threads and across fork: nobody is refused for
 * what another has only in hand, and nothing is counted twice or for ever.
 */
#include "support/test.h"

#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <weir/weir.h>

/* As heap.h tells: what a class brings at a time. */
#define SLAB ((size_t)64 << 10)

enum { THREADS = 4 };

struct limited {
	const size_t *sizes; /* one for each thread */
	unsigned count;      /* of threads */
	unsigned arrived;
	struct weir_heap *heap;
	void *objects[THREADS];
};

static struct weir_heap *
limited_heap(size_t limit)
{
	struct weir_heap *heap;

	CHECK_EQ(weir_heap_create("limited",
		     &(struct weir_heap_config){.limit_bytes = limit}, &heap),
	    0);
	return heap;
}

/* Waits for the others, spinning: they should go on at the same moment. */
static void
meet(struct limited *limited)
{
	unsigned turn =
	    __atomic_fetch_add(&limited->arrived, 1, __ATOMIC_ACQ_REL) /
	    limited->count;

	for (unsigned spins = 0;
	     __atomic_load_n(&limited->arrived, __ATOMIC_ACQUIRE) /
		 limited->count ==
	     turn;
	     spins++)
		if (spins > 1000)
			sched_yield();
}

static void
end_round(struct limited *limited)
{
	for (size_t i = 0; i < limited->count; i++)
		CHECK_NOT_NULL(limited->objects[i]);
	CHECK(weir_heap_check(limited->heap));
	weir_heap_destroy(limited->heap);
}

static void
take_first_slab(unsigned index, void *context)
{
	struct limited *limited = context;

	for (size_t round = 0; round < test_count(3000); round++) {
		if (index == 0)
			limited->heap = limited_heap(SLAB);
		meet(limited);
		limited->objects[index] =
		    weir_heap_alloc(limited->heap, limited->sizes[index]);
		weir_heap_free(limited->heap, limited->objects[index]);
		meet(limited);
		if (index == 0)
			end_round(limited);
	}
}

/* Each opens a slab when it finds none, and only one of them is needed. */
TEST(heap_limit_of_one_slab_serves_all_who_come_at_once)
{
	static const size_t sizes[] = {64, 64, 64, 64};
	struct limited limited = {.sizes = sizes, .count = THREADS};

	test_threads(THREADS, take_first_slab, &limited);
}

/* Leaves two slabs behind with all their slots at rest. */
static void *
leave_two_slabs(void *argument)
{
	static void *objects[2 * SLAB / 4096];
	struct weir_heap *heap = argument;
	const size_t count = sizeof(objects) / sizeof(*objects);

	for (size_t i = 0; i < count; i++) {
		objects[i] = weir_heap_alloc(heap, 4096);
		CHECK_NOT_NULL(objects[i]);
	}
	for (size_t i = 0; i < count; i++)
		weir_heap_free(heap, objects[i]);
	return NULL;
}

static void
run_thread(void *(*body)(void *), void *argument)
{
	pthread_t thread;

	CHECK_EQ(pthread_create(&thread, NULL, body, argument), 0);
	CHECK_EQ(pthread_join(thread, NULL), 0);
}

static void
take_trimmed_slab(unsigned index, void *context)
{
	struct limited *limited = context;

	for (size_t round = 0; round < test_count(1000); round++) {
		if (index == 0) {
			limited->heap = limited_heap(2 * SLAB);
			run_thread(leave_two_slabs, limited->heap);
		}
		meet(limited);
		limited->objects[index] =
		    weir_heap_alloc(limited->heap, limited->sizes[index]);
		meet(limited);
		if (index == 0)
			end_round(limited);
	}
}

/* Both trim, and what the one has in hand is what the other looks for. */
TEST(heap_limit_counts_no_slab_that_another_thread_trims)
{
	static const size_t sizes[] = {64, 1024};
	struct limited limited = {.sizes = sizes, .count = 2};

	test_threads(2, take_trimmed_slab, &limited);
}

struct holder {
	struct weir_heap *heap;
	unsigned stage; /* 1: it has a magazine, 2: it may end */
};

static void *
hold_magazine(void *argument)
{
	struct holder *holder = argument;

	weir_heap_free(holder->heap, weir_heap_alloc(holder->heap, 64));
	__atomic_store_n(&holder->stage, 1, __ATOMIC_RELEASE);
	while (__atomic_load_n(&holder->stage, __ATOMIC_ACQUIRE) != 2)
		usleep(100);
	return NULL;
}

TEST(heap_at_its_limit_asks_again_after_a_thread_has_ended)
{
	NOT_UNDER_GUARD("nothing stays with threads");

	struct holder holder = {.heap = limited_heap(SLAB)};
	pthread_t thread;

	CHECK_EQ(pthread_create(&thread, NULL, hold_magazine, &holder), 0);
	while (__atomic_load_n(&holder.stage, __ATOMIC_ACQUIRE) != 1)
		usleep(100);
	CHECK(weir_heap_alloc(holder.heap, 1024) == NULL);
	CHECK(weir_heap_alloc(holder.heap, 1024) == NULL);
	__atomic_store_n(&holder.stage, 2, __ATOMIC_RELEASE);
	CHECK_EQ(pthread_join(thread, NULL), 0);
	CHECK_NOT_NULL(weir_heap_alloc(holder.heap, 1024));
	CHECK(weir_heap_check(holder.heap));
	weir_heap_destroy(holder.heap);
}

/* ---- fork ---------------------------------------------------------------- */

struct churn {
	struct weir_heap *heap;
	bool done;
};

static void *
churn(void *argument)
{
	struct churn *churn = argument;
	void *objects[64] = {NULL};

	for (size_t i = 0; !__atomic_load_n(&churn->done, __ATOMIC_ACQUIRE);
	     i++) {
		void **at = &objects[i % 64];

		weir_heap_free(churn->heap, *at);
		*at = weir_heap_alloc(
		    churn->heap, i % 3 == 0 ? 20000 : 40000 + i % 7 * 8192);
		if (i % 5 == 0) {
			void *moved =
			    weir_heap_realloc(churn->heap, *at, 90000);

			*at = moved != NULL ? moved : *at;
		}
		if (i % 256 == 0)
			(void)weir_heap_trim(churn->heap);
	}
	for (size_t i = 0; i < 64; i++)
		weir_heap_free(churn->heap, objects[i]);
	return NULL;
}

/* Within the limit there is room for what the child takes, unless what other
 * threads had charged at the fork counts for ever. */
static int
child_counts(struct weir_heap *heap)
{
	CHECK(weir_heap_check(heap));
	for (int i = 0; i < 8; i++) {
		void *object = weir_heap_alloc(heap, 50000);

		CHECK_NOT_NULL(object);
		object = weir_heap_realloc(heap, object, 150000);
		CHECK_NOT_NULL(object);
		weir_heap_free(heap, object);
	}
	CHECK(weir_heap_check(heap));
	return 0;
}

TEST_LIMIT(heap_in_a_forks_child_counts_what_is_there, 60)
{
	struct churn churn_of = {.heap = limited_heap((size_t)64 << 20)};
	pthread_t threads[THREADS];

	if (TEST_TSAN)
		SKIP("ThreadSanitizer does not follow threads into a child");
	for (size_t i = 0; i < THREADS; i++)
		CHECK_EQ(
		    pthread_create(&threads[i], NULL, churn, &churn_of), 0);
	for (unsigned i = 0; i < test_count(60); i++) {
		pid_t child = fork();
		int status = 0;

		CHECK_GE(child, 0);
		if (child == 0)
			_exit(child_counts(churn_of.heap));
		CHECK_EQ(waitpid(child, &status, 0), child);
		CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	}
	__atomic_store_n(&churn_of.done, true, __ATOMIC_RELEASE);
	for (size_t i = 0; i < THREADS; i++)
		CHECK_EQ(pthread_join(threads[i], NULL), 0);
	CHECK(weir_heap_check(churn_of.heap));
	weir_heap_destroy(churn_of.heap);
}
