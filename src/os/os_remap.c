/* SPDX-License-Identifier: MIT */
/*
 * os_remap.c - moving pages instead of bytes, where the system can.
 *
 * Growing 1 GiB by copying touches 2 GiB and needs both at once; moving its
 * page tables takes microseconds, since ranges that agree in their place within
 * 2 MiB move a table at a time.  Linux 5.7 leaves the old range mapped and
 * empty (MREMAP_DONTUNMAP), which is what an allocator wants: the address space
 * is its own and goes on to serve other requests.
 *
 * The kernel unmaps the target before it finds out whether it can move, so a
 * failure leaves a hole there.  The hole is filled at once, but not over what
 * another thread's mmap() may have put into it.  Where something lies there the
 * target counts as lost, although some kernels leave it alone.  A system without the call is found out by a trial beforehand.
 */
#include "os/remap.h"

#include "os/impl.h"

#include <sys/mman.h>

#ifdef MREMAP_DONTUNMAP

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000 /* Linux 4.17, older than DONTUNMAP */
#endif

static bool remap_works;

static void
remap_try(void)
{
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
	size_t bytes = weiri_os_page_bytes();
	void *from = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags, -1, 0);

	if (from == MAP_FAILED)
		return;

	void *to =
	    mremap(from, bytes, bytes, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);

	(void)munmap(from, bytes);
	if (to == MAP_FAILED)
		return;
	(void)munmap(to, bytes);
	remap_works = true;
}

/* Fills the hole that a failed move left. */
static int
remap_mend(void *to, size_t bytes)
{
	const int flags =
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE;

	return mmap(to, bytes, PROT_READ | PROT_WRITE, flags, -1, 0) == to
		   ? -ENOMEM
		   : -EFAULT;
}

int
weiri_os_move_pages(void *from, void *to, size_t bytes)
{
	static weiri_once once = WEIRI_ONCE_INITIALIZER;

	if (weiri_os_injected())
		return -ENOMEM;

	int saved = errno;
	int result = -ENOSYS;

	weiri_os_once(&once, remap_try);
	if (remap_works) {
		void *got = mremap(from, bytes, bytes,
		    MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, to);

		result = got != MAP_FAILED ? 0 : remap_mend(to, bytes);
	}
	errno = saved;
	return result;
}

#else

int
weiri_os_move_pages(void *from, void *to, size_t bytes)
{
	(void)from;
	(void)to;
	(void)bytes;
	(void)weiri_os_injected(); /* the count is the same on all systems */
	return -ENOSYS;
}

#endif
