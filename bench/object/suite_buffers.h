/* SPDX-License-Identifier: MIT */
/*
 * suite_buffers.h - What do 100,000 uses of an 8 KiB buffer cost?
 *
 * The comparison of "new and delete" with buffer pools that game servers are
 * told to make: take a buffer, fill it, give it back.  "memset" fills all of
 * it, "touch" writes one word, so that the allocator is seen and not the
 * memory; "8t" shares the 100,000 among 8 threads, each of which holds 4 at a
 * time, of a pool that was made for 2,000.  us_100k is the wall time;
 * failures counts refusals, which cost nothing and must be looked at together
 * with the time.
 */
#ifndef BENCH_OBJECT_SUITE_BUFFERS_H
#define BENCH_OBJECT_SUITE_BUFFERS_H

#define BUFFERS_BYTES 8192u
#define BUFFERS_USES 100000u
#define BUFFERS_LIMIT_ALONE 1000u
#define BUFFERS_LIMIT_SHARED 2000u
#define BUFFERS_THREADS 8u
#define BUFFERS_HELD 4u

static struct {
	struct peer_pool *pool;
	pthread_barrier_t turn;
	bool fill;
	bool over;
	uint64_t failures;
} buffers;

/* Uses `held` buffers together, so many times; returns the refusals. */
static BENCH_INLINE uint64_t
buffers_use(struct peer_local local, unsigned held, unsigned times, bool fill)
{
	uint64_t failures = 0;
	void *objects[BUFFERS_HELD];

	for (unsigned i = 0; i < times; i++) {
		for (unsigned j = 0; j < held; j++) {
			objects[j] =
			    peer_alloc(local, buffers.pool, BUFFERS_BYTES);
			if (!BENCH_LIKELY(objects[j] != NULL)) {
				failures++;
				continue;
			}
			if (fill)
				memset(objects[j], (int)i, BUFFERS_BYTES);
			bench_use(objects[j], i);
		}
		if (PEER_FLAGS & PEER_FREES_ALL) {
			peer_free_all(buffers.pool);
			continue;
		}
		for (unsigned j = 0; j < held; j++)
			if (BENCH_LIKELY(objects[j] != NULL))
				peer_free(local, buffers.pool, objects[j],
				    BUFFERS_BYTES);
	}
	return failures;
}

static BENCH_NOINLINE uint64_t
buffers_alone(struct peer_local local, bool fill)
{
	if (fill)
		return buffers_use(local, 1, BUFFERS_USES, true);
	return buffers_use(local, 1, BUFFERS_USES, false);
}

static BENCH_NOINLINE uint64_t
buffers_shared(struct peer_local local, bool fill)
{
	unsigned times = BUFFERS_USES / BUFFERS_THREADS / BUFFERS_HELD;

	if (fill)
		return buffers_use(local, BUFFERS_HELD, times, true);
	return buffers_use(local, BUFFERS_HELD, times, false);
}

static void *
buffers_thread(void *unused)
{
	struct peer_local local = peer_thread_begin();

	for (;;) {
		pthread_barrier_wait(&buffers.turn);
		if (buffers.over)
			break;
		__atomic_fetch_add(&buffers.failures,
		    buffers_shared(local, buffers.fill), __ATOMIC_RELAXED);
		pthread_barrier_wait(&buffers.turn);
	}
	peer_thread_end(local);
	return unused;
}

static void
buffers_report(struct bench_chunks *chunks, const char *name)
{
	bench_emit(name, "us_100k", bench_chunks_ns(chunks) / 1e3, "us");
	bench_emit(name, "failures",
	    (double)buffers.failures / (double)chunks->count, "of 100000");
}

static void
buffers_case_alone(bool fill, const char *name)
{
	static struct bench_chunks chunks;
	struct peer_local local = peer_thread_begin();

	if (!bench_wanted(name))
		return;
	bench_pin(0);
	buffers.pool = peer_pool_open(BUFFERS_BYTES, BUFFERS_LIMIT_ALONE);
	buffers_alone(local, fill);
	buffers.failures = 0;
	bench_chunks_begin(&chunks);
	do
		buffers.failures += buffers_alone(local, fill);
	while (bench_chunks_next(&chunks));
	buffers_report(&chunks, name);
	peer_pool_close(buffers.pool);
}

static void
buffers_case_shared(bool fill, const char *name)
{
	static struct bench_chunks chunks;
	pthread_t threads[BUFFERS_THREADS];

	if (!bench_wanted(name))
		return;
	bench_share_cpus((unsigned)CPU_COUNT(&bench_cpus));
	buffers.pool = peer_pool_open(BUFFERS_BYTES, BUFFERS_LIMIT_SHARED);
	buffers.fill = fill;
	buffers.over = false;
	buffers.failures = 0;
	pthread_barrier_init(&buffers.turn, NULL, BUFFERS_THREADS + 1);
	for (unsigned i = 0; i < BUFFERS_THREADS; i++)
		if (pthread_create(&threads[i], NULL, buffers_thread, NULL) !=
		    0)
			bench_fail("no thread: %s", strerror(errno));
	bench_chunks_begin(&chunks);
	do {
		pthread_barrier_wait(&buffers.turn);
		pthread_barrier_wait(&buffers.turn);
	} while (bench_chunks_next(&chunks));
	buffers.over = true;
	pthread_barrier_wait(&buffers.turn);
	for (unsigned i = 0; i < BUFFERS_THREADS; i++)
		pthread_join(threads[i], NULL);
	pthread_barrier_destroy(&buffers.turn);
	buffers_report(&chunks, name);
	peer_pool_close(buffers.pool);
}

static void
suite_buffers(void)
{
	buffers_case_alone(false, "8192/touch");
	buffers_case_alone(true, "8192/memset");
	if (PEER_FLAGS & (PEER_FREES_ALL | PEER_ALONE))
		return; /* its pools belong to one thread */
	buffers_case_shared(false, "8192/touch-8t");
	buffers_case_shared(true, "8192/memset-8t");
}

#endif /* BENCH_OBJECT_SUITE_BUFFERS_H */
