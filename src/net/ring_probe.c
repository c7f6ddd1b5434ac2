/* SPDX-License-Identifier: MIT */
/*
 * ring_probe.c - what does io_uring do here?
 *
 * Asked by doing it: a kernel's version says nothing about a sandbox, a sysctl
 * or a distribution's patches.  Each feature that is not forbidden is tried on a
 * ring of its own, made with those already found: a byte goes through a socket
 * pair into a provided buffer, a listening socket is accepted from, more is sent
 * than a socket takes.  What does not work that way is left out, and the back
 * end does without.  Only where a ring cannot be made, or a poll on it does not
 * work, is there no back end.
 */
#include "net/ring.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PROBE_WAIT_NS (1000 * (int64_t)WEIRI_MS)
#define PROBE_ENTRIES 4
#define PROBE_COMPLETIONS 8

/* More than the buffers of two sockets take. */
#define PROBE_SEND_BYTES (4u << 20)

struct probe {
	uint32_t without;
	uint32_t features; /* found so far */
	int error;
};

/* The next completion's result, and whether there will be another. */
static int
probe_result(struct weiri_ring *ring, int64_t timeout_ns, uint32_t *flags)
{
	const struct io_uring_cqe *cqe;
	int error = weiri_ring_wait(ring, timeout_ns);
	int result;

	*flags = 0;
	if (error != 0)
		return error;
	cqe = weiri_ring_completion(ring, 0);
	if (cqe == NULL)
		return -ETIME;
	result = cqe->res;
	*flags = cqe->flags;
	weiri_ring_seen(ring);
	return result;
}

static int
probe_pair(int fds[2])
{
	return socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC,
		   0, fds) == 0
		   ? 0
		   : -errno;
}

/* ---- the ring itself --------------------------------------------------- */

static int
probe_ring(struct weiri_ring *ring, const struct probe *probe)
{
	return weiri_ring_open(ring, PROBE_ENTRIES, PROBE_COMPLETIONS,
	    (probe->features & WEIR_NET_DEFERRED) != 0);
}

/* Nothing works without; 0 or -errno. */
static int
probe_poll(const struct probe *probe)
{
	struct weiri_ring ring;
	uint32_t flags;
	int fds[2];
	int error = probe_ring(&ring, probe);

	if (error != 0)
		return error;
	error = probe_pair(fds);
	if (error == 0) {
		struct io_uring_sqe *entry = weiri_ring_entry(&ring);
		entry->opcode = IORING_OP_POLL_ADD;
		entry->fd = fds[0];
		entry->poll32_events = POLLOUT;
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
		entry->poll32_events = (uint32_t)POLLOUT << 16;
#endif
		error = probe_result(&ring, PROBE_WAIT_NS, &flags);
		error = error < 0 ? error : error & POLLOUT ? 0 : -ENOSYS;
		close(fds[0]);
		close(fds[1]);
	}
	weiri_ring_close(&ring);
	return error;
}

/* ---- receiving --------------------------------------------------------- */

/* A receive of @fds[0], which has to wait first, gets a byte, then the end; one
 * of @total bytes ends with them. */
static bool
probe_receive_on(struct weiri_ring *ring, const int fds[2], bool multishot,
    uint32_t length, uint32_t total)
{
	struct io_uring_sqe *entry = weiri_ring_entry(ring);
	uint32_t flags;
	int result;

	entry->opcode = IORING_OP_RECV;
	entry->fd = fds[0];
	entry->ioprio = multishot ? IORING_RECV_MULTISHOT : 0;
	entry->flags = IOSQE_BUFFER_SELECT;
	entry->len = length;
	entry->file_index = total; /* its name before it was optlen */
	if (weiri_ring_wait(ring, 0) != 0 || write(fds[1], "", 1) != 1 ||
	    shutdown(fds[1], SHUT_WR) != 0)
		return false;
	result = probe_result(ring, PROBE_WAIT_NS, &flags);
	if (result != 1 || !(flags & IORING_CQE_F_BUFFER) ||
	    (total == 1 && (flags & IORING_CQE_F_MORE)))
		return false;
	/* It must be over before its buffer ends: with the stream's end, or
	 * for want of another buffer. */
	while (flags & IORING_CQE_F_MORE)
		if (probe_result(ring, PROBE_WAIT_NS, &flags) == -ETIME)
			return false;
	return true;
}

static bool
probe_receive(
    const struct probe *probe, bool multishot, uint32_t length, uint32_t total)
{
	unsigned char byte[16];
	struct weiri_ring ring;
	struct weiri_supply supply;
	bool works = false;
	int fds[2];

	if (probe_ring(&ring, probe) != 0)
		return false;
	if (weiri_supply_open(&supply, &ring, 0, 1, sizeof(byte)) == 0) {
		weiri_supply_lend(&supply, byte);
		if (probe_pair(fds) == 0) {
			works = probe_receive_on(
			    &ring, fds, multishot, length, total);
			close(fds[0]);
			close(fds[1]);
		}
		weiri_ring_close(&ring);
		weiri_supply_close(&supply);
	} else {
		weiri_ring_close(&ring);
	}
	return works;
}

static bool
probe_buffer_ring(const struct probe *probe)
{
	return probe_receive(probe, false, 16, 0);
}

static bool
probe_multishot_receive(const struct probe *probe)
{
	return (probe->features & WEIR_NET_BUFFER_RING) != 0 &&
	       probe_receive(probe, true, 0, 0);
}

static bool
probe_turn_cap(const struct probe *probe)
{
	return (probe->features & WEIR_NET_MULTISHOT_RECEIVE) != 0 &&
	       probe_receive(probe, true, 1, 1);
}

/* ---- accepting --------------------------------------------------------- */

static bool
probe_deferred(const struct probe *probe)
{
	struct probe with = *probe;

	with.features |= WEIR_NET_DEFERRED;
	return probe_poll(&with) == 0;
}

/* Refused at once where it is not known; waits otherwise. */
static bool
probe_multishot_accept(const struct probe *probe)
{
	/* A name of the system's choice, in no file system. */
	struct sockaddr name = {.sa_family = AF_UNIX};
	struct weiri_ring ring;
	bool works = false;
	int fd;

	if (probe_ring(&ring, probe) != 0)
		return false;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd >= 0 && bind(fd, &name, sizeof(name.sa_family)) == 0 &&
	    listen(fd, 1) == 0) {
		struct io_uring_sqe *entry = weiri_ring_entry(&ring);
		uint32_t flags;
		entry->opcode = IORING_OP_ACCEPT;
		entry->fd = fd;
		entry->ioprio = IORING_ACCEPT_MULTISHOT;
		works = probe_result(&ring, 0, &flags) == -ETIME;
	}
	if (fd >= 0)
		close(fd);
	weiri_ring_close(&ring);
	return works;
}

/* ---- sending ----------------------------------------------------------- */

/* The completion of a send as uring_send.c makes them, or -ETIME: none. */
static int
probe_send_once(struct weiri_ring *ring, int fd, const void *data, size_t bytes)
{
	struct io_uring_sqe *entry = weiri_ring_entry(ring);
	const struct io_uring_cqe *cqe;
	int result = -ETIME;

	entry->opcode = IORING_OP_SEND;
	entry->fd = fd;
	entry->addr = (uint64_t)(uintptr_t)data;
	entry->len = (uint32_t)bytes;
	entry->flags = IOSQE_CQE_SKIP_SUCCESS;
	entry->msg_flags = MSG_DONTWAIT | MSG_WAITALL | MSG_NOSIGNAL;
	if (weiri_ring_submit(ring) != 0)
		return -EIO;
	cqe = weiri_ring_completion(ring, 0);
	if (cqe != NULL) {
		result = cqe->res;
		weiri_ring_seen(ring);
	}
	return result;
}

/* One that is whole says nothing, one cut short says how much, one that found
 * no room says so; all before the call that submits it returns. */
static bool
probe_send_on(struct weiri_ring *ring, const int fds[2], const void *data)
{
	int part;

	if (weiri_ring_wait(ring, 0) != 0 || /* which enables it */
	    probe_send_once(ring, fds[1], data, 1) != -ETIME)
		return false;
	part = probe_send_once(ring, fds[1], data, PROBE_SEND_BYTES);
	return part > 0 && (uint32_t)part < PROBE_SEND_BYTES &&
	       probe_send_once(ring, fds[1], data, PROBE_SEND_BYTES) == -EAGAIN;
}

static bool
probe_ring_send(const struct probe *probe)
{
	struct weiri_ring ring;
	bool works = false;
	unsigned char *data;
	int fds[2];

	/* Elsewhere completions come at any time (uring_send.c). */
	if (!(probe->features & WEIR_NET_DEFERRED) ||
	    probe_ring(&ring, probe) != 0)
		return false;
	data = calloc(1, PROBE_SEND_BYTES);
	if (data != NULL && probe_pair(fds) == 0) {
		works = probe_send_on(&ring, fds, data);
		close(fds[0]);
		close(fds[1]);
	}
	weiri_ring_close(&ring);
	free(data);
	return works;
}

/* ---- all of it --------------------------------------------------------- */

/* In an order in which each may use those before it. */
static const struct {
	enum weir_net_feature feature;
	bool (*works)(const struct probe *probe);
} probe_features[] = {
    {WEIR_NET_DEFERRED, probe_deferred},
    {WEIR_NET_BUFFER_RING, probe_buffer_ring},
    {WEIR_NET_MULTISHOT_ACCEPT, probe_multishot_accept},
    {WEIR_NET_MULTISHOT_RECEIVE, probe_multishot_receive},
    {WEIR_NET_TURN_CAP, probe_turn_cap},
    {WEIR_NET_RING_SEND, probe_ring_send},
};

static void
probe_run(void *argument)
{
	struct probe *probe = argument;

	for (size_t i = 0; i < WEIRI_COUNT_OF(probe_features); i++)
		if (!(probe->without & (uint32_t)probe_features[i].feature) &&
		    probe_features[i].works(probe))
			probe->features |= (uint32_t)probe_features[i].feature;
	/* One that cannot be told where to end brings more than a quota before
	 * it is found out that the peer does not read. */
	if (!(probe->features & WEIR_NET_TURN_CAP))
		probe->features &= ~(uint32_t)WEIR_NET_MULTISHOT_RECEIVE;
	probe->error = probe_poll(probe);
}

int
weiri_ring_probe(uint32_t without, uint32_t *features)
{
	struct probe probe = {.without = without};
	int error = weiri_ring_aside(probe_run, &probe);

	*features = probe.features;
	return error != 0 ? error : probe.error;
}
