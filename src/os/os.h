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

/* The unit in which the system maps, brings in and takes back: 4 KiB on most
 * machines, 16 or 64 KiB on some.  All ranges below are whole pages of it. */
size_t weiri_os_page_bytes(void);
/* Processors in use now; 1 where the system does not tell. */
unsigned weiri_os_processors(void);

/* Memory of the machine, whoever has it; UINT64_MAX where nobody tells. */
uint64_t weiri_os_memory_bytes(void);

/* For tests: makes the library believe in larger pages, a power of two and a
 * multiple of the true ones.  Before the first use of memory only. */
void weiri_os_set_page_bytes(size_t bytes);

/* Address space without memory behind it, aligned to @align (a power of two
 * of at least a page); not charged to the overcommit limit.  NULL on failure. */
void *weiri_os_reserve(size_t bytes, size_t align);

/* As weiri_os_reserve(), mapped from @fd at offset 0 and shared (memfd). */
void *weiri_os_reserve_file(int fd, size_t bytes, size_t align);

/* Makes reserved pages usable; they read as zero the first time. */
int weiri_os_commit(void *address, size_t bytes);

/* Gives the pages back; the range stays usable and reads as zero again.  After
 * a failure it is what it was, with its memory. */
int weiri_os_decommit(void *address, size_t bytes);

/*
 * Ends a reservation.  The system may refuse, mostly with -ENOMEM: to unmap in
 * the middle of what it joined into one mapping makes two of it, and their
 * number is limited (vm.max_map_count).  The range is then what it was.
 */
int weiri_os_release(void *address, size_t bytes);

/* As weiri_os_release(), for ranges without memory behind them: what the system
 * refuses to end now is tried again at the next reservations. */
void weiri_os_drop(void *address, size_t bytes);

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
 * Fault injection for tests: when set to n > 0 the n-th reserve, commit,
 * decommit, release, protect, huge or memfd call from now on fails with ENOMEM;
 * @persistent: all later ones fail too.  n = 0 only counts.  Until the first
 * call of this function, one relaxed load per system call is all it costs.
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
/* False: another thread has it. */
bool weiri_mutex_try(struct weiri_mutex *mutex);
void weiri_mutex_unlock(struct weiri_mutex *mutex);

/* Runs @once_fn a single time in the process; later calls wait for it. */
typedef pthread_once_t weiri_once;
#define WEIRI_ONCE_INITIALIZER PTHREAD_ONCE_INIT
void weiri_os_once(weiri_once *once, void (*once_fn)(void));

/*
 * Sleeps while *@word is @value, until a wake-up, or until @end_ns of
 * weiri_os_now_ns(); UINT64_MAX: for ever.  False: the time is over.  May wake
 * for no reason.
 */
bool weiri_os_wait(const uint32_t *word, uint32_t value, uint64_t end_ns);
/* Wakes whoever sleeps on @word, once it has changed.  Looks at nothing there:
 * the word may have ended already. */
void weiri_os_wake(const uint32_t *word);

/* Adds 1 to an eventfd, or writes the 8 bytes to whatever @fd is. */
void weiri_os_signal(int fd);

/* A function to run when a thread that armed the hook ends. */
int weiri_os_thread_exit_hook(void (*exit_fn)(void *argument));
/* Arms it for the calling thread with a non-NULL argument. */
int weiri_os_thread_exit_arm(void *argument);

/*
 * A thread of the library's own that sleeps between turns: all its signals are
 * blocked, its stack is @stack_bytes or what the system demands.  @turn runs
 * every @interval_ns until weiri_os_helper_stop(), which waits for it.  The
 * helper does not exist in a fork's child: forget it there.
 */
struct weiri_os_helper {
	pthread_t thread;
	pthread_mutex_t mutex; /* of stop */
	pthread_cond_t wake;
	uint64_t interval_ns;
	void (*turn)(void);
	bool stop;
};

int weiri_os_helper_start(struct weiri_os_helper *helper, void (*turn)(void),
    uint64_t interval_ns, size_t stack_bytes);
void weiri_os_helper_stop(struct weiri_os_helper *helper);
bool weiri_os_helper_is_self(const struct weiri_os_helper *helper);

/* Handlers around fork, as pthread_atfork. */
int weiri_os_at_fork(
    void (*prepare)(void), void (*parent)(void), void (*child)(void));

#endif /* WEIRI_OS_H */
