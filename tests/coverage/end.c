/* SPDX-License-Identifier: MIT */
/*
 * end.c - the counts of a process that ends early.
 *
 * They are written when a process ends by exit().  Most reports of the library
 * end by abort(), children of tests by _exit(), and who passes a fault on to the
 * system by the signal: without these wrappers (--wrap of the linker, builds with
 * WEIR_COVERAGE alone) what the library does about a bug would count as never run.
 */
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

/* NOLINTBEGIN(bugprone-reserved-identifier): the compiler's and linker's names */
void __gcov_dump(void);
_Noreturn void __real_abort(void);
_Noreturn void __real__exit(int status);
_Noreturn void __wrap_abort(void);
_Noreturn void __wrap__exit(int status);
void (*__real_signal(int number, void (*handler)(int)))(int);
void (*__wrap_signal(int number, void (*handler)(int)))(int);

void
__wrap_abort(void)
{
	__gcov_dump();
	__real_abort();
}

void
__wrap__exit(int status)
{
	__gcov_dump();
	__real__exit(status);
}

/* In the place of the system's own way to end a process. */
static void
end_by_signal(int number, siginfo_t *info, void *context)
{
	(void)context;
	__gcov_dump();
	(void)__real_signal(number, SIG_DFL);
	/* A fault comes again when it is returned from; what was sent does not. */
	if (info->si_code <= 0)
		(void)raise(number);
}

void (*__wrap_signal(int number, void (*handler)(int)))(int)
{
	const struct sigaction action = {
	    .sa_sigaction = end_by_signal,
	    .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER,
	};

	if (handler != SIG_DFL)
		return __real_signal(number, handler);
	(void)sigaction(number, &action, NULL);
	return SIG_DFL;
}
/* NOLINTEND(bugprone-reserved-identifier) */
