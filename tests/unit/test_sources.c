/* SPDX-License-Identifier: MIT */
/*
 * test_sources.c - each page source and flag, and what a fork makes of them.
 */
#include "pages_common.h"

#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

/* ---- sources ----------------------------------------------------------- */

TEST(source_range_is_used_whole_and_never_beyond)
{
	static WEIRI_ALIGNED(4096) char range[6 * 1024 * 1024];
	static struct weiri_span spans[6 * 256];
	/* In the middle of everything, so that it starts in a hole. */
	char *base = range + 3 * WEIRI_PAGE;
	size_t bytes = 5 * MIB + 7 * WEIRI_PAGE, count = 0;
	struct weiri_span large = span_of_tag(0);

	range[0] = range[sizeof(range) - 1] = 0x55;
	use_source(
	    &(struct weir_page_source){
		.kind = WEIR_SOURCE_RANGE, .base = base, .bytes = bytes},
	    UINT64_MAX);
	for (;; count++) {
		CHECK_LT(count, WEIRI_COUNT_OF(spans));
		spans[count] = span_of_tag(0);
		if (weiri_span_alloc(&spans[count], WEIRI_PAGE, WEIRI_PAGE) !=
		    0)
			break;
		CHECK(!spans[count].zeroed);
		CHECK(spans[count].base >= base);
		CHECK(spans[count].base + WEIRI_PAGE <= base + bytes);
		memset(spans[count].base, 0xff, WEIRI_PAGE);
	}
	CHECK_EQ(count, bytes / WEIRI_PAGE);
	check_conserved();
	CHECK_EQ(range[0], 0x55);
	CHECK_EQ(range[sizeof(range) - 1], 0x55);
	for (size_t i = 0; i < count; i++)
		weiri_span_free(&spans[i]);
	CHECK_EQ(trim_retained(), 0);
	CHECK_EQ(read_stats().bytes_reserved, bytes);
	CHECK_EQ(read_stats().bytes_retained, bytes);
	CHECK_EQ(weiri_span_alloc(&large, MIB, 64 * KIB), 0);
	CHECK_EQ((uintptr_t)large.base % (64 * KIB), 0);
	weiri_span_free(&large);
	check_conserved();
}

TEST(source_range_survives_a_refused_record)
{
	static WEIRI_ALIGNED(4096) char range[1024 * 1024];
	struct weiri_span span = span_of_tag(0);

	use_source(&(struct weir_page_source){.kind = WEIR_SOURCE_RANGE,
		       .base = range,
		       .bytes = sizeof(range)},
	    4096);
	/* The range is taken, but there is no budget for its records. */
	CHECK_EQ(weiri_span_alloc(&span, WEIRI_PAGE, WEIRI_PAGE), -ENOMEM);
	check_conserved();
	CHECK_EQ(weiri_budget_set(UINT64_MAX, UINT64_MAX), 0);
	CHECK_EQ(weiri_span_alloc(&span, WEIRI_PAGE, WEIRI_PAGE), 0);
	weiri_span_free(&span);
	check_conserved();
}

/* Bytes of the range that are in memory. */
static size_t
resident_bytes(char *base, size_t bytes)
{
	static unsigned char in_memory[4096];
	size_t page = weiri_os_page_bytes(), sum = 0;

	CHECK_LE(bytes / page, sizeof(in_memory));
	CHECK_EQ(mincore(base, bytes, in_memory), 0);
	for (size_t i = 0; i < bytes / page; i++)
		sum += (in_memory[i] & 1) * page;
	return sum;
}

static char *
untouched(size_t bytes)
{
	char *base = weiri_os_reserve(bytes, 2 * MIB);

	CHECK_NOT_NULL(base);
	CHECK_EQ(weiri_os_commit(base, bytes), 0);
	CHECK_EQ(resident_bytes(base, bytes), 0);
	return base;
}

/* A range of 8 MiB, made resident as its flag says, within what is granted. */
static void
check_resident_range(unsigned flag)
{
	enum { SPANS = 128 };
	static struct weiri_span spans[SPANS];
	size_t bytes = 8 * MIB, count = 0, in_memory;
	char *base = untouched(bytes);

	use_source(&(struct weir_page_source){.kind = WEIR_SOURCE_RANGE,
		       .flags = flag,
		       .base = base,
		       .bytes = bytes},
	    3 * MIB);
	for (; count < SPANS; count++) {
		spans[count] = span_of_tag(0);
		if (weiri_span_alloc(&spans[count], 64 * KIB, WEIRI_PAGE) != 0)
			break;
		in_memory = resident_bytes(base, bytes);
		CHECK_GE(in_memory, 64 * KIB);
		CHECK_LE(in_memory, read_stats().bytes_charged);
		check_conserved();
	}
	/* More than the first two MiB that the limit lets be used. */
	CHECK_GE(count, 40);
	CHECK_LE(read_stats().bytes_peak, 3 * MIB);
	/* Whoever raises the limit gets the rest of the range. */
	CHECK_EQ(weiri_budget_set(UINT64_MAX, UINT64_MAX), 0);
	for (; count < SPANS; count++) {
		spans[count] = span_of_tag(0);
		CHECK_EQ(
		    weiri_span_alloc(&spans[count], 64 * KIB, WEIRI_PAGE), 0);
	}
	CHECK_EQ(resident_bytes(base, bytes), bytes);
	CHECK_EQ(read_stats().bytes_reserved, bytes);
	check_conserved();
	for (size_t i = 0; i < SPANS; i++)
		weiri_span_free(&spans[i]);
	check_conserved();
}

TEST(source_range_prefaulted_comes_in_as_the_budget_grants_it)
{
	if (test_under_valgrind())
		SKIP("valgrind answers mincore for itself");
	check_resident_range(WEIR_SOURCE_PREFAULT);
}

TEST(source_range_locked_comes_in_as_the_budget_grants_it)
{
	struct rlimit limit;

	CHECK_EQ(getrlimit(RLIMIT_MEMLOCK, &limit), 0);
	if (limit.rlim_cur < 16 * MIB)
		SKIP("ulimit -l is below 16 MiB");
	if (TEST_ASAN || TEST_TSAN || test_under_valgrind())
		SKIP("the tool leaves mlock out");
	check_resident_range(WEIR_SOURCE_LOCK);
}

TEST(source_range_smaller_than_an_extent_is_prefaulted_too)
{
	struct weiri_span span = span_of_tag(0);
	char *base = untouched(2 * MIB);

	if (test_under_valgrind())
		SKIP("valgrind answers mincore for itself");
	use_source(&(struct weir_page_source){.kind = WEIR_SOURCE_RANGE,
		       .flags = WEIR_SOURCE_PREFAULT,
		       .base = base + WEIRI_PAGE,
		       .bytes = MIB},
	    MIB + 64 * KIB);
	CHECK_EQ(weiri_span_alloc(&span, 512 * KIB, WEIRI_PAGE), 0);
	CHECK_LE(resident_bytes(base, 2 * MIB), MIB + 2 * WEIRI_PAGE);
	check_conserved();
	weiri_span_free(&span);
}

static void
check_source(enum weir_source_kind kind, unsigned flags)
{
	struct weiri_span span = span_of_tag(0), other = span_of_tag(0);

	use_source(&(struct weir_page_source){.kind = kind, .flags = flags},
	    UINT64_MAX);
	CHECK_EQ(weiri_span_alloc(&span, 3 * MIB, WEIRI_PAGE), 0);
	CHECK_EQ(weiri_span_alloc(&other, WEIRI_PAGE, WEIRI_PAGE), 0);
	CHECK(span.zeroed);
	CHECK(reads_zero(span.base, span.bytes));
	memset(span.base, 0xa5, span.bytes);
	check_conserved();
	weiri_span_free(&span);
	(void)weiri_pages_trim();
	check_conserved();
	CHECK_EQ(weiri_span_alloc(&span, 3 * MIB, WEIRI_PAGE), 0);
	if (span.zeroed)
		CHECK(reads_zero(span.base, span.bytes));
	memset(span.base, 0x5a, span.bytes);
	weiri_span_free(&span);
	weiri_span_free(&other);
	(void)weiri_pages_trim();
	check_conserved();
	if (flags & WEIR_SOURCE_NO_TRIM)
		CHECK_GT(read_stats().bytes_reserved, 0);
	else
		CHECK_EQ(read_stats().bytes_reserved, 0);
}

TEST(source_anonymous_with_no_dump)
{
	check_source(WEIR_SOURCE_ANONYMOUS, WEIR_SOURCE_NO_DUMP);
}

TEST(source_anonymous_with_no_trim_keeps_everything)
{
	check_source(WEIR_SOURCE_ANONYMOUS, WEIR_SOURCE_NO_TRIM);
	CHECK_GE(read_stats().bytes_retained, 3 * MIB);
}

TEST(source_anonymous_prefaulted_is_charged_whole)
{
	struct weiri_span span = span_of_tag(0);
	uint64_t before, after;

	use_source(&(struct weir_page_source){.flags = WEIR_SOURCE_PREFAULT},
	    UINT64_MAX);
	before = test_resident_bytes();
	CHECK_EQ(weiri_span_alloc(&span, WEIRI_PAGE, WEIRI_PAGE), 0);
	after = test_resident_bytes();
	CHECK(span.zeroed);
	CHECK_EQ(read_stats().bytes_retained, 2 * MIB - WEIRI_PAGE);
	if (!test_under_valgrind())
		CHECK_GE(after, before + 2 * MIB - 64 * KIB);
	check_conserved();
	weiri_span_free(&span);
	CHECK_EQ(trim_retained(), 2 * MIB);
	check_conserved();
}

TEST(source_prefaulted_stays_within_the_limit)
{
	struct weiri_span span = span_of_tag(0);

	use_source(
	    &(struct weir_page_source){.flags = WEIR_SOURCE_PREFAULT}, 3 * MIB);
	CHECK_EQ(weiri_span_alloc(&span, MIB, WEIRI_PAGE), 0);
	CHECK_LE(read_stats().bytes_peak, 3 * MIB);

	struct weiri_span more = span_of_tag(0);

	CHECK_EQ(weiri_span_alloc(&more, 1536 * KIB, WEIRI_PAGE), -ENOMEM);
	check_conserved();
	weiri_span_free(&span);
}

TEST(source_prefaulted_is_undone_wherever_the_budget_ends)
{
	struct weiri_span span = span_of_tag(0);
	size_t refused = 0;

	use_source(&(struct weir_page_source){.flags = WEIR_SOURCE_PREFAULT},
	    UINT64_MAX);
	for (size_t more = 0; more <= 64 * KIB; more += WEIRI_PAGE) {
		CHECK_EQ(weiri_budget_set(2 * MIB + more, UINT64_MAX), 0);
		if (weiri_span_alloc(&span, WEIRI_PAGE, WEIRI_PAGE) == 0)
			weiri_span_free(&span);
		else
			refused++;
		check_conserved();
		(void)weiri_pages_trim();
		CHECK_EQ(
		    read_stats().bytes_charged, read_stats().bytes_metadata);
		check_conserved();
	}
	CHECK_GT(refused, 0);
	CHECK_LT(refused, 17);
}

TEST(source_locked_works_or_says_that_it_cannot)
{
	check_source(WEIR_SOURCE_ANONYMOUS, WEIR_SOURCE_LOCK);
}

TEST(source_memfd_decommits_and_gives_back)
{
	struct weiri_span keep = span_of_tag(0), span = span_of_tag(0);
	int lowest = dup(0);

	CHECK_GE(lowest, 0);
	CHECK_EQ(close(lowest), 0);
	check_source(WEIR_SOURCE_MEMFD, 0);
	/* No descriptor stays open for a block. */
	CHECK_EQ(dup(0), lowest);
	CHECK_EQ(weiri_span_alloc(&keep, WEIRI_PAGE, WEIRI_PAGE), 0);
	CHECK_EQ(weiri_span_alloc(&span, MIB, WEIRI_PAGE), 0);
	memset(span.base, 0xa5, span.bytes);
	weiri_span_free(&span);
	CHECK_EQ(trim_retained(), MIB);
	CHECK_EQ(weiri_span_alloc(&span, MIB, WEIRI_PAGE), 0);
	CHECK(reads_zero(span.base, span.bytes));
	weiri_span_free(&span);
	weiri_span_free(&keep);
}

static unsigned messages;

static void
count_message(enum weir_message_level level, const char *line, void *context)
{
	(void)level;
	(void)context;
	/* A refusal that follows has its own message. */
	messages += strstr(line, "page source") != NULL;
}

TEST(source_huge_falls_back_and_says_so_once)
{
	struct weiri_span span = span_of_tag(0), more = span_of_tag(0);
	struct weir_config config = {
	    .flags = WEIR_IGNORE_ENVIRONMENT,
	    .limit_bytes = UINT64_MAX,
	    .source.kind = WEIR_SOURCE_HUGE,
	    .message = count_message,
	};
	void *probe = weiri_os_map_huge(2 * MIB);

	if (probe != NULL) {
		CHECK_EQ(weiri_os_release(probe, 2 * MIB), 0);
		SKIP("this machine has huge pages free");
	}
	CHECK_EQ(weiri_config_set(&config), 0);
	CHECK_EQ(weiri_span_alloc(&span, MIB, WEIRI_PAGE), 0);
	CHECK_EQ(messages, 1);
	CHECK_EQ(weiri_span_alloc(&more, 8 * MIB, WEIRI_PAGE), 0);
	CHECK_EQ(messages, 1);
	CHECK(span.zeroed);
	weiri_span_free(&span);
	weiri_span_free(&more);
	check_conserved();
}

TEST(source_huge_is_resident_where_it_exists)
{
	void *probe = weiri_os_map_huge(2 * MIB);

	if (probe == NULL)
		SKIP("this machine has no huge pages free");
	CHECK_EQ(weiri_os_release(probe, 2 * MIB), 0);
	use_source(
	    &(struct weir_page_source){.kind = WEIR_SOURCE_HUGE}, UINT64_MAX);

	struct weiri_span span = span_of_tag(0);

	CHECK_EQ(weiri_span_alloc(&span, MIB, WEIRI_PAGE), 0);
	CHECK_EQ(read_stats().bytes_retained, MIB);
	check_conserved();
	weiri_span_free(&span);
	CHECK_EQ(trim_retained(), 2 * MIB);
	check_conserved();
}

/* A custom source over one static arena, counting what is asked of it. */
struct arena {
	char *base;
	size_t bytes, used;
	unsigned takes, decommits, gives;
	size_t skew;    /* a fault: results this far from alignment */
	uintptr_t high; /* a fault: this address instead */
};

static void *
arena_take(void *context, size_t bytes, size_t align)
{
	struct arena *arena = context;

	CHECK_EQ(bytes % (2 * MIB), 0);
	CHECK_EQ(align, 2 * MIB);
	if (arena->high != 0)
		return (void *)arena->high;
	if (bytes > arena->bytes - arena->used)
		return NULL;
	arena->takes++;
	arena->used += bytes;
	return arena->base + arena->used - bytes + arena->skew;
}

static bool
arena_decommit(void *context, void *address, size_t bytes)
{
	struct arena *arena = context;

	CHECK((char *)address >= arena->base);
	CHECK((char *)address + bytes <= arena->base + arena->used);
	arena->decommits++;
	return false;
}

static void
arena_give(void *context, void *address, size_t bytes)
{
	struct arena *arena = context;

	(void)address;
	arena->gives++;
	if ((char *)address + bytes == arena->base + arena->used)
		arena->used -= bytes;
}

static struct weir_page_source
arena_source(struct arena *arena)
{
	arena->base = weiri_os_reserve(16 * MIB, 2 * MIB);
	CHECK_NOT_NULL(arena->base);
	CHECK_EQ(weiri_os_commit(arena->base, 16 * MIB), 0);
	arena->bytes = 16 * MIB;
	return (struct weir_page_source){
	    .kind = WEIR_SOURCE_CUSTOM,
	    .take = arena_take,
	    .decommit = arena_decommit,
	    .give = arena_give,
	    .context = arena,
	};
}

TEST(source_custom_is_asked_and_paid_back)
{
	static struct arena arena;
	struct weir_page_source source = arena_source(&arena);
	struct weiri_span span = span_of_tag(0), keep = span_of_tag(0);

	use_source(&source, UINT64_MAX);
	CHECK_EQ(weiri_span_alloc(&keep, WEIRI_PAGE, WEIRI_PAGE), 0);
	CHECK_EQ(arena.takes, 1);
	CHECK(!keep.zeroed);
	CHECK_EQ(weiri_span_alloc(&span, MIB, WEIRI_PAGE), 0);
	weiri_span_free(&span);
	CHECK_EQ(trim_retained(), MIB);
	CHECK_GE(arena.decommits, 1);
	/* More than there is: refused, nothing lost. */
	CHECK_EQ(weiri_span_alloc(&span, 32 * MIB, WEIRI_PAGE), -ENOMEM);
	check_conserved();
	CHECK_EQ(weiri_span_alloc(&span, 14 * MIB, WEIRI_PAGE), 0);
	weiri_span_free(&span);
	weiri_span_free(&keep);
	(void)weiri_pages_trim();
	CHECK_EQ(arena.gives, arena.takes);
	CHECK_EQ(arena.used, 0);
	check_conserved();
}

/* The budget has room for the block, but not for its records as well: the
 * block goes back before a page of it was brought in. */
TEST(source_custom_prefaulted_is_charged_first)
{
	static struct arena arena;
	struct weir_page_source source = arena_source(&arena);
	struct weiri_span span = span_of_tag(0);

	if (test_under_valgrind())
		SKIP("valgrind answers mincore for itself");
	source.flags = WEIR_SOURCE_PREFAULT;
	use_source(&source, 2 * MIB);
	CHECK_EQ(weiri_span_alloc(&span, WEIRI_PAGE, WEIRI_PAGE), -ENOMEM);
	CHECK_GT(arena.takes, 0);
	CHECK_EQ(arena.gives, arena.takes);
	CHECK_EQ(resident_bytes(arena.base, arena.bytes), 0);
	check_conserved();
	CHECK_EQ(weiri_budget_set(3 * MIB, UINT64_MAX), 0);
	CHECK_EQ(weiri_span_alloc(&span, WEIRI_PAGE, WEIRI_PAGE), 0);
	CHECK_EQ(resident_bytes(arena.base, arena.bytes), 2 * MIB);
	CHECK_EQ(read_stats().bytes_retained, 2 * MIB - WEIRI_PAGE);
	check_conserved();
	weiri_span_free(&span);
}

TEST(source_custom_prefaulted_without_give_waits_untouched)
{
	static struct arena arena;
	struct weir_page_source source = arena_source(&arena);
	struct weiri_span span = span_of_tag(0);

	if (test_under_valgrind())
		SKIP("valgrind answers mincore for itself");
	source.flags = WEIR_SOURCE_PREFAULT;
	source.give = NULL;
	use_source(&source, 2 * MIB);
	for (int i = 0; i < 3; i++)
		CHECK_EQ(
		    weiri_span_alloc(&span, WEIRI_PAGE, WEIRI_PAGE), -ENOMEM);
	CHECK_EQ(arena.takes, 1);
	CHECK_EQ(resident_bytes(arena.base, arena.bytes), 0);
	check_conserved();
	CHECK_EQ(weiri_budget_set(3 * MIB, UINT64_MAX), 0);
	CHECK_EQ(weiri_span_alloc(&span, WEIRI_PAGE, WEIRI_PAGE), 0);
	CHECK_EQ(arena.takes, 1);
	CHECK_EQ(resident_bytes(arena.base, arena.bytes), 2 * MIB);
	weiri_span_free(&span);
	check_conserved();
}

TEST(source_custom_without_give_keeps_its_blocks)
{
	static struct arena arena;
	struct weir_page_source source = arena_source(&arena);
	struct weiri_span span = span_of_tag(0);

	source.give = NULL;
	source.decommit = NULL;
	use_source(&source, UINT64_MAX);
	for (int i = 0; i < 50; i++) {
		CHECK_EQ(weiri_span_alloc(&span, 4 * MIB, WEIRI_PAGE), 0);
		weiri_span_free(&span);
		CHECK_EQ(trim_retained(), 0);
	}
	CHECK_EQ(arena.takes, 1);
	check_conserved();
}

TEST(source_custom_that_lies_is_refused)
{
	static struct arena arena;
	struct weir_page_source source = arena_source(&arena);
	struct weir_config config = {
	    .flags = WEIR_IGNORE_ENVIRONMENT,
	    .limit_bytes = UINT64_MAX,
	    .source = source,
	    .message = count_message,
	};
	struct weiri_span span = span_of_tag(0);

	CHECK_EQ(weiri_config_set(&config), 0);
	arena.skew = WEIRI_PAGE;
	CHECK_EQ(weiri_span_alloc(&span, WEIRI_PAGE, WEIRI_PAGE), -ENOMEM);
	CHECK_EQ(messages, 1);
	CHECK_EQ(arena.gives, arena.takes);
	arena.skew = 0;
	arena.used = 0;
	arena.high = (uintptr_t)1 << 52;
	CHECK_EQ(weiri_span_alloc(&span, WEIRI_PAGE, WEIRI_PAGE), -ENOMEM);
	CHECK_EQ(messages, 2);
	arena.high = 0;
	arena.used = 0;
	CHECK_EQ(weiri_span_alloc(&span, WEIRI_PAGE, WEIRI_PAGE), 0);
	weiri_span_free(&span);
	check_conserved();
}

/* ---- fork -------------------------------------------------------------- */

static void
expect_child_ok(pid_t child)
{
	int status;

	CHECK_EQ(waitpid(child, &status, 0), child);
	CHECK(WIFEXITED(status));
	CHECK_EQ(WEXITSTATUS(status), 0);
}

TEST(child_of_a_fork_uses_what_it_inherited)
{
	struct weiri_span span = span_of_tag(0), more = span_of_tag(0);

	CHECK_EQ(weiri_span_alloc(&span, 64 * KIB, WEIRI_PAGE), 0);
	memset(span.base, 1, span.bytes);

	pid_t child = fork();

	CHECK_GE(child, 0);
	if (child == 0) {
		weiri_span_free(&span);
		CHECK_EQ(weiri_span_alloc(&more, 64 * KIB, WEIRI_PAGE), 0);
		memset(more.base, 2, more.bytes);
		check_conserved();
		_exit(0);
	}
	expect_child_ok(child);
	CHECK_EQ(span.base[0], 1);
	weiri_span_free(&span);
	check_conserved();
}

TEST(child_of_a_fork_does_not_touch_the_parents_memory_file)
{
	struct weiri_span span = span_of_tag(0), freed = span_of_tag(0);

	use_source(
	    &(struct weir_page_source){.kind = WEIR_SOURCE_MEMFD}, UINT64_MAX);
	CHECK_EQ(weiri_span_alloc(&span, 64 * KIB, WEIRI_PAGE), 0);
	CHECK_EQ(weiri_span_alloc(&freed, 64 * KIB, WEIRI_PAGE), 0);
	memset(span.base, 1, span.bytes);
	memset(freed.base, 1, freed.bytes);

	pid_t child = fork();

	CHECK_GE(child, 0);
	if (child == 0) {
		struct weiri_span own = span_of_tag(0);

		weiri_span_free(&freed);
		CHECK_EQ(weiri_span_resize(&span, 256 * KIB), -ENOMEM);
		CHECK_EQ(weiri_span_alloc(&own, 64 * KIB, WEIRI_PAGE), 0);
		memset(own.base, 2, own.bytes);
		(void)weiri_pages_trim();
		check_conserved();
		CHECK_EQ(span.base[0], 1);
		weiri_span_free(&span);
		weiri_span_free(&own);
		(void)weiri_pages_trim();
		check_conserved();
		_exit(0);
	}
	expect_child_ok(child);
	for (size_t i = 0; i < span.bytes; i++) {
		CHECK_EQ(span.base[i], 1);
		CHECK_EQ(freed.base[i], 1);
	}
	weiri_span_free(&span);
	weiri_span_free(&freed);
	check_conserved();
}
