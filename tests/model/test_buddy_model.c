/* SPDX-License-Identifier: MIT */
/*
 * test_buddy_model.c - the buddy against an array that says who owns each unit.
 *
 * The twin knows nothing of orders and merges.  It predicts what a caller can
 * see: which units are out, when a request must succeed (a free aligned block
 * of the covering power of two exists) and when it must fail.
 */
#include "test.h"

#include "pages/buddy_core.h"

#include <stdlib.h>
#include <string.h>

enum { RUNS = 64 };

struct model {
	struct weiri_buddy_core core;
	struct test_rng rng;
	void *records;
	uint8_t *owner; /* unit -> run number + 1, 0: free */
	size_t units, free_units;
	struct {
		uint32_t first;
		size_t count; /* 0: not out */
	} run[RUNS];
};

static bool
model_all_free(const struct model *m, size_t from, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (from + i >= m->units || m->owner[from + i] != 0)
			return false;
	return true;
}

/* Is there a free aligned block that covers the request? */
static bool
model_would_fit(const struct model *m, size_t count, size_t align)
{
	size_t block = 1;

	while (block < count || block < align)
		block *= 2;
	for (size_t at = 0; at + block <= m->units; at += block)
		if (model_all_free(m, at, block))
			return true;
	return m->free_units == m->units && count <= m->units;
}

static void
model_mark(struct model *m, size_t from, size_t count, uint8_t from_owner,
    uint8_t to_owner)
{
	for (size_t i = 0; i < count; i++) {
		CHECK_EQ(m->owner[from + i], from_owner);
		m->owner[from + i] = to_owner;
	}
	if (to_owner == 0)
		m->free_units += count;
	else if (from_owner == 0)
		m->free_units -= count;
}

static void
model_alloc(struct model *m, size_t slot)
{
	/* Mostly small, now and then anything up to all. */
	size_t most = test_rand_below(&m->rng, 8) == 0 ? m->units : 9;
	size_t count = 1 + test_rand_below(&m->rng, most);
	size_t align = test_rand_below(&m->rng, 4) == 0
			   ? (size_t)1 << test_rand_below(&m->rng, 8)
			   : 1;
	bool fits = model_would_fit(m, count, align);
	uint32_t first = weiri_buddy_core_alloc(&m->core, count, align);

	CHECK_EQ(first != WEIRI_BUDDY_NONE, fits);
	if (!fits)
		return;
	CHECK_EQ(first % align, 0);
	CHECK_LE(first + count, m->units);
	model_mark(m, first, count, 0, (uint8_t)(slot + 1));
	m->run[slot].first = first;
	m->run[slot].count = count;
}

static void
model_free(struct model *m, size_t slot)
{
	uint32_t count = 0;

	CHECK_EQ(weiri_buddy_core_free(&m->core, m->run[slot].first, &count),
	    WEIRI_BUDDY_OK);
	CHECK_EQ(count, m->run[slot].count);
	model_mark(m, m->run[slot].first, count, (uint8_t)(slot + 1), 0);
	m->run[slot].count = 0;
}

static void
model_resize(struct model *m, size_t slot)
{
	size_t first = m->run[slot].first, old = m->run[slot].count;
	size_t count = 1 + test_rand_below(&m->rng, 2 * old + 2);
	bool fits = count <= old || model_all_free(m, first + old, count - old);
	enum weiri_buddy_result result =
	    weiri_buddy_core_resize(&m->core, first, count);

	CHECK_EQ(result, fits ? WEIRI_BUDDY_OK : WEIRI_BUDDY_FULL);
	if (!fits)
		return;
	if (count < old)
		model_mark(
		    m, first + count, old - count, (uint8_t)(slot + 1), 0);
	else
		model_mark(m, first + old, count - old, 0, (uint8_t)(slot + 1));
	m->run[slot].count = count;
}

static void
model_split(struct model *m, size_t slot, size_t other)
{
	size_t first = m->run[slot].first, old = m->run[slot].count;

	if (old < 2)
		return;

	size_t count = 1 + test_rand_below(&m->rng, old - 1);

	CHECK_EQ(
	    weiri_buddy_core_split(&m->core, first, count), WEIRI_BUDDY_OK);
	model_mark(m, first + count, old - count, (uint8_t)(slot + 1),
	    (uint8_t)(other + 1));
	m->run[slot].count = count;
	m->run[other].first = (uint32_t)(first + count);
	m->run[other].count = old - count;
}

/* A number that was never handed out as a run's first. */
static void
model_misuse(struct model *m)
{
	size_t unit = test_rand_below(&m->rng, m->units + 3);
	uint32_t count = 0;
	enum weiri_buddy_result result =
	    weiri_buddy_core_query(&m->core, unit, &count);

	if (unit >= m->units) {
		CHECK_EQ(result, WEIRI_BUDDY_OUTSIDE);
	} else if (m->owner[unit] == 0) {
		CHECK_EQ(result, WEIRI_BUDDY_FREE);
	} else if (m->run[m->owner[unit] - 1].first == unit) {
		CHECK_EQ(result, WEIRI_BUDDY_OK);
		CHECK_EQ(count, m->run[m->owner[unit] - 1].count);
		return;
	} else {
		CHECK_EQ(result, WEIRI_BUDDY_INTERIOR);
	}
	/* Refused, and nothing changed: the next check will tell. */
	CHECK_EQ(weiri_buddy_core_free(&m->core, unit, &count), result);
	CHECK_EQ(weiri_buddy_core_resize(&m->core, unit, 1), result);
}

/* A free block of an order is all free and half of nothing larger that is. */
static size_t
model_blocks(const struct model *m, size_t block)
{
	size_t blocks = 0;

	for (size_t at = 0; at + block <= m->units; at += block)
		blocks += model_all_free(m, at, block) &&
			  !model_all_free(m, at & ~(2 * block - 1), 2 * block);
	return blocks;
}

/* Twice, so that a sum over two buddies is compared too. */
static void
model_check_tally(const struct model *m, size_t longest)
{
	struct weiri_buddy_tally tally = {0};
	size_t rest = m->free_units - longest;

	weiri_buddy_core_tally(&m->core, &tally);
	weiri_buddy_core_tally(&m->core, &tally);
	CHECK_EQ(tally.free_units, 2 * m->free_units);
	CHECK_EQ(tally.largest_units, 2 * longest);
	for (unsigned order = 0; order < WEIRI_BUDDY_ORDERS; order++) {
		size_t block = (size_t)1 << order;

		CHECK_EQ(tally.blocks[order],
		    block > m->units ? 0 : 2 * model_blocks(m, block));
	}
	CHECK_EQ(weiri_buddy_fragmentation(&tally),
	    m->free_units == 0 ? 0 : rest * 1000 / m->free_units);
}

static void
model_check(const struct model *m)
{
	size_t largest = 0;
	int order = weiri_buddy_core_largest(&m->core);

	CHECK_STR(weiri_buddy_core_check(&m->core), NULL);
	CHECK_EQ(m->core.free_count, m->free_units);
	for (size_t block = 1; block <= m->units; block *= 2)
		for (size_t at = 0; at + block <= m->units; at += block)
			if (model_all_free(m, at, block)) {
				largest = block;
				break;
			}
	CHECK_EQ(order < 0 ? 0 : (size_t)1 << (unsigned)order, largest);
	if (m->free_units == m->units)
		largest = m->units;
	CHECK_EQ(weiri_buddy_core_longest(&m->core), largest);
	model_check_tally(m, largest);
}

static void
model_run(size_t units, size_t steps)
{
	static struct model m;

	memset(&m, 0, sizeof(m));
	test_rng_init(&m.rng, test_seed() + units);
	m.units = m.free_units = units;
	m.records = calloc(1, weiri_buddy_core_bytes(units));
	m.owner = calloc(1, units);
	CHECK_NOT_NULL(m.records);
	CHECK_NOT_NULL(m.owner);
	weiri_buddy_core_init(&m.core, units, m.records);
	for (size_t step = 0; step < steps; step++) {
		size_t slot = test_rand_below(&m.rng, RUNS);
		size_t other = test_rand_below(&m.rng, RUNS);
		uint64_t what = test_rand_below(&m.rng, 10);

		if (m.run[slot].count == 0)
			model_alloc(&m, slot);
		else if (what < 6)
			model_free(&m, slot);
		else if (what < 9)
			model_resize(&m, slot);
		else if (m.run[other].count == 0)
			model_split(&m, slot, other);
		if (what == 0)
			model_misuse(&m);
		if (step % 64 == 0)
			model_check(&m);
	}
	for (size_t slot = 0; slot < RUNS; slot++)
		if (m.run[slot].count > 0)
			model_free(&m, slot);
	model_check(&m);
	CHECK_EQ(m.core.free_count, units);
	CHECK_EQ(m.core.run_count, 0);
	free(m.records);
	free(m.owner);
}

TEST_LIMIT(buddy_agrees_with_an_array_of_owners, 120)
{
	const size_t units[] = {1, 2, 3, 5, 31, 64, 100, 255, 256, 1000};

	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
		model_run(units[i], test_count(20000));
}

TEST(buddy_check_finds_each_kind_of_damage)
{
	enum { UNITS = 40 };
	static uint64_t records[UNITS * 9 / 8 + 1];
	struct weiri_buddy_core core, broken;
	uint64_t saved[sizeof(records) / sizeof(records[0])];

	weiri_buddy_core_init(&core, UNITS, records);
	CHECK_EQ(weiri_buddy_core_alloc(&core, 3, 1), 32);
	CHECK_EQ(weiri_buddy_core_alloc(&core, 1, 1), 35);
	CHECK_EQ(weiri_buddy_core_alloc(&core, 2, 2), 36);
	CHECK_STR(weiri_buddy_core_check(&core), NULL);
	memcpy(saved, records, sizeof(saved));

#define DAMAGE(what, number)                                       \
	do {                                                       \
		broken = core;                                     \
		what;                                              \
		const char *why = weiri_buddy_core_check(&broken); \
		CHECK_NOT_NULL(why);                               \
		CHECK_CONTAINS(why, number);                       \
		memcpy(records, saved, sizeof(saved));             \
		CHECK_STR(weiri_buddy_core_check(&core), NULL);    \
	} while (0)

	DAMAGE(core.link[32].next = 0, "B1");
	DAMAGE(core.link[32].next = 9, "B1");
	DAMAGE(core.link[32].next = 2, "B1");
	DAMAGE(core.state[33] = 0x80, "B1");
	DAMAGE(core.state[0] = 0x46, "B2");
	DAMAGE(core.state[0] = 0xc5, "B2");
	DAMAGE((core.state[36] = 0x41, broken.free_count += 2), "B3");
	DAMAGE(broken.order_mask = 0, "B4");
	DAMAGE(broken.blocks[5]++, "B4");
	DAMAGE(broken.blocks[7]++, "B4");
	DAMAGE(broken.free[5] = WEIRI_BUDDY_NONE, "B4");
	DAMAGE(core.link[0].next = 32, "B4");
	DAMAGE(core.link[0].prev = 5, "B4");
	DAMAGE(core.link[0].next = 0, "B4");
	DAMAGE(broken.free_count++, "B5");
	DAMAGE(broken.run_count--, "B5");
#undef DAMAGE
}
