/* SPDX-License-Identifier: MIT */
/*
 * test_os_refused.c - the system says no to what os/ asks of it.
 *
 * What is refused leaves nothing behind, is told by its error or by the answer
 * that stands for "not known", and leaves errno as it was.
 */
#include "proc.h"
#include "refuse.h"
#include "test.h"

#include "os/guard.h"
#include "os/impl.h"
#include "os/symbol.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)
#define ODD_ERRNO 4242 /* no system call sets it */

/* ---- address space ------------------------------------------------------ */

/*
 * A page where the second attempt of a reservation of @bytes would go, so that
 * it has to be cut out of a larger one; NULL: mappings do not lie as they mostly
 * do.
 */
static void *
occupy_hint(size_t bytes, size_t align)
{
	size_t page = weiri_os_page_bytes();
	char *next =
	    mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *hint = (char *)((uintptr_t)next & ~(align - 1));
	void *at;

	CHECK(next != MAP_FAILED);
	CHECK_EQ(munmap(next, bytes), 0);
	if (hint == next)
		return NULL;
	at = mmap(hint, page, PROT_NONE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	return at == MAP_FAILED ? NULL : at;
}

TEST(reservation_that_cannot_be_cut_to_size_leaves_nothing)
{
	const size_t align = 64 * MIB, bytes = 3 * MIB;
	void *occupied = occupy_hint(bytes, align), *at;
	bool counts = test_owns_memory();
	uint64_t before = test_mapped_bytes();

	if (occupied == NULL)
		SKIP("mappings lie at every border of 64 MiB already");
	errno = ODD_ERRNO;
	test_refuse(TEST_CALL_MMAP, 0, 0, 0);
	test_refuse(TEST_CALL_MUNMAP, 0, 0, 0);
	at = weiri_os_reserve(bytes, align);
	CHECK_NOT_NULL(at);
	CHECK_EQ((uintptr_t)at % align, 0);
	if (test_calls(TEST_CALL_MMAP) != 3 ||
	    test_calls(TEST_CALL_MUNMAP) != 4)
		SKIP("the reservation was not cut");
	CHECK_EQ(weiri_os_release(at, bytes), 0);
	for (unsigned call = 0; call < 3; call++) {
		test_refuse(TEST_CALL_MMAP, call, 1, ENOMEM);
		CHECK_NULL(weiri_os_reserve(bytes, align));
		CHECK_EQ(test_refused(TEST_CALL_MMAP), 1);
		CHECK(!counts || test_mapped_bytes() == before);
	}
	/* The third and the fourth cut the ends off. */
	for (unsigned call = 2; call < 4; call++) {
		test_refuse(TEST_CALL_MUNMAP, call, 1, ENOMEM);
		CHECK_NULL(weiri_os_reserve(bytes, align));
		CHECK_EQ(test_refused(TEST_CALL_MUNMAP), 1);
		CHECK(!counts || test_mapped_bytes() == before);
	}
	CHECK_EQ(errno, ODD_ERRNO);
}

TEST(dropped_ranges_are_tried_again_and_a_few_forgotten)
{
	enum { RANGES = 70, REMEMBERED = 64 };
	size_t page = weiri_os_page_bytes();
	bool counts = test_owns_memory();
	uint64_t before = test_mapped_bytes();
	void *at[RANGES], *next;

	for (size_t i = 0; i < RANGES; i++) {
		at[i] = weiri_os_reserve(page, page);
		CHECK_NOT_NULL(at[i]);
	}
	test_refuse(TEST_CALL_MUNMAP, 0, RANGES + REMEMBERED, ENOMEM);
	for (size_t i = 0; i < RANGES; i++)
		weiri_os_drop(at[i], page);
	CHECK_EQ(test_refused(TEST_CALL_MUNMAP), RANGES);
	/* All that is remembered is asked for, and refused once more. */
	next = weiri_os_reserve(page, page);
	CHECK_NOT_NULL(next);
	CHECK_EQ(test_refused(TEST_CALL_MUNMAP), RANGES + REMEMBERED);
	CHECK(!counts || test_mapped_bytes() == before + (RANGES + 1) * page);
	CHECK_EQ(weiri_os_release(next, page), 0);
	next = weiri_os_reserve(page, page);
	CHECK_NOT_NULL(next);
	CHECK_EQ(weiri_os_release(next, page), 0);
	CHECK(!counts ||
	      test_mapped_bytes() == before + (RANGES - REMEMBERED) * page);
}

TEST(memory_file_that_is_refused_leaves_no_descriptor)
{
	bool counts = test_owns_memory();
	uint64_t before = test_mapped_bytes();
	int probe = dup(STDERR_FILENO), fd;

	CHECK_GE(probe, 0);
	CHECK_EQ(close(probe), 0);
	errno = ODD_ERRNO;
	test_refuse(TEST_CALL_MEMFD, 0, 1, EMFILE);
	CHECK_EQ(weiri_os_memfd("refused", MIB), -EMFILE);
	test_refuse(TEST_CALL_FTRUNCATE, 0, 1, EFBIG);
	CHECK_EQ(weiri_os_memfd("refused", MIB), -EFBIG);
	CHECK_EQ(errno, ODD_ERRNO);
	fd = weiri_os_memfd("granted", MIB);
	if (fd == -ENOSYS)
		SKIP("the system has no memory files");
	CHECK_EQ(fd, probe);
	test_refuse(TEST_CALL_MMAP, 1, 1, EACCES);
	CHECK_NULL(weiri_os_reserve_file(fd, MIB, weiri_os_page_bytes()));
	CHECK_EQ(test_refused(TEST_CALL_MMAP), 1);
	CHECK(!counts || test_mapped_bytes() == before);
	CHECK_EQ(errno, ODD_ERRNO);
	weiri_os_close(fd);
}

TEST(huge_pages_are_there_or_not)
{
	unsigned char *at;

	test_refuse(TEST_CALL_MMAP, 0, 1, ENOMEM);
	CHECK_NULL(weiri_os_map_huge(2 * MIB));
	test_grant_huge_pages();
	at = weiri_os_map_huge(4 * MIB);
	CHECK_NOT_NULL(at);
	CHECK_EQ((uintptr_t)at % (2 * MIB), 0);
	at[4 * MIB - 1] = 1;
	CHECK_EQ(weiri_os_release(at, 4 * MIB), 0);
	weiri_os_fail_nth(1, false);
	CHECK_NULL(weiri_os_map_huge(2 * MIB));
	weiri_os_fail_nth(0, false);
}

/* ---- memory ---------------------------------------------------------------- */

TEST(memory_that_is_not_given_or_taken_is_told_by_the_error)
{
	size_t page = weiri_os_page_bytes();
	unsigned char *at = weiri_os_reserve(4 * page, page);

	CHECK_NOT_NULL(at);
	errno = ODD_ERRNO;
	test_refuse(TEST_CALL_MPROTECT, 0, 1, ENOMEM);
	CHECK_EQ(weiri_os_commit(at, 4 * page), -ENOMEM);
	CHECK_EQ(weiri_os_commit(at, 4 * page), 0);
	memset(at, 7, 4 * page);

	/* Another error than that of locked memory is the answer at once. */
	test_refuse(TEST_CALL_MADVISE, 0, 1, EAGAIN);
	CHECK_EQ(weiri_os_decommit(at, page), -EAGAIN);
	CHECK_EQ(at[0], 7);
	/* Locked memory is unlocked for the moment. */
	test_refuse(TEST_CALL_MADVISE, 0, 1, EINVAL);
	CHECK_EQ(weiri_os_decommit(at, page), 0);
	CHECK_EQ(at[0], 0);
	CHECK_EQ(at[page], 7);

	test_refuse(TEST_CALL_MADVISE, 0, 1, EFAULT);
	CHECK_EQ(weiri_os_prefault(at, page), -EFAULT);
	/* A kernel that does not know the advice: pages are touched. */
	test_refuse(TEST_CALL_MADVISE, 0, 1, EINVAL);
	CHECK_EQ(weiri_os_prefault(at, 4 * page), 0);
	CHECK_EQ(at[page], 7);
	test_refuse(TEST_CALL_MLOCK, 0, 1, EPERM);
	CHECK_EQ(weiri_os_lock(at, page), -EPERM);
	CHECK_EQ(errno, ODD_ERRNO);
	CHECK_EQ(weiri_os_release(at, 4 * page), 0);
}

/* ---- guard pages, handlers --------------------------------------------------- */

TEST(pages_are_barred_by_protection_where_markers_cannot_be_tried)
{
	size_t page = weiri_os_page_bytes();
	unsigned char *at = weiri_os_reserve(page, page);
	unsigned char byte = 1;

	CHECK_NOT_NULL(at);
	CHECK_EQ(weiri_os_commit(at, page), 0);
	errno = ODD_ERRNO;
	test_refuse(TEST_CALL_MMAP, 0, 1, ENOMEM);
	CHECK(!weiri_os_bars_merge());
	CHECK_EQ(test_refused(TEST_CALL_MMAP), 1);
	test_refuse(TEST_CALL_MPROTECT, 0, 1, ENOMEM);
	CHECK_EQ(weiri_os_bar(at, page), -ENOMEM);
	CHECK(weiri_os_peek(at, &byte, 1));
	CHECK_EQ(byte, 0);
	CHECK_EQ(weiri_os_bar(at, page), 0);
	CHECK(!weiri_os_peek(at, &byte, 1));
	test_refuse(TEST_CALL_MPROTECT, 0, 1, ENOMEM);
	CHECK_EQ(weiri_os_unbar(at, page), -ENOMEM);
	CHECK_EQ(weiri_os_unbar(at, page), 0);
	CHECK(weiri_os_peek(at, &byte, 1));
	test_refuse(TEST_CALL_PEEK, 0, 1, ENOSYS);
	CHECK(!weiri_os_peek(at, &byte, 1));
	CHECK_EQ(errno, ODD_ERRNO);
	CHECK_EQ(weiri_os_release(at, page), 0);
}

/* The advice is there when it is tried, and another error than EINVAL comes. */
TEST(markers_that_find_no_memory_are_no_reason_to_protect)
{
	size_t page = weiri_os_page_bytes();
	unsigned char *at = weiri_os_reserve(page, page);

	CHECK_NOT_NULL(at);
	CHECK_EQ(weiri_os_commit(at, page), 0);
	weiri_os_set_bars_merge(true);
	test_refuse(TEST_CALL_MADVISE, 0, 1, ENOMEM);
	CHECK_EQ(weiri_os_bar(at, page), -ENOMEM);
	CHECK(weiri_os_bars_merge());
	test_refuse(TEST_CALL_MADVISE, 0, 1, EINVAL);
	CHECK_EQ(weiri_os_bar(at, page), 0);
	CHECK(!weiri_os_bars_merge());
	CHECK_EQ(weiri_os_release(at, page), 0);
}

static bool
no_trap(const struct weiri_os_fault *fault)
{
	(void)fault;
	return false;
}

TEST(fault_handlers_that_cannot_be_set_are_told)
{
	test_refuse(TEST_CALL_SIGACTION, 0, 1, EINVAL);
	CHECK_EQ(weiri_os_catch_faults(no_trap), -EINVAL);
	test_refuse(TEST_CALL_SIGACTION, 1, 1, EPERM);
	CHECK_EQ(weiri_os_catch_faults(no_trap), -EPERM);
	CHECK_EQ(test_calls(TEST_CALL_SIGACTION), 2);
}

static bool
has_handler_stack(void)
{
	stack_t stack;

	CHECK_EQ(sigaltstack(NULL, &stack), 0);
	return (stack.ss_flags & SS_DISABLE) == 0;
}

static void
drop_handler_stack(void)
{
	const stack_t none = {.ss_flags = SS_DISABLE};

	CHECK_EQ(sigaltstack(&none, NULL), 0);
}

TEST(thread_without_a_stack_for_handlers_goes_on_without)
{
	static const struct {
		enum test_call call;
		unsigned after;
	} each[] = {
	    {TEST_CALL_SIGALTSTACK, 0}, /* which there is */
	    {TEST_CALL_MMAP, 0},
	    {TEST_CALL_SETSPECIFIC, 0},
	    {TEST_CALL_SIGALTSTACK, 1},
	};
	bool counts = test_owns_memory();
	uint64_t before;

	drop_handler_stack();
	before = test_mapped_bytes();
	for (size_t i = 0; i < sizeof(each) / sizeof(each[0]); i++) {
		errno = ODD_ERRNO;
		test_refuse(each[i].call, each[i].after, 1, ENOMEM);
		weiri_os_handler_stack();
		CHECK_EQ(test_refused(each[i].call), 1);
		CHECK_EQ(errno, ODD_ERRNO);
		test_refuse(each[i].call, 0, 0, 0);
		CHECK(!has_handler_stack());
		CHECK(!counts || test_mapped_bytes() == before);
	}
	weiri_os_handler_stack();
	CHECK(has_handler_stack());
	/* One that is there, the program's or ours, stays. */
	test_refuse(TEST_CALL_MMAP, 0, 0, 0);
	weiri_os_handler_stack();
	CHECK_EQ(test_calls(TEST_CALL_MMAP), 0);
}

TEST(handler_stacks_need_a_key)
{
	drop_handler_stack();
	test_refuse(TEST_CALL_KEY, 0, 1, EAGAIN);
	weiri_os_handler_stack();
	CHECK_EQ(test_refused(TEST_CALL_KEY), 1);
	CHECK(!has_handler_stack());
	/* It is asked for once. */
	weiri_os_handler_stack();
	CHECK(!has_handler_stack());
}

/* ---- looking around ------------------------------------------------------------ */

TEST(what_the_system_does_not_tell_is_not_known)
{
	uintptr_t low = 1, high = 1, base;
	uint64_t first, second;
	char path[64];

	errno = ODD_ERRNO;
	test_refuse(TEST_CALL_SYSCONF, 0, 1, EINVAL);
	CHECK_EQ(weiri_os_processors(), 1);
	test_refuse(TEST_CALL_SYSCONF, 0, 1, EINVAL);
	CHECK_EQ(weiri_os_memory_bytes(), UINT64_MAX);
	test_refuse(TEST_CALL_SYSCONF, 1, 1, EINVAL);
	CHECK_EQ(weiri_os_memory_bytes(), UINT64_MAX);
	CHECK_LT(weiri_os_memory_bytes(), UINT64_MAX);
	test_refuse(TEST_CALL_GETATTR, 0, 1, ENOMEM);
	CHECK(!weiri_os_stack(&low, &high));
	CHECK_EQ(low, 0);
	CHECK_EQ(high, 0);
	test_refuse(TEST_CALL_OPEN, 0, 1, EMFILE);
	CHECK(!weiri_os_module(
	    (uintptr_t)occupy_hint, path, sizeof(path), &base));
	/* A guess is another one each time. */
	test_refuse(TEST_CALL_GETRANDOM, 0, 2, EAGAIN);
	first = weiri_os_random();
	second = weiri_os_random();
	CHECK_EQ(test_refused(TEST_CALL_GETRANDOM), 2);
	CHECK_NE(first, second);
	CHECK_EQ(errno, ODD_ERRNO);
}

TEST(code_without_a_name_is_its_address)
{
	char line[256];
	struct weiri_text text = {line, sizeof(line), 0};

	test_refuse(TEST_CALL_DLADDR, 0, 1, 1);
	weiri_os_symbol(&text, (const void *)(uintptr_t)0x1234);
	CHECK_STR(line, "0x1234");
	/* Of a library, a function that it exports. */
	text.used = 0;
	weiri_os_symbol(&text, (const char *)(uintptr_t)strtoull + 1);
	CHECK_CONTAINS(line, "+0x");
	if (!TEST_ASAN && !TEST_TSAN)
		CHECK_CONTAINS(line, " in libc");
}

TEST(message_is_written_whole_when_a_signal_comes_between)
{
	int ends[2], saved = dup(STDERR_FILENO);
	char got[8] = "";

	CHECK_EQ(pipe(ends), 0);
	CHECK_GE(dup2(ends[1], STDERR_FILENO), 0);
	test_refuse(TEST_CALL_WRITE, 0, 3, EINTR);
	weiri_os_write_error("whole", 5);
	CHECK_EQ(test_calls(TEST_CALL_WRITE), 4);
	test_refuse(TEST_CALL_WRITE, 0, 1, EIO);
	weiri_os_write_error("never", 5);
	CHECK_EQ(test_calls(TEST_CALL_WRITE), 1);
	CHECK_GE(dup2(saved, STDERR_FILENO), 0);
	CHECK_EQ(read(ends[0], got, sizeof(got)), 5);
	CHECK_MEM(got, "whole", 5);
}

/* ---- which file ----------------------------------------------------------------- */

TEST(module_is_the_file_around_an_address_cut_to_fit)
{
	char path[512], begin[4];
	uintptr_t base = 0, again = 0;
	int local;

	CHECK(
	    weiri_os_module((uintptr_t)occupy_hint, path, sizeof(path), &base));
	CHECK_CONTAINS(path, "test_os_refused");
	CHECK_LE(base, (uintptr_t)occupy_hint);
	CHECK(weiri_os_module(
	    (uintptr_t)occupy_hint, begin, sizeof(begin), &again));
	CHECK_EQ(again, base);
	CHECK_EQ(strlen(begin), sizeof(begin) - 1);
	CHECK_MEM(begin, path, sizeof(begin) - 1);
	/* The stack is of no file, and behind the last line there is nothing. */
	CHECK(!weiri_os_module((uintptr_t)&local, path, sizeof(path), &base));
	CHECK(!weiri_os_module(UINTPTR_MAX, path, sizeof(path), &base));
}

/* A file in folders within folders, mapped; the length of its path. */
static size_t
map_deep_file(char *path, size_t bytes, void **at)
{
	static const char name[] =
	    "/a_folder_with_a_name_that_is_sixty_bytes_long_to_be_short_of";
	size_t page = weiri_os_page_bytes(), length;
	int fd;

	snprintf(path, bytes, "/tmp/weir-deep-XXXXXX");
	CHECK_NOT_NULL(mkdtemp(path));
	length = strlen(path);
	for (unsigned i = 0; i < 5; i++) {
		CHECK_LT(length + sizeof(name), bytes);
		memcpy(path + length, name, sizeof(name));
		length += sizeof(name) - 1;
		CHECK_EQ(mkdir(path, 0700), 0);
	}
	memcpy(path + length, "/file", 6);
	fd = open(path, O_RDWR | O_CREAT, 0600);
	CHECK_GE(fd, 0);
	CHECK_EQ(ftruncate(fd, (off_t)page), 0);
	*at = mmap(NULL, page, PROT_READ, MAP_PRIVATE, fd, 0);
	CHECK(*at != MAP_FAILED);
	CHECK_EQ(close(fd), 0);
	return length + 5;
}

TEST(module_with_a_long_path_is_known_by_its_beginning)
{
	char path[1024], found[1024];
	uintptr_t base = 0;
	void *at;
	size_t length = map_deep_file(path, sizeof(path), &at);
	bool known =
	    weiri_os_module((uintptr_t)at, found, sizeof(found), &base);

	CHECK_EQ(unlink(path), 0);
	for (char *slash; (slash = strrchr(path, '/')) != path + 4;) {
		*slash = '\0';
		CHECK_EQ(rmdir(path), 0);
	}
	CHECK(known);
	CHECK_EQ(base, (uintptr_t)at);
	CHECK_GT(length, 255);
	CHECK_EQ(strlen(found), 255);
}

/* ---- which build ------------------------------------------------------------------ */

/* What seems to be a program: a header, its parts, and a note with an id. */
struct image {
	ElfW(Ehdr) head;
	ElfW(Phdr) part[3];
	struct note {
		ElfW(Nhdr) head;
		char name[8];
		unsigned char id[36];
	} other, own;
};

static void
image_note(struct note *note, uint32_t type, const char *name, uint32_t bytes)
{
	note->head = (ElfW(Nhdr)){.n_namesz = (uint32_t)strlen(name) + 1,
	    .n_descsz = bytes,
	    .n_type = type};
	memcpy(note->name, name, strlen(name) + 1);
	for (size_t i = 0; i < sizeof(note->id); i++)
		note->id[i] = (unsigned char)(0xa0 + i);
}

static void
image_make(struct image *image)
{
	const size_t notes = offsetof(struct image, other);

	memset(image, 0, sizeof(*image));
	memcpy(image->head.e_ident, ELFMAG, SELFMAG);
	image->head.e_phoff = offsetof(struct image, part);
	image->head.e_phentsize = sizeof(image->part[0]);
	image->head.e_phnum = 3;
	image->part[0].p_type = PT_PHDR;
	image->part[1].p_type = PT_LOAD;
	image->part[2].p_type = PT_NOTE;
	image->part[2].p_vaddr = notes;
	image->part[2].p_memsz = sizeof(*image) - notes;
	image_note(&image->other, 77, "GNUX", 36);
	image_note(&image->own, NT_GNU_BUILD_ID, "GNU", 3);
	/* A name of four bytes and its end take eight; this one takes four. */
	memmove(image->own.name + 4, image->own.id, sizeof(image->own.id) - 4);
}

static bool
image_id(const struct image *image, char hex[WEIRI_OS_BUILD_ID_BYTES])
{
	return weiri_os_build_id((uintptr_t)image, hex);
}

TEST(build_id_is_found_among_notes_and_in_nothing_else)
{
	char hex[WEIRI_OS_BUILD_ID_BYTES];
	struct image image, *bad = &image;

	image_make(bad);
	CHECK(image_id(bad, hex));
	CHECK_STR(hex, "a0a1a2");

#define NO_ID(...)                          \
	do {                                \
		image_make(bad);            \
		__VA_ARGS__;                \
		CHECK(!image_id(bad, hex)); \
	} while (0)

	for (unsigned i = 0; i < SELFMAG; i++)
		NO_ID(bad->head.e_ident[i]++);
	NO_ID(bad->head.e_phentsize--);
	NO_ID(bad->head.e_phnum = 65);
	NO_ID(bad->head.e_phnum = 0);
	/* Headers that are not there; nothing that is mapped; no notes. */
	NO_ID(bad->head.e_phoff = (uint64_t)1 << 46);
	NO_ID(bad->part[1].p_type = PT_NULL);
	NO_ID(bad->part[2].p_type = PT_NULL);
	NO_ID(bad->part[2].p_vaddr = (uint64_t)1 << 46);
	NO_ID(bad->part[2].p_memsz = 4);
	NO_ID(bad->other.head.n_descsz = UINT32_MAX - 64);
	NO_ID(bad->own.head.n_type = 1);
	NO_ID(bad->own.head.n_namesz = 5);
	NO_ID(bad->own.head.n_descsz = 33);
	NO_ID(bad->own.name[0] = 'X');
	NO_ID(bad->own.head.n_descsz = 0);
#undef NO_ID
	CHECK(!weiri_os_build_id(16, hex));
}

/* Each read of it in turn is refused: what was an id is none, and no more. */
TEST(build_id_that_cannot_be_read_is_none)
{
	char hex[WEIRI_OS_BUILD_ID_BYTES];
	struct image image;
	unsigned reads;

	image_make(&image);
	test_refuse(TEST_CALL_PEEK, 0, 0, 0);
	CHECK(image_id(&image, hex));
	reads = test_calls(TEST_CALL_PEEK);
	CHECK_GT(reads, 6);
	for (unsigned i = 0; i < reads; i++) {
		test_refuse(TEST_CALL_PEEK, i, 1, EFAULT);
		CHECK(!image_id(&image, hex) || strcmp(hex, "a0a1a2") == 0);
		test_refuse(TEST_CALL_PEEK, i, UINT32_MAX, EFAULT);
		CHECK(!image_id(&image, hex));
	}
}

/* ---- threads ------------------------------------------------------------------------ */

static void
helper_turn(void)
{
}

TEST(helper_that_the_system_refuses_is_told_and_can_be_had_later)
{
	static const enum test_call calls[] = {TEST_CALL_CONDATTR,
	    TEST_CALL_CLOCK, TEST_CALL_COND, TEST_CALL_MUTEX, TEST_CALL_ATTR,
	    TEST_CALL_SIGMASK, TEST_CALL_THREAD};
	struct weiri_os_helper helper;

	errno = ODD_ERRNO;
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		test_refuse(calls[i], 0, 1, EAGAIN);
		CHECK_EQ(
		    weiri_os_helper_start(&helper, helper_turn, 1000000, 65536),
		    -EAGAIN);
		CHECK_EQ(test_refused(calls[i]), 1);
	}
	CHECK_EQ(
	    weiri_os_helper_start(&helper, helper_turn, 1000000, 65536), 0);
	CHECK(!weiri_os_helper_is_self(&helper));
	weiri_os_helper_stop(&helper);
	CHECK_EQ(errno, ODD_ERRNO);
}

static void
exit_nothing(void *argument)
{
	(void)argument;
}

TEST(exit_hook_needs_a_key_and_its_argument_a_place)
{
	int value;

	test_refuse(TEST_CALL_KEY, 0, 1, EAGAIN);
	CHECK_EQ(weiri_os_thread_exit_hook(exit_nothing), -EAGAIN);
	CHECK_EQ(weiri_os_thread_exit_hook(exit_nothing), 0);
	CHECK_EQ(weiri_os_thread_exit_hook(exit_nothing), -EALREADY);
	errno = ODD_ERRNO;
	test_refuse(TEST_CALL_SETSPECIFIC, 0, 1, ENOMEM);
	CHECK_EQ(weiri_os_thread_exit_arm(&value), -ENOMEM);
	CHECK_EQ(weiri_os_thread_exit_arm(&value), 0);
	CHECK_EQ(errno, ODD_ERRNO);
}

TEST(fork_handlers_that_are_refused_are_told)
{
	test_refuse(TEST_CALL_ATFORK, 0, 1, ENOMEM);
	CHECK_EQ(
	    weiri_os_at_fork(helper_turn, helper_turn, helper_turn), -ENOMEM);
}
