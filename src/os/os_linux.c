/* SPDX-License-Identifier: MIT */
/*
 * os_linux.c - the part of os.h that Linux has calls of its own for.
 *
 * A decommit has to leave zeroes behind.  On private pages MADV_DONTNEED does;
 * on a shared mapping it only drops this process's view of the file, and
 * MADV_REMOVE has to punch a hole instead.  The address does not tell which of
 * the two it is, but MADV_REMOVE refuses private pages, so once a file was
 * mapped it is tried first.  Programs without files pay nothing for this.
 *
 * Both refuse pages held by mlock.  Those are unlocked for the moment of the
 * decommit and locked again with MLOCK_ONFAULT: what is touched later is held
 * as before, without being brought in now.
 */
#include "os/impl.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Younger than some headers that the library still builds with; a kernel that
 * does not know one answers EINVAL. */
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif
#ifndef MAP_HUGE_SHIFT
#define MAP_HUGE_SHIFT 26
#endif

#define LINUX_HUGE_2M (21 << MAP_HUGE_SHIFT) /* log2 of the page, encoded */

static bool linux_has_files;

/* Over a reservation, so that offset 0 lands on the aligned address. */
void *
weiri_os_reserve_file(int fd, size_t bytes, size_t align)
{
	char *address = weiri_os_reserve(bytes, align);

	if (address == NULL)
		return NULL;

	int saved = errno;

	if (mmap(address, bytes, PROT_NONE, MAP_SHARED | MAP_FIXED, fd, 0) ==
	    MAP_FAILED) {
		(void)munmap(address, bytes);
		address = NULL;
	} else {
		WEIRI_STORE(&linux_has_files, true);
	}
	errno = saved;
	return address;
}

static int
linux_discard(void *address, size_t bytes)
{
	if (WEIRI_LOAD(&linux_has_files) &&
	    madvise(address, bytes, MADV_REMOVE) == 0)
		return 0;
	return madvise(address, bytes, MADV_DONTNEED);
}

int
weiri_os_decommit(void *address, size_t bytes)
{
	bytes = weiri_os_whole(address, bytes);
	if (weiri_os_injected())
		return -ENOMEM;

	int saved = errno;
	int returned = linux_discard(address, bytes);

	if (returned != 0 && errno == EINVAL) {
		(void)munlock(address, bytes);
		returned = linux_discard(address, bytes);

		int result = weiri_os_result(returned, saved);

		(void)mlock2(address, bytes, MLOCK_ONFAULT);
		errno = saved;
		return result;
	}
	return weiri_os_result(returned, saved);
}

int
weiri_os_release(void *address, size_t bytes)
{
	bytes = weiri_os_whole(address, bytes);
	if (weiri_os_injected())
		return -ENOMEM;

	int saved = errno;

	return weiri_os_result(munmap(address, bytes), saved);
}

int
weiri_os_advise_huge(void *address, size_t bytes)
{
	int saved = errno;

	return weiri_os_result(madvise(address, bytes, MADV_HUGEPAGE), saved);
}

int
weiri_os_advise_no_dump(void *address, size_t bytes)
{
	int saved = errno;

	return weiri_os_result(madvise(address, bytes, MADV_DONTDUMP), saved);
}

int
weiri_os_prefault(void *address, size_t bytes)
{
	int saved = errno;
	int result = weiri_os_result(
	    madvise(address, bytes, MADV_POPULATE_WRITE), saved);

	if (result != -EINVAL)
		return result;
	weiri_os_touch(address, bytes);
	return 0;
}

/* Without MAP_NORESERVE: the pages are set aside now or the call fails, where
 * a shortage found later would be a SIGBUS. */
void *
weiri_os_map_huge(size_t bytes)
{
	WEIR_ASSERT(bytes > 0 && bytes % ((size_t)2 << 20) == 0);
	if (weiri_os_injected())
		return NULL;

	int saved = errno;
	void *address = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | LINUX_HUGE_2M, -1, 0);

	errno = saved;
	return address == MAP_FAILED ? NULL : address;
}

int
weiri_os_memfd(const char *name, size_t bytes)
{
	if (weiri_os_injected())
		return -ENOMEM;

	int saved = errno;
	int fd = memfd_create(name, MFD_CLOEXEC);

	if (fd >= 0 && ftruncate(fd, (off_t)bytes) != 0) {
		int error = errno;

		(void)close(fd);
		errno = error;
		fd = -1;
	}
	return fd >= 0 ? fd : weiri_os_result(-1, saved);
}

uint64_t
weiri_os_memory_limit(void)
{
	return weiri_os_cgroup_limit("");
}

bool
weiri_os_secure(void)
{
	int saved = errno;
	bool secure = getauxval(AT_SECURE) != 0;

	errno = saved;
	return secure;
}

uint64_t
weiri_os_random(void)
{
	uint64_t value;
	int saved = errno;
	/* Not blocking: before the kernel has entropy a guess must do. */
	bool got = getrandom(&value, sizeof(value), GRND_NONBLOCK) ==
		   (ssize_t)sizeof(value);

	errno = saved;
	return got ? value : weiri_os_guess();
}

/* The bitset form takes an absolute time, of the same clock as
 * weiri_os_now_ns(). */
bool
weiri_os_wait(const uint32_t *word, uint32_t value, uint64_t end_ns)
{
	struct timespec end = {
	    .tv_sec = (time_t)(end_ns / UINT64_C(1000000000)),
	    .tv_nsec = (long)(end_ns % UINT64_C(1000000000)),
	};
	int saved = errno;
	long result = syscall(SYS_futex, word, FUTEX_WAIT_BITSET_PRIVATE, value,
	    end_ns == UINT64_MAX ? NULL : &end, NULL, FUTEX_BITSET_MATCH_ANY);
	bool timely = result == 0 || errno != ETIMEDOUT;

	errno = saved;
	return timely;
}

void
weiri_os_wake(const uint32_t *word)
{
	int saved = errno;

	(void)syscall(
	    SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
	errno = saved;
}
