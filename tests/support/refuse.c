/* SPDX-License-Identifier: MIT */
/*
 * refuse.c - the calls of refuse.h, as the linker's --wrap has them come here.
 */
#include "refuse.h"

#include "test.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/uio.h>
#include <unistd.h>

#define HUGE_BYTES ((size_t)2 << 20)

static struct refusal {
	unsigned calls, after, count, refused; /* atomic */
	int error;
	void (*step)(void *context); /* atomic */
	void *context;
} refusals[TEST_CALL_ALL];

static bool huge_granted;

void
test_refuse(enum test_call call, unsigned after, unsigned count, int error)
{
	struct refusal *refusal = &refusals[call];

	if (TEST_TSAN)
		SKIP("ThreadSanitizer makes such calls of its own");
	__atomic_store_n(&refusal->count, 0, __ATOMIC_SEQ_CST);
	__atomic_store_n(&refusal->calls, 0, __ATOMIC_SEQ_CST);
	__atomic_store_n(&refusal->refused, 0, __ATOMIC_SEQ_CST);
	__atomic_store_n(&refusal->after, after, __ATOMIC_SEQ_CST);
	__atomic_store_n(&refusal->error, error, __ATOMIC_SEQ_CST);
	__atomic_store_n(&refusal->count, count, __ATOMIC_SEQ_CST);
}

unsigned
test_calls(enum test_call call)
{
	return __atomic_load_n(&refusals[call].calls, __ATOMIC_SEQ_CST);
}

unsigned
test_refused(enum test_call call)
{
	return __atomic_load_n(&refusals[call].refused, __ATOMIC_SEQ_CST);
}

void
test_step_in(enum test_call call, void (*step)(void *context), void *context)
{
	struct refusal *refusal = &refusals[call];

	__atomic_store_n(&refusal->step, NULL, __ATOMIC_SEQ_CST);
	__atomic_store_n(&refusal->context, context, __ATOMIC_SEQ_CST);
	__atomic_store_n(&refusal->step, step, __ATOMIC_SEQ_CST);
}

void
test_grant_huge_pages(void)
{
	huge_granted = true;
}

/* 0, or the error that this call is to fail with. */
static int
refusal_of(enum test_call call)
{
	struct refusal *refusal = &refusals[call];
	void (*step)(void *context) =
	    __atomic_load_n(&refusal->step, __ATOMIC_SEQ_CST);

	if (step != NULL)
		step(__atomic_load_n(&refusal->context, __ATOMIC_SEQ_CST));

	unsigned count = __atomic_load_n(&refusal->count, __ATOMIC_SEQ_CST);
	unsigned number =
	    __atomic_fetch_add(&refusal->calls, 1, __ATOMIC_SEQ_CST);
	unsigned after = __atomic_load_n(&refusal->after, __ATOMIC_SEQ_CST);

	if (number < after || number - after >= count)
		return 0;
	__atomic_fetch_add(&refusal->refused, 1, __ATOMIC_SEQ_CST);
	return __atomic_load_n(&refusal->error, __ATOMIC_SEQ_CST);
}

/* As refusal_of(), with errno set. */
static bool
refused(enum test_call call)
{
	int error = refusal_of(call);

	if (error != 0)
		errno = error;
	return error != 0;
}

/* NOLINTBEGIN(bugprone-reserved-identifier): the linker's names */

/* ---- memory ---------------------------------------------------------------- */

void *__real_mmap(
    void *at, size_t bytes, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap(
    void *at, size_t bytes, int protection, int flags, int fd, off_t offset);
int __real_munmap(void *at, size_t bytes);
int __wrap_munmap(void *at, size_t bytes);
int __real_mprotect(void *at, size_t bytes, int protection);
int __wrap_mprotect(void *at, size_t bytes, int protection);
int __real_madvise(void *at, size_t bytes, int advice);
int __wrap_madvise(void *at, size_t bytes, int advice);
int __real_mlock(const void *at, size_t bytes);
int __wrap_mlock(const void *at, size_t bytes);
int __real_memfd_create(const char *name, unsigned flags);
int __wrap_memfd_create(const char *name, unsigned flags);
int __real_ftruncate(int fd, off_t bytes);
int __wrap_ftruncate(int fd, off_t bytes);

/* Of twice the size a part that is aligned as huge pages are. */
static void *
huge_map(size_t bytes)
{
	char *at = __real_mmap(NULL, bytes + HUGE_BYTES, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	size_t head;

	if (at == MAP_FAILED)
		return at;
	head = (size_t)(-(uintptr_t)at & (HUGE_BYTES - 1));
	if (head > 0)
		(void)__real_munmap(at, head);
	(void)__real_munmap(at + head + bytes, HUGE_BYTES - head);
	return at + head;
}

void *
__wrap_mmap(
    void *at, size_t bytes, int protection, int flags, int fd, off_t offset)
{
	if (refused(TEST_CALL_MMAP))
		return MAP_FAILED;
	if (huge_granted && (flags & MAP_HUGETLB) != 0)
		return huge_map(bytes);
	return __real_mmap(at, bytes, protection, flags, fd, offset);
}

int
__wrap_munmap(void *at, size_t bytes)
{
	return refused(TEST_CALL_MUNMAP) ? -1 : __real_munmap(at, bytes);
}

int
__wrap_mprotect(void *at, size_t bytes, int protection)
{
	return refused(TEST_CALL_MPROTECT)
		   ? -1
		   : __real_mprotect(at, bytes, protection);
}

int
__wrap_madvise(void *at, size_t bytes, int advice)
{
	return refused(TEST_CALL_MADVISE) ? -1
					  : __real_madvise(at, bytes, advice);
}

int
__wrap_mlock(const void *at, size_t bytes)
{
	return refused(TEST_CALL_MLOCK) ? -1 : __real_mlock(at, bytes);
}

int
__wrap_memfd_create(const char *name, unsigned flags)
{
	return refused(TEST_CALL_MEMFD) ? -1 : __real_memfd_create(name, flags);
}

int
__wrap_ftruncate(int fd, off_t bytes)
{
	return refused(TEST_CALL_FTRUNCATE) ? -1 : __real_ftruncate(fd, bytes);
}

struct weir_buffer;
void __real_weiri_buffer_kernel_end(struct weir_buffer *buffer, uint32_t count);
void __wrap_weiri_buffer_kernel_end(struct weir_buffer *buffer, uint32_t count);

void
__wrap_weiri_buffer_kernel_end(struct weir_buffer *buffer, uint32_t count)
{
	(void)refusal_of(TEST_CALL_BUFFER_END);
	__real_weiri_buffer_kernel_end(buffer, count);
}

void *__real_weiri_meta_alloc(size_t bytes);
void *__wrap_weiri_meta_alloc(size_t bytes);
void *__real_weiri_meta_need(size_t bytes);
void *__wrap_weiri_meta_need(size_t bytes);

void *
__wrap_weiri_meta_alloc(size_t bytes)
{
	return refusal_of(TEST_CALL_RECORD) != 0
		   ? NULL
		   : __real_weiri_meta_alloc(bytes);
}

void *
__wrap_weiri_meta_need(size_t bytes)
{
	return refusal_of(TEST_CALL_RECORD) != 0
		   ? NULL
		   : __real_weiri_meta_need(bytes);
}

/* ---- files, randomness, code ------------------------------------------------ */

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
ssize_t __real_write(int fd, const void *from, size_t bytes);
ssize_t __wrap_write(int fd, const void *from, size_t bytes);
ssize_t __real_getrandom(void *into, size_t bytes, unsigned flags);
ssize_t __wrap_getrandom(void *into, size_t bytes, unsigned flags);
ssize_t __real_process_vm_readv(pid_t pid, const struct iovec *to,
    unsigned long tos, const struct iovec *from, unsigned long froms,
    unsigned long flags);
ssize_t __wrap_process_vm_readv(pid_t pid, const struct iovec *to,
    unsigned long tos, const struct iovec *from, unsigned long froms,
    unsigned long flags);
long __real_sysconf(int name);
long __wrap_sysconf(int name);
int __real_dladdr(const void *address, Dl_info *info);
int __wrap_dladdr(const void *address, Dl_info *info);

int
__wrap_open(const char *path, int flags, ...)
{
	unsigned mode = 0;

	if (refused(TEST_CALL_OPEN))
		return -1;
	if ((flags & O_CREAT) != 0) {
		va_list rest;

		va_start(rest, flags);
		mode = va_arg(rest, unsigned);
		va_end(rest);
	}
	return __real_open(path, flags, mode);
}

ssize_t
__wrap_write(int fd, const void *from, size_t bytes)
{
	return refused(TEST_CALL_WRITE) ? -1 : __real_write(fd, from, bytes);
}

ssize_t
__wrap_getrandom(void *into, size_t bytes, unsigned flags)
{
	return refused(TEST_CALL_GETRANDOM)
		   ? -1
		   : __real_getrandom(into, bytes, flags);
}

ssize_t
__wrap_process_vm_readv(pid_t pid, const struct iovec *to, unsigned long tos,
    const struct iovec *from, unsigned long froms, unsigned long flags)
{
	return refused(TEST_CALL_PEEK)
		   ? -1
		   : __real_process_vm_readv(pid, to, tos, from, froms, flags);
}

long
__wrap_sysconf(int name)
{
	return refused(TEST_CALL_SYSCONF) ? -1 : __real_sysconf(name);
}

int
__wrap_dladdr(const void *address, Dl_info *info)
{
	return refused(TEST_CALL_DLADDR) ? 0 : __real_dladdr(address, info);
}

/* ---- signals ------------------------------------------------------------------ */

int __real_sigaction(
    int number, const struct sigaction *action, struct sigaction *before);
int __wrap_sigaction(
    int number, const struct sigaction *action, struct sigaction *before);
int __real_sigaltstack(const stack_t *stack, stack_t *before);
int __wrap_sigaltstack(const stack_t *stack, stack_t *before);
int __real_pthread_sigmask(int how, const sigset_t *set, sigset_t *before);
int __wrap_pthread_sigmask(int how, const sigset_t *set, sigset_t *before);

int
__wrap_sigaction(
    int number, const struct sigaction *action, struct sigaction *before)
{
	return refused(TEST_CALL_SIGACTION)
		   ? -1
		   : __real_sigaction(number, action, before);
}

int
__wrap_sigaltstack(const stack_t *stack, stack_t *before)
{
	return refused(TEST_CALL_SIGALTSTACK)
		   ? -1
		   : __real_sigaltstack(stack, before);
}

int
__wrap_pthread_sigmask(int how, const sigset_t *set, sigset_t *before)
{
	int error = refusal_of(TEST_CALL_SIGMASK);

	return error != 0 ? error : __real_pthread_sigmask(how, set, before);
}

/* ---- threads -------------------------------------------------------------------- */

int __real_pthread_getattr_np(pthread_t thread, pthread_attr_t *attr);
int __wrap_pthread_getattr_np(pthread_t thread, pthread_attr_t *attr);
int __real_pthread_atfork(
    void (*prepare)(void), void (*parent)(void), void (*child)(void));
int __wrap_pthread_atfork(
    void (*prepare)(void), void (*parent)(void), void (*child)(void));
int __real_pthread_attr_init(pthread_attr_t *attr);
int __wrap_pthread_attr_init(pthread_attr_t *attr);
int __real_pthread_cond_init(
    pthread_cond_t *cond, const pthread_condattr_t *attr);
int __wrap_pthread_cond_init(
    pthread_cond_t *cond, const pthread_condattr_t *attr);
int __real_pthread_condattr_init(pthread_condattr_t *attr);
int __wrap_pthread_condattr_init(pthread_condattr_t *attr);
int __real_pthread_condattr_setclock(pthread_condattr_t *attr, clockid_t clock);
int __wrap_pthread_condattr_setclock(pthread_condattr_t *attr, clockid_t clock);
int __real_pthread_key_create(pthread_key_t *key, void (*end)(void *value));
int __wrap_pthread_key_create(pthread_key_t *key, void (*end)(void *value));
int __real_pthread_mutex_init(
    pthread_mutex_t *mutex, const pthread_mutexattr_t *attr);
int __wrap_pthread_mutex_init(
    pthread_mutex_t *mutex, const pthread_mutexattr_t *attr);
int __real_pthread_setspecific(pthread_key_t key, const void *value);
int __wrap_pthread_setspecific(pthread_key_t key, const void *value);
int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attr,
    void *(*run)(void *argument), void *argument);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr,
    void *(*run)(void *argument), void *argument);

int
__wrap_pthread_getattr_np(pthread_t thread, pthread_attr_t *attr)
{
	int error = refusal_of(TEST_CALL_GETATTR);

	return error != 0 ? error : __real_pthread_getattr_np(thread, attr);
}

int
__wrap_pthread_atfork(
    void (*prepare)(void), void (*parent)(void), void (*child)(void))
{
	int error = refusal_of(TEST_CALL_ATFORK);

	return error != 0 ? error
			  : __real_pthread_atfork(prepare, parent, child);
}

int
__wrap_pthread_attr_init(pthread_attr_t *attr)
{
	int error = refusal_of(TEST_CALL_ATTR);

	return error != 0 ? error : __real_pthread_attr_init(attr);
}

int
__wrap_pthread_cond_init(pthread_cond_t *cond, const pthread_condattr_t *attr)
{
	int error = refusal_of(TEST_CALL_COND);

	return error != 0 ? error : __real_pthread_cond_init(cond, attr);
}

int
__wrap_pthread_condattr_init(pthread_condattr_t *attr)
{
	int error = refusal_of(TEST_CALL_CONDATTR);

	return error != 0 ? error : __real_pthread_condattr_init(attr);
}

int
__wrap_pthread_condattr_setclock(pthread_condattr_t *attr, clockid_t clock)
{
	int error = refusal_of(TEST_CALL_CLOCK);

	return error != 0 ? error
			  : __real_pthread_condattr_setclock(attr, clock);
}

int
__wrap_pthread_key_create(pthread_key_t *key, void (*end)(void *value))
{
	int error = refusal_of(TEST_CALL_KEY);

	return error != 0 ? error : __real_pthread_key_create(key, end);
}

int
__wrap_pthread_mutex_init(
    pthread_mutex_t *mutex, const pthread_mutexattr_t *attr)
{
	int error = refusal_of(TEST_CALL_MUTEX);

	return error != 0 ? error : __real_pthread_mutex_init(mutex, attr);
}

int
__wrap_pthread_setspecific(pthread_key_t key, const void *value)
{
	int error = refusal_of(TEST_CALL_SETSPECIFIC);

	return error != 0 ? error : __real_pthread_setspecific(key, value);
}

int
__wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr,
    void *(*run)(void *argument), void *argument)
{
	int error = refusal_of(TEST_CALL_THREAD);

	return error != 0 ? error
			  : __real_pthread_create(thread, attr, run, argument);
}

/* NOLINTEND(bugprone-reserved-identifier) */
