/* SPDX-License-Identifier: MIT */
/*
 * os_thread.c - locks, the thread-exit hook and helper threads over pthreads.
 */
#include "os/impl.h"

#include <signal.h>
#include <time.h>

/* ---- threads ----------------------------------------------------------- */

/* The calls below fail only when misused, which the assertions tell. */

void
weiri_mutex_init(struct weiri_mutex *mutex)
{
	int error WEIRI_UNUSED = pthread_mutex_init(&mutex->mutex, NULL);

	WEIR_ASSERT(error == 0);
}

void
weiri_mutex_destroy(struct weiri_mutex *mutex)
{
	int error WEIRI_UNUSED = pthread_mutex_destroy(&mutex->mutex);

	WEIR_ASSERT(error == 0);
}

void
weiri_mutex_lock(struct weiri_mutex *mutex)
{
	int error WEIRI_UNUSED = pthread_mutex_lock(&mutex->mutex);

	WEIR_ASSERT(error == 0);
}

bool
weiri_mutex_try(struct weiri_mutex *mutex)
{
	return pthread_mutex_trylock(&mutex->mutex) == 0;
}

void
weiri_mutex_unlock(struct weiri_mutex *mutex)
{
	int error WEIRI_UNUSED = pthread_mutex_unlock(&mutex->mutex);

	WEIR_ASSERT(error == 0);
}

void
weiri_os_once(weiri_once *once, void (*once_fn)(void))
{
	int error WEIRI_UNUSED = pthread_once(once, once_fn);

	WEIR_ASSERT(error == 0);
}

static pthread_key_t os_exit_key;
static bool os_exit_key_made;

int
weiri_os_thread_exit_hook(void (*exit_fn)(void *argument))
{
	if (os_exit_key_made)
		return -EALREADY;

	int error = pthread_key_create(&os_exit_key, exit_fn);

	os_exit_key_made = error == 0;
	return -error;
}

int
weiri_os_thread_exit_arm(void *argument)
{
	WEIR_ASSERT(os_exit_key_made);
	WEIR_ASSERT(argument != NULL);

	int kept = errno; /* it may allocate */
	int error = pthread_setspecific(os_exit_key, argument);

	errno = kept;
	return -error;
}

static void *
os_helper_run(void *argument)
{
	struct weiri_os_helper *helper = argument;
	const uint64_t second = UINT64_C(1000000000);
	struct timespec at;

	(void)pthread_mutex_lock(&helper->mutex);
	while (!helper->stop) {
		uint64_t due = weiri_os_now_ns() + helper->interval_ns;

		at.tv_sec = (time_t)(due / second);
		at.tv_nsec = (long)(due % second);
		/* Woken early or for nothing, a turn too many does no harm. */
		(void)pthread_cond_timedwait(
		    &helper->wake, &helper->mutex, &at);
		if (helper->stop)
			break;
		(void)pthread_mutex_unlock(&helper->mutex);
		helper->turn();
		(void)pthread_mutex_lock(&helper->mutex);
	}
	(void)pthread_mutex_unlock(&helper->mutex);
	return NULL;
}

/* A thread inherits the mask of its maker. */
static int
os_helper_create(struct weiri_os_helper *helper, const pthread_attr_t *attr)
{
	sigset_t all, kept;
	int error;

	(void)sigfillset(&all);
	error = pthread_sigmask(SIG_SETMASK, &all, &kept);
	if (error != 0)
		return error;
	error = pthread_create(&helper->thread, attr, os_helper_run, helper);
	(void)pthread_sigmask(SIG_SETMASK, &kept, NULL);
	return error;
}

/* The monotonic clock, so that setting the time neither hurries nor stops it. */
static int
os_helper_init(struct weiri_os_helper *helper)
{
	pthread_condattr_t attr;
	int error = pthread_condattr_init(&attr);

	if (error != 0)
		return error;
	error = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	if (error == 0)
		error = pthread_cond_init(&helper->wake, &attr);
	(void)pthread_condattr_destroy(&attr);
	if (error == 0)
		error = pthread_mutex_init(&helper->mutex, NULL);
	return error;
}

int
weiri_os_helper_start(struct weiri_os_helper *helper, void (*turn)(void),
    uint64_t interval_ns, size_t stack_bytes)
{
	int kept = errno;
	pthread_attr_t attr;
	int error;

	*helper = (struct weiri_os_helper){
	    .interval_ns = interval_ns,
	    .turn = turn,
	};
	error = os_helper_init(helper);
	if (error == 0)
		error = pthread_attr_init(&attr);
	if (error == 0) {
		/* Too small for this system: its own default, then. */
		(void)pthread_attr_setstacksize(&attr, stack_bytes);
		error = os_helper_create(helper, &attr);
		(void)pthread_attr_destroy(&attr);
	}
	errno = kept;
	return -error;
}

void
weiri_os_helper_stop(struct weiri_os_helper *helper)
{
	(void)pthread_mutex_lock(&helper->mutex);
	helper->stop = true;
	(void)pthread_cond_signal(&helper->wake);
	(void)pthread_mutex_unlock(&helper->mutex);
	(void)pthread_join(helper->thread, NULL);
	(void)pthread_cond_destroy(&helper->wake);
	(void)pthread_mutex_destroy(&helper->mutex);
}

bool
weiri_os_helper_is_self(const struct weiri_os_helper *helper)
{
	return pthread_equal(helper->thread, pthread_self()) != 0;
}

int
weiri_os_at_fork(
    void (*prepare)(void), void (*parent)(void), void (*child)(void))
{
	return -pthread_atfork(prepare, parent, child);
}
