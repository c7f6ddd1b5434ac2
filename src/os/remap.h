/* SPDX-License-Identifier: MIT */
/*
 * remap.h - moving pages instead of bytes.
 */
#ifndef WEIRI_OS_REMAP_H
#define WEIRI_OS_REMAP_H

#include "base/compiler.h"

/*
 * Moves the contents of @bytes at @from to @to without copying them: whole
 * pages, both ranges private anonymous memory that is readable and writable and
 * does not overlap.  The old range stays usable and reads as zero.
 *
 * Returns 0; -ENOSYS or -ENOMEM when nothing was moved and both ranges are
 * usable, the new one with any contents; -EFAULT when nothing was moved and the
 * new range may not be the caller's any more: it must not be used or given back.
 * errno is left as it was.
 */
int weiri_os_move_pages(void *from, void *to, size_t bytes);

#endif /* WEIRI_OS_REMAP_H */
