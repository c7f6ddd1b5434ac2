/* SPDX-License-Identifier: MIT */
/*
 * suite_region.h - What does memory cost that ends with a request?
 *
 * A peer that has regions defines PEER_HAS_REGIONS and
 *
 *     struct peer_region
 *     peer_region_open(load)            load: index of what will be asked of it
 *     peer_region_alloc(region, bytes)
 *     peer_region_cleanup(region, object)    has region_cleanup() called at its
 *                                            end, of any object
 *     peer_region_reset(region, last)   ends all objects, keeps the region
 *     peer_region_close(region, last)
 *
 * always inlined as far as they are not calls of a library, so that an inline
 * path is compiled into the loop as a program compiles it in.  The first word of
 * every object is written, with the address of the object before it: whoever
 * has to free each object finds them all from `last`, as programs do that link
 * what they allocate.
 *
 *   request   60 objects, most of 8 to 512 bytes, two to four of 2 to 8 KiB and
 *             one of 20 KiB, 43 KB together, and 3 cleanups
 *   small     60 objects of 8 to 512 bytes, 7.6 KB, and 3 cleanups
 *   tiny      8 objects of 8 to 128 bytes
 *   fastpath  1000 objects of 32 bytes; its times are those of one object
 *
 * Cases are named load[-reset]/live: so many regions are live, and the oldest
 * ends - is destroyed and made anew, or reset - when the next is filled.
 * rss_ratio is the resident memory, without code, for each byte asked for, with
 * 1000 live regions that were each ended and filled three times, in a process of
 * its own.
 *
 * "spike" is what a burst leaves behind: 16 regions are reset and filled with
 * `request` until they rest, then filled with a hundred requests at once, then
 * reset and filled 64 times more.  rss_ratio compares what is resident then with
 * before, p99_growth the slowest 1 % of resets and fills after the spike with
 * those before it.
 */
#ifndef BENCH_REGION_SUITE_REGION_H
#define BENCH_REGION_SUITE_REGION_H

#include <sys/wait.h>

#define REGION_PLANS 64u /* as many different requests, a power of two */
#define REGION_OBJECTS_MAX 1000u
#define REGION_LIVE_MAX 1000u
#define REGION_CHUNK 1024u /* regions ended and filled between two clocks */
#define REGION_FILLED_AGAIN 3u
#define REGION_CASE_PART 4u /* of the time of a case: there are 21 */

enum region_load {
	REGION_REQUEST,
	REGION_SMALL,
	REGION_TINY,
	REGION_FASTPATH,
	REGION_LOADS
};

/* What one region is asked for. */
struct region_plan {
	unsigned objects;
	unsigned cleanups;
	uint32_t bytes; /* all of them */
	uint32_t sizes[REGION_OBJECTS_MAX];
};

#ifdef PEER_HAS_REGIONS

#ifndef PEER_REGION_GROWS
#define PEER_REGION_GROWS 1 /* to any size */
#endif

static struct region_plan region_plans[REGION_LOADS][REGION_PLANS];

struct region_slot {
	struct peer_region *region;
	void *last;
};

static struct region_slot region_slots[REGION_LIVE_MAX];

static const char *const region_names[REGION_LOADS] = {
    "request", "small", "tiny", "fastpath"};

/* ---- what is asked for ----------------------------------------------------- */

/* As many sizes of each doubling from 8 bytes on: nearly log-uniform. */
static uint32_t
region_drawn(uint64_t *random, unsigned doublings)
{
	uint32_t low = UINT32_C(8)
		       << (unsigned)(bench_random(random) % doublings);

	return low + (uint32_t)(bench_random(random) % low);
}

static void
region_plan_small(struct region_plan *plan, uint64_t *random, unsigned objects,
    unsigned doublings)
{
	plan->objects = objects;
	for (unsigned i = 0; i < objects; i++)
		plan->sizes[i] = region_drawn(random, doublings);
}

/* Two to four objects become larger ones, and another the largest. */
static void
region_plan_request(struct region_plan *plan, uint64_t *random)
{
	unsigned larger = 2 + (unsigned)(bench_random(random) % 3);

	region_plan_small(plan, random, 60, 6);
	for (unsigned i = 0; i < larger; i++)
		plan->sizes[i * 15 + bench_random(random) % 15] =
		    2048 + (uint32_t)(bench_random(random) % 6145);
	plan->sizes[45 + bench_random(random) % 15] = 20480;
}

static void
region_plan_draw(
    struct region_plan *plan, enum region_load load, uint64_t *random)
{
	switch (load) {
	case REGION_REQUEST:
		region_plan_request(plan, random);
		plan->cleanups = 3;
		break;
	case REGION_SMALL:
		region_plan_small(plan, random, 60, 6);
		plan->cleanups = 3;
		break;
	case REGION_TINY:
		region_plan_small(plan, random, 8, 4);
		break;
	default:
		plan->objects = 1000;
		for (unsigned i = 0; i < plan->objects; i++)
			plan->sizes[i] = 32;
		break;
	}
	for (unsigned i = 0; i < plan->objects; i++)
		plan->bytes += plan->sizes[i];
}

static void
region_draw(void)
{
	uint64_t random = 5;

	for (unsigned load = 0; load < REGION_LOADS; load++)
		for (unsigned i = 0; i < REGION_PLANS; i++)
			region_plan_draw(&region_plans[load][i],
			    (enum region_load)load, &random);
}

/* ---- the loop ---------------------------------------------------------------- */

/*
 * Returns the newest object, from which all others are found.  Where memory is
 * asked about, all of it is written; where time is, one word of an object.
 */
static BENCH_INLINE void *
region_fill(struct peer_region *region, const struct region_plan *plan,
    void *last, bool whole)
{
	const uint32_t *end = plan->sizes + plan->objects;

	for (const uint32_t *size = plan->sizes; size != end; size++) {
		void *object = bench_check(peer_region_alloc(region, *size));

		if (whole)
			memset(object, 1, *size);
		bench_use(object, (uint64_t)(uintptr_t)last);
		last = object;
	}
	for (unsigned i = 0; i < plan->cleanups; i++)
		peer_region_cleanup(region, last);
	region_cleanups += plan->cleanups;
	return last;
}

/* Ends what the slot holds and fills it anew. */
static BENCH_INLINE void
region_turn(struct region_slot *slot, enum region_load load,
    const struct region_plan *plan, bool reset, bool whole)
{
	if (reset) {
		peer_region_reset(slot->region, slot->last);
	} else {
		peer_region_close(slot->region, slot->last);
		slot->region = (struct peer_region *)bench_check(
		    peer_region_open((unsigned)load));
	}
	slot->last = region_fill(slot->region, plan, NULL, whole);
}

static BENCH_INLINE const struct region_plan *
region_plan_of(enum region_load load, unsigned turn)
{
	return &region_plans[load][turn % REGION_PLANS];
}

/* By pointers, so that little but the peer's work is counted and timed. */
static BENCH_INLINE unsigned
region_turns(enum region_load load, unsigned live, unsigned at, unsigned turns,
    bool reset)
{
	const struct region_plan *plan = region_plans[load];
	const struct region_plan *plan_end = plan + REGION_PLANS;
	struct region_slot *slot = &region_slots[at];
	struct region_slot *slot_end = region_slots + live;

	for (; turns > 0; turns--) {
		region_turn(slot, load, plan, reset, false);
		if (++slot == slot_end)
			slot = region_slots;
		if (++plan == plan_end)
			plan = region_plans[load];
	}
	return (unsigned)(slot - region_slots);
}

/* Two bodies, so that neither asks what the other does. */
static BENCH_NOINLINE unsigned
region_chunk_close(
    enum region_load load, unsigned live, unsigned at, unsigned turns)
{
	return region_turns(load, live, at, turns, false);
}

static BENCH_NOINLINE unsigned
region_chunk_reset(
    enum region_load load, unsigned live, unsigned at, unsigned turns)
{
	return region_turns(load, live, at, turns, true);
}

static unsigned
region_chunk(enum region_load load, unsigned live, unsigned at, unsigned turns,
    bool reset)
{
	return reset ? region_chunk_reset(load, live, at, turns)
		     : region_chunk_close(load, live, at, turns);
}

static void
region_open_all(enum region_load load, unsigned live, bool whole)
{
	region_cleaned = 0;
	region_cleanups = 0;
	for (unsigned i = 0; i < live; i++) {
		struct region_slot *slot = &region_slots[i];

		slot->region = (struct peer_region *)bench_check(
		    peer_region_open((unsigned)load));
		slot->last = region_fill(slot->region,
		    &region_plans[load][i % REGION_PLANS], NULL, whole);
	}
}

static void
region_close_all(unsigned live)
{
	for (unsigned i = 0; i < live; i++)
		peer_region_close(region_slots[i].region, region_slots[i].last);
	if (region_cleaned != region_cleanups)
		bench_fail("%llu of %llu cleanups ran",
		    (unsigned long long)region_cleaned,
		    (unsigned long long)region_cleanups);
}

/* ---- times --------------------------------------------------------------------- */

static void
region_case(enum region_load load, unsigned live, bool reset)
{
	static struct bench_chunks chunks;
	unsigned turns = REGION_CHUNK;
	double ops = load == REGION_FASTPATH ? 1000.0 : 1.0;
	unsigned at = 0;
	char name[40];

	snprintf(name, sizeof(name), "%s%s/%u", region_names[load],
	    reset ? "-reset" : "", live);
	if (!bench_wanted(name))
		return;
	if (load == REGION_FASTPATH)
		turns /= 16; /* 1000 objects each, not 60 */
	region_open_all(load, live, false);
	region_chunk(load, live, 0, live, reset);
	bench_chunks_begin(&chunks);
	chunks.end_ns -=
	    bench_job.case_ns - bench_job.case_ns / REGION_CASE_PART;
	do
		at = region_chunk(load, live, at, turns, reset);
	while (bench_chunks_next(&chunks));
	bench_emit(name, "ns_op", bench_chunks_ns(&chunks) / turns / ops,
	    load == REGION_FASTPATH ? "ns an object" : "ns");
	region_close_all(live);
}

/* ---- memory --------------------------------------------------------------------- */

/* In a child, so that no case finds what another one left. */
static void
region_alone(void (*run)(enum region_load), enum region_load load)
{
	int status = -1;

	fflush(NULL);
	pid_t child = fork();
	if (child == 0) {
		run(load);
		fflush(NULL);
		_exit(0);
	}
	if (child < 0 || waitpid(child, &status, 0) != child)
		bench_fail("no process: %s", strerror(errno));
	if (status != 0)
		bench_fail("a child ended with status %d", status);
}

static void
region_resident(enum region_load load)
{
	double asked = 0;
	double before;

	memset(region_slots, 0, sizeof(region_slots));
	before = bench_anonymous();
	region_open_all(load, REGION_LIVE_MAX, true);
	for (unsigned i = 0; i < REGION_FILLED_AGAIN * REGION_LIVE_MAX; i++)
		region_turn(&region_slots[i % REGION_LIVE_MAX], load,
		    region_plan_of(load, i % REGION_LIVE_MAX), false, true);
	for (unsigned i = 0; i < REGION_LIVE_MAX; i++)
		asked += region_plans[load][i % REGION_PLANS].bytes;
	bench_emit(region_names[load], "rss_ratio",
	    (bench_anonymous() - before) / asked, "x");
	region_close_all(REGION_LIVE_MAX);
}

/* ---- a spike ---------------------------------------------------------------------- */

#define SPIKE_LIVE 16u
#define SPIKE_TIMES 100u
#define SPIKE_RESETS 64u /* of each region, until it has to be forgotten */
#define SPIKE_TURNS 8192u

/* Resets and fills the regions one after the other. */
static void
spike_turns(double *ns, unsigned turns)
{
	for (unsigned i = 0; i < turns; i++) {
		uint64_t begun = bench_now();

		region_turn(&region_slots[i % SPIKE_LIVE], REGION_REQUEST,
		    region_plan_of(REGION_REQUEST, i / SPIKE_LIVE), true, true);
		ns[i] = (double)(bench_now() - begun);
	}
}

static void
spike_fill(struct region_slot *slot)
{
	for (unsigned i = 0; i < SPIKE_TIMES; i++)
		slot->last = region_fill(slot->region,
		    &region_plans[REGION_REQUEST][i % REGION_PLANS], slot->last,
		    true);
}

static void
region_spike(enum region_load load)
{
	static double ns[SPIKE_TURNS];
	const unsigned first = SPIKE_LIVE * SPIKE_RESETS;
	double start;
	double before;

	memset(ns, 0xff, sizeof(ns)); /* or its pages would count */
	start = bench_resident();
	region_open_all(load, SPIKE_LIVE, true);
	for (unsigned i = 0; i < 2; i++)
		spike_turns(ns, SPIKE_TURNS);
	double p99 = bench_quantile(ns, SPIKE_TURNS, 0.99);
	before = bench_resident() - start;
	for (unsigned i = 0; i < SPIKE_LIVE; i++)
		spike_fill(&region_slots[i]);
	spike_turns(ns, first);
	bench_emit(
	    "spike", "rss_ratio", (bench_resident() - start) / before, "x");
	spike_turns(ns + first, SPIKE_TURNS - first);
	bench_emit("spike", "p99_growth",
	    bench_quantile(ns, SPIKE_TURNS, 0.99) / p99, "x");
	region_close_all(SPIKE_LIVE);
}

/* ---- the suite ----------------------------------------------------------------------- */

static void
suite_region(void)
{
	static const unsigned lives[] = {1, 64, 1000};

	region_draw();
	bench_pin(0);
	for (unsigned load = 0; load < REGION_LOADS; load++)
		if (load != REGION_FASTPATH && bench_wanted(region_names[load]))
			region_alone(region_resident, (enum region_load)load);
	if (PEER_REGION_GROWS && bench_wanted("spike"))
		region_alone(region_spike, REGION_REQUEST);
	for (unsigned i = 0; i < sizeof(lives) / sizeof(*lives); i++)
		for (unsigned load = 0; load < REGION_LOADS; load++) {
			region_case((enum region_load)load, lives[i], false);
			if (load != REGION_FASTPATH)
				region_case(
				    (enum region_load)load, lives[i], true);
		}
}

/* ---- instructions ---------------------------------------------------------------------- */

#ifdef __cplusplus
extern "C" {
#endif
BENCH_NOINLINE void weir_bench_count_region(
    unsigned load, bool reset, unsigned turns);
BENCH_NOINLINE void weir_bench_count_region_loop(unsigned load, unsigned turns);
#ifdef __cplusplus
}
#endif

/* Named on callgrind's command line: one region, ended and filled each turn. */
void
weir_bench_count_region(unsigned load, bool reset, unsigned turns)
{
	region_chunk((enum region_load)load, 1, 0, turns, reset);
}

/*
 * The same loop without the peer: it reads the sizes, writes the first word of
 * each object, always of the same one, and goes on to the next plan and slot.
 * What a peer's results are tested for, and the functions that its cleanups
 * call, are not in here and stay with the peer.
 */
void
weir_bench_count_region_loop(unsigned load, unsigned turns)
{
	const struct region_plan *plan = region_plans[load];
	const struct region_plan *plan_end = plan + REGION_PLANS;
	struct region_slot *slot = &region_slots[0];
	struct region_slot *slot_end = region_slots + 1;
	static uint64_t place[2];
	void *object = place;

	for (; turns > 0; turns--) {
		const uint32_t *end = plan->sizes + plan->objects;
		void *last = NULL;

		for (const uint32_t *size = plan->sizes; size != end; size++) {
			__asm__ volatile("" : "+r"(object) : "r"(*size));
			bench_use(object, (uint64_t)(uintptr_t)last);
			last = object;
		}
		for (unsigned i = 0; i < plan->cleanups; i++)
			__asm__ volatile("" : : "r"(last));
		slot->last = last;
		if (++slot == slot_end)
			slot = region_slots;
		if (++plan == plan_end)
			plan = region_plans[load];
	}
}

/*
 * `weir bench region --instructions`: callgrind collects inside one of the
 * functions above, which run each plan once, the first after every list and
 * symbol is as it stays.
 */
static void
suite_count_region(void)
{
	const char *only = bench_job.only != NULL ? bench_job.only : "request";
	const char *dash = strstr(only, "-reset");
	size_t length = dash != NULL ? (size_t)(dash - only) : strlen(only);
	unsigned load = 0;

	while (load < REGION_LOADS &&
	       (strlen(region_names[load]) != length ||
		   strncmp(region_names[load], only, length) != 0))
		load++;
	if (load == REGION_LOADS)
		bench_fail("unknown case '%s'", only);
	region_draw();
	region_open_all((enum region_load)load, 1, false);
	region_chunk(
	    (enum region_load)load, 1, 0, 8 * REGION_PLANS, dash != NULL);
	weir_bench_count_region(load, dash != NULL, REGION_PLANS);
	region_close_all(1);
	weir_bench_count_region_loop(load, REGION_PLANS);
}

#else /* !PEER_HAS_REGIONS */

static void
suite_region(void)
{
	bench_skip("has no regions");
}

static void
suite_count_region(void)
{
	suite_region();
}

#endif /* PEER_HAS_REGIONS */

#endif /* BENCH_REGION_SUITE_REGION_H */
