/* SPDX-License-Identifier: MIT */
/*
 * A steady load makes no system call but futex, on a depot that threads contend
 * for: proved by a filter with which the kernel kills the process at any other.
 *
 * Reading the clock is no system call on most machines (vDSO) and allowed on the
 * others: a depot does so now and then to size its magazines.
 *
 * A heap gives back what a class holds that nobody used for a tenth of a second,
 * and on a busy machine no thread may run for so long.  So the proof is of a process
 * that gives nothing back; in one that does, a load is steady if it is left alone.
 */
#include "support/test.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <weir/weir.h>

enum { THREADS = 4, SLOTS = 512, HELD = 200, HEAP_CLASSES = 6 };

/* What one thread puts there another takes: every object changes hands. */
struct exchange {
	void *slot[SLOTS];
};

struct steady {
	struct weir_cache *each, *batch;
	struct weir_heap *heap;
	struct weir_buffer_pool *buffers;
	struct exchange by_each, by_batch, by_heap;
	pthread_barrier_t warm;
	size_t rounds;
	unsigned done;
	bool break_the_rule;
};

struct worker {
	struct steady *steady;
	uint64_t seed;
};

static void
steady_calls_only(void)
{
#define ALLOW(number)                                            \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##number, 0, 1), \
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
	struct sock_filter code[] = {
	    BPF_STMT(
		BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	    ALLOW(futex),
	    ALLOW(clock_gettime),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
	};
	struct sock_fprog program = {
	    .len = sizeof(code) / sizeof(code[0]),
	    .filter = code,
	};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
		_exit(77);
}

/* Leaves an object where another thread finds it; what was there, or NULL. */
static void *
exchange(struct exchange *exchange, uint64_t at, void *object)
{
	return __atomic_exchange_n(
	    &exchange->slot[at % SLOTS], object, __ATOMIC_ACQ_REL);
}

static void
steady_work(struct steady *steady, struct test_rng *rng, size_t rounds)
{
	struct weir_region *region;
	void *held[HELD];

	for (size_t round = 0; round < rounds; round++) {
		struct weir_buffer *buffer =
		    weir_buffer_acquire(steady->buffers, 1500);

		for (size_t i = 0; i < HELD; i++)
			held[i] = weir_cache_alloc(steady->each);
		for (size_t i = 0; i < HELD; i++)
			weir_cache_free(steady->each, held[i]);
		for (size_t i = 0; i < HELD; i++) {
			uint64_t at = test_rand(rng);

			weir_cache_free(
			    steady->each, exchange(&steady->by_each, at,
					      weir_cache_alloc(steady->each)));
			weir_cache_free(steady->batch,
			    exchange(&steady->by_batch, at,
				weir_cache_alloc(steady->batch)));
			weir_heap_free(steady->heap,
			    exchange(&steady->by_heap, at,
				weir_heap_alloc(steady->heap,
				    (size_t)16 << at % HEAP_CLASSES)));
		}
		if (weir_region_create(NULL, NULL, &region) != 0)
			_exit(3);
		for (size_t i = 0; i < 20; i++)
			if (weir_region_alloc(region, 500) == NULL)
				_exit(4);
		weir_region_destroy(region);
		weir_buffer_release(buffer);
	}
}

/* Threads do not end: the C library's part in that is calls of its own. */
static void *
worker_run(void *argument)
{
	struct worker *worker = argument;
	struct steady *steady = worker->steady;
	struct test_rng rng;

	test_rng_init(&rng, worker->seed);
	steady_work(steady, &rng, steady->rounds / 2 + 20);
	/* Nobody runs ahead of those that still warm up. */
	pthread_barrier_wait(&steady->warm);
	steady_calls_only();
	if (steady->break_the_rule)
		(void)syscall(SYS_getppid);
	steady_work(steady, &rng, steady->rounds);
	__atomic_fetch_add(&steady->done, 1, __ATOMIC_RELEASE);
	for (;;)
		pthread_barrier_wait(&steady->warm);
	return NULL;
}

static void
steady_make(struct steady *steady)
{
	/* More than all can hold, so that nothing grows later. */
	const size_t all = (size_t)THREADS * 1000 + SLOTS;

	CHECK_EQ(weir_cache_create("each",
		     &(struct weir_cache_config){
			 .object_bytes = 64, .prealloc = all},
		     &steady->each),
	    0);
	CHECK_EQ(weir_cache_create("batch",
		     &(struct weir_cache_config){.object_bytes = 200,
			 .prealloc = all,
			 .check = WEIR_CHECK_BATCH},
		     &steady->batch),
	    0);
	CHECK_EQ(weir_heap_create("steady", NULL, &steady->heap), 0);
	CHECK_EQ(
	    weir_buffer_pool_create("steady",
		&(struct weir_buffer_pool_config){
		    .tier = {{.bytes = 2048, .prealloc = 64}}, .tier_count = 1},
		&steady->buffers),
	    0);
	/* A heap grows by need alone: let it need more than it ever will. */
	for (size_t class = 0; class < HEAP_CLASSES; class ++) {
		static void *block[1 << 14];

		for (size_t i = 0; i < sizeof(block) / sizeof(block[0]); i++)
			block[i] = weir_heap_alloc(steady->heap, 16u << class);
		for (size_t i = 0; i < sizeof(block) / sizeof(block[0]); i++)
			weir_heap_free(steady->heap, block[i]);
	}
}

static int
steady_child(bool break_the_rule, bool gives_back)
{
	static struct steady steady;
	static struct worker worker[THREADS];

	if (!gives_back)
		weir_set_decay(WEIR_DECAY_NEVER);
	steady.break_the_rule = break_the_rule;
	steady.rounds = test_count(400);
	steady_make(&steady);
	pthread_barrier_init(&steady.warm, NULL, THREADS);
	for (size_t i = 0; i < THREADS; i++) {
		pthread_t thread;

		worker[i] = (struct worker){&steady, test_seed() + i};
		CHECK_EQ(
		    pthread_create(&thread, NULL, worker_run, &worker[i]), 0);
	}
	while (__atomic_load_n(&steady.done, __ATOMIC_ACQUIRE) < THREADS)
		usleep(1000);
	return 42;
}

static int
status_of(bool break_the_rule, bool gives_back)
{
	pid_t child = fork();
	int status;

	CHECK_GE(child, 0);
	if (child == 0)
		_exit(steady_child(break_the_rule, gives_back));
	CHECK_EQ(waitpid(child, &status, 0), child);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		SKIP("seccomp is not available");
	return status;
}

TEST(a_steady_load_makes_no_system_call_but_futex)
{
	NOT_UNDER_GUARD("it makes system calls");

	int status;

	if (TEST_ASAN || TEST_TSAN || test_under_valgrind())
		SKIP("the tool itself makes system calls");
	(void)test_seed();
	/* The filter does kill. */
	status = status_of(true, false);
	CHECK(WIFSIGNALED(status));
	CHECK_EQ(WTERMSIG(status), SIGSYS);
	status = status_of(false, false);
	CHECK(WIFEXITED(status));
	CHECK_EQ(WEXITSTATUS(status), 42);
	for (int attempt = 0; attempt < 5; attempt++) {
		status = status_of(false, true);
		if (WIFEXITED(status))
			break;
	}
	CHECK(WIFEXITED(status));
	CHECK_EQ(WEXITSTATUS(status), 42);
}
