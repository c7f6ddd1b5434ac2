/* SPDX-License-Identifier: MIT */
/*
 * test_bounded.c - weir_bounded: layout, limits, sharing, every misuse, and
 * that it asks nothing of the system.
 */
#include "test.h"

#include <weir/bounded.h>
#include <weir/runtime.h>

#include <errno.h>
#include <linux/seccomp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

struct event {
	uint64_t number;
	char text[40];
};

static struct weir_bounded *
bounded_made(const char *name, const struct weir_bounded_config *config)
{
	size_t bytes = weir_bounded_storage_bytes(config);
	size_t align =
	    config->object_align > 64 ? config->object_align : (size_t)64;
	void *storage =
	    aligned_alloc(align, (bytes + align - 1) / align * align);
	struct weir_bounded *pool;

	CHECK_NE(bytes, 0);
	CHECK_NOT_NULL(storage);
	memset(storage, 0xa5, bytes);
	CHECK_EQ(weir_bounded_init(storage, bytes, name, config, &pool), 0);
	CHECK_PTR(pool, storage);
	return pool;
}

static struct weir_bounded *
bounded_of(size_t object_bytes, size_t count)
{
	struct weir_bounded_config config = {
	    .object_bytes = object_bytes, .object_count = count};

	return bounded_made("event", &config);
}

static void
bounded_end(struct weir_bounded *pool)
{
	CHECK(weir_bounded_check(pool));
	weir_bounded_finish(pool);
	free(pool);
}

static struct weir_pool_stats
stats_of(const struct weir_bounded *pool)
{
	struct weir_pool_stats stats = {.size = sizeof(stats)};

	CHECK_EQ(weir_bounded_stats(pool, &stats), 0);
	return stats;
}

/* ---- taking and giving --------------------------------------------------- */

/* Counts at each edge of the layout: words half full, full, side by side. */
static const size_t edge_counts[] = {1, 2, 7, 8, 9, 56, 57, 63, 64, 65, 127,
    128, 129, 255, 256, 257, 511, 512, 513, 4096, 4097, 10000};

TEST(bounded_hands_out_each_object_once_and_then_says_empty)
{
	for (size_t c = 0; c < sizeof(edge_counts) / sizeof(*edge_counts);
	     c++) {
		size_t count = edge_counts[c];
		struct weir_bounded *pool =
		    bounded_of(sizeof(struct event), count);
		bool *seen = calloc(count, sizeof(*seen));

		for (size_t i = 0; i < count; i++) {
			struct event *event = weir_bounded_alloc_hint(pool, i);
			size_t index = weir_bounded_index(pool, event);

			CHECK_NOT_NULL(event);
			CHECK_LT(index, count);
			CHECK(!seen[index]);
			seen[index] = true;
			memset(event, (int)i, sizeof(*event));
		}
		CHECK_NULL(weir_bounded_alloc(pool));
		CHECK_EQ(weir_bounded_in_use(pool), count);
		CHECK(weir_bounded_check(pool));
		for (size_t i = 0; i < count; i++)
			weir_bounded_free(pool, weir_bounded_object(pool, i));
		CHECK_EQ(weir_bounded_in_use(pool), 0);
		bounded_end(pool);
		free(seen);
	}
}

TEST(bounded_objects_have_their_alignment_and_do_not_overlap)
{
	static const struct {
		size_t bytes, align, stride;
	} shape[] = {{1, 0, 1}, {2, 0, 2}, {3, 0, 3}, {8, 0, 8}, {24, 0, 24},
	    {40, 0, 40}, {48, 0, 48}, {100, 0, 100}, {1, 64, 64}, {65, 64, 128},
	    {100, 4096, 4096}, {4097, 1, 4097}, {12345, 32, 12352}};

	for (size_t s = 0; s < sizeof(shape) / sizeof(*shape); s++) {
		struct weir_bounded_config config = {
		    .object_bytes = shape[s].bytes,
		    .object_align = shape[s].align,
		    .object_count = 9};
		struct weir_bounded *pool = bounded_made("shape", &config);
		char *last = weir_bounded_object(pool, 0);

		for (size_t i = 0; i < 9; i++) {
			char *object = weir_bounded_alloc(pool);

			CHECK_NOT_NULL(object);
			if (shape[s].align > 0)
				CHECK_EQ((uintptr_t)object % shape[s].align, 0);
			memset(object, 1, shape[s].bytes);
		}
		for (size_t i = 1; i < 9; i++) {
			char *object = weir_bounded_object(pool, i);

			CHECK_EQ((size_t)(object - last), shape[s].stride);
			last = object;
		}
		CHECK_LE((size_t)(last - (char *)pool) + shape[s].stride,
		    weir_bounded_storage_bytes(&config));
		CHECK_NULL(weir_bounded_object(pool, 9));
		for (size_t i = 0; i < 9; i++)
			weir_bounded_free(pool, weir_bounded_object(pool, i));
		bounded_end(pool);
	}
}

TEST(bounded_leaves_the_contents_of_objects_alone)
{
	struct weir_bounded *pool = bounded_of(sizeof(struct event), 4);
	struct event *event[4];

	for (size_t i = 0; i < 4; i++) {
		event[i] = weir_bounded_alloc(pool);
		CHECK_EQ(event[i]->number, UINT64_C(0xa5a5a5a5a5a5a5a5));
		event[i]->number = i;
	}
	for (size_t i = 0; i < 4; i++)
		weir_bounded_free(pool, event[i]);
	for (size_t i = 0; i < 4; i++) {
		event[i] = weir_bounded_alloc(pool);
		CHECK_EQ(event[i]->number, i);
	}
	weir_bounded_free_batch(pool, (void **)event, 4);
	bounded_end(pool);
}

TEST(bounded_batches_take_all_there_is_and_give_it_back)
{
	static const unsigned flags[] = {0, WEIR_BOUNDED_COMPACT};

	for (size_t f = 0; f < 2; f++) {
		struct weir_bounded_config config = {
		    .object_bytes = 24, .object_count = 300, .flags = flags[f]};
		struct weir_bounded *pool = bounded_made("batch", &config);
		void *object[310] = {NULL};

		CHECK_EQ(weir_bounded_alloc_batch(pool, object, 0), 0);
		CHECK_EQ(weir_bounded_alloc_batch(pool, object, 100), 100);
		CHECK_EQ(weir_bounded_in_use(pool), 100);
		CHECK_EQ(stats_of(pool).failures, 0);
		CHECK_EQ(
		    weir_bounded_alloc_batch(pool, object + 100, 210), 200);
		CHECK_EQ(stats_of(pool).failures, 1);
		for (size_t i = 0; i < 300; i++)
			for (size_t j = 0; j < i; j++)
				CHECK(object[i] != object[j]);
		/* NULL entries, and any order. */
		for (size_t i = 0; i < 150; i += 2) {
			void *swap = object[i];

			object[i] = object[309 - i];
			object[309 - i] = swap;
		}
		weir_bounded_free_batch(pool, object, 310);
		CHECK_EQ(weir_bounded_in_use(pool), 0);
		bounded_end(pool);
	}
}

static bool
visit_note(void *object, void *context)
{
	void ***next = context;

	*(*next)++ = object;
	return true;
}

static bool
visit_first(void *object, void *context)
{
	*(void **)context = object;
	return false;
}

TEST(bounded_walk_visits_what_is_out_in_order_of_address)
{
	struct weir_bounded *pool = bounded_of(40, 200);
	void *object[200], *visited[200], **next = visited, *first;

	CHECK_EQ(weir_bounded_alloc_batch(pool, object, 200), 200);
	for (size_t i = 0; i < 200; i++)
		if (i % 3 != 0)
			weir_bounded_free(pool, weir_bounded_object(pool, i));
	CHECK_EQ(weir_bounded_walk(pool, visit_note, &next), 67);
	for (size_t i = 0; i < 67; i++)
		CHECK_PTR(visited[i], weir_bounded_object(pool, 3 * i));
	CHECK_EQ(weir_bounded_walk(pool, visit_first, &first), 1);
	CHECK_PTR(first, weir_bounded_object(pool, 0));
	weir_bounded_free_batch(pool, visited, 67);
	CHECK_EQ(weir_bounded_walk(pool, visit_first, &first), 0);
	bounded_end(pool);
}

TEST(bounded_hints_lead_to_different_words)
{
	struct weir_bounded *pool = bounded_of(64, 512);
	size_t words = 0;
	bool seen[8] = {false};

	for (size_t hint = 0; hint < 8; hint++) {
		void *object = weir_bounded_alloc_hint(pool, hint);
		size_t word = weir_bounded_index(pool, object) / 64;

		weir_bounded_free(pool, object);
		CHECK_PTR(weir_bounded_alloc_hint(pool, hint), object);
		weir_bounded_free(pool, object);
		words += !seen[word];
		seen[word] = true;
	}
	/* 8 of 8 is not promised, but neither is it left to chance. */
	CHECK_GE(words, 6);
	bounded_end(pool);
}

/* ---- figures --------------------------------------------------------------- */

TEST(bounded_figures_are_exact_with_one_hint)
{
	struct weir_bounded *pool = bounded_of(100, 50);
	void *object[50];
	struct weir_pool_stats stats = stats_of(pool);

	CHECK_EQ(stats.kind, WEIR_POOL_BOUNDED);
	CHECK_STR(stats.name, "event");
	CHECK_EQ(stats.in_use_peak, 0);
	for (size_t round = 0; round < 3; round++) {
		for (size_t i = 0; i < 20; i++)
			object[i] = weir_bounded_alloc_hint(pool, 7);
		for (size_t i = 0; i < 20; i++)
			weir_bounded_free(pool, object[i]);
	}
	stats = stats_of(pool);
	CHECK_EQ(stats.in_use, 0);
	CHECK_EQ(stats.in_use_peak, 20);
	for (size_t i = 0; i < 50; i++)
		object[i] = weir_bounded_alloc_hint(pool, i);
	CHECK_NULL(weir_bounded_alloc(pool));
	CHECK_NULL(weir_bounded_alloc(pool));
	stats = stats_of(pool);
	CHECK_EQ(stats.total, 50);
	CHECK_EQ(stats.limit, 50);
	CHECK_EQ(stats.object_bytes, 100);
	CHECK_EQ(stats.in_use, 50);
	CHECK_EQ(stats.available, 0);
	CHECK_EQ(stats.in_use_peak, 50);
	CHECK_EQ(stats.failures, 2);
	CHECK_EQ(weir_bounded_object_count(pool), 50);
	weir_bounded_free_batch(pool, object, 50);
	stats.size = 1;
	CHECK_EQ(weir_bounded_stats(pool, &stats), -EINVAL);
	bounded_end(pool);
}

TEST(bounded_pool_is_listed_while_it_is_shown)
{
	struct weir_bounded *pool = bounded_of(64, 10);
	struct weir_bounded_view view;
	struct weir_pool_stats stats[4] = {{.size = sizeof(stats[0])}};
	void *object = weir_bounded_alloc(pool);
	char text[4096];

	CHECK_EQ(weir_stats_pools(stats, 4), 0);
	weir_bounded_show(pool, &view);
	CHECK_EQ(weir_stats_pools(stats, 4), 1);
	CHECK_EQ(stats[0].kind, WEIR_POOL_BOUNDED);
	CHECK_EQ(stats[0].in_use, 1);
	CHECK_EQ(stats[0].total, 10);
	(void)weir_stats_text(text, sizeof(text));
	CHECK_CONTAINS(text, "bounded");
	CHECK_CONTAINS(text, "event");
	CHECK_EQ(weir_shutdown(), 1); /* a leak like any other pool's */
	weir_bounded_hide(&view);
	CHECK_EQ(weir_stats_pools(stats, 4), 0);
	weir_bounded_hide(NULL);
	EXPECT_ABORT("weir: FAULT bad-argument: bounded: view 0x",
	    { weir_bounded_hide(&view); });
	weir_bounded_free(pool, object);
	bounded_end(pool);
}

/* ---- storage --------------------------------------------------------------- */

static _Alignas(WEIR_BOUNDED_ALIGN) unsigned char static_storage
    [WEIR_BOUNDED_BYTES(sizeof(struct event), 0, 100, 0)];
static _Alignas(WEIR_BOUNDED_ALIGN) unsigned char compact_storage
    [WEIR_BOUNDED_BYTES(sizeof(struct event), 0, 100, WEIR_BOUNDED_COMPACT)];

TEST(bounded_lives_in_static_storage_of_the_exact_size)
{
	struct weir_bounded_config config = {
	    .object_bytes = sizeof(struct event), .object_count = 100};
	struct weir_bounded *pool;
	void *object[101];

	CHECK_EQ(sizeof(static_storage), weir_bounded_storage_bytes(&config));
	CHECK_EQ(weir_bounded_init(static_storage, sizeof(static_storage), NULL,
		     &config, &pool),
	    0);
	CHECK_STR(stats_of(pool).name, "unnamed");
	CHECK_EQ(weir_bounded_alloc_batch(pool, object, 101), 100);
	weir_bounded_free_batch(pool, object, 100);
	weir_bounded_finish(pool);

	config.flags = WEIR_BOUNDED_COMPACT;
	CHECK_EQ(sizeof(compact_storage), weir_bounded_storage_bytes(&config));
	/* Two words and the header, against 13 lines and the header. */
	CHECK_EQ(sizeof(compact_storage), 192 + 2 * 16 + 100 * 48);
	CHECK_EQ(sizeof(static_storage), 192 + 13 * 64 + 100 * 48);
	CHECK_EQ(weir_bounded_init(compact_storage, sizeof(compact_storage),
		     "compact", &config, &pool),
	    0);
	CHECK_EQ(weir_bounded_alloc_batch(pool, object, 101), 100);
	weir_bounded_free_batch(pool, object, 100);
	weir_bounded_finish(pool);
}

TEST(bounded_init_refuses_what_it_cannot_lay_out)
{
	const struct weir_bounded_config good = {
	    .object_bytes = 48, .object_count = 10};
	struct weir_bounded_config bad[] = {
	    good, good, good, good, good, good, good, good, good};
	unsigned char *storage = static_storage;
	size_t bytes = weir_bounded_storage_bytes(&good);
	struct weir_bounded *pool;

	bad[0].object_bytes = 0;
	bad[1].object_count = 0;
	bad[2].object_count = WEIR_BOUNDED_COUNT_MAX + 1;
	bad[3].object_align = 48;
	bad[4].flags = 1u << 9;
	bad[5].reserved[3] = 1;
	bad[6].object_bytes = SIZE_MAX;
	bad[7].object_bytes = SIZE_MAX / 8;
	bad[8].object_align = (SIZE_MAX >> 1) + 1;
	memset(storage, 7, bytes);
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		CHECK_EQ(weir_bounded_storage_bytes(&bad[i]), 0);
		pool = (void *)storage;
		CHECK_EQ(
		    weir_bounded_init(storage, SIZE_MAX, "bad", &bad[i], &pool),
		    -EINVAL);
		CHECK_NULL(pool);
	}
	CHECK_EQ(weir_bounded_init(NULL, bytes, "bad", &good, &pool), -EINVAL);
	CHECK_EQ(weir_bounded_init(storage, bytes - 1, "bad", &good, &pool),
	    -EINVAL);
	CHECK_EQ(weir_bounded_init(storage + 16, bytes, "bad", &good, &pool),
	    -EINVAL);
	for (size_t i = 0; i < bytes; i++)
		CHECK_EQ(storage[i], 7);
	CHECK_EQ(weir_bounded_init(storage, bytes, "good", &good, &pool), 0);
}

TEST(bounded_attach_takes_only_a_whole_pool_of_its_own_kind)
{
	struct weir_bounded_config config = {
	    .object_bytes = 48, .object_count = 100};
	unsigned char *storage = static_storage;
	size_t bytes = sizeof(static_storage);
	struct weir_bounded *pool, *again;

	memset(storage, 0, bytes);
	CHECK_EQ(weir_bounded_attach(storage, bytes, &again), -EAGAIN);
	CHECK_NULL(again);
	memset(storage, 7, bytes);
	CHECK_EQ(weir_bounded_attach(storage, bytes, &again), -EPROTO);
	CHECK_EQ(weir_bounded_init(storage, bytes, "x", &config, &pool), 0);
	CHECK_EQ(weir_bounded_attach(storage, bytes, &again), 0);
	CHECK_PTR(again, pool);
	CHECK_EQ(weir_bounded_attach(storage, bytes - 1, &again), -EINVAL);
	CHECK_EQ(weir_bounded_attach(storage, 10, &again), -EINVAL);
	CHECK_EQ(weir_bounded_attach(storage + 8, bytes, &again), -EINVAL);
	CHECK_EQ(weir_bounded_attach(NULL, bytes, &again), -EINVAL);

	/* A wrong bit in any byte of the layout and of what it follows from. */
	for (size_t i = 0; i < 96; i++) {
		if (i == 56)
			i = 64; /* the rest of line 0 is padding */
		storage[i] ^= 1;
		CHECK_EQ(weir_bounded_attach(storage, bytes, &again), -EPROTO);
		storage[i] ^= 1;
	}
	CHECK_EQ(weir_bounded_attach(storage, bytes, &again), 0);
	weir_bounded_finish(pool);
	CHECK_EQ(weir_bounded_attach(storage, bytes, &again), -EAGAIN);
}

TEST(bounded_is_the_same_pool_at_every_address)
{
	struct weir_bounded_config config = {
	    .object_bytes = 100, .object_count = 70};
	size_t bytes = weir_bounded_storage_bytes(&config);
	int fd = memfd_create("bounded", 0);
	struct weir_bounded *here, *there;
	void *map[2];

	CHECK_GE(fd, 0);
	CHECK_EQ(ftruncate(fd, (off_t)bytes), 0);
	for (size_t i = 0; i < 2; i++) {
		map[i] = mmap(
		    NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		CHECK(map[i] != MAP_FAILED);
	}
	CHECK(map[0] != map[1]);
	CHECK_EQ(weir_bounded_init(map[0], bytes, "shared", &config, &here), 0);
	CHECK_EQ(weir_bounded_attach(map[1], bytes, &there), 0);
	for (size_t i = 0; i < 70; i++) {
		char *object = weir_bounded_alloc_hint(i % 2 ? here : there, i);

		CHECK_NOT_NULL(object);
		memset(object, (int)i, 100);
	}
	CHECK_NULL(weir_bounded_alloc(here));
	CHECK_NULL(weir_bounded_alloc(there));
	/* An address of one view is foreign to the other. */
	CHECK_EQ(weir_bounded_try_free(here, weir_bounded_object(there, 3)),
	    WEIR_BOUNDED_FOREIGN);
	for (size_t i = 0; i < 70; i++) {
		CHECK_MEM(weir_bounded_object(here, i),
		    weir_bounded_object(there, i), 100);
		weir_bounded_free(i % 2 ? there : here,
		    weir_bounded_object(i % 2 ? there : here, i));
	}
	CHECK_EQ(weir_bounded_in_use(here), 0);
	CHECK_EQ(stats_of(there).failures, 2);
	weir_bounded_finish(there);
	CHECK_EQ(munmap(map[0], bytes), 0);
	CHECK_EQ(munmap(map[1], bytes), 0);
	close(fd);
}

/* ---- misuse ---------------------------------------------------------------- */

TEST(bounded_wrong_frees_are_told_apart_and_change_nothing)
{
	struct weir_bounded *pool = bounded_of(48, 30);
	struct weir_bounded *other = bounded_of(48, 30);
	char *object = weir_bounded_alloc(pool);
	char *end = (char *)weir_bounded_object(pool, 29) + 48;
	char *begin = weir_bounded_object(pool, 0);

	CHECK_EQ(
	    weir_bounded_try_free(pool, object + 16), WEIR_BOUNDED_INTERIOR);
	CHECK_EQ(
	    weir_bounded_try_free(pool, object + 1), WEIR_BOUNDED_MISALIGNED);
	CHECK_EQ(weir_bounded_try_free(pool, begin - 48), WEIR_BOUNDED_FOREIGN);
	CHECK_EQ(weir_bounded_try_free(pool, end), WEIR_BOUNDED_FOREIGN);
	CHECK_EQ(weir_bounded_try_free(pool, pool), WEIR_BOUNDED_FOREIGN);
	CHECK_EQ(weir_bounded_try_free(pool, &pool), WEIR_BOUNDED_FOREIGN);
	CHECK_EQ(weir_bounded_try_free(pool, NULL), WEIR_BOUNDED_FOREIGN);
	CHECK_EQ(weir_bounded_try_free(pool, (void *)UINTPTR_MAX),
	    WEIR_BOUNDED_FOREIGN);
	CHECK_EQ(weir_bounded_try_free(other, object), WEIR_BOUNDED_FOREIGN);
	CHECK_EQ(weir_bounded_in_use(pool), 1);
	CHECK_EQ(weir_bounded_index(pool, object + 16), WEIR_BOUNDED_NONE);
	CHECK_EQ(weir_bounded_try_free(pool, object), WEIR_BOUNDED_FREED);
	CHECK_EQ(weir_bounded_try_free(pool, object), WEIR_BOUNDED_DOUBLE_FREE);
	CHECK_EQ(weir_bounded_in_use(pool), 0);
	bounded_end(other);
	bounded_end(pool);
}

TEST(bounded_wrong_frees_die_with_their_own_line)
{
	struct weir_bounded *pool = bounded_of(48, 30);
	char *object = weir_bounded_alloc(pool);
	void *twice[2];

	weir_bounded_free(pool, NULL);
	EXPECT_ABORT("weir: FAULT interior-pointer: bounded \"event\": 0x",
	    { weir_bounded_free(pool, object + 16); });
	EXPECT_ABORT("weir: FAULT misaligned-pointer: bounded \"event\": 0x",
	    { weir_bounded_free(pool, object + 1); });
	EXPECT_ABORT(
	    "is not aligned to 16", { weir_bounded_free(pool, object + 1); });
	EXPECT_ABORT("weir: FAULT foreign-pointer: bounded \"event\": 0x",
	    { weir_bounded_free(pool, &object); });
	twice[0] = twice[1] = object;
	EXPECT_ABORT("weir: FAULT double-free: bounded \"event\": object 0x",
	    { weir_bounded_free_batch(pool, twice, 2); });
	twice[1] = object + 1;
	EXPECT_ABORT("weir: FAULT misaligned-pointer: bounded \"event\": 0x",
	    { weir_bounded_free_batch(pool, twice, 2); });
	EXPECT_ABORT("weir: FAULT live-objects-at-destroy: bounded \"event\": "
		     "1 object is still in use",
	    { weir_bounded_finish(pool); });
	weir_bounded_free(pool, object);
	EXPECT_ABORT("weir: FAULT double-free: bounded \"event\": object 0x",
	    { weir_bounded_free(pool, object); });
	twice[1] = object;
	EXPECT_ABORT("weir: FAULT double-free: bounded \"event\": object 0x",
	    { weir_bounded_free_batch(pool, twice, 1); });
	weir_bounded_finish(pool);
	EXPECT_ABORT("weir: FAULT double-destroy: bounded \"event\": 0x",
	    { weir_bounded_finish(pool); });
	weir_bounded_finish(NULL);
	free(pool);
}

TEST(bounded_check_sees_bits_that_cannot_be)
{
	struct weir_bounded_config config = {.object_bytes = 16,
	    .object_count = 60,
	    .flags = WEIR_BOUNDED_COMPACT};
	struct weir_bounded *pool = bounded_made("bits", &config);
	uint64_t *word = (void *)((char *)pool + 192);

	CHECK(weir_bounded_check(pool));
	word[0] |= UINT64_C(1) << 60; /* no such object */
	CHECK(!weir_bounded_check(pool));
	word[0] = (UINT64_C(1) << 60) - 2; /* out, and never taken */
	CHECK(!weir_bounded_check(pool));
	word[1] = 1;
	CHECK(weir_bounded_check(pool));
	free(pool);
}

/* ---- the system ------------------------------------------------------------ */

/* The kernel kills a thread in this mode at any call but read, write, exit and
 * the return from a signal handler. */
static void
system_calls_end(void)
{
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) != 0)
		_exit(77);
}

static int
bounded_life(void)
{
	struct weir_bounded_config config = {
	    .object_bytes = sizeof(struct event), .object_count = 100};
	struct weir_pool_stats stats = {.size = sizeof(stats)};
	struct weir_bounded *pool, *again;
	void *object[100];

	if (weir_bounded_init(static_storage, sizeof(static_storage), "quiet",
		&config, &pool) != 0 ||
	    weir_bounded_attach(
		static_storage, sizeof(static_storage), &again) != 0)
		return 1;
	for (size_t round = 0; round < 1000; round++) {
		for (size_t i = 0; i < 100; i++)
			if ((object[i] = weir_bounded_alloc(pool)) == NULL)
				return 2;
		if (weir_bounded_alloc(pool) != NULL)
			return 3;
		for (size_t i = 0; i < 100; i++)
			weir_bounded_free(again, object[i]);
		if (weir_bounded_alloc_batch(pool, object, 100) != 100)
			return 4;
		weir_bounded_free_batch(pool, object, 100);
		if (weir_bounded_try_free(pool, object[0]) !=
		    WEIR_BOUNDED_DOUBLE_FREE)
			return 5;
	}
	if (weir_bounded_stats(pool, &stats) != 0 || stats.failures != 1000 ||
	    !weir_bounded_check(pool))
		return 6;
	weir_bounded_finish(pool);
	return 42;
}

static int
status_without_system_calls(int (*run)(void))
{
	pid_t child = fork();
	int status;

	CHECK_GE(child, 0);
	if (child == 0) {
		system_calls_end();
		/* The C library's exit would be another call. */
		syscall(SYS_exit, run());
	}
	CHECK_EQ(waitpid(child, &status, 0), child);
	return status;
}

static int
one_system_call(void)
{
	return (int)syscall(SYS_getppid) > 0 ? 42 : 0;
}

TEST(bounded_makes_no_system_call_from_init_to_finish)
{
	int status;

	if (TEST_ASAN || TEST_TSAN || test_under_valgrind())
		SKIP("the tool itself makes system calls");
	status = status_without_system_calls(one_system_call);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		SKIP("seccomp is not available");
	CHECK(WIFSIGNALED(status));
	CHECK_EQ(WTERMSIG(status), SIGKILL);
	status = status_without_system_calls(bounded_life);
	CHECK(WIFEXITED(status));
	CHECK_EQ(WEXITSTATUS(status), 42);
}
