/* SPDX-License-Identifier: MIT */
/*
 * test_os.c - what pages/ relies on: aligned space, zeroes after a decommit,
 * failures that leave nothing behind, errno untouched.
 *
 * It passes with either of os_linux.c and os_posix.c.
 */
#include "proc.h"
#include "test.h"

#include "base/bits.h"
#include "os/impl.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)
#define ODD_ERRNO 4242 /* no system call sets it */

static bool
reads_zero(const unsigned char *at, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		if (at[i] != 0)
			return false;
	return true;
}

/* ---- reservations -------------------------------------------------------- */

TEST(reservation_has_every_alignment_from_a_page_to_a_gigabyte)
{
	size_t page = weiri_os_page_bytes();

	for (size_t align = page; align <= 1024 * MIB; align *= 2) {
		unsigned char *at[3];

		for (int i = 0; i < 3; i++) {
			at[i] = weiri_os_reserve(3 * page, align);
			CHECK_NOT_NULL(at[i]);
			CHECK_EQ((uintptr_t)at[i] & (align - 1), 0);
			CHECK_EQ(weiri_os_commit(at[i], 3 * page), 0);
			memset(at[i], 0xa5, 3 * page);
		}
		for (int i = 0; i < 3; i++)
			CHECK_EQ(weiri_os_release(at[i], 3 * page), 0);
	}
}

TEST(reservation_maps_no_byte_more_than_asked_for)
{
	size_t align = 64 * MIB;
	uint64_t before, after;

	/* Sanitizers and stdio map memory of their own at the first call. */
	(void)test_mapped_bytes();
	before = test_mapped_bytes();

	void *at = weiri_os_reserve(MIB, align);

	after = test_mapped_bytes();
	CHECK_NOT_NULL(at);
	CHECK_EQ(after - before, MIB);
	CHECK_EQ(weiri_os_release(at, MIB), 0);
	CHECK_EQ(test_mapped_bytes(), before);
}

TEST(failed_reservation_leaves_nothing_mapped)
{
	struct rlimit limit;
	uint64_t before;

	if (!test_owns_memory())
		SKIP("the tool needs the address space");
	before = test_mapped_bytes();
	limit.rlim_cur = limit.rlim_max = before + 8 * MIB;
	CHECK_EQ(setrlimit(RLIMIT_AS, &limit), 0);

	CHECK_NULL(weiri_os_reserve(16 * MIB, 2 * MIB));
	CHECK_EQ(test_mapped_bytes(), before);
	/* The bytes fit, with the alignment's surplus they do not. */
	for (size_t align = 4 * MIB; align <= 1024 * MIB; align *= 2) {
		void *at = weiri_os_reserve(7 * MIB, align);

		if (at != NULL) {
			CHECK_EQ((uintptr_t)at & (align - 1), 0);
			CHECK_EQ(weiri_os_release(at, 7 * MIB), 0);
		}
		CHECK_EQ(test_mapped_bytes(), before);
	}
}

TEST(reservation_of_absurd_size_fails)
{
	size_t page = weiri_os_page_bytes();
	size_t top = (SIZE_MAX / 2) & ~(page - 1);

	errno = ODD_ERRNO;
	CHECK_NULL(weiri_os_reserve(top, page));
	CHECK_NULL(weiri_os_reserve(top, 1024 * MIB));
	CHECK_NULL(weiri_os_reserve(0 - page, 2 * MIB));
	CHECK_EQ(errno, ODD_ERRNO);
}

TEST(reserved_space_is_not_accessible_before_commit)
{
	size_t page = weiri_os_page_bytes();
	unsigned char *at = weiri_os_reserve(2 * page, page);
	int ends[2];

	if (test_under_valgrind())
		SKIP("valgrind reports the accesses that the kernel refuses");
	CHECK_NOT_NULL(at);
	CHECK_EQ(weiri_os_commit(at, page), 0);
	CHECK_EQ(pipe(ends), 0);
	/* The kernel copies from a good page and refuses the other. */
	CHECK_EQ(write(ends[1], at, 1), 1);
	CHECK_EQ(write(ends[1], at + page, 1), -1);
	CHECK_EQ(errno, EFAULT);
	CHECK_EQ(weiri_os_protect(at, page, WEIRI_OS_NONE), 0);
	CHECK_EQ(write(ends[1], at, 1), -1);
	CHECK_EQ(weiri_os_protect(at, page, WEIRI_OS_READ), 0);
	CHECK_EQ(write(ends[1], at, 1), 1);
	CHECK_EQ(read(ends[0], at, 1), -1);
	CHECK_EQ(weiri_os_protect(at, page, WEIRI_OS_READ_WRITE), 0);
	CHECK_EQ(read(ends[0], at, 1), 1);
}

/* ---- commit and decommit -------------------------------------------------- */

TEST(pages_read_zero_after_commit_and_after_decommit)
{
	size_t bytes = 4 * MIB, page = weiri_os_page_bytes();
	unsigned char *at = weiri_os_reserve(bytes, 2 * MIB);

	CHECK_NOT_NULL(at);
	CHECK_EQ(weiri_os_commit(at, bytes), 0);
	CHECK(reads_zero(at, bytes));
	memset(at, 0xff, bytes);
	CHECK_EQ(weiri_os_decommit(at + page, bytes - 2 * page), 0);
	CHECK(reads_zero(at + page, bytes - 2 * page));
	/* The neighbours keep theirs, and the range stays usable. */
	CHECK_EQ(at[page - 1], 0xff);
	CHECK_EQ(at[bytes - page], 0xff);
	memset(at, 0xff, bytes);
	CHECK_EQ(weiri_os_release(at, bytes), 0);
}

TEST(decommit_gives_the_memory_back)
{
	size_t bytes = 8 * MIB, page = weiri_os_page_bytes();
	unsigned char *at = weiri_os_reserve(bytes, page);
	unsigned char resident[8 * MIB / 4096];
	size_t count = 0;

	if (page != 4096)
		SKIP("written for pages of 4 KiB");
	CHECK_NOT_NULL(at);
	CHECK_EQ(weiri_os_commit(at, bytes), 0);
	CHECK_EQ(weiri_os_prefault(at, bytes), 0);
	CHECK_EQ(mincore(at, bytes, resident), 0);
	for (size_t i = 0; i < sizeof(resident); i++)
		count += resident[i] & 1u;
	CHECK_EQ(count, bytes / page);
	CHECK_EQ(weiri_os_decommit(at, bytes), 0);
	CHECK_EQ(mincore(at, bytes, resident), 0);
	for (size_t i = 0; i < sizeof(resident); i++)
		CHECK_EQ(resident[i] & 1u, 0);
}

TEST(prefault_and_touch_bring_in_pages_of_their_own)
{
	size_t bytes = 16 * MIB, page = weiri_os_page_bytes();
	uint64_t before;
	unsigned char *at = weiri_os_reserve(bytes, page);

	CHECK_NOT_NULL(at);
	CHECK_EQ(weiri_os_commit(at, bytes), 0);
	/* The kernel counts in batches per thread. */
	before = test_resident_bytes();
	CHECK_EQ(weiri_os_prefault(at, bytes / 2), 0);
	CHECK_GE(test_resident_bytes() + MIB, before + bytes / 2);
	weiri_os_touch(at + bytes / 2, bytes / 2);
	CHECK_GE(test_resident_bytes() + MIB, before + bytes);
}

TEST(prefault_keeps_the_contents)
{
	size_t bytes = MIB, page = weiri_os_page_bytes();
	unsigned char *at = weiri_os_reserve(bytes, page);

	CHECK_NOT_NULL(at);
	CHECK_EQ(weiri_os_commit(at, bytes), 0);
	for (size_t i = 0; i < bytes; i++)
		at[i] = (unsigned char)(i * 7 + i / page);
	CHECK_EQ(weiri_os_prefault(at, bytes), 0);
	weiri_os_touch(at, bytes);
	for (size_t i = 0; i < bytes; i++)
		CHECK_EQ(at[i], (unsigned char)(i * 7 + i / page));
}

TEST(locked_pages_can_be_decommitted_and_read_zero)
{
	size_t bytes = 16 * weiri_os_page_bytes();
	unsigned char *at = weiri_os_reserve(bytes, weiri_os_page_bytes());

	CHECK_NOT_NULL(at);
	CHECK_EQ(weiri_os_commit(at, bytes), 0);
	if (weiri_os_lock(at, bytes) != 0)
		SKIP("not allowed to lock memory");
	memset(at, 0xff, bytes);
	CHECK_EQ(weiri_os_decommit(at, bytes), 0);
	CHECK(reads_zero(at, bytes));
	memset(at, 0xff, bytes);
}

TEST(advice_succeeds_or_is_unknown)
{
	size_t bytes = 4 * MIB;
	void *at = weiri_os_reserve(bytes, 2 * MIB);
	int result;

	CHECK_NOT_NULL(at);
	CHECK_EQ(weiri_os_commit(at, bytes), 0);
	errno = ODD_ERRNO;
	result = weiri_os_advise_huge(at, bytes);
	/* EINVAL: a kernel built without huge pages. */
	CHECK(result == 0 || result == -ENOSYS || result == -EINVAL);
	result = weiri_os_advise_no_dump(at, bytes);
	CHECK(result == 0 || result == -ENOSYS);
	CHECK_EQ(errno, ODD_ERRNO);
}

TEST(huge_mapping_is_aligned_and_usable_or_refused)
{
	unsigned char *at = weiri_os_map_huge(4 * MIB);

	if (at == NULL)
		SKIP("no huge pages set aside on this machine");
	CHECK_EQ((uintptr_t)at % (2 * MIB), 0);
	memset(at, 0xff, 4 * MIB);
	CHECK_EQ(weiri_os_release(at, 4 * MIB), 0);
}

TEST(errors_are_returned_and_errno_stays)
{
	size_t page = weiri_os_page_bytes();
	void *at = weiri_os_reserve(page, page);

	CHECK_NOT_NULL(at);
	CHECK_EQ(weiri_os_release(at, page), 0);
	errno = ODD_ERRNO;
	CHECK_EQ(weiri_os_commit(at, page), -ENOMEM);
	CHECK_EQ(weiri_os_protect(at, page, WEIRI_OS_READ), -ENOMEM);
	/* Sanitizers answer mlock themselves, with success. */
	if (!TEST_ASAN && !TEST_TSAN)
		CHECK_EQ(weiri_os_lock(at, page), -ENOMEM);
	CHECK_LT(weiri_os_memfd_grow(-1, page), 0);
	CHECK_NULL(weiri_os_reserve_file(-1, page, page));
	weiri_os_close(-1);
	(void)weiri_os_memory_limit();
	(void)weiri_os_random();
	(void)weiri_os_secure();
	CHECK_EQ(errno, ODD_ERRNO);
}

/* ---- memory files ---------------------------------------------------------- */

TEST(memory_file_is_shared_aligned_and_grows)
{
	size_t page = weiri_os_page_bytes();
	int fd = weiri_os_memfd("weir-test", 2 * MIB);
	unsigned char *a, *b;

	CHECK_GE(fd, 0);
	CHECK_EQ(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	a = weiri_os_reserve_file(fd, 8 * MIB, 4 * MIB);
	b = weiri_os_reserve_file(fd, 8 * MIB, 16 * MIB);
	CHECK_NOT_NULL(a);
	CHECK_NOT_NULL(b);
	CHECK_EQ((uintptr_t)a % (4 * MIB), 0);
	CHECK_EQ((uintptr_t)b % (16 * MIB), 0);
	CHECK_EQ(weiri_os_commit(a, 2 * MIB), 0);
	CHECK_EQ(weiri_os_commit(b, 2 * MIB), 0);
	a[page + 5] = 17;
	CHECK_EQ(b[page + 5], 17);

	CHECK_EQ(weiri_os_memfd_grow(fd, 8 * MIB), 0);
	CHECK_EQ(weiri_os_commit(a + 2 * MIB, 6 * MIB), 0);
	CHECK(reads_zero(a + 2 * MIB, 6 * MIB));
	weiri_os_close(fd);
	a[8 * MIB - 1] = 18;
	CHECK_EQ(weiri_os_release(a, 8 * MIB), 0);
	CHECK_EQ(weiri_os_commit(b, 8 * MIB), 0);
	CHECK_EQ(b[8 * MIB - 1], 18);
}

TEST(decommit_of_a_memory_file_leaves_zeroes_for_every_mapping)
{
	size_t bytes = MIB;
	int fd = weiri_os_memfd("weir-test", bytes);
	unsigned char *a, *b, *anonymous;

	CHECK_GE(fd, 0);
	a = weiri_os_reserve_file(fd, bytes, weiri_os_page_bytes());
	b = weiri_os_reserve_file(fd, bytes, weiri_os_page_bytes());
	anonymous = weiri_os_reserve(bytes, weiri_os_page_bytes());
	CHECK(a != NULL && b != NULL && anonymous != NULL);
	CHECK_EQ(weiri_os_commit(a, bytes), 0);
	CHECK_EQ(weiri_os_commit(b, bytes), 0);
	CHECK_EQ(weiri_os_commit(anonymous, bytes), 0);
	memset(a, 0xff, bytes);
	memset(anonymous, 0xff, bytes);
	CHECK_EQ(weiri_os_decommit(a, bytes), 0);
	CHECK(reads_zero(a, bytes));
	CHECK(reads_zero(b, bytes));
	/* Private memory still takes the other way. */
	CHECK_EQ(weiri_os_decommit(anonymous, bytes), 0);
	CHECK(reads_zero(anonymous, bytes));
	/* Sharing goes on. */
	a[3] = 9;
	CHECK_EQ(b[3], 9);

	if (weiri_os_lock(a, bytes) == 0) {
		memset(a, 0xff, bytes);
		CHECK_EQ(weiri_os_decommit(a, bytes), 0);
		CHECK(reads_zero(b, bytes));
	}
}

TEST(more_memory_files_than_any_table_are_decommitted_right)
{
	enum { files = 80 };
	size_t page = weiri_os_page_bytes();
	unsigned char *at[files];
	unsigned char *anonymous = weiri_os_reserve(page, page);

	for (int i = 0; i < files; i++) {
		int fd = weiri_os_memfd("many", page);

		CHECK_GE(fd, 0);
		at[i] = weiri_os_reserve_file(fd, page, page);
		weiri_os_close(fd);
		CHECK_NOT_NULL(at[i]);
		CHECK_EQ(weiri_os_commit(at[i], page), 0);
		memset(at[i], i + 1, page);
	}
	CHECK_EQ(weiri_os_commit(anonymous, page), 0);
	memset(anonymous, 1, page);
	for (int i = 0; i < files; i++) {
		CHECK_EQ(at[i][0], i + 1);
		CHECK_EQ(weiri_os_decommit(at[i], page), 0);
		CHECK(reads_zero(at[i], page));
		CHECK_EQ(weiri_os_release(at[i], page), 0);
	}
	CHECK_EQ(weiri_os_decommit(anonymous, page), 0);
	CHECK(reads_zero(anonymous, page));
}

/* ---- fault injection --------------------------------------------------------- */

static unsigned
bit(unsigned at, bool set)
{
	return (unsigned)set << at;
}

enum { CALLS = 10 };

/* Ten calls that can be made to fail; bit i is set when the i-th did. */
static unsigned
ten_calls(void)
{
	size_t page = weiri_os_page_bytes();
	unsigned failed = 0;
	void *a = weiri_os_reserve(page, page);
	void *b = weiri_os_reserve(page, 2 * MIB);
	int fd;

	failed |= bit(0, a == NULL);
	failed |= bit(1, b == NULL);
	fd = weiri_os_memfd("weir-test", page);
	failed |= bit(2, fd == -ENOMEM);
	/* -1 fails anyway, but counts. */
	failed |= bit(3, weiri_os_memfd_grow(fd, page) == -ENOMEM);

	void *c = weiri_os_reserve_file(fd < 0 ? -1 : fd, page, page);
	void *last = b != NULL ? b : a;

	failed |= bit(4, c == NULL && fd >= 0);
	failed |= bit(5, weiri_os_commit(a != NULL ? a : b, page) != 0);
	failed |= bit(6, weiri_os_commit(last, page) != 0);
	failed |= bit(7, weiri_os_decommit(last, page) == -ENOMEM);
	failed |=
	    bit(8, weiri_os_protect(last, page, WEIRI_OS_READ) == -ENOMEM);
	failed |= bit(9, weiri_os_release(last, page) == -ENOMEM);
	CHECK_EQ(weiri_os_calls(), CALLS);
	if (fd >= 0)
		weiri_os_close(fd);
	if (failed & bit(9, true))
		CHECK_EQ(weiri_os_release(last, page), 0);
	if (a != NULL && a != last)
		CHECK_EQ(weiri_os_release(a, page), 0);
	if (c != NULL)
		CHECK_EQ(weiri_os_release(c, page), 0);
	return failed;
}

TEST(nth_call_fails_and_no_other)
{
	weiri_os_fail_nth(0, false);
	CHECK_EQ(ten_calls(), 0);
	for (int n = 1; n <= CALLS; n++) {
		weiri_os_fail_nth(n, false);
		CHECK_EQ(ten_calls(), 1u << (n - 1));
	}
	weiri_os_fail_nth(100, false);
	CHECK_EQ(ten_calls(), 0);
}

TEST(refused_range_is_what_it_was)
{
	size_t page = weiri_os_page_bytes();
	unsigned char *at = weiri_os_reserve(4 * page, page);

	CHECK_NOT_NULL(at);
	CHECK_EQ(weiri_os_commit(at, 4 * page), 0);
	memset(at, 0xa5, 4 * page);
	errno = ODD_ERRNO;
	weiri_os_fail_nth(1, true);
	CHECK_EQ(weiri_os_decommit(at, 4 * page), -ENOMEM);
	CHECK_EQ(weiri_os_protect(at, 4 * page, WEIRI_OS_NONE), -ENOMEM);
	CHECK_EQ(weiri_os_release(at, 4 * page), -ENOMEM);
	weiri_os_fail_nth(0, false);
	CHECK_EQ(errno, ODD_ERRNO);
	for (size_t i = 0; i < 4 * page; i++)
		CHECK_EQ(at[i], 0xa5);
	CHECK_EQ(weiri_os_release(at, 4 * page), 0);
}

TEST(dropped_range_is_unmapped_as_soon_as_the_system_takes_it)
{
	enum { RANGES = 5 };
	void *range[RANGES], *other;
	uint64_t before;

	if (!test_owns_memory())
		SKIP("the tool maps what it likes");
	for (int i = 0; i < RANGES; i++) {
		range[i] = weiri_os_reserve(MIB, MIB);
		CHECK_NOT_NULL(range[i]);
	}
	before = test_mapped_bytes();
	errno = ODD_ERRNO;
	weiri_os_fail_nth(1, true);
	for (int i = 0; i < RANGES; i++)
		weiri_os_drop(range[i], MIB);
	CHECK_EQ(errno, ODD_ERRNO);
	CHECK_NULL(weiri_os_reserve(MIB, MIB));
	weiri_os_fail_nth(0, false);
	CHECK_EQ(test_mapped_bytes(), before);
	other = weiri_os_reserve(2 * MIB, 2 * MIB);
	CHECK_NOT_NULL(other);
	CHECK_EQ(test_mapped_bytes(), before + 2 * MIB - RANGES * MIB);
	weiri_os_drop(other, 2 * MIB);
	CHECK_EQ(test_mapped_bytes(), before - RANGES * MIB);
}

TEST(page_size_of_a_test_is_the_page_size)
{
	CHECK_EQ(weiri_os_page_bytes(), (size_t)sysconf(_SC_PAGESIZE));
	weiri_os_set_page_bytes(65536);
	CHECK_EQ(weiri_os_page_bytes(), 65536);

	unsigned char *at = weiri_os_reserve(65536, 65536);

	CHECK_NOT_NULL(at);
	CHECK_EQ((uintptr_t)at % 65536, 0);
	CHECK_EQ(weiri_os_commit(at, 65536), 0);
	CHECK_EQ(weiri_os_release(at, 65536), 0);
}

TEST(persistent_failure_goes_on_until_it_is_cleared)
{
	size_t page = weiri_os_page_bytes();
	void *at;

	weiri_os_fail_nth(2, true);
	at = weiri_os_reserve(page, page);
	CHECK_NOT_NULL(at);
	for (int i = 0; i < 5; i++)
		CHECK_EQ(weiri_os_commit(at, page), -ENOMEM);
	weiri_os_fail_nth(0, false);
	CHECK_EQ(weiri_os_commit(at, page), 0);
}

static void
count_refusals(unsigned index, void *context)
{
	size_t page = weiri_os_page_bytes();

	(void)index;
	for (int i = 0; i < 1000; i++) {
		void *at = weiri_os_reserve(page, page);

		if (at == NULL || weiri_os_release(at, page) != 0)
			__atomic_add_fetch((int *)context, 1, __ATOMIC_RELAXED);
	}
}

TEST(one_failure_is_one_failure_among_threads)
{
	int refused = 0;

	weiri_os_fail_nth(1500, false);
	test_threads(4, count_refusals, &refused);
	/* A reservation and a release each, unless the first was refused. */
	CHECK_GE(weiri_os_calls(), 7999);
	CHECK_LE(weiri_os_calls(), 8000);
	CHECK_EQ(refused, 1);
}

TEST(injected_failure_leaves_errno)
{
	errno = ODD_ERRNO;
	weiri_os_fail_nth(1, true);
	CHECK_NULL(weiri_os_reserve(4096, 4096));
	CHECK_EQ(weiri_os_memfd("x", 4096), -ENOMEM);
	CHECK_EQ(errno, ODD_ERRNO);
}

/* ---- process and threads --------------------------------------------------------- */

TEST(random_numbers_and_clock_move)
{
	uint64_t now = weiri_os_now_ns();

	CHECK_NE(weiri_os_random(), weiri_os_random());
	CHECK_NE(weiri_os_guess(), weiri_os_guess());
	weiri_os_sleep_ns(2000000);
	CHECK_GE(weiri_os_now_ns() - now, 1000000);
	CHECK(!weiri_os_secure());
}

TEST(failed_assertion_says_where_and_aborts)
{
	EXPECT_ABORT("weir: assertion failed: a == b (some/file.c:17)\n",
	    { weiri_assert_failed("a == b", "some/file.c", 17); });
}

TEST(assertion_text_longer_than_the_buffer_still_ends_the_line)
{
	char long_text[2000];

	memset(long_text, 'x', sizeof(long_text));
	long_text[sizeof(long_text) - 1] = '\0';
	EXPECT_ABORT("xxx\n", { weiri_assert_failed(long_text, "f", 1); });
}

TEST(write_error_writes_every_byte_and_survives_a_closed_descriptor)
{
	int ends[2];
	char got[16] = "";

	CHECK_EQ(pipe(ends), 0);
	CHECK_EQ(dup2(ends[1], STDERR_FILENO), STDERR_FILENO);
	weiri_os_write_error("one line\n", 9);
	CHECK_EQ(read(ends[0], got, sizeof(got)), 9);
	CHECK_MEM(got, "one line\n", 9);
	close(STDERR_FILENO);
	errno = ODD_ERRNO;
	weiri_os_write_error("one line\n", 9);
	CHECK_EQ(errno, ODD_ERRNO);
}

static int exit_calls;

static void
count_exit(void *argument)
{
	__atomic_add_fetch(&exit_calls, *(int *)argument, __ATOMIC_RELAXED);
}

static void
arm_exit(unsigned index, void *context)
{
	if (index % 2 == 0)
		CHECK_EQ(weiri_os_thread_exit_arm(context), 0);
}

TEST(exit_hook_runs_for_armed_threads_only_with_their_argument)
{
	int amount = 10;

	CHECK_EQ(weiri_os_thread_exit_hook(count_exit), 0);
	CHECK_EQ(weiri_os_thread_exit_hook(count_exit), -EALREADY);
	test_threads(4, arm_exit, &amount);
	CHECK_EQ(exit_calls, 20);
}

static weiri_once once = WEIRI_ONCE_INITIALIZER;
static int once_calls;

static void
count_once(void)
{
	weiri_os_sleep_ns(1000000);
	once_calls++;
}

static void
call_once(unsigned index, void *context)
{
	(void)index;
	(void)context;
	weiri_os_once(&once, count_once);
	CHECK_EQ(once_calls, 1);
}

TEST(once_runs_once_and_the_others_wait_for_it)
{
	test_threads(8, call_once, NULL);
}

struct shared_count {
	struct weiri_mutex mutex;
	uint64_t count;
};

static void
count_locked(unsigned index, void *context)
{
	struct shared_count *shared = context;

	(void)index;
	for (int i = 0; i < 10000; i++) {
		weiri_mutex_lock(&shared->mutex);
		shared->count++;
		weiri_mutex_unlock(&shared->mutex);
	}
}

TEST(mutex_excludes)
{
	struct shared_count shared = {.count = 0};

	weiri_mutex_init(&shared.mutex);
	test_threads(4, count_locked, &shared);
	CHECK_EQ(shared.count, 40000);
	weiri_mutex_destroy(&shared.mutex);
}

static int fork_steps;

static void
fork_step_prepare(void)
{
	fork_steps = fork_steps * 10 + 1;
}

static void
fork_step_parent(void)
{
	fork_steps = fork_steps * 10 + 2;
}

static void
fork_step_child(void)
{
	fork_steps = fork_steps * 10 + 3;
}

TEST(fork_handlers_run_on_both_sides)
{
	int status;
	pid_t pid;

	CHECK_EQ(weiri_os_at_fork(
		     fork_step_prepare, fork_step_parent, fork_step_child),
	    0);
	pid = fork();
	if (pid == 0)
		_exit(fork_steps == 13 ? 0 : 1);
	CHECK_EQ(fork_steps, 12);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}
