/* SPDX-License-Identifier: MIT */
/*
 * os_common.c - the part of os.h that any POSIX system gives in the same way.
 *
 * Aligned address space: mmap aligns to a page, pages/ wants 2 MiB and more.
 * Three attempts, from cheap to sure:
 *
 *   1  exactly the bytes asked for; systems place mappings next to each other,
 *      so once one is aligned the following ones are;
 *   2  the same, with the aligned address below the first answer as a hint:
 *      that hole is nearly always free, and nothing more than the bytes asked
 *      for is ever mapped, which matters under a tight RLIMIT_AS;
 *   3  bytes + align, then both ends are cut off.
 *
 * Invariants:
 *
 *   O1  Every function leaves errno as it found it.
 *   O2  A reservation that fails leaves nothing mapped.
 *   O3  A release or decommit that fails leaves the range as it was.
 *   O4  A call is counted before the system sees it, so the n-th failure is
 *       the n-th call whatever the system would have answered.
 */
#include "os/impl.h"

#include "base/bits.h"
#include "base/text.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#ifndef MAP_ANONYMOUS
#define MAP_ANONYMOUS MAP_ANON
#endif
#ifndef MAP_NORESERVE
#define MAP_NORESERVE 0
#endif

/* ---- fault injection --------------------------------------------------- */

static bool os_counting; /* false until a test calls weiri_os_fail_nth() */
static bool os_fail_persistent;
static int64_t os_fail_at;
static int64_t os_call_count;

bool
weiri_os_injected(void)
{
	if (WEIR_LIKELY(!WEIRI_LOAD(&os_counting)))
		return false;

	int64_t call = __atomic_add_fetch(&os_call_count, 1, __ATOMIC_RELAXED);
	int64_t at = WEIRI_LOAD(&os_fail_at);

	if (at <= 0)
		return false;
	return call == at || (call > at && WEIRI_LOAD(&os_fail_persistent));
}

void
weiri_os_fail_nth(int64_t n, bool persistent)
{
	WEIRI_STORE(&os_fail_at, 0);
	WEIRI_STORE(&os_call_count, 0);
	WEIRI_STORE(&os_fail_persistent, persistent);
	WEIRI_STORE(&os_fail_at, n);
	WEIRI_STORE(&os_counting, true);
}

int64_t
weiri_os_calls(void)
{
	return WEIRI_LOAD(&os_call_count);
}

/* ---- memory ------------------------------------------------------------ */

static size_t os_page_bytes; /* 0: not asked yet */

size_t
weiri_os_page_bytes(void)
{
	size_t bytes = WEIRI_LOAD(&os_page_bytes);

	if (WEIR_UNLIKELY(bytes == 0)) {
		int saved = errno;

		bytes = (size_t)sysconf(_SC_PAGESIZE);
		WEIRI_STORE(&os_page_bytes, bytes);
		errno = saved;
	}
	return bytes;
}

unsigned
weiri_os_processors(void)
{
	int saved = errno;
	long count = sysconf(_SC_NPROCESSORS_ONLN);

	errno = saved;
	return count < 1 ? 1 : (unsigned)count;
}

uint64_t
weiri_os_memory_bytes(void)
{
	uint64_t bytes = UINT64_MAX;
#ifdef _SC_PHYS_PAGES
	int saved = errno;
	long pages = sysconf(_SC_PHYS_PAGES), each = sysconf(_SC_PAGESIZE);

	errno = saved;
	if (pages > 0 && each > 0)
		bytes = (uint64_t)pages * (uint64_t)each;
#endif
	return bytes;
}

void
weiri_os_set_page_bytes(size_t bytes)
{
	WEIR_ASSERT(weiri_is_pow2(bytes));
	WEIRI_STORE(&os_page_bytes, bytes);
}

size_t
weiri_os_whole(const void *address, size_t bytes)
{
	size_t page = weiri_os_page_bytes();

	WEIR_ASSERT(bytes > 0 && ((uintptr_t)address | bytes) % page == 0);
	(void)address;
	return weiri_round_up(bytes, page);
}

/* For assertions. */
#define OS_IS_RANGE(address, bytes) \
	((bytes) > 0 &&             \
	    ((uintptr_t)(address) | (bytes)) % weiri_os_page_bytes() == 0)

static bool
os_is_aligned(const void *address, size_t align)
{
	return ((uintptr_t)address & (align - 1)) == 0;
}

static void *
os_map_none(void *hint, size_t bytes)
{
	void *address = mmap(hint, bytes, PROT_NONE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return address == MAP_FAILED ? NULL : address;
}

/* The third attempt; NULL leaves nothing behind. */
static void *
os_map_cut(size_t bytes, size_t align)
{
	/* There were as many bytes to map, twice. */
	WEIR_ASSERT(bytes <= SIZE_MAX - align);

	size_t whole = bytes + align;
	char *base = os_map_none(NULL, whole);

	if (base == NULL)
		return NULL;

	size_t head = -(uintptr_t)base & (align - 1);
	size_t tail = whole - head - bytes;

	/* Cutting can fail where a neighbour merged with the mapping and the
	 * process is at its number of mappings. */
	if (head > 0 && munmap(base, head) != 0)
		goto undo_map;
	if (tail > 0 && munmap(base + head + bytes, tail) != 0)
		goto undo_map;
	return base + head;

undo_map:
	(void)munmap(base, whole);
	return NULL;
}

static void *
os_map_aligned(size_t bytes, size_t align)
{
	char *address = os_map_none(NULL, bytes);

	if (address == NULL || os_is_aligned(address, align))
		return address;

	char *hint = address - ((uintptr_t)address & (align - 1));

	(void)munmap(address, bytes);
	address = os_map_none(hint, bytes);
	if (address == NULL || os_is_aligned(address, align))
		return address;
	(void)munmap(address, bytes);
	return os_map_cut(bytes, align);
}

/*
 * Ranges that weiri_os_drop() could not end.  An entry's base is 0 while it is
 * free and 1 while somebody is at it; whoever changes either to 1 owns the
 * entry until he stores something else.
 */
#define OS_DROPPED 64

static struct {
	uintptr_t base;
	size_t bytes;
} os_dropped[OS_DROPPED];
static uint32_t os_dropped_count;

static bool
os_dropped_own(size_t i, uintptr_t base)
{
	/* Pairs with the release in os_dropped_set(). */
	return __atomic_compare_exchange_n(&os_dropped[i].base, &base, 1, false,
	    __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
}

static void
os_dropped_set(size_t i, uintptr_t base)
{
	/* Pairs with the acquire in os_dropped_own(). */
	__atomic_store_n(&os_dropped[i].base, base, __ATOMIC_RELEASE);
}

void
weiri_os_drop(void *address, size_t bytes)
{
	if (weiri_os_release(address, bytes) == 0)
		return;
	for (size_t i = 0; i < OS_DROPPED; i++) {
		if (!os_dropped_own(i, 0))
			continue;
		os_dropped[i].bytes = bytes;
		__atomic_fetch_add(&os_dropped_count, 1, __ATOMIC_RELAXED);
		os_dropped_set(i, (uintptr_t)address);
		return;
	}
	/* A full table: the range is forgotten, which costs address space
	 * alone. */
}

static WEIRI_COLD void
os_drop_again(void)
{
	for (size_t i = 0; i < OS_DROPPED; i++) {
		uintptr_t base = WEIRI_LOAD(&os_dropped[i].base);

		if (base <= 1 || !os_dropped_own(i, base))
			continue;
		if (weiri_os_release((void *)base, os_dropped[i].bytes) == 0) {
			__atomic_fetch_sub(
			    &os_dropped_count, 1, __ATOMIC_RELAXED);
			base = 0;
		}
		os_dropped_set(i, base);
	}
}

void *
weiri_os_reserve(size_t bytes, size_t align)
{
	WEIR_ASSERT(OS_IS_RANGE(NULL, bytes));
	WEIR_ASSERT(weiri_is_pow2(align) && align >= weiri_os_page_bytes());
	if (WEIR_UNLIKELY(WEIRI_LOAD(&os_dropped_count) > 0))
		os_drop_again();
	if (weiri_os_injected())
		return NULL;

	int saved = errno;
	void *address = os_map_aligned(bytes, align);

	errno = saved;
	return address;
}

int
weiri_os_commit(void *address, size_t bytes)
{
	WEIR_ASSERT(OS_IS_RANGE(address, bytes));
	if (weiri_os_injected())
		return -ENOMEM;

	int saved = errno;

	return weiri_os_result(
	    mprotect(address, bytes, PROT_READ | PROT_WRITE), saved);
}

int
weiri_os_protect(
    void *address, size_t bytes, enum weiri_os_protection protection)
{
	static const int bits[] = {
	    [WEIRI_OS_NONE] = PROT_NONE,
	    [WEIRI_OS_READ] = PROT_READ,
	    [WEIRI_OS_READ_WRITE] = PROT_READ | PROT_WRITE,
	};

	WEIR_ASSERT(OS_IS_RANGE(address, bytes));
	if (weiri_os_injected())
		return -ENOMEM;

	int saved = errno;

	return weiri_os_result(
	    mprotect(address, bytes, bits[protection]), saved);
}

int
weiri_os_lock(void *address, size_t bytes)
{
	int saved = errno;

	return weiri_os_result(mlock(address, bytes), saved);
}

void
weiri_os_touch(void *address, size_t bytes)
{
	size_t page = weiri_os_page_bytes();

	/* Each byte is replaced by itself, unless another thread was faster and
	 * so touched it.  Or-ing 0 in would be shorter, but compilers know that
	 * for a load, which brings in no page. */
	for (size_t at = 0; at < bytes; at += page) {
		unsigned char *byte = (unsigned char *)address + at;
		unsigned char value = WEIRI_LOAD(byte);

		(void)__atomic_compare_exchange_n(byte, &value, value, false,
		    __ATOMIC_RELAXED, __ATOMIC_RELAXED);
	}
}

int
weiri_os_memfd_grow(int fd, size_t bytes)
{
	if (weiri_os_injected())
		return -ENOMEM;

	int saved = errno;

	return weiri_os_result(ftruncate(fd, (off_t)bytes), saved);
}

void
weiri_os_close(int fd)
{
	int saved = errno;

	(void)close(fd);
	errno = saved;
}

/* ---- process ----------------------------------------------------------- */

void
weiri_os_write_error(const char *text, size_t bytes)
{
	int saved = errno;

	while (bytes > 0) {
		ssize_t written = write(STDERR_FILENO, text, bytes);

		if (written > 0) {
			text += written;
			bytes -= (size_t)written;
		} else if (written == 0 || errno != EINTR) {
			break; /* nobody is left to tell */
		}
	}
	errno = saved;
}

void
weiri_assert_failed(const char *condition, const char *file, int line)
{
	char buffer[512];
	struct weiri_text text = {buffer, sizeof(buffer) - 1, 0};

	weiri_text_str(&text, "weir: assertion failed: ");
	weiri_text_str(&text, condition);
	weiri_text_str(&text, " (");
	weiri_text_str(&text, file);
	weiri_text_char(&text, ':');
	weiri_text_u64(&text, (uint64_t)line);
	weiri_text_char(&text, ')');

	size_t used = weiri_min(text.used, sizeof(buffer) - 2);

	buffer[used] = '\n';
	weiri_os_write_error(buffer, used + 1);
	abort();
}

uint64_t
weiri_os_now_ns(void)
{
	struct timespec now;
	int saved = errno;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	errno = saved;
	return (uint64_t)now.tv_sec * UINT64_C(1000000000) +
	       (uint64_t)now.tv_nsec;
}

void
weiri_os_sleep_ns(uint64_t ns)
{
	struct timespec span = {
	    .tv_sec = (time_t)(ns / UINT64_C(1000000000)),
	    .tv_nsec = (long)(ns % UINT64_C(1000000000)),
	};
	int saved = errno;

	(void)nanosleep(&span, NULL);
	errno = saved;
}

void
weiri_os_signal(int fd)
{
	uint64_t one = 1;
	int saved = errno;
	/* Full is as good as told. */
	ssize_t ignored WEIRI_UNUSED = write(fd, &one, sizeof(one));

	errno = saved;
}

uint64_t
weiri_os_guess(void)
{
	static uint64_t counter;
	uint64_t bits = __atomic_add_fetch(&counter, 1, __ATOMIC_RELAXED);

	/* Finaliser of splitmix64 over what an outsider knows least. */
	bits = bits * UINT64_C(0x9e3779b97f4a7c15) ^ weiri_os_now_ns();
	bits ^= (uintptr_t)&bits ^ ((uint64_t)getpid() << 32);
	bits = (bits ^ (bits >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	bits = (bits ^ (bits >> 27)) * UINT64_C(0x94d049bb133111eb);
	return bits ^ (bits >> 31);
}
