/* SPDX-License-Identifier: MIT */
/*
 * test_bounded_model.c - the bounded pool against an array of flags.
 *
 * Random shapes and random calls, right and wrong ones.  The twin knows which
 * objects are out; from that and an object's number it predicts every answer:
 * alloc fails only when all are out, a batch gets what there is, each wrong
 * pointer is named for what it is.
 */
#include "test.h"

#include <weir/bounded.h>

#include <stdlib.h>
#include <string.h>

struct model {
	struct weir_bounded_config config;
	struct weir_bounded *pool;
	struct test_rng rng;
	bool *out;
	size_t out_count, peak, failures, stride, align;
};

static void
model_took(struct model *m, void *object)
{
	size_t index = weir_bounded_index(m->pool, object);

	CHECK_LT(index, m->config.object_count);
	CHECK(!m->out[index]);
	CHECK_EQ((uintptr_t)object % m->align, 0);
	m->out[index] = true;
	m->out_count++;
	if (m->out_count > m->peak)
		m->peak = m->out_count;
}

static void
model_alloc(struct model *m, bool one_hint)
{
	bool fits = m->out_count < m->config.object_count;
	void *object =
	    weir_bounded_alloc_hint(m->pool, one_hint ? 3 : test_rand(&m->rng));

	CHECK_EQ(object != NULL, fits);
	if (fits)
		model_took(m, object);
	else
		m->failures++;
}

static void
model_alloc_batch(struct model *m)
{
	void *object[80];
	size_t want = test_rand_below(&m->rng, 81);
	size_t left = m->config.object_count - m->out_count;
	size_t got = weir_bounded_alloc_batch(m->pool, object, want);

	CHECK_EQ(got, want < left ? want : left);
	m->failures += got < want;
	for (size_t i = 0; i < got; i++)
		model_took(m, object[i]);
}

static void
model_free(struct model *m)
{
	size_t index = test_rand_below(&m->rng, m->config.object_count);
	void *object = weir_bounded_object(m->pool, index);

	CHECK_EQ(weir_bounded_try_free(m->pool, object),
	    m->out[index] ? WEIR_BOUNDED_FREED : WEIR_BOUNDED_DOUBLE_FREE);
	m->out_count -= m->out[index];
	m->out[index] = false;
}

static void
model_free_batch(struct model *m)
{
	void *object[80];
	size_t count = 0;
	size_t at = test_rand_below(&m->rng, m->config.object_count);
	size_t step = 1 + test_rand_below(&m->rng, 3);

	for (; at < m->config.object_count && count < 80; at += step)
		if (m->out[at]) {
			object[count++] = weir_bounded_object(m->pool, at);
			m->out[at] = false;
		}
	weir_bounded_free_batch(m->pool, object, count);
	m->out_count -= count;
}

/* Any address in or around the objects. */
static void
model_free_wild(struct model *m)
{
	size_t bytes = m->config.object_count * m->stride;
	size_t offset = test_rand_below(&m->rng, bytes + 2 * m->stride);
	char *base = weir_bounded_object(m->pool, 0);
	char *address = base + offset - m->stride;
	enum weir_bounded_result want;

	if (address < base || address >= base + bytes)
		want = WEIR_BOUNDED_FOREIGN;
	else if ((size_t)(address - base) % m->stride == 0)
		return; /* an object: model_free() */
	else if ((size_t)(address - base) % m->align != 0)
		want = WEIR_BOUNDED_MISALIGNED;
	else
		want = WEIR_BOUNDED_INTERIOR;
	CHECK_EQ(weir_bounded_try_free(m->pool, address), want);
}

static void
model_compare(struct model *m, bool one_hint)
{
	struct weir_pool_stats stats = {.size = sizeof(stats)};

	CHECK(weir_bounded_check(m->pool));
	CHECK_EQ(weir_bounded_stats(m->pool, &stats), 0);
	CHECK_EQ(stats.in_use, m->out_count);
	CHECK_EQ(stats.failures, m->failures);
	CHECK_GE(stats.in_use_peak, m->peak);
	CHECK_LE(stats.in_use_peak, m->config.object_count);
	if (one_hint)
		CHECK_EQ(stats.in_use_peak, m->peak);
}

static void
model_step(struct model *m, bool one_hint, bool filling)
{
	switch (test_rand_below(&m->rng, 8)) {
	case 0:
	case 1:
	case 2:
		model_alloc(m, one_hint);
		break;
	case 3: /* a batch starts at the stack's place, not at hint 3 */
		if (one_hint || !filling)
			model_free(m);
		else
			model_alloc_batch(m);
		break;
	case 4:
		if (filling)
			model_alloc(m, one_hint);
		else
			model_free_batch(m);
		break;
	case 5:
		model_free_wild(m);
		break;
	default:
		model_free(m);
	}
}

static void
model_run(uint64_t seed)
{
	struct model m = {.pool = NULL};
	size_t bytes, align;
	bool one_hint;

	test_rng_init(&m.rng, seed);
	one_hint = test_rand_below(&m.rng, 3) == 0;
	m.config.object_bytes = 1 + test_rand_below(&m.rng, 300);
	m.config.object_count =
	    1 +
	    test_rand_below(&m.rng, (size_t)1 << test_rand_below(&m.rng, 14));
	if (test_rand_below(&m.rng, 2) == 0)
		m.config.object_align = (size_t)1
					<< test_rand_below(&m.rng, 10);
	if (test_rand_below(&m.rng, 3) == 0)
		m.config.flags = WEIR_BOUNDED_COMPACT;
	m.align = WEIR_BOUNDED_OBJECT_ALIGN_(
	    m.config.object_bytes, m.config.object_align);
	m.stride =
	    WEIR_BOUNDED_STRIDE(m.config.object_bytes, m.config.object_align);
	align = m.align > 64 ? m.align : 64;
	bytes = weir_bounded_storage_bytes(&m.config);

	void *storage =
	    aligned_alloc(align, (bytes + align - 1) / align * align);

	m.out = calloc(m.config.object_count, sizeof(*m.out));
	CHECK_EQ(
	    weir_bounded_init(storage, bytes, "model", &m.config, &m.pool), 0);
	for (size_t i = 0; i < 4000; i++) {
		model_step(&m, one_hint, (i / 500) % 2 == 0);
		if (i % 500 == 499)
			model_compare(&m, one_hint);
	}
	free(m.out);
	free(storage);
}

TEST(bounded_does_what_an_array_of_flags_says)
{
	size_t runs = test_count(200);

	for (size_t i = 0; i < runs; i++)
		model_run(test_seed() + i);
}
