/* SPDX-License-Identifier: MIT */
/*
 * os.h - everything weir asks of the operating system, and the only seam to it.
 *
 * os_linux.c and os_posix.c implement the part that differs; os_common.c what
 * any POSIX system shares.  No other folder tests for an operating system.
 * Memory calls return 0 or -errno and leave errno alone.
 */
#ifndef WEIRI_OS_H
#define WEIRI_OS_H

#include "base/compiler.h"

#include <pthread.h>

/* ---- memory ---------------------------------------------------------- */

enum weiri_os_protection {
	WEIRI_OS_NONE,
	WEIRI_OS_READ,
	WEIRI_OS_READ_WRITE,
};

size_t weiri_os_page_bytes(void);

/* Address space without memory behind it, aligned to @align (a power of two
 * of at least a page); not charged to the overcommit limit.  NULL on failure. */
void *weiri_os_reserve(size_t bytes, size_t align);

/* As weiri_os_reserve(), mapped from @fd at offset 0 and shared (memfd). */
void *weiri_os_reserve_file(int fd, size_t bytes, size_t align);

/* Makes reserved pages usable; they read as zero the first time. */
int weiri_os_commit(void *address, size_t bytes);

/* Gives the pages back; the range stays usable and reads as zero again. */
int weiri_os_decommit(void *address, size_t bytes);

/* Ends a reservation. */
int weiri_os_release(void *address, size_t bytes);

int weiri_os_protect(
    void *address, size_t bytes, enum weiri_os_protection protection);

/* Advice: -ENOSYS where the system has no such thing; never harmful. */
int weiri_os_advise_huge(void *address, size_t bytes);
int weiri_os_advise_no_dump(void *address, size_t bytes);
int weiri_os_prefault(void *address, size_t bytes);
int weiri_os_lock(void *address, size_t bytes);

/* Explicit huge pages (hugetlb), @bytes a multiple of 2 MiB; NULL if none. */
void *weiri_os_map_huge(size_t bytes);

/* A new anonymous memory file of @bytes; a descriptor or -errno. */
int weiri_os_memfd(const char *name, size_t bytes);
int weiri_os_memfd_grow(int fd, size_t bytes);
void weiri_os_close(int fd);

/* The memory limit the system sets on this process (cgroup), or UINT64_MAX. */
uint64_t weiri_os_memory_limit(void);

/*
 * Fault injection for tests: when set to n > 0 the n-th reserve, commit, huge
 * or memfd call from now on fails with ENOMEM; @persistent: all later ones fail
 * too.  n = 0 only counts.  Until the first call of this function, one relaxed
 * load per system call is all it costs.
 */
void weiri_os_fail_nth(int64_t n, bool persistent);
/* Calls counted since the last weiri_os_fail_nth(). */
int64_t weiri_os_calls(void);

/* ---- process --------------------------------------------------------- */

/* True when the environment must not be trusted (AT_SECURE, setuid). */
bool weiri_os_secure(void);

/* Writes to standard error, whole lines, async-signal-safe. */
void weiri_os_write_error(const char *text, size_t bytes);

/* 64 bits nobody outside can predict; falls back to time and addresses. */
uint64_t weiri_os_random(void);

uint64_t weiri_os_now_ns(void);      /* monotonic */
void weiri_os_sleep_ns(uint64_t ns); /* or less, when a signal comes */

/* ---- threads --------------------------------------------------------- */

/* A mutex that knows its rank: see the table in docs/ARCHITECTURE.md. */
struct weiri_mutex {
	pthread_mutex_t mutex;
};

/* clang-format off */
#define WEIRI_MUTEX_INITIALIZER { PTHREAD_MUTEX_INITIALIZER }
/* clang-format on */

void weiri_mutex_init(struct weiri_mutex *mutex);
void weiri_mutex_destroy(struct weiri_mutex *mutex);
void weiri_mutex_lock(struct weiri_mutex *mutex);
void weiri_mutex_unlock(struct weiri_mutex *mutex);

/* Runs @once_fn a single time in the process; later calls wait for it. */
typedef pthread_once_t weiri_once;
#define WEIRI_ONCE_INITIALIZER PTHREAD_ONCE_INIT
void weiri_os_once(weiri_once *once, void (*once_fn)(void));

/* A function to run when a thread that armed the hook ends. */
int weiri_os_thread_exit_hook(void (*exit_fn)(void *argument));
/* Arms it for the calling thread with a non-NULL argument. */
int weiri_os_thread_exit_arm(void *argument);

/* Handlers around fork, as pthread_atfork. */
int weiri_os_at_fork(
    void (*prepare)(void), void (*parent)(void), void (*child)(void));

#endif /* WEIRI_OS_H */
