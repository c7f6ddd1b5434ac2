/* SPDX-License-Identifier: MIT */
/*
 * spare.c - the descriptor kept to turn connections away with.
 *
 * A process without free descriptors cannot accept, and cannot even refuse: the
 * connection stays in the backlog, the listener stays ready, and a naive loop
 * spins.  So an engine keeps one descriptor back.  When there are no others it
 * closes that one, accepts into its number, resets the peer and opens it again.
 *
 * Between close and accept the number is free for every thread, and another
 * loop's accept may get it: then one connection lives in the spare's place, and
 * from then on nobody could be refused; peers would hang in backlogs without an
 * answer.  Hence whoever accepted while the spare was given up asks here
 * whether that was the spare's number, and gives it back.
 *
 * Invariants:
 *  S1  given_up is set, under the lock, before the spare is closed, and taken
 *      back only when it is open again.  The kernel's table of descriptors
 *      orders the close before the accept that gets the number, so that accept
 *      finds the flag set.
 *  S2  Without the lock held, fd is -1 only if opening it again failed.
 */
#include "net/engine.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

static bool
spare_open(struct weiri_spare *spare)
{
	if (spare->fd < 0)
		spare->fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (spare->fd < 0)
		return false;
	__atomic_store_n(&spare->given_up, false, __ATOMIC_RELAXED);
	return true;
}

void
weiri_spare_init(struct weiri_spare *spare)
{
	weiri_mutex_init(&spare->lock);
	spare->fd = -1;
	spare->given_up = true;
	spare_open(spare);
}

void
weiri_spare_destroy(struct weiri_spare *spare)
{
	if (spare->fd >= 0)
		close(spare->fd);
	weiri_mutex_destroy(&spare->lock);
}

int
weiri_spare_refuse(struct weiri_spare *spare, int listener)
{
	int error = -EMFILE;

	weiri_mutex_lock(&spare->lock);
	if (spare_open(spare)) {
		__atomic_store_n(&spare->given_up, true, __ATOMIC_RELEASE);
		close(spare->fd);
		spare->fd = -1;
		int fd =
		    accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		error = fd >= 0 ? 0 : -errno;
		if (fd >= 0)
			weiri_socket_reset(fd);
		spare_open(spare);
	}
	weiri_mutex_unlock(&spare->lock);
	return error;
}

bool
weiri_spare_reclaim(struct weiri_spare *spare, int fd)
{
	bool taken = false;

	if (!__atomic_load_n(&spare->given_up, __ATOMIC_ACQUIRE))
		return false;
	weiri_mutex_lock(&spare->lock);
	if (!spare_open(spare)) {
		weiri_socket_reset(fd);
		spare_open(spare);
		taken = true;
	}
	weiri_mutex_unlock(&spare->lock);
	return taken;
}
