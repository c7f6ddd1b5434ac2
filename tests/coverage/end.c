/* SPDX-License-Identifier: MIT */
/*
 * end.c - the counts of a process that ends early.
 *
 * They are written when a process ends by exit().  Most reports of the library
 * end by abort(), and children of tests by _exit(): without these two wrappers
 * (--wrap of the linker, builds with WEIR_COVERAGE alone) what the library does
 * about a bug would count as never run.
 */
#include <stdlib.h>
#include <unistd.h>

/* NOLINTBEGIN(bugprone-reserved-identifier): the compiler's and linker's names */
void __gcov_dump(void);
_Noreturn void __real_abort(void);
_Noreturn void __real__exit(int status);
_Noreturn void __wrap_abort(void);
_Noreturn void __wrap__exit(int status);

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
/* NOLINTEND(bugprone-reserved-identifier) */
