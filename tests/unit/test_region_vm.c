/* SPDX-License-Identifier: MIT */
/*
 * test_region_vm.c - regions in one range of addresses.
 */
#include "region_vm_common.h"

#include <sys/mman.h>

/* Pages of a range that are in memory. */
static size_t
resident(const char *base, size_t bytes)
{
	static unsigned char in[32 * 1024];
	size_t pages = bytes / weiri_os_page_bytes(), count = 0;

	CHECK_LE(pages, sizeof(in));
	CHECK_EQ(mincore((void *)(uintptr_t)base, bytes, in), 0);
	for (size_t i = 0; i < pages; i++)
		count += in[i] & 1;
	return count;
}

/* ---- objects -------------------------------------------------------------- */

TEST(objects_lie_behind_one_another_and_stay_where_they_are)
{
	struct weir_region_vm *region = create(GIB, 0, 0);
	const char *base = weir_region_vm_base(region);
	unsigned char *objects[400];
	size_t at = 0;

	CHECK_EQ(committed(region), 0);
	for (size_t i = 0; i < 400; i++) {
		size_t bytes = i * 97;

		objects[i] = fill(region, bytes, (int)i);
		CHECK_PTR(objects[i], base + at);
		at += weiri_round_up(bytes, 16);
	}
	for (size_t i = 0; i < 400; i++)
		for (size_t b = 0; b < i * 97; b++)
			CHECK_EQ(objects[i][b], i & 255);
	CHECK_PTR(weir_region_vm_base(region), base);
	CHECK_EQ(figures(region).bytes_in_use, at);
	CHECK(weir_region_vm_check(region));
	weir_region_vm_destroy(region);
}

TEST(memory_is_committed_by_doubling_up_to_a_step)
{
	NOT_UNDER_GUARD("each page is opened by itself");

	struct weir_region_vm *region = create(GIB, 0, 0);
	uint64_t last = 0, steps = 0;

	while (figures(region).bytes_in_use < 400 * MIB) {
		uint64_t now;

		CHECK_NOT_NULL(weir_region_vm_alloc(region, 4096));
		now = committed(region);
		if (now == last)
			continue;
		if (last == 0)
			CHECK_EQ(now, 64 * KIB);
		else
			CHECK_EQ(now - last, last < 64 * MIB ? last : 64 * MIB);
		last = now;
		steps++;
		CHECK_EQ(check_laws(), now);
	}
	CHECK_EQ(figures(region).misses, steps);
	weir_region_vm_destroy(region);
	CHECK_EQ(check_laws(), 0);
}

TEST(any_alignment_up_to_2_mib_and_no_other)
{
	struct weir_region_vm *region = create(64 * MIB, 0, 0);
	static const size_t bad[] = {0, 3, 24, 48, 4 * MIB, SIZE_MAX,
	    SIZE_MAX / 2 + 1, WEIR_REGION_ALIGN_MAX + 16};
	struct weir_region_vm_figures before;

	for (size_t align = 1; align <= WEIR_REGION_ALIGN_MAX; align *= 2) {
		char *p = weir_region_vm_alloc_aligned(region, 40, align);

		CHECK_NOT_NULL(p);
		CHECK_EQ((uintptr_t)p % align, 0);
		CHECK_EQ((uintptr_t)p % 16, 0);
		memset(p, 1, 40);
		CHECK_EQ((uintptr_t)region->next, (uintptr_t)p + 48);
	}
	before = figures(region);
	for (size_t i = 0; i < WEIRI_COUNT_OF(bad); i++) {
		CHECK_NULL(weir_region_vm_alloc_aligned(region, 8, bad[i]));
		CHECK_NULL(weir_region_vm_alloc_aligned(region, 0, bad[i]));
	}
	CHECK_EQ(figures(region).failures,
	    before.failures + 2 * WEIRI_COUNT_OF(bad));
	CHECK_EQ(figures(region).bytes_in_use, before.bytes_in_use);
	weir_region_vm_destroy(region);
}

TEST(sizes_of_nothing_and_beyond_all_reason)
{
	struct weir_region_vm *region = create(1 * MIB, 0, 0);
	void *none = weir_region_vm_alloc(region, 0);
	uint64_t failures = 0;

	CHECK_NOT_NULL(none);
	CHECK_EQ(committed(region), 0);
	CHECK_PTR(weir_region_vm_alloc(region, 1), none);
	for (size_t less = 0; less < 40; less++) {
		errno = 77;
		CHECK_NULL(weir_region_vm_alloc(region, SIZE_MAX - less));
		CHECK_NULL(weir_region_vm_alloc_aligned(
		    region, SIZE_MAX - less, 4096));
		CHECK_NULL(weir_region_vm_alloc(region, MIB - 16 + 1 + less));
		CHECK_EQ(errno, 77);
		failures += 3;
		CHECK_EQ(figures(region).failures, failures);
	}
	CHECK_EQ(figures(region).bytes_in_use, 16);
	CHECK_NOT_NULL(weir_region_vm_alloc(region, MIB - 16));
	weir_region_vm_destroy(region);
	weir_region_vm_destroy(NULL);
}

/* ---- configuration -------------------------------------------------------- */

static char said[256];

static void
listen(enum weir_message_level level, const char *line, void *context)
{
	(void)level;
	(void)context;
	CHECK_LT(strlen(line), sizeof(said));
	memcpy(said, line, strlen(line) + 1);
}

static void
refused(struct weir_region_vm_config config, const char *why)
{
	struct weir_region_vm *region = (void *)said;

	said[0] = '\0';
	CHECK_EQ(weir_region_vm_create("bad", &config, &region), -EINVAL);
	CHECK_NULL(region);
	CHECK_CONTAINS(said, why);
	CHECK_EQ(check_laws(), 0);
}

TEST(what_cannot_be_meant_is_refused_and_said)
{
	CHECK_EQ(weir_init(&(struct weir_config){.message = listen}), 0);
	refused((struct weir_region_vm_config){0},
	    "weir_region_vm_create: region \"bad\": reserve_bytes is 0; "
	    "allowed: 1 .. 70368744177664");
	refused((struct weir_region_vm_config){.reserve_bytes =
						   WEIR_REGION_VM_MAX + 1},
	    "reserve_bytes is 70368744177665");
	refused((struct weir_region_vm_config){.reserve_bytes = UINT64_MAX},
	    "reserve_bytes is 18446744073709551615");
	refused((struct weir_region_vm_config){.reserve_bytes = MIB,
		    .limit_bytes = 100},
	    "limit_bytes is 100; allowed: 0, and from 4096");
	refused((struct weir_region_vm_config){.reserve_bytes = MIB,
		    .first_bytes = MIB + 1},
	    "first_bytes is 1048577; allowed: 0 .. 1048576");
	refused(
	    (struct weir_region_vm_config){.reserve_bytes = MIB, .flags = 1},
	    "flags is 1; allowed: 0");
	refused((struct weir_region_vm_config){.reserve_bytes = MIB,
		    .reserved = {0, 0, 9}},
	    "reserved[2] is 9; allowed: 0");
}

TEST(more_addresses_than_there_are_is_no_memory)
{
	struct weir_region_vm *regions[4];
	int error = 0;
	size_t count = 0;

	/* The user's half of 48 bits holds less than two of the largest. */
	while (count < 4 && error == 0) {
		error = weir_region_vm_create("vast",
		    &(struct weir_region_vm_config){
			.reserve_bytes = WEIR_REGION_VM_MAX},
		    &regions[count]);
		count++;
	}
	CHECK_EQ(error, -ENOMEM);
	CHECK_NULL(regions[count - 1]);
	(void)check_laws();
	while (count-- > 1) {
		(void)fill(regions[count - 1], 100, 1);
		weir_region_vm_destroy(regions[count - 1]);
	}
	CHECK_EQ(check_laws(), 0);
}

TEST(reserve_and_first_block_of_one_byte_are_a_page)
{
	struct weir_region_vm *region = create(1, 0, 1);
	size_t page = weiri_range_page();

	(void)fill(region, page, 1);
	CHECK_EQ(committed(region), page);
	CHECK_EQ(figures(region).bytes_reserved, page);
	CHECK_NULL(weir_region_vm_alloc(region, 1));
	weir_region_vm_destroy(region);
}

/* ---- limits --------------------------------------------------------------- */

TEST(limit_is_reached_to_the_byte_and_refusal_loses_nothing)
{
	size_t page = weiri_range_page();
	struct weir_region_vm *region = create(GIB, 37 * page + 5, 0);
	struct weir_region_vm_point mark = weir_region_vm_mark(region);
	unsigned char *first = fill(region, 20 * page, 3);

	CHECK_NULL(weir_region_vm_alloc(region, 17 * page + 1));
	CHECK_EQ(figures(region).bytes_in_use, 20 * page);
	(void)fill(region, 17 * page, 4);
	CHECK_EQ(committed(region), 37 * page);
	CHECK_NULL(weir_region_vm_alloc(region, 1));
	CHECK_EQ(figures(region).failures, 2);
	for (size_t i = 0; i < 20 * page; i++)
		CHECK_EQ(first[i], 3);
	CHECK(weir_region_vm_check(region));
	CHECK(weir_region_vm_rewind(region, mark));
	(void)fill(region, 37 * page, 5);
	weir_region_vm_destroy(region);
}

TEST(budget_that_has_no_room_for_twice_as_much_serves_what_is_needed)
{
	struct weir_region_vm *region = create(GIB, 0, 0);
	struct weir_stats stats = {.size = sizeof(stats)};
	size_t page = weiri_range_page();

	(void)fill(region, 8 * MIB, 1);
	CHECK_EQ(committed(region), 8 * MIB);
	/* What a trim would find must not serve the request beyond the limit. */
	(void)weir_trim();
	CHECK_EQ(weir_stats_read(&stats), 0);
	CHECK_EQ(weiri_budget_set(stats.bytes_charged + page, UINT64_MAX), 0);
	(void)fill(region, 100, 2);
	CHECK_EQ(committed(region), 8 * MIB + page);
	CHECK_NULL(weir_region_vm_alloc(region, page));
	CHECK_EQ(figures(region).failures, 1);
	CHECK_EQ(check_laws(), 8 * MIB + page);
	CHECK_EQ(weiri_budget_set(UINT64_MAX, UINT64_MAX), 0);
	(void)fill(region, page, 3);
	weir_region_vm_destroy(region);
}

static struct weir_region_vm *rescued;
static unsigned rescues;

/* Frees by resetting the very region that asks. */
static bool
rescue(size_t bytes, void *context)
{
	(void)bytes;
	(void)context;
	if (rescues++ > 0)
		return false;
	weir_region_vm_reset(rescued);
	CHECK_GT(weir_region_vm_trim(rescued), 0);
	CHECK_NOT_NULL(weir_region_vm_alloc(rescued, 1000));
	return true;
}

TEST(hook_may_use_the_region_it_is_called_for)
{
	void *object;

	CHECK_EQ(weir_init(&(struct weir_config){
		     .limit_bytes = 8 * MIB, .oom = rescue}),
	    0);
	rescued = create(GIB, 0, 0);
	(void)fill(rescued, 3 * MIB, 1);
	object = fill(rescued, 1 * MIB, 1);
	/* The hook rewinds beneath it: no longer the newest. */
	CHECK(!weir_region_vm_extend(rescued, object, MIB, 6 * MIB));
	CHECK_EQ(rescues, 2);
	CHECK(weir_region_vm_check(rescued));
	CHECK_EQ(figures(rescued).bytes_in_use, 1008);
	rescues = 0;
	(void)fill(rescued, 3 * MIB, 1);
	object = fill(rescued, 6 * MIB, 1);
	CHECK_EQ(rescues, 2);
	CHECK_PTR(object, weir_region_vm_base(rescued) + 1008);
	CHECK(weir_region_vm_check(rescued));
	CHECK_EQ(check_laws(), committed(rescued));
	weir_region_vm_destroy(rescued);
}

/* ---- the newest object ---------------------------------------------------- */

TEST(newest_object_grows_and_shrinks_where_it_is)
{
	struct weir_region_vm *region = create(64 * MIB, 0, 0);
	unsigned char *old = fill(region, 100, 1);
	unsigned char *object = fill(region, 10, 2);
	size_t bytes = 10;
	unsigned char *last;

	CHECK(!weir_region_vm_extend(region, old, 100, 200));
	CHECK(weir_region_vm_extend(region, old, 100, 100));
	CHECK(!weir_region_vm_extend(region, NULL, 0, 10));
	weir_region_vm_shrink(region, NULL, 0, 0);
	while (bytes < 40 * MIB) {
		CHECK(weir_region_vm_extend(
		    region, object, bytes, bytes * 3 + 1));
		memset(object + bytes, 2, bytes * 2 + 1);
		bytes = bytes * 3 + 1;
	}
	CHECK(!weir_region_vm_extend(region, object, bytes, 64 * MIB));
	CHECK(!weir_region_vm_extend(region, object, bytes, SIZE_MAX));
	CHECK_EQ(figures(region).failures, 0);
	for (size_t i = 0; i < bytes; i += 100)
		CHECK_EQ(object[i], 2);
	weir_region_vm_shrink(region, old, 100, 10);
	weir_region_vm_shrink(region, object, bytes, bytes);
	CHECK_EQ(figures(region).bytes_in_use, 112 + weiri_round_up(bytes, 16));
	weir_region_vm_shrink(region, object, bytes, 20);
	last = weir_region_vm_alloc(region, 0);
	CHECK_PTR(last, object + 32);
	CHECK(weir_region_vm_extend(region, last, 0, 16));
	CHECK(!weir_region_vm_extend(region, object, 20, 33));
	CHECK_EQ(figures(region).bytes_peak, 112 + weiri_round_up(bytes, 16));
	(void)check_laws();
	weir_region_vm_destroy(region);
}

/* ---- going back ----------------------------------------------------------- */

TEST(rewind_knows_its_marks)
{
	struct weir_region_vm *region = create(MIB, 0, 0);
	struct weir_region_vm *other = create(MIB, 0, 0);
	struct weir_region_vm_point start = weir_region_vm_mark(region);
	struct weir_region_vm_point early, late;
	unsigned char *kept = fill(region, 50, 1);

	early = weir_region_vm_mark(region);
	(void)fill(region, 300 * KIB, 2);
	late = weir_region_vm_mark(region);
	CHECK(!weir_region_vm_rewind(other, early));
	CHECK(weir_region_vm_rewind(region, late));
	CHECK_EQ(figures(region).bytes_in_use, 64 + 300 * KIB);
	CHECK(weir_region_vm_rewind(region, early));
	CHECK(!weir_region_vm_rewind(region, late));
	CHECK_PTR(weir_region_vm_alloc(region, 1), kept + 64);
	CHECK_EQ(kept[49], 1);
	CHECK(weir_region_vm_rewind(region, early));
	CHECK(weir_region_vm_rewind(region, start));
	CHECK_EQ(figures(region).bytes_in_use, 0);
	weir_region_vm_reset(region);
	CHECK(!weir_region_vm_rewind(region, start));
	(void)check_laws();
	weir_region_vm_destroy(region);
	weir_region_vm_destroy(other);
}

TEST(resets_keep_what_recent_uses_needed_without_a_system_call)
{
	NOT_UNDER_GUARD("it makes system calls");

	struct weir_region_vm *region = create(GIB, 0, 0);
	struct test_rng rng;
	int64_t calls;

	test_rng_init(&rng, test_seed());
	for (int i = 0; i < 32; i++) {
		(void)fill(region, 3 * MIB, 1);
		weir_region_vm_reset(region);
	}
	CHECK_EQ(committed(region), 3 * MIB);
	weiri_os_fail_nth(0, false);
	for (int i = 0; i < 1000; i++) {
		size_t bytes = (size_t)test_rand_below(&rng, 3 * MIB);

		/* One in each turn keeps the level. */
		if (i % 16 == 7)
			bytes = 3 * MIB;
		CHECK_NOT_NULL(weir_region_vm_alloc(region, bytes));
		weir_region_vm_reset(region);
	}
	calls = weiri_os_calls();
	CHECK_EQ(calls, 0);
	CHECK_EQ(committed(region), 3 * MIB);
	weir_region_vm_destroy(region);
}

TEST(spike_goes_back_to_the_system)
{
	NOT_UNDER_GUARD("a reset leaves no memory");

	struct weir_region_vm *region = create(GIB, 0, 0);
	const char *base = weir_region_vm_base(region);
	size_t page = weiri_os_page_bytes();
	int resets = 0;
	unsigned char *object;

	for (int i = 0; i < 5; i++) {
		(void)fill(region, 200 * KIB, 1);
		weir_region_vm_reset(region);
	}
	(void)fill(region, 20 * MIB, 1);
	CHECK_EQ(resident(base, 20 * MIB), 20 * MIB / page);
	weir_region_vm_reset(region);
	while (committed(region) > 200 * KIB) {
		CHECK_EQ(resident(base, 20 * MIB), 20 * MIB / page);
		(void)fill(region, 200 * KIB, 1);
		CHECK_EQ(check_laws(), committed(region));
		weir_region_vm_reset(region);
		resets++;
	}
	CHECK_GE(resets, 16);
	CHECK_LE(resets, 48);
	CHECK_EQ(committed(region), weiri_round_up(200 * KIB, page));
	CHECK_EQ(figures(region).bytes_kept, committed(region));
	CHECK_LE(resident(base, 20 * MIB), 200 * KIB / page);
	CHECK_EQ(check_laws(), committed(region));
	/* What went comes back, empty. */
	object = weir_region_vm_alloc(region, 20 * MIB);
	CHECK_NOT_NULL(object);
	CHECK(reads_zero((const char *)object + 256 * KIB, 19 * MIB));
	weir_region_vm_destroy(region);
}

TEST(first_bytes_stay_and_trim_takes_them_too)
{
	NOT_UNDER_GUARD("each page is opened by itself");

	struct weir_region_vm *region = create(GIB, 0, MIB);
	size_t page = weiri_range_page();

	for (int i = 0; i < 64; i++) {
		(void)fill(region, 10, 1);
		weir_region_vm_reset(region);
	}
	CHECK_EQ(committed(region), MIB);
	CHECK_EQ(figures(region).misses, 1);
	(void)fill(region, page + 1, 1);
	CHECK_EQ(weir_region_vm_trim(region), MIB - 2 * page);
	CHECK_EQ(committed(region), 2 * page);
	CHECK_EQ(weir_region_vm_trim(region), 0);
	CHECK_EQ(check_laws(), 2 * page);
	weir_region_vm_reset(region);
	CHECK_EQ(weir_region_vm_trim(region), 2 * page);
	CHECK_EQ(check_laws(), 0);
	weir_region_vm_destroy(region);
}

/* ---- against a plain model ------------------------------------------------ */

#define MODEL_OBJECTS 400
#define MODEL_MARKS 20

struct model {
	struct weir_region_vm *region;
	struct test_rng rng;
	struct {
		unsigned char *base;
		size_t bytes;
		unsigned char fill;
	} object[MODEL_OBJECTS];
	size_t count;
	struct {
		struct weir_region_vm_point point;
		size_t count;
	} mark[MODEL_MARKS];
	size_t marks;
	unsigned char fill;
};

static size_t
model_bytes(struct model *m)
{
	return (size_t)test_rand_below(
	    &m->rng, UINT64_C(1) << (4 + test_rand_below(&m->rng, 14)));
}

static void
model_alloc(struct model *m)
{
	size_t bytes = model_bytes(m), align = 1;
	unsigned char *base;

	if (m->count == MODEL_OBJECTS)
		return;
	if (test_rand_below(&m->rng, 4) == 0)
		align = (size_t)1 << test_rand_below(&m->rng, 14);
	base = align == 1
		   ? weir_region_vm_alloc(m->region, bytes)
		   : weir_region_vm_alloc_aligned(m->region, bytes, align);
	if (base == NULL) {
		CHECK_GT(figures(m->region).bytes_in_use + bytes + align + 16,
		    figures(m->region).bytes_limit);
		return;
	}
	memset(base, ++m->fill, bytes);
	m->object[m->count].base = base;
	m->object[m->count].bytes = bytes;
	m->object[m->count++].fill = m->fill;
}

static void
model_resize(struct model *m)
{
	size_t i, bytes = model_bytes(m);

	if (m->count == 0)
		return;
	i = m->count - 1 - test_rand_below(&m->rng, 2) % m->count;
	/* A mark lies behind it: it may not get smaller beneath. */
	if (m->marks > 0 && m->mark[m->marks - 1].count > i)
		return;
	if (bytes < m->object[i].bytes)
		weir_region_vm_shrink(
		    m->region, m->object[i].base, m->object[i].bytes, bytes);
	else if (!weir_region_vm_extend(
		     m->region, m->object[i].base, m->object[i].bytes, bytes))
		return;
	memset(m->object[i].base, m->object[i].fill, bytes);
	m->object[i].bytes = bytes;
}

static void
model_check(const struct model *m)
{
	for (size_t i = 0; i < m->count; i++)
		for (size_t b = 0; b < m->object[i].bytes; b++)
			if (m->object[i].base[b] != m->object[i].fill)
				FAIL("object %zu, byte %zu", i, b);
	CHECK(weir_region_vm_check(m->region));
	CHECK_EQ(check_laws(), committed(m->region));
}

static void
model_step(struct model *m)
{
	uint64_t what = test_rand_below(&m->rng, 100);

	if (what < 60) {
		model_alloc(m);
	} else if (what < 80) {
		model_resize(m);
	} else if (what < 88 && m->marks < MODEL_MARKS) {
		m->mark[m->marks].point = weir_region_vm_mark(m->region);
		m->mark[m->marks++].count = m->count;
	} else if (what < 95 && m->marks > 0) {
		m->marks = (size_t)test_rand_below(&m->rng, m->marks);
		CHECK(
		    weir_region_vm_rewind(m->region, m->mark[m->marks].point));
		m->count = m->mark[m->marks].count;
	} else if (what < 97) {
		weir_region_vm_reset(m->region);
		m->count = m->marks = 0;
	} else if (what == 97) {
		(void)weir_region_vm_trim(m->region);
	} else {
		model_check(m);
	}
}

TEST(random_use_agrees_with_a_plain_model)
{
	static struct model m;
	size_t steps = test_count(20000);

	test_rng_init(&m.rng, test_seed());
	m.region = create(MIB, 700 * KIB, 8 * KIB);
	for (size_t i = 0; i < steps; i++)
		model_step(&m);
	model_check(&m);
	weir_region_vm_destroy(m.region);
	CHECK_EQ(check_laws(), 0);
}

/* ---- statistics ----------------------------------------------------------- */

TEST(each_region_has_a_line_in_the_statistics)
{
	struct weir_region_vm *region = create(GIB, 64 * MIB, 0);
	struct weir_pool_stats pool = {.size = sizeof(pool)};
	struct weir_region_vm_figures odd = {.size = 3};
	static char text[4096];

	(void)fill(region, 3 * MIB, 1);
	(void)fill(region, 100, 1);
	CHECK_EQ(weir_stats_pools(&pool, 1), 1);
	CHECK_STR(pool.name, "range");
	CHECK_EQ(pool.kind, WEIR_POOL_REGION);
	CHECK_EQ(pool.in_use, 1);
	CHECK_EQ(pool.misses, 2);
	CHECK_EQ(pool.limit_bytes, 64 * MIB);
	CHECK_EQ(pool.limit_bytes_used, 3 * MIB + 112);
	CHECK_EQ(pool.bytes_in_use, 3 * MIB + 112);
	CHECK_EQ(pool.bytes_mapped, 6 * MIB);
	CHECK_EQ(pool.bytes_untouched, 3 * MIB - 112);
	weir_region_vm_reset(region);
	CHECK_EQ(weir_stats_pools(&pool, 1), 1);
	CHECK_EQ(pool.bytes_in_use, 0);
	CHECK_EQ(pool.bytes_idle, 3 * MIB + 112);
	CHECK_EQ(pool.bytes_untouched, 3 * MIB - 112);
	CHECK_GT(weir_stats_text(text, sizeof(text)), 0);
	CHECK_CONTAINS(text, "range");
	CHECK_EQ(weir_region_vm_stats(region, &odd), -EINVAL);
	weir_region_vm_destroy(region);
	CHECK_EQ(weir_stats_pools(&pool, 1), 0);
}

static bool reader_stop;

static void *
reader(void *context)
{
	static struct weir_pool_stats pool[8];

	while (!WEIRI_LOAD(&reader_stop)) {
		pool[0].size = sizeof(pool[0]);
		size_t count = weir_stats_pools(pool, 8);

		for (size_t i = 0; i < count && i < 8; i++)
			CHECK_EQ(pool[i].bytes_mapped,
			    pool[i].bytes_in_use + pool[i].bytes_idle +
				pool[i].bytes_untouched);
	}
	return context;
}

TEST(statistics_are_read_while_regions_come_grow_and_go)
{
	size_t rounds = test_count(200);
	pthread_t thread;

	CHECK_EQ(pthread_create(&thread, NULL, reader, NULL), 0);
	for (size_t round = 0; round < rounds; round++) {
		struct weir_region_vm *region = create(8 * MIB, 0, 0);

		for (size_t i = 0; i < 40; i++) {
			while (weir_region_vm_alloc(region, 2000 + 3000 * i))
				if (figures(region).bytes_in_use > MIB)
					break;
			weir_region_vm_reset(region);
		}
		weir_region_vm_destroy(region);
	}
	WEIRI_STORE(&reader_stop, true);
	pthread_join(thread, NULL);
	CHECK_EQ(check_laws(), 0);
}

/* ---- one owner ------------------------------------------------------------- */

static void *
other_fills(void *context)
{
	struct weir_region_vm *region = context;

	weir_region_vm_take_over(region);
	(void)fill(region, 200 * KIB, 7);
	weir_region_vm_hand_off(region);
	return NULL;
}

TEST(region_goes_from_thread_to_thread)
{
	struct weir_region_vm *region = create(MIB, 0, 0);
	pthread_t thread;

	for (int i = 0; i < 4; i++) {
		weir_region_vm_hand_off(region);
		CHECK_EQ(pthread_create(&thread, NULL, other_fills, region), 0);
		pthread_join(thread, NULL);
		weir_region_vm_take_over(region);
		weir_region_vm_take_over(region);
	}
	CHECK_EQ(figures(region).bytes_in_use, 800 * KIB);
	CHECK_EQ(weir_region_vm_base(region)[800 * KIB - 1], 7);
	weir_region_vm_destroy(region);
}
