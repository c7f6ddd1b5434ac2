/* SPDX-License-Identifier: MIT */
/*
 * os_posix.c - the part of os.h that differs, from POSIX calls alone.
 *
 * POSIX has no call that empties pages.  Mapping fresh anonymous memory over a
 * private range does it; over a file's range it would end the sharing, so
 * there the zeroes are written.  Which ranges are files is kept in a small
 * table without a lock (decommit may run between the fork handlers).  When it
 * is full every range counts as one of a file: slower, never wrong.
 *
 * Table entry: base is 0 while free, 1 while being written, else the address.
 * A lookup only asks about a range that its caller owns, so the entry it looks
 * for cannot come or go meanwhile; others may, and do not match.
 */
#include "os/impl.h"

#include "base/text.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef MAP_ANONYMOUS
#define MAP_ANONYMOUS MAP_ANON
#endif

#define POSIX_FILES 64

static struct {
	uintptr_t base;
	size_t bytes;
} posix_file[POSIX_FILES];
static bool posix_files_full;

static void
posix_file_enter(void *address, size_t bytes)
{
	for (size_t i = 0; i < POSIX_FILES; i++) {
		uintptr_t free_entry = 0;

		if (!__atomic_compare_exchange_n(&posix_file[i].base,
			&free_entry, 1, false, __ATOMIC_RELAXED,
			__ATOMIC_RELAXED))
			continue;
		WEIRI_STORE(&posix_file[i].bytes, bytes);
		/* Pairs with the acquire in posix_is_file(). */
		__atomic_store_n(
		    &posix_file[i].base, (uintptr_t)address, __ATOMIC_RELEASE);
		return;
	}
	WEIRI_STORE(&posix_files_full, true);
}

/* The bytes of its entry; 0: it has none. */
static size_t
posix_file_leave(void *address)
{
	for (size_t i = 0; i < POSIX_FILES; i++) {
		if (WEIRI_LOAD(&posix_file[i].base) != (uintptr_t)address)
			continue;

		size_t bytes = WEIRI_LOAD(&posix_file[i].bytes);

		WEIRI_STORE(&posix_file[i].base, 0);
		return bytes;
	}
	return 0;
}

static bool
posix_is_file(void *address)
{
	if (WEIRI_LOAD(&posix_files_full))
		return true;
	for (size_t i = 0; i < POSIX_FILES; i++) {
		/* Pairs with the release in posix_file_enter(). */
		uintptr_t base =
		    __atomic_load_n(&posix_file[i].base, __ATOMIC_ACQUIRE);

		if (base > 1 && (uintptr_t)address - base <
				    WEIRI_LOAD(&posix_file[i].bytes))
			return true;
	}
	return false;
}

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
		posix_file_enter(address, bytes);
	}
	errno = saved;
	return address;
}

int
weiri_os_decommit(void *address, size_t bytes)
{
	bytes = weiri_os_whole(address, bytes);
	if (weiri_os_injected())
		return -ENOMEM;
	if (posix_is_file(address)) {
		unsigned char *byte = address;

		for (size_t i = 0; i < bytes; i++)
			byte[i] = 0;
		return 0;
	}

	int saved = errno;
	void *fresh = mmap(address, bytes, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

	return weiri_os_result(fresh == MAP_FAILED ? -1 : 0, saved);
}

int
weiri_os_release(void *address, size_t bytes)
{
	bytes = weiri_os_whole(address, bytes);
	if (weiri_os_injected())
		return -ENOMEM;

	int saved = errno;
	/* First: once unmapped, the address may be another thread's. */
	size_t file_bytes = posix_file_leave(address);
	int result = weiri_os_result(munmap(address, bytes), saved);

	if (result != 0 && file_bytes > 0)
		posix_file_enter(address, file_bytes);
	return result;
}

int
weiri_os_advise_huge(void *address, size_t bytes)
{
	(void)address;
	(void)bytes;
	return -ENOSYS;
}

int
weiri_os_advise_no_dump(void *address, size_t bytes)
{
#ifdef MADV_NOCORE
	int saved = errno;

	return weiri_os_result(madvise(address, bytes, MADV_NOCORE), saved);
#else
	(void)address;
	(void)bytes;
	return -ENOSYS;
#endif
}

int
weiri_os_prefault(void *address, size_t bytes)
{
	weiri_os_touch(address, bytes);
	return 0;
}

void *
weiri_os_map_huge(size_t bytes)
{
	(void)bytes;
	(void)weiri_os_injected(); /* the count is the same on all systems */
	return NULL;
}

/* Opens a shared object under a name nobody else has and takes the name away
 * again at once. */
static int
posix_shm_open(const char *name)
{
	/* A stale object may have the name; more than a few do not. */
	for (int attempt = 0; attempt < 8; attempt++) {
		char path[64];
		struct weiri_text text = {path, sizeof(path), 0};

		weiri_text_char(&text, '/');
		for (size_t i = 0; name[i] != '\0' && i < 16; i++) {
			char c = '_';

			if (name[i] != '/')
				c = name[i];
			weiri_text_char(&text, c);
		}
		weiri_text_char(&text, '-');
		weiri_text_hex(&text, weiri_os_random());

		int fd = shm_open(path, O_RDWR | O_CREAT | O_EXCL, 0600);

		if (fd >= 0)
			(void)shm_unlink(path);
		if (fd >= 0 || errno != EEXIST)
			return fd;
	}
	return -1;
}

int
weiri_os_memfd(const char *name, size_t bytes)
{
	if (weiri_os_injected())
		return -ENOMEM;

	int saved = errno;
	int fd = posix_shm_open(name);

	if (fd >= 0 && ftruncate(fd, (off_t)bytes) != 0) {
		int error = errno;

		(void)close(fd);
		errno = error;
		fd = -1;
	}
	if (fd < 0)
		return weiri_os_result(-1, saved);
	errno = saved;
	return fd;
}

uint64_t
weiri_os_memory_limit(void)
{
	return UINT64_MAX;
}

bool
weiri_os_secure(void)
{
#if defined(__FreeBSD__) || defined(__NetBSD__) || defined(__OpenBSD__) || \
    defined(__DragonFly__) || defined(__APPLE__) || defined(__sun)
	return issetugid() != 0;
#else
	return getuid() != geteuid() || getgid() != getegid();
#endif
}

uint64_t
weiri_os_random(void)
{
	uint64_t value = 0;
	int saved = errno;
	int fd = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
	bool got = fd >= 0 &&
		   read(fd, &value, sizeof(value)) == (ssize_t)sizeof(value);

	if (fd >= 0)
		(void)close(fd);
	errno = saved;
	return got ? value : weiri_os_guess();
}

/*
 * A few condition variables for all words: whoever sleeps on a word of the same
 * place is woken, too, and looks again.  The wake-up passes the mutex that the
 * sleeper holds from its look at the word until it sleeps, so none is lost.
 */
#define POSIX_PLACES 32

static struct posix_place {
	pthread_mutex_t mutex;
	pthread_cond_t cond;
} posix_place[POSIX_PLACES];
static pthread_once_t posix_place_once = PTHREAD_ONCE_INIT;

static void
posix_place_init(void)
{
	pthread_condattr_t attributes;

	(void)pthread_condattr_init(&attributes);
	(void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	for (size_t i = 0; i < POSIX_PLACES; i++) {
		(void)pthread_mutex_init(&posix_place[i].mutex, NULL);
		(void)pthread_cond_init(&posix_place[i].cond, &attributes);
	}
	(void)pthread_condattr_destroy(&attributes);
}

static struct posix_place *
posix_place_of(const uint32_t *word)
{
	uint64_t hash = (uintptr_t)word * UINT64_C(0x9e3779b97f4a7c15);

	(void)pthread_once(&posix_place_once, posix_place_init);
	return &posix_place[(hash >> 32) % POSIX_PLACES];
}

bool
weiri_os_wait(const uint32_t *word, uint32_t value, uint64_t end_ns)
{
	struct posix_place *place = posix_place_of(word);
	struct timespec end = {
	    .tv_sec = (time_t)(end_ns / UINT64_C(1000000000)),
	    .tv_nsec = (long)(end_ns % UINT64_C(1000000000)),
	};
	int error = 0;

	(void)pthread_mutex_lock(&place->mutex);
	if (__atomic_load_n(word, __ATOMIC_ACQUIRE) == value)
		error = end_ns == UINT64_MAX
			    ? pthread_cond_wait(&place->cond, &place->mutex)
			    : pthread_cond_timedwait(
				  &place->cond, &place->mutex, &end);
	(void)pthread_mutex_unlock(&place->mutex);
	return error != ETIMEDOUT;
}

void
weiri_os_wake(const uint32_t *word)
{
	struct posix_place *place = posix_place_of(word);

	(void)pthread_mutex_lock(&place->mutex);
	(void)pthread_cond_broadcast(&place->cond);
	(void)pthread_mutex_unlock(&place->mutex);
}
