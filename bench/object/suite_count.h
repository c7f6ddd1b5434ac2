/* SPDX-License-Identifier: MIT */
/*
 * suite_count.h - loops for callgrind: `weir bench --instructions`.
 *
 * 8 objects are taken and given back over and over, until every magazine, list
 * and lazily bound symbol is as it stays.  Then the two functions below run
 * once; callgrind is told to collect inside one of them and prints the sum.
 * The counts of the opponent "harness", where they do nothing, are the loop's
 * own share and are subtracted by the reader; what is left is the call with the
 * moves of its arguments.
 */
#ifndef BENCH_OBJECT_SUITE_COUNT_H
#define BENCH_OBJECT_SUITE_COUNT_H

#define COUNT_OBJECTS 8u /* no cache is so small that this empties it */

#define COUNT_WARM 2000u

static void *count_slots[COUNT_OBJECTS];

/* The harness alone is the loop: it takes nothing. */
#ifdef PEER_IS_LOOP
#define COUNT_ALLOC(local, pool, bytes) \
	((void)(local), (void)(bytes), (void *)(pool))
#else
#define COUNT_ALLOC(local, pool, bytes) peer_alloc(local, pool, bytes)
#endif

/* Named on callgrind's command line. */
#ifdef __cplusplus
extern "C" {
#endif
BENCH_NOINLINE void weir_bench_count_alloc(
    struct peer_local local, struct peer_pool *pool, size_t bytes);
BENCH_NOINLINE void weir_bench_count_free(
    struct peer_local local, struct peer_pool *pool, size_t bytes);
#ifdef __cplusplus
}
#endif

static BENCH_INLINE void
count_take(struct peer_local local, struct peer_pool *pool, size_t bytes)
{
	for (unsigned i = 0; i < COUNT_OBJECTS; i++) {
		void *object = COUNT_ALLOC(local, pool, bytes);

		__asm__ volatile("" : "+r"(object) : : "memory");
		count_slots[i] = object;
	}
}

static BENCH_INLINE void
count_give(struct peer_local local, struct peer_pool *pool, size_t bytes)
{
	for (unsigned i = 0; i < COUNT_OBJECTS; i++) {
		void *object = count_slots[i];

		__asm__ volatile("" : "+r"(object) : : "memory");
		peer_free(local, pool, object, bytes);
	}
}

void
weir_bench_count_alloc(
    struct peer_local local, struct peer_pool *pool, size_t bytes)
{
	count_take(local, pool, bytes);
}

void
weir_bench_count_free(
    struct peer_local local, struct peer_pool *pool, size_t bytes)
{
	count_give(local, pool, bytes);
}

static BENCH_NOINLINE void
count_warm(struct peer_local local, struct peer_pool *pool, size_t bytes)
{
	count_take(local, pool, bytes);
	count_give(local, pool, bytes);
}

static void
suite_count(void)
{
	size_t bytes =
	    bench_job.only != NULL && strcmp(bench_job.only, "256") == 0 ? 256
									 : 64;
	struct peer_local local = peer_thread_begin();
	struct peer_pool *pool;

	if (PEER_FLAGS & PEER_FREES_ALL) {
		bench_skip("frees only all objects of a pool at once");
		return;
	}
	pool = peer_pool_open(bytes, COUNT_OBJECTS + 1);
	for (unsigned i = 0; i < COUNT_WARM; i++)
		count_warm(local, pool, bytes);
	weir_bench_count_alloc(local, pool, bytes);
	weir_bench_count_free(local, pool, bytes);
	peer_pool_close(pool);
}

#endif /* BENCH_OBJECT_SUITE_COUNT_H */
