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
#include <netinet/in.h>
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
	if (weiri_supply_open(&supply, &ring, 0, 1, sizeof(byte), false) == 0) {
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

/* Two receives, into one buffer. */
static bool
probe_incremental_on(
    struct weiri_ring *ring, const int fds[2], const char byte[2])
{
	struct io_uring_sqe *entry = weiri_ring_entry(ring);
	uint32_t flags;

	entry->opcode = IORING_OP_RECV;
	entry->fd = fds[0];
	entry->ioprio = IORING_RECV_MULTISHOT;
	entry->flags = IOSQE_BUFFER_SELECT;
	entry->len = 8;
	entry->file_index = 8;
	if (weiri_ring_wait(ring, 0) != 0)
		return false;
	for (int i = 0; i < 2; i++)
		if (write(fds[1], &"ab"[i], 1) != 1 ||
		    probe_result(ring, PROBE_WAIT_NS, &flags) != 1 ||
		    !(flags & IORING_CQE_F_BUFFER) ||
		    !(flags & WEIRI_RING_BUF_MORE))
			return false;
	return byte[0] == 'a' && byte[1] == 'b';
}

static bool
probe_incremental(const struct probe *probe)
{
	unsigned char byte[16] = {0};
	struct weiri_ring ring;
	struct weiri_supply supply;
	bool works = false;
	uint32_t flags;
	int fds[2];

	if (!(probe->features & WEIR_NET_TURN_CAP) ||
	    probe_ring(&ring, probe) != 0)
		return false;
	if (weiri_supply_open(&supply, &ring, 0, 1, sizeof(byte), true) != 0) {
		weiri_ring_close(&ring);
		return false;
	}
	weiri_supply_lend(&supply, byte);
	if (probe_pair(fds) == 0) {
		works = probe_incremental_on(&ring, fds, (const char *)byte);
		/* It must be over before its buffer ends. */
		close(fds[1]);
		if (works)
			(void)probe_result(&ring, PROBE_WAIT_NS, &flags);
		close(fds[0]);
	}
	weiri_ring_close(&ring);
	weiri_supply_close(&supply);
	return works;
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

/* Submits; the completion that is there then, or -ETIME: none. */
static int
probe_at_once(struct weiri_ring *ring)
{
	const struct io_uring_cqe *cqe;
	int result = -ETIME;

	if (weiri_ring_submit(ring) != 0)
		return -EIO;
	cqe = weiri_ring_completion(ring, 0);
	if (cqe != NULL) {
		result = cqe->res;
		weiri_ring_seen(ring);
	}
	return result;
}

/* The completion of a send as uring_send.c makes them, or -ETIME: none. */
static int
probe_send_once(struct weiri_ring *ring, int fd, const void *data, size_t bytes)
{
	struct io_uring_sqe *entry = weiri_ring_entry(ring);

	entry->opcode = IORING_OP_SEND;
	entry->fd = fd;
	entry->addr = (uint64_t)(uintptr_t)data;
	entry->len = (uint32_t)bytes;
	entry->flags = IOSQE_CQE_SKIP_SUCCESS;
	entry->msg_flags = MSG_DONTWAIT | MSG_WAITALL | MSG_NOSIGNAL;
	return probe_at_once(ring);
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

/* ---- direct descriptors -------------------------------------------------- */

/* A listening TCP socket, since other kinds have none of the commands, and a
 * socket that is connected to it. */
static bool
probe_connect(int fds[2])
{
	const struct timeval limit = {.tv_sec = 1};
	struct sockaddr_in name = {
	    .sin_family = AF_INET,
	    .sin_addr = {htonl(INADDR_LOOPBACK)},
	};
	socklen_t bytes = sizeof(name);

	for (int i = 0; i < 2; i++)
		fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	return fds[0] >= 0 && fds[1] >= 0 &&
	       setsockopt(fds[1], SOL_SOCKET, SO_RCVTIMEO, &limit,
		   sizeof(limit)) == 0 &&
	       bind(fds[0], (void *)&name, bytes) == 0 &&
	       getsockname(fds[0], (void *)&name, &bytes) == 0 &&
	       listen(fds[0], 1) == 0 &&
	       connect(fds[1], (void *)&name, bytes) == 0;
}

static void
probe_disconnect(const int fds[2])
{
	for (int i = 0; i < 2; i++)
		if (fds[i] >= 0)
			close(fds[i]);
}

static struct io_uring_sqe *
probe_direct_entry(struct weiri_ring *ring, uint8_t opcode, int index)
{
	struct io_uring_sqe *entry = weiri_ring_entry(ring);

	entry->opcode = opcode;
	entry->fd = index;
	entry->flags = IOSQE_FIXED_FILE;
	return entry;
}

/* What uring_direct.c does with a place in the table; all of it at once. */
static bool
probe_direct_use(struct weiri_ring *ring, int index, int peer)
{
	static const struct linger now = {.l_onoff = 1, .l_linger = 0};
	struct sockaddr_in name;
	struct io_uring_sqe *entry;
	char byte = 0;

	entry = probe_direct_entry(ring, IORING_OP_RECV, index);
	entry->addr = (uint64_t)(uintptr_t)&byte;
	entry->len = 1;
	entry->msg_flags = MSG_DONTWAIT;
	if (probe_at_once(ring) != -EAGAIN)
		return false;
	entry = probe_direct_entry(ring, IORING_OP_SEND, index);
	entry->addr = (uint64_t)(uintptr_t)&byte;
	entry->len = 1;
	entry->msg_flags = MSG_DONTWAIT | MSG_NOSIGNAL;
	if (probe_at_once(ring) != 1 || recv(peer, &byte, 1, 0) != 1)
		return false;
	entry = probe_direct_entry(ring, IORING_OP_URING_CMD, index);
	weiri_ring_command(entry, WEIRI_RING_SIOCOUTQ, 0, NULL, 0);
	if (probe_at_once(ring) < 0)
		return false;
	entry = probe_direct_entry(ring, IORING_OP_URING_CMD, index);
	weiri_ring_command(
	    entry, WEIRI_RING_GETSOCKOPT, SO_PEERNAME, &name, sizeof(name));
	if (probe_at_once(ring) != sizeof(name))
		return false;
	entry = probe_direct_entry(ring, IORING_OP_URING_CMD, index);
	weiri_ring_command(
	    entry, WEIRI_RING_SETSOCKOPT, SO_LINGER, &now, sizeof(now));
	entry->flags |= IOSQE_CQE_SKIP_SUCCESS;
	entry = weiri_ring_entry(ring);
	entry->opcode = IORING_OP_CLOSE;
	entry->file_index = (uint32_t)index + 1;
	entry->flags = IOSQE_CQE_SKIP_SUCCESS;
	return probe_at_once(ring) == -ETIME && recv(peer, &byte, 1, 0) == -1 &&
	       errno == ECONNRESET;
}

static bool
probe_direct_on(struct weiri_ring *ring, const int fds[2])
{
	struct io_uring_sqe *entry;
	uint32_t flags;
	int index;

	if (weiri_ring_table_open(ring, 1) != 0)
		return false;
	entry = weiri_ring_entry(ring);
	entry->opcode = IORING_OP_ACCEPT;
	entry->fd = fds[0];
	entry->accept_flags = SOCK_NONBLOCK;
	entry->file_index = IORING_FILE_INDEX_ALLOC;
	index = probe_result(ring, PROBE_WAIT_NS, &flags);
	return index == 0 && probe_direct_use(ring, index, fds[1]);
}

static bool
probe_direct(const struct probe *probe)
{
	struct weiri_ring ring;
	bool works = false;
	int fds[2];

	/* For receives and questions as for sends. */
	if (!(probe->features & WEIR_NET_RING_SEND) ||
	    probe_ring(&ring, probe) != 0)
		return false;
	works = probe_connect(fds) && probe_direct_on(&ring, fds);
	probe_disconnect(fds);
	weiri_ring_close(&ring);
	return works;
}

/* ---- sends without a copy ------------------------------------------------ */

/* The result comes at once, and the notification when the network is done. */
static bool
probe_zero_copy_on(struct weiri_ring *ring, int fd, uint8_t opcode)
{
	struct iovec iov = {(void *)(uintptr_t) "", 1};
	struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
	struct io_uring_sqe *entry = weiri_ring_entry(ring);
	uint32_t flags;

	entry->opcode = opcode;
	entry->fd = fd;
	entry->addr = (uint64_t)(uintptr_t)(opcode == IORING_OP_SEND_ZC
						? iov.iov_base
						: (void *)&message);
	entry->len = 1;
	entry->ioprio = WEIRI_RING_REPORT_USAGE;
	entry->msg_flags = MSG_DONTWAIT | MSG_NOSIGNAL;
	if (probe_at_once(ring) != 1)
		return false;
	/* Its result says how, and is negative as a number. */
	(void)probe_result(ring, PROBE_WAIT_NS, &flags);
	return (flags & IORING_CQE_F_NOTIF) != 0;
}

static bool
probe_zero_copy(const struct probe *probe)
{
	struct weiri_ring ring;
	bool works = false;
	int fds[2];

	if (!(probe->features & WEIR_NET_RING_SEND) ||
	    probe_ring(&ring, probe) != 0)
		return false;
	works = probe_connect(fds) && weiri_ring_wait(&ring, 0) == 0 &&
		probe_zero_copy_on(&ring, fds[1], IORING_OP_SEND_ZC) &&
		probe_zero_copy_on(&ring, fds[1], IORING_OP_SENDMSG_ZC);
	probe_disconnect(fds);
	weiri_ring_close(&ring);
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
    {WEIR_NET_INCREMENTAL, probe_incremental},
    {WEIR_NET_DIRECT, probe_direct},
    {WEIR_NET_ZERO_COPY, probe_zero_copy},
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
