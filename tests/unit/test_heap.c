/* SPDX-License-Identifier: MIT */
/*
 * Heaps: sizes and classes, alignment, realloc, limits, figures, the end of a
 * heap with everything in it.
 */
#include "support/test.h"

#include "os/os.h"
#include "pages/pages.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <weir/weir.h>

#define KIB ((size_t)1024)
#define MIB ((size_t)1048576)

static struct weir_heap *
heap_with(const struct weir_heap_config *config)
{
	struct weir_heap *heap;

	CHECK_EQ(weir_heap_create("unit", config, &heap), 0);
	return heap;
}

static struct weir_pool_stats
stats_of(struct weir_heap *heap)
{
	struct weir_pool_stats stats = {.size = sizeof(stats)};

	CHECK_EQ(weir_heap_stats(heap, &stats), 0);
	return stats;
}

static uint64_t
bytes_in_spans(void)
{
	struct weir_stats stats = {.size = sizeof(stats)};

	CHECK_EQ(weir_stats_read(&stats), 0);
	return stats.bytes_in_spans;
}

static bool
is_filled(const unsigned char *at, unsigned char byte, size_t bytes)
{
	/* Each byte like the one before it. */
	return bytes == 0 ||
	       (at[0] == byte && memcmp(at, at + 1, bytes - 1) == 0);
}

/* ---- sizes -------------------------------------------------------------- */

TEST(heap_class_map_wastes_an_eighth_at_most)
{
	for (size_t bytes = 0; bytes <= WEIR_HEAP_CLASS_BYTES_MAX; bytes++) {
		unsigned index = weir_heap_class(bytes);
		size_t slot = weir_heap_class_bytes(index);

		CHECK_LT(index, WEIR_HEAP_CLASSES);
		CHECK_GE(slot, bytes);
		CHECK_EQ(slot % WEIR_HEAP_ALIGN, 0);
		if (index > 0)
			CHECK_LT(weir_heap_class_bytes(index - 1), bytes);
		if (bytes > 128)
			CHECK_LE((slot - bytes) * 8, bytes);
	}
	CHECK_EQ(
	    weir_heap_class(WEIR_HEAP_CLASS_BYTES_MAX), WEIR_HEAP_CLASSES - 1);
}

static void
size_is_served(size_t bytes)
{
	unsigned char *object = (weir_alloc)(bytes);
	size_t usable = weir_usable_size(object);

	CHECK_NOT_NULL(object);
	CHECK_GE(usable, bytes);
	CHECK_EQ((uintptr_t)object % WEIR_HEAP_ALIGN, 0);
	if (bytes > 128)
		CHECK_LE((usable - bytes) * 8, bytes);
	if (bytes <= WEIR_HEAP_CLASS_BYTES_MAX)
		CHECK_EQ(usable, weir_heap_class_bytes(weir_heap_class(bytes)));
	memset(object, 0xa5, usable < 5000 ? usable : 5000);
	object[usable - 1] = 0x5a;
	CHECK(weir_heap_of(object) == weir_heap_default());
	CHECK(weir_heap_of(object + usable - 1) == weir_heap_default());
	if (bytes % 2 == 0)
		weir_free(object);
	else
		weir_free_sized(object, bytes);
}

TEST(heap_serves_every_size_around_every_border)
{
	NOT_UNDER_GUARD("usable sizes are those asked for");

	struct test_rng rng;

	for (size_t bytes = 0; bytes <= 2100; bytes++)
		size_is_served(bytes);
	for (unsigned i = 0; i < WEIR_HEAP_CLASSES; i++)
		for (size_t near = 0; near < 5; near++)
			size_is_served(weir_heap_class_bytes(i) + near - 2);
	for (size_t bytes = 32 * KIB; bytes <= MIB; bytes += 4 * KIB)
		for (size_t near = 0; near < 5; near++)
			size_is_served(bytes + near - 2);
	test_rng_init(&rng, test_seed());
	for (size_t i = 0; i < test_count(1000); i++)
		size_is_served(1 + test_rand_below(&rng, MIB));
	CHECK(weir_heap_check(weir_heap_default()));
	CHECK_EQ(stats_of(weir_heap_default()).in_use, 0);
}

TEST(heap_serves_a_constant_size_as_any_other)
{
	NOT_UNDER_GUARD("usable sizes are those asked for");

	/* The macro, the function, its address. */
	void *(*function)(size_t) = weir_alloc;
	void *folded = weir_alloc(200);
	void *called = (weir_alloc)(200);
	void *pointed = function(200);
	void *none = weir_alloc(0);
	void *large = weir_alloc(100000);

	CHECK_EQ(weir_usable_size(folded), 208);
	CHECK_EQ(weir_usable_size(called), 208);
	CHECK_EQ(weir_usable_size(pointed), 208);
	CHECK_EQ(weir_usable_size(none), 16);
	CHECK_GE(weir_usable_size(large), 100000);
	weir_free_sized(folded, 200);
	weir_free_sized(called, 200);
	weir_free(pointed);
	weir_free_sized(none, 0);
	weir_free_sized(large, 100000);
	CHECK_NULL(weir_alloc_class(WEIR_HEAP_CLASSES));
}

TEST(heap_refuses_impossible_sizes_and_leaves_errno)
{
	struct weir_heap *heap = weir_heap_default();
	uint64_t failures = stats_of(heap).failures;
	static const size_t sizes[] = {(size_t)PTRDIFF_MAX + 1, SIZE_MAX,
	    SIZE_MAX - 14, SIZE_MAX - 4095, PTRDIFF_MAX, PTRDIFF_MAX - 4096};
	void *object = (weir_alloc)(40000);

	errno = 77;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		CHECK_NULL((weir_alloc)(sizes[i]));
		CHECK_NULL(weir_calloc(1, sizes[i]));
		CHECK_NULL(weir_aligned(4096, sizes[i]));
		CHECK_NULL(weir_realloc(object, sizes[i]));
	}
	CHECK_NULL(weir_calloc(SIZE_MAX / 2, 3));
	CHECK_NULL(weir_calloc((size_t)1 << 33, (size_t)1 << 33));
	CHECK_NULL(weir_aligned((size_t)1 << 62, 1));
	CHECK_EQ(errno, 77);
	CHECK_EQ(stats_of(heap).failures, failures + 6 * 4 + 3);
	memset(object, 1, 40000); /* a refused realloc leaves it */
	weir_free(object);
	weir_free(NULL);
	weir_free_sized(NULL, 100);
	CHECK_EQ(weir_usable_size(NULL), 0);
}

TEST(heap_calloc_is_zero_on_used_and_on_fresh_memory)
{
	static const size_t sizes[] = {1, 100, 4096, 5000, 32768, 40000, MIB};

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		for (int round = 0; round < 3; round++) {
			unsigned char *object = weir_calloc(sizes[i], 1);

			CHECK(is_filled(object, 0, sizes[i]));
			memset(object, 0xff, weir_usable_size(object));
			weir_free(object);
		}
}

TEST(heap_aligns_as_asked)
{
	static const size_t sizes[] = {
	    0, 1, 16, 17, 100, 1000, 4096, 5000, 30000, 32768, 100000};

	for (size_t align = 1; align <= MIB; align *= 2)
		for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
			unsigned char *all[3];

			for (size_t n = 0; n < 3; n++) {
				all[n] = weir_aligned(align, sizes[i]);
				CHECK_EQ((uintptr_t)all[n] % align, 0);
				CHECK_GE(weir_usable_size(all[n]), sizes[i]);
				memset(all[n], (int)n, sizes[i]);
			}
			for (size_t n = 0; n < 3; n++) {
				CHECK(is_filled(
				    all[n], (unsigned char)n, sizes[i]));
				weir_free(all[n]);
			}
		}
	CHECK(weir_heap_check(weir_heap_default()));
}

/* ---- realloc ------------------------------------------------------------ */

TEST(heap_realloc_keeps_contents_over_all_borders)
{
	static const size_t sizes[] = {1, 16, 100, 128, 129, 1000, 4096, 4097,
	    20000, 32768, 32769, 50000, 200000, 3 * MIB / 2};
	enum { COUNT = sizeof(sizes) / sizeof(sizes[0]) };

	for (size_t from = 0; from < COUNT; from++)
		for (size_t to = 0; to < COUNT; to++) {
			size_t kept =
			    sizes[from] < sizes[to] ? sizes[from] : sizes[to];
			unsigned char *object = (weir_alloc)(sizes[from]);

			memset(object, 0x5b, sizes[from]);
			object = weir_realloc(object, sizes[to]);
			CHECK(is_filled(object, 0x5b, kept));
			memset(object, 0x3c, sizes[to]);
			weir_free_sized(object, sizes[to]);
		}
	CHECK(weir_heap_check(weir_heap_default()));
	CHECK_EQ(stats_of(weir_heap_default()).in_use, 0);
}

TEST(heap_realloc_stays_in_place_within_a_class_and_beside_free_pages)
{
	NOT_UNDER_GUARD("a realloc always moves");

	struct weir_heap *heap = heap_with(NULL);
	char *object = weir_heap_alloc(heap, 1025);
	char *run = weir_heap_alloc(heap, 64 * KIB);

	CHECK(weir_heap_realloc(heap, object, 1152) == object);
	CHECK(weir_heap_realloc(heap, object, 1030) == object);
	weir_heap_free_sized(heap, object, 1030);

	/* The tail goes back, and can be had again. */
	CHECK(weir_heap_realloc(heap, run, 40 * KIB) == run);
	CHECK_EQ(weir_usable_size(run), 40 * KIB);
	CHECK(weir_heap_realloc(heap, run, 64 * KIB) == run);
	CHECK_EQ(weir_usable_size(run), 64 * KIB);
	CHECK_EQ(stats_of(heap).bytes_in_use, 64 * KIB);
	object = weir_heap_realloc(heap, run, 100);
	CHECK_EQ(weir_usable_size(object), 112);
	CHECK(weir_heap_realloc(heap, NULL, 10) != NULL);
	CHECK(weir_heap_check(heap));
	weir_heap_destroy(heap);
}

/* Growth by doubling, contents followed by a word on each page. */
static void
grow_large(void)
{
	size_t bytes = MIB;
	uint64_t *words = (weir_alloc)(bytes);
	void *wall[8] = {NULL};

	for (size_t i = 0; i < bytes / 8; i += 512)
		words[i] = i;
	for (size_t step = 0; step < 6; step++) {
		/* Something behind it, so that it cannot grow there. */
		wall[step] = (weir_alloc)(64 * KIB);
		words = weir_realloc(words, bytes * 2);
		CHECK_NOT_NULL(words);
		for (size_t i = 0; i < bytes / 8; i += 512)
			CHECK_EQ(words[i], i);
		for (size_t i = bytes / 8; i < bytes / 4; i += 512)
			words[i] = i;
		bytes *= 2;
	}
	for (size_t i = 0; i < 8; i++)
		weir_free(wall[i]);
	weir_free_sized(words, bytes);
	CHECK(weir_heap_check(weir_heap_default()));
	CHECK(weiri_pages_check());
}

TEST(heap_realloc_of_large_runs_keeps_contents_however_they_move)
{
	grow_large();
	/* Moving page tables refused: copied instead. */
	weiri_os_fail_nth(0, false);
	grow_large();

	int64_t calls = weiri_os_calls();

	for (int64_t n = 1; n <= calls; n += test_under_valgrind() ? 7 : 1) {
		weiri_os_fail_nth(n, false);
		grow_large();
	}
	weiri_os_fail_nth(0, false);
}

/* ---- heaps of one's own -------------------------------------------------- */

TEST(heap_destroy_gives_everything_back)
{
	uint64_t before = bytes_in_spans();
	struct weir_heap *heap = heap_with(NULL);
	struct test_rng rng;

	test_rng_init(&rng, test_seed());
	for (size_t i = 0; i < test_count(20000); i++)
		CHECK_NOT_NULL(
		    weir_heap_alloc(heap, 1 + test_rand_below(&rng, 2000)));
	for (size_t i = 0; i < 100; i++)
		CHECK_NOT_NULL(
		    weir_heap_alloc(heap, test_rand_below(&rng, 300000)));
	CHECK(weir_heap_check(heap));
	CHECK_GT(bytes_in_spans(), before);
	weir_heap_destroy(heap);
	CHECK_EQ(bytes_in_spans(), before);
	CHECK(weiri_pages_check());
	weir_heap_destroy(NULL);
}

TEST(heaps_do_not_mix)
{
	struct weir_heap *a = heap_with(NULL), *b = heap_with(NULL);
	void *of_a = weir_heap_alloc(a, 100), *of_b = weir_heap_alloc(b, 100);
	void *run = weir_heap_alloc(b, 100000);

	CHECK(weir_heap_of(of_a) == a);
	CHECK(weir_heap_of(of_b) == b);
	CHECK(weir_heap_of(run) == b);
	CHECK_NULL(weir_heap_of(&a));
	CHECK_NULL(weir_heap_of(NULL));
	CHECK_EQ(stats_of(a).in_use, 1);
	CHECK_EQ(stats_of(b).in_use, 2);
	weir_heap_destroy(a);
	memset(of_b, 1, 100);
	weir_heap_free(b, of_b);
	weir_heap_free(b, run);
	CHECK_EQ(stats_of(b).in_use, 0);
	weir_heap_destroy(b);
}

TEST(heap_limit_is_never_exceeded_and_idle_slabs_make_room)
{
	const size_t limit = 2 * MIB;
	struct weir_heap *heap =
	    heap_with(&(struct weir_heap_config){.limit_bytes = limit});
	static void *objects[40000];
	size_t count = 0;

	while ((objects[count] = weir_heap_alloc(heap, 100)) != NULL)
		count++;
	CHECK_GT(count * 112, limit - 128 * KIB);
	CHECK_LE(stats_of(heap).bytes_mapped, limit);
	CHECK_EQ(stats_of(heap).failures, 1);
	CHECK_NULL(weir_heap_alloc(heap, 1000));
	CHECK_NULL(weir_heap_alloc(heap, 100000));
	CHECK_NULL(weir_heap_calloc(heap, 1, 3 * MIB));
	CHECK(weir_heap_check(heap));
	for (size_t i = 0; i < count; i++)
		weir_heap_free(heap, objects[i]);

	/* All of it idle in one class: another class, and a run, get it. */
	void *run = weir_heap_alloc(heap, MIB);

	CHECK_NOT_NULL(run);
	CHECK_NOT_NULL(weir_heap_alloc(heap, 1000));
	CHECK_NULL(weir_heap_realloc(heap, run, 3 * MIB));
	CHECK_LE(stats_of(heap).bytes_mapped, limit);
	CHECK(weir_heap_check(heap));
	weir_heap_destroy(heap);

	heap = heap_with(
	    &(struct weir_heap_config){.limit_bytes = WEIR_LIMIT_NOTHING});
	CHECK_NULL(weir_heap_alloc(heap, 1));
	weir_heap_destroy(heap);
}

TEST(heap_trim_gives_idle_slabs_back)
{
	struct weir_heap *heap = heap_with(NULL);
	void *objects[2000];

	for (size_t i = 0; i < 2000; i++)
		objects[i] = weir_heap_alloc(heap, i % 4 * 300 + 20);
	for (size_t i = 0; i < 2000; i++)
		weir_heap_free(heap, objects[i]);
	CHECK_GT(stats_of(heap).bytes_mapped, 0);
	CHECK_GT(weir_heap_trim(heap), 0);
	CHECK_EQ(stats_of(heap).bytes_mapped, 0);
	CHECK(weir_heap_check(heap));
	weir_heap_destroy(heap);
}

/* ---- configuration -------------------------------------------------------- */

TEST(heap_with_classes_of_ones_own_serves_by_them)
{
	NOT_UNDER_GUARD("usable sizes are those asked for");

	static const uint32_t classes[] = {48, 176, 304, 5008, 24576};
	struct weir_heap *heap = heap_with(&(struct weir_heap_config){
	    .class_bytes = classes, .class_count = 5});
	unsigned char *all[100];
	static const struct {
		size_t bytes, usable;
	} want[] = {{0, 48}, {1, 48}, {48, 48}, {49, 176}, {177, 304},
	    {305, 5008}, {4096, 5008}, {5009, 24576}, {24576, 24576},
	    {24577, 28672}, {40000, 40960}};

	for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
		for (size_t n = 0; n < 100; n++) {
			all[n] = weir_heap_alloc(heap, want[i].bytes);
			CHECK_EQ(weir_usable_size(all[n]), want[i].usable);
			memset(all[n], (int)n, want[i].usable);
		}
		for (size_t n = 0; n < 100; n++) {
			CHECK(is_filled(
			    all[n], (unsigned char)n, want[i].usable));
			weir_heap_free_sized(heap, all[n], want[i].bytes);
		}
	}
	CHECK(weir_heap_check(heap));
	weir_heap_destroy(heap);
}

TEST(heap_of_the_process_takes_a_configuration_before_its_first_use)
{
	NOT_UNDER_GUARD("usable sizes are those asked for");

	static const uint32_t classes[] = {64, 512};

	/* A size that the compiler turned into its class means the standard
	 * one, also when it comes back as a size. */
	CHECK_EQ(weir_heap_set_default(&(struct weir_heap_config){
		     .class_bytes = classes, .class_count = 2}),
	    -EINVAL);
	CHECK_EQ(weir_heap_set_default(&(struct weir_heap_config){
		     .limit_bytes = MIB, .check = WEIR_CHECK_BATCH}),
	    0);

	void *object = weir_alloc(100);

	CHECK_EQ(weir_usable_size(object), 112);
	weir_free_sized(object, 100);
	object = weir_alloc(20000);
	CHECK_EQ(weir_usable_size(object), 20480);
	weir_free(object);
	CHECK_NULL((weir_alloc)(MIB + 1));
	CHECK_EQ(weir_heap_set_default(NULL), -EBUSY);
	CHECK(weir_heap_check(weir_heap_default()));
}

/* At the limit of the process: what the library can give back by itself it does
 * before it says no. */
TEST(heap_growth_is_not_refused_where_a_trim_would_make_room)
{
	enum { COUNT = 15 };
	void *hole = weir_alloc(64 * MIB), *others[COUNT];

	weir_free(hole);

	void *object = weir_alloc(52 * MIB), *grown;
	void *after[2] = {weir_alloc(8 * MIB), weir_alloc(4 * MIB)};

	for (size_t i = 0; i < COUNT; i++)
		others[i] = weir_alloc(2 * MIB);
	weir_free(after[0]);
	weir_free(after[1]);
	(void)weir_trim();
	for (size_t i = 1; i < COUNT; i++)
		weir_free(others[i]);
	CHECK_EQ(weir_set_limit(88 * MIB, UINT64_MAX), 0);
	grown = weir_realloc(object, 62 * MIB);
	if (grown == NULL) {
		(void)weir_trim();
		CHECK_NULL(weir_realloc(object, 62 * MIB));
		grown = object;
	}
	CHECK_EQ(weir_set_limit(UINT64_MAX, UINT64_MAX), 0);
	weir_free(grown);
	weir_free(others[0]);
	CHECK(weir_heap_check(weir_heap_default()));
}

TEST(heap_refuses_senseless_configurations)
{
	static const uint32_t odd[] = {16, 40}, falling[] = {64, 32},
			      same[] = {64, 64}, large[] = {16, 65536},
			      nothing[] = {0, 16};
	const struct weir_heap_config bad[] = {
	    {.class_bytes = odd, .class_count = 2},
	    {.class_bytes = falling, .class_count = 2},
	    {.class_bytes = same, .class_count = 2},
	    {.class_bytes = large, .class_count = 2},
	    {.class_bytes = nothing, .class_count = 2},
	    {.class_bytes = odd},
	    {.class_count = 2},
	    {.class_bytes = odd, .class_count = WEIR_HEAP_CLASSES + 1},
	    {.flags = 2},
	    {.check = (enum weir_check_level)9},
	    {.reserved = {0, 0, 1}},
	};
	struct weir_heap *heap;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		CHECK_EQ(weir_heap_create("bad", &bad[i], &heap), -EINVAL);
		CHECK_NULL(heap);
		CHECK_EQ(weir_heap_set_default(&bad[i]), -EINVAL);
	}
}

/* ---- figures --------------------------------------------------------------- */

TEST(heap_figures_add_up)
{
	struct weir_heap *heap = heap_with(NULL);
	struct weir_heap_class_stats rows[WEIR_HEAP_CLASSES + 1];
	static char text[16384];
	void *small[300], *run;

	CHECK_EQ(weir_heap_classes(heap, NULL, 0), 1);
	for (size_t i = 0; i < 300; i++)
		small[i] = weir_heap_alloc(heap, i < 200 ? 90 : 1000);
	run = weir_heap_alloc(heap, 50000);

	struct weir_pool_stats stats = stats_of(heap);

	CHECK_EQ(stats.in_use, 301);
	CHECK_EQ(stats.total, stats.in_use + stats.available);
	CHECK_EQ(stats.bytes_in_use, 200 * 96 + 100 * 1024 + 53248);
	CHECK_GE(stats.in_use_peak, 301);
	CHECK_EQ(stats.kind, WEIR_POOL_HEAP);
	CHECK_EQ(weir_heap_classes(heap, rows, 3), 3);
	CHECK_EQ(rows[0].object_bytes, 96);
	CHECK_EQ(rows[0].in_use, 200);
	CHECK_EQ(rows[0].bytes_requested, 200 * 90);
	CHECK_EQ(rows[1].object_bytes, 1024);
	CHECK_EQ(rows[1].bytes_requested, 100 * 1000);
	CHECK_EQ(rows[2].object_bytes, 0);
	CHECK_EQ(rows[2].in_use, 1);
	CHECK_EQ(rows[2].bytes_in_use, 53248);
	CHECK_EQ(rows[2].bytes_requested, 50000);
	CHECK_EQ(
	    rows[0].bytes_mapped + rows[1].bytes_mapped + rows[2].bytes_mapped,
	    stats.bytes_mapped);
	(void)weir_stats_text(text, sizeof(text));
	CHECK_CONTAINS(text, "heap   unit");

	for (size_t i = 0; i < 300; i++)
		weir_heap_free(heap, small[i]);
	weir_heap_free(heap, run);
	stats = stats_of(heap);
	CHECK_EQ(stats.in_use, 0);
	CHECK_EQ(stats.bytes_in_use, 0);
	weir_heap_destroy(heap);
}

/* ---- where the fast path does not lead -------------------------------------- */

TEST(heap_works_without_cells)
{
	enum { CACHES = 700 };
	static struct weir_cache *caches[CACHES];
	struct weir_heap *heap = heap_with(NULL);
	void *all[100];

	for (size_t i = 0; i < CACHES; i++)
		CHECK_EQ(weir_cache_create("filler",
			     &(struct weir_cache_config){.object_bytes = 64},
			     &caches[i]),
		    0);
	for (size_t bytes = 10; bytes < 50000; bytes = bytes * 3 / 2) {
		for (size_t n = 0; n < 100; n++) {
			all[n] = weir_heap_alloc(heap, bytes);
			memset(all[n], 1, bytes);
		}
		for (size_t n = 0; n < 100; n++)
			weir_heap_free(heap, all[n]);
	}
	CHECK_EQ(stats_of(heap).in_use, 0);
	CHECK(weir_heap_check(heap));
	weir_heap_destroy(heap);
	for (size_t i = 0; i < CACHES; i++)
		weir_cache_destroy(caches[i]);
}

/* ---- the end of the process -------------------------------------------------- */

static char told[4096];

static void
tell(enum weir_message_level level, const char *line, void *context)
{
	(void)level;
	(void)context;
	strncat(told, line, sizeof(told) - strlen(told) - 2);
	strcat(told, "\n");
}

TEST(heap_of_the_process_is_told_as_a_leak_only_with_objects_in_it)
{
	void *object;

	CHECK_EQ(weir_init(&(struct weir_config){
		     .flags = WEIR_REPORT_LEAKS, .message = tell}),
	    0);
	object = weir_alloc(100);
	CHECK_EQ(weir_shutdown(), 1);
	CHECK_CONTAINS(told, "leak: heap \"default\": 1 object, 112 bytes\n");
	/* Nothing else, but who took it where that is known. */
	if (test_under_guard())
		CHECK_CONTAINS(told, "1 object, 100 bytes, taken ");
	else
		CHECK_EQ(strlen(told), strcspn(told, "\n") + 1);
	weir_free(object);
	told[0] = '\0';
	CHECK_EQ(weir_shutdown(), 0);
	CHECK_STR(told, "");
}
