/* SPDX-License-Identifier: MIT */
/*
 * test_buffer_model.c - random operations on a buffer pool against a twin made
 * of malloc, an array and plain counters.
 *
 * With one thread nothing about the pool is left to chance: an acquire succeeds
 * exactly when the tier that fits has room and limit_bytes allows it, and a
 * buffer's bytes are what the twin's copy says until the twin's count is 0.
 */
#include "test.h"

#include "guard/guard.h"

#include <weir/buffer_limit.h>

#include <stdlib.h>
#include <string.h>

#define HOLDINGS_MAX 3000

/* One buffer of the model: its copy, and how many references there are. */
struct twin {
	struct weir_buffer *buffer;
	unsigned char *copy;
	size_t bytes;
	size_t tier; /* tier_count of the model: foreign memory */
	uint32_t references;
	bool wipe;
};

/* One reference, as a caller would hold it. */
struct holding {
	struct twin *twin;
	struct weir_slice slice;
};

struct model {
	struct test_rng rng;
	struct weir_buffer_pool_config config;
	struct weir_buffer_pool *pool;
	struct holding held[HOLDINGS_MAX];
	size_t count;
	size_t tier_held[WEIR_BUFFER_TIERS_MAX];
	size_t missing[WEIR_BUFFER_TIERS_MAX]; /* of the reserve */
	uint64_t tier_failures[WEIR_BUFFER_TIERS_MAX];
	uint64_t bytes_held; /* with what is reserved and not out */
	size_t foreign_held;
	size_t sent; /* out of the reserve */
	size_t refused, served;
};

static size_t
below(struct model *m, size_t bound)
{
	return (size_t)test_rand_below(&m->rng, bound);
}

static void
hold(struct model *m, struct twin *twin, struct weir_slice slice)
{
	CHECK_LT(m->count, HOLDINGS_MAX);
	m->held[m->count++] = (struct holding){twin, slice};
}

static void
verify(const struct holding *h)
{
	CHECK_EQ(weir_buffer_references(h->twin->buffer), h->twin->references);
	CHECK_MEM(weir_slice_data(h->slice), h->twin->copy + h->slice.offset,
	    h->slice.bytes);
}

/* Writes a part of the slice, in the buffer and in its copy. */
static void
scribble(struct model *m, struct holding *h)
{
	if (h->slice.bytes == 0)
		return;

	size_t from = below(m, h->slice.bytes);
	size_t bytes = 1 + below(m, h->slice.bytes - from);
	struct weir_slice part = weir_slice_sub(h->slice, from, bytes);
	unsigned char *data = weir_slice_data(part);

	/* The ends show overlaps best; random bytes throughout cost time. */
	memset(data, (int)below(m, 256), bytes);
	data[0] = (unsigned char)below(m, 256);
	data[bytes - 1] = (unsigned char)below(m, 256);
	memcpy(h->twin->copy + part.offset, data, bytes);
}

static struct twin *
twin_make(struct weir_buffer *b, size_t tier)
{
	struct twin *twin = calloc(1, sizeof(*twin));

	CHECK_NOT_NULL(twin);
	twin->buffer = b;
	twin->bytes = b->bytes;
	twin->tier = tier;
	twin->references = 1;
	twin->copy = malloc(b->bytes);
	CHECK_NOT_NULL(twin->copy);
	memcpy(twin->copy, b->data, b->bytes);
	return twin;
}

/* For one that may not use the reserve. */
static bool
do_acquire_room(const struct model *m, size_t tier)
{
	const struct weir_buffer_tier *config = &m->config.tier[tier];
	size_t out = m->tier_held[tier] + config->reserve - m->missing[tier];

	return (config->limit == 0 || out < config->limit) &&
	       (m->config.limit_bytes == 0 ||
		   m->bytes_held + config->bytes <= m->config.limit_bytes);
}

static void
do_acquire(struct model *m)
{
	size_t tiers = m->config.tier_count;
	size_t largest = m->config.tier[tiers - 1].bytes;
	/* Sizes even over the tiers, and now and then above the largest. */
	size_t wish = below(m, 50) == 0
			  ? largest + 1 + below(m, 100)
			  : below(m, m->config.tier[below(m, tiers)].bytes + 1);
	size_t tier = 0;

	while (tier < tiers && m->config.tier[tier].bytes < wish)
		tier++;

	struct weir_buffer_want want = {
	    .bytes = wish, .use = (enum weir_buffer_use)below(m, 3)};
	bool room = tier < tiers && do_acquire_room(m, tier);
	struct weir_buffer *b = want.use == WEIR_BUFFER_RECEIVE
				    ? weir_buffer_acquire(m->pool, wish)
				    : weir_buffer_acquire_for(m->pool, &want);

	if (!room && tier < tiers && want.use == WEIR_BUFFER_SEND &&
	    m->missing[tier] < m->config.tier[tier].reserve) {
		/* It was counted already. */
		m->missing[tier]++;
		m->bytes_held -= m->config.tier[tier].bytes;
		m->sent++;
		room = true;
	}

	if (!room) {
		CHECK_NULL(b);
		m->tier_failures[tier < tiers ? tier : tiers - 1]++;
		m->refused++;
		return;
	}
	CHECK_NOT_NULL(b);
	CHECK_EQ(b->bytes, m->config.tier[tier].bytes);
	CHECK_NULL(b->user);
	m->served++;
	m->tier_held[tier]++;
	m->bytes_held += b->bytes;

	struct twin *twin = twin_make(b, tier);

	b->user = twin;
	hold(m, twin, weir_slice_make(b, 0, b->bytes));
	scribble(m, &m->held[m->count - 1]);
}

static void
foreign_release(struct weir_buffer *b, void *context)
{
	struct model *m = context;
	struct twin *twin = b->user;

	for (size_t i = 0; i < twin->bytes; i++)
		CHECK_EQ(b->data[i], twin->wipe ? 0 : twin->copy[i]);
	m->foreign_held--;
	free(b);
}

static void
do_foreign(struct model *m)
{
	size_t bytes = 1 + below(m, 3000);
	struct weir_buffer *b = malloc(sizeof(*b) + bytes);

	CHECK_NOT_NULL(b);
	memset(b + 1, 0x11, bytes);
	weir_buffer_init_external(b, b + 1, bytes, foreign_release, m);
	m->foreign_held++;
	b->user = twin_make(b, m->config.tier_count);
	hold(m, b->user, weir_slice_make(b, 0, bytes));
}

/* A second reference: to the same bytes, or to a part of them. */
static void
do_retain(struct model *m)
{
	struct holding *h = &m->held[below(m, m->count)];
	size_t from = below(m, h->slice.bytes + 1);
	size_t bytes = below(m, h->slice.bytes - from + 1);

	verify(h);
	if (below(m, 2) == 0) {
		h->twin->references++;
		hold(m, h->twin,
		    weir_slice_retain(weir_slice_sub(h->slice, from, bytes)));
		return;
	}

	uint32_t many = (uint32_t)below(m, 5);

	CHECK_PTR(
	    weir_buffer_retain_many(h->twin->buffer, many), h->twin->buffer);
	h->twin->references += many;
	for (uint32_t i = 0; i < many; i++)
		hold(m, h->twin, weir_slice_sub(h->slice, from, bytes));
}

static void
twin_end(struct model *m, struct twin *twin)
{
	if (twin->tier < m->config.tier_count) {
		m->tier_held[twin->tier]--;
		if (m->missing[twin->tier] > 0)
			m->missing[twin->tier]--;
		else
			m->bytes_held -= twin->bytes;
	}
	free(twin->copy);
	free(twin);
}

static void
release_at(struct model *m, size_t at)
{
	struct holding h = m->held[at];
	bool last = h.twin->references == 1;
	bool foreign = h.twin->tier == m->config.tier_count;
	bool wipe = h.twin->wipe;
	unsigned char *data = h.twin->buffer->data;
	size_t bytes = h.twin->bytes;

	verify(&h);
	m->held[at] = m->held[--m->count];
	h.twin->references--;
	weir_slice_release(&h.slice);
	CHECK_NULL(h.slice.buffer);
	if (!last)
		return;
	twin_end(m, h.twin);
	/* The pool keeps free payload mapped while nobody trims. */
	/* Under guard nobody may look. */
	foreign |= weiri_guard_covers(data);
	for (size_t i = 0; wipe && !foreign && i < bytes; i++)
		CHECK_EQ(data[i], 0);
	CHECK_NULL(weir_buffer_of(data));
}

static void
do_look(struct model *m)
{
	struct holding *h = &m->held[below(m, m->count)];

	verify(h);
	if (h->twin->tier == m->config.tier_count) {
		CHECK_NULL(weir_buffer_of(h->twin->buffer->data));
		return;
	}
	CHECK_PTR(
	    weir_buffer_of(h->twin->buffer->data + below(m, h->twin->bytes)),
	    h->twin->buffer);
}

static void
do_mark(struct model *m)
{
	struct holding *h = &m->held[below(m, m->count)];

	weir_buffer_set_wipe(h->twin->buffer);
	h->twin->wipe = true;
}

/* Up or down, also below what is held. */
static void
do_limit(struct model *m)
{
	m->config.limit_bytes = 50000 + below(m, 100000);
	CHECK_EQ(
	    weir_buffer_pool_set_limit_bytes(m->pool, m->config.limit_bytes),
	    0);
}

static void
compare_figures(struct model *m)
{
	CHECK(weir_buffer_pool_check(m->pool));
	for (size_t t = 0; t < m->config.tier_count; t++) {
		struct weir_pool_stats s = {.size = sizeof(s)};

		CHECK_EQ(weir_buffer_pool_stats(m->pool, t, &s), 0);
		CHECK_EQ(s.in_use, m->tier_held[t]);
		CHECK_EQ(
		    s.bytes_in_use, m->tier_held[t] * m->config.tier[t].bytes);
		CHECK_EQ(s.failures, m->tier_failures[t]);
		CHECK_EQ(s.total, s.in_use + s.available);
		CHECK_LE(s.total, s.limit);
		CHECK_GE(s.bytes_mapped, s.total * m->config.tier[t].bytes);
	}
}

static void
step(struct model *m, bool growing)
{
	size_t dice = below(m, 100);

	if (m->count == 0 || (dice < (growing ? 40 : 15))) {
		if (m->count < HOLDINGS_MAX - 8) {
			if (below(m, 10) == 0)
				do_foreign(m);
			else
				do_acquire(m);
		}
	} else if (dice < 50) {
		if (m->count < HOLDINGS_MAX - 8)
			do_retain(m);
	} else if (dice < 55) {
		scribble(m, &m->held[below(m, m->count)]);
	} else if (dice < 58) {
		do_look(m);
	} else if (dice < 59) {
		do_mark(m);
	} else {
		release_at(m, below(m, m->count));
	}
}

static void
run(const struct weir_buffer_pool_config *config)
{
	struct model *m = calloc(1, sizeof(*m));
	size_t steps = test_count(300000);

	CHECK_NOT_NULL(m);
	test_rng_init(&m->rng, test_seed());
	m->config = *config;
	CHECK_EQ(weir_buffer_pool_create("model", config, &m->pool), 0);
	for (size_t t = 0; t < config->tier_count; t++)
		m->bytes_held +=
		    (uint64_t)config->tier[t].reserve * config->tier[t].bytes;
	for (size_t i = 0; i < steps; i++) {
		/* Waves: up to what the limits allow, and down again. */
		step(m, i / 8192 % 2 == 0);
		if (i % 4096 == 0)
			compare_figures(m);
		if (below(m, 20000) == 0)
			weir_buffer_pool_trim(m->pool);
		if (config->limit_bytes != 0 && below(m, 5000) == 0)
			do_limit(m);
	}
	CHECK_GT(m->served, 0);
	CHECK_GT(m->refused, 0);
	while (m->count > 0)
		release_at(m, m->count - 1);
	for (size_t t = 0; t < config->tier_count; t++) {
		CHECK_EQ(m->missing[t], 0);
		m->bytes_held -=
		    (uint64_t)config->tier[t].reserve * config->tier[t].bytes;
		CHECK(config->tier[t].reserve == 0 || m->sent > 0);
	}
	CHECK_EQ(m->bytes_held, 0);
	CHECK_EQ(m->foreign_held, 0);
	compare_figures(m);
	weir_buffer_pool_trim(m->pool);
	compare_figures(m);
	weir_buffer_pool_destroy(m->pool);
	free(m);
}

TEST_LIMIT(buffer_model_with_default_sizes_and_no_limit, 120)
{
	struct weir_buffer_pool_config config = {
	    .tier = {{.bytes = 64}, {.bytes = 512}, {.bytes = 2048},
		{.bytes = 8192}, {.bytes = 32768}, {.bytes = 65536}},
	    .tier_count = 6,
	};

	run(&config);
}

TEST_LIMIT(buffer_model_with_tier_limits, 120)
{
	struct weir_buffer_pool_config config = {
	    .tier = {{.bytes = 48, .limit = 100, .prealloc = 20},
		{.bytes = 1500, .limit = 7}, {.bytes = 4096, .limit = 1},
		{.bytes = 5000, .limit = 33, .prealloc = 33}},
	    .tier_count = 4,
	};

	run(&config);
}

TEST_LIMIT(buffer_model_with_a_limit_in_bytes, 120)
{
	struct weir_buffer_pool_config config = {
	    .tier = {{.bytes = 64}, {.bytes = 700, .limit = 60},
		{.bytes = 9000}},
	    .tier_count = 3,
	    .limit_bytes = 100000,
	    .flags = 0,
	};

	run(&config);
}

TEST_LIMIT(buffer_model_with_a_reserve, 120)
{
	struct weir_buffer_pool_config config = {
	    .tier = {{.bytes = 64, .limit = 90, .reserve = 10},
		{.bytes = 700, .limit = 600, .reserve = 3},
		{.bytes = 9000, .reserve = 1}},
	    .tier_count = 3,
	    .limit_bytes = 100000,
	};

	run(&config);
}
