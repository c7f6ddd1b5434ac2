/* SPDX-License-Identifier: MIT */
/*
 * test_pages_model.c - the page supply against a list of what was asked for.
 *
 * Each span's pages carry a pattern of the twin's; when the span goes, or is
 * resized, the pattern must be whole, so no two spans ever shared a page.  The
 * twin also adds up the bytes that are out and compares the process's figures.
 *
 * The same runs with a system whose pages are larger than 4 KiB, which is made
 * up: each range that the library commits, empties or gives back must be whole
 * pages then (asserted in debug builds), and what is charged a multiple.
 */
#include "test.h"

#include "base/bits.h"
#include "os/os.h"
#include "pages/budget.h"
#include "pages/pages.h"

#include <weir/stats.h>

#include <errno.h>
#include <string.h>

#define KIB ((size_t)1024)
#define MIB (KIB * KIB)

enum { SPANS = 200 };

struct twin {
	struct weiri_span span;
	size_t bytes; /* 0: not out */
	uint64_t mark;
};

static struct twin twin[SPANS];
static struct test_rng rng;
static uint64_t next_mark, out_bytes;
static size_t system_page = WEIRI_PAGE;

static struct weir_stats
read_stats(void)
{
	struct weir_stats stats = {.size = sizeof(stats)};

	weiri_pages_stats(&stats);
	return stats;
}

/* First and last word of each page: enough to see a page with two owners. */
static void
twin_paint(struct twin *t, size_t from)
{
	for (size_t at = from; at < t->bytes; at += WEIRI_PAGE) {
		uint64_t word = t->mark + at;

		memcpy(t->span.base + at, &word, sizeof(word));
		memcpy(t->span.base + at + WEIRI_PAGE - sizeof(word), &word,
		    sizeof(word));
	}
}

static void
twin_verify(const struct twin *t)
{
	for (size_t at = 0; at < t->bytes; at += WEIRI_PAGE) {
		uint64_t word = t->mark + at;

		CHECK_MEM(t->span.base + at, &word, sizeof(word));
		CHECK_MEM(t->span.base + at + WEIRI_PAGE - sizeof(word), &word,
		    sizeof(word));
	}
	CHECK_PTR(weiri_span_of(t->span.base), &t->span);
	CHECK_PTR(weiri_span_of(t->span.base + t->bytes - 1), &t->span);
}

static size_t
random_bytes(void)
{
	switch (test_rand_below(&rng, 20)) {
	case 0:
		return 1 + test_rand_below(&rng, 6 * MIB);
	case 1:
	case 2:
		return 1 + test_rand_below(&rng, 512 * KIB);
	default:
		return WEIRI_PAGE << test_rand_below(&rng, 5);
	}
}

static void
twin_alloc(struct twin *t, uint64_t limit)
{
	size_t bytes = random_bytes();
	size_t align = WEIRI_PAGE << (test_rand_below(&rng, 3) == 0
					  ? test_rand_below(&rng, 11)
					  : 0);
	uint64_t spare = limit - read_stats().bytes_in_spans;
	int error;

	t->span = (struct weiri_span){
	    .kind = WEIRI_SPAN_OTHER,
	    .tag = (uint16_t)test_rand(&rng),
	};
	error = weiri_span_alloc(&t->span, bytes, align);
	if (error != 0) {
		/* Only for want of budget; an eighth is left for metadata.
		 * What is retained now, larger pages keep: their other units
		 * are in use. */
		CHECK_EQ(error, -ENOMEM);
		CHECK_GT(bytes + 2 * system_page + limit / 8 +
			     read_stats().bytes_retained,
		    spare);
		return;
	}
	t->bytes = weiri_round_up(bytes, WEIRI_PAGE);
	CHECK_EQ(t->span.bytes, t->bytes);
	CHECK_EQ((uintptr_t)t->span.base % align, 0);
	for (size_t at = 0; t->span.zeroed && at < t->bytes; at += WEIRI_PAGE) {
		uint64_t word;

		memcpy(&word, t->span.base + at, sizeof(word));
		CHECK_EQ(word, 0);
	}
	t->mark = next_mark += (uint64_t)1 << 40;
	twin_paint(t, 0);
	out_bytes += t->bytes;
}

static void
twin_free(struct twin *t)
{
	char *base = t->span.base;

	twin_verify(t);
	weiri_span_free(&t->span);
	CHECK_NULL(weiri_span_of(base));
	out_bytes -= t->bytes;
	t->bytes = 0;
}

static void
twin_resize(struct twin *t)
{
	size_t old = t->bytes;
	size_t bytes = WEIRI_PAGE +
		       test_rand_below(&rng, 2 * old / WEIRI_PAGE) * WEIRI_PAGE;

	twin_verify(t);
	if (weiri_span_resize(&t->span, bytes) != 0) {
		CHECK_GT(bytes, old);
		return;
	}
	t->bytes = bytes;
	out_bytes += bytes;
	out_bytes -= old;
	if (bytes > old)
		twin_paint(t, old);
	twin_verify(t);
}

static void
model_run(uint64_t limit, size_t steps)
{
	CHECK_EQ(weiri_budget_set(limit, UINT64_MAX), 0);
	test_rng_init(&rng, test_seed());
	for (size_t step = 0; step < steps; step++) {
		struct twin *t = &twin[test_rand_below(&rng, SPANS)];
		struct weir_stats s;

		if (t->bytes == 0)
			twin_alloc(t, limit);
		else if (test_rand_below(&rng, 5) == 0)
			twin_resize(t);
		else
			twin_free(t);
		if (test_rand_below(&rng, 500) == 0)
			(void)weiri_pages_trim();
		s = read_stats();
		CHECK_EQ(s.bytes_in_spans, out_bytes);
		CHECK_EQ(s.bytes_charged,
		    s.bytes_in_spans + s.bytes_retained + s.bytes_metadata);
		CHECK_LE(s.bytes_peak, limit);
		CHECK_EQ(s.bytes_charged % system_page, 0);
		if (step % 256 == 0)
			CHECK(weiri_pages_check());
	}
	for (size_t i = 0; i < SPANS; i++)
		if (twin[i].bytes > 0)
			twin_free(&twin[i]);
	CHECK(weiri_pages_check());
	(void)weiri_pages_trim();
	CHECK_EQ(read_stats().bytes_reserved, 0);
	CHECK_EQ(read_stats().bytes_charged, read_stats().bytes_metadata);
	CHECK(weiri_pages_check());
}

TEST_LIMIT(pages_agree_with_a_list_of_spans, 180)
{
	model_run((uint64_t)1 << 40, test_count(12000));
}

TEST_LIMIT(pages_agree_with_a_list_of_spans_under_a_limit, 180)
{
	model_run(24 * MIB, test_count(12000));
}

static void
model_run_paged(size_t page, uint64_t limit)
{
	system_page = page;
	weiri_os_set_page_bytes(page);
	model_run(limit, test_count(5000));
}

TEST_LIMIT(pages_of_16_kib_agree_with_a_list_of_spans, 180)
{
	model_run_paged(16 * KIB, (uint64_t)1 << 40);
}

TEST_LIMIT(pages_of_16_kib_agree_under_a_limit, 180)
{
	model_run_paged(16 * KIB, 24 * MIB);
}

TEST_LIMIT(pages_of_64_kib_agree_with_a_list_of_spans, 180)
{
	model_run_paged(64 * KIB, (uint64_t)1 << 40);
}

TEST_LIMIT(pages_of_64_kib_agree_under_a_limit, 180)
{
	model_run_paged(64 * KIB, 24 * MIB);
}
