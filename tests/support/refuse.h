/* SPDX-License-Identifier: MIT */
/*
 * refuse.h - system calls that fail as a test has it.
 *
 * weiri_os_fail_nth() refuses what the library asks of its own os/; this refuses
 * what os/ asks of the C library, with the errors a kernel has, and so reaches
 * what is done about them below that border.  Programs named test_*_refused are
 * linked such that these calls come here first (tests/CMakeLists.txt).
 *
 * So are those named test_*_meet, for another reason.  What two threads do wrong
 * together they do in a window of a few instructions, which they meet in by chance.
 * Where one of these calls lies in the window the test steps in there: it has one
 * thread wait for the other, or does itself what another would, and the two meet
 * each time.
 */
#ifndef WEIR_TEST_REFUSE_H
#define WEIR_TEST_REFUSE_H

enum test_call {
	TEST_CALL_BUFFER_END, /* weiri_buffer_kernel_end(): the last reference
				 of a buffer that was lent is released */
	TEST_CALL_DLADDR,
	TEST_CALL_FTRUNCATE,
	TEST_CALL_GETATTR, /* pthread_getattr_np */
	TEST_CALL_GETRANDOM,
	TEST_CALL_MADVISE,
	TEST_CALL_MEMFD,
	TEST_CALL_MLOCK,
	TEST_CALL_MMAP,
	TEST_CALL_MPROTECT,
	TEST_CALL_MUNMAP,
	TEST_CALL_OPEN,
	TEST_CALL_PEEK,   /* process_vm_readv */
	TEST_CALL_RECORD, /* weiri_meta_alloc(), _need(): the library's own */
	TEST_CALL_SIGACTION,
	TEST_CALL_SIGALTSTACK,
	TEST_CALL_SYSCONF,
	TEST_CALL_WRITE,
	/* Those below return their error. */
	TEST_CALL_ATFORK,
	TEST_CALL_ATTR, /* pthread_attr_init */
	TEST_CALL_COND, /* pthread_cond_init */
	TEST_CALL_CONDATTR,
	TEST_CALL_CLOCK, /* pthread_condattr_setclock */
	TEST_CALL_KEY,   /* pthread_key_create */
	TEST_CALL_MUTEX, /* pthread_mutex_init */
	TEST_CALL_SETSPECIFIC,
	TEST_CALL_SIGMASK,
	TEST_CALL_THREAD, /* pthread_create */
	TEST_CALL_ALL,    /* their number */
};

/* Of the calls of this sort from now on the first @after go through, and then
 * @count fail with @error, of any thread; a @count of 0 refuses none. */
void test_refuse(
    enum test_call call, unsigned after, unsigned count, int error);

/* Calls of this sort since test_refuse() was called for it, refused or not. */
unsigned test_calls(enum test_call call);

/* Those of them that were refused. */
unsigned test_refused(enum test_call call);

/* @step is called by every thread that comes to a call of this sort, before
 * anything is done there, until the next call of this; NULL: nobody is. */
void test_step_in(
    enum test_call call, void (*step)(void *context), void *context);

/* Explicit huge pages: there are some, whatever the system has. */
void test_grant_huge_pages(void);

#endif /* WEIR_TEST_REFUSE_H */
