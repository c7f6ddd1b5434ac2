/* SPDX-License-Identifier: MIT */
/*
 * suite_pair.h - suites of one thread and one size.
 *
 *   pair    What does an object cost that is freed before the next is taken?
 *           The best case of every design: the fast path and nothing else.
 *   burst   And when 256 are taken, then all freed in the order they came?
 *           Depth: caches that hold fewer go to their depot and back.
 *   random  And out of 4096 live ones, any is freed and one taken instead?
 *           Cold objects: what a design writes into free ones costs misses.
 *           "batch32" frees 32 scattered ones before it takes 32 again, so
 *           that the last freed is not always the next taken.
 *
 * ns_op is the time of one alloc and one free together with writing a word to
 * the object.  Case "mixed" draws sizes from 16 to 1024, small ones oftener.
 */
#ifndef BENCH_OBJECT_SUITE_PAIR_H
#define BENCH_OBJECT_SUITE_PAIR_H

#define PAIR_BURST 256u
#define PAIR_SET 4096u /* 256 KiB of 64 B objects: past L1, within L2 */
#define PAIR_BATCH 32u

/* One alloc of the loops below, of a fixed or a drawn size. */
#define PAIR_SIZE(mixed, bytes, i) \
	((mixed) ? bench_sizes[(i) & (BENCH_SIZES - 1)] : (bytes))

struct pair_slot {
	void *object;
	size_t bytes;
};

static struct pair_slot pair_slots[PAIR_SET];

/* Bodies of the three suites: a chunk each. */
typedef void (*pair_body_fn)(struct peer_pool *pool, size_t bytes);

static BENCH_INLINE void
pair_body(struct peer_pool *pool, size_t bytes, bool mixed)
{
	struct peer_local local = peer_thread_begin();

	for (unsigned i = 0; i < BENCH_CHUNK_OPS; i++) {
		size_t size = PAIR_SIZE(mixed, bytes, i);
		void *object = bench_check(peer_alloc(local, pool, size));

		bench_use(object, i);
		peer_free(local, pool, object, size);
	}
}

static BENCH_INLINE void
burst_body(struct peer_pool *pool, size_t bytes, bool mixed)
{
	struct peer_local local = peer_thread_begin();

	for (unsigned i = 0; i < BENCH_CHUNK_OPS; i += PAIR_BURST) {
		for (unsigned j = 0; j < PAIR_BURST; j++) {
			size_t size = PAIR_SIZE(mixed, bytes, i + j);

			pair_slots[j].object =
			    bench_check(peer_alloc(local, pool, size));
			bench_use(pair_slots[j].object, i);
		}
		if (PEER_FLAGS & PEER_FREES_ALL) {
			peer_free_all(pool);
			continue;
		}
		for (unsigned j = 0; j < PAIR_BURST; j++)
			peer_free(local, pool, pair_slots[j].object,
			    PAIR_SIZE(mixed, bytes, i + j));
	}
}

static BENCH_INLINE void
random_body(struct peer_pool *pool, size_t bytes, bool mixed)
{
	static uint64_t state = 1;
	struct peer_local local = peer_thread_begin();
	uint64_t random = state;

	for (unsigned i = 0; i < BENCH_CHUNK_OPS; i++) {
		size_t at = bench_random(&random) % PAIR_SET;
		struct pair_slot *slot = &pair_slots[at];
		size_t old = mixed ? slot->bytes : bytes;
		size_t size = PAIR_SIZE(mixed, bytes, i);

		peer_free(local, pool, slot->object, old);
		slot->object = bench_check(peer_alloc(local, pool, size));
		if (mixed)
			slot->bytes = size;
		bench_use(slot->object, i);
	}
	state = random;
}

/* An odd stride visits 32 different slots of a power of two of them. */
static BENCH_INLINE void
batch_body(struct peer_pool *pool, size_t bytes, bool mixed)
{
	static uint64_t state = 1;
	struct peer_local local = peer_thread_begin();
	uint64_t random = state;

	for (unsigned i = 0; i < BENCH_CHUNK_OPS; i += PAIR_BATCH) {
		unsigned start = (unsigned)bench_random(&random);
		unsigned stride = (unsigned)bench_random(&random) | 1;

		for (unsigned j = 0, at = start; j < PAIR_BATCH; j++) {
			struct pair_slot *slot = &pair_slots[at % PAIR_SET];

			peer_free(local, pool, slot->object,
			    mixed ? slot->bytes : bytes);
			at += stride;
		}
		for (unsigned j = 0, at = start; j < PAIR_BATCH; j++) {
			struct pair_slot *slot = &pair_slots[at % PAIR_SET];
			size_t size = PAIR_SIZE(mixed, bytes, i + j);

			slot->object =
			    bench_check(peer_alloc(local, pool, size));
			if (mixed)
				slot->bytes = size;
			bench_use(slot->object, i);
			at += stride;
		}
	}
	state = random;
}

/* A loop for one size and one for drawn sizes, neither with a test in it. */
#define PAIR_BODIES(name)                                     \
	static BENCH_NOINLINE void name##_one(                \
	    struct peer_pool *pool, size_t bytes)             \
	{                                                     \
		name##_body(pool, bytes, false);              \
	}                                                     \
	BENCH_UNUSED static BENCH_NOINLINE void name##_mixed( \
	    struct peer_pool *pool, size_t bytes)             \
	{                                                     \
		name##_body(pool, bytes, true);               \
	}
PAIR_BODIES(pair)
PAIR_BODIES(burst)
PAIR_BODIES(random)
PAIR_BODIES(batch)

/* Chunks are whole bursts and batches, a little longer than asked for. */
static double
pair_ops(pair_body_fn body)
{
	unsigned step = body == burst_one || body == burst_mixed   ? PAIR_BURST
			: body == batch_one || body == batch_mixed ? PAIR_BATCH
								   : 1;

	return (double)((BENCH_CHUNK_OPS + step - 1) / step * step);
}

static void
pair_time(
    struct peer_pool *pool, size_t bytes, pair_body_fn body, const char *name)
{
	static struct bench_chunks chunks;

	body(pool, bytes);
	bench_chunks_begin(&chunks);
	do
		body(pool, bytes);
	while (bench_chunks_next(&chunks));
	bench_emit(
	    name, "ns_op", bench_chunks_ns(&chunks) / pair_ops(body), "ns");
}

/* One case; the set of live objects is there only for who works on it. */
static void
pair_case(size_t bytes, pair_body_fn body, bool set, const char *name)
{
	struct peer_local local = peer_thread_begin();
	struct peer_pool *pool;

	if (!bench_wanted(name))
		return;
	pool = peer_pool_open(bytes, (set ? PAIR_SET : PAIR_BURST) + 1);
	for (unsigned i = 0; set && i < PAIR_SET; i++) {
		size_t size = bytes != 0 ? bytes : PAIR_SIZE(true, bytes, i);

		pair_slots[i].bytes = size;
		pair_slots[i].object =
		    bench_check(peer_alloc(local, pool, size));
		bench_use(pair_slots[i].object, i);
	}
	pair_time(pool, bytes, body, name);
	for (unsigned i = 0; set && i < PAIR_SET; i++)
		peer_free(
		    local, pool, pair_slots[i].object, pair_slots[i].bytes);
	peer_pool_close(pool);
}

static void
suite_pair(void)
{
	if (PEER_FLAGS & PEER_FREES_ALL) {
		bench_skip("frees only all objects of a pool at once");
		return;
	}
	bench_pin(0);
	pair_case(64, pair_one, false, "64");
	pair_case(256, pair_one, false, "256");
	if (PEER_FLAGS & PEER_ANY_SIZE)
		pair_case(0, pair_mixed, false, "mixed");
}

static void
suite_burst(void)
{
	bench_pin(0);
	pair_case(64, burst_one, false, "64");
	pair_case(256, burst_one, false, "256");
	if (PEER_FLAGS & PEER_ANY_SIZE)
		pair_case(0, burst_mixed, false, "mixed");
}

static void
suite_random(void)
{
	if (PEER_FLAGS & PEER_FREES_ALL) {
		bench_skip("frees only all objects of a pool at once");
		return;
	}
	bench_pin(0);
	pair_case(64, random_one, true, "64");
	pair_case(256, random_one, true, "256");
	pair_case(64, batch_one, true, "64/batch32");
	pair_case(256, batch_one, true, "256/batch32");
	if (PEER_FLAGS & PEER_ANY_SIZE) {
		pair_case(0, random_mixed, true, "mixed");
		pair_case(0, batch_mixed, true, "mixed/batch32");
	}
}

#endif /* BENCH_OBJECT_SUITE_PAIR_H */
