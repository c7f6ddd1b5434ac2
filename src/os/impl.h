/* SPDX-License-Identifier: MIT */
/*
 * impl.h - what the files of os/ share with each other and nobody else.
 */
#ifndef WEIRI_OS_IMPL_H
#define WEIRI_OS_IMPL_H

#include "base/assert.h"
#include "os/os.h"

#include <errno.h>

/* Counts one call that may fail; true: it must, by weiri_os_fail_nth(). */
bool weiri_os_injected(void);

/* Asserts that the range starts on a page; systems round up a length, which is
 * done here for the sake of injected page sizes. */
size_t weiri_os_whole(const void *address, size_t bytes);

/* Writes to each page without changing it; for systems without a call that
 * populates.  The range is readable and writable. */
void weiri_os_touch(void *address, size_t bytes);

/* Bits from the clock and the layout of the process, for want of better. */
uint64_t weiri_os_guess(void);

/* The lowest memory limit of the process's control groups, or UINT64_MAX.
 * @root stands before every path read: "" but for tests. */
uint64_t weiri_os_cgroup_limit(const char *root);

/*
 * Turns what a system call returned into 0 or -errno and puts back the errno
 * that @saved holds: callers of an allocation may not see it change.
 */
WEIRI_INLINE int
weiri_os_result(int returned, int saved)
{
	int result = returned == 0 ? 0 : -errno;

	errno = saved;
	return result;
}

#endif /* WEIRI_OS_IMPL_H */
