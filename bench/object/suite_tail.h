/* SPDX-License-Identifier: MIT */
/*
 * suite_tail.h - How long does the slow one in a hundred, or in a thousand,
 * take?
 *
 * Of 4096 live objects of 16 to 4096 bytes, each size class as likely as the
 * next, one at random is freed and another taken in its place, again and again;
 * every alloc is timed by the processor's time stamp.  What the two time stamps
 * themselves take is subtracted.  Opponents that serve one size a pool get a
 * pool for each power of two and are told which; that look-up is not timed.
 *
 * Counters of virtual machines may move in steps of 10 ns: nothing below
 * step_ns can be told apart, and is reported as one step.
 *
 * Maxima are not reported: on a shared machine they are the scheduler's.
 */
#ifndef BENCH_OBJECT_SUITE_TAIL_H
#define BENCH_OBJECT_SUITE_TAIL_H

#define TAIL_CLASSES 9u /* 16, 32 ... 4096 */
#define TAIL_SET 4096u
#define TAIL_BUCKETS 8192u
#define TAIL_SAMPLES_MIN 100000u
#define TAIL_STEP 1000u
#define TAIL_PROBES 1000u

/* Stamps in the unit of the counter; processors without one use the clock. */
static BENCH_INLINE uint64_t
tail_stamp(void)
{
#if defined(__x86_64__)
	unsigned cpu;
	uint64_t stamp;

	/* rdtscp waits for what came before, lfence holds what comes after. */
	stamp = __builtin_ia32_rdtscp(&cpu);
	__asm__ volatile("lfence" : : : "memory");
	return stamp;
#else
	return bench_now();
#endif
}

/* Nanoseconds a unit of the counter takes. */
BENCH_UNUSED static double
tail_unit_ns(void)
{
	uint64_t begun = bench_now();
	uint64_t stamp = tail_stamp();

	while (bench_now() - begun < 5000000)
		;
	uint64_t stamps = tail_stamp() - stamp;
	return (double)(bench_now() - begun) / (double)stamps;
}

/* Times in stamps; the last bucket holds all that took longer. */
struct tail_hist {
	uint64_t count;
	uint64_t empty; /* what an empty measurement takes */
	uint64_t step;  /* the counter's own: nothing shorter can be told */
	uint32_t buckets[TAIL_BUCKETS];
	uint32_t longer[64]; /* by power of two */
};

static BENCH_INLINE void
tail_add(struct tail_hist *hist, uint64_t stamps)
{
	stamps = stamps > hist->empty ? stamps - hist->empty : 0;
	if (BENCH_LIKELY(stamps < TAIL_BUCKETS))
		hist->buckets[stamps]++;
	else
		hist->longer[63 - __builtin_clzll(stamps)]++;
	hist->count++;
}

BENCH_UNUSED static void
tail_clear(struct tail_hist *hist)
{
	double values[TAIL_PROBES];

	memset(hist, 0, sizeof(*hist));
	for (unsigned i = 0; i < TAIL_PROBES; i++) {
		uint64_t begun = tail_stamp();
		values[i] = (double)(tail_stamp() - begun);
	}
	hist->empty = (uint64_t)bench_quantile(values, TAIL_PROBES, 0.5);
	/* The smallest difference between two that differ. */
	hist->step = UINT64_MAX;
	for (unsigned i = 1; i < TAIL_PROBES; i++) {
		uint64_t more = (uint64_t)(values[i] - values[i - 1]);

		if (more > 1 && more < hist->step)
			hist->step = more;
	}
	if (hist->step == UINT64_MAX)
		hist->step = 1;
}

BENCH_UNUSED static double
tail_rank(const struct tail_hist *hist, double part)
{
	uint64_t rank = (uint64_t)(part * (double)hist->count);
	uint64_t seen = 0;

	for (unsigned i = 0; i < TAIL_BUCKETS; i++) {
		seen += hist->buckets[i];
		if (seen > rank)
			return i;
	}
	for (unsigned i = 0; i < 64; i++) {
		seen += hist->longer[i];
		if (seen > rank)
			return (double)(UINT64_C(3) << i) / 2.0;
	}
	return 0;
}

/* In stamps, of the counter's step at least. */
BENCH_UNUSED static double
tail_quantile(const struct tail_hist *hist, double part)
{
	double quantile = tail_rank(hist, part);
	double step = (double)hist->step;

	return quantile > step ? quantile : step;
}

/* ---- objects of many sizes, for this suite and those of long lives -------- */

struct tail_pools {
	struct peer_pool *pools[TAIL_CLASSES];
};

static BENCH_INLINE unsigned
tail_class(size_t bytes)
{
	if (PEER_FLAGS & PEER_ANY_SIZE)
		return 0;
	return bytes <= 16 ? 0 : 60u - (unsigned)__builtin_clzll(bytes - 1);
}

BENCH_UNUSED static void
tail_pools_open(struct tail_pools *pools, size_t objects)
{
	if (PEER_FLAGS & PEER_ANY_SIZE)
		pools->pools[0] = peer_pool_open(0, objects);
	else
		for (unsigned i = 0; i < TAIL_CLASSES; i++)
			pools->pools[i] =
			    peer_pool_open((size_t)16 << i, objects);
}

BENCH_UNUSED static void
tail_pools_close(struct tail_pools *pools)
{
	if (PEER_FLAGS & PEER_ANY_SIZE)
		peer_pool_close(pools->pools[0]);
	else
		for (unsigned i = 0; i < TAIL_CLASSES; i++)
			peer_pool_close(pools->pools[i]);
}

/* A size of 9 to 4096 bytes, every doubling as likely as the others. */
static BENCH_INLINE size_t
tail_size(uint64_t drawn)
{
	unsigned power = (unsigned)(drawn % TAIL_CLASSES);
	size_t low = (size_t)8 << power;

	return low + 1 + (drawn >> 8) % low;
}

/* ---- the suite ----------------------------------------------------------------- */

static struct pair_slot tail_slots[TAIL_SET];

static BENCH_NOINLINE void
tail_step(struct tail_pools *pools, struct tail_hist *hist, uint64_t *random)
{
	struct peer_local local = peer_thread_begin();

	for (unsigned i = 0; i < TAIL_STEP; i++) {
		struct pair_slot *slot =
		    &tail_slots[bench_random(random) % TAIL_SET];
		size_t bytes = tail_size(bench_random(random));
		struct peer_pool *pool = pools->pools[tail_class(bytes)];

		peer_free(local, pools->pools[tail_class(slot->bytes)],
		    slot->object, slot->bytes);
		uint64_t begun = tail_stamp();
		void *object = peer_alloc(local, pool, bytes);
		tail_add(hist, tail_stamp() - begun);
		slot->object = bench_check(object);
		slot->bytes = bytes;
		bench_use(object, i);
	}
}

static void
tail_fill(struct tail_pools *pools, uint64_t *random)
{
	struct peer_local local = peer_thread_begin();

	for (unsigned i = 0; i < TAIL_SET; i++) {
		size_t bytes = tail_size(bench_random(random));

		tail_slots[i].bytes = bytes;
		tail_slots[i].object = bench_check(
		    peer_alloc(local, pools->pools[tail_class(bytes)], bytes));
	}
}

/* Runs the load and leaves its times in the histogram. */
static void
tail_measure(struct tail_hist *hist)
{
	struct peer_local local = peer_thread_begin();
	struct tail_pools pools;
	uint64_t random = 7;
	uint64_t end;

	bench_pin(0);
	tail_pools_open(&pools, TAIL_SET);
	tail_fill(&pools, &random);
	tail_clear(hist);
	for (unsigned i = 0; i < 20; i++)
		tail_step(&pools, hist, &random);
	tail_clear(hist);
	end = bench_now() + bench_job.case_ns;
	while (bench_now() < end || hist->count < TAIL_SAMPLES_MIN)
		tail_step(&pools, hist, &random);
	for (unsigned i = 0; i < TAIL_SET; i++)
		peer_free(local, pools.pools[tail_class(tail_slots[i].bytes)],
		    tail_slots[i].object, tail_slots[i].bytes);
	tail_pools_close(&pools);
}

static void
suite_tail(void)
{
	static struct tail_hist hist;
	double unit;

	if (PEER_FLAGS & (PEER_FREES_ALL | PEER_ONE_SIZE)) {
		bench_skip(PEER_FLAGS & PEER_FREES_ALL
			       ? "frees only all objects of a pool at once"
			       : "sizes are part of the program text");
		return;
	}
	bench_pin(0);
	unit = tail_unit_ns();
	tail_measure(&hist);
	bench_emit("mixed", "step_ns", (double)hist.step * unit, "ns");
	bench_emit("mixed", "p50_ns", tail_quantile(&hist, 0.5) * unit, "ns");
	bench_emit("mixed", "p99_ns", tail_quantile(&hist, 0.99) * unit, "ns");
	bench_emit(
	    "mixed", "p99.9_ns", tail_quantile(&hist, 0.999) * unit, "ns");
}

#endif /* BENCH_OBJECT_SUITE_TAIL_H */
