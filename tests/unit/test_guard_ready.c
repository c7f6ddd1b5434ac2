/* SPDX-License-Identifier: MIT */
/*
 * test_guard_ready.c - the page of an object that ended becomes the next one's:
 * what that spares, what is seen of a place that waits for its object, and that
 * nothing but the price is another where pages cannot be moved.
 */
#include "support/test.h"

#include "guard/state.h"
#include "os/guard.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <weir/weir.h>

enum { BYTES = 200, READY_MAX = 16, MANY = 100 };

static struct weiri_space *const all =
    &weiri_guard_state.space[WEIRI_GUARD_LARGE];

static struct weir_cache *cache;

static void
start(enum weir_guard_mode mode, unsigned flags)
{
	struct weir_guard_config config = {.mode = mode, .sample_rate = 1};

	CHECK_EQ(weir_guard_set(&config), 0);
	if (!all->moves)
		SKIP("the system has no way to move a page");
	CHECK_EQ(weir_cache_create("conn",
		     &(struct weir_cache_config){
			 .object_bytes = BYTES, .flags = flags},
		     &cache),
	    0);
}

static struct weir_guard_stats
figures(void)
{
	struct weir_guard_stats stats = {.size = sizeof(stats)};

	CHECK_EQ(weir_guard_read(&stats), 0);
	return stats;
}

static char *
take(void)
{
	char *object = weir_cache_alloc(cache);

	CHECK_NOT_NULL(object);
	return object;
}

static void
pairs(int count)
{
	for (int i = 0; i < count; i++)
		weir_cache_free(cache, memset(take(), i, BYTES));
}

/* Accesses that no compiler leaves out, or warns of. */
__attribute__((noinline)) static char
peek(const char *at)
{
	return *(const volatile char *)at;
}

__attribute__((noinline)) static void
poke(char *at)
{
	*(volatile char *)at = 1;
}

/* The place that the next object comes to. */
static struct weiri_guarded *
ahead(void)
{
	CHECK_GT(all->ready.count, 0);
	return &all->record[all->ready.first];
}

/* ---- what is spared ---------------------------------------------------------- */

static long
faults_of(int count)
{
	struct rusage before, after;

	CHECK_EQ(getrusage(RUSAGE_SELF, &before), 0);
	pairs(count);
	CHECK_EQ(getrusage(RUSAGE_SELF, &after), 0);
	return after.ru_minflt - before.ru_minflt;
}

TEST(pair_asks_for_no_memory_of_its_own)
{
	enum { PAIRS = 2000 };

	start(WEIR_GUARD_FULL, 0);
	if (TEST_ASAN || TEST_TSAN)
		SKIP("faults are counted, and a sanitizer has its own");
	pairs(1);
	/* Those there are come of records and tables of pages. */
	CHECK_LT(faults_of(PAIRS), PAIRS / 4);
	CHECK_EQ(all->ready.count, 1);
	weiri_os_refuse_moves(EBUSY);
	CHECK_GE(faults_of(PAIRS), PAIRS);
	weir_cache_destroy(cache);
}

TEST(few_places_are_ready_and_their_memory_is_told)
{
	char *object[MANY];
	size_t bytes;

	NOT_UNDER_GUARD("the library's own objects are counted, too");
	start(WEIR_GUARD_FULL, 0);
	for (int i = 0; i < MANY; i++)
		object[i] = memset(take(), 1, BYTES);
	CHECK_EQ(all->ready.count, 0);
	bytes = figures().bytes;
	for (int i = 0; i < MANY; i++)
		weir_cache_free(cache, object[i]);
	CHECK_EQ(all->ready.count, READY_MAX);
	CHECK_EQ(all->readying, 0);
	CHECK_EQ(figures().live, 0);
	CHECK_EQ(figures().quarantined, MANY);
	CHECK_LE(figures().bytes, bytes - (MANY - READY_MAX) * all->grain +
				      MANY * sizeof(uintptr_t) * 32);
	CHECK_GE(figures().bytes, bytes - (MANY - READY_MAX) * all->grain);
	weir_cache_destroy(cache);
}

/* ---- what the next object finds ------------------------------------------------ */

static void
expect_filled(const char *object, int byte)
{
	for (size_t i = 0; i < BYTES; i++)
		CHECK_EQ((unsigned char)object[i], byte);
}

TEST(nothing_is_left_of_the_object_before)
{
	static const struct {
		enum weir_guard_mode mode;
		unsigned flags;
		int byte;
	} ways[] = {
	    {WEIR_GUARD_FULL, 0, WEIRI_GUARD_FRESH},
	    {WEIR_GUARD_FULL, WEIR_CACHE_ZERO, 0},
	    {WEIR_GUARD_SAMPLE, WEIR_CACHE_ZERO, 0},
	};

	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		char *object[MANY];

		start(ways[i].mode, ways[i].flags);
		for (int round = 0; round < 3; round++) {
			for (int n = 0; n < MANY; n++) {
				object[n] = take();
				expect_filled(object[n], ways[i].byte);
				memset(object[n], n, BYTES);
			}
			for (int n = 0; n < MANY; n++) {
				expect_filled(object[n], n);
				weir_cache_free(cache, object[n]);
			}
		}
		CHECK_EQ(figures().reports, 0);
		weir_cache_destroy(cache);
	}
}

TEST(object_whose_page_was_moved_is_guarded_as_any)
{
	char *gone, *object;

	start(WEIR_GUARD_FULL, 0);
	pairs(3);
	gone = take();
	weir_cache_free(cache, gone);
	CHECK(ahead()->ready);
	object = take();
	CHECK(object != gone);
	EXPECT_ABORT("FAULT use-after-free: cache \"conn\": read at 0x",
	    { (void)peek(gone); });
	EXPECT_ABORT("FAULT double-free: cache \"conn\"",
	    { weir_cache_free(cache, gone); });
	EXPECT_ABORT("FAULT overflow: cache \"conn\": read at 0x",
	    { (void)peek(object + 208); });
	EXPECT_ABORT("FAULT underflow: cache \"conn\": 0x", {
		poke(object - 1);
		weir_cache_free(cache, object);
	});
	weir_cache_free(cache, object);
	weir_cache_destroy(cache);
}

/* ---- a place that is ready ------------------------------------------------------- */

/* As after 65,536 objects. */
static char *
stale_pointer(void)
{
	all->quarantine_max = READY_MAX;
	pairs(10 * READY_MAX);
	CHECK_NOT_NULL(ahead()->start);
	CHECK_EQ(ahead()->state, WEIRI_GUARDED_ENDED);
	return ahead()->start;
}

TEST(write_by_a_pointer_as_old_as_the_quarantine_is_told)
{
	static const char *const parts[] = {
	    "FAULT use-after-free: cache \"conn\": 0x",
	    " was written after its object ended by free",
	    "; the address is 5 bytes inside it\n",
	    "ended by free, thread ",
	};
	char *stale;

	start(WEIR_GUARD_FULL, 0);
	stale = stale_pointer();
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		EXPECT_ABORT(parts[i], {
			poke(stale + 5);
			(void)take();
		});
	EXPECT_ABORT("FAULT double-free: cache \"conn\"",
	    { weir_cache_free(cache, stale); });
	/* What there is to read is nobody's. */
	CHECK_EQ((unsigned char)peek(stale), WEIRI_GUARD_SLACK);
	CHECK_PTR(take(), stale);
	EXPECT_ABORT("use-after-free", { (void)peek(stale - 2 * all->grain); });
	weir_cache_free(cache, stale);
	weir_cache_destroy(cache);
}

/* As above, of an object whose place comes later, and is empty yet. */
static char *
staler_pointer(void)
{
	const struct weiri_guarded *guarded;

	all->quarantine_max = READY_MAX;
	for (int i = 0; i < 10 * READY_MAX || all->let_in.count == 0; i++) {
		pairs(1);
		if (i == 0 && all->let_in.count == 0)
			SKIP("the system lets in one page at a time");
	}
	guarded = &all->record[all->let_in.first];
	CHECK_NOT_NULL(guarded->start);
	CHECK(guarded->let_in);
	CHECK_EQ(guarded->state, WEIRI_GUARDED_ENDED);
	return guarded->start;
}

TEST(read_by_such_a_pointer_changes_nothing)
{
	char *stale, *object;

	start(WEIR_GUARD_FULL, 0);
	stale = staler_pointer();
	CHECK_EQ(peek(stale + 7), 0);
	for (int i = 0; i < 4 * READY_MAX; i++) {
		object = take();
		expect_filled(object, WEIRI_GUARD_FRESH);
		weir_cache_free(cache, object);
	}
	CHECK_EQ(figures().reports, 0);
	weir_cache_destroy(cache);
}

TEST(write_to_a_place_that_is_empty_is_told_before_it_is_used)
{
	static const char *const parts[] = {
	    " was written after its object ended by free",
	    "; the address is 7 bytes inside it\n",
	};
	char *stale;

	start(WEIR_GUARD_FULL, 0);
	stale = staler_pointer();
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		EXPECT_ABORT(parts[i], {
			poke(stale + 7);
			pairs(4 * READY_MAX);
		});
	EXPECT_ABORT("FAULT double-free: cache \"conn\"",
	    { weir_cache_free(cache, stale); });
	weir_cache_destroy(cache);
}

TEST(write_far_behind_the_newest_object_is_told)
{
	char *first, *newest;

	NOT_UNDER_GUARD("other objects lie between");
	start(WEIR_GUARD_FULL, 0);
	first = take();
	newest = take();
	weir_cache_free(cache, first);
	CHECK_NULL(ahead()->start);
	CHECK_PTR(ahead()->area + all->grain - 208, newest + 2 * all->grain);
	EXPECT_ABORT("FAULT overflow: cache \"conn\": 0x", {
		poke(newest + 2 * all->grain);
		(void)take();
	});
	EXPECT_ABORT(" bytes behind the object, was written; ", {
		poke(newest + 2 * all->grain);
		(void)take();
	});
	weir_cache_free(cache, newest);
	weir_cache_destroy(cache);
}

TEST(place_that_was_written_to_is_used_no_more)
{
	char *stale, *object;

	start(WEIR_GUARD_SAMPLE, 0);
	CHECK_EQ(
	    weir_guard_set_policy(WEIR_FAULT_USE_AFTER_FREE, WEIR_GUARD_GO_ON),
	    0);
	stale = stale_pointer();
	poke(stale);
	CHECK_EQ(figures().reports, 0);
	for (int i = 0; i < 4 * READY_MAX; i++) {
		object = take();
		CHECK(object != stale);
		weir_cache_free(cache, object);
	}
	CHECK_EQ(figures().reports, 1);
	CHECK_EQ(figures().live, 0);
	weir_cache_destroy(cache);
}

/* ---- where pages cannot be moved --------------------------------------------------- */

static void
expect_traps(void)
{
	char *object = memset(take(), 1, BYTES);

	weir_cache_free(cache, object);
	EXPECT_ABORT("FAULT use-after-free: cache \"conn\": read at 0x",
	    { (void)peek(object); });
}

TEST(refusal_costs_time_and_nothing_else)
{
	static const struct {
		int error;
		bool for_good;
	} ways[] = {
	    {EBUSY, false},
	    {EAGAIN, false},
	    {EPERM, true},
	};

	start(WEIR_GUARD_FULL, 0);
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		weiri_os_refuse_moves(ways[i].error);
		(void)take(); /* what is ready yet */
		expect_traps();
		CHECK_EQ(all->ready.count, 0);
		CHECK_EQ(all->readying, 0);
		CHECK_EQ(all->moves, !ways[i].for_good);
		weiri_os_refuse_moves(0);
		expect_traps();
		CHECK_EQ(all->ready.count, !ways[i].for_good);
	}
	CHECK_EQ(figures().refused, 0);
	CHECK_EQ(figures().reports, 0);
}

TEST(what_was_let_in_traps_when_nothing_is_moved_any_more)
{
	char *stale;

	start(WEIR_GUARD_FULL, 0);
	stale = staler_pointer();
	EXPECT_ABORT("FAULT use-after-free: cache \"conn\": read at 0x", {
		weiri_os_refuse_moves(EPERM);
		pairs(2);
		CHECK_EQ(all->let_in.count, 0);
		(void)peek(stale);
	});
	EXPECT_ABORT("FAULT use-after-free: cache \"conn\": read at 0x", {
		weiri_os_set_bars_merge(false);
		pairs(2);
		CHECK(!all->moves);
		(void)peek(stale);
	});
	/* A child of it could not move. */
	EXPECT_ABORT("FAULT use-after-free: cache \"conn\": read at 0x", {
		int status;
		pid_t child;

		weiri_os_refuse_moves(EPERM);
		child = fork();
		if (child != 0) {
			(void)waitpid(child, &status, 0);
			abort();
		}
		(void)peek(stale);
	});
	weir_cache_destroy(cache);
}

TEST(system_that_takes_no_list_lets_in_one_page_at_a_time)
{
	start(WEIR_GUARD_FULL, 0);
	weiri_os_refuse_unbar_each(true);
	for (int i = 0; i < MANY; i++) {
		expect_filled(take(), WEIRI_GUARD_FRESH);
		pairs(1);
		CHECK_EQ(all->let_in.count, 0);
		CHECK_EQ(all->ready.count, 1);
	}
	expect_traps();
	CHECK_EQ(figures().reports, 0);
}

TEST(system_that_cannot_move_is_asked_once)
{
	struct weir_guard_config config = {.mode = WEIR_GUARD_FULL};

	NOT_UNDER_GUARD("it was asked before");
	weiri_os_refuse_moves(ENOSYS);
	CHECK_EQ(weir_guard_set(&config), 0);
	CHECK(!all->moves);
	weiri_os_refuse_moves(0);
	CHECK_EQ(
	    weir_cache_create("conn",
		&(struct weir_cache_config){.object_bytes = BYTES}, &cache),
	    0);
	expect_traps();
	CHECK_EQ(all->ready.count, 0);
	weir_cache_destroy(cache);
}

/* As a daemon does, which may have its own files there then. */
TEST(descriptor_that_is_closed_is_not_missed)
{
	start(WEIR_GUARD_FULL, 0);
	for (int way = 0; way < 2; way++) {
		pid_t child = fork();
		int status = 0, null;

		CHECK_GE(child, 0);
		if (child == 0) {
			null = open("/dev/null", O_RDWR | O_CLOEXEC);
			for (int fd = null + 1; fd < 1024; fd++)
				if (way == 0)
					(void)close(fd);
				else if (fcntl(fd, F_GETFD) >= 0)
					(void)dup2(null, fd);
			CHECK(all->moves);
			expect_traps();
			CHECK(!all->moves);
			pairs(MANY);
			expect_traps();
			_exit(0);
		}
		CHECK_EQ(waitpid(child, &status, 0), child);
		CHECK_EQ(status, 0);
	}
	expect_traps();
	CHECK(all->moves);
	weir_cache_destroy(cache);
}

/* ---- processes, threads --------------------------------------------------------------- */

TEST(child_of_a_fork_moves_its_own_pages)
{
	char *before[MANY];
	int status = 0;
	pid_t child;

	start(WEIR_GUARD_FULL, 0);
	for (int i = 0; i < MANY; i++)
		before[i] = memset(take(), i, BYTES);
	child = fork();
	CHECK_GE(child, 0);
	/* Either has what was there before, which is shared, and its own. */
	for (int i = 0; i < MANY; i++) {
		expect_filled(before[i], i);
		weir_cache_free(cache, before[i]);
		pairs(1);
	}
	CHECK(all->moves);
	CHECK_EQ(all->readying, 0);
	CHECK_GE(all->ready.count, 1);
	EXPECT_ABORT("FAULT use-after-free: cache \"conn\": read at 0x",
	    { (void)peek(before[MANY / 2]); });
	expect_traps();
	if (child == 0)
		_exit(0);
	CHECK_EQ(waitpid(child, &status, 0), child);
	CHECK_EQ(status, 0);
	CHECK_EQ(figures().reports, 0);
	weir_cache_destroy(cache);
}

static void
use_at_once(unsigned index, void *context)
{
	enum { HELD = 8 };
	char *held[HELD] = {0};
	const size_t count = test_count(2000);

	(void)context;
	for (size_t i = 0; i < count; i++) {
		size_t n = i % HELD;

		if (held[n] != NULL) {
			expect_filled(held[n], (int)(index * HELD + n));
			weir_cache_free(cache, held[n]);
		}
		held[n] = take();
		expect_filled(held[n], WEIRI_GUARD_FRESH);
		memset(held[n], (int)(index * HELD + n), BYTES);
	}
	for (size_t n = 0; n < HELD; n++)
		weir_cache_free(cache, held[n]);
}

TEST(threads_meet_in_no_place)
{
	start(WEIR_GUARD_FULL, 0);
	all->quarantine_max = READY_MAX;
	test_threads(4, use_at_once, NULL);
	CHECK_EQ(all->readying, 0);
	CHECK_LE(all->ready.count, READY_MAX);
	CHECK_EQ(figures().live, 0);
	CHECK_EQ(figures().reports, 0);
	weir_cache_destroy(cache);
}
