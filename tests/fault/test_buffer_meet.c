/* SPDX-License-Identifier: MIT */
/*
 * test_buffer_meet.c - a buffer whose last reference two threads release at once,
 * which here they do every time: both have read the count when either goes on.
 */
#include "support/refuse.h"
#include "test.h"

#include <pthread.h>
#include <setjmp.h>
#include <weir/weir.h>

#include "pools/buffer.h"

static pthread_barrier_t barrier;
static struct weir_buffer buffer;
static unsigned ended, faults;
static __thread jmp_buf back;

static void
wait_for_the_other(void *context)
{
	(void)context;
	(void)pthread_barrier_wait(&barrier);
}

static void
end(struct weir_buffer *which, void *context)
{
	CHECK_PTR(which, &buffer);
	CHECK_PTR(context, &ended);
	__atomic_fetch_add(&ended, 1, __ATOMIC_RELAXED);
}

static void
leave(const struct weir_fault *fault, void *context)
{
	CHECK_NULL(context);
	CHECK_EQ(fault->fault_class, WEIR_FAULT_REF_UNDERFLOW);
	CHECK_CONTAINS(fault->line, "was released by two at once");
	__atomic_fetch_add(&faults, 1, __ATOMIC_RELAXED);
	longjmp(back, 1);
}

/* Apart from what a longjmp could spoil. */
static void
release(void)
{
	if (setjmp(back) == 0)
		weir_buffer_release(&buffer);
}

static void
meet_and_release(unsigned index, void *context)
{
	(void)index;
	(void)context;
	release();
}

TEST(
    last_reference_that_two_release_at_once_is_told_by_one_and_ended_by_the_other)
{
	static char text[] = "static";

	weir_buffer_init_external(&buffer, text, sizeof(text), end, &ended);
	/* What the kernel had once goes by a call that can be waited in. */
	CHECK(weiri_buffer_to_kernel(&buffer, WEIR_BUFFER_KERNEL_TX));
	weiri_buffer_from_kernel(&buffer);
	CHECK_EQ(weir_buffer_references(&buffer), 1);
	CHECK_EQ(pthread_barrier_init(&barrier, NULL, 2), 0);
	weir_guard_set_hook(leave, NULL);
	test_step_in(TEST_CALL_BUFFER_END, wait_for_the_other, NULL);
	test_threads(2, meet_and_release, NULL);
	CHECK_EQ(ended, 1);
	CHECK_EQ(faults, 1);
}
