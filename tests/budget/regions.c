/* SPDX-License-Identifier: MIT */
/*
 * regions.c - whole regions: made, filled and ended, or reset.
 *
 * regions.sh counts the instructions under callgrind, those of everything called
 * included, for each of the functions below that end in _turn.  The loads are
 * those of `weir bench region` with sizes that repeat: what a region needs is
 * known to its kind, and the block it ends with is the next one's.
 *
 * The floor is a pointer that moves through a block that is always there and
 * always large enough, in the same loop.
 */
#include <weir/region.h>

#include <stdlib.h>

/* regions.sh divides by it. */
#define ROUNDS 1000
#define WARM 200

#define PLANS 16
#define OBJECTS_MAX 1000

#define ALONE __attribute__((noinline))
#define IN_LINE static inline __attribute__((always_inline))

struct plan {
	unsigned objects, cleanups;
	uint32_t sizes[OBJECTS_MAX];
};

static struct plan request[PLANS], tiny[PLANS], fastpath[1];

/* ---- what is asked for ---------------------------------------------------- */

static uint32_t
draw(uint32_t below)
{
	static uint64_t state = 88172645463325252U;

	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (uint32_t)(state >> 32) % below;
}

/* As many sizes of each doubling from 8 bytes on. */
static void
plan_small(struct plan *plan, unsigned objects, unsigned doublings)
{
	plan->objects = objects;
	for (unsigned i = 0; i < objects; i++) {
		uint32_t low = UINT32_C(8) << draw(doublings);

		plan->sizes[i] = low + draw(low);
	}
}

static void
plan_all(void)
{
	for (unsigned i = 0; i < PLANS; i++) {
		unsigned larger = 2 + draw(3);

		plan_small(&request[i], 60, 6);
		for (unsigned j = 0; j < larger; j++)
			request[i].sizes[j * 15 + draw(15)] = 2048 + draw(6145);
		request[i].sizes[45 + draw(15)] = 20480;
		request[i].cleanups = 3;
		plan_small(&tiny[i], 8, 4);
	}
	fastpath[0].objects = 1000;
	for (unsigned i = 0; i < 1000; i++)
		fastpath[0].sizes[i] = 32;
}

/* ---- the floor -------------------------------------------------------------- */

struct node {
	struct node *next;
	void (*run)(void *object);
	void *object;
};

struct floor {
	char *next, *end;
	struct node *cleanups;
};

IN_LINE void *
floor_alloc(struct floor *region, size_t bytes)
{
	char *object = region->next;

	bytes = (bytes + 15) & ~(size_t)15;
	if (__builtin_expect(bytes > (size_t)(region->end - object), 0))
		abort();
	region->next = object + bytes;
	return object;
}

static unsigned cleaned;

static void
cleanup(void *object)
{
	(void)object;
	cleaned++;
}

ALONE static void
floor_turn(struct floor *region, const struct plan *plan)
{
	void *last = NULL;

	for (struct node *node = region->cleanups; node != NULL;
	     node = node->next)
		node->run(node->object);
	region->cleanups = NULL;
	region->next = (char *)(region + 1);
	for (unsigned i = 0; i < plan->objects; i++) {
		void **object = floor_alloc(region, plan->sizes[i]);

		*object = last;
		last = object;
	}
	for (unsigned i = 0; i < plan->cleanups; i++) {
		struct node *node = floor_alloc(region, sizeof(*node));

		node->run = cleanup;
		node->object = last;
		node->next = region->cleanups;
		region->cleanups = node;
	}
}

/* ---- regions ------------------------------------------------------------------ */

IN_LINE void
fill(struct weir_region *region, const struct plan *plan)
{
	void *last = NULL;

	for (unsigned i = 0; i < plan->objects; i++) {
		void **object = weir_region_alloc(region, plan->sizes[i]);

		if (__builtin_expect(object == NULL, 0))
			abort();
		*object = last;
		last = object;
	}
	for (unsigned i = 0; i < plan->cleanups; i++)
		if (weir_region_cleanup_add(region, cleanup, last) == NULL)
			abort();
}

IN_LINE struct weir_region *
renew(struct weir_region *region, struct weir_region_kind *kind,
    const struct weir_region_config *config)
{
	weir_region_destroy(region);
	if (weir_region_create(kind, config, &region) != 0)
		abort();
	return region;
}

#define TURN(name)                                                            \
	static struct weir_region_kind name##_kind = WEIR_REGION_KIND(#name); \
	ALONE static struct weir_region *name##_turn(                         \
	    struct weir_region *region, const struct plan *plan)              \
	{                                                                     \
		region = renew(region, &name##_kind, NULL);                   \
		fill(region, plan);                                           \
		return region;                                                \
	}                                                                     \
	ALONE static struct weir_region *name##_reset_turn(                   \
	    struct weir_region *region, const struct plan *plan)              \
	{                                                                     \
		weir_region_reset(region);                                    \
		fill(region, plan);                                           \
		return region;                                                \
	}

TURN(request)
TURN(tiny)
TURN(fastpath)

/* A limit, never reached, and a name; all regions of the kind have them. */
#define TURN_LIMIT(load)                                             \
	static struct weir_region_kind load##_limit_kind =           \
	    WEIR_REGION_KIND(#load " limit");                        \
	ALONE static struct weir_region *load##_limit_turn(          \
	    struct weir_region *region, const struct plan *plan)     \
	{                                                            \
		static const struct weir_region_config config = {    \
		    .limit_bytes = (uint64_t)1 << 30,                \
		    .name = "limited",                               \
		};                                                   \
                                                                     \
		region = renew(region, &load##_limit_kind, &config); \
		fill(region, plan);                                  \
		return region;                                       \
	}

TURN_LIMIT(request)
TURN_LIMIT(tiny)

typedef struct weir_region *turn_fn(
    struct weir_region *region, const struct plan *plan);

static void
run(turn_fn *turn, struct weir_region_kind *kind, const struct plan *plans,
    unsigned plan_count, unsigned rounds)
{
	struct weir_region *region;

	if (weir_region_create(kind, NULL, &region) != 0)
		abort();
	for (unsigned i = 0; i < rounds; i++)
		region = turn(region, &plans[i % plan_count]);
	weir_region_destroy(region);
}

static void
run_all(unsigned rounds)
{
	static char block[96 << 10];
	struct floor *floor = (void *)block;

	floor->end = block + sizeof(block);
	for (unsigned i = 0; i < rounds; i++)
		floor_turn(floor, &request[i % PLANS]);
	run(request_turn, &request_kind, request, PLANS, rounds);
	run(request_reset_turn, &request_kind, request, PLANS, rounds);
	run(request_limit_turn, &request_limit_kind, request, PLANS, rounds);
	run(tiny_limit_turn, &tiny_limit_kind, tiny, PLANS, rounds);
	run(tiny_turn, &tiny_kind, tiny, PLANS, rounds);
	run(tiny_reset_turn, &tiny_kind, tiny, PLANS, rounds);
	run(fastpath_turn, &fastpath_kind, fastpath, 1, rounds);
	run(fastpath_reset_turn, &fastpath_kind, fastpath, 1, rounds);
}

/* regions.sh has callgrind begin here: kinds know their sizes by then. */
ALONE static void
counted(void)
{
	run_all(ROUNDS);
	__asm__ volatile("");
}

int
main(void)
{
	plan_all();
	run_all(WARM);
	counted();
	return 0;
}
