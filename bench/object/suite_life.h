/* SPDX-License-Identifier: MIT */
/*
 * suite_life.h - what becomes of memory in a long life.
 *
 *   fragmentation  How much memory is resident for each byte in use, after
 *                  the sizes in demand have changed again and again?  Five
 *                  phases, each with its own range of sizes (16 to 64 bytes,
 *                  256-1024, 64-256, 1024-4096, 16-4096): nine in ten
 *                  objects of the phase before are freed, at random, so that
 *                  the tenth pins what it lies in; then the live bytes are
 *                  brought back to the same level and churned.  rss_ratio is
 *                  resident over live bytes, internal_ratio what the opponent
 *                  says it set aside for each byte asked for (external
 *                  fragmentation is the first over the second), kept_mib what
 *                  is still resident once all is freed.
 *   decay          Is it as fast and as compact after days as it was at first?
 *                  72 windows, one for each hour of the three days after which
 *                  servers are said to need a restart.  In each, sizes drift
 *                  through all classes once, most objects die young and some
 *                  stay; p99_ns of alloc and rss_ratio of the first windows
 *                  are compared with those of the last.
 *
 * Every object is written at both ends, so that all its pages are there; none is
 * larger than a page.  What an opponent keeps for a time to come, by a clock,
 * counts as resident: memory that is not there for others is not free.
 */
#ifndef BENCH_OBJECT_SUITE_LIFE_H
#define BENCH_OBJECT_SUITE_LIFE_H

struct life {
	struct tail_pools pools;
	struct pair_slot *slots;
	size_t slot_count;
	size_t slot_max;
	size_t live;      /* bytes asked for and not freed */
	size_t set_aside; /* usable bytes of the same objects */
	double resident;  /* before the first object */
	uint64_t random;
};

/* Opponents that know no sizes beforehand, or grow for each. */
static bool
life_applies(void)
{
	if (PEER_FLAGS & PEER_FREES_ALL)
		bench_skip("frees only all objects of a pool at once");
	else if (PEER_FLAGS & PEER_ONE_SIZE)
		bench_skip("sizes are part of the program text");
	else if (!(PEER_FLAGS & PEER_GROWS))
		bench_skip("its memory is fixed before the first object");
	else
		return true;
	return false;
}

static void
life_open(struct life *life, size_t slots)
{
	memset(life, 0, sizeof(*life));
	life->random = 11;
	life->slot_max = slots;
	life->slots =
	    (struct pair_slot *)bench_map(slots * sizeof(struct pair_slot));
	memset(life->slots, 0xff, slots * sizeof(struct pair_slot));
	life->resident = bench_resident();
	tail_pools_open(&life->pools, slots);
}

static void
life_free(struct life *life, struct peer_local local, size_t at)
{
	struct pair_slot *slot = &life->slots[at];
	struct peer_pool *pool = life->pools.pools[tail_class(slot->bytes)];

	life->live -= slot->bytes;
	life->set_aside -= peer_usable(pool, slot->object, slot->bytes);
	peer_free(local, pool, slot->object, slot->bytes);
}

static BENCH_INLINE void
life_touch(void *object, size_t bytes)
{
	volatile unsigned char *storage = (volatile unsigned char *)object;

	storage[0] = 1;
	storage[bytes - 1] = 1;
}

/* Fills a slot that holds nothing. */
static void
life_alloc(struct life *life, struct peer_local local, size_t at, size_t bytes)
{
	struct pair_slot *slot = &life->slots[at];
	struct peer_pool *pool = life->pools.pools[tail_class(bytes)];

	slot->object = bench_check(peer_alloc(local, pool, bytes));
	slot->bytes = bytes;
	life_touch(slot->object, bytes);
	life->live += bytes;
	life->set_aside += peer_usable(pool, slot->object, bytes);
}

static size_t
life_drawn(struct life *life, size_t below)
{
	return (size_t)(bench_random(&life->random) % below);
}

static double
life_ratio(const struct life *life)
{
	return (bench_resident() - life->resident) / (double)life->live;
}

/* A phase may take as long as so many cases of other suites, and a second. */
#define LIFE_PHASE_CASES 50u
#define LIFE_PHASE_NS UINT64_C(1000000000)

/* ---- fragmentation --------------------------------------------------------- */

struct life_phase {
	size_t low;
	size_t high;
	const char *name;
};

static const struct life_phase life_phases[] = {
    {16, 64, "mixed/phase1"},
    {256, 1024, "mixed/phase2"},
    {64, 256, "mixed/phase3"},
    {1024, 4096, "mixed/phase4"},
    {16, 4096, "mixed/phase5"},
};

static void
fragmentation_thin(struct life *life, struct peer_local local)
{
	size_t kept = 0;

	for (size_t i = 0; i < life->slot_count; i++) {
		if (life_drawn(life, 10) == 0)
			life->slots[kept++] = life->slots[i];
		else
			life_free(life, local, i);
	}
	life->slot_count = kept;
}

/* False when it took too long: a list that is searched may be very long. */
static bool
fragmentation_phase(
    struct life *life, struct peer_local local, const struct life_phase *phase)
{
	size_t span = phase->high - phase->low + 1;
	uint64_t end =
	    bench_now() + LIFE_PHASE_NS + LIFE_PHASE_CASES * bench_job.case_ns;

	fragmentation_thin(life, local);
	while (life->live < bench_job.live && life->slot_count < life->slot_max)
		life_alloc(life, local, life->slot_count++,
		    phase->low + life_drawn(life, span));
	for (size_t i = life->slot_count; i > 0; i--) {
		if (i % 1024 == 0 && bench_now() > end)
			return false;
		size_t at = life_drawn(life, life->slot_count);

		life_free(life, local, at);
		life_alloc(
		    life, local, at, phase->low + life_drawn(life, span));
	}
	bench_emit(phase->name, "rss_ratio", life_ratio(life), "x");
	return true;
}

static void
suite_fragmentation(void)
{
	static struct life life;
	struct peer_local local = peer_thread_begin();

	if (!life_applies())
		return;
	bench_pin(0);
	/* The first phase has the smallest objects, 40 bytes on average. */
	life_open(&life, bench_job.live / 32);
	for (size_t i = 0; i < sizeof(life_phases) / sizeof(*life_phases); i++)
		if (!fragmentation_phase(&life, local, &life_phases[i])) {
			bench_skip("from one of the phases on an operation "
				   "takes tens of microseconds");
			return;
		}
	bench_emit("mixed", "rss_ratio", life_ratio(&life), "x");
	if (life.set_aside > 0)
		bench_emit("mixed", "internal_ratio",
		    (double)life.set_aside / (double)life.live, "x");
	for (size_t i = 0; i < life.slot_count; i++)
		life_free(&life, local, i);
	bench_emit("mixed", "kept_mib",
	    (bench_resident() - life.resident) / 1048576.0, "MiB");
}

/* ---- decay --------------------------------------------------------------------- */

#define DECAY_WINDOWS 72u
#define DECAY_WINDOW_MIN 3u /* the first windows fill the opponent's lists */
#define DECAY_COMPARED 9u   /* windows at each end */
#define DECAY_YOUNG 1024u   /* slots of objects that die young */
#define DECAY_SAMPLE 8u     /* one alloc in so many is timed */
#define DECAY_NS_MAX 500.0  /* slower opponents would take minutes */

struct decay {
	struct life life;
	struct tail_hist hist;
	double p99[DECAY_WINDOWS];
	double ratio[DECAY_WINDOWS];
};

/* At this part of a window: mostly a class and its neighbours. */
static size_t
decay_size(struct life *life, double part)
{
	uint64_t drawn = bench_random(&life->random);
	unsigned power = (unsigned)(part * TAIL_CLASSES) + (drawn & 1);

	if ((drawn >> 1) % 4 == 0)
		power = (unsigned)(drawn >> 3) % TAIL_CLASSES;
	size_t low = (size_t)8 << power % TAIL_CLASSES;
	return low + 1 + (size_t)(drawn >> 8) % low;
}

static void
decay_op(struct decay *decay, struct peer_local local, uint64_t op, double part)
{
	struct life *life = &decay->life;
	size_t bytes = decay_size(life, part);
	size_t at =
	    op % 8 == 0
		? DECAY_YOUNG + life_drawn(life, life->slot_max - DECAY_YOUNG)
		: life_drawn(life, DECAY_YOUNG);
	struct pair_slot *slot = &life->slots[at];
	struct peer_pool *pool = life->pools.pools[tail_class(bytes)];

	life->live += bytes - slot->bytes;
	peer_free(local, life->pools.pools[tail_class(slot->bytes)],
	    slot->object, slot->bytes);
	if (op % DECAY_SAMPLE == 0) {
		uint64_t begun = tail_stamp();
		slot->object = peer_alloc(local, pool, bytes);
		tail_add(&decay->hist, tail_stamp() - begun);
	} else {
		slot->object = peer_alloc(local, pool, bytes);
	}
	slot->bytes = bytes;
	life_touch(bench_check(slot->object), bytes);
}

static uint64_t
decay_cpu(void)
{
	return bench_clock(CLOCK_THREAD_CPUTIME_ID);
}

/* Returns the processor's nanoseconds of an operation. */
static double
decay_window(
    struct decay *decay, struct peer_local local, unsigned window, double unit)
{
	uint64_t ops = bench_job.ops / DECAY_WINDOWS;
	uint64_t begun = decay_cpu();

	tail_clear(&decay->hist);
	for (uint64_t op = 0; op < ops; op++) {
		decay_op(decay, local, op, (double)op / (double)ops);
		/* A hopeless one is told from its first operations. */
		if (op == 10000 && (double)(decay_cpu() - begun) > 1e4 * 1e4)
			return 1e4;
	}
	decay->p99[window] = tail_quantile(&decay->hist, 0.99) * unit;
	decay->ratio[window] = life_ratio(&decay->life);
	return (double)(decay_cpu() - begun) / (double)ops;
}

static double
decay_median(const double *from)
{
	double values[DECAY_COMPARED];

	memcpy(values, from, sizeof(values));
	return bench_quantile(values, DECAY_COMPARED, 0.5);
}

static void
decay_emit(const struct decay *decay, double ns)
{
	const unsigned last = DECAY_WINDOWS - DECAY_COMPARED;
	double p99_start = decay_median(decay->p99 + DECAY_WINDOW_MIN);
	double p99_end = decay_median(decay->p99 + last);
	double ratio_start = decay_median(decay->ratio + DECAY_WINDOW_MIN);
	double ratio_end = decay_median(decay->ratio + last);

	for (unsigned i = 0; i < DECAY_WINDOWS; i++) {
		char name[32];

		snprintf(name, sizeof(name), "mixed/hour%02u", i + 1);
		bench_emit(name, "p99_ns", decay->p99[i], "ns");
		bench_emit(name, "rss_ratio", decay->ratio[i], "x");
	}
	bench_emit("mixed", "cpu_ns_op", ns, "ns");
	bench_emit("mixed/start", "p99_ns", p99_start, "ns");
	bench_emit("mixed/end", "p99_ns", p99_end, "ns");
	bench_emit("mixed/start", "rss_ratio", ratio_start, "x");
	bench_emit("mixed/end", "rss_ratio", ratio_end, "x");
	bench_emit("mixed", "p99_growth", p99_end / p99_start, "x");
	bench_emit("mixed", "rss_growth", ratio_end / ratio_start, "x");
}

static void
suite_decay(void)
{
	static struct decay decay;
	struct peer_local local = peer_thread_begin();
	double unit;
	double ns = 0;

	if (!life_applies())
		return;
	bench_pin(0);
	unit = tail_unit_ns();
	/*
	 * 640 bytes are the average of the sizes drawn.  Half of the live
	 * bytes of other suites: this one makes a hundred times their
	 * operations.
	 */
	life_open(&decay.life, bench_job.live / 2 / 640 + DECAY_YOUNG);
	for (size_t i = 0; i < decay.life.slot_max; i++)
		life_alloc(&decay.life, local, i,
		    decay_size(
			&decay.life, (double)i / (double)decay.life.slot_max));
	for (unsigned i = 0; i < DECAY_WINDOWS; i++) {
		double window = decay_window(&decay, local, i, unit);

		ns += window;
		/* The first window also pays for pages that are new. */
		if (i == 1 && window > DECAY_NS_MAX) {
			char why[96];

			snprintf(why, sizeof(why),
			    "%.0f ns or more an operation: %.0f million are "
			    "out of reach",
			    window, (double)bench_job.ops / 1e6);
			bench_skip(why);
			return;
		}
	}
	decay_emit(&decay, ns / DECAY_WINDOWS);
}

#endif /* BENCH_OBJECT_SUITE_LIFE_H */
