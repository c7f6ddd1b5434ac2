/* SPDX-License-Identifier: MIT */
/*
 * net/ring.h - one io_uring: queues shared with the kernel, and the buffers it
 * may receive into.
 */
#ifndef WEIRI_NET_RING_H
#define WEIRI_NET_RING_H

#include "net/engine.h"

#include <linux/io_uring.h>

struct weiri_ring {
	int fd;
	bool enabled; /* the thread that runs the loop is its only user */
	bool dead;    /* a call failed for good */

	uint32_t refuse; /* by a test: so often a full queue stays full */

	const uint32_t *sq_flags; /* the kernel's, as */
	uint32_t *sq_head;        /* this */
	uint32_t *sq_shared_tail;
	uint32_t sq_tail; /* entries filled, not yet all submitted */
	uint32_t sq_mask;
	struct io_uring_sqe *sqes;

	uint32_t *cq_head; /* ours */
	uint32_t *cq_tail; /* the kernel's */
	uint32_t cq_mask;
	struct io_uring_cqe *cqes;

	unsigned char *map;
	size_t map_bytes;
	size_t sqes_bytes;
};

/* Makes a ring that any thread may prepare and one thread uses from its first
 * weiri_ring_wait() on; with or without WEIR_NET_DEFERRED.  0 or -errno. */
int weiri_ring_open(
    struct weiri_ring *ring, uint32_t sq, uint32_t cq, bool deferred);

/* Runs something on a thread that ends with it.  0 or -errno. */
int weiri_ring_aside(void (*run)(void *argument), void *argument);

/* Ends what is still armed, some time after the return. */
void weiri_ring_close(struct weiri_ring *ring);

/* The next entry to submit, zeroed; or NULL: full, and the kernel takes none.
 */
struct io_uring_sqe *weiri_ring_entry(struct weiri_ring *ring);

/* Submits, and waits for a completion at most @timeout_ns: 0 not at all,
 * INT64_MAX for ever.  0, also after a signal; or -errno, for good. */
int weiri_ring_wait(struct weiri_ring *ring, int64_t timeout_ns);

/* Of a ring that is dead: ends all that is armed before the return; and waits for
 * what is still to be said.  0 or -errno. */
int weiri_ring_cancel_all(const struct weiri_ring *ring);
int weiri_ring_listen(struct weiri_ring *ring, int64_t timeout_ns);

/* Submits without waiting; returns how many entries the kernel did not take. */
uint32_t weiri_ring_submit(struct weiri_ring *ring);

/* Takes the newest @count entries back, which are not submitted. */
void weiri_ring_withdraw(struct weiri_ring *ring, uint32_t count);

/* Entries filled and not submitted. */
uint32_t weiri_ring_pending(const struct weiri_ring *ring);

/* ---- direct descriptors ------------------------------------------------ */

/* A table for @entries files that have no number in the process.  Before the
 * first wait.  0 or -errno. */
int weiri_ring_table_open(struct weiri_ring *ring, uint32_t entries);

/* Closes the file at @index, by a call of its own. */
void weiri_ring_table_close(struct weiri_ring *ring, uint32_t index);

/* A place in the table is kept where else there is a descriptor, as a number
 * below -1; and it again, from that. */
WEIRI_INLINE bool
weiri_fd_is_direct(int fd)
{
	return fd < -1;
}

WEIRI_INLINE int
weiri_fd_direct(int fd_or_index)
{
	return -2 - fd_or_index;
}

/* For what the headers of Linux 6.1 do not have. */
#define WEIRI_RING_SIOCOUTQ 1u   /* SOCKET_URING_OP_SIOCOUTQ */
#define WEIRI_RING_GETSOCKOPT 2u /* SOCKET_URING_OP_GETSOCKOPT */
#define WEIRI_RING_SETSOCKOPT 3u /* SOCKET_URING_OP_SETSOCKOPT */

/* Since Linux 6.12: receives fill a buffer one behind the other. */
#define WEIRI_RING_INCREMENTAL 2u     /* IOU_PBUF_RING_INC */
#define WEIRI_RING_BUF_MORE (1u << 4) /* IORING_CQE_F_BUF_MORE */

/* Since Linux 6.2: a notification says whether it was a copy after all. */
#define WEIRI_RING_REPORT_USAGE (1u << 3) /* IORING_SEND_ZC_REPORT_USAGE */
#define WEIRI_RING_COPIED (1u << 31)      /* IORING_NOTIF_USAGE_ZC_COPIED */

/* Makes @entry, for a socket, get or set an option of SOL_SOCKET, or ask for
 * something. */
void weiri_ring_command(struct io_uring_sqe *entry, uint32_t command,
    int option, const void *value, uint32_t bytes);

/* ring_probe.c: is what the back end needs there?  0 or -errno; and which
 * features, of those not in @without. */
int weiri_ring_probe(uint32_t without, uint32_t *features);

/* The next completion, or NULL; seen: the kernel may reuse it. */
WEIRI_INLINE const struct io_uring_cqe *
weiri_ring_completion(const struct weiri_ring *ring, uint32_t ahead)
{
	uint32_t at = *ring->cq_head + ahead;

	if ((int32_t)(__atomic_load_n(ring->cq_tail, __ATOMIC_ACQUIRE) - at) <=
	    0)
		return NULL;
	return &ring->cqes[at & ring->cq_mask];
}

/* Completions that are there and not seen. */
WEIRI_INLINE uint32_t
weiri_ring_unseen(const struct weiri_ring *ring)
{
	return __atomic_load_n(ring->cq_tail, __ATOMIC_ACQUIRE) -
	       *ring->cq_head;
}

/* The kernel keeps completions aside, for which there was no room. */
WEIRI_INLINE bool
weiri_ring_overflown(const struct weiri_ring *ring)
{
	return (__atomic_load_n(ring->sq_flags, __ATOMIC_RELAXED) &
		   IORING_SQ_CQ_OVERFLOW) != 0;
}

WEIRI_INLINE void
weiri_ring_seen(struct weiri_ring *ring)
{
	__atomic_store_n(ring->cq_head, *ring->cq_head + 1, __ATOMIC_RELEASE);
}

/* ---- buffers the kernel picks from ----------------------------------- */

struct weiri_supply {
	struct io_uring_buf_ring *shared;
	struct weir_buffer **buffers; /* by id; NULL: id is free */
	uint16_t *free_ids;
	uint16_t entries; /* a power of two */
	uint16_t group;
	uint16_t tail;
	uint16_t published;
	uint16_t window; /* as many should be */
	uint16_t window_min, window_max;
	uint16_t used;   /* since the last fill */
	uint16_t peak;   /* of used, in this period */
	uint16_t passes; /* of this period */
	uint16_t ticks;  /* of weiri_supply_maintain(), in this period */
	uint16_t rested; /* tail when the pages last went back */
	uint16_t stray;  /* published buffers that others should replace */
	uint16_t stray_tier;
	uint32_t bytes; /* of each */
	uint32_t
	    turn_bytes; /* as many fit a receive that gives way to others */
	struct weir_net *net; /* INCREMENTAL: of the views; or NULL */
	uint32_t *filled;     /* and how far each is, by id */
	uint32_t armed;       /* the user's: receives that pick from it */
};

/* Registers group @group with up to @most buffers of @bytes; @incremental:
 * whose parts are filled one by one.  0 or -errno. */
int weiri_supply_open(struct weiri_supply *supply, struct weiri_ring *ring,
    uint16_t group, uint16_t most, uint32_t bytes, bool incremental);

/* After weiri_ring_close(), with no receive armed: gives the buffers back. */
void weiri_supply_close(struct weiri_supply *supply);

/* The buffer that @cqe says was filled, or the part of one; it is the caller's
 * now.  NULL: there is no memory for a part. */
struct weir_buffer *weiri_supply_take(
    struct weiri_supply *supply, const struct io_uring_cqe *cqe);

/* A receive found no buffer. */
void weiri_supply_ran_out(struct weiri_supply *supply);

/* Publishes @data, of supply->bytes, which is not a pool's; for the probe. */
void weiri_supply_lend(struct weiri_supply *supply, unsigned char *data);

/* Once a pass: lets the window follow the use, and fills it. */
void weiri_supply_adapt(struct weiri_supply *supply);

/* Ten times a second: lets the window of a loop with few passes follow the use,
 * too, gives back pages of buffers that no receive picks from, and has buffers
 * that keep much memory replaced. */
void weiri_supply_maintain(
    struct weiri_supply *supply, const struct weir_loop *loop);

/* Publishes what is missing of the window, if there is memory. */
void weiri_supply_fill(struct weiri_supply *supply, struct weir_loop *loop);

#endif /* WEIRI_NET_RING_H */
