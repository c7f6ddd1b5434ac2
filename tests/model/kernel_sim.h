/* SPDX-License-Identifier: MIT */
/*
 * kernel_sim.h - a kernel's sockets that exist in memory only, below the real back
 * ends: their system calls are linked to functions here (ld --wrap), and find the
 * peers of net_model.h at the other end.
 *
 * How much of a call goes through, which call fails and with what, which events
 * come in which order and when, and the time are drawn from the seed.  What is
 * promised to programs holds: a descriptor is the lowest that is free, so that
 * a stale number is soon somebody else's; a socket lives on for requests that hold
 * it; a reset is told once; readiness is by level, and at times a mistake.
 *
 * When the steps are done the system gets calm: nothing fails, peers read and
 * write no more.  Then each of them has to get all that it is owed in a while,
 * or somebody was forgotten.
 *
 * kernel_calls.h has the calls, kernel_ring.h io_uring.
 */
#ifndef KERNEL_SIM_H
#define KERNEL_SIM_H

#include "net_model.h"

#include <netinet/in.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#define KERNEL_FD 0x40000000 /* numbers no system gives */
#define KERNEL_FILES 128

/* Waits of a calm system at least; and the time after which nobody may still be
 * owed anything.  Who holds memory for a packet that does not come to its end is
 * closed for it, one after the other. */
#define KERNEL_CALM_WAITS 400
#define KERNEL_CALM_NS (120000 * WEIRI_MS)

enum kernel_kind {
	KERNEL_NONE,
	KERNEL_RING,
	KERNEL_EPOLL,
	KERNEL_EVENT,
	KERNEL_LISTENER,
	KERNEL_SOCKET,
};

struct kernel_file {
	enum kernel_kind kind;
	bool open;             /* has a number */
	bool shut;             /* sends no more */
	bool told;             /* of the reset */
	uint32_t holds;        /* by requests */
	uint32_t lent;         /* sends that are still read */
	uint64_t count;        /* of an event */
	struct sim_peer *peer; /* of a socket: kernel_peer() */
	uint32_t peer_id;
	struct epoll_event watch; /* data.ptr NULL: not watched */
};

static struct {
	bool on; /* calls come here */
	bool calm;
	uint32_t descriptors; /* a process may have */
	uint32_t calm_waits;
	uint64_t calm_ns, now_ns;
	struct kernel_file file[KERNEL_FILES];
	struct kernel_file *number[KERNEL_FILES];
	struct sim_peer *backlog[SIM_PEERS];
	uint32_t backlogged;
	uint64_t calls;
	/* The test's, at each call; or NULL. */
	void (*look)(void);
} kernel;

/* kernel_ring.h: where completions come at any time, some may now. */
static void kernel_interrupt(void);

/* What goes wrong now and then, until the system is calm. */
static bool
kernel_fault(uint32_t of_1000)
{
	return !kernel.calm && sim_chance(of_1000);
}

/* ---- files ---------------------------------------------------------------- */

/* NULL: a number of the real system's. */
static struct kernel_file *
kernel_file(int fd)
{
	if (!kernel.on || fd < KERNEL_FD)
		return NULL;
	CHECK_LT(fd, KERNEL_FD + KERNEL_FILES);
	/* Whoever still has the number of a closed one is wrong. */
	CHECK_NOT_NULL(kernel.number[fd - KERNEL_FD]);
	return kernel.number[fd - KERNEL_FD];
}

static int
kernel_open(enum kernel_kind kind, struct sim_peer *peer)
{
	struct kernel_file *file = kernel.file;
	int fd = 0;

	while (file->kind != KERNEL_NONE)
		CHECK_LT(++file - kernel.file, KERNEL_FILES);
	while (kernel.number[fd] != NULL)
		fd++;
	*file = (struct kernel_file){
	    .kind = kind,
	    .open = true,
	    .peer = peer,
	    .peer_id = peer != NULL ? peer->id : 0,
	};
	kernel.number[fd] = file;
	return KERNEL_FD + fd;
}

/* A socket may be there for longer than its peer: NULL. */
static struct sim_peer *
kernel_peer(const struct kernel_file *file)
{
	return file->peer != NULL && file->peer->id == file->peer_id
		   ? file->peer
		   : NULL;
}

static void
kernel_gone(struct kernel_file *file)
{
	struct sim_peer *peer = kernel_peer(file);

	if (file->open || file->holds > 0 || file->lent > 0)
		return;
	if (peer != NULL && peer->conn == NULL)
		peer->used = false; /* it was refused */
	for (uint32_t i = 0;
	     file->kind == KERNEL_LISTENER && i < kernel.backlogged; i++)
		kernel.backlog[i]->used = false;
	if (file->kind == KERNEL_LISTENER)
		kernel.backlogged = 0;
	file->kind = KERNEL_NONE;
}

/* The number is free; the file is gone unless something holds it. */
static void
kernel_forget(int fd)
{
	struct kernel_file *file = kernel_file(fd);

	kernel.number[fd - KERNEL_FD] = NULL;
	file->open = false;
	file->watch.data.ptr = NULL;
	kernel_gone(file);
}

static void
kernel_close(int fd)
{
	const struct kernel_file *file = kernel_file(fd);

	/* What is armed for it could still name the connection. */
	CHECK(file->kind != KERNEL_SOCKET || file->holds == 0);
	kernel_forget(fd);
}

static uint32_t
kernel_events(const struct kernel_file *file)
{
	const struct sim_peer *peer = kernel_peer(file);
	uint32_t events = 0;

	if (file->kind == KERNEL_LISTENER)
		return kernel.backlogged > 0 ? POLLIN : 0;
	if (file->kind != KERNEL_SOCKET)
		return file->count > 0 ? POLLIN : 0;
	CHECK_NOT_NULL(peer);
	if (peer->written > 0 || peer->half_closed || peer->reset)
		events |= POLLIN;
	if (peer->window > 0 || peer->reset)
		events |= POLLOUT;
	if (peer->reset)
		events |= POLLERR | POLLHUP;
	if (peer->half_closed && file->shut)
		events |= POLLHUP;
	return events;
}

/* ---- bytes ------------------------------------------------------------------ */

static ssize_t
kernel_receive(struct kernel_file *file, unsigned char *to, size_t room)
{
	struct sim_peer *peer = kernel_peer(file);
	uint32_t most = room < peer->written ? (uint32_t)room : peer->written;

	if (peer->reset) {
		bool told = file->told;
		file->told = true;
		return told ? 0 : -ECONNRESET;
	}
	if (most == 0)
		return peer->half_closed ? 0 : -EAGAIN;
	if (kernel_fault(200))
		most = 1 + sim_below(most);
	sim_next(peer->id, &peer->sends, to, most);
	peer->written -= most;
	return (ssize_t)most;
}

/* As much as the peer's window takes, and at times less. */
static ssize_t
kernel_send(struct kernel_file *file, const struct iovec *iov, size_t count)
{
	struct sim_peer *peer = kernel_peer(file);
	uint32_t most = peer->window;
	uint32_t taken = 0;

	CHECK(!file->shut);
	if (peer->reset) {
		bool told = file->told;
		file->told = true;
		return told ? -EPIPE : -ECONNRESET;
	}
	if (kernel_fault(2))
		return sim_chance(500) ? -ENOBUFS : -ENOMEM;
	if (kernel_fault(100) && most > 0)
		most = sim_below(most);
	if (most == 0 || kernel_fault(20))
		return -EAGAIN;
	for (size_t i = 0; i < count && taken < most; i++) {
		uint32_t left = most - taken;
		uint32_t bytes =
		    iov[i].iov_len < left ? (uint32_t)iov[i].iov_len : left;
		sim_expect(peer, iov[i].iov_base, bytes);
		taken += bytes;
	}
	peer->window -= taken;
	return (ssize_t)taken;
}

static int
kernel_accept(struct kernel_file *file)
{
	static const int errors[] = {
	    EMFILE, ENFILE, ENOBUFS, ENOMEM, ECONNABORTED, EINTR, EPROTO};
	struct sim_peer *peer;
	int fd;

	CHECK_EQ(file->kind, KERNEL_LISTENER);
	if (kernel_fault(20))
		return -errors[sim_below(7)];
	if (kernel.backlogged == 0)
		return -EAGAIN;
	peer = kernel.backlog[0];
	kernel.backlogged--;
	memmove(kernel.backlog, kernel.backlog + 1,
	    kernel.backlogged * sizeof(kernel.backlog[0]));
	sim.taken++;
	fd = kernel_open(KERNEL_SOCKET, peer);
	return fd;
}

/* The end of our stream. */
static int
kernel_shut(struct kernel_file *file)
{
	struct sim_peer *peer = kernel_peer(file);

	if (peer == NULL || peer->reset)
		return -ENOTCONN;
	file->shut = true;
	peer->ended = true;
	return 0;
}

/* Bytes on their way to the peer's system. */
static int
kernel_unacknowledged(void)
{
	return !kernel.calm && sim_chance(500);
}

/* Every fourth is on this machine. */
static void
kernel_name_peer(const struct kernel_file *file, struct sockaddr_in *name)
{
	bool local = file->peer_id % 4 == 0;

	*name = (struct sockaddr_in){
	    .sin_family = AF_INET,
	    .sin_port = htons(1),
	    .sin_addr.s_addr = htonl(local ? 0x7f000001 : 0xc0000201),
	};
}

/* ---- the world beyond the sockets ------------------------------------------- */

static bool
kernel_listens(void)
{
	for (int i = 0; i < KERNEL_FILES; i++)
		if (kernel.file[i].kind == KERNEL_LISTENER)
			return true;
	return false;
}

static void
kernel_connect(struct sim_peer *peer)
{
	if (kernel.calm || !kernel_listens())
		return;
	*peer = (struct sim_peer){
	    .used = true,
	    .id = sim.peers++,
	    .window = sim_below(100000),
	};
	kernel.backlog[kernel.backlogged++] = peer;
}

static void
kernel_step(void)
{
	struct sim_peer *peer = &sim.peer[sim_below(SIM_PEERS)];

	sim_memory_step();
	if (!peer->used)
		kernel_connect(peer);
	else
		sim_peer_acts(peer);
}

/* They read, and who saw the end of our stream ends its own. */
static void
kernel_calm_down(void)
{
	kernel.calm = true;
	kernel.calm_ns = kernel.now_ns;
	sim.memory_fails = 0;
	for (int i = 0; i < SIM_HELD; i++)
		weir_slice_release(&sim.held[i]);
}

static void
kernel_calm_step(void)
{
	for (int i = 0; i < SIM_PEERS; i++) {
		sim.peer[i].window = UINT32_MAX / 2;
		if (sim.peer[i].ended)
			sim.peer[i].half_closed = true;
	}
}

/* Whom the engine still owes something, or NULL. */
static struct sim_peer *
kernel_forgotten(void)
{
	for (int i = 0; i < SIM_PEERS; i++) {
		struct sim_peer *peer = &sim.peer[i];
		if (!peer->used || peer->reset)
			continue;
		if (peer->conn == NULL ||
		    (peer->conn->state == WEIRI_CONN_OPEN &&
			!sim_has_all(peer)))
			return peer;
	}
	return NULL;
}

/* Everybody has what is owed; or has had the time for it. */
static bool
kernel_is_settled(void)
{
	const struct sim_peer *peer;

	if (++kernel.calm_waits < KERNEL_CALM_WAITS)
		return false;
	peer = kernel_forgotten();
	if (peer != NULL && kernel.now_ns - kernel.calm_ns > KERNEL_CALM_NS)
		FAIL("peer %u was forgotten: %u bytes not received, it has "
		     "packet %u of %u",
		    peer->id, peer->written, peer->expects.packet,
		    peer->sends.packet);
	return peer == NULL && sim.loop->counters.starved_now == 0;
}

/* A wait of the loop: the peers act, and time passes.  */
static void
kernel_wait(int64_t timeout_ns)
{
	uint32_t steps = sim_below(12);

	sim_check(sim.loop);
	if (!kernel.calm && sim.steps >= sim.steps_max)
		kernel_calm_down();
	if (!kernel.calm) {
		for (uint32_t i = 0; i < steps; i++)
			kernel_step();
		kernel.now_ns += sim_sleep_ns(timeout_ns);
		return;
	}
	kernel_calm_step();
	kernel.now_ns += timeout_ns < 200 * (int64_t)WEIRI_MS
			     ? (uint64_t)timeout_ns
			     : 200 * WEIRI_MS;
	if (!sim.loop->stopping && kernel_is_settled())
		weir_loop_stop(sim.loop, sim_below(2) * 3000);
}

#endif /* KERNEL_SIM_H */
