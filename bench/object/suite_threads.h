/* SPDX-License-Identifier: MIT */
/*
 * suite_threads.h - suites of many threads.
 *
 *   oversub  What does an object cost when 8 threads share 2 processors?  A
 *            thread that is preempted inside a lock, or between the two halves
 *            of a compare-and-swap, makes others wait or repeat: cpu_ns_op is
 *            the processor time of all threads per alloc and free.
 *   scaling  And with 1 to 8 threads on all processors?  Adds mops_s, pairs of
 *            alloc and free a microsecond of wall time, all threads together.
 *
 * Each thread replaces random objects of its own set of 256; nothing is shared
 * but the allocator.
 */
#ifndef BENCH_OBJECT_SUITE_THREADS_H
#define BENCH_OBJECT_SUITE_THREADS_H

#define THREADS_SET 256u
#define THREADS_STEP 256u     /* operations between looks at the stop flag */
#define THREADS_WARM_STEPS 16 /* not measured */

struct threads_team {
	struct peer_pool *pool;
	size_t bytes;
	pthread_barrier_t start;
	unsigned stop __attribute__((aligned(BENCH_LINE)));
};

struct threads_member {
	struct threads_team *team;
	pthread_t thread;
	unsigned index;
	uint64_t ops;
	uint64_t cpu_ns;
	uint64_t begun_ns;
	uint64_t ended_ns;
	struct pair_slot slots[THREADS_SET];
} __attribute__((aligned(BENCH_LINE)));

static BENCH_INLINE void
threads_step(struct threads_member *member, struct peer_local local,
    uint64_t *random, bool mixed)
{
	struct peer_pool *pool = member->team->pool;
	size_t bytes = member->team->bytes;

	for (unsigned i = 0; i < THREADS_STEP; i++) {
		uint64_t drawn = bench_random(random);
		struct pair_slot *slot = &member->slots[drawn % THREADS_SET];
		size_t size = PAIR_SIZE(mixed, bytes, drawn >> 8);

		peer_free(
		    local, pool, slot->object, mixed ? slot->bytes : bytes);
		slot->object = bench_check(peer_alloc(local, pool, size));
		if (mixed)
			slot->bytes = size;
		bench_use(slot->object, i);
	}
}

static BENCH_INLINE void
threads_run(struct threads_member *member, struct peer_local local, bool mixed)
{
	uint64_t random = member->index + 1;
	uint64_t begun;

	for (unsigned i = 0; i < THREADS_WARM_STEPS; i++)
		threads_step(member, local, &random, mixed);
	pthread_barrier_wait(&member->team->start);
	member->begun_ns = bench_now();
	begun = bench_clock(CLOCK_THREAD_CPUTIME_ID);
	do {
		threads_step(member, local, &random, mixed);
		member->ops += THREADS_STEP;
	} while (!__atomic_load_n(&member->team->stop, __ATOMIC_RELAXED));
	member->cpu_ns = bench_clock(CLOCK_THREAD_CPUTIME_ID) - begun;
	member->ended_ns = bench_now();
}

static void *
threads_main(void *argument)
{
	struct threads_member *member = (struct threads_member *)argument;
	struct peer_pool *pool = member->team->pool;
	size_t bytes = member->team->bytes;
	struct peer_local local = peer_thread_begin();

	for (unsigned i = 0; i < THREADS_SET; i++) {
		size_t size = PAIR_SIZE(bytes == 0, bytes, i);

		member->slots[i].bytes = size;
		member->slots[i].object =
		    bench_check(peer_alloc(local, pool, size));
	}
	if (bytes != 0)
		threads_run(member, local, false);
	else
		threads_run(member, local, true);
	for (unsigned i = 0; i < THREADS_SET; i++)
		peer_free(local, pool, member->slots[i].object,
		    member->slots[i].bytes);
	peer_thread_end(local);
	return NULL;
}

static void
threads_emit(
    const struct threads_member *members, unsigned count, const char *name)
{
	uint64_t begun_ns = UINT64_MAX;
	uint64_t ended_ns = 0;
	double cpu_ns = 0;
	double ops = 0;

	for (unsigned i = 0; i < count; i++) {
		cpu_ns += (double)members[i].cpu_ns;
		ops += (double)members[i].ops;
		if (members[i].begun_ns < begun_ns)
			begun_ns = members[i].begun_ns;
		if (members[i].ended_ns > ended_ns)
			ended_ns = members[i].ended_ns;
	}
	bench_emit(name, "cpu_ns_op", cpu_ns / ops, "ns");
	if (strcmp(bench_job.suite, "scaling") == 0)
		bench_emit(name, "mops_s",
		    ops * 1e3 / (double)(ended_ns - begun_ns), "Mop/s");
}

static void
threads_case(size_t bytes, unsigned count, const char *name)
{
	static struct threads_member members[BENCH_THREADS_MAX];
	struct threads_team team;
	struct timespec pause;

	if (!bench_wanted(name))
		return;
	memset(members, 0, sizeof(members));
	memset(&team, 0, sizeof(team));
	team.bytes = bytes;
	team.pool = peer_pool_open(bytes, count * THREADS_SET);
	pthread_barrier_init(&team.start, NULL, count + 1);
	for (unsigned i = 0; i < count; i++) {
		members[i].team = &team;
		members[i].index = i;
		if (pthread_create(&members[i].thread, NULL, threads_main,
			&members[i]) != 0)
			bench_fail("no thread: %s", strerror(errno));
	}
	pthread_barrier_wait(&team.start);
	pause.tv_sec = (time_t)(bench_job.case_ns / 1000000000u);
	pause.tv_nsec = (long)(bench_job.case_ns % 1000000000u);
	nanosleep(&pause, NULL);
	__atomic_store_n(&team.stop, 1, __ATOMIC_RELAXED);
	for (unsigned i = 0; i < count; i++)
		pthread_join(members[i].thread, NULL);
	pthread_barrier_destroy(&team.start);
	peer_pool_close(team.pool);
	threads_emit(members, count, name);
}

static bool
threads_apply(void)
{
	if (PEER_FLAGS & PEER_FREES_ALL)
		bench_skip("frees only all objects of a pool at once");
	else if (PEER_FLAGS & PEER_ALONE)
		bench_skip("one thread takes all objects");
	else
		return true;
	return false;
}

static void
suite_oversub(void)
{
	if (!threads_apply())
		return;
	bench_share_cpus(2);
	threads_case(64, 8, "64");
	threads_case(256, 8, "256");
	if (PEER_FLAGS & PEER_ANY_SIZE)
		threads_case(0, 8, "mixed");
}

static void
suite_scaling(void)
{
	if (!threads_apply())
		return;
	threads_case(64, 1, "64/1-thread");
	threads_case(64, 2, "64/2-threads");
	threads_case(64, 4, "64/4-threads");
	threads_case(64, 8, "64/8-threads");
}

#endif /* BENCH_OBJECT_SUITE_THREADS_H */
