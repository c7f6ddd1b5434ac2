/* SPDX-License-Identifier: MIT */
/*
 * kernel_ring.h - io_uring of the kernel in kernel_sim.h: its queues, and what it
 * lends and owes.
 *
 * The queues lie in memory as the kernel lays them out; what is submitted is done
 * at once, or armed until there is something.  Whatever a kernel may do, this one
 * does at times: takes fewer entries than there are, lets a multishot request end
 * at any completion, finds no buffer, does not find what is to be cancelled, says
 * that it cancelled before or after the end of what it cancelled, keeps
 * completions aside because the queue is full, tells of a zero-copy send long
 * after the next one.  Without IORING_SETUP_DEFER_TASKRUN completions come in the
 * middle of other calls.
 *
 * What it lends and owes is known here, so kernel_ring_check() can compare: of
 * each connection what is armed with what the back end believes, and the buffers
 * that are published, the sends it reads and the places that are taken with those
 * it counts.
 *
 * kernel_ring_io.h has what requests do, kernel_ring_calls.h the calls.
 */
#ifndef KERNEL_RING_H
#define KERNEL_RING_H

#include "kernel_sim.h"

#include "net/uring.h"

#include <linux/io_uring.h>
#include <linux/time_types.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#define KERNEL_REQUESTS 256
#define KERNEL_LATE 256
#define KERNEL_OVERFLOW 8192
#define KERNEL_GROUPS 4
#define KERNEL_SLOTS 128 /* direct descriptors */
#define KERNEL_NOTICES 128
#define KERNEL_VECTORS 64

/* Newer than the headers that may be there. */
#define KERNEL_PBUF_INC 2u
#define KERNEL_F_BUF_MORE (1u << 4)

/* As io_uring_cqe, which has no fixed size. */
struct kernel_cqe {
	uint64_t user_data;
	int32_t res;
	uint32_t flags;
};

static_assert(sizeof(struct kernel_cqe) == sizeof(struct io_uring_cqe),
    "completions lie as the kernel lays them");

struct kernel_request {
	bool used;
	struct io_uring_sqe sqe;
	struct kernel_file *file;
	uint32_t left; /* a multishot receive ends after so many; 0: never */
};

struct kernel_late {
	struct kernel_cqe cqe;
	struct kernel_file *file; /* held until it is posted, or NULL */
};

/* The memory of a zero-copy send is the kernel's until the notice. */
struct kernel_notice {
	bool used;
	uint64_t user_data;
	uint64_t hash;
	struct kernel_file *file;
	struct iovec iov[KERNEL_VECTORS];
	size_t count;
};

struct kernel_group {
	struct io_uring_buf_ring *shared;
	uint32_t entries;
	uint16_t head;
	bool incremental;
};

static struct {
	uint32_t features; /* a probe finds, of those not forbidden */
	bool small;        /* queues that fill up */

	struct kernel_file *file;
	bool enabled, deferred;
	uint32_t sq_entries, cq_entries;
	unsigned char *map;
	struct io_uring_sqe *sqes;
	uint32_t *sq_head, *sq_tail, *sq_flags, *sq_array;
	uint32_t *cq_head, *cq_tail;
	struct kernel_cqe *cqes;

	struct kernel_request request[KERNEL_REQUESTS];
	uint32_t requests; /* none was used from here on */
	struct kernel_late late[KERNEL_LATE];
	uint32_t lates;
	struct kernel_cqe overflow[KERNEL_OVERFLOW];
	uint32_t overflows;
	struct kernel_notice notice[KERNEL_NOTICES];
	uint32_t noticed; /* of them, used */
	struct kernel_group group[KERNEL_GROUPS];
	struct kernel_file *slot[KERNEL_SLOTS];
	uint32_t slots;
	uint64_t completions, overflown;
	/* What was done, so that a test can tell that it was. */
	uint64_t received[KERNEL_GROUPS], parts, direct, refused, notices;
} kring;

/* ---- completions ------------------------------------------------------------- */

static uint32_t
kring_load(const uint32_t *word)
{
	return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

static bool
kring_has_room(void)
{
	return *kring.cq_tail - kring_load(kring.cq_head) < kring.cq_entries;
}

static void
kring_put(const struct kernel_cqe *cqe)
{
	kring.cqes[*kring.cq_tail & (kring.cq_entries - 1)] = *cqe;
	__atomic_store_n(kring.cq_tail, *kring.cq_tail + 1, __ATOMIC_RELEASE);
	kring.completions++;
}

static void
kring_post(uint64_t user_data, int result, uint32_t flags)
{
	struct kernel_cqe cqe = {
	    .user_data = user_data, .res = result, .flags = flags};

	if (kring.overflows == 0 && kring_has_room()) {
		kring_put(&cqe);
		return;
	}
	CHECK_LT(kring.overflows, KERNEL_OVERFLOW);
	kring.overflow[kring.overflows++] = cqe;
	kring.overflown++;
	__atomic_store_n(kring.sq_flags,
	    *kring.sq_flags | IORING_SQ_CQ_OVERFLOW, __ATOMIC_RELEASE);
}

static void
kring_flush(void)
{
	uint32_t done = 0;

	while (done < kring.overflows && kring_has_room())
		kring_put(&kring.overflow[done++]);
	kring.overflows -= done;
	memmove(kring.overflow, kring.overflow + done,
	    kring.overflows * sizeof(kring.overflow[0]));
	if (kring.overflows == 0)
		__atomic_store_n(kring.sq_flags,
		    *kring.sq_flags & ~(uint32_t)IORING_SQ_CQ_OVERFLOW,
		    __ATOMIC_RELEASE);
}

static void
kring_drop(struct kernel_file *file)
{
	if (file == NULL)
		return;
	CHECK_GT(file->holds, 0);
	file->holds--;
	kernel_gone(file);
}

/* Now, or some time later; @file is held until then. */
static void
kring_post_some_time(uint64_t user_data, int result, struct kernel_file *file)
{
	if (sim_chance(500) || kring.lates == KERNEL_LATE) {
		kring_post(user_data, result, 0);
		kring_drop(file);
		return;
	}
	kring.late[kring.lates++] = (struct kernel_late){
	    .cqe = {.user_data = user_data, .res = result}, .file = file};
}

static void
kring_post_late(void)
{
	for (uint32_t i = kring.lates; i-- > 0;) {
		struct kernel_late late = kring.late[i];
		if (sim_chance(500))
			continue;
		kring.late[i] = kring.late[--kring.lates];
		kring_post(late.cqe.user_data, late.cqe.res, 0);
		kring_drop(late.file);
	}
}

/* The last completion of a request. */
static void
kring_finish(struct kernel_request *request, int result, uint32_t flags)
{
	struct kernel_file *file = request->file;

	request->used = false;
	if (result < 0 || !(request->sqe.flags & IOSQE_CQE_SKIP_SUCCESS))
		kring_post(request->sqe.user_data, result, flags);
	kring_drop(file);
}

/* ---- what both sides know ------------------------------------------------------------ */

/* Of (handle, tag): entries to be submitted, armed requests, last completions on
 * their way. */
static uint32_t
kring_owed(uint64_t user_data)
{
	uint32_t owed = 0;

	for (uint32_t at = *kring.sq_head; at != *kring.sq_tail; at++)
		owed += kring.sqes[at & (kring.sq_entries - 1)].user_data ==
			user_data;
	for (uint32_t i = 0; i < kring.requests; i++)
		owed += kring.request[i].used &&
			kring.request[i].sqe.user_data == user_data;
	for (uint32_t i = 0; i < kring.lates; i++)
		owed += kring.late[i].cqe.user_data == user_data;
	for (uint32_t i = 0; i < kring.overflows; i++)
		owed += kring.overflow[i].user_data == user_data &&
			!(kring.overflow[i].flags & IORING_CQE_F_MORE);
	for (uint32_t at = *kring.cq_head; at != *kring.cq_tail; at++) {
		const struct kernel_cqe *cqe =
		    &kring.cqes[at & (kring.cq_entries - 1)];
		owed += cqe->user_data == user_data &&
			!(cqe->flags & IORING_CQE_F_MORE);
	}
	return owed;
}

static void
kring_check_conn(const struct weir_conn *conn)
{
	uint32_t armed = kring_owed(weiri_uring_data(conn, URING_TAG_MAIN)) +
			 kring_owed(weiri_uring_data(conn, URING_TAG_WATCH));
	uint32_t cancels = kring_owed(weiri_uring_data(conn, URING_TAG_CANCEL));
	uint32_t polls = kring_owed(weiri_uring_data(conn, URING_TAG_POLL));

	CHECK_EQ(armed, (conn->interest & URING_ARMED) != 0);
	CHECK_EQ(cancels, (conn->interest & URING_CANCELLED) != 0);
	CHECK_EQ(polls, (conn->interest & URING_POLLING) != 0);
}

/* Completions that were not looked at yet. */
static uint32_t
kring_unseen(bool (*is_one)(const struct kernel_cqe *cqe))
{
	uint32_t count = 0;

	for (uint32_t at = *kring.cq_head; at != *kring.cq_tail; at++)
		count += is_one(&kring.cqes[at & (kring.cq_entries - 1)]);
	for (uint32_t i = 0; i < kring.overflows; i++)
		count += is_one(&kring.overflow[i]);
	return count;
}

static bool
kring_brings_buffer(const struct kernel_cqe *cqe)
{
	return (cqe->flags & IORING_CQE_F_BUFFER) != 0 &&
	       !(cqe->flags & KERNEL_F_BUF_MORE);
}

/* All that is published is with the kernel, or in completions not yet seen. */
static void
kring_check_supplies(const struct uring *uring)
{
	uint32_t published = 0;
	uint32_t with_kernel = kring_unseen(kring_brings_buffer);

	for (int i = 0; i < URING_GROUPS; i++)
		published += uring->supply[i].published;
	for (int i = 0; i < KERNEL_GROUPS; i++)
		if (kring.group[i].shared != NULL)
			with_kernel += (uint16_t)(kring.group[i].shared->tail -
						  kring.group[i].head);
	CHECK_EQ(published, with_kernel);
}

static bool
kring_is_notice(const struct kernel_cqe *cqe)
{
	return (cqe->flags & IORING_CQE_F_NOTIF) != 0;
}

/* Of each send without a copy that the back end keeps, there is a notice to
 * come. */
static void
kring_check_notices(const struct uring *uring)
{
	uint32_t owed = kring_unseen(kring_is_notice);

	for (uint32_t i = 0; i < KERNEL_NOTICES; i++)
		owed += kring.notice[i].used;
	CHECK_EQ(uring->zeros, owed);
}

static bool
kring_brings_slot(const struct kernel_cqe *cqe)
{
	return cqe->user_data ==
		   weiri_uring_data(sim.listener, URING_TAG_DIRECT) &&
	       cqe->res >= 0;
}

static bool
kring_brings_close(const struct kernel_cqe *cqe)
{
	return cqe->user_data == URING_CLOSED;
}

/* The back end knows of each place of the table that is taken, and for as long,
 * but for what is told in completions not yet seen. */
static void
kring_check_slots(const struct uring *uring)
{
	uint32_t known = uring->direct + kring_unseen(kring_brings_slot);
	uint32_t taken = kring_unseen(kring_brings_close);

	for (uint32_t i = 0; i < kring.slots; i++)
		taken += kring.slot[i] != NULL;
	CHECK_EQ(known, taken);
}

static void
kernel_ring_check(void)
{
	const struct weir_loop *loop = sim.loop;

	/* One in eight, for each is a walk over all. */
	if (!sim_chance(125))
		return;
	kring_check_supplies(weiri_uring_of(loop));
	kring_check_notices(weiri_uring_of(loop));
	kring_check_slots(weiri_uring_of(loop));
	WEIRI_LIST_FOR(node, &loop->conns)
	{
		kring_check_conn(
		    WEIRI_CONTAINER_OF(node, struct weir_conn, member));
	}
}

#endif /* KERNEL_RING_H */
