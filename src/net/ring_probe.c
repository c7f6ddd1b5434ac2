/* SPDX-License-Identifier: MIT */
/*
 * ring_probe.c - does io_uring do here what the back end needs?
 *
 * Asked by doing it: a kernel's version says nothing about a sandbox, a sysctl
 * or a distribution's patches.  A byte goes through a socket pair into a
 * provided buffer by a multishot receive; once with, once without a bound on
 * the bytes of a turn, which older kernels refuse.
 */
#include "net/ring.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#define PROBE_WAIT_NS (1000 * (int64_t)WEIRI_MS)

/* The result of a receive armed on @fd: bytes, or -errno; and waits until
 * nothing is armed any more. */
static int
probe_receive(struct weiri_ring *ring, const int fds[2], uint32_t turn_bytes)
{
	struct io_uring_sqe *entry = weiri_ring_entry(ring);
	int result = -ETIME;
	bool more = true;

	entry->opcode = IORING_OP_RECV;
	entry->fd = fds[0];
	entry->ioprio = IORING_RECV_MULTISHOT;
	entry->flags = IOSQE_BUFFER_SELECT;
	entry->len = turn_bytes;
	/* First there is nothing, and it has to wait for that. */
	if (weiri_ring_wait(ring, 0) != 0 || write(fds[1], "", 1) != 1 ||
	    shutdown(fds[1], SHUT_WR) != 0)
		return -errno;
	while (more) {
		int error = weiri_ring_wait(ring, PROBE_WAIT_NS);
		const struct io_uring_cqe *cqe = weiri_ring_completion(ring, 0);
		if (error != 0 || cqe == NULL)
			return error != 0 ? error : -ETIME;
		more = (cqe->flags & IORING_CQE_F_MORE) != 0;
		if (result == -ETIME)
			result = cqe->res;
		if (cqe->res == 1 && !(cqe->flags & IORING_CQE_F_BUFFER))
			result = -ENOSYS;
		weiri_ring_seen(ring);
	}
	return result;
}

static int
probe_once(uint32_t turn_bytes)
{
	unsigned char byte[16];
	struct weiri_ring ring;
	struct weiri_supply supply;
	int fds[2];
	int error = weiri_ring_open(&ring, 4, 8);

	if (error != 0)
		return error;
	error = weiri_supply_open(&supply, &ring, 0, 1, sizeof(byte));
	if (error != 0)
		goto undo_ring;
	weiri_supply_lend(&supply, byte);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0,
		fds) != 0) {
		error = -errno;
	} else {
		error = probe_receive(&ring, fds, turn_bytes);
		close(fds[0]);
		close(fds[1]);
	}
	weiri_ring_close(&ring);
	weiri_supply_close(&supply);
	return error == 1 ? 0 : error < 0 ? error : -ENOSYS;

undo_ring:
	weiri_ring_close(&ring);
	return error;
}

struct probe {
	int error;
	bool bounds_turns;
};

static void
probe_run(void *argument)
{
	struct probe *probe = argument;

	probe->error = probe_once(1);
	probe->bounds_turns = probe->error == 0;
	if (probe->error != 0)
		probe->error = probe_once(0);
}

int
weiri_ring_probe(bool *bounds_turns)
{
	struct probe probe = {.error = 0};
	int error = weiri_ring_aside(probe_run, &probe);

	*bounds_turns = probe.bounds_turns;
	return error != 0 ? error : probe.error;
}
